//! The writer: maintains the Secret, and the CA's certificate in both webhook configurations.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::leader::Leadership;
use super::{CertificatePlan, FIELD_MANAGER, Refused, Right, bundle, secret, task};
use crate::audit::Metrics;
use crate::certs::{Holding, Step};

/// Least time between two rounds, so that another client that reverts every repair does not cause a busy loop.
const MIN_PAUSE: Duration = Duration::from_millis(500);

/// One of the two webhook configurations.
#[derive(Debug, Clone)]
struct Target {
    kind: &'static str,
    resource: &'static str,
    name: String,
    api: Api<DynamicObject>,
}

impl Target {
    fn all(client: &Client, plan: &CertificatePlan) -> Vec<Self> {
        let mutating = ApiResource::erase::<MutatingWebhookConfiguration>(&());
        let validating = ApiResource::erase::<ValidatingWebhookConfiguration>(&());
        let target = |kind, resource, name: &Option<String>, what: &ApiResource| {
            Some(Self { kind, resource, name: name.clone()?, api: Api::all_with(client.clone(), what) })
        };
        let (one, two) = (&plan.webhooks.mutating, &plan.webhooks.validating);
        [
            target("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", one, &mutating),
            target("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", two, &validating),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn right(&self) -> Right<'_> {
        Right {
            verbs: "get, list, watch and patch",
            resource: self.resource,
            name: &self.name,
            cluster: true,
        }
    }
}

/// State of the `caBundle` in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BundleState {
    /// It has the current bundle.
    Current,
    /// The bundle was just written.
    Written,
    /// The configuration does not exist, so no webhook is called through it.
    Missing,
    /// It has another bundle.
    Outdated,
}

/// Maintains Secret and configurations while this process leads.
#[derive(Debug)]
pub struct Writer {
    secrets: Api<Secret>,
    plan: CertificatePlan,
    targets: Vec<Target>,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    /// Notified when the Secret was written.
    changed: Arc<Notify>,
    /// Wakes the writer when a configuration was changed.
    wake: Arc<Notify>,
    /// The bundle that every configuration has, and since when.
    published: Option<(String, SystemTime)>,
    /// The last logged problem per subject, so that it is not logged again every round.
    told: BTreeMap<String, String>,
}

impl Writer {
    /// A writer that writes only while `leadership` holds.
    pub fn new(
        client: &Client,
        secrets: Api<Secret>,
        plan: &CertificatePlan,
        leadership: Leadership,
        metrics: Arc<Metrics>,
        changed: Arc<Notify>,
    ) -> Self {
        let targets = Target::all(client, plan);
        let wake = Arc::new(Notify::new());
        let (published, told) = (None, BTreeMap::new());
        Self { secrets, plan: plan.clone(), targets, leadership, metrics, changed, wake, published, told }
    }

    /// One task for each configuration, which wakes the writer when it changes.
    pub fn watchers(&self) -> Vec<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let watch = |target: &Target| {
            let (target, wake) = (target.clone(), Arc::clone(&self.wake));
            let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(wake_on_change(target, wake));
            task
        };
        self.targets.iter().map(watch).collect()
    }

    /// Repeats writing what is due; never returns.
    pub async fn run(mut self) {
        loop {
            if self.leadership.holds() {
                self.round().await;
            } else {
                self.published = None;
            }
            sleep(MIN_PAUSE.min(self.plan.look_every())).await;
            tokio::select! {
                () = sleep(self.plan.look_every()) => {}
                () = self.wake.notified() => {}
                () = self.leadership.changed() => {}
            }
        }
    }

    async fn round(&mut self) {
        let held = match timeout(self.plan.timing.request(), self.keep_secret()).await {
            Ok(Ok(held)) => held,
            Ok(Err(problem)) => return self.tell("secret", &problem),
            Err(_) => return self.tell("secret", "the API server did not answer in time"),
        };
        self.told.remove("secret");
        self.metrics.set_ca_expiry(held.ca_expires().and_then(|at| Timestamp::from_second(at).ok()));
        let bundle = held.bundle();
        if !bundle.is_empty() {
            self.publish(&bundle).await;
        }
    }

    // === the Secret ===

    /// Does the step that is due, and returns the content of the Secret after it.
    async fn keep_secret(&mut self) -> Result<Holding, String> {
        let name = self.plan.secret.clone();
        let explain = |error: kube::Error| secret::right(&name).explain(&error);
        let old = self.secrets.get_opt(&name).await.map_err(explain)?;
        let now = SystemTime::now();
        let data = old.as_ref().map(secret::data).unwrap_or_default();
        let holding = Holding::read(&data);
        let since =
            self.published.as_ref().filter(|(bundle, _)| *bundle == holding.bundle()).map(|(_, at)| *at);
        let step = holding.decide(now, since, &self.plan.rotation);
        let after = holding.after(step, now, &self.plan.rotation).map_err(|error| super::chain(&error))?;
        let Some(after) = after else { return Ok(holding) };
        // Making keys takes a moment, in which the term may have ended.
        if !self.leadership.holds() {
            return Err("this replica is not the writer any more".into());
        }
        match secret::write(&self.secrets, &name, &secret::with(&name, old, &after)).await {
            Ok(_) => self.wrote(step, &holding),
            Err(error) if error.is_conflict() => return Err("another client wrote it meanwhile".into()),
            Err(error) => return Err(explain(error)),
        }
        Ok(Holding::read(&after))
    }

    fn wrote(&self, step: Step, before: &Holding) {
        let (step, because, secret) = (step.as_str(), step.because(), &self.plan.secret);
        if before.problems().is_empty() {
            tracing::info!(%secret, step, because, "wrote certificates");
        } else {
            let problems = before.problems().join("; ");
            tracing::warn!(%secret, step, because, %problems, "repaired certificates that were damaged or from elsewhere");
        }
        self.metrics.certificate_step(step);
        self.changed.notify_one();
    }

    // === the webhook configurations ===

    async fn publish(&mut self, bundle: &str) {
        let mut everywhere = true;
        for target in self.targets.clone() {
            let left = timeout(self.plan.timing.request(), self.mend(&target, bundle)).await;
            let left = left.unwrap_or_else(|_| Err("the API server did not answer in time".into()));
            match left {
                Ok(BundleState::Current | BundleState::Written) => drop(self.told.remove(target.kind)),
                Ok(BundleState::Missing) => {
                    self.tell(target.kind, "it does not exist; apply the manifests");
                }
                Ok(BundleState::Outdated) => everywhere = false,
                Err(problem) => {
                    everywhere = false;
                    self.metrics.ca_bundle_write("failed");
                    self.tell(target.kind, &problem);
                }
            }
        }
        let known = self.published.as_ref().is_some_and(|(known, _)| known == bundle);
        if !everywhere {
            self.published = None;
        } else if !known {
            self.published = Some((bundle.to_owned(), SystemTime::now()));
        }
    }

    async fn mend(&mut self, target: &Target, bundle: &str) -> Result<BundleState, String> {
        let explain = |error: kube::Error| target.right().explain(&error);
        let Some(found) = target.api.get_opt(&target.name).await.map_err(explain)? else {
            return Ok(BundleState::Missing);
        };
        let repair = bundle::repair(&found.data, bundle);
        if repair.ours == 0 {
            return Err(format!("no webhook in it has a name that ends in `{}`", bundle::SUFFIX));
        }
        if repair.wrong == 0 {
            return Ok(BundleState::Current);
        }
        if !self.leadership.holds() {
            return Ok(BundleState::Outdated);
        }
        let patch: json_patch::Patch =
            serde_json::from_value(repair.patch.into()).map_err(|error| error.to_string())?;
        let how = task::patched_by(FIELD_MANAGER);
        target.api.patch(&target.name, &how, &Patch::Json::<()>(patch)).await.map_err(explain)?;
        self.metrics.ca_bundle_write("written");
        tracing::info!(kind = target.kind, name = %target.name, webhooks = repair.wrong, "wrote the caBundle");
        Ok(BundleState::Written)
    }

    fn tell(&mut self, about: &str, problem: &str) {
        if self.told.get(about).is_none_or(|told| told != problem) {
            tracing::warn!(about, problem, "cannot maintain certificates");
            self.told.insert(about.to_owned(), problem.to_owned());
        }
    }
}

async fn wake_on_change(target: Target, wake: Arc<Notify>) {
    let only = watcher::Config::default().fields(&format!("metadata.name={}", target.name));
    let mut changes = Box::pin(watcher(target.api.clone(), only).default_backoff());
    let mut told = false;
    while let Some(change) = changes.next().await {
        match change {
            Ok(_) => wake.notify_one(),
            Err(error) if !told => {
                told = true;
                tracing::warn!(kind = target.kind, name = %target.name, %error, "cannot watch it, polling instead");
            }
            Err(_) => {}
        }
    }
}
