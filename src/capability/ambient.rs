//! What the runtime and the pod spec hand over, one entry each: this mount, that variable, the network. The runtime's
//! family decides which ([`crate::runtime::Runtime::hands_over`]); this module turns them into entries.

mod address;
mod devices;
mod handed_over;
mod host;
mod plug_ins;
mod pod;
mod privileges;
mod programs;
mod resolution;
mod shared_files;
mod shim_variables;
mod spin;
mod variables;
mod volumes;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::VolumeMount;

use super::required::{Unit, is_started, spin_app};
use super::{Capability, Entry, merge};
use crate::image::entry::Leads;
use crate::image::{ImageKind, Program, SpinComponent};
use crate::inspection::Container;
use crate::runtime::spin::handed;
use crate::runtime::{Family, Files, Handover, Profile};
use crate::workload::Workload;

pub(super) use devices::devices;
pub(super) use host::RuntimeHost;
pub(super) use plug_ins::{of_name_service, plug_ins};
pub use resolution::REDIRECTED;
use resolution::resolved;
pub use spin::UNRESOLVED;
use volumes::is_of_kubelet;
pub use volumes::is_writable_below;

/// Most mounts of a container, and volumes of its pod, that are gone through here. A tenant chooses how many there are.
const MOST_MOUNTS: usize = 64;

/// Whether a file may be in what a container is handed or can do, as [`super::assess`] lists it. `false` is certain, and costs little: the lists need
/// not be made for one who looks for files alone. A Spin application whose manifest names no files is handed none. What its shim opens for
/// it, by SQL, as a socket or as a runtime configuration says, is in mounts to which others write than the kubelet, or where a configuration of
/// the image leads it.
pub fn may_reach_files(workload: &Workload, container: &Container, profile: &Profile) -> bool {
    let Some((facts, program)) = container.known() else { return true };
    let Program::Wasm { kind, .. } = program else { return true };
    let is_by_manifest = profile.ambient.runtime().hands_over(*kind) == Handover::SpinManifest;
    let Some(app) = spin_app(facts, program).filter(|_| is_by_manifest) else { return true };
    app.runtime_config.is_some()
        || app.components.iter().any(|component| !component.files.is_empty())
        || has_foreign_mounts(workload, container)
}

/// Whether a container has mounts that hold more than what the kubelet writes, or may have: those of `Pod::foreign_mounts`.
fn has_foreign_mounts(workload: &Workload, container: &Container) -> bool {
    let own = workload.container(container.role, container.index).unwrap_or_default();
    let volumes = workload.spec.volumes.as_deref().unwrap_or_default();
    if own.mounts.len() > MOST_MOUNTS || volumes.len() > MOST_MOUNTS {
        return true;
    }
    // Of two volumes with the same name, the first.
    let volume = |mount: &VolumeMount| volumes.iter().find(|volume| volume.name == mount.name);
    let is_filled = |mount: &VolumeMount| volume(mount).is_some_and(is_of_kubelet);
    !own.devices.is_empty() || !own.mounts.iter().all(is_filled)
}

impl<'a> RuntimeHost<'a> {
    /// The container's working directory, as it is written.
    pub fn working_directory(&self) -> &'a str {
        self.pod.working_dir().unwrap_or(&self.facts.working_dir)
    }

    /// Where a path leads in the container.
    pub fn leads(&self, path: &str) -> Leads {
        self.pod.leads(self.facts, path)
    }

    /// The runtime's family; one that no profile describes is assumed to hand over everything.
    fn family(&self) -> Family {
        self.profile.map_or(Family::Everything, |profile| profile.ambient)
    }

    /// A program that the runtime is not known to run is assumed to be handed everything: what a shim does with a kind
    /// that it was not made for is documented nowhere.
    fn handover(&self) -> Handover {
        let Program::Wasm { kind, .. } = self.program else { return Handover::Everything };
        match self.family().runtime().hands_over(*kind) {
            Handover::SpinManifest if spin_app(self.facts, self.program).is_none() => Handover::Everything,
            handover => handover,
        }
    }

    /// The runtime's name for messages.
    pub fn runtime(&self) -> Cow<'a, str> {
        match (self.profile, self.pod.runtime_class()) {
            (Some(profile), _) => format!("runtime {}", profile.name).into(),
            (None, Some(class)) => format!("RuntimeClass {class}, which no profile describes").into(),
            (None, None) => "no RuntimeClass".into(),
        }
    }

    /// Whether this unit is started at all: a variable of the container narrows a Spin app.
    pub fn starts(&self, unit: &Unit<'_>) -> bool {
        match (self.handover(), unit.component) {
            (Handover::SpinManifest, Some(component)) => self.keeps(component),
            _ => true,
        }
    }

    /// Whether a component of a Spin app is kept.
    pub fn keeps(&self, component: &SpinComponent) -> bool {
        self.handover() != Handover::SpinManifest || spin::retains(self, &component.id)
    }

    /// Whether every unit is handed the same, so that one computation is enough.
    pub fn treats_units_alike(&self) -> bool {
        self.handover() != Handover::SpinManifest
    }

    /// The folder that a program which opens files is handed, to write in it; `None` if there is none.
    fn opened_folder(&self) -> Option<String> {
        let root = || Some("/".to_string());
        let given = match self.handover() {
            Handover::Only(given) => given,
            // What Spin opens for a component is read-only.
            Handover::SpinManifest | Handover::SpinLayer => return None,
            Handover::Everything => return root(),
        };
        match given.files {
            Files::None => None,
            Files::Root => root(),
            Files::WorkingDirectory => match self.leads(self.working_directory()) {
                Leads::To(folder) => Some(folder),
                Leads::Anywhere => root(),
            },
        }
    }

    /// Whether a program that opens files is handed one by which all containers of the pod resolve names, to write in it.
    pub fn hands_over_names(&self) -> bool {
        self.opened_folder().is_some_and(|folder| !shared_files::below(self, &folder).is_empty())
    }

    /// What a program that opens files may write of the files that all containers of the pod share.
    pub fn shared_files(&self) -> Vec<Entry> {
        self.opened_folder().map(|folder| shared_files::writable(self, &folder)).unwrap_or_default()
    }

    /// What one unit is handed, sorted.
    pub fn hands_over(&self, unit: &Unit<'_>) -> Vec<Entry> {
        let handed = match (self.handover(), unit.component) {
            (Handover::Only(given), _) => handed_over::of(self, &given),
            (Handover::SpinManifest, Some(component)) => spin::component(self, component),
            (Handover::SpinLayer, _) => spin::layer(self),
            (Handover::SpinManifest, None) | (Handover::Everything, _) => self.everything(),
        };
        merge(handed.into_iter().map(|entry| resolved(self, entry)))
    }

    /// What the program as a whole is handed beside its units: a Spin app's triggers, and plug-ins loaded beside it.
    pub fn hands_over_to_app(&self) -> Vec<Entry> {
        merge(match self.handover() {
            Handover::SpinManifest | Handover::SpinLayer => spin::app(self),
            Handover::Everything => self.everything(),
            Handover::Only(_) => self.loads_plug_ins().then(|| plug_ins::loaded(self)).into_iter().collect(),
        })
    }

    /// Where the runtime itself sends telemetry, whatever the program can call.
    pub fn telemetry(&self) -> Vec<Entry> {
        let sends = self.family().runtime().sends_telemetry();
        let runs = |kind: &ImageKind| matches!(kind, ImageKind::SpinApp | ImageKind::HttpComponent);
        let sent = match self.program {
            Program::Wasm { kind, .. } if sends && runs(kind) => shim_variables::telemetry(self),
            _ => Vec::new(),
        };
        sent.into_iter().map(|entry| resolved(self, entry)).collect()
    }

    /// Where the runtime itself asks for messages of queues, if the pod or the image may lead it elsewhere than to AWS.
    pub fn queues(&self) -> Vec<Entry> {
        let asks = self.family().runtime().asks_queues();
        let app = spin_app(self.facts, self.program).filter(|_| asks);
        let asks = app.is_some_and(|app| is_started(app, handed::QUEUES, |component| self.keeps(component)));
        let sent = if asks { shim_variables::queues(self) } else { Vec::new() };
        sent.into_iter().map(|entry| resolved(self, entry)).collect()
    }

    /// Where the runtime itself connects to for messages that start the program, and what it sends there.
    pub fn listeners(&self) -> Vec<Entry> {
        let found =
            if self.handover() == Handover::SpinManifest { spin::listeners(self) } else { Vec::new() };
        found.into_iter().map(|entry| resolved(self, entry)).collect()
    }

    /// What comes with what the program can really do, by way of the runtime's own process.
    pub fn beyond(&self, effective: &[Entry]) -> Vec<Entry> {
        let mut found = if self.handover() == Handover::SpinManifest {
            spin::beyond(self, effective)
        } else {
            Vec::new()
        };
        if self.unpacks_archives() {
            found.extend(spin::unpacked(self));
        }
        found.into_iter().map(|entry| resolved(self, entry)).collect()
    }

    /// Whether the runtime may unpack archives of the image beside the mounts.
    fn unpacks_archives(&self) -> bool {
        self.facts.archives
            && matches!(self.program, Program::Wasm { .. })
            && self.family().runtime().reads_layers_inside()
    }

    /// What starts a single Wasm layer on the Spin shim, which wraps an application around it.
    pub fn starts_layer(&self) -> Option<Entry> {
        (self.handover() == Handover::SpinLayer).then(|| {
            let why = format!("{} gives a single Wasm layer an http trigger", self.runtime());
            Entry::new(Capability::Trigger, why).named("http")
        })
    }

    fn loads_plug_ins(&self) -> bool {
        !self.plugin_variables().is_empty() || self.loads_modules()
    }

    /// Whether the runtime loads modules of the C library's name service from the container.
    fn loads_modules(&self) -> bool {
        self.resolves_by_glibc() || self.looks_up_users()
    }

    /// Whether the runtime resolves names by libraries of the container.
    fn resolves_by_glibc(&self) -> bool {
        self.family().resolves_by_glibc() && !self.is_built_with_musl()
    }

    /// Whether the runtime looks up the container's user by libraries of the container. It does not where it is known that the
    /// container has a variable `HOME` with a value. Of a variable of the image only the name is known. A program that is
    /// not known may be native code itself.
    fn looks_up_users(&self) -> bool {
        let is_known = matches!(self.program, Program::Wasm { .. });
        let has_home = self.pod.literal("HOME").is_some_and(|home| !home.is_empty());
        is_known && self.family().looks_up_users_by_glibc() && !self.is_built_with_musl() && !has_home
    }

    fn is_built_with_musl(&self) -> bool {
        self.profile.is_some_and(|profile| profile.built_with_musl)
    }

    /// The variables that load native plug-ins, those of any runtime for a program that is handed everything.
    fn plugin_variables(&self) -> Vec<&'static str> {
        self.loading_family().plugin_variables()
    }

    /// The folders from which the runtime loads native plug-ins, whatever the program is.
    fn plugin_folders(&self) -> Vec<&'static str> {
        self.family().plugin_folders()
    }

    fn loading_family(&self) -> Family {
        let all = self.handover() == Handover::Everything;
        if all { Family::Everything } else { self.family() }
    }

    /// Whether the program is a command component that cannot be linked because it imports `wasi:http`.
    pub fn lacks_http(&self) -> bool {
        matches!(self.program, Program::Wasm { kind, .. } if self.family().runtime().lacks_http(*kind))
    }

    /// All capabilities without parameters, and what the pod spec names.
    fn everything(&self) -> Vec<Entry> {
        let why = format!("{}: taken to hand over everything", self.runtime());
        // Devices come from the node, where the pod asks for one, and not from the runtime.
        let by_runtime = Capability::ALL.iter().filter(|capability| **capability != Capability::Device);
        let mut entries: Vec<Entry> = by_runtime.map(|c| Entry::new(*c, &*why)).collect();
        entries.extend_from_slice(self.pod.mounts());
        entries.extend(self.variables());
        entries.extend(self.pod.secret_arguments());
        entries.extend(handed_over::kernel(self, "/", &why, true));
        entries
    }

    /// The container's variables: the pod's, then those of the image that the pod does not replace, then those that
    /// every container gets.
    fn variables(&self) -> Vec<Entry> {
        let own =
            |name: &str, evidence: &str| Entry::new(Capability::Env, evidence).named(name).mark_own(true);
        let mut entries = self.pod.variables();
        let image = self.facts.env.iter().filter(|name| !self.pod.sets(name));
        entries.extend(image.map(|name| own(name, &format!("env {name} of the image"))));
        let platform = self.pod.platform_variables();
        entries.extend(platform.into_iter().map(|(name, evidence)| own(name, evidence)));
        entries
    }
}
