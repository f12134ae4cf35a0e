//! Reads bundles of `opa build` (`open-policy-agent/opa:v1/bundle/bundle.go`) from an archive or an
//! unpacked directory, within limits. [`super::PolicySet::load`] checks the module itself.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::memory::raise_minimum;

/// Largest archive, in bytes. The baseline has 60 KiB; bundles are large because of their data.
pub const MAX_PACKED_BYTES: u64 = 64 << 20;
/// Most bytes that an archive unpacks to. OPA's own limit is 1 GiB, which is more than the gate's pod gets.
pub const MAX_UNPACKED_BYTES: u64 = 256 << 20;
/// Most files and folders in a bundle folder. OPA writes four files; sources beside them may be a few hundred.
const MAX_WALKED: usize = 10_000;

/// Top-level keys of the input that a bundle does not read.
pub(super) type Omit = BTreeSet<String>;

/// An OPA bundle: the compiled module, its data and its manifest.
#[derive(Clone)]
pub struct Bundle {
    /// Name for records and messages.
    pub name: String,
    /// `revision` of the manifest; empty when there is none.
    pub revision: String,
    /// Bytes of `policy.wasm`.
    pub(super) module: Arc<[u8]>,
    /// `data` of the rules.
    pub(super) data: Arc<Value>,
    /// Top-level keys of the input that no rule reads, so that the gate need not pass them.
    pub(super) omit: Arc<Omit>,
}

// The module is a few hundred kilobytes, which do not belong in a log.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("name", &self.name)
            .field("revision", &self.revision)
            .field("module_bytes", &self.module.len())
            .field("omit", &self.omit)
            .finish_non_exhaustive()
    }
}

/// The files of a bundle that the gate reads.
#[derive(Default)]
struct Files {
    module: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

/// The part of `.manifest` that is read (`open-policy-agent/opa:v1/bundle/manifest.schema.json`).
#[derive(Default, Deserialize)]
#[serde(default)]
struct BundleManifest {
    revision: String,
    metadata: Metadata,
}

/// The gate's part of `metadata`, which OPA leaves to users of bundles.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    wasmgate: GateMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GateMetadata {
    omit: Omit,
}

impl Bundle {
    /// The baseline rules, embedded in the gate. Their sources are in `policies/wasmgate`.
    pub fn embedded() -> Result<Self, Error> {
        let files = Files {
            module: Some(include_bytes!("../../policies/baseline/policy.wasm").to_vec()),
            data: Some(include_bytes!("../../policies/baseline/data.json").to_vec()),
            manifest: Some(include_bytes!("../../policies/baseline/.manifest").to_vec()),
        };
        Self::assemble("baseline", files)
    }

    /// Reads a bundle from a file or directory; its name without `.tar.gz` becomes the bundle's name. Blocks on the disk.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::ReadBundle { path: path.to_path_buf(), source };
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            return Self::from_dir(path);
        }
        let name = file_name(path);
        let name = name.strip_suffix(".tar.gz").or_else(|| name.strip_suffix(".tgz")).unwrap_or(&name);
        let bytes = read_bounded(File::open(path).map_err(failed)?, MAX_PACKED_BYTES).map_err(failed)?;
        let bytes = bytes.ok_or_else(|| too_large(name, "an archive", MAX_PACKED_BYTES))?;
        Self::from_tar_gz(name, &bytes)
    }

    /// Reads a directory with an unpacked bundle. Blocks on the disk.
    pub fn from_dir(path: &Path) -> Result<Self, Error> {
        let name = file_name(path);
        // This is not a bundle, and may be of any size, so do not walk it.
        if !path.join("policy.wasm").exists() {
            return Err(Error::FindModule { bundle: name });
        }
        let mut files = Files::default();
        for (relative, file) in walk(&name, path)? {
            let Some(slot) = files.slot(&name, &relative)? else { continue };
            let failed = |source| Error::ReadBundle { path: file.clone(), source };
            let bytes =
                read_bounded(File::open(&file).map_err(failed)?, MAX_UNPACKED_BYTES).map_err(failed)?;
            *slot = Some(bytes.ok_or_else(|| too_large(&name, "a file", MAX_UNPACKED_BYTES))?);
        }
        Self::assemble(&name, files)
    }

    /// Reads an archive of `opa build`.
    pub fn from_tar_gz(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_PACKED_BYTES {
            return Err(too_large(name, "an archive", MAX_PACKED_BYTES));
        }
        Self::assemble(name, unpack(name, bytes)?)
    }

    fn assemble(name: &str, files: Files) -> Result<Self, Error> {
        let mut module = files.module.ok_or_else(|| Error::FindModule { bundle: name.into() })?;
        if !module.starts_with(b"\0asm") {
            let reason = "it does not start with the magic number of Wasm".into();
            return Err(Error::CompileModule { bundle: name.into(), reason });
        }
        raise_minimum(&mut module);
        let manifest: BundleManifest = parse(name, ".manifest", files.manifest.as_deref().unwrap_or(b"{}"))?;
        let data = files.data.as_deref().ok_or_else(|| Error::FindData { bundle: name.into() })?;
        let data: Value = parse(name, "data.json", data)?;
        if !data.is_object() {
            let reason = "expected an object".into();
            return Err(Error::ParseFile { bundle: name.into(), file: "data.json", reason });
        }
        Ok(Self {
            name: name.into(),
            revision: manifest.revision,
            module: module.into(),
            data: Arc::new(data),
            omit: Arc::new(manifest.metadata.wasmgate.omit),
        })
    }
}

impl Files {
    /// The field for the bytes of `file`; `None` for a file that the gate does not read, such as the Rego sources.
    fn slot(&mut self, bundle: &str, file: &str) -> Result<Option<&mut Option<Vec<u8>>>, Error> {
        let refuse = |fix| Err(Error::AcceptFile { bundle: bundle.into(), file: file.into(), fix });
        let slot = match file {
            "policy.wasm" => &mut self.module,
            "data.json" => &mut self.data,
            ".manifest" => &mut self.manifest,
            // Without these files the rules would run on less data than intended.
            "data.yaml" | "data.yml" => return refuse("`opa build` turns it into `data.json`"),
            "patch.json" => return refuse("delta bundles are not supported, pack a whole one"),
            nested if nested.ends_with("/data.json") || nested.ends_with("/policy.wasm") => {
                return refuse("`opa build` puts one at the root of the bundle");
            }
            _ => return Ok(None),
        };
        if slot.is_some() {
            return refuse("it is there twice");
        }
        Ok(Some(slot))
    }
}

fn unpack(name: &str, bytes: &[u8]) -> Result<Files, Error> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::FileTooLarge => too_large(name, "contents", MAX_UNPACKED_BYTES),
        // The reader's own message repeats bytes of the file.
        ErrorKind::UnexpectedEof => Error::UnpackBundle { bundle: name.into(), reason: "it is cut short" },
        _ => {
            Error::UnpackBundle { bundle: name.into(), reason: "it is not a gzipped tar archive, or damaged" }
        }
    };
    let mut files = Files::default();
    let mut archive =
        tar::Archive::new(Bounded { inner: MultiGzDecoder::new(bytes), left: MAX_UNPACKED_BYTES });
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // opa writes absolute names, tar relative ones.
        let file = path.trim_start_matches("./").trim_start_matches('/');
        let Some(slot) = files.slot(name, file)? else { continue };
        // Sparse files stay out too: their holes do not come from the archive, so its bound would not hold for them.
        if !entry.header().entry_type().is_file() {
            let fix = "it is a link or another special file, pack the file itself";
            return Err(Error::AcceptFile { bundle: name.into(), file: file.into(), fix });
        }
        let bytes = read_bounded(entry, MAX_UNPACKED_BYTES).map_err(failed)?;
        *slot = Some(bytes.ok_or_else(|| too_large(name, "contents", MAX_UNPACKED_BYTES))?);
    }
    Ok(files)
}

/// Every file below a folder, with its relative path. Names that begin with two dots are skipped: the kubelet uses them
/// for ConfigMap volumes, and links beside them lead to the same files.
fn walk(bundle: &str, root: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let (mut files, mut folders, mut seen) = (Vec::new(), vec![(String::new(), root.to_path_buf())], 0_usize);
    while let Some((prefix, folder)) = folders.pop() {
        let failed = |source| Error::ReadBundle { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, entry_type) = (entry.path(), entry.file_type().map_err(failed)?);
            seen = seen.saturating_add(1);
            if seen > MAX_WALKED {
                return Err(Error::WalkFolder { bundle: bundle.into(), limit: MAX_WALKED });
            }
            let name = file_name(&path);
            // Links to folders are not followed, since they may form a cycle.
            let is_folder = entry_type.is_dir();
            if name.starts_with("..") || (!is_folder && path.is_dir()) {
                continue;
            }
            if is_folder {
                folders.push((format!("{prefix}{name}/"), path));
            } else {
                files.push((format!("{prefix}{name}"), path));
            }
        }
    }
    Ok(files)
}

/// A reader that fails after `left` bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let size = u64::try_from(read).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(size).ok_or(ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// All bytes of `reader`, or `None` if it has more than `limit`.
fn read_bounded(reader: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read = reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((u64::try_from(read).unwrap_or(u64::MAX) <= limit).then_some(bytes))
}

fn parse<'a, T: Deserialize<'a>>(bundle: &str, file: &'static str, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::ParseFile {
        bundle: bundle.into(),
        file,
        reason: error.to_string(),
    })
}

fn too_large(bundle: &str, what: &'static str, limit: u64) -> Error {
    Error::SizeBundle { bundle: bundle.into(), what, limit }
}

fn file_name(path: &Path) -> String {
    // `.` and `..` have no file name.
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.or_else(|| Some(path.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| path.display().to_string())
}
