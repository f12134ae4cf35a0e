//! What names a container's program, and the file of the image to which a path leads. Each runtime searches in its own
//! order, but all of them follow paths in the same way, and volumes hide the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::LazyLock;

pub use super::leads::{Leads, kernel_tree, leads};
pub(super) use super::leads::{class, target};

use super::annotation::handlers;
use super::leads::is_unread;
use super::mounts::{Lost, Mount, Mounts, leads_nowhere_else};
use super::names::is_wasm_name;
use super::{FileClass, ImageFacts, path};
use crate::text;

/// Where a process with the usual `PATH` of a service (`systemd:src/basic/path-util.h`, `DEFAULT_PATH_NORMAL`) or of a
/// container (`containerd:pkg/oci/spec.go`) searches for a name without a slash.
pub const SEARCH_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What is mounted into every container besides the pod's volumes: by the container runtime
/// (`containerd:pkg/oci/mounts.go`), by the CRI plug-in (`containerd:internal/cri/server/container_create_linux.go`)
/// and by the kubelet; and [`TOKEN_FOLDER`] in most. The image's own files are hidden there.
pub const KUBELET_MOUNTS: [&str; 6] =
    ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
/// Where the `ServiceAccount` admission plug-in mounts the token
/// (`kubernetes:plugin/pkg/admission/serviceaccount/admission.go`).
pub const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A variable of a container, according to its pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Variable<'a> {
    /// The pod does not set it; the image may.
    #[default]
    Unset,
    /// The pod writes it out.
    Literal(&'a str),
    /// The pod sets it, or may set it, from something outside the pod spec.
    Elsewhere,
}

/// What a pod says about how a container starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start<'a> {
    /// `command`: replaces the image's Entrypoint, and its Cmd with it.
    pub command: &'a [String],
    /// `args`: replaces the image's Cmd.
    pub args: &'a [String],
    /// `workingDir`: replaces the image's `WorkingDir`.
    pub working_dir: Option<&'a str>,
    /// Mounts, which hide the image's own files.
    pub mounts: &'a [Mount<'a>],
    /// The pod's annotations, which can ask crun and youki for a Wasm handler
    /// ([`super::annotation::crun_annotation`]).
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// `PATH`, in which crun and youki search.
    pub path: Variable<'a>,
    /// [`super::names::TEMPORARY`], below which the Spin shim unpacks archives.
    pub temporary: Variable<'a>,
    /// [`super::names::SPIN_RETAINED`], which makes the Spin shim narrow an application.
    pub retained: Variable<'a>,
    /// Who else than the container may write to the shared memory of its pod, in [`super::mounts::SHARED_MEMORY`].
    pub shares_memory: Option<Sharer>,
}

/// Who shares the memory of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharer {
    /// Other containers of its pod.
    Pod,
    /// All processes of the node.
    Node,
}

/// An image as a container of a pod sees it: its files, and the mounts over them. Built once, so that no query takes
/// time in proportion to the number of mounts, which a tenant chooses.
#[derive(Debug)]
pub struct View<'a> {
    /// The image.
    pub facts: &'a ImageFacts,
    /// What the pod says.
    pub start: &'a Start<'a>,
    placed: Rc<Placed>,
    /// Whether an empty folder is mounted at each volume of the image.
    is_emptied: bool,
}

/// The mounts over the files of an image.
#[derive(Debug)]
struct Placed {
    /// Their paths, as written and with the links of the image followed.
    mounted: BTreeSet<String>,
    /// Where they are.
    found: Mounts,
    /// Whether nothing of the image leads a path elsewhere.
    is_straight: bool,
}

impl Placed {
    fn new(facts: &ImageFacts, start: &Start<'_>) -> Self {
        let (found, is_straight) = (Mounts::new(facts, start.mounts), leads_nowhere_else(facts));
        // Where nothing leads elsewhere, that is where they are.
        let is_other = |mount: &&Mount<'_>| !is_straight && mount.path.len() <= path::MAX_LENGTH;
        let written = start.mounts.iter().filter(is_other);
        let written = written.map(|mount| text::clean_path(mount.path));
        let mounted = found.all_places().map(|(_, place)| place.to_string()).chain(written).collect();
        Self { mounted, found, is_straight }
    }
}

/// What a path leads to when the container starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At<'a> {
    /// A file of the image, by its path after links, and its class.
    File(&'a str, &'a FileClass),
    /// Unknown content of the volume at this path.
    Hidden(String),
    /// Nothing, a folder, or a file that is neither Wasm nor a program.
    Nothing,
}

/// `path#function`, cut at the first `#` (`runwasi:crates/containerd-shim-wasm/src/sandbox/context.rs`).
pub fn cut_function(argument: &str) -> (&str, Option<&str>) {
    match argument.split_once('#') {
        Some((path, function)) => (path, Some(function)),
        None => (argument, None),
    }
}

/// Whether an entry point is named like a Wasm file, ignoring its `#function`.
pub fn names_wasm(argument: &str) -> bool {
    is_wasm_name(cut_function(argument).0) || is_wasm_name(argument)
}

/// Whether a program's name is a reason to read the layers: it is named like Wasm, or it is the root, as in the pods of
/// Spin (`spin-operator:internal/controller/deployment.go`).
pub fn needs_layers(argument: &str) -> bool {
    names_wasm(argument) || is_root(argument)
}

/// Whether a program's name is the root folder.
pub fn is_root(argument: &str) -> bool {
    !argument.is_empty() && text::clean_path(argument) == "/" && argument.contains('/')
}

/// Where the kubelet begins to make another text of one that a pod writes: it replaces `$(NAME)` by a variable of the container,
/// whose value may come from anywhere, and `$$` by `$` (`kubernetes:third_party/forked/golang/expansion/expand.go`, `Expand`).
pub fn expansion(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| matches!(pair, b"$(" | b"$$"))
}

/// The names that the kubelet looks for in a text, in order: up to the first `)`, whatever stands before it, and none after `$$`
/// (`kubernetes:third_party/forked/golang/expansion/expand.go`, `tryReadVariableName`).
pub fn references(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once('$')?;
            if let Some(opened) = after.strip_prefix('(') {
                // Without a `)` there is no other one behind either.
                let (name, behind) = opened.split_once(')')?;
                rest = behind;
                return Some(name);
            }
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    })
}

/// Whether the kubelet makes another text of one that a pod writes.
pub fn is_expanded(text: &str) -> bool {
    expansion(text).is_some()
}

/// The paths at which the image's own entry point may be.
pub(crate) fn wanted(entrypoint: &[String], cmd: &[String], working_dir: &str) -> Vec<String> {
    let Some(first) = entrypoint.first().or(cmd.first()) else { return Vec::new() };
    let mut wanted = candidates(first, working_dir);
    wanted.extend(candidates(cut_function(first).0, working_dir));
    wanted.iter().map(|path| text::clean_path(path)).collect()
}

/// A name with a slash is relative to the working directory; one without is searched for first. What is too long leads nowhere and is
/// left out (`runwasi:crates/containerd-shim-wasm/src/sandbox/path.rs`).
pub(super) fn candidates(name: &str, working_dir: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    let searched: &[&str] = if name.contains('/') { &[] } else { &SEARCH_PATH };
    let folders = searched.iter().copied().chain([working_dir]);
    folders.filter_map(|folder| path::join_short(folder, name)).collect()
}

/// The file to which a path of the image leads, ignoring volumes. If something on the way may be a link that is not the
/// same on every platform, that is what it leads to.
pub fn find<'a>(facts: &'a ImageFacts, place: &str) -> Option<(&'a str, &'a FileClass)> {
    // Wasm layers have none.
    if facts.files.is_empty() {
        return None;
    }
    let mut unread = None;
    let end = path::resolve(place, true, |at| {
        unread = unread.or_else(|| class(facts, at).filter(is_unread));
        target(facts, at)
    });
    match unread {
        // A program has nothing below it.
        Some((at, FileClass::PerPlatform { .. } | FileClass::Varies { .. }))
            if end.as_deref() != Some(at) =>
        {
            Some((at, &*VARIES))
        }
        Some(found) => Some(found),
        None => class(facts, &end?),
    }
}

/// What is not known of a file or a link.
pub const DIFFERS: &str = "it is not the same on every platform";

/// What it counts as that it is not known which file is there on which platform.
static VARIES: LazyLock<FileClass> = LazyLock::new(|| FileClass::Unreadable { message: DIFFERS.into() });

/// Whether a file of this name is known, even as a link to something that was not kept.
pub fn is_there(facts: &ImageFacts, at: &str) -> bool {
    class(facts, at).is_some() || find(facts, at).is_some()
}

impl<'a> View<'a> {
    /// The image in the pod.
    pub fn new(facts: &'a ImageFacts, start: &'a Start<'a>) -> Self {
        Self { facts, start, placed: Rc::new(Placed::new(facts, start)), is_emptied: false }
    }

    /// Another image in the same pod. What has neither files nor volumes of its own leaves the mounts where they are written.
    pub fn of_other<'b>(&'b self, facts: &'b ImageFacts) -> View<'b> {
        let is_bare = |facts: &ImageFacts| facts.files.is_empty() && facts.volumes.is_empty();
        if is_bare(facts) && is_bare(self.facts) {
            return View { facts, start: self.start, placed: Rc::clone(&self.placed), is_emptied: false };
        }
        View::new(facts, self.start)
    }

    /// The same on a node that mounts an empty folder at each volume of the image ([`super::mounts::Emptied`]); `None` where that
    /// hides nothing.
    pub fn emptied(&self) -> Option<Self> {
        let (facts, start, placed) = (self.facts, self.start, Rc::clone(&self.placed));
        placed.found.emptied().has_folders().then_some(Self { facts, start, placed, is_emptied: true })
    }

    /// Whether it is [`Self::emptied`].
    pub const fn is_emptied(&self) -> bool {
        self.is_emptied
    }

    /// A mount, or a volume of the image, that is elsewhere where the image's volumes are empty folders.
    pub fn lost_where_emptied(&self) -> Option<&Lost> {
        self.placed.found.emptied().lost()
    }

    /// Whether a path goes through a link that is gone where the image's volumes are empty folders.
    pub fn needs_link_of_volume(&self, place: &str) -> bool {
        let emptied = self.placed.found.emptied();
        let mut needs = false;
        path::resolve(place, true, |at| {
            let target = target(self.facts, at);
            needs |= target.is_some() && emptied.above(at).is_some();
            target
        });
        needs
    }

    /// A mount that may hide any file of the image.
    pub fn lost(&self) -> Option<&Lost> {
        self.placed.found.lost()
    }

    /// A volume of the image that may hide any program of it, and brings nothing ([`Mounts::over_programs`]).
    pub fn volume_over_programs(&self) -> Option<&Lost> {
        self.placed.found.over_programs()
    }

    /// The mounts, each with the place where the links of the image lead it; one has several where platforms differ.
    pub fn placed_mounts(&self) -> impl Iterator<Item = (&Mount<'a>, &str)> {
        self.placed
            .found
            .all_places()
            .filter_map(|(number, place)| Some((self.start.mounts.get(number)?, place)))
    }

    /// Whether a mount is at this path or above it.
    pub fn is_under_mount(&self, place: &str) -> bool {
        above(&self.placed.mounted, place).is_some()
    }

    /// `argv[0]`. A `command` replaces the image's Entrypoint and Cmd, `args` only its Cmd.
    pub fn first_argument(&self) -> Option<&'a str> {
        let (facts, start) = (self.facts, self.start);
        let lists: &[&[String]] = if start.command.is_empty() {
            let rest = if start.args.is_empty() { &facts.cmd } else { start.args };
            &[&facts.entrypoint, rest]
        } else {
            &[start.command]
        };
        lists.iter().find_map(|list| list.first()).map(String::as_str)
    }

    /// The working directory of the container.
    pub fn working_dir(&self) -> &'a str {
        let own = || self.facts.working_dir.as_str();
        self.start.working_dir.filter(|directory| !directory.is_empty()).unwrap_or_else(own)
    }

    /// A text with a NUL that says what starts or what hides it. A runtime in C takes it up to there, as crun does
    /// (`json-c:json_object.h`, `json_object_get_string`; `yajl:src/api/yajl_tree.h`); others start nothing.
    pub fn cut_off(&self) -> Option<&'a str> {
        let start = self.start;
        let path = match start.path {
            Variable::Literal(path) => Some(path),
            Variable::Unset | Variable::Elsewhere => None,
        };
        let named = self.first_argument().into_iter().chain([self.working_dir()]).chain(path);
        let handlers = start.annotations.into_iter().flat_map(handlers).flatten();
        let mounts = start.mounts.iter().map(|mount| mount.path);
        named.chain(handlers).chain(mounts).find(|text| text.contains('\0'))
    }

    /// A name relative to the working directory.
    pub fn here(&self, name: &str) -> String {
        path::join(self.working_dir(), name)
    }

    /// The same; `None` where it leads nowhere, because it is too long.
    pub fn here_short(&self, name: &str) -> Option<String> {
        path::join_short(self.working_dir(), name)
    }

    /// What a path leads to that may be too long to lead anywhere.
    pub fn at_short(&self, place: Option<&String>) -> At<'a> {
        place.map_or(At::Nothing, |place| self.at(place))
    }

    /// What a path leads to, mounts included. A path that ends like a folder leads to no file.
    pub fn at(&self, place: &str) -> At<'a> {
        if let Some(mount) = self.hiding(place) {
            return At::Hidden(mount);
        }
        if let Some(at) = self.below_emptied(place) {
            return at;
        }
        let folder = matches!(place.rsplit('/').next(), Some("" | "." | ".."));
        match find(self.facts, place).filter(|_| !folder) {
            Some((at, FileClass::PerPlatform { program, places })) => {
                let emptied = self.placed.found.emptied();
                let below = |place: &str| if self.is_emptied { emptied.above(place) } else { None };
                let hidden =
                    places.iter().find_map(|at| above(&self.placed.mounted, at).or_else(|| below(at)));
                hidden.map_or(At::File(at, program), |mount| At::Hidden(mount.to_string()))
            }
            Some((at, class)) => At::File(at, class),
            None => At::Nothing,
        }
    }

    /// What a path leads to that goes on below a volume of the image, where that is an empty folder.
    fn below_emptied(&self, place: &str) -> Option<At<'a>> {
        if !self.is_emptied {
            return None;
        }
        let emptied = self.placed.found.emptied();
        let mut inside = emptied.at("/");
        // The folder, and the first place below it: there is nothing.
        let mut gone: Option<(&str, String)> = None;
        let (mut goes_up, mut unread) = (false, false);
        let end = path::resolve(place, true, |at| {
            if let Some((_, first)) = &gone {
                goes_up |= at != first && !path::is_below(at, first);
                return None;
            }
            inside = inside.filter(|folder| path::is_below(at, folder));
            if let Some(folder) = inside {
                gone = Some((folder, at.to_string()));
                return None;
            }
            inside = emptied.at(at);
            unread |= class(self.facts, at).is_some_and(|file| is_unread(&file));
            target(self.facts, at)
        });
        let (folder, first) = gone.filter(|_| !unread)?;
        // A folder that the node makes for another mount may be there, and lead up again.
        let goes_up = goes_up || end.is_some_and(|end| end != first && !path::is_below(&end, &first));
        let is_open = goes_up || emptied.lost().is_some();
        Some(if is_open { At::Hidden(folder.to_string()) } else { At::Nothing })
    }

    /// The mount that hides a path, or that hides a link on the way to its file.
    pub fn hiding(&self, place: &str) -> Option<String> {
        let mounted = &self.placed.mounted;
        if mounted.is_empty() || place.len() > path::MAX_LENGTH {
            return None;
        }
        if let Some(mount) = above(mounted, &text::clean_path(place)) {
            return Some(mount.to_string());
        }
        // Without links, and if it goes up from nothing, the way visits those folders and no other.
        if self.placed.is_straight && !path::goes_up(place) {
            return None;
        }
        // Every folder on the way is visited, so that a mount above the path is met as one of them.
        let mut hiding = None;
        path::resolve(place, true, |at| {
            if hiding.is_none() {
                hiding = mounted.get(at).cloned();
            }
            target(self.facts, at)
        });
        hiding
    }

    /// What is known to be on the way of a path and is not a folder: a file, or something that differs between platforms.
    pub fn blocked(&self, place: &str) -> Option<String> {
        let mut blocked = None;
        let end = path::resolve(place, true, |at| {
            let target = target(self.facts, at);
            if target.is_none() && blocked.is_none() && class(self.facts, at).is_some() {
                blocked = Some(at.to_string());
            }
            target
        });
        blocked.or_else(|| end.is_none().then(|| place.to_string()))
    }

    /// Whether the working directory is the root, with no link of a volume on the way.
    pub fn works_in_root(&self) -> bool {
        let folder = self.working_dir();
        let end = path::resolve(folder, true, |at| target(self.facts, at));
        end.as_deref() == Some("/") && (!path::goes_up(folder) || self.hiding(folder).is_none())
    }

    /// A mount at, above or below a path.
    pub fn touching(&self, place: &str) -> Option<&str> {
        let inside = |mount: &&String| mount.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
        let mounted = &self.placed.mounted;
        let below = || mounted.range(format!("{place}/")..).next().filter(inside);
        above(mounted, place).or_else(|| below().map(String::as_str))
    }

    /// The paths of all mounts, as written and with the links of the image followed.
    pub fn mounts(&self) -> impl Iterator<Item = &str> {
        self.placed.mounted.iter().map(String::as_str)
    }

    /// Whether something is mounted at exactly this path.
    pub fn is_mounted(&self, place: &str) -> bool {
        self.placed.mounted.contains(place)
    }
}

/// The one of these paths that equals a path or is above it.
fn above<'a>(paths: &'a BTreeSet<String>, place: &str) -> Option<&'a str> {
    let mut at = place;
    loop {
        match paths.get(at) {
            Some(found) => return Some(found),
            None if at == "/" || at.is_empty() => return None,
            None => at = path::split(at).0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    /// Without links, shorter ways lead to the same.
    #[test]
    fn mounts_hide_of_an_image_without_links_what_they_hide_of_one_that_has_a_link_elsewhere() {
        let digest = Digest::of(b"");
        let bare = ImageFacts::blank(&digest, &digest);
        let link = FileClass::Link { target: "/yy".into() };
        let with_link = ImageFacts { files: vec![("/zz".into(), link)], ..bare.clone() };
        let with_volume = ImageFacts { volumes: vec!["/data/in".into()], ..bare.clone() };
        let mounts = ["/data", "/var/run/secrets", "/proc", "/dev/termination-log", "/x/../y", "/a/"];
        let mounts = mounts.map(Mount::from);
        let start = Start { mounts: &mounts, ..Start::default() };
        let (view, other) = (View::new(&bare, &start), View::new(&with_link, &start));
        let again = view.of_other(&bare);
        for place in [
            "/",
            "",
            ".",
            "/data",
            "/data/x",
            "data/x",
            "/dat",
            "/q/../data/x",
            "/data/../q",
            "/../data",
            "//data/./x/",
            "/x/y",
            "/y",
            "/y/z",
            "/a",
            "/a/b",
            "/var/run",
            "/var/run/secrets/x",
            "/proc/self/../../q",
            "..",
        ] {
            assert_eq!(view.hiding(place), other.hiding(place), "{place}");
            assert_eq!(view.hiding(place), again.hiding(place), "{place}");
            assert_eq!(view.at(place), other.at(place), "{place}");
        }
        assert!(view.mounts().eq(other.mounts()) && view.mounts().eq(again.mounts()));
        let is_shared = |facts: &ImageFacts| Rc::ptr_eq(&view.placed, &view.of_other(facts).placed);
        assert!(is_shared(&bare) && !is_shared(&with_link) && !is_shared(&with_volume));
        assert!(!Rc::ptr_eq(&other.placed, &other.of_other(&bare).placed), "its links may lead elsewhere");
    }
}
