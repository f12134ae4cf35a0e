//! What a pod spec hands to one container: mounts, variables, the service-account token.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, PodSpec, ResourceRequirements, SecurityContext, Volume, VolumeDevice, VolumeMount,
};

use super::variables::Variables;
use super::volumes::{describe, is_of_kubelet, is_read_only, is_secret, is_writable_below};
use crate::capability::{Access, Capability, Entry, SERVICE_LINKS, glob, path};
use crate::image::entry::{self, Leads, TOKEN_FOLDER};
use crate::image::mounts::Mounts;
use crate::image::names::is_of_resolver;
use crate::image::{self, ImageFacts};
use crate::inspection::{self, Container};
use crate::text;
use crate::workload::{ContainerSpec, Kind, Role, Workload, may_have_token};

/// The file for messages of a container that names none (`kubernetes:pkg/apis/core/v1/defaults.go`).
pub const DEFAULT_LOG: &str = "/dev/termination-log";

/// A container, with the list in which it is and its position there.
pub type Placed<'a> = ((Role, usize), ContainerSpec<'a>);

/// One container of a pod spec, of any role, and the pod around it.
#[derive(Debug)]
pub struct Pod<'a> {
    spec: &'a PodSpec,
    /// The name of the pod; `None` for a template, whose pods get theirs later.
    name: Option<&'a str>,
    workload: &'a Workload,
    container: ContainerSpec<'a>,
    /// The list and the position in it of the container.
    at: (Role, usize),
    /// The `ServiceAccount` plug-in mounts no token into ephemeral containers.
    ephemeral: bool,
    variables: Variables<'a>,
    volumes: HashMap<&'a str, &'a Volume>,
    /// Every mount, device and the service-account token, where the links of the image lead them.
    mounts: Vec<Entry>,
    /// Where they are in the image.
    places: Mounts,
    /// The numbers of [`Self::mounts`] by their places.
    by_place: BTreeMap<String, Vec<usize>>,
    /// The parts of the paths of [`Self::mounts`] as the pod writes them, in the same order.
    parts: Vec<usize>,
    /// Whether the kubelet alone fills each of [`Self::mounts`], in the same order.
    filled: Vec<bool>,
}

impl<'a> Pod<'a> {
    /// The container of the pod spec to which an inspected one belongs, with indices: they are queried once per mount,
    /// variable and template, and a tenant chooses how many there are of each.
    pub fn new(workload: &'a Workload, container: &Container) -> Self {
        let Container { role, index, .. } = container;
        let (spec, container) = (&workload.spec, workload.container(*role, *index).unwrap_or_default());
        let mut pod = Self {
            spec,
            name: (workload.kind == Kind::Pod).then_some(workload.name.as_str()),
            workload,
            container,
            at: (*role, *index),
            ephemeral: *role == Role::EphemeralContainer,
            variables: Variables::new(container.env, container.env_from),
            // Of two volumes with the same name, the first; the API server refuses such a pod.
            volumes: spec.volumes.iter().flatten().rev().map(|v| (v.name.as_str(), v)).collect(),
            mounts: Vec::new(),
            places: Mounts::default(),
            by_place: BTreeMap::new(),
            parts: Vec::new(),
            filled: Vec::new(),
        };
        pod.mounts = pod.written_mounts();
        let parts = |mount: &Entry| mount.path.as_deref().unwrap_or_default().matches('/').count();
        pod.parts = pod.mounts.iter().map(parts).collect();
        let is_filled = |mount: &VolumeMount| pod.volume(&mount.name).is_some_and(is_of_kubelet);
        let mounts = pod.container.mounts.iter().map(is_filled);
        // Devices, and the token.
        let filled = mounts.chain(pod.container.devices.iter().map(|_| false)).chain([true]).collect();
        pod.filled = filled;
        pod
    }

    /// Follows the links of the image: the node mounts where they lead. A mount that may be anywhere stays where it is
    /// written; the program of such a container is not known.
    pub fn in_image(mut self, facts: &ImageFacts) -> Self {
        self.places = Mounts::new(facts, &inspection::mounts(self.spec, &self.container, self.ephemeral));
        let written = self.mounts.len();
        for (position, (number, place)) in self.places.all_places().enumerate() {
            // What the kubelet and the container runtime add comes last, and is no entry.
            let Some(mount) = self.mounts.get_mut(number).filter(|_| number < written) else { continue };
            let mut at = number;
            if position == number {
                mount.path = Some(place.to_string());
            } else {
                let other = Entry { path: Some(place.to_string()), ..mount.clone() };
                at = self.mounts.len();
                self.mounts.push(other);
                self.parts.push(self.parts.get(number).copied().unwrap_or_default());
                self.filled.push(self.filled.get(number).copied().unwrap_or_default());
            }
            self.by_place.entry(place.to_string()).or_default().push(at);
        }
        self
    }

    /// Where a path leads in the container, with the links of the image followed outside of its mounts.
    pub fn leads(&self, facts: &ImageFacts, path: &str) -> Leads {
        if self.places.lost().is_some() {
            return Leads::Anywhere;
        }
        entry::leads(facts, path, |at| self.places.volume(at))
    }

    /// The mounts at a folder, above it and below it. A tenant chooses how many there are, and how many folders are asked for.
    pub fn touching(&self, folder: &str) -> Vec<&Entry> {
        let inside = if folder == "/" { "/".to_string() } else { format!("{folder}/") };
        let below = self.by_place.range(inside.clone()..).take_while(|(at, _)| at.starts_with(&inside));
        let mut numbers: Vec<usize> = below.flat_map(|(_, numbers)| numbers).copied().collect();
        let mut at = folder;
        while at != "/" && !at.is_empty() {
            numbers.extend(self.by_place.get(at).into_iter().flatten());
            at = image::path::split(at).0;
        }
        if folder != "/" {
            numbers.extend(self.by_place.get("/").into_iter().flatten());
        }
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| self.mounts.get(number)).collect()
    }

    /// The mounts of which one is seen at a folder that they contain: of two, the later hides the other there. Container
    /// runtimes mount what has fewer parts first (`containerd:internal/cri/opts/spec_linux_opts.go`, `orderedMounts`), by the
    /// paths as they are written, so that of equally many either may be the later one.
    pub fn seen_at<'p>(&'p self, folder: &'p str) -> impl Iterator<Item = &'p Entry> {
        let covers = |mount: &Entry| mount.path.as_deref().is_some_and(|tree| path::covers(tree, folder));
        let around = move || self.mounts.iter().zip(&self.parts).filter(move |(mount, _)| covers(mount));
        let latest = around().map(|(_, parts)| *parts).max();
        around().filter(move |(_, parts)| Some(**parts) == latest).map(|(mount, _)| mount)
    }

    /// The spec of the pod.
    pub const fn spec(&self) -> &'a PodSpec {
        self.spec
    }

    /// The other containers that may run while this one does: not those for the start, which end before the others begin, unless this
    /// one goes on running from before them, or is for debugging and may begin at any time
    /// (`kubernetes:pkg/kubelet/kuberuntime/kuberuntime_manager.go`, `computePodActions`).
    pub fn beside(&self) -> impl Iterator<Item = Placed<'a>> {
        let (spec, at) = (self.spec, self.at);
        let ordinary = spec.containers.iter().map(ContainerSpec::from).enumerate();
        let ordinary = ordinary.map(|(index, container)| ((Role::Container, index), container));
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(ContainerSpec::from).enumerate();
        let ephemeral = ephemeral.map(|(index, container)| ((Role::EphemeralContainer, index), container));
        let is_for_start = self.is_init();
        let begins_before = move |index: usize| match at.0 {
            Role::EphemeralContainer => true,
            Role::InitContainer => !is_for_start && at.1 < index,
            Role::Container | Role::ImageVolume => false,
        };
        let init = self.init().filter(move |((_, index), _, goes_on)| *goes_on || begins_before(*index));
        let init = init.map(|(place, container, _)| (place, container));
        // Nothing that follows a container for the start has begun.
        let has_begun =
            move |(role, index)| role != Role::Container && (role != Role::InitContainer || index < at.1);
        let is_first = is_for_start && !self.may_start_again();
        let is_beside = move |other| other != at && (!is_first || has_begun(other));
        ordinary.chain(ephemeral).chain(init).filter(move |(other, _)| is_beside(*other))
    }

    /// The containers for the start that have ended when this one begins.
    pub fn before(&self) -> impl Iterator<Item = Placed<'a>> {
        let (at, again) = (self.at, self.may_start_again());
        let has_ended = move |index: usize| at.0 != Role::InitContainer || index < at.1 || again;
        let ended = self.init().filter(move |((role, index), _, goes_on)| {
            !goes_on && (*role, *index) != at && has_ended(*index)
        });
        ended.map(|(place, container, _)| (place, container))
    }

    /// The init containers, and whether each goes on running.
    fn init(&self) -> impl Iterator<Item = ((Role, usize), ContainerSpec<'a>, bool)> + use<'a> {
        self.spec.init_containers.iter().flatten().enumerate().map(|(index, container)| {
            let goes_on = container.restart_policy.as_deref() == Some("Always");
            ((Role::InitContainer, index), ContainerSpec::from(container), goes_on)
        })
    }

    /// Whether a rule of a container may start all containers again, those for the start first, with what the others have left in the
    /// pod (`kubernetes:staging/src/k8s.io/api/core/v1/types.go`, `RestartAllContainers`). Actions that are not known count.
    fn may_start_again(&self) -> bool {
        let all = self.spec.containers.iter().chain(self.spec.init_containers.iter().flatten());
        let mut rules = all.flat_map(|container| container.restart_policy_rules.iter().flatten());
        rules.any(|rule| rule.action != "Restart")
    }

    /// The name of the pod; `None` for a template.
    pub const fn name(&self) -> Option<&'a str> {
        self.name
    }

    /// Whether it ends before the containers of the pod begin.
    fn is_init(&self) -> bool {
        let (role, index) = self.at;
        let policy = self.spec.init_containers.iter().flatten().nth(index).map(|own| &own.restart_policy);
        role == Role::InitContainer && policy.is_some_and(|policy| policy.as_deref() != Some("Always"))
    }

    /// The namespace of the pod; empty where a manifest does not say it.
    pub const fn namespace(&self) -> &'a str {
        self.workload.namespace.as_str()
    }

    /// Whether it is a pod of a StatefulSet.
    pub const fn is_of_stateful_set(&self) -> bool {
        self.workload.of_stateful_set
    }

    /// The annotations of the pod.
    pub const fn annotations(&self) -> &'a BTreeMap<String, String> {
        &self.workload.annotations
    }

    /// The RuntimeClass that the pod names.
    pub fn runtime_class(&self) -> Option<&'a str> {
        self.spec.runtime_class_name.as_deref()
    }

    /// Whether the pod uses the node's network.
    pub fn is_on_host_network(&self) -> bool {
        self.spec.host_network == Some(true)
    }

    /// Why `/` is more than the image's own files; `None` if it is not. `/proc/<pid>/root` is the root file system of
    /// any visible process (proc(5)), and a privileged container has the node's devices.
    pub fn beyond_root(&self) -> Option<&'static str> {
        if self.container.security.is_some_and(|s| s.privileged == Some(true)) {
            return Some("the container is privileged, so /dev holds the node's devices");
        }
        if self.spec.host_pid == Some(true) {
            return Some("hostPID: /proc/1/root is the root file system of the node");
        }
        if self.spec.share_process_namespace == Some(true) {
            return Some(
                "shareProcessNamespace: /proc holds the root file systems of the pod's other containers",
            );
        }
        self.container
            .target
            .is_some()
            .then_some("targetContainerName: /proc holds the root file system of that container")
    }

    /// The access to the root file system.
    pub fn root_access(&self) -> Access {
        match self.container.security.and_then(|s| s.read_only_root_filesystem) {
            Some(true) => Access::ReadOnly,
            _ => Access::ReadWrite,
        }
    }

    /// The termination-message file that the kubelet mounts read-write.
    pub fn termination_log(&self) -> String {
        text::clean_path(self.container.termination_log.unwrap_or(DEFAULT_LOG))
    }

    /// The working directory that the container sets; without one the image's own applies.
    pub fn working_dir(&self) -> Option<&'a str> {
        self.container.working_dir.filter(|directory| !directory.is_empty())
    }

    /// `securityContext` of the container.
    pub const fn security(&self) -> Option<&'a SecurityContext> {
        self.container.security
    }

    /// `resources` of the container.
    pub const fn resources(&self) -> Option<&'a ResourceRequirements> {
        self.container.resources
    }

    /// Every mount, device and the service-account token.
    pub fn mounts(&self) -> &[Entry] {
        &self.mounts
    }

    /// Those that may bring a module of glibc's name service under any path: not those of which the pod says how all files are called,
    /// as of the token.
    pub fn mounts_with_modules(&self) -> impl Iterator<Item = &Entry> {
        let mounted = self.container.mounts.iter().map(|mount| &mount.name);
        let volumes = mounted.chain(self.container.devices.iter().map(|device| &device.name));
        let brings = move |&(name, mount): &(&String, &Entry)| {
            let is_module = mount.path.as_deref().is_some_and(is_of_resolver);
            is_module || self.volume(name).is_none_or(inspection::may_hold_module)
        };
        volumes.zip(&self.mounts).filter(brings).map(|(_, mount)| mount)
    }

    /// Those that hold more than what the kubelet writes, such as databases and sockets.
    pub fn foreign_mounts(&self) -> impl Iterator<Item = &Entry> {
        let foreign = |(mount, filled): (_, &bool)| (!filled).then_some(mount);
        self.mounts.iter().zip(&self.filled).filter_map(foreign)
    }

    fn written_mounts(&self) -> Vec<Entry> {
        let mounts = self.container.mounts.iter().map(|mount| self.mount(mount));
        let devices = self.container.devices.iter().map(|device| self.device(device));
        mounts.chain(devices).chain(self.token()).collect()
    }

    fn volume(&self, name: &str) -> Option<&'a Volume> {
        self.volumes.get(name).copied()
    }

    fn mount(&self, mount: &VolumeMount) -> Entry {
        let volume = self.volume(&mount.name);
        let is_held = mount.read_only == Some(true) || volume.is_some_and(is_read_only);
        let below = is_held && volume.is_some_and(|volume| is_writable_below(volume, mount));
        let writable = !is_held || below;
        let part = mount.sub_path.as_ref().or(mount.sub_path_expr.as_ref());
        let part = part.map(|p| format!(", subPath {p}")).unwrap_or_default();
        let note = if below {
            "; without recursiveReadOnly: Enabled, what is mounted below it stays writable"
        } else {
            ""
        };
        let evidence =
            format!("volumeMount {} ({}{part}{note})", mount.mount_path, describe(&mount.name, volume));
        Entry::new(Capability::Fs, evidence)
            .at_path(
                text::clean_path(&mount.mount_path),
                if writable { Access::ReadWrite } else { Access::ReadOnly },
            )
            .mark_secret(volume.is_some_and(is_secret))
    }

    fn device(&self, device: &VolumeDevice) -> Entry {
        let volume = self.volume(&device.name);
        let access = if volume.is_some_and(is_read_only) { Access::ReadOnly } else { Access::ReadWrite };
        let evidence = format!("volumeDevice {} ({})", device.device_path, describe(&device.name, volume));
        Entry::new(Capability::Fs, evidence).at_path(text::clean_path(&device.device_path), access)
    }

    fn token(&self) -> Option<Entry> {
        // The plug-in compares the path as written: a mount at the same place in another spelling does not stop it.
        let taken = self.container.mounts.iter().any(|mount| mount.mount_path == TOKEN_FOLDER);
        if taken || !may_have_token(self.spec, self.ephemeral) {
            return None;
        }
        let evidence = "service-account token: automountServiceAccountToken of the pod is not false \
                        (what the ServiceAccount itself says is not looked at)";
        let entry = Entry::new(Capability::Fs, evidence);
        Some(entry.at_path(TOKEN_FOLDER, Access::ReadOnly).mark_secret(true))
    }

    /// The variables of `env` and `envFrom`; a whole ConfigMap or Secret is a name pattern.
    pub fn variables(&self) -> Vec<Entry> {
        let named = self.container.env.iter().map(|variable| self.variable(variable));
        self.container.env_from.iter().map(env_from).chain(named).collect()
    }

    fn variable(&self, variable: &EnvVar) -> Entry {
        let evidence = format!("env {} {}", variable.name, describe_variable(variable));
        Entry::new(Capability::Env, evidence)
            .named(&variable.name)
            .mark_secret(self.variables.is_secret(&variable.name))
    }

    /// The `command` and `args` that expand a secret variable, so that the arguments contain the secret. The text
    /// around the expansion is not quoted, because it may be a secret too.
    pub fn secret_arguments(&self) -> Option<Entry> {
        let lists = [("command", self.container.command), ("args", self.container.args)];
        let mut arguments = lists
            .into_iter()
            .flat_map(|(list, texts)| texts.iter().enumerate().map(move |(i, t)| (list, i, t)));
        let (list, index, _) = arguments.find(|(_, _, text)| self.variables.expand_in(text))?;
        let evidence = format!("{list}[{index}] expands a secret variable");
        Some(Entry::new(Capability::Args, evidence).mark_secret(true))
    }

    /// Name patterns of the variables that every container gets, and where they come from. They say where the cluster's
    /// services are and reveal no secret, so they are granted like the image's own.
    pub fn platform_variables(&self) -> Vec<(&'static str, &'static str)> {
        let mut variables = vec![
            ("HOSTNAME", "env HOSTNAME, set by the container runtime"),
            ("PATH", "env PATH, set by the container runtime"),
            ("KUBERNETES_*", "service link to the API server, set by the kubelet"),
        ];
        if self.spec.enable_service_links != Some(false) {
            let link = "service links: enableServiceLinks is not false";
            variables.extend(SERVICE_LINKS.map(|name| (name, link)));
        }
        variables
    }

    /// What gives every container a variable of this name; `None` if the pod writes its own, or nothing is known to.
    pub fn platform_variable(&self, name: &str) -> Option<&'static str> {
        let known = self.platform_variables().into_iter().find(|(pattern, _)| glob::covers(pattern, name));
        known.filter(|_| !self.sets(name)).map(|(_, evidence)| evidence)
    }

    /// The value of a variable that the spec writes out; `None` if the variable is absent, comes from elsewhere, or
    /// expands another one.
    pub fn literal(&self, name: &str) -> Option<&'a str> {
        let variable = self.variables.exact(name)?;
        variable.value.as_deref().filter(|value| variable.value_from.is_none() && !entry::is_expanded(value))
    }

    /// The entry of a variable that `env` names or `envFrom` may set.
    pub fn may_set(&self, name: &str) -> Option<Entry> {
        match self.variables.exact(name) {
            Some(variable) => Some(self.variable(variable)),
            None => self.variables.source(name).map(env_from),
        }
    }

    /// Whether `env` names the variable.
    pub fn sets(&self, name: &str) -> bool {
        self.variables.exact(name).is_some()
    }
}

/// All that a source sets. What a later Kubernetes takes them from may be a secret, as with volumes.
fn env_from(source: &EnvFromSource) -> Entry {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let (evidence, secret) = match (&source.config_map_ref, &source.secret_ref) {
        (_, Some(secret)) => (format!("envFrom secret {}", secret.name), true),
        (Some(map), None) => (format!("envFrom configMap {}", map.name), false),
        (None, None) => ("envFrom an unknown source".to_string(), true),
    };
    Entry::new(Capability::Env, evidence).named(format!("{prefix}*")).mark_secret(secret)
}

fn describe_variable(variable: &EnvVar) -> String {
    let Some(from) = &variable.value_from else { return "of the pod spec".into() };
    if let Some(key) = &from.secret_key_ref {
        return format!("from secret {} key {}", key.name, key.key);
    }
    if let Some(key) = &from.config_map_key_ref {
        return format!("from configMap {} key {}", key.name, key.key);
    }
    if let Some(field) = &from.field_ref {
        return format!("from field {}", field.field_path);
    }
    if let Some(field) = &from.resource_field_ref {
        return format!("from resource {}", field.resource);
    }
    match &from.file_key_ref {
        Some(file) => format!("from file {} of volume {} key {}", file.path, file.volume_name, file.key),
        None => "from an unknown source".into(),
    }
}
