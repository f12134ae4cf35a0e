//! The resources and sides of a size, and how an object states them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::draft::{Error, Object, object, quantity};
use crate::quantity::Quantity;

/// The two resources by which a Wasm workload is sized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    Memory,
    Cpu,
}

impl Resource {
    pub(super) const BOTH: [Self; 2] = [Self::Memory, Self::Cpu];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|resource| resource.name() == name)
    }

    pub(super) fn written(self, quantity: Quantity) -> String {
        match self {
            Self::Memory => quantity.memory(),
            Self::Cpu => quantity.cpu(),
        }
    }
}

/// The two sides of a resource, with their names under `resources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Requests,
    Limits,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Requests, Self::Limits];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// Limits and requests of the pod as a whole (`spec.resources`). If a person sized a resource there, nothing is filled
/// in for the containers: their sum must not exceed it, and the API server turns a limit without a request into a
/// request.
pub(super) struct PodResources {
    pub(super) named: BTreeSet<Resource>,
    pub(super) memory_limit: Option<Quantity>,
    pub(super) cpu_limit: Option<Quantity>,
}

impl PodResources {
    pub(super) fn read(spec: &Object) -> Result<Self, Error> {
        let mut pod = Self { named: BTreeSet::new(), memory_limit: None, cpu_limit: None };
        let Some(resources) = object(spec, "resources", "spec")? else { return Ok(pod) };
        for side in Side::BOTH {
            for resource in Resource::BOTH {
                if let Some(value) = written(resources, side, resource, "spec.resources")? {
                    pod.named.insert(resource);
                    match (side, resource) {
                        (Side::Limits, Resource::Memory) => pod.memory_limit = Some(value),
                        (Side::Limits, Resource::Cpu) => pod.cpu_limit = Some(value),
                        (Side::Requests, _) => {}
                    }
                }
            }
        }
        Ok(pod)
    }

    /// The limit of the pod as it is written; of zero too, beside which the API server takes no other for a container.
    const fn limit(&self, resource: Resource) -> Option<Quantity> {
        match resource {
            Resource::Memory => self.memory_limit,
            Resource::Cpu => self.cpu_limit,
        }
    }

    /// What a container may have of a resource at most: not more than the pod.
    pub(super) fn at_most(&self, resource: Resource, most: Quantity) -> Quantity {
        self.limit(resource).map_or(most, |limit| most.min(limit))
    }
}

/// A limit, if it is one: the kubelet takes a limit of zero for none.
pub(super) fn above_zero(limit: Option<Quantity>) -> Option<Quantity> {
    limit.filter(|limit| *limit != Quantity::ZERO)
}

/// The value in `resources` on one side; `None` when it is absent or null.
pub(super) fn written(
    resources: &Object,
    side: Side,
    resource: Resource,
    path: &str,
) -> Result<Option<Quantity>, Error> {
    let Some(amounts) = object(resources, side.name(), path)? else { return Ok(None) };
    match amounts.get(resource.name()) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => quantity(value, &format!("{path}.{}.{}", side.name(), resource.name())).map(Some),
    }
}
