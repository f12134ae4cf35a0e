//! What to change so that the pod runs: runtime class, node affinity, tolerations, size, pinned digests. Pure:
//! the raw object in, the wanted object and its JSONPatch out.

pub mod affinity;
pub mod draft;
pub mod edit;
pub mod floor;
pub mod pin;
pub mod placement;
pub mod sizing;
mod sum;

pub use draft::Error;
pub use edit::{CHANGED_ANNOTATION, Plan, plan};

use crate::cluster::Cluster;
use crate::image::prefix::Unpinned;
use crate::runtime::Runtimes;

/// What a plan depends on besides the object.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The runtime profiles.
    pub runtimes: &'a Runtimes,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The images that keep their tags.
    pub unpinned: &'a Unpinned,
}
