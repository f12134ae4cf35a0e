//! The commands of the manual for a gate that is installed: pull secrets that it may read, and the switches that stop it from
//! refusing pods, from the mildest on, and back again.

use serde_json::{Value, json};

use super::{Installed, commands, section};
use crate::support::control_plane::Said;
use crate::support::live_gate::bare_pod;

/// The namespace of the page.
pub(super) const SHOP: &str = "shop";

/// What a pod without its grant is refused with.
const REFUSED: &str = "[host-process-in-reach]";

pub(super) fn give_the_right_to_pull_secrets(site: &Installed) {
    site.run("platform", &format!("kubectl create namespace {SHOP}"));
    let may = |secret: &str| {
        let account = "--as=system:serviceaccount:wasmgate-system:wasmgate";
        let asked = ["auth", "can-i", "get", &format!("secrets/{secret}"), "--namespace", SHOP, account];
        site.plane.kubectl(&asked).stdout.trim() == "yes"
    };
    assert!(!may("regcred") && !may("other"));
    site.run("platform", &commands("Install", "kubectl create role "));
    site.plane.wait_for("RBAC to know the Role", || may("regcred").then_some(()));
    assert!(!may("other"), "the narrower way is for one Secret");
    site.run("platform", &commands("Install", "kubectl create rolebinding "));
    site.plane.wait_for("RBAC to know the RoleBinding", || may("other").then_some(()));
}

/// What removing the gate leaves of that, found by the command of the page.
pub(super) fn rights_to_pull_secrets_that_are_left(site: &Installed) -> Vec<String> {
    let page = section("Remove");
    let (_, rest) = page.split_once("`kubectl get rolebindings -A ").expect("how they are found");
    let find = format!("kubectl get rolebindings -A {}", rest.split('`').next().unwrap_or_default());
    let listed = site.run("platform", &find);
    let bindings = ["wasmgate-pull-regcred", "wasmgate-pull-secrets"];
    assert!(bindings.iter().all(|name| listed.contains(name)), "{listed}");
    let bindings = bindings.map(|name| format!("RoleBinding/{name}"));
    [&["Role/wasmgate-pull-regcred".to_string()][..], &bindings[..]].concat()
}

/// A pod that opens files, of which no grant knows, as far as the API server admits it.
fn tried(site: &Installed, namespace: &str) -> Said {
    let mut pod = bare_pod(&format!("{}/opens-files:1", site.host()), &json!({}));
    pod["metadata"] = json!({"name": "switched", "namespace": namespace});
    pod["spec"]["containers"][0]["args"] = json!(["opens-files"]);
    site.plane.apply(&pod, &["--dry-run=server", "--output=json"])
}

fn is_refused(site: &Installed, namespace: &str) {
    site.plane.wait_for("the pod to be refused for what it can do", || {
        let said = tried(site, namespace);
        (said.code != 0 && said.stderr.contains(REFUSED)).then_some(())
    });
}

/// It is admitted, and placed all the same.
fn is_admitted(site: &Installed, namespace: &str) {
    let admitted = site.plane.wait_for("the pod to be admitted", || {
        let said = tried(site, namespace);
        (said.code == 0).then(|| said.json())
    });
    assert_eq!(admitted["spec"]["runtimeClassName"], "wasmtime");
}

/// A command of the table of milder switches.
fn milder(start: &str) -> String {
    let page = section("Emergency switch");
    let (_, rest) = page.split_once(&format!("| `{start}")).expect("the switch in the table");
    format!("{start}{}", rest.split('`').next().unwrap_or_default())
}

fn failure_policy(site: &Installed) -> Value {
    let registered = site.plane.get(&["validatingwebhookconfiguration", "wasmgate"]);
    assert_eq!(registered["webhooks"][0]["name"], "validate.wasmgate.dev");
    registered["webhooks"][0]["failurePolicy"].clone()
}

pub(super) fn stop_it_from_refusing_pods_and_have_it_refuse_them_again(site: &Installed) {
    site.plane.wait_until_pods_can_be_made(SHOP);
    is_refused(site, SHOP);
    site.run("platform", &milder("kubectl label namespace shop "));
    is_admitted(site, SHOP);
    is_refused(site, "default");
    site.run("platform", &format!("kubectl label namespace {SHOP} wasmgate.dev/enforce-"));
    is_refused(site, SHOP);
    assert_eq!(failure_policy(site), "Fail");
    site.run("platform", &milder("kubectl patch validatingwebhookconfiguration "));
    assert_eq!(failure_policy(site), "Ignore");
    is_refused(site, "default");
    site.run("platform", &commands("Emergency switch", "kubectl delete validatingwebhookconfiguration "));
    is_admitted(site, "default");
    // "To enforce again, apply the manifests": the gate writes its CA into the new object.
    site.run("platform", &commands("Install", "kubectl apply -k ."));
    is_refused(site, "default");
    assert_eq!(failure_policy(site), "Fail");
}
