//! Reviews that are worked on, each on a task of its own, until it is answered or its time ends.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout_at};

use crate::review::Reply;
use crate::shares::{self, Line};

/// How long after its budget the server stops waiting for the gate; part of [`super::ServerOptions::margin`].
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// A review on its task: a panic ends the task and not the connection, and when the client hangs up, the decision is still recorded.
#[derive(Debug)]
pub(super) struct UnderWay {
    task: JoinHandle<Option<Reply>>,
    is_begun: Arc<AtomicBool>,
    deadline: Instant,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Its time ended before anything was done: it waited for a thread, or for its turn.
    NotBegun,
    /// It took too long.
    Late,
    /// The gate panicked.
    Failed(JoinError),
}

impl UnderWay {
    /// Works on a review until its deadline. What is `held` is so until the work has ended.
    pub fn begin(
        deadline: Instant,
        held: impl Send + 'static,
        work: impl Future<Output = Reply> + Send + 'static,
    ) -> Self {
        let is_begun = Arc::default();
        let task = tokio::spawn(within(deadline, held, noted(Arc::clone(&is_begun), work)));
        Self { task, is_begun, deadline }
    }

    /// Works on a review with a large body until its deadline. Such work takes milliseconds at a time: it takes turns.
    pub fn begin_in_turns(
        deadline: Instant,
        held: impl Send + 'static,
        turns: Arc<Line>,
        work: impl Future<Output = Reply> + Send + 'static,
    ) -> Self {
        let is_begun = Arc::default();
        let work = Box::pin(noted(Arc::clone(&is_begun), work));
        let task = tokio::spawn(within(deadline, held, in_turns(turns, work)));
        Self { task, is_begun, deadline }
    }

    /// Waits for the answer. The limit holds even when the gate blocks.
    pub async fn answer(self) -> Result<Reply, Unanswered> {
        match timeout_at(self.deadline + GRACE, self.task).await {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Err(error)) => Err(Unanswered::Failed(error)),
            Ok(Ok(None)) | Err(_) if self.is_begun.load(Ordering::Relaxed) => Err(Unanswered::Late),
            Ok(Ok(None)) | Err(_) => Err(Unanswered::NotBegun),
        }
    }
}

/// Works until the time ends, and not at all where it has ended already.
async fn within(
    deadline: Instant,
    held: impl Send,
    work: impl Future<Output = Reply> + Send,
) -> Option<Reply> {
    let _held = held;
    if Instant::now() >= deadline {
        return None;
    }
    timeout_at(deadline + GRACE / 2, work).await.ok()
}

/// The work, and that it was begun.
async fn noted<T>(is_begun: Arc<AtomicBool>, work: impl Future<Output = T> + Send) -> T {
    is_begun.store(true, Ordering::Relaxed);
    work.await
}

/// Work that takes milliseconds at a time, such as to parse a large body. It waits for its turn each time that it goes on, and holds none while it waits for
/// something else, nor while it does much work that has places of its own (`shares::give_back_turn`). The tasks of its thread go on elsewhere meanwhile.
async fn in_turns<T>(turns: Arc<Line>, mut work: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
    loop {
        let mut turn = turns.take(1, None).await;
        let polled = poll_fn(|context| {
            let turn = turn.take();
            Poll::Ready(shares::beside(|| shares::in_turn(turn, || work.as_mut().poll(context))))
        });
        if let Poll::Ready(done) = polled.await {
            return done;
        }
        until_woken().await;
    }
}

/// Waits until something wakes the task.
async fn until_woken() {
    let mut is_woken = false;
    let poll = |_: &mut Context<'_>| {
        if std::mem::replace(&mut is_woken, true) { Poll::Ready(()) } else { Poll::Pending }
    };
    poll_fn(poll).await;
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    /// On the only thread.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_on_a_large_body_holds_up_no_other_task_of_its_thread() {
        let review = async {
            let (tell, told) = std::sync::mpsc::channel();
            let other = tokio::spawn(async move { tell.send(()) });
            let work = Box::pin(async move { told.recv_timeout(Duration::from_secs(20)).is_ok() });
            let went_on = in_turns(Line::of(1), work);
            (went_on.await, other.await.is_ok())
        };
        assert_eq!(tokio::spawn(review).await.unwrap(), (true, true));
    }

    #[tokio::test]
    async fn where_there_is_no_other_thread_a_large_body_is_worked_on_here() {
        assert_eq!(in_turns(Line::of(1), Box::pin(async { 7 })).await, 7);
    }

    #[tokio::test]
    async fn work_on_a_large_body_waits_for_its_turn_and_holds_none_while_it_waits_for_something_else() {
        let turns = Line::of(1);
        let held = turns.take(1, None).await;
        let (tell, told) = oneshot::channel();
        let mut work = Box::pin(in_turns(Arc::clone(&turns), Box::pin(told)));
        assert!((&mut work).now_or_never().is_none(), "for its turn");
        assert!(turns.take(1, None).now_or_never().is_none());
        drop(held);
        assert!((&mut work).now_or_never().is_none(), "for what it is told");
        assert!(turns.take(1, None).now_or_never().flatten().is_some(), "the turn is free meanwhile");
        tell.send(7).unwrap();
        assert_eq!(work.await, Ok(7));
    }

    #[tokio::test]
    async fn a_large_body_holds_no_turn_any_more_once_its_work_gives_it_back() {
        let turns = Line::of(1);
        let of_others = Arc::clone(&turns);
        let work = async move {
            let is_free = || of_others.take(1, None).now_or_never().flatten().is_some();
            let before = is_free();
            shares::give_back_turn();
            (before, is_free())
        };
        assert_eq!(in_turns(turns, Box::pin(work)).await, (false, true));
    }

    #[tokio::test]
    async fn a_review_whose_time_has_ended_is_not_begun_and_gives_back_what_it_holds() {
        let begun = Arc::new(AtomicBool::new(false));
        let (work, held) = (noted(Arc::clone(&begun), async { Reply::Ok(Vec::new()) }), Line::of(1));
        let place = held.take(1, None).await;
        let refused = UnderWay::begin(Instant::now(), place, work).answer().await;
        assert!(matches!(refused, Err(Unanswered::NotBegun)), "{refused:?}");
        assert!(!begun.load(Ordering::Relaxed) && held.take(1, None).now_or_never().is_some());
    }

    /// The only thread begins with the review when this waits for its answer.
    #[tokio::test]
    async fn a_review_that_was_begun_is_late_and_not_refused() {
        let later = Instant::now() + Duration::from_mins(10);
        let (tell, told) = oneshot::channel::<()>();
        let work = async move {
            drop(tell);
            std::future::pending::<Reply>().await
        };
        let mut begun = UnderWay::begin(later, (), work);
        assert!(told.await.is_err(), "it works");
        // Its deadline comes.
        begun.deadline = Instant::now() - GRACE;
        assert!(matches!(begun.answer().await, Err(Unanswered::Late)));
    }

    #[tokio::test]
    async fn a_panic_is_no_answer() {
        let later = Instant::now() + Duration::from_mins(10);
        let failed =
            UnderWay::begin(later, (), poll_fn(|_| -> Poll<Reply> { panic!("on purpose") })).answer().await;
        assert!(matches!(failed, Err(Unanswered::Failed(error)) if error.is_panic()));
    }
}
