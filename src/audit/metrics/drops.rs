//! Records that the decision log lost.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a record did not reach the decision log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The buffer had no space: the output is too slow.
    BufferFull,
    /// The decision came after the log was closed.
    Closed,
    /// The record could not be encoded.
    EncodingFailed,
    /// The collector takes others, and not this one.
    Refused,
    /// A rule `system.log.drop` said so.
    Rule,
    /// Too much was waiting for the collector, and this was the oldest.
    SpoolFull,
    /// The collector takes nothing that is so large.
    TooLarge,
    /// The output failed.
    WriteFailed,
}

impl DropReason {
    const ALL: [Self; 8] = [
        Self::BufferFull,
        Self::Closed,
        Self::EncodingFailed,
        Self::Refused,
        Self::Rule,
        Self::SpoolFull,
        Self::TooLarge,
        Self::WriteFailed,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer_full",
            Self::Closed => "closed",
            Self::EncodingFailed => "encoding_failed",
            Self::Refused => "refused",
            Self::Rule => "rule",
            Self::SpoolFull => "spool_full",
            Self::TooLarge => "too_large",
            Self::WriteFailed => "write_failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabels {
    reason: DropReason,
}

/// Counts lost records. Clones share the counter.
#[derive(Debug, Clone)]
pub struct Drops(Family<DropLabels, Counter>);

impl Default for Drops {
    /// All reasons start at zero, so that the first loss is an increase and not a new series.
    fn default() -> Self {
        let family = Family::default();
        for reason in DropReason::ALL {
            drop(family.get_or_create(&DropLabels { reason }));
        }
        Self(family)
    }
}

impl Drops {
    /// Counts one lost record.
    pub fn count(&self, reason: DropReason) {
        self.0.get_or_create(&DropLabels { reason }).inc();
    }

    /// Counts lost records.
    pub fn count_many(&self, reason: DropReason, records: u64) {
        self.0.get_or_create(&DropLabels { reason }).inc_by(records);
    }

    /// Records that were lost for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get_or_create(&DropLabels { reason }).get()
    }

    /// All records that were lost; not those that a rule left out.
    pub fn total(&self) -> u64 {
        let lost = DropReason::ALL.into_iter().filter(|reason| *reason != DropReason::Rule);
        lost.map(|reason| self.get(reason)).sum()
    }

    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Decisions that were not written to the decision log";
        to.register("wasmgate_decision_logs_dropped", help, self.0.clone());
    }
}
