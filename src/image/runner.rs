//! Which runtimes can start a program, by what they link and by how the image is packed
//! (`runwasi:crates/containerd-shim-*/src/instance.rs`, `containerd-shim-spin:containerd-shim-spin/src/constants.rs`,
//! `crun:src/libcrun/handlers`, `youki:crates/youki/src/workload`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Feature, ImageFacts, ImageKind, ModuleFacts, Packaging, Program, Shape};

/// A runtime that starts Wasm in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// runwasi's wasmtime shim.
    RunwasiWasmtime,
    /// runwasi's `WasmEdge` shim.
    RunwasiWasmedge,
    /// runwasi's wasmer shim.
    RunwasiWasmer,
    /// runwasi's WAMR shim.
    RunwasiWamr,
    /// The Spin shim.
    Spin,
    /// crun built with a Wasm handler.
    Crun,
    /// youki built with a Wasm handler.
    Youki,
}

const ALL: [Runner; 7] = [
    Runner::RunwasiWasmtime,
    Runner::RunwasiWasmedge,
    Runner::RunwasiWasmer,
    Runner::RunwasiWamr,
    Runner::Spin,
    Runner::Crun,
    Runner::Youki,
];

/// The runtimes that can start a program; none for one that is not Wasm. An upper bound: which handlers crun and youki
/// were built with, and how a node is set up, is not known here.
pub fn runners(facts: &ImageFacts, program: &Program) -> BTreeSet<Runner> {
    let Program::Wasm { kind, packaging, modules } = program else { return BTreeSet::new() };
    let modules: Vec<&ModuleFacts> = modules.iter().filter_map(|number| facts.modules.get(*number)).collect();
    ALL.into_iter()
        .filter(|runner| unpacks(*runner, facts.shape, *packaging) && runs(*runner, *kind))
        .filter(|runner| modules.iter().flat_map(|module| &module.features).all(|f| provides(*runner, *f)))
        .collect()
}

/// crun and youki know files only. The Spin shim takes no runwasi layer, and the others no Spin application.
fn unpacks(runner: Runner, shape: Shape, packaging: Packaging) -> bool {
    match (runner, packaging) {
        (Runner::Crun | Runner::Youki, Packaging::Layers) => false,
        (Runner::Spin, Packaging::Layers) => shape != Shape::RunwasiLayers,
        _ => true,
    }
}

/// Only wasmtime starts components, in runwasi and in crun: the other engines of runwasi load modules
/// (`Module::from_…`). The Spin shim makes an application of a single layer (0.23 and later), which must answer HTTP.
fn runs(runner: Runner, kind: ImageKind) -> bool {
    match kind {
        ImageKind::Module => runner != Runner::Spin,
        ImageKind::Component => matches!(runner, Runner::RunwasiWasmtime | Runner::Crun),
        ImageKind::HttpComponent => matches!(runner, Runner::RunwasiWasmtime | Runner::Spin),
        ImageKind::SpinApp => matches!(runner, Runner::Spin | Runner::Crun),
        ImageKind::Linux | ImageKind::Unknown => false,
    }
}

/// Only what a runtime is known to link; WASIX and wasi-nn are engine features that each build may leave out.
fn provides(runner: Runner, feature: Feature) -> bool {
    match feature {
        Feature::WasiUnstable => matches!(runner, Runner::RunwasiWasmer | Runner::RunwasiWamr | Runner::Crun),
        Feature::Wasi03 => runner == Runner::Spin,
        Feature::WasmedgeSockets => matches!(runner, Runner::RunwasiWasmedge | Runner::Crun),
        Feature::Wasix => matches!(runner, Runner::RunwasiWasmer),
        Feature::WasiThreads | Feature::SharedMemory => {
            matches!(runner, Runner::RunwasiWasmer | Runner::RunwasiWamr | Runner::Crun)
        }
        Feature::WasiNn => matches!(runner, Runner::RunwasiWasmedge | Runner::Crun),
    }
}

/// Why the shim that modules are placed on by default, runwasi's wasmtime, cannot start a binary.
pub(super) fn warning(module: &ModuleFacts) -> Option<String> {
    let feature = module.features.iter().find(|feature| !provides(Runner::RunwasiWasmtime, **feature))?;
    let what = match feature {
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
    };
    Some(format!("runwasi's wasmtime shim cannot start `{}`: it {what}", module.source))
}
