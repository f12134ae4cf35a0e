//! A SpinApp is judged when it is applied, and what the Spin operator makes of it passes the gate unchanged. The
//! operator itself does not run: its custom resources are `tests/fixtures/spinkube`, and the tests apply what it would
//! make.

use serde_json::{Value, json};

use super::cluster::{CLUSTER, GRANTED, first_image, image};

fn app(name: &str, namespace: &str, more: &Value) -> Value {
    let mut spec = json!({"image": image("spin"), "executor": "containerd-shim-spin", "replicas": 1});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "core.spinkube.dev/v1alpha1", "kind": "SpinApp",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

#[test]
fn a_spin_app_whose_grant_is_missing_warns_and_is_stored() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("spin-app");
    let said = cluster.plane.apply(&app("web", &namespace, &json!({})), &[]);
    let text = said.stderr.clone();
    assert!(text.contains("pods of this SpinApp will be denied by wasmgate"), "{text}");
    assert!(text.contains("[needs-grant]") && text.contains("https://payments.example.com"), "{text}");
    said.ok();
    // An update that does not matter to the verdict gives no warning again.
    let scaled = cluster.kubectl(&namespace, &["scale", "spinapp", "web", "--replicas=3"]);
    assert_eq!(scaled.stderr, "");
    scaled.ok();
    let patch = "--patch={\"spec\":{\"podLabels\":{\"team\":\"shop\"}}}";
    let changed = cluster.kubectl(&namespace, &["patch", "spinapp", "web", "--type=merge", patch]);
    assert!(changed.stderr.contains("pods of this SpinApp will be denied"), "{}", changed.stderr);
    changed.ok();
}

#[test]
fn a_spin_app_with_all_its_grants_is_applied_without_warnings() {
    let cluster = CLUSTER.get();
    let more = json!({"serviceAccountName": "orders", "podLabels": {"team": "shop"},
        "checks": {"liveness": {"httpGet": {"path": "/alive"}}, "readiness": {"httpGet": {"path": "/ready"}}},
        "resources": {"limits": {"memory": "128Mi", "cpu": "500m"}},
        "variables": [{"name": "password", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
        "runtimeConfig": {"loadFromSecret": "runtime"}});
    let said = cluster.plane.apply(&app("granted", GRANTED, &more), &[]);
    assert_eq!(said.stderr, "");
    said.ok();
    let stored = cluster.plane.get(&["spinapp", "granted", "--namespace", GRANTED]);
    assert!(stored["template"].is_null(), "the gate reads a template into it and writes nothing");
    assert_eq!(stored["spec"]["image"], image("spin"));
}

#[test]
fn variables_volumes_and_the_runtime_configuration_of_a_spin_app_count() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("spin-parts");
    // Its host is a variable of the application: setting that variable opens the host.
    let spin = app(
        "open",
        &namespace,
        &json!({"image": image("spin-template"),
        "variables": [{"name": "payments_host", "value": "evil.example.com"}]}),
    );
    let said = cluster.plane.apply(&spin, &[]);
    assert!(said.stderr.contains("will be denied by wasmgate"), "{}", said.stderr);
    said.ok();
    // Under the same custom resource, a program that is not a Spin application is handed the volumes.
    let mounted = json!({"image": image("files"), "volumes": [{"name": "data", "emptyDir": {}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}], "runtimeConfig": {"loadFromSecret": "runtime"}});
    let said = cluster.plane.apply(&app("files", &namespace, &mounted), &[]);
    assert!(
        said.stderr.contains("`/data`") && said.stderr.contains("/runtime-config.toml"),
        "{}",
        said.stderr
    );
    said.ok();
}

#[test]
fn a_field_of_the_wrong_type_is_refused_by_the_definition_and_not_by_the_gate() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("spin-wrong");
    let wrong = app("web", &namespace, &json!({"replicas": "many"}));
    let text = cluster.plane.apply(&wrong, &["--validate=false"]).refused();
    assert!(text.contains("spec.replicas") && !text.contains("wasmgate"), "{text}");
}

/// The Deployment that the operator makes of a SpinApp
/// (`spinframework/spin-operator:internal/controller/deployment.go`).
fn deployment(name: &str, namespace: &str, executor: &Value) -> Value {
    let labels = json!({"core.spinkube.dev/app-name": name, "team": "shop",
        format!("core.spinkube.dev/app.{name}.status"): "ready"});
    let probe = |path: &str| {
        json!({"httpGet": {"path": path, "port": 80}, "initialDelaySeconds": 10, "timeoutSeconds": 1,
            "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    };
    let mut container = json!({
        "name": name, "image": image("spin"), "command": ["/"],
        "ports": [{"name": "http-app", "containerPort": 80}],
        "env": [{"name": "SPIN_VARIABLE_GREETING", "value": "hello"}, {"name": "SPIN_HTTP_LISTEN_ADDR", "value": "0.0.0.0:80"}],
        "livenessProbe": probe("/alive"), "readinessProbe": probe("/ready"),
    });
    let mut spec = json!({"serviceAccountName": "orders", "automountServiceAccountToken": false});
    if let Some(linux) = executor["spinImage"].as_str() {
        container["image"] = json!(linux);
        container["command"] = json!(["spin", "up", "--listen", "0.0.0.0:80", "-f", image("spin")]);
    }
    if let Some(class) = executor["runtimeClassName"].as_str() {
        spec["runtimeClassName"] = json!(class);
    }
    spec["containers"] = json!([container]);
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"core.spinkube.dev/app-name": name}},
            "template": {"metadata": {"labels": labels}, "spec": spec}}})
}

fn pod_of(namespace: &str, name: &str) -> Value {
    let cluster = CLUSTER.get();
    let selector = format!("--selector=core.spinkube.dev/app-name={name}");
    cluster.plane.wait_for("the pod that the operator's Deployment makes", || {
        cluster.plane.list(&["pods", "--namespace", namespace, &selector]).into_iter().next()
    })
}

#[test]
fn the_pods_that_the_operator_makes_pass_unharmed() {
    let cluster = CLUSTER.get();
    let made = deployment("web", GRANTED, &json!({"runtimeClassName": "wasmtime-spin-v2"}));
    let said = cluster.plane.apply(&made, &[]);
    assert_eq!(said.stderr, "");
    said.ok();
    let stored = cluster.plane.get(&["deployment", "web", "--namespace", GRANTED]);
    let template = &stored["spec"]["template"];
    let pod = pod_of(GRANTED, "web");
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime-spin-v2");
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    for (key, value) in template["metadata"]["labels"].as_object().unwrap() {
        assert_eq!(labels.get(key), Some(value), "{key}");
    }
    // Nothing but the digest and the size differs in the container.
    let (mut ours, mut theirs) =
        (pod["spec"]["containers"][0].clone(), template["spec"]["containers"][0].clone());
    assert!(first_image(&pod).starts_with(&format!("{}@sha256:", image("spin"))));
    let sized = &ours["resources"];
    assert!(sized["limits"]["memory"].is_string() && sized["requests"]["cpu"].is_string(), "{sized}");
    for container in [&mut ours, &mut theirs] {
        container.as_object_mut().unwrap().retain(|key, _| key != "image" && key != "resources");
    }
    assert_eq!(ours, theirs);
    let changed = pod["metadata"]["annotations"]["wasmgate.dev/changed"].as_str().unwrap();
    let mut changes: Vec<&str> = changed.split(',').collect();
    changes.sort_unstable();
    assert_eq!(changes, ["affinity", "image/web", "resources/web"]);
    let ready = cluster.kubectl(GRANTED, &["rollout", "history", "deployment/web"]).ok();
    assert!(!ready.contains("  2 "), "the Deployment is left as the operator wrote it: {ready}");
}

#[test]
fn an_operator_that_starts_spin_in_a_linux_image_is_left_alone() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("spintainer");
    cluster.kubectl(&namespace, &["create", "serviceaccount", "orders"]).ok();
    let executor = json!({"apiVersion": "core.spinkube.dev/v1alpha1", "kind": "SpinAppExecutor",
        "metadata": {"name": "spintainer", "namespace": namespace},
        "spec": {"createDeployment": true, "deploymentConfig": {"spinImage": image("linux"), "installDefaultCACerts": true}}});
    cluster.plane.apply(&executor, &[]).ok();
    let made = deployment("web", &namespace, &executor["spec"]["deploymentConfig"]);
    let said = cluster.plane.apply(&made, &[]);
    assert_eq!(said.stderr, "");
    said.ok();
    let pod = pod_of(&namespace, "web");
    assert_eq!(first_image(&pod), image("linux"));
    assert!(pod["spec"]["runtimeClassName"].is_null() && pod["spec"]["affinity"].is_null());
    assert!(pod["metadata"]["annotations"].is_null());
    assert_eq!(pod["spec"]["containers"][0]["resources"], json!({}));
}
