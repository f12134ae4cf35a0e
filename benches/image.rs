//! The cost of reading a module: small ones, and real ones of megabytes that `tests/fixtures/producers/fetch`
//! downloaded; skips those that are absent, with a note.
//!
//! `cargo bench --bench image`; `cargo bench --bench image -- python` for the component of a Python program alone. It
//! first prints the most memory that reading takes besides the bytes, according to the kernel.
//!
//! `benches/beside` measures whole processes, start-up included, on that component of 18.4 MB, with the gate's own code
//! optimised and its dependencies at `opt-level = 1`, on two shared cores:
//!
//! | | CPU time | peak memory | of which start-up |
//! |---|---|---|---|
//! | `wasmgate inspect` (sections, types, imports) | 15 ms | 46 MiB | 14 MiB |
//! | `wasm-tools objdump` 1.262 (sections) | 7 ms | 26 MiB | 8 MiB |
//! | `wasm-tools component wit` (types, imports) | 19 ms | 39 MiB | 8 MiB |
//! | `wasm-tools validate` (every instruction too) | 51 ms | 31 MiB | 8 MiB |
//!
//! Each holds the file once. `module::read` alone takes 18 ms of wall time there and 1.9 MiB beside the bytes.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench stops where its set-up is wrong, and criterion's macros write undocumented items"
)]

#[allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the tests use the rest, and may fail loudly"
)]
#[path = "../tests/support/oci.rs"]
mod oci;

use std::fs;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oci::fixtures;
use wasmgate::image::module;

/// Bytes of this process in memory (`proc_pid_status(5)`): `VmRSS` now, `VmHWM` at most so far.
fn kernel_count(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

/// Prints the most memory that reading takes besides the bytes themselves.
fn peak(name: &str, bytes: &[u8]) {
    // Resets the peak (`proc_pid_clear_refs(5)`).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = kernel_count("VmRSS");
    let facts = module::read(bytes, "bench").unwrap();
    let peak = kernel_count("VmHWM").saturating_sub(before) / 1024;
    let json = serde_json::to_vec(&facts).unwrap().len();
    println!(
        "{name}: {} bytes, at most {peak} KiB beside them, facts with {json} bytes of JSON",
        bytes.len()
    );
}

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
        peak(name, &bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("read", name), &bytes, |bencher, bytes| {
            bencher.iter(|| module::read(black_box(bytes), "bench").unwrap());
        });
    }
    group.finish();
}

criterion_group!(image, parse);
criterion_main!(image);
