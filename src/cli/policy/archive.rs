//! Archives of bundles on the author's disk.

use std::path::Path;

use crate::cli::Error;

/// Writes a file whole or not at all: beside its place first, so that no reader sees half of it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::WriteBundle { path: path.to_path_buf(), source };
    let part = path.with_extension(format!("part-{}", std::process::id()));
    std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path)).map_err(|error| {
        // It is of no use to anyone, and may not have been made at all.
        let _ = std::fs::remove_file(&part);
        failed(error)
    })
}
