//! The configuration: reads and checks the file and the flags, and makes [`Settings`] of them.

mod check;
pub mod file;
pub mod kubernetes;
mod load;
mod message;
mod page;
mod partial;
pub mod settings;
mod value;

pub use check::is_label;
pub use file::{File, OFF};
pub use kubernetes::Kubernetes;
pub use load::{lacks_policy, load, parse, text_of};
pub use message::ParseProblem;
pub use page::PageSettings;
pub use partial::parse_in_part;
pub use settings::{Overrides, Settings, resolve, resolve_in_part};

use thiserror::Error;

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
