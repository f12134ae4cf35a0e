//! A test waits for a condition and not for a time (`tests/support/process.rs`, `until` and `wait_for`). Where it must let
//! time pass, it says why.

use std::collections::BTreeMap;

use super::root;

/// Lines above a sleep in which its comment may begin.
const ABOVE: usize = 3;

/// The lines with a sleep that no comment explains, as `file:line`.
fn unexplained(name: &str, source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_comment = |line: &&str| line.starts_with("//") && !line.starts_with("///");
    let sleeps =
        lines.iter().enumerate().filter(|(_, line)| !line.starts_with("//") && line.contains("sleep("));
    let bare = sleeps.filter(|(at, _)| !lines[at.saturating_sub(ABOVE)..*at].iter().any(is_comment));
    bare.map(|(at, line)| format!("{name}:{}: {line}", at + 1)).collect()
}

fn tests() -> BTreeMap<String, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root().join("tests")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_sleep_of_a_test_has_its_reason_above_it() {
    let tests = tests();
    assert!(tests.len() > 50, "{} files", tests.len());
    let apart = |name: &&String| !name.starts_with("tests/architecture");
    let found: Vec<String> = tests
        .iter()
        .filter(|(name, _)| apart(name))
        .flat_map(|(name, source)| unexplained(name, source))
        .collect();
    assert!(found.is_empty(), "wait for a condition, or say why not:\n{}\n", found.join("\n"));
}

#[test]
fn a_sleep_without_a_comment_is_found() {
    let found = |source: &str| unexplained("x.rs", source).len();
    assert_eq!(found("fn f() {\n    let a = 1;\n    tokio::time::sleep(a).await;\n}"), 1);
    assert_eq!(found("/// Waits.\nstd::thread::sleep(a);"), 1, "what a function does is no reason");
    assert_eq!(found("// The registry is slow.\nstd::thread::sleep(a);"), 0);
    assert_eq!(found("// sleep(a)\n\n\n\n"), 0);
}
