//! What is known of the modes of the folders through which a search in a usual `PATH` comes to a program.

use std::collections::BTreeSet;

use super::super::names::EVERY_PATH;
use super::super::path;

/// The mode of a folder of which none is known. It lets no user in, so that no search is sure to come to what is below.
const UNKNOWN: u32 = 0;
/// The mode of a folder that no layer had before.
const IMPLIED: u32 = 0o755;

/// What layers had at the paths of these folders, and later ones hid.
///
/// containerd makes a folder for which a layer has no entry with the mode and the owner that it has in the first lower layer, from the
/// top, that has one, behind the links of that layer (`containerd:pkg/archive/tar.go`, `mkparent`). It looks into each layer by itself,
/// and so finds what an opaque marker, or a folder in the place of a link, has hidden from the merged tree. Other tools make it anew.
#[derive(Debug, Default)]
pub(super) struct FolderModes {
    folders: BTreeSet<String>,
    links: BTreeSet<String>,
    closed_root: bool,
}

impl FolderModes {
    /// A folder that the merged tree no longer has. Of all paths only those of [`EVERY_PATH`] and above are kept, which are four.
    pub(super) fn hide_folder(&mut self, path: &str) {
        if leads_to_programs(path) {
            self.folders.insert(path.to_string());
        }
    }

    /// The same of a link.
    pub(super) fn hide_link(&mut self, path: &str) {
        if leads_to_programs(path) {
            self.links.insert(path.to_string());
        }
    }

    /// The mode of a folder that a layer has no entry for, and the merged tree does not have.
    pub(super) fn of_implied(&self, folder: &str) -> u32 {
        let hidden = self.folders.contains(folder)
            || self.links.iter().any(|link| link.as_str() == folder || path::is_below(folder, link));
        if hidden { UNKNOWN } else { IMPLIED }
    }

    /// The mode that an entry gives a folder. One that some nodes do not find at its name gives it none there.
    pub(super) fn of_entry(mode: u32, missed: bool) -> u32 {
        if missed { UNKNOWN } else { mode }
    }

    /// Takes the mode of an entry for the root, which containerd leaves out, and CRI-O applies
    /// (`containers/storage:pkg/archive/archive.go`, `Unpack`).
    pub(super) fn enter_root(&mut self, mode: u32) {
        self.closed_root |= !is_open(mode);
    }

    /// Whether every user may enter the root on every node.
    pub(super) fn is_root_open(&self) -> bool {
        !self.closed_root
    }
}

/// Whether every user may enter a folder of this mode, its owner and its group too.
pub(super) fn is_open(mode: u32) -> bool {
    mode & 0o111 == 0o111
}

/// Whether a search comes through this folder on its way to a program of [`EVERY_PATH`].
fn leads_to_programs(folder: &str) -> bool {
    EVERY_PATH.into_iter().any(|programs| programs == folder || path::is_below(programs, folder))
}
