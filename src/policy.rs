//! Rego bundles compiled to Wasm: loaded, checked, pooled and run within time and memory limits. Knows nothing of
//! pods: JSON in, violations out.

mod builtins;
pub mod bundle;
pub mod engine;
mod error;
mod input;
mod instance;
mod lanes;
mod locations;
mod memory;
mod outcome;
pub mod set;

pub use builtins::HOST_FUNCTIONS;
pub use bundle::Bundle;
pub use engine::{Engine, Limits};
pub use error::Error;
pub use set::{BundleFailure, Evaluation, PolicySet};

use serde::{Deserialize, Serialize};

/// Entry point that every bundle must have.
pub const ENTRYPOINT: &str = "wasmgate/violations";

/// What a rule may ask for, apart from the enforcement action that the namespace sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnforcementAction {
    /// Only record it.
    Audit,
    /// Admit, and tell the user.
    Warn,
    /// Refuse.
    Deny,
}

impl EnforcementAction {
    /// The action as it is written in bundles, labels, configuration, records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// What has to change so that a violation goes away, as its rule says it. An exception is none of them: it lifts the
/// rule and mends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MendedBy {
    /// A grant for its capability, as the program can use it.
    Grant,
    /// A grant for its capability, as the runtime hands it over out of the program's reach.
    AmbientGrant,
    /// The image, or access to it.
    Image,
    /// The runtime class.
    Runtime,
    /// Another field of the pod spec.
    Pod,
    /// The gate's configuration.
    Platform,
}

/// One finding of a rule; the shape that the entry point's set must have (`policies/schema/violations.v1alpha1.json`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Violation {
    /// Name of the rule, kebab-case.
    pub rule: String,
    /// For the person whose `kubectl apply` failed: what, where, and what would mend it.
    pub message: String,
    /// Container that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Capability that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// At most this; the namespace's enforcement action can lower it and never raise it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<EnforcementAction>,
    /// What would mend it.
    #[serde(default, rename = "mendedBy", skip_serializing_if = "Option::is_none")]
    pub mended_by: Option<MendedBy>,
}
