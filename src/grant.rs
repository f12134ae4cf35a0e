//! Who may do what: `WasiGrant` objects, the index that finds the ones for a container, and coverage.

pub mod cover;
pub mod index;
pub mod load;
pub mod types;

pub use index::{Grants, Subject};
pub use load::Error;
pub use types::{GrantSpec, GrantedCapability, WasiGrant};
