//! Why an image could not be read.

use thiserror::Error;

/// Why an image name or the bytes of an image could not be read. Cloneable, because concurrent reviews share one
/// look-up.
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
    /// Something exceeds its limit.
    #[error("{what} of `{image}` is larger than the limit of {limit} bytes")]
    TooLarge {
        /// As written.
        image: String,
        /// `the manifest`, `the config`, `layer sha256:…`.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Fetched bytes are malformed.
    #[error("could not read {what} of `{image}`: {message}")]
    Read {
        /// As written.
        image: String,
        /// `the manifest`, `the config`, `layer sha256:…`, `the locked app`.
        what: String,
        /// What is wrong with it.
        message: String,
    },
}
