//! What is shown of each kind of case: the gate judges what the node has, or nothing.

use std::path::Path;

use serde_json::{Value, json};
use wasmgate::runtime::Family;

use super::archive::{Archive, Entry, Item};
use super::coverage::Outcome;
use super::document::Object;
use super::gate::{Gate, Judged, Packed, Pod};
use super::generate::documents::{self, DocumentCase};
use super::generate::indexes::{self, IndexCase, IndexEntry};
use super::generate::mounts::{self, MountCase};
use super::generate::packed::{self, PackedCase};
use super::generate::searches::{self, SearchCase};
use super::generate::{self, Case, PATHS};
use super::image::{INDEX, Image, Layer, Layout, MODULES, digest, module, spin_manifest, write_volume};
use super::node::{Answer, Found, Node, Question};
use super::property::{Difference, Property};
use super::starts::{CONTAINER_PATH, Container, Started, Way};
use super::{forms, required};

/// One runtime of each kind, and the ways in which it may choose a program.
const FAMILIES: [(Family, &[Way]); 5] = [
    (Family::RunwasiWasmtime, &[Way::Runwasi]),
    (Family::CrunWasmtime, &[Way::Crun]),
    (Family::YoukiWasmtime, &[Way::Youki]),
    (Family::Spin, &[Way::Spin]),
    (Family::Everything, &[Way::Runwasi, Way::Crun, Way::Youki, Way::Spin]),
];

#[test]
fn the_gate_judges_what_a_node_unpacks_or_nothing() {
    let property = Property {
        cases: 2000,
        compare: compare_image,
        forms: forms::of_image,
        required: required::OF_IMAGES,
    };
    property.hold(&generate::case());
}

#[test]
fn the_gate_judges_the_manifest_that_a_node_takes_from_an_index_or_nothing() {
    let property = Property {
        cases: 600,
        compare: compare_index,
        forms: forms::of_index,
        required: required::OF_INDEXES,
    };
    property.hold(&indexes::case());
}

#[test]
fn the_gate_reads_the_documents_of_an_image_as_a_node_does_or_not_at_all() {
    let property = Property {
        cases: 800,
        compare: compare_documents,
        forms: forms::of_documents,
        required: required::OF_DOCUMENTS,
    };
    property.hold(&documents::case());
}

#[test]
fn the_gate_judges_the_layer_of_wasm_that_a_shim_takes_or_nothing() {
    let property = Property {
        cases: 400,
        compare: compare_packed,
        forms: forms::of_packed,
        required: required::OF_PACKED,
    };
    property.hold(&packed::case());
}

#[test]
fn the_gate_finds_by_a_name_what_each_runtime_finds_or_nothing() {
    let property = Property {
        cases: 1000,
        compare: compare_search,
        forms: forms::of_search,
        required: required::OF_SEARCHES,
    };
    property.hold(&searches::case());
}

#[test]
fn the_gate_knows_what_each_mount_of_a_container_hides_or_judges_nothing() {
    let property = Property {
        cases: 600,
        compare: compare_mounts,
        forms: forms::of_mounts,
        required: required::OF_MOUNTS,
    };
    property.hold(&mounts::case());
}

fn compare_image(node: &mut Node, case: &Case) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    Layout::write(&layout, &case.image);
    let mounts: Vec<String> = case.mounts.iter().map(ToString::to_string).collect();
    let pods = PATHS.map(|command| Pod { command, working_dir: "/", mounts: &mounts, ..Pod::default() });
    let mut question = Question::about(&layout, &[]);
    let gate = Gate::inspect(&layout);
    let mut outcome = judge(node, &gate, &mut question, &pods)?;
    if let Some(earlier) = case.image.earlier() {
        let before = folder.path().join("earlier");
        Layout::write(&before, &earlier);
        // What does not unpack leaves nothing behind.
        if node.ask(&Question::about(&before, &[])).refused.is_none() {
            question.before.push(before);
            outcome = judge(node, &gate, &mut question, &pods)?;
        }
    }
    Ok(outcome)
}

fn compare_search(node: &mut Node, case: &SearchCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    Layout::write(&layout, &case.image);
    let mounts: Vec<String> = case.mounts.iter().map(ToString::to_string).collect();
    let (command, working_dir, path) = (case.command, case.working_dir, case.path);
    let pod = Pod { command, working_dir, path, mounts: &mounts, termination_log: None };
    let mut question = Question::about(&layout, &[]);
    if case.filled {
        let volume = folder.path().join("volume");
        write_volume(&volume, None);
        question.contents = vec![volume; mounts.len()];
    }
    judge(node, &Gate::inspect(&layout), &mut question, &[pod])
}

/// Every mount of a container, in the order in which a node makes them.
fn compare_mounts(node: &mut Node, case: &MountCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    Layout::write(&layout, &case.image);
    let mounts: Vec<String> = case.mounts.iter().map(ToString::to_string).collect();
    let (working_dir, termination_log) = ("/", Some(case.termination_log));
    let pods = mounts::COMMANDS.map(|command| Pod {
        command,
        working_dir,
        path: None,
        mounts: &mounts,
        termination_log,
    });
    let mut question = Question::about(&layout, &[]);
    let volume = folder.path().join("volume");
    write_volume(&volume, None);
    question.contents = vec![volume; mounts.len()];
    judge(node, &Gate::inspect(&layout), &mut question, &pods)
}

fn compare_index(node: &mut Node, case: &IndexCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    write_index(folder.path(), &case.entries);
    let mut question = Question::about(folder.path(), &[]);
    question.platform = case.node.into();
    question.pull = case.pull.into();
    let pod = Pod { command: "/app.wasm", working_dir: "/", ..Pod::default() };
    judge(node, &Gate::inspect(folder.path()), &mut question, &[pod])
}

/// The gate's word on some pods, held against what the node has.
pub fn judge(
    node: &mut Node,
    gate: &Gate,
    question: &mut Question,
    pods: &[Pod<'_>],
) -> Result<Outcome, Difference> {
    let path = |pod: &Pod<'_>| pod.path.or(gate.search_path()).unwrap_or(CONTAINER_PATH).to_string();
    question.mounts = pods.first().map(|pod| pod.mounts.to_vec()).unwrap_or_default();
    let log = pods.first().and_then(|pod| pod.termination_log);
    question.whole = log.is_some();
    question.termination_log = log.unwrap_or_default().to_string();
    question.working_dir = pods.first().map(|pod| pod.working_dir.to_string()).unwrap_or_default();
    question.ask = pods
        .iter()
        .flat_map(|pod| Container::places(pod.command, pod.working_dir, &path(pod)))
        .chain(gate.sources())
        .collect();
    question.ask.sort();
    question.ask.dedup();
    let answer = node.ask(question);
    tell(gate, &answer);
    if answer.refused.is_some() {
        return Ok(Outcome::NodeRefuses);
    }
    check_entrypoint(gate, &answer)?;
    check_config(gate, &answer)?;
    let mut same = false;
    for pod in pods {
        for (family, ways) in FAMILIES {
            let (argument, working_dir, path) = (pod.command, pod.working_dir, path(pod));
            let container = Container { files: &answer.files, argument, working_dir, path: &path };
            let outcomes = ways.iter().flat_map(|way| container.outcomes(*way));
            let judged = gate.program(family, pod);
            same |= agree(&judged, outcomes, &answer)
                .map_err(|difference| format!("{pod:?} under {family:?}: {difference}"))?;
        }
    }
    judge_spin(gate, &answer, &question.mounts)?;
    Ok(if same { Outcome::Same } else { Outcome::Refused })
}

/// Shows why something is refused, where a person asks for it.
fn tell(gate: &Gate, answer: &Answer) {
    if std::env::var_os("WASMGATE_ORACLE_WHY").is_none() {
        return;
    }
    if let Some(refusal) = gate.refusal() {
        println!("the gate refuses: {refusal}");
    }
    if let Some(refusal) = &answer.refused {
        println!("the node refuses: {refusal}");
    }
}

fn check_entrypoint(gate: &Gate, answer: &Answer) -> Result<(), Difference> {
    match gate.entrypoint() {
        // One empty string counts as none (`containerd:internal/cri/opts/spec_opts.go`, `WithProcessArgs`).
        Some(entrypoint)
            if entrypoint
                != answer.program.entrypoint.clone().filter(|words| words != &[""]).unwrap_or_default() =>
        {
            Err(format!("the gate reads the entry point {entrypoint:?}, the node {:?}", answer.program))
        }
        _ => Ok(()),
    }
}

/// What else of the config a container is made of.
fn check_config(gate: &Gate, answer: &Answer) -> Result<(), Difference> {
    let Some(facts) = gate.facts().filter(|facts| facts.scanned) else { return Ok(()) };
    let node = &answer.program;
    let path = node.env.iter().flatten().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let same = facts.cmd == node.cmd.clone().unwrap_or_default()
        && facts.working_dir == node.working_dir
        && facts.search_path.as_deref() == path;
    let (cmd, working_dir, search_path) = (&facts.cmd, &facts.working_dir, &facts.search_path);
    if same {
        return Ok(());
    }
    Err(format!("the gate reads {cmd:?}, {working_dir:?} and {search_path:?}, the node {node:?}"))
}

/// Whether a program is judged, which must be what the runtime starts, whatever is not known of it.
fn agree(
    judged: &Judged,
    mut outcomes: impl Iterator<Item = Started>,
    answer: &Answer,
) -> Result<bool, Difference> {
    let expected = match judged {
        Judged::Refused(_) => return Ok(false),
        Judged::Native => Started::Linux,
        Judged::Wasm { packed: Packed::Application, modules } => {
            Started::Application(application(modules, answer)?)
        }
        Judged::Wasm { modules, .. } => Started::Wasm(judged_module(modules)?),
    };
    match outcomes.find(|started| *started != expected && *started != Started::Nothing) {
        None => Ok(true),
        Some(other) => {
            Err(format!("the gate judges {judged:?}, and the runtime starts {}", described(&other, answer)))
        }
    }
}

/// The digest of the only module that was judged.
fn judged_module(modules: &[(String, Vec<String>)]) -> Result<String, Difference> {
    let [(_, exports)] = modules else { return Err(format!("several modules for one file: {modules:?}")) };
    number_of(exports)
        .map(|number| digest(module(number)))
        .ok_or_else(|| format!("an unknown module: {exports:?}"))
}

fn number_of(exports: &[String]) -> Option<usize> {
    (0..MODULES).find(|number| exports.contains(&format!("id-{number}")))
}

/// The digest of the application's manifest, whose modules must be those that were judged.
fn application(modules: &[(String, Vec<String>)], answer: &Answer) -> Result<String, Difference> {
    let program = answer.files.get("/app.wasm").cloned().unwrap_or_default();
    if judged_module(modules)? != program.digest {
        return Err(format!("the application runs {program:?}, the gate judges {modules:?}"));
    }
    Ok(answer.files.get("/spin.toml").cloned().unwrap_or_default().digest)
}

fn described(started: &Started, answer: &Answer) -> String {
    let of = |found: &Found| (0..MODULES).find(|number| digest(module(*number)) == found.digest);
    let there = answer.files.iter().filter(|(_, found)| found.kind == "file");
    let there = there
        .map(|(path, found)| format!("\n  {path} is {} {} module {:?}", found.path, found.mode, of(found)));
    format!("{started:?}; the node has {}", there.collect::<String>())
}

/// The Spin shim starts `/spin.toml` wherever it is, so the gate must know it, and that there is none.
fn judge_spin(gate: &Gate, answer: &Answer, mounts: &[String]) -> Result<(), Difference> {
    // What a volume hides or brings is another question than what the image holds.
    let Some(there) = answer.files.get("/spin.toml").filter(|_| mounts.is_empty()) else { return Ok(()) };
    match gate.spin() {
        Ok(None) => Ok(()),
        Ok(Some(name)) if digest(&spin_manifest(name)) == there.digest => Ok(()),
        Err(()) if there.kind != "file" => Ok(()),
        known => Err(format!("`/spin.toml`: the gate knows {known:?}, the node has {there:?}")),
    }
}

/// Both the image and the other one are in the layout, and the node ran the other one before, or did not.
fn compare_documents(node: &mut Node, case: &DocumentCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let (other, path) = (folder.path().join("other"), folder.path().join("image"));
    Layout::write(&other, &case.other);
    write_documents(&path, case);
    let pods = PATHS.map(|command| Pod { command, working_dir: "/", ..Pod::default() });
    let mut question = Question::about(&path, &[]);
    let gate = Gate::inspect(&path);
    judge(node, &gate, &mut question, &pods)?;
    question.before.push(other);
    judge(node, &gate, &mut question, &pods)
}

fn write_documents(path: &Path, case: &DocumentCase) {
    let layout = Layout::new(path);
    let other = layout.image(&case.other);
    let mut image = case.image.clone();
    let twist = image.twist.as_mut().unwrap();
    let described = |image: &Value| {
        let mut image = image.clone();
        image["platform"] = json!({"os": "linux", "architecture": "amd64"});
        image
    };
    if twist.value.is_none() {
        let manifest: Value = serde_json::from_slice(&layout.get(&other)).unwrap();
        let config: Value = serde_json::from_slice(&layout.get(&manifest["config"])).unwrap();
        let value = match twist.of {
            Object::Index => json!([described(&other)]),
            Object::IndexDescriptor => other["digest"].clone(),
            Object::LayerDescriptor => manifest["layers"][0][twist.key].clone(),
            Object::RootFs => config["rootfs"][twist.key].clone(),
            _ => manifest[twist.key].clone(),
        };
        twist.value = Some(value.to_string());
    }
    let (twist, mut root) = (twist.clone(), layout.image(&image));
    if matches!(twist.of, Object::Index | Object::IndexDescriptor | Object::Platform) {
        let text = |of, value: &Value| if twist.of == of { twist.write(value) } else { value.to_string() };
        let platform = text(Object::Platform, &described(&root)["platform"]);
        root["platform"] = "PLATFORM".into();
        let descriptor = text(Object::IndexDescriptor, &root).replace("\"PLATFORM\"", &platform);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": ["DESCRIPTOR"]});
        let index = text(Object::Index, &index).replace("\"DESCRIPTOR\"", &descriptor);
        root = layout.put(INDEX, index.as_bytes());
    }
    layout.finish(&root);
}

fn index(entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string().into_bytes()
}

fn write_index(folder: &Path, entries: &[IndexEntry]) {
    let layout = Layout::new(folder);
    let entry = |entry: &IndexEntry| {
        let file = Entry::file("app.wasm", module(entry.module));
        let archive = Archive { items: vec![Item::Entry(file)], ..Archive::default() };
        let mut image = Image::of(vec![Layer::gzip(archive)]);
        image.platform = entry.own.clone();
        image.config_size = entry.sizes.1;
        let mut descriptor = layout.image(&image);
        if entry.nested {
            describe(&mut descriptor, entry);
            descriptor = layout.put(INDEX, &index(&[descriptor]));
        }
        describe(&mut descriptor, entry);
        descriptor
    };
    let entries: Vec<Value> = entries.iter().map(entry).collect();
    layout.finish(&layout.put(INDEX, &index(&entries)));
}

fn describe(descriptor: &mut Value, entry: &IndexEntry) {
    entry.sizes.0.apply(descriptor);
    if let Some(platform) = &entry.platform {
        descriptor["platform"] = json!({});
        platform.add_to(&mut descriptor["platform"]);
    }
    for (key, value) in &entry.annotations {
        descriptor["annotations"][key] = (*value).into();
    }
    if let Some(media_type) = entry.media_type {
        descriptor["mediaType"] = media_type.into();
    }
}

/// Layers that runwasi's own shims take (`runwasi:crates/containerd-shim-wasm/src/shim/shim.rs`).
const SHIM_LAYERS: [&str; 2] =
    ["application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", "application/wasm"];

/// A shim takes the image's Wasm layers where its parser reads manifest and config, and files otherwise
/// (`runwasi:crates/containerd-shim-wasm/src/containerd/client.rs`, `load_modules`; `…/instance.rs`, `Instance::new`). What
/// is judged must be right for both.
fn compare_packed(node: &mut Node, case: &PackedCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    let image = layout.image(&case.image);
    layout.finish(&if case.index { layout.put(INDEX, &index(&[image])) } else { image });
    let gate = Gate::inspect(folder.path());
    let command = case.image.entrypoint[0].as_str();
    let pod = Pod { command, working_dir: "/", ..Pod::default() };
    let mut question = Question::about(folder.path(), &[]);
    question.ask = Container::places(command, "/", CONTAINER_PATH);
    // So a config for Wasm is unpacked too.
    question.pull = "client".into();
    let answer = node.ask(&question);
    tell(&gate, &answer);
    if answer.refused.is_some() {
        return Ok(Outcome::NodeRefuses);
    }
    let container =
        Container { files: &answer.files, argument: command, working_dir: "/", path: CONTAINER_PATH };
    let files = container.outcomes(Way::Runwasi);
    let taken: Vec<String> = case
        .image
        .layers
        .iter()
        .filter(|layer| SHIM_LAYERS.contains(&layer.media_type))
        .map(|layer| digest(&layer.blob()))
        .collect();
    // More than one is refused by every engine.
    let layers = (taken.len() == 1).then(|| Started::Wasm(taken[0].clone()));
    let judged = gate.program(Family::RunwasiWasmtime, &pod);
    let same = agree(&judged, files.into_iter().chain(layers), &answer)?;
    Ok(if same { Outcome::Same } else { Outcome::Refused })
}
