//! `wasmgate policy`: what authors of rules need, on the engine that will run them. Rego is parsed, typed and compiled by
//! the author's own `opa`; what runs in the gate is tried on the gate's engine.

pub mod analysis;
pub mod annotate;
pub mod archive;
pub mod bench;
pub mod bounded;
pub mod build;
pub mod case;
pub mod cases;
pub mod check;
pub mod coverage;
pub mod findings;
pub mod fixtures;
pub mod junit;
pub mod left_out;
pub mod new;
pub mod opa;
pub mod plan;
pub mod regal;
pub mod rego_version;
pub mod result;
pub mod runs;
pub mod sign;
pub mod temporary;
pub mod test;
pub mod transfer;
pub mod trial;
pub mod watch;

use super::args::PolicyCommand;
use super::{Error, Exit, print};
use opa::CAPABILITIES;

/// Runs one of its commands.
pub async fn run(command: PolicyCommand) -> Result<Exit, Error> {
    match command {
        PolicyCommand::New(options) => new::run(&options),
        PolicyCommand::Check(options) => check::run(&options).await,
        PolicyCommand::Build(options) => build::run(&options).await,
        PolicyCommand::Test(options) if options.watch => Box::pin(watch::run(&options)).await,
        PolicyCommand::Test(options) => Box::pin(test::run(&options)).await,
        PolicyCommand::Bench(options) => Box::pin(bench::run(&options)).await,
        PolicyCommand::Sign(options) => sign::sign(&options),
        PolicyCommand::Verify(options) => sign::verify(&options),
        PolicyCommand::Push(options) => transfer::push(&options).await,
        PolicyCommand::Pull(options) => transfer::pull(&options).await,
        PolicyCommand::Capabilities => print(CAPABILITIES.as_bytes()).map(|()| Exit::Success),
    }
}
