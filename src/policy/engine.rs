//! To be filled.

use std::time::Duration;

/// Limits on one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time.
    pub time: Duration,
    /// Linear memory in bytes.
    pub memory_bytes: usize,
}

/// The Wasm engine that all bundles share.
#[derive(Debug, Clone)]
pub struct Engine {}
