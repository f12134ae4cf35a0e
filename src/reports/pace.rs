//! Turns that come no faster than so many in a second.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Gives turns at a rate. None are saved up, so that there is no burst after a pause.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    /// So many in a second, one at the least.
    pub fn of(per_second: u32) -> Self {
        Self { every: Duration::from_secs(1) / per_second.max(1), next: Instant::now() }
    }

    /// Waits for the next turn.
    pub async fn turn(&mut self) {
        self.turns(1).await;
    }

    /// Waits for the next turn, which is worth so many.
    pub async fn turns(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let at = self.claim(Instant::now(), count);
        sleep_until(at).await;
    }

    /// When the next turn is, after which it is that of the one after it.
    fn claim(&mut self, now: Instant, count: usize) -> Instant {
        let at = self.next.max(now);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.next = at + self.every.saturating_mul(count);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_at_their_rate_and_a_pause_saves_none_up() {
        let start = Instant::now();
        let mut pace = Pace { every: Duration::from_millis(100), next: start };
        let mut after = |now: u64, count| {
            let at = pace.claim(start + Duration::from_millis(now), count);
            at.duration_since(start).as_millis()
        };
        assert_eq!([after(0, 1), after(0, 1), after(10, 5), after(20, 1)], [0, 100, 200, 700]);
        assert_eq!([after(60_000, 1), after(60_000, 1)], [60_000, 60_100]);
        assert_eq!(Pace::of(0).every, Duration::from_secs(1));
    }
}
