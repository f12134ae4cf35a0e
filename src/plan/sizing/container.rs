//! Sizes one container: what it should get, how it is written, and what its author should know about it.

use serde_json::{Value, json};

use super::super::draft::{Error, Notes, Object, container_mut, object, object_mut};
use super::super::sum::{Free, PodShare};
use super::compiling::Compiling;
use super::context::{LearnedRequests, Modules, SizingContext, cpu_proposal, memory_proposal};
use super::resource::{PodResources, Resource, Side, above_zero, written};
use super::settle::{Chosen, Proposal, settle};
use crate::image::{ImageFacts, Packaging};
use crate::inspection::Container;
use crate::quantity::Quantity;
use crate::runtime::{Compiler, SizingMode};
use crate::workload::Role;

/// One container, with the resources that it should get.
pub(super) struct ContainerSizing<'a> {
    container: &'a Container,
    path: String,
    program: Modules<'a>,
    compiler: Compiler,
    learned: LearnedRequests,
    memory: ResourceSizing,
    /// The CPU limit for which the memory was sized.
    sized_under: Option<Quantity>,
    cpu: ResourceSizing,
    compiling: Compiling,
}

/// One resource of one container.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResourceSizing {
    resource: Resource,
    proposal: Proposal,
    /// The values in the spec.
    before: Chosen,
    /// Those of them that a person chose.
    chosen: Chosen,
    /// The values to write.
    pub(super) wanted: Chosen,
}

impl<'a> ContainerSizing<'a> {
    pub(super) fn read(
        spec: &mut Object,
        container: &'a Container,
        (facts, packaging, indices): (&'a ImageFacts, Packaging, &'a [usize]),
        context: &SizingContext<'_>,
        pod: &PodResources,
    ) -> Result<Self, Error> {
        let path = format!("spec.{}[{}].resources", container.role.list(), container.index);
        let item = container_mut(spec, container.role, container.index, &container.name)?;
        let compiler = context.profile.ambient.runtime().compiler(packaging);
        let learned = (context.learned(&facts.digest), context.raises_learned);
        let program = (facts, indices);
        let mut cpu = cpu_proposal(&context.defaults, compiler, program, learned);
        let compiling = Compiling::of((container, context), compiler, program);
        cpu.size.limit = compiling.raised(cpu.size.limit);
        let sized = |resource, proposal| {
            ResourceField { container, resource, context, path: &path }.plan(item, proposal, pod)
        };
        let cpu = sized(Resource::Cpu, cpu)?;
        let sized_under = cpu_limit(&cpu, pod);
        let memory = memory_proposal(&context.defaults, (compiler, sized_under), program, learned);
        let memory = sized(Resource::Memory, memory)?;
        Ok(Self { container, path, program, compiler, learned, memory, sized_under, cpu, compiling })
    }

    /// Sizes the memory again if the CPU limit has changed since, because the limits of the pod add up to too much.
    pub(super) fn follow_cpu(
        &mut self,
        spec: &mut Object,
        context: &SizingContext<'_>,
        pod: &PodResources,
    ) -> Result<(), Error> {
        let now = cpu_limit(&self.cpu, pod);
        if now == self.sized_under {
            return Ok(());
        }
        let container = self.container;
        let item = container_mut(spec, container.role, container.index, &container.name)?;
        let proposal = memory_proposal(&context.defaults, (self.compiler, now), self.program, self.learned);
        let field = ResourceField { container, resource: Resource::Memory, context, path: &self.path };
        self.memory = field.plan(item, proposal, pod)?;
        self.sized_under = now;
        Ok(())
    }

    pub(super) const fn place(&self) -> (&'static str, usize) {
        (self.container.role.list(), self.container.index)
    }

    pub(super) const fn resource(&self, resource: Resource) -> &ResourceSizing {
        match resource {
            Resource::Memory => &self.memory,
            Resource::Cpu => &self.cpu,
        }
    }

    pub(super) const fn resource_mut(&mut self, resource: Resource) -> &mut ResourceSizing {
        match resource {
            Resource::Memory => &mut self.memory,
            Resource::Cpu => &mut self.cpu,
        }
    }

    pub(super) fn write(
        &self,
        spec: &mut Object,
        context: &SizingContext<'_>,
        pod: &PodResources,
        notes: &mut Notes,
    ) -> Result<(), Error> {
        let container = self.container;
        let item = container_mut(spec, container.role, container.index, &container.name)?;
        for sized in [self.memory, self.cpu] {
            let field = ResourceField { container, resource: sized.resource, context, path: &self.path };
            let wrote =
                field.write(item, Side::Requests, (sized.before.request, sized.wanted.request), notes)?;
            if wrote && sized.is_learned() && !pod.named.contains(&sized.resource) {
                notes.explain_learned(&container.name, sized.resource.name(), &context.profile.name);
            }
            let wrote = field.write(item, Side::Limits, (sized.before.limit, sized.wanted.limit), notes)?;
            if wrote && sized.resource == Resource::Cpu {
                self.compiling.explain((sized.chosen.limit, sized.wanted.limit), notes);
            }
            if sized.resource == Resource::Memory {
                let governed = pod.named.contains(&sized.resource);
                let limit = above_zero(sized.wanted.limit);
                let limit =
                    if governed { Quantity::lesser(limit, above_zero(pod.memory_limit)) } else { limit };
                field.warn_of_floor((limit, above_zero(pod.memory_limit)), sized.proposal.floor, notes);
            }
        }
        self.compiling.warn(item, (container, pod), &self.path, notes)
    }
}

/// The CPU limit under which a container starts: its own, or that of the pod if it is lower.
fn cpu_limit(cpu: &ResourceSizing, pod: &PodResources) -> Option<Quantity> {
    Quantity::lesser(above_zero(cpu.wanted.limit), above_zero(pod.cpu_limit))
}

impl ResourceSizing {
    /// What the program needs of it to start.
    pub(super) const fn floor(&self) -> Quantity {
        self.proposal.floor
    }

    /// Whether the request is what was learned, as far as the namespace allows that.
    const fn is_learned(&self) -> bool {
        self.proposal.is_learned && self.chosen.request.is_none()
    }

    /// Puts its sizes, and how far they may be moved, into the pod's share. A person's values stay, unless the profile
    /// clamps.
    pub(super) fn fill_share(&self, context: &SizingContext<'_>, share: &mut PodShare) {
        let bounds = context.bounds(self.resource);
        let clamps = context.profile.sizing.mode == SizingMode::Clamp;
        share.request = self.wanted.request;
        share.limit = self.wanted.limit;
        share.free = Some(Free {
            request: clamps || self.chosen.request.is_none(),
            limit: clamps || self.chosen.limit.is_none(),
            // Never zero: the kubelet takes a limit of zero for none.
            least: bounds.fit(self.proposal.floor).max(self.proposal.step),
            // A value above the profile's limit would be clamped in the next round.
            most: if clamps { Some(bounds.fit(self.proposal.size.limit)) } else { bounds.max },
            ratio: bounds.ratio,
            step: self.proposal.step,
        });
    }

    /// Computes the request that goes with a lowered limit, as if a person had written that limit.
    pub(super) fn settle_again(&self, context: &SizingContext<'_>, share: &mut PodShare) {
        if share.limit != self.wanted.limit {
            let chosen = Chosen { request: self.chosen.request, limit: share.limit };
            let pair =
                settle(self.proposal, context.bounds(self.resource), chosen, context.profile.sizing.mode);
            share.request = Some(pair.request);
        }
    }
}

/// Where one resource of one container is read and written.
struct ResourceField<'a> {
    container: &'a Container,
    resource: Resource,
    context: &'a SizingContext<'a>,
    path: &'a str,
}

impl ResourceField<'_> {
    fn plan(&self, item: &Object, proposal: Proposal, pod: &PodResources) -> Result<ResourceSizing, Error> {
        let empty = Object::new();
        let resources =
            object(item, "resources", self.path.trim_end_matches(".resources"))?.unwrap_or(&empty);
        let request = written(resources, Side::Requests, self.resource, self.path)?;
        let limit = written(resources, Side::Limits, self.resource, self.path)?;
        let chosen = |side, value: Option<Quantity>| value.filter(|value| !self.is_filled(side, *value));
        let chosen = Chosen { request: chosen(Side::Requests, request), limit: chosen(Side::Limits, limit) };
        let wanted = if pod.named.contains(&self.resource) {
            self.under_pod(proposal, pod, (request, limit))
        } else {
            let pair = settle(proposal, self.context.bounds(self.resource), chosen, self.mode());
            Chosen { request: Some(pair.request), limit: Some(pair.limit) }
        };
        Ok(ResourceSizing {
            resource: self.resource,
            proposal,
            before: Chosen { request, limit },
            chosen,
            wanted,
        })
    }

    /// Whether a value is no choice of the pod's author, as far as the API server tells.
    fn is_filled(&self, side: Side, value: Quantity) -> bool {
        let container = (self.container.role == Role::InitContainer, self.container.name.as_str());
        self.context.filled.holds(container, (side, self.resource), value)
    }

    /// Under a pod-level size: missing values stay missing, and clamping only lowers. A limit of zero means none, which is the highest.
    fn under_pod(
        &self,
        proposal: Proposal,
        pod: &PodResources,
        (request, limit): (Option<Quantity>, Option<Quantity>),
    ) -> Chosen {
        if self.mode() == SizingMode::Fill {
            return Chosen { request, limit };
        }
        let top = self.context.bounds(self.resource).fit(proposal.size.limit);
        let lowered = |limit: Quantity| {
            if limit == Quantity::ZERO { pod.at_most(self.resource, top) } else { limit.min(top) }
        };
        let limit = limit.map(lowered);
        Chosen { request: request.map(|request| request.min(limit.unwrap_or(top)).min(top)), limit }
    }

    const fn mode(&self) -> SizingMode {
        self.context.profile.sizing.mode
    }

    /// Writes a value unless an equal one is there already, and says whether it did. Spelling does not matter: the API server
    /// respells quantities between its calls.
    fn write(
        &self,
        item: &mut Object,
        side: Side,
        (before, wanted): (Option<Quantity>, Option<Quantity>),
        notes: &mut Notes,
    ) -> Result<bool, Error> {
        let Some(wanted) = wanted.filter(|wanted| before != Some(*wanted)) else { return Ok(false) };
        let text = self.resource.written(wanted);
        let (container, name) = (&self.container.name, self.resource.name());
        let resources = object_mut(item, "resources", self.path.trim_end_matches(".resources"))?;
        let amounts = object_mut(resources, side.name(), self.path)?;
        // In the person's own spelling.
        let spelled = amounts.insert(name.to_owned(), json!(text));
        let field = format!("{}.{name}", side.name());
        let hinted = before.is_some_and(|before| self.is_filled(side, before));
        let was = before.map_or_else(String::new, |before| {
            let by = if hinted { ", filled in by a LimitRange" } else { "" };
            let own = spelled.as_ref().and_then(Value::as_str).map(String::from);
            format!(" (was {}{by})", own.unwrap_or_else(|| self.resource.written(before)))
        });
        notes.change(&format!("resources/{container}"), format!("{}.{field} = {text}{was}", self.path));
        if before.is_some() && !hinted {
            let profile = &self.context.profile.name;
            notes.tell(format!(
                "container `{container}`: {field} is now {text}{was}: runtime profile `{profile}` clamps sizes"
            ));
        }
        Ok(true)
    }

    /// What a person can do about a memory limit below the floor. The API server refuses one of a container over that of its pod.
    fn remedy(&self, floor: Quantity, of_pod: Option<Quantity>) -> String {
        let (needed, namespace) = (floor.memory(), self.context.namespace);
        if of_pod.is_some_and(|of_pod| of_pod < floor) {
            return format!(
                "set `spec.resources.limits.memory` to {needed} or more, and no lower limit in the container"
            );
        }
        let bounds = self.context.of_container.memory;
        match (bounds.max.filter(|max| *max < floor), bounds.ratio) {
            (Some(max), _) => format!(
                "a LimitRange of namespace `{namespace}` allows {} at most; raise that to {needed} or more",
                max.memory()
            ),
            (None, Some(_)) => format!(
                "set a memory limit of {needed} or more, and a request in the ratio to it that a LimitRange of \
                 namespace `{namespace}` demands"
            ),
            (None, None) => format!("set a memory limit of {needed} or more"),
        }
    }

    /// Warns if the program may not start within this limit, beside that of the pod.
    fn warn_of_floor(
        &self,
        (limit, of_pod): (Option<Quantity>, Option<Quantity>),
        floor: Quantity,
        notes: &mut Notes,
    ) {
        let Some(limit) = limit.filter(|limit| *limit < floor) else { return };
        let container = &self.container.name;
        let fix = self.remedy(floor, of_pod);
        let shown = self.context.profile.ambient.runtime().out_of_memory();
        let shown = shown.map(|shown| format!(", {shown}")).unwrap_or_default();
        notes.warn(format!(
            "container `{container}`: it needs about {} to start, and with a memory limit of {} it may be killed for \
             memory{shown}; {fix}",
            floor.memory(),
            limit.memory()
        ));
    }
}
