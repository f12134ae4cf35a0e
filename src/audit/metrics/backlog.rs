//! Metrics of the records of the decision log that wait on disk for the collector, measured by `crate::upload`.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::NoLabels;

/// What waits for the collector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Bytes of records on disk.
    pub bytes: u64,
    /// Most bytes that may wait; the oldest records go then.
    pub most_bytes: u64,
    /// How long the oldest file waits that could be sent; zero if none does.
    pub oldest: Duration,
}

/// Shows what waits. Clones share the metrics, which have no series where nothing is sent to a collector.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    bytes: Family<NoLabels, Gauge>,
    most_bytes: Family<NoLabels, Gauge>,
    oldest: Family<NoLabels, Gauge<f64, AtomicU64>>,
}

impl Backlog {
    /// Sets what waits now.
    pub fn set(&self, waiting: Waiting) {
        let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.bytes.get_or_create(&[]).set(count(waiting.bytes));
        self.most_bytes.get_or_create(&[]).set(count(waiting.most_bytes));
        self.oldest.get_or_create(&[]).set(waiting.oldest.as_secs_f64());
    }

    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Records of the decision log that wait on disk for the collector, in bytes";
        to.register_with_unit("wasmgate_decision_logs_waiting", help, Unit::Bytes, self.bytes.clone());
        let help = "Most bytes of records that may wait for the collector";
        to.register_with_unit("wasmgate_decision_logs_spool", help, Unit::Bytes, self.most_bytes.clone());
        let help = "How long the oldest records wait on disk for the collector";
        to.register_with_unit("wasmgate_decision_logs_oldest", help, Unit::Seconds, self.oldest.clone());
    }
}
