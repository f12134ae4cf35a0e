//! Metrics of what images use.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{NoLabels, ResultLabels};

/// What a round of looking at what images use did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageRound {
    /// Containers of which a sample was taken.
    pub sampled: usize,
    /// Objects that were written.
    pub written: usize,
    /// Objects that were deleted.
    pub deleted: usize,
    /// Objects that could not be written or deleted.
    pub failed: usize,
    /// Images, each under each runtime, whose usage is known.
    pub images: usize,
    /// Those of them for which requests were learned.
    pub said: usize,
    /// Whether it could not read or write everything.
    pub is_incomplete: bool,
}

/// The metrics of what images use. Without a series where nothing is learned.
#[derive(Debug, Default)]
pub(super) struct Usage {
    samples: Family<NoLabels, Counter>,
    writes: Family<ResultLabels, Counter>,
    rounds: Family<ResultLabels, Counter>,
    images: Family<NoLabels, Gauge>,
    learned: Family<NoLabels, Gauge>,
}

impl Usage {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Containers of which a sample of memory and CPU was taken";
        to.register("wasmgate_usage_samples", help, self.samples.clone());
        let help = "WasmUsage objects, by what became of them";
        to.register("wasmgate_usage_writes", help, self.writes.clone());
        let help = "Rounds in which samples were taken";
        to.register("wasmgate_usage_rounds", help, self.rounds.clone());
        let help = "Images, each under each runtime, whose usage is known";
        to.register("wasmgate_usage_images", help, self.images.clone());
        let help = "Images, each under each runtime, for which requests were learned";
        to.register("wasmgate_usage_learned_images", help, self.learned.clone());
    }

    pub(super) fn round(&self, round: &UsageRound) {
        let add = |family: &Family<ResultLabels, Counter>, result, count: usize| {
            family.get_or_create(&ResultLabels { result }).inc_by(count as u64);
        };
        self.samples.get_or_create(&[]).inc_by(round.sampled as u64);
        add(&self.writes, "written", round.written);
        add(&self.writes, "deleted", round.deleted);
        add(&self.writes, "failed", round.failed);
        add(&self.rounds, if round.is_incomplete { "incomplete" } else { "complete" }, 1);
        let count = |images: usize| i64::try_from(images).unwrap_or(i64::MAX);
        self.images.get_or_create(&[]).set(count(round.images));
        self.learned.get_or_create(&[]).set(count(round.said));
    }
}
