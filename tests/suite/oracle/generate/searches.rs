//! Programs by a name that has to be searched for, and what is where a runtime looks.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::archive::{Archive, Entry, Item, Odd};
use super::super::image::{Image, Layer, module, spin_manifest};
use super::entries::content;

/// A pod, and the image that it names.
#[derive(Debug, Clone)]
pub struct SearchCase {
    pub image: Image,
    pub command: &'static str,
    pub working_dir: &'static str,
    /// `PATH` as the pod sets it.
    pub path: Option<&'static str>,
    pub mounts: Vec<&'static str>,
    /// The volumes bring programs of their own.
    pub filled: bool,
}

const COMMANDS: [&str; 21] = [
    "app.wasm",
    "app.wasm",
    "app",
    "app",
    "app.wasm#run",
    "app#run",
    "/app#run",
    "/app.wasm",
    "/app.wasm#id-0",
    "./app.wasm",
    "w/app.wasm",
    "../app.wasm",
    "/usr/bin/app",
    "bin/app.wasm",
    "app.wasm/",
    "./app",
    "/q/app.wasm",
    "/w/../app.wasm",
    "",
    "/",
    "#run",
];

/// Names of files that a shim cuts at `#` where it finds no native program under the whole of one.
const CUT: [&str; 3] = ["app#run", "app.wasm#run", "app.wasm#id-0"];

const FOLDERS: [&str; 12] = [
    "usr/local/sbin/",
    "usr/local/bin/",
    "usr/sbin/",
    "usr/bin/",
    "sbin/",
    "bin/",
    "opt/bin/",
    "w/",
    "usr/games/",
    "opt/tools/",
    "evil/",
    "good/",
];

const SEARCH_PATHS: [&str; 9] = [
    "/evil:/opt/tools:/good",
    "/w:/usr/bin",
    "/opt/bin:/l/in:/usr/bin",
    "w:/bin",
    "/opt/bin:/usr/bin",
    "/usr/bin:/bin",
    "/w",
    "/bin",
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

fn file() -> impl Strategy<Value = Entry> {
    let folder = prop_oneof![2 => Just(""), 3 => select(&FOLDERS[..])];
    let mode = prop_oneof![4 => Just(0o755), 1 => select(vec![0o644_u32, 0o744, 0o711, 0o111, 0])];
    // What WAMR's compiler writes.
    let content = prop_oneof![16 => content(), 1 => Just(b"\0aot\x03\0\0\0, and so on".to_vec())];
    let name = prop_oneof![8 => select(vec!["app.wasm", "app"]), 1 => select(&CUT[..])];
    (folder, name, content, mode).prop_map(|(folder, name, content, mode)| {
        Entry::file(name, &content).below(folder).with(Odd::Permissions(mode))
    })
}

/// A native program that a shim may miss, because it is not in its `PATH`, or because its user may not read it, and what is named by the
/// part before `#`.
fn cut() -> impl Strategy<Value = Vec<Entry>> {
    let folder = select(vec!["", "opt/tools/", "usr/games/", "usr/bin/"]);
    let mode = select(vec![0o755_u32, 0o755, 0o711, 0o511]);
    (select(&CUT[..]), folder, mode, content()).prop_map(|(name, folder, mode, content)| {
        let native = Entry::file(name, b"\x7fELFcut").below(folder).with(Odd::Permissions(mode));
        let before = name.split('#').next().unwrap_or_default();
        vec![native, Entry::file(before, &content).with(Odd::Permissions(0o755))]
    })
}

fn folder_of_mode(name: &str, mode: u32) -> Entry {
    Entry::folder(name).with(Odd::Permissions(mode))
}

/// A folder that not every user may enter, and that may be above programs.
fn closed() -> impl Strategy<Value = Entry> {
    let name = select(vec!["usr/", "usr/bin/", "usr/local/bin/", "opt/tools/", "w/"]);
    (name, select(vec![0o700_u32, 0o711, 0o755])).prop_map(|(name, mode)| folder_of_mode(name, mode))
}

fn link() -> impl Strategy<Value = Entry> {
    let links = vec![
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("q", "/"),
        ("w", "usr/bin"),
        ("w", "/bin"),
        ("usr/bin/app.wasm", "/app.wasm"),
        ("usr/bin/app", "../../app"),
        ("app", "app.wasm"),
        ("app.wasm", "usr/bin/app.wasm"),
        ("app.wasm", "w/missing/../app.wasm"),
        ("usr/local", "../usr"),
        ("opt", "/usr"),
        // To folders that hold no program, and to some that are not there.
        ("w", "/data"),
        ("w", "l/in"),
        ("l", "data"),
        ("l", "/gone"),
        ("bin", "data"),
        ("usr/bin", "../data"),
        ("usr/local/bin", "/gone"),
        ("opt/bin", "/data/in"),
        ("usr/sbin", "l"),
        ("data", "gone"),
    ];
    select(links).prop_map(|(name, target)| Entry::link(name, target))
}

/// The shell, to which the C library of youki gives what the kernel does not start.
fn shell() -> impl Strategy<Value = Entry> {
    let file = select(vec!["bin/sh", "usr/bin/sh"]).prop_map(|name| Entry::file(name, b"\x7fELFshell"));
    let link = select(vec![("bin/sh", "/usr/bin/app"), ("usr/bin/sh", "../../app"), ("bin/sh", "/gone")])
        .prop_map(|(name, target)| Entry::link(name, target));
    prop_oneof![3 => file.prop_map(|file| file.with(Odd::Permissions(0o755))), 1 => link]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let spin = select(vec!["one", "two"]).prop_map(|app| Entry::file("spin.toml", &spin_manifest(app)));
    let folder = select(vec!["data", "data/in"]).prop_map(Entry::folder);
    let usual = prop_oneof![32 => file(), 16 => link(), 4 => spin, 2 => folder, 1 => shell(), 1 => closed()];
    let others = vec(usual, 1..6);
    (others, weighted(0.2, cut())).prop_map(|(mut entries, cut)| {
        entries.extend(cut.into_iter().flatten());
        entries
    })
}

fn layer(entries: Vec<Entry>) -> Layer {
    let items = entries.into_iter().map(Item::Entry).collect();
    Layer::gzip(Archive { items, ..Archive::default() })
}

/// What the lowest layer has where a program's folder is to be.
fn lower() -> impl Strategy<Value = Vec<Entry>> {
    let above = prop_oneof![3 => Just(0o755_u32), 1 => Just(0o700)];
    let mode = || select(vec![0o700_u32, 0o711, 0o755]);
    let folders = (above, mode())
        .prop_map(|(above, mode)| vec![folder_of_mode("usr/", above), folder_of_mode("usr/bin/", mode)]);
    let behind_a_link = mode().prop_map(|mode| {
        vec![Entry::link("usr", "x"), folder_of_mode("x/", 0o755), folder_of_mode("x/bin/", mode)]
    });
    let a_link = mode().prop_map(|mode| vec![Entry::link("usr/bin", "../x"), folder_of_mode("x/", mode)]);
    let nothing = Just(vec![Entry::file("etc/note", b"text")]);
    prop_oneof![4 => folders, 2 => behind_a_link, 1 => a_link, 1 => nothing]
}

/// What may hide that.
fn hiding() -> impl Strategy<Value = Vec<Entry>> {
    let opaque = Just(vec![Entry::file("usr/.wh..wh..opq", b"")]);
    let whiteout = Just(vec![Entry::file("usr/.wh.bin", b"")]);
    let folder = select(vec![0o755_u32, 0o755, 0o700]).prop_map(|mode| vec![folder_of_mode("usr/", mode)]);
    let nothing = Just(vec![Entry::file("etc/text", b"text")]);
    prop_oneof![4 => opaque, 1 => whiteout, 2 => folder, 1 => nothing]
}

/// A program whose layer need not bring its folder. Where the search does not come to it, it comes to a volume, or to a module.
fn hidden() -> impl Strategy<Value = SearchCase> {
    let folder = weighted(0.25, select(vec![0o700_u32, 0o755]));
    let in_between = weighted(0.25, Just(vec![Entry::file("usr/bin/tool", b"text")]));
    let in_one_layer = select(vec![false, false, false, true]);
    let mounts = select(vec![vec!["/w"], vec!["/w"], vec![]]);
    let path = weighted(0.4, select(vec!["/usr/bin:/bin", "/usr/bin:/evil", "/usr/local/bin:/usr/bin"]));
    let program = (select(vec!["app", "app.wasm"]), weighted(0.2, Just("evil/")));
    (lower(), hiding(), in_between, folder, in_one_layer, program, mounts, path).prop_map(
        |(lower, hiding, in_between, folder, in_one_layer, (command, other), mounts, path)| {
            let mut layers: Vec<_> = [lower, hiding].into_iter().chain(in_between).collect();
            let file = Entry::file(command, b"\x7fELFhidden").below("usr/bin/");
            let folder = folder.map(|mode| folder_of_mode("usr/bin/", mode));
            let other = other.map(|folder| Entry::file(command, module(0)).below(folder));
            let top: Vec<_> = folder.into_iter().chain([file]).chain(other).collect();
            match layers.last_mut() {
                Some(last) if in_one_layer => last.extend(top),
                _ => layers.push(top),
            }
            let layers = layers.into_iter().map(layer).collect();
            let image = Image { entrypoint: vec![command.into()], ..Image::of(layers) };
            SearchCase { image, command, working_dir: "/w", path, mounts, filled: true }
        },
    )
}

pub fn case() -> impl Strategy<Value = SearchCase> {
    prop_oneof![4 => anywhere(), 1 => hidden()]
}

fn anywhere() -> impl Strategy<Value = SearchCase> {
    let layers = vec(entries(), 1..4).prop_map(|layers| layers.into_iter().map(layer).collect::<Vec<_>>());
    let working_dir = select(vec!["/", "/", "", "/w", "/w", "/usr/bin", "w", "/l/in"]);
    let mount = select(vec![
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
        "/q/app.wasm",
        "/q/usr/bin",
        "/w",
        "/app.wasm",
        "/data",
        "/data",
        "/data/in",
        "/gone",
        "/l/in",
        "/usr/bin/app",
        "/q/spin.toml",
    ]);
    let mounts = (prop_oneof![2 => Just(Vec::new()), 1 => vec(mount, 1..3)], any::<bool>());
    let paths = (weighted(0.3, select(&SEARCH_PATHS[..])), weighted(0.2, select(&SEARCH_PATHS[..])));
    let command = prop_oneof![8 => select(&COMMANDS[..]), 1 => select(&CUT[..])];
    (layers, command, select(&COMMANDS[..]), working_dir, paths, mounts).prop_map(
        |(layers, command, own, working_dir, (path, own_path), (mounts, filled))| SearchCase {
            image: Image {
                entrypoint: vec![own.into()],
                env: own_path.map(|path| format!("PATH={path}")).into_iter().collect(),
                ..Image::of(layers)
            },
            command,
            working_dir,
            path,
            mounts,
            filled,
        },
    )
}
