//! Output of records: a thread writes one line for each, from a bounded buffer. If the disk is slow or the reader has
//! stopped, records are lost and counted, but no admission is delayed.
//!
//! A review wakes the thread only if it sleeps, and the thread lets others come before it begins: then one wake-up and one
//! write serve many records.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memchr;
use serde::{Deserialize, Serialize};

use super::metrics::{DropReason, Drops};
use super::{Error, Masks, Record, UploadOptions};

/// Output of the decision log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionLogOutput {
    /// Standard output; the gate's own log goes to standard error.
    #[default]
    Stdout,
    /// Appended to this file, which is created with mode 0600 when it does not exist.
    File(PathBuf),
    /// No decision log.
    #[serde(alias = "none")]
    Off,
}

/// Settings of the decision log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DecisionLogOptions {
    /// The output.
    pub output: DecisionLogOutput,
    /// Bytes of records that may wait to be written; a record that does not fit is dropped and counted.
    pub buffer_bytes: usize,
    /// Labels for every record, besides `app`, `version` and `id`.
    pub labels: BTreeMap<String, String>,
    /// Whether a record holds what the rules read, so that `wasmgate replay` can judge it again. Such a record is two to three
    /// times as large. Default: no.
    pub policy_input: bool,
    /// Annotations that are erased from records, besides copies of the manifest.
    pub mask_annotations: Masks,
    /// The collector that gets the records too.
    pub upload: Option<UploadOptions>,
}

impl Default for DecisionLogOptions {
    /// A buffer of 16 MiB holds thousands of pods, or two reviews of the largest size.
    fn default() -> Self {
        Self {
            output: DecisionLogOutput::Stdout,
            buffer_bytes: 16 << 20,
            labels: BTreeMap::new(),
            policy_input: false,
            mask_annotations: Masks::default(),
            upload: None,
        }
    }
}

impl DecisionLogOptions {
    /// Whether records go anywhere.
    pub fn is_on(&self) -> bool {
        self.output != DecisionLogOutput::Off || self.upload.is_some()
    }
}

/// The decision log. After it is dropped, the writer writes the waiting records and stops; [`Sink::close`] waits for that.
#[derive(Debug)]
pub struct Sink {
    /// `None` if the log is off.
    shared: Option<Arc<Shared>>,
    drops: Drops,
}

/// How long the first record waits for others to be written with.
const GATHER: Duration = Duration::from_millis(2);

/// Bytes of lines after which they are written.
const WRITE_BYTES: usize = 64 << 10;

/// Records for which a list keeps its space when it is empty.
const MOST_KEPT: usize = 128;

#[derive(Debug, Default)]
struct Shared {
    /// Most of [`Queue::bytes`].
    capacity: usize,
    queue: Mutex<Queue>,
    /// Notified when `queue` has new work, and when the writer has finished.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Record>,
    /// Total weight of the records that are waiting or being written.
    bytes: usize,
    /// How many records the writer has taken and not written yet.
    writing: usize,
    writer: Doing,
    reopen: bool,
    life: Life,
}

/// What the writer does, as far as those who bring records have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Doing {
    /// It looks for records by itself.
    #[default]
    Writes,
    /// It waits for further records, for a short time.
    Gathers,
    /// It waits to be woken.
    Sleeps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Life {
    #[default]
    Open,
    /// No more records are accepted.
    Closed,
    /// The writer has finished.
    Ended,
}

impl Shared {
    /// The queue. No code panics while it holds the lock, so a poisoned lock still protects a valid queue.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn close(&mut self) {
        self.life = self.life.max(Life::Closed);
    }

    /// Whether the buffer is more than half full: the writer does not let more come.
    const fn fills(&self, capacity: usize) -> bool {
        self.bytes > capacity / 2
    }

    /// Whether the writer has to be woken now.
    fn wakes(&mut self, capacity: usize) -> bool {
        let wakes = match self.writer {
            Doing::Writes => false,
            Doing::Gathers => self.fills(capacity),
            Doing::Sleeps => true,
        };
        if wakes {
            self.writer = Doing::Writes;
        }
        wakes
    }
}

// === impl Sink ===

impl Sink {
    /// Opens the output and starts the writer. Lost records are counted in `drops`.
    pub fn open(options: &DecisionLogOptions, drops: Drops) -> Result<Self, Error> {
        Self::open_with(options, drops, None)
    }

    /// Opens the output and starts the writer where each line goes to a further place too, also if the output is off.
    pub fn open_with(
        options: &DecisionLogOptions,
        drops: Drops,
        further: Option<Box<dyn LineSink>>,
    ) -> Result<Self, Error> {
        let output = match &options.output {
            DecisionLogOutput::Stdout => Some(Output::new(open_stdout()?, None)),
            DecisionLogOutput::File(path) => Some(Output::new(open_file(path)?, Some(path.clone()))),
            DecisionLogOutput::Off if further.is_none() => {
                return Ok(Self { shared: None, drops });
            }
            DecisionLogOutput::Off => None,
        };
        Self::start(Writer::new(output, further), options.buffer_bytes, drops)
    }

    fn start(mut writer: Writer, capacity: usize, drops: Drops) -> Result<Self, Error> {
        let shared = Arc::new(Shared { capacity, ..Shared::default() });
        let (theirs, lost) = (Arc::clone(&shared), drops.clone());
        std::thread::Builder::new()
            .name("decision-log".into())
            .spawn(move || writer.run(&theirs, &lost))
            .map_err(|source| Error::StartWriter { source })?;
        Ok(Self { shared: Some(shared), drops })
    }

    /// Whether records are written at all.
    pub const fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Passes a record to the writer. Never blocks: a record that does not fit into the buffer is dropped.
    pub fn emit(&self, record: Record) {
        let Some(shared) = &self.shared else { return };
        let weight = record.weight();
        let mut queue = shared.lock();
        if queue.life != Life::Open {
            return self.drops.count(DropReason::Closed);
        }
        if queue.bytes.saturating_add(weight) > shared.capacity {
            return self.drops.count(DropReason::BufferFull);
        }
        queue.bytes += weight;
        queue.waiting.push_back(record);
        let wakes = queue.wakes(shared.capacity);
        drop(queue);
        if wakes {
            shared.changed.notify_all();
        }
    }

    /// Reopens the file under the same name, for log rotation, which has moved the old file away. If
    /// that fails, the old file stays in use.
    pub fn reopen(&self) {
        let Some(shared) = &self.shared else { return };
        shared.lock().reopen = true;
        shared.changed.notify_all();
    }

    /// Accepts no more records, and waits until all accepted ones are written, for at most `deadline`.
    pub fn close(&self, deadline: Duration) -> Result<(), Error> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let until = Instant::now() + deadline;
        let mut queue = shared.lock();
        queue.close();
        shared.changed.notify_all();
        while queue.life != Life::Ended {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Err(Error::Flush { records: queue.waiting.len() + queue.writing });
            };
            queue = shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().close();
            shared.changed.notify_all();
        }
    }
}

/// A further place for the lines of the log. The writer's thread calls it.
pub trait LineSink: Send {
    /// Takes a line, with its newline.
    fn take(&mut self, line: &[u8]);

    /// Comes at least every second.
    fn tick(&mut self);

    /// No more lines come.
    fn end(&mut self);
}

/// How often [`LineSink::tick`] comes where there are no records.
const TICK: Duration = Duration::from_secs(1);

/// State of the writer thread.
struct Writer {
    output: Option<Output>,
    further: Option<Box<dyn LineSink>>,
    /// Records that were taken from the queue and are not written yet.
    taken: VecDeque<Record>,
    /// Lines that are written next.
    lines: String,
}

// === impl Writer ===

impl Writer {
    fn new(output: Option<Output>, further: Option<Box<dyn LineSink>>) -> Self {
        Self { output, further, taken: VecDeque::new(), lines: String::new() }
    }

    fn run(&mut self, shared: &Shared, drops: &Drops) {
        while self.next(shared) {
            let (records, bytes) = self.write(drops);
            let mut queue = shared.lock();
            queue.bytes = queue.bytes.saturating_sub(bytes);
            queue.writing = queue.writing.saturating_sub(records);
            drop(queue);
            self.further.iter_mut().for_each(|further| further.tick());
        }
        self.further.iter_mut().for_each(|further| further.end());
        shared.lock().life = Life::Ended;
        shared.changed.notify_all();
    }

    /// Waits for records and takes all that are there; `false` when the sink is closed and all records are written.
    fn next(&mut self, shared: &Shared) -> bool {
        let mut queue = shared.lock();
        loop {
            queue.writer = Doing::Writes;
            if std::mem::take(&mut queue.reopen) {
                drop(queue);
                self.output.iter_mut().for_each(Output::reopen);
                queue = shared.lock();
                continue;
            }
            if !self.taken.is_empty() {
                return true;
            }
            if !queue.waiting.is_empty() {
                std::mem::swap(&mut queue.waiting, &mut self.taken);
                queue.writing = self.taken.len();
                return true;
            }
            if queue.life != Life::Open {
                return false;
            }
            queue = self.wait(shared, queue);
        }
    }

    /// Waits for a record, and then for more. Ends for any other reason too.
    fn wait<'q>(&mut self, shared: &'q Shared, mut queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        queue.writer = Doing::Sleeps;
        if let Some(further) = &mut self.further {
            let (woken, waited) =
                shared.changed.wait_timeout(queue, TICK).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if waited.timed_out() && queue.waiting.is_empty() {
                drop(queue);
                further.tick();
                queue = shared.lock();
            }
        } else {
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let has_to_go_on = queue.life != Life::Open || queue.reopen || queue.fills(shared.capacity);
        if queue.waiting.is_empty() || has_to_go_on {
            return queue;
        }
        queue.writer = Doing::Gathers;
        shared.changed.wait_timeout(queue, GATHER).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes some of the records that were taken. How many they were, and what they weighed.
    fn write(&mut self, drops: &Drops) -> (usize, usize) {
        let (mut records, mut bytes) = (0, 0);
        // By what is taken: a record that rules drop adds no line, and its space is to come back soon.
        while bytes < WRITE_BYTES
            && let Some(record) = self.taken.pop_front()
        {
            records += 1;
            bytes += record.weight();
            self.encode(&record, drops);
        }
        if let Some(output) = &mut self.output {
            output.write(self.lines.as_bytes(), drops);
        }
        self.lines.clear();
        // What the largest record took is not kept.
        self.lines.shrink_to(4 * WRITE_BYTES);
        // Nor what the fullest buffer took: the queue gets this list the next time.
        if self.taken.is_empty() {
            self.taken.shrink_to(MOST_KEPT);
        }
        (records, bytes)
    }

    fn encode(&mut self, record: &Record, drops: &Drops) {
        let start = self.lines.len();
        match record.append_to(&mut self.lines) {
            Ok(true) => {}
            Ok(false) => return drops.count(DropReason::Rule),
            Err(error) => {
                tracing::error!(%error, decision_id = %record.decision_id, "cannot encode a decision record");
                return drops.count(DropReason::EncodingFailed);
            }
        }
        let line = self.lines.as_bytes().get(start..).unwrap_or_default();
        self.further.iter_mut().for_each(|further| further.take(line));
    }
}

/// A file, or standard output.
struct Output {
    file: File,
    /// Path of the file; `None` for standard output.
    path: Option<PathBuf>,
    /// Whether the last write failed, so that the file may end inside a line.
    torn: bool,
    /// Whether the current failure is already in the log; it is not logged again for each record.
    told: bool,
}

impl Output {
    const fn new(file: File, path: Option<PathBuf>) -> Self {
        Self { file, path, torn: false, told: false }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_file(path) {
            Ok(file) => (self.file, self.torn, self.told) = (file, false, false),
            Err(error) => tracing::warn!(%error, "cannot reopen the decision log, keeping the old file"),
        }
    }

    /// Writes whole lines at once, so that lines of several processes do not mix. Each line that cannot be written is lost; those before
    /// and after it are not.
    fn write(&mut self, lines: &[u8], drops: &Drops) {
        let mut rest = lines;
        while !rest.is_empty() {
            let (written, outcome) = self.write_some(rest);
            let Err(error) = outcome else {
                self.told = false;
                return;
            };
            self.lost(&error, drops);
            let before = rest.get(..written).and_then(<[u8]>::last);
            let after = rest.get(written..).unwrap_or_default();
            // The next one begins a line, so that one record is lost and not two.
            self.torn = before.map_or(self.torn, |last| *last != b'\n');
            rest = memchr(b'\n', after).and_then(|end| after.get(end + 1..)).unwrap_or_default();
        }
    }

    /// How many bytes of these were written, and why not all.
    fn write_some(&mut self, lines: &[u8]) -> (usize, std::io::Result<()>) {
        if self.torn {
            if let Err(error) = self.file.write_all(b"\n") {
                return (0, Err(error));
            }
            self.torn = false;
        }
        let mut written = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    fn lost(&mut self, error: &std::io::Error, drops: &Drops) {
        drops.count(DropReason::WriteFailed);
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!(%error, "cannot write the decision log: records are lost");
        }
    }
}

/// A separate handle of standard output, which bypasses the standard library's buffer.
fn open_stdout() -> Result<File, Error> {
    let handle = std::io::stdout().as_fd().try_clone_to_owned();
    handle.map(File::from).map_err(|source| Error::OpenStdout { source })
}

fn open_file(path: &Path) -> Result<File, Error> {
    let open = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    open.map_err(|source| Error::OpenFile { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;
    use crate::audit::record::tests::record;

    const SOON: Duration = Duration::from_secs(20);

    fn named(name: &str) -> Record {
        record(&json!({"metadata": {"name": name}}))
    }

    fn file_sink(path: &Path) -> Sink {
        let options = DecisionLogOptions {
            output: DecisionLogOutput::File(path.to_path_buf()),
            ..DecisionLogOptions::default()
        };
        Sink::open(&options, Drops::default()).unwrap()
    }

    fn to_file(file: File) -> Writer {
        Writer::new(Some(Output::new(file, None)), None)
    }

    fn names(text: &str) -> Vec<String> {
        let name = |line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["input"]["request"]["object"]["metadata"]["name"].as_str().unwrap().to_string()
        };
        text.lines().map(name).collect()
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn every_record_is_in_the_file_when_the_sink_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.log");
        let sink = file_sink(&path);
        let wanted: Vec<String> = (0..500).map(|n| format!("pod-{n}")).collect();
        for name in &wanted {
            sink.emit(named(name));
        }
        sink.close(SOON).unwrap();
        assert_eq!(names(&read(&path)), wanted);
        assert_eq!(sink.drops.total(), 0);
    }

    #[test]
    fn the_file_is_private_and_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.log");
        for name in ["first", "second"] {
            let sink = file_sink(&path);
            sink.emit(named(name));
            sink.close(SOON).unwrap();
        }
        assert_eq!(names(&read(&path)), ["first", "second"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn after_a_rotation_records_go_to_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("decisions.log"), folder.path().join("decisions.log.1"));
        let sink = file_sink(&path);
        sink.emit(named("before"));
        wait_until(|| path.metadata().unwrap().len() > 0);
        std::fs::rename(&path, &moved).unwrap();
        sink.reopen();
        sink.emit(named("after"));
        sink.close(SOON).unwrap();
        assert_eq!(names(&read(&moved)), ["before"]);
        assert_eq!(names(&read(&path)), ["after"]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_leaves_the_old_one_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("logs");
        std::fs::create_dir(&inner).unwrap();
        let sink = file_sink(&inner.join("decisions.log"));
        let moved = folder.path().join("moved");
        std::fs::rename(&inner, &moved).unwrap();
        sink.reopen();
        sink.emit(named("kept"));
        sink.close(SOON).unwrap();
        assert_eq!(names(&read(&moved.join("decisions.log"))), ["kept"]);
    }

    #[test]
    fn a_file_in_no_folder_is_an_error_that_names_it() {
        let options = DecisionLogOptions {
            output: DecisionLogOutput::File("/nonexistent/decisions.log".into()),
            ..DecisionLogOptions::default()
        };
        let error = Sink::open(&options, Drops::default()).unwrap_err();
        assert!(error.to_string().contains("`/nonexistent/decisions.log`"), "{error}");
    }

    #[test]
    fn a_reader_that_stopped_reading_costs_records_and_no_time() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        let sink = Sink::start(to_file(file), 256 << 10, Drops::default()).unwrap();
        // More than a pipe (64 KiB) and the buffer hold together: a writer that waited for space would wait for ever.
        (0..1000).for_each(|n| sink.emit(named(&format!("pod-{n}"))));
        let lost = sink.drops.get(DropReason::BufferFull);
        assert!(lost > 0 && lost < 1000, "{lost}");
        assert!(
            matches!(sink.close(Duration::from_millis(50)), Err(Error::Flush { records }) if records > 0)
        );
        sink.emit(named("too late"));
        assert_eq!(sink.drops.get(DropReason::Closed), 1);
        // A reader that resumes gets all accepted records.
        let waiting = std::thread::spawn(move || sink.close(SOON));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        waiting.join().unwrap().unwrap();
        assert_eq!(names(&text).len() as u64, 1000 - lost);
    }

    #[test]
    fn a_reader_that_went_away_costs_records_and_not_the_process() {
        let (reader, writer) = std::io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        let sink = Sink::start(to_file(file), 1 << 20, Drops::default()).unwrap();
        drop(reader);
        (0..3).for_each(|_| sink.emit(named("x")));
        sink.close(SOON).unwrap();
        assert_eq!(sink.drops.get(DropReason::WriteFailed), 3);
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.log");
        std::fs::write(&path, "{\"torn\":").unwrap();
        let mut output = Output::new(open_file(&path).unwrap(), Some(path.clone()));
        output.torn = true;
        output.write(lines_of(&["whole", "next"]).as_bytes(), &Drops::default());
        assert_eq!(names(read(&path).split_once('\n').unwrap().1), ["whole", "next"]);
        assert!(!output.torn);
    }

    fn lines_of(wanted: &[&str]) -> String {
        let mut lines = String::new();
        for name in wanted {
            assert!(named(name).append_to(&mut lines).unwrap());
        }
        lines
    }

    #[test]
    fn records_that_come_together_are_written_together() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let sink =
            Sink::start(to_file(File::from(OwnedFd::from(writer))), 1 << 20, Drops::default()).unwrap();
        let shared = sink.shared.as_ref().unwrap();
        let wanted = ["a", "b", "c"];
        let mut queue = shared.lock();
        queue.waiting.extend(wanted.map(named));
        queue.bytes = queue.waiting.iter().map(Record::weight).sum();
        drop(queue);
        shared.changed.notify_all();
        let mut text = vec![0; WRITE_BYTES];
        let length = reader.read(&mut text).unwrap();
        assert_eq!(names(std::str::from_utf8(&text[..length]).unwrap()), wanted);
        sink.close(SOON).unwrap();
        let queue = shared.lock();
        assert_eq!((queue.bytes, queue.writing), (0, 0));
    }

    /// Each waits for the one before it to be written, so the writer sleeps in between.
    #[test]
    fn a_record_that_comes_alone_wakes_the_writer() {
        let (reader, writer) = std::io::pipe().unwrap();
        let sink =
            Sink::start(to_file(File::from(OwnedFd::from(writer))), 1 << 20, Drops::default()).unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        for name in ["a", "b", "c", "d"] {
            sink.emit(named(name));
            assert_eq!(names(&lines.next().unwrap().unwrap()), [name]);
        }
    }

    #[test]
    fn a_writer_is_woken_when_it_sleeps_and_when_the_buffer_fills_while_it_gathers() {
        let mut queue = Queue { bytes: 50, ..Queue::default() };
        for (doing, capacity, wakes) in [
            (Doing::Writes, 10, false),
            (Doing::Gathers, 100, false),
            (Doing::Gathers, 98, true),
            (Doing::Sleeps, 1 << 20, true),
        ] {
            queue.writer = doing;
            assert_eq!(queue.wakes(capacity), wakes, "{doing:?}");
            assert_eq!(queue.writer == Doing::Writes, wakes || doing == Doing::Writes);
        }
    }

    /// A disk with space for a line and a half.
    #[test]
    fn of_lines_that_are_written_together_only_those_are_lost_that_cannot_be() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut output = Output::new(File::from(OwnedFd::from(writer.try_clone().unwrap())), None);
        let drops = Drops::default();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        // A pipe takes 64 KiB; what does not fit fails, since the writer does not wait.
        let line = |letter: &str| format!("{}\n", letter.repeat(39_999));
        output.write([line("a"), line("b"), line("c")].concat().as_bytes(), &drops);
        assert_eq!((drops.get(DropReason::WriteFailed), output.torn), (2, true));
        let mut text = vec![0; 1 << 20];
        let length = reader.read(&mut text).unwrap();
        assert!(text[..length].starts_with(line("a").as_bytes()) && length > 40_000);
        output.write(line("d").as_bytes(), &drops);
        let length = reader.read(&mut text).unwrap();
        assert_eq!(text[..length], *format!("\n{}", line("d")).as_bytes());
        assert_eq!((drops.get(DropReason::WriteFailed), output.torn), (2, false));
    }

    #[test]
    fn a_log_that_is_off_takes_records_and_counts_nothing() {
        let sink = Sink::open(
            &DecisionLogOptions { output: DecisionLogOutput::Off, ..DecisionLogOptions::default() },
            Drops::default(),
        )
        .unwrap();
        sink.emit(named("x"));
        sink.close(Duration::ZERO).unwrap();
        assert_eq!(sink.drops.total(), 0);
    }

    #[test]
    fn options_are_read_as_they_are_documented() {
        let options: DecisionLogOptions =
            serde_json::from_value(json!({"output": {"file": "/var/log/d.log"}})).unwrap();
        assert_eq!(
            options,
            DecisionLogOptions {
                output: DecisionLogOutput::File("/var/log/d.log".into()),
                ..DecisionLogOptions::default()
            }
        );
        let off: DecisionLogOptions =
            serde_json::from_value(json!({"output": "off", "bufferBytes": 1024})).unwrap();
        assert_eq!(
            off,
            DecisionLogOptions {
                output: DecisionLogOutput::Off,
                buffer_bytes: 1024,
                ..DecisionLogOptions::default()
            }
        );
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let until = Instant::now() + SOON;
        while !condition() {
            assert!(Instant::now() < until, "waited too long");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
