//! What a binary needs from its runtime that not every runtime has: functions beyond WASI, and proposals of WebAssembly.

use serde::{Deserialize, Serialize};

/// What a binary needs from its runtime beyond WASI 0.1 and 0.2 as every shim links them, and beyond version 2.0 of WebAssembly as
/// every engine runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// WASI's first snapshot, `wasi_unstable`.
    WasiUnstable,
    /// WASI 0.3 interfaces.
    Wasi03,
    /// WasmEdge's sockets inside `wasi_snapshot_preview1`, recognised by their names, and by a `sock_accept` with two
    /// parameters.
    WasmedgeSockets,
    /// WASIX.
    Wasix,
    /// `wasi.thread-spawn`.
    WasiThreads,
    /// A memory that threads share.
    SharedMemory,
    /// `wasi_ephemeral_nn`.
    WasiNn,
    /// Machine code from WasmEdge's own compiler in a section named `wasmedge`, which other engines skip
    /// (`WasmEdge:lib/loader/ast/module.cpp`).
    WasmedgeMachineCode,
    /// Wasm text, which is assembled first.
    Text,
    /// Exceptions, recognised by a tag or by the type of a reference. The legacy instructions have the same tags, so that which of both
    /// a binary uses is not known.
    ExceptionHandling,
    /// Types of structs and arrays, types that name each other or are above another one, and references to values that are collected.
    GarbageCollection,
    /// References to functions of one type, or that are never null.
    FunctionReferences,
    /// Types of continuations, and references to them.
    StackSwitching,
    /// A memory that says how large its pages are.
    CustomPageSizes,
    /// A memory or a table with addresses of 64 bits.
    Memory64,
}

impl Feature {
    /// The proposals of WebAssembly among them, which a profile may say that the engine of its nodes runs.
    pub const PROPOSALS: [Self; 7] = [
        Self::SharedMemory,
        Self::ExceptionHandling,
        Self::GarbageCollection,
        Self::FunctionReferences,
        Self::StackSwitching,
        Self::CustomPageSizes,
        Self::Memory64,
    ];

    /// Its name in facts and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WasiUnstable => "wasi-unstable",
            Self::Wasi03 => "wasi03",
            Self::WasmedgeSockets => "wasmedge-sockets",
            Self::Wasix => "wasix",
            Self::WasiThreads => "wasi-threads",
            Self::SharedMemory => "shared-memory",
            Self::WasiNn => "wasi-nn",
            Self::WasmedgeMachineCode => "wasmedge-machine-code",
            Self::Text => "text",
            Self::ExceptionHandling => "exception-handling",
            Self::GarbageCollection => "garbage-collection",
            Self::FunctionReferences => "function-references",
            Self::StackSwitching => "stack-switching",
            Self::CustomPageSizes => "custom-page-sizes",
            Self::Memory64 => "memory64",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_called_the_same_in_messages_and_in_the_configuration() {
        for proposal in Feature::PROPOSALS {
            assert_eq!(serde_json::to_value(proposal).unwrap(), proposal.as_str());
        }
        for other in [Feature::WasiUnstable, Feature::Wasi03, Feature::WasmedgeMachineCode, Feature::Text] {
            assert_eq!(serde_json::to_value(other).unwrap(), other.as_str());
            assert!(!Feature::PROPOSALS.contains(&other));
        }
    }
}
