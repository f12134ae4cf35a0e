//! The report of `explain` about one object, in a stable form for scripts.

use serde::Serialize;
use serde_json::Value;

use super::manifest::Manifest;
use crate::admission::rehearsal::Answered;
use crate::admission::{Conclusion, Rehearsal, State};
use crate::judge::JudgedViolation;
pub use crate::scan::facts::{
    Capabilities, Container, ExplainOutcome, ImageReport, JudgedFacts, Kept, containers, outcome,
};
use crate::text;

/// What is not as one may think of a bundle that judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleWarning {
    /// Its name.
    pub bundle: String,
    /// A sentence.
    pub message: String,
}

/// Those of all bundles.
pub fn bundle_warnings(state: &State) -> Vec<BundleWarning> {
    let warning =
        |(bundle, message): (&str, &str)| BundleWarning { bundle: bundle.into(), message: message.into() };
    state.policies.warnings().map(warning).collect()
}

/// The report about one object.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReport {
    /// File and document.
    pub origin: String,
    /// Kind of the object.
    pub kind: String,
    /// Namespace in which the object was judged.
    pub namespace: String,
    /// Name of the object; `prefix*` when the API server will generate one.
    pub name: String,
    /// What would happen to the object.
    pub outcome: ExplainOutcome,
    /// Why the object could not be read, planned or judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Facts about the images; with capabilities if the policies ran.
    pub containers: Vec<Container>,
    /// One line per change.
    pub changes: Vec<String>,
    /// The JSONPatch for the pod, or for the pods of a template.
    pub patch: json_patch::Patch,
    /// Warnings of both webhooks, as `kubectl` prints them.
    pub warnings: Vec<String>,
    /// Changes to values that the manifest contained.
    pub notices: Vec<String>,
    /// WasiGrants, as YAML, that would cover what no grant covers: the output of `suggest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_grant: Option<String>,
    /// That the cluster is known not to have the RuntimeClass of the pod: the violations follow from that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_class: Option<String>,
    /// Violations of the rules.
    pub violations: Vec<JudgedViolation>,
    /// What the webhooks answer to an AdmissionReview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// The input document of the policies, with `--show-input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Warnings that do not come from a rule: what the gate could not do, and what will not work.
    #[serde(skip)]
    pub remarks: Vec<String>,
    /// The object before and after, for the diff.
    #[serde(skip)]
    pub before_after: Option<(Value, Value)>,
}

/// The answers of the webhooks to one AdmissionReview, as the API server gets them.
#[derive(Debug, Clone, Serialize)]
pub struct Answers {
    /// The mutating webhook's; absent if it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutate: Option<Value>,
    /// The validating webhook's, about the object as the mutating one left it.
    pub validate: Value,
}

impl Answers {
    /// The answers of a rehearsal.
    pub fn of<K>(rehearsal: &Rehearsal<K>) -> Self {
        Self { mutate: rehearsal.mutate.as_ref().map(whole), validate: whole(&rehearsal.validate) }
    }
}

fn whole<K>(answered: &Answered<K>) -> Value {
    serde_json::from_slice(&answered.answer.response.to_bytes()).unwrap_or_default()
}

impl ObjectReport {
    /// The report about an object that both webhooks examined. `grants` would cover what no grant covers.
    pub fn of(
        manifest: &Manifest,
        namespace: &str,
        rehearsal: &Rehearsal<JudgedFacts>,
        grants: &[String],
    ) -> Self {
        let validated = &rehearsal.validate.ending;
        let judged = validated.judged();
        let plan = rehearsal.plan();
        Self {
            origin: manifest.origin.clone(),
            kind: manifest.kind().kind,
            namespace: namespace.to_string(),
            name: manifest.shown_name(),
            outcome: outcome(validated),
            error: rehearsal.error().map(|error| text::chain(error)),
            containers: containers(validated).into_owned(),
            changes: plan.map(|(_, plan)| plan.changes.clone()).unwrap_or_default(),
            patch: plan.map(|(_, plan)| plan.patch.clone()).unwrap_or_default(),
            warnings: rehearsal.warnings(),
            notices: plan.map(|(_, plan)| plan.notices.clone()).unwrap_or_default(),
            suggested_grant: (!grants.is_empty()).then(|| grants.join("---\n")),
            missing_class: judged.and_then(|j| j.judgement.missing_class_said()),
            violations: judged.map(|j| j.judgement.verdict.violations.clone()).unwrap_or_default(),
            answers: None,
            input: judged.and_then(|judged| judged.kept.input.clone()),
            remarks: remarks(rehearsal),
            before_after: plan.map(|(before, plan)| (before.clone(), plan.object.clone())),
        }
    }
}

/// Warnings except those of violations, which are listed separately, and except the unknown kind, which the title names.
fn remarks(rehearsal: &Rehearsal<JudgedFacts>) -> Vec<String> {
    match (rehearsal.plan(), rehearsal.validate.ending.conclusion()) {
        (Some((_, plan)), _) => plan.warnings.clone(),
        (None, Some(Conclusion::NotWasm)) => rehearsal.warnings(),
        // The title does not name the place of the template.
        (None, None) if outcome(&rehearsal.validate.ending) == ExplainOutcome::NoTemplate => {
            rehearsal.warnings()
        }
        // The error says what the warnings of it say.
        (None, _) => Vec::new(),
    }
}
