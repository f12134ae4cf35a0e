//! Malformed input. Each gets a clear answer over TLS, with the uid if the gate can read it.

use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::cli::{Error, build};
use wasmgate::config::{self, Overrides};
use wasmgate::review::Webhook;

use crate::support::gate::{Flow, Request, Serving, Setup, defaulted, plain_pod, pod};
use crate::support::opa;

const WEBHOOKS: [Webhook; 2] = [Webhook::Mutate, Webhook::Validate];
const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

/// Sends a body to both webhooks. The validating one must refuse it with the code 400, this uid and text; the mutating one refuses nothing, and says the text.
async fn unreadable(server: &mut Serving, body: &str, uid: &str, text: &str) {
    for webhook in WEBHOOKS {
        let answer =
            tokio::time::timeout(Duration::from_secs(10), server.post(webhook, body.to_string())).await;
        let answer = answer.expect("it hangs");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let review = answer.json();
        assert_eq!(review["kind"], "AdmissionReview");
        let response = &review["response"];
        let is_allowed = webhook == Webhook::Mutate;
        assert_eq!((&response["uid"], &response["allowed"]), (&json!(uid), &json!(is_allowed)), "{review}");
        let said = if is_allowed { &response["warnings"][0] } else { &response["status"]["message"] };
        let message = said.as_str().unwrap();
        assert!(message.contains(text), "{message}");
        assert!(!message.contains("::") && !message.contains("src/"), "{message}");
        assert!(is_allowed || response["status"]["code"] == 400, "{review}");
    }
}

fn review(change: impl FnOnce(&mut Value)) -> String {
    let mut request = Request::create("shop", defaulted(&plain_pod("hello"), "shop", ""));
    request.uid = UID.into();
    let mut review: Value = serde_json::from_str(&request.to_body()).unwrap();
    change(&mut review);
    review.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_review_is_refused_by_the_validating_webhook_alone_with_the_reason_and_its_uid() {
    let flow = Flow::new(&Setup::default()).await;
    let mut server = flow.serve().await;
    let server = &mut server;
    for (body, text) in [
        ("", "it is empty; send an AdmissionReview as JSON"),
        ("kind: AdmissionReview", "it is not JSON"),
        ("\u{0}\u{1}", "it is not JSON"),
        ("{}", "AdmissionReview"),
        ("[]", "AdmissionReview"),
        (r#"{"kind":"Pod","apiVersion":"v1"}"#, "`kind` is `Pod`, it must be `AdmissionReview`"),
        (r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#, "it has no `request`"),
    ] {
        unreadable(server, body, "", text).await;
    }
    let beta = review(|review| review["apiVersion"] = json!("admission.k8s.io/v1beta1"));
    unreadable(server, &beta, UID, "`admission.k8s.io/v1beta1`").await;
    let nameless = review(|review| drop(review["request"].as_object_mut().unwrap().remove("uid")));
    unreadable(server, &nameless, "", "uid").await;
    let broken_off = review(|_| ());
    let half = broken_off.get(..broken_off.len() * 9 / 10).unwrap();
    // In a sorted object the uid is near the end; the API server writes it first.
    let request = Request { uid: UID.into(), ..Request::create("shop", plain_pod("hello")) };
    let body = request.to_body();
    unreadable(server, body.get(..body.len() / 2).unwrap(), UID, "it is not JSON").await;
    unreadable(server, half, "", "it is not JSON").await;
    let wrong_type = review(|review| review["request"]["operation"] = json!(7));
    unreadable(server, &wrong_type, UID, "expected a string").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_of_eight_mebibytes_is_let_through_by_one_webhook_and_refused_by_the_other_and_both_are_recorded()
 {
    let flow = Flow::new(&Setup::default()).await;
    let mut server = flow.serve().await;
    let mut wanted = plain_pod("hello");
    wanted["metadata"]["annotations"] = json!({"note": "x".repeat(8 << 20)});
    let request = Request { uid: UID.into(), ..Request::create("shop", wanted) };
    let body = request.to_body();
    let said = format!(
        "the review of {} bytes is larger than 7340032 bytes, so it was not examined; make the object smaller",
        body.len()
    );
    let changed = server.review(Webhook::Mutate, &request).await;
    assert_eq!(
        (&changed["uid"], &changed["allowed"], changed.get("patch")),
        (&json!(UID), &json!(true), None)
    );
    assert_eq!(changed["warnings"], json!([format!("wasmgate did not change this object: {said}")]));
    let judged = server.review(Webhook::Validate, &request).await;
    assert_eq!((&judged["uid"], &judged["allowed"]), (&json!(UID), &json!(false)), "it may be Wasm");
    assert_eq!(judged["status"]["code"], 413);
    assert_eq!(judged["status"]["message"], format!("wasmgate did not judge this object: {said}"));
    // The server is unaffected.
    let request = Request::create("shop", defaulted(&plain_pod("hello"), "shop", ""));
    assert_eq!(server.review(Webhook::Mutate, &request).await["allowed"], true);
    let records = flow.records();
    let large = records.get(..2).unwrap();
    let recorded: Vec<_> = large.iter().map(|record| &record["result"]["allowed"]).collect();
    assert_eq!(recorded, [&json!(true), &json!(false)]);
    for record in large {
        assert_eq!(
            (&record["custom"]["request_uid"], &record["error"]["code"]),
            (&json!(UID), &json!("too-large"))
        );
        assert_eq!(record["error"]["message"], said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_subresources_without_a_pod_are_let_through_with_a_hint() {
    let flow = Flow::new(&Setup::default()).await;
    let mut server = flow.serve().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}});
    for webhook in WEBHOOKS {
        let response = server.review(webhook, &Request::create("shop", map.clone())).await;
        assert_eq!(response["allowed"], true);
        assert_eq!(response.get("patch"), None);
    }
    let response = server.review(Webhook::Validate, &Request::create("shop", map)).await;
    assert_eq!(
        response["warnings"],
        json!([
            "wasmgate did not judge ConfigMap `settings`: it does not know this kind; describe it under `workloads` of the \
                configuration, or leave it out of the webhook's rules"
        ])
    );
    for (api_version, kind) in [
        ("trainer.kubeflow.org/v1alpha1", "TrainJob"),
        ("serving.kserve.io/v1beta1", "InferenceService"),
        ("serving.kserve.io/v1alpha1", "ServingRuntime"),
    ] {
        let object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "model"}, "spec": {}});
        let response = server.review(Webhook::Validate, &Request::create("shop", object)).await;
        let said = format!(
            "wasmgate did not judge {kind} `model`: parts of its pods come from other objects; the pods are judged when they \
             are created"
        );
        assert_eq!((&response["allowed"], &response["warnings"]), (&json!(true), &json!([said])));
    }
    // `pods/exec` and the like carry an options object of another kind.
    let options =
        json!({"apiVersion": "v1", "kind": "PodExecOptions", "container": "app", "command": ["sh"]});
    let exec = Request {
        sub_resource: Some("exec".into()),
        operation: "CONNECT".into(),
        ..Request::create("shop", options)
    };
    assert_eq!(server.review(Webhook::Validate, &exec).await["allowed"], true);
}

/// A Rollout that takes the template of a Deployment, a Service of Knative without one, and a kind whose description is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_a_template_where_its_kind_has_one_is_said_not_to_be_judged() {
    let configuration =
        "workloads: [{group: ray.io, kind: RayCluster, podTemplate: /spec/headGroup/template}]\n";
    let setup = Setup { configuration: configuration.into(), ..Setup::default() };
    let flow = Flow::new(&setup).await;
    let mut server = flow.serve().await;
    let template = json!({"spec": {"containers": [{"name": "app", "image": "images.test/hello:v1"}]}});
    for (api_version, kind, spec, at) in [
        (
            "argoproj.io/v1alpha1",
            "Rollout",
            json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}}),
            "/spec/template",
        ),
        ("serving.knative.dev/v1", "Service", json!({}), "/spec/template"),
        (
            "ray.io/v1",
            "RayCluster",
            json!({"headGroupSpec": {"template": template}}),
            "/spec/headGroup/template",
        ),
    ] {
        let object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "app"}, "spec": spec});
        let response = server.review(Webhook::Validate, &Request::create("shop", object)).await;
        let said = format!(
            "wasmgate did not judge {kind} `app`: it has no pod template at `{at}`, where its kind is described to have one; \
             correct `podTemplate` under `workloads` of the configuration if it is elsewhere; pods that are made of it are judged \
             when they are created"
        );
        assert_eq!((&response["allowed"], &response["warnings"]), (&json!(true), &json!([said])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_subresource_is_judged_by_the_pod_that_it_carries() {
    let flow = Flow::new(&Setup::default()).await;
    let mut server = flow.serve().await;
    let mut wanted = plain_pod("dns");
    wanted["spec"]["runtimeClassName"] = json!("wasmtime");
    let object = defaulted(&wanted, "shop", "");
    let mut request = Request::create("shop", object);
    request.sub_resource = Some("teleport".into());
    request.operation = "UPDATE".into();
    request.old_object = Some(defaulted(&plain_pod("linux"), "shop", ""));
    let response = server.review(Webhook::Validate, &request).await;
    assert_eq!(response["allowed"], false, "{response}");
    assert_eq!(server.review(Webhook::Mutate, &request).await.get("patch"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_fit_its_type_is_refused_only_on_a_wasm_runtime() {
    let flow = Flow::new(&Setup::default()).await;
    let mut server = flow.serve().await;
    let mut spec = json!({"runtimeClassName": "wasmtime", "containers": [{"name": "app", "image": 7}]});
    let request = Request::create("shop", pod(&spec));
    let response = server.review(Webhook::Validate, &request).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(400)));
    assert!(
        response["status"]["message"].as_str().unwrap().contains("`spec.containers[0].image`"),
        "{response}"
    );
    spec.as_object_mut().unwrap().remove("runtimeClassName");
    for webhook in WEBHOOKS {
        let response = server.review(webhook, &Request::create("shop", pod(&spec))).await;
        assert_eq!(response["allowed"], true);
        assert!(response["warnings"][0].as_str().unwrap().contains("left this object alone"), "{response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn image_problems_are_reported_where_they_matter() {
    let flow = Flow::new(&Setup::default()).await;
    let mut server = flow.serve().await;
    for (image, reason) in [
        ("images.test/UPPER:v1", "UPPER"),
        ("images.test/app@sha256:short", "sha256:short"),
        ("::", "`::`"),
        ("truncated", "could not be read"),
        ("images.test/../../etc:v1", ".."),
        ("images.test/gone:v1", "gone"),
    ] {
        let mut wanted = plain_pod(image);
        if !image.contains('/') && image != "truncated" {
            wanted["spec"]["containers"][0]["image"] = json!(image);
        }
        wanted["spec"]["runtimeClassName"] = json!("wasmtime");
        let response =
            server.review(Webhook::Validate, &Request::create("shop", defaulted(&wanted, "shop", ""))).await;
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("[not-inspected]") && message.contains(reason), "{image}: {response}");
    }
}

// === what is loaded before the gate serves ===

/// The error with which a gate with this configuration refuses to start.
async fn start_error(configuration: &str, overrides: Overrides) -> Error {
    let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    let file = config::parse("gate.yaml", &format!("{head}{configuration}")).unwrap();
    build::state(&config::resolve(file, overrides).unwrap()).await.unwrap_err()
}

#[tokio::test]
async fn a_grant_with_an_unknown_capability_is_reported_with_the_known_names() {
    let folder = tempfile::tempdir().unwrap();
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "orders", "namespace": "shop"}, "spec": {"capabilities": [{"name": "teleport"}]}});
    std::fs::write(folder.path().join("orders.yaml"), grant.to_string()).unwrap();
    let overrides = Overrides { grants: Some(folder.path().into()), ..Overrides::default() };
    let message = start_error("", overrides).await.to_string();
    for part in ["orders.yaml", "spec.capabilities[0].name", "teleport", "http.outbound"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn an_unusable_bundle_is_reported_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let other = opa::build(folder.path(), "other", "wasmgate/allow", "allow := true");
    let asks = "violations contains {\"rule\": \"a\", \"message\": \"b\"} if { http.send({\"method\": \"get\", \"url\": input.url}).status_code == 200 }";
    let asking = opa::build(folder.path(), "asking", "wasmgate/violations", asks);
    let text = folder.path().join("text.tar.gz");
    std::fs::write(&text, "no archive").unwrap();
    for (bundle, name, reason) in
        [(other, "other", "wasmgate/violations"), (asking, "asking", "http.send"), (text, "text", "")]
    {
        let overrides = Overrides { bundles: vec![bundle.display().to_string()], ..Overrides::default() };
        let message = start_error("", overrides).await.to_string();
        assert!(message.contains(name) && message.contains(reason), "{message}");
    }
}
