//! Takes objects as they come, judges each distinct one once, and gathers the verdicts by workload. Holds verdicts and
//! workloads, and no object longer than its batch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use serde_json::Value;

use super::filter::Filter;
use super::identity::{Identities, Identity};
use super::judge::{Judge, JudgedObject};
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
use crate::workload::{Kind, further_templates, is_completed_by_others};

/// Objects that are judged at the same time. Most of their time is spent on waiting for registries.
const AT_ONCE: usize = 16;

/// Namespace of objects that name none.
const NO_NAMESPACE: &str = "default";

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

    /// The same for one of many scans by the same state, with what they share. Grants are not listed.
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
            progress,
        }
    }

    /// The same where these verdicts hold, so that their objects are not judged again.
    #[must_use]
    pub fn knowing(self, known: Verdicts) -> Self {
        Self { known, ..self }
    }

    /// Judges what is new among these objects, and gathers all of them.
    pub async fn take(&mut self, batch: Vec<FoundObject>) {
        let accepted: Vec<Accepted> = batch.into_iter().filter_map(|found| self.accept(found)).collect();
        for one in &accepted {
            self.verdicts.extend(self.known.remove_entry(&one.identity));
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
            let names_class = names_class(object);
            (one.identity, Verdict { spec: filter.narrowed(verdict).map(Arc::new), names_class })
        });
        let verdicts: Vec<_> = verdicts.collect();
        let verdicts: Vec<_> = stream::iter(verdicts).buffer_unordered(AT_ONCE).collect().await;
        self.verdicts.extend(verdicts);
        for one in accepted {
            self.gather(one);
        }
    }

    /// Notes something that could not be judged.
    pub fn note(&mut self, what: String, reason: String, place: ManifestPlace) {
        self.not_judged.push(NotJudged { what, reason, place });
    }

    /// Counts an object that starts nothing.
    pub fn count_other(&mut self, kind: &str) {
        *self.other_kinds.entry(kind.to_owned()).or_default() += 1;
    }

    /// The object, if it is to be judged; else it is counted or noted.
    fn accept(&mut self, found: FoundObject) -> Option<Accepted> {
        let namespace = match found.object.pointer("/metadata/namespace").and_then(Value::as_str) {
            Some(own) if !own.is_empty() => own.to_owned(),
            _ => self.namespace.clone(),
        };
        if !self.filter.has_namespace(&namespace) || !self.filter.has_image(&found.object) {
            return None;
        }
        let Some(kind) = self.judge.state.kinds.of(&found.kind) else {
            self.unknown(found, &namespace);
            return None;
        };
        let controller = controller(&found.object, &namespace);
        let is_template = kind.is_template();
        if is_template {
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
        let grants = self.judge.state.grants.iter();
        let used = |grant: &Arc<WasiGrant>| GrantUse {
            grant: grant.label(),
            namespace: grant.namespace().map(str::to_owned),
            expires_at: grant.spec.expires_at,
            workloads: self.filter.is_empty().then(|| count(grant)),
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
