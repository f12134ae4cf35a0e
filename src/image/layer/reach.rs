//! Selects the files of a root file system that become facts: programs, and all links. A link that leads to no program
//! counts too: to a folder that a volume hides, or that a pod takes for its working directory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::super::archive::{Fault, refused};
use super::super::names::{is_of_programs, is_wasm_name};
use super::super::path;
use super::{Content, FileClass, Files, ModuleFacts, Node, Tree};

/// Most names of Wasm files: with hard links, one file can have many.
const MAX_MODULE_NAMES: usize = 128;

impl Tree {
    /// The facts about the files that are left after the last layer.
    pub fn files(&mut self) -> Result<Files, Fault> {
        self.steps.take(self.nodes.len() as u64)?;
        let mut kept: BTreeMap<String, FileClass> = BTreeMap::new();
        let mut modules = Vec::new();
        let linked = self.linked_folders()?;
        let searched = Searched(&linked);
        for (name, node) in &self.nodes {
            if let Some(class) = self.class(name, node, &searched) {
                kept.insert(name.clone(), class);
            }
            if let Content::Module(number) = node.content
                && let Some(facts) = self.modules.get(number)
            {
                if modules.len() >= MAX_MODULE_NAMES {
                    return Err(refused(format!(
                        "it has more than {MAX_MODULE_NAMES} names of Wasm files; leave hard links out"
                    )));
                }
                modules.push(ModuleFacts { source: name.clone(), ..facts.clone() });
            }
        }
        self.keep_wanted(&mut kept);
        self.keep_links(&mut kept)?;
        let program_folders = linked.into_iter().collect();
        Ok(Files { entries: kept.into_iter().collect(), modules, program_folders })
    }

    /// The folders to which links lead that are, or are in, a folder of programs. What is not in the image may be a
    /// folder of a volume.
    fn linked_folders(&mut self) -> Result<BTreeSet<String>, Fault> {
        let links: Vec<(String, String)> =
            self.links().filter(|(name, _)| is_of_programs(name)).map(owned).collect();
        let mut folders = BTreeSet::new();
        for (name, target) in links {
            let way = self.follow(&name, &target);
            self.steps.take(way.steps)?;
            let may_be_folder = |end: &String| {
                matches!(self.nodes.get(end), None | Some(Node { content: Content::Folder { .. }, .. }))
            };
            folders.extend(way.end.filter(may_be_folder));
        }
        Ok(folders)
    }

    /// All links, with their targets.
    fn links(&self) -> impl Iterator<Item = (&String, &String)> {
        self.nodes.iter().filter_map(|(name, node)| match &node.content {
            Content::Link(target) => Some((name, target)),
            _ => None,
        })
    }

    fn class(&self, name: &str, node: &Node, searched: &Searched<'_>) -> Option<FileClass> {
        let asked = self.wanted.contains(name) || is_wasm_name(name);
        match &node.content {
            Content::Module(_) => Some(FileClass::Wasm),
            Content::Unreadable(message) => Some(FileClass::Unreadable { message: message.clone() }),
            // A shim takes a program for native if others may execute it
            // (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`). A file that is not executable
            // matters if a search may find it first.
            Content::Native(magic) => {
                let runs = node.mode & 0o001 != 0;
                let kept = runs || asked || searched.holds(name);
                kept.then(|| FileClass::Native { magic: (*magic).to_string(), runs })
            }
            Content::Other | Content::Special if asked || searched.holds(name) => Some(FileClass::Other),
            Content::Text(_) => Some(FileClass::Other),
            _ => None,
        }
    }

    /// Keeps the files to which the wanted paths lead: it must be known that they exist, whatever they are.
    fn keep_wanted(&self, kept: &mut BTreeMap<String, FileClass>) {
        for end in self.wanted.iter().filter_map(|name| self.resolve(name)) {
            let found = self.nodes.get(&end).map(|node| &node.content);
            if matches!(found, Some(Content::Other | Content::Special | Content::Native(_))) {
                kept.entry(end).or_insert(FileClass::Other);
            }
        }
    }

    /// Adds the links. Those that lead to a kept file, to a folder above one, or to another such link, must lead there on
    /// every node; each is visited once, when its target is reached.
    fn keep_links(&mut self, kept: &mut BTreeMap<String, FileClass>) -> Result<(), Fault> {
        let mut reach = Reach::default();
        for name in kept.keys() {
            reach.add(name);
        }
        let links: Vec<(String, String)> = self.links().map(owned).collect();
        for (name, target) in links {
            let way = self.follow(&name, &target);
            self.steps.take(way.steps)?;
            if way.end.is_some() && way.hops > path::KERNEL_HOPS {
                return Err(refused(format!(
                    "the link `{name}` leads over {} links, of which the kernel follows {} and a mount all; make it lead \
                     to its target directly",
                    way.hops,
                    path::KERNEL_HOPS
                )));
            }
            if let Some(end) = way.end {
                reach.wait(end, Link { name: name.clone(), missing: way.missing });
            }
            kept.insert(name, FileClass::Link { target });
        }
        while let Some(Link { name, missing }) = reach.found.pop() {
            self.steps.take(1)?;
            if let Some(missing) = missing {
                return Err(refused(format!(
                    "the link `{name}` leads through `{missing}`, which is no folder of the image, and back; make it lead to \
                     its target directly"
                )));
            }
            reach.add(&name);
        }
        Ok(())
    }

    /// Where a link leads, and whether a node would get there: `missing/../app` leads to `app` only if the folder
    /// `missing` exists, which a mount may add, and `app/` leads to no file.
    fn follow(&self, name: &str, target: &str) -> Way {
        let (mut steps, mut hops, mut passed) = (0_u64, 0, Vec::new());
        let end = path::resolve_within(path::MOUNT_HOPS, name, true, |at| {
            steps += 1;
            let found = self.nodes.get(at).map(|node| &node.content);
            if !matches!(found, Some(Content::Folder { .. } | Content::Link(_))) {
                passed.push(at.to_string());
            }
            let link = self.link(at);
            steps += link.map_or(0, |target| target.split('/').count() as u64);
            hops += usize::from(link.is_some());
            link
        });
        let folder = target.ends_with('/') || target.ends_with("/.");
        let is_end = |at: &String| end.as_ref() == Some(at) && !folder;
        let missing = passed.into_iter().find(|at| !is_end(at));
        Way { end, missing, steps, hops }
    }
}

fn owned((name, target): (&String, &String)) -> (String, String) {
    (name.clone(), target.clone())
}

/// Where a link leads.
struct Way {
    /// `None` for a loop, and for so many links that no mount follows them either.
    end: Option<String>,
    /// The first part of the path that is not a folder.
    missing: Option<String>,
    steps: u64,
    hops: usize,
}

/// A link that may lead to something.
struct Link {
    name: String,
    missing: Option<String>,
}

/// Folders that are searched for names without a slash because a link leads to them. There, and in every folder that is
/// called like one of programs, the first match matters, whatever it is.
struct Searched<'a>(&'a BTreeSet<String>);

impl Searched<'_> {
    fn holds(&self, name: &str) -> bool {
        let mut folder = path::split(name).0;
        if is_of_programs(folder) {
            return true;
        }
        loop {
            if self.0.contains(folder) {
                return true;
            }
            if folder == "/" || folder.is_empty() {
                return false;
            }
            folder = path::split(folder).0;
        }
    }
}

/// Paths that lead to a kept file, and the links whose targets are not among them yet.
#[derive(Default)]
struct Reach {
    places: HashSet<String>,
    waiting: HashMap<String, Vec<Link>>,
    found: Vec<Link>,
}

impl Reach {
    /// Adds a link that leads to a path, which may be reached already.
    fn wait(&mut self, end: String, link: Link) {
        if self.places.contains(&end) {
            self.found.push(link);
        } else {
            self.waiting.entry(end).or_default().push(link);
        }
    }

    /// Adds a path and the folders above it.
    fn add(&mut self, name: &str) {
        let mut at = name;
        while self.places.insert(at.to_string()) {
            self.found.extend(self.waiting.remove(at).unwrap_or_default());
            at = path::split(at).0;
        }
    }
}
