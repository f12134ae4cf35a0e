//! runwasi's wasmer shim (`runwasi:crates/containerd-shim-wasmer/src/instance.rs`).

use super::answers::{Compiler, POINTER, Runtime};
use super::choice::Choice;
use super::handover::Handover;
use super::runwasi;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Shape};

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct RunwasiWasmer;

impl Runtime for RunwasiWasmer {
    fn choose(&self, view: &View<'_>) -> Choice {
        runwasi::choose(view)
    }

    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        runwasi::runs_modules(shape, kind, packaging)
    }

    /// WASIX and threads are features of the engine, which a build may leave out. Exceptions and memories of 64 bits are off by default
    /// (`wasmer:lib/types/src/features.rs`, `Features::new`), the shim turns nothing on, and of the others the engine knows none.
    fn provides(&self, feature: Feature) -> bool {
        matches!(
            feature,
            Feature::WasiUnstable | Feature::Wasix | Feature::WasiThreads | Feature::SharedMemory
        )
    }

    fn hands_over(&self, kind: ImageKind) -> Handover {
        runwasi::hands_over_root_and_network(kind)
    }

    /// The shim has no compiler of its own: Cranelift compiles in the container, layers too.
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
