//! The threads that compile policies, and what becomes of the memory that they needed.
//!
//! Cranelift takes tens of megabytes for a moment. The allocator keeps free memory with the thread that freed it, and wasmtime's own threads
//! for this never end. So a compilation gets threads that end with it. The memory then belongs to the process, and mimalloc gives
//! back to the kernel what has been free for a second (`mimalloc:src/options.c`, `purge_delay`), but looks for that only when a thread
//! needs memory or ends. A gate at rest does neither, so one more thread does. With `MIMALLOC_PURGE_DELAY=100`, which the
//! manifests set, it is a tenth of a second.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::thread::{Builder, JoinHandle, available_parallelism, sleep};
use std::time::Duration;

use rayon::{ThreadBuilder, ThreadPoolBuilder};

/// More than the second for which mimalloc keeps what is free.
const KEPT_FREE: Duration = Duration::from_millis(1500);

/// How much is compiled at the moment.
#[derive(Debug, Default)]
pub(super) struct Compiling(AtomicUsize);

impl Compiling {
    /// Does the work on threads that end with it. On those of the process, where no threads can be started.
    pub(super) fn apart<T: Send>(&self, work: impl Fn() -> T + Sync) -> T {
        let others = self.0.fetch_add(1, AcqRel);
        // It ends after the threads have, whatever becomes of the work.
        let _end = End(self);
        // All that compile at a time have together little more than a thread for each processor.
        let most = available_parallelism().map_or(1, usize::from);
        let count = most.div_ceil(others.saturating_add(1));
        let threads =
            ThreadPoolBuilder::new().num_threads(count).thread_name(|number| format!("compile-{number}"));
        let done = threads.build_scoped(ThreadBuilder::run, |threads| threads.install(&work));
        done.unwrap_or_else(|_| work())
    }
}

/// The end of a compilation. The last one gives memory back.
struct End<'a>(&'a Compiling);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if self.0.0.fetch_sub(1, AcqRel) == 1 {
            // Where it cannot be started, memory goes back when the next reviews come.
            let _ = give_back();
        }
    }
}

/// Starts the thread at whose end free memory goes back.
fn give_back() -> io::Result<JoinHandle<()>> {
    Builder::new().name("give-back".to_owned()).spawn(|| sleep(KEPT_FREE))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread::{self, ThreadId};
    use std::time::Instant;

    use rayon::prelude::*;

    use super::*;

    fn own_name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_work_and_its_parts_are_done_on_threads_of_their_own() {
        let compiling = Compiling::default();
        let work = || {
            let parts: Vec<(String, ThreadId)> =
                (0..64).into_par_iter().map(|_| (own_name(), thread::current().id())).collect();
            (own_name(), parts)
        };
        let (name, parts) = compiling.apart(work);
        assert!(name.starts_with("compile-"), "{name}");
        assert!(parts.iter().all(|(name, _)| name.starts_with("compile-")), "{parts:?}");
        let (_, others) = compiling.apart(work);
        let shared = parts.iter().any(|(_, id)| others.iter().any(|(_, other)| other == id));
        assert!(!shared, "the threads of the first ended with it");
    }

    /// Two at once have threads of their own each, so that neither waits on the stack of the other.
    #[test]
    fn two_at_once_do_not_share_threads() {
        let (compiling, both) = (Compiling::default(), Barrier::new(2));
        let work = || {
            both.wait();
            thread::current().id()
        };
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(|| compiling.apart(work));
            (compiling.apart(work), other.join().unwrap())
        });
        assert_ne!(one, other);
        assert_eq!(compiling.0.into_inner(), 0);
    }

    #[test]
    fn the_thread_that_gives_memory_back_ends_after_what_the_allocator_waits() {
        let began = Instant::now();
        give_back().unwrap().join().unwrap();
        assert!(began.elapsed() > Duration::from_secs(1));
    }
}
