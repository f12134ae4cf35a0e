//! youki's wasmtime executor (`youki:crates/youki/src/workload/wasmtime.rs`): stdio, variables and arguments, and nothing
//! else.

use super::{Host, runwasi};
use crate::capability::Entry;

/// What a core module gets.
pub(super) fn wasmtime(host: &Host<'_>) -> Vec<Entry> {
    let mut entries = runwasi::basics(host);
    entries.extend(host.variables());
    entries.extend(host.pod.secret_arguments());
    entries
}
