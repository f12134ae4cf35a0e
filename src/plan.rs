//! What to change so that the pod runs, with no more than it was granted: runtime class, node affinity, tolerations, sizes,
//! pinned digests, rights without a grant. Pure: takes the raw object and returns the wanted object and its JSONPatch.

pub mod affinity;
mod difference;
pub mod draft;
pub mod edit;
pub mod floor;
pub mod harden;
pub mod pin;
pub mod placement;
pub mod sizing;
mod sum;

pub use draft::{CHANGED_ANNOTATION, Error};
pub use edit::{Plan, plan, planned};
pub use harden::Surplus;
pub use sum::{each_together, together};

use crate::cluster::Cluster;
use crate::image::prefix::Unpinned;
use crate::runtime::Runtimes;

/// What a plan depends on besides the object itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The runtime profiles.
    pub runtimes: &'a Runtimes,
    /// The snapshot of the cluster.
    pub cluster: &'a Cluster,
    /// The images that keep their tags.
    pub unpinned: &'a Unpinned,
    /// Whether requests that were learned may be more than those of the profile.
    pub raises_learned: bool,
}
