//! What is kept of decisions and evaluations answers as new ones do for the bundles of others too, whose rules read what the built-in ones do
//! not: the whole object, who asks, names, labels one by one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::policy::{Bundle, Limits, PolicySet};
use wasmgate::review::Webhook;
use wasmgate::workload::Kind;

use super::cases::{input_of, shared_setup};
use super::decisions::{is_known, neighbours as pods_beside, sibling};
use super::verdicts::{found, neighbours as inputs_beside};
use crate::support::corpus::Case;
use crate::support::gate::{Flow, Request, Setup, defaulted, plain_pod, plug_ins};
use crate::support::opa;
use crate::support::policies::engine;

const BUDGET: Duration = Duration::from_secs(20);

/// Of so many cases one is taken, since each bundle judges all that is beside it.
const STEP: usize = 16;

/// A bundle of others.
struct Own {
    name: &'static str,
    rules: &'static str,
    /// What its manifest omits.
    omit: &'static [&'static str],
    /// Which of [`FIELDS`] its rules read.
    reads: &'static [&'static str],
    /// Whether anything may be kept of it.
    is_kept: bool,
    /// Which of [`IDENTITY`] counts in the key of an evaluation.
    counts: &'static [&'static str],
}

/// Of the object, what [`FIELDS`] changes.
const OF_OBJECT: &[&str] = &["name of the object", "label", "annotation", "field of the spec"];

/// Of the object, what is in [`IDENTITY`].
const IDENTITY_OF_OBJECT: &[&str] =
    &["/object/metadata/name", "/object/metadata/uid", "/object/metadata/creationTimestamp"];

const NOTHING: Own = Own { name: "", rules: "", omit: &[], reads: &[], is_kept: true, counts: &[] };

/// What a bundle finds of its facts alone.
const FACTS: &str = r#"violations contains {"rule": "facts", "message": sprintf("%s %s", [container.name, container.image])} if {
	some container in input.containers
}"#;

static OWN: [Own; 9] = [
    Own {
        name: "object",
        rules: r#"violations contains {"rule": "object", "message": crypto.sha256(json.marshal(input.object))}"#,
        reads: OF_OBJECT,
        counts: IDENTITY_OF_OBJECT,
        ..NOTHING
    },
    Own {
        name: "labels",
        rules: r#"violations contains {"rule": "labels", "message": sprintf("%s=%s", [key, value])} if {
	some key
	value := input.object.metadata.labels[key]
}"#,
        reads: &["label"],
        counts: IDENTITY_OF_OBJECT,
        ..NOTHING
    },
    Own {
        name: "annotations",
        rules: r#"violations contains {"rule": "annotations", "message": sprintf("%s=%s", [key, value])} if {
	some key
	value := input.workload.annotations[key]
}"#,
        reads: &["annotation"],
        ..NOTHING
    },
    Own {
        name: "user",
        rules: r#"violations contains {"rule": "user", "message": json.marshal(input.request.user)}"#,
        reads: &["user", "groups"],
        ..NOTHING
    },
    Own {
        name: "names",
        rules: r#"violations contains {"rule": "names", "message": sprintf("%s %s", [input.request.name, input.workload.name])}"#,
        reads: &["name", "name of the object"],
        counts: &["/request/name", "/workload/name"],
        ..NOTHING
    },
    Own {
        name: "uid",
        rules: r#"violations contains {"rule": "uid", "message": input.request.uid}"#,
        reads: &["uid"],
        is_kept: false,
        ..NOTHING
    },
    Own {
        name: "input",
        rules: r#"violations contains {"rule": "input", "message": crypto.sha256(json.marshal(input))}"#,
        reads: &[
            "uid",
            "name",
            "user",
            "groups",
            "dryRun",
            "name of the object",
            "label",
            "annotation",
            "field of the spec",
        ],
        is_kept: false,
        ..NOTHING
    },
    Own { name: "facts", rules: FACTS, ..NOTHING },
    Own {
        name: "facts-alone",
        rules: FACTS,
        omit: &["object", "request.uid", "request.name", "request.user", "request.dryRun", "workload.name"],
        ..NOTHING
    },
];

/// Bundles whose rules ask for what does not follow from their input.
static ASKING: [Own; 2] = [
    Own {
        name: "clock",
        rules: r#"violations contains {"rule": "clock", "message": "late"} if time.now_ns() > 0"#,
        is_kept: false,
        ..NOTHING
    },
    Own {
        name: "random",
        rules: r#"violations contains {"rule": "random", "message": "unlucky"} if rand.intn("a", 10) >= 0"#,
        is_kept: false,
        ..NOTHING
    },
];

/// What is changed of a review: a name for it, where it is, and the value as JSON.
static FIELDS: [(&str, &[&str], &str); 9] = [
    ("uid", &["request", "uid"], r#""705ab4f5-6393-11e8-b7cc-42010a800009""#),
    ("name", &["request", "name"], r#""other""#),
    ("user", &["request", "userInfo", "username"], r#""joe""#),
    ("groups", &["request", "userInfo", "groups"], r#"["team-b"]"#),
    ("dryRun", &["request", "dryRun"], "true"),
    ("name of the object", &["request", "object", "metadata", "name"], r#""other""#),
    ("label", &["request", "object", "metadata", "labels", "tier"], r#""front""#),
    ("annotation", &["request", "object", "metadata", "annotations", "example.com/note"], r#""seen""#),
    ("field of the spec", &["request", "object", "spec", "terminationGracePeriodSeconds"], "7"),
];

/// What tells an input from that of another review. Of what no rule reads of it only the length counts.
static IDENTITY: [&str; 6] = [
    "/request/uid",
    "/request/name",
    "/workload/name",
    "/object/metadata/name",
    "/object/metadata/uid",
    "/object/metadata/creationTimestamp",
];

fn built(folder: &Path, own: &Own) -> PathBuf {
    let sources = folder.join(own.name);
    std::fs::create_dir(&sources).unwrap();
    let manifest = json!({"roots": ["wasmgate"], "metadata": {"wasmgate": {"omit": own.omit}}});
    std::fs::write(sources.join(".manifest"), manifest.to_string()).unwrap();
    opa::build(folder, own.name, "wasmgate/violations", own.rules)
}

/// A gate with this bundle alone, which keeps nothing, or as much as by default.
async fn gate(setup: &Setup, bundle: &Path, keeps: bool) -> Flow {
    let bytes = if keeps { "" } else { ", verdictCacheBytes: 0" };
    let configuration = format!("policies: {{baseline: false, bundles: [{}]{bytes}}}\n", bundle.display());
    Flow::new(&Setup { configuration, ..setup.clone() }).await
}

fn body(request: &Request) -> Value {
    serde_json::from_str(&request.to_body()).unwrap()
}

fn changed(body: &Value, path: &[&str], value: &str) -> Value {
    let mut body = body.clone();
    let mut at = &mut body;
    for key in path {
        at = &mut at[*key];
    }
    *at = serde_json::from_str(value).unwrap();
    body
}

async fn ask(flow: &Flow, body: &Value) -> Value {
    let bytes = flow.gate.review(Webhook::Validate, body.to_string().as_bytes(), BUDGET).await;
    serde_json::from_slice::<Value>(&bytes).unwrap()["response"].take()
}

/// New pods of the corpus that are judged.
fn requests(cases: &[Case]) -> Vec<Request> {
    let is_judged =
        |case: &&Case| case.kind() == Some(Kind::Pod) && case.is_new() && case.outcome() != "skip";
    cases.iter().filter(is_judged).step_by(STEP).map(Case::request).collect()
}

/// A review, those of two pods of one workload, and many that differ from one of these at one place each.
fn reviews(request: &Request) -> Vec<Value> {
    let one = sibling(request, "bcdfg");
    let mut all = vec![body(request), body(&one), body(&sibling(request, "x2k4p"))];
    all.extend(pods_beside(&one).iter().map(body));
    let first = body(&one);
    all.extend(FIELDS.iter().map(|(_, path, value)| changed(&first, path, value)));
    all
}

/// How many reviews there are, and what is said of those that an earlier decision answers otherwise than a new one.
async fn differences(own: &Own, folder: &Path, setup: &Setup, requests: &[Request]) -> (usize, Vec<String>) {
    let bundle = built(folder, own);
    let fresh = Box::pin(gate(setup, &bundle, false)).await;
    let keeping = Box::pin(gate(setup, &bundle, true)).await;
    let (mut asked, mut differ) = (0, Vec::new());
    for body in requests.iter().flat_map(reviews) {
        let wanted = ask(&fresh, &body).await;
        for found in [ask(&keeping, &body).await, ask(&keeping, &body).await] {
            asked += 1;
            if found != wanted {
                differ.push(format!("{}: {found}\ninstead of {wanted}\non {body}", own.name));
            }
        }
    }
    let is_judged = |record: &&Value| record["result"]["reason"] == "judged by the policies";
    let known = keeping.records().iter().filter(is_judged).filter(|record| is_known(record)).count();
    if own.is_kept {
        assert!(known > asked / 6, "{}: {known} of {asked}", own.name);
    } else {
        assert_eq!(known, 0, "{}", own.name);
    }
    (asked, differ)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn earlier_decisions_by_bundles_of_others_answer_as_new_ones_for_pods_that_differ_in_what_these_read() {
    let cases = Case::load_shared();
    let (setup, requests) = (shared_setup(&cases), requests(&cases));
    let folder = tempfile::tempdir().unwrap();
    let (mut asked, mut differ) = (0, Vec::new());
    for own in OWN.iter().chain(&ASKING) {
        let (more, found) = Box::pin(differences(own, folder.path(), &setup, &requests)).await;
        asked += more;
        differ.extend(found);
    }
    assert!(asked > 4000, "{asked} reviews");
    assert!(differ.is_empty(), "{} of {asked} differ\n{}", differ.len(), differ.join("\n"));
}

/// How many of these reviews a cache would answer wrongly whose key left out what is at this place of them.
fn wrong_without(path: &[&str], answered: &[(Value, Value)]) -> usize {
    let (mut kept, mut wrong) = (BTreeMap::new(), 0);
    for (body, answer) in answered {
        let key = changed(body, path, "null").to_string();
        wrong += usize::from(*kept.entry(key).or_insert(answer) != answer);
    }
    wrong
}

/// The comparison above would fail for a cache that leaves out any of what the rules read.
#[tokio::test]
async fn a_key_that_leaves_out_what_the_rules_of_a_bundle_read_is_found_for_each_of_these() {
    let folder = tempfile::tempdir().unwrap();
    let mut pod = plain_pod("files");
    pod["spec"]["runtimeClassName"] = json!("wasmtime");
    let first = body(&Request::create("shop", plug_ins(&defaulted(&pod, "shop", ""), "shop", &[])));
    for own in &OWN {
        let bundle = built(folder.path(), own);
        let flow = Box::pin(gate(&Setup::default(), &bundle, false)).await;
        let mut answered = Vec::new();
        let beside = FIELDS.iter().map(|(_, path, value)| changed(&first, path, value));
        for body in std::iter::once(first.clone()).chain(beside) {
            // The rest of an answer names the review and the pod.
            let answer = ask(&flow, &body).await["status"]["details"]["causes"].take();
            answered.push((body, answer));
        }
        for (field, path, _) in FIELDS {
            let wrong = wrong_without(path, &answered);
            assert_eq!(wrong > 0, own.reads.contains(&field), "{} without {field}: {answered:?}", own.name);
        }
    }
}

async fn policies(bundle: &Path, verdict_cache_bytes: u64) -> PolicySet {
    let engine = engine().remembering(verdict_cache_bytes);
    let limits = Limits { time: Duration::from_mins(1), ..Limits::default() };
    PolicySet::load(&engine, vec![Bundle::load(bundle).unwrap()], limits).await.unwrap()
}

/// The input with another text of the same length at this place.
fn twin(input: &Value, place: &str) -> Value {
    let mut input = input.clone();
    let value = input.pointer_mut(place).unwrap();
    let mut text = value.as_str().unwrap().to_owned();
    let last = text.pop().unwrap();
    text.push(if last == 'z' { 'y' } else { 'z' });
    *value = json!(text);
    input
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn earlier_evaluations_are_shared_by_inputs_that_differ_in_what_no_rule_reads_and_by_no_others() {
    let cases = Case::load_shared();
    let flow = Flow::new(&shared_setup(&cases)).await;
    let (state, inspector, folder) = (flow.gate.state(), flow.gate.inspector(), tempfile::tempdir().unwrap());
    let mut inputs = Vec::new();
    for request in requests(&cases) {
        inputs.push(input_of(&state, &inspector, &sibling(&request, "bcdfg")).await.0);
    }
    let mut evaluated = 0;
    for own in OWN.iter().chain(&ASKING) {
        let bundle = built(folder.path(), own);
        let (fresh, caching) = (policies(&bundle, 0).await, policies(&bundle, 64 << 20).await);
        for input in &inputs {
            for one in std::iter::once(input.clone()).chain(inputs_beside(input)) {
                evaluated += 1;
                let wanted = fresh.evaluate(&one).await;
                let [first, second] = [caching.evaluate(&one).await, caching.evaluate(&one).await];
                assert_eq!(
                    (found(&first), found(&second)),
                    (found(&wanted), found(&wanted)),
                    "{}: {one}",
                    own.name
                );
                assert_eq!(
                    second.is_cached,
                    own.is_kept && second.failures.is_empty(),
                    "{}: {one}",
                    own.name
                );
            }
            for place in IDENTITY {
                evaluated += 1;
                let one = twin(input, place);
                let (wanted, again) = (fresh.evaluate(&one).await, caching.evaluate(&one).await);
                assert_eq!(found(&again), found(&wanted), "{} {place}: {one}", own.name);
                let is_shared = own.is_kept && !own.counts.contains(&place);
                assert_eq!(again.is_cached, is_shared, "{} {place}: {one}", own.name);
            }
        }
    }
    assert!(evaluated > 2000, "{evaluated} inputs");
}
