//! The warning about an update whose new image can do more than the one before.

use serde_json::{Value, json};
use wasmgate::review::Webhook;

use crate::support::gate::{Flow, Request, Setup, grant_documents};
use crate::support::oci::{ImageBuilder, fixtures};

fn deployment(image: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": "1"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"automountServiceAccountToken": false, "containers": [
                {"name": "app", "image": format!("images.test/{image}:v1"), "args": ["x"]}]}}}})
}

/// The warnings about gained capabilities when one object takes the place of another.
async fn gained(flow: &Flow, old: Value, new: Value) -> Vec<String> {
    let mut request = Request::create("shop", new);
    request.operation = "UPDATE".into();
    request.old_object = Some(old);
    let answer = flow.send(Webhook::Validate, &request).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
    let texts = warnings.iter().filter_map(Value::as_str).map(str::to_owned);
    texts.filter(|text| text.contains("could not:")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_to_an_image_that_can_do_more_is_told_and_one_that_can_do_less_is_not() {
    let grants = grant_documents(&[json!({"capabilities": [{"name": "native.exec"}]})], "shop");
    let flow = Flow::new(&Setup { grants, ..Setup::default() }).await;
    let told = gained(&flow, deployment("hello", 1), deployment("files", 1)).await;
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert!(
        told.starts_with("container `app`: this image can do what `images.test/hello:v1@sha256:"),
        "{told}"
    );
    assert!(told.contains("`native.exec"), "{told}");
    assert!(told.contains("wasmgate diff"), "{told}");
    for (old, new) in [
        (deployment("files", 1), deployment("hello", 1)),
        (deployment("files", 1), deployment("files", 2)),
        (deployment("hello", 1), deployment("hello", 1)),
    ] {
        assert_eq!(gained(&flow, old, new).await, Vec::<String>::new());
    }
}

/// The names of containers and those of volumes are apart in Kubernetes, and usual ones are in both.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_an_image_that_is_called_like_the_container_hides_nothing_and_is_compared_with_nothing() {
    let grants = grant_documents(&[json!({"capabilities": [{"name": "native.exec"}]})], "shop");
    let flow = Flow::new(&Setup { grants, ..Setup::default() }).await;
    let with_volume = |image: &str, volume: &str| {
        let mut object = deployment(image, 1);
        let reference = format!("images.test/{volume}:v1");
        object["spec"]["template"]["spec"]["volumes"] =
            json!([{"name": "app", "image": {"reference": reference}}]);
        object
    };
    let told = gained(&flow, with_volume("hello", "hello"), with_volume("files", "hello")).await;
    assert!(matches!(told.as_slice(), [told] if told.contains("`native.exec")), "{told:?}");
    let told = gained(&flow, with_volume("files", "hello"), with_volume("files", "files")).await;
    assert_eq!(told, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_gone_is_compared_with_nothing() {
    let grants = grant_documents(&[json!({"capabilities": [{"name": "native.exec"}]})], "shop");
    let flow = Flow::new(&Setup { grants, ..Setup::default() }).await;
    let told = gained(&flow, deployment("gone", 1), deployment("files", 1)).await;
    assert_eq!(told, Vec::<String>::new());
}

/// What the rules would read of it takes memory that is reserved for reviews, for which advice does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_brought_more_than_is_counted_for_its_container_is_compared_with_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (name, variables) in [("few", 2), ("many", 200)] {
        let mut image = ImageBuilder::runwasi(&fixtures::command(), "app.wasm");
        image.set("Env", (0..variables).map(|number| json!(format!("V{number}=x"))).collect());
        image.build().write_layout(&folder.path().join(name), "v1").unwrap();
    }
    let configuration = format!("images: {{layouts: {{brought.test: {}}}}}\n", folder.path().display());
    let grants = grant_documents(&[json!({"capabilities": [{"name": "native.exec"}]})], "shop");
    let flow = Flow::new(&Setup { configuration, grants, ..Setup::default() }).await;
    for (name, is_told) in [("few", true), ("many", false)] {
        let mut old = deployment("hello", 1);
        old["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("brought.test/{name}:v1"));
        // Its image ran, so that it is known at once.
        flow.send(Webhook::Validate, &Request::create("shop", old.clone())).await;
        let told = gained(&flow, old, deployment("files", 1)).await;
        assert_eq!(told.iter().any(|told| told.contains("`native.exec")), is_told, "{name}: {told:?}");
    }
}

/// No class and no annotation tells, once the image is gone from the object.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_leaves_wasm_for_linux_is_told_under_another_name_too() {
    let flow = Flow::new(&Setup::default()).await;
    // Its image ran.
    flow.send(Webhook::Validate, &Request::create("shop", deployment("hello", 1))).await;
    let renamed = |image: &str| {
        let mut object = deployment(image, 1);
        object["spec"]["template"]["spec"]["containers"][0]["name"] = json!("web");
        object
    };
    for (new, name) in [(deployment("linux", 1), "app"), (renamed("linux"), "web")] {
        let told = gained(&flow, deployment("hello", 1), new).await;
        let [told] = told.as_slice() else { panic!("{told:?}") };
        let expected = format!(
            "container `{name}`: this image can do what `images.test/hello:v1` could not: `native.exec`"
        );
        assert!(told.starts_with(&expected), "{told}");
    }
    assert_eq!(gained(&flow, deployment("linux", 1), renamed("linux")).await, Vec::<String>::new());
    // Another container that was there already takes no place.
    let mut both = deployment("linux", 1);
    let mut second = both["spec"]["template"]["spec"]["containers"][0].clone();
    (second["name"], second["image"]) = (json!("job"), json!("images.test/hello:v1"));
    both["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(second);
    assert_eq!(gained(&flow, both, deployment("linux", 1)).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_update_of_a_linux_workload_nothing_is_said() {
    let flow = Flow::new(&Setup::default()).await;
    let told = gained(&flow, deployment("linux", 1), deployment("linux", 2)).await;
    assert_eq!(told, Vec::<String>::new());
}
