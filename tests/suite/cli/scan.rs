//! `scan`: manifests and a cluster judged as they stand, in every form of output.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Said, layouts, pipe, run, samples, wasmgate};
use crate::support::api::{Api, Fault};
use crate::support::process::wait_for;
use crate::support::registry::Registry;

/// Scans with the sample images.
fn scan(more: &[&str]) -> Said {
    run(&[&["scan", "--image-layouts", &layouts()], more].concat())
}

/// Scans standard input with the sample images.
fn scan_text(manifests: &str, more: &[&str]) -> Said {
    pipe(&[&["scan", "-f", "-", "--image-layouts", &layouts()], more].concat(), manifests)
}

fn all_samples(more: &[&str]) -> Said {
    let (files, grants) = (samples("workloads"), samples("grants"));
    scan(&[&["-f", files.to_str().unwrap(), "--grants", grants.to_str().unwrap()], more].concat())
}

fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": image, "args": ["x"]}]}})
}

/// A sample image with the digest that the gate would have written.
fn pinned(host: &str, name: &str) -> String {
    let index = std::fs::read(samples(&format!("images/{name}/index.json"))).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    format!("{host}/{name}:1@{}", index["manifests"][0]["digest"].as_str().unwrap())
}

/// Documents as a file has them.
fn documents(objects: &[Value]) -> String {
    objects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// The workload of a document by kind and name.
fn workload<'a>(document: &'a Value, kind: &str, name: &str) -> &'a Value {
    let workloads = document["workloads"].as_array().unwrap();
    let found = workloads.iter().find(|one| one["kind"] == kind && one["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}: {document}"))
}

#[test]
fn a_folder_is_judged_as_explain_judges_each_file_of_it() {
    let said = all_samples(&[]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{said:?}");
    said.has(&["NAMESPACE  WORKLOAD", "Pod/files", "needs-grant (2)", "host-process-in-reach"]);
    assert!(!said.out.contains("Deployment/web"), "a Linux workload is only counted: {}", said.out);
    said.has(&["6 workloads, 3 pods, 3 templates: ", "1 without Wasm", "--all lists"]);
    assert!(all_samples(&["--all"]).out.contains("Deployment/web"));
    let document = all_samples(&["--all", "-o", "json"]).json();
    for (kind, name, file) in [
        ("Pod", "files", "files"),
        ("Deployment", "hello", "hello"),
        ("Deployment", "orders", "orders"),
        ("Pod", "orders-everywhere", "orders-everywhere"),
        ("Pod", "mixed", "mixed"),
        ("Deployment", "web", "linux"),
    ] {
        let file = samples(&format!("workloads/{file}.yaml"));
        let grants = samples("grants");
        let explained = run(&[
            "explain",
            "-f",
            file.to_str().unwrap(),
            "--image-layouts",
            &layouts(),
            "--grants",
            grants.to_str().unwrap(),
            "-o",
            "json",
        ])
        .json();
        let (scanned, explained) = (workload(&document, kind, name), &explained["objects"][0]);
        assert_eq!(scanned["outcome"], explained["outcome"], "{name}");
        assert_eq!(scanned["judged"][0]["violations"], explained["violations"], "{name}");
        assert_eq!(scanned["judged"][0]["suggestedGrant"], explained["suggestedGrant"], "{name}");
    }
    assert_eq!(document["summary"]["judged"], 6);
    let grant = &document["grants"][0];
    assert_eq!((&grant["grant"], &grant["workloads"]), (&json!("WasiGrant/orders"), &json!(1)));
    let yaml = all_samples(&["--all", "-o", "yaml"]);
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml.out).unwrap(), document);
}

#[test]
fn the_exit_code_says_what_a_pipeline_has_to_know() {
    let clean = samples("workloads/hello.yaml");
    let said = scan(&["-f", clean.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
    let unread = scan_text(&documents(&[pod("a", "samples.example/none:1")]), &[]);
    assert_eq!(unread.code, 3, "{unread:?}");
    unread.has(&["unread", "container `main`: ", "none"]);
    let both = scan_text(
        &documents(&[pod("a", "samples.example/none:1"), pod("b", "samples.example/files:1")]),
        &[],
    );
    assert_eq!(both.code, 1, "{both:?}");
    run(&["scan", "-f", "/no/such/file.yaml"]).fails(&["/no/such/file.yaml"]);
    scan_text("", &[]).fails(&["found no Kubernetes objects"]);
    scan_text("{}", &["--rule", "needs-grants"]).fails(&["`needs-grants`; did you mean `needs-grant`?"]);
    scan_text("{}", &["--capability", "fss"]).fails(&["fss", "net.tcp.connect"]);
    run(&["scan", "-f", "-", "--kubeconfig", "x"]).fails(&["--kubeconfig"]);
    run(&["scan", "--kubeconfig", "/no/such/kubeconfig"]).fails(&["/no/such/kubeconfig"]);
}

#[test]
fn what_cannot_be_judged_is_listed_and_what_starts_nothing_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("chart.yaml", "kind: Deployment\nmetadata: {{ toYaml .x }}: [\n");
    write("values.yaml", "replicas: 2\n");
    let fleet = json!({"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "f"},
        "spec": {"pods": {"containers": [{"name": "a", "image": "a:1"}]}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}});
    let broken = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": "none"}}}});
    write("objects.yaml", &documents(&[fleet, service, broken, pod("a", "samples.example/hello:1")]));
    let path = folder.path().to_str().unwrap();
    let said = scan(&["-f", path]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&[
        "not judged: Fleet default/f: the gate does not know this kind, and there are containers at `spec.pods.containers`",
        "chart.yaml",
        "scan the output of `helm template`",
        "2 other objects without pods",
        "Deployment/d",
        "admitted",
    ]);
    let document = scan(&["-f", path, "-o", "json"]).json();
    assert_eq!(document["otherKinds"], json!({"Service": 1, "documents without a kind": 1}));
    assert_eq!(document["notJudged"].as_array().unwrap().len(), 2);
    let deployment = workload(&document, "Deployment", "d");
    assert_eq!(deployment["outcome"], "not-judged");
    assert!(deployment["judged"][0]["reason"].as_str().unwrap().contains("spec.template.spec.containers"));
}

/// `kubectl get --raw` and clients write lists whose items leave to the list what they are, and `jq` leaves parts of these.
#[test]
fn what_a_list_starts_is_judged_and_what_has_no_kind_is_not_passed_over() {
    let whole = pod("a", "samples.example/files:1");
    let mut bare = whole.clone();
    bare.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [bare]}).to_string();
    let said = scan_text(&list, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["Pod/a", "denied", "1 workload, 1 pod"]);
    let explained = pipe(&["explain", "-f", "-", "--image-layouts", &layouts()], &list);
    assert_eq!(explained.code, 1, "{explained:?}");
    for (text, at) in [(json!([whole]), "`spec.containers`"), (bare, "`spec.containers`")] {
        let said = scan_text(&text.to_string(), &["-o", "json"]);
        assert_eq!(said.code, 3, "{said:?}");
        let reason = said.json()["notJudged"][0]["reason"].clone();
        assert_eq!(reason, json!(format!("it has no `kind`, and there are containers at {at}")), "{text}");
    }
}

#[test]
fn an_item_of_a_list_that_is_no_object_hides_none_of_the_others_and_is_named() {
    let (good, denied) = (pod("a", "samples.example/hello:1"), pod("b", "samples.example/files:1"));
    let mut bare = good.clone();
    bare.as_object_mut().unwrap().remove("kind");
    let list = |items: &[&Value]| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let said = scan_text(&list(&[&bare, &good, &json!(7)]), &["-o", "json"]);
    assert_eq!(said.code, 3, "{said:?}");
    let document = said.json();
    assert_eq!(workload(&document, "Pod", "a")["outcome"], "admitted");
    let not_judged = document["notJudged"].as_array().unwrap();
    let told: Vec<_> = not_judged
        .iter()
        .map(|one| (one["what"].as_str().unwrap(), one["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("standard input, item 1 (a)", "it has no `kind`, and there are containers at `spec.containers`"),
            ("standard input, item 3", "it is no Kubernetes object: it has no `kind`"),
        ]
    );
    let said = scan_text(&list(&[&bare, &denied]), &[]);
    assert_eq!(said.code, 1, "what is denied counts more: {said:?}");
    said.has(&["Pod/b", "denied", "not judged: standard input, item 1 (a): it has no `kind`"]);
}

/// Its pods are judged when they are created, and a manifest does not have them.
#[test]
fn a_kind_whose_pods_are_made_of_several_objects_is_listed_as_not_judged() {
    let model = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "iris"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}}});
    let said = scan_text(&documents(&[model]), &[]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&["not judged: InferenceService default/iris: kind whose pods take parts from other objects"]);
}

/// A description that is wrong does not make the gate say less than without one.
#[test]
fn an_object_without_a_template_where_its_kind_has_one_is_listed_as_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("gate.yaml");
    let text = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n\
                workloads: [{group: ray.io, kind: RayCluster, podTemplate: /spec/headGroup/template}]\n";
    std::fs::write(&configuration, text).unwrap();
    let template = json!({"spec": {"containers": [{"name": "a", "image": "samples.example/files:1"}]}});
    let ray = json!({"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "ray"},
        "spec": {"headGroupSpec": {"template": template}}});
    let rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"},
        "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    let more = ["--config", configuration.to_str().unwrap(), "-o", "json"];
    let said = scan_text(&documents(&[ray, rollout]), &more);
    assert_eq!(said.code, 3, "{said:?}");
    let document = said.json();
    for (kind, name, at) in
        [("RayCluster", "ray", "`/spec/headGroup/template`"), ("Rollout", "web", "`/spec/template`")]
    {
        let found = workload(&document, kind, name);
        assert_eq!(found["outcome"], "not-judged", "{found}");
        assert!(found["judged"][0]["reason"].as_str().unwrap().contains(at), "{found}");
    }
}

/// It is not waited for either.
#[test]
fn a_pipe_in_a_folder_hides_none_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::write(folder.path().join("pod.yaml"), pod("a", "samples.example/files:1").to_string()).unwrap();
    let said = scan(&["-f", folder.path().to_str().unwrap(), "-o", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let document = said.json();
    assert_eq!(workload(&document, "Pod", "a")["outcome"], "denied");
    let reason = document["notJudged"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("it is not a regular file"), "{document}");
}

#[test]
fn filters_leave_what_was_asked_for_and_what_is_not_known() {
    let names = |said: &Said| {
        let document = said.json();
        let workloads = document["workloads"].as_array().unwrap();
        workloads.iter().map(|one| one["name"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let json = ["-o", "json"];
    let by_rule = all_samples(&[&["--rule", "host-process-in-reach"], &json[..]].concat());
    assert_eq!((by_rule.code, names(&by_rule)), (1, vec!["files".into()]));
    let by_capability = all_samples(&[&["--capability", "http.outbound"], &json[..]].concat());
    assert_eq!(names(&by_capability), ["orders", "orders-everywhere"]);
    assert_eq!(by_capability.code, 1);
    let granted = all_samples(&[
        "--capability",
        "http.outbound",
        "--image",
        "samples.example/orders",
        "-n",
        "shop",
        "-o",
        "json",
    ]);
    assert_eq!(names(&granted), ["orders", "orders-everywhere"]);
    let by_image = all_samples(&[&["--image", "*/hello:1"], &json[..]].concat());
    assert_eq!((by_image.code, names(&by_image)), (0, vec!["hello".into(), "mixed".into()]));
    assert_eq!(by_image.json()["summary"]["judged"], 2, "no other image was looked at");
    // As kubectl: nothing is wrong with nothing, and it is said.
    let elsewhere = all_samples(&["-n", "other", "--image", "none/*", "-o", "json"]);
    assert_eq!((elsewhere.code, names(&elsewhere)), (0, Vec::new()));
    assert_eq!(elsewhere.err, "wasmgate: nothing matches `--namespace other`, `--image none/*`\n");
    assert_eq!(by_image.err, "");
    let unknown = scan_text(
        &documents(&[pod("a", "samples.example/none:1")]),
        &["--rule", "needs-grant", "-o", "json"],
    );
    assert_eq!((unknown.code, names(&unknown)), (3, vec!["a".into()]));
    let unnamed = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: samples.example/hello:1, args: [x]}]}\n";
    let placed = scan_text(unnamed, &["-n", "team", "-o", "json"]);
    assert_eq!(placed.json()["workloads"][0]["namespace"], "team");
}

/// Who reads that no workload uses a grant deletes it.
#[test]
fn a_grant_is_unused_only_where_everything_that_may_use_it_was_judged() {
    let grants = samples("grants");
    let options = ["--grants", grants.to_str().unwrap(), "-o", "json"];
    let used = |objects: &[Value]| {
        let document = scan_text(&documents(objects), &options).json();
        assert_eq!(document["grants"][0]["grant"], "WasiGrant/orders", "{document}");
        document["grants"][0].get("workloads").cloned()
    };
    let unread = pod("a", "samples.example/none:1");
    let mut elsewhere = unread.clone();
    elsewhere["metadata"]["namespace"] = json!("other");
    let fleet = json!({"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "f"},
        "spec": {"pods": {"containers": [{"name": "a", "image": "a:1"}]}}});
    let plain = pod("b", "samples.example/hello:1");
    assert_eq!(used(&[plain.clone(), elsewhere]), Some(json!(0)), "it is of another namespace");
    assert_eq!(used(&[plain.clone(), unread.clone()]), None);
    assert_eq!(used(&[plain, fleet]), None);
    let page = scan_text(&documents(&[unread]), &["--grants", grants.to_str().unwrap(), "-o", "html"]);
    page.has(&["<td>not known: not all workloads were judged</td>"]);
}

/// An object as an API server returns it.
fn existing(mut object: Value, uid: &str, owner: Option<(&str, &str, &str)>) -> Value {
    object["metadata"]["uid"] = json!(uid);
    if let Some((api_version, kind, name)) = owner {
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": api_version, "kind": kind, "name": name,
            "uid": format!("{kind}-{name}"), "controller": true}]);
    }
    object
}

fn controller(
    api_version: &str,
    kind: &str,
    name: &str,
    image: &str,
    owner: Option<(&str, &str, &str)>,
) -> Value {
    let mut template = pod(name, image);
    template["metadata"] = json!({"labels": {"app": name}});
    let spec = json!({"selector": {"matchLabels": {"app": name}}, "template": template});
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    existing(object, &format!("{kind}-{name}"), owner)
}

/// A pod of a ReplicaSet, with what distinguishes it from the others.
fn pod_of(name: &str, number: usize, image: &str) -> Value {
    let mut pod = pod(&format!("{name}-{number}"), image);
    pod["metadata"]["generateName"] = json!(format!("{name}-"));
    pod["metadata"]["labels"] = json!({"app": name});
    pod["spec"]["nodeName"] = json!(format!("node-{}", number % 7));
    if !image.contains("/web") {
        pod["spec"]["runtimeClassName"] = json!("wasmtime");
    }
    pod["status"] = json!({"phase": "Running", "podIP": format!("10.0.{}.{}", number / 256, number % 256)});
    existing(pod, &format!("{name}-{number}"), Some(("apps/v1", "ReplicaSet", name)))
}

#[test]
fn pods_are_listed_under_their_top_owner_and_judged_as_they_are() {
    let deployment = ("apps/v1", "Deployment", "app");
    let image = "samples.example/hello:1";
    let running = pinned("samples.example", "hello");
    let mut unplaced = pod_of("app", 2, &running);
    unplaced["spec"].as_object_mut().unwrap().remove("runtimeClassName");
    // The pods come before their owners, as in a list of everything.
    let objects = [
        pod_of("app", 0, &running),
        pod_of("app", 1, &running),
        unplaced,
        controller("apps/v1", "ReplicaSet", "app", image, Some(deployment)),
        controller("apps/v1", "Deployment", "app", image, None),
        controller("batch/v1", "Job", "orphan", image, Some(("batch/v1", "CronJob", "gone"))),
    ];
    let said = scan_text(&documents(&objects), &["-o", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let document = said.json();
    let app = workload(&document, "Deployment", "app");
    assert_eq!((document["workloads"].as_array().unwrap().len(), &app["pods"]), (1, &json!(3)));
    let parts: Vec<_> = app["judged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| (part["what"].clone(), part["pods"].clone()))
        .collect();
    assert_eq!(parts.len(), 3, "the template, the placed pods and the other one: {app}");
    assert_eq!(app["judged"][0]["outcome"], "admitted", "the pods of the template would be placed");
    let denied: Vec<_> =
        app["judged"].as_array().unwrap().iter().filter(|part| part["outcome"] == "denied").collect();
    assert_eq!((denied.len(), &denied[0]["pods"]), (1, &json!(1)));
    let rules: Vec<_> =
        denied[0]["violations"].as_array().unwrap().iter().map(|v| v["rule"].clone()).collect();
    assert!(rules.contains(&json!("runtime-mismatch")), "nothing places a pod that runs: {rules:?}");
    assert_eq!(document["summary"]["copies"], 2);
    assert_eq!(document["notJudged"][0]["what"], "Job shop/orphan");
    let table = scan_text(&documents(&objects), &[]);
    table.has(&["shop       Deployment/app  3     denied", "(1 of 3 pods)"]);
    let apart = scan_text(&documents(&objects), &["--every-pod", "-o", "json"]).json();
    assert_eq!((&document["summary"]["judged"], &apart["summary"]["judged"]), (&json!(3), &json!(4)));
}

#[test]
fn an_operators_resource_owns_what_was_made_of_it_and_its_other_templates_are_noted() {
    let image = "samples.example/hello:1";
    let template = |image: &str| {
        let mut pod = pod("x", image);
        pod["metadata"] = json!({"labels": {"app": "x"}});
        pod
    };
    let jobs = json!({"apiVersion": "kubeflow.org/v1", "kind": "TFJob", "metadata": {"name": "train", "namespace": "shop", "uid": "TFJob-train"},
        "spec": {"tfReplicaSpecs": {"Chief": {"template": template(image)}, "Worker": {"template": template("samples.example/files:1")}}}});
    let made = controller(
        "batch/v1",
        "Job",
        "train-worker",
        "samples.example/files:1",
        Some(("kubeflow.org/v1", "TFJob", "train")),
    );
    let said = scan_text(&documents(&[jobs, made]), &["-o", "json"]);
    assert_eq!(said.code, 1, "the worker's job is judged, although the resource is too: {said:?}");
    let document = said.json();
    let train = workload(&document, "TFJob", "train");
    assert_eq!(
        (document["workloads"].as_array().unwrap().len(), train["judged"].as_array().unwrap().len()),
        (1, 2)
    );
    assert_eq!(document["notJudged"][0]["what"], "TFJob shop/train");
    let reason = document["notJudged"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("not the other 1"), "{reason}");
}

// === a cluster ===

/// Fills a cluster with deployments of these sample images, and this many pods each.
fn fill(api: &Api, host: &str, images: &[&str], deployments: usize, pods: usize) {
    for number in 0..deployments {
        let (name, sample) = (format!("app-{number}"), images[number % images.len()]);
        let (image, running) = (&format!("{host}/{sample}:1"), pinned(host, sample));
        let owner = ("apps/v1", "Deployment", name.as_str());
        api.put("deployments", controller("apps/v1", "Deployment", &name, image, None));
        api.put("replicasets", controller("apps/v1", "ReplicaSet", &name, image, Some(owner)));
        for pod in 0..pods {
            api.put("pods", pod_of(&name, pod, &running));
        }
    }
    api.put("runtimeclasses", json!({"metadata": {"name": "wasmtime"}, "handler": "wasmtime"}));
}

async fn scan_cluster(api: &Api, folder: &Path, more: &[&str]) -> Said {
    let kubeconfig = api.kubeconfig(folder);
    let mut command = wasmgate();
    command.args(["scan", "--kubeconfig", kubeconfig.to_str().unwrap()]).args(more);
    tokio::task::spawn_blocking(move || Said::of(&mut command)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_of_ten_thousand_pods_each_image_is_looked_up_and_each_template_judged_once() {
    let registry = Registry::start();
    let names = ["hello", "files", "web"];
    for name in names {
        registry.crane(&samples("images"), &["push", name, &registry.image(&format!("{name}:1"))]);
    }
    let api = Api::start().await;
    fill(&api, &registry.host, &names, 100, 100);
    let folder = tempfile::tempdir().unwrap();
    let before = names.map(|name| registry.requests("GET", &format!("/{name}/manifests/1")));
    let started = std::time::Instant::now();
    let said =
        scan_cluster(&api, folder.path(), &["--insecure-registry", &registry.host, "-o", "json", "--all"])
            .await;
    let took = started.elapsed();
    println!("10 000 pods in {took:?}");
    assert!(took < Duration::from_mins(1), "{took:?}");
    assert_eq!(said.code, 1, "{}", said.err);
    let summary = said.json()["summary"].clone();
    let expected = json!({"workloads": 100, "pods": 10_000, "templates": 100, "copies": 100, "judged": 200,
        "outcomes": {"admitted": 34, "denied": 33, "not-wasm": 33}});
    assert_eq!(summary, expected);
    for (name, before) in names.iter().zip(before) {
        let asked = registry.requests("GET", &format!("/{name}/manifests/1")) - before;
        assert_eq!(asked, 1, "{name} was looked up {asked} times");
    }
    // In pages, so that no answer holds all pods.
    let pages = api.asked("pods");
    assert_eq!(pages.len(), 20);
    assert!(pages.iter().all(|page| page.query.contains("limit=500")), "{pages:?}");
    assert_eq!(pages.iter().filter(|page| page.query.contains("continue=")).count(), 19);
}

/// The most memory that a running program ever had, in bytes (`proc_pid_status(5)`, `VmHWM`).
fn peak_resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The most memory that a scan of this many pods takes. They have ten templates, and each of them has so many bytes.
async fn peak_of_scan(pods: usize, bytes: usize) -> u64 {
    let api = Api::start().await;
    fill(&api, "samples.example", &["hello"], 10, 0);
    let (image, note) = (pinned("samples.example", "hello"), "x".repeat(bytes));
    for number in 0..pods {
        let mut pod = pod_of(&format!("app-{}", number % 10), number, &image);
        pod["metadata"]["annotations"] = json!({"team.example/note": note});
        api.put("pods", pod);
    }
    let folder = tempfile::tempdir().unwrap();
    let (kubeconfig, said) = (api.kubeconfig(folder.path()), folder.path().join("said"));
    let mut command = wasmgate();
    command.args(["scan", "--kubeconfig", kubeconfig.to_str().unwrap(), "--image-layouts", &layouts()]);
    command.args(["-o", "json", "--all"]).stdout(File::create(&said).unwrap());
    let ended = move || {
        let (mut scan, mut peak) = (command.spawn().unwrap(), 0);
        let status = wait_for("the end of the scan", || {
            peak = peak_resident(scan.id()).unwrap_or(peak);
            scan.try_wait().unwrap()
        });
        (status, peak)
    };
    let (status, peak) = tokio::task::spawn_blocking(ended).await.unwrap();
    assert!(status.success(), "{status}");
    let said: Value = serde_json::from_slice(&std::fs::read(said).unwrap()).unwrap();
    assert_eq!((&said["summary"]["pods"], &said["summary"]["workloads"]), (&json!(pods), &json!(10)));
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_does_not_take_more_memory_for_more_pods() {
    const BYTES: usize = 8 << 10;
    // The first one may have policies to compile.
    peak_of_scan(10, BYTES).await;
    let few = peak_of_scan(1_500, BYTES).await;
    let many = peak_of_scan(6_000, BYTES).await;
    println!("1 500 pods: {} MiB, 6 000 pods: {} MiB", few >> 20, many >> 20);
    let more = u64::try_from(4_500 * BYTES).unwrap();
    assert!(many < few + more / 2, "{few} {many}: the further pods are {more} bytes of text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_may_not_be_listed_is_noted_and_the_rest_is_judged() {
    let api = Api::start().await;
    fill(&api, "samples.example", &["hello"], 1, 2);
    api.fail("pods", Fault::Status(403));
    let folder = tempfile::tempdir().unwrap();
    let images = layouts();
    let said = scan_cluster(&api, folder.path(), &["--image-layouts", &images]).await;
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&[
        "Deployment/app-0",
        "admitted",
        "not judged: pods: forbidden: the ClusterRole lacks list on pods",
        "1 not judged",
    ]);
    api.heal("pods");
    for name in ["shop", "other"] {
        api.put("namespaces", json!({"metadata": {"name": name}}));
    }
    let one =
        scan_cluster(&api, folder.path(), &["--image-layouts", &images, "-n", "shop", "-n", "other"]).await;
    assert_eq!(one.code, 0, "{one:?}");
    let misspelt =
        scan_cluster(&api, folder.path(), &["--image-layouts", &images, "-n", "shop", "-n", "othre"]).await;
    misspelt.fails(&["the cluster has no namespace `othre`; did you mean `other`?"]);
    api.fail("wasigrants", Fault::Status(403));
    let blind = scan_cluster(&api, folder.path(), &["--image-layouts", &images]).await;
    blind.fails(&["could not read the cluster", "wasigrants.wasmgate.dev: forbidden"]);
}
