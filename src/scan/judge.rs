//! Judges one object as it stands, by the examination that `serve` uses.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::facts::{self, ExplainOutcome, JudgedFacts};
use super::model::{JudgedSpec, ScannedProgram};
use crate::admission::{Conclusion, Ending, NewObject, State, judge_as_is, rehearse};
use crate::audit::mask::hider_of;
use crate::judge::PolicyInput;
use crate::lookup::Inspector;
use crate::review::GroupVersionKind;
use crate::shares::beside;
use crate::text;

/// Most characters of an error that is quoted.
const LONGEST_REASON: usize = 600;

/// Writes grants for what an examination found open.
pub type Suggest = fn(&State, &Ending<JudgedFacts>) -> Vec<String>;

/// What is needed to judge.
#[derive(Debug, Clone)]
pub struct Judge {
    /// The state of the gate.
    pub state: Arc<State>,
    /// Looks images up.
    pub inspector: Arc<Inspector>,
    /// Longest time to look at the images of one object.
    pub budget: Duration,
    /// What lengthens it, for a message.
    pub cure: &'static str,
    /// Writes grants, as YAML, that would cover what no grant covers.
    pub suggest: Suggest,
}

/// An object that is judged.
#[derive(Debug, Clone, Copy)]
pub struct JudgedObject<'a> {
    /// The object.
    pub object: &'a Value,
    /// Its kind.
    pub kind: &'a GroupVersionKind,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name; empty when the API server will generate it.
    pub name: &'a str,
}

impl Judge {
    /// The verdict on an object. One that an API server has made (it has a uid) is judged as it is. A new one is judged as
    /// the mutating webhook would change it, as in `explain`.
    pub async fn judge(&self, subject: &JudgedObject<'_>) -> JudgedSpec {
        let JudgedObject { object, kind, namespace, name } = *subject;
        let new = NewObject { object, kind, namespace, name };
        let exists = object.pointer("/metadata/uid").is_some();
        let keep = |input: &PolicyInput<'_>| beside(|| JudgedFacts::of(input, facts::Kept::Facts));
        let (state, inspector, budget) = (&self.state, &self.inspector, self.budget);
        let told =
            |ending: Ending<JudgedFacts>| ending.into_result().map(|ending| beside(|| self.report(&ending)));
        let work = async {
            if exists {
                judge_as_is(state, inspector, &new, budget, keep, told).await
            } else {
                let rehearsal = rehearse(state, inspector, &new, budget, keep).await;
                rehearsal.and_then(|rehearsal| told(rehearsal.validate.ending))
            }
        };
        // As in `serve`: one object, however it is made, must not end the scan of all others. A new one has two reviews.
        let most = budget.saturating_mul(2);
        let mut judged = match timeout(most, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(Ok(judged))) => judged,
            Ok(Ok(Err(error))) => not_judged(text::excerpt(&text::chain(&error), LONGEST_REASON)),
            Ok(Err(_)) => not_judged("the gate failed at this object; report it as a defect".to_owned()),
            Err(_) => not_judged(format!("it took longer than {} s; {}", most.as_secs(), self.cure)),
        };
        beside(|| self.hide_secrets(object, &mut judged));
        judged
    }

    /// Takes the values of variables and the like out of what rules say: a report is read by more people than the object is.
    fn hide_secrets(&self, object: &Value, judged: &mut JudgedSpec) {
        if judged.is_silent() {
            return;
        }
        let violations = judged.violations.iter().map(|judged| &judged.violation);
        let hider = hider_of(&self.state.masks, object, violations);
        judged.violations.iter_mut().for_each(|judged| hider.hide_in_violation(&mut judged.violation));
        let reasons = judged.containers.iter_mut().filter_map(|program| program.reason.as_mut());
        let own = judged.warnings.iter_mut().chain(&mut judged.reason);
        own.chain(reasons).for_each(|text| hider.hide_in(text));
    }

    fn report(&self, ending: &Ending<JudgedFacts>) -> JudgedSpec {
        let grants = (self.suggest)(&self.state, ending);
        let violations = ending.judged().map(|judged| judged.judgement.verdict.violations.clone());
        JudgedSpec {
            outcome: facts::outcome(ending),
            reason: match ending {
                Ending::Skipped(skip) => Some(skip.reason().into_owned()),
                Ending::Unreadable { .. } | Ending::NoMemory { .. } | Ending::Examined(_) => None,
            },
            containers: facts::containers(ending).iter().map(program).collect(),
            violations: violations.unwrap_or_default(),
            suggested_grant: (!grants.is_empty()).then(|| grants.join("---\n")),
            warnings: warnings(ending),
            left: 0,
        }
    }
}

/// The verdict on what could not be judged.
pub(super) fn not_judged(reason: String) -> JudgedSpec {
    JudgedSpec {
        outcome: ExplainOutcome::NotJudged,
        reason: Some(reason),
        containers: Vec::new(),
        violations: Vec::new(),
        suggested_grant: None,
        warnings: Vec::new(),
        left: 0,
    }
}

fn program(container: &facts::Container) -> ScannedProgram {
    let found = &container.found;
    let effective = container.capabilities.iter().flat_map(|capabilities| &capabilities.effective);
    ScannedProgram {
        name: found.name.clone(),
        role: found.role,
        image: found.image.clone(),
        class: found.class,
        kind: found.kind,
        digest: found.digest.clone(),
        reason: found.reason.clone(),
        effective: effective.map(|effective| effective.entry.clone()).collect(),
    }
}

/// What a rule does not say: of a template what the plan for its pods warns of, and a class that the cluster lacks.
fn warnings(ending: &Ending<JudgedFacts>) -> Vec<String> {
    let planned = match ending.conclusion() {
        Some(Conclusion::JudgedAsPods { plan, .. }) => plan.warnings.clone(),
        _ => Vec::new(),
    };
    let missing = ending.judged().and_then(|judged| judged.judgement.missing_class.as_deref());
    let missing = missing.map(|class| format!("the cluster has no RuntimeClass `{class}`"));
    planned.into_iter().chain(missing).collect()
}
