//! The pods and templates of a cluster.

use std::time::Instant;

use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;
use serde_json::value::RawValue;

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

/// Why there is no verdict on an object.
const UNREADABLE: &str = "it could not be read: its parts are nested too deeply";

/// Most bytes of a page of more than one object.
const PAGE_BYTES: usize = 8 << 20;

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
    if pace.rests {
        pages = pages.growing();
    }
    let mut began = Instant::now();
    while let Some(objects) = pages.next_raw(client, PAGE_BYTES).await? {
        let left = pace.most.saturating_sub(objects.len());
        if objects.len() > std::mem::replace(&mut pace.most, left) {
            collector.note(kind.kind.clone(), TOO_MANY.to_owned(), ManifestPlace::default());
            return Ok(());
        }
        let mut objects = objects.into_iter().peekable();
        while objects.peek().is_some() {
            let mut batch = Vec::new();
            for text in objects.by_ref().take(pace.together) {
                if let Some(object) = found(&pages, &kind, &text) {
                    batch.push(object);
                } else {
                    collector.note(kind.kind.clone(), UNREADABLE.to_owned(), ManifestPlace::default());
                }
            }
            collector.take(batch).await;
        }
        if pace.rests {
            tokio::time::sleep(began.elapsed()).await;
            began = Instant::now();
        }
    }
    Ok(())
}

/// An object of a page; `None` if it is nested so deeply that it is not read.
fn found(pages: &Pages, kind: &GroupVersionKind, text: &RawValue) -> Option<FoundObject> {
    let mut object: Value = serde_json::from_str(text.get()).ok()?;
    pages.complete(&mut object);
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(FoundObject { object, kind: kind.clone(), name, place: ManifestPlace::default() })
}

fn note(collector: &mut Collector, error: &watch::Error) {
    let (what, reason) = match error {
        watch::Error::ListKind { name, message } => (name.clone(), message.clone()),
        other => ("the cluster".to_owned(), other.to_string()),
    };
    collector.note(what, reason, ManifestPlace::default());
}
