//! runwasi's WAMR shim (`runwasi:crates/containerd-shim-wamr/src/instance.rs`).

use super::answers::{Compiler, Runtime};
use super::choice::Choice;
use super::handover::{Extra, Files, Handover, Things};
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
        runwasi::unpacks(shape, packaging) && kind == ImageKind::Module
    }

    fn provides(&self, feature: Feature) -> bool {
        matches!(feature, Feature::WasiUnstable | Feature::WasiThreads | Feature::SharedMemory)
    }

    /// It opens `/` with every mount and hands over every variable. How far its network reaches is unknown, so it is
    /// assumed to be unrestricted.
    fn hands_over(&self, kind: ImageKind) -> Handover {
        let things =
            Things { files: Files::Root, network: true, extras: &[Extra::Threads], ..Things::COMMAND };
        if kind == ImageKind::Module { Handover::Things(things) } else { Handover::Everything }
    }

    /// The shim has no compiler of its own; the engine interprets.
    fn compiler(&self, _packaging: Packaging) -> Compiler {
        Compiler::Container
    }
}
