//! To be filled.

use std::path::Path;

use super::Grants;

/// Why grants could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// To be filled.
    #[error("could not read grants")]
    Placeholder,
}

/// Reads every `.yaml`, `.yml` and `.json` file of a directory, several documents each.
pub fn load_dir(_dir: &Path) -> Result<Grants, Error> {
    Err(Error::Placeholder)
}
