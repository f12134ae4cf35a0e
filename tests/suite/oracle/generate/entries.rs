//! Entries of archives: as writers make them, and with something that only an attacker, or an old writer, writes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::archive::{
    Archive, Bytes, Checksum, End, Entry, Extension, Item, Long, Magic, Number, Odd, Record, RecordForm, Tail,
};
use super::super::image::{MODULES, module, spin_manifest};

const NAMES: [&str; 9] =
    ["app.wasm", "a/app.wasm", "b/app.wasm", "a/b/app.wasm", "a", "b", "a/b", "c", "spin.toml"];
const TARGETS: [&str; 16] = [
    "a",
    "b",
    "/a",
    "/b",
    "../a",
    "../b",
    "app.wasm",
    "/app.wasm",
    "a/app.wasm",
    "../app.wasm",
    "/",
    ".",
    "..",
    "a/b",
    "c",
    "l0",
];

pub(super) fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => (0..MODULES).prop_map(|number| module(number).to_vec()),
        1 => Just(b"\x7fELF\x02\x01\x01\0, and so on".to_vec()),
        1 => Just(b"#!/bin/sh\n".to_vec()),
        1 => Just(b"some text".to_vec()),
        1 => Just(Vec::new()),
        1 => Just(b"\0asm\x01\0\0\0broken".to_vec()),
    ]
}

/// A path in one of the ways in which it can be written.
fn decorated(base: impl Strategy<Value = &'static str>) -> impl Strategy<Value = Bytes> {
    let form = prop_oneof![12 => Just(0_u8), 12 => 0..14_u8];
    (base, form).prop_map(|(base, form)| {
        let (folder, last) = base.rsplit_once('/').unwrap_or((".", base));
        let text: Vec<u8> = match form {
            1 => format!("./{base}").into(),
            2 => format!("/{base}").into(),
            3 => format!("{base}/").into(),
            4 => format!("c/../{base}").into(),
            5 => format!("{folder}//{last}").into(),
            6 => format!("../{base}").into(),
            7 => format!("{folder}/./{last}").into(),
            8 => format!("{base}/.").into(),
            9 => format!("{}{base}", "./".repeat(60)).into(),
            10 => format!("{}{base}", "c/../".repeat(40)).into(),
            11 => [base.as_bytes(), b"\xff"].concat(),
            12 => format!("{base}\0x").into(),
            13 => format!("{base}/..").into(),
            _ => base.into(),
        };
        Bytes(text)
    })
}

fn name() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        20 => decorated(select(&NAMES[..])),
        2 => whiteout(),
        1 => decorated(select(vec!["l0/app.wasm", "b/a/app.wasm", "c/app.wasm", "", ".", "..", "/", "a/b/c/d"])),
    ]
}

fn whiteout() -> impl Strategy<Value = Bytes> {
    let names = vec![
        ".wh.a",
        ".wh.b",
        ".wh.app.wasm",
        "a/.wh.app.wasm",
        "b/.wh.app.wasm",
        "a/.wh.b",
        "a/.wh..wh..opq",
        ".wh..wh..opq",
        "b/.wh..wh..opq",
        ".wh.",
        ".wh..",
        ".wh...",
        "a/.wh...",
        ".wh..wh.a",
        ".wh..wh.plnk",
        ".wh.a/app.wasm",
        "./.wh.spin.toml",
        ".wh.a/",
    ];
    decorated(select(names))
}

fn link_target() -> impl Strategy<Value = Bytes> {
    prop_oneof![6 => select(&TARGETS[..]).prop_map(Bytes::from), 1 => decorated(select(&NAMES[..]))]
}

fn number() -> impl Strategy<Value = Number> {
    select(vec![
        Number::Full,
        Number::Blank,
        Number::Blanks,
        Number::Short,
        Number::Binary,
        Number::BinaryNegative,
        Number::BinaryHuge,
        Number::Empty,
        Number::Garbage,
        Number::Negative,
        Number::Plus,
        Number::Split,
        Number::BlankNull,
    ])
}

fn magic() -> impl Strategy<Value = Magic> {
    select(vec![Magic::Gnu, Magic::None, Magic::Star, Magic::Version, Magic::Mixed])
}

fn odd() -> impl Strategy<Value = Odd> {
    let checksums = vec![Checksum::Signed, Checksum::Wrong, Checksum::Digits, Checksum::Empty];
    prop_oneof![
        1 => number().prop_map(Odd::Mode),
        1 => number().prop_map(Odd::Uid),
        1 => number().prop_map(Odd::Gid),
        2 => number().prop_map(Odd::Size),
        1 => number().prop_map(Odd::Mtime),
        1 => number().prop_map(Odd::Device),
        1 => (1..200_u8).prop_map(Odd::Longer),
        1 => (1..200_u8).prop_map(Odd::Shorter),
        3 => magic().prop_map(Odd::Magic),
        1 => select(checksums).prop_map(Odd::Checksum),
        2 => name().prop_map(Odd::Prefix),
        2 => number().prop_map(Odd::GnuTimes),
        1 => Just(Odd::FullName),
        1 => Just(Odd::AfterName),
        1 => name().prop_map(Odd::Names),
        1 => select(vec![0_u32, 0o644, 0o111, 0o4755, 0o7777, 0o100_755, 0o40755]).prop_map(Odd::Permissions),
        1 => Just(Odd::Padding),
        1 => Just(Odd::Rest),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let form = prop_oneof![
        60 => Just(RecordForm::Good),
        1 => select(vec![RecordForm::TooLong, RecordForm::TooShort, RecordForm::NoLineFeed, RecordForm::Zeros,
            RecordForm::NoValue]),
    ];
    (keyed(), form).prop_map(|((key, value), form)| Record { key, value, form })
}

/// A key with a value that is usual for it, or not.
fn keyed() -> impl Strategy<Value = (&'static str, Bytes)> {
    let values = |key: &'static str, values: &[&'static str]| {
        select(values.to_vec()).prop_map(move |value| (key, Bytes::from(value)))
    };
    let times = ["1700000000", "1700000000.123456789", "-1", "x", ""];
    let ids = ["0", "1000", "4294967296", "-1", "x", ""];
    prop_oneof![
        4 => name().prop_map(|name| ("path", name)),
        1 => Just(("path", Bytes::default())),
        2 => link_target().prop_map(|target| ("linkpath", target)),
        1 => Just(("linkpath", Bytes::default())),
        2 => values("size", &["0", "1", "57", "58", "59", "512", "-1", "+57", "057", " 57", "57 ", "", "x"]),
        1 => values("mtime", &times),
        1 => values("atime", &times),
        1 => values("ctime", &times),
        1 => values("uid", &ids),
        1 => values("gid", &ids),
        1 => values("uname", &["root", ""]),
        1 => values("APK-TOOLS.checksum.SHA1", &["00"]),
        1 => values("comment", &["a comment", "path=a"]),
        1 => values("hdrcharset", &["BINARY", "ISO-IR 10646 2000 UTF-8"]),
        1 => values("SCHILY.xattr.user.a", &["b"]),
        1 => values("SCHILY.xattr.security.capability", &["\u{1}\0\0\u{2}\0\u{4}\0\0\0\0\0\0\0\0\0\0\0\0\0\0"]),
        1 => values("SCHILY.xattr.trusted.overlay.opaque", &["y", "x"]),
        1 => values("SCHILY.xattr.trusted.overlay.redirect", &["a", "/a", "/b"]),
        1 => values("SCHILY.xattr.trusted.overlay.metacopy", &[""]),
        1 => values("SCHILY.xattr.trusted.overlay.whiteout", &["y"]),
        1 => values("SCHILY.xattr.user.overlay.opaque", &["y"]),
        1 => values("LIBARCHIVE.creationtime", &["1700000000"]),
        1 => values("GNU.sparse.major", &["0", "1"]),
        1 => values("GNU.sparse.minor", &["0", "1"]),
        1 => values("GNU.sparse.name", &["a/app.wasm", "b"]),
        1 => values("GNU.sparse.realsize", &["57", "4096"]),
        1 => values("GNU.sparse.size", &["57", "4096"]),
        1 => values("GNU.sparse.numblocks", &["0", "1"]),
        1 => values("GNU.sparse.map", &["0,57", ""]),
        1 => values("PATH", &["b"]),
        1 => values("", &["b"]),
    ]
}

fn extension() -> impl Strategy<Value = Extension> {
    let tail = || select(vec![Tail::Nul, Tail::Nul, Tail::Nothing, Tail::NulAndMore]);
    prop_oneof![
        4 => vec(record(), 1..4).prop_map(Extension::Pax),
        1 => (name(), tail()).prop_map(|(name, tail)| Extension::GnuName(name, tail)),
        1 => (link_target(), tail()).prop_map(|(name, tail)| Extension::GnuLink(name, tail)),
    ]
}

fn kind() -> impl Strategy<Value = u8> {
    prop_oneof![
        12 => Just(b'0'),
        4 => Just(b'2'),
        2 => Just(b'1'),
        2 => Just(b'5'),
        3 => select(b"\x00346789ASDVMNX".to_vec()),
    ]
}

fn long() -> impl Strategy<Value = Long> {
    select(vec![Long::Pax, Long::Gnu, Long::Prefix])
}

/// An entry as writers make them: files where files are, folders and links where folders are.
fn usual() -> impl Strategy<Value = Entry> {
    let names = prop_oneof![
        8 => select(vec!["app.wasm", "a/app.wasm", "a/b/app.wasm"]),
        1 => select(vec!["b/app.wasm", "c/app.wasm"]),
    ];
    let file = (names, content()).prop_map(|(name, content)| Entry::file(name, &content));
    let spin =
        select(vec!["one", "two", "three"]).prop_map(|app| Entry::file("spin.toml", &spin_manifest(app)));
    let folders = prop_oneof![8 => select(vec!["a", "a/", "a/b", "a/b/", "./"]), 1 => select(vec!["b", "c"])];
    let links =
        prop_oneof![8 => select(vec!["b", "c"]), 1 => select(vec!["a", "a/b", "app.wasm", "a/app.wasm"])];
    let link = (links, select(&TARGETS[..])).prop_map(|(name, target)| Entry::link(name, target));
    let hard =
        select(vec!["app.wasm", "a/app.wasm", "c/app.wasm"]).prop_map(|name| Entry::hard_link(name, ""));
    let whiteouts = [".wh.a", ".wh.app.wasm", "a/.wh.app.wasm", "a/.wh..wh..opq", ".wh.b", ".wh.spin.toml"];
    let entry = prop_oneof![
        12 => file,
        1 => spin,
        3 => folders.prop_map(Entry::folder),
        4 => link,
        1 => hard,
        1 => select(whiteouts.to_vec()).prop_map(|name| Entry::file(name, b"")),
    ];
    (entry, 0..8_u8).prop_map(|(entry, front)| match front {
        6 => entry.below("./"),
        7 => entry.below("/"),
        _ => entry,
    })
}

/// An entry with something that only an attacker, or an old writer, writes.
fn unusual() -> impl Strategy<Value = Item> {
    let odds = prop_oneof![1 => Just(Vec::new()), 2 => vec(odd(), 1..3)];
    let before = prop_oneof![1 => Just(Vec::new()), 2 => vec(extension(), 1..4)];
    let entry = (kind(), name(), link_target(), content(), before, odds, long()).prop_map(
        |(kind, name, link, content, before, odd, long)| {
            let has_content = !matches!(kind, b'1'..=b'6');
            Item::Entry(Entry {
                kind,
                name,
                link: if matches!(kind, b'1' | b'2') { link } else { Bytes::default() },
                content: if has_content { content } else { Vec::new() },
                before,
                odd,
                long,
            })
        },
    );
    let change = prop_oneof![
        12 => odd().prop_map(Change::Odd),
        12 => extension().prop_map(Change::Before),
        1 => Just(Change::OwnSize),
        1 => Just(Change::OwnName),
        1 => long().prop_map(Change::Long),
        1 => prop_oneof![name().prop_map(Odd::Prefix), number().prop_map(Odd::GnuTimes)].prop_map(Change::Gnu),
        2 => (name(), any::<bool>()).prop_map(|(name, records_first)| Change::TwoNames(name, records_first)),
    ];
    let changed = (usual(), change);
    let changed = changed.prop_map(|(entry, change)| {
        Item::Entry(match change {
            Change::Odd(odd) => entry.with(odd),
            Change::Before(extension) => entry.after(extension),
            Change::OwnSize => {
                let size = entry.content.len().to_string();
                entry.after(Extension::Pax(vec![Record::good("size", size.as_str().into())]))
            }
            Change::OwnName => {
                let name = entry.name.clone();
                Entry { name: "a".into(), ..entry }.after(Extension::Pax(vec![Record::good("path", name)]))
            }
            Change::Long(long) => Entry { long, ..entry.below(&"a-folder-of-a-long-name/".repeat(5)) },
            Change::Gnu(odd) => entry.with(Odd::Magic(Magic::Gnu)).with(odd),
            Change::TwoNames(name, records_first) => {
                let records = Extension::Pax(vec![Record::good("path", entry.name.clone())]);
                let long = Extension::GnuName(name, Tail::Nul);
                let (first, second) = if records_first { (records, long) } else { (long, records) };
                entry.after(first).after(second)
            }
        })
    });
    let global = (decorated(select(&NAMES[..])), vec(record(), 0..3));
    let links = (select(vec![2_u8, 39, 40, 41, 50]), link_target());
    prop_oneof![
        6 => entry,
        12 => changed,
        1 => global.prop_map(|(name, records)| Item::Global(name, records)),
        2 => links.prop_map(|(count, target)| Item::Chain(count, target)),
    ]
}

#[derive(Debug, Clone)]
enum Change {
    Odd(Odd),
    Before(Extension),
    /// A record that says the size that the header says too.
    OwnSize,
    /// The name in a record, and another one in the header.
    OwnName,
    /// A long name, written in this way.
    Long(Long),
    /// A header of GNU's, with this too.
    Gnu(Odd),
    /// A record and a GNU name, and which of them comes first.
    TwoNames(Bytes, bool),
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        60 => Just(End::TwoBlocks),
        10 => Just(End::Record),
        3 => select(vec![End::OneBlock, End::Nothing, End::Broken, End::Trailing, End::Cut]),
    ]
}

pub(super) fn archive() -> impl Strategy<Value = Archive> {
    let unusual =
        prop_oneof![2 => Just(Vec::new()), 1 => vec((unusual(), any::<prop::sample::Index>()), 1..3)];
    (vec(usual(), 1..6), unusual, end()).prop_map(|(entries, unusual, end)| {
        let mut items: Vec<Item> = entries.into_iter().map(Item::Entry).collect();
        link_hard(&mut items);
        for (item, at) in unusual {
            items.insert(at.index(items.len() + 1), item);
        }
        Archive { items, end }
    })
}

/// Hard links lead to the file before them in the same layer; a writer makes no others.
fn link_hard(items: &mut Vec<Item>) {
    let mut file = None;
    items.retain_mut(|item| {
        let Item::Entry(entry) = item else { return true };
        match (entry.kind, &file) {
            (b'1', None) => return false,
            (b'1', Some(name)) => entry.link = Bytes::clone(name),
            (b'0', _) if !entry.content.is_empty() => file = Some(entry.name.clone()),
            _ => {}
        }
        true
    });
}
