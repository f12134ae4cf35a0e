//! What the watches and the builder of snapshots share.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::health::Health;
use super::resource::{Store, Watched};

/// The known objects of one kind, and the health of its watch.
#[derive(Debug)]
pub(super) struct Kept {
    pub store: Arc<Store>,
    pub health: Arc<Health>,
}

/// State that the watches and the builder share.
#[derive(Debug)]
pub(super) struct Shared {
    pub kinds: Vec<Kept>,
    /// Kinds that changed since the last snapshot.
    pub changed: Mutex<Vec<Watched>>,
    pub wake: Notify,
    pub published: AtomicBool,
    pub rebuilds: AtomicU64,
}

impl Shared {
    pub fn kept(&self, watched: Watched) -> Option<&Kept> {
        self.kinds.iter().find(|kept| kept.health.watched() == watched)
    }

    pub fn note_change(&self, watched: Watched) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if !changed.contains(&watched) {
            changed.push(watched);
        }
        drop(changed);
        self.wake.notify_one();
    }

    /// Whether something has changed, and nothing but sizes.
    pub fn only_sizes_changed(&self) -> bool {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        !changed.is_empty() && changed.iter().all(|watched| watched.is_of_sizes())
    }

    pub fn take_changes(&self) -> Vec<Watched> {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether each kind that verdicts depend on was listed once. Sizes do without theirs: no list of another project's objects keeps a
    /// replica from serving.
    pub fn all_synced(&self) -> bool {
        self.kinds
            .iter()
            .filter(|kept| !kept.health.watched().is_of_sizes())
            .all(|kept| kept.health.is_synced())
    }

    /// Whether the kinds that learned sizes depend on were listed once.
    pub fn sizes_synced(&self) -> bool {
        self.kinds
            .iter()
            .filter(|kept| kept.health.watched().is_of_sizes())
            .all(|kept| kept.health.is_synced())
    }
}
