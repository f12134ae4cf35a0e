//! `JUnit` XML, as CI servers read it: a suite for each namespace and a test case for each workload. Pure.
//! Source: the schema of Jenkins (`jenkinsci/xunit-plugin:src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd`).

use std::collections::BTreeMap;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use crate::cli::Error;
use crate::cli::report::ExplainOutcome;
use crate::judge::JudgedViolation;
use crate::policy::EnforcementAction;
use crate::scan::model::{ManifestPlace, Scan, Workload, is_open};
use crate::text;

/// Suite of what has no namespace: files and kinds that could not be read.
const NOT_JUDGED: &str = "not judged";

/// How a test case ended.
enum Ended {
    Passed(String),
    Failed { message: String, text: String },
    Unknown { message: String, text: String },
    Skipped(&'static str),
}

struct Case {
    suite: String,
    name: String,
    place: Option<ManifestPlace>,
    ended: Ended,
}

/// The report; an XML document in UTF-8.
pub fn report(scan: &Scan, all: bool) -> Result<Vec<u8>, Error> {
    let mut suites: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    let workloads = scan.shown(all).into_iter().map(case);
    let others = scan.not_judged.iter().map(|one| Case {
        suite: NOT_JUDGED.to_owned(),
        name: one.what.clone(),
        place: Some(one.place.clone()),
        ended: Ended::Unknown { message: first_line(&one.reason), text: one.reason.clone() },
    });
    for case in workloads.chain(others) {
        suites.entry(case.suite.clone()).or_default().push(case);
    }
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    written(&mut writer, &suites).map_err(|error| Error::Format(error.to_string()))?;
    let mut bytes = writer.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

fn case(workload: &Workload) -> Case {
    let findings = workload.findings();
    let said = |action: EnforcementAction| {
        let own = findings.iter().filter(|finding| finding.judged.action == action);
        own.map(|finding| told(finding.judged)).collect::<Vec<_>>()
    };
    let denials = said(EnforcementAction::Deny);
    let ended = match workload.outcome {
        ExplainOutcome::Denied => {
            let rules: std::collections::BTreeSet<&str> = findings
                .iter()
                .filter(|finding| finding.judged.action == EnforcementAction::Deny)
                .map(|finding| finding.judged.violation.rule.as_str())
                .collect();
            let message = rules.into_iter().collect::<Vec<_>>().join(", ");
            Ended::Failed { message, text: denials.join("\n") }
        }
        outcome if is_open(outcome) => {
            let text = workload.reasons().join("\n");
            Ended::Unknown { message: first_line(&text), text }
        }
        ExplainOutcome::NotWasm => Ended::Skipped("no Wasm"),
        ExplainOutcome::Exempt => Ended::Skipped("exempt namespace"),
        ExplainOutcome::Skipped => Ended::Skipped("left alone"),
        _ => {
            Ended::Passed([said(EnforcementAction::Warn), said(EnforcementAction::Audit)].concat().join("\n"))
        }
    };
    Case {
        suite: workload.namespace.clone(),
        name: workload.title(),
        place: workload.place().cloned(),
        ended,
    }
}

fn told(judged: &JudgedViolation) -> String {
    format!("[{}] {}", judged.violation.rule, text::hanging(&judged.violation.said()))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

type Written = std::io::Result<()>;

fn written(writer: &mut Writer<Vec<u8>>, suites: &BTreeMap<String, Vec<Case>>) -> Written {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all: Vec<&Case> = suites.values().flatten().collect();
    writer.write_event(Event::Start(counted("testsuites", "wasmgate scan", &all)))?;
    for (name, cases) in suites {
        writer.write_event(Event::Start(counted("testsuite", name, &cases.iter().collect::<Vec<_>>())))?;
        for case in cases {
            test_case(writer, case)?;
        }
        writer.write_event(Event::End(BytesEnd::new("testsuite")))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testsuites")))
}

fn counted(element: &'static str, name: &str, cases: &[&Case]) -> BytesStart<'static> {
    let count = |is: fn(&Ended) -> bool| cases.iter().filter(|case| is(&case.ended)).count().to_string();
    let mut start = BytesStart::new(element);
    start.push_attribute(("name", text::visible(name).as_ref()));
    start.push_attribute(("tests", cases.len().to_string().as_str()));
    start.push_attribute(("failures", count(|ended| matches!(ended, Ended::Failed { .. })).as_str()));
    start.push_attribute(("errors", count(|ended| matches!(ended, Ended::Unknown { .. })).as_str()));
    if element == "testsuite" {
        start.push_attribute(("skipped", count(|ended| matches!(ended, Ended::Skipped(_))).as_str()));
    }
    start.push_attribute(("time", "0"));
    start
}

fn test_case(writer: &mut Writer<Vec<u8>>, case: &Case) -> Written {
    let mut start = BytesStart::new("testcase");
    start.push_attribute(("name", text::visible(&case.name).as_ref()));
    start.push_attribute(("classname", format!("wasmgate.{}", text::visible(&case.suite)).as_str()));
    start.push_attribute(("time", "0"));
    writer.write_event(Event::Start(start))?;
    // The schema has no attribute for it at a test case.
    let place = match &case.place {
        Some(ManifestPlace { file: Some(file), line, .. }) => format!("{}:{line}\n", text::visible(file)),
        _ => String::new(),
    };
    match &case.ended {
        Ended::Failed { message, text } => problem(writer, "failure", message, &(place + text))?,
        Ended::Unknown { message, text } => problem(writer, "error", message, &(place + text))?,
        Ended::Skipped(why) => {
            let mut skipped = BytesStart::new("skipped");
            skipped.push_attribute(("message", *why));
            writer.write_event(Event::Empty(skipped))?;
        }
        Ended::Passed(said) if said.is_empty() => {}
        Ended::Passed(said) => {
            writer.write_event(Event::Start(BytesStart::new("system-out")))?;
            writer.write_event(Event::Text(BytesText::new(&text::lines(said))))?;
            writer.write_event(Event::End(BytesEnd::new("system-out")))?;
        }
    }
    writer.write_event(Event::End(BytesEnd::new("testcase")))
}

fn problem(writer: &mut Writer<Vec<u8>>, element: &'static str, message: &str, text: &str) -> Written {
    let mut start = BytesStart::new(element);
    start.push_attribute(("message", text::line(message).as_ref()));
    start.push_attribute(("type", if element == "failure" { "denied" } else { "not-judged" }));
    writer.write_event(Event::Start(start))?;
    writer.write_event(Event::Text(BytesText::new(&text::lines(text))))?;
    writer.write_event(Event::End(BytesEnd::new(element)))
}
