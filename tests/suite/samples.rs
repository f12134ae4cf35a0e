//! The samples of `make run` and the README: this code generates the committed image layouts and reviews, and each
//! sample gets the verdict that its comment promises. `WASMGATE_WRITE_SAMPLES=1` writes them (`make samples`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use wasmgate::admission::Gate;
use wasmgate::audit::{DecisionLogOptions, DecisionLogOutput, Labels, Metrics, Sink};
use wasmgate::cli::args::{GateOptions, ImageOptions};
use wasmgate::cli::build;
use wasmgate::review::Webhook;

use crate::support::oci::{self, Image, ImageBuilder, fixtures};
use crate::support::policies;
use crate::support::probes::greeter;
use crate::support::process::root;

const AMPLE: Duration = Duration::from_secs(20);

fn samples() -> PathBuf {
    root().join("manifests/samples")
}

fn writing() -> bool {
    std::env::var_os("WASMGATE_WRITE_SAMPLES").is_some_and(|value| value == "1")
}

/// Assembles a program of `manifests/samples/programs`.
fn program(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(samples().join(format!("programs/{name}.wat"))).unwrap();
    wat::parse_str(text).unwrap()
}

/// A root file system in one layer; uncompressed, so that its bytes do not depend on a compressor's version.
fn rootfs(entrypoint: &str, program: &[u8]) -> Image {
    let mut builder = ImageBuilder::rootfs("linux/amd64", &[entrypoint]);
    let layer = oci::tar_of(&[(entrypoint, program)]);
    builder.set_config("rootfs", json!({"type": "layers", "diff_ids": [oci::digest(&layer)]}));
    builder.layer(oci::TAR_LAYER, layer);
    builder.build()
}

/// The locked app that `spin registry push` writes: one component, reached by HTTP.
fn orders() -> Image {
    let module = program("orders");
    let locked = json!({
        "spin_lock_version": 0,
        "metadata": {"name": "orders", "version": "1.0.0", "trigger": {"type": "http"}},
        "triggers": [{"id": "trigger--api", "trigger_type": "http",
            "trigger_config": {"component": "api", "route": "/..."}}],
        "components": [{
            "id": "api",
            "metadata": {"allowed_outbound_hosts": ["https://payments.example.com"],
                "key_value_stores": ["default"]},
            "source": {"content_type": "application/wasm", "digest": oci::digest(&module)},
        }],
    });
    ImageBuilder::spin(&locked, &[&module]).build()
}

/// The first bytes of a Linux program, and nothing after them.
fn elf() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes
}

fn images() -> Vec<(&'static str, Image)> {
    vec![
        ("hello", ImageBuilder::wasm_artifact(&program("hello")).build()),
        (
            "component",
            ImageBuilder::runwasi(&fixtures::componentize(&program("hello")), "hello.wasm").build(),
        ),
        ("worker", ImageBuilder::wasm_artifact(&program("worker")).build()),
        (
            "worker-component",
            ImageBuilder::runwasi(&fixtures::componentize(&program("worker")), "worker.wasm").build(),
        ),
        ("greeter", ImageBuilder::wasm_artifact(&greeter("hello from an HTTP component\n")).build()),
        ("orders", orders()),
        ("files", rootfs("/files.wasm", &program("files"))),
        ("web", rootfs("/usr/bin/web", &elf())),
    ]
}

/// All images as layouts in a folder of their own.
fn layouts() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, image) in images() {
        image.write_layout(&folder.path().join(name), "1").unwrap();
    }
    folder
}

/// Every file below a folder, by its relative path.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(&next)
            .unwrap_or_else(|error| panic!("{}: {error}; run `make samples`", next.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_path_buf();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// The gate as `manifests/samples/run` starts it, with its images from `images`.
async fn gate(images: &Path) -> Gate {
    let off = DecisionLogOptions { output: DecisionLogOutput::Off, ..DecisionLogOptions::default() };
    Box::pin(gate_with(images, &off)).await
}

async fn gate_with(images: &Path, log: &DecisionLogOptions) -> Gate {
    let options = GateOptions {
        grants: Some(samples().join("grants")),
        images: ImageOptions {
            image_layouts: vec![format!("samples.example={}", images.display())],
            ..ImageOptions::default()
        },
        ..GateOptions::default()
    };
    let settings = build::settings(&options).unwrap();
    let metrics = Arc::new(Metrics::new());
    let sink = Sink::open(log, metrics.drops()).unwrap();
    let state = policies::state(&settings).await;
    let inspector = build::inspector(&settings).unwrap();
    Gate::new(state, inspector, sink, metrics, Labels::new("wasmgate-0", &log.labels))
}

async fn ask(gate: &Gate, webhook: Webhook, review: &Value) -> Value {
    let body = serde_json::to_vec(review).unwrap();
    let answer = gate.review(webhook, &body, AMPLE).await;
    serde_json::from_slice::<Value>(&answer).unwrap()["response"].take()
}

fn review(name: &str) -> Value {
    let text = fs::read(samples().join(format!("reviews/{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The review for the validating webhook: the same request with the patched object.
async fn mutated(gate: &Gate, name: &str) -> Value {
    let mut review = review(name);
    let answer = ask(gate, Webhook::Mutate, &review).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    let patch = answer["patch"].as_str().expect("a patch");
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(&mut review["request"]["object"], &patch).unwrap();
    review
}

#[test]
fn the_committed_images_are_what_the_code_makes() {
    for (name, image) in images() {
        let made = tempfile::tempdir().unwrap();
        image.write_layout(made.path(), "1").unwrap();
        let committed = samples().join("images").join(name);
        if writing() {
            if committed.exists() {
                fs::remove_dir_all(&committed).unwrap();
            }
            image.write_layout(&committed, "1").unwrap();
        }
        assert!(tree(made.path()) == tree(&committed), "images/{name} differs: run `make samples`");
    }
}

#[tokio::test]
async fn the_committed_mutated_reviews_are_what_the_gate_makes() {
    let folder = layouts();
    let gate = gate(folder.path()).await;
    for name in ["orders", "orders-everywhere"] {
        let made = format!("{}\n", mutated(&gate, name).await);
        let file = samples().join(format!("reviews/{name}.mutated.json"));
        if writing() {
            fs::write(&file, &made).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(made == committed, "reviews/{name}.mutated.json differs: run `make samples`");
    }
}

#[tokio::test]
async fn the_reviews_get_the_verdicts_that_the_samples_promise() {
    let folder = layouts();
    let gate = gate(folder.path()).await;

    let orders = ask(&gate, Webhook::Validate, &mutated(&gate, "orders").await).await;
    assert_eq!((&orders["allowed"], &orders["warnings"]), (&json!(true), &Value::Null), "{orders}");

    let denied = ask(&gate, Webhook::Validate, &mutated(&gate, "orders-everywhere").await).await;
    assert_eq!(denied["allowed"], false, "{denied}");
    assert_eq!(denied["status"]["code"], 403);
    let causes = denied["status"]["details"]["causes"].as_array().unwrap();
    assert!(causes.iter().all(|cause| cause["reason"] == "needs-grant"), "{causes:?}");
    let message = denied["status"]["message"].as_str().unwrap();
    assert!(message.contains("https://payments.example.com"), "{message}");

    for webhook in [Webhook::Mutate, Webhook::Validate] {
        let web = ask(&gate, webhook, &review("web")).await;
        assert_eq!((&web["allowed"], &web["patch"]), (&json!(true), &Value::Null), "{web}");
        assert_eq!(web["warnings"], Value::Null, "{web}");
    }
}

#[tokio::test]
async fn a_mutated_review_is_not_mutated_again() {
    let folder = layouts();
    let gate = gate(folder.path()).await;
    for name in ["orders", "orders-everywhere"] {
        let again = ask(&gate, Webhook::Mutate, &mutated(&gate, name).await).await;
        assert_eq!(again["patch"], Value::Null, "{name}: {again}");
    }
}

// === docs/decision-log.md ===

/// A pod that opens a mounted volume without a grant, as the API server sends it.
fn denied_review() -> Value {
    let files = images().into_iter().find(|(name, _)| *name == "files").unwrap().1;
    let folder = tempfile::tempdir().unwrap();
    files.write_layout(folder.path(), "1").unwrap();
    let index: Value = serde_json::from_slice(&fs::read(folder.path().join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_string();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop", "name": "files", "userInfo": {"username": "jane@example.com"},
            "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files", "namespace": "shop"},
                "spec": {
                    "runtimeClassName": "wasmtime", "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "files", "image": format!("samples.example/files:1@{digest}"),
                        "env": [{"name": "TOKEN", "value": "hunter2"}],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            },
        },
    })
}

/// The record that the gate writes about it.
async fn denied_record() -> Value {
    let folder = layouts();
    let file = folder.path().join("decisions.log");
    let log = DecisionLogOptions {
        output: DecisionLogOutput::File(file.clone()),
        labels: [("cluster".to_string(), "eu-1".to_string())].into(),
        ..DecisionLogOptions::default()
    };
    let gate = gate_with(folder.path(), &log).await;
    let answer = ask(&gate, Webhook::Validate, &denied_review()).await;
    assert_eq!(answer["allowed"], false, "{answer}");
    gate.sink().close(Duration::from_secs(5)).unwrap();
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[tokio::test]
async fn the_record_in_the_decision_log_page_is_one_that_the_gate_wrote() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decision-log.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("```json\n").unwrap();
    let (example, after) = rest.split_once("```").unwrap();
    let mut written = Box::pin(denied_record()).await;
    if writing() {
        let text = serde_json::to_string_pretty(&written).unwrap();
        fs::write(&path, format!("{before}```json\n{text}\n```{after}")).unwrap();
        return;
    }
    let mut documented: Value = serde_json::from_str(example).unwrap();
    for event in [&mut documented, &mut written] {
        // Replaces time, duration, and the checksum of the rules, which changes with each of them.
        assert!(event["bundles"]["baseline"]["revision"].take().is_string());
        for differs in ["decision_id", "timestamp"] {
            assert!(event[differs].take().is_string());
        }
        event["metrics"].as_object_mut().unwrap().values_mut().for_each(|time| *time = json!(0));
    }
    assert_eq!(documented, written, "run `make samples`");
}

// === docs/configuration.md ===

/// Every key below `path` with its default as JSON; `none` if there is none. A table whose keys a person chooses is one
/// value.
fn keys(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value.as_object().filter(|fields| !fields.is_empty() && path != "runtimes.placement") {
        Some(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                keys(&path, value, found);
            }
        }
        None if value.is_null() => drop(found.insert(path.to_string(), "none".into())),
        None => drop(found.insert(path.to_string(), format!("`{value}`"))),
    }
}

#[test]
fn the_configuration_page_has_every_key_with_its_default_and_no_other() {
    let mut expected = BTreeMap::new();
    let file = serde_json::to_value(wasmgate::config::File::default()).unwrap();
    keys("", &file, &mut expected);
    keys("runtimes.profiles[]", &file["runtimes"]["profiles"][0], &mut expected);
    expected.insert("runtimes.profiles".into(), "the built-in table".into());
    // A table that is absent unless a person writes it.
    let proxy = wasmgate::registry::ProxyOptions { url: String::new(), except: Vec::new() };
    keys("images.proxy", &serde_json::to_value(&proxy).unwrap(), &mut expected);
    expected.insert("images.proxy.url".into(), "must be written".into());
    let source = wasmgate::sources::BundleSource::of("");
    keys("policies.bundles[]", &serde_json::to_value(&source).unwrap(), &mut expected);
    expected.insert("policies.bundles[].from".into(), "must be written".into());
    let upload: wasmgate::audit::UploadOptions =
        serde_json::from_value(json!({"url": "", "spool": ""})).unwrap();
    keys("decisionLog.upload", &serde_json::to_value(&upload).unwrap(), &mut expected);
    for key in ["url", "spool"] {
        expected.insert(format!("decisionLog.upload.{key}"), "must be written".into());
    }
    let tracing: wasmgate::otlp::TracingOptions = serde_json::from_value(json!({"endpoint": ""})).unwrap();
    keys("tracing", &serde_json::to_value(&tracing).unwrap(), &mut expected);
    expected.insert("tracing.endpoint".into(), "must be written".into());
    let page = root().join("docs/configuration.md");
    let page = fs::read_to_string(page).unwrap();
    let mut found = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [key, default, meaning] = cells.as_slice() else { panic!("{line}") };
        assert!(meaning.len() > 10, "{line}");
        found.insert(key.trim_matches('`').to_string(), (*default).to_string());
    }
    assert_eq!(found, expected);
}

#[test]
fn every_duration_is_read_in_both_forms_that_the_page_names() {
    let file = serde_json::to_value(wasmgate::config::File::default()).unwrap();
    let mut defaults = BTreeMap::new();
    keys("", &file, &mut defaults);
    let is_time = |text: &str| text.parse::<jiff::SignedDuration>().is_ok();
    let times: Vec<&String> = defaults
        .iter()
        .filter(|(_, text)| is_time(text.trim_matches(['`', '"'])))
        .map(|(key, _)| key)
        .collect();
    assert!(times.len() > 15 && times.contains(&&"images.tagTtl".to_string()), "{times:?}");
    let read = |key: &str, text: &str| {
        let mut value = json!(text);
        for part in key.rsplit('.') {
            value = json!({ part: value });
        }
        value["apiVersion"] = json!("wasmgate.dev/v1alpha1");
        value["kind"] = json!("GateConfiguration");
        let file =
            wasmgate::config::parse("gate.yaml", &value.to_string()).unwrap_or_else(|e| panic!("{key}: {e}"));
        let mut found = BTreeMap::new();
        keys("", &serde_json::to_value(&file).unwrap(), &mut found);
        found[key].clone()
    };
    for key in times {
        assert_eq!(read(key, "1h30m"), read(key, "PT1H30M"), "{key}");
        assert_ne!(read(key, "1h30m"), defaults[key], "{key}");
    }
}
