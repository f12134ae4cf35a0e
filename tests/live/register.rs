//! What the gate writes to a cluster, on a real API server: certificates that are made once, rotated under load and
//! adopted by every replica; the repaired caBundle; Events about refused workloads. With no more rights than it needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use wasmgate::audit::Metrics;
use wasmgate::config::Kubernetes;
use wasmgate::register::Registration;
use wasmgate::watch::connect;

use crate::support::control_plane::ControlPlane;
use crate::support::process::{PATIENCE, Process, until, wait_for, wasmgate};
use crate::support::shared::Shared;
use crate::support::tls::{Client, Http, get};

static PLANE: Shared<ControlPlane> = Shared::new(ControlPlane::start);

// === the gate's namespace ===

/// A namespace with a ServiceAccount that has exactly the rights for certificates, and with two webhook configurations
/// of its own.
struct Site {
    plane: Arc<ControlPlane>,
    namespace: String,
    /// Where pods are judged: the gate leaves its own namespace alone.
    workloads: String,
    kubeconfig: PathBuf,
}

impl Site {
    fn new(name: &str) -> Self {
        let plane = PLANE.get();
        let namespace = plane.namespace(name, &json!({}));
        for object in rights(&namespace) {
            plane.apply(&object, &[]).ok();
        }
        let kubeconfig = plane.account(&namespace, "wasmgate");
        let workloads = plane.namespace("workloads", &json!({}));
        Self { plane, namespace, workloads, kubeconfig }
    }

    fn configuration(&self, lifetimes: &str) -> String {
        let (kubeconfig, name) = (self.kubeconfig.display(), &self.namespace);
        format!(
            "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\nkubernetes:\n  kubeconfig: {kubeconfig}\n  \
             certificates: {{manage: true, extraNames: [127.0.0.1, localhost]{lifetimes}}}\n  \
             webhooks: {{mutating: {name}, validating: {name}}}\n  lease: {{duration: 3s}}\n  events: true\n"
        )
    }

    /// Both configurations, without a caBundle as in the manifests; they apply to this namespace only.
    fn register(&self, mutating: &Gate, validating: &Gate) {
        for (kind, gate, webhook) in
            [("Mutating", mutating, "mutate"), ("Validating", validating, "validate")]
        {
            let webhook = json!({
                "name": format!("{webhook}.wasmgate.dev"), "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
                "sideEffects": "NoneOnDryRun", "timeoutSeconds": 10,
                "clientConfig": {"url": format!("https://{}/{webhook}", gate.webhooks)},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.workloads}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            });
            self.plane
                .apply(
                    &json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
                        "metadata": {"name": self.namespace}, "webhooks": [webhook]}),
                    &[],
                )
                .ok();
        }
    }

    /// The CA bundles in the mutating and the validating configuration; empty if there is none.
    fn bundles(&self) -> [String; 2] {
        ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"].map(|kind| {
            let found = self.plane.get(&[kind, &self.namespace]);
            let bundle = found["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
            String::from_utf8(STANDARD.decode(bundle).unwrap()).unwrap()
        })
    }

    fn secret(&self) -> Value {
        self.plane.get(&["secret", "wasmgate-certs", "--namespace", &self.namespace])["data"].clone()
    }

    fn ca_certs(&self) -> String {
        let text = self.secret()["ca.crt"].as_str().unwrap().to_owned();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    fn holder(&self) -> String {
        let lease = self.plane.get(&["lease", "wasmgate", "--namespace", &self.namespace]);
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }
}

fn rights(namespace: &str) -> Vec<Value> {
    let (group, webhooks) = (
        "admissionregistration.k8s.io",
        ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
    );
    let named = |group: &str, resource: &str, name: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "resourceNames": [name], "verbs": verbs});
    let create = |group: &str, resource: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": ["create"]});
    let mut cluster: Vec<Value> = webhooks
        .iter()
        .map(|kind| named(group, kind, namespace, &["get", "list", "watch", "patch"]))
        .collect();
    cluster
        .push(json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}));
    let own = json!([
        named("", "secrets", "wasmgate-certs", &["get", "update"]),
        create("", "secrets"),
        named("coordination.k8s.io", "leases", "wasmgate", &["get", "update"]),
        create("coordination.k8s.io", "leases"),
    ]);
    let name = format!("wasmgate-{namespace}");
    let subjects = json!([{"kind": "ServiceAccount", "name": "wasmgate", "namespace": namespace}]);
    let rbac = "rbac.authorization.k8s.io/v1";
    let reference =
        |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "wasmgate", "namespace": namespace}}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": name}, "rules": cluster}),
        json!({"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": reference("ClusterRole", &name), "subjects": subjects}),
        json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": "own", "namespace": namespace}, "rules": own}),
        json!({"apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "own", "namespace": namespace},
            "roleRef": reference("Role", "own"), "subjects": subjects}),
    ]
}

// === the gate's own program ===

struct Gate {
    process: Process,
    webhooks: String,
    probes: String,
}

/// A started gate, which may not listen yet.
struct Starting {
    name: String,
    process: Process,
}

impl Starting {
    fn new(site: &Site, name: &str, configuration: &str) -> Self {
        let name = format!("{}-{name}", site.namespace);
        let folder = site.plane.home().path().join(&name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("gate.yaml"), configuration).unwrap();
        let mut command = wasmgate();
        command.args(["serve", "--config=gate.yaml", "--listen=127.0.0.1:0", "--probes=127.0.0.1:0"]);
        command.args(["--decision-log=none", "--log-format=json"]).current_dir(&folder);
        command.env("POD_NAMESPACE", &site.namespace).env("POD_NAME", &name);
        Self { process: site.plane.home().start(&name, &command), name }
    }

    fn listening(mut self) -> Gate {
        let fields = wait_for("the gate to listen", || {
            assert!(!self.process.has_ended(), "{} ended\n{}", self.name, self.process.tail());
            let log = self.process.log();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["fields"]["message"] == "listening").map(|line| line["fields"].clone())
        });
        let text = |key: &str| fields[key].as_str().unwrap().to_owned();
        Gate { process: self.process, webhooks: text("webhooks"), probes: text("probes") }
    }
}

impl Gate {
    async fn metric(&self, sample: &str) -> i64 {
        let page = get(self.probes.parse().unwrap(), "/metrics").await.unwrap().text();
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    async fn steps(&self, step: &str) -> i64 {
        self.metric(&format!("wasmgate_certificate_steps_total{{step=\"{step}\"}}")).await
    }

    async fn leads(&self) -> bool {
        self.metric("wasmgate_leader{}").await == 1
    }
}

/// A full handshake with a gate, by a client that trusts this bundle.
async fn shake(gate: &str, bundle: &str) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bundle).unwrap();
    let client = Client::trusting(&[file.path()], Http::One);
    client.open(gate.parse().unwrap()).await.map(drop).map_err(|error| error.to_string())
}

fn linux_pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "web", "image": "127.0.0.1:1/web:1"}]}})
}

// === the tests ===

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_start_together_make_one_secret_and_replace_a_killed_leader() {
    let plane = PLANE.get();
    let site = Site::new("two");
    let configuration = site.configuration("");
    let both = ["a", "b"].map(|name| Starting::new(&site, name, &configuration));
    let both = both.map(Starting::listening);
    let ca_certs = site.ca_certs();
    assert_eq!(ca_certs.matches("BEGIN CERTIFICATE").count(), 1);
    let mut made = 0;
    for gate in &both {
        made += gate.steps("start-over").await;
        assert_eq!(gate.steps("issue-leaf").await, 0);
        shake(&gate.webhooks, &ca_certs).await.unwrap();
        assert_eq!(get(gate.probes.parse().unwrap(), "/readyz").await.unwrap().status, 200);
    }
    assert_eq!(made, 1, "the Secret was made once");

    site.register(&both[0], &both[1]);
    until("the caBundle", async || site.bundles().iter().all(|bundle| *bundle == ca_certs)).await;
    let [one, other] = both;
    let (mut leader, follower) = if one.leads().await { (one, other) } else { (other, one) };
    assert!(!follower.leads().await);
    let held = site.holder();
    leader.process.kill();
    until("the other to lead", async || follower.leads().await).await;
    assert_ne!(site.holder(), held);
    assert_eq!(site.ca_certs(), ca_certs, "a new leader goes on with what there is");

    // Cleared, as by applying a manifest with an empty one, or replaced with another CA's.
    for (kind, value) in
        [("mutatingwebhookconfiguration", ""), ("validatingwebhookconfiguration", "T1RIRVI=")]
    {
        let patch = json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": value}]);
        let said =
            plane.kubectl(&["patch", kind, &site.namespace, "--type=json", &format!("--patch={patch}")]);
        if said.code != 0 {
            // The API server refuses text that is not PEM; then there is nothing to repair.
            assert!(said.stderr.contains("caBundle"), "{}", said.stderr);
        }
        until("the repair", async || site.bundles().iter().all(|bundle| *bundle == ca_certs)).await;
    }
    let created = plane.create(&linux_pod(), &["--dry-run=server", "--namespace", &site.workloads]);
    assert!(created.code != 0, "the killed one answered {}", created.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_leaf_rotations_and_one_ca_rotation_fail_no_handshake_under_load() {
    let plane = PLANE.get();
    let site = Site::new("rotate");
    let configuration = site.configuration(", leafLifetime: 18s, caLifetime: 40s, overlap: 4s");
    let gates = ["a", "b"].map(|name| Starting::new(&site, name, &configuration)).map(Starting::listening);
    site.register(&gates[0], &gates[1]);
    let pods = Api::<Pod>::namespaced(connect(Some(&plane.kubeconfig())).await.unwrap(), &site.workloads);
    let pod: Pod = serde_json::from_value(linux_pod()).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("the first pod", async || pods.create(&dry, &pod).await.is_ok()).await;

    // Without the bundle, the API server trusted no gate.
    let failed = "wasmgate_server_events_total{event=\"handshake-failed\"}";
    let before = [gates[0].metric(failed).await, gates[1].metric(failed).await];

    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (over, sent, pods, pod, dry) =
            (Arc::clone(&over), Arc::clone(&sent), pods.clone(), pod.clone(), dry.clone());
        tokio::spawn(async move {
            let mut failures = Vec::new();
            while !over.load(Ordering::Relaxed) {
                failures.extend(pods.create(&dry, &pod).await.err().map(|error| error.to_string()));
                sent.fetch_add(1, Ordering::Relaxed);
            }
            failures
        })
    };
    let first = site.ca_certs();
    let (mut handshakes, mut failures) = (0, Vec::new());
    let start = Instant::now();
    loop {
        // New connections use the CA bundle of the registration at this moment.
        let bundles = tokio::task::block_in_place(|| site.bundles());
        for (gate, bundle) in gates.iter().zip(&bundles) {
            failures.extend(shake(&gate.webhooks, bundle).await.err());
            handshakes += 1;
        }
        let mut steps = [0; 4];
        for gate in &gates {
            for (sum, step) in steps.iter_mut().zip(["issue-leaf", "begin-ca", "switch-leaf", "drop-old"]) {
                *sum += gate.steps(step).await;
            }
        }
        if steps[0] + steps[2] >= 3 && steps[3] >= 1 {
            assert!(steps[1] >= 1 && steps[2] >= 1, "{steps:?}");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{steps:?}\n{}", gates[0].process.tail());
    }
    over.store(true, Ordering::Relaxed);
    let refused = load.await.unwrap();
    assert_eq!((failures, refused), (Vec::new(), Vec::new()));
    assert!(handshakes > 20 && sent.load(Ordering::Relaxed) > 20, "{handshakes} {sent:?}");
    assert_eq!([gates[0].metric(failed).await, gates[1].metric(failed).await], before);
    assert_ne!(site.ca_certs(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_whose_pods_are_refused_gets_an_event() {
    let plane = PLANE.get();
    let site = Site::new("events");
    let gate = Starting::new(&site, "a", &site.configuration("")).listening();
    site.register(&gate, &gate);
    until("the caBundle", async || !site.bundles().contains(&String::new())).await;
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
        "handler": "wasmtime"});
    plane.apply(&class, &[]).ok();
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "orders"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "orders"}}, "template": {
            "metadata": {"labels": {"app": "orders"}},
            "spec": {"runtimeClassName": "wasmtime", "containers": [{"name": "api", "image": "127.0.0.1:1/orders:1",
                "env": [{"name": "TOKEN", "value": "hunter2-hunter2"}]}]}}}});
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"},
        "spec": set["spec"]["template"]["spec"]});
    // Until the API server calls the gate. A dry run leaves no event.
    plane.wait_for("the refusal of a dry run", || {
        let said = plane.create(&bare, &["--dry-run=server", "--namespace", &site.workloads]);
        said.stderr.contains("[not-inspected]").then_some(())
    });
    plane.create(&set, &["--namespace", &site.workloads]).ok();
    let event = plane.wait_for("the event", || {
        let events = plane.list(&["events", "--namespace", &site.workloads]);
        events.into_iter().find(|event| event["reason"] == "WasmgateDenied")
    });
    let about = &event["involvedObject"];
    assert_eq!(
        (&about["kind"], &about["name"], &event["type"]),
        (&json!("ReplicaSet"), &json!("orders"), &json!("Warning"))
    );
    assert!(about["uid"].as_str().is_some_and(|uid| uid.len() == 36), "{event}");
    let note = event["message"].as_str().unwrap();
    assert!(note.contains("[not-inspected]") && !note.contains("hunter2") && note.len() <= 1024, "{note}");
    let described = plane.kubectl(&["describe", "replicaset", "orders", "--namespace", &site.workloads]).ok();
    assert!(described.contains("WasmgateDenied"), "{described}");

    // The dry runs were not counted either.
    plane.create(&bare, &["--namespace", &site.workloads]).refused();
    plane.wait_for("the event of the pod itself", || {
        let events = plane.list(&["events", "--namespace", &site.workloads]);
        let own: Vec<_> =
            events.into_iter().filter(|event| event["involvedObject"]["name"] == "bare").collect();
        assert!(own.iter().all(|event| event["series"].is_null()), "{own:?}");
        (own.len() == 1).then_some(())
    });
}

fn plan(site: &Site, folder: &Path) -> wasmgate::register::CertificatePlan {
    let kubernetes: Kubernetes = serde_json::from_value(json!({
        "webhooks": {"mutating": null, "validating": site.namespace}, "lease": {"duration": "6s"},
        "certificates": {"startTimeout": "90s"}}))
    .unwrap();
    kubernetes.plan(&site.namespace, folder).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_secret_is_repaired_and_the_lease_is_released_at_the_end() {
    let plane = PLANE.get();
    let site = Site::new("damaged");
    let folder = tempfile::tempdir().unwrap();
    // Not the gate's own: it has a certificate for another key, and a further key that the gate must not touch.
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wasmgate-certs"},
        "stringData": {"tls.crt": "nonsense", "tls.key": "nonsense", "note": "keep me"}});
    plane.create(&foreign, &["--namespace", &site.namespace]).ok();
    let client = connect(Some(&site.kubeconfig)).await.unwrap();
    let metrics = Arc::new(Metrics::new());
    let mut registration = Registration::start(&client, plan(&site, folder.path()), "one", &metrics);
    let (cert, key) = registration.certificate().await.unwrap();
    assert!(wasmgate::certs::load(&cert, &key).is_ok());
    assert_eq!(site.secret()["note"], STANDARD.encode("keep me"));
    assert!(site.holder().starts_with("one_"), "{}", site.holder());
    registration.close().await;
    assert_eq!(site.holder(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_the_message_names_the_role() {
    let plane = PLANE.get();
    let site = Site::new("powerless");
    plane.kubectl(&["delete", "rolebinding", "own", "--namespace", &site.namespace]).ok();
    let configuration = site.configuration(", startTimeout: 8s");
    let mut starting = Starting::new(&site, "a", &configuration);
    wait_for("the end of the gate", || starting.process.has_ended().then_some(()));
    let log = starting.process.log();
    assert!(
        log.contains("Role `wasmgate-certificates`") && log.contains("secrets `wasmgate-certs`"),
        "{log}"
    );
    assert!(log.contains("leases `wasmgate`"), "{log}");
}
