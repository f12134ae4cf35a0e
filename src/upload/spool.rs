//! Records that wait for the collector, as files of lines in a folder. A line is appended to the newest file as soon as it is made, so
//! that it is there after a crash; a file that is full or old is closed, and is sent and removed as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Error;
use crate::audit::UploadOptions;
use crate::audit::metrics::{DropReason, Drops};
use crate::audit::sink::LineSink;

/// How much smaller gzip makes records, at least.
const COMPRESSED: u64 = 8;

/// The file to which lines are appended.
const OPEN: &str = "open.jsonl";

/// The folder in which records wait.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// The spool of these options.
    pub fn of(options: &UploadOptions) -> Self {
        Self { folder: options.spool.clone() }
    }

    /// The files that are to be sent, the oldest first, with their sizes.
    pub(super) fn closed(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if number_of(&entry.path()).is_some() {
                found.push((entry.path(), entry.metadata()?.len()));
            }
        }
        // Names are numbers of one width.
        found.sort();
        Ok(found)
    }
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
    open: Option<Open>,
    /// Number of the next file.
    next: u64,
    most_bytes: u64,
    file_bytes: u64,
    delay: Duration,
    drops: Drops,
    /// Whether the current failure is already in the log.
    told: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    since: Instant,
}

impl SpoolWriter {
    /// Opens the folder; what an earlier process left in it is sent too.
    pub fn open(options: &UploadOptions, drops: Drops) -> Result<Self, Error> {
        let failed = |source| Error::OpenSpool { path: options.spool.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&options.spool).map_err(failed)?;
        let spool = Spool::of(options);
        let last = spool.closed().map_err(failed)?.last().and_then(|(path, _)| number_of(path));
        let mut writer = Self {
            spool,
            open: None,
            next: last.map_or(0, |last| last + 1),
            most_bytes: options.spool_bytes,
            file_bytes: COMPRESSED * options.chunk_bytes as u64,
            delay: options.delay,
            drops,
            told: false,
        };
        writer.close().map_err(failed)?;
        Ok(writer)
    }

    fn path(&self) -> PathBuf {
        self.spool.folder.join(OPEN)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.open.is_none() {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path())?;
            self.open = Some(Open { file, bytes: 0, since: Instant::now() });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.file.write_all(line)?;
        open.bytes += line.len() as u64;
        if open.bytes >= self.file_bytes { self.close() } else { Ok(()) }
    }

    /// Closes the newest file, and makes space for the next.
    fn close(&mut self) -> io::Result<()> {
        self.open = None;
        let to = self.spool.folder.join(format!("{:020}.jsonl", self.next));
        match fs::rename(self.path(), to) {
            Ok(()) => self.next += 1,
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
            if bytes <= self.most_bytes {
                break;
            }
            // It may have been sent meanwhile.
            let Ok(lines) = fs::read(path) else { continue };
            if fs::remove_file(path).is_ok() {
                let lost = lines.split(|byte| *byte == b'\n').count().saturating_sub(1);
                self.drops.count_many(DropReason::SpoolFull, lost as u64);
            }
            bytes -= size;
        }
        Ok(())
    }

    fn done(&mut self, outcome: io::Result<()>) -> bool {
        match outcome {
            Ok(()) => self.told = false,
            Err(error) => {
                self.open = None;
                if !std::mem::replace(&mut self.told, true) {
                    let folder = self.spool.folder.display();
                    tracing::error!(%error, %folder, "cannot keep decision records for the collector");
                }
                return false;
            }
        }
        true
    }
}

impl LineSink for SpoolWriter {
    fn take(&mut self, line: &[u8]) {
        let outcome = self.append(line);
        if !self.done(outcome) {
            self.drops.count(DropReason::WriteFailed);
        }
    }

    fn tick(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.since.elapsed() >= self.delay) {
            let outcome = self.close();
            self.done(outcome);
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
        let files = Spool { folder: folder.to_path_buf() }.closed().unwrap();
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
}
