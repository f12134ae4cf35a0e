//! `wasmgate policy`: what authors of rules need, on the engine that will run them. Rego is parsed, typed and compiled by
//! the author's own `opa`; what runs in the gate is tried on the gate's engine.

pub mod build;
pub mod case;
pub mod check;
pub mod junit;
pub mod opa;
pub mod result;
pub mod test;
pub mod trial;

use super::args::PolicyCommand;
use super::{Error, Exit, print};
use opa::CAPABILITIES;

/// Runs one of its commands.
pub async fn run(command: PolicyCommand) -> Result<Exit, Error> {
    match command {
        PolicyCommand::Check(options) => check::run(&options).await,
        PolicyCommand::Build(options) => build::run(&options).await,
        PolicyCommand::Test(options) => test::run(&options).await,
        PolicyCommand::Capabilities => print(CAPABILITIES.as_bytes()).map(|()| Exit::Success),
    }
}
