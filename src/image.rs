//! What an image is: its digest, its kind and the evidence for it, what its code can call, and what it needs to start.
//! Facts are keyed by digest and never change. Nothing here touches a registry, a disk or a thread: `lookup` brings the
//! bytes, and decides which.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The kind of program in an image, which decides where a pod is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// An ordinary container image.
    Linux,
    /// A core module (WASI preview 1).
    Module,
    /// A component that starts as a command (`wasi:cli/run`).
    Component,
    /// A component that answers HTTP (`wasi:http/incoming-handler`).
    HttpComponent,
    /// A Spin application, which starts from its locked app.
    SpinApp,
    /// Wasm or an artifact that no known runtime can start as a pod, or something that was not recognised.
    Unknown,
}

impl ImageKind {
    /// Whether images of this kind need a Wasm runtime.
    pub const fn is_wasm(self) -> bool {
        matches!(self, Self::Module | Self::Component | Self::HttpComponent | Self::SpinApp)
    }

    /// The name of the kind in configuration, records and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Module => "module",
            Self::Component => "component",
            Self::HttpComponent => "http-component",
            Self::SpinApp => "spin-app",
            Self::Unknown => "unknown",
        }
    }
}

/// How the module is stored, which decides who compiles it. The memory floor differs by a factor of seven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packaging {
    /// The module is an OCI layer: the shim compiles it once per node, outside the pod.
    Layers,
    /// The module is a file in the root file system: every start compiles it inside the pod.
    RootFilesystem,
}

/// A false statement of an image's config about the image's bytes. Nothing checks such statements when an image is
/// pushed or started, so nothing is decided by them. A false one shows that unusual tools made the image, or that its
/// layer was exchanged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// The config's field, such as `component.imports`.
    pub field: String,
    /// What only the config states; empty when the bytes have more than it states.
    pub claimed: String,
    /// What only the bytes have; empty when the config states more than they have.
    pub found: String,
}

/// The outer format of a Wasm binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WasmFormat {
    /// `\0asm` version 1, layer 0.
    Module,
    /// `\0asm` layer 1.
    Component,
}

/// A function or instance that a binary imports or exports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Import {
    /// Module name of a core import (`wasi_snapshot_preview1`) or interface of a component import
    /// (`wasi:sockets/tcp@0.2.6`).
    pub interface: String,
    /// Function names. For a component's instance import, every function that its instance type names: an upper bound
    /// of what can be called. Resource types and plain types are omitted.
    pub functions: BTreeSet<String>,
}

/// Facts from the bytes of one module or component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleFacts {
    /// Where the bytes came from: a layer digest, or a path in the root file system.
    pub source: String,
    /// Spin component id, if the locked app assigns these bytes to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Module or component.
    pub format: WasmFormat,
    /// Imports, sorted by interface. Nested components that are instantiated with host imports show in the imports of
    /// the outer component.
    pub imports: Vec<Import>,
    /// Names of the exports, such as `_start` or `wasi:http/incoming-handler@0.2.0`.
    pub exports: BTreeSet<String>,
    /// Bytes of all code sections, nested core modules included.
    pub code_bytes: u64,
    /// Bytes of all data sections.
    pub data_bytes: u64,
    /// Bytes of all sections `name`, most of which are names of functions.
    #[serde(default)]
    pub name_bytes: u64,
    /// Initial linear memory of all memories that the binary defines or imports, in bytes.
    pub memory_bytes: u64,
    /// The most that these memories may grow to, in bytes; `None` when one of them declares no maximum. A 32-bit memory
    /// ends at 4 GiB in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    /// Elements with which all tables begin that the binary defines or imports.
    #[serde(default)]
    pub table_elements: u64,
    /// What its core modules define for an engine to allocate.
    #[serde(default)]
    pub defined: Defined,
    /// What it needs from its runtime beyond WASI 0.1 and 0.2 and version 2.0 of WebAssembly.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<Feature>,
    /// Interpreters that it contains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interpreters: Vec<Interpreter>,
    /// Size of the binary in bytes.
    pub size_bytes: u64,
}

/// Native machine code in a layer that is declared as Wasm, or as the program that starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeCode {
    /// A layer digest or a path.
    pub source: String,
    /// `ELF` or `#!`.
    pub magic: String,
}

/// The class of a file that could be an entry point, judged by its first bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "class")]
pub enum FileClass {
    /// A Wasm binary (or `.wat` text); its facts are in [`ImageFacts::modules`] under the same path.
    Wasm,
    /// An ELF binary or `#!` script.
    Native {
        /// `ELF` or `#!`.
        magic: String,
        /// Whether every user may execute it, by which the shims tell programs from other files
        /// (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`).
        #[serde(default)]
        runs: bool,
        /// Whether it is in a folder that the `PATH` of every shim has, and every user may read and execute it and enter
        /// the folders above it, so that a search for its name ends at it.
        #[serde(default)]
        found: bool,
    },
    /// Meant to be Wasm, but invalid or too large to read.
    Unreadable {
        /// Why.
        message: String,
    },
    /// A symbolic link, which is followed inside the image.
    Link {
        /// As written: absolute, or relative to the link's folder.
        target: String,
    },
    /// A native program on every platform of an index, or a link to one, by which every user may execute it; but not the same
    /// file, or not at the same place.
    PerPlatform {
        /// What it is on one of them, a [`FileClass::Native`].
        program: Box<FileClass>,
        /// Every path on the way to it, on any platform. A volume at or above one of them may hide it.
        places: Vec<String>,
    },
    /// A native program, or a link, that is not the same on every platform of an index.
    Varies {
        /// On every platform it is a native program that every user may execute, or not there.
        native: bool,
        /// Where it leads on those on which it is a link; on the others it is none.
        targets: Vec<String>,
    },
    /// Any other file. One that some user may execute, or that is kept for its folder or its name.
    Other,
    /// Any other file that no user may execute. It is kept where something of its name may start: a shim of runwasi reads what
    /// its search finds first, and asks for no right to execute it (`containerd-shim-wasm:src/sandbox/context.rs`, `as_bytes`).
    Data,
}

impl FileClass {
    /// Whether it is a native program wherever it is there, be it that not every user may execute it.
    pub const fn is_native(&self) -> bool {
        matches!(self, Self::Native { .. } | Self::Varies { native: true, .. })
    }
}

/// What a Spin locked app hands to one of its components (`spin:crates/locked-app/src/locked.rs`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpinComponent {
    /// Component id.
    pub id: String,
    /// Digest of its module's layer; the path of its module if the application is in a root file system.
    pub digest: Option<String>,
    /// `allowed_outbound_hosts` and the legacy `allowed_http_hosts`.
    pub allowed_outbound_hosts: Vec<OutboundHost>,
    /// Key-value store labels.
    pub key_value_stores: Vec<String>,
    /// `SQLite` database labels.
    pub sqlite_databases: Vec<String>,
    /// Model names.
    pub ai_models: Vec<String>,
    /// Guest paths of its files (read-only).
    pub files: Vec<String>,
    /// The source of each of them, in the same order, if the application is in a root file system: the shim opens the
    /// folder as the container sees it, mounts included. Empty for a locked app, whose files are layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The paths of its modules as the application writes them, where they lead over links: whatever hides one of the
    /// links hides the module. Empty for a locked app.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<String>,
    /// Types of the triggers that start it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub triggers: BTreeSet<String>,
    /// Names of the guest's environment variables.
    pub env: Vec<String>,
    /// Names of the application variables that it reads.
    pub variables: Vec<String>,
    /// Digests (or paths) of dependency and middleware modules that run with this component's capabilities; their
    /// [`ModuleFacts`] carry this component's id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited: Vec<String>,
    /// Digests (or paths) of dependency modules that run without any capability of this component. Like all others, they
    /// must be in the image. Their [`ModuleFacts`] carry this component's id and the imports that reach the host all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolated: Vec<String>,
    /// Names of its imports that its dependencies satisfy, with or without interface and version. They never reach the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub satisfied: Vec<String>,
}

impl SpinComponent {
    /// Number of hosts and templates in them, variables, stores, databases, models and imports of others that it is handed.
    pub fn handed(&self) -> usize {
        let Self {
            allowed_outbound_hosts,
            key_value_stores,
            sqlite_databases,
            ai_models,
            env,
            variables,
            satisfied,
            ..
        } = self;
        let stores = key_value_stores.len() + sqlite_databases.len() + ai_models.len();
        let hosts: usize = allowed_outbound_hosts.iter().map(|host| 1 + host.templates()).sum();
        hosts + stores + env.len() + variables.len() + satisfied.len()
    }

    /// Digests (or paths) of all its modules.
    pub fn modules(&self) -> impl Iterator<Item = &String> {
        self.digest.iter().chain(&self.inherited).chain(&self.isolated)
    }
}

/// A connection that the Spin shim itself makes for the messages of a trigger, whatever the components may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpinListener {
    /// Type of the trigger.
    pub trigger: String,
    /// The component that it starts; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Where the shim connects to, as written.
    pub address: String,
    /// Names of the application variables in the address and in what is sent there: channel, topic, user, password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// Whether Spin reads the values of the address for templates again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub twice: bool,
}

/// The locked app of a Spin image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpinApp {
    /// Application name.
    pub name: String,
    /// Trigger types, such as `http`.
    pub triggers: BTreeSet<String>,
    /// Its components.
    pub components: Vec<SpinComponent>,
    /// What the shim connects to for the messages of its triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<SpinListener>,
    /// `/runtime-config.toml` of the image; `None` if it has none, or one whose text was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_config: Option<RuntimeConfig>,
    /// Its files `.env` that were read, in whatever folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dotenv: Vec<DotEnv>,
}

/// Everything that is known about one image. Immutable, because it is keyed by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageFacts {
    /// Digest to which the reference resolved and to which a pod is pinned: the index's if the tag names an index.
    pub digest: Digest,
    /// Digest of the manifest that was read; differs from `digest` under an index.
    pub manifest_digest: Digest,
    /// Kind of the program that its own entry point starts; a pod's `command` can change that, see [`Program`].
    pub kind: ImageKind,
    /// How it is packed.
    pub shape: Shape,
    /// `os/architecture` of the config, lower case; empty when it names none.
    pub platform: String,
    /// The observations from which kind and shape follow.
    pub evidence: Vec<Evidence>,
    /// Entrypoint of the image config.
    pub entrypoint: Vec<String>,
    /// Cmd of the image config.
    pub cmd: Vec<String>,
    /// `WorkingDir` of the image config; empty for `/`.
    pub working_dir: String,
    /// Names of the variables in the image config's Env.
    pub env: Vec<String>,
    /// The value of its `PATH`, the only variable whose value is kept; `None` if it sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_path: Option<String>,
    /// `Volumes` of the config: paths at which a node mounts a copy of what the image has there, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Every Wasm binary that was found, in layers or in files of the root file system.
    pub modules: Vec<ModuleFacts>,
    /// Files of the root file system that were inspected, and all its links, by absolute path; empty when the layers were
    /// not scanned.
    #[serde(with = "files")]
    pub files: Vec<(String, FileClass)>,
    /// The same by the last part of their paths; made when it is first asked for.
    #[serde(skip)]
    pub by_name: ByName,
    /// Folders that are searched for programs because a link in the place of such a folder leads to them. Those that the
    /// image does not have may be a volume's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub program_folders: Vec<String>,
    /// Whether the layers of the root file system were scanned.
    pub scanned: bool,
    /// Native code in layers that are declared as Wasm.
    pub native: Vec<NativeCode>,
    /// Whether a media type of its manifest names Wasm or Spin: of its config, a layer or the artifact. The evidence may be cut before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wasm_media_type: bool,
    /// Whether it has layers that the Spin shim unpacks below a temporary folder (`containerd-shim-spin:containerd-shim-spin/src/utils.rs`,
    /// `handle_archive_layer`). What is in them is not read: it becomes files of components, by its own digests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archives: bool,
    /// The locked app of a Spin image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spin: Option<SpinApp>,
    /// The platform of an image behind an index that holds nothing for the nodes: nothing for Linux, or nothing for the architectures
    /// that they have by the configuration; `{}` for an entry with an empty platform. No node's CRI runtime pulls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmatched_platform: Option<String>,
    /// What will make the image fail on some node, for people to read.
    pub warnings: Vec<String>,
    /// The false statements of the config about the bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
}

/// The warning for an image without entry point and command; not given to a container whose pod spec sets one.
pub const NEEDS_COMMAND: &str = "the image names no command, so the pod must: `command: [\"/\"]` will do";

/// What a container really starts, after `command` and `args` replaced the image's own entry point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "program")]
pub enum Program {
    /// A Wasm program of this kind; `modules` are indices into [`ImageFacts::modules`].
    Wasm {
        /// The kind that a runtime must be able to run.
        kind: ImageKind,
        /// How it is packed, which decides who compiles it.
        packaging: Packaging,
        /// Which of the image's binaries run.
        modules: Vec<usize>,
    },
    /// A native program of an ordinary Linux image.
    Linux,
    /// Native code that starts from an image that is packed as Wasm.
    Native {
        /// Path or layer.
        source: String,
        /// `ELF` or `#!`.
        magic: String,
    },
    /// The image is or claims to be Wasm, but its program cannot be determined.
    Unknown {
        /// Why, for people to read.
        reason: Reason,
    },
}

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// Manifest and config; layers only if these say that the image is Wasm.
    Config,
    /// Also the files of the root file system, because the pod will run under a Wasm runtime or its `command` names a
    /// `.wasm` file.
    Layers,
}

pub mod address;
pub mod annotation;
pub mod archive;
pub mod by_name;
mod checkpoint;
pub mod config;
mod defined;
pub mod descriptor;
pub mod digest;
pub mod entry;
pub mod error;
mod evidence;
mod facts;
mod feature;
mod files;
pub mod hints;
pub mod host;
pub mod interpreter;
mod json;
pub mod kind;
pub mod layer;
pub mod lazy;
pub mod leads;
mod lost;
pub mod magic;
pub mod malformed;
pub mod manifest;
pub mod module;
mod mount_path;
pub mod mounts;
pub mod names;
pub mod outbound;
pub mod path;
pub mod platform;
pub mod prefix;
pub mod program;
mod reason;
pub mod reference;
pub mod rootfs;
mod shape;
mod shim_files;
pub(crate) mod size;
pub mod spin;
pub mod steps;
mod toml_text;

pub use by_name::ByName;
pub use defined::Defined;
pub use digest::Digest;
pub use error::Error;
pub use evidence::Evidence;
pub use feature::Feature;
pub use interpreter::{Interpreter, InterpreterKind};
pub use outbound::OutboundHost;
pub use program::program;
pub use reason::{Cause, Reason};
pub use shape::Shape;
pub use shim_files::{Backend, DotEnv, Provider, RuntimeConfig};
pub use size::MAX_KEPT as MAX_NAME_BYTES;
