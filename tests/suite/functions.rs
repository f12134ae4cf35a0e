//! OPA's own compliance cases, run by the gate's engine: what every built-in function says here is what it says in OPA.
//! `tools/opacases` hands them out, those of Rego v1 and of v0, many to a module. `docs/policy-functions.md` is written from the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wasmgate::policy::{Bundle, Limits, PolicySet, Violation};
use wasmgate::rego::{self, BUILTINS, CORRECTED, OwnCode, REFUSED, Value as Rego};

use crate::support::opa;
use crate::support::policies::{engine, engine_in};
use crate::support::process::{program, root, writes_docs};

/// One case (`tools/opacases/main.go`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// One of [`LANGUAGES`].
    rego: String,
    note: String,
    builtins: Option<Vec<String>>,
    #[serde(default)]
    skipped: String,
    #[serde(default)]
    bundle: String,
    #[serde(default)]
    entrypoint: String,
    #[serde(default)]
    input: Option<Box<RawValue>>,
    #[serde(default)]
    want: Option<Box<RawValue>>,
    #[serde(default)]
    want_error: bool,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    sort: bool,
}

impl Case {
    /// Its name in OPA's own tests. Some cases have one in common.
    fn name(&self) -> String {
        format!("{}/{}", self.rego, self.note)
    }
}

/// The versions of Rego that cases are written in.
const LANGUAGES: [&str; 2] = ["v1", "v0"];

/// Cases that come out otherwise, and why. What comes out as in OPA must not be listed.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("v0/regometadatachain/package spanning modules", MOVED),
    ("v0/regometadatachain/rule mixed scope", MOVED),
    ("v0/regometadatachain/simple", MOVED),
    ("v1/regometadatachain/package spanning modules", MOVED),
    ("v1/regometadatachain/rule mixed scope", MOVED),
    ("v1/regometadatachain/simple", MOVED),
];
const MOVED: &str = "the case looks at the path of its package, which the test moves";

fn is_exception(name: &str) -> bool {
    EXCEPTIONS.iter().any(|(known, _)| name == *known)
}

/// The cases as bundles, from an earlier run where neither the program nor what is refused has changed.
fn handed_out() -> PathBuf {
    let program = program("opacases");
    let refused: Vec<_> = REFUSED.iter().map(|(name, _)| *name).collect();
    let built = program.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{built}-{}", refused.len()));
    if !folder.join("cases.json").exists() {
        let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let status =
            Command::new(&program).arg("-refuse").arg(refused.join(",")).arg(work.path()).status().unwrap();
        assert!(status.success());
        // Another test may have been quicker.
        let _ = fs::rename(work.path(), &folder);
    }
    folder
}

/// How one case came out: nothing where it is what OPA says.
fn wrong(case: &Case, result: Result<Box<RawValue>, String>) -> Option<String> {
    match result {
        Ok(found) if case.want_error => Some(format!("wanted an error, found {found}")),
        Err(_) if case.want_error => None,
        Err(error) => Some(error),
        Ok(found) => {
            let found = read(&found);
            let found = match &found {
                Rego::Array(sets) => sets.first().and_then(|set| set.get("result")).cloned(),
                _ => None,
            };
            let wanted = case.want.as_deref().map(read);
            let (found, wanted) = (bindings(found, case.sort), bindings(wanted, case.sort));
            (found != wanted).then(|| format!("wanted {}, found {}", shown(&wanted), shown(&found)))
        }
    }
}

/// With the text of its numbers, which are compared by their exact value: the files that the cases are written in do not keep the text.
fn read(json: &RawValue) -> Rego {
    rego::read_json(json.get()).unwrap()
}

fn shown(bindings: &BTreeSet<Rego>) -> String {
    bindings.iter().map(Rego::to_json_text).collect::<Vec<_>>().join(", ")
}

/// Sets of variables and their values, without the variables of the compiler.
fn bindings(sets: Option<Rego>, sort: bool) -> BTreeSet<Rego> {
    let Some(Rego::Array(sets)) = sets else { return BTreeSet::new() };
    let is_generated = |name: &Rego| matches!(name, Rego::String(name) if name.starts_with("__localq"));
    let normal = |set: Rego| match set {
        Rego::Object(members) => {
            let own = members.into_iter().filter(|(name, _)| !is_generated(name));
            Rego::Object(own.map(|(name, value)| (name, normalised(value, sort))).collect())
        }
        other => other,
    };
    sets.into_iter().map(normal).collect()
}

/// An array in order where a case says that its own does not count.
fn normalised(value: Rego, sort: bool) -> Rego {
    match value {
        Rego::Array(mut items) if sort => {
            items.sort();
            Rego::Array(items)
        }
        other => other,
    }
}

async fn load(folder: &Path, language: &str, strict: bool) -> PolicySet {
    let kind = format!("cases-{language}-{strict}");
    let prefix = format!("{kind}-");
    let mut bundles = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with(&prefix) {
            bundles.push(Bundle::load(&path).unwrap());
        }
    }
    let limits = Limits { time: Duration::from_mins(1), strict_builtins: strict, ..Limits::default() };
    // One kind fills a folder.
    PolicySet::load(&engine_in(&kind), bundles, limits).await.unwrap()
}

/// How many cases of a version of Rego passed, and how many were run.
#[derive(Clone, Copy, Default)]
struct Count {
    passed: usize,
    run: usize,
}

impl Count {
    fn add(&mut self, passed: bool) {
        self.passed += usize::from(passed);
        self.run += 1;
    }
}

/// One for each of [`LANGUAGES`], in their order.
type Counts = [Count; LANGUAGES.len()];

/// How the cases came out.
#[derive(Default)]
struct Outcome<'a> {
    all: Counts,
    /// By the name of a function that a case calls.
    functions: BTreeMap<&'a str, Counts>,
    /// By the name of a case, what was found.
    failed: BTreeMap<String, String>,
    /// The names of those that were not run, and why.
    skipped: Vec<(String, &'a str)>,
}

impl<'a> Outcome<'a> {
    /// Runs the cases of one version of Rego, the modules of which are not kept.
    async fn run(&mut self, folder: &Path, cases: &'a [Case], column: usize, language: &str) {
        let (lenient, strict) = tokio::join!(load(folder, language, false), load(folder, language, true));
        for case in cases.iter().filter(|case| case.rego == language) {
            if !case.skipped.is_empty() {
                self.skipped.push((case.name(), case.skipped.as_str()));
                continue;
            }
            let set = if case.strict { &strict } else { &lenient };
            let result = set.query(&case.bundle, &case.entrypoint, case.input.as_deref()).await;
            let wrong = wrong(case, result);
            self.all[column].add(wrong.is_none());
            for name in case.builtins.iter().flatten() {
                self.functions.entry(name).or_default()[column].add(wrong.is_none());
            }
            if let Some(reason) = wrong {
                self.failed.insert(case.name(), reason);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opas_compliance_cases_come_out_as_in_opa() {
    let folder = handed_out();
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
    assert!(cases.iter().all(|case| LANGUAGES.contains(&case.rego.as_str())));
    let mut outcome = Outcome::default();
    for (column, language) in LANGUAGES.iter().enumerate() {
        outcome.run(&folder, &cases, column, language).await;
        let Count { passed, run } = outcome.all[column];
        println!("{language}: {passed} of {run}");
        assert!(run > 1000);
    }
    println!("not run: {}", outcome.skipped.len());
    let unexpected: Vec<_> = outcome.failed.iter().filter(|(name, _)| !is_exception(name)).collect();
    assert!(unexpected.is_empty(), "{} cases:\n{unexpected:#?}", unexpected.len());
    let passes: Vec<_> = EXCEPTIONS.iter().filter(|(name, _)| !outcome.failed.contains_key(*name)).collect();
    assert!(passes.is_empty(), "these come out as in OPA, take them off the list: {passes:?}");
    assert_page(&page(&outcome));
}

fn assert_page(page: &str) {
    assert_written("docs/policy-functions.md", page);
}

fn assert_written(file: &str, text: &str) {
    let path = root().join(file);
    if writes_docs() {
        fs::write(&path, text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{file} is out of date; `WASMGATE_WRITE_DOCS=1` writes it");
}

/// What `wasmgate policy capabilities` prints is what the pinned opa can do, without what the gate refuses.
#[test]
fn the_capabilities_are_those_of_opa_without_what_is_refused() {
    let printed = opa::run(&["capabilities", "--current"]);
    let mut capabilities: Value = serde_json::from_slice(&printed).unwrap();
    let all = capabilities["builtins"].as_array_mut().unwrap();
    all.retain(|builtin| !is_refused(builtin["name"].as_str().unwrap()));
    // A line for each, so that a change of one is seen.
    let lines: Vec<_> = all.iter().map(Value::to_string).collect();
    let mut text = format!("{{\"builtins\":[\n{}\n]", lines.join(",\n"));
    for (key, value) in capabilities.as_object().unwrap().iter().filter(|(key, _)| *key != "builtins") {
        write!(text, ",\n\"{key}\":{value}").unwrap();
    }
    text.push_str("}\n");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), capabilities);
    assert_written("policies/capabilities.json", &text);
}

/// Expressions on which an implementation of a function easily says something else than OPA's, one a line.
const EXPRESSIONS: &str = include_str!("../fixtures/rego/expressions.txt");
/// Those that come out otherwise in the gate, each with a tab and the reason.
const OTHERWISE: &str = include_str!("../../policies/otherwise.txt");

fn otherwise() -> BTreeMap<&'static str, &'static str> {
    OTHERWISE.lines().map(|line| line.split_once('\t').unwrap()).collect()
}

/// What each expression is as JSON, by its line; those that are undefined are not there.
type Values = BTreeMap<String, String>;

fn values(violations: Vec<Violation>) -> Values {
    violations.into_iter().map(|violation| (violation.rule, violation.message)).collect()
}

/// Expressions in one module: the compiler makes one function of them.
const IN_ONE_MODULE: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn expressions_that_are_easily_got_wrong_say_what_they_say_in_opa() {
    let (all, known) = (EXPRESSIONS.lines().collect::<Vec<_>>(), otherwise());
    assert!(known.keys().all(|known| all.contains(known)));
    let mut defined = 0;
    for expressions in all.chunks(IN_ONE_MODULE) {
        let (in_gate, in_opa) = in_both(expressions).await;
        defined += in_opa.len();
        for (line, expression) in expressions.iter().enumerate() {
            let line = line.to_string();
            let (found, wanted) = (in_gate.get(&line), in_opa.get(&line));
            assert_eq!(
                found != wanted,
                known.contains_key(expression),
                "`{expression}` is {found:?}, in OPA {wanted:?}"
            );
        }
    }
    assert!(defined > all.len() / 2);
}

/// What expressions are in the gate and in OPA.
async fn in_both(expressions: &[&str]) -> (Values, Values) {
    let rule = |(line, expression): (usize, &&str)| {
        format!(
            "violations contains {{\"rule\": \"{line}\", \"message\": json.marshal(x)}} if x := {expression}\n"
        )
    };
    let rules: String = expressions.iter().enumerate().map(rule).collect();
    let folder = tempfile::tempdir().unwrap();
    let archive = opa::build(folder.path(), "expressions", "wasmgate/violations", &rules);
    of_both(folder.path(), &archive, &[]).await
}

/// Functions that Rego v0 has and v1 has not, which rules of Gatekeeper call. OPA has few cases for them.
#[tokio::test(flavor = "multi_thread")]
async fn functions_of_rego_v0_say_what_they_say_in_opa() {
    let expressions: Vec<_> = include_str!("../fixtures/rego/expressions_v0.txt").lines().collect();
    let rule = |(line, expression): (usize, &&str)| {
        format!(
            "violations[{{\"rule\": \"{line}\", \"message\": json.marshal(x)}}] {{ x := {expression} }}\n"
        )
    };
    let rules: String = expressions.iter().enumerate().map(rule).collect();
    let folder = tempfile::tempdir().unwrap();
    let archive = built_as_v0(folder.path(), &rules);
    let (in_gate, in_opa) = of_both(folder.path(), &archive, &[V0]).await;
    for (line, expression) in expressions.iter().enumerate() {
        let (found, wanted) = (in_gate.get(&line.to_string()), in_opa.get(&line.to_string()));
        assert_eq!(found, wanted, "`{expression}`");
    }
    assert!(in_opa.len() > expressions.len() / 2 && in_opa.len() < expressions.len());
}

/// The module says of these errors that there is no value, and of a value of another type no more.
#[tokio::test(flavor = "multi_thread")]
async fn in_strict_mode_errors_of_functions_of_rego_v0_deny() {
    let calls = [
        ("all", "all(input.text)"),
        ("any", "any(input.text)"),
        ("cast_array", "cast_array(input.text)"),
        ("net.cidr_contains", "net.cidr_overlap(\"10.0.0.0/8\", input.text)"),
        ("regex.match", "re_match(input.text, \"a\")"),
        ("set_diff", "set_diff({1}, input.text)"),
    ];
    let rule = |(name, call): &(&str, &str)| {
        format!(
            "violations[{{\"rule\": \"r\", \"message\": \"m\"}}] {{ input.call == \"{name}\"; {call} }}\n"
        )
    };
    let rules: String = calls.iter().map(rule).collect();
    let folder = tempfile::tempdir().unwrap();
    let bundle = Bundle::load(&built_as_v0(folder.path(), &rules)).unwrap();
    let limits = Limits { time: Duration::from_mins(1), strict_builtins: true, ..Limits::default() };
    let set = PolicySet::load(&engine(), vec![bundle], limits).await.unwrap();
    for (name, call) in calls {
        let found = format!("{:?}", set.evaluate(&json!({"call": name, "text": "("})).await.failures);
        assert!(found.contains(&format!("`{name}`: ")), "`{call}`: {found}");
    }
    assert_eq!(set.evaluate(&json!({"call": "none", "text": "("})).await.failures, []);
}

/// Has opa take rules for those of Rego v0.
const V0: &str = "--v0-compatible";

/// A bundle of these rules, which are left in `expressions/rules.rego`.
fn built_as_v0(folder: &Path, rules: &str) -> PathBuf {
    let sources = folder.join("expressions");
    fs::create_dir(&sources).unwrap();
    fs::write(sources.join("rules.rego"), format!("package wasmgate\n\n{rules}")).unwrap();
    let build =
        ["build", V0, "-t", "wasm", "-e", "wasmgate/violations", "-b", "expressions", "-o", "out.tar.gz"];
    opa::run_in(folder, &build);
    folder.join("out.tar.gz")
}

/// What a bundle finds in the gate, and its rules in `expressions/rules.rego` in OPA with these flags.
async fn of_both(folder: &Path, archive: &Path, flags: &[&str]) -> (Values, Values) {
    let input = json!({"arr": [3, 1, 2], "one": 1.0});
    let bundle = Bundle::load(archive).unwrap();
    let limits = Limits { time: Duration::from_mins(1), fuel: u64::MAX >> 1, ..Limits::default() };
    let evaluation = PolicySet::load(&engine(), vec![bundle], limits).await.unwrap().evaluate(&input).await;
    assert_eq!(evaluation.failures, []);
    fs::write(folder.join("input.json"), input.to_string()).unwrap();
    let mut arguments = vec![
        "eval",
        "-f",
        "raw",
        "-i",
        "input.json",
        "-d",
        "expressions/rules.rego",
        "data.wasmgate.violations",
    ];
    arguments.extend_from_slice(flags);
    let in_opa = values(serde_json::from_slice(&opa::run_in(folder, &arguments)).unwrap());
    (values(evaluation.violations), in_opa)
}

/// Functions of Rego v0 for which OPA's compiler calls the code of another one
/// (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`).
const CODE_OF_ANOTHER: &[(&str, &str)] =
    &[("net.cidr_overlap", "net.cidr_contains"), ("re_match", "regex.match")];

/// How the page describes what is done with a function.
fn kind(name: &str) -> &'static str {
    let code = CODE_OF_ANOTHER.iter().find(|(old, _)| *old == name).map_or(name, |(_, code)| *code);
    if BUILTINS.iter().any(|builtin| builtin.name == name) {
        "host"
    } else if CORRECTED.iter().any(|correction| correction.builtin.name == code) {
        "host, in place of the module's own code"
    } else {
        "module"
    }
}

fn page(outcome: &Outcome<'_>) -> String {
    let mut page = String::from(include_str!("functions.md"));
    for (language, Count { passed, run }) in LANGUAGES.iter().zip(outcome.all) {
        let is_of = |name: &str| name.split_once('/').is_some_and(|(found, _)| found == *language);
        let skipped = outcome.skipped.iter().filter(|(name, _)| is_of(name)).count();
        writeln!(
            page,
            "- Rego {language}: {passed} of the {run} cases that can be run come out as OPA says; {skipped} cannot be run."
        )
        .unwrap();
    }
    add_functions(&mut page, outcome);
    page.push_str("\n## Refused when a bundle is loaded\n\n| Function | Reason |\n|---|---|\n");
    for (name, reason) in REFUSED {
        writeln!(page, "| `{name}` | {reason} |").unwrap();
    }
    page.push_str("\n## Cases that come out otherwise\n\n| Case | Reason |\n|---|---|\n");
    let mut exceptions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, reason) in EXCEPTIONS {
        exceptions.entry(reason).or_default().push(name);
    }
    for (reason, names) in exceptions {
        writeln!(page, "| {} | {reason} |", names.join("; ")).unwrap();
    }
    page.push_str("\n## Expressions that come out otherwise\n\n");
    page.push_str("`tests/fixtures/rego/expressions.txt` has more expressions, and a test compares each with `opa eval`.\n\n");
    page.push_str("| Expression | Reason |\n|---|---|\n");
    for (expression, reason) in otherwise() {
        writeln!(page, "| `{}` | {reason} |", expression.replace('|', "\\|")).unwrap();
    }
    add_skipped(&mut page, outcome);
    page
}

fn add_functions(page: &mut String, outcome: &Outcome<'_>) {
    page.push_str(
        "\n## Functions\n\n| Function | Computed by | Cases of Rego v1 passed | Of v0 |\n|---|---|---|---|\n",
    );
    let mut names = outcome.functions.clone();
    // A place in an array is no function.
    let corrected = CORRECTED.iter().filter(|correction| correction.own_code != OwnCode::Places);
    for name in BUILTINS.iter().chain(corrected.map(|correction| &correction.builtin)).map(|b| b.name) {
        names.entry(name).or_default();
    }
    let cases = |Count { passed, run }: Count| {
        if run == 0 { "no case".into() } else { format!("{passed} of {run}") }
    };
    for (name, [v1, v0]) in names.iter().filter(|(name, _)| !is_refused(name)) {
        writeln!(page, "| `{name}` | {} | {} | {} |", kind(name), cases(*v1), cases(*v0)).unwrap();
    }
}

fn add_skipped(page: &mut String, outcome: &Outcome<'_>) {
    page.push_str("\n## Cases that are not run\n\n| Case | Reason |\n|---|---|\n");
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, reason) in &outcome.skipped {
        by_reason.entry(reason).or_default().push(name);
    }
    for (reason, names) in by_reason {
        let shown = match names.len() {
            1 | 2 => names.join("; "),
            several => format!("{several} cases"),
        };
        writeln!(page, "| {shown} | {reason} |").unwrap();
    }
}

fn is_refused(name: &str) -> bool {
    REFUSED.iter().any(|(refused, _)| *refused == name)
}
