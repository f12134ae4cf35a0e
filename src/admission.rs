//! The flow of a review: the only module that knows the order of the others, and the only place where an error becomes an
//! answer. Nothing here decides; it hands each stage's result to the next.

pub mod api_server;
pub mod decision;
pub mod ending;
pub mod examine;
pub mod flow;
pub mod record;
pub mod rehearsal;
mod started;
pub mod state;

pub use ending::{Conclusion, Ending, Examination, Examined, Judged, Judgement, Skip};
pub use examine::Asked;
pub use rehearsal::{NewObject, Rehearsal, rehearse};
pub use state::{Error, State};

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::audit::{Labels, Metrics, Outbox, Sink};
use crate::lookup::Inspector;
use crate::review::Webhook;

/// Time kept back from the budget for judging and answering after the images were read.
const JUDGING_RESERVE: Duration = Duration::from_millis(300);

/// The gate: what it knows now, where it looks images up, and where it writes what it decided.
#[derive(Debug)]
pub struct Gate {
    /// Swapped whole, so that a review sees one consistent set.
    state: ArcSwap<State>,
    /// Looks images up.
    inspector: Inspector,
    /// Where records go.
    sink: Sink,
    /// What is counted.
    metrics: Arc<Metrics>,
    /// Who writes the records.
    labels: Arc<Labels>,
    /// Where decisions become Events; `None` where there is no cluster to tell.
    events: Option<Outbox>,
}

impl Gate {
    /// A gate with everything it needs.
    pub fn new(
        state: State,
        inspector: Inspector,
        sink: Sink,
        metrics: Arc<Metrics>,
        labels: Labels,
    ) -> Self {
        metrics.set_bundles(&state.policies.revisions());
        Self {
            state: ArcSwap::from_pointee(state),
            inspector,
            sink,
            metrics,
            labels: Arc::new(labels),
            events: None,
        }
    }

    /// The same gate, which tells of decisions by Events too.
    #[must_use]
    pub fn with_events(self, events: Option<Outbox>) -> Self {
        Self { events, ..self }
    }

    /// Replaces policies, grants, runtimes and cluster facts at once; reviews under way keep what they started with.
    pub fn replace(&self, state: State) {
        self.metrics.set_bundles(&state.policies.revisions());
        self.state.store(Arc::new(state));
    }

    /// Replaces some of what the gate knows by what `change` makes of it, which may be called more than once. Another
    /// replacement at the same moment is not lost.
    pub fn update(&self, change: impl Fn(&State) -> State) {
        self.state.rcu(|state| change(state));
        self.metrics.set_bundles(&self.state.load().policies.revisions());
    }

    /// What the gate knows now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Looks images up.
    pub const fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where records go.
    pub const fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Answers one review: bytes in, bytes out, within `budget`.
    pub async fn review(&self, webhook: Webhook, body: &[u8], budget: Duration) -> Vec<u8> {
        flow::answer(self, webhook, body, Clock::start(budget)).await
    }

    /// Everything that is counted, as OpenMetrics text.
    pub fn encode_metrics(&self) -> String {
        self.metrics.set_image_lookups(record::lookups(&self.inspector));
        self.metrics.encode()
    }
}

/// When a review began and how long it may take. One for each review, so that everything in it is as of the same moment.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    now: Timestamp,
    budget: Duration,
}

impl Clock {
    /// Starts counting now.
    pub fn start(budget: Duration) -> Self {
        Self { started: Instant::now(), now: Timestamp::now(), budget }
    }

    /// The same moment and the same budget, counted from now on: for a second question about the same object.
    #[must_use]
    pub fn again(self) -> Self {
        Self { started: Instant::now(), ..self }
    }

    /// When the review came; grants and exceptions expire by it.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// How long the review may take.
    pub const fn budget(&self) -> Duration {
        self.budget
    }

    /// Time since the review began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time until the review must be answered.
    pub fn left(&self) -> Duration {
        self.budget.saturating_sub(self.elapsed())
    }

    /// How long image look-ups may take: what is left, less what judging needs.
    pub fn for_inspection(&self) -> Duration {
        self.left().saturating_sub(JUDGING_RESERVE)
    }
}
