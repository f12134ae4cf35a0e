//! Rego bundles compiled to Wasm: loads and checks them, pools their instances, and runs them within time and memory
//! limits. The module knows nothing about pods: it takes JSON and returns violations.

mod about;
mod annotations;
pub mod bundle;
mod code_bounds;
pub mod compiled;
mod compiling;
mod conflicts;
pub mod contents;
mod demand;
pub mod engine;
mod error;
pub mod evaluation;
pub mod exact;
mod guest;
mod host;
mod host_work;
mod identity;
mod idle;
mod input;
mod instance;
mod lanes;
pub mod limits;
mod locations;
mod log_rules;
mod memory;
mod options;
mod otherwise;
mod outcome;
mod patterns;
mod places;
mod program;
mod reads;
mod references;
mod rewrite;
mod roots;
mod sections;
pub mod set;
mod shortcuts;
pub mod signature;
mod store;
mod summary;
mod trial;
mod turn;
mod unpacked;
mod values;
mod verdicts;

pub use crate::rego::Asked;
pub use about::Annotations;
pub use annotations::annotated_rules;
pub use bundle::{Bundle, unknown_input_key};
pub use compiled::CompiledFolder;
pub use contents::Contents;
pub use engine::Engine;
pub use error::Error;
pub use evaluation::{BundleFailure, Evaluation};
pub use exact::{ExactDocument, ExactNumbers};
pub use host_work::HostWork;
pub use lanes::evaluations_at_a_time;
pub use limits::Limits;
pub use patterns::{pattern_operands, pattern_problem};
pub use set::{Loaded, PolicySet};
pub use signature::{KeyOptions, Trust};
pub use store::{blames_load, names_calls};
pub use turn::{LargeInput, Turn};
pub use verdicts::VerdictCounts;

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Entry point of the rules that judge.
pub const ENTRYPOINT: &str = "wasmgate/violations";

/// The entry point whose set says what a record leaves out, as OPA calls it (`opa:v1/plugins/logs/plugin.go`, `mask_decision`).
pub const LOG_MASK: &str = "system/log/mask";

/// The entry point that is `true` where a decision leaves no record (the same, `drop_decision`).
pub const LOG_DROP: &str = "system/log/drop";

/// The action on a violation, in ascending order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnforcementAction {
    /// Only record it.
    Audit,
    /// Admit, and warn the user.
    Warn,
    /// Refuse.
    Deny,
}

impl EnforcementAction {
    /// All of them, the strictest first.
    pub const ALL: [Self; 3] = [Self::Deny, Self::Warn, Self::Audit];

    /// The action of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    /// Name of the action in bundles, labels, configuration, records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// What has to change so that a violation goes away, according to its rule. Exceptions are not among them: they lift the
/// rule and fix nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MendedBy {
    /// A grant for its capability, as an effective entry.
    Grant,
    /// A grant for its capability, as an ambient entry that the program cannot use.
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

/// One violation; an element of the entry point's set (`policies/schema/violations.v1alpha1.json`).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Violation {
    /// Name of the rule, in kebab-case.
    pub rule: String,
    /// For the person whose `kubectl apply` failed: what, where, and how to fix it.
    pub message: String,
    /// Container that the violation is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Capability that the violation is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// The strictest action; the namespace's enforcement action can lower it and never raise it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<EnforcementAction>,
    /// What has to change.
    #[serde(default, rename = "mendedBy", skip_serializing_if = "Option::is_none")]
    pub mended_by: Option<MendedBy>,
    /// What to do about it: what the violation itself says, else `custom.remedy` of the METADATA of its rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What else the METADATA of its rule says. The gate says it, never a rule.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Arc<Annotations>>,
    /// Name of the bundle that has the rule. The gate says it, never a rule.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Whether that is the bundle that is built in; another one may have its name. The gate says it, never a rule.
    #[serde(skip)]
    pub is_built_in: bool,
}

impl Violation {
    /// Whether two violations say the same, whichever bundles found them.
    pub fn is_like(&self, other: &Self) -> bool {
        self.is_found_like(other) && self.remedy == other.remedy
    }

    /// The same but for what they say of their remedy, which METADATA may say instead of the rule.
    pub fn is_found_like(&self, other: &Self) -> bool {
        let Self { rule, message, container, capability, action, mended_by, .. } = self;
        (rule, message, container) == (&other.rule, &other.message, &other.container)
            && (capability, action, mended_by) == (&other.capability, &other.action, &other.mended_by)
    }

    /// The message, and in a line of its own what to do about it.
    pub fn said(&self) -> Cow<'_, str> {
        match &self.remedy {
            Some(remedy) => Cow::Owned(format!("{}\nremedy: {remedy}", self.message)),
            None => Cow::Borrowed(&self.message),
        }
    }
}
