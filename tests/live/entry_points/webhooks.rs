//! What happens around the gate's mutating webhook: another one that comes after it, none at all, or one that does not
//! answer.

use serde_json::{Value, json};

use super::cluster::{
    CLUSTER, FILES, UNANSWERED, UNMUTATED, assert_denied, first_image, handed_a_volume, image, plain,
};
use super::meddler::Meddler;

fn replace(path: &str, value: impl Into<Value>) -> Value {
    json!([{"op": "replace", "path": path, "value": value.into()}])
}

const IMAGE: &str = "/spec/containers/0/image";

#[test]
fn an_image_that_another_webhook_swaps_once_is_pinned_in_the_second_round() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("swapped-once");
    let meddler = Meddler::start(&namespace, "Never", |pod| match pod["metadata"]["name"].as_str() {
        Some("app") => replace(IMAGE, image("hello-v2")),
        Some("ungranted") => replace(IMAGE, image("dns")),
        _ => json!([]),
    });
    let pod = cluster.pod(&namespace, "app", plain("hello"));
    assert!(
        first_image(&pod).starts_with(&format!("{}@sha256:", image("hello-v2"))),
        "{}",
        first_image(&pod)
    );
    // It came after the gate, so it saw the pinned image.
    let asked = meddler.asked_about("app");
    assert!(first_image(&asked[0]).starts_with(&format!("{}@sha256:", image("hello"))));
    let mut other = plain("hello");
    other["metadata"]["name"] = json!("ungranted");
    assert_denied(cluster.plane.create(&other, &["--namespace", &namespace]), "needs-grant");
}

#[test]
fn a_linux_pod_that_another_webhook_makes_wasm_is_placed_and_judged() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("made-wasm");
    let _meddler = Meddler::start(&namespace, "Never", |pod| match pod["metadata"]["name"].as_str() {
        Some("app") => replace(IMAGE, image("hello")),
        _ => json!([]),
    });
    let pod = cluster.pod(&namespace, "app", plain("linux"));
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime");
    assert!(first_image(&pod).contains("@sha256:"));
}

#[test]
fn a_webhook_that_has_the_last_word_is_caught_by_the_validating_one() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("last-word");
    let _meddler = Meddler::start(&namespace, "IfNeeded", |pod| match pod["metadata"]["name"].as_str() {
        // Whatever the gate pins, the other webhook restores the tag.
        Some("unpinned") => replace(IMAGE, image("hello")),
        Some("unplaced") => json!([{"op": "remove", "path": "/spec/runtimeClassName"}]),
        Some("misplaced") => replace("/spec/runtimeClassName", "kata"),
        Some("swapped") => replace(IMAGE, image("dns")),
        _ => json!([]),
    });
    let refused = |name: &str, rule: &str| {
        let mut pod = plain("hello");
        pod["metadata"]["name"] = json!(name);
        assert_denied(cluster.plane.create(&pod, &["--namespace", &namespace]), rule);
    };
    refused("unpinned", "tag-not-pinned");
    refused("unplaced", "runtime-mismatch");
    refused("misplaced", "runtime-mismatch");
    refused("swapped", "needs-grant");
}

#[test]
fn a_reinvocation_caused_by_another_webhook_changes_nothing_of_ours() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("reinvoked");
    let alone = cluster.pod(&namespace, "app", plain("hello"));
    let other = cluster.namespace("reinvoked");
    let meddler = Meddler::start(&other, "IfNeeded", |pod| {
        if pod["metadata"]["labels"]["meddled"] == "yes" || pod["metadata"]["name"] != "app" {
            return json!([]);
        }
        json!([{"op": "add", "path": "/metadata/labels", "value": {"meddled": "yes"}}])
    });
    let together = cluster.pod(&other, "app", plain("hello"));
    assert_eq!(meddler.asked_about("app").len(), 1, "nothing changed after it, so it is asked once");
    assert_eq!(together["spec"], alone["spec"]);
    assert_eq!(together["metadata"]["annotations"], alone["metadata"]["annotations"]);
    assert_eq!(together["metadata"]["labels"], json!({"meddled": "yes"}));
}

/// The message of the validating webhook if the mutating one did nothing.
fn assert_that_only_a_complete_pod_gets_in(namespace: &str) {
    let cluster = CLUSTER.get();
    let create = |pod: &Value| cluster.plane.create(pod, &["--namespace", namespace]);
    let said = assert_denied(create(&plain("hello")), "runtime-mismatch");
    assert!(said.contains("see its `failurePolicy`, `namespaceSelector` and `reinvocationPolicy`"), "{said}");
    let mut pod = plain("hello");
    pod["spec"]["runtimeClassName"] = json!("wasmtime");
    assert_denied(create(&pod), "tag-not-pinned");
    let mut files = handed_a_volume(&image(FILES));
    files["spec"]["runtimeClassName"] = json!("wasmtime");
    assert_denied(create(&files), "needs-grant");
    // Everything that the gate would write, written by hand.
    let written = cluster.plane.create(&plain("hello"), &["--dry-run=server", "--namespace=default"]).json();
    pod["spec"]["containers"][0]["image"] = json!(first_image(&written));
    let said = create(&pod);
    assert_eq!(said.stderr, "");
    said.ok();
    let linux = create(&plain("linux"));
    assert_eq!(linux.stderr, "");
    assert_eq!(first_image(&linux.json()), image("linux"));
}

#[test]
fn without_the_mutating_webhook_no_wasm_pod_gets_in_unless_it_is_complete() {
    let _cluster = CLUSTER.get();
    assert_that_only_a_complete_pod_gets_in(UNMUTATED);
}

#[test]
fn a_mutating_webhook_that_does_not_answer_fails_open_and_the_pod_is_still_refused() {
    let cluster = CLUSTER.get();
    let config = cluster.gate.webhook_configurations();
    let mutating: Value = config
        .split("---\n")
        .map(|text| serde_saphyr::from_str::<Value>(text).unwrap())
        .find(|document| document["kind"] == "MutatingWebhookConfiguration")
        .unwrap();
    let mut unanswered = mutating;
    unanswered["metadata"]["name"] = json!("wasmgate-unanswered");
    let webhook = &mut unanswered["webhooks"][0];
    assert_eq!(webhook["failurePolicy"], "Ignore");
    webhook["name"] = json!("unanswered.wasmgate.dev");
    webhook["clientConfig"]["url"] = json!("https://127.0.0.1:1/mutate");
    webhook["timeoutSeconds"] = json!(2);
    webhook["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": UNANSWERED}});
    cluster.plane.apply(&unanswered, &[]).ok();
    cluster.plane.wait_for("the API server to call in vain and go on", || {
        let dry = ["--dry-run=server", "--namespace", UNANSWERED];
        let _ = cluster.plane.create(&plain("hello"), &dry);
        let metrics = cluster.plane.kubectl(&["get", "--raw=/metrics"]).ok();
        let failed_open = metrics.lines().any(|line| {
            line.starts_with("apiserver_admission_webhook_fail_open_count")
                && line.contains("\"unanswered.wasmgate.dev\"")
        });
        failed_open.then_some(())
    });
    assert_that_only_a_complete_pod_gets_in(UNANSWERED);
}
