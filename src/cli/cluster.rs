//! What commands read of a cluster: the state that verdicts depend on.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch as channel;
use tokio::time::{Instant, sleep};

use super::Error;
use crate::admission::State;
use crate::watch::{ApiPullSecrets, Base, Snapshot, WatchOptions, Watching};

/// Longest wait for RuntimeClasses, LimitRanges, namespaces, accounts and grants.
const SNAPSHOT_WITHIN: Duration = Duration::from_mins(1);

/// Errors of one watch after which it is given up: a right is missing, or the API server is away.
const MOST_ERRORS: u64 = 3;

/// How often it is looked whether they are there.
const INTERVAL: Duration = Duration::from_millis(50);

/// The state with the cluster's RuntimeClasses, LimitRanges, namespaces, grants and exceptions, as `serve` watches them; and
/// the source of pull secrets.
pub async fn state(state: State, client: &Client) -> Result<(State, Arc<ApiPullSecrets>), Error> {
    let watching = Watching::new(client.clone(), WatchOptions::default());
    let base = Base { grants: Arc::clone(&state.grants), exceptions: Arc::clone(&state.exceptions) };
    let (sender, receiver) = channel::channel(None);
    watching.start(base, move |snapshot| drop(sender.send(Some(snapshot))));
    let Snapshot { cluster, grants, exceptions } = snapshot(&watching, &receiver).await?;
    let mut state = state.with_cluster(cluster);
    (state.grants, state.exceptions) = (grants, exceptions);
    Ok((state, watching.pull_secrets()))
}

async fn snapshot(
    watching: &Watching,
    receiver: &channel::Receiver<Option<Snapshot>>,
) -> Result<Snapshot, Error> {
    let deadline = Instant::now() + SNAPSHOT_WITHIN;
    loop {
        if let Some(snapshot) = receiver.borrow().as_ref() {
            return Ok(snapshot.clone());
        }
        let failed = watching.reports().iter().any(|report| !report.synced && report.errors >= MOST_ERRORS);
        if failed || Instant::now() > deadline {
            let message = watching.ready().err().unwrap_or_default();
            return Err(Error::ReadCluster { message });
        }
        sleep(INTERVAL).await;
    }
}
