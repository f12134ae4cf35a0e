//! To be filled.

use std::collections::BTreeMap;

/// One cause of a refusal, as `status.details.causes` carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable reason: the rule.
    pub reason: String,
    /// For people to read.
    pub message: String,
    /// Field path such as `spec.containers[name=api]`; empty when the cause is about the whole object.
    pub field: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status code in the Status object: 403 for a verdict, 400 for a bad review, 500 for a failure of the gate.
    pub code: u16,
    /// `Forbidden`, `BadRequest`, `InternalError`.
    pub reason: &'static str,
    /// For the person whose request failed.
    pub message: String,
    /// One per violation.
    pub causes: Vec<Cause>,
}

/// What goes back to the API server.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The review's uid; empty when it could not be read.
    pub uid: String,
    /// `None` admits.
    pub refusal: Option<Refusal>,
    /// JSONPatch; `None` or empty changes nothing.
    pub patch: Option<json_patch::Patch>,
    /// Lines that kubectl prints.
    pub warnings: Vec<String>,
    /// Key → value, the same in both rounds.
    pub audit_annotations: BTreeMap<String, String>,
}

impl Response {
    /// The response bytes: an `admission.k8s.io/v1` AdmissionReview.
    pub fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }
}
