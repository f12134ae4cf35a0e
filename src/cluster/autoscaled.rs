//! The workloads that a `VerticalPodAutoscaler` sizes (`kubernetes/autoscaler:vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1/types.go`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

/// What a `VerticalPodAutoscaler` sizes: a workload in its own namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    target_ref: Option<Reference>,
    update_policy: Option<UpdatePolicy>,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdatePolicy {
    update_mode: Option<String>,
}

impl Target {
    /// Of the object's `spec`. `None` for one that names nothing, or that only recommends.
    pub fn of(spec: Value) -> Result<Option<Self>, String> {
        let spec: Option<Spec> = serde_json::from_value(spec).map_err(|error| format!("`spec`: {error}"))?;
        let Some(Spec { target_ref: Some(target), update_policy }) = spec else { return Ok(None) };
        let mode = update_policy.and_then(|policy| policy.update_mode);
        let sizes = mode.as_deref() != Some("Off") && !target.name.is_empty();
        Ok(sizes.then_some(Self { kind: target.kind, name: target.name }))
    }
}

/// Namespace → the workloads there that are sized.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Autoscaled(BTreeMap<String, BTreeSet<Target>>);

impl Autoscaled {
    /// Adds a workload.
    pub fn insert(&mut self, namespace: &str, target: Target) {
        self.0.entry(namespace.to_owned()).or_default().insert(target);
    }

    /// Whether one of these sizes a workload of this kind and name.
    pub fn has(&self, namespace: &str, kind: &str, name: &str) -> bool {
        self.0
            .get(namespace)
            .is_some_and(|targets| targets.iter().any(|one| one.kind == kind && one.name == name))
    }

    /// Whether one of these sizes the pod with this metadata, by its controller, or by the one of that. A `ReplicaSet` and a `Job` are
    /// named after what made them, with `-` and a word behind
    /// (`kubernetes:pkg/controller/deployment/sync.go`, `getNewReplicaSet`, and `pkg/controller/cronjob/utils.go`, `getJobName`);
    /// of which kind that is need not be known, since it may be one of another project.
    pub fn has_pod(&self, namespace: &str, metadata: &Map<String, Value>) -> bool {
        let Some(targets) = self.0.get(namespace) else { return false };
        let owners = metadata.get("ownerReferences").and_then(Value::as_array);
        // One at most is, and a pod that was not checked yet may claim many.
        let is_controller = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
        let Some(owner) = owners.into_iter().flatten().find(is_controller) else { return false };
        let of = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (of("kind"), of("name"));
        let maker = name.rsplit_once('-').map(|(maker, _)| maker);
        let maker = maker.filter(|_| matches!(kind, "ReplicaSet" | "Job"));
        targets.iter().any(|one| (one.kind == kind && one.name == name) || Some(one.name.as_str()) == maker)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(kind: &str, name: &str) -> Target {
        Target { kind: kind.into(), name: name.into() }
    }

    #[test]
    fn an_autoscaler_that_only_recommends_sizes_nothing() {
        let of = |mode: Value| {
            let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"});
            Target::of(json!({"targetRef": reference, "updatePolicy": mode})).unwrap()
        };
        for mode in [json!(null), json!({}), json!({"updateMode": "Auto"}), json!({"updateMode": "Initial"})]
        {
            assert_eq!(of(mode.clone()), Some(target("Deployment", "orders")), "{mode}");
        }
        assert_eq!(of(json!({"updateMode": "Off"})), None);
        assert_eq!(Target::of(json!({})), Ok(None));
        assert_eq!(Target::of(Value::Null), Ok(None));
        assert!(Target::of(json!({"targetRef": 7})).unwrap_err().starts_with("`spec`: "));
    }

    #[test]
    fn a_pod_is_sized_by_what_made_it_in_its_own_namespace() {
        let mut autoscaled = Autoscaled::default();
        autoscaled.insert("shop", target("Deployment", "orders"));
        autoscaled.insert("shop", target("StatefulSet", "store"));
        let has = |namespace: &str, kind: &str, name: &str, controller: bool| {
            let owner = json!([{"kind": kind, "name": name, "controller": controller}]);
            let metadata = json!({"ownerReferences": owner}).as_object().cloned().unwrap();
            autoscaled.has_pod(namespace, &metadata)
        };
        assert!(has("shop", "ReplicaSet", "orders-5f6b", true));
        assert!(has("shop", "StatefulSet", "store", true));
        assert!(!has("web", "ReplicaSet", "orders-5f6b", true));
        assert!(!has("shop", "ReplicaSet", "orders-5f6b", false));
        assert!(!has("shop", "ReplicaSet", "other-5f6b", true));
        assert!(!has("shop", "DaemonSet", "store", true));
        assert!(!has("shop", "StatefulSet", "store-0", true));
        assert!(!autoscaled.has_pod("shop", &Map::new()));
        assert!(autoscaled.has("shop", "Deployment", "orders") && !autoscaled.has("shop", "Job", "orders"));
    }
}
