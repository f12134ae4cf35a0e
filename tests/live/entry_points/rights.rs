//! Who may do what: a user with plain rights in a namespace cannot get past the gate, and only the platform team can
//! grant, exempt or lower an enforcement action.

use std::path::Path;

use serde_json::{Value, json};

use super::cluster::{CLUSTER, FILES, assert_denied, first_image, handed_a_volume, image, plain};
use crate::support::control_plane::Said;

fn create_as(kubeconfig: &Path, namespace: &str, object: &Value) -> Said {
    let cluster = CLUSTER.get();
    let arguments = ["create", "--filename=-", "--output=json", "--namespace", namespace];
    cluster.plane.kubectl_with(kubeconfig, &arguments, &object.to_string())
}

fn give(namespace: &str, role: &str, whom: &str) {
    let cluster = CLUSTER.get();
    let arguments = ["create", "rolebinding", "given", &format!("--clusterrole={role}"), whom];
    cluster.kubectl(namespace, &arguments).ok();
}

#[test]
fn a_service_account_with_plain_rights_gets_the_same_answers_as_an_administrator() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("account");
    cluster.kubectl(&namespace, &["create", "serviceaccount", "deployer"]).ok();
    give(&namespace, "edit", &format!("--serviceaccount={namespace}:deployer"));
    let account = cluster.plane.account(&namespace, "deployer");
    assert_denied(create_as(&account, &namespace, &handed_a_volume(&image(FILES))), "needs-grant");
    let pod = create_as(&account, &namespace, &plain("hello")).json();
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime");
    let linux = create_as(&account, &namespace, &plain("linux"));
    assert_eq!(linux.stderr, "");
    let user = cluster.plane.user("dev");
    let for_user = ["create", "rolebinding", "for-user", "--clusterrole=edit", "--user=dev"];
    cluster.kubectl(&namespace, &for_user).ok();
    assert_denied(create_as(&user, &namespace, &handed_a_volume(&image(FILES))), "needs-grant");
}

#[test]
fn the_administrator_of_a_namespace_can_neither_grant_nor_exempt_nor_lower_the_enforcement_action() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("administered");
    give(&namespace, "admin", "--user=admin-of-a-namespace");
    let user = cluster.plane.user("admin-of-a-namespace");
    let may = |verb: &str, what: &str, scope: &[&str]| {
        // `pods/NAME` would be a pod of that name.
        let (what, part) = what.split_once(':').unwrap_or((what, ""));
        let part = format!("--subresource={part}");
        let arguments = [&["auth", "can-i", verb, what, &part], scope].concat();
        cluster.plane.kubectl_with(&user, &arguments, "").stdout.trim() == "yes"
    };
    let here = ["--namespace", namespace.as_str()];
    assert!(may("create", "pods", &here) && may("create", "pods:eviction", &here));
    let of_the_platform = [
        ("create", "wasigrants.wasmgate.dev"),
        ("update", "wasigrants.wasmgate.dev"),
        // What these write to a pod is not judged.
        ("patch", "pods:status"),
        ("create", "pods:binding"),
        ("create", "bindings"),
        ("create", "wasiexceptions.wasmgate.dev"),
        ("update", "limitranges"),
    ];
    for (verb, what) in of_the_platform {
        assert!(!may(verb, what, &here), "{verb} {what}");
    }
    let of_the_cluster = [
        ("patch", &format!("namespaces/{namespace}")[..]),
        ("create", "namespaces"),
        ("create", "clusterwasigrants.wasmgate.dev"),
        // The requests of all pods that name none follow from these.
        ("create", "wasmusages.wasmgate.dev"),
        ("create", "runtimeclasses.node.k8s.io"),
        ("delete", "validatingwebhookconfigurations"),
        ("patch", "mutatingwebhookconfigurations"),
    ];
    for (verb, what) in of_the_cluster {
        assert!(!may(verb, what, &[]), "{verb} {what}");
    }
    let label = ["label", "namespace", &namespace, "wasmgate.dev/enforce=audit"];
    let text = cluster.plane.kubectl_with(&user, &label, "").refused();
    assert!(text.contains("Forbidden"), "{text}");
}

#[test]
fn a_namespace_is_exempt_by_its_name_and_by_no_label() {
    let cluster = CLUSTER.get();
    let claims = json!({
        "wasmgate.dev/exempt": "true", "wasmgate.dev/ignore": "true", "admission.gatekeeper.sh/ignore": "yes",
        "control-plane": "wasmgate", "pod-security.kubernetes.io/enforce": "privileged",
        "kubernetes.io/metadata.name": "kube-system",
    });
    // The API server itself maintains the label by which the webhooks exclude a namespace.
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "claims-to-be-exempt", "labels": claims}});
    cluster.plane.apply(&object, &[]).ok();
    let stored = cluster.plane.get(&["namespace", "claims-to-be-exempt"]);
    assert_eq!(stored["metadata"]["labels"]["kubernetes.io/metadata.name"], "claims-to-be-exempt");
    cluster.wait_for_account("claims-to-be-exempt", "default");
    let relabel = [
        "label",
        "namespace",
        "claims-to-be-exempt",
        "kubernetes.io/metadata.name=kube-system",
        "--overwrite",
    ];
    let _ = cluster.plane.kubectl(&relabel);
    let stored = cluster.plane.get(&["namespace", "claims-to-be-exempt"]);
    assert_eq!(stored["metadata"]["labels"]["kubernetes.io/metadata.name"], "claims-to-be-exempt");
    let pod = handed_a_volume(&image(FILES));
    assert_denied(cluster.plane.create(&pod, &["--namespace=claims-to-be-exempt"]), "needs-grant");
    let exempt = cluster.plane.create(&pod, &["--dry-run=server", "--namespace=kube-system"]).json();
    assert_eq!(first_image(&exempt), image(FILES));
    assert!(exempt["spec"]["runtimeClassName"].is_null());
}
