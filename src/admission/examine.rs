//! Examines one review: from its object to facts, a plan or a verdict. `serve` and the offline commands share
//! [`examine`], which calls the stages in order.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Clock;
pub use super::concern::concerns;
use super::ending::{Conclusion, Ending, Examination, Examined, Judged, Judgement, Skip, Step};
use super::gained::{self, Abilities};
use super::handed;
use super::heavy::{self, BEFORE_THE_END, Work};
pub use super::look::inspect;
use super::state::{Error, State};
pub use super::template::plan;
use super::template::{self, AsPods};
use crate::audit::{Stage, Timings};
use crate::image::annotation::{devices, handlers, on_node, wasm_handlers};
use crate::inspection::Inspection;
use crate::judge::input::{Groups, UserFacts};
use crate::judge::{self, ExemptionContext, InputParts, PolicyInput, RequestFacts, Verdict};
use crate::lookup::Inspector;
use crate::plan::Plan;
use crate::policy::{Evaluation, names_calls};
use crate::review::{Operation, Review, Webhook};
use crate::shares;
use crate::workload::{self, Kind, Workload, managed};

/// Longest time to find out what the programs of the object before an update could do: its images ran, so they are known as a rule.
const COMPARISON: Duration = Duration::from_millis(500);

/// More than it takes a timer to say that the time of a review has ended: timers tick once a millisecond.
const AFTER_THE_END: Duration = Duration::from_millis(20);

/// A review at one of the two webhooks, and everything that its answer depends on.
#[derive(Debug, Clone, Copy)]
pub struct ReviewContext<'a> {
    /// The state of the gate.
    pub state: &'a State,
    /// Looks images up.
    pub inspector: &'a Inspector,
    /// The webhook that was called.
    pub webhook: Webhook,
    /// The review.
    pub review: &'a Review,
    /// When the review came, and how long it may take.
    pub clock: Clock,
}

/// Examines one review. If the policies run, `keep` is called with their input; its result is returned with the verdict.
pub async fn examine<K>(
    asked: &ReviewContext<'_>,
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Examination<K> {
    let mut timings = Timings::default();
    let (workload, object) = match read(asked) {
        Ok(read) => read,
        Err(ending) => return Examination { ending, timings },
    };
    let read = asked.clock.elapsed();
    timings.note(Stage::Read, read);
    let ReviewContext { state, inspector, clock, .. } = *asked;
    let inspection = inspect(state, inspector, &workload, clock.for_inspection()).await;
    let inspected = clock.elapsed();
    timings.note(Stage::Inspect, inspected.saturating_sub(read));
    let is_concerned = concerns(state, &workload, &inspection);
    let is_needed = is_concerned && asked.webhook == Webhook::Validate;
    let _memory = match handed::reserve(is_needed, &workload, &inspection, clock.left()).await {
        Ok(memory) => memory,
        Err(ending) => return Examination { ending, timings },
    };
    let conclusion = conclude(asked, &object, &workload, &inspection, is_concerned, keep).await;
    let advice = match &conclusion {
        Conclusion::NotWasm => template::no_application(state.runtimes(), &workload, &inspection)
            .or_else(|| left_wasm(asked, &workload, &inspection)),
        _ => None,
    };
    timings.note(stage_of(asked.webhook), clock.elapsed().saturating_sub(inspected));
    let ending = Ending::Examined(Box::new(Examined { workload, inspection, conclusion, advice }));
    Examination { ending, timings }
}

const fn stage_of(webhook: Webhook) -> Stage {
    match webhook {
        Webhook::Mutate => Stage::Plan,
        Webhook::Validate => Stage::Judge,
    }
}

/// The mutating webhook plans changes. The validating one judges a pod as it is, and a template as the pods that will be
/// created from it.
async fn conclude<K>(
    asked: &ReviewContext<'_>,
    object: &RawValue,
    workload: &Workload,
    inspection: &Inspection,
    is_concerned: bool,
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Conclusion<K> {
    if heavy::had_no_place(inspection, is_concerned) {
        let step = if workload.kind.is_template() { Step::JudgeTemplate } else { Step::TakePlace };
        return Conclusion::Failed { step, error: Error::NoPlace };
    }
    if !is_concerned {
        return Conclusion::NotWasm;
    }
    let failed = |step| move |error| Conclusion::Failed { step, error };
    match asked.webhook {
        Webhook::Mutate => {
            let work = Work::of(workload, inspection);
            let plan = work.beside(asked.clock.left(), || planned(asked, object, workload, inspection)).await;
            plan.map_or_else(failed(Step::TakePlace), |plan| {
                plan.map_or_else(failed(Step::Plan), Conclusion::Planned)
            })
        }
        Webhook::Validate if workload.kind.is_template() => {
            // On the heap: it holds three workloads, and the pods, of which there are many more, would move the space for it.
            let judged = Box::pin(judge_as_pods(asked, object, workload, inspection, keep)).await;
            judged.unwrap_or_else(failed(Step::JudgeTemplate))
        }
        Webhook::Validate => {
            let judged = judge(asked, object, workload, inspection, keep).await;
            judged.map_or_else(failed(Step::TakePlace), Conclusion::Judged)
        }
    }
}

// === Reading ===

/// The workload of the review and its JSON, or why there is nothing to examine.
fn read<'a, K>(asked: &ReviewContext<'a>) -> Result<(Workload, Cow<'a, RawValue>), Ending<K>> {
    let ReviewContext { state, review, .. } = *asked;
    if let Some(skip) = not_ours(asked) {
        return Err(Ending::Skipped(skip));
    }
    let kind = state.kinds.of(&review.kind).ok_or_else(|| {
        let by_others = workload::is_completed_by_others(&review.kind);
        Ending::Skipped(if by_others { Skip::CompletedByOthers } else { Skip::UnknownKind })
    })?;
    let object = review.object.as_deref().ok_or(Ending::Skipped(Skip::NoObject))?;
    let judged = workload::as_judged(object, kind);
    let read = judged.and_then(|object| Ok((workload::read(object.get(), kind, &review.namespace)?, object)));
    let (workload, object) = read.map_err(|error| match error {
        workload::Error::FindTemplate { at, .. } => Ending::Skipped(Skip::NoTemplate { at }),
        error => {
            Ending::Unreadable { under_wasm: names_wasm_class(state, kind, object), error: error.into() }
        }
    })?;
    match nothing_to_do(asked, &workload, object.get()) {
        Some(skip) => Err(Ending::Skipped(skip)),
        None => Ok((workload, object)),
    }
}

/// Subresources that carry no image, of kinds with a pod spec.
const HARMLESS_SUBRESOURCES: &[&str] =
    &["status", "scale", "binding", "eviction", "exec", "attach", "portforward", "log", "proxy", "token"];

/// Why a review can be answered without reading its object; `None` if it cannot.
pub(super) fn not_ours(asked: &ReviewContext<'_>) -> Option<Skip> {
    let review = asked.review;
    let sub_resource = review.sub_resource.as_deref();
    if asked.state.exempt_namespaces.contains(&review.namespace) {
        return Some(Skip::ExemptNamespace);
    }
    if matches!(review.operation, Operation::Delete | Operation::Connect) {
        return Some(Skip::StartsNothing);
    }
    if sub_resource.is_some_and(|name| HARMLESS_SUBRESOURCES.contains(&name)) {
        return Some(Skip::NoImageInSubresource);
    }
    let patched = review.operation == Operation::Create && sub_resource.is_none();
    (asked.webhook == Webhook::Mutate && !patched).then_some(Skip::OnlyNewPodsAreChanged)
}

/// Why an object that was read is left alone; `None` if it must be examined.
fn nothing_to_do(asked: &ReviewContext<'_>, workload: &Workload, object: &str) -> Option<Skip> {
    let review = asked.review;
    if workload.is_mirror() {
        return Some(Skip::MirrorPod);
    }
    if asked.webhook == Webhook::Mutate && workload.kind.is_template() {
        return Some(Skip::OnlyNewPodsAreChanged);
    }
    if review.operation != Operation::Update {
        return None;
    }
    // On CREATE the field would be forged: the API server sets it only when an object is deleted.
    if workload.terminating {
        return Some(Skip::Terminating);
    }
    let (judged, old) = former(review, workload.kind)?;
    let same = same_handlers(workload, &old) && !workload::changed(workload, &old);
    (same && workload::same_spec(object, judged.get(), workload.kind)).then_some(Skip::Unchanged)
}

/// The object before an update, and its workload. `None` where there is none that can be read.
fn former(review: &Review, kind: Kind) -> Option<(Cow<'_, RawValue>, Workload)> {
    let old = review.old_object.as_deref().filter(|_| review.operation == Operation::Update)?;
    let old = workload::as_judged(old, kind).ok()?;
    let workload = workload::read(old.get(), kind, &review.namespace).ok()?;
    Some((old, workload))
}

/// Whether the same handler starts the images: an annotation that is changed before the pod is bound decides that. A pod of a
/// class is examined for any value, since a build of crun may have a handler of that name, and for what makes crun act on the
/// node; of a pod without one only the values count that mean Wasm. The devices that CRI-O hands over count for both.
fn same_handlers(new: &Workload, old: &Workload) -> bool {
    let (new_ones, old_ones) = (&new.annotations, &old.annotations);
    if !devices(new_ones).eq(devices(old_ones)) {
        return false;
    }
    if new.spec.runtime_class_name.is_none() {
        return wasm_handlers(new_ones) == wasm_handlers(old_ones);
    }
    handlers(new_ones) == handlers(old_ones) && on_node(new_ones).eq(on_node(old_ones))
}

/// Whether an object that cannot be read as a workload still names a Wasm runtime, where it is judged.
fn names_wasm_class(state: &State, kind: Kind, object: &RawValue) -> bool {
    let judged = workload::as_judged(object, kind).unwrap_or(Cow::Borrowed(object));
    let value: Value = serde_json::from_str(judged.get()).unwrap_or_default();
    let field = format!("{}/spec/runtimeClassName", kind.template_pointer());
    value.pointer(&field).and_then(Value::as_str).is_some_and(|class| state.profile_of(class).is_some())
}

// === Planning and judging ===

/// Plans the changes to a pod, as the mutating webhook does: from the text of its object, which nothing needs as a tree of values but the plan.
pub fn planned(
    asked: &ReviewContext<'_>,
    object: &RawValue,
    workload: &Workload,
    inspection: &Inspection,
) -> Result<Plan, Error> {
    // Templates, whose metadata are deeper in them, are not planned here.
    let read = managed::apart(object.get()).map_err(Error::ParseObject)?;
    template::planned(asked.state, read, workload, inspection, asked.clock.now())
}

/// Runs the policies on a workload as it is. The error is [`Error::NoPlace`].
pub async fn judge<K>(
    asked: &ReviewContext<'_>,
    object: &RawValue,
    workload: &Workload,
    inspection: &Inspection,
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Result<Judged<K>, Error> {
    let state = asked.state;
    let request = request_facts(asked.review);
    let unchanged = unchanged_ephemeral(asked.review, workload);
    let restarts = restarts(asked.review, workload);
    let case = InputParts { restarts, ..parts(asked, &request, &unchanged, (object, workload, inspection)) };
    let left = || asked.clock.left().saturating_sub(BEFORE_THE_END);
    let work = Work::of(workload, inspection);
    let (kept, is_late, (evaluation, shadow)) =
        if let Some(turn) = work.turn(&state.policies, asked.review.bytes_with(object), left()).await {
            let (kept, found) = shares::beside(|| {
                let input = judge::prepare(&case);
                (keep(&input), turn.evaluate(&input, left()))
            });
            let evaluation = match found {
                Ok(evaluation) => evaluation,
                // On the heap, since few inputs are large, and every review would hold it.
                Err(large) => Box::pin(large.evaluate(&workload.namespace, left())).await,
            };
            (kept, false, (evaluation, Evaluation::default()))
        } else {
            let before = left();
            let mut begun = before;
            let prepared = || {
                begun = left();
                judge::prepare(&case)
            };
            let input = work.beside(asked.clock.left(), prepared).await?;
            // As of an evaluation (`policy::evaluation`): less is left than it has waited.
            let is_late = before.saturating_sub(begun) > begun;
            let kept = keep(&input);
            let found = state.policies.evaluate_with_shadow(&workload.namespace, &input, left);
            (kept, is_late, Box::pin(found).await)
        };
    let is_explained = evaluation.failures.iter().any(|failure| names_calls(&failure.message));
    let overloaded = evaluation.failed_by_load(is_late && left().is_zero());
    if evaluation.failures.len() > overloaded && !is_explained && left().is_zero() {
        // The time of the review ended, and not for what a rule does: its own limit (`flow`) comes to speak now.
        tokio::time::sleep(AFTER_THE_END).await;
    }
    let failures = evaluation.failures.iter().chain(&shadow.failures);
    let failed_bundles = failures.map(|failure| failure.bundle.clone()).collect::<Vec<_>>();
    let is_repeatable = failed_bundles.is_empty() && evaluation.asked.or(shadow.asked).is_nothing();
    let is_cached = evaluation.is_cached;
    let judged = |evaluation| verdict(asked, workload, inspection, evaluation);
    let verdict = judged(evaluation);
    let is_overloaded = verdict.is_denied_by_load_alone(overloaded);
    let verdict = verdict.with_shadow(judged(shadow));
    let missing_class = missing_class(state, workload);
    let judgement =
        Judgement { verdict, failed_bundles, is_cached, is_repeatable, is_overloaded, missing_class };
    Ok(Judged { judgement, kept })
}

/// What the input of the rules is made from.
fn parts<'a>(
    asked: &ReviewContext<'a>,
    request: &'a RequestFacts<'a>,
    unchanged: &'a BTreeSet<String>,
    (object, workload, inspection): (&'a RawValue, &'a Workload, &'a Inspection),
) -> InputParts<'a> {
    let state = asked.state;
    InputParts {
        request,
        object,
        workload,
        inspection,
        unchanged,
        restarts: false,
        runtimes: state.runtimes(),
        cluster: state.cluster(),
        class_for: state.class_for(),
        grants: &state.grants,
        options: &state.options,
        unpinned: &state.unpinned,
        now: asked.clock.now(),
    }
}

/// The ephemeral containers that an update leaves as they are.
fn unchanged_ephemeral(review: &Review, workload: &Workload) -> BTreeSet<String> {
    let old = workload.spec.ephemeral_containers.as_ref().and_then(|_| former(review, workload.kind));
    old.map_or_else(BTreeSet::new, |(_, old)| workload::unchanged_ephemeral(workload, &old))
}

/// Whether the request is a resize that restarts each container that it changes, or changes the sizes of the pod alone.
fn restarts(review: &Review, workload: &Workload) -> bool {
    review.sub_resource.as_deref() == Some("resize")
        && former(review, workload.kind)
            .is_some_and(|(_, old)| judge::restarts_what_it_resizes(&workload.spec, &old.spec))
}

/// The pod's RuntimeClass, if the cluster does not have it. The API server refuses new pods of such a class; a running pod
/// may outlive its class.
fn missing_class(state: &State, workload: &Workload) -> Option<String> {
    let class = workload.spec.runtime_class_name.as_ref()?;
    let known = state.cluster().runtime_classes.as_ref()?;
    (!known.contains_key(class)).then(|| class.clone())
}

/// The verdict on this workload: the violations with enforcement actions and exceptions applied.
fn verdict(
    asked: &ReviewContext<'_>,
    workload: &Workload,
    inspection: &Inspection,
    evaluation: Evaluation,
) -> Verdict {
    let state = asked.state;
    let now = asked.clock.now();
    let exemption_context = ExemptionContext::of_workload(&state.exceptions, workload, inspection, now);
    judge::decide(
        evaluation,
        &state.enforcement,
        state.enforcement_of(&workload.namespace),
        &exemption_context,
    )
}

/// Judges a template as the pods that a controller would create from it: with defaults, changed by the mutating webhook,
/// and then judged.
async fn judge_as_pods<K>(
    asked: &ReviewContext<'_>,
    object: &RawValue,
    workload: &Workload,
    inspection: &Inspection,
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Result<Conclusion<K>, Error> {
    let pods = as_pods(asked, object, workload, inspection).await?;
    let no_application = template::no_application(asked.state.runtimes(), workload, inspection);
    let AsPods { before, mut plan, object, workload: pod, inspection } = pods;
    let lost_links = template::lost_links(workload, &plan.object);
    plan.warnings.extend(no_application.into_iter().chain(lost_links));
    plan.warnings.extend(template::unjudged(&before, workload.kind));
    // Most templates are new or keep their images: only then nothing is compared, and nothing copied for it.
    let former = before_new_image(asked, workload);
    let mut abilities = Abilities::default();
    let kept = |input: &PolicyInput<'_>| {
        if former.is_some() {
            abilities = Abilities::of(input);
        }
        keep(input)
    };
    let mut judged = judge(asked, &object, &pod, &inspection, kept).await?;
    // A template is warned about where it cannot be judged, and never refused.
    judged.judgement.is_overloaded = false;
    let able = match former {
        Some((old, former)) => advice(asked, abilities_before(asked, &old, &former)).await,
        None => None,
    };
    plan.warnings.extend(able.iter().flat_map(|able| abilities.warnings_since(able)));
    Ok(Conclusion::JudgedAsPods { before, plan, judged })
}

/// What is found for advice beside a verdict that is already there. It takes none of the time that the answer needs.
pub(super) async fn advice<T>(
    asked: &ReviewContext<'_>,
    found: impl Future<Output = Option<T>>,
) -> Option<T> {
    let time = asked.clock.for_inspection().min(COMPARISON);
    tokio::time::timeout(time, found).await.ok().flatten()
}

/// A template as its pods. Beside the threads that answer, as the plan for a pod is.
pub(super) async fn as_pods(
    asked: &ReviewContext<'_>,
    object: &RawValue,
    workload: &Workload,
    inspection: &Inspection,
) -> Result<AsPods, Error> {
    let work = || template::as_pods(asked.state, object, workload, inspection, asked.clock.now());
    Work::of(workload, inspection).beside(asked.clock.left(), work).await?
}

/// The object before an update that changes one of its images.
fn before_new_image<'a>(asked: &ReviewContext<'a>, new: &Workload) -> Option<(Cow<'a, RawValue>, Workload)> {
    former(asked.review, new.kind).filter(|(_, former)| gained::changes_an_image(new, former))
}

/// What there is to say of a template that has nothing to do with Wasm, and had before an update. No Linux workload pays for that: what
/// the images of the object before were is only recalled, and no registry is asked. They ran, so it is known as a rule.
fn left_wasm(asked: &ReviewContext<'_>, new: &Workload, inspection: &Inspection) -> Option<String> {
    if asked.webhook != Webhook::Validate || !new.kind.is_template() {
        return None;
    }
    let (_, former) = former(asked.review, new.kind)?;
    if !gained::has_other_images(new, &former) || !heavy::is_light_before_look_up(&former) {
        return None;
    }
    let found = inspect(asked.state, &asked.inspector.recalling(), &former, COMPARISON).now_or_never()?;
    gained::left_wasm(inspection, &found)
}

/// What the programs of the object before an update can do. `None` where it cannot be told: nothing is known of its images, for
/// which no review waits long, they bring more than is counted for each container, or it is much work, for which advice does not
/// stand in the line of reviews.
async fn abilities_before(
    asked: &ReviewContext<'_>,
    old: &RawValue,
    workload: &Workload,
) -> Option<Abilities> {
    let (state, review) = (asked.state, asked.review);
    if !heavy::is_light_before_look_up(workload) {
        return None;
    }
    let budget = asked.clock.for_inspection().min(COMPARISON);
    let inspection = inspect(state, asked.inspector, workload, budget).await;
    if !heavy::is_light_with(workload, &inspection) || handed::is_needed(workload, &inspection) {
        return None;
    }
    let pods = as_pods(asked, old, workload, &inspection).await.ok()?;
    let request = request_facts(review);
    let unchanged = BTreeSet::new();
    let case = parts(asked, &request, &unchanged, (&pods.object, &pods.workload, &pods.inspection));
    let work = Work::of(&pods.workload, &pods.inspection);
    let input = work.beside(asked.clock.left(), || judge::prepare(&case)).await.ok()?;
    Some(Abilities::of(&input))
}

fn request_facts(review: &Review) -> RequestFacts<'_> {
    RequestFacts {
        uid: &review.uid,
        operation: review.operation.as_str(),
        kind: &review.kind,
        sub_resource: review.sub_resource.as_deref().unwrap_or_default(),
        namespace: &review.namespace,
        name: &review.name,
        user: UserFacts {
            username: review.user.username.as_deref().unwrap_or_default(),
            groups: Groups(review.user.groups.as_deref()),
        },
        dry_run: review.dry_run,
    }
}
