//! Whose images have the places of a ledger, and which image gives up its place. Both are kept in order: where thousands of images want a
//! place, none of them has to look at all that have one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::usage::UsageKey;

/// How many images of each namespace are known, so that none takes the places of the others by running many.
#[derive(Debug, Default)]
pub(super) struct Places {
    held: BTreeMap<String, usize>,
    /// The same by number.
    by_number: BTreeSet<(usize, String)>,
    /// Namespaces that get no further one in this round.
    full_for: BTreeSet<String>,
}

impl Places {
    pub fn held(&self, namespace: &str) -> usize {
        self.held.get(namespace).copied().unwrap_or_default()
    }

    pub fn add(&mut self, namespace: &str) {
        self.set(namespace, self.held(namespace).saturating_add(1));
    }

    pub fn remove(&mut self, namespace: &str) {
        self.set(namespace, self.held(namespace).saturating_sub(1));
    }

    fn set(&mut self, namespace: &str, held: usize) {
        if let Some(former) = self.held.insert(namespace.to_owned(), held) {
            self.by_number.remove(&(former, namespace.to_owned()));
        }
        self.by_number.insert((held, namespace.to_owned()));
    }

    /// The namespace with the fewest places of these.
    pub fn least<'n>(&self, namespaces: impl Iterator<Item = &'n String>) -> Option<String> {
        namespaces.min_by_key(|namespace| self.held(namespace)).cloned()
    }

    /// The namespace with the most places, if it has no fewer than this one after it has given one to it.
    pub fn greatest_above(&self, namespace: &str) -> Option<&str> {
        let (held, greatest) = self.by_number.last()?;
        (*held > self.held(namespace).saturating_add(1)).then_some(greatest.as_str())
    }

    /// Notes that there is no place for this namespace: what was not found for one image is not there for the next.
    pub fn note_full(&mut self, namespace: &str) {
        self.full_for.insert(namespace.to_owned());
    }

    pub fn is_full_for(&self, namespace: &str) -> bool {
        self.full_for.contains(namespace)
    }
}

/// When an image that does not run gives up its place: first those of which too little is known, and of these the one that was not seen
/// for longest.
type Idle = (bool, Timestamp);

/// What decides whether an image gives up its place, and when.
#[derive(Debug)]
pub(super) struct Standing {
    /// The namespace to which its place is counted.
    pub holder: Option<String>,
    /// How long it was seen to run.
    pub observed: Duration,
    /// Set where it does not run and can be forgotten: whether enough is known of it, and when it was seen last.
    pub idle: Option<Idle>,
}

/// The images with places, in the orders in which they give them up.
#[derive(Debug, Default)]
pub(super) struct Leavers {
    idle: BTreeSet<(Idle, UsageKey)>,
    /// Those of each namespace.
    idle_of: BTreeMap<String, BTreeSet<(Idle, UsageKey)>>,
    /// All images of each namespace, whether they run or not.
    all_of: BTreeMap<String, BTreeSet<(Duration, UsageKey)>>,
    /// How often an image was put in or taken out.
    steps: usize,
}

impl Leavers {
    /// Adds an image.
    pub fn insert(&mut self, key: &UsageKey, Standing { holder, observed, idle }: &Standing) {
        self.steps += 1;
        if let Some(idle) = idle {
            self.idle.insert((*idle, key.clone()));
        }
        let Some(holder) = holder else { return };
        if let Some(idle) = idle {
            self.idle_of.entry(holder.clone()).or_default().insert((*idle, key.clone()));
        }
        self.all_of.entry(holder.clone()).or_default().insert((*observed, key.clone()));
    }

    /// Takes an image out, of which this was said when it was added.
    pub fn remove(&mut self, key: &UsageKey, Standing { holder, observed, idle }: &Standing) {
        self.steps += 1;
        if let Some(idle) = idle {
            self.idle.remove(&(*idle, key.clone()));
        }
        let Some(holder) = holder else { return };
        if let (Some(idle), Some(theirs)) = (idle, self.idle_of.get_mut(holder)) {
            theirs.remove(&(*idle, key.clone()));
        }
        if let Some(theirs) = self.all_of.get_mut(holder) {
            theirs.remove(&(*observed, key.clone()));
        }
    }

    /// The image that can be forgotten best of those that do not run. With a namespace, only one of its own.
    pub fn idle(&self, of: Option<&str>) -> Option<&UsageKey> {
        let idle = match of {
            Some(namespace) => self.idle_of.get(namespace)?,
            None => &self.idle,
        };
        idle.first().map(|(_, key)| key)
    }

    /// The image with a place of this namespace of which least is known, whether it runs or not.
    pub fn least_known_of(&self, holder: &str) -> Option<&UsageKey> {
        self.all_of.get(holder)?.first().map(|(_, key)| key)
    }

    /// How often an image was put in or taken out so far.
    pub const fn steps(&self) -> usize {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::image::Digest;

    fn key(image: u8) -> UsageKey {
        UsageKey { digest: Digest::of(&[image]), runtime: "wasmtime".into() }
    }

    fn standing() -> impl Strategy<Value = Standing> {
        let idle = (any::<bool>(), (0_i64..4).prop_map(|second| Timestamp::from_second(second).unwrap()));
        (option::of("[a-c]"), 0_u64..4, option::of(idle)).prop_map(|(holder, observed, idle)| Standing {
            holder,
            observed: Duration::from_secs(observed),
            idle,
        })
    }

    proptest! {
        #[test]
        fn the_first_to_leave_is_the_one_that_a_look_at_all_images_finds(
            changes in vec((0_u8..12, option::of(standing())), 1..60)
        ) {
            let (mut leavers, mut all) = (Leavers::default(), BTreeMap::<UsageKey, Standing>::new());
            for (image, change) in changes {
                let key = key(image);
                if let Some(former) = all.remove(&key) {
                    leavers.remove(&key, &former);
                }
                if let Some(new) = change {
                    leavers.insert(&key, &new);
                    all.insert(key, new);
                }
                let idle = |of: Option<&str>| {
                    let theirs = all.iter().filter(|(_, one)| of.is_none() || one.holder.as_deref() == of);
                    theirs.filter_map(|(key, one)| Some((one.idle?, key))).min().map(|(_, key)| key)
                };
                prop_assert_eq!(leavers.idle(None), idle(None));
                for namespace in ["a", "b", "c"] {
                    prop_assert_eq!(leavers.idle(Some(namespace)), idle(Some(namespace)));
                    let theirs = all.iter().filter(|(_, one)| one.holder.as_deref() == Some(namespace));
                    let least = theirs.min_by_key(|(_, one)| one.observed).map(|(key, _)| key);
                    prop_assert_eq!(leavers.least_known_of(namespace), least);
                }
            }
        }

        #[test]
        fn the_namespace_with_most_places_is_the_one_that_a_look_at_all_finds(
            changes in vec(("[a-d]", any::<bool>()), 1..60)
        ) {
            let (mut places, mut all) = (Places::default(), BTreeMap::<String, usize>::new());
            for (namespace, is_more) in changes {
                let held = all.entry(namespace.clone()).or_default();
                if is_more {
                    places.add(&namespace);
                    *held += 1;
                } else {
                    places.remove(&namespace);
                    *held = held.saturating_sub(1);
                }
                let (greatest, most) = all.iter().max_by_key(|(_, held)| **held).unwrap();
                for own in ["a", "b", "c", "d"] {
                    let held = all.get(own).copied().unwrap_or_default();
                    prop_assert_eq!(places.held(own), held);
                    prop_assert_eq!(places.greatest_above(own), (*most > held + 1).then_some(greatest.as_str()));
                }
            }
        }
    }
}
