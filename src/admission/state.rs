//! What the gate knows at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::cluster::Cluster;
use crate::grant::{Exceptions, Grants};
use crate::judge::{Enforcement, Levels, Options};
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
    /// The planned object is not JSON any more; a defect of the gate.
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
    pub options: Options,
    /// How hard violations bite.
    pub levels: Levels,
    /// Namespaces that the gate never touches, its own among them.
    pub exempt_namespaces: BTreeSet<String>,
}

impl State {
    /// The profile behind a RuntimeClass; `None` for a class that nobody described as a Wasm runtime.
    pub fn profile_of(&self, class: &str) -> Option<&Profile> {
        self.cluster.profile_of(&self.runtimes, class)
    }

    /// How hard violations bite in a namespace.
    pub fn level_of(&self, namespace: &str) -> Enforcement {
        let labels: Option<&BTreeMap<_, _>> = self.cluster.namespaces.get(namespace);
        self.levels.of_namespace(namespace, labels)
    }
}
