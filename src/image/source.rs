//! Where manifests and blobs come from: a registry or an image layout on disk.

use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Error, reference::Reference};

/// A content descriptor (OCI image-spec, `descriptor.md`), as far as detection needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// `algorithm:hex`.
    pub digest: String,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
}

/// A manifest or index as it was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The bytes; their digest has been verified when the reference named one.
    pub bytes: Bytes,
    /// `sha256:…` of the bytes, computed here.
    pub digest: String,
}

/// Something that serves manifests and blobs. Every byte that it returns has been verified against the digest it was asked for by.
pub trait Source: Send + Sync {
    /// The manifest or index that a reference names. Refuses more than `limit` bytes.
    fn manifest(
        &self,
        reference: &Reference,
        limit: u64,
    ) -> impl Future<Output = Result<FetchedManifest, Error>> + Send;

    /// A config or layer. Refuses more than `limit` bytes, whatever size the descriptor claims.
    fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;
}
