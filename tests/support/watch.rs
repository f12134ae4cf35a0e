//! Watches of an API server, and the snapshots that they publish.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wasmgate::grant::Grants;
use wasmgate::watch::{Base, SecretLimits, Snapshot, WatchHealth, WatchOptions, Watched, Watching};

use super::api::Api;

/// Bound of every wait, on a busy machine.
pub const AMPLE: Duration = Duration::from_secs(30);

/// Options with waits that are as short as possible.
pub fn options() -> WatchOptions {
    WatchOptions {
        watch_timeout: Duration::from_secs(20),
        first_retry: Duration::from_millis(20),
        longest_retry: Duration::from_millis(200),
        watch_interval: Duration::from_millis(20),
        quiet: Duration::from_millis(20),
        longest_gathering: Duration::from_millis(500),
        sizes_interval: Duration::from_millis(20),
        page_size: 100,
        sizes: false,
        secrets: SecretLimits { failure: Duration::from_millis(50), ..SecretLimits::default() },
    }
}

/// Watches of the test's API server, and the snapshots that they published.
pub struct Watch {
    pub watching: Watching,
    last: Arc<Mutex<Option<Snapshot>>>,
    pub published: Arc<AtomicUsize>,
}

impl Watch {
    pub fn start(api: &Api) -> Self {
        Self::start_with(api, options(), Base::default())
    }

    pub fn start_with(api: &Api, options: WatchOptions, base: Base) -> Self {
        Self::of(api.client(Duration::from_secs(10)), options, base)
    }

    pub fn of(client: kube::Client, options: WatchOptions, base: Base) -> Self {
        let watching = Watching::new(client, options);
        let (last, published): (Arc<Mutex<Option<Snapshot>>>, Arc<AtomicUsize>) = Default::default();
        let (into, count) = (Arc::clone(&last), Arc::clone(&published));
        watching.start(base, move |snapshot| {
            *into.lock().unwrap() = Some(snapshot);
            count.fetch_add(1, Ordering::SeqCst);
        });
        Self { watching, last, published }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.last.lock().unwrap().clone().unwrap_or_default()
    }

    pub fn report(&self, watched: Watched) -> WatchHealth {
        self.watching.reports().into_iter().find(|report| report.watched == watched).unwrap()
    }

    /// Waits until the snapshot satisfies a condition.
    pub async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        eventually(|| format!("{what}: {:?}", self.watching), || holds(&self.snapshot())).await;
    }

    pub async fn ready(&self) {
        eventually(|| format!("{:?}", self.watching.ready()), || self.watching.ready().is_ok()).await;
    }

    pub fn grants(&self) -> Vec<String> {
        names(&self.snapshot().grants)
    }
}

pub fn names(grants: &Grants) -> Vec<String> {
    grants.iter().map(|grant| grant.name().to_string()).collect()
}

/// Waits for a condition.
pub async fn eventually(what: impl Fn() -> String, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < AMPLE, "never: {}", what());
        // The time between two looks.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A secret's content with the login of a registry.
pub fn docker_config_for(registry: &str, user: &str, password: &str) -> String {
    json!({"auths": {registry: {"auth": STANDARD.encode(format!("{user}:{password}"))}}}).to_string()
}
