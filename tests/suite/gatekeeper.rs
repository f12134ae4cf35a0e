//! Rules of gatekeeper-library on the gate's engine, unmodified: what their own suites say of their samples, and the same as
//! `opa eval` says. With `WASMGATE_GATEKEEPER_LIBRARY`, the folder `library` of a clone, all of its rules are run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::process::{self, program, root};

/// The folder of the whole library.
const LIBRARY: &str = "WASMGATE_GATEKEEPER_LIBRARY";

/// The folders of the rules, each with its suite.
fn rules() -> Vec<PathBuf> {
    let groups = match std::env::var_os(LIBRARY) {
        Some(library) => {
            ["general", "pod-security-policy"].map(|group| Path::new(&library).join(group)).to_vec()
        }
        None => vec![root().join("tests/fixtures/gatekeeper")],
    };
    let entries = groups.iter().flat_map(|group| fs::read_dir(group).unwrap());
    let mut rules: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    rules.retain(|folder| folder.join("suite.yaml").exists());
    rules.sort();
    rules
}

fn documents(path: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

fn document(path: &Path) -> Value {
    documents(path).into_iter().find(|document| !document.is_null()).unwrap()
}

/// What Gatekeeper asks a rule about an object (`gator verify` hands it over so).
fn review(object: Value) -> Value {
    if object["kind"] == "AdmissionReview" {
        return object["request"].clone();
    }
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    json!({"kind": {"group": group, "version": version, "kind": object["kind"]}, "name": object["metadata"]["name"],
        "namespace": object["metadata"]["namespace"], "object": object})
}

/// The cases of a test of a suite, as `policy test` reads them. Left out are those that need other objects of a cluster.
fn cases(folder: &Path, test: &Value) -> Vec<Value> {
    let case = |case: &Value| {
        let object = document(&folder.join(case["object"].as_str().unwrap()));
        let said = &case["assertions"][0]["violations"];
        let is_refused = *said != "no" && *said != false && *said != 0;
        let violations = if is_refused { json!([{"rule": "gatekeeper"}]) } else { json!([]) };
        json!({"name": case["name"], "input": {"review": review(object)}, "violations": violations})
    };
    let all = test["cases"].as_array().unwrap().iter();
    all.filter(|case| case.get("inventory").is_none()).map(case).collect()
}

/// The Rego of a template and its libraries; `None` of one that is in another language.
fn sources(template: &Value) -> Option<(String, Vec<String>)> {
    let target = &template["spec"]["targets"][0];
    let engines = target["code"].as_array().into_iter().flatten();
    let source =
        engines.filter(|code| code["engine"] == "Rego").map(|code| &code["source"]).next().unwrap_or(target);
    let libraries =
        source["libs"].as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_string());
    Some((source["rego"].as_str()?.to_string(), libraries.collect()))
}

/// Writes the folder of a bundle that hands the rule the document for which it was written.
fn write(into: &Path, (rule, libraries): &(String, Vec<String>), parameters: &Value, cases: &[Value]) {
    let package = rule.lines().find_map(|line| line.strip_prefix("package ")).unwrap().trim();
    let adapter = format!(
        "package wasmgate\n\nviolations[violation] {{\n\tfound := data.{package}.violation with input as \
         {{\"review\": input.review, \"parameters\": {parameters}}}\n\tcount(found) > 0\n\tviolation := {{\"rule\": \"gatekeeper\", \
         \"message\": concat(\"; \", sort([one.msg | one := found[_]]))}}\n}}\n"
    );
    fs::write(into.join("adapter.rego"), adapter).unwrap();
    fs::write(into.join("rule.rego"), rule).unwrap();
    for (index, library) in libraries.iter().enumerate() {
        fs::write(into.join(format!("library_{index}.rego")), library).unwrap();
    }
    fs::write(into.join(".manifest"), json!({"roots": [""], "rego_version": 0}).to_string()).unwrap();
    let all = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "PolicyCases", "cases": cases});
    fs::write(into.join("rule_cases.yaml"), all.to_string()).unwrap();
}

#[test]
fn rules_of_gatekeeper_library_say_of_their_samples_what_their_suites_expect() {
    let (mut rules_run, mut run, mut refused) = (0, 0, 0);
    for folder in rules() {
        let before = run;
        for test in document(&folder.join("suite.yaml"))["tests"].as_array().unwrap() {
            let at = |field: &str| document(&folder.join(test[field].as_str().unwrap()));
            let (Some(sources), constraint) = (sources(&at("template")), at("constraint")) else { continue };
            let parameters = constraint["spec"].get("parameters").cloned().unwrap_or_else(|| json!({}));
            let (into, cases) = (tempfile::tempdir().unwrap(), cases(&folder, test));
            if cases.is_empty() {
                continue;
            }
            write(into.path(), &sources, &parameters, &cases);
            let mut command = process::wasmgate();
            command
                .args(["policy", "test", "--no-schema", "-o", "json", "--opa"])
                .arg(program("opa"))
                .arg(into.path());
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {said}{errors}", folder.display());
            let report: Value = serde_json::from_str(&said).unwrap();
            run += report["tests"].as_array().unwrap().len();
            refused += cases.iter().filter(|case| case["violations"] != json!([])).count();
        }
        rules_run += usize::from(run > before);
    }
    println!("{rules_run} rules, {run} samples, {refused} of which are refused");
    if std::env::var_os(LIBRARY).is_none() {
        assert_eq!((rules_run, run, refused), (5, 25, 15), "rules, samples, and those that are refused");
    }
}
