//! From a reference to facts, with any source: manifest, then config, then as few layers as the answer needs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::image::annotation;
use crate::image::config;
use crate::image::descriptor::Descriptor;
use crate::image::hints::{self, Next};
use crate::image::layer::ALL_LAYERS;
use crate::image::malformed::Malformed;
use crate::image::manifest::{self, Document, ImageManifest, ManifestKind};
use crate::image::platform::Nodes;
use crate::image::reference::Reference;
use crate::image::{Depth, Error, ImageFacts, Shape};
use crate::registry::source::{FetchedManifest, Slot, Source};

mod index;
mod layers;
mod rootfs;

/// Why an image does not start whose config may be that of any other Wasm layer.
const OF_NO_LAYER: &str = "its config does not name its Wasm layer alone, so a node may start that of another image with the same \
    config; push it with `wkg` or `spin registry push`, which name it";

/// Most documents that lead from one to the next: an index, one in it, a manifest of that, and its config.
const DOCUMENTS: usize = 4;

/// How long it is looked for what suggests Wasm behind a document that is refused. The rest of the time of its look-up is left to say why it is.
const FOR_HINTS: Duration = Duration::from_secs(2);

/// How errors name the settings of [`SizeLimits`].
const OF_MANIFEST: &str = "`images.limits.manifest`";
const OF_CONFIG: &str = "`images.limits.config`";
const OF_LAYER: &str = "`images.limits.layer`";
const OF_UNPACKED: &str = "`images.limits.unpacked`";
/// The same of all layers together ([`ALL_LAYERS`]).
const OF_LAYERS: &str = "four times `images.limits.layer`";
const OF_ALL_UNPACKED: &str = "four times `images.limits.unpacked`";

/// Sizes above which a look-up refuses to read, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SizeLimits {
    /// Manifest or index.
    pub manifest: u64,
    /// Config or locked app.
    pub config: u64,
    /// One layer as transferred; all layers together may have four times as much.
    pub layer: u64,
    /// One layer after decompression.
    pub unpacked: u64,
}

impl Default for SizeLimits {
    /// Registries refuse manifests over 4 MiB (`distribution:registry/handlers/manifests.go`); components with an
    /// interpreter reach tens of megabytes.
    fn default() -> Self {
        Self { manifest: 4 << 20, config: 4 << 20, layer: 128 << 20, unpacked: 512 << 20 }
    }
}

/// Reads as much of an image as is needed, and returns what it is.
pub async fn detect<S: Source>(
    source: &S,
    reference: &Reference,
    depth: Depth,
    limits: &SizeLimits,
) -> Result<ImageFacts, S::Error> {
    detect_for(&Nodes::default(), Slot::default(), source, reference, depth, limits).await
}

/// [`detect`] for a look-up that has a slot, and for these nodes.
pub async fn detect_for<S: Source>(
    nodes: &Nodes,
    slot: Slot,
    source: &S,
    reference: &Reference,
    depth: Depth,
    limits: &SizeLimits,
) -> Result<ImageFacts, S::Error> {
    let (names, image) = (OnceCell::new(), reference.to_string());
    let look = Look { source, reference, depth, limits, nodes, slot, names, image };
    let FetchedManifest { bytes, digest } = look.manifest(reference).await?;
    let facts = match look.document(bytes, manifest::parse, "the manifest").await? {
        Document::Manifest(manifest) => {
            let facts = ImageFacts::blank(&digest, &digest);
            look.image(facts, &manifest).await?
        }
        Document::Index(entries) => look.index(&digest, &entries).await?,
    };
    // While the right to hold the names of all files is held.
    look.on_blocking_thread("the facts", move || compact(facts)).await
}

/// Facts as they are remembered: a copy has no spare capacity in its strings and lists, while facts that grew piece by piece have a
/// quarter or more. Of the modules and the files, which take the most, no more than one is there twice at a time.
fn compact(facts: ImageFacts) -> ImageFacts {
    let mut facts = facts.harmless();
    let modules = copied(std::mem::take(&mut facts.modules));
    let files = copied(std::mem::take(&mut facts.files));
    ImageFacts { modules, files, ..facts.clone() }
}

fn copied<T: Clone>(items: Vec<T>) -> Vec<T> {
    let mut copies = Vec::with_capacity(items.len());
    for item in items {
        copies.push(item.clone());
    }
    copies
}

/// One inspection of an image.
struct Look<'a, S> {
    source: &'a S,
    reference: &'a Reference,
    depth: Depth,
    limits: &'a SizeLimits,
    nodes: &'a Nodes,
    slot: Slot,
    /// The right to hold the names of all files of a root file system, from the first one that is read until the look-up ends.
    names: OnceCell<Slot>,
    image: String,
}

/// Stops work on another thread when the look-up is given up.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<S: Source> Look<'_, S> {
    fn error(&self, what: &str, malformed: Malformed) -> S::Error {
        Error::Read { image: self.image.clone(), what: what.to_string(), message: malformed.0 }.into()
    }

    fn too_large(&self, what: impl Into<String>, limit: u64, setting: &'static str) -> S::Error {
        Error::TooLarge { image: self.image.clone(), what: what.into(), limit, setting }.into()
    }

    /// A document, whose bytes are dropped.
    async fn parsed<T: Send + 'static>(
        &self,
        bytes: Bytes,
        parse: fn(&[u8]) -> Result<T, Malformed>,
        what: &str,
    ) -> Result<T, S::Error> {
        let read = self.on_blocking_thread(what, move || parse(&bytes)).await?;
        read.map_err(|malformed| self.error(what, malformed))
    }

    /// The same of a manifest, an index or a config. A node may read one that is refused here, so what it suggests is noted.
    async fn document<T: Send + 'static>(
        &self,
        bytes: Bytes,
        parse: fn(&[u8]) -> Result<T, Malformed>,
        what: &str,
    ) -> Result<T, S::Error> {
        let read = self.parsed(bytes.clone(), parse, what).await;
        if read.is_err() {
            self.note_hints_in_time(bytes).await;
        }
        read
    }

    /// [`Look::note_hints`], as far as it comes in a short time.
    async fn note_hints_in_time(&self, bytes: Bytes) {
        // What is noted until then stays noted.
        let _elapsed = tokio::time::timeout(FOR_HINTS, Box::pin(self.note_hints(bytes))).await;
    }

    /// Notes whether a document suggests Wasm, or one that a node reads after it. What cannot be read suggests nothing.
    async fn note_hints(&self, bytes: Bytes) {
        let mut read = bytes;
        for _ in 0..DOCUMENTS {
            let Ok(hints) = self.on_blocking_thread("a document", move || hints::read(&read)).await else {
                return;
            };
            if hints.is_wasm {
                self.source.note_wasm();
                return;
            }
            let Some(next) = hints.next else { return };
            let Some(bytes) = self.after(next).await else { return };
            read = bytes;
        }
        // A node reads on, and no tool writes so many.
        self.source.note_wasm();
    }

    /// What a node reads after a document, if it can be had.
    async fn after(&self, next: Next) -> Option<Bytes> {
        match next {
            Next::Config(config) => self.blob(&config, "the config", self.limits.config).await.ok(),
            Next::Manifest(manifest) => {
                let fetched = self.manifest(&self.reference.with_digest(&manifest.digest)).await.ok()?;
                Some(fetched.bytes)
            }
        }
    }

    /// Notes what the manifest says of Wasm, before anything after it is read.
    fn note_manifest(&self, facts: &mut ImageFacts, manifest: &ImageManifest) {
        facts.wasm_media_type = hints::has_wasm_type(manifest);
        if facts.wasm_media_type || annotation::crun_annotation(&manifest.annotations).is_some() {
            self.source.note_wasm();
        }
    }

    async fn manifest(&self, reference: &Reference) -> Result<FetchedManifest, S::Error> {
        let limit = self.limits.manifest;
        let fetched = self.source.manifest(reference, limit).await?;
        if fetched.bytes.len() as u64 > limit {
            return Err(self.too_large("the manifest", limit, OF_MANIFEST));
        }
        Ok(fetched)
    }

    /// A config or a locked app.
    async fn blob(&self, descriptor: &Descriptor, what: &str, limit: u64) -> Result<Bytes, S::Error> {
        if descriptor.size > limit {
            return Err(self.too_large(what, limit, OF_CONFIG));
        }
        let bytes = self.source.blob(self.reference, descriptor, limit).await?;
        self.check_size(descriptor, bytes.len(), what)?;
        Ok(bytes)
    }

    async fn layer(&self, descriptor: &Descriptor, what: &str) -> Result<Bytes, S::Error> {
        if descriptor.size > self.limits.layer {
            return Err(self.too_large(what, self.limits.layer, OF_LAYER));
        }
        let bytes = self.source.layer(self.reference, descriptor, self.limits.layer).await?;
        self.check_size(descriptor, bytes.len(), what)?;
        Ok(bytes)
    }

    /// containerd refuses such a blob too (`containerd:core/content`, "unexpected commit size").
    fn check_size(&self, descriptor: &Descriptor, real: usize, what: &str) -> Result<(), S::Error> {
        if real as u64 == descriptor.size {
            return Ok(());
        }
        let said = descriptor.size;
        let malformed =
            format!("it has {real} bytes, where its descriptor says {said}; push the image again");
        Err(self.error(what, Malformed::new(malformed)))
    }

    async fn image(&self, mut facts: ImageFacts, manifest: &ImageManifest) -> Result<ImageFacts, S::Error> {
        self.note_manifest(&mut facts, manifest);
        facts.saw("manifest.config.mediaType", &manifest.config.media_type);
        if !manifest.artifact_type.is_empty() {
            facts.saw("manifest.artifactType", &manifest.artifact_type);
        }
        let kinds: BTreeSet<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        facts.saw("manifest.layers[].mediaType", kinds.into_iter().collect::<Vec<_>>().join(", "));
        // crun and proxy-wasm share `module.wasm.image/variant`: it only causes the files to be read, which then decide.
        for (place, value) in annotation::seen(&manifest.annotations) {
            facts.saw(place, value);
        }
        let layout = manifest::layout(manifest);
        match layout {
            ManifestKind::Other(what) => {
                return Ok(self.with_config(facts, manifest).await?.not_startable(what));
            }
            ManifestKind::SpinLegacy => return self.spin_legacy(facts, manifest).await,
            _ => {}
        }
        let config = self.adopted(&mut facts, manifest).await?;
        if layout != ManifestKind::Rootfs {
            config.check_labels().map_err(|malformed| self.error("the config", malformed))?;
        }
        match layout {
            ManifestKind::Rootfs => self.rootfs(facts, manifest, &config).await,
            _ if manifest.unreadable_by_shims.is_some() => Ok(facts.not_startable(format!(
                "the shims cannot read its manifest, and would start files instead of the Wasm layers: {}; push it again \
                 with a current tool",
                manifest.unreadable_by_shims.as_deref().unwrap_or_default()
            ))),
            _ if config.os.is_empty() => Ok(facts.not_startable(
                "its config names no `os`, without which the shims cannot read it; push it again with a current tool",
            )),
            _ if config.architecture != "wasm" => Ok(facts.not_startable(format!(
                "its config says the architecture `{}`; the shims take Wasm layers only where it is `wasm`",
                config.architecture
            ))),
            _ if !manifest::leading_layer(manifest).is_some_and(|layer| config.is_of_layer(&layer.digest)) => {
                Ok(facts.not_startable(OF_NO_LAYER))
            }
            ManifestKind::SpinArtifact => self.spin(facts, manifest, &config).await,
            ManifestKind::WasmArtifact => {
                self.single(facts, manifest, Shape::WasmArtifact, Some(&config)).await
            }
            _ => self.single(facts, manifest, Shape::RunwasiLayers, None).await,
        }
    }

    /// The config, whose fields the facts have adopted.
    async fn adopted(
        &self,
        facts: &mut ImageFacts,
        manifest: &ImageManifest,
    ) -> Result<config::Config, S::Error> {
        let bytes = self.blob(&manifest.config, "the config", self.limits.config).await?;
        let config = self.document(bytes, config::parse, "the config").await?;
        facts.adopt(&config);
        if facts.config_says_wasm() {
            self.source.note_wasm();
        }
        Ok(config)
    }

    /// The facts with the config of a container image whose layers are not read, such as file systems of EROFS: it says what the image
    /// is meant for. Where that cannot be had the image is unread, although its manifest says already that nothing starts it. Facts are kept by
    /// the digest of the image, on disk too: without the config they would say for good that it suggests no Wasm, and its pods would be left alone
    /// under a class that no profile describes. A look-up that failed is made again. Under a Wasm class the pod is denied either way, and without
    /// a class it is left alone either way.
    async fn with_config(
        &self,
        mut facts: ImageFacts,
        manifest: &ImageManifest,
    ) -> Result<ImageFacts, S::Error> {
        let is_image =
            [manifest::OCI_CONFIG, manifest::DOCKER_CONFIG].contains(&manifest.config.media_type.as_str());
        if is_image && !facts.wasm_media_type {
            self.adopted(&mut facts, manifest).await?;
        }
        Ok(facts)
    }

    /// Parses on another thread: reviews must not wait for each other's images.
    async fn on_blocking_thread<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, S::Error> {
        let done = self.slot.on_blocking_thread(work).await;
        done.map_err(|error| self.error(what, Malformed::new(format!("reading it was interrupted: {error}"))))
    }

    /// Checks the sizes in the descriptors; the bytes that arrive are measured again.
    fn check_sizes(&self, layers: &[Descriptor]) -> Result<(), S::Error> {
        if let Some(large) = layers.iter().find(|layer| layer.size > self.limits.layer) {
            return Err(self.too_large(format!("layer {}", large.digest), self.limits.layer, OF_LAYER));
        }
        let total = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let limit = self.limits.layer.saturating_mul(ALL_LAYERS);
        if total > limit { Err(self.too_large("all layers together", limit, OF_LAYERS)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::image::{Digest, FileClass, ModuleFacts, WasmFormat};

    struct Nothing;
    impl Source for Nothing {
        type Error = Error;

        async fn manifest(&self, reference: &Reference, _: u64) -> Result<FetchedManifest, Error> {
            let (image, what) = (reference.to_string(), "the manifest".into());
            Err(Error::Read { image, what, message: "nothing is here".into() })
        }
        async fn blob(&self, reference: &Reference, _: &Descriptor, limit: u64) -> Result<Bytes, Error> {
            self.manifest(reference, limit).await.map(|manifest| manifest.bytes)
        }
    }

    #[test]
    fn facts_that_are_remembered_are_what_was_read() {
        let digest = Digest::of(b"image");
        let module = ModuleFacts {
            exports: ["run".to_string()].into(),
            ..ModuleFacts::blank("/app.wasm", WasmFormat::Component)
        };
        let facts = ImageFacts {
            entrypoint: vec!["/app.wasm".into()],
            files: vec![("/app.wasm".into(), FileClass::Wasm)],
            modules: vec![module],
            ..ImageFacts::blank(&digest, &digest)
        };
        assert_eq!(compact(facts.clone()), facts);
    }

    #[tokio::test]
    async fn work_on_another_thread_keeps_the_slot_of_an_abandoned_look_up() {
        let places = Arc::new(Semaphore::new(1));
        let reference = Reference::parse("samples.test/a:1").unwrap();
        let (begun, go) = (Arc::new(tokio::sync::Notify::new()), mpsc::channel::<()>());
        let look = Look {
            source: &Nothing,
            reference: &reference,
            depth: Depth::Layers,
            limits: &SizeLimits::default(),
            nodes: &Nodes::default(),
            slot: Slot::holding(Arc::clone(&places).acquire_owned().await.unwrap()),
            names: OnceCell::new(),
            image: reference.to_string(),
        };
        let (begin, wait) = (Arc::clone(&begun), go.1);
        let mut work = Box::pin(look.on_blocking_thread("a layer", move || {
            begin.notify_one();
            wait.recv().unwrap();
        }));
        tokio::select! {
            _ = &mut work => panic!("it waits"),
            () = begun.notified() => {}
        }
        drop(work);
        drop(look);
        assert_eq!(places.available_permits(), 0, "no caller waits, but the work goes on");
        go.0.send(()).unwrap();
        let place = tokio::time::timeout(Duration::from_secs(20), places.acquire()).await;
        assert!(place.is_ok(), "the place comes back with the end of the work");
    }
}
