//! Layers whose bytes are changed: what writers make, and then anything.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::archive::{
    Archive, Bytes, End, Entry, Extension, Item, Long, Magic, Number, Odd, Record, Tail,
};
use super::super::image::{Compression, module};
use super::super::mutate::{Change, Edit, FIELDS, Frame, Packer, Packing, Rest, Sum, Text};
use super::super::writers;
use super::entries;

/// A layer, how its bytes are changed, and whether there is another one below it.
#[derive(Debug, Clone)]
pub struct MutatedCase {
    pub archive: Archive,
    pub changes: Vec<Change>,
    pub packing: Packing,
    pub below: bool,
}

fn items(entries: Vec<Entry>) -> Archive {
    Archive { items: entries.into_iter().map(Item::Entry).collect(), ..Archive::default() }
}

/// Archives with each kind of header, and files that hold archives: a reader that takes a size otherwise finds those.
fn by_hand() -> Vec<Archive> {
    let pax = |records: &[(&'static str, &str)]| {
        Extension::Pax(records.iter().map(|(key, value)| Record::good(key, (*value).into())).collect())
    };
    let app = |number| Entry::file("app.wasm", module(number));
    let held = items(vec![app(3), Entry::file("a/app.wasm", module(2))]);
    let held = || Archive { end: End::Nothing, ..held.clone() }.bytes();
    let holder = || Entry::file("b/data", &held());
    let gnu = |entry: Entry| entry.with(Odd::Magic(Magic::Gnu));
    let long = |long| Entry { long, ..app(1).below(&"a-folder-of-a-long-name/".repeat(5)) };
    vec![
        items(vec![app(0), holder()]),
        items(vec![app(0).after(pax(&[("path", "a/app.wasm"), ("mtime", "1.5")])), holder()]),
        items(vec![app(0).after(pax(&[("size", &module(0).len().to_string())])), holder()]),
        items(vec![
            Entry::link("c", "a").after(pax(&[("linkpath", "b")])),
            Entry::file("b/app.wasm", module(0)),
        ]),
        items(vec![gnu(app(0)).after(Extension::GnuName("a/app.wasm".into(), Tail::Nul)), holder()]),
        items(vec![gnu(Entry::link("c", "x")).after(Extension::GnuLink("a".into(), Tail::Nul)), app(1)]),
        items(vec![gnu(app(0)).with(Odd::GnuTimes(Number::Full)), holder()]),
        items(vec![app(0).with(Odd::Prefix("a".into())), holder()]),
        items(vec![app(0).with(Odd::Magic(Magic::None)), holder(), app(1).with(Odd::Magic(Magic::None))]),
        items(vec![long(Long::Pax), long(Long::Gnu), long(Long::Prefix), app(0)]),
        items(vec![app(0), Entry::hard_link("b/app.wasm", "app.wasm"), Entry::file("a/.wh.app.wasm", b"")]),
        items(vec![
            Entry::folder("a/"),
            Entry::file("a/.wh..wh..opq", b""),
            Entry::file("a/app.wasm", module(1)),
        ]),
    ]
}

fn archive() -> impl Strategy<Value = Archive> {
    prop_oneof![
        4 => select(by_hand()),
        2 => select(writers::archives()),
        1 => entries::archive(),
    ]
}

/// Bytes that readers take in several ways.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => select(b"\0\0  ./0178-+=\\\t\n\xff\x80aAxgLKS".to_vec()), 1 => any::<u8>()]
}

fn few() -> impl Strategy<Value = Bytes> {
    prop_oneof![3 => Just(Vec::new()), 2 => vec(byte(), 1..3)].prop_map(Bytes)
}

fn path() -> impl Strategy<Value = Bytes> {
    let pieces = vec![
        "app.wasm",
        "a",
        "b",
        "/",
        "//",
        "./",
        "../",
        "\0",
        " ",
        ".wh.",
        ".wh..wh..opq",
        "\\",
        "\u{e9}",
        "x",
    ];
    vec(select(pieces), 0..5).prop_map(|pieces| Bytes(pieces.concat().into_bytes()))
}

fn text() -> impl Strategy<Value = Text> {
    let more = || prop_oneof![4 => Just(0_i64), 2 => select(vec![-1, 1, 7, 8, 512, 1024, -512, 1 << 33])];
    let rest = select(vec![Rest::Kept, Rest::Null, Rest::Blank]);
    let first = select(vec![0x80_u8, 0xff, 0x81, 0xc0, 0x7f, 0]);
    prop_oneof![
        3 => (path(), rest.clone()).prop_map(|(path, rest)| Text::Bytes(path, rest)),
        2 => (vec(byte(), 0..9), rest).prop_map(|(bytes, rest)| Text::Bytes(Bytes(bytes), rest)),
        5 => (more(), few(), few()).prop_map(|(more, before, after)| Text::Octal { more, before, after }),
        1 => (more(), first).prop_map(|(more, first)| Text::Binary { more, first }),
    ]
}

fn sum() -> impl Strategy<Value = Sum> {
    prop_oneof![
        20 => Just(Sum::Right),
        2 => Just(Sum::Signed),
        1 => select(vec![Sum::Blanks, Sum::Short, Sum::Full, Sum::Stale]),
    ]
}

const KEYS: [&str; 20] = [
    "path",
    "path",
    "linkpath",
    "size",
    "mtime",
    "atime",
    "uid",
    "mode",
    "Path",
    "path ",
    " path",
    "path\0",
    "comment",
    "hdrcharset",
    "GNU.sparse.name",
    "GNU.sparse.realsize",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.trusted.overlay.opaque",
    "LIBARCHIVE.xattr.user.a",
    "SCHILY.filetype",
];

/// A record, whose length may be written otherwise.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        3 => path(),
        1 => select(vec!["0", "57", "58", "1", "+57", "057", "57 ", "1.5", "-1", "y", "a=b", "a\n9 path=b"])
            .prop_map(Bytes::from),
    ];
    let said = prop_oneof![
        12 => Just(("", 0_isize)),
        1 => select(vec![("0", 0), ("+", 0), (" ", 0), ("0", 1), ("", 1), ("", -1), ("", 2), ("\t", 0), ("-", 0)]),
    ];
    (select(&KEYS[..]), value, said).prop_map(|(key, value, (front, more))| {
        let text = [key.as_bytes(), b"=", &value.0, b"\n"].concat();
        let mut length = text.len() + 2;
        while length != text.len() + 1 + length.to_string().len() {
            length += 1;
        }
        let said = format!("{front}{} ", length.saturating_add_signed(more));
        [said.as_bytes(), &text].concat()
    })
}

fn body() -> impl Strategy<Value = Edit> {
    let some = || prop_oneof![2 => vec(byte(), 1..4), 1 => record(), 1 => path().prop_map(|path| path.0)];
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), byte()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        3 => (at(), some()).prop_map(|(at, new)| Edit::Insert(at, Bytes(new))),
        3 => record().prop_map(|record| Edit::Append(Bytes(record))),
        2 => record().prop_map(|record| Edit::Prepend(Bytes(record))),
        2 => (at(), 1..4_usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => at().prop_map(Edit::Cut),
        1 => Just(Edit::Double),
        3 => vec(record(), 0..4).prop_map(|records| Edit::Replace(Bytes(records.concat()))),
    ]
}

fn field() -> impl Strategy<Value = Change> {
    let weighted = FIELDS.iter().flat_map(|field| {
        let weight = match field.0 {
            "name" | "size" | "prefix" => 4,
            "type" | "link" | "magic" | "checksum" | "GNU atime" => 2,
            _ => 1,
        };
        std::iter::repeat_n(*field, weight)
    });
    let field = select(weighted.collect::<Vec<_>>());
    (any::<Index>(), field, text(), sum()).prop_map(|(header, field, text, sum)| Change::Field {
        header,
        // Written over, a checksum stays so.
        sum: if field.0 == "checksum" { Sum::Stale } else { sum },
        field,
        text,
    })
}

fn spliced() -> impl Strategy<Value = Entry> {
    let name = select(vec!["app.wasm", "a/app.wasm", "b/app.wasm", ".wh.app.wasm", "a"]);
    (name, 0..6_usize, select(b"00000\0\x3125gxLK".to_vec())).prop_map(|(name, number, kind)| Entry {
        kind,
        link: "app.wasm".into(),
        ..Entry::file(name, module(number))
    })
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        8 => field(),
        4 => (at(), 0..512_usize, byte(), sum())
            .prop_map(|(header, at, value, sum)| Change::Byte { header, at, value, sum }),
        8 => (at(), body(), prop::bool::weighted(0.85))
            .prop_map(|(header, edit, counted)| Change::Body { header, edit, counted }),
        1 => (at(), 1..4_usize, at()).prop_map(|(from, count, to)| Change::Repeat { from, count, to }),
        1 => (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        1 => (at(), 1..3_usize).prop_map(|(from, count)| Change::Remove(from, count)),
        1 => (at(), spliced()).prop_map(|(at, entry)| Change::Splice(at, entry)),
        1 => (at(), 1..3_usize).prop_map(|(at, count)| Change::Nulls(at, count)),
        1 => at().prop_map(Change::Cut),
        1 => vec(byte(), 1..4).prop_map(|bytes| Change::Append(Bytes(bytes))),
    ]
}

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const EITHER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// A file system, which the usual node does not unpack.
const EROFS: &str = "application/vnd.erofs.layer.v1";

fn usual(media_type: &'static str, compression: Compression) -> Packing {
    Packing { media_type, packer: Packer::Usual(compression), edits: Vec::new() }
}

fn packing() -> impl Strategy<Value = Packing> {
    prop_oneof![
        6 => Just(usual(PLAIN, Compression::None)),
        2 => Just(usual(GZIP, Compression::Gzip)),
        1 => Just(usual(EITHER, Compression::None)),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let dictionary = prop_oneof![2 => Just(0_usize), 1 => select(vec![1, 2, 4])];
    // Of 128 KiB, of the most that is held, and of more.
    let window = prop_oneof![3 => Just(0x38_u8), 1 => select(vec![0, 0x78, 0x79, 0x80, 0xa0, 0xff])];
    let size = weighted(0.4, prop_oneof![3 => Just(0_u8), 1 => select(vec![1, 0xff])]);
    let (checksum, reserved) = (prop::bool::weighted(0.1), prop::bool::weighted(0.05));
    (dictionary, select(vec![0_u8, 1]), window, size, checksum, reserved).prop_map(
        |(dictionary, number, window, size, checksum, reserved)| Frame {
            dictionary,
            number,
            window,
            size,
            checksum,
            reserved,
        },
    )
}

/// A frame that decoders leave out, an empty frame, an empty member, and what only looks like one of them.
const PIECES: [&[u8]; 9] = [
    b"\x50\x2a\x4d\x18\x04\0\0\0skip",
    b"\x5f\x2a\x4d\x18\0\0\0\0",
    b"\x50\x2a\x4d\x18\xff\0\0\0cut",
    b"\x28\xb5\x2f\xfd\0\x38\x01\0\0",
    b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\0\0\0\0\0\0\0\0",
    b"trailing",
];

/// Packed bytes that are changed, of an archive that is not.
fn repacked() -> impl Strategy<Value = Packing> {
    let compressions = vec![
        (GZIP, Compression::Gzip),
        (GZIP, Compression::Members),
        (GZIP, Compression::GzipNamed),
        (ZSTD, Compression::Zstd),
        (ZSTD, Compression::ZstdFrames),
        (EITHER, Compression::Gzip),
        (EITHER, Compression::None),
        (PLAIN, Compression::None),
        (EROFS, Compression::None),
    ];
    let packer = prop_oneof![
        4 => select(compressions).prop_map(|(media_type, compression)| (media_type, Packer::Usual(compression))),
        2 => frame().prop_map(|frame| (ZSTD, Packer::Frame(frame))),
    ];
    let piece = || select(&PIECES[..]).prop_map(|piece| Bytes(piece.to_vec()));
    let at = any::<Index>;
    let edit = prop_oneof![
        3 => piece().prop_map(Edit::Append),
        3 => piece().prop_map(Edit::Prepend),
        1 => (at(), piece()).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        2 => (0..18_usize, byte()).prop_map(|(at, byte)| Edit::SetAt(at, byte)),
        1 => (at(), byte()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        1 => at().prop_map(Edit::Cut),
        1 => Just(Edit::Double),
    ];
    (packer, vec(edit, 0..3)).prop_map(|((media_type, packer), edits)| Packing { media_type, packer, edits })
}

pub fn case() -> impl Strategy<Value = MutatedCase> {
    let changed = (vec(change(), 1..4), packing());
    let packed = (Just(Vec::new()), repacked());
    (archive(), prop_oneof![5 => changed.boxed(), 1 => packed.boxed()], any::<bool>())
        .prop_map(|(archive, (changes, packing), below)| MutatedCase { archive, changes, packing, below })
}
