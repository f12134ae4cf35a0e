//! Why a look-up failed.

use thiserror::Error;

use crate::{image, registry};

/// Why a look-up failed. Cloneable, because concurrent reviews share one look-up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The image could not be fetched or read.
    #[error(transparent)]
    Fetch(#[from] registry::Error),
    /// The look-up took longer than its share of the webhook's timeout.
    #[error("could not read `{image}` within {budget_ms} ms")]
    TimedOut {
        /// As written.
        image: String,
        /// The budget in milliseconds.
        budget_ms: u64,
    },
    /// The review did not wait for the look-up: the registry does not answer, and nothing says that the pod has
    /// anything to do with Wasm.
    #[error("could not read `{image}` within {waited_ms} ms, and `{registry}` does not answer now")]
    LeftWaiting {
        /// As written.
        image: String,
        /// Host and port.
        registry: String,
        /// How long the review waited, in milliseconds.
        waited_ms: u64,
    },
    /// The look-up did not get memory for a layer in time.
    #[error(
        "could not read `{image}` within {budget_ms} ms: timed out waiting for memory, which other images take; try \
         again, or raise `images.memoryBytes` together with the memory limit"
    )]
    WaitForMemory {
        /// As written.
        image: String,
        /// The budget in milliseconds.
        budget_ms: u64,
    },
    /// A layer needs more memory than all look-ups have together.
    #[error(
        "could not read layer `{layer}` of `{image}`: it takes up to {bytes} bytes of memory, more than the {total} \
         bytes that all look-ups share; push a smaller image, or raise `images.memoryBytes` together with the memory limit"
    )]
    ExceedMemory {
        /// As written.
        image: String,
        /// Its digest.
        layer: String,
        /// Memory that it needs, in bytes.
        bytes: u64,
        /// Memory of all look-ups, in bytes.
        total: u64,
    },
    /// The image could not be read, nor could pull secrets that might have helped.
    #[error("{source}; {notes}")]
    ReadPullSecrets {
        /// The error without them.
        source: Box<Error>,
        /// Which secrets, why, and how to mend that.
        notes: String,
    },
    /// The look-up ended without a result: a defect of the gate.
    #[error("could not look up `{image}`: the look-up stopped before its end; this is a bug")]
    Finish {
        /// As written.
        image: String,
    },
    /// The store on disk could not be opened.
    #[error("could not open the image store `{path}`: {message}")]
    OpenStore {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The file with images to look up at the start could not be read.
    #[error("could not read `warmFile` `{path}`: {message}")]
    ReadWarmFile {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        Self::Fetch(error.into())
    }
}
