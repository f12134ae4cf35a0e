//! Recognises a file by its first bytes.

/// What the first bytes of a file show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Magic {
    /// `\0asm`: a module or component.
    Wasm,
    /// `\0aot`: machine code that WAMR's compiler made of a module, which WAMR runs wherever it takes Wasm
    /// (`wasm-micro-runtime:core/iwasm/common/wasm_runtime_common.c`, `get_package_type`).
    Aot,
    /// `ELF` or `#!`. A `.cwasm` that Wasmtime compiled in advance is an ELF file (wasmtime#3343).
    Native(&'static str),
    /// Anything else.
    Other,
}

/// Classifies the first bytes; eight are enough.
pub fn magic(head: &[u8]) -> Magic {
    match head {
        [0, b'a', b's', b'm', ..] => Magic::Wasm,
        [0, b'a', b'o', b't', ..] => Magic::Aot,
        [0x7f, b'E', b'L', b'F', ..] => Magic::Native("ELF"),
        [b'#', b'!', ..] => Magic::Native("#!"),
        _ => Magic::Other,
    }
}
