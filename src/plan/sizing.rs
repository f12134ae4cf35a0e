//! Requests and limits of the Wasm containers. What a person wrote is kept unless the profile clamps; what is missing,
//! or was only filled in by a LimitRange, gets the profile's size, raised to what the program needs to start.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::LimitRangeItem;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::image::{ImageFacts, ModuleFacts, Packaging, Program};
use crate::inspection::{Container, Inspection, LookupResult};
use crate::runtime::{Compiler, Profile, SizingMode};
use crate::workload::{Role, Workload};

use super::draft::{Error, Notes, Object, container_mut, list_of, not, object, object_mut};
use super::floor;
use super::quantity::Quantity;
use super::sum::{self, Free, PodShare, Total};

/// Annotation in which the API server's LimitRanger says what it filled in
/// (`kubernetes:plugin/pkg/admission/limitranger/admission.go`). A person can write it too: then his own values count
/// as not chosen, on his own pod, and nothing worse follows.
const LIMIT_RANGER_ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The two resources that a Wasm workload is sized by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Resource {
    Memory,
    Cpu,
}

impl Resource {
    const BOTH: [Self; 2] = [Self::Memory, Self::Cpu];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|resource| resource.name() == name)
    }

    /// The step in which it is written.
    const fn step(self) -> Quantity {
        match self {
            Self::Memory => Quantity::BYTE,
            Self::Cpu => Quantity::MILLI,
        }
    }

    fn written(self, quantity: Quantity) -> String {
        match self {
            Self::Memory => quantity.memory(),
            Self::Cpu => quantity.cpu(),
        }
    }
}

/// The two sides of a resource, as they are spelled under `resources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Requests,
    Limits,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Requests, Self::Limits];

    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// What holds for every container of the pod: profile, LimitRanges, and what the LimitRanger filled in.
pub(super) struct SizingContext<'a> {
    profile: &'a Profile,
    namespace: &'a str,
    defaults: Defaults,
    memory_bounds: Bounds,
    cpu_bounds: Bounds,
    /// What the namespace's `LimitRange`s allow a pod as a whole.
    memory_total: Total,
    cpu_total: Total,
    hint: Hint<'a>,
}

/// The profile's sizing, read.
struct Defaults {
    memory: Pair,
    cpu: Pair,
    base: Quantity,
}

/// A request and a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    request: Quantity,
    limit: Quantity,
}

impl Defaults {
    fn read(profile: &Profile) -> Result<Self, Error> {
        let read = |text: &str, name: &str| {
            Quantity::named(text, &format!("sizing.{name} of runtime profile {}", profile.name))
        };
        let sizing = &profile.sizing;
        let pair = |request: Quantity, limit: Quantity, step: Quantity| Pair {
            request: request.up_to(step).max(Quantity::ZERO),
            limit: limit.up_to(step).max(Quantity::ZERO),
        };
        Ok(Self {
            memory: pair(
                read(&sizing.memory_request, "memoryRequest")?,
                read(&sizing.memory_limit, "memoryLimit")?,
                Quantity::BYTE,
            ),
            cpu: pair(
                read(&sizing.cpu_request, "cpuRequest")?,
                read(&sizing.cpu_limit, "cpuLimit")?,
                Quantity::MILLI,
            ),
            base: read(profile.base_memory(), "baseMemory")?.max(Quantity::ZERO),
        })
    }
}

/// What the `LimitRange`s of the namespace allow a container; the narrowest of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bounds {
    min: Option<Quantity>,
    max: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl Bounds {
    /// Of the items of one type, `Container` or `Pod`.
    fn read(items: &[LimitRangeItem], of: &str, resource: Resource, namespace: &str) -> Result<Self, Error> {
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
    fn fit(self, value: Quantity) -> Quantity {
        let value = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(value, |max| value.min(max))
    }
}

fn lesser(a: Option<Quantity>, b: Option<Quantity>) -> Option<Quantity> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// Names and quantities of a LimitRange.
type Amounts = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn limit(
    map: Option<&Amounts>,
    name: &str,
    resource: Resource,
    namespace: &str,
) -> Result<Option<Quantity>, Error> {
    let Some(found) = map.and_then(|map| map.get(resource.name())) else { return Ok(None) };
    let field = format!("{name}.{} of a LimitRange in namespace {namespace}", resource.name());
    Quantity::named(&found.0, &field).map(Some)
}

fn pod_bounds(items: &[LimitRangeItem], resource: Resource, namespace: &str) -> Result<Total, Error> {
    let Bounds { min, max, ratio } = Bounds::read(items, "Pod", resource, namespace)?;
    Ok(Total { min, max, ratio })
}

/// Values that the LimitRanger says it filled in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hint<'a>(BTreeSet<(bool, &'a str, Side, Resource)>);

impl<'a> Hint<'a> {
    /// Reads `LimitRanger plugin set: cpu, memory request for container X; cpu limit for init container Y`. What does
    /// not fit is passed over: it is only a hint.
    fn read(annotation: &'a str) -> Self {
        let clauses = annotation.strip_prefix("LimitRanger plugin set:").unwrap_or_default().split(';');
        let mut found = BTreeSet::new();
        for clause in clauses {
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
        Self(found)
    }

    fn names(&self, container: &Container, side: Side, resource: Resource) -> bool {
        self.0.contains(&(container.role == Role::InitContainer, container.name.as_str(), side, resource))
    }
}

impl<'a> SizingContext<'a> {
    /// Gathers what the profile, the namespace and the pod's annotations say.
    pub(super) fn new(
        workload: &'a Workload,
        profile: &'a Profile,
        cluster: &'a Cluster,
    ) -> Result<Self, Error> {
        let namespace = workload.namespace.as_str();
        let items = cluster.limit_ranges.get(namespace).map_or(&[][..], Vec::as_slice);
        let annotation = workload.annotations.get(LIMIT_RANGER_ANNOTATION).map_or("", String::as_str);
        Ok(Self {
            profile,
            namespace,
            defaults: Defaults::read(profile)?,
            memory_bounds: Bounds::read(items, "Container", Resource::Memory, namespace)?,
            cpu_bounds: Bounds::read(items, "Container", Resource::Cpu, namespace)?,
            memory_total: pod_bounds(items, Resource::Memory, namespace)?,
            cpu_total: pod_bounds(items, Resource::Cpu, namespace)?,
            hint: Hint::read(annotation),
        })
    }

    const fn bounds(&self, resource: Resource) -> Bounds {
        match resource {
            Resource::Memory => self.memory_bounds,
            Resource::Cpu => self.cpu_bounds,
        }
    }

    const fn total(&self, resource: Resource) -> Total {
        match resource {
            Resource::Memory => self.memory_total,
            Resource::Cpu => self.cpu_total,
        }
    }
}

/// What one container should get of one resource when the pod spec says nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Proposal {
    floor: Quantity,
    size: Pair,
    step: Quantity,
}

/// What a person chose; `None` where nobody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Chosen {
    request: Option<Quantity>,
    limit: Option<Quantity>,
}

/// Settles request and limit. Settling the outcome again changes nothing, whichever of its values count as chosen.
fn settle(proposal: Proposal, bounds: Bounds, chosen: Chosen, mode: SizingMode) -> Pair {
    let clamps = mode == SizingMode::Clamp;
    let top = bounds.fit(proposal.size.limit);
    let low = bounds.fit(proposal.floor).min(top);
    let keep = |value: Quantity| if clamps { value.clamp(low, top) } else { value };
    let request = chosen.request.map(keep);
    let mut limit = chosen
        .limit
        .map_or_else(|| request.map_or(top, |request| top.max(request.up_to(proposal.step))), keep);
    let headroom = limit.down_to(proposal.step);
    let mut request = match request {
        // Two LimitRanges may leave a request over a limit, with only one of them named in the annotation.
        Some(request) if clamps => request.min(headroom),
        Some(request) => request,
        None => bounds.fit(proposal.size.request).min(headroom),
    };
    if let Some(ratio) = bounds.ratio.filter(|ratio| limit > request.times(*ratio)) {
        if clamps || chosen.request.is_none() {
            request = limit.over(ratio).up_to(proposal.step).min(headroom).max(request);
        } else if chosen.limit.is_none() {
            limit = request.times(ratio).down_to(proposal.step).max(request.up_to(proposal.step));
        }
    }
    Pair { request, limit }
}

/// Sizes every Wasm container. Ephemeral containers have no resources, and Linux sidecars are somebody else's.
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

/// Brings what nobody chose into what the namespace allows a whole pod.
fn fit_total(
    spec: &Object,
    sizings: &mut [ContainerSizing<'_>],
    context: &SizingContext<'_>,
    resource: Resource,
) -> Result<(), Error> {
    let total = context.total(resource);
    if total == Total::default() {
        return Ok(());
    }
    let mut found = shares(spec, resource)?;
    for sizing in &*sizings {
        if let Some((_, share)) = found.iter_mut().find(|(place, _)| *place == sizing.place()) {
            sizing.resource(resource).fill_share(context, share);
        }
    }
    let (places, mut shares): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let index = |sizing: &ContainerSizing<'_>| places.iter().position(|place| *place == sizing.place());
    if let Some(max) = total.max {
        sum::lower_limits(&mut shares, max);
        for sizing in &*sizings {
            if let Some(share) = index(sizing).and_then(|index| shares.get_mut(index)) {
                sizing.resource(resource).settle_again(context, share);
            }
        }
    }
    sum::fit_requests(&mut shares, total);
    for sizing in sizings {
        if let Some(share) = index(sizing).and_then(|index| shares.get(index)) {
            sizing.resource_mut(resource).wanted = Chosen { request: share.request, limit: share.limit };
        }
    }
    Ok(())
}

/// Limits and requests of the pod as a whole (`spec.resources`). Where a person sized a resource there, nothing is
/// filled in for the containers: their sum must not pass it, and the API server turns a limit without a request into
/// a request.
struct PodResources {
    named: BTreeSet<Resource>,
    memory_limit: Option<Quantity>,
}

impl PodResources {
    fn read(spec: &Object) -> Result<Self, Error> {
        let mut pod = Self { named: BTreeSet::new(), memory_limit: None };
        let Some(resources) = object(spec, "resources", "spec")? else { return Ok(pod) };
        for side in Side::BOTH {
            for resource in Resource::BOTH {
                if let Some(value) = written(resources, side, resource, "spec.resources")? {
                    pod.named.insert(resource);
                    if (side, resource) == (Side::Limits, Resource::Memory) {
                        pod.memory_limit = Some(value);
                    }
                }
            }
        }
        Ok(pod)
    }
}

/// What stands in `resources` on one side; `None` when it is absent or null.
fn written(
    resources: &Object,
    side: Side,
    resource: Resource,
    path: &str,
) -> Result<Option<Quantity>, Error> {
    let Some(amounts) = object(resources, side.name(), path)? else { return Ok(None) };
    match amounts.get(resource.name()) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            Quantity::from_json(value, &format!("{path}.{}.{}", side.name(), resource.name())).map(Some)
        }
    }
}

/// The modules that a program runs.
fn modules<'a>(facts: &'a ImageFacts, indices: &'a [usize]) -> impl Iterator<Item = &'a ModuleFacts> {
    indices.iter().filter_map(|index| facts.modules.get(*index))
}

/// One container, with what it should get of each resource.
struct ContainerSizing<'a> {
    container: &'a Container,
    path: String,
    memory: ResourceSizing,
    cpu: ResourceSizing,
    /// CPU time that its program compiles for in the container, and the limit under which that does not take long.
    compiles: (i128, Quantity),
}

/// One resource of one container.
#[derive(Debug, Clone, Copy)]
struct ResourceSizing {
    resource: Resource,
    proposal: Proposal,
    /// What stands in the spec.
    before: Chosen,
    /// What of it a person chose.
    chosen: Chosen,
    /// What shall stand there.
    wanted: Chosen,
}

impl<'a> ContainerSizing<'a> {
    fn read(
        spec: &mut Object,
        container: &'a Container,
        (facts, packaging, indices): (&ImageFacts, Packaging, &[usize]),
        context: &SizingContext<'_>,
        pod: &PodResources,
    ) -> Result<Self, Error> {
        let path = format!("spec.{}[{}].resources", list_of(container.role), container.index);
        let item = container_mut(spec, container.role, container.index, &container.name)?;
        let compiler = context.profile.ambient.runtime().compiler(packaging);
        let [(_, memory), (_, cpu)] = proposals(&context.defaults, compiler, facts, indices);
        let compile = floor::cpu(compiler, modules(facts, indices));
        let sized = |resource, proposal| {
            ResourceField { container, resource, context, path: &path }.plan(
                item,
                proposal,
                pod.named.contains(&resource),
            )
        };
        let (memory, cpu) = (sized(Resource::Memory, memory)?, sized(Resource::Cpu, cpu)?);
        let compiles = (floor::compile_millis(compiler, modules(facts, indices)), compile);
        Ok(Self { container, path, memory, cpu, compiles })
    }

    const fn place(&self) -> (&'static str, usize) {
        (list_of(self.container.role), self.container.index)
    }

    const fn resource(&self, resource: Resource) -> &ResourceSizing {
        match resource {
            Resource::Memory => &self.memory,
            Resource::Cpu => &self.cpu,
        }
    }

    const fn resource_mut(&mut self, resource: Resource) -> &mut ResourceSizing {
        match resource {
            Resource::Memory => &mut self.memory,
            Resource::Cpu => &mut self.cpu,
        }
    }

    fn write(
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
            field.write(item, Side::Requests, (sized.before.request, sized.wanted.request), notes)?;
            field.write(item, Side::Limits, (sized.before.limit, sized.wanted.limit), notes)?;
            if sized.resource == Resource::Memory {
                let governed = pod.named.contains(&sized.resource);
                let limit = sized.wanted.limit;
                let limit = if governed { lesser(limit, pod.memory_limit) } else { limit };
                field.warn_of_floor(limit, sized.proposal.floor, notes);
            }
        }
        warn_of_slow_start(item, container, &self.path, self.compiles, notes)
    }
}

impl ResourceSizing {
    /// Writes its sizes, and how far they may be moved, into the pod's share. A person's values stand, unless the
    /// profile clamps.
    fn fill_share(&self, context: &SizingContext<'_>, share: &mut PodShare) {
        let bounds = context.bounds(self.resource);
        let clamps = context.profile.sizing.mode == SizingMode::Clamp;
        share.request = self.wanted.request;
        share.limit = self.wanted.limit;
        share.free = Some(Free {
            request: clamps || self.chosen.request.is_none(),
            limit: clamps || self.chosen.limit.is_none(),
            // No limit of zero: it would be none.
            least: bounds.fit(self.proposal.floor).max(self.proposal.step),
            // What passes the profile's limit would be clamped the next time.
            most: if clamps { Some(bounds.fit(self.proposal.size.limit)) } else { bounds.max },
            ratio: bounds.ratio,
            step: self.proposal.step,
        });
    }

    /// The request that goes with a limit that was lowered: the same as if a person had written it so.
    fn settle_again(&self, context: &SizingContext<'_>, share: &mut PodShare) {
        if share.limit != self.wanted.limit {
            let chosen = Chosen { request: self.chosen.request, limit: share.limit };
            let pair =
                settle(self.proposal, context.bounds(self.resource), chosen, context.profile.sizing.mode);
            share.request = Some(pair.request);
        }
    }
}

/// What a program should get of both resources under a profile.
fn proposals(
    defaults: &Defaults,
    compiler: Compiler,
    facts: &ImageFacts,
    indices: &[usize],
) -> [(Resource, Proposal); 2] {
    let floor = floor::memory(compiler, defaults.base, modules(facts, indices));
    let memory = Proposal { floor, size: raised(defaults.memory, floor), step: Quantity::BYTE };
    let compile = floor::cpu(compiler, modules(facts, indices));
    let cpu = Pair { limit: defaults.cpu.limit.max(compile), ..defaults.cpu };
    let cpu = Proposal { floor: Quantity::ZERO, size: cpu, step: Quantity::MILLI };
    [(Resource::Memory, memory), (Resource::Cpu, cpu)]
}

/// The highest limits that a profile which clamps leaves a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of memory.
    pub memory: Quantity,
    /// Of processors.
    pub cpu: Quantity,
}

/// What the plan brings a person's limits down to; `None` where it keeps them, or for a program that it does not size.
/// A resize comes past the plan, so somebody has to hold it to the same.
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
    // What cannot be read is an error of the plan, in the review that makes one.
    let defaults = Defaults::read(profile).ok()?;
    let items = cluster.limit_ranges.get(namespace).map_or(&[][..], Vec::as_slice);
    let top = |(resource, proposal): (Resource, Proposal)| {
        Bounds::read(items, "Container", resource, namespace)
            .ok()
            .map(|bounds| bounds.fit(proposal.size.limit))
    };
    let compiler = profile.ambient.runtime().compiler(*packaging);
    let [memory, cpu] = proposals(&defaults, compiler, facts, indices).map(top);
    Some(Caps { memory: memory?, cpu: cpu? })
}

fn raised(size: Pair, floor: Quantity) -> Pair {
    Pair { request: size.request.max(floor), limit: size.limit.max(floor) }
}

/// Where one resource of one container is looked up and written.
struct ResourceField<'a> {
    container: &'a Container,
    resource: Resource,
    context: &'a SizingContext<'a>,
    path: &'a str,
}

impl ResourceField<'_> {
    fn plan(&self, item: &Object, proposal: Proposal, governed: bool) -> Result<ResourceSizing, Error> {
        let empty = Object::new();
        let resources =
            object(item, "resources", self.path.trim_end_matches(".resources"))?.unwrap_or(&empty);
        let request = written(resources, Side::Requests, self.resource, self.path)?;
        let limit = written(resources, Side::Limits, self.resource, self.path)?;
        let chosen = |side, value: Option<Quantity>| {
            value.filter(|_| !self.context.hint.names(self.container, side, self.resource))
        };
        let chosen = Chosen { request: chosen(Side::Requests, request), limit: chosen(Side::Limits, limit) };
        let wanted = if governed {
            self.under_pod(proposal, request, limit)
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

    /// Under a pod-level size: what is missing stays so, and clamping only lowers.
    fn under_pod(&self, proposal: Proposal, request: Option<Quantity>, limit: Option<Quantity>) -> Chosen {
        if self.mode() == SizingMode::Fill {
            return Chosen { request, limit };
        }
        let top = self.context.bounds(self.resource).fit(proposal.size.limit);
        let limit = limit.map(|limit| limit.min(top));
        Chosen { request: request.map(|request| request.min(limit.unwrap_or(top)).min(top)), limit }
    }

    const fn mode(&self) -> SizingMode {
        self.context.profile.sizing.mode
    }

    /// Writes a value where another one, or none, stands. Equal quantities that are spelled differently are equal:
    /// the API server respells them between its calls.
    fn write(
        &self,
        item: &mut Object,
        side: Side,
        (before, wanted): (Option<Quantity>, Option<Quantity>),
        notes: &mut Notes,
    ) -> Result<(), Error> {
        let Some(wanted) = wanted.filter(|wanted| before != Some(*wanted)) else { return Ok(()) };
        let text = self.resource.written(wanted);
        let (container, name) = (&self.container.name, self.resource.name());
        let resources = object_mut(item, "resources", self.path.trim_end_matches(".resources"))?;
        let amounts = object_mut(resources, side.name(), self.path)?;
        // In the person's own spelling.
        let spelled = amounts.insert(name.to_owned(), json!(text));
        let field = format!("{}.{name}", side.name());
        let hinted = self.context.hint.names(self.container, side, self.resource);
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
        Ok(())
    }

    /// What a person can do about a memory limit under the floor.
    fn remedy(&self, floor: Quantity) -> String {
        let (needed, namespace) = (floor.memory(), self.context.namespace);
        let bounds = self.context.memory_bounds;
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

    /// A limit of zero is none for the kubelet.
    fn warn_of_floor(&self, limit: Option<Quantity>, floor: Quantity, notes: &mut Notes) {
        let Some(limit) = limit.filter(|limit| *limit != Quantity::ZERO && *limit < floor) else { return };
        let container = &self.container.name;
        let fix = self.remedy(floor);
        notes.warn(format!(
            "container `{container}`: with a memory limit of {} it cannot start: it will be killed for memory, which \
             runwasi's shims show as `Error` with exit code 137, not as `OOMKilled`; {fix}",
            limit.memory()
        ));
    }
}

/// Says how long a program compiles in its container when that is longer than a probe waits.
fn warn_of_slow_start(
    item: &Object,
    container: &Container,
    path: &str,
    (compile_millis, enough): (i128, Quantity),
    notes: &mut Notes,
) -> Result<(), Error> {
    let Some(resources) = object(item, "resources", path)? else { return Ok(()) };
    let limit = written(resources, Side::Limits, Resource::Cpu, path)?;
    let Some(limit) = limit.filter(|limit| *limit > Quantity::ZERO && *limit < enough) else { return Ok(()) };
    notes.warn(format!(
        "container `{}`: it compiles for about {} CPU seconds at every start, under a CPU limit of {}; set one of {} \
         or more, or push the program as a Wasm layer, which the node compiles once",
        container.name,
        (compile_millis + 999) / 1000,
        limit.cpu(),
        enough.cpu()
    ));
    Ok(())
}

/// Says what the API server will refuse all the same: what a person chose, or what the programs need, leaves no way.
fn warn_of_total(
    spec: &Object,
    context: &SizingContext<'_>,
    pod: &PodResources,
    notes: &mut Notes,
) -> Result<(), Error> {
    for resource in Resource::BOTH {
        let Total { min, max, ratio } = context.total(resource);
        let shares: Vec<PodShare> = shares(spec, resource)?.into_iter().map(|(_, share)| share).collect();
        let (requests, limits) = (sum::total(&shares, sum::REQUESTS), sum::total(&shares, sum::LIMITS));
        let sums = [(Side::Limits, limits), (Side::Requests, requests)];
        let over = sums.into_iter().find(|(_, sum)| max.is_some_and(|max| *sum > max));
        // Under a pod-level size the API server counts that.
        let under = sums.into_iter().rev().find(|(_, sum)| min.is_some_and(|min| *sum < min));
        let under = under.filter(|_| !pod.named.contains(&resource));
        let told = |(side, sum): (Side, Quantity), bound: Option<Quantity>, words: &str, fix: &str| {
            let bound = resource.written(bound.unwrap_or_default());
            format!(
                "the {} {} of the pod add up to {}, and a LimitRange of namespace `{}` {words} {bound} {fix}",
                resource.name(),
                side.name(),
                resource.written(sum),
                context.namespace,
            )
        };
        if let Some(over) = over {
            let fix = "at most for a pod; lower a container's limit or raise that";
            notes.warn(told(over, max, "allows", fix));
        } else if let Some(under) = under {
            let fix = "at least of a pod; raise a container's request and limit or lower that";
            notes.warn(told(under, min, "demands", fix));
        } else if let Some(ratio) = ratio.filter(|ratio| limits > requests.times(*ratio))
            && !pod.named.contains(&resource)
        {
            notes.warn(format!(
                "the {} limits of the pod add up to {}, and its requests to {}, and a LimitRange of namespace `{}` allows \
                 limits {ratio} times the requests at most; raise a container's request or lower its limit",
                resource.name(),
                resource.written(limits),
                resource.written(requests),
                context.namespace
            ));
        }
    }
    Ok(())
}

/// Where a container stands: its list and its position there.
type Place = (&'static str, usize);

/// What every container of the pod has of one resource, in the order in which they start.
fn shares(spec: &Object, resource: Resource) -> Result<Vec<(Place, PodShare)>, Error> {
    let mut found = Vec::new();
    for (list, init) in [("initContainers", true), ("containers", false)] {
        let items = match spec.get(list) {
            None | Some(Value::Null) => continue,
            Some(items) => items.as_array().ok_or_else(|| not(format!("spec.{list}"), "a list"))?,
        };
        for (index, item) in items.iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            let item = item.as_object().ok_or_else(|| not(path.clone(), "an object"))?;
            let stays = !init || item.get("restartPolicy").and_then(Value::as_str) == Some("Always");
            let mut share = PodShare { stays, ..PodShare::default() };
            if let Some(resources) = object(item, "resources", &path)? {
                let path = format!("{path}.resources");
                share.request = written(resources, Side::Requests, resource, &path)?;
                share.limit = written(resources, Side::Limits, resource, &path)?;
            }
            found.push(((list, index), share));
        }
    }
    Ok(found)
}
