//! `wasmgate explain`: shows what would happen to manifests, what the webhooks answer to reviews, and what recorded decisions would be
//! now.

mod record;
mod subject;

use std::io::IsTerminal as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use record::{RecordOutcome, RecordReport};
use subject::Subject;

use super::args::{ExplainOptions, OutputFormat};
use super::manifest::Manifest;
use super::report::{
    Answers, BundleWarning, ExplainOutcome, JudgedFacts, Kept, ObjectReport, bundle_warnings,
};
use super::{Error, Exit, build, inspect, print, rehearse, render, replay, shown, suggest, warn};
use crate::admission::replay::ReplayTerms;
use crate::admission::{Asked, Rehearsal, State, rehearse_review};
use crate::judge::PolicyInput;
use crate::lookup::Inspector;
use crate::review::Review;
use crate::text;

/// What is said of one document.
enum Report {
    Object(Box<ObjectReport>),
    Record(Box<RecordReport>),
}

/// Explains every document of the files. The exit code is 2 if one could not be read or judged; else 1 if an object would be
/// denied; else 3 if its verdict is not known, since an image could not be read or recognised, or a record is masked.
pub async fn run(options: Box<ExplainOptions>) -> Result<Exit, Error> {
    let settings = build::settings(&options.gate)?;
    let subjects = subject::read(&options.files)?;
    let state = build::state(&settings).await?;
    let inspector = build::inspector(&settings)?;
    // What recorded decisions would be now.
    let terms = ReplayTerms {
        exceptions: replay::exceptions(&settings),
        now: Some(Timestamp::now()),
        takes_options: options.gate.images.config.is_some(),
    };
    let subjects: Vec<Subject> = subjects.into_iter().flat_map(|one| templates(&state, one)).collect();
    let (mut reports, total) = (Vec::new(), subjects.len());
    for (index, subject) in subjects.into_iter().enumerate() {
        progress(index, total, &subject);
        reports.push(Box::pin(explain((&state, terms), &inspector, subject, &options)).await?);
    }
    clear_progress();
    write(&reports, &bundle_warnings(&state), options.output)?;
    for report in &reports {
        complain(report);
    }
    Ok(exit(&reports))
}

/// A manifest and its further templates; any other document as it is.
fn templates(state: &State, subject: Subject) -> Vec<Subject> {
    match subject {
        Subject::Manifest(manifest) => {
            let all = rehearse::templates(state, &manifest).into_iter();
            all.map(|(_, manifest)| Subject::Manifest(manifest)).collect()
        }
        other => vec![other],
    }
}

fn exit(reports: &[Report]) -> Exit {
    let any = |is: fn(&Report) -> bool| reports.iter().any(is);
    if any(|report| report.failure().is_some()) {
        Exit::Unreadable
    } else if any(Report::is_denied) {
        Exit::Denied
    } else if any(Report::is_open) {
        Exit::Unread
    } else {
        Exit::Success
    }
}

impl Report {
    /// Why the document could not be judged, as a sentence.
    fn failure(&self) -> Option<String> {
        match self {
            Self::Object(report) => {
                let error = report.error.as_ref()?;
                let ObjectReport { kind, name, origin, .. } = &**report;
                Some(format!("could not explain {kind} `{name}` ({origin}): {error}"))
            }
            Self::Record(report) => report.failure(),
        }
    }

    fn is_denied(&self) -> bool {
        match self {
            Self::Object(report) => report.outcome == ExplainOutcome::Denied,
            Self::Record(report) => report.outcome == RecordOutcome::Denied,
        }
    }

    /// Whether another verdict is possible.
    fn is_open(&self) -> bool {
        match self {
            Self::Object(report) => {
                matches!(
                    report.outcome,
                    ExplainOutcome::Unread | ExplainOutcome::Unrecognised | ExplainOutcome::NoTemplate
                )
            }
            Self::Record(report) => report.is_open(),
        }
    }
}

/// Names a document that could not be judged on standard error, for users who redirect the output.
fn complain(report: &Report) {
    if let Some(failure) = report.failure() {
        warn(&text::line(&failure));
    }
}

async fn explain(
    (state, terms): (&State, ReplayTerms),
    inspector: &Inspector,
    subject: Subject,
    options: &ExplainOptions,
) -> Result<Report, Error> {
    match subject {
        Subject::Manifest(manifest) => {
            let namespace = manifest.namespace_or(&options.namespace);
            let (budget, whole) = (Duration::from_secs(options.timeout), options.show_input);
            let rehearsal =
                rehearse::rehearsal(state, inspector, &manifest, namespace, budget, whole).await?;
            Ok(Report::Object(report(state, &manifest, namespace, &rehearsal).into()))
        }
        Subject::Review(origin, review) => {
            let answered = Box::pin(answered(state, inspector, origin, *review, options));
            answered.await.map(|r| Report::Object(r.into()))
        }
        Subject::Record(origin, record) => {
            Ok(Report::Record(RecordReport::of(state, terms, &origin, &record).await.into()))
        }
    }
}

fn report(
    state: &State,
    manifest: &Manifest,
    namespace: &str,
    rehearsal: &Rehearsal<JudgedFacts>,
) -> ObjectReport {
    let grants = suggest::grants(state, &rehearsal.validate.ending);
    ObjectReport::of(manifest, namespace, rehearsal, &grants)
}

/// The answers of the webhooks to a review.
async fn answered(
    state: &State,
    inspector: &Inspector,
    origin: String,
    review: Review,
    options: &ExplainOptions,
) -> Result<ObjectReport, Error> {
    let (manifest, namespace) = (reviewed(origin, &review), review.namespace.clone());
    let asked = if options.validate_only { Asked::Validate } else { Asked::Both };
    let budget = Duration::from_secs(options.timeout);
    let keep = |input: &PolicyInput<'_>| JudgedFacts::of(input, Kept::input(options.show_input));
    let rehearsal = rehearse_review(state, inspector, review, (asked, budget), keep).await;
    let rehearsal = rehearsal.map_err(|source| Error::Explain { object: manifest.described(), source })?;
    let answers = Some(Answers::of(&rehearsal));
    Ok(ObjectReport { answers, ..report(state, &manifest, &namespace, &rehearsal) })
}

/// The object of a review, to name it; on DELETE the old one.
fn reviewed(origin: String, review: &Review) -> Manifest {
    let raw = review.object.as_deref().or(review.old_object.as_deref());
    let read = raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let object = read.filter(|object| object.get("kind").is_some());
    let named = || json!({"kind": review.kind.kind, "metadata": {"name": review.name}});
    Manifest { origin, object: object.unwrap_or_else(named) }
}

/// Shows progress on the terminal while registries are asked; prints nothing into a pipe.
fn progress(index: usize, total: usize, subject: &Subject) {
    if std::io::stderr().is_terminal() {
        let what = match subject {
            Subject::Manifest(manifest) => manifest.described(),
            Subject::Review(origin, _) | Subject::Record(origin, _) => origin.clone(),
        };
        eprint!("\r\x1b[Klooking at {} of {total}: {}", index + 1, text::line(&what));
    }
}

fn clear_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

fn write(reports: &[Report], warnings: &[BundleWarning], output: OutputFormat) -> Result<(), Error> {
    let objects: Vec<&ObjectReport> = reports
        .iter()
        .filter_map(|report| match report {
            Report::Object(report) => Some(&**report),
            Report::Record(_) => None,
        })
        .collect();
    match output {
        OutputFormat::Text => {
            let width = inspect::terminal_width();
            let texts: Vec<_> = reports
                .iter()
                .map(|report| match report {
                    Report::Object(report) => render::report(report, width),
                    Report::Record(report) => report.text(width),
                })
                .collect();
            let summary =
                if objects.len() > 1 { format!("\n{}", render::summary(&objects)) } else { String::new() };
            let warnings = render::bundle_warnings(warnings);
            let text = format!("{}{summary}{warnings}", texts.join("\n"));
            print(&shown(&text))
        }
        other => print(&inspect::reported("ExplainReport", document(reports, &objects, warnings), other)?),
    }
}

/// For scripts. `decisions` is there if a record was given, and `bundleWarnings` if there are any.
fn document(reports: &[Report], objects: &[&ObjectReport], warnings: &[BundleWarning]) -> Value {
    let mut document = json!({ "objects": objects });
    let decisions = reports.iter().filter_map(|report| match report {
        Report::Record(report) => Some(json!(report)),
        Report::Object(_) => None,
    });
    let decisions: Vec<Value> = decisions.collect();
    if let (false, Some(fields)) = (decisions.is_empty(), document.as_object_mut()) {
        fields.insert("decisions".into(), decisions.into());
    }
    if let (false, Some(fields)) = (warnings.is_empty(), document.as_object_mut()) {
        fields.insert("bundleWarnings".into(), json!(warnings));
    }
    document
}
