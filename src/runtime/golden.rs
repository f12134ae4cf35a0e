//! The same image and pod under every family: a table of what starts.

use super::Family;
use crate::image::entry::Start;
use crate::image::{
    Evidence, FileClass, ImageFacts, ImageKind, ModuleFacts, Packaging, Program, Shape, SpinApp,
    SpinComponent, WasmFormat,
};

const FAMILIES: [Family; 6] = [
    Family::RunwasiWasmtime,
    Family::RunwasiWasmedge,
    Family::Spin,
    Family::CrunWasmtime,
    Family::YoukiWasmtime,
    Family::Everything,
];

fn module(source: &str) -> ModuleFacts {
    ModuleFacts {
        source: source.into(),
        component: None,
        format: WasmFormat::Module,
        imports: Vec::new(),
        exports: ["_start", "main"].map(String::from).into(),
        code_bytes: 100,
        data_bytes: 0,
        memory_bytes: 65_536,
        memory_max_bytes: None,
        features: [].into(),
        interpreters: Vec::new(),
        size_bytes: 200,
    }
}

fn blank(shape: Shape) -> ImageFacts {
    ImageFacts {
        digest: "sha256:d".into(),
        manifest_digest: "sha256:d".into(),
        kind: ImageKind::Linux,
        shape,
        platform: "linux/amd64".into(),
        evidence: vec![Evidence { seen: "conclusion".into(), value: "an artifact".into() }],
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        search_path: None,
        modules: Vec::new(),
        files: Vec::new(),
        scanned: true,
        native: Vec::new(),
        spin: None,
        warnings: Vec::new(),
        claims: Vec::new(),
    }
}

/// A root file system. `path` is a Wasm file, `path!` an ELF program, `path -> target` a link, `path?` a text file.
fn rootfs(shape: Shape, files: &str) -> ImageFacts {
    let file = |word: &str| match (word.split_once("->"), word.strip_suffix('!'), word.strip_suffix('?')) {
        (Some((name, target)), ..) => (name.to_string(), FileClass::Link { target: target.to_string() }),
        (_, Some(name), _) => (name.to_string(), FileClass::Native { magic: "ELF".into(), runs: true }),
        (.., Some(name)) => (name.to_string(), FileClass::Other),
        _ => (word.to_string(), FileClass::Wasm),
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
    image.spin =
        Some(SpinApp { name: "shop".into(), triggers: ["http".into()].into(), components: vec![component] });
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

/// What a family starts, in a word; with `+` where the family is not able to run it and the rules refuse it for that.
fn started(family: Family, image: &ImageFacts, start: &Start<'_>) -> String {
    let program = family.start(image, start);
    let able = family == Family::Everything || super::runnable_by(image, &program).contains(&family);
    match &program {
        Program::Wasm { kind, packaging, modules } => {
            let able = if able { "" } else { "+" };
            let what = match (packaging, kind) {
                (_, ImageKind::SpinApp) => "spin app",
                (Packaging::Layers, _) => "layers",
                (Packaging::RootFilesystem, _) => &image.modules[modules[0]].source,
            };
            format!("{what}{able}")
        }
        Program::Linux => "linux".into(),
        Program::Native { source, .. } => format!("native {source}"),
        Program::Unknown { .. } => "?".into(),
    }
}

struct Row {
    why: &'static str,
    image: ImageFacts,
    command: &'static str,
    working_dir: &'static str,
    mount: &'static str,
    /// By [`FAMILIES`].
    starts: [&'static str; 6],
}

fn row(why: &'static str, image: ImageFacts, command: &'static str, starts: [&'static str; 6]) -> Row {
    Row { why, image, command, working_dir: "/", mount: "/elsewhere", starts }
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
        row("a whole path", scratch("/app.wasm"), "/app.wasm", everywhere("/app.wasm", "/app.wasm+")),
        row(
            "a function after `#`, which crun and youki do not know",
            scratch("/app.wasm"),
            "/app.wasm#main",
            ["/app.wasm", "/app.wasm", "/app.wasm+", "?", "?", "/app.wasm"],
        ),
        row("an ordinary program", linux("/bin/sh!"), "/bin/sh", ["linux"; 6]),
        row("an ordinary program that is not there", linux("/bin/sh!"), "/bin/ls", ["?"; 6]),
        row(
            "a native program in an image that is packed as Wasm",
            scratch("/app.wasm /bin/sh!"),
            "/bin/sh",
            ["native /bin/sh"; 6],
        ),
        row("nothing that is named", linux(""), "", ["?"; 6]),
        row("a variable", scratch("/app.wasm"), "$(APP)", ["?"; 6]),
        row(
            "a name that does not say that it is Wasm",
            scratch("/app"),
            "/app",
            ["/app", "/app", "/app+", "/app", "?", "/app"],
        ),
        Row {
            working_dir: "/work",
            ..row(
                "youki cuts the leading slash",
                scratch("/app.wasm /work/app.wasm"),
                "/app.wasm",
                ["/app.wasm", "/app.wasm", "/app.wasm+", "/app.wasm", "/work/app.wasm", "?"],
            )
        },
        Row {
            mount: "/app.wasm",
            ..row("a volume in the place of the program", scratch("/app.wasm"), "/app.wasm", ["?"; 6])
        },
    ]
}

/// Names that are searched for.
fn names() -> Vec<Row> {
    let work = [
        "/work/app.wasm",
        "/work/app.wasm",
        "/work/app.wasm+",
        "/work/app.wasm",
        "/work/app.wasm",
        "/work/app.wasm",
    ];
    vec![
        row("an ordinary program", linux("/usr/bin/sh! /bin->usr/bin"), "sh", ["linux"; 6]),
        row("an ordinary program in two folders", linux("/usr/bin/sh! /bin/sh!"), "sh", ["linux"; 6]),
        Row {
            working_dir: "/work",
            ..row("one of the working directory", scratch("/app.wasm /work/app.wasm"), "app.wasm", work)
        },
        row(
            "one of the search path and one of the working directory",
            scratch("/bin/a.wasm /a.wasm"),
            "a.wasm",
            ["?", "?", "/bin/a.wasm+", "?", "/a.wasm", "?"],
        ),
        row(
            "one of an unusual folder of programs and one of the working directory",
            scratch("/opt/bin/a.wasm /a.wasm"),
            "a.wasm",
            ["?", "?", "/a.wasm+", "/a.wasm", "/a.wasm", "?"],
        ),
    ]
}

/// Applications of Spin, and layers.
fn shapes() -> Vec<Row> {
    let spin = ["spin app+", "spin app+", "spin app", "spin app+", "spin app+", "spin app"];
    let layers = ["layers", "layers", "layers+", "layers+", "layers+", "layers"];
    vec![
        row(
            "an application of Spin beside the module that is named",
            spin_files(Shape::ScratchRootfs, "/web.wasm /other.wasm"),
            "/other.wasm",
            ["/other.wasm", "/other.wasm", "spin app", "/other.wasm", "/other.wasm", "?"],
        ),
        row("an application of Spin", spin_files(Shape::SpinRootfs, "/web.wasm"), "/", spin),
        row(
            "an application of Spin beside a native program",
            spin_files(Shape::LinuxRootfs, "/web.wasm /bin/sh!"),
            "/bin/sh",
            ["linux"; 6],
        ),
        row("one layer of the Wasm artifact", layered(Shape::WasmArtifact), "/", layers),
        row("a layer of runwasi", layered(Shape::RunwasiLayers), "/bin/sh", layers),
        row("an application of Spin as layers", layered(Shape::SpinArtifact), "/", spin),
        row("an artifact that is no program", blank(Shape::Other), "/", ["?"; 6]),
    ]
}

#[test]
fn the_same_image_and_pod_start_what_each_runtime_starts() {
    for Row { why, image, command, working_dir, mount, starts } in
        [paths(), names(), shapes()].into_iter().flatten()
    {
        let command: Vec<String> = command.split_whitespace().map(String::from).collect();
        let mounts = [mount];
        let start =
            Start { command: &command, working_dir: Some(working_dir), mounts: &mounts, ..Start::default() };
        let found = FAMILIES.map(|family| started(family, &image, &start));
        assert_eq!(found, starts, "{why}");
    }
}
