//! What a replay found.

use serde::Serialize;

use super::BundleWarning;
use super::compare::Compared;

/// What became of the decisions of a log.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Lines that are decision records.
    pub(super) decisions: usize,
    /// Those that were judged again.
    pub(super) replayed: usize,
    /// Those that would end otherwise, or with other violations.
    pub(super) changed: usize,
    /// Those whose verdict depends on a masked value.
    pub(super) undecidable: usize,
    /// Those with masked values that a bundle may read, and the same verdict with two of them.
    pub(super) may_depend_on_masked: usize,
    /// Those that no policy had judged.
    pub(super) not_judged: usize,
    /// Those in which the gate itself had failed.
    pub(super) failed: usize,
    /// Those whose records lack what the rules read.
    pub(super) without_input: usize,
    /// Lines that are no decision records.
    pub(super) unreadable: usize,
    /// Those that change or that masking leaves open, in the order of the log.
    pub(super) listed: Vec<Compared>,
    /// How many of them are not listed.
    pub(super) not_listed: usize,
    /// What is not as one may think of the bundles.
    pub(super) bundle_warnings: Vec<BundleWarning>,
}
