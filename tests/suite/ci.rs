//! What `.ci/run` says in the end, with programs in the place of the real ones that say what they were asked.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::process::{own, root};

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs it where `tools/cluster/node` and `make` do this.
fn run(node: &str, make: &str) -> Output {
    run_with(node, make, OLDER, "45")
}

/// An earlier gate that can be built, and is not.
const OLDER: &str = "case $1 in check | due) ;; types) echo types of it ;; --built) [ -e \"$0.is\" ] && echo /older/wasmgate ;; *) touch \"$0.is\" ;; esac";

/// The same with what `tools/older/build` does, and the minutes in which youki and an earlier gate are still built.
fn run_with(node: &str, make: &str, older: &str, minutes: &str) -> Output {
    run_where((node, make, older, minutes), "opa policy-reporter")
}

/// The same with the programs that are built, and with `can-` those that can be; `no-python` is a machine without Python.
fn run_where((node, make, older, minutes): (&str, &str, &str, &str), built: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    fs::create_dir(inside(".ci")).unwrap();
    fs::copy(root().join(".ci/run"), inside(".ci/run")).unwrap();
    script(&inside("tools/cluster/node"), node);
    script(
        &inside("tools/build"),
        &format!(
            "case $* in --names) printf 'opa\\nyouki\\n' ;; --present) echo /cache/opa ;; \
             --built*) [ -e \"$0.$2\" ] || case ' {built} ' in *\" $2 \"*) ;; *) exit 1 ;; esac ;; \
             *) case ' {built} ' in *\" can-$1 \"*) touch \"$0.$1\" ;; *) exit 1 ;; esac ;; esac"
        ),
    );
    script(&inside("tools/older/build"), older);
    script(&inside("policies/build"), "");
    script(&inside("benches/instructions"), "");
    script(&inside("bin/cargo"), "echo cargo \"$@\"");
    script(&inside("bin/make"), make);
    script(&inside("bin/python3"), &format!("case ' {built} ' in *' no-python '*) exit 127 ;; esac"));
    let path = format!("{}:{}", inside("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg(inside(".ci/run")).env("PATH", path).env_remove("WASMGATE_TEST_NO_NAMESPACES");
    // As for a run whose caches are elsewhere.
    command.env_remove("WASMGATE_TEST_OLDER_GATE").env_remove("CARGO_TARGET_DIR");
    command.env("WASMGATE_CI_YOUKI_UNTIL", minutes).env("WASMGATE_CI_CRUN_UNTIL", minutes);
    command.output().unwrap()
}

/// A machine that can run a node, and has no part of it, which only a check without `machine` asks.
const NODE: &str = "case $* in 'check machine' | 'check proxy') ;; 'parts further') echo youki ;; *) echo not built; exit 1 ;; esac";

/// The same, with a part that cannot be had everywhere.
const NODE_WITH_OPTIONAL_PART: &str = "case $* in 'check machine' | 'check proxy') ;; 'parts further') echo youki ;; \
     'parts optional') echo crun ;; *) echo not built; exit 1 ;; esac";

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap().to_string()
}

#[test]
fn where_the_machine_can_run_a_node_its_parts_are_built_and_its_tests_run() {
    let output = run(NODE, "echo make \"$@\"");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("no `{text}` in\n{said}"));
    assert!(at("make --no-print-directory node-tools") < at("make --no-print-directory test-node"), "{said}");
    let last = last_line(&output);
    assert!(last.starts_with("== all passed in ") && last.ends_with('s') && !last.contains("but"), "{last}");
    let before = "== before: 1 of 2 tools built, nothing compiled\n";
    assert!(said.starts_with(before) && said.ends_with(&format!("{before}{last}\n")), "{said}");
    assert!(said.contains("s format\n"), "{said}");
}

#[test]
fn when_the_time_is_up_youki_is_left_out_and_the_last_line_says_so() {
    let output = run_with(NODE, "echo make \"$@\"", OLDER, "0");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("test-node") && !said.contains("node-tools"), "{said}");
    let last = last_line(&output);
    assert!(
        last.contains("but for what was skipped: an upgrade from an earlier commit (0 minutes"),
        "{last}"
    );
    assert!(last.contains("; tests of youki (0 minutes had passed"), "{last}");
    assert!(said.contains("\ntypes of it\n"), "{said}");
    let output = run_with(NODE, "echo make \"$@\"", &OLDER.replace("echo types of it", "exit 1"), "0");
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("== failed: types of an earlier commit"), "{output:?}");
}

#[test]
fn types_of_a_commit_that_was_chosen_long_ago_are_skipped_and_the_last_line_says_so() {
    let chosen_long_ago =
        OLDER.replace("check | due) ;;", "check) ;; due) echo 'chosen long ago'; exit 1 ;;");
    let output = run_with(NODE, "echo make \"$@\"", &chosen_long_ago, "0");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("types of it") && !said.contains("s types of an earlier commit"), "{said}");
    let last = last_line(&output);
    assert!(last.contains(": types of an earlier commit (chosen long ago); an upgrade from "), "{last}");
}

/// The page names what the script goes by where nothing else is set.
#[test]
fn the_page_for_contributors_names_the_minutes_until_which_parts_of_the_node_are_built() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (script, page) = (read(".ci/run"), read("CONTRIBUTING.md"));
    for variable in ["WASMGATE_CI_YOUKI_UNTIL", "WASMGATE_CI_CRUN_UNTIL"] {
        let (_, rest) = script.split_once(&format!("${{{variable}:-")).unwrap();
        let minutes = rest.split('}').next().unwrap();
        let named = [format!("{minutes} minutes (`{variable}`"), format!("{minutes} (`{variable}`")];
        assert!(named.iter().any(|text| page.contains(text)), "{variable} is {minutes}");
    }
}

/// The real script, in a repository that has just chosen a commit.
#[test]
fn an_earlier_commit_has_its_types_checked_and_is_due_for_that_where_it_was_chosen_lately() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@example", "-c", "commit.gpgsign=false"]);
        let output = command.args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "--quiet"]);
    fs::create_dir_all(inside("tools/older")).unwrap();
    fs::copy(root().join("tools/older/build"), inside("tools/older/build")).unwrap();
    fs::write(inside("Cargo.toml"), "[[bin]]\nname = \"wasmgate\"\n\n").unwrap();
    let commit = || {
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--no-verify", "--message=a"]);
        git(&["rev-parse", "HEAD"])
    };
    fs::write(inside("tools/older/commit"), commit()).unwrap();
    commit();
    script(&inside("cargo"), "pwd; cat Cargo.toml; echo cargo \"$@\"; exit \"${FAILS:-0}\"");
    let asked = |command: &str, fails: &str| {
        let mut script = Command::new("sh");
        script.arg(inside("tools/older/build")).arg(command).env("CARGO", inside("cargo"));
        script.env("FAILS", fails).env("XDG_CACHE_HOME", inside("cache")).output().unwrap()
    };
    assert!(asked("due", "1").status.success());
    let output = asked("types", "0");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("name = \"wasmgate-older\""), "{said}");
    assert!(said.contains("cargo check --locked --bin wasmgate-older --examples\n"), "{said}");
    assert_eq!(fs::read_dir(inside("cache/wasmgate/older")).unwrap().count(), 0);
    let output = asked("types", "1");
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Write one that compiles"), "{output:?}");
    let next = "commit refs/heads/later\ncommitter a <a@example> 1 +0000\ndata 1\nb\n";
    let first = format!("{next}from {}", git(&["rev-parse", "HEAD"]));
    fs::write(inside("later"), first + &next.repeat(99)).unwrap();
    let import = "git fast-import --quiet <later && git symbolic-ref HEAD refs/heads/later";
    let imported = Command::new("sh").args(["-c", import]).current_dir(folder.path()).status().unwrap();
    assert!(imported.success());
    let output = asked("due", "1");
    assert!(!output.status.success(), "it was chosen long ago: {output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("none of the last hundred commits has chosen the commit "), "{said}");
}

#[test]
fn a_part_that_is_not_had_everywhere_is_built_while_there_is_time_and_named_in_the_last_line_elsewhere() {
    let with = |minutes: &str, built: &str| {
        let output = run_where((NODE_WITH_OPTIONAL_PART, "echo make \"$@\"", OLDER, minutes), built);
        assert!(output.status.success(), "{output:?}");
        last_line(&output)
    };
    let last = with("45", "opa policy-reporter can-crun");
    assert!(!last.contains("skipped"), "{last}");
    let last = with("45", "opa policy-reporter");
    let reason = "but for what was skipped: tests of crun (it could not be built; the lines above say why)";
    assert!(last.ends_with(reason), "{last}");
    let last = with("0", "opa policy-reporter can-crun");
    assert!(last.contains("; tests of crun (0 minutes had passed, and building it takes two)"), "{last}");
    assert!(!with("0", "opa policy-reporter crun").contains("tests of crun"), "it is there");
}

#[test]
fn where_a_node_gets_no_kube_proxy_the_last_line_says_that_no_service_was_asked_by_its_address() {
    let last = last_line(&run(NODE, "echo make \"$@\""));
    assert!(!last.contains("Services"), "{last}");
    let node = "case $* in 'check machine') ;; 'check proxy') echo 'no kube-proxy here: no nft'; exit 1 ;; \
         'parts further') echo youki ;; 'parts proxy') echo nft ;; *) exit 1 ;; esac";
    let output = run(node, "echo make \"$@\"");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\n== kube-proxy\n"), "{output:?}");
    let last = last_line(&output);
    let reason = "but for what was skipped: Services by their addresses (no kube-proxy here: no nft)";
    assert!(last.ends_with(reason), "{last}");
}

#[test]
fn the_test_of_policy_reporter_runs_where_that_is_built_and_is_named_in_the_last_line_elsewhere() {
    let output = run(NODE, "echo make \"$@\"");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("make --no-print-directory test-policy-reporter\n"), "{said}");
    let output = run_where((NODE, "echo make \"$@\"", OLDER, "45"), "opa");
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("test-policy-reporter\n"), "{output:?}");
    let last = last_line(&output);
    let reason = "the test of Policy Reporter (it is not built; `tools/build policy-reporter` builds it)";
    assert!(last.ends_with(&format!("but for what was skipped: {reason}")), "{last}");
}

#[test]
fn without_python_the_last_line_says_that_the_goals_were_not_compared_with_the_page() {
    assert!(!last_line(&run(NODE, "echo make \"$@\"")).contains("goals"));
    let output = run_where((NODE, "echo make \"$@\"", OLDER, "45"), "opa policy-reporter no-python");
    assert!(output.status.success(), "{output:?}");
    let last = last_line(&output);
    let reason = "but for what was skipped: tests of the goals (Python 3.9 is not installed)";
    assert!(last.ends_with(reason), "{last}");
}

#[test]
fn the_tests_on_a_node_get_the_gate_of_an_earlier_commit_or_the_last_line_says_why_not() {
    let make = "echo make \"$@\" from \"${WASMGATE_TEST_OLDER_GATE:-the same}\"";
    let output = run(NODE, make);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("test-node from /older/wasmgate\n"), "{said}");
    let absent = "case $1 in check) echo 'the commit is not in this clone'; exit 1 ;; *) exit 1 ;; esac";
    let output = run_with(NODE, make, absent, "45");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("test-node from the same\n"), "{output:?}");
    let last = last_line(&output);
    let reason =
        "but for what was skipped: an upgrade from an earlier commit (the commit is not in this clone)";
    assert!(last.ends_with(reason), "{last}");
}

/// What `make test-node` says, with a `cargo` that says from which gate the tests upgrade.
fn test_node(older: &str) -> String {
    test_node_on("case $* in 'check machine') ;; *) echo runc ;; esac", older)
}

fn test_node_on(node: &str, older: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    fs::copy(root().join("Makefile"), inside("Makefile")).unwrap();
    script(&inside("tools/cluster/node"), node);
    script(&inside("tools/build"), "case $1 in --path) echo /cache/opa ;; --built) exit 1 ;; esac");
    script(&inside("tools/older/build"), older);
    script(&inside("bin/cargo"), "echo cargo from \"${WASMGATE_TEST_OLDER_GATE:-the same}\"");
    let mut make = Command::new("make");
    // It would say each command before it runs it, and so also what is not said.
    make.args(["--silent", "test-node"]).arg(format!("CARGO={}", inside("bin/cargo").display()));
    make.current_dir(folder.path()).env_remove("MAKEFLAGS").env_remove("WASMGATE_TEST_OLDER_GATE");
    let output = make.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_tests_on_a_node_say_where_they_upgrade_from_the_same_program() {
    let said = test_node("exit 1");
    assert!(said.contains("the gate of an earlier commit is not built"), "{said}");
    assert!(said.contains("cargo from the same\n"), "{said}");
    let said = test_node("case $1 in --built) echo /older/wasmgate ;; esac");
    assert!(!said.contains("is not built; `tools/older/build`"), "{said}");
    assert!(said.contains("cargo from /older/wasmgate\n"), "{said}");
}

#[test]
fn the_tests_on_a_node_say_where_no_service_is_asked_by_its_address() {
    assert!(!test_node("exit 1").contains("the address of a Service"));
    let node = "case $* in 'check proxy') echo 'no kube-proxy here: no nft'; exit 1 ;; 'check machine') ;; *) echo runc ;; esac";
    let said = test_node_on(node, "exit 1");
    assert!(
        said.contains("the address of a Service on it: not asked, no kube-proxy here: no nft; "),
        "{said}"
    );
    assert!(said.contains("cargo from the same\n"), "the tests run\n{said}");
}

#[test]
fn what_was_skipped_is_in_the_last_line_with_its_reason() {
    let output = run("echo 'no real node here: it needs root'; exit 1", "echo make \"$@\"");
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("test-node"));
    let last = last_line(&output);
    let reason = "but for what was skipped: tests on a real node (no real node here: it needs root)";
    assert!(last.starts_with("== all passed in ") && last.ends_with(reason), "{last}");
}

#[test]
fn a_part_that_cannot_be_built_fails_the_run_and_is_no_reason_to_skip() {
    let output = run(NODE, "case $* in *node-tools*) exit 2 ;; esac");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("== failed: parts of a real node"),
        "{output:?}"
    );
}

/// Of the tools, and where it is asked what is there: nothing is.
#[test]
fn what_is_built_where_it_is_asked_for_is_built_by_no_target_of_make() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let tools = makefile.lines().find_map(|line| line.strip_prefix("TOOLS := ")).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let said = |script: &str, arguments: &[&str]| {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        let output = own(script, &arguments).env("XDG_CACHE_HOME", cache.path()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (_, parts) = said("tools/cluster/node", &["parts"]);
    let (_, further) = said("tools/cluster/node", &["parts", "further"]);
    let usual: Vec<&str> = [tools, &parts, &further].into_iter().flat_map(str::split_whitespace).collect();
    assert!(["opa", "runc", "youki"].iter().all(|name| usual.contains(name)), "{usual:?}");
    let (_, names) = said("tools/build", &["--names"]);
    for optional in ["policy-reporter", "crun"] {
        assert!(names.lines().any(|name| name == optional), "{names}");
        assert!(!usual.contains(&optional), "{usual:?}");
        assert_eq!(said("tools/build", &["--built", optional]), (false, String::new()));
    }
    assert_eq!(said("tools/build", &["--present"]), (true, String::new()));
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
}

/// With a `go` that takes a file of the folder in which it is called for the program.
#[test]
fn policy_reporter_is_built_of_the_pinned_commit_whatever_is_checked_out_where_its_source_is() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@example", "-c", "commit.gpgsign=false"]);
        let output = command.args(arguments).current_dir(inside("source")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    script(&inside("bin/go"), "while [ \"$1\" != -o ]; do shift; done; cp main.go \"$2\"");
    fs::create_dir(inside("source")).unwrap();
    git(&["init", "--quiet"]);
    let commit = |text: &str| {
        fs::write(inside("source/main.go"), text).unwrap();
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--no-verify", "--message=a"]);
        git(&["rev-parse", "HEAD"])
    };
    let pinned = commit("pinned");
    commit("another");
    fs::write(inside("source/main.go"), "changed").unwrap();
    let path = format!("{}:{}", inside("bin").display(), std::env::var("PATH").unwrap());
    let built = |version: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", ". ./compile"]).current_dir(root().join("tools/policy-reporter"));
        command.env("PATH", &path).env("POLICY_REPORTER_SOURCE", inside("source")).env("version", version);
        command.env("build", inside("build")).env("part", inside("part")).output().unwrap()
    };
    let output = built(&pinned);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(inside("part")).unwrap(), "pinned");
    fs::remove_file(inside("part")).unwrap();
    let output = built(&"0".repeat(40));
    assert!(!output.status.success() && !inside("part").exists(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("is no Git repository with the commit 0000"), "{said}");
}

/// Where it is installed, nothing is downloaded.
#[test]
fn an_installed_nft_is_taken_unless_it_is_older_than_kube_proxy_takes() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    let path = format!("{}:{}", inside("bin").display(), std::env::var("PATH").unwrap());
    let built = |version: &str| {
        script(&inside("bin/nft"), &format!("echo 'nftables v{version} (a name)'"));
        let mut command = Command::new("sh");
        command.args(["-euc", ". ./compile"]).current_dir(root().join("tools/nft"));
        command.env("PATH", &path).env("version", "1.0.1").env("folder", inside("folder"));
        command.env("build", inside("build")).env("part", inside("part")).output().unwrap()
    };
    let output = built("1.0.6");
    assert!(output.status.success(), "{output:?}");
    let said = Command::new("sh").arg(inside("part")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "nftables v1.0.6 (a name)\n");
    for older in ["1.0.0", "0.9.8"] {
        let output = built(older);
        assert!(!output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("kube-proxy takes nft from 1.0.1 on"), "{output:?}");
    }
}

/// So that it costs little more than linking: Go has compiled most of it for the others.
#[test]
fn kube_proxy_is_of_the_modules_that_the_other_programs_of_kubernetes_are_of() {
    let modules = |folder: &str| -> Vec<(String, String)> {
        let text = fs::read_to_string(root().join("tools").join(folder).join("go.mod")).unwrap();
        let lines =
            text.lines().filter_map(|line| line.strip_prefix('\t')).filter(|line| line.contains(" v"));
        let entries = lines.filter_map(|line| line.trim_end_matches(" // indirect").split_once(' '));
        entries.map(|(name, rest)| (name.into(), rest.into())).collect()
    };
    let (all, own) = (modules("kubernetes"), modules("kube-proxy"));
    assert!(all.iter().any(|(name, version)| name == "k8s.io/kubernetes" && version.starts_with("v1.")));
    let versions = |of: &[(String, String)], name: &str| -> Vec<String> {
        of.iter().filter(|(other, _)| other == name).map(|(_, version)| version.clone()).collect()
    };
    let mut shared = 0;
    for (name, version) in &own {
        let known = versions(&all, name);
        assert!(known.is_empty() || known.contains(version), "{name} {version}: {known:?}");
        shared += usize::from(!known.is_empty());
    }
    assert!(shared > 50, "{shared}");
}
