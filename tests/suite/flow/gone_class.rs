//! A RuntimeClass that was deleted under pods that go on.

use serde_json::json;
use wasmgate::review::Webhook;

use crate::support::gate::{Flow, Request, Setup, defaulted, plain_pod};

#[tokio::test]
async fn a_denial_says_first_that_the_runtime_class_is_gone() {
    let kata = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"},
        "handler": "kata"});
    let flow = Flow::new(&Setup { cluster: vec![kata], ..Setup::default() }).await;
    let mut running = defaulted(&plain_pod("127.0.0.1:1/app:v1"), "shop", "");
    let mut ask = async |class: &str| {
        running["spec"]["runtimeClassName"] = json!(class);
        let mut changed = running.clone();
        changed["spec"]["containers"][0]["image"] = json!("127.0.0.1:1/app:v2");
        let update = Request {
            operation: "UPDATE".into(),
            old_object: Some(running.clone()),
            ..Request::create("shop", changed)
        };
        flow.send(Webhook::Validate, &update).await
    };
    for class in ["wasmtime", "fast"] {
        let refused = ask(class).await;
        assert_eq!(refused["allowed"], false, "{refused}");
        let message = refused["status"]["message"].as_str().unwrap();
        let first = format!(
            "Pod `shop/app` names RuntimeClass `{class}`, which the cluster is not known to have: create it, "
        );
        assert!(message.starts_with(&first), "{message}");
    }
    let other = ask("kata").await;
    assert_eq!(other["allowed"], true, "a class that is there is not spoken of: {other}");
}
