//! The table of capabilities: what needs a decision first, what nobody has to think about in one line.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::Style;
use serde_json::Value;

use super::words::{BOLD, DIM, PLAIN, RED, YELLOW, chars, hanging, paint, safe, wrap};
use super::{list, text};
use crate::judge::JudgedViolation;
use crate::policy::EnforcementAction;

const HEADER: [&str; 5] = ["CAPABILITY", "REQUIRED", "AMBIENT", "EFFECTIVE", "GRANTED BY"];
const INDENT: usize = 4;
const GAP: usize = 2;
/// What stands in `coveredBy` for capabilities that need no grant.
const DEFAULT: &str = "default";

struct Row {
    cells: [String; HEADER.len()],
    seen: String,
    style: Style,
}

/// One row per capability that the program can call: whether it is handed over, and who grants it or which rule says
/// that nobody does. What is only handed over follows in one line.
pub(super) fn table(container: &Value, violations: &[JudgedViolation], width: u16) -> String {
    let rows = rows(container, violations);
    let idle = out_of_reach(container);
    if rows.is_empty() && idle.is_empty() {
        return String::new();
    }
    let name = safe(text(container, "name"));
    let mut out = format!("\n  {} {name}\n", paint(BOLD, "capabilities of"));
    if !rows.is_empty() {
        out.push_str(&laid_out(&rows, usize::from(width)));
    }
    if !idle.is_empty() {
        let label = format!("    {} ", paint(DIM, "handed over, never called:"));
        out.push_str(&hanging(&label, 31, &idle.join(", "), width));
    }
    out
}

fn rows(container: &Value, violations: &[JudgedViolation]) -> Vec<Row> {
    let decided = |entry: &Value| deciding(container, entry, violations);
    let (open, covered): (Vec<&Value>, Vec<&Value>) =
        list(container, "effective").iter().partition(|entry| list(entry, "coveredBy").is_empty());
    let (by_default, granted): (Vec<&Value>, Vec<&Value>) =
        covered.into_iter().partition(|entry| granters(entry) == DEFAULT);
    let mut rows = Vec::new();
    rows.extend(
        open.into_iter()
            .map(|e| row(&label(e), [true, true], &format!("nobody{}", decided(e)), &seen(e), RED)),
    );
    let missing = list(container, "missing").iter();
    rows.extend(
        missing.map(|e| {
            row(&label(e), [true, false], &format!("will fail there{}", decided(e)), &seen(e), YELLOW)
        }),
    );
    rows.extend(granted.into_iter().map(|e| row(&label(e), [true, true], &granters(e), &seen(e), PLAIN)));
    rows.extend(
        grouped(&by_default).into_iter().map(|(name, seen)| row(&name, [true, true], DEFAULT, &seen, DIM)),
    );
    rows
}

/// ` [rule]` for every rule that found something about this capability of the container, with what became of it unless it
/// denies.
fn deciding(container: &Value, entry: &Value, violations: &[JudgedViolation]) -> String {
    let about = |v: &&JudgedViolation| {
        v.violation.container.as_deref() == Some(text(container, "name"))
            && v.violation.capability.as_deref() == Some(text(entry, "capability"))
    };
    let word = |v: &JudgedViolation| match (&v.exempted, v.action) {
        (Some(_), _) => format!(" [{}: excepted]", v.violation.rule),
        (None, EnforcementAction::Deny) => format!(" [{}]", v.violation.rule),
        (None, action) => format!(" [{}: {}]", v.violation.rule, action.as_str()),
    };
    violations.iter().filter(about).map(word).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn row(name: &str, [required, ambient]: [bool; 2], granted: &str, seen: &str, style: Style) -> Row {
    let mark = |yes: bool| if yes { "yes" } else { "no" }.to_string();
    let cells = [safe(name), mark(required), mark(ambient), mark(required && ambient), safe(granted)];
    Row { cells, seen: safe(seen), style }
}

fn granters(entry: &Value) -> String {
    let names: Vec<_> = list(entry, "coveredBy").iter().filter_map(Value::as_str).collect();
    names.join(", ")
}

fn seen(entry: &Value) -> String {
    let places: Vec<_> = list(entry, "evidence").iter().filter_map(Value::as_str).collect();
    places.join("; ")
}

/// One line for each capability that needs no grant, whatever its parameters.
fn grouped(entries: &[&Value]) -> Vec<(String, String)> {
    let mut groups: BTreeMap<&str, (Vec<String>, String)> = BTreeMap::new();
    for entry in entries {
        let group = groups.entry(text(entry, "capability")).or_default();
        group.0.push(parameters(entry));
        if group.1.is_empty() {
            group.1 = list(entry, "evidence").first().and_then(Value::as_str).unwrap_or_default().into();
        }
    }
    let named = |(name, (parameters, seen)): (&str, (Vec<String>, String))| {
        (format!("{name} {}", parameters.join(", ")).trim_end().to_string(), seen)
    };
    groups.into_iter().map(named).collect()
}

fn out_of_reach(container: &Value) -> Vec<String> {
    let effective = list(container, "effective");
    let idle = list(container, "ambient").iter().filter(|a| !effective.iter().any(|e| same(a, e)));
    idle.map(|entry| safe(&label(entry))).collect()
}

fn same(a: &Value, b: &Value) -> bool {
    ["capability", "path", "host", "name", "port"].iter().all(|key| a.get(*key) == b.get(*key))
}

/// The capability with its parameters, such as `fs /data read-write`.
pub fn label(entry: &Value) -> String {
    format!("{} {}", text(entry, "capability"), parameters(entry)).trim_end().to_string()
}

fn parameters(entry: &Value) -> String {
    let mut words: Vec<String> = ["path", "access", "host", "name"]
        .into_iter()
        .map(|key| text(entry, key).to_string())
        .filter(|word| !word.is_empty())
        .collect();
    words.extend(entry.get("port").and_then(Value::as_u64).map(|port| format!(":{port}")));
    if entry.get("secret").and_then(Value::as_bool).unwrap_or(false) {
        words.push("(secret)".into());
    }
    words.join(" ")
}

/// Columns as wide as they need to be, but for the first, which gets what the others leave. Where a capability was seen
/// stands below its row: beside it there would be no space for it.
fn laid_out(rows: &[Row], width: usize) -> String {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| chars(cell));
        cells.chain(HEADER.get(column).map(|h| chars(h))).max().unwrap_or_default()
    };
    let mut widths: Vec<usize> = (0..HEADER.len()).map(widest).collect();
    let others: usize = widths.iter().skip(1).map(|own| own + GAP).sum();
    if let Some(first) = widths.first_mut() {
        *first = (*first).min(width.saturating_sub(INDENT + GAP + others)).max(20);
    }
    let mut out = lines(&HEADER.map(String::from), BOLD, &widths);
    for row in rows {
        out.push_str(&lines(&row.cells, row.style, &widths));
        for line in wrap(&row.seen, width.saturating_sub(INDENT + GAP)) {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(out, "{:1$}{2}", "", INDENT + GAP, paint(DIM, &line));
        }
    }
    out
}

fn lines(cells: &[String], style: Style, widths: &[usize]) -> String {
    let cells: Vec<Vec<String>> = cells.iter().zip(widths).map(|(cell, width)| wrap(cell, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or_default();
    let mut out = String::new();
    for index in 0..height {
        let mut line = " ".repeat(INDENT);
        for (cell, width) in cells.iter().zip(widths) {
            let part = cell.get(index).map(String::as_str).unwrap_or_default();
            let _ = write!(line, "{part:<width$}{:GAP$}", "");
        }
        let _ = writeln!(out, "{}", paint(style, line.trim_end()));
    }
    out
}
