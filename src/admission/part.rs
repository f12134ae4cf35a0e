//! A part of a memory that reviews share: how much of it there is, and how many may wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::Error;
use crate::shares::{self, Share, Shares};

pub(super) const MIB: usize = 1 << 20;

/// Bytes in which the memory is counted.
pub(super) const UNIT: usize = 1 << 10;

/// Most reviews with large bodies that wait for one part. With what is worked on of one namespace, its own leave a quarter of the places for such bodies to
/// others (`ServerOptions::large_bodies`), and so do all that wait.
const WAIT_WITH_LARGE_BODIES: u32 = 6;

/// Most of them of one namespace, whose reviews are worked on one after the other where each needs most of its half.
const WAIT_WITH_LARGE_BODIES_OF_ONE: u32 = 5;

/// What a review needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// Bytes that its objects are parsed to, or its images bring.
    pub bytes: usize,
    /// Bytes of their texts, which it holds while it waits.
    pub text: usize,
}

/// How many may wait for a part: each counts the bytes that it holds meanwhile, and no fewer than `least`, since it holds a place of the server too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiters {
    pub all: usize,
    /// Of one namespace.
    pub of_one: usize,
    pub least: usize,
}

/// A part of the memory, and the places of those that wait for it.
#[derive(Debug)]
pub(super) struct Part {
    memory: Shares,
    waiting: Shares,
    /// What each that waits counts at least.
    least: usize,
    /// The same of those with large bodies, which the server has few of.
    waiting_large: Shares,
}

impl Part {
    pub fn of(bytes: usize, waiters: Waiters) -> Self {
        Self {
            memory: Shares::new(shares::units(bytes, UNIT)),
            waiting: Shares::with_most(shares::units(waiters.all, UNIT), shares::units(waiters.of_one, UNIT)),
            least: waiters.least,
            waiting_large: Shares::with_most(WAIT_WITH_LARGE_BODIES, WAIT_WITH_LARGE_BODIES_OF_ONE),
        }
    }

    /// So much of it, for a review with so much time `left`. It is waited for no longer than half of that: what comes later would leave too little to look its
    /// images up, and a pod whose images are not known is refused. The error is [`Error::NoPlace`], also where there is no place to wait for it.
    pub async fn take(&self, namespace: &str, need: Need, left: Duration) -> Result<Share, Error> {
        let (namespace, deadline) = (Arc::from(namespace), Instant::now().checked_add(left / 2));
        // Large bodies take turns.
        let waiting = if shares::has_turn() {
            (&self.waiting_large, 1)
        } else {
            (&self.waiting, shares::units(need.text.max(self.least), UNIT))
        };
        let share = self.memory.take_or_wait(&namespace, shares::units(need.bytes, UNIT), deadline, waiting);
        share.await.ok_or(Error::NoPlace)
    }
}

#[cfg(test)]
impl From<usize> for Need {
    /// That of an object with next to no text.
    fn from(bytes: usize) -> Self {
        Self { bytes, text: 0 }
    }
}
