//! Images whose documents are written oddly.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::archive::{Archive, Entry, Item};
use super::super::document::{Around, Object, Place, Spelling, Twist};
use super::super::image::{Image, Layer, module};

/// An image whose documents are written oddly, and another one that it could be taken for.
#[derive(Debug, Clone)]
pub struct DocumentCase {
    pub image: Image,
    pub other: Image,
}

/// Objects and what can stand under their keys; nothing for the value that the other image has there.
const VALUES: [(Object, &str, &[&str]); 27] = [
    (Object::Index, "manifests", &["", "[]", "null", "[null]"]),
    (Object::Index, "schemaVersion", &["1", "null"]),
    (Object::Index, "layers", &["[]", "null"]),
    (Object::Index, "mediaType", &["null", "\"\"", "\"application/vnd.oci.image.manifest.v1+json\""]),
    (Object::IndexDescriptor, "digest", &["", "null", "\"\""]),
    (Object::IndexDescriptor, "platform", &["null", "{}", "{\"os\":\"windows\",\"architecture\":\"amd64\"}"]),
    (Object::IndexDescriptor, "mediaType", &["null", "\"application/vnd.oci.image.index.v1+json\""]),
    (Object::Platform, "os", &["null", "\"windows\"", "\"Linux\""]),
    (Object::Platform, "architecture", &["null", "\"arm64\"", "\"x86_64\""]),
    (Object::Platform, "variant", &["null", "\"v3\"", "3"]),
    (Object::Manifest, "layers", &["", "[]", "null", "[null]", "{}"]),
    (Object::Manifest, "config", &["", "null", "{}"]),
    (Object::Manifest, "mediaType", &["null", "\"\"", "\"application/vnd.oci.image.index.v1+json\""]),
    (Object::Manifest, "manifests", &["[]", "null"]),
    (Object::Manifest, "schemaVersion", &["1", "2.0", "2e0", "\"2\"", "null"]),
    (Object::LayerDescriptor, "digest", &["", "null", "\"\""]),
    (Object::LayerDescriptor, "mediaType", &["\"application/vnd.oci.image.layer.v1.tar\"", "null", "\"\""]),
    (Object::LayerDescriptor, "size", &["3", "3.0", "1e9", "-1", "null", "99999999999999999999"]),
    (Object::LayerDescriptor, "data", &["\"e30=\"", "null", "7"]),
    (Object::Config, "config", &["{\"Entrypoint\":[\"/b/app.wasm\"]}", "null", "{}", "[]"]),
    (Object::Config, "rootfs", &["null", "{}"]),
    (Object::Config, "os", &["\"windows\"", "null"]),
    (Object::Config, "architecture", &["\"arm64\"", "null"]),
    (Object::Program, "Entrypoint", &["[\"/b/app.wasm\"]", "null", "[]", "[null]", "\"/b/app.wasm\""]),
    (Object::Program, "Cmd", &["[\"/b/app.wasm\"]", "null", "[\"\\ud800\"]"]),
    (Object::Program, "WorkingDir", &["\"/b\"", "null"]),
    (Object::RootFs, "diff_ids", &["", "[]", "null", "[null]"]),
];

/// Unknown fields, which every reader skips as long as they parse.
const UNKNOWN: [(&str, u32); 3] = [("x", 1), ("deep", 100), ("deeper", 200)];

const OBJECTS: [Object; 8] = [
    Object::Index,
    Object::IndexDescriptor,
    Object::Platform,
    Object::Manifest,
    Object::LayerDescriptor,
    Object::Config,
    Object::Program,
    Object::RootFs,
];

fn nested(depth: u32) -> String {
    let depth = depth as usize;
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

fn keyed() -> impl Strategy<Value = (Object, &'static str, Option<String>)> {
    let known = select(&VALUES[..]).prop_flat_map(|(of, key, values)| {
        select(values).prop_map(move |value| (of, key, (!value.is_empty()).then(|| value.to_string())))
    });
    let unknown = (select(&OBJECTS[..]), select(&UNKNOWN[..]))
        .prop_map(|(of, (key, depth))| (of, key, Some(nested(depth))));
    prop_oneof![6 => known, 1 => unknown]
}

fn twist() -> impl Strategy<Value = Twist> {
    let spellings = vec![
        Spelling::Lower,
        Spelling::Upper,
        Spelling::Swapped,
        Spelling::Folded,
        Spelling::Escaped,
        Spelling::Blank,
    ];
    let spelling = prop_oneof![1 => Just(Spelling::Same), 2 => select(spellings)];
    let place = select(vec![Place::Before, Place::After, Place::Instead]);
    let around = prop_oneof![20 => Just(Around::Nothing), 1 => select(vec![Around::Mark, Around::Blanks, Around::Second])];
    (keyed(), spelling, place, around).prop_map(|((of, key, value), spelling, place, around)| Twist {
        of,
        key,
        spelling,
        value,
        place,
        around,
    })
}

pub fn case() -> impl Strategy<Value = DocumentCase> {
    let of = |number, name: &str| {
        let files = [Entry::file("app.wasm", module(number)), Entry::file(name, module(number + 1))];
        let items = files.into_iter().map(Item::Entry).collect();
        Image::of(vec![Layer::gzip(Archive { items, ..Archive::default() })])
    };
    twist().prop_map(move |twist| {
        let image = Image { twist: Some(twist), ..of(0, "a/app.wasm") };
        DocumentCase { image, other: of(2, "b/app.wasm") }
    })
}
