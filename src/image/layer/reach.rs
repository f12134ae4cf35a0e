//! Selects the files of a root file system that become facts: programs, what has the name of one, and all links. A link that
//! leads to no program counts too: to a folder that a volume hides, or that a pod takes for its working directory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::super::archive::{Fault, refused};
use super::super::malformed::short;
use super::super::names::{
    EVERY_PATH, MAX_WORKERS, is_choice_of_modules, is_of_programs, is_of_resolver, is_plug_in, is_wasm_name,
    is_worker,
};
use super::super::path;
use super::super::size::{MAX_KEPT, too_many_names};
use super::super::steps::{Steps, of_path};
use super::modes::is_open;
use super::tree::too_many_paths;
use super::{Content, Files, MAX_PATHS, Node, Tree};
use crate::image::{FileClass, ModuleFacts};

/// Most names of Wasm files: with hard links, one file can have many.
const MAX_MODULE_NAMES: usize = 128;
/// Most folders to which links in folders of programs lead. Images of distributions have a dozen.
const MAX_PROGRAM_FOLDERS: usize = 1024;

impl Tree {
    /// The facts about the files that are left after the last layer. Those about modules are taken out of the tree.
    pub fn files(&mut self) -> Result<Files, Fault> {
        let Self { nodes, wanted, modules: read, folder_modes, steps, paths, .. } = self;
        steps.take(nodes.len() as u64)?;
        let names = Names { nodes, wanted, is_root_open: folder_modes.is_root_open() };
        let linked = names.linked_folders(steps)?;
        // A short link may lead to a folder with a long path, through another one.
        if linked.iter().map(String::len).fold(*paths, usize::saturating_add) > MAX_PATHS {
            return Err(too_many_paths());
        }
        let searched = Searched::new(&linked);
        // Names are borrowed until all are known: there may be as many bytes of them as are read of one image.
        let mut kept: BTreeMap<&str, FileClass> = BTreeMap::new();
        let (mut modules, mut workers) = (Vec::new(), 0..=MAX_WORKERS);
        for (name, node) in names.nodes {
            if let Some(class) = names.class(name, node, &searched) {
                kept.insert(name, class);
            } else if is_text_worker(name, node) && workers.next().is_some() {
                kept.insert(name, FileClass::Other);
            }
            if let Content::Module(number) = node.content {
                if modules.len() >= MAX_MODULE_NAMES {
                    return Err(refused(format!(
                        "it has more than {MAX_MODULE_NAMES} names of Wasm files; leave hard links out"
                    )));
                }
                modules.push((name.as_str(), number));
            }
        }
        let modules = for_each_name(&modules, std::mem::take(read))?;
        names.keep_wanted(&mut kept);
        let links = names.keep_links(&mut kept, steps)?;
        names.keep_namesakes(&mut kept, &links, steps)?;
        let entries = kept.into_iter().map(|(name, class)| (name.to_string(), class)).collect();
        Ok(Files { entries, modules, program_folders: linked.into_iter().collect() })
    }
}

/// The facts about each module under each of its names, which are copies where there are several. The copies are counted before
/// they are made.
fn for_each_name(names: &[(&str, usize)], read: Vec<ModuleFacts>) -> Result<Vec<ModuleFacts>, Fault> {
    let size = |(_, number): &(&str, usize)| read.get(*number).map_or(0, ModuleFacts::size_in_memory);
    if names.iter().map(size).fold(0, usize::saturating_add) > MAX_KEPT {
        return Err(refused(too_many_names()));
    }
    let mut modules = Vec::with_capacity(names.len());
    for (number, facts) in read.into_iter().enumerate() {
        let mut names = names.iter().filter(|(_, of)| *of == number).map(|(name, _)| (*name).to_string());
        let Some(first) = names.next() else { continue };
        modules.extend(names.map(|source| ModuleFacts { source, ..facts.clone() }));
        modules.push(ModuleFacts { source: first, ..facts });
    }
    modules.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(modules)
}

/// Where the links of these nodes lead.
pub(super) fn link<'a>(nodes: &'a BTreeMap<String, Node>, at: &str) -> Option<&'a str> {
    match nodes.get(at).map(|node| &node.content) {
        Some(Content::Link(target)) => Some(target.as_str()),
        _ => None,
    }
}

/// Whether Wasm Workers Server takes a file for a worker that is no Wasm. That there is one matters, whatever it holds.
fn is_text_worker(name: &str, node: &Node) -> bool {
    let is_file = matches!(node.content, Content::Other | Content::Special | Content::Native(_));
    is_file && is_worker(name)
}

/// The names of a tree, while none is changed.
#[derive(Clone, Copy)]
struct Names<'a> {
    nodes: &'a BTreeMap<String, Node>,
    wanted: &'a BTreeSet<String>,
    is_root_open: bool,
}

impl<'a> Names<'a> {
    /// The folders to which links lead that are, or are in, a folder of programs. What is not in the image may be a
    /// folder of a volume.
    fn linked_folders(self, steps: &mut Steps) -> Result<BTreeSet<String>, Fault> {
        let mut folders = BTreeSet::new();
        for (name, target) in self.links().filter(|(name, _)| is_of_programs(name)) {
            let way = self.follow(name, target);
            steps.take(way.steps)?;
            let may_be_folder = |end: &String| {
                matches!(self.nodes.get(end), None | Some(Node { content: Content::Folder { .. }, .. }))
            };
            folders.extend(way.end.filter(may_be_folder));
            if folders.len() > MAX_PROGRAM_FOLDERS {
                return Err(refused(format!(
                    "links in its folders of programs lead to more than {MAX_PROGRAM_FOLDERS} folders, or to nothing; \
                     remove those that lead to no program"
                )));
            }
        }
        Ok(folders)
    }

    /// All links, with their targets.
    fn links(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.nodes.iter().filter_map(|(name, node)| match &node.content {
            Content::Link(target) => Some((name.as_str(), target.as_str())),
            _ => None,
        })
    }

    fn class(self, name: &str, node: &Node, searched: &Searched) -> Option<FileClass> {
        let asked = self.wanted.contains(name) || is_wasm_name(name);
        let of_resolver = is_of_resolver(name) || is_choice_of_modules(name);
        match &node.content {
            Content::Module(_) => Some(FileClass::Wasm),
            Content::Unreadable(message) => Some(FileClass::Unreadable { message: message.clone() }),
            // A shim takes a program for native if others may execute it
            // (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`); crun and youki start what the
            // container's user may, who may be its owner. A file that no user may execute matters if a search may find it
            // first.
            Content::Native(magic) => {
                let loaded = is_plug_in(name) || of_resolver;
                let kept = node.mode & 0o111 != 0 || asked || searched.holds(name) || loaded;
                kept.then(|| self.native(name, node, magic))
            }
            Content::Other | Content::Special if asked || searched.holds(name) || of_resolver => {
                Some(FileClass::Other)
            }
            Content::Text(_) => Some(FileClass::Other),
            _ => None,
        }
    }

    /// Whether every search in a usual `PATH` finds this program, whichever process searches. The mode of a folder may not be known
    /// (`modes.rs`).
    fn is_found_by_all(self, name: &str, node: &Node) -> bool {
        let folder = path::split(name).0;
        let may_enter = |folder: &str| {
            let node = self.nodes.get(folder);
            node.is_some_and(|node| matches!(node.content, Content::Folder { .. }) && is_open(node.mode))
        };
        self.is_root_open
            && EVERY_PATH.contains(&folder)
            && node.mode & 0o555 == 0o555
            && [folder, path::split(folder).0, "/usr"].into_iter().all(may_enter)
    }

    /// Keeps the files to which the wanted paths lead: it must be known that they exist, whatever they are.
    fn keep_wanted(self, kept: &mut BTreeMap<&'a str, FileClass>) {
        let resolve = |name: &String| path::resolve(name, true, |at| link(self.nodes, at));
        for end in self.wanted.iter().filter_map(resolve) {
            let Some((end, node)) = self.nodes.get_key_value(&end) else { continue };
            if matches!(node.content, Content::Other | Content::Special | Content::Native(_)) {
                kept.entry(end).or_insert(FileClass::Other);
            }
        }
    }

    /// Adds the links. Those that lead to a kept file, to a folder above one, or to another such link, must lead there on
    /// every node; each is visited once, when its target is reached.
    /// Returns those links.
    fn keep_links(
        self,
        kept: &mut BTreeMap<&'a str, FileClass>,
        steps: &mut Steps,
    ) -> Result<Vec<&'a str>, Fault> {
        let mut reached = Vec::new();
        let mut reach = ReachedPaths::default();
        for name in kept.keys() {
            reach.add(name);
        }
        for (name, target) in self.links() {
            let way = self.follow(name, target);
            steps.take(way.steps)?;
            if way.end.is_some() && way.hops > path::KERNEL_HOPS {
                return Err(refused(format!(
                    "the link `{}` leads over {} links, of which the kernel follows {} and a mount all; make it lead \
                     to its target directly",
                    short(name),
                    way.hops,
                    path::KERNEL_HOPS
                )));
            }
            if let Some(end) = way.end.as_deref().and_then(|end| self.known(end)) {
                reach.wait(end, Link { name, target, missing: way.missing.is_some() });
            }
            kept.insert(name, FileClass::Link { target: target.to_string() });
        }
        while let Some(Link { name, target, missing }) = reach.found.pop() {
            steps.take(1)?;
            if missing {
                let missing = self.follow(name, target).missing.unwrap_or_default();
                return Err(refused(format!(
                    "the link `{}` leads through `{}`, which is not a folder of the image, and back; make it lead to \
                     its target directly",
                    short(name),
                    short(&missing)
                )));
            }
            reach.add(name);
            reached.push(name);
        }
        Ok(reached)
    }

    /// Keeps every file, and what every link leads to, whose name is also that of something that may start: which of them a
    /// search finds first depends on a `PATH` that the image, its pod or the node chooses, and that may name any folder. Of what
    /// starts nowhere in the image a search finds nothing that is judged.
    fn keep_namesakes(
        self,
        kept: &mut BTreeMap<&'a str, FileClass>,
        links: &[&'a str],
        steps: &mut Steps,
    ) -> Result<(), Fault> {
        let starts = |class: &FileClass| matches!(class, FileClass::Wasm | FileClass::Native { .. });
        let programs = kept.iter().filter(|(_, class)| starts(class)).map(|(name, _)| *name);
        let names: HashSet<&str> =
            programs.chain(links.iter().copied()).map(|name| path::split(name).1).collect();
        steps.take(self.nodes.len() as u64)?;
        for (name, node) in self.nodes.iter().filter(|(name, _)| names.contains(path::split(name).1)) {
            let (mut at, mut found) = (name.as_str(), node);
            if let Content::Link(target) = &node.content {
                let way = self.follow(name, target);
                steps.take(way.steps)?;
                let Some(end) = way.end.and_then(|end| self.nodes.get_key_value(&end)) else { continue };
                (at, found) = (end.0.as_str(), end.1);
            }
            if let Some(class) = self.namesake(at, found) {
                kept.entry(at).or_insert(class);
            }
        }
        Ok(())
    }

    /// What a file is that may be found instead of another one of its name.
    fn namesake(self, name: &str, node: &Node) -> Option<FileClass> {
        match &node.content {
            Content::Native(magic) => Some(self.native(name, node, magic)),
            Content::Other | Content::Special if node.mode & 0o111 != 0 => Some(FileClass::Other),
            Content::Other | Content::Special => Some(FileClass::Data),
            _ => None,
        }
    }

    fn native(self, name: &str, node: &Node, magic: &str) -> FileClass {
        let (runs, found) = (node.mode & 0o001 != 0, self.is_found_by_all(name, node));
        FileClass::Native { magic: magic.to_string(), runs, found }
    }

    /// The name of this path, if something is there: what is nowhere in the image leads to nothing that was kept.
    fn known(self, path: &str) -> Option<&'a str> {
        if path == "/" {
            return Some("/");
        }
        self.nodes.get_key_value(path).map(|(name, _)| name.as_str())
    }

    /// Where a link leads, and whether a node would get there: `missing/../app` leads to `app` only if the folder
    /// `missing` exists, which a mount may add, and `app/` leads to no file.
    fn follow(self, name: &str, target: &str) -> LinkEnd {
        let (mut steps, mut hops, mut passed) = (of_path(name), 1, Vec::<String>::new());
        // The folders above the link are none themselves: nothing is written through a link.
        let end = path::resolve_link(path::MOUNT_HOPS, name, target, |at| {
            steps += of_path(at);
            let found = self.nodes.get(at).map(|node| &node.content);
            let folder = matches!(found, Some(Content::Folder { .. } | Content::Link(_)));
            // Of two different ones, one is not the end.
            if !folder && passed.len() < 2 && passed.last().is_none_or(|last| last != at) {
                passed.push(at.to_string());
            }
            let link = link(self.nodes, at);
            steps += link.map_or(0, |target| target.split('/').count() as u64);
            hops += usize::from(link.is_some());
            link
        });
        let folder = target.ends_with('/') || target.ends_with("/.");
        let is_end = |at: &String| end.as_ref() == Some(at) && !folder;
        let missing = passed.into_iter().find(|at| !is_end(at));
        LinkEnd { end, missing, steps, hops }
    }
}

/// Where a link leads.
struct LinkEnd {
    /// `None` for a loop, for so many links that no mount follows them either, and for a path longer than any of an image.
    end: Option<String>,
    /// The first part of the path that is not a folder.
    missing: Option<String>,
    steps: u64,
    hops: usize,
}

/// A link that may lead to something.
struct Link<'a> {
    name: &'a str,
    target: &'a str,
    /// Whether it leads through something that is not a folder.
    missing: bool,
}

/// Folders that are searched for names without a slash because a link leads to them. There, and in every folder that is
/// called like one of programs, the first match matters, whatever it is.
struct Searched(Vec<String>);

impl Searched {
    /// The outermost of these folders, sorted, each with a slash at its end.
    fn new(folders: &BTreeSet<String>) -> Self {
        let mut sorted: Vec<String> =
            folders.iter().map(|folder| format!("{}/", folder.trim_end_matches('/'))).collect();
        sorted.sort();
        let mut outermost: Vec<String> = Vec::new();
        for folder in sorted {
            if outermost.last().is_none_or(|last| !folder.starts_with(last.as_str())) {
                outermost.push(folder);
            }
        }
        Self(outermost)
    }

    /// Looks up one folder, however deep the file is: what sorts between a folder and a file in it is in the folder too.
    fn holds(&self, name: &str) -> bool {
        let after = self.0.partition_point(|folder| folder.as_str() <= name);
        let before = after.checked_sub(1).and_then(|last| self.0.get(last));
        before.is_some_and(|folder| name.starts_with(folder.as_str())) || is_of_programs(path::split(name).0)
    }
}

/// Paths that lead to a kept file, and the links whose targets are not among them yet. All paths are those of nodes: one of
/// its own for every link would take many times the memory of the tree.
#[derive(Default)]
struct ReachedPaths<'a> {
    places: HashSet<&'a str>,
    waiting: HashMap<&'a str, Vec<Link<'a>>>,
    found: Vec<Link<'a>>,
}

impl<'a> ReachedPaths<'a> {
    /// Adds a link that leads to a path, which may be reached already.
    fn wait(&mut self, end: &'a str, link: Link<'a>) {
        if self.places.contains(end) {
            self.found.push(link);
        } else {
            self.waiting.entry(end).or_default().push(link);
        }
    }

    /// Adds a path and the folders above it.
    fn add(&mut self, name: &'a str) {
        let mut at = name;
        while self.places.insert(at) {
            self.found.extend(self.waiting.remove(at).unwrap_or_default());
            at = path::split(at).0;
        }
    }
}
