//! What a manifest says about a blob.

use serde::{Deserialize, Serialize};

use super::{Digest, Error, reference::Reference};

/// A content descriptor (OCI image-spec, `descriptor.md`), with the fields that detection needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    #[serde(default)]
    pub size: u64,
}

impl Descriptor {
    /// How many bytes of the content may be read: never more than the descriptor states. Refuses one that states more
    /// than `limit`.
    pub(crate) fn within(&self, reference: &Reference, limit: u64) -> Result<u64, Error> {
        if self.size <= limit {
            return Ok(self.size);
        }
        let what = format!("blob {}", self.digest);
        Err(Error::TooLarge { image: reference.to_string(), what, limit, setting: "" })
    }

    /// The error for content larger than its descriptor states, which is noticed without reading on. Container runtimes
    /// refuse it too (`containerd:core/content/helpers.go`, `Copy`).
    pub(crate) fn exceeded(&self, reference: &Reference) -> Error {
        Error::Read {
            image: reference.to_string(),
            what: format!("blob {}", self.digest),
            message: format!("it has more than the {} bytes that its descriptor says", self.size),
        }
    }
}
