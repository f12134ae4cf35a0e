//! `check` reports everything that is wrong at once, with its place and what to write instead.

use std::path::Path;

use serde_json::json;

use super::{Said, pipe, run, samples};
use crate::support::process::root;

const HEAD: &str = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";

fn configuration(folder: &Path, body: &str) -> String {
    let file = folder.join("gate.yaml");
    std::fs::write(&file, format!("{HEAD}{body}")).unwrap();
    file.to_str().unwrap().to_string()
}

fn check(arguments: &[&str]) -> Said {
    run(&[&["check"], arguments].concat())
}

#[test]
fn the_installation_and_the_samples_pass() {
    let config = root().join("manifests/install/config.yaml");
    let (grants, workloads) = (samples("grants"), samples("workloads"));
    let said = check(&[
        "--config",
        config.to_str().unwrap(),
        "--grants",
        grants.to_str().unwrap(),
        workloads.to_str().unwrap(),
    ]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    said.has(&["nothing is wrong (configurations: 1", "policy bundles: 1", "workloads: 6"]);
}

#[test]
fn every_wrong_field_is_reported_with_its_value_and_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(
        folder.path(),
        "enforcement: {rules: {need-grant: warn}, neverExempt: [native]}\ngrants: /no/such/folder\n\
         policies: {bundles: [/no/such/bundle.tar.gz]}\n",
    );
    let said = check(&["-c", &config]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "could not list the grants directory `/no/such/folder`",
        "/no/such/bundle.tar.gz: cannot read the bundle: ",
        "2 problems",
    ]);
    let config = configuration(
        folder.path(),
        "server: {reviewTimeout: 0s, maxConcurrentReviews: 0}\nexemptNamespaces: ['team-*']\n",
    );
    let said = check(&["-c", &config]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "gate.yaml, server.maxConcurrentReviews: cannot be `0`",
        "gate.yaml, exemptNamespaces: cannot be `team-*`",
        "gate.yaml, server.reviewTimeout: cannot be `0s`",
        "3 problems",
    ]);
    let config = configuration(folder.path(), "images: {layouts: {reg.example: /no/such/folder}}\n");
    check(&["-c", &config]).has(&["images.layouts.reg.example: cannot be `/no/such/folder`: no such folder"]);
    let config =
        configuration(folder.path(), "enforcement: {rules: {need-grant: warn}, neverExempt: [native]}\n");
    let said = check(&["-c", &config]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "gate.yaml, enforcement.rules: cannot be `need-grant`: no loaded bundle has this rule; write one of",
        "gate.yaml, enforcement.neverExempt: cannot be `native`",
        "2 problems",
    ]);
    let json = check(&["-c", &config, "-o", "json"]).json();
    assert_eq!(json["problems"][0]["field"], "enforcement.rules");
    assert_eq!(json["problems"][0]["value"], "need-grant");
    assert!(json["problems"][0]["message"].as_str().unwrap().contains("needs-grant"), "{json}");
    let yaml: serde_json::Value = serde_saphyr::from_str(&check(&["-c", &config, "-o", "yaml"]).out).unwrap();
    assert_eq!(yaml, json);
}

#[test]
fn an_unreadable_configuration_does_not_hide_problems_of_the_grants() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), "sever: {}\n");
    let grants = folder.path().join("grants");
    std::fs::create_dir(&grants).unwrap();
    let grant = "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: {name: g, namespace: shop}\n\
                 spec: {capabilities: [{name: http.outbond}]}\n";
    std::fs::write(grants.join("g.yaml"), grant).unwrap();
    let said = check(&["-c", &config, "--grants", grants.to_str().unwrap()]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "gate.yaml",
        "sever",
        "g.yaml document 1, spec.capabilities[0].name: unknown capability `http.outbond`",
        "did you mean `http.outbound`?",
        "2 problems",
    ]);
}

#[test]
fn documents_are_checked_by_their_kind() {
    let text = format!(
        "{HEAD}server: {{maxConcurrentReviews: 0}}\n---\napiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\n\
         metadata: {{name: g, namespace: shop}}\nspec: {{capabilities: [{{name: env, names: [NO]}}]}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: 7}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\n"
    );
    let said = pipe(&["check", "-", "-o", "json"], &text);
    assert_eq!(said.code, 1, "{said:?}");
    let json = said.json();
    let origins: Vec<_> = json["problems"].as_array().unwrap().iter().map(|p| p["origin"].clone()).collect();
    assert_eq!(origins, [json!("standard input, document 1"), json!("standard input, document 3")], "{json}");
    assert_eq!(json["problems"][0]["field"], "server.maxConcurrentReviews");
    assert_eq!(json["checked"]["grants"], 1);
    assert_eq!(json["notChecked"], json!(["Service (standard input, document 4)"]));
}

#[test]
fn a_broken_file_is_a_problem_and_does_not_hide_those_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), "server: {maxConcurrentReviews: 0}\n");
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, "a: [\n").unwrap();
    let said = check(&[broken.to_str().unwrap(), &config]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["broken.yaml: ", "server.maxConcurrentReviews: cannot be `0`", "2 problems"]);
}

#[test]
fn nothing_to_check_gives_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    check(&[]).fails(&["found nothing to check; name files, --config, --grants or --bundle"]);
    check(&[folder.path().to_str().unwrap()]).fails(&["found nothing to check in `"]);
    let said = pipe(&["check", "-"], "");
    assert_eq!(said.code, 2, "{said:?}");
}

#[test]
fn a_file_that_is_no_bundle_is_named_without_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ours.tar.gz");
    std::fs::write(&bundle, "no archive at all").unwrap();
    let said = check(&["--bundle", bundle.to_str().unwrap()]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "ours.tar.gz: cannot unpack the bundle, ",
        "it is not a gzipped tar archive, or damaged",
        "1 problem",
    ]);
    assert_eq!(said.out.matches("ours").count(), 1, "{said:?}");
}

#[test]
fn a_bundle_that_cannot_be_compiled_is_named_by_its_file_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ours");
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("policy.wasm"), b"\0asm\x01\0\0\0").unwrap();
    std::fs::write(bundle.join("data.json"), "{}").unwrap();
    let json = check(&["--bundle", bundle.to_str().unwrap(), "-o", "json"]).json();
    assert_eq!(json["problems"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["problems"][0]["origin"], bundle.to_str().unwrap());
    let message = json["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains("the bundle") && !message.contains("ours"), "{message}");
}

/// A grant or an exception of namespace `shop`.
fn granted(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: wasmgate.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

const ENV: &str = "capabilities: [{name: env}]";

#[test]
fn what_has_expired_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let grants = folder.path().join("grants");
    std::fs::create_dir(&grants).unwrap();
    let old = |spec: &str| format!("{spec}, expiresAt: 2020-01-01T00:00:00Z");
    std::fs::write(grants.join("old.yaml"), granted("WasiGrant", "old", &old(ENV))).unwrap();
    let excused = folder.path().join("excused.yaml");
    let spec = old("rules: [needs-grant], reason: r");
    std::fs::write(&excused, granted("WasiException", "excused", &spec)).unwrap();
    let arguments = ["--grants", grants.to_str().unwrap(), excused.to_str().unwrap()];
    let said = check(&arguments);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "old.yaml document 1, spec.expiresAt: warning: expired at `2020-01-01T00:00:00Z` and has no effect",
        "excused.yaml, spec.expiresAt: warning: expired at",
        "nothing is wrong, 2 warnings (exceptions: 1, grants: 1",
    ]);
    let json = check(&[&arguments[..], &["-o", "json"]].concat()).json();
    assert_eq!(
        (&json["problems"], &json["warnings"][0]["value"]),
        (&json!([]), &json!("2020-01-01T00:00:00Z"))
    );
}

#[test]
fn an_exception_from_a_rule_that_no_bundle_has_is_a_problem() {
    let spec = "rules: [needs-grant, need-grants], reason: r, expiresAt: 2999-01-01T00:00:00Z";
    let json = pipe(&["check", "-", "-o", "json"], &granted("WasiException", "e", spec)).json();
    let problem = &json["problems"][0];
    assert_eq!((&problem["field"], &problem["value"]), (&json!("spec.rules[1]"), &json!("need-grants")));
    let message = problem["message"].as_str().unwrap();
    assert!(message.starts_with("no loaded bundle has this rule; write one of "), "{message}");
    assert!(message.ends_with("; did you mean `needs-grant`?"), "{message}");
    assert_eq!(json["problems"].as_array().unwrap().len(), 1, "{json}");
}

#[test]
fn an_object_in_two_files_is_a_problem_that_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let one = file("one.yaml", &granted("WasiGrant", "g", ENV));
    let other =
        file("other.yaml", &[granted("WasiGrant", "h", ENV), granted("WasiGrant", "g", ENV)].concat());
    let said = check(&[&one, &other]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "other.yaml, document 2, metadata.name: `WasiGrant shop/g` is given twice: here and in ",
        "one.yaml; rename one or remove it",
        "1 problem (grants: 3",
    ]);
}

#[test]
fn what_cannot_be_parsed_has_its_field_and_its_value_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), "server:\n  reviewTimeout: soon\n");
    let wrong = |json: &serde_json::Value, field: &str, value: &str, message: &str| {
        let problem = &json["problems"][0];
        assert_eq!((&problem["field"], &problem["value"]), (&json!(field), &json!(value)), "{json}");
        assert!(problem["message"].as_str().unwrap().starts_with(message), "{json}");
    };
    let json = check(&["-c", &config, "-o", "json"]).json();
    wrong(&json, "server.reviewTimeout", "soon", "line 4 column 18: `soon` is not a time span");
    check(&["-c", &config])
        .has(&["gate.yaml, server.reviewTimeout: line 4 column 18: `soon` is not a time span"]);
    let json = check(&[&config, "-o", "json"]).json();
    wrong(&json, "server.reviewTimeout", "soon", "`soon` is not a time span");
    let grant = granted("WasiGrant", "g", "capabilities: [{name: http.outbond}]");
    let json = pipe(&["check", "-", "-o", "json"], &grant).json();
    wrong(&json, "spec.capabilities[0].name", "http.outbond", "unknown capability `http.outbond`");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: 7}]}\n";
    let json = pipe(&["check", "-", "-o", "json"], pod).json();
    assert_eq!(json["problems"][0]["field"], "spec.containers[0].name", "{json}");
}

#[test]
fn a_missing_file_gives_exit_code_2() {
    check(&["/no/such/file.yaml"]).fails(&["/no/such/file.yaml"]);
    for flag in ["--config", "--grants", "--bundle"] {
        check(&[flag, "/no/such/path"]).fails(&["/no/such/path"]);
    }
}
