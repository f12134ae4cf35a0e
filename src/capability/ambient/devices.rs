//! Devices that a pod asks for. What the node adds to a container for one is in no pod spec: device files, mounts of the node's
//! folders, variables and hooks. The platform decides what that is, and the pod whether it comes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodResourceClaim, ResourceRequirements};

use super::RuntimeHost;
use crate::capability::{Capability, Entry, MAX_ENTRIES};
use crate::image::annotation;

/// What a node adds for one, as evidence.
const ADDED: &str = "the node adds device files, mounts, variables and hooks that are in no pod spec, and a mount may hide the program";

/// What CRI-O adds for one that an annotation names, as evidence.
const BY_CRIO: &str = "CRI-O adds the device file of the node to each container of the pod";

/// Most claims of a pod that are told apart by their names. Each container may name each of them.
const MOST_CLAIMS: usize = 64;

/// The devices of a container: by the names of extended resources, for which a device plugin answers or a driver of claims, and by
/// the claims that it names (`kubernetes:pkg/kubelet/cm/devicemanager/manager.go`, `Allocate`; `…/cm/dra/manager.go`,
/// `GetResources`). An annotation `cdi.k8s.io/…` of a pod asks for none: containerd and CRI-O read those of the container, which
/// the kubelet writes (`kubernetes:pkg/kubelet/kuberuntime/labels.go`, `newContainerAnnotations`). Two of CRI-O's own do.
pub(in crate::capability) fn devices(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let spec = host.pod.spec();
    let declared = spec.resource_claims.as_deref().filter(|claims| claims.len() <= MOST_CLAIMS);
    let declared = declared.unwrap_or_default();
    let resources: Vec<&ResourceRequirements> =
        host.pod.resources().into_iter().chain(&spec.resources).collect();
    let amounts = resources.iter().flat_map(|all| all.limits.iter().chain(&all.requests)).flatten();
    let asked: BTreeSet<&str> = amounts
        .filter(|(name, amount)| !is_of_kubelet(name) && amount.0 != "0")
        .map(|(name, _)| name.as_str())
        .collect();
    let by_name = asked
        .into_iter()
        .map(|name| Entry::new(Capability::Device, format!("resources {name}: {ADDED}")).named(name));
    let claims: BTreeSet<&str> = resources
        .iter()
        .flat_map(|all| all.claims.iter().flatten())
        .map(|claim| claim.name.as_str())
        .collect();
    let by_claim = claims.into_iter().map(|name| claimed(name, declared.iter().find(|one| one.name == name)));
    // Those of both annotations: older versions of CRI-O know the second alone.
    let by_annotation =
        annotation::devices(host.pod.annotations()).flat_map(|(key, value)| annotated(key, value));
    // A tenant chooses how many there are. Of more than are told apart, one stands for all.
    by_name.take(MAX_ENTRIES + 1).chain(by_claim.take(MAX_ENTRIES + 1)).chain(by_annotation).collect()
}

/// The device files that an annotation names, each by its path on the node: `PATH[:PATH IN THE CONTAINER][:MODE]`, with commas between
/// them (`cri-o:internal/config/device/device_linux.go`, `DevicesFromAnnotation`). Of more than are told apart, one stands for all.
fn annotated(key: &str, value: &str) -> Vec<Entry> {
    let entry = || Entry::new(Capability::Device, format!("annotation {key}: {BY_CRIO}"));
    let devices = || value.split(',').filter(|device| !device.is_empty());
    if devices().take(MAX_ENTRIES + 1).count() > MAX_ENTRIES {
        return vec![entry()];
    }
    let paths: BTreeSet<&str> =
        devices().map(|device| device.split_once(':').map_or(device, |(path, _)| path)).collect();
    paths.into_iter().map(|path| if path.is_empty() { entry() } else { entry().named(path) }).collect()
}

/// Resources for which the kubelet adds nothing to a container
/// (`kubernetes:pkg/apis/core/helper/helpers.go`, `IsStandardContainerResourceName`).
fn is_of_kubelet(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
        || (name.starts_with("hugepages-") && !name.contains('/'))
}

/// The entry of a claim. The names of claims and templates have a word before them that no resource begins with, whose names begin
/// with a domain. Without a name, it is any device: the spec declares no such claim, or one of a kind that is not known here.
fn claimed(name: &str, declared: Option<&PodResourceClaim>) -> Entry {
    let entry = Entry::new(Capability::Device, format!("resources.claims {name}: {ADDED}"));
    match declared {
        Some(PodResourceClaim { resource_claim_name: Some(claim), .. }) => {
            entry.named(format!("resourceClaim/{claim}"))
        }
        Some(PodResourceClaim { resource_claim_template_name: Some(template), .. }) => {
            entry.named(format!("resourceClaimTemplate/{template}"))
        }
        _ => entry,
    }
}
