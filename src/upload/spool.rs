//! Records that wait for the collector, as files of lines in a folder. A line is appended to the newest file as soon as it is made, so
//! that it is there after a crash; a file that is full or old is closed, and is sent and removed as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use crate::audit::UploadOptions;
use crate::audit::metrics::{DropReason, Drops, Waiting};
use crate::audit::sink::LineSink;

/// How much smaller gzip makes records, at least.
const COMPRESSED: u64 = 8;

/// The file to which lines are appended.
const OPEN: &str = "open.jsonl";

/// The file by whose lock a process has the folder to itself.
const LOCK: &str = "lock";

/// The folder in which records wait, and how far they were sent. Clones share that.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
    most_bytes: u64,
    progress: Arc<Mutex<Progress>>,
}

/// How far the file came that was begun last. The next attempt goes on there: a collector that takes one request now and then (429) would else
/// get the first records of a file again and again, and never the others.
#[derive(Debug, Default)]
struct Progress {
    file: PathBuf,
    /// Its first records that were taken, or counted as lost.
    settled: usize,
    /// Whether one was settled since this was asked last.
    is_new: bool,
}

impl Spool {
    fn of(options: &UploadOptions) -> Self {
        Self { folder: options.spool.clone(), most_bytes: options.spool_bytes, progress: Arc::default() }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many records of this file are settled.
    pub(super) fn settled(&self, file: &Path) -> usize {
        let progress = self.progress();
        if progress.file == file { progress.settled } else { 0 }
    }

    /// Notes that so many more records of this file were taken, or counted as lost.
    pub(super) fn settle(&self, file: &Path, records: usize) {
        let mut progress = self.progress();
        let before = if progress.file == file { progress.settled } else { 0 };
        *progress = Progress { file: file.to_path_buf(), settled: before + records, is_new: true };
    }

    /// Whether a record was settled since this was asked last.
    pub(super) fn progressed(&self) -> bool {
        std::mem::take(&mut self.progress().is_new)
    }

    /// What waits, with the file to which lines are appended.
    pub(super) fn waiting(&self) -> io::Result<Waiting> {
        let closed = self.closed()?;
        let open = fs::metadata(self.folder.join(OPEN)).map_or(0, |open| open.len());
        let bytes = closed.iter().map(|(_, bytes)| bytes).sum::<u64>().saturating_add(open);
        // One that is sent meanwhile waits no more, and a clock that was set back says nothing.
        let since = closed.first().and_then(|(path, _)| fs::metadata(path).ok()?.modified().ok());
        let oldest = since.and_then(|since| since.elapsed().ok()).unwrap_or_default();
        Ok(Waiting { bytes, most_bytes: self.most_bytes, oldest })
    }

    /// The files that are to be sent, the oldest first, with their sizes.
    pub(super) fn closed(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if number_of(&entry.path()).is_none() {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) => found.push((entry.path(), metadata.len())),
                // It has been sent meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // Names are numbers of one width.
        found.sort();
        Ok(found)
    }
}

/// Whether there is no space, on the disk or of what the gate may take of it.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The number of a closed file.
fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}

/// Writes the newest file.
#[derive(Debug)]
pub struct SpoolWriter {
    spool: Spool,
    /// Locked as long as it is open.
    _lock: File,
    open: Option<Open>,
    /// Whether the open file may end inside a line.
    is_torn: bool,
    /// Number of the next file.
    next: u64,
    file_bytes: u64,
    delay: Duration,
    drops: Drops,
    /// Whether the current failure is already in the log.
    told: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Its length.
    bytes: u64,
    since: Instant,
}

impl SpoolWriter {
    /// Opens the folder; what an earlier process left in it is sent too.
    pub fn open(options: &UploadOptions, drops: Drops) -> Result<Self, Error> {
        let failed = |source| Error::OpenSpool { path: options.spool.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&options.spool).map_err(failed)?;
        let lock = lock(&options.spool)?;
        let spool = Spool::of(options);
        let last = spool.closed().map_err(failed)?.last().and_then(|(path, _)| number_of(path));
        let mut writer = Self {
            spool,
            _lock: lock,
            open: None,
            is_torn: false,
            next: last.map_or(0, |last| last + 1),
            file_bytes: COMPRESSED.saturating_mul(options.chunk_bytes as u64),
            delay: options.delay,
            drops,
            told: false,
        };
        writer.close().map_err(failed)?;
        Ok(writer)
    }

    /// The folder, for what sends the records in it.
    pub fn spool(&self) -> Spool {
        self.spool.clone()
    }

    fn path(&self) -> PathBuf {
        self.spool.folder.join(OPEN)
    }

    /// Appends a line. Where the disk is full, the oldest file makes space for it.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        match self.write(line) {
            Err(error) if is_full(&error) && self.remove_oldest()? => self.write(line),
            outcome => outcome,
        }
    }

    /// Closes the newest file if it is full.
    fn close_full(&mut self) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| open.bytes >= self.file_bytes) {
            return self.close();
        }
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.open.is_none() {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path())?;
            let bytes = file.metadata()?.len();
            self.open = Some(Open { file, bytes, since: Instant::now() });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        // A line of its own after a torn one, so that one record is lost and not two.
        let torn: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let whole = [torn, line].concat();
        if let Err(error) = open.file.write_all(&whole) {
            // What a full disk took of it would count as a record that is lost.
            if open.file.set_len(open.bytes).is_err() {
                (self.open, self.is_torn) = (None, true);
            }
            return Err(error);
        }
        open.bytes += whole.len() as u64;
        self.is_torn = false;
        Ok(())
    }

    /// Closes the newest file, and makes space for the next.
    fn close(&mut self) -> io::Result<()> {
        self.open = None;
        let to = self.spool.folder.join(format!("{:020}.jsonl", self.next));
        match fs::rename(self.path(), to) {
            Ok(()) => (self.next, self.is_torn) = (self.next + 1, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.make_space()
    }

    /// Removes the oldest files while all together are too large. The newest stays.
    fn make_space(&self) -> io::Result<()> {
        let closed = self.spool.closed()?;
        let mut bytes: u64 = closed.iter().map(|(_, bytes)| bytes).sum();
        for (path, size) in closed.iter().take(closed.len().saturating_sub(1)) {
            if bytes <= self.spool.most_bytes {
                break;
            }
            self.remove(path);
            bytes -= size;
        }
        Ok(())
    }

    /// Removes the oldest file; whether there was one.
    fn remove_oldest(&self) -> io::Result<bool> {
        let closed = self.spool.closed()?;
        let oldest = closed.first();
        if let Some((path, _)) = oldest {
            self.remove(path);
        }
        Ok(oldest.is_some())
    }

    /// Removes a file and counts its records as lost, unless they have been sent meanwhile, or were lost before.
    fn remove(&self, path: &Path) {
        let Ok(lines) = fs::read(path) else { return };
        if fs::remove_file(path).is_ok() {
            let records = lines.split(|byte| *byte == b'\n').count().saturating_sub(1);
            let lost = records.saturating_sub(self.spool.settled(path));
            self.drops.count_many(DropReason::SpoolFull, lost as u64);
        }
    }

    fn done(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.told = false,
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        // It is opened again for the next record, and goes on where it ends.
        self.open = None;
        if !std::mem::replace(&mut self.told, true) {
            let folder = self.spool.folder.display();
            tracing::error!(%error, %folder, "cannot keep decision records for the collector");
        }
    }
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<File, Error> {
    let failed = |source| Error::OpenSpool { path: folder.to_path_buf(), source };
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK));
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::LockSpool { path: folder.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

impl LineSink for SpoolWriter {
    fn take(&mut self, line: &[u8]) {
        let written = self.append(line);
        if written.is_err() {
            self.drops.count(DropReason::WriteFailed);
        }
        // A record that is in a file is sent, though the file could not be closed yet.
        let outcome = written.and_then(|()| self.close_full());
        self.done(outcome);
    }

    fn tick(&mut self) {
        let is_due = match &self.open {
            Some(open) => open.since.elapsed() >= self.delay,
            // After a failure it is closed in any case: where it alone fills the disk, no record would come to close it.
            None => self.told && fs::metadata(self.path()).is_ok_and(|left| left.len() > 0),
        };
        if is_due && let Err(error) = self.close() {
            self.failed(&error);
        }
    }

    fn end(&mut self) {
        let outcome = self.close();
        self.done(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &Path) -> UploadOptions {
        let text = format!(r#"{{"url": "https://c.example/logs", "spool": "{}"}}"#, folder.display());
        serde_json::from_str(&text).unwrap()
    }

    fn lines(folder: &Path) -> Vec<String> {
        let files = Spool::of(&options(folder)).closed().unwrap();
        let text: String = files.iter().map(|(path, _)| fs::read_to_string(path).unwrap()).collect();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_was_written_is_there_after_a_crash_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("a/spool");
        let mut writer = SpoolWriter::open(&options(&spool), Drops::default()).unwrap();
        writer.take(b"1\n");
        writer.take(b"2\n");
        assert_eq!(lines(&spool), Vec::<String>::new(), "it is not full");
        drop(writer);
        let mut writer = SpoolWriter::open(&options(&spool), Drops::default()).unwrap();
        writer.take(b"3\n");
        writer.end();
        assert_eq!(lines(&spool), ["1", "2", "3"]);
    }

    #[test]
    fn a_file_is_closed_when_it_is_full_or_old() {
        let folder = tempfile::tempdir().unwrap();
        let small = UploadOptions { chunk_bytes: 1, delay: Duration::ZERO, ..options(folder.path()) };
        let mut writer = SpoolWriter::open(&small, Drops::default()).unwrap();
        writer.take(b"123456\n");
        assert_eq!(lines(folder.path()).len(), 0);
        writer.take(b"7\n");
        assert_eq!(lines(folder.path()).len(), 2);
        writer.take(b"8\n");
        writer.tick();
        assert_eq!(lines(folder.path()).len(), 3);
    }

    #[test]
    fn the_oldest_records_go_where_there_is_no_space_and_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let small = UploadOptions { chunk_bytes: 1, spool_bytes: 30, ..options(folder.path()) };
        let drops = Drops::default();
        let mut writer = SpoolWriter::open(&small, drops.clone()).unwrap();
        (0..5).for_each(|number| writer.take(format!("number {number}\n").as_bytes()));
        assert_eq!(lines(folder.path()), ["number 2", "number 3", "number 4"]);
        assert_eq!(drops.get(DropReason::SpoolFull), 2);
    }

    #[test]
    fn what_waits_is_measured_and_is_as_old_as_its_oldest_file() {
        let folder = tempfile::tempdir().unwrap();
        let all = UploadOptions { delay: Duration::ZERO, ..options(folder.path()) };
        let mut writer = SpoolWriter::open(&all, Drops::default()).unwrap();
        let spool = writer.spool();
        let most_bytes = 256 << 20;
        assert_eq!(spool.waiting().unwrap(), Waiting { bytes: 0, most_bytes, oldest: Duration::ZERO });
        writer.take(b"123\n");
        let open = spool.waiting().unwrap();
        assert_eq!((open.bytes, open.oldest), (4, Duration::ZERO), "it cannot be sent yet");
        writer.tick();
        let (first, _) = spool.closed().unwrap().swap_remove(0);
        let hour = Duration::from_hours(1);
        let before = std::time::SystemTime::now() - hour;
        OpenOptions::new().write(true).open(&first).unwrap().set_modified(before).unwrap();
        writer.take(b"45\n");
        writer.tick();
        let two = spool.waiting().unwrap();
        assert_eq!(two.bytes, 7);
        assert!((hour..hour * 2).contains(&two.oldest), "{two:?}");
        fs::remove_file(first).unwrap();
        let one = spool.waiting().unwrap();
        assert!(one.bytes == 3 && one.oldest < hour, "{one:?}");
    }

    #[test]
    fn after_a_torn_line_the_next_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::open(&options(folder.path()), Drops::default()).unwrap();
        writer.take(b"1\n");
        // As after a write that a full disk cut off.
        writer.open.as_mut().unwrap().file.write_all(b"to").unwrap();
        writer.is_torn = true;
        writer.take(b"3\n");
        writer.end();
        assert_eq!(lines(folder.path()), ["1", "to", "3"]);
    }

    #[test]
    fn a_disk_that_is_full_costs_the_oldest_records() {
        let folder = tempfile::tempdir().unwrap();
        let drops = Drops::default();
        let small = UploadOptions { delay: Duration::ZERO, ..options(folder.path()) };
        let mut writer = SpoolWriter::open(&small, drops.clone()).unwrap();
        for line in [b"1\n", b"2\n"] {
            writer.take(line);
            writer.tick();
        }
        assert!(writer.remove_oldest().unwrap());
        assert_eq!((lines(folder.path()), drops.get(DropReason::SpoolFull)), (vec!["2".to_owned()], 1));
        assert!(writer.remove_oldest().unwrap());
        assert!(!writer.remove_oldest().unwrap());
    }

    #[test]
    fn what_was_written_before_a_failure_is_sent_though_no_record_follows() {
        let folder = tempfile::tempdir().unwrap();
        let slow = UploadOptions { delay: Duration::from_hours(1), ..options(folder.path()) };
        let mut writer = SpoolWriter::open(&slow, Drops::default()).unwrap();
        fs::write(writer.path(), "").unwrap();
        writer.done(Err(io::ErrorKind::StorageFull.into()));
        writer.tick();
        assert!(writer.spool.closed().unwrap().is_empty(), "nothing is in it");
        writer.take(b"1\n");
        writer.tick();
        assert_eq!(lines(folder.path()), Vec::<String>::new(), "it is not old");
        writer.done(Err(io::ErrorKind::StorageFull.into()));
        writer.tick();
        assert_eq!(lines(folder.path()), ["1"]);
        assert!(writer.told, "a record is still to succeed");
        writer.take(b"2\n");
        writer.tick();
        assert_eq!((writer.told, lines(folder.path())), (false, vec!["1".to_owned()]), "nor is this one");
    }

    #[test]
    fn a_record_in_a_file_that_cannot_be_closed_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let drops = Drops::default();
        let small = UploadOptions { chunk_bytes: 1, ..options(folder.path()) };
        let mut writer = SpoolWriter::open(&small, drops.clone()).unwrap();
        // No file takes the place of a folder.
        let obstacle = folder.path().join(format!("{:020}.jsonl", 0));
        fs::create_dir(&obstacle).unwrap();
        writer.take(b"number 1\n");
        assert_eq!((writer.told, drops.total()), (true, 0));
        fs::remove_dir(&obstacle).unwrap();
        writer.take(b"number 2\n");
        assert_eq!(
            (lines(folder.path()), drops.total()),
            (vec!["number 1".to_owned(), "number 2".into()], 0)
        );
    }

    #[test]
    fn records_that_the_collector_has_are_not_lost_with_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let drops = Drops::default();
        let all = UploadOptions { delay: Duration::ZERO, ..options(folder.path()) };
        let mut writer = SpoolWriter::open(&all, drops.clone()).unwrap();
        for file in [&b"1\n2\n3\n"[..], b"4\n5\n"] {
            writer.take(file);
            writer.tick();
        }
        let sender = writer.spool();
        let first = sender.closed().unwrap().swap_remove(0).0;
        sender.settle(&first, 1);
        sender.settle(&first, 1);
        assert_eq!((sender.settled(&first), sender.progressed(), sender.progressed()), (2, true, false));
        assert!(writer.remove_oldest().unwrap());
        assert_eq!(drops.get(DropReason::SpoolFull), 1);
        assert!(writer.remove_oldest().unwrap());
        assert_eq!(drops.get(DropReason::SpoolFull), 3, "of another file it has none");
    }

    #[test]
    fn a_file_that_is_sent_meanwhile_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let drops = Drops::default();
        let all = UploadOptions { delay: Duration::ZERO, ..options(folder.path()) };
        let mut writer = SpoolWriter::open(&all, drops.clone()).unwrap();
        let spool = Spool::of(&all);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    spool.closed().unwrap().iter().for_each(|(path, _)| drop(fs::remove_file(path)));
                }
            });
            for _ in 0..2000 {
                writer.take(b"1\n");
                writer.tick();
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(drops.total(), 0);
    }

    #[test]
    fn a_folder_belongs_to_one_writer_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = SpoolWriter::open(&options(folder.path()), Drops::default()).unwrap();
        let second = SpoolWriter::open(&options(folder.path()), Drops::default());
        assert!(matches!(second, Err(Error::LockSpool { .. })));
        drop(first);
        assert!(SpoolWriter::open(&options(folder.path()), Drops::default()).is_ok());
    }
}
