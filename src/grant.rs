//! Who may do what: `WasiGrant` objects, the index that finds those for a container, and coverage. With them
//! `WasiException`, which exempts pods from a rule for a time: it has the same subjects, files and checks.

pub mod check;
pub mod cover;
pub mod draft;
pub mod error;
pub mod exception;
pub mod held;
pub mod index;
pub mod load;
pub mod network;
mod shape;
mod subject;
pub mod suggest;
pub mod types;

pub use check::rule_name_problem;
pub use error::{Error, Problem, Problems};
pub use exception::Exceptions;
pub use index::Grants;
pub use load::Loaded;
pub use subject::{Subject, matches_image};
pub use types::{GrantSpec, GrantedCapability, GrantedPath, WasiException, WasiGrant};
