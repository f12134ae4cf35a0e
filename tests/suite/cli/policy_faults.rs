//! `policy`: what goes wrong with rules without a word of `opa`, and is said before they ship.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::policy::{RULE, cases, policy, rules};
use super::{Said, layouts, run, samples, wasmgate};
use crate::support::opa::ENDLESS;
use crate::support::process::{ask_patiently, program};
use crate::support::registry::Registry;

/// A folder of rules with files in folders.
fn with_files(rule: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = rules(rule, &[]);
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// Neither `check` nor `build` takes the folder, for this reason, and no archive is written.
#[track_caller]
fn refused(folder: &Path, message: &str) {
    let said = policy("check", folder, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[message]);
    let archive = folder.join("out.tar.gz");
    let said = policy("build", folder, &["-f", archive.to_str().unwrap()]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(!archive.exists());
}

/// The rule reads this instead of a name of its own.
fn reading(condition: &str) -> String {
    RULE.replace("container.name == \"web\"", condition)
}

#[test]
fn what_only_a_test_defines_and_a_rule_uses_is_not_built() {
    let helper = |text: &str| format!("package helpers\n\n{text}\n");
    let (set, function) = (helper("names contains \"web\""), helper("is_bad(name) if name == \"web\""));
    let used = reading("container.name in data.helpers.names");
    let message = "helpers_test.rego: it defines `data.helpers.names`, which rules of the bundle use";
    refused(with_files(&used, &[("helpers_test.rego", set.as_str())]).path(), message);
    // Through an import, and through another rule.
    let imported = used
        .replace("package wasmgate\n", "package wasmgate\n\nimport data.helpers")
        .replace("data.helpers.n", "helpers.n");
    refused(with_files(&imported, &[("helpers_test.rego", set.as_str())]).path(), message);
    let own = "package helpers.own\n\nall contains name if some name in data.helpers.names\n";
    let through = reading("container.name in data.helpers.own.all");
    refused(with_files(&through, &[("helpers_test.rego", set.as_str()), ("own.rego", own)]).path(), message);
    // A part of a set that the bundle has as well.
    let bundled = helper("names contains \"db\"");
    let both = [("helpers.rego", bundled.as_str()), ("helpers_test.rego", set.as_str())];
    refused(with_files(&used, &both).path(), message);
    // A package that is reached by a computed name.
    let united =
        "package wasmgate\n\nviolations contains violation if some violation in data.rules[_].violations\n";
    let one = RULE.replace("package wasmgate", "package rules.web");
    let other = RULE.replace("package wasmgate", "package rules.smoke");
    let files = [("web.rego", &*one), ("smoke_test.rego", &*other)];
    refused(with_files(united, &files).path(), "smoke_test.rego: it defines `data.rules.smoke.violations`");
    // opa itself says that a function is missing, and the gate what to do.
    let called = reading("data.helpers.is_bad(container.name)");
    let message = "undefined function data.helpers.is_bad: no file of the bundle defines it; where one whose name ends with \
                   `_test.rego` does, move it to another file";
    refused(with_files(&called, &[("helpers_test.rego", function.as_str())]).path(), message);
    // What a test has for itself.
    let own = "package wasmgate_test\n\nnames contains \"web\"\n\ntest_it if count(data.wasmgate.violations) == 0 with input as {\"containers\": []}\n";
    let folder = with_files(&reading("container.name in {\"a\"}"), &[("rule_test.rego", own)]);
    assert_eq!(policy("check", folder.path(), &[]).code, 0, "{:?}", policy("check", folder.path(), &[]));
}

#[test]
fn documents_that_rules_reach_by_a_computed_name_are_not_left_out() {
    let used = reading("data.limits[container.name].most > 1");
    let message =
        "limits/web.json: rules read `data.limits.web`, and of JSON and YAML a bundle has the files named";
    let document = r#"{"web": {"most": 3}}"#;
    refused(with_files(&used, &[("limits/web.json", document)]).path(), message);
    let other = ("limits/data.json", r#"{"db": {"most": 3}}"#);
    refused(with_files(&used, &[("limits/web.json", document), other]).path(), message);
    // A text that looks like a reference reads nothing, and neither does what the bundle has anyway.
    let quoted = RULE.replace("it is called web", "see data.limits.web");
    let has = ("limits/data.json", document);
    for folder in [
        with_files(&quoted, &[("limits/web.json", document)]),
        with_files(&used, &[("limits/web.json", document), has]),
        with_files(RULE, &[("limits/web.json", document)]),
    ] {
        let said = policy("check", folder.path(), &[]);
        assert_eq!((said.code, said.out.as_str()), (0, "nothing is wrong\n"), "{said:?}");
    }
}

#[test]
fn what_rules_read_and_nothing_has_is_said() {
    let folder = with_files(&reading("container.name in data.limits.names"), &[]);
    let warning = "rules read `data.limits.names`, which neither a rule nor a `data.json` of the bundle has";
    let said = policy("check", folder.path(), &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["warning: ", warning]);
    let archive = folder.path().join("out.tar.gz");
    let said = policy("build", folder.path(), &["-f", archive.to_str().unwrap()]);
    assert!(said.code == 0 && said.err.contains(warning), "{said:?}");
    fs::write(folder.path().join("data.json"), r#"{"limits": {"names": []}}"#).unwrap();
    assert_eq!(policy("check", folder.path(), &[]).out, "nothing is wrong\n");
}

#[test]
fn what_makes_every_pod_be_refused_or_a_rule_be_nameless_is_found_before_it_ships() {
    let named = |rule: &str| RULE.replace("no-web", rule);
    let through = "package wasmgate\n\nviolations contains said(\"\") if input.containers\n\nsaid(rule) := {\"rule\": rule, \"message\": \"m\"}\n";
    for (rule, message) in [
        (named(""), "rule.rego:3:21: `` is not the name of a rule, so that no exception can name it"),
        (named("No Web"), "`No Web` is not the name of a rule"),
        (named("policy-error"), "`policy-error` is the gate's own name"),
        (RULE.replace("it is called web", " "), "`message` is empty"),
        (through.into(), "`` is not the name of a rule"),
        (
            "package wasmgate\n\nviolations := \"none\"\n".into(),
            "is a string, `\"none\"`, expected a set of violations",
        ),
        ("package wasmgate\n\nviolations := input.options.nothing\n".into(), "is undefined on this input"),
        (reading("container.name != \"\"").replace("\"message\"", "\"mesage\""), "unknown field `mesage`"),
        (reading("regex.match(`(a{1000}){1000}`, container.name)"), "rule.rego:5:2: `regex.match`: "),
        (
            reading("regex.match(\"a(\", container.name)"),
            "the call is undefined and the rule finds nothing: mend the pattern",
        ),
        (
            format!(
                "{}\nnames := [\"a(\"]\n",
                reading("some name in names\n\tregex.match(name, container.name)")
            ),
            "mend the pattern",
        ),
    ] {
        let folder = rules(&rule, &[]);
        let said = policy("check", folder.path(), &[]);
        assert_eq!(said.code, 1, "{rule}: {said:?}");
        said.has(&[message]);
    }
    // An object that is no violation may have an empty text at these keys.
    let other = format!("{RULE}\nother := {{\"rule\": \"\"}}\n");
    assert_eq!(policy("check", rules(&other, &[]).path(), &[]).code, 0);
}

#[test]
fn functions_that_come_out_otherwise_than_in_opa_are_named_with_the_row() {
    let folder = rules(&reading("to_number(container.name) > 1"), &[]);
    let said = policy("check", folder.path(), &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "warning: in `data.wasmgate.violations`: `to_number` comes out otherwise than in OPA, as in `to_number(\"+1\")`, `to_number(\".5\")`",
        "docs/policy-functions.md#",
    ]);
    // Once, however many expressions and calls there are.
    let twice = format!(
        "{RULE}\nviolations contains {{\"rule\": \"n\", \"message\": \"m\"}} if to_number(input.workload.name) > 1\n"
    );
    let folder =
        rules(&twice.replace("container.name ==", "to_number(container.name) > 1\n\tcontainer.name =="), &[]);
    let archive = folder.path().join("out.tar.gz");
    let said = policy("build", folder.path(), &["-f", archive.to_str().unwrap()]);
    assert_eq!((said.code, said.err.matches("comes out otherwise").count()), (0, 1), "{said:?}");
    let page = fs::read_to_string(crate::support::process::root().join("docs/policy-functions.md")).unwrap();
    assert!(page.contains("## Expressions that come out otherwise\n"));
}

#[test]
fn a_test_that_does_not_end_fails_when_its_time_is_over() {
    let rule = format!("package wasmgate\n\n{ENDLESS}\n");
    let test = "package loop_test\n\ntest_endless if {\n\tcount(data.wasmgate.violations) == 0 with input.request.namespace as \"shop\"\n}\n\n\
                test_done if {\n\ttrue\n}\n";
    let folder = rules(&rule, &[("loop_test.rego", test)]);
    let said = policy("test", folder.path(), &["--test-timeout", "1"]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "data.loop_test: test_done: PASS\n",
        "data.loop_test: test_endless: FAIL\n",
        "it was not done within 1s: a rule does not end, or takes long; mend it, or give it more time with --test-timeout",
        "eval_cancel_error at ",
    ]);
}

/// An opa that never has time enough for an evaluation. To what the rules have comes the time to read them.
#[test]
fn rules_for_which_opa_needs_longer_than_they_have_fail_their_case_and_the_others_are_not_waited_for() {
    let others = (0..6).map(|number| {
        format!("- {{name: case-{number}, input: {{containers: [{{name: web}}]}}, violations: [{{rule: no-web}}]}}\n")
    });
    let folder = rules(RULE, &[("rule_cases.yaml", &cases(&others.collect::<String>()))]);
    let (slow, asked) = (folder.path().join("slow-opa"), folder.path().join("asked"));
    let opa = program("opa");
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = eval ]; then\n\techo \"$@\" >> '{}'\n\techo '1 error occurred: eval_cancel_error: context deadline exceeded' >&2\n\
         \texit 2\nfi\nexec '{}' \"$@\"\n",
        asked.display(),
        opa.display(),
    );
    fs::write(&slow, text).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = wasmgate();
    command
        .args(["policy", "test", folder.path().to_str().unwrap(), "--test-timeout", "7", "--opa"])
        .arg(&slow);
    let said = Said::of(&mut command);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["`opa eval` failed: it was not done within 7s", "eval_cancel_error"]);
    assert_eq!(said.out.matches("it was not run, since the rules took too long").count(), 3, "{said:?}");
    let asked = fs::read_to_string(asked).unwrap();
    assert!(asked.lines().all(|line| line.contains("--timeout 27s")), "{asked}");
}

#[test]
fn a_case_may_expect_an_action() {
    let folder =
        rules(&RULE.replace("\"rule\": \"no-web\"", "\"rule\": \"no-web\", \"action\": \"warn\""), &[]);
    let case = |action: &str| {
        cases(&format!(
            "- {{name: one, input: {{containers: [{{name: web}}]}}, violations: [{{rule: no-web, action: {action}}}]}}\n"
        ))
    };
    for (action, code, said) in
        [("warn", 0, "one: PASS"), ("deny", 1, "not found: rule `no-web`, action `deny`"), ("stop", 2, "")]
    {
        fs::write(folder.path().join("a_cases.yaml"), case(action)).unwrap();
        let found = policy("test", folder.path(), &[]);
        assert_eq!(found.code, code, "{found:?}");
        found.has(&[said]);
    }
}

#[test]
fn documents_that_tests_alone_read_are_there_for_them() {
    let test = "package wasmgate_test\n\ntest_web if {\n\tcount(data.wasmgate.violations) == 1 with input as data.fixtures.web\n}\n";
    let document = r#"{"web": {"containers": [{"name": "web"}]}}"#;
    let files = [("rule_test.rego", test), ("fixtures/pods.json", document), ("other/list.yaml", "- 1\n")];
    let folder = with_files(RULE, &files);
    let said = policy("test", folder.path(), &["--coverage"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["data.wasmgate_test: test_web: PASS", "COVERAGE: 100.0 %"]);
    assert_eq!(policy("check", folder.path(), &[]).code, 0);
    // What no file has does not come from nowhere.
    fs::remove_file(folder.path().join("fixtures/pods.json")).unwrap();
    policy("test", folder.path(), &[]).has(&["data.wasmgate_test: test_web: FAIL"]);
}

#[test]
fn cases_count_for_the_coverage() {
    let case = "- {name: one, input: {containers: [{name: web}]}, violations: [{rule: no-web}]}\n";
    let test = "package wasmgate_test\n\ntest_none if count(data.wasmgate.violations) == 0 with input as {\"containers\": []}\n";
    let folder = rules(RULE, &[("rule_test.rego", test)]);
    let said = policy("test", folder.path(), &["--coverage"]);
    said.has(&["rule.rego: ", "% covered, not lines "]);
    fs::write(folder.path().join("rule_cases.yaml"), cases(case)).unwrap();
    let said = policy("test", folder.path(), &["--threshold", "100"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["COVERAGE: 100.0 %"]);
    // Also where there is nothing else.
    fs::remove_file(folder.path().join("rule_test.rego")).unwrap();
    policy("test", folder.path(), &["--coverage"]).has(&["PASS: 1/1", "COVERAGE: 100.0 %"]);
}

#[test]
fn what_is_outside_of_the_roots_of_the_manifest_is_a_problem_with_its_cure() {
    let at = |roots: &str, data: &str| {
        let manifest = format!("{{\"roots\": {roots}}}");
        with_files(RULE, &[(".manifest", manifest.as_str()), ("data.json", data)])
    };
    let cure = "; add what they do not permit to `roots` in `.manifest`, or move it below one of them";
    refused(at(r#"["foo"]"#, "{}").path(), "manifest roots [foo] do not permit 'package wasmgate'");
    let data = at(r#"["wasmgate"]"#, r#"{"teams": {"a": 1}}"#);
    refused(data.path(), "manifest roots [wasmgate] do not permit data at path '/teams'");
    policy("check", data.path(), &[]).has(&[cure]);
    let archive = data.path().join("out.tar.gz");
    policy("build", data.path(), &["-f", archive.to_str().unwrap()]).fails(&[cure]);
    let twice = at(r#"["wasmgate", "wasmgate/x"]"#, "{}");
    refused(twice.path(), "; leave out of `roots` in `.manifest` what is a part of another one");
}

#[test]
fn data_over_a_rule_is_a_problem_and_is_not_built() {
    let folder = with_files(RULE, &[("data.json", r#"{"wasmgate": {"violations": []}}"#)]);
    refused(folder.path(), "conflicting rule for data path wasmgate/violations found");
    policy("check", folder.path(), &[])
        .has(&["; remove the value from `data.json`, or give it or the rule another name"]);
    let archive = folder.path().join("out.tar.gz");
    let said = policy("build", folder.path(), &["-f", archive.to_str().unwrap()]);
    said.fails(&["has a value at `wasmgate/violations`, over the rule", "remove one of the two"]);
}

#[test]
fn a_program_that_is_no_opa_is_named() {
    let folder = rules(RULE, &[]);
    let archive = folder.path().join("out.tar.gz");
    let mut command = wasmgate();
    command.args(["policy", "build", "--opa", "true", "-f"]).args([&archive, folder.path()]);
    Said::of(&mut command).fails(&[
        "`opa build` failed: `true` ended without an error and wrote nothing; see whether it is opa",
    ]);
    assert!(!archive.exists());
}

#[test]
fn a_build_may_state_the_order_and_the_name_of_the_bundle() {
    let folder = with_files(
        RULE,
        &[(".manifest", r#"{"metadata": {"wasmgate": {"sequence": 1, "omit": ["object"]}}}"#)],
    );
    let archive = folder.path().join("out.tar.gz");
    let archive = archive.to_str().unwrap();
    let said = policy(
        "build",
        folder.path(),
        &["-f", archive, "--sequence", "7", "--name", "ours", "--revision", "r"],
    );
    assert_eq!(said.code, 0, "{said:?}");
    let contents = wasmgate::policy::Contents::load("out", Path::new(archive)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(contents.file(".manifest").unwrap()).unwrap();
    let own = &manifest["metadata"]["wasmgate"];
    assert_eq!(
        (&own["sequence"], &own["name"], &own["omit"][0]),
        (&7.into(), &"ours".into(), &"object".into())
    );
    assert_eq!(manifest["revision"], "r");
}

#[test]
fn a_place_without_a_registry_is_refused_with_what_to_write() {
    let folder = rules(RULE, &[]);
    let archive = folder.path().join("out.tar.gz");
    let archive = archive.to_str().unwrap();
    assert_eq!(policy("build", folder.path(), &["-f", archive]).code, 0);
    for place in ["rules", "rules:7", "team/rules:7"] {
        run(&["policy", "push", archive, place]).fails(&["it names no registry", "`docker.io/"]);
        run(&["policy", "pull", place]).fails(&["it names no registry"]);
        let said = run(&["check", "--bundle", &format!("oci://{place}")]);
        assert!(
            said.code != 0 && format!("{}{}", said.out, said.err).contains("it names no registry"),
            "{said:?}"
        );
    }
}

#[test]
fn a_bundle_in_a_layout_that_stands_in_for_a_registry_is_pulled_and_loaded_from_there() {
    let folder = rules(RULE, &[]);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (archive, pulled) = (at("out.tar.gz"), at("pulled.tar.gz"));
    assert_eq!(policy("build", folder.path(), &["-f", &archive]).code, 0);
    let registry = Registry::start();
    let place = registry.image("team/rules:7");
    let said = run(&["policy", "push", &archive, &place, "--insecure-registry", &registry.host]);
    assert_eq!(said.code, 0, "{said:?}");
    fs::create_dir_all(at("layouts/team")).unwrap();
    let copy =
        ["copy", "--from-plain-http", "--to-oci-layout", &place, &format!("{}:7", at("layouts/team/rules"))];
    let copied = registry.oras(folder.path(), &copy);
    assert!(copied.status.success(), "{copied:?}");
    drop(registry);
    let layouts = format!("rules.example={}", at("layouts"));
    let said =
        run(&["policy", "pull", "rules.example/team/rules:7", "-f", &pulled, "--image-layouts", &layouts]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(fs::read(&pulled).unwrap(), fs::read(&archive).unwrap());
    let said = run(&["check", "--bundle", "oci://rules.example/team/rules:7", "--image-layouts", &layouts]);
    assert_eq!(said.code, 0, "{said:?}");
    run(&["policy", "push", &archive, "rules.example/team/rules:7", "--image-layouts", &layouts])
        .fails(&["a folder with image layouts stands in for its registry"]);
}

/// How long that takes is measured by `benches/bundles watch`.
#[test]
fn a_saved_rule_changes_the_verdict_on_the_pod_of_a_manifest() {
    let case = format!(
        "- {{name: pod, manifest: {}, violations: [{{rule: no-web, container: files}}]}}\n",
        samples("workloads/files.yaml").display()
    );
    let folder = rules(&reading("container.name == \"files\""), &[("rule_cases.yaml", &cases(&case))]);
    let out = folder.path().with_extension("out");
    let mut command = wasmgate();
    command.args([
        "policy",
        "test",
        folder.path().to_str().unwrap(),
        "--watch",
        "--image-layouts",
        &layouts(),
        "--opa",
    ]);
    let mut child = command.arg(program("opa")).stdout(fs::File::create(&out).unwrap()).spawn().unwrap();
    let says = |part: &str| {
        let found = ask_patiently(|| fs::read_to_string(&out).unwrap().contains(part).then_some(()));
        assert!(found.is_some(), "no {part} in {}", fs::read_to_string(&out).unwrap());
    };
    says("pod: PASS");
    says("waiting for a change");
    fs::write(folder.path().join("rule.rego"), reading("container.name == \"other\"")).unwrap();
    says("pod: FAIL\n  not found: rule `no-web`, container `files`");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(out).unwrap();
}

#[test]
fn rules_that_nothing_asks_are_not_built() {
    let rule = "contains {\"rule\": \"r\", \"message\": \"m\"} if input.containers\n";
    for (file, defined) in [
        (format!("package wasmgate.extra\n\nviolations {rule}"), "data.wasmgate.extra.violations"),
        (format!("package main\n\nviolations {rule}"), "data.main.violations"),
        ("package wasmgate\n\ndeny contains \"m\" if input.containers\n".into(), "data.wasmgate.deny"),
    ] {
        let message = format!("it defines `{defined}`, which nothing that the gate asks uses");
        refused(with_files(RULE, &[("other.rego", file.as_str())]).path(), &message);
    }
    // One that the gate's own uses is asked.
    let used = format!("{RULE}\nviolations contains one if some one in data.wasmgate.extra.violations\n");
    let extra = format!("package wasmgate.extra\n\nviolations {rule}");
    let said = policy("check", with_files(&used, &[("extra.rego", extra.as_str())]).path(), &[]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_bundle_that_can_judge_no_pod_is_not_built() {
    let folder = rules("package wasmgate\n\nviolations := \"none\"\n", &[]);
    let archive = folder.path().join("out.tar.gz");
    let said = policy("build", folder.path(), &["-f", archive.to_str().unwrap()]);
    said.fails(&["could not judge an ordinary pod by the rules", "expected a set of violations"]);
    assert!(!archive.exists());
}

#[test]
fn a_case_on_a_document_that_the_gate_never_makes_is_refused() {
    for (input, message) in [
        ("{contaners: []}", "`input` of the gate has no key `contaners`; write `containers`"),
        ("{nothing: 1}", "`input` of the gate has no key `nothing`"),
        ("[]", "`input` is no object"),
    ] {
        let text = cases(&format!("- {{name: a, input: {input}, violations: []}}\n"));
        let folder = rules(RULE, &[("my_cases.yaml", text.as_str())]);
        let said = policy("test", folder.path(), &[]);
        said.fails(&[message]);
    }
    // Rules for another document have their own.
    let text = cases("- {name: a, input: {contaners: []}, violations: []}\n");
    let folder = rules(RULE, &[("my_cases.yaml", text.as_str())]);
    assert_eq!(policy("test", folder.path(), &["--no-schema"]).code, 0);
    // A name by which it would not be run.
    let folder = rules(RULE, &[("my_case.yaml", text.as_str())]);
    let said = policy("test", folder.path(), &[]);
    said.fails(&["my_case.yaml", "its name does not end with `_cases.yaml`"]);
}
