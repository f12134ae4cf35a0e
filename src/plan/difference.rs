//! The patch from a pod as it was to the planned one. A plan changes the spec and one annotation, so nothing else of an object is
//! copied, compared, or looked at.

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use jsonptr::PointerBuf;
use serde_json::Value;

use super::draft::Object;
use crate::text::pointer::unescaped;

/// What a plan may change of a pod, as it was.
pub(super) struct Before {
    spec: Object,
    /// An object with the metadata, of which the annotations alone are there.
    metadata: Object,
}

impl Before {
    /// Copies it from a pod or a pod template.
    pub(super) fn of(pod: &Object) -> Self {
        let spec = pod.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        Self { spec, metadata: metadata_of(pod) }
    }

    /// The patch to the pod as it is now, which stands at a JSON pointer of its object. It is the one that a comparison of the whole objects
    /// finds, in the same order.
    pub(super) fn patch(&self, pointer: &str, pod: &Object) -> Patch {
        let mut patch = Patch::default();
        let tokens = pointer.split('/').skip(1).map(unescaped);
        let mut at = PointerBuf::from_tokens(tokens);
        compare(&self.metadata, &metadata_of(pod), &at, &mut patch);
        if let Some(spec) = pod.get("spec").and_then(Value::as_object) {
            at.push_back("spec");
            compare(&self.spec, spec, &at, &mut patch);
        }
        patch
    }
}

fn metadata_of(pod: &Object) -> Object {
    let annotations = |metadata: &Value| match metadata {
        Value::Object(all) => {
            let found = all.get("annotations").map(|found| ("annotations".to_owned(), found.clone()));
            Value::Object(found.into_iter().collect())
        }
        other => other.clone(),
    };
    pod.get("metadata").map(|found| ("metadata".to_owned(), annotations(found))).into_iter().collect()
}

/// Adds what leads from one object to the other. To compare two equal values takes no memory; to write down the difference of two takes a
/// path for each value in them.
fn compare(before: &Object, after: &Object, at: &PointerBuf, patch: &mut Patch) {
    for (key, value) in after {
        match before.get(key) {
            Some(former) if former == value => {}
            Some(former) => compare_values(former, value, &below(at, key), patch),
            None => {
                let added = AddOperation { path: below(at, key), value: value.clone() };
                patch.0.push(PatchOperation::Add(added));
            }
        }
    }
    let removed = before.keys().filter(|key| !after.contains_key(key.as_str()));
    patch.0.extend(removed.map(|key| PatchOperation::Remove(RemoveOperation { path: below(at, key) })));
}

/// Adds what leads from one value to another that differs, about what is different of them alone as far as that is found place by place.
fn compare_values(before: &Value, after: &Value, at: &PointerBuf, patch: &mut Patch) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => compare(before, after, at, patch),
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            let pairs = before.iter().zip(after).enumerate().filter(|(_, (before, after))| before != after);
            for (place, (before, after)) in pairs {
                compare_values(before, after, &below(at, &place.to_string()), patch);
            }
        }
        _ => {
            let found = json_patch::diff(before, after);
            patch.0.extend(found.0.into_iter().map(|operation| moved(operation, at)));
        }
    }
}

fn below(at: &PointerBuf, key: &str) -> PointerBuf {
    let mut path = at.clone();
    path.push_back(key);
    path
}

/// The same operation on an object in which the value stands at a path.
fn moved(mut operation: PatchOperation, above: &PointerBuf) -> PatchOperation {
    let put = |path: &mut PointerBuf| {
        let mut whole = above.clone();
        whole.append(&*path);
        *path = whole;
    };
    match &mut operation {
        PatchOperation::Add(one) => put(&mut one.path),
        PatchOperation::Remove(one) => put(&mut one.path),
        PatchOperation::Replace(one) => put(&mut one.path),
        // No difference is written as one of these.
        PatchOperation::Move(_) | PatchOperation::Copy(_) | PatchOperation::Test(_) => {}
    }
    operation
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Objects with what a plan may do to one: keys that are added, replaced, emptied and removed, and names that a pointer has to escape.
    #[test]
    fn a_patch_is_what_a_comparison_of_the_whole_objects_finds() {
        let spec = json!({"a": [1, {"b": 2}], "c/d": {"e~f": "g"}, "h": null, "same": {"i": [1, 2]},
            "list": [{"k": 1, "l": [1, {"m": {}}]}, {"n": 2}, [], 3]});
        let changed = json!({"a": [1, {"b": 3}, 4], "c/d": {"e~f": 1, "/": []}, "new": {"j": 1}, "same": {"i": [1, 2]},
            "list": [{"k": 1, "l": [2, {"m": {"o": [1]}}]}, {"p": 2}, {}, 3]});
        let own = json!({"wasmgate.dev/changed": "affinity"});
        let all = json!({"k": "l", "wasmgate.dev/changed": "affinity"});
        for (pointer, wrapped) in [("", false), ("/spec/template", true)] {
            let object = |metadata: Option<&Value>, spec: &Value| {
                let mut pod = json!({"apiVersion": "v1", "spec": spec, "status": {"m": 1}});
                if let Some(metadata) = metadata {
                    pod["metadata"] = metadata.clone();
                }
                if wrapped {
                    json!({"metadata": {"name": "n"}, "spec": {"o": 1, "template": pod}})
                } else {
                    pod
                }
            };
            for (former, planned) in [
                (None, json!({"annotations": own})),
                (Some(json!(null)), json!({"annotations": own})),
                (Some(json!({"name": "n"})), json!({"name": "n", "annotations": own})),
                (Some(json!({"annotations": null})), json!({"annotations": own})),
                (
                    Some(json!({"annotations": {"k": "l"}, "name": "n"})),
                    json!({"annotations": all, "name": "n"}),
                ),
            ] {
                let (one, other) = (object(former.as_ref(), &spec), object(Some(&planned), &changed));
                let pod =
                    |object: &Value| object.pointer(pointer).and_then(Value::as_object).cloned().unwrap();
                let found = Before::of(&pod(&one)).patch(pointer, &pod(&other));
                assert_eq!(found, json_patch::diff(&one, &other));
                let mut patched = one.clone();
                json_patch::patch(&mut patched, &found).unwrap();
                assert_eq!(patched, other);
                assert!(Before::of(&pod(&one)).patch(pointer, &pod(&one)).0.is_empty());
            }
        }
    }
}
