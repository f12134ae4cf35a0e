//! What is read of a decision record (`docs/decision-log.md`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::judge::Exemption;
use crate::policy::{EnforcementAction, ExactDocument, ExactNumbers};

/// The parts of a decision record that are judged again (`docs/decision-log.md`).
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedDecision {
    /// Its id.
    pub decision_id: String,
    /// When it was made.
    pub timestamp: Timestamp,
    /// `wasmgate/validate` for a verdict.
    pub path: String,
    /// Who was asked about.
    #[serde(default)]
    pub input: Option<RecordedReview>,
    /// What was decided.
    pub result: RecordedVerdict,
    /// What was taken out.
    #[serde(default)]
    pub erased: Vec<String>,
    /// What was replaced.
    #[serde(default)]
    pub masked: Vec<String>,
    /// Whether the gate failed.
    #[serde(default)]
    pub error: Option<Value>,
    /// The bundles that judged.
    #[serde(default)]
    pub bundles: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) custom: Custom,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Custom {
    pub policy_input: Option<RecordedInput>,
    pub bundle_digests: BTreeMap<String, String>,
}

/// What the rules read, with numbers as they were written.
#[derive(Debug, Clone)]
pub(super) struct RecordedInput {
    pub document: Map<String, Value>,
    pub numbers: ExactNumbers,
}

impl<'de> Deserialize<'de> for RecordedInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match ExactDocument::deserialize(deserializer)? {
            ExactDocument { value: Value::Object(document), numbers } => Ok(Self { document, numbers }),
            _ => Err(D::Error::custom("expected an object in `policy_input`")),
        }
    }
}

/// The recorded AdmissionReview, as far as it names the object.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedReview {
    /// Its request.
    pub request: RecordedRequest,
}

/// The request of a recorded review.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedRequest {
    /// Kind of the object.
    pub kind: RecordedKind,
    /// Its name; empty where the API server had not chosen one.
    #[serde(default)]
    pub name: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: String,
}

/// A recorded kind.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedKind {
    /// Kind of the object.
    pub kind: String,
}

/// The recorded result.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedVerdict {
    /// What the rules found.
    #[serde(default)]
    pub violations: Vec<RecordedFinding>,
}

/// A recorded violation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct RecordedFinding {
    /// Name of the rule.
    pub rule: String,
    /// Container that it is about.
    #[serde(default)]
    pub container: Option<String>,
    /// Capability that it is about.
    #[serde(default)]
    pub capability: Option<String>,
    /// What was done about it.
    pub action: EnforcementAction,
    /// What it said.
    pub message: String,
    /// The exception that exempted it.
    #[serde(default)]
    pub exempted: Option<Exemption>,
    /// What it would have done, if its bundle ran in the shadow.
    #[serde(default)]
    pub shadow: Option<EnforcementAction>,
    /// The bundle that found it; `None` in old records.
    #[serde(default)]
    pub bundle: Option<String>,
}

impl RecordedFinding {
    /// Whether it says and does the same. Another bundle may have taken over the rule.
    pub fn is_alike(&self, other: &Self) -> bool {
        let of_none = |found: &Self| Self { bundle: None, ..found.clone() };
        of_none(self) == of_none(other)
    }
}

impl RecordedDecision {
    /// What the bundles that decided had found, in order.
    pub fn found(&self) -> Vec<RecordedFinding> {
        let decided = self.result.violations.iter().filter(|found| found.shadow.is_none());
        let mut found: Vec<_> = decided.cloned().collect();
        found.sort();
        found
    }
}
