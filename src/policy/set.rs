//! To be filled.

use std::collections::BTreeMap;

use super::Violation;

/// A bundle that could not be evaluated: counts as a deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Name of the bundle.
    pub bundle: String,
    /// What went wrong, for people to read.
    pub message: String,
}

/// The united outcome of all bundles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Violations of all bundles, sorted, without duplicates.
    pub violations: Vec<Violation>,
    /// Bundles that could not be evaluated.
    pub failures: Vec<Failure>,
}

/// All loaded bundles.
#[derive(Debug)]
pub struct PolicySet {}

impl PolicySet {
    /// Name → revision of each bundle.
    pub fn revisions(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Runs every bundle on `input`. Never fails: what cannot be evaluated is a [`Failure`].
    pub async fn evaluate<I: serde::Serialize + Sync>(&self, _input: &I) -> Evaluation {
        Evaluation::default()
    }
}
