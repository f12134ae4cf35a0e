//! The objects of files, folders and standard input.

use std::path::{Path, PathBuf};

use super::place;
use crate::cli::Error;
use crate::cli::manifest::{self, Manifest, Objects, Placed};
use crate::scan::collect::{Collector, FoundObject};
use crate::scan::model::ManifestPlace;

/// What documents without a `kind` are counted as.
const NO_OBJECT: &str = "documents without a kind";

/// Gives every object of the files to the collector, a file at a time. A file that was named must be readable; what cannot
/// be read of a folder, or be parsed, is noted. Returns how many documents there were.
pub async fn read(paths: &[PathBuf], collector: &mut Collector) -> Result<usize, Error> {
    let mut documents = 0;
    for file in manifest::files_of(paths)? {
        match manifest::placed(&file, paths) {
            Ok(placed) => {
                documents += placed.documents.len();
                let found = found(&file, placed, collector);
                collector.take(found).await;
            }
            Err(error) if paths.contains(&file) => return Err(error),
            Err(error) => {
                documents += 1;
                note(collector, &error, ManifestPlace { line: 1, ..nowhere(&file) });
            }
        }
    }
    Ok(documents)
}

fn nowhere(file: &Path) -> ManifestPlace {
    let named = file != Path::new("-");
    ManifestPlace { file: named.then(|| file.display().to_string()), ..ManifestPlace::default() }
}

/// The objects of a file with their places. What is no object is counted or noted.
fn found(file: &Path, placed: Placed, collector: &mut Collector) -> Vec<FoundObject> {
    let lines: Vec<&str> = placed.text.lines().collect();
    let mut begins: Vec<usize> = placed.documents.iter().map(|(line, _)| *line).skip(1).collect();
    begins.push(lines.len().saturating_add(1));
    let mut found = Vec::new();
    for ((begin, document), end) in placed.documents.into_iter().zip(begins) {
        match document {
            Ok(Objects { manifests, wrong_items, more_wrong_items }) => {
                for error in wrong_items {
                    note(collector, &error, ManifestPlace { line: begin, ..nowhere(file) });
                }
                collector.pass_over(more_wrong_items);
                let name = nowhere(file).file;
                let template = place::template(&lines, begin, Path::new("."));
                found.extend(manifests.into_iter().map(|manifest| {
                    let place = place::of(name.as_deref(), &lines, begin, end, &manifest.object);
                    object(manifest, ManifestPlace { template: template.clone(), ..place })
                }));
            }
            Err(Error::NoKind { containers: None, .. }) => collector.count_other(NO_OBJECT),
            Err(error) => {
                let place = ManifestPlace { line: begin, ..nowhere(file) };
                note(collector, &hinted(error, &placed.text), place);
            }
        }
    }
    found
}

fn object(manifest: Manifest, place: ManifestPlace) -> FoundObject {
    let (kind, name) = (manifest.kind(), manifest.name().to_owned());
    FoundObject { object: manifest.object, kind, name, place }
}

/// The error, with what to do about the source of a chart.
fn hinted(error: Error, text: &str) -> Error {
    match error {
        Error::ReadManifest { path, message } if text.contains("{{") => {
            let message = format!(
                "{message}; this looks like the source of a chart: scan the output of `helm template`"
            );
            Error::ReadManifest { path, message }
        }
        other => other,
    }
}

fn note(collector: &mut Collector, error: &Error, place: ManifestPlace) {
    let (what, reason) = match error {
        Error::ReadManifest { path, message } => (path.clone(), message.clone()),
        Error::NoKind { path, containers: Some(at) } => {
            (path.clone(), format!("it has no `kind`, and there are containers at `{at}`"))
        }
        Error::NoKind { path, containers: None } => {
            (path.clone(), "it is no Kubernetes object: it has no `kind`".into())
        }
        other => (String::from("a file"), other.to_string()),
    };
    collector.note(what, reason, place);
}
