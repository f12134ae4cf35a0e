//! What the pod spec hands to programs and no grant covers, as far as the gate may take it away
//! (`runtimes.profiles[].hardening`). Facts only; `plan::harden` writes the changes.
//!
//! The token, and writing to a mount, are taken only where the validating webhook would refuse the pod because of them. So
//! nothing is taken from a pod that would run with it: under an exception, in a namespace whose enforcement action only
//! warns, or with a rule whose action was lowered, the pod keeps them. Nor is anything taken that an expired grant covered:
//! a person said that the program needs it, and a refusal says why it has it no longer.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self as k8s, Volume, VolumeMount, VolumeProjection};
use serde_json::{Map, Value};

use super::enforcement::{Enforcement, EnforcementSettings};
use crate::capability::ambient::is_writable_below;
use crate::capability::{self, Access, Capabilities, Capability, Entry, SERVICE_LINKS, glob};
use crate::cluster::Cluster;
use crate::grant::exception::{Exceptions, PodIdentity, ViolationScope};
use crate::grant::{Grants, Subject, WasiGrant, cover, suggest};
use crate::image::mounts::Mounts;
use crate::image::prefix::Unpinned;
use crate::image::{Program, entry};
use crate::inspection::{self, Container, Inspection};
use crate::plan::harden::{KEEP_ANNOTATION, LINKS, Token, WritableMount};
use crate::plan::{Surplus, pin};
use crate::policy::EnforcementAction;
use crate::runtime::{HardeningMode, Profile};
use crate::workload::managed::{self, Managed};
use crate::workload::{Role, TOKEN_VOLUME, Workload};

/// The rules of the baseline that refuse a file which no grant covers. Nothing is taken from a pod that they would not refuse.
pub const REFUSE_FILES: [&str; 2] = ["secret-in-reach", "needs-grant"];

/// Everything on which it depends what may be taken from a pod.
#[derive(Debug)]
pub struct HardeningCase<'a> {
    /// The object as it was sent.
    pub object: &'a Value,
    /// Its managed fields, where they are not in it.
    pub managed: Managed<'a>,
    /// Its pod spec.
    pub workload: &'a Workload,
    /// What its containers start.
    pub inspection: &'a Inspection,
    /// The runtime of the pod.
    pub profile: &'a Profile,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The grants.
    pub grants: &'a Grants,
    /// The exceptions.
    pub exceptions: &'a Exceptions,
    /// The rules of all bundles that decide; `None` if a bundle does not list them.
    pub rules: Option<&'a BTreeSet<String>>,
    /// The enforcement actions of rules.
    pub settings: &'a EnforcementSettings,
    /// Enforcement in the pod's namespace.
    pub enforcement: &'a Enforcement,
    /// The images that keep their tags.
    pub unpinned: &'a Unpinned,
    /// The time, which decides whether a grant has expired.
    pub now: Timestamp,
}

/// A container with a Wasm program, and what is granted to it.
struct Looked<'a> {
    container: &'a Container,
    image: String,
    grants: Vec<Arc<WasiGrant>>,
    expired: Vec<Arc<WasiGrant>>,
    capabilities: Capabilities,
}

/// What is to be taken from the pod.
pub fn surplus(case: &HardeningCase<'_>) -> Surplus {
    let looked: Vec<Looked<'_>> = case.wasm().map(|container| case.look(container)).collect();
    if looked.is_empty() {
        return Surplus::default();
    }
    let (token, token_stays) = case.token(&looked);
    Surplus {
        token,
        token_stays,
        mounts: looked.iter().flat_map(|looked| case.writable(looked)).collect(),
        service_links: case.service_links(&looked),
    }
}

impl<'a> HardeningCase<'a> {
    /// The containers that start a Wasm program with the pod.
    fn wasm(&self) -> impl Iterator<Item = &'a Container> {
        let containers = self.inspection.containers.iter();
        containers.filter(|container| container.role.starts_with_pod() && is_wasm(container))
    }

    /// A container that starts anything but Wasm, as far as is known: what is taken from the pod is taken from it too.
    fn other(&self) -> Option<&'a Container> {
        let starts = |container: &&Container| container.role.starts();
        self.inspection.containers.iter().filter(starts).find(|container| !is_wasm(container))
    }

    fn look(&self, container: &'a Container) -> Looked<'a> {
        let image = pin::pinned(container, self.unpinned);
        let none = BTreeMap::new();
        let subject = Subject {
            namespace: &self.workload.namespace,
            namespace_labels: self.cluster.namespaces.get(&self.workload.namespace).unwrap_or(&none),
            service_account: self.workload.service_account(),
            labels: &self.workload.labels,
            image: &image,
        };
        let grants = self.grants.matching(&subject, self.now);
        let expired = self.grants.expired_matching(&subject, self.now);
        // Of what it can do its files alone matter here.
        let has_files = || capability::may_reach_files(self.workload, container, self.profile);
        let capabilities = if self.may_take_files(container) && has_files() {
            self.assess(self.workload, container, &grants)
        } else {
            Capabilities::default()
        };
        Looked { container, image, grants, expired, capabilities }
    }

    /// Whether the token, or writing to a mount, may be taken from a container. Otherwise it does not matter what it can do.
    fn may_take_files(&self, container: &Container) -> bool {
        let own = self.workload.container(container.role, container.index).unwrap_or_default();
        let unsaid = own.mounts.iter().any(|mount| mount.read_only.is_none());
        self.may_take_token() || (unsaid && self.profile.hardening.read_only != HardeningMode::Off)
    }

    /// Whether the token is taken where nothing speaks for it.
    fn may_take_token(&self) -> bool {
        let mode = self.profile.hardening.automount_service_account_token;
        mode != HardeningMode::Off && self.workload.spec.automount_service_account_token.is_none()
    }

    fn assess(&self, workload: &Workload, container: &Container, grants: &[Arc<WasiGrant>]) -> Capabilities {
        let mut found = capability::assess(workload, container, Some(self.profile));
        cover::cover(&mut found.effective, grants);
        cover::cover(&mut found.ambient, grants);
        found
    }

    /// Whether the validating webhook would refuse a container for a file that no grant covers.
    fn refuses_files(&self, looked: &Looked<'_>) -> bool {
        let pod = PodIdentity {
            namespace: &self.workload.namespace,
            service_account: self.workload.service_account(),
            labels: &self.workload.labels,
        };
        let exempted = |rule| {
            let scope = ViolationScope {
                rule,
                container: Some(&looked.container.name),
                capability: Some(Capability::Fs.as_str()),
            };
            let images = [looked.image.as_str()];
            self.settings.may_exempt(rule) && self.exceptions.of(&pod, &images, &scope, self.now).is_some()
        };
        REFUSE_FILES.into_iter().all(|rule| {
            self.rules.is_none_or(|known| known.contains(rule))
                && self.settings.action(self.enforcement, rule, None) == EnforcementAction::Deny
                && !exempted(rule)
        })
    }

    // === The token ===

    /// The token, or why it stays although no grant covers it.
    fn token(&self, looked: &[Looked<'_>]) -> (Option<Token>, Option<String>) {
        let kept = (None, None);
        if !self.may_take_token() {
            return kept;
        }
        let (mut containers, mut needs_grant, mut taken) = (Vec::new(), None, None);
        // Where no secret file is handed over, none goes with the token.
        for looked in looked.iter().filter(|looked| looked.has_secret_file()) {
            let (_, without) = taken.get_or_insert_with(|| self.without_token());
            let left = self.assess(without, looked.container, &looked.grants);
            let ambient = lost(&looked.capabilities.ambient, &left.ambient);
            let effective = lost(&looked.capabilities.effective, &left.effective);
            let both = || ambient.iter().chain(&effective);
            if both().any(|entry| !entry.covered_by.is_empty() || covers(&looked.expired, entry)) {
                return kept;
            }
            let Some(reached) = effective.first() else { continue };
            if !self.refuses_files(looked) {
                return kept;
            }
            containers.push(looked.container.name.clone());
            needs_grant.get_or_insert_with(|| suggest::needed_grant(reached));
        }
        let volumes = taken.map(|(volumes, _)| volumes).unwrap_or_default();
        match (needs_grant, self.other()) {
            (None, _) => kept,
            (Some(_), Some(other)) => (None, Some(stays_for(other))),
            (Some(needs_grant), None) => (Some(Token { containers, volumes, needs_grant }), None),
        }
    }

    /// The workload without its token, and the volumes that go with it.
    fn without_token(&self) -> (BTreeSet<String>, Workload) {
        let volumes = self.volumes_of_plug_in();
        let without = without_token(self.workload, &volumes);
        (volumes, without)
    }

    /// The volumes that the ServiceAccount plug-in added: named and made as it does, and owned by no field manager. Of a
    /// pod without a list of owners none counts, since a person may have copied it from one that ran.
    fn volumes_of_plug_in(&self) -> BTreeSet<String> {
        let owned = self.metadata().and_then(|metadata| owned_volumes(&metadata));
        let Some(owned) = owned else { return BTreeSet::new() };
        let volumes = self.workload.spec.volumes.iter().flatten();
        let made = volumes.filter(|volume| is_of_plug_in(volume) && !owned.contains(&volume.name));
        made.map(|volume| volume.name.clone()).collect()
    }

    /// The metadata of the pod or of its template, with managed fields.
    fn metadata(&self) -> Option<Cow<'a, Map<String, Value>>> {
        let pod = self.object.pointer(self.workload.kind.template_pointer())?;
        Some(self.managed.with(pod.get("metadata")?.as_object()?))
    }

    // === Mounts ===

    /// The writable mounts of a container of which its grants allow reading only.
    fn writable(&self, looked: &Looked<'_>) -> Vec<WritableMount> {
        let Container { role, index, name, .. } = looked.container;
        let Some((facts, _)) = looked.container.known() else { return Vec::new() };
        if self.profile.hardening.read_only == HardeningMode::Off {
            return Vec::new();
        }
        let trees = looked.readable();
        if trees.is_empty() {
            return Vec::new();
        }
        let container = self.workload.container(*role, *index).unwrap_or_default();
        let (spec, is_ephemeral) = (&self.workload.spec, *role == Role::EphemeralContainer);
        let places = Mounts::new(facts, &inspection::mounts(spec, &container, is_ephemeral));
        // A person's `false` is seen in a manifest only: the API server leaves it out.
        let unsaid =
            container.mounts.iter().zip(places.places()).filter(|(mount, _)| mount.read_only.is_none());
        let name: Arc<str> = name.as_str().into();
        // Of two of one name the first. A tenant chooses how many there are.
        let volumes: BTreeMap<&str, &Volume> =
            spec.volumes.iter().flatten().rev().map(|volume| (volume.name.as_str(), volume)).collect();
        let volume = |mount: &VolumeMount| volumes.get(mount.name.as_str()).copied();
        let found = unsaid.filter_map(|(mount, path)| {
            let written = &mount.mount_path;
            let writes = looked.writes(path);
            let harmless = !writes || self.refuses_files(looked);
            (trees.contains(path) && harmless).then(|| WritableMount {
                role: *role,
                index: *index,
                container: Arc::clone(&name),
                mount_path: written.clone(),
                program_writes: writes,
                below: volume(mount).is_some_and(|volume| is_writable_below(volume, mount)),
            })
        });
        found.collect()
    }

    // === Service links ===

    fn service_links(&self, looked: &[Looked<'_>]) -> bool {
        // One that has expired counts: the program runs on without it, and should not lose its links with it.
        let grants_variable = |looked: &Looked<'_>| {
            looked
                .grants
                .iter()
                .chain(&looked.expired)
                .flat_map(|grant| &grant.spec.capabilities)
                .any(|one| one.name == Capability::Env)
        };
        self.profile.hardening.enable_service_links == HardeningMode::Fill
            && self.workload.spec.enable_service_links != Some(false)
            && self.workload.annotations.get(KEEP_ANNOTATION).is_none_or(|kept| kept.trim() != LINKS)
            && self.other().is_none()
            && !looked.iter().any(grants_variable)
            && !self.containers().any(names_a_link)
            // The API server writes `true` too, so it counts as a person's only where one applied it. Asked last: it reads the
            // annotation in which that is noted.
            && !self.metadata().is_some_and(|metadata| managed::is_applied(&metadata, LINKS))
    }

    /// The containers that start with the pod, as they are written.
    fn containers(&self) -> impl Iterator<Item = &'a k8s::Container> {
        let spec = &self.workload.spec;
        spec.containers.iter().chain(spec.init_containers.iter().flatten())
    }
}

impl Looked<'_> {
    /// The trees that are handed over for writing and that only grants for reading cover.
    fn readable(&self) -> BTreeSet<&str> {
        let handed = self.capabilities.ambient.iter().filter(|entry| entry.capability == Capability::Fs);
        let (open, kept): (Vec<&Entry>, Vec<&Entry>) = handed.partition(|entry| {
            let reading = Entry { access: Some(Access::ReadOnly), ..(*entry).clone() };
            entry.access == Some(Access::ReadWrite)
                && entry.covered_by.is_empty()
                && covers(&self.grants, &reading)
                && !covers(&self.expired, entry)
        });
        let kept: BTreeSet<&str> = kept.into_iter().filter_map(|entry| entry.path.as_deref()).collect();
        let open = open.into_iter().filter_map(|entry| entry.path.as_deref());
        open.filter(|path| !kept.contains(path)).collect()
    }

    /// Whether a secret file is handed over or reached.
    fn has_secret_file(&self) -> bool {
        self.capabilities.ambient.iter().chain(&self.capabilities.effective).any(is_secret_file)
    }

    /// Whether the program can write at a path.
    fn writes(&self, path: &str) -> bool {
        self.capabilities.effective.iter().any(|entry| {
            entry.capability == Capability::Fs
                && entry.access != Some(Access::ReadOnly)
                && entry.path.as_deref() == Some(path)
        })
    }
}

/// Whether the kubelet completes a text of the container by a variable that only service links set: its author counts on them
/// (`kubernetes:pkg/kubelet/kubelet_pods.go`, `makeEnvironmentVariables`). Those of the API server's own Service stay in any case.
fn names_a_link(container: &k8s::Container) -> bool {
    let env = container.env.iter().flatten();
    let set: BTreeSet<&str> = env.clone().map(|variable| variable.name.as_str()).collect();
    let values = env.filter_map(|variable| variable.value.as_ref());
    let places = container.volume_mounts.iter().flatten().filter_map(|mount| mount.sub_path_expr.as_ref());
    let lists = container.command.iter().chain(&container.args).flatten();
    let mut names = lists.chain(values).chain(places).flat_map(|text| entry::references(text));
    names.any(|name| {
        let own = ["KUBERNETES_SERVICE_", "KUBERNETES_PORT"].iter().any(|begin| name.starts_with(begin));
        !own && !set.contains(name) && SERVICE_LINKS.iter().any(|pattern| glob::covers(pattern, name))
    })
}

fn is_wasm(container: &Container) -> bool {
    matches!(container.known(), Some((_, Program::Wasm { .. })))
}

fn covers(grants: &[Arc<WasiGrant>], entry: &Entry) -> bool {
    grants.iter().flat_map(|grant| &grant.spec.capabilities).any(|granted| cover::covers(granted, entry))
}

fn is_secret_file(entry: &Entry) -> bool {
    entry.capability == Capability::Fs && entry.secret && entry.path.is_some()
}

/// The secret files that are handed over before and not after.
fn lost<'e>(before: &'e [Entry], after: &[Entry]) -> Vec<&'e Entry> {
    let after: BTreeSet<&Entry> = after.iter().collect();
    before.iter().filter(|entry| is_secret_file(entry)).filter(|entry| !after.contains(entry)).collect()
}

fn stays_for(other: &Container) -> String {
    format!(
        "the service-account token stays mounted in the whole pod: container `{}` starts something else than Wasm and may \
         need it; write `automountServiceAccountToken: false` if it does not",
        other.name
    )
}

/// The workload as if its author had written `automountServiceAccountToken: false`.
fn without_token(workload: &Workload, volumes: &BTreeSet<String>) -> Workload {
    let mut without = workload.clone();
    let spec = &mut without.spec;
    spec.automount_service_account_token = Some(false);
    if let Some(list) = &mut spec.volumes {
        list.retain(|volume| !volumes.contains(&volume.name));
    }
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(list) = &mut container.volume_mounts {
            list.retain(|mount| !volumes.contains(&mount.name));
        }
    }
    without
}

/// The volumes that came with the request; `None` where no field manager owns a container, so that the list was cut out or
/// never made.
fn owned_volumes(metadata: &Map<String, Value>) -> Option<BTreeSet<String>> {
    let (mut found, mut known) = (BTreeSet::new(), false);
    for spec in managed::owned_specs(metadata) {
        known |= spec.get("f:containers").is_some();
        let volumes = spec.get("f:volumes").and_then(Value::as_object);
        found.extend(volumes.into_iter().flatten().filter_map(|(key, _)| managed::name_in(key)));
    }
    known.then_some(found)
}

/// Whether a volume looks like the one that the ServiceAccount plug-in makes
/// (`kubernetes:plugin/pkg/admission/serviceaccount/admission.go`, `TokenVolumeSource`).
fn is_of_plug_in(volume: &Volume) -> bool {
    let token = |source: &VolumeProjection| {
        source
            .service_account_token
            .as_ref()
            .is_some_and(|token| token.audience.is_none() && token.path == "token")
    };
    let sources = volume.projected.as_ref().and_then(|projected| projected.sources.as_deref());
    volume.name.starts_with(TOKEN_VOLUME) && sources.is_some_and(|sources| sources.iter().any(token))
}
