//! `docs/output.md` against real output: every field, outcome and exit code is on the page, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory as _;
use serde_json::{Value, json, to_value};
use wasmgate::image::{Claim, Digest, ImageFacts, ModuleFacts, SpinApp, WasmFormat};

use super::{Said, layouts, pipe, policy, replay, run, samples};
use crate::support::gate::{Request, defaulted, plain_pod};
use crate::support::oci::{ImageBuilder, SPIN_LAYER, fixtures};
use crate::support::process::{program, root};

/// Name of a field or value → the rest of its row.
type Rows = BTreeMap<String, String>;

/// The text of a section of the page.
fn section(title: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/output.md")).unwrap();
    let sections = page.split("\n## ").skip(1);
    let named = |section: &&str| section.lines().next().unwrap().trim_matches('`') == title;
    sections.into_iter().find(named).unwrap_or_else(|| panic!("no section {title}")).to_string()
}

/// The names in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// The rows of the table with this first heading in a section. A cell may have several names.
fn rows(title: &str, heading: &str) -> Rows {
    let section = section(title);
    let head = format!("| {heading} |");
    let lines: Vec<&str> = section.lines().collect();
    let is_head = |pair: &[&str]| pair[0].starts_with(&head) && pair[1].starts_with("|---");
    let start = lines.windows(2).position(is_head).unwrap_or_else(|| panic!("no table {heading} in {title}"));
    let table = lines[start + 2..].iter().copied().take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let (names, rest) = line.trim_start_matches("| ").split_once(" | ").unwrap();
        quoted(names).into_iter().map(|name| (name, rest.to_string())).collect::<Vec<_>>()
    };
    table.flat_map(row).collect()
}

fn keys<'a>(objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    objects.into_iter().flat_map(|object| object.as_object().unwrap().keys().cloned()).collect()
}

/// The items of a list under this name in every object.
fn all<'a>(objects: &'a [Value], list: &str) -> Vec<&'a Value> {
    objects.iter().flat_map(|object| object[list].as_array().unwrap_or_else(|| panic!("{list}"))).collect()
}

/// A report without the two fields that every one of its kind has.
fn without_type(mut report: Value, kind: &str) -> Value {
    let fields = report.as_object_mut().unwrap();
    assert_eq!(fields.remove("apiVersion"), Some("wasmgate.dev/v1alpha1".into()));
    assert_eq!(fields.remove("kind"), Some(kind.into()));
    report
}

/// What kubectl's own JSONPath finds in a report. It asks no cluster.
fn jsonpath(report: &str, template: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report");
    std::fs::write(&file, report).unwrap();
    let mut kubectl = std::process::Command::new(program("kubectl"));
    kubectl.args(["annotate", "--local", "for=jsonpath", "-o", &format!("jsonpath={template}")]);
    kubectl.args(["-f".as_ref(), file.as_os_str()]).env("KUBECONFIG", "/dev/null").env("HOME", folder.path());
    let said = Said::of(&mut kubectl);
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

#[test]
fn the_jsonpath_of_kubectl_finds_what_a_script_asks_for() {
    let (workloads, images) = (samples("workloads"), layouts());
    let files = ["-f", workloads.to_str().unwrap(), "--image-layouts", &images];
    let denied = |list: &Value| -> String {
        let denied = list.as_array().unwrap().iter().filter(|one| one["outcome"] == "denied");
        let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
        denied.fold(String::new(), |all, one| all + &text(one, "kind") + " " + &text(one, "name") + ";")
    };
    let template =
        |list: &str| format!("{{range .{list}[?(@.outcome==\"denied\")]}}{{.kind}} {{.name}};{{end}}");
    for (command, list, kind) in
        [("scan", "workloads", "ScanReport"), ("explain", "objects", "ExplainReport")]
    {
        let json = run(&[&[command, "-o", "json"], &files[..]].concat());
        let expected = denied(&json.json()[list]);
        assert!(expected.contains("Pod files;"), "{expected}");
        assert_eq!(jsonpath(&json.out, &template(list)), expected);
        let yaml = run(&[&[command, "-o", "yaml"], &files[..]].concat());
        assert_eq!(jsonpath(&yaml.out, &template(list)), expected, "the same in YAML");
        assert_eq!(jsonpath(&yaml.out, "{.kind}"), kind);
    }
    let can = "{.workloads[?(@.name==\"orders\")].judged[*].containers[*].effective[*].capability}";
    let scan = run(&[&["scan", "-o", "json"], &files[..]].concat());
    assert!(jsonpath(&scan.out, can).contains("http.outbound"), "{}", jsonpath(&scan.out, can));
    let diff = run(&[
        "diff",
        "--image-layouts",
        &images,
        "samples.example/hello:1",
        "samples.example/orders:1",
        "-o",
        "json",
    ]);
    assert_eq!(jsonpath(&diff.out, "{.kind} {.adds}"), "DiffReport true");
}

#[track_caller]
fn same(page: &Rows, real: &BTreeSet<String>) {
    let page: BTreeSet<String> = page.keys().cloned().collect();
    assert_eq!(&page, real, "docs/output.md (left) and the output (right) differ");
}

/// All commands, as they are typed.
fn commands() -> BTreeSet<String> {
    let all = wasmgate::cli::Args::command();
    let typed = |command: &clap::Command| -> Vec<String> {
        let own = command.get_name();
        match command.get_subcommands().map(|sub| format!("{own} {}", sub.get_name())).collect::<Vec<_>>() {
            none if none.is_empty() => vec![own.to_string()],
            further => further,
        }
    };
    all.get_subcommands().flat_map(typed).collect()
}

/// The names in a row's text, which must be the fields of its objects.
#[track_caller]
fn named_in_row(page: &Rows, name: &str, real: &BTreeSet<String>) {
    let named: BTreeSet<String> = quoted(&page[name]).into_iter().collect();
    let missing: Vec<_> = real.difference(&named).collect();
    assert!(!real.is_empty() && missing.is_empty(), "the row `{name}` does not name {missing:?}");
}

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: app, namespace: NAMESPACE, annotations: {NOTE: x}}, spec: \
                   {containers: [{name: a, image: IMAGE}]}}";

fn pod(namespace: &str, note: &str, image: &str) -> String {
    let image = format!("'{image}:1'");
    POD.replace("NAMESPACE", namespace).replace("NOTE", note).replace("IMAGE", &image)
}

/// What wasm-to-oci pushes: a module's layer under a config that no shim reads.
fn unrecognised(folder: &Path) -> String {
    let mut builder = ImageBuilder::new("application/vnd.wasm.config.v1+json", json!({}));
    let image = builder.layer(SPIN_LAYER, fixtures::command()).build();
    image.write_layout(&folder.join("policy"), "1").unwrap();
    format!("policies.example={}", folder.display())
}

/// The objects of `explain` on samples and on manifests that end in every other way.
fn explained() -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let (images, more) = (layouts(), unrecognised(folder.path()));
    let fixed = ["-o", "json", "--show-input", "--image-layouts", &images, "--image-layouts", &more];
    let (workloads, grants) = (samples("workloads"), samples("grants"));
    let files = ["explain", "-f", workloads.to_str().unwrap(), "--grants", grants.to_str().unwrap()];
    let mut objects = run(&[&files, &fixed[..]].concat()).json()["objects"].as_array().unwrap().clone();
    let others = [
        pod("shop", "a", "samples.example/none"),
        pod("shop", "a", "policies.example/policy"),
        pod("kube-system", "a", "samples.example/hello"),
        pod("shop", "kubernetes.io/config.mirror", "samples.example/hello"),
        "{apiVersion: v1, kind: Service, metadata: {name: s}}".to_string(),
        pod("shop", "a", "samples.example/hello").replace("name: a,", "name: 7,"),
        Request::create("shop", defaulted(&plain_pod("samples.example/hello:1"), "shop", "")).to_body(),
    ];
    let said = pipe(&[&["explain", "-f", "-"], &fixed[..]].concat(), &others.join("\n---\n"));
    objects.extend(said.json()["objects"].as_array().unwrap().iter().cloned());
    let cluster = tempfile::tempdir().unwrap();
    let class = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: other}\nhandler: runc\n";
    std::fs::write(cluster.path().join("classes.yaml"), class).unwrap();
    let mut gone = plain_pod("samples.example/hello:1");
    gone["spec"]["runtimeClassName"] = json!("nosuch");
    let asked = ["explain", "-f", "-", "--cluster", cluster.path().to_str().unwrap()];
    let said = pipe(&[&asked, &fixed[..]].concat(), &gone.to_string());
    objects.extend(said.json()["objects"].as_array().unwrap().iter().cloned());
    objects
}

#[test]
fn the_fields_and_outcomes_of_explain_are_those_of_the_page() {
    let page = rows("explain", "Field");
    let objects = explained();
    same(&page, &keys(&objects));
    named_in_row(&page, "violations", &keys(all(&objects, "violations")));
    let (judged, unjudged): (Vec<_>, Vec<_>) =
        all(&objects, "containers").into_iter().partition(|container| container.get("effective").is_some());
    named_in_row(&page, "containers", &keys(unjudged));
    let inputs: Vec<&Value> = objects.iter().filter_map(|o| o.pointer("/input/containers")).collect();
    assert!(
        inputs.iter().flat_map(|list| list.as_array().unwrap()).eq(judged),
        "each is an entry of the input"
    );
    let outcomes = objects.iter().map(|object| object["outcome"].as_str().unwrap().to_string()).collect();
    same(&rows("explain", "`outcome`"), &outcomes);
    let decisions = replay::explained_decisions();
    let page = rows("explain", "Field of a decision");
    same(&page, &keys(&decisions));
    named_in_row(&page, "violations", &keys(all(&decisions, "violations")));
    let outcomes = decisions.iter().map(|one| one["outcome"].as_str().unwrap().to_string()).collect();
    same(&rows("explain", "`outcome` of a decision"), &outcomes);
}

#[test]
fn the_fields_of_scan_are_those_of_the_page() {
    let (workloads, grants, images) = (samples("workloads"), samples("grants"), layouts());
    let fixed =
        ["scan", "--all", "-o", "json", "--image-layouts", &images, "--grants", grants.to_str().unwrap()];
    let found = run(&[&fixed[..], &["-f", workloads.to_str().unwrap()]].concat()).json();
    let unknown = "{apiVersion: example.com/v1, kind: Fleet, metadata: {name: f}, spec: {pods: {containers: [{name: a, \
                   image: a}]}}}";
    let broken = pod("shop", "a", "samples.example/hello").replace("name: a,", "name: 7,");
    let others = format!("{unknown}\n---\n{broken}\n---\n{}", pod("shop", "a", "samples.example/none"));
    let others = pipe(&[&fixed[..], &["-f", "-"]].concat(), &others).json();
    let reports = [found, others].map(|report| without_type(report, "ScanReport"));
    let page = rows("scan", "Field");
    let top = |name: &String| !name.contains('.') && !["suggestedGrant", "warnings"].contains(&name.as_str());
    let top: BTreeSet<String> =
        page.keys().filter(|name| top(name)).map(|name| name.replace("[]", "")).collect();
    assert_eq!(top, keys(&reports), "docs/output.md (left) and the output (right) differ");
    let without = |mut keys: BTreeSet<String>, rows: &[&str]| {
        keys.retain(|key| !rows.contains(&key.as_str()));
        keys
    };
    let workloads: Vec<Value> = all(&reports, "workloads").into_iter().cloned().collect();
    let judged: Vec<Value> = all(&workloads, "judged").into_iter().cloned().collect();
    let rows_of_judged = ["containers", "violations", "suggestedGrant", "warnings"];
    named_in_row(&page, "summary", &keys(reports.iter().map(|report| &report["summary"])));
    named_in_row(&page, "workloads[]", &without(keys(&workloads), &["judged"]));
    named_in_row(&page, "workloads[].judged[]", &without(keys(&judged), &rows_of_judged));
    named_in_row(&page, "workloads[].judged[].containers[]", &keys(all(&judged, "containers")));
    named_in_row(&page, "notJudged[]", &keys(all(&reports, "notJudged")));
    named_in_row(&page, "grants[]", &keys(all(&reports[..1], "grants")));
}

#[test]
fn the_fields_of_check_are_those_of_the_page() {
    let grant = |name: &str, spec: &str| {
        format!(
            "{{apiVersion: wasmgate.dev/v1alpha1, kind: WasiGrant, metadata: {{name: {name}, namespace: shop}}, spec: {{{spec}}}}}"
        )
    };
    let documents = [
        grant("a", "capabilities: [{name: enw}]"),
        grant("b", "capabilities: [{name: env}], expiresAt: 2020-01-01T00:00:00Z"),
        "{apiVersion: v1, kind: Service, metadata: {name: s}}".to_string(),
    ];
    let report = pipe(&["check", "-", "-o", "json"], &documents.join("\n---\n")).json();
    let page = rows("check", "Field");
    let report = without_type(report, "CheckReport");
    same(&page, &keys([&report]));
    named_in_row(&page, "problems", &keys(report["problems"].as_array().unwrap()));
    let warnings = report["warnings"].as_array().unwrap();
    assert_eq!((warnings.len(), report["notChecked"].as_array().unwrap().len()), (1, 1), "{report}");
    assert_eq!(keys(warnings), keys(report["problems"].as_array().unwrap()));
}

fn differences(old: &str, new: &str) -> Value {
    run(&["diff", "--image-layouts", &layouts(), old, new, "-o", "json"]).json()
}

#[test]
fn the_fields_of_diff_are_those_of_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = |name: &str, image: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pod("shop", "a", image)).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (hello, gone) =
        (manifest("old.yaml", "samples.example/hello"), manifest("new.yaml", "samples.example/none"));
    let exempt = folder.path().join("exempt.yaml");
    std::fs::write(&exempt, pod("kube-system", "a", "samples.example/hello")).unwrap();
    let exempt = exempt.to_str().unwrap();
    let reports = [
        differences("samples.example/hello:1", "samples.example/orders:1"),
        differences(&hello, &gone),
        differences(&gone, &hello),
        differences(exempt, exempt),
    ];
    let page: Rows =
        rows("diff", "Field").into_iter().map(|(k, v)| (k.replace("programs[].", ""), v)).collect();
    let programs = all(&reports, "programs");
    let mut real = keys(programs.iter().copied());
    real.insert("adds".into());
    same(&page, &real);
    let reports = reports.clone().map(|report| without_type(report, "DiffReport"));
    assert_eq!(keys(&reports), ["adds".to_string(), "programs".to_string()].into());
    named_in_row(&page, "sizes", &keys(programs.iter().flat_map(|p| [&p["sizes"], &p["sizes"]["old"]])));
    named_in_row(&page, "capabilities", &keys(programs.iter().map(|program| &program["capabilities"])));
}

#[test]
fn the_fields_of_replay_are_those_of_the_page() {
    let report = without_type(replay::report(), "ReplayReport");
    let page = rows("replay", "Field");
    let of_report = page.iter().filter(|(name, _)| !name.contains('.'));
    let of_report: Rows = of_report.map(|(name, row)| (name.clone(), row.clone())).collect();
    same(&of_report, &keys([&report]));
    let listed = report["listed"].as_array().unwrap();
    let of_decision =
        page.keys().filter_map(|name| name.strip_prefix("listed[].")).map(String::from).collect();
    assert_eq!(keys(listed), of_decision, "docs/output.md (right) and the output (left) differ");
    named_in_row(&page, "listed[].added", &keys(all(listed, "added")));
}

#[test]
fn the_fields_of_inspect_are_those_of_the_page() {
    let digest = Digest::of(b"");
    let (mut image, mut module) =
        (ImageFacts::blank(&digest, &digest), ModuleFacts::blank("/a.wasm", WasmFormat::Module));
    // Fields that are left out where there is nothing to say.
    image.search_path = Some("/bin".into());
    image.wasm_media_type = true;
    image.spin = Some(SpinApp::default());
    image.claims = vec![Claim { field: "os".into(), claimed: "a".into(), found: "b".into() }];
    module.component = Some("web".into());
    module.memory_max_bytes = Some(65536);
    let (image, module) = (to_value(image).unwrap(), to_value(module).unwrap());
    let (of_image, of_module) = (rows("inspect", "Field of an image"), rows("inspect", "Field of a module"));
    let (image, mut module) = (keys([&image]), keys([&module]));
    module.extend(["features".to_string(), "interpreters".to_string()]);
    same(&of_image, &image);
    same(&of_module, &module);
    let inspected = ["files", "hello", "orders", "web"].map(|name| {
        run(&["inspect", &format!("oci:{}:1", samples("images").join(name).display()), "-o", "json"]).json()
    });
    assert!(keys(&inspected).is_subset(&image), "{:?}", keys(&inspected));
    assert!(keys(all(&inspected, "modules")).is_subset(&module));
    for list in ["evidence", "files"] {
        named_in_row(&of_image, list, &keys(all(&inspected, list)));
    }
    let modules: Vec<Value> = all(&inspected, "modules").into_iter().cloned().collect();
    named_in_row(&of_module, "imports", &keys(all(&modules, "imports")));
}

/// The exit codes for which the page has a meaning.
fn documented_codes(command: &str) -> BTreeSet<i32> {
    let row = &rows("Exit codes", "Command")[command];
    let cells = row.split('|').map(str::trim).enumerate();
    cells.filter(|(_, cell)| !cell.is_empty()).map(|(code, _)| i32::try_from(code).unwrap()).collect()
}

/// One run for every exit code of a command.
fn codes(runs: &[Said]) -> BTreeSet<i32> {
    runs.iter().map(|said| said.code).collect()
}

#[test]
fn every_exit_code_of_the_page_occurs_and_has_its_meaning() {
    let images = layouts();
    let ask = |command: &str, text: &str| pipe(&[command, "-f", "-", "--image-layouts", &images], text);
    let hello = pod("shop", "a", "samples.example/hello");
    let files = pod("shop", "a", "samples.example/files");
    let unread = pod("shop", "a", "samples.example/none");
    let explain = [&hello, &files, "kind: [", &unread].map(|text| ask("explain", text));
    let wrong_class = pod("shop", "a", "samples.example/orders")
        .replace("spec: {", "spec: {runtimeClassName: wasmtime, ")
        .replace("name: a,", "name: a, command: [/],");
    let suggest = [&files, &wrong_class, "kind: [", &unread].map(|text| ask("suggest", text));
    // A document that cannot be read is one that is not judged.
    let scan = [
        ask("scan", &hello),
        ask("scan", &files),
        run(&["scan", "-f", "/no/such/file.yaml"]),
        ask("scan", &unread),
    ];
    let check = [
        pipe(&["check", "-"], &hello),
        pipe(&["check", "-"], &hello.replace("name: a,", "name: 7,")),
        run(&["check", "/no/such/file.yaml"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unread.yaml");
    std::fs::write(&file, &unread).unwrap();
    let (file, hello, files) = (file.to_str().unwrap(), "samples.example/hello:1", "samples.example/files:1");
    let diff = [[hello, hello], [hello, files], ["./none.wasm", hello], [file, file]]
        .map(|sides| run(&["diff", "--image-layouts", &images, sides[0], sides[1]]));
    let inspect = ["samples.example/hello:1", "./none.wasm"]
        .map(|target| run(&["inspect", "--image-layouts", &images, target]));
    let replay = replay::runs_for_every_exit_code();
    let completion = [run(&["completion", "bash"]), run(&["completion"])];
    let pages = folder.path().join("pages");
    let man = [run(&["man", pages.to_str().unwrap()]), run(&["man", "/dev/null/pages"])];
    let tried = [
        ("explain", &explain[..]),
        ("suggest", &suggest),
        ("scan", &scan),
        ("check", &check),
        ("diff", &diff),
        ("inspect", &inspect),
        ("completion", &completion),
        ("man", &man),
        ("replay", &replay),
    ];
    let of_policy = policy::runs_for_every_exit_code();
    let tried = tried.into_iter().chain(of_policy.iter().map(|(command, runs)| (*command, runs.as_slice())));
    let tried: Vec<_> = tried.collect();
    for (command, runs) in tried.iter().copied() {
        let each: Vec<i32> = runs.iter().map(|said| said.code).collect();
        assert!(each.is_sorted(), "`{command}` in the order of the columns: {each:?}, {runs:?}");
        assert_eq!(documented_codes(command), codes(runs), "{command}");
        let failed = runs.iter().filter(|said| said.code == 2);
        assert!(failed.clone().all(|said| said.out.is_empty() && !said.err.is_empty()), "{runs:?}");
    }
    // What `serve` ends with takes signals: `serve.rs`.
    let tried = tried.iter().map(|(command, _)| *command).chain(["serve"]);
    same(&rows("Exit codes", "Command"), &tried.map(String::from).collect());
    assert_eq!(documented_codes("serve"), [0, 2].into());
    same(&rows("Exit codes", "Command"), &commands());
}
