//! One review from request body to response body: parse, examine, decide, record.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use serde_json::value::to_raw_value;

use super::decision::{Decision, GivenUp};
use super::decisions::{self, Named, Question};
use super::ending::Examination;
use super::examine::{ReviewContext, examine};
use super::gate::Basis;
use super::{Clock, Gate, memory, record};
use crate::audit::{Stage, Timings};
use crate::judge::PolicyInput;
use crate::otlp::SpanContext;
use crate::review::Webhook;
use crate::review::{self, Overloaded, Reply, Review};

/// The bytes of an answer.
struct Answered {
    bytes: Vec<u8>,
    /// Whether its work or its rules had no place in time, so that a server is not to send them.
    is_overloaded: bool,
}

impl Gate {
    /// Answers the review in `body` within `budget`; returns the body of the response. Where its work or its rules have no place in time, it refuses.
    pub async fn review(&self, webhook: Webhook, body: &[u8], budget: Duration) -> Vec<u8> {
        let clock = Clock::start(budget);
        answer(self, None, webhook, parse(webhook, body, &clock), clock).await.bytes
    }

    /// Answers the review with this uid, of whose bytes there are more than are read: how many it has, and how many it may have.
    pub fn review_too_large(
        &self,
        parent: Option<SpanContext>,
        webhook: Webhook,
        uid: &str,
        (has, may_have): (usize, usize),
    ) -> Vec<u8> {
        let clock = Clock::start(Duration::ZERO);
        let decision = Decision::of_large_review(webhook, uid, has, may_have);
        let (decision, bytes) = with_bytes(decision, &clock);
        record::emit(self, &self.state(), parent, webhook, None, decision, &clock);
        bytes
    }

    /// The same as [`Self::review`] for a review of a trace, and a server that can say that there is no answer.
    pub async fn review_of(
        &self,
        parent: Option<SpanContext>,
        webhook: Webhook,
        body: Bytes,
        budget: Duration,
    ) -> Reply {
        let clock = Clock::start(budget);
        let parsed = parse(webhook, &body, &clock);
        // The review has its objects as texts of its own, and may wait for a while.
        drop(body);
        let Answered { bytes, is_overloaded } = answer(self, parent, webhook, parsed, clock).await;
        if is_overloaded { Err(Overloaded) } else { Ok(bytes) }
    }
}

/// Answers one review and records the decision. The time limit is enforced here and not only by the server, so that a
/// review that is late leaves a record too.
async fn answer(
    gate: &Gate,
    parent: Option<SpanContext>,
    webhook: Webhook,
    parsed: Result<Review, Box<Decision>>,
    clock: Clock,
) -> Answered {
    let basis = gate.basis();
    let (review, (decision, bytes)) = match parsed {
        Ok(review) => {
            let decided = decide(&basis, webhook, &review, clock).await;
            (Some(review), decided)
        }
        Err(decision) => (None, with_bytes(*decision, &clock)),
    };
    let is_overloaded = decision.is_overloaded();
    record::emit(gate, &basis.state, parent, webhook, review, decision, &clock);
    Answered { bytes, is_overloaded }
}

/// The review, or the decision about a body that is not an AdmissionReview.
fn parse(webhook: Webhook, body: &[u8], clock: &Clock) -> Result<Review, Box<Decision>> {
    match catch_unwind(|| review::parse(body)) {
        Ok(Ok(review)) => Ok(review),
        Ok(Err(error)) => Err(Decision::of_no_review(webhook, error).into()),
        Err(_) => {
            let uid = review::uid_of(body).unwrap_or_default();
            Err(Decision::of_given_up(webhook, &uid, clock, GivenUp::Broken).into())
        }
    }
}

/// The decision about a review, within its budget, even if the gate panics.
async fn decide(basis: &Basis, webhook: Webhook, review: &Review, clock: Clock) -> (Decision, Vec<u8>) {
    let work = known_or_new(basis, webhook, review, clock);
    let why = match tokio::time::timeout(clock.left(), AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(decided)) => return decided,
        Ok(Err(_)) => GivenUp::Broken,
        Err(_) => GivenUp::Late,
    };
    with_bytes(Decision::of_given_up(webhook, &review.uid, &clock, why), &clock)
}

/// The decision about an earlier review of the same content, or a new one.
async fn known_or_new(basis: &Basis, webhook: Webhook, review: &Review, clock: Clock) -> (Decision, Vec<u8>) {
    let Basis { state, inspector, decisions } = basis;
    let question = decisions.question(state, webhook, review);
    let managed_fields = question.as_ref().and_then(Question::managed_fields);
    if let Some(question) = &question
        && let Some((known, bytes)) = decisions.find(question, review, (state, inspector), &clock).await
    {
        let known = Decision { managed_fields, ..known };
        return match bytes {
            Some(bytes) => (known, bytes),
            None => with_bytes(known, &clock),
        };
    }
    pause().await;
    let new = decided_within_memory(basis, webhook, review, question, clock).await;
    with_bytes(Decision { managed_fields, ..new }, &clock)
}

/// A new decision, once there is memory for what the objects of the review are parsed to.
async fn decided_within_memory(
    basis: &Basis,
    webhook: Webhook,
    review: &Review,
    question: Option<Question<'_>>,
    clock: Clock,
) -> Decision {
    let Basis { state, inspector, .. } = basis;
    let asked = ReviewContext { state, inspector, webhook, review, clock };
    match memory::reserve(&asked).await {
        // It is held until what was parsed is gone. On the heap, so that a decision that is known does not move the space for it.
        Ok(_memory) => Box::pin(decided(basis, &asked, question)).await,
        Err(error) => {
            let ending = memory::none_for(&asked, error);
            Decision::of(webhook, review, Examination { ending, timings: Timings::default() })
        }
    }
}

/// A new decision, which is kept if it may come out again.
async fn decided(basis: &Basis, asked: &ReviewContext<'_>, question: Option<Question<'_>>) -> Decision {
    let mut named = Named::default();
    let read = |input: &PolicyInput<'_>| {
        named = Named::in_input(input, question.as_ref());
        // Without it the decision is replayed by none, and stands all the same.
        if asked.state.records_input { to_raw_value(input).ok() } else { None }
    };
    let examination = examine(asked, read).await;
    let question = question.filter(|question| decisions::may_keep(question, &named, &examination));
    let puller = question.as_ref().and_then(|_| decisions::puller(&examination));
    let decision = Decision::of(asked.webhook, asked.review, examination);
    if let Some((question, puller)) = question.zip(puller) {
        basis.decisions.keep(&question, (named, puller), &decision, &asked.clock).await;
    }
    decision
}

/// Leaves what follows to the next poll: it takes longer than to look for what is known, and the server then does it beside the thread that
/// reads requests.
async fn pause() {
    let mut is_next = false;
    let poll = |context: &mut Context<'_>| {
        if std::mem::replace(&mut is_next, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    };
    std::future::poll_fn(poll).await;
}

/// The decision with its answer as bytes.
fn with_bytes(mut decision: Decision, clock: &Clock) -> (Decision, Vec<u8>) {
    let decided = clock.elapsed();
    let bytes = decision.answer.response.to_bytes();
    decision.timings.note(Stage::Answer, clock.elapsed().saturating_sub(decided));
    (decision, bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::Value;

    use super::super::{Error, State, heavy};
    use super::*;
    use crate::admission::examine::{advice, as_pods, inspect};
    use crate::admission::rehearsal::{Asked, rehearse_review};
    use crate::audit::{DecisionLogOptions, DecisionLogOutput, Labels, Metrics, Sink};
    use crate::inspection::LookupResult;
    use crate::lookup::{self, Inspector};
    use crate::policy::{Engine, Limits, PolicySet};
    use crate::registry;
    use crate::runtime::Runtimes;
    use crate::workload;

    async fn gate() -> Gate {
        gate_with(lookup::LookupOptions::default()).await
    }

    async fn gate_with(images: lookup::LookupOptions) -> Gate {
        let metrics = Arc::new(Metrics::new());
        let log = DecisionLogOptions { output: DecisionLogOutput::Off, ..DecisionLogOptions::default() };
        let sink = Sink::open(&log, metrics.drops()).unwrap();
        let engine = Engine::new().unwrap();
        let policies = PolicySet::load(&engine, Vec::new(), Limits::default());
        let state = State::new(Runtimes::default(), Arc::default(), policies.await.unwrap().into());
        let inspector = Inspector::new(images).unwrap();
        Gate::new(state, inspector, sink, metrics, Labels::new("test", &BTreeMap::new()))
    }

    #[tokio::test]
    async fn a_breakdown_refuses_on_the_validating_webhook_and_admits_on_the_mutating_one() {
        let gate = gate().await;
        let clock = Clock::start(Duration::from_secs(1));
        for (webhook, allowed) in [(Webhook::Validate, false), (Webhook::Mutate, true)] {
            let decision = Decision::of_given_up(webhook, "u-1", &clock, GivenUp::Broken);
            let (decision, bytes) = with_bytes(decision, &clock);
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            record::emit(&gate, &gate.state(), None, webhook, None, decision, &clock);
            assert_eq!(answer["response"]["uid"], "u-1");
            assert_eq!(answer["response"]["allowed"], allowed);
        }
        assert!(gate.encode_metrics().contains(r#"outcome="error""#));
    }

    /// Volumes of which each is counted for about ten kilobytes.
    fn of_volumes(count: usize) -> Value {
        let volumes = vec![serde_json::json!({"name": "a"}); count];
        serde_json::json!({"containers": [{"name": "app", "image": "127.0.0.1:1/app:1"}], "volumes": volumes})
    }

    #[tokio::test]
    async fn what_would_take_more_memory_than_there_is_is_refused_where_it_is_a_pod_to_judge_and_else_warned_about()
     {
        let (gate, spec) = (gate().await, of_volumes(30_000));
        for (webhook, review, code, said) in [
            (Webhook::Validate, review_of(&spec), Some(413), "did not judge this pod"),
            (Webhook::Mutate, review_of(&spec), None, "did not change this pod"),
            (Webhook::Validate, review_of_deployment(&spec, None), None, "could not judge this object"),
        ] {
            let clock = Clock::start(Duration::from_secs(20));
            let (decision, _) = decide(&gate.basis(), webhook, &review, clock).await;
            let response = &decision.answer.response;
            assert_eq!(response.refusal.as_ref().map(|refusal| refusal.code), code, "{webhook:?}");
            let refusal = response.refusal.iter().map(|refusal| &refusal.message);
            let texts: Vec<&String> = refusal.chain(&response.warnings).collect();
            assert!(texts.len() == 1 && texts[0].contains(said), "{texts:?}");
            assert!(texts[0].contains("MiB of memory") && !decision.is_overloaded(), "{texts:?}");
        }
    }

    /// Where nothing is reserved, as in `explain`.
    #[tokio::test]
    async fn a_rehearsal_says_of_an_object_that_is_too_large_what_a_review_of_it_says() {
        let (gate, spec, budget) = (gate().await, of_volumes(30_000), Duration::from_secs(20));
        for review in [review_of(&spec), review_of_deployment(&spec, None)] {
            let basis = gate.basis();
            let (mutated, _) = decide(&basis, Webhook::Mutate, &review, Clock::start(budget)).await;
            let (validated, _) = decide(&basis, Webhook::Validate, &review, Clock::start(budget)).await;
            let (state, inspector, asked) = (&basis.state, &basis.inspector, (Asked::Both, budget));
            let rehearsal = rehearse_review(state, inspector, review, asked, |_| ()).await.unwrap();
            let warnings = rehearsal.warnings();
            assert_eq!(rehearsal.mutate.as_ref().map(|answered| &answered.answer), Some(&mutated.answer));
            assert_eq!(rehearsal.validate.answer, validated.answer);
            assert!(warnings.iter().all(|warning| warning.contains("MiB of memory")), "{warnings:?}");
            let error = rehearsal.into_result().unwrap_err();
            assert!(matches!(error, Error::ObjectTooLarge { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_review_that_gets_no_memory_in_time_is_not_denied_and_a_small_one_waits_for_none_of_it() {
        let gate = gate().await;
        let _all = memory::take_all_for_large().await;
        for webhook in [Webhook::Validate, Webhook::Mutate] {
            let clock = Clock::start(Duration::from_millis(600));
            let (decision, _) = decide(&gate.basis(), webhook, &review_of(&of_volumes(5_000)), clock).await;
            assert!(decision.is_overloaded(), "{webhook:?}: {}", decision.note);
        }
        let clock = Clock::start(Duration::from_secs(20));
        let small = review_of(&of_volumes(5));
        let (decision, _) = decide(&gate.basis(), Webhook::Validate, &small, clock).await;
        assert!(decision.answer.response.refusal.is_none() && !decision.is_overloaded(), "{}", decision.note);
    }

    /// A pod with more mounts than are followed where other reviews wait, whose image no registry has.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_review_that_gets_no_place_to_work_in_time_is_neither_denied_nor_left_as_it_is_and_a_linux_pod_is_left_alone()
     {
        let gate = gate().await;
        let class = gate.state().runtimes().profiles[0].runtime_class.clone();
        let _all = heavy::take_all().await;
        for (class, webhook, is_overloaded) in [
            (Some(&class), Webhook::Validate, true),
            (Some(&class), Webhook::Mutate, true),
            (None, Webhook::Validate, false),
        ] {
            let review = heavy_review(class.map(String::as_str));
            let clock = Clock::start(Duration::from_millis(900));
            let (decision, _) = decide(&gate.basis(), webhook, &review, clock).await;
            assert_eq!(decision.is_overloaded(), is_overloaded, "{class:?} {webhook:?}: {}", decision.note);
            assert_eq!(decision.answer.response.refusal.is_some(), is_overloaded, "{class:?} {webhook:?}");
            assert!(clock.elapsed() < Duration::from_secs(20), "{class:?} {webhook:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_template_that_gets_no_place_to_work_in_time_is_admitted_with_a_warning() {
        let gate = gate().await;
        let review = review_of_deployment(&heavy_spec(Some("wasmtime")), None);
        let _all = heavy::take_all().await;
        let clock = Clock::start(Duration::from_millis(900));
        let (decision, _) = decide(&gate.basis(), Webhook::Validate, &review, clock).await;
        let response = &decision.answer.response;
        assert!(response.refusal.is_none() && !decision.is_overloaded(), "{}", decision.note);
        let warned = response.warnings.iter().any(|warning| warning.contains("add replicas"));
        assert!(warned, "{:?}", response.warnings);
    }

    fn heavy_spec(class: Option<&str>) -> Value {
        let path = "/x:".repeat(20_000);
        let container = serde_json::json!({
            "name": "app", "image": "127.0.0.1:1/app:1", "command": ["app"], "env": [{"name": "PATH", "value": path}],
        });
        serde_json::json!({"runtimeClassName": class, "containers": [container]})
    }

    fn heavy_review(class: Option<&str>) -> Review {
        review_of(&heavy_spec(class))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_pods_of_a_heavy_template_are_planned_where_other_reviews_do_not_wait_for_it() {
        let (gate, class) = (gate().await, "wasmtime");
        let (basis, review) = (gate.basis(), heavy_review(Some(class)));
        let asked = ReviewContext {
            state: &basis.state,
            inspector: &basis.inspector,
            webhook: Webhook::Validate,
            review: &review,
            clock: Clock::start(Duration::from_secs(20)),
        };
        let template = serde_json::json!({"template": {"spec": heavy_spec(Some(class))}});
        let object =
            to_raw_value(&serde_json::json!({"metadata": {"name": "app"}, "spec": template})).unwrap();
        let workload = workload::read(object.get(), workload::Kind::Deployment, "shop").unwrap();
        let soon = Duration::from_millis(500);
        let inspection = inspect(&basis.state, &basis.inspector, &workload, soon).await;
        let all = heavy::take_all().await;
        assert!(as_pods(&asked, &object, &workload, &inspection).now_or_never().is_none());
        drop(all);
        assert!(as_pods(&asked, &object, &workload, &inspection).await.is_ok());
    }

    #[tokio::test]
    async fn advice_takes_none_of_the_time_that_the_answer_needs() {
        let (gate, review) = (gate().await, heavy_review(None));
        let (basis, clock) = (gate.basis(), Clock::start(Duration::from_secs(10)));
        let Basis { state, inspector, .. } = &*basis;
        let asked = ReviewContext { state, inspector, webhook: Webhook::Validate, review: &review, clock };
        assert_eq!(advice(&asked, std::future::pending::<Option<()>>()).await, None);
        assert!(clock.left() > Duration::from_secs(5), "{:?}", clock.left());
        let late = ReviewContext { clock: Clock::start(Duration::ZERO), ..asked };
        assert_eq!(advice(&late, std::future::pending::<Option<()>>()).await, None);
        assert_eq!(advice(&asked, std::future::ready(Some(1))).await, Some(1));
    }

    /// A Deployment whose new pods are little work, and whose former ones were much.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_verdict_waits_for_no_place_to_compare_the_new_image_with_the_one_before() {
        let gate = gate().await;
        let light = serde_json::json!({
            "runtimeClassName": "wasmtime", "containers": [{"name": "app", "image": "127.0.0.1:1/app:2", "command": ["app"]}],
        });
        let review = review_of_deployment(&light, Some(&heavy_spec(Some("wasmtime"))));
        let _all = heavy::take_all().await;
        let clock = Clock::start(Duration::from_secs(2));
        let (decision, _) = decide(&gate.basis(), Webhook::Validate, &review, clock).await;
        assert!(decision.judgement.is_some(), "{}", decision.note);
    }

    fn review_of(spec: &Value) -> Review {
        review_with(&serde_json::json!({
            "operation": "CREATE",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": spec},
        }))
    }

    /// Of a Deployment with these pods, and of one that changes its former pods where there are some.
    fn review_of_deployment(pods: &Value, former: Option<&Value>) -> Review {
        let deployment = |spec: &Value| {
            serde_json::json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": "shop"},
                "spec": {"selector": {"matchLabels": {"app": "app"}}, "template": {"metadata": {"labels": {"app": "app"}}, "spec": spec}},
            })
        };
        review_with(&serde_json::json!({
            "operation": if former.is_some() { "UPDATE" } else { "CREATE" },
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "object": deployment(pods), "oldObject": former.map(deployment),
        }))
    }

    fn review_with(request: &Value) -> Review {
        let mut whole = serde_json::json!({
            "uid": "u-1", "namespace": "shop", "name": "app", "userInfo": {"username": "dev"},
        });
        whole.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
        let text = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": whole,
        });
        review::parse(text.to_string().as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_pod_without_a_wasm_class_is_admitted_soon_when_its_registry_hangs_and_one_with_a_class_is_not()
    {
        // The kernel accepts the connections, but no server answers them.
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
        let class = gate.state().runtimes().profiles[0].runtime_class.clone();
        let review = |class: Option<&str>, number: usize| {
            review_of(&serde_json::json!({
                "runtimeClassName": class,
                "containers": [{"name": "app", "image": format!("{host}/app{number}:1")}],
            }))
        };
        let ample = Duration::from_secs(20);
        for (number, webhook) in
            [Webhook::Mutate, Webhook::Validate, Webhook::Mutate, Webhook::Validate].into_iter().enumerate()
        {
            let clock = Clock::start(ample);
            let (decision, _) = decide(&gate.basis(), webhook, &review(None, number), clock).await;
            assert!(
                decision.answer.response.refusal.is_none() && decision.judgement.is_none(),
                "{webhook:?}"
            );
            assert_eq!(decision.note, "no Wasm");
            assert!(clock.elapsed() < ample / 4, "{webhook:?} took {:?}", clock.elapsed());
        }
        let (clock, review) = (Clock::start(Duration::from_millis(1300)), review(Some(&class), 9));
        let (decision, _) = decide(&gate.basis(), Webhook::Validate, &review, clock).await;
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
