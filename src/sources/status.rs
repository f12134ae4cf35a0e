//! The status of each bundle, for probes, metrics and the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// When the source of a bundle is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poll {
    /// Again at this time.
    Due(Timestamp),
    /// Since this time: a server may hold back its answer (`longPoll`).
    Open(Timestamp),
}

impl Poll {
    /// When it is or was asked.
    pub const fn time(self) -> Timestamp {
        match self {
            Self::Due(time) | Self::Open(time) => time,
        }
    }
}

/// How one bundle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleStatus {
    /// Its name.
    pub name: String,
    /// Where it comes from, for people.
    pub from: String,
    /// Revision in force; empty if the bundle has none.
    pub revision: String,
    /// Since when it is in force.
    pub since: Timestamp,
    /// Whether what is in force was kept, on disk or in memory, because the source could not be used when it was asked first.
    pub is_kept: bool,
    /// When the source was last asked with success.
    pub checked: Option<Timestamp>,
    /// When its source is asked; `None` for a bundle that never changes.
    pub poll: Option<Poll>,
    /// Why the last try failed; `None` when it did not.
    pub error: Option<String>,
    /// Whether it runs in the shadow.
    pub is_shadow: bool,
    /// Whether there is none yet, as may be of a bundle in the shadow.
    pub is_missing: bool,
    /// Why what is in force could not be kept on disk; `None` when it is, or need not be.
    pub unkept: Option<String>,
    /// What does not protect it although one may think so.
    pub warnings: Vec<String>,
    /// Times that another bundle came into force.
    pub swaps: u64,
    /// Times that the source or its bundle could not be used.
    pub failures: u64,
}

impl BundleStatus {
    /// A bundle that has come into force.
    pub fn new(name: &str, from: &str, revision: &str, now: Timestamp) -> Self {
        Self {
            name: name.into(),
            from: from.into(),
            revision: revision.into(),
            since: now,
            is_kept: false,
            checked: None,
            poll: None,
            error: None,
            is_shadow: false,
            is_missing: false,
            unkept: None,
            warnings: Vec::new(),
            swaps: 0,
            failures: 0,
        }
    }
}

/// How all bundles are.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<BTreeMap<String, BundleStatus>>);

impl Statuses {
    /// Sets how a bundle is.
    pub fn set(&self, status: BundleStatus) {
        self.locked().insert(status.name.clone(), status);
    }

    /// Changes how a bundle is.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut BundleStatus)) {
        if let Some(status) = self.locked().get_mut(name) {
            change(status);
        }
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<BundleStatus> {
        self.locked().values().cloned().collect()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, BundleStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
