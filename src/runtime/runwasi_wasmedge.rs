//! runwasi's WasmEdge shim (`runwasi:crates/containerd-shim-wasmedge/src/instance.rs`): every variable, `/` with every
//! mount, WasmEdge's own sockets, and the plug-ins of the node, which the container's `WASMEDGE_*` variables choose.

use super::answers::{Compiler, NativeWay, Runtime};
use super::choice::Choice;
use super::handover::{Extra, Files, HandedOver, Handover};
use super::runwasi;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Shape};

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct RunwasiWasmedge;

impl Runtime for RunwasiWasmedge {
    fn choose(&self, view: &View<'_>) -> Choice {
        runwasi::choose(view)
    }

    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        runwasi::runs_modules(shape, kind, packaging)
    }

    fn provides(&self, feature: Feature) -> bool {
        provides(feature)
    }

    fn hands_over(&self, kind: ImageKind) -> Handover {
        match kind {
            ImageKind::Module => Handover::Only(HANDED_OVER),
            _ => Handover::Everything,
        }
    }

    /// The shim has no compiler of its own; the engine interprets.
    fn compiler(&self, _packaging: Packaging) -> Compiler {
        Compiler::Container
    }

    /// The shim also loads the plug-ins of the default folders, after the root was changed to the container's
    /// (`runwasi:crates/containerd-shim-wasmedge/src/instance.rs`, `PluginManager::load`). crun does so only where a
    /// variable names one. A build with plug-ins is one with glibc (`runwasi:crates/containerd-shim-wasmedge/src/instance.rs`,
    /// `not(target_env = "musl")`).
    fn native_ways(&self) -> Vec<NativeWay> {
        let own =
            [NativeWay::PlugInFolders { usual: PLUG_IN_FOLDERS }, NativeWay::Resolver, NativeWay::Users];
        [NATIVE_WAYS, &own].concat()
    }

    fn is_built_on_runwasi(&self) -> bool {
        true
    }
}

/// What WasmEdge links beyond WASI; wasi-nn is a plug-in of the node. The shim is built with wasmedge-sdk 0.14.0, which takes version
/// 0.14.1 of the library, and that has no proposal on beyond version 2.0 of WebAssembly (`WasmEdge:include/common/configure.h`,
/// `Configure`).
pub(super) const fn provides(feature: Feature) -> bool {
    matches!(feature, Feature::WasmedgeSockets | Feature::WasiNn)
}

/// What WasmEdge hands a core module, behind runwasi's shim and in crun; plug-ins of the node provide functions beside it.
pub(super) const HANDED_OVER: HandedOver = HandedOver {
    files: Files::Root,
    network: true,
    extras: &[Extra::PlugInFunctions { engine: "WasmEdge" }],
    ..HandedOver::COMMAND
};

/// The shim sets every `WASMEDGE_*` variable of the container in its own process
/// (`runwasi:crates/containerd-shim-wasmedge/src/instance.rs`). In crun, WasmEdge runs in the container's
/// process, which has them anyway. Machine code of its compiler is mapped and run instead of the Wasm, which
/// then says nothing (`WasmEdge:lib/loader/ast/module.cpp`, `loadUniversalWASM`).
pub(super) const NATIVE_WAYS: &[NativeWay] = &[
    NativeWay::PlugIns(&["WASMEDGE_PLUGIN_PATH", "WASMEDGE_WASINN_PRELOAD"]),
    NativeWay::Section { feature: Feature::WasmedgeMachineCode, name: "wasmedge" },
];

/// Where WasmEdge loads plug-ins from if its shim is in one of the usual folders: `wasmedge` beside a shim, or a library, below
/// `/usr` or `/lib`; else `plugin` beside the folder of the shim (`WasmEdge:lib/plugin/plugin.cpp`, `getDefaultPluginPaths`).
/// kwasm has its shims in `/opt/kwasm/bin` (`KWasm/kwasm-node-installer:script/installer.sh`).
const PLUG_IN_FOLDERS: &[&str] = &[
    "/usr/local/bin/wasmedge",
    "/usr/local/sbin/wasmedge",
    "/usr/bin/wasmedge",
    "/usr/sbin/wasmedge",
    "/usr/local/lib/wasmedge",
    "/usr/local/lib64/wasmedge",
    "/usr/lib/wasmedge",
    "/usr/lib64/wasmedge",
    "/usr/lib/x86_64-linux-gnu/wasmedge",
    "/usr/lib/aarch64-linux-gnu/wasmedge",
    "/lib/wasmedge",
    "/lib64/wasmedge",
    "/plugin",
    "/opt/plugin",
    "/opt/kwasm/plugin",
    "/snap/plugin",
    "/root/.wasmedge/plugin",
];
