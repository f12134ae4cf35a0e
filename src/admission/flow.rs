//! One review from bytes to bytes.

use serde_json::Value;
use serde_json::value::RawValue;

use super::examine::{self, Examination, Judgement};
use super::state::{Error, State};
use super::{Clock, Gate, record};
use crate::answer::{self, Answer};
use crate::audit::{Stage, Timings};
use crate::image::Program;
use crate::image::annotation::crun_annotation;
use crate::inspection::{Inspection, LookupResult};
use crate::judge::input::UserFacts;
use crate::judge::{RequestFacts, Verdict};
use crate::plan::Plan;
use crate::review::Webhook;
use crate::review::{self, Operation, Review};
use crate::workload::{self, Kind, Workload};

/// What happened to a review, for the record.
#[derive(Debug)]
pub struct Decision {
    /// The answer.
    pub answer: Answer,
    /// What the images are; empty when nothing was looked at.
    pub inspection: Inspection,
    /// What the policies said; `None` when they were not asked.
    pub judgement: Option<Judgement>,
    /// One phrase: how it came to this.
    pub note: &'static str,
    /// What was attempted and why it failed.
    pub failure: Option<(&'static str, Error)>,
    /// One line per change.
    pub changes: Vec<String>,
    /// Where the time went.
    pub timings: Timings,
}

impl Decision {
    fn skipped(answer: Answer, note: &'static str) -> Self {
        Self {
            answer,
            inspection: Inspection::default(),
            judgement: None,
            note,
            failure: None,
            changes: Vec::new(),
            timings: Timings::default(),
        }
    }
}

/// Answers one review and records what was decided.
pub async fn answer(gate: &Gate, webhook: Webhook, body: &[u8], clock: Clock) -> Vec<u8> {
    let review = match review::parse(body) {
        Ok(review) => review,
        Err(error) => {
            let uid = error.uid.clone().unwrap_or_default();
            let decision = Decision::skipped(answer::invalid(&uid, error.to_string()), "unreadable review");
            let bytes = decision.answer.response.to_bytes();
            record::emit(gate, &gate.state(), webhook, None, decision, &clock);
            return bytes;
        }
    };
    let state = gate.state();
    let mut decision = decide(gate, &state, webhook, &review, &clock).await;
    let decided = clock.elapsed();
    let bytes = decision.answer.response.to_bytes();
    decision.timings.note(Stage::Answer, clock.elapsed().saturating_sub(decided));
    record::emit(gate, &state, webhook, Some(review), decision, &clock);
    bytes
}

/// Why a review has no answer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// The gate panicked. No panic is known to be reachable.
    Broken,
    /// The rules of all bundles together took longer than the review may.
    Late,
}

impl GivenUp {
    /// As the record's `error.code` has it.
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
            Self::Broken => "wasmgate broke down over this review; its log has the place".to_string(),
            Self::Late => format!(
                "wasmgate did not finish this review within {} ms; raise the webhook's timeoutSeconds and \
                 `server.reviewTimeout`, or lower `policies.timeLimit`",
                clock.budget.as_millis()
            ),
        }
    }
}

/// The answer when there is none: the API server gets one that it can match, and the decision log a record. A pod whose
/// images are slow to read is answered before; what is late has come as far as the rules, so it has to do with Wasm.
pub fn given_up(gate: &Gate, webhook: Webhook, body: &[u8], clock: &Clock, why: GivenUp) -> Vec<u8> {
    let uid = review::uid_of(body).unwrap_or_default();
    let message = why.message(clock);
    let failure = Some((why.code(), Error::Finish(message.clone())));
    let answer = match webhook {
        Webhook::Mutate => answer::skip_with_warning(&uid, message),
        Webhook::Validate => answer::failed(&uid, message),
    };
    let bytes = answer.response.to_bytes();
    // A review that was only late can still be read, and the record should say whose it was.
    let review = (why == GivenUp::Late).then(|| review::parse(body).ok()).flatten();
    let decision = Decision { failure, ..Decision::skipped(answer, why.note()) };
    record::emit(gate, &gate.state(), webhook, review, decision, clock);
    bytes
}

async fn decide(gate: &Gate, state: &State, webhook: Webhook, review: &Review, clock: &Clock) -> Decision {
    let uid = &review.uid;
    if let Some(note) = not_ours(state, webhook, review) {
        return Decision::skipped(answer::skip(uid), note);
    }
    let Some(kind) = Kind::of(&review.kind) else {
        let message = format!(
            "wasmgate does not judge {} `{}`; leave it out of the webhook's rules",
            review.kind.kind, review.name
        );
        return Decision::skipped(answer::skip_with_warning(uid, message), "kind without a pod spec");
    };
    let Some(object) = review.object.as_deref() else {
        return Decision::skipped(answer::skip(uid), "no object");
    };
    let judged = workload::as_judged(object, kind);
    let read = judged.and_then(|object| Ok((workload::read(object.get(), kind, &review.namespace)?, object)));
    let (workload, object) = match read {
        Ok(read) => read,
        Err(error) => return unreadable(state, webhook, uid, kind, object.get(), &error.into()),
    };
    if let Some(note) = nothing_to_do(review, &workload, kind) {
        return Decision::skipped(answer::skip(uid), note);
    }
    let read = clock.elapsed();
    let inspection = examine::inspect(state, &gate.inspector, &workload, clock.for_inspection()).await;
    let inspected = clock.elapsed();
    let (mut decision, stage) = match webhook {
        Webhook::Mutate => (mutate(state, uid, object.get(), &workload, inspection), Stage::Plan),
        Webhook::Validate => (validate(state, review, &object, workload, inspection).await, Stage::Judge),
    };
    decision.timings.note(Stage::Read, read);
    decision.timings.note(Stage::Inspect, inspected.saturating_sub(read));
    decision.timings.note(stage, clock.elapsed().saturating_sub(inspected));
    decision
}

/// Subresources of the kinds with a pod spec that carry no image.
const HARMLESS_SUBRESOURCES: &[&str] =
    &["status", "scale", "binding", "eviction", "exec", "attach", "portforward", "log", "proxy", "token"];

/// Reviews that are answered before anything is read.
fn not_ours(state: &State, webhook: Webhook, review: &Review) -> Option<&'static str> {
    let sub_resource = review.sub_resource.as_deref();
    if state.exempt_namespaces.contains(&review.namespace) {
        return Some("exempt namespace");
    }
    if matches!(review.operation, Operation::Delete | Operation::Connect) {
        return Some("operation that starts nothing");
    }
    if sub_resource.is_some_and(|name| HARMLESS_SUBRESOURCES.contains(&name)) {
        return Some("subresource that carries no image");
    }
    let patched = review.operation == Operation::Create && sub_resource.is_none();
    (webhook == Webhook::Mutate && !patched).then_some("only new pods are changed")
}

/// Objects that are read and then left alone.
fn nothing_to_do(review: &Review, workload: &Workload, kind: Kind) -> Option<&'static str> {
    if workload.is_mirror() {
        return Some("mirror pod");
    }
    // On CREATE the field is forged: the API server sets it when an object is deleted.
    if workload.terminating && review.operation == Operation::Update {
        return Some("object on its way out");
    }
    let old = review.old_object.as_deref()?;
    let old = workload::as_judged(old, kind).ok()?;
    let old = workload::read(old.get(), kind, &review.namespace).ok()?;
    // An annotation that comes before the pod is bound decides what its image is started with.
    let same_handler = crun_annotation(&workload.annotations) == crun_annotation(&old.annotations);
    let unchanged =
        review.operation == Operation::Update && same_handler && !workload::changed(workload, &old);
    unchanged.then_some("nothing that is judged has changed")
}

/// An object whose pod spec cannot be read: refused where it would run on a Wasm runtime, left to the API server's
/// own validation otherwise, so that no Linux pod is harmed by a field that this version does not know.
fn unreadable(
    state: &State,
    webhook: Webhook,
    uid: &str,
    kind: Kind,
    object: &str,
    error: &Error,
) -> Decision {
    let value: Value = serde_json::from_str(object).unwrap_or_default();
    let class =
        value.pointer(&format!("{}/spec/runtimeClassName", kind.template_pointer())).and_then(Value::as_str);
    let wasm = class.is_some_and(|name| state.profile_of(name).is_some());
    if wasm && webhook == Webhook::Validate {
        return Decision::skipped(answer::invalid(uid, error.to_string()), "unreadable object");
    }
    let warning = format!("wasmgate left this object alone: {error}");
    Decision::skipped(answer::skip_with_warning(uid, warning), "unreadable object")
}

/// The mutating webhook. A failure to plan never refuses: the validating webhook judges the pod that comes out.
fn mutate(state: &State, uid: &str, object: &str, workload: &Workload, inspection: Inspection) -> Decision {
    if workload.kind.is_template() || !examine::concerns(state, workload, &inspection) {
        return unconcerned(uid, workload, inspection, Webhook::Mutate);
    }
    match planned(state, object, workload, &inspection) {
        Ok(plan) => {
            let changes = plan.changes.clone();
            let answer = answer::of_plan(uid, workload, &inspection, plan);
            Decision { inspection, changes, ..Decision::skipped(answer, "planned") }
        }
        Err(error) => {
            let warning = format!("wasmgate did not change this pod: {error}");
            let answer = answer::skip_with_warning(uid, warning);
            Decision {
                inspection,
                failure: Some(("plan", error)),
                ..Decision::skipped(answer, "could not plan")
            }
        }
    }
}

/// A pod that has nothing to do with Wasm, or of which nobody can tell: admitted as it is. When nobody can tell the
/// mutating webhook says so, because a Wasm pod among them would start on the wrong runtime.
fn unconcerned(uid: &str, workload: &Workload, inspection: Inspection, webhook: Webhook) -> Decision {
    let said =
        (webhook == Webhook::Mutate && !workload.kind.is_template()).then(|| doubt(&inspection)).flatten();
    let answer = match said {
        Some(warning) => answer::skip_with_warning(uid, warning),
        None => answer::skip(uid),
    };
    Decision { inspection, ..Decision::skipped(answer, "no Wasm") }
}

/// What to say about the first container of which nobody can tell what it starts.
fn doubt(inspection: &Inspection) -> Option<String> {
    inspection.containers.iter().find_map(|container| {
        let name = &container.name;
        match &container.lookup {
            LookupResult::Unread { error } => Some(format!(
                "container `{name}` was admitted as it is, without a look at its image: {error}"
            )),
            LookupResult::Known { program: Program::Unknown { reason }, .. } => Some(format!(
                "container `{name}` was admitted as it is, because its program was not recognised: {reason}"
            )),
            LookupResult::Known { .. } => None,
        }
    })
}

/// The validating webhook: a pod is judged as it stands, a template as the pods that would be made of it.
async fn validate(
    state: &State,
    review: &Review,
    object: &RawValue,
    workload: Workload,
    inspection: Inspection,
) -> Decision {
    if !examine::concerns(state, &workload, &inspection) {
        return unconcerned(&review.uid, &workload, inspection, Webhook::Validate);
    }
    let request = request_facts(review);
    if workload.kind.is_template() {
        return validate_template(state, &request, object.get(), &workload, inspection).await;
    }
    let judgement = examine::judge(state, &request, object, &workload, &inspection).await;
    let answer = answer::of_verdict(&review.uid, &workload, &inspection, &judgement.verdict);
    Decision { inspection, judgement: Some(judgement), ..Decision::skipped(answer, "judged by the policies") }
}

async fn validate_template(
    state: &State,
    request: &RequestFacts<'_>,
    object: &str,
    workload: &Workload,
    inspection: Inspection,
) -> Decision {
    let examined = match planned(state, object, workload, &inspection) {
        Ok(plan) => examine::judge_planned(state, request, workload.kind, inspection.clone(), plan).await,
        Err(error) => Err(error),
    };
    match examined {
        Ok(Examination { workload, plan, judgement, .. }) => {
            let nothing = Verdict::default();
            let verdict = judgement.as_ref().map_or(&nothing, |j| &j.verdict);
            let answer = answer::of_template(request.uid, &workload, &inspection, &plan.warnings, verdict);
            Decision {
                inspection,
                judgement,
                ..Decision::skipped(answer, "judged by the policies, as its pods")
            }
        }
        Err(error) => {
            let warning = format!("wasmgate could not judge this object: {error}");
            let answer = answer::skip_with_warning(request.uid, warning);
            Decision {
                inspection,
                failure: Some(("judge-template", error)),
                ..Decision::skipped(answer, "could not judge")
            }
        }
    }
}

fn planned(state: &State, object: &str, workload: &Workload, inspection: &Inspection) -> Result<Plan, Error> {
    let raw: Value = serde_json::from_str(object).map_err(Error::ParseObject)?;
    examine::plan(state, &raw, workload, inspection)
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
            groups: review.user.groups.as_deref().unwrap_or_default(),
        },
        dry_run: review.dry_run,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::audit::{DecisionLogOptions, DecisionLogOutput, Labels, Metrics, Sink};
    use crate::lookup::{self, Inspector};
    use crate::policy::{Engine, Limits, PolicySet};
    use crate::registry;

    async fn gate() -> Gate {
        gate_with(lookup::LookupOptions::default()).await
    }

    async fn gate_with(images: lookup::LookupOptions) -> Gate {
        let metrics = Arc::new(Metrics::new());
        let log = DecisionLogOptions { output: DecisionLogOutput::Off, ..DecisionLogOptions::default() };
        let sink = Sink::open(&log, metrics.drops()).unwrap();
        let state = State {
            runtimes: crate::runtime::Runtimes::default(),
            cluster: Arc::default(),
            grants: Arc::default(),
            exceptions: Arc::default(),
            options: crate::judge::PolicyOptions::default(),
            policies: Arc::new(
                PolicySet::load(&Engine::new().unwrap(), Vec::new(), Limits::default()).await.unwrap(),
            ),
            enforcement: crate::judge::EnforcementSettings::default(),
            exempt_namespaces: std::collections::BTreeSet::new(),
        };
        let inspector = Inspector::new(images).unwrap();
        Gate::new(state, inspector, sink, metrics, Labels::new("test", &BTreeMap::new()))
    }

    #[tokio::test]
    async fn a_breakdown_refuses_on_the_validating_webhook_and_admits_on_the_mutating_one() {
        let gate = gate().await;
        let body =
            br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1"}}"#;
        let clock = Clock::start(Duration::from_secs(1));
        for (webhook, allowed) in [(Webhook::Validate, false), (Webhook::Mutate, true)] {
            let answer: Value =
                serde_json::from_slice(&given_up(&gate, webhook, body, &clock, GivenUp::Broken)).unwrap();
            assert_eq!(answer["response"]["uid"], "u-1");
            assert_eq!(answer["response"]["allowed"], allowed);
        }
        assert!(gate.encode_metrics().contains(r#"outcome="error""#));
    }

    #[tokio::test]
    async fn a_pod_without_a_wasm_class_is_admitted_soon_when_its_registry_hangs_and_one_with_a_class_is_not()
    {
        // The kernel takes the connections, and nobody answers them.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = silent.local_addr().unwrap().to_string();
        let registries = registry::guard::GuardOptions {
            allow: vec![host.clone()],
            insecure: vec![host.clone()],
            ..registry::guard::GuardOptions::default()
        };
        let breaker = registry::BreakerOptions {
            suspect_after: Duration::from_millis(100),
            patience: Duration::from_millis(50),
            ..registry::BreakerOptions::default()
        };
        let gate =
            gate_with(lookup::LookupOptions { registries, breaker, ..lookup::LookupOptions::default() })
                .await;
        let class = gate.state().runtimes.profiles[0].runtime_class.clone();
        let review = |class: Option<&str>, number: usize| {
            let spec = serde_json::json!({
                "runtimeClassName": class,
                "containers": [{"name": "app", "image": format!("{host}/app{number}:1")}],
            });
            let text = serde_json::json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": {
                    "uid": "u-1", "operation": "CREATE", "namespace": "shop", "name": "app",
                    "kind": {"group": "", "version": "v1", "kind": "Pod"},
                    "resource": {"group": "", "version": "v1", "resource": "pods"},
                    "userInfo": {"username": "dev"},
                    "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": spec},
                },
            });
            review::parse(text.to_string().as_bytes()).unwrap()
        };
        let ample = Duration::from_secs(20);
        for (number, webhook) in
            [Webhook::Mutate, Webhook::Validate, Webhook::Mutate, Webhook::Validate].into_iter().enumerate()
        {
            let clock = Clock::start(ample);
            let decision = decide(&gate, &gate.state(), webhook, &review(None, number), &clock).await;
            assert!(
                decision.answer.response.refusal.is_none() && decision.judgement.is_none(),
                "{webhook:?}"
            );
            assert_eq!(decision.note, "no Wasm");
            assert!(clock.elapsed() < ample / 4, "{webhook:?} took {:?}", clock.elapsed());
        }
        let (clock, review) = (Clock::start(Duration::from_millis(1300)), review(Some(&class), 9));
        let decision = decide(&gate, &gate.state(), Webhook::Validate, &review, &clock).await;
        assert!(decision.judgement.is_some(), "an unread image under a Wasm class is judged");
        let LookupResult::Unread { error } = &decision.inspection.containers[0].lookup else {
            panic!("it hangs")
        };
        assert!(
            matches!(**error, crate::lookup::Error::TimedOut { budget_ms: 900.., .. }),
            "it is waited for: {error}"
        );
    }
}
