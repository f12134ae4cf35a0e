//! The result of a runtime's search for a program.

use crate::image::Program;
use crate::image::program;

/// The result of a runtime's search for a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// It starts this program, which may be unknown ([`Program::Unknown`]).
    Starts(Program),
    /// It starts nothing, so the container fails; with the reason.
    Nothing(String),
}

impl Choice {
    /// Something may start, but it is unknown what; with the reason.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Starts(program::unknown(reason))
    }
}
