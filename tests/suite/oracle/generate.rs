//! Images as writers and attackers make them: mostly usual, and something odd here and there. What shrinks away was not
//! what made the difference.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::archive::Item;
use super::image::{Compression, DiffIds, Image, Layer, Size};

pub mod documents;
mod entries;
pub mod handed;
pub mod indexes;
pub mod mounts;
pub mod mutations;
pub mod packed;
pub mod resolver;
pub mod searches;
pub mod tokens;

/// Every path that both sides are asked about.
pub const PATHS: [&str; 15] = [
    "/app.wasm",
    "/a/app.wasm",
    "/b/app.wasm",
    "/a/b/app.wasm",
    "/a",
    "/b",
    "/a/b",
    "/c",
    "/spin.toml",
    "/l0/app.wasm",
    "/b/a/app.wasm",
    "/c/app.wasm",
    "/a/../app.wasm",
    "/app.wasm/../a/app.wasm",
    "/missing/../app.wasm",
];

/// A layer's media types, and how they are compressed where they do not lie.
const MEDIA_TYPES: [(&str, Compression); 14] = [
    ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.v1.tar", Compression::None),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.diff.tar", Compression::None),
    ("application/vnd.docker.image.rootfs.diff.tar", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::Zstd),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", Compression::None),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::None),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.oci.image.layer.v1.tar+x+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+encrypted", Compression::None),
];

const COMPRESSIONS: [Compression; 14] = [
    Compression::None,
    Compression::Gzip,
    Compression::Zstd,
    Compression::Members,
    Compression::GzipTrailing,
    Compression::GzipCut,
    Compression::GzipSum,
    Compression::GzipNamed,
    Compression::ZstdSkippable,
    Compression::ZstdFrames,
    Compression::ZstdChunked,
    Compression::ZstdTrailing,
    Compression::ZstdCut,
    Compression::Twice,
];

fn layer() -> impl Strategy<Value = Layer> {
    let lie = prop_oneof![40 => Just(None), 1 => select(&COMPRESSIONS[..]).prop_map(Some)];
    let kind = prop_oneof![8 => Just(MEDIA_TYPES[0]), 1 => select(&MEDIA_TYPES[..])];
    let size = prop_oneof![80 => Just(Size::Right), 1 => select(vec![Size::Less, Size::More, Size::Zero])];
    (entries::archive(), kind, lie, size).prop_map(|(archive, (media_type, compression), lie, size)| Layer {
        archive,
        module: None,
        media_type,
        compression: lie.unwrap_or(compression),
        size,
    })
}

fn diff_ids() -> impl Strategy<Value = DiffIds> {
    prop_oneof![
        60 => Just(DiffIds::Right),
        1 => vec(layer(), 1..3).prop_map(DiffIds::Of),
        1 => select(vec![0_u8, 1, 2, 3, 4]).prop_map(|form| match form {
            0 => DiffIds::None,
            1 => DiffIds::OneLess,
            2 => DiffIds::OneMore,
            3 => DiffIds::Swapped,
            _ => DiffIds::Compressed,
        }),
    ]
}

fn image() -> impl Strategy<Value = Image> {
    let rootfs = prop_oneof![60 => Just("layers"), 1 => select(vec!["", "layers2", "Layers"])];
    let size = prop_oneof![80 => Just(Size::Right), 1 => select(vec![Size::Less, Size::More, Size::Zero])];
    (vec(layer(), 1..5), diff_ids(), rootfs, size).prop_map(|(mut layers, diff_ids, rootfs, config_size)| {
        // No writer removes anything from nothing; an unusual entry still does.
        let removes = |item: &Item| matches!(item, Item::Entry(entry) if format!("{entry:?}").contains(".wh.") && entry.is_usual());
        layers[0].archive.items.retain(|item| !removes(item));
        Image { layers, diff_ids, rootfs, config_size, ..Image::of(Vec::new()) }
    })
}

/// One image, and where volumes are mounted.
#[derive(Debug, Clone)]
pub struct Case {
    pub image: Image,
    pub mounts: Vec<&'static str>,
}

pub fn case() -> impl Strategy<Value = Case> {
    let mount = select(vec![
        "/a",
        "/b",
        "/c",
        "/a/b",
        "/app.wasm",
        "/b/app.wasm",
        "/l0",
        "/spin.toml",
        "/b/../a",
        "/c/app.wasm",
    ]);
    let mounts = prop_oneof![5 => Just(Vec::new()), 1 => vec(mount, 1..3)];
    (image(), mounts).prop_map(|(image, mounts)| Case { image, mounts })
}
