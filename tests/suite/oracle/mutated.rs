//! The gate and the node on bytes that were changed without regard for what they mean: the other generators make what their author
//! thought of, and this one what is left.

use std::path::Path;

use serde_json::{Value, json};

use super::archive::{Archive, Entry, Item};
use super::compare::judge;
use super::coverage::Outcome;
use super::gate::{Gate, Pod};
use super::generate::PATHS;
use super::generate::mutations::{self, MutatedCase};
use super::generate::tokens::{self, TokenCase};
use super::image::{CONFIG, INDEX, Image, Layer, Layout, MANIFEST, digest, module};
use super::mutate::{self, Edit, Packer, listing};
use super::node::{Node, Question};
use super::property::{Difference, Property};
use super::required;
use super::tokens::{Change, Document};

#[test]
fn the_gate_reads_changed_bytes_of_a_layer_as_a_node_does_or_not_at_all() {
    let property = Property {
        cases: 200,
        compare: compare_layer,
        forms: forms_of_layer,
        required: required::OF_CHANGED_LAYERS,
    };
    property.hold(&mutations::case());
}

#[test]
fn the_gate_reads_changed_tokens_of_documents_as_a_node_does_or_not_at_all() {
    let property = Property {
        cases: 100,
        compare: compare_documents,
        forms: forms_of_documents,
        required: required::OF_CHANGED_DOCUMENTS,
    };
    property.hold(&tokens::case());
}

fn compare_layer(node: &mut Node, case: &MutatedCase) -> Result<Outcome, Difference> {
    let mut archive = case.archive.bytes();
    for change in &case.changes {
        change.apply(&mut archive);
    }
    let folder = tempfile::tempdir().unwrap();
    write_layers(folder.path(), case, &archive);
    let gate = Gate::inspect(folder.path());
    let mut commands: Vec<String> = PATHS.iter().map(ToString::to_string).chain(gate.sources()).collect();
    commands.sort();
    commands.dedup();
    let pod = |command| Pod { command, working_dir: "/", ..Pod::default() };
    let pods: Vec<Pod<'_>> = commands.iter().map(|command| pod(command)).collect();
    judge(node, &gate, &mut Question::about(folder.path(), &[]), &pods)
        .map_err(|difference| format!("{difference}\nthe archive is\n{}", listing(&archive)))
}

/// The changed layer, on another one or alone.
fn write_layers(folder: &Path, case: &MutatedCase, archive: &[u8]) {
    let layout = Layout::new(folder);
    let files = [Entry::file("app.wasm", module(4)), Entry::file("a/app.wasm", module(5))];
    let below = Archive { items: files.into_iter().map(Item::Entry).collect(), ..Archive::default() }.bytes();
    let layers = [
        (case.below, "application/vnd.oci.image.layer.v1.tar", below.clone(), digest(&below)),
        (true, case.packing.media_type, case.packing.pack(archive), digest(archive)),
    ];
    let layers = layers.iter().filter(|(is_there, ..)| *is_there);
    let diff_ids: Vec<&String> = layers.clone().map(|(.., digest)| digest).collect();
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "config": {"Entrypoint": ["/app.wasm"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = layout.put(CONFIG, config.to_string().as_bytes());
    let layers: Vec<_> = layers.map(|(_, media_type, blob, _)| layout.put(media_type, blob)).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    layout.finish(&layout.put(MANIFEST, manifest.to_string().as_bytes()));
}

/// Both the changed image and another one are in the layout.
fn compare_documents(node: &mut Node, case: &TokenCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("image"), folder.path().join("other"));
    let texts = write_documents(&path, case);
    let gate = Gate::inspect(&path);
    let mut question = Question::about(&path, &[]);
    if case.before {
        Layout::write(&other, &image(2, "b"));
        question.before.push(other);
    }
    let pods = PATHS.map(|command| Pod { command, working_dir: "/", ..Pod::default() });
    judge(node, &gate, &mut question, &pods).map_err(|difference| format!("{difference}\n{texts}"))
}

fn image(number: usize, folder: &str) -> Image {
    let files = ["app.wasm".into(), format!("{folder}/app.wasm")];
    let files = files.iter().zip(number..).map(|(name, number)| Entry::file(name, module(number)));
    let archive = Archive { items: files.map(Item::Entry).collect(), ..Archive::default() };
    let entrypoint = vec![format!("/{folder}/app.wasm")];
    let env = vec![format!("PATH=/{folder}"), "A=b".into()];
    Image { entrypoint, env, ..Image::of(vec![Layer::gzip(archive)]) }
}

/// Writes config, manifest and index, each with the digest of the one before, and returns their texts.
fn write_documents(path: &Path, case: &TokenCase) -> String {
    let layout = Layout::new(path);
    let [own, other] = [image(0, "a"), image(2, "b")].map(|image| layout.image(&image));
    let change = |document, own: Vec<u8>, other: &[u8]| {
        let changes = case.changes.iter().filter(|(of, _)| *of == document);
        changes.fold(own, |mut text, (_, change)| {
            change.apply(&mut text, other);
            text
        })
    };
    let parsed = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
    let (mut manifest, other_manifest) = (parsed(&layout.get(&own)), layout.get(&other));
    let others_config = layout.get(&parsed(&other_manifest)["config"]);
    let config = change(Document::Config, layout.get(&manifest["config"]), &others_config);
    manifest["config"] = layout.put(CONFIG, &config);
    let manifest = change(Document::Manifest, manifest.to_string().into_bytes(), &other_manifest);
    let index = |mut root: Value| {
        root["platform"] = json!({"os": "linux", "architecture": "amd64"});
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [root]}).to_string().into_bytes()
    };
    let index = change(Document::Index, index(layout.put(MANIFEST, &manifest)), &index(other));
    layout.finish(&layout.put(INDEX, &index));
    [index, manifest, config].map(|text| text.escape_ascii().to_string()).join("\n")
}

fn forms_of_documents(case: &TokenCase) -> Vec<String> {
    let mut forms = vec![format!("the other image ran before {}", case.before)];
    for (document, change) in &case.changes {
        let text = format!("{change:?}");
        let name = text.split(['(', ' ', '{']).next().unwrap_or_default();
        forms.push(format!("{document:?}, {name}"));
        match change {
            Change::Member { spelling, .. } => forms.push(format!("a member twice, {spelling:?}")),
            Change::Key { spelling, .. } => forms.push(format!("a key, {spelling:?}")),
            _ => {}
        }
    }
    forms
}

fn forms_of_layer(case: &MutatedCase) -> Vec<String> {
    let mut forms: Vec<String> = case.changes.iter().map(form_of_change).collect();
    forms.push(format!("a layer below {}", case.below));
    forms.extend(case.changes.iter().filter_map(|change| match change {
        mutate::Change::Field { sum, .. } | mutate::Change::Byte { sum, .. } => {
            Some(format!("checksum {sum:?}"))
        }
        _ => None,
    }));
    if case.changes.is_empty() {
        let packer = match case.packing.packer {
            Packer::Usual(compression) => format!("{compression:?}"),
            Packer::Frame(frame) if frame.dictionary > 0 => "a frame with a dictionary".into(),
            Packer::Frame(_) => "a frame by hand".into(),
        };
        forms.push(format!("packed by {packer}"));
        forms.push(format!("packed as {}", case.packing.media_type));
        forms.extend(case.packing.edits.iter().map(|edit| format!("packed, {}", name_of_edit(edit))));
    }
    forms
}

fn form_of_change(change: &mutate::Change) -> String {
    use mutate::Change;
    match change {
        Change::Field { field: (name, ..), .. } => format!("field {name}"),
        Change::Byte { .. } => "a byte of a header".into(),
        Change::Body { edit, .. } => format!("extended header, {}", name_of_edit(edit)),
        Change::Repeat { .. } => "blocks repeated".into(),
        Change::Swap(..) => "blocks swapped".into(),
        Change::Remove(..) => "blocks removed".into(),
        Change::Splice(..) => "an entry between blocks".into(),
        Change::Nulls(..) => "nulls between blocks".into(),
        Change::Cut(_) => "cut".into(),
        Change::Append(_) => "bytes at the end".into(),
    }
}

fn name_of_edit(edit: &Edit) -> &'static str {
    match edit {
        Edit::Set(..) | Edit::SetAt(..) => "a byte",
        Edit::Insert(..) => "bytes inserted",
        Edit::Prepend(_) => "bytes in front",
        Edit::Append(_) => "bytes behind",
        Edit::Remove(..) => "bytes removed",
        Edit::Cut(_) => "cut",
        Edit::Double => "doubled",
        Edit::Replace(_) => "replaced",
    }
}
