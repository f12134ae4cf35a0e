//! What the shells, man, kubectl and krew find: each is asked itself where it is installed.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Said, layouts, run, samples, wasmgate};
use crate::support::process::{program, root};
use crate::support::web::{Web, ok};

/// The path of a program, unless it is not installed, which is told.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

/// A folder with the program under its own name and as a plug-in, before the others on the path.
fn on_path() -> (tempfile::TempDir, std::ffi::OsString) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["wasmgate", "kubectl-wasmgate"] {
        symlink(env!("CARGO_BIN_EXE_wasmgate"), folder.path().join(name)).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap();
    let all = [folder.path().to_path_buf()].into_iter().chain(std::env::split_paths(&path));
    let joined = std::env::join_paths(all).unwrap();
    (folder, joined)
}

/// Objects enough that judging them takes longer than the time between two lines.
#[test]
fn a_terminal_shows_how_far_a_scan_is_and_a_pipe_does_not() {
    let Some(script) = installed("script") else { return };
    let pod = |number: usize| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p-{number}"), "namespace": "shop"},
            "spec": {"containers": [{"name": "main", "image": "samples.example/hello:1", "args": ["x"]}]}})
    };
    let pods: Vec<String> = (0..300).map(|number| pod(number).to_string()).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pods.yaml");
    std::fs::write(&file, pods.join("\n---\n")).unwrap();
    let (file, images) = (file.to_str().unwrap(), layouts());
    let piped = run(&["scan", "-f", file, "--image-layouts", &images]);
    assert!(!piped.err.contains("judged") && !piped.err.contains('\r'), "{}", piped.err);
    // It gives the command a terminal, and prints what is written there.
    let program = env!("CARGO_BIN_EXE_wasmgate");
    let command = format!("'{program}' scan -f '{file}' --image-layouts '{images}'");
    let mut terminal = Command::new(script);
    terminal
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .stdin(Stdio::null())
        .env_remove("WASMGATE_CONFIG");
    let said = Said::of(&mut terminal);
    assert_eq!(said.code, piped.code, "{said:?}");
    let lines: Vec<&str> = said.out.split("\r\u{1b}[K").collect();
    assert!(lines.len() > 2 && lines[1].starts_with("read "), "{said:?}");
    assert!(lines[1].ends_with(" that differ"), "{lines:?}");
    let last = lines[lines.len() - 1];
    assert!(!last.contains("that differ") && last.contains("300 workloads"), "the line is gone: {last}");
}

/// What a shell prints for a script that sources the completion from standard input.
fn shell(name: &Path, arguments: &[&str], script: &str) -> String {
    let (folder, path) = on_path();
    let file = folder.path().join("script");
    std::fs::write(&file, script).unwrap();
    let said = Command::new(name).args(arguments).arg(&file).env("PATH", path).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let Some(bash) = installed("bash") else { return };
    // As readline calls it: the words of the line, and which of them is being written.
    let script = r#"source <(wasmgate completion bash)
        ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _wasmgate wasmgate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"; echo "${COMPREPLY[@]}"; }
        complete -p wasmgate
        ask wasmgate sc
        ask wasmgate scan --ou
        ask wasmgate scan --output ""
        ask wasmgate policy ve"#;
    let said = shell(&bash, &["--norc"], script);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains(" -F _wasmgate ") && lines[0].ends_with(" wasmgate"), "{said}");
    assert_eq!(lines[1..3], ["scan", "--output"], "{said}");
    let forms: Vec<&str> = lines[3].split(' ').collect();
    assert_eq!(forms, ["text", "json", "yaml", "html", "sarif", "junit", "github"], "{said}");
    assert_eq!(lines[4], "verify", "{said}");
}

#[test]
fn zsh_takes_its_completion() {
    let Some(zsh) = installed("zsh") else { return };
    let script = "autoload -U compinit && compinit -u -D && source <(wasmgate completion zsh)\n\
        print -r -- $_comps[wasmgate]\nwhence -w _wasmgate\n";
    let said = shell(&zsh, &["-f"], script);
    assert_eq!(said.lines().next(), Some("_wasmgate"), "{said}");
    assert!(said.contains("_wasmgate: function"), "{said}");
}

#[test]
fn fish_completes_commands_options_and_values() {
    let Some(fish) = installed("fish") else { return };
    let script = "wasmgate completion fish | source\n\
        complete -C 'wasmgate sc' | string split -f1 \\t\n\
        complete -C 'wasmgate scan --ou' | string split -f1 \\t\n\
        complete -C 'wasmgate scan --output ht' | string split -f1 \\t\n";
    let said = shell(&fish, &["--no-config"], script);
    assert_eq!(said.lines().collect::<Vec<_>>(), ["scan", "--output", "html"], "{said}");
}

/// Every command with its words, such as `wasmgate-policy-test`.
fn commands() -> Vec<(String, clap::Command)> {
    fn add(name: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
        all.push((name.to_string(), command.clone()));
        for further in command.get_subcommands() {
            add(&format!("{name}-{}", further.get_name()), further, all);
        }
    }
    let mut all = Vec::new();
    add("wasmgate", &wasmgate::cli::Args::command(), &mut all);
    all
}

#[test]
fn every_command_has_a_man_page_with_its_options() {
    let folder = tempfile::tempdir().unwrap();
    // A home has no `.local/share/man` before there is a page in it.
    let pages = folder.path().join("share/man/man1");
    let said = run(&["man", pages.to_str().unwrap()]);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
    assert_eq!(run(&["man", pages.to_str().unwrap()]).code, 0, "they may be written again");
    let commands = commands();
    for (name, command) in &commands {
        let file = pages.join(format!("{name}.1"));
        let page = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let plain = page.replace('\\', "");
        for option in command.get_opts().filter_map(clap::Arg::get_long) {
            assert!(plain.contains(&format!("--{option}")), "{name} lacks --{option}:\n{page}");
        }
        if let Some(help) = command.get_after_help() {
            let codes = help.to_string();
            let codes = codes.lines().find(|line| line.starts_with("Exit codes: ")).unwrap_or_default();
            assert!(plain.contains(&codes[..codes.len().min(30)]), "{name}: {codes}");
        }
        if let Some(mandoc) = installed("mandoc") {
            let said = Command::new(mandoc).args(["-T", "lint", "-W", "error"]).arg(&file).output().unwrap();
            assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stdout));
        }
    }
    assert_eq!(std::fs::read_dir(&pages).unwrap().count(), commands.len(), "and there is no other page");
}

/// kubectl finds a plug-in by its name on the path; no cluster is asked.
#[test]
fn kubectl_runs_it_as_a_plug_in_that_knows_its_name() {
    let (folder, path) = on_path();
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(program("kubectl"));
        command.args(arguments).env("PATH", &path).env("HOME", folder.path()).env("NO_COLOR", "1");
        Said::of(&mut command)
    };
    let listed = kubectl(&["plugin", "list"]);
    assert!(listed.out.contains("/kubectl-wasmgate"), "{listed:?}");
    let help = kubectl(&["wasmgate", "scan", "--help"]);
    help.has(&["Usage: kubectl wasmgate scan [OPTIONS]"]);
    let wrong = kubectl(&["wasmgate", "scan", "--no-such-option"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.err.contains("Usage: kubectl wasmgate scan"), "{wrong:?}");
    let files = samples("workloads");
    let said = kubectl(&["wasmgate", "scan", "-f", files.to_str().unwrap(), "--image-layouts", &layouts()]);
    assert_eq!(said.code, 1, "the exit code is the plug-in's: {said:?}");
    said.has(&["Pod/files"]);
    let own = Said::of(wasmgate().args(["scan", "--help"]));
    own.has(&["Usage: wasmgate scan [OPTIONS]"]);
}

/// Completion of kubectl asks a program of this name for that of a plug-in
/// (`kubernetes:staging/src/k8s.io/kubectl/pkg/cmd/plugin/plugin_completion.go`).
#[test]
fn kubectl_completes_the_plug_in_by_the_script_of_the_page() {
    if installed("bash").is_none() {
        return;
    }
    let (folder, path) = on_path();
    let page = std::fs::read_to_string(root().join("docs/command-line.md")).unwrap();
    let script = page.split("kubectl_complete-wasmgate <<'END'\n").nth(1).unwrap();
    let script = script.split("END\n").next().unwrap();
    let file = folder.path().join("kubectl_complete-wasmgate");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let ask = |words: &[&str]| {
        let mut command = Command::new(program("kubectl"));
        command.args(["__complete", "wasmgate"]).args(words).env("PATH", &path).env("HOME", folder.path());
        let said = Said::of(&mut command);
        assert_eq!(said.code, 0, "{said:?}");
        said.out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ask(&["sc"]), ["scan", ":4"]);
    assert_eq!(ask(&["scan", "--ou"]), ["--output", ":4"]);
    assert_eq!(
        ask(&["scan", "--output", ""]),
        ["text", "json", "yaml", "html", "sarif", "junit", "github", ":4"]
    );
    assert_eq!(ask(&["scan", "--no-such"]), [":4"]);
}

/// An index of no plug-ins: krew clones one before it installs anything.
fn empty_index(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for arguments in [
        &["init", "--quiet"][..],
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            "none",
        ],
    ] {
        let said = Said::of(Command::new("git").args(arguments).current_dir(folder));
        assert_eq!(said.code, 0, "{said:?}");
    }
}

/// krew's own check of a manifest, which is asked for every plug-in of its index: it downloads each archive, compares its digest, unpacks
/// it, and installs it as `kubectl krew install` does.
#[tokio::test(flavor = "multi_thread")]
async fn krew_installs_what_was_packed_for_each_platform() {
    let folder = tempfile::tempdir().unwrap();
    let (out, packed) = (folder.path().join("out"), folder.path().join("program"));
    std::fs::write(&packed, "#!/bin/sh\n").unwrap();
    let served = out.clone();
    let site = Web::start(move |_, asked| {
        let file = served.join(asked.line.rsplit('/').next().unwrap());
        std::fs::read(file).map_or_else(|_| (404, String::new(), Vec::new()), ok)
    })
    .await;
    let mut make = Command::new(root().join("tools/krew/make"));
    let url = format!("http://{}/v1.2.3", site.host);
    make.args(["--version", "v1.2.3", "--url", &url, "--out", out.to_str().unwrap()]);
    let platforms = ["linux/amd64", "linux/arm64", "darwin/arm64"];
    let made = Said::of(make.args(platforms.map(|platform| format!("{platform}={}", packed.display()))));
    assert_eq!(made.code, 0, "{made:?}");
    let manifest = out.join("wasmgate.yaml");
    let (bin, index) = (folder.path().join("bin"), folder.path().join("index"));
    std::fs::create_dir(&bin).unwrap();
    for (name, own) in [("kubectl", "kubectl"), ("kubectl-krew", "krew")] {
        symlink(program(own), bin.join(name)).unwrap();
    }
    empty_index(&index);
    let path = std::env::join_paths(
        std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let check = || {
        let mut command = Command::new(program("validate-krew-manifest"));
        command.arg("-manifest").arg(&manifest).env("PATH", &path);
        // It makes a home of its own there for each platform.
        command.env("TMPDIR", folder.path()).env("HOME", folder.path());
        Said::of(command.env("KREW_DEFAULT_INDEX_URI", format!("file://{}", index.display())))
    };
    let said = check();
    assert_eq!((said.code, site.asked().len()), (0, platforms.len()), "{said:?}");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let wrong = [
        ("sha256: ", "sha256: 0"),
        ("bin: kubectl-wasmgate", "bin: wasmgate"),
        ("shortDescription", "summary"),
        ("name: wasmgate", "name: gate"),
        ("/v1.2.3/wasmgate-linux-arm64", "/v1.2.3/wasmgate-linux-arm"),
    ];
    for (from, to) in wrong {
        assert!(text.contains(from), "{from}");
        std::fs::write(&manifest, text.replace(from, to)).unwrap();
        assert_ne!(check().code, 0, "{from}");
    }
}

/// What the manifest says, and that the same programs are packed to the same bytes. What is packed starts the gate and is small, since
/// `gzip -9` takes 20 s for a debug build of it.
#[test]
fn the_manifest_for_krew_is_of_the_archives_that_were_packed() {
    let folder = tempfile::tempdir().unwrap();
    let (out, packed) = (folder.path().join("out"), folder.path().join("program"));
    let gate = env!("CARGO_BIN_EXE_wasmgate");
    std::fs::write(&packed, format!("#!/bin/bash\nexec -a \"$0\" '{gate}' \"$@\"\n")).unwrap();
    let given = format!("linux/amd64={}", packed.display());
    let make = |version: &str, given: &str| {
        let mut command = Command::new(root().join("tools/krew/make"));
        command.args([
            "--version",
            version,
            "--url",
            "https://example.com/v1",
            "--out",
            out.to_str().unwrap(),
            given,
        ]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        Said::of(&mut command)
    };
    assert_eq!(make("1.2", &given).code, 1, "no version of krew");
    assert_eq!(make("v1.2.3", "linux/amd64=/no/such/program").code, 1);
    assert!(!out.join("wasmgate.yaml").exists(), "no manifest without an archive");
    let said = make("v1.2.3", &given);
    assert_eq!(said.code, 0, "{said:?}");
    let text = std::fs::read_to_string(out.join("wasmgate.yaml")).unwrap();
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!((&manifest["kind"], &manifest["metadata"]["name"]), (&"Plugin".into(), &"wasmgate".into()));
    assert!(
        manifest["spec"]["shortDescription"].as_str().unwrap().len() <= 50,
        "it is a column of `krew search`"
    );
    let platform = &manifest["spec"]["platforms"][0];
    assert_eq!(platform["selector"]["matchLabels"], serde_json::json!({"os": "linux", "arch": "amd64"}));
    assert_eq!(platform["uri"], "https://example.com/v1/wasmgate-linux-amd64.tar.gz");
    let archive = std::fs::read(out.join("wasmgate-linux-amd64.tar.gz")).unwrap();
    assert_eq!(platform["sha256"].as_str().unwrap(), format!("{:x}", Sha256::digest(&archive)));
    let mut files = Vec::new();
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(archive.as_slice())).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        entry.unpack(folder.path().join(&name)).unwrap();
        files.push(name);
    }
    assert_eq!(files, ["LICENSE", "kubectl-wasmgate"]);
    let from: Vec<&str> =
        platform["files"].as_array().unwrap().iter().map(|file| file["from"].as_str().unwrap()).collect();
    assert_eq!(from, ["kubectl-wasmgate", "LICENSE"]);
    let bin = folder.path().join(platform["bin"].as_str().unwrap());
    Said::of(Command::new(bin).arg("--help")).has(&["Usage: kubectl wasmgate <COMMAND>"]);
    assert_eq!(make("v1.2.3", &given).code, 0);
    assert_eq!(std::fs::read(out.join("wasmgate-linux-amd64.tar.gz")).unwrap(), archive, "bit by bit");
}
