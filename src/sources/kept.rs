//! The last good bundles on disk, so that a start does not depend on servers and registries. Each bundle has an archive, named by its digest, and a
//! record that names it and is written last, so that a crash leaves the former pair.

use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::policy::contents::MAX_PACKED_BYTES;
use crate::policy::{self, Contents};

/// Largest record, in bytes.
const MOST_RECORD: usize = 64 << 10;

/// A folder with the last good bundles.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

/// What is kept of a bundle beside its files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Record {
    /// The bundle's name.
    pub name: String,
    /// Where it came from.
    pub from: String,
    /// What its source knows it by.
    pub version: String,
    /// The highest sequence that was in force.
    #[serde(default)]
    pub newest: Option<u64>,
    /// SHA-256 of the archive, in hexadecimal.
    pub sha256: String,
}

impl Kept {
    /// The bundles in this folder, which is made if it does not exist.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Keeps a bundle in the place of the one before it. Blocks on the disk.
    pub(super) fn keep(&self, mut record: Record, contents: &Contents) -> Result<(), Error> {
        let (bundle, folder) = (record.name.clone(), &self.folder);
        let failed = |path: &Path| {
            let (bundle, path) = (bundle.clone(), path.to_path_buf());
            move |source| Error::KeepBundle { bundle, path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let former = self.record(&record.name).ok().flatten().map(|former| former.sha256);
        let packed = contents.to_tar_gz().map_err(failed(folder))?;
        if u64::try_from(packed.len()).unwrap_or(u64::MAX) > MAX_PACKED_BYTES {
            let source = io::Error::new(
                ErrorKind::FileTooLarge,
                "packed anew, it would be too large to be read again",
            );
            return Err(failed(folder)(source));
        }
        record.sha256 = digest(&packed);
        let archive = self.archive(&record);
        write(&archive, &packed).map_err(failed(&archive))?;
        let (path, text) = (self.path(&record.name), serde_json::to_vec_pretty(&record));
        write(&path, &text.map_err(|error| failed(&path)(error.into()))?).map_err(failed(&path))?;
        if let Some(sha256) = former.filter(|sha256| *sha256 != record.sha256) {
            // What stays is found by no record, and does no harm.
            let _ = std::fs::remove_file(self.archive(&Record { sha256, ..record }));
        }
        Ok(())
    }

    /// The kept bundle of this name and place; `None` if there is none, or it is damaged. Blocks on the disk.
    pub(super) fn recall(&self, name: &str, from: &str) -> Option<(Record, Contents)> {
        let record = self.record(name).ok().flatten().filter(|record| record.from == from)?;
        let contents = self.files(&record);
        let damage = match contents {
            Ok(contents) => return Some((record, contents)),
            Err(damage) => damage,
        };
        tracing::warn!(bundle = name, %damage, "the kept policy bundle is damaged and not used");
        None
    }

    fn files(&self, record: &Record) -> Result<Contents, policy::Error> {
        let path = self.archive(record);
        let bytes = std::fs::read(&path);
        let bytes = bytes.map_err(|source| policy::Error::ReadBundle { path: path.clone(), source })?;
        if digest(&bytes) != record.sha256 {
            let source = io::Error::new(ErrorKind::InvalidData, "its digest is another");
            return Err(policy::Error::ReadBundle { path, source });
        }
        Contents::from_tar_gz(&record.name, &bytes)
    }

    /// The highest sequence that a bundle of this name had, wherever it came from. Blocks on the disk.
    pub(super) fn newest(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(self.record(name)?.and_then(|record| record.newest))
    }

    fn record(&self, name: &str) -> Result<Option<Record>, Error> {
        let path = self.path(name);
        let failed = |reason: String| Error::RecallBundle { bundle: name.into(), path: path.clone(), reason };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let damaged = || failed("it is damaged".into());
        let record: Record = if text.len() <= MOST_RECORD {
            serde_json::from_slice(&text).map_err(|_| damaged())?
        } else {
            return Err(damaged());
        };
        if record.name != name || !is_hex(&record.sha256) {
            return Err(damaged());
        }
        Ok(Some(record))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.json", file_name(name)))
    }

    fn archive(&self, record: &Record) -> PathBuf {
        self.folder.join(format!("{}-{}.tar.gz", file_name(&record.name), record.sha256))
    }
}

/// A file name of a bundle's name, which may have any characters: what is harmless of it, and a digest that tells it from others.
fn file_name(name: &str) -> String {
    let harmless = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let shown: String = name.chars().filter(|letter| harmless(*letter)).take(40).collect();
    let digest: String = digest(name).chars().take(12).collect();
    format!("{shown}-{digest}")
}

fn digest(bytes: impl AsRef<[u8]>) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes beside the place and moves it there, when it is on the disk.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    let mut file = std::fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: &str) -> Record {
        Record { name: "a / b".into(), from: "x".into(), version: version.into(), ..Record::default() }
    }

    fn contents(data: &[u8]) -> Contents {
        [("policy.wasm", b"\0asm".as_slice()), ("data.json", data)].into_iter().collect()
    }

    #[test]
    fn what_was_kept_last_comes_back_unless_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path().join("new"));
        assert!(kept.recall("a / b", "x").is_none());
        kept.keep(record("1"), &contents(b"{}")).unwrap();
        kept.keep(record("2"), &contents(b"{\"a\": 1}")).unwrap();
        let (found, files) = kept.recall("a / b", "x").unwrap();
        assert_eq!((found.version.as_str(), files), ("2", contents(b"{\"a\": 1}")));
        assert!(kept.recall("a / b", "y").is_none(), "from another place");
        assert!(kept.recall("a b", "x").is_none(), "of another name");
        let archives = || {
            let entries =
                std::fs::read_dir(folder.path().join("new")).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.extension().is_some_and(|end| end == "gz")).collect::<Vec<_>>()
        };
        assert_eq!(archives().len(), 1, "the former archive is gone");
        std::fs::write(&archives()[0], b"x").unwrap();
        assert!(kept.recall("a / b", "x").is_none(), "damaged");
    }
}
