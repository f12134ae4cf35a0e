//! Every way to create a pod.

use serde_json::{Value, json};

use super::cluster::{CLUSTER, FILES, GRANTED, assert_denied, first_image, handed_a_volume, image, plain};

fn digest_of(pod: &Value) -> &str {
    first_image(pod).split_once('@').map_or("", |(_, digest)| digest)
}

/// Spec of a pod that the gate refuses because no grant covers the volume.
fn ungranted() -> Value {
    handed_a_volume(&image(FILES))["spec"].clone()
}

#[test]
fn a_pod_is_judged_whichever_list_its_image_is_in() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("lists");
    let wasm = ungranted()["containers"][0].clone();
    let container = |name: &str, mut container: Value| {
        container["name"] = json!(name);
        container
    };
    let linux = json!({"name": "app", "image": image("linux")});
    let mut init = ungranted();
    init["initContainers"] = json!([container("init", wasm.clone())]);
    init["containers"] = json!([linux]);
    let mut sidecar = init.clone();
    sidecar["initContainers"][0]["restartPolicy"] = json!("Always");
    let mut second = ungranted();
    second["containers"] = json!([linux, container("second", wasm)]);
    for (name, spec) in [("init", init), ("sidecar", sidecar), ("second", second)] {
        let mut pod = plain(FILES);
        pod["spec"] = spec;
        let text = assert_denied(cluster.plane.create(&pod, &["--namespace", &namespace]), "needs-grant");
        assert!(text.contains("`fs` on `/data`"), "{name}: {text}");
    }
}

#[test]
fn an_image_volume_is_pinned_with_the_pod_and_needs_no_runtime() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("image-volume");
    let mounting = |name: &str| {
        let mut pod = plain(name);
        pod["spec"]["volumes"] =
            json!([{"name": "code", "image": {"reference": image("hello"), "pullPolicy": "IfNotPresent"}}]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "code", "mountPath": "/data", "readOnly": true}]);
        pod
    };
    let linux = cluster.pod(&namespace, "linux", mounting("linux"));
    assert!(linux["spec"]["runtimeClassName"].is_null());
    assert_eq!(linux["spec"]["volumes"][0]["image"]["reference"], image("hello"));
    // In a container with a Wasm program it is a mount like any other, for which a grant is needed.
    let refused = cluster.plane.create(&mounting(FILES), &["--namespace", &namespace]);
    assert_denied(refused, "needs-grant");
    let mut pod = mounting(FILES);
    pod["spec"]["serviceAccountName"] = json!("orders");
    let wasm = cluster.pod(GRANTED, "image-volume", pod);
    let reference = wasm["spec"]["volumes"][0]["image"]["reference"].as_str().unwrap();
    assert!(reference.starts_with(&format!("{}@sha256:", image("hello"))), "{reference}");
}

#[test]
fn a_class_set_by_hand_is_kept_when_it_fits_and_refused_when_it_does_not() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("by-hand");
    let under = |class: &str, name: &str| {
        let mut pod = plain(name);
        pod["spec"]["runtimeClassName"] = json!(class);
        cluster.plane.create(&pod, &["--namespace", &namespace])
    };
    let right = under("wasmtime", "hello").json();
    assert_eq!(right["spec"]["runtimeClassName"], "wasmtime");
    assert!(digest_of(&right).starts_with("sha256:"));
    // Another name for the same handler of the node.
    let sneaky = under("sneaky", "hello").json();
    assert!(digest_of(&sneaky).starts_with("sha256:"));
    assert_denied(under("wasmtime-spin-v2", "hello"), "runtime-mismatch");
    assert_denied(under("kata", "hello"), "runtime-mismatch");
    let unknown = under("never-created", "hello").refused();
    assert!(unknown.contains("RuntimeClass \"never-created\" not found"), "{unknown}");
    let by_handler = |class: &str| {
        let mut pod = handed_a_volume(&image(FILES));
        pod["spec"]["runtimeClassName"] = json!(class);
        cluster.plane.create(&pod, &["--namespace", &namespace])
    };
    assert_denied(by_handler("wasmtime"), "needs-grant");
    assert_denied(by_handler("sneaky"), "needs-grant");
}

#[test]
fn no_label_or_annotation_can_claim_that_a_pod_was_judged() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("claims");
    let claims = json!({
        "wasmgate.dev/changed": "runtimeClassName,affinity,resources/app,image/app",
        "wasmgate.dev/verdict": "admit", "wasmgate.dev/enforce": "audit", "wasmgate.dev/skip": "true",
        "admission.wasmgate.dev/ignore": "true", "admission.gatekeeper.sh/ignore": "yes",
        "wasmgate.dev/exempt": "true", "control-plane": "controller-manager",
    });
    for place in ["labels", "annotations"] {
        let mut pod = handed_a_volume(&image(FILES));
        let mut claims = claims.clone();
        if place == "labels" {
            claims["wasmgate.dev/changed"] = json!("image");
        }
        pod["metadata"][place] = claims;
        assert_denied(cluster.plane.create(&pod, &["--namespace", &namespace]), "needs-grant");
    }
    let mut pod = plain("hello");
    pod["metadata"]["annotations"] = claims;
    let pod = cluster.pod(&namespace, "claims", pod);
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime", "and nothing is left undone");
    assert!(digest_of(&pod).starts_with("sha256:"));
}

#[test]
fn a_dry_run_gets_the_same_answer_and_leaves_nothing() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("dry");
    let dry = ["--dry-run=server", "--namespace", namespace.as_str()];
    let mut pod = plain("hello");
    pod["metadata"]["name"] = json!("dry");
    let tried = cluster.plane.create(&pod, &dry).json();
    assert_eq!(cluster.kubectl(&namespace, &["get", "pods", "--output=name"]).ok(), "");
    let made = cluster.pod(&namespace, "dry", pod);
    assert_eq!(tried["spec"], made["spec"]);
    assert_eq!(tried["metadata"]["annotations"], made["metadata"]["annotations"]);
    let mut refused = handed_a_volume(&image(FILES));
    refused["metadata"]["name"] = json!("refused");
    let tried = assert_denied(cluster.plane.create(&refused, &dry), "needs-grant");
    let for_real = assert_denied(cluster.plane.create(&refused, &["--namespace", &namespace]), "needs-grant");
    assert_eq!(tried, for_real);
    let of_this = |r: &Value| r["input"]["request"]["namespace"] == namespace.as_str();
    for dry in [true, false] {
        let wanted = |r: &Value| of_this(r) && r["input"]["request"]["dryRun"] == json!(dry);
        cluster.gate.wait_for_record(&format!("a request with `dryRun: {dry}`"), wanted);
    }
}

#[test]
fn generated_names_and_kubectl_run_are_judged_like_any_pod() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("names");
    let mut pod = handed_a_volume(&image(FILES));
    pod["metadata"] = json!({"generateName": "some-"});
    assert_denied(cluster.plane.create(&pod, &["--namespace", &namespace]), "needs-grant");
    let image = format!("--image={}", image("dns"));
    let run = [
        "run",
        "by-hand",
        &image,
        "--restart=Never",
        "--overrides={\"spec\":{\"automountServiceAccountToken\":false}}",
    ];
    assert_denied(cluster.kubectl(&namespace, &run), "needs-grant");
    let pod = cluster.plane.create(&plain("hello"), &["--namespace", &namespace]).json();
    assert!(pod["metadata"]["name"].as_str().unwrap().starts_with("app-"));
    assert!(digest_of(&pod).starts_with("sha256:"));
}

#[test]
fn a_pod_made_by_server_side_apply_is_changed_and_judged() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("applied");
    let apply = |mut pod: Value, name: &str| {
        pod["metadata"] = json!({"name": name, "namespace": namespace});
        cluster.plane.apply(&pod, &["--server-side"])
    };
    assert_denied(apply(handed_a_volume(&image(FILES)), "refused"), "needs-grant");
    apply(plain("hello"), "taken").ok();
    let pod = cluster.stored(&namespace, "taken");
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime");
    assert!(digest_of(&pod).starts_with("sha256:"));
    // A second apply restores the tag, which is a change of the image.
    assert_denied(apply(plain("hello"), "taken"), "tag-not-pinned");
    assert_eq!(cluster.stored(&namespace, "taken")["spec"], pod["spec"]);
}

#[test]
fn neither_server_nor_gate_admits_a_new_pod_with_an_ephemeral_container() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("ephemeral-first");
    let mut pod = plain("linux");
    pod["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": image("dns")}]);
    let text = cluster.plane.create(&pod, &["--namespace", &namespace]).refused();
    assert!(text.contains("denied the request") || text.contains("ephemeralContainers: Forbidden"), "{text}");
}

#[test]
fn a_forged_mirror_pod_never_runs_keeps_its_annotation_and_is_never_changed() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("mirror");
    let mut pod = plain(FILES);
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "forged"});
    let text = cluster.plane.create(&pod, &["--namespace", &namespace]).refused();
    assert!(text.contains("must set spec.nodeName if mirror pod annotation is set"), "{text}");
    // No kubelet starts a mirror of a static pod that it does not have, and the annotation cannot be removed again.
    pod["spec"]["nodeName"] = json!("linux");
    let stored = cluster.pod(&namespace, "forged", pod);
    assert_eq!(first_image(&stored), image(FILES));
    let unmark = ["annotate", "pod", "forged", "kubernetes.io/config.mirror-"];
    let text = cluster.kubectl(&namespace, &unmark).refused();
    assert!(text.contains("may not remove or update mirror pod annotation"), "{text}");
    let mark = ["annotate", "pod", "plain", "kubernetes.io/config.mirror=forged"];
    cluster.pod(&namespace, "plain", plain("hello"));
    let text = cluster.kubectl(&namespace, &mark).refused();
    assert!(text.contains("may not add mirror pod annotation"), "{text}");
}

/// Every kind that makes pods, each with the same pod in it.
fn templates(namespace: &str) -> Vec<Value> {
    let mut spec = ungranted();
    let template = |spec: &Value| json!({"metadata": {"labels": {"app": "entry-point"}}, "spec": spec});
    let object = |version: &str, kind: &str, spec: Value| {
        json!({"apiVersion": version, "kind": kind, "spec": spec,
            "metadata": {"name": format!("a-{}", kind.to_lowercase()), "namespace": namespace}})
    };
    let selected = json!({"selector": {"matchLabels": {"app": "entry-point"}}, "template": template(&spec)});
    let mut stateful = selected.clone();
    stateful["serviceName"] = json!("entry-point");
    let mut all: Vec<Value> = ["Deployment", "ReplicaSet", "DaemonSet"]
        .map(|kind| object("apps/v1", kind, selected.clone()))
        .into();
    all.push(object("apps/v1", "StatefulSet", stateful));
    let controller = json!({"selector": {"app": "entry-point"}, "template": template(&spec)});
    all.push(object("v1", "ReplicationController", controller));
    spec["restartPolicy"] = json!("Never");
    let job = json!({"backoffLimit": 0, "template": template(&spec)});
    all.push(object("batch/v1", "Job", job.clone()));
    let cron = json!({"schedule": "* * * * *", "jobTemplate": {"spec": job}});
    all.push(object("batch/v1", "CronJob", cron));
    let mut template_alone = object("v1", "PodTemplate", Value::Null);
    template_alone["template"] = template(&spec);
    template_alone.as_object_mut().unwrap().remove("spec");
    all.push(template_alone);
    all
}

#[test]
fn a_template_of_every_kind_warns_when_it_is_applied() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("templates");
    for object in templates(&namespace) {
        let kind = object["kind"].as_str().unwrap();
        let said = cluster.plane.apply(&object, &["--dry-run=server"]);
        let warning = format!("pods of this {kind} will be denied by wasmgate");
        assert!(
            said.stderr.contains(&warning) && said.stderr.contains("needs-grant"),
            "{kind}: {}",
            said.stderr
        );
        said.ok();
    }
}

#[test]
fn the_pods_of_every_controller_are_refused_with_the_reason_in_its_event() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("controllers");
    let objects = templates(&namespace);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    cluster.plane.apply(&list, &[]).ok();
    cluster.kubectl(&namespace, &["create", "job", "by-hand", "--from=cronjob/a-cronjob"]).ok();
    for kind in ["ReplicaSet", "DaemonSet", "StatefulSet", "ReplicationController", "Job"] {
        cluster.plane.wait_for(&format!("the event of the {kind}"), || {
            let events = cluster.plane.list(&["events", "--namespace", &namespace]);
            let of_kind = |e: &&Value| {
                e["involvedObject"]["kind"] == kind
                    && e["reason"] == "FailedCreate"
                    && e["message"].as_str().is_some_and(|text| text.contains("[needs-grant]"))
            };
            let found: Vec<_> = events.iter().filter(of_kind).collect();
            // The CronJob's pods come from a Job too; this one is created by hand in its name.
            let jobs = found.iter().any(|e| e["involvedObject"]["name"] == "by-hand");
            (!found.is_empty() && (kind != "Job" || jobs)).then_some(())
        });
    }
    assert_eq!(cluster.plane.list(&["pods", "--namespace", &namespace]), Vec::<Value>::new());
}
