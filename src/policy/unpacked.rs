//! How much archives are unpacked to at once, before it is known who made them: a small archive may hold many bytes, and several may come
//! at the same time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::contents::MAX_UNPACKED_BYTES;

/// What the archives of this process may unpack to together: as much as one of them may.
pub(super) static UNVERIFIED: UnpackBudget = UnpackBudget::of(MAX_UNPACKED_BYTES);

/// Bytes that are shared.
pub(super) struct UnpackBudget {
    total: u64,
    left: Mutex<u64>,
    freed: Condvar,
}

/// A part of them, which is given back when it is dropped.
pub(super) struct UnpackShare {
    of: &'static UnpackBudget,
    bytes: u64,
}

impl UnpackBudget {
    pub const fn of(total: u64) -> Self {
        Self { total, left: Mutex::new(total), freed: Condvar::new() }
    }

    /// Waits until so many bytes are free. Whoever has a share gives it back without waiting for another one, so this ends.
    pub fn take(&'static self, bytes: u64) -> UnpackShare {
        let bytes = bytes.min(self.total);
        let mut left = self.left();
        while *left < bytes {
            left = self.freed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left = left.saturating_sub(bytes);
        UnpackShare { of: self, bytes }
    }

    fn left(&self) -> MutexGuard<'_, u64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnpackShare {
    fn drop(&mut self) {
        let mut left = self.of.left();
        *left = left.saturating_add(self.bytes);
        self.of.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::thread;

    use super::super::Contents;
    use super::*;

    #[test]
    fn archives_that_come_together_are_unpacked_one_after_the_other_where_they_are_large() {
        static BUDGET: UnpackBudget = UnpackBudget::of(300 << 10);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let zeros = vec![0; 100 << 10];
        let contents: Contents = [("a", zeros.as_slice())].into_iter().collect();
        let packed = contents.to_tar_gz().unwrap();
        assert!(packed.len() < 2 << 10, "{}", packed.len());
        thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let contents = Contents::unpacked("test", &packed, Some(&BUDGET)).unwrap();
                    let bytes: usize = contents.files().map(|(_, bytes)| bytes.len()).sum();
                    let bytes = u64::try_from(bytes).unwrap();
                    most.fetch_max(now.fetch_add(bytes, SeqCst) + bytes, SeqCst);
                    thread::yield_now();
                    now.fetch_sub(bytes, SeqCst);
                });
            }
        });
        assert!(most.into_inner() <= 300 << 10);
        assert_eq!(*BUDGET.left(), BUDGET.total, "everything was given back");
        // What was verified takes no part of it any more.
        let verified = Contents::unpacked("test", &packed, Some(&BUDGET)).unwrap().settled();
        assert_eq!((*BUDGET.left(), verified.files().count()), (BUDGET.total, 1));
    }
}
