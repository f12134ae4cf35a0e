//! What foreign bytes must never cause, one function per parser that reads them. Shared by the fuzzer (`fuzz/`) and
//! tests/suite/fuzz.rs, which runs them over the same corpus on a stable compiler.
#![allow(dead_code, reason = "each fuzz target is a program of its own and uses one of them")]
#![allow(clippy::expect_used, reason = "a fuzz target fails by a panic")]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde_json::value::RawValue;
use wasmgate::capability::HostPattern;
use wasmgate::grant::load;
use wasmgate::image::archive::Compression;
use wasmgate::image::hints;
use wasmgate::image::layer::{Files, Tree, UnpackLimits};
use wasmgate::image::manifest::{self, Document};
use wasmgate::image::reference::Reference;
use wasmgate::image::spin::{self, manifest as spin_toml};
use wasmgate::image::{Depth, ModuleFacts, config, kind, module};
use wasmgate::learn;
use wasmgate::lookup::{SizeLimits, detect};
use wasmgate::policy::Bundle;
use wasmgate::quantity::Quantity;
use wasmgate::registry::layout::Layouts;
use wasmgate::registry::{Login, foreign};
use wasmgate::rego::{self, Call, Failure, Value};
use wasmgate::review;
use wasmgate::usage::{BadUsage, UsageObject};
use wasmgate::workload::{self, Kind, Kinds};

/// Most bytes that a layer may unpack to here: few, so that a bomb is cheap to test.
const UNPACKED: u64 = 1 << 20;

/// A target: its name, which is also that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// What one call of a function may take here: little, so that what grows is ended soon.
const FUNCTION_STEPS: u64 = 100_000;
const FUNCTION_BYTES: usize = 4 << 20;

/// All targets.
pub const ALL: [Target; 18] = [
    ("reference", reference),
    ("manifest", document),
    ("config", image_config),
    ("locked_app", locked_app),
    ("module", module_bytes),
    ("tar", tar),
    ("tree", tree),
    ("layout", layout),
    ("credentials", credentials),
    ("registry", registry),
    ("review", admission_review),
    ("workload", workload_object),
    ("bundle", bundle),
    ("quantity", quantity),
    ("host", host),
    ("grants", grants),
    ("usage", usage),
    ("functions", functions),
];

/// An image name: its normalised form reads as the same.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(read) = Reference::parse(text) {
        let again = Reference::parse(&read.to_string());
        assert_eq!(again.as_ref(), Ok(&read), "`{text}` was read as `{read}`");
    }
}

/// A manifest or index, and what follows from it.
pub fn document(data: &[u8]) {
    drop(hints::read(data));
    match manifest::parse(data) {
        Ok(Document::Manifest(read)) => {
            assert!(read.layers.len() <= manifest::MAX_LAYERS);
            drop(manifest::layout(&read));
        }
        Ok(Document::Index(entries)) => {
            if let Ok(choice) = manifest::choose(&entries) {
                assert!(entries.contains(&choice.entry) && !choice.entry.attestation);
            }
        }
        Err(error) => assert!(!error.0.is_empty()),
    }
}

/// An image config.
pub fn image_config(data: &[u8]) {
    drop(hints::read(data));
    if let Ok(config) = config::parse(data) {
        assert_eq!(config.platform(), config.platform().to_lowercase());
        assert!(config.env.iter().all(|name| !name.contains('=')));
    }
}

/// A locked app, a manifest, and the files that the shim reads beside it.
pub fn locked_app(data: &[u8]) {
    let config = spin::runtime_config_of("/runtime-config.toml", data);
    let text = serde_json::to_string(&config).expect("a configuration is JSON");
    assert_eq!(
        serde_json::from_str::<wasmgate::image::RuntimeConfig>(&text).expect("and is read back"),
        config
    );
    let known =
        config.stores.len() + config.databases.len() + config.providers.len() + config.tls_files.len();
    assert!(config.unread.is_none() || known == 0, "what is not known is not known in part");
    if let Some(file) = spin::dotenv_of("/.env", data) {
        assert!(!data.contains(&b'$') || !file.copies.is_empty() || !has_name_after_dollar(data));
    }
    for app in [spin::parse(data), spin_toml::parse(data)].into_iter().flatten() {
        let text = serde_json::to_string(&app).expect("an app is JSON");
        assert_eq!(serde_json::from_str::<wasmgate::image::SpinApp>(&text).expect("and is read back"), app);
    }
}

/// Whether a letter follows a `$` directly.
fn has_name_after_dollar(data: &[u8]) -> bool {
    data.windows(2).any(|pair| matches!(pair, [b'$', letter] if letter.is_ascii_alphabetic()))
}

/// The bytes, or the text, of a module or component.
pub fn module_bytes(data: &[u8]) {
    for facts in [module::read(data, "fuzz"), module::read_text(data, "fuzz")].into_iter().flatten() {
        assert_eq!(facts.size_bytes, data.len() as u64);
        assert!(facts.memory_max_bytes.is_none_or(|most| most >= facts.memory_bytes));
        assert!(facts.defined.memory_bytes <= facts.memory_bytes);
        let text = serde_json::to_string(&facts).expect("facts are JSON");
        assert_eq!(serde_json::from_str::<ModuleFacts>(&text).expect("and are read back"), facts);
        drop(kind::of(&facts, None));
        drop(kind::of(&facts, Some("f")));
    }
}

/// A layer, applied twice: the resulting paths are inside the image, and sorted.
pub fn tar(data: &[u8]) {
    let wanted = ["/app.wasm".to_string()];
    let mut tree = Tree::new(UnpackLimits { layer: UNPACKED, file: UNPACKED / 4 }, wanted, Arc::default());
    for _ in 0..2 {
        drop(tree.apply(data, Compression::Any));
    }
    let Ok(files) = tree.files() else { return };
    let names: Vec<&String> = files.entries.iter().map(|(name, _)| name).collect();
    assert!(names.is_sorted());
    assert!(names.iter().all(|name| name.starts_with('/') && !name.split('/').any(|part| part == "..")));
}

/// Names that meet in a tree, and link targets.
const NAMES: [&str; 8] = ["a", "b", "a/b", "app.wasm", "a/app.wasm", "spin.toml", ".wh.a", "a/.wh..wh..opq"];
const TARGETS: [&str; 8] = ["a", "/", "..", "../a", "/b", "app.wasm", "a/b", "b/.."];
const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Layers of files, folders and links, three bytes an entry: what is left in the end lies inside the image, and so does
/// every link that is kept.
pub fn tree(data: &[u8]) {
    let Some(files) = applied(data) else { return };
    let names: Vec<&String> = files.entries.iter().map(|(name, _)| name).collect();
    assert!(names.is_sorted() && names.iter().all(|name| name.starts_with('/')));
    assert!(files.modules.iter().all(|module| names.contains(&&module.source)));
}

/// What these layers leave, where they can be read.
pub fn applied(data: &[u8]) -> Option<Files> {
    let mut layers = vec![Vec::new()];
    for bytes in data.chunks_exact(3).take(300) {
        let [what, name, target] = bytes else { continue };
        if what & 0x80 != 0 && layers.len() < 6 {
            layers.push(Vec::new());
        }
        if let Some(layer) = layers.last_mut() {
            layer.extend(entry(*what, *name, *target));
        }
    }
    let wanted = ["/app.wasm".to_string(), "/a/b".to_string()];
    let mut tree = Tree::new(UnpackLimits { layer: UNPACKED, file: UNPACKED / 4 }, wanted, Arc::default());
    for layer in layers {
        tree.apply(layer.as_slice(), Compression::Plain).ok()?;
    }
    tree.files().ok()
}

/// One entry of an archive, with a header as POSIX has it.
fn entry(what: u8, name: u8, target: u8) -> Vec<u8> {
    let pick = |list: &[&str; 8], number: u8| {
        list.get(usize::from(number & 7)).copied().unwrap_or_default().to_string()
    };
    let name = if name & 0x40 == 0 {
        pick(&NAMES, name)
    } else {
        format!("{}/{}", pick(&NAMES, name), pick(&NAMES, name >> 3))
    };
    let (flag, target, content) = match what & 7 {
        _ if name.contains(".wh.") => (b'0', String::new(), &b""[..]),
        0 | 1 => (b'0', String::new(), EMPTY_MODULE),
        2 => (b'5', String::new(), &b""[..]),
        3 => (b'1', pick(&NAMES, target), &b""[..]),
        4 => (b'0', String::new(), &b"\x7fELF"[..]),
        _ => (b'2', pick(&TARGETS, target) + if target & 8 == 0 { "" } else { "/b" }, &b""[..]),
    };
    let mut block = vec![0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, name.as_bytes());
    put(100, if what & 8 == 0 { b"0000755\0" } else { b"0000644\0" });
    put(124, format!("{:011o}", content.len()).as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *to = from;
    }
    block.extend(content);
    block.resize(if content.is_empty() { 512 } else { 1024 }, 0);
    block
}

/// `index.json` of an image layout, and what it leads to: a folder of this process, which holds the corpus's own image.
pub fn layout(data: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("wasmgate-layout-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("blobs/sha256")).expect("a folder can be made");
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("and written to");
        folder
    });
    std::fs::write(folder.join("index.json"), data).expect("the folder can be written to");
    let Ok((layouts, reference)) = Layouts::direct(&folder.to_string_lossy()) else { return };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let limits = SizeLimits::default();
    let read = runtime.block_on(detect::detect(&layouts, &reference, Depth::Layers, &limits));
    assert!(read.is_err(), "an image was read that is not there");
}

/// Logins, as docker and the kubelet keep them, and as a credential helper prints them.
pub fn credentials(data: &[u8]) {
    for logins in [Login::from_docker_config(data), Login::from_dockercfg(data)] {
        match logins {
            Ok(logins) => assert!(logins.is_sorted_by_key(|login| std::cmp::Reverse(login.path.len()))),
            Err(message) => assert!(!message.is_empty()),
        }
    }
    drop(foreign::credentials(data));
}

/// What a registry or its token service sends: a challenge, a token, an error.
pub fn registry(data: &[u8]) {
    if let Some(realm) = foreign::challenge(data).filter(|realm| !realm.is_empty()) {
        assert!(realm.starts_with("http://") || realm.starts_with("https://"), "`{realm}`");
        assert!(
            !realm.split('/').nth(2).is_some_and(|host| host.contains('@')),
            "`{realm}` holds a password"
        );
    }
    let _ = foreign::token_lives(data);
    for status in [401, 404, 429, 500] {
        let words = foreign::explained(status, data);
        assert!(!words.contains(['\n', '\r', '\u{1b}']), "{words:?} has several lines");
    }
}

/// A review, and the workload in it.
pub fn admission_review(data: &[u8]) {
    let uid = review::uid_of(data);
    match review::parse(data) {
        Ok(read) => {
            assert_eq!(uid.as_ref(), Some(&read.uid));
            let kind = Kinds::default().of(&read.kind);
            for object in [&read.object, &read.old_object].into_iter().flatten() {
                read_as(object, kind.unwrap_or(Kind::Pod));
            }
        }
        Err(error) => assert!(!error.message.is_empty()),
    }
}

/// An object, read as each kind that makes pods.
pub fn workload_object(data: &[u8]) {
    let Ok(object) = serde_json::from_slice::<&RawValue>(data) else { return };
    for kind in
        [Kind::Pod, Kind::PodTemplate, Kind::Deployment, Kind::StatefulSet, Kind::CronJob, Kind::SpinApp]
    {
        read_as(object, kind);
    }
}

fn read_as(object: &RawValue, kind: Kind) {
    let Ok(judged) = workload::as_judged(object, kind) else { return };
    if let Ok(read) = workload::read(judged.get(), kind, "default") {
        assert!(!workload::changed(&read, &read));
        assert!(read.images().len() <= judged.get().len());
    }
}

/// A bundle, packed or as the archive that is packed in it.
pub fn bundle(data: &[u8]) {
    match Bundle::from_tar_gz("fuzz", &packed(data)) {
        Ok(bundle) => assert_eq!(bundle.name, "fuzz"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The same bytes where they are packed already.
pub fn packed(data: &[u8]) -> Vec<u8> {
    if data.starts_with(&[0x1f, 0x8b]) {
        return data.to_vec();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(data).expect("memory can be written to");
    encoder.finish().expect("and ended")
}

/// A quantity of Kubernetes: written as memory or CPU it is never less than what was read.
pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(read) = Quantity::parse(text) {
        let memory = Quantity::parse(&read.memory()).expect("what is written is read");
        assert_eq!(memory.bytes(), read.bytes(), "`{text}` is written as `{}`", read.memory());
        let cpu = Quantity::parse(&read.cpu()).expect("what is written is read");
        assert_eq!(cpu.millis(), read.millis(), "`{text}` is written as `{}`", read.cpu());
        assert_eq!(Quantity::parse(&read.to_string()).expect("what is shown is read"), read, "`{text}`");
    }
    if let Ok(value) = serde_json::from_str(text) {
        drop(Quantity::from_json(&value));
    }
}

/// A host pattern: it covers itself, and is written back as what reads the same.
pub fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(read) = text.parse::<HostPattern>() else { return };
    assert!(read.covers(&read), "`{text}` does not cover itself");
    assert_eq!(read.to_string().parse().as_ref(), Ok(&read), "`{text}` is written as `{read}`");
    assert!(HostPattern::ANY.covers(&read), "`{text}` is not covered by everything");
}

/// Grants and exceptions: one that was read is read again as it is written.
pub fn grants(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match load::parse(text, "fuzz") {
        Ok(read) => {
            for grant in read.grants {
                let written = serde_json::to_value(&grant).expect("a grant is JSON");
                let again = load::read_object(written, "fuzz").expect("and is read back");
                assert_eq!(again, load::Checked::Grant(Arc::new(grant)));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What images have used, as an object, and the pods and metrics that it follows from: what is read reads again as it is written.
pub fn usage(data: &[u8]) {
    if let Ok(item) = serde_json::from_slice::<Box<RawValue>>(data) {
        drop(learn::running(&item, |class| Some(class.to_owned())));
        drop(learn::used(&item));
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let Err(BadUsage::MatchName { expected }) = UsageObject::read("", value.clone()) else { return };
    let Ok(read) = UsageObject::read(&expected, value) else { return };
    let Ok(Some(record)) = read.record() else { return };
    let said = record.size(std::time::Duration::ZERO);
    let written = serde_json::to_value(UsageObject::of(&read.key(), &record, said)).expect("it is JSON");
    let again = UsageObject::read(&expected, written).expect("what is written is read");
    assert_eq!((again.key(), again.requests()), (read.key(), said));
}

/// What the function `name` says, if there is one, and whether that follows from its operands.
fn called(name: &str, operands: &[Value]) -> Option<(Result<Value, Failure>, bool)> {
    let function = rego::builtin(name)?;
    let mut call = Call::within(FUNCTION_BYTES);
    call.allow(FUNCTION_STEPS);
    let said = function.call(&mut call, operands);
    Some((said, call.asked().is_nothing()))
}

/// The name of a function, and its operands: each is a text, or JSON behind `json:`, and the line `%%` stands between two.
fn called_by(data: &[u8]) -> Option<(&str, Vec<Value>)> {
    let (name, operands) = std::str::from_utf8(data).ok()?.split_once('\n')?;
    let operand = |text: &str| match text.strip_prefix("json:") {
        Some(json) => rego::read_json(json).ok(),
        None => Some(Value::text(text)),
    };
    Some((name, operands.split("\n%%\n").map(operand).collect::<Option<_>>()?))
}

/// What a function says of such operands; `None` where there is no call of a function.
pub fn said(data: &[u8]) -> Option<Result<Value, Failure>> {
    let (name, operands) = called_by(data)?;
    Some(called(name, &operands)?.0)
}

/// The steps that a function takes for such operands; `None` where it has no value.
pub fn steps(data: &[u8]) -> Option<u64> {
    let (name, operands) = called_by(data)?;
    let mut call = Call::within(FUNCTION_BYTES);
    call.allow(FUNCTION_STEPS);
    rego::builtin(name)?.call(&mut call, &operands).ok()?;
    Some(call.taken())
}

/// A function that rules call on what is in an object. It says the same again, and one that asks whether a text is valid agrees with the one
/// that reads it.
pub fn functions(data: &[u8]) {
    let Some((name, operands)) = called_by(data) else { return };
    let Some((said, is_fixed)) = called(name, &operands) else { return };
    if is_fixed {
        assert_eq!(called(name, &operands).map(|again| again.0), Some(said), "`{name}` says two things");
    }
    for (asks, reads) in [("yaml.is_valid", "yaml.unmarshal"), ("graphql.is_valid", "graphql.parse")] {
        if ![asks, reads].contains(&name) {
            continue;
        }
        let said = [asks, reads].map(|name| called(name, &operands).map(|said| said.0));
        let [Some(valid), Some(read)] = said else { continue };
        let agree = match (&valid, &read) {
            // Writing a tree may take more than there is.
            (_, Err(Failure::Halt(_))) | (Err(Failure::Halt(_)), _) => true,
            (Ok(Value::Bool(is_valid)), read) => *is_valid == read.is_ok(),
            _ => false,
        };
        assert!(agree, "`{asks}` says {valid:?}, and `{reads}` says {read:?}");
    }
}
