//! What the `LimitRange`s of a namespace allow a container and a pod: read once, when they are loaded.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LimitRangeItem;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::quantity::{NotAQuantity, Quantity};

/// The annotation of a pod in which the API server's LimitRanger says what it filled in
/// (`kubernetes:plugin/pkg/admission/limitranger/admission.go`).
pub const LIMIT_RANGER_ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// How its value begins.
pub const LIMIT_RANGER_SET: &str = "LimitRanger plugin set:";

/// The narrowest of what several items allow of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The least that may be requested.
    pub min: Option<Quantity>,
    /// The highest limit.
    pub max: Option<Quantity>,
    /// The largest limit for a request of one.
    pub ratio: Option<Quantity>,
}

impl Bounds {
    /// The nearest value that is allowed.
    #[must_use]
    pub fn fit(self, value: Quantity) -> Quantity {
        let value = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(value, |max| value.min(max))
    }

    /// What both allow.
    #[must_use]
    fn and(self, other: Self) -> Self {
        Self {
            min: self.min.max(other.min),
            max: Quantity::lesser(self.max, other.max),
            ratio: Quantity::lesser(self.ratio, other.ratio),
        }
    }
}

/// The bounds of both resources that a workload is sized by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceBounds {
    /// Of memory, in whole bytes.
    pub memory: Bounds,
    /// Of processors, in whole thousandths.
    pub cpu: Bounds,
}

impl ResourceBounds {
    fn of(item: &LimitRangeItem) -> Result<Self, UnreadableAmount> {
        Ok(Self {
            memory: bounds(item, "memory", Quantity::BYTE)?,
            cpu: bounds(item, "cpu", Quantity::MILLI)?,
        })
    }

    fn and(self, other: Self) -> Self {
        Self { memory: self.memory.and(other.memory), cpu: self.cpu.and(other.cpu) }
    }
}

/// An amount of a LimitRange that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is `{value}`, which is not a quantity; write one such as `64Mi` or `500m`")]
pub struct UnreadableAmount {
    /// Field of the item, such as `max.memory`.
    pub field: String,
    /// What stands there.
    pub value: String,
}

/// What an item fills in for one resource where a container says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DefaultSize {
    /// The limit.
    pub limit: Option<Quantity>,
    /// The request.
    pub request: Option<Quantity>,
}

/// What an item for containers fills in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DefaultSizes {
    /// For memory.
    pub memory: DefaultSize,
    /// For processors.
    pub cpu: DefaultSize,
}

impl DefaultSizes {
    fn of(item: &LimitRangeItem) -> Result<Self, UnreadableAmount> {
        Ok(Self { memory: default_size(item, "memory")?, cpu: default_size(item, "cpu")? })
    }
}

/// The `LimitRange`s of a namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LimitRanges {
    /// The items as the cluster has them: what they fill in where a container says nothing is written as it stands there.
    pub items: Vec<LimitRangeItem>,
    /// What they allow each container.
    pub container: ResourceBounds,
    /// What they allow the containers of a pod together.
    pub pod: ResourceBounds,
    /// What each item for containers fills in, in their order.
    pub defaults: Vec<DefaultSizes>,
}

impl LimitRanges {
    /// Reads the items of one LimitRange. The API server admits none that cannot be read.
    pub fn of(items: Vec<LimitRangeItem>) -> Result<Self, UnreadableAmount> {
        let mut read = Self::default();
        for item in &items {
            match item.type_.as_str() {
                "Container" => {
                    read.container = read.container.and(ResourceBounds::of(item)?);
                    read.defaults.push(DefaultSizes::of(item)?);
                }
                "Pod" => read.pod = read.pod.and(ResourceBounds::of(item)?),
                _ => {}
            }
        }
        Ok(Self { items, ..read })
    }

    /// Another LimitRange holds in the same namespace.
    pub fn add(&mut self, other: Self) {
        self.items.extend(other.items);
        self.container = self.container.and(other.container);
        self.pod = self.pod.and(other.pod);
        self.defaults.extend(other.defaults);
    }
}

/// The amounts of an item by resource.
type Amounts = BTreeMap<String, ApiQuantity>;

/// The amount of a resource in a field of an item.
fn amount(
    amounts: Option<&Amounts>,
    name: &str,
    resource: &str,
) -> Result<Option<Quantity>, UnreadableAmount> {
    let unreadable = |NotAQuantity { value }| UnreadableAmount { field: format!("{name}.{resource}"), value };
    let written = amounts.and_then(|amounts| amounts.get(resource));
    written.map(|written| Quantity::parse(&written.0)).transpose().map_err(unreadable)
}

/// What an item allows of one resource, in the step in which the gate writes it: inside of what the API server checks.
fn bounds(item: &LimitRangeItem, resource: &str, step: Quantity) -> Result<Bounds, UnreadableAmount> {
    let ratio = item.max_limit_request_ratio.as_ref();
    Ok(Bounds {
        min: amount(item.min.as_ref(), "min", resource)?.map(|min| min.up_to(step)),
        max: amount(item.max.as_ref(), "max", resource)?.map(|max| max.down_to(step)),
        ratio: amount(ratio, "maxLimitRequestRatio", resource)?,
    })
}

/// What an item fills in for one resource. A stored one is complete; in a manifest a maximum is the default limit too, and a
/// limit or a minimum the default request (`kubernetes:pkg/apis/core/v1/defaults.go`, `SetDefaults_LimitRangeItem`).
fn default_size(item: &LimitRangeItem, resource: &str) -> Result<DefaultSize, UnreadableAmount> {
    let default = amount(item.default.as_ref(), "default", resource)?;
    let limit = default.or(amount(item.max.as_ref(), "max", resource)?);
    let request = amount(item.default_request.as_ref(), "defaultRequest", resource)?;
    let least = amount(item.min.as_ref(), "min", resource)?;
    Ok(DefaultSize { limit, request: request.or(limit).or(least) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn ranges(items: Value) -> LimitRanges {
        LimitRanges::of(from_value(items).unwrap()).unwrap()
    }

    #[test]
    fn the_narrowest_bound_of_all_items_and_ranges_holds() {
        let mut all = ranges(json!([
            {"type": "Container", "min": {"memory": "8Mi"}, "max": {"memory": "64Mi"}},
            {"type": "Container", "min": {"memory": "16Mi"}, "maxLimitRequestRatio": {"memory": "3"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
            {"type": "PersistentVolumeClaim", "max": {"memory": "no quantity"}},
        ]));
        all.add(ranges(json!([{"type": "Container", "max": {"memory": "32Mi"},
            "maxLimitRequestRatio": {"memory": "2"}}])));
        let (sixteen, thirty_two) = (Quantity::mebibytes(16), Quantity::mebibytes(32));
        let ratio = Quantity::parse("2").ok();
        let memory = Bounds { min: Some(sixteen), max: Some(thirty_two), ratio };
        assert_eq!(all.container, ResourceBounds { memory, cpu: Bounds::default() });
        assert_eq!(all.pod.memory, Bounds { max: Some(Quantity::mebibytes(1024)), ..Bounds::default() });
        assert_eq!(all.items.len(), 5);
        let fitted = [8, 24, 40].map(|count| memory.fit(Quantity::mebibytes(count)));
        assert_eq!(fitted, [sixteen, Quantity::mebibytes(24), thirty_two]);
    }

    #[test]
    fn bounds_stay_inside_of_what_they_say_in_the_steps_that_are_written() {
        let read = ranges(json!([{"type": "Container", "min": {"cpu": "1500u", "memory": "1500m"},
            "max": {"cpu": "2500u", "memory": "2500m"}}]));
        let amounts = |bounds: Bounds| (bounds.min.unwrap(), bounds.max.unwrap());
        assert_eq!(amounts(read.container.cpu), (Quantity::from_millis(2), Quantity::from_millis(2)));
        assert_eq!(amounts(read.container.memory), (Quantity::from_bytes(2), Quantity::from_bytes(2)));
    }

    #[test]
    fn an_unreadable_default_is_named_when_the_range_is_loaded() {
        for (item, expected) in [
            (json!({"type": "Container", "default": {"memory": "lots"}}), "`default.memory` is `lots`"),
            (json!({"type": "Container", "defaultRequest": {"cpu": "few"}}), "`defaultRequest.cpu` is `few`"),
        ] {
            let error = LimitRanges::of(vec![from_value(item).unwrap()]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_maximum_is_the_default_limit_and_a_limit_or_a_minimum_the_default_request() {
        let read = ranges(json!([
            {"type": "Container", "max": {"memory": "64Mi"}, "min": {"cpu": "10m"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
            {"type": "Container", "default": {"memory": "32Mi"}, "defaultRequest": {"memory": "8Mi"}},
        ]));
        let (eight, thirty_two) = (Quantity::mebibytes(8), Quantity::mebibytes(32));
        let most = Some(Quantity::mebibytes(64));
        let first = DefaultSizes {
            memory: DefaultSize { limit: most, request: most },
            cpu: DefaultSize { limit: None, request: Some(Quantity::from_millis(10)) },
        };
        let second = DefaultSize { limit: Some(thirty_two), request: Some(eight) };
        assert_eq!(read.defaults, [first, DefaultSizes { memory: second, ..DefaultSizes::default() }]);
    }

    #[test]
    fn an_amount_that_is_none_is_named() {
        let items = from_value(json!([{"type": "Pod", "max": {"memory": "lots"}}])).unwrap();
        let error = LimitRanges::of(items).unwrap_err().to_string();
        assert_eq!(
            error,
            "`max.memory` is `lots`, which is not a quantity; write one such as `64Mi` or `500m`"
        );
    }
}
