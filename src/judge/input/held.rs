//! Whether NetworkPolicies can hold a pod to its grants, and what they come to then.

use std::sync::Arc;

use super::document::Effective;
use crate::capability::Entry;
use crate::grant::WasiGrant;
use crate::grant::held::{Holding, PodGrants, holding};
use crate::inspection::{Inspection, ProgramClass};
use crate::workload::Workload;

/// Why no `NetworkPolicy` holds the programs of a pod to their grants, whatever its profile says; `None` if one can.
pub(super) fn obstacle(workload: &Workload, inspection: &Inspection) -> Option<&'static str> {
    // One that is added later changes nothing about the policy that binds the pod.
    let mut programs = inspection.containers.iter().filter(|container| container.role.starts_with_pod());
    if workload.spec.host_network == Some(true) {
        Some("no NetworkPolicy applies to a pod on the network of its node (`hostNetwork: true`)")
    } else if workload.labels.is_empty() {
        Some("the pod has no label by which a NetworkPolicy could select it")
    } else if programs.any(|container| container.class() != ProgramClass::Wasm) {
        Some("a NetworkPolicy binds the whole pod, and no grant says where its other programs connect")
    } else {
        None
    }
}

/// An entry with what NetworkPolicies make of the grants of its container, if none covers it as it is. `pod` is `None` where the
/// profile says nothing of policies.
pub(super) fn held(mut entry: Entry, own: &[Arc<WasiGrant>], pod: Option<&PodGrants>) -> Effective {
    let open = pod.filter(|_| entry.covered_by.is_empty());
    let (mut held_by_network_policy, mut not_held) = (Vec::new(), None);
    match open.and_then(|pod| holding(&entry, own, pod)) {
        Some(Holding::To(labels)) => {
            entry.covered_by.clone_from(&labels);
            held_by_network_policy = labels;
        }
        Some(Holding::Not(why)) => not_held = Some(why),
        None => {}
    }
    Effective { entry, needs_grant: None, expired_grants: Vec::new(), held_by_network_policy, not_held }
}
