//! The gate on a real Kubernetes: its own program behind both webhooks of a real API server, with the real controller
//! manager, scheduler, registry and `kubectl` around it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "the helpers of a test may fail as loudly as the test"
)]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/live_gate.rs"]
mod live_gate;
#[path = "support/process.rs"]
mod process;
#[path = "support/registry.rs"]
mod registry;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};

use control_plane::{ControlPlane, Options, Part};
use live_gate::{LiveGate, Setup, bare_pod};
use process::wait_for;
use registry::Registry;

/// One control plane with one gate for all tests that do not stop a part of it. It ends with the process.
struct Cluster {
    plane: ControlPlane,
    registry: Registry,
    gate: LiveGate,
}

static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);

/// A namespace in which the ServiceAccount `orders` is granted what the sample application calls.
const GRANTED: &str = "granted";

/// The label of nodes that have a Wasm runtime.
const WASM_NODE: &str = "example.com/wasm";

impl Cluster {
    fn start() -> Self {
        let plane = ControlPlane::start_with(&Options {
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

    /// The same once the scheduler has bound it.
    fn bound_pod_of(&self, namespace: &str, app: &str) -> Value {
        self.plane.wait_for("the scheduler to bind the pod", || {
            Some(self.pod_of(namespace, app)).filter(|pod| pod["spec"]["nodeName"].is_string())
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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
        ],
        ..Setup::default()
    }
}

/// A Deployment of one pod with one container of its own name.
fn deployment(namespace: &str, name: &str, image: &str, more: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": name, "image": image}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec}}})
}

#[test]
fn the_api_server_refuses_the_grants_that_the_loader_refuses() {
    let plane = &CLUSTER.plane;
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
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "wrong", "namespace": "default"},
        "spec": {"capabilities": [{"name": "env", "hosts": ["https://example.com"]}]}});
    let refused = CLUSTER.plane.apply(&grant, &[]).refused();
    assert!(refused.contains("hosts says nothing about this capability"), "{refused}");
    let good = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "right", "namespace": "default"},
        "spec": {"capabilities": [{"name": "env", "names": ["ORDERS_*"]}]}});
    CLUSTER.plane.apply(&good, &[]).ok();
    let table = CLUSTER.plane.kubectl(&["get", "wasigrants", "right", "--namespace=default"]).ok();
    assert!(table.contains("CAPABILITIES") && table.contains("env"), "{table}");
}

#[test]
fn a_deployment_of_a_wasm_image_is_placed_sized_pinned_and_bound_to_the_wasm_node() {
    let cluster = &*CLUSTER;
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
    // The template is left as it was written, so that nothing drifts from its source.
    let written = cluster.plane.get(&["deployment", "hello", "--namespace", &namespace]);
    assert_eq!(written["spec"]["template"]["spec"]["containers"][0]["image"], image);
    assert!(written["spec"]["template"]["spec"]["runtimeClassName"].is_null());
}

#[test]
fn without_a_wasm_node_the_scheduler_says_that_the_affinity_did_not_match() {
    let cluster = &*CLUSTER;
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

/// A pod without what differs from one creation to the next.
fn comparable(mut pod: Value) -> Value {
    for field in ["uid", "creationTimestamp", "managedFields", "namespace", "name"] {
        pod["metadata"].as_object_mut().unwrap().remove(field);
    }
    pod
}

#[test]
fn a_linux_pod_comes_out_as_in_a_namespace_that_the_gate_never_sees() {
    let cluster = &*CLUSTER;
    let namespace = cluster.plane.namespace("linux", &json!({}));
    let mut pod = bare_pod(&cluster.image("web"), &json!({"team": "shop"}));
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}});
    let judged = cluster.plane.create(&pod, &["--dry-run=server", "--namespace", &namespace]);
    assert_eq!(judged.stderr, "");
    let unseen = cluster.plane.create(&pod, &["--dry-run=server", "--namespace=kube-system"]);
    assert_eq!(comparable(judged.json()), comparable(unseen.json()));

    let applied = cluster.plane.apply(&deployment(&namespace, "web", &cluster.image("web"), &json!({})), &[]);
    assert_eq!(applied.stderr, "");
    let pod = cluster.bound_pod_of(&namespace, "web");
    assert_eq!(pod["spec"]["containers"][0]["image"], cluster.image("web"));
    assert!(pod["spec"]["runtimeClassName"].is_null() && pod["spec"]["affinity"].is_null());
}

#[test]
fn a_pod_that_nobody_granted_anything_is_refused_with_the_reason_and_leaves_no_object() {
    let cluster = &*CLUSTER;
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
    let of_this = |r: &&Value| r["input"]["request"]["namespace"] == namespace.as_str();
    let records = cluster.gate.records();
    let denied = records.iter().filter(of_this).any(|r| r["result"]["allowed"] == json!(false));
    assert!(denied, "no record of the denial\n{}", cluster.gate.tail());
}

#[test]
fn a_denied_deployment_warns_at_the_keyboard_and_says_why_in_the_replica_sets_event() {
    let cluster = &*CLUSTER;
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

/// The sample application under the account that is granted what it calls, as it comes back from the API server.
fn granted_pod(cluster: &Cluster, name: &str) -> Value {
    let mut pod = bare_pod(&cluster.image("orders"), &json!({}));
    pod["metadata"] = json!({"name": name});
    pod["spec"]["serviceAccountName"] = json!("orders");
    pod["spec"]["containers"][0]["command"] = json!(["/"]);
    cluster.plane.wait_for("the ServiceAccount of the sample", || {
        let asked = cluster.plane.kubectl(&["get", "serviceaccount", "orders", "--namespace", GRANTED]);
        (asked.code == 0).then_some(())
    });
    cluster.plane.create(&pod, &["--namespace", GRANTED]).json()
}

#[test]
fn what_the_runtime_class_adds_after_the_gate_stays_and_nothing_is_written_twice() {
    let cluster = &*CLUSTER;
    let name = "with-a-class";
    let pod = granted_pod(cluster, name);
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
fn the_servers_audit_log_carries_the_gates_annotations_and_both_rounds_agree() {
    let cluster = &*CLUSTER;
    let name = "audited";
    granted_pod(cluster, name);
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
    // What the API server says of a value that a later round would have changed.
    let log = cluster.plane.log(Part::ApiServer);
    let overwritten =
        log.lines().find(|line| line.contains("wasmgate.dev/") && line.contains("already been set"));
    assert_eq!(overwritten, None);
}

#[test]
fn what_was_stored_survives_a_crash_of_etcd_and_of_the_api_server() {
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
fn command_lines() -> Vec<String> {
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
        .args(["--exact", "a_killed_test_leaves_neither_a_process_nor_a_folder"])
        .env(VICTIM, &report)
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
