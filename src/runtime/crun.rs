//! crun with one of its Wasm handlers, read at 1.29.1. A build of crun has one or more handlers, so a RuntimeClass that leads to crun does
//! not tell which; the platform's configuration does. It starts files only, and what starts is, branch by branch:
//!
//! | the branch | what starts | source | who answers |
//! |---|---|---|---|
//! | an image of Wasm layers | nothing of it: each handler opens a file | `crun:src/libcrun/handlers/{wasmedge,wasmtime,wasmer,wamr}.c` | `choose`, `runs` |
//! | a name with a slash | the file at this one path, for crun and for its handlers; `#` is an ordinary character of it | `crun:src/libcrun/utils.c`, `find_executable`; `crun:src/libcrun/handlers/handler-utils.c` | `places`, `found` |
//! | a name without one | the first file of the name that the container's user may execute in the `PATH` of the container, else the name from the working directory | `crun:src/libcrun/utils.c`, `find_executable`; `crun:src/libcrun/container.c`, `container_init_setup` | `places`, `found` |
//! | a native program that crun misses: behind a folder that the container's user may not enter, a file that it may not execute, or a path that is too long for the kernel | another file of the name, by a search alone: a name with a slash is one path | `crun:src/libcrun/utils.c`, `find_executable` | `found`, `too_long` |
//! | the same, because a link of a pod's volume leads a volume of the image over the program | another file of the name, by a search | `containerd:internal/cri/opts/spec_linux_opts.go`, `orderedMounts` | `or_hidden` of `runwasi.rs` |
//! | an annotation that names a handler | that handler with whatever file is named, before the handlers are asked whether they take the container | `crun:src/libcrun/custom-handler.c`, `libcrun_configure_handler` | `asked` |
//! | an annotation that asks for Wasm, and an ELF file | its machine code under WasmEdge, which takes a module out of it; the other handlers fail | `crun:src/libcrun/handlers/handler-utils.c`, `wasm_can_handle_container`; `WasmEdge:lib/loader/loader.cpp`, `parseWasmUnit` | `loads_elf` |
//! | the command `/`, where the build has a handler for Spin | the application of the working directory | `crun:src/libcrun/handlers/spin.c` | `asked` |
//! | Wasm text | what wasmer's handler assembles; that of wasmtime gives the assembler another address than that of the text | `crun:src/libcrun/handlers/{wasmer,wasmtime}.c` | `program_of`, `provides` |
//! | what is below a volume of the image | where the node mounts an empty folder there, what there is besides | `cri-o:server/container_create.go`, `addImageVolumes` | `or_emptied` of `emptied.rs` |

use super::answers::{Compiler, NativeWay, POINTER, Runtime, TYPED_REFERENCE};
use super::choice::Choice;
use super::emptied::or_emptied;
use super::handover::{Files, HandedOver, Handover, Variables};
use super::{runwasi, runwasi_wasmedge};
use crate::image::annotation::{self, HANDLER, OF_MANIFEST, VARIANT, on_node};
use crate::image::entry::{self, At, SEARCH_PATH, Variable, View};
use crate::image::{Feature, FileClass, ImageFacts, ImageKind, Packaging, Program, Shape, path, program};
use crate::text;

/// crun with one handler.
#[derive(Debug)]
pub(super) struct Crun {
    /// Its name for crun.
    handler: &'static str,
    /// What a core module gets.
    handed: HandedOver,
    /// What the engine links beyond WASI, and runs beyond version 2.0 of WebAssembly.
    provides: &'static [Feature],
    native_ways: &'static [NativeWay],
    wasmtime: bool,
}

/// WasmEdge: what it hands over and its ways to native code are those behind runwasi's shim. But crun loads any version of the
/// library: exceptions, garbage collection and references to functions are on by default from 0.16.0 on, and memories of 64 bits
/// from 0.17.0 on (`WasmEdge:include/common/configure.h`, `Configure`); the handler adds proposals and takes none away.
pub(super) const CRUN_WASMEDGE: Crun = Crun {
    handler: "wasmedge",
    handed: runwasi_wasmedge::HANDED_OVER,
    provides: &[
        Feature::WasmedgeSockets,
        Feature::WasiNn,
        Feature::ExceptionHandling,
        Feature::GarbageCollection,
        Feature::FunctionReferences,
        Feature::Memory64,
    ],
    native_ways: runwasi_wasmedge::NATIVE_WAYS,
    wasmtime: false,
};

/// wasmtime: all variables and arguments, the working directory opened as `.`, no sockets. Text does not start: up to
/// 1.29.1 the handler gives the assembler another address than that of the text it has read. Only wasmer's handler
/// assembles text. crun loads any version of the library too, but the handler calls it as it was before 27 (`wasi_config_preopen_dir`), and
/// there no proposal that is named here is on by default (`wasmtime:crates/wasmtime/src/config.rs`, `features`, line 1808 at 25.0.0).
pub(super) const CRUN_WASMTIME: Crun = Crun {
    handler: "wasmtime",
    handed: HandedOver { files: Files::WorkingDirectory, ..HandedOver::COMMAND },
    provides: &[],
    native_ways: &[],
    wasmtime: true,
};

/// wasmer: no variables, no files, no network, and all arguments joined into one. The engine knows exceptions and memories of 64 bits, and
/// has them off where its options were read (`wasmer:lib/types/src/features.rs`, `Features::new`).
pub(super) const CRUN_WASMER: Crun = Crun {
    handler: "wasmer",
    handed: HandedOver { variables: Variables::None, ..HandedOver::COMMAND },
    provides: &[Feature::WasiUnstable, Feature::WasiThreads, Feature::SharedMemory, Feature::Text],
    native_ways: &[],
    wasmtime: false,
};

/// WAMR: variables, arguments, `/`, and an address pool of `0.0.0.0/0` and `::/0` with look-ups of any name. Which proposals the library
/// runs is chosen when it is built (`wasm-micro-runtime:build-scripts/config_common.cmake`, `WAMR_BUILD_EXCE_HANDLING`, `WAMR_BUILD_GC`,
/// `WAMR_BUILD_MEMORY64`); exceptions are the legacy ones.
pub(super) const CRUN_WAMR: Crun = Crun {
    handler: "wamr",
    handed: HandedOver { files: Files::Root, network: true, ..HandedOver::COMMAND },
    provides: &[
        Feature::WasiUnstable,
        Feature::WasiThreads,
        Feature::SharedMemory,
        Feature::ExceptionHandling,
        Feature::GarbageCollection,
        Feature::FunctionReferences,
        Feature::Memory64,
    ],
    native_ways: &[],
    wasmtime: false,
};

impl Runtime for Crun {
    fn choose(&self, view: &View<'_>) -> Choice {
        self.asked(view, or_emptied(view, choose))
    }

    /// Every handler loads core modules (`wasmtime_module_new` and its kin). Components under wasmtime are a proposal
    /// that no release has (crun pull request 1877), so whether a build runs them is not known here.
    fn runs(&self, _shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        packaging == Packaging::RootFilesystem && kind == ImageKind::Module
    }

    fn provides(&self, feature: Feature) -> bool {
        self.provides.contains(&feature)
    }

    fn hands_over(&self, kind: ImageKind) -> Handover {
        match kind {
            ImageKind::Module => Handover::Only(self.handed),
            _ => Handover::Everything,
        }
    }

    fn compiler(&self, _packaging: Packaging) -> Compiler {
        if self.wasmtime { Compiler::Crun } else { Compiler::Container }
    }

    fn table_element_bytes(&self) -> u64 {
        if self.handler == "wasmedge" { TYPED_REFERENCE } else { POINTER }
    }

    /// crun loads the engine in the process whose root is the container's already, and distributions build it with glibc
    /// (`crun:src/libcrun/container.c`, `container_init`). It finds the home folder of the user in `/etc/passwd` itself (`utils.c`,
    /// `set_home_env`).
    fn native_ways(&self) -> Vec<NativeWay> {
        let resolver: &[NativeWay] = if self.handed.network { &[NativeWay::Resolver] } else { &[] };
        [self.native_ways, resolver].concat()
    }

    fn compiles_with_wasmtime(&self) -> bool {
        self.wasmtime
    }
}

/// The handlers that run Wasm.
const WASM_HANDLERS: [&str; 4] = ["wasmedge", "wasmtime", "wasmer", "wamr"];

impl Crun {
    /// The choice, unless another handler may make it. An annotation names any handler of the build, before the handlers
    /// are asked whether they take the container; that of Spin takes every container whose command is `/`, and starts the
    /// application of the working directory (`crun:src/libcrun/custom-handler.c`, `libcrun_configure_handler`;
    /// `handlers/spin.c`).
    fn asked(&self, view: &View<'_>, chosen: Choice) -> Choice {
        if matches!(&chosen, Choice::Starts(Program::Linux)) && self.loads_elf(view) {
            return Choice::unknown(
                "an annotation asks crun for a Wasm handler, and WasmEdge runs the machine code of a program that its compiler \
                 made instead of starting it; use the value `wasm-smart` or `compat-smart` beside Linux containers",
            );
        }
        let wasm = matches!(&chosen, Choice::Starts(Program::Wasm { .. }));
        if !wasm && !matches!(&chosen, Choice::Nothing(_)) {
            return chosen;
        }
        if let Some(reason) = acts_on_node(view) {
            return Choice::unknown(reason);
        }
        let known = ["wasm", "wasm-smart", self.handler];
        let mut others = named_handlers(view, HANDLER).filter(|handler| !known.contains(handler));
        match others.next() {
            Some(other) if WASM_HANDLERS.contains(&other) => Choice::Nothing(format!(
                "the annotation `{HANDLER}: {other}` asks crun for another handler than `{}`, which the profile of the class \
                 describes; leave it out",
                self.handler
            )),
            Some(other) => Choice::unknown(format!(
                "the annotation `{HANDLER}: {}` asks crun for a handler of which it is not known here what it starts; write \
                 `wasm`",
                text::quoted(other, 200)
            )),
            None if view.first_argument() == Some("/") && !view.works_in_root() => Choice::unknown(
                "crun's handler for Spin starts the application of the working directory, which is not `/`, and others \
                     start that of `/`; leave `workingDir` out",
            ),
            None => chosen,
        }
    }
}

impl Crun {
    /// Whether WasmEdge may be given an ELF file, out of which it takes a module with its machine code
    /// (`WasmEdge:lib/loader/loader.cpp`, `parseWasmUnit`). The handler that an annotation asks for gets whatever file is
    /// named (`crun:src/libcrun/custom-handler.c`, `libcrun_configure_handler`; `handlers/handler-utils.c`,
    /// `wasm_can_handle_container`). The others fail on one, as runwasi's shim does, which passes on bytes.
    fn loads_elf(&self, view: &View<'_>) -> bool {
        let argument = view.first_argument().unwrap_or_default();
        let is_elf = |class: &FileClass| match class {
            FileClass::Native { magic, .. } => magic == "ELF",
            FileClass::Varies { native, .. } => *native,
            _ => false,
        };
        let may_be_elf = || {
            places(view, argument).is_none_or(|places| {
                let mut places = places.iter().take(runwasi::MAX_PLACES);
                places
                    .any(|place| matches!(view.at_short(place.as_ref()), At::File(_, class) if is_elf(class)))
            })
        };
        self.handler == "wasmedge" && asks_for_wasm(view, argument) && may_be_elf()
    }
}

/// Why crun may act on the node, if an annotation of the pod or of the image's manifest makes it. No container runtime of Kubernetes hands
/// it those of a manifest; one that did would give them the same effect.
fn acts_on_node(view: &View<'_>) -> Option<String> {
    if let Some((key, _)) = view.start.annotations.and_then(|annotations| on_node(annotations).next()) {
        return Some(format!(
            "the annotation `{}` makes crun act on the node as root, outside of the container and with what the pod names, where \
             it reaches crun; leave it out",
            text::quoted(key, 200)
        ));
    }
    let of_image = view.facts.evidence.iter();
    let mut of_image = of_image.filter_map(|one| Some((annotation::seen_at(&one.seen)?, one.value.as_str())));
    let (key, _) = of_image.find(|&(key, value)| annotation::acts_on_node(key, value))?;
    Some(format!(
        "the image's annotation `{}` makes crun act on the node as root, outside of the container and with what the image names, \
         where it reaches crun; build the image without it",
        text::quoted(key, 200)
    ))
}

/// Whether an annotation of the pod or of the image's manifest asks for a Wasm handler for this program.
fn asks_for_wasm(view: &View<'_>, argument: &str) -> bool {
    let name = argument.to_ascii_lowercase();
    let named = [".wasm", ".wat"].iter().any(|ending| name.ends_with(ending));
    let asks = |value: &str| match value {
        "wasm-smart" | "compat-smart" => named,
        "compat" | "wasm" | "wasmedge" => true,
        _ => false,
    };
    named_handlers(view, HANDLER).chain(named_handlers(view, VARIANT)).any(asks)
}

/// The handlers that annotations of the pod and of the image's manifest name; which of them reach crun depends on the
/// configuration of the node's container runtime.
fn named_handlers<'a>(view: &View<'a>, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let of_pod = view.start.annotations.and_then(|annotations| annotations.get(key));
    let seen = format!("{OF_MANIFEST}{key}");
    let of_image = view.facts.evidence.iter().filter(move |evidence| evidence.seen == seen);
    of_pod.into_iter().chain(of_image.map(|evidence| &evidence.value)).map(String::as_str)
}

/// What crun and youki say of an image of Wasm layers.
pub(super) const LAYERS_ARE_NO_FILES: &str = "crun and youki start files, and the image has Wasm layers";

/// What crun starts, natively or with a Wasm handler. `#` has no special meaning.
pub(super) fn choose(view: &View<'_>) -> Choice {
    let facts = view.facts;
    match facts.shape {
        Shape::SpinLegacy | Shape::Other => return Choice::unknown(program::conclusion(facts)),
        Shape::WasmArtifact | Shape::RunwasiLayers | Shape::SpinArtifact => {
            return runwasi::files_only(view, choose, LAYERS_ARE_NO_FILES);
        }
        _ => {}
    }
    let argument = view.first_argument().unwrap_or_default();
    if !facts.scanned {
        return Choice::unknown(format!(
            "`{argument}` will be started by a Wasm runtime, but the layers of the image were not read"
        ));
    }
    if let Some(mount) = view.lost() {
        return Choice::unknown(mount.reason());
    }
    if entry::is_expanded(argument) {
        return Choice::Starts(program::variable(argument));
    }
    found(view, argument)
}

/// A name with a slash is a path. One without is searched in the container's `PATH`, and else taken relative to the
/// working directory (`crun:src/libcrun/utils.c`, `find_executable`; `container.c`, `container_init_setup`).
fn found(view: &View<'_>, argument: &str) -> Choice {
    let facts = view.facts;
    let Some(places) = places(view, argument) else {
        return Choice::unknown(format!(
            "`{argument}` is searched in the container's PATH, whose value is not in the pod spec; write the whole path"
        ));
    };
    if places.len() > runwasi::MAX_PLACES {
        return runwasi::too_many(argument);
    }
    if places.len() > 1 && places.iter().flatten().any(|place| place.len() >= path::KERNEL_LENGTH) {
        return too_long(argument);
    }
    let mut files: Vec<(&str, &FileClass)> = Vec::new();
    for (number, place) in places.iter().enumerate() {
        match view.at_short(place.as_ref()) {
            // A search passes over what no user may execute; where it finds nothing, that is opened under the name as it is.
            At::File(_, FileClass::Data) if number + 1 < places.len() => {}
            At::Hidden(mount) => {
                return found_before(view, &files, argument)
                    .unwrap_or_else(|| Choice::Starts(program::hidden_by(argument, &mount)));
            }
            At::File(at, class) if files.iter().all(|(known, _)| *known != at) => files.push((at, class)),
            At::File(..) | At::Nothing => {}
        }
    }
    // Some versions take a name with a dot before it for a path.
    let is_first = |at: &str| path::split(at).1 == argument && !argument.starts_with('.');
    // Which of several the container's user may execute, and so which comes first, is unknown.
    match files.as_slice() {
        [] => runwasi::nothing(argument),
        [(at, class)] => program_of(facts, at, class, argument),
        // Nothing else of the name would start.
        [(at, FileClass::Native { magic, runs: true, .. }), rest @ ..]
            if rest.iter().all(|(_, class)| class.is_native()) =>
        {
            Choice::Starts(program::native(facts, at, magic))
        }
        // Every user finds this one first.
        [(at, FileClass::Native { magic, runs: true, found: true }), ..] if is_first(at) => {
            runwasi::or_hidden(view, Choice::Starts(program::native(facts, at, magic)))
        }
        [(one, _), (another, _), ..] => Choice::unknown(format!(
            "`{argument}` is searched in the container's PATH, and the image has it at `{one}` and at `{another}`; \
             write the whole path"
        )),
    }
}

/// The search passes over a folder whose path the kernel does not take, counted from the working directory or from the root, and may find
/// another program in a later one.
fn too_long(argument: &str) -> Choice {
    Choice::unknown(format!(
        "`{}` is searched in a folder of the container's PATH whose path has {} bytes or more, which the kernel does not take; write the \
         whole path of the program",
        text::quoted(argument, 200),
        path::KERNEL_LENGTH
    ))
}

/// The program at which the search ends, whichever process searches, before it comes to a volume.
fn found_before(view: &View<'_>, files: &[(&str, &FileClass)], name: &str) -> Option<Choice> {
    files.iter().all(|(_, class)| class.is_native()).then_some(())?;
    let program = files.iter().find_map(|(at, class)| match class {
        FileClass::Native { magic, runs: true, found: true } if path::split(at).1 == name => {
            Some(Choice::Starts(program::native(view.facts, at, magic)))
        }
        _ => None,
    })?;
    Some(runwasi::or_hidden(view, program))
}

/// Where a name is looked for, in order, each place `None` that is too long to be one; `None` where the container's `PATH` is not known.
fn places(view: &View<'_>, argument: &str) -> Option<Vec<Option<String>>> {
    let here = view.here_short(argument);
    Some(match argument {
        "" => Vec::new(),
        path if path.contains('/') => vec![here],
        name => {
            let folders = search_path(view)?;
            let place = |folder: &&str| path::join_short(&view.here_short(folder)?, name);
            folders.iter().take(runwasi::MAX_PLACES).map(place).chain([here]).collect()
        }
    })
}

/// Whether one of the files that a name may lead to is something else than Wasm, so that it may start as it is where no
/// handler is asked for: the kernel runs programs and scripts, and some C libraries hand every other text to a shell.
pub(super) fn may_start_as_it_is(view: &View<'_>, argument: &str) -> bool {
    places(view, argument).is_none_or(|places| {
        let looks_at_all = places.len() <= runwasi::MAX_PLACES;
        !looks_at_all
            || places.iter().any(|place| match view.at_short(place.as_ref()) {
                At::Hidden(_) => true,
                At::File(_, class) => !matches!(class, FileClass::Wasm),
                At::Nothing => false,
            })
    })
}

/// The folders of the container's `PATH`; `None` if its value is unknown.
fn search_path<'a>(view: &View<'a>) -> Option<Vec<&'a str>> {
    match view.start.path {
        Variable::Literal(path) => Some(path.split(':').collect()),
        Variable::Unset => Some(match &view.facts.search_path {
            Some(path) => path.split(':').collect(),
            None => SEARCH_PATH.to_vec(),
        }),
        Variable::Elsewhere => None,
    }
}

/// The program in a file, as started by a handler that has no functions of its own.
pub(super) fn program_of(facts: &ImageFacts, at: &str, class: &FileClass, name: &str) -> Choice {
    match class {
        FileClass::Wasm => Choice::Starts(program::run(facts, at, None)),
        FileClass::Native { magic, runs: true, .. } => Choice::Starts(program::native(facts, at, magic)),
        // Users who may execute it start it as a program; for others it is loaded into the engine.
        FileClass::Native { .. } => Choice::unknown(format!(
            "`{at}` is a native program that not every user may execute; add the permission (`chmod +x`)"
        )),
        FileClass::Unreadable { message } => Choice::Starts(program::unreadable(at, message)),
        FileClass::Varies { .. } => Choice::Starts(program::unreadable(at, entry::DIFFERS)),
        FileClass::Other | FileClass::Data => Choice::unknown(format!(
            "`{at}` is neither a Wasm binary nor a program, and some handlers assemble it if it is Wasm text; ship the binary"
        )),
        FileClass::Link { .. } | FileClass::PerPlatform { .. } => runwasi::nothing(name),
    }
}
