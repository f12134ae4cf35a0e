//! Scheduling of evaluations. Those of large inputs share all CPUs but one, so that the many small ones never wait for
//! them. In either lane the inputs of one namespace never hold more than half, so that no other waits for all of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::shares::{Share, Shares};

/// Largest small input, in bytes. The input of a pod with three containers has about 20 KiB.
const SMALL_BYTES: usize = 128 << 10;
/// A large input takes one slot per this many bytes, because the time to parse it is proportional to its size.
const SLOT_BYTES: usize = 256 << 10;
/// Slots per CPU, and the most that one input takes.
const SLOTS: usize = 4;
/// Concurrent small evaluations per CPU. More would not be faster, and each needs an instance of its own. Half of them, which
/// one namespace may hold, use all CPUs.
const SMALL_PER_PROCESSOR: usize = 2;
/// Most slots of a lane, on however many processors: the memory of a replica does not grow with its node. That is as many as four processors need for small inputs,
/// and three for large ones.
const MOST_SLOTS: usize = 8;

/// Whether an input of so many bytes is a small one.
pub(super) const fn is_small(input_bytes: usize) -> bool {
    input_bytes <= SMALL_BYTES
}

/// Permit to evaluate, returned when it is dropped.
#[derive(Debug)]
pub(super) struct Leave {
    _share: Share,
    /// How long it was waited for, if it was not free.
    waited: Option<Duration>,
}

impl Leave {
    /// Whether it came too late for an evaluation that has so much `time` now, of the `most` that one may take: less is left to its review than it has waited.
    pub fn is_late(&self, time: Duration, most: Duration) -> bool {
        time < most && self.waited.is_some_and(|waited| waited > time)
    }
}

/// Permits for concurrent evaluations.
#[derive(Debug)]
pub(super) struct Lanes {
    small: Shares,
    large: Shares,
}

impl Lanes {
    /// Lanes for a machine with this many CPUs.
    pub fn new(processors: usize) -> Self {
        Self { small: shares(small_slots(processors)), large: shares(large_slots(processors)) }
    }

    /// Waits for a permit, first come first served among the inputs of a namespace and then among the namespaces; `None` if
    /// the deadline passes first. Once the time of the oldest small input is nearly over, the newest comes first. Large ones keep
    /// their order, since those that take the most slots would be passed by again and again.
    pub async fn enter(&self, namespace: &Arc<str>, input_bytes: usize, deadline: Instant) -> Option<Leave> {
        let begin = Instant::now();
        let turn = async {
            if is_small(input_bytes) {
                return self.small.take_by(namespace, 1, Some(deadline)).await;
            }
            let slots = input_bytes.div_ceil(SLOT_BYTES).min(SLOTS);
            self.large.take(namespace, u32::try_from(slots).unwrap_or(u32::MAX)).await
        };
        let share = tokio::time::timeout_at(deadline, turn).await.ok()??;
        let waited = share.has_waited().then(|| begin.elapsed());
        Some(Leave { _share: share, waited })
    }
}

/// Most evaluations at a time on a machine with this many CPUs, of all bundles together: no more than sixteen on any. Each may take as much memory as
/// [`Limits`](super::Limits) say.
pub fn evaluations_at_a_time(processors: usize) -> usize {
    small_slots(processors).saturating_add(large_slots(processors))
}

fn small_slots(processors: usize) -> usize {
    SMALL_PER_PROCESSOR.saturating_mul(processors.max(1)).min(MOST_SLOTS)
}

fn large_slots(processors: usize) -> usize {
    SLOTS.saturating_mul(processors.saturating_sub(1).max(1)).min(MOST_SLOTS)
}

fn shares(total: usize) -> Shares {
    Shares::new(u32::try_from(total).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    fn names() -> [Arc<str>; 2] {
        ["evil", "shop"].map(Arc::from)
    }

    /// A permit for an input of this size, if one is free.
    fn at_once(lanes: &Lanes, namespace: &Arc<str>, input_bytes: usize) -> Option<Leave> {
        lanes.enter(namespace, input_bytes, later()).now_or_never().flatten()
    }

    #[tokio::test]
    async fn any_number_of_large_inputs_leaves_the_small_ones_their_lane() {
        let (lanes, [evil, shop]) = (Lanes::new(2), names());
        let first = at_once(&lanes, &evil, 700 << 10).unwrap();
        let mut waiting: Vec<_> = (0..15).map(|_| Box::pin(lanes.enter(&evil, 700 << 10, later()))).collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none(), "one of this size at a time on two processors");
        }
        let small: Vec<_> = [&evil, &evil, &shop, &shop]
            .map(|namespace| at_once(&lanes, namespace, 20 << 10).unwrap())
            .into();
        assert!(at_once(&lanes, &shop, 20 << 10).is_none(), "two for each processor");
        drop((first, small));
        assert!(at_once(&lanes, &shop, 20 << 10).is_some());
    }

    #[tokio::test]
    async fn any_number_of_inputs_of_one_namespace_leaves_half_of_each_lane_to_the_others() {
        let (lanes, [evil, shop]) = (Lanes::new(3), names());
        for (size, half) in [(20 << 10, 3), (200 << 10, 4)] {
            let held: Vec<_> = (0..half).map(|_| at_once(&lanes, &evil, size).unwrap()).collect();
            let mut waiting: Vec<_> = (0..120).map(|_| Box::pin(lanes.enter(&evil, size, later()))).collect();
            assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()), "more than half");
            let other: Vec<_> = (0..half).map(|_| at_once(&lanes, &shop, size)).collect();
            assert!(other.iter().all(Option::is_some), "the others wait for one namespace");
            drop((held, other));
        }
    }

    /// Each takes all slots, so that they come one after the other.
    #[tokio::test]
    async fn an_input_above_half_waits_for_one_of_each_namespace_and_not_for_all() {
        let (lanes, [evil, shop]) = (Lanes::new(2), names());
        let held = at_once(&lanes, &evil, 16 << 20).unwrap();
        let mut waiting: Vec<_> = (0..120).map(|_| Box::pin(lanes.enter(&evil, 16 << 20, later()))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut other = Box::pin(lanes.enter(&shop, 16 << 20, later()));
        assert!((&mut other).now_or_never().is_none());
        drop(held);
        assert!(
            (&mut other).now_or_never().flatten().is_some(),
            "behind those that came before in their own line"
        );
    }

    #[tokio::test]
    async fn large_inputs_come_in_the_order_of_arrival_whatever_their_size() {
        let (lanes, [evil, shop]) = (Lanes::new(2), names());
        let third: Arc<str> = "third".into();
        let held = at_once(&lanes, &evil, 1 << 20).unwrap();
        let mut larger = Box::pin(lanes.enter(&shop, 16 << 20, later()));
        assert!((&mut larger).now_or_never().is_none());
        let mut smaller = Box::pin(lanes.enter(&third, 200 << 10, later()));
        assert!((&mut smaller).now_or_never().is_none());
        drop(held);
        assert!((&mut smaller).now_or_never().is_none(), "the larger one was first, and takes all slots");
        drop((&mut larger).now_or_never().flatten().unwrap());
        assert!((&mut smaller).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn several_inputs_of_middling_size_share_a_processor() {
        let (lanes, [evil, shop]) = (Lanes::new(1), names());
        let held = [&evil, &evil, &shop, &shop].map(|name| at_once(&lanes, name, 200 << 10).unwrap());
        assert!(at_once(&lanes, &shop, 200 << 10).is_none());
        assert_eq!(held.len(), 4);
    }

    #[tokio::test]
    async fn a_large_node_runs_no_more_evaluations_than_its_memory_is_counted_for() {
        let numbers = [1, 2, 3, 4, 8, 64, usize::MAX].map(evaluations_at_a_time);
        assert_eq!(numbers, [6, 8, 14, 16, 16, 16, 16]);
        let (lanes, [evil, shop]) = (Lanes::new(64), names());
        for size in [20 << 10, 200 << 10] {
            let held = [&evil, &shop]
                .map(|name| (0..99).map_while(|_| at_once(&lanes, name, size)).collect::<Vec<_>>());
            assert_eq!(held.map(|one| one.len()), [MOST_SLOTS / 2; 2]);
        }
    }

    #[tokio::test]
    async fn a_permit_is_late_where_it_leaves_less_time_than_it_was_waited_for() {
        let (lanes, [evil, _]) = (Lanes::new(1), names());
        let held = at_once(&lanes, &evil, 20 << 10).unwrap();
        let mut waiting = Box::pin(lanes.enter(&evil, 20 << 10, later()));
        assert!((&mut waiting).now_or_never().is_none());
        let (short, long) = (Duration::from_millis(1), Duration::from_mins(10));
        // Longer than the short time.
        tokio::time::sleep(short * 2).await;
        assert!(!held.is_late(Duration::ZERO, long), "it was free");
        drop(held);
        let late = waiting.await.unwrap();
        assert!(late.is_late(short, long));
        assert!(!late.is_late(short, short), "all of the time is left");
        assert!(!late.is_late(long, long * 2), "more is left than it was waited for");
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_before_the_deadline_is_none() {
        let (lanes, [evil, _]) = (Lanes::new(1), names());
        let _held = at_once(&lanes, &evil, 1 << 20).unwrap();
        assert!(lanes.enter(&evil, 1 << 20, Instant::now()).await.is_none());
    }
}
