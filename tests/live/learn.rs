//! Requests that are learned, on a real API server: with the rights of the component and no others, from usage that the test invents. The
//! kinds of the metrics and of the VerticalPodAutoscaler are stand-ins with the names of the real ones, because no node runs here.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wasmgate::quantity::Quantity;

use crate::support::control_plane::ControlPlane;
use crate::support::live_gate::{LiveGate, Setup, bare_pod};
use crate::support::manifests::{NAMESPACE, kustomize};
use crate::support::process::{root, wasmgate};
use crate::support::registry::Registry;

/// Says something after two seconds, and forgets after eight.
const CONFIGURATION: &str = "kubernetes: {watch: true, lease: {duration: 3s}}\n\
    sizing: {learn: {enabled: true, raise: true, interval: 1s, halfLife: 2s, after: 2s}}\n";

/// The definition of a kind whose objects hold anything. The API server wants a word on kinds of its own groups.
fn stand_in(group: &str, version: &str, (kind, plural): (&str, &str)) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let names = json!({"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()});
    let version =
        json!({"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let annotations =
        json!({"api-approved.kubernetes.io": "unapproved, stands in for the real one in a test"});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": annotations},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}})
}

/// A control plane with the kinds and the rights, and the kubeconfig of the gate's account.
fn prepared() -> (ControlPlane, PathBuf) {
    let plane = ControlPlane::start();
    plane.apply(&stand_in("metrics.k8s.io", "v1beta1", ("PodMetrics", "pods")), &[]).ok();
    let autoscaler = ("VerticalPodAutoscaler", "verticalpodautoscalers");
    plane.apply(&stand_in("autoscaling.k8s.io", "v1", autoscaler), &[]).ok();
    let rights = kustomize("tests/fixtures/manifests/sizes");
    for kind in ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        let of_kind = rights.iter().filter(|((found, ..), _)| found == kind).map(|(_, object)| object);
        of_kind.for_each(|object| drop(plane.apply(object, &[]).ok()));
    }
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
        "handler": "wasmtime"});
    plane.apply(&class, &[]).ok();
    let account = plane.account(NAMESPACE, "wasmgate");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&account).unwrap()).unwrap();
    // As the pod's own namespace says where it runs.
    config["contexts"][0]["context"]["namespace"] = json!(NAMESPACE);
    let path = plane.home().path().join("learner.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    (plane, path)
}

/// A pod that a node says to run, and what it uses.
fn run(plane: &ControlPlane, namespace: &str, image: &str, memory: &str) -> Value {
    let made = plane.create(&bare_pod(image, &json!({})), &["--namespace", namespace]).json();
    let name = made["metadata"]["name"].as_str().unwrap();
    let pinned = &made["spec"]["containers"][0]["image"];
    let running = json!({"running": {"startedAt": "2026-06-01T00:00:00Z"}});
    let status = json!({"name": "app", "image": pinned, "imageID": pinned, "ready": true, "started": true, "restartCount": 0,
        "state": running});
    let patch = format!("--patch={}", json!({"status": {"phase": "Running", "containerStatuses": [status]}}));
    let arguments =
        ["patch", "pod", name, "--namespace", namespace, "--subresource=status", "--type=merge", &patch];
    plane.kubectl(&arguments).ok();
    let containers = json!([{"name": "app", "usage": {"cpu": "20m", "memory": memory}}]);
    let metrics = json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
        "metadata": {"name": name, "namespace": namespace}, "timestamp": "2026-06-01T00:00:00Z", "window": "15s",
        "containers": containers});
    plane.apply(&metrics, &[]).ok();
    made
}

fn requests(pod: &Value) -> (String, String) {
    let requests = &pod["spec"]["containers"][0]["resources"]["requests"];
    let of = |name: &str| requests[name].as_str().unwrap_or_default().to_owned();
    (of("memory"), of("cpu"))
}

/// What becomes of a pod, without making it.
fn tried(plane: &ControlPlane, namespace: &str, pod: &Value) -> Value {
    plane.create(pod, &["--dry-run=server", "--namespace", namespace]).json()
}

fn changed(pod: &Value) -> &str {
    pod["metadata"]["annotations"]["wasmgate.dev/changed"].as_str().unwrap_or_default()
}

#[test]
fn requests_follow_from_what_an_image_uses_and_are_forgotten_with_it() {
    let (plane, account) = prepared();
    let plane = &plane;
    let registry = Registry::start_below(plane.home().path());
    let image = registry.image("samples/hello:1");
    let layout = root().join("manifests/samples/images/hello");
    registry.crane(Path::new("."), &["push", layout.to_str().unwrap(), &image]);
    let flags = vec![format!("--kubeconfig={}", account.display())];
    let setup = Setup { flags, configuration: CONFIGURATION.into(), ..Setup::default() };
    let gate = LiveGate::start(plane, &registry, "learner", &setup);
    gate.register(plane, &image);
    let [shop, other] = ["shop", "other"].map(|name| plane.namespace(name, &json!({})));

    // Before anything is known.
    let first = run(plane, &shop, &image, "20Mi");
    let unlearned = requests(&first);
    assert!(!changed(&first).contains("learned"), "{first}");

    // Another pod of the image, in another namespace.
    let pod = bare_pod(&image, &json!({}));
    let learned = plane.wait_for("a learned request", || {
        let made = tried(plane, &other, &pod);
        changed(&made).contains("learned/app").then_some(made)
    });
    let amount = |text: &str| Quantity::parse(text).unwrap();
    let (memory, cpu) = requests(&learned);
    assert!(
        amount(&memory) >= Quantity::mebibytes(23) && amount(&memory) <= Quantity::mebibytes(26),
        "{learned}"
    );
    assert!(amount(&cpu).millis() >= 23 && amount(&cpu).millis() <= 26, "{learned}");
    let limits = |pod: &Value| pod["spec"]["containers"][0]["resources"]["limits"].clone();
    assert_eq!(limits(&learned), limits(&first));

    // A person's word.
    let mut own = pod.clone();
    own["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "11Mi", "cpu": "7m"}});
    assert_eq!(requests(&tried(plane, &other, &own)), ("11Mi".into(), "7m".into()));

    // What a person sees, and a command goes by.
    let known = plane.list(&["wasmusages"]);
    let [usage] = known.as_slice() else { panic!("{known:?}") };
    assert_eq!(
        (&usage["spec"]["runtime"], &usage["status"]["requests"]["memory"]),
        (&json!("wasmtime"), &json!(memory))
    );
    let pinned = first["spec"]["containers"][0]["image"].as_str().unwrap();
    assert!(pinned.ends_with(usage["spec"]["digest"].as_str().unwrap()), "{pinned} {usage}");
    explains(plane, &registry, &pod);

    // A workload that a VerticalPodAutoscaler sizes.
    let mut owned = pod.clone();
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders-5f6b", "uid": "u-1", "controller": true}]);
    assert_eq!(requests(&tried(plane, &other, &owned)), (memory, cpu));
    let autoscaler = json!({"apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
        "metadata": {"name": "orders", "namespace": other},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"}}});
    plane.apply(&autoscaler, &[]).ok();
    plane.wait_for("the autoscaler to be known", || {
        (requests(&tried(plane, &other, &owned)) == unlearned).then_some(())
    });
    assert!(changed(&tried(plane, &other, &pod)).contains("learned/app"), "it sizes no other pod");

    scaled(plane, &other, &pod, &unlearned);

    // The image runs no longer.
    let name = first["metadata"]["name"].as_str().unwrap();
    plane.kubectl(&["delete", "pod", name, "--namespace", &shop, "--grace-period=0", "--force"]).ok();
    plane.wait_for("the object to be deleted", || plane.list(&["wasmusages"]).is_empty().then_some(()));
    plane.wait_for("the profile's request again", || {
        (requests(&tried(plane, &other, &pod)) == unlearned).then_some(())
    });
    assert!(!gate.tail().contains("forbidden"), "{}", gate.tail());
}

/// A workload of which a HorizontalPodAutoscaler runs as many pods as keep their use at a part of their requests.
fn scaled(plane: &ControlPlane, namespace: &str, pod: &Value, unlearned: &(String, String)) {
    let mut owned = pod.clone();
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-5f6b", "uid": "u-1", "controller": true}]);
    let made = || tried(plane, namespace, &owned);
    assert!(changed(&made()).contains("learned/app"));
    let autoscaler = |target: &Value| {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "cart", "namespace": namespace},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}, "maxReplicas": 9,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}})
    };
    plane.apply(&autoscaler(&json!({"type": "Utilization", "averageUtilization": 60})), &[]).ok();
    plane.wait_for("the autoscaler that goes by requests", || {
        let made = made();
        (requests(&made) == *unlearned && !changed(&made).contains("learned")).then_some(())
    });
    assert!(changed(&tried(plane, namespace, pod)).contains("learned/app"), "it scales no other pod");
    plane.apply(&autoscaler(&json!({"type": "AverageValue", "averageValue": "40m"})), &[]).ok();
    plane.wait_for("the autoscaler that goes by amounts", || {
        changed(&made()).contains("learned/app").then_some(())
    });
}

/// The command of docs/sizing.md, and `explain` with its output.
fn explains(plane: &ControlPlane, registry: &Registry, pod: &Value) {
    let folder = plane.home().path().join("explained");
    std::fs::create_dir_all(folder.join("cluster")).unwrap();
    let usage = plane.kubectl(&["get", "wasmusages", "-o", "json"]).ok();
    std::fs::write(folder.join("cluster/usage.json"), usage).unwrap();
    let configuration = format!(
        "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\ncluster: cluster\n{}",
        "sizing: {learn: {enabled: true}}\n"
    );
    std::fs::write(folder.join("gate.yaml"), configuration).unwrap();
    let mut named = pod.clone();
    named["metadata"] = json!({"name": "orders", "namespace": "shop"});
    std::fs::write(folder.join("pod.json"), named.to_string()).unwrap();
    let mut command = wasmgate();
    command.args(["explain", "--config=gate.yaml", "-f", "pod.json"]).current_dir(&folder);
    command.arg(format!("--insecure-registry={}", registry.host));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("learned/app"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
