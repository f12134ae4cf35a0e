//! The forms of everything in a case, by field.

use std::fmt::Debug;

use super::archive::{Entry, Extension, Item, Record};
use super::generate::Case;
use super::generate::documents::DocumentCase;
use super::generate::handed::HandedCase;
use super::generate::indexes::IndexCase;
use super::generate::mounts::MountCase;
use super::generate::packed::PackedCase;
use super::generate::resolver::ResolverCase;
use super::generate::searches::SearchCase;
use super::image::{Compression, Image, Layer, Size};

pub fn of_image(case: &Case) -> Vec<String> {
    let image = &case.image;
    let mut forms = vec![
        format!("image.diff_ids {}", variant(&image.diff_ids)),
        format!("image.layers {}", image.layers.len()),
        format!("image.rootfs.type {:?}", image.rootfs),
        format!("size of the config {:?}", image.config_size),
        format!("mounts {}", case.mounts.len()),
    ];
    let links = links(image);
    forms.extend(
        case.mounts
            .iter()
            .filter(|mount| links.iter().any(|(_, link)| below(mount.trim_start_matches('/'), link)))
            .map(|_| "mounts through a link".into()),
    );
    for (number, layer) in image.layers.iter().enumerate() {
        layer_forms(layer, &mut forms);
        for entry in entries(layer) {
            let name = clean(&entry.name.0);
            forms.extend(
                links
                    .iter()
                    .filter(|(below_it, link)| *below_it < number && below(&name, link))
                    .map(|_| format!("tar.name through a link of a lower layer, {}", kind(entry.kind))),
            );
        }
    }
    forms
}

/// Symbolic links, with the number of their layer.
fn links(image: &Image) -> Vec<(usize, String)> {
    let numbered = image.layers.iter().enumerate();
    numbered
        .flat_map(|(number, layer)| entries(layer).map(move |entry| (number, entry)))
        .filter(|(_, entry)| entry.kind == b'2' && entry.is_usual())
        .map(|(number, entry)| (number, clean(&entry.name.0)))
        .collect()
}

fn entries(layer: &Layer) -> impl Iterator<Item = &Entry> {
    layer
        .archive
        .items
        .iter()
        .filter_map(|item| if let Item::Entry(entry) = item { Some(entry) } else { None })
}

fn clean(name: &[u8]) -> String {
    String::from_utf8_lossy(name).trim_start_matches("./").trim_matches('/').to_string()
}

fn below(name: &str, folder: &str) -> bool {
    name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn kind(flag: u8) -> &'static str {
    match flag {
        b'0' | 0 => "file",
        b'1' => "hard link",
        b'2' => "symbolic link",
        b'5' => "folder",
        _ => "other",
    }
}

fn layer_forms(layer: &Layer, forms: &mut Vec<String>) {
    let media_type = layer.media_type.trim_start_matches("application/vnd.");
    forms.push(format!("layer.media_type {media_type}"));
    forms.push(format!("layer.compression {:?}", layer.compression));
    forms.push(format!("size of a layer {:?}", layer.size));
    forms.push(format!("tar.end {:?}", layer.archive.end));
    let said = match media_type {
        gzip if gzip.ends_with("gzip") => "gzip",
        zstd if zstd.ends_with("zstd") => "zstd",
        "docker.image.rootfs.diff.tar" => "either",
        _ => "plain",
    };
    let found = match layer.compression {
        Compression::None => "plain",
        compression if format!("{compression:?}").starts_with('Z') => "zstd",
        _ => "gzip",
    };
    forms.push(format!("layer bytes {found} as {said}"));
    for item in &layer.archive.items {
        item_forms(item, forms);
    }
}

fn item_forms(item: &Item, forms: &mut Vec<String>) {
    match item {
        Item::Global(_, records) => {
            forms.push("tar.global".into());
            forms.extend(records.iter().map(|record| format!("tar.global.{}", record.key)));
        }
        Item::Chain(count, _) => forms.push(format!("tar.links {count}")),
        Item::Entry(entry) => entry_forms(entry, forms),
    }
}

fn entry_forms(entry: &Entry, forms: &mut Vec<String>) {
    forms.push(format!("tar.typeflag {:?}", char::from(entry.kind)));
    forms.push(format!("tar.name {}", name_form(&entry.name.0)));
    if entry.name.0.len() > 100 {
        forms.push(format!("tar.name long, {:?}", entry.long));
    }
    forms.extend(entry.odd.iter().map(|odd| match format!("{odd:?}").split_once('(') {
        Some(("Prefix" | "Names" | "Longer" | "Shorter" | "Numbers", _)) => {
            format!("tar.header {}", variant(odd))
        }
        _ => format!("tar.header {odd:?}"),
    }));
    let odd = |name: &str| entry.odd.iter().any(|odd| format!("{odd:?}").starts_with(name));
    if odd("Magic(Gnu)") && odd("Prefix") {
        forms.push("tar.header Gnu with a prefix".into());
    }
    if odd("Magic(Gnu)") && odd("GnuTimes") {
        forms.push("tar.header Gnu with times".into());
    }
    let is_pax = |extension: &Extension| matches!(extension, Extension::Pax(_));
    if entry.before.iter().any(is_pax) && !entry.before.iter().all(is_pax) {
        forms.push("tar.pax beside a GNU name or link".into());
    }
    if entry.before.len() > 1 && entry.before.iter().all(is_pax) {
        forms.push("tar.pax twice".into());
    }
    for extension in &entry.before {
        extension_forms(extension, entry, forms);
    }
}

fn extension_forms(extension: &Extension, entry: &Entry, forms: &mut Vec<String>) {
    match extension {
        Extension::GnuName(_, tail) => forms.push(format!("tar.gnu name {tail:?}")),
        Extension::GnuLink(_, tail) => forms.push(format!("tar.gnu link {tail:?}")),
        Extension::Pax(records) => {
            for Record { key, value, form } in records {
                forms.push(format!("tar.pax record {form:?}"));
                forms.push(match (*key, value.0.is_empty()) {
                    (key, true) => format!("tar.pax.{key} empty"),
                    ("size", _) if value.0 == entry.content.len().to_string().as_bytes() => {
                        "tar.pax.size as the header".into()
                    }
                    (key, _) => format!("tar.pax.{key} ={}", if key == "size" { " other" } else { "" }),
                });
            }
            let mut keys: Vec<&str> = records.iter().map(|record| record.key).collect();
            keys.sort_unstable();
            let all = keys.len();
            keys.dedup();
            if keys.len() < all {
                forms.push("tar.pax repeated key".into());
            }
        }
    }
}

fn name_form(name: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(name);
    match () {
        () if std::str::from_utf8(name).is_err() => "not UTF-8",
        () if text.trim_end_matches('/').ends_with("/.wh..wh..opq") => "opaque folder",
        () if text.trim_end_matches('/').ends_with(".wh..wh..opq") => "opaque root",
        () if text.contains(".wh.") => "whiteout",
        () if text.contains('\0') => "null inside",
        () if text.is_empty() => "empty",
        () if text.starts_with("./") => "./ in front",
        () if text.starts_with('/') => "absolute",
        () if text.split('/').any(|part| part == "..") => "dot dot",
        () if text.ends_with('/') => "slash at the end",
        () if text.contains("//") || text.contains("/.") => "not clean",
        () => "plain",
    }
}

/// The name of a variant, without what it holds.
fn variant(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().to_string()
}

pub fn of_index(case: &IndexCase) -> Vec<String> {
    let mut forms = vec![
        format!("index.entries {}", case.entries.len()),
        format!("node {}", case.node),
        format!("pull {}", case.pull),
    ];
    for entry in &case.entries {
        match &entry.platform {
            None => forms.push("index.platform none".into()),
            Some(platform) => {
                forms.push(format!("index.os {:?}", platform.os));
                forms.push(format!("index.architecture {:?}", platform.architecture));
                forms.push(format!("index.variant {:?}", platform.variant));
            }
        }
        forms.extend(entry.annotations.iter().map(|(key, value)| format!("index.annotation {key}={value}")));
        forms.extend(entry.media_type.map(|media_type| format!("index.media_type {media_type:?}")));
        forms.extend(entry.nested.then(|| "index.nested".into()));
        forms.push(format!("size of a manifest {:?}", entry.sizes.0));
        forms.push(format!("size of a config {:?}", entry.sizes.1));
        if entry.platform.as_ref().is_some_and(|platform| *platform != entry.own) {
            forms.push("index.platform other than the config's".into());
        }
    }
    forms
}

pub fn of_documents(case: &DocumentCase) -> Vec<String> {
    let twist = case.image.twist.as_ref().unwrap();
    let value = match twist.value.as_deref() {
        None => "another's",
        Some("null") => "null",
        Some("[null]") => "null in a list",
        Some(text) if text.starts_with("[[") => "nested deep",
        Some(_) => "other",
    };
    vec![
        format!("json {:?} {}", twist.of, twist.key),
        format!("json spelling {:?}", twist.spelling),
        format!("json place {:?}", twist.place),
        format!("json place {:?}, spelling {:?}", twist.place, twist.spelling),
        format!("json around {:?}", twist.around),
        format!("json value {value}"),
    ]
}

pub fn of_packed(case: &PackedCase) -> Vec<String> {
    let image = &case.image;
    let wasm: Vec<&Layer> = image.layers.iter().filter(|layer| layer.module.is_some()).collect();
    let files = image.layers.len() - wasm.len();
    let mut forms = vec![
        format!("layers {} of Wasm, {files} of files", wasm.len()),
        format!("config {}", image.config_type),
        format!("config names its layers {}", image.names_layers),
        format!("config.os {:?}", image.platform.os),
        format!("config.architecture {:?}", image.platform.architecture),
        format!("image.diff_ids {}", variant(&image.diff_ids)),
        format!("manifest.annotations {:?}", image.annotations),
        format!("size of the config {:?}", image.config_size),
        format!("behind an index {}", case.index),
    ];
    forms.extend(wasm.iter().map(|layer| format!("layer.media_type {}", layer.media_type)));
    forms.extend(image.layers.iter().map(|layer| format!("size of a layer {:?}", layer.size)));
    if image.layers.iter().any(|layer| layer.size != Size::Right) {
        forms.push("size of a layer wrong".into());
    }
    forms
}

pub fn of_mounts(case: &MountCase) -> Vec<String> {
    let mut forms =
        vec![format!("mounts {}", case.mounts.len()), format!("termination log {}", case.termination_log)];
    forms.extend(case.mounts.iter().map(|mount| format!("mount {mount}")));
    forms.extend(case.image.volumes.iter().map(|volume| format!("volume of the image {volume}")));
    for entry in case.image.layers.iter().flat_map(entries) {
        let name = clean(&entry.name.0);
        forms.push(match entry.kind {
            b'2' => format!("link `/{name}` -> `{}`", entry.link.0.escape_ascii()),
            _ => format!("file `/{name}`"),
        });
    }
    forms
}

pub fn of_resolver(case: &ResolverCase) -> Vec<String> {
    let mut forms =
        vec![format!("mounts {}", case.mounts.len()), format!("termination log {}", case.termination_log)];
    forms.extend(case.mounts.iter().map(|mount| format!("mount {}", mount.path)));
    forms.extend(case.mounts.iter().map(|mount| format!("subPath {:?}", mount.sub_path)));
    forms.extend(case.mounts.iter().map(|mount| format!("link of a volume {:?}", mount.link)));
    forms.extend(case.image.volumes.iter().map(|volume| format!("volume of the image {volume}")));
    let links: Vec<&Entry> =
        case.image.layers.iter().flat_map(entries).filter(|entry| entry.kind == b'2').collect();
    forms.push(format!("links {}", links.len()));
    let link =
        |entry: &&Entry| format!("link `/{}` -> `{}`", clean(&entry.name.0), entry.link.0.escape_ascii());
    forms.extend(links.iter().map(link));
    forms
}

pub fn of_search(case: &SearchCase) -> Vec<String> {
    let mut forms = vec![
        format!("command {:?}", case.command),
        format!("working directory {:?}", case.working_dir),
        format!("PATH of the pod {:?}", case.path),
        format!("PATH of the image {:?}", case.image.env.first()),
        format!("mounts {}", case.mounts.len()),
        format!("layers {}", case.image.layers.len()),
    ];
    forms.extend(case.mounts.iter().map(|mount| format!("mount {mount}, filled {}", case.filled)));
    for entry in case.image.layers.iter().flat_map(entries) {
        let name = clean(&entry.name.0);
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        forms.push(format!("{} in `/{folder}`", kind(entry.kind)));
        if name.ends_with(".wh..wh..opq") {
            forms.push(format!("an opaque marker in `/{folder}`"));
        }
        if is_found_by_all(entry, case) && case.mounts.contains(&case.working_dir) {
            forms.push("a program of every PATH beside a volume at the working directory".into());
        }
        if name.contains('#') {
            forms.push("a name with `#`".into());
        }
        if name.ends_with("bin/sh") {
            forms.push(format!("shell `/{name}` is a {}", kind(entry.kind)));
        }
        forms.extend(entry.odd.iter().map(|odd| format!("{odd:?}")));
        if entry.kind == b'2' {
            forms.push(format!("link `/{name}` -> `{}`", entry.link.0.escape_ascii()));
        }
        if entry.kind == b'0' {
            let head = &entry.content[..entry.content.len().min(4)];
            forms.push(format!("content {}", head.escape_ascii()));
        }
    }
    forms
}

/// Whether every search finds this program of the case, if it comes into the folders.
fn is_found_by_all(entry: &Entry, case: &SearchCase) -> bool {
    let name = clean(&entry.name.0);
    let in_every_path = ["usr/bin", "usr/local/bin"].map(|folder| format!("{folder}/{}", case.command));
    entry.kind == b'0' && entry.content.starts_with(b"\x7fELF") && in_every_path.contains(&name)
}

pub fn of_handed(case: &HandedCase) -> Vec<String> {
    let mut forms = vec![
        format!("working directory {}", case.working_dir),
        format!("source {}", case.source),
        format!("mounts {}", case.mounts.len()),
    ];
    forms.extend(case.mounts.iter().map(|mount| format!("mount {}, link {:?}", mount.path, mount.link)));
    let links = case.image.layers.iter().flat_map(entries).filter(|entry| entry.kind == b'2');
    forms.extend(
        links.map(|link| format!("link `{}` -> `{}`", clean(&link.name.0), link.link.0.escape_ascii())),
    );
    forms
}
