//! Facts about images, as an inspection finds them. A test sets the fields that it is about and takes the rest from
//! here with `..`.

use std::collections::BTreeSet;

use wasmgate::image::{Digest, ImageFacts, ImageKind, ModuleFacts, Shape, WasmFormat};

/// An empty module at `/app.wasm` that takes one page of memory.
pub fn module() -> ModuleFacts {
    ModuleFacts {
        source: "/app.wasm".into(),
        component: None,
        format: WasmFormat::Module,
        imports: Vec::new(),
        exports: BTreeSet::new(),
        code_bytes: 0,
        data_bytes: 0,
        memory_bytes: 65_536,
        memory_max_bytes: None,
        features: BTreeSet::new(),
        interpreters: Vec::new(),
        size_bytes: 0,
    }
}

/// An empty image of this digest, or of the digest of any other text.
pub fn image(digest: &str, kind: ImageKind) -> ImageFacts {
    let digest: Digest = digest.parse().unwrap_or_else(|_| Digest::of(digest.as_bytes()));
    ImageFacts {
        manifest_digest: digest.clone(),
        digest,
        kind,
        shape: Shape::Other,
        platform: String::new(),
        evidence: Vec::new(),
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        search_path: None,
        modules: Vec::new(),
        files: Vec::new(),
        scanned: false,
        native: Vec::new(),
        spin: None,
        warnings: Vec::new(),
        claims: Vec::new(),
    }
}
