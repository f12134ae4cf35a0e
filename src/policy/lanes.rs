//! Who evaluates next. Evaluations of large inputs take turns on all processors but one, so that any number of them
//! keeps no small one waiting, which most are.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// An input of more bytes is large. The input of a pod of three containers has about 20 KiB.
const SMALL_BYTES: usize = 128 << 10;
/// A large input takes a slot for each of these, because reading it takes time in proportion.
const SLOT_BYTES: usize = 256 << 10;
/// Slots for one processor, which are the most that one input takes.
const SLOTS: usize = 4;
/// Small evaluations for each processor. More of them would not be quicker, and each has an instance of its own.
const SMALL_PER_PROCESSOR: usize = 2;

/// Leave to evaluate, given back by dropping it.
pub(super) type Leave = OwnedSemaphorePermit;

/// The evaluations that may be under way at once.
#[derive(Debug)]
pub(super) struct Lanes {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Lanes {
    /// Lanes for a machine with so many processors.
    pub fn new(processors: usize) -> Self {
        let for_large = processors.saturating_sub(1).max(1);
        Self {
            small: Arc::new(Semaphore::new(SMALL_PER_PROCESSOR * processors.max(1))),
            large: Arc::new(Semaphore::new(SLOTS * for_large)),
        }
    }

    /// Waits for its turn, in the order of arrival within its lane; `None` when that does not come before the deadline.
    pub async fn enter(&self, input_bytes: usize, deadline: Instant) -> Option<Leave> {
        let (lane, slots) = match input_bytes {
            ..=SMALL_BYTES => (&self.small, 1),
            large => (&self.large, large.div_ceil(SLOT_BYTES).min(SLOTS)),
        };
        let turn = Arc::clone(lane).acquire_many_owned(u32::try_from(slots).unwrap_or(u32::MAX));
        tokio::time::timeout_at(deadline, turn).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    /// Leave for an input of this size, if it is to be had at once.
    fn at_once(lanes: &Lanes, input_bytes: usize) -> Option<Leave> {
        lanes.enter(input_bytes, later()).now_or_never().flatten()
    }

    #[tokio::test]
    async fn any_number_of_large_inputs_leaves_the_small_ones_their_lane() {
        let lanes = Lanes::new(2);
        let first = at_once(&lanes, 700 << 10).unwrap();
        let mut waiting: Vec<_> = (0..15).map(|_| Box::pin(lanes.enter(700 << 10, later()))).collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none(), "one of this size at a time on two processors");
        }
        let small: Vec<_> = (0..4).map(|_| at_once(&lanes, 20 << 10).unwrap()).collect();
        assert!(at_once(&lanes, 20 << 10).is_none(), "two for each processor");
        drop((first, small));
        assert!(at_once(&lanes, 20 << 10).is_some());
    }

    #[tokio::test]
    async fn large_inputs_come_in_the_order_of_arrival_whatever_their_size() {
        let lanes = Lanes::new(2);
        let held = at_once(&lanes, 1 << 20).unwrap();
        let mut larger = Box::pin(lanes.enter(16 << 20, later()));
        assert!((&mut larger).now_or_never().is_none());
        let mut smaller = Box::pin(lanes.enter(200 << 10, later()));
        assert!((&mut smaller).now_or_never().is_none());
        drop(held);
        assert!((&mut smaller).now_or_never().is_none(), "the larger one was first, and takes all slots");
        drop((&mut larger).now_or_never().flatten().unwrap());
        assert!((&mut smaller).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn several_inputs_of_middling_size_share_a_processor() {
        let lanes = Lanes::new(1);
        let held: Vec<_> = (0..4).map(|_| at_once(&lanes, 200 << 10).unwrap()).collect();
        assert!(at_once(&lanes, 200 << 10).is_none());
        assert_eq!(held.len(), 4);
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_before_the_deadline_is_none() {
        let lanes = Lanes::new(1);
        let _held = at_once(&lanes, 1 << 20).unwrap();
        assert!(lanes.enter(1 << 20, Instant::now()).await.is_none());
    }
}
