//! What was in force in this process, by the names of bundles, so that a configuration that is loaded again knows it too.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use tokio::sync::OwnedMutexGuard;

use super::Error;
use super::kept::{LONGEST_WAIT, Record, WAIT, no_roll_back};
use crate::policy::Contents;

/// What was in force of each bundle. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    /// Locked by what is about to bring a bundle into force.
    claims: Arc<tokio::sync::Mutex<()>>,
}

/// The right to bring bundles into force.
pub type Claim = OwnedMutexGuard<()>;

#[derive(Debug, Default)]
struct Known {
    /// The highest sequence.
    newest: Option<u64>,
    /// Times that one has come into force.
    changes: u64,
    /// The last bundle, where it is not kept on disk. Behind a pointer, since it may have many megabytes.
    last: Option<Arc<Last>>,
    /// Locked while one is written to the disk.
    writes: Arc<Mutex<()>>,
}

/// A bundle in force, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    pub record: Record,
    pub contents: Contents,
}

/// How often bundles had come into force at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<String, u64>);

impl InForce {
    /// Waits for the right to bring bundles into force, which nothing else does while it is held: what was found to fit still fits when its
    /// number was written down, so that none is written down of a bundle that is refused.
    pub async fn claim(&self) -> Claim {
        Arc::clone(&self.claims).lock_owned().await
    }

    /// The highest sequence that a bundle of this name had.
    pub fn newest(&self, name: &str) -> Option<u64> {
        self.locked().get(name).and_then(|known| known.newest)
    }

    /// How often each bundle has come into force until now.
    pub fn changes(&self) -> Changes {
        Changes(self.locked().iter().map(|(name, known)| (name.clone(), known.changes)).collect())
    }

    /// Whether a bundle with this sequence may come into force, whose source was asked after the moment of `since`. What has come
    /// into force meanwhile is newer, unless the sequence says otherwise: a higher one does, and the same one does not. `is_any` where
    /// no sequence counts. Says so for the moment only: the caller has to hold the [claim](Self::claim).
    pub fn check(
        &self,
        name: &str,
        sequence: Option<u64>,
        since: &Changes,
        is_any: bool,
    ) -> Result<(), Error> {
        let all = self.locked();
        let Some(known) = all.get(name) else { return Ok(()) };
        let is_newer = !is_any && sequence > known.newest;
        if known.changes != since.0.get(name).copied().unwrap_or_default() && !is_newer {
            return Err(Error::OvertakeBundle { bundle: name.into() });
        }
        if is_any { Ok(()) } else { no_roll_back(name, known.newest, sequence) }
    }

    /// Says that a bundle with this sequence has come into force. `is_newest` where it counts as the newest one even though a
    /// higher one was in force before.
    pub fn set(&self, name: &str, sequence: Option<u64>, is_newest: bool) {
        let mut all = self.locked();
        let known = all.entry(name.to_owned()).or_default();
        known.newest = if is_newest { sequence } else { known.newest.max(sequence) };
        known.changes = known.changes.saturating_add(1);
    }

    /// Remembers the last good bundle, which is not on disk.
    pub(super) fn keep(&self, last: Arc<Last>) {
        let name = last.record.name.clone();
        self.locked().entry(name).or_default().last = Some(last);
    }

    /// Has a bundle written to this folder, and forgets it then. One after which another one of its name came into force is not written: the
    /// thread that writes for a follower goes on when that was replaced, and would put the older one in the place of the newer one. Blocks while
    /// another one of the name is written.
    pub(super) fn write_last(
        &self,
        bundle: &Arc<Last>,
        folder: &Path,
        write: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let name = &bundle.record.name;
        let failed = |source| Error::KeepBundle { bundle: name.clone(), path: folder.to_path_buf(), source };
        let writes = Arc::clone(&self.locked().entry(name.clone()).or_default().writes);
        let _turn = turn(&writes).map_err(failed)?;
        let is_last = |known: &Known| known.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, bundle));
        if !self.locked().get(name).is_some_and(is_last) {
            return Ok(());
        }
        write()?;
        if let Some(known) = self.locked().get_mut(name).filter(|known| is_last(known)) {
            known.last = None;
        }
        Ok(())
    }

    /// The last good bundle of this name and place, if it is not on disk.
    pub(super) fn recall(&self, name: &str, from: &str) -> Option<(Record, Contents)> {
        let last = self.locked().get(name)?.last.clone().filter(|last| last.record.from == from)?;
        let Last { record, contents } = (*last).clone();
        Some((record, contents))
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a lock, for as long as for that of another process.
fn turn(lock: &Mutex<()>) -> io::Result<MutexGuard<'_, ()>> {
    let until = Instant::now().checked_add(LONGEST_WAIT);
    loop {
        match lock.try_lock() {
            Ok(turn) => return Ok(turn),
            Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) if until.is_none_or(|until| Instant::now() >= until) => {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "the bundle before it is still being written",
                ));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(WAIT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_sequence_is_refused_unless_it_was_let_in_as_the_newest() {
        let all = InForce::default();
        let check = |name, sequence| all.check(name, sequence, &all.changes(), false);
        assert!(check("rules", None).is_ok());
        all.set("rules", Some(3), false);
        all.set("rules", Some(2), false);
        assert_eq!(all.clone().newest("rules"), Some(3));
        assert!(check("rules", Some(2)).is_err() && check("rules", None).is_err());
        assert!(check("rules", Some(3)).is_ok() && check("other", Some(1)).is_ok());
        all.set("rules", Some(1), true);
        assert!(check("rules", Some(1)).is_ok());
    }

    #[test]
    fn what_was_asked_for_before_another_one_came_into_force_is_refused_unless_it_is_newer() {
        let all = InForce::default();
        let before = all.changes();
        all.set("plain", None, false);
        all.set("numbered", Some(2), false);
        let check = |name, sequence, is_any| {
            let late = all.check(name, sequence, &before, is_any);
            assert!(all.check(name, sequence, &all.changes(), is_any).is_ok() || sequence < Some(2));
            matches!(late, Err(Error::OvertakeBundle { .. }))
        };
        assert!(check("plain", None, false) && check("numbered", Some(1), false));
        assert!(check("numbered", Some(2), true), "where no sequence counts");
        assert!(check("numbered", Some(2), false), "another one of the same number is in force since");
        assert!(!check("numbered", Some(3), false));
        assert!(!check("other", None, false));
    }

    #[test]
    fn a_bundle_is_recalled_for_its_own_place_alone_until_it_is_on_disk() {
        let all = InForce::default();
        let record = Record { name: "rules".into(), from: "a.tar.gz".into(), ..Record::default() };
        let last = || Arc::new(Last { record: record.clone(), contents: Contents::default() });
        let (first, second) = (last(), last());
        all.keep(Arc::clone(&first));
        assert_eq!(all.recall("rules", "a.tar.gz"), Some((record.clone(), Contents::default())));
        assert_eq!(all.recall("rules", "b.tar.gz"), None);
        assert_eq!(all.recall("other", "a.tar.gz"), None);
        all.keep(Arc::clone(&second));
        let folder = Path::new("kept");
        all.write_last(&first, folder, || panic!("another one has come after it")).unwrap();
        assert!(all.recall("rules", "a.tar.gz").is_some());
        let failed = || Err(Error::OvertakeBundle { bundle: "rules".into() });
        assert!(all.write_last(&second, folder, failed).is_err());
        assert!(all.recall("rules", "a.tar.gz").is_some(), "it is not on disk");
        all.write_last(&second, folder, || Ok(())).unwrap();
        assert_eq!(all.recall("rules", "a.tar.gz"), None);
    }

    /// The thread that writes for a follower goes on when the follower was replaced.
    #[test]
    fn a_bundle_that_is_being_written_when_another_one_comes_into_force_is_on_disk_before_that() {
        let all = InForce::default();
        let record = Record { name: "rules".into(), ..Record::default() };
        let last = || Arc::new(Last { record: record.clone(), contents: Contents::default() });
        let (first, second) = (last(), last());
        all.keep(Arc::clone(&first));
        let written = Mutex::new(Vec::new());
        let (begun, is_begun) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let (shared, former, order) = (&all, &first, &written);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let write = || {
                    begun.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    order.lock().unwrap().push("first");
                    Ok(())
                };
                shared.write_last(former, Path::new("kept"), write).unwrap();
            });
            is_begun.recv().unwrap();
            all.keep(Arc::clone(&second));
            scope.spawn(|| {
                let write = || {
                    written.lock().unwrap().push("second");
                    Ok(())
                };
                all.write_last(&second, Path::new("kept"), write).unwrap();
            });
            go_on.send(()).unwrap();
        });
        assert_eq!(*written.lock().unwrap(), ["first", "second"]);
        assert_eq!(all.recall("rules", ""), None, "the second one is on disk");
    }
}
