//! Metrics of the configuration of a gate that serves.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// How the configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigReport {
    /// Since when it is in force.
    pub since: Timestamp,
    /// Whether its file holds one that cannot be used.
    pub is_failing: bool,
    /// Whether fields have changed that are used at the start alone.
    pub needs_restart: bool,
    /// Times that it was loaded again.
    pub reloads: u64,
    /// Times that this failed.
    pub failures: u64,
}

/// The metrics of the configuration.
#[derive(Debug, Default)]
pub(super) struct Config {
    since: Gauge,
    failing: Gauge,
    restart: Gauge,
    reloads: Counter,
    failures: Counter,
}

impl Config {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "1 while the file of the configuration holds one that cannot be used; the former one stays in force";
        to.register("wasmgate_config_failing", help, self.failing.clone());
        let help = "1 while fields of the configuration have changed that need a restart";
        to.register("wasmgate_config_needs_restart", help, self.restart.clone());
        let help = "Since when the configuration is in force, in seconds since 1970";
        to.register_with_unit("wasmgate_config_since_timestamp", help, Unit::Seconds, self.since.clone());
        to.register(
            "wasmgate_config_reloads",
            "Times that the configuration was loaded again",
            self.reloads.clone(),
        );
        let help = "Times that the configuration could not be loaded again";
        to.register("wasmgate_config_reload_failures", help, self.failures.clone());
    }

    pub(super) fn set(&self, report: ConfigReport) {
        let ConfigReport { since, is_failing, needs_restart, reloads, failures } = report;
        self.since.set(since.as_second());
        self.failing.set(is_failing.into());
        self.restart.set(needs_restart.into());
        self.reloads.inner().fetch_max(reloads, Ordering::Relaxed);
        self.failures.inner().fetch_max(failures, Ordering::Relaxed);
    }
}
