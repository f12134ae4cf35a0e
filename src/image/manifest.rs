//! Manifests and indexes: which manifest of an index a Linux node pulls, and how a manifest's image is packed.
//!
//! Strings are compared exactly; `os` and `architecture` in any letter case (Spin 4.1 writes `Wasip1`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::archive::Compression;
use super::descriptor::Descriptor;
use super::malformed::{Malformed, Rest, no_lookalikes, short};
use super::platform::{self, OF_WASM, is_wasm, rank};
use super::{annotation, json, lazy};

/// Most layers of one image. Spin stays below 500 (`spin:crates/oci/src/client.rs`), overlayfs below 128.
pub const MAX_LAYERS: usize = 512;
/// Most entries of one index.
const MAX_INDEX_ENTRIES: usize = 512;

/// OCI image config (OCI image-spec `media-types.md`).
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker's image config (`distribution:docs/content/spec/manifest-v2-2.md`).
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Config of the CNCF Wasm OCI artifact (`tag-runtime:wgs/wasm/deliverables/wasm-oci-artifact`).
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Layer of the CNCF Wasm OCI artifact; runwasi accepts it in addition to its own.
pub const WASM_LAYER: &str = "application/wasm";
/// runwasi's layer (`runwasi:crates/oci-tar-builder/src/lib.rs`).
pub const RUNWASI_LAYER: &str = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
/// Spin's locked app: a layer in current apps, the config of old ones (`spin:crates/oci/src/client.rs`).
pub const SPIN_APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
/// Spin's module layer, and the layer of wasm-to-oci and Kubewarden.
pub const SPIN_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What is wrong with a manifest that has none.
const WITHOUT_CONFIG: &str = "it is a manifest without `config`; push the image again";
const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
const WASM_TO_OCI_CONFIG: &str = "application/vnd.wasm.config.v1+json";
const PROXY_WASM_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
const MODULE_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
/// `artifactType` of runwasi's first prototype (runwasi's history, commits 27e04c20 to 94a7fdb0).
const PROTOTYPES: [&str; 2] =
    ["application/vnd.bytecodealliance.component.v1+wasm", "application/vnd.bytecodealliance.module.v1+wasm"];
const SPIN_DATA: &str = "application/vnd.wasm.content.layer.v1+data";
const SPIN_ARCHIVE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";

/// Tar layers of a root file system, and the compression that their types state.
const ROOTFS_LAYERS: [(&str, Compression); 10] = [
    ("application/vnd.oci.image.layer.v1.tar", Compression::Plain),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::Plain),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.docker.image.rootfs.diff.tar", Compression::Any),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::Zstd),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
];

/// The compression of a tar layer of this media type; `None` for any other layer.
pub fn compression(media_type: &str) -> Option<Compression> {
    ROOTFS_LAYERS.iter().find(|(known, _)| *known == media_type).map(|(_, compression)| *compression)
}

/// The parts of an image manifest that detection needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// `artifactType`; empty if there is none.
    pub artifact_type: String,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Why the shims cannot read it, although containerd can; then they start no layer of it.
    pub unreadable_by_shims: Option<String>,
    /// The annotation by which a node may take the files of a layer from somewhere else than its tar ([`super::lazy`]).
    pub lazy: Option<String>,
}

/// One entry of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The manifest.
    pub descriptor: Descriptor,
    /// `os/architecture`, lower case; empty when the entry has no platform, or one that names nothing.
    pub platform: String,
    /// Whether it has a platform that names nothing, which no node's matches; without one, a node goes by that of the config.
    pub names_nothing: bool,
    /// Whether its platform is unknown, as for attestations of buildx, so that no node pulls it.
    pub attestation: bool,
}

/// What a reference can resolve to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A manifest.
    Manifest(ImageManifest),
    /// An index.
    Index(Vec<IndexEntry>),
}

/// The entry of an index that a node pulls, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryChoice {
    /// The entry.
    pub entry: IndexEntry,
    /// Why this one.
    pub reason: String,
    /// What will fail because of the index.
    pub warning: Option<String>,
    /// Whether no node's platform matches, so that none pulls it (`containerd:core/images/image.go`, `Manifest`).
    pub unmatched: bool,
}

/// How an image is packed, according to its manifest's media types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    /// The CNCF artifact.
    WasmArtifact,
    /// runwasi's layers.
    RunwasiLayers,
    /// A Spin application.
    SpinArtifact,
    /// A Spin application from before Spin 2.
    SpinLegacy,
    /// A root file system: config and files decide whether it is Wasm or an ordinary image.
    Rootfs,
    /// Nothing that a pod can start; says what it is.
    Other(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Option<String>>>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: Option<String>,
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Option<String>>>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

/// A manifest as the shims read it, whose parser takes less than Go's does: no null but for a whole optional field, and
/// no descriptor without its type or size (`youki-dev/oci-spec-rs:src/image/{manifest,descriptor}.rs`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only whether it can be read is asked")]
struct ShimManifest {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: ShimDescriptor,
    layers: Vec<ShimDescriptor>,
    subject: Option<ShimDescriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only whether it can be read is asked")]
struct ShimDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    urls: Option<Vec<String>>,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<ShimPlatform>,
    artifact_type: Option<String>,
    data: Option<String>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only whether it can be read is asked")]
struct ShimPlatform {
    architecture: String,
    os: String,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    #[serde(rename = "os.features")]
    os_features: Option<Vec<String>>,
    variant: Option<String>,
}

/// Reads a manifest or an index.
pub fn parse(bytes: &[u8]) -> Result<Document, Malformed> {
    let raw: RawDocument = json::read(bytes)?;
    let known =
        ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "annotations"];
    no_lookalikes(&raw.rest, &known)?;
    if raw.schema_version != 2 {
        return Err(Malformed::new(format!(
            "schemaVersion is {}, only 2 is supported; push the image again with a current tool",
            raw.schema_version
        )));
    }
    annotation::check(raw.annotations.iter().flatten())?;
    if is_index(&raw)? {
        return index(raw).map(Document::Index);
    }
    let unreadable_by_shims = json::read::<ShimManifest>(bytes).err().map(|error| error.0);
    Ok(Document::Manifest(ImageManifest { unreadable_by_shims, ..manifest(raw)? }))
}

/// Refuses a document that could be read as both: one client would run what another did not check (CVE-2021-41190).
fn is_index(raw: &RawDocument) -> Result<bool, Malformed> {
    let manifest = raw.layers.is_some() || raw.config.is_some();
    if raw.manifests.is_some() && manifest {
        return Err(Malformed::new(
            "it has both `manifests` and `layers` or `config`, so it is ambiguous whether it is an index or a \
             manifest; push one or the other",
        ));
    }
    let index = raw.manifests.is_some();
    match raw.media_type.as_deref().unwrap_or_default() {
        OCI_INDEX | DOCKER_LIST if !index => {
            Err(Malformed::new("it is an index without `manifests`; push the image again"))
        }
        OCI_MANIFEST | DOCKER_MANIFEST if raw.config.is_none() => Err(Malformed::new(WITHOUT_CONFIG)),
        "" if !index && raw.config.is_none() => {
            Err(Malformed::new("it has neither `manifests` nor `config`; push the image again"))
        }
        "" | OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST => Ok(index),
        unknown => Err(Malformed::new(format!(
            "its media type is `{}`; an OCI or Docker v2 manifest or index is expected",
            short(unknown)
        ))),
    }
}

fn manifest(raw: RawDocument) -> Result<ImageManifest, Malformed> {
    let config = raw.config.ok_or_else(|| Malformed::new(WITHOUT_CONFIG))?;
    let layers = raw.layers.unwrap_or_default();
    if layers.len() > MAX_LAYERS {
        return Err(Malformed::new(format!(
            "it has {} layers; at most {MAX_LAYERS} are read, so build it with fewer",
            layers.len()
        )));
    }
    let annotations = raw.annotations.unwrap_or_default();
    let of_layers = layers.iter().flat_map(|layer| layer.annotations.iter().flat_map(BTreeMap::keys));
    let lazy = of_layers.chain(annotations.keys()).find(|key| lazy::is_annotation(key)).cloned();
    Ok(ImageManifest {
        lazy,
        artifact_type: raw.artifact_type.unwrap_or_default(),
        config: config.checked()?,
        layers: layers.iter().map(RawDescriptor::checked).collect::<Result<_, _>>()?,
        annotations: annotations.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
        unreadable_by_shims: None,
    })
}

fn index(raw: RawDocument) -> Result<Vec<IndexEntry>, Malformed> {
    let entries = raw.manifests.unwrap_or_default();
    if entries.len() > MAX_INDEX_ENTRIES {
        return Err(Malformed::new(format!(
            "it has {} entries; at most {MAX_INDEX_ENTRIES} are read, so push fewer under one name",
            entries.len()
        )));
    }
    entries.iter().map(RawDescriptor::entry).collect()
}

impl RawDescriptor {
    fn checked(&self) -> Result<Descriptor, Malformed> {
        no_lookalikes(&self.rest, &["mediaType", "digest", "size", "platform", "annotations"])?;
        let media_type = self.media_type.clone().unwrap_or_default();
        Ok(Descriptor { media_type, digest: self.digest.parse()?, size: self.size })
    }

    fn entry(&self) -> Result<IndexEntry, Malformed> {
        let platform = match &self.platform {
            Some(RawPlatform { os, architecture: arch, rest }) => {
                no_lookalikes(rest, &["os", "architecture"])?;
                platform::named(os.as_deref().unwrap_or_default(), arch.as_deref().unwrap_or_default())
            }
            None => String::new(),
        };
        // Judged by its platform alone: nodes ignore the annotations of an entry.
        let attestation = platform == "unknown/unknown";
        let names_nothing = self.platform.is_some() && platform.is_empty();
        Ok(IndexEntry { descriptor: self.checked()?, platform, names_nothing, attestation })
    }
}

/// The entry that a Linux node pulls. containerd considers only entries that match its own platform
/// (`containerd:core/images/image.go`, `Manifest`), so an entry for Linux wins over one for Wasm. If there are only
/// Wasm entries, the first shows what the image is meant to be, with the warning that no CRI runtime can pull it by its
/// index.
pub fn choose(entries: &[IndexEntry]) -> Result<EntryChoice, Malformed> {
    let programs: Vec<&IndexEntry> = entries.iter().filter(|entry| !entry.attestation).collect();
    let wasm = programs.iter().find(|entry| is_wasm(&entry.platform));
    let ranked = programs.iter().filter_map(|entry| Some((rank(&entry.platform)?, entry)));
    let host =
        ranked.filter(|(rank, _)| *rank < OF_WASM).min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry);
    match (host, wasm) {
        (Some(host), wasm) => Ok(choose_host(host, wasm.copied(), programs.len())),
        (None, Some(wasm)) => Ok(choose_wasm(wasm)),
        (None, None) => Err(Malformed::new(format!(
            "it holds nothing for Linux or Wasm, only {}; push an image for `linux/amd64` or a Wasm manifest",
            listed(&programs)
        ))),
    }
}

fn choose_host(host: &IndexEntry, wasm: Option<&IndexEntry>, programs: usize) -> EntryChoice {
    let named = if host.platform.is_empty() { "without a platform" } else { &host.platform };
    let reason = match wasm {
        Some(wasm) => format!(
            "{named}: the index holds {} too, but a Linux node reads only the entry of its own platform",
            wasm.platform
        ),
        None => format!("{named}, of {programs} in the index"),
    };
    let warning = wasm.map(|wasm| {
        format!(
            "the tag names an index whose `{}` entry no Linux node reads; push that manifest under a tag of its own",
            wasm.platform
        )
    });
    EntryChoice { entry: host.clone(), reason, warning, unmatched: false }
}

fn choose_wasm(wasm: &IndexEntry) -> EntryChoice {
    EntryChoice {
        entry: wasm.clone(),
        reason: format!("{}: the index holds nothing for Linux", wasm.platform),
        warning: Some(format!(
            "the tag names an index that holds only `{}`: a Linux node finds no match for its platform and cannot \
             pull it; push the manifest itself (buildx: `--provenance=false`)",
            wasm.platform
        )),
        unmatched: true,
    }
}

fn listed(entries: &[&IndexEntry]) -> String {
    if entries.is_empty() {
        return "nothing that is a program".into();
    }
    let names: Vec<String> =
        entries.iter().take(8).map(|entry| format!("`{}`", short(&entry.platform))).collect();
    names.join(", ")
}

/// The layer by which a shim reads everything else: the Wasm layer, or the locked app of Spin, which names the others by their
/// digests.
pub fn leading_layer(manifest: &ImageManifest) -> Option<&Descriptor> {
    let leads = [RUNWASI_LAYER, WASM_LAYER, SPIN_APPLICATION];
    manifest.layers.iter().find(|layer| leads.contains(&layer.media_type.as_str()))
}

/// Whether the Spin shim unpacks layers of the image below a temporary folder.
pub fn has_archives(manifest: &ImageManifest) -> bool {
    manifest.layers.iter().any(|layer| layer.media_type == SPIN_ARCHIVE)
}

/// How the image is packed, according to its media types. If two kinds share a layer type, the config's type decides.
pub fn layout(manifest: &ImageManifest) -> ManifestKind {
    match by_media_types(manifest) {
        ManifestKind::Other(_) if PROTOTYPES.contains(&manifest.artifact_type.as_str()) => other(format!(
            "an artifact of runwasi's first prototype (`{}`), which no shim starts any more; push it with `wkg oci push`",
            manifest.artifact_type
        )),
        layout => layout,
    }
}

fn by_media_types(manifest: &ImageManifest) -> ManifestKind {
    match manifest.config.media_type.as_str() {
        WASM_CONFIG => wasm_artifact(&manifest.layers),
        OCI_CONFIG | DOCKER_CONFIG => image(&manifest.layers),
        SPIN_APPLICATION => ManifestKind::SpinLegacy,
        WASM_TO_OCI_CONFIG => other(
            "a wasm-to-oci artifact (Kubewarden, Krustlet), which no shim starts: its config has no platform",
        ),
        PROXY_WASM_CONFIG => {
            other("a proxy-wasm filter, which Envoy loads; it is not a program that a pod can start")
        }
        EMPTY_CONFIG => empty_config(manifest),
        "" => other("a manifest whose config has no media type"),
        unknown if manifest.layers.iter().any(|layer| layer.media_type == MODULE_LAYER) => other(format!(
            "a legacy wasmCloud module with the config `{unknown}`, which only a wasmCloud host starts"
        )),
        unknown => other(format!("an artifact with the config `{unknown}`, which is not a container image")),
    }
}

fn other(what: impl Into<String>) -> ManifestKind {
    ManifestKind::Other(what.into())
}

fn wasm_artifact(layers: &[Descriptor]) -> ManifestKind {
    match layers {
        [only] if only.media_type == WASM_LAYER => ManifestKind::WasmArtifact,
        [only] => other(format!("a Wasm artifact whose layer is `{}`, not `{WASM_LAYER}`", only.media_type)),
        many => other(format!("a Wasm artifact with {} layers, where exactly one is allowed", many.len())),
    }
}

/// An image config alone decides nothing; the layers do. An image with Wasm layers starts from them, unless the shim
/// cannot read them: then it looks for files, so an image that has both may start either
/// (`runwasi:crates/containerd-shim-wasm/src/sys/unix/container/instance.rs`, `Instance::new`).
fn image(layers: &[Descriptor]) -> ManifestKind {
    let count = |media_type: &str| layers.iter().filter(|layer| layer.media_type == media_type).count();
    if count(MODULE_LAYER) > 0 {
        return other(
            "a legacy wasmCloud or proxy-wasm module layer in a container image, which no shim starts",
        );
    }
    match (count(SPIN_APPLICATION), count(RUNWASI_LAYER) + count(WASM_LAYER)) {
        (1, 0) => spin_artifact(layers),
        (0, 0) if count(SPIN_LAYER) > 0 => other("Spin module layers without a locked app"),
        (0, 0) => rootfs(layers),
        (0, 1) if layers.iter().any(|layer| compression(&layer.media_type).is_some()) => other(
            "an image with a Wasm layer beside layers of files: a shim that cannot read the one starts the others; push \
             the Wasm layer alone",
        ),
        (0, 1) => ManifestKind::RunwasiLayers,
        (0, many) => other(format!("an image with {many} Wasm layers, where runwasi starts exactly one")),
        (1, _) => other("a locked Spin app beside Wasm layers of another kind, which the Spin shim refuses"),
        (many, _) => other(format!("a Spin image with {many} locked apps, where exactly one is allowed")),
    }
}

fn spin_artifact(layers: &[Descriptor]) -> ManifestKind {
    let known = [SPIN_APPLICATION, SPIN_LAYER, SPIN_DATA, SPIN_ARCHIVE];
    match layers.iter().find(|layer| !known.contains(&layer.media_type.as_str())) {
        Some(layer) => other(format!("a Spin image with the unknown layer `{}`", layer.media_type)),
        None => ManifestKind::SpinArtifact,
    }
}

fn rootfs(layers: &[Descriptor]) -> ManifestKind {
    match layers.iter().find(|layer| compression(&layer.media_type).is_none()) {
        Some(layer) => other(lazy::unread(&layer.media_type)),
        None => ManifestKind::Rootfs,
    }
}

fn empty_config(manifest: &ImageManifest) -> ManifestKind {
    let first = manifest.layers.first().map(|layer| layer.media_type.as_str()).unwrap_or_default();
    let wasm = manifest.artifact_type.contains("wasm") || first.contains("wasm");
    let named = if manifest.artifact_type.is_empty() { first } else { manifest.artifact_type.as_str() };
    if wasm {
        other(format!(
            "a Wasm file pushed as the artifact `{named}` with an empty config, which no shim starts; push it with \
             `wkg oci push`"
        ))
    } else {
        other(format!("the artifact `{named}`, which is not a container image"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const M: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn read(value: &Value) -> Result<Document, Malformed> {
        parse(&serde_json::to_vec(value).unwrap())
    }

    fn of(config: &str, layers: &[&str]) -> ManifestKind {
        let layers: Vec<Value> =
            layers.iter().map(|kind| json!({"mediaType": kind, "digest": M, "size": 1})).collect();
        let value =
            json!({"schemaVersion": 2, "config": {"mediaType": config, "digest": M}, "layers": layers});
        match read(&value).unwrap() {
            Document::Manifest(manifest) => layout(&manifest),
            Document::Index(_) => unreachable!("a manifest was built"),
        }
    }

    fn chosen(platforms: &[&str]) -> Result<EntryChoice, Malformed> {
        let entries: Vec<Value> = platforms
            .iter()
            .map(|text| {
                let (os, architecture) = text.split_once('/').unwrap();
                json!({"digest": M, "platform": {"os": os, "architecture": architecture}})
            })
            .collect();
        match read(&json!({"schemaVersion": 2, "manifests": entries})).unwrap() {
            Document::Index(entries) => choose(&entries),
            Document::Manifest(_) => unreachable!("an index was built"),
        }
    }

    #[test]
    fn an_annotation_that_leads_a_node_to_a_table_of_contents_is_kept() {
        let digest = crate::image::Digest::of(b"layer").to_string();
        let lazy = |of_layer: &str, of_manifest: &str| {
            let text = format!(
                r#"{{"schemaVersion":2,"config":{{"digest":"{digest}"}},"annotations":{{"{of_manifest}":null}},
                    "layers":[{{"digest":"{digest}","annotations":{{"{of_layer}":"x"}}}},{{"digest":"{digest}","annotations":null}}]}}"#
            );
            match parse(text.as_bytes()).unwrap() {
                Document::Manifest(manifest) => manifest.lazy,
                Document::Index(_) => None,
            }
        };
        let table = "containerd.io/snapshot/stargz/toc.digest";
        assert_eq!(lazy(table, "a").as_deref(), Some(table));
        assert_eq!(
            lazy("a", "com.amazon.soci.index-digest").as_deref(),
            Some("com.amazon.soci.index-digest")
        );
        assert_eq!(lazy("containerd.io/uncompressed", "org.opencontainers.image.created"), None);
    }

    #[test]
    fn what_a_node_restores_in_the_place_of_the_image_is_refused() {
        let marked = |mut document: Value, key: &str| {
            document["annotations"] = json!({ key: null });
            read(&document).map_err(|malformed| malformed.0)
        };
        let manifest = || json!({"schemaVersion": 2, "config": {"digest": M}});
        let index = || json!({"schemaVersion": 2, "manifests": []});
        for key in ["org.criu.checkpoint.container.name", "org.criu.checkpoint.pod.name"] {
            for document in [manifest(), index()] {
                let error = marked(document, key).unwrap_err();
                assert!(error.contains(&format!("the annotation `{key}` marks a checkpoint")), "{error}");
            }
        }
        assert!(marked(manifest(), "org.criu.other").is_ok() && marked(index(), "org.example").is_ok());
    }

    #[test]
    fn media_types_name_the_packaging() {
        assert_eq!(of(WASM_CONFIG, &[WASM_LAYER]), ManifestKind::WasmArtifact);
        assert_eq!(of(OCI_CONFIG, &[RUNWASI_LAYER]), ManifestKind::RunwasiLayers);
        assert_eq!(of(OCI_CONFIG, &[SPIN_LAYER, SPIN_DATA, SPIN_APPLICATION]), ManifestKind::SpinArtifact);
        assert_eq!(of(OCI_CONFIG, &[ROOTFS_LAYERS[1].0]), ManifestKind::Rootfs);
        assert_eq!(of(DOCKER_CONFIG, &[ROOTFS_LAYERS[7].0]), ManifestKind::Rootfs);
        assert_eq!(of(OCI_CONFIG, &[]), ManifestKind::Rootfs);
        // Wasm layers win over a root file system in the same image.
        let both = of(OCI_CONFIG, &[ROOTFS_LAYERS[1].0, WASM_LAYER]);
        assert!(matches!(both, ManifestKind::Other(why) if why.contains("beside layers of files")));
    }

    #[test]
    fn a_layer_that_is_a_file_system_of_erofs_is_refused_beside_layers_of_tar_too() {
        for layer in [
            "application/vnd.erofs.layer.v1",
            "application/vnd.erofs.layer.v1+zstd",
            "application/vnd.oci.image.layer.v1.erofs",
        ] {
            for layers in [vec![layer], vec![ROOTFS_LAYERS[1].0, layer]] {
                match of(OCI_CONFIG, &layers) {
                    ManifestKind::Other(what) => {
                        assert!(what.contains(layer) && what.contains("an EROFS file system"), "{what}");
                    }
                    found => unreachable!("{layers:?} was taken for {found:?}"),
                }
            }
        }
    }

    #[test]
    fn lookalikes_are_recognised() {
        let cases: [(&str, &[&str], &str); 11] = [
            (WASM_TO_OCI_CONFIG, &[SPIN_LAYER], "wasm-to-oci"),
            (PROXY_WASM_CONFIG, &[MODULE_LAYER], "proxy-wasm"),
            (OCI_CONFIG, &[MODULE_LAYER], "wasmCloud"),
            (EMPTY_CONFIG, &[WASM_LAYER], "empty config"),
            (EMPTY_CONFIG, &["application/x-helm"], "application/x-helm"),
            ("application/vnd.wasmcloud.actor.config", &[MODULE_LAYER], "wasmCloud host"),
            (WASM_CONFIG, &[WASM_LAYER, WASM_LAYER], "2 layers"),
            (OCI_CONFIG, &[RUNWASI_LAYER, WASM_LAYER], "2 Wasm layers"),
            (OCI_CONFIG, &[SPIN_LAYER], "without a locked app"),
            (OCI_CONFIG, &[SPIN_APPLICATION, SPIN_APPLICATION], "2 locked apps"),
            (OCI_CONFIG, &["application/x-unknown"], "application/x-unknown"),
        ];
        for (config, layers, expected) in cases {
            match of(config, layers) {
                ManifestKind::Other(what) => assert!(what.contains(expected), "{what}"),
                found => unreachable!("{config} {layers:?} was taken for {found:?}"),
            }
        }
        assert_eq!(of(SPIN_APPLICATION, &[SPIN_LAYER]), ManifestKind::SpinLegacy);
    }

    #[test]
    fn an_ambiguous_or_foreign_document_is_refused_with_the_reason() {
        let config = json!({"digest": M});
        let cases = [
            (json!({"schemaVersion": 2, "manifests": [], "layers": []}), "ambiguous"),
            (json!({"schemaVersion": 2, "manifests": [], "config": config}), "ambiguous"),
            (json!({"schemaVersion": 1, "config": config}), "schemaVersion is 1"),
            (json!({"schemaVersion": 2}), "neither"),
            (json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "config": config}), "index without"),
            (json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []}), "manifest without"),
            (json!({"schemaVersion": 2, "mediaType": "text/html", "config": config}), "text/html"),
            (json!({"schemaVersion": 2, "config": config, "Layers": []}), "write `layers`"),
            (json!({"schemaVersion": 2, "config": {"digest": M, "Digest": M}}), "write `digest`"),
            (json!({"schemaVersion": 2, "config": {"digest": "sha256:../../x"}}), "not a digest"),
            (json!([]), "invalid"),
        ];
        for (value, expected) in cases {
            let error = read(&value).unwrap_err();
            assert!(error.0.contains(expected), "{value}: {error}");
        }
        let many = vec![json!({"digest": M}); MAX_LAYERS + 1];
        let error = read(&json!({"schemaVersion": 2, "config": config, "layers": many})).unwrap_err();
        assert!(error.0.contains("513 layers"), "{error}");
    }

    #[test]
    fn unknown_fields_and_nulls_are_skipped() {
        let value = json!({"schemaVersion": 2, "subject": {"digest": M}, "config": {"mediaType": OCI_CONFIG,
            "digest": M, "size": 3, "data": "e30="}, "layers": null, "annotations": null});
        let Document::Manifest(manifest) = read(&value).unwrap() else { unreachable!() };
        assert_eq!((manifest.config.size, manifest.layers.len()), (3, 0));
    }

    #[test]
    fn annotations_that_a_runtime_in_c_reads_in_part_are_refused() {
        let with = |key: &str, value: &str| {
            let config = json!({"mediaType": OCI_CONFIG, "digest": M, "size": 1});
            read(&json!({"schemaVersion": 2, "config": config, "layers": [], "annotations": {key: value}}))
        };
        assert!(with("run.oci.handler", "wasm").is_ok());
        for (key, value) in [("run.oci.handler", "wasm\0x"), ("run.oci.handler\0x", "wasm")] {
            let error = with(key, value).unwrap_err();
            assert!(error.0.contains("annotations have a NUL"), "{key:?}: {error}");
        }
    }

    #[test]
    fn what_the_shims_cannot_read_is_told() {
        let layer = |more: Value| {
            let mut layer = json!({"mediaType": WASM_LAYER, "digest": M, "size": 1});
            layer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            layer
        };
        let told = |layers: Value, annotations: Value| {
            let config = json!({"mediaType": OCI_CONFIG, "digest": M, "size": 1});
            let value =
                json!({"schemaVersion": 2, "config": config, "layers": layers, "annotations": annotations});
            match read(&value).unwrap() {
                Document::Manifest(manifest) => manifest.unreadable_by_shims,
                Document::Index(_) => unreachable!("a manifest was built"),
            }
        };
        assert_eq!(told(json!([layer(json!({"urls": null, "x": null}))]), json!({"a": "b"})), None);
        assert_eq!(told(json!([]), Value::Null), None);
        for (layers, annotations) in [
            (json!([]), json!({"a": null})),
            (Value::Null, json!({})),
            (json!([layer(json!({"annotations": {"a": null}}))]), Value::Null),
            (json!([layer(json!({"mediaType": null}))]), Value::Null),
            (json!([layer(json!({"urls": [null]}))]), Value::Null),
            (json!([layer(json!({"platform": {"os": "wasip1"}}))]), Value::Null),
            (json!([{"mediaType": WASM_LAYER, "digest": M}]), Value::Null),
        ] {
            assert!(told(layers.clone(), annotations.clone()).is_some(), "{layers} {annotations}");
        }
    }

    #[test]
    fn a_node_pulls_the_entry_of_its_own_platform() {
        let both = chosen(&["wasi/wasm", "linux/arm64", "linux/amd64"]).unwrap();
        assert_eq!(both.entry.platform, "linux/amd64");
        assert!(both.reason.contains("wasi/wasm"), "{}", both.reason);
        assert!(both.warning.unwrap().contains("tag of its own"));
        let plain = chosen(&["windows/amd64", "linux/riscv64"]).unwrap();
        assert_eq!((plain.entry.platform.as_str(), plain.warning), ("linux/riscv64", None));
    }

    #[test]
    fn a_wasm_entry_alone_is_chosen_with_the_warning_of_its_index() {
        for platform in ["wasi/wasm", "Wasip1/Wasm", "wasip2/wasm", "wasi/wasm32", "wasi/wasm64"] {
            let choice = chosen(&["unknown/unknown", platform]).unwrap();
            assert_eq!(choice.entry.platform, platform.to_lowercase());
            assert!(choice.warning.unwrap().contains("--provenance=false"));
        }
        let error = chosen(&["windows/amd64", "unknown/unknown"]).unwrap_err();
        assert!(error.0.contains("`windows/amd64`"), "{error}");
        assert!(chosen(&[]).unwrap_err().0.contains("nothing that is a program"));
    }

    #[test]
    fn an_attestation_is_recognised_by_its_platform_and_not_by_its_annotations() {
        let attested = json!({"vnd.docker.reference.type": "attestation-manifest"});
        let entry = |os: &str, architecture: &str| {
            json!({"digest": M, "annotations": attested,
            "platform": {"os": os, "architecture": architecture}})
        };
        let value = json!({"schemaVersion": 2, "manifests": [entry("unknown", "unknown"), entry("linux", "amd64"),
            {"digest": M, "platform": {"os": "wasi", "architecture": "wasm"}}]});
        let Document::Index(entries) = read(&value).unwrap() else { unreachable!() };
        assert_eq!(choose(&entries).unwrap().entry.platform, "linux/amd64");
        assert_eq!(entries.iter().filter(|entry| entry.attestation).count(), 1);
    }

    #[test]
    fn an_entry_without_an_os_is_for_the_nodes_own() {
        assert_eq!(chosen(&["wasi/wasm", "/amd64"]).unwrap().entry.platform, "linux/amd64");
    }

    #[test]
    fn an_entry_whose_os_only_go_writes_as_linux_is_for_linux() {
        let entry = |os: &str| json!({"digest": M, "platform": {"os": os, "architecture": "amd64"}});
        let value = json!({"schemaVersion": 2, "manifests": [entry("l\u{130}nux"), entry("wasi")]});
        let Document::Index(entries) = read(&value).unwrap() else { unreachable!() };
        assert_eq!(choose(&entries).unwrap().entry.platform, "linux/amd64");
    }
}
