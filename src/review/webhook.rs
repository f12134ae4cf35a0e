//! The two webhooks.

use serde::Serialize;

/// One of the two webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Webhook {
    /// `POST /mutate`: may patch.
    Mutate,
    /// `POST /validate`: may refuse.
    Validate,
}

impl Webhook {
    /// Value of the `webhook` label in metrics and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
        }
    }

    /// The path that the API server calls.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Mutate => "/mutate",
            Self::Validate => "/validate",
        }
    }

    /// `path` of a decision-log event, where OPA writes the path of the queried document.
    pub const fn decision_path(self) -> &'static str {
        match self {
            Self::Mutate => "wasmgate/mutate",
            Self::Validate => "wasmgate/validate",
        }
    }
}
