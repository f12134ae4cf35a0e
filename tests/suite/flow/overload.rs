//! More evaluations than there are places for, at a gate that serves: that others take the time of a review is no denial.

use std::thread::available_parallelism;

use serde_json::json;
use wasmgate::review::Webhook;

use crate::support::gate::{Flow, Request, Setup, defaulted, plain_pod};
use crate::support::opa;

/// A rule that takes tens of milliseconds and finds nothing.
const SLOW: &str = "violations contains {\"rule\": \"never\", \"message\": \"m\"} if {
	some n in numbers.range(1, 5000)
	n * 2 < 0
}";

/// A gate that has this rule alone and remembers no verdict, and a pod that is judged by it.
async fn ruled_by(rule: &str, limits: &str) -> (Flow, Request) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = opa::build(folder.path(), "slow", "wasmgate/violations", rule);
    let configuration = format!(
        "policies: {{baseline: false, verdictCacheBytes: 0, bundles: [{}], {limits}}}\n",
        bundle.display()
    );
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let mut request = Request::create("shop", defaulted(&plain_pod("hello"), "shop", ""));
    request.object["spec"]["runtimeClassName"] = json!("wasmtime");
    // Its image is known from then on.
    flow.send(Webhook::Mutate, &request).await;
    (flow, request)
}

/// The same pod so many times, as reviews of their own.
fn times(request: &Request, count: usize) -> Vec<Request> {
    let named = |number| Request { uid: format!("u-{number}"), ..request.clone() };
    (0..count).map(named).collect()
}

/// Evaluations of one namespace that run at a time: no more than four on any machine.
fn places() -> usize {
    available_parallelism().map_or(2, usize::from).min(4)
}

/// All together take longer than one evaluation may, and less than a review.
#[tokio::test(flavor = "multi_thread")]
async fn reviews_that_wait_for_each_other_longer_than_an_evaluation_may_take_are_all_admitted() {
    let (flow, request) = Box::pin(ruled_by(SLOW, "timeLimit: 1s")).await;
    let serving = flow.serve().await;
    let reviews = times(&request, 40 * places());
    let answers = serving.post_together(Webhook::Validate, "30s", &reviews).await;
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let response = &answer.json()["response"];
        assert_eq!(response["allowed"], true, "{response}");
    }
}

/// The first take all places of their namespace until their own time ends, which is a denial as it was. The others get none.
#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_gets_no_place_in_time_is_left_to_the_failure_policy_and_recorded_as_such() {
    let (flow, request) = Box::pin(ruled_by(opa::ENDLESS, "timeLimit: 60s, fuelLimit: 1000000000000")).await;
    let serving = flow.serve().await;
    let count = 4 * places();
    let answers = serving.post_together(Webhook::Validate, "2s", &times(&request, count)).await;
    let busy = answers.iter().filter(|answer| answer.status == 503).count();
    assert!(busy >= count - places(), "{busy} of {count}");
    for answer in answers.iter().filter(|answer| answer.status == 200) {
        let response = &answer.json()["response"];
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
        assert!(response["status"]["message"].as_str().unwrap().contains("policies.timeLimit"), "{response}");
    }
    let records = flow.records();
    let overloaded: Vec<_> = records.iter().filter(|record| record["error"]["code"] == "overload").collect();
    assert!(!overloaded.is_empty(), "{records:?}");
    let metrics = flow.gate.encode_metrics();
    let failed =
        format!("wasmgate_policy_evaluation_failures_total{{bundle=\"slow\"}} {}\n", overloaded.len());
    let refused = format!("wasmgate_server_events_total{{event=\"busy\"}} {busy}\n");
    assert!(metrics.contains(&failed) && metrics.contains(&refused), "{failed}{refused}{metrics}");
    for record in overloaded {
        let result = &record["result"];
        assert_eq!((&result["action"], &result["allowed"]), (&json!("error"), &json!(false)), "{record}");
        assert!(result["violations"].as_array().is_none_or(Vec::is_empty), "{record}");
        assert!(record["bundles"]["slow"].is_object(), "{record}");
    }
}
