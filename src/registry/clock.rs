//! The clock by which what is remembered ages. Tests put it forward instead of waiting.

use std::time::Instant;

/// The system's monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// How far a test has put it forward.
    #[cfg(test)]
    ahead: std::sync::Mutex<std::time::Duration>,
}

impl Clock {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test's clock has a state")]
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }

    #[cfg(test)]
    pub(crate) fn now(&self) -> Instant {
        Instant::now() + *self.ahead.lock().unwrap()
    }

    #[cfg(test)]
    pub(crate) fn put_forward(&self, by: std::time::Duration) {
        *self.ahead.lock().unwrap() += by;
    }
}
