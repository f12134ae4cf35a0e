//! Properties of the plan on generated pods through the real server: nothing is lost, and mutating twice is mutating
//! once.

use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use wasmgate::admission::examine;
use wasmgate::review::Webhook;
use wasmgate::workload::{self, Kind};

use crate::support::gate::{
    Flow, Request, Setup, defaulted, grant_documents, patch_of, patched, plug_ins, pod,
};

const NAMESPACE: &str = "shop";

fn cluster() -> Vec<Value> {
    let limits = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "sizes", "namespace": NAMESPACE},
        "spec": {"limits": [{"type": "Container", "min": {"memory": "8Mi"}, "max": {"memory": "1Gi", "cpu": "2"},
            "default": {"memory": "512Mi"}, "defaultRequest": {"memory": "256Mi", "cpu": "100m"}}]}});
    let class = |name: &str| {
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name,
            "overhead": {"podFixed": {"memory": "8Mi"}}, "scheduling": {"nodeSelector": {"runs": name}}})
    };
    vec![limits, class("wasmtime"), class("wasmtime-spin-v2")]
}

struct SharedFlow {
    runtime: Runtime,
    flow: Flow,
}

/// One gate for all generated pods.
fn shared_flow() -> &'static SharedFlow {
    static FLOW: OnceLock<SharedFlow> = OnceLock::new();
    FLOW.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        // Every item of a profile's hardening is on, and grants cover some of what the pods have.
        let hardening = "{automountServiceAccountToken: fill, readOnly: fill, enableServiceLinks: fill}";
        let profile = |name: &str, class: &str, runs: &str, ambient: &str| {
            format!("{{name: {name}, runtimeClass: {class}, runs: [{runs}], ambient: {ambient}, hardening: {hardening}, \
                     nodeAffinity: [{{key: kubernetes.io/os, operator: In, values: [linux]}}]}}")
        };
        let kinds = "module, component, http-component";
        let profiles = [profile("wasmtime", "wasmtime", kinds, "runwasi-wasmtime"),
            profile("spin", "wasmtime-spin-v2", "spin-app", "spin")];
        let configuration = format!("runtimes: {{profiles: [{}]}}\n", profiles.join(", "));
        let granted = json!([
            {"capabilities": [{"name": "native.exec"}]},
            {"capabilities": [{"name": "fs", "paths": ["/data"], "access": "read-only"}]},
            {"subjects": {"images": ["images.test/component"]},
                "capabilities": [{"name": "fs", "paths": ["/"], "secrets": true}, {"name": "env"}]},
        ]);
        let grants = grant_documents(granted.as_array().unwrap(), NAMESPACE);
        let setup = Setup { configuration, grants, cluster: cluster() };
        let flow = runtime.block_on(Flow::new(&setup));
        SharedFlow { runtime, flow }
    })
}

// === pods ===

fn image() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop_oneof!["hello", "files", "component", "http", "hungry", "buildx", "scratch"]
            .prop_map(|name| format!("images.test/{name}:v1")),
        2 => Just("images.test/linux:v1".to_string()),
        1 => Just("images.test/spin:v1".to_string()),
        1 => Just("images.test/gone:v1".to_string()),
        1 => Just("images.test/native-in-layer:v1".to_string()),
    ]
}

/// JSON that no version of the API has.
fn foreign() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z~/\"é\\\\ ]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z/~.]{1,6}", inner, 0..3)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn quantities(memory: &'static [&'static str], cpu: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let memory = prop::option::of(prop::sample::select(memory));
    let cpu = prop::option::of(prop::sample::select(cpu));
    (memory, cpu).prop_map(|(memory, cpu)| {
        let mut map = Map::new();
        map.extend(memory.map(|value| ("memory".to_string(), json!(value))));
        map.extend(cpu.map(|value| ("cpu".to_string(), json!(value))));
        Value::from(map)
    })
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let requests = quantities(&["5Mi", "16M", "100Mi"], &["10m", "0.1"]);
    let limits = quantities(&["128Mi", "1e8", "0.5Gi"], &["500m", "1"]);
    let mount = prop::option::of((
        prop::sample::select(vec!["/data", "/data/in", "/other"]),
        prop::option::of(any::<bool>()),
    ));
    (image(), requests, limits, foreign(), any::<bool>(), mount).prop_map(
        move |(image, requests, limits, extra, own, mount)| {
            let mut container = json!({"name": name, "image": image, "futureContainerField": extra});
            if let Some((path, read_only)) = mount {
                let mut mount = json!({"name": "data", "mountPath": path, "futureMountField": 1});
                if let Some(read_only) = read_only {
                    mount["readOnly"] = json!(read_only);
                }
                container["volumeMounts"] = json!([mount]);
            }
            if own {
                container["resources"] = json!({"requests": requests, "limits": limits, "claims": []});
            }
            container
        },
    )
}

fn affinity() -> impl Strategy<Value = Value> {
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
    let fields = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]});
    prop_oneof![
        Just(Value::Null),
        Just(json!({"podAntiAffinity": {}, "future": 1})),
        Just(json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [term, fields]}}})),
    ]
}

fn pods() -> impl Strategy<Value = Value> {
    let class = prop::option::weighted(0.3, prop::sample::select(vec!["wasmtime", "wasm", "kata"]));
    let init = prop::option::weighted(0.3, container("setup"));
    let parts = (
        container("app"),
        prop::option::of(container("side")),
        init,
        class,
        affinity(),
        foreign(),
        foreign(),
        prop::option::weighted(0.3, any::<bool>()),
    );
    parts.prop_map(|(app, side, init, class, affinity, extra, top, token)| {
        let mut spec = json!({"containers": [app], "futureSpecField": extra, "nodeSelector": {"disk": "ssd"},
                "volumes": [{"name": "data", "emptyDir": {}}]});
        if let Some(token) = token {
            spec["automountServiceAccountToken"] = json!(token);
        }
        spec["containers"].as_array_mut().unwrap().extend(side);
        if let Some(init) = init {
            spec["initContainers"] = json!([init]);
        }
        if let Some(class) = class {
            spec["runtimeClassName"] = json!(class);
        }
        if !affinity.is_null() {
            spec["affinity"] = affinity;
        }
        let mut pod = pod(&spec);
        pod["futureTopField"] = top;
        pod["metadata"]["annotations"] = json!({"example.com/note~1": "a/b"});
        pod
    })
}

// === what must hold ===

/// The object without everything that the gate may write.
fn stripped(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("wasmgate.dev/changed");
    let spec = pod["spec"].as_object_mut().unwrap();
    for field in ["runtimeClassName", "affinity", "automountServiceAccountToken", "enableServiceLinks"] {
        spec.remove(field);
    }
    // The token of the API server's plug-in, and what is read-only.
    let token = |item: &Value| item["name"] == "kube-api-access-x7k2p";
    spec["volumes"].as_array_mut().unwrap().retain(|volume| !token(volume));
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let image = container["image"].as_str().unwrap();
            container["image"] = json!(image.split('@').next());
            let mounts = container.get_mut("volumeMounts").and_then(Value::as_array_mut);
            if let Some(mounts) = mounts {
                mounts.retain(|mount| !token(mount));
                for mount in mounts {
                    mount.as_object_mut().unwrap().remove("readOnly");
                }
            }
            let container = container.as_object_mut().unwrap();
            container.retain(|key, value| key != "volumeMounts" || *value != json!([]));
            let resources = container["resources"].as_object_mut().unwrap();
            resources.retain(|key, _| !matches!(key.as_str(), "requests" | "limits"));
        }
    }
    pod
}

fn sent(pod: &Value) -> Request {
    Request::create(NAMESPACE, plug_ins(&defaulted(pod, NAMESPACE, ""), NAMESPACE, &cluster()))
}

/// Whether a container with this image is not known to start a Wasm program.
fn is_other(container: &Value) -> bool {
    let image = container["image"].as_str().unwrap();
    ["linux", "gone", "native-in-layer"].iter().any(|name| image.contains(&format!("/{name}:")))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn unknown_fields_survive_and_nothing_else_is_touched(pod in pods()) {
        let SharedFlow { runtime, flow } = shared_flow();
        let request = sent(&pod);
        let response = runtime.block_on(flow.send(Webhook::Mutate, &request));
        prop_assert_eq!(&response["allowed"], true);
        let after = patched(&request.object, &response);
        prop_assert_eq!(stripped(&after), stripped(&request.object));
    }

    #[test]
    fn the_patch_turns_the_raw_object_into_the_wanted_one(pod in pods()) {
        let SharedFlow { runtime, flow } = shared_flow();
        let request = sent(&pod);
        let (state, raw) = (flow.gate.state(), &request.object);
        let plan = runtime.block_on(async {
            let workload = workload::read(&raw.to_string(), Kind::Pod, NAMESPACE).unwrap();
            let budget = std::time::Duration::from_secs(20);
            let inspection = examine::inspect(&state, &flow.gate.inspector(), &workload, budget).await;
            examine::plan(&state, raw, &workload, &inspection, jiff::Timestamp::now()).unwrap()
        });
        let mut after = raw.clone();
        json_patch::patch(&mut after, &plan.patch).unwrap();
        prop_assert_eq!(&after, &plan.object);
        let response = runtime.block_on(flow.send(Webhook::Mutate, &request));
        prop_assert_eq!(patched(raw, &response), after);
    }

    #[test]
    fn what_a_person_wrote_stays_and_nothing_is_taken_from_a_pod_that_does_not_only_run_wasm(pod in pods()) {
        let SharedFlow { runtime, flow } = shared_flow();
        let request = sent(&pod);
        let response = runtime.block_on(flow.send(Webhook::Mutate, &request));
        let after = patched(&request.object, &response);
        let (before, spec) = (&request.object["spec"], &after["spec"]);
        let own = &pod["spec"]["automountServiceAccountToken"];
        let other = containers(&pod).any(is_other);
        if !own.is_null() || other {
            prop_assert_eq!(&spec["automountServiceAccountToken"], own);
            prop_assert_eq!(&spec["volumes"], &before["volumes"]);
        }
        if other {
            prop_assert_eq!(&spec["enableServiceLinks"], &before["enableServiceLinks"]);
        }
        // Every change is in the annotation, and in a warning.
        let said = after["metadata"]["annotations"]["wasmgate.dev/changed"].as_str().unwrap_or_default();
        let warned = response["warnings"].to_string();
        for (before, after) in containers(&request.object).zip(containers(&after)) {
            let mounts = |container: &Value| {
                let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
                mounts.into_iter().filter(|mount| mount["name"] == "data").collect::<Vec<_>>()
            };
            for (before, after) in mounts(before).iter().zip(mounts(after)) {
                if !before["readOnly"].is_null() {
                    prop_assert_eq!(before, &after);
                }
            }
            if is_other(before) {
                prop_assert_eq!(mounts(before), mounts(after));
            }
            let (name, changed) = (before["name"].as_str().unwrap(), mounts(before) != mounts(after));
            let entry = format!("readOnly/{name}");
            prop_assert_eq!(said.split(',').any(|one| one == entry), changed, "{}", said);
            let told = format!("container `{name}`: the mount at");
            prop_assert_eq!(warned.contains(&told), changed, "{}", warned);
        }
        let token = spec["automountServiceAccountToken"] != before["automountServiceAccountToken"];
        prop_assert_eq!(said.contains("automountServiceAccountToken"), token);
        prop_assert_eq!(warned.contains("the service-account token is not mounted"), token, "{}", warned);
        let links = spec["enableServiceLinks"] != before["enableServiceLinks"];
        prop_assert_eq!(said.contains("enableServiceLinks"), links);
        prop_assert_eq!(warned.contains("`enableServiceLinks: false` was set"), links, "{}", warned);
    }

    #[test]
    fn mutating_twice_is_mutating_once_even_after_the_api_servers_plug_ins(pod in pods()) {
        let SharedFlow { runtime, flow } = shared_flow();
        let mut request = sent(&pod);
        let first = runtime.block_on(flow.send(Webhook::Mutate, &request));
        request.object = plug_ins(&patched(&request.object, &first), NAMESPACE, &cluster());
        let second = runtime.block_on(flow.send(Webhook::Mutate, &request));
        prop_assert_eq!(patch_of(&second), None);
        // The API server keeps the first of two values and drops a different second one.
        prop_assert_eq!(&second["auditAnnotations"], &first["auditAnnotations"]);
        prop_assert_eq!(plug_ins(&request.object, NAMESPACE, &cluster()), request.object);
    }
}
