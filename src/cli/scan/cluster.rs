//! The pods and templates of a cluster.

use std::iter::Peekable;
use std::time::Instant;
use std::vec::IntoIter;

use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::Error;
use crate::review::GroupVersionKind;
use crate::scan::collect::{Collector, FoundObject};
use crate::scan::model::ManifestPlace;
use crate::scan::{head, kinds};
use crate::shares::beside;
use crate::watch::{self, Pages};
use crate::workload::Kinds;

/// Why the rest of the objects of a kind is not there.
const TOO_MANY: &str = "the cluster has more pods and templates than this page takes; `wasmgate scan` reads all of them, and with \
     `--namespace` those of one namespace";

/// Why there is no verdict on an object.
const UNREADABLE: &str = "it could not be read: its parts are nested too deeply";

/// Most bytes of a page of more than one object.
const PAGE_BYTES: usize = 8 << 20;

/// How fast a cluster is read, and how much of it at a time. The users who create objects say how large these are.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Objects that are handed over, and so judged, together.
    pub together: usize,
    /// Most bytes of these as text, of more than one: as values, and with what is found of them, they take many times as much.
    pub bytes: usize,
    /// Largest object that is judged, in bytes of its text.
    pub largest: usize,
    /// What judges a larger one.
    pub cure: &'static str,
    /// Whether to rest after each page for as long as it took, since others use the same machine and the same API server.
    pub rests: bool,
    /// Most objects that are read at all.
    pub most: usize,
}

impl Pace {
    /// For a command, whose user waits for it. An API server takes requests of 3 MiB
    /// (`kubernetes:staging/src/k8s.io/apiserver/pkg/server/config.go`, `MaxRequestBodyBytes`), so a larger object is rare.
    pub const FAST: Self = Self {
        together: usize::MAX,
        bytes: 2 << 20,
        largest: 4 << 20,
        cure: "write it to a file, and ask `wasmgate explain`",
        rests: false,
        most: usize::MAX,
    };
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
    if pace.rests {
        pages = pages.growing();
    }
    let mut began = Instant::now();
    while let Some(objects) = pages.next_raw(client, PAGE_BYTES).await? {
        let left = pace.most.saturating_sub(objects.len());
        if objects.len() > std::mem::replace(&mut pace.most, left) {
            let kind = pages.resource().kind.clone();
            collector.note(kind, TOO_MANY.to_owned(), ManifestPlace::default());
            return Ok(());
        }
        let mut objects = objects.into_iter().peekable();
        while objects.peek().is_some() {
            let batch = beside(|| next_batch(&mut objects, &pages, collector, pace));
            collector.take(batch).await;
        }
        if pace.rests {
            tokio::time::sleep(began.elapsed()).await;
            began = Instant::now();
        }
    }
    Ok(())
}

/// The next objects that are judged together. What is not judged among them is gathered as that.
fn next_batch(
    objects: &mut Peekable<IntoIter<Box<RawValue>>>,
    pages: &Pages,
    collector: &mut Collector,
    pace: &Pace,
) -> Vec<FoundObject> {
    let (mut batch, mut bytes) = (Vec::new(), 0_usize);
    while batch.len() < pace.together {
        let next = objects.next_if(|text| batch.is_empty() || bytes + text.get().len() <= pace.bytes);
        let Some(text) = next else { break };
        match found(&text, pages, pace) {
            (object, None) => {
                bytes += text.get().len();
                batch.push(object);
            }
            (object, Some(reason)) => collector.leave(object, reason),
        }
    }
    batch
}

/// An object of a page; with no more than its head, and the reason, if it is not judged.
fn found(text: &RawValue, pages: &Pages, pace: &Pace) -> (FoundObject, Option<String>) {
    let size = text.get().len();
    let too_large = (size > pace.largest).then(|| {
        let Pace { largest, cure, .. } = pace;
        format!(
            "it has {} KiB, and objects of more than {} KiB are not judged here; {cure}",
            size >> 10,
            largest >> 10
        )
    });
    let read: Option<Value> = if too_large.is_some() { None } else { serde_json::from_str(text.get()).ok() };
    let reason = too_large.or_else(|| read.is_none().then(|| UNREADABLE.to_owned()));
    let mut object: Value = read.unwrap_or_else(|| head::of(text).alone());
    pages.complete(&mut object);
    let ApiResource { group, version, kind, .. } = pages.resource().clone();
    let kind = GroupVersionKind { group, version, kind };
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    (FoundObject { object, kind, name, place: ManifestPlace::default() }, reason)
}

fn note(collector: &mut Collector, error: &watch::Error) {
    let (what, reason) = match error {
        watch::Error::ListKind { name, message } => (name.clone(), message.clone()),
        other => ("the cluster".to_owned(), other.to_string()),
    };
    collector.note(what, reason, ManifestPlace::default());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scan::ExplainOutcome;
    use crate::scan::bounds::Budget;
    use crate::scan::collect::tests::collector;

    fn pod(name: &str, bytes: usize) -> Box<RawValue> {
        let containers = json!([{"name": "app", "image": "127.0.0.1:1/app:1", "args": ["x".repeat(bytes)]}]);
        let object = json!({"metadata": {"name": name, "namespace": "shop", "uid": name}, "spec": {"containers": containers}});
        RawValue::from_string(object.to_string()).unwrap()
    }

    #[tokio::test]
    async fn objects_are_judged_together_by_their_bytes_and_one_that_is_too_large_is_not() {
        let pace = Pace { bytes: 3_000, largest: 5_000, cure: "ask elsewhere", ..Pace::FAST };
        let resource = kinds::built_in().find(|resource| resource.kind == "Pod").unwrap();
        let (pages, mut collector) = (Pages::new(resource, None), collector(Budget::COMMAND).await);
        let deep = format!(
            r#"{{"metadata": {{"name": "deep", "namespace": "shop"}}, "spec": {}{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        let objects = vec![
            pod("a", 1_000),
            pod("b", 1_000),
            pod("large", 10_000),
            pod("c", 1_000),
            pod("d", 4_000),
            RawValue::from_string(deep).unwrap(),
            pod("e", 10),
        ];
        let mut objects = objects.into_iter().peekable();
        let mut batches: Vec<Vec<String>> = Vec::new();
        while objects.peek().is_some() {
            let batch = next_batch(&mut objects, &pages, &mut collector, &pace);
            batches.push(batch.into_iter().map(|found| found.name).collect());
        }
        assert_eq!(batches, [vec!["a", "b"], vec!["c"], vec!["d"], vec!["e"]]);
        let scan = collector.finish();
        let left: Vec<(&str, &str)> = scan
            .workloads
            .iter()
            .map(|one| (one.name.as_str(), one.judged[0].spec.reason.as_deref().unwrap()))
            .collect();
        assert_eq!(left.len(), 2);
        assert_eq!(left[0], ("deep", UNREADABLE));
        assert_eq!(left[1].0, "large");
        assert!(left[1].1.ends_with("are not judged here; ask elsewhere"), "{left:?}");
        assert!(scan.workloads.iter().all(|one| one.outcome == ExplainOutcome::NotJudged));
    }
}
