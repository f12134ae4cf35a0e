//! Metrics of the spans of reviews, counted by `crate::otlp`.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The metrics of spans.
#[derive(Debug, Default)]
pub(super) struct Spans {
    sent: Counter,
    lost: Counter,
}

impl Spans {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("wasmgate_traced_reviews", "Reviews whose spans a collector took", self.sent.clone());
        let help = "Reviews whose spans were lost: too many were waiting, or the collector did not take them";
        to.register("wasmgate_traced_reviews_lost", help, self.lost.clone());
    }

    /// Counters only rise: older totals that arrive late change nothing.
    pub(super) fn set(&self, sent: u64, lost: u64) {
        self.sent.inner().fetch_max(sent, Ordering::Relaxed);
        self.lost.inner().fetch_max(lost, Ordering::Relaxed);
    }
}
