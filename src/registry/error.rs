//! Why a registry or a layout did not deliver what was asked for.

use thiserror::Error;

use crate::image;

/// Why a registry or a layout did not deliver what was asked for. Cloneable, because concurrent reviews share one
/// look-up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry may not be asked.
    #[error("refused to ask the registry `{registry}` for `{image}`: {message}")]
    RefuseRegistry {
        /// Host and port.
        registry: String,
        /// As written.
        image: String,
        /// Which rule refuses it, and the setting that would allow it.
        message: String,
    },
    /// The registry answered that there is no such image. Unlike every other failure this one is final: what was known
    /// about the image before no longer holds.
    #[error("could not find `{image}`: {message}")]
    FindImage {
        /// As written.
        image: String,
        /// What the registry said.
        message: String,
    },
    /// The manifest could not be fetched.
    #[error("could not fetch the manifest of `{image}`: {message}")]
    FetchManifest {
        /// As written.
        image: String,
        /// What the registry or the network said.
        message: String,
    },
    /// The registry refused the manifest: it got no credentials, or not the right ones.
    #[error("could not fetch the manifest of `{image}`: {message}")]
    AuthorizeFetch {
        /// As written.
        image: String,
        /// What the registry said, and which credentials it may lack.
        message: String,
    },
    /// A config or layer could not be fetched.
    #[error("could not fetch blob `{digest}` of `{image}`: {message}")]
    FetchBlob {
        /// As written.
        image: String,
        /// Its digest.
        digest: String,
        /// What the registry or the network said.
        message: String,
    },
    /// An OCI image layout on disk could not be read.
    #[error("could not read the image layout `{path}` for `{image}`: {message}")]
    ReadLayout {
        /// As written.
        image: String,
        /// Folder.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A file could not be pushed.
    #[error("could not push to `{image}`: {message}")]
    PushArtifact {
        /// As written.
        image: String,
        /// What the registry or the network said.
        message: String,
    },
    /// The client could not be set up.
    #[error("could not set up the registry client: {message}")]
    SetUpClient {
        /// What is wrong.
        message: String,
    },
    /// The name, or the bytes that arrived, could not be read.
    #[error(transparent)]
    ReadImage(#[from] image::Error),
}
