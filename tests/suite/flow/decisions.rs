//! What the gate answers from an earlier decision is what it would decide again: for the corpus, for the next pod of the same
//! workload, and for pods that differ from them at one place. And no update, subresource or template gets the answer of a new pod.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use wasmgate::admission::State;
use wasmgate::cluster::Cluster;
use wasmgate::grant::{Grants, WasiGrant};
use wasmgate::lookup::{Inspector, LookupOptions};
use wasmgate::registry::guard::GuardOptions;
use wasmgate::registry::{Login, PullSecrets, Pulled, Puller};
use wasmgate::review::Webhook;

use super::cases::shared_setup;
use super::verdicts::{other, places};
use crate::support::corpus::Case;
use crate::support::gate::{Flow, Request, Setup, defaulted, patched, plain_pod, plug_ins};
use crate::support::oci::{ImageBuilder, fixtures};
use crate::support::opa;
use crate::support::registry::{PASSWORD, Registry, USER};

/// Pods beside each case's.
const NEIGHBOURS: usize = 4;

/// Another pod of the same workload, as the API server sends it: with a name, an identity and a volume for the token of its own.
pub fn sibling(request: &Request, random: &str) -> Request {
    let mut object = request.object.clone();
    let metadata = &mut object["metadata"];
    let start = metadata["generateName"].as_str().unwrap_or("web-5d8f-").to_owned();
    metadata["name"] = json!(format!("{start}{random}"));
    metadata["generateName"] = json!(start);
    metadata["uid"] = json!(format!("705ab4f5-6393-11e8-b7cc-0000000{random}"));
    metadata["creationTimestamp"] = json!("2026-11-02T09:30:11Z");
    let token = format!("kube-api-access-{random}");
    let spec = &mut object["spec"];
    let volumes = spec["volumes"].as_array_mut();
    let named = volumes.into_iter().flatten().filter_map(|volume| volume.get_mut("name"));
    let mut former = Vec::new();
    for name in named.filter(|name| name.as_str().is_some_and(|name| name.starts_with("kube-api-access-"))) {
        former.push(std::mem::replace(name, json!(token)));
    }
    for list in ["containers", "initContainers"] {
        let containers = spec[list].as_array_mut().into_iter().flatten();
        let mounts = containers.filter_map(|one| one.get_mut("volumeMounts")?.as_array_mut()).flatten();
        for name in mounts.filter_map(|mount| mount.get_mut("name")).filter(|name| former.contains(name)) {
            *name = json!(token);
        }
    }
    Request { object, ..request.clone() }
}

/// So many pods that differ from this one at one place each.
pub fn neighbours(request: &Request) -> Vec<Request> {
    let mut all = Vec::new();
    places(&request.object["spec"], "/spec", &mut all);
    places(&request.object["metadata"], "/metadata", &mut all);
    let step = (all.len() / NEIGHBOURS).max(1);
    let changed = all.iter().step_by(step).map(|place| {
        let mut request = request.clone();
        let value = request.object.pointer_mut(place).unwrap();
        *value = other(value);
        request
    });
    changed.collect()
}

/// Whether the record is one of a decision that was known, which has no time for planning or judging.
pub fn is_known(record: &Value) -> bool {
    let stages = ["inspect", "plan", "judge"].map(|stage| format!("timer_wasmgate_{stage}_ns"));
    ["planned", "judged by the policies", "no Wasm"]
        .iter()
        .any(|reason| record["result"]["reason"] == *reason)
        && stages.iter().all(|stage| record["metrics"].get(stage).is_none())
}

/// Asks two gates the same in the same order, one of which keeps nothing. Their answers and records have to be the same. Returns the records of the
/// gate that keeps what it decides.
async fn records_of_both(cases: &[Case], requests: &[Request]) -> Vec<Value> {
    let setup = shared_setup(cases);
    let configuration = "policies: {verdictCacheBytes: 0}".to_owned();
    let fresh = Flow::new(&Setup { configuration, ..setup.clone() }).await;
    let keeping = Flow::new(&setup).await;
    let (mut asked, mut differ) = (0, Vec::new());
    for request in requests {
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            asked += 1;
            let wanted = fresh.send(webhook, request).await;
            let found = keeping.send(webhook, request).await;
            if wanted != found {
                let Request { operation, sub_resource, namespace, .. } = request;
                differ.push(format!(
                    "{namespace}: {operation} {sub_resource:?} {webhook:?}: {found}\ninstead of {wanted}"
                ));
            }
        }
    }
    assert!(differ.is_empty(), "{} of {asked} differ\n{}", differ.len(), differ.join("\n"));
    let (kept, new) = (keeping.records(), fresh.records());
    assert_eq!((kept.len(), new.len()), (asked, asked));
    assert_eq!(new.iter().filter(|record| is_known(record)).count(), 0);
    for (found, wanted) in kept.iter().zip(&new) {
        assert_eq!(comparable(found.clone()), comparable(wanted.clone()));
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn earlier_decisions_answer_as_new_ones_for_the_corpus_its_siblings_and_pods_beside_it() {
    let cases = Case::load_shared();
    let is_new_pod = |case: &&Case| case.is_pod() && case.update.is_none();
    let mut requests = Vec::new();
    for case in cases.iter().filter(is_new_pod) {
        let request = case.request();
        let one = sibling(&request, "bcdfg");
        requests.extend([request.clone(), one.clone(), sibling(&request, "x2k4p"), one, request.clone()]);
        requests.extend(neighbours(&sibling(&request, "zz99z")));
    }
    let kept = Box::pin(records_of_both(&cases, &requests)).await;
    let known = kept.iter().filter(|record| is_known(record)).count();
    assert!(known > kept.len() / 20, "{known} of {}", kept.len());
}

/// One of so many new pods of the corpus is also asked about in other ways than as a new pod.
const EACH: usize = 8;

/// Kinds of objects with a pod template, with their groups and versions.
const TEMPLATES: [(&str, &str); 5] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
];

/// An object of such a kind with this pod as its template.
fn with_template(pod: &Value, (api_version, kind): (&str, &str)) -> Value {
    let mut metadata = pod["metadata"].clone();
    let members = metadata.as_object_mut().unwrap();
    members.retain(|key, _| matches!(key.as_str(), "labels" | "annotations"));
    let template = json!({"metadata": metadata, "spec": pod["spec"]});
    let spec = match kind {
        "CronJob" => json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}),
        _ => json!({"template": template}),
    };
    let metadata = json!({"name": "web", "namespace": pod["metadata"]["namespace"]});
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
}

/// The update of an object to that of a request.
fn update(request: &Request, old: Value, sub_resource: Option<&str>) -> Request {
    let sub_resource = sub_resource.map(str::to_owned);
    Request { operation: "UPDATE".to_owned(), sub_resource, old_object: Some(old), ..request.clone() }
}

/// What may be asked about a pod besides whether it may be created: whether it, or a subresource of it, may be updated from one that differs at one place, or
/// from itself, and whether objects may be created and updated whose template it is.
fn asked_besides(request: &Request) -> Vec<Request> {
    let mut former: Vec<Value> = neighbours(request).into_iter().map(|request| request.object).collect();
    let sub_resources = [None, Some("resize"), Some("ephemeralcontainers")];
    let mut all = vec![update(request, request.object.clone(), None)];
    for (number, old) in former.iter().enumerate() {
        all.push(update(request, old.clone(), sub_resources[number % sub_resources.len()]));
    }
    let old = former.swap_remove(0);
    for kind in TEMPLATES {
        let created = Request::create(&request.namespace, with_template(&request.object, kind));
        let updated = update(&created, with_template(&old, kind), None);
        all.extend([created.clone(), created, updated]);
    }
    all
}

/// The reviews of the corpus that are not of new pods, each after those of the pod as a new one, and the same for pods of the corpus.
fn other_reviews(cases: &[Case]) -> Vec<Request> {
    let mut all = Vec::new();
    let is_new_pod = |case: &&Case| case.is_pod() && case.is_new();
    for case in cases.iter().filter(|case| case.kind().is_some() && !is_new_pod(case)) {
        let request = case.request();
        let new = Request {
            operation: "CREATE".to_owned(),
            sub_resource: None,
            old_object: None,
            ..request.clone()
        };
        all.extend([new, request.clone(), request.clone()]);
        all.extend(neighbours(&request));
    }
    for case in cases.iter().filter(is_new_pod).step_by(EACH) {
        let request = case.request();
        all.extend([request.clone(), request.clone()]);
        all.extend(asked_besides(&request));
    }
    all
}

fn is_of_new_pod(request: &Request) -> bool {
    request.operation == "CREATE" && request.sub_resource.is_none() && request.object["kind"] == "Pod"
}

/// Their decisions are not kept, and follow from more than those about new pods: the former object, the subresource, the defaults of a template. What rules
/// find is kept for them too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_subresources_and_templates_get_the_answers_of_a_gate_that_keeps_nothing() {
    let cases = Case::load_shared();
    let requests = other_reviews(&cases);
    let count = |is_one: &dyn Fn(&Request) -> bool| requests.iter().filter(|request| is_one(request)).count();
    for kind in TEMPLATES {
        assert!(count(&|request| request.object["kind"] == kind.1) > 40, "{kind:?}");
    }
    for sub_resource in ["resize", "ephemeralcontainers"] {
        assert!(
            count(&|request| request.sub_resource.as_deref() == Some(sub_resource)) > 40,
            "{sub_resource}"
        );
    }
    assert!(count(&|request| request.operation == "UPDATE") > 400);
    let kept = Box::pin(records_of_both(&cases, &requests)).await;
    let mut cached = 0;
    for (request, record) in requests.iter().flat_map(|request| [request; 2]).zip(&kept) {
        if !is_of_new_pod(request) {
            assert!(!is_known(record), "{record}");
            cached += usize::from(record["custom"]["verdict_cached"] == true);
        }
    }
    assert!(cached > 100, "{cached} verdicts were known");
}

/// A record without what belongs to this gate and this moment, and not to the review and what was decided.
fn comparable(mut record: Value) -> Value {
    let members = record.as_object_mut().unwrap();
    for own in ["labels", "decision_id", "timestamp", "metrics"] {
        members.remove(own);
    }
    if let Some(custom) = record.get_mut("custom").and_then(Value::as_object_mut) {
        custom.remove("verdict_cached");
    }
    record
}

#[tokio::test]
async fn the_second_pod_of_a_workload_is_not_decided_again_and_one_with_another_label_is() {
    let flow = Flow::new(&Setup::default()).await;
    let mut pod = plain_pod("files");
    pod["metadata"]["generateName"] = json!("web-5d8f-");
    pod["spec"]["runtimeClassName"] = json!("wasmtime");
    let sent = Request::create("shop", plug_ins(&pod, "shop", &[]));
    let named = |random| sibling(&sent, random);
    // The mutating webhook is asked before a pod has a name.
    let nameless = |random| {
        let mut request = named(random);
        let metadata = request.object["metadata"].as_object_mut().unwrap();
        for key in ["name", "uid", "creationTimestamp"] {
            metadata.remove(key);
        }
        request
    };
    let mut labelled = nameless("x2k4p");
    labelled.object["metadata"]["labels"]["tier"] = json!("front");
    let asked = [
        (nameless("bcdfg"), false),
        (nameless("x2k4p"), true),
        (labelled, false),
        (named("bcdfg"), false),
        (named("x2k4p"), false),
        (named("bcdfg"), true),
    ];
    for (request, _) in &asked {
        flow.send(Webhook::Mutate, request).await;
    }
    let known: Vec<bool> = flow.records().iter().map(is_known).collect();
    assert_eq!(known, asked.map(|(_, is_known)| is_known));
}

#[tokio::test]
async fn the_next_pod_of_a_replica_set_gets_the_answer_of_the_first_with_its_own_name() {
    let flow = Flow::new(&Setup::default()).await;
    let mut pod = plain_pod("files");
    pod["metadata"]["generateName"] = json!("web-5d8f-");
    pod["spec"]["runtimeClassName"] = json!("wasmtime");
    let sent = Request::create("shop", plug_ins(&pod, "shop", &[]));
    let mut answers = Vec::new();
    for random in ["bcdfg", "x2k4p", "bcdfg"] {
        let mut answer = flow.send(Webhook::Validate, &sibling(&sent, random)).await;
        let message = answer["status"]["message"].take();
        let message = message.as_str().unwrap_or_default().to_owned();
        assert!(answer["allowed"] == true || message.contains(&format!("/web-5d8f-{random}`")), "{message}");
        answers.push((answer, message.replace(random, "")));
    }
    assert_eq!((&answers[1], &answers[2]), (&answers[0], &answers[0]));
}

/// A new pod that opens files, as the validating webhook gets it.
async fn pinned(flow: &Flow) -> Request {
    let mut pod = plain_pod("files");
    pod["spec"]["runtimeClassName"] = json!("wasmtime");
    let mut request = Request::create("shop", plug_ins(&defaulted(&pod, "shop", ""), "shop", &[]));
    let mutate = flow.send(Webhook::Mutate, &request).await;
    request.object = plug_ins(&patched(&request.object, &mutate), "shop", &[]);
    request
}

/// Whether each of the last records is one of a decision that was known.
fn known(flow: &Flow, last: usize) -> Vec<bool> {
    let records = flow.records();
    records[records.len() - last..].iter().map(is_known).collect()
}

#[tokio::test]
async fn a_decision_counts_no_longer_once_the_labels_of_its_namespace_have_changed() {
    let flow = Flow::new(&Setup::default()).await;
    let request = pinned(&flow).await;
    let labelled = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let labels: BTreeMap<String, String> = labels.collect();
        flow.gate.update(|state| {
            let mut cluster = Cluster::clone(state.cluster());
            cluster.namespaces.insert("shop".to_owned(), labels.clone());
            state.clone().with_cluster(Arc::new(cluster))
        });
    };
    let mut allowed = Vec::new();
    for labels in [&[][..], &[("wasmgate.dev/enforce", "audit")], &[]] {
        labelled(labels);
        for _ in 0..2 {
            let answer = flow.send(Webhook::Validate, &request).await;
            allowed.push(answer["allowed"] == true);
        }
    }
    assert_eq!(allowed, [false, false, true, true, false, false]);
    assert_eq!(known(&flow, 6), [false, true, false, true, false, true]);
}

#[tokio::test]
async fn a_decision_counts_no_longer_once_the_grants_have_changed() {
    let flow = Flow::new(&Setup::default()).await;
    let request = pinned(&flow).await;
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "files", "namespace": "shop"}, "spec": {"capabilities": [{"name": "native.exec"}]}});
    let grant: WasiGrant = serde_json::from_value(grant).unwrap();
    let mut allowed = Vec::new();
    for grants in [Vec::new(), vec![grant], Vec::new()] {
        let grants = Arc::new(Grants::new(grants).unwrap());
        flow.gate.update(|state| {
            let mut state = state.clone();
            state.grants = Arc::clone(&grants);
            state
        });
        for _ in 0..2 {
            let answer = flow.send(Webhook::Validate, &request).await;
            allowed.push(answer["allowed"] == true);
        }
    }
    assert_eq!(allowed, [false, false, true, true, false, false]);
    assert_eq!(known(&flow, 6), [false, true, false, true, false, true]);
}

#[tokio::test]
async fn a_decision_counts_no_longer_than_what_a_tag_led_to() {
    const LIFE: Duration = Duration::from_secs(3);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("app");
    let [former, later] = [fixtures::command(), fixtures::file_command()]
        .map(|module| ImageBuilder::wasm_artifact(&module).build());
    former.write_layout(&layout, "v1").unwrap();
    let layouts = folder.path().display();
    let configuration =
        format!("images: {{layouts: {{moving.test: {layouts}}}, tagTtl: {}s}}\n", LIFE.as_secs());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let pod = defaulted(&plain_pod("moving.test/app:v1"), "shop", "");
    let request = Request::create("shop", plug_ins(&pod, "shop", &[]));
    let image = async || {
        let mutate = flow.send(Webhook::Mutate, &request).await;
        patched(&request.object, &mutate)["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let pinned = |digest: &str| format!("moving.test/app:v1@{digest}");
    assert_eq!([image().await, image().await], [pinned(&former.digest), pinned(&former.digest)]);
    later.write_layout(&layout, "v1").unwrap();
    // It is the time that ends what is known of a tag.
    tokio::time::sleep(LIFE + Duration::from_millis(100)).await;
    assert_eq!(image().await, pinned(&later.digest));
    assert_eq!(known(&flow, 3), [false, true, false]);
}

/// The secret `regcred` of every namespace, in which the password of a registry changes.
#[derive(Debug)]
struct Regcred {
    host: String,
    password: Mutex<&'static str>,
}

impl PullSecrets for Regcred {
    fn logins<'a>(&'a self, puller: &'a Puller) -> BoxFuture<'a, Pulled> {
        let auth = STANDARD.encode(format!("{USER}:{}", self.password.lock().unwrap()));
        let text = json!({"auths": {&self.host: {"auth": auth}}}).to_string();
        let is_named = puller.pull_secrets.iter().any(|name| name == "regcred");
        let logins = if is_named { Login::from_docker_config(text.as_bytes()).unwrap() } else { Vec::new() };
        Box::pin(std::future::ready(Pulled { logins, notes: Vec::new() }))
    }
}

/// A known decision would otherwise hand the facts about a private image to a pod that may not pull it.
#[tokio::test]
async fn a_decision_about_a_private_image_is_known_to_pods_with_the_same_secret_alone() {
    let registry = Registry::start_with_tls_and_password();
    let app = ImageBuilder::wasm_artifact(&fixtures::command()).set("Entrypoint", json!(["/"])).build();
    let blobs: Vec<&[u8]> = app.blobs.values().map(Vec::as_slice).collect();
    registry.push("private/app:v1", &blobs, &app.manifest, &app.media_type).await;
    let secret = Arc::new(Regcred { host: registry.host.clone(), password: Mutex::new(PASSWORD) });
    let options = LookupOptions {
        ca_files: registry.ca.iter().cloned().collect(),
        registries: GuardOptions { allow: vec![registry.host.clone()], ..GuardOptions::default() },
        failure_ttl: Duration::ZERO,
        ..LookupOptions::default()
    };
    let inspector = Inspector::new(options).unwrap().with_pull_secrets(secret.clone());
    let flow = Flow::new(&Setup::default()).await;
    flow.gate.reconfigure(Some(inspector), State::clone);
    let (mine, other, none) = (json!([{"name": "regcred"}]), json!([{"name": "other"}]), json!([]));
    let asked = [
        (PASSWORD, &mine, "bcdfg", (false, true)),
        (PASSWORD, &mine, "x2k4p", (true, true)),
        (PASSWORD, &none, "bcdfg", (false, false)),
        (PASSWORD, &other, "bcdfg", (false, false)),
        ("another", &mine, "bcdfg", (false, false)),
        (PASSWORD, &mine, "zz99z", (true, true)),
    ];
    let mut read = Vec::new();
    for (password, secrets, random, _) in asked {
        *secret.password.lock().unwrap() = password;
        let mut pod = plain_pod(&registry.image("private/app:v1"));
        pod["metadata"]["generateName"] = json!("web-5d8f-");
        pod["spec"]["runtimeClassName"] = json!("wasmtime");
        pod["spec"]["imagePullSecrets"] = secrets.clone();
        let request = Request::create("shop", plug_ins(&defaulted(&pod, "shop", ""), "shop", &[]));
        let answer = flow.send(Webhook::Validate, &sibling(&request, random)).await;
        // What the registry says to a pod that may not pull it.
        read.push(!answer.to_string().contains("(401)"));
    }
    let found: Vec<(bool, bool)> = known(&flow, read.len()).into_iter().zip(read).collect();
    assert_eq!(found, asked.map(|(.., expected)| expected));
}

#[tokio::test]
async fn a_decision_of_rules_that_read_the_user_is_that_users_alone() {
    let omitted = ["object", "request.uid", "request.name", "request.dryRun", "workload.name"];
    Box::pin(assert_is_of_one_user(&omitted)).await;
}

/// What differs between two pods is found in the rules.
#[tokio::test]
async fn a_decision_of_rules_that_read_the_user_is_kept_where_their_manifest_omits_nothing() {
    Box::pin(assert_is_of_one_user(&[])).await;
}

/// Most rules that read the object do not read what tells the pods of a workload apart.
#[tokio::test]
async fn the_next_pod_is_known_to_rules_that_read_its_labels_and_not_to_those_that_read_its_name() {
    for (condition, is_known) in [
        (r#"input.object.metadata.labels.tier == "front""#, true),
        ("input.object.spec.hostNetwork", true),
        (r#"input.object.metadata.name == "web""#, false),
        (r#"input.object.spec.volumes[_].name == "web""#, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let sources = folder.path().join("own");
        std::fs::create_dir(&sources).unwrap();
        std::fs::write(sources.join(".manifest"), json!({"roots": ["wasmgate"]}).to_string()).unwrap();
        let rules = format!(r#"violations contains {{"rule": "own", "message": "said"}} if {condition}"#);
        let bundle = opa::build(folder.path(), "own", "wasmgate/violations", &rules);
        let configuration = format!("policies: {{baseline: false, bundles: [{}]}}\n", bundle.display());
        let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
        let mut pod = plain_pod("hello");
        pod["metadata"]["generateName"] = json!("web-5d8f-");
        pod["spec"]["runtimeClassName"] = json!("wasmtime");
        let request = Request::create("shop", plug_ins(&defaulted(&pod, "shop", ""), "shop", &[]));
        for random in ["bcdfg", "x2k4p"] {
            flow.send(Webhook::Validate, &sibling(&request, random)).await;
        }
        assert_eq!(known(&flow, 2), [false, is_known], "{condition}");
    }
}

async fn assert_is_of_one_user(omitted: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let sources = folder.path().join("own");
    std::fs::create_dir(&sources).unwrap();
    let manifest = json!({"roots": ["wasmgate"], "metadata": {"wasmgate": {"omit": omitted}}});
    std::fs::write(sources.join(".manifest"), manifest.to_string()).unwrap();
    let rules = r#"violations contains {"rule": "no-jane", "message": "not for jane"} if input.request.user.username == "jane""#;
    let bundle = opa::build(folder.path(), "own", "wasmgate/violations", rules);
    let configuration = format!("policies: {{baseline: false, bundles: [{}]}}\n", bundle.display());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let body = pinned(&flow).await.to_body();
    let mut allowed = Vec::new();
    for user in ["jane", "joe", "jane", "joe"] {
        let body = body.replace("\"jane\"", &format!("\"{user}\""));
        let bytes = flow.gate.review(Webhook::Validate, body.as_bytes(), Duration::from_secs(20)).await;
        let review: Value = serde_json::from_slice(&bytes).unwrap();
        allowed.push(review["response"]["allowed"] == true);
    }
    assert_eq!(allowed, [false, true, false, true]);
    assert_eq!(known(&flow, 4), [false, false, true, true]);
}
