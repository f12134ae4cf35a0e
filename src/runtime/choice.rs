//! What a runtime's own search for a program comes to.

use crate::image::Program;
use crate::image::program;

/// The outcome of a runtime's search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// It starts this, or something of which nothing can be said ([`Program::Unknown`]).
    Starts(Program),
    /// It starts nothing: the container fails, and this is why.
    Nothing(String),
}

impl Choice {
    /// Something may start, and nothing can be said of it but why.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Starts(program::unknown(reason))
    }
}
