//! The `NetworkPolicy` that holds a pod to the addresses and ports in its grants, where its runtime does not. A `NetworkPolicy`
//! knows addresses and ports; what grants say in names it cannot express, and that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::json;

use super::draft::scalar;
use super::types::{GrantedCapability, WasiGrant};
use crate::capability::host::Destination;
use crate::capability::{Capability, Entry, HostPattern, WrittenHost};
use crate::text;

/// The policy for the pods of one workload.
#[derive(Debug, Clone)]
pub struct NetworkDraft<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// The labels that select the pods; not empty, since an empty selector selects every pod of the namespace.
    pub labels: &'a BTreeMap<String, String>,
    /// The grants of the pods.
    pub grants: &'a [Arc<WasiGrant>],
}

/// A policy, and what it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftedPolicy {
    /// The `NetworkPolicy`, one document without `---`.
    pub yaml: String,
    /// What grants allow and the policy cuts off, since it cannot express it, in order.
    pub unexpressed: Vec<Unexpressed>,
    /// What grants allow at places that they do not name, in order: where the configuration leads out of the pod, the policy
    /// cuts it off.
    pub configured: Vec<String>,
}

/// Something that grants allow and a policy cuts off; the text names the grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unexpressed {
    /// Connections to a host by name: a policy knows addresses.
    Name(String),
    /// Datagrams that reach the pod without having been asked for: no grant says on which ports, and ports for TCP close all others.
    Datagrams(String),
}

/// One way out of the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    /// `None` for any address.
    to: Option<IpNet>,
    protocol: &'static str,
    /// First and last port; `None` for any.
    ports: Option<(u16, u16)>,
}

/// What the grants of a pod say about its outgoing connections.
#[derive(Debug, Default)]
struct Egress {
    /// Each rule, and the grants that it comes from.
    rules: BTreeMap<Rule, BTreeSet<String>>,
    unexpressed: BTreeSet<Unexpressed>,
    /// The grants of what the configuration of the runtime leads somewhere.
    configured: BTreeSet<String>,
    /// Whether names are looked up.
    names: bool,
}

/// What the grants of a pod say about the ports on which it is reached.
#[derive(Debug, Default)]
struct Ingress {
    /// Each port, and the grants that it comes from.
    ports: BTreeMap<u16, BTreeSet<String>>,
    /// Whether a grant names no port, so that it allows any.
    any: bool,
    /// The grants of datagrams, which come in on any port.
    datagrams: BTreeSet<String>,
}

/// How a capability uses the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// By connections or packets of this protocol to the outside.
    Outgoing(&'static str),
    /// By asking the cluster's resolver.
    NameLookup,
    /// By taking TCP connections.
    Incoming,
    /// By a store, a provider or a collector, which may be a file of the container or a server anywhere: the configuration of the
    /// runtime says where, and no grant.
    Configured,
}

/// Exhaustive, so that a new capability has to be placed.
pub(super) const fn network_use(capability: Capability) -> Option<Use> {
    match capability {
        Capability::NetTcpConnect
        | Capability::HttpOutbound
        | Capability::DbRedis
        | Capability::DbMysql
        | Capability::DbPostgres
        | Capability::Mqtt => Some(Use::Outgoing("TCP")),
        Capability::NetUdp => Some(Use::Outgoing("UDP")),
        Capability::NetDns => Some(Use::NameLookup),
        Capability::NetListen | Capability::HttpInbound => Some(Use::Incoming),
        Capability::Keyvalue
        | Capability::Sqlite
        | Capability::Blobstore
        | Capability::Messaging
        | Capability::Config
        | Capability::Ai
        | Capability::Telemetry => Some(Use::Configured),
        // No network of their own.
        Capability::Stdio
        | Capability::Nn
        | Capability::Clock
        | Capability::Random
        | Capability::Args
        | Capability::Env
        | Capability::Fs
        | Capability::Trigger
        | Capability::ServiceChaining
        | Capability::Threads
        | Capability::Tls
        // Anything, so that no rule of a network policy follows from it.
        | Capability::NativeExec
        | Capability::NativePlugin
        | Capability::Device
        | Capability::UnknownImport => None,
    }
}

/// Whether a capability reaches the network outside of the pod.
fn is_outgoing(capability: Capability) -> bool {
    matches!(network_use(capability), Some(Use::Outgoing(_) | Use::NameLookup))
}

/// Any host and port, be it of one scheme: a packet filter sees none.
pub fn leads_anywhere(entry: &Entry) -> bool {
    let host = entry.host.as_ref().map(WrittenHost::pattern);
    let any = host.is_none_or(|host| host.destination() == Destination::Any && host.ports().is_none());
    any && is_outgoing(entry.capability)
}

/// Whether an entry is any host, or any port to listen on, where a policy can hold the program to those that grants for the
/// capability name. Of look-ups none can: the resolver answers for every name.
pub fn is_unlimited(entry: &Entry) -> bool {
    match entry.capability {
        Capability::NetTcpConnect | Capability::NetUdp | Capability::HttpOutbound => leads_anywhere(entry),
        Capability::NetListen => entry.port.is_none(),
        _ => false,
    }
}

/// Whether a policy can say this: an address outside of the pod, or a port.
pub(super) fn is_expressed(pattern: &HostPattern) -> bool {
    let ports = pattern.ports();
    // Port 0 is no port of a NetworkPolicy.
    let is_port = |(_, last): (u16, u16)| last != 0;
    match pattern.destination() {
        Destination::Net(_) => ports.is_none_or(is_port),
        Destination::Any => ports.is_some_and(is_port),
        Destination::Name | Destination::Itself => false,
    }
}

impl Ingress {
    fn add(&mut self, grant: &str, item: &GrantedCapability) {
        if item.name == Capability::NetUdp {
            self.datagrams.insert(format!("{grant}: {}", item.name));
        }
        if !matches!(network_use(item.name), Some(Use::Incoming)) {
            return;
        }
        let Some(ports) = &item.ports else {
            self.any = true;
            return;
        };
        // Port 0 is no port of a NetworkPolicy.
        for port in ports.iter().filter(|port| **port != 0) {
            self.ports.entry(*port).or_default().insert(format!("{grant}: {} on {port}", item.name));
        }
    }

    /// Whether the grants hold the pod to ports.
    fn is_limited(&self) -> bool {
        !self.any && !self.ports.is_empty()
    }

    fn write(&self, yaml: &mut String) {
        yaml.push_str("  ingress:\n");
        for (port, grants) in &self.ports {
            write_comments(yaml, grants);
            // Writing to a string cannot fail.
            let _ = writeln!(yaml, "    - ports: [{{ protocol: TCP, port: {port} }}]");
        }
    }
}

/// Each grant as a comment, which ends with its line: names of grants are foreign.
fn write_comments(yaml: &mut String, grants: &BTreeSet<String>) {
    for grant in grants {
        // Writing to a string cannot fail.
        let _ = writeln!(yaml, "    # {}", text::visible(grant));
    }
}

impl Egress {
    fn add(&mut self, grant: &str, item: &GrantedCapability) {
        let protocol = match network_use(item.name) {
            Some(Use::Outgoing(protocol)) => protocol,
            Some(Use::NameLookup) => {
                self.names = true;
                return;
            }
            Some(Use::Configured) => {
                self.configured.insert(format!("{grant}: {}", item.name));
                return;
            }
            Some(Use::Incoming) | None => return,
        };
        match &item.hosts {
            None => self.allow(grant, &HostPattern::ANY.into(), (item.name, protocol)),
            Some(hosts) => hosts.iter().for_each(|host| self.allow(grant, host, (item.name, protocol))),
        }
    }

    fn allow(&mut self, grant: &str, host: &WrittenHost, (name, protocol): (Capability, &'static str)) {
        let pattern = host.pattern();
        let to = match pattern.destination() {
            Destination::Any => {
                // Sockets take addresses; the runtime's clients take names, and look them up themselves.
                self.names |= !matches!(name, Capability::NetTcpConnect | Capability::NetUdp);
                None
            }
            Destination::Net(net) => Some(net),
            Destination::Itself => return,
            Destination::Name => {
                self.names = true;
                let cut = format!("{grant}: {name} to `{}`", host.as_str());
                self.unexpressed.insert(Unexpressed::Name(cut));
                return;
            }
        };
        // Port 0 is no port of a NetworkPolicy.
        let ports = match pattern.ports() {
            None => None,
            Some((_, 0)) => return,
            Some((first, last)) => Some((first.max(1), last)),
        };
        let from = format!("{grant}: {name} to {}", host.as_str());
        self.rules.entry(Rule { to, protocol, ports }).or_default().insert(from);
    }
}

impl NetworkDraft<'_> {
    /// Writes the policy. Every outgoing connection that no rule allows is cut off, and look-ups are allowed at the cluster's
    /// DNS where a grant needs them. Incoming connections are held to ports where every grant to listen names some.
    pub fn draft(&self) -> DraftedPolicy {
        let (mut egress, mut ingress) = (Egress::default(), Ingress::default());
        for grant in self.grants {
            for item in &grant.spec.capabilities {
                egress.add(&grant.label(), item);
                ingress.add(&grant.label(), item);
            }
        }
        let types = if ingress.is_limited() { "[Egress, Ingress]" } else { "[Egress]" };
        let mut yaml = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {}\n  namespace: {}\nspec:\n  \
             podSelector:\n    matchLabels: {}\n  policyTypes: {types}\n",
            scalar(self.name),
            scalar(self.namespace),
            text::flow_yaml(&json!(self.labels).to_string()),
        );
        if ingress.is_limited() {
            ingress.write(&mut yaml);
            egress.unexpressed.extend(ingress.datagrams.into_iter().map(Unexpressed::Datagrams));
        }
        yaml.push_str(if egress.names || !egress.rules.is_empty() {
            "  egress:\n"
        } else {
            "  egress: []\n"
        });
        if egress.names {
            yaml.push_str(DNS);
        }
        for (rule, grants) in &egress.rules {
            write_comments(&mut yaml, grants);
            yaml.push_str(&rule.to_yaml());
        }
        let Egress { unexpressed, configured, .. } = egress;
        DraftedPolicy {
            yaml,
            unexpressed: unexpressed.into_iter().collect(),
            configured: configured.into_iter().collect(),
        }
    }
}

/// The DNS of most clusters. It answers for every name.
const DNS: &str = "    # look-ups of any name; change this where the cluster's DNS is elsewhere (a cache on the node, port 5353 on OpenShift)
    - to:
        - namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: kube-system } }
          podSelector: { matchLabels: { k8s-app: kube-dns } }
      ports: [{ protocol: UDP, port: 53 }, { protocol: TCP, port: 53 }]
";

impl Rule {
    fn to_yaml(&self) -> String {
        let Self { to, protocol, ports } = self;
        let ports = match ports {
            None => String::new(),
            Some((first, last)) if first == last => format!(", port: {first}"),
            Some((first, last)) => format!(", port: {first}, endPort: {last}"),
        };
        let ports = format!("ports: [{{ protocol: {protocol}{ports} }}]");
        match to {
            Some(net) => format!("    - to: [{{ ipBlock: {{ cidr: \"{net}\" }} }}]\n      {ports}\n"),
            None => format!("    - {ports}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::grant::cover;
    use crate::grant::held::{Holding, holding};
    use crate::grant::load::parse_documents;

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

    /// The grant of these capabilities.
    fn grants_of(capabilities: &str) -> Vec<WasiGrant> {
        let grant = format!(
            "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: {{ name: orders, namespace: shop }}\n\
             spec: {{ capabilities: [{capabilities}] }}\n"
        );
        parse_documents(&grant, "test").unwrap()
    }

    fn drafted(capabilities: &str) -> DraftedPolicy {
        let grants: Vec<_> = grants_of(capabilities).into_iter().map(Arc::new).collect();
        let labels = [("app".to_string(), "orders".to_string())].into();
        NetworkDraft { name: "orders-egress", namespace: "shop", labels: &labels, grants: &grants }.draft()
    }

    fn egress(capabilities: &str) -> Value {
        let policy: Value = serde_saphyr::from_str(&drafted(capabilities).yaml).unwrap();
        assert_eq!(policy["spec"]["podSelector"], json!({"matchLabels": {"app": "orders"}}));
        assert_eq!(policy["spec"]["policyTypes"], json!(["Egress"]));
        policy["spec"]["egress"].clone()
    }

    fn dns() -> Value {
        egress("{ name: net.dns }")[0].clone()
    }

    #[test]
    fn addresses_and_ports_of_grants_become_rules_and_everything_else_is_cut_off() {
        let to = |net: &str, ports: Value| json!({"to": [{"ipBlock": {"cidr": net}}], "ports": [ports]});
        for (capabilities, expected) in [
            ("{ name: clock }", json!([])),
            (
                "{ name: net.tcp.connect, hosts: ['postgres://10.1.0.0/16'] }",
                json!([to("10.1.0.0/16", json!({"protocol": "TCP", "port": 5432}))]),
            ),
            (
                "{ name: http.outbound, hosts: ['https://10.1.2.3', 'http://[2001:db8::1]:8000..9000'] }",
                json!([
                    to("10.1.2.3/32", json!({"protocol": "TCP", "port": 443})),
                    to("2001:db8::1/128", json!({"protocol": "TCP", "port": 8000, "endPort": 8999})),
                ]),
            ),
            (
                "{ name: net.udp, hosts: ['*://10.0.0.0/8:*'] }",
                json!([to("10.0.0.0/8", json!({"protocol": "UDP"}))]),
            ),
            ("{ name: net.tcp.connect }", json!([{"ports": [{"protocol": "TCP"}]}])),
            (
                "{ name: net.tcp.connect, hosts: ['tcp://*:53'] }",
                json!([{"ports": [{"protocol": "TCP", "port": 53}]}]),
            ),
            ("{ name: http.outbound, hosts: ['http://self', 'http://stock.spin.internal'] }", json!([])),
            ("{ name: net.tcp.connect, hosts: ['tcp://10.0.0.1:0'] }", json!([])),
            (
                "{ name: http.outbound, hosts: ['http://[::ffff:10.0.0.1]', 'http://10.0.0.1'] }",
                json!([to("10.0.0.1/32", json!({"protocol": "TCP", "port": 80}))]),
            ),
            (
                "{ name: http.outbound, hosts: ['http://localhost', 'http://127.0.0.1:8080', 'http://[::1]'] }",
                json!([]),
            ),
        ] {
            assert_eq!(egress(capabilities), expected, "{capabilities}");
        }
    }

    #[test]
    fn ports_of_grants_to_listen_become_rules_unless_one_of_them_names_none() {
        let spec = |capabilities: &str| -> Value {
            let policy: Value = serde_saphyr::from_str(&drafted(capabilities).yaml).unwrap();
            policy["spec"].clone()
        };
        let held = spec("{ name: net.listen, ports: [9000] }, { name: http.inbound, ports: [8080] }");
        assert_eq!(held["policyTypes"], json!(["Egress", "Ingress"]));
        let on = |port: u16| json!({"ports": [{"protocol": "TCP", "port": port}]});
        assert_eq!(held["ingress"], json!([on(8080), on(9000)]));
        assert_eq!(held["egress"], json!([]), "what listens connects to nothing");
        for open in [
            "{ name: net.listen }",
            "{ name: http.inbound, ports: [8080] }, { name: net.listen }",
            "{ name: clock }",
        ] {
            let spec = spec(open);
            assert_eq!(
                (&spec["policyTypes"], &spec["ingress"]),
                (&json!(["Egress"]), &Value::Null),
                "{open}"
            );
        }
    }

    #[test]
    fn a_name_is_looked_up_and_said_to_be_cut_off() {
        let policy = drafted("{ name: http.outbound, hosts: ['https://*.example.com', 'https://10.0.0.1'] }");
        let cut = "WasiGrant/orders: http.outbound to `https://*.example.com`".to_owned();
        assert_eq!(policy.unexpressed, [Unexpressed::Name(cut)]);
        let rules = egress("{ name: http.outbound, hosts: ['https://*.example.com', 'https://10.0.0.1'] }");
        assert_eq!(rules.as_array().unwrap().len(), 2);
        assert_eq!(rules[0], dns());
    }

    #[test]
    fn the_loopback_of_the_pod_is_not_cut_off() {
        let policy = drafted("{ name: http.outbound, hosts: ['http://localhost:3000', 'http://127.0.0.1'] }");
        assert!(policy.unexpressed.is_empty(), "{policy:?}");
    }

    #[test]
    fn a_client_that_may_reach_any_host_may_look_up_its_name_and_a_socket_takes_addresses() {
        let any = |port: Value| json!({"ports": [port]});
        let http = egress("{ name: http.outbound, hosts: ['https://*'] }");
        assert_eq!(http, json!([dns(), any(json!({"protocol": "TCP", "port": 443}))]));
        for client in ["http.outbound", "db.postgres", "mqtt"] {
            let rules = egress(&format!("{{ name: {client} }}"));
            assert_eq!(rules, json!([dns(), any(json!({"protocol": "TCP"}))]), "{client}");
        }
        assert_eq!(egress("{ name: net.udp }"), json!([any(json!({"protocol": "UDP"}))]));
    }

    #[test]
    fn what_the_configuration_of_the_runtime_leads_somewhere_is_named() {
        let policy =
            drafted("{ name: keyvalue }, { name: telemetry }, { name: net.tcp.connect }, { name: clock }");
        assert_eq!(policy.configured, ["WasiGrant/orders: keyvalue", "WasiGrant/orders: telemetry"]);
        assert!(policy.unexpressed.is_empty());
    }

    #[test]
    fn datagrams_to_a_pod_that_is_held_to_ports_for_tcp_are_said_to_be_cut_off() {
        let cut = |capabilities: &str| drafted(capabilities).unexpressed;
        let held = "{ name: net.listen, ports: [9000] }";
        let datagrams = Unexpressed::Datagrams("WasiGrant/orders: net.udp".to_owned());
        assert_eq!(cut(&format!("{held}, {{ name: net.udp }}")), [datagrams]);
        for whole in [held, "{ name: net.udp }", "{ name: net.listen }, { name: net.udp }"] {
            assert!(cut(whole).is_empty(), "{whole}");
        }
    }

    #[test]
    fn two_grants_for_one_address_are_one_rule_that_names_both() {
        let twice = "{ name: net.tcp.connect, hosts: ['tcp://10.0.0.1:80'] }, { name: http.outbound, hosts: ['http://10.0.0.1'] }";
        assert_eq!(egress(twice).as_array().unwrap().len(), 1);
        let yaml = drafted(twice).yaml;
        assert!(yaml.contains("# WasiGrant/orders: net.tcp.connect to tcp://10.0.0.1:80\n"), "{yaml}");
        assert!(yaml.contains("# WasiGrant/orders: http.outbound to http://10.0.0.1\n"), "{yaml}");
    }

    /// Whether a policy lets a connection, or a packet, out of the pod.
    fn lets_out(policy: &Value, protocol: &str, address: IpAddr, port: u16) -> bool {
        let reaches = |one: &Value| {
            one["ipBlock"]["cidr"]
                .as_str()
                .is_some_and(|net| net.parse::<IpNet>().unwrap().contains(&address))
        };
        let at_port = |one: &Value| {
            let first = one["port"].as_u64();
            let last = one["endPort"].as_u64().or(first);
            let port = u64::from(port);
            one["protocol"] == protocol && first.is_none_or(|first| first <= port && Some(port) <= last)
        };
        policy["spec"]["egress"].as_array().unwrap().iter().any(|rule| {
            rule["to"].as_array().is_none_or(|all| all.iter().any(reaches))
                && rule["ports"].as_array().unwrap().iter().any(at_port)
        })
    }

    const SOCKETS: [(&str, Capability, &str); 2] =
        [("net.tcp.connect", Capability::NetTcpConnect, "TCP"), ("net.udp", Capability::NetUdp, "UDP")];

    /// Those by which a program reaches any host where its runtime hands over the network, two of them by one protocol.
    const CLIENTS: [(&str, Capability, &str); 3] =
        [SOCKETS[0], SOCKETS[1], ("http.outbound", Capability::HttpOutbound, "TCP")];

    /// Items of a grant for a few addresses and ports, some of them for any host or by a name; each for one of so many capabilities.
    fn items(capabilities: usize) -> impl Strategy<Value = Vec<(usize, Vec<String>)>> {
        let host = prop_oneof![
            (0..8_u8, 80..84_u16).prop_map(|(last, port)| format!("tcp://10.0.0.{last}:{port}")),
            (30..33_u8).prop_map(|bits| format!("*://10.0.0.4/{bits}:*")),
            (80..83_u16).prop_map(|first| format!("tcp://10.0.0.0/30:{first}..84")),
            (80..84_u16).prop_map(|port| format!("*://*:{port}")),
            Just("tcp://db.example:80".to_owned()),
        ];
        prop::collection::vec((0..capabilities, prop::collection::vec(host, 1..4)), 1..4)
    }

    /// Such items as a grant has them, of the capabilities in [`CLIENTS`], which begin with those in [`SOCKETS`].
    fn written(items: &[(usize, Vec<String>)]) -> String {
        let written =
            items.iter().map(|(which, hosts)| format!("{{ name: {}, hosts: {hosts:?} }}", CLIENTS[*which].0));
        written.collect::<Vec<_>>().join(", ")
    }

    /// Whether some item covers a connection by this capability to this place.
    fn is_covered(granted: &[GrantedCapability], capability: Capability, host: &str) -> bool {
        let entry = Entry::new(capability, "x").to_host(host.parse().unwrap());
        granted.iter().any(|one| cover::covers(one, &entry))
    }

    proptest! {
        #[test]
        fn a_policy_lets_out_what_a_grant_covers_and_nothing_else(items in items(SOCKETS.len())) {
            let written = written(&items);
            let policy: Value = serde_saphyr::from_str(&drafted(&written).yaml).unwrap();
            let grants = grants_of(&written);
            let granted = &grants[0].spec.capabilities;
            for (_, capability, protocol) in SOCKETS {
                for (last, port) in (0..8_u8).flat_map(|last| (79..86_u16).map(move |port| (last, port))) {
                    let host = format!("tcp://10.0.0.{last}:{port}");
                    let covered = is_covered(granted, capability, &host);
                    let out = lets_out(&policy, protocol, IpAddr::from([10, 0, 0, last]), port);
                    prop_assert_eq!(out, covered, "{} by {}: {}", host, protocol, written);
                }
            }
        }

        #[test]
        fn by_a_capability_whose_grant_counts_the_policy_lets_out_nothing_that_it_does_not_cover(
            items in items(CLIENTS.len()),
        ) {
            let written = written(&items);
            let policy: Value = serde_saphyr::from_str(&drafted(&written).yaml).unwrap();
            let grants: Vec<_> = grants_of(&written).into_iter().map(Arc::new).collect();
            let granted = &grants[0].spec.capabilities;
            for (_, capability, protocol) in CLIENTS {
                let anywhere = Entry::new(capability, "x").to_host(HostPattern::ANY);
                if !matches!(holding(&anywhere, &grants, &Ok(grants.clone())), Some(Holding::To(_))) {
                    continue;
                }
                for (last, port) in (0..8_u8).flat_map(|last| (79..86_u16).map(move |port| (last, port))) {
                    let host = format!("tcp://10.0.0.{last}:{port}");
                    let out = lets_out(&policy, protocol, IpAddr::from([10, 0, 0, last]), port);
                    prop_assert!(!out || is_covered(granted, capability, &host), "{} {}: {}", host, capability, written);
                }
            }
        }

        #[test]
        fn no_label_can_leave_its_value(key in any::<String>(), value in any::<String>()) {
            let labels = [(key, value)].into();
            let policy = NetworkDraft { name: "a", namespace: "b", labels: &labels, grants: &[] }.draft();
            let read: Value = serde_saphyr::from_str(&policy.yaml).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(&read["spec"]["podSelector"]["matchLabels"], &json!(labels));
            prop_assert_eq!(&read["spec"]["egress"], &json!([]));
        }
    }
}
