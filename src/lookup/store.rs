//! The memory of look-ups on disk, so that after a restart a gate can admit known images while a registry is down.
//!
//! The file is a `redb` database: one file, written by copy and checksummed, so a killed process leaves the content of
//! its last commit. Nothing in it is trusted blindly: the whole file is checked when it is opened, every record carries
//! its own digest, and records of another version of the gate are ignored. Anyone who can write the file can make the
//! gate believe anything about an image, so only its owner can access it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use super::cache::Known;
use crate::image::{self, ImageFacts};
use waiting::{Reserved, Waiting};

pub use waiting::WAITING_BYTES;

mod waiting;

/// Raise it whenever a record changes its meaning but not its form.
const SCHEMA: u32 = 28;

/// Page cache of the database, in bytes. Small, because the gate itself keeps in memory what is read often.
pub const PAGE_CACHE: usize = 4 << 20;

/// Most records that wait to be written; further ones are dropped, since the next look-up offers them again.
const MOST_WAITING: usize = 4096;

/// Most bytes of one record. The database writes it as one page, which may be twice as large. A record of four megabytes is about an
/// image with some thirty thousand files that matter; one of a distribution has some thousand.
pub const LARGEST_RECORD: usize = 4 << 20;

/// How many records of the most bytes there is space for, so that a few do not evict all others.
const LARGEST_RECORDS: u64 = 16;

/// More than the JSON of a name's record has, which holds a digest and a number.
const NAME_BYTES: usize = 256;

/// What the JSON of a record of facts has beside theirs.
const FACTS_FRAME: usize = r#"{"config":,"layers":}"#.len();

/// Most records in one commit.
const MOST_IN_COMMIT: usize = 256;

/// Bytes of a record before its content: a digest, and its place in the order of eviction.
const CHECK_BYTES: usize = 16;
const PLACE_BYTES: usize = 8;
const HEAD_BYTES: usize = CHECK_BYTES + PLACE_BYTES;

/// Estimated overhead of a record in bytes, besides key and value: its places in two trees.
const OVERHEAD: usize = 64;

/// A file this many times larger than its records is rewritten when it is opened.
const SPARSE: u64 = 4;

/// What a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownName {
    pub(super) digest: image::Digest,
    /// How long ago its tag was read.
    pub(super) age: Duration,
}

#[derive(Serialize, Deserialize)]
struct NameRecord {
    digest: image::Digest,
    /// Seconds since 1970 when the tag was read.
    read_at: i64,
}

#[derive(Serialize, Deserialize)]
struct FactsRecord<F> {
    /// Facts from the manifest and config.
    config: F,
    /// Facts from the layers too, if they add anything.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    layers: Option<F>,
}

/// A write.
#[derive(Debug)]
enum Job {
    Put {
        key: String,
        /// With space for its head.
        record: Vec<u8>,
        _reserved: Reserved,
    },
    Remove {
        key: String,
    },
    /// Replies when everything before it is on disk.
    #[cfg(test)]
    Flush(SyncSender<()>),
}

/// The names of the tables of this version.
#[derive(Debug, Clone)]
struct Tables {
    /// `f DIGEST` and `n NAME` → digest of the record, place, JSON.
    records: String,
    /// Place → key, in the order of eviction.
    order: String,
    /// `bytes`: the cost of all records; `place`: the last one assigned.
    sums: String,
}

impl Tables {
    fn new(context: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let name = |table: &str| format!("{table} {SCHEMA} {version} {context}");
        Self { records: name("records"), order: name("order"), sums: name("sums") }
    }

    fn records(&self) -> TableDefinition<'_, &'static str, &'static [u8]> {
        TableDefinition::new(&self.records)
    }

    fn order(&self) -> TableDefinition<'_, u64, &'static str> {
        TableDefinition::new(&self.order)
    }

    fn sums(&self) -> TableDefinition<'_, &'static str, u64> {
        TableDefinition::new(&self.sums)
    }
}

/// Facts and names on disk. Reads block; writes run on a thread of their own.
#[derive(Debug)]
pub(super) struct Store {
    database: Arc<Database>,
    tables: Tables,
    jobs: Option<SyncSender<Job>>,
    /// Bytes of the records that wait to be written.
    waiting: Waiting,
    /// Most bytes of one record.
    largest: usize,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens or creates a store of about this many bytes. `context` distinguishes settings under which facts differ.
    ///
    /// A damaged file is moved aside, and a new one begins empty.
    pub(super) fn open(path: &Path, most_bytes: u64, context: &str) -> Result<Self, Error> {
        let failed = |message: String| Error::OpenStore { path: path.display().to_string(), message };
        let tables = Tables::new(context);
        let database = match open_checked(path, most_bytes, &tables) {
            Ok(database) => database,
            Err(Broken::Elsewhere(message)) => return Err(failed(message)),
            Err(Broken::Damaged(message)) => {
                let aside = set_aside(path)
                    .map_err(|error| failed(format!("it is damaged and stays in the way: {error}")))?;
                tracing::warn!(
                    store = %path.display(), kept = %aside.display(), damage = message,
                    "the image store is damaged; beginning with an empty one"
                );
                open_checked(path, most_bytes, &tables)
                    .map_err(|(Broken::Damaged(message) | Broken::Elsewhere(message))| failed(message))?
            }
        };
        let database = Arc::new(database);
        let (jobs, waiting) = sync_channel(MOST_WAITING);
        let writer = Writer { database: database.clone(), tables: tables.clone(), most_bytes };
        let writer =
            std::thread::Builder::new().name("image-store".into()).spawn(move || writer.run(&waiting));
        let writer = Some(writer.map_err(|error| failed(error.to_string()))?);
        let part = usize::try_from(most_bytes / LARGEST_RECORDS).unwrap_or(usize::MAX);
        let largest = part.min(LARGEST_RECORD);
        Ok(Self { database, tables, jobs: Some(jobs), waiting: Waiting::default(), largest, writer })
    }

    /// The stored facts about a digest.
    pub(super) fn facts(&self, digest: &image::Digest) -> Option<Known> {
        let record: FactsRecord<ImageFacts> = self.read(&facts_key(digest))?;
        // Each record's digest covers its key, but pods are pinned to the digest in the facts, so it is compared too.
        let right = |facts: &ImageFacts| facts.digest == *digest;
        if !right(&record.config) || !record.layers.as_ref().is_none_or(right) {
            return None;
        }
        let config = Arc::new(record.config);
        let whole = config.is_whole().then(|| config.clone());
        Some(Known::new(config, whole.or_else(|| record.layers.map(Arc::new))))
    }

    /// What a name resolved to when it was last read.
    pub(super) fn name(&self, name: &str) -> Option<KnownName> {
        let record: NameRecord = self.read(&name_key(name))?;
        // If the clock went back, the tag counts as old, not as new.
        let age =
            Timestamp::now().as_second().checked_sub(record.read_at).and_then(|age| u64::try_from(age).ok());
        let age = age.map_or(Duration::MAX, Duration::from_secs);
        Some(KnownName { digest: record.digest, age })
    }

    /// Queues facts for writing, unless they are too many: their image is looked up again after a restart.
    pub(super) fn keep(&self, known: &Known) {
        let record = FactsRecord { config: known.config.as_ref(), layers: known.deeper().map(AsRef::as_ref) };
        let bytes = known.json_bytes.saturating_add(FACTS_FRAME);
        self.put(facts_key(&known.config.digest), bytes, &record);
    }

    /// Queues what a tag resolves to now for writing.
    pub(super) fn keep_name(&self, name: &str, digest: &image::Digest) {
        let record = NameRecord { digest: digest.clone(), read_at: Timestamp::now().as_second() };
        self.put(name_key(name), NAME_BYTES, &record);
    }

    /// Queues the removal of a name.
    pub(super) fn forget(&self, name: &str) {
        self.send(Job::Remove { key: name_key(name) });
    }

    /// Waits until all queued writes are on disk.
    #[cfg(test)]
    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        // Unlike the others, this one waits for space in the queue.
        if self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job::Flush(done)).is_ok()) {
            let _ = wait.recv();
        }
    }

    /// Queues a record whose JSON has so many bytes. They are reserved before there is any JSON, so that what is dropped takes no memory.
    fn put(&self, key: String, bytes: usize, value: &impl Serialize) {
        let whole = bytes.saturating_add(HEAD_BYTES);
        if whole > self.largest.max(NAME_BYTES + HEAD_BYTES) {
            tracing::debug!(
                record = key,
                bytes,
                most = self.largest,
                "a record is too large for the image store"
            );
            return;
        }
        let Some(reserved) = self.waiting.reserve(key.len().saturating_add(whole)) else { return };
        let mut record: Vec<u8> = Vec::with_capacity(whole);
        record.resize(HEAD_BYTES, 0);
        match serde_json::to_writer(&mut record, value) {
            Ok(()) => self.send(Job::Put { key, record, _reserved: reserved }),
            Err(error) => tracing::warn!(%error, "a record does not fit into the image store"),
        }
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The queue may be full or closed: a lost record is looked up again.
            let _ = jobs.try_send(job);
        }
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Option<T> {
        // A page that was damaged after the check may make the database panic (`redb`, issue 1334).
        let read = catch_unwind(AssertUnwindSafe(|| -> Result<Option<Vec<u8>>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(self.tables.records())?;
            Ok(table.get(key)?.map(|found| found.value().to_vec()))
        }));
        match read {
            Ok(Ok(found)) => serde_json::from_slice(checked(key, &found?)?).ok(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not read the image store");
                None
            }
            Err(_) => {
                tracing::warn!("could not read the image store: it was damaged while it was open");
                None
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn facts_key(digest: &image::Digest) -> String {
    format!("f {digest}")
}

fn name_key(name: &str) -> String {
    format!("n {name}")
}

/// Why a file could not be opened.
enum Broken {
    /// Its content is not what was written.
    Damaged(String),
    /// The file may be intact, but something else failed.
    Elsewhere(String),
}

fn open_checked(path: &Path, most_bytes: u64, tables: &Tables) -> Result<Database, Broken> {
    create_private(path).map_err(|error| Broken::Elsewhere(error.to_string()))?;
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Database, redb::Error> {
        let mut database = Builder::new().set_cache_size(PAGE_CACHE).create(path)?;
        // Reads do not check pages (`redb`, issue 1334), so all are checked once, here.
        if !database.check_integrity()? {
            tracing::info!(store = %path.display(), "the image store was repaired");
        }
        prepare(&database, tables)?;
        if std::fs::metadata(path).is_ok_and(|file| file.len() > SPARSE.saturating_mul(most_bytes)) {
            database.compact()?;
        }
        Ok(database)
    }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => {
            Err(Broken::Elsewhere("another process has it open; give each its own".into()))
        }
        Ok(Err(redb::Error::Io(error)))
            if !matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            Err(Broken::Elsewhere(error.to_string()))
        }
        Ok(Err(error)) => Err(Broken::Damaged(error.to_string())),
        Err(_) => Err(Broken::Damaged("it cannot be read".into())),
    }
}

/// Creates the file for its owner only; leaves an existing one as it is.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(|_| ())
}

/// Creates the tables of this version, and drops those of others: each version of the gate trusts only its own.
fn prepare(database: &Database, tables: &Tables) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let own = [&tables.records, &tables.order, &tables.sums];
    let others: Vec<_> =
        transaction.list_tables()?.filter(|table| !own.iter().any(|own| *own == table.name())).collect();
    for other in others {
        transaction.delete_table(other)?;
    }
    transaction.open_table(tables.records())?;
    transaction.open_table(tables.order())?;
    transaction.open_table(tables.sums())?;
    transaction.commit()?;
    Ok(())
}

fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".broken-{}", Timestamp::now().as_second()));
    let aside = PathBuf::from(name);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// The digest in front of a record's JSON.
fn check(key: &str, value: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(key.len().to_le_bytes());
    hash.update(key);
    hash.update(value);
    let mut check = [0; CHECK_BYTES];
    check.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    check
}

/// Writes what stands in front of a record's JSON: its digest, and its place.
fn write_head(key: &str, place: u64, record: &mut [u8]) {
    let check = check(key, record.get(HEAD_BYTES..).unwrap_or_default());
    let head = check.into_iter().chain(place.to_le_bytes());
    record.iter_mut().zip(head).for_each(|(to, from)| *to = from);
}

/// The JSON of a record, if it is intact and was written under this key.
fn checked<'a>(key: &str, record: &'a [u8]) -> Option<&'a [u8]> {
    let (found, rest) = record.split_first_chunk::<CHECK_BYTES>()?;
    let (_, value) = rest.split_first_chunk::<PLACE_BYTES>()?;
    (*found == check(key, value)).then_some(value)
}

/// The place of a record in the order of eviction.
fn place(record: &[u8]) -> Option<u64> {
    let (_, rest) = record.split_first_chunk::<CHECK_BYTES>()?;
    rest.first_chunk::<PLACE_BYTES>().map(|bytes| u64::from_le_bytes(*bytes))
}

fn cost(key: &str, record: &[u8]) -> u64 {
    (key.len() + record.len() + OVERHEAD) as u64
}

/// Writes queued records, in commits that reach the disk.
struct Writer {
    database: Arc<Database>,
    tables: Tables,
    most_bytes: u64,
}

impl Writer {
    fn run(self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            batch.extend(jobs.try_iter().take(MOST_IN_COMMIT - 1));
            let written = catch_unwind(AssertUnwindSafe(|| self.write(&mut batch)));
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "could not write to the image store"),
                Err(_) => {
                    tracing::error!(
                        "the image store was damaged while it was open; nothing more is written to it"
                    );
                    return;
                }
            }
            #[cfg(test)]
            for job in batch {
                if let Job::Flush(done) = job {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&self, batch: &mut [Job]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        for job in batch {
            match job {
                Job::Put { key, record, .. } => self.put(&transaction, key, record)?,
                Job::Remove { key } => self.remove(&transaction, key)?,
                #[cfg(test)]
                Job::Flush(_) => {}
            }
        }
        self.evict(&transaction)?;
        transaction.commit()?;
        Ok(())
    }

    fn put(&self, transaction: &WriteTransaction, key: &str, record: &mut [u8]) -> Result<(), redb::Error> {
        self.remove(transaction, key)?;
        let next = self.sum(transaction, "place")?.saturating_add(1);
        write_head(key, next, record);
        let record = &*record;
        transaction.open_table(self.tables.records())?.insert(key, record)?;
        transaction.open_table(self.tables.order())?.insert(next, key)?;
        let bytes = self.sum(transaction, "bytes")?.saturating_add(cost(key, record));
        let mut sums = transaction.open_table(self.tables.sums())?;
        sums.insert("place", next)?;
        sums.insert("bytes", bytes)?;
        Ok(())
    }

    fn remove(&self, transaction: &WriteTransaction, key: &str) -> Result<(), redb::Error> {
        let old = {
            let mut records = transaction.open_table(self.tables.records())?;
            let old = records.remove(key)?;
            old.map(|old| (place(old.value()), cost(key, old.value())))
        };
        let Some((place, cost)) = old else { return Ok(()) };
        if let Some(place) = place {
            transaction.open_table(self.tables.order())?.remove(place)?;
        }
        let bytes = self.sum(transaction, "bytes")?.saturating_sub(cost);
        transaction.open_table(self.tables.sums())?.insert("bytes", bytes)?;
        Ok(())
    }

    /// Removes the oldest records until the rest fits.
    fn evict(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        while self.sum(transaction, "bytes")? > self.most_bytes {
            let first = {
                let mut order = transaction.open_table(self.tables.order())?;
                let first = order.pop_first()?;
                first.map(|(_, key)| key.value().to_string())
            };
            let Some(key) = first else { return Ok(()) };
            self.remove(transaction, &key)?;
        }
        Ok(())
    }

    fn sum(&self, transaction: &WriteTransaction, name: &str) -> Result<u64, redb::Error> {
        let sums = transaction.open_table(self.tables.sums())?;
        Ok(sums.get(name)?.map_or(0, |sum| sum.value()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::cache::tests::{facts, known, named};
    use super::*;
    use crate::image::Depth;

    const AMPLE: u64 = 64 << 20;

    fn open(path: &Path) -> Store {
        Store::open(path, AMPLE, "").unwrap()
    }

    fn digests(store: &Store, numbers: std::ops::Range<usize>) -> usize {
        numbers.filter(|number| store.facts(&named(&format!("sha256:{number}"))).is_some()).count()
    }

    fn aside(folder: &Path) -> usize {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".broken-")).count()
    }

    #[test]
    fn records_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = open(&path);
        store.keep(&known(facts("sha256:1"), Depth::Layers));
        store.keep(&known(facts("sha256:2"), Depth::Config));
        store.keep_name("a:1", &named("sha256:1"));
        store.keep_name("b:1", &named("sha256:2"));
        store.forget("b:1");
        drop(store);
        let store = open(&path);
        assert_eq!(store.facts(&named("sha256:1")), Some(known(facts("sha256:1"), Depth::Layers)));
        assert_eq!(store.facts(&named("sha256:2")), Some(known(facts("sha256:2"), Depth::Config)));
        assert_eq!(store.facts(&named("sha256:3")), None);
        let name = store.name("a:1").unwrap();
        assert!(name.digest == named("sha256:1") && name.age < Duration::from_mins(1), "{name:?}");
        assert_eq!(store.name("b:1"), None);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_version_s_records_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let old = Store::open(&path, AMPLE, "other limits").unwrap();
        old.keep(&known(facts("sha256:1"), Depth::Layers));
        drop(old);
        let store = open(&path);
        assert_eq!(store.facts(&named("sha256:1")), None);
        store.keep(&known(facts("sha256:2"), Depth::Layers));
        drop(store);
        assert_eq!(digests(&open(&path), 0..10), 1);
        assert_eq!(aside(folder.path()), 0);
    }

    #[test]
    fn the_bytes_are_bounded_and_the_oldest_record_is_evicted_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::open(&path, 100 << 10, "").unwrap();
        for number in 0..500 {
            let mut large = facts(&format!("sha256:{number}"));
            large.warnings = vec!["x".repeat(1000)];
            store.keep(&known(large, Depth::Config));
            if number % 100 == 0 {
                store.flush();
            }
        }
        store.flush();
        let kept = digests(&store, 0..500);
        assert!((40..=100).contains(&kept), "{kept} records of more than 1 000 bytes in 100 KiB");
        assert_eq!(digests(&store, 500 - kept..500), kept, "the youngest are kept");
        drop(store);
        assert!(std::fs::metadata(&path).unwrap().len() < 8 << 20);
    }

    /// Facts with about so many bytes of JSON.
    fn of_size(number: usize, bytes: usize) -> Known {
        let mut large = facts(&format!("sha256:{number}"));
        large.warnings = vec!["x".repeat(bytes)];
        known(large, Depth::Config)
    }

    #[test]
    fn a_record_that_would_evict_most_others_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), 1 << 20, "").unwrap();
        store.keep(&of_size(0, 1000));
        store.keep(&of_size(1, 80 << 10));
        store.keep(&of_size(2, 40 << 10));
        store.keep_name("a:1", &named("sha256:0"));
        store.flush();
        let kept = [0, 1, 2].map(|number| digests(&store, number..number + 1));
        assert_eq!(kept, [1, 0, 1], "a record has a sixteenth of the file at most");
        let ample = Store::open(&folder.path().join("ample"), 1 << 30, "").unwrap();
        ample.keep(&of_size(0, LARGEST_RECORD));
        ample.keep(&of_size(1, LARGEST_RECORD - (4 << 10)));
        ample.flush();
        assert_eq!([0, 1].map(|number| digests(&ample, number..number + 1)), [0, 1]);
        assert_eq!(ample.waiting.bytes(), 0, "all was written");
    }

    #[test]
    fn records_that_nothing_writes_are_dropped_where_too_many_bytes_wait() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("store"), 1 << 30, "").unwrap();
        let (jobs, queue) = sync_channel(MOST_WAITING);
        // The queue of the writer ends, and nothing reads from this one.
        store.jobs = Some(jobs);
        let record = of_size(0, 1 << 20);
        (0..100).for_each(|_| store.keep(&record));
        let queued = queue.try_iter().filter(|job| matches!(job, Job::Put { .. })).count();
        assert!((4..=8).contains(&queued), "{queued} records of a megabyte wait, of a hundred");
        assert_eq!(store.waiting.bytes(), 0, "those were taken");
    }

    #[test]
    fn a_damaged_file_is_moved_aside() {
        for damage in ["truncated", "garbage", "half"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store");
            let store = open(&path);
            (0..200).for_each(|number| store.keep(&known(facts(&format!("sha256:{number}")), Depth::Config)));
            drop(store);
            let bytes = std::fs::read(&path).unwrap();
            let damaged = match damage {
                "truncated" => bytes[..1000].to_vec(),
                "half" => bytes[..bytes.len() / 2].to_vec(),
                _ => b"not a database at all".to_vec(),
            };
            std::fs::write(&path, damaged).unwrap();
            let store = open(&path);
            assert_eq!(digests(&store, 0..200), 0, "{damage}");
            assert_eq!(aside(folder.path()), 1, "{damage}");
            store.keep(&known(facts("sha256:1"), Depth::Config));
            drop(store);
            assert_eq!(digests(&open(&path), 0..200), 1, "{damage}");
        }
    }

    #[test]
    fn a_flipped_byte_never_yields_facts_that_were_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = open(&path);
        (0..50).for_each(|number| store.keep(&known(facts(&format!("sha256:{number}")), Depth::Config)));
        drop(store);
        let good = std::fs::read(&path).unwrap();
        let mut found_after_flips = 0;
        for at in (0..good.len()).step_by(good.len() / 40) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            std::fs::write(&path, &bad).unwrap();
            let store = open(&path);
            for number in 0..50 {
                let digest = format!("sha256:{number}");
                if let Some(found) = store.facts(&named(&digest)) {
                    assert_eq!(*found.config, facts(&digest), "after a flip at {at}");
                    found_after_flips += 1;
                }
            }
        }
        assert!(found_after_flips > 0, "nothing was compared");
    }

    #[test]
    fn a_record_under_another_key_is_ignored() {
        let value = br#"{"digest":"sha256:1","read_at":0}"#;
        let mut record = [&[0_u8; HEAD_BYTES][..], value].concat();
        write_head("n a", 7, &mut record);
        assert_eq!(checked("n a", &record), Some(&value[..]));
        assert_eq!(place(&record), Some(7));
        assert_eq!(checked("n b", &record), None);
        assert_eq!(checked("n a", &record[..20]), None);
    }

    #[test]
    fn two_processes_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let _store = open(&path);
        let error = Store::open(&path, AMPLE, "").unwrap_err().to_string();
        assert!(error.contains("another process has it open"), "{error}");
        assert_eq!(aside(folder.path()), 0, "it is not damaged");
        let error = Store::open(Path::new("/nonexistent/store"), AMPLE, "").unwrap_err().to_string();
        assert!(error.contains("`/nonexistent/store`"), "{error}");
    }

    const CHILD: &str = "WASMGATE_TEST_STORE";

    /// Writes until it is killed, when the test below runs it as a process; does nothing otherwise.
    #[test]
    fn child_that_writes_until_it_is_killed() {
        let Some(path) = std::env::var_os(CHILD) else { return };
        let store = open(Path::new(&path));
        for number in 0.. {
            store.keep(&known(facts(&format!("sha256:{number}")), Depth::Config));
            store.flush();
            println!("written {number}");
        }
    }

    #[test]
    fn a_killed_process_leaves_everything_that_it_committed() {
        use std::io::{BufRead, BufReader};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let name = "lookup::store::tests::child_that_writes_until_it_is_killed";
        for round in 1..=3 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([name, "--exact", "--nocapture", "--test-threads=1"])
                .env(CHILD, &path)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let wanted = 20 * round;
            let mut last = 0;
            for line in lines {
                let line = line.unwrap();
                let Some(number) = line.rsplit_once("written ").and_then(|(_, number)| number.parse().ok())
                else {
                    continue;
                };
                last = number;
                if last >= wanted {
                    break;
                }
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(last >= wanted, "the child wrote {last}");
            assert_eq!(digests(&open(&path), 0..last + 1), last + 1, "round {round}");
        }
        assert_eq!(aside(folder.path()), 0);
    }
}
