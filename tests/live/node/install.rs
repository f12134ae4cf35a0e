//! The gate as users install it: its image is built without Docker and pushed, the commands of `docs/operations.md` are
//! applied, and its replicas run on the real node and judge what runs beside them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{NODE, layers};
use crate::support::control_plane::{ControlPlane, Options};
use crate::support::live_gate::bare_pod;
use crate::support::node::{ADDRESS, Node};
use crate::support::oci::{Image, ImageBuilder, fixtures};
use crate::support::process::{own, program, root};
use crate::support::registry::Registry;

/// Longer than the usual patience: two replicas start one after the other's certificate.
const ROLLOUT: &str = "--timeout=240s";

struct Installed {
    plane: ControlPlane,
    node: Node,
    registry: Registry,
}

impl Installed {
    fn start() -> Self {
        let plane = ControlPlane::start_with(&Options { node: Some(NODE.into()), ..Options::default() });
        let registry = Registry::start_below(plane.home().path());
        let node = Node::join(&plane, &registry, NODE);
        Self { plane, node, registry }
    }

    /// The registry as pods and the node name it.
    fn host(&self) -> String {
        format!("{ADDRESS}:{}", self.registry.host.rsplit(':').next().unwrap())
    }

    /// `make image PUSH=…`, but for the release build. The same program in an image of another time is another build.
    fn push_gate(&self, version: &str, time: &str) {
        let mut build = own("tools/image/build", &[]);
        build.args(["--binary", env!("CARGO_BIN_EXE_wasmgate"), "--no-sbom", "--any-size", "--insecure"]);
        build.arg("--out").arg(self.plane.home().path().join("image")).env("SOURCE_DATE_EPOCH", time);
        let name = self.registry.image(&format!("platform/wasmgate:{version}"));
        let built = build.args(["--push", &name]).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }

    /// A folder of the platform's own, as the page describes it, with the registry allowed.
    fn kustomization(&self) -> PathBuf {
        let folder = fs::canonicalize(self.plane.home().path()).unwrap().join("platform");
        fs::create_dir(&folder).unwrap();
        let host = self.host();
        let allow = format!("images:\n  registries: {{allow: [\"{host}\"], insecure: [\"{host}\"]}}\n");
        let config = fs::read_to_string(root().join("manifests/install/config.yaml")).unwrap();
        fs::write(folder.join("config.yaml"), config.replacen("images:\n", &allow, 1)).unwrap();
        let up = "../".repeat(folder.components().count() - 1);
        let manifests = format!("{up}{}", root().join("manifests").display()).replace("//", "/");
        fs::write(
            folder.join("kustomization.yaml"),
            format!(
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{manifests}]\nimages:\n  \
                 - {{name: wasmgate, newName: \"{host}/platform/wasmgate\", newTag: 0.1.0}}\nconfigMapGenerator:\n  \
                 - {{name: wasmgate, namespace: wasmgate-system, behavior: replace, files: [config.yaml]}}\n"
            ),
        )
        .unwrap();
        folder
    }

    fn push(&self, name: &str, image: &Image) -> String {
        let folder = tempfile::tempdir().unwrap();
        image.write_layout(folder.path(), "1").unwrap();
        let layout = folder.path().to_str().unwrap();
        self.registry.crane(root(), &["push", layout, &self.registry.image(&format!("{name}:1"))]);
        format!("{}/{name}:1", self.host())
    }

    fn install(&self) {
        let folder = self.kustomization();
        self.plane.kubectl(&["apply", "--kustomize", folder.to_str().unwrap()]).ok();
        self.rolled_out();
    }

    fn rolled_out(&self) {
        let rolled = self.plane.kubectl(&[
            "rollout",
            "status",
            "deployment/wasmgate",
            "--namespace=wasmgate-system",
            ROLLOUT,
            "--request-timeout=300s",
        ]);
        let pods = self.plane.kubectl(&["describe", "pods", "--namespace=wasmgate-system"]).stdout;
        assert_eq!(rolled.code, 0, "{}{pods}\n{}", rolled.stderr, self.node.tail());
    }
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn what_the_manual_says_ends_in_replicas_that_judge_the_pods_beside_them_and_then_in_none() {
    let site = Installed::start();
    site.push_gate("0.1.0", "1");
    site.install();
    two_replicas_run(&site);
    a_wasm_pod_is_pinned_and_runs(&site);
    a_pod_without_its_grant_is_denied(&site);
    removed(&site);
}

/// The node's name, and which images they run.
fn two_replicas_run(site: &Installed) -> Vec<String> {
    let replicas = site.plane.list(&["pods", "--namespace=wasmgate-system"]);
    assert_eq!(replicas.len(), 2);
    for replica in &replicas {
        assert_eq!(replica["spec"]["nodeName"], NODE);
        assert_eq!(replica["status"]["containerStatuses"][0]["restartCount"], 0, "{replica}");
    }
    let image =
        |replica: &Value| replica["status"]["containerStatuses"][0]["imageID"].as_str().unwrap().to_string();
    replicas.iter().map(image).collect()
}

fn a_wasm_pod_is_pinned_and_runs(site: &Installed) {
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
        "handler": "wasmtime"});
    site.plane.apply(&class, &[]).ok();
    let image = layers("hello from beside the gate");
    let name = site.push("hello", &image);
    let mut pod = bare_pod(&name, &json!({}));
    pod["metadata"] = json!({"name": "hello", "namespace": "default"});
    pod["spec"]["containers"][0]["args"] = json!(["hello"]);
    site.plane.wait_for("the gate to see the class", || {
        let tried = site.plane.apply(&pod, &["--dry-run=server", "--output=json"]);
        (tried.code == 0 && tried.json()["spec"]["runtimeClassName"] == "wasmtime").then_some(())
    });
    site.plane.apply(&pod, &[]).ok();
    let logs = || site.plane.kubectl(&["logs", "--namespace=default", "hello"]).stdout;
    site.plane.wait_for("the pod to say something", || logs().contains("beside the gate").then_some(()));
    let ran = site.plane.get(&["pod", "hello", "--namespace=default"]);
    assert_eq!(ran["spec"]["containers"][0]["image"], format!("{name}@{}", image.digest));
}

fn a_pod_without_its_grant_is_denied(site: &Installed) {
    let name = site.push("opens-files", &ImageBuilder::wasm_artifact(&fixtures::file_command()).build());
    let mut pod = bare_pod(&name, &json!({}));
    pod["metadata"] = json!({"name": "opens-files", "namespace": "default"});
    pod["spec"]["containers"][0]["args"] = json!(["opens-files"]);
    let refused = site.plane.apply(&pod, &[]).refused();
    assert!(refused.contains("[host-process-in-reach]"), "{refused}");
}

/// The page's way: the registrations first, the definitions last.
fn removed(site: &Installed) {
    let registrations = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
    site.plane.kubectl(&["delete", registrations, "wasmgate"]).ok();
    let (install, definitions) = (root().join("manifests/install"), root().join("manifests/crds"));
    let install = ["delete", "--kustomize", install.to_str().unwrap(), "--ignore-not-found", ROLLOUT];
    site.plane.kubectl(&[&install[..], &["--request-timeout=300s"]].concat()).ok();
    site.plane.kubectl(&["delete", "--filename", definitions.to_str().unwrap()]).ok();
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings,\
                 customresourcedefinitions,namespaces";
    let left: Vec<Value> = site.plane.list(&[kinds]);
    let names = left.iter().map(|object| object["metadata"]["name"].as_str().unwrap());
    assert_eq!(names.filter(|name| name.contains("wasmgate")).collect::<Vec<_>>(), Vec::<&str>::new());
    let still = site.plane.get(&["pod", "hello", "--namespace=default"]);
    assert_eq!(still["status"]["phase"], "Running", "pods stay as they are");
}

// === Helm ===

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_release_of_the_chart_is_upgraded_and_its_node_drained_under_load_without_a_refused_pod_and_then_removed()
{
    let site = Installed::start();
    site.push_gate("0.1.0", "1");
    site.push_gate("0.1.1", "2");
    let host = site.host();
    let values = site.plane.home().path().join("values.yaml");
    let text = json!({"image": {"repository": format!("{host}/platform/wasmgate")},
        "config": {"images": {"registries": {"allow": [host], "insecure": [host]}}}});
    fs::write(&values, text.to_string()).unwrap();
    let values = ["--values", values.to_str().unwrap()];
    let chart = root().join("manifests/charts/wasmgate");
    let chart = ["wasmgate", chart.to_str().unwrap()];
    helm(&site, &[&["install"], &chart[..], &["--create-namespace"], &values].concat());
    site.rolled_out();
    let older = two_replicas_run(&site);
    a_wasm_pod_is_pinned_and_runs(&site);
    a_pod_without_its_grant_is_denied(&site);
    under_load(&site, "an upgrade", || {
        helm(&site, &[&["upgrade"], &chart[..], &values, &["--set=image.tag=0.1.1"]].concat());
        site.rolled_out();
        site.plane.wait_for("the older replicas to be gone", || {
            (site.plane.list(&["pods", "--namespace=wasmgate-system"]).len() == 2).then_some(())
        });
    });
    let newer = two_replicas_run(&site);
    assert!(newer.iter().all(|image| !older.contains(image)), "{older:?} {newer:?}");
    under_load(&site, "a drain", || drained(&site));
    removed_by_helm(&site);
}

fn helm(site: &Installed, arguments: &[&str]) {
    let output = Command::new(program("helm"))
        .args(arguments)
        .args(["--namespace=wasmgate-system", "--kubeconfig"])
        .arg(site.plane.kubeconfig())
        .env("HOME", site.plane.home().path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Creates pods one after the other while something is done: none may be refused, and none may miss the gate's changes.
fn under_load(site: &Installed, what: &str, done: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let mut pod = bare_pod(&format!("{}/hello:1", site.host()), &json!({}));
    pod["spec"]["containers"][0]["args"] = json!(["hello"]);
    let loaded = || {
        let mut created = 0_usize;
        while !over.load(Ordering::Relaxed) {
            let made = site.plane.create(&pod, &["--dry-run=server", "--namespace=default"]);
            assert_eq!(made.code, 0, "after {created} pods: {}", made.stderr);
            assert_eq!(made.json()["spec"]["runtimeClassName"], "wasmtime", "after {created} pods");
            created += 1;
        }
        created
    };
    std::thread::scope(|scope| {
        let load = [scope.spawn(loaded), scope.spawn(loaded)];
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(done));
        over.store(true, Ordering::Relaxed);
        let created: usize = load.map(|one| one.join().unwrap()).into_iter().sum();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        println!("{created} pods were created during {what}, none was refused");
        assert!(created >= 10, "{created} pods during {what}");
    });
}

/// There is no other node, so the replica that is evicted stays pending, and the budget keeps the other one.
fn drained(site: &Installed) {
    let drain = ["drain", NODE, "--pod-selector=app.kubernetes.io/name=wasmgate", "--delete-emptydir-data"];
    let said = site.plane.kubectl(&[&drain[..], &["--timeout=15s"]].concat());
    assert_ne!(said.code, 0, "{}", said.stdout);
    assert!(said.stderr.contains("violate the pod's disruption budget"), "{}", said.stderr);
    let replicas = site.plane.list(&["pods", "--namespace=wasmgate-system"]);
    let left = replicas.iter().filter(|replica| replica["status"]["phase"] == "Running");
    let ready = |replica: &&Value| replica["status"]["containerStatuses"][0]["ready"] == true;
    assert_eq!(left.filter(ready).count(), 1, "{replicas:#?}");
    site.plane.kubectl(&["uncordon", NODE]).ok();
    site.rolled_out();
}

/// The page's way: what Helm leaves is the definitions, and the namespace with the Secret and the Lease.
fn removed_by_helm(site: &Installed) {
    let registrations = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
    site.plane.kubectl(&["delete", registrations, "wasmgate"]).ok();
    helm(site, &["uninstall", "wasmgate", "--wait"]);
    site.plane.wait_for("the replicas to be gone", || {
        site.plane.list(&["pods", "--namespace=wasmgate-system"]).is_empty().then_some(())
    });
    let names = |kinds: &str| -> Vec<String> {
        let all = site.plane.list(&[kinds, "--all-namespaces"]).into_iter();
        let named = all.map(|object| {
            format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
        });
        let mut left: Vec<String> = named.filter(|name| name.contains("wasm")).collect();
        left.sort();
        left
    };
    let inside = "all,configmaps,secrets,serviceaccounts,leases,roles,rolebindings,networkpolicies,poddisruptionbudgets,\
                  resourcequotas";
    let around = "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings,\
                  customresourcedefinitions,namespaces";
    assert_eq!(names(inside), ["Lease/wasmgate", "Secret/wasmgate-certs"]);
    let definitions = ["clusterwasigrants", "wasiexceptions", "wasigrants"];
    let definitions = definitions.map(|name| format!("CustomResourceDefinition/{name}.wasmgate.dev"));
    assert_eq!(names(around), [&definitions[..], &["Namespace/wasmgate-system".to_string()]].concat());
    site.plane.kubectl(&["delete", "namespace", "wasmgate-system", "--request-timeout=120s"]).ok();
}
