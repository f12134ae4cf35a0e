//! The watches of one cluster, and the task that builds a snapshot after each burst of changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::follow;
use super::health::{Health, WatchHealth};
use super::options::WatchOptions;
use super::resource::Watched;
use super::secrets::{Account, ApiPullSecrets};
use super::shared::{Kept, Shared};
use super::snapshot::{Base, Builder, Snapshot};
use crate::shares::beside;

/// The watches of one cluster. Dropping it stops them.
pub struct Watching {
    client: Client,
    options: WatchOptions,
    pub(super) shared: Arc<Shared>,
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

    /// Prepares the watches of a gate with this ServiceAccount, which messages about missing rights name.
    pub fn with_account(client: Client, options: WatchOptions, account: Account) -> Self {
        let kept = |watched| Kept { store: Arc::default(), health: Arc::new(Health::new(watched)) };
        let shared = Shared {
            kinds: Watched::ALL
                .into_iter()
                .filter(|watched| options.sizes || !watched.is_of_sizes())
                .map(kept)
                .collect(),
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
        let kinds = self.shared.kinds.iter().filter(|kept| !kept.health.watched().is_of_sizes());
        let missing: Vec<_> = kinds.filter_map(|kept| kept.health.missing()).collect();
        if missing.is_empty() {
            return Err("waiting for the cluster: the first snapshot is being built".into());
        }
        Err(format!("waiting for the cluster: {}", missing.join("; ")))
    }

    /// Health of each watch that there is, in the order of [`Watched::ALL`].
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

/// Publishes a snapshot after each burst of changes that change it.
async fn build(
    shared: Arc<Shared>,
    options: WatchOptions,
    base: Base,
    publish: impl Fn(Snapshot) + Send + Sync,
) {
    let mut builder = Builder::new(base);
    let mut sizes_from = Instant::now();
    loop {
        shared.wake.notified().await;
        if !shared.all_synced() {
            continue;
        }
        gather(&shared, &options).await;
        hold_back(&shared, &options, sizes_from).await;
        let is_of_sizes = shared.only_sizes_changed();
        let changes = shared.take_changes();
        let started = Instant::now();
        // It goes through all objects of a kind, and other tasks of this thread answer reviews.
        let Some(built) = beside(|| builder.build(&shared, &changes)) else { continue };
        if is_of_sizes {
            sizes_from = started + options.sizes_interval;
        }
        beside(|| publish(built));
        shared.published.store(true, Ordering::Release);
        let rebuilds = shared.rebuilds.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(rebuilds, ?changes, took = ?started.elapsed(), "published a snapshot of the cluster");
    }
}

/// Where nothing but sizes has changed, waits until a snapshot for these is due, or something else has changed too.
async fn hold_back(shared: &Shared, options: &WatchOptions, due: Instant) {
    while shared.only_sizes_changed() {
        if tokio::time::timeout_at(due, shared.wake.notified()).await.is_err() {
            return;
        }
        if !shared.only_sizes_changed() {
            gather(shared, options).await;
        }
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A runtime with one thread: without another place for the work the second task could never say anything.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_of_the_thread_go_on_while_a_snapshot_is_made() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = super::super::client::bounded(config, Duration::from_secs(1)).unwrap();
        let watching = Watching::new(client, WatchOptions::default());
        for kept in &watching.shared.kinds {
            kept.health.note_listed();
        }
        watching.shared.wake.notify_one();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let publish = move |_: Snapshot| {
            let (say, hear) = mpsc::channel();
            tokio::spawn(async move { say.send(()) });
            let _ = tell.send(hear.recv_timeout(Duration::from_secs(30)));
        };
        let building = build(Arc::clone(&watching.shared), watching.options, Base::default(), publish);
        let building = tokio::spawn(building);
        assert_eq!(told.recv().await, Some(Ok(())));
        building.abort();
    }
}
