//! Metrics of what is kept of evaluations, counted by `crate::policy`.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::ResultLabels;
use crate::policy::VerdictCounts;

/// The metrics of kept verdicts.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    evaluations: Family<ResultLabels, Counter>,
    bytes: Gauge,
}

impl Verdicts {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Evaluations of policy bundles whose input may repeat: hit, if it was found in the verdict cache, or miss";
        to.register("wasmgate_policy_verdicts", help, self.evaluations.clone());
        let help = "Memory of the verdict cache in bytes";
        to.register_with_unit("wasmgate_policy_verdict_cache", help, Unit::Bytes, self.bytes.clone());
    }

    /// Counters only rise: older totals that arrive late change nothing.
    pub(super) fn set(&self, totals: VerdictCounts) {
        let VerdictCounts { hits, misses, bytes } = totals;
        for (result, total) in [("hit", hits), ("miss", misses)] {
            self.evaluations
                .get_or_create(&ResultLabels { result })
                .inner()
                .fetch_max(total, Ordering::Relaxed);
        }
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
