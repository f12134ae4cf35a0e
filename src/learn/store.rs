//! The objects of the cluster that hold what is known.

use std::time::Duration;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::ledger::Due;
use crate::register::{Leadership, task};
use crate::usage::{API_VERSION, KIND, UsageKey};

/// Field manager of the objects in `metadata.managedFields`.
const FIELD_MANAGER: &str = "wasmgate-usage";

/// Longest time limit for one request.
const REQUEST: Duration = Duration::from_secs(5);

/// Why an object was not written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Another client has changed, made or deleted it, so it has to be read again.
    Conflict,
    /// In words.
    Problem(String),
}

/// The kind of the objects.
pub fn resource() -> ApiResource {
    ApiResource {
        group: "wasmgate.dev".into(),
        version: "v1alpha1".into(),
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        plural: "wasmusages".into(),
    }
}

/// Writes and deletes objects while this replica is the writer.
pub struct Store {
    api: Api<DynamicObject>,
    leadership: Leadership,
    /// Time limit for one request.
    request: Duration,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Store {
    /// A request takes no longer than `request`, so that it ends within the term in which it began.
    pub fn new(client: Client, leadership: Leadership, request: Duration) -> Self {
        Self { api: Api::all_with(client, &resource()), leadership, request: request.min(REQUEST) }
    }

    /// Writes an object, and returns its version.
    pub async fn write(&self, due: &Due) -> Result<String, Failure> {
        let name = due.key.object_name();
        let mut object = serde_json::to_value(&due.object).unwrap_or_default();
        if let Some(fields) = object.as_object_mut() {
            fields.insert("apiVersion".into(), json!(API_VERSION));
            fields.insert("kind".into(), json!(KIND));
            fields.insert("metadata".into(), metadata(&name, due.version.as_deref()));
        }
        let object: DynamicObject =
            serde_json::from_value(object).map_err(|error| Failure::Problem(error.to_string()))?;
        self.leadership.check().map_err(Failure::Problem)?;
        let how = task::written_by(FIELD_MANAGER);
        let written = if due.version.is_some() {
            self.ask("update", self.api.replace(&name, &how, &object)).await?
        } else {
            self.ask("create", self.api.create(&how, &object)).await?
        };
        Ok(written.metadata.resource_version.unwrap_or_default())
    }

    /// The object about an image, if there is one.
    pub async fn read(&self, key: &UsageKey) -> Result<Option<DynamicObject>, Failure> {
        let name = key.object_name();
        self.ask("get", self.api.get_opt(&name)).await
    }

    /// Deletes the object about an image, if there is one.
    pub async fn delete(&self, key: &UsageKey) -> Result<(), Failure> {
        self.leadership.check().map_err(Failure::Problem)?;
        let (name, how) = (key.object_name(), DeleteParams::default());
        let delete = async {
            match self.api.delete(&name, &how).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            }
        };
        self.ask("delete", delete).await
    }

    async fn ask<T>(
        &self,
        verb: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.request, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure(verb, &error)),
            Err(_) => Err(Failure::Problem(task::unanswered(verb))),
        }
    }
}

/// The labels let a person list and delete all.
fn metadata(name: &str, version: Option<&str>) -> Value {
    let labels = json!({"app.kubernetes.io/name": "wasmgate", "app.kubernetes.io/managed-by": "wasmgate"});
    match version {
        Some(version) => json!({"name": name, "labels": labels, "resourceVersion": version}),
        None => json!({"name": name, "labels": labels}),
    }
}

fn failure(verb: &str, error: &kube::Error) -> Failure {
    match error {
        // 404: it was deleted meanwhile, or there is no such kind, which the next list says.
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Failure::Conflict,
        other => {
            Failure::Problem(task::explained(other, verb, ("wasmusages.wasmgate.dev", "wasmgate-sizes")))
        }
    }
}
