//! The time of a review: a whole one in process (without TLS), each stage alone, with known image facts, and the baseline rules
//! alone, beside another engine for the same module.
//!
//! `cargo bench --bench review`; `cargo bench --bench review -- stage` for the stages alone, and `-- rules` for the rules.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench stops where its set-up is wrong, and criterion's macros write undocumented items"
)]

#[path = "support/samples.rs"]
mod samples;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use samples::{BUDGET, baseline, body};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::block_in_place;
use wasmgate::admission::{Clock, Gate, ReviewContext, examine};
use wasmgate::audit::DecisionLogOutput;
use wasmgate::policy::Engine;
use wasmgate::review;
use wasmgate::review::Webhook;
use wasmgate::workload::{self, Kind};

/// The samples with the embedded baseline, and the decision log switched off or written to a file that is not kept.
fn gate(runtime: &Runtime, output: DecisionLogOutput) -> Gate {
    runtime.block_on(async { samples::gate(baseline(&Engine::new().unwrap()).await, output) })
}

fn reviews(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    for (output, suffix) in
        [(DecisionLogOutput::Off, ""), (DecisionLogOutput::File(log.path().into()), ", logged")]
    {
        let gate = gate(&runtime, output);
        let mut group = criterion.benchmark_group("review");
        for (name, what) in [("web", "linux pod"), ("orders.mutated", "wasm pod")] {
            let body = body(name);
            group.throughput(Throughput::Bytes(body.len() as u64));
            for webhook in [Webhook::Mutate, Webhook::Validate] {
                let id = BenchmarkId::new(format!("{what}{suffix}"), webhook.as_str());
                group.bench_function(id, |b| {
                    b.iter(|| runtime.block_on(gate.review(webhook, black_box(&body), BUDGET)));
                });
            }
        }
        let fresh = body("orders");
        group.bench_function(BenchmarkId::new(format!("new wasm pod{suffix}"), "mutate"), |b| {
            b.iter(|| runtime.block_on(gate.review(Webhook::Mutate, black_box(&fresh), BUDGET)));
        });
        group.finish();
    }
}

fn stages(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let gate = gate(&runtime, DecisionLogOutput::Off);
    let state = gate.state();
    let body = body("orders");
    let review = review::parse(&body).unwrap();
    let object = review.object.as_deref().unwrap();
    let pod = workload::read(object.get(), Kind::Pod, "shop").unwrap();
    let inspection = runtime.block_on(examine::inspect(&state, &gate.inspector(), &pod, BUDGET));
    let raw: Value = serde_json::from_str(object.get()).unwrap();
    let now = jiff::Timestamp::now();
    let plan = examine::plan(&state, &raw, &pod, &inspection, now).unwrap();
    let planned = serde_json::value::to_raw_value(&plan.object).unwrap();
    let placed = workload::read(planned.get(), Kind::Pod, "shop").unwrap();
    let inspector = gate.inspector();
    let asked = ReviewContext {
        state: &state,
        inspector: &inspector,
        webhook: Webhook::Validate,
        review: &review,
        clock: Clock::start(BUDGET),
    };
    let mut group = criterion.benchmark_group("stage");
    group.bench_function("review", |b| b.iter(|| review::parse(black_box(&body)).unwrap()));
    group.bench_function("workload", |b| {
        b.iter(|| workload::read(black_box(object.get()), Kind::Pod, "shop").unwrap());
    });
    group.bench_function("inspect, warm", |b| {
        b.iter(|| runtime.block_on(examine::inspect(&state, &gate.inspector(), black_box(&pod), BUDGET)));
    });
    group.bench_function("raw object", |b| {
        b.iter(|| serde_json::from_str::<Value>(black_box(object.get())).unwrap());
    });
    group.bench_function("plan", |b| {
        let asked = ReviewContext { webhook: Webhook::Mutate, clock: Clock::start(BUDGET), ..asked };
        b.iter(|| examine::planned(&asked, black_box(object), &pod, &inspection).unwrap());
    });
    group.bench_function("judge", |b| {
        b.iter(|| {
            let asked = ReviewContext { clock: Clock::start(BUDGET), ..asked };
            runtime.block_on(examine::judge(&asked, &planned, black_box(&placed), &inspection, |_| ()))
        });
    });
    group.finish();
}

/// Takes out of the input what a path names, such as `request.uid`.
fn remove(input: &mut Value, path: &str) {
    let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
    let above = if above.is_empty() { String::new() } else { format!("/{above}") };
    if let Some(Value::Object(members)) = input.pointer_mut(&above) {
        members.remove(key);
    }
}

/// The baseline rules, as the gate evaluates them and as opa-wasm does: without limits, as it comes, and with the same count of
/// fuel. All get the same input, and nothing is known of an earlier evaluation.
fn rules(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let set = runtime.block_on(async { baseline(&Engine::new().unwrap()).await });
    let baseline = root.join("policies/baseline");
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let (data, manifest) = (read(baseline.join("data.json")), read(baseline.join(".manifest")));
    let mut group = criterion.benchmark_group("rules");
    for name in ["admitted", "refused"] {
        let mut input = read(root.join(format!("tests/fixtures/policies/{name}.v1alpha1.json")));
        // What the manifest says that no rule reads, which the gate takes out by itself.
        for path in manifest["metadata"]["wasmgate"]["omit"].as_array().unwrap() {
            remove(&mut input, path.as_str().unwrap());
        }
        // And what it takes out of containers for the built-in rules (`policy::input`).
        let ambient = Some("ambient").filter(|_| input["options"]["strictAmbient"] != true);
        for container in input["containers"].as_array_mut().unwrap() {
            for key in
                ["interpreters", "packaging", "requires", "shape", "warnings"].into_iter().chain(ambient)
            {
                container.as_object_mut().unwrap().remove(key);
            }
        }
        // As reviews do: in its turn, on one thread.
        let evaluate = || {
            runtime.block_on(async {
                let turn = set.turn("shop", 1_000, BUDGET).await.unwrap();
                block_in_place(|| turn.evaluate(black_box(&input), Duration::from_secs(10)).unwrap())
            })
        };
        group.bench_function(BenchmarkId::new("gate", name), |b| b.iter(evaluate));
        for is_metered in [false, true] {
            let mut config = wasmtime::Config::new();
            config.consume_fuel(is_metered);
            let engine = wasmtime::Engine::new(&config).unwrap();
            let module = wasmtime::Module::from_file(&engine, baseline.join("policy.wasm")).unwrap();
            let mut store = wasmtime::Store::new(&engine, ());
            if is_metered {
                store.set_fuel(u64::MAX).unwrap();
            }
            let policy = runtime.block_on(async {
                let policy = opa_wasm::Runtime::new(&mut store, &module).await.unwrap();
                policy.with_data(&mut store, &data).await.unwrap()
            });
            let other = if is_metered { "opa-wasm, metered" } else { "opa-wasm" };
            group.bench_function(BenchmarkId::new(other, name), |b| {
                b.iter(|| {
                    let found = policy.evaluate(&mut store, "wasmgate/violations", black_box(&input));
                    runtime.block_on(found).map(|found: Value| found).unwrap()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, reviews, stages, rules);
criterion_main!(benches);
