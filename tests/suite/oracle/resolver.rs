//! How the names of hosts resolve in a container: by the files that the kubelet and the image have, unless the gate counts every
//! name as any host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wasmgate::capability::{Capability, assess};
use wasmgate::image::entry::Start;
use wasmgate::image::{ImageFacts, Program};
use wasmgate::inspection;
use wasmgate::runtime::Family;
use wasmgate::workload::{self, Kind, Role};

use super::coverage::Outcome;
use super::gate::Gate;
use super::generate::resolver::{self, Mount, OF_VOLUMES, ResolverCase};
use super::handed::{container, profile};
use super::image::{Layout, digest, write_volume};
use super::node::{Answer, Node, Question};
use super::property::{Difference, Property};
use super::{forms, required};

/// The kubelet and the container runtime write these.
const WRITTEN: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];
/// These are the image's own.
const OWN: [&str; 2] = ["/etc/nsswitch.conf", "/etc/host.conf"];
/// What the node writes into the files of its own, that for messages apart.
const OF_NODE: [&[u8]; 3] = [b"file-hosts", b"file-resolv", b"file-hostname"];

#[test]
fn names_resolve_by_the_files_of_the_kubelet_or_count_as_any_host() {
    let property = Property {
        cases: 800,
        compare: compare_resolver,
        forms: forms::of_resolver,
        required: required::OF_RESOLVER,
    };
    property.hold(&resolver::case());
}

fn compare_resolver(node: &mut Node, case: &ResolverCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    Layout::write(&layout, &case.image);
    let asked = [WRITTEN, OWN].concat();
    let own = node.ask(&Question::about(&layout, &asked));
    let answer = node.ask(&Question {
        whole: true,
        mounts: case.mounts.iter().map(|mount| mount.path.to_string()).collect(),
        contents: contents(folder.path(), &case.mounts),
        sub_paths: case.mounts.iter().map(|mount| mount.sub_path.to_string()).collect(),
        termination_log: case.termination_log.into(),
        ..Question::about(&layout, &asked)
    });
    if answer.refused.is_some() {
        return Ok(Outcome::NodeRefuses);
    }
    let gate = Gate::inspect(&layout);
    if !gate.facts().is_some_and(|facts| keeps_names(facts, case)) {
        return Ok(Outcome::Refused);
    }
    match changed(&own, &answer) {
        None => Ok(Outcome::Same),
        Some(difference) => Err(format!("names count as they are, and {difference}")),
    }
}

/// The folders that volumes are copies of.
fn contents(folder: &Path, mounts: &[Mount]) -> Vec<PathBuf> {
    let write = |(number, mount): (usize, &Mount)| {
        let path = folder.join(format!("volume-{number}"));
        write_volume(&path, mount.link);
        for file in OF_VOLUMES {
            std::fs::write(path.join(file), "of a volume").unwrap();
        }
        path
    };
    mounts.iter().enumerate().map(write).collect()
}

/// A file that holds what neither the node nor the image has for it. Where one of the image's own is no file, a resolver does as it
/// does without.
fn changed(own: &Answer, answer: &Answer) -> Option<String> {
    let of_node: BTreeSet<String> = OF_NODE.into_iter().map(digest).collect();
    let is_changed = |file: &&str| {
        let found = &answer.files[*file];
        let is_own = found.kind != "file" || found.digest == own.files[*file].digest;
        !(of_node.contains(&found.digest) || (OWN.contains(file) && is_own))
    };
    let file = WRITTEN.iter().chain(&OWN).copied().find(is_changed)?;
    Some(format!("{file} is {:?}", answer.files[file]))
}

/// Whether the program is judged, and a host by name that its shim asks counts as it is written.
fn keeps_names(facts: &ImageFacts, case: &ResolverCase) -> bool {
    let workload = workload::read(&pod(case).to_string(), Kind::Pod, "shop").unwrap();
    let spec = workload.container(Role::Container, 0).unwrap();
    let mounts = inspection::mounts(&workload.spec, &spec, false);
    let command = ["/".to_string()];
    let start = Start { command: &command, mounts: &mounts, ..Start::default() };
    let program = Family::Spin.start(facts, &start);
    if !matches!(program, Program::Wasm { .. }) {
        return false;
    }
    let found = assess(&workload, &container(facts, program), Some(&profile(Family::Spin)));
    let outbound: Vec<String> = found
        .effective
        .iter()
        .filter(|entry| entry.capability == Capability::HttpOutbound)
        .map(|entry| entry.host.as_ref().unwrap().as_str().to_string())
        .collect();
    match outbound.as_slice() {
        [host] if host == "http://collector.example:4318" => true,
        [host] if host == "http://*:4318" => false,
        other => panic!("one host is asked: {other:?}"),
    }
}

/// The Spin shim asks the host of the variable, whatever the program does.
fn pod(case: &ResolverCase) -> Value {
    let numbered = || case.mounts.iter().enumerate();
    let volume = |(number, mount): (usize, &Mount)| {
        let name = format!("v{number}");
        match (mount.link, number % 2) {
            (None, _) => json!({"name": name, "configMap": {"name": "a"}}),
            (Some(_), 0) => json!({"name": name, "persistentVolumeClaim": {"claimName": "a"}}),
            (Some(_), _) => json!({"name": name, "image": {"reference": "b"}}),
        }
    };
    let mount = |(number, mount): (usize, &Mount)| json!({"name": format!("v{number}"), "mountPath": mount.path, "subPath": mount.sub_path});
    let container = json!({
        "name": "app", "image": "a", "command": ["/"], "terminationMessagePath": case.termination_log,
        "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector.example:4318"}],
        "volumeMounts": numbered().map(mount).collect::<Vec<_>>(),
    });
    json!({"metadata": {"name": "app"}, "spec": {"automountServiceAccountToken": false, "containers": [container],
        "volumes": numbered().map(volume).collect::<Vec<_>>()}})
}
