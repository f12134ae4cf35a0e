//! `wasmgate suggest --network-policy`: holds pods to the addresses of their grants where the runtime does not.

use std::collections::BTreeMap;

use super::{Suggestion, dns_name, summary};
use crate::admission::{Examined, Judged};
use crate::capability::host::Destination;
use crate::capability::{Capability, Entry, WrittenHost};
use crate::cli::manifest::Manifest;
use crate::cli::report::{Container, JudgedFacts};
use crate::grant::WasiGrant;
use crate::grant::network::{NetworkDraft, Unexpressed, is_outgoing};
use crate::inspection::ProgramClass;
use crate::workload::{Role, Workload};

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
    let blocked: Vec<String> = draft.unexpressed.iter().map(cut_off).collect();
    let summary = if blocked.is_empty() {
        "this policy holds it to the addresses and ports of its grants"
    } else {
        "this policy cuts off a part of what its grants allow"
    };
    let general = "a NetworkPolicy sees addresses after Service translation: for a Service, grant the addresses of its pods; it does \
                   nothing where the network plug-in does not enforce it, and another one that selects the same pods allows \
                   more; try it on your plug-in";
    let configured = draft.configured.iter().map(|grant| led_elsewhere(grant));
    let warnings = std::iter::once(general.to_string()).chain(configured).collect();
    let grants = vec![draft.yaml];
    Suggestion { summary: summary.to_string(), grants, warnings, blocked, ..Suggestion::default() }
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
    let starts = |container: &&Container| container.found.role != Role::ImageVolume;
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

/// Any host and port, be it of one scheme: a packet filter sees none.
fn leads_anywhere(entry: &Entry) -> bool {
    let host = entry.host.as_ref().map(WrittenHost::pattern);
    let any = host.is_none_or(|host| host.destination() == Destination::Any && host.ports().is_none());
    any && is_outgoing(entry.capability)
}

/// The labels that select the pods: those by which a controller knows its own, which cannot change, or else all of the pod's.
fn selecting(manifest: &Manifest, workload: &Workload) -> BTreeMap<String, String> {
    let own = manifest.object.pointer("/spec/selector/matchLabels").cloned();
    let own: Option<BTreeMap<String, String>> = own.and_then(|own| serde_json::from_value(own).ok());
    own.filter(|own| !own.is_empty()).unwrap_or_else(|| workload.labels.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_no_list_holds_to_its_hosts_leads_anywhere() {
        for (capability, host, expected) in [
            (Capability::DbPostgres, "postgres://*:*", true),
            (Capability::NetTcpConnect, "*://*:*", true),
            (Capability::HttpOutbound, "https://*:443", false),
            (Capability::HttpOutbound, "https://api.example.com", false),
            (Capability::HttpInbound, "*://*:*", false),
        ] {
            let entry = Entry::new(capability, "x").to_host(host.parse().unwrap());
            assert_eq!(leads_anywhere(&entry), expected, "{host}");
        }
        assert!(leads_anywhere(&Entry::new(Capability::Mqtt, "x")));
    }
}
