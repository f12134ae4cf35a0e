//! The questions that each family of runtimes answers for an image and a pod.

use std::fmt::Debug;

use super::choice::Choice;
use super::handover::Handover;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Shape};
use crate::quantity::Quantity;

/// Who compiles a program. The memory floor differs by a factor of seven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compiler {
    /// The shim, once per node and outside the pod.
    Shim,
    /// The container's own process, at every start. Interpreting engines count here too; what they need was never
    /// measured.
    Container,
}

/// A way from a program to native code outside its sandbox, other than being a native program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NativeWay {
    /// The runtime maps and runs machine code in a section of the module.
    Section(Feature),
    /// These variables of the container name plug-ins, which the runtime loads.
    PlugIns(&'static [&'static str]),
}

/// What one runtime does with an image and a pod. Every answer comes from the runtime's own code, which the family's
/// file cites.
pub trait Runtime: Debug + Sync {
    /// Which program starts.
    fn choose(&self, view: &View<'_>) -> Choice;

    /// Whether it can start a program of this kind in this packaging.
    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool;

    /// Whether it provides what a binary needs beyond plain WASI. Only what it is known to link.
    fn provides(&self, feature: Feature) -> bool;

    /// What it hands to a program of this kind.
    fn hands_over(&self, kind: ImageKind) -> Handover;

    /// Who compiles a program in this packaging.
    fn compiler(&self, packaging: Packaging) -> Compiler;

    /// Memory that the runtime itself needs in the container's cgroup before it loads a module.
    fn base_memory(&self) -> Quantity {
        // The highest measured value of runwasi's wasmtime; see `plan::floor`.
        Quantity::mebibytes(4)
    }

    /// The ways out of the sandbox to native code.
    fn native_ways(&self) -> &'static [NativeWay] {
        &[]
    }

    /// How a container that was killed for memory is shown, if not as `OOMKilled`; it ends a sentence.
    fn out_of_memory(&self) -> Option<&'static str> {
        None
    }

    /// What to tell people about a program that needs a feature which this runtime lacks. `None` leaves it to the rules.
    fn cannot_start(&self, _program: &str, _lacking: Feature) -> Option<String> {
        None
    }

    /// Whether linking a command component fails if it imports any interface of `wasi:http`.
    fn lacks_http(&self, _kind: ImageKind) -> bool {
        false
    }
}
