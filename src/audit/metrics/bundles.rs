//! Metrics of the sources of policy bundles.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::reviews::shown;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BundleLabels {
    name: String,
}

/// How the source of a bundle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleReport {
    /// Name of the bundle.
    pub name: String,
    /// When the source was last asked with success.
    pub checked: Timestamp,
    /// When it is asked again, or since when it is being asked; `None` for a bundle that never changes.
    pub next: Option<Timestamp>,
    /// Since when the bundle is in force; `None` while there is none.
    pub since: Option<Timestamp>,
    /// Whether the source or its bundle cannot be used now.
    pub is_failing: bool,
    /// Whether what is in force could not be kept on disk.
    pub is_unkept: bool,
    /// Times that another bundle came into force.
    pub swaps: u64,
    /// Times that the source or its bundle could not be used.
    pub failures: u64,
}

/// The metrics of sources.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    failing: Family<BundleLabels, Gauge>,
    unkept: Family<BundleLabels, Gauge>,
    checked: Family<BundleLabels, Gauge>,
    next: Family<BundleLabels, Gauge>,
    since: Family<BundleLabels, Gauge>,
    swaps: Family<BundleLabels, Counter>,
    failures: Family<BundleLabels, Counter>,
    /// The bundles that have series.
    known: Mutex<BTreeSet<String>>,
}

impl Bundles {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "1 while the source of a policy bundle, or what it offers, cannot be used; the former bundle stays in force";
        to.register("wasmgate_policy_bundle_failing", help, self.failing.clone());
        let help =
            "1 while a policy bundle in force could not be kept on disk, so that a restart would not find it";
        to.register("wasmgate_policy_bundle_unkept", help, self.unkept.clone());
        let help = "When the source of a policy bundle was last asked with success, in seconds since 1970";
        let name = "wasmgate_policy_bundle_checked_timestamp";
        to.register_with_unit(name, help, Unit::Seconds, self.checked.clone());
        let help = "When the source of a policy bundle is asked again, or since when it is being asked, in seconds since 1970";
        to.register_with_unit(
            "wasmgate_policy_bundle_next_try_timestamp",
            help,
            Unit::Seconds,
            self.next.clone(),
        );
        let help = "Since when a policy bundle is in force, in seconds since 1970";
        to.register_with_unit(
            "wasmgate_policy_bundle_since_timestamp",
            help,
            Unit::Seconds,
            self.since.clone(),
        );
        let help = "Policy bundles that came into force while the gate served";
        to.register("wasmgate_policy_bundle_swaps", help, self.swaps.clone());
        let help =
            "Tries of a source of a policy bundle that failed, or brought a bundle that cannot be used";
        to.register("wasmgate_policy_bundle_failures", help, self.failures.clone());
    }

    /// Bundles that are not among the reports are not there any more.
    pub(super) fn set(&self, reports: &[BundleReport]) {
        let now: BTreeSet<_> = reports.iter().map(|report| shown(&report.name)).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for name in known.difference(&now) {
            let labels = BundleLabels { name: name.clone() };
            for gauge in [&self.failing, &self.unkept, &self.checked, &self.next, &self.since] {
                gauge.remove(&labels);
            }
            self.swaps.remove(&labels);
            self.failures.remove(&labels);
        }
        *known = now;
        drop(known);
        for report in reports {
            let labels = BundleLabels { name: shown(&report.name) };
            self.failing.get_or_create(&labels).set(report.is_failing.into());
            self.unkept.get_or_create(&labels).set(report.is_unkept.into());
            self.checked.get_or_create(&labels).set(report.checked.as_second());
            for (gauge, time) in [(&self.next, report.next), (&self.since, report.since)] {
                match time {
                    Some(time) => {
                        gauge.get_or_create(&labels).set(time.as_second());
                    }
                    None => {
                        gauge.remove(&labels);
                    }
                }
            }
            self.swaps.get_or_create(&labels).inner().fetch_max(report.swaps, Ordering::Relaxed);
            self.failures.get_or_create(&labels).inner().fetch_max(report.failures, Ordering::Relaxed);
        }
    }
}
