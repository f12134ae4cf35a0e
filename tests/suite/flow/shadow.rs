//! Bundles in the shadow, and recorded decisions that are judged again.

use serde_json::{Value, json};
use wasmgate::admission::State;
use wasmgate::admission::replay::{Exceptions, NotReplayable, RecordedDecision, ReplayTerms, Replayed};
use wasmgate::review::Webhook;

use super::cases::{apart, shared_setup};
use crate::support::corpus::Case;
use crate::support::gate::{Flow, Request, Setup, defaulted, patched, plain_pod, plug_ins, pod};
use crate::support::images;
use crate::support::opa;

/// A setup whose records hold what the rules read.
fn recording(setup: Setup) -> Setup {
    assert!(!setup.configuration.contains("decisionLog"));
    let configuration = format!("{}\ndecisionLog: {{policyInput: true}}\n", setup.configuration);
    Setup { configuration, ..setup }
}

/// Judges again at the time of the record, by the exceptions of the gate.
async fn judged_again(state: &State, recorded: &RecordedDecision) -> Result<Replayed, NotReplayable> {
    let terms = ReplayTerms { exceptions: Exceptions::Given, now: None, takes_options: false };
    wasmgate::admission::replay::replay(state, recorded, terms).await
}

/// Sends a case as the API server would, without the wire.
async fn send(case: &Case, flow: &Flow) {
    let mut request = case.request();
    let mutate = flow.send(Webhook::Mutate, &request).await;
    request.object = plug_ins(&patched(&request.object, &mutate), case.namespace(), &case.cluster());
    flow.send(Webhook::Validate, &request).await;
}

/// The records of a flow that are judged otherwise by its own policies, and how many were judged.
async fn differences(flow: &Flow) -> (Vec<String>, usize) {
    let (mut wrong, mut judged) = (Vec::new(), 0);
    let state = flow.gate.state();
    for record in flow.records() {
        let recorded: RecordedDecision = serde_json::from_value(record.clone()).unwrap();
        let Ok(replayed) = judged_again(&state, &recorded).await else { continue };
        judged += 1;
        if replayed.found != recorded.found() || replayed.is_undecidable || !replayed.hidden.is_empty() {
            wrong.push(format!("{replayed:?}\nwas {record}"));
        }
    }
    (wrong, judged)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_verdict_of_the_corpus_comes_out_the_same_by_the_same_policies() {
    images::folder();
    let cases = Case::load_all();
    let shared = Flow::new(&recording(shared_setup(&cases))).await;
    let (mut wrong, mut judged) = (Vec::new(), 0);
    for case in &cases {
        if !case.is_apart() {
            send(case, &shared).await;
            continue;
        }
        let own = Flow::new(&recording(apart(case))).await;
        send(case, &own).await;
        let (differs, count) = differences(&own).await;
        wrong.extend(differs.into_iter().map(|what| format!("{}: {what}", case.name)));
        judged += count;
    }
    let (differs, count) = differences(&shared).await;
    wrong.extend(differs);
    judged += count;
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
    let verdicts = cases.iter().filter(|case| case.outcome() != "skip").count();
    assert_eq!(judged, verdicts, "every case that is judged has a record");
}

/// The request for a new pod under a Wasm class.
fn wasm(spec: &Value) -> Request {
    Request::create("shop", plug_ins(&defaulted(&pod(spec), "shop", ""), "shop", &[]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_in_the_shadow_is_in_records_and_metrics_and_in_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "violations contains {\"rule\": \"no-pods\", \"message\": \"none\"} if input.apiVersion
violations contains {\"rule\": \"needs-grant\", \"message\": \"other\", \"action\": \"warn\"} if input.apiVersion";
    let next = opa::build(folder.path(), "next", "wasmgate/violations", rules);
    let configuration = format!("policies: {{bundles: [{{from: {}, action: audit}}]}}\n", next.display());
    let (without, with) =
        (Flow::new(&Setup::default()).await, Flow::new(&Setup { configuration, ..Setup::default() }).await);
    let refused = wasm(
        &json!({"runtimeClassName": "wasmtime", "containers": [{"name": "app", "image": "images.test/files:v1"}]}),
    );
    assert_eq!(
        with.admit("shop", &plain_pod("hello")).await,
        without.admit("shop", &plain_pod("hello")).await
    );
    for webhook in [Webhook::Mutate, Webhook::Validate] {
        assert_eq!(with.send(webhook, &refused).await, without.send(webhook, &refused).await);
    }
    let metrics = with.gate.encode_metrics();
    let labels = "rule=\"no-pods\",action=\"deny\",bundle=\"next\"";
    assert!(metrics.contains(&format!("wasmgate_shadow_violations_total{{{labels}}} 2\n")), "{metrics}");
    assert!(!metrics.contains("wasmgate_violations_total{rule=\"no-pods\""), "{metrics}");
    let records = with.records();
    let verdicts: Vec<&Value> =
        records.iter().filter(|record| record["path"] == "wasmgate/validate").collect();
    let allowed: Vec<_> = verdicts.iter().map(|record| &record["result"]["allowed"]).collect();
    assert_eq!(allowed, [true, false]);
    for record in verdicts {
        let violations = record["result"]["violations"].as_array().unwrap();
        let of = |bundle: &str| violations.iter().filter(|v| v["bundle"] == bundle).collect::<Vec<_>>();
        let shadow: Vec<_> = of("next")
            .iter()
            .map(|v| (v["rule"].clone(), v["action"].clone(), v["shadow"].clone()))
            .collect();
        let found = |rule: &str, action: &str| (json!(rule), json!("audit"), json!(action));
        assert_eq!(shadow, [found("no-pods", "deny"), found("needs-grant", "warn")]);
        assert!(of("baseline").iter().all(|v| v.get("shadow").is_none()));
        assert_eq!(of("baseline").len() + shadow.len(), violations.len(), "each names its bundle");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_in_the_shadow_that_breaks_or_takes_long_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let slow = opa::build(folder.path(), "slow", "wasmgate/violations", opa::ENDLESS);
    let wrong =
        opa::build(folder.path(), "wrong", "wasmgate/violations", "violations := input.request.namespace");
    let of = |bundle: &std::path::Path| format!("{{from: {}, action: audit}}", bundle.display());
    let configuration = format!(
        "policies: {{timeLimit: 60s, fuelLimit: 1000000000000, bundles: [{}, {}]}}\n",
        of(&slow),
        of(&wrong)
    );
    let (without, with) =
        (Flow::new(&Setup::default()).await, Flow::new(&Setup { configuration, ..Setup::default() }).await);
    let (found, wanted) =
        (with.admit("shop", &plain_pod("hello")).await, without.admit("shop", &plain_pod("hello")).await);
    assert_eq!((&found.2["allowed"], &found), (&json!(true), &wanted));
    let metrics = with.gate.encode_metrics();
    for bundle in ["slow", "wrong"] {
        let line = format!("wasmgate_policy_evaluation_failures_total{{bundle=\"{bundle}\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    let records = with.records();
    let violations = records[1]["result"]["violations"].as_array().unwrap();
    let shadow: Vec<_> = violations.iter().map(|v| (v["bundle"].clone(), v["shadow"].clone())).collect();
    assert_eq!(shadow, [(json!("slow"), json!("deny")), (json!("wrong"), json!("deny"))]);
    assert!(violations[0]["message"].as_str().unwrap().contains("no answer waits for it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_depends_on_a_masked_value_is_said_to_be_undecidable() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "violations contains {\"rule\": \"debug\", \"message\": \"no debug\"} if {
	some container in input.object.spec.containers
	some variable in container.env
	variable.value == VALUE
}";
    let built = |name: &str, value: &str| {
        opa::build(folder.path(), name, "wasmgate/violations", &rule.replace("VALUE", value))
    };
    let flow_with = async |bundle: &std::path::Path| {
        let configuration = format!("policies: {{bundles: [{}]}}\n", bundle.display());
        Flow::new(&recording(Setup { configuration, ..Setup::default() })).await
    };
    let flow = flow_with(&built("other", "\"other\"")).await;
    let env = json!([{"name": "LEVEL", "value": "hunter2"}]);
    let request = wasm(&json!({"runtimeClassName": "wasmtime", "automountServiceAccountToken": false,
        "containers": [{"name": "app", "image": "images.test/hello:v1", "env": env}]}));
    flow.send(Webhook::Validate, &request).await;
    let records = flow.records();
    assert!(!Value::from(records.clone()).to_string().contains("hunter2"), "{records:?}");
    let recorded: RecordedDecision = serde_json::from_value(records[0].clone()).unwrap();
    let pointer = "/object/spec/containers/0/env/0/value";
    // What was found then is known; whether a value is empty is not.
    let same = judged_again(&flow.gate.state(), &recorded).await.unwrap();
    assert_eq!((same.found == recorded.found(), same.is_undecidable), (true, false));
    assert!(same.hidden.contains(&pointer.to_string()), "{same:?}");
    let empty = flow_with(&built("empty", "\"\"")).await;
    let again = judged_again(&empty.gate.state(), &recorded).await.unwrap();
    assert!(again.is_undecidable, "{again:?}");
    let bare = Flow::new(&Setup::default()).await;
    let baseline = judged_again(&bare.gate.state(), &recorded).await.unwrap();
    assert_eq!(
        (baseline.hidden, baseline.is_undecidable),
        (Vec::<String>::new(), false),
        "it reads no object"
    );
}

/// A record with a change, as a program that passes the log on may make it.
fn changed(record: &Value, change: impl FnOnce(&mut Value)) -> RecordedDecision {
    let mut record = record.clone();
    change(&mut record);
    serde_json::from_value(record).unwrap()
}

/// The records of the validating webhook.
fn verdicts(flow: &Flow) -> Vec<Value> {
    let mut records = flow.records();
    records.retain(|record| record["path"] == "wasmgate/validate");
    records
}

const MASKED: &str = "**REDACTED**";

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_masked_as_a_whole_leaves_the_verdict_open_and_breaks_no_bundle() {
    let flow = Flow::new(&recording(Setup::default())).await;
    flow.admit("shop", &plain_pod("hello")).await;
    let (record, state) = (verdicts(&flow).remove(0), flow.gate.state());
    let same = judged_again(&state, &changed(&record, |_| {})).await.unwrap();
    assert_eq!((same.found.len(), same.is_undecidable), (0, false));
    // The baseline omits parts of it, and reads others.
    let at = "/custom/policy_input/request";
    let masked = changed(&record, |record| {
        *record.pointer_mut(at).unwrap() = MASKED.into();
        record["masked"] = json!([at]);
    });
    let erased = changed(&record, |record| {
        record["custom"]["policy_input"].as_object_mut().unwrap().remove("request");
        record["erased"] = json!([at]);
    });
    for recorded in [masked, erased] {
        let again = judged_again(&state, &recorded).await.unwrap();
        assert!(again.found.iter().all(|found| found.rule != "policy-error"), "{again:?}");
        assert_eq!((again.hidden, again.is_undecidable), (vec!["/request".to_string()], true));
    }
    // Of what it omits nothing is known, and nothing asked.
    let unread = changed(&record, |record| {
        record["custom"]["policy_input"]["request"]["user"] = MASKED.into();
        record["masked"] = json!(["/custom/policy_input/request/user"]);
    });
    let again = judged_again(&state, &unread).await.unwrap();
    assert_eq!((again.hidden, again.is_undecidable), (Vec::new(), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_label_that_says_what_is_done_leaves_a_violation_open_and_nothing_else() {
    let flow = Flow::new(&recording(Setup::default())).await;
    flow.admit("shop", &plain_pod("hello")).await;
    let files = json!({"runtimeClassName": "wasmtime", "containers": [{"name": "app", "image": "images.test/files:v1"}]});
    flow.send(Webhook::Validate, &wasm(&files)).await;
    let label = "/workload/namespaceLabels/wasmgate.dev~1enforce";
    let mask = |record: &mut Value| {
        let labels = record.pointer_mut("/custom/policy_input/workload/namespaceLabels").unwrap();
        labels["wasmgate.dev/enforce"] = MASKED.into();
        record["masked"] = json!([format!("/custom/policy_input{label}")]);
    };
    let (records, state) = (verdicts(&flow), flow.gate.state());
    let [admitted, refused] = [&records[0], &records[1]].map(|record| changed(record, mask));
    let again = judged_again(&state, &admitted).await.unwrap();
    assert_eq!(
        (again.found.len(), again.hidden, again.is_undecidable),
        (0, Vec::new(), false),
        "no rule is broken"
    );
    let again = judged_again(&state, &refused).await.unwrap();
    assert_eq!((again.hidden, again.is_undecidable), (vec![label.to_string()], true));
    assert!(again.found.iter().any(|found| found.action.as_str() == "deny"), "the strictest is shown");
    // Where the configuration says it, the label says nothing.
    let mut state = State::clone(&state);
    state.enforcement.floor = wasmgate::policy::EnforcementAction::Deny;
    let again = judged_again(&state, &refused).await.unwrap();
    assert_eq!((again.hidden, again.is_undecidable), (Vec::new(), false));
}
