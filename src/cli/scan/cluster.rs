//! The pods and templates of a cluster.

use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;

use crate::cli::Error;
use crate::review::GroupVersionKind;
use crate::scan::collect::{Collector, FoundObject};
use crate::scan::kinds;
use crate::scan::model::ManifestPlace;
use crate::watch::{self, Pages};
use crate::workload::Kinds;

/// Gives every pod and template to the collector, a page at a time. A kind that cannot be listed is noted; it is an error if
/// none can.
pub async fn read(
    client: &Client,
    namespaces: &[String],
    collector: &mut Collector,
    described: &Kinds,
) -> Result<(), Error> {
    let (resources, unknown) = kinds::resources(client, described).await;
    unknown.iter().for_each(|error| note(collector, error));
    let scopes: Vec<Option<String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
    let (mut listed, mut failed) = (false, None);
    for resource in resources {
        for scope in &scopes {
            match list(client, Pages::new(resource.clone(), scope.clone()), collector).await {
                Ok(()) => listed = true,
                Err(error) => {
                    note(collector, &error);
                    failed = Some(error);
                }
            }
        }
    }
    match failed {
        Some(error) if !listed => Err(error.into()),
        _ => Ok(()),
    }
}

async fn list(client: &Client, mut pages: Pages, collector: &mut Collector) -> Result<(), watch::Error> {
    let ApiResource { group, version, kind, .. } = pages.resource().clone();
    let kind = GroupVersionKind { group, version, kind };
    while let Some(objects) = pages.next(client).await? {
        let found = |object: Value| {
            let name =
                object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            FoundObject { object, kind: kind.clone(), name, place: ManifestPlace::default() }
        };
        collector.take(objects.into_iter().map(found).collect()).await;
    }
    Ok(())
}

fn note(collector: &mut Collector, error: &watch::Error) {
    let (what, reason) = match error {
        watch::Error::ListKind { name, message } => (name.clone(), message.clone()),
        other => ("the cluster".to_owned(), other.to_string()),
    };
    collector.note(what, reason, ManifestPlace::default());
}
