//! From a reference to facts, against any source: manifest, then config, then as few layers as the answer needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::archive::Fault;
use super::config::{self, Config};
use super::layer::{Tree, UnpackLimits};
use super::malformed::{Malformed, harmless, short};
use super::manifest::{self, Document, ImageManifest, ManifestKind};
use super::module::{self, Magic};
use super::program::{self, CONCLUSION};
use super::reference::Reference;
use super::rootfs::{APPLICATION_FILES, crun_annotation, described};
use super::source::{Descriptor, FetchedManifest, Source};
use super::{
    Depth, Digest, Error, Evidence, FileClass, ImageFacts, ImageKind, ModuleFacts, NEEDS_COMMAND, NativeCode,
    Program, Shape, SpinApp, path, runner, spin,
};

/// Layers that are fetched at the same time.
const PARALLEL: usize = 4;
/// How many times the limit of one layer all layers of an image may have together.
const ALL_LAYERS: u64 = 4;
/// Most Wasm layers of one image.
const MAX_WASM_LAYERS: usize = 128;
/// Most pairs of a module and a component that runs it.
const MAX_USES: usize = 128;
/// Most other entries of one index whose programs are compared; official images are built for up to nine platforms.
const MAX_PLATFORMS: usize = 16;

/// Sizes that a look-up refuses to pass, in bytes.
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
    /// Registries refuse manifests over 4 MiB (`distribution:registry/handlers/manifests.go`); interpreters' components reach tens of megabytes.
    fn default() -> Self {
        Self { manifest: 4 << 20, config: 4 << 20, layer: 128 << 20, unpacked: 512 << 20 }
    }
}

/// One of the concurrent look-ups that are allowed, held until all work of that look-up has ended.
///
/// Work on another thread cannot be ended from outside: it notices at its next step that its result is no longer
/// wanted, and until then it uses memory and a processor. So it holds the slot too, and a look-up that was given up makes no space for
/// another one before its work has ended.
#[derive(Debug, Clone, Default)]
pub struct Slot {
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl Slot {
    /// Waits for a place.
    pub async fn of(places: &Arc<Semaphore>) -> Self {
        // Nobody closes it; without one a look-up goes on.
        let permit = Arc::clone(places).acquire_owned().await.ok();
        Self { _permit: permit.map(Arc::new) }
    }
}

/// The processor architectures of the nodes, as far as somebody says that there are no others.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    /// In Go's names; empty for any.
    architectures: Arc<[String]>,
}

impl Nodes {
    /// Nodes of these architectures only; of any where the list is empty. The kernel's names are taken too
    /// (`containerd:platforms/database.go`, `normalizeArch`).
    pub fn of(architectures: &[String]) -> Self {
        let named = |name: &String| match name.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_string(),
            "aarch64" => "arm64".to_string(),
            other => other.to_string(),
        };
        Self { architectures: architectures.iter().map(named).collect() }
    }

    /// Whether one of them may read this entry of an index. 64-bit nodes take what is built for their 32-bit kin when
    /// there is nothing better (`containerd:platforms/compare.go`, `platformVector`).
    fn may_read(&self, platform: &str) -> bool {
        let Some(("linux", entry)) = platform.split_once('/') else { return true };
        let entry = entry.split('/').next().unwrap_or(entry);
        let kin = |node: &String| matches!((node.as_str(), entry), ("amd64", "386") | ("arm64", "arm"));
        self.architectures.is_empty() || self.architectures.iter().any(|node| node == entry || kin(node))
    }
}

/// Reads what is needed of an image, and no more, and says what it is.
pub async fn detect<S: Source>(
    source: &S,
    reference: &Reference,
    depth: Depth,
    limits: &SizeLimits,
) -> Result<ImageFacts, S::Error> {
    detect_for(&Nodes::default(), Slot::default(), source, reference, depth, limits).await
}

/// [`detect`], by a look-up that has a place, and for these nodes.
pub async fn detect_for<S: Source>(
    nodes: &Nodes,
    slot: Slot,
    source: &S,
    reference: &Reference,
    depth: Depth,
    limits: &SizeLimits,
) -> Result<ImageFacts, S::Error> {
    let look = Look { source, reference, depth, limits, nodes, slot, image: reference.to_string() };
    let fetched = look.manifest(reference).await?;
    let facts = match look.parsed(&fetched.bytes, manifest::parse, "the manifest")? {
        Document::Manifest(manifest) => {
            let facts = blank(&fetched.digest, &fetched.digest);
            look.image(facts, &manifest).await
        }
        Document::Index(entries) => look.index(&fetched.digest, &entries).await,
    };
    facts.map(ImageFacts::harmless)
}

/// Facts about which nothing is known yet.
fn blank(digest: &Digest, manifest_digest: &Digest) -> ImageFacts {
    ImageFacts {
        digest: digest.clone(),
        manifest_digest: manifest_digest.clone(),
        kind: ImageKind::Unknown,
        shape: Shape::Other,
        platform: String::new(),
        evidence: Vec::new(),
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        modules: Vec::new(),
        files: Vec::new(),
        scanned: false,
        native: Vec::new(),
        spin: None,
        warnings: Vec::new(),
        claims: Vec::new(),
    }
}

impl ImageFacts {
    pub(super) fn saw(&mut self, seen: impl Into<String>, value: impl Into<String>) {
        self.evidence.push(Evidence { seen: seen.into(), value: short(&value.into()) });
    }

    /// The same, with everything that is only for people to read made harmless, wherever in the image it was found. Names,
    /// paths and commands stay what they are: they are compared with what a pod says.
    fn harmless(mut self) -> Self {
        let evidence =
            self.evidence.iter_mut().flat_map(|evidence| [&mut evidence.seen, &mut evidence.value]);
        let claims =
            self.claims.iter_mut().flat_map(|claim| [&mut claim.field, &mut claim.claimed, &mut claim.found]);
        for text in evidence.chain(claims).chain(&mut self.warnings) {
            *text = harmless(text);
        }
        self
    }

    /// The same, as something that no runtime can start.
    pub(super) fn not_startable(mut self, why: impl Into<String>) -> Self {
        self.kind = ImageKind::Unknown;
        self.shape = Shape::Other;
        self.saw(CONCLUSION, why);
        self
    }

    /// Takes the kind from what the image's own entry point starts.
    pub(super) fn concluded(mut self) -> Self {
        let (kind, why) = match program::program(&self, &[], &[]) {
            Program::Wasm { kind, .. } => (kind, kind.as_str().to_string()),
            Program::Linux => (ImageKind::Linux, "an ordinary container image".to_string()),
            Program::Native { source, magic } => (
                ImageKind::Unknown,
                format!("`{source}` is native code ({magic}) in an image that is packed as Wasm"),
            ),
            Program::Unknown { reason } => (ImageKind::Unknown, reason),
        };
        self.kind = kind;
        self.saw(CONCLUSION, why);
        self.add_feature_warnings();
        self
    }

    /// What the default runtime of modules and components does not link, said before a pod fails on it.
    fn add_feature_warnings(&mut self) {
        if let Program::Wasm { kind, modules, .. } = program::program(self, &[], &[])
            && kind != ImageKind::SpinApp
        {
            let modules = modules.iter().filter_map(|number| self.modules.get(*number));
            self.warnings.extend(modules.filter_map(runner::warning).collect::<Vec<_>>());
        }
    }
}

/// One look-up.
struct Look<'a, S> {
    source: &'a S,
    reference: &'a Reference,
    depth: Depth,
    limits: &'a SizeLimits,
    nodes: &'a Nodes,
    slot: Slot,
    image: String,
}

/// Stops work on another thread when the look-up is given up.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a layer that is declared to be Wasm holds.
enum WasmLayer {
    Module(Box<ModuleFacts>),
    Native(NativeCode),
}

impl<S: Source> Look<'_, S> {
    fn error(&self, what: &str, malformed: Malformed) -> S::Error {
        Error::Read { image: self.image.clone(), what: what.to_string(), message: malformed.0 }.into()
    }

    fn too_large(&self, what: impl Into<String>, limit: u64) -> S::Error {
        Error::TooLarge { image: self.image.clone(), what: what.into(), limit }.into()
    }

    fn parsed<T>(
        &self,
        bytes: &[u8],
        parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
        what: &str,
    ) -> Result<T, S::Error> {
        parse(bytes).map_err(|malformed| self.error(what, malformed))
    }

    async fn manifest(&self, reference: &Reference) -> Result<FetchedManifest, S::Error> {
        let limit = self.limits.manifest;
        let fetched = self.source.manifest(reference, limit).await?;
        if fetched.bytes.len() as u64 > limit {
            return Err(self.too_large("the manifest", limit));
        }
        Ok(fetched)
    }

    async fn blob(&self, descriptor: &Descriptor, what: &str, limit: u64) -> Result<Bytes, S::Error> {
        if descriptor.size > limit {
            return Err(self.too_large(what, limit));
        }
        let bytes = self.source.blob(self.reference, descriptor, limit).await?;
        // containerd refuses such a blob too (`containerd:core/content`, "unexpected commit size").
        if bytes.len() as u64 != descriptor.size {
            let (real, said) = (bytes.len(), descriptor.size);
            let malformed = Malformed::new(format!("it has {real} bytes, where its descriptor says {said}"));
            return Err(self.error(what, malformed));
        }
        Ok(bytes)
    }

    /// The manifest that an index leads to.
    async fn entry(&self, entry: &manifest::IndexEntry) -> Result<ImageManifest, S::Error> {
        if entry.descriptor.size > self.limits.manifest {
            return Err(self.too_large("a manifest of the index", self.limits.manifest));
        }
        let fetched = self.manifest(&self.reference.with_digest(&entry.descriptor.digest)).await?;
        match self.parsed(&fetched.bytes, manifest::parse, "a manifest of the index")? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => {
                let malformed = Malformed::new("it leads to another index; push an index of manifests");
                Err(self.error("the index", malformed))
            }
        }
    }

    async fn index(&self, digest: &Digest, entries: &[manifest::IndexEntry]) -> Result<ImageFacts, S::Error> {
        let choice = match manifest::choose(entries) {
            Ok(choice) => choice,
            Err(nothing) => return Ok(blank(digest, digest).not_startable(format!("the index: {nothing}"))),
        };
        let chosen = self.entry(&choice.entry).await?;
        let mut facts = blank(digest, &choice.entry.descriptor.digest);
        facts.saw("index.manifests", choice.reason);
        facts.warnings.extend(choice.warning);
        let facts = self.image(facts, &chosen).await?;
        // An ordinary image under an ordinary runtime runs no Wasm on any platform.
        let ordinary = facts.shape == Shape::LinuxRootfs && !facts.scanned;
        let startable = !matches!(facts.shape, Shape::Other | Shape::SpinLegacy);
        if startable && (self.depth == Depth::Layers || !ordinary) {
            return self.same_everywhere(facts, entries, &choice.entry).await;
        }
        Ok(facts)
    }

    /// A pod is pinned to the index, and every node reads the manifest of its own platform: the others must hold
    /// the same program, or what was judged would not be what runs.
    async fn same_everywhere(
        &self,
        mut facts: ImageFacts,
        entries: &[manifest::IndexEntry],
        chosen: &manifest::IndexEntry,
    ) -> Result<ImageFacts, S::Error> {
        let mut seen = BTreeSet::from([facts.manifest_digest.clone()]);
        let others: Vec<&manifest::IndexEntry> = entries
            .iter()
            .filter(|entry| may_run_instead(entry, chosen) && self.nodes.may_read(&entry.platform))
            .filter(|entry| seen.insert(entry.descriptor.digest.clone()))
            .collect();
        if others.len() > MAX_PLATFORMS {
            let count = others.len() + 1;
            return Ok(facts.not_startable(format!(
                "the index holds programs for {count} platforms; at most {} are compared, so push Wasm as one manifest",
                MAX_PLATFORMS + 1
            )));
        }
        for entry in others {
            let platform =
                if entry.platform.is_empty() { "an entry without a platform" } else { &entry.platform };
            let manifest = self.entry(entry).await?;
            let other = self.image(blank(&facts.digest, &entry.descriptor.digest), &manifest).await?;
            if !same_program(&facts, &other) {
                let why = format!(
                    "the index holds another program for `{platform}` than for `{}`; push Wasm as one manifest",
                    facts.platform
                );
                return Ok(facts.not_startable(why));
            }
            if facts.shape == Shape::LinuxRootfs {
                facts.keep_common_files(&other);
            }
            facts.saw("index.manifests", format!("{platform} holds the same program"));
        }
        Ok(facts)
    }

    async fn image(&self, mut facts: ImageFacts, manifest: &ImageManifest) -> Result<ImageFacts, S::Error> {
        facts.saw("manifest.config.mediaType", &manifest.config.media_type);
        if !manifest.artifact_type.is_empty() {
            facts.saw("manifest.artifactType", &manifest.artifact_type);
        }
        let kinds: BTreeSet<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        facts.saw("manifest.layers[].mediaType", kinds.into_iter().collect::<Vec<_>>().join(", "));
        // crun and proxy-wasm share the first one: it makes the files be read, and these decide.
        for key in ["module.wasm.image/variant", "run.oci.handler"] {
            if let Some(value) = manifest.annotations.get(key) {
                facts.saw(format!("manifest.annotations.{key}"), value);
            }
        }
        let layout = manifest::layout(manifest);
        match layout {
            ManifestKind::Other(what) => return Ok(facts.not_startable(what)),
            ManifestKind::SpinLegacy => return self.spin_legacy(facts, manifest).await,
            _ => {}
        }
        let bytes = self.blob(&manifest.config, "the config", self.limits.config).await?;
        let config = self.parsed(&bytes, config::parse, "the config")?;
        facts.adopt(&config);
        match layout {
            ManifestKind::Rootfs => self.rootfs(facts, manifest).await,
            _ if config.architecture != "wasm" => Ok(facts.not_startable(format!(
                "its config says the architecture `{}`; the shims take Wasm layers only where it is `wasm`",
                config.architecture
            ))),
            ManifestKind::SpinArtifact => self.spin(facts, manifest, &config).await,
            ManifestKind::WasmArtifact => {
                self.single(facts, manifest, Shape::WasmArtifact, Some(&config)).await
            }
            _ => self.single(facts, manifest, Shape::RunwasiLayers, None).await,
        }
    }

    /// D1 and D2: exactly one Wasm layer, which the manifest was checked for.
    async fn single(
        &self,
        mut facts: ImageFacts,
        manifest: &ImageManifest,
        shape: Shape,
        claiming: Option<&Config>,
    ) -> Result<ImageFacts, S::Error> {
        facts.shape = shape;
        let wasm = [manifest::RUNWASI_LAYER, manifest::WASM_LAYER];
        for (layer, found) in self.wasm_layers(manifest, &wasm).await? {
            facts.add_layer(&layer, found);
        }
        if let (Some(config), Some(layer), Some(module)) =
            (claiming, manifest.layers.first(), facts.modules.first())
        {
            facts.claims = config.claims(module, layer.digest.as_str());
        }
        for claim in &facts.claims.clone() {
            facts.saw(
                format!("config.{}", claim.field),
                format!("claims `{}`, where the bytes have `{}`", claim.claimed, claim.found),
            );
        }
        facts.needs_command();
        facts.needs_containerd();
        Ok(facts.concluded())
    }

    /// D3': read for the evidence only. The shim parses the config as an image config, finds no architecture in it, and
    /// falls back to files that the image does not have.
    async fn spin_legacy(
        &self,
        mut facts: ImageFacts,
        manifest: &ImageManifest,
    ) -> Result<ImageFacts, S::Error> {
        let bytes = self.blob(&manifest.config, "the locked app", self.limits.config).await?;
        // Nothing starts it, so it does not matter whether it can be read.
        if let Ok(app) = spin::parse(&bytes) {
            facts.saw(format!("locked app {}", manifest.config.digest), spin::describe(&app));
            facts.spin = Some(app);
        }
        let mut facts = facts.not_startable(
            "an old Spin application, whose locked app is its config: the Spin command starts it, and no shim does; \
             push it again with Spin 2 or later",
        );
        facts.shape = Shape::SpinLegacy;
        Ok(facts)
    }

    async fn spin(
        &self,
        mut facts: ImageFacts,
        manifest: &ImageManifest,
        config: &Config,
    ) -> Result<ImageFacts, S::Error> {
        facts.shape = Shape::SpinArtifact;
        let locked = manifest.layers.iter().find(|layer| layer.media_type == manifest::SPIN_APPLICATION);
        let Some(locked) = locked else {
            return Ok(facts.not_startable("a Spin image without a locked app"));
        };
        let bytes = self.blob(locked, "the locked app", self.limits.config).await?;
        let app = self.parsed(&bytes, spin::parse, "the locked app")?;
        if let Some(label) = config.labels.get(spin::LOCKED_APP_LABEL) {
            facts.saw(format!("config.Labels.{}", spin::LOCKED_APP_LABEL), label);
        }
        facts.saw(format!("locked app {}", locked.digest), spin::describe(&app));
        let layers = self.wasm_layers(manifest, &[manifest::SPIN_LAYER]).await?;
        self.check_components(&app, &layers)?;
        for (layer, found) in layers {
            facts.add_spin_layer(&app, &layer, found);
        }
        facts.needs_command();
        facts.needs_containerd();
        facts.kind = ImageKind::SpinApp;
        let refused = spin::refusal(&facts.modules, &app);
        facts.spin = Some(app);
        Ok(match refused {
            Some(why) => facts.not_startable(why),
            None => facts.concluded(),
        })
    }

    /// Spin looks its modules up among the image's own layers.
    fn check_components(&self, app: &SpinApp, layers: &[(Descriptor, WasmLayer)]) -> Result<(), S::Error> {
        let held: BTreeSet<&str> = layers.iter().map(|(layer, _)| layer.digest.as_str()).collect();
        let mut uses = 0;
        for component in &app.components {
            for digest in component.digest.iter().chain(&component.inherited) {
                uses += 1;
                if !held.contains(digest.as_str()) {
                    let malformed = Malformed::new(format!(
                        "component `{}` names the module `{digest}`, which is no layer of the image",
                        component.id
                    ));
                    return Err(self.error("the locked app", malformed));
                }
            }
        }
        if uses > MAX_USES {
            let malformed =
                Malformed::new(format!("its components name {uses} modules; at most {MAX_USES} are read"));
            return Err(self.error("the locked app", malformed));
        }
        Ok(())
    }

    /// The layers of these media types, each digest once, in the manifest's order.
    async fn wasm_layers(
        &self,
        manifest: &ImageManifest,
        kinds: &[&str],
    ) -> Result<Vec<(Descriptor, WasmLayer)>, S::Error> {
        let mut seen = BTreeSet::new();
        let layers: Vec<Descriptor> = manifest
            .layers
            .iter()
            .filter(|layer| kinds.contains(&layer.media_type.as_str()) && seen.insert(layer.digest.as_str()))
            .cloned()
            .collect();
        if layers.len() > MAX_WASM_LAYERS {
            let malformed = Malformed::new(format!("it has more than {MAX_WASM_LAYERS} Wasm layers"));
            return Err(self.error("the manifest", malformed));
        }
        self.check_sizes(&layers)?;
        stream::iter(layers.into_iter().map(|layer| self.wasm_layer(layer)))
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    async fn wasm_layer(&self, layer: Descriptor) -> Result<(Descriptor, WasmLayer), S::Error> {
        let what = format!("layer {}", layer.digest);
        let bytes = self.blob(&layer, &what, self.limits.layer).await?;
        if let Magic::Native(magic) = module::magic(&bytes) {
            let native = NativeCode { source: layer.digest.to_string(), magic: magic.to_string() };
            return Ok((layer, WasmLayer::Native(native)));
        }
        let digest = layer.digest.clone();
        let stop = Stop(Arc::default());
        let flag = Arc::clone(&stop.0);
        let facts = self.aside(&what, move || module::read_until(&bytes, digest.as_str(), &flag)).await?;
        let facts = facts.map_err(|malformed| self.error(&what, malformed))?;
        Ok((layer, WasmLayer::Module(Box::new(facts))))
    }

    /// Parsing is work for another thread: reviews must not wait for each other's images.
    async fn aside<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, S::Error> {
        let slot = self.slot.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        let done = done.await;
        done.map_err(|error| self.error(what, Malformed::new(format!("reading it was interrupted: {error}"))))
    }

    /// What the descriptors claim; what arrives is measured again.
    fn check_sizes(&self, layers: &[Descriptor]) -> Result<(), S::Error> {
        if let Some(large) = layers.iter().find(|layer| layer.size > self.limits.layer) {
            return Err(self.too_large(format!("layer {}", large.digest), self.limits.layer));
        }
        let total = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let limit = self.limits.layer.saturating_mul(ALL_LAYERS);
        if total > limit { Err(self.too_large("all layers together", limit)) } else { Ok(()) }
    }

    /// D4 to D10 or an ordinary image. The layers are read only where Wasm is to be expected.
    async fn rootfs(&self, mut facts: ImageFacts, manifest: &ImageManifest) -> Result<ImageFacts, S::Error> {
        let wasm_platform = manifest::is_wasm(&facts.platform);
        let first = facts.entrypoint.first().or(facts.cmd.first());
        let named = first.is_some_and(|argument| program::needs_layers(argument));
        facts.shape = if wasm_platform { Shape::WasmRootfs } else { Shape::LinuxRootfs };
        if wasm_platform {
            facts.warnings.push(format!(
                "containerd 2.1 and later does not unpack a root file system whose config says `{}` unless \
                 `use_local_image_pull` is set; build it for `linux/amd64` or push the module as a layer",
                facts.platform
            ));
        }
        let crun = crun_annotation(&manifest.annotations).is_some();
        if !(wasm_platform || named || crun || self.depth == Depth::Layers) {
            return Ok(facts.concluded());
        }
        let tree = self.scan(&facts, manifest).await?;
        Ok(facts.read_tree(&tree, crun, self.depth == Depth::Layers))
    }

    async fn scan(&self, facts: &ImageFacts, manifest: &ImageManifest) -> Result<Tree, S::Error> {
        self.check_sizes(&manifest.layers)?;
        let bounds = UnpackLimits { layer: self.limits.unpacked, file: self.limits.layer };
        let wanted = program::wanted(&facts.entrypoint, &facts.cmd, &facts.working_dir);
        let wanted = wanted.into_iter().chain(APPLICATION_FILES.map(String::from));
        let mut tree = Tree::new(bounds, wanted);
        let stop = Stop(Arc::default());
        for layer in &manifest.layers {
            let what = format!("layer {}", layer.digest);
            let bytes = self.blob(layer, &what, self.limits.layer).await?;
            let flag = Arc::clone(&stop.0);
            let apply = move || {
                let result = tree.apply(&bytes, &flag);
                (tree, result)
            };
            let (back, result) = self.aside(&what, apply).await?;
            tree = back;
            result.map_err(|fault| match fault {
                Fault::TooLarge => self.too_large(format!("{what}, unpacked,"), self.limits.unpacked),
                Fault::Malformed(malformed) => self.error(&what, malformed),
            })?;
        }
        Ok(tree)
    }
}

impl ImageFacts {
    fn adopt(&mut self, config: &Config) {
        self.platform = config.platform();
        let platform = if self.platform.is_empty() { "none" } else { &self.platform };
        self.saw("config platform", platform.to_string());
        self.entrypoint.clone_from(&config.entrypoint);
        self.cmd.clone_from(&config.cmd);
        self.working_dir.clone_from(&config.working_dir);
        self.env.clone_from(&config.env);
        for (name, words) in [("config.Entrypoint", &config.entrypoint), ("config.Cmd", &config.cmd)] {
            if !words.is_empty() {
                self.saw(name, words.join(" "));
            }
        }
    }

    fn add_layer(&mut self, layer: &Descriptor, found: WasmLayer) {
        let seen = format!("layer {} bytes 0..8", layer.digest);
        match found {
            WasmLayer::Module(facts) => {
                self.saw(seen, described(&facts));
                self.modules.push(*facts);
            }
            WasmLayer::Native(native) => {
                self.saw(
                    seen,
                    format!("native code ({}) in a layer that is declared to be Wasm", native.magic),
                );
                self.native.push(native);
            }
        }
    }

    fn add_spin_layer(&mut self, app: &SpinApp, layer: &Descriptor, found: WasmLayer) {
        let WasmLayer::Module(facts) = found else { return self.add_layer(layer, found) };
        self.saw(format!("layer {} bytes 0..8", layer.digest), described(&facts));
        self.modules.extend(spin::for_each_owner(app, *facts));
    }

    /// `containerd` #9142, in 1.6.25 and 1.7.7.
    fn needs_containerd(&mut self) {
        self.warnings.push(
            "containerd before 1.6.25, and 1.7 before 1.7.7, refuses Wasm layers with `mismatched image rootfs and \
             manifest layers`"
                .into(),
        );
    }

    /// `kubelet` gives containerd an empty command for an image without an entry point, which it refuses.
    fn needs_command(&mut self) {
        if self.entrypoint.is_empty() && self.cmd.is_empty() {
            self.warnings.push(NEEDS_COMMAND.into());
        }
    }
}

/// Whether some node reads this entry where another one reads the chosen one. A Linux node takes an entry for Linux, or
/// one without a platform whose config says Linux (`containerd:core/images/image.go`, `Manifest`); nodes of other
/// systems run no Wasm. Where the index has nothing for Linux, its Wasm entries stand for each other.
fn may_run_instead(entry: &manifest::IndexEntry, chosen: &manifest::IndexEntry) -> bool {
    let linux = entry.platform.is_empty() || entry.platform.starts_with("linux/");
    let wasm = manifest::is_wasm(&chosen.platform) && manifest::is_wasm(&entry.platform);
    !entry.attestation && (linux || wasm)
}

/// Whether two platforms of an index start the same, as far as a verdict rests on it.
fn same_program(one: &ImageFacts, other: &ImageFacts) -> bool {
    one.kind == other.kind
        && one.shape == other.shape
        && one.modules == other.modules
        && one.native == other.native
        && one.spin == other.spin
        && (&one.entrypoint, &one.cmd, &one.working_dir)
            == (&other.entrypoint, &other.cmd, &other.working_dir)
        && if one.shape == Shape::LinuxRootfs {
            // Native programs and links differ between the platforms of every ordinary image.
            one.files
                .iter()
                .filter(|file| !is_of_platform(file))
                .eq(other.files.iter().filter(|file| !is_of_platform(file)))
        } else {
            one.files == other.files && one.env == other.env
        }
}

fn is_of_platform((name, class): &(String, FileClass)) -> bool {
    matches!(class, FileClass::Native { .. } | FileClass::Link { .. })
        && !APPLICATION_FILES.contains(&name.as_str())
}

impl ImageFacts {
    /// Forgets the native programs and links that another platform does not have, or has behind a link of its own: a pod
    /// that starts one of these starts something else there.
    fn keep_common_files(&mut self, other: &Self) {
        let theirs: BTreeMap<&str, &FileClass> =
            other.files.iter().map(|(name, class)| (name.as_str(), class)).collect();
        let linked = |name: &str| {
            let mut folder = path::split(name).0;
            while folder != "/" && !folder.is_empty() {
                if matches!(theirs.get(folder), Some(FileClass::Link { .. })) {
                    return true;
                }
                folder = path::split(folder).0;
            }
            false
        };
        self.files.retain(|file| {
            let (name, class) = file;
            !is_of_platform(file) || (theirs.get(name.as_str()) == Some(&class) && !linked(name))
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

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

    #[tokio::test]
    async fn work_on_another_thread_keeps_the_place_of_a_look_up_that_was_given_up() {
        let places = Arc::new(Semaphore::new(1));
        let reference = Reference::parse("samples.test/a:1").unwrap();
        let (begun, go) = (Arc::new(tokio::sync::Notify::new()), mpsc::channel::<()>());
        let look = Look {
            source: &Nothing,
            reference: &reference,
            depth: Depth::Layers,
            limits: &SizeLimits::default(),
            nodes: &Nodes::default(),
            slot: Slot::of(&places).await,
            image: reference.to_string(),
        };
        let (begin, wait) = (Arc::clone(&begun), go.1);
        let mut work = Box::pin(look.aside("a layer", move || {
            begin.notify_one();
            wait.recv().unwrap();
        }));
        tokio::select! {
            _ = &mut work => panic!("it waits"),
            () = begun.notified() => {}
        }
        drop(work);
        drop(look);
        assert_eq!(places.available_permits(), 0, "nobody waits, and the work goes on");
        go.0.send(()).unwrap();
        let place = tokio::time::timeout(Duration::from_secs(20), places.acquire()).await;
        assert!(place.is_ok(), "the place comes back with the end of the work");
    }
}
