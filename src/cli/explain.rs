//! `wasmgate explain`: what would happen to manifests.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::args::{ExplainOptions, OutputFormat};
use super::manifest::{self, Manifest};
use super::report::{ExplainOutcome, ObjectReport};
use super::{Error, Exit, build, inspect, print, render, suggest};
use crate::admission::{State, examine};
use crate::judge::RequestFacts;
use crate::judge::input::UserFacts;
use crate::lookup::Inspector;
use crate::workload::Kind;

/// Explains every object of the files. Denied objects make the exit code 1; without one, images that could not be read
/// make it 3: the answer for these is not known.
pub async fn run(options: Box<ExplainOptions>) -> Result<Exit, Error> {
    let settings = build::settings(&options.gate)?;
    let manifests = manifest::read(&options.files)?;
    if manifests.is_empty() {
        let paths: Vec<_> = options.files.iter().map(|p| format!("`{}`", p.display())).collect();
        return Err(Error::NothingToExplain(paths.join(", ")));
    }
    let state = build::state(&settings).await?;
    let inspector = build::inspector(&settings)?;
    let mut reports = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        progress(index, manifests.len(), manifest);
        reports.push(explain(&state, &inspector, manifest, &options).await?);
    }
    clear_progress();
    write(&reports, options.output)?;
    let any = |outcome| reports.iter().any(|r| r.outcome == outcome);
    Ok(match (any(ExplainOutcome::Denied), any(ExplainOutcome::Unread)) {
        (true, _) => Exit::Denied,
        (false, true) => Exit::Unread,
        (false, false) => Exit::Success,
    })
}

async fn explain(
    state: &State,
    inspector: &Inspector,
    manifest: &Manifest,
    options: &ExplainOptions,
) -> Result<ObjectReport, Error> {
    let gvk = manifest.kind();
    let namespace = match manifest.text("/metadata/namespace") {
        "" => options.namespace.as_str(),
        own => own,
    };
    let Some(kind) = Kind::of(&gvk) else {
        return Ok(ObjectReport::not_a_workload(manifest, namespace));
    };
    if state.exempt_namespaces.contains(namespace) {
        return Ok(ObjectReport::exempt(manifest, namespace));
    }
    let request = RequestFacts {
        uid: "",
        operation: "CREATE",
        kind: &gvk,
        sub_resource: "",
        namespace,
        name: manifest.text("/metadata/name"),
        user: UserFacts::default(),
        dry_run: true,
    };
    let budget = Duration::from_secs(options.timeout);
    let failed = |source| Error::Explain { object: described(manifest), source };
    let examination =
        examine::examine(state, inspector, &request, &manifest.object, kind, budget).await.map_err(failed)?;
    let input = examine::input(state, &request, &examination).map_err(failed)?;
    let open = examine::open(state, &request, &examination).map_err(failed)?;
    let grants = suggest::grants(state, &examination, open);
    let report =
        ObjectReport::of(manifest, examination, &input, &grants).map_err(|e| Error::Format(e.to_string()))?;
    Ok(ObjectReport { input: (options.show_input && report.judged).then_some(input), ..report })
}

fn described(manifest: &Manifest) -> String {
    format!("{} `{}` ({})", manifest.kind().kind, manifest.text("/metadata/name"), manifest.origin)
}

/// A line on the terminal while registries are asked; nothing in a pipe.
fn progress(index: usize, total: usize, manifest: &Manifest) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[Klooking at {} of {total}: {}", index + 1, render::safe(&described(manifest)));
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
