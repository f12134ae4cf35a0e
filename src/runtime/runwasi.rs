//! What runwasi's shims have in common, the Spin shim included: they are all built on `containerd-shim-wasm`, which
//! chooses the source of a program before it asks the engine
//! (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`, `…/src/sandbox/{context,path,mod}.rs`).
//!
//! Its check for a native program, `is_linux_container`, may miss one that is found here:
//!
//! - a name without a slash is searched in the `PATH` of the shim's own process;
//! - the check runs as the user of the container and without capabilities, who may not be able to read the file or to enter a folder
//!   above it (`youki:crates/libcontainer/src/process/init/process.rs`, `validate` after `set_id` and `drop_privileges`);
//! - the C library of the shim's releases takes paths of less than 4096 bytes and fewer than 40 links (`musl:src/misc/realpath.c`), and
//!   here 8192 bytes and 40 links are followed.
//!
//! What starts where it misses one, branch by branch of `Executor::ty`:
//!
//! | the name | what the shim looks at then | what may start | who answers |
//! |---|---|---|---|
//! | any, of an image with Wasm layers | the layers: the check is not made | the layers, as without a native program | `layers` |
//! | any, where the layers cannot be read | files, of which such an image has none | what the mounts bring | `fallback` |
//! | with a slash and without `#` | the same path, by the same calls, which fail alike | nothing | `native` |
//! | without both | the same name in the shim's `PATH`, then in the working directory, where it has to be a module | another file of this name | `native_everywhere`, `starts_nothing_here`, `ends_in_path` |
//! | the same, and a volume of the image that a link of a pod's volume may lead over the program | the same | another file of this name | `or_hidden` |
//! | with `#` | what is before it | a file of another name | `before_function` |
//! | none | no file | nothing | `file` |
//! | any, under the Spin shim, whose engine takes everything | `/spin.toml` | the application | `missed` of `spin.rs` |
//!
//! Where the check finds a native program, nothing else is tried (`Executor::exec`): it starts, or the container fails.

use super::choice::Choice;
use super::handover::{Extra, Files, HandedOver, Handover};
use crate::image::entry::{self, At, SEARCH_PATH, View, cut_function};
use crate::image::names::{EVERY_PATH, is_of_programs};
use crate::image::{FileClass, ImageFacts, ImageKind, Packaging, Program, Shape, kind, path, program};
use crate::text;

/// Layers that runwasi's own shims accept (`runwasi:crates/containerd-shim-wasm/src/shim/shim.rs`,
/// `supported_layers_types`).
pub(super) const LAYERS: &[Shape] = &[Shape::WasmArtifact, Shape::RunwasiLayers];

/// How a container that was killed for memory is shown under containerd-shim-wasm, as seen on a kubelet. runc and youki
/// show `OOMKilled`.
pub(super) const OUT_OF_MEMORY: &str =
    "which runwasi's shims show as `Error` with exit code 137, not as `OOMKilled`";

/// Where the program comes from.
pub(super) enum Source<'a> {
    /// The image's Wasm layers, whatever the entry point says.
    Layers,
    /// The file that the entry point names; empty if nothing names one.
    File(&'a str),
    /// Decided without the engine.
    Settled(Choice),
}

/// The order of the executor: Wasm layers win, then a native program, then the engine is asked. `layers` are those that
/// the shim accepts, `choose` is its whole choice.
pub(super) fn source<'a>(view: &View<'a>, layers: &[Shape], choose: fn(&View<'_>) -> Choice) -> Source<'a> {
    let facts = view.facts;
    if layers.contains(&facts.shape) {
        return fallback(view, choose).map_or(Source::Layers, Source::Settled);
    }
    if matches!(facts.shape, Shape::SpinLegacy | Shape::Other) {
        return Source::Settled(Choice::unknown(program::conclusion(facts)));
    }
    if matches!(facts.shape, Shape::WasmArtifact | Shape::RunwasiLayers | Shape::SpinArtifact) {
        return Source::Settled(files_only(view, choose, "the shim takes no layers of this kind"));
    }
    let argument = view.first_argument().unwrap_or_default();
    match before_the_engine(view, argument) {
        Some(choice) => Source::Settled(choice),
        None => Source::File(argument),
    }
}

/// The shim reads only the layers of a manifest. If the image's name leads to an index, or reading the layers fails for
/// any other reason, it takes the image for a root file system
/// (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/instance.rs`, `Instance::new`). An image of Wasm layers
/// has no files, but the pod's mounts may provide what the shim then starts.
fn fallback(view: &View<'_>, choose: fn(&View<'_>) -> Choice) -> Option<Choice> {
    let facts = view.facts;
    if let Some(why) = among_mounts(view, choose) {
        return Some(Choice::unknown(format!(
            "when the shim cannot read the layers, it looks for files, and mounts or variables of the pod can give it \
             some: {why}"
        )));
    }
    (facts.digest != facts.manifest_digest).then(|| {
        Choice::Nothing(format!(
            "{}; name its manifest by digest, or push it without an index (`{}`)",
            behind_an_index(facts),
            facts.manifest_digest
        ))
    })
}

/// Why nothing starts of Wasm layers behind an index. Where it holds nothing for a node the pod does not get as far as the shim, and this is
/// the only place that says so: nothing is known to start, so without a Wasm class no rule judges the pod.
fn behind_an_index(facts: &ImageFacts) -> String {
    let Some(platform) = &facts.unmatched_platform else {
        return "the image is an index, behind which the shims read no Wasm layers".into();
    };
    let lacks = if platform.starts_with("linux/") { "the nodes" } else { "Linux" };
    format!(
        "the image is an index that holds nothing for {lacks}, only `{platform}`: containerd does not pull it, and the shims read \
         no Wasm layers behind an index"
    )
}

/// The choice of a runtime that does not take the image's layers: it looks for files, and only mounts can give it some.
pub(super) fn files_only(view: &View<'_>, choose: fn(&View<'_>) -> Choice, nothing: &str) -> Choice {
    among_mounts(view, choose).map_or_else(
        || Choice::Nothing(nothing.into()),
        |why| {
            Choice::unknown(format!(
                "{nothing}, so it looks for files, and mounts or variables of the pod can give it some: {why}"
            ))
        },
    )
}

/// Why a runtime that looks for files may find a program although the image has Wasm layers and no files.
fn among_mounts(view: &View<'_>, choose: fn(&View<'_>) -> Choice) -> Option<String> {
    let facts = without_layers(view.facts);
    let other = view.of_other(&facts);
    match choose(&other) {
        Choice::Starts(Program::Unknown { reason }) => Some(reason.into()),
        Choice::Starts(_) => Some("a program is found among the mounts; leave these out".into()),
        Choice::Nothing(_) => None,
    }
}

/// The image as a shim sees it that could not read the layers: its config, and no file.
fn without_layers(facts: &ImageFacts) -> ImageFacts {
    ImageFacts {
        shape: Shape::ScratchRootfs,
        scanned: true,
        entrypoint: facts.entrypoint.clone(),
        cmd: facts.cmd.clone(),
        working_dir: facts.working_dir.clone(),
        env: facts.env.clone(),
        search_path: facts.search_path.clone(),
        ..ImageFacts::blank(&facts.digest, &facts.manifest_digest)
    }
}

/// What a root file system decides before the engine is asked.
fn before_the_engine(view: &View<'_>, argument: &str) -> Option<Choice> {
    if !view.facts.scanned {
        return Some(Choice::unknown(format!(
            "`{argument}` will be started by a Wasm runtime, but the layers of the image were not read"
        )));
    }
    if let Some(mount) = view.lost() {
        return Some(Choice::unknown(mount.reason()));
    }
    if let Some(before) = entry::expansion(argument).and_then(|at| argument.get(..at)) {
        return variable(view, argument, before);
    }
    native(view, argument)
}

/// A name that the kubelet completes. Whatever the value, an image without files starts nothing if no mount is where
/// the text before the value leads, so that text must begin a name: of dots alone, or at the end of a folder, it does
/// not say which.
fn variable(view: &View<'_>, argument: &str, before: &str) -> Option<Choice> {
    let unknown = Some(Choice::Starts(program::variable(argument)));
    let begun = before.rsplit('/').next().is_some_and(|part| !part.trim_matches('.').is_empty());
    let here = view.here(before);
    // A part of the path may be a link of a volume.
    let known = begun && !path::goes_up(&here);
    if !view.facts.files.is_empty() || !view.facts.modules.is_empty() || !known {
        return unknown;
    }
    let start = text::clean_path(&here);
    let searched = || SEARCH_PATH.iter().chain(&HOST_FOLDERS).any(|folder| view.hiding(folder).is_some());
    let bare = !before.contains('/');
    let found = view.hiding(&start).is_some()
        || view.mounts().any(|mount| mount.starts_with(&start) || (bare && is_of_programs(mount)))
        || (bare && searched());
    if found { unknown } else { Some(nothing(argument)) }
}

/// A native program under the whole name, `#` included. A name without a slash is searched in the shim's own `PATH`,
/// not in the working directory.
fn native(view: &View<'_>, argument: &str) -> Option<Choice> {
    if is_bare(argument) {
        return match search(view, argument) {
            Search::Hidden(mount) => Some(Choice::Starts(program::hidden_by(argument, &mount))),
            Search::Files(files) => native_everywhere(view, argument, &files),
            Search::TooMany => Some(too_many(argument)),
        };
    }
    match view.at(&view.here(argument)) {
        At::File(source, FileClass::Native { magic, runs: true, .. }) => {
            Some(Choice::Starts(program::native(view.facts, source, magic)))
        }
        At::Hidden(mount) => Some(Choice::Starts(program::hidden_by(argument, &mount))),
        At::File(..) | At::Nothing => None,
    }
}

/// Whether a bare name leads to a native program in one of the folders in which it may be found first.
pub(super) fn may_be_native(view: &View<'_>, argument: &str) -> bool {
    let native = |class: &FileClass| {
        matches!(class, FileClass::Native { .. } | FileClass::Unreadable { .. } | FileClass::Varies { .. })
    };
    is_bare(argument)
        && match search(view, argument) {
            Search::Hidden(_) | Search::TooMany => true,
            Search::Files(files) => files.iter().any(|(_, class)| native(class)),
        }
}

/// A bare name is native if every file with this name is a program that every user may execute: whichever of them the
/// shim finds first, it starts. One that not every user may execute is passed over by the check for programs, and read by the
/// engine, which runs machine code of its own in it. That one of them is not on every platform, or not the same, makes
/// no difference; nor does a text in another folder, such as `/etc/default/nginx`, where nothing but a program can start.
fn native_everywhere(view: &View<'_>, argument: &str, files: &[(&str, &FileClass)]) -> Option<Choice> {
    let runs = |class: &FileClass| {
        matches!(class, FileClass::Native { runs: true, .. } | FileClass::Varies { native: true, .. })
    };
    let is_harmless = |at: &str, class: &FileClass| match class {
        FileClass::Data => true,
        FileClass::Other => !is_of_programs(path::split(at).0),
        _ => runs(class),
    };
    if !files.iter().all(|(at, class)| is_harmless(at, class)) {
        return None;
    }
    let program = files.iter().find_map(|(source, class)| match class {
        FileClass::Native { magic, runs: true, .. } => {
            Some(Choice::Starts(program::native(view.facts, source, magic)))
        }
        _ => None,
    })?;
    if starts_nothing_here(view, argument) {
        return Some(program);
    }
    ends_in_path(argument, files).then(|| or_hidden(view, program))
}

/// A native program at which a search ends, unless a volume of the image may hide it there.
pub(super) fn or_hidden(view: &View<'_>, program: Choice) -> Choice {
    view.volume_over_programs().map_or(program, |volume| Choice::unknown(volume.reason()))
}

/// Whether the file of this name in the working directory is none that the engine starts, for which it is asked where the check for
/// programs finds nothing in the `PATH`, or first something that every user may execute and that is no program. A volume may hide it.
fn starts_nothing_here(view: &View<'_>, argument: &str) -> bool {
    match view.at(&view.here(argument)) {
        At::File(_, class) => class.is_native(),
        At::Hidden(_) => false,
        At::Nothing => true,
    }
}

/// Whether the check for programs finds one of these, if all of them are there.
fn ends_in_path(argument: &str, files: &[(&str, &FileClass)]) -> bool {
    let is_found = |at: &str| EVERY_PATH.iter().any(|folder| path::join(folder, argument) == at);
    let is_first = !files.iter().any(|(_, class)| matches!(class, FileClass::Other));
    let found = |(at, class): &(&str, &FileClass)| {
        matches!(class, FileClass::Native { found: true, .. }) && is_found(at)
    };
    is_first && files.iter().any(found)
}

/// The program of an image with Wasm layers, as runwasi's own shims start it.
pub(super) fn layers(view: &View<'_>) -> Choice {
    let function = view.first_argument().and_then(|argument| cut_function(argument).1);
    if function == Some("") {
        return no_function(view.first_argument().unwrap_or_default());
    }
    Choice::Starts(program::of_layers(view.facts, function))
}

/// The program in a file. The check before the start opens one file, relative to the working directory; the start
/// itself reads the first in `PATH`, or else in the working directory. So all of them must be the same file.
pub(super) fn file(view: &View<'_>, argument: &str) -> Choice {
    let facts = view.facts;
    let (name, function) = cut_function(argument);
    if function == Some("") {
        return no_function(argument);
    }
    if !is_bare(name) {
        return of_place(view.at(&view.here(name)), facts, name, function);
    }
    let mut files = match search(view, name) {
        Search::Hidden(mount) => return Choice::Starts(program::hidden_by(name, &mount)),
        Search::Files(files) => files,
        Search::TooMany => return too_many(name),
    };
    match view.at(&view.here(name)) {
        At::Hidden(mount) => return Choice::Starts(program::hidden_by(name, &mount)),
        At::File(at, class) if files.iter().all(|(known, _)| *known != at) => files.push((at, class)),
        At::File(..) | At::Nothing => {}
    }
    match files.as_slice() {
        [] => nothing(name),
        [(at, class)] => of_place(At::File(at, class), facts, name, function),
        [(one, _), (another, _), ..] => Choice::unknown(format!(
            "`{name}` is found by the shim's own PATH, and the image has it at `{one}` and at `{another}`; write the \
             whole path"
        )),
    }
}

pub(super) fn too_many(name: &str) -> Choice {
    Choice::unknown(format!(
        "`{name}` is searched in more than {MAX_PLACES} places, which are not all looked at; write the whole path"
    ))
}

/// The shim then looks for a function without a name.
fn no_function(argument: &str) -> Choice {
    Choice::Nothing(format!("`{argument}` names no function after `#`; leave the `#` out to start `_start`"))
}

fn of_place(found: At<'_>, facts: &ImageFacts, name: &str, function: Option<&str>) -> Choice {
    match found {
        At::Hidden(mount) => Choice::Starts(program::hidden_by(name, &mount)),
        At::File(at, FileClass::Wasm) => Choice::Starts(program::run(facts, at, function)),
        At::File(source, FileClass::Native { .. }) => Choice::Nothing(format!(
            "`{source}` is a native program that not every user may execute, so the shim takes it for Wasm and fails; add the \
             permission (`chmod +x`)"
        )),
        At::File(at, FileClass::Unreadable { message }) => Choice::Starts(program::unreadable(at, message)),
        At::File(at, FileClass::Varies { .. }) => Choice::Starts(program::unreadable(at, entry::DIFFERS)),
        At::File(
            _,
            FileClass::Link { .. } | FileClass::PerPlatform { .. } | FileClass::Other | FileClass::Data,
        )
        | At::Nothing => nothing(name),
    }
}

pub(super) fn nothing(name: &str) -> Choice {
    if name.is_empty() {
        return Choice::Nothing("neither the pod nor the image names a program; set `command`".into());
    }
    Choice::Nothing(format!("`{name}` is neither Wasm nor a program in the layers of the image"))
}

/// Whether a name has one component, which sends the search to `PATH` (`Path::components` of Rust's standard library):
/// `/` alone is one, a leading `.` counts, a trailing slash does not.
pub(super) fn is_bare(name: &str) -> bool {
    let parts = name.split('/').filter(|part| !matches!(*part, "" | ".")).count();
    let leads = usize::from(name.starts_with('/') || name == "." || name.starts_with("./"));
    leads + parts <= 1
}

/// Folders that distributions of nodes add to the `PATH` of a shim. A volume above one of them may bring a program. Those of
/// games are in the `PATH` of Debian's logins (`shadow:etc/login.defs`, `ENV_PATH`), from which a service may be started.
const HOST_FOLDERS: [&str; 5] =
    ["/opt/bin", "/snap/bin", "/var/lib/rancher/k3s/data/current/bin", "/usr/games", "/usr/local/games"];

enum Search<'a> {
    /// A volume is mounted in one of the folders, so a file of it may be found first.
    Hidden(String),
    /// Every file of this name in a folder of programs, the usual folders first, links followed.
    Files(Vec<(&'a str, &'a FileClass)>),
    /// More files of this name than are compared.
    TooMany,
}

/// Most files of one name that are looked at. The usual folders are six, and an image that has a program in a few hundred
/// of them is not made by any tool; each container would pay for all of them.
pub(super) const MAX_PLACES: usize = 256;

/// The shim searches the `PATH` of its own process, which is not known: it has the usual folders, and others that only
/// the node's setup tells (k3s adds `…/bin/aux` below its data folder, `k3s-io/k3s:cmd/k3s/main.go`, `stageAndRun`). A
/// link may lead to any folder from there. So every file of this name counts, and every mount in such a place.
fn search<'a>(view: &View<'a>, name: &str) -> Search<'a> {
    let named = !name.is_empty() && !name.starts_with('/');
    if let Some(mount) = view.mounts().find(|mount| named && is_of_programs(mount)) {
        return Search::Hidden(mount.to_string());
    }
    let usual = SEARCH_PATH.iter().chain(&HOST_FOLDERS).copied();
    let linked = view.facts.program_folders.iter().map(String::as_str);
    let folders = usual.chain(linked).map(|folder| path::join_short(folder, name));
    let other = view.facts.named(name).map(|place| Some(place.to_string()));
    // What is too long leads nowhere, and counts all the same.
    let mut places: Vec<Option<String>> = folders.chain(other).take(MAX_PLACES + 1).collect();
    if places.len() > MAX_PLACES {
        return Search::TooMany;
    }
    // `/` is the same in every folder.
    places.dedup();
    let mut found: Vec<(&str, &FileClass)> = Vec::new();
    for place in places {
        match view.at_short(place.as_ref()) {
            At::Hidden(mount) => return Search::Hidden(mount),
            At::File(at, class) if found.iter().all(|(known, _)| *known != at) => {
                found.push((at, class));
            }
            At::File(..) | At::Nothing => {}
        }
    }
    Search::Files(found)
}

/// Whether the shims accept an image in this packaging: their own layers, or files.
pub(super) fn unpacks(shape: Shape, packaging: Packaging) -> bool {
    packaging == Packaging::RootFilesystem || LAYERS.contains(&shape)
}

/// Whether the shims whose engines know no components run such an image.
pub(super) fn runs_modules(shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
    unpacks(shape, packaging) && kind == ImageKind::Module
}

/// What the shims of WAMR and wasmer hand over: they open `/` with every mount and pass every variable. How far their
/// network reaches is unknown, so it is assumed to be unrestricted.
pub(super) fn hands_over_root_and_network(kind: ImageKind) -> Handover {
    let handed =
        HandedOver { files: Files::Root, network: true, extras: &[Extra::Threads], ..HandedOver::COMMAND };
    if kind == ImageKind::Module { Handover::Only(handed) } else { Handover::Everything }
}

/// What runwasi's own shims start.
pub(super) fn choose(view: &View<'_>) -> Choice {
    match source(view, LAYERS, choose) {
        Source::Layers => as_command(view.facts, layers(view)),
        Source::File(argument) => as_command(view.facts, file(view, argument)),
        Source::Settled(Choice::Starts(Program::Linux | Program::Native { .. }))
            if let Some(name) = before_function(view) =>
        {
            missed(view.first_argument().unwrap_or_default(), name)
        }
        Source::Settled(choice) => choice,
    }
}

/// The part of the name before `#`, if it leads to what may start where the check for programs misses the one under the whole name.
/// That there is a function of this name does not matter: what is instantiated runs before the shim looks for it.
fn before_function<'a>(view: &View<'a>) -> Option<&'a str> {
    let (name, function) = cut_function(view.first_argument()?);
    let may_start = function.is_some() && !matches!(file(view, name), Choice::Nothing(_));
    may_start.then_some(name)
}

/// The shim looks as the user of the container, in its own `PATH`, and through its own C library.
fn missed(argument: &str, name: &str) -> Choice {
    Choice::unknown(format!(
        "`{}` is a native program, and where the shim does not find it, or may not open it as the user of the container, it starts `{}` \
         as Wasm, the part before `#`; give the program a name without `#`",
        text::quoted(argument, 200),
        text::quoted(name, 200)
    ))
}

/// The shims know the handler of WASI 0.2 alone. What exports another one is instantiated like a command before the shim finds
/// nothing to call, and code that runs then can use all that a command is handed
/// (`runwasi:crates/containerd-shim-wasmtime/src/instance.rs`, `ComponentTarget::new`).
fn as_command(facts: &ImageFacts, choice: Choice) -> Choice {
    let Choice::Starts(Program::Wasm { kind: ImageKind::HttpComponent, packaging, modules }) = choice else {
        return choice;
    };
    let known = facts.modules_at(&modules).all(kind::is_http_0_2);
    let kind = if known { ImageKind::HttpComponent } else { ImageKind::Component };
    Choice::Starts(Program::Wasm { kind, packaging, modules })
}
