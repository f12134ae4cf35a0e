//! What to change so that the pod runs: runtime class, node affinity, tolerations, size, pinned digests. Pure:
//! the raw object in, the wanted object and its JSONPatch out.

pub mod affinity;
pub mod draft;
pub mod edit;
pub mod floor;
pub mod pin;
pub mod placement;
pub mod quantity;
pub mod sizing;
mod sum;

pub use draft::Error;
pub use edit::{CHANGED_ANNOTATION, Context, Plan, plan};
