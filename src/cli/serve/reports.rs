//! Starts the reports about what runs, if configured.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kube::Client;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::place::{instance, own_namespace};
use crate::admission::Gate;
use crate::audit::Metrics;
use crate::cli::Error;
use crate::config::Settings;
use crate::register::{Election, Registration};
use crate::reports::Reporter;

/// The task that writes reports, and the Lease by which it does.
#[derive(Debug)]
pub struct Reporting {
    task: JoinHandle<()>,
    /// Where the gate needs the Lease for nothing else.
    election: Option<Election>,
}

/// Starts to write reports, once `is_synced` says that the cluster is known.
pub fn start(
    settings: &Settings,
    client: Option<&Client>,
    registration: Option<&Registration>,
    gate: &Arc<Gate>,
    (metrics, is_synced): (&Arc<Metrics>, Arc<AtomicBool>),
) -> Result<Option<Reporting>, Error> {
    let options = settings.file.reports;
    let Some(client) = client.filter(|_| options.enabled) else { return Ok(None) };
    let namespace = own_namespace(client);
    let plan = settings.file.kubernetes.plan(&namespace, &settings.file.server.cert_dir)?;
    let terms = (options, plan.timing.request());
    let election = registration.is_none().then(|| {
        let of_lease = (plan.timing, Arc::clone(metrics));
        Election::start(client, &namespace, plan.lease_name, &instance(), of_lease)
    });
    let leadership = registration.map(Registration::leadership);
    let leadership = leadership.or_else(|| election.as_ref().map(Election::leadership));
    let Some(leadership) = leadership else { return Ok(None) };
    let reporter = Reporter::new(client.clone(), Arc::clone(gate), leadership, is_synced, terms);
    Ok(Some(Reporting { task: tokio::spawn(reporter.run()), election }))
}

/// Longest time for the task to end, and then to release the Lease.
const RELEASE: Duration = Duration::from_secs(2);

impl Reporting {
    /// Stops all writes and then releases the Lease, if it is for the reports alone. A Lease whose writer does not end is left to expire.
    pub async fn close(self) {
        let Self { task, election } = self;
        task.abort();
        let has_ended = timeout(RELEASE, task).await.is_ok();
        if let Some(election) = election.filter(|_| has_ended) {
            let _ = timeout(RELEASE, election.close()).await;
        }
    }
}
