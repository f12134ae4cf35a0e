//! The workloads whose requests another controller goes by, so that they must not follow from use: those that a `VerticalPodAutoscaler` sizes
//! (`kubernetes/autoscaler:vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1/types.go`), and those of which a `HorizontalPodAutoscaler` runs as many
//! as keep their use at a part of their requests (`kubernetes:staging/src/k8s.io/api/autoscaling/v2/types.go`). Requests that follow from use
//! would move that part, and the number of pods with it, up to the most that it may be.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What an autoscaler names: a workload in its own namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerticalSpec {
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HorizontalSpec {
    scale_target_ref: Option<Reference>,
    metrics: Option<Vec<Metric>>,
}

/// The two of the metrics that are about resources of pods.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric {
    resource: Option<MetricSource>,
    container_resource: Option<MetricSource>,
}

#[derive(Deserialize)]
struct MetricSource {
    target: MetricTarget,
}

#[derive(Deserialize)]
struct MetricTarget {
    #[serde(default, rename = "type")]
    kind: String,
}

impl Metric {
    /// Whether it is a part of the requests, and no amount.
    fn is_utilization(&self) -> bool {
        let sources = [&self.resource, &self.container_resource];
        sources.into_iter().flatten().any(|source| source.target.kind == "Utilization")
    }
}

fn read<T: DeserializeOwned>(spec: Value) -> Result<Option<T>, String> {
    serde_json::from_value(spec).map_err(|error| format!("`spec`: {error}"))
}

impl Target {
    /// What a `VerticalPodAutoscaler` with this `spec` sizes. `None` for one that names nothing, or that only recommends.
    pub fn sized(spec: Value) -> Result<Option<Self>, String> {
        let Some(VerticalSpec { target_ref, update_policy }) = read(spec)? else { return Ok(None) };
        let mode = update_policy.and_then(|policy| policy.update_mode);
        let sizes = mode.as_deref() != Some("Off");
        Ok(target_ref.filter(|_| sizes).and_then(Self::named))
    }

    /// What a `HorizontalPodAutoscaler` with this `spec` scales by a part of its requests. `None` for one that names nothing, or that goes by
    /// amounts or by what is no resource of pods. Without metrics it goes by 80 % of the CPU
    /// (`kubernetes:pkg/apis/autoscaling/v2/defaults.go`).
    pub fn scaled_by_requests(spec: Value) -> Result<Option<Self>, String> {
        let Some(HorizontalSpec { scale_target_ref, metrics }) = read(spec)? else { return Ok(None) };
        let metrics = metrics.unwrap_or_default();
        let by_requests = metrics.is_empty() || metrics.iter().any(Metric::is_utilization);
        Ok(scale_target_ref.filter(|_| by_requests).and_then(Self::named))
    }

    fn named(Reference { kind, name }: Reference) -> Option<Self> {
        (!name.is_empty()).then_some(Self { kind, name })
    }
}

/// Namespace → the workloads there whose requests must not follow from use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Autoscaled(BTreeMap<String, BTreeSet<Target>>);

impl Autoscaled {
    /// Adds a workload.
    pub fn insert(&mut self, namespace: &str, target: Target) {
        self.0.entry(namespace.to_owned()).or_default().insert(target);
    }

    /// Whether one of these is a workload of this kind and name.
    pub fn has(&self, namespace: &str, kind: &str, name: &str) -> bool {
        self.0
            .get(namespace)
            .is_some_and(|targets| targets.iter().any(|one| one.kind == kind && one.name == name))
    }

    /// Whether the pod with this metadata is of one of these: by its controller, or by the one of that. A `ReplicaSet` and a `Job` are
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
            Target::sized(json!({"targetRef": reference, "updatePolicy": mode})).unwrap()
        };
        for mode in [json!(null), json!({}), json!({"updateMode": "Auto"}), json!({"updateMode": "Initial"})]
        {
            assert_eq!(of(mode.clone()), Some(target("Deployment", "orders")), "{mode}");
        }
        assert_eq!(of(json!({"updateMode": "Off"})), None);
        assert_eq!(Target::sized(json!({})), Ok(None));
        assert_eq!(Target::sized(Value::Null), Ok(None));
        assert!(Target::sized(json!({"targetRef": 7})).unwrap_err().starts_with("`spec`: "));
    }

    #[test]
    fn an_autoscaler_that_goes_by_amounts_or_by_no_resource_leaves_requests_free() {
        let of = |metrics: Value| {
            let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"});
            Target::scaled_by_requests(
                json!({"scaleTargetRef": reference, "maxReplicas": 9, "metrics": metrics}),
            )
            .unwrap()
        };
        let resource =
            |kind: &str, target: &Value| json!({"type": "Resource", kind: {"name": "cpu", "target": target}});
        let (part, amount) = (
            json!({"type": "Utilization", "averageUtilization": 60}),
            json!({"type": "AverageValue", "averageValue": "40m"}),
        );
        let queue = json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "9"}}});
        for metrics in [
            json!(null),
            json!([]),
            json!([resource("resource", &part)]),
            json!([resource("containerResource", &part)]),
            json!([queue, resource("resource", &amount), resource("resource", &part)]),
        ] {
            assert_eq!(of(metrics.clone()), Some(target("Deployment", "orders")), "{metrics}");
        }
        for metrics in
            [json!([resource("resource", &amount)]), json!([queue]), json!([{"type": "Pods", "pods": {}}])]
        {
            assert_eq!(of(metrics.clone()), None, "{metrics}");
        }
        assert_eq!(Target::scaled_by_requests(json!({})), Ok(None));
        assert!(Target::scaled_by_requests(json!({"metrics": 7})).unwrap_err().starts_with("`spec`: "));
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
