//! The memory limit of a replica: it covers the sum of what its parts may take, by the constants and the installed settings that bound them.
//! The manual has each part and the sum; `WASMGATE_WRITE_DOCS=1` writes them.

use serde_json::Value;
use wasmgate::admission::{HEAVY_PLACES, PARSED_BYTES, SCANNED_BYTES};
use wasmgate::cli::serve::LARGEST_PAGE;
use wasmgate::config::Settings;
use wasmgate::image::MAX_NAME_BYTES;
use wasmgate::image::layer::{MAX_APPLICATION_FILE, MAX_APPLICATION_FILES};
use wasmgate::lookup::store::{LARGEST_RECORD, PAGE_CACHE, WAITING_BYTES};
use wasmgate::lookup::{FAILURES_BYTES, largest_need, manifests_bytes, places_for_names};
use wasmgate::policy::evaluations_at_a_time;
use wasmgate::reports::KEPT_BYTES;
use wasmgate::scan::bounds::Budget;
use wasmgate::server::{ServerOptions, UNREAD_BYTES};
use wasmgate::watch::SECRETS_BYTES;

use super::{pod, settings};
use crate::support::manifests::{Objects, helm, installed, read, text};
use crate::support::process::{root, writes_docs};
use crate::{adverse, growth, memory};

const MIB: u64 = 1 << 20;

/// What a replica takes that gets ten times as many reviews of usual size as it can answer, with their evaluations: measured, and rounded up.
/// The goal for that peak is the same number: `benches/goals` reads it in the table that is written here.
const BUSY: u64 = 288 * MIB;

/// More than a node has. Of all parts, evaluations alone grow with them, up to a number.
const PROCESSORS: usize = 1024;

const PAGE: &str = "docs/operations.md";
const BEGIN: &str = "<!-- memory of a replica -->\n";
const END: &str = "<!-- end of the memory of a replica -->";

/// A part of the memory, and the most bytes that it takes.
struct Part {
    what: String,
    bytes: u64,
}

fn part(what: impl Into<String>, bytes: u64) -> Part {
    Part { what: what.into(), bytes }
}

/// So many parts of the same size.
fn parts_of(what: &str, number: u64, bytes: u64) -> Part {
    part(format!("{what}: {number} × {} MiB", bytes / MIB), number * bytes)
}

/// What does not depend on images that are being looked up.
fn of_reviews(settings: &Settings) -> Vec<Part> {
    let (images, policies) = (&settings.file.images, &settings.file.policies);
    let server = ServerOptions::new("tls.crt", "tls.key");
    let evaluations =
        "evaluations, of small and of large inputs, on four processors or more (`policies.memoryLimitBytes`)";
    vec![
        part("a busy gate, with reviews of usual size and their evaluations", BUSY),
        part("bodies of up to 256 KiB", server.small_bodies as u64),
        parts_of("larger bodies", server.large_bodies as u64, server.body_limit as u64),
        part("what came of bodies that wait to be read", UNREAD_BYTES),
        part("answers that clients have not read yet", server.unread_answers as u64),
        part(
            "what the objects of reviews are parsed to, and what their images bring to the rules",
            PARSED_BYTES as u64,
        ),
        parts_of(evaluations, evaluations_at_a_time(PROCESSORS) as u64, policies.memory_limit_bytes as u64),
        parts_of(
            "mounts of large pods that are followed through images",
            HEAVY_PLACES.into(),
            growth::OF_MOUNTS,
        ),
        part("facts about images (`images.factsBytes`)", images.facts_bytes),
        part("names of images (`images.namesBytes`)", images.names_bytes),
        part("look-ups that failed", FAILURES_BYTES),
        part("pages of the file of facts (`images.store`)", PAGE_CACHE as u64),
        part(
            "facts that wait to be written to that file, and the page of the largest",
            (WAITING_BYTES + 2 * LARGEST_RECORD) as u64,
        ),
        part("pull secrets", SECRETS_BYTES),
        part(
            "verdicts and decisions that are known (`policies.verdictCacheBytes`)",
            policies.verdict_cache_bytes,
        ),
        part(
            "records that wait to be written (`decisionLog.bufferBytes`)",
            settings.file.decision_log.buffer_bytes as u64,
        ),
    ]
}

/// What all images take that are being looked up.
fn of_look_ups(settings: &Settings) -> Vec<Part> {
    let images = &settings.file.images;
    let places = u32::try_from(images.concurrent_lookups).unwrap();
    let trees = places_for_names(places).into();
    let documents = images.limits.manifest + 2 * images.limits.config + adverse::OF_DOCUMENT;
    let lookup = documents + MAX_NAME_BYTES as u64;
    let texts = (MAX_APPLICATION_FILES * MAX_APPLICATION_FILE) as u64;
    vec![
        part(
            "layers that are being read, whatever images pods name (`images.memoryBytes`)",
            images.memory_bytes,
        ),
        part("first manifests of look-ups, until there is a slot", manifests_bytes(places)),
        parts_of(
            "manifest, config, Spin application, and names that modules import and export, of each look-up \
             (`images.concurrentLookups`)",
            places.into(),
            lookup,
        ),
        parts_of("names of all files of an image, of a third of the look-ups", trees, memory::OF_TREE as u64),
        parts_of("a `spin.toml`, of each of these", trees, adverse::OF_SPIN_TOML),
        parts_of("the texts of such files, of each of these", trees, texts),
    ]
}

/// What is off unless it is switched on.
fn optional() -> Vec<Part> {
    let (found, page) = (Budget::OF_SERVER as u64, LARGEST_PAGE as u64);
    // Four objects are judged at a time, for either. A larger one takes its memory from that of the reviews.
    let judged = 4 * SCANNED_BYTES as u64;
    vec![
        // The last page is sent while the next one is written.
        part(
            "in addition the page for people, where it is on (`server.page.listen`)",
            found + judged + 2 * page,
        ),
        part(
            "in addition reports, where they are on (`reports.enabled`)",
            found + judged + KEPT_BYTES as u64,
        ),
    ]
}

fn sum(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.bytes).sum()
}

fn table(parts: &[Part], further: &[Part]) -> String {
    let row = |what: &str, bytes: u64| format!("| {what} | {} |\n", bytes.div_ceil(MIB));
    let rows = |parts: &[Part]| parts.iter().map(|part| row(&part.what, part.bytes)).collect::<String>();
    let head = "| what | at most, MiB |\n|---|---|\n";
    format!("{head}{}{}{}", rows(parts), row("**together**", sum(parts)), rows(further))
}

/// The memory limit of the Deployment, in bytes.
fn limit(objects: &Objects) -> u64 {
    let pod = pod(objects);
    let limit = text(&pod["containers"][0]["resources"]["limits"]["memory"]);
    limit.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() * MIB
}

/// With the page, which `WASMGATE_WRITE_DOCS=1` writes.
fn compare(table: &str) {
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if writes_docs() {
        std::fs::write(root().join(PAGE), format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "{PAGE} is out of date; `WASMGATE_WRITE_DOCS=1` writes it");
}

#[test]
fn what_a_replica_may_take_fits_into_its_memory_limit_and_is_in_the_manual() {
    for objects in [installed(), helm(&[])] {
        let (settings, limit) = (settings(&objects), limit(&objects));
        let mut parts = of_reviews(&settings);
        parts.extend(of_look_ups(&settings));
        let (sum, further) = (sum(&parts), optional());
        let table = table(&parts, &further);
        println!("{table}of {} MiB", limit / MIB);
        assert!(sum + limit / 16 <= limit, "some space is for the allocator: {sum} of {limit}");
        for one in &further {
            assert!(sum + one.bytes <= limit, "{} beside {sum} of {limit}", one.what);
        }
        compare(&table);
    }
}

#[test]
fn evaluations_take_as_much_on_four_processors_as_on_any_larger_node() {
    assert_eq!(evaluations_at_a_time(4), evaluations_at_a_time(PROCESSORS));
    assert!(evaluations_at_a_time(3) < evaluations_at_a_time(4));
}

#[test]
fn the_largest_layer_that_is_read_fits_into_the_memory_for_layers() {
    let images = settings(&installed()).file.images;
    let largest = largest_need(&images.limits);
    assert!(largest <= images.memory_bytes, "{largest} of {}", images.memory_bytes);
}

#[test]
fn a_busy_gate_was_measured_to_take_no_more_than_it_is_counted_for() {
    let record: Value = serde_json::from_str(&read("docs/performance/overload.json")).unwrap();
    // What a second bundle evaluates is counted among the evaluations.
    let rows = record["figures"]["rows"].as_array().unwrap().iter();
    let rows = rows.filter(|row| !row["case"].as_str().unwrap().contains("bundles"));
    let peaks: Vec<f64> = rows.map(|row| row["peak_mib"].as_f64().unwrap()).collect();
    assert!(peaks.len() >= 2, "{peaks:?}");
    let most = f64::from(u32::try_from(BUSY / MIB).unwrap());
    assert!(peaks.iter().all(|peak| *peak < most), "{peaks:?}");
}

/// `benches/goals` takes the bound from the table above, and writes it into the page with the goals.
#[test]
fn the_goal_for_the_peak_is_what_a_busy_gate_is_counted_for() {
    let bound = format!("| ten times the top rate: memory | bounded, ≤ {} MiB |", BUSY / MIB);
    let page = "docs/performance.md";
    assert!(
        read(page).contains(&bound),
        "{page} has no `{bound}`; `benches/serve --render --page {page}` writes it"
    );
}
