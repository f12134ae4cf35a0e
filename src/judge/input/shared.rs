//! What the containers of a pod need together, where one limit of the pod is for all of them.

use super::document::{ContainerFacts, Resources, SharedMemory, SharedStart};
use super::spec;
use crate::inspection::{Container, Inspection};
use crate::plan::{each_together, together};
use crate::quantity::Quantity;
use crate::workload::{Role, Workload};

/// The memory limit of the pod and what its Wasm containers need that run together, if one alone needs less. `floors` are those of the
/// inspected containers, in their order, which is that of the pod. Ephemeral containers are not counted: those that have ended stay
/// in the pod.
pub(super) fn shared_memory(
    (workload, inspection): (&Workload, &Inspection),
    floors: impl Iterator<Item = Option<u64>>,
) -> Option<SharedMemory> {
    let limit_bytes = spec::pod_memory_limit(&workload.spec)?;
    let needs = inspection.containers.iter().zip(floors).filter_map(|(container, floor)| {
        let stays = stays(workload, container)?;
        Some((stays, Quantity::from_bytes(floor?.into())))
    });
    let floor_bytes = together(needs)?.bytes();
    Some(SharedMemory { limit_bytes, floor_bytes })
}

/// Whether a container of the pod runs as long as the pod; `None` for what is not counted with them.
fn stays(workload: &Workload, container: &Container) -> Option<bool> {
    match container.role {
        Role::Container => Some(true),
        Role::InitContainer => {
            let init = workload.spec.init_containers.as_ref().and_then(|all| all.get(container.index));
            Some(init.is_some_and(spec::is_sidecar))
        }
        Role::EphemeralContainer | Role::ImageVolume => None,
    }
}

/// Notes of each container that compiles its program what the pod's CPU limit has to compile at the same time, if that is more. A
/// sidecar may still be compiled when the next container starts, so that those count together which run together.
pub(super) fn share_starts(pod: (&Workload, &Inspection), containers: &mut [ContainerFacts<'_>]) {
    let Some(limit_millis) = spec::pod_cpu_limit(&pod.0.spec) else { return };
    let estimated = compiled_together(pod, containers, |resources| resources.compile_millis);
    let slowest = compiled_together(pod, containers, |resources| resources.slowest_compile_millis);
    for (facts, (estimated, slowest)) in containers.iter_mut().zip(estimated.into_iter().zip(slowest)) {
        let own = facts.resources.slowest_compile_millis;
        if own.is_some_and(|own| own > 0 && own < slowest.millis()) {
            facts.resources.shared_start = Some(SharedStart {
                limit_millis,
                compile_millis: estimated.millis(),
                slowest_compile_millis: slowest.millis(),
            });
        }
    }
}

/// The CPU time for which that says so of each container, with what runs beside it.
fn compiled_together(
    (workload, inspection): (&Workload, &Inspection),
    containers: &[ContainerFacts<'_>],
    millis: fn(&Resources) -> Option<u64>,
) -> Vec<Quantity> {
    let needs = inspection.containers.iter().zip(containers).map(|(container, facts)| {
        let stays = stays(workload, container);
        let own = stays.and_then(|_| millis(&facts.resources)).unwrap_or(0);
        (stays.unwrap_or(false), Quantity::from_millis(own.into()))
    });
    each_together(&needs.collect::<Vec<_>>())
}
