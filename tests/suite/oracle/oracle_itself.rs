//! The node answers as nodes are known to: each of these was seen on a real one, or is in containerd's own tests.

use std::path::Path;

use super::archive::{Archive, Entry, Item, Odd};
use super::image::{DiffIds, Image, Layer, Layout, digest, module};
use super::node::{Answer, Node, Question};

fn layer(entries: Vec<Entry>) -> Layer {
    let items = entries.into_iter().map(Item::Entry).collect();
    Layer::gzip(Archive { items, ..Archive::default() })
}

fn ask(node: &mut Node, image: &Image, paths: &[&str], change: impl FnOnce(&mut Question, &Path)) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    Layout::write(&layout, image);
    let mut question = Question::about(&layout, paths);
    change(&mut question, folder.path());
    node.ask(&question)
}

fn seen(node: &mut Node, layers: Vec<Layer>, path: &str) -> Option<String> {
    let answer = ask(node, &Image::of(layers), &[path], |_, _| {});
    assert_eq!(answer.refused, None);
    let found = &answer.files[path];
    (found.kind == "file").then(|| found.digest.clone())
}

#[test]
fn the_node_is_the_pinned_containerd_and_says_how_it_mounts() {
    let Some(node) = Node::start() else { return };
    let pinned = include_str!("../../../tools/nodeoracle/go.mod");
    assert!(pinned.contains(&format!("github.com/containerd/containerd/v2 {}\n", node.hello().containerd)));
    assert!(["root", "user"].contains(&node.hello().namespace.as_str()));
}

#[test]
fn the_node_says_what_an_image_starts_and_what_its_files_are() {
    let Some(mut node) = Node::start() else { return };
    let mut image = Image::of(vec![layer(vec![Entry::file("a/app.wasm", module(0)), Entry::link("b", "a")])]);
    image.entrypoint = vec!["/b/app.wasm".into(), "x".into()];
    let answer = ask(&mut node, &image, &["/b/app.wasm", "/b", "/c"], |_, _| {});
    let found = |path| (answer.files[path].kind.as_str(), answer.files[path].path.as_str());
    assert_eq!(answer.program.entrypoint, Some(image.entrypoint.clone()));
    assert_eq!(answer.files["/b/app.wasm"].digest, digest(module(0)));
    assert_eq!(answer.files["/b/app.wasm"].mode, "0755");
    assert_eq!(
        (found("/b/app.wasm"), found("/b"), found("/c")),
        (("file", "/a/app.wasm"), ("folder", "/a"), ("absent", ""))
    );
    assert_eq!(answer.files["/b"].link, "a");
}

#[test]
fn the_node_does_not_follow_links_of_lower_layers() {
    let Some(mut node) = Node::start() else { return };
    let lower = layer(vec![Entry::file("a/app.wasm", module(0)), Entry::link("b", "a")]);
    let upper = layer(vec![Entry::file("b/app.wasm", module(1))]);
    assert_eq!(seen(&mut node, vec![lower, upper], "/a/app.wasm"), Some(digest(module(0))));
}

#[test]
fn the_node_removes_what_a_later_layer_whites_out() {
    let Some(mut node) = Node::start() else { return };
    let lower = || layer(vec![Entry::file("a/app.wasm", module(0))]);
    for whiteout in ["a/.wh.app.wasm", ".wh.a", "a/.wh..wh..opq"] {
        assert_eq!(
            seen(&mut node, vec![lower(), layer(vec![Entry::file(whiteout, b"")])], "/a/app.wasm"),
            None,
            "{whiteout}"
        );
    }
    // The kernel knows no opaque root.
    let root = layer(vec![Entry::file(".wh..wh..opq", b"")]);
    assert_eq!(seen(&mut node, vec![lower(), root], "/a/app.wasm"), Some(digest(module(0))));
}

/// It looks into the lower layers one by one, and not into what they are together.
#[test]
fn the_node_gives_a_folder_that_a_layer_does_not_bring_the_mode_that_a_hidden_one_had() {
    let Some(mut node) = Node::start() else { return };
    let closed = |name: &str| Entry::folder(name).with(Odd::Permissions(0o700));
    let folders = || layer(vec![Entry::folder("usr/"), closed("usr/bin/")]);
    let linked = layer(vec![Entry::link("usr", "x"), Entry::folder("x/"), closed("x/bin/")]);
    let marker = layer(vec![Entry::file("usr/.wh..wh..opq", b"")]);
    let program = || layer(vec![Entry::file("usr/bin/app", b"\x7fELF")]);
    for (layers, mode) in [
        (vec![folders(), marker, program()], "0700"),
        (vec![linked, layer(vec![Entry::folder("usr/")]), program()], "0700"),
        (vec![folders(), program()], "0700"),
        (vec![layer(vec![Entry::folder("usr/")]), program()], "0755"),
    ] {
        let answer = ask(&mut node, &Image::of(layers.clone()), &["/usr/bin"], |_, _| {});
        assert_eq!(answer.refused, None);
        assert_eq!(answer.files["/usr/bin"].mode, mode, "{layers:?}");
    }
}

#[test]
fn a_node_that_ran_another_image_takes_its_files_by_the_diff_ids_alone() {
    let Some(mut node) = Node::start() else { return };
    let mut image = Image::of(vec![layer(vec![Entry::file("app.wasm", module(1))])]);
    image.diff_ids = DiffIds::Of(vec![layer(vec![Entry::file("app.wasm", module(0))])]);
    let cold = ask(&mut node, &image, &["/app.wasm"], |_, _| {});
    assert!(cold.refused.unwrap().contains("wrong diff id"));
    let warm = ask(&mut node, &image, &["/app.wasm"], |question, folder| {
        let earlier = folder.join("earlier");
        Layout::write(&earlier, &image.earlier().unwrap());
        question.before.push(earlier);
    });
    assert_eq!(warm.files["/app.wasm"].digest, digest(module(0)));
}

#[test]
fn a_volume_is_where_the_links_of_the_image_lead() {
    let Some(mut node) = Node::start() else { return };
    let image = Image::of(vec![layer(vec![Entry::file("app.wasm", module(0)), Entry::link("q", "/")])]);
    let answer =
        ask(&mut node, &image, &["/app.wasm"], |question, _| question.mounts.push("/q/app.wasm".into()));
    assert_eq!(answer.mounted["/q/app.wasm"], "/app.wasm");
    assert_eq!(answer.files["/app.wasm"].size, 0, "{answer:?}");
}
