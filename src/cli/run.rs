//! Runs the chosen command.

use std::ffi::OsStr;
use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::{
    Args, Command, Error, Exit, check, diff, explain, inspect, policy, print, replay, scan, serve, suggest,
};

/// The name of a program that kubectl runs as `kubectl wasmgate` (`kubernetes/kubectl:pkg/cmd/plugin/plugin.go`).
const PLUGIN: &str = "kubectl-wasmgate";

/// Parses the command line and runs the command. Argument errors exit with 2 and `--help` with 0, as clap does.
pub fn run() -> Result<Exit, Error> {
    let args = parse();
    match args.command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "wasmgate", &mut script);
            print(&script).map(|()| Exit::Success)
        }
        Command::Man { folder } => pages(&folder).map(|()| Exit::Success),
        Command::Serve(options) => block_on(serve::run(options)),
        Command::Explain(options) => block_on(explain::run(options)),
        Command::Suggest(options) => block_on(suggest::run(options)),
        Command::Check(options) => block_on(check::run(options)),
        Command::Replay(options) => block_on(replay::run(options)),
        Command::Scan(options) => block_on(scan::run(options)),
        Command::Diff(options) => block_on(diff::run(options)),
        Command::Inspect(options) => block_on(inspect::run(options)),
        Command::Policy { command } => block_on(policy::run(command)),
    }
}

/// The arguments. Help and messages name the program as it was called: by kubectl, or by its own name.
fn parse() -> Args {
    let called = std::env::args_os().next();
    let matches = command(called.as_deref()).get_matches();
    Args::from_arg_matches(&matches)
        .unwrap_or_else(|error| error.format(&mut command(called.as_deref())).exit())
}

fn command(called: Option<&OsStr>) -> clap::Command {
    let by_kubectl = called.and_then(|name| Path::new(name).file_stem()).is_some_and(|name| name == PLUGIN);
    Args::command().bin_name(if by_kubectl { "kubectl wasmgate" } else { "wasmgate" })
}

/// Writes a man page for each command into a folder.
fn pages(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::WriteBundle { path: folder.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Args::command(), folder).map_err(failed)
}

fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::StartRuntime)?;
    let outcome = runtime.block_on(work);
    // An abandoned look-up must not delay the end of the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    outcome
}
