//! The report for a terminal: a row for each decision that would change or that masking leaves open. Pure.

use std::fmt::Write as _;

use anstyle::Style;

use super::Report;
use super::compare::{Compared, ComparedViolation};
use crate::cli::render::{self, DIM, GREEN, PLAIN, RED, Row, Table, YELLOW, cell, counted};
use crate::text;

const TABLE: Table<4> =
    Table { header: ["TIME", "OBJECT", "VERDICT", "WHAT WOULD CHANGE"], indent: 0, broken: 3, narrowest: 30 };
/// Most decisions that the table has; the summary counts all of them.
const MOST_ROWS: usize = 200;
/// Most violations and masked values of a decision that it has.
const MOST_FINDINGS: usize = 10;

/// The table, and one line about everything.
pub fn text(report: &Report, width: u16) -> String {
    let shown: Vec<_> = report.listed.iter().filter(|one| one.is_changed() || one.undecidable).collect();
    let (rows, more) = shown.split_at(shown.len().min(MOST_ROWS));
    let rows: Vec<Row<4>> = rows.iter().map(|one| row(one)).collect();
    let mut out =
        if rows.is_empty() { String::new() } else { format!("{}\n", TABLE.text(&rows, width.into())) };
    if !more.is_empty() {
        let _ = writeln!(out, "… and {} more (-o json lists them)\n", more.len());
    }
    let _ = writeln!(out, "{}", summary(report));
    out.push_str(&render::bundle_warnings(&report.bundle_warnings));
    out
}

/// Counts of everything that was read, so that nothing is left out silently.
fn summary(report: &Report) -> String {
    let Report { replayed, changed, undecidable, may_depend_on_masked, not_listed, .. } = report;
    let mut said = format!("{}: {changed} would change", counted(*replayed, "decision"));
    if *undecidable > 0 {
        let _ = write!(said, ", {undecidable} cannot be decided");
    }
    if *may_depend_on_masked > 0 {
        let _ = write!(said, "; {may_depend_on_masked} may depend on masked values (-o json lists them)");
    }
    if *not_listed > 0 {
        let _ = write!(said, "; {not_listed} more are not listed");
    }
    let left = left(report);
    if left.is_empty() { said } else { format!("{said}; not replayed: {left}") }
}

/// What was not judged again, and why.
pub fn left(report: &Report) -> String {
    let Report { not_judged, failed, without_input, unreadable, .. } = report;
    [
        (*not_judged, "that no policy judged"),
        (*failed, "in which the gate failed or had too much to do"),
        (*without_input, "without what the rules read (`decisionLog.policyInput`)"),
        (*unreadable, "that are no decision records"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect::<Vec<_>>()
    .join(", ")
}

fn row(one: &Compared) -> Row<4> {
    let name = if one.name.is_empty() { "(no name yet)" } else { &one.name };
    let object = format!("{}/{}/{name}", one.namespace, one.kind);
    let verdict =
        if one.was == one.would_be { one.was.into() } else { format!("{} → {}", one.was, one.would_be) };
    let signed = |sign, found: &ComparedViolation| format!("{sign} {}", found.told());
    let added = one.added.iter().map(|found| signed('+', found));
    let all = added.chain(one.gone.iter().map(|found| signed('-', found)));
    let mut what: Vec<String> = all.take(MOST_FINDINGS).collect();
    let more = (one.added.len() + one.gone.len()).saturating_sub(MOST_FINDINGS);
    if more > 0 {
        what.push(format!("… and {more} more (-o json lists them)"));
    }
    what.extend(
        one.open_exceptions
            .iter()
            .chain(&one.not_recorded)
            .take(MOST_FINDINGS)
            .map(|open| format!("? {open}")),
    );
    if one.undecidable && !one.masked.is_empty() {
        let (shown, more) = one.masked.split_at(one.masked.len().min(MOST_FINDINGS));
        let more = if more.is_empty() { String::new() } else { format!(" … and {} more", more.len()) };
        what.push(format!("? it depends on what is masked: {}{more}", shown.join(", ")));
    }
    let what: Vec<_> = what.iter().map(|line| text::line(line)).collect();
    Row {
        cells: [format!("{:.0}", one.timestamp), cell(&object), verdict, what.join("\n")],
        styles: [PLAIN, PLAIN, style(one), PLAIN],
        below: None,
    }
}

fn style(one: &Compared) -> Style {
    match one.would_be {
        _ if !one.is_changed() => DIM,
        "deny" => RED,
        "warn" => YELLOW,
        _ => GREEN,
    }
}
