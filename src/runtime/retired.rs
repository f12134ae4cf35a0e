//! Shims that are no longer maintained and start files whatever the command of a container names. slight's always starts
//! `/app.wasm` (`containerd-wasm-shims:containerd-shim-slight/src/engine.rs`). That of Wasm Workers Server serves every worker of
//! the image, in Wasm or as text (`containerd-wasm-shims:containerd-shim-wws/src/engine.rs`). Both take every container that is no
//! Linux program to them, so nothing is known to start.

use super::answers::{Compiler, Runtime};
use super::choice::Choice;
use super::handover::Handover;
use crate::image::entry::{self, At, Sharer, View};
use crate::image::mounts::SHARED_MEMORY;
use crate::image::names::{MAX_WORKERS, SCRIPT, SLIGHT_PROGRAM, WWS_TOML, is_without_workers, is_worker};
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

/// Why such a shim, if one is behind a class, may start another program than this one; without one, than nothing.
pub(super) fn starts_another(view: &View<'_>, program: Option<&Program>) -> Option<String> {
    let another = another(view, program)?;
    Some(format!(
        "the class may lead to any runtime, and {another}; describe the class by a profile (`runtimes.profiles`)"
    ))
}

/// Linux programs start before the shim is asked (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`).
fn another(view: &View<'_>, program: Option<&Program>) -> Option<String> {
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
    another_worker(view, &judged)
}

/// What Wasm Workers Server would start besides what was judged: it serves every worker of the container's files, and reads its
/// own manifest, which is optional (`containerd-wasm-shims:containerd-shim-wws/src/engine.rs`, `run_wasi`).
fn another_worker(view: &View<'_>, judged: &[&str]) -> Option<String> {
    if entry::is_there(view.facts, WWS_TOML) || view.is_mounted(WWS_TOML) {
        return Some(format!(
            "Wasm Workers Server would start every worker of the image, which has `{WWS_TOML}`"
        ));
    }
    let quoted = |path: &str| text::quoted(path, 200);
    if let Some(worker) = worker(view, judged) {
        return Some(format!("Wasm Workers Server would start `{}` as well", quoted(worker)));
    }
    if let Some(mount) = bringing(view) {
        return Some(format!(
            "Wasm Workers Server would start the workers that `{}` may bring: name the files of a ConfigMap or a Secret by `items`, or \
             mount another volume below a folder whose name begins with `_`",
            quoted(mount)
        ));
    }
    let sharer = view.start.shares_memory.filter(|_| !view.is_mounted(SHARED_MEMORY))?;
    let (who, cure) = match sharer {
        Sharer::Node => ("a process of the node (`hostIPC`)", "leave `hostIPC` out, or mount"),
        Sharer::Pod => ("another container of the pod", "mount"),
    };
    Some(format!(
        "Wasm Workers Server would start the workers that {who} may write to `{SHARED_MEMORY}`: {cure} an `emptyDir` of this container \
         alone at `{SHARED_MEMORY}`"
    ))
}

/// The path of a mount that may bring a worker, or that may be one. Folders are not followed through links
/// (`olson-sean-k/wax:src/walk.rs`, `LinkBehavior`), so the place counts and not the path.
fn bringing<'a>(view: &View<'a>) -> Option<&'a str> {
    let mut mounts = view.placed_mounts();
    let brings =
        mounts.find(|(mount, place)| is_worker(place) || (mount.workers && !is_without_workers(place)));
    brings.map(|(mount, _)| mount.path)
}

/// A worker among the files of the image that was not judged.
fn worker<'a>(view: &View<'a>, judged: &[&str]) -> Option<&'a str> {
    let workers = view.facts.files.iter().filter(|(name, _)| is_worker(name) && !view.is_under_mount(name));
    let is_other = |name: &str, class: &FileClass| match (view.at(name), class) {
        _ if name.ends_with(SCRIPT) => true,
        (At::Hidden(_), FileClass::Link { .. }) | (_, FileClass::Varies { .. }) => true,
        (At::File(at, FileClass::Wasm | FileClass::Unreadable { .. }), _) => !judged.contains(&at),
        _ => false,
    };
    let mut workers = workers.enumerate();
    let found = workers.find(|(number, (name, class))| *number >= MAX_WORKERS || is_other(name, class));
    found.map(|(_, (name, _))| name.as_str())
}
