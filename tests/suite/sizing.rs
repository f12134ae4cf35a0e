//! The sizes that `make calibrate` measured (`docs/sizing.csv`): the formula is held to them, and `docs/sizing.md` and its
//! plot are made from them. `WASMGATE_WRITE_DOCS=1` writes both. The constants of the formula follow from them ([`constants`]).

#![allow(clippy::cast_precision_loss, reason = "sizes of megabytes, in a plot and a fit")]

mod constants;
mod filled;
mod modules;
mod needed;

use std::fmt::Write as _;
use std::fs;

use wasmgate::image::{ModuleFacts, WasmFormat};
use wasmgate::plan::floor;
use wasmgate::quantity::{MIB, Quantity};
use wasmgate::runtime::{Compiler, Runtimes};

use crate::support::process::{root, writes_docs};

const BEGIN: &str = "<!-- measured -->\n";
const END: &str = "<!-- end of what was measured -->\n";

/// A line of the file.
#[derive(Debug)]
struct Row {
    module: String,
    made_by: String,
    runtime: String,
    packing: String,
    /// The compiler with its version, and the digest and the size of the module; empty and 0 where they are not known.
    made_with: String,
    digest: String,
    file_bytes: u64,
    code_bytes: u64,
    data_bytes: u64,
    memory_bytes: u64,
    peak_kib: u64,
    cpu_millis: u64,
    /// The smallest limit in Mi with which it started every time, and the largest with which it did not.
    starts: u64,
    fails: u64,
    /// The day.
    measured: String,
}

fn row(line: &str) -> Row {
    let (module, rest) = line.split_once(",\"").unwrap();
    let (made_by, rest) = rest.split_once("\",").unwrap();
    let (way, rest) = rest.split_once(",\"").unwrap();
    let (made_with, rest) = rest.split_once("\",").unwrap();
    let (runtime, packing) = way.split_once(',').unwrap();
    let fields: Vec<&str> = rest.split(',').collect();
    let [digest, file, numbers @ .., measured] = &fields[..] else { panic!("{line}") };
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
    let [code_bytes, data_bytes, memory_bytes, peak_kib, cpu_millis, starts, fails] = numbers[..] else {
        panic!("{line}")
    };
    let [module, made_by, runtime, packing, made_with, digest, measured] =
        [module, made_by, runtime, packing, made_with, digest, measured].map(String::from);
    Row {
        module,
        made_by,
        runtime,
        packing,
        made_with,
        digest,
        file_bytes: if file.is_empty() { 0 } else { file.parse().unwrap() },
        code_bytes,
        data_bytes,
        memory_bytes,
        peak_kib,
        cpu_millis,
        starts,
        fails,
        measured,
    }
}

fn measured() -> String {
    fs::read_to_string(root().join("docs/sizing.csv")).unwrap()
}

/// What was measured, by size.
fn rows() -> Vec<Row> {
    let text = measured();
    let mut rows: Vec<Row> = text.lines().skip(2).filter(|line| !line.starts_with('#')).map(row).collect();
    rows.sort_by_key(|row| {
        let runtime = ["wasmtime", "youki", "crun"].iter().position(|runtime| *runtime == row.runtime);
        (runtime, row.packing == "file", row.code_bytes, row.module.clone())
    });
    rows
}

/// The versions with which.
fn conditions() -> String {
    measured().lines().next().unwrap().trim_start_matches("# ").to_string()
}

/// The processors of the node that measured.
fn processors() -> u32 {
    let conditions = conditions();
    let (before, _) = conditions.split_once(" processors, no CPU limit").unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Those of crun, which is not built everywhere.
fn conditions_of_crun() -> Option<String> {
    let text = measured();
    let line = text.lines().skip(2).find_map(|line| line.strip_prefix("# "));
    line.map(String::from)
}

fn whole_mib(text: &str) -> u64 {
    text.trim_end_matches("Mi").parse().unwrap()
}

impl Row {
    fn compiler(&self) -> Compiler {
        match (&*self.packing, &*self.runtime) {
            ("layer", _) => Compiler::Shim,
            (_, "crun") => Compiler::Crun,
            _ => Compiler::Container,
        }
    }

    fn facts(&self) -> ModuleFacts {
        ModuleFacts {
            size_bytes: self.file_bytes,
            code_bytes: self.code_bytes,
            data_bytes: self.data_bytes,
            memory_bytes: self.memory_bytes,
            ..ModuleFacts::blank("app.wasm", WasmFormat::Module)
        }
    }

    /// The floor in Mi. youki has no profile of its own, and one that is written takes the same base.
    fn floor(&self) -> u64 {
        let runtimes = Runtimes::default();
        let profile = runtimes.profiles.iter().find(|profile| profile.name == "wasmtime").unwrap();
        let limit = Some(Quantity::from_millis(i128::from(processors()) * 1000));
        let own = profile.own_memory();
        whole_mib(&floor::memory(self.compiler(), own, limit, std::iter::once(&self.facts())).memory())
    }

    /// Bytes of the file that the container reads beside its code and its data.
    fn rest_of_file(&self) -> u64 {
        match self.compiler() {
            Compiler::Shim => 0,
            Compiler::Container | Compiler::Crun => {
                self.file_bytes.saturating_sub(self.code_bytes + self.data_bytes)
            }
        }
    }

    /// Whether a script wrote the program.
    fn is_generated(&self) -> bool {
        BETWEEN.contains(&self.module.as_str())
    }

    /// Bytes that it needs to start whatever its code: its memory, the data that is copied into that, and the rest of its file.
    fn beside_code(&self) -> u64 {
        self.memory_bytes + self.data_bytes + self.rest_of_file()
    }

    /// The limit that the gate fills in: the floor, or the profile's own where that is more.
    fn given(&self) -> u64 {
        self.floor().max(least())
    }

    /// Mi that the code needs.
    fn for_code(&self) -> f64 {
        self.starts as f64 - self.beside_code() as f64 / MIB as f64
    }
}

/// The memory limit of the built-in profile, in Mi.
fn least() -> u64 {
    let runtimes = Runtimes::default();
    let profile = runtimes.profiles.iter().find(|profile| profile.name == "wasmtime").unwrap();
    whole_mib(&profile.sizing.memory_limit.quantity().memory())
}

/// Every module that `make calibrate` measures (`programs` in `tests/live/node/calibrate.rs`), and every component.
const MODULES: [&str; 7] = ["wat", "clang", "assemblyscript", "rust", "tinygo", "go", "go-large"];
const COMPONENTS: [&str; 4] = ["clang-component", "runwasi", "jscommand", "pycommand"];

/// Between small and large, and generated. They were measured under the shim; the other runtimes may have rows of them.
const BETWEEN: [&str; 3] = ["clang-300k", "clang-600k", "clang-950k"];

#[test]
fn every_module_is_in_the_table_in_every_way_in_which_it_runs() {
    let mut expected: Vec<(&str, &str, &str)> = Vec::new();
    let crun = conditions_of_crun().is_some();
    for (runtime, packing, _) in WAYS.into_iter().filter(|way| crun || way.0 != "crun") {
        expected.extend(MODULES.map(|module| (module, runtime, packing)));
        // youki and crun run no components.
        if runtime == "wasmtime" {
            expected.extend(COMPONENTS.map(|module| (module, runtime, packing)));
            expected.extend(BETWEEN.map(|module| (module, runtime, packing)));
        }
    }
    let rows = rows();
    let is_further = |row: &Row| row.runtime != "wasmtime" && row.is_generated();
    let needed = rows.iter().filter(|row| !is_further(row));
    let mut found: Vec<(&str, &str, &str)> =
        needed.map(|row| (&*row.module, &*row.runtime, &*row.packing)).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// The word behind these in a file below `tools`.
fn pinned(file: &str, before: &str) -> String {
    let text = fs::read_to_string(root().join("tools").join(file)).unwrap();
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no `{before}` in {file}"));
    rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

/// Another version may need more: then `make calibrate` measures the whole table, and the probes and golden rows run again.
#[test]
fn what_was_measured_and_tried_is_of_the_versions_that_the_node_has() {
    let shim = pinned("runwasi/Cargo.toml", "\ncontainerd-shim-wasm = \"=");
    let wasmtime = pinned("runwasi/Cargo.toml", "\nwasmtime = { version = \"=");
    let youki = pinned("youki/crate", "\nyouki ");
    let conditions = conditions();
    for version in [
        format!("kubelet {}, ", pinned("kubernetes/go.mod", "\tk8s.io/kubernetes v")),
        format!("containerd {}, ", pinned("containerd/go.mod", "\tgithub.com/containerd/containerd/v2 v")),
        format!("containerd-shim-wasm {shim} with wasmtime {wasmtime}, "),
        format!("youki {youki} "),
    ] {
        assert!(conditions.contains(&version), "{version} is pinned, and measured was {conditions}");
    }
    if let Some(said) = conditions_of_crun() {
        let (crun, engine) =
            (pinned("crun/source", "\ncrun "), pinned("crun/requirements.txt", "\nwasmtime=="));
        assert!(said.starts_with(&format!("crun {crun} with wasmtime {engine}, ")), "measured was {said}");
    }
    let page = fs::read_to_string(root().join("docs/runtimes.md")).unwrap();
    let major = wasmtime.split('.').next().unwrap();
    for tried in [
        format!("containerd-shim-wasm {shim} with wasmtime {major} "),
        format!("| youki {youki} with wasmtime "),
    ] {
        assert!(page.contains(&tried), "{tried} is pinned, and docs/runtimes.md says another");
    }
}

/// A machine that is slow for a day, as rented ones are, takes up to twice the time for the same work. Sizes go by the estimate, and the
/// rule about probes by the slowest. By the constants no module took less than the one or more than the other: of that, these tests show
/// no more than that the gate multiplies right.
#[test]
fn no_large_module_took_more_than_two_and_a_half_times_the_estimated_time_to_compile_and_none_less_than_it() {
    let rows = rows();
    let large = |row: &&Row| row.compiler() != Compiler::Shim && row.code_bytes > 1_000_000;
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for row in rows.iter().filter(large) {
        let estimate = floor::compile_millis(row.compiler(), std::iter::once(&row.facts()));
        let measured = i128::from(row.cpu_millis);
        looked_at += 1;
        if estimate * 5 < measured * 2 || estimate > measured {
            wrong.push(format!("{} under {}: {measured} ms, estimated {estimate}", row.module, row.runtime));
        }
    }
    assert!(looked_at >= 8 && wrong.is_empty(), "{looked_at} rows: {wrong:#?}");
}

/// Seconds after which a liveness probe with the defaults of the API server may restart a container.
const DEFAULT_PROBE: i128 = 20;

/// The rule `start-outlasts-probe` goes by the slowest. One that it lets pass at one processor would be restarted for ever.
#[test]
fn no_module_took_longer_to_compile_than_a_probe_waits_of_which_nothing_is_said() {
    let rows = rows();
    let (mut too_slow, mut unwarned) = (0, Vec::new());
    for row in rows.iter().filter(|row| row.compiler() != Compiler::Shim) {
        let slowest = floor::slowest_compile_millis(row.compiler(), std::iter::once(&row.facts()));
        let (measured, limit) = (i128::from(row.cpu_millis), DEFAULT_PROBE * 1000);
        too_slow += usize::from(measured > limit);
        // Of a program of some kilobytes most of the time is not for compiling.
        let is_more = row.code_bytes > 1_000_000 && measured > slowest;
        if is_more || (measured > limit && slowest <= limit) {
            unwarned.push(format!("{} under {}: {measured} ms, at most {slowest}", row.module, row.runtime));
        }
    }
    assert!(too_slow >= 1 && unwarned.is_empty(), "{too_slow} rows: {unwarned:#?}");
}

#[test]
fn no_module_is_given_a_limit_under_which_it_failed_and_no_layer_twice_what_it_needs() {
    let rows = rows();
    let mut wrong = Vec::new();
    for row in &rows {
        let Row { module, runtime, packing, starts, .. } = row;
        let (floor, given) = (row.floor(), row.given());
        // The rule `under-floor` speaks of the floor, so that is held to it too.
        let fails = floor < *starts;
        let wasteful = packing == "layer" && given > least() && given > 2 * starts;
        if fails || wasteful {
            wrong.push(format!(
                "{module}, {packing}, {runtime}: floor {floor}Mi, given {given}Mi, starts with {starts}Mi"
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Least squares: what is needed without code, what 1 MiB of code needs, and the largest error.
fn fitted(rows: &[&Row], needed: fn(&Row) -> f64) -> (f64, f64, f64) {
    let points: Vec<(f64, f64)> =
        rows.iter().map(|row| (row.code_bytes as f64 / MIB as f64, needed(row))).collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = above / below;
    let base = y - slope * x;
    let error = points.iter().map(|point| (base + slope * point.0 - point.1).abs()).fold(0.0, f64::max);
    (base, slope, error)
}

/// Of each runtime and way of packing.
const WAYS: [(&str, &str, &str); 4] = [
    ("wasmtime", "layer", "a Wasm layer under runwasi's wasmtime shim"),
    ("wasmtime", "file", "a file under runwasi's wasmtime shim"),
    ("youki", "file", "a file under youki"),
    ("crun", "file", "a file under crun"),
];

/// What the page says of crun before the table.
fn said_of_crun() -> String {
    conditions_of_crun().map_or_else(
        || {
            "**Under crun nothing was measured yet**: its floor and its time are those of the other runtimes with wasmtime. `make \
             calibrate` measures it where `tools/build crun` has built it."
                .into()
        },
        |said| format!("The rows of crun: {said}, and so built for release."),
    )
}

fn table(rows: &[Row]) -> String {
    let mut text = format!("{}.\n\n{}\n\n", conditions(), said_of_crun());
    text.push_str(
        "| module | made by | with | runtime | packed as | file | code | data | memory | peak | CPU | starts with | fails with | floor | the gate gives | measured |\n",
    );
    text.push_str("|---|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n");
    for row in rows {
        let Row { module, made_by, made_with, runtime, packing, cpu_millis, starts, fails, measured, .. } =
            row;
        let file = match row.file_bytes {
            0 => String::new(),
            bytes => format!("{} kB", bytes.div_ceil(1000)),
        };
        let (code, data) = (row.code_bytes.div_ceil(1000), row.data_bytes.div_ceil(1000));
        let memory = row.memory_bytes >> 10;
        let peak = row.peak_kib as f64 / 1024.0;
        let (floor, given) = (row.floor(), row.given());
        writeln!(
            text,
            "| {module} | {made_by} | {made_with} | {runtime} | {packing} | {file} | {code} kB | {data} kB | {memory} KiB | {peak:.1}Mi | {cpu_millis} ms | {starts}Mi | {fails}Mi \
             | {floor}Mi | {given}Mi | {measured} |"
        )
        .unwrap();
    }
    write!(text, "\nThe constants that follow from these:\n\n{}", constants::table()).unwrap();
    text.push_str("\nFitted to these by least squares, beside the initial memory, the data and, for files, the rest of the file:\n\n");
    text.push_str("| | fixed | for each byte of code | largest error | CPU for each million bytes of code |\n|---|--:|--:|--:|--:|\n");
    for (runtime, packing, what) in WAYS {
        let of: Vec<&Row> =
            rows.iter().filter(|row| (&*row.runtime, &*row.packing) == (runtime, packing)).collect();
        if of.is_empty() {
            continue;
        }
        let (base, slope, error) = fitted(&of, Row::for_code);
        let (_, cpu, _) = fitted(&of, |row| row.cpu_millis as f64);
        let cpu = cpu / MIB as f64 * 1e6;
        writeln!(text, "| {what} | {base:.1}Mi | {slope:.1} bytes | {error:.1}Mi | {cpu:.0} ms |").unwrap();
    }
    text
}

#[test]
fn the_page_has_the_table_and_the_plot_of_what_was_measured() {
    let rows = rows();
    let (page_path, plot_path) = (root().join("docs/sizing.md"), root().join("docs/sizing.svg"));
    let page = fs::read_to_string(&page_path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let now = format!("{before}{BEGIN}\n{}\n{END}{after}", table(&rows));
    if writes_docs() {
        fs::write(&page_path, &now).unwrap();
        fs::write(&plot_path, plot(&rows)).unwrap();
    }
    assert_eq!(fs::read_to_string(&page_path).unwrap(), now, "`WASMGATE_WRITE_DOCS=1` writes it");
    assert_eq!(fs::read_to_string(&plot_path).unwrap(), plot(&rows), "`WASMGATE_WRITE_DOCS=1` writes it");
}

// === The plot: for each module the smallest limit that starts it, and the limit that the gate gives. ===

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 390.0;
/// Logarithms of what the axes begin and end with: bytes of code, and Mi.
const CODE: (f64, f64) = (1.5, 8.0);
const MEMORY: (f64, f64) = (0.0, 3.0);

fn across(code_bytes: f64) -> f64 {
    LEFT + (code_bytes.max(40.0).log10() - CODE.0) / (CODE.1 - CODE.0) * (WIDTH - LEFT - 20.0)
}

fn up(mib: f64) -> f64 {
    BOTTOM - (mib.max(1.0).log10() - MEMORY.0) / (MEMORY.1 - MEMORY.0) * (BOTTOM - 30.0)
}

fn axes() -> String {
    let mut svg = String::new();
    let line = "stroke=\"#ccc\" stroke-width=\"1\"";
    for (power, label) in
        [(2, "100 B"), (3, "1 kB"), (4, "10 kB"), (5, "100 kB"), (6, "1 MB"), (7, "10 MB"), (8, "100 MB")]
    {
        let x = across(10_f64.powi(power));
        writeln!(svg, "<line x1=\"{x:.1}\" y1=\"30\" x2=\"{x:.1}\" y2=\"{BOTTOM}\" {line}/>").unwrap();
        writeln!(svg, "<text x=\"{x:.1}\" y=\"408\" text-anchor=\"middle\">{label}</text>").unwrap();
    }
    for (power, label) in [(0, "1Mi"), (1, "10Mi"), (2, "100Mi"), (3, "1000Mi")] {
        let y = up(10_f64.powi(power));
        writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" {line}/>", WIDTH - 20.0)
            .unwrap();
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            y + 4.0
        )
        .unwrap();
    }
    svg.push_str("<text x=\"400\" y=\"430\" text-anchor=\"middle\">code section</text>\n");
    svg
}

fn plot(rows: &[Row]) -> String {
    let crun = if rows.iter().any(|row| row.runtime == "crun") { "; grey: file, crun" } else { "" };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\">Memory limits: the smallest that starts a module (dot), and what the gate gives (bar). Blue: layer; red: file; green: file, youki{crun}</text>\n{}",
        axes()
    );
    for row in rows {
        let (shift, colour) = match (&*row.runtime, &*row.packing) {
            (_, "layer") => (-4.0, "#1f6fb4"),
            ("youki", _) => (4.0, "#2e8540"),
            ("crun", _) => (8.0, "#777"),
            _ => (0.0, "#c0392b"),
        };
        let x = across(row.code_bytes as f64) + shift;
        let (needed, given) = (up(row.starts as f64), up(row.given() as f64));
        let Row { module, runtime, packing, starts, .. } = row;
        writeln!(
            svg,
            "<g stroke=\"{colour}\" fill=\"{colour}\"><title>{module} as a {packing} under {runtime}: starts with {starts}Mi, is given {}Mi</title>\
             <line x1=\"{x:.1}\" y1=\"{needed:.1}\" x2=\"{x:.1}\" y2=\"{given:.1}\"/>\
             <line x1=\"{:.1}\" y1=\"{given:.1}\" x2=\"{:.1}\" y2=\"{given:.1}\" stroke-width=\"3\"/>\
             <circle cx=\"{x:.1}\" cy=\"{needed:.1}\" r=\"4\"/></g>",
            row.given(),
            x - 6.0,
            x + 6.0
        )
        .unwrap();
    }
    svg.push_str("</svg>\n");
    svg
}
