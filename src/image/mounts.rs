//! Where the mounts of a container are. A node follows the links of the image and mounts where they lead
//! (`runc:libcontainer/rootfs_linux.go`), one mount after the other, so that a link which an earlier mount hides is not
//! followed. In which order is up to the runtime: nothing here depends on it. A mount whose place would depend on it, or on
//! what a volume holds, may be over any file of the image.

use std::collections::{BTreeMap, BTreeSet};

pub use super::lost::{Lost, Why};
pub use super::mount_path::Links;

use super::leads::{class, kernel_tree, may_be_link};
use super::mount_path::{BYTES_OF_A_STEP, MountPath, above};
use super::{FileClass, ImageFacts, path};
use crate::text;

/// A folder that all containers of a pod share and may write to, links included: that of the pod's sandbox
/// (`containerd:internal/cri/server/container_create.go`, `linuxContainerMounts`). A volume at exactly this place is mounted instead.
pub const SHARED_MEMORY: &str = "/dev/shm";
/// Steps along the paths of the mounts of one container: parts of paths and of the targets of links. A usual mount takes five.
const STEPS_OF_A_MOUNT: usize = 64;
/// Steps that a container has besides.
const STEPS: usize = 512;
/// Volumes that are looked at one by one.
const FEW_VOLUMES: usize = 4;
/// Files of an image in which it is looked for links.
const SMALL_IMAGE: usize = 256;

/// A mount as its pod writes it.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// Where it is mounted.
    pub path: &'a str,
    /// The links that its volume may hold.
    pub links: Links,
    /// Whether its volume may hold a file that is named like a worker ([`super::names::is_worker`]) and that others wrote than
    /// the container itself.
    pub workers: bool,
    /// Whether others than the container may write to its volume while the container runs.
    pub shared: bool,
}

/// A mount whose volume holds no links and no workers, and to which no container writes.
impl<'a> From<&'a str> for Mount<'a> {
    fn from(path: &'a str) -> Self {
        Self { path, links: Links::None, workers: false, shared: false }
    }
}

/// Where the mounts of a container are.
#[derive(Debug, Default)]
pub struct Mounts {
    /// The place of each mount, in the order in which they were given, with the links of the image followed.
    places: Vec<String>,
    /// Further places of mounts, by their number: a link on the way is not the same on every platform.
    others: Vec<(usize, String)>,
    volumes: BTreeMap<String, Links>,
    lost: Option<Lost>,
    over_programs: Option<Lost>,
    emptied: Emptied,
}

/// What is otherwise on a node that mounts an empty folder at each volume of the image, as CRI-O does that is told to
/// (`image_volumes = "bind"`; `cri-o:server/container_create.go`, `addImageVolumes`). What the image has below such a folder is not
/// there: no file, and no link that would lead a path on.
#[derive(Debug, Default)]
pub struct Emptied {
    /// Where these folders are. None where that changes nothing, or a mount may be anywhere as it is.
    folders: BTreeSet<String>,
    lost: Option<Lost>,
}

impl Emptied {
    fn new(
        facts: &ImageFacts,
        with_wasm: bool,
        mounts: &[Mount<'_>],
        found: &Mounts,
        left: &mut usize,
    ) -> Self {
        let mut emptied = Self::default();
        if facts.volumes.is_empty() || facts.files.is_empty() || found.lost.is_some() {
            return emptied;
        }
        // Without Wasm it makes no difference what else one of the folders hides.
        emptied.lost = emptied.places(facts, left).filter(|_| with_wasm);
        if emptied.lost.is_none() && !leads_nowhere_else(facts) {
            emptied.lost = emptied.led_otherwise(facts, with_wasm, mounts, &found.volumes, left);
        }
        emptied
    }

    /// Finds where the folders are. Returns one of which that is not known.
    fn places(&mut self, facts: &ImageFacts, left: &mut usize) -> Option<Lost> {
        let (mut lost, pod) = (None, BTreeMap::new());
        for path in facts.volumes.iter().take(MAX_IMAGE_VOLUMES) {
            let led = MountPath::follow_all(facts, path, &pod, left);
            let why = match &led {
                Ok(places) => (places.len() > 1).then_some(Why::Platform),
                Err(why) => Some(*why),
            };
            lost = lost.or_else(|| Some(lost_of_image(path, why?)));
            self.folders.extend(led.unwrap_or_else(|_| vec!["/".into()]));
        }
        lost
    }

    /// A volume of the image, or a mount, that is led elsewhere by a link which is not there.
    fn led_otherwise(
        &self,
        facts: &ImageFacts,
        with_wasm: bool,
        mounts: &[Mount<'_>],
        volumes: &BTreeMap<String, Links>,
        left: &mut usize,
    ) -> Option<Lost> {
        let (pod, folders) = (BTreeMap::new(), &self.folders);
        let most = if with_wasm { MAX_IMAGE_VOLUMES } else { 0 };
        for path in facts.volumes.iter().take(most) {
            if let Err(why) = MountPath::follow_emptied(facts, path, (&pod, folders), left) {
                return Some(lost_of_image(path, why));
            }
        }
        mounts.iter().find_map(|mount| {
            let led = MountPath::follow_emptied(facts, mount.path, (volumes, folders), left);
            led.err().map(|why| Lost { mount: text::clean_path(mount.path), of_image: false, why })
        })
    }

    /// Whether such a folder is mounted anywhere.
    pub fn has_folders(&self) -> bool {
        !self.folders.is_empty()
    }

    /// The folder at exactly this place.
    pub fn at(&self, place: &str) -> Option<&str> {
        self.folders.get(place).map(String::as_str)
    }

    /// A folder above a place.
    pub fn above(&self, place: &str) -> Option<&str> {
        above(&self.folders, place)
    }

    /// A mount, or a volume of the image, that is there elsewhere than on other nodes, or may be.
    pub const fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }
}

impl Mounts {
    /// Follows the links of the image. Takes steps in proportion to the number of mounts; where that is not enough, a mount
    /// may be anywhere.
    pub fn new(facts: &ImageFacts, mounts: &[Mount<'_>]) -> Self {
        Self::counted(facts, mounts, Self::most_steps(facts, mounts.len())).0
    }

    /// Most steps that so many mounts take, and the volumes of the image beside them.
    pub fn most_steps(facts: &ImageFacts, mounts: usize) -> usize {
        let all = mounts.saturating_add(facts.volumes.len().min(MAX_IMAGE_VOLUMES));
        all.saturating_mul(STEPS_OF_A_MOUNT).saturating_add(STEPS)
    }

    /// The steps that [`Self::new`] takes, as far as they are no more than `most`. A step takes one or two microseconds in the
    /// largest image.
    pub fn steps(facts: &ImageFacts, mounts: &[Mount<'_>], most: usize) -> usize {
        // Each is followed twice, and takes a step at least.
        if mounts.len() > most / 2 {
            return most;
        }
        let (found, steps) = Self::counted(facts, mounts, most.min(Self::most_steps(facts, mounts.len())));
        let is_cut_short = found.lost.is_some_and(|lost| lost.why == Why::Long);
        if is_cut_short { most } else { steps }
    }

    /// No fewer steps than [`Self::new`] takes for mounts at these paths; `None` where the image has links that would be followed, or
    /// many files. Follows nothing.
    pub fn steps_without_links<'p>(
        facts: &ImageFacts,
        mounts: impl Iterator<Item = &'p str>,
    ) -> Option<usize> {
        let is_link = |(_, class): &(String, FileClass)| {
            matches!(class, FileClass::Link { .. } | FileClass::Varies { .. })
        };
        if facts.files.len() > SMALL_IMAGE || facts.files.iter().any(is_link) {
            return None;
        }
        let of = |path: &str| path.split('/').count().saturating_add(path.len() / BYTES_OF_A_STEP);
        // Each is followed twice, cleaned of `..` once more, and once more where the volumes of the image are empty.
        let mounts = mounts.map(|path| of(path).saturating_mul(4));
        // Each is followed over the pod's volumes, without them, and where the others are empty.
        let volumes = facts.volumes.iter().take(MAX_IMAGE_VOLUMES).map(|path| of(path).saturating_mul(3));
        Some(mounts.chain(volumes).fold(0, usize::saturating_add))
    }

    /// Where they are, and the steps that it took, of which there are so many.
    fn counted(facts: &ImageFacts, mounts: &[Mount<'_>], all: usize) -> (Self, usize) {
        let (mut left, mut found) = (all, Self::default());
        let none = BTreeMap::new();
        let is_straight = leads_nowhere_else(facts);
        for mount in mounts {
            let place = if is_straight { as_written(mount.path, &mut left) } else { None };
            if let Some(place) = place {
                found.add(mount, [place]);
                continue;
            }
            let mut follow = |written: &str| MountPath::follow_all(facts, written, &none, &mut left);
            let mut led = follow(mount.path);
            if path::goes_up(mount.path) && led.is_ok() && led != follow(&text::clean_path(mount.path)) {
                led = Err(Why::Up);
            }
            let places = found.note(mount, led);
            found.add(mount, places);
        }
        found.volumes.entry(SHARED_MEMORY.into()).or_insert(Links::Anywhere);
        let volumes = std::mem::take(&mut found.volumes);
        // Without links the second way is the first, and takes as many steps.
        let is_straight = is_straight && mounts.iter().all(|mount| !path::has_two_dots(mount.path));
        let again = left.checked_sub(all.saturating_sub(left));
        if let Some(after) = again.filter(|_| is_straight && found.lost.is_none()) {
            left = after;
            let is_inside = below_links(&volumes);
            let mut placed = mounts.iter().zip(&found.places);
            if let Some((mount, _)) = placed.find(|(_, place)| is_inside(place)) {
                found.note(mount, Err(Why::Volume));
            }
        } else {
            for mount in mounts {
                found.note(mount, MountPath::follow_all(facts, mount.path, &volumes, &mut left));
            }
        }
        // Asked once, since it may go through all files.
        let with_wasm = !facts.volumes.is_empty() && may_bring_wasm(facts);
        found.follow_volumes(facts, with_wasm, &volumes, &mut left);
        found.volumes = volumes;
        found.emptied = Emptied::new(facts, with_wasm, mounts, &found, &mut left);
        (found, all.saturating_sub(left))
    }

    /// Follows the volumes of the image over those of the pod, unless a mount may be anywhere as it is.
    fn follow_volumes(
        &mut self,
        facts: &ImageFacts,
        with_wasm: bool,
        volumes: &BTreeMap<String, Links>,
        left: &mut usize,
    ) {
        if self.lost.is_some() || facts.volumes.is_empty() {
            return;
        }
        if let Some(path) = facts.volumes.get(MAX_IMAGE_VOLUMES) {
            self.lost = Some(lost_of_image(path, Why::Long));
            return;
        }
        for path in &facts.volumes {
            let Some(lost) = lost_volume(facts, path, with_wasm, volumes, left) else { continue };
            if with_wasm || brings_files(facts, path, left) {
                self.lost = Some(lost);
                return;
            }
            self.over_programs.get_or_insert(lost);
        }
    }

    /// Of two volumes at one place either may be the upper one, so that a link in the other may count.
    fn add(&mut self, mount: &Mount<'_>, places: impl IntoIterator<Item = String>) {
        for (number, place) in places.into_iter().enumerate() {
            let links = self.volumes.entry(place.clone()).or_default();
            *links = mount.links.max(*links);
            match number {
                0 => self.places.push(place),
                _ => self.others.push((self.places.len().saturating_sub(1), place)),
            }
        }
    }

    fn note(&mut self, mount: &Mount<'_>, led: Result<Vec<String>, Why>) -> Vec<String> {
        led.unwrap_or_else(|why| {
            let mount = text::clean_path(mount.path);
            self.lost.get_or_insert_with(|| Lost { mount: mount.clone(), of_image: false, why });
            vec![mount]
        })
    }

    /// The place of each mount, in the order in which they were given; that of a lost one as it is written. Where a link on its
    /// way is not the same on every platform, the place on those that have no such link.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(String::as_str)
    }

    /// The number and the place of each mount, and after all of them the places on other platforms.
    pub fn all_places(&self) -> impl Iterator<Item = (usize, &str)> {
        let others = self.others.iter().map(|(number, place)| (*number, place.as_str()));
        self.places().enumerate().chain(others)
    }

    /// Whether there is a volume at exactly this place, and whether it may hold links.
    pub fn volume(&self, place: &str) -> Option<bool> {
        self.volumes.get(place).map(|links| *links != Links::None)
    }

    /// A mount that may be anywhere.
    pub fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }

    /// A volume of the image that brings no file and may be over any program of it, so that a search may go on behind a program
    /// that is there in the image.
    pub const fn over_programs(&self) -> Option<&Lost> {
        self.over_programs.as_ref()
    }

    /// What is otherwise where the volumes of the image are empty folders.
    pub const fn emptied(&self) -> &Emptied {
        &self.emptied
    }
}

/// Whether nothing of an image of few files can lead a path elsewhere: it has no links, and nothing that may be one.
pub(super) fn leads_nowhere_else(facts: &ImageFacts) -> bool {
    facts.files.len() <= SMALL_IMAGE && facts.files.iter().all(|(_, class)| is_file(class))
}

/// Whether it is a file, and no link on any platform.
const fn is_file(class: &FileClass) -> bool {
    match class {
        FileClass::Wasm | FileClass::Native { .. } | FileClass::Other | FileClass::Data => true,
        FileClass::Link { .. }
        | FileClass::Varies { .. }
        | FileClass::PerPlatform { .. }
        | FileClass::Unreadable { .. } => false,
    }
}

/// Where a mount is over an image that [`leads_nowhere_else`], by as many steps as it takes to follow its path; `None` where that has
/// to be followed.
fn as_written(written: &str, left: &mut usize) -> Option<String> {
    let is_short = written.len() < path::MAX_LENGTH && !path::is_deep(written);
    if !is_short || path::has_two_dots(written) {
        return None;
    }
    let place = text::clean_path(written);
    if kernel_tree(&place).is_some_and(|tree| may_be_link(&place, tree)) {
        return None;
    }
    let parts = if place == "/" { 0 } else { place.bytes().filter(|byte| matches!(byte, b'/')).count() };
    *left = left.checked_sub(parts.saturating_add(place.len() / BYTES_OF_A_STEP))?;
    Some(place)
}

/// Tells which places are below a volume that may hold links.
fn below_links(volumes: &BTreeMap<String, Links>) -> impl Fn(&str) -> bool {
    let with_links = volumes.iter().filter(|(_, links)| **links == Links::Anywhere);
    let roots: BTreeSet<&str> = with_links.map(|(root, _)| root.as_str()).collect();
    move |place| {
        // Most containers have the shared memory alone. A tenant chooses how many there are.
        if roots.len() <= FEW_VOLUMES {
            return roots.iter().any(|root| place != *root && path::is_below(place, root));
        }
        let mut at = place;
        while at != "/" {
            at = path::split(at).0;
            if roots.contains(at) {
                return true;
            }
        }
        false
    }
}

/// Most volumes of an image that are followed. Images have one or two.
const MAX_IMAGE_VOLUMES: usize = 64;

/// A volume of the image, if it may be anywhere. containerd mounts it among the pod's, by the number of its parts, with a copy of what
/// the image has there (`containerd:internal/cri/server/container_create.go`, `internal/cri/opts/container.go`, `WithVolumes`),
/// so that it hides nothing where only the image's own links lead to it ([`Emptied`] is for nodes where it does). A link of a pod's
/// volume may lead it over the program, whatever the image holds: what it brings is there then, and what it hides is not.
fn lost_volume(
    facts: &ImageFacts,
    path: &str,
    with_wasm: bool,
    volumes: &BTreeMap<String, Links>,
    left: &mut usize,
) -> Option<Lost> {
    let up = path::goes_up(path).then_some(Why::Up);
    let why = match MountPath::follow_all(facts, path, volumes, left) {
        Err(why) => Some(why),
        Ok(places) => {
            let shows = with_wasm && places.iter().any(|place| shows_links(facts, place, volumes, left));
            up.or(shows.then_some(Why::Volume))
        }
    };
    why.map(|why| lost_of_image(path, why))
}

/// Whether a node may copy a file of the image, or a link, into a volume of it. Folders are not known, and start nothing.
fn brings_files(facts: &ImageFacts, path: &str, left: &mut usize) -> bool {
    let Ok(places) = MountPath::follow_all(facts, path, &BTreeMap::new(), left) else { return true };
    places.iter().any(|place| {
        let folder = format!("{}/", place.trim_end_matches('/'));
        let begin = facts.files.partition_point(|(name, _)| *name < folder);
        let first = facts.files.get(begin);
        class(facts, place).is_some() || first.is_some_and(|(name, _)| name.starts_with(&folder))
    })
}

/// Whether links of the image are seen below a volume of it although one of the pod's is around that: what is copied there is over
/// the pod's, and the image's own files are taken for hidden.
fn shows_links(facts: &ImageFacts, place: &str, volumes: &BTreeMap<String, Links>, left: &mut usize) -> bool {
    let is_around = |root: &String| root != place && path::is_below(place, root);
    if volumes.contains_key(place) || !volumes.keys().any(is_around) || leads_nowhere_else(facts) {
        return false;
    }
    let begin = facts.files.partition_point(|(name, _)| name.as_str() <= place);
    let behind = facts.files.get(begin..).unwrap_or_default().iter();
    // Its files are looked through as far as there are steps.
    behind.take_while(|(name, _)| name.starts_with(place)).any(|(name, class)| {
        *left = left.saturating_sub(1);
        *left == 0 || (!is_file(class) && path::is_below(name, place))
    })
}

/// Whether the image has a Wasm file, or may have one.
fn may_bring_wasm(facts: &ImageFacts) -> bool {
    let unread = || facts.files.iter().any(|file| matches!(file.1, FileClass::Unreadable { .. }));
    !facts.modules.is_empty() || facts.spin.is_some() || unread()
}

fn lost_of_image(path: &str, why: Why) -> Lost {
    Lost { mount: text::clean_path(path), of_image: true, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Digest, ModuleFacts, WasmFormat};

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
        Mount { links, ..Mount::from(path) }
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
        for (links, expected) in [(Links::None, None), (Links::Anywhere, lost)] {
            for at in ["/var/run/in", "/run/in", "/var/run/x/../in", "/run/in/x", "/var/run/in/x"] {
                let found = placed(&facts, &[("/var/run", links), (at, Links::None)]);
                assert_eq!(found.err(), expected, "{links:?} {at}");
            }
        }
    }

    /// `/lib64` is a link on amd64 and not there on arm64.
    #[test]
    fn a_mount_through_a_link_of_some_platforms_is_in_each_of_its_places() {
        let varies = |targets: &[&str]| FileClass::Varies {
            native: targets.is_empty(),
            targets: targets.iter().map(|target| (*target).to_string()).collect(),
        };
        let mut facts = linked(&[("/zz", "/lib64")]);
        facts.files.insert(0, ("/bin/x".into(), varies(&[])));
        facts.files.insert(1, ("/lib".into(), varies(&["usr/lib", "/other"])));
        facts.files.insert(2, ("/lib64".into(), varies(&["usr/lib64"])));
        let of = |mounts: &[(&str, Links)]| {
            let mounts: Vec<Mount<'_>> = mounts.iter().map(|(path, links)| mount(path, *links)).collect();
            let found = Mounts::new(&facts, &mounts);
            let places =
                found.all_places().map(|(number, place)| format!("{number} {place}")).collect::<Vec<_>>();
            found.lost().map_or_else(|| Ok(places.join(", ")), |lost| Err(lost.why))
        };
        let none = Links::None;
        assert_eq!(
            of(&[("/lib64/x", none), ("/data", none)]).unwrap(),
            "0 /lib64/x, 1 /data, 0 /usr/lib64/x"
        );
        assert_eq!(of(&[("/lib64", none)]).unwrap(), "0 /lib64, 0 /usr/lib64");
        assert_eq!(of(&[("/zz/x", none)]).unwrap(), "0 /lib64/x, 0 /usr/lib64/x");
        assert_eq!(of(&[("/lib/x", none)]).unwrap(), "0 /lib/x, 0 /usr/lib/x, 0 /other/x");
        assert_eq!(of(&[("/bin/x", none)]).unwrap(), "0 /bin/x", "it is a link nowhere");
        assert_eq!(of(&[("/lib64/../lib/x", none)]), Err(Why::Platform), "two of them");
        assert_eq!(of(&[("/", none), ("/lib64/x", none)]), Err(Why::Order));
        assert_eq!(of(&[("/usr/lib64", Links::Anywhere), ("/lib64/x", none)]), Err(Why::Volume));
        assert!(of(&[("/usr/lib64", none), ("/lib64/x", none)]).is_ok());
    }

    #[test]
    fn a_mount_that_goes_up_from_a_link_is_where_every_runtime_has_it_or_may_be_anywhere() {
        let facts = linked(&[("/a", "/x/y"), ("/b", "c")]);
        let of = |path: &str| placed(&facts, &[(path, Links::None)]);
        assert_eq!(of("/a/../z"), Err(Why::Up), "`/x/z`, or `/z`");
        for (path, place) in [("/b/../z", "/z"), ("/d/../z", "/z"), ("/../z", "/z"), ("/a/z", "/x/y/z")] {
            assert_eq!(of(path), Ok(vec![place.to_string()]), "{path}");
        }
    }

    /// A node copies what the image has at `/d/y`, and mounts it where a link of the pod's volume leads.
    #[test]
    fn a_volume_of_an_image_with_wasm_has_its_place_or_may_be_anywhere() {
        let with = |volumes: &[&str], wasm: bool| {
            let mut facts = linked(&[("/l", "/srv")]);
            facts.volumes = volumes.iter().map(|path| (*path).to_string()).collect();
            facts.modules.extend(wasm.then(|| ModuleFacts::blank("/app.wasm", WasmFormat::Module)));
            facts
        };
        let lost = |facts: &ImageFacts, mounts: &[(&str, Links)]| placed(facts, mounts).err();
        let held = [("/d", Links::Anywhere)];
        assert_eq!(lost(&with(&["/d/y"], true), &held), Some(Why::Volume));
        assert_eq!(lost(&with(&["/d/../x"], true), &[]), Some(Why::Up));
        let many: Vec<String> = (0..65).map(|number| format!("/v{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for wasm in [true, false] {
            assert_eq!(lost(&with(&many, wasm), &[]), Some(Why::Long), "{wasm}");
        }
        // It is the mount itself; the pod's volume holds no links; nothing is mounted around it.
        for (facts, mounts) in [
            (with(&["/d"], true), held.to_vec()),
            (with(&["/d/y"], true), vec![("/d", Links::None)]),
            (with(&["/l/y", "/data"], true), held.to_vec()),
        ] {
            assert_eq!(lost(&facts, &mounts), None, "{:?} {mounts:?}", facts.volumes);
        }
        let reason =
            Mounts::new(&with(&["/d/y"], true), &[mount("/d", Links::Anywhere)]).lost().unwrap().reason();
        assert!(
            reason.starts_with("the image's own volume at `/d/y` is inside of another volume"),
            "{reason}"
        );
    }

    /// An empty folder hides a program, and a copy of files may bring what starts, such as a link to a file of the pod's volume.
    #[test]
    fn a_volume_of_an_image_without_wasm_that_may_be_anywhere_may_be_over_its_programs() {
        let found = |volumes: &[&str], mounts: &[(&str, Links)]| {
            let mut facts = linked(&[("/files/in/w", "/data/app"), ("/l", "/srv")]);
            facts.volumes = volumes.iter().map(|path| (*path).to_string()).collect();
            let mounts: Vec<Mount<'_>> = mounts.iter().map(|(path, links)| mount(path, *links)).collect();
            let found = Mounts::new(&facts, &mounts);
            let why = |lost: Option<&Lost>| lost.map(|lost| (lost.is_of_image(), lost.why));
            (why(found.lost()), why(found.over_programs()))
        };
        let (held, files) = (("/d", Links::Anywhere), ("/files", Links::Anywhere));
        let by_a_link = Some((true, Why::Volume));
        assert_eq!(found(&["/d/y"], &[held]), (None, by_a_link));
        assert_eq!(found(&["/dev/shm/y"], &[]), (None, by_a_link));
        assert_eq!(found(&["/d/../x"], &[]), (None, Some((true, Why::Up))));
        assert_eq!(found(&["/files/in"], &[files]), (by_a_link, None));
        assert_eq!(found(&["/d/y", "/files/in"], &[held, files]).0, by_a_link);
        assert_eq!(found(&["/d/y"], &[held, ("/d/x", Links::None)]), (Some((false, Why::Volume)), None));
        let neither = (None, None);
        assert_eq!(found(&["/d/y"], &[]), neither, "nothing is mounted around it");
        assert_eq!(found(&["/d/y"], &[("/d", Links::None)]), neither, "no link can be there");
        assert_eq!(found(&["/d", "/l/y"], &[held]), neither, "one is the mount itself");
        assert_eq!(found(&["/files/in"], &[held]), neither);
        assert_eq!(found(&["/files"], &[files]), neither);
    }

    /// The copy that a node mounts there has the image's links, by which a folder leads on that the pod's volume seems to hide.
    #[test]
    fn a_volume_of_the_image_within_one_of_the_pods_shows_links_of_the_image_there() {
        let lost = |wasm: bool, mounts: &[&str]| {
            let mut facts = linked(&[("/d/y/w", "/x"), ("/d/yy", "/x"), ("/e/w", "/x")]);
            facts.volumes = vec!["/d/y".into(), "/e/v".into()];
            facts.modules.extend(wasm.then(|| ModuleFacts::blank("/app.wasm", WasmFormat::Module)));
            let mounts: Vec<(&str, Links)> = mounts.iter().map(|path| (*path, Links::None)).collect();
            placed(&facts, &mounts).err()
        };
        assert_eq!(lost(true, &["/d"]), Some(Why::Volume));
        assert_eq!(lost(true, &["/"]), Some(Why::Volume));
        for mounts in [&["/e"][..], &["/d", "/d/y"], &["/d/y"], &["/data"], &[]] {
            assert_eq!(lost(true, mounts), None, "{mounts:?}");
        }
        assert_eq!(lost(false, &["/d"]), None, "it has no Wasm");
    }

    #[test]
    fn where_the_volumes_of_the_image_are_empty_no_link_below_them_leads_on() {
        let found = |volumes: &[&str], wasm: bool, mount: &str| {
            let mut facts = linked(&[("/l", "/srv"), ("/vol/w", "/x")]);
            facts.volumes = volumes.iter().map(|path| (*path).to_string()).collect();
            facts.modules.extend(wasm.then(|| ModuleFacts::blank("/app.wasm", WasmFormat::Module)));
            let found = Mounts::new(&facts, &[Mount::from(mount)]);
            assert_eq!(found.lost(), None, "{volumes:?} {mount}");
            let lost = found.emptied().lost().map(|lost| (lost.mount.clone(), lost.is_of_image(), lost.why));
            (found.emptied().folders.iter().cloned().collect::<Vec<_>>().join(" "), lost)
        };
        let lost = |path: &str, of_image| Some((path.to_string(), of_image, Why::Emptied));
        assert_eq!(found(&[], true, "/vol/w/in"), (String::new(), None));
        assert_eq!(found(&["/l/y"], true, "/l/y/in"), ("/srv/y".into(), None));
        assert_eq!(found(&["/vol"], true, "/vol/in"), ("/vol".into(), None));
        for wasm in [true, false] {
            assert_eq!(found(&["/vol"], wasm, "/vol/w/in"), ("/vol".into(), lost("/vol/w/in", false)));
        }
        let below = ["/vol", "/vol/w/y"];
        assert_eq!(found(&below, true, "/in"), ("/vol /x/y".into(), lost("/vol/w/y", true)));
        assert_eq!(
            found(&below, false, "/in"),
            ("/vol /x/y".into(), None),
            "it has no Wasm that would start"
        );
    }

    #[test]
    fn where_empty_volumes_of_the_image_are_takes_no_more_steps_than_are_counted_from_their_paths() {
        let mut facts = linked(&[]);
        facts.files.push(("/app.wasm".into(), FileClass::Wasm));
        facts.modules.push(ModuleFacts::blank("/app.wasm", WasmFormat::Module));
        facts.volumes = vec!["/data/of/the/image".into(), "/x".into()];
        let taken = Mounts::counted(&facts, &[], Mounts::most_steps(&facts, 0)).1;
        let most = Mounts::steps_without_links(&facts, std::iter::empty::<&str>()).unwrap();
        assert!(10 < taken && taken <= most, "{taken} of {most}");
    }

    /// Whichever way is the one for which there are not enough.
    #[test]
    fn steps_that_do_not_reach_are_counted_whole() {
        for name in ["/app.wasm", "/app"] {
            let mut facts = linked(&[]);
            let is_wasm = name == "/app.wasm";
            facts.files.push((name.into(), if is_wasm { FileClass::Wasm } else { FileClass::Other }));
            facts.modules.extend(is_wasm.then(|| ModuleFacts::blank(name, WasmFormat::Module)));
            facts.volumes = vec![format!("/{}", "a".repeat(100)), format!("/{}", "b".repeat(100))];
            let taken = Mounts::counted(&facts, &[], Mounts::most_steps(&facts, 0)).1;
            assert!(taken > 20, "{taken}");
            for most in 1..=taken {
                assert_eq!(Mounts::steps(&facts, &[], most), most, "{name} of {taken}");
            }
        }
    }

    /// They are followed once more where the volumes of the image are empty folders.
    #[test]
    fn over_a_file_that_may_be_a_link_no_more_steps_are_taken_than_are_counted_from_the_paths_alone() {
        let mut facts = linked(&[]);
        facts.files.push(("/bad.wasm".into(), FileClass::Unreadable { message: "too large".into() }));
        facts.volumes = vec!["/data/of/the/image".into(), "/data/of/the/other".into()];
        let path = "/a/../b/c/d/e";
        let taken = Mounts::counted(&facts, &[mount(path, Links::None)], Mounts::most_steps(&facts, 1)).1;
        let most = Mounts::steps_without_links(&facts, std::iter::once(path)).unwrap();
        assert!(45 < taken && taken <= most, "{taken} of {most}");
    }

    /// A path that begins with `..` goes up from nothing: it is known where it is, whatever the image has.
    #[test]
    fn a_mount_that_begins_above_the_root_is_written_directly_in_a_volume_as_any_other() {
        let mounts = [("/e", Links::None), ("/../e/x", Links::None)];
        assert_eq!(placed(&linked(&[]), &mounts), Ok(vec!["/e".to_string(), "/e/x".to_string()]));
    }

    #[test]
    fn the_steps_are_those_that_are_taken_unless_they_are_more_than_asked_for() {
        let facts = linked(&[("/l", "/opt/vendor/product/current")]);
        let mounts = [mount("/l/etc", Links::None), mount("/data", Links::None)];
        let taken = Mounts::counted(&facts, &mounts, Mounts::most_steps(&facts, 2)).1;
        assert!((8..40).contains(&taken), "{taken}");
        assert_eq!(Mounts::steps(&facts, &mounts, 1_000), taken);
        assert_eq!(Mounts::steps(&facts, &mounts, taken - 1), taken - 1);
        let many = vec![mount("/data", Links::None); 100_000];
        assert_eq!(Mounts::steps(&facts, &many, 1_000), 1_000);
    }

    #[test]
    fn without_links_no_more_steps_are_taken_than_are_counted_from_the_paths_alone() {
        let mut facts = linked(&[]);
        facts.volumes = vec!["/data/of/the/image".into(), "/x/../y".into()];
        facts.modules.push(ModuleFacts::blank("/app.wasm", WasmFormat::Module));
        for paths in [&["/var/run/secrets/token", "/etc/app"][..], &["/a/../b", "//c/./d/"], &["/"], &[]] {
            let mounts: Vec<Mount<'_>> = paths.iter().map(|path| mount(path, Links::None)).collect();
            let taken = Mounts::counted(&facts, &mounts, Mounts::most_steps(&facts, mounts.len())).1;
            let most = Mounts::steps_without_links(&facts, paths.iter().copied()).unwrap();
            assert!(taken <= most && most <= 5 * taken + 8, "{paths:?}: {taken} of {most}");
        }
        let none = std::iter::empty::<&str>;
        assert_eq!(Mounts::steps_without_links(&linked(&[("/l", "/opt")]), none()), None);
        facts.files = (0..300).map(|number| (format!("/{number:03}"), FileClass::Wasm)).collect();
        assert_eq!(Mounts::steps_without_links(&facts, none()), None);
    }

    /// Without links, mounts are taken for where they are written, and with any link each is followed.
    #[test]
    fn mounts_over_an_image_without_links_are_where_they_are_over_one_with_a_link_elsewhere() {
        let mut plain = linked(&[]);
        plain.files.push(("/a/b".into(), FileClass::Wasm));
        let mut with_link = linked(&[("/zz", "/yy")]);
        with_link.files.insert(0, ("/a/b".into(), FileClass::Wasm));
        let paths = [
            "/",
            "/a",
            "a/b",
            "/a//b/.",
            "/a/b/c",
            "/a/../b",
            "..",
            "/dev",
            "/dev/shm",
            "/dev/shm/x",
            "/dev/fd",
            "/dev/termination-log",
            "/proc",
            "/proc/cpuinfo",
            "/proc/cpuinfo/x",
            "/proc/self/root",
            "/sys/fs/cgroup",
            "/etc/hosts",
            "/a/long/way/to/a/place/of/many/parts",
        ];
        let all = [Links::None, Links::Anywhere];
        let found = |facts: &ImageFacts, mounts: &[Mount<'_>], most: usize| {
            let (found, steps) = Mounts::counted(facts, mounts, most);
            let places: Vec<String> = found.all_places().map(|(_, place)| place.to_string()).collect();
            (places, found.lost().cloned(), found.volumes.clone(), steps)
        };
        for (one, other) in paths.iter().flat_map(|one| paths.map(|other| (*one, other))) {
            for (first, second) in all.iter().flat_map(|first| all.map(|second| (*first, second))) {
                let mut mounts = vec![mount(one, first), mount(other, second), mount("/e", Links::Anywhere)];
                for most in [1_000, 12, 3] {
                    assert_eq!(
                        found(&plain, &mounts, most),
                        found(&with_link, &mounts, most),
                        "{mounts:?} {most}"
                    );
                }
                let more = ["/f", "/g", "/h", "/i"].map(|path| mount(path, Links::Anywhere));
                mounts.extend(more);
                assert_eq!(found(&plain, &mounts, 1_000), found(&with_link, &mounts, 1_000), "{mounts:?}");
            }
        }
    }

    #[test]
    fn a_mount_in_the_shared_memory_of_the_pod_may_meet_a_link_of_another_container() {
        let facts = linked(&[("/q", "/dev/shm")]);
        let of = |mounts: &[(&str, Links)]| placed(&facts, mounts).err();
        assert_eq!(of(&[("/dev", Links::None), ("/dev/shm/x", Links::None)]), Some(Why::Volume));
        assert_eq!(of(&[("/q/x", Links::None)]), Some(Why::Volume));
        assert_eq!(of(&[("/dev/shm", Links::Anywhere)]), None, "a volume replaces it");
        assert_eq!(of(&[("/dev/shm", Links::None), ("/dev/shm/x", Links::None)]), None);
        assert_eq!(of(&[("/dev/shmem", Links::None)]), None);
    }

    /// Whatever earlier images of the container had.
    #[test]
    fn a_mount_that_only_this_image_leads_into_a_volume_may_meet_a_link() {
        let mounts = [("/e", Links::Anywhere), ("/m/x", Links::None)];
        assert_eq!(placed(&linked(&[("/m", "/e")]), &mounts), Err(Why::Volume));
        assert!(placed(&linked(&[]), &mounts).is_ok());
        let two = [("/e", Links::None), ("/g", Links::Anywhere), ("/e/x", Links::None)];
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
            let (found, steps) = Mounts::counted(&facts, &mounts, Mounts::most_steps(&facts, count));
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
