//! The golden rows of `src/runtime/golden.rs` on the runtimes of a real node: the same images and pods, and what really starts
//! of them. The gate does not see these pods; what it says of them is in the rows. Where it cannot tell what starts, what was seen before
//! is in `tests/fixtures/seen`, so that a runtime that begins to do something else is noticed. `WASMGATE_WRITE_GOLDEN=1` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{SITE, Site, crun, platform, youki};
use crate::support::oci::{Image, ImageBuilder, fixtures};
use crate::support::process::{ask_patiently, root};

/// No webhook is asked about pods of this namespace.
pub(super) const UNSEEN: &str = "kube-system";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    why: String,
    shape: String,
    indexed: bool,
    files: Vec<String>,
    command: String,
    working_dir: String,
    mount: String,
    /// Of the container, where it is not root.
    user: Option<u32>,
    /// Files that this user may execute and not read, and folders, with a slash at the end, that it may not enter.
    closed: Vec<String>,
    /// What the gate says, by the runtime's name in a profile.
    starts: BTreeMap<String, String>,
}

/// What the gate says where it cannot tell what starts.
const UNKNOWN: &str = "?";

impl Row {
    /// No other row has it.
    fn key(&self) -> String {
        format!("{}: {}", self.command, self.why)
    }
}

/// How the rows are put to a runtime.
pub(super) struct Setting {
    /// Part of the pods' and the images' names, and the name of the file of what was seen.
    pub name: &'static str,
    /// The runtime's name in a profile, and the handler on the node.
    pub ambient: &'static str,
    pub class: &'static str,
    pub annotations: &'static [(&'static str, &'static str)],
    /// The mode bits of Wasm files.
    pub mode: u32,
    /// Whether what was seen is what the gate says, where it can tell.
    pub agrees: fn(&str, &str) -> bool,
}

const SHIM: Setting = Setting {
    name: "golden",
    ambient: "runwasi-wasmtime",
    class: "wasmtime",
    annotations: &[],
    mode: 0o755,
    agrees,
};

/// What was seen to start of rows of which the gate cannot tell that, by their keys.
type Seen = BTreeMap<String, String>;

fn seen_file(setting: &Setting) -> PathBuf {
    root().join(format!("tests/fixtures/seen/{}.json", setting.name))
}

/// What an earlier run has seen: nothing where none has written it.
fn seen_before(setting: &Setting) -> Seen {
    let written = fs::read_to_string(seen_file(setting));
    written.map_or_else(|_| Seen::new(), |text| serde_json::from_str(&text).unwrap())
}

fn write_seen(setting: &Setting, seen: &Seen) {
    let file = seen_file(setting);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, serde_json::to_string_pretty(seen).unwrap() + "\n").unwrap();
}

fn writes_seen() -> bool {
    std::env::var_os("WASMGATE_WRITE_GOLDEN").is_some_and(|value| value == "1")
}

/// What started, without the reason why nothing did, which the kubelet does not always give alike.
fn started(seen: &str) -> &str {
    if seen.starts_with("nothing") { "nothing" } else { seen }
}

fn rows() -> Vec<Row> {
    serde_json::from_str(include_str!("../../fixtures/golden.json")).unwrap()
}

/// A module that says where it was, and ends.
pub(super) fn module(place: &str) -> Vec<u8> {
    let line = format!("started {place}");
    let length = line.len() + 1;
    fixtures::wat(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "{line}\n")
            (func $say (export "_start") (export "main") (export "/main")
                (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const {length}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    ))
}

/// A program of this machine that says the same of itself.
pub(super) fn native() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("native.c"), folder.path().join("native"));
    let text = r#"#include <stdio.h>
#include <unistd.h>
int main(void) {
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    printf("started native %.*s\n", (int)length, path);
}"#;
    std::fs::write(&source, text).unwrap();
    let mut compiler = std::process::Command::new("cc");
    let compiled = compiler.args(["-Os", "-static", "-s", "-o"]).arg(&program).arg(&source).status().unwrap();
    assert!(compiled.success(), "cc makes no static program here");
    std::fs::read(program).unwrap()
}

/// A layer of the files of a row, in the form that the row writes them.
fn layer(row: &Row, native: &[u8], wasm_mode: u32) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for folder in row.closed.iter().filter(|closed| closed.ends_with('/')) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o700);
        header.set_size(0);
        archive.append_data(&mut header, folder.trim_start_matches('/'), std::io::empty()).unwrap();
    }
    for file in &row.files {
        let mut header = tar::Header::new_gnu();
        if let Some((path, target)) = file.split_once("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, path.trim_start_matches('/'), target).unwrap();
            continue;
        }
        let path = file.trim_end_matches(['!', '~', '?']);
        let is_closed = row.closed.iter().any(|closed| closed == path);
        let (mode, bytes) = match file.chars().last() {
            Some('!') if is_closed => (0o711, native.to_vec()),
            Some('!') => (0o755, native.to_vec()),
            Some('~') => (0o744, native.to_vec()),
            Some('?') => (0o755, b"text\n".to_vec()),
            _ => (wasm_mode, module(path)),
        };
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path.trim_start_matches('/'), bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn image(row: &Row, native: &[u8], wasm_mode: u32) -> Image {
    let layered = module("layers");
    let image = match row.shape.as_str() {
        "WasmArtifact" => ImageBuilder::wasm_artifact(&layered).build(),
        "RunwasiLayers" => ImageBuilder::runwasi(&layered, "app.wasm").build(),
        "SpinArtifact" => {
            let app = fixtures::locked_app(&[&layered], &json!({}));
            ImageBuilder::spin(&app, &[&layered]).build()
        }
        "Other" => ImageBuilder::new("application/vnd.example.config", json!({})).build(),
        _ => {
            let mut image = ImageBuilder::rootfs(platform(), &[]);
            image.layer("application/vnd.oci.image.layer.v1.tar", layer(row, native, wasm_mode));
            // What containerd gives a container whose image has none, and youki starts nothing native without.
            let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            image.set("Env", json!([path]));
            image.build()
        }
    };
    if row.indexed { Image::index(&[("wasip1/wasm", &image)]) } else { image }
}

fn pod(site: &Site, name: &str, row: &Row, setting: &Setting) -> Value {
    let command: Vec<&str> = row.command.split_whitespace().collect();
    let annotations: BTreeMap<_, _> = setting.annotations.iter().copied().collect();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": UNSEEN,
            "annotations": annotations},
        "spec": {"runtimeClassName": setting.class, "nodeName": site.node.name, "restartPolicy": "Never",
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": site.registry.image(&format!("{name}:1")),
                "workingDir": row.working_dir, "volumeMounts": [{"name": "v", "mountPath": row.mount}]}],
            "volumes": [{"name": "v", "emptyDir": {}}]}});
    if !command.is_empty() {
        pod["spec"]["containers"][0]["command"] = json!(command);
    }
    if let Some(user) = row.user {
        pod["spec"]["securityContext"] = json!({"runAsUser": user});
    }
    pod
}

/// What the container said, or why it never ran, once it is clear.
pub(super) fn outcome(site: &Site, name: &str) -> Option<String> {
    let pod = site.plane.get(&["pod", name, "--namespace", UNSEEN]);
    let state = &pod["status"]["containerStatuses"][0]["state"];
    if state["terminated"].is_object() {
        let said = site.plane.kubectl(&["logs", "--namespace", UNSEEN, name]).stdout;
        let started = said.lines().find_map(|line| line.strip_prefix("started "));
        let reason = state["terminated"]["reason"].as_str().unwrap_or_default();
        return Some(started.map_or(format!("nothing: {reason}"), String::from));
    }
    let waiting = state["waiting"]["reason"].as_str()?;
    let settled =
        ["ErrImagePull", "ImagePullBackOff", "CreateContainerError", "RunContainerError", "InvalidImageName"];
    settled.contains(&waiting).then(|| format!("nothing: {waiting}"))
}

/// What a pod of layers ends with when the shim could not read them and found no file in their place.
///
/// It happens to one that is right: containerd-shim-wasm 1.0.1 takes a lease of one and the same name for whatever layer an
/// engine compiles (`src/containerd/client.rs`, `save_content`), so the later one of two that start at once gets none.
const LAYERS_NOT_READ: &str = "nothing: StartError";

/// How many pods are applied by one `kubectl`.
const TOGETHER: usize = 8;

/// How often such a pod is started again, as the kubelet would start one of a Deployment.
const STARTS_AGAIN: usize = 4;

/// How often the end of a pod is waited for: with those of another test beside it, there are a hundred of which none has ended.
const WAITS: usize = 3;

/// The outcome of a row's pod.
fn end(site: &Site, name: &str, row: &Row) -> String {
    let seen = (0..WAITS).find_map(|_| ask_patiently(|| outcome(site, name)));
    seen.unwrap_or_else(|| panic!("{}: no end\n{}", row.why, site.story(UNSEEN)))
}

/// Whether that is what the gate says. What ends with `+` it refuses, because the shim is not able to run it.
fn agrees(said: &str, seen: &str) -> bool {
    match said {
        said if said.ends_with('+') => seen.starts_with("nothing"),
        "linux" => seen.starts_with("native "),
        said => seen == said,
    }
}

/// Whether what was seen is as it should be: what the gate says, or where it cannot tell, what was seen before, if anything was. A native
/// program that is closed to its user may start nothing.
fn is_right(setting: &Setting, row: &Row, before: &Seen, seen: &str) -> bool {
    match row.starts[setting.ambient].as_str() {
        UNKNOWN => before.get(&row.key()).is_none_or(|before| before == started(seen)),
        "linux" if !row.closed.is_empty() && seen.starts_with("nothing") => true,
        said => (setting.agrees)(said, seen),
    }
}

/// Starts every row under a runtime; returns what the gate says, what was seen, the command and why, by row, and asserts
/// that they agree.
pub(super) fn rows_agree(site: &Site, setting: &Setting) -> Vec<String> {
    let native = native();
    let rows = rows();
    let name = |number: usize| format!("{}-{number}", setting.name);
    let numbered: Vec<(usize, &Row)> = rows.iter().enumerate().collect();
    // Some pods at a time, so that the first run while the images of others are pushed.
    for some in numbered.chunks(TOGETHER) {
        let pods: Vec<Value> = some
            .iter()
            .map(|(number, row)| {
                site.push(&name(*number), &image(row, &native, setting.mode));
                pod(site, &name(*number), row, setting)
            })
            .collect();
        site.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods})).ok();
    }
    let before = if writes_seen() { Seen::new() } else { seen_before(setting) };
    let (mut lines, mut wrong, mut now) = (Vec::new(), Vec::new(), Seen::new());
    for (number, row) in rows.iter().enumerate() {
        let said = row.starts[setting.ambient].as_str();
        // What is written is not what comes of two that start at once.
        let is_written = said == UNKNOWN && writes_seen();
        let mut seen = end(site, &name(number), row);
        for again in 1..=STARTS_AGAIN {
            if seen != LAYERS_NOT_READ || (is_right(setting, row, &before, &seen) && !is_written) {
                break;
            }
            let name = format!("{}-again-{again}", name(number));
            site.push(&name, &image(row, &native, setting.mode));
            site.apply(&pod(site, &name, row, setting)).ok();
            seen = end(site, &name, row);
        }
        let said =
            before.get(&row.key()).map_or_else(|| said.to_string(), |before| format!("{said} {before}"));
        let line = format!("{said:<28} {seen:<28} {}", row.key());
        println!("{line}");
        if !is_right(setting, row, &before, &seen) {
            wrong.push(line.clone());
        }
        if row.starts[setting.ambient] == UNKNOWN {
            now.insert(row.key(), started(&seen).to_string());
        }
        lines.push(line);
    }
    if writes_seen() {
        write_seen(setting, &now);
    }
    let told = "said, seen, command and why of the rows that differ";
    assert_eq!(wrong, Vec::<String>::new(), "{told}\n{}", site.story(UNSEEN));
    lines
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn the_shim_starts_of_every_golden_row_what_the_gate_says_that_it_starts() {
    rows_agree(&SITE.get(), &SHIM);
}

/// Of a row of which the gate says what starts, that is what counts.
#[test]
fn what_was_seen_before_is_of_rows_of_which_the_gate_cannot_tell_what_starts() {
    let rows = rows();
    let keys: BTreeSet<String> = rows.iter().map(Row::key).collect();
    assert_eq!(keys.len(), rows.len(), "two rows have one key");
    let settings = [&SHIM, &crun::ASKED, &crun::SMART, &crun::PLAIN, &youki::ASKED, &youki::PLAIN];
    for setting in settings {
        let unknown: BTreeSet<String> =
            rows.iter().filter(|row| row.starts[setting.ambient] == UNKNOWN).map(Row::key).collect();
        let seen: BTreeSet<String> = seen_before(setting).into_keys().collect();
        let odd: Vec<&String> = seen.difference(&unknown).collect();
        assert!(odd.is_empty(), "{}: {odd:?}", seen_file(setting).display());
    }
    let names: BTreeSet<PathBuf> = settings.into_iter().map(seen_file).collect();
    let folder = root().join("tests/fixtures/seen");
    let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let odd: Vec<PathBuf> = files.filter(|file| !names.contains(file)).collect();
    assert!(odd.is_empty(), "of no setting: {odd:?}");
}

#[test]
fn something_else_than_was_seen_before_is_found_and_a_row_that_was_never_seen_passes() {
    let rows = rows();
    let row = rows.iter().find(|row| row.starts[SHIM.ambient] == UNKNOWN).unwrap();
    let before: Seen = [(row.key(), "/app.wasm".to_string())].into();
    let right = |before: &Seen, seen: &str| is_right(&SHIM, row, before, seen);
    assert!(
        right(&before, "/app.wasm")
            && !right(&before, "/evil.wasm")
            && !right(&before, "nothing: StartError")
    );
    assert!(right(&Seen::new(), "/evil.wasm"));
    let nothing: Seen = [(row.key(), "nothing".to_string())].into();
    assert!(right(&nothing, "nothing: RunContainerError") && !right(&nothing, "native /bin/sh"));
}
