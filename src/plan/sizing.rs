//! Requests and limits of the Wasm containers. What a person wrote is kept, unless the profile clamps. What is missing
//! or was filled in by a LimitRange gets the profile's size, raised to what the program needs to start, and the requests that were
//! learned from what its image has used.

mod compiling;
mod container;
mod context;
mod filled;
mod limit_range;
mod resource;
mod settle;
mod total;

use crate::cluster::Cluster;
use crate::image::{ImageFacts, Program};
use crate::inspection::{Inspection, LookupResult};
use crate::quantity::Quantity;
use crate::runtime::{Profile, SizingMode};

use super::draft::{Error, Notes, Object};
use container::ContainerSizing;
use context::{Defaults, cpu_proposal, memory_proposal};
use resource::{PodResources, Resource};
use total::{fit_total, warn_of_shared_limit, warn_of_total};

pub(super) use context::{SizingContext, asks_for_owners};

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
            && container.role.starts_with_pod()
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
    // CPU comes first: how many processors a program has decides what memory it takes to compile.
    if !pod.named.contains(&Resource::Cpu) {
        fit_total(spec, &mut sizings, context, Resource::Cpu)?;
    }
    for sizing in &mut sizings {
        sizing.follow_cpu(spec, context, &pod)?;
    }
    if !pod.named.contains(&Resource::Memory) {
        fit_total(spec, &mut sizings, context, Resource::Memory)?;
    }
    for sizing in &sizings {
        sizing.write(spec, context, &pod, notes)?;
    }
    if notes.changes.len() > before {
        warn_of_total(spec, context, &pod, notes)?;
    }
    warn_of_shared_limit(spec, &sizings, (context, &pod), notes)
}

/// The highest limits that a clamping profile allows a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of memory.
    pub memory: Quantity,
    /// Of processors.
    pub cpu: Quantity,
}

/// The limits to which the plan lowers a person's own; `None` if it keeps them or does not size the program, which starts under this CPU
/// limit (`None` for none). A resize does not pass through the plan, so a rule must apply the same limits.
pub fn caps(
    (facts, program): (&ImageFacts, &Program),
    cpu_limit: Option<Quantity>,
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
    let (program, learned) = ((facts, indices.as_slice()), (None, false));
    let cpu = bounds.cpu.fit(cpu_proposal(&defaults, compiler, program, learned).size.limit);
    // A resize may lower the CPU limit alone: what the plan gave under a higher one stays within the cap.
    let under = cpu_limit.map(|limit| limit.max(cpu));
    let memory = memory_proposal(&defaults, (compiler, under), program, learned);
    Some(Caps { memory: bounds.memory.fit(memory.size.limit), cpu })
}
