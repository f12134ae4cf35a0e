//! Requests and limits of the Wasm containers. What a person wrote is kept, unless the profile clamps. What is missing
//! or was filled in by a LimitRange gets the profile's size, raised to what the program needs to start.

mod container;
mod filled;
mod limit_range;
mod resource;
mod settle;
mod total;

use crate::cluster::{Bounds, Cluster, ResourceBounds};
use crate::image::{ImageFacts, Program};
use crate::inspection::{Inspection, LookupResult};
use crate::quantity::Quantity;
use crate::runtime::{Compiler, Profile, SizingMode};
use crate::workload::{Role, Workload};

use super::draft::{CHANGED_ANNOTATION, Error, Notes, Object};
use super::floor;
use container::ContainerSizing;
use filled::Filled;
use resource::{PodResources, Resource};
use settle::{Pair, Proposal};
use total::{fit_total, warn_of_total};

/// Annotation in which the API server's LimitRanger says what it filled in
/// (`kubernetes:plugin/pkg/admission/limitranger/admission.go`). A person can write it too. Then the sizes in their own
/// pod count as not chosen, and nothing worse happens.
const LIMIT_RANGER_ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// What applies to every container of the pod: profile, LimitRanges, and what the LimitRanger filled in.
pub(super) struct SizingContext<'a> {
    profile: &'a Profile,
    namespace: &'a str,
    defaults: Defaults,
    /// What the namespace's `LimitRange`s allow a container.
    of_container: ResourceBounds,
    /// What the namespace's `LimitRange`s allow the pod as a whole.
    of_pod: ResourceBounds,
    filled: Filled<'a>,
}

/// The sizes of the profile, rounded to the steps in which they are written.
struct Defaults {
    memory: Pair,
    cpu: Pair,
    base: Quantity,
}

impl Defaults {
    fn of(profile: &Profile) -> Self {
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
    pub(super) fn new(
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

    const fn bounds(&self, resource: Resource) -> Bounds {
        match resource {
            Resource::Memory => self.of_container.memory,
            Resource::Cpu => self.of_container.cpu,
        }
    }

    const fn total(&self, resource: Resource) -> Bounds {
        match resource {
            Resource::Memory => self.of_pod.memory,
            Resource::Cpu => self.of_pod.cpu,
        }
    }
}

/// Sizes every Wasm container. Ephemeral containers have no resources, and Linux sidecars are not sized.
pub(super) fn size(
    spec: &mut Object,
    inspection: &Inspection,
    context: &SizingContext<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let pod = PodResources::read(spec)?;
    let before = notes.changes.len();
    let mut sizings = Vec::new();
    for container in &inspection.containers {
        if let LookupResult::Known { facts, program: Program::Wasm { packaging, modules, .. } } =
            &container.lookup
            && matches!(container.role, Role::Container | Role::InitContainer)
        {
            sizings.push(ContainerSizing::read(
                spec,
                container,
                (facts, *packaging, modules),
                context,
                &pod,
            )?);
        }
    }
    for resource in Resource::BOTH {
        if !pod.named.contains(&resource) {
            fit_total(spec, &mut sizings, context, resource)?;
        }
    }
    for sizing in &sizings {
        sizing.write(spec, context, &pod, notes)?;
    }
    if notes.changes.len() > before {
        warn_of_total(spec, context, &pod, notes)?;
    }
    Ok(())
}

/// The size of both resources that a profile proposes for a program.
fn proposals(
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

/// The highest limits that a clamping profile allows a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of memory.
    pub memory: Quantity,
    /// Of processors.
    pub cpu: Quantity,
}

/// The limits to which the plan lowers a person's own; `None` if it keeps them or does not size the program. A resize
/// does not pass through the plan, so a rule must apply the same limits.
pub fn caps(
    facts: &ImageFacts,
    program: &Program,
    profile: &Profile,
    cluster: &Cluster,
    namespace: &str,
) -> Option<Caps> {
    let Program::Wasm { packaging, modules: indices, .. } = program else { return None };
    if profile.sizing.mode != SizingMode::Clamp {
        return None;
    }
    let defaults = Defaults::of(profile);
    let bounds = cluster.limit_ranges.get(namespace).map(|ranges| ranges.container).unwrap_or_default();
    let compiler = profile.ambient.runtime().compiler(*packaging);
    let [(_, memory), (_, cpu)] = proposals(&defaults, compiler, facts, indices);
    Some(Caps { memory: bounds.memory.fit(memory.size.limit), cpu: bounds.cpu.fit(cpu.size.limit) })
}

fn raised(size: Pair, floor: Quantity) -> Pair {
    Pair { request: size.request.max(floor), limit: size.limit.max(floor) }
}
