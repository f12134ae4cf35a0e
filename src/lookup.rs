//! From an image name to facts: remembered in memory or on disk, or looked up once for all reviews that wait for them.

use std::time::Duration;

mod cache;
pub mod error;
mod inspector;
mod options;
mod sources;
pub mod store;
mod warm;

pub use error::Error;
pub use inspector::Inspector;
pub use options::LookupOptions;

/// What happened so far, for metrics. All but the last two only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Questions answered from memory.
    pub hits: u64,
    /// Questions that had to wait for a look-up, their own or one that was under way.
    pub misses: u64,
    /// Questions answered with what a tag meant before, because its registry could not be asked.
    pub stale: u64,
    /// Questions for which the disk knew what memory did not.
    pub disk_hits: u64,
    /// Questions answered with a failure that was remembered.
    pub failure_hits: u64,
    /// Look-ups that asked a registry or a folder.
    pub lookups: u64,
    /// Look-ups that failed.
    pub failures: u64,
    /// Image names that are remembered now, approximately.
    pub names: u64,
    /// Digests that are remembered now, approximately.
    pub digests: u64,
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupBudget {
    pub(super) whole: Duration,
    pub(super) doubtful: bool,
}

impl LookupBudget {
    /// For a pod that most probably has nothing to do with Wasm: as long, unless the registry is suspect
    /// ([`BreakerOptions::patience`](crate::registry::BreakerOptions::patience)).
    pub fn doubtful(whole: Duration) -> Self {
        Self { whole, doubtful: true }
    }

    /// What is left of it.
    fn less(self, spent: Duration) -> Self {
        Self { whole: self.whole.saturating_sub(spent), ..self }
    }
}

impl From<Duration> for LookupBudget {
    fn from(whole: Duration) -> Self {
        Self { whole, doubtful: false }
    }
}
