//! Programs that need more than the functions of WASI that every runtime has, or more than a pool of the engine holds: what starts of
//! them on a real node, and what the gate refuses as `runtime-mismatch`.

use serde_json::{Value, json};

use super::golden::{UNSEEN, outcome};
use super::{SITE, Site, platform};
use crate::support::oci::{ImageBuilder, fixtures};
use crate::support::probes::{SHIM, explained};
use crate::support::process::ask_patiently;

/// A pod of these files, of which the first is the program, that asks for Wasm.
pub(super) fn pod_of(site: &Site, class: &str, name: &str, files: &[(&str, &[u8])]) -> Value {
    let mut image = ImageBuilder::rootfs(platform(), &[&format!("/{}", files[0].0)]);
    image.files(files);
    site.push(name, &image.build());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": UNSEEN,
            "annotations": {"run.oci.handler": "wasm"}},
        "spec": {"runtimeClassName": class, "nodeName": site.node.name, "restartPolicy": "Never",
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": site.registry.image(&format!("{name}:1"))}]}})
}

/// A module that says where it was, with one more import or another memory.
fn needing(import: &str, memory: &str, wasi: &str) -> Vec<u8> {
    program(import, memory, "", wasi)
}

/// The same with more memories or tables.
fn defining(more: &str) -> Vec<u8> {
    program("", "1", more, "wasi_snapshot_preview1")
}

fn program(import: &str, memory: &str, more: &str, wasi: &str) -> Vec<u8> {
    fixtures::wat(&format!(
        r#"(module {import}
            (import "{wasi}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") {memory}) {more}
            (data (i32.const 16) "started it\n")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 11))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    ))
}

/// What needs more than plain WASI, what is no module, what defines more memories, tables or elements than wasmtime's pool has for a
/// module, or just as many, and what uses proposals of WebAssembly.
fn unusual() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let wasi = "wasi_snapshot_preview1";
    let threads = r#"(import "wasi" "thread-spawn" (func (param i32) (result i32)))"#;
    let sockets = r#"(import "wasi_snapshot_preview1" "sock_open" (func (param i32 i32 i32) (result i32)))"#;
    let neural = r#"(import "wasi_ephemeral_nn" "load" (func (param i32 i32 i32 i32 i32) (result i32)))"#;
    let text = br#"(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "started it\n")
        (func (export "_start") (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 11))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    vec![
        ("plain", "app.wasm", needing("", "1", wasi)),
        ("unstable", "app.wasm", needing("", "1", "wasi_unstable")),
        ("threads", "app.wasm", needing(threads, "1", wasi)),
        ("shared", "app.wasm", needing("", "1 2 shared", wasi)),
        ("sockets", "app.wasm", needing(sockets, "1", wasi)),
        ("neural", "app.wasm", needing(neural, "1", wasi)),
        ("text", "app.wat", text.to_vec()),
        ("component", "app.wasm", fixtures::componentize(&needing("", "1", wasi))),
        ("memories", "app.wasm", defining("(memory 1)")),
        ("tables", "app.wasm", defining("(table 1 funcref) (table 1 funcref)")),
        ("large-table", "app.wasm", defining("(table 20001 funcref)")),
        ("full-table", "app.wasm", defining("(table 20000 funcref)")),
        ("exceptions", "app.wasm", defining("(tag (param i32))")),
        ("structs", "app.wasm", defining("(type (struct))")),
        ("references", "app.wasm", defining("(type $f (func)) (global (ref null $f) (ref.null $f))")),
        ("continuations", "app.wasm", defining("(type $f (func)) (type (cont $f))")),
        ("pages", "app.wasm", needing("", "65536 (pagesize 1)", wasi)),
        ("wide-table", "app.wasm", defining("(table i64 1 funcref)")),
    ]
}

/// Whether the gate says that the runtime cannot start it. It judges no pods of the namespace in which they run.
fn mismatched(site: &Site, pods: &[Value]) -> Vec<bool> {
    let folder = site.plane.home().path();
    let flags = [
        format!("--config={}", folder.join("gate/gate.yaml").display()),
        format!("--insecure-registry={}", site.registry.host),
    ];
    let mut judged = pods.to_vec();
    for pod in &mut judged {
        pod["metadata"]["namespace"] = json!("judged");
        pod["spec"].as_object_mut().unwrap().remove("nodeName");
    }
    let mismatch = |said: &Value| {
        let mut violations = said["violations"].as_array().into_iter().flatten();
        violations.any(|violation| violation["rule"] == "runtime-mismatch" && violation["enforced"] == "deny")
    };
    explained(folder, &judged, &flags).iter().map(mismatch).collect()
}

/// Runs each under a runtime: what does not start is refused as `runtime-mismatch`, and nothing else is.
pub(super) fn needs_agree(site: &Site, class: &str) {
    assert_eq!(
        needs_that_differ(site, class),
        Vec::<(String, bool)>::new(),
        "names, and whether it is refused"
    );
}

/// The programs of which the gate says another thing than they do under a runtime, each with whether it is refused.
pub(super) fn needs_that_differ(site: &Site, class: &str) -> Vec<(String, bool)> {
    let pods: Vec<Value> = unusual()
        .into_iter()
        .map(|(name, file, program)| pod_of(site, class, &format!("{name}-{class}"), &[(file, &program)]))
        .collect();
    let said = mismatched(site, &pods);
    for pod in &pods {
        site.apply(pod).ok();
    }
    let mut wrong = Vec::new();
    for (pod, mismatch) in pods.iter().zip(said) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let seen = ask_patiently(|| outcome(site, name)).unwrap_or_else(|| panic!("{}", site.story(UNSEEN)));
        println!("{name:<22} {:<10} {seen}", if mismatch { "mismatch" } else { "runs" });
        if mismatch == (seen == "it") {
            wrong.push((name.to_string(), mismatch));
        }
    }
    wrong
}

/// References to functions and memories of 64 bits depend on the engine's version: that of this shim is later than that of runwasi's release.
#[test]
#[ignore = "needs a real node: make test-node"]
fn of_programs_that_need_more_than_wasi_the_gate_refuses_two_that_this_shim_starts_and_says_of_the_others_what_they_do()
 {
    let differ = needs_that_differ(&SITE.get(), SHIM.class);
    let later = ["references", "wide-table"].map(|name| (format!("{name}-{}", SHIM.class), true));
    assert_eq!(differ, later);
}
