//! The files of a root file system after all its layers: layers are read as streams, lowest first, and nothing is
//! written to disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::archive::{self, Compression, Fault, Kind, TarEntry, UnpackBudget, Visitor, refused};
use super::steps::Steps;
use super::{FileClass, ModuleFacts, path};

mod content;
mod place;
mod reach;

/// Most Wasm files that are read of one image; an image that runs one usually has one or two.
pub const MAX_FILE_MODULES: usize = 64;
/// Most files, folders and links of one image; a whole distribution has some ten thousand.
pub const MAX_NODES: usize = 200_000;
/// Most bytes of all paths and link targets together.
pub const MAX_PATHS: usize = 24 << 20;
/// How much all layers together may unpack to, as a multiple of the limit of one layer.
const ALL_LAYERS: u64 = 4;

/// Limits on what is unpacked, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct UnpackLimits {
    /// One layer; all layers together may unpack to four times as much.
    pub layer: u64,
    /// One Wasm file.
    pub file: u64,
}

/// What is at a path.
#[derive(Debug, Clone)]
enum Content {
    /// `touched` is the last layer that has something in it, at any depth.
    Folder {
        touched: usize,
    },
    Module(usize),
    Unreadable(String),
    Native(&'static str),
    Link(String),
    /// The manifest of an application, with its text.
    Text(Arc<[u8]>),
    /// Any other file.
    Other,
    /// A device or a pipe.
    Special,
}

#[derive(Debug, Clone)]
struct Node {
    layer: usize,
    mode: u32,
    content: Content,
}

impl Node {
    fn bytes(&self, path: &str) -> usize {
        match &self.content {
            Content::Link(target) => path.len() + target.len(),
            _ => path.len(),
        }
    }
}

/// A root file system after the layers that were applied.
#[derive(Debug)]
pub struct Tree {
    bounds: UnpackLimits,
    left: u64,
    layer: usize,
    wanted: BTreeSet<String>,
    nodes: BTreeMap<String, Node>,
    /// Bytes of the nodes' paths and of the targets of links.
    paths: usize,
    /// What the layer being applied removed from the layers below.
    removed: BTreeSet<String>,
    modules: Vec<ModuleFacts>,
    texts: usize,
    steps: Steps,
    stop: Arc<AtomicBool>,
}

/// The result of a scan, sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Wasm files, native programs, and all links.
    pub entries: Vec<(String, FileClass)>,
    /// Facts about the Wasm files; `source` is the path.
    pub modules: Vec<ModuleFacts>,
    /// Where links lead that are, or are in, folders of programs, if that is a folder or nothing.
    pub program_folders: Vec<String>,
}

impl Tree {
    /// An empty tree. Files at `wanted` paths are kept, whatever they are. Setting `stop` ends the work early with an
    /// error.
    pub fn new(
        bounds: UnpackLimits,
        wanted: impl IntoIterator<Item = String>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            bounds,
            left: bounds.layer.saturating_mul(ALL_LAYERS),
            layer: 0,
            wanted: wanted.into_iter().collect(),
            nodes: BTreeMap::new(),
            paths: 0,
            removed: BTreeSet::new(),
            modules: Vec::new(),
            texts: 0,
            steps: Steps::new(Arc::clone(&stop)),
            stop,
        }
    }

    /// Applies the next layer, and returns the digest of the unpacked layer. After an error the tree must not be used.
    pub fn apply(&mut self, layer: impl BufRead, compression: Compression) -> Result<String, Fault> {
        self.layer += 1;
        self.removed.clear();
        let allowed = self.bounds.layer.min(self.left);
        let stop = Arc::clone(&self.stop);
        let mut budget = UnpackBudget::new(allowed, &stop);
        let result = archive::read(layer, compression, &mut budget, self);
        self.left = self.left.saturating_sub(allowed.saturating_sub(budget.left()));
        result
    }

    /// Work done so far.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// The text of an application's manifest, if a regular file of that name is left after the last layer.
    pub fn manifest(&self, name: &str) -> Option<&[u8]> {
        match &self.nodes.get(&self.resolve(name)?)?.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where links lead from a path; `None` for a loop.
    fn resolve(&self, name: &str) -> Option<String> {
        path::resolve(name, true, |at| reach::link(&self.nodes, at))
    }

    fn insert(&mut self, path: &str, mode: u32, content: Content) -> Result<(), Fault> {
        self.forget(path);
        let node = Node { layer: self.layer, mode, content };
        self.paths = self.paths.saturating_add(node.bytes(path));
        if self.nodes.len() >= MAX_NODES || self.paths > MAX_PATHS {
            return Err(refused(format!(
                "the image holds more than {MAX_NODES} files, folders and links, or their paths and targets have more than \
                 {MAX_PATHS} bytes; push the program as a Wasm layer, or in an image of its own"
            )));
        }
        self.nodes.insert(path.to_string(), node);
        Ok(())
    }

    /// Removes what is at a path and below it.
    fn remove(&mut self, path: &str) -> Result<(), Fault> {
        self.remove_below(path)?;
        self.forget(path);
        Ok(())
    }

    /// Every node is removed at most once, so this costs no more than inserting them did.
    fn remove_below(&mut self, folder: &str) -> Result<(), Fault> {
        let below = format!("{folder}/");
        let range = self.nodes.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
        let paths: Vec<String> = range.map(|(path, _)| path.clone()).collect();
        self.steps.take(paths.len() as u64 + 1)?;
        for path in paths {
            self.forget(&path);
        }
        Ok(())
    }

    fn forget(&mut self, path: &str) {
        if let Some(node) = self.nodes.remove(path) {
            self.paths = self.paths.saturating_sub(node.bytes(path));
        }
    }
}

impl Visitor for Tree {
    fn visit(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<(), Fault> {
        let Some(path) = place::path(&entry.name)? else { return place::root(entry) };
        if self.is_whiteout(&path, entry)? {
            return Ok(());
        }
        self.make_parents(&path)?;
        if entry.kind == Kind::Folder {
            return self.make_folder(&path, entry.mode);
        }
        let content = match entry.kind {
            Kind::HardLink => self.linked(entry)?,
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
