//! The pods and templates of a cluster.

use std::time::Instant;

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

/// Why the rest of the objects of a kind is not there.
const TOO_MANY: &str = "the cluster has more pods and templates than this page takes; `wasmgate scan` reads all of them, and with \
     `--namespace` those of one namespace";

/// How fast a cluster is read.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Objects that are handed over, and so judged, together.
    pub together: usize,
    /// Whether to rest after each page for as long as it took, since others use the same machine and the same API server.
    pub rests: bool,
    /// Most objects that are read at all.
    pub most: usize,
}

impl Pace {
    /// For a command, whose user waits for it.
    pub const FAST: Self = Self { together: usize::MAX, rests: false, most: usize::MAX };
}

/// Gives every pod and template to the collector, a page at a time. A kind that cannot be listed is noted; it is an error if
/// none can.
pub async fn read(
    client: &Client,
    namespaces: &[String],
    collector: &mut Collector,
    described: &Kinds,
    mut pace: Pace,
) -> Result<(), Error> {
    let (resources, unknown) = kinds::resources(client, described).await;
    for error in &unknown {
        note(collector, error);
    }
    let scopes: Vec<Option<String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
    let (mut listed, mut failed) = (false, None);
    for resource in resources {
        for scope in &scopes {
            match list(client, Pages::new(resource.clone(), scope.clone()), collector, &mut pace).await {
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

async fn list(
    client: &Client,
    mut pages: Pages,
    collector: &mut Collector,
    pace: &mut Pace,
) -> Result<(), watch::Error> {
    let ApiResource { group, version, kind, .. } = pages.resource().clone();
    let kind = GroupVersionKind { group, version, kind };
    let mut began = Instant::now();
    while let Some(mut objects) = pages.next(client).await? {
        let left = pace.most.saturating_sub(objects.len());
        if objects.len() > std::mem::replace(&mut pace.most, left) {
            collector.note(kind.kind.clone(), TOO_MANY.to_owned(), ManifestPlace::default());
            return Ok(());
        }
        let found = |object: Value| {
            let name =
                object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            FoundObject { object, kind: kind.clone(), name, place: ManifestPlace::default() }
        };
        while !objects.is_empty() {
            let rest = objects.split_off(objects.len().min(pace.together));
            let batch = std::mem::replace(&mut objects, rest);
            collector.take(batch.into_iter().map(found).collect()).await;
        }
        if pace.rests {
            tokio::time::sleep(began.elapsed()).await;
            began = Instant::now();
        }
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
