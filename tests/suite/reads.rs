//! Which questions to an API server tests ask without `kubectl` (`support::reads`). The answers are compared in `tests/live/cluster.rs`.

use crate::support::reads::Question;

fn path(arguments: &[&str]) -> Option<String> {
    Question::of(arguments).map(|question| question.path)
}

#[test]
fn a_read_of_a_known_form_asks_for_what_kubectl_would_ask_for() {
    let cases: [(&[&str], &str); 9] = [
        (&["get", "--raw", "/readyz"], "/readyz"),
        (&["get", "--raw=/metrics?a=b"], "/metrics?a=b"),
        (
            &["get", "--output=json", "pod", "a-1.b", "--namespace", "shop"],
            "/api/v1/namespaces/shop/pods/a-1.b",
        ),
        (&["get", "--output=json", "pods"], "/api/v1/namespaces/default/pods"),
        (
            &["get", "--output=json", "pods", "--namespace=shop", "--selector=app=web,tier=a"],
            "/api/v1/namespaces/shop/pods?labelSelector=app=web,tier=a",
        ),
        (
            &["get", "--output=json", "pods", "--all-namespaces", "--field-selector=spec.nodeName=wasm"],
            "/api/v1/pods?fieldSelector=spec.nodeName=wasm",
        ),
        (&["get", "node", "wasm", "--output=json"], "/api/v1/nodes/wasm"),
        (
            &["get", "--output=json", "lease", "wasmgate", "--namespace", "shop"],
            "/apis/coordination.k8s.io/v1/namespaces/shop/leases/wasmgate",
        ),
        (
            &["logs", "--namespace", "shop", "web", "--container", "app"],
            "/api/v1/namespaces/shop/pods/web/log?container=app",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(path(arguments).as_deref(), Some(expected), "{arguments:?}");
    }
}

#[test]
fn everything_else_is_left_to_kubectl() {
    let cases: [&[&str]; 13] = [
        &["get", "pods"],
        &["get", "pods", "--output=yaml"],
        &["get", "pods", "-o", "json"],
        &["get", "--output=json", "pods,services"],
        &["get", "--output=json", "wasigrants"],
        &["get", "--output=json", "pod", "a", "b"],
        &["get", "--output=json", "pod", "a", "--all-namespaces"],
        &["get", "--output=json", "pod", "a/b"],
        &["get", "--output=json", "pods", "--selector=a in (b)"],
        &["get", "--output=json", "pods", "--namespace"],
        &["logs", "web", "--follow"],
        &["logs", "--namespace=shop"],
        &["delete", "pod", "web"],
    ];
    for arguments in cases {
        assert_eq!(path(arguments), None, "{arguments:?}");
    }
}
