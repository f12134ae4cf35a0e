//! The files by which all containers of a pod resolve names: one of each, which is mounted into every container.

use super::RuntimeHost;
use super::privileges::may_act_as_root;
use crate::capability::{Access, Capability, Entry, path};
use crate::image::entry::Leads;

/// The kubelet writes the first anew whenever a container starts, and mounts it writable whatever `readOnlyRootFilesystem` says
/// (`kubernetes:pkg/kubelet/kubelet_pods.go`, `makeHostsMount`, `ensureHostsFile`). The container runtime writes the second once for each
/// pod (`containerd:internal/cri/server/podsandbox/sandbox_run_linux.go`). Both belong to root.
pub(super) const OF_POD: [&str; 2] = [HOSTS, RESOLVER];

/// That of the kubelet.
pub(super) const HOSTS: &str = "/etc/hosts";

/// That of the container runtime.
pub(super) const RESOLVER: &str = "/etc/resolv.conf";

/// Those of them that are in a folder of the container, or may be, and where links of the image lead them.
pub(super) fn below(host: &RuntimeHost<'_>, folder: &str) -> Vec<(&'static str, String)> {
    let place = |file: &'static str| match host.leads(file) {
        Leads::To(place) => path::covers(folder, &place).then_some((file, place)),
        Leads::Anywhere => Some((file, file.to_string())),
    };
    OF_POD.into_iter().filter_map(place).collect()
}

/// Those of them that a program may write which is handed this folder and opens files. They are not the image's own. Under a runtime
/// that opens all of `/` nothing is said of them: there a program needs a grant for the process that runs it, and more than that is in it; and
/// where the shim hides that process, most programs that open files would need a grant for what they do not touch.
pub(super) fn writable(host: &RuntimeHost<'_>, folder: &str) -> Vec<Entry> {
    if path::covers(folder, "/") || !may_act_as_root(host.pod.spec(), host.pod.security()) {
        return Vec::new();
    }
    let is_read_only = host.pod.root_access() == Access::ReadOnly;
    // A volume of the pod there has an entry of its own.
    let is_volume = |place: &str| host.pod.mounts().iter().any(|mount| mount.path.as_deref() == Some(place));
    let found = below(host, folder).into_iter();
    let found =
        found.filter(|(file, place)| !(is_volume(place.as_str()) || is_read_only && *file == RESOLVER));
    let entry = |(file, place): (&str, String)| {
        let why = format!(
            "{} opens {folder}; {file} is one file for all containers of the pod, which resolve names by it",
            host.runtime()
        );
        Entry::new(Capability::Fs, why).at_path(place, Access::ReadWrite)
    };
    found.map(entry).collect()
}
