//! Archives of bundles on the author's disk.

use std::fs;
use std::path::Path;

use crate::cli::Error;
use crate::files;

/// Writes a file whole or not at all. What is there and no file, such as `/dev/null` or a pipe of the shell, is written to: root could put
/// a file in its place.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let is_other = fs::metadata(path).is_ok_and(|of| !of.is_file());
    let written = if is_other { fs::write(path, bytes) } else { files::replace(path, bytes, 0o666) };
    written.map_err(|source| Error::WriteBundle { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::FileTypeExt as _;

    use super::*;

    #[test]
    fn a_pipe_gets_the_bundle_and_stays_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let read = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut found = Vec::new();
                fs::File::open(pipe).unwrap().read_to_end(&mut found).unwrap();
                found
            }
        });
        write(&pipe, b"bundle").unwrap();
        assert_eq!(read.join().unwrap(), b"bundle");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}
