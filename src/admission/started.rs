//! Collects from a pod spec how its containers start, for the runtime that will start them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvFromSource, Volume, VolumeMount};

use crate::image::entry::{KUBELET_MOUNTS, Start, Variable};
use crate::image::{ImageFacts, Program, program};
use crate::runtime::Family;
use crate::workload::{ContainerSpec, ImageUse, Role, Workload};

/// The program that the runtime starts; if the runtime is not known, the program that the image's config names. An image
/// volume is mounted and never started.
pub(super) fn started(
    workload: &Workload,
    image: &ImageUse<'_>,
    family: Option<Family>,
    facts: &ImageFacts,
) -> Program {
    if image.role == Role::ImageVolume {
        return Program::Linux;
    }
    let spec = Spec(workload.container(image.role, image.index).unwrap_or_default());
    let (mounts, loose) = (spec.mounts(), spec.loose(workload));
    let start = Start {
        command: image.command,
        args: image.args,
        working_dir: image.working_dir,
        mounts: &mounts,
        loose: &loose,
        annotations: Some(&workload.annotations),
        path: spec.variable("PATH"),
        retained: spec.variable("SPIN_COMPONENTS_TO_RETAIN"),
    };
    match family {
        Some(family) => family.start(facts, &start),
        None => program::start(facts, &start),
    }
}

/// The parts of a container that say how it starts.
struct Spec<'a>(ContainerSpec<'a>);

impl<'a> Spec<'a> {
    /// All mounts over the image's own files: those of the pod and those that the kubelet adds.
    fn mounts(&self) -> Vec<&'a str> {
        let mounts = self.0.mounts.iter().map(|mount| mount.mount_path.as_str());
        let devices = self.0.devices.iter().map(|device| device.device_path.as_str());
        mounts.chain(devices).chain(self.0.termination_log).chain(KUBELET_MOUNTS).collect()
    }

    /// The mounts of volumes whose authors can put any file there, including links.
    fn loose(&self, workload: &Workload) -> Vec<&'a str> {
        let volumes: BTreeMap<&str, &Volume> =
            workload.spec.volumes.iter().flatten().map(|volume| (volume.name.as_str(), volume)).collect();
        let of_kubelet = |mount: &&VolumeMount| volumes.get(mount.name.as_str()).is_some_and(|v| is_plain(v));
        let loose = self.0.mounts.iter().filter(|mount| !of_kubelet(mount));
        loose.map(|mount| mount.mount_path.as_str()).collect()
    }

    /// A variable of the container, as far as the pod spec shows.
    fn variable(&self, name: &str) -> Variable<'a> {
        if let Some(variable) = self.0.env.iter().rfind(|variable| variable.name == name) {
            let plain = variable.value_from.is_none();
            let value = variable.value.as_deref().unwrap_or_default();
            let known = plain && !value.contains("$(");
            return if known { Variable::Literal(value) } else { Variable::Elsewhere };
        }
        let may_bring =
            |source: &EnvFromSource| name.starts_with(source.prefix.as_deref().unwrap_or_default());
        if self.0.env_from.iter().any(may_bring) { Variable::Elsewhere } else { Variable::Unset }
    }
}

/// Whether only the kubelet writes to the volume, so that it holds no links out of it.
fn is_plain(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}
