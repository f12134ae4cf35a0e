//! Images with Wasm layers, alone, beside one another and beside layers of files.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::archive::{Archive, Entry, Item};
use super::super::image::{CONFIG, DiffIds, Image, Layer, MODULES, Platform, Size, module};

/// An image with a Wasm layer, and how it is named.
#[derive(Debug, Clone)]
pub struct PackedCase {
    pub image: Image,
    /// Behind an index.
    pub index: bool,
}

const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// Media types of Wasm layers, and of what is nearly called so.
const WASM_TYPES: [&str; 6] = [
    "application/wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/WASM",
    "application/wasm; charset=utf-8",
];

fn layer() -> impl Strategy<Value = Layer> {
    let media_type = prop_oneof![6 => select(&WASM_TYPES[..2]), 1 => select(&WASM_TYPES[..])];
    let wasm = (media_type, 0..MODULES).prop_map(|(media_type, number)| Layer::wasm(media_type, number));
    let names = select(vec!["app.wasm", "a/app.wasm"]);
    let files = (names, 0..MODULES).prop_map(|(name, number)| {
        let items = vec![Item::Entry(Entry::file(name, module(number)))];
        Layer::gzip(Archive { items, ..Archive::default() })
    });
    let size = prop_oneof![20 => Just(Size::Right), 1 => select(vec![Size::Less, Size::More, Size::Zero])];
    (prop_oneof![4 => wasm, 1 => files], size).prop_map(|(layer, size)| Layer { size, ..layer })
}

fn platform() -> impl Strategy<Value = Platform> {
    let os = prop_oneof![
        6 => select(vec![Some("wasip1"), Some("wasip2"), Some("wasi"), Some("linux")]),
        1 => select(vec![None, Some(""), Some("Wasip1")]),
    ];
    let architecture = prop_oneof![
        12 => Just(Some("wasm")),
        1 => select(vec![None, Some(""), Some("Wasm"), Some("wasm32"), Some("amd64")]),
    ];
    (os, architecture).prop_map(|(os, architecture)| Platform { os, architecture, variant: None })
}

pub fn case() -> impl Strategy<Value = PackedCase> {
    let layers = prop_oneof![4 => vec(layer(), 1..2), 1 => vec(layer(), 1..4)];
    let config = prop_oneof![4 => Just(CONFIG), 2 => Just(WASM_CONFIG), 1 => Just("application/vnd.oci.empty.v1+json")];
    let diff_ids =
        prop_oneof![3 => Just(DiffIds::Archives), 1 => Just(DiffIds::Right), 1 => Just(DiffIds::None)];
    let annotations = weighted(0.15, select(vec!["{}", r#"{"a":null}"#, r#"{"run.oci.handler":"wasm"}"#]));
    let size = prop_oneof![12 => Just(Size::Right), 1 => select(vec![Size::Less, Size::More, Size::Zero])];
    let names_layers = prop::bool::weighted(0.85);
    let named = (prop::bool::weighted(0.1), select(vec!["/app.wasm", "/", "/a/app.wasm", "app.wasm#run"]));
    let config = (config, names_layers);
    (layers, config, diff_ids, platform(), annotations, size, named).prop_map(
        |(
            layers,
            (config_type, names_layers),
            diff_ids,
            platform,
            annotations,
            config_size,
            (index, entrypoint),
        )| {
            PackedCase {
                image: Image {
                    diff_ids,
                    platform,
                    annotations,
                    config_type,
                    config_size,
                    names_layers,
                    entrypoint: vec![entrypoint.into()],
                    ..Image::of(layers)
                },
                index,
            }
        },
    )
}
