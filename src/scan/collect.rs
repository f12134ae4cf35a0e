//! Takes objects as they come, judges each distinct one once, and gathers the verdicts by workload. Holds verdicts and
//! workloads, within a budget, and no object longer than its batch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use serde_json::Value;

use super::bounds::{self, Budget, Held};
use super::filter::Filter;
use super::identity::{Identities, Identity};
use super::judge::{Judge, JudgedObject, not_judged};
use super::model::{
    GrantUse, Judged, JudgedSpec, ManifestPlace, NotJudged, Owner, Scan, Summary, What, Workload, word,
    workload,
};
use super::owner::{Chains, Controller, Reference, controller, itself, reference};
use super::progress::Progress;
use super::unknown::unknown_kind;
use crate::admission::Skip;
use crate::grant::WasiGrant;
use crate::review::GroupVersionKind;
use crate::shares::beside;
use crate::workload::{Kind, further_templates, is_completed_by_others};

/// Objects that are judged at the same time. Most of their time is spent on waiting for registries.
const AT_ONCE: usize = 16;

/// Namespace of objects that name none.
const NO_NAMESPACE: &str = "default";

/// Most objects of which it is noted one by one that they are not judged.
const MOST_NOTES: usize = 10_000;

/// An object of the source.
#[derive(Debug)]
pub struct FoundObject {
    /// The object.
    pub object: Value,
    /// Its kind.
    pub kind: GroupVersionKind,
    /// Its name as it is written; empty when the API server will generate it.
    pub name: String,
    /// Where it is written.
    pub place: ManifestPlace,
}

/// What was found of a distinct object.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The verdict; `None` where the filters leave nothing of it.
    pub spec: Option<Arc<JudgedSpec>>,
    /// Whether the object names a RuntimeClass.
    pub names_class: bool,
}

/// The verdicts on distinct objects.
pub type Verdicts = HashMap<Identity, Verdict>;

/// Everything that was found so far.
#[derive(Debug)]
pub struct Collector {
    judge: Judge,
    filter: Filter,
    identities: Arc<Identities>,
    /// Namespace of objects that name none.
    namespace: String,
    /// The verdict on each distinct object.
    verdicts: Verdicts,
    /// Verdicts from before, which hold for the objects that are found again.
    known: Verdicts,
    /// Whether the grants are listed with their use.
    lists_grants: bool,
    groups: BTreeMap<Reference, Group>,
    chains: Chains,
    copies: Vec<Copied>,
    not_judged: Vec<NotJudged>,
    other_kinds: BTreeMap<String, usize>,
    pods: usize,
    templates: usize,
    held: Held,
    /// Objects that there was no space for.
    passed_over: usize,
    progress: Arc<dyn Progress>,
}

/// The verdicts of a workload, or of what a controller in the middle of a chain made.
#[derive(Debug, Default)]
struct Group {
    /// The controller, whose own controller may be known, or the object itself where it has none.
    controller: Option<Controller>,
    judged: BTreeMap<Identity, Judged>,
}

/// A template that a controller copied from its own.
#[derive(Debug)]
struct Copied {
    what: String,
    from: Controller,
    place: ManifestPlace,
}

/// An object of the present batch that is judged or was judged before.
struct Accepted {
    found: FoundObject,
    namespace: String,
    identity: Identity,
    controller: Option<Controller>,
    is_template: bool,
}

impl Collector {
    /// Nothing yet. `apart` judges every pod on its own.
    pub fn new(
        judge: Judge,
        filter: Filter,
        namespace: Option<&str>,
        apart: bool,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let identities = Arc::new(Identities::new(&judge.state, apart));
        Self { lists_grants: true, ..Self::sharing(judge, identities, filter, namespace, progress) }
    }

    /// What gathers for one of many scans by the same state, with what they share. Grants are not listed.
    pub fn sharing(
        judge: Judge,
        identities: Arc<Identities>,
        filter: Filter,
        namespace: Option<&str>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        Self {
            identities,
            judge,
            filter,
            namespace: namespace.unwrap_or(NO_NAMESPACE).to_owned(),
            verdicts: HashMap::new(),
            known: HashMap::new(),
            lists_grants: false,
            groups: BTreeMap::new(),
            chains: Chains::default(),
            copies: Vec::new(),
            not_judged: Vec::new(),
            other_kinds: BTreeMap::new(),
            pods: 0,
            templates: 0,
            held: Held::new(Budget::COMMAND),
            passed_over: 0,
            progress,
        }
    }

    /// The same with another budget than that of a command.
    #[must_use]
    pub fn within(self, budget: Budget) -> Self {
        Self { held: Held::new(budget), ..self }
    }

    /// The same where these verdicts hold, so that their objects are not judged again.
    #[must_use]
    pub fn knowing(self, known: Verdicts) -> Self {
        Self { known, ..self }
    }

    /// Judges what is new among these objects, and gathers all of them.
    pub async fn take(&mut self, batch: Vec<FoundObject>) {
        let accepted = beside(|| self.accepted(batch));
        for one in &accepted {
            if let Some((identity, verdict)) = self.known.remove_entry(&one.identity) {
                self.hold(&one.namespace, identity, verdict);
            }
        }
        let mut seen = HashSet::new();
        let fresh: Vec<&Accepted> = accepted
            .iter()
            .filter(|one| !self.verdicts.contains_key(&one.identity) && seen.insert(one.identity))
            .collect();
        let (judge, filter, progress) = (&self.judge, &self.filter, &self.progress);
        // Not a closure in the stream: the compiler cannot see then that another thread may take it up.
        let verdicts = fresh.into_iter().map(|one| async move {
            let FoundObject { object, kind, name, .. } = &one.found;
            let subject = JudgedObject { object, kind, namespace: &one.namespace, name };
            let verdict = judge.judge(&subject).await;
            progress.judged();
            let verdict = beside(|| Verdict {
                spec: filter.narrowed(verdict).map(|spec| Arc::new(bounds::bounded(spec))),
                names_class: names_class(object),
            });
            (one.identity, verdict)
        });
        let verdicts: Vec<_> = verdicts.collect();
        let mut verdicts: Verdicts = stream::iter(verdicts).buffer_unordered(AT_ONCE).collect().await;
        for one in accepted {
            if let Some(verdict) = verdicts.remove(&one.identity) {
                self.hold(&one.namespace, one.identity, verdict);
            }
            self.gather(one);
        }
    }

    /// Gathers an object that is not judged, and why. It may have nothing but its head.
    pub fn leave(&mut self, found: FoundObject, reason: String) {
        let Some(one) = self.accept(found) else { return };
        let spec = self.filter.narrowed(not_judged(reason)).map(Arc::new);
        self.hold(&one.namespace, one.identity, Verdict { spec, names_class: false });
        self.gather(one);
    }

    /// Keeps the verdict on an object of this namespace.
    fn hold(&mut self, namespace: &str, identity: Identity, verdict: Verdict) {
        self.held.add(namespace, bounds::of_verdict(verdict.spec.as_deref()));
        self.verdicts.insert(identity, verdict);
    }

    /// Whether there are objects that there was no space for, so that any workload may have been read in part.
    pub const fn is_partial(&self) -> bool {
        self.passed_over > 0
    }

    /// Notes something that could not be judged.
    pub fn note(&mut self, what: String, reason: String, place: ManifestPlace) {
        if self.not_judged.len() < MOST_NOTES {
            self.not_judged.push(NotJudged { what, reason, place });
        } else {
            self.passed_over += 1;
        }
    }

    /// Counts so many objects of which it is not noted one by one that they could not be judged.
    pub const fn pass_over(&mut self, objects: usize) {
        self.passed_over = self.passed_over.saturating_add(objects);
    }

    /// Counts an object that starts nothing.
    pub fn count_other(&mut self, kind: &str) {
        *self.other_kinds.entry(kind.to_owned()).or_default() += 1;
    }

    /// Those that are to be judged.
    fn accepted(&mut self, batch: Vec<FoundObject>) -> Vec<Accepted> {
        let mut accepted = Vec::new();
        for found in batch {
            if self.filter.has_image(&found.object) {
                accepted.extend(self.accept(found));
            }
        }
        accepted
    }

    /// The object, if it is to be judged; else it is counted or noted.
    fn accept(&mut self, found: FoundObject) -> Option<Accepted> {
        let namespace = match found.object.pointer("/metadata/namespace").and_then(Value::as_str) {
            Some(own) if !own.is_empty() => own.to_owned(),
            _ => self.namespace.clone(),
        };
        if !self.filter.has_namespace(&namespace) {
            return None;
        }
        let Some(kind) = self.judge.state.kinds.of(&found.kind) else {
            self.unknown(found, &namespace);
            return None;
        };
        if !self.held.has_space(&namespace) {
            self.passed_over += 1;
            return None;
        }
        let controller = controller(&found.object, &namespace);
        let is_template = kind.is_template();
        if is_template {
            self.held.add(&namespace, bounds::of_link(controller.as_ref()));
            self.chains.add(&found.object, controller.clone());
            if let Some(from) = controller.as_ref().filter(|from| self.is_judged_itself(from)) {
                let what = title(&reference(&found.object, &found.kind, &namespace));
                self.copies.push(Copied { what, from: from.clone(), place: found.place });
                return None;
            }
            self.templates += 1;
            self.note_further(&found, kind, &namespace);
        } else {
            self.pods += 1;
        }
        self.progress.seen();
        let shared = controller.is_some() && !is_template;
        let identity = self.identities.of(&found.object, &namespace, shared);
        Some(Accepted { found, namespace, identity, controller, is_template })
    }

    /// Notes the templates of an object besides its first, which is the one that is judged.
    fn note_further(&mut self, found: &FoundObject, kind: Kind, namespace: &str) {
        let further = further_templates(&found.object, kind);
        if further > 0 {
            let what = title(&reference(&found.object, &found.kind, namespace));
            let reason = format!(
                "only its first pod template was judged, and not the other {further}; what was made of them is"
            );
            self.note(what, reason, found.place.clone());
        }
    }

    /// Whether the kind has a template that is judged and that its controller only copies. An operator's resource may have
    /// several templates, or be translated, so what is made of it is judged too.
    fn is_judged_itself(&self, controller: &Controller) -> bool {
        let Reference { group, kind, .. } = &controller.reference;
        let kind = GroupVersionKind { group: group.clone(), version: String::new(), kind: kind.clone() };
        let kind = self.judge.state.kinds.of(&kind);
        kind.is_some_and(|kind| kind.is_template() && !matches!(kind, Kind::SpinApp | Kind::Described(_)))
    }

    /// An object of a kind that the gate does not know: harmless, unless it has containers, or its pods are made of it and of others.
    fn unknown(&mut self, found: FoundObject, namespace: &str) {
        let by_others =
            || is_completed_by_others(&found.kind).then(|| Skip::CompletedByOthers.note().to_owned());
        let Some(reason) = unknown_kind(&found.object).or_else(by_others) else {
            return self.count_other(&found.kind.kind);
        };
        self.note(title(&reference(&found.object, &found.kind, namespace)), reason, found.place);
    }

    fn gather(&mut self, one: Accepted) {
        let Some(spec) = self.verdicts.get(&one.identity).and_then(|verdict| verdict.spec.as_ref()) else {
            return;
        };
        let own = reference(&one.found.object, &one.found.kind, &one.namespace);
        let example = own.name.clone();
        let key = one.controller.as_ref().map_or(own, |controller| controller.reference.clone());
        let itself = || itself(&one.found.object, &one.found.kind, &one.namespace);
        let is_known = self.groups.get(&key).is_some_and(|group| group.judged.contains_key(&one.identity));
        if !is_known {
            let bytes = bounds::of_group(&key, one.controller.as_ref(), &example);
            self.held.add(&one.namespace, bytes);
        }
        let group = self.groups.entry(key).or_default();
        group.controller = group.controller.take().or(one.controller).or_else(itself);
        let judged = group.judged.entry(one.identity).or_insert_with(|| Judged {
            what: if one.is_template { What::Template } else { What::Pods },
            pods: 0,
            example,
            place: one.found.place,
            spec: Arc::clone(spec),
        });
        judged.pods += usize::from(!one.is_template);
    }

    /// The verdicts so far.
    pub const fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// The result, with every pod under its top owner.
    pub fn finish(mut self) -> Scan {
        let copies = self.copies.len();
        for copied in std::mem::take(&mut self.copies) {
            if !self.chains.has(&copied.from.uid) {
                let owner = title(&copied.from.reference);
                let reason = format!("it is a copy of the template of {owner}, which was not read");
                self.note(copied.what, reason, copied.place);
            }
        }
        if self.passed_over > 0 {
            let objects = if self.passed_over == 1 { "object" } else { "objects" };
            let what = format!("{} more {objects}", self.passed_over);
            let (reason, place) = (self.held.cure().to_owned(), ManifestPlace::default());
            self.not_judged.push(NotJudged { what, reason, place });
        }
        let workloads = self.workloads();
        let mut summary = Summary {
            workloads: workloads.len(),
            pods: self.pods,
            templates: self.templates,
            copies,
            judged: self.verdicts.len(),
            outcomes: BTreeMap::new(),
        };
        for workload in &workloads {
            *summary.outcomes.entry(word(workload.outcome)).or_default() += 1;
        }
        let grants = if self.lists_grants { self.grants(&workloads) } else { Vec::new() };
        self.not_judged.sort();
        Scan { summary, workloads, not_judged: self.not_judged, other_kinds: self.other_kinds, grants }
    }

    fn workloads(&mut self) -> Vec<Workload> {
        let mut tops: BTreeMap<Reference, (Option<Owner>, BTreeMap<Identity, Judged>)> = BTreeMap::new();
        for (own, group) in std::mem::take(&mut self.groups) {
            let top = group.controller.as_ref().map(|first| self.chains.top(first));
            let reference = top.map_or(own, |top| top.reference.clone());
            let (owner, known) = tops.entry(reference).or_default();
            let named = || top.map(|top| Owner { version: top.version.clone(), uid: top.uid.clone() });
            *owner = owner.take().or_else(named);
            for (identity, judged) in group.judged {
                let pods = judged.pods;
                // Pods of one template may have had different controllers, such as two Jobs of a CronJob.
                known.entry(identity).and_modify(|same| same.pods += pods).or_insert(judged);
            }
        }
        let workload = |(top, (owner, judged)): (_, (_, BTreeMap<Identity, Judged>))| {
            workload(top, owner, judged.into_values().collect())
        };
        tops.into_iter().map(workload).collect()
    }

    /// The grants, and how many workloads use each.
    fn grants(&self, workloads: &[Workload]) -> Vec<GrantUse> {
        let mut used: HashMap<(&str, &str), usize> = HashMap::new();
        for workload in workloads {
            let programs = workload.judged.iter().flat_map(|judged| &judged.spec.containers);
            let labels = programs.flat_map(|program| &program.effective).flat_map(|entry| &entry.covered_by);
            let labels: HashSet<&str> = labels.map(String::as_str).collect();
            for label in labels {
                *used.entry((&workload.namespace, label)).or_default() += 1;
            }
        }
        let count = |grant: &WasiGrant| {
            let label = grant.label();
            let everywhere = || used.iter().filter(|((_, of), _)| *of == label).map(|(_, count)| count).sum();
            let within = |namespace| used.get(&(namespace, label.as_str())).copied().unwrap_or_default();
            grant.namespace().map_or_else(everywhere, within)
        };
        let open: HashSet<&str> =
            workloads.iter().filter(|one| one.may_use_more()).map(|one| one.namespace.as_str()).collect();
        let is_known = |grant: &WasiGrant| {
            let everywhere = || open.is_empty();
            self.not_judged.is_empty() && grant.namespace().map_or_else(everywhere, |own| !open.contains(own))
        };
        let grants = self.judge.state.grants.iter();
        let used = |grant: &Arc<WasiGrant>| GrantUse {
            grant: grant.label(),
            namespace: grant.namespace().map(str::to_owned),
            expires_at: grant.spec.expires_at,
            // A grant that no workload seems to use is deleted, so that is said only where it is known.
            workloads: Some(count(grant))
                .filter(|workloads| self.filter.is_empty() && (*workloads > 0 || is_known(grant))),
        };
        grants.map(used).collect()
    }
}

/// Whether a RuntimeClass is named, at any depth. JSON from a parser has a bounded depth.
fn names_class(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key == "runtimeClassName" && value.is_string() || names_class(value)),
        Value::Array(items) => items.iter().any(names_class),
        _ => false,
    }
}

/// Kind, namespace and name, for messages.
fn title(reference: &Reference) -> String {
    let Reference { namespace, kind, name, .. } = reference;
    format!("{kind} {namespace}/{name}")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::admission::State;
    use crate::lookup::{Inspector, LookupOptions};
    use crate::policy::{Engine, Limits, PolicySet};
    use crate::runtime::Runtimes;
    use crate::scan::ExplainOutcome;

    #[derive(Debug)]
    struct Untold;

    impl Progress for Untold {
        fn seen(&self) {}
        fn judged(&self) {}
    }

    pub(crate) async fn collector(budget: Budget) -> Collector {
        let engine = Engine::new().unwrap();
        let policies = PolicySet::load(&engine, Vec::new(), Limits::default()).await.unwrap();
        let state = State::new(Runtimes::default(), Arc::default(), Arc::new(policies));
        let judge = Judge {
            state: Arc::new(state),
            inspector: Arc::new(Inspector::new(LookupOptions::default()).unwrap()),
            budget: Duration::from_secs(5),
            cure: "wait",
            suggest: |_, _| Vec::new(),
        };
        Collector::new(judge, Filter::default(), None, false, Arc::new(Untold)).within(budget)
    }

    fn kind(group: &str, kind: &str) -> GroupVersionKind {
        GroupVersionKind { group: group.into(), version: "v1".into(), kind: kind.into() }
    }

    /// Its image is not looked for at an address of this machine.
    fn deployment(namespace: &str, number: usize) -> FoundObject {
        let name = format!("app-{number}");
        let containers = json!([{"name": "app", "image": "127.0.0.1:1/app:1"}]);
        let object = json!({"metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}-{number}")},
            "spec": {"template": {"spec": {"runtimeClassName": "wasmtime", "containers": containers}}}});
        FoundObject { object, kind: kind("apps", "Deployment"), name, place: ManifestPlace::default() }
    }

    #[tokio::test]
    async fn what_there_is_no_space_for_is_counted_with_what_to_do_and_leaves_space_for_other_namespaces() {
        const ALL: usize = 400;
        let budget = Budget { bytes: 200_000, cure: "scan less" };
        let mut collector = collector(budget).await;
        for first in (0..ALL).step_by(8) {
            collector.take((first..first + 8).map(|number| deployment("theirs", number)).collect()).await;
        }
        assert!(collector.is_partial());
        collector.take(vec![deployment("ours", 0)]).await;
        let scan = collector.finish();
        let of = |namespace: &str| scan.workloads.iter().filter(|one| one.namespace == namespace).count();
        assert!((8..ALL / 2).contains(&of("theirs")), "{}", of("theirs"));
        assert_eq!(of("ours"), 1);
        let left = NotJudged {
            what: format!("{} more objects", ALL - of("theirs")),
            reason: "scan less".into(),
            place: ManifestPlace::default(),
        };
        assert_eq!(scan.not_judged, [left]);
    }

    #[tokio::test]
    async fn an_object_that_is_not_judged_is_one_of_its_workload() {
        let mut collector = collector(Budget::COMMAND).await;
        collector.take(vec![deployment("shop", 1)]).await;
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "app-1", "uid": "shop-1", "controller": true});
        let object = json!({"metadata": {"name": "large", "namespace": "shop", "uid": "p", "ownerReferences": [owner]}});
        let pod = FoundObject {
            object,
            kind: kind("", "Pod"),
            name: "large".into(),
            place: ManifestPlace::default(),
        };
        collector.leave(pod, "it is too large".into());
        assert!(!collector.is_partial());
        let scan = collector.finish();
        let [workload] = scan.workloads.as_slice() else { panic!("{:?}", scan.workloads) };
        assert_eq!((workload.name.as_str(), workload.pods), ("app-1", 1));
        assert!(workload.judged.iter().any(|one| one.spec.outcome == ExplainOutcome::NotJudged));
        assert!(workload.reasons().contains(&"it is too large".to_owned()), "{:?}", workload.reasons());
    }

    #[tokio::test]
    async fn of_many_objects_that_are_not_judged_the_last_are_counted() {
        let mut collector = collector(Budget::COMMAND).await;
        for number in 0..MOST_NOTES + 3 {
            collector.note(number.to_string(), "r".into(), ManifestPlace::default());
        }
        let scan = collector.finish();
        assert_eq!(scan.not_judged.len(), MOST_NOTES + 1);
        assert!(scan.not_judged.iter().any(|one| one.what == "3 more objects"));
    }
}
