//! The current snapshot of a Kubernetes cluster, kept up to date by watches, and the pull secrets of pods, read on demand;
//! and lists that are read once ([`Pages`]).
//! A gate outside of a cluster reads the same facts from a directory of manifests.
//!
//! Each watch lists and follows one kind ([`Watched`]) and keeps only what the gate needs of its objects. Changes are
//! collected for a moment and then published as one [`Snapshot`], so that a burst of events causes few rebuilds.
//! The first snapshot is published once every watch has listed its kind; a kind of the gate's own without a definition
//! counts as listed and empty. When a watch is lost later, the last snapshot stays in use, and the watch resumes by itself.

pub mod client;
mod follow;
mod health;
pub mod pages;
mod resource;
mod secrets;
mod snapshot;

pub use client::{connect, connect_user};
pub use health::WatchHealth;
pub use pages::{Pages, resource_of};
pub use resource::Watched;
pub use secrets::{Account, ApiPullSecrets, SecretLimits};
pub use snapshot::{Base, Snapshot};

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use health::Health;
use resource::Store;

/// Why a cluster cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kubeconfig is missing or invalid.
    #[error("could not read the kubeconfig `{}`: {message}", path.display())]
    ReadKubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// There is no service account to authenticate as.
    #[error("not in a cluster: {message}; pass --kubeconfig")]
    FindCluster {
        /// What is missing.
        message: String,
    },
    /// A user has neither a kubeconfig nor a cluster that the process runs in.
    #[error("could not find a cluster: {message}; pass --kubeconfig, or name manifests with -f")]
    FindUserCluster {
        /// What is missing.
        message: String,
    },
    /// Objects of a kind could not be listed.
    #[error("could not list {name}: {message}")]
    ListKind {
        /// Resource and group.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The client could not be created, for instance because a certificate cannot be read.
    #[error("could not set up the client of the API server: {message}")]
    SetUpClient {
        /// What is wrong.
        message: String,
    },
}

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
            secrets: SecretLimits::default(),
        }
    }
}

/// The known objects of one kind, and the health of its watch.
#[derive(Debug)]
struct Kept {
    store: Arc<Store>,
    health: Arc<Health>,
}

/// State that the watches and the builder share.
#[derive(Debug)]
struct Shared {
    kinds: Vec<Kept>,
    /// Kinds that changed since the last snapshot.
    changed: Mutex<Vec<Watched>>,
    wake: Notify,
    published: AtomicBool,
    rebuilds: AtomicU64,
}

impl Shared {
    fn kept(&self, watched: Watched) -> Option<&Kept> {
        self.kinds.iter().find(|kept| kept.health.watched() == watched)
    }

    fn note_change(&self, watched: Watched) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if !changed.contains(&watched) {
            changed.push(watched);
        }
        drop(changed);
        self.wake.notify_one();
    }

    fn take_changes(&self) -> Vec<Watched> {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn all_synced(&self) -> bool {
        self.kinds.iter().all(|kept| kept.health.is_synced())
    }
}

/// The watches of one cluster. Dropping it stops them.
pub struct Watching {
    client: Client,
    options: WatchOptions,
    shared: Arc<Shared>,
    pull_secrets: Arc<ApiPullSecrets>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("reports", &self.reports()).finish_non_exhaustive()
    }
}

impl Watching {
    /// Prepares the watches; they send no request before [`Self::start`]. Must be called within the Tokio runtime.
    pub fn new(client: Client, options: WatchOptions) -> Self {
        Self::with_account(client, options, Account::default())
    }

    /// The same for a gate with this ServiceAccount, which messages about missing rights name.
    pub fn with_account(client: Client, options: WatchOptions, account: Account) -> Self {
        let kept = |watched| Kept { store: Arc::default(), health: Arc::new(Health::new(watched)) };
        let shared = Shared {
            kinds: Watched::ALL.into_iter().map(kept).collect(),
            changed: Mutex::default(),
            wake: Notify::new(),
            published: AtomicBool::new(false),
            rebuilds: AtomicU64::new(0),
        };
        let accounts = shared.kept(Watched::ServiceAccounts).map(|kept| Arc::clone(&kept.store));
        let pull_secrets =
            ApiPullSecrets::new(client.clone(), accounts.unwrap_or_default(), account, options.secrets);
        Self {
            client,
            options,
            shared: Arc::new(shared),
            pull_secrets: Arc::new(pull_secrets),
            tasks: Mutex::default(),
        }
    }

    /// Starts the watches and calls `publish` with every snapshot. `base` holds the grants and exceptions of a directory.
    pub fn start(&self, base: Base, publish: impl Fn(Snapshot) + Send + Sync + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for kept in &self.shared.kinds {
            let follower = follow::Follower {
                store: Arc::clone(&kept.store),
                health: Arc::clone(&kept.health),
                shared: Arc::clone(&self.shared),
                options: self.options,
            };
            tasks.push(tokio::spawn(follower.run(self.client.clone())).abort_handle());
        }
        let building = build(Arc::clone(&self.shared), self.options, base, publish);
        tasks.push(tokio::spawn(building).abort_handle());
    }

    /// The source of pods' pull secrets.
    pub fn pull_secrets(&self) -> Arc<ApiPullSecrets> {
        Arc::clone(&self.pull_secrets)
    }

    /// Whether the first snapshot was published; else which watch is missing and why. A watch that is lost later does not
    /// change that, since the last snapshot stays in use.
    pub fn ready(&self) -> Result<(), String> {
        if self.shared.published.load(Ordering::Acquire) {
            return Ok(());
        }
        let kinds = self.shared.kinds.iter();
        let missing: Vec<_> = kinds.filter_map(|kept| kept.health.missing()).collect();
        if missing.is_empty() {
            return Err("waiting for the cluster: the first snapshot is being built".into());
        }
        Err(format!("waiting for the cluster: {}", missing.join("; ")))
    }

    /// Health of each watch, in the order of [`Watched::ALL`].
    pub fn reports(&self) -> Vec<WatchHealth> {
        self.shared.kinds.iter().map(|kept| kept.health.report()).collect()
    }

    /// Number of published snapshots.
    pub fn rebuilds(&self) -> u64 {
        self.shared.rebuilds.load(Ordering::Relaxed)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            task.abort();
        }
    }
}

/// Publishes a snapshot after each burst of changes.
async fn build(
    shared: Arc<Shared>,
    options: WatchOptions,
    base: Base,
    publish: impl Fn(Snapshot) + Send + Sync,
) {
    let mut builder = snapshot::Builder::new(base);
    loop {
        shared.wake.notified().await;
        if !shared.all_synced() {
            continue;
        }
        gather(&shared, &options).await;
        let changes = shared.take_changes();
        let started = Instant::now();
        let built = builder.build(&shared, &changes);
        publish(built);
        shared.published.store(true, Ordering::Release);
        let rebuilds = shared.rebuilds.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(rebuilds, ?changes, took = ?started.elapsed(), "published a snapshot of the cluster");
    }
}

/// Waits until there are no further changes for a moment, within a time limit.
async fn gather(shared: &Shared, options: &WatchOptions) {
    let end = Instant::now() + options.longest_gathering;
    loop {
        let quiet = (Instant::now() + options.quiet).min(end);
        if tokio::time::timeout_at(quiet, shared.wake.notified()).await.is_err() {
            return;
        }
    }
}
