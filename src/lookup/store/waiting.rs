//! The bytes of the records that wait to be written to the store: bounded, and given back with each record.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes of all records that wait to be written, or are being written.
pub const WAITING_BYTES: usize = 8 << 20;

/// Counts the bytes of all records that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

/// The bytes of one record until it is written or dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    waiting: Waiting,
    bytes: usize,
}

impl Waiting {
    /// So many bytes for a record; `None` where too many wait already.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let with = |waiting: usize| waiting.checked_add(bytes).filter(|sum| *sum <= WAITING_BYTES);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).ok()?;
        Some(Reserved { waiting: self.clone(), bytes })
    }

    /// Bytes that wait now.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_wait_are_bounded_and_come_back() {
        let waiting = Waiting::default();
        let half = waiting.reserve(WAITING_BYTES / 2).unwrap();
        let rest = waiting.reserve(WAITING_BYTES / 2).unwrap();
        assert!(waiting.reserve(1).is_none());
        drop(half);
        assert!(waiting.reserve(WAITING_BYTES / 2 + 1).is_none());
        assert_eq!(waiting.bytes(), WAITING_BYTES / 2, "what got none gives it back");
        drop(rest);
        assert_eq!(waiting.bytes(), 0);
    }
}
