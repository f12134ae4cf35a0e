//! Where manifests and blobs come from: a registry or an image layout on disk.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinError, spawn_blocking};

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

/// The right of one look-up to run, among the limited number of concurrent ones. Held until all its work has ended.
///
/// Work on another thread cannot be cancelled from outside: it notices at its next step that its result is no longer
/// needed, and uses memory and a processor until then. So it holds the slot too, and an abandoned look-up blocks the
/// next one until its work has ended.
#[derive(Debug, Clone, Default)]
pub struct Slot {
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Slot {
    /// A slot that drops `held` together with its last clone.
    pub fn holding(held: impl Any + Send + Sync) -> Self {
        Self { _held: Some(Arc::new(held)) }
    }

    /// Does work that may block on another thread, and holds the slot until it has ended, also where its result is no longer waited for.
    pub async fn on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let slot = self.clone();
        let done = spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        done.await
    }
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

    /// Is told that what was read of the image so far suggests Wasm, also where the rest of it cannot be read.
    fn note_wasm(&self) {}

    /// The right to hold the names of all files of one root file system, which may be many: a source may make it wait.
    fn names(&self, _reference: &Reference) -> impl Future<Output = Result<Slot, Self::Error>> + Send {
        std::future::ready(Ok(Slot::default()))
    }
}
