//! The questions that each family of runtimes answers for an image and a pod.

use std::fmt::Debug;

use super::choice::Choice;
use super::handover::Handover;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Shape};
use crate::quantity::Quantity;

/// Who compiles a program: this decides its memory floor by a factor of seven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compiler {
    /// The shim, once per node and outside of the pod.
    Shim,
    /// The container's own process, at every start. Engines that interpret are counted here too: what they need was
    /// never measured.
    Container,
}

/// A way from a program to native code outside of its sandbox, beside native programs that are started as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NativeWay {
    /// Machine code in a section of the module is mapped and run.
    Section(Feature),
    /// Variables of the container name plug-ins that are loaded into the runtime.
    PlugIns,
}

/// What one runtime does with an image and a pod. Each answer is read from the runtime's own code; the file of the
/// family names it.
pub trait Runtime: Debug + Sync {
    /// Which program starts.
    fn choose(&self, view: &View<'_>) -> Choice;

    /// Whether it can start a program of this kind that is packed like this.
    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool;

    /// Whether it provides what a binary needs beyond plain WASI. Only what it is known to link.
    fn provides(&self, feature: Feature) -> bool;

    /// What it hands to a program of this kind.
    fn hands_over(&self, kind: ImageKind) -> Handover;

    /// Who compiles a program that is packed like this.
    fn compiler(&self, packaging: Packaging) -> Compiler;

    /// Memory that the runtime itself needs in the container's cgroup before any module is loaded.
    fn base_memory(&self) -> Quantity {
        // Measured at most for runwasi's wasmtime; see `plan::floor`.
        Quantity::mebibytes(4)
    }

    /// The native ways out of the sandbox.
    fn native_ways(&self) -> &'static [NativeWay] {
        &[]
    }

    /// Whether a command component that imports any interface of `wasi:http` fails to be linked.
    fn lacks_http(&self, _kind: ImageKind) -> bool {
        false
    }
}
