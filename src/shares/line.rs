//! Units of something scarce, and the line of those that wait for them. Whose turn is next is decided without a clock: times are arguments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::Instant;

/// Equal units, and who waits for them. The oldest comes first as long as more than half of its time is left. Where it is not, more is asked for than can be
/// done, and the newest comes first: in the order of arrival each would get its turn when its time is nearly over, and most of the work would be done in vain.
#[derive(Debug)]
pub(crate) struct Line(Mutex<Waiters>);

/// Units that are held, or waited for, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    line: Arc<Line>,
    number: u64,
    units: u32,
    has_waited: bool,
}

impl Line {
    /// A line for so many units.
    pub(crate) fn of(units: u32) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Waiters { free: units, ..Waiters::default() })))
    }

    /// Waits for units. Who has no deadline has time for ever; the wait itself ends when this is dropped. `None` never comes: it would need a line that is gone.
    pub(crate) async fn take(self: &Arc<Self>, units: u32, deadline: Option<Instant>) -> Option<Held> {
        let (number, told) = self.waiters().join(units, deadline, Instant::now);
        let held = Held { line: Arc::clone(self), number, units, has_waited: told.is_some() };
        match told {
            Some(told) => told.await.ok().map(|()| held),
            None => Some(held),
        }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> u32 {
        self.waiters().free
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether the units were not free when they were asked for.
    pub(crate) const fn has_waited(&self) -> bool {
        self.has_waited
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let next = self.line.waiters().leave(self.number, self.units, Instant::now);
        for tell in next {
            // One that has gone meanwhile gives its units back when its own is dropped.
            let _ = tell.send(());
        }
    }
}

#[derive(Debug, Default)]
struct Waiters {
    free: u32,
    /// Number of the next that comes.
    next: u64,
    /// Those that wait, by their numbers.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    units: u32,
    since: Instant,
    deadline: Option<Instant>,
    tell: Sender<()>,
}

impl Waiting {
    /// Whether more than half of its time is left.
    fn has_time(&self, now: Instant) -> bool {
        let waited = now.saturating_duration_since(self.since);
        self.deadline.is_none_or(|deadline| deadline.saturating_duration_since(now) > waited)
    }
}

impl Waiters {
    /// The number of one that comes now, and what tells it that the units are its own if it has to wait for them.
    fn join(
        &mut self,
        units: u32,
        deadline: Option<Instant>,
        now: impl FnOnce() -> Instant,
    ) -> (u64, Option<Receiver<()>>) {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if self.waiting.is_empty() && units <= self.free {
            self.free -= units;
            return (number, None);
        }
        let (tell, told) = oneshot::channel();
        self.waiting.insert(number, Waiting { units, since: now(), deadline, tell });
        (number, Some(told))
    }

    /// One waits no more, or gives its units back. Returns those that have theirs now and are to be told so.
    fn leave(&mut self, number: u64, units: u32, now: impl FnOnce() -> Instant) -> Vec<Sender<()>> {
        if self.waiting.remove(&number).is_none() {
            self.free = self.free.saturating_add(units);
        }
        // The clock is not read where none waits.
        if self.waiting.is_empty() { Vec::new() } else { self.hand_out(now()) }
    }

    fn hand_out(&mut self, now: Instant) -> Vec<Sender<()>> {
        let mut told = Vec::new();
        while let Some(next) = self.first(now).and_then(|number| self.waiting.remove(&number)) {
            self.free = self.free.saturating_sub(next.units);
            told.push(next.tell);
        }
        told
    }

    /// Whose turn it is, if there are units enough for it. None passes it by meanwhile, so that what needs many comes too.
    fn first(&self, now: Instant) -> Option<u64> {
        let oldest = self.waiting.first_key_value()?;
        let (number, next) = if oldest.1.has_time(now) { oldest } else { self.waiting.last_key_value()? };
        (next.units <= self.free).then_some(*number)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NONE: [u64; 0] = [];

    /// A clock that is moved by hand, and those that wait by it.
    struct Case {
        begin: Instant,
        waiters: Waiters,
        told: BTreeMap<u64, Receiver<()>>,
    }

    impl Case {
        fn of(free: u32) -> Self {
            let waiters = Waiters { free, ..Waiters::default() };
            Self { begin: Instant::now(), waiters, told: BTreeMap::new() }
        }

        /// One comes after so many seconds, with this much time.
        fn join(&mut self, after: u32, units: u32, time: Option<Duration>) -> u64 {
            let now = self.begin + SECOND * after;
            let (number, told) = self.waiters.join(units, time.map(|time| now + time), || now);
            self.told.extend(told.map(|told| (number, told)));
            number
        }

        /// One leaves after so many seconds; the numbers of those that are told.
        fn leave(&mut self, after: u32, number: u64, units: u32) -> Vec<u64> {
            let now = self.begin + SECOND * after;
            for tell in self.waiters.leave(number, units, || now) {
                let _ = tell.send(());
            }
            let told: Vec<_> = self
                .told
                .iter_mut()
                .filter_map(|(number, told)| told.try_recv().ok().map(|()| *number))
                .collect();
            self.told.retain(|number, _| !told.contains(number));
            told
        }
    }

    #[test]
    fn the_order_is_that_of_arrival_while_the_oldest_has_more_than_half_of_its_time() {
        let mut case = Case::of(1);
        let held = case.join(0, 1, None);
        let waiting: Vec<_> = (0..3).map(|after| case.join(after, 1, Some(SECOND * 10))).collect();
        assert_eq!(case.leave(4, held, 1), [waiting[0]]);
        assert_eq!(case.leave(5, waiting[0], 1), [waiting[1]]);
        assert_eq!(case.leave(6, waiting[1], 1), [waiting[2]]);
        assert_eq!(case.leave(7, waiting[2], 1), NONE);
        assert_eq!(case.waiters.free, 1);
    }

    #[test]
    fn where_the_oldest_has_used_half_of_its_time_the_newest_comes_first_and_the_oldest_once_none_is_newer() {
        let mut case = Case::of(1);
        let held = case.join(0, 1, None);
        let waiting: Vec<_> = (0..4).map(|after| case.join(after, 1, Some(SECOND * 10))).collect();
        assert_eq!(case.leave(6, held, 1), [waiting[3]]);
        assert_eq!(case.leave(6, waiting[3], 1), [waiting[2]]);
        assert_eq!(case.leave(6, waiting[0], 1), NONE, "it gave up, and none is free");
        assert_eq!(case.leave(7, waiting[2], 1), [waiting[1]], "the only one that is left");
    }

    #[test]
    fn one_without_a_deadline_is_passed_by_none_that_came_later() {
        let mut case = Case::of(1);
        let held = case.join(0, 1, None);
        let (old, new) = (case.join(0, 1, None), case.join(1, 1, Some(SECOND)));
        assert_eq!(case.leave(1_000, held, 1), [old]);
        assert_eq!(case.leave(1_000, old, 1), [new]);
    }

    #[test]
    fn what_needs_many_units_is_waited_for_and_what_leaves_the_line_lets_the_others_on() {
        let mut case = Case::of(4);
        let held: Vec<_> = (0..4).map(|_| case.join(0, 1, None)).collect();
        let (many, few) = (case.join(0, 3, None), case.join(0, 1, None));
        assert_eq!(case.leave(1, held[0], 1), NONE, "the first needs three");
        assert_eq!(case.leave(1, held[1], 1), NONE);
        assert_eq!(case.leave(1, many, 3), [few], "it waits no more");
        assert_eq!(case.waiters.free, 1);
    }

    /// How many are done in time and too late where ten times as many come as can be done: four a millisecond at eight places. Each has a hundred milliseconds,
    /// of which its work takes twenty, and gives up when they are over.
    fn done(is_timed: bool) -> (u32, u32) {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut waiters = Waiters { free: 8, ..Waiters::default() };
        let mut waiting: BTreeMap<u64, (u64, Receiver<()>)> = BTreeMap::new();
        let mut begun: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let (mut in_time, mut late) = (0, 0);
        for now in 0..2_000_u64 {
            let ended: Vec<u64> =
                begun.iter().filter(|(_, one)| one.0 <= now).map(|(number, _)| *number).collect();
            for number in &ended {
                let (end, deadline) = begun.remove(number).unwrap();
                *(if end <= deadline { &mut in_time } else { &mut late }) += 1;
            }
            let gone: Vec<u64> =
                waiting.iter().filter(|(_, one)| one.0 <= now).map(|(number, _)| *number).collect();
            waiting.retain(|number, _| !gone.contains(number));
            for number in ended.iter().chain(&gone) {
                for tell in waiters.leave(*number, 1, || at(now)) {
                    let _ = tell.send(());
                }
            }
            for _ in 0..4 {
                let deadline = now + 100;
                let (number, told) = waiters.join(1, is_timed.then(|| at(deadline)), || at(now));
                if let Some(told) = told {
                    waiting.insert(number, (deadline, told));
                } else {
                    begun.insert(number, (now + 20, deadline));
                }
            }
            let told: Vec<u64> = waiting
                .iter_mut()
                .filter_map(|(number, (_, told))| told.try_recv().ok().map(|()| *number))
                .collect();
            for number in told {
                let (deadline, _) = waiting.remove(&number).unwrap();
                begun.insert(number, (now + 20, deadline));
            }
        }
        (in_time, late)
    }

    #[test]
    fn at_ten_times_what_can_be_done_nearly_all_that_is_begun_is_done_in_time_and_by_arrival_next_to_nothing()
    {
        let (in_time, late) = done(true);
        assert!(in_time > 10 * late, "{in_time} in time, {late} too late");
        let (in_time, late) = done(false);
        assert!(late > 10 * in_time, "{in_time} in time, {late} too late");
    }

    #[tokio::test]
    async fn one_that_is_told_and_gone_gives_its_units_to_the_next() {
        let line = Line::of(1);
        let held = line.take(1, None).await.unwrap();
        assert!(!held.has_waited());
        let (mut first, mut second) = (Box::pin(line.take(1, None)), Box::pin(line.take(1, None)));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(held);
        drop(first);
        let second = second.now_or_never().flatten().unwrap();
        assert!(second.has_waited() && line.left() == 0);
        drop(second);
        assert_eq!(line.left(), 1);
    }
}
