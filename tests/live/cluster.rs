//! The gate on a real Kubernetes: its own program behind both webhooks of a real API server, with the real controller
//! manager, scheduler, registry and `kubectl`.

mod hardening;
mod replicas;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Options, Part, Said, free_port_range};
use crate::support::live_gate::{LiveGate, Setup, bare_pod};
use crate::support::process::{self, ask_patiently, root, wait_for};
use crate::support::registry::Registry;
use crate::support::shared::Shared;

/// One control plane with one gate for all tests that do not stop a part of it.
struct Cluster {
    plane: ControlPlane,
    registry: Registry,
    gate: LiveGate,
}

static CLUSTER: Shared<Cluster> = Shared::new(Cluster::start);

/// A namespace in which the ServiceAccount `orders` has grants for what the sample application calls.
const GRANTED: &str = "granted";

/// A namespace whose `LimitRange` allows less memory than the gate sets by default.
const BOUNDED: &str = "bounded";

/// A namespace with a `LimitRange` for memory and another one for processors.
const DIVIDED: &str = "divided";

/// The label of nodes that have a Wasm runtime.
const WASM_NODE: &str = "example.com/wasm";

impl Cluster {
    fn start() -> Self {
        Self::start_with(Vec::new())
    }

    /// One with these flags of the controller manager.
    fn start_with(controller_manager: Vec<String>) -> Self {
        let plane = ControlPlane::start_with(&Options {
            controller_manager,
            audit_policy: Some(
                json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
                "rules": [{"level": "Metadata", "resources": [{"group": "", "resources": ["pods"]}]}]}),
            ),
            ..Options::default()
        });
        plane.add_node("linux-only", &json!({"kubernetes.io/os": "linux"}));
        plane.add_node(
            "wasm",
            &json!({"kubernetes.io/os": "linux", WASM_NODE: "yes", "example.com/zone": "a"}),
        );
        let registry = Registry::start_below(plane.home().path());
        for name in ["hello", "files", "orders", "web"] {
            let layout = root().join("manifests/samples/images").join(name);
            registry.crane(root(), &["push", layout.to_str().unwrap(), &registry.image(&sample(name))]);
        }
        let gate = LiveGate::start(&plane, &registry, "gate", &setup());
        gate.register(&plane, &registry.image(&sample("hello")));
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "orders", "namespace": GRANTED}});
        plane.apply(&account, &[]).ok();
        Self { plane, registry, gate }
    }

    fn image(&self, name: &str) -> String {
        self.registry.image(&sample(name))
    }

    /// The pods of a namespace with a label `app`, once there is one.
    fn pod_of(&self, namespace: &str, app: &str) -> Value {
        let selector = format!("--selector=app={app}");
        self.plane.wait_for("a pod of the deployment", || {
            self.plane.list(&["pods", "--namespace", namespace, &selector]).into_iter().next()
        })
    }

    /// The same, once the scheduler has bound it.
    fn bound_pod_of(&self, namespace: &str, app: &str) -> Value {
        self.plane.wait_for("the scheduler to bind the pod", || {
            Some(self.pod_of(namespace, app)).filter(|pod| pod["spec"]["nodeName"].is_string())
        })
    }
}

fn sample(name: &str) -> String {
    format!("samples/{name}:1")
}

fn class(name: &str, more: &Value) -> Value {
    let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name});
    class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    class
}

fn setup() -> Setup {
    let configuration = format!(
        "runtimes:\n  placement: {{spin-app: spin, module: wasmtime}}\n  profiles:\n    \
         - {{name: spin, runtimeClass: wasmtime-spin-v2, runs: [spin-app], ambient: spin}}\n    \
         - name: wasmtime\n      runtimeClass: wasmtime\n      runs: [module]\n      ambient: runwasi-wasmtime\n      \
         nodeAffinity: [{{key: {WASM_NODE}, operator: In, values: [\"yes\"]}}]\n"
    );
    let more = json!({"overhead": {"podFixed": {"cpu": "10m", "memory": "24Mi"}},
        "scheduling": {"nodeSelector": {"example.com/zone": "a"}}});
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "orders", "namespace": GRANTED},
        "spec": {"subjects": {"serviceAccounts": ["orders"]}, "capabilities": [
            {"name": "http.outbound", "hosts": ["https://payments.example.com"]}, {"name": "keyvalue", "names": ["default"]},
            {"name": "trigger", "names": ["http"]}, {"name": "http.inbound"}]}});
    Setup {
        configuration,
        objects: vec![
            class("wasmtime", &json!({})),
            class("wasmtime-spin-v2", &more),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GRANTED}}),
            grant,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BOUNDED}}),
            json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small", "namespace": BOUNDED},
                "spec": {"limits": [{"type": "Container", "max": {"memory": "24Mi"}}]}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": DIVIDED}}),
            limits("memory", &json!("512Mi"), &json!("256Mi")),
            limits("cpu", &json!("2"), &json!("1")),
        ],
        ..Setup::default()
    }
}

/// What containers of [`DIVIDED`] get of one resource when they say nothing.
fn limits(resource: &str, limit: &Value, request: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": resource, "namespace": DIVIDED},
    "spec": {"limits": [
        {"type": "Container", "default": {resource: limit}, "defaultRequest": {resource: request}},
    ]}})
}

/// A Deployment of one pod with one container of the same name.
fn deployment(namespace: &str, name: &str, image: &str, more: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": name, "image": image}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec}}})
}

#[test]
fn the_api_server_refuses_the_grants_that_the_loader_refuses() {
    let cluster = CLUSTER.get();
    let plane = &cluster.plane;
    plane.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}), &[]).ok();
    let mut files: Vec<PathBuf> =
        root().join("tests/fixtures/grants").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut good, mut bad) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if text.contains("# only the gate\n") {
            continue;
        }
        let name = file.file_name().unwrap().to_str().unwrap();
        let said = plane.kubectl(&[
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            file.to_str().unwrap(),
        ]);
        if name.starts_with("bad-") {
            bad += 1;
            assert_ne!(said.code, 0, "{name} was taken");
        } else {
            good += 1;
            assert_eq!(said.code, 0, "{name}: {}", said.stderr);
        }
    }
    assert!(good > 0 && bad > 20, "{good} good and {bad} bad fixtures");
}

#[test]
fn the_servers_own_rules_say_what_is_wrong_with_a_grant() {
    let cluster = CLUSTER.get();
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "wrong", "namespace": "default"},
        "spec": {"capabilities": [{"name": "env", "hosts": ["https://example.com"]}]}});
    let refused = cluster.plane.apply(&grant, &[]).refused();
    assert!(refused.contains("hosts says nothing about this capability"), "{refused}");
    let good = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "right", "namespace": "default"},
        "spec": {"capabilities": [{"name": "env", "names": ["ORDERS_*"]}]}});
    cluster.plane.apply(&good, &[]).ok();
    let table = cluster.plane.kubectl(&["get", "wasigrants", "right", "--namespace=default"]).ok();
    assert!(table.contains("CAPABILITIES") && table.contains("env"), "{table}");
}

#[test]
fn a_deployment_of_a_wasm_image_is_placed_sized_pinned_and_bound_to_the_wasm_node() {
    let cluster = CLUSTER.get();
    let namespace = cluster.plane.namespace("placed", &json!({}));
    let image = cluster.image("hello");
    let more = json!({"automountServiceAccountToken": false});
    cluster.plane.apply(&deployment(&namespace, "hello", &image, &more), &[]).ok();
    let pod = cluster.bound_pod_of(&namespace, "hello");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    let spec = &pod["spec"];
    assert_eq!(spec["nodeName"], "wasm");
    assert_eq!(spec["runtimeClassName"], "wasmtime");
    let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let on_wasm = json!({"key": WASM_NODE, "operator": "In", "values": ["yes"]});
    assert!(terms[0]["matchExpressions"].as_array().unwrap().contains(&on_wasm), "{terms}");
    let digest = String::from_utf8(cluster.registry.crane(root(), &["digest", &image]).stdout).unwrap();
    assert_eq!(spec["containers"][0]["image"], format!("{image}@{}", digest.trim()));
    assert_eq!(spec["containers"][0]["resources"]["limits"], json!({"cpu": "200m", "memory": "32Mi"}));
    // The template stays as written, so that it does not drift from its source.
    let written = cluster.plane.get(&["deployment", "hello", "--namespace", &namespace]);
    assert_eq!(written["spec"]["template"]["spec"]["containers"][0]["image"], image);
    assert!(written["spec"]["template"]["spec"]["runtimeClassName"].is_null());
}

#[test]
fn without_a_wasm_node_the_scheduler_says_that_the_affinity_did_not_match() {
    let cluster = CLUSTER.get();
    let namespace = cluster.plane.namespace("nowhere", &json!({}));
    let more = json!({"automountServiceAccountToken": false, "nodeSelector": {"kubernetes.io/os": "linux", "example.com/zone": "b"}});
    cluster.plane.add_node("other-zone", &json!({"kubernetes.io/os": "linux", "example.com/zone": "b"}));
    cluster.plane.apply(&deployment(&namespace, "hello", &cluster.image("hello"), &more), &[]).ok();
    let message = cluster.plane.wait_for("the scheduler to give up", || {
        let pod = cluster.pod_of(&namespace, "hello");
        let conditions = pod["status"]["conditions"].as_array()?.clone();
        let unbound =
            conditions.into_iter().find(|c| c["type"] == "PodScheduled" && c["status"] == "False")?;
        unbound["message"].as_str().map(String::from)
    });
    assert!(message.contains("didn't match Pod's node affinity/selector"), "{message}");
}

/// A pod without the fields that differ between any two creations.
fn comparable(mut pod: Value) -> Value {
    for field in ["uid", "creationTimestamp", "managedFields", "namespace", "name"] {
        pod["metadata"].as_object_mut().unwrap().remove(field);
    }
    pod
}

#[test]
fn a_linux_pod_comes_out_as_in_a_namespace_that_the_gate_never_sees() {
    let cluster = CLUSTER.get();
    let namespace = cluster.plane.namespace("linux", &json!({}));
    let mut pod = bare_pod(&cluster.image("web"), &json!({"team": "shop"}));
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}});
    let judged = cluster.plane.create(&pod, &["--dry-run=server", "--namespace", &namespace]);
    assert_eq!(judged.stderr, "");
    cluster.plane.wait_until_pods_can_be_made("kube-system");
    let unseen = cluster.plane.create(&pod, &["--dry-run=server", "--namespace=kube-system"]);
    assert_eq!(comparable(judged.json()), comparable(unseen.json()));

    let applied = cluster.plane.apply(&deployment(&namespace, "web", &cluster.image("web"), &json!({})), &[]);
    assert_eq!(applied.stderr, "");
    let pod = cluster.bound_pod_of(&namespace, "web");
    assert_eq!(pod["spec"]["containers"][0]["image"], cluster.image("web"));
    assert!(pod["spec"]["runtimeClassName"].is_null() && pod["spec"]["affinity"].is_null());
}

#[test]
fn a_pod_without_a_grant_is_refused_with_the_reason_and_not_stored() {
    let cluster = CLUSTER.get();
    let namespace = cluster.plane.namespace("refused", &json!({}));
    let mut pod = bare_pod(&cluster.image("orders"), &json!({}));
    pod["metadata"] = json!({"name": "orders", "namespace": namespace});
    pod["spec"]["containers"][0]["command"] = json!(["/"]);
    let refused = cluster.plane.apply(&pod, &[]).refused();
    assert!(refused.contains("admission webhook \"validate.wasmgate.dev\" denied the request"), "{refused}");
    assert!(
        refused.contains("[needs-grant]") && refused.contains("https://payments.example.com"),
        "{refused}"
    );
    let missing = cluster.plane.kubectl(&["get", "pod", "orders", "--namespace", &namespace]).refused();
    assert!(missing.contains("NotFound"), "{missing}");
    let of_this = |r: &Value| r["input"]["request"]["namespace"] == namespace.as_str();
    cluster.gate.wait_for_record("the denial", |r| of_this(r) && r["result"]["allowed"] == json!(false));
}

#[test]
fn a_denied_deployment_warns_its_user_and_explains_in_the_replica_sets_event() {
    let cluster = CLUSTER.get();
    let namespace = cluster.plane.namespace("denied", &json!({}));
    let image = cluster.image("orders");
    let mut object = deployment(&namespace, "orders", &image, &json!({}));
    object["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["/"]);
    let said = cluster.plane.apply(&object, &[]);
    assert!(said.stderr.contains("pods of this Deployment will be denied by wasmgate"), "{}", said.stderr);
    said.ok();
    let message = cluster.plane.wait_for("the event of the ReplicaSet", || {
        let events = cluster.plane.list(&["events", "--namespace", &namespace]);
        let failed = events
            .into_iter()
            .find(|e| e["reason"] == "FailedCreate" && e["involvedObject"]["kind"] == "ReplicaSet")?;
        failed["message"].as_str().map(String::from)
    });
    assert!(message.contains("[needs-grant]") && message.contains("`http.outbound`"), "{message}");
    assert_eq!(cluster.plane.list(&["pods", "--namespace", &namespace]), Vec::<Value>::new());
}

/// The sample application under the account with its grants, as the API server returns it.
fn granted_pod(cluster: &Cluster, name: &str) -> Value {
    let mut pod = bare_pod(&cluster.image("orders"), &json!({}));
    pod["metadata"] = json!({"name": name});
    pod["spec"]["serviceAccountName"] = json!("orders");
    pod["spec"]["containers"][0]["command"] = json!(["/"]);
    cluster.plane.create(&pod, &["--namespace", GRANTED]).json()
}

#[test]
fn what_the_runtime_class_adds_after_the_gate_stays_and_nothing_is_written_twice() {
    let cluster = CLUSTER.get();
    let name = "with-a-class";
    let pod = granted_pod(&cluster, name);
    let spec = &pod["spec"];
    assert_eq!(spec["runtimeClassName"], "wasmtime-spin-v2");
    assert_eq!(spec["overhead"], json!({"cpu": "10m", "memory": "24Mi"}));
    assert_eq!(spec["nodeSelector"], json!({"example.com/zone": "a"}));
    let image = spec["containers"][0]["image"].as_str().unwrap();
    assert_eq!(image.matches("@sha256:").count(), 1, "{image}");
    let changed = pod["metadata"]["annotations"]["wasmgate.dev/changed"].as_str().unwrap();
    let mut parts: Vec<&str> = changed.split(',').collect();
    let all = parts.len();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts.len(), all, "{changed}");
    let bound = cluster.plane.wait_for("the scheduler to bind the pod", || {
        let pod = cluster.plane.get(&["pod", name, "--namespace", GRANTED]);
        pod["spec"]["nodeName"].as_str().map(String::from)
    });
    assert_eq!(bound, "wasm");
}

#[test]
fn sizes_stay_inside_the_limit_range_and_the_quota_counts_them() {
    let cluster = CLUSTER.get();
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all", "namespace": BOUNDED},
        "spec": {"hard": {"requests.memory": "100Mi", "requests.cpu": "1"}}});
    cluster.plane.apply(&quota, &[]).ok();
    cluster.plane.wait_until_pods_can_be_made(BOUNDED);
    let used = |resource: &str| {
        let quota = cluster.plane.get(&["resourcequota", "all", "--namespace", BOUNDED]);
        quota["status"]["used"][resource].as_str().map(String::from)
    };
    cluster.plane.wait_for("the quota to be counted", || used("requests.memory"));
    let pod = cluster
        .plane
        .create(&bare_pod(&cluster.image("hello"), &json!({})), &["--namespace", BOUNDED])
        .json();
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"]["memory"], "24Mi", "{resources}");
    // A request that no person wrote: without it the quota would have refused the pod.
    let request = resources["requests"]["cpu"].as_str().unwrap();
    cluster
        .plane
        .wait_for("the quota to hold the request", || used("requests.cpu").filter(|cpu| cpu == request));
}

#[test]
fn what_several_limit_ranges_fill_in_is_sized_and_what_a_person_wrote_is_kept() {
    let cluster = CLUSTER.get();
    cluster.plane.wait_until_pods_can_be_made(DIVIDED);
    let made = |resources: &Value| {
        let mut pod = bare_pod(&cluster.image("hello"), &json!({}));
        pod["spec"]["containers"][0]["resources"] = resources.clone();
        let pod = cluster.plane.create(&pod, &["--namespace", DIVIDED]).json();
        pod["spec"]["containers"][0]["resources"].clone()
    };
    let sized =
        json!({"limits": {"cpu": "200m", "memory": "32Mi"}, "requests": {"cpu": "50m", "memory": "10Mi"}});
    assert_eq!(made(&json!({})), sized);
    // The same values that the LimitRange fills in, from a person.
    let own = json!({"limits": {"memory": "512Mi"}, "requests": {"memory": "256Mi"}});
    let kept =
        json!({"limits": {"cpu": "200m", "memory": "512Mi"}, "requests": {"cpu": "50m", "memory": "256Mi"}});
    assert_eq!(made(&own), kept);
}

#[test]
fn pod_security_judges_a_wasm_pod_as_without_the_gate() {
    let cluster = CLUSTER.get();
    let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = cluster.plane.namespace("restricted", &restricted);
    let mut pod = bare_pod(&cluster.image("hello"), &json!({}));
    let refused = cluster.plane.create(&pod, &["--namespace", &namespace]).refused();
    assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");
    pod["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let made = cluster.plane.create(&pod, &["--namespace", &namespace]).json();
    assert_eq!(made["spec"]["runtimeClassName"], "wasmtime");
}

#[test]
fn an_image_that_is_swapped_or_added_later_is_judged_too() {
    let cluster = CLUSTER.get();
    let namespace = cluster.plane.namespace("swapped", &json!({}));
    let mut pod = bare_pod(&cluster.image("hello"), &json!({}));
    pod["metadata"] = json!({"name": "app"});
    pod["spec"]["containers"][0]["env"] = json!([{"name": "MODE", "value": "fast"}]);
    cluster.plane.create(&pod, &["--namespace", &namespace]).ok();
    // The other program can call more than the first, without a grant for that.
    let image = format!("app={}", cluster.image("files"));
    let refused =
        cluster.plane.kubectl(&["set", "image", "pod/app", &image, "--namespace", &namespace]).refused();
    assert!(refused.contains("denied the request") && refused.contains("`MODE`"), "{refused}");
    let more = format!("--image={}", cluster.image("web"));
    cluster.plane.kubectl(&["debug", "app", &more, "--namespace", &namespace, "--container=aside"]);
    cluster.gate.wait_for_record("the ephemeral container", |record| {
        let request = &record["input"]["request"];
        request["subResource"] == "ephemeralcontainers" && request["namespace"] == namespace.as_str()
    });
}

/// Nothing in this cluster writes the objects that are read here while it is asked for them, or at most once.
#[test]
fn what_tests_read_without_kubectl_is_what_kubectl_says() {
    let cluster = CLUSTER.get();
    let namespace = cluster.plane.namespace("read", &json!({}));
    let mut pod = bare_pod(&cluster.image("hello"), &json!({}));
    pod["metadata"] = json!({"name": "nowhere", "namespace": namespace, "labels": {"app": "nowhere"}});
    pod["spec"]["nodeSelector"] = json!({"example.com/zone": "nowhere"});
    cluster.plane.apply(&pod, &[]).ok();
    let inside = format!("--namespace={namespace}");
    let questions: [&[&str]; 10] = [
        &["get", "--raw", "/readyz"],
        &["get", "--raw=/apis/wasmgate.dev"],
        &["get", "--output=json", "nodes"],
        &["get", "--output=json", "node", "wasm"],
        &["get", "--output=json", "pod", "nowhere", &inside],
        &["get", "--output=json", "pods", &inside, "--selector=app=nowhere"],
        &["get", "--output=json", "pods", &inside, "--selector=app=absent"],
        &["get", "--output=json", "pod", "absent", &inside],
        &["get", "--output=json", "mutatingwebhookconfiguration", "wasmgate"],
        &["logs", &inside, "nowhere"],
    ];
    for question in questions {
        let (mut ours, mut theirs) = (None, None);
        let agree = ask_patiently(|| {
            let said = |said: Said| {
                let shown = serde_json::from_str(&said.stdout).unwrap_or(Value::String(said.stdout));
                (said.code, shown, said.stderr)
            };
            ours = cluster.plane.read(question).map(said);
            theirs = Some(said(cluster.plane.kubectl_with(&cluster.plane.kubeconfig(), question, "")));
            (ours.is_some() && ours == theirs).then_some(())
        });
        assert!(agree.is_some(), "{question:?}: {ours:?} and {theirs:?}");
    }
}

#[test]
fn the_servers_audit_log_carries_the_gates_annotations_and_both_rounds_agree() {
    let cluster = CLUSTER.get();
    let name = "audited";
    granted_pod(&cluster, name);
    let entry = cluster.plane.wait_for("the audit log to have the creation", || {
        let created = |e: &Value| {
            e["verb"] == "create" && e["objectRef"]["name"] == name && e["objectRef"]["subresource"].is_null()
        };
        cluster.plane.audit_log().into_iter().find(created)
    });
    let annotations = &entry["annotations"];
    let mutated = |round: usize| {
        let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_0");
        serde_json::from_str::<Value>(annotations[key].as_str().unwrap_or("null")).unwrap()["mutated"].clone()
    };
    assert_eq!((mutated(0), mutated(1)), (json!(true), json!(false)), "{annotations}");
    let changed = annotations["mutate.wasmgate.dev/changed"].as_str().unwrap();
    assert!(changed.contains("runtimeClassName") && changed.contains("image/app"), "{annotations}");
    let of_validation =
        annotations.as_object().unwrap().keys().filter(|key| key.starts_with("validate.wasmgate.dev/"));
    assert!(of_validation.count() > 0, "{annotations}");
    // What the API server logs if a later round changed a value.
    let log = cluster.plane.log(Part::ApiServer);
    let overwritten =
        log.lines().find(|line| line.contains("wasmgate.dev/") && line.contains("already been set"));
    assert_eq!(overwritten, None);
}

#[test]
fn while_the_gate_is_down_no_pod_is_created_and_afterwards_it_is_by_itself() {
    let mut cluster = Cluster::start();
    let namespace = cluster.plane.namespace("down", &json!({}));
    cluster.gate.stop();
    let refused = cluster
        .plane
        .create(&bare_pod(&cluster.image("web"), &json!({})), &["--namespace", &namespace])
        .refused();
    assert!(refused.contains("failed calling webhook \"validate.wasmgate.dev\""), "{refused}");
    cluster.plane.wait_until_pods_can_be_made("kube-system");
    cluster.plane.create(&bare_pod(&cluster.image("web"), &json!({})), &["--namespace=kube-system"]).ok();
    // The webhook for templates fails open, since it only warns.
    let more = json!({"automountServiceAccountToken": false});
    cluster.plane.apply(&deployment(&namespace, "hello", &cluster.image("hello"), &more), &[]).ok();
    cluster.plane.wait_for("the ReplicaSet to be refused", || {
        let events = cluster.plane.list(&["events", "--namespace", &namespace]);
        let refused = |e: &Value| {
            e["reason"] == "FailedCreate" && e["message"].to_string().contains("failed calling webhook")
        };
        events.iter().any(refused).then_some(())
    });
    cluster.gate.start_again(&cluster.plane);
    let pod = cluster.bound_pod_of(&namespace, "hello");
    assert_eq!(
        (&pod["spec"]["runtimeClassName"], &pod["spec"]["nodeName"]),
        (&json!("wasmtime"), &json!("wasm"))
    );
}

#[test]
fn stored_objects_survive_a_crash_of_etcd_and_of_the_api_server() {
    let mut plane =
        ControlPlane::start_with(&Options { users: vec!["dev:team-a".into()], ..Options::default() });
    let whoami = plane.kubectl_with(&plane.user("dev"), &["auth", "whoami", "--output=json"], "").json();
    assert!(
        whoami["status"]["userInfo"]["groups"].as_array().unwrap().contains(&json!("team-a")),
        "{whoami}"
    );
    let namespace = plane.namespace("kept", &json!({}));
    let account = plane.account(&namespace, "default");
    let whoami = plane.kubectl_with(&account, &["auth", "whoami", "--output=json"], "").json();
    assert_eq!(
        whoami["status"]["userInfo"]["username"],
        format!("system:serviceaccount:{namespace}:default")
    );
    plane.stop(Part::Etcd);
    let lost = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lost"}});
    plane.apply(&lost, &["--request-timeout=2s"]).refused();
    plane.start_again(Part::Etcd);
    plane.stop(Part::ApiServer);
    plane.kubectl(&["get", "namespaces"]).refused();
    plane.start_again(Part::ApiServer);
    plane.kubectl(&["get", "namespace", &namespace]).ok();
}

/// The command line of every process.
pub(super) fn command_lines() -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        let all = Command::new("ps").args(["-axo", "args"]).output().unwrap().stdout;
        return String::from_utf8_lossy(&all).lines().map(String::from).collect();
    };
    let line = |path: PathBuf| std::fs::read(path.join("cmdline")).ok();
    let lines = processes.filter_map(|entry| line(entry.ok()?.path()));
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

/// Set in the process that is to be killed: the file to which it writes the folder of its control plane.
const VICTIM: &str = "WASMGATE_TEST_VICTIM";

#[test]
fn a_killed_test_leaves_neither_a_process_nor_a_folder() {
    if let Some(report) = std::env::var_os(VICTIM) {
        let plane = ControlPlane::start();
        std::fs::write(&report, plane.home().path().to_str().unwrap()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::a_killed_test_leaves_neither_a_process_nor_a_folder"])
        .env(VICTIM, &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let home = wait_for("the control plane to be killed", || {
        std::fs::read_to_string(&report).ok().filter(|path| !path.is_empty())
    });
    let processes = || command_lines().iter().filter(|line| line.contains(&home)).count();
    assert!(processes() >= 4 && Path::new(&home).exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_for("everything to be gone", || (processes() == 0 && !Path::new(&home).exists()).then_some(()));
}

/// Ends the cluster once its standard input is closed, and so also if this process is killed.
pub(super) fn keeper(state: &Path, port: u16) -> Child {
    let down = cluster_script("down", state, port);
    let environment: Vec<_> = down.get_envs().map(|(k, v)| (k.to_owned(), v.unwrap().to_owned())).collect();
    let mut keeper = Command::new("sh");
    keeper.args(["-c", "cat >/dev/null; exec \"$0\""]).arg(down.get_program()).envs(environment);
    keeper.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// `tools/cluster/NAME` with a state and ports of its own.
pub(super) fn cluster_script(name: &str, state: &Path, port: u16) -> Command {
    let mut script = process::own(&format!("tools/cluster/{name}"), &[]);
    script.env("WASMGATE_CLUSTER_DIR", state).env("WASMGATE_CLUSTER_PORT", port.to_string());
    script
}

pub(super) fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether a line of output is the one of a page, in which names end, ages and lengths of lines differ from run to run, and
/// `…` stands for the rest.
fn is_as_shown(shown: &str, real: &str) -> bool {
    let alike = |shown: &str, real: &str| {
        let generated = shown.starts_with("orders-") && shown.split('-').count() == 3;
        let age = |word: &str| word.strip_suffix('s').is_some_and(|number| number.parse::<u32>().is_ok());
        shown == real || (generated && real.starts_with("orders-")) || (age(shown) && age(real))
    };
    let (shown, whole) = shown.strip_suffix(" …").map_or((shown, true), |start| (start, false));
    let (shown, real): (Vec<&str>, Vec<&str>) =
        (shown.split_whitespace().collect(), real.split_whitespace().collect());
    (!whole || shown.len() == real.len())
        && shown.len() <= real.len()
        && shown.iter().zip(&real).all(|(shown, real)| alike(shown, real))
}

/// Runs the commands that the README shows on the trial cluster, and compares what they print.
fn compare_with_the_readme(run: &dyn Fn(&str) -> (bool, String)) {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, block) = readme.split_once("```console\n$ kubectl apply -f manifests/samples/").unwrap();
    let block = format!("$ kubectl apply -f manifests/samples/{}", block.split("```").next().unwrap());
    let commands: Vec<(&str, &str)> =
        block.split("$ ").skip(1).map(|part| part.split_once('\n').unwrap()).collect();
    assert_eq!(commands.len(), 3, "{block}");
    for (command, shown) in commands {
        let mut last = String::new();
        let found = ask_patiently(|| {
            last = run(command).1;
            // Applying a second time prints something else; only a pod takes its time.
            (is_as_shown(shown.trim(), last.trim()) || !command.contains(" get ")).then_some(())
        });
        assert!(found.is_some() && is_as_shown(shown.trim(), last.trim()), "{command}\n{shown}\n{last}");
    }
}

#[test]
fn a_line_of_a_page_fits_other_names_and_ages_and_nothing_else() {
    let shown = "orders-6c95679fff-fdx4v   0/1     Pending   3s   wasm-1";
    assert!(is_as_shown(shown, "orders-5-a 0/1 Pending 12s wasm-1"));
    assert!(!is_as_shown(shown, "orders-5-a 0/1 Pending 12s wasm-2"));
    assert!(!is_as_shown(shown, "orders-5-a 0/1 Pending 12s"));
    assert!(is_as_shown("denied the\nrequest: …", "denied the request: because"));
    assert!(!is_as_shown("denied the request: …", "denied the demand: because"));
}

#[test]
fn the_trial_cluster_starts_works_as_documented_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let (state, port) = (folder.path().join("the state"), free_port_range(6));
    let mut keeper = keeper(&state, port);
    let up = || cluster_script("up", &state, port).arg(env!("CARGO_BIN_EXE_wasmgate")).output().unwrap();
    let first = up();
    let said = text_of(&first);
    assert!(first.status.success(), "{said}");
    let export = said.lines().find_map(|line| line.trim().strip_prefix("export ")).unwrap();
    let commands: Vec<&str> =
        said.lines().map(str::trim).filter(|line| line.starts_with("kubectl ")).collect();
    assert!(commands.len() >= 4, "{said}");
    let run = |line: &str| {
        let script = format!("export {export}; {line}");
        let mut shell = Command::new("sh");
        // The caches of kubectl are put where they will be removed.
        shell.args(["-c", &script]).current_dir(root()).env("HOME", folder.path());
        let output = shell.output().unwrap();
        (output.status.success(), text_of(&output))
    };
    compare_with_the_readme(&run);
    for line in commands {
        let (worked, text) = run(line);
        let denied = line.contains("denied");
        assert_eq!(worked, !denied, "{line}\n{text}");
        assert!(!denied || text.contains("[needs-grant]"), "{text}");
    }
    wait_for("the pods to be bound", || {
        let (_, pods) = run("kubectl get pods -n shop -o wide --no-headers");
        let on = |name: &str, node: &str| pods.lines().any(|l| l.starts_with(name) && l.contains(node));
        (on("orders-", "wasm-1") && on("web-", "-1")).then_some(())
    });

    let second = up();
    assert!(second.status.success() && text_of(&second).contains("it runs already"), "{}", text_of(&second));
    let mut with_node = cluster_script("up", &state, port);
    with_node.env("WASMGATE_CLUSTER_NODE", "1").arg(env!("CARGO_BIN_EXE_wasmgate"));
    let refused = with_node.output().unwrap();
    let why = "a cluster without a real node runs already; end it first (make cluster-down)";
    assert!(!refused.status.success() && text_of(&refused).contains(why), "{}", text_of(&refused));
    assert!(run("kubectl get namespace shop").0, "the cluster that ran still does");
    let ended = cluster_script("down", &state, port).output().unwrap();
    assert!(ended.status.success(), "{}", text_of(&ended));
    let left: Vec<String> =
        command_lines().into_iter().filter(|line| line.contains(state.to_str().unwrap())).collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(!state.exists());
    drop(keeper.stdin.take());
    keeper.wait().unwrap();
}

/// The machine is asked first: what is missing is said at once, and not after minutes of building.
#[test]
fn a_machine_that_cannot_run_a_node_says_so_before_anything_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let id = "#!/bin/sh\necho 1000\n";
    std::fs::write(bin.join("id"), id).unwrap();
    std::fs::set_permissions(bin.join("id"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // No program is built yet, neither the gate nor the others.
    let state = folder.path().join("state");
    let mut up = cluster_script("up", &state, free_port_range(6));
    up.arg(folder.path().join("wasmgate")).env("WASMGATE_CLUSTER_NODE", "1").env("PATH", &path);
    let said = text_of(&up.output().unwrap());
    assert_eq!(said, "no real node here: it needs root, for namespaces, mounts and cgroups\n");
    for target in ["cluster", "demo"] {
        let mut make = Command::new("make");
        make.args([target, "NODE=1", "CARGO=false"]).current_dir(root()).env("PATH", &path);
        let said = text_of(&make.output().unwrap());
        assert!(said.starts_with("no real node here: it needs root") && !said.contains("false"), "{said}");
    }
    // Whatever they build begins with one of these.
    for compiler in ["go", "cargo"] {
        std::fs::write(bin.join(compiler), "#!/bin/sh\necho built >&2\nexit 1\n").unwrap();
        std::fs::set_permissions(bin.join(compiler), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    for (target, says, code) in
        [("test-node", "tests on a real node: skipped, ", Some(0)), ("calibrate", "not measured, ", Some(2))]
    {
        let mut make = Command::new("make");
        make.args(["--silent", target, "CARGO=cargo"]).current_dir(root()).env("PATH", &path);
        let output = make.env("XDG_CACHE_HOME", folder.path().join("cache")).output().unwrap();
        let said = text_of(&output);
        let line = format!("{says}no real node here: it needs root, for namespaces, mounts and cgroups\n");
        assert!(said.starts_with(&line) && !said.contains("built"), "{said}");
        assert_eq!(output.status.code(), code, "{said}");
    }
}
