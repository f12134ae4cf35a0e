//! `wasmgate check`: checks a configuration, grants and policies before they are rolled out. Reports the problems of all
//! fields and not only the first, each with its place and what to write instead.

mod document;
mod policies;
mod report;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use policies::Rules;
pub use report::{Problem, Report};
use report::{count_granted, of_grants};

use super::args::{CheckOptions, GateOptions};
use super::manifest::{self, Manifest};
use super::{Error, Exit, build, inspect, print};
use crate::config::{self, Settings};
use crate::grant::load::{self, Checked, Located, Places};
use crate::sources::BundleSource;
use crate::text;
use crate::workload::Kinds;
use crate::{certs, cluster};

/// Most documents that a message names.
const NAMED: usize = 5;

/// Checks everything that the options name. Exit code 1 means that there is a problem.
pub async fn run(options: Box<CheckOptions>) -> Result<Exit, Error> {
    let report = check(&options).await?;
    print(&inspect::written(&report, Some("CheckReport"), options.output, report::text)?)?;
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Invalid })
}

/// The problems of everything that the options name. An error means that a file could not be read at all, or that nothing
/// was checked.
pub async fn check(options: &CheckOptions) -> Result<Report, Error> {
    let mut report = Report::default();
    let files = manifest::read_strictly(&options.files)?;
    something_to_check(options, &files)?;
    let (settings, bundles_known) = settings(&options.gate, &mut report)?;
    let kinds = Kinds::new(&settings.file.workloads);
    let mut objects = grants(&settings, &mut report);
    if let Some(directory) = &settings.file.cluster {
        let cluster = report.take(&directory.display().to_string(), cluster::load_dir(directory));
        report.count("cluster directories", usize::from(cluster.is_some()));
    }
    let configuration = configuration(&options.gate);
    if let (Some(cert), Some(key)) = (&settings.file.server.cert_file, &settings.file.server.key_file) {
        report.take(&configuration, certs::check_readable(cert, key));
    }
    let rules = policies::check(&settings, &configuration, bundles_known, &mut report).await;
    report.take(&configuration, build::inspector(&settings));
    let mut places = Places::default();
    for read in files {
        // The error names its file.
        for manifest in report.take("", read).into_iter().flatten() {
            if let Some(object) = document::check(manifest, &kinds, &options.gate, &mut report) {
                report.problems.extend(places.add(&object).as_ref().map(of_grants));
                objects.push(object);
            }
        }
    }
    for object in &objects {
        granted(object, rules.as_ref(), Timestamp::now(), &mut report);
    }
    something_was_checked(options, &report)?;
    Ok(report)
}

/// Whether the paths that were named exist, and whether there is anything in them.
fn something_to_check(options: &CheckOptions, files: &[Result<Vec<Manifest>, Error>]) -> Result<(), Error> {
    for path in in_flags(&options.gate) {
        std::fs::metadata(&path).map_err(|error| Error::ReadManifest {
            path: text::visible(&path.display().to_string()).into_owned(),
            message: error.to_string(),
        })?;
    }
    let in_files = files.iter().any(|read| read.as_ref().map_or(true, |manifests| !manifests.is_empty()));
    if has_flags(&options.gate) || in_files {
        return Ok(());
    }
    let quoted = |path: &PathBuf| format!("`{}`", text::visible(&path.display().to_string()));
    let paths: Vec<_> = options.files.iter().map(quoted).collect();
    let place = if paths.is_empty() { String::new() } else { format!(" in {}", paths.join(", ")) };
    Err(Error::NothingToCheck(place))
}

/// Whether a flag names something to check.
fn has_flags(options: &GateOptions) -> bool {
    !options.bundles.is_empty() || in_flags(options).next().is_some()
}

/// The files and folders that flags name.
fn in_flags(options: &GateOptions) -> impl Iterator<Item = PathBuf> {
    let GateOptions { images, grants, cluster, bundles, .. } = options;
    let config = &images.config;
    let on_disk = |place: &String| BundleSource::of(place).origin().ok()?.path().map(Path::to_path_buf);
    let paths = config.iter().chain(grants).chain(cluster).cloned();
    paths.chain(bundles.iter().filter_map(on_disk).collect::<Vec<_>>())
}

/// Refuses files with documents of unknown kinds alone: "nothing is wrong" would be said of what was not checked.
fn something_was_checked(options: &CheckOptions, report: &Report) -> Result<(), Error> {
    let of_documents = ["configurations", "grants", "exceptions", "workloads"];
    let any = of_documents.iter().any(|what| report.checked.get(what).is_some_and(|many| *many > 0));
    let left = &report.not_checked;
    if any || left.is_empty() || !report.problems.is_empty() || has_flags(&options.gate) {
        return Ok(());
    }
    let shown: Vec<_> = left.iter().take(NAMED).map(|one| text::visible(one).into_owned()).collect();
    let more = match left.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Error::NothingChecked(format!("{}{more}", shown.join(", "))))
}

/// Name of the configuration in messages.
fn configuration(options: &GateOptions) -> String {
    let file = options.images.config.as_ref().map(|path| path.display().to_string());
    file.unwrap_or_else(|| "the embedded default and the flags".to_string())
}

/// The settings with which the other checks go on, even if fields are wrong, and whether the bundles that they name are
/// known.
fn settings(options: &GateOptions, report: &mut Report) -> Result<(Settings, bool), Error> {
    let origin = configuration(options);
    let before = report.problems.len();
    let (file, unparsed) = match &options.images.config {
        Some(path) => config::parse_in_part(&origin, &config::text_of(path)?),
        None => (Some(config::File::default()), Vec::new()),
    };
    let bundles_known = file.is_some() && !unparsed.iter().any(|error| error.is_about("policies"));
    // Grants and bundles that flags name are checked even when nothing of the file can be used.
    let (settings, wrong) = build::resolved_in_part(file.unwrap_or_default(), options);
    for error in unparsed.iter().chain(&wrong) {
        report.configuration(&origin, error);
    }
    let is_right = report.problems.len() == before;
    report.count("configurations", usize::from(is_right && options.images.config.is_some()));
    Ok((settings, bundles_known))
}

/// The grants and exceptions of the directory that the settings name.
fn grants(settings: &Settings, report: &mut Report) -> Vec<Located> {
    let Some(directory) = &settings.file.grants else { return Vec::new() };
    let origin = directory.display().to_string();
    let Some((read, errors)) = report.take(&origin, load::read_dir_in_part(directory)) else {
        return Vec::new();
    };
    for error in errors {
        report.failed(&origin, &error.into());
    }
    for located in &read {
        count_granted(&located.object, report);
    }
    read
}

/// Checks what a grant or exception alone does not show: whether it still has an effect, and whether the rules that it
/// names exist.
fn granted(located: &Located, rules: Option<&Rules>, now: Timestamp, report: &mut Report) {
    let Located { origin, object } = located;
    let (expired, end) = match object {
        Checked::Grant(grant) => (grant.is_expired(now), grant.spec.expires_at),
        Checked::Exception(exception) => (exception.is_expired(now), Some(exception.spec.expires_at)),
    };
    if let Some(end) = end.filter(|_| expired) {
        report.warnings.push(Problem {
            field: Some("spec.expiresAt".into()),
            value: Some(end.to_string()),
            repeats_value: true,
            ..Problem::new(origin, format!("expired at `{end}` and has no effect; renew it or remove it"))
        });
    }
    if let (Checked::Exception(exception), Some(rules)) = (object, rules) {
        rules.check_exception(exception, origin, report);
    }
}
