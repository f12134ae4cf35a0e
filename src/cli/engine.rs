//! The policy engine of a command, and the folder in which it keeps what it compiled.

use std::env;
use std::path::PathBuf;

use super::Error;
use super::args::GateOptions;
use crate::config::{OFF, Overrides, Settings};
use crate::policy::{self, CompiledFolder, Engine};
use crate::text;

/// The engine of a gate that serves.
pub fn serving(settings: &Settings) -> Result<Engine, Error> {
    let folder = settings.file.policies.compiled_folder().map(CompiledFolder::open);
    let folder = folder.and_then(|opened| {
        opened.inspect_err(|error| tracing::warn!(%error, "compiled policies are not kept on disk")).ok()
    });
    Ok(Engine::new()?.keeping(folder).remembering(settings.file.policies.verdict_cache_bytes))
}

/// The engine of every other command.
pub fn for_command(settings: &Settings) -> Result<Engine, Error> {
    let folder = settings.file.policies.compiled_folder().map(CompiledFolder::open);
    Ok(Engine::for_command()?.keeping(folder.and_then(|opened| opened.inspect_err(warn).ok())))
}

/// The command goes on, and takes longer.
fn warn(error: &policy::Error) {
    super::warn(&text::line(&error.to_string()));
}

/// The flags of a command that does not serve: its policies are kept where a person's caches are, wherever the gate of the configuration
/// keeps its own.
pub fn with_own_folder(options: &GateOptions, more: Overrides) -> Overrides {
    let folder = options.compiled_dir.clone().or_else(own_folder);
    Overrides { compiled_dir: Some(folder.unwrap_or_else(|| OFF.into())), ..more }
}

/// The folder for compiled policies by the XDG Base Directory Specification; none for a user without a home.
fn own_folder() -> Option<PathBuf> {
    // A relative path is to be ignored.
    let named = |name| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let caches = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    Some(caches?.join("wasmgate/compiled"))
}
