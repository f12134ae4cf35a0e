//! What was in force in this process, by the names of bundles, so that a configuration that is loaded again knows it too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Error;
use super::kept::{Record, no_roll_back};
use crate::policy::Contents;

/// What was in force of each bundle. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct InForce(Arc<Mutex<BTreeMap<String, Known>>>);

#[derive(Debug, Default)]
struct Known {
    /// The highest sequence.
    newest: Option<u64>,
    /// The last bundle, where it is not kept on disk. Behind a pointer, since it may have many megabytes.
    last: Option<Arc<(Record, Contents)>>,
}

impl InForce {
    /// The highest sequence that a bundle of this name had.
    pub(super) fn newest(&self, name: &str) -> Option<u64> {
        self.locked().get(name).and_then(|known| known.newest)
    }

    /// Whether a bundle with this sequence may come into force. Says so for the moment only: the caller has to hold the right to
    /// change what the gate judges by.
    pub fn check(&self, name: &str, sequence: Option<u64>) -> Result<(), Error> {
        no_roll_back(name, self.newest(name), sequence)
    }

    /// Says that a bundle with this sequence has come into force. `is_newest` where it counts as the newest one even though a
    /// higher one was in force before.
    pub fn set(&self, name: &str, sequence: Option<u64>, is_newest: bool) {
        let mut all = self.locked();
        let known = all.entry(name.to_owned()).or_default();
        known.newest = if is_newest { sequence } else { known.newest.max(sequence) };
    }

    /// Remembers the last good bundle, which is not on disk.
    pub(super) fn keep(&self, record: Record, contents: Contents) {
        let name = record.name.clone();
        self.locked().entry(name).or_default().last = Some(Arc::new((record, contents)));
    }

    /// Forgets the last good bundle, which is on disk.
    pub(super) fn is_kept_on_disk(&self, name: &str) {
        if let Some(known) = self.locked().get_mut(name) {
            known.last = None;
        }
    }

    /// The last good bundle of this name and place, if it is not on disk.
    pub(super) fn recall(&self, name: &str, from: &str) -> Option<(Record, Contents)> {
        let last = self.locked().get(name)?.last.clone().filter(|last| last.0.from == from)?;
        Some((*last).clone())
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_sequence_is_refused_unless_it_was_let_in_as_the_newest() {
        let all = InForce::default();
        assert!(all.check("rules", None).is_ok());
        all.set("rules", Some(3), false);
        all.set("rules", Some(2), false);
        assert_eq!(all.clone().newest("rules"), Some(3));
        assert!(all.check("rules", Some(2)).is_err() && all.check("rules", None).is_err());
        assert!(all.check("rules", Some(3)).is_ok() && all.check("other", Some(1)).is_ok());
        all.set("rules", Some(1), true);
        assert!(all.check("rules", Some(1)).is_ok());
    }

    #[test]
    fn a_bundle_is_recalled_for_its_own_place_alone() {
        let all = InForce::default();
        let record = Record { name: "rules".into(), from: "a.tar.gz".into(), ..Record::default() };
        all.keep(record.clone(), Contents::default());
        assert_eq!(all.recall("rules", "a.tar.gz"), Some((record, Contents::default())));
        assert_eq!(all.recall("rules", "b.tar.gz"), None);
        assert_eq!(all.recall("other", "a.tar.gz"), None);
    }
}
