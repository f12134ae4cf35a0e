//! The flow of a review. Only this module knows the order of the others, and only here does an error become an answer. It
//! decides nothing, but passes the result of each stage to the next.

pub mod api_server;
pub mod decision;
pub mod ending;
pub mod examine;
pub mod flow;
mod heavy;
pub mod record;
pub mod rehearsal;
pub mod replay;
mod started;
pub mod state;

pub use ending::{Conclusion, Ending, Examination, Examined, Judged, Judgement, Skip};
pub use examine::ReviewContext;
pub use rehearsal::{NewObject, Rehearsal, judge_as_is, rehearse};
pub use state::{Error, State};

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::audit::{Labels, Metrics, Outbox, Sink};
use crate::lookup::Inspector;
use crate::review::Webhook;

/// Part of the budget that is reserved for judging and answering after the images were read.
const JUDGING_RESERVE: Duration = Duration::from_millis(300);

/// The gate: its current state, the inspector for images, and the outputs for decisions.
#[derive(Debug)]
pub struct Gate {
    /// Swapped whole, so that a review sees one consistent set.
    state: ArcSwap<State>,
    /// Looks images up. Replaced with the configuration.
    inspector: ArcSwap<Inspector>,
    /// Output of decision records.
    sink: Sink,
    /// Counters and histograms.
    metrics: Arc<Metrics>,
    /// Labels of every decision record.
    labels: Arc<Labels>,
    /// Output of Events; `None` if no Events are written.
    events: Option<Outbox>,
}

impl Gate {
    /// A gate that writes no Events.
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
            inspector: ArcSwap::from_pointee(inspector),
            sink,
            metrics,
            labels: Arc::new(labels),
            events: None,
        }
    }

    /// The same gate, which also writes Events about decisions.
    #[must_use]
    pub fn with_events(self, events: Option<Outbox>) -> Self {
        Self { events, ..self }
    }

    /// Replaces policies, grants, runtimes and cluster facts in one step; running reviews keep the state they started with.
    pub fn replace(&self, state: State) {
        self.metrics.set_bundles(&state.policies.revisions());
        self.state.store(Arc::new(state));
    }

    /// Replaces the state by the result of `change`, which may be called more than once, so that a concurrent update is not
    /// lost.
    pub fn update(&self, change: impl Fn(&State) -> State) {
        self.state.rcu(|state| change(state));
        self.metrics.set_bundles(&self.state.load().policies.revisions());
    }

    /// The current state.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The inspector, which looks images up. A review takes it once.
    pub fn inspector(&self) -> Arc<Inspector> {
        self.inspector.load_full()
    }

    /// Looks images up with another inspector from now on; running reviews keep the one they started with.
    pub fn replace_inspector(&self, inspector: Inspector) {
        self.inspector.store(Arc::new(inspector));
    }

    /// The gate's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Output of decision records.
    pub const fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Answers the review in `body` within `budget`; returns the body of the response.
    pub async fn review(&self, webhook: Webhook, body: &[u8], budget: Duration) -> Vec<u8> {
        flow::answer(self, webhook, body, Clock::start(budget)).await
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode_metrics(&self) -> String {
        self.metrics.set_image_lookups(record::lookups(&self.inspector()));
        self.metrics.encode()
    }
}

/// When a review began and how long it may take. Each review has one, so that all its stages use the same current time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    now: Timestamp,
    budget: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub fn start(budget: Duration) -> Self {
        Self { started: Instant::now(), now: Timestamp::now(), budget }
    }

    /// A clock with the same current time and a fresh budget, for a second review of the same object.
    #[must_use]
    pub fn again(self) -> Self {
        Self { started: Instant::now(), ..self }
    }

    /// Wall-clock time of the review; decides which grants and exceptions have expired.
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

    /// Time for image look-ups: the rest of the budget without the reserve for judging.
    pub fn for_inspection(&self) -> Duration {
        self.left().saturating_sub(JUDGING_RESERVE)
    }
}
