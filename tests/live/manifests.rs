//! The installation on a real API server. The gate's pods are created there but never run, so every request for the
//! webhooks meets an absent gate: a refusal shows that the request would have been sent, a success that it would not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Options, Said, free_ports};
use crate::support::manifests::{NAMESPACE, helm, installed, items, kustomize, object, read};
use crate::support::process::{program, root, wait_for, wasmgate};
use crate::support::shared::Shared;

const JUDGED: &str = "judged";

fn manifests(folder: &str) -> String {
    root().join(folder).display().to_string()
}

fn kustomized(plane: &ControlPlane, verb: &str, folder: &str, flags: &[&str]) -> Said {
    let path = format!("--kustomize={}", manifests(folder));
    plane.kubectl(&[&[verb, &path], flags].concat())
}

/// The namespace alone: a dry run does not create it, so nothing in it could be tried.
fn make_namespace(plane: &ControlPlane) {
    let namespace = object(&installed(), "Namespace", NAMESPACE).clone();
    plane.apply(&namespace, &[]).ok();
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "app", "image": "registry.example/app:1",
            "resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "20m"}}}]},
    })
}

fn create_in(plane: &ControlPlane, namespace: &str, object: &Value, flags: &[&str]) -> Said {
    plane.create(object, &[&["--namespace", namespace], flags].concat())
}

/// Services have no data plane here. With this flag the API server looks for endpoints itself, finds none and connects
/// nowhere.
fn start() -> ControlPlane {
    let apiserver = vec!["--enable-aggregator-routing=true".to_string()];
    ControlPlane::start_with(&Options { apiserver, ..Options::default() })
}

/// A control plane with the gate's manifests, and a pod that existed before.
static PLANE: Shared<ControlPlane> = Shared::new(|| {
    let plane = start();
    plane.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": JUDGED}}), &[]).ok();
    wait_for("the default ServiceAccount", || {
        let account = ["serviceaccount", "default", "--namespace", JUDGED];
        let asked = plane.kubectl(&[&["get", "--output=json"], &account[..]].concat());
        (asked.code == 0).then_some(())
    });
    create_in(&plane, JUDGED, &pod("old"), &[]).ok();
    kustomized(&plane, "apply", "manifests", &[]).ok();
    plane
});

fn patch_json(plane: &ControlPlane, kind: &str, patch: &Value) {
    plane.kubectl(&["patch", kind, "wasmgate", "--type=json", &format!("--patch={patch}")]).ok();
}

fn registrations(plane: &ControlPlane) -> usize {
    ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
        .into_iter()
        .map(|kind| plane.list(&[kind]).len())
        .sum()
}

// === install, again, remove ===

#[test]
fn everything_is_accepted_by_dry_run_and_for_real_and_a_second_apply_changes_nothing() {
    let plane = start();
    let before = plane.settled();
    make_namespace(&plane);
    let tried = kustomized(&plane, "apply", "manifests", &["--dry-run=server"]).ok();
    assert_eq!(tried.lines().count(), installed().len(), "{tried}");
    assert_eq!(registrations(&plane), 0, "a dry run");
    kustomized(&plane, "apply", "manifests", &[]).ok();
    assert_eq!(registrations(&plane), 2);
    let first = asked_for(&plane);
    kustomized(&plane, "apply", "manifests", &[]).ok();
    assert_eq!(asked_for(&plane), first);
    applying_again_keeps_the_ca_that_the_gate_wrote(&plane);
    the_emergency_switch_of_the_manual_admits_pods_at_once(&plane);
    removing_the_gate_leaves_no_webhook_and_every_grant(&plane);
    the_chart_is_installed_and_removed_without_a_trace(&plane);
    let made = ["urgent", "free"].map(|pod| format!("Pod default/{pod}"));
    plane.has_only(&before, &made);
}

/// The installed objects, without what controllers write into them. `kubectl apply` itself reports "configured" for a
/// budget that it did not change, because a list of its patch is replaced and not merged.
fn asked_for(plane: &ControlPlane) -> Vec<Value> {
    let mut objects =
        kustomized(plane, "get", "manifests", &["--output=json"]).json()["items"].as_array().unwrap().clone();
    assert_eq!(objects.len(), installed().len());
    for object in &mut objects {
        let object = object.as_object_mut().unwrap();
        object.remove("status");
        // A controller writes its revision into the annotations.
        object["metadata"] = json!({"name": object["metadata"]["name"], "generation": object["metadata"]["generation"],
            "labels": object["metadata"]["labels"]});
    }
    objects
}

fn ca(plane: &ControlPlane) -> Vec<Value> {
    let registration = plane.get(&["validatingwebhookconfiguration", "wasmgate"]);
    items(&registration["webhooks"]).map(|webhook| webhook["clientConfig"]["caBundle"].clone()).collect()
}

fn applying_again_keeps_the_ca_that_the_gate_wrote(plane: &ControlPlane) {
    let pem = rcgen::generate_simple_self_signed(["ca.example".to_string()]).unwrap().cert.pem();
    let bundle = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let patch: Vec<Value> = (0..2)
        .map(|index| json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle}))
        .collect();
    patch_json(plane, "validatingwebhookconfiguration", &json!(patch));
    kustomized(plane, "apply", "manifests", &[]).ok();
    kustomized(plane, "apply", "manifests", &["--server-side", "--force-conflicts"]).ok();
    assert_eq!(ca(plane), [json!(bundle), json!(bundle)]);
}

/// The commands of the first block under a heading of the manual.
fn commands_under(heading: &str) -> Vec<Vec<String>> {
    let manual = read("docs/operations.md");
    let section = manual.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let words = |line: &str| {
        let command = line.split('#').next().unwrap();
        command.split_whitespace().map(str::to_string).collect::<Vec<_>>()
    };
    block.lines().map(words).collect()
}

fn follow(plane: &ControlPlane, heading: &str) {
    let commands = commands_under(heading);
    assert!(!commands.is_empty());
    for command in commands {
        assert_eq!(command[0], "kubectl");
        let arguments: Vec<String> = command[1..]
            .iter()
            .map(|word| {
                word.strip_prefix("manifests/")
                    .map_or(word.clone(), |path| manifests(&format!("manifests/{path}")))
            })
            .collect();
        plane.kubectl(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    }
}

fn the_emergency_switch_of_the_manual_admits_pods_at_once(plane: &ControlPlane) {
    assert_sent(create_in(plane, "default", &pod("urgent"), &[]), VALIDATE);
    follow(plane, "Emergency switch");
    // The API server reads its registrations a moment later.
    wait_for("pods to be admitted", || {
        (create_in(plane, "default", &pod("urgent"), &[]).code == 0).then_some(())
    });
    kustomized(plane, "apply", "manifests", &[]).ok();
    wait_for("pods to be judged again", || {
        (create_in(plane, "default", &pod("again"), &["--dry-run=server"]).code != 0).then_some(())
    });
}

fn grant() -> Value {
    json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant", "metadata": {"name": "orders"},
        "spec": {"capabilities": [{"name": "fs", "paths": ["/data"], "access": "read-only"}]}})
}

fn removing_the_gate_leaves_no_webhook_and_every_grant(plane: &ControlPlane) {
    plane.apply(&grant(), &[]).ok();
    kustomized(plane, "delete", "manifests/install", &["--timeout=120s"]).ok();
    assert_eq!(registrations(plane), 0);
    assert_eq!(plane.kubectl(&["get", "namespace", NAMESPACE]).refused().matches("NotFound").count(), 1);
    create_in(plane, "default", &pod("free"), &[]).ok();
    assert_eq!(plane.list(&["wasigrants"]).len(), 1, "the platform's work stays");
    let everything = ["clusterroles", "clusterrolebindings", "--selector=app.kubernetes.io/name=wasmgate"];
    assert_eq!(plane.list(&[&everything[..1], &everything[2..]].concat()).len(), 0);
    assert_eq!(plane.list(&everything[1..]).len(), 0);
}

fn helm_on(plane: &ControlPlane, arguments: &[&str]) {
    let kubeconfig = plane.kubeconfig();
    let output = Command::new(program("helm"))
        .args(arguments)
        .args(["--namespace", NAMESPACE, "--kubeconfig", kubeconfig.to_str().unwrap()])
        .env("HOME", plane.home().path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn the_chart_is_installed_and_removed_without_a_trace(plane: &ControlPlane) {
    let chart = manifests("manifests/charts/wasmgate");
    helm_on(plane, &["install", "wasmgate", &chart, "--create-namespace"]);
    assert_eq!(registrations(plane), 2);
    helm_on(plane, &["upgrade", "wasmgate", &chart, "--set", "replicas=3"]);
    let deployment = plane.get(&["deployment", "wasmgate", "--namespace", NAMESPACE]);
    assert_eq!(deployment["spec"]["replicas"], 3);
    follow(plane, "Emergency switch");
    assert_eq!(registrations(plane), 1);
    helm_on(plane, &["upgrade", "wasmgate", &chart]);
    assert_eq!(registrations(plane), 2, "an upgrade makes again what was deleted");
    helm_on(plane, &["uninstall", "wasmgate"]);
    assert_eq!(registrations(plane), 0);
    assert_eq!(plane.list(&["wasigrants"]).len(), 1, "Helm never removes definitions");
    kustomized(plane, "apply", "manifests", &[]).ok();
    let own = rights_around(plane);
    for component in ["page", "reports", "sizes"] {
        kustomized(plane, "apply", &format!("tests/fixtures/manifests/{component}"), &[]).ok();
    }
    let added = rights_around(plane);
    assert!(own > 0 && added >= own + 6, "{own} and {added}: a role and a binding of each component");
    follow(plane, "Remove");
    assert_eq!(registrations(plane), 0);
    assert_eq!(plane.list(&["customresourcedefinitions"]).len(), 0);
    assert_eq!(rights_around(plane), 0, "the rights of components");
}

/// How many roles and bindings of the whole cluster are called like the gate.
fn rights_around(plane: &ControlPlane) -> usize {
    let all = plane.list(&["clusterroles,clusterrolebindings"]);
    all.iter().filter(|one| one["metadata"]["name"].as_str().unwrap().starts_with("wasmgate")).count()
}

#[test]
fn a_service_monitor_is_accepted_if_its_definition_is_installed() {
    let plane = &PLANE.get();
    let definition: PathBuf = root().join("tests/fixtures/manifests/servicemonitor-definition.yaml");
    plane.kubectl(&["apply", "--filename", definition.to_str().unwrap()]).ok();
    let wait =
        ["wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com", "--timeout=60s"];
    plane.kubectl(&wait).ok();
    let monitor = kustomize("tests/fixtures/manifests/servicemonitor");
    let monitor = object(&monitor, "ServiceMonitor", "wasmgate").clone();
    wait_for("the definition to be served", || (plane.apply(&monitor, &[]).code == 0).then_some(()));
    let mut misspelt = monitor;
    misspelt["spec"]["endpoints"][0]["ports"] = json!("metrics");
    let refused = plane.apply(&misspelt, &["--validate=strict"]).refused();
    assert!(refused.contains("ports"), "{refused}");
}

#[test]
fn the_api_server_accepts_every_option_of_the_chart() {
    let plane = &PLANE.get();
    let pem = rcgen::generate_simple_self_signed(["ca.example".to_string()]).unwrap().cert.pem();
    let ca = format!("certificates.caBundle={pem}");
    let variants: [&[&str]; 7] = [
        &["certificates.mode=files", &ca],
        &["priorityClassName=", "networkPolicy.enabled=false", "terminationGracePeriodSeconds=60"],
        &["criticalPodsQuota=0", "replicas=1", "image.pullSecrets[0].name=login", "image.tag=next"],
        &["pullSecrets.namespaces={default,kube-public}", "webhooks.exemptNamespaces={monitoring}"],
        &["serviceAccount.annotations.role=reader", "podAnnotations.note=yes", "podLabels.team=platform"],
        &[
            "tolerations[0].operator=Exists",
            "nodeSelector.pool=system",
            "networkPolicy.egressPorts={443,5000}",
        ],
        &[
            "extraVolumes[0].name=policies",
            "extraVolumes[0].configMap.name=policies",
            "extraVolumeMounts[0].name=policies",
            "extraVolumeMounts[0].mountPath=/policies",
        ],
    ];
    let plain = helm(&[]);
    for settings in variants {
        let rendered = helm(settings);
        assert_ne!(rendered, plain, "{settings:?}");
        let mut objects: Vec<Value> = rendered.into_values().collect();
        for object in &mut objects {
            // Parsed for comparing; a ConfigMap holds it as text.
            if let Some(config) = object.pointer_mut("/data/config.yaml") {
                *config = json!(config.to_string());
            }
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        plane.apply(&list, &["--dry-run=server"]).ok();
    }
}

// === rights and pod security ===

#[test]
fn the_account_may_do_what_it_needs_and_read_no_secret_without_a_role_binding() {
    let plane = &PLANE.get();
    let may = |arguments: &[&str]| {
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:wasmgate");
        let said = plane.kubectl(&[&["auth", "can-i", &account], arguments].concat());
        said.stdout.trim() == "yes"
    };
    for resource in ["runtimeclasses", "limitranges", "namespaces", "serviceaccounts", "wasigrants"] {
        assert!(may(&["watch", resource, "--all-namespaces"]), "{resource}");
        assert!(may(&["list", resource, "--all-namespaces"]), "{resource}");
        for verb in ["get", "update"] {
            assert!(!may(&[verb, resource, "--all-namespaces"]), "{verb} {resource}");
        }
    }
    assert!(may(&["create", "events.events.k8s.io", "--namespace", JUDGED]));
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        assert!(may(&["patch", &format!("{kind}/wasmgate")]) && may(&["watch", &format!("{kind}/wasmgate")]));
        assert!(!may(&["patch", &format!("{kind}/another")]));
        assert!(!may(&["delete", &format!("{kind}/wasmgate")]));
    }
    assert!(may(&["get", "secrets/wasmgate-certs", "--namespace", NAMESPACE]));
    assert!(!may(&["get", "secrets/another", "--namespace", NAMESPACE]));
    assert!(!may(&["list", "secrets", "--namespace", NAMESPACE]));
    assert!(!may(&["get", "secrets", "--namespace", JUDGED]));
    let account = format!("--serviceaccount={NAMESPACE}:wasmgate");
    let bind =
        ["create", "rolebinding", "wasmgate-pull-secrets", "--clusterrole=wasmgate-pull-secrets", &account];
    plane.kubectl(&[&bind[..], &["--namespace", "kube-public"]].concat()).ok();
    assert!(may(&["get", "secrets", "--namespace", "kube-public"]));
    assert!(!may(&["list", "secrets", "--namespace", "kube-public"]));
    assert!(!may(&["get", "secrets", "--namespace", JUDGED]), "and nowhere else");
}

#[test]
fn the_gates_own_pods_are_created_while_it_is_down_and_an_unprotected_pod_beside_them_is_not() {
    let plane = &PLANE.get();
    wait_for("both replicas", || {
        let pods =
            plane.list(&["pods", "--namespace", NAMESPACE, "--selector=app.kubernetes.io/name=wasmgate"]);
        (pods.len() == 2).then_some(())
    });
    let refused = create_in(plane, NAMESPACE, &pod("root"), &["--dry-run=server"]).refused();
    assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");
}

/// The installed configuration, for a gate that runs outside the cluster as the installed account.
fn beside(plane: &ControlPlane) -> (PathBuf, String) {
    let mut config = object(&installed(), "ConfigMap", "wasmgate")["data"]["config.yaml"].clone();
    let ports = free_ports(2);
    let probes = format!("127.0.0.1:{}", ports[1]);
    config["server"]["listen"] = json!(format!("127.0.0.1:{}", ports[0]));
    config["server"]["probes"] = json!(probes);
    config["server"]["certDir"] = json!(plane.home().path().join("certs"));
    config["images"]["store"] = json!(plane.home().path().join("images.redb"));
    config["policies"]["compiledDir"] = json!(plane.home().path().join("compiled"));
    config["kubernetes"]["kubeconfig"] = json!(plane.account(NAMESPACE, "wasmgate"));
    let path = plane.home().path().join("config.yaml");
    std::fs::write(&path, config.to_string()).unwrap();
    (path, probes)
}

/// First line of an answer, if any.
fn status_of(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().next().map(str::to_string)
}

/// Nothing that the gate does with the cluster lacks a right in the installation.
#[test]
fn the_installed_account_and_configuration_are_all_that_a_gate_needs() {
    let plane = start();
    kustomized(&plane, "apply", "manifests", &[]).ok();
    let (config, probes) = beside(&plane);
    let mut command = wasmgate();
    command.args(["serve", "--config", config.to_str().unwrap()]);
    command.env("POD_NAMESPACE", NAMESPACE).env("POD_NAME", "wasmgate-0");
    let gate = plane.home().start("gate", &command);
    for path in ["/livez", "/readyz"] {
        let what = format!("{path} of the gate\n");
        wait_for(&what, || status_of(&probes, path).filter(|line| line.contains(" 200 ")));
    }
    wait_for("the CA in every webhook", || {
        let mutating = plane.get(&["mutatingwebhookconfiguration", "wasmgate"])["webhooks"].take();
        let validating = plane.get(&["validatingwebhookconfiguration", "wasmgate"])["webhooks"].take();
        let written = |webhook: &Value| !webhook["clientConfig"]["caBundle"].is_null();
        (items(&mutating).all(written) && items(&validating).all(written)).then_some(())
    });
    let secret = plane.get(&["secret", "wasmgate-certs", "--namespace", NAMESPACE]);
    let keys: Vec<&String> = secret["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
    plane.get(&["lease", "wasmgate", "--namespace", NAMESPACE]);
    assert!(!gate.log().contains("forbidden"), "{}", gate.log());
}

// === what is sent to the gate ===

fn assert_sent(said: Said, webhook: &str) {
    let refused = said.refused();
    let called = refused.contains(&format!("failed calling webhook \"{webhook}\""));
    assert!(called && refused.contains("no endpoints available"), "{refused}");
}

const VALIDATE: &str = "validate.wasmgate.dev";
const TEMPLATES: &str = "templates.wasmgate.dev";

#[test]
fn every_request_about_a_pod_of_a_judged_namespace_is_sent_to_the_gate() {
    let plane = &PLANE.get();
    assert_sent(create_in(plane, JUDGED, &pod("new"), &[]), VALIDATE);
    assert_sent(create_in(plane, JUDGED, &pod("new"), &["--dry-run=server"]), VALIDATE);
    let mut named = pod("new");
    named["metadata"] = json!({"generateName": "new-", "labels": {"wasmgate.dev/enforce": "audit"}});
    assert_sent(create_in(plane, JUDGED, &named, &[]), VALIDATE);
    let applied = plane.apply(&pod("new"), &["--server-side", "--namespace", JUDGED]);
    assert_sent(applied, VALIDATE);
    let old = ["--namespace", JUDGED];
    let image = ["set", "image", "pod/old", "app=registry.example/app:2"];
    assert_sent(plane.kubectl(&[&image[..], &old].concat()), VALIDATE);
    let debug = ["debug", "pod/old", "--image=registry.example/shell:1", "--profile=general"];
    assert_sent(plane.kubectl(&[&debug[..], &old].concat()), VALIDATE);
    let size = r#"--patch={"spec":{"containers":[{"name":"app","resources":{"limits":{"cpu":"30m"}}}]}}"#;
    let resize = ["patch", "pod", "old", "--subresource=resize", size];
    assert_sent(plane.kubectl(&[&resize[..], &old].concat()), VALIDATE);
    let handler = ["annotate", "pod", "old", "run.oci.handler=wasm"];
    assert_sent(plane.kubectl(&[&handler[..], &old].concat()), VALIDATE);
}

#[test]
fn updates_that_change_no_spec_succeed_while_the_gate_is_down() {
    let plane = &PLANE.get();
    let old = |arguments: &[&str]| plane.kubectl(&[arguments, &["--namespace", JUDGED]].concat()).ok();
    old(&["label", "pod", "old", "seen=yes"]);
    old(&["annotate", "pod", "old", "note=yes"]);
    old(&[
        "patch",
        "pod",
        "old",
        "--type=merge",
        r#"--patch={"metadata":{"finalizers":["example.com/hold"]}}"#,
    ]);
    old(&["patch", "pod", "old", "--type=merge", r#"--patch={"metadata":{"finalizers":null}}"#]);
    let status = r#"--patch={"status":{"phase":"Running"}}"#;
    old(&["patch", "pod", "old", "--subresource=status", "--type=merge", status]);
    create_in(plane, "kube-system", &pod("control"), &["--dry-run=server"]).ok();
}

#[test]
fn a_mirror_pod_is_left_alone_only_if_a_node_creates_it() {
    let plane = &PLANE.get();
    plane
        .kubectl(&[
            "create",
            "clusterrolebinding",
            "node-agent",
            "--clusterrole=cluster-admin",
            "--user=node-agent",
        ])
        .ok();
    let mut mirror = pod("mirror");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "forged"});
    mirror["spec"]["nodeName"] = json!("nowhere");
    mirror["spec"]["automountServiceAccountToken"] = json!(false);
    assert_sent(create_in(plane, JUDGED, &mirror, &["--dry-run=server"]), VALIDATE);
    let node = ["--dry-run=server", "--as=node-agent", "--as-group=system:nodes"];
    create_in(plane, JUDGED, &mirror, &node).ok();
    assert_sent(create_in(plane, JUDGED, &pod("plain"), &node), VALIDATE);
}

/// One object of every kind with a pod template, and the path of the template.
fn templates() -> Vec<(Value, &'static str)> {
    let of = |version: &str, kind: &str, spec: Value| {
        let name = kind.to_lowercase();
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
    };
    let labels = json!({"app": "template"});
    let template = |restart: &str| {
        let mut spec = pod("template")["spec"].clone();
        spec["restartPolicy"] = json!(restart);
        json!({"metadata": {"labels": labels}, "spec": spec})
    };
    let always = json!({"selector": {"matchLabels": labels}, "template": template("Always"), "replicas": 0});
    let without = |key: &str| {
        let mut spec = always.clone();
        spec.as_object_mut().unwrap().remove(key);
        spec
    };
    let mut daemons = without("replicas");
    daemons["template"]["spec"]["nodeSelector"] = json!({"none": "such"});
    let job = json!({"suspend": true, "template": template("Never")});
    let cron = json!({"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": template("Never")}}});
    let mut named = of("v1", "PodTemplate", Value::Null);
    named.as_object_mut().unwrap().remove("spec");
    named["template"] = template("Always");
    let mut controller = always.clone();
    controller["selector"] = labels.clone();
    vec![
        (named, "/template"),
        (of("v1", "ReplicationController", controller), "/spec/template"),
        (of("apps/v1", "Deployment", always.clone()), "/spec/template"),
        (of("apps/v1", "ReplicaSet", always.clone()), "/spec/template"),
        (of("apps/v1", "StatefulSet", always.clone()), "/spec/template"),
        (of("apps/v1", "DaemonSet", daemons), "/spec/template"),
        (of("batch/v1", "Job", job), "/spec/template"),
        (of("batch/v1", "CronJob", cron), "/spec/jobTemplate/spec/template"),
    ]
}

fn policy_of_templates(plane: &ControlPlane, policy: &str) {
    let patch = json!([
        {"op": "test", "path": "/webhooks/1/name", "value": TEMPLATES},
        {"op": "replace", "path": "/webhooks/1/failurePolicy", "value": policy},
    ]);
    patch_json(plane, "validatingwebhookconfiguration", &patch);
}

/// With `Ignore` a template is accepted whether it was sent or not; with `Fail` the difference shows.
#[test]
fn templates_are_taken_while_the_gate_is_away_and_sent_to_it_when_their_pods_would_change() {
    let plane = &PLANE.get();
    let templates = templates();
    for (object, _) in &templates {
        create_in(plane, JUDGED, object, &[]).ok();
    }
    policy_of_templates(plane, "Fail");
    // The API server reads a changed registration a moment later.
    wait_for("the other policy to be in force", || {
        let mut fresh = templates[2].0.clone();
        fresh["metadata"]["name"] = json!("fresh");
        (create_in(plane, JUDGED, &fresh, &["--dry-run=server"]).code != 0).then_some(())
    });
    for (object, at) in &templates {
        let kind = object["kind"].as_str().unwrap();
        let mut fresh = object.clone();
        fresh["metadata"]["name"] = json!("fresh");
        assert_sent(create_in(plane, JUDGED, &fresh, &["--dry-run=server"]), TEMPLATES);
        fresh["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Owner", "name": "o", "uid": "u",
            "controller": true}]);
        create_in(plane, JUDGED, &fresh, &["--dry-run=server"]).ok();
        let name = kind.to_lowercase();
        plane.kubectl(&["annotate", kind, &name, "note=yes", "--namespace", JUDGED]).ok();
        // The template of a Job is immutable, which the API server checks before it calls any webhook.
        if kind != "Job" {
            let path = format!("{at}/metadata/annotations");
            let patch = json!([{"op": "add", "path": path, "value": {"changed": "yes"}}]);
            let patch = format!("--patch={patch}");
            let changed = ["patch", kind, &name, "--type=json", &patch, "--namespace", JUDGED];
            assert_sent(plane.kubectl(&changed), TEMPLATES);
        }
    }
    plane.kubectl(&["scale", "deployment/deployment", "--replicas=2", "--namespace", JUDGED]).ok();
    policy_of_templates(plane, "Ignore");
}
