//! `wasmgate suggest --network-policy`: holds pods to the addresses of their grants where the runtime does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Suggestion, dns_name, summary};
use crate::admission::{Examined, Judged};
use crate::capability::Capability;
use crate::cli::manifest::Manifest;
use crate::cli::report::{Container, JudgedFacts};
use crate::grant::held::grant_for;
use crate::grant::network::{NetworkDraft, Unexpressed, leads_anywhere};
use crate::grant::{GrantedCapability, WasiGrant};
use crate::inspection::ProgramClass;
use crate::judge::input::Effective;
use crate::workload::Workload;

/// The policy for the pods of one object, or why there is none.
pub(super) fn of(
    manifest: &Manifest,
    examined: &Examined<JudgedFacts>,
    judged: &Judged<JudgedFacts>,
) -> Suggestion {
    let (workload, kept) = (&examined.workload, &judged.kept);
    if workload.spec.host_network == Some(true) {
        return blocked(
            "the pods are on the node's network (`hostNetwork: true`), to which no NetworkPolicy applies; give them a network of \
             their own"
                .to_string(),
        );
    }
    if let Some(other) = other_program(kept) {
        return blocked(format!(
            "a NetworkPolicy binds the whole pod, and container `{}` starts something else than Wasm, whose connections no \
             grant lists; write one by hand, or give it a pod of its own",
            other.found.name
        ));
    }
    if !kept.containers.iter().any(reaches_any_host)
        && !kept.grants.iter().any(|grant| lets_native_code_in(grant))
    {
        return summary(
            "its runtime hands over no network, or limits the hosts by itself: no policy is needed",
        );
    }
    let labels = selecting(manifest, workload);
    if labels.is_empty() {
        return blocked(
            "the pods have no label by which a NetworkPolicy could select them; add one".to_string(),
        );
    }
    drafted(workload, &labels, kept)
}

fn drafted(workload: &Workload, labels: &BTreeMap<String, String>, kept: &JudgedFacts) -> Suggestion {
    let name = if workload.name.is_empty() { "new" } else { &workload.name };
    let draft = NetworkDraft {
        name: &format!("{}-network", dns_name(name)),
        namespace: &workload.namespace,
        labels,
        grants: &kept.grants,
    }
    .draft();
    let refused = not_admitted(kept);
    let summary = match (refused.is_empty(), draft.unexpressed.is_empty()) {
        (true, true) => "this policy holds it to the addresses and ports of its grants",
        (true, false) => "this policy cuts off a part of what its grants allow",
        (false, _) => "this policy is for grants that do not admit it on this runtime",
    };
    let blocked = refused.into_iter().chain(draft.unexpressed.iter().map(cut_off)).collect();
    let general = "a NetworkPolicy sees addresses after Service translation: for a Service, grant the addresses of its pods; it does \
                   nothing where the network plug-in does not enforce it, and another one that selects the same pods allows \
                   more; try it on your plug-in";
    let configured = draft.configured.iter().map(|grant| led_elsewhere(grant));
    let warnings = std::iter::once(general.to_string()).chain(configured).collect();
    let grants = vec![draft.yaml];
    Suggestion { summary: summary.to_string(), grants, warnings, blocked, ..Suggestion::default() }
}

/// Which grants do not admit the pod although the policy makes them true, and what would.
fn not_admitted(kept: &JudgedFacts) -> Vec<String> {
    let of_container = |container: &Container| -> Vec<String> {
        let effective = container.capabilities.iter().flat_map(|found| &found.effective);
        let open = effective.filter(|effective| effective.entry.covered_by.is_empty());
        let refused = open.filter_map(|effective| why_refused(effective, kept));
        refused.map(|why| format!("container `{}`: {why}", container.found.name)).collect()
    };
    kept.containers.iter().flat_map(of_container).collect()
}

/// Why the grant for an entry that none covers does not admit the pod; `None` where none says anything of it.
fn why_refused(effective: &Effective, kept: &JudgedFacts) -> Option<String> {
    let Effective { entry, not_held, .. } = effective;
    if let Some(why) = not_held {
        return Some(format!("{why}; so the pod is not admitted"));
    }
    if entry.capability == Capability::NetDns {
        let named = |grant: &&Arc<WasiGrant>| grant.spec.capabilities.iter().any(is_look_up_by_name);
        let grant = kept.grants.iter().find(named)?;
        return Some(format!(
            "`{}` does not admit the pod: no NetworkPolicy tells one look-up from another; grant `{}` without hosts",
            grant.label(),
            entry.capability
        ));
    }
    // Where policies are said to hold the pods, every grant that is for the entry was looked at.
    let grant = grant_for(entry, &kept.grants).filter(|_| !kept.has_network_policies)?;
    let (reached, wider) = if entry.capability == Capability::NetListen {
        ("on any port", "grant it without ports")
    } else {
        ("to any host", "grant any host (`*://*:*`), and this policy has a rule for any address")
    };
    Some(format!(
        "`{}` does not admit the pod on this runtime, which allows `{}` {reached}: a grant covers that as a whole or not at all; write \
         `networkPolicies: enforced` into the runtime's profile if NetworkPolicies hold its pods, or {wider}",
        grant.label(),
        entry.capability
    ))
}

/// Whether an item of a grant is for look-ups of some names.
fn is_look_up_by_name(item: &GrantedCapability) -> bool {
    item.name == Capability::NetDns && item.hosts.is_some()
}

/// What the policy cuts off, and what to do about it.
fn cut_off(unexpressed: &Unexpressed) -> String {
    match unexpressed {
        Unexpressed::Name(host) => format!(
            "{host} is cut off: a NetworkPolicy knows addresses and no names; add the addresses, or use a policy of the network \
             plug-in that knows names (Cilium `toFQDNs`)"
        ),
        Unexpressed::Datagrams(grant) => format!(
            "{grant} is cut off where the pod is asked first: the policy lets in TCP on the ports of its grants, and no grant says \
             on which ports datagrams come in; add these under `ingress` (`protocol: UDP`), or leave it if the pod only asks"
        ),
    }
}

/// What the policy cuts off if the configuration of the runtime leads it out of the pod.
fn led_elsewhere(grant: &str) -> String {
    format!(
        "{grant} goes where the configuration of the runtime says, and no grant names that: if it is another host, the policy cuts \
         it off; add its address under `egress`"
    )
}

fn blocked(why: String) -> Suggestion {
    Suggestion { blocked: vec![why], ..summary("no policy can be written") }
}

/// The first container with a program to which no grant applies.
fn other_program(kept: &JudgedFacts) -> Option<&Container> {
    // An ephemeral container changes nothing about the policy that binds the pod.
    let starts = |container: &&Container| container.found.role.starts_with_pod();
    kept.containers.iter().filter(starts).find(|container| container.found.class != ProgramClass::Wasm)
}

/// Whether the runtime hands a program connections to anywhere, or one of its clients does, such as those of Spin's databases.
fn reaches_any_host(container: &Container) -> bool {
    container.capabilities.as_ref().is_some_and(|found| found.ambient.iter().any(leads_anywhere))
}

/// Whether a grant trusts the program like a native one, which opens what sockets it likes, whatever its runtime hands over.
fn lets_native_code_in(grant: &WasiGrant) -> bool {
    let native = [Capability::NativeExec, Capability::NativePlugin];
    grant.spec.capabilities.iter().any(|granted| native.contains(&granted.name))
}

/// The labels that select the pods: those by which a controller knows its own, which cannot change, or else all of the pod's.
fn selecting(manifest: &Manifest, workload: &Workload) -> BTreeMap<String, String> {
    let own = manifest.object.pointer("/spec/selector/matchLabels").cloned();
    let own: Option<BTreeMap<String, String>> = own.and_then(|own| serde_json::from_value(own).ok());
    own.filter(|own| !own.is_empty()).unwrap_or_else(|| workload.labels.clone())
}
