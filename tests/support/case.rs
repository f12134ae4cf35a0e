//! Two complete cases as a review gathers them, from which Rust writes the policies' input: a pod that every baseline
//! rule admits, and one that most of them refuse.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::value::to_raw_value;
use serde_json::{Value, from_value, json};
use wasmgate::cluster::Cluster;
use wasmgate::grant::Grants;
use wasmgate::image::ImageFacts;
use wasmgate::image::prefix::Unpinned;
use wasmgate::inspection::{Container, Inspection, LookupResult};
use wasmgate::judge::input::{Groups, UserFacts};
use wasmgate::judge::{InputParts, PolicyOptions, RequestFacts, prepare};
use wasmgate::registry;
use wasmgate::review::GroupVersionKind;
use wasmgate::runtime::Runtimes;
use wasmgate::workload::{self, Kind};

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// The input for a pod that every baseline rule admits.
pub fn admitted() -> Value {
    let grants = vec![grant("2027-03-31T00:00:00Z"), lookup_grant(), process_grant()];
    input(&pod(&json!([orders()])), vec![known(component(&[]))], grants, &PolicyOptions::new())
}

/// The input for a pod that most baseline rules refuse.
pub fn refused() -> Value {
    let mut orders = orders();
    orders["image"] = json!("ghcr.io/myorg/orders:1.4");
    orders["resources"]["limits"]["memory"] = json!("1M");
    let spin = json!({"name": "front", "image": format!("ghcr.io/myorg/front:2@{DIGEST}")});
    let mut pod = pod(&json!([orders, proxy(), spin]));
    pod["spec"]["initContainers"] = json!([{"name": "migrate", "image": "ghcr.io/myorg/migrate:1"}]);
    pod["spec"]["automountServiceAccountToken"] = Value::Null;
    pod["spec"]["hostPID"] = json!(true);
    let mut facts = component(&[
        ("acme:gpu/device", "open"),
        ("wasi:keyvalue/store@0.2.0-draft", "open"),
        ("wasi:sockets/udp@0.2.6", "[method]udp-socket.stream"),
    ]);
    facts.0["native"] = json!([{"source": "sha256:2c26", "magic": "ELF"}]);
    facts.0["claims"] =
        json!([{"field": "component.imports", "claimed": "", "found": "wasi:sockets/tcp@0.2.6"}]);
    let seen = json!([{"seen": "producers section, processed-by", "value": "componentize-py 0.13.0"}]);
    facts.0["modules"][0]["interpreters"] = json!([{"engine": "cpython", "evidence": seen}]);
    let message = "the registry answered 401".into();
    let unread = registry::Error::FetchManifest { image: "ghcr.io/myorg/migrate:1".into(), message };
    let lookups = vec![
        LookupResult::Unread { error: Arc::new(unread.into()) },
        known(facts),
        known(linux()),
        known(spin_app()),
    ];
    let options = [("strictAmbient".to_string(), json!(true))].into();
    input(&pod, lookups, vec![grant("2026-03-31T00:00:00Z")], &options)
}

/// The input that Rust writes for the pod under the default runtimes.
fn input(pod: &Value, lookups: Vec<LookupResult>, grants: Vec<Value>, options: &PolicyOptions) -> Value {
    input_under(&Runtimes::default(), pod, lookups, grants, options)
}

/// The input that Rust writes for the pod, whose images have these findings in the order of its containers.
pub fn input_under(
    runtimes: &Runtimes,
    pod: &Value,
    lookups: Vec<LookupResult>,
    grants: Vec<Value>,
    options: &PolicyOptions,
) -> Value {
    let object = to_raw_value(pod).unwrap();
    let workload = workload::read(object.get(), Kind::Pod, "shop").unwrap();
    let containers = workload.images().into_iter().zip(lookups).map(|(image, lookup)| Container {
        role: image.role,
        index: image.index,
        name: image.name.into(),
        image: image.image.into(),
        lookup,
    });
    let inspection = Inspection { containers: containers.collect() };
    let kind: GroupVersionKind = from_value(json!({"version": "v1", "kind": "Pod"})).unwrap();
    let groups = to_raw_value(&["system:serviceaccounts", "system:authenticated"]).unwrap();
    let request = RequestFacts {
        uid: "705ab4f5-6393-11e8-b7cc-42010a800002",
        operation: "CREATE",
        kind: &kind,
        sub_resource: "",
        namespace: "shop",
        name: "orders-6d4cf56db6-",
        user: UserFacts {
            username: "system:serviceaccount:kube-system:replicaset-controller",
            groups: Groups(Some(&groups)),
        },
        dry_run: false,
    };
    let labels = [("kubernetes.io/metadata.name", "shop"), ("wasmgate.dev/enforce", "deny")];
    let labels = labels.map(|(key, value)| (key.to_string(), value.to_string()));
    let cluster = Cluster { namespaces: [("shop".into(), labels.into())].into(), ..Cluster::default() };
    let grants = Grants::new(grants.into_iter().map(|g| from_value(g).unwrap()).collect()).unwrap();
    let class = |kind| Some(cluster.class_for(runtimes, runtimes.for_kind(kind)?).to_owned());
    let class_for =
        runtimes.placement.keys().filter_map(|kind| Some((kind.as_str(), class(*kind)?))).collect();
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let case = InputParts {
        request: &request,
        object: &object,
        workload: &workload,
        inspection: &inspection,
        unchanged: &BTreeSet::new(),
        restarts: false,
        runtimes,
        cluster: &cluster,
        class_for: &class_for,
        grants: &grants,
        options,
        unpinned: &Unpinned::default(),
        now,
    };
    serde_json::to_value(prepare(&case)).unwrap()
}

// === The pod ===

fn pod(containers: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "orders-6d4cf56db6-", "namespace": "shop",
            "labels": {"app.kubernetes.io/name": "orders", "pod-template-hash": "6d4cf56db6"},
            "annotations": {"prometheus.io/scrape": "true"},
        },
        "spec": {
            "serviceAccountName": "orders", "automountServiceAccountToken": false,
            "runtimeClassName": "wasmtime", "enableServiceLinks": false,
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "orders"}},
                {"name": "node", "hostPath": {"path": "/var/log"}},
            ],
            "containers": containers,
        },
    })
}

/// A command component that reads variables, opens files and connects to its database.
fn orders() -> Value {
    json!({
        "name": "orders", "image": format!("ghcr.io/myorg/orders:1.4@{DIGEST}"), "command": ["/"],
        "env": [
            {"name": "ORDERS_URL", "value": "https://orders.example.com"},
            {"name": "ORDERS_DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        ],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "resources": {"requests": {"cpu": "50m", "memory": "10Mi"}, "limits": {"cpu": "200m", "memory": "32Mi"}},
    })
}

/// A Linux container that asks for everything that it should not have.
fn proxy() -> Value {
    json!({
        "name": "proxy", "image": format!("docker.io/library/envoy:v1@{DIGEST}"),
        "securityContext": {"privileged": true},
        "ports": [{"containerPort": 8080, "hostPort": 8080}, {"containerPort": 9090}],
        "volumeMounts": [
            {"name": "node", "mountPath": "/host/", "readOnly": true},
            {"name": "data", "mountPath": "/data"},
        ],
        "livenessProbe": {"exec": {"command": ["true"]}},
        "readinessProbe": {"httpGet": {"port": 80}},
        "lifecycle": {"postStart": {"httpGet": {"port": 80}}, "preStop": {"exec": {"command": ["sleep", "1"]}}},
    })
}

// === Its images ===

fn known((facts, program): (Value, Value)) -> LookupResult {
    let facts: ImageFacts = from_value(facts).unwrap();
    LookupResult::Known { facts: Arc::new(facts), program: from_value(program).unwrap() }
}

fn facts(kind: &str, shape: &str, modules: &Value) -> Value {
    json!({
        "digest": DIGEST, "manifestDigest": DIGEST, "kind": kind, "shape": shape, "platform": "",
        "evidence": [], "entrypoint": [], "cmd": [], "workingDir": "", "env": [], "modules": modules, "files": [],
        "scanned": false, "native": [], "warnings": [],
    })
}

fn module(source: &str, imports: &Value) -> Value {
    json!({
        "source": source, "format": "component", "imports": imports, "exports": ["wasi:cli/run@0.2.6"],
        "codeBytes": 400_000, "dataBytes": 20_000, "memoryBytes": 1_114_112, "sizeBytes": 600_000,
    })
}

fn component(further: &[(&str, &str)]) -> (Value, Value) {
    let import =
        |interface: &str, functions: &[&str]| json!({"interface": interface, "functions": functions});
    let mut imports = vec![
        import("wasi:cli/environment@0.2.6", &["get-environment"]),
        import("wasi:cli/stdout@0.2.6", &["get-stdout"]),
        import("wasi:clocks/wall-clock@0.2.6", &["now"]),
        import("wasi:filesystem/types@0.2.6", &["[method]descriptor.open-at"]),
        import("wasi:sockets/ip-name-lookup@0.2.6", &["resolve-addresses"]),
        import("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"]),
    ];
    imports.extend(further.iter().map(|(interface, function)| import(interface, &[function])));
    let modules = json!([module("sha256:2c26b46b68ff", &json!(imports))]);
    let mut facts = facts("component", "wasm-artifact", &modules);
    facts["evidence"] = json!([
        {"seen": "manifest.config.mediaType", "value": "application/vnd.wasm.config.v0+json"},
        {"seen": "layer media type", "value": "application/wasm"},
    ]);
    (facts, json!({"program": "wasm", "kind": "component", "packaging": "layers", "modules": [0]}))
}

fn linux() -> (Value, Value) {
    (facts("linux", "linux-rootfs", &json!([])), json!({"program": "linux"}))
}

fn spin_app() -> (Value, Value) {
    let modules = json!([module("sha256:fcde2b2edba5", &json!([]))]);
    let program = json!({"program": "wasm", "kind": "spin-app", "packaging": "layers", "modules": [0]});
    (facts("spin-app", "spin-artifact", &modules), program)
}

// === The grants ===

fn grant(expires_at: &str) -> Value {
    json!({
        "apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "orders-api", "namespace": "shop", "uid": "4f5c"},
        "spec": {
            "subjects": {"serviceAccounts": ["orders"], "images": ["ghcr.io/myorg/orders*"]},
            "capabilities": [
                {"name": "env", "names": ["ORDERS_*"], "secrets": true},
                {"name": "fs", "paths": ["/data"]},
                {"name": "net.tcp.connect"},
                {"name": "net.dns"},
            ],
            "expiresAt": expires_at,
        },
    })
}

/// A program that opens files next to the process that runs it may run native code.
fn process_grant() -> Value {
    json!({
        "apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "orders-process", "namespace": "shop"},
        "spec": {"subjects": {"serviceAccounts": ["orders"]}, "capabilities": [{"name": "native.exec"}]},
    })
}

fn lookup_grant() -> Value {
    json!({
        "apiVersion": "wasmgate.dev/v1alpha1", "kind": "ClusterWasiGrant", "metadata": {"name": "lookups"},
        "spec": {"namespaceSelector": {}, "capabilities": [{"name": "net.dns"}]},
    })
}
