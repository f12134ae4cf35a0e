//! `policy`: rules in Rego v0, as they were written for Gatekeeper and for OPA before 1.0.

use std::fs;

use super::policy::{cases, policy, rules};
use super::run;

/// As in gatekeeper-library, with a function that Rego v1 has no more.
const OLDER: &str = r#"package k8sallowedrepos

violation[{"msg": msg}] {
	container := input.review.object.spec.containers[_]
	satisfied := [good | repo = input.parameters.repos[_]; good = startswith(container.image, repo)]
	not any(satisfied)
	msg := sprintf("container <%v> has an invalid image repo <%v>, allowed repos are %v", [container.name, container.image, input.parameters.repos])
}
"#;
/// Hands it the document that it was written for.
const GATE: &str = r#"package wasmgate

violations[violation] {
	document := {"review": input, "parameters": {"repos": ["registry.example.com/"]}}
	data.k8sallowedrepos.violation[found] with input as document
	violation := {"rule": "allowed-repos", "message": found.msg}
}
"#;
const V0: &str = r#"{"rego_version": 0}"#;
const CURE: &str = "; rules in Rego v0 are taken as they are with `{\"rego_version\": 0}` in a file `.manifest` in their folder, and `opa fmt \
                    --write --v0-v1` brings most of them to v1";

#[test]
fn rules_in_rego_v0_are_checked_tested_and_built_as_they_are() {
    let image =
        |image: &str| format!("input: {{object: {{spec: {{containers: [{{name: web, image: {image}}}]}}}}}}");
    let case = cases(&format!(
        "- {{name: elsewhere, {}, violations: [{{rule: allowed-repos, message: repo <docker.io/web>}}]}}\n\
         - {{name: ours, {}, violations: []}}\n",
        image("docker.io/web"),
        image("registry.example.com/web")
    ));
    let folder = rules(OLDER, &[("gate.rego", GATE), ("rule_cases.yaml", &case)]);
    let archive = folder.path().join("out.tar.gz");
    let build = || policy("build", folder.path(), &["--no-schema", "-f", archive.to_str().unwrap()]);
    let check = || policy("check", folder.path(), &["--no-schema"]);
    // Read as v1 they are none, and it is said what to do.
    assert_eq!(check().code, 1, "{:?}", check());
    check().has(&["`if` keyword is required before rule body", CURE]);
    build().fails(&[CURE]);
    fs::write(folder.path().join(".manifest"), V0).unwrap();
    let said = check();
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "warning: ",
        "rule.rego:6: deprecated built-in function calls in expression: any: it runs in the gate",
        "nothing is wrong\n",
    ]);
    policy("test", folder.path(), &["--no-schema"]).has(&["elsewhere: PASS", "ours: PASS", "PASS: 2/2"]);
    assert_eq!(build().code, 0, "{:?}", build());
    // Their format is that of v0.
    fs::write(folder.path().join("gate.rego"), GATE.replace('\t', "  ")).unwrap();
    assert_eq!(check().code, 0);
    check().has(&["warning: ", "gate.rego: it is not formatted, run `opa fmt --write --v0-compatible "]);
}

#[test]
fn what_the_gate_would_not_ask_or_not_have_is_found_in_rego_v0_too() {
    let unasked =
        "package main\n\ndeny[msg] {\n\tinput.containers[_].name == \"web\"\n\tmsg := \"never asked\"\n}\n";
    let using = |condition: &str| {
        format!(
            "package wasmgate\n\nviolations[{{\"rule\": \"a\", \"message\": \"m\"}}] {{\n\t{condition}\n}}\n"
        )
    };
    let helper = "package helpers\n\nnames[\"web\"]\n";
    let limits = r#"{"limits": {"web": 1}}"#;
    let v1 = "package wasmgate\n\nviolations contains {\"rule\": \"b\", \"message\": $\"{input.request.name}\"} if input.request.name == \"b\"\n";
    let mixed = r#"{"file_rego_versions": {"/rule.rego": 0, "/other.rego": 0, "/helpers_test.rego": 0}}"#;
    for manifest in [V0, mixed] {
        let named = using("data.helpers.names[input.containers[_].name]");
        for (rule, file, text, message) in [
            (
                using("input.containers[_].name == \"a\""),
                "other.rego",
                unasked,
                "it defines `data.main.deny`, which nothing",
            ),
            (
                named,
                "helpers_test.rego",
                helper,
                "it defines `data.helpers.names`, which rules of the bundle use",
            ),
            (using("data.limits.web > 0"), "limits.json", limits, "rules read `data.limits"),
        ] {
            let mut files = vec![(".manifest", manifest), (file, text)];
            files.extend((manifest == mixed).then_some(("new.rego", v1)));
            let folder = rules(&rule, &files);
            let said = policy("check", folder.path(), &[]);
            assert_eq!(said.code, 1, "{said:?}");
            said.has(&[message]);
            let archive = folder.path().join("out.tar.gz");
            policy("build", folder.path(), &["-f", archive.to_str().unwrap()]).fails(&[message]);
            // The sources are as they were.
            assert_eq!(fs::read_to_string(folder.path().join("rule.rego")).unwrap(), rule);
        }
    }
}

#[test]
fn documents_that_tests_alone_read_are_there_in_rego_v0_and_are_said_to_be_missing_beside_v1() {
    let rule = "package wasmgate\n\nviolations[{\"rule\": \"a\", \"message\": \"m\"}] {\n\tinput.containers[_].name == \"web\"\n}\n";
    let test = |rule: &str| {
        format!(
            "package wasmgate_test\n\n{rule} {{\n\tcount(data.wasmgate.violations) == 1 with input as data.web\n}}\n"
        )
    };
    let (of_v0, of_v1) = (test("test_web"), test("test_web if"));
    let document = r#"{"web": {"containers": [{"name": "web"}]}}"#;
    let tested = |manifest: &str, test: &str| {
        let files = [(".manifest", manifest), ("rule_test.rego", test), ("pods.json", document)];
        policy("test", rules(rule, &files).path(), &[])
    };
    let said = tested(V0, &of_v0);
    assert_eq!(said.code, 0, "{said:?}");
    let said = tested(r#"{"file_rego_versions": {"/rule.rego": 0}}"#, &of_v1);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["data.wasmgate_test: test_web: FAIL"]);
    assert!(said.err.contains("tests that failed read documents beside them"), "{said:?}");
}

#[test]
fn a_new_rule_passes_beside_rules_in_rego_v0() {
    let folder = rules(OLDER, &[("gate.rego", GATE), (".manifest", V0)]);
    let below = folder.path().join("more");
    for (rule, into) in [("no-samples", folder.path()), ("no-others", below.as_path())] {
        let said = run(&["policy", "new", rule, "--into", into.to_str().unwrap()]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let said = policy("check", folder.path(), &["--no-schema"]);
    assert_eq!(said.code, 0, "{said:?}");
    let said = policy("test", folder.path(), &["--no-schema"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["PASS: 6/6"]);
}
