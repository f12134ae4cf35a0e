//! youki with its wasmtime executor. It starts files only. Which of its executors takes a container depends on annotations, and whether
//! those reach youki on the node, so what starts has to be the same with them and without. Branch by branch:
//!
//! | the branch | what starts | source | who answers |
//! |---|---|---|---|
//! | an image of Wasm layers | nothing of it | `youki:crates/youki/src/workload/wasmtime.rs` | `choose` |
//! | an annotation asks for Wasm: the Wasm executor is asked first, and the name ends with `.wasm` or `.wat` | the file at one path: one leading slash is removed, the rest is opened from the working directory, and `#` is an ordinary character of it | `youki:crates/youki/src/workload/{executor,wasmtime}.rs` | `choose` |
//! | the same, and a name with another ending | nothing as Wasm | `youki:crates/youki/src/workload/wasmtime.rs` | `not_wasm` |
//! | no annotation asks for it | the program of the same name, searched as crun does | `youki:crates/libcontainer/src/workload/default.rs` | `choose` of `crun.rs` |
//! | the same, and what the kernel does not start | a shell, which takes it for a script, under glibc | `glibc:posix/execvpe.c`, `maybe_script_execute` | `may_be_a_script` |
//! | a native program, and a file of its name for the Wasm executor | either of the two | `youki:crates/youki/src/workload/executor.rs` | `either` |
//! | a native program that youki misses | nothing: the Wasm executor was asked before, and opens the one path | `youki:crates/youki/src/workload/executor.rs`, `youki:crates/libcontainer/src/workload/default.rs` | `either` |
//! | what is below a volume of the image | where the node mounts an empty folder there, what there is besides | `cri-o:server/container_create.go`, `addImageVolumes` | `or_emptied` of `emptied.rs` |

use super::answers::{Compiler, NativeWay, Runtime};
use super::choice::Choice;
use super::emptied::or_emptied;
use super::handover::{HandedOver, Handover};
use super::{crun, runwasi};
use crate::image::entry::{self, At, View, is_root};
use crate::image::names::SHELL;
use crate::image::{Feature, FileClass, ImageFacts, ImageKind, Packaging, Program, Shape, program};
use crate::text;

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct YoukiWasmtime;

impl Runtime for YoukiWasmtime {
    fn choose(&self, view: &View<'_>) -> Choice {
        or_emptied(view, choose)
    }

    fn runs(&self, _shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        packaging == Packaging::RootFilesystem && kind == ImageKind::Module
    }

    /// wasmtime's `Module::from_file` assembles text, and the linker gets both snapshots of WASI
    /// (`wasmtime:crates/wasi-common/src/lib.rs`, `add_to_linker`; version 46). Of proposals that engine runs those that it has on by
    /// default (`youki:crates/youki/src/workload/wasmtime.rs`, `Engine::default`; `wasmtime:crates/wasmtime/src/config.rs`, `features`, line
    /// 2428 at 46.0.1).
    fn provides(&self, feature: Feature) -> bool {
        matches!(feature, Feature::Text | Feature::WasiUnstable | Feature::Memory64)
    }

    /// Standard input and output, variables and arguments, and nothing else.
    fn hands_over(&self, kind: ImageKind) -> Handover {
        match kind {
            ImageKind::Module => Handover::Only(HandedOver::COMMAND),
            _ => Handover::Everything,
        }
    }

    fn compiler(&self, _packaging: Packaging) -> Compiler {
        Compiler::Container
    }

    /// It is the same library that makes the containers of runwasi's shims. youki's releases are built with either C library, and
    /// the class does not tell which.
    fn native_ways(&self) -> Vec<NativeWay> {
        vec![NativeWay::Users]
    }

    fn compiles_with_wasmtime(&self) -> bool {
        true
    }

    /// A command goes through the same executors as the container's own (`youki:crates/youki/src/commands/exec.rs`).
    fn may_exec_wasm(&self) -> bool {
        true
    }
}

/// The Wasm executor comes first: the name must end with `.wasm` or `.wat`, one leading slash is removed, and the rest
/// is opened relative to the working directory. Without the annotation that asks for Wasm, the same name is started as
/// a native program, so both must be the same file, and no shell may be there to take it for a script.
pub(super) fn choose(view: &View<'_>) -> Choice {
    let facts = view.facts;
    if matches!(facts.shape, Shape::WasmArtifact | Shape::RunwasiLayers | Shape::SpinArtifact) {
        return runwasi::files_only(view, choose, crun::LAYERS_ARE_NO_FILES);
    }
    let native = crun::choose(view);
    let argument = view.first_argument().unwrap_or_default();
    let wasm = matches!(argument.rsplit_once('.'), Some((_, "wasm" | "wat")));
    if may_be_a_script(view, &native, argument) {
        return Choice::unknown(format!(
            "where no annotation that reaches youki asks for Wasm, it starts `{}` as it is, and the C library gives what the \
             kernel does not start to `{SHELL}`; leave the shell out of the image, or describe the class by a profile \
             (`runtimes.profiles`) if it leads to another runtime",
            text::quoted(argument, 200)
        ));
    }
    let cut = argument.strip_prefix('/').unwrap_or(argument);
    if matches!(&native, Choice::Starts(Program::Linux | Program::Native { .. })) {
        return either(view, native, cut, wasm);
    }
    if !wasm
        || crun::may_start_as_it_is(view, argument)
        || !has_files(facts)
        || entry::is_expanded(argument)
        || view.lost().is_some()
    {
        return not_wasm(native, argument);
    }
    match view.at(&view.here(cut)) {
        At::Hidden(mount) => Choice::Starts(program::hidden_by(argument, &mount)),
        At::File(at, class) => crun::program_of(facts, at, class, argument),
        At::Nothing => runwasi::nothing(argument),
    }
}

/// A native program, unless the Wasm executor finds something else under the same name.
fn either(view: &View<'_>, native: Choice, cut: &str, wasm: bool) -> Choice {
    // Text is assembled, whatever its name (`YoukiWasmtime::provides`).
    let harmless = |class: &FileClass| matches!(class, FileClass::Native { .. } | FileClass::Link { .. });
    match view.at(&view.here(cut)) {
        At::Hidden(mount) if wasm => Choice::Starts(program::hidden_by(cut, &mount)),
        At::File(at, class) if wasm && !harmless(class) => Choice::unknown(format!(
            "youki starts `{at}` as Wasm where an annotation that reaches it asks for that, and a native program of the same \
             name elsewhere; write the path of the program from the working directory `/`"
        )),
        _ => native,
    }
}

/// Whether a file that is no native program would run in a shell: `execvp` of glibc does that (`posix/execvpe.c`,
/// `maybe_script_execute`), that of musl does not. Bytes of Wasm may well be a script too. That the pod has the annotation
/// does not help, because containerd passes on only those that its configuration lists. Files that are neither Wasm nor
/// programs are not known here, so a name that leads to nothing may be a script as well, and so may any of several files. Where a
/// native program is not there, because a volume of the image is empty, a script of the name is one too.
fn may_be_a_script(view: &View<'_>, native: &Choice, argument: &str) -> bool {
    if view.is_emptied() {
        return false;
    }
    let open = !matches!(native, Choice::Starts(Program::Linux | Program::Native { .. }));
    let starts = !argument.is_empty() && !is_root(argument);
    open && starts && has_files(view.facts) && !matches!(view.at(SHELL), At::Nothing)
}

/// A name without the extension of Wasm is never started as Wasm.
fn not_wasm(native: Choice, argument: &str) -> Choice {
    match native {
        Choice::Starts(Program::Wasm { .. }) => Choice::Nothing(format!(
            "youki starts only what is called `.wasm` or `.wat` as Wasm, and `{argument}` is not; give the file such a name"
        )),
        other => other,
    }
}

fn has_files(facts: &ImageFacts) -> bool {
    facts.scanned && !matches!(facts.shape, Shape::SpinLegacy | Shape::Other)
}
