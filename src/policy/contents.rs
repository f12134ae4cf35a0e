//! The files of a bundle as `opa build` writes them (`open-policy-agent/opa:v1/bundle/bundle.go`), from an archive or an
//! unpacked folder, within limits. What they say is read by [`super::Bundle`].

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::Error;
use super::unpacked::{UnpackBudget, UnpackShare};
use crate::files::{self, unless_too_large};
use crate::text;

/// The file with the signature.
pub const SIGNATURES: &str = ".signatures.json";
/// Largest archive, in bytes. The baseline has 60 KiB; bundles are large because of their data.
pub const MAX_PACKED_BYTES: u64 = 64 << 20;
/// Most bytes that an archive unpacks to. OPA's own limit is 1 GiB, which is more than the gate's pod gets.
pub const MAX_UNPACKED_BYTES: u64 = 256 << 20;
/// Largest `data.json`, in bytes. It has to fit, with what it is parsed to, in the memory of an evaluation.
const MAX_DATA_BYTES: u64 = 64 << 20;
/// Largest `.manifest` or `.signatures.json`, in bytes.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Most values and keys of a document. Parsed, each takes many times the two bytes that it has as text.
const MAX_VALUES: usize = 2_000_000;
/// Most files and folders in a bundle. OPA writes four files; sources beside them may be a few hundred.
const MAX_FILES: usize = 10_000;
/// Most characters of a foreign name in a message.
const SHOWN: usize = 200;

/// What the archives of this process may unpack to together: as much as one of them may.
static UNVERIFIED: UnpackBudget = UnpackBudget::of(MAX_UNPACKED_BYTES);

/// The files of a bundle, by their paths from its root.
#[derive(Clone, Default)]
pub struct Contents {
    files: BTreeMap<String, Vec<u8>>,
    /// Of what may be unpacked at once, until it is known who made them.
    share: Option<Arc<UnpackShare>>,
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Eq for Contents {}

// Modules and data do not belong in a log.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.keys()).finish()
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Contents {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(files: I) -> Self {
        let files = files.into_iter().map(|(name, bytes)| (name.into(), bytes.to_vec())).collect();
        Self { files, share: None }
    }
}

impl Contents {
    /// Reads an archive or a folder; `name` is the bundle's, for messages. Blocks on the disk.
    pub fn load(name: &str, path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::ReadBundle { path: path.to_path_buf(), source };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return Self::from_dir(name, path);
        }
        let bytes = unless_too_large(files::read(path, MAX_PACKED_BYTES)).map_err(failed)?;
        let bytes = bytes.ok_or_else(|| too_large(name, "an archive", MAX_PACKED_BYTES))?;
        Self::from_tar_gz(name, &bytes)
    }

    /// Reads a folder with an unpacked bundle. Blocks on the disk.
    pub fn from_dir(name: &str, path: &Path) -> Result<Self, Error> {
        // This is not a bundle, and may be of any size, so do not walk it.
        if !path.join("policy.wasm").exists() {
            return Err(Error::FindModule { bundle: name.into() });
        }
        let (mut contents, mut left) = (Self::default(), MAX_UNPACKED_BYTES);
        for (relative, file) in walk(name, path)? {
            let failed = |source| Error::ReadBundle { path: file.clone(), source };
            acceptable(name, &relative)?;
            let (what, limit) = bound(&relative);
            let bytes = unless_too_large(files::read(&file, left.min(limit))).map_err(failed)?;
            let bytes = bytes.ok_or_else(|| {
                let all = ("contents", MAX_UNPACKED_BYTES);
                let (what, limit) = if left < limit { all } else { (what, limit) };
                too_large(name, what, limit)
            })?;
            few_values(name, &relative, &bytes)?;
            left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            contents.files.insert(relative, bytes);
        }
        Ok(contents)
    }

    /// Reads an archive of `opa build`. What archives unpack to is bounded for all of them together: where it is too much, this waits
    /// until the contents of others are [settled](Self::settled) or dropped.
    pub fn from_tar_gz(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        Self::unpacked(name, bytes, Some(&UNVERIFIED))
    }

    /// Reads an archive that this process wrote itself, of a bundle that was verified.
    pub fn from_own_archive(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        Self::unpacked(name, bytes, None)
    }

    /// These contents, as those of a bundle that was verified, or need not be.
    #[must_use]
    pub fn settled(mut self) -> Self {
        drop(self.share.take());
        self
    }

    pub(super) fn unpacked(
        name: &str,
        bytes: &[u8],
        budget: Option<&'static UnpackBudget>,
    ) -> Result<Self, Error> {
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_PACKED_BYTES {
            return Err(too_large(name, "an archive", MAX_PACKED_BYTES));
        }
        let unpacked = unpacked_bytes(bytes).map_err(|error| damaged(name, &error))?;
        let share = budget.map(|budget| Arc::new(budget.take(unpacked)));
        let mut contents = Self { share, ..Self::default() };
        let mut archive = tar::Archive::new(Bounded { inner: MultiGzDecoder::new(bytes), left: unpacked });
        for entry in archive.entries().map_err(|error| damaged(name, &error))? {
            contents.unpack(name, entry.map_err(|error| damaged(name, &error))?)?;
        }
        Ok(contents)
    }

    fn unpack(&mut self, name: &str, entry: tar::Entry<'_, impl Read>) -> Result<(), Error> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // opa writes absolute names, tar relative ones.
        let file = path.trim_start_matches("./").trim_start_matches('/');
        let refuse =
            |fix| Err(Error::AcceptFile { bundle: name.into(), file: text::quoted(file, SHOWN), fix });
        let is_read = acceptable(name, file)?;
        // Sparse files stay out too: their holes do not come from the archive, so its bound would not hold for them.
        if !entry.header().entry_type().is_file() {
            let is_link =
                entry.header().entry_type().is_symlink() || entry.header().entry_type().is_hard_link();
            return if is_read || is_link {
                refuse("it is a link or another special file, pack the file itself")
            } else {
                Ok(())
            };
        }
        if self.files.contains_key(file) {
            return refuse("it is there twice");
        }
        if self.files.len() >= MAX_FILES {
            return Err(Error::WalkFolder { bundle: name.into(), limit: MAX_FILES });
        }
        let (what, limit) = bound(file);
        // A buffer that grows would be twice as large for a moment. What is not written to takes no memory.
        let size = usize::try_from(entry.size().min(limit)).unwrap_or_default();
        let bytes =
            read_into(Vec::with_capacity(size), entry, limit).map_err(|error| damaged(name, &error))?;
        let mut bytes = bytes.ok_or_else(|| too_large(name, what, limit))?;
        bytes.shrink_to_fit();
        few_values(name, file, &bytes)?;
        self.files.insert(file.into(), bytes);
        Ok(())
    }

    /// Refuses data that could not be given to an instance with this much memory, before anything else is done with it: the
    /// instance gets the text before it parses it.
    pub fn check_data(&self, name: &str, memory_bytes: usize) -> Result<(), Error> {
        let bytes = self.file("data.json").map_or(0, <[u8]>::len);
        if bytes > memory_bytes {
            return Err(Error::FitData { bundle: name.into(), bytes, limit: memory_bytes });
        }
        Ok(())
    }

    /// The files and their bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// The bytes of a file.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// SHA-256 of the files apart from the signature, in hexadecimal: a bundle that is signed later is still the same.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for (name, bytes) in self.files.iter().filter(|(name, _)| name.as_str() != SIGNATURES) {
            // With their lengths, so that no other files run together to the same bytes.
            for part in [name.as_bytes(), bytes] {
                digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
                digest.update(part);
            }
        }
        format!("{:x}", digest.finalize())
    }

    /// An archive with the same files, the same for the same files. It is one of OPA: `.manifest` names the module as `/policy.wasm`, and
    /// OPA looks for a file of exactly that name (`open-policy-agent/opa:v1/bundle/bundle.go`).
    pub fn to_tar_gz(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, bytes) in &self.files {
            let name = format!("/{name}");
            let mut header = tar::Header::new_gnu();
            header.set_size(u64::try_from(bytes.len()).map_err(io::Error::other)?);
            header.set_mode(0o644);
            // Written as it is: `tar` refuses absolute names, and `..`, which `opa build --bundle ../rules` puts into those of sources. Nothing
            // is unpacked to where a name leads, and a signature has the name.
            let field = &mut header.as_old_mut().name;
            let written = if name.len() < field.len() && !name.contains('\0') {
                name.as_str()
            } else {
                archive.append_pax_extensions([("path", name.as_bytes())])?;
                "source"
            };
            for (to, byte) in field.iter_mut().zip(written.bytes()) {
                *to = byte;
            }
            header.set_cksum();
            archive.append(&header, bytes.as_slice())?;
        }
        archive.into_inner()?.finish()
    }
}

/// Every file of the bundle at a path: the archive itself, or the files of the folder. Blocks on the disk.
pub fn paths(name: &str, path: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::ReadBundle { path: path.to_path_buf(), source };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files: Vec<_> = walk(name, path)?.into_iter().map(|(_, path)| path).collect();
    files.sort();
    Ok(files)
}

/// Whether the gate reads the file. Refuses one that affects the rules and is not read: they would run on less data than
/// intended.
fn acceptable(bundle: &str, file: &str) -> Result<bool, Error> {
    let refuse = |fix| Err(Error::AcceptFile { bundle: bundle.into(), file: text::quoted(file, SHOWN), fix });
    match file {
        "policy.wasm" | "data.json" | ".manifest" | ".signatures.json" => Ok(true),
        yaml if matches!(last(yaml), "data.yaml" | "data.yml") => {
            refuse("`opa build` turns it into `data.json` at the root of the bundle")
        }
        "patch.json" => refuse("delta bundles are not supported, pack a whole one"),
        nested if nested.ends_with("/data.json") || nested.ends_with("/policy.wasm") => {
            refuse("`opa build` puts one at the root of the bundle")
        }
        _ => Ok(false),
    }
}

/// What a file is called in messages, and the most bytes that it may have.
fn bound(file: &str) -> (&'static str, u64) {
    match last(file) {
        "data.json" => ("a `data.json`", MAX_DATA_BYTES),
        ".manifest" => ("a `.manifest`", MAX_MANIFEST_BYTES),
        ".signatures.json" => ("a `.signatures.json`", MAX_MANIFEST_BYTES),
        _ => ("contents", MAX_UNPACKED_BYTES),
    }
}

fn last(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// Refuses a document with too many values, before it is parsed: its signature can be verified only afterwards.
fn few_values(bundle: &str, file: &str, bytes: &[u8]) -> Result<(), Error> {
    let is_document = matches!(last(file), "data.json" | ".manifest" | ".signatures.json");
    if is_document && values(bytes) > MAX_VALUES {
        return Err(Error::CountValues {
            bundle: bundle.into(),
            file: text::quoted(file, SHOWN),
            limit: MAX_VALUES,
        });
    }
    Ok(())
}

/// No fewer than the values and keys of a document: what begins or parts them, outside strings.
fn values(bytes: &[u8]) -> usize {
    let marks = text::outside_strings(bytes).filter(|byte| matches!(byte, b'[' | b'{' | b',' | b':'));
    marks.count().saturating_add(1)
}

fn damaged(name: &str, error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::FileTooLarge => too_large(name, "contents", MAX_UNPACKED_BYTES),
        // The reader's own message repeats bytes of the file.
        ErrorKind::UnexpectedEof => Error::UnpackBundle { bundle: name.into(), reason: "it is cut short" },
        _ => {
            Error::UnpackBundle { bundle: name.into(), reason: "it is not a gzipped tar archive, or damaged" }
        }
    }
}

/// Every file below a folder, with its relative path. Names that begin with two dots are skipped: the kubelet uses them
/// for ConfigMap volumes, and links beside them lead to the same files. Links to other folders are refused, since what is there
/// would be left out, and so are links out of the folder: who wrote what they lead to is not who wrote the bundle.
fn walk(bundle: &str, root: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let failed = |source| Error::ReadBundle { path: root.to_path_buf(), source };
    let whole = root.canonicalize().map_err(failed)?;
    let (mut files, mut folders, mut seen) = (Vec::new(), vec![(String::new(), root.to_path_buf())], 0_usize);
    while let Some((prefix, folder)) = folders.pop() {
        let failed = |source| Error::ReadBundle { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, entry_type) = (entry.path(), entry.file_type().map_err(failed)?);
            seen = seen.saturating_add(1);
            if seen > MAX_FILES {
                return Err(Error::WalkFolder { bundle: bundle.into(), limit: MAX_FILES });
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("..") {
                continue;
            }
            let is_folder = entry_type.is_dir() || path.is_dir();
            if entry_type.is_symlink() {
                let is_other_folder = is_folder && !(prefix.is_empty() && is_mounted(&path, &name));
                let of_link = |source| Error::ReadBundle { path: path.clone(), source };
                if let Some(fix) = wrong_link(&path, &whole, is_other_folder).map_err(of_link)? {
                    let file = text::quoted(&format!("{prefix}{name}"), SHOWN);
                    return Err(Error::AcceptFile { bundle: bundle.into(), file, fix });
                }
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

/// What to do instead of a link, if it leads out of this folder, or to one that the kubelet did not mount.
fn wrong_link(link: &Path, whole: &Path, is_other_folder: bool) -> io::Result<Option<&'static str>> {
    // Between two steps of the first look the kubelet may have removed what the link led to until then.
    let target = link.canonicalize().or_else(|_| link.canonicalize())?;
    if !target.starts_with(whole) {
        return Ok(Some(
            "it is a link that leads out of the folder of the bundle, put there what it leads to",
        ));
    }
    Ok(is_other_folder.then_some("it is a link to a folder, put the folder itself there"))
}

/// Whether it is a file of Rego, by its name.
pub fn is_rego(file: impl AsRef<Path>) -> bool {
    file.as_ref().extension().is_some_and(|end| end == "rego")
}

/// Whether a link at the root of a folder is the kubelet's own, for a folder of a mounted `ConfigMap`
/// (`kubernetes:pkg/volume/util/atomic_writer.go`): it leads to the same name in `..data`, and so to nothing above itself.
pub fn is_mounted(link: &Path, name: &str) -> bool {
    std::fs::read_link(link).is_ok_and(|target| target == Path::new("..data").join(name))
}

/// How many bytes an archive unpacks to, without keeping them; of a damaged one, up to the damage.
fn unpacked_bytes(bytes: &[u8]) -> io::Result<u64> {
    let (mut reader, mut buffer, mut count) = (MultiGzDecoder::new(bytes), vec![0; 64 << 10], 0_u64);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(count),
            Ok(read) => count = count.saturating_add(u64::try_from(read).unwrap_or(u64::MAX)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It is told by reading the files.
            Err(_) => return Ok(count),
        }
        if count > MAX_UNPACKED_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
    }
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

/// All bytes of `reader`, or `None` if it has more than `limit`. It may end with the kind of error by which `files` says that.
fn read_into(mut bytes: Vec<u8>, reader: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let read = reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((u64::try_from(read).unwrap_or(u64::MAX) <= limit).then_some(bytes))
}

fn too_large(bundle: &str, what: &'static str, limit: u64) -> Error {
    Error::SizeBundle { bundle: bundle.into(), what, limit }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_was_packed_is_what_is_unpacked() {
        let files: [(&str, &[u8]); 3] =
            [("policy.wasm", b"\0asm"), ("data.json", b"{}"), ("a/b.rego", b"package a")];
        let contents: Contents = files.into_iter().collect();
        let packed = contents.to_tar_gz().unwrap();
        assert_eq!(Contents::from_tar_gz("test", &packed).unwrap(), contents);
        assert_eq!(contents.to_tar_gz().unwrap(), packed);
        let long = format!("{}/b.rego", "a".repeat(120));
        let files: [(&str, &[u8]); 2] = [(&long, b"package a"), (".manifest", b"{}")];
        let contents: Contents = files.into_iter().collect();
        let packed = contents.to_tar_gz().unwrap();
        assert_eq!(Contents::from_tar_gz("test", &packed).unwrap(), contents);
        // As OPA has them.
        let mut archive = tar::Archive::new(MultiGzDecoder::new(packed.as_slice()));
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            names.push(String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap());
        }
        assert_eq!(names, [String::from("/.manifest"), format!("/{long}")]);
    }

    #[test]
    fn the_digest_is_that_of_every_file_but_the_signature() {
        let of = |files: &[(&str, &str)]| {
            files.iter().map(|(name, text)| (*name, text.as_bytes())).collect::<Contents>().digest()
        };
        let plain = of(&[("a", "bc"), ("d", "")]);
        assert_eq!(plain, of(&[("d", ""), ("a", "bc"), (SIGNATURES, "x")]));
        let others: [&[(&str, &str)]; 4] =
            [&[("a", "b"), ("d", "")], &[("ab", "c"), ("d", "")], &[("a", "bc")], &[("a", "bcd"), ("d", "")]];
        assert!(others.iter().all(|files| of(files) != plain));
    }

    fn packed(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len().try_into().unwrap());
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        // Written by hand, since the writer refuses the names too.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, bytes).unwrap();
        archive.into_inner().unwrap().finish().unwrap()
    }

    fn refusal(name: &str, bytes: &[u8]) -> String {
        Contents::from_tar_gz("test", &packed(name, bytes)).unwrap_err().to_string()
    }

    #[test]
    fn documents_are_bounded_before_they_are_parsed() {
        let said = refusal(".manifest", &vec![b' '; (4 << 20) + 1]);
        assert!(said.contains("a `.manifest` of more than 4194304 bytes"), "{said}");
        let said = refusal("data.json", format!("[{}0]", "0,".repeat(MAX_VALUES)).as_bytes());
        assert!(said.contains("`data.json` of more than 2000000 values"), "{said}");
        assert_eq!(values(br#"{"a,[{:\"": [1, "\\", {}]}"#), 7);
        assert!(bound("data.json").1 < MAX_UNPACKED_BYTES && bound("a/policy.wasm").1 == MAX_UNPACKED_BYTES);
    }

    #[test]
    fn data_that_no_instance_has_memory_for_is_refused() {
        let contents: Contents = [("data.json", b"{\"a\": 1}".as_slice())].into_iter().collect();
        assert!(contents.check_data("test", 8).is_ok());
        let said = contents.check_data("test", 7).unwrap_err().to_string();
        assert!(
            said.contains("`data.json` of 8 bytes") && said.contains("`policies.memoryLimitBytes`"),
            "{said}"
        );
    }

    #[test]
    fn data_that_would_be_left_out_is_refused_wherever_it_is() {
        for name in ["a/data.yaml", "a/b/data.yml", "data.yaml"] {
            assert!(refusal(name, b"a: 1").contains("turns it into `data.json`"), "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("policy.wasm"), b"\0asm").unwrap();
        std::fs::create_dir_all(at("..data/sources")).unwrap();
        std::fs::write(at("..data/sources/a.rego"), "package a").unwrap();
        symlink("..data/sources", at("sources")).unwrap();
        let read = || Contents::from_dir("test", folder.path());
        assert_eq!(
            read().unwrap().file("sources/a.rego"),
            Some(b"package a".as_slice()),
            "a mounted ConfigMap"
        );
        symlink("..data/sources", at("others")).unwrap();
        assert!(
            read().unwrap_err().to_string().contains("`others`, which is not read: it is a link to a folder")
        );
        std::fs::remove_file(at("others")).unwrap();
        std::fs::create_dir(at("nested")).unwrap();
        symlink("..", at("nested/up")).unwrap();
        assert!(read().unwrap_err().to_string().contains("`nested/up`"));
    }

    #[test]
    fn a_link_out_of_the_folder_is_refused_and_those_of_a_mounted_config_map_are_read() {
        let (folder, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| folder.path().join(name);
        let data = |name: &str| {
            let contents = Contents::from_dir("test", &at(name));
            let data = contents.map(|contents| contents.file("data.json").map(<[u8]>::to_vec));
            data.map(|data| String::from_utf8(data.unwrap()).unwrap()).map_err(|error| error.to_string())
        };
        std::fs::create_dir(at("mounted")).unwrap();
        // As the kubelet does it, twice.
        for version in ["..2026_11_28", "..2026_11_29"] {
            let to = at("mounted").join(version);
            std::fs::create_dir(&to).unwrap();
            std::fs::write(to.join("policy.wasm"), b"\0asm").unwrap();
            std::fs::write(to.join("data.json"), format!("{{\"version\": \"{version}\"}}")).unwrap();
            symlink(version, at("mounted/..data_tmp")).unwrap();
            std::fs::rename(at("mounted/..data_tmp"), at("mounted/..data")).unwrap();
            for file in ["policy.wasm", "data.json"] {
                let _ = symlink(format!("..data/{file}"), at("mounted").join(file));
            }
            assert_eq!(data("mounted").unwrap(), format!("{{\"version\": \"{version}\"}}"));
        }
        // The folder itself may be under another name.
        symlink("mounted", at("linked")).unwrap();
        assert!(data("linked").is_ok());
        std::fs::write(away.path().join("data.json"), "{}").unwrap();
        std::fs::write(away.path().join("policy.wasm"), b"\0asm").unwrap();
        std::fs::write(at("data.json"), "{}").unwrap();
        let refused =
            "`data.json`, which is not read: it is a link that leads out of the folder of the bundle";
        for target in [away.path().join("data.json"), "../data.json".into(), "..data/../../data.json".into()]
        {
            std::fs::remove_file(at("mounted/data.json")).unwrap();
            symlink(&target, at("mounted/data.json")).unwrap();
            for name in ["mounted", "linked"] {
                let said = data(name).unwrap_err();
                assert!(said.contains(refused), "{target:?}: {said}");
            }
            assert!(paths("test", &at("mounted")).is_err(), "nor is it waited for a change of it");
        }
        // The names are right, and lead elsewhere all the same.
        for link in ["mounted/data.json", "mounted/..data"] {
            std::fs::remove_file(at(link)).unwrap();
        }
        symlink(away.path(), at("mounted/..data")).unwrap();
        symlink("..data/data.json", at("mounted/data.json")).unwrap();
        assert!(data("mounted").unwrap_err().contains("it is a link that leads out"));
        // Within the folder it may lead anywhere.
        std::fs::create_dir(at("own")).unwrap();
        std::fs::write(at("own/policy.wasm"), b"\0asm").unwrap();
        std::fs::write(at("own/values.json"), "[]").unwrap();
        symlink("values.json", at("own/data.json")).unwrap();
        assert_eq!(data("own").as_deref(), Ok("[]"));
        std::fs::remove_file(at("own/values.json")).unwrap();
        assert!(data("own").unwrap_err().contains("cannot read policy bundle"));
    }

    #[test]
    fn a_source_from_above_the_folder_of_opa_build_is_kept_under_its_name() {
        for name in ["a/../b.rego", "a//b.rego", "a/./b.rego", "../b.rego"] {
            let contents = Contents::from_tar_gz("test", &packed(name, b"x")).unwrap();
            assert_eq!(contents.file(name), Some(b"x".as_slice()), "{name}");
            let again = Contents::from_tar_gz("test", &contents.to_tar_gz().unwrap()).unwrap();
            assert_eq!(again, contents, "{name}");
        }
        for name in ["../data.json", "a/../policy.wasm", "..//data.json"] {
            assert!(refusal(name, b"{}").contains("puts one at the root"), "{name}");
        }
    }

    #[test]
    fn a_pipe_is_no_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe.tar.gz");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let Err(Error::ReadBundle { source, .. }) = Contents::load("test", &path) else {
            panic!("it was read")
        };
        assert!(source.to_string().starts_with("it is not a regular file"), "{source}");
    }
}
