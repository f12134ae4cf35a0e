//! The constants of `src/runtime/calibrated.rs`, computed from `docs/sizing.csv` as `docs/sizing.md` says.
//! `WASMGATE_WRITE_CALIBRATED=1` writes them. All of it is whole numbers, so that no machine rounds differently.

use std::fmt::Write as _;
use std::fs;

use wasmgate::quantity::MIB;
use wasmgate::runtime::calibrated::{self, Memory, Time};

use super::{Row, conditions, conditions_of_crun, processors, rows};
use crate::support::process::root;

const BEGIN: &str = "// === Written from docs/sizing.csv ===\n";
const END: &str = "// === End of what was written ===\n";

/// A program with more bytes of code than this is large. Of a smaller one much of the memory, and most of the time, is not for its
/// code.
const LARGE: u64 = 1_000_000;

/// The fixed part is so many quarters of what the rows ask for, of layers and of files. wasmtime 36, on another node, killed a Rust
/// program of 61 kB of code and 2.0 MB as a file with 12Mi and started it with 16Mi, which is up to 2.4 times as much.
const QUARTERS: (i128, i128) = (7, 9);

/// What a row needs for its code and whatever the program, in bytes.
fn needed(row: &Row) -> i128 {
    i128::from(row.starts) * MIB - i128::from(row.beside_code())
}

fn code(row: &Row) -> i128 {
    i128::from(row.code_bytes)
}

/// What the rows need without code, by least squares over all sizes, rounded down.
fn without_code(rows: &[&Row]) -> i128 {
    let count = i128::try_from(rows.len()).unwrap();
    let sum = |of: fn(&Row) -> i128| rows.iter().map(|row| of(row)).sum::<i128>();
    let (x, y) = (sum(code), sum(needed));
    let (xx, xy) = (sum(|row| code(row) * code(row)), sum(|row| code(row) * needed(row)));
    (y * xx - x * xy).div_euclid(count * xx - x * x).max(0)
}

/// Rounded up.
fn over(amount: i128, by: i128) -> i128 {
    -(-amount).div_euclid(by)
}

/// The rows of these ways: each a runtime and how it is packed.
fn of_ways<'a>(rows: &'a [Row], ways: &[(&str, &str)]) -> Vec<Vec<&'a Row>> {
    let of_way = |way: &(&str, &str)| {
        rows.iter().filter(|row| (&*row.runtime, &*row.packing) == *way).collect::<Vec<_>>()
    };
    ways.iter().map(of_way).filter(|rows: &Vec<&Row>| !rows.is_empty()).collect()
}

/// The two constants of the floor: of each way the most that a large program needs for a byte of its code, beside what the way needs
/// without code; and the most that any program needs beside that, with a margin for what no generated program tells of.
fn memory(ways: &[Vec<&Row>]) -> Memory {
    let is_layers = ways.iter().flatten().all(|row| row.packing == "layer");
    let quarters = if is_layers { QUARTERS.0 } else { QUARTERS.1 };
    let of_way = |rows: &Vec<&Row>| {
        // Programs whose functions are all of one kind tell nothing of the next ones, so that they raise the floor and do not lower it.
        let written: Vec<&Row> = rows.iter().copied().filter(|row| !row.is_generated()).collect();
        let fixed = without_code(&written);
        let large = written.iter().filter(|row| row.code_bytes > LARGE);
        large.map(|row| over(needed(row) - fixed, code(row))).max().unwrap()
    };
    let per_byte = ways.iter().map(of_way).max().unwrap();
    // The margin is for programs of other kinds and nodes, so what is generated only has to fit.
    let rest = |is_generated: bool| {
        let rows = ways.iter().flatten().filter(|row| row.is_generated() == is_generated);
        rows.map(|row| needed(row) - per_byte * code(row)).max().unwrap_or_default().max(0)
    };
    let fixed = over(rest(false) * quarters, 4).max(rest(true));
    Memory {
        fixed_mebibytes: u32::try_from(over(fixed, MIB)).unwrap(),
        per_byte: u32::try_from(per_byte.max(0)).unwrap(),
    }
}

/// The least and the most time that a large program took for a million bytes of its code: the first rounded down, and the other up, to
/// tenths of a second.
fn time(ways: &[Vec<&Row>]) -> Time {
    let large = ways.iter().flatten().filter(|row| row.code_bytes > LARGE);
    // A millisecond for a byte is a thousand seconds for a million bytes, and so ten thousand tenths.
    let tenths: Vec<(i128, i128)> =
        large.map(|row| (i128::from(row.cpu_millis) * 10_000, code(row))).collect();
    let least = tenths.iter().map(|(time, code)| time.div_euclid(*code)).min().unwrap();
    let most = tenths.iter().map(|(time, code)| over(*time, *code)).max().unwrap();
    Time { tenths: u32::try_from(least).unwrap(), slowest_tenths: u32::try_from(most).unwrap() }
}

/// What is known of the rows of some ways.
struct Found {
    memory: Memory,
    time: Time,
    /// How many, and when they were measured.
    of: String,
}

fn found(rows: &[Row], ways: &[(&str, &str)]) -> Option<Found> {
    let ways = of_ways(rows, ways);
    let days = || ways.iter().flatten().map(|row| &*row.measured);
    let (first, last) = (days().min()?, days().max()?);
    let of = format!("{} rows, measured from {first} to {last}", days().count());
    Some(Found { memory: memory(&ways), time: time(&ways), of })
}

fn layers() -> Found {
    found(&rows(), &[("wasmtime", "layer")]).unwrap()
}

/// youki has the engine in another version, and built in the same way.
fn files() -> Found {
    found(&rows(), &[("wasmtime", "file"), ("youki", "file")]).unwrap()
}

fn crun() -> Option<Found> {
    found(&rows(), &[("crun", "file")])
}

fn written() -> String {
    let (layers, files, crun) = (layers(), files(), crun());
    let memory = |found: &Found| {
        let Memory { fixed_mebibytes, per_byte } = found.memory;
        format!("Memory {{ fixed_mebibytes: {fixed_mebibytes}, per_byte: {per_byte} }}")
    };
    let time = |found: &Found| {
        let Time { tenths, slowest_tenths } = found.time;
        format!("Time {{ tenths: {tenths}, slowest_tenths: {slowest_tenths} }}")
    };
    let optional = |of: &dyn Fn(&Found) -> String| {
        crun.as_ref().map_or_else(|| "None".to_owned(), |found| format!("Some({})", of(found)))
    };
    let of_crun = crun.as_ref().map_or("not measured", |found| &*found.of);
    let mut text = String::new();
    let mut constant = |says: &str, name: &str, of: &str, value: String| {
        write!(text, "\n/// {says}.\npub const {name}: {of} = {value};\n").unwrap();
    };
    constant(
        "The processors of the node, none of which a limit took away",
        "PROCESSORS",
        "u32",
        processors().to_string(),
    );
    let says = format!("A Wasm layer, which the shim compiles: {}", layers.of);
    constant(&says, "LAYER_MEMORY", "Memory", memory(&layers));
    let says = format!("A file, which the container compiles: {}", files.of);
    constant(&says, "FILE_MEMORY", "Memory", memory(&files));
    constant("The time that files took in these rows", "FILE_TIME", "Time", time(&files));
    let says = format!("A file under crun, whose wasmtime is of another build: {of_crun}");
    constant(&says, "CRUN_MEMORY", "Option<Memory>", optional(&memory));
    constant(
        "The time that files under crun took in these rows",
        "CRUN_TIME",
        "Option<Time>",
        optional(&time),
    );
    let versions = std::iter::once(conditions()).chain(conditions_of_crun());
    let versions: Vec<_> = versions.map(|versions| format!("// {versions}.\n")).collect();
    versions.concat() + &text
}

#[test]
fn the_constants_are_those_that_the_formula_makes_of_the_table() {
    let path = root().join("src/runtime/calibrated.rs");
    let source = fs::read_to_string(&path).unwrap();
    let (before, rest) = source.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let now = format!("{before}{BEGIN}{}{END}{after}", written());
    if std::env::var_os("WASMGATE_WRITE_CALIBRATED").is_some_and(|value| value == "1") {
        fs::write(&path, &now).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), now, "`WASMGATE_WRITE_CALIBRATED=1` writes it");
}

/// The run that writes them is of a gate with those before.
#[test]
fn the_gate_that_is_tested_was_built_from_these_constants() {
    assert_eq!(calibrated::PROCESSORS, processors());
    assert_eq!(calibrated::LAYER_MEMORY, layers().memory);
    assert_eq!((calibrated::FILE_MEMORY, calibrated::FILE_TIME), (files().memory, files().time));
    let crun = crun();
    assert_eq!(calibrated::CRUN_MEMORY, crun.as_ref().map(|found| found.memory));
    assert_eq!(calibrated::CRUN_TIME, crun.as_ref().map(|found| found.time));
}

/// The text before the table says the same in words.
#[test]
fn the_page_says_the_constants_in_its_first_table() {
    let page = fs::read_to_string(root().join("docs/sizing.md")).unwrap();
    let (layers, Found { memory: files, time, .. }) = (layers().memory, files());
    let tenths = |tenths: u32| format!("{}.{}", tenths / 10, tenths % 10);
    for said in [
        format!("| base of the runtime ({}Mi; for Spin", layers.fixed_mebibytes),
        format!("+ tables + code × {} | {}Mi + initial", layers.per_byte, files.fixed_mebibytes),
        format!("+ tables + code × {} + the rest of the file", files.per_byte),
        format!("for each processor beyond {}", processors()),
        format!("about {} s for each million bytes of code", tenths(time.tenths)),
        format!("to {} s were measured", tenths(time.slowest_tenths)),
    ] {
        assert!(page.contains(&said), "{said}");
    }
    let configuration = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let crun = crun().map_or(files, |found| found.memory);
    let exception = |files: String, crun: String| format!("{files} ({crun} with `ambient: crun-wasmtime`)");
    let fixed = |memory: Memory| format!("{}Mi", memory.fixed_mebibytes);
    let fixed = exception(fixed(files), fixed(crun));
    let per_byte = exception(files.per_byte.to_string(), crun.per_byte.to_string());
    for (page, said) in [
        (
            &page,
            format!("under `crun-wasmtime` {}Mi and code × {} in their", crun.fixed_mebibytes, crun.per_byte),
        ),
        (&page, fixed.replacen("Mi (", "Mi by default (", 1)),
        (&page, per_byte.replacen(" (", " by default (", 1)),
        (&configuration, format!("what was measured, {fixed}, or `baseMemory`")),
        (&configuration, format!("what was measured, {per_byte}. |")),
    ] {
        assert!(page.contains(&said), "{said}");
    }
}

/// The margins are told at two places.
#[test]
fn the_page_says_wherever_it_speaks_of_the_margins_how_large_they_are() {
    let page = fs::read_to_string(root().join("docs/sizing.md")).unwrap();
    let more = |quarters: i128| match quarters - 4 {
        3 => "three quarters more",
        5 => "five quarters more",
        other => panic!("how is {other} written?"),
    };
    let (layers, files) = (more(QUARTERS.0), more(QUARTERS.1));
    for said in [
        format!("of layers {layers}, and of files {files}, since"),
        format!("of layers is {layers} than the table asks for, and that of files {files}.\n"),
    ] {
        assert!(page.contains(&said), "{said}");
    }
    assert_eq!(page.matches(" quarters more").count(), 4, "another place speaks of them");
}

/// The rule about probes counts no more processors than were measured.
#[test]
fn the_rule_counts_as_many_processors_as_the_node_had() {
    let path = "policies/wasmgate/rules/start_outlasts_probe/start_outlasts_probe.rego";
    let rule = fs::read_to_string(root().join(path)).unwrap();
    let most = processors() * 1000;
    assert!(rule.contains(&format!("counted(limit) := {most} if {{\n\tlimit > {most}\n}}")), "{most}");
}

/// A table of one runtime that needs 3Mi, three bytes for each byte of code, and 2 s for each million of them.
#[test]
fn the_formula_finds_what_a_table_was_made_of() {
    let row = |code_bytes: u64| Row {
        module: "made".into(),
        made_by: "a test".into(),
        runtime: "wasmtime".into(),
        packing: "file".into(),
        made_with: String::new(),
        digest: String::new(),
        file_bytes: code_bytes + (3 << 20),
        code_bytes,
        data_bytes: 1 << 20,
        memory_bytes: 2 << 20,
        peak_kib: 0,
        cpu_millis: code_bytes / 500,
        // One for its data, two for its memory, and two for the rest of its file.
        starts: 8 + 3 * (code_bytes >> 20),
        fails: 0,
        measured: "2026-11-28".into(),
    };
    let rows = [row(0), row(1 << 20), row(2 << 20), row(10 << 20)];
    let found = found(&rows, &[("wasmtime", "file"), ("youki", "file")]).unwrap();
    // Five quarters more than 3Mi, in whole ones.
    assert_eq!(found.memory, Memory { fixed_mebibytes: 7, per_byte: 3 });
    assert_eq!(found.time, Time { tenths: 19, slowest_tenths: 20 });
    assert_eq!(found.of, "4 rows, measured from 2026-11-28 to 2026-11-28");
}

/// What the page says of each constant.
pub(super) fn table() -> String {
    let mut text = String::from(
        "| | fixed | for each byte of code | CPU for each million bytes of code |\n|---|--:|--:|--:|\n",
    );
    let mut line = |what: &str, found: Option<&Found>, compiles: bool| {
        let Some(Found { memory, time, .. }) = found else {
            writeln!(text, "| {what} | not measured | not measured | not measured |").unwrap();
            return;
        };
        let seconds = |tenths: u32| format!("{}.{} s", tenths / 10, tenths % 10);
        let time = format!("{} to {}", seconds(time.tenths), seconds(time.slowest_tenths));
        let time = if compiles { &*time } else { "none" };
        let Memory { fixed_mebibytes, per_byte } = memory;
        writeln!(text, "| {what} | {fixed_mebibytes}Mi | {per_byte} bytes | {time} |").unwrap();
    };
    line("a Wasm layer", Some(&layers()), false);
    line("a file", Some(&files()), true);
    line("a file under crun", crun().as_ref(), true);
    text
}
