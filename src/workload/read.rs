//! To be filled.

use super::{ImageUse, Kind, Workload};

/// Why an object is not a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// To be filled.
    #[error("could not read the {kind}")]
    Placeholder {
        /// Kind.
        kind: &'static str,
    },
}

/// Reads the pod spec out of an object's JSON. `namespace` is the request's; the object's own is used when it is empty.
pub fn read(_object: &str, kind: Kind, _namespace: &str) -> Result<Workload, Error> {
    Err(Error::Placeholder { kind: kind.as_str() })
}

impl Workload {
    /// Every image of the pod spec, by all four doors, in the order of the spec.
    pub fn images(&self) -> Vec<ImageUse<'_>> {
        Vec::new()
    }

    /// Whether this is the API object of a static pod, which runs whatever admission says.
    pub fn is_mirror(&self) -> bool {
        self.annotations.contains_key(super::MIRROR_POD_ANNOTATION)
    }
}
