//! Builds the input document of the policies from the facts of a review.

mod document;
mod held;
mod shared;
mod spec;

pub use document::{
    API_VERSION, ClassFor, ContainerFacts, Effective, ExpiredGrant, Groups, InterpreterFacts, PodLimits,
    PolicyInput, PolicyOptions, RequestFacts, Resources, RuntimeFacts, SharedMemory, SharedStart, UserFacts,
    WorkloadFacts,
};
pub use spec::{HostPath, SpecFacts, restarts_what_it_resizes};

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::capability::{Capabilities, Siblings};
use crate::cluster::Cluster;
use crate::grant::held::PodGrants;
use crate::grant::{Grants, Subject, WasiGrant, cover, suggest};
use crate::image::annotation::crun_annotation;
use crate::image::entry::needs_layers;
use crate::image::prefix::Unpinned;
use crate::image::{ImageFacts, ImageKind, ModuleFacts, NEEDS_COMMAND, NativeCode, Packaging, Program};
use crate::inspection::{Container, Inspection, LookupResult};
use crate::plan::{floor, sizing};
use crate::quantity::Quantity;
use crate::runtime::{self, Compiler, Family, NetworkPolicies, Profile, Runtimes, runnable_by};
use crate::workload::{Role, Workload};
use shared::{share_starts, shared_memory};
use spec::Spec;

/// Everything that one verdict depends on.
#[derive(Debug, Clone, Copy)]
pub struct InputParts<'a> {
    /// The request.
    pub request: &'a RequestFacts<'a>,
    /// The object as it will be stored.
    pub object: &'a RawValue,
    /// Its pod spec.
    pub workload: &'a Workload,
    /// What its containers start.
    pub inspection: &'a Inspection,
    /// The names of the ephemeral containers that an update leaves as they are.
    pub unchanged: &'a BTreeSet<String>,
    /// Whether the request is a resize that restarts each container that it changes, or changes the sizes of the pod alone
    /// ([`restarts_what_it_resizes`]).
    pub restarts: bool,
    /// The runtimes.
    pub runtimes: &'a Runtimes,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Image kind → the class that pods of that kind are placed on; derived from runtimes and cluster.
    pub class_for: &'a ClassFor,
    /// The grants.
    pub grants: &'a Grants,
    /// Options for the rules: `policies.options` of the configuration.
    pub options: &'a PolicyOptions,
    /// The images that keep their tags.
    pub unpinned: &'a Unpinned,
    /// The time, which decides whether a grant has expired.
    pub now: Timestamp,
}

/// What is the same for all containers of a pod.
#[derive(Debug)]
struct PodParts<'a> {
    profile: Option<&'a Profile>,
    siblings: Siblings<'a>,
    /// What NetworkPolicies hold the pod to; `None` where its profile says nothing of any.
    held_to: Option<PodGrants>,
}

/// Builds the input document.
pub fn prepare<'a>(case: &InputParts<'a>) -> PolicyInput<'a> {
    let class = case.workload.spec.runtime_class_name.as_deref();
    let profile = class.and_then(|name| case.cluster.profile_of(case.runtimes, name));
    let mut grants = Vec::new();
    let all = &case.inspection.containers;
    let siblings = Siblings::new(case.workload, all, profile);
    let pod = PodParts { profile, siblings, held_to: held_to(case, profile) };
    let mut containers: Vec<ContainerFacts<'_>> =
        all.iter().map(|c| container_facts(case, &pod, c, &mut grants)).collect();
    share_starts((case.workload, case.inspection), &mut containers);
    let floors = containers.iter().map(|container| container.resources.floor_bytes);
    let shared_memory = shared_memory((case.workload, case.inspection), floors);
    PolicyInput {
        api_version: API_VERSION,
        request: case.request,
        object: Some(case.object),
        workload: workload_facts(case, shared_memory),
        containers,
        grants,
        runtime: runtime_facts(case, class, profile),
        options: case.options,
    }
}

fn namespace_labels<'a>(case: &InputParts<'a>) -> Cow<'a, BTreeMap<String, String>> {
    case.cluster
        .namespaces
        .get(&case.workload.namespace)
        .map_or_else(|| Cow::Owned(BTreeMap::new()), Cow::Borrowed)
}

fn workload_facts<'a>(case: &InputParts<'a>, shared_memory: Option<SharedMemory>) -> WorkloadFacts<'a> {
    let Workload { kind, name, namespace, labels, annotations, spec, .. } = case.workload;
    WorkloadFacts {
        kind: kind.as_str(),
        name,
        namespace,
        namespace_labels: namespace_labels(case),
        labels,
        annotations,
        service_account: case.workload.service_account(),
        runtime_class_name: spec.runtime_class_name.as_deref(),
        host_network: spec.host_network.unwrap_or(false),
        host_pid: spec.host_pid.unwrap_or(false),
        host_ipc: spec.host_ipc.unwrap_or(false),
        template: kind.is_template(),
        shared_memory,
        limits: pod_limits(case.workload),
    }
}

/// The limits of the pod, if it has any.
fn pod_limits(workload: &Workload) -> Option<PodLimits> {
    let memory_bytes = spec::pod_memory_limit(&workload.spec);
    let cpu_millis = spec::pod_cpu_limit(&workload.spec);
    let limits = PodLimits { memory_bytes, cpu_millis };
    (limits != PodLimits::default()).then_some(limits)
}

/// Why a Wasm runtime may start the pod although no profile describes its class: an annotation asks for a Wasm handler
/// on nodes whose ordinary runtime is crun or youki; or the cluster is not known to have the class, because it is too
/// new, or was deleted under running pods; or an image that suggests Wasm was not read, or its program not recognised.
/// Completes the sentence "what it may call is not known …".
pub fn suspicion(
    workload: &Workload,
    inspection: &Inspection,
    runtimes: &Runtimes,
    cluster: &Cluster,
) -> Option<String> {
    let class = workload.spec.runtime_class_name.as_deref();
    if class.is_some_and(|class| cluster.profile_of(runtimes, class).is_some()) {
        return None;
    }
    if let Some((key, value)) = crun_annotation(&workload.annotations) {
        return Some(format!("when annotation `{key}: {value}` asks the node's runtime for a Wasm handler"));
    }
    let class = class?;
    if cluster.runtime_classes.as_ref().is_some_and(|known| !known.contains_key(class)) {
        return Some(format!("under runtime class `{class}`, which the cluster is not known to have"));
    }
    let mut containers = inspection.containers.iter();
    let may_be_wasm = containers.any(|container| container.is_open() && suggests_wasm(workload, container));
    may_be_wasm.then(|| format!("under runtime class `{class}`, which no profile describes"))
}

/// Whether the image of a container suggests Wasm, as far as it was read, or the command of the pod does, for which the files of an
/// image are read. That one could not be read suggests nothing else: an ordinary image may be unusual too, or its registry down.
/// `args` may be those of a Linux program of the image, such as `wasmtime`.
fn suggests_wasm(workload: &Workload, container: &Container) -> bool {
    let is_unread = container.known().is_none();
    let written = workload.container(container.role, container.index).filter(|_| is_unread);
    let command = written.and_then(|written| written.command.first());
    container.suggests_wasm() || command.is_some_and(|first| needs_layers(first))
}

fn runtime_facts<'a>(
    case: &InputParts<'a>,
    class: Option<&'a str>,
    profile: Option<&'a Profile>,
) -> RuntimeFacts<'a> {
    RuntimeFacts {
        profile: profile.map(|p| p.name.as_str()),
        runtime_class: class,
        wasm: profile.is_some(),
        suspicion: suspicion(case.workload, case.inspection, case.runtimes, case.cluster),
        ignores_resize: !case.restarts && profile.is_some_and(|p| p.ambient.runtime().ignores_resize()),
        hides_out_of_memory: profile.is_some_and(|p| p.ambient.runtime().out_of_memory().is_some()),
        runs: profile.map(|p| p.runs.clone()).unwrap_or_default(),
        ambient: profile.map(|p| p.ambient),
        no_exec: profile.is_some_and(|p| p.ambient.runtime().has_no_exec()),
        may_exec: profile.map_or(class.is_some(), |p| p.ambient.runtime().may_exec_wasm()),
        network_policies: profile.is_some_and(|p| p.network_policies == NetworkPolicies::Enforced),
        plugin_variables: profile.map(|p| p.ambient.plugin_variables()).unwrap_or_default(),
        class_for: case.class_for,
    }
}

fn container_facts<'a>(
    case: &InputParts<'a>,
    pod: &PodParts<'_>,
    container: &'a Container,
    grants: &mut Vec<Arc<WasiGrant>>,
) -> ContainerFacts<'a> {
    let profile = pod.profile;
    let (capabilities, effective) = covered(case, pod, container, grants);
    let spec = Spec::of(case.workload, container);
    let known = container.known();
    let (kind, packaging, reason, native) = summarise(container);
    ContainerFacts {
        name: &container.name,
        role: container.role,
        image: &container.image,
        digest: known.map(|(facts, _)| facts.digest.as_str()),
        unpinned_by: case.unpinned.entry_for(&container.image).map(ToString::to_string),
        unchanged: container.role == Role::EphemeralContainer && case.unchanged.contains(&container.name),
        class: container.class(),
        kind,
        shape: known.map(|(facts, _)| facts.shape),
        packaging,
        reason,
        fault: container.fault(),
        native,
        evidence: known.map_or(&[], |(facts, _)| facts.evidence.as_slice()),
        warnings: known
            .map(|(facts, program)| warnings(facts, program, profile, spec.names_command()))
            .unwrap_or_default(),
        unmatched_platform: known.and_then(|(facts, _)| facts.unmatched_platform.as_deref()),
        names_no_command: known.is_some_and(|(facts, _)| !names_command(facts, spec)),
        claims: known.map_or(&[], |(facts, _)| facts.claims.as_slice()),
        interpreters: known.map(|(facts, program)| interpreters(facts, program)).unwrap_or_default(),
        runnable_by: known.map(|(facts, program)| runnable(facts, program, profile)).unwrap_or_default(),
        cannot_start: known
            .zip(profile)
            .and_then(|((facts, program), profile)| profile.cannot_start(facts, program)),
        requires: capabilities.requires,
        ambient: capabilities.ambient,
        effective,
        missing: capabilities.missing,
        resources: resources(case, spec, container, profile),
        spec: spec.facts(&case.workload.spec),
    }
}

/// What a container can call and is handed, and apart from it what it can really do, each with the grants that cover it. These
/// are added to those of the document.
fn covered(
    case: &InputParts<'_>,
    pod: &PodParts<'_>,
    container: &Container,
    grants: &mut Vec<Arc<WasiGrant>>,
) -> (Capabilities, Vec<Effective>) {
    let labels = namespace_labels(case);
    let subject = subject(case, &labels, container);
    let matching = case.grants.matching(&subject, case.now);
    let mut capabilities = pod.siblings.assess(container);
    cover::cover(&mut capabilities.effective, &matching);
    cover::cover(&mut capabilities.ambient, &matching);
    let effective = std::mem::take(&mut capabilities.effective).into_iter();
    let effective = effective.map(|entry| held::held(entry, &matching, pod.held_to.as_ref())).collect();
    let effective = with_remedies(case, &subject, effective);
    add(grants, matching);
    (capabilities, effective)
}

/// The pod with the image of one of its containers, as grants select it.
fn subject<'a>(
    case: &InputParts<'a>,
    namespace_labels: &'a BTreeMap<String, String>,
    container: &'a Container,
) -> Subject<'a> {
    Subject {
        namespace: &case.workload.namespace,
        namespace_labels,
        service_account: case.workload.service_account(),
        labels: &case.workload.labels,
        image: &container.image,
    }
}

/// Adds grants to those of the document, each once.
fn add(grants: &mut Vec<Arc<WasiGrant>>, more: Vec<Arc<WasiGrant>>) {
    for grant in more {
        if !grants.iter().any(|known| Arc::ptr_eq(known, &grant)) {
            grants.push(grant);
        }
    }
}

/// What NetworkPolicies hold the pod to, where its profile says that they do: the grants of all its containers, since a policy binds them
/// together.
fn held_to(case: &InputParts<'_>, profile: Option<&Profile>) -> Option<PodGrants> {
    if profile?.network_policies == NetworkPolicies::Off {
        return None;
    }
    if let Some(why) = held::obstacle(case.workload, case.inspection) {
        return Some(Err(why));
    }
    let labels = namespace_labels(case);
    let mut all = Vec::new();
    for container in &case.inspection.containers {
        add(&mut all, case.grants.matching(&subject(case, &labels, container), case.now));
    }
    Some(Ok(all))
}

/// What will make an image fail on some node. That an image names no command does not matter if the container does.
pub fn image_warnings(facts: &ImageFacts, names_command: bool) -> Vec<String> {
    let counts = |warning: &&String| !(names_command && warning.as_str() == NEEDS_COMMAND);
    facts.warnings.iter().filter(counts).cloned().collect()
}

/// Whether the image or the pod names a command. Without one, containerd creates no container
/// (`containerd:internal/cri/opts/spec_opts.go`, `WithProcessArgs`).
const fn names_command(facts: &ImageFacts, spec: Spec<'_>) -> bool {
    spec.names_command() || !facts.entrypoint.is_empty() || !facts.cmd.is_empty()
}

/// Adds to each entry that no grant covers the grant that would, and expired grants that did.
fn with_remedies(
    case: &InputParts<'_>,
    subject: &Subject<'_>,
    mut entries: Vec<Effective>,
) -> Vec<Effective> {
    let is_open = |effective: &Effective| effective.entry.covered_by.is_empty();
    let uncovered = entries.iter().any(is_open);
    let expired = if uncovered { case.grants.expired_matching(subject, case.now) } else { Vec::new() };
    let to_expired =
        |grant: &Arc<WasiGrant>| ExpiredGrant { grant: grant.label(), expires_at: grant.spec.expires_at };
    for effective in entries.iter_mut().filter(|effective| is_open(effective)) {
        let entry = &effective.entry;
        let would_cover = |grant: &&Arc<WasiGrant>| {
            grant.spec.capabilities.iter().any(|granted| cover::covers(granted, entry))
        };
        effective.expired_grants = expired.iter().filter(would_cover).map(to_expired).collect();
        effective.needs_grant = Some(suggest::needed_grant(entry));
    }
    entries
}

fn summarise(container: &Container) -> (ImageKind, Option<Packaging>, Option<String>, Vec<NativeCode>) {
    match &container.lookup {
        LookupResult::Unread { error } => (ImageKind::Unknown, None, Some(error.to_string()), Vec::new()),
        LookupResult::Known { facts, program } => {
            let mut native = facts.native.clone();
            let (kind, packaging, reason) = match program {
                Program::Wasm { kind, packaging, .. } => (*kind, Some(*packaging), None),
                Program::Linux => (ImageKind::Linux, None, None),
                Program::Unknown { reason } => (ImageKind::Unknown, None, Some(reason.to_string())),
                Program::Native { source, magic } => {
                    let code = NativeCode { source: source.clone(), magic: magic.clone() };
                    if !native.contains(&code) {
                        native.push(code);
                    }
                    (facts.kind, None, None)
                }
            };
            (kind, packaging, reason, native)
        }
    }
}

/// Warnings of the look-up, and about what a module needs that the runtime does not have.
fn warnings(
    facts: &ImageFacts,
    program: &Program,
    profile: Option<&Profile>,
    names_command: bool,
) -> Vec<String> {
    let of_runtime = match profile {
        Some(profile) => profile.warnings(facts, program),
        None => runtime::warnings(None, facts, program),
    };
    image_warnings(facts, names_command).into_iter().chain(of_runtime).collect()
}

/// The runtimes that can start the program; that of the pod also where only its profile says so.
fn runnable(facts: &ImageFacts, program: &Program, profile: Option<&Profile>) -> BTreeSet<Family> {
    let said = profile.filter(|profile| profile.says_it_starts(facts, program));
    runnable_by(facts, program).into_iter().chain(said.map(|profile| profile.ambient)).collect()
}

fn interpreters<'a>(facts: &'a ImageFacts, program: &Program) -> Vec<InterpreterFacts<'a>> {
    let Program::Wasm { modules, .. } = program else { return Vec::new() };
    let of_module = |module: &'a ModuleFacts| {
        module.interpreters.iter().map(|found| InterpreterFacts {
            engine: found.engine.name(),
            language: found.engine.language(),
            source: &module.source,
            evidence: &found.evidence,
        })
    };
    facts.modules_at(modules).flat_map(of_module).collect()
}

/// Sizes of the spec, and the limits of the pod's profile.
fn resources(
    case: &InputParts<'_>,
    spec: Spec<'_>,
    container: &Container,
    profile: Option<&Profile>,
) -> Resources {
    let (request_bytes, limit_bytes) = spec.memory();
    let of_pod = spec::pod_memory_limit(&case.workload.spec);
    let processors_of_pod = spec::pod_cpu_limit(&case.workload.spec);
    let processors = spec.cpu_limit().into_iter().chain(processors_of_pod).min();
    let processors = processors.map(|millis| Quantity::from_millis(millis.into()));
    let known = container.known();
    let caps = known.zip(profile).and_then(|(program, profile)| {
        sizing::caps(program, processors, profile, case.cluster, &case.workload.namespace)
    });
    let floor_bytes = known.and_then(|program| memory_floor(program, processors, profile));
    let compile = known.and_then(|(facts, program)| compile_millis(facts, program, profile));
    let cap_millis = caps.map(|caps| caps.cpu.millis());
    // An ephemeral container can have no sizes of its own.
    let is_sized = container.role.starts_with_pod();
    let is_capped = is_sized && caps.is_some();
    Resources {
        request_bytes,
        limit_bytes: narrowest(limit_bytes, of_pod, |limit| is_below(limit, floor_bytes)),
        floor_bytes,
        cap_bytes: caps.map(|caps| caps.memory.bytes()),
        limit_millis: narrowest(spec.cpu_limit(), processors_of_pod, |limit| is_within(limit, cap_millis)),
        compile_millis: compile.map(|(estimate, _)| estimate),
        slowest_compile_millis: compile.map(|(_, slowest)| slowest),
        // What runs beside it is known later.
        shared_start: None,
        cap_millis,
        pod_limit_bytes: of_pod.filter(|_| is_capped && limit_bytes.is_none()),
        pod_limit_millis: processors_of_pod.filter(|_| is_capped && spec.cpu_limit().is_none()),
        unlimited: if is_capped { unlimited(spec, case.workload) } else { &[] },
    }
}

/// The resources of which the sizes of the pod say that the container has no limit.
fn unlimited(spec: Spec<'_>, workload: &Workload) -> &'static [&'static str] {
    let is_unlimited = |resource| spec.is_without_limit(&workload.spec, resource);
    match (is_unlimited("memory"), is_unlimited("cpu")) {
        (true, true) => &["memory", "cpu"],
        (true, false) => &["memory"],
        (false, true) => &["cpu"],
        (false, false) => &[],
    }
}

/// The limit that the container hits first: its own, or the pod's if that is lower. For a container without its own limit, the pod's
/// counts only where `counts` says so; otherwise it limits the containers together.
fn narrowest(own: Option<u64>, of_pod: Option<u64>, counts: impl Fn(u64) -> bool) -> Option<u64> {
    match (own, of_pod) {
        (Some(own), Some(of_pod)) => Some(own.min(of_pod)),
        (None, of_pod) => of_pod.filter(|limit| counts(*limit)),
        (own, None) => own,
    }
}

/// Whether the program cannot start with so much memory.
fn is_below(limit: u64, floor: Option<u64>) -> bool {
    floor.is_some_and(|floor| limit < floor)
}

/// Whether a CPU limit is not beyond a cap: one that is, is told apart ([`Resources::pod_limit_millis`]).
fn is_within(limit: u64, cap: Option<u64>) -> bool {
    cap.is_none_or(|cap| limit <= cap)
}

/// What the program needs to start under this CPU limit.
fn memory_floor(
    (facts, program): (&ImageFacts, &Program),
    cpu_limit: Option<Quantity>,
    profile: Option<&Profile>,
) -> Option<u64> {
    let Program::Wasm { packaging, modules, .. } = program else { return None };
    let profile = profile?;
    let compiler = profile.ambient.runtime().compiler(*packaging);
    Some(floor::memory(compiler, profile.own_memory(), cpu_limit, facts.modules_at(modules)).bytes())
}

/// CPU time for compiling in the container, as estimated and at the slowest; `None` where the shim compiles, and for an engine of which
/// nothing was measured.
fn compile_millis(facts: &ImageFacts, program: &Program, profile: Option<&Profile>) -> Option<(u64, u64)> {
    let Program::Wasm { packaging, modules, .. } = program else { return None };
    let runtime = profile?.ambient.runtime();
    let compiler = runtime.compiler(*packaging);
    if !runtime.compiles_with_wasmtime() || compiler == Compiler::Shim {
        return None;
    }
    let estimate = floor::compile_millis(compiler, facts.modules_at(modules));
    let slowest = floor::slowest_compile_millis(compiler, facts.modules_at(modules));
    let whole = |millis: i128| u64::try_from(millis).unwrap_or(u64::MAX);
    Some((whole(estimate), whole(slowest)))
}

#[cfg(test)]
mod tests {
    use super::{is_below, is_within, narrowest, runnable};
    use crate::image::{
        Defined, Digest, Feature, ImageFacts, ImageKind, ModuleFacts, Packaging, Program, Shape, WasmFormat,
    };
    use crate::runtime::{Family, Profile, Runtimes};

    /// Images of one module: in every form, and with everything that a runtime may lack.
    fn images() -> Vec<ImageFacts> {
        let (digest, plain) = (Digest::of(b"image"), ModuleFacts::blank("/app.wasm", WasmFormat::Module));
        let others = [Feature::WasiUnstable, Feature::Wasi03, Feature::WasmedgeSockets, Feature::Text];
        let features = Feature::PROPOSALS.into_iter().chain(others);
        let mut modules: Vec<ModuleFacts> =
            features.map(|feature| ModuleFacts { features: [feature].into(), ..plain.clone() }).collect();
        let two = Defined { memories: 2, ..Defined::default() };
        modules.extend([ModuleFacts { defined: two, ..plain.clone() }, plain]);
        let shapes = [Shape::WasmArtifact, Shape::RunwasiLayers, Shape::SpinArtifact, Shape::ScratchRootfs];
        let mut images = Vec::new();
        for shape in shapes {
            for module in &modules {
                let modules = vec![module.clone()];
                images.push(ImageFacts { shape, modules, ..ImageFacts::blank(&digest, &digest) });
            }
        }
        images
    }

    /// Profiles of every described runtime: as they are, with proposals, and without a pool.
    fn profiles() -> Vec<Profile> {
        let built_in = Runtimes::default().profiles[0].clone();
        let with = |ambient, proposals: &[Feature], allocates_on_demand| Profile {
            ambient,
            proposals: proposals.iter().copied().collect(),
            allocates_on_demand,
            ..built_in.clone()
        };
        let of = |ambient| {
            [
                with(ambient, &[], false),
                with(ambient, &[], true),
                with(ambient, &[Feature::Memory64], false),
                with(ambient, &Feature::PROPOSALS, true),
            ]
        };
        Family::DESCRIBED.into_iter().flat_map(of).collect()
    }

    #[test]
    fn why_the_runtime_cannot_start_a_program_is_said_exactly_where_it_is_not_among_those_that_can() {
        use ImageKind::{Component, HttpComponent, Module, SpinApp};
        let profiles = profiles();
        let mut said = 0;
        for facts in images() {
            let packaging = match facts.shape {
                Shape::ScratchRootfs => Packaging::RootFilesystem,
                _ => Packaging::Layers,
            };
            for kind in [Module, Component, HttpComponent, SpinApp] {
                let program = Program::Wasm { kind, packaging, modules: vec![0] };
                for profile in &profiles {
                    let can = runnable(&facts, &program, Some(profile)).contains(&profile.ambient);
                    let why = profile.cannot_start(&facts, &program);
                    assert_eq!(why.is_none(), can, "{why:?}: {program:?} of {facts:?} under {profile:?}");
                    said += usize::from(why.is_some());
                }
            }
        }
        assert!(said > 1000, "{said}");
    }

    #[test]
    fn a_container_without_a_cpu_limit_starts_under_that_of_its_pod() {
        for (own, of_pod, cap, expected) in [
            (Some(200), None, None, Some(200)),
            (Some(200), Some(100), None, Some(100)),
            (Some(200), Some(400), Some(50), Some(200)),
            (None, Some(100), None, Some(100)),
            (None, Some(100), Some(200), Some(100)),
            (None, Some(400), Some(200), None),
            (None, None, Some(200), None),
        ] {
            let found = narrowest(own, of_pod, |limit| is_within(limit, cap));
            assert_eq!(found, expected, "{own:?} {of_pod:?} {cap:?}");
        }
    }

    #[test]
    fn the_limit_that_ends_a_container_first_is_the_one_that_rules_see() {
        for (own, of_pod, floor, expected) in [
            (Some(32), None, Some(16), Some(32)),
            (Some(32), Some(64), Some(16), Some(32)),
            (Some(32), Some(8), Some(16), Some(8)),
            (None, Some(8), Some(16), Some(8)),
            (None, Some(64), Some(16), None),
            (None, Some(8), None, None),
            (None, None, Some(16), None),
        ] {
            let found = narrowest(own, of_pod, |limit| is_below(limit, floor));
            assert_eq!(found, expected, "{own:?} {of_pod:?} {floor:?}");
        }
    }
}
