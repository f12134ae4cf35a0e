//! Indexes, and the manifests behind them.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::image::{Platform, Size};

/// An image for each of some platforms, under an index.
#[derive(Debug, Clone)]
pub struct IndexCase {
    pub entries: Vec<IndexEntry>,
    /// The node's own platform.
    pub node: &'static str,
    pub pull: &'static str,
}

/// One descriptor of an index.
#[derive(Debug, Clone)]
pub struct IndexEntry {
    /// What the index says.
    pub platform: Option<Platform>,
    /// What the config says.
    pub own: Platform,
    /// Which module it starts.
    pub module: usize,
    pub annotations: Vec<(&'static str, &'static str)>,
    /// A media type other than a manifest's.
    pub media_type: Option<&'static str>,
    /// Put into an index of its own.
    pub nested: bool,
    /// What the index says of the manifest's size, and the manifest of its config's.
    pub sizes: (Size, Size),
}

fn platform() -> impl Strategy<Value = Platform> {
    let os = prop_oneof![
        12 => Just(Some("linux")),
        2 => select(vec![None, Some(""), Some("Linux"), Some("l\u{130}nux"), Some("wasi"), Some("wasip1"), Some("windows"),
            Some("unknown"), Some("darwin"), Some("macos")]),
    ];
    let architecture = prop_oneof![
        8 => Just(Some("amd64")),
        2 => Just(Some("arm64")),
        2 => select(vec![None, Some(""), Some("x86_64"), Some("x86-64"), Some("aarch64"), Some("AMD64"), Some("386"),
            Some("i386"), Some("\u{130}386"), Some("arm"), Some("armhf"), Some("wasm"), Some("unknown"), Some("riscv64")]),
    ];
    let variant = weighted(0.2, select(vec!["", "v1", "v2", "v3", "v7", "v8", "8", "v9", "x"]));
    (os, architecture, variant).prop_map(|(os, architecture, variant)| Platform { os, architecture, variant })
}

fn index_entry() -> impl Strategy<Value = IndexEntry> {
    let annotation = select(vec![
        ("vnd.docker.reference.type", "attestation-manifest"),
        ("vnd.docker.reference.type", ""),
        ("org.opencontainers.image.ref.name", "x"),
    ]);
    let media_type = weighted(
        0.04,
        select(vec![
            "",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.artifact.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ]),
    );
    let same = prop_oneof![3 => Just(true), 1 => Just(false)];
    let size = || prop_oneof![24 => Just(Size::Right), 1 => select(vec![Size::Less, Size::More, Size::Zero])];
    (
        weighted(0.85, platform()),
        platform(),
        prop_oneof![12 => Just(0_usize), 1 => Just(1), 1 => Just(2)],
        vec(annotation, 0..2),
        media_type,
        prop::bool::weighted(0.02),
        same,
        (size(), size()),
    )
        .prop_map(|(platform, own, module, annotations, media_type, nested, same, sizes)| IndexEntry {
            own: platform.clone().filter(|_| same).unwrap_or(own),
            platform,
            module,
            annotations,
            media_type,
            nested,
            sizes,
        })
}

pub fn case() -> impl Strategy<Value = IndexCase> {
    let others = vec!["linux/arm64", "linux/arm/v7", "linux/386", "linux/riscv64", "linux/amd64/v3"];
    let nodes = prop_oneof![3 => Just("linux/amd64"), 1 => select(others)];
    (vec(index_entry(), 1..5), nodes, select(vec!["transfer", "client"]))
        .prop_map(|(entries, node, pull)| IndexCase { entries, node, pull })
}
