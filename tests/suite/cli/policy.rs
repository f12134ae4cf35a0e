//! `policy`: what authors of rules are told, on the real `opa` and the gate's engine.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Said, layouts, run, samples, wasmgate};
use crate::support::opa;
use crate::support::process::{ask_patiently, program};
use crate::support::registry::Registry;

pub const RULE: &str = r#"package wasmgate

violations contains {"rule": "no-web", "container": container.name, "message": "it is called web"} if {
	some container in input.containers
	container.name == "web"
}
"#;

/// A folder of rules, with other files beside the rule.
pub fn rules(rule: &str, others: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in others.iter().chain(&[("rule.rego", rule)]) {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A run of each command for each of its exit codes, in the order of the codes.
pub fn runs_for_every_exit_code() -> [(&'static str, Vec<Said>); 10] {
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
    let empty = tempfile::tempdir().unwrap();
    let new = |name: &str| run(&["policy", "new", name, "--into", empty.path().to_str().unwrap()]);
    let bench = |folder: &Path| policy("bench", folder, &["--count", "1"]);
    let built = build(right.path());
    let secret = right.path().join("secret");
    fs::write(&secret, "s3cret".repeat(6)).unwrap();
    let with_key = |verb: &str, bundle: &Path, id: &str| {
        let key = ["--key", secret.to_str().unwrap(), "--algorithm", "HS256", "--key-id", id];
        let mut command = wasmgate();
        command.args(["policy", verb, bundle.to_str().unwrap()]).args(key);
        Said::of(command.env("WASMGATE_OPA", program("opa")))
    };
    let sign = vec![with_key("sign", &archive, "a"), with_key("sign", none, "a")];
    let verify =
        [(&*archive, "a"), (&*archive, "b"), (none, "a")].map(|(path, id)| with_key("verify", path, id));
    let registry = Registry::start();
    let place = registry.image("team/rules:1");
    let at = |verb: &str, first: &str, more: &[&str]| {
        let reached = ["--insecure-registry", &registry.host];
        run(&[&["policy", verb, first], more, &reached].concat())
    };
    let push = ["/no/such/file.tar.gz", archive.to_str().unwrap()].map(|path| at("push", path, &[&place]));
    let into = right.path().join("pulled.tar.gz");
    let pull = |place: &str| at("pull", place, &["-f", into.to_str().unwrap()]);
    let pull = vec![pull(&place), pull(&registry.image("team/rules:none"))];
    let [not_pushed, pushed] = push;
    [
        ("policy new", vec![new("our-rule"), new("our-rule")]),
        ("policy bench", vec![bench(passing.path()), bench(right.path())]),
        ("policy sign", sign),
        ("policy verify", verify.into()),
        ("policy push", vec![pushed, not_pushed]),
        ("policy pull", pull),
        ("policy check", check.into()),
        ("policy test", test.into()),
        ("policy build", vec![built, build(none)]),
        (
            "policy capabilities",
            vec![run(&["policy", "capabilities"]), run(&["policy", "capabilities", "more"])],
        ),
    ]
}

pub fn policy(verb: &str, folder: &Path, more: &[&str]) -> Said {
    let mut command = wasmgate();
    command.args(["policy", verb, folder.to_str().unwrap(), "--opa"]).arg(program("opa")).args(more);
    Said::of(&mut command)
}

pub fn cases(cases: &str) -> String {
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
        (
            "\tinput.nosuch == 1",
            "undefined ref: input.nosuch: `input` has no such field, see policies/schema/",
        ),
        ("\tinput.continers[0].name == \"a\"", "; did you mean `containers`?"),
        (
            "\tinput.containers[0].img == \"a\"",
            "undefined ref: input.containers[0].img; did you mean `image`?",
        ),
        (
            "\tinput.review.kind == 1",
            "rules that were written for another document are checked with --no-schema",
        ),
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
    let test = "package rule_test\n\ntest_it if {\n\tis_object(opa.runtime())\n}\n";
    let folder = rules(RULE, &[("rule_test.rego", test)]);
    assert_eq!(policy("check", folder.path(), &[]).code, 0);
    assert_eq!(policy("test", folder.path(), &[]).code, 0);
}

#[test]
fn a_test_of_rules_for_another_document_names_the_flag_with_which_they_run() {
    let case = cases("- {name: a, input: {containers: []}, violations: []}\n");
    let rule = RULE.replace("\tsome", "\tinput.review.kind == 1\n\tsome");
    let folder = rules(&rule, &[("rule_cases.yaml", &case)]);
    policy("test", folder.path(), &[])
        .fails(&["undefined ref: input.review", "for another document are run with --no-schema"]);
}

/// The formatter of opa 1.22 repeats the first text of such a line, and then refuses what it wrote.
#[test]
fn rules_that_opa_cannot_format_are_checked_all_the_same() {
    let of_one_line = "\ngrade(name) := 1 if name == \"web\"\nelse := \"two\" if name == \"db\"\n";
    let right = format!("{RULE}{of_one_line}");
    let said = policy("check", rules(&right, &[]).path(), &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["the format of the rules was not checked, since `opa fmt` failed: ", "rule.rego"]);
    let wrong = right.replace("container.name == \"web\"", "container.img == \"web\"");
    let said = policy("check", rules(&wrong, &[]).path(), &[]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["undefined ref: container.img"]);
}

#[test]
fn with_that_opa_would_unite_with_data_is_warned_of() {
    let rule = RULE.replace(
        "\tsome",
        "\tfound := data.cfg with data.cfg.deep as {\"new\": 1}\n\tfound.deep.new == 1\n\tsome",
    );
    let warning = "rule.rego:4:2: `with` replaces an object of `data.json`: ";
    let said =
        policy("check", rules(&rule, &[("data.json", r#"{"cfg": {"deep": {"old": 1}}}"#)]).path(), &[]);
    said.has(&[warning]);
    assert_eq!(said.code, 0, "{said:?}");
    let said = policy("check", rules(&rule, &[("data.json", r#"{"cfg": {"deep": 1}}"#)]).path(), &[]);
    assert!(!said.out.contains(warning), "{said:?}");
}

#[test]
fn rules_that_the_gate_would_not_load_are_found_and_not_written() {
    let folder = rules("package other\n\nallow := true\n", &[]);
    let said = policy("check", folder.path(), &["-o", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let problem = said.json()["problems"][0]["message"].as_str().unwrap().to_string();
    assert!(problem.contains("wasmgate/violations"), "{problem}");
    assert!(problem.contains("; write the rules in `package wasmgate`"), "{problem}");
    let archive = folder.path().join("out.tar.gz");
    policy("build", folder.path(), &["-f", archive.to_str().unwrap()]).fails(&["wasmgate/violations"]);
    assert!(!archive.exists());
}

#[test]
fn what_a_manifest_omits_and_the_gate_hands_over_all_the_same_is_said_to_the_author() {
    let manifest = r#"{"metadata": {"wasmgate": {"omit": ["object", "request.uid", "workload.name"]}}}"#;
    let whole = "\tsome key\n\tjson.marshal(input[key]) == \"x\"\n\tsome";
    let part = "\tsome below\n\tjson.marshal(input.request[below]) == \"x\"\n\tsome";
    for (line, message) in [
        (
            whole,
            "warning: `metadata.wasmgate.omit` is not followed: rules use `input` without naming a key of it",
        ),
        (
            part,
            "warning: `metadata.wasmgate.omit` is not followed for `request.uid`: rules use the value that it is a part of",
        ),
    ] {
        let folder = rules(&RULE.replace("\tsome", line), &[(".manifest", manifest)]);
        let said = policy("check", folder.path(), &[]);
        assert_eq!(said.code, 0, "{said:?}");
        said.has(&[message, "\nnothing is wrong\n"]);
        let report = policy("check", folder.path(), &["-o", "json"]).json();
        assert_eq!(report["warnings"].as_array().unwrap().len(), 1, "{report}");
        // And to the one who explains a pod with it.
        let archive = folder.path().join("out.tar.gz");
        let archive = archive.to_str().unwrap();
        assert_eq!(policy("build", folder.path(), &["-f", archive]).code, 0);
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {containers: []}}";
        let explain = ["explain", "--bundle", archive, "-f", "-"];
        let said = super::pipe(&explain, pod);
        said.has(&[&message.replace("warning: ", "warning: policy bundle `out`: ")]);
        let report = super::pipe(&[&explain[..], &["-o", "json"]].concat(), pod).json();
        assert_eq!(report["bundleWarnings"][0]["bundle"], "out", "{report}");
        let said = run(&["check", "--bundle", archive]);
        said.has(&["`metadata.wasmgate.omit` is not followed"]);
    }
}

#[test]
fn a_built_bundle_is_one_that_the_gate_loads_without_its_tests() {
    let test = "package rule_test\n\ntest_it if {\n\tis_object(opa.runtime())\n}\n";
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
    let folder = rules(
        &RULE.replace("container.name == \"web\"", "rego.parse_module(container.name, container.name)"),
        &[],
    );
    fs::write(folder.path().join("capabilities.json"), run(&["policy", "capabilities"]).out).unwrap();
    let arguments = ["check", "rule.rego", "--capabilities", "./capabilities.json"];
    let said = Command::new(program("opa")).args(arguments).current_dir(folder.path()).output().unwrap();
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("undefined function rego.parse_module"));
    fs::write(folder.path().join("rule.rego"), RULE).unwrap();
    opa::run_in(folder.path(), &arguments);
}

#[test]
fn no_line_that_a_test_prints_is_a_command_to_the_runner_of_a_ci_server() {
    let test =
        "package rule_test\n\ntest_loud if {\n\tprint(\"::add-mask::a\")\n\tprint(\"##[group]b\")\n}\n";
    let said = policy("test", rules(RULE, &[("rule_test.rego", test)]).path(), &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["  \\u{3a}:add-mask::a\n", "  \\u{23}#[group]b\n"]);
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
    assert!(report.contains("tests=\"5\" failures=\"3\" errors=\"0\" skipped=\"0\""), "{report}");
    assert!(report.contains("<failure message=\"not found: rule `no-web`\">"), "{report}");
    assert_eq!(super::scan_forms::against_junit(&report), Vec::<String>::new(), "{report}");
    let said = policy("test", folder.path(), &["-o", "json"]).json();
    assert_eq!(said["tests"][4]["outcome"], "failed", "{said}");
}

#[test]
fn what_stops_a_test_is_said_in_words() {
    let test =
        "package rule_test\n\ntest_twice if {\n\tboth == 2\n}\n\nboth := 1 if true\n\nboth := 2 if true\n";
    let folder = rules(RULE, &[("rule_test.rego", test)]);
    let said = policy("test", folder.path(), &[]);
    said.has(&[
        "data.rule_test: test_twice: FAIL\n",
        "eval_conflict_error at ",
        "rule data.rule_test.both produced conflicting values:\n  ",
    ]);
    assert!(!said.out.contains("stack_trace"), "{}", said.out);
}

#[test]
fn what_rules_print_is_told_with_the_case_whose_input_they_read() {
    let rule = RULE.replace("\tcontainer.name", "\tprint(\"asked about\", container.name)\n\tcontainer.name");
    let case = |name: &str| {
        let input = format!("input: {{containers: [{{name: {name}}}]}}");
        format!("- {{name: {name}, {input}, violations: [{{rule: no-web}}]}}\n")
    };
    let text = cases(&[case("web"), case("db")].concat());
    let folder = rules(&rule, &[("rule_cases.yaml", &text)]);
    let report = folder.path().join("report.xml");
    policy("test", folder.path(), &["--junit", report.to_str().unwrap()]).has(&[
        "rule_cases.yaml: web: PASS\n  asked about web\n",
        "rule_cases.yaml: db: FAIL\n  not found: rule `no-web`\n  asked about db\n",
    ]);
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains("<system-out>asked about web&#10;</system-out></testcase>"), "{report}");
}

#[test]
fn a_folder_whose_name_begins_like_a_flag_is_a_folder() {
    let parent = tempfile::tempdir().unwrap();
    let case = cases("- {name: a, input: {containers: [{name: web}]}, violations: [{rule: no-web}]}\n");
    fs::create_dir(parent.path().join("-v0")).unwrap();
    fs::write(parent.path().join("-v0/rule.rego"), RULE).unwrap();
    fs::write(parent.path().join("-v0/rule_cases.yaml"), case).unwrap();
    for verb in ["check", "test", "build"] {
        let mut command = wasmgate();
        command.args(["policy", verb, "--opa"]).arg(program("opa")).args(["--", "-v0"]);
        let said = Said::of(command.current_dir(parent.path()));
        assert_eq!(said.code, 0, "{verb}: {said:?}");
    }
    let names = listed(parent.path().join("bundle.tar.gz").to_str().unwrap());
    assert!(names.iter().any(|name| name.ends_with("-v0/rule.rego")), "{names:?}");
}

#[test]
fn a_pipe_or_a_device_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    for name in ["rule_cases.yaml", "data.json", "more.rego", ".manifest"] {
        let folder = rules(RULE, &[]);
        let pipe = folder.path().join(name);
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        policy("test", folder.path(), &[]).fails(&[name, "it is not a regular file"]);
    }
    // One that is left out is not read either.
    let case = cases("- {name: a, input: {containers: [{name: web}]}, violations: [{rule: no-web}]}\n");
    let folder = rules(RULE, &[("rule_cases.yaml", &case)]);
    assert!(Command::new("mkfifo").arg(folder.path().join("more.rego")).status().unwrap().success());
    let said = policy("test", folder.path(), &["--ignore", "more.rego", "--coverage"]);
    assert_eq!(said.code, 0, "{said:?}");
    let endless = cases("- {name: a, input: /dev/zero, violations: []}\n");
    let folder = rules(RULE, &[("rule_cases.yaml", &endless)]);
    policy("test", folder.path(), &[]).fails(&["/dev/zero`: it is not a regular file"]);
}

#[test]
fn rules_are_checked_beside_the_mark_of_an_editor_and_a_pipe_that_is_left_out() {
    let folder = rules(RULE, &[("left_out.rego", "package other\na   := 1\n")]);
    std::os::unix::fs::symlink("me@host.123:456", folder.path().join(".#rule.rego")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe.rego")).status().unwrap().success());
    let regal = program("regal");
    let more = ["--ignore", "pipe.rego", "--ignore", "left_out.rego", "--regal", regal.to_str().unwrap()];
    let said = policy("check", folder.path(), &more);
    assert_eq!((said.code, said.out.as_str()), (0, "nothing is wrong\n"), "{said:?}");
}

/// OPA's own cases of `rego.metadata.chain` look at a package that their test moves (`tests/suite/functions.rs`).
#[test]
fn a_rule_reads_the_metadata_of_itself_and_of_its_package_as_in_opa() {
    let rule = "# METADATA\n# scope: package\n# title: ours\n# custom: {owner: platform}\npackage wasmgate\n\n\
                # METADATA\n# title: first\n\
                violations contains {\"rule\": \"chain\", \"message\": json.marshal(rego.metadata.chain())}\n\n\
                # METADATA\n# title: second\n\
                violations contains {\"rule\": \"own\", \"message\": json.marshal(rego.metadata.rule())}\n";
    let wanted = "[{rule: chain, message: platform}, {rule: own, message: second}]";
    let text = cases(&format!("- {{name: all, input: {{containers: []}}, violations: {wanted}}}\n"));
    let folder = rules(rule, &[("rule_cases.yaml", &text)]);
    // A case also fails where a message is another one in `opa eval`.
    policy("test", folder.path(), &[]).has(&["rule_cases.yaml: all: PASS\n"]);
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
fn a_new_rule_passes_beside_another_one_and_replaces_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    let new = |name: &str| run(&["policy", "new", name, "--into", rules.to_str().unwrap()]);
    // The last one is a word of YAML.
    for name in ["our-registry", "other", "null"] {
        assert_eq!(new(name).code, 0);
    }
    assert!(rules.join("our_registry_test.rego").exists());
    let said = policy("check", &rules, &[]);
    assert_eq!((said.code, said.out.as_str()), (0, "nothing is wrong\n"), "{said:?}");
    policy("test", &rules, &[]).has(&["our-registry refuses an image: PASS", "PASS: 9/9"]);
    fs::write(rules.join("other.rego"), "mine").unwrap();
    new("other").fails(&["other.rego", "it is there already"]);
    assert_eq!(fs::read_to_string(rules.join("other.rego")).unwrap(), "mine");
    for name in ["Our", "a b", "../a", "-a", ""] {
        assert_eq!(new(name).code, 2, "{name}");
    }
    new("smoke-test").fails(&["would count as a test"]);
    assert!(!rules.join("smoke_test.rego").exists());
}

/// The names of the files in an archive.
fn listed(archive: &str) -> Vec<String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(archive).unwrap()));
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    names.collect()
}

#[test]
fn rules_are_where_the_author_says_and_the_bundle_does_not_say_where_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("here")).unwrap();
    fs::create_dir_all(at("rules2")).unwrap();
    std::os::unix::fs::symlink("rules2", at("linked")).unwrap();
    let text = cases("- {name: web, input: {containers: [{name: web}]}, violations: [{rule: no-web}]}\n");
    fs::write(at("rules2/rule.rego"), RULE).unwrap();
    fs::write(at("rules2/rule_cases.yaml"), text).unwrap();
    let archive = at("out.tar.gz").to_str().unwrap().to_string();
    for rules in ["../rules2", "../here/../rules2/", "../linked", at("rules2").to_str().unwrap()] {
        let run = |verb: &str, more: &[&str]| {
            let mut command = wasmgate();
            command.args(["policy", verb, rules, "--opa"]).arg(program("opa")).args(more);
            let said = Said::of(command.current_dir(at("here")));
            assert_eq!(said.code, 0, "{verb} {rules}: {said:?}");
            said
        };
        run("check", &[]).has(&["nothing is wrong"]);
        run("test", &[]).has(&["web: PASS"]);
        run("bench", &["--count", "1"]);
        run("build", &["-f", &archive]);
        let names = listed(&archive);
        assert!(names.iter().any(|name| name.ends_with("rules2/rule.rego")), "{names:?}");
        let outside = folder.path().file_name().unwrap().to_str().unwrap();
        assert!(names.iter().all(|name| !name.contains("..") && !name.contains(outside)), "{names:?}");
    }
    // What opa itself writes of such a folder is taken too.
    let build =
        ["build", "-t", "wasm", "-e", "wasmgate/violations", "-b", "../rules2", "-o", "../plain.tar.gz"];
    opa::run_in(&at("here"), &build);
    let plain = at("plain.tar.gz").to_str().unwrap().to_string();
    assert!(listed(&plain).iter().any(|name| name.contains("..")), "{:?}", listed(&plain));
    assert_eq!(run(&["check", "--bundle", &plain]).code, 0, "{:?}", run(&["check", "--bundle", &plain]));
}

#[test]
fn what_would_be_left_out_of_the_bundle_without_a_word_is_refused() {
    type Others = &'static [(&'static str, &'static str)];
    type Change = Box<dyn Fn(&Path)>;
    const LIMITS: &str = r#"{"limits": {"name": "web"}}"#;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("away.rego"), RULE).unwrap();
    fs::create_dir(folder.path().join("more")).unwrap();
    let limited = RULE.replace("container.name == \"web\"", "container.name == data.limits.name");
    let link = |name: &'static str, to: &'static str| {
        move |rules: &Path| std::os::unix::fs::symlink(to, rules.join(name)).unwrap()
    };
    let away = folder.path().join("away.rego");
    let cases: [(&str, &str, Others, Change); 6] = [
        (
            "linked.rego: it is a link",
            RULE,
            &[],
            Box::new(move |rules| std::os::unix::fs::symlink(&away, rules.join("linked.rego")).unwrap()),
        ),
        ("data.json: it is a link", RULE, &[("other", "{}")], Box::new(link("data.json", "other"))),
        ("more: it is a link", RULE, &[], Box::new(link("more", "/"))),
        ("limits.json: rules read `data.limits`", &limited, &[("limits.json", LIMITS)], Box::new(|_| ())),
        ("limits.yaml: rules read `data.limits`", &limited, &[("limits.yaml", LIMITS)], Box::new(|_| ())),
        (
            "smoke_test.rego: it defines `data.wasmgate.violations`",
            RULE,
            &[("smoke_test.rego", RULE)],
            Box::new(|_| ()),
        ),
    ];
    for (message, rule, others, make) in cases {
        let folder = rules(rule, others);
        make(folder.path());
        let said = policy("check", folder.path(), &[]);
        assert_eq!(said.code, 1, "{message}: {said:?}");
        said.has(&[message, "1 problem"]);
        let archive = folder.path().join("out.tar.gz");
        policy("build", folder.path(), &["-f", archive.to_str().unwrap()]).fails(&[&message.replacen(
            ": ",
            "` into the bundle: ",
            1,
        )]);
        assert!(!archive.exists());
        let name = message.split(':').next().unwrap();
        if message.contains("link") {
            let said = policy("check", folder.path(), &["--ignore", name]);
            assert_eq!(said.code, 0, "{message}: {said:?}");
        }
    }
    // Data that the bundle has, and files that no rule reads.
    for others in
        [[("data.json", LIMITS), ("limits.json", LIMITS)], [("pod.json", LIMITS), ("data.yaml", LIMITS)]]
    {
        let folder = rules(&limited, &others);
        let said = policy("check", folder.path(), &[]);
        assert_eq!(said.code, 0, "{said:?}");
    }
}

#[test]
fn a_case_whose_rules_conflict_fails_and_the_others_are_judged() {
    let rule = "package wasmgate

violations contains {\"rule\": \"no-web\", \"message\": \"m\"} if limit == 1

limit := 1 if input.a

limit := 2 if input.b
";
    let text = cases(
        "- {name: one, input: {a: true}, violations: [{rule: no-web}]}\n\
         - {name: both, input: {a: true, b: true}, violations: []}\n\
         - {name: two, input: {b: true}, violations: []}\n",
    );
    let folder = rules(rule, &[("rule_cases.yaml", &text)]);
    let said = policy("test", folder.path(), &["--no-schema"]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["one: PASS", "both: FAIL\n  policy bundle", "two: PASS"]);
}

/// As `serve` and `opa eval` read it, and as no float has it.
#[test]
fn rules_get_a_number_of_a_case_in_json_as_it_is_written() {
    const NUMBER: &str = "123456789012345678901234567890";
    let rule = "package wasmgate\n\nviolations contains {\"rule\": \"exact\", \"message\": sprintf(\"%v\", [input.exact])}\n";
    let wanted = format!("violations: [{{rule: exact, message: \"{NUMBER}\"}}]");
    let yaml = cases(&format!("- {{name: file, input: exact.json, {wanted}}}\n"));
    let document = format!("{{\"exact\": {NUMBER}}}");
    let json = format!(
        "{{\"apiVersion\": \"wasmgate.dev/v1alpha1\", \"kind\": \"PolicyCases\", \"cases\": [{{\"name\": \"inside\", \"input\": \
         {document}, \"violations\": [{{\"rule\": \"exact\", \"message\": \"{NUMBER}\"}}]}}]}}"
    );
    let others =
        [("a_cases.yaml", yaml.as_str()), ("b_cases.json", json.as_str()), ("exact.json", document.as_str())];
    let folder = rules(rule, &others);
    let said = policy("test", folder.path(), &["--no-schema"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["file: PASS", "inside: PASS"]);
}

#[test]
fn a_key_that_no_gate_verifies_with_signs_nothing() {
    let folder = rules(RULE, &[]);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (plain, signed) = (at("plain.tar.gz"), at("signed.tar.gz"));
    assert_eq!(policy("build", folder.path(), &["-f", &plain]).code, 0);
    let pair = rcgen::KeyPair::generate().unwrap();
    fs::write(at("p256.pem"), pair.serialize_pem()).unwrap();
    fs::write(at("secret"), "short").unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    for (key, algorithm, message) in [
        ("p256.pem", "ES384", "needs one of the curve P-256 (ES256), P-384 (ES384) or P-521 (ES512)"),
        ("secret", "HS256", "too short for a secret"),
        // opa would sign with the path as the secret.
        ("a-secret-that-is-not-there", "HS256", "No such file"),
        ("a-key-that-is-not-there", "RS256", "No such file"),
        // It has its content once, and both read it.
        ("pipe", "HS256", "it is not a regular file; write the key into one"),
    ] {
        let mut command = wasmgate();
        command.args(["policy", "sign", &plain, "-f", &signed, "--opa"]).arg(program("opa"));
        Said::of(command.args(["--key", &at(key), "--algorithm", algorithm]))
            .fails(&["could not sign with", message]);
        assert!(!Path::new(&signed).exists());
    }
}

#[test]
fn a_signed_bundle_is_verified_and_one_that_was_changed_is_not() {
    let folder = rules(RULE, &[]);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (plain, signed) = (at("plain.tar.gz"), at("signed.tar.gz"));
    assert_eq!(policy("build", folder.path(), &["-f", &plain, "--revision", "7"]).code, 0);
    let pair = rcgen::KeyPair::generate().unwrap();
    fs::write(at("p256.key.pem"), pair.serialize_pem()).unwrap();
    fs::write(at("p256.pub.pem"), pair.public_key_pem()).unwrap();
    let key = |file: &str| {
        ["--key", &at(file), "--algorithm", "ES256", "--key-id", "r", "--scope", "s"].map(String::from)
    };
    let sign = |bundle: &str, more: &[&str]| {
        let mut command = wasmgate();
        command.args(["policy", "sign", bundle, "--opa"]).arg(program("opa"));
        Said::of(command.args(key("p256.key.pem")).args(more))
    };
    let verify =
        |bundle: &str| Said::of(wasmgate().args(["policy", "verify", bundle]).args(key("p256.pub.pem")));
    let said = verify(&plain);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["it is not signed"]);
    let said = sign(&plain, &["-f", &signed]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(verify(&signed).code, 0, "{:?}", verify(&signed));
    // OPA itself takes what was built, and verifies what was signed.
    let out = at("by-opa.tar.gz");
    opa::run(&["build", "--bundle", &plain, "--output", &out]);
    let public = at("p256.pub.pem");
    let built = ["build", "--bundle", &signed, "--output", &out, "--verification-key", &public];
    let verifying = ["--verification-key-id", "r", "--signing-alg", "ES256", "--scope", "s"];
    opa::run(&[&built[..], &verifying].concat());
    // Signing again replaces the signature, and the rest is the same.
    assert_eq!(sign(&signed, &[]).code, 0);
    assert_eq!(verify(&signed).code, 0);
    let unpacked = folder.path().join("unpacked");
    let archive = fs::File::open(&signed).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(archive)).unpack(&unpacked).unwrap();
    fs::write(unpacked.join("data.json"), "{\"more\": 1}").unwrap();
    let said = verify(unpacked.to_str().unwrap());
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["`data.json` is not what was signed"]);
    sign(unpacked.to_str().unwrap(), &[]).fails(&["name the archive to write with -f"]);
    run(&["policy", "verify", &signed, "--key", "/no/such/key"]).fails(&["/no/such/key"]);
}

#[test]
fn what_was_pushed_is_what_is_pulled_and_what_the_gate_takes_from_there() {
    let folder = rules(RULE, &[]);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (built, pulled, config) = (at("built.tar.gz"), at("pulled.tar.gz"), at("config.json"));
    assert_eq!(policy("build", folder.path(), &["-f", &built]).code, 0);
    let registry = Registry::start_with_tls_and_password();
    let auth = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("{}:{}", crate::support::registry::USER, crate::support::registry::PASSWORD),
    );
    fs::write(&config, format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.host)).unwrap();
    let ca = registry.ca.as_ref().unwrap().to_str().unwrap().to_string();
    let reached = ["--allow-registry", &registry.host, "--registry-ca", &ca];
    let place = registry.image("team/rules:7");
    run(&[&["policy", "push", &built, &place][..], &reached].concat()).fails(&["could not push to", &place]);
    let logged_in = [&reached[..], &["--docker-config", &config]].concat();
    let said = run(&[&["policy", "push", &built, &place, "-o", "json"][..], &logged_in].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let digest = said.json()["digest"].as_str().unwrap().to_string();
    let said = run(&[&["policy", "pull", &format!("oci://{place}"), "-f", &pulled][..], &logged_in].concat());
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[&digest]);
    assert_eq!(fs::read(&pulled).unwrap(), fs::read(&built).unwrap());
    // The same bytes have the same digest, and opa reads the layout too.
    let again = run(&[&["policy", "push", &built, &place][..], &logged_in].concat());
    again.has(&[&digest]);
    let bundle = format!("oci://{place}");
    let said = run(&[&["check", "--bundle", &bundle][..], &logged_in].concat());
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["policy bundles: 1"]);
    fs::write(at("no.tar.gz"), "no archive").unwrap();
    run(&[&["policy", "push", &at("no.tar.gz"), &place][..], &logged_in].concat())
        .fails(&["bundle `no`", "not a gzipped tar archive"]);
    let by_digest = format!("{}@{digest}", registry.image("team/rules"));
    run(&[&["policy", "push", &built, &by_digest][..], &logged_in].concat()).fails(&["name a tag"]);
    run(&[&["policy", "push", folder.path().to_str().unwrap(), &place][..], &logged_in].concat())
        .fails(&["could not push the folder"]);
}

#[test]
fn every_case_is_measured_and_one_that_nothing_judges_is_an_error() {
    let text = cases("- {name: web, input: {containers: [{name: web}]}, violations: []}\n");
    let folder = rules(RULE, &[("rule_cases.yaml", &text)]);
    let said = policy("bench", folder.path(), &["--count", "5", "-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let said = said.json();
    let (case, count) = (&said["cases"][0], &said["count"]);
    assert_eq!((case["case"].as_str(), count.as_u64()), (Some("web"), Some(5)), "{said}");
    assert!(
        case["median"].as_u64().unwrap() > 0 && case["longest"].as_u64() >= case["median"].as_u64(),
        "{said}"
    );
    policy("bench", folder.path(), &["--count", "5"]).has(&["MEDIAN", "  web\n"]);
    let linux = samples("workloads/linux.yaml");
    let text = cases(&format!("- {{name: linux, manifest: {}, violations: []}}\n", linux.display()));
    let folder = rules(RULE, &[("rule_cases.yaml", &text)]);
    policy("bench", folder.path(), &[]).fails(&["case `linux`", "no rule sees this object"]);
}

#[test]
fn a_saved_file_is_tested_again_and_a_broken_one_is_survived() {
    let text = cases("- {name: one, input: input.json, violations: [{rule: no-web}]}\n");
    let others = [("rule_cases.yaml", text.as_str()), ("input.json", r#"{"containers": [{"name": "web"}]}"#)];
    let folder = rules(RULE, &others);
    let out = folder.path().with_extension("out");
    let mut command = wasmgate();
    command.args(["policy", "test", folder.path().to_str().unwrap(), "--watch", "--opa"]).arg(program("opa"));
    let mut child = command.stdout(fs::File::create(&out).unwrap()).spawn().unwrap();
    let mut seen = 0;
    let mut next = |what: &str| {
        let found = ask_patiently(|| {
            let text = fs::read_to_string(&out).unwrap();
            let (before, _) = text.get(seen..)?.split_once(": waiting for a change below ")?;
            seen += before.len() + 1;
            Some(before.to_string())
        });
        let found = found.unwrap_or_else(|| panic!("nothing after {what}"));
        assert!(found.contains(what), "no {what} in {found}");
    };
    next("one: PASS");
    fs::write(folder.path().join("rule.rego"), RULE.replace("no-web", "other")).unwrap();
    next("one: FAIL\n  not found: rule `no-web`");
    fs::write(folder.path().join("rule.rego"), "package").unwrap();
    next("error: ");
    fs::write(folder.path().join("rule.rego"), RULE).unwrap();
    next("one: PASS");
    // What a case names is watched as well.
    fs::write(folder.path().join("input.json"), r#"{"containers": [{"name": "database"}]}"#).unwrap();
    next("one: FAIL");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(out).unwrap();
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
    run(&["policy", "--help"]).has(&["new", "check", "test", "build", "sign", "push", "capabilities"]);
    run(&["policy", "test", "--help"]).has(&["kind: PolicyCases", "--junit", "Exit codes: 0"]);
}

const TWO: &str = r#"package wasmgate

violations contains {"rule": "a", "message": "m"} if {
	input.options.a
	input.options.b
}

violations contains {"rule": "b", "message": "m"} if {
	input.options.c
	input.options.d
}
"#;

#[test]
fn what_no_test_reaches_is_counted_as_opa_counts_it_and_too_little_of_it_fails() {
    let test = "package wasmgate_test\n\nimport data.wasmgate\n\ntest_a if {\n\tcount(wasmgate.violations) == 1 with input.options as {\"a\": 1, \"b\": 2}\n}\n";
    let folder = rules(TWO, &[("rule_test.rego", test)]);
    let said = policy("test", folder.path(), &["--coverage"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["PASS: 1/1", "rule.rego: 50.0 % covered, not lines 8-10\n", "COVERAGE: 62.5 %\n"]);
    let said = policy("test", folder.path(), &["--threshold", "62.5", "-o", "json"]);
    let coverage = &said.json()["coverage"];
    assert_eq!(
        (said.code, &coverage["percent"], &coverage["threshold"]),
        (0, &62.5.into(), &62.5.into()),
        "{said:?}"
    );
    let said = policy("test", folder.path(), &["--threshold", "63"]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["COVERAGE: 62.5 %, less than 63.0 %"]);
    // The same verdict as that of opa itself.
    let arguments = ["test", "--coverage", "--threshold", "63", "-b", folder.path().to_str().unwrap()];
    assert!(!Command::new(program("opa")).args(arguments).output().unwrap().status.success());
    policy("test", folder.path(), &["--threshold", "101"]).fails(&["from 0 to 100"]);
    // A test that fails leaves nothing to count.
    fs::write(folder.path().join("rule_test.rego"), test.replace("== 1", "== 2")).unwrap();
    let said = policy("test", folder.path(), &["--coverage"]);
    assert!(said.code == 1 && !said.out.contains("COVERAGE"), "{said:?}");
}

#[test]
fn regal_is_asked_where_it_is_there_and_its_absence_is_said() {
    let folder = rules(RULE, &[]);
    let regal = program("regal");
    let regal = regal.to_str().unwrap();
    let said = policy("check", folder.path(), &["--regal", regal]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "nothing is wrong\n", ""), "{said:?}");
    let odd = RULE.replace(
        "some container in input.containers\n",
        "some container in input.containers\n\titsName := container.name\n\titsName != \"\"\n",
    );
    fs::write(folder.path().join("rule.rego"), odd).unwrap();
    let said = policy("check", folder.path(), &["--regal", regal]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["rule.rego:5:", "(regal: prefer-snake-case)"]);
    let report = policy("check", folder.path(), &["--regal", regal, "-o", "json"]).json();
    assert_eq!(
        (&report["problems"][0]["code"], &report["regal"]),
        (&"regal/style/prefer-snake-case".into(), &true.into())
    );
    // What the author has configured counts.
    fs::create_dir(folder.path().join(".regal")).unwrap();
    let configured = "rules: {style: {prefer-snake-case: {level: ignore}}, idiomatic: {no-defined-entrypoint: {level: ignore}}}\n";
    fs::write(folder.path().join(".regal/config.yaml"), configured).unwrap();
    policy("check", folder.path(), &["--regal", regal])
        .has(&["(regal: directory-package-mismatch)", "\n1 problem"]);
    policy("check", folder.path(), &["--regal", "/no/such/regal"])
        .fails(&["could not find `/no/such/regal`"]);
    let mut command = wasmgate();
    command
        .args(["policy", "check", folder.path().to_str().unwrap(), "--opa"])
        .arg(program("opa"))
        .env("PATH", "/no/such/folder");
    let said = Said::of(&mut command);
    assert_eq!((said.code, said.out.as_str()), (0, "nothing is wrong\n"), "{said:?}");
    assert!(said.err.contains("regal was not run"), "{said:?}");
}

#[test]
fn a_new_rule_passes_regal_too() {
    let folder = tempfile::tempdir().unwrap();
    run(&["policy", "new", "our-rule", "--into", folder.path().to_str().unwrap()]);
    let said = policy("check", folder.path(), &["--regal", program("regal").to_str().unwrap()]);
    assert_eq!((said.code, said.out.as_str()), (0, "nothing is wrong\n"), "{said:?}");
}

const WITH_METADATA: &str = r#"package wasmgate

# METADATA
# title: Only our registry
# description: Wasm comes from where we scan it.
# custom:
#   remedy: Push the image to `registry.example.com`.
#   category: supply-chain
#   severity: high
violations contains {"rule": "our-registry", "container": container.name, "message": "not ours"} if {
	some container in input.containers
	container.class == "wasm"
}
"#;

#[test]
fn what_metadata_says_of_a_rule_stands_in_every_report_of_its_violations() {
    let folder = rules(WITH_METADATA, &[]);
    let case =
        "- {name: one, input: {containers: [{name: a, class: wasm}]}, violations: [{rule: our-registry}]}\n";
    fs::write(folder.path().join("a_cases.yaml"), cases(case)).unwrap();
    let said = policy("test", folder.path(), &[]);
    assert_eq!(said.code, 0, "`opa eval` does not say the remedy: {said:?}");
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let built = policy("build", folder.path(), &["-f", &at("ours.tar.gz")]);
    assert_eq!(built.code, 0, "{built:?}");
    opa::run_in(
        folder.path(),
        &["build", "-t", "wasm", "-e", "wasmgate/violations", "-b", ".", "-o", &at("by-opa.tar.gz")],
    );
    let (pod, images) = (samples("workloads/hello.yaml"), layouts());
    for bundle in [at("ours.tar.gz"), at("by-opa.tar.gz")] {
        let fixed = ["-f", pod.to_str().unwrap(), "--image-layouts", &images, "--bundle", &bundle];
        let explain = |more: &[&str]| run(&[&["explain"], &fixed[..], more].concat());
        explain(&[]).has(&[
            "[our-registry] not ours\n",
            "remedy: Push the image to `registry.example.com`.\n",
            "Only our registry, severity high, category supply-chain\n",
        ]);
        let report = explain(&["-o", "json"]).json();
        let violation = &report["objects"][0]["violations"][0];
        assert_eq!(violation["remedy"], "Push the image to `registry.example.com`.", "{report}");
        let annotations = serde_json::json!({"title": "Only our registry", "description": "Wasm comes from where we scan it.",
            "category": "supply-chain", "severity": "high"});
        assert_eq!(violation["annotations"], annotations);
        let scan = |form: &str| run(&[&["scan", "-o", form], &fixed[..]].concat());
        for form in ["html", "junit", "github"] {
            assert!(scan(form).out.contains("remedy: Push the image to "), "{form}: {:?}", scan(form));
        }
        let judged = &scan("json").json()["workloads"][0]["judged"][0];
        assert_eq!(
            (&judged["violations"][0]["annotations"], &judged["violations"][0]["remedy"]),
            (&annotations, &violation["remedy"])
        );
        let sarif = scan("sarif").json();
        let rule = &sarif["runs"][0]["tool"]["driver"]["rules"][0];
        assert_eq!(
            (&rule["id"], &rule["help"]["text"]),
            (&"our-registry".into(), &violation["remedy"]),
            "{sarif}"
        );
        assert_eq!(
            (&rule["shortDescription"]["text"], &rule["properties"]["tags"][0]),
            (&"Only our registry".into(), &"supply-chain".into())
        );
    }
}
