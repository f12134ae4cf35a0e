//! The Spin shim (`containerd-shim-spin:containerd-shim-spin/src/{engine,source,constants}.rs`). It is built on
//! `containerd-shim-wasm`, so a native entry point starts as such; for everything else the engine says that it can handle
//! it. Layers of its own kinds win; else the application is `/spin.toml`, whatever the entry point names.

use super::choice::Choice;
use super::family::{Compiler, Runtime};
use super::handover::Handover;
use super::runwasi::{self, Source};
use crate::image::entry::View;
use crate::image::names::SPIN_TOML;
use crate::image::{Feature, ImageKind, Packaging, Shape, program};

/// The row of this family.
#[derive(Debug)]
pub(super) struct Spin;

/// Layers that the shim takes (`engine.rs`, `supported_layers_types`): those of `spin registry push`, and a single
/// `application/wasm`.
const LAYERS: &[Shape] = &[Shape::SpinArtifact, Shape::WasmArtifact];

impl Runtime for Spin {
    fn choose(&self, view: &View<'_>) -> Choice {
        match runwasi::source(view, LAYERS) {
            // A function after `#` means nothing to Spin.
            Source::Layers => Choice::Starts(program::of_layers(view.facts, None)),
            Source::File(_) => application(view),
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

    fn base_memory(&self) -> &'static str {
        // A guess: no measurement of what the shim's own process is charged for inside the container is published.
        "24Mi"
    }
}

fn application(view: &View<'_>) -> Choice {
    program::application(view).map_or_else(
        || {
            Choice::Nothing(format!(
                "the image holds neither layers of Spin nor `{SPIN_TOML}`, and its entry point is no native program"
            ))
        },
        Choice::Starts,
    )
}
