//! To be filled.

use serde::{Deserialize, Serialize};

use crate::review::GroupVersionKind;

/// The kinds that carry a pod spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// `v1` Pod.
    Pod,
    /// `v1` PodTemplate.
    PodTemplate,
    /// `v1` ReplicationController.
    ReplicationController,
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` ReplicaSet.
    ReplicaSet,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `batch/v1` Job.
    Job,
    /// `batch/v1` CronJob.
    CronJob,
}

impl Kind {
    /// The kind of an object, by group and kind; the version does not matter, the pod template stands at the same place in all.
    pub fn of(_gvk: &GroupVersionKind) -> Option<Self> {
        None
    }

    /// JSON pointer of the object that has the pod's `metadata` and `spec`; empty for a Pod.
    pub const fn template_pointer(self) -> &'static str {
        ""
    }

    /// Whether the object only describes pods that a controller will make.
    pub const fn is_template(self) -> bool {
        !matches!(self, Self::Pod)
    }

    /// The kind as Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        "Pod"
    }
}
