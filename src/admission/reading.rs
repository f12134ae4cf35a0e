//! Reads the object of a review, or says why there is nothing to examine.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use super::ending::{Ending, Skip};
use super::examine::ReviewContext;
use super::state::State;
use crate::image::annotation::{handlers, on_node, wasm_handlers};
use crate::review::{Operation, Webhook};
use crate::workload::{self, Kind, Workload};

/// The workload of the review and its JSON, or why there is nothing to examine.
pub(super) fn read<'a, K>(asked: &ReviewContext<'a>) -> Result<(Workload, Cow<'a, RawValue>), Ending<K>> {
    let ReviewContext { state, review, .. } = *asked;
    if let Some(skip) = not_ours(asked) {
        return Err(Ending::Skipped(skip));
    }
    let kind = state.kinds.of(&review.kind).ok_or_else(|| {
        let by_others = workload::is_completed_by_others(&review.kind);
        Ending::Skipped(if by_others { Skip::CompletedByOthers } else { Skip::UnknownKind })
    })?;
    let object = review.object.as_deref().ok_or(Ending::Skipped(Skip::NoObject))?;
    let judged = workload::as_judged(object, kind);
    let read = judged.and_then(|object| Ok((workload::read(object.get(), kind, &review.namespace)?, object)));
    let (workload, object) = read.map_err(|error| match error {
        workload::Error::FindTemplate { .. } => Ending::Skipped(Skip::NoTemplate),
        error => {
            let under_wasm = names_wasm_class(state, kind, object.get());
            Ending::Unreadable { error: error.into(), under_wasm }
        }
    })?;
    match nothing_to_do(asked, &workload, object.get()) {
        Some(skip) => Err(Ending::Skipped(skip)),
        None => Ok((workload, object)),
    }
}

/// Subresources that carry no image, of kinds with a pod spec.
const HARMLESS_SUBRESOURCES: &[&str] =
    &["status", "scale", "binding", "eviction", "exec", "attach", "portforward", "log", "proxy", "token"];

/// Why a review can be answered without reading its object; `None` if it cannot.
fn not_ours(asked: &ReviewContext<'_>) -> Option<Skip> {
    let review = asked.review;
    let sub_resource = review.sub_resource.as_deref();
    if asked.state.exempt_namespaces.contains(&review.namespace) {
        return Some(Skip::ExemptNamespace);
    }
    if matches!(review.operation, Operation::Delete | Operation::Connect) {
        return Some(Skip::StartsNothing);
    }
    if sub_resource.is_some_and(|name| HARMLESS_SUBRESOURCES.contains(&name)) {
        return Some(Skip::NoImageInSubresource);
    }
    let patched = review.operation == Operation::Create && sub_resource.is_none();
    (asked.webhook == Webhook::Mutate && !patched).then_some(Skip::OnlyNewPodsAreChanged)
}

/// Why an object that was read is left alone; `None` if it must be examined.
fn nothing_to_do(asked: &ReviewContext<'_>, workload: &Workload, object: &str) -> Option<Skip> {
    let review = asked.review;
    if workload.is_mirror() {
        return Some(Skip::MirrorPod);
    }
    if asked.webhook == Webhook::Mutate && workload.kind.is_template() {
        return Some(Skip::OnlyNewPodsAreChanged);
    }
    if review.operation != Operation::Update {
        return None;
    }
    // On CREATE the field would be forged: the API server sets it only when an object is deleted.
    if workload.terminating {
        return Some(Skip::Terminating);
    }
    let old = review.old_object.as_deref()?;
    let judged = workload::as_judged(old, workload.kind).ok()?;
    let old = workload::read(judged.get(), workload.kind, &review.namespace).ok()?;
    let same = same_handlers(workload, &old) && !workload::changed(workload, &old);
    (same && workload::same_spec(object, judged.get(), workload.kind)).then_some(Skip::Unchanged)
}

/// Whether the same handler starts the images: an annotation that is changed before the pod is bound decides that. A pod of a
/// class is examined for any value, since a build of crun may have a handler of that name, and for what makes crun act on the
/// node; of a pod without one only the values count that mean Wasm.
fn same_handlers(new: &Workload, old: &Workload) -> bool {
    let (new_ones, old_ones) = (&new.annotations, &old.annotations);
    if new.spec.runtime_class_name.is_none() {
        return wasm_handlers(new_ones) == wasm_handlers(old_ones);
    }
    handlers(new_ones) == handlers(old_ones) && on_node(new_ones).eq(on_node(old_ones))
}

/// Whether an object that cannot be read as a workload still names a Wasm runtime.
fn names_wasm_class(state: &State, kind: Kind, object: &str) -> bool {
    let value: Value = serde_json::from_str(object).unwrap_or_default();
    let field = format!("{}/spec/runtimeClassName", kind.template_pointer());
    value.pointer(&field).and_then(Value::as_str).is_some_and(|class| state.profile_of(class).is_some())
}
