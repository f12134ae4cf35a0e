//! Host patterns in Spin's grammar (`spin:crates/outbound-networking-config/src/allowed_hosts.rs`), and whether one
//! covers another.
//!
//! ```text
//! pattern = scheme "://" host [ ":" port ] [ "/" ]
//! scheme  = "*" | letters
//! host    = "*" | "*." suffix | "self" | "self.alt" | CIDR | IP address | "[" IPv6 "]" | name
//! port    = "*" | number | number ".." number        (half open)
//! ```
//! The port may be omitted if the scheme has a default. Names are compared case-insensitively. Nothing is resolved: a
//! name never matches a CIDR range, so a grant by address does not cover a need by name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// The grammar in short, for messages.
pub const FORM: &str =
    "scheme://host[:port], such as `https://api.example.com`, `postgres://10.0.0.0/8:5432` or `*://*:*`";

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("could not read the host pattern `{pattern}`: {reason}; write {FORM}")]
pub struct ParseHostError {
    /// What was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A set of (scheme, host, port).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    /// `None` for any.
    scheme: Option<String>,
    host: Host,
    /// First port and the one after the last; `None` for any.
    ports: Option<(u16, u32)>,
}

/// The hosts of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Any,
    /// Every name that ends with this suffix, which starts with a dot: `*.example.com` does not contain `example.com`.
    Suffix(String),
    Name(String),
    /// A range of addresses; one address is a range of one.
    Net(IpNet),
    /// The application's own origin.
    ToSelf,
}

/// Where a pattern leads, as far as a packet filter can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Any address.
    Any,
    /// The addresses of a range, as they are in packets.
    Net(IpNet),
    /// A host, or hosts, by name.
    Name,
    /// The application itself, or the pod by its loopback, which no filter of the pod's packets sees.
    Itself,
}

impl HostPattern {
    /// `*://*:*`.
    pub const ANY: Self = Self { scheme: None, host: Host::Any, ports: None };

    /// Whether `self` contains everything in `narrow`. Reflexive and transitive.
    pub fn covers(&self, narrow: &Self) -> bool {
        let scheme = self.scheme.is_none() || self.scheme == narrow.scheme;
        scheme && self.host.covers(&narrow.host) && ports_cover(self.ports, narrow.ports)
    }

    /// The scheme, lower case; `None` for any.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// As [`Self::covers`], but ignores the schemes: a raw socket has none.
    pub fn covers_address(&self, narrow: &Self) -> bool {
        self.host.covers(&narrow.host) && ports_cover(self.ports, narrow.ports)
    }

    /// Where it leads.
    pub fn destination(&self) -> Destination {
        match &self.host {
            _ if self.is_internal() => Destination::Itself,
            Host::Any => Destination::Any,
            Host::Net(net) => match in_packets(*net) {
                net if stays_in_the_pod(net) => Destination::Itself,
                net => Destination::Net(net),
            },
            // The kubelet writes it into the file of hosts of every pod that is not on the node's network.
            Host::Name(name) if name == "localhost" => Destination::Itself,
            Host::Suffix(_) | Host::Name(_) | Host::ToSelf => Destination::Name,
        }
    }

    /// The first and the last port; `None` for any.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let (first, end) = self.ports?;
        Some((first, u16::try_from(end.saturating_sub(1)).unwrap_or(u16::MAX)))
    }

    /// The same with this scheme.
    #[must_use]
    pub fn with_scheme(mut self, scheme: &str) -> Self {
        self.scheme = Some(scheme.to_ascii_lowercase());
        self
    }

    /// The same scheme and ports at any host.
    #[must_use]
    pub fn with_any_host(mut self) -> Self {
        self.host = Host::Any;
        self
    }

    /// The name that is looked up to reach it, beginning with a dot where that stands for all names below; `None` for addresses, for
    /// any host and for what is reached without a look-up.
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            _ if self.is_internal() => None,
            Host::Name(name) | Host::Suffix(name) => Some(name),
            Host::Any | Host::Net(_) | Host::ToSelf => None,
        }
    }

    /// The component id that a Spin application reaches through it by service chaining: `http://<id>.spin.internal`,
    /// `*` if it reaches all of them.
    pub fn chained_component(&self) -> Option<&str> {
        if !self.scheme().is_none_or(|s| s == "http" || s == "https") {
            return None;
        }
        match &self.host {
            Host::Any => Some("*"),
            Host::Suffix(suffix) => ".spin.internal".ends_with(suffix.as_str()).then_some("*"),
            Host::Name(name) => name.strip_suffix(".spin.internal").filter(|id| !id.contains('.')),
            Host::ToSelf => Some("self"),
            Host::Net(_) => None,
        }
    }

    /// Whether it reaches only the application itself: by service chaining, or its own origin. Spin chains only
    /// `<id>.spin.internal` over HTTP (`spin:crates/factor-outbound-networking/src/lib.rs`,
    /// `parse_service_chaining_target`). A deeper name, another scheme, or a wider pattern leads to the network.
    pub fn is_internal(&self) -> bool {
        match &self.host {
            Host::ToSelf => true,
            Host::Name(_) => self.chained_component().is_some(),
            Host::Any | Host::Net(_) | Host::Suffix(_) => false,
        }
    }
}

impl Host {
    fn covers(&self, narrow: &Self) -> bool {
        match (self, narrow) {
            (Self::Any, _) => true,
            (Self::Suffix(suffix), Self::Suffix(name) | Self::Name(name)) => name.ends_with(suffix.as_str()),
            (Self::Net(net), Self::Net(narrow)) => net.contains(narrow),
            (a, b) => a == b,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let address = lower.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&lower);
        if let Ok(ip) = address.parse::<IpAddr>() {
            return Ok(Self::Net(ip.into()));
        }
        if let Ok(net) = address.parse::<IpNet>() {
            return Ok(Self::Net(net.trunc()));
        }
        match lower.as_str() {
            "*" => Ok(Self::Any),
            "self" | "self.alt" => Ok(Self::ToSelf),
            name => match name.strip_prefix("*.") {
                Some(suffix) => check_name(suffix).map(|()| Self::Suffix(format!(".{suffix}"))),
                None => check_name(name).map(|()| Self::Name(name.to_string())),
            },
        }
    }
}

/// The range as packets have it: an IPv6 address that stands for one of IPv4 (`::ffff:10.0.0.1`) is reached by packets of IPv4. The
/// API server takes no range of such addresses.
fn in_packets(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(mapped) => match (mapped.addr().to_ipv4_mapped(), mapped.prefix_len().checked_sub(96)) {
            (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(net, IpNet::V4),
            _ => net,
        },
        IpNet::V4(_) => net,
    }
}

/// Whether each address of it leads a connection back into the pod: loopback, and the address of no host, which Linux takes for
/// loopback. A range that was cut at its length and begins in loopback has no other address.
fn stays_in_the_pod(net: IpNet) -> bool {
    let one = net.prefix_len() == net.max_prefix_len();
    net.addr().is_loopback() || (one && net.addr().is_unspecified())
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it names no host".into());
    }
    if name.contains('*') {
        return Err("`*` may only be the whole host or its first label, as in `*.example.com`".into());
    }
    if name.contains('/') {
        return Err("a host pattern has no path".into());
    }
    match name.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))) {
        Some(c) => Err(format!("a host name has no `{}`", c.escape_default())),
        None => Ok(()),
    }
}

fn ports_cover(wide: Option<(u16, u32)>, narrow: Option<(u16, u32)>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some((from, to)), Some((narrow_from, narrow_to))) => from <= narrow_from && narrow_to <= to,
    }
}

/// Default ports of the schemes that Spin knows (`well_known_port`).
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "redis" => Some(6379),
        "postgres" => Some(5432),
        "mysql" => Some(3306),
        "mqtt" => Some(1883),
        _ => None,
    }
}

/// Splits `host[:port]`; the colons of a bracketed IPv6 address belong to the host.
fn split_port(rest: &str) -> (&str, &str) {
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (rest, ""),
    }
}

fn parse_ports(port: &str, scheme: &str) -> Result<Option<(u16, u32)>, String> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is not a port number"));
    if port == "*" {
        return Ok(None);
    }
    if port.is_empty() {
        let known = default_port(scheme).ok_or_else(|| {
            format!("the scheme `{scheme}` has no default port, so a port or `:*` is needed")
        })?;
        return Ok(Some((known, u32::from(known) + 1)));
    }
    let Some((from, to)) = port.split_once("..") else {
        let port = number(port)?;
        return Ok(Some((port, u32::from(port) + 1)));
    };
    let (from, to) = (number(from)?, u32::from(number(to)?));
    if u32::from(from) < to { Ok(Some((from, to))) } else { Err(format!("the port range `{port}` is empty")) }
}

impl FromStr for HostPattern {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: String| ParseHostError { pattern: text.to_string(), reason };
        let Some((scheme, rest)) = text.trim().split_once("://") else {
            return Err(error("it has no scheme".into()));
        };
        if scheme != "*" && (scheme.is_empty() || !scheme.chars().all(char::is_alphabetic)) {
            return Err(error(format!("the scheme `{scheme}` is neither `*` nor letters alone")));
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest));
        let ports = parse_ports(port, &scheme).map_err(error)?;
        let host = Host::parse(host).map_err(error)?;
        Ok(Self { scheme: (scheme != "*").then_some(scheme), host, ports })
    }
}

/// `scheme://host`, with the port unless it is the scheme's default.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme().unwrap_or("*"), self.host)?;
        match self.ports {
            None => f.write_str(":*"),
            Some((from, to)) if u32::from(from) + 1 == to => {
                if self.scheme().and_then(default_port) == Some(from) { Ok(()) } else { write!(f, ":{from}") }
            }
            Some((from, to)) => write!(f, ":{from}..{to}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Name(name) => f.write_str(name),
            Self::ToSelf => f.write_str("self"),
            Self::Net(IpNet::V6(net)) if net.prefix_len() == 128 => write!(f, "[{}]", net.addr()),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(IpNet::V6(net)) => write!(f, "[{net}]"),
            Self::Net(net) => write!(f, "{net}"),
        }
    }
}

/// A host pattern with its text, parsed once: what the author of a grant wrote, or what a program reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct WrittenHost {
    text: String,
    pattern: HostPattern,
}

impl Serialize for WrittenHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl WrittenHost {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it matches.
    pub const fn pattern(&self) -> &HostPattern {
        &self.pattern
    }
}

impl TryFrom<String> for WrittenHost {
    type Error = ParseHostError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let pattern = text.parse()?;
        Ok(Self { text, pattern })
    }
}

impl From<HostPattern> for WrittenHost {
    fn from(pattern: HostPattern) -> Self {
        Self { text: pattern.to_string(), pattern }
    }
}

impl From<WrittenHost> for String {
    fn from(host: WrittenHost) -> Self {
        host.text
    }
}

#[cfg(test)]
mod tests {
    use super::{Destination, HostPattern};
    use proptest::prelude::*;

    fn parse(text: &str) -> HostPattern {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn a_wide_pattern_covers_its_narrow_neighbour_and_not_the_other_way_round() {
        for (wide, narrow) in [
            ("*://*:*", "https://api.example.com"),
            ("*://*:*", "http://self"),
            ("https://*", "https://api.example.com:443"),
            ("https://*:*", "https://api.example.com:8443"),
            ("https://*.example.com", "https://api.example.com"),
            ("https://*.example.com", "https://*.eu.example.com"),
            ("*://db.example.com:5432", "postgres://db.example.com"),
            ("postgres://10.0.0.0/8:5432", "postgres://10.1.0.0/16"),
            ("postgres://10.0.0.0/8:5432", "postgres://10.1.2.3"),
            ("tcp://[2001:db8::/32]:*", "tcp://[2001:db8::1]:80"),
            ("tcp://h:8000..9000", "tcp://h:8000..8999"),
            ("tcp://h:8000..9000", "tcp://h:8999"),
        ] {
            assert!(parse(wide).covers(&parse(narrow)), "{wide} should cover {narrow}");
            assert!(!parse(narrow).covers(&parse(wide)), "{narrow} should not cover {wide}");
        }
    }

    #[test]
    fn neighbours_that_look_alike_do_not_cover_each_other() {
        for (a, b) in [
            ("https://example.com", "http://example.com"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://badexample.com"),
            ("https://example.com", "https://example.com.evil.org"),
            ("tcp://10.0.0.0/8:80", "tcp://ten.example.com:80"),
            ("tcp://10.0.0.0/8:80", "tcp://[::1]:80"),
            ("tcp://h:80..90", "tcp://h:90"),
            ("http://self", "http://example.com"),
        ] {
            assert!(!parse(a).covers(&parse(b)), "{a} {b}");
            assert!(!parse(b).covers(&parse(a)), "{b} {a}");
        }
    }

    #[test]
    fn equivalent_spellings_are_equal() {
        for (a, b) in [
            ("https://Example.COM", "https://example.com:443/"),
            ("HTTP://example.com", "http://example.com:80"),
            ("tcp://10.1.2.3:80", "tcp://10.1.2.3/32:80..81"),
            ("tcp://10.1.2.3/8:80", "tcp://10.0.0.0/8:80"),
            ("tcp://[::1]:80", "tcp://::1/128:80"),
        ] {
            assert_eq!(parse(a), parse(b));
        }
    }

    #[test]
    fn a_pattern_leads_where_its_packets_go() {
        let net = |text: &str| Destination::Net(text.parse().unwrap());
        for (pattern, expected) in [
            ("http://[::ffff:10.0.0.1]", net("10.0.0.1/32")),
            ("http://[::FFFF:a00:1]", net("10.0.0.1/32")),
            ("http://[::ffff:10.0.0.0/104]", net("10.0.0.0/8")),
            ("http://[::ffff:10.1.2.3/104]", net("10.0.0.0/8")),
            ("http://[::ffff:0.0.0.0/96]", net("0.0.0.0/0")),
            ("http://[::ffff:0.0.0.0/95]", net("::fffe:0:0/95")),
            ("http://[::10.0.0.1]", net("::a00:1/128")),
            ("http://[::/0]", net("::/0")),
            ("http://0.0.0.0/0", net("0.0.0.0/0")),
            ("http://126.0.0.0/7", net("126.0.0.0/7")),
            ("http://[::/127]", net("::/127")),
            ("http://10.1.2.3/8", net("10.0.0.0/8")),
            ("http://localhost", Destination::Itself),
            ("http://LocalHost:8080", Destination::Itself),
            ("http://127.0.0.1", Destination::Itself),
            ("http://127.1.2.3/8", Destination::Itself),
            ("http://[::1]", Destination::Itself),
            ("http://[::ffff:127.0.0.1]", Destination::Itself),
            ("http://0.0.0.0", Destination::Itself),
            ("http://[::]", Destination::Itself),
            ("http://localhost.example.com", Destination::Name),
            ("http://*.localhost", Destination::Name),
            // No address to Kubernetes, which takes no zeros before a number.
            ("http://010.0.0.1", Destination::Name),
        ] {
            assert_eq!(parse(pattern).destination(), expected, "{pattern}");
        }
        for none in ["http://[fe80::1%eth0]", "http://10.0.0.1/33"] {
            assert!(none.parse::<HostPattern>().is_err(), "{none}");
        }
    }

    #[test]
    fn what_spin_refuses_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "no scheme"),
            ("*", "no scheme"),
            ("example.com", "no scheme"),
            ("ht+tp://x", "letters alone"),
            ("://x", "letters alone"),
            ("https://", "names no host"),
            ("https://a.*.com", "first label"),
            ("https://*a.com", "first label"),
            ("https://example.com/path", "no path"),
            ("https://user@example.com", "has no `@`"),
            ("tcp://example.com", "no default port"),
            ("*://example.com", "no default port"),
            ("http://h:99999", "not a port number"),
            ("http://h:90..80", "is empty"),
            ("https://{{ host }}", "has no `{`"),
        ] {
            let error = text.parse::<HostPattern>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn chaining_is_recognised_by_its_domain() {
        for (text, component) in [
            ("http://orders.spin.internal", Some("orders")),
            ("http://*.spin.internal", Some("*")),
            ("http://*:*", Some("*")),
            ("*://*:*", Some("*")),
            ("http://self", Some("self")),
            ("redis://*:*", None),
            ("http://example.com", None),
            ("http://a.b.spin.internal", None),
        ] {
            assert_eq!(parse(text).chained_component(), component, "{text}");
        }
    }

    /// Few distinct values, so that patterns cover each other often enough.
    fn pattern() -> impl Strategy<Value = String> {
        let scheme = prop::sample::select(vec!["*", "http", "https", "tcp"]);
        let host = prop::sample::select(vec![
            "*",
            "*.a.com",
            "*.b.a.com",
            "c.b.a.com",
            "a.com",
            "self",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3",
            "[::1]",
        ]);
        let port = prop::sample::select(vec!["*", "80", "443", "80..82", "79..444", "0..65535", "65535"]);
        (scheme, host, port).prop_map(|(s, h, p)| format!("{s}://{h}:{p}"))
    }

    proptest! {
        #[test]
        fn reading_any_text_does_not_panic(text in any::<String>()) {
            let _ = text.parse::<HostPattern>();
            let _ = format!("http://{text}").parse::<HostPattern>();
        }

        #[test]
        fn what_is_printed_reads_back_as_the_same(text in pattern()) {
            let pattern = parse(&text);
            prop_assert_eq!(&parse(&pattern.to_string()), &pattern);
        }

        #[test]
        fn coverage_is_reflexive_and_everything_is_in_any(text in pattern()) {
            prop_assert!(parse(&text).covers(&parse(&text)));
            prop_assert!(HostPattern::ANY.covers(&parse(&text)));
        }

        #[test]
        fn coverage_is_transitive(a in pattern(), b in pattern(), c in pattern()) {
            let (a, b, c) = (parse(&a), parse(&b), parse(&c));
            prop_assert!(!(a.covers(&b) && b.covers(&c)) || a.covers(&c));
        }

        #[test]
        fn mutual_coverage_is_equality(a in pattern(), b in pattern()) {
            let (a, b) = (parse(&a), parse(&b));
            prop_assert_eq!(a.covers(&b) && b.covers(&a), a == b);
        }
    }
}
