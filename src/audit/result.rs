//! What a record says of how its review ended.

use serde::Serialize;
use serde_json::value::RawValue;

use super::Outcome;
use super::secrets::Hider;
use crate::judge::Exemption;
use crate::policy::{EnforcementAction, Violation};

/// One image of the workload, for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSummary {
    /// Name of the container or volume.
    pub container: String,
    /// The image as written.
    pub image: String,
    /// Digest that was judged; absent when the image was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the container starts: `wasm`, `linux`, `native`, `unknown`, `unread`.
    pub class: &'static str,
    /// Kind of the program, such as `spin-app`; absent when the image was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
}

/// A violation, and the exception that covers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedViolation {
    /// The violation.
    #[serde(flatten)]
    pub violation: Violation,
    /// The exception that exempted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exempted: Option<Exemption>,
    /// The action that it would have if its bundle did not run in the shadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<EnforcementAction>,
}

/// `result` of the event: what was decided, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedResult {
    /// Whether the API server was told to allow the request.
    pub allowed: bool,
    /// How the review ended.
    pub action: Outcome,
    /// The violations; `action` of each is the action that was taken.
    pub violations: Vec<RecordedViolation>,
    /// The changes of the patch, in words.
    pub changes: Vec<String>,
    /// Warnings of the answer.
    pub warnings: Vec<String>,
    /// Operations in the JSONPatch.
    pub patch_operations: usize,
    /// The images that were looked up.
    pub images: Vec<ImageSummary>,
    /// Why this outcome, in one phrase.
    pub reason: String,
}

/// `error` of the event: the gate failed. OPA writes an object with these two members there
/// (`opa:v1/topdown/errors.go`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedError {
    /// What was attempted, kebab-case.
    pub code: String,
    /// What went wrong, in words.
    pub message: String,
}

impl RecordedResult {
    /// What the rules found.
    pub(super) fn found(&self) -> impl Iterator<Item = &Violation> {
        self.violations.iter().map(|recorded| &recorded.violation)
    }

    /// Takes values out of what rules and the gate say.
    pub(super) fn hide(&mut self, hider: &Hider) {
        self.violations.iter_mut().for_each(|recorded| hider.hide_in_violation(&mut recorded.violation));
        let words = self.changes.iter_mut().chain(&mut self.warnings);
        words.chain([&mut self.reason]).for_each(|text| hider.hide_in(text));
    }

    /// A result with only a `reason`.
    pub fn plain(action: Outcome, allowed: bool, reason: impl Into<String>) -> Self {
        Self {
            allowed,
            action,
            violations: Vec::new(),
            changes: Vec::new(),
            warnings: Vec::new(),
            patch_operations: 0,
            images: Vec::new(),
            reason: reason.into(),
        }
    }
}

/// The result, for a line.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum ResultText<'a> {
    /// It is written now.
    New(&'a RecordedResult),
    /// It was written before, in the record of another review with the same decision.
    Written(&'a RawValue),
}
