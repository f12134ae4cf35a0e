//! Rules of gatekeeper-library on the gate's engine, unmodified: what their own suites say of their samples, and the same as
//! `opa eval` says.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::process::{self, program, root};

/// The rules of `tests/fixtures/gatekeeper`.
const RULES: [&str; 5] =
    ["allowedrepos", "capabilities", "containerlimits", "imagedigests", "requiredlabels"];

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

/// The cases of a test of a suite, as `policy test` reads them.
fn cases(folder: &Path, test: &Value) -> Vec<Value> {
    let case = |case: &Value| {
        let object = document(&folder.join(case["object"].as_str().unwrap()));
        let is_refused =
            case["assertions"][0]["violations"] != "no" && case["assertions"][0]["violations"] != false;
        let violations = if is_refused { json!([{"rule": "gatekeeper"}]) } else { json!([]) };
        json!({"name": case["name"], "input": {"review": review(object)}, "violations": violations})
    };
    test["cases"].as_array().unwrap().iter().map(case).collect()
}

/// The Rego of a template and its libraries.
fn sources(template: &Value) -> (String, Vec<String>) {
    let target = &template["spec"]["targets"][0];
    let engines = target["code"].as_array().into_iter().flatten();
    let source =
        engines.filter(|code| code["engine"] == "Rego").map(|code| &code["source"]).next().unwrap_or(target);
    let libraries =
        source["libs"].as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_string());
    (source["rego"].as_str().unwrap().to_string(), libraries.collect())
}

/// Writes the folder of a bundle that hands the rule the document for which it was written.
fn write(into: &Path, template: &Value, parameters: &Value, cases: &[Value]) {
    let (rule, libraries) = sources(template);
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
    let (mut run, mut refused) = (0, 0);
    for rule in RULES {
        let folder = root().join("tests/fixtures/gatekeeper").join(rule);
        for test in document(&folder.join("suite.yaml"))["tests"].as_array().unwrap() {
            let at = |field: &str| document(&folder.join(test[field].as_str().unwrap()));
            let (template, constraint) = (at("template"), at("constraint"));
            let parameters = constraint["spec"].get("parameters").cloned().unwrap_or_else(|| json!({}));
            let (into, cases) = (tempfile::tempdir().unwrap(), cases(&folder, test));
            write(into.path(), &template, &parameters, &cases);
            let mut command = process::wasmgate();
            command
                .args(["policy", "test", "--no-schema", "-o", "json", "--opa"])
                .arg(program("opa"))
                .arg(into.path());
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{rule}: {said}{}", String::from_utf8_lossy(&output.stderr));
            let report: Value = serde_json::from_str(&said).unwrap();
            run += report["tests"].as_array().unwrap().len();
            refused += cases.iter().filter(|case| case["violations"] != json!([])).count();
        }
    }
    assert_eq!((run, refused), (25, 15), "samples, and those that are refused");
}
