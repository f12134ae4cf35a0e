//! The files of a root file system that could be a program: layers are read as streams, lowest first, and nothing
//! is written to disk. What a later layer replaces or whites out is gone (OCI image-spec `layer.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tar::EntryType;

use super::archive::{self, Fault, TarEntry, UnpackBudget, Visitor};
use super::malformed::Malformed;
use super::module::{self, MAX_TEXT, Magic};
use super::rootfs::APPLICATION_FILES;
use super::{FileClass, ModuleFacts, path};

/// Most Wasm files of one image that are read; an image that runs one of them holds one or two.
pub const MAX_FILE_MODULES: usize = 64;
/// Most programs and links of one image that are remembered; a whole distribution holds some ten thousand.
const MAX_NODES: usize = 100_000;
/// How many times the limit of one layer all layers may unpack to together.
const ALL_LAYERS: u64 = 4;
/// Most bytes of an application's manifest; Spin's own are a few kilobytes.
const MAX_APPLICATION_FILE: u64 = 1 << 20;
/// Most files of these names whose text is kept.
const MAX_APPLICATION_FILES: usize = 16;
/// Bytes that are enough to know what a file is.
const HEAD: u64 = 8;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
const AUFS: &str = ".wh..wh.";

/// What may be unpacked, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct UnpackLimits {
    /// One layer; all layers together may unpack to four times as much.
    pub layer: u64,
    /// One Wasm file.
    pub file: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Module(usize),
    Unreadable(String),
    Native {
        magic: &'static str,
        executable: bool,
    },
    Link(String),
    /// The manifest of an application, with its text.
    Text(Arc<[u8]>),
    Other,
}

#[derive(Debug, Clone)]
struct Node {
    layer: usize,
    kind: Kind,
}

/// The programs and links of a root file system, as the layers that were applied leave it.
#[derive(Debug)]
pub struct Tree {
    bounds: UnpackLimits,
    left: u64,
    layer: usize,
    wanted: BTreeSet<String>,
    nodes: BTreeMap<String, Node>,
    modules: Vec<ModuleFacts>,
    texts: usize,
}

/// The outcome of a scan, sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Wasm files, native programs and the links that lead to them.
    pub entries: Vec<(String, FileClass)>,
    /// What the Wasm files hold; `source` is the path.
    pub modules: Vec<ModuleFacts>,
}

impl Tree {
    /// An empty tree. Files at `wanted` paths are remembered whatever they are.
    pub fn new(bounds: UnpackLimits, wanted: impl IntoIterator<Item = String>) -> Self {
        let wanted = wanted.into_iter().collect();
        Self {
            bounds,
            left: bounds.layer.saturating_mul(ALL_LAYERS),
            layer: 0,
            wanted,
            nodes: BTreeMap::new(),
            modules: Vec::new(),
            texts: 0,
        }
    }

    /// Applies the next layer. Setting `stop` ends the work early, with an error.
    pub fn apply(&mut self, blob: &[u8], stop: &AtomicBool) -> Result<(), Fault> {
        self.layer += 1;
        let allowed = self.bounds.layer.min(self.left);
        let mut budget = UnpackBudget::new(allowed, stop);
        let result = archive::read(blob, &mut budget, &mut Applying { tree: self, stop });
        self.left = self.left.saturating_sub(allowed.saturating_sub(budget.left()));
        result
    }

    /// What is left in the end. Native programs are left out of an image without any Wasm unless `natives` asks for
    /// them: there are many, and under an ordinary runtime such an image's programs are native anyway.
    pub fn files(&self, natives: bool) -> Files {
        let wasm = |kind: &Kind| matches!(kind, Kind::Module(_) | Kind::Unreadable(_));
        let native = natives || self.nodes.values().any(|node| wasm(&node.kind));
        let mut files = Files::default();
        let mut kept: BTreeMap<&str, FileClass> = BTreeMap::new();
        for (name, node) in &self.nodes {
            let native = native || self.wanted.contains(name) || is_wasm_name(name);
            if let Some(class) = class(&node.kind, native) {
                kept.insert(name, class);
            }
            if let Kind::Module(number) = node.kind
                && let Some(facts) = self.modules.get(number)
            {
                files.modules.push(ModuleFacts { source: name.clone(), ..facts.clone() });
            }
        }
        self.keep_links(&mut kept);
        for (name, node) in &self.nodes {
            // Where it leads may be a file that was not kept; that it is there must be known.
            if let Kind::Link(target) = &node.kind
                && APPLICATION_FILES.contains(&name.as_str())
            {
                kept.insert(name, FileClass::Link { target: target.clone() });
            }
        }
        files.entries = kept.into_iter().map(|(name, class)| (name.to_string(), class)).collect();
        files
    }

    /// The text of an application's manifest, where a regular file of its name is left in the end.
    pub fn manifest(&self, name: &str) -> Option<&[u8]> {
        match &self.nodes.get(&self.resolve(name, true)?)?.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Adds the links that lead to a kept file, to a folder above one, or to such a link.
    fn keep_links<'a>(&'a self, kept: &mut BTreeMap<&'a str, FileClass>) {
        let mut places: BTreeSet<String> = BTreeSet::new();
        for name in kept.keys() {
            add_folders(name, &mut places);
        }
        let mut left: Vec<(&str, &str, String)> = self
            .nodes
            .iter()
            .filter_map(|(name, node)| match &node.kind {
                Kind::Link(target) => Some((name.as_str(), target.as_str(), self.resolve(name, true)?)),
                _ => None,
            })
            .collect();
        loop {
            let before = left.len();
            left.retain(|(name, target, end)| {
                let leads = places.contains(end);
                if leads {
                    add_folders(name, &mut places);
                    kept.insert(name, FileClass::Link { target: (*target).to_string() });
                }
                !leads
            });
            if left.len() == before {
                break;
            }
        }
    }

    fn resolve(&self, name: &str, last: bool) -> Option<String> {
        path::resolve(name, last, |at| match self.nodes.get(at).map(|node| &node.kind) {
            Some(Kind::Link(target)) => Some(target.as_str()),
            _ => None,
        })
    }

    fn insert(&mut self, name: String, kind: Kind) -> Result<(), Fault> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Malformed::new(format!("it holds more than {MAX_NODES} programs and links")).into());
        }
        self.nodes.insert(name, Node { layer: self.layer, kind });
        Ok(())
    }

    /// Removes what is at and under a path, if it is from below `layer`.
    fn remove(&mut self, name: &str, below: usize, itself: bool) {
        let folder = if name == "/" { "/".to_string() } else { format!("{name}/") };
        let under: Vec<String> = self
            .nodes
            .range(folder.clone()..)
            .take_while(|(path, _)| path.starts_with(&folder))
            .filter(|(_, node)| node.layer < below)
            .map(|(path, _)| path.clone())
            .collect();
        for path in under {
            self.nodes.remove(&path);
        }
        if itself && self.nodes.get(name).is_some_and(|node| node.layer < below) {
            self.nodes.remove(name);
        }
    }

    fn whiteout(&mut self, folder: &str, base: &str) -> Result<(), Fault> {
        if base == OPAQUE {
            self.remove(folder, self.layer, false);
            return Ok(());
        }
        // What AUFS keeps for itself.
        if base.starts_with(AUFS) {
            return Ok(());
        }
        match base.strip_prefix(WHITEOUT).unwrap_or_default() {
            "" | "." | ".." => {
                Err(Malformed::new(format!("it holds the whiteout `{base}`, which names nothing")).into())
            }
            name => {
                self.remove(&path::normalise(&path::join(folder, name)), self.layer, true);
                Ok(())
            }
        }
    }

    fn regular(
        &mut self,
        name: &str,
        entry: &TarEntry,
        content: &mut dyn Read,
        stop: &AtomicBool,
    ) -> Result<Option<Kind>, Fault> {
        let mut head = Vec::new();
        content.take(HEAD).read_to_end(&mut head).map_err(|error| cut_off(&error))?;
        // `#!` begins a comment in TOML too.
        if is_application_file(name) && module::magic(&head) != Magic::Wasm {
            return self.application_file(entry, head, content).map(Some);
        }
        match module::magic(&head) {
            Magic::Wasm => self.wasm(name, entry, head, content, stop).map(Some),
            Magic::Native(magic) => {
                let executable = entry.mode & 0o111 != 0 || is_wasm_name(name);
                Ok(Some(Kind::Native { magic, executable }))
            }
            Magic::Other if has_ending(name, ".wat") => self.text(name, entry, head, content, stop).map(Some),
            Magic::Other => Ok((is_wasm_name(name) || self.wanted.contains(name)).then_some(Kind::Other)),
        }
    }

    fn wasm(
        &mut self,
        name: &str,
        entry: &TarEntry,
        head: Vec<u8>,
        content: &mut dyn Read,
        stop: &AtomicBool,
    ) -> Result<Kind, Fault> {
        if entry.size > self.bounds.file {
            let limit = self.bounds.file;
            return Ok(Kind::Unreadable(format!(
                "it is larger than the limit of {limit} bytes for a module"
            )));
        }
        if self.modules.len() >= MAX_FILE_MODULES && !self.wanted.contains(name) {
            return Ok(Kind::Unreadable(format!("the image holds more than {MAX_FILE_MODULES} Wasm files")));
        }
        let bytes = whole(entry, head, content)?;
        Ok(self.keep(module::read_until(&bytes, name, stop)))
    }

    /// Too long or one too many: it is remembered without its text.
    fn application_file(
        &mut self,
        entry: &TarEntry,
        head: Vec<u8>,
        content: &mut dyn Read,
    ) -> Result<Kind, Fault> {
        if entry.size > MAX_APPLICATION_FILE || self.texts >= MAX_APPLICATION_FILES {
            return Ok(Kind::Other);
        }
        self.texts += 1;
        whole(entry, head, content).map(|text| Kind::Text(text.into()))
    }

    /// `.wat` text. Whatever else ends like that is a text file, not a program.
    fn text(
        &mut self,
        name: &str,
        entry: &TarEntry,
        head: Vec<u8>,
        content: &mut dyn Read,
        stop: &AtomicBool,
    ) -> Result<Kind, Fault> {
        if entry.size > MAX_TEXT as u64 {
            return Ok(Kind::Unreadable(format!(
                "it is Wasm text of more than {MAX_TEXT} bytes; ship the binary"
            )));
        }
        if self.modules.len() >= MAX_FILE_MODULES && !self.wanted.contains(name) {
            return Ok(Kind::Unreadable(format!("the image holds more than {MAX_FILE_MODULES} Wasm files")));
        }
        let bytes = whole(entry, head, content)?;
        Ok(self.keep(module::read_text_until(&bytes, name, stop)))
    }

    fn keep(&mut self, facts: Result<ModuleFacts, Malformed>) -> Kind {
        match facts {
            Ok(facts) => {
                self.modules.push(facts);
                Kind::Module(self.modules.len() - 1)
            }
            Err(malformed) => Kind::Unreadable(malformed.0),
        }
    }

    fn hard_link(&self, entry: &TarEntry) -> Option<Kind> {
        let target = path::normalise(std::str::from_utf8(&entry.target).ok()?);
        let found = self.resolve(&target, false)?;
        self.nodes.get(&found).map(|node| node.kind.clone())
    }
}

/// A tree while a layer is applied to it, which somebody may give up.
struct Applying<'a> {
    tree: &'a mut Tree,
    stop: &'a AtomicBool,
}

impl Visitor for Applying<'_> {
    fn visit(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<(), Fault> {
        let tree = &mut *self.tree;
        // A pod's command is UTF-8, so a name that is not cannot be started.
        let Ok(name) = std::str::from_utf8(&entry.name) else { return Ok(()) };
        let name = path::normalise(name);
        let (folder, base) = path::split(&name);
        // Folders may be links of lower layers; the node's unpacker goes through them too.
        let Some(folder) = tree.resolve(folder, true) else { return Ok(()) };
        if base.starts_with(WHITEOUT) {
            return tree.whiteout(&folder, base);
        }
        if base.is_empty() {
            return Ok(());
        }
        let name = path::normalise(&path::join(&folder, base));
        if entry.kind == EntryType::Directory {
            tree.nodes.remove(&name);
            return Ok(());
        }
        let kind = match entry.kind {
            EntryType::Regular | EntryType::Continuous => tree.regular(&name, entry, content, self.stop)?,
            EntryType::Link => tree.hard_link(entry),
            EntryType::Symlink => String::from_utf8(entry.target.clone()).ok().map(Kind::Link),
            _ => None,
        };
        tree.remove(&name, usize::MAX, true);
        kind.map_or(Ok(()), |kind| tree.insert(name, kind))
    }
}

fn class(kind: &Kind, native: bool) -> Option<FileClass> {
    match kind {
        Kind::Module(_) => Some(FileClass::Wasm),
        Kind::Unreadable(message) => Some(FileClass::Unreadable { message: message.clone() }),
        Kind::Native { magic, executable } if native && *executable => {
            Some(FileClass::Native { magic: (*magic).to_string() })
        }
        Kind::Other if native => Some(FileClass::Other),
        Kind::Text(_) => Some(FileClass::Other),
        _ => None,
    }
}

fn add_folders(name: &str, places: &mut BTreeSet<String>) {
    let mut at = name;
    while at != "/" && places.insert(at.to_string()) {
        at = path::split(at).0;
    }
}

fn whole(entry: &TarEntry, mut bytes: Vec<u8>, content: &mut dyn Read) -> Result<Vec<u8>, Fault> {
    content.read_to_end(&mut bytes).map_err(|error| cut_off(&error))?;
    if bytes.len() as u64 == entry.size {
        Ok(bytes)
    } else {
        Err(Malformed::new("it ends in the middle of a file").into())
    }
}

fn cut_off(error: &std::io::Error) -> Fault {
    Malformed::new(format!("it cannot be unpacked: {error}")).into()
}

/// By its name alone, in any folder: a link at the root may lead to it.
fn is_application_file(name: &str) -> bool {
    let base = path::split(name).1;
    APPLICATION_FILES.iter().any(|file| path::split(file).1 == base)
}

fn has_ending(name: &str, ending: &str) -> bool {
    name.len() > ending.len() && name.to_ascii_lowercase().ends_with(ending)
}

/// Whether a name says that the file is Wasm.
pub(super) fn is_wasm_name(name: &str) -> bool {
    [".wasm", ".wat", ".cwasm"].iter().any(|ending| has_ending(name, ending))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::{Builder, Header};

    use super::*;

    /// A tar layer, entry by entry. Names are written raw, so that hostile ones can be built.
    struct Layer(Builder<Vec<u8>>);

    impl Layer {
        fn new() -> Self {
            Self(Builder::new(Vec::new()))
        }

        fn entry(mut self, name: &str, kind: EntryType, target: &str, mode: u32, content: &[u8]) -> Self {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            header.set_cksum();
            self.0.append(&header, content).unwrap();
            self
        }

        fn file(self, name: &str, content: &[u8]) -> Self {
            self.entry(name, EntryType::Regular, "", 0o755, content)
        }

        fn symlink(self, name: &str, target: &str) -> Self {
            self.entry(name, EntryType::Symlink, target, 0o777, b"")
        }

        fn folder(self, name: &str) -> Self {
            self.entry(name, EntryType::Directory, "", 0o755, b"")
        }

        fn bytes(self) -> Vec<u8> {
            self.0.into_inner().unwrap()
        }
    }

    fn wasm(name: &str) -> Vec<u8> {
        wat::parse_str(format!(r#"(module (func (export "{name}")))"#)).unwrap()
    }

    const BOUNDS: UnpackLimits = UnpackLimits { layer: 8 << 20, file: 1 << 20 };

    fn scan(layers: Vec<Layer>) -> Files {
        let stop = AtomicBool::new(false);
        let mut tree = Tree::new(BOUNDS, ["/wanted".to_string()]);
        for layer in layers {
            tree.apply(&layer.bytes(), &stop).unwrap();
        }
        tree.files(true)
    }

    fn names(files: &Files) -> Vec<&str> {
        files.entries.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn export(files: &Files, source: &str) -> Option<String> {
        let facts = files.modules.iter().find(|facts| facts.source == source)?;
        facts.exports.first().cloned()
    }

    #[test]
    fn a_file_is_not_read_to_its_end_when_nobody_waits() {
        struct Stopping<'a>(&'a [u8], &'a AtomicBool);
        impl Read for Stopping<'_> {
            // The whole file has arrived when the look-up is given up.
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let count = self.0.read(buffer)?;
                self.1.store(self.0.is_empty(), std::sync::atomic::Ordering::Relaxed);
                Ok(count)
            }
        }
        let stop = AtomicBool::new(false);
        for (name, bytes) in [("/a.wasm", wasm("a")), ("/a.wat", b"(module)".to_vec())] {
            let entry = TarEntry {
                name: name.into(),
                target: Vec::new(),
                kind: EntryType::Regular,
                mode: 0o644,
                size: bytes.len() as u64,
            };
            let mut tree = Tree::new(BOUNDS, []);
            let kind = tree.regular(name, &entry, &mut Stopping(&bytes, &stop), &stop).unwrap();
            assert!(
                matches!(kind, Some(Kind::Unreadable(why)) if why == "reading it was given up"),
                "{name}"
            );
        }
    }

    #[test]
    fn files_are_classed_by_their_first_bytes() {
        let files = scan(vec![
            Layer::new()
                .file("app", &wasm("a"))
                .file("bin/sh", b"\x7fELF....")
                .file("script", b"#!/bin/sh")
                .entry("lib.so", EntryType::Regular, "", 0o644, b"\x7fELF....")
                .entry("native.wasm", EntryType::Regular, "", 0o644, b"\x7fELF....")
                .file("etc/passwd", b"root:x:0")
                .file("wanted", b"text")
                .file("broken.wasm", b"\0asm\x01\0\0\0\xff")
                .file("text.wat", br#"(module (func (export "t")))"#)
                .file("empty", b""),
        ]);
        let native = |magic: &str| FileClass::Native { magic: magic.into() };
        let class = |name: &str| files.entries.iter().find(|(path, _)| path == name).map(|(_, class)| class);
        assert_eq!(class("/app"), Some(&FileClass::Wasm));
        assert_eq!(class("/bin/sh"), Some(&native("ELF")));
        assert_eq!(class("/script"), Some(&native("#!")));
        assert_eq!(class("/lib.so"), None);
        assert_eq!(class("/native.wasm"), Some(&native("ELF")));
        assert_eq!(class("/etc/passwd"), None);
        assert_eq!(class("/wanted"), Some(&FileClass::Other));
        assert!(matches!(class("/broken.wasm"), Some(FileClass::Unreadable { .. })));
        assert_eq!(export(&files, "/text.wat").as_deref(), Some("t"));
        assert_eq!(export(&files, "/app").as_deref(), Some("a"));
    }

    #[test]
    fn later_layers_override_and_white_out_earlier_ones() {
        let base = || Layer::new().file("app.wasm", &wasm("old")).file("d/b.wasm", &wasm("b"));
        let files = scan(vec![base(), Layer::new().file("app.wasm", &wasm("new"))]);
        assert_eq!(export(&files, "/app.wasm").as_deref(), Some("new"));
        assert_eq!(names(&scan(vec![base(), Layer::new().file(".wh.app.wasm", b"")])), ["/d/b.wasm"]);
        assert_eq!(names(&scan(vec![base(), Layer::new().file(".wh.d", b"")])), ["/app.wasm"]);
        assert_eq!(names(&scan(vec![base(), Layer::new().file("d", b"a file now")])), ["/app.wasm"]);
        assert_eq!(names(&scan(vec![base(), Layer::new().folder("app.wasm")])), ["/d/b.wasm"]);
    }

    #[test]
    fn an_opaque_folder_hides_lower_layers_but_not_its_own() {
        for own_first in [true, false] {
            let own = wasm("own");
            let top = if own_first {
                Layer::new().file("d/own.wasm", &own).file("d/.wh..wh..opq", b"")
            } else {
                Layer::new().file("d/.wh..wh..opq", b"").file("d/own.wasm", &own)
            };
            let low = Layer::new().file("d/low.wasm", &wasm("low")).file("keep.wasm", &wasm("keep"));
            assert_eq!(names(&scan(vec![low, top])), ["/d/own.wasm", "/keep.wasm"]);
        }
        // A whiteout hides the layer below, never the file that its own layer brings.
        let evil = Layer::new().file("app.wasm", &wasm("evil")).file(".wh.app.wasm", b"");
        let files = scan(vec![Layer::new().file("app.wasm", &wasm("good")), evil]);
        assert_eq!(export(&files, "/app.wasm").as_deref(), Some("evil"));
    }

    #[test]
    fn names_cannot_climb_out_and_links_of_lower_layers_are_followed() {
        let files = scan(vec![
            Layer::new().folder("usr/bin").symlink("bin", "usr/bin").symlink("up", "../../.."),
            Layer::new()
                .file("../../a.wasm", &wasm("a"))
                .file("/abs.wasm", &wasm("b"))
                .file("./x/../c.wasm", &wasm("c"))
                .file("bin/d.wasm", &wasm("d"))
                .file("up/e.wasm", &wasm("e")),
        ]);
        assert_eq!(names(&files), ["/a.wasm", "/abs.wasm", "/bin", "/c.wasm", "/e.wasm", "/usr/bin/d.wasm"]);
    }

    #[test]
    fn links_that_lead_to_a_program_are_kept_with_hard_links_as_copies() {
        let files = scan(vec![
            Layer::new()
                .file("opt/app.wasm", &wasm("a"))
                .entry("hard.wasm", EntryType::Link, "opt/app.wasm", 0o755, b"")
                .entry("lost.wasm", EntryType::Link, "nowhere", 0o755, b"")
                .symlink("usr/bin/app", "/opt/app.wasm")
                .symlink("bin", "usr/bin")
                .symlink("etc/localtime", "/usr/share/zoneinfo/UTC")
                .symlink("loop", "loop"),
        ]);
        assert_eq!(names(&files), ["/bin", "/hard.wasm", "/opt/app.wasm", "/usr/bin/app"]);
        assert_eq!(export(&files, "/hard.wasm").as_deref(), Some("a"));
    }

    #[test]
    fn bounds_hold() {
        let stop = AtomicBool::new(false);
        let mut tree = Tree::new(UnpackLimits { layer: 4096, file: 16 }, []);
        let bomb = Layer::new().file("zeros", &[0; 8192]).bytes();
        assert_eq!(tree.apply(&bomb, &stop), Err(Fault::TooLarge));
        let mut tree = Tree::new(UnpackLimits { layer: 4096, file: 16 }, []);
        tree.apply(&Layer::new().file("a.wasm", &wasm("a")).bytes(), &stop).unwrap();
        assert!(
            matches!(&tree.files(true).entries[0].1, FileClass::Unreadable { message } if message.contains("16"))
        );
        let many = (0..=MAX_FILE_MODULES)
            .fold(Layer::new(), |layer, n| layer.file(&format!("{n}.wasm"), &wasm("a")));
        assert_eq!(scan(vec![many]).modules.len(), MAX_FILE_MODULES);
        let mut tree = Tree::new(UnpackLimits { layer: 4096, file: 16 }, []);
        let layer = Layer::new().file("zeros", &[0; 2048]).bytes();
        let applied = (0..20).take_while(|_| tree.apply(&layer, &stop).is_ok()).count();
        assert!((4..8).contains(&applied), "{applied} layers of 2048 bytes fit four times 4096");
        let nothing = Layer::new().file(".wh..", b"").bytes();
        assert!(matches!(Tree::new(BOUNDS, []).apply(&nothing, &stop), Err(Fault::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_sequence_of_entries_leaves_only_paths_inside_the_root(
            entries in proptest::collection::vec(
                ("[a-c./]{1,6}|\\.wh\\.[a-c]{1,2}|d/\\.wh\\.\\.wh\\.\\.opq", 0u8..4, "[a-c./]{0,6}"), 0..24)
        ) {
            let stop = AtomicBool::new(false);
            let layer = entries.iter().fold(Layer::new(), |layer, (name, kind, target)| match kind {
                0 => layer.file(name, b"\x7fELF...."),
                1 => layer.symlink(name, target),
                2 => layer.folder(name),
                _ => layer.entry(name, EntryType::Link, target, 0o755, b""),
            });
            let mut tree = Tree::new(BOUNDS, []);
            let bytes = layer.bytes();
            let _ = tree.apply(&bytes, &stop);
            let _ = tree.apply(&bytes, &stop);
            for (name, _) in tree.files(true).entries {
                prop_assert_eq!(path::normalise(&name), name);
            }
        }
    }
}
