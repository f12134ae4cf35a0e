//! WasmEdge, behind runwasi's shim (`runwasi:crates/containerd-shim-wasmedge/src/instance.rs`) and in crun
//! (`crun:src/libcrun/handlers/wasmedge.c`): both open `/` and have WasmEdge's own sockets, which need no permission.

use super::{Host, runwasi};
use crate::capability::{Capability, Entry};

/// What a core module gets.
pub(super) fn module(host: &Host<'_>) -> Vec<Entry> {
    let mut entries = runwasi::command(host, true);
    // Plug-ins of the node answer these; which ones are installed there is not known here.
    let plugin = format!("{}: a WasmEdge plug-in of the node may provide it", host.runtime());
    entries.push(Entry::new(Capability::Nn, plugin));
    entries
}

/// What is loaded beside the module: runwasi's shim sets every `WASMEDGE_*` variable of the container in its own process, and
/// crun runs WasmEdge in the container's own process, where they are set anyway.
pub(super) fn process(host: &Host<'_>) -> Vec<Entry> {
    let why = format!("{} loads the plug-ins that the container's WASMEDGE_* variables name", host.runtime());
    vec![Entry::new(Capability::NativePlugin, why)]
}
