//! The parts of the page below the matrix. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use crate::capability::Entry;
use crate::judge::JudgedViolation;
use crate::policy::EnforcementAction;
use crate::scan::model::{GrantUse, Judged, Scan, ScannedProgram, What, Workload, word};
use crate::text;

/// What `coveredBy` has for capabilities that need no grant.
pub const DEFAULT: &str = "default";

/// A grant that ends within this time ends soon.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Foreign text as the text of an element or the value of an attribute, on one line.
pub fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text::visible(text)).into_owned()
}

/// The same for text of several lines.
pub fn escaped_lines(text: &str) -> String {
    quick_xml::escape::escape(text::lines(text)).into_owned()
}

/// When grants end, by label and namespace; the namespace is empty for a `ClusterWasiGrant`, whose label no `WasiGrant` has.
pub struct Until<'a>(BTreeMap<&'a str, BTreeMap<&'a str, Timestamp>>);

impl<'a> Until<'a> {
    pub fn new(scan: &'a Scan) -> Self {
        let mut ends: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for grant in &scan.grants {
            let namespace = grant.namespace.as_deref().unwrap_or_default();
            let of = ends.entry(grant.grant.as_str()).or_default();
            of.extend(grant.expires_at.map(|end| (namespace, end)));
        }
        Self(ends)
    }

    fn of(&self, namespace: &str, label: &str) -> Option<Timestamp> {
        let ends = self.0.get(label)?;
        ends.get(namespace).or_else(|| ends.get("")).copied()
    }

    /// A grant by its label, with its end if it has one.
    pub fn said(&self, namespace: &str, label: &str) -> String {
        match self.of(namespace, label) {
            Some(end) => format!("{label} until {end}"),
            None => label.to_owned(),
        }
    }
}

/// A workload, folded.
pub fn details(workload: &Workload, index: usize, open: bool, find: &str, until: &Until<'_>) -> String {
    let outcome = word(workload.outcome);
    let open = if open { " open=\"open\"" } else { "" };
    let mut out = format!(
        "<details data-outcome=\"{outcome}\" data-find=\"{find}\"{open}><summary>{} <span \
         class=\"{outcome}\">{outcome}</span></summary>\n",
        escaped(&workload.full_name())
    );
    for (part, judged) in workload.judged.iter().enumerate() {
        let id = if part == 0 { format!(" id=\"w{index}\"") } else { String::new() };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "<h3{id}>{}</h3>", escaped(&heading(judged)));
        out.push_str(&spec(judged, &workload.namespace, until));
    }
    out.push_str("</details>\n");
    out
}

fn heading(judged: &Judged) -> String {
    let what = match (judged.what, judged.pods) {
        (What::Template, _) => "The pods of its template".to_owned(),
        (What::Pods, 1) => format!("Pod {}", judged.example),
        (What::Pods, pods) => format!("{pods} pods, such as {}", judged.example),
    };
    format!("{what}: {}", word(judged.spec.outcome))
}

fn spec(judged: &Judged, namespace: &str, until: &Until<'_>) -> String {
    let spec = &judged.spec;
    let mut out = String::new();
    if let Some(reason) = &spec.reason {
        let _ = writeln!(out, "<p>{}</p>", escaped(reason));
    }
    if !spec.violations.is_empty() {
        let items: String = spec.violations.iter().map(violation).collect();
        let _ = write!(out, "<ul>\n{items}</ul>\n");
    }
    for warning in &spec.warnings {
        let _ = writeln!(out, "<p class=\"warned\">{}</p>", escaped(warning));
    }
    out.push_str(&programs(&spec.containers, namespace, until));
    if let Some(grant) = &spec.suggested_grant {
        let _ = write!(
            out,
            "<p>This grant would cover what no grant covers:</p>\n<pre tabindex=\"0\">{}</pre>\n",
            escaped_lines(grant)
        );
    }
    out
}

fn violation(judged: &JudgedViolation) -> String {
    let class = match judged.action {
        EnforcementAction::Deny => "denied",
        EnforcementAction::Warn => "warned",
        EnforcementAction::Audit => "dim",
    };
    let exempted = judged.exempted.as_ref().map(|exemption| {
        let why = format!(
            "excepted by WasiException {} until {}: {}",
            exemption.exception, exemption.expires_at, exemption.reason
        );
        format!("<br/><span class=\"dim\">{}</span>", escaped(&why))
    });
    format!(
        "<li><span class=\"{class}\">{} [{}]</span> <span class=\"message\">{}</span>{}</li>\n",
        judged.action.as_str(),
        escaped(&judged.violation.rule),
        escaped_lines(&text::hanging(&judged.violation.said())),
        exempted.unwrap_or_default()
    )
}

/// A table of the containers and of what each can do.
fn programs(programs: &[ScannedProgram], namespace: &str, until: &Until<'_>) -> String {
    let mut out = String::new();
    for program in programs {
        let kind = program.kind.map_or_else(|| program.class.as_str(), crate::image::ImageKind::as_str);
        let _ = writeln!(
            out,
            "<p><strong>{}</strong> <code>{}</code> <span class=\"dim\">{kind}</span></p>",
            escaped(&program.name),
            escaped(&program.image)
        );
        if let Some(reason) = &program.reason {
            let _ = writeln!(out, "<p class=\"unread\">{}</p>", escaped(reason));
        }
        if program.effective.is_empty() {
            continue;
        }
        out.push_str(
            "<table><thead><tr><th scope=\"col\">Can</th><th scope=\"col\">Why</th><th scope=\"col\">Granted \
             by</th></tr></thead><tbody>\n",
        );
        // What every program has is one line: it needs no decision.
        let (default, decided): (Vec<&Entry>, Vec<&Entry>) =
            program.effective.iter().partition(|entry| entry.covered_by.iter().any(|label| label == DEFAULT));
        let (open, covered): (Vec<&Entry>, Vec<&Entry>) =
            decided.into_iter().partition(|entry| entry.covered_by.is_empty());
        for entry in open.into_iter().chain(covered) {
            let by = granted(entry, namespace, until);
            out.push_str(&capability_row(&entry.label(), &entry.evidence.join("; "), &by));
        }
        if !default.is_empty() {
            let all: Vec<String> = default.into_iter().map(Entry::label).collect();
            let by = "<td class=\"dim\">needs no grant</td>";
            out.push_str(&capability_row(
                &all.join(", "),
                "the image's own, or given to every container",
                by,
            ));
        }
        out.push_str("</tbody></table>\n");
    }
    out
}

fn capability_row(can: &str, why: &str, by: &str) -> String {
    format!("<tr><th scope=\"row\">{}</th><td>{}</td>{by}</tr>\n", escaped(can), escaped(why))
}

fn granted(entry: &Entry, namespace: &str, until: &Until<'_>) -> String {
    if entry.covered_by.is_empty() {
        return "<td class=\"none\">no grant</td>".to_owned();
    }
    let by: Vec<String> = entry.covered_by.iter().map(|label| until.said(namespace, label)).collect();
    format!("<td class=\"granted\">{}</td>", escaped(&by.join(", ")))
}

/// What could not be judged; nothing where everything could.
pub fn not_judged(scan: &Scan) -> String {
    if scan.not_judged.is_empty() {
        return String::new();
    }
    let item = |what: &str, reason: &str| {
        format!("<li><strong>{}</strong>: {}</li>\n", escaped(what), escaped(reason))
    };
    let items: String = scan.not_judged.iter().map(|one| item(&one.what, &one.reason)).collect();
    format!("<h2>Not judged</h2>\n<ul>\n{items}</ul>\n")
}

/// The grants with their ends and their use. Those that someone has to look at come first.
pub fn grants(scan: &Scan, now: Timestamp) -> String {
    if scan.grants.is_empty() {
        return String::new();
    }
    let mut grants: Vec<(Attention, &GrantUse)> =
        scan.grants.iter().map(|grant| (Attention::of(grant, now), grant)).collect();
    // Stable: the others stay as they are. What ends first comes first.
    grants.sort_by_key(|(attention, grant)| {
        (*attention, grant.expires_at.filter(|_| *attention == Attention::Ends))
    });
    let count = |of: Attention| grants.iter().filter(|(attention, _)| *attention == of).count();
    let unused = grants.iter().filter(|(_, grant)| grant.workloads == Some(0)).count();
    let mut out = format!(
        "<h2>Grants</h2>\n<p class=\"dim\">{} in all; {} ended or end within 30 days; {unused} that no workload uses.</p>\n\
         <table><thead><tr><th scope=\"col\">Grant</th><th scope=\"col\">Namespace</th><th scope=\"col\">Ends</th><th \
         scope=\"col\">Workloads that use it</th></tr></thead><tbody>\n",
        grants.len(),
        count(Attention::Ends)
    );
    for (_, grant) in grants {
        out.push_str(&grant_row(grant, now));
    }
    out.push_str("</tbody></table>\n");
    out
}

/// Why someone has to look at a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Attention {
    /// It has ended, or ends soon.
    Ends,
    /// No workload uses it.
    Unused,
    /// There is no reason.
    None,
}

impl Attention {
    fn of(grant: &GrantUse, now: Timestamp) -> Self {
        match (grant.expires_at, grant.workloads) {
            (Some(end), _) if end.duration_since(now) <= SOON => Self::Ends,
            (_, Some(0)) => Self::Unused,
            _ => Self::None,
        }
    }
}

fn grant_row(grant: &GrantUse, now: Timestamp) -> String {
    let ends = grant.expires_at.map_or_else(|| "<td>never</td>".to_owned(), |end| ends(end, now));
    let used = match grant.workloads {
        Some(0) => "<td class=\"soon\">none</td>".to_owned(),
        Some(count) => format!("<td>{count}</td>"),
        None => "<td>not known: not all workloads were judged</td>".to_owned(),
    };
    let namespace = grant.namespace.as_deref().unwrap_or("all that it selects");
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td>{ends}{used}</tr>\n",
        escaped(&grant.grant),
        escaped(namespace)
    )
}

fn ends(end: Timestamp, now: Timestamp) -> String {
    let left = end.duration_since(now);
    let (class, note) = match left {
        left if left <= SignedDuration::ZERO => ("none", " (ended)"),
        left if left <= SOON => ("soon", " (soon)"),
        _ => ("", ""),
    };
    format!("<td class=\"{class}\">{end}{note}</td>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_that_end_or_that_no_workload_uses_come_first_and_are_counted() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let grant = |name: &str, days: Option<i64>, workloads: Option<usize>| GrantUse {
            grant: name.to_owned(),
            namespace: None,
            expires_at: days.map(|days| now + SignedDuration::from_hours(24 * days)),
            workloads,
        };
        let scan = Scan {
            grants: vec![
                grant("used", None, Some(2)),
                grant("unused", Some(31), Some(0)),
                grant("soon", Some(30), Some(0)),
                grant("not-known", Some(400), None),
                grant("ended", Some(-1), Some(1)),
            ],
            ..Scan::default()
        };
        let page = grants(&scan, now);
        let rows = page.split("<th scope=\"row\">").skip(1).map(|row| row.split('<').next().unwrap());
        assert_eq!(rows.collect::<Vec<_>>(), ["ended", "soon", "unused", "used", "not-known"], "{page}");
        assert!(page.contains("5 in all; 2 ended or end within 30 days; 2 that no workload uses."), "{page}");
        assert_eq!(grants(&Scan::default(), now), "");
    }
}
