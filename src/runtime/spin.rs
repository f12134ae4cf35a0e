//! The Spin shim (`containerd-shim-spin:containerd-shim-spin/src/{engine,source,constants}.rs`). It is built on
//! `containerd-shim-wasm`, so a native entry point starts as such; for everything else the engine says that it can handle
//! it. Layers of its own kinds win; else the application is `/spin.toml`, whatever the entry point names.

use super::choice::Choice;
use super::family::{Compiler, Runtime};
use super::handover::Handover;
use super::runwasi::{self, Source};
use crate::image::entry::Start;
use crate::image::names::SPIN_TOML;
use crate::image::{Feature, ImageFacts, ImageKind, Packaging, Shape, program};
use crate::quantity::Quantity;

/// The row of this family.
#[derive(Debug)]
pub(super) struct Spin;

/// Layers that the shim takes (`engine.rs`, `supported_layers_types`): those of `spin registry push`, and a single
/// `application/wasm`.
const LAYERS: &[Shape] = &[Shape::SpinArtifact, Shape::WasmArtifact];

impl Runtime for Spin {
    fn choose(&self, facts: &ImageFacts, start: &Start<'_>) -> Choice {
        match runwasi::source(facts, start, LAYERS) {
            // A function after `#` means nothing to Spin.
            Source::Layers => Choice::Starts(program::of_layers(facts, None)),
            Source::File(_) => application(facts, start),
            Source::Settled(choice) => choice,
        }
    }

    /// A single layer gets an `http` trigger, so it must answer HTTP.
    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        match (packaging, kind) {
            (_, ImageKind::SpinApp) => true,
            (Packaging::Layers, ImageKind::HttpComponent) => LAYERS.contains(&shape),
            _ => false,
        }
    }

    fn provides(&self, feature: Feature) -> bool {
        feature == Feature::Wasi03
    }

    fn hands_over(&self, kind: ImageKind) -> Handover {
        match kind {
            ImageKind::SpinApp => Handover::SpinManifest,
            ImageKind::HttpComponent => Handover::SpinLayer,
            _ => Handover::Everything,
        }
    }

    fn compiler(&self, packaging: Packaging) -> Compiler {
        match packaging {
            Packaging::Layers => Compiler::Shim,
            Packaging::RootFilesystem => Compiler::Container,
        }
    }

    fn base_memory(&self) -> Quantity {
        // A guess: no measurement of what the shim's own process is charged for inside the container is published.
        Quantity::mebibytes(24)
    }
}

fn application(facts: &ImageFacts, start: &Start<'_>) -> Choice {
    program::application(facts, start).map_or_else(
        || {
            Choice::Nothing(format!(
                "the image holds neither layers of Spin nor `{SPIN_TOML}`, and its entry point is no native program"
            ))
        },
        Choice::Starts,
    )
}
