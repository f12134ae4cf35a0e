//! The types of the policies' input document. It is versioned; its JSON Schema is
//! `policies/schema/input.v1alpha1.json`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::spec::SpecFacts;
use crate::capability::Entry;
use crate::grant::WasiGrant;
use crate::image::{Claim, Evidence, ImageKind, NativeCode, Packaging, Shape};
use crate::inspection::{Fault, ProgramClass};
use crate::review::GroupVersionKind;
use crate::runtime::Family;
use crate::workload::Role;

/// Version of the document.
pub const API_VERSION: &str = "wasmgate.dev/v1alpha1";

/// The input document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyInput<'a> {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// The request.
    pub request: &'a RequestFacts<'a>,
    /// The whole object; left out for bundles that declare that they do not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<&'a RawValue>,
    /// The pod spec and what carries it.
    pub workload: WorkloadFacts<'a>,
    /// The containers.
    pub containers: Vec<ContainerFacts<'a>>,
    /// Grants that match any of the containers.
    pub grants: Vec<Arc<WasiGrant>>,
    /// The runtime of the pod.
    pub runtime: RuntimeFacts<'a>,
    /// Options for the rules.
    pub options: &'a PolicyOptions,
}

/// The request, for the rules.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestFacts<'a> {
    /// Id of the review.
    pub uid: &'a str,
    /// The verb, in upper case.
    pub operation: &'a str,
    /// Kind of the object in the review.
    pub kind: &'a GroupVersionKind,
    /// Subresource; empty for the object itself.
    pub sub_resource: &'a str,
    /// Namespace of the request.
    pub namespace: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// The user of the request.
    pub user: UserFacts<'a>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// The user of a request.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UserFacts<'a> {
    /// User name.
    pub username: &'a str,
    /// Groups.
    pub groups: Groups<'a>,
}

/// The groups of a user, as the JSON of the request. None are an empty list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Groups<'a>(pub Option<&'a RawValue>);

impl Serialize for Groups<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let none: &[&str] = &[];
        match self.0 {
            Some(groups) => groups.serialize(to),
            None => none.serialize(to),
        }
    }
}

/// Options for the rules from the platform's configuration; each bundle documents the names that it reads.
pub type PolicyOptions = BTreeMap<String, Value>;

/// Image kind → the RuntimeClass that pods of that kind are placed on.
pub type ClassFor = BTreeMap<&'static str, String>;

/// The pod spec and what carries it.
#[expect(clippy::struct_excessive_bools, reason = "the names and types are those of the pod spec")]
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadFacts<'a> {
    /// Kind of the object with the pod spec.
    pub kind: &'static str,
    /// Name of the object.
    pub name: &'a str,
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Labels of the namespace; empty if they are not known.
    pub namespace_labels: Cow<'a, BTreeMap<String, String>>,
    /// Labels of the pod.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations of the pod.
    pub annotations: &'a BTreeMap<String, String>,
    /// ServiceAccount; `default` when the spec names none.
    pub service_account: &'a str,
    /// RuntimeClass of the spec.
    pub runtime_class_name: Option<&'a str>,
    /// Whether the pod shares the node's network.
    #[serde(rename = "hostNetwork")]
    pub host_network: bool,
    /// Whether the pod shares the node's processes.
    #[serde(rename = "hostPID")]
    pub host_pid: bool,
    /// Whether the pod shares the node's IPC.
    #[serde(rename = "hostIPC")]
    pub host_ipc: bool,
    /// Whether this is a template from which a controller will create pods.
    pub template: bool,
    /// Memory that Wasm containers share; left out where the pod has no limit of memory, or one of them needs as much as all that run
    /// together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_memory: Option<SharedMemory>,
    /// Limits of the pod, which none of its containers may be over; left out where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<PodLimits>,
}

/// Limits of a pod (`spec.resources.limits`). One of zero is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodLimits {
    /// Memory in bytes; left out where it has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// CPU in millicores; left out where it has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
}

/// Memory that several Wasm containers share, which run together, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SharedMemory {
    /// Memory limit of the pod.
    pub limit_bytes: u64,
    /// Memory that their programs need to start.
    pub floor_bytes: u64,
}

/// Programs that compile at the same time under the CPU limit of their pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SharedStart {
    /// CPU limit of the pod, in millicores.
    pub limit_millis: u64,
    /// CPU time for compiling all of them, in milliseconds.
    pub compile_millis: u64,
    /// CPU time for compiling all of them at the slowest that was measured, in milliseconds.
    pub slowest_compile_millis: u64,
}

/// The runtime of the pod.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an answer of the runtime, which rules read by its name"
)]
pub struct RuntimeFacts<'a> {
    /// Profile of the RuntimeClass; `null` for a class that no profile describes.
    pub profile: Option<&'a str>,
    /// RuntimeClass of the spec.
    pub runtime_class: Option<&'a str>,
    /// Whether the class is a Wasm runtime according to a profile.
    pub wasm: bool,
    /// Why a Wasm runtime may start the pod although no profile says so ([`super::suspicion`]); `null` if there is no reason.
    pub suspicion: Option<String>,
    /// Whether changing the sizes of a running container changes nothing there; left out when it does, or when a resize restarts
    /// each container that it changes, or changes the sizes of the pod alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignores_resize: bool,
    /// Whether a container that was killed for memory is not shown as `OOMKilled`; left out when it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hides_out_of_memory: bool,
    /// Image kinds that the runtime can start.
    pub runs: BTreeSet<ImageKind>,
    /// The runtime, which determines what is handed over.
    pub ambient: Option<Family>,
    /// Whether the runtime is known to run no command in a running container.
    pub no_exec: bool,
    /// Whether a command in a running container may start another Wasm program of its image; left out when it may not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub may_exec: bool,
    /// Whether the profile says that NetworkPolicies hold its pods; left out where it does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub network_policies: bool,
    /// Variables of a container that make the runtime load native plug-ins.
    pub plugin_variables: Vec<&'static str>,
    /// Image kind → the class that pods of that kind are placed on.
    pub class_for: &'a ClassFor,
}

/// Everything that is known about one container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerFacts<'a> {
    /// Name of the container.
    pub name: &'a str,
    /// The list of the pod spec that contains it.
    pub role: Role,
    /// Image as written.
    pub image: &'a str,
    /// Digest that was judged; `null` if the image was not read.
    pub digest: Option<&'a str>,
    /// The entry of `images.unpinned` because of which the image keeps its tag; left out if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpinned_by: Option<String>,
    /// Whether it is an ephemeral container that an update leaves as it is; left out when it is not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// Summary of the finding.
    pub class: ProgramClass,
    /// Kind of the program that it starts.
    pub kind: ImageKind,
    /// How the image is packed.
    pub shape: Option<Shape>,
    /// Who compiles the program.
    pub packaging: Option<Packaging>,
    /// Why the program is unknown or the image was not read.
    pub reason: Option<String>,
    /// What is wrong with the image then, as far as it decides what mends that; left out where no more is known than the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Native code where Wasm was declared.
    pub native: Vec<NativeCode>,
    /// Evidence for the kind of the image.
    pub evidence: &'a [Evidence],
    /// What will make it fail on some node.
    pub warnings: Vec<String>,
    /// The platform of an image behind an index that holds nothing for the nodes: nothing for Linux, or nothing for the architectures
    /// that they have by the configuration; left out for any other image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched_platform: Option<&'a str>,
    /// Whether neither the image nor the pod names a command; left out when one does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub names_no_command: bool,
    /// False statements of the image's config about its bytes.
    pub claims: &'a [Claim],
    /// Interpreters in the program; left out if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interpreters: Vec<InterpreterFacts<'a>>,
    /// The runtimes that can start the program, judged by its imports, its packaging, what it defines and the
    /// proposals of WebAssembly that it uses.
    pub runnable_by: BTreeSet<Family>,
    /// Why the runtime of the pod cannot start the program, and what mends it; left out where it can, and where the runtime or the
    /// program is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cannot_start: Option<String>,
    /// What the program can call.
    pub requires: Vec<Entry>,
    /// What the runtime and the pod spec hand over.
    pub ambient: Vec<Entry>,
    /// What the program can call and is handed over.
    pub effective: Vec<Effective>,
    /// What the program can call and is not handed over.
    pub missing: Vec<Entry>,
    /// Memory and CPU.
    pub resources: Resources,
    /// Further facts from the pod spec.
    #[serde(flatten)]
    pub spec: SpecFacts<'a>,
}

/// An interpreter in a program: it can call what its library can, whatever the script does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InterpreterFacts<'a> {
    /// The name of the interpreter, such as `CPython`.
    pub engine: &'static str,
    /// The language that it runs.
    pub language: &'static str,
    /// The binary that carries it: a layer digest, or a path.
    pub source: &'a str,
    /// Evidence for the interpreter.
    pub evidence: &'a [Evidence],
}

/// An effective capability and, if no grant covers it, the grant that would.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// The capability.
    #[serde(flatten)]
    pub entry: Entry,
    /// One item of a grant's `capabilities` that would cover it, in YAML flow style.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_grant: Option<String>,
    /// Grants that would cover it if they had not expired.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expired_grants: Vec<ExpiredGrant>,
    /// The grants of `coveredBy` whose addresses and ports cover it only because a `NetworkPolicy` is said to hold the pod to them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_by_network_policy: Vec<String>,
    /// Why no `NetworkPolicy` holds the pod to the grants for it, where policies are said to; a sentence that names one of the grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_held: Option<String>,
}

/// A grant that has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpiredGrant {
    /// Kind and name, as in `coveredBy`.
    pub grant: String,
    /// When it expired.
    pub expires_at: Option<Timestamp>,
}

/// Memory of a container in bytes, and CPU in millicores; `null` where nothing is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Requested memory.
    pub request_bytes: Option<u64>,
    /// Memory limit.
    pub limit_bytes: Option<u64>,
    /// Memory that the program needs to start.
    pub floor_bytes: Option<u64>,
    /// Highest memory limit, if the profile clamps.
    pub cap_bytes: Option<u64>,
    /// CPU limit under which it starts: its own, or the pod's.
    pub limit_millis: Option<u64>,
    /// CPU time for compiling the program in the container at every start, in milliseconds, where it was measured for the
    /// runtime's engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_millis: Option<u64>,
    /// The same at the slowest that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest_compile_millis: Option<u64>,
    /// What the CPU limit of the pod has to compile at once, if programs are compiled with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_start: Option<SharedStart>,
    /// Highest CPU limit, if the profile clamps.
    pub cap_millis: Option<u64>,
    /// Memory limit of the pod, if it is the only one of the container and the profile clamps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_limit_bytes: Option<u64>,
    /// CPU limit of the pod, if it is the only one of the container and the profile clamps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_limit_millis: Option<u64>,
    /// The resources of which the sizes of the pod say that the container has no limit, if the profile clamps: a limit of zero means none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub unlimited: &'static [&'static str],
}
