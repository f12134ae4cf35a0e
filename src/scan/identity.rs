//! Which pods are judged once: those that a controller made of one template and that differ in nothing that verdicts
//! depend on. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::admission::State;
use crate::grant::types::{LabelSelector, Subjects};
use crate::workload::{Role, TOKEN_VOLUME};

/// What two objects with the same verdict have in common, as a digest.
pub type Identity = [u8; 32];

/// Metadata that the API server and controllers write, and no rule reads.
const VOLATILE: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Labels with another value on each pod of a template (`kubernetes:staging/src/k8s.io/api/apps/v1/types.go`,
/// `StatefulSetPodNameLabel`, `PodIndexLabel`; `kubernetes:staging/src/k8s.io/api/batch/v1/types.go`). A CronJob's Jobs
/// differ in the last four.
const LABELS_OF_ONE_POD: &[&str] = &[
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
    "statefulset.kubernetes.io/pod-name",
];

/// Beginnings of annotations with another value on each pod: those of Jobs, and of network plug-ins about addresses.
const ANNOTATIONS_OF_ONE_POD: &[&str] = &[
    "batch.kubernetes.io/job-completion-index",
    "cni.projectcalico.org/",
    "k8s.ovn.org/",
    "k8s.v1.cni.cncf.io/network-status",
    "ovn.kubernetes.io/",
];

/// Decides which objects are judged together.
#[derive(Debug, Default)]
pub struct Identities {
    /// Labels by which a grant or an exception chooses pods, so that pods that differ in one may differ in their verdict.
    chosen_by: BTreeSet<String>,
    /// Whether every pod is judged on its own.
    apart: bool,
}

impl Identities {
    /// For these grants and exceptions; `apart` keeps pods of one template apart.
    pub fn new(state: &State, apart: bool) -> Self {
        let grants = state.grants.iter().filter_map(|grant| grant.spec.subjects.as_ref());
        let exceptions = state.exceptions.iter().filter_map(|exception| exception.spec.subjects.as_ref());
        let chosen_by = grants.chain(exceptions).filter_map(labels).flatten().collect();
        Self { chosen_by, apart }
    }

    /// The identity of an object in a namespace. `shared` says that a controller made it of a template.
    pub fn of(&self, object: &Value, namespace: &str, shared: bool) -> Identity {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
            strip(fields.get_mut("metadata"), VOLATILE);
            if shared && !self.apart {
                self.forget_the_pod(fields);
            }
        }
        let mut digest = Sha256::new();
        digest.update(namespace.as_bytes());
        digest.update([0]);
        // Neither can fail: a hash takes any bytes, and a JSON value has only strings as keys.
        let _ = serde_json::to_writer(&mut digest, &object);
        digest.finalize().into()
    }

    /// Removes what distinguishes a pod from the others of its template.
    fn forget_the_pod(&self, pod: &mut Map<String, Value>) {
        let name = pod.get("metadata").and_then(|metadata| metadata.get("name"));
        let name = name.and_then(Value::as_str).unwrap_or_default().to_owned();
        let metadata = pod.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata {
            strip_each(metadata, &["name", "ownerReferences"]);
            if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
                labels.retain(|key, _| {
                    !LABELS_OF_ONE_POD.contains(&key.as_str()) || self.chosen_by.contains(key)
                });
            }
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations
                    .retain(|key, _| !ANNOTATIONS_OF_ONE_POD.iter().any(|prefix| key.starts_with(prefix)));
            }
        }
        if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
            forget_the_place(spec, &name);
            forget_the_volumes(spec, &name);
        }
    }
}

/// Keys of the labels by which pods are chosen.
fn labels(subjects: &Subjects) -> Option<impl Iterator<Item = String>> {
    let LabelSelector { match_labels, match_expressions } = subjects.pod_selector.as_ref()?;
    let expressions = match_expressions.iter().map(|requirement| requirement.key.clone());
    Some(match_labels.keys().cloned().chain(expressions))
}

fn strip(value: Option<&mut Value>, keys: &[&str]) {
    if let Some(fields) = value.and_then(Value::as_object_mut) {
        strip_each(fields, keys);
    }
}

fn strip_each(fields: &mut Map<String, Value>, keys: &[&str]) {
    fields.retain(|key, _| !keys.contains(&key.as_str()));
}

/// The node, and what a StatefulSet and a DaemonSet write about one pod.
fn forget_the_place(spec: &mut Map<String, Value>, pod: &str) {
    spec.remove("nodeName");
    if spec.get("hostname").and_then(Value::as_str) == Some(pod) {
        spec.remove("hostname");
    }
    let terms = spec
        .get_mut("affinity")
        .and_then(|affinity| {
            affinity.pointer_mut("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution")
        })
        .and_then(|required| required.get_mut("nodeSelectorTerms"))
        .and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        strip(Some(term), &["matchFields"]);
    }
}

/// The random part of the token's volume, and the name of the pod in those of its claims.
fn forget_the_volumes(spec: &mut Map<String, Value>, pod: &str) {
    for volume in items(spec.get_mut("volumes")) {
        shorten_token_name(volume);
        let claim = volume.get_mut("persistentVolumeClaim").and_then(|claim| claim.get_mut("claimName"));
        if let Some(Value::String(claim)) = claim
            && let Some(template) = claim.strip_suffix(pod)
        {
            *claim = template.to_owned();
        }
    }
    for role in [Role::Container, Role::InitContainer, Role::EphemeralContainer] {
        for container in items(spec.get_mut(role.list())) {
            items(container.get_mut("volumeMounts")).for_each(shorten_token_name);
        }
    }
}

fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    list.and_then(Value::as_array_mut).into_iter().flatten()
}

fn shorten_token_name(named: &mut Value) {
    if let Some(Value::String(name)) = named.get_mut("name")
        && name.starts_with(TOKEN_VOLUME)
    {
        name.truncate(TOKEN_VOLUME.len());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pod as a StatefulSet makes it and a cluster completes it.
    fn pod(number: usize) -> Value {
        let (name, token) = (format!("db-{number}"), format!("kube-api-access-x{number}"));
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "generateName": "db-", "uid": format!("u{number}"),
                "resourceVersion": number.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": "db", "statefulset.kubernetes.io/pod-name": name},
                "annotations": {"cni.projectcalico.org/podIP": format!("10.0.0.{number}/32"), "team": "a"},
                "ownerReferences": [{"kind": "StatefulSet", "name": "db", "uid": "s", "controller": true}]},
            "spec": {"nodeName": format!("node-{number}"), "hostname": name,
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "values": [number.to_string()]}]}]}}},
                "containers": [{"name": "db", "image": "a:1", "volumeMounts": [{"name": token, "mountPath": "/t"}]}],
                "volumes": [{"name": token, "projected": {}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": format!("data-db-{number}")}}]},
            "status": {"podIP": format!("10.0.0.{number}")}})
    }

    #[test]
    fn pods_of_one_template_are_one_and_every_other_difference_counts() {
        let identities = Identities::default();
        let of = |pod: &Value| identities.of(pod, "shop", true);
        assert_eq!(of(&pod(1)), of(&pod(2)));
        assert_ne!(of(&pod(1)), identities.of(&pod(1), "other", true), "grants are by namespace");
        for (pointer, value) in [
            ("/metadata/labels/app", json!("other")),
            ("/metadata/annotations/team", json!("b")),
            ("/spec/containers/0/image", json!("a:2")),
            ("/spec/volumes/1/persistentVolumeClaim/claimName", json!("other")),
            ("/spec/hostname", json!("other")),
        ] {
            let mut changed = pod(1);
            *changed.pointer_mut(pointer).unwrap() = value;
            assert_ne!(of(&changed), of(&pod(1)), "{pointer}");
        }
    }

    #[test]
    fn a_pod_that_no_controller_made_is_judged_on_its_own_and_so_is_each_if_it_was_asked_for() {
        let identities = Identities::default();
        assert_ne!(identities.of(&pod(1), "shop", false), identities.of(&pod(2), "shop", false));
        let apart = Identities { apart: true, ..Identities::default() };
        assert_ne!(apart.of(&pod(1), "shop", true), apart.of(&pod(2), "shop", true));
        let mut again = pod(1);
        again["metadata"]["resourceVersion"] = json!("9");
        assert_eq!(apart.of(&again, "shop", true), apart.of(&pod(1), "shop", true));
    }

    #[test]
    fn a_label_of_one_pod_counts_where_a_grant_chooses_by_it() {
        let chosen_by = BTreeSet::from(["statefulset.kubernetes.io/pod-name".to_owned()]);
        let identities = Identities { chosen_by, ..Identities::default() };
        assert_ne!(identities.of(&pod(1), "shop", true), identities.of(&pod(2), "shop", true));
    }
}
