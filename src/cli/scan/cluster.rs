//! The pods and templates of a cluster, and what of the cluster their verdicts depend on.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;
use tokio::sync::watch as channel;
use tokio::time::{Instant, sleep};

use super::collect::{Collector, FoundObject};
use super::model::ManifestPlace;
use crate::admission::State;
use crate::cli::Error;
use crate::review::GroupVersionKind;
use crate::watch::{self, ApiPullSecrets, Base, Pages, Snapshot, WatchOptions, Watching, resource_of};
use crate::workload::Kinds;

/// Longest wait for RuntimeClasses, LimitRanges, namespaces, accounts and grants.
const SNAPSHOT_WITHIN: Duration = Duration::from_mins(1);

/// Errors of one watch after which it is given up: a right is missing, or the API server is away.
const MOST_ERRORS: u64 = 3;

/// How often it is looked whether they are there.
const INTERVAL: Duration = Duration::from_millis(50);

/// Group, version, kind and plural of what every API server has. Templates come before pods.
const BUILT_IN: &[[&str; 4]] = &[
    ["apps", "v1", "Deployment", "deployments"],
    ["apps", "v1", "StatefulSet", "statefulsets"],
    ["apps", "v1", "DaemonSet", "daemonsets"],
    ["apps", "v1", "ReplicaSet", "replicasets"],
    ["batch", "v1", "CronJob", "cronjobs"],
    ["batch", "v1", "Job", "jobs"],
    ["", "v1", "ReplicationController", "replicationcontrollers"],
    ["", "v1", "PodTemplate", "podtemplates"],
    ["", "v1", "Pod", "pods"],
];

/// The groups of the Spin operator's kind.
const SPIN_APPS: [(&str, &str); 2] = [("core.spinkube.dev", "SpinApp"), ("core.spinoperator.dev", "SpinApp")];

/// The state with the cluster's RuntimeClasses, LimitRanges, namespaces, grants and exceptions, as `serve` watches them; and
/// the source of pull secrets.
pub async fn state(state: State, client: &Client) -> Result<(State, Arc<ApiPullSecrets>), Error> {
    let watching = Watching::new(client.clone(), WatchOptions::default());
    let base = Base { grants: Arc::clone(&state.grants), exceptions: Arc::clone(&state.exceptions) };
    let (sender, receiver) = channel::channel(None);
    watching.start(base, move |snapshot| drop(sender.send(Some(snapshot))));
    let Snapshot { cluster, grants, exceptions } = snapshot(&watching, &receiver).await?;
    let mut state = state.with_cluster(cluster);
    (state.grants, state.exceptions) = (grants, exceptions);
    Ok((state, watching.pull_secrets()))
}

async fn snapshot(
    watching: &Watching,
    receiver: &channel::Receiver<Option<Snapshot>>,
) -> Result<Snapshot, Error> {
    let deadline = Instant::now() + SNAPSHOT_WITHIN;
    loop {
        if let Some(snapshot) = receiver.borrow().as_ref() {
            return Ok(snapshot.clone());
        }
        let failed = watching.reports().iter().any(|report| !report.synced && report.errors >= MOST_ERRORS);
        if failed || Instant::now() > deadline {
            let message = watching.ready().err().unwrap_or_default();
            return Err(Error::ReadCluster { message });
        }
        sleep(INTERVAL).await;
    }
}

/// Gives every pod and template to the collector, a page at a time. A kind that cannot be listed is noted; it is an error if
/// none can.
pub async fn read(
    client: &Client,
    namespaces: &[String],
    collector: &mut Collector,
    kinds: &Kinds,
) -> Result<(), Error> {
    let mut resources = Vec::new();
    for (group, kind) in SPIN_APPS.into_iter().chain(kinds.described()) {
        match resource_of(client, group, kind).await {
            Ok(resource) => resources.extend(resource),
            Err(error) => note(collector, &error),
        }
    }
    resources.extend(BUILT_IN.iter().map(built_in));
    let scopes: Vec<Option<String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
    let (mut listed, mut failed) = (false, None);
    for resource in resources {
        for scope in &scopes {
            match list(client, Pages::new(resource.clone(), scope.clone()), collector).await {
                Ok(()) => listed = true,
                Err(error) => {
                    note(collector, &error);
                    failed = Some(error);
                }
            }
        }
    }
    match failed {
        Some(error) if !listed => Err(error.into()),
        _ => Ok(()),
    }
}

fn built_in([group, version, kind, plural]: &[&str; 4]) -> ApiResource {
    let api_version = if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: (*group).into(),
        version: (*version).into(),
        api_version,
        kind: (*kind).into(),
        plural: (*plural).into(),
    }
}

async fn list(client: &Client, mut pages: Pages, collector: &mut Collector) -> Result<(), watch::Error> {
    let ApiResource { group, version, kind, .. } = pages.resource().clone();
    let kind = GroupVersionKind { group, version, kind };
    while let Some(objects) = pages.next(client).await? {
        let found = |object: Value| {
            let name =
                object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            FoundObject { object, kind: kind.clone(), name, place: ManifestPlace::default() }
        };
        collector.take(objects.into_iter().map(found).collect()).await;
    }
    Ok(())
}

fn note(collector: &mut Collector, error: &watch::Error) {
    let (what, reason) = match error {
        watch::Error::ListKind { name, message } => (name.clone(), message.clone()),
        other => ("the cluster".to_owned(), other.to_string()),
    };
    collector.note(what, reason, ManifestPlace::default());
}
