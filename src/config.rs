//! The configuration: reads and checks the file and the flags, and makes [`Settings`] of them.

mod check;
pub mod file;
pub mod kubernetes;
mod message;
mod partial;
pub mod settings;
mod value;

pub use check::is_label;
pub use file::{File, OFF};
pub use kubernetes::Kubernetes;
pub use message::ParseProblem;
pub use partial::parse_in_part;
pub use settings::{Overrides, Settings, resolve, resolve_in_part};

use std::path::Path;

use serde::Deserialize;
use thiserror::Error;

use crate::text;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("could not read the configuration `{path}`: {source}")]
    ReadFile {
        /// The file.
        path: String,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("could not read the configuration `{path}`: {problem}")]
    ParseFile {
        /// The file.
        path: String,
        /// Place and reason.
        problem: ParseProblem,
    },
    /// A field holds a value that cannot be used.
    #[error("`{field}` cannot be `{value}`: {message}")]
    CheckField {
        /// Path of the field, or the flag.
        field: String,
        /// The value.
        value: String,
        /// What is allowed.
        message: String,
    },
    /// Several fields hold values that cannot be used.
    #[error("{}", joined(.problems))]
    CheckFields {
        /// The problems, in the order of the checks.
        problems: Vec<Self>,
    },
}

impl Error {
    /// Whether the error is about a field of this section.
    #[must_use]
    pub fn is_about(&self, section: &str) -> bool {
        let field = match self {
            Self::ParseFile { problem, .. } => &problem.field,
            Self::CheckField { field, .. } => field,
            Self::ReadFile { .. } | Self::CheckFields { .. } => return false,
        };
        field.split(['.', '[']).next() == Some(section)
    }

    /// The same error without the line and column of a text that the user did not write.
    #[must_use]
    pub fn without_place(self) -> Self {
        match self {
            Self::ParseFile { path, problem } => {
                Self::ParseFile { path, problem: ParseProblem { place: None, ..problem } }
            }
            other => other,
        }
    }
}

fn joined(problems: &[Error]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Reads and checks a configuration file; without a path, returns the embedded default.
pub fn load(path: Option<&Path>) -> Result<File, Error> {
    let Some(path) = path else { return Ok(File::default()) };
    parse(&path.display().to_string(), &text_of(path)?)
}

/// The text of a configuration file.
pub fn text_of(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|source| Error::ReadFile { path: path.display().to_string(), source })
}

/// Parses and checks the text of a configuration file; `name` is for messages.
pub fn parse(name: &str, text: &str) -> Result<File, Error> {
    let failed = |problem| Error::ParseFile { path: name.to_string(), problem };
    // The fields of another kind are not those of a configuration, so its kind is checked first.
    if let Ok(Head { api_version: Some(api_version), kind: Some(kind) }) = serde_saphyr::from_str(text)
        && (api_version != file::API_VERSION || kind != file::KIND)
    {
        return Err(failed(ParseProblem::of_document(format!(
            "expected apiVersion `{}` and kind `{}`, found `{}` and `{}`",
            file::API_VERSION,
            file::KIND,
            text::quoted(&api_version, LONGEST_NAME),
            text::quoted(&kind, LONGEST_NAME)
        ))));
    }
    let mut field = String::new();
    let read = serde_saphyr::with_deserializer_from_str(text, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            field = error.path().to_string();
            error.into_inner()
        })
    });
    read.map_err(|error| failed(message::of(&error, text, &field)))
}

/// Longest name that a message repeats, in characters.
const LONGEST_NAME: usize = 64;

/// What tells a configuration from other documents.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
}
