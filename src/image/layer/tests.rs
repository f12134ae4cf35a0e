//! Layers that all nodes read alike, and layers that are refused because nodes would not.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::super::archive::tests::{Blocks, named};
use super::*;
use crate::image::FileClass;
use crate::image::names::MAX_WORKERS;
use crate::text;

/// A tar layer, built entry by entry. Names are written raw, so that hostile ones can be built.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn entry(mut self, name: &str, kind: EntryType, target: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = named(Header::new_gnu(), name.as_bytes(), kind);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, "", 0o755, content)
    }

    /// An entry that some readers do not find at its name: a file without a type, or something with times of access.
    fn missed(mut self, name: &str, kind: Option<EntryType>, content: &[u8]) -> Self {
        let mut header = named(Header::new_gnu(), name.as_bytes(), kind.unwrap_or(EntryType::Regular));
        match kind {
            None => header.as_old_mut().linkflag = [0],
            Some(_) => header.as_mut_bytes()[345..357].copy_from_slice(b"14450371401\0"),
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, target, 0o777, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Link, target, 0o755, b"")
    }

    fn folder(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, "", 0o755, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn wasm(name: &str) -> Vec<u8> {
    wat::parse_str(format!(r#"(module (func (export "{name}")))"#)).unwrap()
}

const BOUNDS: UnpackLimits = UnpackLimits { layer: 8 << 20, file: 1 << 20 };

fn tree(bounds: UnpackLimits) -> Tree {
    Tree::new(bounds, ["/wanted".to_string()], Arc::default())
}

fn applied(layers: Vec<Layer>) -> Result<Tree, Fault> {
    let mut tree = tree(BOUNDS);
    for layer in layers {
        tree.apply(&*layer.bytes(), Compression::Plain)?;
    }
    Ok(tree)
}

fn scan(layers: Vec<Layer>) -> Files {
    applied(layers).unwrap().files().unwrap()
}

/// Why a look-up refuses these layers.
fn why(layers: Vec<Layer>) -> String {
    match applied(layers) {
        Err(Fault::Malformed(malformed)) => malformed.0,
        other => format!("{other:?}"),
    }
}

fn names(files: &Files) -> Vec<&str> {
    files.entries.iter().map(|(name, _)| name.as_str()).collect()
}

fn export(files: &Files, source: &str) -> Option<String> {
    let facts = files.modules.iter().find(|facts| facts.source == source)?;
    facts.exports.first().cloned()
}

#[test]
fn a_manifest_of_an_application_that_is_too_long_or_one_too_many_says_so() {
    let names = ["/spin.toml", "/runtime-config.toml"];
    let with = |size: usize| {
        let text = vec![b'#'; size];
        applied(vec![
            names.iter().fold(Layer::new(), |layer, name| layer.file(name.trim_start_matches('/'), &text)),
        ])
        .unwrap()
    };
    let read = with(MAX_APPLICATION_FILE);
    assert!(names.iter().all(|name| read.manifest(name).is_some()));
    let why = |tree: &mut Tree, name: &str| {
        let files = tree.files().unwrap();
        let class = files.entries.into_iter().find(|(at, _)| at == name).map(|(_, class)| class);
        match class {
            Some(FileClass::Unreadable { message }) => message,
            other => format!("{other:?}"),
        }
    };
    let mut long = with(MAX_APPLICATION_FILE + 1);
    for name in names {
        let said = why(&mut long, name);
        assert!(said.starts_with("it has 262145 bytes, and at most 262144 are read; leave out "), "{said}");
    }
    let many =
        (0..17).fold(Layer::new(), |layer, number| layer.file(&format!("{number:02}/spin.toml"), b"a = 1"));
    let mut many = applied(vec![many]).unwrap();
    assert!(many.manifest("/15/spin.toml").is_some());
    let said = why(&mut many, "/16/spin.toml");
    assert!(said.contains("more than 16 manifests of applications"), "{said}");
}

#[test]
fn a_file_is_not_read_to_its_end_when_its_result_is_not_wanted() {
    struct Stopping<'a>(&'a [u8], Arc<AtomicBool>);
    impl Read for Stopping<'_> {
        // When the look-up is given up, the whole file has arrived.
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.store(self.0.is_empty(), std::sync::atomic::Ordering::Relaxed);
            Ok(count)
        }
    }
    for (name, bytes) in [("/a.wasm", wasm("a")), ("/a.wat", b"(module)".to_vec())] {
        let entry = TarEntry {
            name: name.into(),
            target: String::new(),
            kind: Kind::File,
            mode: 0o644,
            size: bytes.len() as u64,
            missed: false,
        };
        let mut tree = tree(BOUNDS);
        let mut content = Stopping(&bytes, Arc::clone(&tree.stop));
        let content = tree.regular(name, &entry, &mut content).unwrap();
        assert!(matches!(content, Content::Unreadable(why) if why == "reading it was given up"), "{name}");
    }
}

#[test]
fn files_are_classed_by_their_first_bytes() {
    let files = scan(vec![
        Layer::new()
            .file("app", &wasm("a"))
            .file("bin/sh", b"\x7fELF....")
            .file("script", b"#!/bin/sh")
            .file("bin/short", b"#!a")
            .file("bin/notes", b"text")
            .entry("opt/bin/tool", EntryType::Regular, "", 0o744, b"\x7fELF....")
            .entry("lib.so", EntryType::Regular, "", 0o644, b"\x7fELF....")
            .entry("native.wasm", EntryType::Regular, "", 0o644, b"\x7fELF....")
            .file("etc/passwd", b"root:x:0")
            .file("wanted", b"text")
            .file("broken.wasm", b"\0asm\x01\0\0\0\xff")
            .file("text.wat", br#"(module (func (export "t")))"#)
            .file("empty", b""),
    ]);
    let native = |magic: &str| FileClass::Native { magic: magic.into(), runs: true, found: false };
    let class = |name: &str| files.entries.iter().find(|(path, _)| path == name).map(|(_, class)| class);
    assert_eq!(class("/app"), Some(&FileClass::Wasm));
    assert_eq!(class("/bin/sh"), Some(&native("ELF")));
    assert_eq!(class("/script"), Some(&native("#!")));
    assert_eq!(class("/lib.so"), None);
    assert_eq!(
        class("/native.wasm"),
        Some(&FileClass::Native { magic: "ELF".into(), runs: false, found: false })
    );
    assert_eq!(
        class("/bin/short"),
        Some(&FileClass::Other),
        "no shim takes less than four bytes for a program"
    );
    assert_eq!(class("/bin/notes"), Some(&FileClass::Other), "found first, whatever it is");
    assert_eq!(
        class("/opt/bin/tool"),
        Some(&FileClass::Native { magic: "ELF".into(), runs: false, found: false })
    );
    assert_eq!(class("/etc/passwd"), None);
    assert_eq!(class("/wanted"), Some(&FileClass::Other));
    assert!(matches!(class("/broken.wasm"), Some(FileClass::Unreadable { .. })));
    assert_eq!(export(&files, "/text.wat").as_deref(), Some("t"));
    assert_eq!(export(&files, "/app").as_deref(), Some("a"));
}

#[test]
fn a_native_program_has_four_bytes_and_may_be_executed_by_others() {
    for (mode, content, native) in [
        (0o755, &b"\x7fELF"[..], true),
        (0o001, b"#!/x", true),
        (0o744, b"\x7fELF....", false),
        (0o754, b"\x7fELF....", false),
        (0o755, b"#!x", false),
    ] {
        let layer = Layer::new().entry("wanted", EntryType::Regular, "", mode, content);
        let files = scan(vec![layer.entry("other", EntryType::Regular, "", mode, content)]);
        let found: Vec<bool> = files
            .entries
            .iter()
            .map(|(_, class)| matches!(class, FileClass::Native { runs: true, .. }))
            .collect();
        // A wanted path is known whatever its file is; the other one is kept only if it is a program to someone: crun starts
        // what its owner may execute.
        let program = content.starts_with(b"\x7fELF") || native;
        assert_eq!(found, if program { vec![native; 2] } else { vec![native] }, "{mode:o} {content:?}");
    }
}

#[test]
fn a_program_that_only_its_owner_may_execute_is_known() {
    let files = |mode| {
        let layer = Layer::new().entry("w/app", EntryType::Regular, "", mode, b"\x7fELF....");
        scan(vec![layer]).entries
    };
    let owned = FileClass::Native { magic: "ELF".into(), runs: false, found: false };
    assert_eq!(files(0o744), [("/w/app".to_string(), owned)]);
    assert_eq!(files(0o644), []);
}

/// Every user may read and execute it, and enter the folders.
#[test]
fn a_program_that_every_search_finds_is_open_to_all_in_a_folder_of_every_path() {
    let is_found = |folders: [u32; 2], mode: u32, name: &str| {
        let layer = Layer::new().entry("usr", EntryType::Directory, "", folders[0], b"").entry(
            "usr/local/bin",
            EntryType::Directory,
            "",
            folders[1],
            b"",
        );
        let files = scan(vec![layer.entry(name, EntryType::Regular, "", mode, b"#!/bin/sh")]).entries;
        files.iter().any(|(_, class)| matches!(class, FileClass::Native { found: true, .. }))
    };
    let (open, app) = ([0o755, 0o755], "usr/local/bin/app");
    assert!(is_found(open, 0o755, app) && is_found(open, 0o555, "usr/bin/app"));
    assert!(!is_found(open, 0o711, app) && !is_found(open, 0o655, app));
    assert!(!is_found([0o700, 0o755], 0o755, app) && !is_found([0o755, 0o750], 0o755, app));
    assert!(!is_found(open, 0o755, "usr/local/bin/in/app") && !is_found(open, 0o755, "opt/bin/app"));
}

/// Whether a native program in these layers is found by every search.
fn is_found(layers: Vec<Layer>) -> bool {
    let files = scan(layers).entries;
    files.iter().any(|(_, class)| matches!(class, FileClass::Native { found: true, .. }))
}

fn closed(layer: Layer, folder: &str) -> Layer {
    layer.entry(folder, EntryType::Directory, "", 0o700, b"")
}

/// A layer that brings a program, and no folder.
fn program() -> Layer {
    Layer::new().file("usr/bin/app", b"\x7fELF....")
}

fn emptied() -> Layer {
    Layer::new().file("usr/.wh..wh..opq", b"")
}

/// containerd copies it from the first lower layer that has it, behind that layer's own links.
#[test]
fn the_mode_of_a_folder_that_a_layer_does_not_bring_is_unknown_where_a_lower_layer_had_it_and_one_hid_it() {
    let low = || closed(Layer::new().folder("usr"), "usr/bin");
    let behind_a_link = || closed(Layer::new().symlink("usr", "x").folder("x"), "x/bin");
    let is_a_link = || closed(Layer::new().symlink("usr/bin", "../x"), "x");
    let hard_link = Layer::new().file("opt/app", b"\x7fELF....").hard_link("usr/bin/app", "opt/app");
    for (why, layers) in [
        ("an opaque marker", vec![low(), emptied(), program()]),
        ("one of the same layer", vec![low(), emptied().file("usr/bin/app", b"\x7fELF....")]),
        ("a layer in between", vec![low(), emptied(), Layer::new().folder("etc"), program()]),
        ("two markers", vec![low(), emptied(), Layer::new().file("usr/bin/x", b""), emptied(), program()]),
        ("a folder in the place of a link", vec![behind_a_link(), Layer::new().folder("usr"), program()]),
        ("a link in the place of the folder", vec![is_a_link(), emptied(), program()]),
        ("a whiteout", vec![low(), Layer::new().file("usr/.wh.bin", b""), program()]),
        ("a file in between", vec![low(), Layer::new().file("usr/bin", b""), emptied(), program()]),
        ("made for a whiteout", vec![low(), emptied(), Layer::new().file("usr/bin/.wh.x", b""), program()]),
        ("made for a hard link", vec![low(), emptied(), hard_link]),
        ("the folder above", vec![closed(Layer::new(), "usr"), Layer::new().file(".wh.usr", b""), program()]),
    ] {
        assert!(!is_found(layers), "{why}");
    }
}

#[test]
fn the_mode_of_a_folder_is_known_where_an_entry_brings_it_or_no_lower_layer_had_it() {
    let low = || closed(Layer::new().folder("usr"), "usr/bin");
    let elsewhere = || closed(Layer::new().folder("usr"), "usr/local/bin");
    let link_elsewhere = || closed(Layer::new().symlink("usr/lib", "../x"), "x");
    for (why, layers) in [
        ("one layer", vec![program()]),
        ("a layer below without it", vec![Layer::new().folder("etc"), program()]),
        ("the folder of a lower layer", vec![Layer::new().folder("usr/bin"), program()]),
        ("another folder was hidden", vec![elsewhere(), emptied(), program()]),
        ("another link was hidden", vec![link_elsewhere(), emptied(), program()]),
        ("a file was hidden", vec![Layer::new().file("usr/bin", b""), emptied(), program()]),
        ("an entry", vec![low(), emptied(), Layer::new().folder("usr/bin"), program()]),
        ("an entry after the program", vec![low(), emptied(), program().folder("usr/bin")]),
        ("an entry of a later layer", vec![low(), emptied(), program(), Layer::new().folder("usr/bin")]),
        ("an entry over another mode", vec![low(), Layer::new().folder("usr/bin"), program()]),
    ] {
        assert!(is_found(layers), "{why}");
    }
    assert!(!is_found(vec![low(), program()]), "it is there, and has its mode");
    let missed = Layer::new().missed("usr/bin/", Some(EntryType::Directory), b"");
    assert!(!is_found(vec![low(), missed, program()]), "some nodes do not find that entry");
}

/// containerd leaves an entry for the root out, and CRI-O applies it.
#[test]
fn a_root_that_not_every_user_may_enter_hides_programs_from_a_search() {
    let root = |mode| Layer::new().entry("./", EntryType::Directory, "", mode, b"");
    assert!(is_found(vec![root(0o755), program()]) && is_found(vec![root(0o111), program()]));
    assert!(!is_found(vec![root(0o700), program()]) && !is_found(vec![program(), root(0o750)]));
}

/// A `PATH` may name any folder, and a shim of runwasi reads what it finds first, executable or not.
#[test]
fn what_has_the_name_of_a_program_is_known_in_every_folder_whatever_it_is() {
    let entry = |layer: Layer, (name, mode, content): (&str, u32, &[u8])| {
        layer.entry(name, EntryType::Regular, "", mode, content)
    };
    let program = wasm("a");
    let files: [(&str, u32, &[u8]); 8] = [
        ("good/app", 0o755, &program),
        ("usr/games/app", 0o644, b"\x7fELF precompiled"),
        ("evil/app", 0o711, b"(module)"),
        ("etc/default/app", 0o644, b"text"),
        ("opt/tool", 0o755, b"\x7fELF...."),
        ("share/tool", 0o600, b"text"),
        ("share/apps", 0o755, b"text"),
        ("srv/target", 0o644, b"text"),
    ];
    let layer = files.into_iter().fold(Layer::new(), entry);
    let found = scan(vec![layer.symlink("x/app", "/srv/target").symlink("x/alias", "/opt/tool")]);
    let native = |runs| FileClass::Native { magic: "ELF".into(), runs, found: false };
    let kept =
        |name: &str| found.entries.iter().find(|(path, _)| path == name).map(|(_, class)| class.clone());
    for (name, class) in [
        ("/good/app", Some(FileClass::Wasm)),
        ("/usr/games/app", Some(native(false))),
        ("/evil/app", Some(FileClass::Other)),
        ("/etc/default/app", Some(FileClass::Data)),
        ("/opt/tool", Some(native(true))),
        ("/share/tool", Some(FileClass::Data)),
        ("/share/apps", None),
        ("/srv/target", Some(FileClass::Data)),
    ] {
        assert_eq!(kept(name), class, "{name}");
    }
    // By the name of a link to a program as well.
    let layer = [
        ("opt/tool", 0o755, &b"\x7fELF...."[..]),
        ("evil/alias", 0o644, &b"x"[..]),
        ("evil/x", 0o644, &b"x"[..]),
    ];
    let layer = layer.into_iter().fold(Layer::new(), entry).symlink("x/alias", "/opt/tool");
    assert_eq!(names(&scan(vec![layer])), ["/evil/alias", "/opt/tool", "/x/alias"]);
}

#[test]
fn machine_code_of_wamr_is_never_taken_for_a_file_that_starts_nothing() {
    let files = scan(vec![Layer::new().entry("evil/app", EntryType::Regular, "", 0o600, b"\0aot\x03\0\0\0")]);
    assert!(
        matches!(files.entries.as_slice(), [(_, FileClass::Unreadable { message })] if message.contains("WAMR"))
    );
}

/// dlopen needs no right to execute.
#[test]
fn what_wasmedge_would_load_as_a_plug_in_is_known_without_a_right_to_execute_it() {
    let file = |layer: Layer, name: &str| layer.entry(name, EntryType::Regular, "", 0o644, b"\x7fELF....");
    let names = ["usr/lib/wasmedge/a.so", "opt/x/plugin/b/c.so", "usr/lib/d.so", "usr/lib/wasmedge/e"];
    let found = scan(vec![names.iter().fold(Layer::new(), |layer, name| file(layer, name))]).entries;
    let found: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, ["/opt/x/plugin/b/c.so", "/usr/lib/wasmedge/a.so"]);
}

#[test]
fn what_glibc_would_load_to_resolve_a_name_is_known() {
    let file = |layer: Layer, name: &str| layer.entry(name, EntryType::Regular, "", 0o644, b"\x7fELF....");
    let names = [
        "usr/lib64/libnss_x.so.2",
        "opt/libnss_y.so",
        "libnss_/z.so.2",
        "usr/lib64/libc.so.6",
        "usr/share/libnss_z.txt",
    ];
    let layer = names.iter().fold(Layer::new(), |layer, name| file(layer, name));
    let found = scan(vec![
        layer.file("etc/ld.so.cache", b"glibc-ld.so.cache1.1").file("etc/nsswitch.conf", b"hosts: x"),
    ]);
    let found: Vec<&str> = found.entries.iter().map(|(name, _)| name.as_str()).collect();
    let loaded = ["/libnss_/z.so.2", "/opt/libnss_y.so", "/usr/lib64/libnss_x.so.2"];
    assert_eq!(found, [&["/etc/ld.so.cache", "/etc/nsswitch.conf"][..], &loaded].concat());
}

/// A shim may serve each of them, so that one is enough; how many there are does not matter.
#[test]
fn scripts_that_a_shim_may_serve_are_known_up_to_one_more_than_are_looked_at() {
    let layer = Layer::new().file("srv/index.js", b"x").file("_lib/a.js", b"x").file("public/a.js", b"x");
    let layer = layer.file("main.mjs", b"x").entry("run.js", EntryType::Regular, "", 0o644, b"#!/bin/node");
    let files = scan(vec![layer]);
    let class = FileClass::Other;
    assert_eq!(files.entries, [("/run.js".to_string(), class.clone()), ("/srv/index.js".to_string(), class)]);
    let many =
        (0..200).fold(Layer::new(), |layer, number| layer.file(&format!("node_modules/{number}.js"), b"x"));
    assert_eq!(scan(vec![many]).entries.len(), MAX_WORKERS + 1);
}

#[test]
fn links_of_folders_of_programs_to_more_folders_than_are_remembered_are_refused() {
    let links = |count: usize| {
        let link = |layer: Layer, n: usize| layer.symlink(&format!("x/bin/{n}"), &format!("/gone/{n}"));
        vec![(0..count).fold(Layer::new(), link)]
    };
    assert_eq!(scan(links(1024)).program_folders.len(), 1024);
    let mut full = applied(links(1)).unwrap();
    full.paths = MAX_PATHS;
    let fault = full.files().unwrap_err();
    assert!(matches!(fault, Fault::Malformed(why) if why.0.contains("paths and targets have more than")));
    let Err(Fault::Malformed(refused)) = applied(links(1025)).unwrap().files() else { panic!() };
    assert!(refused.0.contains("more than 1024 folders"), "{}", refused.0);
}

#[test]
fn that_something_is_where_a_wanted_link_leads_is_known_whatever_it_is() {
    let files = scan(vec![Layer::new().symlink("wanted", "etc/text").file("etc/text", b"text")]);
    assert_eq!(names(&files), ["/etc/text", "/wanted"]);
    assert_eq!(files.entries[0].1, FileClass::Other);
}

#[test]
fn later_layers_override_and_white_out_earlier_ones() {
    let base = || Layer::new().file("app.wasm", &wasm("old")).file("d/b.wasm", &wasm("b"));
    let files = scan(vec![base(), Layer::new().file("app.wasm", &wasm("new"))]);
    assert_eq!(export(&files, "/app.wasm").as_deref(), Some("new"));
    assert_eq!(names(&scan(vec![base(), Layer::new().file(".wh.app.wasm", b"")])), ["/d/b.wasm"]);
    assert_eq!(names(&scan(vec![base(), Layer::new().file(".wh.d", b"")])), ["/app.wasm"]);
    assert_eq!(names(&scan(vec![base(), Layer::new().file("d", b"a file now")])), ["/app.wasm"]);
    assert_eq!(names(&scan(vec![base(), Layer::new().folder("app.wasm")])), ["/d/b.wasm"]);
    assert_eq!(
        names(&scan(vec![base(), Layer::new().folder("d").symlink("app.wasm", "d/b.wasm")])),
        ["/app.wasm", "/d/b.wasm"]
    );
    // A layer with the same entry twice, as in an archive that was appended to: the last one counts.
    let twice = Layer::new().file("app.wasm", &wasm("one")).file("app.wasm", &wasm("two"));
    assert_eq!(export(&scan(vec![twice]), "/app.wasm").as_deref(), Some("two"));
    // What some nodes do not find at its name may be a file of its own, and replaces nothing but a folder by a folder.
    for kind in [None, Some(EntryType::Regular)] {
        for (layers, name) in [
            (vec![base(), Layer::new().missed("app.wasm", kind, &wasm("new"))], "/app.wasm"),
            (vec![base(), Layer::new().missed("d", kind, b"")], "/d"),
            (vec![Layer::new().file("a", b"").missed("a", kind, b"")], "/a"),
            (vec![base(), Layer::new().missed(".wh.d", kind, b"")], "/.wh.d"),
        ] {
            let (said, start) = (why(layers), format!("`{name}` replaces or removes a file by an entry"));
            assert!(said.starts_with(&start), "{name}: {said}");
        }
        assert_eq!(names(&scan(vec![base(), Layer::new().missed("new.wasm", kind, &wasm("new"))])).len(), 3);
    }
    let folder = Some(EntryType::Directory);
    assert_eq!(names(&scan(vec![base(), Layer::new().missed("d/", folder, b"")])).len(), 2);
    assert!(
        why(vec![base(), Layer::new().missed("app.wasm/", folder, b"")]).contains("`/app.wasm` replaces")
    );
    // A folder that replaces a link of a lower layer leads nowhere else.
    let low = Layer::new().symlink("b", "a").file("a/app.wasm", &wasm("low"));
    let files = scan(vec![low, Layer::new().folder("b/").file("b/app.wasm", &wasm("own"))]);
    assert_eq!(names(&files), ["/a/app.wasm", "/b/app.wasm"]);
}

#[test]
fn an_opaque_folder_hides_lower_layers_but_not_its_own() {
    let low = || Layer::new().file("d/low.wasm", &wasm("low")).file("keep.wasm", &wasm("keep"));
    let top = Layer::new().folder("d").file("d/.wh..wh..opq", b"").file("d/own.wasm", &wasm("own"));
    assert_eq!(names(&scan(vec![low(), top])), ["/d/own.wasm", "/keep.wasm"]);
    let late = Layer::new().file("d/own.wasm", &wasm("own")).file("d/.wh..wh..opq", b"");
    let root = Layer::new().file(".wh..wh..opq", b"");
    for layer in [late, root] {
        let error = why(vec![low(), layer]);
        assert!(error.contains("the root or was written to before"), "{error}");
    }
}

#[test]
fn a_layer_that_writes_through_a_link_of_a_lower_layer_is_refused() {
    let low = || Layer::new().symlink("b", "a").file("a/app.wasm", &wasm("evil"));
    for top in [
        Layer::new().file("b/app.wasm", &wasm("benign")),
        Layer::new().file("b/.wh.app.wasm", b""),
        Layer::new().file("b/.wh..wh..opq", b""),
        Layer::new().folder("b/c"),
        Layer::new().file("a/x", b"").hard_link("b/app.wasm", "a/x"),
    ] {
        let error = why(vec![low(), top]);
        assert!(error.contains("lies under `/b`, which is a link"), "{error}");
    }
}

#[test]
fn a_file_of_a_checkpoint_is_refused_whatever_it_is() {
    let app = || Layer::new().file("app.wasm", &wasm("a"));
    for layer in [
        app().file("spec.dump", b"{}"),
        app().symlink("./spec.dump", "x"),
        app().hard_link("spec.dump", "app.wasm"),
    ] {
        let error = why(vec![layer]);
        assert!(error.contains("`/spec.dump` is of a checkpoint"), "{error}");
    }
    assert!(names(&scan(vec![app().file("srv/spec.dump", b"{}")])).contains(&"/app.wasm"));
}

#[test]
fn a_chain_of_fifty_links_is_not_written_through() {
    let chain = (0..50)
        .fold(Layer::new().folder("l50"), |layer, n| layer.symlink(&format!("l{n}"), &format!("l{}", n + 1)));
    let error = why(vec![chain.file("l0/app.wasm", &wasm("evil"))]);
    assert!(error.contains("lies under `/l0`, which is a link"), "{error}");
}

#[test]
fn a_link_whose_target_is_work_without_end_is_refused() {
    let linked = |parts: usize| Layer::new().symlink("l", &format!("{}x", "/".repeat(parts)));
    assert!(names(&scan(vec![linked(63)])).contains(&"/l"));
    let error = why(vec![linked(64)]);
    assert!(error.contains("`l` has a target of more than 64 parts; shorten it"), "{error}");
}

#[test]
fn a_chain_that_a_mount_follows_and_the_kernel_does_not_is_refused() {
    let chain = |count: usize| {
        let layer = Layer::new().file("app.wasm", &wasm("_start")).symlink(&format!("l{count}"), "/");
        (0..count).fold(layer, |layer, n| layer.symlink(&format!("l{n}"), &format!("l{}", n + 1)))
    };
    assert!(names(&scan(vec![chain(39)])).contains(&"/l0"), "forty links are followed by both");
    for count in [40, 50, 300] {
        let fault = applied(vec![chain(count)]).unwrap().files().unwrap_err();
        let Fault::Malformed(error) = fault else { panic!("{count}: {fault:?}") };
        assert!(error.0.contains("make it lead to its target directly"), "{count}: {error}");
    }
    let looped = chain(3).symlink("m", "n").symlink("n", "m/x");
    assert!(names(&scan(vec![looped])).contains(&"/m"), "a volume may hide one of its links");
}

#[test]
fn whatever_is_where_a_link_in_a_folder_of_programs_leads_is_known() {
    let layer =
        Layer::new().folder("x").file("x/app", b"text").file("y/app", b"text").symlink("opt/bin", "/x");
    let aux = Layer::new().file("var/k3s/bin/aux/app", b"text");
    assert_eq!(names(&scan(vec![layer])), ["/opt/bin", "/x/app"]);
    assert_eq!(names(&scan(vec![aux])), ["/var/k3s/bin/aux/app"]);
}

#[test]
fn what_a_layer_removes_and_brings_is_refused() {
    let low = || Layer::new().file("d/app.wasm", &wasm("low")).file("app.wasm", &wasm("low"));
    let both = "removes `/d` and brings it too";
    for (top, expected) in [
        (Layer::new().file(".wh.d", b"").folder("d"), both),
        (Layer::new().folder("d").file(".wh.d", b""), both),
        (Layer::new().file("d/own.wasm", &wasm("own")).file(".wh.d", b""), both),
        (Layer::new().file(".wh.d", b"").file("d/own.wasm", &wasm("own")), both),
        (Layer::new().file(".wh.d", b"").file(".wh.d", b""), both),
        (Layer::new().file("app.wasm", &wasm("evil")).file(".wh.app.wasm", b""), "removes `/app.wasm`"),
        (Layer::new().file(".wh.app.wasm", b"").symlink("app.wasm", "d"), "removes `/app.wasm`"),
        (Layer::new().folder(".wh.d"), "not an empty file"),
        (Layer::new().file(".wh.d/app.wasm", b""), "name of a whiteout"),
        (Layer::new().file(".wh..", b""), "names nothing"),
        (Layer::new().file(".wh..wh.plnk", b""), "only AUFS"),
        (Layer::new().file(".wh.d", b"x"), "not an empty file"),
    ] {
        let error = why(vec![low(), top]);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let error = why(vec![Layer::new().file("a/app.wasm", b"").file(".wh.a", b"")]);
    assert!(error.contains("in the lowest layer"), "{error}");
}

#[test]
fn what_lies_under_a_file_or_is_two_things_is_refused() {
    for (layers, expected) in [
        (vec![Layer::new().file("f", b"").file("f/app.wasm", b"")], "under `/f`, which is not a folder"),
        (
            vec![Layer::new().file("f", b""), Layer::new().file("f/app.wasm", b"")],
            "under `/f`, which is not a folder",
        ),
        (vec![Layer::new().folder("f").file("f", b"")], "`/f` twice, as different things"),
        (vec![Layer::new().file("f/a", b"").symlink("f", "a")], "`/f` twice, as different things"),
        (vec![Layer::new().symlink("f", "a").file("f", b"")], "`/f` twice, as different things"),
        (vec![Layer::new().file("f", b"").folder("f")], "`/f` twice, as different things"),
        (
            vec![Layer::new().file("f", b""), Layer::new().entry("f", EntryType::Fifo, "", 0o644, b"")],
            "a device or a pipe in the place of `/f`",
        ),
        (vec![Layer::new().file("../app.wasm", b"")], "climbs with `..`"),
        (vec![Layer::new().file("./", b"")], "ends with a slash"),
        (vec![Layer::new().file(".", b"")], "is the root of the image"),
    ] {
        let error = why(layers);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn hard_links_lead_to_a_file_of_their_own_layer() {
    let files = scan(vec![
        Layer::new()
            .file("opt/app.wasm", &wasm("a"))
            .hard_link("hard.wasm", "/opt/app.wasm")
            .symlink("soft", "opt/app.wasm")
            .hard_link("soft2", "soft"),
    ]);
    assert_eq!(names(&files), ["/hard.wasm", "/opt/app.wasm", "/soft", "/soft2"]);
    assert_eq!(export(&files, "/hard.wasm").as_deref(), Some("a"));
    let low = || Layer::new().file("app.wasm", &wasm("a"));
    let mode = low().entry("b.wasm", EntryType::Link, "app.wasm", 0o644, b"");
    for (layers, expected) in [
        (vec![low(), Layer::new().hard_link("b.wasm", "app.wasm")], "not a file that its layer brings"),
        (vec![Layer::new().hard_link("b.wasm", "nowhere")], "not a file that its layer brings"),
        (vec![Layer::new().folder("d").hard_link("b.wasm", "d")], "not a file that its layer brings"),
        (vec![Layer::new().hard_link("b.wasm", "../b")], "climbs with `..`"),
        (vec![mode], "another mode than `app.wasm`"),
    ] {
        let error = why(layers);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let many = (0..200).fold(low(), |layer, n| layer.hard_link(&format!("{n}.wasm"), "app.wasm"));
    let fault = applied(vec![many]).unwrap().files().unwrap_err();
    assert!(matches!(fault, Fault::Malformed(why) if why.0.contains("128 names of Wasm files")));
}

/// A module of a thousand exports, whose names take 1 064 000 bytes of memory.
fn thousand_exports() -> Vec<u8> {
    let exports: Vec<String> = (0..1000).map(|n| format!(r#"(export "{n:01000}" (func 0))"#)).collect();
    wat::parse_str(format!("(module (func) {})", exports.concat())).unwrap()
}

#[test]
fn the_names_that_a_module_exports_count_for_each_of_its_own_names() {
    let module = thousand_exports();
    let with = |links: usize| {
        let link = |layer: Layer, n: usize| layer.hard_link(&format!("{n}.wasm"), "app.wasm");
        applied(vec![(0..links).fold(Layer::new().file("app.wasm", &module), link)]).unwrap().files()
    };
    let modules = with(6).unwrap().modules;
    let sources: Vec<&str> = modules.iter().map(|facts| facts.source.as_str()).collect();
    assert_eq!(
        sources,
        ["/0.wasm", "/1.wasm", "/2.wasm", "/3.wasm", "/4.wasm", "/5.wasm", "/app.wasm"],
        "in the order of their paths"
    );
    assert!(modules.iter().all(|facts| facts.exports.len() == 1000));
    let fault = with(7).unwrap_err();
    assert!(
        matches!(&fault, Fault::Malformed(why) if why.0.contains("import and export take more than 8 MiB")),
        "{fault:?}"
    );
}

#[test]
fn names_of_every_form_lead_to_one_path() {
    let files = scan(vec![
        Layer::new()
            .folder("./")
            .file("/abs.wasm", &wasm("a"))
            .file("./x/./c.wasm", &wasm("c"))
            .file("y//d.wasm", &wasm("d")),
    ]);
    assert_eq!(names(&files), ["/abs.wasm", "/x/c.wasm", "/y/d.wasm"]);
}

#[test]
fn links_are_kept_wherever_they_lead() {
    let files = scan(vec![
        Layer::new()
            .file("opt/app.wasm", &wasm("a"))
            .symlink("usr/bin/app", "/opt/app.wasm")
            .symlink("bin", "usr/bin")
            .symlink("root", "/")
            .symlink("etc/localtime", "/usr/share/zoneinfo/UTC")
            .symlink("etc/hosts.bak", "hosts")
            .file("etc/hosts", b"text")
            .symlink("work", "data")
            .folder("data")
            .symlink("opt/bin", "/volume")
            .symlink("sbin", "/data/")
            .symlink("loop", "loop"),
    ]);
    assert_eq!(
        names(&files),
        [
            "/bin",
            "/etc/hosts.bak",
            "/etc/localtime",
            "/loop",
            "/opt/app.wasm",
            "/opt/bin",
            "/root",
            "/sbin",
            "/usr/bin/app",
            "/work"
        ]
    );
    assert_eq!(
        files.program_folders,
        ["/data", "/usr/bin", "/volume"],
        "what is not there may be a volume's"
    );
}

#[test]
fn a_link_to_a_program_by_way_of_what_is_no_folder_is_refused() {
    let with = |target: &str| {
        let layer = Layer::new().file("opt/app.wasm", &wasm("a")).file("etc/text", b"").folder("srv");
        applied(vec![layer.symlink("app", target)]).unwrap().files()
    };
    for target in [
        "opt/../srv/../opt/app.wasm",
        "/opt/./app.wasm",
        "srv/../opt",
        "opt/",
        "gone/../nowhere",
        "gone/app.wasm",
    ] {
        assert!(with(target).is_ok(), "{target}");
    }
    let slash = Layer::new()
        .symlink("bin", "usr/bin/")
        .file("usr/bin/a.wasm", &wasm("a"))
        .symlink("app", "bin/a.wasm");
    assert_eq!(names(&scan(vec![slash])), ["/app", "/bin", "/usr/bin/a.wasm"]);
    for target in
        ["proc/../opt/app.wasm", "etc/text/../../opt/app.wasm", "gone/../opt", "gone/..", "opt/app.wasm/"]
    {
        let fault = with(target).unwrap_err();
        assert!(
            matches!(&fault, Fault::Malformed(why) if why.0.contains("the link `/app` leads through")),
            "{target}: {fault:?}"
        );
    }
}

#[test]
fn bounds_hold() {
    let small = UnpackLimits { layer: 4096, file: 16 };
    let apply = |tree: &mut Tree, layer: Layer| tree.apply(&*layer.bytes(), Compression::Plain);
    let bomb = Layer::new().file("zeros", &[0; 8192]);
    assert_eq!(apply(&mut tree(small), bomb), Err(Fault::TooLarge));
    let mut large = tree(small);
    apply(&mut large, Layer::new().file("a.wasm", &wasm("a"))).unwrap();
    let files = large.files().unwrap();
    assert!(matches!(&files.entries[0].1, FileClass::Unreadable { message } if message.contains("16")));
    let many =
        (0..=MAX_FILE_MODULES).fold(Layer::new(), |layer, n| layer.file(&format!("{n}.wasm"), &wasm("a")));
    assert_eq!(scan(vec![many]).modules.len(), MAX_FILE_MODULES);
    let mut layers = tree(small);
    let fitting =
        (0..20).take_while(|_| apply(&mut layers, Layer::new().file("zeros", &[0; 2048])).is_ok()).count();
    assert!((4..8).contains(&fitting), "{fitting} layers of 2048 bytes fit four times 4096");
    let target = "t".repeat(4_000);
    let links = (0..7_000).fold(Blocks::default(), |blocks, n| {
        blocks
            .pax(&[("linkpath", &target)])
            .entry(named(Header::new_ustar(), format!("l{n}").as_bytes(), EntryType::Symlink), b"")
    });
    let large = UnpackLimits { layer: 64 << 20, file: 16 };
    let fault = tree(large).apply(&*links.end(), Compression::Plain).unwrap_err();
    assert!(matches!(fault, Fault::Malformed(why) if why.0.contains("paths and targets have more than")));
    let long = "x/".repeat(2048) + "a";
    let blob = Blocks::default().pax(&[("path", &long)]).file("a", b"").end();
    let fault = tree(BOUNDS).apply(&*blob, Compression::Plain).unwrap_err();
    assert!(matches!(fault, Fault::Malformed(why) if why.0.contains("a path of 4097 bytes")));
}

#[test]
fn layers_that_are_too_large_together_are_told_from_one_that_is() {
    let small = UnpackLimits { layer: 8192, file: 16 };
    let apply = |tree: &mut Tree, bytes: usize| {
        tree.apply(&*Layer::new().file("zeros", &vec![0; bytes]).bytes(), Compression::Plain)
    };
    assert_eq!(apply(&mut tree(small), 16_384), Err(Fault::TooLarge));
    let mut layers = tree(small);
    let fault = (0..20).find_map(|_| apply(&mut layers, 4096).err());
    assert_eq!(fault, Some(Fault::TooLargeTogether));
}

#[test]
fn why_files_cannot_be_read_counts_as_their_paths_do() {
    let mut tree = tree(BOUNDS);
    let reason = "x".repeat(1000);
    let mut inserted = (0..=MAX_PATHS / 1000)
        .map(|number| tree.insert(&format!("/{number}"), 0o755, Content::Unreadable(reason.clone())));
    let fault = inserted.find_map(Result::err);
    assert!(
        matches!(&fault, Some(Fault::Malformed(why)) if why.0.contains("paths and targets have more than")),
        "{fault:?}"
    );
}

#[test]
fn what_a_layer_removes_counts_as_what_is_there_until_the_next_one_begins() {
    let folder = vec!["d".repeat(250); 15].join("/");
    let whiteout =
        |blocks: Blocks, n: usize| blocks.pax(&[("path", &format!("{folder}/.wh.{n}"))]).file("a", b"");
    let layer = |count: usize| (0..count).fold(Blocks::default(), whiteout).end();
    let mut removing = tree(UnpackLimits { layer: 64 << 20, file: 16 });
    removing.apply(&*Layer::new().file("app", b"text").bytes(), Compression::Plain).unwrap();
    for _ in 0..2 {
        removing.apply(&*layer(4_000), Compression::Plain).unwrap();
    }
    let fault = removing.apply(&*layer(7_000), Compression::Plain).unwrap_err();
    assert!(
        matches!(&fault, Fault::Malformed(why) if why.0.contains("paths and targets have more than")),
        "{fault:?}"
    );
    let mut many = tree(BOUNDS);
    assert_eq!((0..=MAX_NODES).position(|n| many.note_removed(&format!("/{n}")).is_err()), Some(MAX_NODES));
    many.forget_removed();
    assert_eq!(many.note_removed("/again"), Ok(()));
}

/// A chain of links, each to the folder of the next, and only the last to a program: in the order of their names, none
/// is known to lead there before the next one is.
fn adverse_links(count: usize) -> Vec<u8> {
    let link = |blocks: Blocks, name: &str, target: &str| {
        let mut header = named(Header::new_ustar(), name.as_bytes(), EntryType::Symlink);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        blocks.entry(header, b"")
    };
    let blocks = Blocks::default().file("z/app", b"\x7fELF....");
    let blocks = link(blocks, &format!("d{:06}/l", count - 1), "/z");
    (1..count).fold(blocks, |blocks, n| link(blocks, &format!("d{:06}/l", n - 1), &format!("/d{n:06}"))).end()
}

/// Builds a layer of that many entries.
type Shape = fn(usize) -> Vec<u8>;

#[test]
fn the_work_grows_no_faster_than_the_bytes() {
    let deep: fn(usize) -> Vec<u8> = |count| {
        let blocks = (0..count).fold(Blocks::default(), |blocks, n| {
            blocks.pax(&[("path", &format!("{}{n}", "a/".repeat(400)))]).file("x", b"\x7fELF....")
        });
        blocks.end()
    };
    let removed: fn(usize) -> Vec<u8> = |count| {
        let blocks = (0..count).fold(Blocks::default(), |blocks, n| blocks.file(&format!("d/{n}"), b""));
        blocks.end()
    };
    // All through the same chain, each of whose targets has as many parts as is read.
    let chained: fn(usize) -> Vec<u8> = |count| {
        let long = |n: usize| format!("{}d{n}", "x/../".repeat(16));
        let layer = (0..30).fold(Layer::new().folder("x").file("d30", b"\x7fELF...."), |layer, n| {
            layer.symlink(&format!("d{n}"), &long(n + 1))
        });
        (0..count).fold(layer, |layer, n| layer.symlink(&format!("l/{n}"), "/d0")).bytes()
    };
    let shapes: [(&str, Shape); 4] = [
        ("links in adverse order", adverse_links),
        ("deep paths", deep),
        ("many files", removed),
        ("links through long targets", chained),
    ];
    for (what, shape) in shapes {
        let steps = |count: usize| {
            let mut tree = tree(UnpackLimits { layer: 64 << 20, file: 1 << 20 });
            tree.apply(&*shape(count), Compression::Plain).unwrap();
            // Applies the same layer again, over the files that are there.
            tree.apply(&*shape(count), Compression::Plain).unwrap();
            tree.files().unwrap();
            tree.steps().taken()
        };
        let (small, large) = (steps(300), steps(3_000));
        assert!(large <= small * 12, "{what}: {small} steps for 300 entries, {large} for ten times as many");
    }
}

/// Every path is looked up by its whole text, so that walking through all of its parts would take the square of its length.
#[test]
fn a_deep_path_takes_steps_by_its_bytes_and_not_by_its_parts() {
    let steps = |depth: usize| {
        let link = |blocks: Blocks, number: usize| {
            let mut header = named(Header::new_ustar(), b"x", EntryType::Symlink);
            header.as_old_mut().linkname[..4].copy_from_slice(b"gone");
            let path = format!("{}{number}", "a/".repeat(depth));
            blocks.pax(&[("path", &path)]).entry(header, b"")
        };
        let mut tree = tree(UnpackLimits { layer: 64 << 20, file: 1 << 20 });
        tree.apply(&*(0..500).fold(Blocks::default(), link).end(), Compression::Plain).unwrap();
        tree.files().unwrap();
        tree.steps().taken()
    };
    let (shallow, deep) = (steps(3), steps(1_500));
    assert!(deep < 20 * shallow, "{shallow} steps for paths of three parts, {deep} for fifteen hundred");
}

#[test]
fn forty_thousand_links_in_adverse_order_take_few_steps() {
    let mut tree = tree(UnpackLimits { layer: 64 << 20, file: 1 << 20 });
    tree.apply(&*adverse_links(40_000), Compression::Plain).unwrap();
    assert_eq!(tree.files().unwrap().entries.len(), 40_001);
    assert!(tree.steps().taken() < 10_000_000, "{}", tree.steps().taken());
}

#[test]
fn layers_of_the_fields_tools_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layers");
    let archives = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let archives: Vec<_> = archives.filter(|path| path.extension().is_some_and(|end| end == "gz")).collect();
    assert!(archives.len() >= 20, "{}", archives.len());
    for archive in archives {
        let bytes = std::fs::read(&archive).unwrap();
        let name = archive.file_name().unwrap().to_string_lossy().into_owned();
        let mut tree = tree(BOUNDS);
        if name.contains("whiteouts") {
            tree.apply(&*Layer::new().file("usr/local/bin/app", b"").bytes(), Compression::Plain).unwrap();
        }
        tree.apply(&*bytes, Compression::Gzip).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        let files = tree.files().unwrap();
        let found = names(&files);
        assert!(found.contains(&"/app.wasm"), "{name}: {found:?}");
        let whole = !name.contains("v7") && !name.contains("bsdtar-ustar") && !name.contains("whiteouts");
        assert_eq!(found.contains(&"/usr/local/bin/hard.wasm"), whole, "{name}: {found:?}");
        assert_eq!(found.contains(&"/usr/local/bin/app"), whole, "{name}: {found:?}");
    }
}

proptest! {
    #[test]
    fn any_sequence_of_entries_leaves_only_paths_inside_the_root(
        entries in proptest::collection::vec(
            ("[a-c./]{1,6}|\\.wh\\.[a-c]{1,2}|d/\\.wh\\.\\.wh\\.\\.opq", 0u8..4, "[a-c./]{0,6}"), 0..24)
    ) {
        let layer = entries.iter().fold(Layer::new(), |layer, (name, kind, target)| match kind {
            0 => layer.file(name, b"\x7fELF...."),
            1 => layer.symlink(name, target),
            2 => layer.folder(name),
            _ => layer.hard_link(name, target),
        });
        let mut tree = tree(BOUNDS);
        let bytes = layer.bytes();
        let _ = tree.apply(&*bytes, Compression::Plain);
        let _ = tree.apply(&*bytes, Compression::Plain);
        // A link through what is not a folder is refused.
        for (name, _) in tree.files().map(|files| files.entries).unwrap_or_default() {
            prop_assert_eq!(text::clean_path(&name), name);
        }
    }
}

#[test]
fn a_hard_link_with_the_name_of_a_file_of_variables_is_one() {
    let copies = b"SPIN_VARIABLE_KEY=${PASSWORD}";
    let texts = |layer: Layer| {
        let mut tree = applied(vec![layer]).unwrap();
        let texts: Vec<(String, bool)> =
            tree.texts_called(".env").map(|(at, text)| (at.to_string(), text == copies)).collect();
        (texts, tree.files().unwrap().entries)
    };
    let there = vec![("/.env".to_string(), FileClass::Other)];
    assert_eq!(texts(Layer::new().file(".env", copies)), (vec![("/.env".into(), true)], there.clone()));
    for (name, bytes) in [("x", &copies[..]), ("x", b"\x7fELF=1"), (".env.example", copies)] {
        let (texts, entries) = texts(Layer::new().file(name, bytes).hard_link(".env", name));
        assert_eq!(texts, [("/.env".to_string(), false)], "{name}");
        assert!(entries.contains(&there[0]), "{name}: {entries:?}");
    }
    let (texts, _) = texts(Layer::new().file("a/.env", copies).hard_link(".env", "a/.env"));
    assert_eq!(texts, [("/.env".to_string(), true), ("/a/.env".to_string(), true)]);
}
