//! The time of a review.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Part of the budget that is reserved for judging and answering after the images were read.
const JUDGING_RESERVE: Duration = Duration::from_millis(300);

/// When a review began and how long it may take. Each review has one, so that all its stages use the same current time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    now: Timestamp,
    budget: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub fn start(budget: Duration) -> Self {
        Self { started: Instant::now(), now: Timestamp::now(), budget }
    }

    /// A clock that starts now, at another time of the wall clock.
    #[cfg(test)]
    pub fn at(now: Timestamp, budget: Duration) -> Self {
        Self { now, ..Self::start(budget) }
    }

    /// A clock with the same current time and a fresh budget, for a second review of the same object.
    #[must_use]
    pub fn again(self) -> Self {
        Self { started: Instant::now(), ..self }
    }

    /// Wall-clock time of the review; decides which grants and exceptions have expired.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// How long the review may take.
    pub const fn budget(&self) -> Duration {
        self.budget
    }

    /// Time since the review began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time until the review must be answered.
    pub fn left(&self) -> Duration {
        self.budget.saturating_sub(self.elapsed())
    }

    /// Time for image look-ups: the rest of the budget without the reserve for judging.
    pub fn for_inspection(&self) -> Duration {
        self.left().saturating_sub(JUDGING_RESERVE)
    }
}
