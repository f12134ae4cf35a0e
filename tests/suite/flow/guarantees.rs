//! The gate's guarantees, one or two tests each. Most cases of the corpus rely on them too.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::review::Webhook;

use crate::support::gate::{Flow, Request, Setup, defaulted, patch_of, patched, plain_pod, plug_ins, pod};
use crate::support::oci::{ImageBuilder, fixtures};
use crate::support::opa;

async fn flow(configuration: &str) -> Flow {
    Flow::new(&Setup { configuration: configuration.into(), ..Setup::default() }).await
}

fn said(response: &Value) -> String {
    response["status"]["message"].as_str().unwrap_or_default().to_string()
}

/// A gate with only these rules.
async fn ruled_by(rules: &str, more: &str) -> Flow {
    let folder = tempfile::tempdir().unwrap();
    let bundle = opa::build(folder.path(), "own", "wasmgate/violations", rules);
    flow(&format!("policies: {{baseline: false, bundles: [{}]{more}}}\n", bundle.display())).await
}

#[tokio::test]
async fn verdicts_come_only_from_rego_rules_that_the_platform_team_can_change() {
    let rule = r#"violations contains {"rule": "no-orders", "message": "orders are closed"} if {
        input.object.metadata.labels.app == "orders"
    }"#;
    let flow = ruled_by(rule, "").await;
    // What the baseline refuses passes without it, native code included.
    let mut native = plain_pod("native-in-layer");
    native["metadata"]["labels"] = json!({});
    native["spec"]["runtimeClassName"] = json!("wasmtime");
    assert_eq!(flow.admit("shop", &native).await.2["allowed"], true);
    // A rule of the author's own refuses what the baseline admits, in the author's words.
    let (.., validate) = flow.admit("shop", &plain_pod("hello")).await;
    assert_eq!(said(&validate), "Pod `shop/app` breaks 1 rule:\n- [no-orders] orders are closed");
}

#[tokio::test]
async fn a_refusal_counts_rules_and_lists_no_more_violations_than_can_be_read() {
    for (violations, message, listed, more) in
        [(49, r#"sprintf("number %d", [n])"#, 32, 17), (20, r#"sprintf("%d %s", [n, long])"#, 4, 16)]
    {
        let rule = format!(
            "long := concat(\"\", [\"long \" | some n in numbers.range(1, 2000)])\n\
             violations contains violation if {{
    some n in numbers.range(1, {violations})
    violation := {{\"rule\": \"many\", \"message\": {message}}}
}}"
        );
        let flow = ruled_by(&rule, "").await;
        let (.., validate) = flow.admit("shop", &plain_pod("hello")).await;
        let text = said(&validate);
        let start = format!("Pod `shop/app` breaks 1 rule, {violations} violations:\n- [many] ");
        assert!(text.starts_with(&start) && text.ends_with(&format!("\n… and {more} more")), "{text}");
        assert!(text.len() < 20_000, "{} bytes", text.len());
        assert_eq!(text.matches("\n- ").count(), listed);
        assert_eq!(validate["status"]["details"]["causes"].as_array().unwrap().len(), listed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_ends_on_the_policies_that_it_started_with() {
    // It takes long enough for a swap meanwhile, also where nothing else runs.
    let slow = r#"violations contains {"rule": "slow", "message": "of the first"} if {
    input.request.namespace == "shop"
    every a in numbers.range(1, 400) { every b in numbers.range(1, 200) { a + b > 0 } }
}"#;
    // Its review is a task of its own, as in a gate that serves: rules run in one go, on a thread that the others do without.
    let flow: &'static Flow =
        Box::leak(Box::new(ruled_by(slow, ", timeLimit: 60s, fuelLimit: 1000000000000").await));
    let other = ruled_by(r#"violations contains {"rule": "quick", "message": "of the second"}"#, "").await;
    let mut request = Request::create("shop", defaulted(&plain_pod("hello"), "shop", ""));
    request.object["spec"]["runtimeClassName"] = json!("wasmtime");
    // The image is known when the review comes, so the rules are what takes the time.
    flow.send(Webhook::Mutate, &request).await;
    let slow = request.clone();
    let running =
        tokio::spawn(async move { flow.send_within(Duration::from_mins(1), Webhook::Validate, &slow).await });
    // So long it runs at least, also where nothing else does.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!running.is_finished(), "it was judged before the swap");
    let policies = Arc::clone(&other.gate.state().policies);
    flow.gate.update(|state| {
        let mut changed = state.clone();
        changed.policies = Arc::clone(&policies);
        changed
    });
    let later = flow.send(Webhook::Validate, &request).await;
    assert!(said(&later).contains("[quick] of the second"), "{later}");
    let first = running.await.unwrap();
    assert!(said(&first).contains("[slow] of the first"), "{first}");
    let records = flow.records();
    let rules: Vec<_> = records.iter().rev().take(2).map(|r| &r["result"]["violations"][0]["rule"]).collect();
    assert_eq!(rules, ["slow", "quick"], "the later one ended first");
}

#[tokio::test]
async fn a_failing_policy_refuses_the_pod_with_the_reason() {
    let cases = [
        ("violations := found if found := input.nothing", "", "is undefined on this input"),
        ("violations := \"none\"", "", "expected a set of violations"),
        (
            "violations contains x if { some n, m in numbers.range(1, 10000); some k in numbers.range(1, m); n + k < 0; x := {\"rule\": \"a\", \"message\": \"b\"} }",
            ", fuelLimit: 1000000",
            "it needs more than 1000000 of fuel",
        ),
    ];
    for (rule, more, reason) in cases {
        let flow = ruled_by(rule, more).await;
        let (.., validate) = flow.admit("shop", &plain_pod("hello")).await;
        assert_eq!(validate["allowed"], false, "{rule}");
        assert_eq!(validate["status"]["code"], 403);
        assert!(said(&validate).contains(reason), "{}", said(&validate));
        let (.., linux) = flow.admit("shop", &plain_pod("linux")).await;
        assert_eq!(linux["allowed"], true, "a Linux pod does not depend on the rules");
    }
}

/// More time would not mend it, so the answer does not ask for that.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_the_function_whose_calls_took_the_time_of_the_review() {
    let rule = "violations contains {\"rule\": \"long\", \"message\": strings.render_template(\"{{range 1000000000}}{{end}}\", {})} if \
                input.request.namespace == \"shop\"";
    let flow = ruled_by(rule, ", timeLimit: 60s, fuelLimit: 1000000000000").await;
    let mut request = Request::create("shop", defaulted(&plain_pod("hello"), "shop", ""));
    request.object["spec"]["runtimeClassName"] = json!("wasmtime");
    flow.send(Webhook::Mutate, &request).await;
    let mut message = String::new();
    // A machine that keeps the call from working is to blame itself.
    for _ in 0..20 {
        let response = flow.send_within(Duration::from_millis(400), Webhook::Validate, &request).await;
        assert_eq!(response["allowed"], false, "{response}");
        message = said(&response);
        if message.contains("strings.render_template") {
            break;
        }
    }
    let named =
        ["policy bundle `own` could not be evaluated: ", "the calls of `strings.render_template` took ("];
    assert!(named.iter().all(|part| message.contains(part)), "{message}");
    assert!(!message.contains("timeoutSeconds"), "{message}");
}

#[tokio::test]
async fn an_unreadable_image_is_refused_only_under_a_wasm_runtime() {
    let flow = flow("").await;
    for image in ["images.test/gone:v1", "127.0.0.1:1/app:v1", "truncated", "images.test/UPPER:v1"] {
        let mut pod = plain_pod(image);
        assert_eq!(flow.admit("shop", &pod).await.2["allowed"], true, "{image}");
        pod["spec"]["runtimeClassName"] = json!("wasmedge");
        let (.., validate) = flow.admit("shop", &pod).await;
        assert!(said(&validate).contains("[not-inspected]"), "{image}: {}", said(&validate));
    }
}

#[tokio::test]
async fn linux_pods_are_neither_patched_nor_refused_nor_judged() {
    let everything = r#"violations contains {"rule": "no", "message": "no"}"#;
    let flow = ruled_by(everything, "").await;
    for image in ["linux", "linux-with-wasm", "images.test/gone:v1", "127.0.0.1:1/app:v1"] {
        let (object, mutate, validate) = flow.admit("shop", &plain_pod(image)).await;
        assert_eq!(mutate.get("patch"), None, "{image}");
        assert_eq!(object["metadata"].get("annotations"), None, "{image}");
        assert_eq!(
            validate,
            json!({"uid": validate["uid"], "allowed": true, "status": {"metadata": {}, "code": 200}})
        );
    }
    for record in flow.records() {
        assert_eq!(record["result"]["action"], "skip");
        assert_eq!(record.get("bundles"), None, "the policies were not asked");
    }
}

#[tokio::test]
async fn the_judged_image_runs_even_after_its_tag_moved() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("app");
    let (quiet, loud) = (fixtures::command(), fixtures::file_command());
    let (quiet, loud) =
        (ImageBuilder::wasm_artifact(&quiet).build(), ImageBuilder::wasm_artifact(&loud).build());
    quiet.write_layout(&layout, "v1").unwrap();
    let images = format!("images: {{layouts: {{moving.test: {}}}, tagTtl: 0s}}\n", folder.path().display());
    let flow = flow(&images).await;
    let mounting = json!({"containers": [{"name": "app", "image": "moving.test/app:v1"}]});
    let mut request = Request::create("shop", plug_ins(&defaulted(&pod(&mounting), "shop", ""), "shop", &[]));
    let mutate = flow.send(Webhook::Mutate, &request).await;
    request.object = patched(&request.object, &mutate);
    let pinned = format!("moving.test/app:v1@{}", quiet.digest);
    assert_eq!(request.object["spec"]["containers"][0]["image"], pinned.as_str());
    loud.write_layout(&layout, "v1").unwrap();
    // By its tag the pod would now be refused: the new image opens files, and a token is mounted.
    let unpinned = Request::create("shop", {
        let mut o = request.object.clone();
        o["spec"]["containers"][0]["image"] = json!("moving.test/app:v1");
        o
    });
    let refused = said(&flow.send(Webhook::Validate, &unpinned).await);
    assert!(refused.contains("secret-in-reach") && refused.contains("tag-not-pinned"), "{refused}");
    let validate = flow.send(Webhook::Validate, &request).await;
    let images = validate["auditAnnotations"]["images"].as_str().unwrap();
    assert_eq!(
        (validate["allowed"].as_bool(), images),
        (Some(true), format!("app=wasm@{}", quiet.digest).as_str())
    );
}

#[tokio::test]
async fn a_persons_values_are_kept_and_changes_are_listed() {
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
    let preferred = json!([{"weight": 1, "preference": term}]);
    let mut wanted = plain_pod("hello");
    wanted["spec"]["runtimeClassName"] = json!("wasm");
    wanted["spec"]["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred,
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}, "podAffinity": {}});
    wanted["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "10m", "memory": "100Mi"}, "limits": {"memory": "0.25Gi"}});
    let (object, mutate, _) = flow("").await.admit("shop", &wanted).await;
    let spec = &object["spec"];
    assert_eq!(spec["runtimeClassName"], "wasm");
    let resources = &spec["containers"][0]["resources"];
    assert_eq!(
        resources,
        &json!({"requests": {"memory": "100Mi", "cpu": "10m"}, "limits": {"cpu": "200m", "memory": "0.25Gi"}})
    );
    let affinity = &spec["affinity"];
    assert_eq!(affinity["podAffinity"], json!({}));
    let affinity = &affinity["nodeAffinity"];
    assert_eq!(affinity["preferredDuringSchedulingIgnoredDuringExecution"], preferred);
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    assert_eq!(required[0]["matchExpressions"][0]["key"], "zone");
    assert_eq!(required[0]["matchExpressions"][1]["key"], "kubernetes.io/os");
    let changed = "affinity,resources/app,image/app";
    assert_eq!(object["metadata"]["annotations"]["wasmgate.dev/changed"], changed);
    assert_eq!(mutate["auditAnnotations"]["changed"], changed);
}

#[tokio::test]
async fn a_clamping_profile_lowers_a_persons_size_with_a_warning() {
    let clamp = "runtimes: {profiles: [{name: wasmtime, runtimeClass: wasmtime, runs: [module], \
        ambient: runwasi-wasmtime, sizing: {mode: clamp}}], placement: {module: wasmtime}}\n";
    let mut wanted = plain_pod("hello");
    wanted["spec"]["containers"][0]["resources"] =
        json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}});
    let (object, mutate, _) = flow(clamp).await.admit("shop", &wanted).await;
    assert_eq!(object["spec"]["containers"][0]["resources"]["limits"]["memory"], "32Mi");
    let warnings = mutate["warnings"].to_string();
    assert!(warnings.contains("limits.memory is now 32Mi (was 1Gi)"), "{warnings}");
}

#[tokio::test]
async fn a_silent_registry_costs_no_more_than_the_budget() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap();
    let configuration = format!("images: {{registries: {{allow: [\"{host}\"], insecure: [\"{host}\"]}}}}\n");
    let flow = flow(&configuration).await;
    let mut wanted = plain_pod(&format!("{host}/app:v1"));
    wanted["spec"]["runtimeClassName"] = json!("wasmtime");
    let request = Request::create("shop", defaulted(&wanted, "shop", ""));
    for webhook in [Webhook::Mutate, Webhook::Validate] {
        let response = flow.send_within(Duration::from_millis(700), webhook, &request).await;
        let refused = webhook == Webhook::Validate;
        assert_eq!(response["allowed"], !refused);
        // The look-up was given up while there was time to judge; the review itself did not time out.
        assert_eq!(said(&response).contains("could not be read"), refused, "{response}");
    }
    let errors: Vec<_> = flow.records().into_iter().map(|mut record| record["error"].take()).collect();
    assert_eq!(errors, [Value::Null, Value::Null]);
}

#[tokio::test]
async fn every_decision_leaves_a_record() {
    let flow = flow("").await;
    let mut expected = Vec::new();
    for (number, image) in ["hello", "files", "linux", "images.test/gone:v1"].into_iter().enumerate() {
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            let mut wanted = plain_pod(image);
            wanted["spec"]["runtimeClassName"] = json!("wasmtime");
            let mut request = Request::create("shop", defaulted(&wanted, "shop", ""));
            request.uid = format!("{number}-{}", webhook.as_str());
            let response = flow.send(webhook, &request).await;
            expected.push((
                request.uid.clone(),
                webhook.decision_path(),
                response["allowed"].as_bool().unwrap(),
            ));
        }
    }
    let unreadable = flow.gate.review(Webhook::Validate, b"{}", Duration::from_secs(1)).await;
    assert!(!unreadable.is_empty());
    let records = flow.records();
    let found: Vec<_> = records
        .iter()
        .take(8)
        .map(|record| {
            let uid = record["custom"]["request_uid"].as_str().unwrap().to_string();
            (uid, record["path"].as_str().unwrap(), record["result"]["allowed"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(records.len(), 9);
    assert_eq!(records[8]["error"]["code"], "read-review");
    assert_eq!(records[8]["result"]["allowed"], false);
}

#[tokio::test]
async fn no_change_makes_a_pod_worse() {
    let limits = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tight", "namespace": "tight"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "24Mi", "cpu": "100m"}, "min": {"memory": "12Mi"}}]}});
    let classes = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
        "handler": "wasmtime", "overhead": {"podFixed": {"memory": "8Mi"}}});
    let flow = Flow::new(&Setup { cluster: vec![limits, classes], ..Setup::default() }).await;
    let sizes = async |namespace: &str, image: &str| {
        let (object, mutate, _) = flow.admit(namespace, &plain_pod(image)).await;
        (object["spec"]["containers"][0]["resources"].clone(), mutate)
    };
    // Sizes stay within the LimitRange, or the API server would refuse the pod because of the gate's change.
    let tight =
        json!({"requests": {"memory": "12Mi", "cpu": "50m"}, "limits": {"memory": "24Mi", "cpu": "100m"}});
    assert_eq!(sizes("tight", "hello").await.0, tight);
    // A floor that does not fit into it causes a warning.
    let (resources, mutate) = sizes("tight", "hungry").await;
    assert_eq!(resources["limits"]["memory"], "24Mi");
    assert!(mutate["warnings"].to_string().contains("LimitRange"), "{mutate}");
    // Otherwise the limit is at least the floor: 60Mi of initial memory plus the runtime itself.
    let (resources, mutate) = sizes("shop", "hungry").await;
    assert_eq!(resources["limits"]["memory"], "65Mi");
    assert!(resources["requests"]["memory"].is_string(), "{resources}");
    assert!(!patch_of(&mutate).unwrap().to_string().contains("overhead"));
    // A class that the cluster lacks is not written.
    let (object, ..) = flow.admit("shop", &plain_pod("spin-quiet")).await;
    assert_eq!(object["spec"].get("runtimeClassName"), None);
    // Mirror pods, the control plane's namespace and the gate's own are left alone.
    let mut mirror = plain_pod("hello");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    for (namespace, pod) in
        [("shop", mirror), ("kube-system", plain_pod("hello")), ("wasmgate-system", plain_pod("hello"))]
    {
        let (_, mutate, validate) = flow.admit(namespace, &pod).await;
        assert_eq!((mutate.get("patch"), validate["allowed"].as_bool()), (None, Some(true)), "{namespace}");
    }
}

/// Whether a client has connected.
fn was_reached(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_ok()
}

#[tokio::test]
async fn an_image_name_opens_no_connection_to_an_internal_address() {
    let inner = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = inner.local_addr().unwrap().port();
    let closed = flow("").await;
    for (host, why) in [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("[::1]", "IPv6 address"),
        ("0.0.0.0", "unspecified"),
        ("[::ffff:127.0.0.1]", "IPv6 address"),
        ("169.254.169.254", "link-local"),
        ("10.96.0.1", "private"),
    ] {
        let mut wanted = plain_pod(&format!("{host}:{port}/app:v1"));
        wanted["spec"]["runtimeClassName"] = json!("wasmtime");
        let (.., validate) = closed.admit("shop", &wanted).await;
        // Refused because of the address, and not because nothing answered there.
        let said = said(&validate);
        assert!(said.contains("could not be read") && said.contains(why), "{host}: {said}");
    }
    assert!(!was_reached(&inner), "a name in a pod opened a connection");
    // The same listener is reached if the platform allows it.
    let host = format!("127.0.0.1:{port}");
    let open =
        flow(&format!("images: {{registries: {{allow: [\"{host}\"], insecure: [\"{host}\"]}}}}\n")).await;
    let mut wanted = plain_pod(&format!("{host}/app:v1"));
    wanted["spec"]["runtimeClassName"] = json!("wasmtime");
    let request = Request::create("shop", defaulted(&wanted, "shop", ""));
    open.send_within(Duration::from_millis(600), Webhook::Validate, &request).await;
    assert!(was_reached(&inner));
}

#[tokio::test]
async fn only_registries_on_the_allow_list_are_asked() {
    let flow = flow("images: {registries: {allow: [\"ghcr.io\"]}}\n").await;
    let mut wanted = plain_pod("registry.example.com/app:v1");
    wanted["spec"]["runtimeClassName"] = json!("wasmtime");
    let (.., validate) = flow.admit("shop", &wanted).await;
    assert!(said(&validate).contains("`registry.example.com`"), "{}", said(&validate));
}
