//! The `wasmgate` binary.

use std::process::ExitCode;

use wasmgate::cli::{self, Exit};

/// Reviews allocate and free many small values, and the system allocator of a musl image is several times slower at
/// that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Denied | Exit::Invalid | Exit::Added) => ExitCode::from(1),
        Ok(Exit::Unread) => ExitCode::from(3),
        Err(error) if error.was_aborted() => ExitCode::from(130),
        Err(error) => {
            // The message may contain foreign names; its own line breaks stay.
            let message = cli::with_causes(&error);
            let lines: Vec<_> = message.lines().map(cli::render::safe).collect();
            anstream::eprintln!("wasmgate: {}", lines.join("\n"));
            ExitCode::from(2)
        }
    }
}
