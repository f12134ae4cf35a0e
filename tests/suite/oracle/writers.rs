//! What the field's writers put into layers: the node and the gate both take it, and see the same in it. The shapes are
//! those of the writers' sources; none may fall out of what the gate reads.

use wasmgate::runtime::Family;

use super::archive::{Archive, Bytes, End, Entry, Extension, Item, Long, Magic, Number, Odd, Record, Tail};
use super::gate::{Gate, Judged, Pod};
use super::image::{Compression, Image, Layer, Layout, digest, module};
use super::node::{Node, Question};

/// A shape: its layers, and the path of the program in them.
struct Shape {
    writer: &'static str,
    layers: Vec<Layer>,
    program: String,
}

fn shape(writer: &'static str, program: &str, layers: Vec<Layer>) -> Shape {
    Shape { writer, layers, program: program.into() }
}

fn layer(entries: Vec<Entry>) -> Layer {
    let items = entries.into_iter().map(Item::Entry).collect();
    Layer::gzip(Archive { items, ..Archive::default() })
}

fn app(name: &str) -> Entry {
    Entry::file(name, module(0))
}

fn pax(records: &[(&'static str, &str)]) -> Extension {
    Extension::Pax(records.iter().map(|(key, value)| Record::good(key, Bytes::from(*value))).collect())
}

const CAPABILITY: &str = "\u{1}\0\0\u{2}\0\u{4}\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn deep(depth: usize) -> String {
    format!("{}app.wasm", "a-folder-of-a-long-name/".repeat(depth))
}

/// Go's `archive/tar` in its PAX format, by way of `containerd:pkg/archive/tar.go` (`BuildKit`) and
/// `containers/storage:pkg/archive/archive.go` (buildah): folders with a slash, hard links, whiteouts without content.
fn buildkit() -> Vec<Shape> {
    let plain = layer(vec![Entry::folder("a/"), app("a/app.wasm"), Entry::link("bin", "a")]);
    let capable = app("app.wasm").after(pax(&[("SCHILY.xattr.security.capability", CAPABILITY)]));
    let attributes = app("app.wasm").after(pax(&[("SCHILY.xattr.user.note", "a"), ("comment", "b")]));
    let times = app("app.wasm").after(pax(&[
        ("atime", "1700000000.25"),
        ("ctime", "1700000000.5"),
        ("mtime", "1700000000.125"),
    ]));
    let named = app("app.wasm").after(pax(&[
        ("uid", "4294967294"),
        ("gid", "0"),
        ("uname", "Jörg"),
        ("gname", "root"),
    ]));
    let hard =
        layer(vec![Entry::folder("a/"), app("a/app.wasm"), Entry::hard_link("app.wasm", "a/app.wasm")]);
    let lower =
        || layer(vec![Entry::folder("a/"), Entry::file("a/app.wasm", module(1)), Entry::file("x", b"x")]);
    let white = layer(vec![
        Entry::folder("a/"),
        Entry::file("a/.wh.app.wasm", b""),
        Entry::file(".wh.x", b""),
        app("app.wasm"),
    ]);
    let opaque = layer(vec![Entry::folder("a/"), Entry::file("a/.wh..wh..opq", b""), app("a/app.wasm")]);
    let replaced = layer(vec![Entry::folder("a/"), app("a/app.wasm")]);
    vec![
        shape("buildkit: COPY", "/bin/app.wasm", vec![plain]),
        shape("buildkit: a capability", "/app.wasm", vec![layer(vec![capable])]),
        shape("buildkit: other attributes", "/app.wasm", vec![layer(vec![attributes])]),
        shape("buildah: exact times", "/app.wasm", vec![layer(vec![times])]),
        shape("buildah: large ids and names", "/app.wasm", vec![layer(vec![named])]),
        shape("buildkit: a hard link", "/app.wasm", vec![hard]),
        shape("buildkit: removed files", "/app.wasm", vec![lower(), white]),
        shape("buildkit: a folder made anew", "/a/app.wasm", vec![lower(), opaque]),
        shape("buildkit: a replaced file", "/a/app.wasm", vec![lower(), replaced]),
        shape("buildkit: a long name", &format!("/{}", deep(6)), vec![layer(vec![app(&deep(6))])]),
        shape(
            "buildkit: a long link",
            "/app.wasm",
            vec![layer(vec![app(&deep(6)), Entry::link("app.wasm", deep(6).as_str())])],
        ),
        shape(
            "buildkit: a device beside it",
            "/app.wasm",
            vec![layer(vec![
                app("app.wasm"),
                Entry { kind: b'3', ..Entry::folder("dev/null") }
                    .with(Odd::Permissions(0o666))
                    .with(Odd::Numbers(1, 3)),
            ])],
        ),
    ]
}

/// ko (`ko:pkg/build/gobuild.go`) and nix (`nixpkgs:pkgs/build-support/docker/stream_layered_image.py`) write absolute
/// names, kaniko (`kaniko:pkg/util/tar_util.go`) an entry for the root, and exact times.
fn roots() -> Vec<Shape> {
    let ko = layer(vec![Entry::folder("/ko-app").with(Odd::Permissions(0o555)), app("/ko-app/app.wasm")]);
    let nix = layer(vec![
        Entry::folder("/nix/"),
        Entry::folder("/nix/store/"),
        app("/nix/store/x-app.wasm").with(Odd::Permissions(0o444)),
    ]);
    let kaniko = layer(vec![
        Entry::folder("/"),
        Entry::folder("a/").after(pax(&[("mtime", "1700000000.123456789")])),
        app("a/app.wasm"),
    ]);
    let mut plain = layer(vec![app("app.wasm")]);
    plain.archive.end = End::Record;
    vec![
        shape("ko", "/ko-app/app.wasm", vec![ko]),
        shape("nix", "/nix/store/x-app.wasm", vec![nix]),
        shape("kaniko", "/a/app.wasm", vec![kaniko]),
        shape("python tarfile", "/app.wasm", vec![plain]),
    ]
}

/// GNU tar (`tar -c .`), as scripts, `docker import` and old `rules_docker` hand it on; the Rust crate `tar` writes the
/// same magic, with empty device numbers.
fn gnu() -> Vec<Shape> {
    let gnu = |entry: Entry| entry.with(Odd::Magic(Magic::Gnu)).with(Odd::Names("root".into()));
    let mut dot = layer(vec![gnu(Entry::folder("./")), gnu(Entry::folder("./a/")), gnu(app("./a/app.wasm"))]);
    dot.archive.end = End::Record;
    let long = gnu(Entry { long: Long::Gnu, ..app(&deep(6)) });
    let link = gnu(Entry { link: Bytes::default(), ..Entry::link("app.wasm", "") })
        .after(Extension::GnuLink(deep(6).as_str().into(), Tail::Nul));
    let crate_tar = app("app.wasm").with(Odd::Magic(Magic::Gnu)).with(Odd::Device(Number::Empty));
    let times = gnu(app("app.wasm").with(Odd::GnuTimes(Number::Full)));
    vec![
        shape("tar -c .", "/a/app.wasm", vec![dot]),
        shape("tar: a long name", &format!("/{}", deep(6)), vec![layer(vec![long.clone()])]),
        shape("tar: a long link", "/app.wasm", vec![layer(vec![long, link])]),
        shape("the crate tar", "/app.wasm", vec![layer(vec![crate_tar])]),
        shape("tar --format=gnu --listed-incremental, Go: FormatGNU", "/app.wasm", vec![layer(vec![times])]),
    ]
}

/// libarchive's `bsdtar`, which `rules_oci` calls (`bazel-lib:lib/private/tar.bzl`), and commons-compress, which Jib
/// calls: digits, a blank and a null; times and the attributes of macOS in records.
fn libarchive() -> Vec<Shape> {
    let bsd = |entry: Entry| {
        let fields: [fn(Number) -> Odd; 4] = [Odd::Mode, Odd::Uid, Odd::Gid, Odd::Device];
        let entry = fields.iter().fold(entry, |entry, field| entry.with(field(Number::BlankNull)));
        entry.with(Odd::Size(Number::Blank)).with(Odd::Mtime(Number::Blank))
    };
    let made = app("./app.wasm").after(pax(&[
        ("mtime", "1700000000.5"),
        ("LIBARCHIVE.creationtime", "1700000000"),
        ("SCHILY.dev", "16777233"),
        ("SCHILY.ino", "7"),
        ("SCHILY.nlink", "1"),
    ]));
    let of_macos = app("./app.wasm").after(pax(&[
        ("LIBARCHIVE.xattr.com.apple.provenance", "AQAA"),
        ("SCHILY.xattr.com.apple.provenance", "a"),
        ("SCHILY.acl.ace", "user:root:r-------------:-------:allow:0"),
    ]));
    let prefixed = Entry { long: Long::Prefix, ..app(&deep(6)) };
    vec![
        shape("bsdtar", "/a/app.wasm", vec![layer(vec![bsd(Entry::folder("a/")), bsd(app("a/app.wasm"))])]),
        shape("bsdtar: records", "/app.wasm", vec![layer(vec![bsd(made)])]),
        shape("bsdtar: attributes of macOS", "/app.wasm", vec![layer(vec![bsd(of_macos)])]),
        shape("bsdtar: a long name", &format!("/{}", deep(6)), vec![layer(vec![bsd(prefixed)])]),
    ]
}

/// crane (`append`, `flatten`), oras and podman hand on or pack with every compression; eStargz has a gzip member a
/// file, zstd:chunked frames and a skippable one at the end.
fn compressed() -> Vec<Shape> {
    let forms = [
        ("crane append, uncompressed", "application/vnd.oci.image.layer.v1.tar", Compression::None),
        ("docker: gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
        ("buildkit: zstd", "application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
        ("eStargz", "application/vnd.oci.image.layer.v1.tar+gzip", Compression::Members),
        ("zstd:chunked", "application/vnd.oci.image.layer.v1.tar+zstd", Compression::ZstdChunked),
        ("oras: gzip with a name", "application/vnd.oci.image.layer.v1.tar+gzip", Compression::GzipNamed),
        ("docker save", "application/vnd.docker.image.rootfs.diff.tar", Compression::None),
    ];
    let one = |(writer, media_type, compression)| {
        let layer = Layer { media_type, compression, ..layer(vec![app("app.wasm")]) };
        shape(writer, "/app.wasm", vec![layer])
    };
    forms.into_iter().map(one).collect()
}

/// Every archive of the shapes.
pub fn archives() -> Vec<Archive> {
    let shapes = [buildkit(), roots(), gnu(), libarchive()].into_iter().flatten();
    shapes.flat_map(|shape| shape.layers).map(|layer| layer.archive).collect()
}

#[test]
fn what_the_fields_writers_make_is_judged_as_the_node_reads_it() {
    let Some(mut node) = Node::start() else { return };
    let mut wrong = Vec::new();
    let shapes = [buildkit(), roots(), gnu(), libarchive(), compressed()];
    for shape in shapes.into_iter().flatten() {
        let folder = tempfile::tempdir().unwrap();
        let mut image = Image::of(shape.layers);
        image.entrypoint = vec![shape.program.clone()];
        Layout::write(folder.path(), &image);
        let answer = node.ask(&Question::about(folder.path(), &[&shape.program]));
        let there = answer.files.get(&shape.program).map(|found| found.digest.clone());
        if there != Some(digest(module(0))) {
            wrong.push(format!("{}: the node has {answer:?}", shape.writer));
        }
        let pod = Pod { command: &shape.program, working_dir: "/", ..Pod::default() };
        match Gate::inspect(folder.path()).program(Family::RunwasiWasmtime, &pod) {
            Judged::Wasm { modules, .. }
                if modules.len() == 1 && modules[0].1.contains(&"id-0".to_string()) => {}
            other => wrong.push(format!("{}: the gate has {other:?}", shape.writer)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
