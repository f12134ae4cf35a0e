//! runwasi's WasmEdge shim (`runwasi:crates/containerd-shim-wasmedge/src/instance.rs`): every variable, `/` with every
//! mount, WasmEdge's own sockets, and the plug-ins of the node, which the container's `WASMEDGE_*` variables choose.

use super::answers::{Compiler, NativeWay, Runtime};
use super::choice::Choice;
use super::handover::{Extra, Files, Handover, Things};
use super::runwasi;
use crate::image::entry::View;
use crate::image::{Feature, ImageFacts, ImageKind, ModuleFacts, Packaging, Program, Shape};

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct RunwasiWasmedge;

impl Runtime for RunwasiWasmedge {
    fn choose(&self, view: &View<'_>) -> Choice {
        with_machine_code(view.facts, runwasi::choose(view))
    }

    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        runwasi::runs_modules(shape, kind, packaging)
    }

    fn provides(&self, feature: Feature) -> bool {
        provides(feature)
    }

    fn hands_over(&self, kind: ImageKind) -> Handover {
        hands_over(kind)
    }

    /// The shim has no compiler of its own; the engine interprets.
    fn compiler(&self, _packaging: Packaging) -> Compiler {
        Compiler::Container
    }

    fn native_ways(&self) -> &'static [NativeWay] {
        NATIVE_WAYS
    }

    fn out_of_memory(&self) -> Option<&'static str> {
        Some(runwasi::OUT_OF_MEMORY)
    }
}

/// What WasmEdge links beyond WASI; wasi-nn is a plug-in of the node.
pub(super) const fn provides(feature: Feature) -> bool {
    matches!(feature, Feature::WasmedgeSockets | Feature::WasiNn)
}

/// What WasmEdge hands over, behind runwasi's shim and in crun.
pub(super) fn hands_over(kind: ImageKind) -> Handover {
    match kind {
        ImageKind::Module => Handover::Things(Things {
            files: Files::Root,
            network: true,
            extras: &[Extra::PlugInFunctions],
            ..Things::COMMAND
        }),
        _ => Handover::Everything,
    }
}

/// The shim sets every `WASMEDGE_*` variable of the container in its own process
/// (`runwasi:crates/containerd-shim-wasmedge/src/instance.rs`). In crun, WasmEdge runs in the
/// container's process, which has them anyway.
pub(super) const NATIVE_WAYS: &[NativeWay] = &[
    NativeWay::PlugIns(&["WASMEDGE_PLUGIN_PATH", "WASMEDGE_WASINN_PRELOAD"]),
    NativeWay::Section(Feature::WasmedgeMachineCode),
];

/// The same, but native if a module carries machine code from WasmEdge's compiler: the engine maps and runs that
/// instead of the Wasm, which then says nothing (`WasmEdge:lib/loader/ast/module.cpp`, `loadUniversalWASM`).
pub(super) fn with_machine_code(facts: &ImageFacts, choice: Choice) -> Choice {
    let Choice::Starts(Program::Wasm { modules, .. }) = &choice else { return choice };
    let carries = |module: &&ModuleFacts| module.features.contains(&Feature::WasmedgeMachineCode);
    let source = facts.modules_at(modules).find(carries).map(|module| module.source.clone());
    match source {
        Some(source) => Choice::Starts(Program::Native { source, magic: "section wasmedge".into() }),
        None => choice,
    }
}
