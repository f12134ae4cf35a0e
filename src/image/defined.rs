//! What core modules define for an engine to allocate when it makes an instance of them.

use serde::{Deserialize, Serialize};

/// What the core modules of a binary define: of each the most that any one of them has. What a module imports is another one's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defined {
    /// Number of memories.
    pub memories: u32,
    /// The largest initial size of a memory, in bytes.
    pub memory_bytes: u64,
    /// Number of tables.
    pub tables: u32,
    /// The largest initial size of a table, in elements.
    pub table_elements: u64,
}

impl Defined {
    /// Adds a memory of this initial size.
    pub(super) fn add_memory(&mut self, bytes: u64) {
        self.memories = self.memories.saturating_add(1);
        self.memory_bytes = self.memory_bytes.max(bytes);
    }

    /// Adds a table of this initial size.
    pub(super) fn add_table(&mut self, elements: u64) {
        self.tables = self.tables.saturating_add(1);
        self.table_elements = self.table_elements.max(elements);
    }

    /// The more of both, for each of them.
    pub(super) fn or_more(self, other: Self) -> Self {
        Self {
            memories: self.memories.max(other.memories),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            tables: self.tables.max(other.tables),
            table_elements: self.table_elements.max(other.table_elements),
        }
    }
}
