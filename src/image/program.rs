//! To be filled.

use super::{ImageFacts, Program};

/// What a container starts from an image, after `command` and `args` replaced its Entrypoint and Cmd.
pub fn program(_facts: &ImageFacts, _command: &[String], _args: &[String]) -> Program {
    Program::Linux
}
