//! The report for a terminal: a row for each decision that would change or that masking leaves open. Pure.

use std::fmt::Write as _;

use anstyle::Style;

use super::Report;
use super::compare::{Compared, ComparedViolation};
use crate::cli::render::{
    self, BOLD, DIM, GREEN, PLAIN, RED, YELLOW, blanks, cell, columns, counted, paint, wrap,
};
use crate::text;

const HEADER: [&str; 4] = ["TIME", "OBJECT", "VERDICT", "WHAT WOULD CHANGE"];
const GAP: usize = 2;
/// Columns that are left to the last column on a narrow terminal.
const NARROWEST: usize = 30;
/// Most decisions that the table has; the summary counts all of them.
const MOST_ROWS: usize = 200;
/// Most violations and masked values of a decision that it has.
const MOST_FINDINGS: usize = 10;

/// The table, and one line about everything.
pub fn text(report: &Report, width: u16) -> String {
    let shown: Vec<_> = report.listed.iter().filter(|one| one.is_changed() || one.undecidable).collect();
    let (rows, more) = shown.split_at(shown.len().min(MOST_ROWS));
    let mut out = if rows.is_empty() { String::new() } else { format!("{}\n", table(rows, width.into())) };
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

fn cells(one: &Compared) -> [String; 4] {
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
    [
        format!("{:.0}", one.timestamp),
        cell(&object),
        verdict,
        what.iter().map(|line| text::line(line).into_owned()).collect::<Vec<_>>().join("\n"),
    ]
}

/// The rows in columns: each as wide as its content, and the last as wide as what is left.
fn table(rows: &[&Compared], width: usize) -> String {
    let rows: Vec<_> = rows.iter().map(|one| (cells(one), style(one))).collect();
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|(cells, _)| cells.get(column)).map(|cell| columns(cell));
        cells.chain(HEADER.get(column).map(|name| columns(name))).max().unwrap_or_default()
    };
    let mut widths: Vec<usize> = (0..HEADER.len()).map(widest).collect();
    let others: usize = widths.iter().take(HEADER.len() - 1).map(|own| own + GAP).sum();
    if let Some(last) = widths.last_mut() {
        *last = width.saturating_sub(others).max(NARROWEST);
    }
    let mut out = lines(&HEADER.map(String::from), [BOLD; 2], &widths);
    for (cells, verdict) in &rows {
        out.push_str(&lines(cells, [PLAIN, *verdict], &widths));
    }
    out
}

fn style(one: &Compared) -> Style {
    match one.would_be {
        _ if !one.is_changed() => DIM,
        "deny" => RED,
        "warn" => YELLOW,
        _ => GREEN,
    }
}

/// One row; its verdict has a style of its own, and its last cell as many lines as it needs.
fn lines(cells: &[String; 4], [style, verdict]: [Style; 2], widths: &[usize]) -> String {
    let [time, object, decided, what] = cells;
    let last = widths.last().copied().unwrap_or(NARROWEST);
    let what: Vec<String> = what.lines().flat_map(|line| wrap(line, last)).collect();
    let mut out = String::new();
    for index in 0..what.len().max(1) {
        let mut line = String::new();
        for ((cell, style), width) in [(time, style), (object, style), (decided, verdict)].iter().zip(widths)
        {
            let part = if index == 0 { cell.as_str() } else { "" };
            let shown = if part.is_empty() { String::new() } else { paint(*style, part) };
            let _ = write!(line, "{shown}{}", blanks(width.saturating_sub(columns(part)) + GAP));
        }
        line.push_str(what.get(index).map(String::as_str).unwrap_or_default());
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}
