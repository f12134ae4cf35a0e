//! Shims that are no longer maintained and start files whatever the command of a container names. slight's always starts
//! `/app.wasm` (`containerd-wasm-shims:containerd-shim-slight/src/engine.rs`). That of Wasm Workers Server serves every worker of
//! the image, in Wasm or as text (`containerd-wasm-shims:containerd-shim-wws/src/engine.rs`). Both take every container that is no
//! Linux program to them, so nothing is known to start.

use super::answers::{Compiler, Runtime};
use super::choice::Choice;
use super::handover::Handover;
use crate::image::entry::{self, At, View};
use crate::image::names::{SLIGHT_PROGRAM, WWS_TOML};
use crate::image::{Feature, FileClass, ImageKind, Packaging, Program, Shape};
use crate::text;

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
    let judged: Vec<&str> = match program {
        Some(Program::Linux | Program::Native { .. } | Program::Unknown { .. }) => return None,
        Some(Program::Wasm { modules, .. }) => {
            view.facts.modules_at(modules).map(|module| module.source.as_str()).collect()
        }
        None => Vec::new(),
    };
    let is_spin = matches!(program, Some(Program::Wasm { kind: ImageKind::SpinApp, .. }));
    let same = match view.at(SLIGHT_PROGRAM) {
        At::Nothing => true,
        At::File(at, _) => !is_spin && judged.first() == Some(&at),
        At::Hidden(_) => false,
    };
    if !same {
        return Some(format!("slight's shim would start `{SLIGHT_PROGRAM}`, whatever the command names"));
    }
    if entry::is_there(view.facts, WWS_TOML) {
        return Some(format!(
            "Wasm Workers Server would start every worker of the image, which has `{WWS_TOML}`"
        ));
    }
    let worker = worker(view, &judged)?;
    Some(format!("Wasm Workers Server would start `{}` as well", text::quoted(worker, 200)))
}

/// Most names of workers that are followed, as links may lead each of them far.
const MAX_WORKERS: usize = 64;

/// A file that Wasm Workers Server takes for a worker, and that was not judged: `/.wws.toml` is optional. It passes over folders of
/// its own and names that begin with `_` (`wasm-workers-server:crates/router/src/files.rs`, `walk`, `should_ignore`).
fn worker<'a>(view: &View<'a>, judged: &[&str]) -> Option<&'a str> {
    let is_passed_over = |name: &str| name.split('/').any(|part| part == ".wws" || part.starts_with('_'));
    let named = view.facts.files.iter().map(|(name, _)| name.as_str());
    let workers = named.filter(|name| name.strip_suffix(".wasm").is_some() && !is_passed_over(name));
    let is_other = |name: &str| match view.at(name) {
        At::File(at, FileClass::Wasm | FileClass::Unreadable { .. }) => !judged.contains(&at),
        _ => false,
    };
    workers.enumerate().find(|(number, name)| *number >= MAX_WORKERS || is_other(name)).map(|(_, name)| name)
}
