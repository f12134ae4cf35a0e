//! The binary as people and machines use it: messages, exit codes, signals, and the real registry behind it.

mod check;
mod collector;
mod compiled;
mod diff;
mod explain;
mod foreign_text;
mod output;
mod page;
mod platform;
mod policy;
mod policy_faults;
mod policy_v0;
mod real;
mod replay;
mod scan;
mod scan_forms;
mod serve;
mod suggest;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::oci;
use crate::support::process::{self, root};

/// Maps `samples.example` to the committed image layouts.
fn layouts() -> String {
    format!("samples.example={}", samples("images").display())
}

fn samples(rest: &str) -> PathBuf {
    root().join("manifests/samples").join(rest)
}

/// The binary in an environment that sets neither its options nor its colour.
fn wasmgate() -> Command {
    let mut command = process::wasmgate();
    for name in [
        "WASMGATE_CONFIG",
        "WASMGATE_DOCKER_CONFIG",
        "CLICOLOR_FORCE",
        "NO_COLOR",
        "RUST_LOG",
        "RUST_BACKTRACE",
        "WASMGATE_OPA",
        "WASMGATE_REGAL",
    ] {
        command.env_remove(name);
    }
    command.env("COLUMNS", "120").stdin(Stdio::null());
    command
}

/// The output of a finished command.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    fn has(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.out.contains(part), "no `{part}` in:\n{}\n{}", self.out, self.err);
        }
        self
    }

    /// An error has one form: nothing on standard output, exit code 2.
    #[track_caller]
    fn fails(&self, parts: &[&str]) -> &Self {
        assert_eq!((self.code, self.out.as_str()), (2, ""), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in: {}", self.err);
        }
        self
    }
}

fn run(arguments: &[&str]) -> Said {
    Said::of(wasmgate().args(arguments))
}

/// Runs with something on standard input.
fn pipe(arguments: &[&str], input: &str) -> Said {
    let mut child = wasmgate()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn help_shows_what_to_try_first() {
    let help = run(&["--help"]);
    assert_eq!(help.code, 0);
    help.has(&["wasmgate explain -f", "wasmgate inspect", "serve", "completion"]);
    run(&["explain", "--help"]).has(&[
        "Examples:",
        "kustomize build",
        "Exit codes: 0",
        "--grants",
        "--image-layouts",
    ]);
    run(&["serve", "--help"]).has(&["Without options", "POST /mutate", "130", "--listen"]);
    run(&["inspect", "--help"]).has(&["oci:./layout:1.4", ".wasm -o yaml"]);
    run(&["--version"]).has(&[concat!("wasmgate ", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn a_typing_error_gives_exit_code_2_and_the_expected_form() {
    let manifest = samples("workloads/hello.yaml");
    let manifest = manifest.to_str().unwrap();
    run(&["explain", "--no-such-flag"]).fails(&["--no-such-flag", "Usage:"]);
    run(&["explian"]).fails(&["explian", "explain"]);
    run(&["explain"]).fails(&["--filename"]);
    run(&["serve", "--tls-cert", "x.pem"]).fails(&["--tls-key"]);
    run(&["serve", "--listen", "8443"]).fails(&["8443", "socket address"]);
    run(&["explain", "-f", "-", "--image-layouts", "nonsense"]).fails(&["nonsense"]);
    run(&["explain", "-f", manifest, "--grants", "/no/such/folder"]).fails(&["/no/such/folder"]);
}

#[test]
fn a_wasm_file_is_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hello.wasm");
    std::fs::write(&path, oci::fixtures::command()).unwrap();
    let target = path.to_str().unwrap();
    let text = run(&["inspect", target]);
    assert_eq!(text.code, 0);
    text.has(&["module     hello.wasm", "import   wasi_snapshot_preview1: fd_write", "export   _start"]);
    let json = run(&["inspect", target, "-o", "json"]).json();
    assert_eq!(json["format"], "module");
    assert_eq!(json["memoryBytes"], 65536, "{json}");
}

#[test]
fn a_wasm_file_is_inspected_from_a_pipe() {
    let said = pipe(&["inspect", "/dev/stdin", "-o", "json"], "\0asm\u{1}\0\0\0");
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.json()["format"], "module");
}

#[test]
fn an_image_layout_is_inspected() {
    let target = format!("oci:{}:1", samples("images/orders").display());
    let text = run(&["inspect", &target]);
    assert_eq!(text.code, 0);
    text.has(&[
        "kind       spin-app",
        "spin app   orders (triggers: http)",
        "wasi:http/outgoing-handler@0.2.0",
    ]);
    let yaml = run(&["inspect", &target, "-o", "yaml"]);
    let facts: Value = serde_saphyr::from_str(&yaml.out).unwrap();
    assert_eq!(facts["kind"], "spin-app");
    assert_eq!(facts["spin"]["components"][0]["allowedOutboundHosts"][0], "https://payments.example.com");
    let named = run(&["inspect", "samples.example/orders:1", "--image-layouts", &layouts(), "-o", "json"]);
    assert_eq!(named.json()["digest"], facts["digest"]);
}

#[test]
fn an_uninspectable_target_is_an_error_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.wasm");
    std::fs::write(&garbage, b"\x7fELF\x02\x01\x01 and so on").unwrap();
    run(&["inspect", garbage.to_str().unwrap()]).fails(&["garbage.wasm", "could not inspect"]);
    std::fs::write(&garbage, b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f").unwrap();
    run(&["inspect", garbage.to_str().unwrap()]).fails(&["garbage.wasm", "could not inspect"]);
    for unused in ["--grants", "--cluster", "--bundle"] {
        run(&["inspect", "nginx", unused, "/no/such/file"]).fails(&["unexpected argument", unused]);
    }
    run(&["inspect", "oci:/no/such/layout:1"]).fails(&["/no/such/layout"]);
    let untagged = format!("oci:{}:2", samples("images/orders").display());
    run(&["inspect", &untagged]).fails(&["it has no tag `2`; it has `1`"]);
    run(&["inspect", "Not An Image"]).fails(&["Not An Image"]);
    run(&["inspect", "127.0.0.1:1/orders:1"]).fails(&["127.0.0.1:1", "loopback address"]);
}
