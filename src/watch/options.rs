//! Durations and sizes of the watches.

use std::time::Duration;

use super::secrets::SecretLimits;

/// Durations and sizes of the watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchOptions {
    /// How long a watch runs before the API server ends it and it is resumed. A dead connection is noticed 5 s after this
    /// (`kube-rs/kube:kube-runtime/src/watcher.rs`, `WATCH_IDLE_TIMEOUT_MARGIN`).
    /// Whole seconds. Default: 50 s.
    pub watch_timeout: Duration,
    /// Objects per page of a list. Default: 500, as in client-go.
    pub page_size: u32,
    /// Wait after the first error; doubled with each further one. Default: 500 ms.
    pub first_retry: Duration,
    /// Longest wait after an error. Default: 15 s.
    pub longest_retry: Duration,
    /// Shortest time between two watch requests of one kind, for servers that end every watch at once. Default: 1 s.
    pub watch_interval: Duration,
    /// How long to wait for further changes after each one. Default: 100 ms.
    pub quiet: Duration,
    /// Longest time to wait for further changes. Default: 1 s.
    pub longest_gathering: Duration,
    /// Shortest time from one snapshot for changed sizes alone to the next: their objects are written by tenants and by the gate itself, a pod that
    /// gets the former size is no fault, and each snapshot has every decision taken anew. Default: 1 min.
    pub sizes_interval: Duration,
    /// Whether what images have used, and what other controllers size, is watched too. Default: no.
    pub sizes: bool,
    /// Limits for reading pull secrets.
    pub secrets: SecretLimits,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            watch_timeout: Duration::from_secs(50),
            page_size: 500,
            first_retry: Duration::from_millis(500),
            longest_retry: Duration::from_secs(15),
            watch_interval: Duration::from_secs(1),
            quiet: Duration::from_millis(100),
            longest_gathering: Duration::from_secs(1),
            sizes_interval: Duration::from_mins(1),
            sizes: false,
            secrets: SecretLimits::default(),
        }
    }
}
