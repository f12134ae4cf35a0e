//! What a test or a case came to.

use serde::Serialize;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It found what it expects.
    Passed,
    /// It did not.
    Failed,
    /// It was left out.
    Skipped,
}

/// One test or case.
#[derive(Debug, Clone, Serialize)]
pub struct TestResult {
    /// The package, or the file of cases.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What its rules printed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// How long it took.
    pub seconds: f64,
}
