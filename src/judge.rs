//! From what was found to a verdict: the document that Rego reads, and what its violations mean at the level that
//! the platform set. Rust gathers, Rego decides; nothing here admits or refuses by itself.

pub mod input;
pub mod level;
pub mod verdict;

pub use input::{Case, Options, PolicyInput, RequestFacts, prepare, suspicion};
pub use level::{Enforcement, Levels};
pub use verdict::{Exemption, JudgedViolation, Sparing, Verdict, decide};
