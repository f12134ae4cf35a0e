//! The runtimes of a cluster. The configuration says which image kinds each one runs, where its nodes are, and which
//! size a workload gets on it. The runtime's family, from the runtime's own code, says what it starts from an image and
//! what it hands over ([`family`]).

pub mod answers;
pub mod calibrated;
pub mod choice;
mod crun;
mod emptied;
mod everything;
pub mod family;
#[cfg(test)]
mod golden;
pub mod handover;
pub mod hardening;
mod obstacle;
mod pool;
mod retired;
mod runwasi;
mod runwasi_wamr;
mod runwasi_wasmedge;
mod runwasi_wasmer;
mod runwasi_wasmtime;
pub mod spin;
mod youki;

pub use answers::{Compiler, NativeWay, Runtime};
pub use family::{Family, runnable_by, start_undescribed, warnings};
pub use handover::{Extra, Files, HandedOver, Handover, HttpServer, Variables};
pub use hardening::{Hardening, HardeningMode};
pub use pool::Pool;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, Toleration};
use serde::{Deserialize, Serialize};

use crate::image::{Feature, ImageFacts, ImageKind, Program};
use crate::quantity::{Quantity, WrittenNumber, WrittenQuantity};

/// What to do with a request or limit that a person wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizingMode {
    /// Fill in what is missing; keep what is written.
    #[default]
    Fill,
    /// Also bring what is written into the range from the floor to the profile's limits.
    Clamp,
}

/// The size that a Wasm container gets on a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sizing {
    /// Memory request as a Kubernetes quantity.
    pub memory_request: WrittenQuantity,
    /// Memory limit as a Kubernetes quantity.
    pub memory_limit: WrittenQuantity,
    /// CPU request as a Kubernetes quantity.
    pub cpu_request: WrittenQuantity,
    /// CPU limit as a Kubernetes quantity.
    pub cpu_limit: WrittenQuantity,
    /// What to do with values that a person wrote.
    pub mode: SizingMode,
    /// Memory that the runtime itself needs in the container's cgroup before it loads a module.
    /// Default: 24Mi for Spin, which is a guess, and 4Mi for every other runtime.
    pub base_memory: Option<WrittenQuantity>,
    /// Memory in bytes for each byte of code that the shim has compiled. Default: as it was measured ([`calibrated`]).
    pub bytes_per_code_byte: Option<WrittenNumber>,
    /// Memory that a container which compiles its program itself needs, whatever the program. Default: as it was measured, or
    /// `base_memory` where that is more.
    pub file_base_memory: Option<WrittenQuantity>,
    /// Memory in bytes that such a container needs for each byte of code. Default: as it was measured.
    pub file_bytes_per_code_byte: Option<WrittenNumber>,
}

impl Default for Sizing {
    fn default() -> Self {
        Self {
            memory_request: WrittenQuantity::memory(Quantity::mebibytes(10)),
            memory_limit: WrittenQuantity::memory(Quantity::mebibytes(32)),
            cpu_request: WrittenQuantity::cpu(Quantity::from_millis(50)),
            cpu_limit: WrittenQuantity::cpu(Quantity::from_millis(200)),
            mode: SizingMode::Fill,
            base_memory: None,
            bytes_per_code_byte: None,
            file_base_memory: None,
            file_bytes_per_code_byte: None,
        }
    }
}

/// Memory that a runtime takes beside that of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnMemory {
    /// Before it loads a module.
    pub base: Quantity,
    /// Before it loads a module, where the container compiles its program, if the profile says it.
    pub file_base: Option<Quantity>,
    /// For each byte of code that the shim has compiled, in thousandths of a byte, if the profile says it.
    pub per_byte: Option<u64>,
    /// For each byte of code where the container compiles its program, in thousandths of a byte, if the profile says it.
    pub file_per_byte: Option<u64>,
    /// For each element of a table, in bytes.
    pub table_element: u64,
}

/// Whether the platform says that NetworkPolicies hold the pods of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPolicies {
    /// It says nothing of the kind.
    #[default]
    Off,
    /// The network plug-in enforces them, every namespace with such pods denies by one what no other allows, in both directions,
    /// and the others allow pods what their grants say.
    Enforced,
}

/// One runtime: a RuntimeClass, and the properties of the shim behind it.
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// Name of the profile, for messages.
    pub name: String,
    /// RuntimeClass that is written on pods.
    pub runtime_class: String,
    /// Other RuntimeClass names that lead to the same shim.
    #[serde(default)]
    pub aliases: BTreeSet<String>,
    /// Handlers of the node's container runtime that lead to this shim, in addition to the names above: a RuntimeClass
    /// of any name with one of them is this runtime.
    #[serde(default)]
    pub handlers: BTreeSet<String>,
    /// Labels that a RuntimeClass must have to be written on pods; empty for any. For clusters with several classes of
    /// one handler.
    #[serde(default)]
    pub class_labels: BTreeMap<String, String>,
    /// Image kinds that the shim can start.
    pub runs: BTreeSet<ImageKind>,
    /// The runtime's family, which says what it starts and what it hands over.
    pub ambient: Family,
    /// Whether this build of the shim hides `/proc`, `/sys` and `/dev` from the programs that it runs, so that a
    /// program which opens files cannot reach the process that runs it. No published shim does.
    #[serde(default)]
    pub hides_host_process: bool,
    /// Whether this build of the Spin shim holds its clients of Redis, MySQL, MQTT, PostgreSQL and `fermyon:spin/http` to
    /// `allowed_outbound_hosts`: they connect to no host, port or Unix socket, and follow no redirect to one, that the list
    /// does not name. That of Spin 3.6.3 does not ([`spin`]). Other families have no such list.
    #[serde(default)]
    pub checks_hosts: bool,
    /// Whether this build of the Spin shim confines the SQL of a component to its database: no `ATTACH DATABASE`, no
    /// `VACUUM INTO` and no `fts3_tokenizer`. No published shim does. Other families run no SQL.
    #[serde(default)]
    pub confines_sqlite: bool,
    /// Whether runwasi's wasmtime shim takes memories and tables from the system on demand, and not out of a pool whose limits keep some
    /// programs from starting: releases before 0.5.0, and nodes on which four terabytes of addresses cannot be reserved, such as those whose
    /// kernel has addresses of 39 bits.
    #[serde(default)]
    pub allocates_on_demand: bool,
    /// Proposals of WebAssembly that the engine of the nodes runs beside those that are on by default where the runtime was read: a build
    /// with a later engine, or one that turns them on.
    #[serde(default)]
    pub proposals: BTreeSet<Feature>,
    /// Whether this build of runwasi's wasmtime shim, or of youki, is linked with musl, which loads no library of the container when
    /// it resolves the name of a host or looks up a user, as glibc does. The releases of runwasi are.
    #[serde(default)]
    pub built_with_musl: bool,
    /// Variables that the Spin shim's own process has on the nodes of the cluster beside those that every node may have; a `*`
    /// at the end stands for any rest. An application may ask for them by their names, so that each counts as a secret.
    #[serde(default)]
    pub shim_variables: BTreeSet<String>,
    /// Whether a snapshotter of the nodes may mount other files than those of an image's layers: one that looks for another form of
    /// the image in its registry (nydus-snapshotter with `enable_referrer_detect` or `enable_index_detect`, soci-snapshotter
    /// with `pull_modes.soci_v1`), or one that reads the tar of a layer in another way (containerd's differ for EROFS). All are off by
    /// default.
    #[serde(default)]
    pub mounts_other_files: bool,
    /// Whether NetworkPolicies hold the pods to the addresses and ports in their grants, so that such grants count where the runtime
    /// itself hands over any host or any port. The gate does not see whether they do.
    #[serde(default)]
    pub network_policies: NetworkPolicies,
    /// Requirements that are ANDed into every term of the required node affinity.
    #[serde(default)]
    pub node_affinity: Vec<NodeSelectorRequirement>,
    /// Tolerations that are added; none by default.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// The size that workloads get.
    #[serde(default)]
    pub sizing: Sizing,
    /// What is taken from pods where no grant covers it.
    #[serde(default)]
    pub hardening: Hardening,
}

impl Profile {
    /// Whether a RuntimeClass with this handler leads to the profile's shim.
    pub fn has_handler(&self, handler: &str) -> bool {
        self.runtime_class == handler || self.aliases.contains(handler) || self.handlers.contains(handler)
    }

    /// Whether it says something of the engine of its nodes, and they start a program with that.
    pub fn says_it_starts(&self, facts: &ImageFacts, program: &Program) -> bool {
        let says_something = self.allocates_on_demand || !self.proposals.is_empty();
        says_something && self.ambient.starts_with(self.engine(), facts, program)
    }

    /// Why its nodes cannot start a Wasm program, and what mends it, for people. `None` where they can, as [`runnable_by`] and
    /// [`Self::says_it_starts`] say it, and where it is not known what its family starts.
    pub fn cannot_start(&self, facts: &ImageFacts, program: &Program) -> Option<String> {
        self.ambient.cannot_start(self.engine(), facts, program)
    }

    /// What to tell people about a program that its nodes do not start.
    pub fn warnings(&self, facts: &ImageFacts, program: &Program) -> Vec<String> {
        self.ambient.warnings(self.engine(), facts, program)
    }

    fn engine(&self) -> family::Engine<'_> {
        family::Engine { proposals: Some(&self.proposals), allocates_on_demand: self.allocates_on_demand }
    }

    /// Memory that the runtime itself needs in the container's cgroup.
    pub fn own_memory(&self) -> OwnMemory {
        let (sizing, runtime) = (&self.sizing, self.ambient.runtime());
        let at_least_zero = |written: &WrittenQuantity| written.quantity().max(Quantity::ZERO);
        let base = sizing.base_memory.as_ref().map_or_else(|| runtime.base_memory(), at_least_zero);
        OwnMemory {
            base,
            file_base: sizing.file_base_memory.as_ref().map(at_least_zero),
            per_byte: sizing.bytes_per_code_byte.as_ref().map(WrittenNumber::thousandths),
            file_per_byte: sizing.file_bytes_per_code_byte.as_ref().map(WrittenNumber::thousandths),
            table_element: runtime.table_element_bytes(),
        }
    }
}

/// All runtimes, and the one on which each image kind is placed.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtimes {
    /// The profiles, in configuration order.
    pub profiles: Vec<Profile>,
    /// Image kind → name of the profile on which it is placed.
    pub placement: BTreeMap<ImageKind, String>,
}

impl Runtimes {
    /// The profile of `runtime_class`, by name or alias; `None` for a class that the configuration does not know as a
    /// Wasm runtime.
    pub fn by_class(&self, runtime_class: &str) -> Option<&Profile> {
        self.profiles.iter().find(|p| p.runtime_class == runtime_class || p.aliases.contains(runtime_class))
    }

    /// The profile whose shim is behind a handler of the node's container runtime.
    pub fn by_handler(&self, handler: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.has_handler(handler))
    }

    /// The profile on which images of `kind` are placed.
    pub fn for_kind(&self, kind: ImageKind) -> Option<&Profile> {
        let name = self.placement.get(&kind)?;
        self.profiles.iter().find(|p| &p.name == name)
    }
}

impl Default for Runtimes {
    fn default() -> Self {
        let placement = [
            (ImageKind::Module, "wasmtime"),
            (ImageKind::Component, "wasmtime"),
            (ImageKind::HttpComponent, "wasmtime"),
            (ImageKind::SpinApp, "spin"),
        ];
        Self {
            profiles: vec![wasmtime(), spin(), wasmedge(), other(), retired()],
            placement: placement.into_iter().map(|(kind, name)| (kind, name.to_string())).collect(),
        }
    }
}

/// runwasi's wasmtime shim. runwasi's documentation and k3s call it `wasmtime`, runwasi's quick start `wasm`, and
/// runtime-class-manager `wasmtime-v1` (`k3s-io/k3s:manifests/runtimes.yaml`, `runwasi:test/k8s/deploy.yaml`).
fn wasmtime() -> Profile {
    let runs = [ImageKind::Module, ImageKind::Component, ImageKind::HttpComponent];
    built_in("wasmtime", "wasmtime", &["wasm", "wasmtime-v1"], &runs, Family::RunwasiWasmtime)
}

/// The Spin shim. `wasmtime-spin-v2` is the nearest to a standard name
/// (`containerd-shim-spin:deployments/k8s/all-in-one-demo.yaml`); runtime-class-manager calls the handler `spin-v2`
/// (`runtime-class-manager:config/samples/sample_shim_spin.yaml`).
fn spin() -> Profile {
    let aliases = ["wasmtime-spin", "spin"];
    let profile = built_in("spin", "wasmtime-spin-v2", &aliases, &[ImageKind::SpinApp], Family::Spin);
    Profile { handlers: ["spin-v2".to_string()].into(), ..profile }
}

/// runwasi's WasmEdge shim, whose class has the same name everywhere (`k3s-io/k3s:manifests/runtimes.yaml`,
/// `KWasm/kwasm-node-installer:example/runtimeclass.yaml`). No kind is placed here: that a class exists does not mean
/// that nodes have the shim.
fn wasmedge() -> Profile {
    built_in("wasmedge", "wasmedge", &[], &[ImageKind::Module], Family::RunwasiWasmedge)
}

/// No kind is placed here. The profile only declares these classes to be Wasm runtimes, so that an unreadable image is
/// refused under them, and assumes that they hand over everything: the network of `wasmer` and `wamr` is not
/// documented, and `crun` may have any of its handlers. A platform that knows better writes a profile of its own, such
/// as `ambient: crun-wasmtime`.
fn other() -> Profile {
    let aliases = ["wamr", "crun-wasm", "lunatic", "wasmtime-lunatic"];
    built_in("other", "wasmer", &aliases, &[ImageKind::Module], Family::Everything)
}

/// The shims that start what the command of a container does not name, so that every pod under them is refused.
fn retired() -> Profile {
    built_in("retired", "slight", &["wws", "wasmtime-slight", "wasmtime-wws"], &[], Family::Retired)
}

fn built_in(name: &str, class: &str, aliases: &[&str], runs: &[ImageKind], ambient: Family) -> Profile {
    Profile {
        name: name.into(),
        runtime_class: class.into(),
        aliases: aliases.iter().map(|alias| (*alias).to_string()).collect(),
        handlers: BTreeSet::new(),
        class_labels: BTreeMap::new(),
        runs: runs.iter().copied().collect(),
        ambient,
        hides_host_process: false,
        checks_hosts: false,
        confines_sqlite: false,
        allocates_on_demand: false,
        proposals: BTreeSet::new(),
        built_with_musl: false,
        shim_variables: BTreeSet::new(),
        mounts_other_files: false,
        network_policies: NetworkPolicies::Off,
        // Every Wasm shim runs on Linux. Labels of a provisioner belong in the configuration, where a person knows
        // them.
        node_affinity: vec![NodeSelectorRequirement {
            key: "kubernetes.io/os".into(),
            operator: "In".into(),
            values: Some(vec!["linux".into()]),
        }],
        tolerations: Vec::new(),
        sizing: Sizing::default(),
        hardening: Hardening::default(),
    }
}
