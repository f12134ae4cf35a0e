//! What grants with addresses or ports come to where NetworkPolicies hold pods to them (`runtimes.profiles[].networkPolicies`). A
//! `NetworkPolicy` binds a whole pod, and sees protocols and no capabilities: by one protocol a program reaches all that any grant of
//! its pod lets out. So a grant counts only where no other one lets the pod further.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::network::{self, Use, network_use};
use super::types::{GrantedCapability, WasiGrant};
use crate::capability::host::Destination;
use crate::capability::{Entry, WrittenHost};

/// What NetworkPolicies hold a pod to: the grants of all its containers; or why none can hold it.
pub type PodGrants = Result<Vec<Arc<WasiGrant>>, &'static str>;

/// What grants come to for an entry that none of them covers as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// A `NetworkPolicy` holds the program to the addresses or ports in these, by label.
    To(Vec<String>),
    /// None does: a sentence that names a grant for the capability.
    Not(String),
}

/// An item of a grant.
type Item<'a> = (&'a Arc<WasiGrant>, &'a GrantedCapability);

/// What the grants of a container come to for one entry. `None` where no policy could limit the entry, or none of them is for its
/// capability.
pub fn holding(entry: &Entry, own: &[Arc<WasiGrant>], pod: &PodGrants) -> Option<Holding> {
    let items = items_for(entry, own);
    let (first, _) = items.first()?;
    let held = match (pod, network_use(entry.capability)) {
        (Err(why), _) => Err((*why).to_owned()),
        (Ok(all), Some(Use::Outgoing(protocol))) => to_hosts(protocol, &items, all),
        (Ok(all), Some(Use::Incoming)) => on_ports(&items, all),
        (Ok(_), Some(Use::NameLookup | Use::Configured) | None) => return None,
    };
    Some(match held {
        Ok(labels) => Holding::To(labels.into_iter().collect()),
        Err(why) => Holding::Not(format!("`{}` does not count: {why}", first.label())),
    })
}

/// The first of these grants that names hosts or ports for an entry which no grant narrows without a policy.
pub fn grant_for<'a>(entry: &Entry, grants: &'a [Arc<WasiGrant>]) -> Option<&'a WasiGrant> {
    let is_narrow = |item: &GrantedCapability| item.hosts.is_some() || item.ports.is_some();
    items_for(entry, grants).into_iter().find(|(_, item)| is_narrow(item)).map(|(grant, _)| &**grant)
}

/// The items for the capability of an entry that policies can limit.
fn items_for<'a>(entry: &Entry, grants: &'a [Arc<WasiGrant>]) -> Vec<Item<'a>> {
    if !network::is_unlimited(entry) {
        return Vec::new();
    }
    items(grants).filter(|(_, item)| item.name == entry.capability).collect()
}

fn items(grants: &[Arc<WasiGrant>]) -> impl Iterator<Item = Item<'_>> {
    grants.iter().flat_map(|grant| grant.spec.capabilities.iter().map(move |item| (grant, item)))
}

/// The grants whose addresses and ports hold all that leaves the pod by this protocol.
fn to_hosts(
    protocol: &'static str,
    own: &[Item<'_>],
    all: &[Arc<WasiGrant>],
) -> Result<BTreeSet<String>, String> {
    let (mut labels, mut held) = (BTreeSet::new(), Vec::new());
    for (grant, item) in own {
        for host in item.hosts.iter().flatten().filter(|host| network::is_expressed(host.pattern())) {
            labels.insert(grant.label());
            held.push(host);
        }
    }
    if held.is_empty() {
        return Err(no_address(own));
    }
    let outgoing = Some(Use::Outgoing(protocol));
    for (grant, item) in items(all).filter(|(_, item)| network_use(item.name) == outgoing) {
        if let Some(host) = beyond(item, &held) {
            let way = format!("`{}` to `{host}`", item.name);
            return Err(further(grant, &way));
        }
    }
    Ok(labels)
}

/// What an item lets the pod reach, as it is written, that none of these hosts contains.
fn beyond<'a>(item: &'a GrantedCapability, held: &[&WrittenHost]) -> Option<&'a str> {
    let Some(hosts) = &item.hosts else { return Some("*://*:*") };
    let leaves =
        |host: &&WrittenHost| matches!(host.pattern().destination(), Destination::Any | Destination::Net(_));
    let is_held = |host: &&WrittenHost| held.iter().any(|own| own.pattern().covers_address(host.pattern()));
    hosts.iter().filter(leaves).find(|host| !is_held(host)).map(WrittenHost::as_str)
}

/// The grants whose ports hold all that comes into the pod.
fn on_ports(own: &[Item<'_>], all: &[Arc<WasiGrant>]) -> Result<BTreeSet<String>, String> {
    let (mut labels, mut held) = (BTreeSet::new(), BTreeSet::new());
    for (grant, item) in own {
        // Port 0 is no port of a NetworkPolicy.
        for port in item.ports.iter().flatten().filter(|port| **port != 0) {
            labels.insert(grant.label());
            held.insert(*port);
        }
    }
    if held.is_empty() {
        return Err("it names no port".to_owned());
    }
    for (grant, item) in items(all).filter(|(_, item)| network_use(item.name) == Some(Use::Incoming)) {
        let Some(ports) = &item.ports else {
            return Err(further(grant, &format!("`{}` on any port", item.name)));
        };
        if let Some(port) = ports.iter().find(|port| **port != 0 && !held.contains(*port)) {
            return Err(further(grant, &format!("`{}` on port `{port}`", item.name)));
        }
    }
    Ok(labels)
}

/// That items name nothing that a policy could say.
fn no_address(own: &[Item<'_>]) -> String {
    let host = own.iter().flat_map(|(_, item)| item.hosts.iter().flatten()).next();
    match host {
        Some(host) if host.pattern().destination() == Destination::Name => {
            format!("`{}` is a name, and a NetworkPolicy knows addresses and no names", host.as_str())
        }
        Some(host) => format!("`{}` is neither an address outside of the pod nor a port", host.as_str()),
        None => "it names no address".to_owned(),
    }
}

/// That a grant lets the pod further than the others.
fn further(grant: &WasiGrant, way: &str) -> String {
    format!(
        "a NetworkPolicy binds the whole pod and tells no capability from another, and `{}` allows {way} too",
        grant.label()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Capability, HostPattern};
    use crate::grant::load::parse_documents;

    /// One grant for each list of capabilities, with a name that begins so.
    fn grants(name: &str, lists: &[&str]) -> Vec<Arc<WasiGrant>> {
        let document = |(number, list): (usize, &&str)| {
            format!(
                "---\napiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: {{ name: {name}{number}, namespace: shop }}\n\
                 spec: {{ capabilities: [{list}] }}\n"
            )
        };
        let text: Vec<String> = lists.iter().enumerate().map(document).collect();
        parse_documents(&text.concat(), "test").unwrap().into_iter().map(Arc::new).collect()
    }

    /// What the grants of a container come to beside those of another one of its pod.
    fn come_to(entry: &Entry, own: &[&str], others: &[&str]) -> Option<Holding> {
        let (own, others) = (grants("own", own), grants("other", others));
        let all = own.iter().chain(&others).cloned().collect();
        holding(entry, &own, &Ok(all))
    }

    fn anywhere(capability: Capability) -> Entry {
        Entry::new(capability, "x").to_host(HostPattern::ANY)
    }

    fn why_not(found: Option<Holding>) -> String {
        let Some(Holding::Not(why)) = found else { panic!("{found:?}") };
        why
    }

    #[test]
    fn addresses_and_ports_count_and_each_grant_with_one_is_named() {
        let tcp = anywhere(Capability::NetTcpConnect);
        let to = |names: &[&str]| {
            Some(Holding::To(names.iter().map(|name| format!("WasiGrant/{name}")).collect()))
        };
        for host in ["tcp://10.0.0.1:5432", "*://10.0.0.0/8:*", "tcp://*:5432", "tcp://[2001:db8::1]:1..9"] {
            let item = format!("{{ name: net.tcp.connect, hosts: ['{host}'] }}");
            assert_eq!(come_to(&tcp, &[item.as_str()], &[]), to(&["own0"]), "{host}");
        }
        let both = [
            "{ name: net.tcp.connect, hosts: ['tcp://10.0.0.1:80', 'tcp://db.example:80'] }",
            "{ name: clock }",
            "{ name: net.tcp.connect, hosts: ['tcp://10.0.0.2:80'] }",
        ];
        assert_eq!(come_to(&tcp, &both, &[]), to(&["own0", "own2"]));
        // Without parameters, as of a runtime that no profile describes.
        assert_eq!(come_to(&Entry::new(Capability::NetTcpConnect, "x"), &both, &[]), to(&["own0", "own2"]));
        let listen = Entry::new(Capability::NetListen, "x");
        assert_eq!(come_to(&listen, &["{ name: net.listen, ports: [80, 81] }"], &[]), to(&["own0"]));
    }

    #[test]
    fn what_no_policy_can_say_does_not_count() {
        let http = anywhere(Capability::HttpOutbound);
        for (host, said) in [
            (
                "https://api.example.com",
                "`https://api.example.com` is a name, and a NetworkPolicy knows addresses",
            ),
            ("https://*.example.com", "is a name"),
            ("http://localhost", "is neither an address outside of the pod nor a port"),
            ("https://*:*", "is neither an address outside of the pod nor a port"),
            ("http://10.0.0.1:0", "is neither an address outside of the pod nor a port"),
        ] {
            let item = format!("{{ name: http.outbound, hosts: ['{host}'] }}");
            let why = why_not(come_to(&http, &[item.as_str()], &[]));
            assert!(why.starts_with("`WasiGrant/own0` does not count: ") && why.contains(said), "{why}");
        }
        let look_up = anywhere(Capability::NetDns);
        assert_eq!(come_to(&look_up, &["{ name: net.dns, hosts: ['tcp://10.0.0.1:53'] }"], &[]), None);
    }

    #[test]
    fn no_grant_counts_beside_one_that_lets_the_pod_further() {
        let tcp = anywhere(Capability::NetTcpConnect);
        let own = "{ name: net.tcp.connect, hosts: ['tcp://10.0.0.0/8:80..90'] }";
        for further in [
            "{ name: http.outbound }",
            "{ name: http.outbound, hosts: ['http://10.0.0.1:90'] }",
            "{ name: net.tcp.connect, hosts: ['tcp://11.0.0.1:80'] }",
            "{ name: db.mysql, hosts: ['mysql://*'] }",
            "{ name: mqtt, hosts: ['mqtt://*:*'] }",
        ] {
            let beside = why_not(come_to(&tcp, &[own], &[further]));
            assert!(beside.contains("`WasiGrant/other0` allows "), "{further}: {beside}");
        }
        for within in [
            "{ name: http.outbound, hosts: ['http://10.1.2.3:80', 'https://api.example.com', 'http://localhost'] }",
            "{ name: net.udp }",
            "{ name: net.listen }, { name: net.dns }, { name: telemetry }",
        ] {
            assert!(matches!(come_to(&tcp, &[own], &[within]), Some(Holding::To(_))), "{within}");
        }
    }

    #[test]
    fn no_port_counts_beside_a_grant_that_lets_more_come_in() {
        let listen = Entry::new(Capability::NetListen, "x");
        let own = "{ name: net.listen, ports: [80, 81] }";
        for further in [
            "{ name: http.inbound }",
            "{ name: http.inbound, ports: [80, 8080] }",
            "{ name: net.listen, ports: [82] }",
        ] {
            let beside = why_not(come_to(&listen, &[own], &[further]));
            assert!(beside.contains("`WasiGrant/other0` allows "), "{further}: {beside}");
        }
        let within = "{ name: http.inbound, ports: [80] }, { name: net.tcp.connect }";
        assert!(matches!(come_to(&listen, &[own], &[within]), Some(Holding::To(_))));
    }

    #[test]
    fn only_what_reaches_any_host_or_port_is_held_and_only_where_a_grant_is_for_it() {
        let own =
            ["{ name: net.tcp.connect, hosts: ['tcp://10.0.0.1:80'] }, { name: http.inbound, ports: [80] }"];
        let narrow = Entry::new(Capability::NetTcpConnect, "x").to_host("tcp://*:443".parse().unwrap());
        for entry in [
            narrow,
            anywhere(Capability::NetUdp),
            anywhere(Capability::HttpOutbound),
            Entry::new(Capability::NetListen, "x"),
            Entry::new(Capability::HttpInbound, "x"),
        ] {
            assert_eq!(come_to(&entry, &own, &[]), None, "{entry:?}");
        }
        let none: PodGrants = Err("no NetworkPolicy applies to it");
        let found = holding(&anywhere(Capability::NetTcpConnect), &grants("own", &own), &none);
        assert_eq!(why_not(found), "`WasiGrant/own0` does not count: no NetworkPolicy applies to it");
    }
}
