//! Images as plain data, and as image layouts that both sides read.

use std::fmt;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use flate2::Compression as Effort;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::archive::Archive;
use super::document::{Object, Twist};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Wasm modules that can be told apart by what they export.
pub const MODULES: usize = 6;

/// Number `number` of the modules.
pub fn module(number: usize) -> &'static [u8] {
    static ALL: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let text = |number| format!(r#"(module (func (export "_start")) (func (export "id-{number}")))"#);
        (0..MODULES).map(|number| wat::parse_str(text(number)).unwrap()).collect()
    });
    &all[number]
}

/// A Spin application of this name, which starts `/app.wasm`.
pub fn spin_manifest(name: &str) -> Vec<u8> {
    format!(
        "spin_manifest_version = 2\n[application]\nname = \"{name}\"\nversion = \"1.0.0\"\n[[trigger.http]]\n\
         route = \"/...\"\ncomponent = \"c\"\n[component.c]\nsource = \"app.wasm\"\n"
    )
    .into_bytes()
}

/// What a volume may bring: programs of its own under the names that are searched for, and a link if it may hold any.
pub fn write_volume(folder: &Path, link: Option<&str>) {
    let own = wat::parse_str(r#"(module (func (export "_start")) (func (export "id-volume")))"#).unwrap();
    std::fs::create_dir(folder).unwrap();
    for name in ["app", "app.wasm"] {
        let path = folder.join(name);
        std::fs::write(&path, &own).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    if let Some(target) = link {
        std::os::unix::fs::symlink(target, folder.join("in")).unwrap();
    }
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// One image: a manifest, its config and its layers.
#[derive(Debug, Clone)]
pub struct Image {
    pub layers: Vec<Layer>,
    pub diff_ids: DiffIds,
    pub platform: Platform,
    /// What the image starts by itself.
    pub entrypoint: Vec<String>,
    /// `Env` of its config.
    pub env: Vec<String>,
    /// `Volumes` of its config.
    pub volumes: Vec<&'static str>,
    /// `rootfs.type`.
    pub rootfs: &'static str,
    /// Media type of the config.
    pub config_type: &'static str,
    /// What the manifest says of the config's size.
    pub config_size: Size,
    /// Whether the config names the Wasm layers, as tools write it.
    pub names_layers: bool,
    /// Annotations of the manifest, as text.
    pub annotations: Option<&'static str>,
    /// What one of its documents has otherwise than usual.
    pub twist: Option<Twist>,
}

/// One layer.
#[derive(Clone)]
pub struct Layer {
    pub archive: Archive,
    /// A Wasm module in the place of the archive.
    pub module: Option<usize>,
    pub media_type: &'static str,
    pub compression: Compression,
    pub size: Size,
}

/// What really is done to a layer's bytes, whatever its media type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    /// Two gzip members, as eStargz has many.
    Members,
    /// A gzip stream, and bytes after it.
    GzipTrailing,
    /// Without its last bytes.
    GzipCut,
    /// Its checksum is wrong.
    GzipSum,
    /// With a name and a comment in its header.
    GzipNamed,
    /// A skippable frame first.
    ZstdSkippable,
    /// Two frames.
    ZstdFrames,
    /// Frames, and a skippable one at the end, as zstd:chunked has it.
    ZstdChunked,
    ZstdTrailing,
    ZstdCut,
    /// Compressed twice.
    Twice,
}

/// What the descriptor says of the size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Size {
    #[default]
    Right,
    Less,
    More,
    Zero,
}

impl Size {
    /// Says it in a descriptor whose size is right.
    pub fn apply(self, descriptor: &mut Value) {
        let size = descriptor["size"].as_u64().unwrap();
        descriptor["size"] = match self {
            Self::Right => size,
            Self::Less => size.saturating_sub(1),
            Self::More => size + 1,
            Self::Zero => 0,
        }
        .into();
    }
}

/// `rootfs.diff_ids`.
#[derive(Debug, Clone)]
pub enum DiffIds {
    Right,
    /// Those of another image, which the node ran before.
    Of(Vec<Layer>),
    None,
    OneLess,
    OneMore,
    Swapped,
    /// Wasm layers left out.
    Archives,
    /// Of the compressed bytes.
    Compressed,
}

/// `os`, `architecture` and `variant`; none where a field is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platform {
    pub os: Option<&'static str>,
    pub architecture: Option<&'static str>,
    pub variant: Option<&'static str>,
}

impl Platform {
    pub fn of(os: &'static str, architecture: &'static str) -> Self {
        Self { os: Some(os), architecture: Some(architecture), variant: None }
    }

    pub fn add_to(&self, value: &mut Value) {
        for (key, field) in [("os", self.os), ("architecture", self.architecture), ("variant", self.variant)]
        {
            if let Some(field) = field {
                value[key] = field.into();
            }
        }
    }
}

impl fmt::Debug for Layer {
    /// An entry a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { archive, module, media_type, compression, size } = self;
        if let Some(number) = module {
            return write!(f, "{media_type}, module {number}, size {size:?}");
        }
        write!(f, "{media_type}, {compression:?}, size {size:?}, end {:?}", archive.end)?;
        archive.items.iter().try_for_each(|item| write!(f, "\n    {item:?}"))
    }
}

impl Layer {
    pub fn gzip(archive: Archive) -> Self {
        Self {
            archive,
            module: None,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
            compression: Compression::Gzip,
            size: Size::Right,
        }
    }

    /// A module as a layer, which is no archive.
    pub fn wasm(media_type: &'static str, number: usize) -> Self {
        Self { module: Some(number), media_type, ..Self::gzip(Archive::default()) }
    }

    pub fn blob(&self) -> Vec<u8> {
        self.module
            .map_or_else(|| self.compression.of(&self.archive.bytes()), |number| module(number).to_vec())
    }

    /// What the blob unpacks to.
    fn unpacked(&self) -> Vec<u8> {
        self.module.map_or_else(|| self.archive.bytes(), |number| module(number).to_vec())
    }
}

impl Image {
    /// The usual kind, with these layers.
    pub fn of(layers: Vec<Layer>) -> Self {
        Self {
            layers,
            diff_ids: DiffIds::Right,
            platform: Platform::of("linux", "amd64"),
            entrypoint: vec!["/app.wasm".into()],
            env: Vec::new(),
            volumes: Vec::new(),
            rootfs: "layers",
            config_type: CONFIG,
            config_size: Size::Right,
            names_layers: false,
            annotations: None,
            twist: None,
        }
    }

    fn diff_ids(&self) -> Vec<String> {
        let of = |layers: &[Layer]| layers.iter().map(|layer| digest(&layer.unpacked())).collect::<Vec<_>>();
        let mut right = of(&self.layers);
        match &self.diff_ids {
            DiffIds::Right => {}
            DiffIds::Of(layers) => return of(layers),
            DiffIds::None => right.clear(),
            DiffIds::OneLess => drop(right.pop()),
            DiffIds::OneMore => right.push(digest(b"more")),
            DiffIds::Swapped => right.reverse(),
            // Only what is an archive is unpacked.
            DiffIds::Archives => {
                let archives = self.layers.iter().filter(|layer| layer.module.is_none());
                return archives.map(|layer| digest(&layer.unpacked())).collect();
            }
            DiffIds::Compressed => return self.layers.iter().map(|layer| digest(&layer.blob())).collect(),
        }
        right
    }

    fn text(&self, of: Object, value: &Value) -> String {
        match &self.twist {
            Some(twist) if twist.of == of => twist.write(value),
            _ => value.to_string(),
        }
    }

    /// What the node ran before, by which its diff ids are known there.
    pub fn earlier(&self) -> Option<Self> {
        match &self.diff_ids {
            DiffIds::Of(layers) => Some(Self::of(layers.clone())),
            _ => None,
        }
    }
}

/// A folder with an image layout.
pub struct Layout<'a> {
    folder: &'a Path,
}

impl<'a> Layout<'a> {
    pub fn new(folder: &'a Path) -> Self {
        std::fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { folder }
    }

    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        std::fs::write(self.folder.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// The bytes of a descriptor.
    pub fn get(&self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        std::fs::read(self.folder.join("blobs").join(digest.replace(':', "/"))).unwrap()
    }

    /// Writes config, layers and manifest, and returns the manifest's descriptor.
    pub fn image(&self, image: &Image) -> Value {
        let mut config = json!({"config": "PROGRAM", "rootfs": "ROOTFS"});
        image.platform.add_to(&mut config);
        if image.names_layers {
            let wasm = image.layers.iter().filter(|layer| layer.module.is_some());
            config["layerDigests"] = wasm.map(|layer| digest(&layer.blob())).collect();
        }
        let mut program = json!({"Entrypoint": image.entrypoint, "Cmd": ["x"], "WorkingDir": "/"});
        if !image.env.is_empty() {
            program["Env"] = image.env.clone().into();
        }
        for volume in &image.volumes {
            program["Volumes"][volume] = json!({});
        }
        let program = image.text(Object::Program, &program);
        let rootfs = json!({"type": image.rootfs, "diff_ids": image.diff_ids()});
        let rootfs = image.text(Object::RootFs, &rootfs);
        let config = image.text(Object::Config, &config);
        let config = config.replace("\"PROGRAM\"", &program).replace("\"ROOTFS\"", &rootfs);
        let mut config = self.put(image.config_type, config.as_bytes());
        image.config_size.apply(&mut config);
        self.manifest(image, &config)
    }

    fn manifest(&self, image: &Image, config: &Value) -> Value {
        let layers = image.layers.iter().map(|layer| image.text(Object::LayerDescriptor, &self.layer(layer)));
        let layers = format!("[{}]", layers.collect::<Vec<_>>().join(","));
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": "LAYERS"});
        if let Some(annotations) = image.annotations {
            manifest["annotations"] = serde_json::from_str(annotations).unwrap();
        }
        let manifest = image.text(Object::Manifest, &manifest).replace("\"LAYERS\"", &layers);
        self.put(MANIFEST, manifest.as_bytes())
    }

    fn layer(&self, layer: &Layer) -> Value {
        let mut descriptor = self.put(layer.media_type, &layer.blob());
        layer.size.apply(&mut descriptor);
        descriptor
    }

    /// Makes this what the layout holds.
    pub fn finish(&self, root: &Value) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [root]});
        std::fs::write(self.folder.join("index.json"), index.to_string()).unwrap();
    }

    /// A layout of one image.
    pub fn write(folder: &'a Path, image: &Image) {
        let layout = Self::new(folder);
        layout.finish(&layout.image(image));
    }
}

/// A frame that decoders leave out (RFC 8878, 3.1.2).
const SKIPPABLE: &[u8] = b"\x50\x2a\x4d\x18\x04\0\0\0skip";

impl Compression {
    /// The bytes, packed.
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        let half = bytes.len() / 2;
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => gzip(bytes),
            Self::Zstd => zstd(bytes),
            Self::Members => [gzip(&bytes[..half]), gzip(&bytes[half..])].concat(),
            Self::GzipTrailing => [&gzip(bytes)[..], b"trailing"].concat(),
            Self::GzipCut => cut(gzip(bytes)),
            Self::GzipSum => {
                let mut all = gzip(bytes);
                let at = all.len() - 6;
                all[at] ^= 1;
                all
            }
            Self::GzipNamed => named(bytes),
            Self::ZstdSkippable => [SKIPPABLE, &zstd(bytes)].concat(),
            Self::ZstdChunked => [&zstd(&bytes[..half])[..], &zstd(&bytes[half..]), SKIPPABLE].concat(),
            Self::ZstdFrames => [zstd(&bytes[..half]), zstd(&bytes[half..])].concat(),
            Self::ZstdTrailing => [&zstd(bytes)[..], b"trailing"].concat(),
            Self::ZstdCut => cut(zstd(bytes)),
            Self::Twice => gzip(&gzip(bytes)),
        }
    }
}

fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len().saturating_sub(5));
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Effort::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn named(bytes: &[u8]) -> Vec<u8> {
    let builder = flate2::GzBuilder::new().filename("layer.tar").comment("a comment").extra(vec![1, 2, 3]);
    let mut encoder = builder.write(Vec::new(), Effort::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}
