//! Shims that are no longer maintained and start files whatever the command of a container names. slight's always starts
//! `/app.wasm` (`containerd-wasm-shims:containerd-shim-slight/src/engine.rs`). That of Wasm Workers Server serves every worker of
//! the image, in Wasm or as text (`containerd-wasm-shims:containerd-shim-wws/src/engine.rs`). Both take every container that is no
//! Linux program to them, so nothing is known to start.

use super::answers::{Compiler, Runtime};
use super::choice::Choice;
use super::handover::Handover;
use crate::image::entry::{self, At, View};
use crate::image::names::{SLIGHT_PROGRAM, WWS_TOML};
use crate::image::{Feature, ImageKind, Packaging, Program, Shape};

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct Retired;

/// Why nothing is known to start under them.
const UNKNOWN: &str = "the shims of slight and of Wasm Workers Server start `/app.wasm`, or every worker of the image, whatever the \
                       command names, and are no longer maintained; move to the Spin shim, or to one of runwasi";

impl Runtime for Retired {
    fn choose(&self, _view: &View<'_>) -> Choice {
        Choice::unknown(UNKNOWN)
    }

    fn runs(&self, _shape: Shape, _kind: ImageKind, _packaging: Packaging) -> bool {
        false
    }

    fn provides(&self, _feature: Feature) -> bool {
        false
    }

    fn hands_over(&self, _kind: ImageKind) -> Handover {
        Handover::Everything
    }

    fn compiler(&self, _packaging: Packaging) -> Compiler {
        Compiler::Container
    }
}

/// Why such a shim, if one is behind a class, may start another program than this one; without one, than nothing. Linux programs
/// start before the shim is asked (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`).
pub(super) fn starts_another(view: &View<'_>, program: Option<&Program>) -> Option<String> {
    let chosen = match program {
        Some(Program::Linux | Program::Native { .. } | Program::Unknown { .. }) => return None,
        Some(Program::Wasm { kind, modules, .. }) if *kind != ImageKind::SpinApp => {
            view.facts.modules_at(modules).next().map(|module| module.source.as_str())
        }
        Some(Program::Wasm { .. }) | None => None,
    };
    let same = match view.at(SLIGHT_PROGRAM) {
        At::Nothing => true,
        At::File(at, _) => chosen == Some(at),
        At::Hidden(_) => false,
    };
    if !same {
        return Some(format!("slight's shim would start `{SLIGHT_PROGRAM}`, whatever the command names"));
    }
    entry::is_there(view.facts, WWS_TOML)
        .then(|| format!("Wasm Workers Server would start every worker of the image, which has `{WWS_TOML}`"))
}
