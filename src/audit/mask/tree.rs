//! The same masks on a tree of the document: what the pass over the text is compared with. Each member is looked at with its form at hand, so this
//! is short, and slower.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{APPLIED_MANIFESTS, DATA, MaskReport, Masks};
use crate::audit::secrets::{REDACTED, Secrets};
use crate::text::pointer::append;

/// What [`super::Masking`] is compared with.
pub(super) struct Tree<'a> {
    masks: &'a Masks,
    pub(super) report: MaskReport,
    pub(super) secrets: Secrets,
}

impl<'a> Tree<'a> {
    pub(super) fn new(masks: &'a Masks) -> Self {
        Self { masks, report: MaskReport::default(), secrets: Secrets::default() }
    }

    /// Pointers in an order that does not tell how the document was gone through.
    pub(super) fn pointers(report: &MaskReport) -> [BTreeSet<String>; 2] {
        [&report.erased, &report.masked].map(|pointers| pointers.iter().cloned().collect())
    }

    pub(super) fn object(&mut self, mut document: Value, at: &str) -> Value {
        if let Value::Object(members) = &mut document {
            for member in DATA {
                erase(members, member, at, self);
            }
        }
        walk(&mut document, &mut at.to_string(), self);
        document
    }

    pub(super) fn policy_input(&mut self, mut document: Map<String, Value>, at: &str) -> Value {
        let mut at = at.to_string();
        for (key, member) in document.iter_mut().filter(|(key, _)| *key != "options") {
            within(&mut at, key, |at| {
                if let Value::Object(members) = &mut *member {
                    for data in DATA {
                        erase(members, data, at, self);
                    }
                }
                visit(key, member, at, self);
            });
        }
        Value::Object(document)
    }
}

/// Masks below a value. The recursion is bounded, since the parser refuses documents deeper than 128 levels.
fn walk(value: &mut Value, at: &mut String, to: &mut Tree<'_>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                within(at, key, |at| visit(key, member, at, to));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                within(at, &index.to_string(), |at| walk(item, at, to));
            }
        }
        _ => {}
    }
}

fn visit(key: &str, member: &mut Value, at: &mut String, to: &mut Tree<'_>) {
    match (key, &mut *member) {
        ("variables", Value::Array(_)) => return values(member, at, to),
        ("runtimeConfig", Value::Object(_)) => return runtime_config(member, at, to),
        ("env" | "httpHeaders", Value::Array(_) | Value::Object(_)) => return variables(member, at, to),
        ("metadata", Value::Object(metadata)) => remove(metadata, "managedFields", at, to),
        ("annotations", Value::Object(members)) => annotations(members, at, to),
        ("exec", Value::Object(exec)) => arguments(exec, at, to),
        ("csi", Value::Object(source)) => options(source, "volumeAttributes", at, to),
        ("flexVolume", Value::Object(source)) => options(source, "options", at, to),
        ("gitRepo", Value::Object(source)) => repository(source, at, to),
        _ => {}
    }
    walk(member, at, to);
}

/// Removes copies of the manifest and what the platform lists. A copy is a secret as a whole, and so are the values in it, which may
/// be older than those that stand in the object.
fn annotations(members: &mut Map<String, Value>, at: &str, to: &mut Tree<'_>) {
    for copy in APPLIED_MANIFESTS {
        if let Some(Value::String(text)) = members.get(copy)
            && let Ok(mut document) = serde_json::from_str::<Value>(text)
        {
            // A copy in the copy is shorter, since it is quoted twice, so this ends. What is masked in it is not listed.
            let listed = std::mem::take(&mut to.report);
            walk(&mut document, &mut String::new(), to);
            to.report = listed;
        }
        erase(members, copy, at, to);
    }
    let listed: Vec<String> = members.keys().filter(|name| to.masks.has(name)).cloned().collect();
    for name in listed {
        erase(members, &name, at, to);
    }
}

/// Masks what a probe or a hook hands to its program (`k8s.io/api:core/v1/types.go`, `ExecAction`). The program's name stays.
fn arguments(exec: &mut Map<String, Value>, at: &mut String, to: &mut Tree<'_>) {
    let Some(Value::Array(words)) = exec.get_mut("command") else { return };
    within(at, "command", |at| {
        for (index, word) in words.iter_mut().enumerate().skip(1) {
            within(at, &index.to_string(), |at| redact(word, at, to));
        }
    });
}

/// Masks the options that a volume's driver gets (`k8s.io/api:core/v1/types.go`, `CSIVolumeSource` and `FlexVolumeSource`).
fn options(source: &mut Map<String, Value>, key: &str, at: &mut String, to: &mut Tree<'_>) {
    let Some(found) = source.get_mut(key) else { return };
    within(at, key, |at| variables(found, at, to));
}

/// Masks an address with a user or a token in it.
fn repository(source: &mut Map<String, Value>, at: &mut String, to: &mut Tree<'_>) {
    let Some(address) = source.get_mut("repository") else { return };
    if address.as_str().is_none_or(|address| address.contains('@')) {
        within(at, "repository", |at| redact(address, at, to));
    }
}

/// Masks the values in a list of names and values of a custom resource. Other members stay, since lists with this name may
/// hold other things.
fn values(list: &mut Value, at: &mut String, to: &mut Tree<'_>) {
    for (index, item) in list.as_array_mut().into_iter().flatten().enumerate() {
        within(at, &index.to_string(), |at| match item {
            Value::Object(members) => {
                for (key, member) in members {
                    within(at, key, |at| match key.as_str() {
                        "value" => redact(member, at, to),
                        _ => visit(key, member, at, to),
                    });
                }
            }
            other => walk(other, at, to),
        });
    }
}

/// Masks the runtime configuration of a SpinApp: the options of its stores, databases and model service
/// (`spin-operator:api/v1alpha1/spinapp_types.go`, `RuntimeConfigOption`).
fn runtime_config(value: &mut Value, at: &mut String, to: &mut Tree<'_>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                within(at, key, |at| match key.as_str() {
                    "options" => variables(member, at, to),
                    _ => runtime_config(member, at, to),
                });
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                within(at, &index.to_string(), |at| runtime_config(item, at, to));
            }
        }
        _ => {}
    }
}

/// Masks a list of variables in each of its three forms: `[{name, value}]`, `["NAME=value"]`, `{NAME: value}`. The
/// first is that of Kubernetes; the others occur in custom resources and by mistake.
fn variables(list: &mut Value, at: &mut String, to: &mut Tree<'_>) {
    match list {
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                within(at, &index.to_string(), |at| variable(item, at, to));
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                within(at, name, |at| redact(value, at, to));
            }
        }
        _ => {}
    }
}

fn variable(item: &mut Value, at: &mut String, to: &mut Tree<'_>) {
    match item {
        Value::Object(members) => {
            for (key, member) in members {
                within(at, key, |at| match key.as_str() {
                    "name" | "valueFrom" => walk(member, at, to),
                    _ => redact(member, at, to),
                });
            }
        }
        other => redact(other, at, to),
    }
}

fn redact(value: &mut Value, at: &str, to: &mut Tree<'_>) {
    to.secrets.take(value);
    *value = Value::String(REDACTED.into());
    to.report.masked.push(at.to_string());
}

/// Takes a secret out.
fn erase(members: &mut Map<String, Value>, key: &str, at: &str, to: &mut Tree<'_>) {
    if let Some(secret) = members.get(key) {
        to.secrets.take(secret);
    }
    remove(members, key, at, to);
}

/// Takes out what is no secret in itself.
fn remove(members: &mut Map<String, Value>, key: &str, at: &str, to: &mut Tree<'_>) {
    if members.remove(key).is_some() {
        let mut pointer = at.to_string();
        append(&mut pointer, key);
        to.report.erased.push(pointer);
    }
}

/// Runs `step` with the pointer extended by one token.
fn within(at: &mut String, token: &str, step: impl FnOnce(&mut String)) {
    let length = at.len();
    append(at, token);
    step(at);
    at.truncate(length);
}
