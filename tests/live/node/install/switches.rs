//! The commands of the manual for a gate that is installed: pull secrets that it may read, the switches that stop it from refusing
//! pods, from the mildest on, and back again, and a configuration that is in force at once.

use serde_json::{Value, json};

use super::bundle::edit;
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
    let listed = site.run("platform", &inline("Remove", "kubectl get rolebindings -A "));
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

/// A command, or a piece of a configuration, in the text of a section or in a table there.
fn inline(heading: &str, start: &str) -> String {
    let page = section(heading);
    let (_, rest) = page.split_once(&format!("`{start}")).unwrap_or_else(|| panic!("no `{start}` in {page}"));
    format!("{start}{}", rest.split('`').next().unwrap_or_default())
}

/// One of the milder switches.
fn milder(start: &str) -> String {
    inline("Emergency switch", start)
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
    let mutating = inline("When the gate is away or slow", "kubectl get mutatingwebhookconfiguration ");
    let shown = site.run("platform", &mutating);
    assert!(shown.contains("reinvocationPolicy: IfNeeded"), "{shown}");
}

/// Changes the configuration in the platform's folder, and has it in force at once, by the commands of the page.
fn configured(site: &Installed, from: &str, to: &str) {
    edit(site, "config.yaml", from, to);
    let checked = site.run("platform", &inline("Install", "wasmgate check --config "));
    assert!(checked.contains("nothing is wrong"), "{checked}");
    site.run("platform", &commands("Install", "kubectl apply -k ."));
    let replicas = || -> Vec<Value> {
        let all = site.plane.list(&["pods", "--namespace=wasmgate-system"]);
        all.iter().map(|replica| replica["metadata"]["uid"].clone()).collect()
    };
    let before = replicas();
    site.run("platform", &commands("Install", "kubectl rollout restart "));
    site.run("platform", "kubectl rollout status deployment/wasmgate -n wasmgate-system");
    site.plane.wait_for("the replicas from before to be gone", || {
        replicas().iter().all(|replica| !before.contains(replica)).then_some(())
    });
}

/// A switch of the table that needs replicas with another configuration.
pub(super) fn have_one_rule_only_recorded_and_refuse_by_it_again(site: &Installed) {
    let switch = milder("enforcement: {rules: ");
    let (_, rules) = switch.trim_end_matches('}').split_once('{').expect("the key of a rule");
    let rules = format!("{rules}}}").replace("RULE", "host-process-in-reach");
    let (denies, records) = ("  default: deny\n", format!("  default: deny\n  {rules}\n"));
    is_refused(site, "default");
    configured(site, denies, &records);
    is_admitted(site, "default");
    configured(site, &records, denies);
    is_refused(site, "default");
}
