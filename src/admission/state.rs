//! What the gate knows at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::cluster::Cluster;
use crate::grant::{Exceptions, Grants};
use crate::judge::{Enforcement, EnforcementSettings, PolicyOptions};
use crate::policy::PolicySet;
use crate::runtime::{Profile, Runtimes};

/// Why a review could not be carried through.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The object is not what its kind says.
    #[error(transparent)]
    ReadWorkload(#[from] crate::workload::Error),
    /// No patch could be made.
    #[error(transparent)]
    Plan(#[from] crate::plan::Error),
    /// The object is not JSON.
    #[error("could not parse the object: {0}")]
    ParseObject(#[source] serde_json::Error),
    /// The object that was sent could not be written as JSON.
    #[error("could not write the object: {0}")]
    WriteObject(#[source] serde_json::Error),
    /// The input of the policies could not be written as JSON.
    #[error("could not write the input of the policies: {0}")]
    WriteInput(#[source] serde_json::Error),
    /// The planned object could not be written as JSON; a defect of the gate.
    #[error("could not write the planned object: {0}")]
    WritePlanned(#[source] serde_json::Error),
    /// The review was given up; the text says why.
    #[error("{0}")]
    Finish(String),
}

/// Everything that a review depends on besides its own bytes and the images. Cheap to clone: what is large is shared, so
/// that replacing one part costs nothing for the others.
#[derive(Debug, Clone)]
pub struct State {
    /// The runtimes.
    pub runtimes: Runtimes,
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The grants.
    pub grants: Arc<Grants>,
    /// The exceptions from rules.
    pub exceptions: Arc<Exceptions>,
    /// The policies.
    pub policies: Arc<PolicySet>,
    /// What the configuration says to the rules.
    pub options: PolicyOptions,
    /// How hard violations bite.
    pub enforcement: EnforcementSettings,
    /// Namespaces that the gate never touches, its own among them.
    pub exempt_namespaces: BTreeSet<String>,
}

impl State {
    /// The profile behind a RuntimeClass; `None` for a class that nobody described as a Wasm runtime.
    pub fn profile_of(&self, class: &str) -> Option<&Profile> {
        self.cluster.profile_of(&self.runtimes, class)
    }

    /// How hard violations bite in a namespace.
    pub fn enforcement_of(&self, namespace: &str) -> Enforcement {
        let labels: Option<&BTreeMap<_, _>> = self.cluster.namespaces.get(namespace);
        self.enforcement.of_namespace(namespace, labels)
    }
}
