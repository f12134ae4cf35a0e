//! The API server's own plug-ins, before and after the gate: what each adds or refuses when the pod has our changes.

use serde_json::{Value, json};

use super::cluster::{CLUSTER, HIGH, LOW, first_image, image, plain};

/// A pod that the `restricted` level of Pod Security admits.
fn restricted(image: &str) -> Value {
    let mut pod = plain("hello");
    pod["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    pod
}

#[test]
fn the_verdict_of_pod_security_is_the_same_with_and_without_our_changes() {
    let cluster = CLUSTER.get();
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = cluster.plane.namespace("restricted", &labels);
    let create = |pod: &Value| cluster.plane.create(pod, &["--namespace", &namespace]);
    let pod = create(&restricted(&image("hello"))).json();
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime");
    create(&restricted(&image("linux"))).ok();
    let verdict = |name: &str| {
        let text = create(&plain(name)).refused();
        let (_, verdict) = text.split_once("violates PodSecurity").unwrap_or_else(|| panic!("{text}"));
        verdict.to_string()
    };
    assert!(verdict("hello").starts_with(" \"restricted:latest\": allowPrivilegeEscalation != false"));
    assert_eq!(verdict("hello"), verdict("linux"));
}

#[test]
fn a_priority_class_is_resolved_as_without_the_gate() {
    let cluster = CLUSTER.get();
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "shop"},
        "value": 1000, "preemptionPolicy": "Never"});
    cluster.plane.apply(&class, &[]).ok();
    let namespace = cluster.namespace("priority");
    let mut pod = plain("hello");
    pod["spec"]["priorityClassName"] = json!("shop");
    let pod = cluster.plane.wait_for("the API server to know the class", || {
        let said = cluster.plane.create(&pod, &["--namespace", &namespace]);
        (said.code == 0).then(|| said.json())
    });
    assert_eq!(pod["spec"]["priority"], 1000);
    assert_eq!(pod["spec"]["preemptionPolicy"], "Never");
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime");
}

#[test]
fn a_quota_counts_the_sizes_that_the_gate_gave() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("quota");
    let hard = json!({"limits.memory": "64Mi", "requests.memory": "64Mi"});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "memory", "namespace": namespace},
        "spec": {"hard": hard}});
    cluster.plane.apply(&quota, &[]).ok();
    cluster.plane.wait_for("the quota to be counted", || {
        let quota = cluster.plane.get(&["resourcequota", "memory", "--namespace", &namespace]);
        quota["status"]["used"]["limits.memory"].is_string().then_some(())
    });
    let create = |name: &str| cluster.plane.create(&plain(name), &["--namespace", &namespace]);
    // Where a quota counts sizes, a pod without them is refused.
    let linux = create("linux").refused();
    assert!(linux.contains("must specify limits.memory"), "{linux}");
    create("hello").ok();
    create("hello").ok();
    let third = create("hello").refused();
    assert!(
        third.contains("exceeded quota: memory") && third.contains("requested: limits.memory=32Mi"),
        "{third}"
    );
    let quota = cluster.plane.get(&["resourcequota", "memory", "--namespace", &namespace]);
    assert_eq!(quota["status"]["used"], json!({"limits.memory": "64Mi", "requests.memory": "20Mi"}));
}

/// The sizes of a pod that sets none, in a namespace with a LimitRange.
fn sizes_in(namespace: &str) -> Value {
    let cluster = CLUSTER.get();
    cluster.wait_for_account(namespace, "default");
    let range = ["wait", "--for=create", "limitrange/sizes", "--timeout=120s"];
    cluster.kubectl(namespace, &range).ok();
    let pod = cluster.plane.create(&plain("hello"), &["--namespace", namespace]).json();
    let annotation = &pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
    assert!(annotation.as_str().unwrap().starts_with("LimitRanger plugin set: "), "{annotation}");
    pod["spec"]["containers"][0]["resources"].clone()
}

#[test]
fn sizes_are_brought_inside_the_bounds_of_a_limit_range_that_is_narrower_than_the_profile() {
    let _cluster = CLUSTER.get();
    // The profile's sizes are 10Mi and 32Mi.
    let low = sizes_in(LOW);
    assert_eq!((&low["requests"]["memory"], &low["limits"]["memory"]), (&json!("10Mi"), &json!("24Mi")));
    let high = sizes_in(HIGH);
    assert_eq!((&high["requests"]["memory"], &high["limits"]["memory"]), (&json!("64Mi"), &json!("64Mi")));
}

#[test]
fn a_class_adds_its_overhead_its_nodes_and_its_tolerations_after_us() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("overhead");
    let mut pod = plain("hello");
    pod["spec"]["runtimeClassName"] = json!("wasmtime-with-overhead");
    pod["spec"]["nodeSelector"] = json!({"example.com/disk": "fast"});
    let pod = cluster.pod(&namespace, "app", pod);
    let spec = &pod["spec"];
    assert_eq!(spec["overhead"], json!({"cpu": "10m", "memory": "24Mi"}));
    assert_eq!(spec["nodeSelector"], json!({"example.com/disk": "fast", "example.com/zone": "a"}));
    let ours = json!({"key": "wasm", "operator": "Exists", "effect": "NoSchedule"});
    let tolerations = spec["tolerations"].as_array().unwrap();
    assert_eq!(tolerations.iter().filter(|toleration| **toleration == ours).count(), 1, "{tolerations:?}");
    assert!(first_image(&pod).contains("@sha256:"));
}
