//! Renders findings for a terminal. Colour is always written; the output stream strips it where it is not supported.

mod capabilities;
mod table;
mod words;

use std::fmt::Write as _;

use anstyle::Style;
use serde_json::Value;
use serde_saphyr::SerializerOptions;
use similar::{ChangeTag, TextDiff};

use super::report::{BundleWarning, ExplainOutcome, ImageReport, ObjectReport};
use crate::image::Evidence;
use crate::inspection::ProgramClass;
use crate::judge::JudgedViolation;
use crate::policy::{Annotations, EnforcementAction};
use crate::text;
use crate::workload::Role;

pub(super) use table::{Row, Table};
pub(super) use words::{BOLD, DIM, GREEN, PLAIN, RED, YELLOW, cell, counted, paint, wrap};
use words::{CYAN, hanging, word_of};

/// Column where the text of a finding begins.
const TEXT_COLUMN: usize = 14;
/// Column where the lines of a verdict begin.
const VERDICT_COLUMN: usize = 6;

/// The title of a report.
pub(super) fn title(text: &str) -> String {
    paint(BOLD, text)
}

/// The whole report of one object. The title has the verdict for readers who start at the top; the end has all of it,
/// since that is what a terminal shows.
pub fn report(report: &ObjectReport, width: u16) -> String {
    let title = format!("{} {}/{}", report.kind, report.namespace, report.name);
    let title = text::visible(&title);
    let origin = paint(DIM, &text::visible(&report.origin));
    let mut out = format!("{}  {}  {origin}\n", paint(BOLD, &title), outcome(report));
    for container in &report.containers {
        out.push_str(&found(&container.found, width));
    }
    out.push_str(&changes(report));
    for container in &report.containers {
        out.push_str(&capabilities::table(container, &report.violations, width));
    }
    out.push_str(&verdict(report, width));
    if let Some(input) = &report.input {
        let text = serde_json::to_string_pretty(input).unwrap_or_default();
        let _ = writeln!(out, "\n  {}\n{}", paint(BOLD, "input of the policies"), indented(&text));
    }
    out
}

/// A line for each warning about a bundle.
pub fn bundle_warnings(warnings: &[BundleWarning]) -> String {
    let line = |BundleWarning { bundle, message }: &BundleWarning| {
        let said = format!("policy bundle `{bundle}`: {message}");
        format!("{} {}\n", paint(YELLOW, "warning:"), text::line(&said))
    };
    warnings.iter().map(line).collect()
}

/// One line about all objects.
pub fn summary(reports: &[&ObjectReport]) -> String {
    let mut counts: Vec<(ExplainOutcome, usize)> = Vec::new();
    for report in reports {
        match counts.iter_mut().find(|(outcome, _)| *outcome == report.outcome) {
            Some((_, count)) => *count += 1,
            None => counts.push((report.outcome, 1)),
        }
    }
    let parts: Vec<_> =
        counts.into_iter().map(|(outcome, count)| format!("{count} {}", word(outcome))).collect();
    format!("{} {}\n", paint(BOLD, &format!("{} objects:", reports.len())), parts.join(", "))
}

/// A template is admitted even when its pods would be denied: the server only warns.
fn outcome(report: &ObjectReport) -> String {
    match report.outcome {
        // One that cannot be read is itself refused, and not its pods alone.
        ExplainOutcome::Denied if report.kind != "Pod" && report.error.is_none() => {
            format!("{}: {}", paint(YELLOW, "admitted with warnings"), paint(RED, "its pods will be denied"))
        }
        other => word(other),
    }
}

fn word(outcome: ExplainOutcome) -> String {
    match outcome {
        ExplainOutcome::NotJudged => paint(DIM, "not judged: the gate does not know this kind"),
        ExplainOutcome::CompletedByOthers => paint(
            DIM,
            "not judged: parts of its pods come from other objects, and the pods are judged when created",
        ),
        ExplainOutcome::NoTemplate => {
            paint(YELLOW, "not judged: it has no pod template where its kind has one")
        }
        ExplainOutcome::NotWasm => paint(DIM, "no Wasm: left alone"),
        ExplainOutcome::Exempt => paint(DIM, "exempt namespace: left alone"),
        ExplainOutcome::Skipped => paint(DIM, "left alone"),
        ExplainOutcome::Unreadable => paint(RED, "could not be read: left alone"),
        ExplainOutcome::Unread => paint(YELLOW, "admitted unchanged; an image could not be read"),
        ExplainOutcome::Unrecognised => paint(YELLOW, "admitted unchanged; it is not known what starts"),
        ExplainOutcome::Admitted => paint(GREEN, "admitted"),
        ExplainOutcome::Warned => paint(YELLOW, "admitted with warnings"),
        ExplainOutcome::Denied => paint(RED, "denied"),
    }
}

fn found(found: &ImageReport, width: u16) -> String {
    let mut out = String::new();
    let what = match (found.class, found.kind) {
        (ProgramClass::Wasm, Some(kind)) => format!("wasm {}", kind.as_str()),
        (class, _) => class.as_str().to_string(),
    };
    let role = paint(DIM, role_word(found.role));
    let name = paint(BOLD, &text::visible(&found.name));
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "\n  {role} {name} {}", paint(CYAN, &what));
    // Not wrapped, so that it can be copied.
    let _ = writeln!(out, "    image     {}", text::visible(&found.image));
    let mut line = |style: Style, label: &str, value: &str| {
        let label = format!("    {}", paint(style, &format!("{label:<10}")));
        out.push_str(&hanging(&label, TEXT_COLUMN, &text::line(value), width));
    };
    if let Some(digest) = found.digest.as_deref().filter(|digest| !found.image.ends_with(digest)) {
        line(PLAIN, "digest", digest);
    }
    if let Some((packaging, shape)) = found.packaging.zip(found.shape) {
        line(PLAIN, "packed as", &format!("{}, {}", word_of(shape), word_of(packaging)));
    }
    for (index, evidence) in found.evidence.iter().enumerate() {
        let label = if index == 0 { "because" } else { "" };
        line(PLAIN, label, &format!("{} = {}", evidence.seen, evidence.value));
    }
    if let Some(reason) = &found.reason {
        line(YELLOW, "reason", reason);
    }
    for (engine, evidence) in &found.interpreters {
        line(YELLOW, "carries", &carried(engine, evidence.as_ref()));
    }
    for warning in &found.warnings {
        line(YELLOW, "warning", warning);
    }
    out
}

/// The line about an interpreter; `suggest` says how to narrow the image.
fn carried(engine: &str, seen: Option<&Evidence>) -> String {
    let seen = seen.map(|e| format!(" ({}: {})", e.seen, e.value)).unwrap_or_default();
    format!(
        "the interpreter {engine}{seen}: it can call everything that its standard library can; `wasmgate suggest` says how to \
         narrow the image"
    )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {}", text::visible(line))).collect::<Vec<_>>().join("\n")
}

const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Container => "container",
        Role::InitContainer => "init container",
        Role::EphemeralContainer => "ephemeral container",
        Role::ImageVolume => "image volume",
    }
}

fn changes(report: &ObjectReport) -> String {
    match &report.before_after {
        Some((before, after)) if !report.changes.is_empty() => {
            // The gate never patches a template but its pods, when they are created.
            let heading =
                if report.kind == "Pod" { "changes" } else { "changes to the pods that are created from it" };
            format!("\n  {}\n{}", paint(BOLD, heading), diff(before, after))
        }
        _ => String::new(),
    }
}

/// A unified diff of two objects as YAML, with three lines of context.
fn diff(before: &Value, after: &Value) -> String {
    let (Some(before), Some(after)) = (yaml(before), yaml(after)) else { return String::new() };
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
                ChangeTag::Equal => (' ', PLAIN),
            };
            let line = text::visible(change.value().trim_end_matches('\n'));
            let _ = writeln!(out, "    {}", paint(style, format!("{sign} {line}").trim_end()));
        }
    }
    out
}

/// YAML with each value on one line, so that long image names are easy to compare.
fn yaml(value: &Value) -> Option<String> {
    let mut options = SerializerOptions::default();
    options.prefer_block_scalars = false;
    serde_saphyr::to_string_with_options(value, options).ok()
}

fn verdict(report: &ObjectReport, width: u16) -> String {
    let mut out = format!("\n  {} {}\n", paint(BOLD, "verdict"), outcome(report));
    if let Some(missing) = &report.missing_class {
        let line = format!("the object {}", text::line(missing));
        out.push_str(&hanging(&format!("    {} ", paint(RED, "[class]")), VERDICT_COLUMN, &line, width));
    }
    for judged in &report.violations {
        out.push_str(&violation(judged, width));
    }
    if let Some(grant) = &report.suggested_grant {
        let _ = writeln!(out, "    {}", paint(BOLD, "this grant would cover it all:"));
        for line in grant.lines() {
            let _ = writeln!(out, "{:1$}{2}", "", VERDICT_COLUMN, text::line(line));
        }
    }
    let error = report.error.iter().map(|line| (paint(RED, "[error]"), line));
    let warnings = report.remarks.iter().map(|line| (paint(YELLOW, "[warning]"), line));
    let notices = report.notices.iter().map(|line| (paint(DIM, "[note]"), line));
    for (label, line) in error.chain(warnings).chain(notices) {
        out.push_str(&hanging(&format!("    {label} "), VERDICT_COLUMN, &text::line(line), width));
    }
    out
}

/// A message. Its first line says what is wrong; further lines hold the grant that would help.
fn violation(judged: &JudgedViolation, width: u16) -> String {
    let style = match judged.action {
        EnforcementAction::Deny => RED,
        EnforcementAction::Warn => YELLOW,
        EnforcementAction::Audit => DIM,
    };
    let said = judged.violation.said();
    let mut lines = said.lines();
    let rule = format!("[{}]", text::visible(&judged.violation.rule));
    let first = format!("{rule} {}", text::line(lines.next().unwrap_or_default()));
    let wrapped = hanging("    ", VERDICT_COLUMN, &first, width);
    let mut out = wrapped.replacen(&rule, &paint(style, &rule), 1);
    for line in lines {
        let _ = writeln!(out, "{:1$}{2}", "", VERDICT_COLUMN + 2, text::line(line));
    }
    let line = |line: &str| format!("{:1$}{2}\n", "", VERDICT_COLUMN + 2, paint(DIM, &text::line(line)));
    if let Some(about) = judged.violation.annotations.as_deref().and_then(about) {
        out.push_str(&line(&about));
    }
    if let (Some(action), Some(bundle)) = (judged.shadow, &judged.violation.bundle) {
        let shadow = format!("bundle `{bundle}` runs in the shadow; in force it would {}", action.as_str());
        out.push_str(&line(&shadow));
    }
    if let Some(exempted) = &judged.exempted {
        out.push_str(&line(&format!(
            "excepted by WasiException {} until {}: {}",
            exempted.exception, exempted.expires_at, exempted.reason
        )));
    }
    out
}

/// What METADATA says of a rule, in one line.
fn about(annotations: &Annotations) -> Option<String> {
    let named = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
    let Annotations { title, severity, category, .. } = annotations;
    let parts = [title.clone(), named("severity", severity), named("category", category)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
