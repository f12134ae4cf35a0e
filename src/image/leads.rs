//! Where a path leads in an image that a container has: through links of the image, of its volumes and of the kernel.

use super::{FileClass, ImageFacts, path};

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

/// The file at exactly this path. The files are sorted by path.
pub fn class<'a>(facts: &'a ImageFacts, at: &str) -> Option<(&'a str, &'a FileClass)> {
    let found = facts.files.binary_search_by(|(name, _)| name.as_str().cmp(at)).ok()?;
    facts.files.get(found).map(|(name, class)| (name.as_str(), class))
}

/// Where a path leads in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// To this place.
    To(String),
    /// To any place: below a volume that may hold links, through something of the image that is not known, or through more
    /// links than the kernel follows.
    Anywhere,
}

/// A way through what the kernel shows: nothing of the image is there, and whether a part is a link is up to the kernel.
#[derive(Default)]
pub(super) struct KernelWay {
    /// The place that was reached last, if it is the kernel's; else empty.
    last: String,
    /// A link of the kernel may have led the way to any place.
    anywhere: bool,
}

/// The tree of the kernel in which a normalised path is.
pub fn kernel_tree(at: &str) -> Option<&'static str> {
    let is_in =
        |tree: &&str| at.strip_prefix(*tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    OF_KERNEL.into_iter().find(is_in)
}

/// Whether a place in a tree of the kernel may be a link of the kernel, or a part of the path before it.
pub(super) fn may_be_link(at: &str, tree: &str) -> bool {
    match tree {
        "/proc" => at != tree && !FILES_OF_PROC.contains(&at),
        "/dev" => LINKS_OF_DEV.iter().any(|link| at == *link || path::is_below(at, link)),
        _ => false,
    }
}

impl KernelWay {
    /// Goes on to a place. Whether it is one of the kernel's, where no link of the image is.
    pub(super) fn enters(&mut self, at: &str) -> bool {
        self.climbs_to(at);
        let Some(tree) = kernel_tree(at) else { return false };
        self.anywhere |= may_be_link(at, tree);
        self.last.push_str(at);
        true
    }

    /// Sysfs links from one of its folders to another, so that a way which goes up in it may go up from anywhere.
    fn climbs_to(&mut self, at: &str) {
        if !self.last.is_empty() {
            self.anywhere |= at != self.last && !path::is_below(at, &self.last);
            self.last.clear();
        }
    }

    /// Whether a link of the kernel may have led the way, which ends here, to any place.
    pub(super) fn leads_anywhere(mut self, end: Option<&str>) -> bool {
        self.climbs_to(end.unwrap_or("/"));
        self.anywhere
    }
}

/// Follows a path through the links of the image, as the kernel does. A volume hides the links below its place, and may
/// hold others: `volume` says whether there is a volume at exactly this place, and whether it may hold links.
pub fn leads(facts: &ImageFacts, place: &str, volume: impl Fn(&str) -> Option<bool>) -> Leads {
    let mut inside = volume("/").map(|with_links| ("/".to_string(), with_links));
    let mut anywhere = inside.as_ref().is_some_and(|(_, with_links)| *with_links);
    let mut kernel = KernelWay::default();
    let end = path::resolve(place, true, |at| {
        let of_kernel = kernel.enters(at);
        if let Some(with_links) = volume(at) {
            inside = Some((at.to_string(), with_links));
            return None;
        }
        inside = inside.take().filter(|(root, _)| path::is_below(at, root));
        if let Some((_, with_links)) = &inside {
            anywhere |= with_links;
            return None;
        }
        if of_kernel {
            return None;
        }
        anywhere |= class(facts, at).is_some_and(|file| is_unread(&file));
        target(facts, at)
    });
    match end {
        Some(end) if !anywhere && !kernel.leads_anywhere(Some(&end)) => Leads::To(end),
        _ => Leads::Anywhere,
    }
}

/// Whether it is not known what is there: what differs between the platforms may be a link.
pub(super) fn is_unread((_, class): &(&str, &FileClass)) -> bool {
    matches!(class, FileClass::Unreadable { .. } | FileClass::PerPlatform { .. } | FileClass::Varies { .. })
}

/// Where the link leads that is at exactly this path, as it is written; `None` for anything else.
pub fn target<'a>(facts: &'a ImageFacts, at: &str) -> Option<&'a str> {
    match class(facts, at)?.1 {
        FileClass::Link { target } => Some(target.as_str()),
        _ => None,
    }
}
