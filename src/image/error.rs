//! Why an image could not be read.

use thiserror::Error;

/// Why an image could not be read. Cloneable, because concurrent reviews share one look-up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The image name does not parse.
    #[error("could not parse the image name `{image}`: {message}")]
    ParseReference {
        /// As written.
        image: String,
        /// What is wrong with it.
        message: String,
    },
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
    /// The registry answered, and says that there is no such image. Unlike every other failure this one is final:
    /// what was known about the image before no longer holds.
    #[error("could not find `{image}`: {message}")]
    FindImage {
        /// As written.
        image: String,
        /// What the registry said.
        message: String,
    },
    /// The manifest could not be had.
    #[error("could not fetch the manifest of `{image}`: {message}")]
    FetchManifest {
        /// As written.
        image: String,
        /// What the registry or the network said.
        message: String,
    },
    /// A config or layer could not be had.
    #[error("could not fetch blob `{digest}` of `{image}`: {message}")]
    FetchBlob {
        /// As written.
        image: String,
        /// Its digest.
        digest: String,
        /// What the registry or the network said.
        message: String,
    },
    /// Something is larger than it may be.
    #[error("{what} of `{image}` is larger than the limit of {limit} bytes")]
    TooLarge {
        /// As written.
        image: String,
        /// `the manifest`, `the config`, `layer sha256:…`.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Bytes that were fetched are not what they should be.
    #[error("could not read {what} of `{image}`: {message}")]
    Read {
        /// As written.
        image: String,
        /// `the manifest`, `the config`, `layer sha256:…`, `the locked app`.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// The look-up took longer than its share of the webhook's timeout.
    #[error("could not read `{image}` within {budget_ms} ms")]
    TimedOut {
        /// As written.
        image: String,
        /// The budget in milliseconds.
        budget_ms: u64,
    },
    /// Nobody waited for the look-up: its registry does not answer, and nothing says that the pod has to do with Wasm.
    #[error("could not read `{image}` within {waited_ms} ms, and `{registry}` answers nobody now")]
    LeftWaiting {
        /// As written.
        image: String,
        /// Host and port.
        registry: String,
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
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
    /// The image could not be read, and neither could pull secrets that might have helped.
    #[error("{source}; {notes}")]
    ReadPullSecrets {
        /// What became of the image without them.
        source: Box<Error>,
        /// Which secrets, why, and what to do about it.
        notes: String,
    },
    /// The client could not be set up.
    #[error("could not set up the registry client: {message}")]
    SetUpClient {
        /// What is wrong.
        message: String,
    },
}
