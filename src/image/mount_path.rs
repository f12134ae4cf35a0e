//! The way of one mount: through links of the image, and where it meets other mounts.

use std::collections::{BTreeMap, BTreeSet};

use super::leads::{KernelWay, class, is_unread};
use super::lost::Why;
use super::{FileClass, ImageFacts, path};

/// Bytes of a place that take one step more, so that the steps bound the memory that places take too.
pub(super) const BYTES_OF_A_STEP: usize = 16;

/// What links there may be in a volume when a container starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Links {
    /// The kubelet alone writes to it.
    #[default]
    None,
    /// Anywhere in it, also in a volume that is empty when the pod starts and that one container alone mounts. That container
    /// starts again, and its image may be changed, with what an earlier program of it left there. A place at which something
    /// was mounted is no exception: the kernel keeps a process from replacing the places of mounts in its own namespace of
    /// mounts alone (`linux:fs/namei.c`, `may_delete`, `is_local_mountpoint`), and one without any capability may leave that
    /// by a namespace of users (`user_namespaces(7)`).
    Anywhere,
}

/// The places of all mounts, and the folders below which the image has nothing.
pub(super) type Over<'a> = (&'a BTreeMap<String, Links>, &'a BTreeSet<String>);

/// The way of one mount.
pub(super) struct MountPath<'a> {
    facts: &'a ImageFacts,
    /// The places of all mounts. Which of them is mounted before this one is not known.
    volumes: &'a BTreeMap<String, Links>,
    /// The folders below which the image has nothing.
    emptied: &'a BTreeSet<String>,
    left: &'a mut usize,
    kernel: KernelWay,
    /// The place of a mount at or above the way, and the links that its volume may hold.
    inside: Option<(&'a str, Links)>,
    why: Option<Why>,
    /// Which of the links is followed that a path is on different platforms; none on the first way.
    platform: Option<usize>,
    /// How many there are, once the way has met such a path.
    platforms: Option<usize>,
}

impl<'a> MountPath<'a> {
    /// Where the path leads on any platform, first where it meets no link that only some have.
    pub(super) fn follow_all(
        facts: &ImageFacts,
        written: &str,
        volumes: &BTreeMap<String, Links>,
        left: &mut usize,
    ) -> Result<Vec<String>, Why> {
        MountPath::follow_emptied(facts, written, (volumes, &BTreeSet::new()), left)
    }

    /// The same where the image has nothing below some folders: a path that would need a link there has no place.
    pub(super) fn follow_emptied(
        facts: &ImageFacts,
        written: &str,
        over: Over<'_>,
        left: &mut usize,
    ) -> Result<Vec<String>, Why> {
        let (first, platforms) = MountPath::follow(facts, written, over, left, None)?;
        let mut places = vec![first];
        for platform in 0..platforms {
            places.push(MountPath::follow(facts, written, over, left, Some(platform))?.0);
        }
        Ok(places)
    }

    /// Where it leads, and how many further ways there are.
    fn follow(
        facts: &'a ImageFacts,
        written: &str,
        (volumes, emptied): Over<'a>,
        left: &'a mut usize,
        platform: Option<usize>,
    ) -> Result<(String, usize), Why> {
        if written.len() > path::MAX_LENGTH || path::is_deep(written) {
            return Err(Why::Long);
        }
        let (kernel, inside) = (KernelWay::default(), volumes.get("/").map(|links| ("/", *links)));
        let (why, platforms) = (None, None);
        let mut way = Self { facts, volumes, emptied, left, kernel, inside, why, platform, platforms };
        let end = path::resolve_within(path::MOUNT_HOPS, written, true, |at| way.enters(at));
        // Each place is kept, and a short path may lead to a long one.
        way.take(end.as_ref().map_or(0, |end| end.len() / BYTES_OF_A_STEP));
        match way.why {
            Some(why) => Err(why),
            None if way.kernel.leads_anywhere(end.as_deref()) => Err(Why::Kernel),
            None => Ok((end.ok_or(Why::Long)?, way.platforms.unwrap_or_default())),
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
        let target = match class(self.facts, at)? {
            (_, FileClass::Link { .. } | FileClass::Varies { .. }) if above(self.emptied, at).is_some() => {
                self.why = Some(Why::Emptied);
                return None;
            }
            (_, FileClass::Link { target }) => target.as_str(),
            (_, FileClass::Varies { targets, .. }) => self.on_platform(at, targets)?,
            file => {
                self.why = Some(Why::Platform).filter(|_| is_unread(&file));
                return None;
            }
        };
        if self.inside.is_some() {
            self.why = Some(Why::Order);
            return None;
        }
        self.take(target.split('/').count())?;
        Some(target)
    }

    /// The link that is followed where some platforms have one. A way that meets two such paths is given up: each of them would
    /// have to be taken with each of the other.
    fn on_platform(&mut self, at: &str, targets: &'a [String]) -> Option<&'a str> {
        if targets.is_empty() {
            return None;
        }
        if self.platforms.replace(targets.len()).is_some() {
            self.why = Some(Why::Platform);
        // What is mounted here itself is here only on platforms that have no link.
        } else if self.inside.is_some_and(|(root, _)| root != at) {
            self.why = Some(Why::Order);
        }
        let target = targets.get(self.platform?)?;
        self.inside = None;
        self.why.is_none().then_some(target.as_str())
    }

    /// Where there are not as many left, none is left, so that the steps that were taken tell that a way was cut short.
    fn take(&mut self, steps: usize) -> Option<()> {
        let Some(left) = self.left.checked_sub(steps) else {
            *self.left = 0;
            self.why = Some(Why::Long);
            return None;
        };
        *self.left = left;
        Some(())
    }

    fn enters_volume(&mut self, at: &str) {
        self.inside = self.inside.filter(|(root, _)| path::is_below(at, root));
        if matches!(self.inside, Some((_, Links::Anywhere))) {
            self.why.get_or_insert(Why::Volume);
        }
        if let Some((place, links)) = self.volumes.get_key_value(at) {
            self.inside = Some((place.as_str(), *links));
        }
    }
}

/// The one of these folders that is above a place. An image has few volumes.
pub(super) fn above<'f>(folders: &'f BTreeSet<String>, place: &str) -> Option<&'f str> {
    folders.iter().map(String::as_str).find(|folder| place != *folder && path::is_below(place, folder))
}
