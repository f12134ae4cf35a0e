//! Where the mounts of a container are. A node follows the links of the image and mounts where they lead
//! (`runc:libcontainer/rootfs_linux.go`), one mount after the other, so that a link which an earlier mount hides is not
//! followed. In which order is up to the runtime: nothing here depends on it. A mount whose place would depend on it, or on
//! what a volume holds, may be over any file of the image.

use std::collections::HashMap;

use super::leads::{KernelWay, class, is_unread, target};
use super::{ImageFacts, path};
use crate::text;

/// A folder that all containers of a pod share and may write to, links included: that of the pod's sandbox
/// (`containerd:internal/cri/server/container_create.go`, `linuxContainerMounts`). A volume at exactly this place is mounted instead.
const SHARED_MEMORY: &str = "/dev/shm";
/// Steps along the paths of the mounts of one container: parts of paths and of the targets of links. A usual mount takes five.
const STEPS_OF_A_MOUNT: usize = 64;
/// Steps that a container has besides.
const STEPS: usize = 512;
/// Bytes of a place that take one step more.
const BYTES_OF_A_STEP: usize = 64;

/// What links there may be in a volume when a container starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Links {
    /// The kubelet alone writes to it.
    #[default]
    None,
    /// Only the container itself has written to it, which cannot replace what is mounted directly in the volume's folder: the
    /// kernel removes and renames no place of a mount (`EBUSY`, `rename(2)`). It counts for mounts that are *written* directly
    /// in the volume alone: they are there with every image that the container had before, and its image may be changed.
    Below,
    /// Anywhere in it.
    Anywhere,
}

/// A mount as its pod writes it.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// Where it is mounted.
    pub path: &'a str,
    /// The links that its volume may hold.
    pub links: Links,
}

/// Where the mounts of a container are.
#[derive(Debug, Default)]
pub struct Mounts {
    /// The place of each mount, in the order in which they were given, with the links of the image followed.
    places: Vec<String>,
    volumes: HashMap<String, Links>,
    /// The place of each volume with links below, by its path as written.
    own: HashMap<String, String>,
    lost: Option<Lost>,
}

/// A mount that may be anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its path in the pod.
    pub mount: String,
    /// Why it is not known where it is.
    pub why: Why,
}

/// Why it is not known where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It goes through a volume, which may hold a link.
    Volume,
    /// It goes through something that is not the same on every platform of the image.
    Platform,
    /// It goes through links of the kernel.
    Kernel,
    /// It goes through a link of the image that another mount hides, if that is mounted first.
    Order,
    /// It is longer, or goes through more links, than is followed.
    Long,
}

impl Why {
    /// What the path does, for messages.
    pub const fn said(self) -> &'static str {
        match self {
            Self::Volume => "is inside of another volume, and a link there",
            Self::Platform => {
                "goes through a file of the image that is not the same on every platform, and a link there"
            }
            Self::Kernel => {
                "goes through links that the kernel has in `/proc`, `/sys` or `/dev`, and one of them"
            }
            Self::Order => {
                "goes through a link of the image that another mount may hide, and the order of the two"
            }
            Self::Long => {
                "is longer, or leads through more links or longer ones, than is followed here, and it"
            }
        }
    }
}

impl Mounts {
    /// Follows the links of the image. Takes steps in proportion to the number of mounts; where that is not enough, a mount
    /// may be anywhere.
    pub fn new(facts: &ImageFacts, mounts: &[Mount<'_>]) -> Self {
        Self::counted(facts, mounts).0
    }

    /// The same, and the steps that it took.
    fn counted(facts: &ImageFacts, mounts: &[Mount<'_>]) -> (Self, usize) {
        let all = mounts.len().saturating_mul(STEPS_OF_A_MOUNT).saturating_add(STEPS);
        let (mut left, mut found) = (all, Self::default());
        let none = HashMap::new();
        for mount in mounts {
            let place = found.note(mount, Way::follow(facts, mount.path, (&none, None), &mut left));
            found.add(mount, place);
        }
        found.volumes.entry(SHARED_MEMORY.into()).or_insert(Links::Anywhere);
        let (volumes, own) = (std::mem::take(&mut found.volumes), std::mem::take(&mut found.own));
        for mount in mounts {
            let around =
                own.get(path::split(&text::clean_path(mount.path)).0).filter(|_| !climbs(mount.path));
            let around = (&volumes, around.map(String::as_str));
            found.note(mount, Way::follow(facts, mount.path, around, &mut left));
        }
        found.volumes = volumes;
        (found, all.saturating_sub(left))
    }

    /// Of two volumes at one place either may be the upper one, so that a link in the other may count.
    fn add(&mut self, mount: &Mount<'_>, place: String) {
        if mount.links == Links::Below && !climbs(mount.path) {
            self.own.insert(text::clean_path(mount.path), place.clone());
        }
        let links = match self.volumes.get(&place) {
            None => mount.links,
            Some(other) if mount.links.max(*other) == Links::None => Links::None,
            Some(_) => Links::Anywhere,
        };
        self.volumes.insert(place.clone(), links);
        self.places.push(place);
    }

    fn note(&mut self, mount: &Mount<'_>, led: Result<String, Why>) -> String {
        led.unwrap_or_else(|why| {
            let mount = text::clean_path(mount.path);
            self.lost.get_or_insert_with(|| Lost { mount: mount.clone(), why });
            mount
        })
    }

    /// The place of each mount, in the order in which they were given; that of a lost one as it is written.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(String::as_str)
    }

    /// Whether there is a volume at exactly this place, and whether it may hold links.
    pub fn volume(&self, place: &str) -> Option<bool> {
        self.volumes.get(place).map(|links| *links != Links::None)
    }

    /// A mount that may be anywhere.
    pub fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }
}

/// Whether a path goes up on its way, so that what it names depends on the links before.
fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// The way of one mount.
struct Way<'a> {
    facts: &'a ImageFacts,
    /// The places of all mounts. Which of them is mounted before this one is not known.
    volumes: &'a HashMap<String, Links>,
    /// The place of the volume in which this mount is written.
    around: Option<&'a str>,
    left: &'a mut usize,
    kernel: KernelWay,
    /// The place of a mount at or above the way, and the links that its volume may hold.
    inside: Option<(String, Links)>,
    /// The way has reached something directly in a volume that may hold links below. If it ends there, it is a place of a
    /// mount and no link.
    ends: bool,
    why: Option<Why>,
}

impl<'a> Way<'a> {
    fn follow(
        facts: &'a ImageFacts,
        written: &str,
        (volumes, around): (&'a HashMap<String, Links>, Option<&'a str>),
        left: &'a mut usize,
    ) -> Result<String, Why> {
        if written.len() > path::MAX_LENGTH || path::is_deep(written) {
            return Err(Why::Long);
        }
        let (kernel, inside) = (KernelWay::default(), volumes.get("/").map(|links| ("/".into(), *links)));
        let mut way = Self { facts, volumes, around, left, kernel, inside, ends: false, why: None };
        let end = path::resolve_within(path::MOUNT_HOPS, written, true, |at| way.enters(at));
        // Each place is kept, and a short path may lead to a long one.
        way.take(end.as_ref().map_or(0, |end| end.len() / BYTES_OF_A_STEP));
        match way.why {
            Some(why) => Err(why),
            None if way.kernel.leads_anywhere(end.as_deref()) => Err(Why::Kernel),
            None => end.ok_or(Why::Long),
        }
    }

    /// Goes on to a place; returns where the link leads that the image has there.
    fn enters(&mut self, at: &str) -> Option<&'a str> {
        self.take(1)?;
        let of_kernel = self.kernel.enters(at);
        self.enters_volume(at);
        if of_kernel || self.why.is_some() {
            return None;
        }
        if class(self.facts, at).is_some_and(|file| is_unread(&file)) {
            self.why = Some(Why::Platform);
            return None;
        }
        let target = target(self.facts, at)?;
        if self.inside.is_some() {
            self.why = Some(Why::Order);
            return None;
        }
        self.take(target.split('/').count())?;
        Some(target)
    }

    fn take(&mut self, steps: usize) -> Option<()> {
        if let Some(left) = self.left.checked_sub(steps).filter(|_| self.why != Some(Why::Long)) {
            *self.left = left;
            return Some(());
        }
        self.why = Some(Why::Long);
        None
    }

    fn enters_volume(&mut self, at: &str) {
        if std::mem::take(&mut self.ends) {
            self.why.get_or_insert(Why::Volume);
        }
        self.inside = self.inside.take().filter(|(root, _)| path::is_below(at, root));
        match &self.inside {
            Some((_, Links::None)) | None => {}
            Some((root, Links::Below)) if self.around == Some(root) && path::split(at).0 == root => {
                self.ends = true;
            }
            Some((_, Links::Below | Links::Anywhere)) => {
                self.why.get_or_insert(Why::Volume);
            }
        }
        if let Some(links) = self.volumes.get(at) {
            self.inside = Some((at.to_string(), *links));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Digest, FileClass};

    fn image(links: impl IntoIterator<Item = (String, String)>) -> ImageFacts {
        let digest = Digest::of(b"");
        let mut facts = ImageFacts::blank(&digest, &digest);
        facts.files = links.into_iter().map(|(name, target)| (name, FileClass::Link { target })).collect();
        facts.files.sort_by(|one, other| one.0.cmp(&other.0));
        facts
    }

    fn linked(links: &[(&str, &str)]) -> ImageFacts {
        image(links.iter().map(|(name, target)| ((*name).to_string(), (*target).to_string())))
    }

    fn mount(path: &str, links: Links) -> Mount<'_> {
        Mount { path, links }
    }

    /// The places, or why one is not known.
    fn placed(facts: &ImageFacts, mounts: &[(&str, Links)]) -> Result<Vec<String>, Why> {
        let mounts: Vec<Mount<'_>> = mounts.iter().map(|(path, links)| mount(path, *links)).collect();
        let found = Mounts::new(facts, &mounts);
        found.lost().map_or_else(|| Ok(found.places().map(String::from).collect()), |lost| Err(lost.why))
    }

    #[test]
    fn a_mount_is_where_the_links_of_the_image_lead_and_nowhere_if_another_mount_may_hide_one() {
        let facts = linked(&[("/q", "/"), ("/w", "/data/in"), ("/data/in", "/srv"), ("/loop", "loop")]);
        let of = |mounts: &[&str]| {
            placed(&facts, &mounts.iter().map(|path| (*path, Links::None)).collect::<Vec<_>>())
        };
        let places = |places: &[&str]| Ok(places.iter().map(|place| (*place).to_string()).collect());
        assert_eq!(of(&["/q/data", "/w"]), Err(Why::Order), "the volume at `/data` may hide the link `in`");
        assert_eq!(of(&["/data", "/data/in/x"]), Err(Why::Order));
        assert_eq!(of(&["/q/app", "/w", "/x"]), places(&["/app", "/srv", "/x"]));
        assert_eq!(of(&["/data", "/data/out", "/q/x"]), places(&["/data", "/data/out", "/x"]));
        assert_eq!(of(&["/", "/q/x"]), Err(Why::Order));
        assert_eq!(of(&["/loop/x"]), Err(Why::Long));
    }

    #[test]
    fn a_mount_in_a_volume_is_known_only_where_no_link_can_be() {
        let facts = linked(&[("/run", "/var/run")]);
        let lost = Some(Why::Volume);
        for (links, direct, through_a_link) in
            [(Links::None, None, None), (Links::Below, None, lost), (Links::Anywhere, lost, lost)]
        {
            let deeper = lost.filter(|_| links != Links::None);
            for (at, expected) in [
                ("/var/run/in", direct),
                ("/run/in", through_a_link),
                ("/var/run/x/../in", through_a_link),
                ("/run/in/x", deeper),
                ("/var/run/in/x", deeper),
            ] {
                let found = placed(&facts, &[("/var/run", links), (at, Links::None)]);
                assert_eq!(found.err(), expected, "{links:?} {at}");
            }
        }
    }

    #[test]
    fn a_mount_in_the_shared_memory_of_the_pod_may_meet_a_link_of_another_container() {
        let facts = linked(&[("/q", "/dev/shm")]);
        let of = |mounts: &[(&str, Links)]| placed(&facts, mounts).err();
        assert_eq!(of(&[("/dev", Links::None), ("/dev/shm/x", Links::None)]), Some(Why::Volume));
        assert_eq!(of(&[("/q/x", Links::None)]), Some(Why::Volume));
        assert_eq!(of(&[("/dev/shm", Links::Below)]), None, "a volume replaces it");
        assert_eq!(of(&[("/dev/shm", Links::None), ("/dev/shm/x", Links::None)]), None);
        assert_eq!(of(&[("/dev/shmem", Links::None)]), None);
    }

    /// An earlier image of the container had no such link, so that nothing was mounted in the volume and the container could
    /// make a link there.
    #[test]
    fn a_mount_that_only_this_image_leads_into_a_volume_may_meet_a_link() {
        let mounts = [("/e", Links::Below), ("/m/x", Links::None)];
        assert_eq!(placed(&linked(&[("/m", "/e")]), &mounts), Err(Why::Volume));
        assert!(placed(&linked(&[]), &mounts).is_ok());
        let two = [("/e", Links::Below), ("/g", Links::Below), ("/e/x", Links::None)];
        assert_eq!(placed(&linked(&[("/g", "/e")]), &two), Err(Why::Volume), "either may be the upper one");
        assert!(placed(&linked(&[]), &two).is_ok());
    }

    #[test]
    fn short_paths_to_long_places_are_given_up_before_the_places_fill_the_memory() {
        let facts = linked(&[("/l", &format!("/{}", "a".repeat(4_000)))]);
        let paths: Vec<String> = (0..1_000).map(|number| format!("/l/{number}")).collect();
        let mounts: Vec<Mount<'_>> = paths.iter().map(|path| mount(path, Links::None)).collect();
        let found = Mounts::new(&facts, &mounts);
        assert_eq!(found.lost().map(|lost| lost.why), Some(Why::Long));
        let bytes: usize = found.places().map(str::len).sum();
        assert!(bytes <= (1_000 * STEPS_OF_A_MOUNT + STEPS) * BYTES_OF_A_STEP, "{bytes}");
    }

    #[test]
    fn a_mount_through_what_the_kernel_shows_or_a_platform_lacks_is_told_from_others() {
        let mut facts = linked(&[("/p", "/proc/self/root")]);
        assert_eq!(placed(&facts, &[("/p/app", Links::None)]), Err(Why::Kernel));
        facts.files.insert(0, ("/lib64".into(), FileClass::Unreadable { message: "differs".into() }));
        assert_eq!(placed(&facts, &[("/lib64/x", Links::None)]), Err(Why::Platform));
        let long = format!("/{}", "x/".repeat(path::MAX_LENGTH));
        assert_eq!(placed(&facts, &[(&long, Links::None)]), Err(Why::Long));
    }

    /// The worst that a pod and an image can do together: every mount through as many links as are followed, each with a
    /// target as long as is read.
    #[test]
    fn the_work_grows_no_faster_than_the_number_of_mounts() {
        let target = |number: usize| format!("{}d{number}", "x/../".repeat(31));
        let links = (0..300).map(|number| (format!("/d{number}"), target(number + 1)));
        let facts = image(links.chain([("/l".to_string(), "/a".repeat(60))]));
        let most = |count: usize| {
            let paths: Vec<String> = (0..count).map(|n| format!("/d0/{n}{}", "/a".repeat(200))).collect();
            let mounts: Vec<Mount<'_>> = paths.iter().map(|path| mount(path, Links::None)).collect();
            let (found, steps) = Mounts::counted(&facts, &mounts);
            assert_eq!(found.lost().map(|lost| lost.why), Some(Why::Long));
            steps
        };
        let (few, many) = (most(100), most(800));
        assert!(few > 0 && many <= 8 * (few + STEPS), "{few} {many}");
        let usual: Vec<String> = (0..50).map(|n| format!("/l/etc/app/conf.d/{n}.json")).collect();
        let mounts: Vec<Mount<'_>> = usual.iter().map(|path| mount(path, Links::None)).collect();
        assert!(Mounts::new(&facts, &mounts).lost().is_some(), "sixty parts are more than people write");
        let facts =
            linked(&[("/l", "/opt/vendor/product/current"), ("/opt/vendor/product/current", "1.2.3")]);
        assert!(Mounts::new(&facts, &mounts).lost().is_none());
    }
}
