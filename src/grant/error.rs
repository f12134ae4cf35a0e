//! What is wrong with grants: a problem with its place, the list of all problems, and why loading failed.

use std::fmt;
use std::io;

use serde_json::Value;

/// One thing that is wrong with a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file and the document in it, counted from 1 without empty ones; without a file, the grant itself.
    pub origin: String,
    /// Path of the field, such as `spec.capabilities[0].hosts[1]`; empty for the document.
    pub field: String,
    /// The value of the field, when it is a single value and came from a document.
    pub value: Option<String>,
    /// What was written, what is wrong with it, and what to write instead.
    pub message: String,
}

impl Problem {
    /// A problem in a document, with the value that the field has there.
    pub(super) fn in_document(origin: &str, document: &Value, (field, message): FieldError) -> Self {
        let value = value_at(document, &field);
        Self { origin: origin.to_string(), field, value, message }
    }
}

/// The single value at a path such as `spec.capabilities[0].name`; `None` if there is none, or a list or an object.
fn value_at(document: &Value, field: &str) -> Option<String> {
    let mut at = document;
    for step in field.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        at = match at {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            holder => holder.get(step)?,
        };
    }
    match at {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(at.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.field.is_empty() { "" } else { ", " };
        write!(f, "{}{separator}{}: {}", self.origin, self.field, self.message)
    }
}

/// All problems, in the order of the documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The problems of objects that are sorted by their origin: those of each, and duplicates.
    pub(super) fn of<T>(
        sorted: &[T],
        origin: impl Fn(&T) -> String,
        check: impl Fn(&T) -> Vec<FieldError>,
    ) -> Self {
        let mut problems = Vec::new();
        for object in sorted {
            let problem = |(field, message)| Problem { origin: origin(object), field, value: None, message };
            problems.extend(check(object).into_iter().map(problem));
        }
        for pair in sorted.windows(2) {
            if let [a, b] = pair
                && origin(a) == origin(b)
            {
                let message = "given twice; rename one or remove it".into();
                problems.push(Problem {
                    origin: origin(b),
                    field: "metadata.name".into(),
                    value: None,
                    message,
                });
            }
        }
        Self(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The message stays readable; the list itself is complete.
        const SHOWN: usize = 20;
        for (index, problem) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Path of a field, and what is wrong with it.
pub(super) type FieldError = (String, String);

/// Why grants could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory could not be listed.
    #[error("could not list the grants directory `{directory}`: {source}")]
    ListDirectory {
        /// The directory.
        directory: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("could not read the grants file `{file}`: {source}")]
    ReadFile {
        /// The file.
        file: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A file is too large.
    #[error("could not read the grants file `{file}`: it is larger than {limit} bytes; split it")]
    LimitFile {
        /// The file.
        file: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is not YAML or JSON.
    #[error("could not parse `{origin}` as YAML or JSON: {message}")]
    ParseDocuments {
        /// The file.
        origin: String,
        /// What is wrong, with line and column.
        message: String,
    },
    /// Some grants are wrong, so none is loaded.
    #[error("could not accept the grants: {problems}")]
    CheckGrants {
        /// All problems.
        problems: Problems,
    },
}
