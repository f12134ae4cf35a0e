//! What applies to every container of a pod, and the size that a profile proposes for a program.

use super::filled::Filled;
use super::resource::Resource;
use super::settle::{Pair, Proposal};
use crate::cluster::{Bounds, Cluster, ResourceBounds};
use crate::image::ImageFacts;
use crate::plan::draft::{CHANGED_ANNOTATION, Object};
use crate::plan::floor;
use crate::quantity::Quantity;
use crate::runtime::{Compiler, Profile};
use crate::workload::Workload;

/// Annotation in which the API server's LimitRanger says what it filled in
/// (`kubernetes:plugin/pkg/admission/limitranger/admission.go`). A person can write it too. Then the sizes in their own
/// pod count as not chosen, and nothing worse happens.
const LIMIT_RANGER_ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// What applies to every container of the pod: profile, LimitRanges, and what the LimitRanger filled in.
pub(in crate::plan) struct SizingContext<'a> {
    pub(super) profile: &'a Profile,
    pub(super) namespace: &'a str,
    pub(super) defaults: Defaults,
    /// What the namespace's `LimitRange`s allow a container.
    pub(super) of_container: ResourceBounds,
    /// What the namespace's `LimitRange`s allow the pod as a whole.
    pub(super) of_pod: ResourceBounds,
    pub(super) filled: Filled<'a>,
}

/// The sizes of the profile, rounded to the steps in which they are written.
pub(super) struct Defaults {
    memory: Pair,
    cpu: Pair,
    base: Quantity,
}

impl Defaults {
    pub fn of(profile: &Profile) -> Self {
        let sizing = &profile.sizing;
        let pair = |request: Quantity, limit: Quantity, step: Quantity| Pair {
            request: request.up_to(step).max(Quantity::ZERO),
            limit: limit.up_to(step).max(Quantity::ZERO),
        };
        let (memory, cpu) = (
            (sizing.memory_request.quantity(), sizing.memory_limit.quantity()),
            (sizing.cpu_request.quantity(), sizing.cpu_limit.quantity()),
        );
        Self {
            memory: pair(memory.0, memory.1, Quantity::BYTE),
            cpu: pair(cpu.0, cpu.1, Quantity::MILLI),
            base: profile.base_memory().max(Quantity::ZERO),
        }
    }
}

impl<'a> SizingContext<'a> {
    /// Gathers what the profile, the namespace and the pod's metadata say.
    pub fn new(
        workload: &'a Workload,
        metadata: Option<&Object>,
        profile: &'a Profile,
        cluster: &'a Cluster,
    ) -> Self {
        let namespace = workload.namespace.as_str();
        let ranges = cluster.limit_ranges.get(namespace);
        let (of_container, of_pod) = ranges.map(|ranges| (ranges.container, ranges.pod)).unwrap_or_default();
        let filled_in = ranges.map_or(&[][..], |ranges| &ranges.defaults);
        let annotation = |name| workload.annotations.get(name).map_or("", String::as_str);
        let annotations = (annotation(LIMIT_RANGER_ANNOTATION), annotation(CHANGED_ANNOTATION));
        Self {
            profile,
            namespace,
            defaults: Defaults::of(profile),
            of_container,
            of_pod,
            filled: Filled::read(filled_in, metadata, annotations),
        }
    }

    pub(super) const fn bounds(&self, resource: Resource) -> Bounds {
        match resource {
            Resource::Memory => self.of_container.memory,
            Resource::Cpu => self.of_container.cpu,
        }
    }

    pub(super) const fn total(&self, resource: Resource) -> Bounds {
        match resource {
            Resource::Memory => self.of_pod.memory,
            Resource::Cpu => self.of_pod.cpu,
        }
    }
}

/// The size of both resources that a profile proposes for a program.
pub(super) fn proposals(
    defaults: &Defaults,
    compiler: Compiler,
    facts: &ImageFacts,
    indices: &[usize],
) -> [(Resource, Proposal); 2] {
    let floor = floor::memory(compiler, defaults.base, facts.modules_at(indices));
    let memory = Proposal { floor, size: raised(defaults.memory, floor), step: Quantity::BYTE };
    let compile = floor::cpu(compiler, facts.modules_at(indices));
    let cpu = Pair { limit: defaults.cpu.limit.max(compile), ..defaults.cpu };
    let cpu = Proposal { floor: Quantity::ZERO, size: cpu, step: Quantity::MILLI };
    [(Resource::Memory, memory), (Resource::Cpu, cpu)]
}

fn raised(size: Pair, floor: Quantity) -> Pair {
    Pair { request: size.request.max(floor), limit: size.limit.max(floor) }
}
