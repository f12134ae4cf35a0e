//! Units of something scarce, and the line of those that wait for them. Whose turn is next is decided without a clock: times are arguments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::Instant;

/// What is left to the oldest when the order turns: one part of so many of its time. That is more than a unit is held as a rule. What is turned earlier drops
/// what could be done: a burst that is worked off in the order of arrival may take nearly all of the time, and each of it is in time.
const LAST_PART: u32 = 8;

/// Equal units, and who waits for them. The oldest comes first as long as more than its last part of time is left ([`LAST_PART`]). Where it is not, more is asked
/// for than can be done, and the newest comes first: in the order of arrival each would get its turn when its time is nearly over, and most of the work would be
/// done in vain. What then waits behind newer ones may be dropped, also if it is a burst of which all could still have been done.
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
    /// Whether more than the last part of its time is left.
    fn has_time(&self, now: Instant) -> bool {
        self.deadline.is_none_or(|deadline| {
            let time = deadline.saturating_duration_since(self.since);
            deadline.saturating_duration_since(now) > time / LAST_PART
        })
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
    fn the_order_is_that_of_arrival_while_the_oldest_has_more_than_the_last_part_of_its_time() {
        let mut case = Case::of(1);
        let held = case.join(0, 1, None);
        let waiting: Vec<_> = (0..3).map(|after| case.join(after, 1, Some(SECOND * 10))).collect();
        assert_eq!(case.leave(8, held, 1), [waiting[0]]);
        assert_eq!(case.leave(9, waiting[0], 1), [waiting[1]]);
        assert_eq!(case.leave(10, waiting[1], 1), [waiting[2]]);
        assert_eq!(case.leave(11, waiting[2], 1), NONE);
        assert_eq!(case.waiters.free, 1);
    }

    #[test]
    fn where_the_oldest_has_only_the_last_part_of_its_time_the_newest_comes_first_and_it_once_none_is_newer()
    {
        let mut case = Case::of(1);
        let held = case.join(0, 1, None);
        let waiting: Vec<_> = (0..4).map(|after| case.join(after, 1, Some(SECOND * 10))).collect();
        assert_eq!(case.leave(9, held, 1), [waiting[3]]);
        assert_eq!(case.leave(9, waiting[3], 1), [waiting[2]]);
        assert_eq!(case.leave(9, waiting[0], 1), NONE, "it gave up, and none is free");
        assert_eq!(case.leave(10, waiting[2], 1), [waiting[1]], "the only one that is left");
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

    /// Those who come, by a clock of ticks: each holds one of the units for as long as its work takes, and gives up when its time is over.
    struct Load {
        units: u32,
        work: u64,
        time: u64,
        /// Whether it says how much time it has.
        is_timed: bool,
    }

    /// What became of those who came.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Done {
        in_time: u32,
        late: u32,
        dropped: u32,
    }

    /// A simulation of a line, in which a tick is a millisecond.
    struct Simulation {
        load: Load,
        begin: Instant,
        now: u64,
        waiters: Waiters,
        /// Those that wait, with when their time is over: the same time for each, so the oldest are the first to go.
        waiting: BTreeMap<u64, (u64, Receiver<()>)>,
        /// Those that work, with when that ends and when their time is over.
        begun: BTreeMap<u64, (u64, u64)>,
        done: Done,
    }

    impl Simulation {
        /// So many come at each tick, and then none until all are gone.
        fn run(load: Load, ticks: u64, arrivals: impl Fn(u64) -> u64) -> Done {
            let waiters = Waiters { free: load.units, ..Waiters::default() };
            let (begin, done) = (Instant::now(), Done::default());
            let (waiting, begun) = (BTreeMap::new(), BTreeMap::new());
            let mut simulation = Self { load, begin, now: 0, waiters, waiting, begun, done };
            while simulation.now < ticks || !simulation.waiting.is_empty() || !simulation.begun.is_empty() {
                let arrived = if simulation.now < ticks { arrivals(simulation.now) } else { 0 };
                simulation.tick(arrived);
            }
            simulation.done
        }

        fn at(&self, tick: u64) -> Instant {
            self.begin + Duration::from_millis(tick)
        }

        fn tick(&mut self, arrived: u64) {
            let now = self.now;
            let ended: Vec<u64> =
                self.begun.iter().filter(|(_, one)| one.0 <= now).map(|(number, _)| *number).collect();
            for number in ended {
                let (end, deadline) = self.begun.remove(&number).unwrap();
                let count = if end <= deadline { &mut self.done.in_time } else { &mut self.done.late };
                *count += 1;
                self.leave(number);
            }
            let gone: Vec<u64> =
                self.waiting.iter().take_while(|(_, one)| one.0 <= now).map(|(number, _)| *number).collect();
            for number in gone {
                self.waiting.remove(&number);
                self.done.dropped += 1;
                self.leave(number);
            }
            for _ in 0..arrived {
                self.join();
            }
            self.now += 1;
        }

        fn join(&mut self) {
            let (now, deadline) = (self.at(self.now), self.now + self.load.time);
            let told_deadline = self.load.is_timed.then(|| self.at(deadline));
            let (number, told) = self.waiters.join(1, told_deadline, || now);
            if let Some(told) = told {
                self.waiting.insert(number, (deadline, told));
            } else {
                self.begun.insert(number, (self.now + self.load.work, deadline));
            }
        }

        fn leave(&mut self, number: u64) {
            let now = self.at(self.now);
            let next = self.waiters.leave(number, 1, || now);
            let count = next.len();
            for tell in next {
                let _ = tell.send(());
            }
            let told: Vec<u64> = self
                .waiting
                .iter_mut()
                .filter_map(|(number, (_, told))| told.try_recv().ok().map(|()| *number))
                .take(count)
                .collect();
            for number in told {
                let (deadline, _) = self.waiting.remove(&number).unwrap();
                self.begun.insert(number, (self.now + self.load.work, deadline));
            }
        }
    }

    /// Ten times as many as can be done: four a tick at eight places. Each has a hundred ticks, of which its work takes twenty.
    fn at_ten_times(is_timed: bool) -> Done {
        Simulation::run(Load { units: 8, work: 20, time: 100, is_timed }, 2_000, |_| 4)
    }

    #[test]
    fn at_ten_times_what_can_be_done_nearly_all_that_is_begun_is_done_in_time_and_by_arrival_next_to_nothing()
    {
        let done = at_ten_times(true);
        assert!(done.in_time > 10 * done.late, "{done:?}");
        let done = at_ten_times(false);
        assert!(done.late > 10 * done.in_time, "{done:?}");
    }

    /// A hundred a second are done, one at a tick. A burst comes, and then as many in a hundred ticks as are said, for a minute. Each has ten seconds.
    #[test]
    fn a_burst_of_which_all_can_be_done_in_the_order_of_arrival_is_done_and_nothing_that_comes_after_it_is_dropped()
     {
        for (burst, steadily) in [(600, 90), (700, 80), (600, 100), (850, 95)] {
            let load = Load { units: 1, work: 1, time: 1_000, is_timed: true };
            let until = |tick: u64| tick * steadily / 100;
            let arrivals = |tick: u64| until(tick + 1) - until(tick) + if tick == 0 { burst } else { 0 };
            let Done { in_time, late, dropped } = Simulation::run(load, 6_000, arrivals);
            assert_eq!((late, dropped), (0, 0), "{burst} {steadily}");
            assert_eq!(u64::from(in_time), burst + until(6_000), "{burst} {steadily}");
        }
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
