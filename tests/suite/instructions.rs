//! The comparison of instruction counts (`benches/instructions`) fails with the stage that grew, and says so where it cannot compare.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn script(figures: &Path, arguments: &[&str]) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions");
    let ran = Command::new(script).args(arguments).env("WASMGATE_INSTRUCTIONS", figures).output();
    let Output { status, stdout, .. } = ran.unwrap();
    (status.success(), String::from_utf8(stdout).unwrap())
}

#[test]
fn a_stage_that_takes_a_twentieth_more_or_less_fails_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [figures, counts] = ["figures", "counts"].map(|name| folder.path().join(name));
    let (_, own) = script(&figures, &["setting"]);
    let own = own.trim_end();
    fs::write(
        &figures,
        format!(
            "{own}\tpod\tjudge\t1000000\n{own}\tpod\twhole\t2000000\n{own}\trules\tadmitted\t3000\nother\tpod\tx\t1\n"
        ),
    )
    .unwrap();
    let compared = |judge: &str| {
        fs::write(&counts, format!("{judge}pod\twhole\t2000000\nrules\tadmitted\t3000\n")).unwrap();
        script(&figures, &["compare", counts.to_str().unwrap()])
    };
    for (judge, passes, line) in [
        ("pod\tjudge\t1000000\n", true, "as before: pod, judge: 1,000,000 instructions, +0.0 %"),
        ("pod\tjudge\t1050000\n", true, "as before: pod, judge: 1,050,000 instructions, +5.0 %"),
        ("pod\tjudge\t1051000\n", false, "grew: pod, judge: 1,051,000 instructions, +5.1 %"),
        ("pod\tjudge\t950000\n", true, "as before: pod, judge: 950,000 instructions, -5.0 %"),
        ("pod\tjudge\t900000\n", false, "fell: pod, judge: 900,000 instructions, -10.0 %"),
        ("pod\tjudge\t1000000\npod\tnew\t1\n", false, "is not committed: pod, new"),
        ("", false, "was not counted: pod, judge"),
    ] {
        let (success, said) = compared(judge);
        assert!(success == passes && said.lines().any(|own| own == line), "{judge}: {success} {said}");
        assert!(said.contains("as before: pod, whole"), "{said}");
        assert!(said.contains("as before: rules, admitted: 3,000 units of fuel, +0.0 %"), "{said}");
        assert_eq!(said.contains("benches/instructions renew"), !passes, "the cure is said");
    }
}

#[test]
fn counts_of_another_compiler_are_not_compared_and_it_is_said_why() {
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures");
    fs::write(&figures, "1.0.0 x86_64-unknown-linux-gnu\tpod\tjudge\t1\n").unwrap();
    let (success, said) = script(&figures, &["check"]);
    assert!(!success && said.lines().count() == 1, "{said}");
    assert!(
        said.contains("benches/instructions renew") || said.contains("apt-get install valgrind"),
        "{said}"
    );
}

#[test]
fn the_page_of_performance_has_the_counts_that_are_committed() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.tsv");
    let (success, table) = script(Path::new(committed), &["table"]);
    assert!(success && table.contains(" % |"), "{table}");
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md")).unwrap();
    let shown = between_marks(&page, "instructions");
    assert_eq!(shown.trim(), table.trim(), "`benches/instructions renew` writes both");
}

/// What stands in a page between the marks of this name.
pub fn between_marks<'p>(page: &'p str, name: &str) -> &'p str {
    let begin = format!("<!-- {name}: begin -->\n");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("the page has no `{begin}`"));
    rest.split_once(&format!("<!-- {name}: end -->")).unwrap().0
}

/// A part without marks would end a run of half an hour that could not be written.
#[test]
fn the_page_of_performance_has_a_place_for_each_part_and_says_of_which_commit_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/performance.md")).unwrap();
    let bench = fs::read_to_string(root.join("benches/serve")).unwrap();
    let (_, parts) = bench.split_once("\nPARTS = {\n").unwrap();
    let (parts, _) = parts.split_once("\n}\n").unwrap();
    let names: Vec<&str> = parts.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names.into_iter().chain(["build", "bundles", "goals"]) {
        let shown = between_marks(&page, name);
        if let Ok(text) = fs::read_to_string(root.join(format!("docs/performance/{name}.json"))) {
            let record: Value = serde_json::from_str(&text).unwrap();
            let commit = record["commit"].as_str().unwrap();
            assert!(
                shown.contains(&format!("commit {commit}")),
                "{name}: `benches/serve --page docs/performance.md --render` writes it"
            );
        }
    }
}
