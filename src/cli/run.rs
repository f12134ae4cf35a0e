//! Runs the chosen command.

use clap::{CommandFactory as _, Parser as _};

use super::{
    Args, Command, Error, Exit, check, diff, explain, inspect, policy, print, replay, scan, serve, suggest,
};

/// Parses the command line and runs the command. Argument errors exit with 2 and `--help` with 0, as clap does.
pub fn run() -> Result<Exit, Error> {
    let args = Args::parse();
    match args.command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "wasmgate", &mut script);
            print(&script).map(|()| Exit::Success)
        }
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

fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::StartRuntime)?;
    let outcome = runtime.block_on(work);
    // An abandoned look-up must not delay the end of the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    outcome
}
