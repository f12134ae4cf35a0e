//! `make demo`: every command says what it should, no other cluster is touched, and the README has what it printed.

use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;

use crate::support::control_plane::free_port_range;
use crate::support::node::lacks_proxy;
use crate::support::process::{root, writes_docs};

/// The first port of the record in the README.
const PORT: u16 = 17443;

/// How the record begins and ends there.
const BEGIN: &str = "<!-- make demo -->\n```console\n";
const END: &str = "```\n";

/// How the part begins in which the Service is asked, with kube-proxy on the node and without. It ends where the next note begins.
const SERVICE: [&str; 2] =
    ["# kube-proxy gives the Service ", "# The Service has no address on this machine "];

/// What differs from run to run: the ports and the last part of a pod's name.
fn settled(said: &str, first: u16) -> String {
    let ports = (0..7).fold(said.to_string(), |text, number| {
        text.replace(&format!("127.0.0.1:{}", first + number), &format!("127.0.0.1:{}", PORT + number))
    });
    ports.replace(&format!(" {}:80 ", first + 6), &format!(" {}:80 ", PORT + 6))
}

fn without_names(text: &str) -> String {
    Regex::new("-[0-9a-z]{7,10}-[0-9a-z]{5} ").unwrap().replace_all(text, "-… ").into_owned()
}

/// A record without that part.
fn without_service(text: &str) -> String {
    let found = SERVICE.iter().find_map(|note| text.split_once(note));
    let (before, rest) = found.unwrap_or_else(|| panic!("no Service is asked: {text}"));
    let (part, after) = rest.split_once("\n# ").expect("a note after it");
    assert!(part.contains("\nhello from an HTTP component\n"), "{part}");
    format!("{before}# {after}")
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn the_demonstration_says_what_it_should_in_a_cluster_of_its_own_and_the_readme_has_it() {
    let first = free_port_range(7);
    let home = tempfile::tempdir().unwrap();
    // Where the cluster of the person who calls it would be.
    let theirs = home.path().join(".local/state/wasmgate/cluster");
    fs::create_dir_all(&theirs).unwrap();
    let mut demo = Command::new(root().join("tools/cluster/demo"));
    demo.arg(env!("CARGO_BIN_EXE_wasmgate")).env("WASMGATE_CLUSTER_PORT", first.to_string());
    demo.env("TMPDIR", home.path()).env("WASMGATE_CLUSTER_DIR", &theirs);
    let output = demo.output().unwrap();
    let (said, progress) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{said}\n{progress}");
    assert!(theirs.is_dir(), "the cluster of the person is left alone");
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".local"], "its own is gone");
    let lacks_proxy = lacks_proxy();
    if let Some(why) = &lacks_proxy {
        println!("compared with the README but for how the Service is asked: {why}");
    }
    compare(&format!("{}\n", settled(&said, first).trim()), lacks_proxy.is_none());
}

/// Compares what it printed with the README, as a whole or without how the Service is asked, or writes all of it there.
fn compare(said: &str, as_a_whole: bool) {
    let path: &Path = &root().join("README.md");
    let page = fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the record of `make demo`");
    let (record, after) = rest.split_once(END).unwrap();
    if as_a_whole && writes_docs() {
        fs::write(path, format!("{before}{BEGIN}{said}{END}{after}")).unwrap();
        return;
    }
    let kept =
        |text: &str| if as_a_whole { without_names(text) } else { without_names(&without_service(text)) };
    let (old, new) = (kept(record), kept(said));
    let difference = similar::TextDiff::from_lines(&old, &new).unified_diff().to_string();
    assert!(
        old == new,
        "README.md is out of date; `WASMGATE_WRITE_DOCS=1` writes it where nodes have kube-proxy:\n{difference}"
    );
}
