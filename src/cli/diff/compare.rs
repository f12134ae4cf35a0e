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
    /// Its capabilities: for an image or a file those that its code can call; for a manifest, and for a Spin application, those that are
    /// also handed over.
    pub capabilities: Vec<Entry>,
    /// Whether grants were applied to them, so that each names those that cover it.
    pub has_grants: bool,
    /// Whether it is a container that starts a Linux program. It is compared only where it takes the place of a Wasm program.
    pub is_linux: bool,
    /// `interface function` of every import, without the version of the interface.
    pub imports: BTreeSet<String>,
    /// Interpreters in it.
    pub interpreters: BTreeSet<String>,
    /// Its sizes.
    pub sizes: Sizes,
    /// Rules that deny it, each with its capability; without messages, since they name digests, which always differ. `None`
    /// where no rule was asked: for a file, an image layout, and what was not read.
    pub denials: Option<BTreeSet<String>>,
    /// Why the gate leaves the whole object alone, such as an exempt namespace.
    pub left_alone: Option<String>,
}

impl ComparedProgram {
    /// What no grant covers.
    fn uncovered(&self) -> Vec<Entry> {
        let open = self.capabilities.iter().filter(|entry| self.has_grants && entry.covered_by.is_empty());
        open.cloned().collect()
    }

    /// The other side of a program that was added or removed: nothing, which no rule denies.
    fn absent() -> Self {
        Self { denials: Some(BTreeSet::new()), ..Self::default() }
    }
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

impl<T> Default for Delta<T> {
    fn default() -> Self {
        Self { added: Vec::new(), removed: Vec::new() }
    }
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
    /// Why the old one could not be read, so that what was added is not known: `added` is then all that the new one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_unread: Option<String>,
    /// Why the gate leaves the object alone, such as an exempt namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<String>,
    /// Capabilities. One that the old program had with wider parameters is not added.
    pub capabilities: Delta<Entry>,
    /// Whether grants were applied to the new one.
    #[serde(skip)]
    pub has_grants: bool,
    /// What the new one can do and no grant covers, whether or not it was added; of manifests.
    pub uncovered: Vec<Entry>,
    /// Imports.
    pub imports: Delta<String>,
    /// Interpreters.
    pub interpreters: Delta<String>,
    /// Denials by the rules, with the loaded grants; empty unless the rules were asked about both sides.
    pub denials: Delta<String>,
    /// Sizes in bytes.
    pub sizes: Changed<Sizes>,
}

impl Difference {
    /// Whether the new program can do something that the old one could not, or is denied where the old one was not.
    /// What a program that could not be read was able to do is not known, so nothing counts as added to it.
    pub fn adds(&self) -> bool {
        self.old_unread.is_none()
            && !(self.capabilities.added.is_empty()
                && self.interpreters.added.is_empty()
                && self.denials.added.is_empty())
    }

    /// Whether it is not known what was added.
    pub fn is_open(&self) -> bool {
        self.unread.is_some() || self.old_unread.is_some()
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        let none = |delta: &Delta<String>| delta.added.is_empty() && delta.removed.is_empty();
        self.presence == Presence::Kept
            && self.digest.old == self.digest.new
            && self.capabilities.added.is_empty()
            && self.capabilities.removed.is_empty()
            && !self.is_open()
            && [&self.imports, &self.interpreters, &self.denials].into_iter().all(none)
            && self.kind.is_none()
            && self.shape.is_none()
            && self.sizes.old == self.sizes.new
    }
}

/// Which programs with different names may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Both, whatever they are: two images, or two files that were named to be compared.
    Both,
    /// Containers of one object. Of folders and of a cluster another object is another workload, with which what was there says nothing.
    OfOneObject,
}

impl Pairing {
    fn is_one(self, before: &str, after: &str) -> bool {
        self == Self::Both || object_of(before) == object_of(after)
    }
}

/// The name of a program without its container.
fn object_of(name: &str) -> &str {
    name.rsplit_once(": ").map_or(name, |(object, _)| object)
}

/// Compares the programs of two sides by their names.
pub fn compare(
    old: &BTreeMap<String, ComparedProgram>,
    new: &BTreeMap<String, ComparedProgram>,
    pairing: Pairing,
) -> Vec<Difference> {
    let [before, after] = [old, new].map(wasm);
    if let (1, 1, Some((former, own)), Some((name, other))) =
        (before.len(), after.len(), before.iter().next(), after.iter().next())
        && pairing.is_one(former, name)
        && (former == name || !new.contains_key(*former))
    {
        return vec![compared(name, Presence::Kept, own, other)];
    }
    let none = ComparedProgram::absent();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).copied().collect();
    let mut linux: BTreeMap<&String, &ComparedProgram> =
        new.iter().filter(|(name, program)| program.is_linux && !old.contains_key(*name)).collect();
    let of = |name: &String| match (before.get(name), after.get(name)) {
        (Some(before), Some(after)) => compared(name, Presence::Kept, before, after),
        (Some(before), None) => {
            let same = new.get_key_value(name);
            match same.or_else(|| taken(&mut linux, |other| pairing.is_one(name, other))) {
                Some((name, linux)) => compared(name, Presence::Kept, before, linux),
                None => compared(name, Presence::Removed, before, &none),
            }
        }
        (None, after) => compared(name, Presence::Added, &none, after.copied().unwrap_or(&none)),
    };
    names.into_iter().map(of).collect()
}

/// Takes the first of these Linux programs that may be in the place of a program which is gone. Each takes one place.
fn taken<'a>(
    linux: &mut BTreeMap<&'a String, &'a ComparedProgram>,
    may_be: impl Fn(&str) -> bool,
) -> Option<(&'a String, &'a ComparedProgram)> {
    let name = linux.keys().copied().find(|name| may_be(name))?;
    linux.remove_entry(name)
}

/// The programs of a side without its Linux programs, about which there is nothing to say by themselves.
fn wasm(side: &BTreeMap<String, ComparedProgram>) -> BTreeMap<&String, &ComparedProgram> {
    side.iter().filter(|(_, program)| !program.is_linux).collect()
}

fn compared(name: &str, presence: Presence, old: &ComparedProgram, new: &ComparedProgram) -> Difference {
    let denials = match (&old.denials, &new.denials) {
        (Some(old), Some(new)) => delta(old, new),
        _ => Delta::default(),
    };
    Difference {
        name: name.to_string(),
        presence,
        image: Changed { old: old.image.clone(), new: new.image.clone() },
        digest: Changed { old: old.digest.clone(), new: new.digest.clone() },
        kind: changed(old.kind, new.kind),
        shape: changed(old.shape, new.shape),
        unread: new.unread.clone(),
        old_unread: old.unread.clone(),
        left_alone: new.left_alone.clone().or_else(|| old.left_alone.clone()),
        capabilities: capabilities(&old.capabilities, &new.capabilities),
        has_grants: new.has_grants,
        uncovered: new.uncovered(),
        imports: delta(&old.imports, &new.imports),
        interpreters: delta(&old.interpreters, &new.interpreters),
        denials,
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
        let differences =
            compare(&side(&[("a", able(vec![old]))]), &side(&[("b", able(vec![new]))]), Pairing::Both);
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
            Pairing::OfOneObject,
        );
        assert!(differences[0].is_empty() && !differences[0].adds(), "{differences:?}");
    }

    #[test]
    fn programs_are_paired_by_name_where_there_are_several() {
        let clock = || able(vec![entry(Capability::Clock)]);
        let old = side(&[("a", clock()), ("b", clock())]);
        let new = side(&[("b", clock()), ("c", clock())]);
        let differences = compare(&old, &new, Pairing::Both);
        let seen: Vec<_> = differences.iter().map(|d| (d.name.as_str(), d.presence, d.adds())).collect();
        assert_eq!(
            seen,
            [("a", Presence::Removed, false), ("b", Presence::Kept, false), ("c", Presence::Added, true)]
        );
    }

    #[test]
    fn a_linux_program_gains_in_the_place_of_wasm_and_is_no_difference_by_itself() {
        let linux = || ComparedProgram { is_linux: true, ..able(vec![entry(Capability::NativeExec)]) };
        let clock = || able(vec![entry(Capability::Clock)]);
        let of = |old: &[(&str, ComparedProgram)], new: &[(&str, ComparedProgram)]| {
            let differences = compare(&side(old), &side(new), Pairing::Both);
            differences.iter().map(|one| (one.presence, one.adds())).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("a", clock())], &[("a", linux())]), [(Presence::Kept, true)]);
        assert_eq!(of(&[("a", linux())], &[("a", clock())]), [(Presence::Added, true)]);
        assert_eq!(of(&[("a", linux())], &[("a", linux()), ("b", linux())]), []);
        let beside = [("a", clock()), ("proxy", linux())];
        assert_eq!(of(&[("b", clock())], &beside), [(Presence::Kept, false)], "one program on each side");
    }

    #[test]
    fn a_linux_program_of_another_name_takes_the_place_of_a_wasm_program_that_is_gone() {
        let linux = || ComparedProgram { is_linux: true, ..able(vec![entry(Capability::NativeExec)]) };
        let clock = || able(vec![entry(Capability::Clock)]);
        let of = |old: &[(&str, ComparedProgram)], new: &[(&str, ComparedProgram)], pairing| {
            let differences = compare(&side(old), &side(new), pairing);
            differences.iter().map(|one| (one.name.clone(), one.presence, one.adds())).collect::<Vec<_>>()
        };
        let said = |name: &str, presence, adds| (name.to_owned(), presence, adds);
        let (one, other) = ("Pod shop/a: main", "Pod shop/a: other");
        let elsewhere = "Pod shop/b: main";
        let within = Pairing::OfOneObject;
        assert_eq!(of(&[(one, clock())], &[(other, linux())], within), [said(other, Presence::Kept, true)]);
        assert_eq!(
            of(&[(one, clock())], &[(elsewhere, linux())], within),
            [said(one, Presence::Removed, false)],
            "another workload"
        );
        assert_eq!(
            of(&[(one, clock())], &[(elsewhere, linux())], Pairing::Both),
            [said(elsewhere, Presence::Kept, true)]
        );
        // One that was there already, and one for two.
        assert_eq!(
            of(&[(one, clock()), (other, linux())], &[(other, linux())], within),
            [said(one, Presence::Removed, false)]
        );
        let (second, third) = ("Pod shop/a: second", "Pod shop/a: third");
        assert_eq!(
            of(&[(one, clock()), (second, clock())], &[(other, linux())], within),
            [said(other, Presence::Kept, true), said(second, Presence::Removed, false)]
        );
        // Nor does a small Wasm program beside it hide it.
        assert_eq!(
            of(&[(one, clock())], &[(one, linux()), (third, able(vec![]))], within),
            [said(one, Presence::Kept, true), said(third, Presence::Added, false)]
        );
    }

    #[test]
    fn another_object_is_another_workload_unless_two_files_are_compared() {
        let clock = || able(vec![entry(Capability::Clock)]);
        let of = |before: &str, after: &str, pairing| {
            let differences = compare(&side(&[(before, clock())]), &side(&[(after, clock())]), pairing);
            differences.iter().any(Difference::adds)
        };
        assert!(of("Pod shop/a: main", "Pod shop/b: main", Pairing::OfOneObject));
        assert!(of("Pod shop/a: main", "Pod other/a: main", Pairing::OfOneObject));
        assert!(!of("Pod shop/a: main", "Pod shop/a: renamed", Pairing::OfOneObject));
        assert!(!of("Pod shop/a: main", "Pod shop/b: main", Pairing::Both));
    }

    #[test]
    fn a_new_denial_or_interpreter_counts_as_added_and_a_new_import_alone_does_not() {
        let of = |change: fn(&mut ComparedProgram)| {
            let mut new = ComparedProgram::absent();
            change(&mut new);
            compare(&side(&[("a", ComparedProgram::absent())]), &side(&[("a", new)]), Pairing::Both).remove(0)
        };
        assert!(of(|p| p.denials = Some(["needs-grant (fs)".to_string()].into())).adds());
        assert!(of(|p| p.interpreters = ["CPython".to_string()].into()).adds());
        let import = of(|p| p.imports = ["wasi:cli/exit exit".to_string()].into());
        assert!(!import.adds() && !import.is_empty());
    }

    #[test]
    fn denials_are_compared_only_where_the_rules_were_asked_about_both() {
        let denied = |denials: Option<&str>| ComparedProgram {
            denials: denials.map(|one| [one.to_string()].into()),
            ..ComparedProgram::default()
        };
        let of = |old, new| compare(&side(&[("a", old)]), &side(&[("a", new)]), Pairing::Both).remove(0);
        for (old, new) in [(None, Some("needs-grant (fs)")), (Some("needs-grant (fs)"), None)] {
            let difference = of(denied(old), denied(new));
            assert_eq!(difference.denials, Delta::default());
            assert!(!difference.adds());
        }
    }

    #[test]
    fn nothing_is_known_to_be_added_to_what_could_not_be_read() {
        let unread = ComparedProgram { unread: Some("no answer".into()), ..ComparedProgram::default() };
        let clock = able(vec![entry(Capability::Clock)]);
        let difference = compare(&side(&[("a", unread)]), &side(&[("a", clock)]), Pairing::Both).remove(0);
        assert!(!difference.adds() && difference.is_open() && !difference.is_empty(), "{difference:?}");
        assert_eq!(difference.old_unread.as_deref(), Some("no answer"));
        assert_eq!(difference.capabilities.added.len(), 1, "it is shown");
    }
}
