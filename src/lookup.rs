//! From an image name to facts: remembered in memory or on disk, or looked up once for all reviews that wait for them.

use std::time::Duration;

mod cache;
pub mod detect;
pub mod error;
mod inspector;
mod look;
mod memory;
mod options;
mod registries;
mod running;
mod sources;
pub mod store;
mod warm;

pub use crate::registry::Artifact;
pub use cache::FAILURES_BYTES;
pub use detect::SizeLimits;
pub use error::{Error, Fault};
pub use inspector::{Inspector, manifests_bytes, places_for_names};
pub use memory::largest_need;
pub use options::LookupOptions;
pub use registries::{idle_insecure, layouts, push, registry};

/// Counters and gauges for metrics. All but `names`, `digests` and `layer_bytes` only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests answered from memory.
    pub hits: u64,
    /// Requests that had to wait for a look-up, their own or one under way.
    pub misses: u64,
    /// Requests answered with what a tag resolved to before, because its registry could not be asked.
    pub stale: u64,
    /// Requests answered from disk that memory could not answer.
    pub disk_hits: u64,
    /// Requests answered with a remembered failure.
    pub failure_hits: u64,
    /// Look-ups that asked a registry or a folder.
    pub lookups: u64,
    /// Look-ups that failed.
    pub failures: u64,
    /// Image names that are remembered now, approximately.
    pub names: u64,
    /// Digests whose facts are remembered now, approximately.
    pub digests: u64,
    /// Memory that is reserved for layers now, in bytes.
    pub layer_bytes: u64,
    /// The most memory that was ever reserved for layers, in bytes.
    pub layer_bytes_peak: u64,
}

/// How long a review waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupBudget {
    pub(super) whole: Duration,
    pub(super) doubtful: bool,
}

impl LookupBudget {
    /// The budget of a pod that very likely has nothing to do with Wasm: the same, unless the registry is suspect
    /// ([`BreakerOptions::patience`](crate::registry::BreakerOptions::patience)).
    pub fn doubtful(whole: Duration) -> Self {
        Self { whole, doubtful: true }
    }

    /// The rest of the budget.
    fn less(self, spent: Duration) -> Self {
        Self { whole: self.whole.saturating_sub(spent), ..self }
    }
}

impl From<Duration> for LookupBudget {
    fn from(whole: Duration) -> Self {
        Self { whole, doubtful: false }
    }
}
