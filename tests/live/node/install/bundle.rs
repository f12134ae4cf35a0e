//! A signed bundle of the platform's own, in a ConfigMap: `docs/bundles.md`, "Into a cluster". What the page says is run as it is
//! written there, by kustomize with a volume for `policies.store` and by the chart without one.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Installed, block, section_of};
use crate::support::control_plane::Said;
use crate::support::live_gate::bare_pod;
use crate::support::process::ask_patiently;

/// The user and group of the gate's processes (`manifests/install/deployment.yaml`).
const GATE: u32 = 65532;

fn page() -> String {
    section_of("docs/bundles.md", "Into a cluster")
}

fn commands(start: &str) -> String {
    block(&page(), "sh", start)
}

/// The installation of the page, with the component and the configuration, and with the claim that the component mounts.
pub(super) fn is_brought_in_by_kustomize_and_replaced(site: &Installed) {
    let volume = make_claim(site);
    is_brought_in_and_replaced(site, || {
        let component = block(&page(), "yaml", "components: ");
        edit(site, "kustomization.yaml", "components: []", component.trim_end());
        let example = block(&page(), "yaml", "apiVersion: wasmgate.dev/v1alpha1");
        let (_, policies) = example.split_once("policies:\n").unwrap();
        edit(site, "config.yaml", "policies:\n", &format!("policies:\n{policies}"));
        site.run("platform", &commands("kubectl apply -k ."));
    });
    let kept: Vec<_> = fs::read_dir(volume.join("kept")).unwrap().collect();
    assert!(!kept.is_empty(), "the volume holds the last good bundle");
}

/// The chart's values; without a claim the last good bundle is kept in the pod.
pub(super) fn is_brought_in_by_the_chart_and_replaced(site: &Installed) {
    is_brought_in_and_replaced(site, || {
        site.run("wasmgate", &commands("helm upgrade wasmgate "));
    });
}

/// Brings version one in by the page's commands, `configured` being the way, then version two, and sees that each decides.
fn is_brought_in_and_replaced(site: &Installed, configured: impl FnOnce()) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    fs::write(site.folder("platform/release.key"), key.serialize_pem()).unwrap();
    fs::write(site.folder("platform/release-2026.pem"), key.public_key_pem()).unwrap();
    write_rules(site, "one");
    site.run("platform", &commands("wasmgate policy build rules --name our-rules --sequence 1 "));
    configured();
    site.plane
        .wait_for("the replicas without the bundle to be gone", || (replicas(site).len() == 2).then_some(()));
    is_in_force(site, "one");
    holds(site, "one", "two");
    let before = replicas(site);
    write_rules(site, "two");
    site.run("platform", &commands("wasmgate policy build rules --name our-rules --sequence 2 "));
    let replaced = Instant::now();
    is_in_force(site, "two");
    println!(
        "both replicas had the bundle {:.0} s after its ConfigMap was replaced",
        replaced.elapsed().as_secs_f64()
    );
    holds(site, "two", "one");
    assert_eq!(replicas(site), before, "the same processes as before");
}

/// A rule that refuses the pods with the label of its version, and no others.
fn write_rules(site: &Installed, version: &str) {
    let rule = format!(
        "package wasmgate\n\nviolations contains {{\"rule\": \"held\", \"message\": \"version {version} holds this pod\"}} if {{\n\
         \tinput.object.metadata.labels.hold == \"{version}\"\n}}\n"
    );
    let folder = site.folder("platform/rules");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("held.rego"), rule).unwrap();
}

/// What the page's command shows of both replicas.
fn is_in_force(site: &Installed, version: &str) {
    let ask = commands("for pod in ");
    let line =
        format!("[+]bundle/our-rules: from /etc/wasmgate-bundles/our-rules.tar.gz, revision {version}, ");
    let mut shown = String::new();
    let both = ask_patiently(|| {
        (_, shown) = site.tried("platform", &ask);
        (shown.matches(&line).count() == 2).then_some(())
    });
    assert!(both.is_some(), "`{line}` twice in\n{shown}\n{}\n{}", site.replicas(), site.node.tail());
}

/// A Wasm pod with the label `hold`, as far as the API server admits it.
fn tried(site: &Installed, hold: &str) -> Said {
    let mut pod = bare_pod(&format!("{}/hello:1", site.host()), &json!({}));
    pod["metadata"] =
        json!({"name": format!("held-{hold}"), "namespace": "default", "labels": {"hold": hold}});
    pod["spec"]["containers"][0]["args"] = json!(["hello"]);
    site.plane.apply(&pod, &["--dry-run=server"])
}

/// By the version in force, pods with its own label are refused, and those with the other's admitted.
fn holds(site: &Installed, version: &str, other: &str) {
    let refused = tried(site, version).refused();
    let reason = format!("version {version} holds this pod");
    assert!(refused.contains("[held]") && refused.contains(&reason), "{refused}");
    tried(site, other).ok();
}

/// Each replica with how often its container was started again.
fn replicas(site: &Installed) -> Vec<(String, Value)> {
    let all = site.plane.list(&["pods", "--namespace=wasmgate-system"]);
    let told = |replica: &Value| {
        let restarts = replica["status"]["containerStatuses"][0]["restartCount"].clone();
        (replica["metadata"]["uid"].as_str().unwrap().to_string(), restarts)
    };
    all.iter().map(told).collect()
}

/// A claim as the component asks for one: writable from several nodes, on a folder that belongs to the gate's user.
fn make_claim(site: &Installed) -> PathBuf {
    let folder = site.folder("volume");
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(GATE), Some(GATE)).unwrap();
    let (modes, size) = (json!(["ReadWriteMany"]), json!({"storage": "1Gi"}));
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "wasmgate-bundles"},
        "spec": {"accessModes": modes, "capacity": size, "storageClassName": "", "hostPath": {"path": folder}}});
    site.plane.apply(&volume, &[]).ok();
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "wasmgate-bundles", "namespace": "wasmgate-system"},
        "spec": {"accessModes": modes, "resources": {"requests": size}, "storageClassName": "",
            "volumeName": "wasmgate-bundles"}});
    site.plane.apply(&claim, &[]).ok();
    folder
}

/// Changes a file of the platform's own folder.
pub(super) fn edit(site: &Installed, file: &str, from: &str, to: &str) {
    let path = site.folder("platform").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "no `{from}` in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}
