//! Sends decision records to a collector by OPA's protocol (`opa:v1/plugins/logs/plugin.go`), a `POST` of a gzip-compressed JSON array of
//! events, or by OpenTelemetry's (`crate::otlp`). Records wait on disk, so that neither a collector that is down nor a restart loses any.

mod body;
mod send;
mod spool;

pub use send::Uploader;
pub use spool::{Spool, SpoolWriter};

use std::io;
use std::path::PathBuf;

/// Why records cannot be kept for the collector.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("could not keep decision records in `{}`; the folder must be writable for the gate", path.display())]
    OpenSpool {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes there.
    #[error("the folder `{}` is used by another gate; give each replica a folder of its own", path.display())]
    LockSpool {
        /// The folder.
        path: PathBuf,
    },
}
