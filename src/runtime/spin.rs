//! The Spin shim. It is built on `containerd-shim-wasm`, so that what `runwasi.rs` says of native programs holds here too; for everything
//! else the engine claims that it can handle it. Branch by branch:
//!
//! | the branch | what starts | source | who answers |
//! |---|---|---|---|
//! | layers of its own kinds: those of `spin registry push`, and a single `application/wasm` | the layers, whatever the entry point names | `containerd-shim-spin:containerd-shim-spin/src/{engine,constants}.rs`, `supported_layers_types` | `source` of `runwasi.rs` |
//! | the same, with a volume where the shim unpacks them | what others exchange there | `containerd-shim-spin:containerd-shim-spin/src/source.rs`, `Source::to_locked_app`; `containerd-shim-spin:containerd-shim-spin/src/utils.rs`, `handle_archive_layer` | `exchanged`, `staged` |
//! | files, and an entry point that is a native program | that program, natively | `runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`, `Executor::exec` | `source` of `runwasi.rs` |
//! | files, and any other entry point | the application `/spin.toml`, whatever the entry point names | `containerd-shim-spin:containerd-shim-spin/src/{engine,source}.rs` | `application` |
//! | a native program by a name without a slash, which the shim does not find in its own `PATH` | the application `/spin.toml` | `runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`, `is_linux_container` | `unsure` |
//! | a native program that the shim may not open as the user of the container, or whose path its C library does not take | the application `/spin.toml` | `runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`, `is_linux_container`; `musl:src/misc/realpath.c` | `missed` |
//! | an application of which the container keeps some components | these, or nothing where one of them is not there or may call one that is left out | `spin:crates/app/src/lib.rs`, `retain_components`; `spin:crates/factor-outbound-networking/src/allowed_hosts.rs` | `kept` |
//! | an application with a trigger that the shim lacks | nothing | `containerd-shim-spin:containerd-shim-spin/src/trigger.rs`, `get_supported_triggers` | `supported` |

pub mod handed;

use std::collections::HashSet;

use super::answers::{Compiler, Runtime};
use super::choice::Choice;
use super::handover::Handover;
use super::runwasi::{self, Source};
use crate::image::entry::{Variable, View, kernel_tree};
use crate::image::mounts::{Links, Mount, SHARED_MEMORY};
use crate::image::names::{SPIN_RETAINED, SPIN_TOML, TEMPORARY};
use crate::image::{Feature, ImageKind, Packaging, Program, Shape, SpinApp, SpinComponent, path, program};
use crate::quantity::Quantity;
use crate::text;

/// This family's entry in the table of runtimes.
#[derive(Debug)]
pub(super) struct Spin;

/// Layers that the shim accepts (`engine.rs`, `supported_layers_types`): those of `spin registry push`, and a single
/// `application/wasm`.
const LAYERS: &[Shape] = &[Shape::SpinArtifact, Shape::WasmArtifact];

impl Runtime for Spin {
    fn choose(&self, view: &View<'_>) -> Choice {
        choose(view)
    }

    /// A single layer gets an `http` trigger, so it must answer HTTP.
    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        match (packaging, kind) {
            (_, ImageKind::SpinApp) => true,
            (Packaging::Layers, ImageKind::HttpComponent) => LAYERS.contains(&shape),
            _ => false,
        }
    }

    /// Of proposals it turns on those of components alone (`spin:crates/core/src/lib.rs`, `Config::default`). Its engine has memories of
    /// 64 bits on by default, but the shim makes a component of each module, and the canonical ABI takes none
    /// (`containerd-shim-spin:containerd-shim-spin/src/engine.rs`, `componentize_if_necessary`).
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

    /// The shim unpacks them into the container's root (`containerd-shim-spin:containerd-shim-spin/src/source.rs`,
    /// `Source::to_locked_app`).
    fn reads_layers_inside(&self) -> bool {
        true
    }

    fn sends_telemetry(&self) -> bool {
        true
    }

    fn asks_queues(&self) -> bool {
        true
    }

    fn compiler(&self, packaging: Packaging) -> Compiler {
        match packaging {
            Packaging::Layers => Compiler::Shim,
            Packaging::RootFilesystem => Compiler::Container,
        }
    }

    fn base_memory(&self) -> Quantity {
        // A guess: no published measurement says what the shim's own process is charged for inside the container.
        Quantity::mebibytes(24)
    }

    fn is_built_on_runwasi(&self) -> bool {
        true
    }

    fn compiles_with_wasmtime(&self) -> bool {
        true
    }
}

/// Where the shim unpacks layers before it reads them again (`containerd-shim-spin:containerd-shim-spin/src/source.rs`,
/// `…/src/utils.rs`; `spin:crates/oci/src/loader.rs`): the locked app, the modules, and the files of the components.
pub const UNPACKED: [&str; 3] = ["/spin.json", "/.cache", "/assets"];

/// A volume where the shim unpacks the layers: another container may exchange what it unpacked, and files of the volume
/// become files of a component.
fn exchanged(view: &View<'_>) -> Option<Choice> {
    if let Some(mount) = view.lost() {
        return Some(Choice::unknown(mount.reason()));
    }
    let (place, mount) = UNPACKED.iter().find_map(|place| Some((place, view.touching(place)?)))?;
    Some(Choice::unknown(format!(
        "the Spin shim unpacks the layers of the image to `{place}` and starts what it finds there, and the volume at \
         `{mount}` may hold something else; mount it elsewhere"
    )))
}

/// A folder below which the shim unpacks archives, one after the other, before it reads what it unpacked: `TMPDIR`, or else the
/// working directory (`containerd-shim-spin:containerd-shim-spin/src/utils.rs`, `handle_archive_layer`). Where the container has no
/// such variable, that of the shim's own process counts, which containerd sets to the `temp` of its configuration. It checks the folder of
/// each entry and then opens the entry by its path (`tar-rs:src/{archive,entry}.rs` at 0.4.44, `unpack_in`), so that a link which another
/// process makes there in between leads the entry over a module.
fn staged(view: &View<'_>) -> Option<Choice> {
    if !view.facts.archives {
        return None;
    }
    let (place, by) = staging(view)?;
    Some(Choice::unknown(format!(
        "the image has layers that are archives, which the Spin shim unpacks below {place}, and {by} may exchange there what the \
         shim starts; set `{TEMPORARY}` to a folder to which no other container writes"
    )))
}

/// The folder and who else may write there, if anyone may.
fn staging(view: &View<'_>) -> Option<(String, String)> {
    let folder = match view.start.temporary {
        Variable::Literal(folder) => view.here(folder),
        // The image may have a value of its own.
        Variable::Unset | Variable::Elsewhere => {
            return anyone(view)
                .map(|by| (format!("the value of `{TEMPORARY}`, which is not known here"), by));
        }
    };
    let place = text::clean_path(&folder);
    let around = view.placed_mounts().filter(|(_, at)| place == *at || path::is_below(&place, at));
    let nearest = around.max_by_key(|(_, at)| at.len());
    let by = match nearest {
        // A link in it may lead anywhere.
        _ if path::goes_up(&folder) => anyone(view),
        Some((mount, _)) if mount.shared => Some(of_volume(mount)),
        Some((mount, at)) if mount.links != Links::None && at != place => anyone(view),
        Some((mount, _)) if mount.links != Links::None => None,
        _ if kernel_tree(&place).is_some() => anyone(view),
        _ => None,
    };
    by.map(|by| (format!("`{}`", text::quoted(&place, 200)), by))
}

fn of_volume(mount: &Mount<'_>) -> String {
    format!("others who write to the volume at `{}`", text::quoted(mount.path, 200))
}

/// Who else than the container may write to any folder of it.
fn anyone(view: &View<'_>) -> Option<String> {
    match view.start.shares_memory {
        Some(_) => Some(format!("another container, which shares `{SHARED_MEMORY}`,")),
        None => view.start.mounts.iter().find(|mount| mount.shared).map(of_volume),
    }
}

fn choose(view: &View<'_>) -> Choice {
    match runwasi::source(view, LAYERS, choose) {
        Source::Layers if let Some(choice) = exchanged(view).or_else(|| staged(view)) => choice,
        // Spin ignores a function after `#`.
        Source::Layers => kept(view, Choice::Starts(program::of_layers(view.facts, None))),
        Source::File(argument) if runwasi::may_be_native(view, argument) => unsure(argument),
        Source::File(_) => kept(view, application(view)),
        Source::Settled(Choice::Starts(Program::Linux | Program::Native { .. }))
            if program::application(view).is_some() =>
        {
            missed(view.first_argument().unwrap_or_default())
        }
        Source::Settled(choice) => choice,
    }
}

fn application(view: &View<'_>) -> Choice {
    program::application(view).map_or_else(
        || {
            Choice::Nothing(format!(
                "the image holds neither layers of Spin nor `{SPIN_TOML}`, and its entry point is not a native program"
            ))
        },
        Choice::Starts,
    )
}

/// A native program by a name without a slash is searched in the shim's own `PATH`, which is not known. What is not found
/// there is no native program to the shim, and it starts the application instead.
fn unsure(argument: &str) -> Choice {
    Choice::unknown(format!(
        "`{argument}` is searched in the shim's own PATH, which is not known here, and where it is not found the shim \
         starts `{SPIN_TOML}`; write the whole path"
    ))
}

/// What the shim does not find it takes for no native program, and starts the application instead. It looks as the user of the
/// container without capabilities, who may not open the file or a folder above it
/// (`containerd-shim-wasm:src/sys/unix/container/executor.rs`, `is_linux_container`), and through the C library that it was built
/// with, which takes shorter paths and fewer links than the kernel (`musl:src/misc/realpath.c`).
fn missed(argument: &str) -> Choice {
    Choice::unknown(format!(
        "`{argument}` is a native program, and where the shim may not open it as the user of the container, it starts `{SPIN_TOML}`; \
         leave the one or the other out of the image"
    ))
}

/// Holds an application to the components that [`SPIN_RETAINED`] names.
fn kept(view: &View<'_>, choice: Choice) -> Choice {
    let Some(app) = &view.facts.spin else { return choice };
    if !matches!(&choice, Choice::Starts(Program::Wasm { kind: ImageKind::SpinApp, .. })) {
        return choice;
    }
    match view.start.retained {
        Variable::Unset => supported(app.triggers.iter(), choice),
        Variable::Literal(list) => narrowed(app, list, choice),
        // What is kept is not known.
        Variable::Elsewhere => choice,
    }
}

/// The shim starts no application with a trigger that it lacks (`containerd-shim-spin:containerd-shim-spin/src/trigger.rs`,
/// `get_supported_triggers`).
fn supported<'a>(mut triggers: impl Iterator<Item = &'a String>, choice: Choice) -> Choice {
    match triggers.find(|trigger| !handed::TRIGGERS.contains(&trigger.as_str())) {
        Some(trigger) => Choice::Nothing(format!(
            "the application has a trigger of the type `{trigger}`, and the Spin shim starts it only with triggers of the types {}; leave \
             the other out",
            handed::TRIGGERS.join(", ")
        )),
        None => choice,
    }
}

/// The shim refuses to start if the list names a component that the application does not have, or if a kept component may call one that
/// is left out. Of those that are named it keeps what a trigger starts, and looks at no others (`spin:crates/app/src/lib.rs`,
/// `retain_components`; `spin:crates/factor-outbound-networking/src/allowed_hosts.rs`, `validate_service_chaining_for_components`; tag
/// v3.6.3). Without a trigger it has nothing to wait for, and panics (`containerd-shim-spin:containerd-shim-spin/src/engine.rs`,
/// `run_trigger`, `select_all`); before 0.19 it refused an empty name.
fn narrowed(app: &SpinApp, list: &str, choice: Choice) -> Choice {
    // The pod chooses how many names there are, and the image how many components.
    let names: HashSet<&str> = handed::names(list).collect();
    let ids: HashSet<&str> = app.components.iter().map(|component| component.id.as_str()).collect();
    if let Some(name) = handed::names(list).find(|name| !ids.contains(name)) {
        return Choice::Nothing(format!(
            "`{SPIN_RETAINED}` names the component `{name}`, which the application does not have, so the shim does not start it; \
             name those that it has"
        ));
    }
    let is_kept =
        |component: &&SpinComponent| names.contains(component.id.as_str()) && !component.triggers.is_empty();
    let kept = || app.components.iter().filter(is_kept);
    if kept().next().is_none() {
        return Choice::Nothing(format!(
            "`{SPIN_RETAINED}` names no component that a trigger of the application starts, so the shim starts nothing; name one, or leave \
             the variable out"
        ));
    }
    let mut chains = kept().flat_map(|component| {
        component.allowed_outbound_hosts.iter().filter_map(move |host| Some((component, host.chained()?)))
    });
    match chains.find(|(_, target)| !names.contains(target)) {
        Some((component, target)) => Choice::Nothing(format!(
            "component `{}` may call `{target}`, which `{SPIN_RETAINED}` leaves out, so the shim does not start the application; \
             name it there too",
            component.id
        )),
        None => supported(kept().flat_map(|component| &component.triggers), choice),
    }
}
