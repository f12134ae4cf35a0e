//! Selects the files of a root file system that become facts: programs, and the links that lead to them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::archive::{Fault, refused};
use super::super::names::{APPLICATION_FILES, is_of_programs, is_wasm_name};
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
        let searched = Searched(self.linked_folders());
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
        Ok(Files { entries: kept.into_iter().collect(), modules })
    }

    /// The folders to which links lead that are, or are in, a folder of programs.
    fn linked_folders(&self) -> HashSet<String> {
        let links = self
            .nodes
            .iter()
            .filter(|(name, node)| matches!(node.content, Content::Link(_)) && is_of_programs(name));
        let ends = links.filter_map(|(name, _)| self.resolve(name));
        ends.filter(|end| {
            end == "/" || matches!(self.nodes.get(end), Some(Node { content: Content::Folder { .. }, .. }))
        })
        .collect()
    }

    fn class(&self, name: &str, node: &Node, searched: &Searched) -> Option<FileClass> {
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

    /// Adds the links that lead to a kept file, to a folder above one, or to another such link. Each link is visited
    /// once, when its target is reached.
    fn keep_links(&mut self, kept: &mut BTreeMap<String, FileClass>) -> Result<(), Fault> {
        let mut reach = Reach::default();
        let links: Vec<(String, String)> = self
            .nodes
            .iter()
            .filter_map(|(name, node)| match &node.content {
                Content::Link(target) => Some((name.clone(), target.clone())),
                _ => None,
            })
            .collect();
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
            // Its target may be a file that was not kept; it must be known that it exists.
            if APPLICATION_FILES.contains(&name.as_str()) {
                kept.insert(name.clone(), FileClass::Link { target: target.clone() });
            }
            if let Some(end) = way.end {
                let link = Link { name, target, missing: way.missing };
                reach.waiting.entry(end).or_default().push(link);
            }
        }
        for name in kept.keys() {
            reach.add(name);
        }
        while let Some(Link { name, target, missing }) = reach.found.pop() {
            self.steps.take(1)?;
            if let Some(missing) = missing {
                return Err(refused(format!(
                    "the link `{name}` leads through `{missing}`, which is no folder of the image, and back; make it lead to \
                     its target directly"
                )));
            }
            reach.add(&name);
            kept.insert(name, FileClass::Link { target });
        }
        Ok(())
    }

    /// Where a link leads, and whether a node would get there: `missing/../app` leads to `app` only if the folder
    /// `missing` exists, which a mount may add, and `app/` leads to no file.
    fn follow(&self, name: &str, target: &str) -> Way {
        let (mut steps, mut hops, mut passed) = (0, 0, Vec::new());
        let end = path::resolve_within(path::MOUNT_HOPS, name, true, |at| {
            steps += 1;
            let found = self.nodes.get(at).map(|node| &node.content);
            if !matches!(found, Some(Content::Folder { .. } | Content::Link(_))) {
                passed.push(at.to_string());
            }
            let link = self.link(at);
            hops += usize::from(link.is_some());
            link
        });
        let folder = target.ends_with('/') || target.ends_with("/.");
        let is_end = |at: &String| end.as_ref() == Some(at) && !folder;
        let missing = passed.into_iter().find(|at| !is_end(at));
        Way { end, missing, steps, hops }
    }
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
    target: String,
    missing: Option<String>,
}

/// Folders that are searched for names without a slash because a link leads to them. There, and in every folder that is
/// called like one of programs, the first match matters, whatever it is.
struct Searched(HashSet<String>);

impl Searched {
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
    /// Adds a path and the folders above it.
    fn add(&mut self, name: &str) {
        let mut at = name;
        while self.places.insert(at.to_string()) {
            self.found.extend(self.waiting.remove(at).unwrap_or_default());
            at = path::split(at).0;
        }
    }
}
