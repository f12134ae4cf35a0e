//! How findings look on a terminal. Colour is written always and taken out again where nobody can see it.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::report::{Outcome, Report};
use crate::judge::JudgedViolation;
use crate::policy::Action;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Foreign text (image names, evidence) with its control characters made visible, so that it cannot drive the terminal.
fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The whole report of one object.
pub fn report(report: &Report, width: u16) -> String {
    let mut out = String::new();
    let title = format!("{} {}/{}", report.kind, report.namespace, report.name);
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "{}  {}", paint(BOLD, &safe(&title)), paint(DIM, &safe(&report.origin)));
    for container in &report.containers {
        out.push_str(&finding(container));
    }
    out.push_str(&changes(report));
    for container in &report.containers {
        out.push_str(&capabilities(container, &report.violations, width));
    }
    out.push_str(&verdict(report));
    out
}

fn finding(container: &Value) -> String {
    let mut out = String::new();
    let what = match text(container, "class") {
        "wasm" => format!("wasm {}", text(container, "kind")),
        other => other.to_string(),
    };
    let _ = writeln!(
        out,
        "\n  {} {} {}",
        paint(DIM, &role_word(text(container, "role"))),
        paint(BOLD, &safe(text(container, "name"))),
        paint(CYAN, &what)
    );
    let _ = writeln!(out, "    image     {}", safe(text(container, "image")));
    if let Some(digest) = container.get("digest").and_then(Value::as_str) {
        let _ = writeln!(out, "    digest    {}", safe(digest));
    }
    if !text(container, "packaging").is_empty() {
        let _ = writeln!(out, "    packed as {}, {}", text(container, "shape"), text(container, "packaging"));
    }
    for (index, evidence) in list(container, "evidence").iter().enumerate() {
        let label = if index == 0 { "because" } else { "" };
        let _ = writeln!(
            out,
            "    {label:<9} {} = {}",
            safe(text(evidence, "seen")),
            safe(text(evidence, "value"))
        );
    }
    if !text(container, "reason").is_empty() {
        let _ = writeln!(out, "    {}    {}", paint(YELLOW, "reason"), safe(text(container, "reason")));
    }
    for hazard in list(container, "hazards").iter().filter_map(Value::as_str) {
        let _ = writeln!(out, "    {}    {}", paint(YELLOW, "hazard"), safe(hazard));
    }
    out
}

fn role_word(role: &str) -> String {
    match role {
        "initContainer" => "init container".into(),
        "ephemeralContainer" => "ephemeral container".into(),
        "imageVolume" => "image volume".into(),
        _ => "container".into(),
    }
}

fn changes(report: &Report) -> String {
    let mut out = String::new();
    if report.changes.is_empty() {
        return out;
    }
    let _ = writeln!(out, "\n  {}", paint(BOLD, "changes"));
    if let Some((before, after)) = &report.before_after {
        out.push_str(&diff(before, after));
    }
    out
}

/// A unified diff of two objects as YAML, three lines of context.
pub fn diff(before: &Value, after: &Value) -> String {
    let (Ok(before), Ok(after)) = (serde_saphyr::to_string(before), serde_saphyr::to_string(after)) else {
        return String::new();
    };
    let diff = TextDiff::from_lines(&before, &after);
    let mut out = String::new();
    for (index, group) in diff.grouped_ops(3).iter().enumerate() {
        if index > 0 {
            let _ = writeln!(out, "    {}", paint(DIM, "…"));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ('-', RED),
                ChangeTag::Insert => ('+', GREEN),
                ChangeTag::Equal => (' ', Style::new()),
            };
            let line = safe(change.value().trim_end_matches('\n'));
            let _ = writeln!(out, "    {}", paint(style, &format!("{sign} {line}")));
        }
    }
    out
}

/// One row per capability: whether the program can call it, whether it is handed over, who grants it, and which rule says
/// something about it.
fn capabilities(container: &Value, violations: &[JudgedViolation], width: u16) -> String {
    let rows = rows(container, violations);
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width.max(60));
    table.set_header(["  CAPABILITY", "REQUIRED", "AMBIENT", "EFFECTIVE", "GRANTED BY", "SEEN"]);
    for row in rows {
        table.add_row(row);
    }
    format!(
        "\n  {} {}\n{}\n",
        paint(BOLD, "capabilities of"),
        safe(text(container, "name")),
        table.trim_fmt()
    )
}

fn rows(container: &Value, violations: &[JudgedViolation]) -> Vec<[String; 6]> {
    let found = |rule: &str, entry: &Value| rule_about(rule, container, entry, violations);
    let mut rows = Vec::new();
    let effective = list(container, "effective");
    for entry in effective {
        let granted: Vec<_> = list(entry, "coveredBy").iter().filter_map(Value::as_str).collect();
        let granted = match granted.as_slice() {
            [] => format!("nobody{}", found(NEEDS_GRANT, entry)),
            some => some.join(", "),
        };
        rows.push(row(entry, ["yes", "yes", "yes"], &granted));
    }
    for entry in list(container, "missing") {
        let fails = format!("will fail there{}", found(WILL_FAIL, entry));
        rows.push(row(entry, ["yes", "no", "no"], &fails));
    }
    for entry in list(container, "ambient").iter().filter(|a| !effective.iter().any(|e| same(a, e))) {
        rows.push(row(entry, ["no", "yes", "no"], "out of reach"));
    }
    rows
}

/// Rules of the baseline that speak of an effective entry and of a missing one.
const NEEDS_GRANT: &str = "needs-grant";
const WILL_FAIL: &str = "will-fail-there";

/// ` [rule]` where the rule found something about this capability of the container, with what became of it unless it
/// denies.
fn rule_about(rule: &str, container: &Value, entry: &Value, violations: &[JudgedViolation]) -> String {
    let about = |v: &&JudgedViolation| {
        v.violation.rule == rule
            && v.violation.container.as_deref() == Some(text(container, "name"))
            && v.violation.capability.as_deref() == Some(text(entry, "capability"))
    };
    match violations.iter().find(about) {
        None => String::new(),
        Some(found) if found.exempted.is_some() => format!(" [{rule}: excepted]"),
        Some(found) if found.action == Action::Deny => format!(" [{rule}]"),
        Some(found) => format!(" [{rule}: {}]", found.action.as_str()),
    }
}

fn row(entry: &Value, marks: [&str; 3], granted: &str) -> [String; 6] {
    let [required, ambient, effective] = marks.map(String::from);
    let seen = list(entry, "evidence").first().and_then(Value::as_str).unwrap_or_default();
    [format!("  {}", safe(&label(entry))), required, ambient, effective, safe(granted), safe(seen)]
}

/// The capability with its parameters, such as `fs /data read-write`.
pub fn label(entry: &Value) -> String {
    let mut out = text(entry, "capability").to_string();
    for key in ["path", "access", "host", "name"] {
        if !text(entry, key).is_empty() {
            let _ = write!(out, " {}", text(entry, key));
        }
    }
    if let Some(port) = entry.get("port").and_then(Value::as_u64) {
        let _ = write!(out, " :{port}");
    }
    if entry.get("secret").and_then(Value::as_bool).unwrap_or(false) {
        out.push_str(" (secret)");
    }
    out
}

fn same(a: &Value, b: &Value) -> bool {
    ["capability", "path", "host", "name", "port"].iter().all(|key| a.get(*key) == b.get(*key))
}

fn verdict(report: &Report) -> String {
    let mut out = String::new();
    let word = match report.outcome {
        Outcome::NotAWorkload => paint(DIM, "carries no pod: not for the gate"),
        Outcome::NotWasm => paint(DIM, "no Wasm: left alone"),
        Outcome::Admitted => paint(GREEN, "admitted"),
        Outcome::Warned => paint(YELLOW, "admitted with warnings"),
        Outcome::Denied => paint(RED, "denied"),
    };
    let _ = writeln!(out, "\n  {} {word}", paint(BOLD, "verdict"));
    for judged in &report.violations {
        let style = match judged.action {
            Action::Deny => RED,
            Action::Warn => YELLOW,
            Action::Audit => DIM,
        };
        let rule = paint(style, &format!("[{}]", judged.violation.rule));
        let _ = writeln!(out, "    {rule} {}", safe(&judged.violation.message));
        if let Some(exempted) = &judged.exempted {
            let line = format!(
                "excepted by WasiException {} until {}: {}",
                exempted.exception, exempted.expires_at, exempted.reason
            );
            let _ = writeln!(out, "      {}", paint(DIM, &safe(&line)));
        }
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "    {} {}", paint(YELLOW, "[warning]"), safe(warning));
    }
    out
}
