//! The kinds with pods or pod templates that an API server has.

use kube::Client;
use kube::core::ApiResource;

use crate::watch::{self, resource_of};
use crate::workload::Kinds;

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

/// The kinds that are scanned, templates first: those of operators as far as the API server has them, and [`built_in`]. Also why it
/// is not known of some whether it has them.
pub async fn resources(client: &Client, kinds: &Kinds) -> (Vec<ApiResource>, Vec<watch::Error>) {
    let (mut resources, mut unknown) = (Vec::new(), Vec::new());
    for (group, kind) in SPIN_APPS.into_iter().chain(kinds.described()) {
        match resource_of(client, group, kind).await {
            Ok(resource) => resources.extend(resource),
            Err(error) => unknown.push(error),
        }
    }
    resources.extend(built_in());
    (resources, unknown)
}

/// The kinds with pods or pod templates that every API server has, templates first.
pub fn built_in() -> impl Iterator<Item = ApiResource> {
    BUILT_IN.iter().map(resource)
}

fn resource([group, version, kind, plural]: &[&str; 4]) -> ApiResource {
    let api_version = if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: (*group).into(),
        version: (*version).into(),
        api_version,
        kind: (*kind).into(),
        plural: (*plural).into(),
    }
}
