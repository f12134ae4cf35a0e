//! Compares the model of the API server in `tests/support/gate.rs`, with which the corpus runs in process, with a real
//! one: the same cases, the same gate, the same outcome and the same pod.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use wasmgate::quantity::Quantity;
use wasmgate::review::Webhook;

use super::api::{Api, Reply};
use super::cluster::{CLUSTER, GRANTED, HIGH, LOW, ONLY_MAX, image, plain, setup};
use crate::support::corpus::Case;
use crate::support::gate::{self, Flow, Request, defaulted, patched, plug_ins};
use crate::support::live_gate;

/// The model's result for a new object.
#[derive(Debug)]
struct Outcome {
    /// The object that would be stored.
    object: Value,
    warnings: BTreeSet<String>,
    refusal: Option<String>,
}

fn texts(response: &Value) -> impl Iterator<Item = String> + '_ {
    response["warnings"].as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_string())
}

/// Sends a case through the chain of the model.
async fn model(flow: &Flow, case: &Case, cluster: &[Value]) -> Outcome {
    let namespace = case.namespace();
    let through =
        |object: &Value| if case.is_pod() { plug_ins(object, namespace, cluster) } else { object.clone() };
    let mut request =
        Request::create(namespace, through(&defaulted(&case.object, namespace, case.template())));
    let mut warnings = BTreeSet::new();
    if case.is_pod() {
        let first = flow.send(Webhook::Mutate, &request).await;
        warnings.extend(texts(&first));
        let changed = patched(&request.object, &first);
        if changed != request.object {
            request.object = through(&changed);
            let second = flow.send(Webhook::Mutate, &request).await;
            warnings.extend(texts(&second));
            request.object = patched(&request.object, &second);
        }
    }
    let validate = flow.send(Webhook::Validate, &request).await;
    warnings.extend(texts(&validate));
    let refused = validate["allowed"] != true;
    let refusal = refused.then(|| validate["status"]["message"].as_str().unwrap().to_string());
    Outcome { object: request.object, warnings, refusal }
}

/// The result of the real API server.
fn real(reply: Reply) -> Outcome {
    let prefix = "admission webhook \"validate.wasmgate.dev\" denied the request: ";
    let refusal = (reply.code >= 400).then(|| {
        let message = reply.body["message"].as_str().unwrap();
        message.strip_prefix(prefix).unwrap_or(message).to_string()
    });
    // The API server's own, about a dot in a name (`kubernetes:pkg/api/pod/warnings.go`).
    let own = |warning: &String| warning.starts_with("metadata.name: this is used in the Pod's hostname");
    let warnings = reply.warnings.into_iter().filter(|warning| !own(warning)).collect();
    Outcome { object: reply.body, warnings, refusal }
}

/// A text in which the random names of the ServiceAccount plug-in are replaced.
fn normal_text(text: &str) -> String {
    let mut parts = text.split("kube-api-access-");
    let mut normal = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        normal.push_str("kube-api-access-*");
        normal.push_str(rest);
    }
    normal
}

fn normal_texts(texts: &BTreeSet<String>) -> BTreeSet<String> {
    texts.iter().map(|text| normal_text(text)).collect()
}

/// The compared parts of an object: its spec and annotations, with quantities as numbers.
fn comparable(object: &Value) -> Value {
    let mut annotations = object["metadata"]["annotations"].clone();
    let mut spec = object["spec"].clone();
    normalise(&mut annotations);
    normalise(&mut spec);
    json!({"annotations": annotations, "labels": object["metadata"]["labels"], "spec": spec})
}

fn normalise(value: &mut Value) {
    match value {
        Value::String(text) => *text = normal_text(text),
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                if matches!(key.as_str(), "limits" | "requests" | "overhead") {
                    quantities(value);
                } else {
                    normalise(value);
                }
            }
        }
        _ => {}
    }
}

/// `1000m` and `1` are equal, and the API server writes the shortest.
fn quantities(amounts: &mut Value) {
    for amount in amounts.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let text = amount.as_str().map_or_else(|| amount.to_string(), String::from);
        *amount = json!(format!("{:?}", Quantity::parse(&text).unwrap()));
    }
}

/// Every place where two values differ.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                differences(&format!("{path}/{key}"), &ours[key.as_str()], &theirs[key.as_str()], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{index}"), a, b, found);
            }
        }
        _ if ours == theirs => {}
        _ => found.push(format!("{path}: the model has {ours}, the real one {theirs}")),
    }
}

/// Whether the API server refused a person's size by a LimitRange, as the gate predicted: the model leaves out what
/// LimitRanger checks after the webhooks.
fn foretold(model: &Outcome, real: &Outcome) -> bool {
    let by_limit_range = |text: &String| text.contains("is forbidden: maximum memory usage per Pod");
    let warned = model.warnings.iter().any(|text| text.contains("allows 40Mi at most for a pod"));
    model.refusal.is_none() && warned && real.refusal.as_ref().is_some_and(by_limit_range)
}

fn compare(case: &Case, model: &Outcome, real: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    if foretold(model, real) {
        return wrong;
    }
    let refusals = |outcome: &Outcome| outcome.refusal.as_deref().map(normal_text);
    if refusals(model) != refusals(real) {
        wrong.push(format!("refused: the model says {:?}, the real one {:?}", model.refusal, real.refusal));
        return wrong;
    }
    let (ours, theirs) = (normal_texts(&model.warnings), normal_texts(&real.warnings));
    if ours != theirs {
        wrong.push(format!("warnings: the model says {ours:?}, the real one {theirs:?}"));
    }
    if model.refusal.is_none() && case.is_pod() {
        differences("", &comparable(&model.object), &comparable(&real.object), &mut wrong);
    }
    wrong
}

/// How the real outcome differs from the model's, with the LimitRanges in the order of the documents: the real plug-in
/// takes those of a namespace in no defined order, and its annotation names the last one's sizes alone.
async fn against_the_model(flow: &Flow, case: &Case, cluster: &[Value], real: &Outcome) -> Vec<String> {
    let model = model(flow, case, cluster).await;
    let mut found = compare(case, &model, real);
    if (case.outcome() == "deny") != real.refusal.is_some() && !foretold(&model, real) {
        found.push(format!("the real chain says otherwise: {:?} {:?}", real.refusal, real.warnings));
    }
    found
}

/// The documents about the cluster that the gate gets.
fn of_the_cluster(objects: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let ours = |object: &Value| object["apiVersion"].as_str().unwrap().starts_with("wasmgate.dev/");
    objects.iter().cloned().partition(ours)
}

/// Cases that the corpus lacks: fields that the API server fills in, and bounds that it reads in more than one way.
fn further() -> Vec<Case> {
    let with = |name: &str, namespace: &str, spec: Value| {
        let mut pod = plain("hello");
        pod["metadata"] = json!({"name": "app", "labels": {"app": "orders"}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        Case::of_object(name, namespace, &pod)
    };
    let container = |more: Value| {
        let mut container = json!({"name": "app", "image": image("hello")});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let both = json!({
        "initContainers": [{"name": "first", "image": image("linux")}, {"name": "side", "image": image("hello"), "restartPolicy": "Always"}],
        "containers": [{"name": "app", "image": image("hello")}],
    });
    let linux = json!({"containers": [{"name": "app", "image": image("linux")}], "automountServiceAccountToken": true});
    vec![
        with(
            "admit-class-with-everything",
            GRANTED,
            json!({"runtimeClassName": "wasmtime-with-overhead", "nodeSelector": {"a": "b"}}),
        ),
        with(
            "admit-limit-alone",
            GRANTED,
            container(json!({"resources": {"limits": {"memory": "64Mi", "cpu": "1500m"}}})),
        ),
        with(
            "admit-latest",
            GRANTED,
            container(json!({"ports": [{"containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": 80}}, "livenessProbe": {"tcpSocket": {"port": 80}}})),
        ),
        with(
            "admit-own-tolerations",
            GRANTED,
            json!({"tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}, {"key": "other", "effect": "NoSchedule", "operator": "Exists"}]}),
        ),
        with("warn-sides", GRANTED, both.clone()),
        with("admit-low", LOW, json!({})),
        with("admit-high", HIGH, json!({})),
        with("warn-sides-low", LOW, both.clone()),
        with("admit-only-a-maximum", ONLY_MAX, json!({})),
        with("warn-sides-only-a-maximum", ONLY_MAX, both),
        with("skip-linux-only-a-maximum", ONLY_MAX, linux.clone()),
        with("skip-linux-high", HIGH, linux),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_of_the_corpus_comes_out_of_the_real_chain_as_out_of_the_model() {
    let live_gate::Setup { configuration, objects, .. } = setup();
    let (grants, cluster) = of_the_cluster(&objects);
    let flow = Flow::new(&gate::Setup { configuration, grants, cluster: cluster.clone() }).await;
    let cluster_of_all = tokio::task::spawn_blocking(|| CLUSTER.get()).await.unwrap();
    let mut api = Api::open(&cluster_of_all.plane).await;
    let mut cases = Case::load_shared();
    // The definitions of other projects are not installed.
    cases.retain(|case| case.is_new() && !case.is_described());
    assert!(cases.len() >= 50, "{} cases", cases.len());
    cases.extend(further());
    let mut wrong = Vec::new();
    for case in &cases {
        let reply = api.dry_run(case.namespace(), &case.object).await;
        let real = real(reply);
        let mut found = against_the_model(&flow, case, &cluster, &real).await;
        if !found.is_empty() {
            let reversed: Vec<Value> = cluster.iter().rev().cloned().collect();
            let again = against_the_model(&flow, case, &reversed, &real).await;
            found = if again.is_empty() { again } else { found };
        }
        if !found.is_empty() {
            wrong.push(format!("== {}\n{}", case.name, found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
