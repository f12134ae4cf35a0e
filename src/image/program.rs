//! What an image is meant to start: the program that its entry point or the pod's command names, whichever runtime will
//! start it. Only the placement of a pod without a runtime depends on it. What a runtime really starts is answered by
//! its family (`runtime`).

use super::annotation::crun_annotation;
use super::entry::{self, At, Start, View, cut_function, is_root, names_wasm, needs_layers};
use super::names::{SLIGHTFILE, SPIN_TOML, WWS_TOML};
use super::{FileClass, ImageFacts, ImageKind, Packaging, Program, Shape, kind};
use crate::text;

/// Marks the evidence that summarises the rest.
pub(super) const CONCLUSION: &str = "conclusion";

/// What a container is meant to start from an image, after `command` and `args` replaced its Entrypoint and Cmd.
pub fn program(facts: &ImageFacts, command: &[String], args: &[String]) -> Program {
    start(facts, &Start { command, args, ..Start::default() })
}

/// [`program`] with everything that a pod can say about it.
pub fn start(facts: &ImageFacts, start: &Start<'_>) -> Program {
    meant(&View::new(facts, start))
}

/// [`start`] for an existing view of the image.
pub fn meant(view: &View<'_>) -> Program {
    let facts = view.facts;
    match facts.shape {
        Shape::WasmArtifact | Shape::RunwasiLayers | Shape::SpinArtifact => layers(view),
        Shape::WasmRootfs
        | Shape::ScratchRootfs
        | Shape::LinuxRootfs
        | Shape::SpinRootfs
        | Shape::SlightRootfs
        | Shape::WwsRootfs
        | Shape::CrunRootfs => rootfs(view),
        Shape::SpinLegacy | Shape::Other => unknown(conclusion(facts)),
    }
}

/// The class of the file that the image's own entry point names, after following links.
pub(super) fn own_class(facts: &ImageFacts) -> Option<&FileClass> {
    let start = Start::default();
    let view = View::new(facts, &start);
    let name = cut_function(view.first_argument()?).0;
    places(&view, name).iter().find_map(|place| entry::find(facts, place)).map(|(_, class)| class)
}

/// An unknown program, with the reason.
pub fn unknown(reason: impl Into<String>) -> Program {
    let reason: String = reason.into();
    Program::Unknown { reason: reason.into() }
}

/// What the look-up concluded about the image as a whole.
pub fn conclusion(facts: &ImageFacts) -> String {
    let found = facts.evidence.iter().rev().find(|evidence| evidence.seen == CONCLUSION);
    found.map_or_else(|| "it was not recognised".to_string(), |evidence| evidence.value.clone())
}

/// The program of an image with Wasm layers. `function` is what the entry point names after `#`.
pub fn of_layers(facts: &ImageFacts, function: Option<&str>) -> Program {
    if let Some(native) = facts.native.first() {
        return Program::Native { source: native.source.clone(), magic: native.magic.clone() };
    }
    if facts.shape == Shape::SpinArtifact {
        return spin(facts);
    }
    match facts.modules.first().map(|module| kind::of(module, function)) {
        Some(Ok(kind)) => wasm(kind, Packaging::Layers, vec![0]),
        Some(Err(reason)) => unknown(reason),
        None => unknown(conclusion(facts)),
    }
}

fn layers(view: &View<'_>) -> Program {
    of_layers(view.facts, view.first_argument().and_then(|argument| cut_function(argument).1))
}

/// All modules that run with the capabilities of some component.
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

fn rootfs(view: &View<'_>) -> Program {
    let facts = view.facts;
    let ordinary = facts.shape.is_ordinary();
    let Some(argument) = view.first_argument() else {
        let reason = "neither the pod nor the image names a program; set `command`";
        let application = application(view);
        return application.unwrap_or_else(|| if ordinary { Program::Linux } else { unknown(reason) });
    };
    if ordinary && !facts.scanned {
        return unread(argument, view.start);
    }
    if entry::is_expanded(argument) && (!ordinary || !facts.modules.is_empty()) {
        return variable(argument);
    }
    match cut_off(view) {
        Some(reason) if !ordinary || !facts.modules.is_empty() => unknown(reason),
        _ => scanned(view, argument, ordinary),
    }
}

/// Why nothing is known of what starts where a text has a NUL.
pub fn cut_off(view: &View<'_>) -> Option<String> {
    let text = view.cut_off()?;
    Some(format!(
        "`{}` has a NUL, up to which some runtimes read it, and others start nothing; leave it out",
        text::quoted(text, 200)
    ))
}

/// A program whose name the kubelet completes.
pub fn variable(argument: &str) -> Program {
    unknown(format!(
        "`{argument}` holds a variable or `$$`, which the kubelet replaces, so the program is not known before the pod starts; \
         write its path"
    ))
}

/// The layers are read whenever a name or an annotation suggests Wasm; if they were not, nothing is known.
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
        None => Program::Linux,
    }
}

/// The application that a shim starts from files at the root if the entry point leads to no program.
pub fn application(view: &View<'_>) -> Option<Program> {
    let facts = view.facts;
    if view.hiding(SPIN_TOML).is_some() {
        return Some(unknown(format!(
            "a volume provides `{SPIN_TOML}`, which the Spin shim starts; put the application into the image"
        )));
    }
    if entry::is_there(facts, SPIN_TOML) {
        return Some(match (entry::class(facts, SPIN_TOML), &facts.spin) {
            (Some((_, FileClass::Unreadable { message })), _) => unusable(message),
            (_, Some(_)) => spin_files(view),
            (written, None) => match (entry::find(facts, SPIN_TOML), written) {
                (Some((_, FileClass::Unreadable { message })), _) => unusable(message),
                (_, Some((_, FileClass::Link { target }))) => linked(target),
                _ => unusable("it could not be read as the manifest of a Spin application"),
            },
        });
    }
    let retired = [
        (SLIGHTFILE, Shape::SlightRootfs, "a slight application", "the Spin shim"),
        (WWS_TOML, Shape::WwsRootfs, "an application for Wasm Workers Server", "runwasi's wasmtime shim"),
    ];
    let (file, _, what, instead) = retired
        .into_iter()
        .find(|(file, shape, ..)| facts.shape == *shape && entry::is_there(facts, file))?;
    Some(unknown(format!(
        "it is {what} (`{file}`), whose shim is retired; build it for `wasi:http` and {instead}"
    )))
}

/// A manifest of an application that is there and cannot be read.
fn unusable(message: &str) -> Program {
    unknown(format!("`{SPIN_TOML}` cannot be used: {message}; correct it, and build the image again"))
}

/// A manifest behind a link to a file that was not read, as is every one of another name.
fn linked(target: &str) -> Program {
    unknown(format!(
        "`{SPIN_TOML}` is a link to `{}`, which is not read as the manifest of a Spin application; make it a file, not a link to \
         another name",
        text::quoted(target, 200)
    ))
}

/// A Spin application whose modules are files, which the Spin shim compiles inside the pod.
fn spin_files(view: &View<'_>) -> Program {
    let numbered = view.facts.modules.iter().enumerate().filter(|(_, module)| module.component.is_some());
    let (numbers, modules): (Vec<usize>, Vec<_>) = numbered.unzip();
    let (modules, components) = (modules.iter(), view.facts.spin.iter().flat_map(|app| &app.components));
    let isolated = components.clone().flat_map(|component| &component.isolated);
    // A path over a link is hidden by what hides the link, wherever it leads in the image.
    let written = components.flat_map(|component| &component.ways);
    let mut paths = modules.map(|module| &module.source).chain(isolated).chain(written);
    match paths.find_map(|path| Some((path, view.hiding(path)?))) {
        Some((path, mount)) => hidden_by(path, &mount),
        None => wasm(ImageKind::SpinApp, Packaging::RootFilesystem, numbers),
    }
}

/// A program that a volume may hide.
pub fn hidden_by(name: &str, mount: &str) -> Program {
    unknown(format!(
        "`{name}` is under the volume at `{mount}`, which hides the image's own file; mount it elsewhere"
    ))
}

fn scanned(view: &View<'_>, argument: &str, ordinary: bool) -> Program {
    let facts = view.facts;
    // A shim first looks for a native program under the whole name, and only then cuts it at `#`.
    let whole = lookup(view, argument);
    if let At::File(source, FileClass::Native { magic, .. }) = whole {
        return native(facts, source, magic);
    }
    let (name, function) = cut_function(argument);
    match if function.is_some() { lookup(view, name) } else { whole } {
        At::File(at, FileClass::Wasm) => run(facts, at, function),
        At::File(source, FileClass::Native { magic, .. }) => native(facts, source, magic),
        At::File(at, FileClass::Unreadable { message }) => unreadable(at, message),
        At::File(at, FileClass::Varies { .. }) => unreadable(at, entry::DIFFERS),
        At::Hidden(_) | At::Nothing if is_root(argument) || is_application(view) => {
            application(view).unwrap_or_else(|| nothing(argument, ordinary))
        }
        At::Hidden(_) | At::Nothing if ordinary && !names_wasm(argument) => Program::Linux,
        At::Hidden(mount) => hidden_by(name, &mount),
        At::File(..) | At::Nothing => nothing(argument, ordinary && !names_wasm(argument)),
    }
}

/// A file that is meant to be Wasm but cannot be read.
pub fn unreadable(at: &str, message: &str) -> Program {
    unknown(format!("`{at}` cannot be judged: {message}"))
}

fn nothing(argument: &str, linux: bool) -> Program {
    if linux {
        return Program::Linux;
    }
    // What the Spin operator writes as the command (`spin-operator:internal/controller/deployment.go`).
    if is_root(argument) {
        return unknown(format!(
            "`{argument}` starts a Spin application, and the image holds none: neither layers of one nor `{SPIN_TOML}`"
        ));
    }
    unknown(format!("`{argument}` is neither Wasm nor a program in the layers of the image"))
}

/// Whether a shim that only checks whether the entry point is native would start an application from the root.
fn is_application(view: &View<'_>) -> bool {
    view.is_mounted(SPIN_TOML)
        || matches!(view.facts.shape, Shape::SpinRootfs | Shape::SlightRootfs | Shape::WwsRootfs)
}

/// A native program: an ordinary one in an ordinary image, or native code in an image that is packed as Wasm.
pub fn native(facts: &ImageFacts, source: &str, magic: &str) -> Program {
    if facts.shape.is_ordinary() {
        return Program::Linux;
    }
    Program::Native { source: source.to_string(), magic: magic.to_string() }
}

/// The program in the Wasm file at a path.
pub fn run(facts: &ImageFacts, at: &str, function: Option<&str>) -> Program {
    let found = facts.modules.iter().enumerate().find(|(_, module)| module.source == at);
    match found.map(|(number, module)| (number, kind::of(module, function))) {
        Some((number, Ok(kind))) => wasm(kind, Packaging::RootFilesystem, vec![number]),
        Some((_, Err(reason))) => unknown(format!("`{at}` cannot start: {reason}")),
        None => unknown(format!("`{at}` is Wasm, but was not read")),
    }
}

/// The first candidate path that leads to a program, or that a volume hides.
fn lookup<'a>(view: &View<'a>, name: &str) -> At<'a> {
    let tells = |found: &At<'_>| {
        !matches!(
            found,
            At::Nothing | At::File(_, FileClass::Link { .. } | FileClass::Other | FileClass::Data)
        )
    };
    places(view, name).iter().map(|place| view.at(place)).find(tells).unwrap_or(At::Nothing)
}

fn places(view: &View<'_>, name: &str) -> Vec<String> {
    entry::candidates(name, view.working_dir())
}

#[cfg(test)]
mod tests {
    use super::super::module;
    use super::*;
    use crate::image::{Cause, Digest, Evidence, Reason};

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_string()).collect()
    }

    /// What others choose may have anything in it: the import of a module, and the function that a pod names.
    #[test]
    fn what_others_name_does_not_say_what_to_do() {
        let said = |text: &str, function: Option<&str>| {
            let module = module::read(&wat::parse_str(text).unwrap(), "/a.wasm").unwrap();
            Reason::from(kind::of(&module, function).unwrap_err()).cause() == Cause::Told
        };
        for name in ["a", "a; b", "a`; b", "`a`; `b"] {
            assert!(!said(&format!(r#"(module (import "{name}" "f" (func)))"#), None), "{name}");
            assert!(!said(r#"(module (func (export "_start")))"#, Some(name)), "{name}");
        }
        assert!(said(r#"(module (func (export "_initialize")))"#, None));
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
            kind: ImageKind::Linux,
            shape,
            platform: "linux/amd64".into(),
            modules,
            files,
            scanned: true,
            ..ImageFacts::blank(&Digest::of(b"d"), &Digest::of(b"m"))
        }
    }

    fn elf() -> FileClass {
        FileClass::Native { magic: "ELF".into(), runs: true, found: false }
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
    fn a_manifest_that_could_not_be_read_says_why_behind_a_link_too() {
        let unread = || FileClass::Unreadable { message: "it has 300000 bytes".into() };
        for files in [
            vec![("/spin.toml", unread())],
            vec![("/conf/spin.toml", unread()), ("/spin.toml", link("conf/spin.toml"))],
        ] {
            let image = facts(Shape::SpinRootfs, files);
            let said = source(&image, &program(&image, &list(&["/"]), &[]));
            assert!(said.contains("`/spin.toml` cannot be used: it has 300000 bytes"), "{said}");
        }
    }

    #[test]
    fn a_manifest_that_is_a_link_to_another_name_is_to_be_made_a_file() {
        for files in [
            vec![("/s.toml", FileClass::Other), ("/spin.toml", link("s.toml"))],
            vec![("/spin.toml", link("s.toml"))],
        ] {
            let image = facts(Shape::SpinRootfs, files);
            let said = source(&image, &program(&image, &list(&["/"]), &[]));
            assert!(said.contains("`/spin.toml` is a link to `s.toml`"), "{said}");
            assert!(said.contains("make it a file, not a link to another name"), "{said}");
        }
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
    fn paths_are_searched_as_by_the_shims() {
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
        // The search path comes before the working directory.
        assert_eq!(at("tool", "/"), "/work/app.wasm");
        assert_eq!(at("/app.wasm#main", "/"), "/app.wasm");
        assert!(at("/app.wasm#none", "/").contains("`none`"));
    }

    #[test]
    fn native_code_in_a_wasm_image_is_native_whatever_its_name() {
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
    fn an_undeterminable_program_is_unknown_with_the_reason() {
        let image = scratch();
        for (name, expected) in [
            ("/missing", "neither Wasm nor a program"),
            ("/bad.wasm", "cut off"),
            ("/text.wasm", "neither Wasm nor a program"),
            ("/", "the image holds none"),
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
            let mounts = [mount.into()];
            let pod = Start { command: &command, mounts: &mounts, ..Start::default() };
            assert!(
                matches!(start(&image, &pod), Program::Unknown { reason } if reason.contains("volume")),
                "{name}"
            );
        }
        let beside = ["/worker".into()];
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
    fn any_other_image_is_unknown_with_the_conclusion_of_the_evidence() {
        let mut image = facts(Shape::Other, Vec::new());
        image.evidence = vec![Evidence { seen: CONCLUSION.into(), value: "a proxy-wasm filter".into() }];
        assert_eq!(program(&image, &[], &[]), unknown("a proxy-wasm filter"));
    }
}
