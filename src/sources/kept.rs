//! The last good bundles on disk, so that a start does not depend on servers and registries. Each bundle has an archive, named by its digest, and a
//! record that names it and is written last, so that a crash leaves the former pair.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Error;
use crate::files;
use crate::policy::contents::MAX_PACKED_BYTES;
use crate::policy::{self, Contents};
use crate::text;

/// Mode of the files. Others may read which rules there are, and only the gate says so.
const MODE: u32 = 0o644;
/// The bit of a mode that lets every user write.
const EVERYONE_WRITES: u32 = 0o002;
/// Largest record, in bytes.
const MOST_RECORD: u64 = 64 << 10;

/// Longest wait for another process that writes in the folder.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Longest time for a number to be written down: no other bundle comes into force meanwhile.
const LONGEST_RESERVE: Duration = Duration::from_secs(20);
/// Between two tries.
pub(super) const WAIT: Duration = Duration::from_millis(20);
/// Name of the file that the processes lock which share the folder.
const LOCK: &str = "lock";
/// No process writes for so long.
const ABANDONED: Duration = Duration::from_hours(1);

/// A folder with the last good bundles. Several replicas may share it.
#[derive(Debug, Clone)]
pub struct BundleStore {
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
    /// SHA-256 of the archive, in hexadecimal; empty where there is none yet.
    pub sha256: String,
}

/// What may be put in the place of a kept bundle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// A bundle with this sequence, unless a higher one was in force, here or in another process.
    Forward(Option<u64>),
    /// Any bundle, which is the newest one from then on.
    Any,
}

impl BundleStore {
    /// The bundles in this folder, which is made when there is one to keep. Refuses one in which everyone can write: rules come from it,
    /// and the numbers that keep older ones away. Blocks on the disk.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let store = Self { folder: folder.into() };
        match store.check() {
            Ok(()) => Ok(store),
            Err(reason) => Err(Error::OpenStore { folder: store.folder, reason }),
        }
    }

    /// Where the bundles are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses a folder that another user rules. Asked again each time: one that was not there may be another user's now.
    fn check(&self) -> Result<(), String> {
        let Ok(found) = fs::metadata(&self.folder) else { return Ok(()) };
        let user = rustix::process::geteuid().as_raw();
        // Volumes belong to root, and to a group of the pod.
        if found.uid() != user && found.uid() != 0 {
            return Err(format!("it belongs to user {}, and the gate runs as user {user}", found.uid()));
        }
        if found.mode() & EVERYONE_WRITES != 0 {
            return Err(format!("everyone may write to it (mode {:04o})", found.mode() & 0o7777));
        }
        Ok(())
    }

    /// Keeps a bundle in the place of the one before it. Blocks on the disk, and while another process writes.
    pub(super) fn keep(&self, mut record: Record, contents: &Contents, order: Order) -> Result<(), Error> {
        let (bundle, folder) = (record.name.clone(), &self.folder);
        let failed = |path: &Path| {
            let (bundle, path) = (bundle.clone(), path.to_path_buf());
            move |source| Error::KeepBundle { bundle, path, source }
        };
        self.make().map_err(failed(folder))?;
        let packed = contents.to_tar_gz().map_err(failed(folder))?;
        if u64::try_from(packed.len()).unwrap_or(u64::MAX) > MAX_PACKED_BYTES {
            let source = io::Error::new(
                ErrorKind::FileTooLarge,
                "packed anew, it would be too large to be read again",
            );
            return Err(failed(folder)(source));
        }
        let _lock = self.locked().map_err(failed(&folder.join(LOCK)))?;
        let former = match order {
            Order::Forward(_) => self.record(&bundle)?,
            // What is there may be what the override is for.
            Order::Any => self.record(&bundle).ok().flatten(),
        };
        if let Order::Forward(sequence) = order {
            let newest = former.as_ref().and_then(|former| former.newest);
            no_roll_back(&bundle, newest, sequence)?;
            record.newest = record.newest.max(newest);
        }
        record.sha256 = digest(&packed);
        let archive = self.archive(&record);
        files::replace(&archive, &packed, MODE).map_err(failed(&archive))?;
        self.write(&record)?;
        let others = |sha256: &String| !sha256.is_empty() && *sha256 != record.sha256;
        if let Some(sha256) = former.map(|former| former.sha256).filter(others) {
            // What stays is found by no record, and does no harm.
            let _ = fs::remove_file(self.archive(&Record { sha256, ..record }));
        }
        let _ = files::remove_drafts(folder, ABANDONED);
        Ok(())
    }

    /// The same as [`Self::raise`], on a thread for such work. Where the disk does not take the number, or not in time, it does not take the
    /// bundle either, and the status says so then.
    pub(super) async fn reserve(self, bundle: String, sequence: u64) -> Result<(), Error> {
        let raised = spawn_blocking(move || self.raise(&bundle, sequence));
        match timeout(LONGEST_RESERVE, raised).await {
            Ok(Ok(Err(error @ Error::RollBack { .. }))) => Err(error),
            _ => Ok(()),
        }
    }

    /// Raises the highest sequence to that of a bundle which is about to come into force. What is kept stays. Blocks as [`Self::keep`]
    /// does.
    pub(super) fn raise(&self, bundle: &str, sequence: u64) -> Result<(), Error> {
        let failed = |path: &Path| {
            let (bundle, path) = (bundle.to_owned(), path.to_path_buf());
            move |source| Error::KeepBundle { bundle, path, source }
        };
        self.make().map_err(failed(&self.folder))?;
        let _lock = self.locked().map_err(failed(&self.folder.join(LOCK)))?;
        let former = self.record(bundle)?;
        let newest = former.as_ref().and_then(|former| former.newest);
        no_roll_back(bundle, newest, Some(sequence))?;
        if newest == Some(sequence) {
            return Ok(());
        }
        let record = former.unwrap_or_else(|| Record { name: bundle.into(), ..Record::default() });
        self.write(&Record { newest: Some(sequence), ..record })
    }

    /// The folder for this user alone, since rules come from it.
    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.check().map_err(|reason| io::Error::new(ErrorKind::PermissionDenied, reason))
    }

    fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.path(&record.name);
        let failed = |source| Error::KeepBundle { bundle: record.name.clone(), path: path.clone(), source };
        let text = serde_json::to_vec_pretty(record).map_err(|error| failed(error.into()))?;
        files::replace(&path, &text, MODE).map_err(failed)
    }

    /// Waits until no other process writes. The lock is given back when the file is closed, also by a crash.
    fn locked(&self) -> io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(self.folder.join(LOCK))?;
        let until = Instant::now().checked_add(LONGEST_WAIT);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                // Without locks, what two processes write at the same moment is either one's; each file is whole.
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if until.is_none_or(|until| Instant::now() >= until) => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "another process holds the lock"));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(WAIT),
            }
        }
    }

    /// The kept bundle of this name and place; `None` if there is none, or it is damaged. Blocks on the disk.
    pub(super) fn recall(&self, name: &str, from: &str) -> Option<(Record, Contents)> {
        let record = self.record(name).ok().flatten();
        let record = record.filter(|record| record.from == from && !record.sha256.is_empty())?;
        let contents = self.files(&record);
        let damage = match contents {
            Ok(contents) => return Some((record, contents)),
            Err(damage) => damage,
        };
        let damage = text::chain(&damage);
        tracing::warn!(bundle = name, damage, "the kept policy bundle is damaged and not used");
        None
    }

    fn files(&self, record: &Record) -> Result<Contents, policy::Error> {
        let path = self.archive(record);
        let bytes = files::read(&path, MAX_PACKED_BYTES);
        let bytes = bytes.map_err(|source| policy::Error::ReadBundle { path: path.clone(), source })?;
        if digest(&bytes) != record.sha256 {
            let source = io::Error::new(ErrorKind::InvalidData, "its digest is another");
            return Err(policy::Error::ReadBundle { path, source });
        }
        Contents::from_own_archive(&record.name, &bytes)
    }

    /// The highest sequence that a bundle of this name had, wherever it came from. Blocks on the disk.
    pub(super) fn newest(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(self.record(name)?.and_then(|record| record.newest))
    }

    fn record(&self, name: &str) -> Result<Option<Record>, Error> {
        let path = self.path(name);
        let failed = |reason: String| Error::RecallBundle { bundle: name.into(), path: path.clone(), reason };
        self.check().map_err(|reason| Error::OpenStore { folder: self.folder.clone(), reason })?;
        let damaged = || failed("it is damaged".into());
        let text = match files::read(&path, MOST_RECORD) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::FileTooLarge => return Err(damaged()),
            Err(error) => return Err(failed(error.to_string())),
        };
        let record: Record = serde_json::from_slice(&text).map_err(|_| damaged())?;
        // Without an archive there is a number alone.
        if record.name != name || !(record.sha256.is_empty() || is_hex(&record.sha256)) {
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

/// Refuses a bundle with a lower sequence than one that was in force.
pub(super) fn no_roll_back(bundle: &str, newest: Option<u64>, found: Option<u64>) -> Result<(), Error> {
    match newest {
        Some(newest) if found.is_none_or(|found| found < newest) => {
            let found = found.map_or_else(|| "(there is none)".into(), |found| found.to_string());
            Err(Error::RollBack { bundle: bundle.into(), found, newest })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
        let kept = BundleStore::open(folder.path().join("new")).unwrap();
        assert!(kept.recall("a / b", "x").is_none());
        kept.keep(record("1"), &contents(b"{}"), Order::Forward(None)).unwrap();
        kept.keep(record("2"), &contents(b"{\"a\": 1}"), Order::Forward(None)).unwrap();
        let (found, files) = kept.recall("a / b", "x").unwrap();
        assert_eq!((found.version.as_str(), files), ("2", contents(b"{\"a\": 1}")));
        assert!(kept.recall("a / b", "y").is_none(), "from another place");
        assert!(kept.recall("a b", "x").is_none(), "of another name");
        let archives = || {
            let entries = fs::read_dir(folder.path().join("new")).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.extension().is_some_and(|end| end == "gz")).collect::<Vec<_>>()
        };
        assert_eq!(archives().len(), 1, "the former archive is gone");
        std::fs::write(&archives()[0], b"x").unwrap();
        assert!(kept.recall("a / b", "x").is_none(), "damaged");
    }
    #[test]
    fn of_replicas_that_share_a_folder_none_forgets_the_highest_number_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let kept = BundleStore::open(folder.path()).unwrap();
        let numbered = |version: &str, newest| Record { newest: Some(newest), ..record(version) };
        let keep =
            |version: &str, number, order| kept.keep(numbered(version, number), &contents(b"{}"), order);
        keep("seven", 7, Order::Forward(Some(7))).unwrap();
        let refused = keep("six", 6, Order::Forward(Some(6))).unwrap_err().to_string();
        assert!(refused.contains("its sequence 6 is lower than 7"), "{refused}");
        assert_eq!(kept.recall("a / b", "x").unwrap().0, Record { newest: Some(7), ..found(&kept, "seven") });
        keep("six", 6, Order::Any).unwrap();
        assert_eq!(kept.newest("a / b").unwrap(), Some(6), "by the override");
    }

    fn found(kept: &BundleStore, version: &str) -> Record {
        let (found, _) = kept.recall("a / b", "x").unwrap();
        assert_eq!(found.version, version);
        found
    }

    #[test]
    fn writers_of_one_folder_take_turns_and_leave_a_pair_that_belongs_together() {
        let folder = tempfile::tempdir().unwrap();
        let kept = BundleStore::open(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..6_u64 {
                let kept = kept.clone();
                scope.spawn(move || {
                    let data = format!("{{\"writer\": {writer}}}");
                    for _ in 0..5 {
                        let record = record(&writer.to_string());
                        kept.keep(record, &contents(data.as_bytes()), Order::Forward(None)).unwrap();
                    }
                });
            }
        });
        let (record, files) = kept.recall("a / b", "x").unwrap();
        assert_eq!(files, contents(format!("{{\"writer\": {}}}", record.version).as_bytes()));
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.count(), 3, "the record, its archive and the lock");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_replaced_but_by_the_override() {
        let folder = tempfile::tempdir().unwrap();
        let kept = BundleStore::open(folder.path()).unwrap();
        fs::write(kept.path("a / b"), "{").unwrap();
        let keep = |order| kept.keep(record("1"), &contents(b"{}"), order);
        assert!(matches!(keep(Order::Forward(None)), Err(Error::RecallBundle { .. })));
        keep(Order::Any).unwrap();
        assert!(kept.recall("a / b", "x").is_some());
    }

    #[test]
    fn a_number_that_is_raised_leaves_what_is_kept_and_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let kept = BundleStore::open(folder.path()).unwrap();
        kept.raise("a / b", 3).unwrap();
        assert_eq!((kept.newest("a / b").unwrap(), kept.recall("a / b", "x")), (Some(3), None));
        let refused = kept.keep(record("2"), &contents(b"{}"), Order::Forward(Some(2))).unwrap_err();
        assert!(matches!(refused, Error::RollBack { .. }), "{refused}");
        kept.keep(record("3"), &contents(b"{}"), Order::Forward(Some(3))).unwrap();
        kept.raise("a / b", 5).unwrap();
        assert_eq!(kept.newest("a / b").unwrap(), Some(5));
        assert_eq!(found(&kept, "3").newest, Some(5));
        assert!(matches!(kept.raise("a / b", 4), Err(Error::RollBack { .. })));
    }

    #[test]
    fn a_folder_in_which_everyone_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("kept");
        BundleStore::open(&place).unwrap().make().unwrap();
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o7777, 0o700);
        let with = |mode| {
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
            BundleStore::open(&place)
        };
        for mode in [0o777, 0o1777, 0o702] {
            let error = with(mode).unwrap_err().to_string();
            assert!(
                error.contains("everyone may write") && error.contains(&format!("{mode:04o}")),
                "{error}"
            );
        }
        with(0o2775).expect("a volume of the pod's group");
    }

    /// As where another user is quicker in a folder for all.
    #[test]
    fn a_folder_that_is_made_after_it_was_asked_for_is_held_to_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("kept");
        let kept = BundleStore::open(&place).unwrap();
        kept.keep(record("1"), &contents(b"{}"), Order::Forward(None)).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = kept.keep(record("2"), &contents(b"{}"), Order::Forward(None)).unwrap_err();
        assert!(text::chain(&refused).contains("everyone may write to it (mode 0777)"), "{refused:?}");
        assert!(kept.raise("a / b", 3).is_err());
        assert!(matches!(kept.newest("a / b"), Err(Error::OpenStore { .. })));
        assert_eq!(kept.recall("a / b", "x"), None);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(found(&kept, "1").newest, None);
    }
}
