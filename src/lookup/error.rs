//! Why a look-up has no facts.

use thiserror::Error;

use crate::{image, registry};

/// Why a look-up has no facts. Cloneable, because concurrent reviews share one look-up.
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
    /// The review did not wait for the look-up: its registry does not answer, and nothing says that the pod has to do
    /// with Wasm.
    #[error("could not read `{image}` within {waited_ms} ms, and `{registry}` answers nobody now")]
    LeftWaiting {
        /// As written.
        image: String,
        /// Host and port.
        registry: String,
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
    },
    /// The image could not be read, and neither could pull secrets that might have helped.
    #[error("{source}; {notes}")]
    ReadPullSecrets {
        /// What became of the image without them.
        source: Box<Error>,
        /// Which secrets, why, and what to do about it.
        notes: String,
    },
    /// The look-up stopped before its end: a defect of the gate.
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
