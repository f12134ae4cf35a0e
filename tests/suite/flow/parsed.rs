//! What a review takes of memory, for objects with many values of one kind: no more than is reserved for it before its object is parsed.

use std::time::Duration;

use allocation_counter::measure;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use wasmgate::review::Webhook;
use wasmgate::workload::{Kind, parsed_bytes};

use crate::support::gate::{Flow, Request, Setup, plain_pod};
use crate::support::oci::{ImageBuilder, fixtures};

/// What any review takes beside that: its body, and what is kept of its decision.
const BESIDE: u64 = 2 << 20;

const BUDGET: Duration = Duration::from_mins(2);

/// So many values of one kind in a pod. A vector of the longer ones is nearly full: what it has beyond its elements is not touched, and counted here.
type Shape = (&'static str, usize, fn(&mut Value, usize));

const SHAPES: [Shape; 11] = [
    ("nothing", 0, |_, _| {}),
    ("volumes", 4_000, |pod, n| pod["spec"]["volumes"] = list(n, |v| json!({"name": format!("v{v}")}))),
    ("volumes without a member", 4_000, |pod, n| pod["spec"]["volumes"] = list(n, |_| json!({}))),
    ("containers", 200, |pod, n| {
        let one = pod["spec"]["containers"][0].clone();
        let named = |number: usize| {
            let mut one = one.clone();
            one["name"] = format!("c{number}").into();
            one
        };
        pod["spec"]["containers"] = list(n, named);
    }),
    ("init containers without a member", 500, |pod, n| {
        pod["spec"]["initContainers"] = list(n, |_| json!({}));
    }),
    ("variables", 4_000, |pod, n| {
        pod["spec"]["containers"][0]["env"] = list(n, |v| json!({"name": format!("V{v}")}));
    }),
    ("mounts", 2_000, |pod, n| {
        pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        let mount = |number| json!({"name": "v", "mountPath": format!("/m{number}")});
        pod["spec"]["containers"][0]["volumeMounts"] = list(n, mount);
    }),
    ("mounts of a volume with a long path", 2_000, |pod, n| {
        let path = format!("/{}", "a".repeat(400));
        pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": path}}]);
        let mount = |number| json!({"name": "v", "mountPath": format!("/m{number}")});
        pod["spec"]["containers"][0]["volumeMounts"] = list(n, mount);
    }),
    ("arguments", 16_000, |pod, n| pod["spec"]["containers"][0]["args"] = list(n, |_| json!(""))),
    ("labels", 8_000, |pod, n| {
        for number in 0..n {
            pod["metadata"]["labels"][format!("l{number}")] = "".into();
        }
    }),
    ("objects that are not known", 8_000, |pod, n| pod["spec"]["x"] = list(n, |_| json!({"a": 0}))),
];

fn list(count: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..count).map(one).collect()
}

/// A Deployment of such pods.
fn deployment(pod: &Value) -> Value {
    let template = json!({"metadata": pod["metadata"], "spec": pod["spec"]});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": {"template": template}})
}

/// The most bytes that the thread of a review holds at a time.
fn taken(runtime: &Runtime, flow: &Flow, webhook: Webhook, object: &Value) -> u64 {
    taken_by(runtime, flow, webhook, &Request::create("shop", object.clone()).to_body())
}

fn taken_by(runtime: &Runtime, flow: &Flow, webhook: Webhook, body: &str) -> u64 {
    let mut answer = Vec::new();
    let review = || answer = runtime.block_on(flow.gate.review(webhook, body.as_bytes(), BUDGET));
    let taken = measure(review).bytes_max;
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("MiB of memory") && !answer.contains("add replicas"), "{answer}");
    taken
}

#[test]
fn a_review_takes_no_more_memory_than_is_reserved_for_it() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let flow = runtime.block_on(Flow::new(&Setup::default()));
    let mut plain = plain_pod("hello");
    plain["spec"]["runtimeClassName"] = "wasmtime".into();
    let (mut wrong, mut most) = (Vec::new(), 0);
    for (what, count, fill) in SHAPES {
        let mut pod = plain.clone();
        fill(&mut pod, count);
        for (webhook, kind, object) in [
            (Webhook::Validate, Kind::Pod, pod.clone()),
            (Webhook::Mutate, Kind::Pod, pod.clone()),
            (Webhook::Validate, Kind::Deployment, deployment(&pod)),
        ] {
            let taken = taken(&runtime, &flow, webhook, &object);
            let reserved = parsed_bytes(&object.to_string(), kind) as u64;
            println!("{what:<34} {webhook:?} {kind:?}: {taken:>10} bytes of {reserved:>10}");
            most = most.max(taken);
            // Before the first one nothing is known of the image.
            if count > 0 && taken > reserved + BESIDE {
                wrong.push(format!("{what}, {webhook:?} {kind:?}: {taken} of {reserved}"));
            }
        }
    }
    assert!(most > 8 << 20, "{most}");
    assert_eq!(wrong, Vec::<String>::new());
}

/// Groups of three bytes each, of which every one would take a hundred as a text of its own.
#[test]
fn the_groups_of_a_user_take_no_more_memory_than_is_reserved_for_them() {
    const COUNT: usize = 100_000;
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let flow = runtime.block_on(Flow::new(&Setup::default()));
    let groups = format!(r#""groups":[{}]"#, vec![r#""""#; COUNT].join(","));
    let mut pod = plain_pod("hello");
    pod["spec"]["runtimeClassName"] = "wasmtime".into();
    let body = Request::create("shop", pod.clone()).to_body();
    let many = body.replace(r#""groups":["team-a","system:authenticated"]"#, &groups);
    assert!(many.len() > body.len() + 2 * COUNT, "the body has no such groups: {body}");
    for webhook in [Webhook::Validate, Webhook::Mutate] {
        // Before the first one nothing is known of the image.
        taken_by(&runtime, &flow, webhook, &body);
        let reserved = parsed_bytes(&pod.to_string(), Kind::Pod) + 6 * groups.len();
        let taken = taken_by(&runtime, &flow, webhook, &many);
        assert!(taken <= reserved as u64 + BESIDE, "{webhook:?}: {taken} of {reserved}");
    }
}

/// Names of variables that take some twelve megabytes in the input of the rules, which the mutating webhook does not make.
#[tokio::test]
async fn a_pod_whose_image_brings_more_than_a_review_gets_is_changed_without_memory_for_it_and_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    let mut image = ImageBuilder::runwasi(&fixtures::command(), "app.wasm");
    let long = "V".repeat(4_000);
    image.set("Env", (0..300).map(|number| json!(format!("{long}{number}=x"))).collect());
    image.build().write_layout(&folder.path().join("app"), "v1").unwrap();
    let configuration = format!("images: {{layouts: {{brought.test: {}}}}}\n", folder.path().display());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let (pod, mutate, validate) = flow.admit("shop", &plain_pod("brought.test/app:v1")).await;
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime", "{mutate}");
    assert!(!mutate.to_string().contains("MiB of memory"), "{mutate}");
    assert_eq!(validate["status"]["code"], 413, "{validate}");
    let said = validate["status"]["message"].as_str().unwrap_or_default();
    assert!(
        said.contains("what its images hand over and ask for") && said.contains("8 MiB of memory"),
        "{said}"
    );
}
