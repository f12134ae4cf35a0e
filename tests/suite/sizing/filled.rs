//! The gate warns of no CPU limit that it filled in itself, unless two processors are not enough: pods are mutated, and what comes of
//! that is judged by the compiled rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmgate::cluster::Cluster;
use wasmgate::image::prefix::Unpinned;
use wasmgate::image::{ImageFacts, ImageKind, ModuleFacts, Packaging, Program};
use wasmgate::inspection::{Container, Inspection, LookupResult};
use wasmgate::plan::{Context, Surplus, floor, plan};
use wasmgate::policy::PolicySet;
use wasmgate::runtime::{Compiler, Runtimes, SizingMode, calibrated};
use wasmgate::workload::{self, Kind};

use super::rows;
use crate::support::case::input_under;
use crate::support::{facts, policies};

const RULE: &str = "start-outlasts-probe";

/// Probes, each with the seconds after which it restarts a container.
fn probes() -> Vec<(Value, u64)> {
    let liveness = |probe: Value| json!({ "livenessProbe": probe });
    vec![
        (liveness(json!({})), 20),
        (liveness(json!({ "initialDelaySeconds": 1, "failureThreshold": 1 })), 1),
        (liveness(json!({ "periodSeconds": 1 })), 2),
        (liveness(json!({ "periodSeconds": 3, "failureThreshold": 2 })), 3),
        (liveness(json!({ "initialDelaySeconds": 3 })), 23),
        (liveness(json!({ "failureThreshold": 31 })), 300),
        (
            json!({ "startupProbe": { "failureThreshold": 2 }, "livenessProbe": { "failureThreshold": 31 } }),
            10,
        ),
    ]
}

fn file(module: ModuleFacts) -> LookupResult {
    let name = format!("{module:?}");
    let facts = ImageFacts { modules: vec![module], ..facts::image(&name, ImageKind::Module) };
    let program =
        Program::Wasm { kind: ImageKind::Module, packaging: Packaging::RootFilesystem, modules: vec![0] };
    LookupResult::Known { facts: Arc::new(facts), program }
}

/// The object that would be stored.
fn mutated(runtimes: &Runtimes, raw: &Value, lookup: &LookupResult) -> Value {
    let workload = workload::read(&raw.to_string(), Kind::Pod, "shop").unwrap();
    let container = |image: workload::ImageUse<'_>| Container {
        role: image.role,
        index: image.index,
        name: image.name.to_owned(),
        image: image.image.to_owned(),
        lookup: lookup.clone(),
    };
    let inspection = Inspection { containers: workload.images().into_iter().map(container).collect() };
    let (cluster, unpinned) = (Cluster::default(), Unpinned::default());
    let context = Context { runtimes, cluster: &cluster, unpinned: &unpinned, raises_learned: false };
    plan(raw, &workload, &inspection, &context, &Surplus::default()).unwrap().object
}

/// The limit that a pod without one gets, and what the rule says of it.
async fn said(
    rules: &PolicySet,
    runtimes: &Runtimes,
    module: ModuleFacts,
    probes: &Value,
) -> (String, Vec<String>) {
    let mut container = json!({ "name": "app", "image": "registry.test/app:1" });
    container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
    let raw = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "orders" },
        "spec": { "containers": [container] } });
    let lookup = file(module);
    let object = mutated(runtimes, &raw, &lookup);
    let limit = object["spec"]["containers"][0]["resources"]["limits"]["cpu"].as_str().unwrap().to_owned();
    let input = input_under(runtimes, &object, vec![lookup], Vec::new(), &BTreeMap::default());
    let evaluation = rules.evaluate(&input).await;
    assert_eq!(evaluation.failures, []);
    let found = evaluation.violations.into_iter().filter(|violation| violation.rule == RULE);
    (limit, found.map(|violation| violation.message).collect())
}

/// Whether the program is compiled before a probe that waits so many seconds, at the slowest, with as many processors as were measured.
fn is_possible(module: &ModuleFacts, seconds: u64) -> bool {
    let slowest = floor::slowest_compile_millis(Compiler::Container, std::iter::once(module));
    slowest <= i128::from(calibrated::PROCESSORS) * 1000 * i128::from(seconds)
}

/// What is said where no CPU limit is known to be enough.
const LONGER: &str = "write a `startupProbe` that waits longer, or push";

/// Those of the table that are compiled in the container, and more of other sizes.
fn modules() -> Vec<ModuleFacts> {
    let measured = rows().into_iter().filter(|row| row.packing == "file").map(|row| row.facts());
    let sizes = [0, 1, 5_000, 255_000, 300_000, 1_000_000, 9_007_000, 100_000_000, 10_000_000_000];
    let swept = sizes.map(|code_bytes| ModuleFacts { code_bytes, ..facts::module() });
    measured.chain(swept).collect()
}

#[tokio::test]
async fn the_gate_warns_of_no_cpu_limit_that_it_filled_in() {
    let (rules, runtimes) = (policies::baseline().await, Runtimes::default());
    let (mut raised, mut impossible, mut wrong) = (0, 0, Vec::new());
    for module in modules() {
        let (usual, none) = said(&rules, &runtimes, module.clone(), &json!({})).await;
        assert_eq!(none, [""; 0], "without a probe");
        for (probes, seconds) in probes() {
            let (limit, said) = said(&rules, &runtimes, module.clone(), &probes).await;
            raised += usize::from(limit != usual);
            impossible += usize::from(!is_possible(&module, seconds));
            let expected = match &said[..] {
                [] => is_possible(&module, seconds),
                [only] => !is_possible(&module, seconds) && only.contains(LONGER),
                _ => false,
            };
            if !expected {
                wrong.push(format!("{} bytes, {limit}, {seconds} s: {said:?}", module.code_bytes));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(raised > 10 && impossible > 10, "{raised} limits are higher for a probe, {impossible} are not");
}

/// A profile that clamps keeps its limits, whatever probe a tenant writes.
#[tokio::test]
async fn where_a_profile_clamps_the_warning_names_its_cap() {
    let rules = policies::baseline().await;
    let mut runtimes = Runtimes::default();
    runtimes.profiles.iter_mut().for_each(|profile| profile.sizing.mode = SizingMode::Clamp);
    let mut warned = 0;
    for module in modules() {
        let (usual, _) = said(&rules, &runtimes, module.clone(), &json!({})).await;
        for (probes, seconds) in probes() {
            let (limit, said) = said(&rules, &runtimes, module.clone(), &probes).await;
            assert_eq!(limit, usual, "{} bytes, {seconds} s", module.code_bytes);
            let cap = format!("the profile of the runtime allows a CPU limit of {limit}, and ");
            let expected = if is_possible(&module, seconds) { &*cap } else { LONGER };
            assert!(said.iter().all(|line| line.contains(expected)), "{limit}: {said:?}");
            warned += usize::from(!said.is_empty() && is_possible(&module, seconds));
        }
    }
    assert!(warned > 10, "{warned} starts take longer than their cap allows");
}

/// Under no limit a program is compiled before a probe that waits for no time at all, so that the gate fills in the usual one.
#[tokio::test]
async fn a_probe_that_waits_for_no_time_moves_no_limit() {
    let (rules, runtimes) = (policies::baseline().await, Runtimes::default());
    let module = ModuleFacts { code_bytes: 9_007_000, ..facts::module() };
    let probes = json!({ "livenessProbe": { "failureThreshold": 1 } });
    let (usual, _) = said(&rules, &runtimes, module.clone(), &json!({})).await;
    let (limit, said) = said(&rules, &runtimes, module, &probes).await;
    assert_eq!(limit, usual);
    assert!(said.iter().all(|line| line.contains(LONGER)), "{said:?}");
    assert_eq!(said.len(), 1);
}
