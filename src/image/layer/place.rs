//! Where an entry of a layer ends up, by the rules on which all nodes agree.
//!
//! containerd unpacks a layer into an empty folder, which overlayfs puts over the lower ones, and the lowest one like
//! any archive (`containerd:pkg/archive/tar.go`, `core/diff/apply/apply_linux.go`). Other snapshotters, Docker's graph
//! drivers and CRI-O unpack into the merged tree. They differ if a layer writes through a link or a file, removes what
//! it adds itself, or removes something at the wrong time. All of that is refused: tools that pack a tree of files
//! write none of it.

use super::super::archive::{Fault, Kind, TarEntry, refused};
use super::super::malformed::short;
use super::super::{path, steps};
use super::{Content, Tree};
use crate::text;

/// Longest path, and longest part of a path, in bytes (Linux `limits.h`, `PATH_MAX`, `NAME_MAX`).
const MAX_PATH: usize = 4095;
/// Most parts of a link's target. Build tools write up to twenty.
const MAX_TARGET_PARTS: usize = 64;
const MAX_NAME: usize = 255;

/// Prefix of an entry that removes a file of the layers below (OCI image-spec `layer.md`, "Whiteouts").
const WHITEOUT: &str = ".wh.";
/// Entry that removes everything that the layers below have in its folder.
const OPAQUE: &str = ".wh..wh..opq";
/// Prefix that AUFS reserves for itself.
const AUFS: &str = ".wh..wh.";

/// The absolute path of an entry's name; `None` for the root.
pub(super) fn path(name: &str) -> Result<Option<String>, Fault> {
    if name.len() > MAX_PATH {
        return Err(refused(format!(
            "it holds a path of {} bytes; nodes take {MAX_PATH}, so shorten it",
            name.len()
        )));
    }
    let mut path = String::with_capacity(name.len() + 1);
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                return Err(refused(format!(
                    "`{}` climbs with `..`; pack the files by their own paths",
                    short(name)
                )));
            }
            part if part.len() > MAX_NAME => {
                return Err(refused(format!(
                    "it holds a file name of {} bytes; nodes take {MAX_NAME}, so shorten it",
                    part.len()
                )));
            }
            part => {
                path.push('/');
                path.push_str(part);
            }
        }
    }
    Ok((!path.is_empty()).then_some(path))
}

/// Tools that pack a whole folder write `./` first; nodes ignore it.
pub(super) fn root(entry: &TarEntry) -> Result<(), Fault> {
    if entry.kind == Kind::Folder {
        return Ok(());
    }
    Err(refused(format!("`{}` is the root of the image and no folder; pack it again", short(&entry.name))))
}

/// The target of a symbolic link, as written.
pub(super) fn target(entry: &TarEntry) -> Result<String, Fault> {
    if entry.target.len() > MAX_PATH {
        return Err(refused(format!(
            "the link `{}` has a target of more than {MAX_PATH} bytes; shorten it",
            short(&entry.name)
        )));
    }
    // Every part of a target is work each time that a path goes through the link.
    if entry.target.split('/').count() > MAX_TARGET_PARTS {
        return Err(refused(format!(
            "the link `{}` has a target of more than {MAX_TARGET_PARTS} parts; shorten it",
            short(&entry.name)
        )));
    }
    Ok(entry.target.clone())
}

impl Tree {
    /// Makes every folder above a path that no entry has made.
    pub(super) fn make_parents(&mut self, path: &str) -> Result<(), Fault> {
        let layer = self.layer;
        // The entry that wrote to the folder in this layer has made those above it, and none of them was removed since.
        if self.is_touched(path::split(path).0) {
            self.steps.take(1)?;
            return Ok(());
        }
        for (end, _) in path.match_indices('/').skip(1) {
            let Some(folder) = path.get(..end) else { continue };
            self.steps.take(steps::of_path(folder))?;
            if self.removed.contains(folder) {
                return Err(removed_and_written(folder));
            }
            match self.nodes.get_mut(folder).map(|node| &mut node.content) {
                Some(Content::Folder { touched }) => *touched = layer,
                Some(Content::Link(_)) => {
                    return Err(refused(format!(
                        "`{}` lies under `{}`, which is a link, so nodes do not agree on the file that it writes; \
                         pack it under the path that the link leads to",
                        short(path),
                        short(folder)
                    )));
                }
                Some(_) => {
                    return Err(refused(format!(
                        "`{}` lies under `{}`, which is not a folder; remove that file in the build",
                        short(path),
                        short(folder)
                    )));
                }
                None if path::split(folder).1.starts_with(WHITEOUT) => {
                    return Err(refused(format!(
                        "`{}` is a folder with the name of a whiteout; rename it",
                        short(folder)
                    )));
                }
                None => {
                    let mode = self.folder_modes.of_implied(folder);
                    self.insert(folder, mode, Content::Folder { touched: layer })?;
                }
            }
        }
        Ok(())
    }

    /// What some nodes do not find at its name must change nothing that was there before, since that stays there then. A folder in
    /// the place of a folder changes its mode alone, which is not known then.
    pub(super) fn check_missed(&self, path: &str, entry: &TarEntry) -> Result<(), Fault> {
        let is_folder = |content: &Content| matches!(content, Content::Folder { .. });
        let replaces = || {
            let node = self.nodes.get(path);
            node.is_some_and(|node| entry.kind != Kind::Folder || !is_folder(&node.content))
        };
        if !entry.missed || !(replaces() || path::split(path).1.starts_with(WHITEOUT)) {
            return Ok(());
        }
        Err(refused(format!(
            "`{}` replaces or removes a file by an entry without a type or with times of access, which some nodes do not find \
             there; pack it with `tar --format=pax`",
            short(path)
        )))
    }

    /// Whether an entry is a whiteout; if so, applies it.
    pub(super) fn is_whiteout(&mut self, path: &str, entry: &TarEntry) -> Result<bool, Fault> {
        let (folder, base) = path::split(path);
        let Some(name) = base.strip_prefix(WHITEOUT) else { return Ok(false) };
        if entry.kind != Kind::File || entry.size > 0 {
            return Err(refused(format!(
                "`{}` has the name of a whiteout and is not an empty file; rename it",
                short(path)
            )));
        }
        if self.layer == 1 {
            return Err(refused(format!(
                "`{}` removes something in the lowest layer, where nothing lies below; build the image without it",
                short(path)
            )));
        }
        let touched = self.is_touched(folder);
        self.make_parents(path)?;
        match name {
            _ if base == OPAQUE => self.empty(folder, touched)?,
            "" | "." | ".." => {
                return Err(refused(format!(
                    "it holds the whiteout `{base}`, which names nothing; leave it out"
                )));
            }
            _ if base.starts_with(AUFS) => {
                return Err(refused(format!(
                    "it holds `{base}`, which only AUFS understands; build the image again"
                )));
            }
            name => self.white_out(&text::clean_path(&path::join(folder, name)))?,
        }
        Ok(true)
    }

    /// Applies an opaque whiteout, which hides the folders of the same path below. Nodes agree on the result only if
    /// the layer has added nothing there before, and never for the root, for which overlayfs ignores it.
    fn empty(&mut self, folder: &str, touched: bool) -> Result<(), Fault> {
        if folder == "/" || touched {
            return Err(refused(format!(
                "`{OPAQUE}` empties `{}`, which is the root or was written to before in the same layer; build the \
                 layer again with a current tool",
                short(folder)
            )));
        }
        self.remove_below(folder)
    }

    fn white_out(&mut self, path: &str) -> Result<(), Fault> {
        if self.is_written(path) || self.removed.contains(path) {
            return Err(removed_and_written(path));
        }
        self.remove(path)?;
        self.note_removed(path)
    }

    /// Whether the current layer has an entry at a path, or something below it.
    fn is_written(&self, path: &str) -> bool {
        self.nodes.get(path).is_some_and(|node| node.layer == self.layer) || self.is_touched(path)
    }

    /// Whether the current layer has something below a path.
    fn is_touched(&self, path: &str) -> bool {
        let content = self.nodes.get(path).map(|node| &node.content);
        matches!(content, Some(Content::Folder { touched }) if *touched == self.layer)
    }

    pub(super) fn make_folder(&mut self, path: &str, mode: u32) -> Result<(), Fault> {
        self.steps.take(1)?;
        if self.removed.contains(path) {
            return Err(removed_and_written(path));
        }
        if path::split(path).1.starts_with(WHITEOUT) {
            return Err(refused(format!(
                "`{}` is a folder with the name of a whiteout; rename it",
                short(path)
            )));
        }
        let layer = self.layer;
        match self.nodes.get_mut(path) {
            Some(node) if matches!(node.content, Content::Folder { .. }) => {
                (node.layer, node.mode) = (layer, mode);
                Ok(())
            }
            Some(node) if node.layer == layer => Err(two_things(path)),
            _ => self.insert(path, mode, Content::Folder { touched: 0 }),
        }
    }

    /// Removes what a file or link replaces. A layer may have one twice, as in an archive that was appended to; all
    /// nodes take the last one.
    pub(super) fn replace(&mut self, path: &str, new: &Content) -> Result<(), Fault> {
        self.steps.take(1)?;
        if self.removed.contains(path) {
            return Err(removed_and_written(path));
        }
        let Some(node) = self.nodes.get(path) else { return Ok(()) };
        if self.is_written(path) && sort(&node.content) != sort(new) {
            return Err(two_things(path));
        }
        // Nodes in a user namespace skip devices (`containerd:pkg/archive/tar_unix.go`, `skipFile`).
        if matches!(new, Content::Special) {
            return Err(refused(format!(
                "it puts a device or a pipe in the place of `{}`; remove that with a whiteout instead",
                short(path)
            )));
        }
        self.remove(path)
    }

    /// The file to which a hard link is another name: an earlier file of the same layer, since nodes look nowhere else.
    /// Both names share one mode, that of the last entry.
    pub(super) fn linked(&mut self, entry: &TarEntry) -> Result<Content, Fault> {
        self.steps.take(1)?;
        let (name, target) = (&entry.name, &entry.target);
        let found = path(target)?.and_then(|path| self.nodes.get(&path));
        let found =
            found.filter(|node| node.layer == self.layer && !matches!(node.content, Content::Folder { .. }));
        match found {
            // The mode of a symbolic link is meaningless.
            Some(node) if node.mode == entry.mode || matches!(node.content, Content::Link(_)) => {
                Ok(node.content.clone())
            }
            Some(_) => Err(refused(format!(
                "the hard link `{}` has another mode than `{}`, which is the same file; pack it again",
                short(name),
                short(target)
            ))),
            None => Err(refused(format!(
                "the hard link `{}` leads to `{}`, which is not a file that its layer brings before it; pack the \
                 file itself",
                short(name),
                short(target)
            ))),
        }
    }
}

fn sort(content: &Content) -> u8 {
    match content {
        Content::Folder { .. } => 0,
        Content::Link(_) => 1,
        Content::Special => 2,
        _ => 3,
    }
}

fn removed_and_written(path: &str) -> Fault {
    refused(format!(
        "one layer removes `{}` and brings it too; build it again with a current tool",
        short(path)
    ))
}

fn two_things(path: &str) -> Fault {
    refused(format!("one layer brings `{}` twice, as different things; pack it again", short(path)))
}
