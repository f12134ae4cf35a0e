//! Identifiers of decisions.

use std::cell::RefCell;

use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::{Builder, Uuid};

/// Bytes of an identifier.
const BYTES: usize = 16;

/// Bytes that the kernel is asked for at once, for the next identifiers of this thread. A call takes hardly longer for all of them than for one.
const AT_ONCE: usize = 32 * BYTES;

thread_local! {
    /// Random bytes, and how many of them are used.
    static RANDOM: RefCell<([u8; AT_ONCE], usize)> = const { RefCell::new(([0; AT_ONCE], AT_ONCE)) };
}

/// A random identifier (RFC 9562, version 4), which no other decision has.
pub fn decision_id() -> Uuid {
    RANDOM.with_borrow_mut(|(bytes, used)| {
        if *used >= AT_ONCE {
            if SystemRandom::new().fill(bytes).is_err() {
                return Uuid::new_v4();
            }
            *used = 0;
        }
        let next = bytes.get(*used..).and_then(|rest| rest.first_chunk::<BYTES>());
        *used += BYTES;
        next.map_or_else(Uuid::new_v4, |random| Builder::from_random_bytes(*random).into_uuid())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn identifiers_are_random_ones_and_no_two_are_equal_on_whatever_thread() {
        let some = || (0..3 * AT_ONCE / BYTES + 5).map(|_| decision_id()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(some)).collect();
        let found: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(found.iter().all(|id| id.get_version_num() == 4), "{found:?}");
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
        assert_eq!(found.len(), 4 * (3 * 32 + 5));
    }
}
