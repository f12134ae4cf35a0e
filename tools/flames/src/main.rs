//! `perf script --no-inline | flames TITLE FILE.svg`: a flame graph, and on standard output the largest items, one a line: their share of
//! all samples in percent, a tab, and their name.
//!
//! A sample counts once for each function of the gate on its stack, so an item is a function with all that it calls, and items may hold others.
//! Left out are functions that only lead from one stage of a review to the next ([`LEADING`], and those with more than [`MOST`] of all samples
//! that do little of it themselves), and of two on nearly the same stacks the one with fewer. A sample without a function that counts is the
//! library's whose function is innermost. What the kernel does for the gate counts for who asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;

use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};
use inferno::flamegraph;

/// Items that are printed.
const ITEMS: usize = 12;
/// Frames that are narrower are left out, so that the graph stays small: percent of the whole.
const NARROWEST: f64 = 0.4;
/// Beginnings of the names of functions that only lead from one stage of a review to the next.
const LEADING: [&str; 10] = [
    "wasmgate::main",
    "wasmgate::cli::",
    "wasmgate::server::routes::",
    "wasmgate::server::serving::",
    "wasmgate::server::under_way::",
    "wasmgate::shares::",
    "wasmgate::admission::examine::",
    "wasmgate::admission::flow::",
    "wasmgate::admission::gate::",
    "wasmgate::admission::heavy::",
];
/// A function on more of the stacks holds everything, unless it does much of that itself: percent.
const MOST: u64 = 60;
/// As much is much: percent of its own samples.
const MUCH: u64 = 10;
/// Functions that share so many of the stacks of the larger one are the same work under two names: percent.
const SAME: u64 = 80;

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

/// How often functions, and two of them together, are on the stacks of samples.
#[derive(Default)]
struct Shares<'l> {
    all: u64,
    of: BTreeMap<String, u64>,
    /// How often a function is the innermost one that counts.
    innermost: BTreeMap<&'l str, u64>,
    together: BTreeMap<(&'l str, &'l str), u64>,
}

impl<'l> Shares<'l> {
    fn of(lines: &'l [String]) -> Self {
        let mut shares = Self::default();
        for line in lines {
            let Some((stack, count)) = line.rsplit_once(' ') else { continue };
            shares.add(stack, count.parse().unwrap_or(0));
        }
        shares
    }

    fn add(&mut self, stack: &'l str, count: u64) {
        self.all += count;
        let own: BTreeSet<&str> = stack.split(';').filter(|frame| is_counted(frame)).collect();
        if own.is_empty() {
            *self.of.entry(library(stack)).or_default() += count;
        }
        if let Some(last) = stack.rsplit(';').find(|frame| is_counted(frame)) {
            *self.innermost.entry(last).or_default() += count;
        }
        for one in &own {
            *self.of.entry((*one).to_owned()).or_default() += count;
            for other in &own {
                *self.together.entry((*one, *other)).or_default() += count;
            }
        }
    }

    /// Whether a function only holds what the others do.
    fn holds_all(&self, (count, name): (u64, &str)) -> bool {
        let own = self.innermost.get(name).copied().unwrap_or_default();
        is_own(name) && 100 * count > MOST * self.all && 100 * own < MUCH * count
    }

    /// Whether the second is on nearly the same stacks as the first, which has at least as many.
    fn are_same(&self, first: (u64, &str), second: &str) -> bool {
        let together = self.together.get(&(first.1, second)).copied().unwrap_or_default();
        100 * together >= SAME * first.0
    }
}

/// The items with the largest shares, in percent.
fn largest(lines: &[String]) -> Vec<(f64, String)> {
    let shares = Shares::of(lines);
    let mut found: Vec<(u64, &str)> = shares.of.iter().map(|(name, count)| (*count, name.as_str())).collect();
    found.sort_by(|a, b| b.cmp(a));
    let mut listed: Vec<(u64, &str)> = Vec::new();
    for item in found.into_iter().filter(|item| !shares.holds_all(*item)) {
        if listed.len() < ITEMS && !listed.iter().any(|first| shares.are_same(*first, item.1)) {
            listed.push(item);
        }
    }
    let percent = |count: u64| 100.0 * count as f64 / shares.all.max(1) as f64;
    listed.into_iter().map(|(count, name)| (percent(count), name.to_owned())).collect()
}

/// Whether a function is the gate's: `wasmgate::a::b`, or `<wasmgate::a::B as Trait>::c`.
fn is_own(frame: &str) -> bool {
    frame.trim_start_matches('<').starts_with("wasmgate::")
}

/// Whether a function is the gate's and does some of the work.
fn is_counted(frame: &str) -> bool {
    let name = frame.trim_start_matches('<');
    is_own(frame) && !LEADING.iter().any(|start| name.starts_with(start))
}

/// What a stack without a function that counts is said to be.
fn library(stack: &str) -> String {
    let innermost = stack.rsplit(';').find(|frame| !frame.ends_with("_[k]")).unwrap_or("kernel");
    if is_own(innermost) {
        return innermost.to_owned();
    }
    let name = innermost.trim_start_matches(['<', '&']).trim_start_matches("dyn ");
    match name.split_once("::") {
        Some((library, _)) => format!("library {library}"),
        None if name.starts_with('[') || name.is_empty() => "code without a name: compiled rules".into(),
        None => format!("library function {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_for_each_function_that_does_some_of_the_work_and_for_no_two_names_of_the_same() {
        let lines = [
            "t;wasmgate::admission::examine::judge;wasmgate::judge::prepare;wasmgate::judge::facts;core::f 50",
            "t;wasmgate::admission::examine::judge;wasmgate::judge::prepare;wasmgate::judge::facts;wasmgate::mounts::over 30",
            "t;wasmgate::server::routes::ask;<wasmgate::policy::Turn as T>::evaluate;wasmgate::policy::Turn::evaluate 20",
            "t;wasmgate::server::routes::ask;__GI___writev;tcp_sendmsg_[k] 60",
            "t;[perf-1.map] 10",
        ]
        .map(String::from);
        let rounded: Vec<(u64, String)> =
            largest(&lines).into_iter().map(|(share, name)| (share.round() as u64, name)).collect();
        let wanted = [
            (47, "wasmgate::judge::prepare"),
            (35, "library function __GI___writev"),
            (18, "wasmgate::mounts::over"),
            (12, "wasmgate::policy::Turn::evaluate"),
            (6, "code without a name: compiled rules"),
        ];
        assert_eq!(rounded, wanted.map(|(share, name)| (share, name.to_owned())));
    }

    #[test]
    fn a_function_on_most_of_the_stacks_is_left_out_unless_it_does_the_work() {
        let lines = ["t;wasmgate::any::loop;wasmgate::work::done 61", "t;core::f 39"].map(String::from);
        let names: Vec<String> = largest(&lines).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["wasmgate::work::done", "library core"]);
    }
}
