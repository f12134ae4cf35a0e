//! What is taken from pods because no grant covers it, after the API server's own plug-ins; and the policies that `suggest`
//! writes.

use std::fs;

use serde_json::{Value, json};

use super::{CLUSTER, deployment};
use crate::support::oci::{ImageBuilder, fixtures};
use crate::support::process::wasmgate;

#[test]
fn a_token_that_no_grant_covers_is_not_mounted_and_one_that_was_asked_for_is_refused() {
    let cluster = CLUSTER.get();
    let namespace = cluster.plane.namespace("tokens", &json!({}));
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "opens-files", "namespace": namespace},
        "spec": {"capabilities": [{"name": "native.exec"}]}});
    cluster.plane.apply(&grant, &[]).ok();
    let pod = |more: &Value| {
        let mut spec = json!({"containers": [{"name": "app", "image": cluster.image("files")}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "app-"}, "spec": spec})
    };
    let flags = ["--namespace", namespace.as_str()];
    let (made, warned) = cluster.plane.wait_for("the gate to know the grant", || {
        let said = cluster.plane.create(&pod(&json!({})), &flags);
        (said.code == 0).then(|| (serde_json::from_str::<Value>(&said.stdout).unwrap(), said.stderr))
    });
    let spec = &made["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false, "{made}");
    assert!(spec["volumes"].is_null() && spec["containers"][0]["volumeMounts"].is_null(), "{made}");
    let changed = made["metadata"]["annotations"]["wasmgate.dev/changed"].as_str().unwrap();
    assert!(changed.contains("automountServiceAccountToken"), "{changed}");
    assert!(warned.contains("Warning: the service-account token is not mounted"), "{warned}");
    let asked = pod(&json!({"automountServiceAccountToken": true}));
    let refused = cluster.plane.create(&asked, &flags).refused();
    assert!(refused.contains("[secret-in-reach]"), "{refused}");
    // The volume of a pod that ran, as people copy it with `kubectl get -o yaml`.
    let volume = json!({"name": "kube-api-access-abcde", "projected": {"sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}});
    let mut copied = pod(&json!({"volumes": [volume]}));
    copied["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "kube-api-access-abcde", "readOnly": true,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    let refused = cluster.plane.create(&copied, &flags).refused();
    assert!(refused.contains("[secret-in-reach]"), "{refused}");
}

#[test]
fn the_api_server_takes_the_network_policy_that_suggest_writes() {
    let cluster = CLUSTER.get();
    let folder = cluster.plane.home().path().join("network-policies");
    let grants = folder.join("grants");
    fs::create_dir_all(&grants).unwrap();
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"capabilities": [
            {"name": "http.outbound", "hosts":
                ["https://10.1.2.0/24", "http://[2001:db8::1]:8000..9000", "https://api.example.com", "http://*:8080",
                "http://[::ffff:10.3.4.5]", "http://localhost:3000"]},
            {"name": "http.inbound", "ports": [8080]}, {"name": "net.udp"}, {"name": "net.dns"}]}});
    fs::write(grants.join("web.json"), grant.to_string()).unwrap();
    let workload = folder.join("deployment.json");
    let web = deployment("default", "web", "live.example/http:1", &json!({}));
    let image = ImageBuilder::wasm_artifact(&fixtures::http_component()).build();
    image.write_layout(&folder.join("images/http"), "1").unwrap();
    fs::write(&workload, web.to_string()).unwrap();
    let mut suggest = wasmgate();
    suggest.args(["suggest", "--network-policy", "--filename"]).arg(&workload).arg("--grants").arg(&grants);
    let layouts = format!("--image-layouts=live.example={}", folder.join("images").display());
    let said = suggest.arg(layouts).output().unwrap();
    let policy = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1), "{policy}{}", String::from_utf8_lossy(&said.stderr));
    assert!(policy.contains("http.outbound to `https://api.example.com` is cut off"), "{policy}");
    let flags = ["apply", "--dry-run=server", "--validate=strict", "--filename=-", "--output=json"];
    let taken = cluster.plane.kubectl_with(&cluster.plane.kubeconfig(), &flags, &policy).json();
    assert_eq!(taken["kind"], "NetworkPolicy");
    assert_eq!(taken["spec"]["podSelector"], json!({"matchLabels": {"app": "web"}}));
    assert!(!policy.contains("localhost` is cut off"), "{policy}");
    // DNS, three ranges, one port of any address, and all of UDP.
    assert_eq!(taken["spec"]["egress"].as_array().unwrap().len(), 6, "{taken}");
    assert!(taken["spec"]["egress"].to_string().contains("\"10.3.4.5/32\""), "{taken}");
    assert_eq!(taken["spec"]["ingress"], json!([{"ports": [{"protocol": "TCP", "port": 8080}]}]));
}
