//! The decision record of a refusal that was sent over TLS.

use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::review::Webhook;

use crate::support::gate::{Flow, Request, Setup, defaulted, grant_documents, plain_pod, plug_ins, pod};
use crate::support::opa;

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_one_log_line_with_everything_but_the_secrets() {
    let flow = Flow::new(&Setup::default()).await;
    let mut server = flow.serve().await;
    let env = json!([{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "MODE", "value": "fast-lane"}]);
    let mut wanted = pod(&json!({"runtimeClassName": "wasmtime", "containers": [
        {"name": "app", "image": "images.test/files:v1", "env": env}]}));
    let applied = wanted.to_string();
    wanted["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
    let mut request = Request::create("shop", plug_ins(&defaulted(&wanted, "shop", ""), "shop", &[]));
    request.uid = "705ab4f5-6393-11e8-b7cc-42010a800002".into();
    let response = server.review(Webhook::Validate, &request).await;
    assert_eq!(response["allowed"], false);

    let records = flow.records();
    let text = Value::from(records.clone()).to_string();
    for secret in ["hunter2", "fast-lane", "f:containers"] {
        assert!(!text.contains(secret), "`{secret}` is in the record");
    }
    let [record] = records.as_slice() else { panic!("{} records", records.len()) };
    assert_eq!(record["path"], "wasmgate/validate");
    assert_eq!(record["labels"]["app"], "wasmgate");
    assert_eq!(record["custom"]["request_uid"], request.uid.as_str());
    assert_eq!(record["requested_by"], "jane");
    assert_eq!(record["decision_id"].as_str().unwrap().len(), 36);
    record["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let manifest =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/baseline/.manifest")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(record["bundles"]["baseline"]["revision"], manifest["revision"]);

    let input = &record["input"]["request"];
    assert_eq!(input["uid"], request.uid.as_str());
    assert_eq!(
        input["object"]["spec"]["containers"][0]["env"][0],
        json!({"name": "DB_PASSWORD", "value": "**REDACTED**"})
    );
    let masked = record["masked"].as_array().unwrap();
    assert!(masked.contains(&json!("/input/request/object/spec/containers/0/env/0/value")), "{masked:?}");
    assert!(record["erased"].to_string().contains("last-applied-configuration"));

    let result = &record["result"];
    assert_eq!((&result["allowed"], &result["action"]), (&json!(false), &json!("deny")));
    let causes = response["status"]["details"]["causes"].as_array().unwrap();
    let messages: Vec<&Value> =
        result["violations"].as_array().unwrap().iter().map(|v| &v["message"]).collect();
    assert_eq!(messages, causes.iter().map(|cause| &cause["message"]).collect::<Vec<_>>());
    assert!(
        result["violations"]
            .as_array()
            .unwrap()
            .iter()
            .all(|v| v["action"] == "deny" && v["container"] == "app")
    );
    let image = &result["images"][0];
    assert_eq!((&image["class"], &image["kind"]), (&json!("wasm"), &json!("module")));
    assert!(image["digest"].as_str().unwrap().starts_with("sha256:"));
    for timer in ["timer_server_handler_ns", "timer_wasmgate_inspect_ns", "timer_wasmgate_judge_ns"] {
        assert!(record["metrics"][timer].as_u64().unwrap() > 0, "{timer}: {}", record["metrics"]);
    }
}

#[tokio::test]
async fn both_rounds_and_both_webhooks_annotate_the_same_images() {
    let grants = grant_documents(&[json!({"capabilities": [{"name": "native.exec"}]})], "shop");
    let flow = Flow::new(&Setup { grants, ..Setup::default() }).await;
    let wanted = pod(&json!({"automountServiceAccountToken": false, "containers": [
        {"name": "app", "image": "images.test/buildx:v1"}, {"name": "side", "image": "images.test/linux:v1"}]}));
    let (object, first, validate) = flow.admit("shop", &wanted).await;
    let second = flow.send(Webhook::Mutate, &Request::create("shop", object)).await;
    assert_eq!(first["auditAnnotations"], second["auditAnnotations"]);
    assert_eq!(first["auditAnnotations"]["images"], validate["auditAnnotations"]["images"]);
    assert_eq!(validate["auditAnnotations"]["rules"], "image-not-pullable,mixed-pod");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_exceeds_its_budget_is_refused_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = opa::build(folder.path(), "slow", "wasmgate/violations", opa::ENDLESS);
    let configuration = format!(
        "policies: {{timeLimit: 60s, fuelLimit: 1000000000000, baseline: false, bundles: [{}]}}\n",
        bundle.display()
    );
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    // The image is known when the late review comes, so the rules are what takes the time.
    let mut request = Request::create("shop", defaulted(&plain_pod("hello"), "shop", ""));
    request.object["spec"]["runtimeClassName"] = json!("wasmtime");
    flow.send(Webhook::Mutate, &request).await;
    let response = flow.send_within(Duration::from_millis(400), Webhook::Validate, &request).await;
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(500)),
        "{response}"
    );
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("within 400 ms") && message.contains("policies.timeLimit"), "{message}");
    let records = flow.records();
    let last = records.last().unwrap();
    assert_eq!((&last["result"]["action"], &last["error"]["code"]), (&json!("error"), &json!("time-out")));
    assert!(
        last.to_string().contains("took too long") && last.to_string().contains("images.test/hello"),
        "{last}"
    );
}

#[tokio::test]
async fn a_later_round_that_finds_more_annotates_under_keys_of_its_own() {
    let grants = grant_documents(&[json!({"capabilities": [{"name": "native.exec"}]})], "shop");
    let flow = Flow::new(&Setup { grants, ..Setup::default() }).await;
    let wanted = pod(&json!({"automountServiceAccountToken": false, "containers": [
        {"name": "app", "image": "images.test/buildx:v1"}]}));
    let (mut object, first, _) = flow.admit("shop", &wanted).await;
    // Meanwhile another webhook adds a container.
    let side = json!({"name": "side", "image": "images.test/buildx:v1"});
    object["spec"]["containers"].as_array_mut().unwrap().push(side);
    let second = flow.send(Webhook::Mutate, &Request::create("shop", object)).await;
    let (first, second) = (&first["auditAnnotations"], second["auditAnnotations"].as_object().unwrap());
    assert_eq!(second.keys().collect::<Vec<_>>(), ["changed-again", "images-again"]);
    assert!(second["images-again"].as_str().unwrap().starts_with(first["images"].as_str().unwrap()));
    assert_ne!(second["changed-again"], first["changed"]);
}

/// A violation that would deny the pods refuses no template, and its record does not say that it did.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_template_says_that_its_author_was_warned() {
    let grants = grant_documents(&[json!({"capabilities": [{"name": "native.exec"}]})], "shop");
    let flow = Flow::new(&Setup { grants, ..Setup::default() }).await;
    let spec = json!({"automountServiceAccountToken": true, "containers": [
        {"name": "app", "image": "images.test/files:v1"}]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"},
        "spec": {"selector": {"matchLabels": {"app": "orders"}},
            "template": {"metadata": {"labels": {"app": "orders"}}, "spec": spec}}});
    let said = flow.send(Webhook::Validate, &Request::create("shop", deployment)).await;
    assert_eq!(said["allowed"], true);
    assert!(said["warnings"].to_string().contains("will be denied by wasmgate"), "{said}");
    let (_, _, of_pod) = flow.admit("shop", &pod(&spec)).await;
    assert_eq!(of_pod["allowed"], false, "{of_pod}");

    let records = flow.records();
    let action = |record: &Value| {
        let mut violations = record["result"]["violations"].as_array().unwrap().iter();
        violations.find(|violation| violation["rule"] == "secret-in-reach").unwrap()["action"].clone()
    };
    let (template, admission) = (records.first().unwrap(), records.last().unwrap());
    assert_eq!(
        (&template["result"]["allowed"], &template["result"]["action"]),
        (&json!(true), &json!("warn"))
    );
    assert_eq!(action(template), "warn");
    assert_eq!(
        (&admission["result"]["allowed"], &admission["result"]["action"]),
        (&json!(false), &json!("deny"))
    );
    assert_eq!(action(admission), "deny");
}
