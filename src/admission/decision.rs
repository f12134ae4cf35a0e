//! Turns the ending of a review into its answer and the facts of its record; the only place that does.

use std::fmt::Display;
use std::ops::Range;

use serde_json::value::RawValue;

use super::ending::{Conclusion, Ending, Examination, Examined, Judged, Judgement, Skip, Step};
use super::{Clock, Error};
use crate::answer::{self, Answer};
use crate::audit::{Alike, Timings};
use crate::image::Program;
use crate::inspection::{Container, Inspection, LookupResult};
use crate::judge::Verdict;
use crate::review::Webhook;
use crate::review::{self, Review};
use crate::workload::Kind;

/// Value of `error.code` in the record of what could not be read.
pub(super) const READ_REVIEW: &str = "read-review";

/// Value of `error.code` in the record where a review, or what it is parsed to, is too large.
const TOO_LARGE: &str = "too-large";

/// A decision: the answer and the facts for the record.
#[derive(Debug)]
pub struct Decision {
    /// The answer.
    pub answer: Answer,
    /// Facts about the images; empty when none was looked up.
    pub inspection: Inspection,
    /// Verdict of the policies; `None` when they did not run.
    pub judgement: Option<Judgement>,
    /// How the decision came about, in one phrase.
    pub note: &'static str,
    /// What was attempted and why it failed.
    pub failure: Option<(&'static str, Error)>,
    /// One line per change.
    pub changes: Vec<String>,
    /// Operations of the patch.
    pub patch_operations: usize,
    /// What the rules read, if records hold it.
    pub policy_input: PolicyInputText,
    /// Where `managedFields` stand in the object of the review, if that was looked for.
    pub managed_fields: Option<Range<usize>>,
    /// In what the object of the review differs from one whose masks are known, if there is such a one.
    pub alike: Option<Alike>,
    /// Time that each stage took.
    pub timings: Timings,
}

/// The input of the policies as JSON, if records hold it.
pub type PolicyInputText = Option<Box<RawValue>>;

impl Decision {
    /// The decision about an examined review.
    pub fn of(webhook: Webhook, review: &Review, examination: Examination<PolicyInputText>) -> Self {
        let Examination { ending, timings } = examination;
        let said = answer(webhook, review, &ending);
        let decision = match ending {
            Ending::Skipped(skip) => Self::without_facts(said, skip.note()),
            Ending::Unreadable { .. } => Self::without_facts(said, "unreadable object"),
            Ending::NoMemory { error, is_template } => Self::without_memory(said, error, is_template),
            Ending::Examined(examined) => Self::of_examined(said, *examined),
        };
        Self { timings, ..decision }
    }

    fn of_examined(said: Answer, examined: Examined<PolicyInputText>) -> Self {
        let Examined { inspection, conclusion, .. } = examined;
        let decision = match conclusion {
            Conclusion::NotWasm => Self::without_facts(said, "no Wasm"),
            Conclusion::Planned(plan) => {
                Self { changes: plan.changes, ..Self::without_facts(said, "planned") }
            }
            Conclusion::Judged(judged) if judged.judgement.is_overloaded => Self::overloaded(said, judged),
            Conclusion::Judged(judged) => Self::judged(said, judged, "judged by the policies"),
            Conclusion::JudgedAsPods { judged, .. } => {
                let note = "judged by the policies, as its pods";
                let mut decision = Self::judged(said, judged, note);
                decision.judgement.iter_mut().for_each(|judgement| judgement.verdict.never_deny_in_shadow());
                decision
            }
            Conclusion::Failed { step, error } => Self::failed(said, step, error),
        };
        Self { inspection, ..decision }
    }

    fn judged(said: Answer, judged: Judged<PolicyInputText>, note: &'static str) -> Self {
        let Judged { judgement, kept } = judged;
        Self { judgement: Some(judgement), policy_input: kept, ..Self::without_facts(said, note) }
    }

    /// The decision about a review whose rules had no place in time. The record names no violation, since there is no verdict, and what failed is counted.
    fn overloaded(said: Answer, Judged { judgement, .. }: Judged<PolicyInputText>) -> Self {
        let judgement = Judgement { verdict: Verdict::default(), ..judgement };
        let failure = Some((Step::TakePlace.code(), Error::NoPlace));
        Self { judgement: Some(judgement), failure, ..Self::without_facts(said, Step::TakePlace.note()) }
    }

    /// Whether a server answers with an error in the place of this, so that the API server applies the webhook's `failurePolicy`.
    pub fn is_overloaded(&self) -> bool {
        self.failure.as_ref().is_some_and(|(code, _)| *code == Step::TakePlace.code())
    }

    /// The decision about a body that is not an AdmissionReview.
    pub fn of_no_review(webhook: Webhook, error: review::Error) -> Self {
        let uid = error.uid.as_deref().unwrap_or_default();
        let said = match webhook {
            Webhook::Mutate => unchanged(uid, "object", &error),
            Webhook::Validate => answer::invalid(uid, error.to_string()),
        };
        let failure = Some((READ_REVIEW, Error::ReadReview(error)));
        Self { failure, ..Self::without_facts(said, "unreadable review") }
    }

    /// The decision about a review of so many bytes that no more than its beginning was read. It may be of a pod with Wasm, so the validating webhook refuses it.
    pub fn of_large_review(webhook: Webhook, uid: &str, bytes: usize, limit: usize) -> Self {
        let error = Error::ReviewTooLarge { bytes, limit };
        let said = match webhook {
            Webhook::Mutate => unchanged(uid, "object", &error),
            Webhook::Validate => {
                answer::too_large(uid, format!("wasmgate did not judge this object: {error}"))
            }
        };
        Self { failure: Some((TOO_LARGE, error)), ..Self::without_facts(said, "too large") }
    }

    /// The decision about a review that was not finished: the API server gets an answer with the review's `uid`, and the
    /// decision log a record. Slow images do not lead here, since look-ups end earlier. A review that is late has reached
    /// the rules, so the pod has to do with Wasm, and the validating webhook refuses it.
    pub fn of_given_up(webhook: Webhook, uid: &str, clock: &Clock, why: GivenUp) -> Self {
        let message = why.message(clock);
        let failure = Some((why.code(), Error::FinishReview(message.clone())));
        let said = match webhook {
            Webhook::Mutate => answer::skip_with_warning(uid, message),
            Webhook::Validate => answer::failed(uid, message),
        };
        Self { failure, ..Self::without_facts(said, why.note()) }
    }

    fn without_memory(said: Answer, error: Error, is_template: bool) -> Self {
        if is_template {
            return Self::failed(said, Step::JudgeTemplate, error);
        }
        if matches!(error, Error::NoPlace) {
            return Self::failed(said, Step::TakePlace, error);
        }
        Self { failure: Some((TOO_LARGE, error)), ..Self::without_facts(said, "too large") }
    }

    fn failed(said: Answer, step: Step, error: Error) -> Self {
        Self { failure: Some((step.code(), error)), ..Self::without_facts(said, step.note()) }
    }

    fn without_facts(answer: Answer, note: &'static str) -> Self {
        Self {
            patch_operations: answer.response.patch.as_ref().map_or(0, |patch| patch.0.len()),
            answer,
            inspection: Inspection::default(),
            judgement: None,
            note,
            failure: None,
            changes: Vec::new(),
            policy_input: None,
            managed_fields: None,
            alike: None,
            timings: Timings::default(),
        }
    }
}

/// Why a review was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// The gate panicked. No panic is known to be reachable.
    Broken,
    /// The rules of all bundles together took longer than the review may.
    Late,
}

impl GivenUp {
    /// Value of `error.code` in the record.
    const fn code(self) -> &'static str {
        match self {
            Self::Broken => "break-down",
            Self::Late => "time-out",
        }
    }

    const fn note(self) -> &'static str {
        match self {
            Self::Broken => "broke down",
            Self::Late => "took too long",
        }
    }

    fn message(self, clock: &Clock) -> String {
        match self {
            Self::Broken => "wasmgate failed on this review; its log says where".to_string(),
            Self::Late => format!(
                "wasmgate did not finish this review within {} ms; raise the webhook's timeoutSeconds and \
                 `server.reviewTimeout`, or lower `policies.timeLimit`",
                clock.budget().as_millis()
            ),
        }
    }
}

/// The answer to the API server.
pub fn answer<K>(webhook: Webhook, review: &Review, ending: &Ending<K>) -> Answer {
    let uid = &review.uid;
    match ending {
        Ending::Skipped(Skip::UnknownKind) => answer::skip_with_warning(uid, unknown_kind(review)),
        Ending::Skipped(Skip::CompletedByOthers) => {
            answer::skip_with_warning(uid, completed_by_others(review))
        }
        Ending::Skipped(skip @ Skip::NoTemplate { .. }) => {
            answer::skip_with_warning(uid, without_template(review, *skip))
        }
        Ending::Skipped(_) => answer::skip(uid),
        // Refused if it would run on a Wasm runtime. Otherwise left to the API server's own validation, since a field
        // that this version does not know must not harm a Linux pod.
        Ending::Unreadable { error, under_wasm: true } if webhook == Webhook::Validate => {
            answer::invalid(uid, error.to_string())
        }
        Ending::Unreadable { error, .. } => {
            answer::skip_with_warning(uid, format!("wasmgate left this object alone: {error}"))
        }
        Ending::NoMemory { error, is_template } => answer_without_memory(webhook, uid, error, *is_template),
        Ending::Examined(examined) => answer_examined(webhook, uid, examined),
    }
}

/// A template is warned about, since its pods are judged, and the mutating webhook refuses nothing for its size.
fn answer_without_memory(webhook: Webhook, uid: &str, error: &Error, is_template: bool) -> Answer {
    if is_template {
        return answer::skip_with_warning(uid, format!("wasmgate could not judge this object: {error}"));
    }
    match (error, webhook) {
        (Error::NoPlace, _) => answer::failed(uid, error.to_string()),
        (_, Webhook::Mutate) => unchanged(uid, "pod", error),
        (_, Webhook::Validate) => answer::too_large(uid, format!("wasmgate did not judge this pod: {error}")),
    }
}

/// The mutating webhook refuses nothing: why it left a pod, or an object of which no more is known, as it was.
fn unchanged(uid: &str, what: &str, error: &impl Display) -> Answer {
    answer::skip_with_warning(uid, format!("wasmgate did not change this {what}: {error}"))
}

fn unknown_kind(review: &Review) -> String {
    format!(
        "wasmgate did not judge {} `{}`: it does not know this kind; describe it under `workloads` of the configuration, or \
         leave it out of the webhook's rules",
        review.kind.kind, review.name
    )
}

fn completed_by_others(review: &Review) -> String {
    format!(
        "wasmgate did not judge {} `{}`: parts of its pods come from other objects; the pods are judged when they are created",
        review.kind.kind, review.name
    )
}

fn without_template(review: &Review, skip: Skip) -> String {
    format!("wasmgate did not judge {} `{}`: {}", review.kind.kind, review.name, skip.reason())
}

fn answer_examined<K>(webhook: Webhook, uid: &str, examined: &Examined<K>) -> Answer {
    let Examined { workload, inspection, conclusion, advice } = examined;
    match conclusion {
        Conclusion::NotWasm => {
            let warning = advice.clone().or_else(|| doubt(webhook, workload.kind, inspection));
            warning.map_or_else(|| answer::skip(uid), |warning| answer::skip_with_warning(uid, warning))
        }
        Conclusion::Planned(plan) => answer::of_plan(uid, workload, inspection, plan),
        Conclusion::Judged(judged) if judged.judgement.is_overloaded => {
            answer::failed(uid, Error::NoPlace.to_string())
        }
        Conclusion::Judged(judged) => {
            let Judgement { verdict, missing_class, .. } = &judged.judgement;
            answer::of_verdict(uid, workload, inspection, verdict, missing_class.as_deref())
        }
        Conclusion::JudgedAsPods { plan, judged, .. } => {
            answer::of_template(uid, workload, inspection, &plan.warnings, &judged.judgement.verdict)
        }
        Conclusion::Failed { step: Step::TakePlace, error } => answer::failed(uid, error.to_string()),
        // A failed plan refuses nothing: the validating webhook judges the pod as it is.
        Conclusion::Failed { step: Step::Plan, error } => unchanged(uid, "pod", error),
        Conclusion::Failed { step: Step::JudgeTemplate, error } => {
            answer::skip_with_warning(uid, format!("wasmgate could not judge this object: {error}"))
        }
    }
}

/// The warning about the first container whose program is not known: if it is Wasm, it will start on the wrong runtime, or not at all.
fn doubt(webhook: Webhook, kind: Kind, inspection: &Inspection) -> Option<String> {
    let mut told = inspection.containers.iter().filter(|container| is_told(webhook, kind, container));
    told.find_map(doubt_of)
}

/// Whether it is told of a container that its program is not known. The mutating webhook sees pods alone. The pods of a SpinApp would
/// be refused. Those of another template get the warning when they are created, but their controller does not show it: so the
/// template gets it where the image suggests Wasm, and an ordinary one does not when its registry is down.
fn is_told(webhook: Webhook, kind: Kind, container: &Container) -> bool {
    webhook == Webhook::Mutate
        || kind == Kind::SpinApp
        || (kind.is_template() && container.is_open() && container.suggests_wasm())
}

fn doubt_of(container: &Container) -> Option<String> {
    let name = &container.name;
    match &container.lookup {
        LookupResult::Unread { error } => {
            Some(format!("container `{name}` was admitted as it is, without a look at its image: {error}"))
        }
        LookupResult::Known { program: Program::Unknown { reason }, .. } => Some(format!(
            "container `{name}` was admitted as it is, because its program was not recognised: {reason}"
        )),
        LookupResult::Known { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::image::{Digest, ImageFacts, Shape, program};
    use crate::lookup;
    use crate::workload::Role;

    fn inspection(lookup: LookupResult) -> Inspection {
        let (name, image) = ("web".to_owned(), "web:1".to_owned());
        Inspection { containers: vec![Container { role: Role::Container, index: 0, name, image, lookup }] }
    }

    fn unknown(shape: Shape) -> Inspection {
        let digest = Digest::of(b"");
        let facts = ImageFacts { shape, ..ImageFacts::blank(&digest, &digest) };
        inspection(LookupResult::Known {
            facts: Arc::new(facts),
            program: program::unknown("it is a library"),
        })
    }

    #[test]
    fn a_template_says_that_its_program_is_not_known_where_its_image_suggests_wasm() {
        let error = lookup::Error::TimedOut { image: "web:1".to_owned(), budget_ms: 1 };
        let read = lookup::Error::ReadWasm { source: Box::new(error.clone()) };
        let inspections = [
            unknown(Shape::WasmArtifact),
            inspection(LookupResult::Unread { error: Arc::new(read) }),
            unknown(Shape::LinuxRootfs),
            inspection(LookupResult::Unread { error: Arc::new(error) }),
        ];
        for (webhook, kind, expected) in [
            (Webhook::Validate, Kind::Deployment, [true, true, false, false]),
            (Webhook::Validate, Kind::SpinApp, [true; 4]),
            (Webhook::Validate, Kind::Pod, [false; 4]),
            (Webhook::Mutate, Kind::Pod, [true; 4]),
        ] {
            let told = inspections.each_ref().map(|inspection| doubt(webhook, kind, inspection).is_some());
            assert_eq!(told, expected, "{webhook:?} {kind:?}");
        }
    }
}
