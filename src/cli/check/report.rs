//! The report of `check`: problems with their places, from the errors of every module, and how they are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::Error;
use crate::cli::render::counted;
use crate::grant::load::Checked;
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

/// What `checked` calls the built-in rules; there is only one such bundle.
pub(super) const BUILT_IN_RULES: &str = "built-in baseline";

impl Problem {
    /// The problem of a field of a configuration.
    pub(super) fn of_configuration(origin: &str, error: &config::Error) -> Self {
        let message = text::lines(&text::chain(error)).into_owned();
        match error {
            config::Error::CheckField { field, value, message } => Self {
                field: Some(field.clone()),
                value: Some(value.clone()),
                ..Self::new(origin, message.clone())
            },
            config::Error::ParseFile { problem, .. } => Self {
                field: Some(problem.field.clone()).filter(|field| !field.is_empty()),
                value: problem.value.clone(),
                repeats_value: true,
                ..Self::new(origin, problem.to_string())
            },
            config::Error::ReadFile { .. } | config::Error::CheckFields { .. } => Self::new(origin, message),
        }
    }

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
    /// What can be loaded and has no effect, and what cannot be known because something else is wrong.
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

    /// Adds the problem of a configuration, or those of all its fields.
    pub(super) fn configuration(&mut self, origin: &str, error: &config::Error) {
        let problem = |error| Problem::of_configuration(origin, error);
        match error {
            // The problems of fields hold no further list.
            config::Error::CheckFields { problems } => self.problems.extend(problems.iter().map(problem)),
            other => self.problems.push(problem(other)),
        }
    }

    /// Adds the problem of a rule that no bundle has; a warning if not all bundles could be loaded.
    pub(super) fn unknown_rule(&mut self, mut problem: Problem, all_loaded: bool) {
        if all_loaded {
            return self.problems.push(problem);
        }
        if let Some(rule) = &problem.value {
            problem.message =
                format!("`{rule}` may be unknown, since not all bundles were loaded: {}", problem.message);
            problem.repeats_value = true;
        }
        self.warnings.push(problem);
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
            Error::NoKind { path, .. } => {
                self.problem(path, "not a Kubernetes object: it has no `kind`".into());
            }
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
        text::hanging(&format!("{origin}{field}{value}: {word}{message}"))
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
    let read: Vec<_> = read
        .map(|(what, many)| match *what {
            BUILT_IN_RULES => format!("the {BUILT_IN_RULES}"),
            what => format!("{what}: {many}"),
        })
        .collect();
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

/// Counts a grant or an exception.
pub(super) fn count_granted(object: &Checked, report: &mut Report) {
    match object {
        Checked::Grant(_) => report.count("grants", 1),
        Checked::Exception(_) => report.count("exceptions", 1),
    }
}
