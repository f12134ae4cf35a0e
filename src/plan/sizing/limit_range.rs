//! What the `LimitRange`s of a namespace allow, and what they filled in.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::LimitRangeItem;

use super::super::draft::Error;
use super::super::sum::Total;
use super::resource::{Resource, Side};
use crate::quantity::{NotAQuantity, Quantity};

/// What the `LimitRange`s of the namespace allow a container; the narrowest of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: Option<Quantity>,
    pub(super) max: Option<Quantity>,
    pub(super) ratio: Option<Quantity>,
}

impl Bounds {
    /// Of the items of one type, `Container` or `Pod`.
    pub(super) fn read(
        items: &[LimitRangeItem],
        of: &str,
        resource: Resource,
        namespace: &str,
    ) -> Result<Self, Error> {
        let mut bounds = Self::default();
        for item in items.iter().filter(|item| item.type_ == of) {
            let read = |map: &Option<_>, name| limit(map.as_ref(), name, resource, namespace);
            let (min, max) = (read(&item.min, "min")?, read(&item.max, "max")?);
            let ratio = read(&item.max_limit_request_ratio, "maxLimitRequestRatio")?;
            bounds.min = bounds.min.max(min.map(|min| min.up_to(resource.step())));
            bounds.max = lesser(bounds.max, max.map(|max| max.down_to(resource.step())));
            bounds.ratio = lesser(bounds.ratio, ratio);
        }
        Ok(bounds)
    }

    /// The nearest value that the `LimitRange`s allow.
    pub(super) fn fit(self, value: Quantity) -> Quantity {
        let value = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(value, |max| value.min(max))
    }
}

pub(super) fn lesser(a: Option<Quantity>, b: Option<Quantity>) -> Option<Quantity> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// Names and quantities of a LimitRange.
pub(super) type Amounts =
    std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

pub(super) fn limit(
    map: Option<&Amounts>,
    name: &str,
    resource: Resource,
    namespace: &str,
) -> Result<Option<Quantity>, Error> {
    let Some(found) = map.and_then(|map| map.get(resource.name())) else { return Ok(None) };
    let field = format!("{name}.{} of a LimitRange in namespace {namespace}", resource.name());
    match Quantity::parse(&found.0) {
        Ok(quantity) => Ok(Some(quantity)),
        Err(NotAQuantity { value }) => Err(Error::ReadQuantity { field, value }),
    }
}

pub(super) fn pod_bounds(
    items: &[LimitRangeItem],
    resource: Resource,
    namespace: &str,
) -> Result<Total, Error> {
    let Bounds { min, max, ratio } = Bounds::read(items, "Pod", resource, namespace)?;
    Ok(Total { min, max, ratio })
}

/// Values that the LimitRanger says it filled in, or may have filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hint<'a> {
    pub(super) named: BTreeSet<(bool, &'a str, Side, Resource)>,
    /// Defaults of the namespace's `LimitRange`s, where there are several: the plug-in takes one after the other, and its
    /// annotation names what the last of them filled in.
    pub(super) defaults: BTreeSet<(Side, Resource, Quantity)>,
}

impl<'a> Hint<'a> {
    /// Reads `LimitRanger plugin set: cpu, memory request for container X; cpu limit for init container Y`. What does
    /// not fit is passed over: it is only a hint.
    pub(super) fn read(annotation: &'a str, items: &[LimitRangeItem]) -> Self {
        let Some(clauses) = annotation.strip_prefix("LimitRanger plugin set:") else {
            return Self::default();
        };
        Self { named: Self::named(clauses), defaults: defaults(items) }
    }

    fn named(clauses: &'a str) -> BTreeSet<(bool, &'a str, Side, Resource)> {
        let mut found = BTreeSet::new();
        for clause in clauses.split(';') {
            let Some((what, name)) = clause.rsplit_once(" container ") else { continue };
            let (what, init) = what.strip_suffix(" init").map_or((what, false), |what| (what, true));
            let Some((list, side)) = what.strip_suffix(" for").and_then(|what| what.rsplit_once(' ')) else {
                continue;
            };
            let side = match side {
                "request" => Side::Requests,
                "limit" => Side::Limits,
                _ => continue,
            };
            let resources = list.split(',').filter_map(|one| Resource::of(one.trim()));
            found.extend(resources.map(|resource| (init, name.trim(), side, resource)));
        }
        found
    }

    /// Whether a value of a container is no choice of the pod's author, as far as the plug-in tells; `init` says whether
    /// it is an init container.
    pub(super) fn is_filled(
        &self,
        (init, name): (bool, &str),
        side: Side,
        resource: Resource,
        value: Quantity,
    ) -> bool {
        self.named.contains(&(init, name, side, resource)) || self.defaults.contains(&(side, resource, value))
    }
}

/// What several `LimitRange`s fill in for a container; nothing for one alone, whose annotation is whole. A default that is
/// missing is the bound on its side (`kubernetes:pkg/apis/core/v1/defaults.go` `SetDefaults_LimitRangeItem`).
pub(super) fn defaults(items: &[LimitRangeItem]) -> BTreeSet<(Side, Resource, Quantity)> {
    let of_containers: Vec<&LimitRangeItem> = items.iter().filter(|item| item.type_ == "Container").collect();
    let mut found = BTreeSet::new();
    for item in of_containers.iter().filter(|_| of_containers.len() > 1) {
        for resource in Resource::BOTH {
            let amount = |map: &Option<Amounts>| map.as_ref()?.get(resource.name()).cloned();
            let limit = amount(&item.default).or_else(|| amount(&item.max));
            let request =
                amount(&item.default_request).or_else(|| limit.clone()).or_else(|| amount(&item.min));
            for (side, amount) in [(Side::Requests, request), (Side::Limits, limit)] {
                // What cannot be read is an error of the bounds.
                let amount = amount.and_then(|amount| Quantity::parse(&amount.0).ok());
                found.extend(amount.map(|amount| (side, resource, amount)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ANNOTATION: &str = "LimitRanger plugin set: memory limit for container app";

    fn items(items: serde_json::Value) -> Vec<LimitRangeItem> {
        serde_json::from_value(items).unwrap()
    }

    fn is_filled(
        annotation: &str,
        items: &[LimitRangeItem],
        side: Side,
        resource: Resource,
        value: &str,
    ) -> bool {
        Hint::read(annotation, items).is_filled(
            (false, "app"),
            side,
            resource,
            Quantity::parse(value).unwrap(),
        )
    }

    #[test]
    fn the_annotation_names_what_one_limit_range_filled_in() {
        let one = items(json!([{"type": "Container", "default": {"memory": "64Mi", "cpu": "1"}}]));
        assert!(is_filled(ANNOTATION, &one, Side::Limits, Resource::Memory, "64Mi"));
        assert!(!is_filled(ANNOTATION, &one, Side::Limits, Resource::Cpu, "1"));
        assert!(!is_filled(ANNOTATION, &one, Side::Requests, Resource::Memory, "64Mi"));
        assert!(!is_filled("", &one, Side::Limits, Resource::Memory, "64Mi"));
    }

    #[test]
    fn the_defaults_of_several_limit_ranges_are_no_choice_of_a_person() {
        let two = items(json!([
            {"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"}},
            {"type": "Container", "default": {"memory": "64Mi"}, "min": {"memory": "8Mi"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
        ]));
        let filled = |side, resource, value| is_filled(ANNOTATION, &two, side, resource, value);
        assert!(filled(Side::Limits, Resource::Cpu, "1000m"));
        assert!(
            filled(Side::Requests, Resource::Cpu, "1"),
            "a request without a default is the limit's default"
        );
        assert!(!filled(Side::Limits, Resource::Cpu, "2"), "a person wrote another value than the default");
        assert!(
            filled(Side::Limits, Resource::Memory, "32Mi"),
            "the annotation names it, whatever its value"
        );
        assert!(!is_filled("", &two, Side::Limits, Resource::Cpu, "1"), "the plug-in filled nothing in");
    }
}
