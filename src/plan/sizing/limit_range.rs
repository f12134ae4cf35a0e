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

/// Values that the LimitRanger says it filled in. Where a namespace has several LimitRanges, the plug-in takes one after the
/// other, and its annotation names what the last of them filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hint<'a> {
    named: BTreeSet<(bool, &'a str, Side, Resource)>,
}

impl<'a> Hint<'a> {
    /// Reads `LimitRanger plugin set: cpu, memory request for container X; cpu limit for init container Y`. Skips what
    /// does not parse, since it is only a hint.
    pub(super) fn read(annotation: &'a str) -> Self {
        let Some(clauses) = annotation.strip_prefix("LimitRanger plugin set:") else {
            return Self::default();
        };
        Self { named: Self::named(clauses) }
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

    /// Whether the annotation shows that a value of a container was filled in, not chosen; `init` says whether it is an
    /// init container.
    pub(super) fn is_filled(&self, (init, name): (bool, &str), side: Side, resource: Resource) -> bool {
        self.named.contains(&(init, name, side, resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_names_what_the_plug_in_filled_in() {
        let filled =
            |annotation, side, resource| Hint::read(annotation).is_filled((false, "app"), side, resource);
        let annotation = "LimitRanger plugin set: memory limit for container app";
        assert!(filled(annotation, Side::Limits, Resource::Memory));
        assert!(!filled(annotation, Side::Limits, Resource::Cpu));
        assert!(!filled(annotation, Side::Requests, Resource::Memory));
        assert!(!filled("", Side::Limits, Resource::Memory));
    }
}
