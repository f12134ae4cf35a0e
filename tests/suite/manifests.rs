//! What a platform team installs: manifests and chart are the same objects, every field of the webhook configurations
//! has its reason, the rights are minimal, and the gate accepts the configuration.

mod memory_limit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::config::{self, Overrides, Settings};
use wasmgate::image::annotation::JUDGED_LATER;
use wasmgate::review::GroupVersionKind;
use wasmgate::workload::{Kind, Kinds};

use crate::support::manifests::{
    Key, NAMESPACE, Objects, helm, installed, items, kustomize, object, of_kind, read, rendered, run,
    template, text, words,
};
use crate::support::process::{root, wasmgate};

fn assert_same(left: &Objects, right: &Objects, names: &str) {
    let keys = |objects: &Objects| objects.keys().cloned().collect::<BTreeSet<_>>();
    let odd: Vec<Key> = keys(left).symmetric_difference(&keys(right)).cloned().collect();
    assert!(odd.is_empty(), "{names}: only on one side: {odd:?}");
    for (key, one) in left {
        assert_eq!(one, &right[key], "{names}: {key:?}");
    }
}

// === one installation in two forms ===

#[test]
fn the_chart_renders_to_the_objects_of_the_kustomization() {
    let mut manifests = installed();
    assert_same(&manifests, &helm(&["namespace.create=true"]), "kustomize and helm");
    // Helm creates the namespace itself.
    let namespace = ("Namespace".into(), String::new(), NAMESPACE.into());
    assert!(manifests.remove(&namespace).is_some());
    assert_same(&manifests, &helm(&[]), "kustomize and helm by default");
}

#[test]
fn the_components_are_the_options_of_the_chart() {
    for (component, setting) in [
        ("cert-manager", "certificates.mode=cert-manager"),
        ("servicemonitor", "serviceMonitor.enabled=true"),
        ("page", "page.enabled=true"),
    ] {
        let overlay = kustomize(&format!("tests/fixtures/manifests/{component}"));
        assert_ne!(overlay, installed(), "{component} changes something");
        assert_same(&overlay, &helm(&["namespace.create=true", setting]), component);
    }
}

#[test]
fn the_rights_for_reports_are_those_of_the_component_and_come_with_the_setting_of_the_chart() {
    let overlay = kustomize("tests/fixtures/manifests/reports");
    let mut rendered = helm(&["namespace.create=true", "config.reports.enabled=true"]);
    let config = ("ConfigMap".into(), NAMESPACE.into(), "wasmgate".into());
    let set = rendered.insert(config.clone(), overlay[&config].clone()).unwrap();
    assert_eq!(set["data"]["config.yaml"]["reports"], json!({"enabled": true}));
    assert_same(&overlay, &rendered, "reports");
    let file = config::parse("config.yaml", &set["data"]["config.yaml"].to_string()).unwrap();
    assert!(config::resolve(file, Overrides::default()).unwrap().file.reports.enabled);
}

/// The plurals of the kinds that a scan lists are regular.
fn may_list(role: &Value, group: &str, kind: &str) -> bool {
    let plural = format!("{}s", kind.to_lowercase());
    rules(role).any(|rule| {
        let [groups, resources, verbs] = ["apiGroups", "resources", "verbs"].map(|field| words(&rule[field]));
        groups.contains(group) && resources.contains(plural.as_str()) && verbs.contains("list")
    })
}

#[test]
fn whatever_scans_a_cluster_may_list_every_kind_that_is_scanned() {
    let page = read("docs/scan.md");
    let mut blocks = page.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap());
    let written: Value =
        serde_saphyr::from_str(blocks.find(|block| block.contains("kind: ClusterRole")).unwrap()).unwrap();
    let (reports, page) = (overlay("reports"), overlay("page"));
    for role in [
        &written,
        object(&reports, "ClusterRole", "wasmgate-reports"),
        object(&page, "ClusterRole", "wasmgate-page"),
    ] {
        for (group, kind) in wasmgate::workload::Kinds::default().all() {
            let name = &role["metadata"]["name"];
            assert!(may_list(role, group, kind), "{name} lacks {kind} of `{group}`");
        }
        assert!(may_list(role, "core.spinoperator.dev", "SpinApp") && !may_list(role, "", "Secret"));
        assert!(!role.to_string().contains('*'), "{role}");
    }
}

#[test]
fn the_rights_for_learned_sizes_are_those_of_the_component_and_come_with_the_setting_of_the_chart() {
    let overlay = kustomize("tests/fixtures/manifests/sizes");
    let mut rendered = helm(&["namespace.create=true", "config.sizing.learn.enabled=true"]);
    let config = ("ConfigMap".into(), NAMESPACE.into(), "wasmgate".into());
    let set = rendered.insert(config.clone(), overlay[&config].clone()).unwrap();
    assert_eq!(set["data"]["config.yaml"]["sizing"], json!({"learn": {"enabled": true}}));
    assert_same(&overlay, &rendered, "sizes");
    let file = config::parse("config.yaml", &set["data"]["config.yaml"].to_string()).unwrap();
    assert!(config::resolve(file, Overrides::default()).unwrap().file.sizing.learn.enabled);
}

#[test]
fn bundles_keys_and_their_store_are_mounted_alike_by_the_component_and_by_the_chart() {
    let overlay = kustomize("tests/fixtures/manifests/policy-bundles");
    let values = [
        "namespace.create=true",
        "policyBundles.configMap=wasmgate-bundles",
        "policyBundles.keysSecret=wasmgate-bundle-keys",
        "policyBundles.storeClaim=wasmgate-bundles",
    ];
    assert_same(&overlay, &helm(&values), "policy-bundles");
    let pod = &object(&overlay, "Deployment", "wasmgate")["spec"]["template"]["spec"];
    let mounted: BTreeSet<&str> =
        items(&pod["containers"][0]["volumeMounts"]).map(|mount| text(&mount["mountPath"])).collect();
    // What the page tells people to write is there.
    let page = read("docs/bundles.md");
    let mut blocks = page.split("```yaml\n").map(|block| block.split("```").next().unwrap());
    let example = blocks.find(|block| block.contains("/etc/wasmgate-keys")).unwrap();
    let file = config::parse("docs/bundles.md", example).unwrap();
    let policies = config::resolve(file, Overrides::default()).unwrap().file.policies;
    let keys = policies.keys.values().map(|key| key.file.parent().unwrap().to_path_buf());
    let bundles = policies.bundles.iter().map(|one| PathBuf::from(&one.from).parent().unwrap().to_path_buf());
    for folder in keys.chain(bundles).chain(policies.store) {
        let is_mounted = folder.ancestors().any(|above| mounted.contains(above.to_str().unwrap()));
        assert!(is_mounted, "{} in {mounted:?}", folder.display());
    }
}

#[test]
fn without_a_claim_the_patch_of_the_page_leaves_what_the_chart_mounts_then() {
    let page = read("docs/bundles.md");
    let block = |start: &str| {
        let mut blocks = page.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap());
        blocks.find(|block| block.starts_with(start)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let platform = folder.path().join("platform");
    std::fs::create_dir(&platform).unwrap();
    std::os::unix::fs::symlink(root(), folder.path().join("wasmgate")).unwrap();
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../wasmgate/manifests]\n{}{}",
        block("components:"),
        block("patches:")
    );
    std::fs::write(platform.join("kustomization.yaml"), text).unwrap();
    let values = [
        "namespace.create=true",
        "policyBundles.configMap=wasmgate-bundles",
        "policyBundles.keysSecret=wasmgate-bundle-keys",
    ];
    assert_same(&kustomize(platform.to_str().unwrap()), &helm(&values), "policy-bundles without a claim");
}

#[test]
fn removing_the_gate_by_its_own_folder_keeps_the_definitions_and_with_them_every_grant() {
    let all = installed();
    let gate = kustomize("manifests/install");
    assert!(of_kind(&gate, "CustomResourceDefinition").is_empty());
    let kept: Vec<&Key> = all.keys().filter(|key| !gate.contains_key(*key)).collect();
    assert!(kept.len() == 4 && kept.iter().all(|key| key.0 == "CustomResourceDefinition"), "{kept:?}");
}

/// What is in the namespace goes with it.
#[test]
fn what_a_component_adds_around_the_namespace_is_removed_by_the_commands_of_the_manual() {
    let command = "kubectl delete clusterroles,clusterrolebindings -l app.kubernetes.io/name=wasmgate ";
    assert!(read("docs/operations.md").contains(command), "{command}");
    let gate = kustomize("manifests/install");
    let mut removed = 0;
    for component in std::fs::read_dir(root().join("manifests/components")).unwrap() {
        let component = component.unwrap().file_name().into_string().unwrap();
        for (key, added) in &overlay(&component) {
            let (kind, namespace, name) = key;
            if namespace == NAMESPACE || kind == "CustomResourceDefinition" || gate.contains_key(key) {
                continue;
            }
            let right = ["ClusterRole", "ClusterRoleBinding"].contains(&kind.as_str());
            let labelled = added["metadata"]["labels"]["app.kubernetes.io/name"] == "wasmgate";
            assert!(right && labelled, "{component}: the {kind} {name} stays");
            removed += 1;
        }
    }
    assert!(removed >= 6, "{removed}: a role and a binding of the page, of reports and of sizes");
}

#[test]
fn the_chart_follows_its_namespace_and_refuses_a_misspelt_value() {
    let arguments = ["template", "gate", "manifests/charts/wasmgate", "--namespace", "gates"];
    let elsewhere = rendered(run("helm", &arguments));
    assert!(elsewhere.keys().all(|(_, namespace, _)| namespace.is_empty() || namespace == "gates"));
    let webhooks = &object(&elsewhere, "ValidatingWebhookConfiguration", "wasmgate")["webhooks"];
    for webhook in items(webhooks) {
        assert_eq!(webhook["clientConfig"]["service"]["namespace"], "gates");
        let left_out = words(&webhook["namespaceSelector"]["matchExpressions"][0]["values"]);
        assert_eq!(
            left_out,
            BTreeSet::from(["gates", "kube-system"]),
            "the namespace of the release, and not the default one"
        );
    }
    for wrong in ["replica=3", "webhooks.validate.failurepolicy=Ignore", "certificates.mode=manual"] {
        let refused = template(&[wrong]);
        assert!(!refused.status.success(), "{wrong}");
    }
}

#[test]
fn the_chart_binds_the_right_to_pull_secrets_where_it_is_told_to() {
    let objects = helm(&["pullSecrets.namespaces={shop,web}"]);
    for namespace in ["shop", "web"] {
        let key = ("RoleBinding".into(), namespace.to_string(), "wasmgate-pull-secrets".into());
        assert_eq!(objects[&key]["roleRef"]["name"], "wasmgate-pull-secrets");
        assert_eq!(objects[&key]["subjects"][0]["namespace"], NAMESPACE);
    }
}

#[test]
fn with_a_certificate_of_its_own_an_installation_has_no_right_to_write_one() {
    let objects = helm(&["certificates.mode=files", "certificates.caBundle=CABUNDLE"]);
    for (name, webhook) in webhooks(&objects) {
        assert_eq!(webhook["clientConfig"]["caBundle"], "Q0FCVU5ETEU=", "{name}");
    }
    let settings = settings(&objects);
    assert_eq!(settings.file.server.cert_file, Some(PathBuf::from("/run/wasmgate/certs/tls.crt")));
    let roles: Vec<&Key> = objects.keys().filter(|(kind, _, _)| kind.ends_with("Role")).collect();
    assert_eq!(roles.len(), 2, "what is watched, and what is bound to no account: {roles:?}");
    assert!(of_kind(&objects, "RoleBinding").is_empty());
}

#[test]
fn an_exempt_namespace_of_the_chart_is_exempt_in_the_webhooks_and_in_the_gate() {
    let objects = helm(&["webhooks.exemptNamespaces={monitoring}"]);
    for (_, webhook) in webhooks(&objects) {
        let left_out = words(&webhook["namespaceSelector"]["matchExpressions"][0]["values"]);
        assert!(left_out.contains("monitoring"), "{left_out:?}");
    }
    let config = &object(&objects, "ConfigMap", "wasmgate")["data"]["config.yaml"];
    assert_eq!(config["exemptNamespaces"], json!(["monitoring"]));
}

#[test]
fn every_value_of_the_chart_is_explained_and_in_its_schema() {
    let values = read("manifests/charts/wasmgate/values.yaml");
    let schema: Value = serde_json::from_str(&read("manifests/charts/wasmgate/values.schema.json")).unwrap();
    let parsed: Value = serde_saphyr::from_str(&values).unwrap();
    let mut known: BTreeSet<&str> =
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    known.remove("global");
    assert_eq!(known, parsed.as_object().unwrap().keys().map(String::as_str).collect());
    for block in values.split("\n\n").skip(1) {
        assert!(block.contains('#'), "explain `{}`", block.lines().next().unwrap());
    }
    let chart: Value = serde_saphyr::from_str(&read("manifests/charts/wasmgate/Chart.yaml")).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

// === the webhook configurations ===

/// Every webhook by name.
fn webhooks(objects: &Objects) -> BTreeMap<String, Value> {
    ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
        .into_iter()
        .flat_map(|kind| items(&object(objects, kind, "wasmgate")["webhooks"]))
        .map(|webhook| (text(&webhook["name"]).to_string(), webhook.clone()))
        .collect()
}

/// The requests that a webhook asks for, one per line.
fn asked(webhook: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for rule in items(&webhook["rules"]) {
        assert_eq!(rule["scope"], "Namespaced");
        for group in words(&rule["apiGroups"]) {
            for version in words(&rule["apiVersions"]) {
                for resource in words(&rule["resources"]) {
                    for operation in words(&rule["operations"]) {
                        lines.insert(format!("{operation} {group}/{version}/{resource}"));
                    }
                }
            }
        }
    }
    lines
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(ToString::to_string).collect()
}

#[test]
fn only_new_pods_are_mutated_and_the_mutating_webhook_fails_open() {
    let all = webhooks(&installed());
    let mutate = &all["mutate.wasmgate.dev"];
    assert_eq!(asked(mutate), set(&["CREATE /v1/pods"]), "everything else of a pod is immutable");
    assert_eq!(mutate["failurePolicy"], "Ignore", "safe, because the validating one fails closed");
    assert_eq!(all["validate.wasmgate.dev"]["failurePolicy"], "Fail");
    assert_eq!(mutate["reinvocationPolicy"], "IfNeeded", "others change the pod after us");
    assert_eq!(mutate["sideEffects"], "None", "it writes nothing anywhere");
    assert_eq!(mutate["clientConfig"]["service"]["path"], "/mutate");
}

#[test]
fn every_way_to_change_the_program_of_a_pod_is_judged() {
    let all = webhooks(&installed());
    let validate = &all["validate.wasmgate.dev"];
    let expected = [
        "CREATE /v1/pods",
        "UPDATE /v1/pods",
        "UPDATE /v1/pods/ephemeralcontainers",
        "UPDATE /v1/pods/resize",
    ];
    assert_eq!(asked(validate), set(&expected), "`pods` does not match subresources");
    assert_eq!(validate["sideEffects"], "NoneOnDryRun", "a refusal writes an Event");
}

#[test]
fn every_kind_with_a_pod_template_gets_warnings_and_is_never_refused() {
    let all = webhooks(&installed());
    let templates = &all["templates.wasmgate.dev"];
    let kinds = [
        ("", "v1", "podtemplates", "PodTemplate"),
        ("", "v1", "replicationcontrollers", "ReplicationController"),
        ("apps", "v1", "deployments", "Deployment"),
        ("apps", "v1", "replicasets", "ReplicaSet"),
        ("apps", "v1", "statefulsets", "StatefulSet"),
        ("apps", "v1", "daemonsets", "DaemonSet"),
        ("batch", "v1", "jobs", "Job"),
        ("batch", "v1", "cronjobs", "CronJob"),
    ];
    let described = [
        ("core.spinkube.dev", "v1alpha1", "spinapps", "SpinApp"),
        ("core.spinoperator.dev", "v1alpha1", "spinapps", "SpinApp"),
        ("serving.knative.dev", "v1", "services", "Service"),
        ("serving.knative.dev", "v1", "configurations", "Configuration"),
        ("argoproj.io", "v1alpha1", "rollouts", "Rollout"),
        ("keda.sh", "v1alpha1", "scaledjobs", "ScaledJob"),
        ("kubeflow.org", "*", "pytorchjobs", "PyTorchJob"),
        ("kubeflow.org", "*", "tfjobs", "TFJob"),
        ("kubeflow.org", "*", "mpijobs", "MPIJob"),
        ("kubeflow.org", "*", "xgboostjobs", "XGBoostJob"),
        ("kubeflow.org", "*", "paddlejobs", "PaddleJob"),
        ("kubeflow.org", "*", "jaxjobs", "JAXJob"),
        ("kubeflow.org", "*", "notebooks", "Notebook"),
        ("jobset.x-k8s.io", "*", "jobsets", "JobSet"),
        ("trainer.kubeflow.org", "*", "trainingruntimes", "TrainingRuntime"),
    ];
    let mut expected = BTreeSet::new();
    let known = Kinds::default();
    for (group, version, resource, kind) in kinds.into_iter().chain(described) {
        let named = GroupVersionKind { group: group.into(), version: version.into(), kind: kind.into() };
        assert!(known.of(&named).is_some_and(Kind::is_template), "the gate reads {kind}");
        expected.insert(format!("CREATE {group}/{version}/{resource}"));
        expected.insert(format!("UPDATE {group}/{version}/{resource}"));
    }
    assert_eq!(asked(templates), expected);
    assert_eq!(templates["failurePolicy"], "Ignore", "a warning is not worth an outage; the pods are judged");
}

#[test]
fn a_webhook_is_called_for_the_same_objects_in_every_version_and_answers_in_time() {
    let objects = installed();
    let all = webhooks(&objects);
    assert_eq!(all.len(), 3);
    let settings = settings(&objects);
    for (name, webhook) in &all {
        assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]), "{name}");
        assert_eq!(webhook["matchPolicy"], "Equivalent", "{name}");
        let timeout = Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap());
        assert!(settings.review_timeout < timeout, "{name}: the gate gives up first");
        let service = &webhook["clientConfig"]["service"];
        assert_eq!((text(&service["name"]), text(&service["namespace"])), ("wasmgate", NAMESPACE));
        let ports = items(&object(&objects, "Service", "wasmgate")["spec"]["ports"])
            .filter(|port| port["port"] == service["port"] && port["targetPort"] == "webhooks");
        assert_eq!(ports.count(), 1, "{name}");
        assert!(webhook["clientConfig"].get("caBundle").is_none(), "the gate writes it, applying keeps it");
    }
    let timeout = |name: &str| all[name]["timeoutSeconds"].as_u64().unwrap();
    let worst = 2 * timeout("mutate.wasmgate.dev") + timeout("validate.wasmgate.dev");
    assert!(worst < 10, "clients such as leader elections wait no longer, and not much is left for others");
}

#[test]
fn a_webhook_is_skipped_only_for_what_no_user_controls() {
    for (name, webhook) in webhooks(&installed()) {
        assert!(webhook.get("objectSelector").is_none(), "{name}: a label could skip the webhook");
        let selector = &webhook["namespaceSelector"];
        let by_name = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn",
            "values": ["kube-system", NAMESPACE]}]});
        assert_eq!(selector, &by_name, "{name}: the one label that the API server itself sets");
        for condition in items(&webhook["matchConditions"]) {
            let expression = text(&condition["expression"]);
            assert!(
                !expression.contains("labels") && !expression.contains("wasmgate.dev"),
                "{name}: {expression}"
            );
            // A user controls annotations too: they exclude a pod only if a node wrote it, and otherwise only include
            // more.
            let marked = expression.contains("annotations");
            let of_a_node = expression.starts_with("!('system:nodes' in request.userInfo.groups &&");
            let [variant, prefixes @ ..] = JUDGED_LATER;
            let later = prefixes.map(|start| format!("key.startsWith('{start}')")).join(" || ");
            let widens = expression.starts_with(&format!(
                "request.operation != 'UPDATE' || object.spec != oldObject.spec || (has(object.metadata.annotations) \
                 && object.metadata.annotations.exists(key, (key == '{variant}' || {later}) && "
            ));
            assert!(!marked || of_a_node || widens, "{expression}");
        }
        let conditions: Vec<&str> =
            items(&webhook["matchConditions"]).map(|condition| text(&condition["name"])).collect();
        let expected: &[&str] = match name.as_str() {
            "mutate.wasmgate.dev" => &["not-a-mirror-pod"],
            "validate.wasmgate.dev" => &["not-a-mirror-pod", "new-or-changed-spec"],
            _ => &["not-made-by-a-controller", "new-or-changed-template"],
        };
        assert_eq!(conditions, expected, "{name}");
    }
}

// === rights ===

fn overlay(component: &str) -> Objects {
    kustomize(&format!("tests/fixtures/manifests/{component}"))
}

fn rules(role: &Value) -> impl Iterator<Item = &Value> {
    items(&role["rules"])
}

#[test]
fn no_right_is_a_wildcard_and_none_reads_secrets_in_the_whole_cluster() {
    for objects in
        [installed(), overlay("cert-manager"), overlay("page"), overlay("reports"), overlay("sizes")]
    {
        let bound: BTreeSet<&str> = of_kind(&objects, "ClusterRoleBinding")
            .into_iter()
            .map(|binding| text(&binding["roleRef"]["name"]))
            .collect();
        assert!(!bound.is_empty() && !bound.contains("wasmgate-pull-secrets"), "{bound:?}");
        for role in [of_kind(&objects, "ClusterRole"), of_kind(&objects, "Role")].concat() {
            let name = text(&role["metadata"]["name"]);
            assert!(role.get("aggregationRule").is_none());
            let labels = role["metadata"]["labels"].as_object().unwrap();
            assert!(labels.keys().all(|key| !key.contains("aggregate-to")), "{name} widens no other role");
            for rule in rules(role) {
                assert!(!rule.to_string().contains('*'), "{name}: {rule}");
                let secrets = words(&rule["resources"]).contains("secrets");
                assert!(!(secrets && bound.contains(name)), "{name}: {rule}");
            }
        }
    }
}

#[test]
fn the_gate_may_read_what_it_watches_and_write_its_own_objects() {
    let objects = installed();
    let mut allowed = BTreeSet::new();
    for binding in [of_kind(&objects, "ClusterRoleBinding"), of_kind(&objects, "RoleBinding")].concat() {
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": "wasmgate", "namespace": NAMESPACE}])
        );
        let reference = &binding["roleRef"];
        let place = text(&binding["metadata"]["namespace"]);
        for rule in rules(object(&objects, text(&reference["kind"]), text(&reference["name"]))) {
            let names = words(&rule["resourceNames"]).into_iter().collect::<Vec<_>>().join(",");
            for resource in words(&rule["resources"]) {
                let verbs = words(&rule["verbs"]).into_iter().collect::<Vec<_>>().join(",");
                allowed.insert(format!("{place}: {verbs} {resource} {names}").trim_end().to_string());
            }
        }
    }
    let expected = [
        ": list,watch runtimeclasses",
        ": list,watch limitranges",
        ": list,watch namespaces",
        ": list,watch serviceaccounts",
        ": list,watch clusterwasigrants",
        ": list,watch wasigrants",
        ": list,watch wasiexceptions",
        ": create,patch events",
        ": get,list,patch,watch mutatingwebhookconfigurations wasmgate",
        ": get,list,patch,watch validatingwebhookconfigurations wasmgate",
        "wasmgate-system: get,update secrets wasmgate-certs",
        "wasmgate-system: create secrets",
        "wasmgate-system: get,update leases wasmgate",
        "wasmgate-system: create leases",
    ];
    assert_eq!(allowed, set(&expected));
}

// === the workload ===

fn settings_of(config: &Value) -> Settings {
    let file = config::parse("config.yaml", &config.to_string()).unwrap();
    config::resolve(file, Overrides::default()).unwrap()
}

/// The checked configuration of an installation.
fn settings(objects: &Objects) -> Settings {
    settings_of(&object(objects, "ConfigMap", "wasmgate")["data"]["config.yaml"])
}

fn pod(objects: &Objects) -> Value {
    object(objects, "Deployment", "wasmgate")["spec"]["template"]["spec"].clone()
}

#[test]
fn the_program_accepts_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    for objects in [installed(), kustomize("tests/fixtures/manifests/cert-manager")] {
        let config = &object(&objects, "ConfigMap", "wasmgate")["data"]["config.yaml"];
        std::fs::write(&path, config.to_string()).unwrap();
        let explained = wasmgate()
            .args(["explain", "--config", path.to_str().unwrap(), "-f", "manifests/install/service.yaml"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(explained.status.success(), "{}", String::from_utf8_lossy(&explained.stderr));
    }
}

#[test]
fn the_cert_manager_component_changes_nothing_but_where_certificates_come_from() {
    let config = |objects: Objects| object(&objects, "ConfigMap", "wasmgate")["data"]["config.yaml"].clone();
    let mut ours = config(installed());
    let mut theirs = config(kustomize("tests/fixtures/manifests/cert-manager"));
    assert_eq!(theirs["kubernetes"]["certificates"], json!({"manage": false}));
    for config in [&mut ours, &mut theirs] {
        for (block, keys) in [
            ("server", &["certDir", "certFile", "keyFile"][..]),
            ("kubernetes", &["certificates", "webhooks"]),
        ] {
            let block = config[block].as_object_mut().unwrap();
            block.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
    assert_eq!(ours, theirs);
}

#[test]
fn certificate_files_are_where_the_secret_is_mounted_and_have_the_name_that_is_called() {
    let objects = kustomize("tests/fixtures/manifests/cert-manager");
    let pod = pod(&objects);
    let certificate = object(&objects, "Certificate", "wasmgate");
    let mount =
        items(&pod["containers"][0]["volumeMounts"]).find(|mount| mount["name"] == "certificates").unwrap();
    let volume = items(&pod["volumes"]).find(|volume| volume["name"] == "certificates").unwrap();
    assert_eq!(
        volume,
        &json!({"name": "certificates", "secret": certificate["spec"]["secretName"]
        .as_str().map(|name| json!({"secretName": name})).unwrap()})
    );
    assert!(mount.get("subPath").is_none(), "a sub-path never sees a renewed certificate");
    let settings = settings(&objects);
    let folder = PathBuf::from(text(&mount["mountPath"]));
    assert_eq!(settings.file.server.cert_file, Some(folder.join("tls.crt")));
    assert_eq!(settings.file.server.key_file, Some(folder.join("tls.key")));
    assert!(words(&certificate["spec"]["dnsNames"]).contains("wasmgate.wasmgate-system.svc"));
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let annotations = &object(&objects, kind, "wasmgate")["metadata"]["annotations"];
        assert_eq!(annotations["cert-manager.io/inject-ca-from"], "wasmgate-system/wasmgate");
    }
}

#[test]
fn a_replica_has_the_time_for_an_orderly_shutdown() {
    let objects = installed();
    let settings = settings(&objects);
    let grace = Duration::from_secs(pod(&objects)["terminationGracePeriodSeconds"].as_u64().unwrap());
    let records = Duration::from_secs(5);
    assert!(settings.shutdown_pause + settings.drain_deadline + records < grace);
}

#[test]
fn the_gate_writes_only_into_volumes_and_is_called_where_it_listens() {
    let objects = installed();
    let file = settings(&objects).file;
    let pod = pod(&objects);
    let container = &pod["containers"][0];
    let writable: Vec<&str> = items(&container["volumeMounts"])
        .filter(|mount| mount["readOnly"] != true)
        .map(|mount| text(&mount["mountPath"]))
        .collect();
    for path in
        [Some(file.server.cert_dir), file.images.store, file.policies.compiled_dir].into_iter().flatten()
    {
        assert!(writable.iter().any(|folder| path.starts_with(folder)), "{}", path.display());
    }
    let volume = |name: &str| items(&pod["volumes"]).find(|volume| volume["name"] == name).unwrap().clone();
    assert_eq!(volume("certificates")["emptyDir"]["medium"], "Memory", "no disk keeps a private key");
    let limit = volume("images")["emptyDir"]["sizeLimit"].clone();
    assert_eq!(limit, "1Gi");
    assert!(file.images.store_bytes * 4 <= 1 << 30, "the file may be some times larger than what it keeps");
    let port = |name: &str| {
        items(&container["ports"]).find(|port| port["name"] == name).unwrap()["containerPort"].as_u64()
    };
    assert_eq!(port("webhooks"), Some(file.server.listen.port().into()));
    assert_eq!(port("metrics"), Some(file.server.probes.port().into()));
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "metrics"}), "{probe}");
    }
}

#[test]
fn the_gate_survives_the_loss_of_a_node_and_an_update() {
    let objects = installed();
    let deployment = &object(&objects, "Deployment", "wasmgate")["spec"];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(deployment["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    let labels = &deployment["template"]["metadata"]["labels"];
    let budget = &object(&objects, "PodDisruptionBudget", "wasmgate")["spec"];
    assert_eq!((&budget["maxUnavailable"], &budget["selector"]["matchLabels"]), (&json!(1), labels));
    assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow", "a broken replica stops no drain");
    let pod = pod(&objects);
    let apart = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(apart["podAffinityTerm"]["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(&apart["podAffinityTerm"]["labelSelector"]["matchLabels"], labels);
    assert_eq!(pod["topologySpreadConstraints"][0]["topologyKey"], "topology.kubernetes.io/zone");
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let quota = &object(&objects, "ResourceQuota", "wasmgate-critical-pods")["spec"];
    assert_eq!(quota["scopeSelector"]["matchExpressions"][0]["values"], json!(["system-cluster-critical"]));
    assert!(
        pod["containers"][0]["resources"]["limits"].get("cpu").is_none(),
        "throttling slows every pod's start"
    );
}

/// Nothing fails without it. That the chart has it too is seen above.
#[test]
fn the_allocator_of_the_gate_gives_free_memory_back_soon_as_the_manuals_say() {
    let pod = pod(&installed());
    let variables = items(&pod["containers"][0]["env"]);
    let delays = variables.filter(|variable| variable["name"] == "MIMALLOC_PURGE_DELAY");
    let delays: Vec<&str> = delays.map(|variable| text(&variable["value"])).collect();
    assert_eq!(delays, ["100"], "a text, as it has to be");
    for page in ["docs/operations.md", "docs/performance.md"] {
        assert!(read(page).contains("`MIMALLOC_PURGE_DELAY=100`"), "{page}");
    }
}

/// The controls of Pod Security's `restricted` level
/// (`kubernetes/website:content/en/docs/concepts/security/pod-security-standards.md`), and a read-only root file
/// system. The API server's own judgement is below.
#[test]
fn the_gate_keeps_to_the_restricted_level_that_its_namespace_asks_for() {
    let objects = installed();
    let labels = &object(&objects, "Namespace", NAMESPACE)["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    let pod = pod(&objects);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}));
    assert_eq!(
        pod["containers"][0]["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod.get(shared).is_none());
    }
    assert!(items(&pod["volumes"]).all(|volume| volume.get("hostPath").is_none()));
    let account = object(&objects, "ServiceAccount", "wasmgate");
    assert_eq!(
        (&account["automountServiceAccountToken"], &pod["automountServiceAccountToken"]),
        (&json!(false), &json!(true))
    );
}

#[test]
fn the_network_policy_admits_the_api_server_and_allows_requests_to_registries() {
    let objects = installed();
    let policy = &object(&objects, "NetworkPolicy", "wasmgate")["spec"];
    assert_eq!(words(&policy["policyTypes"]), BTreeSet::from(["Egress", "Ingress"]));
    let open = items(&policy["ingress"]).find(|rule| rule.get("from").is_none()).unwrap();
    assert_eq!(
        open["ports"],
        json!([{"port": "webhooks", "protocol": "TCP"}]),
        "the API server may be a host"
    );
    let mut egress = BTreeSet::new();
    for port in items(&policy["egress"]).flat_map(|rule| items(&rule["ports"])) {
        egress.insert(format!("{}/{}", port["port"], text(&port["protocol"])));
    }
    // DNS, which OpenShift's pods serve on 5353; registries; API servers as in kubeadm, minikube and MicroK8s.
    let dns = ["53/UDP", "53/TCP", "5353/UDP", "5353/TCP"];
    let servers = ["443/TCP", "6443/TCP", "8443/TCP", "16443/TCP"];
    assert_eq!(egress, set(&[&dns[..], &servers].concat()));
}

#[test]
fn the_image_uses_the_crates_rust_version_and_the_deployments_user() {
    let dockerfile = read("Dockerfile");
    let line = |word: &str| dockerfile.lines().rfind(|line| line.starts_with(word)).unwrap().to_string();
    let user = pod(&installed())["securityContext"]["runAsUser"].to_string();
    assert_eq!(line("USER"), format!("USER {user}:{user}"));
    assert!(dockerfile.contains(&format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"))));
    assert!(!dockerfile.contains("@sha256:"), "a digest goes stale");
}
