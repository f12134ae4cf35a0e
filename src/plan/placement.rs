//! Which runtime the pod will run under. A class that a person set is kept. Otherwise the kinds of all programs decide,
//! and the class is written only if the API server will accept it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::image::{ImageKind, Program};
use crate::inspection::{Container, Inspection};
use crate::runtime::Profile;

use super::Context;
use super::draft::{Error, Notes, Object, object, text};

const FIELD: &str = "runtimeClassName";

/// The Wasm programs that the pod starts with.
pub(super) fn wasm_programs(inspection: &Inspection) -> impl Iterator<Item = (&Container, &Program)> {
    let starting = inspection.containers.iter().filter(|container| container.role.starts_with_pod());
    starting.filter_map(|container| {
        let (_, program) = container.known()?;
        matches!(program, Program::Wasm { .. }).then_some((container, program))
    })
}

/// Image kind → name of the first container that starts one.
type Kinds<'a> = BTreeMap<ImageKind, &'a str>;

fn kinds_of(inspection: &Inspection) -> Kinds<'_> {
    let mut kinds = Kinds::new();
    for (container, program) in wasm_programs(inspection) {
        if let Program::Wasm { kind, .. } = program {
            kinds.entry(*kind).or_insert(&container.name);
        }
    }
    kinds
}

/// The profile that fits a pod without a runtime class, judged by its programs.
pub fn expected<'a>(inspection: &Inspection, context: &Context<'a>) -> Option<&'a Profile> {
    choose(&kinds_of(inspection), context, &mut Notes::default())
}

/// Writes the runtime class if the pod has none, and returns the profile that the pod will run under; `None` when the
/// configuration knows no such profile.
pub(super) fn place<'a>(
    spec: &mut Object,
    inspection: &Inspection,
    context: &Context<'a>,
    notes: &mut Notes,
) -> Result<Option<&'a Profile>, Error> {
    let kinds = kinds_of(inspection);
    if let Some(class) = text(spec, FIELD, "spec")? {
        let profile = context.cluster.profile_of(context.runtimes, class);
        if let Some(profile) = profile {
            judge(profile, class, &kinds, notes);
        }
        return Ok(profile);
    }
    let Some(profile) = choose(&kinds, context, notes) else { return Ok(None) };
    let Some(class) = class_of(profile, spec, context, notes)? else { return Ok(None) };
    spec.insert(FIELD.to_owned(), Value::String(class.to_owned()));
    notes.change(FIELD, format!("spec.{FIELD} = {class}"));
    Ok(Some(profile))
}

/// Warns about the containers that the class set by a person cannot run.
fn judge(profile: &Profile, class: &str, kinds: &Kinds<'_>, notes: &mut Notes) {
    for (kind, container) in kinds.iter().filter(|(kind, _)| !profile.runs.contains(kind)) {
        notes.warn(format!(
            "container `{container}`: runtime class `{class}` cannot run an image of kind `{}`; \
             leave out `{FIELD}` to have one chosen",
            kind.as_str()
        ));
    }
}

/// The only profile that runs every kind.
fn choose<'a>(kinds: &Kinds<'_>, context: &Context<'a>, notes: &mut Notes) -> Option<&'a Profile> {
    let mut wanted: Vec<&Profile> = Vec::new();
    for (kind, container) in kinds {
        let Some(profile) = context.runtimes.for_kind(*kind) else {
            notes.warn(format!(
                "container `{container}`: no runtime is configured for images of kind `{}`; \
                 set `{FIELD}`, or name a runtime profile for the kind",
                kind.as_str()
            ));
            return None;
        };
        if !wanted.iter().any(|known| known.name == profile.name) {
            wanted.push(profile);
        }
    }
    if let [only] = wanted.as_slice() {
        return Some(only);
    }
    let all = wanted.iter().find(|profile| kinds.keys().all(|kind| profile.runs.contains(kind))).copied();
    if all.is_none() {
        let needs: Vec<String> =
            kinds.iter().map(|(kind, container)| format!("`{container}` ({})", kind.as_str())).collect();
        notes.warn(format!(
            "no runtime class was set: the containers {} need different ones, and a pod has one; \
             move them to pods of their own",
            needs.join(" and ")
        ));
    }
    all
}

/// The first RuntimeClass of the profile that the API server would accept for this pod, judged by the snapshot of the
/// cluster (`kubernetes:plugin/pkg/admission/runtimeclass/admission.go`). With any other, the API server would refuse
/// the pod and the user would blame wasmgate.
fn class_of<'a>(
    profile: &'a Profile,
    spec: &Object,
    context: &Context<'a>,
    notes: &mut Notes,
) -> Result<Option<&'a str>, Error> {
    let Some(classes) = context.cluster.classes_of(context.runtimes, profile) else {
        return Ok(Some(&profile.runtime_class));
    };
    let selector = object(spec, "nodeSelector", "spec")?;
    let mut refused = None;
    for (name, class) in classes {
        let conflict = class.node_selector.iter().find(|(key, value)| {
            selector.and_then(|own| own.get(*key)).is_some_and(|own| own.as_str() != Some(value))
        });
        let Some((key, value)) = conflict else { return Ok(Some(name)) };
        refused.get_or_insert_with(|| {
            format!(
                "no runtime class was set: RuntimeClass `{name}` selects nodes with `{key}={value}`, and \
                 `spec.nodeSelector` wants another value; leave `{key}` out of it"
            )
        });
    }
    notes.warn(refused.unwrap_or_else(|| missing(profile)));
    Ok(None)
}

/// What the cluster must have for pods of the profile.
fn missing(profile: &Profile) -> String {
    let Profile { name, runtime_class, class_labels, .. } = profile;
    let handlers: BTreeSet<&String> =
        profile.handlers.iter().chain(&profile.aliases).chain([runtime_class]).collect();
    let handlers = handlers.into_iter().map(|handler| format!("`{handler}`")).collect::<Vec<_>>().join(", ");
    let labels: Vec<_> = class_labels.iter().map(|(key, value)| format!("`{key}={value}`")).collect();
    let labelled = if labels.is_empty() { String::new() } else { format!(" labelled {}", labels.join(", ")) };
    format!(
        "no runtime class was set: the cluster has no RuntimeClass `{runtime_class}`{labelled} and none with the \
         handler {handlers}; create it with the handler of its shim (profile `{name}`)"
    )
}
