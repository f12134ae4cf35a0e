//! What a container starts from an image. The effective entry point decides, not the image: a shim runs an ELF file
//! or a script as an ordinary program (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`),
//! unless the image has Wasm layers, which always win.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::annotation::crun_annotation;
use super::malformed::harmless;
use super::names::{SLIGHTFILE, SPIN_TOML, WWS_TOML, is_wasm_name};
use super::{FileClass, ImageFacts, ImageKind, Packaging, Program, Shape, kind, path};

/// Marks the evidence that sums the others up.
pub(super) const CONCLUSION: &str = "conclusion";
/// Where a name without a slash is looked for before the working directory. The shims use their own `PATH`; this is
/// the usual one of a service (`systemd:src/basic/path-util.h`, `DEFAULT_PATH_NORMAL`).
const SEARCH_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What a pod says about how a container starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start<'a> {
    /// `command`: replaces the image's Entrypoint, and its Cmd with it.
    pub command: &'a [String],
    /// `args`: replaces the image's Cmd.
    pub args: &'a [String],
    /// `workingDir`: replaces the image's `WorkingDir`.
    pub working_dir: Option<&'a str>,
    /// Mount paths of volumes, which hide the image's own files.
    pub mounts: &'a [&'a str],
    /// The pod's annotations, by which crun and youki can be asked for a Wasm handler
    /// ([`super::annotation::crun_annotation`]).
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// Whether a Wasm runtime will start it. Such a shim runs as Wasm whatever is neither ELF nor a script
    /// (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`), so a program that is not known to be
    /// one of these may be Wasm that nobody judged.
    pub under_wasm: bool,
}

/// What a container starts from an image, after `command` and `args` replaced its Entrypoint and Cmd.
pub fn program(facts: &ImageFacts, command: &[String], args: &[String]) -> Program {
    start(facts, &Start { command, args, ..Start::default() })
}

/// [`program`], with everything that a pod can say about it.
pub fn start(facts: &ImageFacts, start: &Start<'_>) -> Program {
    match facts.shape {
        Shape::WasmArtifact | Shape::RunwasiLayers | Shape::SpinArtifact => layers(facts, start),
        Shape::WasmRootfs
        | Shape::ScratchRootfs
        | Shape::LinuxRootfs
        | Shape::SpinRootfs
        | Shape::SlightRootfs
        | Shape::WwsRootfs
        | Shape::CrunRootfs => rootfs(facts, start),
        Shape::SpinLegacy | Shape::Other => unknown(conclusion(facts)),
    }
}

/// The class of the file that the image's own entry point names, following links.
pub(super) fn own_class(facts: &ImageFacts) -> Option<&FileClass> {
    let start = Start::default();
    let name = strip_function(first_argument(facts, &start)?).0;
    places(facts, name, &start).iter().find_map(|place| find(facts, place)).map(|(_, class)| class)
}

/// The paths at which the image's own entry point may be.
pub(super) fn wanted(entrypoint: &[String], cmd: &[String], working_dir: &str) -> Vec<String> {
    let Some(first) = entrypoint.first().or(cmd.first()) else { return Vec::new() };
    let mut wanted = candidates(first, working_dir);
    wanted.extend(candidates(strip_function(first).0, working_dir));
    wanted.iter().map(|path| path::normalise(path)).collect()
}

/// Whether an entry point is called like a Wasm file, its `#function` left out.
pub fn names_wasm(argument: &str) -> bool {
    is_wasm_name(strip_function(argument).0) || is_wasm_name(argument)
}

/// Whether a program's name is a reason to read the layers: it is called like Wasm, or it is the root, as in the pods of
/// Spin (`spin-operator:internal/controller/deployment.go`).
pub fn needs_layers(argument: &str) -> bool {
    names_wasm(argument) || is_root(argument)
}

/// Whether a program's name is the root folder.
pub(super) fn is_root(argument: &str) -> bool {
    !argument.is_empty() && path::normalise(argument) == "/" && argument.contains('/')
}

fn unknown(reason: impl Into<String>) -> Program {
    Program::Unknown { reason: harmless(&reason.into()) }
}

fn conclusion(facts: &ImageFacts) -> String {
    let found = facts.evidence.iter().rev().find(|evidence| evidence.seen == CONCLUSION);
    found.map_or_else(|| "nobody knows what it is".to_string(), |evidence| evidence.value.clone())
}

/// `argv[0]`. A `command` leaves the image's Entrypoint and Cmd out, `args` only its Cmd.
fn first_argument<'a>(facts: &'a ImageFacts, start: &Start<'a>) -> Option<&'a str> {
    let lists: &[&[String]] = if start.command.is_empty() {
        let rest = if start.args.is_empty() { &facts.cmd } else { start.args };
        &[&facts.entrypoint, rest]
    } else {
        &[start.command]
    };
    lists.iter().find_map(|list| list.first()).map(String::as_str)
}

/// `path#function`; the shims cut at the first `#`.
fn strip_function(argument: &str) -> (&str, Option<&str>) {
    match argument.split_once('#') {
        Some((path, function)) => (path, Some(function)),
        None => (argument, None),
    }
}

fn layers(facts: &ImageFacts, start: &Start<'_>) -> Program {
    if let Some(native) = facts.native.first() {
        return Program::Native { source: native.source.clone(), magic: native.magic.clone() };
    }
    if facts.shape == Shape::SpinArtifact {
        return spin(facts);
    }
    let function = first_argument(facts, start).and_then(|argument| strip_function(argument).1);
    match facts.modules.first().map(|module| kind::of(module, function)) {
        Some(Ok(kind)) => wasm(kind, Packaging::Layers, vec![0]),
        Some(Err(reason)) => unknown(reason),
        None => unknown(conclusion(facts)),
    }
}

/// Every module that runs with some component's capabilities.
fn spin(facts: &ImageFacts) -> Program {
    if facts.kind != ImageKind::SpinApp {
        return unknown(conclusion(facts));
    }
    let numbered = facts.modules.iter().enumerate();
    let modules =
        numbered.filter(|(_, module)| module.component.is_some()).map(|(number, _)| number).collect();
    wasm(ImageKind::SpinApp, Packaging::Layers, modules)
}

fn wasm(kind: ImageKind, packaging: Packaging, modules: Vec<usize>) -> Program {
    Program::Wasm { kind, packaging, modules }
}

fn rootfs(facts: &ImageFacts, start: &Start<'_>) -> Program {
    let ordinary = facts.shape == Shape::LinuxRootfs;
    let Some(argument) = first_argument(facts, start) else {
        let reason = "neither the pod nor the image names a program; set `command`";
        let application = application(facts, start);
        let linux = ordinary && !start.under_wasm;
        return application.unwrap_or_else(|| if linux { Program::Linux } else { unknown(reason) });
    };
    if ordinary && !facts.scanned {
        return unread(argument, start);
    }
    // The kubelet replaces `$(NAME)` by a variable of the container, which may come from anywhere.
    if argument.contains("$(") && (!ordinary || start.under_wasm || !facts.modules.is_empty()) {
        return unknown(format!(
            "`{argument}` holds a variable, so the program is not known before the pod starts"
        ));
    }
    scanned(facts, start, argument, ordinary)
}

/// The layers are read wherever a name or an annotation lets Wasm be expected; where they were not, nothing is known.
fn unread(argument: &str, start: &Start<'_>) -> Program {
    if needs_layers(argument) {
        return unknown(format!(
            "`{argument}` is called like Wasm, but the layers of the image were not read"
        ));
    }
    match start.annotations.and_then(crun_annotation) {
        Some((key, value)) => unknown(format!(
            "the pod's annotation `{key}` is `{value}`, which asks for a Wasm handler, but the layers of the image \
             were not read"
        )),
        None if start.under_wasm => unknown(format!(
            "`{argument}` will be started by a Wasm runtime, but the layers of the image were not read"
        )),
        None => Program::Linux,
    }
}

/// The application that a shim starts from files at the root when the entry point leads to no program.
fn application(facts: &ImageFacts, start: &Start<'_>) -> Option<Program> {
    let mounted = start.mounts.iter().any(|mount| matches!(path::normalise(mount).as_str(), "/" | SPIN_TOML));
    if mounted || hiding(facts, start.mounts, SPIN_TOML).is_some() {
        return Some(unknown(format!(
            "a volume provides `{SPIN_TOML}`, which the Spin shim starts; put the application into the image"
        )));
    }
    if is_there(facts, SPIN_TOML) {
        return Some(match (class(facts, SPIN_TOML), &facts.spin) {
            (Some((_, FileClass::Unreadable { message })), _) => {
                unknown(format!("`{SPIN_TOML}` cannot be used: {message}"))
            }
            (_, Some(_)) => spin_files(facts, start),
            _ => unknown(format!("`{SPIN_TOML}` could not be read as the manifest of a Spin application")),
        });
    }
    let retired = [
        (SLIGHTFILE, Shape::SlightRootfs, "a slight application", "the Spin shim"),
        (WWS_TOML, Shape::WwsRootfs, "an application for Wasm Workers Server", "runwasi's wasmtime shim"),
    ];
    let (file, _, what, instead) =
        retired.into_iter().find(|(file, shape, ..)| facts.shape == *shape && is_there(facts, file))?;
    Some(unknown(format!(
        "it is {what} (`{file}`), whose shim is retired; build it for `wasi:http` and {instead}"
    )))
}

/// A Spin application whose modules are files: the Spin shim compiles them inside the pod.
fn spin_files(facts: &ImageFacts, start: &Start<'_>) -> Program {
    let numbered = facts.modules.iter().enumerate().filter(|(_, module)| module.component.is_some());
    let (numbers, modules): (Vec<usize>, Vec<_>) = numbered.unzip();
    let hidden =
        modules.iter().find_map(|module| Some((module, hiding(facts, start.mounts, &module.source)?)));
    match hidden {
        Some((module, mount)) => unknown(format!(
            "`{}` is under the volume at `{mount}`, which hides the image's own file",
            module.source
        )),
        None => wasm(ImageKind::SpinApp, Packaging::RootFilesystem, numbers),
    }
}

fn scanned(facts: &ImageFacts, start: &Start<'_>, argument: &str, ordinary: bool) -> Program {
    // A shim looks for a native program under the whole name first, and only then cuts at `#`.
    let whole = lookup(facts, start, argument);
    if let Found::Native(source, magic) = whole {
        return native(ordinary, source, magic);
    }
    let (name, function) = strip_function(argument);
    // What follows is about programs that were not found: under a Wasm runtime these are never taken for Linux ones.
    let linux = ordinary && !start.under_wasm;
    match if function.is_some() { lookup(facts, start, name) } else { whole } {
        Found::Wasm(at) => match namesake(facts, start, name, at) {
            Some(other) => unknown(format!(
                "`{name}` is found by the shim's own PATH, and the image has it at `{at}` and at `{other}`; write the whole path"
            )),
            None => run(facts, at, function),
        },
        Found::Native(source, magic) => native(ordinary, source, magic),
        Found::Unreadable(at, message) => unknown(format!("`{at}` was read as Wasm: {message}")),
        Found::Hidden(_) | Found::Nothing if is_root(argument) || is_application(facts, start) => {
            application(facts, start).unwrap_or_else(|| nothing(argument, linux))
        }
        Found::Hidden(_) | Found::Nothing if linux && !names_wasm(argument) => Program::Linux,
        Found::Hidden(mount) => {
            unknown(format!("`{name}` is under the volume at `{mount}`, which hides the image's own file"))
        }
        Found::Nothing => nothing(argument, linux && !names_wasm(argument)),
    }
}

/// A program of the same name in a folder of programs that is not looked at here. A shim searches the folders of its own
/// PATH, which may have more than the usual ones: `/opt/bin`, a distribution's own
/// (`runwasi:crates/containerd-shim-wasm/src/sandbox/path.rs`).
fn namesake<'a>(facts: &'a ImageFacts, start: &Start<'_>, name: &str, found: &str) -> Option<&'a str> {
    if name.contains('/') {
        return None;
    }
    let known = places(facts, name, start);
    let other = |file: &&(String, FileClass)| {
        let (folder, base) = path::split(&file.0);
        base == name && folder.ends_with("bin") && file.0 != found && !known.contains(&file.0)
    };
    facts.files.iter().find(other).map(|(path, _)| path.as_str())
}

fn nothing(argument: &str, linux: bool) -> Program {
    if linux {
        return Program::Linux;
    }
    unknown(format!("`{argument}` is neither Wasm nor a program in the layers of the image"))
}

/// Whether the Spin shim, which asks only whether the entry point is native, would start an application from the root;
/// or another one would have.
fn is_application(facts: &ImageFacts, start: &Start<'_>) -> bool {
    let mounted = start.mounts.iter().any(|mount| path::normalise(mount) == SPIN_TOML);
    mounted || matches!(facts.shape, Shape::SpinRootfs | Shape::SlightRootfs | Shape::WwsRootfs)
}

fn native(ordinary: bool, source: &str, magic: &str) -> Program {
    if ordinary {
        return Program::Linux;
    }
    Program::Native { source: source.to_string(), magic: magic.to_string() }
}

fn run(facts: &ImageFacts, at: &str, function: Option<&str>) -> Program {
    let found = facts.modules.iter().enumerate().find(|(_, module)| module.source == at);
    match found.map(|(number, module)| (number, kind::of(module, function))) {
        Some((number, Ok(kind))) => wasm(kind, Packaging::RootFilesystem, vec![number]),
        Some((_, Err(reason))) => unknown(format!("`{at}` cannot start: {reason}")),
        None => unknown(format!("`{at}` is Wasm, but was not read")),
    }
}

enum Found<'a> {
    Wasm(&'a str),
    Native(&'a str, &'a str),
    Unreadable(&'a str, &'a str),
    /// Under a volume.
    Hidden(String),
    Nothing,
}

fn lookup<'a>(facts: &'a ImageFacts, start: &Start<'_>, name: &str) -> Found<'a> {
    for place in places(facts, name, start) {
        if let Some(mount) = hiding(facts, start.mounts, &place) {
            return Found::Hidden(mount);
        }
        match find(facts, &place) {
            Some((at, FileClass::Wasm)) => return Found::Wasm(at),
            Some((at, FileClass::Native { magic })) => return Found::Native(at, magic),
            Some((at, FileClass::Unreadable { message })) => return Found::Unreadable(at, message),
            Some((_, FileClass::Link { .. } | FileClass::Other)) | None => {}
        }
    }
    Found::Nothing
}

fn places(facts: &ImageFacts, name: &str, start: &Start<'_>) -> Vec<String> {
    candidates(name, start.working_dir.unwrap_or(&facts.working_dir))
}

/// A name with a slash is relative to the working directory; one without is searched for first
/// (`runwasi:crates/containerd-shim-wasm/src/sandbox/path.rs`).
fn candidates(name: &str, working_dir: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    let here = path::join(working_dir, name);
    if name.contains('/') {
        return vec![here];
    }
    SEARCH_PATH.iter().map(|folder| path::join(folder, name)).chain([here]).collect()
}

fn resolved(facts: &ImageFacts, place: &str) -> Option<String> {
    path::resolve(place, true, |at| target(facts, at))
}

fn target<'a>(facts: &'a ImageFacts, at: &str) -> Option<&'a str> {
    match class(facts, at)?.1 {
        FileClass::Link { target } => Some(target.as_str()),
        _ => None,
    }
}

pub(super) fn find<'a>(facts: &'a ImageFacts, place: &str) -> Option<(&'a str, &'a FileClass)> {
    class(facts, &resolved(facts, place)?)
}

/// Whether there is a file of this name, also one that is a link to something that was not kept.
pub(super) fn is_there(facts: &ImageFacts, at: &str) -> bool {
    class(facts, at).is_some() || find(facts, at).is_some()
}

/// The files are sorted by path.
fn class<'a>(facts: &'a ImageFacts, at: &str) -> Option<(&'a str, &'a FileClass)> {
    let found = facts.files.binary_search_by(|(name, _)| name.as_str().cmp(at)).ok()?;
    facts.files.get(found).map(|(name, class)| (name.as_str(), class))
}

/// The volume that hides a path, or a link on the way from it to its file.
fn hiding(facts: &ImageFacts, mounts: &[&str], place: &str) -> Option<String> {
    if mounts.is_empty() {
        return None;
    }
    let passed = RefCell::new(vec![path::normalise(place)]);
    path::resolve(place, true, |at| {
        passed.borrow_mut().push(at.to_string());
        target(facts, at)
    });
    let passed = passed.into_inner();
    let covers = |mount: &str| {
        let below = format!("{}/", mount.trim_end_matches('/'));
        passed.iter().any(|path| path == mount || path.starts_with(&below))
    };
    let ends = |mount: &&str| [Some(path::normalise(mount)), resolved(facts, mount)];
    mounts.iter().flat_map(ends).flatten().find(|mount| covers(mount))
}

#[cfg(test)]
mod tests {
    use super::super::module;
    use super::*;
    use crate::image::Evidence;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_string()).collect()
    }

    fn command_module(source: &str) -> super::super::ModuleFacts {
        let text = r#"(module (func (export "_start")) (func (export "main")))"#;
        module::read(&wat::parse_str(text).unwrap(), source).unwrap()
    }

    fn facts(shape: Shape, files: Vec<(&str, FileClass)>) -> ImageFacts {
        let mut files: Vec<(String, FileClass)> =
            files.into_iter().map(|(name, class)| (name.to_string(), class)).collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let wasm = files.iter().filter(|(_, class)| *class == FileClass::Wasm);
        let modules = wasm.map(|(name, _)| command_module(name)).collect();
        ImageFacts {
            digest: crate::image::Digest::of(b"d"),
            manifest_digest: crate::image::Digest::of(b"m"),
            kind: ImageKind::Linux,
            shape,
            platform: "linux/amd64".into(),
            evidence: Vec::new(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            working_dir: String::new(),
            env: Vec::new(),
            modules,
            files,
            scanned: true,
            native: Vec::new(),
            spin: None,
            warnings: Vec::new(),
            claims: Vec::new(),
        }
    }

    fn elf() -> FileClass {
        FileClass::Native { magic: "ELF".into() }
    }

    fn link(target: &str) -> FileClass {
        FileClass::Link { target: target.into() }
    }

    fn scratch() -> ImageFacts {
        let files = vec![
            ("/app.wasm", FileClass::Wasm),
            ("/work/app.wasm", FileClass::Wasm),
            ("/bin", link("usr/bin")),
            ("/usr/bin/sh", elf()),
            ("/usr/bin/tool", link("../../work/app.wasm")),
            ("/bad.wasm", FileClass::Unreadable { message: "cut off".into() }),
            ("/text.wasm", FileClass::Other),
        ];
        ImageFacts { entrypoint: list(&["/app.wasm"]), ..facts(Shape::ScratchRootfs, files) }
    }

    fn source(facts: &ImageFacts, program: &Program) -> String {
        match program {
            Program::Wasm { packaging: Packaging::RootFilesystem, modules, .. } => {
                facts.modules[modules[0]].source.clone()
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_name_that_another_folder_of_programs_has_too_is_not_known() {
        let mut files = vec![("/app.wasm", FileClass::Wasm), ("/data/app.wasm", FileClass::Wasm)];
        let image = |files: &[(&'static str, FileClass)]| ImageFacts {
            entrypoint: list(&["app.wasm"]),
            ..facts(Shape::ScratchRootfs, files.to_vec())
        };
        let run = |image: &ImageFacts| program(image, &[], &[]);
        assert_eq!(source(&image(&files), &run(&image(&files))), "/app.wasm", "/data is in nobody's PATH");
        files.push(("/opt/bin/app.wasm", FileClass::Wasm));
        let twice = image(&files);
        assert!(matches!(run(&twice), Program::Unknown { reason } if reason.contains("`/opt/bin/app.wasm`")));
        let whole = program(&twice, &list(&["/app.wasm"]), &[]);
        assert_eq!(source(&twice, &whole), "/app.wasm", "a whole path leaves no doubt");
        // A link of the PATH that leads to the program is the same one.
        files.pop();
        files.extend([
            ("/usr/bin/app.wasm", link("/opt/bin/app.wasm")),
            ("/opt/bin/app.wasm", FileClass::Wasm),
        ]);
        assert_eq!(source(&image(&files), &run(&image(&files))), "/opt/bin/app.wasm");
    }

    #[test]
    fn command_replaces_entrypoint_and_args_replace_cmd() {
        let mut image = scratch();
        image.cmd = list(&["/work/app.wasm"]);
        let run = |image: &ImageFacts, command: &[&str], args: &[&str]| {
            source(image, &program(image, &list(command), &list(args)))
        };
        assert_eq!(run(&image, &[], &[]), "/app.wasm");
        assert_eq!(run(&image, &[], &["--flag"]), "/app.wasm");
        assert_eq!(run(&image, &["/work/app.wasm"], &[]), "/work/app.wasm");
        image.entrypoint.clear();
        assert_eq!(run(&image, &[], &[]), "/work/app.wasm");
        assert_eq!(run(&image, &[], &["/app.wasm"]), "/app.wasm");
        image.cmd.clear();
        assert!(run(&image, &[], &[]).contains("names a program"));
    }

    #[test]
    fn paths_are_looked_up_as_the_shims_do() {
        let image = scratch();
        let at = |name: &str, working_dir: &str| {
            let command = list(&[name]);
            let pod = Start { command: &command, working_dir: Some(working_dir), ..Start::default() };
            source(&image, &start(&image, &pod))
        };
        assert_eq!(at("app.wasm", "/work"), "/work/app.wasm");
        assert_eq!(at("app.wasm", ""), "/app.wasm");
        assert_eq!(at("./app.wasm", "/work"), "/work/app.wasm");
        assert_eq!(at("../app.wasm", "/work"), "/app.wasm");
        assert_eq!(at("/bin/tool", "/"), "/work/app.wasm");
        // On the search path before the working directory.
        assert_eq!(at("tool", "/"), "/work/app.wasm");
        assert_eq!(at("/app.wasm#main", "/"), "/app.wasm");
        assert!(at("/app.wasm#none", "/").contains("`none`"));
    }

    #[test]
    fn native_code_in_a_wasm_image_is_native_however_it_is_named() {
        let mut image = scratch();
        image.files.push(("/zz.wasm#main".into(), elf()));
        image.files.push(("/zz.wasm".into(), FileClass::Wasm));
        image.files.sort_by(|a, b| a.0.cmp(&b.0));
        image.modules.push(command_module("/zz.wasm"));
        for name in ["/bin/sh", "sh", "/usr/bin/../bin/sh", "/zz.wasm#main"] {
            let found = program(&image, &list(&[name]), &[]);
            assert!(matches!(&found, Program::Native { magic, .. } if magic == "ELF"), "{name}: {found:?}");
        }
    }

    #[test]
    fn what_cannot_be_named_as_the_program_is_unknown_with_the_reason() {
        let image = scratch();
        for (name, expected) in [
            ("/missing", "neither Wasm nor a program"),
            ("/bad.wasm", "cut off"),
            ("/text.wasm", "neither Wasm nor a program"),
            ("$(PROGRAM)", "variable"),
            ("", "neither Wasm nor a program"),
        ] {
            match program(&image, &list(&[name]), &[]) {
                Program::Unknown { reason } => assert!(reason.contains(expected), "{name}: {reason}"),
                other => unreachable!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_volume_over_the_program_hides_it() {
        let image = scratch();
        for (name, mount) in
            [("/app.wasm", "/app.wasm"), ("/work/app.wasm", "/work/"), ("/bin/tool", "/usr/bin")]
        {
            let command = list(&[name]);
            let mounts = [mount];
            let pod = Start { command: &command, mounts: &mounts, ..Start::default() };
            assert!(
                matches!(start(&image, &pod), Program::Unknown { reason } if reason.contains("volume")),
                "{name}"
            );
        }
        let beside = ["/worker"];
        let pod = Start { mounts: &beside, ..Start::default() };
        assert_eq!(source(&image, &start(&image, &pod)), "/app.wasm");
    }

    #[test]
    fn an_ordinary_image_is_linux_unless_the_pod_names_its_wasm() {
        let image = facts(Shape::LinuxRootfs, vec![("/srv/app.wasm", FileClass::Wasm), ("/bin/sh", elf())]);
        assert_eq!(program(&image, &[], &[]), Program::Linux);
        assert_eq!(program(&image, &list(&["/bin/sh"]), &[]), Program::Linux);
        assert_eq!(program(&image, &list(&["/bin/missing"]), &[]), Program::Linux);
        assert_eq!(source(&image, &program(&image, &list(&["/srv/app.wasm"]), &[])), "/srv/app.wasm");
        assert!(matches!(program(&image, &list(&["/other.wasm"]), &[]), Program::Unknown { .. }));
        assert!(matches!(program(&image, &list(&["$(X)"]), &[]), Program::Unknown { .. }));
        let unread = ImageFacts { scanned: false, ..facts(Shape::LinuxRootfs, Vec::new()) };
        assert_eq!(program(&unread, &list(&["nginx", "-g"]), &[]), Program::Linux);
        assert_eq!(program(&unread, &list(&["$(X)"]), &[]), Program::Linux);
        for name in ["/app.wasm", "/app.wat#main"] {
            assert!(matches!(program(&unread, &list(&[name]), &[]), Program::Unknown { .. }));
        }
    }

    #[test]
    fn under_a_wasm_runtime_only_a_native_program_that_was_found_is_linux() {
        let image = ImageFacts {
            entrypoint: list(&["/bin/sh"]),
            ..facts(Shape::LinuxRootfs, vec![("/bin/sh", elf()), ("/data/tool", elf())])
        };
        let at = |image: &ImageFacts, command: &[&str], mounts: &[&str]| {
            let command = list(command);
            let pod = Start { command: &command, mounts, under_wasm: true, ..Start::default() };
            start(image, &pod)
        };
        for command in [&[][..], &["/bin/sh"], &["sh", "-c"]] {
            assert_eq!(at(&image, command, &["/data"]), Program::Linux, "{command:?}");
        }
        for command in ["/data/tool", "/data/app", "/missing", "missing", "$(APP)", "/bin/$(APP)", "/", ""] {
            let found = at(&image, &[command], &["/data"]);
            assert!(matches!(found, Program::Unknown { .. }), "{command}: {found:?}");
            let command = list(&[command]);
            let pod = Start { command: &command, mounts: &["/data"], ..Start::default() };
            assert_eq!(start(&image, &pod), Program::Linux, "{command:?}");
        }
        let empty = ImageFacts { entrypoint: Vec::new(), ..image.clone() };
        assert!(matches!(at(&empty, &[], &[]), Program::Unknown { .. }));
        let unread = ImageFacts { scanned: false, ..image };
        assert!(matches!(at(&unread, &["/bin/sh"], &[]), Program::Unknown { .. }));
    }

    #[test]
    fn wasm_layers_win_over_any_command() {
        let mut image = facts(Shape::WasmArtifact, Vec::new());
        image.modules = vec![command_module("sha256:w")];
        let expected = wasm(ImageKind::Module, Packaging::Layers, vec![0]);
        for name in ["/", "/bin/sh", "x.wasm#main"] {
            assert_eq!(program(&image, &list(&[name]), &[]), expected);
        }
        assert!(matches!(program(&image, &list(&["x#nope"]), &[]), Program::Unknown { .. }));
        image.native = vec![crate::image::NativeCode { source: "sha256:w".into(), magic: "ELF".into() }];
        assert!(matches!(program(&image, &[], &[]), Program::Native { .. }));
    }

    #[test]
    fn something_else_is_unknown_with_the_conclusion_of_the_evidence() {
        let mut image = facts(Shape::Other, Vec::new());
        image.evidence = vec![Evidence { seen: CONCLUSION.into(), value: "a proxy-wasm filter".into() }];
        assert_eq!(program(&image, &[], &[]), unknown("a proxy-wasm filter"));
    }
}
