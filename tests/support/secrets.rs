//! An object with a secret in each place where people put them, and a rule that quotes all that it finds.

use serde_json::{Value, json};

/// Each secret begins so and has a number of its own.
const MARK: &str = "hunter-";

/// A rule that quotes every text of the object in which a secret is: as it is, as JSON, and as a remedy.
pub const QUOTING: &str = r#"found contains value if {
    walk(input.object, [_, value])
    is_string(value)
    contains(value, "hunter-")
}

violations contains {
    "rule": "quotes",
    "message": sprintf("%v and %s", [found, json.marshal(found)]),
    "remedy": concat(", ", found),
} if count(found) > 0"#;

/// The configuration of a platform that knows which annotations hold secrets.
pub const CONFIGURATION: &str =
    "decisionLog: {policyInput: true, maskAnnotations: [team.example/token, 'vault.example/*']}\n";

/// Counts the secrets that an object gets.
#[derive(Default)]
struct Numbers(u32);

impl Numbers {
    fn secret(&mut self) -> String {
        self.0 += 1;
        format!("{MARK}{:03}-secret", self.0)
    }
}

/// The secrets of which a text holds one, in any of its forms.
pub fn leaked(text: &str) -> Vec<&str> {
    let found = text.match_indices(MARK).map(|(at, _)| &text[at..]);
    found
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or(rest))
        .collect()
}

fn container(name: &str, image: &str, to: &mut Numbers) -> Value {
    let mut exec = || json!({"exec": {"command": ["/bin/true", "--password", to.secret()]}});
    let (post_start, readiness) = (exec(), exec());
    let mut header = |path: &str| json!({"httpGet": {"port": 80, "path": path, "httpHeaders": [{"name": "Authorization", "value": to.secret()}]}});
    let (pre_stop, liveness, startup) = (header("/stop"), header("/live"), header("/start"));
    json!({"name": name, "image": image, "args": ["x"],
        "env": [
            {"name": "TOKEN", "value": to.secret()}, {"name": "URL", "value": format!("https://u:{}@db", to.secret())},
            {"name": "LINES", "value": format!(" {}\n\"quoted\" ", to.secret())},
        ],
        "lifecycle": {"postStart": post_start, "preStop": pre_stop},
        "readinessProbe": readiness, "livenessProbe": liveness, "startupProbe": startup})
}

fn metadata(name: &str, to: &mut Numbers) -> Value {
    let copy = |secret: String| {
        json!({"spec": {"containers": [{"env": [{"name": "A", "value": secret}]}]}}).to_string()
    };
    json!({"name": name, "namespace": "shop", "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": copy(to.secret()), "kapp.k14s.io/original": copy(to.secret()),
        "objectset.rio.cattle.io/applied": copy(to.secret()), "banzaicloud.com/last-applied": copy(to.secret()),
        "team.example/token": to.secret(), "vault.example/a": to.secret(), "vault.example/b": to.secret()}})
}

/// A pod whose container is of the sample `image`, and how many secrets it has.
pub fn pod(image: &str) -> (Value, u32) {
    let mut to = Numbers::default();
    let sidecar = container("sidecar", image, &mut to);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("secrets", &mut to), "spec": {
    "automountServiceAccountToken": false,
    "initContainers": [{"name": "first", "image": image, "env": [{"name": "TOKEN", "value": to.secret()}]}],
    "containers": [container("app", image, &mut to), sidecar],
    "volumes": [
        {"name": "csi", "csi": {"driver": "d.example", "volumeAttributes": {"password": to.secret(), "user": to.secret()}}},
        {"name": "flex", "flexVolume": {"driver": "d.example/x", "options": {"password": to.secret()}}},
        {"name": "git", "gitRepo": {"repository": format!("https://me:{}@git.example/r", to.secret())}},
    ]}});
    (pod, to.0)
}

/// A SpinApp, and how many secrets it has.
pub fn spin_app(image: &str) -> (Value, u32) {
    let mut to = Numbers::default();
    let app = json!({"apiVersion": "core.spinkube.dev/v1alpha1", "kind": "SpinApp", "metadata": metadata("app", &mut to), "spec": {
    "image": image, "executor": "containerd-shim-spin", "replicas": 1,
    "variables": [{"name": "token", "value": to.secret()}],
    "runtimeConfig": {
        "sqliteDatabases": [{"name": "db", "type": "libsql", "options": [{"name": "token", "value": to.secret()}]}],
        "keyValueStores": [{"name": "kv", "type": "redis", "options": [{"name": "url", "value": format!("redis://:{}@r", to.secret())}]}],
        "llmCompute": {"type": "remote_http", "options": [{"name": "auth_token", "value": to.secret()}]},
    }}});
    (app, to.0)
}
