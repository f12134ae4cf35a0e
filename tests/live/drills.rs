//! What users see when something fails, on a real Kubernetes: the gate down, slow or answering garbage, a replica ended
//! under load, etcd restarted, the registry down. These tests verify the table in `docs/operations.md`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};
use wasmgate::review::{Reply, Webhook};
use wasmgate::server::{self, Server, Signals};

use crate::support::control_plane::{ControlPlane, Options, Part, Said};
use crate::support::front::{Front, Mode};
use crate::support::live_gate::{LiveGate, Setup, bare_pod};
use crate::support::process;
use crate::support::process::root;
use crate::support::registry::Registry;
use crate::support::shared::Shared;
use crate::support::tls;

/// A control plane with a gate of two replicas behind one address. A drill affects all of it, so they run one at a
/// time.
struct Cluster {
    plane: ControlPlane,
    registry: Registry,
    gates: [LiveGate; 2],
    front: Front,
}

static CLUSTER: Shared<Mutex<Cluster>> = Shared::new(|| Mutex::new(Cluster::start()));

/// The whole cluster for one drill.
fn turn() -> OwnedMutexGuard<Cluster> {
    let mut cluster = CLUSTER.get().blocking_lock_owned();
    cluster.repair();
    cluster
}

impl Cluster {
    fn start() -> Self {
        Self::start_with(Front::start(&[]), &Options::default(), "")
    }

    /// `configuration` is that of both replicas.
    fn start_with(front: Front, options: &Options, configuration: &str) -> Self {
        let plane = ControlPlane::start_with(options);
        let registry = Registry::start_below(plane.home().path());
        for name in ["hello", "web", "files"] {
            let layout = root().join("manifests/samples/images").join(name);
            registry.crane(root(), &["push", layout.to_str().unwrap(), &registry.image(&sample(name, 1))]);
        }
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": "wasmtime"}, "handler": "wasmtime"});
        let setup = Setup { objects: vec![class], configuration: configuration.into(), ..Setup::default() };
        let gates = ["gate-0", "gate-1"].map(|name| {
            let flags =
                vec![format!("--image-store={}", plane.home().path().join(name).join("store").display())];
            LiveGate::start(&plane, &registry, name, &Setup { flags, ..setup.clone() })
        });
        front.lead_to(&gates.each_ref().map(|gate| gate.webhooks.parse().unwrap()));
        let cluster = Self { plane, registry, gates, front };
        cluster.register();
        cluster
    }

    /// Registers both webhooks with the front's address and the CAs of both replicas.
    fn register(&self) {
        use base64::Engine as _;
        let both = self.gates.iter().map(LiveGate::ca).collect::<String>();
        let both = base64::engine::general_purpose::STANDARD.encode(both);
        let one = base64::engine::general_purpose::STANDARD.encode(self.gates[0].ca());
        let configurations = self.gates[0]
            .webhook_configurations()
            .replace(&self.gates[0].webhooks, &self.front.address.to_string())
            .replace(&one, &both);
        self.plane.kubectl_with(&self.plane.kubeconfig(), &["apply", "--filename=-"], &configurations).ok();
        self.until_it_judges();
    }

    /// Undoes the last drill: restores both replicas, the front and the registration.
    fn repair(&mut self) {
        self.front.set(Mode::Open);
        self.front.lead_to(&self.gates.each_ref().map(|gate| gate.webhooks.parse().unwrap()));
        self.register();
    }

    /// The API server learns of a registration through a watch of its own.
    fn until_it_judges(&self) {
        self.plane.wait_for("both webhooks to judge", || {
            let changed = self.dry_run("default", "hello", &json!({}));
            let refused = self.dry_run("default", "files", &json!({}));
            let placed = changed.code == 0 && changed.json()["spec"]["runtimeClassName"] == "wasmtime";
            (placed && refused.stderr.contains("[needs-grant]")).then_some(())
        });
    }

    fn image(&self, name: &str) -> String {
        self.registry.image(&sample(name, 1))
    }

    /// A new name for a sample, which no gate has seen.
    fn new_image(&self, name: &str) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(2);
        let new = self.registry.image(&sample(name, NUMBER.fetch_add(1, Ordering::Relaxed)));
        self.registry.crane(root(), &["copy", &self.image(name), &new]);
        new
    }

    fn dry_run(&self, namespace: &str, name: &str, more: &Value) -> Said {
        let mut pod = bare_pod(&self.image(name), &json!({}));
        if name == "files" {
            pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        }
        pod["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.plane.create(&pod, &["--dry-run=server", "--namespace", namespace])
    }

    fn create(&self, namespace: &str, image: &str) -> Said {
        self.plane.create(&bare_pod(image, &json!({})), &["--namespace", namespace])
    }
}

fn sample(name: &str, tag: usize) -> String {
    format!("samples/{name}:{tag}")
}

fn deployment(namespace: &str, name: &str, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": name, "image": image}]}}}})
}

/// Prints the result of a drill, for the table in `docs/operations.md`: `cargo test --test live -- drills::
/// --nocapture`.
fn seen(drill: &str, who: &str, what: &str) {
    println!("| {drill} | {who} | {} |", what.trim().replace('\n', " "));
}

// === the gate is gone ===

#[test]
fn while_the_gate_is_down_pods_are_created_only_in_exempt_namespaces_and_running_ones_continue() {
    let cluster = turn();
    let plane = &cluster.plane;
    let namespace = plane.namespace("down", &json!({}));
    let before = cluster.create(&namespace, &cluster.image("hello")).json();
    let before = before["metadata"]["name"].as_str().unwrap().to_string();
    cluster.front.set(Mode::Down);

    let refused = cluster.create(&namespace, &cluster.image("web")).refused();
    assert!(refused.contains("failed calling webhook \"validate.wasmgate.dev\""), "{refused}");
    seen("gate down", "new pod, Linux or Wasm", &refused);
    // The program of a running pod cannot be changed; its labels can, it can be deleted, and objects without a pod spec
    // can be changed freely.
    let image = format!("app={}", cluster.image("web"));
    let refused =
        plane.kubectl(&["set", "image", "pod", &before, "--namespace", &namespace, &image]).refused();
    assert!(refused.contains("failed calling webhook"), "{refused}");
    plane.kubectl(&["label", "pod", &before, "--namespace", &namespace, "a=b"]).ok();
    plane.kubectl(&["delete", "pod", &before, "--namespace", &namespace, "--now"]).ok();
    plane.kubectl(&["create", "configmap", "c", "--namespace", &namespace]).ok();
    let exempt = cluster.dry_run("kube-system", "web", &json!({}));
    assert_eq!(exempt.stderr, "");
    exempt.ok();

    let applied = plane.apply(&deployment(&namespace, "web", &cluster.image("web")), &[]);
    seen("gate down", "kubectl apply of a Deployment", &format!("{}{}", applied.stdout, applied.stderr));
    applied.ok();
    let event = plane.wait_for("the event of the ReplicaSet", || {
        let events = plane.list(&["events", "--namespace", &namespace]);
        events.into_iter().find(|event| event["reason"] == "FailedCreate")
    });
    assert!(event["message"].as_str().unwrap().contains("failed calling webhook"), "{event}");

    cluster.front.set(Mode::Open);
    plane.wait_for("the Deployment's pod, without a person doing anything", || {
        plane.list(&["pods", "--namespace", &namespace]).into_iter().next()
    });
}

#[test]
fn a_wasm_pod_that_the_mutating_webhook_missed_is_refused_by_the_validating_one() {
    let cluster = turn();
    let namespace = cluster.plane.namespace("missed", &json!({}));
    cluster.plane.kubectl(&["delete", "mutatingwebhookconfiguration", "wasmgate"]).ok();
    let refused = cluster.plane.wait_for("the API server to forget the mutating webhook", || {
        let said = cluster.create(&namespace, &cluster.image("hello"));
        (said.code != 0).then_some(said.stderr)
    });
    assert!(refused.contains("\"validate.wasmgate.dev\" denied the request"), "{refused}");
    seen("mutating webhook missed", "Wasm pod", &refused);
    let linux = cluster.create(&namespace, &cluster.image("web"));
    assert_eq!(linux.stderr, "");
    linux.ok();
}

#[test]
fn without_the_validating_webhook_pods_are_created_and_registering_it_judges_again() {
    let cluster = turn();
    let plane = &cluster.plane;
    let namespace = plane.namespace("switch", &json!({}));
    cluster.front.set(Mode::Down);
    cluster.create(&namespace, &cluster.image("web")).refused();
    plane.kubectl(&["delete", "validatingwebhookconfiguration", "wasmgate"]).ok();
    plane.wait_for("the emergency switch to take effect", || {
        (cluster.create(&namespace, &cluster.image("web")).code == 0).then_some(())
    });
    cluster.front.set(Mode::Open);
    cluster.register();
    let refused = cluster.dry_run(&namespace, "files", &json!({})).refused();
    assert!(refused.contains("[needs-grant]"), "{refused}");
}

// === the gate misbehaves ===

#[test]
fn a_gate_that_takes_ten_seconds_is_abandoned_at_the_webhooks_timeout() {
    let cluster = turn();
    let namespace = cluster.plane.namespace("slow", &json!({}));
    cluster.front.set(Mode::Slow(Duration::from_secs(10)));
    let refused = cluster.create(&namespace, &cluster.image("web")).refused();
    assert!(refused.contains("failed calling webhook \"validate.wasmgate.dev\""), "{refused}");
    assert!(refused.contains("context deadline exceeded") || refused.contains("timeout"), "{refused}");
    seen("gate slow (10 s)", "new pod, Linux or Wasm", &refused);
}

#[test]
fn an_answer_without_tls_counts_as_no_answer() {
    let cluster = turn();
    let namespace = cluster.plane.namespace("noise", &json!({}));
    cluster.front.set(Mode::Noise);
    let refused = cluster.create(&namespace, &cluster.image("web")).refused();
    assert!(refused.contains("failed calling webhook \"validate.wasmgate.dev\""), "{refused}");
    seen("something else listens on the gate's address", "new pod", &refused);
}

/// A server with the first replica's certificate that answers each webhook with a fixed text, with `UID` filled in.
struct Garbage {
    mutate: &'static str,
    validate: &'static str,
    uid: &'static str,
}

impl server::AdmissionHandler for Garbage {
    async fn answer(&self, call: server::Call) -> Reply {
        let server::Call { webhook, body, .. } = call;
        let review: Value = serde_json::from_slice(&body).unwrap();
        let uid = if self.uid.is_empty() { review["request"]["uid"].as_str().unwrap() } else { self.uid };
        let text = if webhook == Webhook::Mutate { self.mutate } else { self.validate };
        Ok(text.replace("UID", uid).into_bytes())
    }

    fn too_large(&self, _: server::LargeReview) -> Vec<u8> {
        Vec::new()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

const ALLOWED: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"UID","allowed":true}}"#;
/// `[{"op":"remove","path":"/spec/nowhere"}]`, which can be decoded but not applied.
const BAD_PATCH: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"UID","allowed":true,"patchType":"JSONPatch","patch":"W3sib3AiOiJyZW1vdmUiLCJwYXRoIjoiL3NwZWMvbm93aGVyZSJ9XQ=="}}"#;

#[test]
fn garbage_on_the_validating_webhook_refuses_and_on_the_mutating_webhook_only_a_patch_that_does_not_apply() {
    let cluster = turn();
    let namespace = cluster.plane.namespace("garbage", &json!({}));
    let certs = cluster.plane.home().path().join("gate-0/certs");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (what, gate, text) in [
        (
            "no JSON",
            Garbage { mutate: "<html>", validate: "<html>", uid: "" },
            Some("failed calling webhook"),
        ),
        ("empty", Garbage { mutate: "", validate: "", uid: "" }, Some("failed calling webhook")),
        (
            "another uid",
            Garbage { mutate: ALLOWED, validate: ALLOWED, uid: "someone-else" },
            Some("failed calling webhook"),
        ),
        ("no JSON from /mutate alone", Garbage { mutate: "<html>", validate: ALLOWED, uid: "" }, None),
        (
            "a patch that does not apply",
            Garbage { mutate: BAD_PATCH, validate: ALLOWED, uid: "" },
            Some("Internal error occurred"),
        ),
    ] {
        let (address, _trigger) = runtime.block_on(async {
            let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
            let pair = (certs.join("tls.crt"), certs.join("tls.key"));
            let options = server::ServerOptions {
                address: local,
                probes: local,
                ..server::ServerOptions::new(pair.0, pair.1)
            };
            let server = Server::bind(options).await.unwrap();
            let (address, (trigger, signals)) = (server.address(), Signals::manual());
            tokio::spawn(server.run(Arc::new(gate), signals));
            (address, trigger)
        });
        cluster.front.lead_to(&[address]);
        cluster.front.set(Mode::Open);
        let said = cluster.create(&namespace, &cluster.image("web"));
        if let Some(text) = text {
            let refused = said.refused();
            assert!(refused.contains(text), "{what}: {refused}");
            seen(&format!("gate answers garbage: {what}"), "new pod", &refused);
        } else {
            said.ok();
            seen(&format!("gate answers garbage: {what}"), "new pod", "admitted as it is");
        }
    }
}

// === who may call ===

/// An API server with a client certificate for one address only, set up as in `docs/operations.md`.
fn flag_with_certificate_for(address: &str, folder: &Path, ca: &tls::Ca) -> String {
    let (cert, key) = ca.sign(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let user =
        json!({"client-certificate": write("client.crt", &cert), "client-key": write("client.key", &key)});
    let users = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": address, "user": user}]});
    let users = write("webhooks.kubeconfig", &users.to_string());
    let plugin = |name: &str| {
        json!({"name": name, "configuration": {"apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": users}})
    };
    let plugins = [plugin("MutatingAdmissionWebhook"), plugin("ValidatingAdmissionWebhook")];
    let configuration = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": plugins});
    let file = write("admission.json", &configuration.to_string());
    format!("--admission-control-config-file={}", file.display())
}

#[test]
fn a_gate_with_client_cas_answers_only_an_api_server_with_their_certificate() {
    // Starting a control plane would slow down the drills that count the costs under load.
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let (front, ca) = (Front::start(&[]), tls::Ca::new("callers"));
    let file = folder.path().join("clients.crt");
    std::fs::write(&file, &ca.pem).unwrap();
    let flag = flag_with_certificate_for(&front.address.to_string(), folder.path(), &ca);
    let options = Options { apiserver: vec![flag], ..Options::default() };
    // The start waits until both webhooks judge through the front, for which the API server has a certificate.
    let configuration = format!("server: {{clientCaFile: {}}}\n", file.display());
    let cluster = Cluster::start_with(front, &options, &configuration);
    let plane = &cluster.plane;
    let namespace = plane.namespace("callers", &json!({}));
    let placed = cluster.create(&namespace, &cluster.image("hello")).json();
    assert_eq!(placed["spec"]["runtimeClassName"], "wasmtime");

    // The same gate at its own address, for which it has none.
    let direct = cluster.gates[0].webhook_configurations();
    plane.kubectl_with(&plane.kubeconfig(), &["apply", "--filename=-"], &direct).ok();
    plane.wait_for("the API server to call without a certificate", || {
        (cluster.create(&namespace, &cluster.image("web")).code != 0).then_some(())
    });
    let records = || cluster.gates.iter().map(|gate| gate.records().len()).sum::<usize>();
    let before = records();
    let refused = cluster.create(&namespace, &cluster.image("web")).refused();
    assert!(refused.contains("failed calling webhook \"validate.wasmgate.dev\""), "{refused}");
    assert_eq!(records(), before, "who may not call is not recorded");
    seen("`server.clientCaFile` without the API server's side", "new pod, Linux or Wasm", &refused);
}

// === replicas ===

/// Creates pods in dry runs from several threads until `stop`. Returns how many were created, and every refusal.
fn load(cluster: &Cluster, namespace: &str, stop: &AtomicBool, made: &AtomicUsize) -> Vec<String> {
    std::thread::scope(|scope| {
        let hand = || {
            let mut refused = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let said = cluster.dry_run(namespace, "hello", &json!({}));
                if said.code == 0 {
                    assert_eq!(said.json()["spec"]["runtimeClassName"], "wasmtime", "it was not judged");
                    made.fetch_add(1, Ordering::Relaxed);
                } else {
                    refused.push(said.stderr);
                }
            }
            refused
        };
        let hands: Vec<_> = (0..3).map(|_| scope.spawn(hand)).collect();
        hands.into_iter().flat_map(|hand| hand.join().unwrap()).collect()
    })
}

/// Waits until this many more pods were created.
fn until_made(made: &AtomicUsize, more: usize) {
    let target = made.load(Ordering::Relaxed) + more;
    process::wait_for("pods to be made under load", || {
        (made.load(Ordering::Relaxed) >= target).then_some(())
    });
}

#[test]
fn a_replica_that_is_terminated_under_load_costs_no_request() {
    let mut cluster = turn();
    let namespace = cluster.plane.namespace("drain", &json!({}));
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let refused = std::thread::scope(|scope| {
        let cluster = &*cluster;
        let hands = scope.spawn(|| load(cluster, &namespace, &stop, &made));
        until_made(&made, 5);
        cluster.gates[0].signal("-TERM");
        until_made(&made, 5);
        process::wait_for("the replica to end", || cluster.gates[0].has_gone().then_some(()));
        until_made(&made, 10);
        stop.store(true, Ordering::Relaxed);
        hands.join().unwrap()
    });
    assert_eq!(refused, Vec::<String>::new(), "of {}", made.load(Ordering::Relaxed));
    let count = made.load(Ordering::Relaxed);
    seen(
        "one of two replicas ends in good order under load",
        "pods made meanwhile",
        &format!("{count} of {count}"),
    );
    restart(&mut cluster, 0);
}

#[test]
fn a_replica_that_is_killed_under_load_costs_at_most_the_requests_in_flight() {
    let mut cluster = turn();
    let namespace = cluster.plane.namespace("killed", &json!({}));
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let refused = std::thread::scope(|scope| {
        let cluster = &*cluster;
        let hands = scope.spawn(|| load(cluster, &namespace, &stop, &made));
        until_made(&made, 5);
        cluster.gates[0].signal("-KILL");
        until_made(&made, 20);
        stop.store(true, Ordering::Relaxed);
        hands.join().unwrap()
    });
    // Three threads, so the replica had at most three reviews.
    assert!(refused.len() <= 3, "{refused:?}");
    // It was validating; or it was mutating, which fails open, and the other replica refused the resulting pod.
    let told = |text: &String| text.contains("failed calling webhook") || text.contains("[runtime-mismatch]");
    assert!(refused.iter().all(told), "{refused:?}");
    let all = made.load(Ordering::Relaxed) + refused.len();
    seen(
        "one of two replicas killed under load",
        "pods refused meanwhile",
        &format!("{} of {all}", refused.len()),
    );
    restart(&mut cluster, 0);
}

fn restart(cluster: &mut Cluster, index: usize) {
    let Cluster { plane, gates, .. } = cluster;
    gates[index].stop();
    gates[index].start_again(plane);
}

// === what the gate depends on ===

#[test]
fn etcd_can_be_restarted_and_the_gate_keeps_judging() {
    let mut cluster = turn();
    let namespace = cluster.plane.namespace("etcd", &json!({}));
    cluster.plane.stop(Part::Etcd);
    let pod = bare_pod(&cluster.image("web"), &json!({}));
    let flags = ["--namespace", &namespace, "--request-timeout=5s"];
    let refused = cluster.plane.create(&pod, &flags).refused();
    seen("etcd down", "any request that writes", &refused);
    cluster.plane.start_again(Part::Etcd);
    cluster.until_it_judges();
    cluster.create(&namespace, &cluster.image("hello")).ok();
}

#[test]
fn with_the_registry_down_known_images_are_admitted_and_unread_ones_only_without_a_wasm_class() {
    let mut cluster = turn();
    let namespace = cluster.plane.namespace("registry", &json!({}));
    let (wasm, linux) = (cluster.new_image("hello"), cluster.new_image("web"));
    let known = cluster.create(&namespace, &cluster.image("hello")).json();
    let digest = known["spec"]["containers"][0]["image"].clone();
    cluster.registry.stop();

    let again = cluster.create(&namespace, &cluster.image("hello")).json();
    assert_eq!(again["spec"]["containers"][0]["image"], digest, "the digest that was judged before");
    seen(
        "registry down",
        "Wasm pod of a known image",
        "admitted, pinned to the digest that was judged before",
    );
    let said = cluster.create(&namespace, &linux);
    assert!(said.stderr.contains("without a look at its image"), "{}", said.stderr);
    seen("registry down", "pod of a new image without a Wasm class", &said.stderr);
    let made = said.json();
    assert_eq!(
        made["spec"]["containers"][0]["image"], linux,
        "a pod that may have nothing to do with Wasm is left alone"
    );
    let mut on_wasm = bare_pod(&wasm, &json!({}));
    on_wasm["spec"]["runtimeClassName"] = json!("wasmtime");
    let refused = cluster.plane.create(&on_wasm, &["--namespace", &namespace]).refused();
    assert!(refused.contains("[not-inspected]"), "{refused}");
    seen("registry down", "pod of a new image with a Wasm class", &refused);

    // A gate that starts meanwhile knows what was looked up before.
    for index in [0, 1] {
        restart(&mut cluster, index);
    }
    cluster.plane.wait_for("the replicas to judge again", || {
        let said = cluster.create(&namespace, &cluster.image("hello"));
        (said.code == 0 && said.json()["spec"]["containers"][0]["image"] == digest).then_some(())
    });
    seen("registry down, gate restarted", "Wasm pod of a known image", "admitted from the store on disk");
    cluster.registry.start_again();
}
