//! Facts about images, as an inspection finds them. A test sets the fields that it is about and takes the rest from
//! here with `..`.

use wasmgate::image::{Digest, ImageFacts, ImageKind, ModuleFacts, WasmFormat};

/// An empty module at `/app.wasm` that takes one page of memory.
pub fn module() -> ModuleFacts {
    ModuleFacts { memory_bytes: 65_536, ..ModuleFacts::blank("/app.wasm", WasmFormat::Module) }
}

/// An empty image of this digest, or of the digest of any other text.
pub fn image(digest: &str, kind: ImageKind) -> ImageFacts {
    let digest: Digest = digest.parse().unwrap_or_else(|_| Digest::of(digest.as_bytes()));
    ImageFacts { kind, ..ImageFacts::blank(&digest, &digest) }
}
