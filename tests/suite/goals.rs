//! The goals of `docs/performance.md`: the page is what the committed records say, a goal is missed by its own figures alone, and a record that
//! cannot be read is named.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::instructions::between_marks;
use crate::support::process::{own, root};

const PAGE: &str = "docs/performance.md";

/// Whether there is a Python for the scripts: a line says so where there is none, and `.ci/run` in its last line.
fn has_python() -> bool {
    let mut asked = Command::new("python3");
    asked.args(["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]);
    let is_there = asked.output().is_ok_and(|output| output.status.success());
    if !is_there {
        println!("skipped: Python 3.9 is not installed");
    }
    is_there
}

fn goals(page: &Path) -> Output {
    own("benches/goals", &[page.as_ref()]).output().unwrap()
}

/// The five cells of each row of the table.
fn rows(table: &str) -> Vec<[&str; 5]> {
    let lines = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<&str>>());
    cells.map(|row| <[&str; 5]>::try_from(row).unwrap()).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn the_page_has_the_goals_that_the_script_makes_of_the_committed_records() {
    if !has_python() {
        return;
    }
    let output = goals(&root().join(PAGE));
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{why}");
    let page = read(PAGE);
    let shown = between_marks(&page, "goals").trim();
    assert!(rows(shown).len() > 30, "{shown}");
    assert_eq!(shown, said.trim(), "`benches/serve --page {PAGE} --render` writes it");
}

/// The tables of each part, the plot, and what a pod takes in the page for operators.
#[test]
fn the_pages_have_no_figure_that_the_committed_records_do_not_have() {
    if !has_python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path();
    fs::create_dir(docs.join("performance")).unwrap();
    for entry in fs::read_dir(root().join("docs/performance")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), docs.join("performance").join(entry.file_name())).unwrap();
    }
    let written = ["performance.md", "performance.svg", "operations.md"];
    for name in written {
        fs::copy(root().join("docs").join(name), docs.join(name)).unwrap();
    }
    let page = docs.join("performance.md");
    let output =
        own("benches/serve", &["--page".as_ref(), page.as_ref(), "--render".as_ref()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for name in written {
        let (shown, renewed) = (read(&format!("docs/{name}")), fs::read_to_string(docs.join(name)).unwrap());
        let line = shown.lines().zip(renewed.lines()).find(|(shown, renewed)| shown != renewed);
        assert!(shown == renewed, "docs/{name}: `benches/serve --page {PAGE} --render` writes {line:?}");
    }
}

/// The tables of the graphs. Their links are from the page, so the copies stand beside one another as the originals do.
#[test]
fn the_page_has_the_largest_items_that_were_found_with_the_graphs() {
    if !has_python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path();
    fs::create_dir_all(docs.join("flames/before")).unwrap();
    for name in ["flames/items.json", "flames/before/items.json", "performance.md"] {
        fs::copy(root().join("docs").join(name), docs.join(name)).unwrap();
    }
    let page = docs.join("performance.md");
    let render = |page: &Path| {
        own("benches/flames", &["--page".as_ref(), page.as_ref(), "--render".as_ref()]).output().unwrap()
    };
    let output = render(&page);
    assert!(output.status.success(), "{output:?}");
    let (shown, renewed) = (read(PAGE), fs::read_to_string(&page).unwrap());
    let [shown, renewed] = [&shown, &renewed].map(|page| between_marks(page, "flames"));
    assert!(shown.contains("flames/before/linux.svg"), "{shown}");
    let line = shown.lines().zip(renewed.lines()).find(|(shown, renewed)| shown != renewed);
    assert!(shown == renewed, "`benches/flames --page {PAGE} --render` writes {line:?}");
    // What was found decides, and not what the page had.
    fs::remove_file(docs.join("flames/before/items.json")).unwrap();
    assert!(render(&page).status.success());
    assert!(!fs::read_to_string(&page).unwrap().contains("flames/before/linux.svg"));
}

/// What all parts take together, by the bench itself.
#[test]
fn all_parts_of_the_bench_take_no_more_than_half_an_hour() {
    if !has_python() {
        return;
    }
    let output = own("benches/serve", &["--estimate".as_ref()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let minutes = |line: &str| line.split_whitespace().nth(2).unwrap().parse::<f64>().unwrap();
    let (parts, all): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| !line.starts_with("all "));
    assert!(parts.len() > 10 && all.len() == 1, "{said}");
    let sum: f64 = parts.into_iter().map(minutes).sum();
    assert!((sum - minutes(all[0])).abs() < 1.0, "{said}");
    assert!(minutes(all[0]) <= 30.0, "{said}");
}

/// Asks no Python. The gate that is measured is the one that runs: its allocator has the same settings.
#[test]
fn the_benches_start_the_gate_with_the_settings_of_its_deployment() {
    let shared = read("benches/shared.py");
    let (_, rest) = shared.split_once("\nDEPLOYED = ").unwrap();
    let settings: BTreeMap<String, String> = serde_json::from_str(rest.lines().next().unwrap()).unwrap();
    let deployment = read("manifests/install/deployment.yaml");
    for (name, value) in &settings {
        assert!(
            deployment.contains(&format!("{{name: {name}, value: \"{value}\"}}")),
            "{name}: {deployment}"
        );
    }
    assert_eq!(deployment.matches("name: MIMALLOC_").count(), settings.len(), "{settings:?}");
}

/// Asks no Python: a record that was renewed without its page is found wherever the tests run.
#[test]
fn each_goal_names_the_commit_of_the_record_that_it_goes_by() {
    let page = read(PAGE);
    for row in rows(between_marks(&page, "goals")) {
        let Some((part, rest)) = row[4].trim_start_matches('[').split_once(']') else { panic!("{row:?}") };
        let record: Value = serde_json::from_str(&read(&format!("docs/performance/{part}.json"))).unwrap();
        let commit = record["commit"].as_str().unwrap();
        assert_eq!(rest, format!("(#{part}) {commit}"), "{row:?}");
    }
}

/// A figure that a goal is of: the goal, which of its figures this is, and what it is where the goal is met and where it is missed.
type Figure<'f> = &'f dyn Fn(&str, usize, f64, f64) -> f64;

fn reviews(of: Figure<'_>) -> Value {
    let row = |case: &str, times: f64| json!({"case": case, "times_floor": times, "per_second": 1});
    let known = "Linux pod, mutate and validate, decision known";
    let new = "Wasm pod, validate, allowed, not cached";
    let rate = of("Wasm pod, validate, allowed, not cached: reviews/s", 0, 3.5, 3.49);
    let log = "decision log in a file and on standard output, on top";
    json!({
        "rows": [
            row("Linux pod, validate", of(known, 0, 1.08, 1.09)),
            row("Linux pod, mutate", of(known, 1, 1.08, 1.09)),
            row("Linux pod, validate, not cached", of("Linux pod, validate, not cached", 0, 1.08, 1.09)),
            row("Linux pod, mutate, not cached", of("Linux pod, mutate, not cached", 0, 1.08, 1.09)),
            row("Wasm pod, validate, allowed", of("Wasm pod, validate, allowed, decision known", 0, 1.3, 1.31)),
            row("Wasm pod, mutate", of("Wasm pod, mutate, decision known", 0, 1.6, 1.61)),
            row("Wasm pod, validate, denied", of("Wasm pod, denied, decision known", 0, 2.5, 2.51)),
            {"case": new, "times_floor": of(new, 0, 2.0, 2.01), "per_second": rate},
            row("Wasm pod, mutate, not cached", of("Wasm pod, mutate, not cached", 0, 1.6, 1.61)),
            row("Wasm pod, validate, denied, not cached", of("Wasm pod, denied, not cached", 0, 2.5, 2.51)),
            row("OPA, plain HTTP, one small rule", 0.0),
        ],
        "log_on_top_times_floor": {
            "Wasm pod, validate, allowed, decision log in a file": of(log, 0, 0.15, 0.151),
            "Wasm pod, validate, allowed, decision log on standard output": of(log, 1, 0.15, 0.151),
        },
    })
}

fn log(of: Figure<'_>) -> Value {
    let goal = "p99.9 of one connection, with the log in a file and on standard output";
    json!({"rows": [
        {"case": "without a log", "worst_p99.9_ms": 20},
        {"case": "in a file", "worst_p99.9_ms": of(goal, 0, 10.0, 10.1)},
        {"case": "on standard output", "worst_p99.9_ms": of(goal, 1, 10.0, 10.1)},
    ]})
}

fn half(of: Figure<'_>) -> Value {
    let goal = "p99 at half of the top rate";
    let row = |case: &str, p99: f64| json!({"case": case, "p99_ms": p99, "floor_p99_ms": 9});
    // That of the floor is no goal, nor is what is said of a processor of its own.
    json!({"rows": [
        row("floor", 9.0),
        row("Wasm pod, mutate", of(goal, 0, 1.99, 2.0)),
        row("Wasm pod, mutate, not cached", of(goal, 1, 1.99, 2.0)),
        row("floor, generator on processors of its own", 9.0),
        row("Wasm pod, mutate, generator on processors of its own", 9.0),
    ]})
}

fn start(of: Figure<'_>) -> Value {
    let (first, later) = ("ready, without", "ready, with what an earlier start left on disk");
    json!({"rows": [
        {"ready_s": of(first, 0, 0.499, 0.5), "rss_mib": of("RSS idle", 0, 40.0, 40.1), "own_mib": 9},
        {"ready_s": of(later, 0, 0.149, 0.15), "rss_mib": 90, "own_mib": 9},
    ]})
}

fn soak(of: Figure<'_>) -> Value {
    let goal = "the soak";
    json!({
        "rows": [
            {"reviews": 0, "rss_mib": 100},
            {"reviews": 500, "rss_mib": 90},
            {"reviews": 1000, "rss_mib": of("RSS after the soak", 0, 104.9, 105.1), "verdicts_mib": 3},
            // What a rest leaves is shown, and no part of the goal.
            {"reviews": 1000, "rss_mib": 300, "rested_s": 125},
        ],
        "wrong": of(goal, 0, 0.0, 1.0), "ended_otherwise": of(goal, 1, 0.0, 1.0), "sampled": 7,
    })
}

fn growth(of: Figure<'_>) -> Value {
    let many = [
        "grants for other images",
        "grants with a pattern",
        "grants for other pods",
        "grants for other namespaces",
        "namespaces",
        "images",
    ];
    let mut rows = vec![
        json!({"of": "bundles", "count": 1, "cpu_us": 100}),
        json!({"of": "the baseline alone", "count": 1, "cpu_us": 100}),
    ];
    for what in many {
        let goal = format!("10 000 of *{what}* beside one, decided anew");
        rows.push(json!({"of": what, "count": 1, "times_first": 9}));
        rows.push(json!({"of": what, "count": 10_000, "times_first": of(&goal, 0, 1.1, 1.11)}));
    }
    json!({
        "rows": rows,
        "cpu_us_of_each_further_bundle": {
            "up to 10": 100, "up to 50": of("1 to 50 bundles, evaluated anew", 0, 109.0, 111.0),
        },
        "cpu_us_that_the_baseline_pays": of("the baseline beside a bundle that omits nothing", 0, 9.9, 10.1),
    })
}

fn replicas(of: Figure<'_>) -> Value {
    let goal = "500 new pods of a Deployment: CPU of each";
    let row = |webhook: &str, nth: usize, judged: f64| {
        json!({"webhook": webhook, "times_known": of(goal, nth, 1.1, 1.11), "judged_anew": judged,
            "deployments": 60, "pods_of_each": 500})
    };
    json!({"rows": [row("mutate", 0, 0.0), row("validate", 1, of(goal, 2, 60.0, 61.0))]})
}

fn large(of: Figure<'_>) -> Value {
    let mut rows = Vec::new();
    let of_row = |body: &str, bytes: u64, cpu: f64, lost: f64| {
        json!({"server": "gate-without-cache", "body": body, "bytes": bytes, "cpu_us": cpu, "p50_ms": 1,
            "not_200": lost})
    };
    let containers = "an object of 50 containers, not cached: CPU of each further container";
    for (nth, body) in ["50 containers", "25 containers", "as it is"].into_iter().enumerate() {
        rows.push(of_row(body, 1, 1.0, of(containers, 1 + nth, 0.0, 1.0)));
    }
    for (more, less) in [
        ("3 MiB", "1 MiB"),
        ("3 MiB of small members", "1 MiB of small members"),
        ("1 MiB of variables", "512 KiB of variables"),
    ] {
        let goal = format!("an object of {more}, not cached: CPU for each byte");
        // The smaller one is half of the larger.
        rows.push(of_row(more, 2000, of(&goal, 0, 218.0, 222.0), of(&goal, 1, 0.0, 1.0)));
        rows.push(of_row(less, 1000, 100.0, of(&goal, 2, 0.0, 1.0)));
        rows.push(json!({"server": "gate", "body": more, "bytes": 1, "cpu_us": 9000}));
    }
    let mut beside = Vec::new();
    for what in ["50 containers", "1 MiB", "3 MiB", "3 MiB of small members"] {
        let goal = format!("small reviews beside objects of {what}: p99");
        let of_row =
            |server: &str, times: f64| json!({"server": server, "small_beside": what, "times_alone": times});
        beside.push(of_row("floor", 9.0));
        beside.push(of_row("gate", of(&goal, 0, 1.2, 1.21)));
        beside.push(of_row("gate-without-cache", of(&goal, 1, 1.2, 1.21)));
    }
    let further = json!({"up to 25": 50, "up to 50": of(containers, 0, 54.9, 55.1)});
    json!({"rows": rows, "beside": beside, "cpu_us_of_each_further_container": further})
}

/// What the memory of a replica counts a part for, in MiB (`docs/operations.md`).
fn counted_for(what: &str) -> f64 {
    let page = read("docs/operations.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| {what}"))).unwrap();
    row.trim_matches('|').rsplit('|').next().unwrap().trim().parse().unwrap()
}

/// A row of a burst, and of which figures its goal is.
fn burst(case: &str, goal: &str, of: Figure<'_>) -> Value {
    json!({"case": case, "reviews": 100, "answered": of(goal, 0, 100.0, 99.0), "answered_otherwise": of(goal, 1, 0.0, 1.0),
        "readyz_not_200": of(goal, 2, 0.0, 1.0), "slowest_ms": of(goal, 3, 2000.0, 2001.0), "timeout_s": 2,
        "asked_per_second": null, "sent_per_second": 3, "top_per_second": 4, "peak_mib": 9000})
}

fn overload(of: Figure<'_>) -> Value {
    let answers = "ten times the top rate: answers";
    let memory = "ten times the top rate: memory";
    let probes = of("ten times the top rate: probes", 0, 0.0, 1.0);
    let busy = counted_for("a busy gate");
    let two = busy + counted_for("evaluations,");
    let row = |case: &str, peak: f64, answered: u32, rate: f64| {
        json!({"case": case, "peak_mib": peak, "reviews": 100, "answered": answered, "readyz_not_200": 0,
            "readyz_longest_ms": 5, "answered_otherwise": 0, "unanswered": 0, "other_statuses": 0,
            "slowest_ms": 1, "timeout_s": 2, "sent_per_second": 3, "top_per_second": 2, "asked_per_second": 20,
            "answered_per_second": rate})
    };
    let in_vain = "ten times the top rate: no review is refused that could be answered";
    let mut first = row("validate", of(memory, 0, busy, busy + 0.1), 90, of(in_vain, 0, 2.0, 1.99));
    for (key, figure) in [
        ("readyz_not_200", probes),
        ("answered_otherwise", of(answers, 0, 0.0, 1.0)),
        ("unanswered", of(answers, 1, 0.0, 1.0)),
        ("other_statuses", of(answers, 2, 0.0, 1.0)),
        ("slowest_ms", of(answers, 3, 2000.0, 2001.0)),
    ] {
        first[key] = figure.into();
    }
    let small = "a burst of 600 at a time over HTTP/1.1";
    let large = "a burst of 60 pods of 50 containers at a time over HTTP/1.1, of one namespace";
    json!({"rows": [
        first,
        // Where none is refused no rate is wanted: less was sent.
        row("validate, not cached, two bundles", of(memory, 1, two, two + 0.1), 100, 1.0),
        burst("validate, not cached, HTTP/1.1", small, of),
        burst("validate, not cached, HTTP/1.1, 50 containers", large, of),
    ]})
}

/// Writes a record of each part that a goal is of; returns the page that they are for.
fn written(folder: &TempDir, of: Figure<'_>) -> PathBuf {
    let page = folder.path().join("page.md");
    let place = page.with_extension("");
    fs::create_dir(&place).unwrap();
    for (part, figures) in [
        ("reviews", reviews(of)),
        ("log", log(of)),
        ("half", half(of)),
        ("start", start(of)),
        ("soak", soak(of)),
        ("growth", growth(of)),
        ("replicas", replicas(of)),
        ("large", large(of)),
        ("overload", overload(of)),
    ] {
        let record = json!({"part": part, "commit": "0123abcd", "figures": figures});
        fs::write(place.join(format!("{part}.json")), record.to_string()).unwrap();
    }
    page
}

/// The goals that these figures miss, by what the script prints. All others are met.
fn missed_by(of: Figure<'_>) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let output = goals(&written(&folder, of));
    assert!(output.status.success(), "a goal that is missed is no fault: {output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    let rows = rows(&said);
    assert_eq!(rows.len(), names().len(), "{said}");
    assert!(rows.iter().all(|row| row[3] == "met" || row[3].starts_with("missed")), "{said}");
    rows.iter().filter(|row| row[3] != "met").map(|row| row[0].to_string()).collect()
}

/// The goals of the page.
fn names() -> Vec<String> {
    let page = read(PAGE);
    rows(between_marks(&page, "goals")).into_iter().map(|row| row[0].to_string()).collect()
}

/// Each goal has a number, and in each run those are over it whose number has a bit: so each is over its goal and not over it, and no two of them always together.
#[test]
fn a_goal_is_missed_where_its_figure_is_over_it_and_met_where_it_is_not_whatever_the_others_are() {
    const BITS: usize = 6;
    if !has_python() {
        return;
    }
    let names = names();
    assert!(names.len() + 1 < (1 << BITS), "{} goals need another run", names.len());
    for bit in 0..BITS {
        let is_over = |goal: &str| {
            let at = names.iter().position(|name| name == goal);
            let number = 1 + at.unwrap_or_else(|| panic!("there is no goal `{goal}`: {names:#?}"));
            (number >> bit) & 1 == 1
        };
        let missed =
            missed_by(&|goal, nth, met, missed| if nth == 0 && is_over(goal) { missed } else { met });
        let wanted: BTreeSet<String> = names.iter().filter(|name| is_over(name)).cloned().collect();
        assert_eq!(missed, wanted, "bit {bit}");
    }
}

#[test]
fn of_several_figures_of_a_goal_each_one_misses_it() {
    if !has_python() {
        return;
    }
    for turn in 1..4 {
        let wanted = RefCell::new(BTreeSet::new());
        let missed = missed_by(&|goal, nth, met, missed| {
            if nth != turn {
                return met;
            }
            wanted.borrow_mut().insert(goal.to_string());
            missed
        });
        assert!(!missed.is_empty());
        assert_eq!(missed, wanted.into_inner(), "figure {turn}");
    }
}

#[test]
fn what_a_record_from_before_did_not_measure_yet_is_said_and_is_no_fault() {
    const LATER: &str = "Linux pod, mutate, not cached";
    if !has_python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let page = written(&folder, &|_, _, met, _| met);
    let file = page.with_extension("").join("reviews.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let cases = record["figures"]["rows"].as_array_mut().unwrap();
    cases.retain(|row| row["case"] != LATER);
    fs::write(&file, record.to_string()).unwrap();
    let output = goals(&page);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    let row = rows(&said).into_iter().find(|row| row[0] == LATER).unwrap();
    assert_eq!(row[3], format!("not measured: {LATER}"), "{said}");
    assert!(rows(&said).iter().all(|row| row[0] == LATER || row[3] == "met"), "{said}");
}

#[test]
fn a_record_that_is_missing_broken_or_lacks_the_figures_of_a_goal_is_named_with_an_exit_code() {
    if !has_python() {
        return;
    }
    for (part, text, why) in [
        ("soak", None, "is not there; `make bench-serve ARGS='soak --page "),
        ("growth", Some("{\"commit\": "), "cannot be read: "),
        ("half", Some("[]"), "cannot be read: "),
        ("log", Some("{\"commit\": \"0123abcd\"}"), "cannot be read: it has no 'figures'"),
        (
            "start",
            Some("{\"commit\": \"0123abcd\", \"figures\": {\"rows\": []}}"),
            "lacks what `RSS idle` is of: ",
        ),
        (
            "reviews",
            Some("{\"commit\": \"0123abcd\", \"figures\": {\"rows\": [], \"log_on_top_times_floor\": {}}}"),
            "lacks what `decision log in a file and on standard output, on top` is of: ",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let page = written(&folder, &|_, _, met, _| met);
        let file = page.with_extension("").join(format!("{part}.json"));
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let output = goals(&page);
        assert_eq!(output.status.code(), Some(1), "{part}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        let faults = String::from_utf8_lossy(&output.stderr);
        let named = format!("benches/goals: {} ", file.display());
        assert!(faults.lines().all(|line| line.starts_with(&named)), "{part}: {faults}");
        assert!(faults.contains(&format!("{named}{why}")), "{part}: {faults}");
        assert!(said.contains("| not measured"), "{said}");
        assert!(said.contains("| met |"), "those of other records are shown: {said}");
    }
}
