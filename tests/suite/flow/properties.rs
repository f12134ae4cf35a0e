//! Properties of the plan on generated pods through the real server: nothing is lost, and mutating twice is mutating
//! once.

use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use wasmgate::admission::examine;
use wasmgate::review::Webhook;
use wasmgate::workload::{self, Kind};

use crate::support::gate::{Flow, Request, Setup, defaulted, patch_of, patched, plug_ins, pod};

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
        let setup = Setup { cluster: cluster(), ..Setup::default() };
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
    (image(), requests, limits, foreign(), any::<bool>()).prop_map(
        move |(image, requests, limits, extra, own)| {
            let mut container = json!({"name": name, "image": image, "futureContainerField": extra});
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
    );
    parts.prop_map(|(app, side, init, class, affinity, extra, top)| {
        let mut spec =
            json!({"containers": [app], "futureSpecField": extra, "nodeSelector": {"disk": "ssd"}});
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
    for field in ["runtimeClassName", "affinity"] {
        spec.remove(field);
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let image = container["image"].as_str().unwrap();
            container["image"] = json!(image.split('@').next());
            let resources = container["resources"].as_object_mut().unwrap();
            resources.retain(|key, _| !matches!(key.as_str(), "requests" | "limits"));
        }
    }
    pod
}

fn sent(pod: &Value) -> Request {
    Request::create(NAMESPACE, plug_ins(&defaulted(pod, NAMESPACE, ""), NAMESPACE, &cluster()))
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
            let inspection = examine::inspect(&state, flow.gate.inspector(), &workload, budget).await;
            examine::plan(&state, raw, &workload, &inspection).unwrap()
        });
        let mut after = raw.clone();
        json_patch::patch(&mut after, &plan.patch).unwrap();
        prop_assert_eq!(&after, &plan.object);
        let response = runtime.block_on(flow.send(Webhook::Mutate, &request));
        prop_assert_eq!(patched(raw, &response), after);
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
