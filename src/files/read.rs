//! Files that are read whole, within a bound.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Most bytes of a file with a key, a token or certificates. A Secret has 1 MiB at most (`kubernetes:pkg/apis/core/types.go`,
/// `MaxSecretSize`), and all CAs of a distribution have less.
pub const LARGEST_CREDENTIAL: u64 = 4 << 20;

/// Where a process finds its open files (`man 5 proc`).
const DESCRIPTORS: [&str; 3] = ["/dev/fd", "/dev/stdin", "/proc/self/fd"];

/// The content of a regular file of at most `limit` bytes. Anything else is refused: a pipe would be waited for, and some devices have no
/// end. A larger one is an error of the kind [`ErrorKind::FileTooLarge`]. Blocks on the disk.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // So that opening a pipe does not wait for its writer. For a regular file it changes nothing.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        let message = "it is not a regular file; put its content into one";
        return Err(io::Error::new(ErrorKind::InvalidInput, message));
    }
    whole(file, limit)
}

/// The same as text.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    read(path, limit).and_then(text)
}

/// The same of what a user names for a command, which may be a pipe of the shell: it is waited for.
pub fn read_or_wait(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    whole(File::open(path)?, limit)
}

/// The same of what serves a gate for long and a command once: of a pipe, only one is read that has no name of its own, such as that of
/// `<(kubectl get secret …)` in a shell, which ends.
pub fn read_given(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let is_descriptor = DESCRIPTORS.iter().any(|place| path.starts_with(place));
    if is_descriptor { read_or_wait(path, limit) } else { read(path, limit) }
}

/// The content of a stream of at most `limit` bytes.
pub fn read_stream(stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    filled(Vec::new(), stream, limit)
}

/// What was read, as text.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

/// What was read, or `None` where it was too large.
pub fn unless_too_large<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Ok(None),
        other => other.map(Some),
    }
}

fn whole(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    if size > limit {
        return Err(too_large(limit));
    }
    // Allocated in one piece: growing step by step takes twice the memory at the end, and leaves copies of a key behind.
    filled(Vec::with_capacity(usize::try_from(size).unwrap_or_default()), file, limit)
}

fn filled(mut bytes: Vec<u8>, stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let read = stream.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_also_by_a_link_and_where_it_states_no_size() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "12345").unwrap();
        symlink("a", at("link")).unwrap();
        for name in ["a", "link"] {
            assert_eq!(read(&at(name), 5).unwrap(), b"12345");
            assert_eq!(read_or_wait(&at(name), 5).unwrap(), b"12345");
            for refused in [read(&at(name), 4), read_or_wait(&at(name), 4)] {
                let refused = refused.unwrap_err();
                assert_eq!(refused.to_string(), "it is larger than 4 bytes");
                assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
            }
        }
        let status = Path::new("/proc/self/status");
        assert!(read_text(status, 1 << 20).unwrap().starts_with("Name:"));
        assert!(unless_too_large(read(status, 4)).unwrap().is_none());
        assert_eq!(unless_too_large(read(&at("a"), 5)).unwrap().unwrap(), b"12345");
        assert_eq!(unless_too_large(read(&at("none"), 5)).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(at("a"), [0xff]).unwrap();
        assert_eq!(read_text(&at("a"), 5).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            for refused in [read(path, 5), read_given(path, 5)] {
                let refused = refused.unwrap_err();
                assert!(refused.to_string().starts_with("it is not a regular file"), "{refused}");
            }
        }
    }

    #[test]
    fn a_pipe_without_a_name_is_read_to_its_end_where_a_user_gives_it() {
        for place in ["/dev/fd", "/proc/self/fd"] {
            let (reader, mut writer) = io::pipe().unwrap();
            let path = format!("{place}/{}", reader.as_raw_fd());
            let path = Path::new(&path);
            assert_eq!(read(path, 5).unwrap_err().kind(), ErrorKind::InvalidInput);
            let later = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                writer.write_all(b"12345")
            });
            assert_eq!(read_given(path, 5).unwrap(), b"12345");
            later.join().unwrap().unwrap();
        }
    }

    #[test]
    fn a_stream_has_a_limit_and_a_pipe_of_the_shell_is_waited_for() {
        assert_eq!(read_stream(&b"12345"[..], 5).unwrap(), b"12345");
        assert_eq!(read_stream(io::repeat(0), 5).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "12345")
        });
        assert_eq!(read_or_wait(&pipe, 5).unwrap(), b"12345");
        writer.join().unwrap().unwrap();
    }
}
