//! What names that are kept take in memory.

/// Most bytes that the names of all binaries of an image may take. An application of 128 components takes three or four million.
pub const MAX_KEPT: usize = 8 << 20;

/// A name in a set: the string, what its allocation is rounded up to, and its part of a node that is half full.
const NAME: usize = 64;
/// An interface: its entry, and the node of a set with one name in it
/// (`rust-lang/rust:library/alloc/src/collections/btree/node.rs`, `CAPACITY`).
const INTERFACE: usize = 384;

pub(super) const fn name(name: &str) -> usize {
    name.len().saturating_add(NAME)
}

pub(super) const fn interface(name: &str) -> usize {
    name.len().saturating_add(INTERFACE)
}

/// Why an image whose names take more is not read.
pub(crate) fn too_many_names() -> String {
    format!(
        "the names that its Wasm binaries import and export take more than {} MiB of memory; ship fewer of them in one image",
        MAX_KEPT >> 20
    )
}
