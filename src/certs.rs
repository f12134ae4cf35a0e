//! Serving certificates from three sources: given files; a development CA with a serving certificate in a
//! directory, made again before it expires; or a set in a Secret, rotated step by step.

mod develop;
mod issue;
mod key;
mod pem;
pub mod rotate;

pub use develop::{CA_NAME, load_or_make};
pub use pem::{Pair, Texts, check_readable, load};
pub use rotate::{Holding, Rotation, Step};

use std::path::PathBuf;

/// Why there is no certificate to serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate or key file cannot be read.
    #[error("could not read `{}`; check that it exists and that this user may read it", file.display())]
    ReadFile {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate file holds no chain.
    #[error("could not find certificates in `{}`: {problem}; it must hold PEM `CERTIFICATE` blocks, the serving certificate first", file.display())]
    ParseChain {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The key file holds no usable key.
    #[error("could not find a private key in `{}`: {problem}; it must hold one unencrypted PEM key (PKCS#8, PKCS#1 or SEC1)", file.display())]
    ParseKey {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The key is of a kind that cannot be served.
    #[error("could not use the private key in `{}`: it is {kind}, which the TLS library cannot sign with; make a key and a certificate for it: {}", file.display(), key::USABLE)]
    UseKey {
        /// The file.
        file: PathBuf,
        /// Its kind, with the article.
        kind: String,
    },
    /// The key belongs to another certificate.
    #[error("could not use `{}` with `{}`: {problem}; the key must be that of the first certificate in the file", key.display(), cert.display())]
    MatchKey {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The development directory holds a file that wasmgate did not make.
    #[error("could not make certificates: `{}` was not made by wasmgate; move it away, or name it as the certificate to serve", file.display())]
    ReplaceForeign {
        /// The file.
        file: PathBuf,
    },
    /// A host name that is not valid in a certificate.
    #[error("could not make a certificate for `{name}`; it must be a DNS name or an IP address")]
    NameHost {
        /// The name.
        name: String,
    },
    /// Generating keys or signing failed.
    #[error("could not make certificates")]
    Make(#[source] rcgen::Error),
    /// A file cannot be written.
    #[error("could not write `{}`; check that this user may write there, or name a certificate to serve", file.display())]
    WriteFile {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}
