//! From facts to a verdict: builds the input document of the policies, and applies enforcement actions and exceptions to
//! their violations. Rust gathers facts, Rego decides; nothing here admits or refuses by itself.

pub mod enforcement;
pub mod hardening;
pub mod input;
pub mod verdict;

pub use enforcement::{
    ENFORCE_LABEL, ENFORCE_VERSION_LABEL, Enforcement, EnforcementLabels, EnforcementSettings,
};
pub use hardening::{HardeningCase, REFUSE_FILES, surplus};
pub use input::{
    ClassFor, InputParts, PolicyInput, PolicyOptions, RequestFacts, prepare, restarts_what_it_resizes,
    suspicion,
};
pub use verdict::{ContainerImages, Exemption, ExemptionContext, JudgedViolation, Verdict, decide};
