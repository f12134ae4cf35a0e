//! `wasmgate explain`: shows what would happen to manifests.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::args::{ExplainOptions, OutputFormat};
use super::manifest::Manifest;
use super::report::{ExplainOutcome, ObjectReport};
use super::{Error, Exit, build, inspect, print, rehearse, render, suggest};
use crate::admission::State;
use crate::lookup::Inspector;
use crate::text;

/// Explains every object of the files. The exit code is 2 if an object could not be read or judged; else 1 if one would be
/// denied; else 3 if an image could not be read or recognised, since its verdict is not known.
pub async fn run(options: Box<ExplainOptions>) -> Result<Exit, Error> {
    let settings = build::settings(&options.gate)?;
    let manifests = rehearse::manifests(&options.files)?;
    let state = build::state(&settings).await?;
    let inspector = build::inspector(&settings)?;
    let templates = manifests.iter().flat_map(|manifest| rehearse::templates(&state, manifest));
    let manifests: Vec<Manifest> = templates.map(|(_, manifest)| manifest).collect();
    let mut reports = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        progress(index, manifests.len(), manifest);
        reports.push(explain(&state, &inspector, manifest, &options).await?);
    }
    clear_progress();
    write(&reports, options.output)?;
    complain(&manifests, &reports);
    Ok(exit(&reports))
}

fn exit(reports: &[ObjectReport]) -> Exit {
    let any = |outcomes: &[ExplainOutcome]| reports.iter().any(|report| outcomes.contains(&report.outcome));
    if reports.iter().any(|report| report.error.is_some()) {
        Exit::Unreadable
    } else if any(&[ExplainOutcome::Denied]) {
        Exit::Denied
    } else if any(&[ExplainOutcome::Unread, ExplainOutcome::Unrecognised]) {
        Exit::Unread
    } else {
        Exit::Success
    }
}

/// Names the objects that could not be read on standard error, for users who redirect the output.
fn complain(manifests: &[Manifest], reports: &[ObjectReport]) {
    for (manifest, report) in manifests.iter().zip(reports) {
        if let Some(error) = &report.error {
            let line = format!("could not explain {}: {error}", manifest.described());
            anstream::eprintln!("wasmgate: {}", text::line(&line));
        }
    }
}

async fn explain(
    state: &State,
    inspector: &Inspector,
    manifest: &Manifest,
    options: &ExplainOptions,
) -> Result<ObjectReport, Error> {
    let namespace = manifest.namespace_or(&options.namespace);
    let budget = Duration::from_secs(options.timeout);
    let rehearsal =
        rehearse::rehearsal(state, inspector, manifest, namespace, budget, options.show_input).await?;
    let grants = suggest::grants(state, &rehearsal.validate.ending);
    Ok(ObjectReport::of(manifest, namespace, &rehearsal, &grants))
}

/// Shows progress on the terminal while registries are asked; prints nothing into a pipe.
fn progress(index: usize, total: usize, manifest: &Manifest) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[Klooking at {} of {total}: {}", index + 1, text::line(&manifest.described()));
    }
}

fn clear_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

fn write(reports: &[ObjectReport], output: OutputFormat) -> Result<(), Error> {
    match output {
        OutputFormat::Text => {
            let width = inspect::terminal_width();
            let texts: Vec<_> = reports.iter().map(|r| render::report(r, width)).collect();
            let summary =
                if reports.len() > 1 { format!("\n{}", render::summary(reports)) } else { String::new() };
            let text = format!("{}{summary}", texts.join("\n"));
            print(text.as_bytes())
        }
        other => print(&inspect::formatted(&serde_json::json!({ "objects": reports }), other)?),
    }
}
