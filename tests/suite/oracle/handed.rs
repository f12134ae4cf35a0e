//! What a program is handed of the pod's volumes: the gate must know of every volume that a node would have in the
//! tree that the runtime opens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmgate::capability::{Capability, assess};
use wasmgate::image::entry::Start;
use wasmgate::image::{ImageFacts, Program};
use wasmgate::inspection::{self, Container, LookupResult};
use wasmgate::runtime::{Family, Profile, Runtimes};
use wasmgate::workload::{Kind, Role, Workload};

use super::coverage::Outcome;
use super::gate::Gate;
use super::generate::handed::{self, HandedCase, Mount};
use super::image::{Layout, write_volume};
use super::node::{Answer, Node, Question};
use super::property::{Difference, Property};
use super::{forms, required};

#[test]
fn the_gate_knows_of_every_volume_in_the_tree_that_a_runtime_opens_or_judges_nothing() {
    let property = Property {
        cases: 800,
        compare: compare_handed,
        forms: forms::of_handed,
        required: required::OF_HANDED,
    };
    property.hold(&handed::case());
}

fn compare_handed(node: &mut Node, case: &HandedCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    Layout::write(&layout, &case.image);
    let volume = |(number, mount): (usize, &Mount)| {
        let path = folder.path().join(format!("volume-{number}"));
        write_volume(&path, mount.link);
        path
    };
    let contents: Vec<PathBuf> = case.mounts.iter().enumerate().map(volume).collect();
    let below = format!("{}/{}", case.working_dir, case.source);
    let from_root = format!("/{}", case.source);
    let question = Question {
        mounts: case.mounts.iter().map(|mount| mount.path.to_string()).collect(),
        contents,
        working_dir: case.working_dir.into(),
        ..Question::about(&layout, &[case.working_dir, &from_root, &below])
    };
    let answer = node.ask(&question);
    let gate = Gate::inspect(&layout);
    if answer.refused.is_some() {
        return Ok(Outcome::NodeRefuses);
    }
    let Some(facts) = gate.facts() else { return Ok(Outcome::Refused) };
    let directory = agree(facts, case, &answer, Family::CrunWasmtime, "/app.wasm", &[case.working_dir])?;
    let files = agree(facts, case, &answer, Family::Spin, "/", &[&from_root, &below])?;
    Ok(if directory || files { Outcome::Same } else { Outcome::Refused })
}

/// Whether a program is judged, which must then be handed at least the volumes that the node has in these folders.
fn agree(
    facts: &ImageFacts,
    case: &HandedCase,
    answer: &Answer,
    family: Family,
    command: &str,
    opened: &[&str],
) -> Result<bool, Difference> {
    let workload = workload(case, command);
    let container_spec = workload.container(Role::Container, 0).unwrap();
    let mounts = inspection::mounts(&workload.spec, &container_spec, false);
    let command = [command.to_string()];
    let start =
        Start { command: &command, working_dir: Some(case.working_dir), mounts: &mounts, ..Start::default() };
    let program = family.start(facts, &start);
    if !matches!(program, Program::Wasm { .. }) {
        return Ok(false);
    }
    let found = assess(&workload, &container(facts, program), Some(&profile(family)));
    let handed: Vec<&String> = found
        .ambient
        .iter()
        .filter(|entry| entry.capability == Capability::Fs)
        .flat_map(|entry| &entry.evidence)
        .collect();
    for place in opened {
        let folder = &answer.files[*place];
        if folder.kind != "folder" {
            continue;
        }
        let mounts: Vec<&str> = case.mounts.iter().map(|mount| mount.path).collect();
        for mount in reached(&answer.mounted, &mounts, &folder.path) {
            let evidence = format!("volumeMount {mount} (");
            if !handed.iter().any(|text| text.starts_with(&evidence)) {
                return Err(format!(
                    "{family:?} opens {place}, which is {} on the node, with the volume at {mount} in it ({:?}); the gate \
                     knows of {handed:?}",
                    folder.path, answer.mounted
                ));
            }
        }
    }
    Ok(true)
}

/// The mounts below a folder, and the one that it is in. Of two at one place the later hides the other.
fn reached<'a>(mounted: &BTreeMap<String, String>, mounts: &[&'a str], folder: &str) -> Vec<&'a str> {
    let covers = |wide: &str, narrow: &str| {
        wide == "/" || narrow.strip_prefix(wide).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let place = |mount: &&str| mounted[*mount].as_str();
    let around = mounts.iter().filter(|mount| covers(place(mount), folder));
    let around = around.max_by_key(|mount| place(mount).len()).copied();
    let below = mounts.iter().copied().filter(|mount| covers(folder, place(mount)) && place(mount) != folder);
    around.into_iter().chain(below).collect()
}

fn workload(case: &HandedCase, command: &str) -> Workload {
    let numbered = || case.mounts.iter().enumerate();
    let volumes: Vec<Value> = numbered()
        .map(|(number, mount)| {
            let name = format!("v{number}");
            // The container can have made the link in a folder of its own.
            match mount.link {
                None => json!({"name": name, "configMap": {"name": "a"}}),
                Some(_) => json!({"name": name, "emptyDir": {}}),
            }
        })
        .collect();
    let mounts: Vec<Value> = numbered()
        .map(|(number, mount)| json!({"name": format!("v{number}"), "mountPath": mount.path}))
        .collect();
    let container = json!({"name": "app", "image": "a", "command": [command], "workingDir": case.working_dir,
        "volumeMounts": mounts});
    let spec = json!({"automountServiceAccountToken": false, "containers": [container], "volumes": volumes});
    Workload {
        kind: Kind::Pod,
        name: "app".into(),
        namespace: "shop".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        terminating: false,
        of_stateful_set: false,
        spec: serde_json::from_value(spec).unwrap(),
    }
}

pub fn container(facts: &ImageFacts, program: Program) -> Container {
    let lookup = LookupResult::Known { facts: Arc::new(facts.clone()), program };
    Container { role: Role::Container, index: 0, name: "app".into(), image: "a".into(), lookup }
}

pub fn profile(family: Family) -> Profile {
    let any = Runtimes::default().profiles.into_iter().next().unwrap();
    Profile { ambient: family, ..any }
}
