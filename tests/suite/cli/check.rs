//! `check` reports everything that is wrong at once, with its place and what to write instead.

use std::path::Path;

use serde_json::json;

use super::{Said, pipe, run, samples};
use crate::support::opa;
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
    said.has(&["nothing is wrong (the built-in baseline, configurations: 1", "workloads: 6"]);
    assert!(!said.out.contains("policy bundles"), "none was given: {said:?}");
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
        // The bundle that could not be read may have these rules.
        "gate.yaml, enforcement.rules: warning: `need-grant` may be unknown, since not all bundles were loaded",
        "did you mean `needs-grant`?",
        "gate.yaml, enforcement.neverExempt: warning: `native` may be unknown",
        "2 problems, 2 warnings",
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
fn problems_of_several_stages_do_not_hide_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let stages = "server: {reviewTimeout: 0s, maxConcurrentReviews: many}\n\
                  enforcement: {rules: {need-grant: warn}, neverExempt: [native]}\n\
                  grants: /no/such/folder\nimages: {registries: {allow: ['http://x']}, memoryBytes: 0, \
                  layouts: {a.example: /no/such/a, b.example: /no/such/b}}\npolicies: {timeLimit: 0s}\nsever: {}\n";
    let config = configuration(folder.path(), stages);
    let said = check(&["-c", &config]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "gate.yaml, sever: ",
        "gate.yaml, server.maxConcurrentReviews: ",
        "gate.yaml, server.reviewTimeout: cannot be `0s`",
        "gate.yaml, policies.timeLimit: cannot be `0s`",
        "gate.yaml, images.memoryBytes: cannot be `0`",
        "gate.yaml, images.layouts.a.example: cannot be `/no/such/a`",
        "gate.yaml, images.layouts.b.example: cannot be `/no/such/b`",
        "could not list the grants directory `/no/such/folder`",
        "gate.yaml, enforcement.rules: cannot be `need-grant`",
        "gate.yaml, enforcement.neverExempt: cannot be `native`",
        "http://x",
        "11 problems",
    ]);
}

#[test]
fn a_configuration_has_the_same_first_problem_whichever_way_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), "sever: {}\naudit: {}\nserver: {reviewTimeout: soon}\n");
    let fields = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let json = check(&[arguments, &["-o", "json"]].concat()).json();
        json["problems"].as_array().unwrap().iter().map(|problem| problem["field"].clone()).collect()
    };
    let named = fields(&["-c", &config]);
    assert_eq!((named.len(), &named), (3, &fields(&[&config])));
}

#[cfg(unix)]
#[test]
fn a_configuration_that_cannot_be_read_gives_exit_code_2_whichever_way_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gate.yaml");
    std::fs::write(&config, [0xff, 0xfe]).unwrap();
    let config = config.to_str().unwrap();
    check(&["-c", config]).fails(&["gate.yaml"]);
    check(&[config]).fails(&["gate.yaml"]);
}

#[test]
fn documents_of_unknown_kinds_alone_are_not_called_right() {
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
    pipe(&["check", "-"], config_map).fails(&[
        "could not check any of ConfigMap (standard input): these kinds are not known",
        "name a GateConfiguration, grants, or kinds with a pod spec",
    ]);
    let with_grant = [config_map, &granted("WasiGrant", "g", ENV)].concat();
    let said = pipe(&["check", "-"], &with_grant);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["not checked: ConfigMap (standard input, document 1)", "nothing is wrong"]);
}

#[test]
fn a_misspelled_group_or_kind_is_a_problem() {
    let grant = granted("WasiGrant", "g", ENV).replace("wasmgate.dev", "wasmgat.dev");
    let said = pipe(&["check", "-"], &grant);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "apiVersion: cannot be `wasmgat.dev/v1alpha1`: `WasiGrant` is a kind of the group `wasmgate.dev`",
    ]);
    let said = pipe(&["check", "-"], "apiVersion: v1\nkind: pod\n");
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["kind: cannot be `pod`: this kind is not known; did you mean `Pod`?"]);
    let said = pipe(&["check", "-"], "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrent\n");
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["did you mean `WasiGrant`?"]);
}

#[test]
fn an_image_with_an_impossible_name_is_a_problem() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n\
                spec: {containers: [{name: a, image: 'Bad Name'}, {name: b, image: 'ok:1'}]}\n---\n\
                apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\n\
                spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: a, image: 'https://r.example/a'}]}}}}}\n";
    let json = pipe(&["check", "-", "-o", "json"], text).json();
    let fields: Vec<_> = json["problems"].as_array().unwrap().iter().map(|p| p["field"].clone()).collect();
    let cron = "spec.jobTemplate.spec.template.spec.containers[0].image";
    assert_eq!(fields, [json!("spec.containers[0].image"), json!(cron)], "{json}");
    assert_eq!(json["problems"][0]["value"], "Bad Name");
}

#[test]
fn a_size_that_is_not_a_quantity_is_a_problem_where_it_is_written() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: \
                      [{name: a, image: \"samples.example/hello:1\", resources: {limits: {memory: 32Mx, cpu: 1}}}]}}}\n";
    let field = "spec.template.spec.containers[0].resources.limits.memory";
    let said = pipe(&["check", "-"], deployment);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[field, "32Mx", "not a quantity; write one such as `50m` or `32Mi`"]);
    let layouts = format!("samples.example={}", samples("images").display());
    let explained = pipe(&["explain", "-f", "-", "--image-layouts", &layouts], deployment);
    assert_eq!(explained.code, 2, "{explained:?}");
    // Not of the request that the API server would copy from it.
    let said = format!("{}{}", explained.out, explained.err);
    assert!(said.contains(&format!("`{field}` is `32Mx`")), "{said}");
}

#[test]
fn a_document_that_is_no_object_has_its_place_and_does_not_hide_the_others() {
    let text = format!("a: 1\n{}", granted("WasiGrant", "g", "capabilities: [{name: fs, paths: [x]}]"));
    let json = pipe(&["check", "-", "-o", "json"], &text).json();
    let origins: Vec<_> = json["problems"].as_array().unwrap().iter().map(|p| p["origin"].clone()).collect();
    assert_eq!(origins, [json!("standard input, document 1"), json!("standard input, document 2")], "{json}");
    assert_eq!(json["problems"][0]["message"], "not a Kubernetes object: it has no `kind`");
}

#[test]
fn problems_of_a_grant_do_not_hide_each_other_or_those_of_other_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broken.yaml"), "a: [\n").unwrap();
    let spec = "subjects: {images: ['https://r.example/a']}, capabilities: [{name: fs, paths: [x], acces: 1}, \
                {name: http.outbound, ports: [1]}]";
    let expired = "capabilities: [{name: env}], expiresAt: 2020-01-01T00:00:00Z";
    let grants = [granted("WasiGrant", "g", spec), granted("WasiGrant", "h", expired)].concat();
    std::fs::write(folder.path().join("g.yaml"), grants).unwrap();
    let said = check(&["--grants", folder.path().to_str().unwrap()]);
    assert_eq!(said.code, 1, "{said:?}");
    let place = folder.path().join("g.yaml");
    said.has(&[
        "broken.yaml",
        &format!("{} document 1, spec.capabilities[0].acces: ", place.display()),
        "document 1, spec.subjects.images[0]: ",
        "document 1, spec.capabilities[0].paths[0]: ",
        "document 1, spec.capabilities[1].ports: ",
        "document 2, spec.expiresAt: warning: ",
        "5 problems, 1 warning",
    ]);
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

#[test]
fn hardening_without_the_rules_that_it_follows_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let rule = r#"violations contains {"rule": "own", "message": "no"} if input.nothing"#;
    let bundle = opa::build(folder.path(), "own", "wasmgate/violations", rule);
    let warnings = |more: &str| {
        let body = format!("policies: {{baseline: false, bundles: [{}]}}\n{more}", bundle.display());
        let json = check(&["-c", &configuration(folder.path(), &body), "-o", "json"]).json();
        assert_eq!(json["problems"], json!([]), "{json}");
        json["warnings"].clone()
    };
    let warned = warnings("");
    assert_eq!(warned[0]["field"], "runtimes.profiles[].hardening", "{warned}");
    assert!(
        warned[0]["message"].as_str().unwrap().contains("no loaded bundle has the rule `secret-in-reach`")
    );
    let off = "runtimes: {profiles: [{name: wasmtime, runtimeClass: wasmtime, runs: [module], ambient: runwasi-wasmtime, \
               hardening: {automountServiceAccountToken: off, readOnly: off}}], placement: {module: wasmtime}}\n";
    assert_eq!(warnings(off), json!([]));
}

#[test]
fn an_option_that_no_rule_reads_is_warned_of_with_the_one_that_may_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let warnings = |options: &str, more: &str| {
        let body = format!("policies: {{options: {{{options}}}{more}}}\n");
        let json = check(&["-c", &configuration(folder.path(), &body), "-o", "json"]).json();
        assert_eq!(json["problems"], json!([]), "{json}");
        json["warnings"].clone()
    };
    assert_eq!(warnings("strictAmbient: true, strictPlatform: false", ""), json!([]));
    let warned = warnings("strictAmbent: true", "");
    assert_eq!(warned[0]["field"], "policies.options.strictAmbent", "{warned}");
    assert_eq!(
        warned[0]["message"],
        "no rule of the loaded bundles reads it, so it changes nothing; did you mean `strictAmbient`?"
    );
    let warned = warnings("teams: [a]", "");
    assert!(
        warned[0]["message"].as_str().unwrap().ends_with("remove it, or load the bundle that reads it"),
        "{warned}"
    );
    // A rule that may read all of them.
    let rule = r#"violations contains {"rule": "own", "message": "no"} if input.options[input.request.namespace] == false"#;
    let bundle = opa::build(folder.path(), "own", "wasmgate/violations", rule);
    assert_eq!(warnings("strictAmbent: true", &format!(", bundles: [{}]", bundle.display())), json!([]));
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
        "nothing is wrong, 2 warnings (the built-in baseline, exceptions: 1, grants: 1",
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
        "1 problem (the built-in baseline, grants: 3",
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

#[test]
fn a_key_that_cannot_be_read_is_a_problem_before_there_is_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let body = "policies: {keys: {release: {algorithm: RS256, file: /no/such/release.pub}}}\n";
    let said = check(&["-c", &configuration(folder.path(), body)]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["cannot read the key `release` of `policies.keys` from `/no/such/release.pub`", "1 problem"]);
}

#[test]
fn a_tls_key_that_cannot_be_served_is_told_as_serve_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let key = root().join("src/certs/testdata/p521.key");
    let body = format!("server: {{certFile: /no/such/tls.crt, keyFile: {}}}\n", key.display());
    let said = check(&["-c", &configuration(folder.path(), &body)]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "p521.key`: it is an EC key on curve P-521, which the TLS library cannot sign with",
        "1 problem",
    ]);
    let body = "server: {certFile: /no/such/tls.crt, keyFile: /no/such/tls.key}\n";
    let said = check(&["-c", &configuration(folder.path(), body)]);
    assert_eq!(said.code, 0, "the files may be mounted where it serves: {said:?}");
}

#[test]
fn what_does_not_protect_a_signed_bundle_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("rules")).unwrap();
    let rule =
        "package wasmgate\n\nviolations contains {\"rule\": \"r\", \"message\": \"m\"} if input.never\n";
    std::fs::write(at("rules/rule.rego"), rule).unwrap();
    std::fs::write(at("secret"), "not so secret".repeat(5)).unwrap();
    let build = "build --target wasm --entrypoint wasmgate/violations --output signed.tar.gz --signing-key secret --signing-alg HS256";
    let arguments: Vec<&str> = build.split(' ').chain(["-b", "rules"]).collect();
    opa::run_in(folder.path(), &arguments);
    let body = |more: &str| {
        let (bundle, key) = (at("signed.tar.gz"), at("secret"));
        let (bundle, key) = (bundle.display(), key.display());
        format!(
            "policies: {{bundles: [{{from: {bundle}{more}}}], keys: {{default: {{algorithm: HS256, file: {key}}}}}}}\n"
        )
    };
    let said = check(&["-c", &configuration(folder.path(), &body(""))]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "gate.yaml, policies.store: warning: bundles are verified with `policies.keys`, and there is no `policies.store`",
        "signed.tar.gz: warning: its signature is bound to nothing",
        "signed.tar.gz: warning: it has no number",
        "3 warnings",
    ]);
    let said = check(&["-c", &configuration(folder.path(), &body(", keys: [default]"))]);
    assert!(!said.out.contains("bound to nothing"), "{said:?}");
}

#[test]
fn an_insecure_registry_that_is_not_allowed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let of = |images: &str| check(&["-c", &configuration(folder.path(), &format!("images: {images}\n"))]);
    let said = of("{registries: {insecure: ['10.0.0.5:5000', 'mirror.corp:5000', 'own.corp:5000']}}");
    said.has(&[
        "gate.yaml, images.registries.insecure: warning: `10.0.0.5:5000` is listed, and no entry of \
         `images.registries.allow` covers it",
        "1 warning",
    ]);
    let more =
        "registries: {allow: [ghcr.io, 'own.corp:5000'], insecure: ['mirror.corp:5000', 'own.corp:5000']}";
    let said = of(&format!("{{{more}}}"));
    said.has(&["`mirror.corp:5000` is listed", "1 warning"]);
    let said = of(&format!("{{{more}, mirrors: {{ghcr.io: ['mirror.corp:5000/ghcr']}}}}"));
    assert!(!said.out.contains("is listed, and no entry"), "a mirror need not be allowed: {said:?}");
}
