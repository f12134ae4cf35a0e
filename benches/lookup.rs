//! The time of a look-up whose answer is known, and the memory of a remembered answer.
//!
//! `cargo bench --bench lookup`; `LOOKUP_DIGESTS=5000` shortens the first part. It first measures and prints the memory
//! of 100 000 remembered digests: the growth of the process according to the kernel, with facts of a Wasm artifact with
//! a dozen imports.
//!
//! Measured on two shared cores, with dependencies at `opt-level = 1`, medians of four runs: a warm tag 0.48 µs, a warm
//! digest 0.46 µs; 4.7 KB for a digest with its name, the facts of which have 1.4 KB of JSON.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a bench stops where its set-up is wrong, and criterion's macros write undocumented items"
)]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use wasmgate::image::Depth;
use wasmgate::lookup::{Inspector, LookupOptions};

const AMPLE: Duration = Duration::from_secs(20);
const DIGESTS: usize = 100_000;

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn put(layout: &Path, bytes: &[u8]) -> (String, usize) {
    let name = digest(bytes);
    fs::write(layout.join("blobs").join(name.replace(':', "/")), bytes).unwrap();
    (name, bytes.len())
}

/// A module that imports what a command of the usual toolchains imports.
fn module() -> Vec<u8> {
    let names = [
        "args_get",
        "args_sizes_get",
        "clock_time_get",
        "environ_get",
        "environ_sizes_get",
        "fd_close",
        "fd_read",
        "fd_write",
        "fd_prestat_get",
        "fd_prestat_dir_name",
        "path_open",
        "proc_exit",
    ];
    let imports: Vec<_> =
        names.iter().map(|name| format!(r#"(import "wasi_snapshot_preview1" "{name}" (func))"#)).collect();
    let text =
        format!(r#"(module {} (memory (export "memory") 1) (func (export "_start")))"#, imports.join(" "));
    wat::parse_str(text).unwrap()
}

/// A layout with one artifact in this many manifests, which differ only in an annotation; their digests.
fn layout(folder: &Path, manifests: usize) -> Vec<String> {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let (layer, layer_bytes) = put(folder, &module());
    let config = json!({"architecture": "wasm", "os": "wasip1", "layerDigests": [layer]}).to_string();
    let (config, config_bytes) = put(folder, config.as_bytes());
    let digests: Vec<String> = (0..manifests)
        .map(|number| {
            let manifest = json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": config, "size": config_bytes},
                "layers": [{"mediaType": "application/wasm", "digest": layer, "size": layer_bytes}],
                "annotations": {"number": number.to_string()},
            });
            put(folder, manifest.to_string().as_bytes()).0
        })
        .collect();
    let first = json!({"mediaType": "x", "digest": digests.first().unwrap(), "size": 1});
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [first]}).to_string())
        .unwrap();
    digests
}

fn inspector(folder: &Path) -> Inspector {
    let options = LookupOptions {
        layouts: BTreeMap::from([("samples.test".to_string(), folder.to_path_buf())]),
        tag_ttl: Duration::from_hours(1),
        facts_bytes: 4 << 30,
        names_bytes: 1 << 30,
        ..LookupOptions::default()
    };
    Inspector::new(options).unwrap()
}

/// Bytes of this process in memory (`proc_pid_status(5)`, `VmRSS`).
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

fn memory(runtime: &Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let asked = std::env::var("LOOKUP_DIGESTS").map_or(DIGESTS, |number| number.parse().unwrap());
    let digests = layout(&folder.path().join("app"), asked.max(2000));
    let inspector = inspector(folder.path());
    let look = |digest: &String| {
        let image = format!("samples.test/app@{digest}");
        runtime.block_on(inspector.inspect(&image, Depth::Layers, AMPLE)).unwrap()
    };
    // What the first look-ups allocate once is not counted.
    let (first, rest) = digests.split_at(1000);
    let json = first.iter().map(|digest| serde_json::to_vec(&*look(digest)).unwrap().len()).max().unwrap();
    let (before, start) = (resident(), Instant::now());
    for digest in rest {
        look(digest);
    }
    let each = resident().saturating_sub(before) / rest.len();
    let stats = inspector.stats();
    println!(
        "{} digests and {} names remembered: {each} bytes each (the facts have {json} bytes of JSON), looked up in {:?}",
        stats.digests,
        stats.names,
        start.elapsed()
    );
}

fn warm(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    memory(&runtime);
    let folder = tempfile::tempdir().unwrap();
    let digests = layout(&folder.path().join("app"), 1);
    let inspector = inspector(folder.path());
    let pinned = format!("samples.test/app:v1@{}", digests.first().unwrap());
    for (name, image) in [("warm tag", "samples.test/app:v1"), ("warm digest", pinned.as_str())] {
        runtime.block_on(inspector.inspect(image, Depth::Layers, AMPLE)).unwrap();
        criterion.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                black_box(inspector.inspect(black_box(image), Depth::Layers, AMPLE).await.unwrap())
            });
        });
    }
}

criterion_group!(benches, warm);
criterion_main!(benches);
