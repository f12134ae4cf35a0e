//! `perf script --no-inline | flames TITLE FILE.svg`: a flame graph, and on standard output the largest items, one a line: their share of
//! all samples in percent, a tab, and their name.
//!
//! A sample counts for the innermost function of the gate in its stack, with all that this calls; one outside of the gate counts for the
//! library whose function is innermost. What the kernel does for the gate counts for who asked for it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};
use inferno::flamegraph;

/// Items that are printed.
const ITEMS: usize = 12;
/// Frames that are narrower are left out, so that the graph stays small: percent of the whole.
const NARROWEST: f64 = 0.4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [title, file] = arguments.as_slice() else {
        eprintln!("usage: perf script --no-inline | flames TITLE FILE.svg");
        return ExitCode::from(2);
    };
    match draw(title, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flames: could not draw `{file}`: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(title: &str, file: &str) -> io::Result<()> {
    let mut options = Options::default();
    options.annotate_kernel = true;
    let mut folded = Vec::new();
    Folder::from(options).collapse(io::stdin().lock(), &mut folded)?;
    let folded = String::from_utf8_lossy(&folded);
    let lines: Vec<String> = folded.lines().map(readable).collect();
    let mut options = flamegraph::Options::default();
    options.title = title.to_owned();
    options.count_name = "samples".into();
    options.min_width = NARROWEST;
    options.deterministic = true;
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), std::fs::File::create(file)?)?;
    let mut out = io::stdout().lock();
    for (share, name) in largest(&lines) {
        writeln!(out, "{share:.1}\t{name}")?;
    }
    Ok(())
}

/// A folded stack with names that a person reads: without hashes and closures, and frames that repeat but once.
fn readable(line: &str) -> String {
    let (stack, count) = line.rsplit_once(' ').unwrap_or((line, "0"));
    let mut frames: Vec<String> = Vec::new();
    for frame in stack.split(';').map(shortened) {
        if frames.last() != Some(&frame) {
            frames.push(frame);
        }
    }
    format!("{} {count}", frames.join(";"))
}

fn shortened(frame: &str) -> String {
    let (name, mark) = frame.strip_suffix("_[k]").map_or((frame, ""), |name| (name, "_[k]"));
    let is_hash = |hash: &str| hash.len() == 17 && hash.starts_with('h');
    let name = match name.rsplit_once("::") {
        Some((path, hash)) if is_hash(hash) => path,
        _ => name,
    };
    format!("{}{mark}", name.replace("::{{closure}}", ""))
}

/// The items with the largest shares, in percent.
fn largest(lines: &[String]) -> Vec<(f64, String)> {
    let mut items: BTreeMap<String, u64> = BTreeMap::new();
    let mut all = 0_u64;
    for line in lines {
        let Some((stack, count)) = line.rsplit_once(' ') else { continue };
        let count = count.parse().unwrap_or(0);
        all += count;
        *items.entry(item(stack)).or_default() += count;
    }
    let mut found: Vec<(u64, String)> = items.into_iter().map(|(name, count)| (count, name)).collect();
    found.sort_by(|a, b| b.cmp(a));
    let percent = |count: u64| 100.0 * count as f64 / all.max(1) as f64;
    found.into_iter().take(ITEMS).map(|(count, name)| (percent(count), name)).collect()
}

/// What a stack counts for.
fn item(stack: &str) -> String {
    let mut frames = stack.rsplit(';');
    let innermost = frames.clone().find(|frame| !frame.ends_with("_[k]")).unwrap_or("kernel");
    if let Some(own) = frames.find(|frame| frame.trim_start_matches('<').starts_with("wasmgate::")) {
        return own.to_owned();
    }
    let name = innermost.trim_start_matches(['<', '&']).trim_start_matches("dyn ");
    match name.split_once("::") {
        Some((library, _)) => format!("library {library}"),
        None if name.starts_with('[') || name.is_empty() => "code without a name: compiled rules".into(),
        None => format!("library function {name}"),
    }
}
