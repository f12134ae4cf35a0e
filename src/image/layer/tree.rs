//! A root file system while its layers are applied: what is at each path, within limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::modes::FolderModes;
use crate::image::archive::{Fault, refused};
use crate::image::path;
use crate::image::steps::Steps;
use crate::image::{FileClass, ModuleFacts};

/// Most Wasm files that are read of one image; an image that runs one usually has one or two.
pub const MAX_FILE_MODULES: usize = 64;
/// Most files, folders and links of one image, with what the layer that is applied removes; a whole distribution has some ten
/// thousand.
pub const MAX_NODES: usize = 200_000;
/// Most bytes of all these paths, link targets and reasons why files cannot be read together.
pub const MAX_PATHS: usize = 24 << 20;
/// How large all layers of an image together may be, as transferred and unpacked, as a multiple of the limit of one layer.
pub const ALL_LAYERS: u64 = 4;

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
pub(super) enum Content {
    /// `touched` is the last layer that has something in it, at any depth.
    Folder {
        touched: usize,
    },
    Module(usize),
    Unreadable(String),
    Native(&'static str),
    Link(String),
    /// The manifest of an application, or a file of variables (`.env`), with its text.
    Text(Arc<[u8]>),
    /// Any other file.
    Other,
    /// A device or a pipe.
    Special,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub layer: usize,
    pub mode: u32,
    pub content: Content,
}

impl Node {
    fn bytes(&self, path: &str) -> usize {
        match &self.content {
            Content::Link(text) | Content::Unreadable(text) => path.len() + text.len(),
            _ => path.len(),
        }
    }
}

pub(super) fn too_many_paths() -> Fault {
    refused(format!(
        "the image holds more than {MAX_NODES} files, folders and links, or their paths and targets have more than \
         {MAX_PATHS} bytes; push the program as a Wasm layer, or in an image of its own"
    ))
}

fn text_of(node: &Node) -> Option<&[u8]> {
    match &node.content {
        Content::Text(text) => Some(text),
        _ => None,
    }
}

/// A root file system after the layers that were applied.
#[derive(Debug)]
pub struct Tree {
    pub(super) bounds: UnpackLimits,
    pub(super) left: u64,
    pub(super) layer: usize,
    pub(super) wanted: BTreeSet<String>,
    pub(super) nodes: BTreeMap<String, Node>,
    /// Bytes of the nodes' paths, of the targets of links, of why files cannot be read, and of the paths that are removed.
    pub(super) paths: usize,
    /// What the layer being applied removed from the layers below.
    pub(super) removed: BTreeSet<String>,
    pub(super) folder_modes: FolderModes,
    pub(super) modules: Vec<ModuleFacts>,
    pub(super) texts: usize,
    /// Bytes that the names take which the modules import and export.
    pub(super) names: usize,
    pub(super) variables_files: usize,
    pub(super) steps: Steps,
    pub(super) stop: Arc<AtomicBool>,
}

/// The result of a scan, sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Wasm files, files that would be if they could be read, native programs, manifests of applications, files of variables, all links,
    /// and whatever else has a name that is asked for or lies where a program may be looked for (`reach.rs`).
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
            folder_modes: FolderModes::default(),
            modules: Vec::new(),
            texts: 0,
            names: 0,
            variables_files: 0,
            steps: Steps::new(Arc::clone(&stop)),
            stop,
        }
    }

    /// Work done so far.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// The text of an application's manifest, if a regular file of that name is left after the last layer.
    pub fn manifest(&self, name: &str) -> Option<&[u8]> {
        self.manifest_at(name).map(|(_, text)| text)
    }

    /// The same, with the path to which links lead.
    pub fn manifest_at(&self, name: &str) -> Option<(&str, &[u8])> {
        let (path, node) = self.nodes.get_key_value(&self.resolve(name)?)?;
        text_of(node).map(|text| (path.as_str(), text))
    }

    /// The files of this name in all folders whose text was kept, or is to be taken for unreadable.
    pub fn texts_called<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let called = self.nodes.iter().filter(move |(path, _)| path::split(path).1 == name);
        called.filter_map(|(path, node)| Some((path.as_str(), text_of(node)?)))
    }

    pub(super) fn insert(&mut self, path: &str, mode: u32, content: Content) -> Result<(), Fault> {
        self.forget(path);
        let node = Node { layer: self.layer, mode, content };
        self.take_path(node.bytes(path))?;
        self.nodes.insert(path.to_string(), node);
        Ok(())
    }

    /// Counts one path more, of a node or of what the layer removes.
    fn take_path(&mut self, bytes: usize) -> Result<(), Fault> {
        self.paths = self.paths.saturating_add(bytes);
        if self.nodes.len() + self.removed.len() < MAX_NODES && self.paths <= MAX_PATHS {
            return Ok(());
        }
        Err(too_many_paths())
    }

    /// Notes that the layer being applied removes a path from those below, which takes the place of what was there.
    pub(super) fn note_removed(&mut self, path: &str) -> Result<(), Fault> {
        self.take_path(path.len())?;
        self.removed.insert(path.to_string());
        Ok(())
    }

    /// Forgets what a layer removed, when the next one begins.
    pub(super) fn forget_removed(&mut self) {
        let removed = std::mem::take(&mut self.removed);
        self.paths = self.paths.saturating_sub(removed.iter().map(String::len).sum());
    }

    /// Removes what is at a path and below it.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), Fault> {
        self.remove_below(path)?;
        self.forget(path);
        Ok(())
    }

    /// Every node is removed at most once, so this costs no more than inserting them did.
    pub(super) fn remove_below(&mut self, folder: &str) -> Result<(), Fault> {
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
            match node.content {
                Content::Folder { .. } => self.folder_modes.hide_folder(path),
                Content::Link(_) => self.folder_modes.hide_link(path),
                _ => {}
            }
        }
    }
}
