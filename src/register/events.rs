//! Events about refused workloads (`events.k8s.io/v1`). Each replica writes its own, within limits.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, Patch};
use serde_json::json;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};

use super::{EventLimits, FIELD_MANAGER, Refused, task};
use crate::audit::event::{Admit, EventDraft, Limiter, draft};
use crate::audit::{Metrics, Record};
use crate::text;

/// `reportingController` of Events: a qualified name.
const CONTROLLER: &str = "wasmgate.dev/gate";

/// Time limit for one write.
const WRITE: Duration = Duration::from_secs(5);

/// Writes the Events of an outbox.
pub struct Sender {
    client: Client,
    limits: EventLimits,
    limiter: Limiter,
    /// Name of this replica.
    instance: String,
    metrics: Arc<Metrics>,
    told: Option<String>,
}

impl Sender {
    /// A sender for the replica named `instance`.
    pub fn new(client: Client, limits: EventLimits, instance: &str, metrics: Arc<Metrics>) -> Self {
        let per_object = Duration::try_from(limits.per_object).unwrap_or_default();
        let limiter = Limiter::new(per_object, limits.per_minute);
        // At most 128 characters, and not empty (`kubernetes:pkg/apis/core/validation/events.go`).
        let instance: String = instance.chars().take(120).collect();
        let instance = if instance.is_empty() { "wasmgate".into() } else { instance };
        Self { client, limits, limiter, instance, metrics, told: None }
    }

    /// Writes until the outbox is closed.
    pub async fn run(mut self, mut records: Receiver<Record>) {
        let start = Instant::now();
        while let Some(record) = records.recv().await {
            let Some(draft) = drafted(record, self.limits.warnings).await else { continue };
            match self.limiter.admit(&draft, start.elapsed()) {
                Admit::Write { count } => self.write(&draft, count).await,
                Admit::Count => self.metrics.event("counted"),
                Admit::Limited => self.metrics.event("limited"),
            }
        }
    }

    async fn write(&mut self, draft: &EventDraft, count: u32) {
        let problem = match timeout(WRITE, self.try_write(draft, count)).await {
            Ok(Ok(())) => {
                self.told = None;
                return self.metrics.event("written");
            }
            Ok(Err(error)) if error.is_forbidden() => {
                "forbidden; bind ClusterRole `wasmgate` of the manifests to this service account: it allows create and \
                 patch on events of `events.k8s.io`"
                    .to_owned()
            }
            Ok(Err(error)) => super::chain(&error),
            Err(_) => "the API server did not answer in time".into(),
        };
        self.metrics.event("failed");
        if self.told.as_ref() != Some(&problem) {
            tracing::warn!(%problem, "cannot write an event");
            self.told = Some(problem);
        }
    }

    /// The first occurrence creates an Event. Later ones increase its count, or create it again after it has expired.
    async fn try_write(&self, draft: &EventDraft, count: u32) -> Result<(), kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &draft.namespace);
        let name = self.name(draft);
        if count > 1 {
            match self.count_up(&api, &name, count).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other,
            }
        }
        let how = task::written_by(FIELD_MANAGER);
        match api.create(&how, &self.event(draft, name.clone())).await {
            Err(error) if error.is_conflict() => self.count_up(&api, &name, count.saturating_add(1)).await,
            other => other.map(drop),
        }
    }

    async fn count_up(&self, api: &Api<Event>, name: &str, count: u32) -> Result<(), kube::Error> {
        // The API server requires a series count of at least two.
        let series = json!({"count": count.max(2), "lastObservedTime": MicroTime(Timestamp::now())});
        let how = task::patched_by(FIELD_MANAGER);
        api.patch(name, &how, &Patch::Merge(json!({"series": series}))).await.map(drop)
    }

    /// Name of the Event: the same for every occurrence, so that the sender need not remember it.
    fn name(&self, draft: &EventDraft) -> String {
        let text = format!("{:?}", (&self.instance, &draft.regarding, draft.reason, &draft.note));
        format!("wasmgate.{:016x}", text::short_digest(&text))
    }

    fn event(&self, draft: &EventDraft, name: String) -> Event {
        let about = draft.regarding.clone();
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(draft.namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(self.instance.clone()),
            action: Some("Admission".into()),
            reason: Some(draft.reason.into()),
            type_: Some("Warning".into()),
            note: Some(draft.note.clone()),
            regarding: Some(ObjectReference {
                api_version: Some(about.api_version),
                kind: Some(about.kind),
                name: Some(about.name),
                namespace: Some(draft.namespace.clone()),
                uid: about.uid.filter(|uid| !uid.is_empty()),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}

/// The Event about a decision. Off the threads that answer: both objects are parsed, and their values looked for in what rules said.
async fn drafted(record: Record, warnings: bool) -> Option<EventDraft> {
    let drafted = tokio::task::spawn_blocking(move || draft(&record, warnings)).await;
    drafted.unwrap_or_else(|error| {
        tracing::error!(%error, "cannot draft an event");
        None
    })
}
