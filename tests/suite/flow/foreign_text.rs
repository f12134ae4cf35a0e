//! Text of an attacker on the whole way of a review: what people see of it in the answer, the record and the metrics has nothing
//! that a terminal obeys or that hides, and programs still read what was sent.

use serde_json::{Value, json};
use wasmgate::review::Webhook;
use wasmgate::text;

use crate::support::gate::{Flow, Request, Setup, defaulted, pod};
use crate::support::opa;

/// Ends the line and begins one of its own, clears it, turns what follows around, and hides letters in it.
const FORGED: &str =
    "x`\r\n2026-01-01 INFO admitted\0\u{1b}[2K\u{9b}K\u{7f}\u{202e}\u{2066}\u{2028}\u{200b}\u{feff}\u{e0041}";

/// A rule that has all of it in its name and its message.
const RULE: &str = r#"
violations contains {"rule": concat("", ["own", text]), "message": concat("", ["m: ", text]), "container": text, "action": action} if {
	some action, text in {"deny": input.containers[0].name, "warn": input.containers[0].image}
}"#;

fn forged() -> Value {
    let container = |name: &str, image: &str| json!({"name": name, "image": image, "command": [FORGED]});
    let mut pod = pod(&json!({
        "runtimeClassName": "wasmtime", "serviceAccountName": FORGED, "imagePullSecrets": [{"name": FORGED}],
        "containers": [container(FORGED, FORGED), container("b", "images.test/files:v1")],
        "volumes": [{"name": FORGED, "hostPath": {"path": format!("/{FORGED}/..")}}],
    }));
    pod["metadata"]["annotations"] = json!({"run.oci.handler": FORGED});
    defaulted(&pod, "shop", "")
}

/// Every string of a document, keys included.
fn strings<'a>(value: &'a Value, to: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => to.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, to)),
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            to.push(key);
            strings(member, to);
        }),
        _ => {}
    }
}

#[track_caller]
fn assert_harmless(shown: &str) {
    let found = shown.chars().find(|c| *c != '\n' && text::is_dangerous(*c));
    assert_eq!(found, None, "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_attackers_text_acts_on_those_who_read_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = opa::build(folder.path(), "own", "wasmgate/violations", RULE);
    let configuration = format!("policies: {{bundles: [{}]}}\n", bundle.display());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let mut server = flow.serve().await;
    let request = Request::create("shop", forged());
    for webhook in [Webhook::Mutate, Webhook::Validate] {
        let response = server.review(webhook, &request).await;
        let mut shown = Vec::new();
        strings(&response, &mut shown);
        for text in &shown {
            assert_harmless(text);
        }
        let lines = shown.iter().filter(|text| text.contains("2026-01-01 INFO"));
        assert!(lines.count() > 0 || webhook == Webhook::Mutate, "the attack is told: {response}");
        for line in response["warnings"].as_array().into_iter().flatten() {
            assert!(!line.as_str().unwrap().contains('\n'), "{line:?}");
        }
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert!(!message.lines().any(|line| line.starts_with("2026")), "{message}");
    }
    assert_harmless(&flow.gate.encode_metrics());
    flow.records();
    let log = std::fs::read_to_string(flow.folder.path().join("decisions.log")).unwrap();
    log.lines().for_each(assert_harmless);
    let record: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let object = &record["input"]["request"]["object"];
    assert_eq!(object["spec"]["containers"][0]["image"], FORGED, "programs read what was sent");
    let rules = record["result"]["violations"].as_array().unwrap();
    assert!(rules.iter().any(|found| found["rule"] == format!("own{FORGED}")), "{rules:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_review_cannot_act_on_those_who_read_the_answer() {
    let flow = Flow::new(&Setup::default()).await;
    let mut server = flow.serve().await;
    for (key, value) in [("kind", FORGED), ("apiVersion", FORGED), ("operation", FORGED), (FORGED, "x")] {
        let mut review: Value = serde_json::from_str(&Request::create("shop", forged()).to_body()).unwrap();
        let place = if key == "operation" { &mut review["request"] } else { &mut review };
        place[key] = json!(value);
        let answer = server.post(Webhook::Validate, review.to_string()).await;
        let mut shown = Vec::new();
        let answer = answer.json();
        strings(&answer, &mut shown);
        shown.into_iter().for_each(assert_harmless);
    }
    flow.records();
    let log = std::fs::read_to_string(flow.folder.path().join("decisions.log")).unwrap();
    assert!(log.lines().count() >= 4);
    log.lines().for_each(assert_harmless);
}
