//! The page of a serving gate on a real API server: with the rights of the component `manifests/components/page` and no others, for real tokens
//! of service accounts, and while the API server is away.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Part};
use crate::support::live_gate::{LiveGate, Setup, bare_pod};
use crate::support::manifests::{NAMESPACE, kustomize};
use crate::support::process::{root, until};
use crate::support::registry::Registry;
use crate::support::tls::{Answer, Client, Http};

/// The account, roles and bindings of an installation with the page.
fn install_rights(plane: &ControlPlane) {
    let objects = kustomize("tests/fixtures/manifests/page");
    let kinds = ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"];
    for kind in kinds {
        for (_, object) in objects.iter().filter(|((one, ..), _)| one == kind) {
            plane.apply(object, &[]).ok();
        }
    }
}

/// An account, and whether it is bound to the role of the component for readers.
fn account(plane: &ControlPlane, name: &str, may_read: bool) {
    plane.kubectl(&["create", "serviceaccount", name, "--namespace=default"]).ok();
    if may_read {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wasmgate-page-reader"}});
        plane.apply(&binding, &[]).ok();
    }
}

fn token(plane: &ControlPlane, name: &str, flags: &[&str]) -> String {
    let said = plane.kubectl(&[&["create", "token", name, "--namespace=default"], flags].concat());
    said.ok().trim().to_string()
}

fn image(registry: &Registry, name: &str) -> String {
    let (layout, image) =
        (root().join("manifests/samples/images").join(name), registry.image(&format!("samples/{name}:1")));
    assert!(registry.crane(root(), &["push", layout.to_str().unwrap(), &image]).status.success());
    image
}

async fn get(page: SocketAddr, ca: &Path, token: Option<&str>) -> Answer {
    let mut request = Request::builder().uri("/");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    Client::trusting(&[ca], Http::One).send(page, request).await.unwrap()
}

/// Two workloads, and a grant that neither uses.
fn objects(files: &str, hello: &str) -> Vec<Value> {
    let soon = Timestamp::now() + SignedDuration::from_hours(48);
    let deployment = |name: &str, image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"}, "spec": {"replicas": 0,
            "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": {
                "automountServiceAccountToken": false, "containers": [{"name": "main", "image": image}]}}}})
    };
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"}, "handler": "wasmtime"}),
        deployment("opens-files", files),
        deployment("says-hello", hello),
        json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant", "metadata": {"name": "unused", "namespace": "shop"},
            "spec": {"subjects": {"serviceAccounts": ["other"]}, "capabilities": [{"name": "http.outbound", "hosts": ["https://a.example"]}],
                "expiresAt": soon.to_string()}}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_for_those_whom_the_api_server_lets_read_it() {
    let mut plane = ControlPlane::start();
    install_rights(&plane);
    let registry = Registry::start_below(plane.home().path());
    let (files, hello) = (image(&registry, "files"), image(&registry, "hello"));
    account(&plane, "reader", true);
    account(&plane, "orders", false);
    let kubeconfig = plane.account(NAMESPACE, "wasmgate");
    let flags = vec![format!("--kubeconfig={}", kubeconfig.display()), "--page=127.0.0.1:0".to_string()];
    let setup = Setup { objects: objects(&files, &hello), flags, ..Setup::default() };
    let gate = LiveGate::start(&plane, &registry, "paged", &setup);
    let page: SocketAddr = gate.page.as_deref().expect("its address").parse().unwrap();
    let ca = gate.ca_file();
    gate.register(&plane, &hello);
    plane.wait_until_pods_can_be_made("shop");
    let mut unread = bare_pod("127.0.0.1:1/orders:1", &json!({}));
    unread["spec"]["runtimeClassName"] = json!("wasmtime");
    plane.create(&unread, &["--namespace=shop"]).refused();

    let reader = token(&plane, "reader", &[]);
    until("the page", async || get(page, &ca, Some(&reader)).await.status == 200).await;
    let shown = get(page, &ca, Some(&reader)).await.text();
    for part in [
        "shop/Deployment/opens-files",
        "shop/Deployment/says-hello",
        "WasiGrant/unused",
        "(soon)",
        "<td class=\"soon\">none</td>",
        "This scan was begun ",
        "<h2 id=\"refused\">Refused lately</h2>",
        "<th scope=\"row\">shop/Pod/app-",
        "[not-inspected]",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(!shown.contains("may not be listed"), "the rights of the component are enough: {shown}");

    assert_eq!(get(page, &ca, None).await.status, 401);
    assert_eq!(get(page, &ca, Some("eyJhbGciOi.e30.x")).await.status, 401);
    let for_others = token(&plane, "reader", &["--audience=https://other.example"]);
    assert_eq!(get(page, &ca, Some(&for_others)).await.status, 401);
    let forbidden = get(page, &ca, Some(&token(&plane, "orders", &[]))).await;
    assert_eq!(forbidden.status, 403);
    assert!(forbidden.text().contains("system:serviceaccount:default:orders"), "{}", forbidden.text());

    let fresh = token(&plane, "reader", &["--duration=20m"]);
    plane.stop(Part::ApiServer);
    let away = get(page, &ca, Some(&fresh)).await;
    assert_eq!(away.status, 503, "{}", away.text());
    assert!(!away.text().contains("127.0.0.1"), "{}", away.text());
    plane.start_again(Part::ApiServer);
    until("a verdict", async || get(page, &ca, Some(&fresh)).await.status == 200).await;
    let binding = plane.kubectl(&["delete", "clusterrolebinding", "reader"]);
    assert_eq!(binding.code, 0, "{}", binding.stderr);
    until("the end of the right", async || get(page, &ca, Some(&fresh)).await.status == 403).await;
}
