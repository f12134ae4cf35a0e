//! The work that `benches/instructions` counts: the main cases of a review, stage by stage. It prints a line for each stage, in the order
//! in which callgrind writes their counts.
//!
//! `cargo bench --profile dev --bench instructions` runs it without counting. One thread does everything but the evaluation in the
//! guest, which has a thread of its own that callgrind is told to leave out: what the rules take is counted as fuel, which the line has
//! itself after its runs. What the host does for them there (`policy::HostWork`: it writes the input, answers calls and reads the result) is
//! recorded, and done again here.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench stops where its set-up is wrong"
)]

#[allow(
    dead_code,
    clippy::expect_used,
    clippy::panic,
    reason = "the tests use the rest, and may fail loudly"
)]
#[path = "../tests/support/oci.rs"]
mod oci;
#[path = "support/samples.rs"]
mod samples;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use oci::fixtures;
use samples::{BUDGET, baseline, body, gate};
use serde_json::Value;
use tokio::runtime::Runtime;
use wasmgate::admission::{Clock, Gate, ReviewContext, examine};
use wasmgate::audit::{DecisionLogOutput, Input, Labels, Outcome, Record, RecordedResult, Timings};
use wasmgate::image::module;
use wasmgate::judge::PolicyInput;
use wasmgate::policy::{CompiledFolder, Engine, PolicySet};
use wasmgate::review::{self, Webhook};
use wasmgate::workload::{self, Kind};

/// Runs before those that are counted, so that caches are warm.
const WARM_UP: usize = 3;
/// Runs that are counted together: the order of hash tables differs from run to run.
const RUNS: usize = 10;
/// Bytes for verdicts, in the gate that keeps them.
const VERDICT_BYTES: u64 = 1 << 20;

/// Containers of the pods that tell what each further one takes.
const CONTAINERS: [usize; 3] = [1, 25, 50];

/// Callgrind counts within this function, by its name, and writes a count when it returns.
#[inline(never)]
fn wasmgate_counted_section(work: &mut dyn FnMut()) {
    for _ in 0..RUNS {
        work();
    }
}

/// Counts one stage of a case.
fn stage(case: &str, name: &str, mut work: impl FnMut()) {
    for _ in 0..WARM_UP {
        work();
    }
    wasmgate_counted_section(&mut work);
    println!("{case}\t{name}\t{RUNS}");
}

/// A review of a pod, at one webhook.
struct Case<'a> {
    name: &'a str,
    webhook: Webhook,
    sample: &'a str,
}

/// The record of an allowed pod whose decision was known.
fn record(case: &Case<'_>, body: &[u8]) -> Record {
    Record {
        labels: Arc::new(Labels::new("bench", &BTreeMap::new())),
        masks: Arc::default(),
        log_rules: None,
        decision_id: uuid::Uuid::nil(),
        trace: None,
        timestamp: jiff::Timestamp::UNIX_EPOCH,
        webhook: case.webhook,
        bundles: Arc::default(),
        input: Some(Input::from(review::parse(body).unwrap())),
        stray_uid: String::new(),
        result: RecordedResult::plain(Outcome::Allow, true, "judged by the policies"),
        policy_input: None,
        bundle_digests: BTreeMap::new(),
        is_verdict_cached: true,
        error: None,
        timings: Timings::default(),
    }
}

/// All stages of a review, and the whole of it, which has the answer besides, and hands over the record. What the log makes of that has a
/// thread of its own, and is a stage here.
fn review(runtime: &Runtime, gate: &Gate, case: &Case<'_>) {
    let (state, inspector, body) = (gate.state(), gate.inspector(), body(case.sample));
    let review = review::parse(&body).unwrap();
    let object = review.object.as_deref().unwrap();
    let pod = workload::read(object.get(), Kind::Pod, "shop").unwrap();
    let inspection = runtime.block_on(examine::inspect(&state, &inspector, &pod, BUDGET));
    stage(case.name, "review", || drop(black_box(review::parse(black_box(&body)).unwrap())));
    // Before anything is parsed: what the object may take.
    stage(case.name, "memory", || {
        black_box(workload::parsed_bytes(black_box(object.get()), Kind::Pod));
    });
    stage(case.name, "workload", || {
        drop(black_box(workload::read(black_box(object.get()), Kind::Pod, "shop").unwrap()));
    });
    stage(case.name, "inspect", || {
        drop(black_box(runtime.block_on(examine::inspect(&state, &inspector, black_box(&pod), BUDGET))));
    });
    let clock = Clock::start(BUDGET);
    let asked =
        ReviewContext { state: &state, inspector: &inspector, webhook: case.webhook, review: &review, clock };
    let is_wasm = examine::concerns(&state, &pod, &inspection);
    match case.webhook {
        Webhook::Mutate if is_wasm => stage(case.name, "plan", || {
            drop(black_box(examine::planned(&asked, black_box(object), &pod, &inspection).unwrap()));
        }),
        Webhook::Validate if is_wasm => stage(case.name, "judge", || {
            let judged = examine::judge(&asked, object, black_box(&pod), &inspection, |_| ());
            drop(black_box(runtime.block_on(judged)));
        }),
        Webhook::Mutate | Webhook::Validate => {}
    }
    let (record, mut line) = (record(case, &body), String::new());
    stage(case.name, "log line", || {
        line.clear();
        black_box(&record).append_to(&mut line).unwrap();
        black_box(&line);
    });
    stage(case.name, "whole", || {
        drop(black_box(runtime.block_on(gate.review(case.webhook, black_box(&body), BUDGET))));
    });
}

/// Facts of modules: a small one, and the component that an adapter makes of it.
fn facts() {
    let command = fixtures::command();
    let component = fixtures::componentize(&command);
    for (name, bytes) in [("module", command), ("component", component)] {
        stage("image facts", name, || drop(black_box(module::read(black_box(&bytes), "bench").unwrap())));
    }
}

/// What the rules take in the guest for an input, in fuel, and what the host does for them meanwhile.
fn rules(policies: &PolicySet, name: &str, input: &Value) {
    println!("rules\t{name}\t1\t{}", policies.fuel_used(input).unwrap());
    let recorded = policies.host_work(input).unwrap();
    stage("host of the rules", name, || {
        for work in &recorded {
            black_box(black_box(work).repeat().unwrap());
        }
    });
}

/// An input of the policies' tests.
fn recorded_input(name: &str) -> Value {
    let path = format!("tests/fixtures/policies/{name}.v1alpha1.json");
    serde_json::from_slice(&std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()).unwrap()
}

/// The sample whose pod has its container so many times, by other names.
fn of_containers(sample: &str, count: usize) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(&body(sample)).unwrap();
    let containers = review.pointer_mut("/request/object/spec/containers").unwrap().as_array_mut().unwrap();
    let one = containers[0].clone();
    *containers = (0..count)
        .map(|index| {
            let mut container = one.clone();
            container["name"] = format!("app-{index}").into();
            container
        })
        .collect();
    serde_json::to_vec(&review).unwrap()
}

/// What a pod of so many containers takes to be judged: here, in the guest, and on the host meanwhile. Neither waits for another thread.
fn containers(runtime: &Runtime, gate: &Gate, policies: &PolicySet, count: usize) {
    let (state, inspector, body) = (gate.state(), gate.inspector(), of_containers("orders.mutated", count));
    let review = review::parse(&body).unwrap();
    let object = review.object.as_deref().unwrap();
    let pod = workload::read(object.get(), Kind::Pod, "shop").unwrap();
    let inspection = runtime.block_on(examine::inspect(&state, &inspector, &pod, BUDGET));
    // Each has the whole time: a review of many containers takes seconds where instructions are counted.
    let asked = || ReviewContext {
        state: &state,
        inspector: &inspector,
        webhook: Webhook::Validate,
        review: &review,
        clock: Clock::start(BUDGET),
    };
    let name = if count == 1 { "1 container".to_string() } else { format!("{count} containers") };
    stage("judge", &name, || {
        let asked = asked();
        let judged = examine::judge(&asked, object, black_box(&pod), &inspection, |_| ());
        let judged = black_box(runtime.block_on(judged).unwrap());
        assert!(judged.judgement.failed_bundles.is_empty(), "the rules were evaluated");
    });
    let asked = asked();
    let kept = |input: &PolicyInput<'_>| serde_json::to_value(input).unwrap();
    let input = runtime.block_on(examine::judge(&asked, object, &pod, &inspection, kept)).unwrap().kept;
    rules(policies, &name, &input);
}

/// The policies, compiled once for all runs.
fn policies(runtime: &Runtime, compiled: &Path, verdict_bytes: u64) -> Arc<PolicySet> {
    let compiled = CompiledFolder::open(compiled).unwrap();
    let engine = Engine::for_command().unwrap().remembering(verdict_bytes).keeping(Some(compiled));
    runtime.block_on(baseline(&engine))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let compiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-for-instructions");
    let gate_with = |verdict_bytes| {
        let policies = policies(&runtime, &compiled, verdict_bytes);
        runtime.block_on(async { gate(policies, DecisionLogOutput::Off) })
    };
    facts();
    let (keeps, forgets) = (gate_with(VERDICT_BYTES), gate_with(0));
    let (mutate, validate) = (Webhook::Mutate, Webhook::Validate);
    for (gate, name, webhook, sample) in [
        (&keeps, "Linux pod, validate", validate, "web"),
        (&forgets, "Linux pod, validate, not cached", validate, "web"),
        (&keeps, "Wasm pod, mutate", mutate, "orders"),
        (&forgets, "Wasm pod, mutate, not cached", mutate, "orders"),
        (&keeps, "Wasm pod, validate, allowed", validate, "orders.mutated"),
        (&forgets, "Wasm pod, validate, allowed, not cached", validate, "orders.mutated"),
        (&keeps, "Wasm pod, validate, denied", validate, "orders-everywhere.mutated"),
        (&forgets, "Wasm pod, validate, denied, not cached", validate, "orders-everywhere.mutated"),
    ] {
        review(&runtime, gate, &Case { name, webhook, sample });
    }
    let alone = policies(&runtime, &compiled, 0);
    for name in ["admitted", "refused"] {
        rules(&alone, name, &recorded_input(name));
    }
    for count in CONTAINERS {
        containers(&runtime, &forgets, &alone, count);
    }
}
