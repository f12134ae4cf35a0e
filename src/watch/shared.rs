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
    /// Kinds of snapshots that changed since the last one.
    pub changed: Mutex<Vec<Watched>>,
    pub wake: Notify,
    pub published: AtomicBool,
    pub rebuilds: AtomicU64,
}

impl Shared {
    pub fn kept(&self, watched: Watched) -> Option<&Kept> {
        self.kinds.iter().find(|kept| kept.health.watched() == watched)
    }

    /// Wakes the builder, and notes that a kind has changed if snapshots hold something of it: another one must not hurry on those that wait.
    pub fn note_change(&self, watched: Watched) {
        if watched.is_of_snapshots() {
            let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            if !changed.contains(&watched) {
                changed.push(watched);
            }
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{WatchOptions, Watching};
    use super::*;

    /// A tenant who changes an autoscaler and a service account together must not have a snapshot made at once.
    #[tokio::test]
    async fn a_kind_of_which_snapshots_hold_nothing_is_no_change_beside_sizes() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = super::super::client::bounded(config, Duration::from_secs(1)).unwrap();
        let watching = Watching::new(client, WatchOptions { sizes: true, ..WatchOptions::default() });
        let shared = &watching.shared;
        shared.note_change(Watched::ServiceAccounts);
        assert!(!shared.only_sizes_changed());
        shared.note_change(Watched::HorizontalPodAutoscalers);
        shared.note_change(Watched::ServiceAccounts);
        assert!(shared.only_sizes_changed());
        shared.note_change(Watched::Namespaces);
        assert!(!shared.only_sizes_changed());
        assert_eq!(shared.take_changes(), [Watched::HorizontalPodAutoscalers, Watched::Namespaces]);
    }
}
