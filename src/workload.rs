//! Where the pod spec is in an object of any kind, and which of its fields name images; what an object may take in memory once it is parsed.

mod container;
mod described;
pub mod error;
mod footprint;
pub mod kind;
pub mod managed;
mod path;
pub mod read;
mod restart;
mod spin_app;

pub use container::{ContainerSpec, may_have_token, may_hold_links, volumes_by_one_container};
pub use error::Error;
pub(crate) use footprint::{CONTAINER as CONTAINER_BYTES, ENTRY as ENTRY_BYTES};
pub use footprint::{former_bytes, parsed_bytes};
pub use kind::{Description, Kind, Kinds, is_built_in, is_completed_by_others};
pub use read::{as_judged, changed, read, same_spec, template_field, unchanged_ephemeral};
pub use restart::Restart;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};
use serde::{Deserialize, Serialize};

/// How many pod templates an object has besides the one that is judged: a described kind may have several.
pub fn further_templates(object: &serde_json::Value, kind: Kind) -> usize {
    match kind {
        Kind::Described(described) => described::further(object, described),
        _ => 0,
    }
}

/// The object once for each of its pod templates, with the place of that one and without the others; as it is, without a
/// place, if it has no more than one.
pub fn one_by_one(object: &serde_json::Value, kind: Kind) -> Vec<(String, serde_json::Value)> {
    match kind {
        Kind::Described(described) if described::further(object, described) > 0 => {
            described::one_by_one(object, described)
        }
        _ => vec![(String::new(), object.clone())],
    }
}

/// Annotation that the kubelet puts on the API object of a static pod (`kubernetes:pkg/kubelet/types/pod_update.go`).
pub const MIRROR_POD_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// What the name of the service-account token's volume begins with; random letters follow
/// (`kubernetes:plugin/pkg/admission/serviceaccount/admission.go`, `ServiceAccountVolumeName`).
pub const TOKEN_VOLUME: &str = "kube-api-access-";

/// A pod spec and the object that carries it.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Kind of the object that carries the pod spec.
    pub kind: Kind,
    /// Name of the object, or its `generateName`.
    pub name: String,
    /// Namespace of the request, or else of the object, which may have none in a manifest.
    pub namespace: String,
    /// Labels of the pod or of the pod template.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod or of the pod template.
    pub annotations: BTreeMap<String, String>,
    /// Whether the object is being deleted; finalizers may still change it.
    pub terminating: bool,
    /// Whether it is a pod of a StatefulSet, by its owner references and its name. Its controller gives it its name as `hostname`,
    /// and the StatefulSet's Service as `subdomain` (`kubernetes:pkg/controller/statefulset/stateful_set_utils.go`,
    /// `initIdentity`).
    pub of_stateful_set: bool,
    /// The pod spec, typed for reading; never written back.
    pub spec: PodSpec,
}

/// The list in a pod spec that names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// `spec.containers`.
    Container,
    /// `spec.initContainers`, sidecars (`restartPolicy: Always`) included.
    InitContainer,
    /// `spec.ephemeralContainers`.
    EphemeralContainer,
    /// `spec.volumes[].image.reference`: mounted, never started.
    ImageVolume,
}

impl Role {
    /// The list of a pod spec that it stands for, as it is written there.
    pub const fn list(self) -> &'static str {
        match self {
            Self::Container => "containers",
            Self::InitContainer => "initContainers",
            Self::EphemeralContainer => "ephemeralContainers",
            Self::ImageVolume => "volumes",
        }
    }

    /// Whether a program is started from the image. An image volume is mounted, never started.
    pub const fn starts(self) -> bool {
        !matches!(self, Self::ImageVolume)
    }

    /// Whether that program is one of those that the pod starts with. An ephemeral container joins a pod that already runs, whose
    /// class and sizes can no longer change.
    pub const fn starts_with_pod(self) -> bool {
        matches!(self, Self::Container | Self::InitContainer)
    }
}

/// One image in a pod spec.
#[derive(Debug, Clone, Copy)]
pub struct ImageUse<'a> {
    /// The list of the pod spec that it is in.
    pub role: Role,
    /// Its position in that list.
    pub index: usize,
    /// Name of the container or volume.
    pub name: &'a str,
    /// The image as the user wrote it.
    pub image: &'a str,
    /// `command`: replaces the image's Entrypoint.
    pub command: &'a [String],
    /// `args`: replaces the image's Cmd.
    pub args: &'a [String],
    /// `workingDir`: replaces the image's WorkingDir.
    pub working_dir: Option<&'a str>,
    /// `volumeMounts`, which hide the image's own files, the program included.
    pub mounts: &'a [VolumeMount],
}
