//! Images behind an index: every node pulls the manifest of its own platform.

use std::collections::{BTreeSet, HashMap};

use super::{Look, OF_MANIFEST};
use crate::image::annotation;
use crate::image::entry::DIFFERS;
use crate::image::layer::{MAX_NODES, MAX_PATHS};
use crate::image::malformed::Malformed;
use crate::image::manifest::{self, Document, ImageManifest};
use crate::image::names::APPLICATION_FILES;
use crate::image::path;
use crate::image::platform::is_wasm;
use crate::image::{Depth, Digest, Evidence, FileClass, ImageFacts, leads};
use crate::registry::source::Source;

/// Most other entries of one index whose programs are compared; official images are built for up to nine platforms.
const MAX_PLATFORMS: usize = 16;
/// Most names of files that are kept of the platforms of an index, and most bytes of them with what is kept of each: half of what is
/// read of one image, since the files of another platform are read beside them. Images of distributions keep some thousand.
const MAX_KEPT_NAMES: usize = MAX_NODES / 2;
const MAX_KEPT_BYTES: usize = MAX_PATHS / 2;

impl<S: Source> Look<'_, S> {
    /// The manifest of an index entry.
    async fn entry(&self, entry: &manifest::IndexEntry) -> Result<ImageManifest, S::Error> {
        if entry.descriptor.size > self.limits.manifest {
            return Err(self.too_large("a manifest of the index", self.limits.manifest, OF_MANIFEST));
        }
        let fetched = self.manifest(&self.reference.with_digest(&entry.descriptor.digest)).await?;
        self.check_size(&entry.descriptor, fetched.bytes.len(), "a manifest of the index")?;
        let bytes = fetched.bytes;
        match self.document(bytes.clone(), manifest::parse, "a manifest of the index").await? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => {
                // containerd reads on in it (`containerd:core/images/image.go`, `Manifest`).
                self.note_hints_in_time(bytes).await;
                let malformed = Malformed::new("it leads to another index; push an index of manifests");
                Err(self.error("the index", malformed))
            }
        }
    }

    pub(super) async fn index(
        &self,
        digest: &Digest,
        entries: &[manifest::IndexEntry],
    ) -> Result<ImageFacts, S::Error> {
        let choice = match manifest::choose(entries) {
            Ok(choice) => choice,
            Err(nothing) => {
                return Ok(ImageFacts::blank(digest, digest).not_startable(format!("the index: {nothing}")));
            }
        };
        if is_wasm(&choice.entry.platform) {
            self.source.note_wasm();
        }
        let chosen = self.entry(&choice.entry).await?;
        let mut facts = ImageFacts::blank(digest, &choice.entry.descriptor.digest);
        facts.saw("index.manifests", choice.reason);
        facts.warnings.extend(choice.warning);
        let pulled = |entry: &manifest::IndexEntry| {
            may_run_instead(entry, &choice.entry) && !entry.names_nothing && self.is_pulled(&entry.platform)
        };
        let is_alone = !entries.iter().any(|entry| *entry != choice.entry && pulled(entry));
        if choice.unmatched || !entries.iter().any(pulled) {
            let platform = if choice.entry.names_nothing { "{}" } else { &choice.entry.platform };
            facts.matches_no_node(platform);
        }
        let mut facts = self.image(facts, &chosen).await?;
        if choice.entry.platform.is_empty() && is_alone {
            self.check_platform_of_config(&mut facts);
        }
        // An ordinary image under an ordinary runtime runs no Wasm on any platform.
        let ordinary = facts.shape.is_ordinary() && !facts.scanned;
        if facts.shape.is_startable() && (self.depth == Depth::Layers || !ordinary) {
            return self.same_everywhere(facts, entries, &choice.entry).await;
        }
        Ok(facts)
    }

    /// Whether a node's platform may match that of an entry. No node is of an architecture of Wasm, whatever the system.
    fn is_pulled(&self, platform: &str) -> bool {
        self.nodes.may_read(platform) && !is_wasm(platform)
    }

    /// Notes that no node pulls the one entry of an index without a platform, of which a node reads that of the config.
    fn check_platform_of_config(&self, facts: &mut ImageFacts) {
        let platform = facts.platform.clone();
        let matches = platform.starts_with("linux/") && self.is_pulled(&platform);
        if facts.unmatched_platform.is_none() && !platform.is_empty() && !matches {
            facts.matches_no_node(&platform);
        }
    }

    /// The same inspection, including the layers if those of the chosen manifest were read: both must be equally deep
    /// to be compared.
    fn as_deep_as(&self, facts: &ImageFacts) -> Look<'_, S> {
        let depth = if facts.scanned { Depth::Layers } else { self.depth };
        let (slot, names, image) = (self.slot.clone(), self.names.clone(), self.image.clone());
        let Self { source, reference, limits, nodes, .. } = *self;
        Look { source, reference, depth, limits, nodes, slot, names, image }
    }

    /// A pod is pinned to the index, and every node pulls the manifest of its own platform. So the other manifests must
    /// contain the same program, or what runs would not be what was judged.
    async fn same_everywhere(
        &self,
        mut facts: ImageFacts,
        entries: &[manifest::IndexEntry],
        chosen: &manifest::IndexEntry,
    ) -> Result<ImageFacts, S::Error> {
        let mut seen = BTreeSet::from([facts.manifest_digest.clone()]);
        let others: Vec<&manifest::IndexEntry> = entries
            .iter()
            .filter(|entry| may_run_instead(entry, chosen) && self.nodes.may_read(&entry.platform))
            .filter(|entry| seen.insert(entry.descriptor.digest.clone()))
            .collect();
        if others.len() > MAX_PLATFORMS {
            let count = others.len() + 1;
            return Ok(facts.not_startable(format!(
                "the index holds programs for {count} platforms; at most {} are compared, so push Wasm as one manifest",
                MAX_PLATFORMS + 1
            )));
        }
        if !others.is_empty() {
            facts = self.small_enough(facts).await?;
        }
        for entry in others {
            let platform =
                if entry.platform.is_empty() { "an entry without a platform" } else { &entry.platform };
            let (back, same) = self.compared(facts, entry).await?;
            facts = back;
            if !same {
                let why = format!(
                    "the index holds another program for `{platform}` than for `{}`; push Wasm as one manifest",
                    facts.platform
                );
                return Ok(facts.not_startable(why));
            }
            facts.saw("index.manifests", format!("{platform} holds the same program"));
        }
        Ok(facts)
    }

    /// The facts about the first platform, if the files of another one can be read beside what is kept of it.
    async fn small_enough(&self, facts: ImageFacts) -> Result<ImageFacts, S::Error> {
        // On a blocking thread, because there may be hundreds of thousands of files.
        let measure = move || (Kept::of(&facts).is_small_enough(), facts);
        let (small, facts) = self.on_blocking_thread("the index", measure).await?;
        if small { Ok(facts) } else { Err(self.too_many_files()) }
    }

    fn too_many_files(&self) -> S::Error {
        self.error(
            "the index",
            Malformed::new(format!(
                "the programs and links of its platforms together have more than {MAX_KEPT_NAMES} names, or {MAX_KEPT_BYTES} bytes \
                 of paths and targets; push the program as a Wasm layer, or in an image of its own"
            )),
        )
    }

    /// The facts, of whose files only those are left that the entry has too, and whether it holds the same program.
    async fn compared(
        &self,
        mut facts: ImageFacts,
        entry: &manifest::IndexEntry,
    ) -> Result<(ImageFacts, bool), S::Error> {
        let manifest = self.entry(entry).await?;
        let blank = ImageFacts::blank(&facts.digest, &entry.descriptor.digest);
        let other = self.as_deep_as(&facts).image(blank, &manifest).await?;
        // On a blocking thread, because there may be hundreds of thousands of files.
        let compare = move || {
            let same = same_program(&facts, &other) && same_files(&facts, &other);
            let small = !same || !facts.shape.is_ordinary() || facts.keep_common_files(&other);
            (facts, same, small)
        };
        let (facts, same, small) = self.on_blocking_thread("the index", compare).await?;
        if small { Ok((facts, same)) } else { Err(self.too_many_files()) }
    }
}

/// Whether some node pulls this entry where another one pulls the chosen one. A Linux node takes an entry for Linux, or
/// one without a platform whose config says Linux (`containerd:core/images/image.go`, `Manifest`); nodes of other
/// systems run no Wasm. If the index has nothing for Linux, its Wasm entries count as alternatives to each other.
fn may_run_instead(entry: &manifest::IndexEntry, chosen: &manifest::IndexEntry) -> bool {
    let linux = entry.platform.is_empty() || entry.platform.starts_with("linux/");
    let wasm = is_wasm(&chosen.platform) && is_wasm(&entry.platform);
    !entry.attestation && (linux || wasm)
}

/// Whether two platforms of an index start the same program, in everything that a verdict depends on but their files, for which
/// there is [`same_files`]. A new fact has to be compared here, or named as one that no verdict depends on.
fn same_program(one: &ImageFacts, other: &ImageFacts) -> bool {
    let ImageFacts {
        digest: _,
        manifest_digest: _,
        kind,
        shape,
        platform: _,
        evidence,
        entrypoint,
        cmd,
        working_dir,
        env,
        search_path,
        volumes,
        modules,
        files: _,
        program_folders,
        scanned,
        native,
        wasm_media_type,
        archives,
        spin,
        unmatched_platform: _,
        warnings: _,
        claims: _,
        by_name: _,
    } = one;
    let names = |env: &[String]| env.iter().cloned().collect::<BTreeSet<String>>();
    (kind, shape, scanned, archives) == (&other.kind, &other.shape, &other.scanned, &other.archives)
        && (entrypoint, cmd, working_dir) == (&other.entrypoint, &other.cmd, &other.working_dir)
        && (search_path, volumes) == (&other.search_path, &other.volumes)
        && names(env) == names(&other.env)
        && *wasm_media_type == other.wasm_media_type
        && (modules, native, spin) == (&other.modules, &other.native, &other.spin)
        && of_annotations(evidence).eq(of_annotations(&other.evidence))
        && (shape.is_ordinary() || program_folders == &other.program_folders)
}

/// What was seen of the annotations of a manifest: by some of them crun chooses another handler, or acts on the node. All other evidence
/// says what the facts beside it say, or is only for people.
fn of_annotations(evidence: &[Evidence]) -> impl Iterator<Item = &Evidence> {
    evidence.iter().filter(|evidence| annotation::seen_at(&evidence.seen).is_some())
}

/// Whether two platforms have those files alike that all have to. Native programs and links differ between the platforms of every
/// ordinary image.
fn same_files(one: &ImageFacts, other: &ImageFacts) -> bool {
    if one.shape.is_ordinary() { own_files(one).eq(own_files(other)) } else { one.files == other.files }
}

/// The files of an ordinary image that every platform has to have alike, whichever platforms were compared with it before: what
/// those have otherwise is none of them.
fn own_files(facts: &ImageFacts) -> impl Iterator<Item = &(String, FileClass)> {
    let differs =
        |class: &FileClass| matches!(class, FileClass::Unreadable { message } if message == DIFFERS);
    facts.files.iter().filter(move |file| !is_of_platform(file) && !differs(&file.1))
}

fn is_of_platform((name, class): &(String, FileClass)) -> bool {
    matches!(
        class,
        FileClass::Native { .. }
            | FileClass::Link { .. }
            | FileClass::PerPlatform { .. }
            | FileClass::Varies { .. }
            | FileClass::Other
            | FileClass::Data
    ) && !APPLICATION_FILES.contains(&name.as_str())
}

/// Most steps along the links of two platforms that are compared, and most bytes of paths on them that are remembered. Images
/// of distributions need a thousandth of either.
const MAX_STEPS: usize = 2_000_000;
const MAX_PLACES: usize = 1 << 20;
/// Bytes of a path that take one step more: it is looked up by its whole text.
const BYTES_OF_A_STEP: usize = 256;

/// What is left of both.
struct Left {
    steps: usize,
    bytes: usize,
}

impl Left {
    /// What a path leads to, if that is a native program on both platforms.
    fn program_on_both(&mut self, one: &ImageFacts, other: &ImageFacts, name: &str) -> Option<FileClass> {
        if self.steps == 0 {
            return None;
        }
        let (program, mut places) = self.program(one, name)?;
        places.extend(self.program(other, name)?.1);
        let bytes = places.iter().map(|place| place.len() + size_of::<String>()).sum();
        self.bytes = self.bytes.checked_sub(bytes)?;
        let mut program = Box::new(program.clone());
        if let FileClass::Native { found, .. } = program.as_mut() {
            // That is known of one of them alone.
            *found = false;
        }
        Some(FileClass::PerPlatform { program, places: places.into_iter().collect() })
    }

    /// The native program that every user may execute to which a path leads, and the paths on the way.
    fn program<'a>(
        &mut self,
        facts: &'a ImageFacts,
        name: &str,
    ) -> Option<(&'a FileClass, BTreeSet<String>)> {
        let mut places = BTreeSet::new();
        let mut known = true;
        let end = path::resolve(name, true, |at| {
            let target = leads::target(facts, at);
            let parts = 1 + at.len() / BYTES_OF_A_STEP + target.map_or(0, |target| target.split('/').count());
            known &= self.steps >= parts;
            self.steps = self.steps.saturating_sub(parts);
            let class = leads::class(facts, at);
            known &= !matches!(class, Some((_, FileClass::Unreadable { .. } | FileClass::Varies { .. })));
            if target.is_some() {
                places.insert(at.to_string());
            }
            target.filter(|_| known)
        })?;
        let (at, class) = leads::class(facts, &end).filter(|_| known)?;
        places.insert(at.to_string());
        match class {
            FileClass::Native { runs: true, .. } => Some((class, places)),
            FileClass::PerPlatform { program, places: more } => {
                places.extend(more.iter().cloned());
                Some((program, places))
            }
            _ => None,
        }
    }
}

/// Which folders lie behind a link of a platform. Each is asked for once, however deep the files in it are.
struct Linked<'a> {
    of: &'a ImageFacts,
    known: HashMap<&'a str, bool>,
}

impl<'a> Linked<'a> {
    /// Whether a file is behind a link.
    fn holds(&mut self, name: &'a str) -> bool {
        let (mut way, mut folder) = (Vec::new(), path::split(name).0);
        let found = loop {
            if folder == "/" || folder.is_empty() {
                break false;
            }
            if let Some(known) = self.known.get(folder) {
                break *known;
            }
            way.push(folder);
            if leads::target(self.of, folder).is_some() {
                break true;
            }
            folder = path::split(folder).0;
        };
        self.known.extend(way.into_iter().map(|folder| (folder, found)));
        found
    }
}

/// Most links of different platforms that are remembered of one path.
const MAX_TARGETS: usize = 4;

/// What is at a path of which two platforms have different things, or of which one lies behind a link of the other.
fn varies(ours: Option<&FileClass>, theirs: Option<&FileClass>, linked: bool) -> FileClass {
    if let Some(plain) = plain(ours, theirs).filter(|_| !linked) {
        return plain;
    }
    let both = of_one(ours).zip(of_one(theirs)).filter(|_| !linked);
    let found = both.map(|((native, ours), (also, theirs))| {
        let targets: BTreeSet<&str> = ours.into_iter().chain(theirs).collect();
        (native && also, targets)
    });
    match found.filter(|(_, targets)| targets.len() <= MAX_TARGETS) {
        Some((native, targets)) => {
            FileClass::Varies { native, targets: targets.into_iter().map(String::from).collect() }
        }
        None => FileClass::Unreadable { message: DIFFERS.into() },
    }
}

/// What two platforms have of a file that no user may execute on one of them, if neither has anything that starts.
fn plain(ours: Option<&FileClass>, theirs: Option<&FileClass>) -> Option<FileClass> {
    let is_plain =
        |class: Option<&FileClass>| matches!(class, None | Some(FileClass::Data | FileClass::Other));
    let has = |class: &FileClass| [ours, theirs].contains(&Some(class));
    let found = has(&FileClass::Data) && is_plain(ours) && is_plain(theirs);
    found.then(|| if has(&FileClass::Other) { FileClass::Other } else { FileClass::Data })
}

/// Whether it is a native program that every user may execute or nothing on one platform, and where the links lead that it
/// is; `None` for anything else.
fn of_one(class: Option<&FileClass>) -> Option<(bool, Vec<&str>)> {
    match class {
        None => Some((true, Vec::new())),
        Some(FileClass::Native { runs, .. }) => Some((*runs, Vec::new())),
        Some(FileClass::Link { target }) => Some((false, vec![target])),
        Some(FileClass::Varies { native, targets, .. }) => {
            Some((*native, targets.iter().map(String::as_str).collect()))
        }
        Some(_) => None,
    }
}

/// What is kept of the files of all platforms that were compared.
#[derive(Default)]
struct Kept {
    names: usize,
    /// Bytes of the names, of what is kept of each, and of the folders of programs.
    bytes: usize,
}

impl Kept {
    fn of(facts: &ImageFacts) -> Self {
        let mut kept = Self::default();
        for (name, class) in &facts.files {
            kept.add_file(name, class);
        }
        kept.bytes = kept.bytes.saturating_add(bytes_of_texts(&facts.program_folders));
        kept
    }

    fn add_file(&mut self, name: &str, class: &FileClass) {
        self.names += 1;
        self.bytes = self.bytes.saturating_add(name.len()).saturating_add(bytes_of(class));
    }

    fn is_small_enough(&self) -> bool {
        self.names <= MAX_KEPT_NAMES && self.bytes <= MAX_KEPT_BYTES
    }
}

/// Bytes of what is kept of a file beside its name.
fn bytes_of(class: &FileClass) -> usize {
    match class {
        FileClass::Unreadable { message } => message.len(),
        FileClass::Link { target } => target.len(),
        FileClass::PerPlatform { places: texts, .. } | FileClass::Varies { targets: texts, .. } => {
            bytes_of_texts(texts)
        }
        FileClass::Wasm | FileClass::Native { .. } | FileClass::Other | FileClass::Data => 0,
    }
}

/// Bytes of texts in a list, of which there may be several for one name.
fn bytes_of_texts(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + size_of::<String>()).sum()
}

impl ImageFacts {
    /// Marks the native programs and links that another platform lacks, or has behind a different link: a pod that
    /// starts one of these, or finds it first in a search, starts something else there. What is a program on both is known as
    /// that, as `/etc/alternatives/java` of Debian, which leads to a folder with the name of the platform.
    /// Returns whether that is little enough to be kept, and ends as soon as it is not.
    fn keep_common_files(&mut self, other: &Self) -> bool {
        let mut kept = Kept::of(self);
        let mut behind = Linked { of: other, known: HashMap::new() };
        let mut left = Left { steps: MAX_STEPS, bytes: MAX_PLACES };
        let mut differing = Vec::new();
        for (number, file) in self.files.iter().enumerate() {
            let (name, class) = file;
            let theirs = leads::class(other, name).map(|(_, class)| class);
            let linked = is_of_platform(file) && behind.holds(name);
            if is_of_platform(file) && (theirs != Some(class) || linked) {
                let program = left.program_on_both(self, other, name);
                let found = program.unwrap_or_else(|| varies(Some(class), theirs, linked));
                kept.bytes = kept.bytes.saturating_sub(bytes_of(class)).saturating_add(bytes_of(&found));
                if !kept.is_small_enough() {
                    return false;
                }
                differing.push((number, found));
            }
        }
        let mut behind = Linked { of: self, known: HashMap::new() };
        let mut missing = Vec::new();
        for (name, class) in other.files.iter().filter(|(name, _)| leads::class(self, name).is_none()) {
            let found = varies(None, Some(class), behind.holds(name));
            kept.add_file(name, &found);
            if !kept.is_small_enough() {
                return false;
            }
            missing.push((name.clone(), found));
        }
        for (number, class) in differing {
            if let Some(file) = self.files.get_mut(number) {
                file.1 = class;
            }
        }
        self.files.extend(missing);
        self.files.sort_by(|a, b| a.0.cmp(&b.0));
        self.program_folders.extend_from_slice(&other.program_folders);
        self.program_folders.sort();
        self.program_folders.dedup();
        Kept::of(self).is_small_enough()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Shape;

    fn facts(files: Vec<(String, FileClass)>) -> ImageFacts {
        let digest = Digest::of(b"image");
        ImageFacts { shape: Shape::LinuxRootfs, files, ..ImageFacts::blank(&digest, &digest) }
    }

    /// Links of which the targets take eight million bytes.
    fn links(folder: &str, letter: &str) -> ImageFacts {
        let link = |n: usize| (format!("/{folder}/{n:04}"), FileClass::Link { target: letter.repeat(4_000) });
        facts((0..2_000).map(link).collect())
    }

    #[test]
    fn where_the_links_of_all_platforms_lead_is_bounded() {
        let one = || links("a", "x");
        assert!(one().keep_common_files(&one()), "the same");
        assert!(!one().keep_common_files(&links("b", "x")), "other links");
        assert!(!one().keep_common_files(&links("a", "y")), "links to other places");
    }

    #[test]
    fn why_files_cannot_be_read_and_folders_of_programs_count() {
        let message = |n: usize| (format!("/{n:04}"), FileClass::Unreadable { message: "x".repeat(4_000) });
        let unread = |count: usize| facts((0..count).map(message).collect());
        assert!(Kept::of(&unread(3_000)).is_small_enough());
        assert!(!Kept::of(&unread(4_000)).is_small_enough());
        let searched = |letter: &str| {
            let folders = (0..1_000).map(|n| format!("/{}/{n:04}", letter.repeat(4_000)));
            ImageFacts { program_folders: folders.collect(), ..facts(Vec::new()) }
        };
        let mut all = searched("a");
        let kept = ["a", "b", "c", "d"].map(|letter| all.keep_common_files(&searched(letter)));
        assert_eq!(kept, [true, true, true, false]);
    }

    #[test]
    fn what_differs_between_two_platforms_is_not_missed_on_a_third() {
        let with = |name: &str, class: FileClass| {
            facts(vec![(name.into(), class), ("/app.wasm".into(), FileClass::Wasm)])
        };
        let mut one = with("/a", FileClass::Link { target: "x".into() });
        let two = with("/a", FileClass::Other);
        assert!(same_files(&one, &two));
        assert!(one.keep_common_files(&two));
        let differs = FileClass::Unreadable { message: DIFFERS.into() };
        assert_eq!(one.files.first(), Some(&("/a".to_string(), differs)));
        assert!(same_files(&one, &two), "a third platform, which is like the second");
        assert!(!same_files(&one, &with("/a", FileClass::Wasm)), "a module that no other platform has");
        assert!(!same_files(&one, &facts(Vec::new())), "one without the module");
    }
}
