//! `wasmgate policy test`: the tests of `opa test`, and cases on the compiled rules, compared with `opa eval`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::annotate::Stated;
use super::case::{self, Case, described};
use super::cases;
use super::coverage::Coverage;
use super::fixtures::{self, TestFiles};
use super::junit;
use super::opa::Opa;
use super::result::{Outcome, TestResult};
use super::runs::{CANCELLED, Inputs, RegoTest};
use super::trial;
use crate::cli::args::{OutputFormat, PolicyTestOptions};
use crate::cli::{Error, Exit, build, engine, inspect, print, shown};
use crate::policy::{Evaluation, ExactDocument, PolicySet, Violation};
use crate::text;

/// Runs everything once. Exit code 1 means that something failed.
pub async fn run(options: &PolicyTestOptions) -> Result<Exit, Error> {
    trial::folder(&options.sources)?;
    let test_timeout = Duration::from_secs(options.test_timeout);
    let opa = Opa::of(&options.sources)?.with_test_timeout(test_timeout);
    let (rules, _) = trial::complete(&opa, &options.sources)?;
    let (tests, files) = fixtures::tests(&opa, &options.sources)?;
    let mut results: Vec<_> = tests.into_iter().map(|test| of_rego(&opa, test)).collect();
    results.sort_by(|a, b| (&a.suite, &a.name).cmp(&(&b.suite, &b.name)));
    let cases = case::read(rules)?;
    if results.is_empty() && cases.is_empty() {
        return Err(Error::NothingToTest { path: rules.display().to_string() });
    }
    let (of_cases, documents) = Box::pin(judged(&opa, options, &cases)).await?;
    results.extend(of_cases);
    if let Some(path) = &options.junit {
        let failed = |source| Error::WriteBundle { path: path.clone(), source };
        std::fs::write(path, junit::document(&results)).map_err(failed)?;
    }
    let failed = results.iter().any(|result| result.outcome == Outcome::Failed);
    let coverage = if failed { None } else { coverage(&opa, options, files.as_ref(), &documents)? };
    print(&written(&results, coverage.as_ref(), options.output)?)?;
    let is_wrong = failed || coverage.is_some_and(|coverage| coverage.is_too_low());
    Ok(if is_wrong { Exit::Invalid } else { Exit::Success })
}

/// What the tests and the cases have reached, if it was asked for. Where one fails, opa does not count.
fn coverage(
    opa: &Opa,
    options: &PolicyTestOptions,
    files: Option<&TestFiles>,
    documents: &Inputs,
) -> Result<Option<Coverage>, Error> {
    if !options.coverage && options.threshold.is_none() {
        return Ok(None);
    }
    let PolicyTestOptions { sources, threshold, .. } = options;
    let files = files.map(|files| files.arguments(&sources.rules, Some(Path::new(""))));
    let counted = opa.coverage(sources, files.as_deref())?;
    if documents.is_empty() {
        return Ok(Some(Coverage::of(&sources.rules, counted, *threshold)));
    }
    let by_cases = opa.case_coverage(sources, documents)?;
    Ok(Some(Coverage::of_both(&sources.rules, counted, by_cases, *threshold)))
}

fn written(
    results: &[TestResult],
    coverage: Option<&Coverage>,
    output: OutputFormat,
) -> Result<Vec<u8>, Error> {
    if output == OutputFormat::Text {
        let coverage = coverage.map(Coverage::text).unwrap_or_default();
        return Ok(shown(&format!("{}{coverage}", text(results))));
    }
    let mut report = json!({ "tests": results });
    if let (Some(coverage), Some(fields)) = (coverage, report.as_object_mut()) {
        fields.insert("coverage".into(), json!(coverage));
    }
    inspect::formatted(&report, output)
}

fn of_rego(opa: &Opa, test: RegoTest) -> TestResult {
    let place = test.place();
    let printed = test.output.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let outcome = match (test.skip, test.fail || test.error.is_some()) {
        (true, _) => Outcome::Skipped,
        (false, true) => Outcome::Failed,
        (false, false) => Outcome::Passed,
    };
    let reason = test.error.map_or_else(
        || format!("{place}: it is not true"),
        |error| {
            let said = in_words(&error).unwrap_or_else(|| error.to_string());
            format!("{place}: {}", opa.late(&said).unwrap_or(said))
        },
    );
    TestResult {
        suite: test.package,
        name: test.name,
        outcome,
        reasons: (outcome == Outcome::Failed).then_some(reason).into_iter().collect(),
        output: String::from_utf8_lossy(&printed).into_owned(),
        seconds: Duration::from_nanos(test.duration).as_secs_f64(),
    }
}

/// What stopped a test (`open-policy-agent/opa:v1/topdown/errors.go`, `Error`), and where.
fn in_words(error: &Value) -> Option<String> {
    let code = error.get("code")?.as_str()?;
    // Where one was that took too long says its stack alone.
    let is_late = code == CANCELLED;
    let at = error.pointer(if is_late { "/stack_trace/0/location" } else { "/location" })?;
    let place = format!("{}:{}", at.get("file")?.as_str()?, at.get("row")?.as_u64()?);
    let message = error.get("message").and_then(Value::as_str).filter(|_| !is_late);
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    Some(format!("{code} at {place}{message}"))
}

/// The cases, on the compiled rules and in `opa eval`, and what they read.
async fn judged(
    opa: &Opa,
    options: &PolicyTestOptions,
    found: &[Case],
) -> Result<(Vec<TestResult>, Inputs), Error> {
    if found.is_empty() {
        return Ok((Vec::new(), Inputs::new()));
    }
    let settings = build::settings(&options.cases.gate)?;
    let loading = (&engine::for_command(&settings)?, build::limits(&settings));
    let compiled = trial::compiled(opa, &options.sources, &Stated::default(), loading).await?;
    let inputs = Box::pin(cases::inputs(&options.cases, found, options.sources.no_schema)).await?;
    let (mut evaluated, mut documents) = (Vec::new(), Inputs::new());
    for (place, input) in inputs.into_iter().enumerate() {
        let started = Instant::now();
        let evaluation = match input {
            Ok(input) => violations(&compiled.set, place, input, &mut documents).await,
            Err(reason) => Err(vec![reason]),
        };
        evaluated.push((evaluation, started.elapsed()));
    }
    // Only what the gate can evaluate: rules that do not end there do not in opa either.
    let mut in_opa = opa.evaluate(&options.sources.rules, &options.sources.ignore, documents.clone())?;
    let mut results = Vec::new();
    for (place, (case, (evaluation, time))) in found.iter().zip(evaluated).enumerate() {
        let reasons = match evaluation {
            Ok(violations) => reasons(case, &violations, in_opa.values.get(&place.to_string())),
            Err(reasons) => reasons,
        };
        let outcome = if reasons.is_empty() { Outcome::Passed } else { Outcome::Failed };
        results.push(TestResult {
            suite: case.file.display().to_string(),
            name: case.name.clone(),
            outcome,
            reasons,
            output: in_opa.printed.remove(&place.to_string()).unwrap_or_default(),
            seconds: time.as_secs_f64(),
        });
    }
    Ok((results, documents))
}

/// What the compiled rules find, which is then asked of `opa eval` too; or why they find nothing.
async fn violations(
    set: &PolicySet,
    place: usize,
    input: ExactDocument,
    documents: &mut Inputs,
) -> Result<Vec<Violation>, Vec<String>> {
    let Evaluation { violations, failures, .. } = set.evaluate(&input).await;
    if !failures.is_empty() {
        return Err(failures.into_iter().map(|failure| failure.message).collect());
    }
    documents.insert(place.to_string(), input);
    Ok(violations)
}

/// Why a case failed: what the compiled rules found is not what is expected, or not what `opa eval` finds.
fn reasons(case: &Case, found: &[Violation], in_opa: Option<&Result<Value, String>>) -> Vec<String> {
    let mut reasons = case.differences(found);
    let read = |value: &Value| serde_json::from_value::<Vec<Violation>>(value.clone()).ok();
    let in_opa = match in_opa {
        Some(Err(message)) => {
            reasons.push(format!("`opa eval` failed: {message}"));
            return reasons;
        }
        Some(Ok(value)) => read(value),
        None => None,
    };
    let Some(mut in_opa) = in_opa else {
        reasons.push("`opa eval` finds no set of violations".into());
        return reasons;
    };
    in_opa.sort();
    let only = |these: &[Violation], those: &[Violation], place: &str| -> Vec<String> {
        // `opa eval` knows no METADATA.
        let is_like = |one: &Violation, other: &Violation| {
            one.is_found_like(other)
                && (one.remedy == other.remedy || other.remedy.is_none() || one.remedy.is_none())
        };
        let only = these.iter().filter(|violation| !those.iter().any(|other| is_like(other, violation)));
        only.map(|violation| format!("only {place}: {}", described(violation))).collect()
    };
    reasons.extend(only(found, &in_opa, "in the gate"));
    reasons.extend(only(&in_opa, found, "in `opa eval`"));
    reasons
}

fn text(results: &[TestResult]) -> String {
    let mut out = String::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for TestResult { suite, name, outcome, reasons, output, .. } in results {
        let word = match outcome {
            Outcome::Passed => "PASS",
            Outcome::Failed => "FAIL",
            Outcome::Skipped => "SKIPPED",
        };
        *counts.entry(word).or_default() += 1;
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "{}: {}: {word}", text::line(suite), text::line(name));
        for line in reasons.iter().flat_map(|reason| reason.lines()).chain(output.lines()) {
            let _ = writeln!(out, "  {}", text::line(line));
        }
    }
    for (word, count) in counts {
        let _ = writeln!(out, "{word}: {count}/{}", results.len());
    }
    out
}
