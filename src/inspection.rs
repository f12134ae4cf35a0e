//! What every container of a workload really starts: the images of the pod spec, joined with the facts about them.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume, VolumeProjection};
use serde::Serialize;

use crate::image::entry::{KUBELET_MOUNTS, TOKEN_FOLDER};
use crate::image::mounts::{Links, Mount};
use crate::image::names::is_worker;
use crate::image::{ImageFacts, Program};
use crate::lookup;
use crate::workload::{ContainerSpec, Role, may_have_token, may_hold_links, volumes_of_one_container};

/// All images of one workload, in the order of [`crate::workload::Workload::images`].
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// One entry per use of an image.
    pub containers: Vec<Container>,
}

/// One container (or image volume) and what is known about it.
#[derive(Debug, Clone)]
pub struct Container {
    /// The list of the pod spec that it is in.
    pub role: Role,
    /// Its position in that list.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The image as written in the reviewed object.
    pub image: String,
    /// The result of the image's look-up.
    pub lookup: LookupResult,
}

/// The result of a look-up.
#[derive(Debug, Clone)]
pub enum LookupResult {
    /// The image was read.
    Known {
        /// Facts about the image.
        facts: Arc<ImageFacts>,
        /// What this container starts from it.
        program: Program,
    },
    /// The image could not be read.
    Unread {
        /// The error of the look-up.
        error: Arc<lookup::Error>,
    },
}

/// A one-word summary of what a container starts, for records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramClass {
    /// Starts a Wasm program.
    Wasm,
    /// Starts an ordinary program.
    Linux,
    /// Native code in an image that is packed as Wasm.
    Native,
    /// Unknown whether it is Wasm.
    Unknown,
    /// The image was not read.
    Unread,
}

impl ProgramClass {
    /// The word in records, metrics and audit annotations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Linux => "linux",
            Self::Native => "native",
            Self::Unknown => "unknown",
            Self::Unread => "unread",
        }
    }
}

impl Container {
    /// The facts and the program, if the image was read.
    pub fn known(&self) -> Option<(&ImageFacts, &Program)> {
        match &self.lookup {
            LookupResult::Known { facts, program } => Some((facts, program)),
            LookupResult::Unread { .. } => None,
        }
    }

    /// Whether it is unknown what the container starts: its image was not read, or its program was not recognised. An
    /// image volume starts nothing.
    pub fn is_open(&self) -> bool {
        self.role != Role::ImageVolume
            && self.known().is_none_or(|(_, program)| matches!(program, Program::Unknown { .. }))
    }

    /// Why it is unknown what the container starts; `None` if it is known.
    pub fn reason(&self) -> Option<String> {
        match &self.lookup {
            LookupResult::Unread { error } => Some(error.to_string()),
            LookupResult::Known { program: Program::Unknown { reason }, .. } => Some(reason.clone()),
            LookupResult::Known { .. } => None,
        }
    }

    /// The summary of what it starts.
    pub fn class(&self) -> ProgramClass {
        match &self.lookup {
            LookupResult::Unread { .. } => ProgramClass::Unread,
            LookupResult::Known { program, .. } => match program {
                Program::Wasm { .. } => ProgramClass::Wasm,
                Program::Linux => ProgramClass::Linux,
                Program::Native { .. } => ProgramClass::Native,
                Program::Unknown { .. } => ProgramClass::Unknown,
            },
        }
    }
}

/// Everything that hides the files of a container's image: the volumes that its pod mounts, in the order of the pod, then
/// its devices, the service-account token where there may be one, and what the kubelet and the container runtime add. What
/// starts, what is handed over and what may be taken away all go by this list, so that none of them sees a mount elsewhere
/// than another.
pub fn mounts<'a>(spec: &'a PodSpec, container: &ContainerSpec<'a>, ephemeral: bool) -> Vec<Mount<'a>> {
    let volumes: BTreeMap<&str, &Volume> =
        spec.volumes.iter().flatten().rev().map(|volume| (volume.name.as_str(), volume)).collect();
    let own = volumes_of_one_container(spec);
    // What a container has written itself it could do without another program: where one may be started so, all is handed over.
    let holds = |name: &str| match volumes.get(name) {
        Some(volume) if !may_hold_links(volume) => (Links::None, may_hold_worker(volume)),
        Some(_) if own.contains(name) => (Links::Below, false),
        Some(_) | None => (Links::Anywhere, true),
    };
    let written = container.mounts.iter().map(|mount| {
        let (links, workers) = holds(&mount.name);
        Mount { path: &mount.mount_path, links, workers }
    });
    let devices = container.devices.iter().map(|device| Mount::from(device.device_path.as_str()));
    let token = may_have_token(spec, ephemeral).then(|| TOKEN_FOLDER.into());
    let log = container.termination_log.map(Mount::from);
    let added = KUBELET_MOUNTS.into_iter().map(Mount::from);
    written.chain(devices).chain(token).chain(log).chain(added).collect()
}

/// Most files of a volume whose names are looked at.
const MAX_NAMES: usize = 64;

/// Whether a volume that the kubelet writes may hold a file that is named like a worker.
fn may_hold_worker(volume: &Volume) -> bool {
    let mut names = file_names(volume).take(MAX_NAMES + 1).enumerate();
    names.any(|(number, name)| number == MAX_NAMES || name.is_none_or(is_worker))
}

/// The paths of the files in a volume that the kubelet writes; `None` for those whose names the pod does not say.
fn file_names(volume: &Volume) -> Box<dyn Iterator<Item = Option<&str>> + '_> {
    if let Some(source) = &volume.config_map {
        return keys(source.items.as_deref());
    }
    if let Some(source) = &volume.secret {
        return keys(source.items.as_deref());
    }
    if let Some(source) = &volume.downward_api {
        return fields(source.items.as_deref());
    }
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    Box::new(sources.flat_map(projected_names))
}

/// The same for one source of a projected volume; that of a kind which is not known here may have any name.
fn projected_names(source: &VolumeProjection) -> Box<dyn Iterator<Item = Option<&str>> + '_> {
    if let Some(source) = &source.config_map {
        return keys(source.items.as_deref());
    }
    if let Some(source) = &source.secret {
        return keys(source.items.as_deref());
    }
    if let Some(source) = &source.downward_api {
        return fields(source.items.as_deref());
    }
    if let Some(source) = &source.service_account_token {
        return Box::new(iter::once(Some(source.path.as_str())));
    }
    if let Some(source) = &source.cluster_trust_bundle {
        return Box::new(iter::once(Some(source.path.as_str())));
    }
    let Some(source) = &source.pod_certificate else { return Box::new(iter::once(None)) };
    let paths = [&source.credential_bundle_path, &source.key_path, &source.certificate_chain_path];
    Box::new(paths.into_iter().flatten().map(|path| Some(path.as_str())))
}

/// Without `items`, a ConfigMap or Secret becomes a file for every key.
fn keys(items: Option<&[KeyToPath]>) -> Box<dyn Iterator<Item = Option<&str>> + '_> {
    match items {
        None | Some([]) => Box::new(iter::once(None)),
        Some(items) => Box::new(items.iter().map(|item| Some(item.path.as_str()))),
    }
}

fn fields(items: Option<&[DownwardAPIVolumeFile]>) -> Box<dyn Iterator<Item = Option<&str>> + '_> {
    Box::new(items.into_iter().flatten().map(|item| Some(item.path.as_str())))
}

impl Inspection {
    /// Whether any container starts a Wasm program; an image volume starts nothing.
    pub fn has_wasm(&self) -> bool {
        self.containers.iter().any(|c| c.role != Role::ImageVolume && c.class() == ProgramClass::Wasm)
    }
}
