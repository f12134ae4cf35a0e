//! Where manifests and blobs come from: a registry or an image layout on disk.

use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Digest, Error, reference::Reference};

pub(crate) use super::malformed::shorten;

/// A content descriptor (OCI image-spec, `descriptor.md`), as far as detection needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
}

impl Descriptor {
    /// How much of the content may be read: never more than the descriptor says. Refuses one that says more than `limit`.
    pub(crate) fn within(&self, reference: &Reference, limit: u64) -> Result<u64, Error> {
        if self.size <= limit {
            return Ok(self.size);
        }
        let what = format!("blob {}", self.digest);
        Err(Error::TooLarge { image: reference.to_string(), what, limit })
    }

    /// Says that the content is larger than the descriptor, which is seen without reading on. Container runtimes refuse
    /// it too (`containerd:core/content/helpers.go`, `Copy`).
    pub(crate) fn exceeded(&self, reference: &Reference) -> Error {
        Error::Read {
            image: reference.to_string(),
            what: format!("blob {}", self.digest),
            message: format!("it has more than the {} bytes that its descriptor says", self.size),
        }
    }
}

/// A manifest or index as it was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The bytes; their digest has been verified when the reference named one.
    pub bytes: Bytes,
    /// Digest of the bytes, computed here: by the algorithm of the reference's own digest when it names one, else
    /// by SHA-256.
    pub digest: Digest,
}

/// Something that serves manifests and blobs. Every byte that it returns has been verified against the digest it was asked for by.
pub trait Source: Send + Sync {
    /// Why there is nothing to read; what is read and is not as it should be becomes one of these too.
    type Error: From<Error> + Send;

    /// The manifest or index that a reference names. Refuses more than `limit` bytes.
    fn manifest(
        &self,
        reference: &Reference,
        limit: u64,
    ) -> impl Future<Output = Result<FetchedManifest, Self::Error>> + Send;

    /// A config or layer. Refuses more than `limit` bytes, whatever size the descriptor claims.
    fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_shortened_to_one_harmless_line() {
        assert_eq!(shorten(" a\u{1b}[2Jb\nc ", 100), "a [2Jb c");
        assert_eq!(shorten("abcdef", 3), "abc…");
    }
}
