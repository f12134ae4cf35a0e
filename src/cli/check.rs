//! `wasmgate check`: checks a configuration, grants and policies before they are rolled out. Reports all problems and not
//! only the first, each with its place and what to write instead.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use report::of_grants;
pub use report::{Problem, Report};

use super::args::{CheckOptions, GateOptions, OutputFormat};
use super::manifest::{self, Manifest};
use super::{Error, Exit, build, inspect, print};
use crate::cluster;
use crate::config::{self, Settings};
use crate::grant::WasiException;
use crate::grant::load::{self, Checked, Located, Places};
use crate::policy::Bundle;
use crate::text;
use crate::workload::{self, Kind, Kinds};

/// Checks everything that the options name. Exit code 1 means that there is a problem.
pub async fn run(options: Box<CheckOptions>) -> Result<Exit, Error> {
    let report = check(&options).await?;
    let output = match options.output {
        OutputFormat::Text => report::text(&report).into_bytes(),
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
    let (mut kinds, mut rules, mut objects) = (Kinds::default(), None, Vec::new());
    if let Some(settings) = settings(&options.gate, &mut report) {
        kinds = Kinds::new(&settings.file.workloads);
        objects = grants(&settings, &mut report);
        if let Some(directory) = &settings.file.cluster {
            let cluster = report.take(&directory.display().to_string(), cluster::load_dir(directory));
            report.count("cluster directories", usize::from(cluster.is_some()));
        }
        rules = policies(&settings, &configuration(&options.gate), &mut report).await;
        report.take(&configuration(&options.gate), build::inspector(&settings));
    }
    let mut places = Places::default();
    for file in files {
        for manifest in report.take("", file).into_iter().flatten() {
            if let Some(object) = document(manifest, &kinds, &options.gate, &mut report) {
                report.problems.extend(places.add(&object).as_ref().map(of_grants));
                objects.push(object);
            }
        }
    }
    for object in &objects {
        granted(object, rules.as_ref(), Timestamp::now(), &mut report);
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

/// The grants and exceptions of the directory that the settings name.
fn grants(settings: &Settings, report: &mut Report) -> Vec<Located> {
    let Some(directory) = &settings.file.grants else { return Vec::new() };
    let read = report.take(&directory.display().to_string(), load::read_dir(directory)).unwrap_or_default();
    for located in &read {
        count_granted(&located.object, report);
    }
    read
}

fn count_granted(object: &Checked, report: &mut Report) {
    match object {
        Checked::Grant(_) => report.count("grants", 1),
        Checked::Exception(_) => report.count("exceptions", 1),
    }
}

/// Checks what a grant or exception alone does not show: whether it still has an effect, and whether the rules that it
/// names exist. `rules` are those of all bundles, if they are known.
fn granted(located: &Located, rules: Option<&BTreeSet<String>>, now: Timestamp, report: &mut Report) {
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
        report.problems.extend(unknown_rules(exception, origin, rules));
    }
}

fn unknown_rules<'a>(
    exception: &'a WasiException,
    origin: &'a str,
    known: &'a BTreeSet<String>,
) -> impl Iterator<Item = Problem> + 'a {
    let rules = exception.spec.rules.iter().enumerate();
    rules.filter(|(_, rule)| !known.contains(*rule)).map(move |(index, rule)| Problem {
        field: Some(format!("spec.rules[{index}]")),
        value: Some(rule.clone()),
        ..Problem::new(origin, build::no_such_rule(rule, known.iter().map(String::as_str)))
    })
}

/// Checks every bundle by itself, then all together, then the rule names of the configuration. Returns the names of all
/// rules, if they are known.
async fn policies(settings: &Settings, configuration: &str, report: &mut Report) -> Option<BTreeSet<String>> {
    let policies = &settings.file.policies;
    let baseline = policies.baseline.then(|| ("the embedded baseline".to_string(), Bundle::embedded()));
    let own = policies.bundles.iter().map(|path| (path.display().to_string(), Bundle::load(path)));
    let (mut bundles, mut origins) = (Vec::new(), BTreeMap::new());
    let before = report.problems.len();
    for (origin, bundle) in baseline.into_iter().chain(own) {
        if let Some(bundle) = report.take(&origin, bundle) {
            origins.insert(bundle.name.clone(), origin);
            bundles.push(bundle);
        }
    }
    let set = match build::policy_set(settings, bundles).await {
        Ok(set) => set,
        Err(error) => {
            report.failed(origin_of(&error, &origins), &error);
            return None;
        }
    };
    report.count("policy bundles", set.revisions().len());
    // A bundle that could not be read may have the rule.
    if report.problems.len() > before {
        return None;
    }
    let rules = set.rules();
    for error in build::unknown_rules(&settings.file.enforcement, rules.as_ref()) {
        report.failed(configuration, &error.into());
    }
    rules.map(|rules| rules.into_iter().map(String::from).collect())
}

/// The bundle that an error is about, or all of them.
fn origin_of<'a>(error: &Error, origins: &'a BTreeMap<String, String>) -> &'a str {
    let name = match error {
        Error::LoadPolicies(error) => error.bundle(),
        _ => None,
    };
    name.and_then(|name| origins.get(name)).map_or("the policy bundles", String::as_str)
}

/// Checks one document of the named files. Returns it if it is a grant or an exception.
fn document(
    manifest: Manifest,
    kinds: &Kinds,
    options: &GateOptions,
    report: &mut Report,
) -> Option<Located> {
    let kind = manifest.kind();
    let origin = manifest.origin.clone();
    if (kind.group.as_str(), kind.kind.as_str()) == ("wasmgate.dev", config::file::KIND) {
        // The document is one line of JSON by now, so a place in it says nothing.
        let file = config::parse(&origin, &manifest.object.to_string()).map_err(config::Error::without_place);
        let resolved = file.map_err(Error::from).and_then(|file| build::resolved(file, options));
        let checked = report.take(&origin, resolved);
        report.count("configurations", usize::from(checked.is_some()));
    } else if kind.group == "wasmgate.dev" {
        match load::read_object(manifest.object, &origin) {
            Ok(object) => {
                count_granted(&object, report);
                return Some(Located { origin, object });
            }
            Err(problems) => report.problems.extend(problems.0.iter().map(of_grants)),
        }
    } else if let Some(kind) = kinds.of(&kind) {
        let checked = report.take(&origin, readable(&manifest.object, kind));
        report.count("workloads", usize::from(checked.is_some()));
    } else {
        report.not_checked.push(format!("{} ({origin})", kind.kind));
    }
    None
}

/// Whether the pod spec can be read; `explain` shows the verdict.
fn readable(object: &Value, kind: Kind) -> Result<(), Error> {
    let failed =
        |source: workload::Error| Error::Explain { object: kind.as_str().to_string(), source: source.into() };
    let raw = serde_json::value::to_raw_value(object).map_err(|e| Error::Format(e.to_string()))?;
    let judged = workload::as_judged(&raw, kind).map_err(failed)?;
    workload::read(judged.get(), kind, "").map(drop).map_err(failed)
}
