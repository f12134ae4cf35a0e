//! Metrics of the reports about what runs.

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{NoLabels, ResultLabels};

/// What a round of the reports did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportRound {
    /// Pods and templates that were judged.
    pub judged: usize,
    /// Pods and templates whose verdict was known.
    pub known: usize,
    /// Reports that were written.
    pub written: usize,
    /// Reports that said already what they should.
    pub unchanged: usize,
    /// Reports that were deleted.
    pub deleted: usize,
    /// Reports that could not be written or deleted.
    pub failed: usize,
    /// Whether it could not read or write everything.
    pub is_incomplete: bool,
    /// When it went through the whole cluster and everything succeeded.
    pub succeeded: Option<Timestamp>,
}

/// The metrics of the reports. Without a series where none are written, so that an alert on them does not fire there.
#[derive(Debug, Default)]
pub(super) struct Reports {
    objects: Family<ResultLabels, Counter>,
    writes: Family<ResultLabels, Counter>,
    rounds: Family<ResultLabels, Counter>,
    last_success: Family<NoLabels, Gauge>,
}

impl Reports {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Pods and templates that were scanned for reports, by whether they had to be judged";
        to.register("wasmgate_report_objects", help, self.objects.clone());
        let help = "Reports, by what became of them";
        to.register("wasmgate_report_writes", help, self.writes.clone());
        let help = "Rounds of the reports through the cluster or through some namespaces";
        to.register("wasmgate_report_rounds", help, self.rounds.clone());
        let help = "When all reports of the cluster were last up to date, in seconds since 1970";
        let name = "wasmgate_report_success_timestamp";
        to.register_with_unit(name, help, Unit::Seconds, self.last_success.clone());
    }

    pub(super) fn round(&self, round: &ReportRound) {
        let add = |family: &Family<ResultLabels, Counter>, result, count: usize| {
            family.get_or_create(&ResultLabels { result }).inc_by(count as u64);
        };
        add(&self.objects, "judged", round.judged);
        add(&self.objects, "known", round.known);
        add(&self.writes, "written", round.written);
        add(&self.writes, "unchanged", round.unchanged);
        add(&self.writes, "deleted", round.deleted);
        add(&self.writes, "failed", round.failed);
        add(&self.rounds, if round.is_incomplete { "incomplete" } else { "complete" }, 1);
        if let Some(succeeded) = round.succeeded {
            self.last_success.get_or_create(&[]).set(succeeded.as_second());
        }
    }
}
