//! Where manifests and blobs come from: a registry or an image layout on disk.

use std::future::Future;

use bytes::Bytes;

use crate::image::descriptor::Descriptor;
use crate::image::reference::Reference;
use crate::image::{Digest, Error};

/// A manifest or index as served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The bytes; their digest has been verified when the reference named one.
    pub bytes: Bytes,
    /// Digest of the bytes, computed here: by the algorithm of the reference's own digest when it names one, else
    /// by SHA-256.
    pub digest: Digest,
}

/// Serves manifests and blobs. Every byte that it returns has been verified against the requested digest.
pub trait Source: Send + Sync {
    /// Why nothing can be read. Errors in the content are converted into it.
    type Error: From<Error> + Send;

    /// The manifest or index that a reference names. Refuses more than `limit` bytes.
    fn manifest(
        &self,
        reference: &Reference,
        limit: u64,
    ) -> impl Future<Output = Result<FetchedManifest, Self::Error>> + Send;

    /// A config or layer. Refuses more than `limit` bytes, whatever size the descriptor states.
    fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;

    /// The same for a layer, which may be large: a source may make it wait for memory.
    fn layer(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> impl Future<Output = Result<Bytes, Self::Error>> + Send {
        self.blob(reference, descriptor, limit)
    }
}
