//! The gate: what its reviews share, each part of which can be replaced while they run.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::State;
use super::decisions::Decisions;
use crate::audit::{ImageLookups, Labels, Metrics, Outbox, Refusals, Sink};
use crate::lookup::Inspector;
use crate::otlp::{SpanCounts, Tracer};

/// The gate: its current state, the inspector for images, and the outputs for decisions.
#[derive(Debug)]
pub struct Gate {
    /// Swapped whole, so that a review sees one consistent set.
    basis: ArcSwap<Basis>,
    /// Output of decision records.
    pub(super) sink: Sink,
    /// Counters and histograms.
    pub(super) metrics: Arc<Metrics>,
    /// Labels of every decision record.
    pub(super) labels: Arc<Labels>,
    /// Output of Events; `None` if no Events are written.
    pub(super) events: Option<Outbox>,
    /// Output of spans; `None` if reviews are not traced.
    pub(super) tracer: Option<Tracer>,
    /// What was refused lately; `None` if there is no page that shows it.
    pub(super) refusals: Option<Refusals>,
}

/// What a review goes by. It takes it once.
#[derive(Debug)]
pub struct Basis {
    /// Policies, grants, runtimes and facts of the cluster.
    pub state: Arc<State>,
    /// Looks images up. Replaced with the configuration.
    pub inspector: Arc<Inspector>,
    /// Earlier decisions by exactly these.
    pub decisions: Decisions,
}

impl Basis {
    /// Nothing was decided by these yet.
    pub(crate) fn new(state: Arc<State>, inspector: Arc<Inspector>) -> Self {
        Self { decisions: Decisions::of(&state), state, inspector }
    }
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
        metrics.set_bundles(state.policies.revisions());
        Self {
            basis: ArcSwap::from_pointee(Basis::new(state.into(), inspector.into())),
            sink,
            metrics,
            labels: Arc::new(labels),
            events: None,
            tracer: None,
            refusals: None,
        }
    }

    /// The same gate, which also writes Events about decisions.
    #[must_use]
    pub fn with_events(self, events: Option<Outbox>) -> Self {
        Self { events, ..self }
    }

    /// The same gate, which also writes spans of reviews.
    #[must_use]
    pub fn with_tracer(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// Output of spans.
    pub const fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// The same gate, which also keeps what it refused lately.
    #[must_use]
    pub fn with_refusals(self, refusals: Option<Refusals>) -> Self {
        Self { refusals, ..self }
    }

    /// Replaces the state by the result of `change`, which may be called more than once, so that a concurrent update is not
    /// lost. Running reviews keep the state they started with.
    pub fn update(&self, change: impl Fn(&State) -> State) {
        self.reconfigure(None, change);
    }

    /// The same, and looks images up with another inspector from now on, if there is one.
    pub fn reconfigure(&self, inspector: Option<Inspector>, change: impl Fn(&State) -> State) {
        let inspector = inspector.map(Arc::new);
        self.basis.rcu(|basis| {
            let inspector = inspector.as_ref().unwrap_or(&basis.inspector);
            Basis::new(change(&basis.state).into(), Arc::clone(inspector))
        });
        self.metrics.set_bundles(self.basis.load().state.policies.revisions());
    }

    /// What reviews go by now.
    pub fn basis(&self) -> Arc<Basis> {
        self.basis.load_full()
    }

    /// The current state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.basis.load().state)
    }

    /// The current inspector.
    pub fn inspector(&self) -> Arc<Inspector> {
        Arc::clone(&self.basis.load().inspector)
    }

    /// The gate's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Output of decision records.
    pub const fn sink(&self) -> &Sink {
        &self.sink
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode_metrics(&self) -> String {
        self.metrics.set_image_lookups(lookups(&self.inspector()));
        let basis = self.basis();
        let mut verdicts = basis.state.policies.verdict_counts();
        verdicts.bytes = verdicts.bytes.saturating_add(basis.decisions.bytes());
        self.metrics.set_verdicts(verdicts);
        if let Some(SpanCounts { sent, lost }) = self.tracer.as_ref().map(Tracer::counts) {
            self.metrics.set_spans(sent, lost);
        }
        self.metrics.encode()
    }
}

/// The inspector's totals, for the metrics.
fn lookups(inspector: &Inspector) -> ImageLookups {
    let stats = inspector.stats();
    ImageLookups {
        hit: stats.hits,
        disk: stats.disk_hits,
        miss: stats.misses,
        stale: stats.stale,
        failure: stats.failures,
    }
}
