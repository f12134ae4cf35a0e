//! One self-contained page: workloads and capabilities, why each is there, who granted it, and what would be refused.
//! It loads nothing, and its policy lets it load nothing. It is well-formed XML too, so that a test can parse it. Pure.

mod parts;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::table::summary;
use crate::capability::{Capability, Entry};
use crate::cli::report::ExplainOutcome;
use crate::scan::model::{Scan, Workload, rank, word};
pub use parts::escaped;
use parts::{DEFAULT, Until, details, grants, not_judged};
pub use refused::refused;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Most workloads of a page on which those that would be denied are shown open.
const FEW: usize = 10;

/// The page in parts: what is not of the scan has its place after the head of the page, and after what the scan found.
#[derive(Debug)]
pub struct PageParts {
    /// Up to the last line of the head.
    pub opening: String,
    /// What was found.
    pub found: String,
    /// The end.
    pub closing: String,
}

/// The page with the workloads that are listed; `now` says which grants end soon.
pub fn page(scan: &Scan, all: bool, now: Timestamp) -> String {
    let PageParts { opening, found, closing } = in_parts(scan, all, now);
    opening + &found + &closing
}

/// The same in parts.
pub fn in_parts(scan: &Scan, all: bool, now: Timestamp) -> PageParts {
    let mut workloads = scan.shown(all);
    workloads.sort_by_key(|workload| rank(workload.outcome));
    let until = Until::new(scan);
    let mut opening = head();
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        opening,
        "<body>\n<a class=\"skip\" href=\"#details\">Skip to the details</a>\n<header><h1>What these workloads can do</h1>\n\
         <p>{}</p>\n<p class=\"dim\">Scanned by wasmgate {} at {now:.0}.</p>\n",
        escaped(&summary(scan, true)),
        env!("CARGO_PKG_VERSION")
    );
    let mut out = String::from("</header>\n<main>\n");
    out.push_str(&form(&workloads));
    out.push_str(&matrix(&workloads, &until));
    out.push_str("<h2 id=\"details\">Reasons, grants, and how to fix it</h2>\n");
    for (index, workload) in workloads.iter().enumerate() {
        let open = workloads.len() <= FEW && workload.outcome == ExplainOutcome::Denied;
        out.push_str(&details(workload, index, open, &found_by(workload), &until));
    }
    out.push_str(&not_judged(scan));
    out.push_str(&grants(scan, now));
    let closing = format!("</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    PageParts { opening, found: out, closing }
}

fn head() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<meta name=\"referrer\" \
         content=\"no-referrer\"/>\n<title>wasmgate scan</title>\n<style>{STYLE}</style>\n</head>\n",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// The filters. Without a script they would do nothing, so the script shows them.
fn form(workloads: &[&Workload]) -> String {
    let outcomes: BTreeSet<(u8, &str)> =
        workloads.iter().map(|workload| (rank(workload.outcome), word(workload.outcome))).collect();
    let option = |(_, outcome): &(u8, &str)| format!("<option value=\"{outcome}\">{outcome}</option>");
    let options: String = outcomes.iter().map(option).collect();
    format!(
        "<form hidden=\"hidden\" role=\"search\"><label>Filter <input id=\"filter\" type=\"search\" autocomplete=\"off\" \
         placeholder=\"name, image, capability, rule (press /)\"/></label>\n<label>Outcome <select id=\"outcome\"><option \
         value=\"\">all</option>{options}</select></label>\n<output id=\"shown\"></output>\n<button id=\"more\" \
         type=\"button\" hidden=\"hidden\">Show all</button></form>\n"
    )
}

/// How a capability is covered in a workload; the worst of all its programs counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cover {
    Default,
    Granted,
    None,
}

impl Cover {
    fn of(entry: &Entry) -> Self {
        match entry.covered_by.first().map(String::as_str) {
            None => Self::None,
            Some(DEFAULT) => Self::Default,
            Some(_) => Self::Granted,
        }
    }

    /// Class, sign and words.
    const fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Default => ("default", "·", "needs no grant"),
            Self::Granted => ("granted", "✓", "granted"),
            Self::None => ("none", "✗", "not granted"),
        }
    }
}

/// A capability of a workload.
struct Cell<'a> {
    cover: Cover,
    /// The grants that cover it in some program.
    by: BTreeSet<&'a str>,
}

impl Cell<'_> {
    /// The same in words, with the grants and their ends.
    fn title(&self, capability: Capability, namespace: &str, until: &Until<'_>) -> String {
        let (_, _, words) = self.cover.shown();
        let by: Vec<String> = match self.cover {
            Cover::Granted => self.by.iter().map(|label| until.said(namespace, label)).collect(),
            Cover::Default | Cover::None => Vec::new(),
        };
        let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
        format!("{}: {words}{by}", capability.as_str())
    }
}

fn covers(workload: &Workload) -> BTreeMap<Capability, Cell<'_>> {
    let mut found: BTreeMap<Capability, Cell<'_>> = BTreeMap::new();
    let programs = workload.judged.iter().flat_map(|judged| &judged.spec.containers);
    for entry in programs.flat_map(|program| &program.effective) {
        let none = || Cell { cover: Cover::Default, by: BTreeSet::new() };
        let own = found.entry(entry.capability).or_insert_with(none);
        own.cover = own.cover.max(Cover::of(entry));
        own.by.extend(entry.covered_by.iter().map(String::as_str).filter(|label| *label != DEFAULT));
    }
    found
}

fn matrix(workloads: &[&Workload], until: &Until<'_>) -> String {
    let rows: Vec<_> = workloads.iter().map(|workload| (*workload, covers(workload))).collect();
    let used: BTreeSet<Capability> = rows.iter().flat_map(|(_, covers)| covers.keys().copied()).collect();
    let mut out = String::from(
        "<h2>Workloads and capabilities</h2>\n<p class=\"legend\"><span class=\"none\">✗</span> can do it and no grant allows it; \
         <span class=\"granted\">✓</span> granted; · needs no grant; empty: it cannot.</p>\n<div class=\"scroll\" tabindex=\"0\" \
         role=\"region\" aria-label=\"Workloads and capabilities\"><table id=\"matrix\">\n<thead><tr><th \
         scope=\"col\">Workload</th><th scope=\"col\">Pods</th><th scope=\"col\">Outcome</th>",
    );
    for capability in &used {
        let _ = write!(out, "<th scope=\"col\" class=\"can\"><span>{}</span></th>", capability.as_str());
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (index, (workload, covers)) in rows.iter().enumerate() {
        out.push_str(&row((*workload, covers), &used, index, until));
    }
    out.push_str("</tbody></table></div>\n");
    out
}

fn row(
    (workload, covers): (&Workload, &BTreeMap<Capability, Cell<'_>>),
    used: &BTreeSet<Capability>,
    index: usize,
    until: &Until<'_>,
) -> String {
    let outcome = word(workload.outcome);
    let mut out = format!(
        "<tr data-outcome=\"{outcome}\" data-find=\"{}\"><th scope=\"row\"><a href=\"#w{index}\">{}</a></th><td>{}</td><td \
         class=\"{outcome}\">{outcome}</td>",
        found_by(workload),
        escaped(&workload.full_name()),
        workload.pods
    );
    for capability in used {
        match covers.get(capability) {
            Some(cell) => {
                let (class, sign, _) = cell.cover.shown();
                let title = escaped(&cell.title(*capability, &workload.namespace, until));
                let _ = write!(
                    out,
                    "<td class=\"can {class}\"><span role=\"img\" aria-label=\"{title}\" title=\"{title}\">{sign}</span></td>"
                );
            }
            None => out.push_str("<td class=\"can\"></td>"),
        }
    }
    out.push_str("</tr>\n");
    out
}

/// What the filter compares: name, images, capabilities and rules, in lower case.
fn found_by(workload: &Workload) -> String {
    let mut words = BTreeSet::new();
    for judged in &workload.judged {
        for program in &judged.spec.containers {
            words.insert(program.image.as_str());
            words.extend(program.effective.iter().map(|entry| entry.capability.as_str()));
        }
        words.extend(judged.spec.violations.iter().map(|violation| violation.violation.rule.as_str()));
    }
    let words = words.into_iter().collect::<Vec<_>>().join(" ");
    escaped(&format!("{} {words}", workload.full_name()).to_lowercase())
}
