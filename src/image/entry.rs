//! What names a container's program, and the file of the image to which a path leads. Each runtime searches in its own
//! order, but all of them follow paths in the same way, and volumes hide the same files.

use std::collections::{BTreeMap, BTreeSet};

use super::names::is_wasm_name;
use super::{FileClass, ImageFacts, path};
use crate::text;

/// Where a process with the usual `PATH` of a service (`systemd:src/basic/path-util.h`, `DEFAULT_PATH_NORMAL`) or of a
/// container (`containerd:pkg/oci/spec.go`) searches for a name without a slash.
pub const SEARCH_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What is mounted into every container besides the pod's volumes: by the container runtime
/// (`containerd:pkg/oci/mounts.go`), by the CRI plug-in (`containerd:internal/cri/server/container_create_linux.go`)
/// and by the kubelet. The image's own files are hidden there.
pub const KUBELET_MOUNTS: [&str; 7] =
    ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", TOKEN_FOLDER];
/// Where the `ServiceAccount` admission plug-in mounts the token
/// (`kubernetes:plugin/pkg/admission/serviceaccount/admission.go`).
pub const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the container runtime mounts from the kernel, with links of its own: `/proc/self/root`, `/dev/fd`,
/// `/sys/class/net/lo/subsystem` (proc(5), sysfs(5)).
const OF_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Files of `/proc` over which runc lets volumes be mounted, as lxcfs does (`runc:libcontainer/rootfs_linux.go`,
/// `checkProcMount`). None of them is a link.
const FILES_OF_PROC: [&str; 8] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];
/// The links that container runtimes make in `/dev` (`runc:libcontainer/rootfs_linux.go`, `setupDevSymlinks`).
const LINKS_OF_DEV: [&str; 6] =
    ["/dev/core", "/dev/fd", "/dev/ptmx", "/dev/stdin", "/dev/stdout", "/dev/stderr"];

/// How often mounts over links that other mounts hide are followed. Once is usual, and all that people write.
const MOST_PASSES: usize = 4;

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
    /// The paths of mounts, which hide the image's own files.
    pub mounts: &'a [&'a str],
    /// Those whose volumes may contain links: a mount inside such a volume may end up anywhere.
    pub with_links: &'a [&'a str],
    /// The pod's annotations, which can ask crun and youki for a Wasm handler
    /// ([`super::annotation::crun_annotation`]).
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// `PATH`, in which crun and youki search.
    pub path: Variable<'a>,
    /// [`super::names::SPIN_RETAINED`], which makes the Spin shim narrow an application.
    pub retained: Variable<'a>,
}

/// An image as a container of a pod sees it: its files, and the mounts over them. Built once, so that no query takes
/// time in proportion to the number of mounts, which a tenant chooses.
#[derive(Debug)]
pub struct View<'a> {
    /// The image.
    pub facts: &'a ImageFacts,
    /// What the pod says.
    pub start: &'a Start<'a>,
    /// The paths of mounts, as written and with the links of the image followed.
    mounted: BTreeSet<String>,
    /// A mount that may hide any file of the image: inside another one whose volume may contain links, through something
    /// of the image that is not known, or through links of the kernel.
    nested: Option<String>,
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

/// Whether the kubelet may replace a part of the name with a variable of the container, whose value may come from
/// anywhere.
pub fn holds_variable(argument: &str) -> bool {
    argument.contains("$(")
}

/// The paths at which the image's own entry point may be.
pub(crate) fn wanted(entrypoint: &[String], cmd: &[String], working_dir: &str) -> Vec<String> {
    let Some(first) = entrypoint.first().or(cmd.first()) else { return Vec::new() };
    let mut wanted = candidates(first, working_dir);
    wanted.extend(candidates(cut_function(first).0, working_dir));
    wanted.iter().map(|path| text::clean_path(path)).collect()
}

/// A name with a slash is relative to the working directory; one without is searched for first
/// (`runwasi:crates/containerd-shim-wasm/src/sandbox/path.rs`).
pub(super) fn candidates(name: &str, working_dir: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    let here = path::join(working_dir, name);
    if name.contains('/') {
        return vec![here];
    }
    SEARCH_PATH.iter().map(|folder| path::join(folder, name)).chain([here]).collect()
}

/// The file to which a path of the image leads, ignoring volumes. If something on the way may be a link that is not the
/// same on every platform, that is what it leads to.
pub fn find<'a>(facts: &'a ImageFacts, place: &str) -> Option<(&'a str, &'a FileClass)> {
    let mut unread = None;
    let end = path::resolve(place, true, |at| {
        unread = unread.or_else(|| class(facts, at).filter(is_unread));
        target(facts, at)
    });
    unread.or_else(|| class(facts, &end?))
}

/// Whether a file of this name is known, even as a link to something that was not kept.
pub fn is_there(facts: &ImageFacts, at: &str) -> bool {
    class(facts, at).is_some() || find(facts, at).is_some()
}

/// The file at exactly this path. The files are sorted by path.
pub(super) fn class<'a>(facts: &'a ImageFacts, at: &str) -> Option<(&'a str, &'a FileClass)> {
    let found = facts.files.binary_search_by(|(name, _)| name.as_str().cmp(at)).ok()?;
    facts.files.get(found).map(|(name, class)| (name.as_str(), class))
}

/// Where a path leads in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// To this place.
    To(String),
    /// To any place: below a volume that may hold links, or through something of the image that is not known.
    Anywhere,
}

/// A way through what the kernel shows: nothing of the image is there, and whether a part is a link is up to the kernel.
#[derive(Default)]
struct KernelWay {
    /// The place that was reached last, if it is the kernel's.
    last: Option<String>,
    /// A link of the kernel may have led the way to any place.
    anywhere: bool,
}

/// The tree of the kernel in which a normalised path is.
pub fn kernel_tree(at: &str) -> Option<&'static str> {
    OF_KERNEL.into_iter().find(|tree| at == *tree || path::is_below(at, tree))
}

impl KernelWay {
    /// Goes on to a place. Whether it is one of the kernel's, where no link of the image is.
    fn enters(&mut self, at: &str) -> bool {
        self.climbs_to(at);
        let Some(tree) = kernel_tree(at) else { return false };
        self.anywhere |= tree == "/proc" && at != tree && !FILES_OF_PROC.contains(&at);
        self.anywhere |= LINKS_OF_DEV.iter().any(|link| at == *link || path::is_below(at, link));
        self.last = Some(at.to_string());
        true
    }

    /// Sysfs links from one of its folders to another, so that a way which goes up in it may go up from anywhere.
    fn climbs_to(&mut self, at: &str) {
        self.anywhere |= self.last.take().is_some_and(|last| at != last && !path::is_below(at, &last));
    }

    /// Whether a link of the kernel may have led the way, which ends here, to any place.
    fn leads_anywhere(mut self, end: Option<&str>) -> bool {
        self.climbs_to(end.unwrap_or("/"));
        self.anywhere
    }
}

/// Follows a path through the links of the image. A volume hides the links below its place, and may hold others:
/// `volume` says whether there is a volume at exactly this place, and whether it may hold links. A loop, to which
/// nothing leads, stays as it is written.
pub fn leads(facts: &ImageFacts, place: &str, volume: impl Fn(&str) -> Option<bool>) -> Leads {
    leads_within(path::KERNEL_HOPS, facts, place, volume)
}

fn leads_within(
    most: usize,
    facts: &ImageFacts,
    place: &str,
    volume: impl Fn(&str) -> Option<bool>,
) -> Leads {
    let mut inside: Option<(String, bool)> = None;
    let mut anywhere = place.len() > path::MAX_LENGTH;
    let mut kernel = KernelWay::default();
    let end = path::resolve_within(most, place, true, |at| {
        let of_kernel = kernel.enters(at);
        if let Some(with_links) = volume(at) {
            inside = Some((at.to_string(), with_links));
            return None;
        }
        if let Some((_, with_links)) = inside.as_ref().filter(|(root, _)| path::is_below(at, root)) {
            anywhere |= with_links;
            return None;
        }
        inside = None;
        if of_kernel {
            return None;
        }
        anywhere |= class(facts, at).is_some_and(|file| is_unread(&file));
        target(facts, at)
    });
    if anywhere || kernel.leads_anywhere(end.as_deref()) {
        Leads::Anywhere
    } else {
        Leads::To(end.unwrap_or_else(|| text::clean_path(place)))
    }
}

/// Whether it is not known what is there: what differs between the platforms may be a link.
fn is_unread((_, class): &(&str, &FileClass)) -> bool {
    matches!(class, FileClass::Unreadable { .. })
}

fn target<'a>(facts: &'a ImageFacts, at: &str) -> Option<&'a str> {
    match class(facts, at)?.1 {
        FileClass::Link { target } => Some(target.as_str()),
        _ => None,
    }
}

impl<'a> View<'a> {
    /// The image in the pod.
    pub fn new(facts: &'a ImageFacts, start: &'a Start<'a>) -> Self {
        let mut unread = None;
        let mut end = |mount: &&str| {
            path::resolve_within(path::MOUNT_HOPS, mount, true, |at| {
                if class(facts, at).is_some_and(|file| is_unread(&file)) {
                    unread.get_or_insert_with(|| text::clean_path(mount));
                }
                target(facts, at)
            })
        };
        let mut all = |mounts: &[&str]| possible(mounts).filter_map(&mut end).collect::<BTreeSet<String>>();
        let (places, mut with_links) = (all(start.mounts), all(start.with_links));
        let mut view = Self { facts, start, mounted: places.clone(), nested: None };
        view.follow_over_mounts(places, &with_links);
        view.mounted.extend(possible(start.mounts).map(|mount| text::clean_path(mount)));
        with_links.extend(possible(start.with_links).map(|mount| text::clean_path(mount)));
        let inside = view.mounted.iter().find(|mount| above(&with_links, path::split(mount).0).is_some());
        view.nested = view.nested.take().or_else(|| inside.cloned()).or(unread);
        view
    }

    /// Adds the places to which mounts lead if other mounts hide links on their way. If that may be any place, or one
    /// leads to the next again and again, a mount may hide any file.
    fn follow_over_mounts(&mut self, mut places: BTreeSet<String>, with_links: &BTreeSet<String>) {
        let mut with_links = with_links.clone();
        for _ in 0..MOST_PASSES {
            let mut more = BTreeSet::new();
            for mount in possible(self.start.mounts) {
                let volume = |at: &str| places.contains(at).then(|| with_links.contains(at));
                match leads_within(path::MOUNT_HOPS, self.facts, mount, volume) {
                    Leads::To(place) if places.contains(&place) => {}
                    Leads::To(place) => {
                        more.insert((place, self.start.with_links.contains(mount)));
                    }
                    Leads::Anywhere => {
                        self.nested.get_or_insert_with(|| text::clean_path(mount));
                    }
                }
            }
            if more.is_empty() || self.nested.is_some() {
                return;
            }
            with_links.extend(more.iter().filter(|(_, may_link)| *may_link).map(|(place, _)| place.clone()));
            places.extend(more.into_iter().map(|(place, _)| place));
            self.mounted.extend(places.iter().cloned());
        }
        self.nested = places.pop_first();
    }

    /// A mount that may hide any file of the image.
    pub fn nested(&self) -> Option<&str> {
        self.nested.as_deref()
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

    /// A name relative to the working directory.
    pub fn here(&self, name: &str) -> String {
        path::join(self.working_dir(), name)
    }

    /// What a path leads to, mounts included. A path that ends like a folder leads to no file.
    pub fn at(&self, place: &str) -> At<'a> {
        if let Some(mount) = self.hiding(place) {
            return At::Hidden(mount);
        }
        let folder = matches!(place.rsplit('/').next(), Some("" | "." | ".."));
        match find(self.facts, place).filter(|_| !folder) {
            Some((at, class)) => At::File(at, class),
            None => At::Nothing,
        }
    }

    /// The mount that hides a path, or that hides a link on the way to its file.
    pub fn hiding(&self, place: &str) -> Option<String> {
        if self.mounted.is_empty() {
            return None;
        }
        if place.len() > path::MAX_LENGTH {
            return None;
        }
        if let Some(mount) = above(&self.mounted, &text::clean_path(place)) {
            return Some(mount.to_string());
        }
        // Every folder on the way is visited, so that a mount above the path is met as one of them.
        let mut hiding = None;
        path::resolve(place, true, |at| {
            if hiding.is_none() {
                hiding = self.mounted.get(at).cloned();
            }
            target(self.facts, at)
        });
        hiding
    }

    /// A mount at, above or below a path.
    pub fn touching(&self, place: &str) -> Option<&str> {
        let inside = |mount: &&String| mount.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
        let below = || self.mounted.range(format!("{place}/")..).next().filter(inside);
        above(&self.mounted, place).or_else(|| below().map(String::as_str))
    }

    /// The paths of all mounts, as written and with the links of the image followed.
    pub fn mounts(&self) -> impl Iterator<Item = &str> {
        self.mounted.iter().map(String::as_str)
    }

    /// Whether something is mounted at exactly this path.
    pub fn is_mounted(&self, place: &str) -> bool {
        self.mounted.contains(place)
    }
}

/// The mounts that a node makes: the kernel mounts nothing at a longer path, so the container does not start.
fn possible<'a>(mounts: &'a [&'a str]) -> impl Iterator<Item = &'a &'a str> {
    mounts.iter().filter(|mount| mount.len() <= path::MAX_LENGTH && !path::is_deep(mount))
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
