//! What foreign bytes must never cause, one function per parser that reads them. Shared by the fuzzer (`fuzz/`) and
//! tests/suite/fuzz.rs, which runs them over the same corpus on a stable compiler.
#![allow(dead_code, reason = "each fuzz target is a program of its own and uses one of them")]
#![allow(clippy::expect_used, reason = "a fuzz target fails by a panic")]

use std::sync::Arc;

use wasmgate::image::archive::Compression;
use wasmgate::image::layer::{Tree, UnpackLimits};
use wasmgate::image::manifest::{self, Document};
use wasmgate::image::reference::Reference;
use wasmgate::image::spin::{self, manifest as spin_toml};
use wasmgate::image::{ModuleFacts, config, kind, module};

/// Most bytes that a layer may unpack to here: few, so that a bomb is cheap to test.
const UNPACKED: u64 = 1 << 20;

/// A target: its name, which is also that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: [Target; 6] = [
    ("reference", reference),
    ("manifest", document),
    ("config", image_config),
    ("locked_app", locked_app),
    ("module", module_bytes),
    ("tar", tar),
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
    if let Ok(config) = config::parse(data) {
        assert_eq!(config.platform(), config.platform().to_lowercase());
        assert!(config.env.iter().all(|name| !name.contains('=')));
    }
}

/// A locked app, and a manifest.
pub fn locked_app(data: &[u8]) {
    for app in [spin::parse(data), spin_toml::parse(data)].into_iter().flatten() {
        let text = serde_json::to_string(&app).expect("an app is JSON");
        assert_eq!(serde_json::from_str::<wasmgate::image::SpinApp>(&text).expect("and is read back"), app);
        for component in &app.components {
            assert!(component.templates.iter().all(|host| component.allowed_outbound_hosts.contains(host)));
        }
    }
}

/// The bytes, or the text, of a module or component.
pub fn module_bytes(data: &[u8]) {
    for facts in [module::read(data, "fuzz"), module::read_text(data, "fuzz")].into_iter().flatten() {
        assert_eq!(facts.size_bytes, data.len() as u64);
        assert!(facts.memory_max_bytes.is_none_or(|most| most >= facts.memory_bytes));
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
