//! Why a look-up failed.

use serde::Serialize;
use thiserror::Error;

use crate::{image, registry};

/// What is wrong with an image of which it is not known what it starts, as far as it decides what mends that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its name is not that of an image.
    Name,
    /// Its registry, or the layout, did not deliver it.
    Registry,
    /// Its bytes are malformed, or outside of what the gate reads.
    Content,
    /// A part of it is too large.
    Size,
    /// The time did not suffice now.
    Time,
    /// The reason itself says what to do.
    Told,
}

/// Why a look-up failed. Cloneable, because concurrent reviews share one look-up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The image could not be fetched or read.
    #[error(transparent)]
    Fetch(#[from] registry::Error),
    /// The look-up took longer than its share of the webhook's timeout.
    #[error(
        "could not read `{image}` within {budget_ms} ms (`images.lookupTimeout`, or what the webhook's `timeoutSeconds` leaves)"
    )]
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
    /// The image could not be read, and what was read of it before suggests Wasm.
    #[error(transparent)]
    ReadWasm {
        /// The error.
        source: Box<Error>,
    },
    /// The look-up ended without a result: a defect of the gate.
    #[error("could not look up `{image}`: the look-up stopped before its end; this is a bug")]
    Finish {
        /// As written.
        image: String,
    },
    /// The store on disk could not be opened.
    #[error("could not open the image store `{path}` (`images.store`): {message}")]
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

impl Error {
    /// Whether the image suggests Wasm as far as it could be read.
    pub fn suggests_wasm(&self) -> bool {
        match self {
            Self::ReadWasm { .. } => true,
            Self::ReadPullSecrets { source, .. } => source.suggests_wasm(),
            _ => false,
        }
    }

    /// The error itself, without what was read of the image before it.
    pub fn itself(&self) -> &Self {
        if let Self::ReadWasm { source } = self { source } else { self }
    }

    /// What is wrong with the image.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Fetch(error) => fault_of(error),
            Self::ReadPullSecrets { source, .. } | Self::ReadWasm { source } => source.fault(),
            Self::TimedOut { .. } | Self::LeftWaiting { .. } => Fault::Time,
            Self::WaitForMemory { .. }
            | Self::ExceedMemory { .. }
            | Self::Finish { .. }
            | Self::OpenStore { .. }
            | Self::ReadWarmFile { .. } => Fault::Told,
        }
    }
}

const fn fault_of(error: &registry::Error) -> Fault {
    match error {
        registry::Error::ReadImage(image::Error::ParseReference { .. }) => Fault::Name,
        registry::Error::ReadImage(image::Error::TooLarge { .. }) => Fault::Size,
        registry::Error::ReadImage(image::Error::Read { .. }) => Fault::Content,
        registry::Error::RefuseRegistry { .. }
        | registry::Error::FindImage { .. }
        | registry::Error::FetchManifest { .. }
        | registry::Error::AuthorizeFetch { .. }
        | registry::Error::FetchBlob { .. }
        | registry::Error::ReadLayout { .. } => Fault::Registry,
        registry::Error::PushArtifact { .. } | registry::Error::SetUpClient { .. } => Fault::Told,
    }
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        Self::Fetch(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mends_it_depends_on_what_is_wrong_and_not_on_the_secrets_that_were_tried() {
        let text = || "a:1".to_owned();
        let cases: [(Error, Fault); 6] = [
            (image::Error::ParseReference { image: text(), message: text() }.into(), Fault::Name),
            (image::Error::TooLarge { image: text(), what: text(), limit: 1 }.into(), Fault::Size),
            (image::Error::Read { image: text(), what: text(), message: text() }.into(), Fault::Content),
            (registry::Error::FindImage { image: text(), message: text() }.into(), Fault::Registry),
            (Error::TimedOut { image: text(), budget_ms: 1 }, Fault::Time),
            (Error::WaitForMemory { image: text(), budget_ms: 1 }, Fault::Told),
        ];
        for (error, fault) in cases {
            assert_eq!(error.fault(), fault, "{error}");
            assert!(!error.suggests_wasm(), "{error}");
            let read = Error::ReadWasm { source: Box::new(error.clone()) };
            assert_eq!((read.fault(), read.to_string()), (fault, error.to_string()));
            let tried = Error::ReadPullSecrets { source: Box::new(read), notes: text() };
            assert_eq!(tried.fault(), fault, "{tried}");
            assert!(tried.suggests_wasm(), "{tried}");
        }
    }
}
