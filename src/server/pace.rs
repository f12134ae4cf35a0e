//! How soon reviews are answered that had to wait for their places. What has less time left than the quickest of them took would be late, and is refused
//! before it is begun.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Number of answers of which the quickest counts: after so many it is looked for anew, so that it is forgotten when the gate gets slower.
const LATELY: u32 = 64;

/// The quickest of the last answers. Not their mean: half of all reviews are quicker than that, and what could still be answered is not refused.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Quickest>);

impl Pace {
    /// A review that had waited for its place was answered, so long after it got it.
    pub fn note(&self, took: Duration) {
        self.change(|quickest| quickest.with(took));
    }

    /// A place was free: what was measured while others waited says nothing any more.
    pub fn forget(&self) {
        self.change(|_| Quickest::default());
    }

    /// How long a review may wait for its place that has so much time left: at least half of that, whatever others took.
    pub fn wait(&self, left: Duration) -> Duration {
        let quickest = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.saturating_sub(quickest.took().min(left / 2))
    }

    fn change(&self, change: impl FnOnce(Quickest) -> Quickest) {
        let mut quickest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *quickest = change(*quickest);
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Quickest {
    /// Of the [`LATELY`] answers before.
    before: Option<Duration>,
    /// Of those since.
    since: Option<Duration>,
    /// Their number.
    count: u32,
}

impl Quickest {
    fn with(self, took: Duration) -> Self {
        let since = Some(self.since.map_or(took, |since| since.min(took)));
        let count = self.count.saturating_add(1);
        if count < LATELY {
            Self { since, count, ..self }
        } else {
            Self { before: since, since: None, count: 0 }
        }
    }

    /// Nothing is known before so many answers were seen.
    fn took(self) -> Duration {
        let Some(before) = self.before else { return Duration::ZERO };
        self.since.map_or(before, |since| since.min(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn after(answers: impl IntoIterator<Item = u64>) -> Pace {
        let pace = Pace::default();
        for took in answers {
            pace.note(millis(took));
        }
        pace
    }

    #[test]
    fn a_review_waits_as_long_as_the_quickest_answer_leaves_time_for() {
        assert_eq!(after([]).wait(SECOND), SECOND);
        assert_eq!(after(200..263).wait(SECOND), SECOND, "too few were seen");
        assert_eq!(after(200..264).wait(SECOND), millis(800));
        assert_eq!(after((200..264).chain([150])).wait(SECOND), millis(850), "one is quicker");
        assert_eq!(after((200..264).chain([300])).wait(SECOND), millis(800));
    }

    #[test]
    fn the_quickest_of_long_ago_is_forgotten_and_so_are_all_when_a_place_is_free() {
        let pace = after((200..264).chain(400..464));
        assert_eq!(pace.wait(SECOND), millis(600));
        pace.forget();
        assert_eq!(pace.wait(SECOND), SECOND);
    }

    #[test]
    fn no_review_is_refused_before_half_of_its_time_is_over() {
        let pace = after(std::iter::repeat_n(1_700, 64));
        assert_eq!((pace.wait(SECOND), pace.wait(Duration::ZERO)), (SECOND / 2, Duration::ZERO));
        assert_eq!(pace.wait(SECOND * 4), millis(2_300));
    }
}
