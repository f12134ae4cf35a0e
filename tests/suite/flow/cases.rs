//! The corpus under `tests/cases`: one file per case, `<admit|warn|deny|skip>-<what>.yaml`. Every case runs in three
//! ways, which must agree: the Rego sources in the real `opa`, the compiled baseline in this process, and the real
//! server over TLS.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use wasmgate::admission::{Clock, ReviewContext, State, examine};
use wasmgate::judge::enforcement::JOINED;
use wasmgate::judge::{PolicyInput, Verdict};
use wasmgate::lookup::Inspector;
use wasmgate::policy::{EnforcementAction, Violation};
use wasmgate::review::{self, Webhook};
use wasmgate::workload::Kind;

use super::explain_matches_serve;
use crate::support::corpus::Case;
use crate::support::gate::{Flow, Request, Serving, Setup, patch_of, patched, plug_ins};
use crate::support::process::root;
use crate::support::{images, opa};

// === the three ways ===

/// The server's answers over TLS.
pub struct Answered {
    /// The request of the validating webhook, with the object that would be stored.
    last: Request,
    /// Responses of `/mutate` (of its second call if there was one) and of `/validate`.
    mutate: Vec<Value>,
    pub validate: Value,
}

/// Sends one case over TLS as the API server would, and collects what violates the gate's guarantees.
pub async fn walk(case: &Case, server: &mut Serving, wrong: &mut Vec<String>) -> Answered {
    let mut request = case.request();
    let mut mutate = vec![server.review(Webhook::Mutate, &request).await];
    let first = patched(&request.object, &mutate[0]);
    if first != request.object {
        // The API server runs its plug-ins and the webhook a second time.
        request.object = plug_ins(&first, case.namespace(), &case.cluster());
        let second = server.review(Webhook::Mutate, &request).await;
        if let Some(patch) = patch_of(&second) {
            wrong.push(format!("mutating a second time changes it again: {patch}"));
        }
        if second["auditAnnotations"] != mutate[0]["auditAnnotations"] {
            wrong.push("the audit annotations of the two rounds differ".into());
        }
        mutate.push(second);
    }
    if let Some(response) = mutate.iter().find(|response| response["allowed"] != true) {
        wrong.push(format!("the mutating webhook refuses: {response}"));
    }
    let validate = server.review(Webhook::Validate, &request).await;
    if validate.get("patch").is_some() {
        wrong.push("the validating webhook patches".into());
    }
    Answered { last: request, mutate, validate }
}

/// The policies' input for the object that would be stored, and their verdict.
pub async fn input_of(state: &State, inspector: &Inspector, request: &Request) -> (Value, Verdict) {
    let review = review::parse(request.to_body().as_bytes()).unwrap();
    let clock = Clock::start(std::time::Duration::from_secs(20));
    let asked = ReviewContext { state, inspector, webhook: Webhook::Validate, review: &review, clock };
    let keep = |input: &PolicyInput<'_>| -> Value {
        serde_json::from_str(to_raw_value(input).unwrap().get()).unwrap()
    };
    let examination = examine::examine(&asked, keep).await;
    let judged = examination.ending.judged().unwrap();
    assert_eq!(judged.judgement.failed_bundles, [""; 0]);
    (judged.kept.clone(), judged.judgement.verdict.clone())
}

// === what must hold ===

fn texts(response: &Value) -> String {
    let warnings = response["warnings"].as_array().into_iter().flatten();
    let mut texts: Vec<&str> = warnings.map(|text| text.as_str().unwrap()).collect();
    texts.extend(response["status"]["message"].as_str());
    texts.join("\n")
}

pub fn outcome_of(response: &Value) -> &'static str {
    let judged = response["auditAnnotations"].get("verdict").is_some();
    let warned = response.get("warnings").is_some();
    match (response["allowed"].as_bool().unwrap(), judged, warned) {
        (false, ..) => "deny",
        (true, true, true) => "warn",
        (true, true, false) => "admit",
        (true, false, _) => "skip",
    }
}

fn name_of(violation: &Violation) -> String {
    [Some(&violation.rule), violation.container.as_ref(), violation.capability.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect::<Vec<_>>()
        .join(" ")
}

fn check_answer(case: &Case, answered: &Answered, wrong: &mut Vec<String>) {
    let outcome = outcome_of(&answered.validate);
    if outcome != case.outcome() {
        wrong.push(format!("it ends in `{outcome}`: {}", answered.validate));
    }
    for (texts, wanted) in [
        (texts(&answered.validate), &case.expect.says),
        (texts(&answered.mutate[0]), &case.expect.mutate_says),
    ] {
        for wanted in wanted.iter().filter(|wanted| !texts.contains(wanted.as_str())) {
            wrong.push(format!("`{wanted}` is not said: {texts}"));
        }
    }
    let object = &answered.last.object;
    let changes = object["metadata"]["annotations"]["wasmgate.dev/changed"].as_str();
    if changes != case.expect.changes.as_deref() {
        wrong.push(format!("changes: {changes:?}; {}", texts(&answered.mutate[0])));
    }
    for (pointer, wanted) in &case.expect.patched {
        let found = object.pointer(pointer).unwrap_or(&Value::Null);
        let prefix = wanted.as_str().and_then(|text| text.strip_suffix('*'));
        let fits = prefix.is_some_and(|prefix| found.as_str().is_some_and(|text| text.starts_with(prefix)));
        if found != wanted && !fits {
            wrong.push(format!("{pointer} is {found}"));
        }
    }
}

/// The answer over TLS must match the verdict of this process.
fn check_verdict(case: &Case, validate: &Value, verdict: &Verdict, wrong: &mut Vec<String>) {
    let found: BTreeSet<String> =
        verdict.violations.iter().map(|judged| name_of(&judged.violation)).collect();
    if found != case.expect.rules {
        let messages: Vec<_> = verdict.violations.iter().map(|j| j.violation.message.as_str()).collect();
        wrong.push(format!("the rules find {found:?}: {}", messages.join("\n")));
    }
    let causes = validate["status"]["details"]["causes"].as_array().into_iter().flatten();
    let said: BTreeSet<(String, String)> = causes
        .map(|c| (c["reason"].as_str().unwrap().into(), c["message"].as_str().unwrap().into()))
        .collect();
    let denied =
        verdict.at(EnforcementAction::Deny).map(|j| (j.violation.rule.clone(), j.violation.message.clone()));
    let denied: BTreeSet<_> = denied.filter(|_| !case.kind().is_some_and(Kind::is_template)).collect();
    if said != denied {
        wrong.push(format!("the causes over TLS are {said:?}"));
    }
    let rules: BTreeSet<&str> = verdict.violations.iter().map(|j| j.violation.rule.as_str()).collect();
    let annotated = validate["auditAnnotations"]["rules"].as_str().unwrap_or_default();
    if annotated != rules.into_iter().collect::<Vec<_>>().join(",") {
        wrong.push(format!("the audit annotation names the rules `{annotated}`"));
    }
}

/// The violations of the compiled rules, in the form in which opa prints a set.
fn printed(verdict: &Verdict, opa: &Value) -> (Vec<Value>, Vec<Value>) {
    let bare = |mut value: Value| {
        value.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "action" | "bundle"));
        value
    };
    let ours = verdict.violations.iter().map(|judged| bare(json!(judged.violation)));
    let mut ours: Vec<Value> = ours.collect();
    let mut theirs: Vec<Value> = opa["violations"].as_array().unwrap().iter().cloned().map(bare).collect();
    ours.sort_by_key(Value::to_string);
    theirs.sort_by_key(Value::to_string);
    (ours, theirs)
}

pub fn shared_setup(cases: &[Case]) -> Setup {
    let together = || cases.iter().filter(|case| !case.is_apart());
    Setup {
        configuration: String::new(),
        grants: together().flat_map(Case::grants).collect(),
        cluster: together().flat_map(Case::documents).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_gets_the_same_verdict_from_the_sources_the_compiled_rules_and_the_server() {
    images::folder();
    let cases = Case::load_all();
    let shared = Flow::new(&shared_setup(&cases)).await;
    let mut serving = shared.serve().await;
    let mut inputs = Map::new();
    let mut verdicts = BTreeMap::new();
    let mut wrong: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for case in &cases {
        let own = if case.is_apart() { Some(Flow::new(&apart(case)).await) } else { None };
        let mut of_own = match &own {
            Some(flow) => Some(flow.serve().await),
            None => None,
        };
        let flow = own.as_ref().unwrap_or(&shared);
        let list = wrong.entry(&case.name).or_default();
        let answered = walk(case, of_own.as_mut().unwrap_or(&mut serving), list).await;
        check_answer(case, &answered, list);
        Box::pin(explain_matches_serve::differences(flow, case, list)).await;
        Box::pin(explain_matches_serve::differences_of_reviews(flow, case, list)).await;
        if outcome_of(&answered.validate) == "skip" {
            continue;
        }
        let state = flow.gate.state();
        let (input, verdict) = input_of(&state, &flow.gate.inspector(), &answered.last).await;
        check_verdict(case, &answered.validate, &verdict, list);
        inputs.insert(case.name.clone(), input);
        verdicts.insert(case.name.as_str(), verdict);
    }
    let said = opa::baseline(&inputs);
    for (name, verdict) in &verdicts {
        let (ours, theirs) = printed(verdict, &said[*name]);
        let list = wrong.entry(name).or_default();
        if ours != theirs {
            list.push(format!("opa says {theirs:?}, the compiled rules say {ours:?}"));
        }
        if said[*name]["schema"] != json!([]) {
            list.push(format!("the input does not fit its schema: {}", said[*name]["schema"]));
        }
    }
    wrong.retain(|_, list| !list.is_empty());
    let report: Vec<String> =
        wrong.iter().map(|(name, list)| format!("== {name}\n{}", list.join("\n"))).collect();
    assert!(report.is_empty(), "{} of {} cases fail\n{}", report.len(), cases.len(), report.join("\n"));
}

pub fn apart(case: &Case) -> Setup {
    Setup { configuration: case.configuration.clone(), grants: case.grants(), cluster: case.documents() }
}

// === the corpus itself ===

#[test]
fn the_corpus_covers_every_rule_every_kind_and_every_entry_point() {
    let cases = Case::load_all();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    for case in &cases {
        assert!(matches!(case.outcome(), "admit" | "warn" | "deny" | "skip"), "{}", case.name);
        assert!(case.why.len() > 20, "{} does not say what it proves", case.name);
        // It is the name of the case's namespace in a real cluster.
        assert!(case.namespace().len() <= 63, "{} is too long", case.name);
    }
    let built_in = cases.iter().filter(|case| !case.is_described()).filter_map(Case::kind);
    let kinds: BTreeSet<Kind> = built_in.collect();
    assert_eq!(kinds.len(), 10, "{kinds:?}");
    assert!(cases.iter().any(|case| case.templates() > 1), "no object with several pod templates");
    for entry_point in ["initContainers", "ephemeralContainers"] {
        assert!(
            cases.iter().any(|case| case.object.to_string().contains(entry_point)
                || case.update.as_ref().is_some_and(|u| u.to_string().contains(entry_point))),
            "{entry_point}"
        );
    }
    for sub_resource in ["ephemeralcontainers", "resize"] {
        assert!(
            cases.iter().any(|case| case.sub_resource.as_deref() == Some(sub_resource)),
            "{sub_resource}"
        );
    }
}

/// The rules of the baseline, one folder each. No case covers the guard against another input version, because a review
/// never produces one.
fn rules_of_the_baseline() -> BTreeSet<String> {
    let folders = std::fs::read_dir(root().join("policies/wasmgate/rules")).unwrap();
    let names = folders.map(|folder| folder.unwrap().file_name().to_str().unwrap().replace('_', "-"));
    names.filter(|rule| rule != "unknown-input").collect()
}

/// The rules of the baseline's first version. A later one joins `JOINED` instead, or it would refuse pods in namespaces that
/// are pinned to an earlier version.
const FIRST_RULES: [&str; 22] = [
    "ambient-wider-than-grant",
    "capability-not-provided",
    "command-missing",
    "config-mismatch",
    "exec-probe-on-wasm-shim",
    "grant-expired",
    "host-namespace",
    "host-process-in-reach",
    "image-not-pullable",
    "mixed-pod",
    "native-code",
    "needs-grant",
    "not-inspected",
    "over-cap",
    "plugin-env",
    "resize-ignored",
    "runtime-mismatch",
    "secret-in-reach",
    "start-outlasts-probe",
    "tag-not-pinned",
    "under-floor",
    "unknown-import",
];

#[test]
fn a_rule_that_is_not_of_the_first_baseline_says_which_version_added_it() {
    let joined = JOINED.iter().map(|(rule, _)| (*rule).to_string());
    let known: BTreeSet<String> = FIRST_RULES.into_iter().map(String::from).chain(joined).collect();
    assert_eq!(known, rules_of_the_baseline());
}

#[test]
fn every_rule_has_a_case_that_breaks_it_and_a_neighbour_that_does_not() {
    let cases = Case::load_all();
    let by_name: BTreeMap<&str, &Case> = cases.iter().map(|case| (case.name.as_str(), case)).collect();
    let rules = |case: &Case| -> BTreeSet<String> {
        case.expect.rules.iter().filter_map(|rule| rule.split(' ').next()).map(String::from).collect()
    };
    let harm = |case: &Case| ["skip", "admit", "warn", "deny"].iter().position(|o| *o == case.outcome());
    let mut shown = BTreeSet::new();
    for case in &cases {
        let Some(neighbour) = &case.neighbour else {
            assert_ne!(case.outcome(), "deny", "{} names no neighbour", case.name);
            continue;
        };
        let neighbour = by_name.get(neighbour.as_str()).unwrap_or_else(|| panic!("{}", case.name));
        assert!(harm(neighbour) < harm(case), "{}: {}", case.name, neighbour.name);
        shown.extend(rules(case).difference(&rules(neighbour)).cloned());
    }
    let baseline = rules_of_the_baseline();
    assert_eq!(shown, baseline);
    let spoken: BTreeSet<String> = cases.iter().flat_map(rules).collect();
    assert_eq!(spoken, baseline);
}

#[test]
fn no_two_cases_are_equal_but_for_their_names() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for case in Case::load_all() {
        let parts = (&case.labels, &case.configuration, &case.grants, &case.cluster);
        let key = format!("{parts:?} {:?} {} {:?}", case.sub_resource, case.object, case.update);
        if let Some(twin) = seen.insert(key, case.name.clone()) {
            panic!("{} is {twin} once more", case.name);
        }
    }
}
