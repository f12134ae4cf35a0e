//! Judges a recorded decision again, by other policies, enforcement actions and exceptions. What the rules read is taken from the
//! record, so neither the cluster nor a registry is asked.
//!
//! The record is masked. What a rule would have said of a masked value is not known: the document is judged with two fillings, and
//! where they lead to different verdicts, the record does not decide it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::State;
use crate::audit::mask::REDACTED;
use crate::audit::record::POLICY_INPUT;
use crate::grant::exception::PodIdentity;
use crate::judge::verdict::POLICY_ERROR;
use crate::judge::{self, EnforcementLabels, Exemption, ExemptionContext, JudgedViolation, Verdict};
use crate::policy::{EnforcementAction, Violation, blames_load};

/// What takes the place of a masked value the second time. A rule that asks whether there is a value finds none.
const OTHER: &str = "";

/// The parts of a decision record that are judged again (`docs/decision-log.md`).
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedDecision {
    /// Its id.
    pub decision_id: String,
    /// When it was made.
    pub timestamp: Timestamp,
    /// `wasmgate/validate` for a verdict.
    pub path: String,
    /// Who was asked about.
    #[serde(default)]
    pub input: Option<RecordedReview>,
    /// What was decided.
    pub result: RecordedVerdict,
    /// What was taken out.
    #[serde(default)]
    pub erased: Vec<String>,
    /// What was replaced.
    #[serde(default)]
    pub masked: Vec<String>,
    /// Whether the gate failed.
    #[serde(default)]
    pub error: Option<Value>,
    /// The bundles that judged.
    #[serde(default)]
    pub bundles: BTreeMap<String, Value>,
    #[serde(default)]
    custom: Custom,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Custom {
    policy_input: Option<Map<String, Value>>,
}

/// The recorded AdmissionReview, as far as it names the object.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedReview {
    /// Its request.
    pub request: RecordedRequest,
}

/// The request of a recorded review.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedRequest {
    /// Kind of the object.
    pub kind: RecordedKind,
    /// Its name; empty where the API server had not chosen one.
    #[serde(default)]
    pub name: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: String,
}

/// A recorded kind.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedKind {
    /// Kind of the object.
    pub kind: String,
}

/// The recorded result.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedVerdict {
    /// What the rules found.
    #[serde(default)]
    pub violations: Vec<RecordedFinding>,
}

/// A recorded violation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct RecordedFinding {
    /// Name of the rule.
    pub rule: String,
    /// Container that it is about.
    #[serde(default)]
    pub container: Option<String>,
    /// Capability that it is about.
    #[serde(default)]
    pub capability: Option<String>,
    /// What was done about it.
    pub action: EnforcementAction,
    /// What it said.
    pub message: String,
    /// The exception that exempted it.
    #[serde(default)]
    pub exempted: Option<Exemption>,
    /// What it would have done, if its bundle ran in the shadow.
    #[serde(default)]
    pub shadow: Option<EnforcementAction>,
}

/// What is read of the policies' input to apply enforcement actions and exceptions.
#[derive(Deserialize)]
struct Facts {
    workload: WorkloadFacts,
    containers: Vec<ContainerFacts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadFacts {
    namespace: String,
    namespace_labels: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    service_account: String,
    template: bool,
}

#[derive(Deserialize)]
struct ContainerFacts {
    name: String,
    image: String,
}

/// Why a decision cannot be judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// No policy judged it.
    NotJudged,
    /// The gate failed, or had too much to do for a bundle: what its rules would have said then is not known.
    Failed,
    /// The record does not hold what the rules read.
    NoInput,
}

impl Left {
    /// The reason, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJudged => "no policy judged it",
            Self::Failed => "the gate had failed, or had too much to do",
            Self::NoInput => "it lacks what the rules read (`decisionLog.policyInput`)",
        }
    }
}

/// A decision that was judged again.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// What the rules find now, in the form of the record. Of bundles that decide.
    pub found: Vec<RecordedFinding>,
    /// Pointers to what is masked and read by a bundle that decides: another value might lead to another verdict.
    pub hidden: Vec<String>,
    /// Whether another value leads to another verdict: that was seen, or the same bundles find something else than they did.
    pub is_undecidable: bool,
}

/// Judges a recorded decision again.
pub async fn replay(state: &State, recorded: &RecordedDecision) -> Result<Replayed, Left> {
    if recorded.path != crate::review::Webhook::Validate.decision_path() || recorded.bundles.is_empty() {
        return Err(Left::NotJudged);
    }
    if recorded.error.is_some() || recorded.found().iter().any(is_by_load) {
        return Err(Left::Failed);
    }
    let input = recorded.custom.policy_input.as_ref().ok_or(Left::NoInput)?;
    let facts = Facts::deserialize(&Value::Object(input.clone())).map_err(|_| Left::NoInput)?;
    let mut hidden = hidden(state, recorded);
    let found = findings(state, recorded, &facts, input).await;
    let is_sensitive =
        !hidden.is_empty() && findings(state, recorded, &facts, &filled(input, &hidden)).await != found;
    if !is_sensitive {
        // Every object of an API server has them, and rules have no reason to read them.
        hidden.retain(|pointer| !pointer.ends_with("/managedFields"));
    }
    let is_undecidable = is_sensitive || (!hidden.is_empty() && is_unlike(state, recorded, &found));
    Ok(Replayed { found, hidden, is_undecidable })
}

fn is_by_load(found: &RecordedFinding) -> bool {
    found.rule == POLICY_ERROR && blames_load(&found.message)
}

/// Whether the bundles of then find something else now, whatever is done about it. Only what is masked can be the reason.
fn is_unlike(state: &State, recorded: &RecordedDecision, found: &[RecordedFinding]) -> bool {
    let revision =
        |(name, info): (&String, &Value)| Some((name.clone(), info.get("revision")?.as_str()?.to_owned()));
    let then: Option<BTreeMap<_, _>> = recorded.bundles.iter().map(revision).collect();
    let names = |found: &[RecordedFinding]| -> BTreeSet<_> {
        let name = |one: &RecordedFinding| (one.rule.clone(), one.container.clone(), one.capability.clone());
        found.iter().map(name).collect()
    };
    then.is_some_and(|then| then == state.policies.revisions()) && names(&recorded.found()) != names(found)
}

/// What is masked in the document and read by a bundle that decides, as pointers into the document.
fn hidden(state: &State, recorded: &RecordedDecision) -> Vec<String> {
    let all = recorded.masked.iter().chain(&recorded.erased);
    let inside = all.filter_map(|pointer| pointer.strip_prefix(POLICY_INPUT));
    let read = inside.filter(|pointer| {
        let mut parts = pointer.trim_start_matches('/').split('/');
        let (key, below) = (parts.next().unwrap_or_default(), parts.next());
        state.policies.reads(key, below)
    });
    read.map(String::from).collect()
}

/// The document with other values for those that are masked.
fn filled(input: &Map<String, Value>, hidden: &[String]) -> Map<String, Value> {
    let mut document = Value::Object(input.clone());
    for pointer in hidden {
        match document.pointer_mut(pointer) {
            Some(value) if value == REDACTED => *value = OTHER.into(),
            Some(_) => {}
            None => insert(&mut document, pointer),
        }
    }
    match document {
        Value::Object(document) => document,
        _ => Map::new(),
    }
}

/// Puts a value where one was taken out.
fn insert(document: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(members)) = document.pointer_mut(parent) {
        members.insert(key.replace("~1", "/").replace("~0", "~"), OTHER.into());
    }
}

/// What the rules find, in the form and the order of the record.
async fn findings(
    state: &State,
    recorded: &RecordedDecision,
    facts: &Facts,
    input: &Map<String, Value>,
) -> Vec<RecordedFinding> {
    let Facts { workload, containers } = facts;
    let evaluation = state.policies.evaluate(input).await;
    let labels = EnforcementLabels::of(&workload.namespace_labels);
    let enforcement = state.enforcement.of_namespace(&workload.namespace, &labels);
    let exemption_context = ExemptionContext {
        exceptions: &state.exceptions,
        pod: PodIdentity {
            namespace: &workload.namespace,
            service_account: &workload.service_account,
            labels: &workload.labels,
        },
        images: containers.iter().map(|one| (one.name.as_str(), one.image.as_str())).collect(),
        now: recorded.timestamp,
    };
    let verdict = judge::decide(evaluation, &state.enforcement, enforcement, &exemption_context);
    let mut found = in_form(verdict, recorded, workload.template, state);
    found.sort();
    found
}

fn in_form(
    verdict: Verdict,
    recorded: &RecordedDecision,
    is_template: bool,
    state: &State,
) -> Vec<RecordedFinding> {
    let form = |judged: JudgedViolation| {
        let JudgedViolation { action, exempted, violation, .. } = judged;
        // The exceptions of then may not be at hand.
        let exempted = exempted.or_else(|| exemption(&violation, recorded, state));
        let action = if exempted.is_some() { EnforcementAction::Audit } else { action };
        let Violation { rule, message, container, capability, .. } = violation;
        // A template is warned of and never refused.
        let action = if is_template { action.min(EnforcementAction::Warn) } else { action };
        RecordedFinding { rule, container, capability, action, message, exempted, shadow: None }
    };
    verdict.violations.into_iter().map(form).collect()
}

/// The exception that exempted the same violation then, if the configuration still allows exceptions from its rule.
fn exemption(violation: &Violation, recorded: &RecordedDecision, state: &State) -> Option<Exemption> {
    let is_same = |then: &&RecordedFinding| {
        then.shadow.is_none()
            && (&then.rule, &then.container, &then.capability)
                == (&violation.rule, &violation.container, &violation.capability)
    };
    let then = recorded.result.violations.iter().find(is_same)?;
    then.exempted.clone().filter(|_| state.enforcement.may_exempt(&violation.rule))
}

impl RecordedDecision {
    /// What the bundles that decided had found, in order.
    pub fn found(&self) -> Vec<RecordedFinding> {
        let decided = self.result.violations.iter().filter(|found| found.shadow.is_none());
        let mut found: Vec<_> = decided.cloned().collect();
        found.sort();
        found
    }
}
