//! A table of what each family starts from the same image and pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Family;
use super::answers::NativeWay;
use super::choice::Choice;
use super::everything::both;
use super::handover::{Files, Handover, Variables};
use super::start_undescribed;
use crate::image::annotation;
use crate::image::archive::Compression;
use crate::image::entry::{Sharer, Start, Variable, View};
use crate::image::layer::{Tree, UnpackLimits};
use crate::image::module::machine_code;
use crate::image::mounts::{Links, Mount};
use crate::image::names::{EVERY_PATH, is_of_plug_ins, is_of_resolver};
use crate::image::outbound::OutboundHost;
use crate::image::{
    Digest, Evidence, Feature, FileClass, ImageFacts, ImageKind, ModuleFacts, Packaging, Program, Shape,
    SpinApp, SpinComponent, WasmFormat, path, program,
};

/// The families with a column of their own in the table.
const FAMILIES: [Family; 6] = [
    Family::RunwasiWasmtime,
    Family::RunwasiWasmedge,
    Family::Spin,
    Family::CrunWasmtime,
    Family::YoukiWasmtime,
    Family::Everything,
];

/// The family whose column says what this one starts. A new family has to be put into one, or be given its own.
const fn column(family: Family) -> Family {
    match family {
        Family::RunwasiWasmtime | Family::RunwasiWasmer | Family::RunwasiWamr => Family::RunwasiWasmtime,
        Family::CrunWasmedge | Family::CrunWasmtime | Family::CrunWasmer | Family::CrunWamr => {
            Family::CrunWasmtime
        }
        Family::RunwasiWasmedge
        | Family::Spin
        | Family::YoukiWasmtime
        | Family::Retired
        | Family::Everything => family,
    }
}

fn every_family() -> impl Iterator<Item = Family> {
    Family::DESCRIBED.into_iter().chain([Family::Everything])
}

fn rows() -> impl Iterator<Item = Row> {
    let paths = [paths(), further_paths(), working_directories(), further_working_directories()];
    let names = [names(), functions(), traps(), further_traps()];
    paths.into_iter().chain(names).chain([fallbacks(), shapes()]).flatten()
}

fn module(source: &str) -> ModuleFacts {
    ModuleFacts {
        exports: ["_start", "main"].map(String::from).into(),
        code_bytes: 100,
        memory_bytes: 65_536,
        size_bytes: 200,
        ..ModuleFacts::blank(source, WasmFormat::Module)
    }
}

fn blank(shape: Shape) -> ImageFacts {
    let digest = Digest::of(b"golden");
    ImageFacts {
        kind: ImageKind::Linux,
        shape,
        platform: "linux/amd64".into(),
        evidence: vec![Evidence { seen: "conclusion".into(), value: "an artifact".into() }],
        scanned: true,
        ..ImageFacts::blank(&digest, &digest)
    }
}

/// A root file system. `path` is a Wasm file, `path!` an ELF program, `path~` an ELF program that not every user may
/// execute, `path->target` a link, `path?` a text file.
fn rootfs(shape: Shape, files: &str) -> ImageFacts {
    let native = |name: &str, runs| {
        let found = runs && EVERY_PATH.contains(&path::split(name).0);
        FileClass::Native { magic: "ELF".into(), runs, found }
    };
    let file = |word: &str| {
        if let Some((name, target)) = word.split_once("->") {
            return (name.to_string(), FileClass::Link { target: target.to_string() });
        }
        let name = word.trim_end_matches(['!', '~', '?']).to_string();
        let (class, name) = match word.chars().last() {
            Some('!') => (native(&name, true), name),
            Some('~') => (native(&name, false), name),
            Some('?') => (FileClass::Other, name),
            _ => (FileClass::Wasm, name),
        };
        (name, class)
    };
    let mut files: Vec<(String, FileClass)> = files.split_whitespace().map(file).collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let modules = files.iter().filter(|(_, class)| *class == FileClass::Wasm).map(|(name, _)| module(name));
    ImageFacts { modules: modules.collect(), files, ..blank(shape) }
}

fn spin_files(shape: Shape, files: &str) -> ImageFacts {
    let mut image = rootfs(shape, &format!("/spin.toml? {files}"));
    let component =
        SpinComponent { id: "web".into(), digest: Some("/web.wasm".into()), ..SpinComponent::default() };
    image.spin = Some(SpinApp {
        name: "shop".into(),
        triggers: ["http".into()].into(),
        components: vec![component],
        ..SpinApp::default()
    });
    for module in image.modules.iter_mut().filter(|module| module.source == "/web.wasm") {
        module.component = Some("web".into());
    }
    image
}

fn layered(shape: Shape) -> ImageFacts {
    let kind = if shape == Shape::SpinArtifact { ImageKind::SpinApp } else { ImageKind::Module };
    let mut module = module("sha256:w");
    module.component = (shape == Shape::SpinArtifact).then(|| "web".to_string());
    ImageFacts { kind, modules: vec![module], ..blank(shape) }
}

/// What a family starts, in a word; with `+` if the family cannot run it and the rules refuse it for that.
fn started(family: Family, image: &ImageFacts, start: &Start<'_>) -> String {
    let program = family.start(image, start);
    let is_wasm = matches!(program, Program::Wasm { .. });
    let able = family == Family::Everything || super::runnable_by(image, &program).contains(&family);
    let refused = if is_wasm && !able { "+" } else { "" };
    format!("{}{refused}", word(image, &program))
}

/// A program in a word; `?` where it is not known which one starts.
fn word(image: &ImageFacts, program: &Program) -> String {
    match program {
        Program::Wasm { kind: ImageKind::SpinApp, .. } => "spin app".into(),
        Program::Wasm { packaging: Packaging::Layers, .. } => "layers".into(),
        Program::Wasm { modules, .. } => image.modules[modules[0]].source.clone(),
        Program::Linux => "linux".into(),
        Program::Native { source, .. } => format!("native {source}"),
        Program::Unknown { .. } => "?".into(),
    }
}

struct Row {
    why: &'static str,
    /// Where the code is that the row follows.
    sources: &'static [&'static str],
    image: ImageFacts,
    command: &'static str,
    working_dir: &'static str,
    mount: &'static str,
    /// The user of the container on a real node, where that is not root.
    user: Option<u32>,
    /// Files that others may execute and not read (mode 0711), and folders, with a slash at the end, that they may not enter (0700).
    /// No fact of the image tells the gate.
    closed: &'static [&'static str],
    /// In the order of [`FAMILIES`].
    starts: [&'static str; 6],
}

/// How runwasi's shims tell a native program, and how they look for a file and for the function to start.
const EXECUTOR: &str = "runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs";
const PATHS: &str = "runwasi:crates/containerd-shim-wasm/src/sandbox/path.rs";
const ENTRY: &str = "runwasi:crates/containerd-shim-wasm/src/sandbox/context.rs";
/// As whom they look.
const INIT: &str = "youki:crates/libcontainer/src/process/init/process.rs";
/// When they start layers.
const INSTANCE: &str = "runwasi:crates/containerd-shim-wasm/src/sys/unix/container/instance.rs";
/// `find_executable`.
const CRUN: &str = "crun:src/libcrun/utils.c";
const YOUKI: &str = "youki:crates/youki/src/workload/wasmtime.rs";
/// What youki starts where no annotation reaches it.
const YOUKI_DEFAULT: &str = "youki:crates/libcontainer/src/workload/default.rs";
const SPIN: &str = "containerd-shim-spin:containerd-shim-spin/src/source.rs";
const SLIGHT: &str = "containerd-wasm-shims:containerd-shim-slight/src/engine.rs";
/// What the kubelet makes of a variable in a command, and what the node mounts over the image.
const EXPANSION: &str = "kubernetes:third_party/forked/golang/expansion/expand.go";
const MOUNTS: &str = "containerd:internal/cri/opts/spec_linux_opts.go";

fn row(
    why: &'static str,
    sources: &'static [&'static str],
    image: ImageFacts,
    command: &'static str,
    starts: [&'static str; 6],
) -> Row {
    let (working_dir, mount) = ("/", "/elsewhere");
    Row { why, sources, image, command, working_dir, mount, user: None, closed: &[], starts }
}

fn scratch(files: &str) -> ImageFacts {
    rootfs(Shape::ScratchRootfs, files)
}

fn linux(files: &str) -> ImageFacts {
    rootfs(Shape::LinuxRootfs, files)
}

/// Names with a slash, and native programs.
fn paths() -> Vec<Row> {
    let everywhere =
        |program: &'static str, spin: &'static str| [program, program, spin, program, program, program];
    vec![
        row(
            "a whole path",
            &[PATHS, CRUN, YOUKI],
            scratch("/app.wasm"),
            "/app.wasm",
            everywhere("/app.wasm", "/app.wasm+"),
        ),
        row(
            "a function after `#`, which crun and youki do not know",
            &[ENTRY, CRUN, YOUKI],
            scratch("/app.wasm"),
            "/app.wasm#main",
            ["/app.wasm", "/app.wasm", "/app.wasm+", "?", "?", "/app.wasm"],
        ),
        row("an ordinary program", &[EXECUTOR], linux("/bin/sh!"), "/bin/sh", ["linux"; 6]),
        row(
            "an ordinary program that is not there",
            &[EXECUTOR, CRUN],
            linux("/bin/sh!"),
            "/bin/ls",
            ["?"; 6],
        ),
        row(
            "a native program in an image that is packed as Wasm",
            &[EXECUTOR],
            scratch("/app.wasm /bin/sh!"),
            "/bin/sh",
            ["native /bin/sh"; 6],
        ),
        row(
            "a module beside the one that slight starts whatever the command names",
            &[SLIGHT],
            scratch("/app.wasm /good.wasm"),
            "/good.wasm",
            ["/good.wasm", "/good.wasm", "/good.wasm+", "/good.wasm", "/good.wasm", "?"],
        ),
        row("nothing that is named", &[EXECUTOR, CRUN], linux(""), "", ["?"; 6]),
        row("a variable", &[EXPANSION], scratch("/app.wasm"), "$(APP)", ["?"; 6]),
        row(
            "a module beside a shell, which runs what the kernel does not start for youki",
            &[YOUKI_DEFAULT],
            scratch("/app.wasm /bin/sh!"),
            "/app.wasm",
            ["/app.wasm", "/app.wasm", "/app.wasm+", "/app.wasm", "?", "?"],
        ),
    ]
}

/// Whole paths, of which something differs between the runtimes or the files.
fn further_paths() -> Vec<Row> {
    vec![
        row(
            "a module beside a link to a shell that only its owner may execute",
            &[YOUKI_DEFAULT],
            scratch("/app.wasm /bin/sh->/opt/sh /opt/sh~"),
            "/app.wasm",
            ["/app.wasm", "/app.wasm", "/app.wasm+", "/app.wasm", "?", "?"],
        ),
        row(
            "an application of Spin beside a shell, with an entry point that may be a script",
            &[SPIN, YOUKI_DEFAULT],
            spin_files(Shape::SpinRootfs, "/web.wasm /bin/sh!"),
            "/serve",
            ["spin app+", "spin app+", "spin app", "spin app+", "?", "?"],
        ),
        row(
            "a name that does not say that it is Wasm",
            &[ENTRY, YOUKI],
            scratch("/app"),
            "/app",
            ["/app", "/app", "/app+", "/app", "?", "/app"],
        ),
        Row {
            mount: "/app.wasm",
            ..row(
                "a volume in the place of the program",
                &[MOUNTS],
                scratch("/app.wasm"),
                "/app.wasm",
                ["?"; 6],
            )
        },
    ]
}

/// Programs of a working directory, in which youki looks for paths too.
fn working_directories() -> Vec<Row> {
    vec![
        Row {
            working_dir: "/work",
            ..row(
                "youki cuts the leading slash",
                &[YOUKI],
                scratch("/app.wasm /work/app.wasm"),
                "/app.wasm",
                ["/app.wasm", "/app.wasm", "/app.wasm+", "/app.wasm", "/work/app.wasm", "?"],
            )
        },
        Row {
            working_dir: "/work",
            ..row(
                "youki cuts one slash and no more",
                &[YOUKI],
                scratch("/app.wasm /work/app.wasm"),
                "//app.wasm",
                ["/app.wasm", "/app.wasm", "/app.wasm+", "/app.wasm", "/app.wasm", "?"],
            )
        },
        Row {
            working_dir: "/work",
            ..row(
                "a native program, and a module where youki looks if it is asked for Wasm",
                &[EXECUTOR, YOUKI],
                scratch("/app.wasm! /work/app.wasm"),
                "/app.wasm",
                ["native /app.wasm", "native /app.wasm", "native /app.wasm", "native /app.wasm", "?", "?"],
            )
        },
    ]
}

/// Working directories beside a native program, and under a volume.
fn further_working_directories() -> Vec<Row> {
    vec![
        Row {
            working_dir: "/work",
            ..row(
                "a native program, and text where youki looks if it is asked for Wasm, which it assembles",
                &[EXECUTOR, YOUKI],
                linux("/app.wasm! /work/app.wasm?"),
                "/app.wasm",
                ["linux", "linux", "linux", "linux", "?", "?"],
            )
        },
        Row {
            working_dir: "/data",
            mount: "/data",
            ..row(
                "a native program of every search path, and a volume at the working directory",
                &[EXECUTOR, PATHS, CRUN],
                linux("/usr/local/bin/app!"),
                "app",
                ["linux"; 6],
            )
        },
        Row {
            working_dir: "/data",
            mount: "/data",
            ..row(
                "a native program of an unusual folder, and a volume at the working directory",
                &[EXECUTOR, PATHS, CRUN],
                linux("/opt/bin/app!"),
                "app",
                ["?"; 6],
            )
        },
    ]
}

/// Names that are searched for.
fn names() -> Vec<Row> {
    let work =
        ["/work/app.wasm", "/work/app.wasm", "/work/app.wasm+", "/work/app.wasm", "/work/app.wasm", "?"];
    vec![
        row("an ordinary program", &[EXECUTOR], linux("/usr/bin/sh! /bin->usr/bin"), "sh", ["linux"; 6]),
        row(
            "an ordinary program in two folders",
            &[PATHS, CRUN],
            linux("/usr/bin/sh! /bin/sh!"),
            "sh",
            ["linux"; 6],
        ),
        Row {
            working_dir: "/work",
            ..row(
                "one of the working directory",
                &[PATHS, CRUN, YOUKI],
                scratch("/other.wasm /work/app.wasm"),
                "app.wasm",
                work,
            )
        },
        row(
            "one of the search path and one of the working directory",
            &[PATHS, CRUN, YOUKI],
            scratch("/bin/a.wasm /a.wasm"),
            "a.wasm",
            ["?", "?", "/bin/a.wasm+", "?", "/a.wasm", "?"],
        ),
        row(
            "one of an unusual folder of programs and one of the working directory",
            &[PATHS, CRUN, YOUKI],
            scratch("/opt/bin/a.wasm /a.wasm"),
            "a.wasm",
            ["?", "?", "/a.wasm+", "/a.wasm", "/a.wasm", "?"],
        ),
    ]
}

/// Native programs whose names have a `#`. Where runwasi's check misses one, what starts is named by the part before it.
fn functions() -> Vec<Row> {
    let native = ["?", "?", "linux", "linux", "linux", "?"];
    vec![
        row(
            "a native program with `#` in its name, of which the part before it names nothing",
            &[EXECUTOR, ENTRY],
            linux("/bin/sh! /usr/bin/tool#main!"),
            "tool#main",
            ["linux"; 6],
        ),
        row(
            "a native program outside of the shim's PATH, and a module named by the part before `#`",
            &[EXECUTOR, ENTRY],
            linux("/bin/sh! /opt/tools/app#main! /app"),
            "app#main",
            ["?", "?", "linux", "?", "?", "?"],
        ),
        Row {
            user: Some(65_532),
            closed: &["/w#main"],
            ..row(
                "a native program that its user may not read, and a module named by the part before `#`",
                &[EXECUTOR, ENTRY, INIT],
                linux("/bin/sh! /w#main! /w"),
                "/w#main",
                native,
            )
        },
        Row {
            user: Some(65_532),
            closed: &["/w#/"],
            ..row(
                "a native program in a folder that its user may not enter, and a module named by the part before `#`",
                &[EXECUTOR, ENTRY, INIT],
                linux("/bin/sh! /w#/main! /w"),
                "/w#/main",
                native,
            )
        },
        row(
            "a native program whose name ends with `#`, and a module named by the rest",
            &[EXECUTOR, ENTRY],
            linux("/bin/sh! /w#! /w"),
            "/w#",
            native,
        ),
    ]
}

/// Cases that a shim's check and its start read differently.
fn traps() -> Vec<Row> {
    vec![
        row(
            "a program that not every user may execute",
            &[EXECUTOR, CRUN],
            linux("/bin/app~"),
            "/bin/app",
            ["?"; 6],
        ),
        row(
            "such a program beside an application of Spin",
            &[EXECUTOR, SPIN],
            spin_files(Shape::LinuxRootfs, "/web.wasm /bin/app~"),
            "/bin/app",
            ["?", "?", "spin app", "?", "?", "?"],
        ),
        row(
            "a native program that is searched for, beside an application of Spin",
            &[EXECUTOR, SPIN],
            spin_files(Shape::LinuxRootfs, "/web.wasm /usr/local/sbin/tool!"),
            "tool",
            ["linux", "linux", "?", "linux", "linux", "?"],
        ),
        row(
            "the same, where something else of that name may be found first",
            &[EXECUTOR, PATHS],
            spin_files(Shape::LinuxRootfs, "/web.wasm /usr/local/bin/tool? /usr/local/sbin/tool!"),
            "tool",
            ["?"; 6],
        ),
        row(
            "a native program of the search path, which youki starts where no handler is asked for",
            &[PATHS, YOUKI_DEFAULT],
            scratch("/usr/local/sbin/a.wasm! /a.wasm"),
            "a.wasm",
            ["?", "?", "?", "?", "?", "?"],
        ),
        row(
            "the entry point of a Docker image beside an application of Spin",
            &[SPIN],
            spin_files(Shape::ScratchRootfs, "/web.wasm"),
            "/web.wasm",
            ["/web.wasm", "/web.wasm", "spin app", "/web.wasm", "/web.wasm", "?"],
        ),
    ]
}

/// More that is found where it is not looked for.
fn further_traps() -> Vec<Row> {
    vec![
        row(
            "a precompiled module in the search path, and a harmless one where the check looks",
            &[EXECUTOR, PATHS],
            scratch("/usr/local/bin/app~ /app"),
            "app",
            ["?"; 6],
        ),
        row(
            "a precompiled module in the search path, and a native program of its name elsewhere",
            &[EXECUTOR, PATHS],
            linux("/usr/bin/app~ /opt/app!"),
            "app",
            ["?"; 6],
        ),
        row(
            "a text file first in the search path",
            &[PATHS, CRUN],
            scratch("/usr/local/bin/a.wasm? /a.wasm"),
            "a.wasm",
            ["?", "?", "/a.wasm+", "?", "?", "?"],
        ),
        row(
            "no function after `#`",
            &[ENTRY, CRUN, YOUKI],
            scratch("/app.wasm"),
            "/app.wasm#",
            ["?", "?", "/app.wasm+", "?", "?", "?"],
        ),
    ]
}

/// Volumes that hide files, and what a shim does when reading the layers fails.
fn fallbacks() -> Vec<Row> {
    let index = |shape| ImageFacts { manifest_digest: Digest::of(b"m"), ..layered(shape) };
    vec![
        row("a folder", &[PATHS, CRUN, YOUKI], scratch("/app.wasm"), "/app.wasm/", ["?"; 6]),
        Row {
            mount: "/q/app.wasm",
            ..row(
                "a volume mounted through a link of the image",
                &[MOUNTS],
                scratch("/app.wasm /q->/"),
                "/app.wasm",
                ["?"; 6],
            )
        },
        row(
            "Wasm layers behind an index, which the shims do not read",
            &[INSTANCE],
            index(Shape::WasmArtifact),
            "/",
            ["?", "?", "layers+", "layers+", "layers+", "?"],
        ),
        Row {
            mount: "/app.wasm",
            ..row(
                "Wasm layers, and a volume from which the shim starts when reading them fails",
                &[INSTANCE],
                layered(Shape::WasmArtifact),
                "/app.wasm",
                ["?"; 6],
            )
        },
    ]
}

/// Applications of Spin, and layers.
fn shapes() -> Vec<Row> {
    let spin = ["spin app+", "spin app+", "spin app", "spin app+", "spin app+", "spin app"];
    let layers = ["layers", "layers", "layers+", "layers+", "layers+", "layers"];
    vec![
        row(
            "an application of Spin beside the module that is named",
            &[SPIN],
            spin_files(Shape::ScratchRootfs, "/web.wasm /other.wasm"),
            "/other.wasm",
            ["/other.wasm", "/other.wasm", "spin app", "/other.wasm", "/other.wasm", "?"],
        ),
        row("an application of Spin", &[SPIN], spin_files(Shape::SpinRootfs, "/web.wasm"), "/", spin),
        row(
            "an application of Spin beside a native program",
            &[EXECUTOR, SPIN],
            spin_files(Shape::LinuxRootfs, "/web.wasm /bin/sh!"),
            "/bin/sh",
            ["linux", "linux", "?", "linux", "linux", "?"],
        ),
        row("one layer of the Wasm artifact", &[INSTANCE, CRUN], layered(Shape::WasmArtifact), "/", layers),
        row("a layer of runwasi", &[INSTANCE], layered(Shape::RunwasiLayers), "/bin/sh", layers),
        row("an application of Spin as layers", &[SPIN], layered(Shape::SpinArtifact), "/", spin),
        row("an artifact that is no program", &[INSTANCE], blank(Shape::Other), "/", ["?"; 6]),
    ]
}

/// Asks about the image and the pod of a row.
fn with_start<T>(row: &Row, ask: impl FnOnce(&Start<'_>) -> T) -> T {
    let command: Vec<String> = row.command.split_whitespace().map(String::from).collect();
    let mounts = [row.mount.into()];
    let working_dir = Some(row.working_dir);
    ask(&Start { command: &command, working_dir, mounts: &mounts, ..Start::default() })
}

#[test]
fn the_same_image_and_pod_start_what_each_runtime_starts() {
    for row in rows() {
        for family in every_family() {
            let place = FAMILIES.iter().position(|known| *known == column(family));
            let said = place.map(|place| row.starts[place].to_string());
            let found = with_start(&row, |start| started(family, &row.image, start));
            assert_eq!(Some(found), said, "{} under {family:?}", row.why);
        }
    }
}

/// A row without the place of its code could not be compared with it.
#[test]
fn every_row_says_where_its_code_is() {
    for row in rows() {
        assert!(!row.sources.is_empty(), "{}", row.why);
        for source in row.sources {
            let (repo, path) = source.split_once(':').unwrap_or_default();
            assert!(!repo.is_empty() && path.contains('/') && path.contains('.'), "{}: {source}", row.why);
        }
    }
}

/// What a handler of crun makes of a module that needs this.
struct HandlerRow {
    why: &'static str,
    /// Of what the engine says, `None` for a module that needs nothing.
    feature: Option<Feature>,
    /// In the order of [`HANDLERS`]; with `+` if the handler cannot run it.
    starts: [&'static str; 4],
}

/// The handlers, and where their code is.
const HANDLERS: [(Family, &str); 4] = [
    (Family::CrunWasmtime, "crun:src/libcrun/handlers/wasmtime.c"),
    (Family::CrunWasmedge, "crun:src/libcrun/handlers/wasmedge.c"),
    (Family::CrunWasmer, "crun:src/libcrun/handlers/wasmer.c"),
    (Family::CrunWamr, "crun:src/libcrun/handlers/wamr.c"),
];

/// All handlers take the same file; what they make of it is up to the engine, and to what each calls of it.
fn handler_rows() -> [HandlerRow; 12] {
    const CAN: &str = "/app.wasm";
    const CANNOT: &str = "/app.wasm+";
    let row = |why, feature, starts| HandlerRow { why, feature: Some(feature), starts };
    [
        HandlerRow { why: "a module of WASI preview 1", feature: None, starts: [CAN; 4] },
        row("text: only wasmer is handed what it assembles", Feature::Text, [CANNOT, CANNOT, CAN, CANNOT]),
        row(
            "machine code, which `WasmEdge_VMRunWasmFromFile` runs",
            Feature::WasmedgeMachineCode,
            [CAN, "native /app.wasm", CAN, CAN],
        ),
        row("the sockets of WasmEdge", Feature::WasmedgeSockets, [CANNOT, CAN, CANNOT, CANNOT]),
        row("the first snapshot of WASI", Feature::WasiUnstable, [CANNOT, CANNOT, CAN, CAN]),
        row("threads", Feature::WasiThreads, [CANNOT, CANNOT, CAN, CAN]),
        row("exceptions", Feature::ExceptionHandling, [CANNOT, CAN, CANNOT, CAN]),
        row("garbage collection", Feature::GarbageCollection, [CANNOT, CAN, CANNOT, CAN]),
        row("references to functions", Feature::FunctionReferences, [CANNOT, CAN, CANNOT, CAN]),
        row("memories of 64 bits", Feature::Memory64, [CANNOT, CAN, CANNOT, CAN]),
        row("continuations", Feature::StackSwitching, [CANNOT; 4]),
        row("pages of another size", Feature::CustomPageSizes, [CANNOT; 4]),
    ]
}

#[test]
fn the_handlers_of_crun_start_what_their_engines_run() {
    let command = ["/app.wasm".to_string()];
    for row in handler_rows() {
        let mut image = scratch("/app.wasm");
        image.modules[0].features.extend(row.feature);
        let start = Start { command: &command, ..Start::default() };
        let found = HANDLERS.map(|(family, _)| started(family, &image, &start));
        assert_eq!(found, row.starts, "{}", row.why);
    }
}

/// `wasi_config_preopen_dir (".")` and `wasi_config_inherit_env` of wasmtime, `WasmEdge_ModuleInstanceInitWASI` with the first of two
/// folders, wasmer's `wasi_config_new` with standard output and one argument, and `wasm_runtime_set_wasi_args` with the pools of
/// addresses and names of WAMR.
#[test]
fn the_handlers_of_crun_hand_over_what_their_own_code_does() {
    for ((family, source), files, variables, network) in [
        (HANDLERS[0], Files::WorkingDirectory, Variables::All, false),
        (HANDLERS[1], Files::Root, Variables::All, true),
        (HANDLERS[2], Files::None, Variables::None, false),
        (HANDLERS[3], Files::Root, Variables::All, true),
    ] {
        let Handover::Only(given) = family.runtime().hands_over(ImageKind::Module) else {
            panic!("{family:?} is described")
        };
        assert_eq!((given.files, given.variables, given.network), (files, variables, network), "{source}");
        // `getenv` of WasmEdge's handler alone.
        let loads = !family.plugin_variables().is_empty();
        assert_eq!(loads, family == Family::CrunWasmedge, "{source}");
        assert_eq!(family.runtime().hands_over(ImageKind::Component), Handover::Everything, "{source}");
        assert!(!family.runtime().runs(
            Shape::ScratchRootfs,
            ImageKind::Component,
            Packaging::RootFilesystem
        ));
    }
}

/// What an image is meant to start does not make it harmless where any runtime may be behind the class.
#[test]
fn under_a_class_without_a_profile_an_image_that_suggests_wasm_is_judged_as_strictly_as_any_runtime_asks() {
    let open = |program: &Program| matches!(program, Program::Wasm { .. } | Program::Unknown { .. });
    let (mut stricter, mut ordinary) = (0, 0);
    for row in rows() {
        let ask = |image: &ImageFacts| {
            with_start(&row, |start| {
                let every = Family::Everything.start(image, start);
                (program::start(image, start), every, start_undescribed(image, start))
            })
        };
        let (meant, every, judged) = ask(&row.image);
        let suggests = row.image.suggests_wasm();
        assert!(!suggests || open(&judged) || !(open(&meant) || open(&every)), "{}: {judged:?}", row.why);
        assert!(suggests || judged == meant, "{}: {judged:?}", row.why);
        stricter += usize::from(!open(&meant) && open(&judged));
        let unread = ImageFacts { shape: Shape::LinuxRootfs, scanned: false, ..row.image.clone() };
        let (meant, _, judged) = ask(&unread);
        assert_eq!(judged, meant, "{}: nothing was read of it", row.why);
        ordinary += usize::from(judged == Program::Linux);
    }
    assert!(stricter > 0 && ordinary > 0, "{stricter} {ordinary}");
}

/// It is not enough to refuse such a class by `runtime-mismatch`, whose action a platform may lower.
#[test]
fn under_a_class_without_a_profile_what_may_not_be_the_file_that_starts_leads_to_no_verdict() {
    let image = scratch("/app.wasm");
    let asked = |image: &ImageFacts, command: &str, mounts: &[Mount<'_>]| {
        let command = [command.to_string()];
        let start = Start { command: &command, mounts, ..Start::default() };
        let meant = program::start(image, &start);
        assert!(matches!(meant, Program::Wasm { .. }), "{command:?}: {meant:?}");
        start_undescribed(image, &start)
    };
    let known = |mounts: &[Mount<'_>]| asked(&image, "/app.wasm", mounts);
    assert!(matches!(known(&["/data".into(), "/data/in".into()]), Program::Wasm { .. }));
    let may_hold_links = [Mount { links: Links::Anywhere, .."/data".into() }, "/data/in".into()];
    let deep = format!("{}/x", "/a".repeat(300));
    for program in [
        known(&may_hold_links),
        known(&[deep.as_str().into()]),
        known(&["/proc/self/root/x".into()]),
        asked(&image, "/data/../app.wasm", &[]),
        asked(&layered(Shape::WasmArtifact), "/", &may_hold_links),
    ] {
        assert!(matches!(program, Program::Unknown { .. }), "{program:?}");
    }
}

/// What one of them would start instead was not judged.
#[test]
fn under_a_class_without_a_profile_the_file_that_is_judged_is_the_one_that_every_runtime_starts() {
    let (mut same, mut different) = (0, 0);
    for row in rows().filter(|row| row.image.suggests_wasm()) {
        with_start(&row, |start| {
            let judged = start_undescribed(&row.image, start);
            let every = Family::Everything.runtime().choose(&View::new(&row.image, start));
            let meant = program::start(&row.image, start);
            if let (Program::Wasm { .. }, Choice::Starts(every)) = (&judged, &every) {
                assert!(both(&judged, every).is_some(), "{}: {judged:?} and {every:?}", row.why);
                same += 1;
            } else if matches!(meant, Program::Wasm { .. }) {
                different += 1;
            }
        });
    }
    assert!(same > 5 && different > 5, "{same} {different}");
}

/// WasmEdge may be behind it.
#[test]
fn under_a_class_without_a_profile_machine_code_of_wasmedge_is_native() {
    let mut image = scratch("/app.wasm");
    image.modules[0].features = [Feature::WasmedgeMachineCode].into();
    let command = ["/app.wasm".to_string()];
    let found = start_undescribed(&image, &Start { command: &command, ..Start::default() });
    assert!(matches!(&found, Program::Native { source, .. } if source == "/app.wasm"), "{found:?}");
}

/// slight starts `/app.wasm`, and Wasm Workers Server every worker of the image.
#[test]
fn under_a_retired_shim_nothing_is_known_to_start_and_every_other_image_differs_from_it() {
    for row in rows() {
        let found = with_start(&row, |start| Family::Retired.start(&row.image, start));
        assert!(matches!(found, Program::Unknown { .. }), "{}: {found:?}", row.why);
        assert!(!super::runnable_by(&row.image, &found).contains(&Family::Retired));
    }
    let started = |image: &ImageFacts, command: &str, mount: &'static str| {
        let command = [command.to_string()];
        starts_under_any_runtime(
            image,
            &Start { command: &command, mounts: &[mount.into()], ..Start::default() },
        )
    };
    assert!(started(&scratch("/app.wasm"), "/app.wasm", "/data"), "both start the same");
    let beside = scratch("/app.wasm /good.wasm");
    assert!(!started(&beside, "/app.wasm", "/data"), "the other one is a worker");
    assert!(!started(&beside, "/good.wasm", "/data"));
    assert!(!started(&scratch("/good.wasm /srv/evil.wasm"), "/good.wasm", "/data"));
    assert!(
        !started(&scratch("/good.wasm /a.wasm->/lib/evil /lib/evil"), "/good.wasm", "/data"),
        "a link is one"
    );
    assert!(started(&scratch("/good.wasm /_lib/x.wasm /lib/x"), "/good.wasm", "/data"), "no workers");
    assert!(started(&scratch("/good.wasm /lib/x.wasm"), "/good.wasm", "/lib"), "a volume hides it");
    assert!(started(&scratch("/good.wasm"), "/good.wasm", "/data"));
    assert!(!started(&scratch("/good.wasm"), "/good.wasm", "/app.wasm"), "a volume brings it");
    assert!(started(&scratch("/app.wasm->/good.wasm /good.wasm"), "/good.wasm", "/data"), "one file");
    assert!(!started(&scratch("/.wws.toml? /good.wasm"), "/good.wasm", "/data"));
    assert!(started(&linux("/app.wasm /bin/sh!"), "/bin/sh", "/data"), "Linux programs start first");
}

/// Whether a program is known where any runtime may be behind the class; what is not is refused with its cure.
fn starts_under_any_runtime(image: &ImageFacts, start: &Start<'_>) -> bool {
    let [every, judged] = [Family::Everything.start(image, start), start_undescribed(image, start)];
    for program in [&every, &judged] {
        if let Program::Unknown { reason } = program {
            assert!(reason.ends_with("describe the class by a profile (`runtimes.profiles`)"), "{reason}");
        }
    }
    let is_known = |program: &Program| !matches!(program, Program::Unknown { .. });
    assert_eq!(is_known(&every), is_known(&judged), "{every:?} {judged:?}");
    is_known(&every)
}

/// JavaScript needs no manifest (`wasm-workers-server:crates/router/src/files.rs`).
#[test]
fn a_worker_that_is_text_is_one_under_a_class_of_any_runtime_and_nothing_under_others() {
    let command = ["/good.wasm".to_string()];
    let start = Start { command: &command, mounts: &["/data".into()], ..Start::default() };
    for (files, is_known) in [
        ("/index.js?", false),
        ("/srv/api/[id].js?", false),
        ("/tool.js!", false),
        ("/tool.js~", false),
        ("/a.js->/srv/text", false),
        ("/a.js->/data/text", false),
        ("/a.wasm->/data/text", false),
        ("/data/index.js?", true),
        ("/public/index.js?", true),
        ("/_index.js?", true),
        ("/srv/_lib/index.js?", true),
        ("/srv/.wws/index.js?", true),
        ("/index.mjs? /main.py? /INDEX.JS? /js?", true),
    ] {
        let image = scratch(&format!("/good.wasm {files}"));
        assert_eq!(starts_under_any_runtime(&image, &start), is_known, "{files}");
        for family in [Family::RunwasiWasmtime, Family::RunwasiWasmer, Family::CrunWasmtime] {
            assert_eq!(started(family, &image, &start), "/good.wasm", "{files} under {family:?}");
        }
        let linux = linux(&format!("/bin/sh! {files}"));
        let command = ["/bin/sh".to_string()];
        assert_eq!(start_undescribed(&linux, &Start { command: &command, ..start }), Program::Linux);
    }
}

#[test]
fn a_volume_that_may_bring_a_worker_leads_to_no_verdict_under_a_class_of_any_runtime() {
    let command = ["/good.wasm".to_string()];
    let image = scratch("/good.wasm /q->/_lib /_q->/lib");
    let workers = |path| Mount { workers: true, ..Mount::from(path) };
    for (mounts, is_known) in [
        (vec![workers("/data")], false),
        (vec![Mount::from("/data"), workers("/srv/x")], false),
        (vec![workers("/_q/x")], false),
        (vec![Mount::from("/srv/index.js")], false),
        (vec![Mount::from("/x.wasm")], false),
        (vec![Mount::from("/.wws.toml")], false),
        (vec![workers("/q/x"), workers("/_data"), workers("/srv/public"), workers("/.wws/x")], true),
        (vec![Mount::from("/data"), Mount::from("/etc/app.toml"), Mount::from("/_x/index.js")], true),
    ] {
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        assert_eq!(starts_under_any_runtime(&image, &start), is_known, "{mounts:?}");
        let program = Family::RunwasiWasmtime.start(&image, &start);
        assert!(matches!(program, Program::Wasm { .. }), "{mounts:?}: {program:?}");
    }
    let shared = |mounts: &[Mount<'_>]| {
        let start = Start { command: &command, mounts, shares_memory: Some(Sharer::Pod), ..Start::default() };
        starts_under_any_runtime(&image, &start)
    };
    assert!(!shared(&["/data".into()]), "another container writes to `/dev/shm`");
    assert!(shared(&["/dev/shm".into()]), "a volume is there instead");
    let start = Start { command: &command, shares_memory: Some(Sharer::Pod), ..Start::default() };
    assert_eq!(started(Family::CrunWasmtime, &image, &start), "/good.wasm");
    let layers = layered(Shape::WasmArtifact);
    assert!(!starts_under_any_runtime(&layers, &Start { mounts: &[workers("/data")], ..start }));
}

/// Such as machine code of WAMR: the reason is not what a shim of another runtime would do with the file.
#[test]
fn what_no_runtime_starts_has_that_as_its_reason_and_not_the_program_of_slight() {
    let command = ["/app.wasm".to_string()];
    let start = Start { command: &command, ..Start::default() };
    let Program::Unknown { reason } = Family::Everything.start(&scratch("/app.wasm?"), &start) else {
        panic!("it starts nothing")
    };
    assert!(!reason.contains("slight") && reason.contains("/app.wasm"), "{reason}");
}

#[test]
fn what_nothing_starts_suggests_wasm_where_anything_of_it_says_so_whatever_its_evidence_shows() {
    let cut = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted, application/wasm";
    let evidence = |seen: &str| Evidence { seen: seen.into(), value: cut.into() };
    let bare = ImageFacts {
        evidence: vec![evidence("manifest.layers[].mediaType"), evidence("conclusion")],
        scanned: false,
        ..blank(Shape::Other)
    };
    assert!(!bare.suggests_wasm(), "what people read decides nothing");
    let entrypoint = |word: &str| ImageFacts { entrypoint: vec![word.into()], ..bare.clone() };
    let cmd = |word: &str| ImageFacts { cmd: vec![word.into()], ..bare.clone() };
    for image in [
        ImageFacts { wasm_media_type: true, ..bare.clone() },
        ImageFacts { scanned: true, ..bare.clone() },
        ImageFacts { modules: scratch("/app.wasm").modules, ..bare.clone() },
        ImageFacts { spin: Some(SpinApp::default()), ..bare.clone() },
        ImageFacts { platform: "wasip1/wasm".into(), ..bare.clone() },
        entrypoint("/app.wasm"),
        entrypoint("/"),
        cmd("/app.wasm"),
    ] {
        assert!(image.suggests_wasm(), "{image:?}");
        let program = start_undescribed(&image, &Start::default());
        assert!(matches!(program, Program::Unknown { .. }), "{program:?}");
    }
    let of_linux = ImageFacts { cmd: vec!["/app.wasm".into()], ..entrypoint("wasmtime") };
    assert!(!of_linux.suggests_wasm() && !entrypoint("/bin/app").suggests_wasm());
}

#[test]
fn a_runtime_that_no_profile_describes_has_every_way_to_native_code_that_any_has() {
    let all = Family::Everything.runtime().native_ways();
    let of_each = Family::DESCRIBED.map(|family| family.runtime().native_ways());
    assert!(of_each.iter().flatten().all(|way| all.contains(way)), "{all:?}");
    assert!(all.iter().all(|way| of_each.iter().flatten().any(|known| known == way)), "{all:?}");
}

/// A class that no profile describes may lead to any of the families.
#[test]
fn a_runtime_that_no_profile_describes_starts_only_what_every_other_would_if_anything() {
    let mut known = 0;
    for row in rows() {
        let chosen =
            |family: Family| with_start(&row, |start| family.runtime().choose(&View::new(&row.image, start)));
        let every = chosen(Family::Everything);
        if matches!(every, Choice::Starts(Program::Unknown { .. })) {
            continue;
        }
        known += 1;
        for family in Family::DESCRIBED {
            match chosen(family) {
                Choice::Nothing(_) => {}
                started @ Choice::Starts(_) => assert_eq!(started, every, "{} under {family:?}", row.why),
            }
        }
    }
    assert!(known > 5, "{known}");
}

/// Whatever a described runtime can run, one that no profile describes is said to run as well.
#[test]
fn a_runtime_that_no_profile_describes_runs_what_any_other_runs() {
    for row in rows() {
        for packaging in [Packaging::Layers, Packaging::RootFilesystem] {
            for kind in
                [ImageKind::Module, ImageKind::Component, ImageKind::HttpComponent, ImageKind::SpinApp]
            {
                let runs = |family: Family| family.runtime().runs(row.image.shape, kind, packaging);
                assert_eq!(runs(Family::Everything), Family::DESCRIBED.into_iter().any(runs));
            }
        }
    }
}

#[test]
fn crun_searches_the_path_of_the_container_and_no_other() {
    let start = |path| {
        let command = ["tool.wasm".to_string()];
        let image = scratch("/opt/tools/tool.wasm /usr/bin/tool.wasm");
        let start = Start { command: &command, path, working_dir: Some("/nowhere"), ..Start::default() };
        started(Family::CrunWasmtime, &image, &start)
    };
    assert_eq!(start(Variable::Unset), "/usr/bin/tool.wasm");
    assert_eq!(start(Variable::Literal("/opt/tools")), "/opt/tools/tool.wasm");
    assert_eq!(
        start(Variable::Literal("/opt/tools:/usr/bin")),
        "?",
        "which of them is executable is not known"
    );
    assert_eq!(start(Variable::Literal("/sbin")), "?");
    assert_eq!(start(Variable::Elsewhere), "?", "a Secret may hold it");
    let own =
        ImageFacts { search_path: Some("/opt/tools".into()), ..scratch("/opt/tools/a.wasm /bin/a.wasm") };
    let command = ["a.wasm".to_string()];
    let start = Start { command: &command, working_dir: Some("/nowhere"), ..Start::default() };
    assert_eq!(started(Family::CrunWasmtime, &own, &start), "/opt/tools/a.wasm");
}

/// crun goes on where the container's user may not execute a file (`crun:src/libcrun/utils.c`, `find_executable`), and of a Wasm file
/// or a text it is not known who may.
#[test]
fn crun_passes_over_files_that_its_user_may_not_execute_so_that_only_one_of_a_name_is_judged() {
    let start = |files: &str, command: &str| {
        let command = [command.to_string()];
        let path = Variable::Literal("/opt/tools:/usr/bin");
        let start = Start { command: &command, path, working_dir: Some("/nowhere"), ..Start::default() };
        [Family::CrunWasmtime, Family::CrunWasmer].map(|family| started(family, &scratch(files), &start))
    };
    for (files, command, expected) in [
        ("/usr/bin/tool", "tool", "/usr/bin/tool"),
        ("/opt/tools/tool /usr/bin/tool", "tool", "?"),
        ("/opt/tools/tool? /usr/bin/tool", "tool", "?"),
        ("/opt/tools/tool~ /usr/bin/tool", "tool", "?"),
        ("/opt/tools/tool! /usr/bin/tool", "tool", "?"),
        ("/opt/tools/tool~", "tool", "?"),
        ("/opt/tools/tool->/srv/tool /srv/tool /usr/bin/tool", "tool", "?"),
        ("/opt/tools/tool->/usr/bin/tool /usr/bin/tool", "tool", "/usr/bin/tool"),
        ("/opt/tools/tool /usr/bin/tool", "/usr/bin/tool", "/usr/bin/tool"),
    ] {
        assert_eq!(start(files, command), [expected; 2], "{files} {command}");
    }
}

#[test]
fn a_mount_inside_of_another_volume_may_hide_any_file() {
    let image = scratch("/app.wasm");
    let command = ["/app.wasm".to_string()];
    let with_links = [Mount { links: Links::Anywhere, .."/data".into() }, "/data/in".into()];
    let without = ["/data", "/data/in"].map(Mount::from);
    let nested = Start { command: &command, mounts: &with_links, ..Start::default() };
    let plain = Start { command: &command, mounts: &without, ..Start::default() };
    for family in every_family() {
        assert_eq!(started(family, &image, &nested), "?", "{family:?}");
        assert_ne!(started(family, &image, &plain), "?", "{family:?}");
    }
    let layers = layered(Shape::WasmArtifact);
    for family in [Family::RunwasiWasmtime, Family::Spin, Family::Everything] {
        let image = if family == Family::Spin { layered(Shape::SpinArtifact) } else { layers.clone() };
        assert_eq!(started(family, &image, &nested), "?", "{family:?}: the shim may fall back to files");
    }
}

/// A shim that cannot read the layers takes the image for files, of which the pod's mounts may bring some.
#[test]
fn what_a_shim_finds_among_the_mounts_when_it_cannot_read_the_layers_leads_to_no_verdict() {
    let layers = layered(Shape::WasmArtifact);
    for (command, mount, expected) in [
        ("app", "/data", "layers"),
        ("app", "/usr/local/bin", "?"),
        ("app", "/usr", "?"),
        ("app", "/opt", "?"),
        ("app", "/var/lib/rancher/k3s/data/abc/bin/aux", "?"),
        ("/app", "/usr/local/bin", "layers"),
        ("/", "/usr/local/bin", "layers"),
        ("/data/app", "/data", "?"),
        ("$(APP)", "/data", "?"),
        ("./$(APP)", "/data", "?"),
        (".$(APP)", "/data", "?"),
        ("/da$(APP)", "/data", "?"),
        ("/data/$(APP)", "/data", "?"),
        ("--password=$(PASSWORD)", "/data", "layers"),
        ("--password=$(PASSWORD)", "/--password=x", "?"),
        ("--password=$(PASSWORD)", "/usr", "?"),
        ("$(APP)", "/proc", "?"),
    ] {
        let (command, mounts) = ([command.to_string()], [mount.into()]);
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        let found = started(Family::RunwasiWasmtime, &layers, &start);
        assert_eq!(found, expected, "{command:?} with a mount at {mount}");
    }
    let app = layered(Shape::SpinArtifact);
    for (mount, expected) in [("/spin.toml", "?"), ("/data", "spin app"), ("/web.wasm", "spin app")] {
        let (command, mounts) = (["/".to_string()], [mount.into()]);
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        assert_eq!(started(Family::Spin, &app, &start), expected, "{mount}");
    }
}

/// Of several modules that a search finds, youki starts any as it is where no annotation reaches it.
#[test]
fn under_youki_a_shell_runs_any_of_several_files_of_a_name() {
    let command = ["app.wasm".to_string()];
    let start = Start { command: &command, working_dir: Some("/w"), ..Start::default() };
    let files = "/usr/bin/app.wasm /usr/local/sbin/app.wasm /w->usr/bin";
    assert_eq!(started(Family::YoukiWasmtime, &scratch(&format!("{files} /bin/sh!")), &start), "?");
    assert_eq!(started(Family::YoukiWasmtime, &scratch(files), &start), "/usr/bin/app.wasm");
}

/// A runtime that does not take the layers looks for files, each in its own way.
#[test]
fn what_a_runtime_that_takes_no_layers_finds_among_the_mounts_leads_to_no_verdict() {
    let path = Variable::Literal("/m");
    for (family, shape, command, working_dir, mount) in [
        (Family::CrunWasmtime, Shape::WasmArtifact, "x.wasm", "/", "/m"),
        (Family::YoukiWasmtime, Shape::WasmArtifact, "/m/x.wasm", "/w", "/w/m"),
        (Family::Spin, Shape::RunwasiLayers, "/", "/", "/spin.toml"),
        (Family::RunwasiWasmtime, Shape::SpinArtifact, "/m/x.wasm", "/", "/m"),
    ] {
        let (image, command) = (layered(shape), [command.to_string()]);
        let with = |mount: &str| {
            let (working_dir, mounts) = (Some(working_dir), [mount.into()]);
            let start = Start { command: &command, working_dir, mounts: &mounts, path, ..Start::default() };
            [family, Family::Everything].map(|family| started(family, &image, &start))
        };
        assert_eq!(with(mount), ["?", "?"], "{family:?}");
        assert!(with("/elsewhere").iter().all(|starts| starts != "?"), "{family:?}");
    }
}

/// The kubelet makes one `$` of two, so the file of the name as it is written is not what starts.
#[test]
fn a_name_with_an_escaped_dollar_is_not_the_file_of_that_name() {
    let image = scratch("/_/a$$b.wasm /_/a$b.wasm");
    for (command, expected) in [("/_/a$$b.wasm", "?"), ("/_/a$b.wasm", "/_/a$b.wasm")] {
        let command = [command.to_string()];
        let start = Start { command: &command, ..Start::default() };
        for family in every_family().filter(|family| *family != Family::Spin) {
            assert_eq!(started(family, &image, &start), expected, "{family:?}");
        }
    }
}

/// crun reads each of these texts up to the NUL: seen with crun 1.21, which started the evil module for each of them but the annotation,
/// and there took the handler for `wasm`.
#[test]
fn a_text_with_a_nul_is_not_what_a_runtime_in_c_reads() {
    let image = scratch("/good/app.wasm /evil/app.wasm");
    let [good, evil] =
        ["/good/app.wasm", "/evil/app.wasm\0/good/app.wasm"].map(|command| [command.to_string()]);
    let bare = ["app.wasm".to_string()];
    let plain = Start { command: &good, ..Start::default() };
    let mounts = [Mount::from("/good/app.wasm\0/x")];
    let asking = |value: &str| BTreeMap::from([("run.oci.handler".to_string(), value.to_string())]);
    let [known, cut_off] = ["wasm", "wasm\0x"].map(asking);
    let path = Variable::Literal("/evil\0:/good");
    for family in [Family::CrunWasmtime, Family::YoukiWasmtime, Family::RunwasiWasmtime] {
        let asked = Start { annotations: Some(&known), ..plain };
        for start in [plain, asked] {
            assert_eq!(started(family, &image, &start), "/good/app.wasm", "{family:?}");
        }
    }
    for family in every_family() {
        for start in [
            Start { command: &evil, ..plain },
            Start { mounts: &mounts, ..plain },
            Start { working_dir: Some("/evil\0/../good"), ..plain },
            Start { annotations: Some(&cut_off), ..plain },
            Start { command: &bare, path, ..plain },
        ] {
            let program = family.start(&image, &start);
            let is_told = matches!(&program, Program::Unknown { reason } if reason.contains("has a NUL"));
            assert!(is_told, "{family:?} {start:?}: {program:?}");
            let undescribed = start_undescribed(&image, &start);
            assert!(matches!(undescribed, Program::Unknown { .. }), "{start:?}: {undescribed:?}");
        }
    }
}

/// What runwasi's shims do not know as a handler of HTTP they hand all that a command gets, and run what starts with it.
#[test]
fn a_handler_of_wasi_0_3_is_judged_as_a_command_under_shims_that_know_none() {
    let handler = |export: &str| {
        let mut image = layered(Shape::WasmArtifact);
        image.modules = vec![ModuleFacts {
            exports: [export.to_string()].into(),
            code_bytes: 100,
            ..ModuleFacts::blank("sha256:w", WasmFormat::Component)
        }];
        let kind = |family: Family| match family.start(&image, &Start::default()) {
            Program::Wasm { kind, .. } => kind,
            other => panic!("{other:?}"),
        };
        [Family::RunwasiWasmtime, Family::Spin].map(kind)
    };
    let (command, http) = (ImageKind::Component, ImageKind::HttpComponent);
    assert_eq!(handler("wasi:http/incoming-handler@0.2.0"), [http, http]);
    assert_eq!(handler("wasi:http/handler@0.3.0"), [command, http]);
}

/// A folder without a program is one all the same: a volume may bring the program, and hide another one.
#[test]
fn a_link_to_a_folder_is_followed_whatever_the_folder_holds() {
    let image = |links: &str| {
        let mut image = scratch(&format!("/usr/bin/app /other.wasm {links}"));
        image.program_folders = vec!["/volume".into()];
        image
    };
    let path = |path| Variable::Literal(path);
    let mounts = ["/volume".into()];
    for (family, command, links, working_dir, path, expected) in [
        (Family::CrunWasmtime, "app", "/w->/volume", "/", path("/w:/usr/bin"), "?"),
        (Family::CrunWasmtime, "app", "/w->volume", "/", path("w:/usr/bin"), "?"),
        (Family::CrunWasmtime, "app", "/w->/x /x->/volume/in", "/", path("/w:/usr/bin"), "?"),
        (Family::CrunWasmtime, "app", "/w->/empty", "/nowhere", path("/w:/usr/bin"), "/usr/bin/app"),
        (Family::RunwasiWasmtime, "app", "/opt/bin->/volume", "/nowhere", Variable::Unset, "?"),
        (Family::RunwasiWasmtime, "app", "/x/bin->/volume", "/nowhere", Variable::Unset, "?"),
        (Family::RunwasiWasmtime, "app", "/w->/volume", "/w", Variable::Unset, "?"),
        (Family::RunwasiWasmtime, "/other.wasm", "/x/bin->/volume", "/", Variable::Unset, "/other.wasm"),
    ] {
        let command = [command.to_string()];
        let start = Start {
            command: &command,
            mounts: &mounts,
            working_dir: Some(working_dir),
            path,
            ..Start::default()
        };
        let found = started(family, &image(links), &start);
        assert_eq!(found, expected, "{family:?} {command:?} in {working_dir} with {links}");
    }
    // The volume may hold a native program, which starts in the place of the application.
    let app = spin_files(Shape::LinuxRootfs, "/web.wasm /w->/volume");
    for (command, working_dir) in [("/w/app", "/"), ("./app", "/w")] {
        let command = [command.to_string()];
        let start =
            Start { command: &command, mounts: &mounts, working_dir: Some(working_dir), ..Start::default() };
        assert_eq!(started(Family::Spin, &app, &start), "?", "{command:?}");
    }
}

/// The node mounts `/data` first, and its volume has no link `in`, or another one: over `/`, for example.
#[test]
fn a_mount_over_a_link_that_another_volume_hides_may_be_anywhere() {
    let image = scratch("/app.wasm /other/app.wasm /srv->/data /data/in->/srv /data/up->/other");
    let start = |command: &str, mounts: &[&str], with_links: &[&str]| {
        let command = [command.to_string()];
        let links = |path: &&str| if with_links.contains(path) { Links::Anywhere } else { Links::None };
        let mounts: Vec<Mount<'_>> =
            mounts.iter().map(|path| Mount { links: links(path), ..Mount::from(*path) }).collect();
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        every_family().map(|family| started(family, &image, &start)).collect::<BTreeSet<String>>()
    };
    let refused = BTreeSet::from(["?".to_string()]);
    assert_eq!(start("/app.wasm", &["/data", "/srv/in"], &["/data"]), refused);
    assert_eq!(start("/app.wasm", &["/data", "/data/up"], &["/data"]), refused);
    assert_eq!(start("/other/app.wasm", &["/data", "/data/up"], &[]), refused, "if it is mounted first");
    assert_eq!(start("/app.wasm", &["/data", "/srv/in"], &[]), refused);
    assert_ne!(start("/app.wasm", &["/data", "/srv/out"], &[]), refused, "there is no link");
}

/// Runtimes that CRI-O drives: it may mount an empty folder at each volume of an image, where containerd mounts a copy of what the image
/// has there.
const OF_CRIO: [Family; 5] =
    [Family::CrunWasmedge, Family::CrunWasmtime, Family::CrunWasmer, Family::CrunWamr, Family::YoukiWasmtime];

fn with_volumes(image: ImageFacts, volumes: &[&str]) -> ImageFacts {
    ImageFacts { volumes: volumes.iter().map(|path| (*path).to_string()).collect(), ..image }
}

fn mounted_at(family: Family, image: &ImageFacts, command: &str, working_dir: &str, mount: &str) -> Program {
    let (command, mounts, working_dir) = ([command.to_string()], [Mount::from(mount)], Some(working_dir));
    family.start(image, &Start { command: &command, working_dir, mounts: &mounts, ..Start::default() })
}

#[test]
fn a_mount_through_a_link_below_a_volume_of_the_image_is_not_known_where_that_may_be_empty() {
    let files = "/app.wasm /vol/w->/elsewhere /q->/vol/w";
    let cases: [(&[&str], &str, bool); 9] = [
        (&[], "/vol/w/secret", true),
        (&["/data"], "/vol/w/secret", true),
        (&["/vol"], "/vol/secret", true),
        (&["/vol/w"], "/vol/w/secret", true),
        (&["/vol"], "/elsewhere/secret", true),
        (&["/vol"], "/vol/w/secret", false),
        (&["/vol"], "/vol/w", false),
        (&["/vol"], "/q/secret", false),
        // One volume of the image is led elsewhere by a link below another one.
        (&["/vol", "/vol/w/in"], "/elsewhere/in", false),
    ];
    for (volumes, mount, is_known) in cases {
        let image = with_volumes(scratch(files), volumes);
        for family in OF_CRIO.into_iter().chain([Family::Everything]) {
            let expected = if is_known { "/app.wasm" } else { "?" };
            let program = mounted_at(family, &image, "/app.wasm", "/", mount);
            assert_eq!(word(&image, &program), expected, "{volumes:?} {mount} under {family:?}");
        }
        // Shims are containerd's.
        let program = mounted_at(Family::RunwasiWasmtime, &image, "/app.wasm", "/", mount);
        assert_eq!(word(&image, &program), "/app.wasm", "{volumes:?} {mount}");
    }
    let image = with_volumes(scratch(files), &["/vol"]);
    let Program::Unknown { reason } = mounted_at(OF_CRIO[0], &image, "/app.wasm", "/", "/vol/w/secret")
    else {
        panic!("it is known")
    };
    assert!(
        reason.starts_with("the mount at `/vol/w/secret` goes through a link of the image below"),
        "{reason}"
    );
    assert!(reason.ends_with("mount it elsewhere, or build the image without that `VOLUME`"), "{reason}");
}

#[test]
fn a_working_directory_through_a_link_below_a_volume_of_the_image_is_not_known_where_that_may_be_empty() {
    let cases: [(&[&str], &str, &str); 5] = [
        (&[], "/vol/w", "/app.wasm"),
        (&["/data"], "/vol/w", "/app.wasm"),
        (&["/vol"], "/vol", "/app.wasm"),
        (&["/vol"], "/vol/folder", "/app.wasm"),
        (&["/vol"], "/vol/w", "?"),
    ];
    for (volumes, folder, expected) in cases {
        let image = with_volumes(scratch("/app.wasm /vol/w->/elsewhere"), volumes);
        let program = mounted_at(Family::CrunWasmtime, &image, "/app.wasm", folder, "/elsewhere/secret");
        assert_eq!(word(&image, &program), expected, "{volumes:?} {folder}");
        if let Program::Unknown { reason } = program {
            assert!(reason.starts_with("the working directory `/vol/w` goes through a link"), "{reason}");
            assert!(reason.contains("build the image without that `VOLUME`"), "{reason}");
        }
    }
}

#[test]
fn a_program_below_a_volume_of_the_image_is_known_unless_another_starts_where_that_is_empty() {
    let searched = |path: &str, files: &str| ImageFacts { search_path: Some(path.into()), ..linux(files) };
    let both = || searched("/usr/bin:/opt", "/usr/bin/app! /opt/app");
    let through = || searched("/vol/l:/opt", "/vol/l->/usr/bin /usr/bin/app! /opt/app");
    let alone = |files: &str| searched("/usr/bin:/opt", files);
    let native = ["linux"; 5];
    // youki starts no Wasm of such a name.
    let open = ["?", "?", "?", "?", "linux"];
    let cases: [(ImageFacts, &[&str], [&str; 5]); 8] = [
        (both(), &[], native),
        (both(), &["/data", "/opt"], native),
        (both(), &["/usr/bin"], open),
        (both(), &["/usr"], open),
        (through(), &[], native),
        (through(), &["/vol"], open),
        // Nothing else starts, and the program needs no file of the image.
        (alone("/usr/bin/app!"), &["/usr/bin"], native),
        (alone("/usr/bin/app! /data/x->/srv"), &["/data"], native),
    ];
    for (image, volumes, expected) in cases {
        let image = with_volumes(image, volumes);
        let program = |family| mounted_at(family, &image, "app", "/nowhere", "/data/x/in");
        let found = OF_CRIO.map(|family| word(&image, &program(family)));
        assert_eq!(found, expected, "{volumes:?} {:?}", image.files);
    }
    let image = with_volumes(both(), &["/usr/bin"]);
    let program = |family| mounted_at(family, &image, "app", "/nowhere", "/data");
    assert_eq!(word(&image, &program(Family::Everything)), "?");
    let Program::Unknown { reason } = program(Family::CrunWasmtime) else { panic!("it is known") };
    assert!(reason.starts_with("`app` is below one of the image's own volumes (`VOLUME`)"), "{reason}");
    assert!(reason.contains("; build the image without a `VOLUME` over its programs"), "{reason}");
    // Where it is not there the container fails.
    let image = with_volumes(scratch("/vol/app.wasm"), &["/vol"]);
    for family in OF_CRIO {
        let program = mounted_at(family, &image, "/vol/app.wasm", "/", "/data");
        assert_eq!(word(&image, &program), "/vol/app.wasm", "{family:?}");
    }
}

/// containerd mounts an empty folder, or a copy, at each volume of the image after the pod's volume around it
/// (`containerd:internal/cri/opts/spec_linux_opts.go`, `orderedMounts`), where a link in that leads it over the program.
#[test]
fn a_program_over_which_a_link_may_lead_a_volume_of_the_image_is_known_where_nothing_else_would_start() {
    let (command, asks) =
        (["server".to_string()], BTreeMap::from([(annotation::HANDLER.into(), "wasm".into())]));
    let mounts = [Mount { links: Links::Anywhere, .."/data".into() }];
    let start = |path, working_dir| Start {
        command: &command,
        working_dir: Some(working_dir),
        mounts: &mounts,
        annotations: Some(&asks),
        path,
        ..Start::default()
    };
    let started = |family, files: &str, volumes: &[&str], start: &Start<'_>| {
        let image = with_volumes(linux(files), volumes);
        assert_eq!(program::start(&image, start), Program::Linux, "without a class of Wasm");
        started(family, &image, start)
    };
    let families = [Family::RunwasiWasmtime, Family::RunwasiWasmer, Family::CrunWasmer, Family::CrunWamr];
    let program = "/usr/local/bin/server!";
    let cases: [(&str, &[&str], &str, &str); 9] = [
        (program, &[], "/data", "linux"),
        (program, &["/data"], "/data", "linux"),
        (program, &["/other/l"], "/data", "linux"),
        (program, &["/data/l"], "/data", "?"),
        (program, &["/data/l"], "/data/in", "?"),
        (program, &["/dev/shm/l"], "/data", "?"),
        // As of a database: the search ends with nothing.
        (program, &["/data/l"], "/", "linux"),
        // The volume has files of the image, which may be over any other.
        ("/usr/local/bin/server! /data/l/tool?", &[], "/", "linux"),
        ("/usr/local/bin/server! /data/l/tool?", &["/data/l"], "/", "?"),
    ];
    for (files, volumes, working_dir, expected) in cases {
        for family in families {
            let found = started(family, files, volumes, &start(Variable::Unset, working_dir));
            assert_eq!(found, expected, "{family:?} {files} {volumes:?} {working_dir}");
        }
    }
    // A text behind it in the `PATH`, which wasmer assembles.
    let text = "/usr/local/bin/server! /opt/server?";
    let texts: [(&[&str], &str); 3] = [(&[], "linux"), (&["/data"], "linux"), (&["/data/l"], "?")];
    for (volumes, expected) in texts {
        let start = start(Variable::Literal("/usr/local/bin:/opt"), "/nowhere");
        assert_eq!(started(Family::CrunWasmer, text, volumes, &start), expected, "{volumes:?}");
    }
    let image = with_volumes(linux(program), &["/data/l"]);
    for family in families {
        let Program::Unknown { reason } = family.start(&image, &start(Variable::Unset, "/data")) else {
            panic!("it is known")
        };
        assert!(
            reason.starts_with("the image's own volume at `/data/l` is inside of another volume"),
            "{reason}"
        );
    }
}

/// An index may lead nodes of another platform to another link.
#[test]
fn a_path_through_what_differs_between_platforms_leads_to_no_verdict() {
    let mut image = scratch("/usr/bin/app /other.wasm /w->/x");
    let link = image.files.iter_mut().find(|(name, _)| name == "/w").unwrap();
    link.1 = FileClass::Unreadable { message: "it is not the same on every platform".into() };
    let started = |command: &str, path, mounts: &[&str]| {
        let command = [command.to_string()];
        let mounts: Vec<Mount<'_>> = mounts.iter().map(|path| Mount::from(*path)).collect();
        let start = Start { command: &command, path, mounts: &mounts, ..Start::default() };
        started(Family::CrunWasmtime, &image, &start)
    };
    assert_eq!(started("/w/app", Variable::Unset, &[]), "?");
    assert_eq!(started("app", Variable::Literal("/w:/usr/bin"), &[]), "?");
    assert_eq!(started("/other.wasm", Variable::Unset, &["/w/in"]), "?", "the mount may be over the program");
    assert_eq!(started("/other.wasm", Variable::Unset, &["/data"]), "/other.wasm");
}

#[test]
fn a_mount_through_more_links_than_the_kernel_follows_hides_the_program() {
    let links: Vec<String> = (0..100).map(|n| format!("/l{n}->/")).collect();
    let image = scratch(&format!("/app.wasm {}", links.join(" ")));
    let mount = (0..100).map(|n| format!("/l{n}")).collect::<Vec<_>>().concat();
    let (command, mounts) = (["/app.wasm".to_string()], [format!("{mount}/app.wasm")]);
    let mounts = mounts.each_ref().map(|path| Mount::from(path.as_str()));
    let start = Start { command: &command, mounts: &mounts, ..Start::default() };
    for family in FAMILIES {
        assert_eq!(started(family, &image, &start), "?", "{family:?}");
    }
}

/// `/sys/class/net/lo/subsystem` leads to `/sys/class/net`, and `/proc/self/root` to `/`.
#[test]
fn a_mount_through_links_of_the_kernel_may_hide_any_file() {
    let command = ["/app.wasm".to_string()];
    for (files, mount, expected) in [
        ("/app.wasm", "/sys/devices/virtual/net/lo/subsystem/../../../app.wasm", "?"),
        ("/app.wasm", "/sys/class/net/lo/subsystem/../x", "?"),
        ("/app.wasm /q->/sys/class/net/lo/subsystem/../../../app.wasm", "/q", "?"),
        ("/app.wasm /q->/sys/class/net/lo/subsystem/..", "/q", "?"),
        ("/app.wasm /q->/proc/self/root", "/q/app.wasm", "?"),
        ("/app.wasm", "/proc/self/root/app.wasm", "?"),
        ("/app.wasm", "/dev/fd/3", "?"),
        ("/app.wasm /sys/x->/app.wasm", "/sys/fs/cgroup", "/app.wasm"),
        ("/app.wasm", "/dev/shm", "/app.wasm"),
        ("/app.wasm", "/proc/cpuinfo", "/app.wasm"),
    ] {
        let mounts = ["/proc", "/sys", "/dev", mount].map(Mount::from);
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        for family in FAMILIES {
            let found = started(family, &scratch(files), &start);
            assert_eq!(found.trim_end_matches('+'), expected, "{family:?}: {files}, {mount}");
        }
    }
}

/// The `PATH` of a shim is that of its node.
#[test]
fn a_bare_name_is_judged_by_every_file_of_that_name() {
    let command = ["app".to_string()];
    for (files, mount, expected) in [
        ("/app /var/lib/rancher/k3s/data/abc/bin/aux/app", "/data", "?"),
        ("/app /x/app /opt/bin->/x", "/data", "?"),
        ("/app", "/opt", "?"),
        ("/app", "/usr/local/games", "?"),
        ("/app", "/data", "/app"),
    ] {
        let mounts = [mount.into()];
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        assert_eq!(started(Family::RunwasiWasmtime, &scratch(files), &start), expected, "{files}, {mount}");
    }
}

/// A tree of one layer, scanned: the facts of a row that is made by hand may be those of no image.
fn scanned(shape: Shape, files: &[(&str, u32, &[u8])]) -> ImageFacts {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    let limits = UnpackLimits { layer: 1 << 20, file: 1 << 20 };
    let mut tree = Tree::new(limits, Vec::new(), Arc::default());
    tree.apply(&*archive.into_inner().unwrap(), Compression::Plain).unwrap();
    let found = tree.files().unwrap();
    let modules = found.modules.into_iter().map(|read| ModuleFacts { source: read.source, ..module("") });
    ImageFacts {
        modules: modules.collect(),
        files: found.entries,
        program_folders: found.program_folders,
        ..blank(shape)
    }
}

const WASM: &[u8] = b"\0asm\x01\0\0\0";
const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0";
const AOT: &[u8] = b"\0aot\x03\0\0\0";
const TEXT: &[u8] = b"(module)";

/// Wherever a search may come before it finds the module, whatever is there.
#[test]
fn a_module_by_a_bare_name_is_judged_only_where_nothing_else_of_the_image_has_that_name() {
    let command = ["app".to_string()];
    for (folder, mode, content) in [
        ("usr/games", 0o644, ELF),
        ("opt/tools", 0o644, ELF),
        ("opt/tools", 0o755, AOT),
        ("opt/tools", 0o644, AOT),
        ("opt/tools", 0o755, TEXT),
        ("opt/tools", 0o644, TEXT),
    ] {
        let name = format!("{folder}/app");
        let with = scanned(Shape::ScratchRootfs, &[("app", 0o755, WASM), (&name, mode, content)]);
        let without =
            scanned(Shape::ScratchRootfs, &[("app", 0o755, WASM), ("opt/tools/apps", mode, content)]);
        let path = format!("/{folder}:/");
        let start = Start { command: &command, path: Variable::Literal(&path), ..Start::default() };
        for family in Family::DESCRIBED.into_iter().filter(|family| column(*family) != Family::YoukiWasmtime)
        {
            if matches!(family, Family::Spin) {
                continue;
            }
            let passes =
                column(family) == Family::CrunWasmtime && mode & 0o111 == 0 && !content.starts_with(b"\0");
            // crun passes over what no user may execute, and finds the module; an ELF file may be WasmEdge's.
            let expected = if passes && content != ELF { "/app" } else { "?" };
            assert_eq!(started(family, &with, &start), expected, "{family:?} {name} {mode:o}");
            assert_eq!(started(family, &without, &start), "/app", "{family:?}");
        }
    }
}

/// Ordinary images have files with the names of their programs: settings, completions, rotations of logs.
#[test]
fn a_native_program_by_a_bare_name_is_one_beside_texts_of_its_name_and_not_beside_what_an_engine_may_run() {
    let command = ["app".to_string()];
    let starts = |program: &str, other: (&str, u32, &[u8]), working_dir: &str| {
        let image = scanned(Shape::LinuxRootfs, &[(program, 0o755, ELF), other]);
        let mounts = [Mount::from("/data")];
        let start =
            Start { command: &command, working_dir: Some(working_dir), mounts: &mounts, ..Start::default() };
        [Family::RunwasiWasmtime, Family::CrunWamr].map(|family| started(family, &image, &start))
    };
    for program in ["usr/sbin/app", "usr/bin/app"] {
        for text in ["etc/default/app", "usr/share/bash-completion/completions/app", "etc/logrotate.d/app"] {
            assert_eq!(starts(program, (text, 0o644, TEXT), "/"), ["linux"; 2], "{program} {text}");
            assert_eq!(starts(program, (text, 0o755, TEXT), "/"), ["linux"; 2], "{program} {text}");
        }
    }
    // The working directory is a volume, and the search ends before it.
    assert_eq!(starts("usr/bin/app", ("etc/default/app", 0o644, TEXT), "/data"), ["linux"; 2]);
    for (name, mode, content) in
        [("opt/tools/app", 0o755, AOT), ("opt/tools/app", 0o644, ELF), ("w/app", 0o644, TEXT)]
    {
        let found = starts("opt/app", (name, mode, content), "/w");
        assert_eq!(found.first().map(String::as_str), Some("?"), "{name}");
    }
    let first = starts("usr/bin/app", ("opt/tools/app", 0o755, TEXT), "/data");
    assert_eq!(
        first.first().map(String::as_str),
        Some("?"),
        "the check fails there, and the volume brings Wasm"
    );
}

#[test]
fn crun_stops_at_whatever_its_user_may_execute_in_a_folder_of_the_path() {
    let command = ["app".to_string()];
    let path = Variable::Literal("/evil:/good");
    let starts = |content: &[u8], mode: u32, good: &[u8]| {
        let image = scanned(Shape::ScratchRootfs, &[("evil/app", mode, content), ("good/app", 0o755, good)]);
        let start = Start { command: &command, path, working_dir: Some("/nowhere"), ..Start::default() };
        [Family::CrunWamr, Family::CrunWasmer].map(|family| started(family, &image, &start))
    };
    assert_eq!(starts(AOT, 0o755, WASM), ["?"; 2]);
    assert_eq!(starts(TEXT, 0o711, WASM), ["?"; 2]);
    assert_eq!(starts(AOT, 0o755, ELF), ["?"; 2], "an annotation asks for Wasm");
    assert_eq!(starts(TEXT, 0o644, WASM), ["/good/app"; 2], "it passes over it");
}

#[test]
fn the_spin_shim_does_not_start_what_a_volume_may_exchange_after_it_unpacked_the_layers() {
    let with = |shape: Shape, mount: &str| {
        let mounts = ["/proc", mount].map(Mount::from);
        let start = Start { mounts: &mounts, ..Start::default() };
        started(Family::Spin, &layered(shape), &start)
    };
    for place in ["/.cache", "/.cache/registry/wasm/", "/spin.json", "/assets/web/s", "/./assets", "/"] {
        assert_eq!(with(Shape::SpinArtifact, place), "?", "{place}");
        assert_eq!(with(Shape::WasmArtifact, place), "?", "{place}");
    }
    for place in ["/.cached", "/spin.jsonx", "/assets-of-web", "/data", "/.spin"] {
        assert_eq!(with(Shape::SpinArtifact, place), "spin app", "{place}");
    }
    let mounts = [Mount { links: Links::Anywhere, .."/data".into() }, "/data/in".into()];
    let nested = Start { mounts: &mounts, ..Start::default() };
    assert_eq!(started(Family::Spin, &layered(Shape::SpinArtifact), &nested), "?");
}

/// The shim unpacks archives below `TMPDIR`, or else in the working directory.
#[test]
fn the_spin_shim_does_not_unpack_archives_where_another_container_writes() {
    let archives = ImageFacts { archives: true, ..layered(Shape::SpinArtifact) };
    let with = |image: &ImageFacts, temporary, working_dir, shares_memory| {
        let shared = Mount { links: Links::Anywhere, workers: true, shared: true, .."/w".into() };
        let own = Mount { links: Links::Anywhere, .."/own".into() };
        let mounts = ["/proc".into(), "/dev".into(), shared, own, "/config".into()];
        let start = Start { temporary, working_dir, shares_memory, mounts: &mounts, ..Start::default() };
        started(Family::Spin, image, &start)
    };
    let (set, pod) = (Variable::Literal, Some(Sharer::Pod));
    for (temporary, working_dir, sharer) in [
        (set("/w"), None, pod),
        (set("/w/deep"), None, None),
        (set("w"), None, None),
        (set(""), Some("/w"), pod),
        (set("/own/../w"), None, None),
        (set("/own/link"), None, None),
        (Variable::Unset, Some("/w"), None),
        (Variable::Unset, None, None),
        (set("/dev/shm"), None, pod),
        (set("/proc/self/cwd"), None, pod),
        (Variable::Elsewhere, None, pod),
        (Variable::Elsewhere, None, None),
    ] {
        assert_eq!(with(&archives, temporary, working_dir, sharer), "?", "{temporary:?} {working_dir:?}");
        let none = layered(Shape::SpinArtifact);
        assert_eq!(with(&none, temporary, working_dir, sharer), "spin app", "{temporary:?}: no archive");
    }
    for (temporary, working_dir) in [(set("/own"), None), (set("/tmp"), Some("/w")), (set("/wide"), None)] {
        assert_eq!(with(&archives, temporary, working_dir, pod), "spin app", "{temporary:?} {working_dir:?}");
    }
    let alone = Start { mounts: &["/own".into()], ..Start::default() };
    assert_eq!(started(Family::Spin, &archives, &alone), "spin app", "no other container writes anywhere");
}

#[test]
fn a_volume_over_the_link_to_a_module_of_spin_hides_the_module() {
    let mut image = spin_files(Shape::SpinRootfs, "/web.wasm /l/x.wasm->/web.wasm");
    let with = |image: &ImageFacts, mount: &str| {
        let (command, mounts) = (["/".to_string()], [mount.into()]);
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        started(Family::Spin, image, &start)
    };
    assert_eq!(with(&image, "/l"), "spin app", "the application does not use the link");
    image.spin.as_mut().unwrap().components[0].ways = vec!["/l/x.wasm".into()];
    assert_eq!(with(&image, "/data"), "spin app");
    for mount in ["/l", "/l/x.wasm", "/web.wasm"] {
        assert_eq!(with(&image, mount), "?", "{mount}");
    }
}

#[test]
fn machine_code_of_wasmedge_is_native_where_wasmedge_may_run_it() {
    let mut image = scratch("/app.wasm");
    image.modules[0].features = [Feature::WasmedgeMachineCode].into();
    let command = ["/app.wasm".to_string()];
    let start = Start { command: &command, ..Start::default() };
    for family in [Family::RunwasiWasmedge, Family::CrunWasmedge, Family::Everything] {
        assert_eq!(started(family, &image, &start), "native /app.wasm", "{family:?}");
    }
    for family in [Family::RunwasiWasmtime, Family::CrunWasmtime, Family::YoukiWasmtime] {
        assert_eq!(started(family, &image, &start), "/app.wasm", "{family:?}");
    }
}

#[test]
fn a_name_in_more_places_than_are_looked_at_leads_to_no_verdict() {
    let folders = |count: usize| (0..count).map(|n| format!("/opt/{n}/bin"));
    let files = |count: usize| {
        folders(count).map(|folder| format!("{folder}/app.wasm")).collect::<Vec<_>>().join(" ")
    };
    let command = ["app.wasm".to_string()];
    let start = Start { command: &command, working_dir: Some("/nowhere"), ..Start::default() };
    assert_eq!(started(Family::RunwasiWasmtime, &scratch(&files(1)), &start), "/opt/0/bin/app.wasm");
    for family in [Family::RunwasiWasmtime, Family::RunwasiWasmedge, Family::Spin] {
        assert_eq!(started(family, &scratch(&files(40_000)), &start), "?", "{family:?}");
    }
    let path = folders(300).chain(["/bin".to_string()]).collect::<Vec<_>>().join(":");
    let searched = Start { path: Variable::Literal(&path), ..start };
    assert_eq!(started(Family::CrunWasmtime, &scratch("/opt/299/bin/app.wasm"), &searched), "?");
}

#[test]
fn a_path_that_no_kernel_takes_leads_nowhere_and_hides_nothing() {
    let image = scratch("/a/a/app.wasm");
    let long = format!("{}/app.wasm", "/a".repeat(50_000));
    let deep = format!("{}/x", "/a".repeat(300));
    let command = [long.clone()];
    let mounts = [long.as_str().into()];
    for family in every_family() {
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        assert_eq!(started(family, &image, &start), "?", "{family:?}");
        let named = ["/a/a/app.wasm".to_string()];
        let mounts = [deep.as_str().into()];
        let under = Start { command: &named, mounts: &mounts, ..Start::default() };
        assert_eq!(
            started(family, &image, &under),
            "?",
            "what a deep mount hides is not followed: {family:?}"
        );
        // runc puts the path in order before it mounts.
        let long = format!("{}/a/a/app.wasm", "/.".repeat(5000));
        for long in [long.as_str(), "/a/a/app.wasm"] {
            let under = Start { command: &named, mounts: &[long.into()], ..Start::default() };
            assert_eq!(started(family, &image, &under), "?", "{family:?}");
        }
        let elsewhere = format!("{}/data", "/.".repeat(5000));
        let Program::Unknown { reason } = family.start(
            &image,
            &Start { command: &named, mounts: &[elsewhere.as_str().into()], ..Start::default() },
        ) else {
            panic!("{family:?}")
        };
        assert!(reason.contains("8192 bytes"), "{reason}");
    }
}

/// A kernel passes over a folder of a search whose path is too long for it, and goes on behind it.
#[test]
fn crun_is_not_known_to_find_a_program_in_a_folder_whose_path_the_kernel_does_not_take() {
    let command = ["app".to_string()];
    let image = linux("/usr/bin/app! /evil/app");
    let starts = |dots: usize| {
        let path = format!("/usr/{}bin:/evil", "./".repeat(dots));
        let start = Start { command: &command, path: Variable::Literal(&path), ..Start::default() };
        started(Family::CrunWasmtime, &image, &start)
    };
    assert_eq!(starts(0), "linux");
    assert_eq!(starts(2100), "?");
    let dots = "./".repeat(2100);
    let start = Start {
        command: &command,
        path: Variable::Literal("bin:evil"),
        working_dir: Some(dots.as_str()),
        ..Start::default()
    };
    let image = linux("/bin/app! /evil/app");
    assert_eq!(started(Family::CrunWasmtime, &image, &start), "?", "counted from the root as well");
}

/// musl's `realpath` takes less than 4096 bytes, so that the check misses a program that the gate finds.
#[test]
fn a_native_program_by_a_path_too_long_for_the_shims_library_is_not_one_where_the_part_before_the_hash_starts()
 {
    let command = [format!("/w#/{}m", "./".repeat(2200))];
    let start = Start { command: &command, ..Start::default() };
    let with = linux("/bin/sh! /w#/m! /w");
    let without = linux("/bin/sh! /w#/m!");
    for family in Family::DESCRIBED.into_iter().filter(|family| is_of_runwasi(*family)) {
        assert_eq!(started(family, &with, &start), "?", "{family:?}");
        assert_eq!(started(family, &without, &start), "linux", "{family:?}: nothing else starts");
    }
    let Program::Unknown { reason } = Family::RunwasiWasmtime.start(&with, &start) else {
        panic!("it is not known")
    };
    assert!(reason.contains("starts `/w` as Wasm") && reason.len() < 600, "{reason}");
    assert!(reason.ends_with("give the program a name without `#`"), "{reason}");
}

fn is_of_runwasi(family: Family) -> bool {
    matches!(column(family), Family::RunwasiWasmtime | Family::RunwasiWasmedge)
}

/// Whatever it is that the shim would find there, but for what none of its engines runs.
#[test]
fn a_native_program_with_a_hash_in_its_name_is_one_where_nothing_is_named_by_the_part_before_it() {
    let starts = |image: &ImageFacts, command: &str, mount: &'static str| {
        let command = [command.to_string()];
        let start = Start { command: &command, mounts: &[mount.into()], ..Start::default() };
        let [one, other] =
            [Family::RunwasiWasmtime, Family::RunwasiWasmedge].map(|family| started(family, image, &start));
        assert_eq!(one, other, "{command:?}");
        one
    };
    for (files, command, mount, expected) in [
        ("/w#m!", "/w#m", "/data", "linux"),
        ("/w#m! /w?", "/w#m", "/data", "linux"),
        ("/w#m! /w!", "/w#m", "/data", "linux"),
        ("/w#m! /w", "/w#m", "/data", "?"),
        ("/w#m! /w->/srv/w /srv/w", "/w#m", "/data", "?"),
        ("/w#m!", "/w#m", "/w", "?"),
        ("/w#m#n! /w", "/w#m#n", "/data", "?"),
        ("/w#m#n! /w#m", "/w#m#n", "/data", "linux"),
        ("/w#m! /w", "/w#none", "/data", "?"),
        ("/bin/tool#m! /srv/tool", "tool#m", "/data", "?"),
        ("/bin/tool#m!", "tool#m", "/tool", "?"),
        ("/bin/tool#m!", "tool#m", "/data", "linux"),
        // The part before it has no slash, and is searched for.
        ("/w#/m! /usr/bin/w", "w#/m", "/data", "?"),
        ("/#m!", "/#m", "/data", "linux"),
        ("/bin/#m!", "#m", "/data", "linux"),
        ("/bin/sh! /w", "/bin/sh", "/data", "linux"),
    ] {
        assert_eq!(starts(&linux(files), command, mount), expected, "{files} {command} {mount}");
    }
    let mut image = scratch("/w#m! /w");
    assert_eq!(starts(&image, "/w#m", "/data"), "?");
    image.files.retain(|(name, _)| name != "/w");
    assert_eq!(starts(&image, "/w#m", "/data"), "native /w#m");
    for (mode, content) in [(0o755, AOT), (0o644, WASM)] {
        let image = scanned(Shape::LinuxRootfs, &[("w#m", 0o755, ELF), ("w", mode, content)]);
        assert_eq!(starts(&image, "/w#m", "/data"), "?", "{content:?}");
    }
}

#[test]
fn looking_for_a_mount_takes_the_logarithm_of_their_number() {
    let image = scratch("/app.wasm");
    let paths: Vec<String> = (0..20_000).map(|number| format!("/data/{number}/x")).collect();
    let mounts: Vec<Mount<'_>> = paths.iter().map(|path| path.as_str().into()).collect();
    let start = Start { mounts: &mounts, ..Start::default() };
    let view = View::new(&image, &start);
    assert!((0..20_000).all(|number| view.hiding(&format!("/bin/{number}")).is_none()));
    assert_eq!(view.hiding("/data/7/x/y").as_deref(), Some("/data/7/x"));
}

/// What Spin starts of an application with these components, or why it is not known.
fn with_retained(image: &ImageFacts, retained: Variable<'_>) -> String {
    let command = ["/".to_string()];
    let start = Start { command: &command, retained, ..Start::default() };
    match Family::Spin.start(image, &start) {
        Program::Unknown { reason } => reason.into(),
        _ => started(Family::Spin, image, &start),
    }
}

/// As in `spin:crates/app/src/lib.rs` (`retain_components`), `spin:crates/factor-outbound-networking/src/allowed_hosts.rs`
/// (`validate_service_chaining_for_components`) and `containerd-shim-spin:containerd-shim-spin/src/engine.rs` (`run_trigger`).
#[test]
fn spin_refuses_components_that_it_would_not_start() {
    let mut image = spin_files(Shape::SpinRootfs, "/web.wasm");
    let component = |id: &str, hosts: &[&str], trigger: Option<&str>| SpinComponent {
        id: id.into(),
        allowed_outbound_hosts: hosts.iter().map(|host| OutboundHost::from(*host)).collect(),
        triggers: trigger.into_iter().map(String::from).collect(),
        ..SpinComponent::default()
    };
    let app = image.spin.as_mut().unwrap();
    app.components[0].triggers = ["http".to_string()].into();
    let hosts = ["http://web.spin.internal", "http://{{ x }}.spin.internal"];
    app.components.push(component("front", &hosts, Some("http")));
    app.components.push(component("all", &["http://*.spin.internal"], Some("http")));
    app.components.push(component("lib", &["http://front.spin.internal"], None));
    let kept = |retained| with_retained(&image, retained);
    assert_eq!(kept(Variable::Unset), "spin app");
    assert_eq!(kept(Variable::Elsewhere), "spin app");
    for list in ["web", "web,front", "front,web,front", ",web,", "web,lib"] {
        assert_eq!(kept(Variable::Literal(list)), "spin app", "{list}");
    }
    for (list, said) in [
        ("wbe", "`wbe`, which the application does not have"),
        // Names are compared as they are written.
        ("web, front", "` front`, which the application does not have"),
        (" ", "` `, which the application does not have"),
        ("front", "may call `web`"),
        ("all,web,front", "may call `*`"),
        ("", "names no component that a trigger of the application starts"),
        (",", "names no component that a trigger of the application starts"),
        ("lib", "names no component that a trigger of the application starts"),
    ] {
        let reason = kept(Variable::Literal(list));
        assert!(reason.contains(said), "{list:?}: {reason}");
    }
}

/// As in `spin:crates/manifest/src/normalize.rs` (`normalize_inline_components`).
#[test]
fn spin_keeps_a_component_inside_a_trigger_by_the_id_that_it_gives_it() {
    let mut image = spin_files(Shape::SpinRootfs, "/web.wasm");
    let manifest = r#"
        spin_manifest_version = 2
        [application]
        name = "shop"
        [[trigger.http]]
        route = "/web"
        component = { source = "web.wasm" }
        [[trigger.http]]
        route = "/front"
        component = "front"
        [component.front]
        source = "web.wasm"
        allowed_outbound_hosts = ["http://http-trigger1-component.spin.internal"]"#;
    image.spin = Some(crate::image::spin::manifest::parse(manifest.as_bytes()).unwrap());
    let kept = |list| with_retained(&image, Variable::Literal(list));
    assert_eq!(kept("front,http-trigger1-component"), "spin app");
    assert_eq!(kept("http-trigger1-component"), "spin app");
    assert!(kept("front").contains("may call `http-trigger1-component`"), "{}", kept("front"));
    for list in ["front,http-triger1-component", "trigger.http[0].component", "http-trigger2-component"] {
        assert!(kept(list).contains("which the application does not have"), "{list}: {}", kept(list));
    }
}

#[test]
fn a_look_up_keeps_what_every_runtime_loads_as_native_code() {
    for family in Family::DESCRIBED {
        for way in family.runtime().native_ways() {
            match way {
                NativeWay::Section { feature, name } => {
                    assert_eq!(machine_code(name), Some(feature), "{family:?}");
                }
                NativeWay::PlugInFolders { usual } => {
                    assert!(usual.iter().all(|folder| is_of_plug_ins(folder)), "{family:?}: {usual:?}");
                }
                NativeWay::Resolver | NativeWay::Users => {
                    let loaded = ["/usr/lib64/libnss_x.so.2", "/libnss_x/y.so.2", "/etc/ld.so.cache"];
                    assert!(loaded.iter().all(|file| is_of_resolver(file)), "{family:?}");
                }
                NativeWay::PlugIns(_) => {}
            }
        }
    }
}

#[test]
fn spin_refuses_triggers_that_it_lacks() {
    let mut image = spin_files(Shape::SpinRootfs, "/web.wasm");
    let app = image.spin.as_mut().unwrap();
    app.triggers = ["http", "mqtt", "timer"].map(String::from).into();
    app.components[0].triggers = ["http".to_string()].into();
    let timed = SpinComponent { triggers: ["timer".to_string()].into(), ..app.components[0].clone() };
    app.components.push(SpinComponent { id: "timed".into(), ..timed });
    let kept = |retained| with_retained(&image, retained);
    let lacks = "a trigger of the type `timer`";
    assert!(kept(Variable::Unset).contains(lacks), "{}", kept(Variable::Unset));
    assert!(kept(Variable::Literal("web,timed")).contains(lacks));
    assert_eq!(kept(Variable::Literal("web")), "spin app", "its trigger is left out");
    assert_eq!(kept(Variable::Elsewhere), "spin app", "what is left out is not known");
}

/// runwasi's check before the start assembles text (`runwasi:crates/containerd-shim-wasm/src/shim/shim.rs`, `can_handle`), and
/// its engines take binaries alone (`runwasi:crates/containerd-shim-{wasmtime,wasmer,wamr}/src/instance.rs`).
#[test]
fn text_is_started_by_runtimes_that_assemble_it_and_refused_elsewhere() {
    let mut image = scratch("/app.wat");
    let text = crate::image::module::read_text(b"(module (func (export \"_start\")))", "/app.wat").unwrap();
    image.modules = vec![text];
    let command = ["/app.wat".to_string()];
    let started = |family| started(family, &image, &Start { command: &command, ..Start::default() });
    for family in
        [Family::RunwasiWasmtime, Family::RunwasiWasmedge, Family::RunwasiWasmer, Family::RunwasiWamr]
    {
        assert_eq!(started(family), "/app.wat+", "{family:?}");
    }
    for family in [Family::CrunWasmedge, Family::CrunWasmtime, Family::CrunWamr] {
        assert_eq!(started(family), "/app.wat+", "{family:?}");
    }
    for family in [Family::CrunWasmer, Family::YoukiWasmtime] {
        assert_eq!(started(family), "/app.wat", "{family:?}");
    }
}

/// `wasi-common:src/lib.rs`, `add_to_linker`, and the proposals that its engine has on by default.
#[test]
fn youki_links_the_first_snapshot_of_wasi_too() {
    let mut image = scratch("/app.wasm");
    let command = ["/app.wasm".to_string()];
    for (feature, expected) in [
        (Feature::WasiUnstable, "/app.wasm"),
        (Feature::SharedMemory, "/app.wasm+"),
        (Feature::WasiThreads, "/app.wasm+"),
        (Feature::WasiNn, "/app.wasm+"),
        (Feature::Memory64, "/app.wasm"),
        (Feature::ExceptionHandling, "/app.wasm+"),
        (Feature::GarbageCollection, "/app.wasm+"),
    ] {
        image.modules[0].features = [feature].into();
        let start = Start { command: &command, ..Start::default() };
        assert_eq!(started(Family::YoukiWasmtime, &image, &start), expected, "{feature:?}");
    }
}

/// A build of crun may have handlers besides the one that the profile describes.
#[test]
fn an_annotation_that_asks_crun_for_another_handler_leads_to_no_verdict() {
    let key = "run.oci.handler";
    let command = ["/app.wasm".to_string()];
    let by = |family: Family, handler: &str| {
        let annotations = [(key.to_string(), handler.to_string())].into();
        let of_pod = Start { command: &command, annotations: Some(&annotations), ..Start::default() };
        let found = started(family, &scratch("/app.wasm"), &of_pod);
        let mut image = scratch("/app.wasm");
        let seen = format!("manifest.annotations.{key}");
        image.evidence.push(Evidence { seen, value: handler.into() });
        let plain = Start { command: &command, ..Start::default() };
        assert_eq!(started(family, &image, &plain), found, "the image's annotation may reach crun too");
        found
    };
    for handler in ["wasm", "wasm-smart", "wasmtime"] {
        assert_eq!(by(Family::CrunWasmtime, handler), "/app.wasm", "{handler}");
    }
    for handler in ["wasmedge", "wamr", "krun", "dotnet", "spin", "compat", "x"] {
        assert_eq!(by(Family::CrunWasmtime, handler), "?", "{handler}");
    }
    assert_eq!(
        by(Family::RunwasiWasmtime, "krun"),
        "/app.wasm",
        "another runtime does not know the annotation"
    );
    assert_eq!(by(Family::Everything, "wasmedge"), "/app.wasm", "one of them is that handler");
    assert_eq!(by(Family::Everything, "krun"), "?");
    let image = linux("/bin/app!");
    let (command, annotations) = (["/bin/app".to_string()], [(key.to_string(), "krun".to_string())].into());
    let start = Start { command: &command, annotations: Some(&annotations), ..Start::default() };
    assert_eq!(
        started(Family::CrunWasmtime, &image, &start),
        "linux",
        "in a virtual machine, but the same program"
    );
}

/// crun does more for annotations than choose a handler.
#[test]
fn an_annotation_by_which_crun_acts_on_the_node_leads_to_no_verdict() {
    let command = ["/app.wasm".to_string()];
    let by = |family: Family, key: &str, value: &str| {
        let annotations = [(key.to_string(), value.to_string())].into();
        let start = Start { command: &command, annotations: Some(&annotations), ..Start::default() };
        let found = started(family, &scratch("/app.wasm"), &start);
        let mut image = scratch("/app.wasm");
        for (seen, value) in annotation::seen(&annotations) {
            image.evidence.push(Evidence { seen, value: value.into() });
        }
        let plain = Start { command: &command, ..Start::default() };
        assert_eq!(started(family, &image, &plain), found, "the image's annotation may reach crun too");
        found
    };
    let context = "run.oci.mount_context_type";
    for (key, value) in [
        ("run.oci.hooks.stdout", "/x"),
        ("run.oci.seccomp.plugins", "/x"),
        ("run.oci.of_tomorrow", "/x"),
        ("run.oci.systemd.subgroup", "../../system.slice"),
        ("run.oci.systemd.subgroup", "inner"),
        ("run.oci.delegate-cgroup", "../../system.slice"),
        (context, "size=1g,context"),
        ("org.criu.config", "/x"),
        ("org.systemd.property.DeviceAllow", "/x"),
    ] {
        assert_eq!(by(Family::CrunWasmtime, key, value), "?", "{key}: {value}");
        assert_eq!(by(Family::Everything, key, value), "?", "{key}: {value}");
        assert_eq!(by(Family::RunwasiWasmtime, key, value), "/app.wasm", "{key}: {value}");
    }
    for (key, value) in [("run.oci.keep_original_groups", "1"), (context, "rootcontext")] {
        assert_eq!(by(Family::CrunWasmtime, key, value), "/app.wasm", "{key}: {value}");
    }
    let mut image = linux("/bin/app!");
    image.evidence.push(Evidence {
        seen: "manifest.annotations.org.systemd.property.DeviceAllow".into(),
        value: "x".into(),
    });
    let command = ["/bin/app".to_string()];
    let start = Start { command: &command, ..Start::default() };
    assert_eq!(started(Family::CrunWasmtime, &image, &start), "linux", "no Linux program is judged");
}

/// `wasmedge compile` writes a shared library, out of which WasmEdge takes the module.
#[test]
fn crun_with_wasmedge_runs_the_machine_code_of_an_elf_file_where_an_annotation_asks_for_wasm() {
    let asked = |family: Family, command: &str, key: &str, value: &str| {
        let command = [command.to_string()];
        let annotations = [(key.to_string(), value.to_string())].into();
        let of_pod = Start { command: &command, annotations: Some(&annotations), ..Start::default() };
        let mut image = linux("/app.so! /app.WASM! /bin/app!");
        let found = started(family, &image, &of_pod);
        let seen = format!("manifest.annotations.{key}");
        image.evidence.push(Evidence { seen, value: value.into() });
        let plain = Start { command: &command, ..Start::default() };
        assert_eq!(started(family, &image, &plain), found, "the image's annotation may reach crun too");
        found
    };
    let (handler, variant) = ("run.oci.handler", "module.wasm.image/variant");
    for (command, key, value, expected) in [
        ("/app.so", handler, "wasmedge", "?"),
        ("/app.so", handler, "wasm", "?"),
        ("app", variant, "compat", "?"),
        ("/app.WASM", variant, "compat-smart", "?"),
        ("/app.WASM", handler, "wasm-smart", "?"),
        ("/app.so", variant, "compat-smart", "linux"),
        ("/app.so", handler, "wasm-smart", "linux"),
        ("/app.so", handler, "krun", "linux"),
        ("/app.so", "unknown", "wasm", "linux"),
    ] {
        assert_eq!(asked(Family::CrunWasmedge, command, key, value), expected, "{command} {key}: {value}");
        assert_eq!(asked(Family::CrunWasmtime, command, key, value), "linux", "another engine fails on one");
        assert_eq!(asked(Family::Everything, command, key, value), expected, "one of them is WasmEdge");
    }
    let (command, annotations) = (["/run".to_string()], [(variant.to_string(), "compat".into())].into());
    let mut image = linux("/run!");
    image.files[0].1 = FileClass::Native { magic: "#!".into(), runs: true, found: false };
    let start = Start { command: &command, annotations: Some(&annotations), ..Start::default() };
    assert_eq!(started(Family::CrunWasmedge, &image, &start), "linux", "a script is no library");
}

/// A search that ends at a program never comes to the volume, and one that may pass it over does.
#[test]
fn a_volume_at_the_working_directory_matters_where_a_search_may_come_to_it() {
    let command = ["app".to_string()];
    let mounts = ["/data".into()];
    let with = |image: &ImageFacts, path| {
        let start = Start {
            command: &command,
            mounts: &mounts,
            working_dir: Some("/data"),
            path,
            ..Start::default()
        };
        [Family::RunwasiWasmtime, Family::CrunWasmtime].map(|family| started(family, image, &start))
    };
    let image = linux("/usr/bin/app!");
    assert_eq!(with(&image, Variable::Unset), ["linux"; 2]);
    assert_eq!(with(&image, Variable::Literal("/usr/bin:/data")), ["linux"; 2]);
    assert_eq!(with(&image, Variable::Literal("/data:/usr/bin")), ["linux", "?"]);
    assert_eq!(with(&linux("/usr/bin/app->other /usr/bin/other!"), Variable::Unset), ["?"; 2]);
    assert_eq!(with(&linux("/usr/bin/app! /opt/app~"), Variable::Unset), ["?", "linux"]);
    assert_eq!(with(&linux("/usr/local/bin/app /usr/bin/app!"), Variable::Unset), ["?"; 2]);
    let mut closed = image;
    closed.files[0].1 = FileClass::Native { magic: "ELF".into(), runs: true, found: false };
    assert_eq!(with(&closed, Variable::Unset), ["?"; 2], "not every user may open it");
}

#[test]
fn crun_with_a_handler_for_spin_starts_the_application_of_the_working_directory() {
    let image = spin_files(Shape::SpinRootfs, "/web.wasm");
    let command = ["/".to_string()];
    for (folder, spin, every) in [
        ("/", "spin app", "spin app"),
        ("", "spin app", "spin app"),
        ("/in", "spin app", "?"),
        ("/in/..", "spin app", "spin app"),
    ] {
        let start = Start { command: &command, working_dir: Some(folder), ..Start::default() };
        assert_eq!(started(Family::Spin, &image, &start), spin, "{folder}");
        assert_eq!(started(Family::Everything, &image, &start), every, "{folder}");
    }
}

/// Up to 1.29.1 every handler of crun loads core modules alone, as do the engines of youki.
#[test]
fn components_are_refused_under_crun_and_youki() {
    let mut image = scratch("/app.wasm");
    image.modules[0].format = WasmFormat::Component;
    image.modules[0].exports = ["wasi:cli/run@0.2.0".to_string()].into();
    let command = ["/app.wasm".to_string()];
    let start = Start { command: &command, ..Start::default() };
    for family in Family::DESCRIBED {
        let able = family == Family::RunwasiWasmtime;
        let expected = if able { "/app.wasm" } else { "/app.wasm+" };
        assert_eq!(started(family, &image, &start), expected, "{family:?}");
    }
}

#[test]
fn a_path_through_a_file_is_followed_by_no_runtime_and_leads_to_no_verdict() {
    let image = spin_files(Shape::LinuxRootfs, "/web.wasm /elf!");
    for path in ["/web.wasm/../elf", "/elf/", "/elf/.", "missing/../elf"] {
        let command = [path.to_string()];
        for family in every_family() {
            let program = family.start(&image, &Start { command: &command, ..Start::default() });
            let Program::Unknown { reason } = &program else {
                panic!("{path} under {family:?}: {program:?}")
            };
            assert!(reason.contains("without `..`"), "{reason}");
        }
    }
    let command = ["/../elf".to_string()];
    let program = Family::YoukiWasmtime.start(&image, &Start { command: &command, ..Start::default() });
    assert!(!matches!(program, Program::Unknown { .. }), "the root is a folder: {program:?}");
}

/// The rows as the tests on a real node read them, which start the same images (`tests/live/node`): what is in each, and
/// what each runtime that is on such a node is said to start of it. `WASMGATE_WRITE_SAMPLES=1` writes the file.
#[test]
fn the_rows_that_a_real_node_runs_are_these() {
    let of = |row: &Row, family: Family| {
        FAMILIES.iter().position(|known| *known == family).map(|place| row.starts[place])
    };
    let rows: Vec<serde_json::Value> = rows()
        .map(|row| {
            let starts = [Family::RunwasiWasmtime, Family::YoukiWasmtime, Family::CrunWasmtime]
                .map(|family| (family, of(&row, family)));
            let starts: BTreeMap<_, _> = starts.into();
            let files: Vec<String> = row.image.files.iter().map(written).collect();
            serde_json::json!({"why": row.why, "shape": format!("{:?}", row.image.shape),
                "indexed": row.image.digest != row.image.manifest_digest, "files": files, "command": row.command,
                "workingDir": row.working_dir, "mount": row.mount, "user": row.user, "closed": row.closed,
                "starts": starts})
        })
        .collect();
    let text = serde_json::to_string_pretty(&rows).unwrap() + "\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden.json");
    if std::env::var_os("WASMGATE_WRITE_SAMPLES").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    let said = std::fs::read_to_string(file).unwrap();
    assert_eq!(said, text, "write it anew: WASMGATE_WRITE_SAMPLES=1 cargo test --lib golden");
}

/// A file in the form that [`rootfs`] reads.
fn written((path, class): &(String, FileClass)) -> String {
    match class {
        FileClass::Native { runs: true, .. } => format!("{path}!"),
        FileClass::Native { .. } => format!("{path}~"),
        FileClass::Link { target } => format!("{path}->{target}"),
        FileClass::Wasm => path.clone(),
        FileClass::Other
        | FileClass::Data
        | FileClass::Unreadable { .. }
        | FileClass::PerPlatform { .. }
        | FileClass::Varies { .. } => format!("{path}?"),
    }
}

#[test]
fn a_working_directory_that_leads_through_a_file_leads_to_no_verdict() {
    let image = spin_files(Shape::LinuxRootfs, "/web.wasm /elf!");
    let command = ["./elf".to_string()];
    let started = |image: &ImageFacts, family: Family, working_dir: Option<&str>| {
        family.start(image, &Start { command: &command, working_dir, ..Start::default() })
    };
    for folder in ["/web.wasm/..", "/web.wasm/../", "x/../web.wasm/.././", "/a/b/../../elf/.."] {
        let own = ImageFacts { working_dir: folder.into(), ..image.clone() };
        for family in every_family() {
            for program in [started(&image, family, Some(folder)), started(&own, family, None)] {
                let Program::Unknown { reason } = &program else {
                    panic!("{folder} under {family:?}: {program:?}")
                };
                assert!(reason.contains(&format!("working directory `{folder}`")), "{reason}");
            }
        }
    }
    // A folder, or a link of which it is known where it leads.
    let linked = spin_files(Shape::LinuxRootfs, "/web.wasm /elf! /a->/x/y /x/elf!");
    for (folder, family, expected) in [
        ("/folder/..", Family::CrunWasmtime, "linux"),
        ("/a/b/../..", Family::RunwasiWasmtime, "linux"),
        ("/a/..", Family::RunwasiWasmtime, "linux"),
        ("/a/../..", Family::CrunWasmtime, "linux"),
    ] {
        let start = Start { command: &command, working_dir: Some(folder), ..Start::default() };
        assert_eq!(self::started(family, &linked, &start), expected, "{folder} under {family:?}");
    }
    let start = Start { command: &command, working_dir: Some("/a/../../x"), ..Start::default() };
    let only = scratch("/a->/x/y /x/elf");
    assert_eq!(self::started(Family::CrunWasmtime, &only, &start), "/x/elf");
    let start = Start { working_dir: Some("/a/.."), ..start };
    assert_eq!(
        self::started(Family::CrunWasmtime, &only, &start),
        "/x/elf",
        "`..` goes up from where the link leads"
    );
    let mounts = ["/x".into()];
    let start = Start { mounts: &mounts, ..start };
    assert_eq!(self::started(Family::CrunWasmtime, &only, &start), "?");
    for folder in ["/web.wasm", "/web.wasm/"] {
        let program = started(&image, Family::RunwasiWasmtime, Some(folder));
        assert!(matches!(program, Program::Unknown { .. }), "{folder} is not a folder: {program:?}");
    }
    for folder in ["", "/", "/..", "/./"] {
        let program = started(&image, Family::CrunWasmtime, Some(folder));
        assert!(matches!(program, Program::Linux | Program::Native { .. }), "{folder}: {program:?}");
    }
}
