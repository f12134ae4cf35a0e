//! The state of the gate at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

use crate::audit::Masks;
use crate::cluster::Cluster;
use crate::grant::{Exceptions, Grants};
use crate::image::prefix::Unpinned;
use crate::inspection::Inspection;
use crate::judge::{
    self, ClassFor, Enforcement, EnforcementLabels, EnforcementSettings, HardeningCase, PolicyOptions,
};
use crate::plan::{self, Surplus, placement};
use crate::policy::PolicySet;
use crate::runtime::{Profile, Runtimes};
use crate::workload::managed::Managed;
use crate::workload::{Kinds, Workload};

/// Why a review failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The body of the request is no review.
    #[error(transparent)]
    ReadReview(#[from] crate::review::Error),
    /// The object does not match its kind.
    #[error(transparent)]
    ReadWorkload(#[from] crate::workload::Error),
    /// No patch could be made.
    #[error(transparent)]
    Plan(#[from] crate::plan::Error),
    /// The object of the review is not JSON.
    #[error("could not read the object as JSON: {0}")]
    ParseObject(#[source] serde_json::Error),
    /// An object that the gate changed cannot be written as JSON; a defect of the gate.
    #[error("could not write the object as JSON: {0}")]
    WriteObject(#[source] serde_json::Error),
    /// Others had the places for the work of the review, or for its rules, until its time was over. It says nothing of the review.
    #[error("wasmgate has more reviews than it can judge in time; add replicas")]
    NoPlace,
    /// What the objects of the review are parsed to takes more memory than there is for one review.
    #[error(
        "it has so many values that to judge it would take {needed} MiB of memory, and no review gets more than {most}; split it into several objects"
    )]
    ObjectTooLarge {
        /// What is counted for it, in MiB.
        needed: usize,
        /// The most that there is.
        most: usize,
    },
    /// The review has more bytes than are read, so that nothing is known of its object.
    #[error(
        "the review of {bytes} bytes is larger than {limit} bytes, so it was not examined; make the object smaller"
    )]
    ReviewTooLarge {
        /// How many it has.
        bytes: usize,
        /// The most that are read.
        limit: usize,
    },
    /// What the images of the review bring to the input of its rules takes more memory than there is for one review.
    #[error(
        "what its images hand over and ask for has so many names, or so long ones, that to judge it would take more than {most} MiB of memory; split the pod into \
         several, or build the images with fewer"
    )]
    ImagesTooLarge {
        /// The most that there is, in MiB.
        most: usize,
    },
    /// The review was given up; the text says why.
    #[error("{0}")]
    FinishReview(String),
}

/// Everything that a review depends on besides its own bytes and the images. Cheap to clone, since large parts are
/// shared.
#[derive(Debug, Clone)]
pub struct State {
    /// Set with `cluster` and `derived`, which follows from both: [`State::new`], [`State::with_cluster`].
    runtimes: Runtimes,
    /// Replaced by [`State::with_cluster`].
    cluster: Arc<Cluster>,
    /// The grants.
    pub grants: Arc<Grants>,
    /// The exceptions from rules.
    pub exceptions: Arc<Exceptions>,
    /// The policies.
    pub policies: Arc<PolicySet>,
    /// Options of the configuration for the rules.
    pub options: PolicyOptions,
    /// Enforcement actions of rules and namespaces.
    pub enforcement: EnforcementSettings,
    /// The kinds that contain or create pods.
    pub kinds: Kinds,
    /// The images that keep their tags.
    pub unpinned: Unpinned,
    /// Whether requests that were learned may be more than those of the profile.
    pub raises_learned: bool,
    /// Namespaces that the gate never touches, its own among them.
    pub exempt_namespaces: BTreeSet<String>,
    /// Whether records hold what the rules read.
    pub records_input: bool,
    /// Whether records are written at all.
    pub writes_records: bool,
    /// What records and Events leave out besides what they always do.
    pub masks: Arc<Masks>,
    /// Computed only when `runtimes` or `cluster` is set.
    derived: Arc<Derived>,
}

/// What follows from the runtimes and the cluster, so that no review computes it.
#[derive(Debug)]
struct Derived {
    /// Image kind → the class that pods of that kind are placed on.
    class_for: ClassFor,
    /// Namespace → what its labels say about enforcement, where they say anything.
    labels: BTreeMap<String, EnforcementLabels>,
}

impl State {
    /// A state with these runtimes, cluster and policies; without grants and exceptions, and with defaults for the rest.
    pub fn new(runtimes: Runtimes, cluster: Arc<Cluster>, policies: Arc<PolicySet>) -> Self {
        Self {
            derived: Derived::of(&runtimes, &cluster),
            runtimes,
            cluster,
            policies,
            grants: Arc::default(),
            exceptions: Arc::default(),
            options: PolicyOptions::default(),
            enforcement: EnforcementSettings::default(),
            kinds: Kinds::default(),
            unpinned: Unpinned::default(),
            raises_learned: false,
            exempt_namespaces: BTreeSet::new(),
            records_input: false,
            writes_records: true,
            masks: Arc::default(),
        }
    }

    /// The same state with another cluster.
    #[must_use]
    pub fn with_cluster(self, cluster: Arc<Cluster>) -> Self {
        // A later snapshot shares what has not changed.
        if Arc::ptr_eq(&self.cluster, &cluster) {
            return self;
        }
        Self { derived: Derived::of(&self.runtimes, &cluster), cluster, ..self }
    }

    /// The same state with other runtimes.
    #[must_use]
    pub fn with_runtimes(self, runtimes: Runtimes) -> Self {
        Self { derived: Derived::of(&runtimes, &self.cluster), runtimes, ..self }
    }

    /// The runtimes.
    pub fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// What plans depend on besides the object.
    pub fn plan_context(&self) -> plan::Context<'_> {
        plan::Context {
            runtimes: &self.runtimes,
            cluster: &self.cluster,
            unpinned: &self.unpinned,
            raises_learned: self.raises_learned,
        }
    }

    /// The profile of the class that the pod names, or else of the one on which its programs are placed.
    fn profile_for(&self, workload: &Workload, inspection: &Inspection) -> Option<&Profile> {
        match workload.spec.runtime_class_name.as_deref() {
            Some(class) => self.profile_of(class),
            None => placement::expected(inspection, &self.plan_context()),
        }
    }

    /// What no grant covers and may be taken from the pod. The managed fields are those that are not in the object.
    pub fn surplus(
        &self,
        (object, managed): (&Value, Managed<'_>),
        workload: &Workload,
        inspection: &Inspection,
        now: Timestamp,
    ) -> Surplus {
        let Some(profile) = self.profile_for(workload, inspection) else { return Surplus::default() };
        judge::surplus(&HardeningCase {
            object,
            managed,
            workload,
            inspection,
            profile,
            cluster: &self.cluster,
            grants: &self.grants,
            exceptions: &self.exceptions,
            rules: self.policies.rules_in_force(),
            settings: &self.enforcement,
            enforcement: &self.enforcement_of(&workload.namespace),
            unpinned: &self.unpinned,
            now,
        })
    }

    /// Image kind → the class that pods of that kind are placed on.
    pub fn class_for(&self) -> &ClassFor {
        &self.derived.class_for
    }

    /// The profile behind a RuntimeClass; `None` for a class that no profile describes as a Wasm runtime.
    pub fn profile_of(&self, class: &str) -> Option<&Profile> {
        self.cluster.profile_of(&self.runtimes, class)
    }

    /// The enforcement actions of a namespace.
    pub fn enforcement_of(&self, namespace: &str) -> Enforcement {
        let none = EnforcementLabels::default();
        self.enforcement.of_namespace(namespace, self.derived.labels.get(namespace).unwrap_or(&none))
    }
}

impl Derived {
    fn of(runtimes: &Runtimes, cluster: &Cluster) -> Arc<Self> {
        let labels = cluster.namespaces.iter().map(|(name, labels)| (name, EnforcementLabels::of(labels)));
        let said = labels.filter(|(_, labels)| *labels != EnforcementLabels::default());
        Arc::new(Self {
            class_for: class_for(runtimes, cluster),
            labels: said.map(|(name, labels)| (name.clone(), labels)).collect(),
        })
    }
}

fn class_for(runtimes: &Runtimes, cluster: &Cluster) -> ClassFor {
    let class = |kind| Some(cluster.class_for(runtimes, runtimes.for_kind(kind)?).to_owned());
    runtimes.placement.keys().filter_map(|kind| Some((kind.as_str(), class(*kind)?))).collect()
}
