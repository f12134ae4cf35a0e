//! What verdicts depend on besides their objects and images, as digests, so that a change is seen, and what it can change. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::admission::State;

/// Stands for a part of the state.
pub type Mark = [u8; 32];

/// Most namespaces that are gone through one by one after a change; for more the whole cluster is.
const MOST_NAMESPACES: usize = 20;

/// The parts of a state on which verdicts depend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// What decides whether the gate has to do with an object at all.
    own: Mark,
    /// That and RuntimeClasses.
    classes: Mark,
    /// The same, policies, and grants for all namespaces.
    everywhere: Mark,
    /// Namespace → its labels, LimitRanges, grants and exceptions.
    namespaces: BTreeMap<String, Mark>,
}

/// What a change can have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Verdicts in these namespaces.
    Namespaces(BTreeSet<String>),
    /// Any verdict.
    Everything,
}

/// Adds a part. Its text for people has all of its fields, and is the same for as long as the gate is.
fn add(digest: &mut Sha256, part: &impl Debug) {
    let text = format!("{part:?}");
    digest.update(text.len().to_le_bytes());
    digest.update(text.as_bytes());
}

fn mark(parts: &[&dyn Debug]) -> Mark {
    let mut digest = Sha256::new();
    for part in parts {
        add(&mut digest, part);
    }
    digest.finalize().into()
}

impl Basis {
    /// Of a state, and the inspector of this generation, at a time: what has expired counts no longer.
    pub fn of(state: &State, inspector: u64, now: Timestamp) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let own = mark(&[&version, &inspector, &state.kinds, &state.exempt_namespaces, &state.masks]);
        let classes = mark(&[&own, state.runtimes(), &state.cluster().runtime_classes]);
        let mut everywhere = Sha256::new();
        add(&mut everywhere, &(classes, state.policies.digests(), &state.options, &state.enforcement));
        add(&mut everywhere, &state.unpinned);
        let mut namespaces: BTreeMap<String, Sha256> = BTreeMap::new();
        let mut within = |namespace: &str, part: &dyn Debug| {
            add(namespaces.entry(namespace.to_owned()).or_default(), &part);
        };
        state.cluster().namespaces.iter().for_each(|(namespace, labels)| within(namespace, labels));
        state.cluster().limit_ranges.iter().for_each(|(namespace, limits)| within(namespace, limits));
        for grant in state.grants.iter().filter(|grant| !grant.is_expired(now)) {
            let said = (&grant.kind, grant.name(), &grant.spec);
            match grant.namespace() {
                Some(namespace) => within(namespace, &said),
                None => add(&mut everywhere, &said),
            }
        }
        for exception in state.exceptions.iter().filter(|exception| !exception.is_expired(now)) {
            within(exception.namespace(), &(exception.name(), &exception.spec));
        }
        let namespaces = namespaces.into_iter().map(|(name, digest)| (name, digest.finalize().into()));
        Self { own, classes, everywhere: everywhere.finalize().into(), namespaces: namespaces.collect() }
    }

    /// What the verdict depends on that the gate leaves an object alone.
    pub const fn of_plain(&self, names_class: bool) -> Mark {
        if names_class { self.classes } else { self.own }
    }

    /// What every other verdict in a namespace depends on.
    pub fn of_judged(&self, namespace: &str) -> Mark {
        mark(&[&self.everywhere, &self.namespaces.get(namespace)])
    }

    /// What may be different from another one.
    pub fn change_since(&self, former: &Self) -> Change {
        if (self.own, self.classes, self.everywhere) != (former.own, former.classes, former.everywhere) {
            return Change::Everything;
        }
        let all: BTreeSet<&String> = self.namespaces.keys().chain(former.namespaces.keys()).collect();
        let differs = |name: &&&String| self.namespaces.get(**name) != former.namespaces.get(**name);
        let changed: BTreeSet<String> = all.iter().filter(differs).map(|name| (**name).clone()).collect();
        match changed.len() {
            0 => Change::Nothing,
            1..=MOST_NAMESPACES => Change::Namespaces(changed),
            _ => Change::Everything,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::cluster::{Cluster, RuntimeClass};
    use crate::grant::{Grants, WasiGrant};
    use crate::policy::{Engine, Limits, PolicySet};
    use crate::runtime::Runtimes;

    pub(in crate::reports) fn grant(kind: &str, namespace: &str, expires_at: &str) -> WasiGrant {
        let mut metadata = json!({"name": "g"});
        let mut spec = json!({"capabilities": [{"name": "clock"}], "expiresAt": expires_at});
        if namespace.is_empty() {
            spec["namespaceSelector"] = json!({});
        } else {
            metadata["namespace"] = json!(namespace);
        }
        let grant =
            json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        serde_json::from_value(grant).unwrap()
    }

    pub(in crate::reports) async fn state(cluster: Cluster, grants: Vec<WasiGrant>) -> State {
        let engine = Engine::new().unwrap();
        let policies = PolicySet::load(&engine, Vec::new(), Limits::default()).await.unwrap();
        let mut state = State::new(Runtimes::default(), Arc::new(cluster), Arc::new(policies));
        state.grants = Arc::new(Grants::new(grants).unwrap());
        state
    }

    pub(in crate::reports) fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    pub(in crate::reports) const NOW: &str = "2026-06-01T00:00:00Z";
    const LATER: &str = "2027-06-01T00:00:00Z";

    #[tokio::test]
    async fn another_inspector_changes_every_verdict() {
        let state = state(Cluster::default(), Vec::new()).await;
        let (before, after) = (Basis::of(&state, 1, at(NOW)), Basis::of(&state, 2, at(NOW)));
        assert_eq!(after.change_since(&before), Change::Everything);
        assert_ne!(after.of_judged("shop"), before.of_judged("shop"));
        assert_ne!(after.of_plain(false), before.of_plain(false));
    }

    #[tokio::test]
    async fn a_grant_and_its_end_change_its_namespace_alone() {
        let none = Basis::of(&state(Cluster::default(), Vec::new()).await, 1, at(NOW));
        let granted =
            state(Cluster::default(), vec![grant("WasiGrant", "shop", "2027-01-01T00:00:00Z")]).await;
        let some = Basis::of(&granted, 1, at(NOW));
        let shop = Change::Namespaces(["shop".to_owned()].into());
        assert_eq!((some.change_since(&none), none.change_since(&some)), (shop.clone(), shop.clone()));
        assert_eq!(some.change_since(&some.clone()), Change::Nothing);
        assert_eq!(Basis::of(&granted, 1, at(LATER)).change_since(&some), shop, "it has expired");
        assert_ne!(some.of_judged("shop"), none.of_judged("shop"));
        assert_eq!(some.of_judged("other"), none.of_judged("other"));
        assert_eq!(some.of_plain(true), none.of_plain(true));
    }

    #[tokio::test]
    async fn a_grant_for_all_namespaces_changes_every_verdict_but_that_something_is_left_alone() {
        let none = Basis::of(&state(Cluster::default(), Vec::new()).await, 1, at(NOW));
        let everywhere = vec![grant("ClusterWasiGrant", "", "2027-01-01T00:00:00Z")];
        let some = Basis::of(&state(Cluster::default(), everywhere).await, 1, at(NOW));
        assert_eq!(some.change_since(&none), Change::Everything);
        assert_ne!(some.of_judged("shop"), none.of_judged("shop"));
        assert_eq!((some.of_plain(true), some.of_plain(false)), (none.of_plain(true), none.of_plain(false)));
    }

    #[tokio::test]
    async fn a_runtime_class_changes_nothing_for_ordinary_pods_that_name_none() {
        let none = Basis::of(&state(Cluster::default(), Vec::new()).await, 1, at(NOW));
        let class = RuntimeClass { handler: "spin".into(), ..RuntimeClass::default() };
        let classes = Some([("mine".to_owned(), class)].into());
        let cluster = Cluster { runtime_classes: classes, ..Cluster::default() };
        let some = Basis::of(&state(cluster, Vec::new()).await, 1, at(NOW));
        assert_eq!(some.change_since(&none), Change::Everything);
        assert_eq!(some.of_plain(false), none.of_plain(false));
        assert_ne!(some.of_plain(true), none.of_plain(true));
        assert_ne!(some.of_judged("shop"), none.of_judged("shop"));
    }

    #[tokio::test]
    async fn labels_of_many_namespaces_are_one_change_of_everything() {
        let labelled = |count: usize| {
            let namespaces = (0..count).map(|n| (format!("n{n}"), [("a".to_owned(), "b".to_owned())].into()));
            Cluster { namespaces: namespaces.collect(), ..Cluster::default() }
        };
        let none = Basis::of(&state(Cluster::default(), Vec::new()).await, 1, at(NOW));
        let few = Basis::of(&state(labelled(2), Vec::new()).await, 1, at(NOW));
        let many = Basis::of(&state(labelled(MOST_NAMESPACES + 1), Vec::new()).await, 1, at(NOW));
        assert_eq!(few.change_since(&none), Change::Namespaces(["n0".to_owned(), "n1".to_owned()].into()));
        assert_eq!(many.change_since(&none), Change::Everything);
    }
}
