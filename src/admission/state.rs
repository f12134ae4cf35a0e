//! What the gate knows at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::cluster::Cluster;
use crate::grant::{Exceptions, Grants};
use crate::image::prefix::Unpinned;
use crate::judge::{ClassFor, Enforcement, EnforcementSettings, PolicyOptions};
use crate::plan;
use crate::policy::PolicySet;
use crate::runtime::{Profile, Runtimes};
use crate::workload::Kinds;

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
    /// The object that was sent is not JSON.
    #[error("could not read the object as JSON: {0}")]
    ParseObject(#[source] serde_json::Error),
    /// An object that the gate made is not JSON any more; a defect of the gate.
    #[error("could not write the object as JSON: {0}")]
    WriteObject(#[source] serde_json::Error),
    /// The review was given up; the text says why.
    #[error("{0}")]
    FinishReview(String),
}

/// Everything that a review depends on besides its own bytes and the images. Cheap to clone: what is large is shared, so
/// that replacing one part costs nothing for the others.
#[derive(Debug, Clone)]
pub struct State {
    /// The runtimes.
    pub runtimes: Runtimes,
    /// The cluster; replaced by [`State::with_cluster`].
    pub cluster: Arc<Cluster>,
    /// The grants.
    pub grants: Arc<Grants>,
    /// The exceptions from rules.
    pub exceptions: Arc<Exceptions>,
    /// The policies.
    pub policies: Arc<PolicySet>,
    /// What the configuration says to the rules.
    pub options: PolicyOptions,
    /// Which action follows a violation.
    pub enforcement: EnforcementSettings,
    /// The kinds that make pods.
    pub kinds: Kinds,
    /// The images that keep their tags.
    pub unpinned: Unpinned,
    /// Namespaces that the gate never touches, its own among them.
    pub exempt_namespaces: BTreeSet<String>,
    /// Follows from `runtimes` and `cluster`, so it is made where these two are put together and nowhere else.
    class_for: Arc<ClassFor>,
}

impl State {
    /// Runtimes, cluster and policies; no grants, no exceptions, and the defaults of everything else.
    pub fn new(runtimes: Runtimes, cluster: Arc<Cluster>, policies: Arc<PolicySet>) -> Self {
        Self {
            class_for: Arc::new(class_for(&runtimes, &cluster)),
            runtimes,
            cluster,
            policies,
            grants: Arc::default(),
            exceptions: Arc::default(),
            options: PolicyOptions::default(),
            enforcement: EnforcementSettings::default(),
            kinds: Kinds::default(),
            unpinned: Unpinned::default(),
            exempt_namespaces: BTreeSet::new(),
        }
    }

    /// The same with another cluster.
    #[must_use]
    pub fn with_cluster(self, cluster: Arc<Cluster>) -> Self {
        Self { class_for: Arc::new(class_for(&self.runtimes, &cluster)), cluster, ..self }
    }

    /// What plans depend on besides the object.
    pub fn plan_context(&self) -> plan::Context<'_> {
        plan::Context { runtimes: &self.runtimes, cluster: &self.cluster, unpinned: &self.unpinned }
    }

    /// Image kind → the class that pods of that kind are placed on.
    pub fn class_for(&self) -> &ClassFor {
        &self.class_for
    }

    /// The profile behind a RuntimeClass; `None` for a class that no profile describes as a Wasm runtime.
    pub fn profile_of(&self, class: &str) -> Option<&Profile> {
        self.cluster.profile_of(&self.runtimes, class)
    }

    /// Which action follows a violation in a namespace.
    pub fn enforcement_of(&self, namespace: &str) -> Enforcement {
        let labels: Option<&BTreeMap<_, _>> = self.cluster.namespaces.get(namespace);
        self.enforcement.of_namespace(namespace, labels)
    }
}

fn class_for(runtimes: &Runtimes, cluster: &Cluster) -> ClassFor {
    let class = |kind| Some(cluster.class_for(runtimes, runtimes.for_kind(kind)?).to_owned());
    runtimes.placement.keys().filter_map(|kind| Some((kind.as_str(), class(*kind)?))).collect()
}
