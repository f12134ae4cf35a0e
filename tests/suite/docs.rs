//! Runs the commands of the pages as a reader would type them, and compares the output of every block marked `<!-- run
//! -->` with the page. `WASMGATE_WRITE_DOCS=1` writes the present output into the pages. A block of commands that is not run
//! has its reason here, and its commands have at least programs, options and targets that exist.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Parser as _;
use clap::error::ErrorKind;
use tempfile::TempDir;
use wasmgate::cli::Args;

use crate::support::control_plane::free_ports;
use crate::support::process::{compiled, program, root, writes_docs};
use crate::support::registry::Registry;

/// Pages whose marked blocks are run; the blocks of one page share a folder and its environment.
const PAGES: &[&str] = &["README.md", "docs/tutorial.md", "docs/policy-authors.md"];
/// The start of a marked block: this, options, and [`CONSOLE`].
const MARK: &str = "<!-- run";
/// The rest of the start.
const CONSOLE: &str = " -->\n```console\n";
/// The option of a block in which a line of [`CUT`] stands for any lines.
const WITH_CUTS: &str = ", with lines left out at …";
/// The line for what is left out.
const CUT: &str = "  …";
/// The end of a block.
const END: &str = "```\n";

/// A reader's shell: a folder with the clone's files, and `wasmgate`, `opa` and `regal` on the path.
struct Shell {
    folder: TempDir,
    path: String,
    /// `export` lines so far.
    exports: String,
    /// What a page says where the real address is another one.
    addresses: Vec<(&'static str, String)>,
    _registry: Option<Registry>,
}

/// The addresses of a page: its registry, the webhooks and the probes of its gate.
const REGISTRY: &str = "127.0.0.1:5000";
const WEBHOOKS: &str = "127.0.0.1:8443";
const PROBES: &str = "127.0.0.1:8080";

impl Drop for Shell {
    /// Ends what a page began and a failure left running.
    fn drop(&mut self) {
        for name in ["watch.pid", "gate.pid"] {
            if let Ok(id) = fs::read_to_string(self.folder.path().join(name)) {
                let _ = Command::new("kill").arg(id.trim()).stderr(Stdio::null()).status();
            }
        }
    }
}

impl Shell {
    /// With a registry if the page speaks of one.
    fn of(page: &str) -> Self {
        let registry = page.contains(REGISTRY).then(Registry::start);
        let mut addresses: Vec<_> = registry.iter().map(|one| (REGISTRY, one.host.clone())).collect();
        let ports = free_ports(2);
        addresses
            .extend([WEBHOOKS, PROBES].into_iter().zip(ports.iter().map(|port| format!("127.0.0.1:{port}"))));
        let folder = tempfile::tempdir().unwrap();
        for name in ["manifests", "policies", "docs"] {
            symlink(root().join(name), folder.path().join(name)).unwrap();
        }
        let programs = [PathBuf::from(env!("CARGO_BIN_EXE_wasmgate")), program("opa"), program("regal")];
        let folders: Vec<_> =
            programs.iter().map(|program| program.parent().unwrap().display().to_string()).collect();
        let path = format!("{}:{}", folders.join(":"), std::env::var("PATH").unwrap());
        Self { folder, path, exports: String::new(), addresses, _registry: registry }
    }

    /// The output of a command on both streams, as on a terminal of 120 columns without colour.
    fn run(&mut self, command: &str) -> String {
        if command.starts_with("export ") {
            writeln!(self.exports, "{command}").unwrap();
        }
        let real =
            self.addresses.iter().fold(command.to_string(), |text, (page, real)| text.replace(page, real));
        let script = format!("exec 2>&1\n{}{real}\n", self.exports);
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("COLUMNS", "120")
            .env("NO_COLOR", "1")
            .env("WASMGATE_COMPILED_DIR", compiled())
            // `manifests/samples/send` knows the port by it.
            .env("WASMGATE_PORT", self.port(WEBHOOKS))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let said = self.addresses.iter().fold(said, |text, (page, real)| text.replace(real, page));
        said.lines().fold(String::new(), |mut text, line| {
            writeln!(text, "{}", line.trim_end()).unwrap();
            text
        })
    }
}

impl Shell {
    fn port(&self, page: &str) -> &str {
        let real = self.addresses.iter().find(|(known, _)| *known == page);
        real.and_then(|(_, real)| real.rsplit(':').next()).unwrap_or_default()
    }
}

/// The commands of a block, with their continuation lines.
fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_string());
        } else if let (Some(more), Some(command)) = (line.strip_prefix('>'), commands.last_mut()) {
            write!(command, "\n{}", more.strip_prefix(' ').unwrap_or(more)).unwrap();
        }
    }
    commands
}

/// The block as the page should have it: each command, and its present output.
fn rendered(block: &str, shell: &mut Shell) -> String {
    let mut text = String::new();
    for command in commands(block) {
        let typed = command.replace('\n', "\n> ").replace("\n> \n", "\n>\n");
        writeln!(text, "$ {typed}").unwrap();
        text.push_str(&shell.run(&command));
    }
    text
}

/// The fresh output without what the block leaves out: as many lines as before the cut, and from where those after it
/// begin. If they are not there, the whole output.
fn with_cut(block: &str, fresh: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (block.lines().collect(), fresh.lines().collect());
    let at = old.iter().position(|line| *line == CUT).expect("a line that stands for others");
    let next: Vec<&str> = old[at + 1..].iter().copied().take(2).collect();
    let Some(end) = (at..new.len()).find(|end| new[*end..].starts_with(&next)) else {
        return fresh.to_string();
    };
    let kept = new[..at].iter().chain(&[CUT]).chain(&new[end..]);
    kept.fold(String::new(), |text, line| text + line + "\n")
}

/// A page with the fresh output of every marked block.
fn run_again(page: &str) -> String {
    let mut shell = Shell::of(page);
    let (mut text, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once(MARK) {
        let (options, after) = after.split_once(CONSOLE).expect("a block of commands");
        let (block, after) = after.split_once(END).expect("a block that ends");
        let fresh = rendered(block, &mut shell);
        let fresh = if options == WITH_CUTS { with_cut(block, &fresh) } else { fresh };
        write!(text, "{before}{MARK}{options}{CONSOLE}{fresh}{END}").unwrap();
        rest = after;
    }
    text + rest
}

#[test]
fn what_a_block_leaves_out_may_change_and_nothing_else() {
    let block = "$ a\none\n  …\n\nlast\n";
    assert_eq!(with_cut(block, "$ a\none\ntwo\nthree\n\nlast\n"), block);
    assert_eq!(with_cut(block, "$ a\nONE\ntwo\n\nlast\n"), block.replace("one", "ONE"));
    assert_eq!(with_cut(block, "$ a\none\ntwo\n\nother\n"), "$ a\none\ntwo\n\nother\n");
}

// === What is not run ===

/// Languages of blocks that hold commands.
const COMMANDS: &[&str] = &["sh", "console"];

/// The blocks of commands that are not run: the page, the beginning of the block, and why not.
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md", "make run ", "builds everything; what it starts is held by samples.rs and cli/serve.rs"),
    (
        "README.md",
        "make install ",
        "the files are the reader's; the commands are run with others by the tests of cli",
    ),
    ("README.md", "make cluster ", "needs Kubernetes: run by tests/live/cluster.rs"),
    ("README.md", "$ kubectl apply ", "needs Kubernetes: run and compared by tests/live/cluster.rs"),
    (
        "README.md",
        "# A Linux image",
        "needs a node that runs Wasm: run and compared by tests/live/node/demo.rs",
    ),
    (
        "README.md",
        "kubectl apply -k manifests/",
        "needs a cluster: tests/live/manifests.rs applies the same objects",
    ),
    ("docs/cluster.md", "kubectl create role ", "needs a cluster: tests/live/watch.rs makes such a Role"),
    (
        "docs/operations.md",
        "make image ",
        "builds a release: gate_image.rs holds the image; there is no Docker",
    ),
    (
        "docs/operations.md",
        "$ make image ",
        "builds a release: gate_image.rs runs the same with another program, and lists what is attached",
    ),
    ("docs/operations.md", "RUSTFLAGS=", "builds a release"),
    ("docs/operations.md", "kubectl apply -k .", "needs a node: run by tests/live/node/install.rs"),
    ("docs/operations.md", "helm install ", "needs a node: run by tests/live/node/install.rs"),
    ("docs/operations.md", "# with the newer tag ", "needs a node: run by tests/live/node/install.rs"),
    ("docs/operations.md", "kubectl apply --server-side ", "needs a node: run by tests/live/node/install.rs"),
    ("docs/operations.md", "# Helm leaves ", "needs a node: run by tests/live/node/install.rs"),
    (
        "docs/operations.md",
        "kubectl rollout restart ",
        "needs a node: run by tests/live/node/install/switches.rs",
    ),
    (
        "docs/bundles.md",
        "$ wasmgate replay ",
        "the files are the reader's: cli/replay.rs runs it with others",
    ),
    (
        "docs/bundles.md",
        "wasmgate policy build rules --name our-rules --sequence 1 ",
        "needs a node: run by tests/live/node/install/bundle.rs",
    ),
    ("docs/bundles.md", "kubectl apply -k .", "needs a node: run by tests/live/node/install/bundle.rs"),
    ("docs/bundles.md", "helm upgrade wasmgate ", "needs a node: run by tests/live/node/install/bundle.rs"),
    (
        "docs/bundles.md",
        "wasmgate policy build rules --name our-rules --sequence 2 ",
        "needs a node: run by tests/live/node/install/bundle.rs",
    ),
    ("docs/bundles.md", "for pod in ", "needs a node: run by tests/live/node/install/bundle.rs"),
    (
        "docs/operations.md",
        "kubectl create rolebinding ",
        "needs a node: run by tests/live/node/install/switches.rs",
    ),
    (
        "docs/operations.md",
        "kubectl create role ",
        "needs a node: run by tests/live/node/install/switches.rs",
    ),
    (
        "docs/operations.md",
        "kubectl delete validatingwebhookconfiguration wasmgate",
        "needs a cluster: run by tests/live/manifests.rs and tests/live/node/install/switches.rs",
    ),
    ("docs/operations.md", "argocd app set ", "needs the reader's delivery tool"),
    (
        "docs/operations.md",
        "kubectl get endpointslices ",
        "needs a cluster that several API servers can share",
    ),
    (
        "docs/operations.md",
        "kubectl delete validatingwebhookconfiguration,",
        "needs a cluster: run by tests/live/manifests.rs and tests/live/node/install.rs",
    ),
    (
        "docs/scan.md",
        "wasmgate scan ",
        "needs a cluster or the reader's chart: cli/scan.rs runs both kinds with others",
    ),
    (
        "docs/operations.md",
        "wasmgate suggest --network-policy ",
        "the files are the reader's: cli/suggest.rs runs it with others",
    ),
    ("docs/sizing.md", "for limit in ", "needs a node that runs Wasm: run by tests/live/node/sizes.rs"),
    ("docs/sizing.md", "kubectl get pods ", "needs a node that runs Wasm: run by tests/live/node/sizes.rs"),
    (
        "docs/sizing.md",
        "kubectl get wasmusages ",
        "needs a cluster: tests/live/learn.rs runs it and goes by its output",
    ),
    (
        "docs/decision-log.md",
        "opa build ",
        "the rules are the reader's: flow/secrets.rs builds and runs the same ones",
    ),
    ("docs/reports.md", "kubectl get reports -A", "needs a cluster: tests/live/reports.rs reads the same"),
    (
        "docs/page.md",
        "kubectl create serviceaccount",
        "needs a gate in a cluster: tests/live/page.rs does so with others",
    ),
    (
        "docs/output.md",
        "wasmgate scan -o json",
        "needs a cluster: cli/output.rs asks kubectl the same of manifests",
    ),
    ("docs/scan.md", "# Any shell", "needs a cluster: run below on manifests"),
    ("docs/command-line.md", "ln -s ", "the folder is the reader's: cli/platform.rs does so with another"),
    (
        "docs/command-line.md",
        "tools/krew/make ",
        "builds a release: cli/platform.rs runs it with another program",
    ),
    (
        "docs/command-line.md",
        "wasmgate completion ",
        "the folders are the reader's: cli/platform.rs sources each script",
    ),
    (
        "docs/command-line.md",
        "cat > ",
        "the folder is the reader's: cli/platform.rs has kubectl run the script",
    ),
    ("docs/command-line.md", "wasmgate man ", "the folder is the reader's: cli/platform.rs writes another"),
    (
        "policies/README.md",
        "policies/build ",
        "writes files that other tests read; the CI runs it with `--check`",
    ),
    ("policies/README.md", "opa build ", "the rules are the reader's: the tutorial builds a bundle"),
];

/// The pages of the project.
fn pages() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs
        .map(|name| format!("docs/{}", name.to_str().unwrap()))
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"));
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md", "policies/README.md"];
    docs.chain(others.map(String::from)).collect()
}

/// The blocks of a page in these languages, each with whether it is run.
fn blocks_in(page: &str, languages: &[&str]) -> Vec<(String, bool)> {
    let (mut blocks, mut run) = (Vec::new(), false);
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if languages.contains(&language) {
                blocks.push((block.join("\n"), run));
            }
        }
        run = line.starts_with(MARK);
    }
    blocks
}

/// The blocks of commands of a page.
fn blocks(page: &str) -> Vec<(String, bool)> {
    blocks_in(page, COMMANDS)
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let mut wrong = Vec::new();
    let mut used = vec![0; NOT_RUN.len()];
    for name in pages() {
        for (block, run) in blocks(&fs::read_to_string(root().join(&name)).unwrap()) {
            let here = |(page, start, _): &(&str, &str, &str)| *page == name && block.starts_with(start);
            let at = NOT_RUN.iter().position(here);
            if let Some(at) = at {
                used[at] += 1;
            }
            if run == at.is_some() || (run && !PAGES.contains(&name.as_str())) {
                wrong.push(format!("{name}: {}", block.lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let stale: Vec<_> = NOT_RUN.iter().zip(&used).filter(|(_, used)| **used != 1).collect();
    assert!(stale.is_empty(), "{stale:#?}");
}

/// What stands in backticks in the text of a page, outside of its blocks.
fn in_text(page: &str) -> impl Iterator<Item = String> {
    let outside = page.split("```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2)).map(|text| text.replace('\n', " "))
}

/// The commands of a page, in blocks and in the text.
fn all_commands(page: &str) -> Vec<String> {
    let block = |(block, _): (String, bool)| {
        let lines = block.lines().map(|line| line.trim_start_matches("$ ").trim().to_string());
        lines.map(|line| line.split(" #").next().unwrap().to_string()).collect::<Vec<_>>()
    };
    blocks(page).into_iter().flat_map(block).chain(in_text(page)).collect()
}

/// How the commands begin that the text of `docs/operations.md` has people type, and the tests that take them from there and run them.
const IN_TEXT: &[(&str, &str)] = &[
    ("kubectl delete validatingwebhookconfiguration", "tests/live/node/install/switches.rs"),
    ("kubectl delete reports,", "tests/live/reports.rs"),
    ("kubectl get mutatingwebhookconfiguration", "tests/live/node/install/switches.rs"),
    ("kubectl get rolebindings", "tests/live/node/install/switches.rs"),
    ("kubectl label namespace", "tests/live/node/install/switches.rs"),
    ("kubectl patch validatingwebhookconfiguration", "tests/live/node/install/switches.rs"),
];

#[test]
fn every_command_in_the_text_of_the_page_for_operators_is_run_by_a_test() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    // One of two words is only named.
    let is_whole = |text: &String| {
        ["kubectl ", "helm "].iter().any(|program| text.starts_with(program)) && text.split(' ').count() > 2
    };
    let typed: Vec<String> = in_text(&page).filter(is_whole).collect();
    let is_unknown = |command: &&String| !IN_TEXT.iter().any(|(start, _)| command.starts_with(start));
    let unknown: Vec<&String> = typed.iter().filter(is_unknown).collect();
    assert!(unknown.is_empty(), "no test runs {unknown:?}");
    for (start, test) in IN_TEXT {
        assert!(typed.iter().any(|command| command.starts_with(start)), "the page has no `{start}`");
        let source = fs::read_to_string(root().join(test)).unwrap();
        assert!(source.contains(start), "{test} runs no `{start}`");
    }
}

/// What is wrong with a command of this project; the programs of others are not looked at.
fn wrong_command(command: &str, targets: &[&str]) -> Option<String> {
    let words: Vec<&str> = command.split([' ', '|', '>']).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        ["make", target, ..] if !targets.contains(target) => Some(format!("no target: {command}")),
        // A command that is only named, or whose arguments are only hinted at.
        ["wasmgate", ..] if words.len() < 3 || command.contains('…') || command.contains("\"$@\"") => None,
        ["wasmgate", ..] => {
            let alone = command.split(['|', '>']).next().unwrap_or_default();
            let parsed = Args::try_parse_from(alone.split_whitespace());
            // The text may name an option alone.
            let fine = [ErrorKind::DisplayHelp, ErrorKind::MissingRequiredArgument];
            let error = parsed.err().filter(|error| !fine.contains(&error.kind()))?;
            Some(format!("{command}: {error}"))
        }
        _ => None,
    }
}

#[test]
fn the_targets_and_options_that_the_pages_name_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: Vec<&str> = makefile.lines().filter_map(|line| line.strip_prefix(".PHONY: ")).collect();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for name in pages() {
        for command in all_commands(&fs::read_to_string(root().join(&name)).unwrap()) {
            seen += usize::from(command.starts_with("make ") || command.starts_with("wasmgate "));
            wrong.extend(wrong_command(&command, &targets).map(|wrong| format!("{name}: {wrong}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 40, "{seen}");
    assert!(wrong_command("make nothing", &targets).is_some());
    assert!(wrong_command("wasmgate explain --gants x -f y", &targets).is_some());
}

#[test]
fn every_object_and_every_piece_of_a_configuration_in_the_pages_passes_check() {
    const HEAD: &str = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    const KEYS: &[&str] = &[
        "server",
        "images",
        "runtimes",
        "policies",
        "grants",
        "cluster",
        "workloads",
        "kubernetes",
        "enforcement",
        "exemptNamespaces",
        "decisionLog",
    ];
    let mut shell = Shell::of("");
    let mut checked = 0;
    for name in pages() {
        for (block, _) in blocks_in(&fs::read_to_string(root().join(&name)).unwrap(), &["yaml"]) {
            // Others are objects and pipelines of other projects.
            let text = match block.split(':').next().unwrap_or_default() {
                "apiVersion" if block.starts_with("apiVersion: wasmgate.dev/") => block,
                key if KEYS.contains(&key) => format!("{HEAD}{block}"),
                _ => continue,
            };
            fs::write(shell.folder.path().join("block.yaml"), &text).unwrap();
            let said = shell.run("wasmgate check block.yaml");
            assert!(said.starts_with("nothing is wrong"), "{name}:\n{text}\n{said}");
            checked += 1;
        }
    }
    assert!(checked >= 9, "{checked}");
}

/// The block of a page that begins so.
fn block_of(page: &str, start: &str) -> String {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let mut found =
        blocks(&page).into_iter().map(|(block, _)| block).filter(|block| block.starts_with(start));
    let block = found.next().expect("the block");
    assert_eq!(found.next(), None, "one block begins so");
    block
}

/// A `wasmgate` that stands before the real one on the path, and adds these arguments to its scans.
fn scans_with(shell: &mut Shell, more: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = shell.folder.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let script = format!("#!/bin/sh\nexec {} \"$@\" {more}\n", env!("CARGO_BIN_EXE_wasmgate"));
    fs::write(bin.join("wasmgate"), script).unwrap();
    fs::set_permissions(bin.join("wasmgate"), fs::Permissions::from_mode(0o755)).unwrap();
    shell.path = format!("{}:{}", bin.display(), shell.path);
}

/// Runs a script as a step of a pipeline does: its exit code, and what it printed.
fn step(shell: &Shell, script: &str) -> (i32, String) {
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(shell.folder.path())
        .env("PATH", &shell.path)
        .env("NO_COLOR", "1")
        .env("WASMGATE_COMPILED_DIR", compiled())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// The step must fail for what the next bundle refuses in addition, for nothing else, and wherever it cannot tell.
#[test]
fn the_recipe_that_compares_two_bundles_fails_when_it_has_to() {
    let script = block_of("docs/scan.md", "# Any shell");
    let mut shell = Shell::of("");
    let folder = shell.folder.path().to_path_buf();
    let sample = |name: &str| format!("-f {}", root().join("manifests/samples").join(name).display());
    let images =
        format!("--image-layouts samples.example={}", root().join("manifests/samples/images").display());
    scans_with(&mut shell, &format!("{} {images}", sample("workloads")));
    fs::write(folder.join("gate.yaml"), "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n")
        .unwrap();
    let bundle = |condition: &str| {
        let rule = format!(
            "package wasmgate\n\n# METADATA\n# entrypoint: true\nviolations contains v if {{\n\t{condition}\n\tv := \
             {{\"rule\": \"ours\", \"message\": \"no\"}}\n}}\n"
        );
        fs::create_dir_all(folder.join("rules")).unwrap();
        fs::write(folder.join("rules/ours.rego"), rule).unwrap();
        let built = step(&shell, "opa build -t wasm -e wasmgate/violations rules -o next.tar.gz");
        assert_eq!(built.0, 0, "{built:?}");
    };
    bundle("input.workload.kind == \"None\"");
    let same = step(&shell, &script);
    assert_eq!(same, (0, String::new()), "what is denied now is not new");
    bundle("input.workload.kind == \"Deployment\"");
    let (code, said) = step(&shell, &script);
    assert_eq!((code, said.lines().next()), (1, Some("denied shop/Deployment/hello")), "{said}");
    assert!(!said.contains("Pod/files"), "denied now: {said}");
    fs::remove_file(folder.join("next.tar.gz")).unwrap();
    let (code, said) = step(&shell, &script);
    assert_eq!(code, 2, "a scan that fails is no scan without findings: {said}");
    fs::write(folder.join("bin/wasmgate"), "#!/no/such/shell\n").unwrap();
    assert_ne!(step(&shell, &script).0, 0, "nor is one that does not start");
    fs::write(folder.join("bin/wasmgate"), "#!/bin/sh\nexit 0\n").unwrap();
    bundle("input.workload.kind == \"None\"");
    assert_ne!(step(&shell, &script).0, 0, "nor one that prints nothing");
}

/// The script of each pipeline of a page, by the key that holds it, in the order of the page.
fn scripts(page: &str) -> Vec<String> {
    fn find(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    match value.as_str() {
                        Some(script) if matches!(key.as_str(), "run" | "script") => {
                            found.push(script.to_string());
                        }
                        _ => find(value, found),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| find(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (block, _) in blocks_in(&fs::read_to_string(root().join(page)).unwrap(), &["yaml"]) {
        find(&serde_saphyr::from_str(&block).unwrap(), &mut found);
    }
    found
}

/// The exit code of a step, whatever it is that adds, fails or cannot be told.
#[test]
fn the_recipes_for_pull_requests_comment_and_end_as_diff_does() {
    let scripts = scripts("docs/pull-requests.md");
    assert_eq!(scripts.len(), 3, "{scripts:#?}");
    for script in scripts {
        let mut shell = Shell::of("");
        let folder = shell.folder.path().join("work/source");
        fs::create_dir_all(folder.join("manifests")).unwrap();
        fs::create_dir_all(folder.join("grants")).unwrap();
        let images =
            format!("--image-layouts samples.example={}", root().join("manifests/samples/images").display());
        scans_with(&mut shell, &images);
        // Neither GitHub nor GitLab is here: what they would get is kept.
        for name in ["gh", "curl"] {
            let kept = shell.folder.path().join("sent");
            let text = format!("#!/bin/sh\necho {name} \"$@\" >> {0}\ncat wasm.md >> {0}\n", kept.display());
            fs::write(shell.folder.path().join("bin").join(name), text).unwrap();
            let made = step(&shell, &format!("chmod +x bin/{name}"));
            assert_eq!(made.0, 0);
        }
        let deployment = |image: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: app, namespace: shop}}\nspec: {{containers: [{{name: main, image: \
                 \"samples.example/{image}\"}}]}}\n"
            )
        };
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("gate.yaml", "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n");
        write("grants/none.yaml", "");
        write("manifests/app.yaml", &deployment("hello:1"));
        let git =
            "git init -q . && git add -A && git -c user.name=a -c user.email=a@b.example commit -qm base";
        let made = step(&shell, &format!("cd work/source && {git}"));
        assert_eq!(made.0, 0, "{made:?}");
        let run = |image: &str| {
            write("manifests/app.yaml", &deployment(image));
            let names = "BASE=HEAD CI_MERGE_REQUEST_DIFF_BASE_SHA=HEAD NUMBER=1 CI_API_V4_URL=https://gitlab.example CI_PROJECT_ID=1 \
                CI_MERGE_REQUEST_IID=1 WASMGATE_TOKEN=t GITHUB_STEP_SUMMARY=summary.md RESULT=result";
            // As GitHub, GitLab and the script of a step of Tekton run it: the first failure ends it.
            let said = step(&shell, &format!("cd work/source\nexport {names}\nset -e\n{script}"));
            step(&shell, "cd work/source && git worktree remove --force ../base");
            said
        };
        let (code, said) = run("hello:1");
        assert_eq!(code, 0, "{said}");
        let (code, said) = run("files:1");
        assert_eq!(code, 1, "{script}\n{said}");
        let shown = ["work/sent", "sent"]
            .iter()
            .filter_map(|name| fs::read_to_string(shell.folder.path().join(name)).ok());
        let shown = shown.fold(said, |all, text| all + &text);
        assert!(shown.contains("| **added** | capability | `fs"), "{script}\n{shown}");
        assert_eq!(run("none:1").0, 3, "what an image that cannot be read can do is not known");
        write("gate.yaml", "apiVersion: wasmgate.dev/v1alpha1\nkind: Nothing\n");
        assert_eq!(run("hello:1").0, 2, "a comparison that fails is none that finds nothing");
    }
}

#[test]
fn the_commands_of_a_page_print_what_the_page_says() {
    for name in PAGES {
        let path: &Path = &root().join(name);
        let page = fs::read_to_string(path).unwrap();
        assert!(page.contains(MARK), "{name} has nothing to run");
        let now = run_again(&page);
        if writes_docs() {
            fs::write(path, &now).unwrap();
        }
        let difference = similar::TextDiff::from_lines(&page, &now).unified_diff().to_string();
        assert!(page == now, "{name} is out of date; `WASMGATE_WRITE_DOCS=1` writes it:\n{difference}");
    }
}

#[test]
fn a_command_with_continuation_lines_is_read_as_one() {
    let block = "$ cat <<EOF\n> one\n>\n> EOF\none\n$ true\n";
    assert_eq!(commands(block), ["cat <<EOF\none\n\nEOF", "true"]);
}

/// Paths of the project in backticks, if they are complete.
fn paths(text: &str) -> Vec<&str> {
    const TOPS: [&str; 7] = ["src/", "tests/", "policies/", "manifests/", "docs/", "tools/", "benches/"];
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|path| TOPS.iter().any(|top| path.starts_with(top)) && !path.contains(['<', ' ', '*', '{']))
        .collect()
}

#[test]
fn every_file_that_architecture_md_names_exists() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let glossary = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let named: Vec<_> = paths(&map).into_iter().chain(paths(&glossary)).collect();
    assert!(named.len() > 60, "{named:?}");
    let missing: Vec<_> = named.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The names that a recipe says to look for, each with its file: "`Shape` in `src/image.rs`".
fn items(recipes: &str) -> Vec<(&str, &str)> {
    fn item<'a>(window: &[&'a str]) -> Option<(&'a str, &'a str)> {
        match window {
            [name, " in ", file] if file.contains(['/', '.']) => Some((*name, *file)),
            _ => None,
        }
    }
    let pieces: Vec<&str> = recipes.split('`').collect();
    // Pieces at odd places are in backticks.
    pieces.windows(3).skip(1).step_by(2).filter_map(item).collect()
}

/// Whether a text has a name as a whole word.
fn has_word(text: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(inside) && !after.starts_with(inside)
    })
}

#[test]
fn every_file_of_a_recipe_has_the_name_that_the_recipe_says_to_look_for() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let recipes = map.split("\n## Recipes\n").nth(1).unwrap();
    let items = items(recipes);
    assert!(items.len() > 25, "{items:?}");
    for (name, file) in items {
        let text = fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{file} is not there"));
        assert!(has_word(&text, name), "{file} does not have `{name}`");
    }
}

/// The files below a folder of the repository with this ending, as paths from its root.
fn files_below(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// The code of a source without its comments and unit tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether code names a variant of an enum.
fn names_variant(code: &str, name: &str) -> bool {
    let variant = |at: usize| {
        code[at + name.len()..].strip_prefix("::").is_some_and(|rest| rest.starts_with(char::is_uppercase))
    };
    let whole = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(name).any(|(at, _)| whole(at) && variant(at))
}

#[test]
fn a_recipe_names_every_file_that_knows_single_members_of_what_it_adds_to() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let recipes = map.split("\n## Recipes\n").nth(1).unwrap();
    let mut missing = Vec::new();
    for (recipe, name) in [
        ("An image shape", "Shape"),
        ("A capability", "Capability"),
        ("A runtime", "Family"),
        ("A source of policies", "Origin"),
        ("An audit sink", "DecisionLogOutput"),
    ] {
        let steps = recipes.split(&format!("**{recipe}**")).nth(1).unwrap().split("\n**").next().unwrap();
        let sources = files_below("src", ".rs");
        let of_tests = |path: &str| path.ends_with("/golden.rs") || path.ends_with("/tests.rs");
        // The recipe says that a file below this folder is added, and which others there have to know it.
        let of_runtimes = |path: &str| name != "Family" && path.starts_with("src/runtime/");
        let mut found = 0;
        for path in sources.iter().filter(|path| !of_tests(path) && !of_runtimes(path)) {
            if names_variant(&code(&fs::read_to_string(root().join(path)).unwrap()), name) {
                found += 1;
                if !steps.contains(&format!("`{path}`")) {
                    missing.push(format!(
                        "{path} names variants of `{name}`, and \"{recipe}\" does not name it"
                    ));
                }
            }
        }
        assert!(found > 0, "no source names a variant of `{name}`");
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn a_named_variant_is_told_from_a_function_a_longer_name_and_a_comment() {
    assert!(names_variant(&code("let a = Shape::Other;"), "Shape"));
    for other in
        ["Shape::of(x)", "MyShape::Other", "// Shape::Other", "#[cfg(test)]\nmod tests { Shape::Other }"]
    {
        assert!(!names_variant(&code(other), "Shape"), "{other}");
    }
}

#[test]
fn the_name_that_a_recipe_says_to_look_for_is_read_with_its_file() {
    let text =
        "1. `Shape` in `src/image.rs`, and `a.b` in `docs/x.md`; `src/y.rs`: no name. In `src/z.rs` `T` is.";
    assert_eq!(items(text), [("Shape", "src/image.rs"), ("a.b", "docs/x.md")]);
    assert!(has_word("enum Shape {", "Shape") && !has_word("ShapeOf Shapes", "Shape"));
}

/// `path::test` in backticks: the file, and the name of a function in it.
fn tests_named(text: &str) -> Vec<(&str, &str)> {
    paths(text).into_iter().filter_map(|path| path.split_once("::")).collect()
}

/// Fails for a test that is not where the page says.
fn check_tests(tests: Vec<(&str, &str)>) {
    let is_test = |source: &str, name: &str| {
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        let named = |line: &str| {
            let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
        };
        let place = lines.iter().position(|line| named(line));
        place.and_then(|place| lines.get(place.checked_sub(1)?)).is_some_and(|above| above.starts_with("#["))
    };
    for (file, name) in tests {
        let source = fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{file} is not there"));
        assert!(is_test(&source, name), "{file} has no test `{name}`");
    }
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let (_, promises) = page.split_once("## What is promised").unwrap();
    let (promises, _) = promises.split_once("\n## ").unwrap();
    let starts =
        |line: &&str| line.split_once(". **").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
    let lines: Vec<&str> = promises.lines().collect();
    let numbers: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| starts(line)).map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), 9, "{numbers:?}");
    for (number, start) in numbers.iter().enumerate() {
        let end = numbers.get(number + 1).copied().unwrap_or(lines.len());
        let promise = lines[*start..end].join("\n");
        assert!(!tests_named(&promise).is_empty(), "nothing shows: {promise}");
    }
    check_tests(tests_named(promises));
}

#[test]
fn every_file_and_every_test_that_the_threat_model_names_is_there() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let tests = tests_named(&page);
    assert!(tests.len() > 50, "{tests:?}");
    check_tests(tests);
    let files: Vec<_> = paths(&page).into_iter().filter(|path| !path.contains("::")).collect();
    let missing: Vec<_> = files.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(files.len() > 40 && missing.is_empty(), "{missing:?}");
    // Every line of a table names a file, and what shows it.
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Attack")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, closed, shown, _] = cells.as_slice() else { panic!("{line}") };
        assert!(!paths(closed).is_empty() && !paths(shown).is_empty(), "{line}");
    }
}

/// The lines of a page outside of its blocks.
fn prose(page: &str) -> Vec<&str> {
    let mut in_block = false;
    let outside = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !fence && !in_block
    };
    page.lines().filter(outside).collect()
}

/// What follows `#` in a link to this heading, as GitHub writes it.
fn anchor_of(title: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    title.trim().to_lowercase().replace(' ', "-").chars().filter(|c| kept(*c)).collect()
}

#[test]
fn every_link_of_the_pages_has_a_target() {
    let mut links = 0;
    for name in pages() {
        let page = root().join(&name);
        let text = fs::read_to_string(&page).unwrap();
        let text = prose(&text).join("\n");
        let found = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in found.filter(|link| !link.contains([':', ' ', '\n'])) {
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{name}: `{link}` leads nowhere");
            if anchor.is_empty() || target.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let there = fs::read_to_string(&target).unwrap();
            let titles = prose(&there).into_iter().filter(|line| line.starts_with('#'));
            let mut anchors = titles.map(|line| anchor_of(line.trim_start_matches('#')));
            assert!(anchors.any(|one| one == anchor), "{name}: `{link}` leads to no heading");
        }
    }
    assert!(links > 200, "{links}");
}

/// The classes of attack and of wrong answers that the gate was built against, by the section of the threat model and by words of
/// their rows. A row may say more, and none may go.
const CLASSES: [(char, &[&str]); 5] = [
    (
        'A',
        &[
            "a pax `path` record is followed by an empty one",
            "a GNU long name stands beside a pax `path`",
            "a global pax header makes Go drop the header before it",
            "or containerd remove a file of its name",
            "a GNU header has a `prefix` that Go reads",
            "a name is not UTF-8",
            "through a link of a lower layer",
            "a whiteout or an opaque folder",
            "the mode and the owner that a lower layer had",
            "fifty links lead to the program",
            "not compressed by its media type begins like gzip",
            "marked as an attestation",
            "has no operating system",
            "a descriptor says 60 bytes",
        ],
    ),
    (
        'B',
        &[
            "runwasi checks one file and runs another",
            "the shim's stricter parser fails on the layers",
            "a text file, or a native program that not every user may execute",
            "youki cuts the leading `/`",
            "crun searches the `PATH` of the container",
            "a runtime that takes no Wasm layers",
            "WasmEdge runs machine code",
            "Spin starts `/spin.toml` whatever the entry point names",
            "a single Wasm layer, around which the Spin shim wraps an application",
            "a plain variable, one of the image, a Secret or a `.env` file",
            "`files` of a Spin application hand over what the pod mounts",
            "triggers of Spin components that are left out",
            "through a link of the image or of another volume",
            "a RuntimeClass of another name",
            "cannot start as it was judged",
            "a name that ends in `#`",
        ],
    ),
    (
        'C',
        &[
            "`/proc/self/mem` of the shim",
            "the same of a program that opens no file",
            "a program that opens no file follows the links of `/proc`",
            "by way of the image's own files",
            "name a folder of the kernel",
            "a shim that closes that way",
            "handed over by way of a link of the image",
        ],
    ),
    (
        'D',
        &[
            "forty thousand links in adverse order",
            "probes and other reviews wait",
            "any other input of a parser whose cost grows faster",
            "many images with large layers at once",
            "many large pods, so that the clock of a small one runs out",
            "many pods of one namespace, for whose evaluation",
            "close its registry for all tenants",
        ],
    ),
    (
        'E',
        &[
            "the answer depends on what the gate remembers",
            "a `SpinApp` of the older group",
            "a kind that makes pods is not known",
            "`explain` and `serve` say different things",
            "requests that the API server fills in from limits",
            "a program that was not recognised is admitted",
            "a DaemonSet of which some nodes get no pod",
            "a TLS key that cannot be served",
            "a limit that is none, or one of the pod under the floor",
            "a file of grants with more documents",
            "an image pattern of a grant that never matches",
            "one image under several names",
            "an earlier ephemeral container",
            "pinning is off for a registry",
            "secrets of a `SpinApp` in the decision log",
            "a RuntimeClass is gone",
            "several LimitRanges",
        ],
    ),
];

#[test]
fn every_class_of_attack_has_its_row_with_what_shows_that_it_is_closed() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    for (section, classes) in CLASSES {
        let (_, text) = page.split_once(&format!("\n## {section}. ")).unwrap();
        let text = text.split("\n## ").next().unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        for class in classes {
            let found: Vec<&&str> =
                rows.iter().filter(|row| row.split('|').nth(1).unwrap().contains(class)).collect();
            let [row] = found.as_slice() else { panic!("{section}: {} rows of `{class}`", found.len()) };
            let shown = row.split('|').nth(3).unwrap();
            let tests = tests_named(shown);
            let cases = paths(shown).into_iter().filter(|path| path.starts_with("tests/cases/")).count();
            assert!(tests.len() + cases > 0, "nothing shows that this is closed: {row}");
            check_tests(tests);
        }
    }
}
