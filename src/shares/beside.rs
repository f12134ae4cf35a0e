//! Work in proportion to what others wrote, which others should not wait for.

use std::thread::available_parallelism;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Does such work. The other tasks of this thread go on elsewhere meanwhile: in a gate that serves they answer reviews.
pub(crate) fn beside<T>(work: impl FnOnce() -> T) -> T {
    if has_other_threads() { block_in_place(work) } else { work() }
}

/// How many processors this process may use; two where the system does not say.
pub(crate) fn processors() -> usize {
    available_parallelism().map_or(2, usize::from)
}

/// Whether other tasks can go on elsewhere. In a command with one thread they cannot.
pub(crate) fn has_other_threads() -> bool {
    let several = |runtime: Handle| runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
    Handle::try_current().is_ok_and(several)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A runtime with one thread: without another place for the work the second task could never say anything.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_of_the_thread_go_on_meanwhile() {
        let (say, hear) = mpsc::channel();
        let work = async move {
            tokio::spawn(async move { say.send(()) });
            beside(|| hear.recv_timeout(Duration::from_secs(30)))
        };
        assert_eq!(tokio::spawn(work).await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn where_there_is_no_other_thread_it_is_done_here() {
        assert_eq!(beside(|| 7), 7);
    }

    #[test]
    fn nor_does_it_need_a_runtime() {
        assert_eq!(beside(|| 7), 7);
    }
}
