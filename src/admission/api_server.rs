//! What the API server does to a new object before it calls webhooks, as far as the gate and rules read it. `serve`
//! receives the result; the offline commands read a manifest and must do the same, or they would judge another
//! object. A template gets the defaults that its pods will get when a controller creates them.
//!
//! Sources: `kubernetes:pkg/apis/core/v1/defaults.go` (defaults of pods and pod specs) and
//! `kubernetes:plugin/pkg/admission/limitranger/admission.go` (sizes that a LimitRange fills in). Left out, because
//! nothing here reads them: pod-level requests (a pod-level limit alone already counts as a size of the whole pod),
//! priorities, the tolerations of not-ready nodes, and the token volume of the ServiceAccount plug-in, which
//! `capability::ambient` adds itself. All functions are pure and idempotent.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LimitRangeItem;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, LIMIT_RANGER_ANNOTATION, LIMIT_RANGER_SET};
use crate::workload::{Kind, Role};

/// A JSON object.
type Object = Map<String, Value>;

/// The lists of a pod spec whose containers have resources.
const SIZED_LISTS: [(&str, &str); 2] =
    [(Role::Container.list(), "container"), (Role::InitContainer.list(), "init container")];

/// The object as webhooks receive it when it is created in a namespace.
pub fn received(object: &Value, kind: Kind, namespace: &str, cluster: &Cluster) -> Value {
    let mut object = object.clone();
    if kind == Kind::Pod {
        as_pod(&mut object, kind, namespace, cluster);
    } else if let Some(spec) = pod_at(&mut object, kind).and_then(spec_of) {
        default_spec(spec);
    }
    object
}

/// Completes a pod, or the pod template of another object, as webhooks receive its pods: with the defaults that only pods
/// get, and with the sizes from the namespace's `LimitRange`s.
pub fn as_pod(object: &mut Value, kind: Kind, namespace: &str, cluster: &Cluster) {
    let Some(pod) = pod_at(object, kind) else { return };
    // A pod always has some; a template may leave them out.
    set(pod, "metadata", json!({}));
    if let Some(spec) = spec_of(pod) {
        default_spec(spec);
        default_pod(spec);
    }
    if let Some(ranges) = cluster.limit_ranges.get(namespace) {
        limit_ranger(pod, &ranges.items);
    }
}

fn pod_at(object: &mut Value, kind: Kind) -> Option<&mut Object> {
    object.pointer_mut(kind.template_pointer())?.as_object_mut()
}

fn spec_of(pod: &mut Object) -> Option<&mut Object> {
    pod.get_mut("spec")?.as_object_mut()
}

/// Sets a field that is absent or null.
fn set(holder: &mut Object, key: &str, value: Value) {
    let slot = holder.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = value;
    }
}

/// The JSON objects of a list; none if the list is absent.
fn objects<'a>(holder: &'a mut Object, list: &str) -> impl Iterator<Item = &'a mut Object> {
    let items = holder.get_mut(list).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The object under a key. Creates it if absent or null; returns `None` for any other type.
fn made<'a>(holder: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    set(holder, key, json!({}));
    holder.get_mut(key)?.as_object_mut()
}

// === defaults of every pod spec ===

/// `SetDefaults_PodSpec`, and the defaults of the objects in it.
fn default_spec(spec: &mut Object) {
    set(spec, "restartPolicy", json!("Always"));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", json!("default-scheduler"));
    for role in [Role::InitContainer, Role::Container, Role::EphemeralContainer] {
        objects(spec, role.list()).for_each(default_container);
    }
    objects(spec, "volumes").for_each(default_volume);
}

/// `SetDefaults_Container`.
fn default_container(container: &mut Object) {
    set(container, "resources", json!({}));
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    set(container, "imagePullPolicy", json!(policy));
    objects(container, "ports").for_each(|port| set(port, "protocol", json!("TCP")));
    for variable in objects(container, "env") {
        let field = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef"));
        if let Some(field) = field.and_then(Value::as_object_mut) {
            set(field, "apiVersion", json!("v1"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            default_probe(probe);
        }
    }
}

/// `Always` for the tag `latest`, which is also the default without tag and digest; else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    let tagged = name.split_once('@').map_or(name, |(name, _)| name);
    let latest = match tagged.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !name.contains('@'),
    };
    if latest { "Always" } else { "IfNotPresent" }
}

/// `SetDefaults_Probe` and `SetDefaults_HTTPGetAction`.
fn default_probe(probe: &mut Object) {
    for (key, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        set(probe, key, json!(value));
    }
    if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
        set(get, "path", json!("/"));
        set(get, "scheme", json!("HTTP"));
    }
}

/// `SetDefaults_Volume` and the defaults of the sources.
fn default_volume(volume: &mut Object) {
    let sources = volume.iter().filter(|(key, value)| *key != "name" && !value.is_null()).count();
    if sources == 0 {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
            set(source, "defaultMode", json!(0o644));
        }
    }
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        set(path, "type", json!(""));
    }
    if let Some(image) = volume.get_mut("image").and_then(Value::as_object_mut) {
        let reference = image.get("reference").and_then(Value::as_str).unwrap_or_default();
        let policy = pull_policy(reference);
        set(image, "pullPolicy", json!(policy));
    }
    let projected = volume.get_mut("projected").and_then(Value::as_object_mut);
    for source in projected.into_iter().flat_map(|projected| objects(projected, "sources")) {
        if let Some(token) = source.get_mut("serviceAccountToken").and_then(Value::as_object_mut) {
            set(token, "expirationSeconds", json!(3600));
        }
    }
}

// === what only pods get ===

/// `SetDefaults_Pod`: a limit is the default of a missing request, service links are on, and with `hostNetwork` a
/// container port is also a host port.
fn default_pod(spec: &mut Object) {
    for (list, _) in SIZED_LISTS {
        objects(spec, list).for_each(request_from_limit);
    }
    set(spec, "enableServiceLinks", json!(true));
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for (list, _) in SIZED_LISTS {
            objects(spec, list).flat_map(|container| objects(container, "ports")).for_each(host_port);
        }
    }
}

fn request_from_limit(container: &mut Object) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    if limits.is_empty() {
        return;
    }
    let Some(requests) = made(resources, "requests") else { return };
    // What is not a quantity is told of where it was written.
    let is_quantity = |limit: &Value| crate::quantity::Quantity::from_json(limit).is_ok();
    for (resource, limit) in limits.into_iter().filter(|(_, limit)| is_quantity(limit)) {
        set(requests, &resource, limit);
    }
}

fn host_port(port: &mut Object) {
    if port.get("hostPort").and_then(Value::as_i64).unwrap_or_default() == 0
        && let Some(own) = port.get("containerPort").cloned()
    {
        port.insert("hostPort".to_owned(), own);
    }
}

// === LimitRanger ===

/// Resource → quantity, as a LimitRange writes it.
type Amounts = BTreeMap<String, Quantity>;

/// Default sizes from the `LimitRange`s of a namespace, for containers without their own.
#[derive(Default)]
struct Sizes {
    requests: Amounts,
    limits: Amounts,
}

/// The defaults of all items for containers. A LimitRange from the API server is already complete; one from a manifest is
/// completed here like `SetDefaults_LimitRangeItem` does: a maximum is also the default limit, and a
/// limit or a minimum the default request.
fn sizes(items: &[LimitRangeItem]) -> Sizes {
    let mut sizes = Sizes::default();
    for item in items.iter().filter(|item| item.type_ == "Container") {
        let limits = merged([&item.default, &item.max]);
        let requests = merged([&item.default_request, &Some(limits.clone()), &item.min]);
        add(&mut sizes.limits, limits);
        add(&mut sizes.requests, requests);
    }
    sizes
}

/// The first value of each resource.
fn merged<const N: usize>(lists: [&Option<Amounts>; N]) -> Amounts {
    let mut found = Amounts::new();
    lists.into_iter().flatten().for_each(|list| add(&mut found, list.clone()));
    found
}

/// Adds the resources that are missing.
fn add(amounts: &mut Amounts, more: Amounts) {
    for (resource, value) in more {
        amounts.entry(resource).or_insert(value);
    }
}

/// Fills in missing sizes and lists them in an annotation, from which the gate knows that the manifest did not set them.
fn limit_ranger(pod: &mut Object, items: &[LimitRangeItem]) {
    let sizes = sizes(items);
    let mut clauses = Vec::new();
    for (list, noun) in SIZED_LISTS {
        for container in spec_of(pod).into_iter().flat_map(|spec| objects(spec, list)) {
            clauses.extend(fill_in(container, &sizes, noun));
        }
    }
    let annotations = if clauses.is_empty() { None } else { made(pod, "metadata") };
    if let Some(annotations) = annotations.and_then(|metadata| made(metadata, "annotations")) {
        let text = format!("{LIMIT_RANGER_SET} {}", clauses.join("; "));
        annotations.insert(LIMIT_RANGER_ANNOTATION.to_owned(), json!(text));
    }
}

fn fill_in(container: &mut Object, sizes: &Sizes, noun: &str) -> Vec<String> {
    let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(resources) = made(container, "resources") else { return Vec::new() };
    let mut clauses = Vec::new();
    for (side, word, amounts) in
        [("requests", "request", &sizes.requests), ("limits", "limit", &sizes.limits)]
    {
        let filled = fill_side(resources, side, amounts);
        if !filled.is_empty() {
            clauses.push(format!("{} {word} for {noun} {name}", filled.join(", ")));
        }
    }
    clauses
}

fn fill_side<'a>(resources: &mut Object, side: &str, amounts: &'a Amounts) -> Vec<&'a str> {
    let given = |resources: &Object, resource: &str| {
        resources.get(side).and_then(|own| own.get(resource)).is_some_and(|value| !value.is_null())
    };
    let missing: Vec<_> = amounts.iter().filter(|(resource, _)| !given(resources, resource)).collect();
    // An empty object that the manifest does not have would show as a change.
    let Some(own) = (if missing.is_empty() { None } else { made(resources, side) }) else {
        return Vec::new();
    };
    for (resource, amount) in &missing {
        own.insert((*resource).clone(), json!(amount));
    }
    missing.into_iter().map(|(resource, _)| resource.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;
    use crate::cluster::LimitRanges;

    const NAMESPACE: &str = "shop";

    fn cluster(limits: Value) -> Cluster {
        let ranges = LimitRanges::of(from_value(limits).unwrap()).unwrap();
        Cluster { limit_ranges: [(NAMESPACE.to_owned(), ranges)].into(), ..Cluster::default() }
    }

    fn received_pod(spec: &Value, cluster: &Cluster) -> Value {
        received(&json!({"metadata": {"name": "a"}, "spec": spec}), Kind::Pod, NAMESPACE, cluster)
    }

    #[test]
    fn a_limit_stands_for_a_missing_request_on_pods_and_on_the_pods_of_a_template() {
        let limits = json!({"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "10m"}});
        let spec = json!({"initContainers": [{"name": "i", "resources": limits}],
                          "containers": [{"name": "c", "resources": limits}]});
        let expected = json!({"cpu": "10m", "memory": "256Mi"});
        let pod = received_pod(&spec, &Cluster::default());
        for list in ["initContainers", "containers"] {
            assert_eq!(pod["spec"][list][0]["resources"]["requests"], expected, "{list}");
        }
        let deployment = json!({"spec": {"template": {"spec": spec}}});
        let mut template = received(&deployment, Kind::Deployment, NAMESPACE, &Cluster::default());
        let requests = "/spec/template/spec/containers/0/resources/requests";
        assert_eq!(template.pointer(requests).unwrap(), &json!({"cpu": "10m"}), "a template keeps its own");
        assert_eq!(template["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 30);
        as_pod(&mut template, Kind::Deployment, NAMESPACE, &Cluster::default());
        assert_eq!(template.pointer(requests).unwrap(), &expected);
        assert_eq!(template["spec"]["template"]["metadata"], json!({}), "a pod has metadata");
    }

    #[test]
    fn on_the_nodes_network_a_port_of_the_container_is_one_of_the_node() {
        let spec = |host: bool| {
            json!({"hostNetwork": host, "containers": [{"ports": [
                {"containerPort": 80}, {"containerPort": 81, "hostPort": 8081}]}]})
        };
        let ports = |host: bool| {
            let pod = received_pod(&spec(host), &Cluster::default());
            let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap().clone();
            ports.iter().map(|port| port["hostPort"].as_i64()).collect::<Vec<_>>()
        };
        assert_eq!(ports(true), [Some(80), Some(8081)]);
        assert_eq!(ports(false), [None, Some(8081)]);
    }

    #[test]
    fn a_limit_range_fills_in_what_is_missing_and_says_so() {
        let cluster = cluster(json!([
            {"type": "Container", "max": {"cpu": "2"}, "default": {"memory": "64Mi"}, "min": {"storage": "1Gi"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
            {"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "1"}},
        ]));
        let spec = json!({"initContainers": [{"name": "i", "resources": {"limits": {"cpu": "1", "memory": "8Mi"},
                              "requests": {"cpu": "1", "memory": "8Mi", "storage": "1Gi"}}}],
                          "containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]});
        let pod = received_pod(&spec, &cluster);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "64Mi"},
                   "requests": {"cpu": "1", "memory": "64Mi", "storage": "1Gi"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][LIMIT_RANGER_ANNOTATION],
            "LimitRanger plugin set: memory, storage request for container c; memory limit for container c"
        );
        let elsewhere = received(&json!({"spec": spec}), Kind::Pod, "other", &cluster);
        assert_eq!(elsewhere["metadata"], json!({}));
    }

    #[test]
    fn the_tag_latest_is_always_pulled_and_no_other() {
        for (image, policy) in [
            ("app", "Always"),
            ("registry:5000/app", "Always"),
            ("registry:5000/app:latest", "Always"),
            ("app:latest@sha256:00", "Always"),
            ("app:1", "IfNotPresent"),
            ("app@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn what_was_received_is_received_unchanged_and_no_value_is_lost() {
        let cluster = cluster(json!([{"type": "Container", "default": {"memory": "64Mi"}}]));
        let spec = json!({
            "hostNetwork": true, "restartPolicy": "Never", "futureField": {"a": [1]},
            "containers": [{"name": "c", "image": "a:1", "ports": [{"containerPort": 80}],
                            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                            "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3}}],
            "volumes": [{"name": "empty"}, {"name": "s", "secret": {"secretName": "s"}},
                        {"name": "h", "hostPath": {"path": "/"}}, {"name": "i", "image": {"reference": "a"}},
                        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
        });
        let once = received_pod(&spec, &cluster);
        assert_eq!(received(&once, Kind::Pod, NAMESPACE, &cluster), once);
        let (spec, all) = (&once["spec"], once["spec"].as_object().unwrap());
        assert_eq!(spec["restartPolicy"], "Never");
        assert_eq!(all["futureField"], json!({"a": [1]}));
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
        assert_eq!(
            spec["volumes"][4]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
            3600
        );
        assert_eq!(spec["containers"][0]["livenessProbe"]["periodSeconds"], 3);
        assert_eq!(
            spec["containers"][0]["livenessProbe"]["httpGet"],
            json!({"port": 80, "path": "/", "scheme": "HTTP"})
        );
    }

    #[test]
    fn values_of_a_wrong_type_stay_as_they_are() {
        let cluster = cluster(json!([{"type": "Container", "default": {"memory": "64Mi"}}]));
        for object in [
            json!(null),
            json!([]),
            json!({"spec": 7}),
            json!({"spec": {"containers": {}, "volumes": "x", "initContainers": [1, null]}}),
            json!({"metadata": 3, "spec": {"containers": [{"resources": [], "image": 4, "env": {}, "ports": [0]}]}}),
            json!({"metadata": {"annotations": []}, "spec": {"containers": [{"resources": {"limits": 1}}]}}),
        ] {
            for kind in [Kind::Pod, Kind::CronJob] {
                let once = received(&object, kind, NAMESPACE, &cluster);
                assert_eq!(received(&once, kind, NAMESPACE, &cluster), once, "{object}");
            }
        }
    }
}
