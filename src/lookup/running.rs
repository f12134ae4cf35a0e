//! Look-ups that are under way. All requests for the same image wait for one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, Shared};

use super::Error;
use crate::image::{Depth, ImageFacts};

/// The result of a look-up.
pub(super) type Outcome = Result<Arc<ImageFacts>, Arc<Error>>;

/// A look-up that several callers can wait for.
pub(super) type Waiting = Shared<BoxFuture<'static, Outcome>>;

/// Image (with the pull secrets that are tried for it) and depth.
pub(super) type Id = (Arc<str>, Depth);

/// How far a look-up has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether it has a slot and sends, or has sent, requests.
    begun: AtomicBool,
    /// Number of layers that wait for memory.
    waits_for_memory: AtomicUsize,
    /// Whether what was read of the image suggests Wasm.
    suggests_wasm: AtomicBool,
}

impl Progress {
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether it still waits for a slot.
    pub(super) fn is_queued(&self) -> bool {
        !self.begun.load(Ordering::Relaxed)
    }

    /// Notes that what was read of the image suggests Wasm.
    pub(super) fn note_wasm(&self) {
        self.suggests_wasm.store(true, Ordering::Relaxed);
    }

    /// An error of the look-up, with what was read before it.
    pub(super) fn with_what_was_read(&self, error: Error) -> Error {
        if !self.suggests_wasm.load(Ordering::Relaxed) || error.suggests_wasm() {
            return error;
        }
        Error::ReadWasm { source: Box::new(error) }
    }

    /// Awaits a reservation, and counts that as waiting for memory.
    pub(super) async fn waiting_for_memory<T>(&self, waiting: impl Future<Output = T>) -> T {
        struct Counted<'a>(&'a AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waits_for_memory.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.waits_for_memory);
        waiting.await
    }

    /// The error of a look-up that took too long.
    pub(super) fn timed_out(&self, image: &str, bound: Duration) -> Error {
        let budget_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        let image = image.to_string();
        if self.waits_for_memory.load(Ordering::Relaxed) > 0 {
            return Error::WaitForMemory { image, budget_ms };
        }
        Error::TimedOut { image, budget_ms }
    }
}

/// A look-up under way.
#[derive(Debug, Clone)]
pub(super) struct Started {
    pub(super) outcome: Waiting,
    pub(super) progress: Arc<Progress>,
    /// Namespace of the pods that it was started for, whose slots it takes.
    pub(super) namespace: Arc<str>,
}

/// All look-ups under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    started: Mutex<HashMap<Id, Started>>,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Started>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn contains(&self, id: &Id) -> bool {
        self.lock().contains_key(id)
    }

    /// The look-up under way, or a new one. A look-up that another namespace started and that still waits for one of
    /// that namespace's slots is not joined: no pod must queue behind a tenant who took too many.
    pub(super) fn join_or_start(
        &self,
        id: Id,
        namespace: &Arc<str>,
        start: impl FnOnce(Arc<Progress>) -> Waiting,
    ) -> Started {
        let mut running = self.lock();
        if let Some(started) = running.get(&id)
            && (started.namespace == *namespace || !started.progress.is_queued())
        {
            return started.clone();
        }
        let progress = Arc::new(Progress::default());
        let started =
            Started { outcome: start(Arc::clone(&progress)), progress, namespace: Arc::clone(namespace) };
        running.insert(id, started.clone());
        started
    }

    /// Removes a look-up from the list, unless another one has replaced it there.
    fn end(&self, id: &Id, progress: &Arc<Progress>) {
        let mut running = self.lock();
        if running.get(id).is_some_and(|started| Arc::ptr_eq(&started.progress, progress)) {
            running.remove(id);
        }
    }
}

/// Removes a look-up from the list when it ends, also by a panic.
pub(super) struct EndOfLookUp<'a> {
    pub(super) running: &'a Running,
    pub(super) id: Id,
    pub(super) progress: Arc<Progress>,
}

impl Drop for EndOfLookUp<'_> {
    fn drop(&mut self) {
        self.running.end(&self.id, &self.progress);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn never(_: Arc<Progress>) -> Waiting {
        std::future::pending().boxed().shared()
    }

    #[test]
    fn a_look_up_is_joined_unless_it_waits_for_slots_of_another_namespace() {
        let (evil, shop): (Arc<str>, Arc<str>) = ("evil".into(), "shop".into());
        let (running, id) = (Running::default(), ("a:1".into(), Depth::Config));
        let first = running.join_or_start(Id::clone(&id), &evil, never);
        let again = running.join_or_start(Id::clone(&id), &evil, never);
        assert!(Arc::ptr_eq(&first.progress, &again.progress), "its own namespace waits for it");
        let other = running.join_or_start(Id::clone(&id), &shop, never);
        assert!(!Arc::ptr_eq(&first.progress, &other.progress), "another one does not queue with it");
        other.progress.begin();
        let joined = running.join_or_start(Id::clone(&id), &evil, never);
        assert!(Arc::ptr_eq(&joined.progress, &other.progress), "one that asks already is waited for by all");
        running.end(&id, &first.progress);
        assert!(running.contains(&id), "the end of the first is not the end of the second");
        running.end(&id, &other.progress);
        assert!(!running.contains(&id));
    }

    #[tokio::test]
    async fn a_time_out_names_what_it_waited_for() {
        let progress = Progress::default();
        let bound = Duration::from_millis(5);
        assert!(matches!(progress.timed_out("a:1", bound), Error::TimedOut { budget_ms: 5, .. }));
        let waiting = progress.waiting_for_memory(std::future::pending::<()>());
        let mut waiting = Box::pin(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        let said = progress.timed_out("a:1", bound).to_string();
        assert!(
            said.contains("timed out waiting for memory") && said.contains("`images.memoryBytes`"),
            "{said}"
        );
        drop(waiting);
        assert!(matches!(progress.timed_out("a:1", bound), Error::TimedOut { .. }), "it no longer waits");
    }

    #[test]
    fn an_error_says_once_whether_what_was_read_before_suggests_wasm() {
        let progress = Progress::default();
        let error = || progress.timed_out("a:1", Duration::from_millis(5));
        assert_eq!(progress.with_what_was_read(error()), error());
        progress.note_wasm();
        let told = progress.with_what_was_read(error());
        assert!(told.suggests_wasm() && told.to_string() == error().to_string(), "{told:?}");
        assert_eq!(progress.with_what_was_read(told.clone()), told);
    }
}
