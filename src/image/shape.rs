//! How a program is packed.

use serde::{Deserialize, Serialize};

/// How the program is packed, by the names that the tools themselves use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// CNCF Wasm OCI artifact: config `application/vnd.wasm.config.v0+json`, one `application/wasm` layer (wkg).
    WasmArtifact,
    /// runwasi's "OCI wasm image": OCI image config and `application/vnd.bytecodealliance.wasm.component.layer.v0+wasm`.
    RunwasiLayers,
    /// `spin registry push`: content layers and a locked app.
    SpinArtifact,
    /// A Spin app from before Spin 2, whose locked app is the config: no shim starts it.
    SpinLegacy,
    /// A root file system with `/spin.toml`, started by the command `/`.
    SpinRootfs,
    /// A root file system with `/slightfile.toml` and `/app.wasm`, for the retired slight shim.
    SlightRootfs,
    /// A root file system with `/.wws.toml`, for the retired Wasm Workers Server shim.
    WwsRootfs,
    /// A root file system whose manifest asks crun or youki for their Wasm handlers by annotation.
    CrunRootfs,
    /// A root file system whose config platform is `wasi/wasm`, `wasip1/wasm` or the like (buildx).
    WasmRootfs,
    /// A root file system for a Linux platform whose program is a Wasm file (`FROM scratch`).
    ScratchRootfs,
    /// An ordinary container image.
    LinuxRootfs,
    /// Anything else.
    Other,
}

impl Shape {
    /// Whether nothing of the packaging says Wasm, so that files are read only where there is a reason, and native programs
    /// differ between the platforms of an index. Exhaustive, so that a new shape has to be placed.
    pub const fn is_ordinary(self) -> bool {
        match self {
            Self::LinuxRootfs => true,
            Self::WasmArtifact
            | Self::RunwasiLayers
            | Self::SpinArtifact
            | Self::SpinLegacy
            | Self::SpinRootfs
            | Self::SlightRootfs
            | Self::WwsRootfs
            | Self::CrunRootfs
            | Self::WasmRootfs
            | Self::ScratchRootfs
            | Self::Other => false,
        }
    }

    /// Whether some runtime may start it, so that all platforms of an index have to start the same. Exhaustive as well.
    pub const fn is_startable(self) -> bool {
        match self {
            Self::SpinLegacy | Self::Other => false,
            Self::WasmArtifact
            | Self::RunwasiLayers
            | Self::SpinArtifact
            | Self::SpinRootfs
            | Self::SlightRootfs
            | Self::WwsRootfs
            | Self::CrunRootfs
            | Self::WasmRootfs
            | Self::ScratchRootfs
            | Self::LinuxRootfs => true,
        }
    }
}
