//! The `wasmgate` binary.

use std::process::ExitCode;

use wasmgate::cli::{self, Exit};
use wasmgate::text;

/// Reviews allocate and free many small values, and the system allocator of a musl image is several times slower at
/// that. `benches/allocators` compares them.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Denied | Exit::Invalid | Exit::Added | Exit::Changed) => ExitCode::from(1),
        Ok(Exit::Unreadable) => ExitCode::from(2),
        Ok(Exit::Unread) => ExitCode::from(3),
        Err(error) if error.was_aborted() => ExitCode::from(130),
        Err(error) => {
            // The message may contain foreign names; its own line breaks stay.
            anstream::eprintln!("wasmgate: {}", text::without_commands(&text::lines(&error.message())));
            ExitCode::from(2)
        }
    }
}
