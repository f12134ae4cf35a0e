//! `suggest` on the corpus: what is denied for want of a grant alone is admitted with the grant that it writes, and the
//! rest is said to be beyond any grant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use wasmgate::cli::manifest::Manifest;
use wasmgate::cli::suggest::{Suggestion, names_of_grants, suggest};

use crate::cases::{Case, shared_setup, walk};
use crate::gate::{Flow, Setup};
use crate::images;

async fn suggestion(flow: &Flow, case: &Case) -> Suggestion {
    let state = flow.gate.state();
    let manifest = Manifest { origin: case.name.clone(), object: case.request().object };
    let mut taken = names_of_grants(&state);
    let budget = Duration::from_secs(20);
    suggest(&state, flow.gate.inspector(), &manifest, case.namespace(), budget, &mut taken).await.unwrap()
}

/// New pods that are denied, with the rules that deny them.
async fn denied<'a>(flow: &Flow, cases: &'a [Case]) -> Vec<(&'a Case, BTreeSet<String>)> {
    let mut serving = flow.serve().await;
    let mut found = Vec::new();
    for case in cases.iter().filter(|case| case.outcome() == "deny" && !case.is_apart() && case.is_new()) {
        let validate = walk(case, &mut serving, &mut Vec::new()).await.validate;
        let causes = validate["status"]["details"]["causes"].as_array().cloned().unwrap_or_default();
        let rules = causes.iter().map(|cause| cause["reason"].as_str().unwrap().to_string()).collect();
        found.push((case, rules));
    }
    found
}

/// Whether a grant is all that is missing.
fn is_mendable(rules: &BTreeSet<String>) -> bool {
    rules.iter().all(|rule| matches!(rule.as_str(), "needs-grant" | "grant-expired"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_for_want_of_a_grant_alone_is_admitted_with_the_suggested_one() {
    images::folder();
    let cases = Case::load_all();
    let shared = shared_setup(&cases);
    let flow = Flow::new(&shared).await;
    let denied = denied(&flow, &cases).await;
    let mendable: Vec<&Case> =
        denied.iter().filter(|(_, rules)| is_mendable(rules)).map(|(case, _)| *case).collect();
    assert!(mendable.len() >= 15, "{} cases", mendable.len());
    let mut grants = shared.grants.clone();
    for case in &mendable {
        let found = suggestion(&flow, case).await;
        assert_eq!(found.blocked, [""; 0], "{}", case.name);
        assert!(!found.grants.is_empty(), "{}", case.name);
        for text in &found.grants {
            grants
                .push(serde_saphyr::from_str::<Value>(text).unwrap_or_else(|e| panic!("{}: {e}", case.name)));
        }
    }
    let granted = Flow::new(&Setup { grants, ..shared }).await;
    let mut serving = granted.serve().await;
    let mut wrong: BTreeMap<&str, Value> = BTreeMap::new();
    for case in &mendable {
        let validate = walk(case, &mut serving, &mut Vec::new()).await.validate;
        if validate["allowed"] != true {
            wrong.insert(&case.name, validate["status"]["message"].clone());
        }
        assert_eq!(suggestion(&granted, case).await.summary, "nothing is missing", "{}", case.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_grant_can_mend_is_named_and_what_is_admitted_misses_nothing() {
    images::folder();
    let cases = Case::load_all();
    let flow = Flow::new(&shared_setup(&cases)).await;
    let denied = denied(&flow, &cases).await;
    let beyond: Vec<_> = denied.iter().filter(|(_, rules)| !is_mendable(rules)).collect();
    assert!(beyond.len() >= 5, "{} cases", beyond.len());
    for (case, rules) in beyond {
        let found = suggestion(&flow, case).await;
        assert!(!found.blocked.is_empty(), "{}: {}", case.name, found.to_yaml());
        for line in &found.blocked {
            let rule = line.trim_start_matches('[').split(']').next().unwrap();
            assert!(rules.contains(rule), "{}: {line}", case.name);
        }
    }
    for case in cases.iter().filter(|case| case.outcome() == "admit" && !case.is_apart() && case.is_new()) {
        let found = suggestion(&flow, case).await;
        let nothing = found.grants.is_empty() && found.blocked.is_empty();
        // A namespace that only audits admits what a grant would still cover.
        assert!(nothing || !case.expect.rules.is_empty(), "{}: {}", case.name, found.to_yaml());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_known_from_the_image_is_a_warning() {
    images::folder();
    let cases = Case::load_all();
    let flow = Flow::new(&shared_setup(&cases)).await;
    for (name, expected) in [
        ("deny-spin-template", "is not known before start"),
        ("deny-network", "reaches any host: the image does not say which it means"),
        ("deny-unknown-import", "grant it only if you know which host function answers"),
        ("deny-variables", "brings is not known here"),
        ("deny-http-outbound", "fence it with a NetworkPolicy"),
    ] {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let found = suggestion(&flow, case).await;
        let said = found.warnings.iter().any(|line| line.contains(expected));
        assert!(said, "{name}: {}", found.to_yaml());
    }
}
