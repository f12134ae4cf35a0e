//! To be filled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Error, WasiGrant};

/// Whom a grant must match.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Labels of the namespace; empty when they are not known.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// ServiceAccount of the pod, `default` when it names none.
    pub service_account: &'a str,
    /// Labels of the pod.
    pub labels: &'a BTreeMap<String, String>,
    /// Image of the container, as written.
    pub image: &'a str,
}

/// All grants, indexed so that a review's cost does not grow with their number.
#[derive(Debug, Clone, Default)]
pub struct Grants {}

impl Grants {
    /// Checks and indexes grants.
    pub fn new(_grants: Vec<WasiGrant>) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// The grants that match a container at `now`; expired ones are left out.
    pub fn matching(&self, _subject: &Subject<'_>, _now: jiff::Timestamp) -> Vec<Arc<WasiGrant>> {
        Vec::new()
    }
}
