//! All sources of images behind one [`Source`]: a layout on disk if one stands in for the registry, else the registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::Error;
use super::SizeLimits;
use super::memory::{LayerMemory, need};
use super::running::Progress;
use crate::image::Digest;
use crate::image::descriptor::Descriptor;
use crate::image::reference::Reference;
use crate::registry::layout::Layouts;
use crate::registry::source::{FetchedManifest, Slot, Source};
use crate::registry::{PullIdentity, Registry};
use crate::shares::Shares;

/// All sources of images.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) registry: Registry,
    pub(super) layouts: Arc<Layouts>,
}

impl Images {
    /// The same, asked for a pod.
    pub(super) fn asked_by(&self, asker: &PullIdentity) -> Arc<Self> {
        Arc::new(Self { registry: self.registry.asked_by(asker), layouts: self.layouts.clone() })
    }

    /// Whether an image may be looked up, judged by its name alone. Checked even if facts are remembered, so that the
    /// answer does not depend on earlier requests.
    pub(super) fn admit(&self, reference: &Reference) -> Result<(), Error> {
        if self.layouts.covers(reference) {
            return Ok(());
        }
        Ok(self.registry.guard().check_name(reference)?)
    }

    pub(super) fn is_suspect(&self, reference: &Reference, asker: &PullIdentity) -> bool {
        !self.layouts.covers(reference) && self.registry.is_suspect(reference, asker)
    }
}

impl Source for Images {
    type Error = Error;

    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        if self.layouts.covers(reference) {
            return Ok(self.layouts.manifest(reference, limit).await?);
        }
        Ok(self.registry.manifest(reference, limit).await?)
    }

    async fn blob(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if self.layouts.covers(reference) {
            return Ok(self.layouts.blob(reference, descriptor, limit).await?);
        }
        Ok(self.registry.blob(reference, descriptor, limit).await?)
    }
}

/// The source for one look-up. It fetches small documents once, and a layer only when there is memory for it.
pub(super) struct LookupSource {
    pub(super) images: Arc<Images>,
    pub(super) memory: Arc<LayerMemory>,
    pub(super) names: Arc<Shares>,
    pub(super) limits: SizeLimits,
    pub(super) namespace: Arc<str>,
    pub(super) progress: Arc<Progress>,
    /// The name by which the manifest was requested; it finds the manifest again.
    pub(super) reference: Reference,
    pub(super) digest: Digest,
    pub(super) documents: Documents,
}

/// Most bytes of manifests and configs that are kept, beside the first manifest. Those of an image have some ten thousand; a
/// larger one is fetched again.
const MOST_DOCUMENTS: u64 = 1 << 20;

/// Manifests and configs fetched so far: two passes over one image, the second of which goes deeper, fetch them once.
#[derive(Debug, Default)]
pub(super) struct Documents {
    kept: Mutex<HashMap<Digest, Bytes>>,
}

impl Documents {
    /// Starts with the manifest.
    pub(super) fn new(manifest: FetchedManifest) -> Self {
        Self { kept: Mutex::new(HashMap::from([(manifest.digest, manifest.bytes)])) }
    }

    fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Keeps a document, as long as all together are no larger than `most`.
    fn keep(&self, digest: &Digest, bytes: &Bytes, most: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = kept.values().map(|bytes| bytes.len() as u64).sum::<u64>();
        if sum.saturating_add(bytes.len() as u64) <= most {
            kept.insert(digest.clone(), bytes.clone());
        }
    }
}

impl Source for LookupSource {
    type Error = Error;

    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        let digest =
            if *reference == self.reference { Some(&self.digest) } else { reference.digest.as_ref() };
        let same = (&reference.registry, &reference.repository)
            == (&self.reference.registry, &self.reference.repository);
        if let Some(digest) = digest.filter(|_| same)
            && let Some(bytes) = self.documents.get(digest)
        {
            return Ok(FetchedManifest { bytes, digest: digest.clone() });
        }
        let fetched = self.images.manifest(reference, limit).await?;
        self.documents.keep(&fetched.digest, &fetched.bytes, MOST_DOCUMENTS);
        Ok(fetched)
    }

    async fn blob(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if let Some(bytes) = self.documents.get(&descriptor.digest) {
            return Ok(bytes);
        }
        let bytes = self.images.blob(reference, descriptor, limit).await?;
        self.documents.keep(&descriptor.digest, &bytes, MOST_DOCUMENTS);
        Ok(bytes)
    }

    async fn layer(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, Error> {
        let bytes = need(descriptor, &self.limits);
        let reserving = self.memory.reserve(&self.namespace, bytes);
        let reservation = self.progress.waiting_for_memory(reserving).await;
        let reservation = reservation.ok_or_else(|| Error::ExceedMemory {
            image: reference.to_string(),
            layer: descriptor.digest.to_string(),
            bytes,
            total: self.memory.total(),
        })?;
        Ok(reservation.hold(self.images.blob(reference, descriptor, limit).await?))
    }

    fn note_wasm(&self) {
        self.progress.note_wasm();
    }

    async fn names(&self, _reference: &Reference) -> Result<Slot, Error> {
        let taking = self.names.take(&self.namespace, 1);
        Ok(Slot::holding(self.progress.waiting_for_memory(taking).await))
    }
}
