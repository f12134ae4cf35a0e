//! Health of one watch, for readiness, metrics and the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::runtime::watcher;
use tokio::time::Instant;

use super::client::chain;
use super::resource::{Key, Watched};
use crate::text;

/// Health of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchHealth {
    /// The watched kind.
    pub watched: Watched,
    /// Whether all objects were listed once, or the kind has no definition.
    pub synced: bool,
    /// Number of known objects with relevant content.
    pub objects: usize,
    /// Number of objects that are ignored because they are invalid.
    pub rejected: usize,
    /// Time since the API server last sent anything; `None` if it never did.
    pub silence: Option<Duration>,
    /// Number of errors so far.
    pub errors: u64,
    /// Number of full relists.
    pub restarts: u64,
    /// The current problem.
    pub trouble: Option<String>,
}

#[derive(Debug)]
pub(super) struct Health {
    watched: Watched,
    synced: AtomicBool,
    objects: AtomicUsize,
    errors: AtomicU64,
    restarts: AtomicU64,
    contact: Mutex<Option<Instant>>,
    trouble: Mutex<Option<String>>,
    /// Ignored objects, and what is wrong with each.
    rejected: Mutex<BTreeMap<Key, String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    pub fn new(watched: Watched) -> Self {
        Self {
            watched,
            synced: AtomicBool::new(false),
            objects: AtomicUsize::new(0),
            errors: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            contact: Mutex::default(),
            trouble: Mutex::default(),
            rejected: Mutex::default(),
        }
    }

    pub const fn watched(&self) -> Watched {
        self.watched
    }

    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Notes that the API server sent something.
    pub fn note_contact(&self) {
        *locked(&self.contact) = Some(Instant::now());
    }

    pub fn last_contact(&self) -> Option<Instant> {
        *locked(&self.contact)
    }

    pub fn set_objects(&self, count: usize) {
        self.objects.store(count, Ordering::Relaxed);
    }

    pub fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a list ended or an event came, so the problem is over.
    pub fn note_success(&self, listed: bool) {
        if listed {
            self.note_listed();
        }
        if locked(&self.trouble).take().is_some() {
            tracing::info!(watch = self.watched.name(), "watching again");
        }
    }

    /// Notes that all objects were listed. Returns whether that is new.
    pub fn note_listed(&self) -> bool {
        !self.synced.swap(true, Ordering::AcqRel)
    }

    /// Counts an error, and logs it unless it is the same as the last one.
    pub fn note_error(&self, error: &watcher::Error) {
        // The API server has answered, and the cluster need not have the kind.
        if self.watched.is_optional() && is_undefined(self.watched, error) {
            self.note_contact();
            return;
        }
        self.errors.fetch_add(1, Ordering::Relaxed);
        let words = words(self.watched, error);
        let mut trouble = locked(&self.trouble);
        if trouble.as_deref() != Some(&words) {
            let watch = self.watched.name();
            let stands = match (is_undefined(self.watched, error), self.is_synced()) {
                (true, _) => "it counts as empty until its definition is applied",
                (false, true) => "the last snapshot stands",
                (false, false) if self.watched.is_of_sizes() => "nothing learned is filled in",
                (false, false) => "the gate is not ready",
            };
            tracing::warn!(watch, error = words, "cannot watch a part of the cluster: {stands}");
            *trouble = Some(words);
        }
    }

    /// Rejects an object, and logs each problem with it once. Returns whether it was not rejected before.
    pub fn reject(&self, key: &Key, problem: String) -> bool {
        let mut rejected = locked(&self.rejected);
        if rejected.get(key) != Some(&problem) {
            let (name, namespace) = key;
            let watch = self.watched.name();
            tracing::warn!(watch, namespace, name, problem, "ignored an invalid object");
            return rejected.insert(key.clone(), problem).is_none();
        }
        false
    }

    /// Notes that the object is valid or gone. Returns whether it was rejected before.
    pub fn accept(&self, key: &Key) -> bool {
        locked(&self.rejected).remove(key).is_some()
    }

    /// The rejected objects.
    pub fn rejected(&self) -> BTreeSet<Key> {
        locked(&self.rejected).keys().cloned().collect()
    }

    /// Forgets rejected objects that do not exist any more. Returns whether there were any.
    pub fn keep_rejected(&self, still: impl Fn(&Key) -> bool) -> bool {
        let mut rejected = locked(&self.rejected);
        let before = rejected.len();
        rejected.retain(|key, _| still(key));
        rejected.len() != before
    }

    /// What readiness waits for, and why; `None` if nothing is missing.
    pub fn missing(&self) -> Option<String> {
        let why = || locked(&self.trouble).clone().unwrap_or_else(|| "not listed yet".into());
        (!self.is_synced()).then(|| format!("{}: {}", self.watched.name(), why()))
    }

    pub fn report(&self) -> WatchHealth {
        WatchHealth {
            watched: self.watched,
            synced: self.is_synced(),
            objects: self.objects.load(Ordering::Relaxed),
            rejected: locked(&self.rejected).len(),
            silence: self.last_contact().map(|contact| contact.elapsed()),
            errors: self.errors.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            trouble: locked(&self.trouble).clone(),
        }
    }
}

/// The verb of the request and the API server's error status; `None` for other errors.
const fn answer(error: &watcher::Error) -> Option<(&'static str, &kube::core::Status)> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => Some(("list", status)),
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(("watch", status)),
        _ => None,
    }
}

/// Whether the API server does not know a kind that it may lack: one of the gate's own, or an optional one. While it is still loading the definitions it answers
/// 503 and not 404 (`kubernetes:staging/src/k8s.io/apiserver/pkg/util/notfoundhandler/not_found_handler.go`).
pub(super) fn is_undefined(watched: Watched, error: &watcher::Error) -> bool {
    (watched.is_custom() || watched.is_optional())
        && answer(error).is_some_and(|(_, status)| status.code == 404)
}

/// What went wrong and, where an operator can fix it, how.
fn words(watched: Watched, error: &watcher::Error) -> String {
    let Some((verb, status)) = answer(error) else { return chain(error) };
    match status.code {
        401 => "unauthorized: the API server does not accept the gate's token or certificate".into(),
        403 => format!("forbidden: the ClusterRole lacks {verb} on {}", watched.name()),
        404 if watched.is_custom() => "not found: apply manifests/crds".into(),
        404 => format!("not found: this API server does not serve {}", watched.resource().api_version),
        code => {
            format!("the API server answered {verb} with {code}: {}", text::excerpt(&status.message, 200))
        }
    }
}
