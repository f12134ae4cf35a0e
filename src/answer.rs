//! Turns a verdict into an answer: an admission, warnings, or a refusal that says what to change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use crate::inspection::Inspection;
use crate::judge::{JudgedViolation, Verdict};
use crate::plan::{CHANGED_ANNOTATION, Plan};
use crate::policy::EnforcementAction;
use crate::review::Response;
use crate::review::response::{Cause, Refusal};
use crate::workload::{Kind, Workload};

/// Violations that one answer shows; a person mends a few and tries again, and the record has them all.
const MAX_SHOWN: usize = 20;
/// Bytes of their messages together.
const MAX_SHOWN_BYTES: usize = 16 << 10;
/// Names of rules in an annotation of the audit log.
const MAX_NAMED: usize = 50;

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
    response.warnings = Shown::of(verdict.at(EnforcementAction::Warn)).lines();
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
    let mut warnings = Vec::new();
    if verdict.denied() {
        let kind = workload.kind.as_str();
        warnings.push(format!("pods of this {kind} will be denied by wasmgate:"));
    }
    let denied = verdict.at(EnforcementAction::Deny);
    warnings.extend(Shown::of(denied.chain(verdict.at(EnforcementAction::Warn))).lines());
    warnings.extend(plan_warnings.iter().cloned());
    let mut annotations = image_annotations(inspection);
    annotations.extend(verdict_annotations(verdict));
    let outcome = if warnings.is_empty() { Outcome::Allow } else { Outcome::Warn };
    Answer { response: Response { warnings, audit_annotations: annotations, ..admitted(uid) }, outcome }
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

/// The violations that an answer shows, in their order, and how many it leaves out.
struct Shown<'a> {
    judged: Vec<&'a JudgedViolation>,
    left_out: usize,
}

impl<'a> Shown<'a> {
    /// As many as fit into an answer, and one at least.
    fn of(all: impl Iterator<Item = &'a JudgedViolation>) -> Self {
        let (mut judged, mut bytes, mut left_out) = (Vec::new(), 0_usize, 0);
        for one in all {
            bytes = bytes.saturating_add(one.violation.message.len());
            let fits = judged.len() < MAX_SHOWN && bytes <= MAX_SHOWN_BYTES;
            if left_out == 0 && (fits || judged.is_empty()) {
                judged.push(one);
            } else {
                left_out += 1;
            }
        }
        Self { judged, left_out }
    }

    /// What stands for those that are left out.
    fn rest(&self) -> Option<String> {
        (self.left_out > 0).then(|| format!("… and {} more", self.left_out))
    }

    /// Lines for kubectl.
    fn lines(&self) -> Vec<String> {
        self.judged.iter().flat_map(|judged| warning_lines(judged)).chain(self.rest()).collect()
    }
}

/// A message as far as it fits into an answer.
fn message(judged: &JudgedViolation) -> String {
    let message = &judged.violation.message;
    if message.len() <= MAX_SHOWN_BYTES {
        return message.clone();
    }
    let mut shown: String = message.chars().take(MAX_SHOWN_BYTES / 4).collect();
    shown.push('…');
    shown
}

/// Lines for kubectl: `[rule] message`; further lines of the message follow.
fn warning_lines(judged: &JudgedViolation) -> Vec<String> {
    format!("[{}] {}", judged.violation.rule, message(judged)).lines().map(String::from).collect()
}

fn refusal(workload: &Workload, verdict: &Verdict, missing_class: Option<&str>) -> Refusal {
    let denials = Shown::of(verdict.at(EnforcementAction::Deny));
    let object = format!("{} `{}/{}`", workload.kind.as_str(), workload.namespace, workload.name);
    let broken: BTreeSet<_> =
        verdict.at(EnforcementAction::Deny).map(|judged| judged.violation.rule.as_str()).collect();
    let rules = rules(broken.len());
    // A missing class causes the violations, so it comes first.
    let mut text = missing_class.map_or_else(
        || format!("{object} breaks {rules}"),
        |class| {
            format!(
                "{object} names RuntimeClass `{class}`, which the cluster is not known to have: create it, or make the pod \
                 again under another one. As it is, it breaks {rules}"
            )
        },
    );
    for judged in &denials.judged {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n- {}", warning_lines(judged).join("\n    "));
    }
    if let Some(rest) = denials.rest() {
        let _ = write!(text, "\n- {rest}");
    }
    Refusal {
        code: 403,
        reason: "Forbidden",
        message: text,
        causes: denials.judged.into_iter().map(|d| cause(workload, d)).collect(),
    }
}

fn rules(count: usize) -> String {
    if count == 1 { "1 rule:".to_string() } else { format!("{count} rules:") }
}

fn cause(workload: &Workload, judged: &JudgedViolation) -> Cause {
    let violation = &judged.violation;
    Cause {
        reason: violation.rule.clone(),
        message: message(judged),
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

/// Audit annotations `verdict` and `rules`: the violations, including those that are only audited; `exceptions`: the
/// exceptions that applied; `note`: labels of the namespace with unknown values.
fn verdict_annotations(verdict: &Verdict) -> BTreeMap<String, String> {
    let word = verdict.strictest().map_or("allow", EnforcementAction::as_str);
    let mut annotations = BTreeMap::from([("verdict".to_string(), word.to_string())]);
    let rules: BTreeSet<_> = verdict.violations.iter().map(|v| v.violation.rule.as_str()).collect();
    if !rules.is_empty() {
        let left_out = rules.len().saturating_sub(MAX_NAMED);
        let rest = (left_out > 0).then(|| format!("… and {left_out} more"));
        let named: Vec<_> = rules.into_iter().take(MAX_NAMED).map(String::from).chain(rest).collect();
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

    fn judged(rule: &str, message: &str) -> JudgedViolation {
        let violation = Violation {
            rule: rule.into(),
            message: message.into(),
            container: None,
            capability: None,
            action: None,
            mended_by: None,
        };
        JudgedViolation { action: EnforcementAction::Deny, exempted: None, violation }
    }

    fn workload() -> Workload {
        let pod = br#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": []}}"#;
        crate::workload::read(std::str::from_utf8(pod).unwrap(), Kind::Pod, "shop").unwrap()
    }

    #[test]
    fn a_refusal_counts_rules_and_shows_as_many_violations_as_a_person_reads() {
        let violations = (0..37).map(|index| judged(if index < 30 { "a" } else { "b" }, &index.to_string()));
        let verdict = Verdict { violations: violations.collect(), ..Verdict::default() };
        let refusal = refusal(&workload(), &verdict, None);
        assert!(
            refusal.message.starts_with("Pod `shop/web` breaks 2 rules:\n- [a] 0\n"),
            "{}",
            refusal.message
        );
        assert!(refusal.message.ends_with("\n- [a] 19\n- … and 17 more"), "{}", refusal.message);
        assert_eq!(refusal.causes.len(), 20);
    }

    #[test]
    fn long_messages_are_cut_and_few() {
        let long = "é".repeat(1 << 20);
        let verdict =
            Verdict { violations: vec![judged("a", &long), judged("b", &long)], ..Verdict::default() };
        let refusal = refusal(&workload(), &verdict, None);
        assert!(refusal.message.len() < 10_000, "{}", refusal.message.len());
        assert!(refusal.message.ends_with("é…\n- … and 1 more"));
        assert!(refusal.causes[0].message.len() < 10_000);
    }

    #[test]
    fn an_annotation_names_a_bounded_number_of_rules() {
        let violations = (0..60).map(|index| judged(&format!("rule-{index:02}"), "m")).collect();
        let verdict = Verdict { violations, ..Verdict::default() };
        let named = &verdict_annotations(&verdict)["rules"];
        assert!(named.ends_with(",rule-49,… and 10 more"), "{named}");
    }
}
