//! What `opa` says when it runs rules: their tests, what these reach, and values.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;

use super::coverage::OpaCoverage;
use super::opa::{Location, Opa, failed, followed, ignore, shown, words};
use super::rego_version::{RegoVersion, V0_FLAG};
use crate::cli::Error;
use crate::cli::args::PolicySources;
use crate::policy::{ENTRYPOINT, ExactDocument};

impl Opa {
    /// What `opa test` says of each test, in the folder as a bundle or in these files, which are arguments.
    pub fn tests(&self, sources: &PolicySources, files: Option<&[OsString]>) -> Result<Vec<RegoTest>, Error> {
        let arguments =
            self.test_arguments(&["test", "--format", "json"], sources, files, &followed(&sources.rules));
        let output = self.run(&arguments)?;
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
        let output = self.run_in(Some(&sources.rules), &arguments)?;
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
        arguments.extend(self.on_each(&sources.ignore, inputs)?);
        let printed = self.printed_in(Some(&sources.rules), &arguments)?;
        let read: serde_json::Result<Covered> = serde_json::from_slice(&printed);
        let failed = |error: serde_json::Error| Error::RunOpa {
            command: shown(&arguments),
            message: error.to_string(),
        };
        Ok(read.map_err(failed)?.coverage)
    }

    /// The values of the entry point for many inputs by name, from the sources; an undefined one is missing. The inner error says why
    /// there is none.
    pub fn evaluate(
        &self,
        rules: &Path,
        ignored: &[String],
        inputs: Inputs,
    ) -> Result<BTreeMap<String, Result<serde_json::Value, String>>, Error> {
        let (mut values, mut open) = (BTreeMap::new(), vec![inputs]);
        while let Some(mut inputs) = open.pop() {
            match self.evaluate_all(rules, ignored, &inputs) {
                Ok(found) => values.extend(found.into_iter().map(|(name, value)| (name, Ok(value)))),
                Err(Error::RunOpa { message, .. }) => {
                    // One of them is to blame, and the others have values.
                    let half = inputs.keys().nth(inputs.len() / 2).filter(|_| inputs.len() > 1).cloned();
                    match half {
                        Some(half) => {
                            let (before, after) =
                                std::mem::take(&mut inputs).into_iter().partition(|(name, _)| *name < half);
                            open.extend::<[Inputs; 2]>([before, after]);
                        }
                        None => {
                            values.extend(inputs.into_iter().map(|(name, _)| (name, Err(message.clone()))));
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(values)
    }

    fn evaluate_all(&self, rules: &Path, ignored: &[String], inputs: &Inputs) -> Result<Documents, Error> {
        let mut arguments = words(&["eval", "--format", "raw", "--bundle"]);
        arguments.push(followed(rules).into());
        arguments.extend(self.on_each(ignored, inputs)?);
        let printed = self.printed(&arguments)?;
        serde_json::from_slice(&printed)
            .map_err(|error| Error::RunOpa { command: shown(&arguments), message: error.to_string() })
    }

    /// The arguments with which the entry point is evaluated on each of these inputs.
    fn on_each(&self, ignored: &[String], inputs: &Inputs) -> Result<Vec<OsString>, Error> {
        let path = self.file("inputs.json");
        let text = serde_json::to_vec(inputs).map_err(|error| Error::Format(error.to_string()))?;
        std::fs::write(&path, text).map_err(|source| Error::UseFolder { path: path.clone(), source })?;
        let mut arguments = Vec::new();
        ignore(&mut arguments, ignored, true);
        arguments.extend([OsString::from("--input"), path.into()]);
        let query = format!(
            "{{name: value | some name, document in input; value := data.{} with input as document}}",
            ENTRYPOINT.replace('/', ".")
        );
        arguments.push(query.into());
        Ok(arguments)
    }
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
