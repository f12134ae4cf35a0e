//! From what was found to a verdict: the document that Rego reads, and what its violations mean at the level that
//! the platform set. Rust gathers, Rego decides; nothing here admits or refuses by itself.

pub mod enforcement;
pub mod input;
pub mod verdict;

pub use enforcement::{Enforcement, EnforcementSettings};
pub use input::{Case, ClassFor, PolicyInput, PolicyOptions, RequestFacts, prepare, suspicion};
pub use verdict::{Exemption, ExemptionContext, JudgedViolation, Verdict, decide};
