//! Which files of a root file system are kept for the facts: programs, and the links by which they can be reached.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::archive::{Fault, refused};
use super::super::names::{APPLICATION_FILES, is_wasm_name};
use super::super::path;
use super::{Content, FileClass, Files, ModuleFacts, Node, Tree};

/// Most names of Wasm files: hard links give one file many.
const MAX_MODULE_NAMES: usize = 128;

impl Tree {
    /// What is left in the end. Native programs are left out of an image without any Wasm unless `natives` asks for
    /// them: there are many, and under an ordinary runtime such an image's programs are native anyway.
    pub fn files(&mut self, natives: bool) -> Result<Files, Fault> {
        self.steps.take(self.nodes.len() as u64)?;
        let wasm = |node: &Node| matches!(node.content, Content::Module(_) | Content::Unreadable(_));
        let natives = natives || self.nodes.values().any(wasm);
        let mut kept: BTreeMap<String, FileClass> = BTreeMap::new();
        let mut modules = Vec::new();
        for (name, node) in &self.nodes {
            if let Some(class) = self.class(name, node, natives) {
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

    fn class(&self, name: &str, node: &Node, natives: bool) -> Option<FileClass> {
        let asked = self.wanted.contains(name) || is_wasm_name(name);
        match &node.content {
            Content::Module(_) => Some(FileClass::Wasm),
            Content::Unreadable(message) => Some(FileClass::Unreadable { message: message.clone() }),
            Content::Native(magic) if natives || asked => {
                let kept = node.mode & 0o111 != 0 || asked || is_searched(name);
                let runs = node.mode & 0o001 != 0;
                kept.then(|| FileClass::Native { magic: (*magic).to_string(), runs })
            }
            Content::Other | Content::Special if asked || (natives && is_searched(name)) => {
                Some(FileClass::Other)
            }
            Content::Text(_) => Some(FileClass::Other),
            _ => None,
        }
    }

    /// Where links lead from the paths that were asked for: that something is there must be known, whatever it is.
    fn keep_wanted(&self, kept: &mut BTreeMap<String, FileClass>) {
        for end in self.wanted.iter().filter_map(|name| self.resolve(name)) {
            let found = self.nodes.get(&end).map(|node| &node.content);
            if matches!(found, Some(Content::Other | Content::Special)) {
                kept.entry(end).or_insert(FileClass::Other);
            }
        }
    }

    /// Adds the links that lead to a kept file, to a folder above one, or to such a link. Each link is looked at when the
    /// place that it leads to is reached, so once.
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
            let mut looked = 0;
            let end = path::resolve(&name, true, |at| {
                looked += 1;
                self.link(at)
            });
            self.steps.take(looked)?;
            // Where it leads may be a file that was not kept; that it is there must be known.
            if APPLICATION_FILES.contains(&name.as_str()) {
                kept.insert(name.clone(), FileClass::Link { target: target.clone() });
            }
            if let Some(end) = end {
                reach.waiting.entry(end).or_default().push((name, target));
            }
        }
        for name in kept.keys() {
            reach.add(name);
        }
        while let Some((name, target)) = reach.found.pop() {
            self.steps.take(1)?;
            reach.add(&name);
            kept.insert(name, FileClass::Link { target });
        }
        Ok(())
    }
}

/// Whether a file is in a folder of programs, in which names without a slash are searched for: there it matters what is
/// found first, whatever it is.
fn is_searched(name: &str) -> bool {
    path::split(name).0.ends_with("bin")
}

/// Places that lead to a kept file, and the links that wait for theirs to become one.
#[derive(Default)]
struct Reach {
    places: HashSet<String>,
    waiting: HashMap<String, Vec<(String, String)>>,
    found: Vec<(String, String)>,
}

impl Reach {
    /// A path and the folders above it.
    fn add(&mut self, name: &str) {
        let mut at = name;
        while self.places.insert(at.to_string()) {
            self.found.extend(self.waiting.remove(at).unwrap_or_default());
            at = path::split(at).0;
        }
    }
}
