//! Acquires and renews the Lease: sends the requests that `lease` decides on.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::lease::{Act, Candidate, Timing};
use super::{FIELD_MANAGER, Refused, Right, labels, task};
use crate::audit::Metrics;

/// Whether this process is the writer; clones share the state.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Whether this process may start a write now.
    pub fn holds(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Why this process may not start a write now, in words.
    pub fn check(&self) -> Result<(), String> {
        let holds = self.holds();
        if holds { Ok(()) } else { Err("this replica is not the writer any more".into()) }
    }

    /// That of a writer, for a test.
    #[cfg(test)]
    pub(crate) fn held() -> Self {
        Self(watch::channel(Some(Instant::now() + Duration::from_hours(1))).1)
    }

    /// Waits for the next change; for ever once the elector is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Holds the Lease, or tries to, in the background until it is closed.
#[derive(Debug)]
pub struct Election {
    task: JoinHandle<()>,
    elector: Arc<Mutex<Elector>>,
    leadership: Leadership,
}

impl Election {
    /// Starts to try. `me` is the name of this replica, which need not be unique.
    pub fn start(
        client: &Client,
        namespace: &str,
        name: String,
        me: &str,
        (timing, metrics): (Timing, Arc<Metrics>),
    ) -> Self {
        let identity = format!("{me}_{}", uuid::Uuid::new_v4());
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let elector = Elector::new(leases, name, identity, timing, metrics);
        let leadership = elector.leadership();
        let elector = Arc::new(Mutex::new(elector));
        Self { task: tokio::spawn(Elector::run(Arc::clone(&elector))), elector, leadership }
    }

    /// The leadership of this process, for its tasks.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Releases the Lease. Call it after the last write.
    pub async fn close(self) {
        self.task.abort();
        self.elector.lock().await.release().await;
    }
}

/// Holds the Lease, or tries to.
#[derive(Debug)]
struct Elector {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    timing: Timing,
    start: Instant,
    term: watch::Sender<Option<Instant>>,
    metrics: Arc<Metrics>,
    told: Option<String>,
}

impl Elector {
    /// An elector for the Lease of this name; `me` is a name that no other process has.
    fn new(api: Api<Lease>, name: String, me: String, timing: Timing, metrics: Arc<Metrics>) -> Self {
        let candidate = Candidate::new(me, timing);
        let term = watch::Sender::new(None);
        Self { api, name, candidate, timing, start: Instant::now(), term, metrics, told: None }
    }

    /// The leadership of this process, for its other tasks.
    fn leadership(&self) -> Leadership {
        Leadership(self.term.subscribe())
    }

    /// Reads the Lease once, and creates, takes or renews it as decided.
    async fn round(&mut self) {
        let outcome = timeout(self.timing.request() * 2, self.attempt()).await;
        match outcome {
            Ok(Ok(())) => self.told = None,
            Ok(Err(error)) => self.tell(&self.right().explain(&error)),
            Err(_) => self.tell("the API server did not answer in time"),
        }
        self.publish();
    }

    async fn attempt(&mut self) -> Result<(), kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        let sent = self.start.elapsed();
        let seen = lease.as_ref().map(|lease| (version(lease), holder(lease)));
        match self.candidate.look(seen, sent) {
            Act::Wait => Ok(()),
            Act::Yield => {
                self.publish();
                tracing::warn!("another replica took over the lease, this one stops writing");
                Ok(())
            }
            Act::Create => {
                let made = self.api.create(&post(), &self.named(None)).await;
                self.won(made, sent)
            }
            Act::Take | Act::Renew => {
                let written = self.api.replace(&self.name, &post(), &self.named(lease.as_ref())).await;
                self.won(written, sent)
            }
        }
    }

    /// Notes the result of a write. A conflict is no error: another replica was faster, as the next round will see.
    fn won(&mut self, written: Result<Lease, kube::Error>, sent: Duration) -> Result<(), kube::Error> {
        match written {
            Ok(lease) => {
                if self.candidate.term(sent).is_none() {
                    tracing::info!(lease = %self.name, identity = %self.candidate.me(), "this replica is the writer now");
                }
                self.candidate.won(version(&lease), sent);
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn publish(&self) {
        let term = self.candidate.term(self.start.elapsed()).map(|until| self.start + until);
        self.metrics.set_leader(term.is_some());
        // Wake waiting tasks when leadership begins or ends, and not on each renewal.
        self.term.send_if_modified(|known| {
            let turned = known.is_some() != term.is_some();
            *known = term;
            turned
        });
    }

    fn named(&self, old: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = old.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let renewed = old.is_some_and(|old| holder(old) == self.candidate.me());
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.candidate.me().to_owned());
        spec.lease_duration_seconds = i32::try_from(self.timing.term.as_secs().max(1)).ok();
        spec.renew_time = Some(now.clone());
        if !renewed {
            spec.acquire_time = Some(now);
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
        }
        lease
    }

    /// Releases the Lease, so that other replicas need not wait until it expires. Call it after the last write.
    async fn release(&mut self) {
        self.candidate.resign();
        self.publish();
        if let Ok(Err(error)) = timeout(self.timing.request(), self.try_release()).await {
            self.tell(&self.right().explain(&error));
        }
    }

    async fn try_release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        if holder(&lease) != self.candidate.me() {
            return Ok(());
        }
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        (spec.holder_identity, spec.renew_time) = (Some(String::new()), Some(MicroTime(Timestamp::now())));
        self.api.replace(&self.name, &post(), &lease).await.map(|_| ())
    }

    fn right(&self) -> Right<'_> {
        Right { verbs: "get, create and update", resource: "leases", name: &self.name, cluster: false }
    }

    fn tell(&mut self, problem: &str) {
        if self.told.as_deref() != Some(problem) {
            tracing::warn!(lease = %self.name, problem, "cannot acquire or renew the lease");
            self.told = Some(problem.to_owned());
        }
    }

    /// Repeats [`Self::round`]; never returns.
    async fn run(elector: Arc<Mutex<Self>>) {
        loop {
            let pause = {
                let mut elector = elector.lock().await;
                elector.round().await;
                elector.timing.retry()
            };
            sleep(pause).await;
        }
    }
}

fn post() -> PostParams {
    task::written_by(FIELD_MANAGER)
}

fn version(lease: &Lease) -> &str {
    lease.metadata.resource_version.as_deref().unwrap_or_default()
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}
