//! Archives of bundles on the author's disk.

use std::path::Path;

use crate::cli::Error;
use crate::files;

/// Writes a file whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::WriteBundle { path: path.to_path_buf(), source };
    files::replace(path, bytes, 0o666).map_err(failed)
}
