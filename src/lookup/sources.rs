//! Everything that images come from, behind one [`Source`]: layouts on disk where one stands in, the registry otherwise.

use std::sync::Arc;

use bytes::Bytes;

use super::Error;
use crate::image::reference::Reference;
use crate::image::source::{Descriptor, FetchedManifest, Source};
use crate::registry::layout::Layouts;
use crate::registry::{Login, Registry};

/// Everything that images come from.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) registry: Registry,
    pub(super) layouts: Arc<Layouts>,
}

impl Images {
    /// The same, asked with somebody's credentials first.
    pub(super) fn pulled_with(self: &Arc<Self>, logins: &[Login]) -> Arc<Self> {
        if logins.is_empty() {
            return Arc::clone(self);
        }
        let registry = self.registry.pulled_with(logins.to_vec());
        Arc::new(Self { registry, layouts: self.layouts.clone() })
    }

    /// Whether an image may be looked at, as far as its name alone says. Asked also where facts are remembered, so
    /// that the answer does not depend on what others asked before.
    pub(super) fn admit(&self, reference: &Reference) -> Result<(), Error> {
        if self.layouts.covers(reference) {
            return Ok(());
        }
        Ok(self.registry.guard().check_name(reference)?)
    }

    pub(super) fn is_suspect(&self, reference: &Reference) -> bool {
        !self.layouts.covers(reference) && self.registry.is_suspect(reference)
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

/// The images' source with one manifest at hand that was fetched already, so that it is not fetched twice.
pub(super) struct Primed {
    pub(super) images: Arc<Images>,
    pub(super) reference: Reference,
    pub(super) manifest: FetchedManifest,
}

impl Source for Primed {
    type Error = Error;

    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        let same = (&reference.registry, &reference.repository)
            == (&self.reference.registry, &self.reference.repository);
        let by_digest = reference.digest.as_ref() == Some(&self.manifest.digest);
        if same && (*reference == self.reference || by_digest) {
            return Ok(self.manifest.clone());
        }
        self.images.manifest(reference, limit).await
    }

    async fn blob(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        self.images.blob(reference, descriptor, limit).await
    }
}
