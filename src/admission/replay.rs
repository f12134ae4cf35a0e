//! Judges a recorded decision again, by other policies, enforcement actions and exceptions. What the rules read is taken from the
//! record, so neither the cluster nor a registry is asked.
//!
//! The record is masked. What a rule would have said of a masked value is not known: the document is judged with two fillings, and
//! where they lead to different verdicts, the record does not decide it. Nor does it where a whole part of the document is masked, or
//! where it names an exception and does not say whether that would cover what is found now.
//!
//! Rules that ask for the time are told that of the record. A random value is not in the record.

mod exempted;
mod masked;
mod recorded;

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use exempted::{Exceptions, ReplayTerms};
use exempted::{Exempted, exempted};
pub use recorded::{
    RecordedDecision, RecordedFinding, RecordedKind, RecordedRequest, RecordedReview, RecordedVerdict,
};

use super::State;
use crate::grant::exception::PodIdentity;
use crate::judge::verdict::POLICY_ERROR;
use crate::judge::{self, EnforcementLabels, ExemptionContext, JudgedViolation, Verdict};
use crate::policy::{Asked, EnforcementAction, ExactNumbers, Violation, blames_load, names_calls};

/// The longest that the API server waits for a webhook (`kubernetes:pkg/apis/admissionregistration/types.go`, `TimeoutSeconds`).
const LONGEST_REVIEW: SignedDuration = SignedDuration::from_secs(30);

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
pub enum NotReplayable {
    /// No policy judged it.
    NotJudged,
    /// The gate failed, or had too much to do for a bundle, or for the calls of one of its functions: what its rules would have said then is not
    /// known.
    Failed,
    /// The record does not hold what the rules read.
    NoInput,
}

impl NotReplayable {
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
    /// Pointers to what is masked and may be read by a bundle that decides: another value might lead to another verdict.
    pub hidden: Vec<String>,
    /// Sentences about violations of which the record does not say whether an exception covers them.
    pub open: Vec<String>,
    /// Sentences about what the rules ask for and the record does not hold.
    pub not_recorded: Vec<String>,
    /// Whether the record does not decide the verdict: another value leads to another one, or the same bundles find something else
    /// than they did, or a part is masked as a whole, or something is open or not in the record.
    pub is_undecidable: bool,
}

/// What is found in one document.
#[derive(Default)]
struct Found {
    /// In the form and the order of the record, by the strictest enforcement that is possible.
    findings: Vec<RecordedFinding>,
    open: BTreeSet<String>,
    /// Whether masked labels of the namespace may lead to something else.
    varies: bool,
    /// What the rules asked for that is not in the document.
    asked: Asked,
}

/// Judges a recorded decision again.
pub async fn replay(
    state: &State,
    recorded: &RecordedDecision,
    terms: ReplayTerms,
) -> Result<Replayed, NotReplayable> {
    if recorded.path != crate::review::Webhook::Validate.decision_path() || recorded.bundles.is_empty() {
        return Err(NotReplayable::NotJudged);
    }
    if recorded.error.is_some() || recorded.found().iter().any(is_by_time) {
        return Err(NotReplayable::Failed);
    }
    let then = &recorded.custom.policy_input.as_ref().ok_or(NotReplayable::NoInput)?.document;
    let given = terms.takes_options.then(|| with_options(state, then));
    let input = given.as_ref().unwrap_or(then);
    let facts = Facts::deserialize(&Value::Object(input.clone())).map_err(|_| NotReplayable::NoInput)?;
    let mut hidden = masked::read(state, recorded);
    let Found { findings, open, varies, asked } = found(state, recorded, terms, &facts, input).await;
    let mut not_recorded = Vec::new();
    if asked.random {
        not_recorded
            .push("a rule asks for a random value, and the record does not hold the one that it got".into());
    }
    if asked.time && terms.now.is_none() {
        // The record is written when the review ends.
        let begin = recorded.timestamp.checked_sub(LONGEST_REVIEW).unwrap_or(recorded.timestamp);
        let earlier = ReplayTerms { now: Some(begin), ..terms };
        if plain(&found(state, recorded, earlier, &facts, input).await.findings) != plain(&findings) {
            not_recorded.push(
                "a rule asks for the time, and the record does not hold the moment to the second".into(),
            );
        }
    }
    let is_sensitive = !hidden.is_empty()
        && found(state, recorded, terms, &facts, &masked::filled(input, &hidden)).await.findings != findings;
    if !is_sensitive {
        // Every object of an API server has them, and rules have no reason to read them.
        hidden.retain(|pointer| !pointer.ends_with("/managedFields"));
    }
    let is_whole = hidden.iter().any(|pointer| masked::is_whole(pointer));
    let beside = beside(state, recorded, varies, !findings.is_empty());
    let is_undecidable = is_sensitive
        || is_whole
        || !(beside.is_empty() && open.is_empty() && not_recorded.is_empty())
        || (!hidden.is_empty() && input == then && is_unlike(state, recorded, &findings));
    hidden.extend(beside.into_iter().filter(|pointer| !hidden.contains(pointer)).collect::<Vec<_>>());
    Ok(Replayed { found: findings, hidden, open: open.into_iter().collect(), not_recorded, is_undecidable })
}

/// What the rules read, with the options of the state.
fn with_options(state: &State, input: &Map<String, Value>) -> Map<String, Value> {
    let mut input = input.clone();
    if let Ok(options) = serde_json::to_value(&state.options) {
        input.insert("options".into(), options);
    }
    input
}

/// What is found, without the words.
fn plain(found: &[RecordedFinding]) -> BTreeSet<RecordedFinding> {
    found.iter().map(|one| RecordedFinding { message: String::new(), ..one.clone() }).collect()
}

/// What is masked and decides beside the rules what becomes of violations.
fn beside(state: &State, recorded: &RecordedDecision, varies: bool, is_broken: bool) -> Vec<String> {
    let labels = if varies { masked::enforcement(recorded) } else { Vec::new() };
    let identity = if is_broken { masked::identity(state, recorded) } else { Vec::new() };
    labels.into_iter().chain(identity).collect()
}

/// Whether it is that a bundle was not done in time, which another machine, or this one later, may find otherwise.
fn is_by_time(found: &RecordedFinding) -> bool {
    found.rule == POLICY_ERROR && (blames_load(&found.message) || names_calls(&found.message))
}

/// Whether the bundles of then find something else now, whatever is done about it. Only what is masked can be the reason.
fn is_unlike(state: &State, recorded: &RecordedDecision, found: &[RecordedFinding]) -> bool {
    let names = |found: &[RecordedFinding]| -> BTreeSet<_> {
        let name = |one: &RecordedFinding| (one.rule.clone(), one.container.clone(), one.capability.clone());
        found.iter().map(name).collect()
    };
    are_bundles_of_then(state, recorded) && names(&recorded.found()) != names(found)
}

/// Whether the bundles are those of the record: by what is in them, where the record says that, else by their revisions.
fn are_bundles_of_then(state: &State, recorded: &RecordedDecision) -> bool {
    let (revisions, digests) = (state.policies.revisions(), state.policies.digests());
    let is_same = |(name, info): (&String, &Value)| match recorded.custom.bundle_digests.get(name) {
        Some(then) => digests.get(name) == Some(then),
        None => revisions.get(name).is_some_and(|now| info.get("revision").is_some_and(|then| then == now)),
    };
    recorded.bundles.len() == revisions.len() && recorded.bundles.iter().all(is_same)
}

/// What the rules find, and what is done about it.
async fn found(
    state: &State,
    recorded: &RecordedDecision,
    terms: ReplayTerms,
    facts: &Facts,
    input: &Map<String, Value>,
) -> Found {
    let Facts { workload, containers } = facts;
    let now = terms.now.unwrap_or(recorded.timestamp);
    let none = ExactNumbers::default();
    let numbers = recorded.custom.policy_input.as_ref().map_or(&none, |then| &then.numbers);
    let evaluation = state.policies.evaluate_at(&numbers.in_object(input), now).await;
    let exemption_context = ExemptionContext {
        exceptions: &state.exceptions,
        pod: PodIdentity {
            namespace: &workload.namespace,
            service_account: &workload.service_account,
            labels: &workload.labels,
        },
        images: containers.iter().map(|one| (one.name.as_str(), one.image.as_str())).collect(),
        now,
    };
    let by = |labels: BTreeMap<String, String>| {
        let labels = EnforcementLabels::of(&labels);
        let enforcement = state.enforcement.of_namespace(&workload.namespace, &labels);
        let verdict = judge::decide(evaluation.clone(), &state.enforcement, enforcement, &exemption_context);
        in_form(verdict, (recorded, state, terms), workload.template)
    };
    let possible = masked::possible(&workload.namespace_labels, &masked::enforcement(recorded));
    let mut possible = possible.into_iter().map(by);
    let strictest = possible.next().unwrap_or_default();
    let varies = possible.any(|other| other.findings != strictest.findings);
    Found { varies, asked: evaluation.asked, ..strictest }
}

fn in_form(
    verdict: Verdict,
    (recorded, state, terms): (&RecordedDecision, &State, ReplayTerms),
    is_template: bool,
) -> Found {
    let mut open = BTreeSet::new();
    let form = |judged: JudgedViolation| {
        let JudgedViolation { mut action, exempted: mut exemption, violation, .. } = judged;
        // The exceptions of then may not be at hand. What is only recorded anyway needs none.
        if exemption.is_none() {
            match exempted(&violation, recorded, state, terms) {
                Exempted::Yes(then) => (action, exemption) = (EnforcementAction::Audit, Some(then)),
                Exempted::Open(reason) if action > EnforcementAction::Audit => drop(open.insert(reason)),
                Exempted::Open(_) | Exempted::No => {}
            }
        }
        let Violation { rule, message, container, capability, bundle, .. } = violation;
        // A template is warned of and never refused.
        let action = if is_template { action.min(EnforcementAction::Warn) } else { action };
        RecordedFinding {
            rule,
            container,
            capability,
            action,
            message,
            exempted: exemption,
            shadow: None,
            bundle,
        }
    };
    let mut findings: Vec<_> = verdict.violations.into_iter().map(form).collect();
    findings.sort();
    Found { findings, open, varies: false, asked: Asked::default() }
}
