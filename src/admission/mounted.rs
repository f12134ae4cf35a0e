//! Nodes that may mount other files than those of an image's layers: snapshotters that look in the registry for another form of an
//! image. Its digest does not say what they find, which may come after the verdict.

use crate::image::{Packaging, Program, program};
use crate::inspection::{Inspection, LookupResult};
use crate::runtime::Profile;

/// The inspection, in which no container is known whose program comes from files, if the profile says that its nodes may mount
/// others. The shims read Wasm layers by their digests, and not as they are mounted.
pub(super) fn without_files(profile: &Profile, mut inspection: Inspection) -> Inspection {
    if !profile.mounts_other_files {
        return inspection;
    }
    for container in inspection.containers.iter_mut().filter(|one| one.role.starts()) {
        if let LookupResult::Known { program, .. } = &mut container.lookup
            && comes_from_files(program)
        {
            *program = program::unknown(format!(
                "runtime {} may mount other files than those of the image (`mountsOtherFiles` of its profile), so that only programs \
                 in Wasm layers are known; push the program as one",
                profile.name
            ));
        }
    }
    inspection
}

const fn comes_from_files(program: &Program) -> bool {
    match program {
        Program::Linux | Program::Wasm { packaging: Packaging::RootFilesystem, .. } => true,
        // What is not known, or refused, stays so.
        Program::Wasm { packaging: Packaging::Layers, .. }
        | Program::Native { .. }
        | Program::Unknown { .. } => false,
    }
}
