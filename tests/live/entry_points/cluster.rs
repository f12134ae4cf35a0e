//! The one control plane with one gate that all tests of this folder share, each in a namespace of its own.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wasmgate::runtime::{Profile, Runtimes, Sizing, SizingMode};

use super::corpus;
use crate::support::control_plane::{ControlPlane, Options, Said};
use crate::support::images;
use crate::support::live_gate::{LiveGate, Setup, bare_pod};
use crate::support::process::root;
use crate::support::registry::Registry;
use crate::support::shared::Shared;

pub static CLUSTER: Shared<Cluster> = Shared::new(Cluster::start);

/// A namespace whose pods were created before the gate: no grant covers them, as after a grant is removed.
pub const BEFORE: &str = "before-the-gate";

/// A namespace in which the ServiceAccount `orders` has grants for what the images need.
pub const GRANTED: &str = "entry-points-granted";

/// Namespaces that the mutating webhook leaves out; the validating one does not.
pub const UNMUTATED: &str = "unmutated";
/// The same, with a mutating webhook that does not answer.
pub const UNANSWERED: &str = "unanswered";

/// Namespaces whose LimitRange allows less than the profile's limit, and demands more than its request.
pub const LOW: &str = "low-sizes";
/// See [`LOW`].
pub const HIGH: &str = "high-sizes";
/// A namespace whose LimitRange sets a maximum and a minimum, from which the API server makes defaults.
pub const ONLY_MAX: &str = "only-a-maximum";

/// A namespace for pods of the class `wasmtime-clamped`, whose profile clamps sizes.
pub const CLAMPED: &str = "clamped";

/// The name of a program that needs a grant of `fs` if it is handed a volume, and of `env` if it is handed variables.
pub const FILES: &str = "files";

pub struct Cluster {
    pub plane: ControlPlane,
    pub gate: LiveGate,
    _registry: Registry,
}

impl Cluster {
    fn start() -> Self {
        let plane = ControlPlane::start_with(&Options {
            users: vec!["dev:team-a".into(), "admin-of-a-namespace:team-b".into()],
            ..Options::default()
        });
        let definitions = root().join("tests/fixtures/spinkube/crds.yaml");
        plane.kubectl(&["apply", "--filename", definitions.to_str().unwrap()]).ok();
        plane.add_node("linux", &json!({"kubernetes.io/os": "linux"}));
        let registry = Registry::start_below(plane.home().path());
        let mut setup = setup();
        setup.flags.push(format!("--image-layouts={}={}", images::HOST, images::folder().display()));
        let gate = LiveGate::start(&plane, &registry, "gate", &setup);
        let mut accounts = corpus::accounts();
        let metadata = json!({"name": "orders", "namespace": GRANTED});
        accounts.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}));
        plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": accounts}), &[]).ok();
        let cluster = Self { plane, gate, _registry: registry };
        cluster.make_old_pods();
        cluster.gate.register(&cluster.plane, &image("hello"));
        cluster.leave_out_of_the_mutating_webhook(&[UNMUTATED, UNANSWERED]);
        cluster
    }

    /// Pods under a Wasm class that the gate would refuse now.
    fn make_old_pods(&self) {
        self.wait_for_account(BEFORE, "default");
        for name in ["to-bind", "to-evict", "to-edit"] {
            let mut pod = handed_a_volume(&image(FILES));
            pod["metadata"] = json!({"name": name, "finalizers": ["example.com/kept"]});
            pod["spec"]["runtimeClassName"] = json!("wasmtime");
            pod["spec"]["schedulerName"] = json!("none");
            self.plane.create(&pod, &["--namespace", BEFORE]).ok();
        }
    }

    fn leave_out_of_the_mutating_webhook(&self, namespaces: &[&str]) {
        let mut config = self.plane.get(&["mutatingwebhookconfiguration", "wasmgate"]);
        let selector = &mut config["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"];
        selector.as_array_mut().unwrap().extend(namespaces.iter().map(|name| json!(name)));
        config["metadata"].as_object_mut().unwrap().remove("managedFields");
        self.plane.apply(&config, &[]).ok();
        for namespace in namespaces {
            self.wait_for_account(namespace, "default");
            self.plane.wait_for("the mutating webhook to leave a namespace out", || {
                let pod = bare_pod(&image("hello"), &json!({}));
                let said = self.plane.create(&pod, &["--dry-run=server", "--namespace", namespace]);
                said.stderr.contains("[runtime-mismatch]").then_some(())
            });
        }
    }

    pub fn wait_for_account(&self, namespace: &str, name: &str) {
        self.plane.wait_for("a ServiceAccount", || {
            let account = ["serviceaccount", name, "--namespace", namespace];
            let asked = self.plane.kubectl(&[&["get", "--output=json"], &account[..]].concat());
            (asked.code == 0).then_some(())
        });
    }

    /// A new namespace for a test.
    pub fn namespace(&self, name: &str) -> String {
        self.plane.namespace(name, &json!({}))
    }

    /// `kubectl` in a namespace, as the administrator.
    pub fn kubectl(&self, namespace: &str, arguments: &[&str]) -> Said {
        self.plane.kubectl(&[&["--namespace", namespace], arguments].concat())
    }

    /// Creates a pod of this name and returns the stored object.
    pub fn pod(&self, namespace: &str, name: &str, mut pod: Value) -> Value {
        pod["metadata"]["name"] = json!(name);
        self.plane.create(&pod, &["--namespace", namespace]).json()
    }

    /// The stored pod.
    pub fn stored(&self, namespace: &str, name: &str) -> Value {
        self.plane.get(&["pod", name, "--namespace", namespace])
    }
}

/// What the gate and the cluster have at the start: the documents of the corpus, and those of these tests.
pub fn setup() -> Setup {
    let mut setup = corpus::setup();
    for name in [BEFORE, GRANTED, UNMUTATED, UNANSWERED, LOW, HIGH, ONLY_MAX, CLAMPED] {
        setup.objects.insert(0, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    for (name, handler) in [("kata", "kata"), ("sneaky", "wasmtime")] {
        if !corpus::has_class(&setup.objects, name) {
            setup.objects.push(class(name, handler, &json!({})));
        }
    }
    setup.objects.extend(limit_ranges());
    setup.configuration = configuration();
    // Not a class on which programs are placed by default, so that the corpus is unaffected.
    let more = json!({"overhead": {"podFixed": {"cpu": "10m", "memory": "24Mi"}},
        "scheduling": {"nodeSelector": {"example.com/zone": "a"},
            "tolerations": [{"key": "wasm", "operator": "Exists", "effect": "NoSchedule"}]}});
    setup.objects.push(class("wasmtime-clamped", "clamped", &json!({})));
    setup.objects.push(class("wasmtime-with-overhead", "wasmtime", &more));
    setup.objects.push(json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "orders", "namespace": GRANTED},
        "spec": {"subjects": {"serviceAccounts": ["orders"]}, "capabilities": [
            {"name": "fs", "paths": ["/data"]}, {"name": "native.exec"}, {"name": "net.dns"},
            {"name": "http.outbound", "hosts": ["https://payments.example.com"]},
            {"name": "http.inbound"}, {"name": "trigger", "names": ["http"]},
            {"name": "env", "names": ["SPIN_*"], "secrets": true}]}}));
    setup
}

/// The built-in runtimes, and one more that clamps.
fn configuration() -> String {
    let Runtimes { mut profiles, placement } = Runtimes::default();
    let sizing = Sizing { mode: SizingMode::Clamp, ..Sizing::default() };
    profiles.push(Profile {
        name: "clamped".into(),
        runtime_class: "wasmtime-clamped".into(),
        aliases: BTreeSet::new(),
        sizing,
        ..profiles[0].clone()
    });
    format!("runtimes: {}\n", json!({"profiles": profiles, "placement": placement}))
}

fn limit_ranges() -> Vec<Value> {
    let range = |namespace: &str, items: Value| {
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "sizes", "namespace": namespace},
            "spec": {"limits": items}})
    };
    let item = |side: &str, bound: &str, default: &str| {
        let default = json!({"memory": default});
        json!([{"type": "Container", "defaultRequest": default, "default": default, side: {"memory": bound}}])
    };
    let only_max = json!([
        {"type": "Container", "max": {"memory": "100Mi", "cpu": "2"}, "min": {"cpu": "20m"}},
        {"type": "Pod", "max": {"memory": "1Gi"}},
    ]);
    vec![
        range(LOW, item("max", "24Mi", "20Mi")),
        range(HIGH, item("min", "64Mi", "80Mi")),
        range(ONLY_MAX, only_max),
    ]
}

pub fn class(name: &str, handler: &str, more: &Value) -> Value {
    let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler});
    class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    class
}

/// Name of one of the images for these tests.
pub fn image(name: &str) -> String {
    format!("{}/{name}:v1", images::HOST)
}

/// A pod of one container `app` that is handed nothing.
pub fn plain(name: &str) -> Value {
    bare_pod(&image(name), &json!({}))
}

/// A pod whose container is handed a volume, without a grant.
pub fn handed_a_volume(image: &str) -> Value {
    let mut pod = bare_pod(image, &json!({}));
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    pod
}

/// Text of the validating webhook's refusal by a rule.
pub fn assert_denied(said: Said, rule: &str) -> String {
    let text = said.refused();
    assert!(
        text.contains("admission webhook \"validate.wasmgate.dev\" denied the request")
            && text.contains(&format!("[{rule}]")),
        "{rule}: {text}"
    );
    text
}

/// The image of the first container.
pub fn first_image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}
