//! The gate: what its reviews share, each part of which can be replaced while they run.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::State;
use crate::audit::{ImageLookups, Labels, Metrics, Outbox, Sink};
use crate::lookup::Inspector;

/// The gate: its current state, the inspector for images, and the outputs for decisions.
#[derive(Debug)]
pub struct Gate {
    /// Swapped whole, so that a review sees one consistent set.
    state: ArcSwap<State>,
    /// Looks images up. Replaced with the configuration.
    inspector: ArcSwap<Inspector>,
    /// Output of decision records.
    pub(super) sink: Sink,
    /// Counters and histograms.
    pub(super) metrics: Arc<Metrics>,
    /// Labels of every decision record.
    pub(super) labels: Arc<Labels>,
    /// Output of Events; `None` if no Events are written.
    pub(super) events: Option<Outbox>,
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

    /// All metrics in the OpenMetrics text format.
    pub fn encode_metrics(&self) -> String {
        self.metrics.set_image_lookups(lookups(&self.inspector()));
        self.metrics.set_verdicts(self.state().policies.verdict_counts());
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
