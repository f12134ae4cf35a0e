//! The report of `check`: problems with their places, from the errors of every module, and how they are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::Error;
use crate::{admission, config, grant, policy, text, workload};

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
    /// Whether the message repeats the value, as those about a text that cannot be read do.
    #[serde(skip)]
    pub(super) repeats_value: bool,
}

impl Problem {
    pub(super) fn new(origin: &str, message: String) -> Self {
        Self { origin: origin.to_string(), field: None, value: None, message, repeats_value: false }
    }
}

/// What was checked, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// All problems.
    pub problems: Vec<Problem>,
    /// What can be loaded and has no effect.
    pub warnings: Vec<Problem>,
    /// What was read → how many.
    pub checked: BTreeMap<&'static str, usize>,
    /// Documents whose kind `check` does not know.
    pub not_checked: Vec<String>,
}

impl Report {
    pub(super) fn count(&mut self, what: &'static str, many: usize) {
        *self.checked.entry(what).or_default() += many;
    }

    fn problem(&mut self, origin: &str, message: String) {
        self.problems.push(Problem::new(origin, message));
    }

    /// The value of a step, or its error as a problem.
    pub(super) fn take<T, E: Into<Error>>(&mut self, origin: &str, step: Result<T, E>) -> Option<T> {
        step.map_err(|error| self.failed(origin, &error.into())).ok()
    }

    fn configuration(&mut self, origin: &str, error: &config::Error) {
        match error {
            config::Error::CheckField { field, value, message } => self.problems.push(Problem {
                field: Some(field.clone()),
                value: Some(value.clone()),
                ..Problem::new(origin, message.clone())
            }),
            // One level deep: the problems of fields hold no further list.
            config::Error::CheckFields { problems } => {
                for problem in problems {
                    self.configuration(origin, problem);
                }
            }
            config::Error::ParseFile { problem, .. } => self.problems.push(Problem {
                field: Some(problem.field.clone()).filter(|field| !field.is_empty()),
                value: problem.value.clone(),
                repeats_value: true,
                ..Problem::new(origin, problem.to_string())
            }),
            other => self.problem(origin, text::lines(&text::chain(other)).into_owned()),
        }
    }

    /// Adds an error as a problem, or as one for each field that it is about.
    pub(super) fn failed(&mut self, origin: &str, error: &Error) {
        match error {
            Error::Configure(error) => self.configuration(origin, error),
            Error::LoadGrants(grant::Error::CheckGrants { problems }) => {
                self.problems.extend(problems.0.iter().map(of_grants));
            }
            Error::LoadPolicies(error) => self.problem(origin, of_bundle(error, origin)),
            Error::Explain {
                source:
                    admission::Error::ReadWorkload(workload::Error::ReadField {
                        field, problem, field_help, ..
                    }),
                ..
            } => self.problems.push(Problem {
                field: Some(field.clone()),
                ..Problem::new(
                    origin,
                    text::lines(&format!("{problem}; see `kubectl explain {field_help}`")).into_owned(),
                )
            }),
            Error::ReadManifest { path, message } => self.problem(path, text::lines(message).into_owned()),
            other => self.problem(origin, text::lines(&text::chain(other)).into_owned()),
        }
    }
}

/// A problem of grants.
pub(super) fn of_grants(problem: &grant::Problem) -> Problem {
    Problem {
        field: Some(problem.field.clone()).filter(|field| !field.is_empty()),
        value: problem.value.clone(),
        repeats_value: true,
        ..Problem::new(&problem.origin, problem.message.clone())
    }
}

/// The message about a bundle without its name, which the origin says.
fn of_bundle(error: &policy::Error, origin: &str) -> String {
    let message = text::lines(&text::chain(error)).into_owned();
    let names = [error.bundle(), Some(origin)].into_iter().flatten();
    names.fold(message, |message, name| message.replace(&format!("policy bundle `{name}`"), "the bundle"))
}

impl Problem {
    /// The problem in a line; further lines of its message are indented. `word` is written before the message.
    fn line(&self, word: &str) -> String {
        let Self { origin, field, value, message, repeats_value } = self;
        let field = field.as_ref().map(|field| format!(", {field}")).unwrap_or_default();
        let value = value.as_ref().filter(|_| !repeats_value);
        let value = value.map(|value| format!(": cannot be `{value}`")).unwrap_or_default();
        text::lines(&format!("{origin}{field}{value}: {word}{message}")).replace('\n', "\n  ")
    }
}

/// The report for people.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let problems = report.problems.iter().map(|problem| problem.line(""));
    for line in problems.chain(report.warnings.iter().map(|warning| warning.line("warning: "))) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "{line}");
    }
    for document in &report.not_checked {
        let _ = writeln!(out, "not checked: {}", text::visible(document));
    }
    let read = report.checked.iter().filter(|(_, many)| **many > 0);
    let read: Vec<_> = read.map(|(what, many)| format!("{what}: {many}")).collect();
    let verdict = match report.problems.len() {
        0 => "nothing is wrong".to_string(),
        many => counted(many, "problem"),
    };
    let warnings = match report.warnings.len() {
        0 => String::new(),
        many => format!(", {}", counted(many, "warning")),
    };
    let read = if read.is_empty() { String::new() } else { format!(" ({})", read.join(", ")) };
    let _ = writeln!(out, "{verdict}{warnings}{read}");
    out
}

fn counted(many: usize, what: &str) -> String {
    format!("{many} {what}{}", if many == 1 { "" } else { "s" })
}
