//! Starts what one replica at a time writes into the cluster besides certificates, as far as it is configured: the reports about what runs,
//! and what images use.

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
use crate::learn::Learner;
use crate::register::{Election, Registration};
use crate::reports::Reporter;

/// The tasks that write, and the Lease by which they do.
#[derive(Debug)]
pub struct Writers {
    tasks: Vec<JoinHandle<()>>,
    /// Where the gate needs the Lease for nothing else.
    election: Option<Election>,
}

/// Starts to write, once `is_synced` says that the cluster is known.
pub fn start(
    settings: &Settings,
    client: Option<&Client>,
    registration: Option<&Registration>,
    gate: &Arc<Gate>,
    (metrics, is_synced): (&Arc<Metrics>, Arc<AtomicBool>),
) -> Result<Option<Writers>, Error> {
    let (reports, learn) = (settings.file.reports, settings.file.sizing.learn);
    let Some(client) = client.filter(|_| reports.enabled || learn.enabled) else { return Ok(None) };
    let namespace = own_namespace(client);
    let plan = settings.file.kubernetes.plan(&namespace, &settings.file.server.cert_dir)?;
    let request = plan.timing.request();
    let election = registration.is_none().then(|| {
        let of_lease = (plan.timing, Arc::clone(metrics));
        Election::start(client, &namespace, plan.lease_name, &instance(), of_lease)
    });
    let leadership = registration.map(Registration::leadership);
    let leadership = leadership.or_else(|| election.as_ref().map(Election::leadership));
    let Some(leadership) = leadership else { return Ok(None) };
    let mut tasks = Vec::new();
    if reports.enabled {
        let (leadership, is_synced) = (leadership.clone(), Arc::clone(&is_synced));
        let terms = (reports, request);
        let reporter = Reporter::new(client.clone(), Arc::clone(gate), leadership, is_synced, terms);
        tasks.push(tokio::spawn(reporter.run()));
    }
    if learn.enabled {
        let learner = Learner::new(client.clone(), Arc::clone(gate), leadership, is_synced, (learn, request));
        tasks.push(tokio::spawn(learner.run()));
    }
    Ok(Some(Writers { tasks, election }))
}

/// Longest time for the tasks to end, and then to release the Lease.
const RELEASE: Duration = Duration::from_secs(2);

impl Writers {
    /// Stops all writes and then releases the Lease, if it is for these alone. A Lease whose writers do not end is left to expire.
    pub async fn close(self) {
        let Self { tasks, election } = self;
        tasks.iter().for_each(JoinHandle::abort);
        let have_ended = timeout(RELEASE, futures::future::join_all(tasks)).await.is_ok();
        if let Some(election) = election.filter(|_| have_ended) {
            let _ = timeout(RELEASE, election.close()).await;
        }
    }
}
