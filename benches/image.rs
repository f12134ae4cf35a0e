//! What it costs to read the bytes of a module: small ones, and real ones of megabytes that
//! `tests/fixtures/producers/fetch` brought; one that is not there is left out with a note.
//!
//! `cargo bench --bench image`; `cargo bench --bench image -- python` for the component of a Python program alone.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench stops where its set-up is wrong, and criterion's macros write undocumented items"
)]

#[path = "../tests/support/oci.rs"]
mod oci;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oci::fixtures;
use wasmgate::image::module;

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("module");
    let made = [
        ("command", Some(fixtures::command())),
        ("adapted", Some(fixtures::componentize(&fixtures::command()))),
        ("python", fixtures::produced("python")),
        ("javascript", fixtures::produced("javascript")),
        ("esbuild", fixtures::produced("esbuild")),
        ("yosys", fixtures::produced("yosys")),
    ];
    for (name, bytes) in made {
        let Some(bytes) = bytes else { continue };
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("read", name), &bytes, |bencher, bytes| {
            bencher.iter(|| module::read(black_box(bytes), "bench").unwrap());
        });
    }
    group.finish();
}

criterion_group!(image, parse);
criterion_main!(image);
