//! The files of a root file system after all its layers: layers are read as streams, lowest first, and nothing is
//! written to disk.

use std::io::{BufRead, Read};
use std::sync::Arc;

use super::archive::{self, Compression, Fault, Kind, TarEntry, UnpackBudget, Visitor};
use super::{checkpoint, path};
use modes::FolderModes;
use tree::{Content, Node};

pub use content::{MAX_APPLICATION_FILE, MAX_APPLICATION_FILES};
pub use tree::{ALL_LAYERS, Files, MAX_FILE_MODULES, MAX_NODES, MAX_PATHS, Tree, UnpackLimits};

mod content;
mod modes;
mod place;
mod reach;
mod tree;

impl Tree {
    /// Applies the next layer, and returns the digest of the unpacked layer. After an error the tree must not be used.
    pub fn apply(&mut self, layer: impl BufRead, compression: Compression) -> Result<String, Fault> {
        self.layer += 1;
        self.forget_removed();
        let allowed = self.bounds.layer.min(self.left);
        let stop = Arc::clone(&self.stop);
        let mut budget = UnpackBudget::new(allowed, &stop);
        let result = archive::read(layer, compression, &mut budget, self);
        self.left = self.left.saturating_sub(allowed.saturating_sub(budget.left()));
        match result {
            Err(Fault::TooLarge) if allowed < self.bounds.layer => Err(Fault::TooLargeTogether),
            result => result,
        }
    }

    /// Where links lead from a path; `None` for a loop.
    fn resolve(&self, name: &str) -> Option<String> {
        path::resolve(name, true, |at| reach::link(&self.nodes, at))
    }
}

impl Visitor for Tree {
    fn visit(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<(), Fault> {
        let Some(path) = place::path(&entry.name)? else {
            self.folder_modes.enter_root(entry.mode);
            return place::root(entry);
        };
        checkpoint::refuse_file(&path)?;
        self.check_missed(&path, entry)?;
        if self.is_whiteout(&path, entry)? {
            return Ok(());
        }
        self.make_parents(&path)?;
        if entry.kind == Kind::Folder {
            return self.make_folder(&path, FolderModes::of_entry(entry.mode, entry.missed));
        }
        let content = match entry.kind {
            Kind::HardLink => content::under(&path, self.linked(entry)?),
            Kind::Symlink => Content::Link(place::target(entry)?),
            Kind::Special => Content::Special,
            Kind::File | Kind::Folder => self.regular(&path, entry, content)?,
        };
        self.replace(&path, &content)?;
        self.insert(&path, entry.mode, content)
    }
}

#[cfg(test)]
mod tests;
