//! Metrics of the cluster's watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    watch: &'static str,
}

/// State of one watch of the cluster, as far as metrics show it. It mirrors [`WatchHealth`](crate::watch::WatchHealth) on
/// purpose: metrics take plain numbers from every part of the gate, and `cli` hands them over. Otherwise `audit` would
/// depend on the client of the API server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchReport {
    /// The watched resource, from a closed list, such as `wasigrants.wasmgate.dev`.
    pub watch: &'static str,
    /// Whether all objects were listed once.
    pub synced: bool,
    /// Number of known objects.
    pub objects: usize,
    /// Number of objects that are ignored because they are invalid.
    pub rejected: usize,
    /// Time since the API server last sent anything; `None` if it never did.
    pub silence: Option<Duration>,
    /// Number of errors so far.
    pub errors: u64,
    /// Number of full relists.
    pub restarts: u64,
}

/// The metrics of the watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    synced: Family<WatchLabels, Gauge>,
    objects: Family<WatchLabels, Gauge>,
    rejected: Family<WatchLabels, Gauge>,
    silence: Family<WatchLabels, Gauge<f64, AtomicU64>>,
    errors: Family<WatchLabels, Counter>,
    restarts: Family<WatchLabels, Counter>,
    rebuilds: Counter,
}

impl Watches {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "1 when all objects of a kind were listed once";
        to.register("wasmgate_watch_synced", help, self.synced.clone());
        to.register("wasmgate_watch_objects", "Objects that a watch knows", self.objects.clone());
        let help = "Objects that are ignored because they are invalid; the log names each";
        to.register("wasmgate_watch_rejected_objects", help, self.rejected.clone());
        let help = "Time since the API server last sent anything to a watch";
        to.register_with_unit("wasmgate_watch_silence", help, Unit::Seconds, self.silence.clone());
        to.register("wasmgate_watch_errors", "Errors of a watch", self.errors.clone());
        let help = "Full relists of a watch";
        to.register("wasmgate_watch_restarts", help, self.restarts.clone());
        let help = "Snapshots of the cluster that were built";
        to.register("wasmgate_cluster_rebuilds", help, self.rebuilds.clone());
    }

    pub(super) fn set(&self, reports: &[WatchReport], rebuilds: u64) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for report in reports {
            let labels = WatchLabels { watch: report.watch };
            self.synced.get_or_create(&labels).set(report.synced.into());
            self.objects.get_or_create(&labels).set(count(report.objects));
            self.rejected.get_or_create(&labels).set(count(report.rejected));
            if let Some(silence) = report.silence {
                self.silence.get_or_create(&labels).set(silence.as_secs_f64());
            }
            let errors = self.errors.get_or_create(&labels);
            errors.inner().fetch_max(report.errors, Ordering::Relaxed);
            let restarts = self.restarts.get_or_create(&labels);
            restarts.inner().fetch_max(report.restarts, Ordering::Relaxed);
        }
        self.rebuilds.inner().fetch_max(rebuilds, Ordering::Relaxed);
    }
}
