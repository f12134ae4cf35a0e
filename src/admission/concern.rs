//! Whether a pod has to do with Wasm at all.

use super::state::State;
use crate::image::{Program, Shape};
use crate::inspection::{Container, Inspection};
use crate::judge;
use crate::workload::Workload;

/// Whether the pod has to do with Wasm: it starts a Wasm program, or native code from an image that is packed as
/// Wasm, or its class is a Wasm runtime according to a profile; or its program is not known, and there
/// is reason to suspect that a Wasm runtime will start it ([`judge::suspicion`]).
pub fn concerns(state: &State, workload: &Workload, inspection: &Inspection) -> bool {
    let native = inspection.containers.iter().any(is_native_in_wasm);
    native
        || inspection.has_wasm()
        || under_wasm_class(state, workload)
        || (inspection.containers.iter().any(Container::is_open)
            && judge::suspicion(workload, inspection, state.runtimes(), state.cluster()).is_some())
}

/// Whether the container starts native code from an image packed as Wasm, or from a Wasm file. A scratch image whose native
/// files a pod starts counts as an ordinary Linux image.
fn is_native_in_wasm(container: &Container) -> bool {
    let Some((facts, Program::Native { source, .. })) = container.known() else { return false };
    facts.shape != Shape::ScratchRootfs || facts.modules.iter().any(|module| module.source == *source)
}

/// Whether the spec names a class that is a Wasm runtime according to a profile.
fn under_wasm_class(state: &State, workload: &Workload) -> bool {
    workload.spec.runtime_class_name.as_deref().is_some_and(|class| state.profile_of(class).is_some())
}
