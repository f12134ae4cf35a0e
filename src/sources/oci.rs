//! Registries, in the layout that opa reads and writes (`open-policy-agent/opa:v1/download/oci_download.go`): the archive is a layer of
//! type `application/vnd.oci.image.layer.v1.tar+gzip`. Fetched by the same guarded client as images.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::fetched::Fetched;
use super::{Error, blocking};
use crate::image::descriptor::Descriptor;
use crate::image::reference::Reference;
use crate::policy::Contents;
use crate::policy::contents::MAX_PACKED_BYTES;
use crate::registry::Registry;
use crate::registry::layout::Layouts;
use crate::registry::source::{FetchedManifest, Source as _};
use crate::text;

/// Type of the layer with the archive.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Type of a layer with Rego, as conftest pushes it.
const SOURCES: &str = "application/vnd.cncf.openpolicyagent.policy.layer.v1+rego";
/// Largest manifest, in bytes.
const MOST_MANIFEST: u64 = 4 << 20;
/// Most manifests of an index that are looked at.
const MOST_IN_INDEX: usize = 16;

/// An image manifest or an index.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Document {
    layers: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
}

/// Registries, and the folders with image layouts that stand in for some of them, as for images.
#[derive(Debug, Clone)]
pub struct Registries {
    /// The registries.
    pub registry: Registry,
    /// The folders.
    pub layouts: Arc<Layouts>,
}

impl Registries {
    /// Whether a folder stands in for the registry of this bundle.
    pub fn is_on_disk(&self, reference: &Reference) -> bool {
        self.layouts.covers(reference)
    }

    async fn manifest(&self, reference: &Reference) -> Result<FetchedManifest, crate::registry::Error> {
        if self.is_on_disk(reference) {
            return self.layouts.manifest(reference, MOST_MANIFEST).await;
        }
        self.registry.manifest(reference, MOST_MANIFEST).await
    }

    async fn blob(&self, reference: &Reference, layer: &Descriptor) -> Result<Bytes, crate::registry::Error> {
        if self.is_on_disk(reference) {
            return self.layouts.blob(reference, layer, MAX_PACKED_BYTES).await;
        }
        self.registry.blob(reference, layer, MAX_PACKED_BYTES).await
    }
}

/// A bundle in a registry.
#[derive(Debug)]
pub(super) struct Oci {
    bundle: String,
    reference: Reference,
    registries: Registries,
}

/// The archive of a bundle as it was pushed, and the digest of its manifest. It is not looked into.
pub async fn pull(reference: Reference, registries: Registries) -> Result<(Vec<u8>, String), Error> {
    Oci::new(reference.to_string(), reference, registries).archive().await
}

impl Oci {
    pub const fn new(bundle: String, reference: Reference, registries: Registries) -> Self {
        Self { bundle, reference, registries }
    }

    /// The archive as it was pushed, and the digest of its manifest.
    pub async fn archive(&self) -> Result<(Vec<u8>, String), Error> {
        let manifest = self.manifest(&self.reference).await?;
        Ok((self.packed(&manifest).await?, manifest.digest.to_string()))
    }

    async fn packed(&self, manifest: &FetchedManifest) -> Result<Vec<u8>, Error> {
        let layer = self.layer(manifest).await?;
        let bytes = self.registries.blob(&self.reference, &layer).await;
        bytes.map(|bytes| bytes.to_vec()).map_err(|error| self.failed(text::chain(&error)))
    }

    /// Asks for the manifest, and for the layer if the manifest has another digest than this.
    pub async fn fetch(&mut self, digest: &str) -> Result<Fetched, Error> {
        let manifest = self.manifest(&self.reference).await?;
        let version = manifest.digest.to_string();
        if version == digest {
            return Ok(Fetched::Unchanged);
        }
        let bytes = self.packed(&manifest).await?;
        let name = self.bundle.clone();
        let unpacked = move || Ok(Fetched::New { contents: Contents::from_tar_gz(&name, &bytes), version });
        blocking(&self.bundle, unpacked).await
    }

    async fn manifest(&self, reference: &Reference) -> Result<FetchedManifest, Error> {
        let fetched = self.registries.manifest(reference).await;
        fetched.map_err(|error| self.failed(text::chain(&error)))
    }

    /// The layer with the archive, of a manifest or of those in an index, which must have the same.
    async fn layer(&self, manifest: &FetchedManifest) -> Result<Descriptor, Error> {
        let Document { layers, manifests } = self.document(manifest)?;
        let mut found = self.archive_of(&layers)?;
        for one in manifests.iter().take(MOST_IN_INDEX) {
            let inner = self.manifest(&self.reference.with_digest(&one.digest)).await?;
            let layer = self.archive_of(&self.document(&inner)?.layers)?;
            match (&found, layer) {
                (Some(found), Some(layer)) if found.digest != layer.digest => {
                    return Err(self.failed(
                        "its manifests have different archives; push one bundle under one name".into(),
                    ));
                }
                (None, layer) => found = layer,
                _ => {}
            }
        }
        if let Some(layer) = found {
            return Ok(layer);
        }
        let message = if layers.iter().any(|layer| layer.media_type == SOURCES) {
            "it holds Rego and no compiled bundle; push the archive that `wasmgate policy build` writes"
                .into()
        } else {
            format!("it has no layer of type `{LAYER}`")
        };
        Err(self.failed(message))
    }

    /// The layer with the archive, if there is one. Of several it is not known which is meant.
    fn archive_of(&self, layers: &[Descriptor]) -> Result<Option<Descriptor>, Error> {
        let mut archives = layers.iter().filter(|layer| layer.media_type == LAYER);
        let first = archives.next();
        match archives.count() {
            0 => Ok(first.cloned()),
            more => Err(self.failed(format!(
                "it has {} layers of type `{LAYER}`; push one archive, and others under names of their own",
                more + 1
            ))),
        }
    }

    fn document(&self, manifest: &FetchedManifest) -> Result<Document, Error> {
        serde_json::from_slice(&manifest.bytes)
            .map_err(|error| self.failed(format!("its manifest cannot be read: {error}")))
    }

    fn failed(&self, message: String) -> Error {
        Error::FetchBundle { bundle: self.bundle.clone(), from: format!("oci://{}", self.reference), message }
    }
}
