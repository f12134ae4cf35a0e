//! What every container of a workload really starts: the images of the pod spec, joined with the facts about them.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume, VolumeMount, VolumeProjection,
};
use serde::Serialize;

use crate::image::entry::{KUBELET_MOUNTS, TOKEN_FOLDER};
use crate::image::mounts::{Links, Mount};
use crate::image::names::{is_of_resolver, is_worker};
use crate::image::{Cause, ImageFacts, Program};
use crate::lookup;
pub use crate::lookup::Fault;
use crate::workload::{ContainerSpec, Role, may_have_token, may_hold_links, volumes_by_one_container};

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

    /// The facts about its image, if it was read.
    pub fn facts(&self) -> Option<&Arc<ImageFacts>> {
        match &self.lookup {
            LookupResult::Known { facts, .. } => Some(facts),
            LookupResult::Unread { .. } => None,
        }
    }

    /// Whether it is unknown what the container starts: its image was not read, or its program was not recognised. An
    /// image volume starts nothing.
    pub fn is_open(&self) -> bool {
        self.role.starts()
            && self.known().is_none_or(|(_, program)| matches!(program, Program::Unknown { .. }))
    }

    /// Whether its image suggests Wasm, as far as it was read.
    pub fn suggests_wasm(&self) -> bool {
        match &self.lookup {
            LookupResult::Known { facts, .. } => facts.suggests_wasm(),
            LookupResult::Unread { error } => error.suggests_wasm(),
        }
    }

    /// Why it is unknown what the container starts; `None` if it is known.
    pub fn reason(&self) -> Option<String> {
        match &self.lookup {
            LookupResult::Unread { error } => Some(error.to_string()),
            LookupResult::Known { program: Program::Unknown { reason }, .. } => Some(reason.to_string()),
            LookupResult::Known { .. } => None,
        }
    }

    /// What is wrong with an image of which it is unknown what it starts; `None` if that is known, or no more than the reason is.
    pub fn fault(&self) -> Option<Fault> {
        match &self.lookup {
            LookupResult::Unread { error } => Some(error.fault()),
            LookupResult::Known { program: Program::Unknown { reason }, .. } => {
                (reason.cause() != Cause::Plain).then_some(Fault::Told)
            }
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

/// Mounts of a container whose volumes are looked for one by one. Most containers have one or two.
const FEW_MOUNTS: usize = 8;

/// Everything that hides the files of a container's image: the volumes that its pod mounts, in the order of the pod, then
/// its devices, the service-account token where there may be one, and what the kubelet and the container runtime add. What
/// starts, what is handed over and what may be taken away all go by this list, so that none of them sees a mount elsewhere
/// than another.
pub fn mounts<'a>(spec: &'a PodSpec, container: &ContainerSpec<'a>, ephemeral: bool) -> Vec<Mount<'a>> {
    let volumes = || spec.volumes.iter().flatten();
    let by_name: LazyCell<BTreeMap<&str, &Volume>, _> =
        LazyCell::new(|| volumes().rev().map(|volume| (volume.name.as_str(), volume)).collect());
    // Of two of one name the first. A tenant chooses how many there are, and how many mounts.
    let volume = |name: &str| {
        if container.mounts.len() <= FEW_MOUNTS {
            return volumes().find(|volume| volume.name == name);
        }
        by_name.get(name).copied()
    };
    let own = LazyCell::new(|| volumes_by_one_container(spec));
    // What a container has written itself it could do without another program: where one may be started so, all is handed over.
    let written = container.mounts.iter().map(|mount| {
        let (name, path) = (mount.name.as_str(), mount.mount_path.as_str());
        match volume(name) {
            Some(volume) if !may_hold_links(volume) => {
                Mount { workers: may_hold_worker(volume, mount), ..path.into() }
            }
            _ => {
                let shared = !own.contains(name);
                Mount { path, links: Links::Anywhere, workers: shared, shared }
            }
        }
    });
    written.chain(paths_beside_volumes(spec, container, ephemeral).map(Mount::from)).collect()
}

/// The paths of [`mounts`], in the same order.
pub fn mount_paths<'a>(
    spec: &PodSpec,
    container: &ContainerSpec<'a>,
    ephemeral: bool,
) -> impl Iterator<Item = &'a str> {
    let written = container.mounts.iter().map(|mount| mount.mount_path.as_str());
    written.chain(paths_beside_volumes(spec, container, ephemeral))
}

fn paths_beside_volumes<'a>(
    spec: &PodSpec,
    container: &ContainerSpec<'a>,
    ephemeral: bool,
) -> impl Iterator<Item = &'a str> {
    let devices = container.devices.iter().map(|device| device.device_path.as_str());
    let token = may_have_token(spec, ephemeral).then_some(TOKEN_FOLDER);
    devices.chain(token).chain(container.termination_log).chain(KUBELET_MOUNTS)
}

/// Most files of a volume whose names are looked at.
const MAX_NAMES: usize = 64;

/// Whether what is mounted of a volume that the kubelet writes may hold a file that is named like a worker. A part that is one file
/// has the name of its mount.
fn may_hold_worker(volume: &Volume, mount: &VolumeMount) -> bool {
    let part = match (&mount.sub_path, &mount.sub_path_expr) {
        (None, None) => "",
        (Some(part), _)
            if part.split('/').all(|name| !name.is_empty() && name != "." && !name.starts_with("..")) =>
        {
            part
        }
        // The folder in which the kubelet has all files (`kubernetes:pkg/volume/util/atomic_writer.go`), or any.
        _ => return file_names(volume).next().is_some(),
    };
    let mut names = file_names(volume).take(MAX_NAMES + 1).enumerate();
    names.any(|(number, name)| number == MAX_NAMES || may_be_worker_in(name, part))
}

/// Whether a volume may hold a file that is named like a module of glibc's name service: unless the kubelet writes it, and the pod says
/// how all its files are called.
pub fn may_hold_module(volume: &Volume) -> bool {
    let mut names = file_names(volume).take(MAX_NAMES + 1).enumerate();
    may_hold_links(volume)
        || names.any(|(number, name)| number == MAX_NAMES || name.is_none_or(is_of_resolver))
}

/// Whether a file of a volume is in this part of it, and may be named like a worker there. A file of which the pod does not
/// say the name is no folder's: keys have no `/` (`kubernetes:staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go`,
/// `IsConfigMapKey`).
fn may_be_worker_in(name: Option<&str>, part: &str) -> bool {
    if part.is_empty() {
        return name.is_none_or(is_worker);
    }
    let below = name.and_then(|name| name.strip_prefix(part)?.strip_prefix('/'));
    below.is_some_and(is_worker)
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
        self.containers.iter().any(|c| c.role.starts() && c.class() == ProgramClass::Wasm)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Whether each mount of the first container of a pod may bring a worker.
    fn bringing(volumes: &Value, containers: &Value) -> Vec<bool> {
        let spec: PodSpec = serde_json::from_value(json!({
            "automountServiceAccountToken": false, "volumes": volumes, "containers": containers,
        }))
        .unwrap();
        let first = ContainerSpec::from(&spec.containers[0]);
        let mounts = mounts(&spec, &first, false);
        mounts.iter().take(first.mounts.len()).map(|mount| mount.workers).collect()
    }

    #[test]
    fn a_part_of_a_volume_of_the_kubelet_brings_the_files_in_it_and_no_other() {
        let plain = json!({"configMap": {"name": "c"}});
        let named =
            |path: &str| json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": path}]}});
        for (volume, part, brings) in [
            (plain.clone(), None, true),
            (plain.clone(), Some("app.toml"), false),
            (plain.clone(), Some("app.js"), false),
            (plain.clone(), Some("a/b"), false),
            // All keys are files of this folder of the kubelet.
            (plain.clone(), Some("..data"), true),
            (plain.clone(), Some("./"), true),
            (plain.clone(), Some("a/."), true),
            (named("a/x.js"), None, true),
            (named("a/x.js"), Some("a"), true),
            (named("a/x.js"), Some("a/x.js"), false),
            (named("a/x.js"), Some("b"), false),
            (named("public/x.js"), None, false),
            (named("public/x.js"), Some("public"), true),
            (named("a/x.toml"), Some("a"), false),
            (named("a/x.toml"), Some("..data"), true),
        ] {
            let mut whole = json!({"name": "v"});
            whole.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
            let mut mount = json!({"name": "v", "mountPath": "/etc/app"});
            if let Some(part) = part {
                mount["subPath"] = json!(part);
            }
            let found = bringing(&json!([whole]), &json!([{"name": "a", "volumeMounts": [mount.clone()]}]));
            assert_eq!(found, [brings], "{volume} {part:?}");
            mount.as_object_mut().unwrap().remove("subPath");
            mount["subPathExpr"] = json!("$(NAME)");
            let found = bringing(&json!([whole]), &json!([{"name": "a", "volumeMounts": [mount]}]));
            assert_eq!(found, [true], "{volume} of an expression");
        }
    }

    #[test]
    fn of_two_volumes_of_one_name_the_first_is_mounted_however_many_mounts_there_are() {
        let kept = json!({"name": "v", "configMap": {"name": "c"}});
        let node = json!({"name": "v", "hostPath": {"path": "/x"}});
        for count in [1, FEW_MOUNTS, FEW_MOUNTS + 1, 3 * FEW_MOUNTS] {
            let at = |n: usize| json!({"name": "v", "mountPath": format!("/x/{n}"), "subPath": "app.toml"});
            let container = json!([{"name": "a", "volumeMounts": (0..count).map(at).collect::<Value>()}]);
            assert_eq!(bringing(&json!([kept, node]), &container), vec![false; count]);
            assert_eq!(bringing(&json!([node, kept]), &container), vec![true; count]);
        }
    }

    #[test]
    fn the_paths_of_mounts_are_those_of_all_mounts_in_their_order() {
        let spec: PodSpec = serde_json::from_value(json!({
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{
                "name": "a",
                "volumeMounts": [{"name": "v", "mountPath": "/x"}, {"name": "w", "mountPath": "/y/"}],
                "volumeDevices": [{"name": "d", "devicePath": "/raw"}],
                "terminationMessagePath": "/log",
            }],
        }))
        .unwrap();
        let container = ContainerSpec::from(&spec.containers[0]);
        for ephemeral in [false, true] {
            let all: Vec<&str> =
                mounts(&spec, &container, ephemeral).iter().map(|mount| mount.path).collect();
            assert_eq!(mount_paths(&spec, &container, ephemeral).collect::<Vec<_>>(), all);
            assert_eq!(all.contains(&TOKEN_FOLDER), !ephemeral);
            assert!(["/x", "/y/", "/raw", "/log", "/proc"].iter().all(|path| all.contains(path)));
        }
    }

    #[test]
    fn an_empty_volume_brings_what_other_containers_write_however_often_one_mounts_it() {
        let volumes = json!([{"name": "v", "emptyDir": {}}]);
        let at = |path: &str| json!({"name": "v", "mountPath": path});
        let twice = json!({"name": "a", "volumeMounts": [at("/x"), at("/y")]});
        let part = json!({"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "p"}]});
        let other = json!({"name": "b", "volumeMounts": [at("/z")]});
        assert_eq!(bringing(&volumes, &json!([twice])), [false, false]);
        assert_eq!(bringing(&volumes, &json!([twice, {"name": "b"}])), [false, false]);
        assert_eq!(bringing(&volumes, &json!([part])), [false]);
        assert_eq!(bringing(&volumes, &json!([twice, other])), [true, true]);
        assert_eq!(
            bringing(&json!([{"name": "v", "hostPath": {"path": "/x"}}]), &json!([twice])),
            [true, true]
        );
    }
}
