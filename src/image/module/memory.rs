//! Sizes of linear memories and tables, and their sums.

use wasmparser::MemoryType;

/// Bytes of a linear memory page (WebAssembly core specification, 2.5.5) as a power of two.
const PAGE_LOG2: u32 = 16;

/// Bytes of memories, initially and at most; `None` when one declares no maximum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pages {
    pub(super) initial: u64,
    pub(super) maximum: Option<u64>,
}

impl Default for Pages {
    fn default() -> Self {
        Self { initial: 0, maximum: Some(0) }
    }
}

impl Pages {
    /// Saturates: a 64-bit memory can declare 2^64 bytes, which exceeds every limit.
    pub(super) fn plus(self, other: Self, times: u64) -> Self {
        let add = |sum: u64, more: u64| sum.saturating_add(more.saturating_mul(times));
        Self {
            initial: add(self.initial, other.initial),
            maximum: self.maximum.zip(other.maximum).map(|(sum, more)| add(sum, more)),
        }
    }

    pub(super) fn of(memory: &MemoryType) -> Self {
        let page = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(PAGE_LOG2)).unwrap_or(u64::MAX);
        Self {
            initial: memory.initial.saturating_mul(page),
            maximum: memory.maximum.map(|maximum| maximum.saturating_mul(page)),
        }
    }
}

/// What one instance of a module or component takes at its start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    pub(super) memory: Pages,
    /// Elements of its tables.
    pub(super) elements: u64,
}

impl Needs {
    pub(super) fn plus(self, other: Self, times: u64) -> Self {
        Self {
            memory: self.memory.plus(other.memory, times),
            elements: self.elements.saturating_add(other.elements.saturating_mul(times)),
        }
    }
}
