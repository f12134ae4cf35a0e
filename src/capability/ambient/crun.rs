//! crun's other handlers (`crun:src/libcrun/handlers/{wasmtime,wasmer,wamr}.c`). One build of crun has one or more of them,
//! so a RuntimeClass that leads to crun says nothing by itself: the platform's configuration says which one it is.

use super::{Host, runwasi};
use crate::capability::{Access, Capability, Entry, path};

/// wasmtime: all variables and arguments, the working directory opened as `.`, no sockets.
pub(super) fn wasmtime(host: &Host<'_>) -> Vec<Entry> {
    let mut entries = runwasi::basics(host);
    entries.extend(working_directory(host));
    entries.extend(host.variables());
    entries.extend(host.pod.secret_arguments());
    entries
}

/// wasmer: no variables, no files, no network, and the arguments joined to one.
pub(super) fn wasmer(host: &Host<'_>) -> Vec<Entry> {
    runwasi::basics(host).into_iter().chain(host.pod.secret_arguments()).collect()
}

/// WAMR: variables, arguments, `/`, and an address pool of `0.0.0.0/0` and `::/0` with look-ups of any name.
pub(super) fn wamr(host: &Host<'_>) -> Vec<Entry> {
    runwasi::command(host, true)
}

/// The tree below the container's working directory, and the mounts in it. Where it lies in a mount, it is a part of that.
fn working_directory(host: &Host<'_>) -> Vec<Entry> {
    let directory = path::clean(host.pod.working_dir().unwrap_or(&host.facts.working_dir));
    let opened = format!("{} opens the working directory {directory}", host.runtime());
    let at = |entry: &Entry| entry.path.clone().unwrap_or_default();
    let (mut below, around): (Vec<Entry>, Vec<Entry>) = host
        .pod
        .mounts()
        .into_iter()
        .filter(|mount| path::covers(&directory, &at(mount)) || path::covers(&at(mount), &directory))
        .partition(|mount| path::covers(&directory, &at(mount)));
    // A mount at exactly the working directory stands for it, as the innermost of those around it does.
    let exact = below.iter().any(|mount| at(mount) == directory);
    match around.into_iter().max_by_key(|mount| at(mount).len()) {
        _ if exact => {}
        Some(mut mount) => {
            mount.path = Some(directory.clone());
            below.push(mount);
        }
        None => {
            let access = host.pod.root_access();
            below.push(Entry::new(Capability::Fs, &*opened).at_path(&*directory, access).mark_own(true));
        }
    }
    let log = host.pod.termination_log();
    if path::covers(&directory, &log) && log != directory {
        let why = format!("{opened}; terminationMessagePath, mounted by the kubelet");
        below.push(Entry::new(Capability::Fs, why).at_path(log, Access::ReadWrite).mark_own(true));
    }
    for mount in below.iter_mut().filter(|entry| !entry.own) {
        mount.evidence.push(opened.clone());
    }
    below
}
