//! The table of capabilities: first what needs a decision; what needs none fits on one line.

use std::collections::BTreeMap;

use anstyle::Style;

use super::table::{Row, Table};
use super::words::{BOLD, DIM, PLAIN, RED, YELLOW, cell, hanging, paint};
use crate::capability::{Capability, Entry};
use crate::cli::report::{Capabilities, Container};
use crate::judge::JudgedViolation;
use crate::policy::EnforcementAction;
use crate::text;

/// The evidence is below each row, because there is no space beside it.
const TABLE: Table<5> = Table {
    header: ["CAPABILITY", "REQUIRED", "AMBIENT", "EFFECTIVE", "GRANTED BY"],
    indent: 4,
    broken: 0,
    narrowest: 20,
};
/// Value of `coveredBy` for capabilities that need no grant.
const DEFAULT: &str = "default";

/// One row per capability that the program can call: whether the runtime hands it over, and the grant that covers it or
/// the rule that reports it. One line at the end lists what is handed over but never called.
pub(super) fn table(container: &Container, violations: &[JudgedViolation], width: u16) -> String {
    let Some(capabilities) = &container.capabilities else { return String::new() };
    let name = container.found.name.as_str();
    let rows = rows(name, capabilities, violations);
    let idle = out_of_reach(capabilities);
    if rows.is_empty() && idle.is_empty() {
        return String::new();
    }
    let mut out = format!("\n  {} {}\n", paint(BOLD, "capabilities of"), text::visible(name));
    if !rows.is_empty() {
        out.push_str(&TABLE.text(&rows, usize::from(width)));
    }
    if !idle.is_empty() {
        let label = format!("    {} ", paint(DIM, "handed over, never called:"));
        out.push_str(&hanging(&label, 31, &idle.join(", "), width));
    }
    out
}

fn rows(container: &str, capabilities: &Capabilities, violations: &[JudgedViolation]) -> Vec<Row<5>> {
    let decided = |entry: &Entry| deciding(container, entry, violations);
    let effective = capabilities.effective.iter().map(|effective| &effective.entry);
    let (open, covered): (Vec<&Entry>, Vec<&Entry>) =
        effective.partition(|entry| entry.covered_by.is_empty());
    let (by_default, granted): (Vec<&Entry>, Vec<&Entry>) =
        covered.into_iter().partition(|entry| granters(entry) == DEFAULT);
    let mut rows = Vec::new();
    rows.extend(
        open.into_iter()
            .map(|e| row(&e.label(), [true, true], &format!("none{}", decided(e)), &seen(e), RED)),
    );
    rows.extend(capabilities.missing.iter().map(|e| {
        row(&e.label(), [true, false], &format!("will fail there{}", decided(e)), &seen(e), YELLOW)
    }));
    rows.extend(granted.into_iter().map(|e| row(&e.label(), [true, true], &granters(e), &seen(e), PLAIN)));
    rows.extend(
        grouped(&by_default).into_iter().map(|(name, seen)| row(&name, [true, true], DEFAULT, &seen, DIM)),
    );
    rows
}

/// ` [rule]` for every rule that reports this capability of the container, with the action unless it denies.
fn deciding(container: &str, entry: &Entry, violations: &[JudgedViolation]) -> String {
    // Capabilities by way of the kernel's files are decided together with the native code that they enable.
    let capability = if entry.opens { Capability::NativeExec } else { entry.capability };
    let about = |v: &&JudgedViolation| {
        v.shadow.is_none()
            && v.violation.container.as_deref() == Some(container)
            && v.violation.capability.as_deref() == Some(capability.as_str())
    };
    let word = |v: &JudgedViolation| match (&v.exempted, v.action) {
        (Some(_), _) => format!(" [{}: excepted]", v.violation.rule),
        (None, EnforcementAction::Deny) => format!(" [{}]", v.violation.rule),
        (None, action) => format!(" [{}: {}]", v.violation.rule, action.as_str()),
    };
    violations.iter().filter(about).map(word).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn row(name: &str, [required, ambient]: [bool; 2], granted: &str, seen: &str, style: Style) -> Row<5> {
    let mark = |yes: bool| if yes { "yes" } else { "no" }.to_string();
    let shown = |text: &str| text::visible(text).into_owned();
    let cells = [shown(name), mark(required), mark(ambient), mark(required && ambient), cell(granted)];
    Row { cells, styles: [style; 5], below: Some(shown(seen)) }
}

fn granters(entry: &Entry) -> String {
    entry.covered_by.join(", ")
}

fn seen(entry: &Entry) -> String {
    entry.evidence.join("; ")
}

/// One line for each capability that needs no grant, for all of its parameters.
fn grouped(entries: &[&Entry]) -> Vec<(String, String)> {
    let mut groups: BTreeMap<&str, (Vec<String>, String)> = BTreeMap::new();
    for entry in entries {
        let group = groups.entry(entry.capability.as_str()).or_default();
        group.0.push(entry.parameters());
        if group.1.is_empty() {
            group.1 = entry.evidence.first().cloned().unwrap_or_default();
        }
    }
    let named = |(name, (parameters, seen)): (&str, (Vec<String>, String))| {
        (format!("{name} {}", parameters.join(", ")).trim_end().to_string(), seen)
    };
    groups.into_iter().map(named).collect()
}

fn out_of_reach(capabilities: &Capabilities) -> Vec<String> {
    let effective = || capabilities.effective.iter().map(|effective| &effective.entry);
    let idle = capabilities.ambient.iter().filter(|a| !effective().any(|e| same(a, e)));
    idle.map(|entry| text::visible(&entry.label()).into_owned()).collect()
}

fn same(a: &Entry, b: &Entry) -> bool {
    let of = |entry: &'_ Entry| (entry.capability, entry.port);
    of(a) == of(b) && (&a.path, &a.host, &a.name) == (&b.path, &b.host, &b.name)
}
