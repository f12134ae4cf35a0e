//! `wasmgate scan` on a real API server: with the rights that `docs/scan.md` lists and no others, on what the real controllers
//! made of the workloads.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::process::{root, wasmgate};
use crate::support::registry::Registry;
use crate::support::shared::Shared;

/// A control plane, a registry with the samples, and an account that may scan.
struct Scanned {
    plane: ControlPlane,
    registry: Registry,
}

static SCANNED: Shared<Scanned> = Shared::new(Scanned::start);

/// The `ClusterRole` of the page.
fn documented_role() -> Value {
    let page = std::fs::read_to_string(root().join("docs/scan.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let role = blocks.into_iter().find(|block| block.contains("kind: ClusterRole")).expect("a ClusterRole");
    serde_saphyr::from_str(role).unwrap()
}

impl Scanned {
    fn start() -> Self {
        let plane = ControlPlane::start();
        let definitions = root().join("manifests/crds");
        plane.kubectl(&["apply", "--filename", definitions.to_str().unwrap()]).ok();
        plane.kubectl(&["wait", "--for=condition=Established", "--all", "crd", "--timeout=60s"]).ok();
        plane.kubectl(&["create", "serviceaccount", "auditor", "--namespace=default"]).ok();
        plane.apply(&documented_role(), &[]).ok();
        bind(&plane, "auditor");
        let registry = Registry::start_below(plane.home().path());
        for name in ["hello", "files", "web"] {
            let layout = root().join("manifests/samples/images").join(name);
            registry.crane(
                root(),
                &["push", layout.to_str().unwrap(), &registry.image(&format!("samples/{name}:1"))],
            );
        }
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
            "handler": "wasmtime"});
        plane.apply(&class, &[]).ok();
        Self { plane, registry }
    }

    fn image(&self, name: &str) -> String {
        self.registry.image(&format!("samples/{name}:1"))
    }

    /// Applies a controller with this pod spec.
    fn apply(&self, namespace: &str, kind: &str, name: &str, image: &str, more: &Value) {
        let labels = json!({"app": name});
        let spec = json!({"automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": self.image(image), "args": ["x"]}]});
        let template = json!({"metadata": {"labels": labels}, "spec": spec});
        let (api_version, mut own) = match kind {
            "CronJob" => {
                let mut template = template;
                template["spec"]["restartPolicy"] = json!("Never");
                (
                    "batch/v1",
                    json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}}),
                )
            }
            _ => ("apps/v1", json!({"selector": {"matchLabels": labels}, "template": template})),
        };
        own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": own});
        self.plane.apply(&object, &[]).ok();
    }

    /// Exit code, standard output and standard error of a scan as an account.
    fn scan(&self, kubeconfig: &Path, more: &[&str]) -> (i32, String, String) {
        let output = wasmgate()
            .args(["scan", "--insecure-registry", &self.registry.host, "--kubeconfig"])
            .arg(kubeconfig)
            .args(more)
            .env_remove("WASMGATE_CONFIG")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn bind(plane: &ControlPlane, account: &str) {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wasmgate-scan"}});
    plane.apply(&binding, &[]).ok();
}

/// Versions of everything that could have been changed.
fn versions(plane: &ControlPlane, namespace: &str) -> Vec<Value> {
    let kinds = "pods,deployments,replicasets,statefulsets,cronjobs,jobs,wasigrants";
    let mut found: Vec<_> = plane
        .list(&[kinds, "--namespace", namespace])
        .into_iter()
        .map(|object| {
            json!([object["kind"], object["metadata"]["name"], object["metadata"]["resourceVersion"]])
        })
        .collect();
    found.sort_by_key(ToString::to_string);
    found
}

#[test]
fn a_cluster_is_scanned_with_the_documented_rights_and_nothing_in_it_changes() {
    let scanned = &SCANNED.get();
    let plane = &scanned.plane;
    let namespace = plane.namespace("scanned", &json!({}));
    scanned.apply(&namespace, "Deployment", "running", "hello", &json!({"replicas": 3}));
    scanned.apply(&namespace, "Deployment", "scaled-down", "files", &json!({"replicas": 0}));
    scanned.apply(&namespace, "StatefulSet", "linux", "web", &json!({"replicas": 2, "serviceName": "linux"}));
    scanned.apply(&namespace, "CronJob", "nightly", "hello", &json!({}));
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "files", "namespace": namespace},
        "spec": {"capabilities": [{"name": "native.exec"}], "expiresAt": "2099-01-01T00:00:00Z"}});
    plane.apply(&grant, &[]).ok();
    // A StatefulSet waits for its first pod to run before it makes the second, and here no pod runs.
    plane.wait_for("the pods of the controllers", || {
        (plane.list(&["pods", "--namespace", &namespace]).len() == 4).then_some(())
    });
    plane.kubectl(&["create", "job", "by-hand", "--from=cronjob/nightly", "--namespace", &namespace]).ok();
    plane.wait_for("the pod of the job", || {
        (plane.list(&["pods", "--namespace", &namespace]).len() == 5).then_some(())
    });
    let auditor = plane.account("default", "auditor");
    let before = versions(plane, &namespace);
    let (code, out, err) = scanned.scan(&auditor, &["-n", &namespace, "--all", "-o", "json"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let document: Value = serde_json::from_str(&out).unwrap();
    let summary = &document["summary"];
    assert_eq!(summary["pods"], 5, "{document}");
    assert_eq!(
        (&summary["templates"], &summary["copies"]),
        (&json!(4), &json!(3)),
        "two ReplicaSets and a Job are copies"
    );
    let workload = |kind: &str, name: &str| {
        let workloads = document["workloads"].as_array().unwrap();
        let found = workloads.iter().find(|one| one["kind"] == kind && one["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}: {document}")).clone()
    };
    let running = workload("Deployment", "running");
    assert_eq!((&running["pods"], &running["outcome"]), (&json!(3), &json!("denied")));
    let parts = running["judged"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "three pods of one template are one: {running}");
    assert_eq!((&parts[0]["what"], &parts[0]["outcome"]), (&json!("template"), &json!("admitted")));
    let broken: Vec<_> =
        parts[1]["violations"].as_array().unwrap().iter().map(|v| v["rule"].clone()).collect();
    assert!(broken.contains(&json!("runtime-mismatch")), "these pods were made without the gate: {broken:?}");
    let scaled = workload("Deployment", "scaled-down");
    assert_eq!(
        (&scaled["pods"], &scaled["outcome"]),
        (&json!(0), &json!("admitted")),
        "the cluster's grant counts: {scaled}"
    );
    assert_eq!(workload("CronJob", "nightly")["pods"], 1, "the pod of its Job");
    assert_eq!(workload("StatefulSet", "linux")["outcome"], "not-wasm");
    let grant = &document["grants"].as_array().unwrap()[0];
    assert_eq!(
        (&grant["grant"], &grant["expiresAt"]),
        (&json!("WasiGrant/files"), &json!("2099-01-01T00:00:00Z"))
    );
    assert_eq!(document["notJudged"], json!([]));
    assert_eq!(versions(plane, &namespace), before, "nothing was changed");

    for (form, sign) in [
        ("text", "Deployment/running"),
        ("yaml", "workloads:"),
        ("html", "<!DOCTYPE html>"),
        ("sarif", "\"fullyQualifiedName\""),
        ("junit", "<failure "),
        ("github", "::error title=runtime-mismatch "),
    ] {
        let (code, out, err) = scanned.scan(&auditor, &["-n", &namespace, "-o", form]);
        assert_eq!((code, err.as_str()), (1, ""), "{form}: {out}");
        assert!(out.contains(sign), "{form}: {out}");
    }
}

#[test]
fn without_a_right_the_scan_says_which_one_is_missing() {
    let scanned = &SCANNED.get();
    let plane = &scanned.plane;
    plane.kubectl(&["create", "serviceaccount", "all-but-pods", "--namespace=default"]).ok();
    let mut role = documented_role();
    role["metadata"]["name"] = json!("wasmgate-scan-without-pods");
    role["rules"].as_array_mut().unwrap().remove(0);
    plane.apply(&role, &[]).ok();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "all-but-pods"},
        "subjects": [{"kind": "ServiceAccount", "name": "all-but-pods", "namespace": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wasmgate-scan-without-pods"}});
    plane.apply(&binding, &[]).ok();
    let namespace = plane.namespace("partial", &json!({}));
    scanned.apply(&namespace, "Deployment", "web", "web", &json!({"replicas": 0}));
    let (code, out, err) =
        scanned.scan(&plane.account("default", "all-but-pods"), &["-n", &namespace, "--all"]);
    assert_eq!((code, err.as_str()), (3, ""), "{out}");
    for line in
        ["Deployment/web", "not judged: pods: forbidden: the ClusterRole lacks list on pods", "3 not judged"]
    {
        assert!(out.contains(line), "{out}");
    }
    plane.kubectl(&["create", "serviceaccount", "nothing", "--namespace=default"]).ok();
    let (code, out, err) = scanned.scan(&plane.account("default", "nothing"), &[]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(
        err.contains("could not read the cluster: ") && err.contains("lacks list on limitranges"),
        "{err}"
    );
}
