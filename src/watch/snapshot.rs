//! Builds snapshots for reviews from the watched objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Watched;
use super::resource::{Item, Items, Key};
use super::shared::Shared;
use crate::cluster::{Autoscaled, Cluster};
use crate::grant::{Exceptions, Grants, WasiException, WasiGrant};
use crate::usage::Learned;

/// Grants and exceptions of a directory, which are used together with those of the cluster. On the same kind, name and
/// namespace the cluster's object wins, even if it is invalid and therefore ignored: a grant that was withdrawn in the
/// cluster must not come back from a file.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// Grants of the directory.
    pub grants: Arc<Grants>,
    /// Exceptions of the directory.
    pub exceptions: Arc<Exceptions>,
}

/// The cluster at one moment. Snapshots share the parts that did not change.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// RuntimeClasses, LimitRanges, namespace labels, and what was learned of images, only from the cluster.
    pub cluster: Arc<Cluster>,
    /// Grants of the cluster and of the directory.
    pub grants: Arc<Grants>,
    /// Exceptions of the cluster and of the directory.
    pub exceptions: Arc<Exceptions>,
}

/// Builds snapshots.
#[derive(Debug)]
pub(super) struct Builder {
    base: Base,
    last: Option<Snapshot>,
}

impl Builder {
    pub const fn new(base: Base) -> Self {
        Self { base, last: None }
    }

    /// The current snapshot. After the first one, only changed parts are rebuilt; `None` where no part has changed.
    pub fn build(&mut self, shared: &Shared, changes: &[Watched]) -> Option<Snapshot> {
        let first = self.last.is_none();
        let touched = |kinds: &[Watched]| first || kinds.iter().any(|kind| changes.contains(kind));
        let mut built = self.last.clone().unwrap_or_default();
        let mut is_new = first;
        if touched(&[Watched::RuntimeClasses, Watched::LimitRanges, Watched::Namespaces]) {
            built.cluster = Arc::new(cluster(shared, &built.cluster));
            is_new = true;
        }
        if touched(&Watched::OF_SIZES) {
            is_new |= update_sizes(shared, &mut built.cluster);
        }
        if touched(&[Watched::WasiGrants, Watched::ClusterWasiGrants]) {
            built.grants = Arc::new(self.grants(shared));
            is_new = true;
        }
        if touched(&[Watched::WasiExceptions]) {
            built.exceptions = Arc::new(self.exceptions(shared));
            is_new = true;
        }
        is_new.then(|| self.last.insert(built).clone())
    }

    fn grants(&self, shared: &Shared) -> Grants {
        // In the order of the index: by kind, name and namespace.
        let kinds = [Watched::ClusterWasiGrants, Watched::WasiGrants];
        let mut grants: Vec<Arc<WasiGrant>> = Vec::new();
        let mut left_out = rejected(shared, &kinds);
        for kind in kinds {
            grants.extend(collect(shared, kind, |item| match item {
                Item::Grant(grant) => Some(Arc::clone(grant)),
                _ => None,
            }));
        }
        if !self.base.grants.is_empty() {
            let identity = |grant: &WasiGrant| (grant.label(), grant.namespace().map(str::to_string));
            let own: BTreeSet<_> = grants.iter().map(|grant| identity(grant)).collect();
            left_out.extend(rejected(shared, &kinds));
            // Only a ClusterWasiGrant has no namespace, so keys of the two kinds differ.
            let key = |grant: &WasiGrant| {
                (grant.name().to_string(), grant.namespace().unwrap_or_default().to_string())
            };
            let others = self.base.grants.iter();
            grants.extend(
                others
                    .filter(|grant| !own.contains(&identity(grant)) && !left_out.contains(&key(grant)))
                    .cloned(),
            );
            grants.sort_by_cached_key(|grant| identity(grant));
        }
        Grants::of_checked(grants)
    }

    fn exceptions(&self, shared: &Shared) -> Exceptions {
        let mut left_out = rejected(shared, &[Watched::WasiExceptions]);
        let mut exceptions: Vec<Arc<WasiException>> =
            collect(shared, Watched::WasiExceptions, |item| match item {
                Item::Exception(exception) => Some(Arc::clone(exception)),
                _ => None,
            });
        let identity = |e: &WasiException| (e.namespace().to_string(), e.name().to_string());
        let mut own: BTreeSet<_> = exceptions.iter().map(|exception| identity(exception)).collect();
        left_out.extend(rejected(shared, &[Watched::WasiExceptions]));
        own.extend(left_out.into_iter().map(|(name, namespace)| (namespace, name)));
        let others = self.base.exceptions.iter().filter(|exception| !own.contains(&identity(exception)));
        exceptions.extend(others.cloned());
        exceptions.sort_by_cached_key(|exception| identity(exception));
        Exceptions::of_checked(exceptions)
    }
}

/// Extracts a value from every object of a kind, holding the lock only briefly.
fn collect<T>(shared: &Shared, kind: Watched, take: impl Fn(&Item) -> Option<T>) -> Vec<T> {
    each(shared, kind, |items| items.values().filter_map(take).collect())
}

/// Objects of the cluster that are ignored because they are invalid. Must be read before and after the objects themselves:
/// an object that becomes invalid is rejected before it is dropped, and one that becomes valid is kept before it is accepted.
fn rejected(shared: &Shared, kinds: &[Watched]) -> BTreeSet<Key> {
    kinds.iter().filter_map(|kind| shared.kept(*kind)).flat_map(|kept| kept.health.rejected()).collect()
}

fn each<T: Default>(shared: &Shared, kind: Watched, look: impl FnOnce(&Items) -> T) -> T {
    shared.kept(kind).map(|kept| kept.store.read(look)).unwrap_or_default()
}

/// The cluster with the sizes of the former snapshot.
fn cluster(shared: &Shared, former: &Cluster) -> Cluster {
    let runtime_classes = each(shared, Watched::RuntimeClasses, |items| {
        let class = |item: &Item| match item {
            Item::Class(class) => Some(class.clone()),
            _ => None,
        };
        items.iter().filter_map(|((name, _), item)| Some((name.clone(), class(item)?))).collect()
    });
    let mut built = Cluster {
        runtime_classes: Some(runtime_classes),
        learned: Arc::clone(&former.learned),
        autoscaled: Arc::clone(&former.autoscaled),
        ..Cluster::default()
    };
    each(shared, Watched::LimitRanges, |items| {
        for ((_, namespace), item) in items {
            if let Item::Limits(limits) = item {
                built.limit_ranges.entry(namespace.clone()).or_default().add((**limits).clone());
            }
        }
    });
    each(shared, Watched::Namespaces, |items| {
        for ((name, _), item) in items {
            if let Item::Labels(labels) = item {
                built.namespaces.insert(name.clone(), labels.clone());
            }
        }
    });
    built
}

/// Brings the sizes up to date. Returns whether that changes anything.
fn update_sizes(shared: &Shared, cluster: &mut Arc<Cluster>) -> bool {
    // Without the one, what the other says would be used where it must not be.
    if !shared.sizes_synced() {
        return false;
    }
    let (learned, autoscaled) = (learned(shared), autoscaled(shared));
    if learned == *cluster.learned && autoscaled == *cluster.autoscaled {
        return false;
    }
    let cluster = Arc::make_mut(cluster);
    (cluster.learned, cluster.autoscaled) = (Arc::new(learned), Arc::new(autoscaled));
    true
}

fn learned(shared: &Shared) -> Learned {
    let mut learned = Learned::default();
    each(shared, Watched::WasmUsages, |items| {
        for item in items.values() {
            if let Item::Usage(key, size) = item {
                learned.insert(key.clone(), *size);
            }
        }
    });
    learned
}

fn autoscaled(shared: &Shared) -> Autoscaled {
    let mut autoscaled = Autoscaled::default();
    for kind in [Watched::VerticalPodAutoscalers, Watched::HorizontalPodAutoscalers] {
        each(shared, kind, |items| {
            for ((_, namespace), item) in items {
                if let Item::Autoscaled(target) = item {
                    autoscaled.insert(namespace, target.clone());
                }
            }
        });
    }
    autoscaled
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Watching;
    use super::super::resource::keep;
    use super::*;

    #[tokio::test]
    async fn ten_thousand_grants_are_indexed_in_one_go() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = super::super::client::bounded(config, std::time::Duration::from_secs(1)).unwrap();
        let watching = Watching::new(client, super::super::WatchOptions::default());
        let store = &watching.shared.kept(Watched::WasiGrants).unwrap().store;
        for number in 0..10_000 {
            let (name, namespace) = (format!("g{number}"), format!("team-{}", number % 500));
            let object = serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
                "spec": {"subjects": {"serviceAccounts": [format!("sa-{number}")]},
                    "capabilities": [{"name": "http.outbound", "hosts": ["https://a.example.com"]}]}}));
            let item = keep(Watched::WasiGrants, object.unwrap()).unwrap().unwrap();
            store.write(|items| items.insert((name, namespace), item));
        }
        let mut builder = Builder::new(Base::default());
        let first = builder.build(&watching.shared, &[]).unwrap();
        let second = builder.build(&watching.shared, &[Watched::WasiGrants]).unwrap();
        assert_eq!(second.grants.len(), 10_000);
        assert!(!Arc::ptr_eq(&first.grants, &second.grants));
        assert!(Arc::ptr_eq(&first.cluster, &second.cluster), "only what changed is built anew");
    }

    #[tokio::test]
    async fn what_no_review_reads_of_a_snapshot_makes_no_new_one() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = super::super::client::bounded(config, std::time::Duration::from_secs(1)).unwrap();
        let options = super::super::WatchOptions { sizes: true, ..super::super::WatchOptions::default() };
        let watching = Watching::new(client, options);
        let shared = &watching.shared;
        let write = |watched: Watched, object: serde_json::Value| {
            let item = keep(watched, serde_json::from_value(object).unwrap()).unwrap();
            let key = ("orders".to_owned(), "shop".to_owned());
            shared.kept(watched).unwrap().store.write(|items| match item {
                Some(item) => drop(items.insert(key, item)),
                None => drop(items.remove(&key)),
            });
        };
        let autoscaler = |mode: &str| {
            json!({"metadata": {"name": "orders", "namespace": "shop"}, "spec": {
                "targetRef": {"kind": "Deployment", "name": "orders"}, "updatePolicy": {"updateMode": mode}}})
        };
        let mut builder = Builder::new(Base::default());
        let first = builder.build(shared, &[]).unwrap();
        write(
            Watched::ServiceAccounts,
            json!({"metadata": {"name": "orders"}, "imagePullSecrets": [{"name": "a"}]}),
        );
        assert!(builder.build(shared, &[Watched::ServiceAccounts]).is_none());

        write(Watched::VerticalPodAutoscalers, autoscaler("Auto"));
        let sizes = [Watched::VerticalPodAutoscalers];
        assert!(builder.build(shared, &sizes).is_none(), "the others were not listed yet");
        for watched in Watched::OF_SIZES {
            shared.kept(watched).unwrap().health.note_listed();
        }
        let second = builder.build(shared, &sizes).unwrap();
        assert!(second.cluster.autoscaled.has("shop", "Deployment", "orders"));
        assert!(!first.cluster.autoscaled.has("shop", "Deployment", "orders"), "it stays as it was");
        assert!(builder.build(shared, &sizes).is_none(), "it says the same");
        let third = builder.build(shared, &[Watched::Namespaces]).unwrap();
        assert!(Arc::ptr_eq(&second.cluster.autoscaled, &third.cluster.autoscaled));
        write(Watched::VerticalPodAutoscalers, autoscaler("Off"));
        let fourth = builder.build(shared, &sizes).unwrap();
        assert!(!fourth.cluster.autoscaled.has("shop", "Deployment", "orders"));
    }
}
