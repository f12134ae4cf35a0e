//! Where policy bundles come from: files, folders, HTTP bundle servers and OCI registries. Brings each bundle up to date,
//! keeps the last good one on disk, and tells how each is.
//!
//! A new bundle is fetched, checked, compiled and tried before anything is replaced. One that fails leaves the one before it
//! in force and no other bundle notices.

mod disk;
mod error;
mod fetch;
mod fetched;
mod follow;
mod http;
mod in_force;
mod kept;
mod oci;
pub mod options;
mod ready;
pub mod status;
mod terms;
mod warnings;

pub use crate::policy::signature::{Algorithm, KeyOptions, Signers};
pub use error::Error;
pub use follow::Follower;
pub use in_force::{Changes, Claim, InForce};
pub use kept::BundleStore;
pub use oci::{LAYER, Registries, pull};
pub use options::{BundleAction, BundleSource, Origin, place};
pub use status::{BundleStatus, Poll, Statuses};
pub use terms::{Memory, Swap, Terms};

use tokio::task::{JoinError, spawn_blocking};

use crate::policy;

/// Runs work on a thread for such work: unpacking, digests and parsing of large bundles would hold up reviews.
async fn blocking<T: Send + 'static>(
    bundle: &str,
    work: impl FnOnce() -> Result<T, policy::Error> + Send + 'static,
) -> Result<T, Error> {
    let failed =
        |error: JoinError| policy::Error::StartModule { bundle: bundle.into(), reason: error.to_string() };
    Ok(spawn_blocking(work).await.map_err(failed)??)
}
