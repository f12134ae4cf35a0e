//! What the gate writes of objects that are full of secrets, under a rule that quotes all of them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::audit::{Metrics, Outbox, event};
use wasmgate::review::Webhook;

use crate::support::gate::{Flow, Request, Setup, defaulted, plug_ins};
use crate::support::{opa, secrets};

/// The notes of Events and the metrics of a gate to which a request is sent.
async fn events_and_metrics(flow: &Flow, request: &Request) -> (Vec<String>, String) {
    let metrics = Arc::new(Metrics::new());
    let (outbox, mut waiting) = Outbox::new(true, Arc::clone(&metrics));
    let gate = flow.with_events(outbox, Arc::clone(&metrics));
    gate.review(Webhook::Validate, request.to_body().as_bytes(), Duration::from_secs(20)).await;
    let mut notes = Vec::new();
    while let Ok(record) = waiting.try_recv() {
        notes.extend(event::draft(&record, true).map(|draft| draft.note));
    }
    (notes, metrics.encode())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_thirty_places_is_in_a_record_an_event_or_a_metric_though_a_rule_quotes_all() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = opa::build(folder.path(), "quoting", "wasmgate/violations", secrets::QUOTING);
    let configuration = format!("{}policies: {{bundles: [{}]}}\n", secrets::CONFIGURATION, bundle.display());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let (mut places, mut quoted) = (0, 0);
    for (object, number) in
        [secrets::pod("images.test/hello:v1"), secrets::spin_app("images.test/spin-silent:v1")]
    {
        places += number;
        let mut object = if object["kind"] == "Pod" {
            plug_ins(&defaulted(&object, "shop", ""), "shop", &[])
        } else {
            object
        };
        object["metadata"]["uid"] = json!("0");
        assert_eq!(secrets::leaked(&object.to_string()).len(), number as usize);
        let mut request = Request::create("shop", object.clone());
        request.old_object = Some(object);
        let answer = flow.send(Webhook::Validate, &request).await;
        quoted += secrets::leaked(&answer.to_string()).len();
        let (events, metrics) = events_and_metrics(&flow, &request).await;
        assert!(!events.is_empty(), "{answer}");
        for text in events.iter().chain([&metrics]) {
            assert_eq!(secrets::leaked(text), Vec::<&str>::new(), "{text}");
        }
    }
    assert!(places >= 30 && quoted >= 30, "{places} {quoted}");
    let records = flow.records();
    assert!(
        records.iter().all(|record| record["result"]["violations"].to_string().contains("**REDACTED**")),
        "{records:?}"
    );
    assert_eq!(secrets::leaked(&Value::from(records).to_string()), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_ones_own_that_is_called_like_the_built_in_one_may_quote_no_secret_either() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = opa::build(folder.path(), "baseline", "wasmgate/violations", secrets::QUOTING);
    let policies = format!("policies: {{baseline: false, bundles: [{}]}}\n", bundle.display());
    let configuration = format!("{}{policies}", secrets::CONFIGURATION);
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let (pod, _) = secrets::pod("images.test/hello:v1");
    let request = Request::create("shop", plug_ins(&defaulted(&pod, "shop", ""), "shop", &[]));
    flow.send(Webhook::Validate, &request).await;
    let (events, _) = events_and_metrics(&flow, &request).await;
    let records = Value::from(flow.records());
    assert!(records.to_string().contains(r#""bundle":"baseline""#) && !events.is_empty(), "{records}");
    assert_eq!(secrets::leaked(&format!("{records}{events:?}")), Vec::<&str>::new());
}

const LOG: &str = r#"mask contains "/input/request/userInfo"

mask contains "/input/request/object/metadata/annotations/team.example~1note"

mask contains "/input/request/object/metadata/annotations/team.example~1pin"

mask contains {"op": "upsert", "path": "/result/reason", "value": "-"}

drop if input.input.request.namespace == "quiet""#;

/// A flow whose bundles are one that quotes and one that has rules for the log.
async fn with_log_rules(folder: &std::path::Path, rules: &str) -> Flow {
    let quoting = opa::build(folder, "quoting", "wasmgate/violations", secrets::QUOTING);
    let log = opa::build_package(folder, "log", "system.log", &["system/log/mask", "system/log/drop"], rules);
    let bundles = format!("[{}, {{from: {}, judges: false}}]", quoting.display(), log.display());
    let configuration = format!("decisionLog: {{policyInput: true}}\npolicies: {{bundles: {bundles}}}\n");
    Flow::new(&Setup { configuration, ..Setup::default() }).await
}

fn noted(namespace: &str) -> Request {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}, "spec": {
        "automountServiceAccountToken": false,
        "containers": [{"name": "app", "image": "images.test/hello:v1", "args": ["x"]}]}});
    pod["metadata"]["annotations"] = json!({"team.example/note": "hunter-001-secret", "team.example/keep": "kept", "team.example/pin": "1234"});
    Request::create(namespace, plug_ins(&defaulted(&pod, namespace, ""), namespace, &[]))
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_for_the_log_mask_and_drop_records_as_opas_do_and_judge_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let flow = with_log_rules(folder.path(), LOG).await;
    for namespace in ["shop", "quiet"] {
        flow.send(Webhook::Validate, &noted(namespace)).await;
    }
    let records = flow.records();
    let [record] = records.as_slice() else { panic!("{} records", records.len()) };
    assert_eq!(record["input"]["request"].get("userInfo"), None);
    let annotations = &record["input"]["request"]["object"]["metadata"]["annotations"];
    assert_eq!(
        (annotations.get("team.example/note"), &annotations["team.example/keep"]),
        (None, &json!("kept"))
    );
    // The record names the user a second time, and what the rules read has the annotations of the pod twice.
    assert_eq!(record.get("requested_by"), None);
    assert!(!record.to_string().contains("jane"), "{record}");
    let of_workload = &record["custom"]["policy_input"]["workload"]["annotations"];
    assert_eq!(
        (of_workload.get("team.example/pin"), &of_workload["team.example/keep"]),
        (None, &json!("kept"))
    );
    assert!(!record.to_string().contains(r#""1234""#), "{record}");
    assert_eq!(record["result"]["reason"], "-");
    let note = "/input/request/object/metadata/annotations/team.example~1note";
    let erased = record["erased"].as_array().unwrap();
    assert!(
        erased.contains(&json!(note)) && erased.contains(&json!("/input/request/userInfo")),
        "{erased:?}"
    );
    assert!(record["masked"].as_array().unwrap().contains(&json!("/result/reason")));
    // The rule that judges quoted it.
    assert!(record["result"]["violations"].to_string().contains("**REDACTED**"), "{record}");
    assert_eq!(secrets::leaked(&record.to_string()), Vec::<&str>::new());
    assert!(flow.gate.encode_metrics().contains("wasmgate_decision_logs_dropped_total{reason=\"rule\"} 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_rule_for_the_log_cannot_be_evaluated_the_record_holds_nothing_that_it_might_have_masked() {
    let folder = tempfile::tempdir().unwrap();
    for (number, rules) in [
        r#"mask contains "/labels/id""#,
        "mask := 7",
        "mask contains x if { some x in numbers.range(1, 100000000) }",
    ]
    .into_iter()
    .enumerate()
    {
        let folder = folder.path().join(number.to_string());
        let flow = with_log_rules(&folder, &format!("{rules}\n\ndrop := false")).await;
        flow.send(Webhook::Validate, &noted("shop")).await;
        let records = flow.records();
        let [record] = records.as_slice() else { panic!("{rules}: {} records", records.len()) };
        assert_eq!(record["error"]["code"], "mask-record", "{rules}: {record}");
        assert!(record["error"]["message"].as_str().unwrap().contains("bundle") || number < 2, "{record}");
        assert_eq!((record.get("input"), &record["result"]["allowed"]), (None, &json!(false)), "{rules}");
        assert_eq!(record.get("requested_by"), None, "{rules}");
        assert_eq!(secrets::leaked(&record.to_string()), Vec::<&str>::new(), "{rules}");
    }
}
