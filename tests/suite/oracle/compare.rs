//! The property, and how often it was shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};
use wasmgate::runtime::Family;

use super::archive::{Archive, Item};
use super::gate::{Gate, Judged};
use super::generate::{self, Case, IndexCase, IndexEntry, PATHS};
use super::image::{INDEX, Image, Layer, Layout, MODULES, digest, module, spin_manifest};
use super::node::{Answer, Found, Node, Question};

/// One runtime of each kind, by which programs are chosen.
const FAMILIES: [Family; 5] =
    [Family::RunwasiWasmtime, Family::CrunWasmedge, Family::YoukiWasmtime, Family::Spin, Family::Everything];

/// What became of one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Some program was judged, and it is the node's.
    Same,
    /// The gate judges nothing, and the node would start something or not.
    Refused,
    /// The node starts nothing.
    NodeRefuses,
}

/// What must not be.
type Difference = String;

/// How often each form of each field was there, and what became of the case.
#[derive(Debug, Default)]
struct Counts {
    outcomes: BTreeMap<Outcome, usize>,
    forms: BTreeMap<String, BTreeMap<Outcome, usize>>,
}

impl Counts {
    fn add(&mut self, forms: Vec<String>, outcome: Outcome) {
        *self.outcomes.entry(outcome).or_default() += 1;
        for form in forms {
            *self.forms.entry(form).or_default().entry(outcome).or_default() += 1;
        }
    }

    /// Says how often what was seen, and that the generator still makes images of which something is shown.
    fn close(&self) {
        println!("{}", self.table());
        let of = |outcome| self.outcomes.get(&outcome).copied().unwrap_or_default();
        let all: usize = self.outcomes.values().sum();
        assert!(of(Outcome::Same) * 6 > all, "too few programs are judged: {:?} of {all}", self.outcomes);
        assert!(of(Outcome::Refused) * 10 > all, "too little is refused: {:?} of {all}", self.outcomes);
    }

    fn table(&self) -> String {
        let row = |counts: &BTreeMap<Outcome, usize>| {
            let of = |outcome| counts.get(&outcome).copied().unwrap_or_default();
            format!("{:>7} {:>7} {:>12}", of(Outcome::Same), of(Outcome::Refused), of(Outcome::NodeRefuses))
        };
        let mut table = format!("{:48} {:>7} {:>7} {:>12}\n", "form", "same", "refused", "node refuses");
        for (form, counts) in &self.forms {
            let _ = writeln!(table, "{form:48} {}", row(counts));
        }
        let _ = writeln!(table, "{:48} {}", "cases", row(&self.outcomes));
        table
    }
}

/// Runs so many cases from a fixed seed, or from the one in `WASMGATE_ORACLE_SEED`; `WASMGATE_ORACLE_CASES` sets how many.
fn runner(cases: u32) -> TestRunner {
    let set = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = set("WASMGATE_ORACLE_CASES").map_or(cases, |cases| u32::try_from(cases).unwrap());
    let mut seed = [7_u8; 32];
    seed[..8].copy_from_slice(&set("WASMGATE_ORACLE_SEED").unwrap_or_default().to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

#[test]
fn the_gate_judges_what_a_node_unpacks_or_nothing() {
    let Some(mut node) = Node::start() else { return };
    let mut counts = Counts::default();
    let mut failed = false;
    let node_and_counts = std::cell::RefCell::new((&mut node, &mut counts, &mut failed));
    let result = runner(2000).run(&generate::case(), |case| {
        let (node, counts, failed) = &mut *node_and_counts.borrow_mut();
        let result = compare(node, &case);
        // While a failure is made smaller nothing is counted.
        match result {
            Ok(outcome) if !**failed => counts.add(forms(&case), outcome),
            Ok(_) => {}
            Err(difference) => {
                **failed = true;
                return Err(TestCaseError::fail(difference));
            }
        }
        Ok(())
    });
    if let Err(TestError::Fail(reason, case)) = result {
        panic!("{reason}\n{case:#?}\n{} cases before it", counts.outcomes.values().sum::<usize>());
    }
    result.unwrap();
    counts.close();
}

fn compare(node: &mut Node, case: &Case) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    Layout::write(&layout, &case.image);
    let mut question = Question::about(&layout, &PATHS);
    question.mounts = case.mounts.iter().map(ToString::to_string).collect();
    let gate = Gate::inspect(&layout);
    question.ask.extend(gate.sources());
    let mut outcome = judge(&gate, &node.ask(&question), &question)?;
    if let Some(earlier) = case.image.earlier() {
        let before = folder.path().join("earlier");
        Layout::write(&before, &earlier);
        // What does not unpack leaves nothing behind.
        if node.ask(&Question::about(&before, &[])).refused.is_none() {
            question.before.push(before);
            outcome = judge(&gate, &node.ask(&question), &question)?;
        }
    }
    Ok(outcome)
}

fn judge(gate: &Gate, answer: &Answer, question: &Question) -> Result<Outcome, Difference> {
    let why = std::env::var_os("WASMGATE_ORACLE_WHY").is_some();
    if let (true, Some(refusal)) = (why, gate.refusal()) {
        println!("the gate refuses: {refusal}");
    }
    if let Some(refusal) = &answer.refused {
        if why {
            println!("the node refuses: {refusal}");
        }
        return Ok(Outcome::NodeRefuses);
    }
    if let Some(entrypoint) = gate.entrypoint()
        && entrypoint != answer.program.entrypoint.clone().unwrap_or_default()
    {
        return Err(format!("the gate reads the entry point {entrypoint:?}, the node {:?}", answer.program));
    }
    let mut same = false;
    for family in FAMILIES {
        for path in &question.ask {
            same |= judge_path(gate, answer, family, path, &question.mounts)?;
        }
    }
    judge_spin(gate, answer, &question.mounts)?;
    Ok(if same { Outcome::Same } else { Outcome::Refused })
}

/// Whether the gate judges a program at this path, which must be the node's.
fn judge_path(
    gate: &Gate,
    answer: &Answer,
    family: Family,
    path: &str,
    mounts: &[String],
) -> Result<bool, Difference> {
    let there = answer.files.get(path).cloned().unwrap_or_default();
    match gate.program(family, path, mounts) {
        Judged::Refused(_) => Ok(false),
        Judged::Native if is_native(&there) => Ok(true),
        Judged::Native => {
            Err(format!("`{path}` under {family:?}: the gate takes it for native, the node has {there:?}"))
        }
        Judged::Wasm { application, modules } => {
            for (source, exports) in modules {
                // A path that is the program itself leads to it, by whatever links.
                let asked = if application { source.as_str() } else { path };
                let there = answer.files.get(asked).cloned().unwrap_or_default();
                let expected = (0..MODULES).find(|number| exports.contains(&format!("id-{number}")));
                if expected.map(|number| digest(module(number))) != Some(there.digest.clone()) {
                    return Err(format!(
                        "`{path}` under {family:?}: the gate judges module {expected:?} at `{source}`, the node has {}",
                        described(&there)
                    ));
                }
            }
            Ok(true)
        }
    }
}

/// Whether a shim could take it for a program of Linux: ELF, or a script.
fn is_native(found: &Found) -> bool {
    found.head == "7f454c46" || found.head.starts_with("2321") && found.head.len() == 8
}

fn described(found: &Found) -> String {
    match (0..MODULES).find(|number| digest(module(*number)) == found.digest) {
        Some(number) => format!("module {number} ({found:?})"),
        None => format!("{found:?}"),
    }
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

/// The forms of everything in a case, by field.
fn forms(case: &Case) -> Vec<String> {
    let mut forms = vec![
        format!("image.diff_ids {}", variant(&case.image.diff_ids)),
        format!("image.layers {}", case.image.layers.len()),
        format!("image.rootfs.type {:?}", case.image.rootfs),
        format!("mounts {}", case.mounts.len()),
    ];
    for layer in &case.image.layers {
        forms.push(format!("layer.media_type {}", layer.media_type.trim_start_matches("application/vnd.")));
        forms.push(format!("layer.compression {:?}", layer.compression));
        forms.push(format!("layer.size {:?}", layer.size));
        forms.push(format!("tar.end {:?}", layer.archive.end));
        for item in &layer.archive.items {
            item_forms(item, &mut forms);
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

fn item_forms(item: &Item, forms: &mut Vec<String>) {
    match item {
        Item::Global(_, records) => {
            forms.push("tar.global".into());
            forms.extend(records.iter().map(|record| format!("tar.global.{}", record.key)));
        }
        Item::Chain(count, _) => forms.push(format!("tar.links {count}")),
        Item::Entry(entry) => {
            forms.push(format!("tar.typeflag {:?}", char::from(entry.kind)));
            forms.push(format!("tar.name {}", name_form(&entry.name.0)));
            if entry.name.0.len() > 100 {
                forms.push(format!("tar.name long, {:?}", entry.long));
            }
            forms.extend(entry.odd.iter().map(|odd| match format!("{odd:?}").split_once('(') {
                Some(("Prefix" | "Names" | "Longer" | "Shorter", _)) => {
                    format!("tar.header {}", variant(odd))
                }
                _ => format!("tar.header {odd:?}"),
            }));
            for extension in &entry.before {
                extension_forms(extension, forms);
            }
        }
    }
}

fn extension_forms(extension: &super::archive::Extension, forms: &mut Vec<String>) {
    use super::archive::Extension::{GnuLink, GnuName, Pax};
    match extension {
        GnuName(_, tail) => forms.push(format!("tar.gnu name {tail:?}")),
        GnuLink(_, tail) => forms.push(format!("tar.gnu link {tail:?}")),
        Pax(records) => {
            for record in records {
                let empty = if record.value.0.is_empty() { " empty" } else { "" };
                forms.push(format!("tar.pax.{}{empty}", record.key));
                forms.push(format!("tar.pax record {:?}", record.form));
            }
            let mut keys: Vec<&str> = records.iter().map(|record| record.key).collect();
            keys.sort_unstable();
            let all = keys.len();
            keys.dedup();
            if keys.len() < all {
                forms.push("tar.pax repeated key".into());
            }
        }
    }
}

fn name_form(name: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(name);
    match () {
        () if std::str::from_utf8(name).is_err() => "not UTF-8",
        () if text.contains(".wh.") => "whiteout",
        () if text.contains('\0') => "null inside",
        () if text.is_empty() => "empty",
        () if text.starts_with("./") => "./ in front",
        () if text.starts_with('/') => "absolute",
        () if text.split('/').any(|part| part == "..") => "dot dot",
        () if text.ends_with('/') => "slash at the end",
        () if text.contains("//") || text.contains("/.") => "not clean",
        () => "plain",
    }
}

fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().to_string()
}

#[test]
fn the_gate_judges_the_manifest_that_a_node_takes_from_an_index_or_nothing() {
    let Some(mut node) = Node::start() else { return };
    let mut counts = Counts::default();
    let shared = std::cell::RefCell::new((&mut node, &mut counts, false));
    let result = runner(600).run(&generate::index_case(), |case| {
        let (node, counts, failed) = &mut *shared.borrow_mut();
        match compare_index(node, &case) {
            Ok(outcome) if !*failed => counts.add(index_forms(&case), outcome),
            Ok(_) => {}
            Err(difference) => {
                *failed = true;
                return Err(TestCaseError::fail(difference));
            }
        }
        Ok(())
    });
    if let Err(TestError::Fail(reason, case)) = result {
        panic!("{reason}\n{case:#?}\n{} cases before it", counts.outcomes.values().sum::<usize>());
    }
    result.unwrap();
    counts.close();
}

fn compare_index(node: &mut Node, case: &IndexCase) -> Result<Outcome, Difference> {
    let folder = tempfile::tempdir().unwrap();
    write_index(folder.path(), &case.entries);
    let mut question = Question::about(folder.path(), &["/app.wasm"]);
    question.platform = case.node.into();
    question.pull = case.pull.into();
    judge(&Gate::inspect(folder.path()), &node.ask(&question), &question)
}

fn write_index(folder: &Path, entries: &[IndexEntry]) {
    let layout = Layout::new(folder);
    let index = |entries: Vec<Value>| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string().into_bytes()
    };
    let entries = entries.iter().map(|entry| {
        let file = super::archive::Entry::file("app.wasm", module(entry.module));
        let archive = Archive { items: vec![Item::Entry(file)], ..Archive::default() };
        let mut image = Image::of(vec![Layer::gzip(archive)]);
        image.platform = entry.own.clone();
        let mut descriptor = layout.image(&image);
        if entry.nested {
            describe(&mut descriptor, entry);
            descriptor = layout.put(INDEX, &index(vec![descriptor]));
        }
        describe(&mut descriptor, entry);
        descriptor
    });
    let entries = entries.collect();
    layout.finish(&layout.put(INDEX, &index(entries)));
}

fn describe(descriptor: &mut Value, entry: &IndexEntry) {
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

fn index_forms(case: &IndexCase) -> Vec<String> {
    let mut forms = vec![
        format!("index.entries {}", case.entries.len()),
        format!("node {}", case.node),
        format!("pull {}", case.pull),
    ];
    for entry in &case.entries {
        match &entry.platform {
            None => forms.push("index.platform none".into()),
            Some(platform) => {
                forms.push(format!("index.os {:?}", platform.os));
                forms.push(format!("index.architecture {:?}", platform.architecture));
                forms.push(format!("index.variant {:?}", platform.variant));
            }
        }
        forms.extend(entry.annotations.iter().map(|(key, value)| format!("index.annotation {key}={value}")));
        forms.extend(entry.media_type.map(|media_type| format!("index.media_type {media_type:?}")));
        forms.extend(entry.nested.then(|| "index.nested".into()));
    }
    forms.sort();
    forms.dedup();
    forms
}
