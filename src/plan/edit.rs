//! The plan: makes every edit on the raw object, and computes the patch from what it was to what it is then.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::inspection::Inspection;
use crate::runtime::Profile;
use crate::workload::managed::Managed;
use crate::workload::{Kind, Workload};

use super::difference::Before;
use super::draft::{CHANGED_ANNOTATION, Error, Notes, Object, not, object_mut, text};
use super::{Context, Surplus, affinity, harden, pin, placement, sizing};

/// The wanted object, and the patch that produces it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The object after the patch, without managed fields where it was read without them.
    pub object: Value,
    /// From the raw object to the wanted one; empty when nothing changes.
    pub patch: json_patch::Patch,
    /// For the person who applied the object: what could not be done, and what will not work.
    pub warnings: Vec<String>,
    /// For the person who applied the object: which of their values were changed or completed.
    pub notices: Vec<String>,
    /// Those of both that say what no grant covers and was taken away.
    pub taken: Vec<String>,
    /// One line per change, for decision records and `explain`.
    pub changes: Vec<String>,
}

/// Plans the changes to one object; `surplus` is what no grant covers and is to go. The patch is empty for a workload without a Wasm program and for the mirror pod of
/// a static pod. It is also empty for an object that was planned before, even if the API server's plug-ins ran in
/// between.
pub fn plan(
    raw: &Value,
    workload: &Workload,
    inspection: &Inspection,
    context: &Context<'_>,
    surplus: &Surplus,
) -> Result<Plan, Error> {
    planned((raw.clone(), Managed::default()), workload, inspection, context, surplus)
}

/// The same for an object that nothing needs as it was: of it only the parts are copied that a plan may change. It may be without its managed
/// fields, which are read where the plan depends on them, and are then not in the planned object either.
pub fn planned(
    (mut object, managed): (Value, Managed<'_>),
    workload: &Workload,
    inspection: &Inspection,
    context: &Context<'_>,
    surplus: &Surplus,
) -> Result<Plan, Error> {
    let (mut notes, mut patch) = (Notes::default(), json_patch::Patch::default());
    if concerned(workload, inspection, context) {
        let template = workload.kind.template_pointer();
        let pod = object.pointer_mut(template).and_then(Value::as_object_mut);
        // Fields are said as they are in the pod: who plans a template adds where that is.
        let pod = pod.ok_or_else(|| not("spec".to_owned(), "that of a pod or a pod template"))?;
        let before = Before::of(pod);
        edit((&mut *pod, managed), (workload, inspection), context, surplus, &mut notes)?;
        if !notes.tokens.is_empty() {
            // A difference of two trees touches only what changed, and appends to lists instead of replacing them.
            patch = before.patch(template, pod);
        }
    }
    let Notes { warnings, notices, taken, changes, .. } = notes;
    Ok(Plan { object, patch, warnings, notices, taken, changes })
}

/// Whether there is anything to plan: a Wasm program, or a class that is a Wasm runtime. Under such a class, the image
/// of a Linux program is pinned too: its tag may name a Wasm program tomorrow.
fn concerned(workload: &Workload, inspection: &Inspection, context: &Context<'_>) -> bool {
    let class = workload.spec.runtime_class_name.as_deref();
    let under_wasm = class.is_some_and(|class| context.cluster.profile_of(context.runtimes, class).is_some());
    !workload.is_mirror() && (under_wasm || placement::wasm_programs(inspection).next().is_some())
}

fn edit(
    (pod, managed): (&mut Object, Managed<'_>),
    (workload, inspection): (&Workload, &Inspection),
    context: &Context<'_>,
    surplus: &Surplus,
    notes: &mut Notes,
) -> Result<(), Error> {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut);
    // Out of the pod for a while, so that the metadata beside it can be read.
    let mut spec = std::mem::take(spec.ok_or_else(|| not("spec".to_owned(), "an object"))?);
    {
        let metadata = pod.get("metadata").and_then(Value::as_object);
        let asks = sizing::asks_for_owners(workload, context);
        let metadata = metadata.map(|own| if asks { managed.with(own) } else { Cow::Borrowed(own) });
        edit_spec(&mut spec, metadata.as_deref(), (workload, inspection), context, surplus, notes)?;
    }
    pod.insert("spec".to_owned(), Value::Object(spec));
    if !notes.tokens.is_empty() {
        annotate(pod, inspection, notes)?;
    }
    Ok(())
}

fn edit_spec(
    spec: &mut Object,
    metadata: Option<&Object>,
    (workload, inspection): (&Workload, &Inspection),
    context: &Context<'_>,
    surplus: &Surplus,
    notes: &mut Notes,
) -> Result<(), Error> {
    let programs = placement::wasm_programs(inspection).next().is_some();
    let profile = if programs { placement::place(spec, inspection, context, notes)? } else { None };
    if let Some(profile) = profile {
        affinity::require(spec, profile, notes)?;
        affinity::tolerate(spec, profile, notes)?;
        if workload.kind == Kind::DaemonSet {
            warn_of_daemon_set(spec, profile, context, notes);
        }
        let site = sizing::SizingContext::new(workload, metadata, profile, context);
        sizing::size(spec, inspection, &site, notes)?;
        harden::harden(spec, surplus, notes)?;
    }
    pin::pin(spec, inspection, context.unpinned, notes)
}

/// Warns that a DaemonSet's pods may stay pending: its controller makes a pod for every node that fits the template,
/// and the template lacks what the plan adds to the pod.
fn warn_of_daemon_set(spec: &Object, profile: &Profile, context: &Context<'_>, notes: &mut Notes) {
    let added = |token: &str| notes.tokens.contains_key(token);
    let mut bounds = Vec::new();
    // These shims run on Linux nodes only, so a requirement for Linux is no surprise. That it leaves Windows nodes without a pod is in
    // `docs/configuration.md`: the gate does not know whether there are any, and most clusters have none.
    let surprising: Vec<_> =
        profile.node_affinity.iter().filter(|one| one.key != "kubernetes.io/os").cloned().collect();
    if added("affinity") && !surprising.is_empty() {
        bounds.push(affinity::listed(&surprising));
    }
    let class = spec.get("runtimeClassName").and_then(Value::as_str).filter(|_| added("runtimeClassName"));
    let classes = context.cluster.runtime_classes.as_ref();
    let selector = class.and_then(|class| classes?.get(class)).map(|class| &class.node_selector);
    bounds.extend(selector.into_iter().flatten().map(|(key, value)| format!("`{key}={value}`")));
    if !bounds.is_empty() {
        notes.warn(format!(
            "the pods of this DaemonSet are bound to nodes with {}: on every other node its pod stays pending; require the \
             same in `spec.template.spec`, so that none is made there",
            bounds.join(" and ")
        ));
    }
}

/// Writes the annotation. Entries from an earlier review stay in front, if wasmgate could have written them for this
/// pod.
fn annotate(pod: &mut Object, inspection: &Inspection, notes: &Notes) -> Result<(), Error> {
    let metadata = object_mut(pod, "metadata", "")?;
    let annotations = object_mut(metadata, "annotations", "metadata")?;
    let earlier = text(annotations, CHANGED_ANNOTATION, "metadata.annotations")?.unwrap_or_default();
    let tokens = notes.in_order();
    let joined =
        if earlier.is_empty() { tokens.join(",") } else { with_earlier(earlier, inspection, &tokens) };
    annotations.insert(CHANGED_ANNOTATION.to_owned(), json!(joined));
    Ok(())
}

/// Entries of both, each once. They are looked for in sets: a tenant chooses how many there are, and how many containers.
fn with_earlier(earlier: &str, inspection: &Inspection, tokens: &[&str]) -> String {
    let names: BTreeSet<&str> = inspection.containers.iter().map(|one| one.name.as_str()).collect();
    let known = earlier.split(',').filter(|entry| could_be_ours(entry, &names));
    let mut seen = BTreeSet::new();
    let all = known.chain(tokens.iter().copied()).filter(|entry| seen.insert(*entry));
    all.collect::<Vec<&str>>().join(",")
}

fn could_be_ours(entry: &str, names: &BTreeSet<&str>) -> bool {
    match entry.split_once('/') {
        None => {
            matches!(entry, "runtimeClassName" | "affinity" | "tolerations")
                || harden::OF_POD.contains(&entry)
        }
        Some(("resources" | "learned" | "image" | "volume" | harden::READ_ONLY, name)) => {
            names.contains(name)
        }
        Some(_) => false,
    }
}
