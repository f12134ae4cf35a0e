//! The tools that every part of the plan uses: reaching into the raw JSON without losing what stands beside, and
//! noting what was done.

use crate::quantity::{NotAQuantity, Quantity};
use serde_json::{Map, Value};

use crate::workload::Role;

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// Why a plan cannot be made. The API server refuses such an object as well; a manifest on disk may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field has another type than the API gives it.
    #[error("could not plan: `{field}` is not {expected}; correct it, or leave it out")]
    ReadField {
        /// Path such as `spec.affinity.nodeAffinity`.
        field: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// A quantity does not parse.
    #[error(
        "could not plan: `{field}` is `{value}`, which is no quantity; write one such as `50m` or `32Mi`"
    )]
    ReadQuantity {
        /// Path such as `spec.containers[0].resources.limits.memory`.
        field: String,
        /// As written, cut to 64 characters.
        value: String,
    },
    /// The inspection speaks of a container that the object does not have.
    #[error("could not plan: `{field}` is not `{expected}`; inspect the object that is to be planned")]
    FindContainer {
        /// Path such as `spec.containers[0].name`.
        field: String,
        /// What the inspection saw there.
        expected: String,
    },
}

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Entries for the annotation, in the order of the edits.
    pub(super) tokens: Vec<String>,
    /// One line per change.
    pub(super) changes: Vec<String>,
    /// What will not work as it stands, for the person who applied the object.
    pub(super) warnings: Vec<String>,
    /// What was done to values that this person wrote.
    pub(super) notices: Vec<String>,
}

impl Notes {
    /// Notes a change under its entry in the annotation.
    pub(super) fn change(&mut self, token: &str, line: String) {
        if !self.tokens.iter().any(|known| known == token) {
            self.tokens.push(token.to_owned());
        }
        self.changes.push(line);
    }

    /// Notes something that a person should know.
    pub(super) fn warn(&mut self, line: String) {
        self.warnings.push(line);
    }

    /// Notes that a value which a person wrote was completed or changed.
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

/// The object under `key`, made when it is absent or null.
pub(super) fn object_mut<'a>(parent: &'a mut Object, key: &str, path: &str) -> Result<&'a mut Object, Error> {
    let slot = parent.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Object::new());
    }
    slot.as_object_mut().ok_or_else(|| not(joined(path, key), "an object"))
}

/// The list under `key`, made when it is absent or null.
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

/// The text under `key`; `None` when it is absent, null or empty, which the API takes for the same.
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

/// A field that has another type than the API gives it.
pub(super) const fn not(field: String, expected: &'static str) -> Error {
    Error::ReadField { field, expected }
}

/// The container (or volume) at a position, after a look at its name: an inspection of another object would size
/// and pin the wrong container.
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
        // Some manifests are still without a name; the API server refuses them later.
        None | Some(Value::Null) if name.is_empty() => Ok(item),
        _ => Err(wrong()),
    }
}

/// The quantity that stands in a field of the object.
pub(super) fn quantity(value: &Value, field: &str) -> Result<Quantity, Error> {
    Quantity::from_json(value)
        .map_err(|NotAQuantity { value }| Error::ReadQuantity { field: field.into(), value })
}
