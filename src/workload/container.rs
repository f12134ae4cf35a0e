//! What a pod spec says of one container. Ordinary, init and ephemeral ones have the same fields, in two types of the API.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, EphemeralContainer, Lifecycle, PodSpec, Probe,
    ResourceRequirements, SecurityContext, Volume, VolumeDevice, VolumeMount,
};

use super::{Role, Workload};

/// One container of a pod spec; lists that are absent are empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContainerSpec<'a> {
    /// `name`.
    pub name: &'a str,
    /// `image`.
    pub image: Option<&'a str>,
    /// `command`.
    pub command: &'a [String],
    /// `args`.
    pub args: &'a [String],
    /// `workingDir`.
    pub working_dir: Option<&'a str>,
    /// `env`.
    pub env: &'a [EnvVar],
    /// `envFrom`.
    pub env_from: &'a [EnvFromSource],
    /// `volumeMounts`.
    pub mounts: &'a [VolumeMount],
    /// `volumeDevices`.
    pub devices: &'a [VolumeDevice],
    /// `resources`.
    pub resources: Option<&'a ResourceRequirements>,
    /// `securityContext`.
    pub security: Option<&'a SecurityContext>,
    /// `ports`.
    pub ports: &'a [ContainerPort],
    /// `livenessProbe`, `readinessProbe` and `startupProbe`.
    pub probes: [Option<&'a Probe>; 3],
    /// `lifecycle`.
    pub lifecycle: Option<&'a Lifecycle>,
    /// `terminationMessagePath`.
    pub termination_log: Option<&'a str>,
    /// `targetContainerName` of an ephemeral container: whose processes it sees.
    pub target: Option<&'a str>,
}

macro_rules! spec_of {
    ($container:expr, $target:expr) => {
        ContainerSpec {
            name: &$container.name,
            image: $container.image.as_deref(),
            command: $container.command.as_deref().unwrap_or_default(),
            args: $container.args.as_deref().unwrap_or_default(),
            working_dir: $container.working_dir.as_deref(),
            env: $container.env.as_deref().unwrap_or_default(),
            env_from: $container.env_from.as_deref().unwrap_or_default(),
            mounts: $container.volume_mounts.as_deref().unwrap_or_default(),
            devices: $container.volume_devices.as_deref().unwrap_or_default(),
            resources: $container.resources.as_ref(),
            security: $container.security_context.as_ref(),
            ports: $container.ports.as_deref().unwrap_or_default(),
            probes: [
                $container.liveness_probe.as_ref(),
                $container.readiness_probe.as_ref(),
                $container.startup_probe.as_ref(),
            ],
            lifecycle: $container.lifecycle.as_ref(),
            termination_log: $container.termination_message_path.as_deref(),
            target: $target,
        }
    };
}

impl<'a> From<&'a Container> for ContainerSpec<'a> {
    fn from(container: &'a Container) -> Self {
        spec_of!(container, None)
    }
}

impl<'a> From<&'a EphemeralContainer> for ContainerSpec<'a> {
    fn from(container: &'a EphemeralContainer) -> Self {
        spec_of!(container, container.target_container_name.as_deref())
    }
}

impl Workload {
    /// The container at this position of the list that `role` names; `None` for an image volume, and where the list is
    /// shorter.
    pub fn container(&self, role: Role, index: usize) -> Option<ContainerSpec<'_>> {
        match role {
            Role::Container => self.spec.containers.get(index).map(ContainerSpec::from),
            Role::InitContainer => self.spec.init_containers.as_ref()?.get(index).map(ContainerSpec::from),
            Role::EphemeralContainer => {
                self.spec.ephemeral_containers.as_ref()?.get(index).map(ContainerSpec::from)
            }
            Role::ImageVolume => None,
        }
    }
}

/// Whether people or programs can write to the volume, so that it may hold links out of it. The kubelet alone writes to
/// the others.
pub fn may_hold_links(volume: &Volume) -> bool {
    volume.config_map.is_none()
        && volume.secret.is_none()
        && volume.downward_api.is_none()
        && volume.projected.is_none()
}

/// Whether the `ServiceAccount` plug-in may mount the token into a container: not into an ephemeral one, and not where the pod
/// says no (`kubernetes:plugin/pkg/admission/serviceaccount/admission.go`). What the ServiceAccount itself says is not known.
pub fn may_have_token(spec: &PodSpec, is_ephemeral: bool) -> bool {
    !is_ephemeral && spec.automount_service_account_token != Some(false)
}

/// Most mounts of a pod in which it is looked for volumes of one container, and most containers.
const MOST_MOUNTS: usize = 256;
const MOST_CONTAINERS: usize = 64;

/// The names of the volumes that are empty when the pod starts and that one container alone mounts. Of a pod that has a great
/// many mounts, none are named; nor of one whose processes see each other, since `/proc/<pid>/root` leads into the volumes of
/// the others (proc(5)).
pub fn volumes_by_one_container(spec: &PodSpec) -> BTreeSet<&str> {
    let targets = spec.ephemeral_containers.iter().flatten().any(|c| c.target_container_name.is_some());
    if targets || spec.share_process_namespace == Some(true) || spec.host_pid == Some(true) {
        return BTreeSet::new();
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(ContainerSpec::from);
    let all: Vec<ContainerSpec<'_>> =
        containers.map(ContainerSpec::from).chain(ephemeral).take(MOST_CONTAINERS + 1).collect();
    let mounts: Vec<(usize, &VolumeMount)> = all
        .iter()
        .enumerate()
        .flat_map(|(number, container)| container.mounts.iter().map(move |mount| (number, mount)))
        .take(MOST_MOUNTS + 1)
        .collect();
    if all.len() > MOST_CONTAINERS || mounts.len() > MOST_MOUNTS {
        return BTreeSet::new();
    }
    // The container that mounts it, if it is one. Volumes may be many more than mounts.
    let mut by: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for (number, mount) in mounts {
        let again = |known: &mut Option<usize>| *known = known.filter(|known| *known == number);
        by.entry(&mount.name).and_modify(again).or_insert(Some(number));
    }
    let volumes = spec.volumes.iter().flatten().filter(|volume| volume.empty_dir.is_some());
    let of_one = volumes.filter_map(|volume| by.get_key_value(volume.name.as_str()));
    of_one.filter_map(|(name, known)| known.map(|_| *name)).collect()
}
