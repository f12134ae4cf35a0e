//! youki with its wasmtime executor (`youki:crates/youki/src/workload/{executor,wasmtime}.rs`,
//! `youki:crates/libcontainer/src/workload/default.rs`). It starts files only.

use super::answers::{Compiler, Runtime};
use super::choice::Choice;
use super::crun;
use super::handover::{Handover, Things};
use crate::image::entry::{self, At, View};
use crate::image::{Feature, ImageFacts, ImageKind, Packaging, Program, Shape, program};

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct YoukiWasmtime;

impl Runtime for YoukiWasmtime {
    fn choose(&self, view: &View<'_>) -> Choice {
        choose(view)
    }

    fn runs(&self, _shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        packaging == Packaging::RootFilesystem && kind == ImageKind::Module
    }

    /// wasmtime's `Module::from_file` assembles text.
    fn provides(&self, feature: Feature) -> bool {
        feature == Feature::Text
    }

    /// Standard input and output, variables and arguments, and nothing else.
    fn hands_over(&self, kind: ImageKind) -> Handover {
        match kind {
            ImageKind::Module => Handover::Things(Things::COMMAND),
            _ => Handover::Everything,
        }
    }

    fn compiler(&self, _packaging: Packaging) -> Compiler {
        Compiler::Container
    }
}

/// The Wasm executor comes first: the name must end with `.wasm` or `.wat`, one leading slash is removed, and the rest
/// is opened relative to the working directory. Without the annotation that asks for Wasm, the same name is started as
/// a native program, so both must be the same file.
pub(super) fn choose(view: &View<'_>) -> Choice {
    let facts = view.facts;
    let native = crun::choose(view);
    let argument = view.first_argument().unwrap_or_default();
    let wasm = matches!(argument.rsplit_once('.'), Some((_, "wasm" | "wat")));
    let refused = matches!(&native, Choice::Starts(Program::Linux | Program::Native { .. }));
    if !wasm
        || refused
        || crun::may_start_as_it_is(view, argument)
        || !has_files(facts)
        || entry::holds_variable(argument)
        || view.nested().is_some()
    {
        return not_wasm(native, argument);
    }
    let cut = argument.strip_prefix('/').unwrap_or(argument);
    match view.at(&view.here(cut)) {
        At::Hidden(mount) => Choice::Starts(program::hidden_by(argument, &mount)),
        At::File(at, class) => crun::program_of(facts, at, class, argument),
        At::Nothing => super::runwasi::nothing(argument),
    }
}

/// A name without the extension of Wasm is never started as Wasm.
fn not_wasm(native: Choice, argument: &str) -> Choice {
    match native {
        Choice::Starts(Program::Wasm { .. }) => Choice::Nothing(format!(
            "youki starts only what is called `.wasm` or `.wat` as Wasm, and `{argument}` is not"
        )),
        other => other,
    }
}

fn has_files(facts: &ImageFacts) -> bool {
    let layered = matches!(
        facts.shape,
        Shape::WasmArtifact | Shape::RunwasiLayers | Shape::SpinArtifact | Shape::SpinLegacy | Shape::Other
    );
    facts.scanned && !layered
}
