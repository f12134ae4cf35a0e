//! Who may do what: `WasiGrant` objects, the index that finds the ones for a container, and coverage. Beside them
//! `WasiException`, which says whom a rule exempts until when: the same subjects, the same files, the same checks.

pub mod check;
pub mod cover;
pub mod draft;
pub mod exception;
pub mod index;
pub mod load;
pub mod suggest;
pub mod types;

pub use check::{Problem, Problems};
pub use exception::{Exceptions, WasiException};
pub use index::{Grants, Subject};
pub use load::{Error, Loaded};
pub use types::{GrantSpec, GrantedCapability, WasiGrant};
