//! The result of a scan as a table for a terminal. Colour is always written; the output stream strips it where it is not
//! supported. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anstyle::Style;

use crate::cli::render::{DIM, GREEN, PLAIN, RED, Row, Table, YELLOW, cell, counted, paint, wrap};
use crate::cli::report::ExplainOutcome;
use crate::policy::EnforcementAction;
use crate::scan::model::{FoundViolation, Scan, Workload, is_open, rank, word};
use crate::text;

const TABLE: Table<5> = Table {
    header: ["NAMESPACE", "WORKLOAD", "PODS", "OUTCOME", "FINDINGS"],
    indent: 0,
    broken: 4,
    narrowest: 30,
};

/// The table, what could not be judged, and one line about everything.
pub fn text(scan: &Scan, all: bool, width: u16) -> String {
    let mut workloads = scan.shown(all);
    workloads.sort_by_key(|workload| rank(workload.outcome));
    let rows: Vec<Row<5>> = workloads.into_iter().map(row).collect();
    let mut out =
        if rows.is_empty() { String::new() } else { format!("{}\n", TABLE.text(&rows, width.into())) };
    out.push_str(&not_judged(scan, width.into()));
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "{}", summary(scan, all));
    out
}

fn row(workload: &Workload) -> Row<5> {
    let pods = if workload.pods == 0 { "-".to_owned() } else { workload.pods.to_string() };
    Row {
        cells: [
            cell(&workload.namespace),
            cell(&workload.title()),
            pods,
            outcome(workload.outcome).to_owned(),
            text::line(&findings(workload)).into_owned(),
        ],
        styles: [PLAIN, PLAIN, PLAIN, style(workload.outcome), PLAIN],
        below: None,
    }
}

const fn outcome(outcome: ExplainOutcome) -> &'static str {
    match outcome {
        ExplainOutcome::NotWasm => "no Wasm",
        ExplainOutcome::NotJudged
        | ExplainOutcome::CompletedByOthers
        | ExplainOutcome::NoTemplate
        | ExplainOutcome::Unreadable => "not judged",
        other => word(other),
    }
}

const fn style(outcome: ExplainOutcome) -> Style {
    match outcome {
        ExplainOutcome::Denied => RED,
        ExplainOutcome::Admitted => GREEN,
        ExplainOutcome::Warned => YELLOW,
        other if is_open(other) => YELLOW,
        _ => DIM,
    }
}

/// The rules that it breaks, why something about it is not known, and how many warnings there are beside the rules.
fn findings(workload: &Workload) -> String {
    let found = workload.findings();
    let mut rules: BTreeMap<(std::cmp::Reverse<EnforcementAction>, &str), Vec<&FoundViolation<'_>>> =
        BTreeMap::new();
    for finding in &found {
        let key = (std::cmp::Reverse(finding.judged.action), finding.judged.violation.rule.as_str());
        rules.entry(key).or_default().push(finding);
    }
    let rules = rules.iter().map(|((_, rule), found)| format!("{rule}{}", scope(workload, found)));
    let warnings: BTreeSet<&String> =
        workload.judged.iter().flat_map(|judged| &judged.spec.warnings).collect();
    let warnings = (!warnings.is_empty()).then(|| counted(warnings.len(), "warning"));
    let said: Vec<String> = rules.chain(workload.reasons()).chain(warnings).collect();
    if said.is_empty() { "-".to_owned() } else { said.join(", ") }
}

/// How many findings, and which part of the workload has them, unless all of it has.
fn scope(workload: &Workload, found: &[&FoundViolation<'_>]) -> String {
    let has_template = workload.judged.iter().any(|judged| judged.pods == 0);
    let template = found.iter().any(|finding| finding.template);
    let pods = found.iter().map(|finding| finding.pods).max().unwrap_or_default();
    let mut parts = Vec::new();
    if found.len() > 1 {
        parts.push(found.len().to_string());
    }
    match (template, pods) {
        (true, 0) if workload.pods > 0 => parts.push("template only".to_owned()),
        (false, pods) if has_template && pods == workload.pods => parts.push("pods only".to_owned()),
        (_, pods) if pods > 0 && pods < workload.pods => {
            parts.push(format!("{pods} of {} pods", workload.pods));
        }
        _ => {}
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// What could not be judged, a line for each.
fn not_judged(scan: &Scan, width: usize) -> String {
    let mut out = String::new();
    for one in &scan.not_judged {
        let line = format!("not judged: {}: {}", text::visible(&one.what), text::line(&one.reason));
        for (index, part) in wrap(&line, width.saturating_sub(2)).iter().enumerate() {
            let _ = writeln!(out, "{:1$}{2}", "", if index == 0 { 0 } else { 2 }, paint(YELLOW, part));
        }
    }
    out
}

/// Counts of everything that was seen, so that nothing is left out silently.
pub fn summary(scan: &Scan, all: bool) -> String {
    let summary = &scan.summary;
    let counts: Vec<String> = summary
        .outcomes
        .iter()
        .map(|(outcome, count)| {
            format!("{count} {}", if *outcome == "not-wasm" { "without Wasm" } else { outcome })
        })
        .collect();
    let outcomes = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let mut said = format!(
        "{}, {}, {}{outcomes}",
        counted(summary.workloads, "workload"),
        counted(summary.pods, "pod"),
        counted(summary.templates, "template")
    );
    if !scan.not_judged.is_empty() {
        let _ = write!(said, "; {} not judged", scan.not_judged.len());
    }
    let others: usize = scan.other_kinds.values().sum();
    if others > 0 {
        let _ = write!(said, "; {} without pods", counted(others, "other object"));
    }
    if !all && scan.workloads.iter().any(Workload::is_plain) {
        said.push_str("; --all lists those that are left alone too");
    }
    said
}
