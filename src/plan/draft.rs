//! Helpers that every part of the plan shares: editing the raw JSON without losing neighbouring fields, and noting what
//! was done.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::quantity::{NotAQuantity, Quantity};
use crate::workload::Role;

/// Annotation on a pod that lists what wasmgate changed, such as
/// `runtimeClassName,affinity,resources/app,learned/app,automountServiceAccountToken,image/app`. `learned/app` says that a request of the container
/// follows from what its image has used.
/// It is for people. Sizing reads from it which containers an earlier call has sized, so forging it gains nothing: the
/// sizes that LimitRanges filled in for that pod then stay as they are.
pub const CHANGED_ANNOTATION: &str = "wasmgate.dev/changed";

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// Why a plan cannot be made. The API server refuses such objects as well, but a manifest on disk may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field has a type that the API does not allow.
    #[error("could not plan: `{field}` is not {expected}; correct it, or leave it out")]
    ReadField {
        /// Path such as `spec.affinity.nodeAffinity`.
        field: String,
        /// What the field should hold.
        expected: &'static str,
    },
    /// A quantity does not parse.
    #[error(
        "could not plan: `{field}` is `{value}`, which is not a quantity; write one such as `50m` or `32Mi`"
    )]
    ReadQuantity {
        /// Path such as `spec.containers[0].resources.limits.memory`.
        field: String,
        /// As written, cut to 64 characters.
        value: String,
    },
    /// The inspection describes a container that the object does not have.
    #[error("could not plan: `{field}` is not `{expected}`; inspect the object that is to be planned")]
    FindContainer {
        /// Path such as `spec.containers[0].name`.
        field: String,
        /// What the inspection found there.
        expected: String,
    },
}

impl Error {
    /// The same about a pod template, whose place in its object this is, such as `spec.template`.
    #[must_use]
    pub fn in_template(self, place: &str) -> Self {
        let below = |field: String| if place.is_empty() { field } else { format!("{place}.{field}") };
        match self {
            Self::ReadField { field, expected } => Self::ReadField { field: below(field), expected },
            Self::ReadQuantity { field, value } => Self::ReadQuantity { field: below(field), value },
            Self::FindContainer { field, expected } => Self::FindContainer { field: below(field), expected },
        }
    }
}

/// The changes and messages so far.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Entries for the annotation, each with its number in the order of the edits. A tenant chooses how many there are.
    pub(super) tokens: BTreeMap<String, usize>,
    /// One line per change.
    pub(super) changes: Vec<String>,
    /// For the person who applied the object: what will not work as it is.
    pub(super) warnings: Vec<String>,
    /// For the person who applied the object: which of their values were changed or completed.
    pub(super) notices: Vec<String>,
    /// Those of both that say what no grant covers and was taken away.
    pub(super) taken: Vec<String>,
}

impl Notes {
    /// Notes a change under its entry in the annotation.
    pub(super) fn change(&mut self, token: &str, line: String) {
        self.add(token.to_owned());
        self.changes.push(line);
    }

    /// Adds an entry to the annotation, once.
    fn add(&mut self, token: String) {
        let number = self.tokens.len();
        self.tokens.entry(token).or_insert(number);
    }

    /// The entries for the annotation, in the order of the edits.
    pub(super) fn in_order(&self) -> Vec<&str> {
        let mut numbered: Vec<(&String, &usize)> = self.tokens.iter().collect();
        numbered.sort_by_key(|(_, number)| **number);
        numbered.into_iter().map(|(token, _)| token.as_str()).collect()
    }

    /// Explains a request that was learned: with an entry in the annotation, and behind the line that says the change.
    pub(super) fn explain_learned(&mut self, container: &str, resource: &str, profile: &str) {
        self.add(format!("learned/{container}"));
        if let Some(line) = self.changes.last_mut() {
            for part in [", learned from the ", resource, " that this image has used under `", profile, "`"] {
                line.push_str(part);
            }
        }
    }

    /// Says why, behind the line of the last change.
    pub(super) fn explain(&mut self, why: &str) {
        if let Some(line) = self.changes.last_mut() {
            line.push_str(why);
        }
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, line: String) {
        self.warnings.push(line);
    }

    /// Adds a notice that a person's value was changed or completed.
    pub(super) fn tell(&mut self, line: String) {
        self.notices.push(line);
    }
}

/// The object under `key`; `None` when it is absent or null.
pub(super) fn object<'a>(parent: &'a Object, key: &str, path: &str) -> Result<Option<&'a Object>, Error> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(found)) => Ok(Some(found)),
        Some(_) => Err(not(joined(path, key), "an object")),
    }
}

/// The object under `key`, created when it is absent or null.
pub(super) fn object_mut<'a>(parent: &'a mut Object, key: &str, path: &str) -> Result<&'a mut Object, Error> {
    let slot = parent.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Object::new());
    }
    slot.as_object_mut().ok_or_else(|| not(joined(path, key), "an object"))
}

/// The list under `key`, created when it is absent or null.
pub(super) fn list_mut<'a>(
    parent: &'a mut Object,
    key: &str,
    path: &str,
) -> Result<&'a mut Vec<Value>, Error> {
    let slot = parent.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().ok_or_else(|| not(joined(path, key), "a list"))
}

/// The text under `key`; `None` when it is absent, null or empty. The API treats the three alike.
pub(super) fn text<'a>(parent: &'a Object, key: &str, path: &str) -> Result<Option<&'a str>, Error> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(found)) => Ok(Some(found.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(not(joined(path, key), "text")),
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The error for a field whose type the API does not allow.
pub(super) const fn not(field: String, expected: &'static str) -> Error {
    Error::ReadField { field, expected }
}

/// The container (or volume) at a position, after its name was compared: an inspection of another object would make the
/// plan size and pin the wrong container.
pub(super) fn container_mut<'a>(
    spec: &'a mut Object,
    role: Role,
    index: usize,
    name: &str,
) -> Result<&'a mut Object, Error> {
    let list = role.list();
    let wrong =
        || Error::FindContainer { field: format!("spec.{list}[{index}].name"), expected: name.to_owned() };
    let item = spec.get_mut(list).and_then(|items| items.get_mut(index)).and_then(Value::as_object_mut);
    let item = item.ok_or_else(wrong)?;
    match item.get("name") {
        Some(Value::String(found)) if found == name => Ok(item),
        // The object may have no name yet; the API server refuses it later.
        None | Some(Value::Null) if name.is_empty() => Ok(item),
        _ => Err(wrong()),
    }
}

/// The quantity in a field of the object.
pub(super) fn quantity(value: &Value, field: &str) -> Result<Quantity, Error> {
    Quantity::from_json(value)
        .map_err(|NotAQuantity { value }| Error::ReadQuantity { field: field.into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_the_order_of_the_edits_each_once() {
        let mut notes = Notes::default();
        for token in ["volume/z", "image/a", "volume/z", "affinity"] {
            notes.change(token, String::new());
        }
        notes.explain_learned("app", "memory", "p");
        notes.explain_learned("app", "cpu", "p");
        assert_eq!(notes.in_order(), ["volume/z", "image/a", "affinity", "learned/app"]);
        assert_eq!(notes.changes.len(), 4);
    }
}
