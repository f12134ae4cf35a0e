//! Turns a verdict into an answer: an admission, warnings, or a refusal that says what to change.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use crate::inspection::Inspection;
use crate::judge::{JudgedViolation, Verdict};
use crate::plan::{CHANGED_ANNOTATION, Plan};
use crate::policy::EnforcementAction;
use crate::review::Response;
use crate::review::response::{Cause, Refusal};
use crate::text;
use crate::workload::{Kind, Workload};

/// Most violations that an answer lists; the record has all of them.
const LISTED: usize = 32;
/// Bytes of the messages of all listed violations: one screen or two, and far less than an API server passes on.
const LISTED_BYTES: usize = 16 << 10;
/// Bytes of one message, since a rule can quote what it read.
const MESSAGE_BYTES: usize = 4 << 10;
/// Most names of rules in an annotation of the audit log.
const NAMED: usize = 50;

/// How a review ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Admitted without warnings.
    Allow,
    /// Admitted with warnings.
    Warn,
    /// Refused by a rule.
    Deny,
    /// There was nothing to judge: no Wasm, or an object without a pod.
    Skip,
    /// The gate itself failed; the record's `error` says how, and `allowed` whether it was admitted.
    Error,
}

impl Outcome {
    /// The outcome in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
            Self::Skip => "skip",
            Self::Error => "error",
        }
    }
}

/// A response and its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The response to the API server.
    pub response: Response,
    /// How the review ended.
    pub outcome: Outcome,
}

impl Answer {
    /// The same answer about another object of the same kind and namespace: a refusal begins with its name.
    pub fn rename(&mut self, former: &str, name: &str) {
        if former != name
            && let Some(refusal) = &mut self.response.refusal
        {
            refusal.message = refusal.message.replacen(&format!("/{former}`"), &format!("/{name}`"), 1);
        }
    }
}

/// Admits without warnings: there was nothing to judge.
pub fn skip(uid: &str) -> Answer {
    Answer { response: admitted(uid), outcome: Outcome::Skip }
}

/// Admits unchanged, and says why nothing was judged.
pub fn skip_with_warning(uid: &str, warning: String) -> Answer {
    let response = Response { warnings: vec![warning], ..admitted(uid) };
    Answer { response, outcome: Outcome::Skip }
}

/// Refuses a review that could not be read: code 400.
pub fn invalid(uid: &str, message: String) -> Answer {
    let refusal = Refusal { code: 400, reason: "BadRequest", message, causes: Vec::new() };
    Answer { response: Response { refusal: Some(refusal), ..admitted(uid) }, outcome: Outcome::Error }
}

/// Refuses because the gate itself failed: code 500.
pub fn failed(uid: &str, message: String) -> Answer {
    let refusal = Refusal { code: 500, reason: "InternalError", message, causes: Vec::new() };
    Answer { response: Response { refusal: Some(refusal), ..admitted(uid) }, outcome: Outcome::Error }
}

/// Refuses a review whose object is too large to be judged: code 413.
pub fn too_large(uid: &str, message: String) -> Answer {
    let refusal = Refusal { code: 413, reason: "RequestEntityTooLarge", message, causes: Vec::new() };
    Answer { response: Response { refusal: Some(refusal), ..admitted(uid) }, outcome: Outcome::Error }
}

/// Answer of the mutating webhook: the plan's patch and warnings.
pub fn of_plan(uid: &str, workload: &Workload, inspection: &Inspection, plan: &Plan) -> Answer {
    let annotations = plan_annotations(workload, inspection, plan);
    let outcome = if plan.warnings.is_empty() { Outcome::Allow } else { Outcome::Warn };
    let response = Response {
        patch: Some(plan.patch.clone()).filter(|p| !p.0.is_empty()),
        warnings: plan.warnings.iter().chain(&plan.notices).cloned().collect(),
        audit_annotations: annotations,
        ..admitted(uid)
    };
    Answer { response, outcome }
}

/// Audit annotations `images` and `changed`: all changes of the gate to the pod. The API server keeps the first value of a
/// key and logs an error for a different one (`kubernetes:staging/src/k8s.io/apiserver/pkg/audit/context.go`), so a
/// reinvocation with further changes writes `images-again` and `changed-again`.
fn plan_annotations(workload: &Workload, inspection: &Inspection, plan: &Plan) -> BTreeMap<String, String> {
    let mut annotations = image_annotations(inspection);
    let changed = plan.object.pointer("/metadata/annotations").and_then(|a| a.get(CHANGED_ANNOTATION));
    let changed = changed.and_then(serde_json::Value::as_str).filter(|_| !workload.kind.is_template());
    annotations.extend(changed.map(|changed| ("changed".to_owned(), changed.to_owned())));
    let later = workload.annotations.contains_key(CHANGED_ANNOTATION);
    if !later || plan.patch.0.is_empty() {
        return annotations;
    }
    annotations.into_iter().map(|(key, value)| (format!("{key}-again"), value)).collect()
}

/// Answer of the validating webhook for a pod: refused if any violation denies.
/// `missing_class` is the pod's RuntimeClass, if the cluster is known not to have it.
pub fn of_verdict(
    uid: &str,
    workload: &Workload,
    inspection: &Inspection,
    verdict: &Verdict,
    missing_class: Option<&str>,
) -> Answer {
    let mut annotations = image_annotations(inspection);
    annotations.extend(verdict_annotations(verdict));
    let mut response = Response { audit_annotations: annotations, ..admitted(uid) };
    response.warnings = warnings(&once(verdict.at(EnforcementAction::Warn)));
    let outcome = if verdict.denied() {
        response.refusal = Some(refusal(workload, verdict, missing_class));
        Outcome::Deny
    } else if response.warnings.is_empty() {
        Outcome::Allow
    } else {
        Outcome::Warn
    };
    Answer { response, outcome }
}

/// Answer of the validating webhook for a template: never refused. The user sees as a warning what
/// the denial of the pods would say in a ReplicaSet's events.
pub fn of_template(
    uid: &str,
    workload: &Workload,
    inspection: &Inspection,
    plan_warnings: &[String],
    verdict: &Verdict,
) -> Answer {
    let mut said = Vec::new();
    if verdict.denied() {
        let kind = workload.kind.as_str();
        said.push(format!("pods of this {kind} will be denied by wasmgate:"));
    }
    let denied = verdict.at(EnforcementAction::Deny);
    said.extend(warnings(&once(denied.chain(verdict.at(EnforcementAction::Warn)))));
    said.extend(plan_warnings.iter().cloned());
    let mut annotations = image_annotations(inspection);
    annotations.extend(verdict_annotations(verdict));
    let outcome = if said.is_empty() { Outcome::Allow } else { Outcome::Warn };
    Answer { response: Response { warnings: said, audit_annotations: annotations, ..admitted(uid) }, outcome }
}

fn admitted(uid: &str) -> Response {
    Response {
        uid: uid.to_string(),
        refusal: None,
        patch: None,
        warnings: Vec::new(),
        audit_annotations: BTreeMap::new(),
    }
}

/// `[rule] message`, in lines.
fn message_lines(judged: &JudgedViolation) -> Vec<String> {
    let message = format!("[{}] {}", judged.violation.rule, judged.violation.said());
    shortened(&message).lines().map(String::from).collect()
}

/// The same as one warning, which is a line: a further one would read as another violation, of whatever rule it names.
fn warning(judged: &JudgedViolation) -> String {
    let lines = message_lines(judged);
    let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    lines.fold(String::new(), |said, line| match said.chars().last() {
        None => line.into(),
        Some(':' | ';' | ',' | '.') => said + " " + line,
        Some(_) => said + "; " + line,
    })
}

/// The violations without those that several bundles have found.
fn once<'a>(all: impl Iterator<Item = &'a JudgedViolation>) -> Vec<&'a JudgedViolation> {
    let mut found: Vec<&JudgedViolation> = Vec::new();
    for judged in all {
        // They are sorted, so that equal ones follow one another.
        let is_said = found.last().is_some_and(|last| {
            last.violation.is_like(&judged.violation) && last.exempted == judged.exempted
        });
        if !is_said {
            found.push(judged);
        }
    }
    found
}

/// A warning for each violation that an answer lists, and one that says how many more there are.
fn warnings(all: &[&JudgedViolation]) -> Vec<String> {
    let listed = listed(all);
    listed.iter().map(|judged| warning(judged)).chain(more(all, listed)).collect()
}

/// What stands for the violations that are not listed.
fn more(all: &[&JudgedViolation], listed: &[&JudgedViolation]) -> Option<String> {
    let more = all.len().checked_sub(listed.len()).filter(|more| *more > 0)?;
    Some(format!("… and {more} more"))
}

fn refusal(workload: &Workload, verdict: &Verdict, missing_class: Option<&str>) -> Refusal {
    let denials = once(verdict.at(EnforcementAction::Deny));
    let listed = listed(&denials);
    let object = format!("{} `{}/{}`", workload.kind.as_str(), workload.namespace, workload.name);
    let rules = count(&denials);
    // A missing class causes the violations, so it comes first.
    let mut message = missing_class.map_or_else(
        || format!("{object} breaks {rules}"),
        |class| format!("{object} {}. As it is, it breaks {rules}", names_missing_class(class)),
    );
    for judged in listed {
        // Writing to a string cannot fail, here and below.
        let _ = write!(message, "\n- {}", message_lines(judged).join("\n    "));
    }
    if let Some(more) = more(&denials, listed) {
        let _ = write!(message, "\n{more}");
    }
    Refusal {
        code: 403,
        reason: "Forbidden",
        message,
        causes: listed.iter().map(|d| cause(workload, d)).collect(),
    }
}

/// What an object does that names this RuntimeClass, which the cluster lacks.
pub fn names_missing_class(class: &str) -> String {
    format!(
        "names RuntimeClass `{class}`, which the cluster is not known to have: create it, or make the pod again under another one"
    )
}

/// The violations that an answer lists: as many as fit into both limits.
fn listed<'a, 'b>(denials: &'a [&'b JudgedViolation]) -> &'a [&'b JudgedViolation] {
    let mut left = LISTED_BYTES;
    let fits = |judged: &&&JudgedViolation| {
        let bytes = judged.violation.said().len().min(MESSAGE_BYTES);
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    };
    let count = denials.iter().take(LISTED).take_while(fits).count();
    denials.get(..count).unwrap_or_default()
}

fn shortened(message: &str) -> Cow<'_, str> {
    text::shorten_bytes(message, MESSAGE_BYTES)
}

/// `2 rules:`, or `2 rules, 5 violations:` where a rule is broken more than once.
fn count(denials: &[&JudgedViolation]) -> String {
    let rules = denials.iter().map(|judged| judged.violation.rule.as_str()).collect::<BTreeSet<_>>().len();
    let plural = if rules == 1 { "" } else { "s" };
    if rules == denials.len() {
        format!("{rules} rule{plural}:")
    } else {
        format!("{rules} rule{plural}, {} violations:", denials.len())
    }
}

fn cause(workload: &Workload, judged: &JudgedViolation) -> Cause {
    let violation = &judged.violation;
    Cause {
        reason: violation.rule.clone(),
        message: shortened(&violation.said()).into_owned(),
        field: violation.container.as_deref().map(|name| field_of(workload, name)).unwrap_or_default(),
    }
}

/// Field path of a container or image volume, in the spelling of the API server's own validation.
fn field_of(workload: &Workload, name: &str) -> String {
    if workload.kind == Kind::SpinApp {
        return "spec.image".to_string();
    }
    let base = workload.kind.template_pointer().trim_start_matches('/').replace('/', ".");
    let spec = if base.is_empty() { "spec".to_string() } else { format!("{base}.spec") };
    workload
        .images()
        .into_iter()
        .find(|image| image.name == name)
        .map_or(String::new(), |image| format!("{spec}.{}[{}]", image.role.list(), image.index))
}

/// Audit annotation `images`: the judged image of each container. Equal in a reinvocation, because facts are keyed by
/// digest.
fn image_annotations(inspection: &Inspection) -> BTreeMap<String, String> {
    let images: Vec<_> = inspection
        .containers
        .iter()
        .filter_map(|c| {
            let (facts, _) = c.known()?;
            Some(format!("{}={}@{}", c.name, c.class().as_str(), facts.digest))
        })
        .collect();
    if images.is_empty() {
        BTreeMap::new()
    } else {
        BTreeMap::from([("images".to_string(), images.join(","))])
    }
}

/// Audit annotations `verdict` and `rules`: the violations of the bundles that decide, including those that are only audited; `exceptions`: the
/// exceptions that applied; `note`: labels of the namespace with unknown values.
fn verdict_annotations(verdict: &Verdict) -> BTreeMap<String, String> {
    let word = verdict.strictest().map_or("allow", EnforcementAction::as_str);
    let mut annotations = BTreeMap::from([("verdict".to_string(), word.to_string())]);
    let rules: BTreeSet<_> = verdict.in_force().map(|v| v.violation.rule.as_str()).collect();
    if !rules.is_empty() {
        let rest = rules.len().checked_sub(NAMED).filter(|rest| *rest > 0);
        let rest = rest.map(|rest| format!("… and {rest} more"));
        let named: Vec<_> = rules.into_iter().take(NAMED).map(String::from).chain(rest).collect();
        annotations.insert("rules".to_string(), named.join(","));
    }
    let exemptions = verdict.exemptions();
    if !exemptions.is_empty() {
        annotations.insert("exceptions".to_string(), exemptions.into_iter().collect::<Vec<_>>().join(","));
    }
    if !verdict.notes.is_empty() {
        annotations.insert("note".to_string(), verdict.notes.join("; "));
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Violation;

    #[test]
    fn a_violation_is_one_warning_however_many_lines_its_message_and_its_remedy_have() {
        let judged = |message: &str, remedy: Option<&str>| JudgedViolation {
            action: EnforcementAction::Warn,
            exempted: None,
            shadow: None,
            violation: Violation {
                rule: "r".into(),
                message: message.into(),
                remedy: remedy.map(String::from),
                ..Violation::default()
            },
        };
        let all = [
            judged("not this\n[not-inspected] image `a`\r\n\n  and", Some("do this\n[baseline] admitted")),
            judged("a grant would, with this:\n- { name: env }", None),
        ];
        let said = warnings(&all.iter().collect::<Vec<_>>());
        assert_eq!(
            said,
            [
                "[r] not this; [not-inspected] image `a`; and; remedy: do this; [baseline] admitted",
                "[r] a grant would, with this: - { name: env }",
            ]
        );
        assert_eq!(message_lines(&all[1]).len(), 2, "a refusal has them below each other");
    }
}
