//! The plan on objects as the API server sends them: what it changes, what it leaves alone, and that a second round,
//! after the API server's own plug-ins, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use wasmgate::cluster::{Autoscaled, Cluster, LimitRanges, RuntimeClass, Target};
use wasmgate::image::prefix::{RepositoryPrefix, Unpinned};
use wasmgate::image::{ImageFacts, ImageKind, ModuleFacts, Packaging, Program};
use wasmgate::inspection::{Container, Inspection, LookupResult};
use wasmgate::lookup;
use wasmgate::plan::sizing::{self, Caps};
use wasmgate::plan::{CHANGED_ANNOTATION, Context, Error, Plan, Surplus, floor, plan};
use wasmgate::quantity::{Quantity, WrittenQuantity};
use wasmgate::runtime::{Family, Runtimes, SizingMode};
use wasmgate::usage::{LearnedSize, UsageKey};
use wasmgate::workload::{self, Kind, Workload};

use crate::support::facts;

// === a catalogue of images ===

fn digest(name: &str) -> String {
    let hex = name.bytes().cycle().take(32).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("sha256:{hex}")
}

fn module(code_bytes: u64, pages: u64) -> ModuleFacts {
    ModuleFacts { code_bytes, memory_bytes: pages * 65_536, size_bytes: code_bytes, ..facts::module() }
}

fn facts(name: &str, kind: ImageKind, modules: Vec<ModuleFacts>) -> ImageFacts {
    ImageFacts { modules, ..facts::image(&digest(name), kind) }
}

/// The Go hello program of the measurements: 1,601 KB of code, 38 pages.
fn go() -> Vec<ModuleFacts> {
    vec![module(1_601_000, 38)]
}

/// The image of that name; everything before the tag counts.
fn look_up(image: &str) -> LookupResult {
    let name = image.split([':', '@']).next().unwrap();
    let wasm = |kind, packaging, parts: Vec<ModuleFacts>| {
        let program = Program::Wasm { kind, packaging, modules: (0..parts.len()).collect() };
        (facts(name, kind, parts), program)
    };
    let (layers, rootfs) = (Packaging::Layers, Packaging::RootFilesystem);
    let (facts, program) = match name {
        "tiny" => wasm(ImageKind::Module, layers, vec![module(100, 1)]),
        "go-layer" => wasm(ImageKind::Module, layers, go()),
        "go-file" => wasm(ImageKind::Module, rootfs, go()),
        "monkey" => wasm(ImageKind::HttpComponent, rootfs, vec![module(9_007_000, 36)]),
        "absurd" => wasm(ImageKind::Module, rootfs, vec![module(u64::MAX, 1 << 40)]),
        "spin" => wasm(ImageKind::SpinApp, layers, vec![module(1 << 20, 16), module(1 << 20, 16)]),
        "linux" => (facts(name, ImageKind::Linux, Vec::new()), Program::Linux),
        "native" => {
            let program = Program::Native { source: "/bin/sh".into(), magic: "ELF".into() };
            (facts(name, ImageKind::Module, go()), program)
        }
        "lost" => {
            let error = lookup::Error::TimedOut { image: image.into(), budget_ms: 1 };
            return LookupResult::Unread { error: Arc::new(error) };
        }
        other => panic!("no image `{other}` in the catalogue"),
    };
    LookupResult::Known { facts: Arc::new(facts), program }
}

fn inspect(workload: &Workload) -> Inspection {
    let container = |one: workload::ImageUse<'_>| Container {
        role: one.role,
        index: one.index,
        name: one.name.to_owned(),
        image: one.image.to_owned(),
        lookup: look_up(one.image),
    };
    Inspection { containers: workload.images().into_iter().map(container).collect() }
}

// === one plan ===

#[derive(Debug, Clone, Default)]
struct World {
    runtimes: Runtimes,
    cluster: Cluster,
    unpinned: Unpinned,
    raises_learned: bool,
}

impl World {
    fn context(&self) -> Context<'_> {
        Context {
            runtimes: &self.runtimes,
            cluster: &self.cluster,
            unpinned: &self.unpinned,
            raises_learned: self.raises_learned,
        }
    }

    fn clamping() -> Self {
        let mut world = Self::default();
        world.runtimes.profiles.iter_mut().for_each(|profile| profile.sizing.mode = SizingMode::Clamp);
        world
    }

    fn with_limits(mut self, items: Value) -> Self {
        let ranges = LimitRanges::of(serde_json::from_value(items).unwrap()).unwrap();
        self.cluster.limit_ranges.insert("shop".into(), ranges);
        self
    }

    /// Teaches what the image has used under the profile `wasmtime`, and lets that raise requests.
    fn with_learned(mut self, image: &str, memory: u32, cpu: i128) -> Self {
        let key = UsageKey { digest: digest(image).parse().unwrap(), runtime: "wasmtime".into() };
        let size = LearnedSize { memory: Quantity::mebibytes(memory), cpu: Quantity::from_millis(cpu) };
        Arc::make_mut(&mut self.cluster.learned).insert(key, size);
        self.raises_learned = true;
        self
    }

    fn with_class(mut self, name: &str, selector: &[(&str, &str)]) -> Self {
        let node_selector = selector.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let class = RuntimeClass { handler: name.into(), node_selector, labels: BTreeMap::new() };
        self.cluster.runtime_classes.get_or_insert_default().insert(name.into(), class);
        self
    }

    fn with_tolerations(mut self, tolerations: Value) -> Self {
        let list: Vec<_> = serde_json::from_value(tolerations).unwrap();
        self.runtimes.profiles.iter_mut().for_each(|profile| profile.tolerations.clone_from(&list));
        self
    }

    fn try_plan(&self, kind: Kind, raw: &Value) -> Result<Plan, Error> {
        let workload = workload::read(&raw.to_string(), kind, "shop").unwrap();
        let context = self.context();
        let found = plan(raw, &workload, &inspect(&workload), &context, &Surplus::default());
        if let Ok(plan) = &found {
            assert_eq!(plan.patch, json_patch::diff(raw, &plan.object), "the difference of the two objects");
        }
        found
    }

    /// Plans a pod, and checks what must be true of every plan.
    fn plan(&self, raw: &Value) -> Plan {
        let plan = self.try_plan(Kind::Pod, raw).unwrap();
        let mut patched = raw.clone();
        json_patch::patch(&mut patched, &plan.patch).unwrap();
        assert_eq!(patched, plan.object, "the patch leads to the wanted object");
        assert_eq!(plan.patch.0.is_empty(), plan.changes.is_empty());
        assert_eq!(plan.object["spec"].get("overhead"), raw["spec"].get("overhead"));
        plan
    }
}

fn pod(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "orders" }, "spec": spec })
}

fn one(image: &str) -> Value {
    pod(json!({ "containers": [{ "name": "app", "image": image }] }))
}

fn sized(image: &str, resources: Value) -> Value {
    pod(json!({ "containers": [{ "name": "app", "image": image, "resources": resources }] }))
}

fn resources(plan: &Plan) -> &Value {
    &plan.object["spec"]["containers"][0]["resources"]
}

/// Requests and limits as `cpu/memory cpu/memory`.
fn brief(plan: &Plan) -> String {
    let found = resources(plan);
    let at = |side: &str, name: &str| found[side][name].as_str().unwrap_or("-").to_owned();
    let (r, l) = ("requests", "limits");
    format!("{}/{} {}/{}", at(r, "cpu"), at(r, "memory"), at(l, "cpu"), at(l, "memory"))
}

fn warned(plan: &Plan, words: &[&str]) {
    let mut lines = plan.warnings.iter().chain(&plan.notices);
    let found = lines.any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "no warning with {words:?} in {plan:#?}");
}

fn changed(plan: &Plan) -> &str {
    plan.object["metadata"]["annotations"][CHANGED_ANNOTATION].as_str().unwrap()
}

// === which objects it concerns ===

#[test]
fn a_linux_image_under_a_wasm_class_is_pinned_and_nothing_else_is_changed() {
    let containers = json!([{ "name": "app", "image": "linux:1" }]);
    let raw = pod(json!({ "containers": containers, "runtimeClassName": "wasmtime" }));
    let plan = World::default().plan(&raw);
    assert_eq!(changed(&plan), "image/app");
    assert_eq!(plan.object["spec"]["containers"][0]["image"], format!("linux:1@{}", digest("linux")));
    assert_eq!(plan.object["spec"].as_object().unwrap().len(), 2, "{}", plan.object);
}

#[test]
fn a_pod_without_a_wasm_program_is_not_touched() {
    let volume = json!({ "name": "model", "image": { "reference": "go-layer:1" } });
    let linux = json!([{ "name": "app", "image": "linux:1" }]);
    let table = [
        one("linux:1"),
        one("lost:1"),
        one("native:1"),
        pod(json!({ "containers": linux, "volumes": [volume] })),
        pod(json!({ "containers": linux, "ephemeralContainers": [{ "name": "debug", "image": "tiny:1" }] })),
    ];
    for raw in table {
        let plan = World::default().plan(&raw);
        assert_eq!(plan.object, raw);
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    }
}

#[test]
fn the_mirror_of_a_static_pod_is_not_touched() {
    let mut raw = one("go-layer:1");
    raw["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "abc" });
    let plan = World::default().plan(&raw);
    assert_eq!((plan.object, plan.warnings), (raw, Vec::new()));
}

#[test]
fn a_wasm_pod_gets_class_affinity_size_and_pin_and_nothing_else_is_in_the_patch() {
    let plan = World::default().plan(&one("go-layer:1"));
    let spec = &plan.object["spec"];
    assert_eq!(spec["runtimeClassName"], "wasmtime");
    assert_eq!(
        *terms(&plan),
        json!([{ "matchExpressions": [{ "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] }] }])
    );
    assert_eq!(brief(&plan), "50m/13Mi 200m/32Mi");
    assert_eq!(spec["containers"][0]["image"], format!("go-layer:1@{}", digest("go-layer")));
    assert_eq!(changed(&plan), "runtimeClassName,affinity,resources/app,image/app");
    let operations = serde_json::to_value(&plan.patch).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: BTreeSet<(String, String)> =
        operations.as_array().unwrap().iter().map(|one| (text(&one["op"]), text(&one["path"]))).collect();
    let expected = [
        ("add", "/metadata/annotations"),
        ("add", "/spec/affinity"),
        ("replace", "/spec/containers/0/image"),
        ("add", "/spec/containers/0/resources"),
        ("add", "/spec/runtimeClassName"),
    ];
    assert_eq!(found, expected.map(|(op, path)| (op.to_owned(), path.to_owned())).into());
}

#[test]
fn templates_are_planned_in_place_as_their_pods_will_be() {
    let template = json!({ "spec": { "containers": [{ "name": "app", "image": "go-layer:1" }] } });
    let table = [
        (Kind::PodTemplate, json!({ "template": template })),
        (Kind::Deployment, json!({ "spec": { "replicas": 2, "template": template } })),
        (Kind::StatefulSet, json!({ "spec": { "template": template } })),
        (Kind::Job, json!({ "spec": { "template": template } })),
        (Kind::CronJob, json!({ "spec": { "jobTemplate": { "spec": { "template": template } } } })),
    ];
    for (kind, raw) in table {
        let plan = World::default().try_plan(kind, &raw).unwrap();
        let pod = plan.object.pointer(kind.template_pointer()).unwrap();
        assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime", "{kind:?}");
        assert_eq!(pod["spec"]["containers"][0]["image"], format!("go-layer:1@{}", digest("go-layer")));
        let changed = &pod["metadata"]["annotations"][CHANGED_ANNOTATION];
        assert_eq!(changed, "runtimeClassName,affinity,resources/app,image/app", "{kind:?}");
        assert_eq!(plan.object.get("metadata"), None, "{kind:?}");
    }
}

#[test]
fn entries_of_an_earlier_review_stay_in_front_once_each_if_they_could_be_its_own() {
    let mut raw = one("go-layer:1");
    let earlier = "image/app,image/app,x,image/other,affinity,,resources/app,affinity,labels/app";
    raw["metadata"]["annotations"][CHANGED_ANNOTATION] = json!(earlier);
    let plan = World::default().plan(&raw);
    assert_eq!(changed(&plan), "image/app,affinity,resources/app,runtimeClassName");
}

#[test]
fn an_inspection_of_another_object_is_refused() {
    let workload = workload::read(&one("go-layer:1").to_string(), Kind::Pod, "shop").unwrap();
    let world = World::default();
    let context = world.context();
    let mut renamed = one("go-layer:1");
    renamed["spec"]["containers"][0]["name"] = json!("other");
    for other in [renamed, one("linux:1"), pod(json!({ "containers": [] }))] {
        let error = plan(&other, &workload, &inspect(&workload), &context, &Surplus::default()).unwrap_err();
        assert!(matches!(error, Error::FindContainer { .. }), "{error}");
    }
    for broken in [json!({}), json!({ "spec": 3 }), json!(null)] {
        let error = plan(&broken, &workload, &inspect(&workload), &context, &Surplus::default()).unwrap_err();
        assert!(matches!(error, Error::ReadField { .. }), "{error}");
    }
    let template = Workload { kind: Kind::Deployment, ..workload.clone() };
    let without = json!({ "spec": { "template": 3 } });
    let error = plan(&without, &template, &inspect(&template), &context, &Surplus::default()).unwrap_err();
    assert_eq!(
        error.in_template("spec.template").to_string(),
        "could not plan: `spec.template.spec` is not that of a pod or a pod template; correct it, or leave it out"
    );
}

// === placement ===

#[test]
fn a_class_that_the_cluster_lacks_is_never_written() {
    let world = World::default().with_class("runc", &[]);
    let plan = world.plan(&one("go-layer:1"));
    assert_eq!(plan.object["spec"].get("runtimeClassName"), None);
    assert_eq!(plan.object["spec"].get("affinity"), None);
    assert_eq!(plan.object["spec"]["containers"][0].get("resources"), None);
    warned(&plan, &["RuntimeClass `wasmtime`", "create it"]);
    // What was judged is what runs, whatever runtime runs it.
    assert_eq!(changed(&plan), "image/app");
    let known = World::default().with_class("wasmtime", &[]).plan(&one("go-layer:1"));
    assert_eq!(known.object["spec"]["runtimeClassName"], "wasmtime");
}

#[test]
fn a_class_is_chosen_by_name_then_alias_then_handler_and_by_its_labels() {
    let class = |world: &World| world.plan(&one("go-layer:1")).object["spec"]["runtimeClassName"].clone();
    let add = |world: &mut World, name: &str, handler: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let class = RuntimeClass { handler: handler.into(), labels, ..RuntimeClass::default() };
        world.cluster.runtime_classes.get_or_insert_default().insert(name.into(), class);
    };
    let mut world = World::default();
    world.runtimes.profiles[0].handlers.insert("shim-v1".into());
    add(&mut world, "linux", "runc", &[]);
    assert_eq!(class(&world), Value::Null);
    add(&mut world, "zeta", "wasmtime", &[]);
    assert_eq!(class(&world), "zeta");
    add(&mut world, "beta", "shim-v1", &[("pool", "wasm")]);
    assert_eq!(class(&world), "beta", "of several the first by name");
    add(&mut world, "wasm", "whatever", &[]);
    assert_eq!(class(&world), "wasm", "an alias comes before a handler");
    add(&mut world, "wasmtime", "whatever", &[]);
    assert_eq!(class(&world), "wasmtime");
    // A class that another profile names does not belong to this profile, whatever its handler.
    add(&mut world, "spin", "wasmtime", &[("pool", "wasm")]);
    world.runtimes.profiles[0].class_labels.insert("pool".into(), "wasm".into());
    assert_eq!(class(&world), "beta");
    world.runtimes.profiles[0].class_labels.insert("pool".into(), "gone".into());
    let plan = world.plan(&one("go-layer:1"));
    assert_eq!(plan.object["spec"].get("runtimeClassName"), None);
    warned(&plan, &["`pool=gone`", "`shim-v1`", "profile `wasmtime`"]);
}

#[test]
fn of_several_classes_one_whose_node_selector_suits_the_pod_is_written() {
    let world =
        World::default().with_class("wasmtime", &[("pool", "wasm")]).with_class("wasm", &[("pool", "gpu")]);
    let mut raw = one("go-layer:1");
    raw["spec"]["nodeSelector"] = json!({ "pool": "gpu" });
    assert_eq!(world.plan(&raw).object["spec"]["runtimeClassName"], "wasm");
}

#[test]
fn a_class_whose_node_selector_conflicts_with_the_pods_is_not_written() {
    let world = World::default().with_class("wasmtime", &[("pool", "wasm")]);
    let with = |selector: Value| {
        let mut raw = one("go-layer:1");
        raw["spec"]["nodeSelector"] = selector;
        world.plan(&raw)
    };
    let conflict = with(json!({ "pool": "gpu" }));
    assert_eq!(conflict.object["spec"].get("runtimeClassName"), None);
    warned(&conflict, &["RuntimeClass `wasmtime`", "`pool=wasm`", "nodeSelector"]);
    for selector in [json!({ "pool": "wasm" }), json!({ "disk": "ssd" }), json!(null)] {
        assert_eq!(with(selector).object["spec"]["runtimeClassName"], "wasmtime");
    }
}

#[test]
fn containers_that_need_different_runtimes_get_none() {
    let two = json!([{ "name": "a", "image": "go-layer:1" }, { "name": "b", "image": "spin:1" }]);
    let plan = World::default().plan(&pod(json!({ "containers": two })));
    assert_eq!(plan.object["spec"].get("runtimeClassName"), None);
    warned(&plan, &["`a` (module) and `b` (spin-app)", "pods of their own"]);
    // A runtime that runs both resolves the conflict.
    let mut world = World::default();
    world.runtimes.profiles[1].runs.insert(ImageKind::Module);
    let plan = world.plan(&pod(json!({ "containers": two })));
    assert_eq!(plan.object["spec"]["runtimeClassName"], "wasmtime-spin-v2");
}

#[test]
fn kinds_decide_and_sidecars_image_volumes_and_native_code_do_not() {
    let model = json!({ "name": "model", "image": { "reference": "go-layer:1" } });
    let raw = pod(json!({
        "initContainers": [{ "name": "setup", "image": "linux:1" }],
        "containers": [{ "name": "app", "image": "spin:1" }, { "name": "sh", "image": "native:1" }],
        "volumes": [model, { "name": "tmp", "emptyDir": {} }],
    }));
    let plan = World::default().plan(&raw);
    assert_eq!(plan.object["spec"]["runtimeClassName"], "wasmtime-spin-v2");
    let init = pod(json!({
        "initContainers": [{ "name": "setup", "image": "monkey:1" }],
        "containers": [{ "name": "app", "image": "linux:1" }],
    }));
    assert_eq!(World::default().plan(&init).object["spec"]["runtimeClassName"], "wasmtime");
}

#[test]
fn a_kind_without_a_profile_is_not_placed() {
    let mut world = World::default();
    world.runtimes.placement.remove(&ImageKind::Module);
    let plan = world.plan(&one("go-layer:1"));
    assert_eq!(plan.object["spec"].get("runtimeClassName"), None);
    warned(&plan, &["`app`", "kind `module`", "`runtimeClassName`"]);
}

#[test]
fn a_class_that_a_person_set_is_kept() {
    let with = |class: &str| {
        let mut raw = one("go-layer:1");
        raw["spec"]["runtimeClassName"] = json!(class);
        World::default().plan(&raw)
    };
    let alias = with("wasm");
    assert_eq!(alias.object["spec"]["runtimeClassName"], "wasm");
    assert_eq!(brief(&alias), "50m/13Mi 200m/32Mi");
    assert!(alias.object["spec"].get("affinity").is_some());
    let wrong = with("wasmtime-spin-v2");
    assert_eq!(wrong.object["spec"]["runtimeClassName"], "wasmtime-spin-v2");
    warned(&wrong, &["`app`", "`wasmtime-spin-v2` cannot run", "`module`"]);
    let unknown = with("kata");
    assert_eq!(unknown.object["spec"]["runtimeClassName"], "kata");
    assert_eq!(unknown.object["spec"].get("affinity"), None);
    assert_eq!(unknown.changes.len(), 1, "only the pin: {:?}", unknown.changes);
    assert_eq!(with("").object["spec"]["runtimeClassName"], "wasmtime", "empty is unset, says the API");
}

// === affinity and tolerations ===

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

fn required(terms: Value) -> Value {
    let mut raw = one("go-layer:1");
    raw["spec"]["affinity"] = json!({ "podAntiAffinity": { "x": 1 }, "nodeAffinity": { REQUIRED: terms } });
    raw
}

fn terms(plan: &Plan) -> &Value {
    &plan.object["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
}

/// Plans an object that the reader would refuse: the plan must not rely on the reader.
fn unread(world: &World, raw: &Value) -> Result<Plan, Error> {
    let workload = workload::read(&one("go-layer:1").to_string(), Kind::Pod, "shop").unwrap();
    let context = world.context();
    plan(raw, &workload, &inspect(&workload), &context, &Surplus::default())
}

#[test]
fn the_requirement_is_anded_into_every_term_that_can_match() {
    let linux = json!({ "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] });
    let zone = json!({ "key": "zone", "operator": "In", "values": ["a"] });
    let field = json!({ "key": "metadata.name", "operator": "In", "values": ["node-1"] });
    let raw = required(json!({ "nodeSelectorTerms": [
        { "matchExpressions": [zone] },
        { "matchFields": [field] },
        { "matchExpressions": [linux, zone] },
        { "matchExpressions": null, "matchFields": [field] },
        {},
        { "matchExpressions": [], "matchFields": [] },
        null,
    ] }));
    let plan = unread(&World::default(), &raw).unwrap();
    assert_eq!(
        *terms(&plan),
        json!([
            { "matchExpressions": [zone, linux] },
            { "matchFields": [field], "matchExpressions": [linux] },
            { "matchExpressions": [linux, zone] },
            { "matchExpressions": [linux], "matchFields": [field] },
            // These terms match no node. With a requirement added they would admit the pod to every Linux node.
            {},
            { "matchExpressions": [], "matchFields": [] },
            null,
        ])
    );
    assert_eq!(plan.object["spec"]["affinity"]["podAntiAffinity"]["x"], 1);
    warned(&plan, &["completed", "`kubernetes.io/os In [linux]`"]);
    let mut again = plan.object.clone();
    again["spec"]["containers"] = raw["spec"]["containers"].clone();
    let again = unread(&World::default(), &again).unwrap();
    assert_eq!(again.object["spec"]["affinity"], plan.object["spec"]["affinity"]);
}

#[test]
fn a_term_list_that_matches_nothing_is_not_widened() {
    for nothing in [json!({ "nodeSelectorTerms": [] }), json!({}), json!({ "nodeSelectorTerms": [{}] })] {
        let raw = required(nothing);
        let plan = unread(&World::default(), &raw).unwrap();
        assert_eq!(plan.object["spec"]["affinity"], raw["spec"]["affinity"]);
        assert!(!changed(&plan).contains("affinity"), "{}", changed(&plan));
    }
}

#[test]
fn an_affinity_without_requirements_gets_one_term_beside_what_is_there() {
    let preferred = json!([{ "weight": 1, "preference": { "matchExpressions": [] } }]);
    let key = "preferredDuringSchedulingIgnoredDuringExecution";
    let table = [
        json!(null),
        json!({}),
        json!({ "nodeAffinity": null }),
        json!({ "nodeAffinity": { key: preferred } }),
        json!({ "nodeAffinity": { REQUIRED: null } }),
    ];
    for affinity in table {
        let mut raw = one("go-layer:1");
        raw["spec"]["affinity"] = affinity.clone();
        let plan = World::default().plan(&raw);
        assert_eq!(terms(&plan)[0]["matchExpressions"][0]["key"], "kubernetes.io/os", "{affinity}");
        let kept = &plan.object["spec"]["affinity"]["nodeAffinity"];
        assert_eq!(kept.get(key), affinity.pointer(&format!("/nodeAffinity/{key}")));
    }
}

#[test]
fn a_malformed_field_is_reported_by_name() {
    let node = |required: Value| json!({ "nodeAffinity": { REQUIRED: required } });
    let fields = json!({ "nodeSelectorTerms": [{ "matchFields": 1 }] });
    let table = [
        ("affinity", json!([]), "`spec.affinity`"),
        ("affinity", json!({ "nodeAffinity": "x" }), "`spec.affinity.nodeAffinity`"),
        ("affinity", node(json!([])), REQUIRED),
        ("affinity", node(json!({ "nodeSelectorTerms": {} })), ".nodeSelectorTerms`"),
        ("affinity", node(json!({ "nodeSelectorTerms": [1] })), "Terms[0]`"),
        ("affinity", node(fields), ".nodeSelectorTerms[0].matchFields`"),
        ("tolerations", json!({}), "`spec.tolerations`"),
        ("tolerations", json!([3]), "`spec.tolerations[0]`"),
        ("runtimeClassName", json!(3), "`spec.runtimeClassName`"),
        ("resources", json!(3), "`spec.resources`"),
    ];
    let world = World::default().with_tolerations(json!([{ "key": "wasm", "operator": "Exists" }]));
    for (field, value, expected) in table {
        let mut raw = one("go-layer:1");
        raw["spec"][field] = value;
        let error = unread(&world, &raw).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut raw = one("go-layer:1");
    raw["metadata"] = json!([]);
    assert!(unread(&world, &raw).unwrap_err().to_string().contains("`metadata`"));
}

#[test]
fn tolerations_are_appended_unless_the_pod_has_them_or_wider_ones() {
    let wasm = json!({ "key": "wasm", "operator": "Equal", "value": "yes", "effect": "NoSchedule" });
    let world = World::default().with_tolerations(json!([wasm]));
    let with = |list: Value| {
        let mut raw = one("go-layer:1");
        raw["spec"]["tolerations"] = list;
        world.plan(&raw).object["spec"]["tolerations"].clone()
    };
    let other = json!({ "key": "gpu", "operator": "Exists" });
    assert_eq!(with(json!(null)), json!([wasm]));
    assert_eq!(with(json!([other])), json!([other, wasm]));
    let wide = json!([{ "key": "wasm", "operator": "Exists" }]);
    assert_eq!(with(wide.clone()), wide);
    assert_eq!(with(json!([wasm])), json!([wasm]));
    assert_eq!(World::default().plan(&one("go-layer:1")).object["spec"].get("tolerations"), None);
}

// === pins ===

#[test]
fn every_image_that_was_read_is_pinned_in_its_own_spelling() {
    let raw = pod(json!({
        "initContainers": [{ "name": "setup", "image": "linux" }],
        "containers": [
            { "name": "app", "image": "tiny:1.0", "imagePullPolicy": "Always" },
            { "name": "side", "image": "linux:2@sha256:0000" },
            { "name": "lost", "image": "lost:1" },
        ],
        "volumes": [
            { "name": "tmp", "emptyDir": {} },
            { "name": "app", "image": { "reference": "linux:3", "pullPolicy": "IfNotPresent" } },
        ],
    }));
    let plan = World::default().plan(&raw);
    let spec = &plan.object["spec"];
    let linux = digest("linux");
    assert_eq!(spec["initContainers"][0]["image"], format!("linux@{linux}"));
    assert_eq!(spec["containers"][0]["image"], format!("tiny:1.0@{}", digest("tiny")));
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec["containers"][1]["image"], "linux:2@sha256:0000");
    assert_eq!(spec["containers"][2]["image"], "lost:1");
    assert_eq!(spec["volumes"][1]["image"]["reference"], format!("linux:3@{linux}"));
    assert_eq!(spec["volumes"][1]["image"]["pullPolicy"], "IfNotPresent");
    assert_eq!(changed(&plan), "runtimeClassName,affinity,resources/app,image/setup,image/app,volume/app");
    warned(&plan, &["the images of `setup`, `app`, `app` were pinned"]);
}

#[test]
fn an_image_of_an_unpinned_registry_keeps_its_tag_and_is_placed_and_sized_as_any_other() {
    let raw = pod(json!({
        "containers": [
            { "name": "app", "image": "tiny:1.0" },
            { "name": "side", "image": "linux:2" },
        ],
        "volumes": [{ "name": "model", "image": { "reference": "tiny:3" } }],
    }));
    let pinned = World::default().plan(&raw);
    let prefix = RepositoryPrefix::parse("docker.io/library/tiny").unwrap();
    let plan = World { unpinned: Unpinned::new(vec![prefix]), ..World::default() }.plan(&raw);
    let mut expected = pinned.object.clone();
    expected["spec"]["containers"][0]["image"] = json!("tiny:1.0");
    expected["spec"]["volumes"][0]["image"]["reference"] = json!("tiny:3");
    expected["metadata"]["annotations"][CHANGED_ANNOTATION] =
        json!("runtimeClassName,affinity,resources/app,image/side");
    assert_eq!(plan.object, expected);
    warned(&plan, &["the images of `side` were pinned"]);
}

// === size ===

#[test]
fn sizes_follow_the_table() {
    let mem = |request: &str, limit: &str| {
        let mut found = json!({});
        for (side, value) in [("requests", request), ("limits", limit)] {
            if !value.is_empty() {
                found[side] = json!({ "memory": value });
            }
        }
        found
    };
    let number = json!({ "limits": { "memory": 33_554_432 } });
    let (fill, clamp) = (World::default, World::clamping);
    let table = [
        ("nothing said, a small program", fill(), "tiny:1", json!({}), "50m/10Mi 200m/32Mi"),
        ("null is nothing said", fill(), "tiny:1", json!(null), "50m/10Mi 200m/32Mi"),
        ("a layer is raised a little", fill(), "go-layer:1", json!({}), "50m/13Mi 200m/32Mi"),
        ("a file is raised a lot, and compiles", fill(), "go-file:1", json!({}), "50m/96Mi 257m/96Mi"),
        ("an app's modules add up on Spin's base", fill(), "spin:1", json!({}), "50m/34Mi 200m/34Mi"),
        ("a larger limit is kept", fill(), "tiny:1", mem("", "64Mi"), "50m/10Mi 200m/64Mi"),
        ("a limit under our request takes it down", fill(), "tiny:1", mem("", "8Mi"), "50m/8Mi 200m/8Mi"),
        ("a request over our limit takes it up", fill(), "tiny:1", mem("100Mi", ""), "50m/100Mi 200m/100Mi"),
        ("a small request is kept", fill(), "tiny:1", mem("1Mi", ""), "50m/1Mi 200m/32Mi"),
        ("both are kept", fill(), "go-file:1", mem("1Gi", "2Gi"), "50m/1Gi 257m/2Gi"),
        ("a bare number is bytes", fill(), "tiny:1", number, "50m/10Mi 200m/-"),
        ("clamping lowers", clamp(), "tiny:1", mem("1Gi", "2Gi"), "50m/32Mi 200m/32Mi"),
        ("clamping raises", clamp(), "go-file:1", mem("1Mi", "2Mi"), "50m/96Mi 257m/96Mi"),
        (
            "clamping brings a request under its limit",
            clamp(),
            "tiny:1",
            mem("20Mi", "8Mi"),
            "50m/8Mi 200m/8Mi",
        ),
        ("clamping keeps what fits", clamp(), "tiny:1", mem("6Mi", "20Mi"), "50m/6Mi 200m/20Mi"),
    ];
    for (what, world, image, resources, expected) in table {
        assert_eq!(brief(&world.plan(&sized(image, resources))), expected, "{what}");
    }
}

#[test]
fn a_file_gets_memory_for_the_processors_that_it_is_left() {
    let four = json!({ "limits": { "cpu": "4" } });
    let with_four = |mut world: World| {
        let four = WrittenQuantity::cpu(Quantity::from_millis(4000));
        world.runtimes.profiles.iter_mut().for_each(|profile| profile.sizing.cpu_limit = four.clone());
        world
    };
    let three = || json!([{ "type": "Pod", "max": { "cpu": "3" } }]);
    let (fill, clamp) = (World::default, World::clamping);
    for (what, world, resources, expected) in [
        ("a person's limit", fill(), &four, "50m/104Mi 4/104Mi"),
        ("a person's limit that is lowered", clamp(), &four, "50m/96Mi 257m/96Mi"),
        ("the profile's limit", with_four(fill()), &json!({}), "50m/104Mi 4000m/104Mi"),
        (
            "one that the pod is not left",
            with_four(fill()).with_limits(three()),
            &json!({}),
            "50m/100Mi 3000m/100Mi",
        ),
        ("the same, clamped", with_four(clamp()).with_limits(three()), &four, "50m/100Mi 3000m/100Mi"),
        ("none", fill(), &json!({ "limits": { "cpu": "0" } }), "0/152Mi 0/152Mi"),
    ] {
        let plan = world.plan(&sized("go-file:1", resources.clone()));
        assert_eq!(brief(&plan), expected, "{what}");
        assert_eq!(world.plan(&plan.object).object, plan.object, "{what}, again");
    }
    // Under sizes of the pod that name no CPU limit none is filled in.
    let container =
        json!({ "name": "app", "image": "go-file:1", "resources": { "limits": { "memory": "140Mi" } } });
    let spec = json!({ "resources": { "requests": { "cpu": "100m" } }, "containers": [container] });
    warned(&World::default().plan(&pod(spec)), &["`app`", "limit of 140Mi", "152Mi or more"]);
}

#[test]
fn a_limit_that_is_too_low_is_kept_or_raised_with_a_warning() {
    let raw = sized("go-file:1", json!({ "limits": { "memory": "32Mi" } }));
    let kept = World::default().plan(&raw);
    assert_eq!(resources(&kept)["limits"]["memory"], "32Mi");
    warned(&kept, &["`app`", "32Mi", "137", "OOMKilled", "96Mi or more"]);
    let mut crun = World::default();
    crun.runtimes.profiles.iter_mut().for_each(|profile| profile.ambient = Family::CrunWasmtime);
    let kept = crun.plan(&raw);
    warned(&kept, &["`app`", "killed for memory; set a memory limit"]);
    assert!(!kept.warnings.iter().any(|line| line.contains("runwasi")), "{:?}", kept.warnings);
    let raised = World::clamping().plan(&raw);
    assert_eq!(resources(&raised)["limits"]["memory"], "96Mi");
    warned(&raised, &["`app`", "limits.memory is now 96Mi (was 32Mi)", "clamps"]);
    let unlimited = World::default().plan(&sized("go-file:1", json!({ "limits": { "memory": "0" } })));
    assert!(!unlimited.warnings.iter().any(|line| line.contains("137")), "{:?}", unlimited.warnings);
}

#[test]
fn a_limit_of_the_pod_that_is_too_low_for_its_programs_together_causes_a_warning() {
    let planned = |limit: &str, init: Value| {
        let containers = ["app", "beside"].map(|name| json!({ "name": name, "image": "go-file:1" }));
        let resources = json!({ "limits": { "memory": limit }, "requests": { "memory": "64Mi" } });
        let spec = json!({ "resources": resources, "containers": containers, "initContainers": init });
        World::default().plan(&pod(spec)).warnings
    };
    let together = |warnings: &[String]| warnings.iter().filter(|line| line.contains("run together")).count();
    let low = planned("191Mi", json!([]));
    assert_eq!(together(&low), 1, "{low:?}");
    let line = low.iter().find(|line| line.contains("run together")).unwrap();
    for part in ["about 192Mi to start", "limit of the pod of 191Mi", "137", "`spec.resources.limits.memory`"]
    {
        assert!(line.contains(part), "{line}");
    }
    let setup = json!({ "name": "setup", "image": "go-file:1" });
    let mut sidecar = setup.clone();
    sidecar["restartPolicy"] = json!("Always");
    for (init, expected) in [(json!([]), 0), (json!([setup]), 0), (json!([sidecar]), 1)] {
        assert_eq!(together(&planned("192Mi", init.clone())), expected, "{init}");
    }
}

#[test]
fn a_cpu_limit_that_makes_compiling_slow_causes_a_warning() {
    let low = World::default().plan(&sized("monkey:1", json!({ "limits": { "cpu": 0.1 } })));
    assert_eq!(resources(&low)["limits"]["cpu"], 0.1);
    warned(&low, &["compiles for 15 to 29 CPU seconds", "limit of 100m", "1442m or more"]);
    let filled = World::default().plan(&one("monkey:1"));
    assert_eq!(resources(&filled)["limits"]["cpu"], "1442m");
    assert!(!filled.warnings.iter().any(|line| line.contains("compiles")));
}

/// The program takes 14.4 s to compile as estimated, and 28,823 ms at the slowest.
#[test]
fn a_cpu_limit_is_filled_in_with_which_a_slow_machine_compiles_before_a_probe_restarts_the_container() {
    let planned = |world: &World, probe: &Value, limit: &Value| {
        let container = json!({ "name": "app", "image": "monkey:1", "livenessProbe": probe,
            "resources": { "limits": limit } });
        world.plan(&pod(json!({ "containers": [container] })))
    };
    let says = |plan: &Plan, seconds: u64| {
        let why = format!("before its `livenessProbe` may restart it after {seconds} s");
        plan.changes.iter().filter(|line| line.contains(".limits.cpu = ") && line.contains(&why)).count()
    };
    for (probe, seconds, expected, explained) in [
        // Ten seconds ask for as much.
        (json!({}), 20, "1442m", 0),
        // 1254m would be enough, and ten seconds ask for more.
        (json!({ "initialDelaySeconds": 3 }), 23, "1442m", 0),
        (json!({ "periodSeconds": 9 }), 18, "1602m", 1),
        (json!({ "periodSeconds": 8 }), 16, "1802m", 1),
        // 14412m would be needed. That more than two processors compile faster was not measured.
        (json!({ "periodSeconds": 1 }), 2, "1442m", 0),
        (json!({ "failureThreshold": 1 }), 0, "1442m", 0),
    ] {
        let plan = planned(&World::default(), &probe, &json!({}));
        assert_eq!(
            (&resources(&plan)["limits"]["cpu"], says(&plan, seconds)),
            (&json!(expected), explained),
            "{probe}"
        );
        let clamped = planned(&World::clamping(), &probe, &json!({}));
        assert_eq!(
            (&resources(&clamped)["limits"]["cpu"], says(&clamped, seconds)),
            (&json!("1442m"), 0),
            "{probe}"
        );
    }
    // The limit that a person wrote stays, and the warning names one of which nothing is said.
    let low = planned(&World::default(), &json!({}), &json!({ "cpu": "100m" }));
    assert_eq!((&resources(&low)["limits"]["cpu"], says(&low, 20)), (&json!("100m"), 0));
    warned(&low, &["limit of 100m", "1442m or more"]);
    let small = World::default().with_limits(json!([{ "type": "Container", "max": { "cpu": "1" } }]));
    assert_eq!(resources(&planned(&small, &json!({}), &json!({})))["limits"]["cpu"], "1000m");
}

#[test]
fn a_limit_of_the_pod_that_is_too_low_is_the_one_that_a_warning_says_to_raise() {
    let planned = |image: &str, of_pod: Value, own: Value| {
        let container = json!({ "name": "app", "image": image, "resources": { "limits": own } });
        World::default().plan(&pod(json!({ "resources": { "limits": of_pod }, "containers": [container] })))
    };
    for (image, of_pod, own, fix) in [
        (
            "go-file:1",
            json!({ "memory": "64Mi" }),
            json!({ "memory": "32Mi" }),
            "; set `spec.resources.limits.memory` to 96Mi or more, and no lower limit in the container",
        ),
        (
            "go-file:1",
            json!({ "memory": "96Mi" }),
            json!({ "memory": "32Mi" }),
            "; set a memory limit of 96Mi or more",
        ),
        (
            "monkey:1",
            json!({ "cpu": "500m" }),
            json!({ "cpu": "100m" }),
            "; set `spec.resources.limits.cpu` to 1442m or more, and no lower limit in the container, or push",
        ),
        ("monkey:1", json!({ "cpu": "2" }), json!({ "cpu": "100m" }), "; set one of 1442m or more, or push"),
    ] {
        warned(&planned(image, of_pod, own), &["`app`", fix]);
    }
}

#[test]
fn a_value_that_the_limit_ranger_filled_in_does_not_count_as_chosen() {
    let with = |annotation: &str| {
        let (requests, limits) =
            (json!({ "cpu": "1", "memory": "256Mi" }), json!({ "cpu": "2", "memory": "512Mi" }));
        let mut raw = sized("tiny:1", json!({ "requests": requests, "limits": limits }));
        raw["metadata"]["annotations"] = json!({ "kubernetes.io/limit-ranger": annotation });
        brief(&World::default().plan(&raw))
    };
    let both = "cpu, memory request for container app; cpu, memory limit for container app";
    assert_eq!(with(&format!("LimitRanger plugin set: {both}")), "50m/10Mi 200m/32Mi");
    // The request that a person chose is kept, and the limit, which no person chose, is raised for it.
    let limits = "LimitRanger plugin set: cpu, memory limit for container app";
    assert_eq!(with(limits), "1/256Mi 1000m/256Mi");
    let other =
        "LimitRanger plugin set: cpu, memory limit for init container app; cpu request for container b";
    let kept = "1/256Mi 2/512Mi";
    assert_eq!(with(other), kept);
    for junk in
        ["", both, "LimitRanger plugin set: ; for container ;; limit", "💥 container ", "a container app"]
    {
        assert_eq!(with(junk), kept, "{junk}");
    }
}

/// Two LimitRanges in one namespace: the plug-in's annotation names what the last of them filled in.
#[test]
fn what_any_of_several_limit_ranges_filled_in_was_not_chosen() {
    let limits = [
        json!({ "type": "Container", "default": { "memory": "512Mi" }, "defaultRequest": { "memory": "256Mi" } }),
        json!({ "type": "Container", "default": { "cpu": "2" }, "defaultRequest": { "cpu": "1" } }),
    ];
    let world = World::default().with_limits(json!(limits));
    let server = ApiServer { limits: &limits, classes: &BTreeMap::new() };
    let planned = |written: &Value, other: Option<&str>| {
        let mut raw = sized("tiny:1", written.clone());
        manage(&mut raw);
        check_rounds_with(&world, &server, &raw, other);
        server.round(&mut raw);
        if let Some(memory) = other {
            resize_by_another_webhook(&mut raw, memory);
        }
        world.plan(&raw)
    };
    let nothing = planned(&json!({}), None);
    assert_eq!(brief(&nothing), "50m/10Mi 200m/32Mi");
    assert!(nothing.notices.iter().all(|line| !line.contains("clamps")), "{:?}", nothing.notices);
    let was = "spec.containers[0].resources.limits.memory = 32Mi (was 512Mi, filled in by a LimitRange)";
    assert!(nothing.changes.iter().any(|line| line == was), "{:?}", nothing.changes);
    // A person may write what a LimitRange would have filled in.
    let own = json!({ "limits": { "memory": "512Mi" }, "requests": { "memory": "256Mi" } });
    assert_eq!(brief(&planned(&own, None)), "50m/256Mi 200m/512Mi");
    assert_eq!(brief(&planned(&json!({}), Some("100Mi"))), "50m/100Mi 200m/100Mi", "so may another webhook");
}

#[test]
fn our_values_stay_inside_the_namespaces_limit_ranges() {
    let container = |extra: Value| {
        let mut item = json!({ "type": "Container" });
        item.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        World::default().with_limits(json!([item]))
    };
    let several = World::default().with_limits(json!([
        { "type": "Container", "max": { "memory": "24Mi" } },
        { "type": "Container", "max": { "memory": "20Mi" }, "min": { "memory": "12Mi" } },
        { "type": "PersistentVolumeClaim", "max": { "memory": "1Mi" } },
    ]));
    let max = container(json!({ "max": { "memory": "20Mi", "cpu": "100m" } }));
    let min = container(json!({ "min": { "memory": "64Mi", "cpu": "1" } }));
    let ratios = container(json!({ "maxLimitRequestRatio": { "memory": "2", "cpu": "1.5" } }));
    let ratio = container(json!({ "maxLimitRequestRatio": { "memory": "2" } }));
    let (none, request) = (json!({}), json!({ "requests": { "memory": "10Mi" } }));
    let table = [
        ("max", max, &none, "50m/10Mi 100m/20Mi"),
        ("min", min, &none, "1000m/64Mi 1000m/64Mi"),
        ("our limit raises our request to the ratio", ratios, &none, "134m/16Mi 200m/32Mi"),
        ("a person's request lowers our limit to the ratio", ratio, &request, "50m/10Mi 200m/20Mi"),
        ("the narrowest of several", several, &none, "50m/12Mi 200m/20Mi"),
    ];
    for (what, world, resources, expected) in table {
        assert_eq!(brief(&world.plan(&sized("tiny:1", resources.clone()))), expected, "{what}");
    }
}

#[test]
fn a_limit_range_that_is_too_small_for_the_program_is_named() {
    let world = World::default().with_limits(json!([{ "type": "Container", "max": { "memory": "64Mi" } }]));
    let plan = world.plan(&one("go-file:1"));
    assert_eq!(resources(&plan)["limits"]["memory"], "64Mi");
    warned(&plan, &["LimitRange of namespace `shop`", "64Mi at most", "raise that to 96Mi"]);
}

/// Memory of the containers after planning, as `request/limit`, under LimitRanges of type `Pod`.
fn memory_under(pod_limits: &Value, spec: Value) -> (Vec<String>, Plan) {
    let mut item = json!({ "type": "Pod" });
    item.as_object_mut().unwrap().extend(pod_limits.as_object().unwrap().clone());
    let plan = World::default().with_limits(json!([item])).plan(&pod(spec));
    let all = ["initContainers", "containers"].map(|list| plan.object["spec"][list].as_array().cloned());
    let brief = |container: Value| {
        let at = |side: &str| container["resources"][side]["memory"].as_str().unwrap_or("-").to_owned();
        format!("{}/{}", at("requests"), at("limits"))
    };
    (all.into_iter().flatten().flatten().map(brief).collect(), plan)
}

#[test]
fn our_values_add_up_to_what_the_namespace_allows_a_pod() {
    let tiny =
        |name: &str, resources: Value| json!({ "name": name, "image": "tiny:1", "resources": resources });
    let (a, b) = (tiny("a", json!({})), tiny("b", json!({})));
    let own = tiny("b", json!({ "requests": { "memory": "20Mi" }, "limits": { "memory": "24Mi" } }));
    let linux = json!({ "name": "l", "image": "linux:1",
        "resources": { "requests": { "memory": "24Mi" }, "limits": { "memory": "24Mi" } } });
    let sidecar = |mut container: Value| {
        container["restartPolicy"] = json!("Always");
        container
    };
    let max = |text: &str| json!({ "max": { "memory": text } });
    let table = [
        ("memory enough", max("64Mi"), json!({ "containers": [a, b] }), vec!["10Mi/32Mi", "10Mi/32Mi"]),
        ("the first gives way", max("48Mi"), json!({ "containers": [a, b] }), vec!["10Mi/16Mi", "10Mi/32Mi"]),
        ("with its request", max("40Mi"), json!({ "containers": [a, b] }), vec!["8Mi/8Mi", "10Mi/32Mi"]),
        (
            "what a person wrote stays",
            max("40Mi"),
            json!({ "containers": [a, own] }),
            vec!["10Mi/16Mi", "20Mi/24Mi"],
        ),
        (
            "so does a Linux container",
            max("40Mi"),
            json!({ "containers": [linux, a] }),
            vec!["24Mi/24Mi", "10Mi/16Mi"],
        ),
        (
            "an init container runs alone",
            max("40Mi"),
            json!({ "initContainers": [a], "containers": [b] }),
            vec!["10Mi/32Mi", "10Mi/32Mi"],
        ),
        (
            "and beside the sidecars that came before",
            max("40Mi"),
            json!({ "initContainers": [sidecar(own.clone()), a], "containers": [tiny("c", json!({}))] }),
            vec!["20Mi/24Mi", "10Mi/16Mi", "10Mi/16Mi"],
        ),
        (
            "requests reach a minimum",
            json!({ "min": { "memory": "30Mi" } }),
            json!({ "containers": [a, b] }),
            vec!["20Mi/32Mi", "10Mi/32Mi"],
        ),
        (
            "with limits where they must",
            json!({ "min": { "memory": "80Mi" } }),
            json!({ "containers": [a, b] }),
            vec!["48Mi/48Mi", "32Mi/32Mi"],
        ),
        (
            "a ratio of the sums",
            json!({ "maxLimitRequestRatio": { "memory": "2" } }),
            json!({ "containers": [a, b] }),
            vec!["22Mi/32Mi", "10Mi/32Mi"],
        ),
    ];
    for (what, limits, spec, expected) in table {
        let (found, plan) = memory_under(&limits, spec);
        assert_eq!(found, expected, "{what}");
        assert!(!plan.warnings.iter().any(|line| line.contains("add up")), "{what}: {:?}", plan.warnings);
    }
    let world = World::default().with_limits(json!([{ "type": "Pod", "max": { "cpu": "300m" } }]));
    let plan = world.plan(&pod(json!({ "containers": [a, b] })));
    assert_eq!(brief(&plan), "50m/10Mi 100m/32Mi");
}

#[test]
fn a_pod_that_cannot_fit_into_its_limit_range_causes_a_warning() {
    let tiny =
        |name: &str, resources: Value| json!({ "name": name, "image": "tiny:1", "resources": resources });
    let wide = tiny("b", json!({ "limits": { "memory": "64Mi" } }));
    let two = json!({ "containers": [tiny("a", json!({})), wide] });
    let (_, plan) = memory_under(&json!({ "max": { "memory": "40Mi" } }), two.clone());
    let spec = &plan.object["spec"]["containers"];
    let floor = Quantity::from_json(&spec[0]["resources"]["limits"]["memory"]).unwrap();
    assert!(floor > Quantity::ZERO && floor < Quantity::parse("10Mi").unwrap(), "{spec}");
    assert_eq!(spec[1]["resources"]["limits"]["memory"], "64Mi");
    warned(&plan, &["memory limits of the pod add up to", "40Mi at most for a pod", "namespace `shop`"]);
    let (_, plan) = memory_under(&json!({ "min": { "memory": "1Gi" }, "max": { "memory": "100Mi" } }), two);
    warned(&plan, &["memory requests of the pod add up to", "1024Mi at least of a pod"]);
    let both = json!({ "requests": { "memory": "1Mi" }, "limits": { "memory": "8Mi" } });
    let mut asked = tiny("a", both);
    asked["resources"]["limits"]["cpu"] = json!("1");
    let ratio = json!({ "maxLimitRequestRatio": { "memory": "2" } });
    let (_, plan) = memory_under(&ratio, json!({ "containers": [asked] }));
    warned(&plan, &["limits of the pod add up to 8Mi, and its requests to 1Mi", "2 times the requests"]);
}

#[test]
fn clamped_values_are_quoted_as_written() {
    for (written, quoted) in
        [(json!("1Gi"), "1Gi"), (json!("1024Mi"), "1024Mi"), (json!(1_073_741_824), "1Gi")]
    {
        let resources = json!({ "requests": { "memory": written }, "limits": { "memory": "2G" } });
        let plan = World::clamping().plan(&sized("tiny:1", resources));
        let request = plan.notices.iter().find(|line| line.contains("requests.memory")).unwrap();
        let quoted = if written.is_string() { quoted } else { "1024Mi" };
        let profile = "runtime profile `wasmtime` clamps sizes";
        assert_eq!(
            *request,
            format!("container `app`: requests.memory is now 32Mi (was {quoted}): {profile}")
        );
        warned(&plan, &["limits.memory is now 32Mi (was 2G)"]);
    }
}

#[test]
fn a_limit_of_zero_is_none_and_a_profile_that_clamps_leaves_none() {
    let none = json!({ "requests": { "cpu": "0", "memory": "0" }, "limits": { "cpu": "0", "memory": "0" } });
    let plan = World::clamping().plan(&sized("tiny:1", none.clone()));
    assert_eq!(resources(&plan)["limits"], json!({ "cpu": "200m", "memory": "32Mi" }));
    warned(&plan, &["limits.cpu is now 200m (was 0)"]);
    warned(&plan, &["limits.memory is now 32Mi (was 0)"]);
    assert_eq!(resources(&World::default().plan(&sized("tiny:1", none)))["limits"]["cpu"], "0");
}

#[test]
fn a_ratio_that_leaves_too_little_for_the_program_is_named() {
    let world = World::default()
        .with_limits(json!([{ "type": "Container", "maxLimitRequestRatio": { "memory": "2" } }]));
    let plan = world.plan(&sized("go-file:1", json!({ "requests": { "memory": "10Mi" } })));
    assert_eq!(brief(&plan), "50m/10Mi 257m/20Mi");
    warned(&plan, &["memory limit of 20Mi", "96Mi or more", "ratio", "namespace `shop`"]);
}

#[test]
fn a_learned_request_is_filled_in_between_the_floor_and_the_limit_of_the_profile_which_stays() {
    for (image, memory, cpu, expected) in [
        ("go-layer", 20, 15, "15m/20Mi 200m/32Mi"),
        ("go-layer", 1, 15, "15m/13Mi 200m/32Mi"),
        ("go-layer", 900, 15, "15m/32Mi 200m/32Mi"),
        ("tiny", 7, 15, "15m/7Mi 200m/32Mi"),
        ("tiny", 7, 1, "10m/7Mi 200m/32Mi"),
        ("tiny", 7, 900, "200m/7Mi 200m/32Mi"),
        ("go-file", 20, 250, "250m/96Mi 257m/96Mi"),
    ] {
        for world in [World::default(), World::clamping()] {
            let plan = world.with_learned(image, memory, cpu).plan(&one(&format!("{image}:1")));
            assert_eq!(brief(&plan), expected, "{image} {memory} {cpu}");
            assert_eq!(changed(&plan), "runtimeClassName,affinity,resources/app,learned/app,image/app");
            let line = ", learned from the memory that this image has used under `wasmtime`";
            assert!(plan.changes.iter().any(|change| change.ends_with(line)), "{:?}", plan.changes);
        }
    }
}

/// One tenant of a shared image must not use up the quota of another by what its pods use.
#[test]
fn what_was_learned_raises_no_request_unless_the_platform_says_so() {
    for (image, memory, cpu, expected, learned) in [
        ("tiny", 7, 15, "15m/7Mi 200m/32Mi", vec!["memory", "cpu"]),
        ("tiny", 10, 50, "50m/10Mi 200m/32Mi", vec!["memory", "cpu"]),
        ("tiny", 900, 15, "15m/10Mi 200m/32Mi", vec!["cpu"]),
        ("tiny", 7, 900, "50m/7Mi 200m/32Mi", vec!["memory"]),
        ("tiny", 900, 900, "50m/10Mi 200m/32Mi", vec![]),
        ("go-layer", 1, 1, "10m/13Mi 200m/32Mi", vec!["memory", "cpu"]),
        ("go-layer", 14, 51, "50m/13Mi 200m/32Mi", vec![]),
    ] {
        let mut world = World::default().with_learned(image, memory, cpu);
        world.raises_learned = false;
        let plan = world.plan(&one(&format!("{image}:1")));
        assert_eq!(brief(&plan), expected, "{image} {memory} {cpu}");
        let said = |resource: &str| {
            let line = format!(", learned from the {resource} that this image has used under `wasmtime`");
            plan.changes.iter().any(|change| change.ends_with(&line))
        };
        for resource in ["memory", "cpu"] {
            assert_eq!(said(resource), learned.contains(&resource), "{resource}: {:?}", plan.changes);
        }
        assert_eq!(changed(&plan).contains("learned/app"), !learned.is_empty(), "{}", changed(&plan));
    }
}

#[test]
fn what_was_learned_changes_no_persons_value_and_no_other_image_or_runtime() {
    let world = World::default().with_learned("go-layer", 20, 15);
    let own = json!({ "requests": { "memory": "5Mi", "cpu": "7m" } });
    let plan = world.plan(&sized("go-layer:1", own));
    assert_eq!(brief(&plan), "7m/5Mi 200m/32Mi");
    assert!(!changed(&plan).contains("learned"), "{}", changed(&plan));
    let plan = world.plan(&sized("go-layer:1", json!({ "limits": { "memory": "16Mi" } })));
    assert_eq!(brief(&plan), "15m/16Mi 200m/16Mi", "never more than a person's limit");
    assert_eq!(brief(&world.plan(&one("tiny:1"))), "50m/10Mi 200m/32Mi");
    let mut elsewhere = World::default();
    let key = UsageKey { digest: digest("go-layer").parse().unwrap(), runtime: "spin".into() };
    let size = world.cluster.learned.of(&key.digest, "wasmtime").unwrap();
    Arc::make_mut(&mut elsewhere.cluster.learned).insert(key, size);
    elsewhere.raises_learned = true;
    assert_eq!(brief(&elsewhere.plan(&one("go-layer:1"))), "50m/13Mi 200m/32Mi");
    let whole = json!({ "containers": [{ "name": "app", "image": "go-layer:1" }], "resources": { "limits": { "memory": "64Mi" } } });
    assert_eq!(brief(&world.plan(&pod(whole))), "15m/- 200m/-");
}

#[test]
fn a_learned_request_is_within_the_namespaces_limit_range() {
    let bounds = json!([{ "type": "Container", "min": { "memory": "24Mi" }, "max": { "cpu": "12m" } }]);
    let plan = World::default().with_limits(bounds).with_learned("go-layer", 20, 15).plan(&one("go-layer:1"));
    assert_eq!(brief(&plan), "12m/24Mi 12m/32Mi");
    let ratio = json!([{ "type": "Container", "maxLimitRequestRatio": { "memory": "1", "cpu": "10" } }]);
    let plan = World::default().with_limits(ratio).with_learned("go-layer", 20, 15).plan(&one("go-layer:1"));
    assert_eq!(brief(&plan), "20m/32Mi 200m/32Mi");
}

#[test]
fn where_a_vertical_pod_autoscaler_sizes_the_workload_nothing_learned_is_filled_in() {
    let mut autoscaled = Autoscaled::default();
    autoscaled.insert("shop", Target { kind: "Deployment".into(), name: "orders".into() });
    let mut world = World::default().with_learned("go-layer", 20, 15);
    world.cluster.autoscaled = Arc::new(autoscaled);
    let mut raw = one("go-layer:1");
    for (owner, expected) in [("orders-5f6b", "50m/13Mi 200m/32Mi"), ("others-5f6b", "15m/20Mi 200m/32Mi")] {
        raw["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "u", "controller": true }]);
        assert_eq!(brief(&world.plan(&raw)), expected, "{owner}");
    }
    let template = json!({ "spec": { "containers": [{ "name": "app", "image": "go-layer:1" }] } });
    let deployment = json!({ "metadata": { "name": "orders" }, "spec": { "template": template } });
    let plan = world.try_plan(Kind::Deployment, &deployment).unwrap();
    let resources = &plan.object["spec"]["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(resources["requests"]["memory"], "13Mi");
}

#[test]
fn under_a_pod_level_size_nothing_is_filled_in_for_that_resource() {
    let mut raw = one("go-file:1");
    raw["spec"]["resources"] = json!({ "limits": { "memory": "64Mi" }, "requests": { "memory": "64Mi" } });
    let plan = World::default().plan(&raw);
    assert_eq!(brief(&plan), "50m/- 257m/-");
    assert_eq!(plan.object["spec"]["resources"], raw["spec"]["resources"]);
    warned(&plan, &["memory limit of 64Mi", "96Mi or more"]);
    raw["spec"]["containers"][0]["resources"] = json!({ "limits": { "memory": "2Gi" } });
    raw["spec"]["resources"]["limits"]["memory"] = json!("4Gi");
    assert_eq!(brief(&World::clamping().plan(&raw)), "50m/- 257m/96Mi", "clamping lowers, here too");
    raw["spec"]["containers"][0]["resources"] = json!({ "limits": { "memory": "0" } });
    assert_eq!(brief(&World::clamping().plan(&raw)), "50m/- 257m/96Mi", "zero means none");
    raw["spec"]["resources"]["limits"]["memory"] = json!("64Mi");
    assert_eq!(brief(&World::clamping().plan(&raw)), "50m/- 257m/64Mi", "not more than the pod");
    raw["spec"]["resources"]["limits"]["memory"] = json!("0");
    assert_eq!(
        brief(&World::clamping().plan(&raw)),
        "50m/- 257m/0",
        "the pod may have no limit of a container"
    );
    assert_eq!(brief(&World::default().plan(&raw)), "50m/- 257m/0");
}

#[test]
fn of_a_pod_level_limit_and_that_of_a_container_one_of_zero_is_none() {
    let mut raw = sized("go-file:1", json!({ "limits": { "memory": "0" } }));
    raw["spec"]["resources"] = json!({ "limits": { "memory": "64Mi" } });
    warned(&World::default().plan(&raw), &["memory limit of 64Mi", "96Mi or more"]);
    raw["spec"]["resources"]["limits"]["memory"] = json!("0");
    raw["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("64Mi");
    warned(&World::default().plan(&raw), &["memory limit of 64Mi", "96Mi or more"]);
}

#[test]
fn sidecars_and_ephemeral_containers_are_not_sized() {
    let mesh = json!({ "name": "mesh", "image": "linux:1", "restartPolicy": "Always" });
    let raw = pod(json!({
        "initContainers": [{ "name": "setup", "image": "tiny:1" }, mesh],
        "containers": [{ "name": "app", "image": "tiny:1" }, { "name": "side", "image": "linux:1" }],
        "ephemeralContainers": [{ "name": "debug", "image": "tiny:1" }],
    }));
    let plan = World::default().plan(&raw);
    let table = [
        ("initContainers", 0, true),
        ("initContainers", 1, false),
        ("containers", 0, true),
        ("containers", 1, false),
        ("ephemeralContainers", 0, false),
    ];
    for (list, index, expected) in table {
        let container = &plan.object["spec"][list][index];
        assert_eq!(container.get("resources").is_some(), expected, "{list}[{index}]");
    }
}

#[test]
fn other_resources_of_the_container_are_left_alone() {
    let limits = json!({ "example.com/gpu": 1, "memory": null });
    let given = json!({ "claims": [{ "name": "gpu" }], "limits": limits, "requests": null });
    let plan = unread(&World::default(), &sized("go-layer:1", given)).unwrap();
    assert_eq!(
        *resources(&plan),
        json!({
            "claims": [{ "name": "gpu" }],
            "limits": { "example.com/gpu": 1, "memory": "32Mi", "cpu": "200m" },
            "requests": { "memory": "13Mi", "cpu": "50m" },
        })
    );
}

#[test]
fn an_invalid_quantity_is_reported_with_its_field() {
    let field = "`spec.containers[0].resources.limits.memory` is `lots`";
    let raw = sized("tiny:1", json!({ "limits": { "memory": "lots" } }));
    let error = World::default().try_plan(Kind::Pod, &raw).unwrap_err().to_string();
    assert!(error.contains(field), "{error}");
}

#[test]
fn a_module_of_absurd_size_gets_a_quantity_that_the_api_server_can_read() {
    let plan = World::default().plan(&one("absurd:1"));
    let memory = resources(&plan)["limits"]["memory"].as_str().unwrap();
    assert!(memory.ends_with("Mi") && Quantity::parse(memory).is_ok(), "{memory}");
    assert!(Quantity::parse(resources(&plan)["limits"]["cpu"].as_str().unwrap()).is_ok());
}

// === the annotation ===

#[test]
fn a_forged_annotation_gains_nothing_and_only_valid_entries_stay() {
    let with = |value: &str, image: &str| {
        let mut raw = one(image);
        raw["metadata"]["annotations"] = json!({ CHANGED_ANNOTATION: value });
        World::default().plan(&raw)
    };
    let honest = World::default().plan(&one("go-layer:1"));
    let entries = "resources/app,,image/none,<script>,resources/app/x,runtimeClassName,evil/app";
    let forged = with(entries, "go-layer:1");
    assert_eq!(forged.object["spec"], honest.object["spec"]);
    assert_eq!(changed(&forged), "resources/app,runtimeClassName,affinity,image/app");
    assert!(with("anything", "linux:1").patch.0.is_empty());
}

// === the API server between two rounds ===

/// What the API server does to a pod before each call of the webhook. Written from its sources, and shares no code with
/// the plan: defaulting, LimitRanger, RuntimeClass, `DefaultTolerationSeconds`, and respelled quantities.
struct ApiServer<'a> {
    limits: &'a [Value],
    classes: &'a BTreeMap<String, Value>,
}

fn containers_of(pod: &mut Value) -> impl Iterator<Item = (&'static str, &mut Value)> {
    let lists =
        pod["spec"].as_object_mut().unwrap().iter_mut().filter_map(|(key, value)| match key.as_str() {
            "containers" => Some(("container", value)),
            "initContainers" => Some(("init container", value)),
            _ => None,
        });
    lists.flat_map(|(what, list)| list.as_array_mut().unwrap().iter_mut().map(move |one| (what, one)))
}

impl ApiServer<'_> {
    fn round(&self, pod: &mut Value) {
        default_requests(pod);
        for item in self.limits.iter().filter(|item| item["type"] == "Container") {
            limit_ranger(item, pod);
        }
        self.runtime_class(pod);
        toleration_seconds(pod);
        respell(pod);
    }

    fn runtime_class(&self, pod: &mut Value) {
        let spec = &mut pod["spec"];
        let Some(class) = spec["runtimeClassName"].as_str().and_then(|name| self.classes.get(name)) else {
            return;
        };
        spec["overhead"] = class["overhead"].clone();
        for (key, value) in class["nodeSelector"].as_object().unwrap() {
            let own = spec["nodeSelector"].get(key);
            assert!(own.is_none_or(|own| own == value), "the API server would refuse the pod");
            spec["nodeSelector"][key] = value.clone();
        }
        let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
        all.extend(class["tolerations"].as_array().unwrap().clone());
        // Of two tolerations for one key, the one with `Exists` and no effect is wider; the narrower one is dropped.
        let wide = |one: &Value| one["operator"] == "Exists" && one.get("effect").is_none();
        let mut merged: Vec<Value> = Vec::new();
        for (index, one) in all.iter().enumerate() {
            let swallowed = all.iter().enumerate().any(|(other, wider)| {
                (one == wider && other < index) || (one != wider && wide(wider) && wider["key"] == one["key"])
            });
            if !swallowed {
                merged.push(one.clone());
            }
        }
        if !merged.is_empty() {
            spec["tolerations"] = json!(merged);
        }
    }
}

/// `SetDefaults_Pod`: a limit without a request becomes the request too.
fn default_requests(pod: &mut Value) {
    for (_, container) in containers_of(pod) {
        let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
        for (name, value) in limits {
            if container["resources"]["requests"].get(&name).is_none() {
                container["resources"]["requests"][name] = value;
            }
        }
    }
}

fn limit_ranger(item: &Value, pod: &mut Value) {
    let mut clauses = Vec::new();
    for (what, container) in containers_of(pod) {
        for (from, side, word) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")]
        {
            let mut set = Vec::new();
            for (name, value) in item[from].as_object().cloned().unwrap_or_default() {
                if container["resources"][side].get(&name).is_none() {
                    container["resources"][side][&name] = value;
                    set.push(name);
                }
            }
            if !set.is_empty() {
                let name = container["name"].as_str().unwrap();
                clauses.push(format!("{} {word} for {what} {name}", set.join(", ")));
            }
        }
    }
    if !clauses.is_empty() {
        let value = format!("LimitRanger plugin set: {}", clauses.join("; "));
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] = json!(value);
    }
}

fn toleration_seconds(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let own = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        if !own.iter().any(|one| one["key"] == key) {
            let added =
                json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 });
            pod["spec"]["tolerations"] = json!([own, vec![added]].concat());
        }
    }
}

/// The canonical form: `1000m` is `1`, `1024Mi` is `1Gi`.
fn respell(pod: &mut Value) {
    for (_, container) in containers_of(pod) {
        for side in ["requests", "limits"] {
            let Some(amounts) = container["resources"][side].as_object_mut() else { continue };
            for value in amounts.values_mut() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let number: i64 = text.trim_end_matches(char::is_alphabetic).parse().unwrap();
                let shorter = match text.trim_start_matches(|c: char| c.is_ascii_digit()) {
                    "m" if number % 1000 == 0 => (number / 1000).to_string(),
                    "Mi" if number % 1024 == 0 => format!("{}Gi", number / 1024),
                    _ => text.clone(),
                };
                *value = json!(shorter);
            }
        }
    }
}

/// What the API server lists of a new pod before the plug-ins run: the sizes that came with the request, defaults among
/// them.
fn manage(pod: &mut Value) {
    default_requests(pod);
    let mut fields = json!({});
    for (what, container) in containers_of(pod) {
        let list = if what == "container" { "f:containers" } else { "f:initContainers" };
        let own = &mut fields["f:spec"][list][format!("k:{{\"name\":{}}}", container["name"])];
        *own = json!({ ".": {}, "f:image": {}, "f:name": {} });
        for side in ["requests", "limits"] {
            for name in
                container["resources"][side].as_object().into_iter().flat_map(|amounts| amounts.keys())
            {
                own["f:resources"][format!("f:{side}")][format!("f:{name}")] = json!({});
            }
        }
    }
    pod["metadata"]["managedFields"] = json!([{ "manager": "kubectl", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields }]);
}

/// Another webhook that chooses the sizes of containers, and is called before ours.
fn resize_by_another_webhook(pod: &mut Value, memory: &str) {
    for (_, container) in containers_of(pod) {
        container["resources"]["limits"]["memory"] = json!(memory);
        container["resources"]["requests"]["memory"] = json!(memory);
    }
}

fn check_rounds(world: &World, server: &ApiServer<'_>, raw: &Value) {
    check_rounds_with(world, server, raw, None);
}

fn check_rounds_with(world: &World, server: &ApiServer<'_>, raw: &Value, other: Option<&str>) {
    let mut object = raw.clone();
    server.round(&mut object);
    if let Some(memory) = other {
        resize_by_another_webhook(&mut object, memory);
    }
    let first = world.plan(&object);
    let mut object = first.object.clone();
    server.round(&mut object);
    let second = world.plan(&object);
    assert!(second.patch.0.is_empty(), "round two changes {:#?}\nof {object:#}", second.changes);
    // Also without the API server in between.
    let again = world.plan(&first.object);
    assert!(again.patch.0.is_empty(), "planning the planned changes {:#?}", again.changes);
}

fn class(overhead: &str, selector: Value, tolerations: Value) -> Value {
    json!({ "overhead": { "memory": overhead }, "nodeSelector": selector, "tolerations": tolerations })
}

#[test]
fn round_two_is_empty_when_the_class_brings_overhead_selector_and_a_wider_toleration() {
    let narrow = json!([{ "key": "wasm", "operator": "Equal", "value": "yes", "effect": "NoSchedule" }]);
    let world = World::default().with_tolerations(narrow).with_class("wasmtime", &[("pool", "wasm")]);
    let wide = json!([{ "key": "wasm", "operator": "Exists" }]);
    let classes = BTreeMap::from([("wasmtime".into(), class("32Mi", json!({ "pool": "wasm" }), wide))]);
    let limits = [json!({ "type": "Container", "default": { "memory": "512Mi", "cpu": "1" },
        "defaultRequest": { "memory": "256Mi", "cpu": "500m" } })];
    let server = ApiServer { limits: &limits, classes: &classes };
    for image in ["tiny:1", "go-file:1", "monkey:1"] {
        check_rounds(&world, &server, &one(image));
        check_rounds(&world, &server, &sized(image, json!({ "limits": { "memory": "2Gi" } })));
    }
}

// === properties ===

const MEMORY: [&str; 8] = ["1Mi", "8Mi", "20Mi", "32Mi", "100Mi", "1Gi", "64M", "50000000"];
const CPU: [&str; 6] = ["1m", "50m", "100m", "300m", "1", "4"];

fn amounts() -> impl Strategy<Value = Value> {
    let maybe = |values: &'static [&'static str]| proptest::option::of(proptest::sample::select(values));
    (maybe(&MEMORY), maybe(&MEMORY), maybe(&CPU), maybe(&CPU)).prop_map(|(rm, lm, rc, lc)| {
        let mut found = json!({});
        for (name, request, limit) in [("memory", rm, lm), ("cpu", rc, lc)] {
            let value = |text: &str| Quantity::parse(text).unwrap();
            if let Some(limit) = limit {
                found["limits"][name] = json!(limit);
            }
            if let Some(request) = request.filter(|one| limit.is_none_or(|limit| value(one) <= value(limit)))
            {
                found["requests"][name] = json!(request);
            }
        }
        found
    })
}

const IMAGES: [&str; 9] =
    ["tiny:1", "go-layer:1", "go-file", "monkey:2", "tiny:2", "linux:1", "lost:1", "spin:1", "native:1"];

fn containers(prefix: &'static str, least: usize) -> impl Strategy<Value = Value> {
    let one = (proptest::sample::select(&IMAGES[..]), amounts(), any::<bool>());
    proptest::collection::vec(one, least..4).prop_map(move |all| {
        let each = |(index, (image, resources, odd)): (usize, (&str, Value, bool))| {
            let mut found =
                json!({ "name": format!("{prefix}{index}"), "image": image, "resources": resources });
            if odd && prefix == "i" {
                found["restartPolicy"] = json!("Always");
            }
            if odd && prefix == "c" {
                found["livenessProbe"] = json!({ "periodSeconds": 5 });
            }
            if odd {
                found["somethingNew"] = json!({ "deep": [1, { "x": null }], "1.50": 1.5, "a/b~c": "d" });
            }
            found
        };
        Value::Array(all.into_iter().enumerate().map(each).collect())
    })
}

fn affinities() -> impl Strategy<Value = Value> {
    let linux = json!({ "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] });
    let term = prop_oneof![
        Just(json!({})),
        Just(json!({ "matchExpressions": [] })),
        Just(json!({ "matchExpressions": [{ "key": "zone", "operator": "Exists" }] })),
        Just(json!({ "matchExpressions": [linux] })),
        Just(json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] })),
    ];
    let required = |terms| json!({ "nodeAffinity": { REQUIRED: { "nodeSelectorTerms": terms } } });
    prop_oneof![
        Just(json!({})),
        Just(json!({ "podAffinity": {} })),
        proptest::collection::vec(term, 0..4).prop_map(required),
    ]
}

const FORGED: [&str; 2] = [
    "LimitRanger plugin set: cpu, memory limit for container c0; memory request for init container i1",
    "LimitRanger plugin set: x;y",
];

fn pods() -> impl Strategy<Value = Value> {
    let classes =
        proptest::option::of(proptest::sample::select(&["wasmtime", "wasm", "spin", "wasmedge"][..]));
    let annotation = proptest::option::of(proptest::sample::select(&FORGED[..]));
    let whole = proptest::option::weighted(0.2, amounts());
    let tolerates = any::<bool>();
    (containers("c", 1), containers("i", 0), affinities(), classes, annotation, whole, tolerates).prop_map(
        |(containers, init, affinity, class, annotation, whole, tolerates)| {
            let mut raw =
                pod(json!({ "containers": containers, "initContainers": init, "affinity": affinity }));
            raw["status"] = json!({ "phase": "Pending" });
            raw["spec"]["schedulingGroup"] = json!({ "podGroupName": "unheard-of" });
            if let Some(class) = class {
                raw["spec"]["runtimeClassName"] = json!(class);
            }
            if let Some(annotation) = annotation {
                raw["metadata"]["annotations"] = json!({ "kubernetes.io/limit-ranger": annotation });
            }
            if let Some(whole) = whole {
                raw["spec"]["resources"] = whole;
            }
            if tolerates {
                raw["spec"]["tolerations"] = json!([{ "key": "wasm", "operator": "Exists" }]);
            }
            raw
        },
    )
}

fn limit_ranges() -> impl Strategy<Value = Vec<Value>> {
    let item = prop_oneof![
        Just(json!({ "type": "Container", "default": { "memory": "512Mi", "cpu": "1" },
            "defaultRequest": { "memory": "256Mi", "cpu": "500m" } })),
        Just(
            json!({ "type": "Container", "default": { "memory": "16Mi" }, "defaultRequest": { "memory": "16Mi" } })
        ),
        Just(json!({ "type": "Container", "defaultRequest": { "memory": "8Mi", "cpu": "10m" } })),
        // What the gate itself writes: the sizes of its profile, and what a program needs to start.
        Just(json!({ "type": "Container", "default": { "memory": "32Mi", "cpu": "200m" },
            "defaultRequest": { "memory": "10Mi", "cpu": "50m" } })),
        Just(json!({ "type": "Container", "default": { "memory": "96Mi", "cpu": "257m" },
            "defaultRequest": { "memory": "13Mi" } })),
        Just(json!({ "type": "Container", "max": { "memory": "24Mi", "cpu": "150m" } })),
        Just(json!({ "type": "Container", "min": { "memory": "40Mi", "cpu": "60m" } })),
        Just(json!({ "type": "Container", "maxLimitRequestRatio": { "memory": "1500m", "cpu": "3" } })),
        Just(json!({ "type": "Pod", "max": { "memory": "64Mi" } })),
        Just(json!({ "type": "Pod", "max": { "memory": "40Mi", "cpu": "350m" } })),
        Just(json!({ "type": "Pod", "min": { "memory": "96Mi", "cpu": "500m" } })),
        Just(
            json!({ "type": "Pod", "min": { "cpu": "120m" }, "maxLimitRequestRatio": { "memory": "2", "cpu": "1500m" } })
        ),
    ];
    proptest::collection::vec(item, 0..4)
}

fn worlds() -> impl Strategy<Value = (World, Vec<Value>)> {
    let tolerations = json!([{ "key": "wasm", "operator": "Equal", "value": "yes", "effect": "NoSchedule" }]);
    let learned = proptest::option::of((1_u32..100, 1_i128..400));
    (limit_ranges(), any::<bool>(), any::<bool>(), any::<bool>(), learned).prop_map(
        move |(limits, clamps, tolerates, known, learned)| {
            let mut world = if clamps { World::clamping() } else { World::default() };
            world = world.with_limits(json!(limits));
            if tolerates {
                world = world.with_tolerations(tolerations.clone());
            }
            if known {
                world = world.with_class("wasmtime", &[("pool", "wasm")]).with_class("wasm", &[]);
            }
            if let Some((memory, cpu)) = learned {
                world = ["tiny", "go-layer", "go-file"]
                    .into_iter()
                    .fold(world, |world, image| world.with_learned(image, memory, cpu));
            }
            (world, limits)
        },
    )
}

/// Every leaf of a tree with its JSON pointer.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, below)| leaves(below, &format!("{path}/{}", escaped(key)), found));
        }
        Value::Array(list) if !list.is_empty() => {
            list.iter()
                .enumerate()
                .for_each(|(index, below)| leaves(below, &format!("{path}/{index}"), found));
        }
        leaf => found.push((path.to_owned(), leaf.clone())),
    }
}

/// Where the plan may replace a value: images, sizes of containers, and empty objects that it fills.
fn replaceable(path: &str, leaf: &Value) -> bool {
    let container = path.starts_with("/spec/containers/") || path.starts_with("/spec/initContainers/");
    let sized = container && (path.ends_with("/cpu") || path.ends_with("/memory"));
    let filled = container && path.ends_with("/resources") || path == "/spec/affinity";
    (container && path.ends_with("/image")) || sized || (filled && *leaf == json!({}))
}

/// What a property needs to know of one sized container.
struct Sized<'a> {
    before: &'a Value,
    after: &'a Value,
    floor: Quantity,
    caps: Option<Caps>,
    /// Whether it runs as long as the pod.
    stays: bool,
}

fn quantity(resources: &Value, side: &str, name: &str) -> Option<Quantity> {
    resources[side].get(name).map(|value| Quantity::from_json(value).unwrap())
}

fn wasm_containers<'a>(world: &World, raw: &'a Value, plan: &'a Plan) -> Vec<Sized<'a>> {
    let placed = plan.object["spec"]["runtimeClassName"].as_str();
    let Some(profile) = placed.and_then(|class| world.runtimes.by_class(class)) else { return Vec::new() };
    let own = profile.own_memory();
    let workload = workload::read(&raw.to_string(), Kind::Pod, "shop").unwrap();
    let sized = |container: Container| {
        let LookupResult::Known { facts, program } = &container.lookup else { return None };
        let Program::Wasm { packaging, .. } = program else { return None };
        let list = if container.name.starts_with('i') { "initContainers" } else { "containers" };
        let compiler = profile.ambient.runtime().compiler(*packaging);
        let at = |object: &'a Value| &object["spec"][list][container.index]["resources"];
        let cpu = |resources| quantity(resources, "limits", "cpu").filter(|limit| *limit != Quantity::ZERO);
        let cpu = Quantity::lesser(cpu(at(&plan.object)), cpu(&plan.object["spec"]["resources"]));
        let caps = sizing::caps((facts, program), cpu, profile, &world.cluster, "shop");
        let floor = floor::memory(compiler, own, cpu, facts.modules.iter());
        let stays = list == "containers" || raw["spec"][list][container.index]["restartPolicy"] == "Always";
        Some(Sized { before: at(raw), after: at(&plan.object), floor, stays, caps })
    };
    inspect(&workload).containers.into_iter().filter_map(sized).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_persons_values_survive(raw in pods(), (world, _) in worlds()) {
        // `World::plan` also checks that the patch produces the planned object, and that overhead is not written.
        let plan = world.plan(&raw);
        let mut before = Vec::new();
        leaves(&raw, "", &mut before);
        for (path, leaf) in before {
            let after = plan.object.pointer(&path);
            prop_assert!(after == Some(&leaf) || replaceable(&path, &leaf), "{path} was {leaf}, is {after:?}");
        }
        for list in ["containers", "initContainers"] {
            let planned = plan.object["spec"][list].as_array().unwrap();
            for (own, planned) in raw["spec"][list].as_array().unwrap().iter().zip(planned) {
                let linux = own["image"].as_str().unwrap().starts_with("linux");
                prop_assert!(!linux || own["resources"] == planned["resources"]);
            }
        }
    }

    #[test]
    fn mutating_twice_is_mutating_once(
        raw in pods(),
        (world, limits) in worlds(),
        brings in any::<bool>(),
        managed in any::<bool>(),
        other in proptest::option::weighted(0.2, proptest::sample::select(&MEMORY[..])),
    ) {
        let mut raw = raw;
        if managed {
            manage(&mut raw);
        }
        let wide = if brings { json!([{ "key": "wasm", "operator": "Exists" }]) } else { json!([]) };
        let classes = BTreeMap::from([
            ("wasmtime".to_owned(), class("32Mi", json!({ "pool": "wasm" }), wide)),
            ("wasm".to_owned(), class("24Mi", json!({}), json!([]))),
        ]);
        check_rounds_with(&world, &ApiServer { limits: &limits, classes: &classes }, &raw, other);
    }

    #[test]
    fn requests_never_pass_limits(raw in pods(), (world, limits) in worlds()) {
        let mut raw = raw;
        raw["metadata"] = json!({ "name": "orders" });
        ApiServer { limits: &limits, classes: &BTreeMap::new() }.round(&mut raw);
        let plan = world.plan(&raw);
        for one in wasm_containers(&world, &raw, &plan) {
            for name in ["memory", "cpu"] {
                let pair = |resources| (quantity(resources, "requests", name), quantity(resources, "limits", name));
                // If a LimitRange fills in a request over the person's limit, the API server refuses the pod. If
                // nothing is ours, as under a pod-level size, it stays as sent.
                if let (Some(request), Some(limit)) = pair(one.after) {
                    prop_assert!(request <= limit || pair(one.after) == pair(one.before), "{request} > {limit}");
                }
            }
        }
    }

    #[test]
    fn nothing_that_a_profile_clamps_is_over_its_cap(raw in pods(), (world, _) in worlds()) {
        let plan = world.plan(&raw);
        for one in wasm_containers(&world, &raw, &plan) {
            let Some(caps) = one.caps else { continue };
            for (name, cap) in [("memory", caps.memory), ("cpu", caps.cpu)] {
                let limit = quantity(one.after, "limits", name);
                prop_assert!(limit.is_none_or(|limit| limit <= cap), "{limit:?} of {name} is over {cap}");
            }
        }
    }

    #[test]
    fn filled_in_sizes_let_the_program_start(raw in pods(), clamps in any::<bool>()) {
        let world = if clamps { World::clamping() } else { World::default() };
        let mut raw = raw;
        raw["metadata"] = json!({ "name": "orders" });
        raw["spec"].as_object_mut().unwrap().remove("resources");
        let plan = world.plan(&raw);
        for one in wasm_containers(&world, &raw, &plan) {
            let limit = quantity(one.after, "limits", "memory").unwrap();
            let request = quantity(one.after, "requests", "memory").unwrap();
            let filled = |side: &str| clamps || quantity(one.before, side, "memory").is_none();
            prop_assert!(!filled("limits") || limit >= one.floor, "{limit} < {}", one.floor);
            prop_assert!(!filled("requests") || request >= one.floor.min(limit), "{request} < {}", one.floor);
        }
    }

    #[test]
    fn filled_in_sizes_are_within_the_limit_range(raw in pods(), most in 1_u32..200, clamps in any::<bool>()) {
        let world = if clamps { World::clamping() } else { World::default() };
        let max = Quantity::from_bytes(i128::from(most) << 20);
        let world = world.with_limits(json!([{ "type": "Container", "max": { "memory": max.memory() } }]));
        let mut raw = raw;
        raw["metadata"] = json!({ "name": "orders" });
        raw["spec"].as_object_mut().unwrap().remove("resources");
        let plan = world.plan(&raw);
        for one in wasm_containers(&world, &raw, &plan) {
            let chosen = ["requests", "limits"].iter().any(|side| quantity(one.before, side, "memory").is_some());
            if clamps || !chosen {
                prop_assert!(quantity(one.after, "limits", "memory").unwrap() <= max);
                prop_assert!(quantity(one.after, "requests", "memory").unwrap() <= max);
            }
        }
    }

    #[test]
    fn a_pod_is_inside_the_limit_range_of_pods_or_nothing_of_ours_can_give_way(
        raw in pods(), most in 1_u32..300, least in 1_u32..100, clamps in any::<bool>()
    ) {
        let world = if clamps { World::clamping() } else { World::default() };
        let at = |mebibytes: u32| Quantity::from_bytes(i128::from(mebibytes) << 20);
        let (min, max) = (at(least), at(most.max(least)));
        let bounds = json!({ "type": "Pod", "min": { "memory": min.memory() }, "max": { "memory": max.memory() } });
        let world = world.with_limits(json!([bounds]));
        let mut raw = raw;
        raw["metadata"] = json!({ "name": "orders" });
        raw["spec"].as_object_mut().unwrap().remove("resources");
        let plan = world.plan(&raw);
        let ours = wasm_containers(&world, &raw, &plan);
        // If all sizes of a pod are a person's, the API server refuses it.
        if !plan.changes.iter().any(|line| line.contains(".resources.")) {
            return Ok(());
        }
        let (requests, limits) = (pod_sum(&plan.object, "requests"), pod_sum(&plan.object, "limits"));
        let said = |words: &str| plan.warnings.iter().any(|line| line.contains(words));
        prop_assert_eq!(limits.most > max || requests.most > max, said("at most for a pod"));
        let short = requests.most < min || limits.most < min;
        prop_assert!(!short || said("at least of a pod") || said("at most for a pod"));
        for one in &ours {
            let free = |side: &str| clamps || quantity(one.before, side, "memory").is_none();
            let (request, limit) =
                (quantity(one.after, "requests", "memory").unwrap(), quantity(one.after, "limits", "memory").unwrap());
            let needed = if free("requests") { one.floor } else { one.floor.max(request) };
            if limits.staying > max && one.stays && free("limits") {
                prop_assert!(limit <= needed, "{limit} could give way to {needed}: {}", plan.object["spec"]);
            }
            if requests.most < min && one.stays && free("requests") {
                prop_assert!(request >= limit, "{request} could be raised to {limit}: {}", plan.object["spec"]);
            }
        }
    }
}

/// Memory of one side, summed over all containers and sidecars and for the pod at its largest.
struct Sum {
    staying: Quantity,
    most: Quantity,
}

fn pod_sum(object: &Value, side: &str) -> Sum {
    let mut sum = Sum { staying: Quantity::ZERO, most: Quantity::ZERO };
    for list in ["initContainers", "containers"] {
        for one in object["spec"][list].as_array().unwrap() {
            let amount = quantity(&one["resources"], side, "memory").unwrap_or(Quantity::ZERO);
            if list == "containers" || one["restartPolicy"] == "Always" {
                sum.staying = sum.staying + amount;
            } else {
                sum.most = sum.most.max(sum.staying + amount);
            }
        }
    }
    sum.most = sum.most.max(sum.staying);
    sum
}
