//! What a pod and its image may put over the files by which the names of hosts resolve: links of more than one part and in chains,
//! volumes of both, parts of volumes, and the file for messages.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::archive::{Archive, Entry, Item};
use super::super::image::{Image, Layer, module};

/// An image, and what its pod mounts.
#[derive(Debug, Clone)]
pub struct ResolverCase {
    pub image: Image,
    pub mounts: Vec<Mount>,
    pub termination_log: &'static str,
}

/// A volume in the container.
#[derive(Debug, Clone, Copy)]
pub struct Mount {
    pub path: &'static str,
    /// Its volume may hold links, and holds one called `in` that leads there.
    pub link: Option<&'static str>,
    /// The part of the volume that is mounted; empty for all of it.
    pub sub_path: &'static str,
}

/// Links of the image, each name with the targets from which one is chosen.
const LINKS: [(&str, &[&str]); 7] = [
    ("x/l", &["/etc", "../etc", "y/m", "/q", "../q/../etc", "../../etc/"]),
    ("x/y/m", &["/etc", "../../etc", "../../etc/hosts", "../../etc/nsswitch.conf", "/q", "../l"]),
    ("q", &["etc", "/etc/ssl/..", "x/y", "x/y/m", "etc/nsswitch.conf", "/etc/host.conf", "/dev/shm"]),
    ("etc/alias", &["hosts", "resolv.conf", ".", "../x/y"]),
    ("etc/hosts", &["nsswitch.conf", "/x/y/hosts", "../q/hosts"]),
    ("c0", &["c1", "/c1/m", "x/../c1"]),
    ("c1", &["x/y/m", "q", "x/y"]),
];

const FILES: [&str; 5] =
    ["etc/nsswitch.conf", "etc/ssl/ca", "x/y/hosts", "x/y/nsswitch.conf", "etc/hosts.d/a"];

const PLACES: [&str; 22] = [
    "/etc",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/ssl",
    "/etc/alias",
    "/etc/alias/hosts",
    "/x",
    "/x/l",
    "/x/l/hosts",
    "/x/l/in",
    "/x/y",
    "/x/y/m",
    "/x/y/m/hosts",
    "/x/y/m/nsswitch.conf",
    "/q",
    "/q/hosts",
    "/c0",
    "/c0/resolv.conf",
    "/x/../etc/hosts",
    "/data",
];

/// What each volume holds.
pub const OF_VOLUMES: [&str; 3] = ["hosts", "resolv.conf", "nsswitch.conf"];

const MANIFEST: &str = "spin_manifest_version = 2\n[application]\nname = \"one\"\nversion = \"1.0.0\"\n[[trigger.http]]\n\
                        route = \"/...\"\ncomponent = \"c\"\n[component.c]\nsource = \"app.wasm\"\n";

fn image() -> impl Strategy<Value = Image> {
    let one = |(name, targets): &(&'static str, &'static [&'static str])| {
        let name = *name;
        prop_oneof![3 => Just(None), 2 => select(*targets).prop_map(move |target| Some((name, target)))]
    };
    let links: Vec<_> = LINKS.iter().map(one).collect();
    let volumes = prop_oneof![2 => Just(Vec::new()), 1 => subsequence(PLACES.to_vec(), 1..3)];
    (links, subsequence(FILES.to_vec(), 0..=FILES.len()), volumes).prop_map(|(links, files, volumes)| {
        let own = [Entry::file("app.wasm", module(0)), Entry::file("spin.toml", MANIFEST.as_bytes())];
        let files = files.into_iter().map(|name| Entry::file(name, name.as_bytes()));
        let links = links.into_iter().flatten().map(|(name, target)| Entry::link(name, target));
        let items = own.into_iter().chain(files).chain(links).map(Item::Entry).collect();
        Image { volumes, ..Image::of(vec![Layer::gzip(Archive { items, ..Archive::default() })]) }
    })
}

fn mount() -> impl Strategy<Value = Mount> {
    let link = prop_oneof![2 => Just(None), 1 => select(vec!["/etc", "../etc", "hosts"]).prop_map(Some)];
    let part = prop_oneof![2 => Just(""), 1 => select(vec!["hosts", "nsswitch.conf", "new"])];
    (select(&PLACES[..]), link, part).prop_map(|(path, link, sub_path)| Mount { path, link, sub_path })
}

pub fn case() -> impl Strategy<Value = ResolverCase> {
    let mounts = prop_oneof![1 => Just(Vec::new()), 1 => vec(mount(), 1..4)];
    let log = prop_oneof![2 => Just("/dev/termination-log"), 1 => select(&PLACES[..])];
    (image(), mounts, log).prop_map(|(image, mut mounts, termination_log)| {
        // The API server refuses two at one path.
        mounts.sort_by_key(|mount| mount.path);
        mounts.dedup_by_key(|mount| mount.path);
        ResolverCase { image, mounts, termination_log }
    })
}
