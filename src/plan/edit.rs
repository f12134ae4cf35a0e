//! To be filled.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::inspection::Inspection;
use crate::runtime::Runtimes;
use crate::workload::Workload;

/// What a plan depends on besides the object.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The runtime profiles.
    pub runtimes: &'a Runtimes,
    /// The cluster.
    pub cluster: &'a Cluster,
}

/// Why a plan cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// To be filled.
    #[error("could not plan")]
    Placeholder,
}

/// The wanted object and how to get there.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The object after the patch.
    pub object: Value,
    /// From the raw object to the wanted one; empty when nothing changes.
    pub patch: json_patch::Patch,
    /// For the person who applied it: what was done to values that a person wrote, and what could not be done.
    pub warnings: Vec<String>,
    /// One line per change, for records and `explain`.
    pub changes: Vec<String>,
}

/// Plans the changes to one object. A workload without Wasm yields an empty patch.
pub fn plan(
    raw: &Value,
    _workload: &Workload,
    _inspection: &Inspection,
    _context: &Context<'_>,
) -> Result<Plan, Error> {
    Ok(Plan {
        object: raw.clone(),
        patch: json_patch::Patch::default(),
        warnings: Vec::new(),
        changes: Vec::new(),
    })
}
