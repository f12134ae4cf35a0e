//! Working directories and folders of Spin's `files` behind links, and volumes in, above and beside them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::archive::{Archive, Entry, Item};
use super::super::image::{Image, Layer, module};

/// A pod, and the image that it names.
#[derive(Debug, Clone)]
pub struct HandedCase {
    pub image: Image,
    pub working_dir: &'static str,
    /// `source` of a component's `files`.
    pub source: &'static str,
    pub mounts: Vec<Mount>,
}

/// A volume in the container.
#[derive(Debug, Clone, Copy)]
pub struct Mount {
    pub path: &'static str,
    /// Its volume may hold links, and holds one called `in` that leads there.
    pub link: Option<&'static str>,
}

const LINKS: [(&str, &str); 21] = [
    ("w", "data"),
    ("w", "/data/in"),
    ("w", "/gone"),
    ("w", "gone/in"),
    ("w", "q/data"),
    ("l", "w"),
    ("l", "/"),
    ("q", "/"),
    ("srv", "/data"),
    ("data", "/srv"),
    ("data/in", "/srv"),
    ("data/in", "../gone"),
    ("gone", "srv"),
    ("w/in", "/srv"),
    ("srv/in", "../data/in"),
    ("w", "text"),
    ("l", "gone/../data"),
    ("data/in", "in"),
    // The kernel has links of its own there.
    ("w", "/proc/self/root/data"),
    ("l", "/sys/class/net/lo/subsystem/../../../data"),
    ("srv", "/dev/fd"),
];

const PLACES: [&str; 12] = [
    "/data", "/data/in", "/srv", "/srv/in", "/gone", "/gone/in", "/w", "/w/in", "/l", "/l/in", "/q/data",
    "/q/w/in",
];

fn manifest(source: &str) -> Vec<u8> {
    format!(
        "spin_manifest_version = 2\n[application]\nname = \"one\"\nversion = \"1.0.0\"\n[[trigger.http]]\n\
         route = \"/...\"\ncomponent = \"c\"\n[component.c]\nsource = \"app.wasm\"\n\
         files = [{{ source = \"{source}\", destination = \"/files\" }}]\n"
    )
    .into_bytes()
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let folder = select(vec!["data", "data/in", "srv", "w"]).prop_map(Entry::folder);
    let link = select(&LINKS[..]).prop_map(|(name, target)| Entry::link(name, target));
    vec(prop_oneof![3 => link, 1 => folder], 1..5)
}

fn mount() -> impl Strategy<Value = Mount> {
    let link = prop_oneof![2 => Just(None), 1 => select(vec!["/srv", "/", "data", "../srv"]).prop_map(Some)];
    (select(&PLACES[..]), link).prop_map(|(path, link)| Mount { path, link })
}

pub fn case() -> impl Strategy<Value = HandedCase> {
    let sources = select(vec!["data", "w", "/w", "w/in", "l/in", "/srv", "q/data", "in", "proc/self/root"]);
    (vec(entries(), 1..3), select(&PLACES[..]), sources, vec(mount(), 1..4)).prop_map(
        |(layers, working_dir, source, mut mounts)| {
            // As the node mounts them (`containerd:internal/cri/opts/spec_linux_opts.go`, `orderedMounts`).
            mounts.sort_by_key(|mount| mount.path.matches('/').count());
            mounts.dedup_by_key(|mount| mount.path);
            let own = vec![
                Entry::file("app.wasm", module(0)),
                Entry::file("text", b"text"),
                Entry::file("spin.toml", &manifest(source)),
            ];
            let layers = [vec![own], layers].concat().into_iter().map(|entries| {
                let items = entries.into_iter().map(Item::Entry).collect();
                Layer::gzip(Archive { items, ..Archive::default() })
            });
            HandedCase { image: Image::of(layers.collect()), working_dir, source, mounts }
        },
    )
}
