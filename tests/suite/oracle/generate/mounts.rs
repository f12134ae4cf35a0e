//! Every mount of a container: those of the pod in any order, of its image, of the kubelet and of the container runtime, over files of
//! the image and through its links.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::archive::{Archive, Entry, Item};
use super::super::image::{Image, Layer, MODULES, module};

/// An image, and what a pod mounts over it.
#[derive(Debug, Clone)]
pub struct MountCase {
    pub image: Image,
    pub mounts: Vec<&'static str>,
    pub termination_log: &'static str,
}

/// The programs that are asked for.
pub const COMMANDS: [&str; 11] = [
    "/app.wasm",
    "/a/app.wasm",
    "/a/b/app.wasm",
    "/q/app.wasm",
    "/etc/app.wasm",
    "/etc/hosts",
    "/dev/app.wasm",
    "/dev/shm/app.wasm",
    "/r/hosts",
    "/a/s/app.wasm",
    "/t/app.wasm",
];

const FILES: [&str; 6] =
    ["app.wasm", "a/app.wasm", "a/b/app.wasm", "etc/app.wasm", "etc/hosts", "dev/shm/app.wasm"];

const LINKS: [(&str, &str); 5] = [("q", "/a"), ("q", "a/b"), ("q", "/dev/shm"), ("r", "etc"), ("r", "/a")];

/// Links below a folder and through others.
const CHAINED: [(&str, &str); 8] = [
    ("a/s", "b"),
    ("a/s", "../q/."),
    ("a/s", "/r/../a/b"),
    ("a/s", "../t"),
    ("t", "a/s"),
    ("t", "q"),
    ("t", "r/../q/b"),
    ("t", "../../etc/../r"),
];

/// In the order in which a pod may write them, which need not be that in which they are mounted.
const MOUNTS: [&str; 17] = [
    "/a",
    "/a/b",
    "/a/b/app.wasm",
    "/app.wasm",
    "/etc",
    "/etc/hosts",
    "/r/hosts",
    "/r",
    "/q",
    "/q/b",
    "/q/app.wasm",
    "/a/s",
    "/a/s/app.wasm",
    "/t/app.wasm",
    "/t/hosts",
    "/dev/shm",
    "/etc/../etc/hosts",
];

fn image() -> impl Strategy<Value = Image> {
    let files = subsequence(FILES.to_vec(), 1..FILES.len());
    let of = |links: &'static [(&str, &str)]| prop::option::of(select(links));
    let links = [of(&LINKS[..3]), of(&LINKS[3..]), of(&CHAINED[..4]), of(&CHAINED[4..])];
    let places = vec!["/a", "/a/b", "/q", "/etc", "data", "/a/s", "/t"];
    let volumes = prop_oneof![3 => Just(Vec::new()), 1 => subsequence(places, 1..3)];
    (files, links, volumes).prop_map(|(files, links, volumes)| {
        let number = |name: &str| FILES.iter().position(|file| *file == name).unwrap_or_default() % MODULES;
        let file = |name: &&str| Item::Entry(Entry::file(name, module(number(name))));
        let link = |(name, target): (&str, &str)| Item::Entry(Entry::link(name, target));
        let items = files.iter().map(file).chain(links.into_iter().flatten().map(link)).collect();
        let layer = Layer::gzip(Archive { items, ..Archive::default() });
        Image { volumes, ..Image::of(vec![layer]) }
    })
}

pub fn case() -> impl Strategy<Value = MountCase> {
    let mounts = prop_oneof![1 => Just(Vec::new()), 3 => subsequence(MOUNTS.to_vec(), 1..4)].prop_shuffle();
    let usual = "/dev/termination-log";
    let log = prop_oneof![4 => Just(usual), 1 => select(vec!["/app.wasm", "/q/app.wasm", "/a/b/app.wasm", "/etc/hosts", "/a/s/app.wasm", "/t/app.wasm"])];
    (image(), mounts, log).prop_map(|(image, mounts, termination_log)| MountCase {
        image,
        mounts,
        termination_log,
    })
}
