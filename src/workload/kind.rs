//! The kinds that carry a pod spec, and where in them it stands.

use serde::{Deserialize, Serialize};

use crate::review::GroupVersionKind;

/// The kinds that carry a pod spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// `v1` Pod.
    Pod,
    /// `v1` `PodTemplate`.
    PodTemplate,
    /// `v1` `ReplicationController`.
    ReplicationController,
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` `ReplicaSet`.
    ReplicaSet,
    /// `apps/v1` `StatefulSet`.
    StatefulSet,
    /// `apps/v1` `DaemonSet`.
    DaemonSet,
    /// `batch/v1` Job.
    Job,
    /// `batch/v1` `CronJob`.
    CronJob,
    /// `core.spinkube.dev/v1alpha1` `SpinApp`, of which the Spin operator makes a Deployment.
    SpinApp,
}

impl Kind {
    /// The kind of an object, by group and kind; the version does not matter, the pod template stands at the same
    /// place in all. `extensions` is the group from which three kinds moved to `apps`; old manifests still name it.
    pub fn of(gvk: &GroupVersionKind) -> Option<Self> {
        match (gvk.group.as_str(), gvk.kind.as_str()) {
            ("", "Pod") => Some(Self::Pod),
            ("", "PodTemplate") => Some(Self::PodTemplate),
            ("", "ReplicationController") => Some(Self::ReplicationController),
            ("apps" | "extensions", "Deployment") => Some(Self::Deployment),
            ("apps" | "extensions", "ReplicaSet") => Some(Self::ReplicaSet),
            ("apps" | "extensions", "DaemonSet") => Some(Self::DaemonSet),
            ("apps", "StatefulSet") => Some(Self::StatefulSet),
            ("batch", "Job") => Some(Self::Job),
            ("batch", "CronJob") => Some(Self::CronJob),
            ("core.spinkube.dev", "SpinApp") => Some(Self::SpinApp),
            _ => None,
        }
    }

    /// JSON pointer of the object that has the pod's `metadata` and `spec`; empty for a Pod. A SpinApp has it once
    /// [`super::as_judged`] has put it there.
    pub const fn template_pointer(self) -> &'static str {
        match self {
            Self::Pod => "",
            Self::PodTemplate | Self::SpinApp => "/template",
            Self::CronJob => "/spec/jobTemplate/spec/template",
            Self::ReplicationController
            | Self::Deployment
            | Self::ReplicaSet
            | Self::StatefulSet
            | Self::DaemonSet
            | Self::Job => "/spec/template",
        }
    }

    /// Whether the object only describes pods that a controller will make.
    pub const fn is_template(self) -> bool {
        !matches!(self, Self::Pod)
    }

    /// The kind as Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::PodTemplate => "PodTemplate",
            Self::ReplicationController => "ReplicationController",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::SpinApp => "SpinApp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(group: &str, kind: &str) -> Option<Kind> {
        let version = "v1".to_owned();
        Kind::of(&GroupVersionKind { group: group.to_owned(), version, kind: kind.to_owned() })
    }

    #[test]
    fn every_kind_is_found_by_group_and_name_and_no_other() {
        let table = [
            ("", "Pod"),
            ("", "PodTemplate"),
            ("", "ReplicationController"),
            ("apps", "Deployment"),
            ("apps", "ReplicaSet"),
            ("apps", "StatefulSet"),
            ("apps", "DaemonSet"),
            ("batch", "Job"),
            ("batch", "CronJob"),
            ("core.spinkube.dev", "SpinApp"),
        ];
        for (group, name) in table {
            let kind = of(group, name).unwrap();
            assert_eq!(kind.as_str(), name);
            assert_eq!(kind.is_template(), name != "Pod");
            assert_eq!(of("example.com", name), None, "a foreign group may use the same name");
        }
        assert_eq!(of("extensions", "Deployment"), Some(Kind::Deployment));
        assert_eq!(of("extensions", "StatefulSet"), None);
        assert_eq!(of("", "Service"), None);
        assert_eq!(of("", "pod"), None);
    }
}
