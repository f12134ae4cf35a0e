//! Who may do what: `WasiGrant` objects, the index that finds the ones for a container, and coverage.

pub mod check;
pub mod cover;
pub mod index;
pub mod load;
pub mod suggest;
pub mod types;

pub use check::{Problem, Problems};
pub use index::{Grants, Subject};
pub use load::Error;
pub use types::{GrantSpec, GrantedCapability, WasiGrant};
