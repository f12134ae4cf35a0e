//! The commands with which `docs/sizing.md` has people measure what a program of theirs needs.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{SITE, Site};
use crate::support::oci::{ImageBuilder, fixtures};
use crate::support::process::{program, root};

/// A command that fills 16 MiB before it says something.
pub(super) fn filler() -> Vec<u8> {
    fixtures::wat(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 257)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00") (data (i32.const 16) "hello\n")
            (func (export "_start")
                (memory.fill (i32.const 65536) (i32.const 1) (i32.const 16777216))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    )
}

/// The block of the page that begins like this.
fn block(page: &str, start: &str) -> String {
    let (_, rest) = page.split_once(&format!("\n{start}")).unwrap();
    format!("{start}{}", rest.split("\n```").next().unwrap())
}

fn run(site: &Site, folder: &Path, command: &str) -> String {
    let kubectl = program("kubectl");
    let path = format!("{}:{}", kubectl.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-euc", command])
        .current_dir(folder)
        .env("PATH", path)
        .env("KUBECONFIG", site.plane.kubeconfig())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn the_commands_of_the_page_show_which_limit_a_program_needs() {
    let site = SITE.get();
    site.push("filler", &ImageBuilder::wasm_artifact(&filler()).build());
    let page = fs::read_to_string(root().join("docs/sizing.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pod = block(&page, "apiVersion: v1\nkind: Pod\n");
    let image = site.registry.image("filler:1");
    fs::write(folder.path().join("size.yaml"), pod.replace("registry.example.com/shop/orders:1.4", &image))
        .unwrap();
    let started = block(&page, "for limit in ");
    run(&site, folder.path(), &started.replace("128 112 96 80 64 48 32 24 16 12 8 4", "24 8"));
    let shown = block(&page, "kubectl get pods ");
    let all = site.plane.wait_for("all of them to end", || {
        let shown = run(&site, folder.path(), &shown);
        let ended =
            shown.lines().filter(|line| line.contains("Succeeded") || line.contains("Failed")).count();
        (ended == 6).then_some(shown)
    });
    let of = |start: &str, end: &str| {
        let mut words = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        words.by_ref().filter(|line| *line == format!("{start} {end}")).count()
    };
    // Not each of them: on a busy node a start may be lost for another reason.
    assert!(of("24Mi", "Succeeded 0") > 0 && of("24Mi", "Failed 137") == 0, "{all}");
    assert!(of("8Mi", "Failed 137") > 0 && of("8Mi", "Succeeded 0") == 0, "{all}");
    run(&site, folder.path(), "kubectl delete pods -l app=size");
}
