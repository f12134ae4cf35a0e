//! Records and metrics of decisions: one record in OPA's decision-log schema, written outside of the request path, and
//! the metrics. Nothing here can change an answer.

mod decision_id;
pub mod event;
mod json;
mod labels;
pub mod mask;
pub mod metrics;
pub mod record;
pub mod refused;
mod result;
pub mod rules;
pub mod secrets;
pub mod sink;
pub mod upload;

pub use crate::answer::Outcome;
pub use decision_id::decision_id;
pub use event::Outbox;
pub use labels::{Labels, OWN_LABELS};
pub use mask::{Alike, Masks, Template};
pub use metrics::{
    Admission, BundleReport, ConfigReport, Drops, ImageLookups, Metrics, ReportRound, UsageRound, WatchReport,
};
pub use record::{Input, Record};
pub use refused::{Refusal, Refusals};
pub use result::{ImageSummary, RecordedError, RecordedResult, RecordedViolation};
pub use rules::LogRules;
pub use sink::{DecisionLogOptions, DecisionLogOutput, LineSink, Sink};
pub use upload::{UploadFormat, UploadOptions};

use std::path::PathBuf;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Why the decision log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened for appending.
    #[error("could not open the decision log `{path}`; its folder must exist and be writable for the gate")]
    OpenFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Standard output could not be opened for records.
    #[error(
        "could not open standard output for the decision log; name a file instead, or switch the log off"
    )]
    OpenStdout {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The writer thread could not be started.
    #[error("could not start the writer of the decision log; raise the limit on threads of the process")]
    StartWriter {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The deadline passed before everything was written.
    #[error(
        "could not flush the decision log in time: {records} records are lost; its disk or reader is too slow"
    )]
    Flush {
        /// Records that were waiting or being written.
        records: usize,
    },
}

/// A part of a review that is timed separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Bytes to review and workload.
    Read,
    /// Image look-ups.
    Inspect,
    /// Edits and patch.
    Plan,
    /// Policy input and evaluation.
    Judge,
    /// Response bytes.
    Answer,
}

impl Stage {
    /// All stages, in their order in a review.
    pub const ALL: [Self; 5] = [Self::Read, Self::Inspect, Self::Plan, Self::Judge, Self::Answer];

    /// Value of the `stage` label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Inspect => "inspect",
            Self::Plan => "plan",
            Self::Judge => "judge",
            Self::Answer => "answer",
        }
    }

    /// The stage's key among the `metrics` of a decision-log event; OPA's timers are called `timer_<what>_ns`.
    const fn timer(self) -> &'static str {
        match self {
            Self::Read => "timer_wasmgate_read_ns",
            Self::Inspect => "timer_wasmgate_inspect_ns",
            Self::Plan => "timer_wasmgate_plan_ns",
            Self::Judge => "timer_wasmgate_judge_ns",
            Self::Answer => "timer_wasmgate_answer_ns",
        }
    }
}

/// OPA's name for the time that a request spent in the server (`opa:v1/metrics/metrics.go`, `ServerHandler`).
const HANDLER_TIMER: &str = "timer_server_handler_ns";

/// Time that the stages of one review took. Stages that it did not reach are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timings {
    /// Stage and wall-clock time, in the order in which they ran.
    pub stages: Vec<(Stage, Duration)>,
    /// From the first byte read to the last byte of the answer.
    pub total: Duration,
}

impl Timings {
    /// Adds the time that a stage took.
    pub fn note(&mut self, stage: Stage, took: Duration) {
        self.stages.push((stage, took));
    }
}

impl Serialize for Timings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.stages.len() + 1))?;
        map.serialize_entry(HANDLER_TIMER, &nanoseconds(self.total))?;
        for stage in Stage::ALL {
            let mut runs = self.stages.iter().filter(|(s, _)| *s == stage).map(|(_, took)| *took).peekable();
            if runs.peek().is_some() {
                map.serialize_entry(stage.timer(), &nanoseconds(runs.sum()))?;
            }
        }
        map.end()
    }
}

/// Whole nanoseconds, at most 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
