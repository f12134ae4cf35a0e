//! What the verdict cache answers is what the rules find: for the corpus, for thousands of inputs beside it, and for the pods of one
//! ReplicaSet.

use serde_json::{Value, json};
use wasmgate::policy::{Bundle, Evaluation, Limits, PolicySet};
use wasmgate::review::Webhook;

use super::cases::{input_of, shared_setup};
use crate::support::corpus::Case;
use crate::support::gate::{Flow, Request, Setup, plain_pod};
use crate::support::policies::engine;

/// Inputs beside each case's.
const NEIGHBOURS: usize = 12;

async fn policies(verdict_cache_bytes: u64) -> PolicySet {
    let engine = engine().remembering(verdict_cache_bytes);
    PolicySet::load(&engine, vec![Bundle::embedded().unwrap()], Limits::default()).await.unwrap()
}

/// JSON pointers to everything below a value, deepest first.
pub fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        places(value, &at, found);
        found.push(at);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), value));
        }
        _ => {}
    }
}

/// Another value of the same type.
pub fn other(value: &Value) -> Value {
    match value {
        Value::Null => json!("a"),
        Value::Bool(is) => json!(!is),
        Value::Number(number) => json!(number.as_f64().unwrap() + 1.0),
        Value::String(text) if text.is_empty() => json!("a"),
        Value::String(text) => json!(format!("{text}x")),
        Value::Array(items) => json!(items.get(1..).unwrap_or_default()),
        Value::Object(members) => members.iter().skip(1).map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}

/// So many documents that differ from this one at one place each, spread over all of it.
pub fn neighbours(input: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    places(input, "", &mut all);
    let step = (all.len() / NEIGHBOURS).max(1);
    let changed = all.iter().step_by(step).map(|place| {
        let mut input = input.clone();
        let value = input.pointer_mut(place).unwrap();
        *value = other(value);
        input
    });
    changed.collect()
}

pub fn found(evaluation: &Evaluation) -> (&[wasmgate::policy::Violation], usize) {
    (&evaluation.violations, evaluation.failures.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verdict_cache_finds_what_the_rules_find_for_the_corpus_and_thousands_of_inputs_beside_it() {
    let cases = Case::load_shared();
    let flow = Flow::new(&shared_setup(&cases)).await;
    let state = flow.gate.state();
    let (fresh, caching) = (policies(0).await, policies(64 << 20).await);
    let (mut inputs, mut differ) = (0, Vec::new());
    // New pods, updates, subresources and templates: whatever the rules judge.
    for case in cases.iter().filter(|case| case.outcome() != "skip") {
        let request = case.request();
        let (input, _) = input_of(&state, &flow.gate.inspector(), &request).await;
        for input in std::iter::once(input.clone()).chain(neighbours(&input)) {
            inputs += 1;
            let wanted = fresh.evaluate(&input).await;
            assert!(!wanted.is_cached);
            let [first, second] = [caching.evaluate(&input).await, caching.evaluate(&input).await];
            if found(&first) != found(&wanted) || found(&second) != found(&wanted) {
                differ.push(format!("{}: {input}", case.name));
            }
            // An evaluation that failed is repeated.
            assert_eq!(second.is_cached, second.failures.is_empty(), "{}: {second:?}", case.name);
        }
    }
    assert!(inputs > 2000, "{inputs} inputs");
    assert!(differ.is_empty(), "{} of {inputs} differ\n{}", differ.len(), differ.join("\n"));
    assert_eq!(fresh.verdict_counts(), wasmgate::policy::VerdictCounts::default());
    // Most neighbours differ in what the rules read; the others are found.
    let counts = caching.verdict_counts();
    assert!(counts.misses > 1000 && counts.hits >= counts.misses, "{counts:?}");
}

/// The pod of a ReplicaSet as the API server sends it to validating webhooks: name, uid and the volume of the token are its own.
fn replica(number: usize) -> Request {
    let mut pod = plain_pod("files");
    let (name, token) = (format!("web-5d8f{number}"), format!("kube-api-access-k{number}x7"));
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["generateName"] = json!("web-5d8f");
    pod["metadata"]["uid"] = json!(format!("{number:08x}-6393-11e8-b7cc-42010a800003"));
    let spec = &mut pod["spec"];
    spec["runtimeClassName"] = json!("wasmtime");
    spec["automountServiceAccountToken"] = Value::Null;
    spec["volumes"] =
        json!([{"name": token, "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": token, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}]);
    Request { uid: format!("{number:08x}-6393-11e8-b7cc-42010a800002"), ..Request::create("shop", pod) }
}

#[tokio::test]
async fn the_pods_of_a_replica_set_share_a_verdict_and_their_records_say_so() {
    let flow = Flow::new(&Setup::default()).await;
    let mut answers = Vec::new();
    for number in 0..3 {
        let mut answer = flow.send(Webhook::Validate, &replica(number)).await;
        // The message begins with the name of the pod.
        answer["status"]["message"].take();
        answer["uid"].take();
        answers.push(answer);
    }
    assert_eq!(answers[0]["allowed"], false, "{}", answers[0]);
    assert_eq!((&answers[1], &answers[2]), (&answers[0], &answers[0]));
    let records = flow.records();
    let cached: Vec<bool> = records.iter().map(|record| record["custom"]["verdict_cached"] == true).collect();
    // Another test may have asked the same of the policies that they share.
    assert!(cached[1] && cached[2], "{cached:?}");
    assert_eq!(records[1]["result"]["violations"], records[0]["result"]["violations"]);
}
