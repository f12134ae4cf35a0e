//! Compares what two programs can do. Pure: the caller reads both sides.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::capability::{Entry, difference};
use crate::image::{ImageKind, Shape};

/// The compared facts about a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComparedProgram {
    /// Image reference or file.
    pub image: String,
    /// Digest of the image; `None` for a file and for an image that was not read.
    pub digest: Option<String>,
    /// Kind of the program.
    pub kind: Option<ImageKind>,
    /// How it is packed.
    pub shape: Option<Shape>,
    /// Why nothing is known about it.
    pub unread: Option<String>,
    /// Its capabilities: for an image or a file those that its code can call; for a manifest, those that are also handed over.
    pub capabilities: Vec<Entry>,
    /// `interface function` of every import, without the version of the interface.
    pub imports: BTreeSet<String>,
    /// Interpreters in it.
    pub interpreters: BTreeSet<String>,
    /// Its sizes.
    pub sizes: Sizes,
    /// Rules that deny it, each with its capability; without messages, since they name digests, which always differ.
    pub denials: BTreeSet<String>,
}

/// Sizes of all modules of a program, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sizes {
    /// The binaries.
    pub binary: u64,
    /// Their code sections.
    pub code: u64,
    /// Their data sections.
    pub data: u64,
    /// Their initial linear memory.
    pub memory: u64,
}

/// Items that were added and removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delta<T> {
    /// Only in the new one.
    pub added: Vec<T>,
    /// Only in the old one.
    pub removed: Vec<T>,
}

/// A changed value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed<T> {
    /// Before.
    pub old: T,
    /// Now.
    pub new: T,
}

/// Whether both sides have the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Only the new side has it.
    Added,
    /// Only the old side has it.
    Removed,
    /// Both have it.
    Kept,
}

/// The differences of one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// `Kind namespace/name: container`; empty when two images or files are compared.
    pub name: String,
    /// Whether both sides have it.
    pub presence: Presence,
    /// Its image.
    pub image: Changed<String>,
    /// Digest of the image.
    pub digest: Changed<Option<String>>,
    /// Kind of the program, where it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Changed<Option<ImageKind>>>,
    /// How it is packed, where it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Changed<Option<Shape>>>,
    /// Why the new one could not be read, so that its capabilities are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// Capabilities. One that the old program had with wider parameters is not added.
    pub capabilities: Delta<Entry>,
    /// Imports.
    pub imports: Delta<String>,
    /// Interpreters.
    pub interpreters: Delta<String>,
    /// Denials by the rules, with the loaded grants.
    pub denials: Delta<String>,
    /// Sizes in bytes.
    pub sizes: Changed<Sizes>,
}

impl Difference {
    /// Whether the new program can do something that the old one could not, or is denied where the old one was not.
    pub fn adds(&self) -> bool {
        !(self.capabilities.added.is_empty()
            && self.interpreters.added.is_empty()
            && self.denials.added.is_empty())
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        let none = |delta: &Delta<String>| delta.added.is_empty() && delta.removed.is_empty();
        self.presence == Presence::Kept
            && self.digest.old == self.digest.new
            && self.capabilities.added.is_empty()
            && self.capabilities.removed.is_empty()
            && [&self.imports, &self.interpreters, &self.denials].into_iter().all(none)
            && self.kind.is_none()
            && self.shape.is_none()
            && self.sizes.old == self.sizes.new
    }
}

/// Compares the programs of two sides by their names. If each side has one program, they are compared whatever their names.
pub fn compare(
    old: &BTreeMap<String, ComparedProgram>,
    new: &BTreeMap<String, ComparedProgram>,
) -> Vec<Difference> {
    if let (1, 1, Some(before), Some((name, after))) =
        (old.len(), new.len(), old.values().next(), new.iter().next())
    {
        return vec![compared(name, Presence::Kept, before, after)];
    }
    let none = ComparedProgram::default();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let of = |name: &String| match (old.get(name), new.get(name)) {
        (Some(before), Some(after)) => compared(name, Presence::Kept, before, after),
        (Some(before), None) => compared(name, Presence::Removed, before, &none),
        (None, after) => compared(name, Presence::Added, &none, after.unwrap_or(&none)),
    };
    names.into_iter().map(of).collect()
}

fn compared(name: &str, presence: Presence, old: &ComparedProgram, new: &ComparedProgram) -> Difference {
    Difference {
        name: name.to_string(),
        presence,
        image: Changed { old: old.image.clone(), new: new.image.clone() },
        digest: Changed { old: old.digest.clone(), new: new.digest.clone() },
        kind: changed(old.kind, new.kind),
        shape: changed(old.shape, new.shape),
        unread: new.unread.clone(),
        capabilities: capabilities(&old.capabilities, &new.capabilities),
        imports: delta(&old.imports, &new.imports),
        interpreters: delta(&old.interpreters, &new.interpreters),
        denials: delta(&old.denials, &new.denials),
        sizes: Changed { old: old.sizes, new: new.sizes },
    }
}

fn changed<T: PartialEq>(old: T, new: T) -> Option<Changed<T>> {
    (old != new).then_some(Changed { old, new })
}

fn delta(old: &BTreeSet<String>, new: &BTreeSet<String>) -> Delta<String> {
    Delta { added: new.difference(old).cloned().collect(), removed: old.difference(new).cloned().collect() }
}

fn capabilities(old: &[Entry], new: &[Entry]) -> Delta<Entry> {
    let only = |these, those| difference::missing_from(these, those).cloned().collect();
    Delta { added: only(new, old), removed: only(old, new) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Access, Capability};

    fn side(programs: &[(&str, ComparedProgram)]) -> BTreeMap<String, ComparedProgram> {
        programs.iter().map(|(name, program)| ((*name).to_string(), program.clone())).collect()
    }

    fn able(capabilities: Vec<Entry>) -> ComparedProgram {
        ComparedProgram { capabilities, ..ComparedProgram::default() }
    }

    fn entry(capability: Capability) -> Entry {
        Entry::new(capability, "somewhere")
    }

    fn added(old: Entry, new: Entry) -> usize {
        let differences = compare(&side(&[("a", able(vec![old]))]), &side(&[("b", able(vec![new]))]));
        assert_eq!(differences.len(), 1, "one program on each side is the same one");
        differences[0].capabilities.added.len()
    }

    #[test]
    fn a_capability_is_added_unless_the_old_program_had_it_as_wide() {
        let read = |path: &str| entry(Capability::Fs).at_path(path, Access::ReadOnly);
        let write = |path: &str| entry(Capability::Fs).at_path(path, Access::ReadWrite);
        for (old, new, expected) in [
            (read("/data"), read("/data"), 0),
            (read("/data"), write("/data"), 1),
            (write("/data"), read("/data/in"), 0),
            (write("/data"), read("/database"), 1),
            (write("/"), read("/data"), 0),
            (entry(Capability::Fs), read("/data"), 0),
            (read("/data"), entry(Capability::Fs), 1),
            (entry(Capability::Env).named("A"), entry(Capability::Env).named("B"), 1),
            (entry(Capability::Env).named("A"), entry(Capability::Env).named("A").mark_secret(true), 1),
            (entry(Capability::Env).named("A").mark_own(true), entry(Capability::Env).named("A"), 1),
            (entry(Capability::Env), entry(Capability::Env).named("A").mark_own(true), 0),
            (entry(Capability::Clock), entry(Capability::Random), 1),
        ] {
            assert_eq!(added(old.clone(), new.clone()), expected, "{old:?} -> {new:?}");
        }
    }

    #[test]
    fn where_it_was_seen_is_no_difference() {
        let seen = |text: &str| Entry::new(Capability::Clock, text);
        let differences = compare(
            &side(&[("a", able(vec![seen("import a")]))]),
            &side(&[("a", able(vec![seen("import b")]))]),
        );
        assert!(differences[0].is_empty() && !differences[0].adds(), "{differences:?}");
    }

    #[test]
    fn programs_are_paired_by_name_where_there_are_several() {
        let clock = || able(vec![entry(Capability::Clock)]);
        let old = side(&[("a", clock()), ("b", clock())]);
        let new = side(&[("b", clock()), ("c", clock())]);
        let differences = compare(&old, &new);
        let seen: Vec<_> = differences.iter().map(|d| (d.name.as_str(), d.presence, d.adds())).collect();
        assert_eq!(
            seen,
            [("a", Presence::Removed, false), ("b", Presence::Kept, false), ("c", Presence::Added, true)]
        );
    }

    #[test]
    fn a_new_denial_or_interpreter_counts_as_added_and_a_new_import_alone_does_not() {
        let of = |change: fn(&mut ComparedProgram)| {
            let mut new = ComparedProgram::default();
            change(&mut new);
            compare(&side(&[("a", ComparedProgram::default())]), &side(&[("a", new)])).remove(0)
        };
        assert!(of(|p| p.denials = ["needs-grant (fs)".to_string()].into()).adds());
        assert!(of(|p| p.interpreters = ["CPython".to_string()].into()).adds());
        let import = of(|p| p.imports = ["wasi:cli/exit exit".to_string()].into());
        assert!(!import.adds() && !import.is_empty());
    }
}
