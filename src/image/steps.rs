//! Bounds the work that the bytes of one image may cause. Work is counted, not timed, so that the same image gets the
//! same answer on a busy machine and on an idle one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::malformed::Malformed;

/// Most steps for one image. A step is a path, a part of one, or a node, and takes less than a microsecond. A
/// distribution with a hundred thousand files takes about two million.
const MOST: u64 = 20_000_000;

/// Bytes of a path that are compared in one step.
const BYTES: usize = 256;

/// The steps that it takes to look a path up: the longer it is, the longer comparisons take.
pub(super) fn of_path(path: &str) -> u64 {
    1 + u64::try_from(path.len() / BYTES).unwrap_or(u64::MAX)
}

/// The steps taken so far, out of the allowed number.
#[derive(Debug, Clone)]
pub struct Steps {
    taken: u64,
    stop: Arc<AtomicBool>,
}

impl Steps {
    /// No steps yet. Setting `stop` ends the work at the next one.
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        Self { taken: 0, stop }
    }

    /// Steps so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes more steps; an error ends the work.
    pub(super) fn take(&mut self, count: u64) -> Result<(), Malformed> {
        self.taken = self.taken.saturating_add(count);
        if self.stop.load(Ordering::Relaxed) {
            return Err(Malformed::new("reading it was given up"));
        }
        if self.taken <= MOST {
            return Ok(());
        }
        Err(Malformed::new(format!(
            "reading it takes more than {MOST} steps; push an image with fewer files, folders and links, or the program as \
             a Wasm layer"
        )))
    }
}
