//! What images have used, as objects: the gate and an API server with the definition take the same.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::quantity::Quantity;
use wasmgate::usage::{LearnedSize, ONE, Record, UsageKey, UsageObject};

use crate::support::process::{program, root};

/// An object as the gate writes it.
fn written() -> (String, Value) {
    let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    let key = UsageKey { digest, runtime: "wasmtime".into() };
    let mut record = Record::new("2026-06-01T00:00:00Z".parse().unwrap());
    for sample in 0..40_u32 {
        record.add_cpu(Quantity::from_millis(i128::from(sample * 50)), ONE);
        record.add_peak(Quantity::mebibytes(sample * sample), ONE);
    }
    let size = LearnedSize { memory: Quantity::mebibytes(12), cpu: Quantity::from_millis(15) };
    assert_eq!(record.size(Duration::from_secs(1)), None);
    let mut object = serde_json::to_value(UsageObject::of(&key, &record, Some(size))).unwrap();
    object["apiVersion"] = json!("wasmgate.dev/v1alpha1");
    object["kind"] = json!("WasmUsage");
    object["metadata"] = json!({"name": key.object_name()});
    (key.object_name(), object)
}

fn changed(pointer: &str, value: Value) -> Value {
    let (_, mut object) = written();
    *object.pointer_mut(pointer).unwrap() = value;
    object
}

#[test]
fn the_definition_takes_what_the_gate_writes_and_refuses_what_it_does_not_read() {
    let (name, object) = written();
    let mut without_status = object.clone();
    without_status.as_object_mut().unwrap().remove("status");
    let mut objects = vec![(true, object), (true, without_status)];
    for (pointer, value) in [
        ("/spec/digest", json!("sha256:0")),
        ("/spec/runtime", json!("")),
        ("/status/observedSeconds", json!(-1)),
        ("/status/observedSeconds", json!(10 * 366 * 24 * 60 * 60 + 1)),
        ("/status/lastSeen", json!("yesterday")),
        ("/status/memory/total", json!(-1)),
        ("/status/cpu/buckets", json!({"1": 10_001})),
        ("/status/requests", json!({"memory": "1Mi"})),
    ] {
        objects.push((false, changed(pointer, value)));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |number: usize| -> PathBuf { folder.path().join(format!("{number}.json")) };
    for (number, (_, object)) in objects.iter().enumerate() {
        std::fs::write(path(number), object.to_string()).unwrap();
    }
    let checked = Command::new(program("crdcheck"))
        .arg(root().join("manifests/crds"))
        .args((0..objects.len()).map(path))
        .output()
        .unwrap();
    let lines = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{lines}");
    let accepted: BTreeSet<&str> = lines.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    for (number, (is_good, object)) in objects.into_iter().enumerate() {
        let said = object.to_string();
        let read = UsageObject::read(&name, object);
        assert_eq!(read.is_ok(), is_good, "the gate: {said}");
        assert_eq!(
            accepted.contains(path(number).to_str().unwrap()),
            is_good,
            "the definition: {said}\n{lines}"
        );
    }
}
