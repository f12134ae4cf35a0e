//! What applies to every container of a pod, and the size that a profile, and what was learned, propose for a program.

use super::filled::Filled;
use super::resource::Resource;
use super::settle::{Pair, Proposal};
use crate::cluster::{Bounds, Cluster, LIMIT_RANGER_ANNOTATION, ResourceBounds};
use crate::image::{Digest, ImageFacts};
use crate::inspection::Container;
use crate::plan::draft::{CHANGED_ANNOTATION, Object};
use crate::plan::{Context, floor};
use crate::quantity::Quantity;
use crate::runtime::{Compiler, OwnMemory, Profile};
use crate::usage::{Learned, LearnedSize};
use crate::workload::{Restart, Workload};

/// What applies to every container of the pod: profile, LimitRanges, and what the LimitRanger filled in.
pub(in crate::plan) struct SizingContext<'a> {
    pub(super) profile: &'a Profile,
    pub(super) namespace: &'a str,
    workload: &'a Workload,
    pub(super) defaults: Defaults,
    /// What the namespace's `LimitRange`s allow a container.
    pub(super) of_container: ResourceBounds,
    /// What the namespace's `LimitRange`s allow the pod as a whole.
    pub(super) of_pod: ResourceBounds,
    pub(super) filled: Filled<'a>,
    /// What was learned of images; `None` where another controller sizes the pod, or goes by its requests.
    learned: Option<&'a Learned>,
    /// Whether that may be more than the requests of the profile.
    pub(super) raises_learned: bool,
}

/// The sizes of the profile, rounded to the steps in which they are written.
pub(super) struct Defaults {
    memory: Pair,
    cpu: Pair,
    own: OwnMemory,
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
            own: profile.own_memory(),
        }
    }
}

impl<'a> SizingContext<'a> {
    /// Gathers what the profile, the namespace and the pod's metadata say.
    pub fn new(
        workload: &'a Workload,
        metadata: Option<&Object>,
        profile: &'a Profile,
        context: &Context<'a>,
    ) -> Self {
        let cluster = context.cluster;
        let namespace = workload.namespace.as_str();
        let ranges = cluster.limit_ranges.get(namespace);
        let (of_container, of_pod) = ranges.map(|ranges| (ranges.container, ranges.pod)).unwrap_or_default();
        let filled_in = ranges.map_or(&[][..], |ranges| &ranges.defaults);
        // A person can write the LimitRanger's too. Then the sizes in their own pod count as not chosen, and nothing worse happens.
        let annotation = |name| workload.annotations.get(name).map_or("", String::as_str);
        let annotations = (annotation(LIMIT_RANGER_ANNOTATION), annotation(CHANGED_ANNOTATION));
        Self {
            profile,
            namespace,
            workload,
            defaults: Defaults::of(profile),
            of_container,
            of_pod,
            filled: Filled::read(filled_in, metadata, annotations),
            learned: (!is_autoscaled(workload, metadata, cluster)).then_some(&*cluster.learned),
            raises_learned: context.raises_learned,
        }
    }

    /// The requests that were learned for an image under the profile.
    pub(super) fn learned(&self, digest: &Digest) -> Option<LearnedSize> {
        self.learned?.of(digest, &self.profile.name)
    }

    /// The probe that restarts the container first, where it is known how long its program compiles.
    pub(super) fn first_restart(&self, container: &Container) -> Option<Restart> {
        let spec = self.workload.container(container.role, container.index)?;
        spec.first_restart().filter(|_| self.profile.ambient.runtime().compiles_with_wasmtime())
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

/// Whether sizes depend on who owns fields of the pod, which its metadata say.
pub fn asks_for_owners(workload: &Workload, context: &Context<'_>) -> bool {
    let ranges = context.cluster.limit_ranges.get(workload.namespace.as_str());
    ranges.is_some_and(|ranges| Filled::asks_for_owners(&ranges.defaults))
}

/// Whether an autoscaler sizes the pod, or the workload of a template, or goes by its requests.
fn is_autoscaled(workload: &Workload, metadata: Option<&Object>, cluster: &Cluster) -> bool {
    let (autoscaled, namespace) = (&cluster.autoscaled, workload.namespace.as_str());
    autoscaled.has(namespace, workload.kind.as_str(), &workload.name)
        || metadata.is_some_and(|metadata| autoscaled.has_pod(namespace, metadata))
}

/// The least request of CPU that is filled in because it was learned, in thousandths of a core, if the profile does not say less: what a
/// program used while no client called says little of what it needs when one does.
const LEAST_CPU: i128 = 10;

/// A program: what is known of its image, and which modules of that start.
pub(super) type Modules<'a> = (&'a ImageFacts, &'a [usize]);

/// What was learned of an image, and whether its requests may be more than those of the profile.
pub(super) type LearnedRequests = (Option<LearnedSize>, bool);

/// The memory that is proposed for a program which starts under this CPU limit (`None` for none): that of the profile, with the request
/// that was learned. The limits are always those of the profile: samples that are a minute apart miss peaks, and a limit that is too low
/// kills.
pub(super) fn memory_proposal(
    defaults: &Defaults,
    (compiler, cpu_limit): (Compiler, Option<Quantity>),
    (facts, indices): Modules<'_>,
    (learned, raises): LearnedRequests,
) -> Proposal {
    let floor = floor::memory(compiler, defaults.own, cpu_limit, facts.modules_at(indices));
    let size = raised(defaults.memory, floor);
    let learned = learned.map(|learned| learned.memory);
    let (request, is_learned) = filled_in(size, floor, (learned, raises));
    Proposal { floor, size, request, is_learned, step: Quantity::BYTE }
}

/// The CPU that is proposed for a program: that of the profile, with the request that was learned.
pub(super) fn cpu_proposal(
    defaults: &Defaults,
    compiler: Compiler,
    (facts, indices): Modules<'_>,
    (learned, raises): LearnedRequests,
) -> Proposal {
    let compile = floor::cpu(compiler, facts.modules_at(indices));
    let size = Pair { limit: defaults.cpu.limit.max(compile), ..defaults.cpu };
    let least = Quantity::from_millis(LEAST_CPU).min(size.request);
    let (request, is_learned) = filled_in(size, least, (learned.map(|learned| learned.cpu), raises));
    Proposal { floor: Quantity::ZERO, size, request, is_learned, step: Quantity::MILLI }
}

/// Of what was learned, what counts and whether it does: not where it is more than may be.
fn filled_in(size: Pair, least: Quantity, (learned, raises): (Option<Quantity>, bool)) -> (Quantity, bool) {
    match learned {
        Some(learned) if raises => (learned.max(least).min(size.limit), true),
        Some(learned) if learned <= size.request => (learned.max(least), true),
        Some(_) | None => (size.request, false),
    }
}

fn raised(size: Pair, floor: Quantity) -> Pair {
    Pair { request: size.request.max(floor), limit: size.limit.max(floor) }
}
