//! `explain` and `serve` say the same about an object: the same verdict, the same patch, the same warnings. `cases.rs`
//! runs this on the corpus, for every object as the API server sends it and again as a person wrote it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use wasmgate::admission::{Asked, rehearse_review};
use wasmgate::cli::manifest::Manifest;
use wasmgate::cli::rehearse::{rehearsal, templates};
use wasmgate::cli::report::{Answers, ExplainOutcome, ObjectReport};
use wasmgate::review::{self, Webhook};
use wasmgate::workload::{self, Kind};

use super::cases::outcome_of;
use crate::support::corpus::Case;
use crate::support::gate::{Flow, Request, Setup, created_pod, patch_of, patched, plug_ins};

/// The result of either command for an object.
#[derive(Debug, PartialEq)]
struct Told {
    /// `deny`, `warn`, `admit` or `skip`; of a template that was judged, what becomes of its pods.
    outcome: &'static str,
    /// `rule: message` of the violations that deny a pod.
    causes: BTreeSet<String>,
    warnings: BTreeSet<String>,
    patch: Value,
}

/// Calls the webhooks in the order of the API server, about a new object.
async fn served(flow: &Flow, case: &Case, object: &Value) -> Told {
    let mut request = Request::create(case.namespace(), object.clone());
    let mut answers = vec![flow.send(Webhook::Mutate, &request).await];
    let patch = patch_of(&answers[0]).unwrap_or_default();
    if !patch.0.is_empty() {
        request.object = plug_ins(&patched(object, &answers[0]), case.namespace(), &case.cluster());
        answers.push(flow.send(Webhook::Mutate, &request).await);
    }
    let patch = match case.kind().filter(|kind| kind.is_template()) {
        Some(kind) => served_for_pods(flow, case, object, kind).await,
        None => json!(patch),
    };
    let validate = flow.send(Webhook::Validate, &request).await;
    let causes = validate["status"]["details"]["causes"].as_array().into_iter().flatten();
    let cause = |c: &Value| format!("{}: {}", c["reason"].as_str().unwrap(), c["message"].as_str().unwrap());
    let causes = causes.map(cause).collect();
    let outcome = match validate["auditAnnotations"]["verdict"].as_str() {
        // A template is admitted; its verdict is that of its pods.
        Some(verdict) if case.kind().is_some_and(Kind::is_template) => outcome_of_verdict(verdict),
        _ => outcome_of(&validate),
    };
    answers.push(validate);
    let warnings = answers.iter().flat_map(|answer| answer["warnings"].as_array().into_iter().flatten());
    let warnings = warnings.map(|text| text.as_str().unwrap().to_string()).collect();
    Told { outcome, causes, warnings, patch }
}

fn outcome_of_verdict(verdict: &str) -> &'static str {
    match verdict {
        "deny" => "deny",
        "warn" => "warn",
        "audit" | "allow" => "admit",
        other => panic!("`{other}` is no verdict"),
    }
}

/// The first pod that a controller creates from a template.
fn pod_of(case: &Case, object: &Value, kind: Kind) -> Value {
    let object = to_raw_value(object).unwrap();
    let object = workload::as_judged(&object, kind).unwrap();
    let object: Value = serde_json::from_str(object.get()).unwrap();
    created_pod(&object, kind, case.namespace(), &case.cluster())
}

/// The patch that `/mutate` answers for that pod.
async fn served_for_pods(flow: &Flow, case: &Case, object: &Value, kind: Kind) -> Value {
    let pod = pod_of(case, object, kind);
    let answer = flow.send(Webhook::Mutate, &Request::create(case.namespace(), pod)).await;
    json!(patch_of(&answer).unwrap_or_default())
}

/// A patch of a template as one of its pods.
fn of_pod(patch: &Value, template: &str) -> Value {
    let mut patch = patch.clone();
    for operation in patch.as_array_mut().into_iter().flatten() {
        let path = operation["path"].as_str().unwrap();
        operation["path"] = json!(path.strip_prefix(template).unwrap());
    }
    patch
}

/// The report of `explain` on a manifest.
async fn explained(flow: &Flow, case: &Case, object: &Value) -> ObjectReport {
    let manifest = Manifest { origin: case.name.clone(), object: object.clone() };
    // What `explain` says first of an object is what the webhooks say; the pods of further templates come after it.
    let (_, manifest) = templates(&flow.gate.state(), &manifest).swap_remove(0);
    explained_alone(flow, case, &manifest).await
}

async fn explained_alone(flow: &Flow, case: &Case, manifest: &Manifest) -> ObjectReport {
    let (state, budget) = (flow.gate.state(), Duration::from_secs(20));
    let inspector = flow.gate.inspector();
    let inspector = &*inspector;
    let rehearsal = rehearsal(&state, inspector, manifest, case.namespace(), budget, false).await.unwrap();
    ObjectReport::of(manifest, case.namespace(), &rehearsal, &[])
}

fn told(report: &ObjectReport, template_at: &str) -> Told {
    let template = report.kind != "Pod";
    let denies = report.violations.iter().filter(|v| v.action == wasmgate::policy::EnforcementAction::Deny);
    let outcome = match report.outcome {
        ExplainOutcome::Denied => "deny",
        ExplainOutcome::Warned => "warn",
        ExplainOutcome::Admitted => "admit",
        ExplainOutcome::NotJudged
        | ExplainOutcome::CompletedByOthers
        | ExplainOutcome::NoTemplate
        | ExplainOutcome::NotWasm
        | ExplainOutcome::Exempt
        | ExplainOutcome::Skipped
        | ExplainOutcome::Unreadable
        | ExplainOutcome::Unread
        | ExplainOutcome::Unrecognised => "skip",
    };
    Told {
        outcome,
        causes: denies
            .filter(|_| !template)
            .map(|v| format!("{}: {}", v.violation.rule, v.violation.message))
            .collect(),
        warnings: report.warnings.iter().cloned().collect(),
        patch: of_pod(&json!(report.patch), template_at),
    }
}

/// The rules' findings without their messages, which name a token volume once the API server has added it.
fn found(report: &ObjectReport) -> BTreeSet<String> {
    let name = |v: &wasmgate::judge::JudgedViolation| {
        let violation = &v.violation;
        format!("{} {:?} {:?} {:?}", violation.rule, violation.container, violation.capability, v.action)
    };
    report.violations.iter().map(name).collect()
}

/// What `explain` says of the pods of each further template, and the webhooks of a pod that a controller creates from
/// it. The webhooks warn of it at the pod alone.
async fn differences_of_further_templates(flow: &Flow, case: &Case, object: &Value, wrong: &mut Vec<String>) {
    let Some(kind) = case.kind() else { return };
    let manifest = Manifest { origin: case.name.clone(), object: object.clone() };
    for (place, manifest) in templates(&flow.gate.state(), &manifest).into_iter().skip(1) {
        let report = explained_alone(flow, case, &manifest).await;
        let pod = pod_of(case, &manifest.object, kind);
        let served = served(flow, &Case::of_object(&case.name, case.namespace(), &pod), &pod).await;
        let denies =
            report.violations.iter().filter(|v| v.action == wasmgate::policy::EnforcementAction::Deny);
        let causes: BTreeSet<String> =
            denies.map(|v| format!("{}: {}", v.violation.rule, v.violation.message)).collect();
        let denied = report.outcome == ExplainOutcome::Denied;
        if causes != served.causes || denied != (served.outcome == "deny") {
            wrong.push(format!("of `{place}` explain says {causes:#?}\nserve says {served:#?}"));
        }
        if of_pod(&json!(report.patch), case.template()) != served.patch {
            wrong
                .push(format!("of `{place}` explain patches {:#?}\nserve {:#?}", report.patch, served.patch));
        }
    }
}

/// The differences between `explain` and `serve` on a case.
pub async fn differences(flow: &Flow, case: &Case, wrong: &mut Vec<String>) {
    let object = case.request().object;
    let served = served(flow, case, &object).await;
    let received = explained(flow, case, &object).await;
    let ours = told(&received, case.template());
    if ours != served {
        wrong.push(format!("explain says {ours:#?}\nserve says {served:#?}"));
    }
    Box::pin(differences_of_further_templates(flow, case, &object, wrong)).await;
    let written = explained(flow, case, &case.written()).await;
    let facts = |report: &ObjectReport| (report.outcome, found(report), report.changes.clone());
    if facts(&written) != facts(&received) {
        let (a, b) = (facts(&written), facts(&received));
        wrong.push(format!("as it was written explain says {a:#?}\nas the API server hands it over {b:#?}"));
    }
    let warnings = |report: &ObjectReport| -> BTreeSet<String> {
        report.remarks.iter().chain(&report.notices).cloned().collect()
    };
    if warnings(&written) != warnings(&received) {
        let (a, b) = (warnings(&written), warnings(&received));
        wrong.push(format!("as it was written explain warns {a:#?}\nas the API server hands it over {b:#?}"));
    }
}

/// What `explain` says of the very bodies that the webhooks get: the same answers, to every field.
pub async fn differences_of_reviews(flow: &Flow, case: &Case, wrong: &mut Vec<String>) {
    let request = case.request();
    let mutate = flow.send(Webhook::Mutate, &request).await;
    let stored = Request { object: patched(&request.object, &mutate), ..request.clone() };
    let validate = flow.send(Webhook::Validate, &stored).await;
    let alone = flow.send(Webhook::Validate, &request).await;
    for (asked, served) in [(Asked::Both, json!([mutate, validate])), (Asked::Validate, json!([null, alone]))]
    {
        let review = review::parse(request.to_body().as_bytes()).unwrap();
        let (state, inspector) = (flow.gate.state(), flow.gate.inspector());
        let limits = (asked, Duration::from_secs(20));
        let rehearsal = rehearse_review(&state, &inspector, review, limits, |_| ()).await.unwrap();
        let Answers { mutate, validate } = Answers::of(&rehearsal);
        let ours = json!([mutate.map(|whole| whole["response"].clone()), validate["response"].clone()]);
        if ours != served {
            wrong.push(format!("of the review explain says {ours:#}\nserve says {served:#}"));
        }
    }
}

/// No case of the corpus: the gate's own tests send what an API server would have refused itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_ends_alike() {
    let flow = Flow::new(&Setup::default()).await;
    let spec = |class: &str| json!({"runtimeClassName": class, "containers": [{"name": "a", "image": 7}]});
    let pod =
        |class| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec(class)});
    let deployment = |class| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"template": {"spec": spec(class)}}})
    };
    // Its template is found at the place that its kind names.
    let service = |class| {
        json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "a"},
            "spec": {"template": {"spec": spec(class)}}})
    };
    let (wasm, other) = ("wasmtime", "other");
    for (object, outcome) in [
        (pod(other), ExplainOutcome::Unreadable),
        (pod(wasm), ExplainOutcome::Denied),
        (deployment(other), ExplainOutcome::Unreadable),
        (deployment(wasm), ExplainOutcome::Denied),
        (service(other), ExplainOutcome::Unreadable),
        (service(wasm), ExplainOutcome::Denied),
    ] {
        let case = Case::of_object("skip-unreadable", "shop", &object);
        let report = explained(&flow, &case, &object).await;
        assert_eq!(report.outcome, outcome, "{object}");
        assert!(report.error.as_ref().is_some_and(|error| error.contains("image")), "{report:?}");
        assert_eq!(told(&report, case.template()), served(&flow, &case, &object).await, "{object}");
    }
}
