//! Programs of a container that a process in it may find by their names, such as that of the Spin shim.

use super::RuntimeHost;
use crate::capability::path::covers;
use crate::image::entry::{Leads, SEARCH_PATH, TOKEN_FOLDER, kernel_tree};
use crate::image::names::is_of_programs;
use crate::image::{FileClass, path};

/// Trees that hold folders of programs in the `PATH` of containerd on some nodes: of Flatcar, of snaps, and of k3s and RKE2. A shim keeps
/// this `PATH` where the container sets none.
const OF_NODES: [&str; 3] = ["/opt/bin", "/snap/bin", "/var/lib/rancher"];
/// Most folders of a `PATH` that are looked at one by one.
const MAX_FOLDERS: usize = 64;

/// Whether a search for one of these names may find a program: in the image, or in a volume. What a volume holds is not known, and every kind
/// of volume can hold a program: files of a ConfigMap can be executable, too.
pub(super) fn may_find(host: &RuntimeHost<'_>, names: &[&str]) -> bool {
    let is_named = |at: &str| names.contains(&path::split(at).1);
    let cannot_start = |class: &FileClass| {
        matches!(class, FileClass::Wasm | FileClass::Other | FileClass::Data | FileClass::Unreadable { .. })
    };
    if host.facts.files.iter().any(|(name, class)| is_named(name) && !cannot_start(class)) {
        return true;
    }
    let folders = search_path(host);
    let is_shared = |folder: &&str| match host.leads(folder) {
        Leads::To(at) => kernel_tree(&at).is_some(),
        Leads::Anywhere => true,
    };
    // What another container wrote into the memory that a pod shares, or has behind `/proc`, needs no volume.
    let spec = host.pod.spec();
    let others =
        spec.init_containers.iter().flatten().count() + spec.ephemeral_containers.iter().flatten().count();
    if spec.containers.len() + others > 1 && folders.as_ref().is_none_or(|all| all.iter().any(is_shared)) {
        return true;
    }
    let mounts = host.pod.mounts().iter().filter_map(|mount| mount.path.as_deref());
    let mut volumes = mounts.filter(|at| *at != TOKEN_FOLDER).peekable();
    if volumes.peek().is_none() {
        return false;
    }
    let Some(folders) = folders else { return true };
    let of_node = |at: &str| OF_NODES.iter().any(|tree| covers(at, tree) || covers(tree, at));
    volumes.any(|at| is_named(at) || is_of_programs(at) || of_node(at))
        || folders.iter().any(|folder| names.iter().any(|name| is_in_volume(host, &path::join(folder, name))))
}

/// Whether a file at this path, or where links of the image lead from there, may be one of a volume.
fn is_in_volume(host: &RuntimeHost<'_>, at: &str) -> bool {
    let Leads::To(place) = host.leads(at) else { return true };
    let is_above = |tree: &str| tree != TOKEN_FOLDER && covers(tree, &place);
    host.pod.touching(&place).iter().any(|mount| mount.path.as_deref().is_some_and(is_above))
}

/// The folders that are searched, which is those of the process itself where neither pod nor image sets a `PATH`; `None` if it is not
/// known which they are.
fn search_path<'h>(host: &RuntimeHost<'h>) -> Option<Vec<&'h str>> {
    let written = if host.pod.may_set("PATH").is_some() {
        host.pod.literal("PATH")?
    } else if host.is_set_by_image("PATH") {
        host.facts.search_path.as_deref()?
    } else {
        return Some(SEARCH_PATH.to_vec());
    };
    let folders: Vec<&str> = written.split(':').take(MAX_FOLDERS + 1).collect();
    // Any other, an empty one as well, is below the working directory.
    let is_absolute = |folder: &&str| folder.starts_with('/');
    (folders.len() <= MAX_FOLDERS && folders.iter().all(is_absolute)).then_some(folders)
}
