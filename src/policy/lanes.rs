//! Scheduling of evaluations. Those of large inputs share all CPUs but one, so that the many small ones never wait for
//! them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Largest small input, in bytes. The input of a pod with three containers has about 20 KiB.
const SMALL_BYTES: usize = 128 << 10;
/// A large input takes one slot per this many bytes, because the time to parse it is proportional to its size.
const SLOT_BYTES: usize = 256 << 10;
/// Slots per CPU, and the most that one input takes.
const SLOTS: usize = 4;
/// Concurrent small evaluations per CPU. More would not be faster, and each needs an instance of its own.
const SMALL_PER_PROCESSOR: usize = 2;

/// Permit to evaluate, returned when it is dropped.
pub(super) type Leave = OwnedSemaphorePermit;

/// Permits for concurrent evaluations.
#[derive(Debug)]
pub(super) struct Lanes {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Lanes {
    /// Lanes for a machine with this many CPUs.
    pub fn new(processors: usize) -> Self {
        let for_large = processors.saturating_sub(1).max(1);
        Self {
            small: Arc::new(Semaphore::new(SMALL_PER_PROCESSOR * processors.max(1))),
            large: Arc::new(Semaphore::new(SLOTS * for_large)),
        }
    }

    /// Waits for a permit, first come first served within a lane; `None` if the deadline passes first.
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

    /// A permit for an input of this size, if one is free.
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
