//! The kinds that carry a pod spec, and where it is in them.

use serde::{Deserialize, Serialize};

use crate::review::GroupVersionKind;
use crate::text::pointer::unescaped;

/// The kinds that carry a pod spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// `core.spinkube.dev/v1alpha1` `SpinApp`, from which the Spin operator makes a Deployment; before 2024-11 its
    /// group was `core.spinoperator.dev`.
    SpinApp,
    /// A kind that the configuration describes.
    Described(Described),
}

/// A kind of custom resource and the place of its pod template: an entry of `workloads` in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Description {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// JSON pointer to the object that has the pod's `metadata` and `spec`. A step `*` means the first member of an
    /// object or list.
    pub pod_template: String,
}

/// A described kind. `Copy` like the built-in kinds, so it refers to its description, which lives as long as the
/// process: a configuration is read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Described(&'static ParsedDescription);

/// A description with the steps of its pointer.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct ParsedDescription {
    written: Description,
    steps: Vec<Step>,
}

/// A step of the pointer to a pod template.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    /// To the member of an object with this name.
    Name(String),
    /// To all members of an object or list: `*`.
    Each,
}

impl Described {
    /// Where the pod template is.
    pub(super) fn pointer(self) -> &'static str {
        &self.0.written.pod_template
    }

    /// Where the pod template is, in steps.
    pub(super) fn steps(self) -> &'static [Step] {
        &self.0.steps
    }

    /// The name that its controller gives to the only container of a pod, where that may have none.
    pub(super) fn container_name(self) -> Option<&'static str> {
        let (group, name) = NAMES_CONTAINERS;
        (self.0.written.group == group).then_some(name)
    }
}

/// The group whose kinds need no name of a container, and the one that it gives unless a platform chooses another
/// (`knative/serving:pkg/apis/config/defaults.go`, `DefaultUserContainerName`; `…/pkg/apis/serving/v1/revision_defaults.go`,
/// `applyDefaultContainerNames`).
const NAMES_CONTAINERS: (&str, &str) = ("serving.knative.dev", "user-container");

impl ParsedDescription {
    fn of(written: Description) -> Self {
        let step = |(index, step): (usize, &str)| match step {
            // The object itself has no members that are chosen among.
            "*" if index > 0 => Step::Each,
            name => Step::Name(unescaped(name)),
        };
        let steps = written.pod_template.split('/').skip(1).enumerate().map(step).collect();
        Self { written, steps }
    }
}

/// Kinds of other projects that need no entry in the configuration: group, kind, pod template.
const WELL_KNOWN: &[(&str, &str, &str)] = &[
    // knative/serving:pkg/apis/serving/v1
    ("serving.knative.dev", "Service", "/spec/template"),
    ("serving.knative.dev", "Configuration", "/spec/template"),
    // argoproj/argo-rollouts:pkg/apis/rollouts/v1alpha1/types.go; with a `workloadRef` it has no template of its own
    ("argoproj.io", "Rollout", "/spec/template"),
    // kedacore/keda:apis/keda/v1alpha1/scaledjob_types.go
    ("keda.sh", "ScaledJob", "/spec/jobTargetRef/template"),
    // kubeflow/training-operator:pkg/apis/kubeflow.org/v1
    ("kubeflow.org", "PyTorchJob", "/spec/pytorchReplicaSpecs/*/template"),
    ("kubeflow.org", "TFJob", "/spec/tfReplicaSpecs/*/template"),
    ("kubeflow.org", "MPIJob", "/spec/mpiReplicaSpecs/*/template"),
    ("kubeflow.org", "XGBoostJob", "/spec/xgbReplicaSpecs/*/template"),
    ("kubeflow.org", "PaddleJob", "/spec/paddleReplicaSpecs/*/template"),
    ("kubeflow.org", "JAXJob", "/spec/jaxReplicaSpecs/*/template"),
    // kubeflow/kubeflow:components/notebook-controller/api/v1
    ("kubeflow.org", "Notebook", "/spec/template"),
    // kubernetes-sigs/jobset:api/jobset/v1alpha2
    ("jobset.x-k8s.io", "JobSet", "/spec/replicatedJobs/*/template/spec/template"),
    // kubeflow/trainer:pkg/apis/trainer/v1alpha1/trainingruntime_types.go
    (
        "trainer.kubeflow.org",
        "TrainingRuntime",
        "/spec/template/spec/replicatedJobs/*/template/spec/template",
    ),
];

/// Kinds whose controllers make pods of several objects, so that no one of them says what the pods start: group, kind.
const COMPLETED_BY_OTHERS: &[(&str, &str)] = &[
    // A TrainJob changes the template of the runtime that it names, and a ClusterTrainingRuntime is for TrainJobs of any
    // namespace (kubeflow/trainer:pkg/apis/trainer/v1alpha1/trainjob_types.go, trainingruntime_types.go).
    ("trainer.kubeflow.org", "TrainJob"),
    ("trainer.kubeflow.org", "ClusterTrainingRuntime"),
    // The containers of a predictor and of its runtime are merged (kserve/kserve:pkg/apis/serving/v1beta1/predictor.go,
    // pkg/apis/serving/v1alpha1/servingruntime_types.go, pkg/apis/serving/v1alpha2/llm_inference_service_types.go).
    ("serving.kserve.io", "InferenceService"),
    ("serving.kserve.io", "ServingRuntime"),
    ("serving.kserve.io", "ClusterServingRuntime"),
    ("serving.kserve.io", "LLMInferenceService"),
    ("serving.kserve.io", "LLMInferenceServiceConfig"),
];

/// Whether the kind is one of those that are built in.
pub fn is_built_in(group: &str, kind: &str) -> bool {
    BUILT_IN.contains(&(group, kind))
}

/// Whether parts of the kind's pods are known to come from other objects.
pub fn is_completed_by_others(gvk: &GroupVersionKind) -> bool {
    COMPLETED_BY_OTHERS.contains(&(gvk.group.as_str(), gvk.kind.as_str()))
}

/// Group and kind of every built-in kind, without groups that are no longer written.
const BUILT_IN: &[(&str, &str)] = &[
    ("", "Pod"),
    ("", "PodTemplate"),
    ("", "ReplicationController"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "DaemonSet"),
    ("apps", "StatefulSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("core.spinkube.dev", "SpinApp"),
];

/// All kinds that the gate knows, built-in and described.
#[derive(Debug, Clone)]
pub struct Kinds(Vec<Described>);

impl Default for Kinds {
    /// The well-known kinds.
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Kinds {
    /// The well-known kinds, and those of the configuration, which take precedence.
    pub fn new(own: &[Description]) -> Self {
        let well_known = WELL_KNOWN.iter().map(|(group, kind, pod_template)| Description {
            group: (*group).into(),
            kind: (*kind).into(),
            pod_template: (*pod_template).into(),
        });
        let all = own.iter().cloned().chain(well_known);
        // Never freed: there are as many as a configuration lists, once per process.
        Self(all.map(|written| Described(Box::leak(Box::new(ParsedDescription::of(written))))).collect())
    }

    /// Group and kind of every kind.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.iter().copied().chain(self.described())
    }

    /// Group and kind of every kind that is not built in.
    pub fn described(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let written = self.0.iter().map(|described| &described.0.written);
        written.map(|description| (description.group.as_str(), description.kind.as_str()))
    }

    /// The kind of an object, by group and kind.
    pub fn of(&self, gvk: &GroupVersionKind) -> Option<Kind> {
        let is_it = |one: &&Described| one.0.written.group == gvk.group && one.0.written.kind == gvk.kind;
        Kind::of(gvk).or_else(|| self.0.iter().find(is_it).copied().map(Kind::Described))
    }
}

impl Kind {
    /// The built-in kind of an object, by group and kind. The version does not matter, because the pod template is at
    /// the same place in all. `extensions` is the group from which three kinds moved to `apps`; old manifests still
    /// name it.
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
            ("core.spinkube.dev" | "core.spinoperator.dev", "SpinApp") => Some(Self::SpinApp),
            _ => None,
        }
    }

    /// JSON pointer to the object that has the pod's `metadata` and `spec`; empty for a Pod. For a SpinApp and a
    /// described kind, valid after [`super::as_judged`].
    pub const fn template_pointer(self) -> &'static str {
        match self {
            Self::Pod => "",
            Self::PodTemplate | Self::SpinApp | Self::Described(_) => "/template",
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

    /// The kind in Kubernetes' spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Described(described) => &described.0.written.kind,
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
        assert_eq!(BUILT_IN.len(), 10);
        for (group, name) in BUILT_IN.iter().copied() {
            let kind = of(group, name).unwrap();
            assert_eq!(kind.as_str(), name);
            assert_eq!(kind.is_template(), name != "Pod");
            assert_eq!(of("example.com", name), None, "a foreign group may use the same name");
        }
        assert_eq!(of("core.spinoperator.dev", "SpinApp"), Some(Kind::SpinApp), "its group before 2024-11");
        assert_eq!(of("extensions", "Deployment"), Some(Kind::Deployment));
        assert_eq!(of("extensions", "StatefulSet"), None);
        assert_eq!(of("", "Service"), None);
        assert_eq!(of("", "pod"), None);
    }

    #[test]
    fn built_in_kinds_win_over_those_of_the_configuration_and_these_over_the_well_known() {
        let described = |group: &str, kind: &str, pod_template: &str| Description {
            group: group.into(),
            kind: kind.into(),
            pod_template: pod_template.into(),
        };
        let kinds = Kinds::new(&[
            described("example.com", "Fleet", "/spec/pods"),
            described("keda.sh", "ScaledJob", "/spec/own"),
            described("apps", "Deployment", "/spec/other"),
        ]);
        let of = |group: &str, kind: &str| {
            let version = "v1".to_owned();
            kinds.of(&GroupVersionKind { group: group.to_owned(), version, kind: kind.to_owned() })
        };
        let pointer = |kind: Option<Kind>| match kind {
            Some(Kind::Described(described)) => described.pointer(),
            other => panic!("{other:?}"),
        };
        assert_eq!(pointer(of("example.com", "Fleet")), "/spec/pods");
        assert_eq!(pointer(of("keda.sh", "ScaledJob")), "/spec/own");
        assert_eq!(pointer(of("argoproj.io", "Rollout")), "/spec/template");
        assert_eq!(of("apps", "Deployment"), Some(Kind::Deployment));
        assert_eq!((of("argoproj.io", "Workflow"), of("", "Rollout")), (None, None));
        assert_eq!(of("keda.sh", "ScaledJob").map(Kind::as_str), Some("ScaledJob"));
    }
}
