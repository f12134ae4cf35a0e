//! The instances of a bundle that wait for their next evaluation. Each holds some megabytes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an instance may wait.
const LONGEST: Duration = Duration::from_mins(1);

/// Instances, and when each was used last.
#[derive(Debug)]
pub(super) struct Idle<I>(Mutex<Vec<(Instant, I)>>);

impl<I> Default for Idle<I> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<I> Idle<I> {
    /// The one that was used last, so that those wait that are not needed.
    pub fn take(&self) -> Option<I> {
        self.waiting().pop().map(|(_, instance)| instance)
    }

    /// Lets one wait that was used until now. The one that was used least lately goes, if it has waited too long.
    pub fn put_back(&self, instance: I, now: Instant) {
        let mut waiting = self.waiting();
        waiting.push((now, instance));
        let first = waiting.first().map_or(now, |(used, _)| *used);
        let gone = has_waited(first, now).then(|| waiting.remove(0));
        // Others need not wait until its memory is given back.
        drop(waiting);
        drop(gone);
    }

    /// Ends those that have waited too long, but for the one that would be taken next: the first evaluation after a quiet time need not start one. For the time in
    /// which none is put back.
    pub fn end_unused(&self, now: Instant) {
        let mut waiting = self.waiting();
        let others = waiting.iter().rev().skip(1);
        let count = others.filter(|(used, _)| has_waited(*used, now)).count();
        // They stand in the order in which they were used.
        let gone: Vec<_> = waiting.drain(..count).collect();
        drop(waiting);
        drop(gone);
    }

    /// The sum of this over all that wait.
    pub fn sum(&self, of: impl Fn(&I) -> usize) -> usize {
        self.waiting().iter().map(|(_, instance)| of(instance)).sum()
    }

    /// Whatever panics while the lock is held, the list is one of whole instances.
    fn waiting(&self) -> MutexGuard<'_, Vec<(Instant, I)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one that was used last at that time has waited too long.
fn has_waited(used: Instant, now: Instant) -> bool {
    now.saturating_duration_since(used) > LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_needed_goes_when_less_is_needed_and_what_is_used_stays() {
        let (idle, begin) = (Idle::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        for number in 0..3 {
            idle.put_back(number, at(0));
        }
        for (seconds, left) in [(30, 3), (60, 3), (61, 2), (62, 1), (200, 1)] {
            assert_eq!(idle.take(), Some(2), "{seconds}");
            idle.put_back(2, at(seconds));
            assert_eq!(idle.sum(|_| 1), left, "{seconds}");
        }
        assert_eq!((idle.take(), idle.take()), (Some(2), None));
    }

    #[test]
    fn a_quiet_time_ends_all_that_have_waited_too_long_but_the_next_one() {
        let (idle, begin) = (Idle::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        idle.end_unused(at(0));
        for (number, used) in [(0, 0), (1, 0), (2, 30), (3, 40)] {
            idle.put_back(number, at(used));
        }
        for (seconds, left) in [(60, 4), (61, 2), (90, 2), (91, 1), (1000, 1)] {
            idle.end_unused(at(seconds));
            assert_eq!(idle.sum(|_| 1), left, "{seconds}");
        }
        assert_eq!((idle.take(), idle.take()), (Some(3), None));
    }
}
