//! What is taken from pods because no grant covers it, on pods as the API server sends them: after its ServiceAccount plug-in,
//! with the list of what came with the request.

use serde_json::{Value, json};
use wasmgate::review::Webhook;

use crate::support::gate::{
    Flow, Request, Setup, defaulted, grant_documents, patch_of, patched, plug_ins, pod,
};

const NAMESPACE: &str = "shop";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn setup(grants: &[Value]) -> Setup {
    let mut all = vec![json!({"capabilities": [{"name": "native.exec"}]})];
    all.extend_from_slice(grants);
    Setup { grants: grant_documents(&all, NAMESPACE), ..Setup::default() }
}

fn opening_files(more: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "app", "image": "images.test/files:v1"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    pod(&spec)
}

fn received(pod: &Value) -> Value {
    plug_ins(&defaulted(pod, NAMESPACE, ""), NAMESPACE, &[])
}

/// The object after both rounds of mutation, and the verdict. The second round must change nothing.
async fn admitted(flow: &Flow, sent: Value) -> (Value, Value) {
    let mut request = Request::create(NAMESPACE, sent);
    let first = flow.send(Webhook::Mutate, &request).await;
    request.object = plug_ins(&patched(&request.object, &first), NAMESPACE, &[]);
    let second = flow.send(Webhook::Mutate, &request).await;
    assert_eq!(patch_of(&second), None, "{second}");
    assert_eq!(first["auditAnnotations"], second["auditAnnotations"]);
    let verdict = flow.send(Webhook::Validate, &request).await;
    (request.object, verdict)
}

fn has_token(pod: &Value) -> bool {
    pod.to_string().contains(TOKEN)
}

#[tokio::test]
async fn the_token_goes_from_every_container_and_the_rest_of_the_lists_stays() {
    let flow = Flow::new(&setup(&[json!({"capabilities": [{"name": "fs", "paths": ["/data"]}]})])).await;
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let container =
        |name: &str| json!({"name": name, "image": "images.test/files:v1", "volumeMounts": mounts});
    let sent = received(&opening_files(&json!({
        "containers": [container("app"), {"name": "quiet", "image": "images.test/hello:v1"}],
        "initContainers": [container("first")],
        "volumes": [{"name": "data", "emptyDir": {}}],
    })));
    assert!(has_token(&sent));
    let (pod, verdict) = admitted(&flow, sent.clone()).await;
    assert_eq!(verdict["allowed"], true, "{verdict}");
    assert!(!has_token(&pod), "{pod}");
    let spec = &pod["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["volumes"], json!([{"name": "data", "emptyDir": {}}]));
    assert_eq!(spec["containers"][0]["volumeMounts"], mounts);
    assert_eq!(spec["containers"][1].get("volumeMounts"), None);
    assert_eq!(spec["initContainers"][0]["volumeMounts"], mounts);
}

#[tokio::test]
async fn a_token_volume_that_came_with_the_request_is_a_persons_and_stays() {
    let flow = Flow::new(&setup(&[])).await;
    let ran = received(&opening_files(&json!({})));
    let copied = |managed: bool| {
        let mut copy = ran.clone();
        copy["metadata"].as_object_mut().unwrap().remove("managedFields");
        if managed { received(&copy) } else { copy }
    };
    // Without a list of what came with the request, it cannot be told.
    for managed in [true, false] {
        let sent = copied(managed);
        assert_eq!(sent.pointer("/metadata/managedFields").is_some(), managed);
        let mut request = Request::create(NAMESPACE, sent);
        let response = flow.send(Webhook::Mutate, &request).await;
        request.object = patched(&request.object, &response);
        assert!(has_token(&request.object), "{}", request.object);
        assert_eq!(request.object["spec"].get("automountServiceAccountToken"), None);
        let verdict = flow.send(Webhook::Validate, &request).await;
        assert_eq!(verdict["allowed"], false, "{verdict}");
    }
}

#[tokio::test]
async fn a_grant_for_one_container_keeps_the_token_for_the_pod() {
    let granted = json!({"subjects": {"images": ["images.test/files"]},
        "capabilities": [{"name": "fs", "paths": [TOKEN], "access": "read-only", "secrets": true}]});
    let flow = Flow::new(&setup(&[granted])).await;
    let (pod, verdict) = admitted(&flow, received(&opening_files(&json!({})))).await;
    assert_eq!((has_token(&pod), &verdict["allowed"]), (true, &json!(true)), "{verdict}");
    let two = opening_files(&json!({"containers": [
        {"name": "app", "image": "images.test/files:v1"}, {"name": "other", "image": "images.test/go:v1"},
    ]}));
    let (pod, verdict) = admitted(&flow, received(&two)).await;
    assert_eq!((has_token(&pod), &verdict["allowed"]), (true, &json!(false)), "{verdict}");
}

/// A grant by digest matches only after the image was pinned, which happens in the same call.
#[tokio::test]
async fn a_grant_for_a_digest_keeps_the_token_in_the_first_round_too() {
    let pinned = format!("images.test/files@{}", crate::support::images::digest("files"));
    let granted = json!({"subjects": {"images": [pinned]},
        "capabilities": [{"name": "fs", "paths": [TOKEN], "access": "read-only", "secrets": true}]});
    let flow = Flow::new(&setup(&[granted])).await;
    let (pod, verdict) = admitted(&flow, received(&opening_files(&json!({})))).await;
    assert_eq!((has_token(&pod), &verdict["allowed"]), (true, &json!(true)), "{verdict}");
}

#[tokio::test]
async fn a_program_that_opens_no_file_keeps_the_token_that_it_cannot_read() {
    let flow = Flow::new(&setup(&[])).await;
    for image in ["hello", "environment", "http-quiet"] {
        let (pod, verdict) = admitted(
            &flow,
            received(&pod(
                &json!({"containers": [{"name": "app", "image": format!("images.test/{image}:v1")}]}),
            )),
        )
        .await;
        assert!(has_token(&pod), "{image}: {pod} {verdict}");
    }
}

#[tokio::test]
async fn a_mount_becomes_read_only_only_for_the_container_whose_grant_says_so() {
    let reading = json!({"subjects": {"images": ["images.test/files"]},
        "capabilities": [{"name": "fs", "paths": ["/data"], "access": "read-only"}]});
    let writing = json!({"subjects": {"images": ["images.test/go"]}, "capabilities": [{"name": "fs", "paths": ["/data"]}]});
    let flow = Flow::new(&setup(&[reading, writing])).await;
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let sent = received(&opening_files(&json!({
        "automountServiceAccountToken": false,
        "containers": [
            {"name": "app", "image": "images.test/files:v1", "volumeMounts": mounts},
            {"name": "writer", "image": "images.test/go:v1", "volumeMounts": mounts},
            {"name": "logger", "image": "images.test/linux:v1", "volumeMounts": mounts},
        ],
        "volumes": [{"name": "data", "emptyDir": {}}],
    })));
    let (pod, verdict) = admitted(&flow, sent).await;
    assert_eq!(verdict["allowed"], true, "{verdict}");
    let read_only = |index: usize| pod["spec"]["containers"][index]["volumeMounts"][0]["readOnly"].clone();
    assert_eq!([read_only(0), read_only(1), read_only(2)], [json!(true), Value::Null, Value::Null]);
    assert_eq!(
        pod["metadata"]["annotations"]["wasmgate.dev/changed"]
            .as_str()
            .unwrap()
            .matches("readOnly/app")
            .count(),
        1
    );
}

#[tokio::test]
async fn the_author_of_a_template_is_told_that_its_pods_get_no_token() {
    let flow = Flow::new(&setup(&[])).await;
    let template =
        json!({"metadata": {"labels": {"app": "orders"}}, "spec": opening_files(&json!({}))["spec"]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"},
        "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": template}});
    let said = flow.send(Webhook::Validate, &Request::create(NAMESPACE, deployment)).await;
    assert_eq!(said["auditAnnotations"]["verdict"], "allow", "{said}");
    assert!(said["warnings"].to_string().contains("the service-account token is not mounted"), "{said}");
}
