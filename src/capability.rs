//! What a container can call (`required`), what its runtime and pod spec hand over in any case (`ambient`), and what it
//! can therefore really do (`effective`). The last is what a grant must cover.

pub mod ambient;
pub mod difference;
pub mod effective;
pub mod glob;
pub mod interpreter;
pub mod name;
pub mod path;
pub mod required;

pub use crate::image::host::{self, HostPattern, WrittenHost};
pub use ambient::may_reach_files;
pub use effective::{Siblings, assess};
pub use name::{Capability, Parameter};

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::text;

/// Name patterns of the variables that service links set in every container of a namespace
/// (`kubernetes:pkg/kubelet/envvars/envvars.go`, `FromServices`).
pub const SERVICE_LINKS: [&str; 4] = ["*_SERVICE_HOST", "*_SERVICE_PORT*", "*_PORT", "*_PORT_*"];

/// Kind of access to files. Ordered: `read-write` includes `read-only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    /// The word in grants and facts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        }
    }
}

/// One capability with its parameters and its evidence. An absent parameter means "any", so an entry without parameters
/// is the widest of its capability.
#[allow(clippy::struct_excessive_bools, reason = "each is a mark of its own")]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Which capability.
    pub capability: Capability,
    /// `fs`: absolute path of the reachable tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `fs`: the access to that tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Network capabilities: `scheme://host:port` in Spin's grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<WrittenHost>,
    /// For everything that has a name: variable, store, database, model, trigger, component, import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Listening capabilities: the port number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `env`, `fs`, `args` and `config`: whether it reveals a secret (a Secret, or the service-account token).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Whether it comes with the image (its own files, its own Env), or the platform puts it into every container alike
    /// (`HOSTNAME`, service links). Granted by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// In what a program can call: whether the program can open files; of an unknown import, whether it may do whatever can be done
    /// with what is handed over. In what it is handed and can do: whether it is
    /// reached only by way of the process that runs the program: by opening a file that the kernel shows below `/proc`, `/sys` or
    /// `/dev`, or by SQL that this process runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opens: bool,
    /// `fs`, in what a program can call: whether it can reach something by a path, without opening it. In what it is handed and can
    /// do: whether that is enough to reach it, of what is the kernel's.
    #[serde(skip)]
    pub by_path: bool,
    /// Where it was found, such as `import wasi:sockets/tcp@0.2.6 [method]tcp-socket.start-connect`.
    pub evidence: Vec<String>,
    /// Names of the grants that cover it; `default` if every container has it. Only on effective entries.
    #[serde(default)]
    pub covered_by: Vec<String>,
}

impl Entry {
    /// An entry without parameters.
    pub fn new(capability: Capability, evidence: impl Into<String>) -> Self {
        Self {
            capability,
            path: None,
            access: None,
            host: None,
            name: None,
            port: None,
            secret: false,
            own: false,
            opens: false,
            by_path: false,
            evidence: vec![evidence_of(evidence.into())],
            covered_by: Vec::new(),
        }
    }

    /// The order of entries, whatever their evidence.
    fn cmp_but_evidence(&self, other: &Self) -> Ordering {
        let Self {
            capability,
            path,
            access,
            host,
            name,
            port,
            secret,
            own,
            opens,
            by_path,
            evidence: _,
            covered_by,
        } = self;
        let marks = (secret, own, opens, by_path);
        capability
            .cmp(&other.capability)
            .then_with(|| path.cmp(&other.path))
            .then_with(|| access.cmp(&other.access))
            .then_with(|| host.cmp(&other.host))
            .then_with(|| name.cmp(&other.name))
            .then_with(|| port.cmp(&other.port))
            .then_with(|| marks.cmp(&(&other.secret, &other.own, &other.opens, &other.by_path)))
            .then_with(|| covered_by.cmp(&other.covered_by))
    }

    /// The same with one more item of evidence.
    #[must_use]
    pub fn seen_in(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence_of(evidence.into()));
        self
    }

    /// The same with a name, control characters escaped. A name that is too long becomes `*`, any.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(parameter(name.into()).unwrap_or_else(|| "*".to_string()));
        self
    }

    /// The same with a host pattern; with none, which is any host, where a grant could not write it as it is.
    #[must_use]
    pub fn to_host(self, host: HostPattern) -> Self {
        self.to_written_host(host.into())
    }

    /// The same with the text of the pattern at hand.
    #[must_use]
    pub fn to_written_host(mut self, host: WrittenHost) -> Self {
        let is_written = fits(host.as_str()) && text::distinct(host.as_str()) == host.as_str();
        self.host = is_written.then_some(host);
        self
    }

    /// The same for the tree at `path`.
    #[must_use]
    pub fn at_path(mut self, path: impl Into<String>, access: Access) -> Self {
        self.path = parameter(path.into());
        self.access = Some(access);
        self
    }

    /// The same, marked as a secret or not.
    #[must_use]
    pub const fn mark_secret(mut self, secret: bool) -> Self {
        self.secret = secret;
        self
    }

    /// The same, marked as granted by default or not.
    #[must_use]
    pub const fn mark_own(mut self, own: bool) -> Self {
        self.own = own;
        self
    }

    /// The capability with its parameters, such as `fs /data read-write`.
    pub fn label(&self) -> String {
        format!("{} {}", self.capability.as_str(), self.parameters()).trim_end().to_string()
    }

    /// The parameters in words; empty where it has none.
    pub fn parameters(&self) -> String {
        let access = self.access.map(|access| access.as_str().to_owned());
        let host = self.host.clone().map(String::from);
        let texts = [self.path.clone(), access, host, self.name.clone()];
        let port = self.port.map(|port| format!(":{port}"));
        let secret = self.secret.then(|| "(secret)".to_string());
        let words = texts.into_iter().chain([port, secret]).flatten().filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ")
    }

    /// The same, marked as reached by a path alone.
    #[must_use]
    pub const fn by_path(mut self) -> Self {
        self.by_path = true;
        self
    }

    /// The same, marked as reached by opening a file.
    #[must_use]
    pub const fn by_opening(mut self) -> Self {
        self.opens = true;
        self
    }
}

/// Most characters of one item of evidence.
const EVIDENCE_CHARS: usize = 512;

/// Most characters of a name, path or host; a longer one is taken for any.
const PARAMETER_CHARS: usize = 1024;

/// A piece of evidence: no two that differ within the bound look the same. Nearly every one is kept as it is.
fn evidence_of(written: String) -> String {
    match text::shorten(&written, EVIDENCE_CHARS) {
        Cow::Borrowed(_) => distinct(written),
        Cow::Owned(short) => distinct(short),
    }
}

fn distinct(written: String) -> String {
    match text::distinct(&written) {
        Cow::Borrowed(_) => written,
        Cow::Owned(shown) => shown,
    }
}

/// A parameter as grants must write it; `None`, which is any, if it is too long: a shortened one would be another.
fn parameter(written: String) -> Option<String> {
    fits(&written).then(|| distinct(written))
}

/// Whether a parameter is not too long.
fn fits(written: &str) -> bool {
    written.len() <= PARAMETER_CHARS || written.chars().nth(PARAMETER_CHARS).is_none()
}

/// Most entries of one capability in one list. A binary may import as many names as fit into its bytes, and every rule
/// judges every entry and every record contains it.
pub const MAX_ENTRIES: usize = 256;

/// Most entries of the files of a Spin component and of the mounts in them that are told apart. More become one that stands for all files.
pub const MAX_OPENED: usize = 4 * MAX_ENTRIES;

/// Most places that an entry lists; the rest is counted.
pub const MAX_EVIDENCE: usize = 8;

/// Sorts the entries, and joins those with the same capability and parameters into one with the evidence of all. If a
/// capability has more than [`MAX_ENTRIES`], the last ones become one entry without parameters, which is wider than
/// each of them: nothing that needed a grant stops needing one, and a grant by name does not cover it.
pub fn merge(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    collapse(joined(entries))
}

/// Entries that are still added to, without those that are there again, once they are many: each of many components may have the same.
fn keep_few(entries: &mut Vec<Entry>) {
    if entries.len() > 8 * MAX_ENTRIES {
        *entries = joined(std::mem::take(entries));
    }
}

impl Capabilities {
    /// [`keep_few`] of each list.
    fn keep_few(&mut self) {
        for list in [&mut self.requires, &mut self.ambient, &mut self.effective, &mut self.missing] {
            keep_few(list);
        }
    }
}

fn joined(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut merged: Vec<Entry> = entries.into_iter().collect();
    merged.sort_by(Entry::cmp_but_evidence);
    merged.dedup_by(|later, kept| {
        let is_same = later.cmp_but_evidence(kept).is_eq();
        if is_same {
            kept.evidence.append(&mut later.evidence);
        }
        is_same
    });
    for entry in &mut merged {
        entry.evidence = counted(std::mem::take(&mut entry.evidence));
    }
    merged
}

/// Evidence sorted and without duplicates, cut to [`MAX_EVIDENCE`] items. Adds up earlier counts of further places.
fn counted(evidence: Vec<String>) -> Vec<String> {
    counted_to(evidence, MAX_EVIDENCE)
}

fn counted_to(evidence: Vec<String>, most: usize) -> Vec<String> {
    // Nearly every entry is seen in one place.
    if let [only] = evidence.as_slice()
        && most > 0
        && !only.starts_with("and ")
    {
        return evidence;
    }
    let count = |text: &str| text.strip_prefix("and ")?.strip_suffix(" more places")?.parse::<usize>().ok();
    let before: usize = evidence.iter().filter_map(|text| count(text)).fold(0, usize::saturating_add);
    let mut places: Vec<String> = evidence.into_iter().filter(|text| count(text).is_none()).collect();
    places.sort();
    places.dedup();
    let more = before.saturating_add(places.len().saturating_sub(most));
    places.truncate(most);
    if more > 0 {
        places.push(format!("and {more} more places"));
    }
    places
}

/// A capability and its marks: own, secret, reached by opening.
type Group = (Capability, bool, bool, bool);

/// At most [`MAX_ENTRIES`] of each capability with the same marks, plus the widest one, which stands for the others.
/// Entries with other marks are never mixed in: granted by default or not, secret or not.
fn collapse(mut entries: Vec<Entry>) -> Vec<Entry> {
    if entries.len() <= MAX_ENTRIES {
        entries.sort_unstable();
        return entries;
    }
    let mut kept = Vec::new();
    let mut groups: BTreeMap<Group, (usize, Option<Entry>)> = BTreeMap::new();
    for entry in entries {
        let (count, widest) =
            groups.entry((entry.capability, entry.own, entry.secret, entry.opens)).or_default();
        if is_widest(&entry) {
            *widest = Some(entry);
            continue;
        }
        *count += 1;
        if *count <= MAX_ENTRIES {
            kept.push(entry);
        } else if widest.is_none() {
            *widest = Some(widest_of(&entry));
        }
    }
    for (count, widest) in groups.into_values() {
        let more = count.saturating_sub(MAX_ENTRIES);
        kept.extend(widest.map(|mut widest| {
            if more > 0 {
                widest.evidence.push(format!("{more} more {}", things(widest.capability)));
            }
            widest
        }));
    }
    kept.sort();
    kept
}

/// The entry without its parameters. Service chaining keeps a name, because without one it stands for a runtime that no
/// profile describes.
fn widest_of(entry: &Entry) -> Entry {
    let any = Entry { evidence: Vec::new(), ..Entry::new(entry.capability, "") };
    let any = Entry { opens: entry.opens, ..any.mark_own(entry.own).mark_secret(entry.secret) };
    if entry.capability == Capability::ServiceChaining { any.named("*") } else { any }
}

/// Whether the entry is [`widest_of`] itself, whatever its evidence.
fn is_widest(entry: &Entry) -> bool {
    let Entry { capability, path, access, host, name, port, by_path, covered_by, .. } = entry;
    let any = if *capability == Capability::ServiceChaining { Some("*") } else { None };
    let has_place = path.is_some() || access.is_some() || host.is_some() || port.is_some();
    !has_place && name.as_deref() == any && !by_path && covered_by.is_empty()
}

const fn things(capability: Capability) -> &'static str {
    match capability {
        Capability::UnknownImport => "imports",
        Capability::Env => "variables",
        Capability::Fs => "paths",
        Capability::Device => "devices",
        _ => "of them",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{
        Access, Capability, Entry, MAX_ENTRIES, MAX_EVIDENCE, PARAMETER_CHARS, counted, glob, is_widest,
        keep_few, merge, widest_of,
    };

    /// The same, one entry after the other, where none is too many.
    fn merged_one_by_one(entries: &[Entry]) -> Vec<Entry> {
        let mut merged: BTreeMap<Entry, Vec<String>> = BTreeMap::new();
        for entry in entries {
            let key = Entry { evidence: Vec::new(), ..entry.clone() };
            merged.entry(key).or_default().extend(entry.evidence.iter().cloned());
        }
        let with_evidence =
            |(entry, evidence): (Entry, Vec<String>)| Entry { evidence: counted(evidence), ..entry };
        let mut all: Vec<Entry> = merged.into_iter().map(with_evidence).collect();
        all.sort();
        all
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let capability =
            prop::sample::select(vec![Capability::Env, Capability::Fs, Capability::ServiceChaining]);
        let name = prop::option::of(prop::sample::select(vec!["*", "A", "B"]));
        let path = prop::option::of(prop::sample::select(vec!["/", "/a"]));
        let access = prop::option::of(prop::sample::select(vec![Access::ReadOnly, Access::ReadWrite]));
        let port = prop::option::of(0_u16..2);
        let evidence = prop::sample::select(vec!["x", "y", "z", "and 2 more places", "and 007 more places"]);
        let evidence = prop::collection::vec(evidence, 0..3);
        let covered_by = prop::collection::vec(prop::sample::select(vec!["default", "g"]), 0..2);
        let marks = any::<[bool; 4]>();
        (capability, name, path, access, port, evidence, covered_by, marks).prop_map(
            |(capability, name, path, access, port, evidence, covered_by, [secret, own, opens, by_path])| {
                Entry {
                    name: name.map(String::from),
                    path: path.map(String::from),
                    access,
                    port,
                    evidence: evidence.into_iter().map(String::from).collect(),
                    covered_by: covered_by.into_iter().map(String::from).collect(),
                    secret,
                    own,
                    opens,
                    by_path,
                    ..Entry::new(capability, "")
                }
            },
        )
    }

    #[test]
    fn what_many_components_have_in_common_is_kept_once_while_they_are_looked_at() {
        let of = |component: usize| {
            let name = move |number: usize| {
                let evidence = format!("component {component:03}");
                Entry::new(Capability::UnknownImport, evidence).named(format!("f{number}"))
            };
            (0..MAX_ENTRIES).map(name)
        };
        let (mut few, mut all) = (Vec::new(), Vec::new());
        for component in 0..128 {
            few.extend(of(component));
            keep_few(&mut few);
            assert!(few.len() <= 8 * MAX_ENTRIES, "{component}: {}", few.len());
            all.extend(of(component));
        }
        assert_eq!(merge(few), merge(all));
    }

    #[test]
    fn the_widest_entry_is_known_without_making_it() {
        let (mut widest, mut others) = (0, 0);
        for capability in Capability::ALL.iter().copied() {
            let plain = || Entry::new(capability, "x");
            let covered = Entry { covered_by: vec!["default".into()], ..plain() };
            let port = Entry { port: Some(80), ..plain() };
            for entry in [
                plain(),
                plain().mark_own(true).mark_secret(true).by_opening(),
                plain().seen_in("y"),
                plain().named("*"),
                plain().named("a"),
                plain().by_path(),
                plain().at_path("/a", Access::ReadOnly),
                plain().to_host("https://a.example".parse().unwrap()),
                covered,
                port,
            ] {
                let wanted = Entry { evidence: Vec::new(), ..entry.clone() } == widest_of(&entry);
                assert_eq!(is_widest(&entry), wanted, "{entry:?}");
                *(if wanted { &mut widest } else { &mut others }) += 1;
            }
        }
        assert!(widest > 0 && others > 0);
    }

    #[test]
    fn texts_are_kept_as_they_are_or_shown_so_that_no_two_become_one() {
        let entry = Entry::new(Capability::Env, "plain").seen_in("a\u{202e}b\\").seen_in("é".repeat(600));
        assert_eq!(entry.evidence[..2], ["plain".to_owned(), r"a\u{202e}b\\".to_owned()]);
        assert_eq!(entry.evidence[2].chars().count(), super::EVIDENCE_CHARS);
        let name = |text: String| Entry::new(Capability::Env, "x").named(text).name.unwrap();
        assert_eq!(name("a\nb".into()), r"a\nb");
        let (fits, too_long) = ("é".repeat(PARAMETER_CHARS), "é".repeat(PARAMETER_CHARS + 1));
        assert_eq!((name(fits.clone()), name(too_long)), (fits, "*".to_owned()));
    }

    #[test]
    fn a_flood_of_names_becomes_one_entry_that_no_name_covers() {
        let entry =
            |n: usize| Entry::new(Capability::UnknownImport, format!("import m.{n}")).named(format!("m.{n}"));
        let merged = merge((0..95_000).map(entry).chain([Entry::new(Capability::Clock, "x")]));
        assert_eq!(merged.len(), MAX_ENTRIES + 2);
        let widest: Vec<&Entry> =
            merged.iter().filter(|e| e.capability == Capability::UnknownImport && e.name.is_none()).collect();
        assert_eq!(widest.len(), 1);
        assert_eq!(widest[0].evidence, [format!("{} more imports", 95_000 - MAX_ENTRIES)]);
    }

    #[test]
    fn a_flood_of_places_is_counted_once_however_often_it_is_merged() {
        let entries = || (0..100).map(|n| Entry::new(Capability::Clock, format!("import {n:03}")));
        let once = merge(entries());
        assert_eq!(once[0].evidence.len(), MAX_EVIDENCE + 1);
        assert_eq!(once[0].evidence[MAX_EVIDENCE], "and 92 more places");
        assert_eq!(merge(once.clone()), once);
        let twice = counted([once[0].evidence.clone(), vec!["import 100".into()]].concat());
        assert_eq!(twice.last().map(String::as_str), Some("and 93 more places"));
    }

    fn covers(wide: &Entry, narrow: &Entry) -> bool {
        let name =
            wide.name.as_ref().is_none_or(|w| narrow.name.as_ref().is_some_and(|n| glob::covers(w, n)));
        wide.capability == narrow.capability && name && wide.own <= narrow.own && wide.secret >= narrow.secret
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Every entry stays covered by one that is as wide, as secret, and not granted by default if it was not.
        #[test]
        fn collapsing_never_narrows(
            marks in prop::collection::vec((any::<bool>(), prop::bool::weighted(0.1), 0..2_usize), 0..1500)
        ) {
            let of = [Capability::Env, Capability::ServiceChaining];
            let entries: Vec<Entry> = marks.iter().enumerate().filter_map(|(n, (own, secret, which))| {
                let entry = Entry::new(*of.get(*which)?, "x").named(format!("n{n}"));
                Some(entry.mark_own(*own).mark_secret(*secret))
            }).collect();
            let merged = merge(entries.clone());
            prop_assert!(merged.len() <= of.len() * 4 * (MAX_ENTRIES + 1));
            for entry in &entries {
                prop_assert!(merged.iter().any(|wide| covers(wide, entry)), "{entry:?}");
            }
            prop_assert_eq!(merge(merged.clone()), merged);
        }

        #[test]
        fn entries_are_merged_by_all_that_they_are_but_their_evidence(
            entries in prop::collection::vec(entry(), 0..40),
        ) {
            let merged = merge(entries.clone());
            prop_assert_eq!(&merged, &merged_one_by_one(&entries));
            prop_assert_eq!(merge(merged.clone()), merged);
        }
    }
}

/// The three lists of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// What the program can call.
    pub requires: Vec<Entry>,
    /// What is handed over, whether or not the program can call it.
    pub ambient: Vec<Entry>,
    /// What it can call and is handed, with the narrower of each two parameters.
    pub effective: Vec<Entry>,
    /// What it can call but is not handed: those calls will fail.
    pub missing: Vec<Entry>,
}
