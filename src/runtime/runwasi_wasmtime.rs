//! runwasi's wasmtime shim (`runwasi:crates/containerd-shim-wasmtime/src/{instance,http_proxy}.rs`).

use super::answers::{Compiler, NativeWay, Runtime};
use super::choice::Choice;
use super::handover::{Files, HandedOver, Handover, HttpServer, Variables};
use super::pool::Pool;
use super::runwasi;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Shape};

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct RunwasiWasmtime;

/// What wasmtime's pool has for a core module by default, the same in versions 27 to 48 (`InstanceLimits` of
/// `wasmtime:crates/wasmtime/src/runtime/vm/instance/allocator/pooling.rs`, later of `wasmtime:crates/wasmtime/src/config.rs`). A component
/// as a whole has no limit of these. Left out is a mebibyte for what wasmtime itself keeps of an instance: how much that is depends
/// on the version.
const POOL: Pool = Pool { memories: 1, memory_bytes: 1 << 32, tables: 1, table_elements: 20_000 };

impl Runtime for RunwasiWasmtime {
    fn choose(&self, view: &View<'_>) -> Choice {
        runwasi::choose(view)
    }

    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        runwasi::unpacks(shape, packaging)
            && matches!(kind, ImageKind::Module | ImageKind::Component | ImageKind::HttpComponent)
    }

    /// The shim turns no proposal on beside the component model, and its last release, 0.6.0, has wasmtime 27. Memories of 64 bits are on by
    /// default from 30 on; exceptions, garbage collection and references to functions from 47 on (`wasmtime:crates/wasmtime/src/config.rs`,
    /// `features`, line 1795 at 27.0.0, 2143 at 36.0.6 and 2501 at 47.0.0). A profile names what the nodes have beyond that.
    fn provides(&self, _feature: Feature) -> bool {
        false
    }

    /// A command gets all variables and arguments, `/` with every mount, and (as a component) the whole network;
    /// wasmtime's preview-1 `sock_*` answer "not a socket", so core modules have no network. A component that answers
    /// HTTP gets only the variables and outgoing requests.
    fn hands_over(&self, kind: ImageKind) -> Handover {
        let command = HandedOver { files: Files::Root, ..HandedOver::COMMAND };
        match kind {
            ImageKind::Module => Handover::Only(command),
            ImageKind::Component => Handover::Only(HandedOver { network: true, ..command }),
            ImageKind::HttpComponent => Handover::Only(HandedOver {
                command_line: false,
                variables: Variables::OfRequest,
                http: Some(HttpServer {
                    address: "WASMTIME_HTTP_PROXY_SOCKET_ADDR",
                    own: &["WASMTIME_HTTP_BACKLOG"],
                    port: 8080,
                }),
                ..HandedOver::COMMAND
            }),
            ImageKind::SpinApp | ImageKind::Linux | ImageKind::Unknown => Handover::Everything,
        }
    }

    fn compiler(&self, packaging: Packaging) -> Compiler {
        match packaging {
            Packaging::Layers => Compiler::Shim,
            Packaging::RootFilesystem => Compiler::Container,
        }
    }

    /// A component, or the shim's client of HTTP, resolves names by the C library of the shim, after the root was changed to the
    /// container's: seen on a node, where a name of the pod's own `/etc/hosts` resolves. The releases of runwasi are built with musl;
    /// `cargo build` on most machines makes a shim with glibc, and the class does not tell which. Such a shim looks up users too.
    fn native_ways(&self) -> Vec<NativeWay> {
        vec![NativeWay::Resolver, NativeWay::Users]
    }

    /// The shim adds only `wasmtime_wasi::p2` to a command's linker.
    fn lacks_http(&self, kind: ImageKind) -> bool {
        kind == ImageKind::Component
    }

    fn is_built_on_runwasi(&self) -> bool {
        true
    }

    fn compiles_with_wasmtime(&self) -> bool {
        true
    }

    fn cannot_start(&self, program: &str, lacking: Feature) -> Option<String> {
        let what = match lacking {
            Feature::WasiUnstable => {
                "imports `wasi_unstable`, WASI's first snapshot; build it with a current toolchain"
            }
            Feature::Wasi03 => "uses WASI 0.3, which the Spin shim links; build it for WASI 0.2",
            Feature::WasmedgeSockets => {
                "calls the sockets of WasmEdge; place it on WasmEdge, or use WASI 0.2 sockets"
            }
            Feature::Wasix => "calls WASIX, which wasmer provides; place it on wasmer, or build it for WASI",
            Feature::WasiThreads | Feature::SharedMemory => {
                "needs threads with shared memory; build it without them"
            }
            Feature::WasiNn => "calls wasi-nn; place it on a runtime that has a back end for it",
            Feature::WasmedgeMachineCode => return None,
            Feature::Text => "is Wasm text, which the shim accepts and its engine does not; ship the binary",
            Feature::ExceptionHandling => "uses exceptions of WebAssembly; build it without them",
            Feature::GarbageCollection => {
                "uses types of the garbage collection proposal; build it without them"
            }
            Feature::FunctionReferences => {
                "uses references to functions of one type, or that are never null; build it without them"
            }
            Feature::StackSwitching => "uses continuations; build it without them",
            Feature::CustomPageSizes => "has a memory with pages of its own size; build it without",
            Feature::Memory64 => "has memories of 64 bits; build it for 32 bits",
        };
        let or = if Feature::PROPOSALS.contains(&lacking) {
            format!(", or list `{}` in the profile's `proposals` if its nodes run it", lacking.as_str())
        } else {
            String::new()
        };
        Some(format!("runwasi's wasmtime shim cannot start `{program}`: it {what}{or}"))
    }

    /// From release 0.5.0 on, the first that answers HTTP, where four terabytes of addresses can be reserved; elsewhere it allocates on
    /// demand (`use_pooling_allocator_by_default`).
    fn pool(&self) -> Option<Pool> {
        Some(POOL)
    }

    fn cannot_hold(&self, program: &str, exceeded: &str) -> Option<String> {
        Some(format!(
            "runwasi's wasmtime shim cannot start `{program}`: a core module of it defines {exceeded} into the pool of the \
             shim's engine; build it with less, or place it on another runtime"
        ))
    }
}
