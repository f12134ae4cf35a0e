//! Images of every shape, byte for byte as the usual tools write them, for tests and benches.
//!
//! An [`Image`] is plain data: push its blobs, then its manifests, then its root to a registry, or call
//! [`Image::write_layout`]. Benches include this file alone, so it uses nothing of its neighbours.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub const WASM_LAYER: &str = "application/wasm";
pub const RUNWASI_LAYER: &str = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
pub const SPIN_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";
pub const SPIN_APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
pub const TAR_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A manifest or index with everything under it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Media type of the root document.
    pub media_type: String,
    /// The root document: a manifest, or an index.
    pub manifest: Vec<u8>,
    /// Digest of the root document.
    pub digest: String,
    /// The config; empty for an index.
    pub config: Vec<u8>,
    /// Configs and layers by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Manifests under an index, by digest, with their media types.
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
}

impl Image {
    fn root(media_type: &str, document: &Value) -> Self {
        let manifest = serde_json::to_vec(document).unwrap();
        Self {
            media_type: media_type.into(),
            digest: digest(&manifest),
            manifest,
            config: Vec::new(),
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
        }
    }

    /// An index of images, each with its `os/architecture`; an empty text writes no platform.
    pub fn index(entries: &[(&str, &Image)]) -> Self {
        let descriptors: Vec<Value> = entries
            .iter()
            .map(|(platform, image)| {
                let mut descriptor = json!({"mediaType": image.media_type, "digest": image.digest,
                    "size": image.manifest.len()});
                if let Some((os, architecture)) = platform.split_once('/') {
                    descriptor["platform"] = json!({"os": os, "architecture": architecture});
                }
                descriptor
            })
            .collect();
        let document = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors});
        let mut index = Self::root(OCI_INDEX, &document);
        for (_, image) in entries {
            index.blobs.extend(image.blobs.clone());
            index.manifests.extend(image.manifests.clone());
            index.manifests.insert(image.digest.clone(), (image.media_type.clone(), image.manifest.clone()));
        }
        index
    }

    /// What buildx pushes by default: the image and its provenance under one index.
    pub fn with_attestation(&self, platform: &str) -> Self {
        let mut builder = ImageBuilder::new(OCI_CONFIG, json!({"os": "unknown", "architecture": "unknown"}));
        builder.layer("application/vnd.in-toto+json", b"{}".to_vec());
        let statement = builder.build();
        Self::index(&[(platform, self), ("unknown/unknown", &statement)])
    }

    /// Writes an OCI image layout, as `crane`, `oras` and `skopeo` do, with this image as `tag`.
    pub fn write_layout(&self, folder: &Path, tag: &str) -> std::io::Result<()> {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        let manifests = self.manifests.iter().map(|(digest, (_, bytes))| (digest, bytes));
        for (digest, bytes) in self.blobs.iter().chain(manifests).chain([(&self.digest, &self.manifest)]) {
            put(&blobs.join(digest.trim_start_matches("sha256:")), bytes)?;
        }
        put(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
            "mediaType": self.media_type, "digest": self.digest, "size": self.manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": tag}}]});
        put(&folder.join("index.json"), &serde_json::to_vec(&index).unwrap())
    }
}

/// Writes a file in one step: another program of tests may have written the same layout, and be reading it.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    if std::fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let part = path.with_extension(format!("part-{}-{number}", std::process::id()));
    std::fs::write(&part, bytes)?;
    std::fs::rename(part, path)
}

/// Builds one manifest. Everything can be changed before [`ImageBuilder::build`].
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    config_media_type: String,
    config: Value,
    layers: Vec<(String, Vec<u8>)>,
    /// Merged into the manifest at the end.
    pub extra: Value,
}

impl ImageBuilder {
    /// A manifest with this config and no layers.
    pub fn new(config_media_type: &str, config: Value) -> Self {
        Self { config_media_type: config_media_type.into(), config, layers: Vec::new(), extra: json!({}) }
    }

    /// The CNCF artifact, as `wkg oci push` and runwasi's oci-tar-builder write it.
    pub fn wasm_artifact(module: &[u8]) -> Self {
        let os = if module.get(4) == Some(&0x0d) { "wasip2" } else { "wasip1" };
        let config = json!({"created": "2024-06-25T15:58:49Z", "author": null, "architecture": "wasm", "os": os,
            "layerDigests": [digest(module)], "component": null});
        let mut builder = Self::new(WASM_CONFIG, config);
        builder.layer(WASM_LAYER, module.to_vec());
        builder
    }

    /// runwasi's layers.
    pub fn runwasi(module: &[u8], entrypoint: &str) -> Self {
        let config = json!({"architecture": "wasm", "os": "wasip1", "config": {"Entrypoint": [entrypoint],
            "Labels": {"containerd.runwasi.layers": digest(module)}}, "rootfs": {"type": "layers", "diff_ids": []}});
        let mut builder = Self::new(OCI_CONFIG, config);
        builder.layer(RUNWASI_LAYER, module.to_vec());
        builder
    }

    /// A Spin application of these modules.
    pub fn spin(locked: &Value, modules: &[&[u8]]) -> Self {
        let locked = serde_json::to_vec(locked).unwrap();
        let config = json!({"architecture": "wasm", "os": "Wasip1",
            "config": {"Labels": {"com.fermyon.spin.lockedAppDigest": digest(&locked)}},
            "rootfs": {"type": "layers", "diff_ids": []}});
        let mut builder = Self::new(OCI_CONFIG, config);
        for module in modules {
            builder.layer(SPIN_LAYER, module.to_vec());
        }
        builder.layer(SPIN_APPLICATION, locked);
        builder
    }

    /// A root file system. `wasi/wasm` is what buildx writes (with [`Image::with_attestation`]), `wasip1/wasm` what
    /// other builders write, and `linux/amd64` a `FROM scratch` or an ordinary image.
    pub fn rootfs(platform: &str, entrypoint: &[&str]) -> Self {
        let (os, architecture) = platform.split_once('/').unwrap_or((platform, ""));
        let config = json!({"architecture": architecture, "os": os, "config": {"Entrypoint": entrypoint},
            "rootfs": {"type": "layers", "diff_ids": []}});
        Self::new(OCI_CONFIG, config)
    }

    /// Adds a layer of any kind.
    pub fn layer(&mut self, media_type: &str, bytes: Vec<u8>) -> &mut Self {
        self.layers.push((media_type.into(), bytes));
        self
    }

    /// Adds a gzip layer of files; names that begin with `.wh.` are whiteouts.
    pub fn files(&mut self, files: &[(&str, &[u8])]) -> &mut Self {
        self.layer(GZIP_LAYER, gzip(&tar_of(files)))
    }

    /// Sets a field of the config's `config` object, such as `Cmd`.
    pub fn set(&mut self, key: &str, value: Value) -> &mut Self {
        self.config["config"][key] = value;
        self
    }

    /// Sets a field of the config itself, such as `architecture`.
    pub fn set_config(&mut self, key: &str, value: Value) -> &mut Self {
        self.config[key] = value;
        self
    }

    /// The image. A config with `rootfs` lists the digests of its unpacked layers, unless it has a list already.
    pub fn build(&self) -> Image {
        let mut config = self.config.clone();
        if config["rootfs"]["diff_ids"] == json!([]) {
            // What Spin unpacks by itself is none of a root file system.
            let is_of_files = |kind: &str| kind.contains(".tar") && !kind.contains("content.bundle");
            let layers = self.layers.iter().filter(|(kind, _)| is_of_files(kind));
            config["rootfs"]["diff_ids"] = layers.map(|(_, bytes)| json!(digest(&unpacked(bytes)))).collect();
        }
        let config = serde_json::to_vec(&config).unwrap();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(kind, bytes)| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()}))
            .collect();
        let mut document = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {
            "mediaType": self.config_media_type, "digest": digest(&config), "size": config.len()}, "layers": layers});
        for (key, value) in self.extra.as_object().unwrap() {
            document[key] = value.clone();
        }
        let mut image = Image::root(OCI_MANIFEST, &document);
        image.blobs.insert(digest(&config), config.clone());
        image.blobs.extend(self.layers.iter().map(|(_, bytes)| (digest(bytes), bytes.clone())));
        image.config = config;
        image
    }
}

/// A tar archive of executable files.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    tar_of_mode(files, 0o755)
}

/// A tar archive of files with these mode bits.
pub fn tar_of_mode(files: &[(&str, &[u8])], mode: u32) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        builder.append_data(&mut header, name.trim_start_matches('/'), *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The header of an entry, which says what it is.
pub fn tar_header(kind: tar::EntryType, mode: u32, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header
}

/// A tar archive of entries without content, with these mode bits. A link leads to `x`.
pub fn tar_of_empty(entries: &[(&str, tar::EntryType, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, mode) in entries {
        let mut header = tar_header(*kind, *mode, 0);
        if kind.is_symlink() {
            header.set_link_name("x").unwrap();
        }
        builder.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An archive of executable files behind a global pax header, with which git begins its archives.
pub fn tar_with_global_header(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XGlobalHeader);
    header.set_mode(0o644);
    let record = b"13 comment=x\n";
    header.set_size(record.len() as u64);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "pax_global_header", &record[..]).unwrap();
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A tar archive of one symbolic link.
pub fn tar_link(name: &str, target: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_link(&mut tar_header(tar::EntryType::Symlink, 0o777, 0), name, target).unwrap();
    builder.into_inner().unwrap()
}

/// The unpacked layer, recognised by its first bytes.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    let done = match bytes {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut unpacked),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            ruzstd::decoding::StreamingDecoder::new(bytes).unwrap().read_to_end(&mut unpacked)
        }
        plain => return plain.to_vec(),
    };
    // A deliberately broken layer needs no digest.
    if done.is_ok() { unpacked } else { bytes.to_vec() }
}

/// Compresses with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compresses with Zstandard.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Modules and components: written by hand for corner cases, made by real compilers otherwise.
pub mod fixtures {
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Mutex;

    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    };

    /// Assembles text.
    pub fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    /// A preview-1 command that writes to standard output and does nothing else.
    pub fn command() -> Vec<u8> {
        wat(r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "hello\n") (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (func (export "_start") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#)
    }

    /// A preview-1 command that opens files and reads variables.
    pub fn file_command() -> Vec<u8> {
        wat(r#"(module
            (import "wasi_snapshot_preview1" "path_open"
                (func $o (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_get" (func $e (param i32 i32) (result i32)))
            (memory (export "memory") 2)
            (func (export "_start")
                (drop (call $o (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
                    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
                (drop (call $e (i32.const 128) (i32.const 256)))))"#)
    }

    /// A component that answers HTTP and may send requests to other hosts, written by hand.
    pub fn http_component() -> Vec<u8> {
        wat(r#"(component
            (import "wasi:http/outgoing-handler@0.2.0" (instance (export "handle" (func (result u32)))))
            (core module $m (memory (export "memory") 1) (func (export "f") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $f (result u32) (canon lift (core func $i "f")))
            (instance $e (export "handle" (func $f)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $e)))"#)
    }

    /// A component without code that only declares interfaces, like a packed WIT package.
    pub fn wit_package() -> Vec<u8> {
        wat(
            r#"(component (type (component (type (instance (export "f" (func)))) (export "a:b/c@0.1.0" (instance (type 0)))))
            (export "c" (type 0)))"#,
        )
    }

    /// Makes a command component from a preview-1 command, as `wasm-tools component new --adapt` does.
    pub fn componentize(module: &[u8]) -> Vec<u8> {
        wit_component::ComponentEncoder::default()
            .module(module)
            .and_then(|encoder| {
                encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
            })
            .and_then(|mut encoder| encoder.encode())
            .unwrap()
    }

    /// A locked app with one component per module, each reached by HTTP, and the given `metadata` for every component.
    pub fn locked_app(modules: &[&[u8]], metadata: &Value) -> Value {
        let components: Vec<Value> = modules
            .iter()
            .enumerate()
            .map(|(number, module)| {
                json!({"id": format!("component-{number}"), "metadata": metadata,
                    "source": {"content_type": "application/wasm", "digest": super::digest(module)}})
            })
            .collect();
        json!({"spin_lock_version": 0, "metadata": {"name": "app", "version": "0.1.0"},
            "triggers": [{"id": "trigger--0", "trigger_type": "http",
                "trigger_config": {"component": "component-0", "route": "/..."}}],
            "components": components})
    }

    /// A Go command for WASI preview 1, built from `tests/fixtures/go/<name>` and cached under a name that changes with
    /// its sources and the compiler.
    pub fn go(name: &str) -> Vec<u8> {
        go_for(name, "wasip1", "exe")
    }

    /// [`go`] for another `GOOS` or build mode.
    pub fn go_for(name: &str, os: &str, mode: &str) -> Vec<u8> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (folder, built) = go_paths(name, os, mode);
        if !built.exists() {
            build(&folder, &built, os, mode);
        }
        std::fs::read(built).unwrap()
    }

    /// [`go`] if it was built before.
    pub fn built_go(name: &str) -> Option<Vec<u8>> {
        std::fs::read(go_paths(name, "wasip1", "exe").1).ok()
    }

    /// The sources of a Go program, and where it is kept once it is built.
    fn go_paths(name: &str, os: &str, mode: &str) -> (PathBuf, PathBuf) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/go").join(name);
        let built = cache_folder().join(format!("go-{name}-{os}-{mode}-{}.wasm", fingerprint(&folder)));
        (folder, built)
    }

    /// The version that `tests/fixtures/producers/list` pins.
    pub fn pinned(name: &str) -> &'static str {
        let list = include_str!("../fixtures/producers/list");
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(1)).expect("a name in the list")
    }

    /// A binary that `tests/fixtures/producers/fetch` downloaded, or `None` with a note. With
    /// `WASMGATE_PRODUCERS=required` the test fails if it is absent.
    pub fn produced(name: &str) -> Option<Vec<u8>> {
        let version = pinned(name);
        let file = cache_folder().with_file_name("producers").join(format!("{name}-{version}.wasm"));
        let bytes = std::fs::read(&file).ok();
        if bytes.is_none() {
            eprintln!("skipped: no {}; run tests/fixtures/producers/fetch", file.display());
            assert!(std::env::var("WASMGATE_PRODUCERS").is_err(), "{} is required", file.display());
        }
        bytes
    }

    fn build(folder: &Path, built: &Path, os: &str, mode: &str) {
        std::fs::create_dir_all(built.parent().unwrap()).unwrap();
        // Another test binary may build it at the same time, so it is renamed only when complete.
        let partial = built.with_extension(format!("{}.part", std::process::id()));
        let output = Command::new("go")
            .args(["build", "-trimpath", &format!("-buildmode={mode}"), "-o"])
            .args([&partial])
            .arg(".")
            .envs([("GOOS", os), ("GOARCH", "wasm"), ("GOFLAGS", "")])
            .current_dir(folder)
            .output()
            .expect("`go` is needed to build the fixtures");
        assert!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(partial, built).unwrap();
    }

    fn fingerprint(folder: &Path) -> String {
        let mut hash = Sha256::new();
        hash.update(
            Command::new("go").arg("version").output().expect("`go` is needed to build the fixtures").stdout,
        );
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            hash.update(file.file_name().unwrap().as_encoded_bytes());
            hash.update(std::fs::read(file).unwrap());
        }
        let bytes = hash.finalize();
        super::hex(&bytes[..8])
    }

    fn cache_folder() -> PathBuf {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        base.unwrap_or_else(std::env::temp_dir).join("wasmgate/fixtures")
    }
}
