//! What `opa` says when it runs rules: their tests, what these reach, and values.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::annotate::rego_files;
use super::coverage::OpaCoverage;
use super::opa::{Location, NOT_DONE, Opa, failed, followed, ignore, shown, words};
use super::rego_version::{RegoVersion, V0_FLAG};
use crate::cli::Error;
use crate::cli::args::PolicySources;
use crate::policy::{ENTRYPOINT, ExactDocument};

impl Opa {
    /// What `opa test` says of each test, in the folder as a bundle or in these files, which are arguments.
    pub fn tests(&self, sources: &PolicySources, files: Option<&[OsString]>) -> Result<Vec<RegoTest>, Error> {
        let arguments =
            self.test_arguments(&["test", "--format", "json"], sources, files, &followed(&sources.rules));
        let output = self.run_within(None, &arguments, self.time_of_tests(sources))?;
        // Nothing at all is printed where there are no tests.
        if output.status.success() && output.stdout.is_empty() {
            return Ok(Vec::new());
        }
        let read: Option<Option<Vec<RegoTest>>> = serde_json::from_slice(&output.stdout).ok();
        Ok(read.ok_or_else(|| failed(&arguments, &output))?.unwrap_or_default())
    }

    /// What of the rules the tests reach, all of which have passed. The files are below the folder of the rules.
    pub fn coverage(
        &self,
        sources: &PolicySources,
        files: Option<&[OsString]>,
    ) -> Result<OpaCoverage, Error> {
        let words = ["test", "--coverage", "--format", "json"];
        // With another path opa counts what is reached of a file and what is not under two names.
        let arguments = self.test_arguments(&words, sources, files, Path::new("."));
        let work = self.time_of_tests(sources).saturating_mul(COVERAGE_RUNS);
        let output = self.run_within(Some(&sources.rules), &arguments, work)?;
        if output.status.success() && output.stdout.is_empty() {
            return Ok(OpaCoverage::default());
        }
        serde_json::from_slice(&output.stdout).map_err(|_| failed(&arguments, &output))
    }

    fn test_arguments(
        &self,
        first: &[&str],
        sources: &PolicySources,
        files: Option<&[OsString]>,
        folder: &Path,
    ) -> Vec<OsString> {
        let mut arguments = words(first);
        self.with_schema(&mut arguments);
        arguments.extend(until(self.test_timeout));
        if let Some(files) = files {
            // A bundle says it itself.
            arguments.extend((self.version == RegoVersion::V0).then(|| OsString::from(V0_FLAG)));
            arguments.extend_from_slice(files);
        } else {
            ignore(&mut arguments, &sources.ignore, false);
            arguments.extend([OsString::from("--bundle"), folder.into()]);
        }
        arguments
    }

    /// What of the rules these inputs reach.
    pub fn case_coverage(&self, sources: &PolicySources, inputs: &Inputs) -> Result<OpaCoverage, Error> {
        let mut arguments = words(&["eval", "--coverage", "--format", "json", "--bundle", "."]);
        // Each of them was evaluated before within its time, alone or with others.
        let work = times(self.test_timeout, inputs.len()).saturating_mul(COVERAGE_RUNS);
        arguments.extend(until(LOAD_TIME.saturating_add(work)));
        arguments.extend(self.on_each(&sources.ignore, inputs, "")?);
        let printed = self.printed_within(Some(&sources.rules), &arguments, work)?;
        let read: serde_json::Result<Covered> = serde_json::from_slice(&printed);
        let failed = |error: serde_json::Error| Error::RunOpa {
            command: shown(&arguments),
            message: error.to_string(),
        };
        Ok(read.map_err(failed)?.coverage)
    }

    /// The longest that all tests take together. There are no more than names in the sources that begin as those of tests.
    fn time_of_tests(&self, sources: &PolicySources) -> Duration {
        let named =
            |path: &PathBuf| std::fs::read_to_string(path).map_or(0, |text| text.matches(TEST).count());
        // What cannot be read opa cannot read either.
        let files = rego_files(&sources.rules, &sources.ignore).unwrap_or_default();
        times(self.test_timeout, files.iter().map(named).sum())
    }

    /// Evaluates the entry point on many inputs by name, from the sources. Once some inputs have taken too long, those that are left are not evaluated.
    pub fn evaluate(&self, rules: &Path, ignored: &[String], inputs: Inputs) -> Result<Evaluated, Error> {
        let (Evaluated { mut values, mut printed }, mut late) = (Evaluated::default(), 0_usize);
        let mut open: Vec<_> = Some(inputs).filter(|inputs| !inputs.is_empty()).into_iter().collect();
        while let Some(mut inputs) = open.pop() {
            if late >= MOST_LATE {
                values.extend(inputs.into_keys().map(|name| (name, Err(NOT_ASKED.to_string()))));
                continue;
            }
            match self.evaluate_all(rules, ignored, &inputs, &mut printed) {
                Ok(found) => values.extend(found.into_iter().map(|(name, value)| (name, Ok(value)))),
                Err(Error::RunOpa { message, .. }) => {
                    // One of them is to blame, and the others have values.
                    let half = inputs.keys().nth(inputs.len() / 2).filter(|_| inputs.len() > 1).cloned();
                    if let Some(half) = half {
                        let (before, after) =
                            std::mem::take(&mut inputs).into_iter().partition(|(name, _)| *name < half);
                        open.extend::<[Inputs; 2]>([before, after]);
                    } else {
                        let said = self.late(&message);
                        late = late.saturating_add(usize::from(said.is_some()));
                        let message = said.unwrap_or(message);
                        values.extend(inputs.into_keys().map(|name| (name, Err(message.clone()))));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Evaluated { values, printed })
    }

    /// What is said of rules that took too long, if that is what opa says of them.
    pub fn late(&self, message: &str) -> Option<String> {
        let limit = self.test_timeout;
        let is_late = message.contains(CANCELLED) || message.starts_with(NOT_DONE);
        is_late.then(|| {
            format!(
                "{NOT_DONE} {limit:?}: a rule does not end, or takes long; mend it, or give it more time with --test-timeout\n{message}"
            )
        })
    }

    fn evaluate_all(
        &self,
        rules: &Path,
        ignored: &[String],
        inputs: &Inputs,
        printed: &mut BTreeMap<String, String>,
    ) -> Result<Documents, Error> {
        let mut arguments = words(&["eval", "--format", "raw", "--bundle"]);
        arguments.push(followed(rules).into());
        // All together have the time of one: rules take milliseconds.
        arguments.extend(until(LOAD_TIME.saturating_add(self.test_timeout)));
        // No rule prints this.
        let marker = Uuid::new_v4().to_string();
        arguments.extend(self.on_each(ignored, inputs, &format!("print(\"{marker}\", name); "))?);
        let output = self.run_within(None, &arguments, self.test_timeout)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_well = output.status.success();
        let (said, error) = if is_well { (said.as_str(), "") } else { before_error(&said) };
        printed.extend(by_input(said, &marker));
        if !is_well {
            return Err(failed(&arguments, &Output { stderr: error.into(), ..output }));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| Error::RunOpa { command: shown(&arguments), message: error.to_string() })
    }

    /// The arguments with which the entry point is evaluated on each of these inputs, after the expression `first`.
    fn on_each(&self, ignored: &[String], inputs: &Inputs, first: &str) -> Result<Vec<OsString>, Error> {
        let path = self.file("inputs.json");
        let text = serde_json::to_vec(inputs).map_err(|error| Error::Format(error.to_string()))?;
        std::fs::write(&path, text).map_err(|source| Error::UseFolder { path: path.clone(), source })?;
        let mut arguments = Vec::new();
        ignore(&mut arguments, ignored, true);
        arguments.extend([OsString::from("--input"), path.into()]);
        let query = format!(
            "{{name: value | some name, document in input; {first}value := data.{} with input as document}}",
            ENTRYPOINT.replace('/', ".")
        );
        arguments.push(query.into());
        Ok(arguments)
    }
}

/// What opa says of an evaluation that took too long (`open-policy-agent/opa:v1/topdown/errors.go`, `CancelErr`).
pub const CANCELLED: &str = "eval_cancel_error";
/// What `opa eval` has besides to read and to compile the rules, which it counts too (`open-policy-agent/opa:cmd/eval.go`, `eval`). A machine
/// with much to do may need it.
const LOAD_TIME: Duration = Duration::from_secs(20);
/// How the names of tests begin; those that are left out have `todo_` before it.
const TEST: &str = "test_";
/// How often opa runs what it counts the coverage of, and a run more, since counting takes time
/// (`open-policy-agent/opa:v1/tester/runner.go`, `coverageRuns`).
const COVERAGE_RUNS: u32 = 3;
/// Inputs that may take too long before the others are not evaluated: they most likely would too.
const MOST_LATE: usize = 3;
/// What is said of those.
const NOT_ASKED: &str = "it was not run, since the rules took too long on other cases";

/// That opa ends what takes longer than this.
fn until(time: Duration) -> [OsString; 2] {
    ["--timeout".into(), format!("{}s", time.as_secs()).into()]
}

/// So many times the time.
fn times(time: Duration, count: usize) -> Duration {
    time.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What was printed before an error of `opa eval`, and the error.
fn before_error(said: &str) -> (&str, &str) {
    let is_error = |line: &str| line.contains(" error occurred: ") || line.contains(" errors occurred:");
    let printed: usize = said.split_inclusive('\n').take_while(|line| !is_error(line)).map(str::len).sum();
    said.split_at_checked(printed).filter(|(_, error)| !error.is_empty()).unwrap_or(("", said))
}

/// What was printed of each input, by name. A line with the marker and the name is before it.
fn by_input(said: &str, marker: &str) -> BTreeMap<String, String> {
    let parts = said.split(marker).skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, printed)| (name.trim().to_string(), printed.to_string())).collect()
}

/// What `opa eval` says of many inputs, by their names.
#[derive(Debug, Default)]
pub struct Evaluated {
    /// The value of the entry point; an undefined one is missing. The inner error says why there is none.
    pub values: BTreeMap<String, Result<serde_json::Value, String>>,
    /// What the rules printed.
    pub printed: BTreeMap<String, String>,
}

/// The part of `opa eval --coverage` that is read.
#[derive(Deserialize)]
struct Covered {
    coverage: OpaCoverage,
}

/// What rules read, by names.
pub type Inputs = BTreeMap<String, ExactDocument>;

/// What they find, by the names of what they read.
type Documents = serde_json::Map<String, serde_json::Value>;

/// One test of `opa test` (`open-policy-agent/opa:v1/tester/runner.go`).
#[derive(Debug, Deserialize)]
pub struct RegoTest {
    /// Its package.
    pub package: String,
    /// Its name.
    pub name: String,
    /// Whether it failed.
    #[serde(default)]
    pub fail: bool,
    /// Whether it was left out, as its name begins with `todo_`.
    #[serde(default)]
    pub skip: bool,
    /// What stopped it.
    #[serde(default)]
    pub error: Option<serde_json::Value>,
    /// In nanoseconds.
    #[serde(default)]
    pub duration: u64,
    /// What it printed, in base64.
    #[serde(default)]
    pub output: Option<String>,
    /// Where it is.
    #[serde(default)]
    location: Location,
}

impl RegoTest {
    /// File and line.
    pub fn place(&self) -> String {
        format!("{}:{}", self.location.file, self.location.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_print_is_told_by_input_and_apart_from_an_error() {
        let printed = by_input("a warning\nMARK 0\nseen a\nseen b\nMARK 10\nMARK 2\nlast\n", "MARK");
        let expected = [("0", "seen a\nseen b\n"), ("10", ""), ("2", "last\n")];
        let expected = expected.map(|(name, text)| (name.to_string(), text.to_string()));
        assert_eq!(printed, BTreeMap::from(expected));
        let error = "1 error occurred: a.rego:4: eval_conflict_error: twice\n\nTraceback:\n";
        assert_eq!(before_error(&format!("seen a\n{error}")), ("seen a\n", error));
        assert_eq!(before_error("error: no such flag\n"), ("", "error: no such flag\n"));
    }
}
