//! The questions that each family of runtimes answers for an image and a pod.

use std::fmt::Debug;

use super::calibrated;
use super::choice::Choice;
use super::handover::Handover;
use super::pool::Pool;
use super::runwasi;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Shape};
use crate::quantity::Quantity;

/// Who compiles a program. The memory floor differs by a factor of seven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compiler {
    /// The shim, once per node and outside the pod.
    Shim,
    /// The container's own process, at every start. Interpreting engines count here too; what they need was never
    /// measured.
    Container,
    /// The container's own process in crun with wasmtime, which has another build of the engine than the runtimes that were measured with it.
    Crun,
}

/// Bytes of an element of a table where it is a pointer: in wasmtime (`wasmtime:src/runtime/vm/table.rs`, `FuncTableElem`, read at
/// 48.0.8), wasmer (`wasmer:lib/vm/src/table.rs`, `RawTableElement`) and WAMR (`wasm-micro-runtime:core/iwasm/interpreter/wasm.h`,
/// `table_elem_type_t`). wasmtime has smaller ones for references that are collected, and larger ones for continuations, which no
/// runtime turns on.
pub const POINTER: u64 = 8;

/// Bytes of an element of a table in WasmEdge, which keeps the type beside it (`WasmEdge:include/runtime/instance/table.h`, `RefVariant`). No engine is
/// known whose elements are larger.
pub const TYPED_REFERENCE: u64 = 16;

/// A way from a program to native code outside its sandbox, other than being a native program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NativeWay {
    /// The runtime maps and runs machine code in a custom section of the module.
    Section {
        /// What the look-up calls a module with such a section.
        feature: Feature,
        /// The section's name.
        name: &'static str,
    },
    /// These variables of the container name plug-ins, which the runtime loads.
    PlugIns(&'static [&'static str]),
    /// The runtime loads every plug-in of a folder beside its own shim, whose path it looks up in the files of the container.
    /// Where a node has its shim is not known.
    PlugInFolders {
        /// Where the folder is on nodes of the usual setups.
        usual: &'static [&'static str],
    },
    /// The runtime's C library is glibc, and resolves the names of hosts in the container's root: it loads modules of its name
    /// service from there.
    Resolver,
    /// The runtime's C library is glibc, and before a program starts, whatever it is, the runtime looks up the container's user in
    /// the container's root where the container has no variable `HOME`: it loads modules of its name service from there. The
    /// library does that with which youki and runwasi's shims make containers, before it asks what starts
    /// (`youki:crates/libcontainer/src/process/init/process.rs`, `set_home_env_if_not_exists`; `…/src/utils.rs`, `get_user_home`).
    Users,
}

/// What one runtime does with an image and a pod. Every answer comes from the runtime's own code, which the family's
/// file cites.
pub trait Runtime: Debug + Sync {
    /// Which program starts. That a module carries machine code is left to [`Self::native_ways`].
    fn choose(&self, view: &View<'_>) -> Choice;

    /// Whether it can start a program of this kind in this packaging.
    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool;

    /// Whether it provides what a binary needs beyond plain WASI, and runs what it needs beyond version 2.0 of WebAssembly. Only what it
    /// is known to link, and proposals that its engine has on by default, in a version which the runtime is built with or may load.
    fn provides(&self, feature: Feature) -> bool;

    /// What it hands to a program of this kind.
    fn hands_over(&self, kind: ImageKind) -> Handover;

    /// Who compiles a program in this packaging.
    fn compiler(&self, packaging: Packaging) -> Compiler;

    /// Memory that the runtime itself needs in the container's cgroup before it loads a module.
    fn base_memory(&self) -> Quantity {
        // That of runwasi's wasmtime, the only one that was measured.
        Quantity::mebibytes(calibrated::LAYER_MEMORY.fixed_mebibytes)
    }

    /// Memory in bytes that its engine takes for each element of a table.
    fn table_element_bytes(&self) -> u64 {
        if self.compiles_with_wasmtime() { POINTER } else { TYPED_REFERENCE }
    }

    /// The ways out of the sandbox to native code.
    fn native_ways(&self) -> Vec<NativeWay> {
        Vec::new()
    }

    /// Whether it reads Wasm layers after the container's root became its own, so that another process can exchange them until
    /// then. runwasi's shims have read them before the container exists.
    fn reads_layers_inside(&self) -> bool {
        false
    }

    /// Whether the runtime itself asks for messages of queues, where the variables of the container lead it.
    fn asks_queues(&self) -> bool {
        false
    }

    /// Whether variables of the container make the runtime itself send telemetry for HTTP components and Spin applications.
    fn sends_telemetry(&self) -> bool {
        false
    }

    /// Whether it is a shim on runwasi's library, which decides how the shim's tasks answer containerd.
    fn is_built_on_runwasi(&self) -> bool {
        false
    }

    /// Whether it is known to run no command in a running container, not even in a Linux one. runwasi's task service
    /// refuses to start another process in a container (`containerd-shimkit:src/shim/local.rs`).
    fn has_no_exec(&self) -> bool {
        self.is_built_on_runwasi()
    }

    /// Whether a command in a running container may start another Wasm program of the image. crun refuses commands in a
    /// container of one of its Wasm handlers (`crun:src/libcrun/container.c`, `libcrun_container_exec_process_file`).
    fn may_exec_wasm(&self) -> bool {
        false
    }

    /// How a container that was killed for memory is shown, if not as `OOMKilled`; it ends a sentence.
    fn out_of_memory(&self) -> Option<&'static str> {
        self.is_built_on_runwasi().then_some(runwasi::OUT_OF_MEMORY)
    }

    /// Whether a change of a running container's sizes is reported as done and changes nothing. containerd takes the
    /// `NOT_FOUND` with which containerd-shim-wasm answers `Task/Update` for a task that has exited: the API reports the
    /// resize as completed, and the container's cgroup keeps its old values. Seen on a kubelet with the wasmtime shim; the
    /// other shims are built on the same crate.
    fn ignores_resize(&self) -> bool {
        self.is_built_on_runwasi()
    }

    /// Whether the engine is wasmtime, the only one whose time for compiling was measured (`plan::floor`).
    fn compiles_with_wasmtime(&self) -> bool {
        false
    }

    /// What to tell people about a program that needs a feature which this runtime lacks. `None` leaves it to the rules.
    fn cannot_start(&self, _program: &str, _lacking: Feature) -> Option<String> {
        None
    }

    /// The pool out of which its engine takes memories and tables, if it has one whose limits are known.
    fn pool(&self) -> Option<Pool> {
        None
    }

    /// What to tell people about a program with a core module that its pool does not hold. `None` leaves it to the rules.
    fn cannot_hold(&self, _program: &str, _exceeded: &str) -> Option<String> {
        None
    }

    /// Whether linking a command component fails if it imports any interface of `wasi:http`.
    fn lacks_http(&self, _kind: ImageKind) -> bool {
        false
    }
}
