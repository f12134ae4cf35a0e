//! Connects a serving gate to its cluster: starts the watches, passes each snapshot to the gate, and reports on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;

use super::reload::Configuration;
use super::served::{Expiry, Served, begun};
use super::supply::Bundles;
use crate::admission::{Gate, State};
use crate::audit::WatchReport;
use crate::cluster::Cluster;
use crate::config::Settings;
use crate::lookup::Inspector;
use crate::review::Reply;
use crate::server::{self, Begun, Call, Check, Event, LargeReview};
use crate::watch::{self, Account, Base, WatchOptions, Watching};

/// The watches, if configured.
pub fn prepare(settings: &Settings, client: Option<&Client>) -> Option<Watching> {
    let client = client.filter(|_| settings.file.kubernetes.watch)?;
    if settings.file.cluster.is_some() {
        tracing::warn!(
            "the cluster is watched: the cluster directory is used only until the cluster was listed"
        );
    }
    let known = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let account = Account::known_as(known("POD_SERVICE_ACCOUNT"), known("POD_NAMESPACE"));
    let (learn, default) = (&settings.file.sizing.learn, WatchOptions::default());
    // What is learned more often is to be known as often.
    let sizes_interval = default.sizes_interval.min(Duration::try_from(learn.interval).unwrap_or_default());
    let options = WatchOptions { sizes: learn.enabled, sizes_interval, ..default };
    Some(Watching::with_account(client.clone(), options, account))
}

/// The state before the cluster was listed: without any RuntimeClass, so that the gate writes none that may be missing.
pub fn before_the_first_snapshot(state: State, watched: bool) -> State {
    if !watched || state.cluster().runtime_classes.is_some() {
        return state;
    }
    let cluster = Cluster { runtime_classes: Some(BTreeMap::new()), ..Cluster::clone(state.cluster()) };
    state.with_cluster(cluster.into())
}

/// The inspector, with access to the pull secrets of the cluster's pods if it is watched.
pub fn with_pull_secrets(inspector: Inspector, watching: Option<&Watching>) -> Inspector {
    match watching {
        Some(watching) => inspector.with_pull_secrets(watching.pull_secrets()),
        None => inspector,
    }
}

/// Starts the watches. Every snapshot replaces cluster, grants and exceptions of the gate in one step.
pub fn start(
    gate: &Arc<Gate>,
    certificate: Expiry,
    watching: Option<Watching>,
    (bundles, configuration): (Arc<Bundles>, Arc<Configuration>),
) -> WatchedGate {
    let is_synced = Arc::new(AtomicBool::new(false));
    if let Some(watching) = &watching {
        let is_synced = Arc::clone(&is_synced);
        let state = gate.state();
        let base = Base { grants: Arc::clone(&state.grants), exceptions: Arc::clone(&state.exceptions) };
        let gate = Arc::clone(gate);
        watching.start(base, move |snapshot| {
            gate.update(|state| {
                let mut state = state.clone().with_cluster(Arc::clone(&snapshot.cluster));
                state.grants = Arc::clone(&snapshot.grants);
                state.exceptions = Arc::clone(&snapshot.exceptions);
                state
            });
            is_synced.store(true, Ordering::Relaxed);
        });
    }
    let served = Served { gate: Arc::clone(gate), certificate };
    WatchedGate { served, watching, is_synced, bundles, configuration }
}

/// A gate with the watches that keep it up to date.
#[derive(Debug)]
pub struct WatchedGate {
    served: Served,
    watching: Option<Watching>,
    is_synced: Arc<AtomicBool>,
    bundles: Arc<Bundles>,
    configuration: Arc<Configuration>,
}

impl WatchedGate {
    /// Becomes true once the gate goes by what the cluster has.
    pub fn is_synced(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_synced)
    }
}

impl server::AdmissionHandler for WatchedGate {
    fn begin(self: &Arc<Self>, call: Call) -> Begun {
        begun(&self.served.gate, call)
    }

    async fn answer(&self, call: Call) -> Reply {
        self.served.answer(call).await
    }

    fn too_large(&self, review: LargeReview) -> Vec<u8> {
        self.served.too_large(review)
    }

    fn ready(&self) -> Result<(), String> {
        self.watching.as_ref().map_or(Ok(()), Watching::ready).and_then(|()| self.served.ready())
    }

    fn checks(&self) -> Vec<Check> {
        let unread = self.bundles.unread_options(&self.served.gate.state());
        std::iter::once(self.configuration.check(&unread)).chain(self.bundles.checks()).collect()
    }

    fn metrics(&self) -> String {
        let metrics = self.served.gate.metrics();
        metrics.set_bundle_sources(&self.bundles.reports());
        metrics.set_config(self.configuration.report());
        if let Some(watching) = &self.watching {
            let reports: Vec<_> = watching.reports().iter().map(report).collect();
            metrics.set_watches(&reports, watching.rebuilds());
        }
        metrics.set_ready(self.ready().is_ok());
        self.served.gate.encode_metrics()
    }

    fn observe(&self, event: Event) {
        self.served.observe(event);
    }
}

fn report(report: &watch::WatchHealth) -> WatchReport {
    let watch::WatchHealth { watched, synced, objects, rejected, silence, errors, restarts, .. } = *report;
    WatchReport { watch: watched.name(), synced, objects, rejected, silence, errors, restarts }
}
