//! What a record does not say, since it is masked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::recorded::RecordedDecision;
use crate::admission::State;
use crate::audit::mask::{POLICY_INPUT, REDACTED};
use crate::judge::enforcement::Version;
use crate::judge::{ENFORCE_LABEL, ENFORCE_VERSION_LABEL};
use crate::policy::EnforcementAction;
use crate::text::pointer::unescaped;

/// What takes the place of a masked value the second time. A rule that asks whether there is a value finds none.
const OTHER: &str = "";

/// The labels of a namespace that say what is done about violations, and their values.
const LABELS: [(&str, &[&str]); 2] = [
    (
        ENFORCE_LABEL,
        &[
            EnforcementAction::Deny.as_str(),
            EnforcementAction::Warn.as_str(),
            EnforcementAction::Audit.as_str(),
        ],
    ),
    (ENFORCE_VERSION_LABEL, &[Version::Latest.as_str(), Version::V1Alpha1.as_str()]),
];

/// Pointers into the document to everything in it that is masked.
pub(super) fn inside(recorded: &RecordedDecision) -> impl Iterator<Item = &str> {
    let all = recorded.masked.iter().chain(&recorded.erased);
    all.filter_map(|pointer| pointer.strip_prefix(POLICY_INPUT))
}

/// Those that a bundle may read which decides.
pub(super) fn read(state: &State, recorded: &RecordedDecision) -> Vec<String> {
    let may_be_read = |pointer: &&str| {
        let place: Vec<_> = pointer.split('/').skip(1).map(unescaped).collect();
        state.policies.may_read(&place)
    };
    inside(recorded).filter(may_be_read).map(String::from).collect()
}

/// Whether all that is at a key of the document is masked. What rules would have found below it is not known, and no two values that
/// are tried are like it.
pub(super) fn is_whole(pointer: &str) -> bool {
    pointer.matches('/').count() <= 1
}

/// The document with other values for those that are masked.
pub(super) fn filled(input: &Map<String, Value>, hidden: &[String]) -> Map<String, Value> {
    let mut document = Value::Object(input.clone());
    for pointer in hidden {
        match document.pointer_mut(pointer) {
            Some(value) if value == REDACTED => *value = OTHER.into(),
            Some(_) => {}
            None => insert(&mut document, pointer),
        }
    }
    match document {
        Value::Object(document) => document,
        _ => Map::new(),
    }
}

/// Puts a value where one was taken out.
fn insert(document: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(members)) = document.pointer_mut(parent) {
        members.insert(unescaped(key), OTHER.into());
    }
}

/// The masked labels of the namespace that say what is done about violations.
pub(super) fn enforcement(recorded: &RecordedDecision) -> Vec<String> {
    let is_label = |pointer: &&str| {
        let label = pointer.strip_prefix("/workload/namespaceLabels/").map(unescaped);
        label.is_some_and(|label| LABELS.iter().any(|(known, _)| *known == label))
    };
    inside(recorded).filter(is_label).map(String::from).collect()
}

/// The labels as they may have been, the strictest first, where those of [`enforcement`] are masked.
pub(super) fn possible(
    labels: &BTreeMap<String, String>,
    masked: &[String],
) -> Vec<BTreeMap<String, String>> {
    let is_masked =
        |label: &str| masked.iter().any(|pointer| unescaped(pointer).ends_with(&format!("/{label}")));
    let mut all = vec![labels.clone()];
    for (label, values) in LABELS.into_iter().filter(|(label, _)| is_masked(label)) {
        let former = all;
        let with = |value: &'static str| {
            former.iter().map(move |labels| {
                let mut labels = labels.clone();
                labels.insert(label.into(), value.into());
                labels
            })
        };
        all = values.iter().flat_map(|value| with(value)).collect();
    }
    all
}

/// What is masked of the pod and its namespace that exceptions, and enforcement actions by namespace, depend on.
pub(super) fn identity(state: &State, recorded: &RecordedDecision) -> Vec<String> {
    let (exempts, by_namespace) = (!state.exceptions.is_empty(), !state.enforcement.namespaces.is_empty());
    let matters = |pointer: &&str| {
        let parts: Vec<_> = pointer.split('/').skip(1).collect();
        match parts.as_slice() {
            ["workload", "namespace"] => exempts || by_namespace,
            ["workload", "serviceAccount"]
            | ["workload", "labels", ..]
            | ["containers", _, "name" | "image"] => exempts,
            _ => false,
        }
    };
    inside(recorded).filter(matters).map(String::from).collect()
}
