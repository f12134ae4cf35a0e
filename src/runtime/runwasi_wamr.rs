//! runwasi's WAMR shim (`runwasi:crates/containerd-shim-wamr/src/instance.rs`).

use super::answers::{Compiler, POINTER, Runtime};
use super::choice::Choice;
use super::handover::Handover;
use super::runwasi;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Shape};

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct RunwasiWamr;

impl Runtime for RunwasiWamr {
    fn choose(&self, view: &View<'_>) -> Choice {
        runwasi::choose(view)
    }

    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        runwasi::runs_modules(shape, kind, packaging)
    }

    /// Of proposals of WebAssembly its build of the engine has only what that has by default, which is none of them, and no threads
    /// (`wamr-rust-sdk:crates/wamr-sys/build.rs` at 1.1.0; `wasm-micro-runtime:core/config.h`, `WASM_ENABLE_GC` and its like, and
    /// `CMakeLists.txt`, `WAMR_BUILD_LIB_WASI_THREADS`, at 2.1.2).
    fn provides(&self, feature: Feature) -> bool {
        feature == Feature::WasiUnstable
    }

    fn hands_over(&self, kind: ImageKind) -> Handover {
        runwasi::hands_over_root_and_network(kind)
    }

    /// The shim has no compiler of its own; the engine interprets.
    fn compiler(&self, _packaging: Packaging) -> Compiler {
        Compiler::Container
    }

    fn table_element_bytes(&self) -> u64 {
        POINTER
    }

    fn is_built_on_runwasi(&self) -> bool {
        true
    }
}
