//! `wasmgate policy check`: what is wrong with the rules of a bundle.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::annotate::Stated;
use super::left_out::{self, Found, LeftOut};
use super::opa::{Opa, OpaProblem};
use super::rego_version::RegoVersion;
use super::{case, findings, plan, regal, trial};
use crate::cli::args::{OutputFormat, PolicyCheckOptions, PolicySources};
use crate::cli::{Error, Exit, inspect, print, shown};
use crate::policy::{Engine, Limits, PolicySet};
use crate::text;

/// What is said where the plan of this opa is another one.
const NOT_READ: &str = "the plan that this opa makes of the rules is not readable here, so the patterns, names and messages in them were not \
                        checked; use opa 1.22";

/// What is said where following all texts through the rules takes too many steps.
const NOT_FOLLOWED: &str = "the plan of the rules is too large to follow every text in it, so the patterns, names and messages in them were not \
                            checked; check the rules in several folders";

/// What is said where there are files in Rego v0 beside others: no command of opa reads both but as a bundle.
const NOT_FORMATTED: &str =
    "the format of the rules was not checked, since `.manifest` names a version of Rego for some files alone";

/// How opa begins what strict mode says of functions such as `any`, which Rego v0 has and v1 has not
/// (`open-policy-agent/opa:v1/ast/check.go`, `checkDeprecatedBuiltins`).
const OF_V0: &str = "deprecated built-in function calls in expression";

/// What is wrong.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Report {
    problems: Vec<OpaProblem>,
    /// What is not as the author may think, and is loaded as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// Whether regal was run.
    regal: bool,
}

/// Checks types, strictness, format and functions, and loads the compiled rules.
pub async fn run(options: &PolicyCheckOptions) -> Result<Exit, Error> {
    let report = check(options).await?;
    let output = match options.output {
        OutputFormat::Text => shown(&text(&report)),
        other => {
            let value = serde_json::to_value(&report).map_err(|e| Error::Format(e.to_string()))?;
            inspect::formatted(&value, other)?
        }
    };
    print(&output)?;
    Ok(if report.problems.is_empty() { Exit::Success } else { Exit::Invalid })
}

async fn check(options: &PolicyCheckOptions) -> Result<Report, Error> {
    let sources = &options.sources;
    trial::folder(sources)?;
    let opa = Opa::of(sources)?;
    let Found { left_out, undefined: mut warnings } = left_out::find(&opa, sources)?;
    if let Some(LeftOut { path, message }) = left_out {
        let problem = OpaProblem::of_file(&path.display().to_string(), "gate_left_out", message);
        return Ok(Report { problems: vec![problem], ..Report::default() });
    }
    let mut regal = false;
    let mut problems = checked(&opa, options, false, &mut warnings)?;
    if problems.is_empty() {
        problems = checked(&opa, options, true, &mut warnings)?;
    }
    if problems.is_empty() {
        let more = of_built(&opa, options).await?;
        problems.extend(more.problems);
        warnings.extend(more.warnings);
        match opa.version {
            RegoVersion::V1 => problems.extend(opa.unformatted(sources)?),
            // They are kept as others have written them.
            RegoVersion::V0 => {
                let said = |OpaProblem { file, message, .. }| format!("{file}: {message}");
                warnings.extend(opa.unformatted(sources)?.into_iter().map(said));
            }
            RegoVersion::Mixed => warnings.push(NOT_FORMATTED.into()),
        }
        let style = style(options, opa.version)?;
        regal = style.is_some();
        problems.extend(style.into_iter().flatten());
    }
    problems.sort();
    Ok(Report { problems, warnings, regal })
}

/// What `opa check` objects to, in strict mode unless that refuses functions of the version of Rego that the rules are in.
fn checked(
    opa: &Opa,
    options: &PolicyCheckOptions,
    in_gate: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<OpaProblem>, Error> {
    let PolicySources { rules, ignore, .. } = &options.sources;
    let problems = opa.check(rules, ignore, in_gate, true)?;
    if opa.version == RegoVersion::V1 {
        return Ok(problems);
    }
    let (of_v0, others): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|problem| problem.message.starts_with(OF_V0));
    // It says nothing else before these are mended.
    if of_v0.is_empty() || !others.is_empty() {
        return Ok(others);
    }
    for OpaProblem { file, row, message, .. } in of_v0 {
        let warning = format!(
            "{file}:{row}: {message}: it runs in the gate, as in Rego v0, and strict mode, which refuses it, was left out"
        );
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    opa.check(rules, ignore, in_gate, false)
}

/// What is wrong with what opa makes of the rules.
async fn of_built(opa: &Opa, options: &PolicyCheckOptions) -> Result<Report, Error> {
    let sources = &options.sources;
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    match plan::planned(opa, sources) {
        Ok(Some(plan)) => match findings::faults(&plan, sources) {
            Some(found) => problems.extend(found),
            None => warnings.push(NOT_FOLLOWED.into()),
        },
        Ok(None) => warnings.push(NOT_READ.into()),
        // What does not build or load is said below.
        Err(Error::RunOpa { .. } | Error::LoadPolicies(_)) => {}
        Err(error) => return Err(error),
    }
    match loaded(opa, options).await? {
        Ok(set) => {
            // The plan says the same of a pattern, with its place.
            let is_new = |warning: &&str| {
                let is_said = |problem: &OpaProblem| warning.ends_with(&problem.message);
                // What it does on an ordinary pod is a problem below.
                !problems.iter().any(is_said) && set.unfit().all(|reason| !warning.ends_with(reason))
            };
            warnings.extend(set.warnings().map(|(_, said)| said).filter(is_new).map(String::from));
            problems.extend(findings::failures(&set, sources));
        }
        Err(problem) => problems.push(problem),
    }
    Ok(Report { problems, warnings, regal: false })
}

/// What regal objects to; `None` if it was not run, which is said: it is not there, or the rules are in Rego v0, of which it says that it
/// should be v1. Named, it is run all the same.
fn style(options: &PolicyCheckOptions, version: RegoVersion) -> Result<Option<Vec<OpaProblem>>, Error> {
    let named = options.regal.as_deref();
    if named.is_none() && version != RegoVersion::V1 {
        anstream::eprintln!(
            "wasmgate: regal was not run: rules are in Rego v0, and --regal does not name it"
        );
        return Ok(None);
    }
    let PolicySources { rules, ignore, .. } = &options.sources;
    // It opens the marks of Emacs, which lead nowhere.
    let ignored = [ignore.clone(), case::marks(rules)?].concat();
    let found = regal::lint(named.unwrap_or(Path::new("regal")), rules, &ignored)?;
    match (&found, named) {
        (None, Some(program)) => return Err(Error::FindRegal { program: program.into() }),
        (None, None) => {
            anstream::eprintln!(
                "wasmgate: regal was not run: it is not on PATH, and --regal does not name it"
            );
        }
        (Some(_), _) => {}
    }
    Ok(found)
}

/// The rules as the gate loads them, or why it would not.
async fn loaded(opa: &Opa, options: &PolicyCheckOptions) -> Result<Result<PolicySet, OpaProblem>, Error> {
    let rules = options.sources.rules.display().to_string();
    let loading = (&Engine::for_command()?, Limits::default());
    match trial::compiled(opa, &options.sources, &Stated::default(), loading).await {
        Ok(compiled) => Ok(Ok(compiled.set)),
        Err(Error::LoadPolicies(error)) => {
            Ok(Err(OpaProblem::of_file(&rules, "gate_load", text::chain(&error))))
        }
        Err(Error::RunOpa { message, .. }) => Ok(Err(OpaProblem::of_file(&rules, "opa_build", message))),
        Err(error) => Err(error),
    }
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for OpaProblem { file, row, column, message, .. } in &report.problems {
        let place = match (file.as_str(), row) {
            // opa names no file for what is wrong with all of them together.
            ("", _) => String::new(),
            (file, 0) => format!("{file}: "),
            (file, row) => format!("{file}:{row}:{column}: "),
        };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "{}", text::lines(&format!("{place}{message}")).replace('\n', "\n  "));
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "warning: {}", text::line(warning));
    }
    let _ = match report.problems.len() {
        0 => writeln!(out, "nothing is wrong"),
        1 => writeln!(out, "1 problem"),
        many => writeln!(out, "{many} problems"),
    };
    out
}
