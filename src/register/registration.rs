//! The tasks that keep a certificate in the cluster, and the one that this replica serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Error;
use super::leader::{Election, Leadership};
use super::options::CertificatePlan;
use super::secret::SecretFollower;
use super::writer::Writer;
use crate::audit::Metrics;

/// Manages certificates in the background until it is closed.
#[derive(Debug)]
pub struct Registration {
    tasks: JoinSet<()>,
    election: Election,
    state: watch::Receiver<Result<(), String>>,
    plan: CertificatePlan,
    cert: PathBuf,
    key: PathBuf,
}

impl Registration {
    /// Starts the background tasks. `me` is the name of this replica, which need not be unique.
    pub fn start(client: &Client, plan: CertificatePlan, me: &str, metrics: &Arc<Metrics>) -> Self {
        let namespace = &plan.namespace;
        let of_lease = (plan.timing, Arc::clone(metrics));
        let election = Election::start(client, namespace, plan.lease_name.clone(), me, of_lease);
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let changed = Arc::new(Notify::new());
        let follower = SecretFollower::new(secrets.clone(), &plan, Arc::clone(&changed));
        let (cert, key, state) = (follower.cert(), follower.key(), follower.state());
        let writer = Writer::new(client, secrets, &plan, election.leadership(), Arc::clone(metrics), changed);
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.run());
        for watcher in writer.watchers() {
            tasks.spawn(watcher);
        }
        tasks.spawn(writer.run());
        Self { tasks, election, state, plan, cert, key }
    }

    /// Waits until there is a certificate to serve: its chain and its key.
    pub async fn certificate(&mut self) -> Result<(PathBuf, PathBuf), Error> {
        let bound = self.plan.start_timeout;
        let arrived =
            timeout(bound, self.state.wait_for(Result::is_ok)).await.is_ok_and(|state| state.is_ok());
        if arrived {
            return Ok((self.cert.clone(), self.key.clone()));
        }
        let problem = self.state.borrow().clone().err().unwrap_or_default();
        let (namespace, secret) = (self.plan.namespace.clone(), self.plan.secret.clone());
        Err(Error::AwaitCertificate { namespace, secret, seconds: bound.as_secs(), problem })
    }

    /// How often the server should check the files to serve a new certificate well within the overlap.
    pub fn reload_every(&self) -> Duration {
        (self.plan.rotation.overlap / 8).min(Duration::from_secs(5))
    }

    /// Whether this process is the writer, for others of its tasks.
    pub fn leadership(&self) -> Leadership {
        self.election.leadership()
    }

    /// Stops all writes and then releases the Lease.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
        self.election.close().await;
    }
}
