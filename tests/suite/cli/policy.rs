//! `policy`: what authors of rules are told before anything ships, on the real `opa` and the gate's engine.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Said, layouts, run, samples, wasmgate};
use crate::support::opa;
use crate::support::process::program;

const RULE: &str = r#"package wasmgate

violations contains {"rule": "no-web", "container": container.name, "message": "it is called web"} if {
	some container in input.containers
	container.name == "web"
}
"#;

/// A folder of rules, with other files beside the rule.
fn rules(rule: &str, others: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in others.iter().chain(&[("rule.rego", rule)]) {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A run of each command for each of its exit codes, in the order of the codes.
pub fn runs_for_every_exit_code() -> [(&'static str, Vec<Said>); 4] {
    let (right, wrong) =
        (rules(RULE, &[]), rules(&RULE.replace("container.name ==", "container.nam =="), &[]));
    let case = |name: &str| {
        format!("- {{name: a, input: {{containers: [{{name: {name}}}]}}, violations: [{{rule: no-web}}]}}\n")
    };
    let passing = rules(RULE, &[("a_cases.yaml", &cases(&case("web")))]);
    let failing = rules(RULE, &[("a_cases.yaml", &cases(&case("db")))]);
    let none = Path::new("/no/such/folder");
    let archive = right.path().join("out.tar.gz");
    let build = |folder: &Path| policy("build", folder, &["-f", archive.to_str().unwrap()]);
    let check = [right.path(), wrong.path(), none].map(|folder| policy("check", folder, &[]));
    let test = [passing.path(), failing.path(), right.path()].map(|folder| policy("test", folder, &[]));
    [
        ("policy check", check.into()),
        ("policy test", test.into()),
        ("policy build", [right.path(), none].map(build).into()),
        (
            "policy capabilities",
            vec![run(&["policy", "capabilities"]), run(&["policy", "capabilities", "more"])],
        ),
    ]
}

fn policy(verb: &str, folder: &Path, more: &[&str]) -> Said {
    let mut command = wasmgate();
    command.args(["policy", verb, folder.to_str().unwrap(), "--opa"]).arg(program("opa")).args(more);
    Said::of(&mut command)
}

fn cases(cases: &str) -> String {
    format!("apiVersion: wasmgate.dev/v1alpha1\nkind: PolicyCases\ncases:\n{cases}")
}

#[test]
fn a_rule_without_faults_passes_and_may_read_its_own_options() {
    let with_option = RULE.replace("container.name == \"web\"", "container.name == input.options.ourName");
    for rule in [RULE, &with_option] {
        let folder = rules(rule, &[]);
        let said = policy("check", folder.path(), &[]);
        assert_eq!((said.code, said.out.as_str()), (0, "nothing is wrong\n"), "{said:?}");
    }
}

#[test]
fn what_would_fail_later_is_said_before_anything_ships() {
    let wrong = [
        ("\tinput.nosuch == 1", "undefined ref: input.nosuch"),
        ("\thttp.send({}).status_code == 200", "does not run in the gate (it would touch the network)"),
        ("\topa.runtime().env.HOME == \"/\"", "it would hand the gate's environment to rules"),
        ("    count(input.containers) > 1", "run `opa fmt --write"),
    ];
    for (line, message) in wrong {
        let folder = rules(&RULE.replace("\tsome", &format!("{line}\n\tsome")), &[]);
        let said = policy("check", folder.path(), &[]);
        assert_eq!(said.code, 1, "{said:?}");
        said.has(&["rule.rego", message]);
    }
    // Tests do not ship, so they may call what they like.
    let test = "package rule_test\n\ntest_it if {\n\tjson.verify_schema({})[0]\n}\n";
    let folder = rules(RULE, &[("rule_test.rego", test)]);
    assert_eq!(policy("check", folder.path(), &[]).code, 0);
    assert_eq!(policy("test", folder.path(), &[]).code, 0);
}

#[test]
fn rules_that_the_gate_would_not_load_are_found_and_not_written() {
    let folder = rules("package other\n\nallow := true\n", &[]);
    let said = policy("check", folder.path(), &["-o", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let problem = said.json()["problems"][0]["message"].as_str().unwrap().to_string();
    assert!(problem.contains("wasmgate/violations"), "{problem}");
    let archive = folder.path().join("out.tar.gz");
    policy("build", folder.path(), &["-f", archive.to_str().unwrap()]).fails(&["wasmgate/violations"]);
    assert!(!archive.exists());
}

#[test]
fn a_built_bundle_is_one_that_the_gate_loads_without_its_tests() {
    let test = "package rule_test\n\ntest_it if {\n\tjson.verify_schema({})[0]\n}\n";
    let folder = rules(RULE, &[("rule_test.rego", test)]);
    let archive = folder.path().join("out.tar.gz");
    let archive = archive.to_str().unwrap();
    let said = policy("build", folder.path(), &["-f", archive, "--revision", "r1", "-o", "json"]);
    assert_eq!((said.code, said.json()["revision"].as_str()), (0, Some("r1")), "{said:?}");
    let said = run(&["check", "--bundle", archive]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["policy bundles: 1"]);
}

#[test]
fn opa_itself_refuses_with_the_printed_capabilities_what_the_gate_refuses() {
    let folder =
        rules(&RULE.replace("container.name == \"web\"", "io.jwt.decode_verify(container.name, {})[0]"), &[]);
    fs::write(folder.path().join("capabilities.json"), run(&["policy", "capabilities"]).out).unwrap();
    let arguments = ["check", "rule.rego", "--capabilities", "./capabilities.json"];
    let said = Command::new(program("opa")).args(arguments).current_dir(folder.path()).output().unwrap();
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("undefined function io.jwt.decode_verify"));
    fs::write(folder.path().join("rule.rego"), RULE).unwrap();
    opa::run_in(folder.path(), &arguments);
}

#[test]
fn cases_run_on_the_compiled_rules_and_each_difference_is_named() {
    let web = "  input: {containers: [{name: web}]}\n";
    let text = cases(&format!(
        "- name: found\n{web}  violations: [{{rule: no-web, container: web, message: called}}]\n\
         - name: missed\n{web}  violations: []\n\
         - name: wanted\n  input: db.json\n  violations: [{{rule: no-web}}]\n"
    ));
    let test = "package rule_test\n\ntest_good if {\n\tprint(\"seen\")\n}\n\ntest_bad if {\n\tcount(data.wasmgate.violations) == 7 with input as {}\n}\n";
    let others = [
        ("rule_cases.yaml", text.as_str()),
        ("db.json", r#"{"containers": [{"name": "db"}]}"#),
        ("rule_test.rego", test),
    ];
    let folder = rules(RULE, &others);
    let report = folder.path().join("report.xml");
    let said = policy("test", folder.path(), &["--junit", report.to_str().unwrap()]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "data.rule_test: test_good: PASS\n  seen\n",
        "data.rule_test: test_bad: FAIL\n",
        "rule_cases.yaml: found: PASS\n",
        "rule_cases.yaml: missed: FAIL\n  not expected: rule `no-web`, container `web`: it is called web\n",
        "rule_cases.yaml: wanted: FAIL\n  not found: rule `no-web`\n",
        "FAIL: 3/5\nPASS: 2/5\n",
    ]);
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains("tests=\"5\" failures=\"3\" skipped=\"0\""), "{report}");
    assert!(report.contains("<failure message=\"not found: rule `no-web`\">"), "{report}");
    let said = policy("test", folder.path(), &["-o", "json"]).json();
    assert_eq!(said["tests"][4]["outcome"], "failed", "{said}");
}

#[test]
fn a_case_about_a_manifest_judges_the_pod_that_the_gate_would_make_of_it() {
    let manifest = samples("workloads/files.yaml");
    let linux = samples("workloads/linux.yaml");
    let text = cases(&format!(
        "- name: wasm\n  manifest: {}\n  violations: [{{rule: pinned, container: files}}]\n\
         - name: linux\n  manifest: {}\n  violations: []\n",
        manifest.display(),
        linux.display()
    ));
    let rule = RULE
        .replace("no-web", "pinned")
        .replace("container.name == \"web\"", "contains(container.image, \"@sha256:\")");
    let folder = rules(&rule, &[("rule_cases.yaml", &text)]);
    let said = policy("test", folder.path(), &["--image-layouts", &layouts()]);
    // A case that no rule sees shows nothing, so it does not pass.
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["wasm: PASS", "linux: FAIL\n  no rule sees this object"]);
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let folder = rules(RULE, &[]);
    policy("test", folder.path(), &[]).fails(&["found nothing to test", "_cases.yaml"]);
    let path = folder.path().to_str().unwrap();
    run(&["policy", "check", path, "--opa", "/no/such/opa"])
        .fails(&["could not find `/no/such/opa`", "--opa"]);
    policy("check", &folder.path().join("rule.rego"), &[])
        .fails(&["found no folder of rules", "name the folder"]);
    let wrong = rules(RULE, &[("rule_cases.yaml", "kind: Pod\n")]);
    policy("test", wrong.path(), &[]).fails(&["could not read the cases", "rule_cases.yaml"]);
    let both = cases("- name: one\n  violations: []\n");
    let both = rules(RULE, &[("rule_cases.yaml", &both)]);
    policy("test", both.path(), &[]).fails(&["case `one` needs either `input` or `manifest`"]);
    run(&["policy", "--help"]).has(&["check", "test", "build", "capabilities", "Exit codes"]);
    run(&["policy", "test", "--help"]).has(&["kind: PolicyCases", "--junit", "Exit codes: 0"]);
}
