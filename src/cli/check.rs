//! `wasmgate check`: checks a configuration, grants and policies before they are rolled out. Reports all problems and not
//! only the first, each with its place and what to write instead.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::args::{CheckOptions, GateOptions, OutputFormat};
use super::manifest::{self, Manifest};
use super::{Error, Exit, build, inspect, print};
use crate::cluster;
use crate::config::{self, Settings};
use crate::grant::{self, load::Checked};
use crate::policy::{Bundle, PolicySet};
use crate::text;
use crate::workload::{self, Kind, Kinds};

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file and the document in it, the directory, or the bundle.
    pub origin: String,
    /// Path of the field; absent when the problem is about the whole document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The value of the field, when it is a single value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// What was checked, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// All problems.
    pub problems: Vec<Problem>,
    /// What was read → how many.
    pub checked: BTreeMap<&'static str, usize>,
    /// Documents whose kind `check` does not know.
    pub not_checked: Vec<String>,
}

impl Report {
    fn count(&mut self, what: &'static str, many: usize) {
        *self.checked.entry(what).or_default() += many;
    }

    fn problem(&mut self, origin: &str, message: String) {
        self.problems.push(Problem { origin: origin.to_string(), field: None, value: None, message });
    }

    /// The value of a step, or its error as a problem.
    fn take<T, E: Into<Error>>(&mut self, origin: &str, step: Result<T, E>) -> Option<T> {
        step.map_err(|error| self.failed(origin, &error.into())).ok()
    }

    fn configuration(&mut self, origin: &str, error: &config::Error) {
        match error {
            config::Error::CheckField { field, value, message } => self.problems.push(Problem {
                origin: origin.to_string(),
                field: Some(field.clone()),
                value: Some(value.clone()),
                message: message.clone(),
            }),
            // One level deep: the problems of fields hold no further list.
            config::Error::CheckFields { problems } => {
                for problem in problems {
                    self.configuration(origin, problem);
                }
            }
            config::Error::ParseFile { message, .. } => self.problem(origin, message.clone()),
            other => self.problem(origin, text::lines(&text::chain(other)).into_owned()),
        }
    }

    fn failed(&mut self, origin: &str, error: &Error) {
        match error {
            Error::Configure(error) => self.configuration(origin, error),
            Error::LoadGrants(grant::Error::CheckGrants { problems }) => {
                self.problems.extend(problems.0.iter().map(of_grants));
            }
            Error::ReadManifest { path, message } => self.problem(path, text::lines(message).into_owned()),
            other => self.problem(origin, text::lines(&text::chain(other)).into_owned()),
        }
    }
}

fn of_grants(problem: &grant::Problem) -> Problem {
    Problem {
        origin: problem.origin.clone(),
        field: Some(problem.field.clone()).filter(|field| !field.is_empty()),
        value: None,
        message: problem.message.clone(),
    }
}

/// Checks everything that the options name. Exit code 1 means that there is a problem.
pub async fn run(options: Box<CheckOptions>) -> Result<Exit, Error> {
    let report = check(&options).await?;
    let output = match options.output {
        OutputFormat::Text => text(&report).into_bytes(),
        other => {
            let value = serde_json::to_value(&report).map_err(|e| Error::Format(e.to_string()))?;
            inspect::formatted(&value, other)?
        }
    };
    print(&output)?;
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Invalid })
}

/// The problems of everything that the options name. An error means that a file could not be read at all.
pub async fn check(options: &CheckOptions) -> Result<Report, Error> {
    let mut report = Report::default();
    let files = manifest::read_strictly(&options.files)?;
    something_to_check(options, &files)?;
    let mut kinds = Kinds::default();
    if let Some(settings) = settings(&options.gate, &mut report) {
        kinds = Kinds::new(&settings.file.workloads);
        grants(&settings, &mut report);
        if let Some(directory) = &settings.file.cluster {
            let cluster = report.take(&directory.display().to_string(), cluster::load_dir(directory));
            report.count("cluster directories", usize::from(cluster.is_some()));
        }
        policies(&settings, &configuration(&options.gate), &mut report).await;
        report.take(&configuration(&options.gate), build::inspector(&settings));
    }
    for file in files {
        for manifest in report.take("", file).into_iter().flatten() {
            document(manifest, &kinds, &options.gate, &mut report);
        }
    }
    Ok(report)
}

/// Whether the paths that were named exist, and whether there is anything in them.
fn something_to_check(options: &CheckOptions, files: &[Result<Vec<Manifest>, Error>]) -> Result<(), Error> {
    let GateOptions { config, grants, cluster, bundles, .. } = &options.gate;
    let mut named = config.iter().chain(grants).chain(cluster).chain(bundles).peekable();
    let in_flags = named.peek().is_some();
    for path in named {
        std::fs::metadata(path).map_err(|error| Error::ReadManifest {
            path: text::visible(&path.display().to_string()).into_owned(),
            message: error.to_string(),
        })?;
    }
    let in_files = files.iter().any(|file| file.as_ref().map_or(true, |manifests| !manifests.is_empty()));
    if in_flags || in_files {
        return Ok(());
    }
    let quoted = |path: &PathBuf| format!("`{}`", text::visible(&path.display().to_string()));
    let paths: Vec<_> = options.files.iter().map(quoted).collect();
    let place = if paths.is_empty() { String::new() } else { format!(" in {}", paths.join(", ")) };
    Err(Error::NothingToCheck(place))
}

/// Name of the configuration in messages.
fn configuration(options: &GateOptions) -> String {
    let file = options.config.as_ref().map(|path| path.display().to_string());
    file.unwrap_or_else(|| "the embedded default and the flags".to_string())
}

fn settings(options: &GateOptions, report: &mut Report) -> Option<Settings> {
    let settings = report.take(&configuration(options), build::settings(options));
    report.count("configurations", usize::from(settings.is_some() && options.config.is_some()));
    // Grants and bundles that flags name are checked even when the configuration file is wrong.
    settings.or_else(|| build::settings(&GateOptions { config: None, ..options.clone() }).ok())
}

fn grants(settings: &Settings, report: &mut Report) {
    let Some(directory) = &settings.file.grants else { return };
    if let Some(loaded) = report.take(&directory.display().to_string(), grant::load::load_dir(directory)) {
        report.count("grants", loaded.grants.len());
        report.count("exceptions", loaded.exceptions.len());
    }
}

/// Checks every bundle by itself, then all together, then the rule names of the configuration.
async fn policies(settings: &Settings, configuration: &str, report: &mut Report) {
    let policies = &settings.file.policies;
    let baseline = policies.baseline.then(|| ("the embedded baseline".to_string(), Bundle::embedded()));
    let own = policies.bundles.iter().map(|path| (path.display().to_string(), Bundle::load(path)));
    let mut bundles = Vec::new();
    let before = report.problems.len();
    for (origin, bundle) in baseline.into_iter().chain(own) {
        bundles.extend(report.take(&origin, bundle));
    }
    let loaded = build::policy_set(settings, bundles).await;
    let Some(set) = report.take("the policy bundles", loaded) else { return };
    report.count("policy bundles", set.revisions().len());
    // A bundle that could not be read may have the rule.
    if report.problems.len() == before {
        rule_names(settings, &set, configuration, report);
    }
}

fn rule_names(settings: &Settings, set: &PolicySet, configuration: &str, report: &mut Report) {
    for error in build::unknown_rules(&settings.file.enforcement, set.rules().as_ref()) {
        report.failed(configuration, &error.into());
    }
}

/// Checks one document of the named files.
fn document(manifest: Manifest, kinds: &Kinds, options: &GateOptions, report: &mut Report) {
    let kind = manifest.kind();
    let origin = manifest.origin.clone();
    if (kind.group.as_str(), kind.kind.as_str()) == ("wasmgate.dev", config::file::KIND) {
        let file = config::parse(&origin, &manifest.object.to_string());
        let resolved = file.map_err(Error::from).and_then(|file| build::resolved(file, options));
        let checked = report.take(&origin, resolved);
        report.count("configurations", usize::from(checked.is_some()));
    } else if kind.group == "wasmgate.dev" {
        match grant::load::read_object(manifest.object, &origin) {
            Ok(Checked::Grant(_)) => report.count("grants", 1),
            Ok(Checked::Exception(_)) => report.count("exceptions", 1),
            Err(problems) => report.problems.extend(problems.0.iter().map(of_grants)),
        }
    } else if let Some(kind) = kinds.of(&kind) {
        let checked = report.take(&origin, readable(&manifest.object, kind));
        report.count("workloads", usize::from(checked.is_some()));
    } else {
        report.not_checked.push(format!("{} ({origin})", kind.kind));
    }
}

/// Whether the pod spec can be read; `explain` shows the verdict.
fn readable(object: &Value, kind: Kind) -> Result<(), Error> {
    let failed =
        |source: workload::Error| Error::Explain { object: kind.as_str().to_string(), source: source.into() };
    let raw = serde_json::value::to_raw_value(object).map_err(|e| Error::Format(e.to_string()))?;
    let judged = workload::as_judged(&raw, kind).map_err(failed)?;
    workload::read(judged.get(), kind, "").map(drop).map_err(failed)
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for Problem { origin, field, value, message } in &report.problems {
        let field = field.as_ref().map(|field| format!(", {field}")).unwrap_or_default();
        let value = value.as_ref().map(|value| format!(": cannot be `{value}`")).unwrap_or_default();
        let lines = format!("{origin}{field}{value}: {message}");
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "{}", text::lines(&lines).replace('\n', "\n  "));
    }
    for document in &report.not_checked {
        let _ = writeln!(out, "not checked: {}", text::visible(document));
    }
    let read = report.checked.iter().filter(|(_, many)| **many > 0);
    let read: Vec<_> = read.map(|(what, many)| format!("{what}: {many}")).collect();
    let verdict = match report.problems.len() {
        0 => "nothing is wrong".to_string(),
        1 => "1 problem".to_string(),
        many => format!("{many} problems"),
    };
    let read = if read.is_empty() { String::new() } else { format!(" ({})", read.join(", ")) };
    let _ = writeln!(out, "{verdict}{read}");
    out
}
