//! What sources say.

use crate::policy::{Contents, Error};

/// What a source says.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The bundle is the one of the version that the source was asked with.
    Unchanged,
    /// Nothing can be said yet: a change has not come to rest, or is known to be unusable.
    Waiting,
    /// Another bundle.
    New {
        /// Its files, or why the archive has none. That one is known by its version too, so that it is not fetched again and again.
        contents: Result<Contents, Error>,
        /// What the source will know it by: a fingerprint, an `ETag`, a digest; empty if it knows it by nothing.
        version: String,
    },
}
