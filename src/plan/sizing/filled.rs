//! Which of the sizes in a pod were filled in by `LimitRange`s, and chosen by no person.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::draft::Object;
use super::limit_range::Hint;
use super::resource::{Resource, Side};
use crate::cluster::{DefaultSize, DefaultSizes};
use crate::quantity::Quantity;
use crate::workload::managed;

/// What a container is called in a pod: whether it is an init container, and its name.
pub(super) type ContainerName<'a> = (bool, &'a str);

/// Which sizes were filled in. LimitRanger names in its annotation what the last `LimitRange` filled in. Where a
/// namespace has several, a value counts as filled in too if it is the default of one of them, and no field manager of
/// the pod owns it: before the plug-ins run, the API server lists every field that came with the request
/// (`kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go`). Both conditions are needed: a webhook that is
/// called earlier may choose a size too, and a person may write a default.
#[derive(Debug, Default)]
pub(super) struct Filled<'a> {
    hint: Hint<'a>,
    /// What the `LimitRange`s fill in; empty where the annotation says all.
    defaults: BTreeSet<(Side, Resource, Quantity)>,
    /// The sizes that came with the request; `None` where the pod does not say.
    owned: Option<BTreeSet<(bool, String, Side, Resource)>>,
    /// The containers that an earlier call has sized. What stands there is the outcome of that, which a default may equal.
    sized: BTreeSet<&'a str>,
}

impl<'a> Filled<'a> {
    /// From what the `LimitRange`s of the namespace fill in, the pod's metadata, LimitRanger's annotation and the gate's own.
    pub(super) fn read(
        items: &[DefaultSizes],
        metadata: Option<&Object>,
        (hint, changed): (&'a str, &'a str),
    ) -> Self {
        let hint = Hint::read(hint);
        if !Self::asks_for_owners(items) {
            return Self { hint, ..Self::default() };
        }
        let defaults = items.iter().flat_map(defaults_of).collect();
        let sized = changed.split(',').filter_map(|entry| entry.strip_prefix("resources/")).collect();
        Self { hint, defaults, owned: metadata.and_then(owned), sized }
    }

    /// Whether what these items fill in is told from what came with the request by the owners of fields: one item alone is what
    /// LimitRanger's annotation names.
    pub(super) const fn asks_for_owners(items: &[DefaultSizes]) -> bool {
        items.len() > 1
    }

    /// Whether a value of a container was filled in.
    pub(super) fn holds(
        &self,
        container: ContainerName<'_>,
        (side, resource): (Side, Resource),
        value: Quantity,
    ) -> bool {
        self.hint.is_filled(container, side, resource) || {
            let (init, name) = container;
            let unowned = |owned: &BTreeSet<_>| !owned.contains(&(init, name.to_owned(), side, resource));
            self.defaults.contains(&(side, resource, value))
                && !self.sized.contains(name)
                && self.owned.as_ref().is_some_and(unowned)
        }
    }
}

/// What one item fills in.
fn defaults_of(item: &DefaultSizes) -> Vec<(Side, Resource, Quantity)> {
    let mut found = Vec::new();
    for (resource, DefaultSize { limit, request }) in
        [(Resource::Memory, item.memory), (Resource::Cpu, item.cpu)]
    {
        found.extend(limit.map(|value| (Side::Limits, resource, value)));
        found.extend(request.map(|value| (Side::Requests, resource, value)));
    }
    found
}

/// The sizes that the pod's field managers own; `None` where none of them owns a container, so that the list was cut out
/// or never made. Forging it moves only sizes of the forger's own pod, within the namespace's bounds.
fn owned(metadata: &Object) -> Option<BTreeSet<(bool, String, Side, Resource)>> {
    let mut found = BTreeSet::new();
    let mut known = false;
    for spec in managed::owned_specs(metadata) {
        for (list, init) in [("f:containers", false), ("f:initContainers", true)] {
            let containers = spec.get(list).and_then(Value::as_object);
            for (key, fields) in containers.into_iter().flatten() {
                let Some(name) = managed::name_in(key) else { continue };
                known = true;
                found.extend(sizes_in(fields).map(|(side, resource)| (init, name.clone(), side, resource)));
            }
        }
    }
    known.then_some(found)
}

/// The sizes among the fields of a container.
fn sizes_in(fields: &Value) -> impl Iterator<Item = (Side, Resource)> {
    let each = Side::BOTH.into_iter().flat_map(|side| Resource::BOTH.map(|resource| (side, resource)));
    each.filter(|(side, resource)| {
        let path = format!("/f:resources/f:{}/f:{}", side.name(), resource.name());
        fields.pointer(&path).is_some()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;
    use crate::cluster::LimitRanges;

    fn filled(metadata: &Value, changed: &'static str) -> impl Fn(&str, &str) -> bool + use<> {
        let items = from_value(json!([
            { "type": "Container", "default": { "memory": "512Mi" }, "defaultRequest": { "memory": "256Mi" } },
            { "type": "Container", "max": { "cpu": "1" } },
        ]))
        .unwrap();
        let items = LimitRanges::of(items).unwrap().defaults;
        let metadata = metadata.as_object().cloned();
        move |side, amount| {
            let filled = Filled::read(&items, metadata.as_ref(), ("", changed));
            let side = if side == "limit" { Side::Limits } else { Side::Requests };
            let resource = if amount.ends_with("Mi") { Resource::Memory } else { Resource::Cpu };
            filled.holds((false, "app"), (side, resource), Quantity::parse(amount).unwrap())
        }
    }

    fn managed(resources: &Value) -> Value {
        let fields =
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:resources": resources}}}});
        json!({ "managedFields": [{ "manager": "kubectl", "fieldsType": "FieldsV1", "fieldsV1": fields }] })
    }

    #[test]
    fn the_default_of_any_limit_range_counts_where_no_manager_owns_it() {
        let holds = filled(&managed(&json!({ "f:limits": { "f:cpu": {} } })), "");
        for (side, amount, expected) in [
            ("limit", "512Mi", true),
            ("request", "256Mi", true),
            ("request", "512Mi", false),
            ("limit", "511Mi", false),
            // A maximum is the default, and the default the default request.
            ("request", "1", true),
            ("limit", "1", false),
        ] {
            assert_eq!(holds(side, amount), expected, "{side} {amount}");
        }
    }

    #[test]
    fn without_a_list_of_owners_or_after_an_earlier_call_a_default_may_be_a_choice() {
        for (metadata, changed) in [
            (json!({}), ""),
            (json!({ "managedFields": [] }), ""),
            (json!({ "managedFields": [{ "fieldsV1": { "f:metadata": {} } }, "junk"] }), ""),
            (managed(&json!({})), "affinity,resources/app"),
        ] {
            assert!(!filled(&metadata, changed)("limit", "512Mi"), "{metadata} {changed}");
        }
        assert!(filled(&managed(&json!({})), "affinity,resources/other")("limit", "512Mi"));
    }
}
