//! Which registries may be asked. Any user who may create a pod chooses image names, so a name alone never opens a
//! connection: its host must pass a deny-list and an allow-list, and the addresses that it resolves to must be public
//! unless the platform allows others.
//!
//! The address rules apply where a connection is opened: the HTTP client's resolver ([`super::resolver`]) hands out
//! only addresses that passed. So a name server that answers differently the second time, a redirect and a token
//! service all meet the same rules. The allow-list is about registries: hosts that a registry redirects to, and its
//! token service, need not be on it. They must not be on the deny-list.

mod idle;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::image::reference::{Reference, registry_name};

/// Docker Hub's name in image references.
const DOCKER_HUB: &str = "docker.io";
/// Other names of Docker Hub: the one in its credentials' key, and the one that serves its API
/// (`containerd:core/remotes/docker/resolver.go`, `DefaultHost`).
const DOCKER_HUB_HOSTS: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// Which registries may be asked, and which addresses they may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardOptions {
    /// Registries that may be asked: `ghcr.io`, `registry.corp:5000`, `*.example.com`, or `*` for all. An entry without
    /// a port means the standard port. Default: `*`. A registry that is listed by its whole name, and not by a `*`, may
    /// have any address.
    pub allow: Vec<String>,
    /// Registries that may not be asked, whatever `allow` says. An entry without a port means every port. Default:
    /// none.
    pub deny: Vec<String>,
    /// Registries that are asked by plain HTTP, by exact `host` or `host:port`. An entry here allows nothing by itself.
    /// Default: none.
    pub insecure: Vec<String>,
    /// Networks that registries may be in although their addresses are not public, such as `10.20.0.0/16`.
    /// Default: none.
    pub allowed_cidrs: Vec<IpNet>,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self { allow: vec!["*".into()], deny: Vec::new(), insecure: Vec::new(), allowed_cidrs: Vec::new() }
    }
}

/// Decides which registries may be asked.
#[derive(Debug, Clone)]
pub struct Guard {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
    insecure: Vec<String>,
    allowed_cidrs: Vec<IpNet>,
    /// Mirrors and token services that the platform configured, in lower case. They may have any address, and no pod
    /// may name them.
    named: Vec<String>,
}

impl Guard {
    /// A guard. Refuses entries that could never match.
    pub fn new(options: &GuardOptions) -> Result<Self, Error> {
        let patterns = |entries: &[String]| -> Result<Vec<Pattern>, Error> {
            entries.iter().map(|entry| Pattern::parse(entry)).collect()
        };
        for entry in &options.insecure {
            if matches!(Pattern::parse(entry)?.host, RegistryHost::Any | RegistryHost::Under(_)) {
                return Err(set_up(entry, "plain HTTP is set for one `host:port` at a time, not by `*`"));
            }
            let host = entry.split(':').next().unwrap_or(entry).to_ascii_lowercase();
            if registry_name(&host) != host {
                return Err(set_up(entry, "image names have this registry as `docker.io`; write that"));
            }
        }
        Ok(Self {
            allow: patterns(&options.allow)?,
            deny: patterns(&options.deny)?,
            insecure: options.insecure.iter().map(|entry| entry.to_ascii_lowercase()).collect(),
            allowed_cidrs: options.allowed_cidrs.clone(),
            named: Vec::new(),
        })
    }

    /// The same guard, with hosts that the platform configured as mirrors or token services.
    #[must_use]
    pub(super) fn with_named<'a>(self, hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Self { named: hosts.into_iter().map(str::to_ascii_lowercase).collect(), ..self }
    }

    /// Whether a registry, by exact `host` or `host:port`, is asked by plain HTTP.
    pub(super) fn is_insecure(&self, registry: &str) -> bool {
        self.insecure.iter().any(|entry| entry.eq_ignore_ascii_case(registry))
    }

    /// Whether a registry may be asked, judged by its name alone. Does no I/O.
    pub fn check_name(&self, reference: &Reference) -> Result<(), Error> {
        self.name_verdict(reference).map(|_| ())
    }

    /// Whether a URL may be asked: of the registry itself, a redirect or the token service. Returns the addresses that
    /// are then allowed. A host that is written as an address is judged here, since it is never resolved.
    pub(super) fn check_url(&self, url: &Url) -> Result<AllowedAddresses, Refusal> {
        let Some((host, address)) = url_host(url) else {
            return Err(Refusal::new(url.as_str(), "it names no host"));
        };
        let refuse = |what: &str| Err(Refusal::new(&host, what));
        let Some(port) = url.port_or_known_default().filter(|port| *port != 0) else {
            return refuse("its port is not a number from 1 to 65535");
        };
        let endpoint = Endpoint { host: host.clone(), port };
        if self.deny.iter().any(|pattern| pattern.denies(&endpoint)) {
            return refuse("it is on the deny-list");
        }
        let standard = port == 443 || (port == 80 && self.is_insecure(&host));
        let registry = if standard { host.clone() } else { format!("{host}:{port}") };
        let listed = self.allow.iter().filter_map(|pattern| pattern.allows(&registry)).max();
        if listed == Some(Listed::ByName) || self.named.contains(&registry) {
            return Ok(AllowedAddresses::Anywhere);
        }
        match address.and_then(|address| self.address_problem(address)) {
            Some(problem) => Err(Refusal { host: registry, what: problem }),
            None => Ok(AllowedAddresses::Public),
        }
    }

    /// Those of the resolved addresses that may be connected to.
    pub(super) fn permitted(
        &self,
        host: &str,
        reach: AllowedAddresses,
        addresses: &[IpAddr],
    ) -> Result<Vec<IpAddr>, Refusal> {
        let problem = |address: &IpAddr| match reach {
            AllowedAddresses::Anywhere => self.denied_address(*address),
            AllowedAddresses::Public => {
                self.denied_address(*address).or_else(|| self.address_problem(*address))
            }
        };
        let mut first = None;
        let mut permitted = Vec::new();
        for address in addresses {
            match problem(address) {
                None => permitted.push(*address),
                Some(what) => first = first.or(Some(what)),
            }
        }
        match first {
            Some(what) if permitted.is_empty() => Err(Refusal::new(host, &what)),
            _ => Ok(permitted),
        }
    }

    /// An address on the deny-list stays denied under every name.
    fn denied_address(&self, address: IpAddr) -> Option<String> {
        let spelt = embedded(address).unwrap_or(address).to_string();
        let denies =
            |pattern: &Pattern| pattern.port.is_none() && pattern.host == RegistryHost::Exact(spelt.clone());
        self.deny.iter().any(denies).then(|| format!("its address {address} is on the deny-list"))
    }

    /// Applies the lists, and judges addresses that are written as the host. Returns what remains to be resolved, if
    /// anything.
    fn name_verdict(&self, reference: &Reference) -> Result<Option<Endpoint>, Error> {
        let registry = &reference.registry;
        let endpoint = Endpoint::parse(registry, self.is_insecure(registry))
            .ok_or_else(|| refuse(reference, "the port is not a number from 1 to 65535".into()))?;
        if self.deny.iter().any(|pattern| pattern.denies(&endpoint)) {
            return Err(refuse(
                reference,
                "it is on the deny-list; take it off `images.registries.deny` to ask it".into(),
            ));
        }
        let Some(strongest) = self.allow.iter().filter_map(|pattern| pattern.allows(registry)).max() else {
            let message = format!("it is not on the allow-list; add `{registry}` to `allow` to ask it");
            return Err(refuse(reference, message));
        };
        if strongest == Listed::ByName {
            return Ok(None);
        }
        match HostKind::of(&endpoint.host) {
            HostKind::Name => Ok(Some(endpoint)),
            HostKind::Address(address) => self.check_address(reference, IpAddr::V4(address)).map(|()| None),
            HostKind::Neither => {
                Err(refuse(reference, "its host ends in a number and is not an IPv4 address".into()))
            }
        }
    }

    /// Whether a registry that is not listed by its name may have this address.
    fn check_address(&self, reference: &Reference, address: IpAddr) -> Result<(), Error> {
        self.address_problem(address).map_or(Ok(()), |what| Err(refuse_address(reference, &what)))
    }

    /// Why a host that is not listed by its name may not have this address.
    fn address_problem(&self, address: IpAddr) -> Option<String> {
        let inner = embedded(address);
        let in_allowed = |ip: &IpAddr| self.allowed_cidrs.iter().any(|net| net.contains(ip));
        if in_allowed(&address) || inner.as_ref().is_some_and(in_allowed) {
            return None;
        }
        not_public(inner.unwrap_or(address)).map(|what| format!("its address {address} is {what}"))
    }
}

/// The addresses at which a host may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AllowedAddresses {
    /// Any address: the configuration lists this very host.
    Anywhere,
    /// Public addresses, and those in `allowedCidrs`.
    Public,
}

/// A host that may not be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) host: String,
    /// Which rule refuses it, such as `its address 127.0.0.1 is a loopback address`.
    pub(super) what: String,
}

impl Refusal {
    fn new(host: &str, what: &str) -> Self {
        Self { host: host.to_string(), what: what.to_string() }
    }

    /// The error when the registry itself is refused.
    pub(super) fn of(&self, reference: &Reference) -> Error {
        refuse_address(reference, &self.what)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` may not be connected to: {}", self.host, self.what)
    }
}

impl std::error::Error for Refusal {}

/// Host of a URL as image names write it, and its address if the host is one. The URL parser normalises IPv4 addresses,
/// and keeps the dot that ends an absolute name.
fn url_host(url: &Url) -> Option<(String, Option<IpAddr>)> {
    let host = url.host_str()?;
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().ok()?;
        return Some((host.to_string(), Some(address.into())));
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let host = if DOCKER_HUB_HOSTS.contains(&host.as_str()) { DOCKER_HUB.to_string() } else { host };
    let address = host.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    Some((host, address))
}

/// How the allow-list names a registry. The greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Listed {
    /// By `*` or `*.suffix`: the owner of any name under it chooses the address.
    ByPattern,
    /// By its whole name: the platform means this very registry.
    ByName,
}

/// Host and port of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    /// In lower case.
    host: String,
    port: u16,
}

impl Endpoint {
    fn parse(registry: &str, insecure: bool) -> Option<Self> {
        let (host, port) = split_port(registry)?;
        let standard = if insecure { 80 } else { 443 };
        Some(Self { host: host.to_ascii_lowercase(), port: port.unwrap_or(standard) })
    }
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    host: RegistryHost,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RegistryHost {
    Any,
    /// `*.example.com`, stored as `.example.com`.
    Under(String),
    Exact(String),
}

impl Pattern {
    fn parse(entry: &str) -> Result<Self, Error> {
        let lower = entry.to_ascii_lowercase();
        if let Some((scheme, rest)) = lower.split_once("://") {
            let host = rest.split('/').next().unwrap_or_default();
            return Err(set_up(entry, &format!("it starts with `{scheme}://`; write `{host}`")));
        }
        let (host, port) =
            split_port(&lower).ok_or_else(|| set_up(entry, "the port is not a number from 1 to 65535"))?;
        let is_host = |text: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
            !text.is_empty() && text.bytes().all(known) && text.split('.').all(|label| !label.is_empty())
        };
        let host = match host.strip_prefix("*.") {
            Some(suffix) if is_host(suffix) => RegistryHost::Under(format!(".{suffix}")),
            None if host == "*" => RegistryHost::Any,
            // Image references never hold the other names of Docker Hub, because parsing rewrites them.
            None if DOCKER_HUB_HOSTS.contains(&host) => RegistryHost::Exact(DOCKER_HUB.into()),
            None if is_host(host) => RegistryHost::Exact(host.into()),
            _ => return Err(set_up(entry, "write `host`, `host:port`, `*.suffix` or `*`")),
        };
        Ok(Self { host, port })
    }

    fn matches_host(&self, host: &str) -> bool {
        match &self.host {
            RegistryHost::Any => true,
            RegistryHost::Under(suffix) => host.ends_with(suffix.as_str()),
            RegistryHost::Exact(exact) => exact == host,
        }
    }

    /// Without a port, an entry denies the host on every port.
    fn denies(&self, endpoint: &Endpoint) -> bool {
        let spelt = HostKind::of(&endpoint.host).address().map(|address| address.to_string());
        let host = self.matches_host(&endpoint.host) || spelt.is_some_and(|host| self.matches_host(&host));
        host && self.port.is_none_or(|port| port == endpoint.port)
    }

    /// Without a port, an entry allows the host on the standard port; `*` allows every port.
    fn allows(&self, registry: &str) -> Option<Listed> {
        let (host, port) = split_port(registry)?;
        let standard = |port: Option<u16>| port.filter(|port| *port != 443);
        let any_port = self.host == RegistryHost::Any && self.port.is_none();
        if !self.matches_host(&host.to_ascii_lowercase())
            || (!any_port && standard(self.port) != standard(port))
        {
            return None;
        }
        Some(if matches!(self.host, RegistryHost::Exact(_)) { Listed::ByName } else { Listed::ByPattern })
    }
}

/// `host` and `port` of `host[:port]`; `None` when the port is not valid.
fn split_port(registry: &str) -> Option<(&str, Option<u16>)> {
    match registry.split_once(':') {
        None => Some((registry, None)),
        Some((host, port)) => {
            port.parse().ok().filter(|port: &u16| *port != 0).map(|port| (host, Some(port)))
        }
    }
}

fn refuse(reference: &Reference, message: String) -> Error {
    Error::RefuseRegistry { registry: reference.registry.clone(), image: reference.to_string(), message }
}

fn refuse_address(reference: &Reference, what: &str) -> Error {
    let registry = &reference.registry;
    let fix = if what.ends_with("deny-list") {
        "take it off `images.registries.deny` to ask it".to_string()
    } else {
        format!(
            "add `{registry}` to `images.registries.allow` (`--allow-registry`) or its network to \
             `images.registries.allowedCidrs` to ask it"
        )
    };
    refuse(reference, format!("{what}; {fix}"))
}

fn set_up(entry: &str, message: &str) -> Error {
    Error::SetUpClient { message: format!("the registry pattern `{entry}` is not understood: {message}") }
}

/// What a host is. URL parsers read `2130706433`, `0x7f.1` and `0177.0.0.1` as 127.0.0.1 (URL Standard, section 3.5,
/// the "ends in a number" checker and the IPv4 parser), and so does `getaddrinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostKind {
    Name,
    /// An IPv4 address in any spelling.
    Address(Ipv4Addr),
    /// It ends in a number, so it cannot be a name, and is not an address either.
    Neither,
}

impl HostKind {
    fn of(host: &str) -> Self {
        let parts: Vec<&str> = host.split('.').collect();
        let Some(last) = parts.last() else { return Self::Name };
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        if !numeric && !last.strip_prefix("0x").is_some_and(hex) {
            return Self::Name;
        }
        ipv4(&parts).map_or(Self::Neither, Self::Address)
    }

    fn address(self) -> Option<Ipv4Addr> {
        if let Self::Address(address) = self { Some(address) } else { None }
    }
}

/// The last part fills all bytes that the earlier parts leave.
fn ipv4(parts: &[&str]) -> Option<Ipv4Addr> {
    let (last, first) = parts.split_last()?;
    let mut address: u64 = 0;
    for part in first {
        address = (address << 8) | number(part).filter(|value| *value < 256)?;
    }
    let free = 8 * 4_usize.checked_sub(first.len()).filter(|bytes| *bytes > 0)?;
    let last = number(last).filter(|value| *value < 1 << free)?;
    u32::try_from((address << free) | last).ok().map(Ipv4Addr::from)
}

/// Decimal, `0x` hexadecimal, or octal after a leading zero.
fn number(part: &str) -> Option<u64> {
    match (part.strip_prefix("0x"), part.strip_prefix('0')) {
        (Some(""), _) => Some(0),
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok(),
        (None, Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => part.parse().ok(),
    }
}

/// The IPv4 address that an IPv6 address leads to.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let [s0, s1, s2, s3, s4, s5, high, low] = v6.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into());
    match [s0, s1, s2, s3, s4, s5] {
        // `::` and `::1` are addresses of their own; the rest of ::/96 is IPv4-compatible (RFC 4291, 2.5.5.1).
        [0, 0, 0, 0, 0, 0] if high == 0 && low <= 1 => None,
        // IPv4-compatible, IPv4-mapped, and the NAT64 well-known prefix (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo hides the client's address by inverting it (RFC 4380).
        [0x2001, 0, ..] => v4(!high, !low),
        _ => None,
    }
}

/// What kind of address it is, if it is not one of the public Internet (IANA special-purpose address registries).
fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => v4_not_public(v4),
        IpAddr::V6(v6) => v6_not_public(v6),
    }
}

fn v4_not_public(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("a link-local address, where clouds serve their metadata"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("a private address"),
        [100, 64..=127, ..] => Some("a carrier-grade NAT address"),
        [0, ..] => Some("an unspecified address"),
        [224..=239, ..] => Some("a multicast address"),
        [192, 0, 0, _] | [198, 18..=19, ..] | [240..=255, ..] => Some("a reserved address"),
        // Azure's virtual machines reach the platform's agents there ("What is IP address 168.63.129.16").
        [168, 63, 129, 16] => Some("the address of a cloud platform's own services"),
        _ => None,
    }
}

fn v6_not_public(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address, where clouds serve their metadata"),
        // Unique local, and site-local, which it replaced (RFC 4193, RFC 3879).
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some("a private address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x2001, 0xdb8, ..] => Some("a reserved address"),
        // Only 2000::/3 is assigned to the public Internet (RFC 4291, 2.4). This arm covers local NAT64 prefixes too.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str], deny: &[&str], cidrs: &[&str]) -> Guard {
        let strings = |entries: &[&str]| entries.iter().map(ToString::to_string).collect();
        Guard::new(&GuardOptions {
            allow: strings(allow),
            deny: strings(deny),
            insecure: Vec::new(),
            allowed_cidrs: cidrs.iter().map(|net| net.parse().unwrap()).collect(),
        })
        .unwrap()
    }

    fn image(registry: &str) -> Reference {
        Reference::parse(&format!("{registry}/a/b:1")).unwrap()
    }

    fn name(guard: &Guard, registry: &str) -> Result<(), String> {
        guard.check_name(&image(registry)).map_err(|error| error.to_string())
    }

    fn address(guard: &Guard, address: &str) -> Result<(), String> {
        guard
            .check_address(&image("example.com"), address.parse().unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_public_registry_may_be_asked_by_default() {
        let guard = Guard::new(&GuardOptions::default()).unwrap();
        for registry in ["ghcr.io", "docker.io", "example.com:8443", "203.0.114.7:5000"] {
            assert_eq!(name(&guard, registry), Ok(()), "{registry}");
        }
        for public in
            ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
        {
            assert_eq!(address(&guard, public), Ok(()), "{public}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_whatever_form_they_take() {
        let guard = Guard::new(&GuardOptions::default()).unwrap();
        for (refused, what) in [
            ("127.0.0.1", "a loopback"),
            ("127.255.255.254", "a loopback"),
            ("::1", "a loopback"),
            ("169.254.169.254", "a link-local"),
            ("fe80::1", "a link-local"),
            ("febf::1", "a link-local"),
            ("10.0.0.1", "a private"),
            ("172.16.0.1", "a private"),
            ("172.31.255.255", "a private"),
            ("192.168.1.1", "a private"),
            ("fc00::1", "a private"),
            ("fd00:ec2::254", "a private"),
            ("fec0::1", "a private"),
            ("100.64.0.1", "a carrier-grade NAT"),
            ("100.100.100.200", "a carrier-grade NAT"),
            ("0.0.0.0", "an unspecified"),
            ("0.1.2.3", "an unspecified"),
            ("::", "an unspecified"),
            ("224.0.0.1", "a multicast"),
            ("239.255.255.255", "a multicast"),
            ("ff02::1", "a multicast"),
            ("240.0.0.1", "a reserved"),
            ("255.255.255.255", "a reserved"),
            ("198.18.0.1", "a reserved"),
            ("192.0.0.192", "a reserved"),
            ("168.63.129.16", "a cloud platform"),
            ("2001:db8::1", "a reserved"),
            ("4000::1", "a reserved"),
            // The same, embedded in IPv6.
            ("::ffff:127.0.0.1", "a loopback"),
            ("::ffff:169.254.169.254", "a link-local"),
            ("::ffff:10.0.0.1", "a private"),
            ("::127.0.0.1", "a loopback"),
            ("2002:7f00:1::1", "a loopback"),
            ("2002:a9fe:a9fe::", "a link-local"),
            ("2002:c0a8:101::1", "a private"),
            ("64:ff9b::7f00:1", "a loopback"),
            ("64:ff9b::169.254.169.254", "a link-local"),
            ("64:ff9b:1::a00:1", "a reserved"),
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", "a loopback"),
        ] {
            let message = address(&guard, refused).unwrap_err();
            assert!(message.contains(what), "{refused}: {message}");
            assert!(message.contains("`images.registries.allowedCidrs`"), "{message}");
        }
    }

    #[test]
    fn an_address_inside_an_allowed_network_may_be_asked() {
        let guard = guard(&["*"], &[], &["10.20.0.0/16", "fd00::/8"]);
        assert_eq!(address(&guard, "10.20.3.4"), Ok(()));
        assert_eq!(address(&guard, "::ffff:10.20.3.4"), Ok(()));
        assert_eq!(address(&guard, "fd12::1"), Ok(()));
        assert!(address(&guard, "10.21.0.1").is_err());
        assert_eq!(name(&guard, "10.20.3.4:5000"), Ok(()));
    }

    #[test]
    fn every_spelling_of_an_address_is_the_address() {
        let guard = Guard::new(&GuardOptions::default()).unwrap();
        for spelling in [
            "127.0.0.1:5000",
            "127.1:5000",
            "2130706433:5000",
            "0x7f000001:5000",
            "0x7F.1:5000",
            "0177.0.0.1:5000",
            "017700000001:5000",
            "0x7f.0x0.0x0.0x1",
            "127.0.1",
        ] {
            let message = name(&guard, spelling).unwrap_err();
            assert!(message.contains("127.0.") && message.contains("loopback"), "{spelling}: {message}");
        }
        for metadata in
            ["169.254.169.254", "2852039166:80", "0xa9fea9fe:80", "0251.0376.0251.0376:80", "169.254.43518"]
        {
            assert!(name(&guard, metadata).unwrap_err().contains("link-local"), "{metadata}");
        }
    }

    #[test]
    fn a_host_that_ends_in_a_number_but_is_not_an_address_is_refused() {
        let guard = Guard::new(&GuardOptions::default()).unwrap();
        for nonsense in
            ["1.2.3.4.5", "256.0.0.1", "4294967296:5000", "0400.0.0.1", "08.0.0.1", "foo.1", "foo.0x1"]
        {
            assert!(name(&guard, nonsense).unwrap_err().contains("not an IPv4 address"), "{nonsense}");
        }
    }

    #[test]
    fn a_literal_address_is_read_as_in_urls() {
        let read = |host: &str| HostKind::of(host).address().map(|address| address.to_string());
        assert_eq!(read("0").as_deref(), Some("0.0.0.0"));
        assert_eq!(read("1").as_deref(), Some("0.0.0.1"));
        assert_eq!(read("1.2").as_deref(), Some("1.0.0.2"));
        assert_eq!(read("1.2.3").as_deref(), Some("1.2.0.3"));
        assert_eq!(read("0x").as_deref(), Some("0.0.0.0"));
        assert_eq!(read("1.65536.1"), None);
        assert_eq!(HostKind::of("ghcr.io"), HostKind::Name);
        assert_eq!(HostKind::of("0xfg"), HostKind::Name);
    }

    #[test]
    fn a_registry_that_is_listed_by_its_name_may_have_any_address() {
        let guard = guard(&["*", "127.0.0.1:5000", "registry.corp"], &[], &[]);
        assert_eq!(name(&guard, "127.0.0.1:5000"), Ok(()));
        assert_eq!(guard.name_verdict(&image("registry.corp")).unwrap(), None);
        assert_eq!(guard.name_verdict(&image("REGISTRY.corp:443")).unwrap(), None);
        assert!(name(&guard, "127.0.0.1:5001").is_err());
        assert!(guard.name_verdict(&image("registry.corp:5000")).unwrap().is_some());
    }

    #[test]
    fn a_pattern_allows_the_name_but_not_every_address() {
        let guard = guard(&["*.example.com", "*.corp:5000"], &[], &[]);
        assert_eq!(name(&guard, "a.example.com"), Ok(()));
        assert_eq!(name(&guard, "a.b.corp:5000"), Ok(()));
        for other in
            ["example.com", "example.org", "badexample.com", "a.example.com:8443", "a.corp", "docker.io"]
        {
            assert!(name(&guard, other).unwrap_err().contains("not on the allow-list"), "{other}");
        }
        assert!(address(&guard, "127.0.0.1").is_err());
    }

    #[test]
    fn the_deny_list_wins_on_every_port_and_in_every_spelling() {
        let guard = guard(
            &["*", "evil.example"],
            &["evil.example", "*.bad.example", "good.example:81", "9.9.9.9"],
            &[],
        );
        for denied in [
            "evil.example",
            "EVIL.example:8443",
            "a.bad.example:1",
            "good.example:81",
            "9.9.9.9",
            "0x9.0x9.9.9:81",
        ] {
            assert!(name(&guard, denied).unwrap_err().contains("deny-list"), "{denied}");
        }
        assert_eq!(name(&guard, "good.example"), Ok(()));
    }

    #[test]
    fn docker_hub_can_be_listed_by_either_name() {
        for entry in ["docker.io", "index.docker.io"] {
            let nginx = Reference::parse("nginx").unwrap();
            assert_eq!(guard(&[entry], &[], &[]).check_name(&nginx), Ok(()));
            assert!(guard(&["*"], &[entry], &[]).check_name(&nginx).is_err());
        }
    }

    #[test]
    fn an_empty_allow_list_allows_nothing() {
        assert!(name(&guard(&[], &[], &[]), "ghcr.io").unwrap_err().contains("add `ghcr.io` to `allow`"));
    }

    #[test]
    fn an_invalid_port_is_refused() {
        for registry in ["ghcr.io:0", "ghcr.io:65536"] {
            assert!(name(&guard(&["*"], &[], &[]), registry).unwrap_err().contains("from 1 to 65535"));
        }
    }

    #[test]
    fn entries_that_could_never_match_are_refused() {
        for entry in
            ["https://ghcr.io", "ghcr.io/myorg", "", "a*.example.com", "*.", "ghcr.io:", "a..b", "gh cr.io"]
        {
            let options = GuardOptions { allow: vec![entry.into()], ..GuardOptions::default() };
            assert!(matches!(Guard::new(&options), Err(Error::SetUpClient { .. })), "{entry}");
        }
        for entry in ["*", "index.docker.io", "Registry-1.docker.io:443"] {
            let options = GuardOptions { insecure: vec![entry.into()], ..GuardOptions::default() };
            assert!(Guard::new(&options).is_err(), "{entry}");
        }
    }

    fn hop(guard: &Guard, url: &str) -> Result<AllowedAddresses, String> {
        guard.check_url(&Url::parse(url).unwrap()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_redirect_is_held_to_the_address_rules_in_every_spelling() {
        let guard = Guard::new(&GuardOptions::default()).unwrap();
        for url in [
            "https://127.0.0.1/x",
            "https://2130706433/x",
            "https://0x7f.1/x",
            "https://[::1]/x",
            "https://[::ffff:169.254.169.254]/x",
            "http://169.254.169.254/latest/meta-data",
            "https://10.0.0.1:8443/",
            "https://127.0.0.1./",
        ] {
            let refused = hop(&guard, url).unwrap_err();
            assert!(refused.contains("its address"), "{url}: {refused}");
        }
        assert_eq!(hop(&guard, "https://cdn.example.com/x"), Ok(AllowedAddresses::Public));
        assert_eq!(hop(&guard, "https://203.0.114.7/x"), Ok(AllowedAddresses::Public));
    }

    #[test]
    fn a_redirect_need_not_be_on_the_allow_list_but_must_not_be_on_the_deny_list() {
        let guard =
            guard(&["ghcr.io", "registry.corp:5000"], &["*.bad.example", "evil.example", "9.9.9.9"], &[]);
        assert_eq!(hop(&guard, "https://cdn.example.com/x"), Ok(AllowedAddresses::Public));
        assert_eq!(hop(&guard, "https://registry.corp:5000/x"), Ok(AllowedAddresses::Anywhere));
        assert_eq!(
            hop(&guard, "https://registry.corp:22/x"),
            Ok(AllowedAddresses::Public),
            "another port was not listed"
        );
        assert_eq!(hop(&guard, "https://GHCR.io/x"), Ok(AllowedAddresses::Anywhere));
        for url in
            ["https://a.bad.example/", "http://evil.example./", "https://9.9.9.9:1/", "https://151587081/"]
        {
            assert!(hop(&guard, url).unwrap_err().contains("deny-list"), "{url}");
        }
    }

    #[test]
    fn only_permitted_addresses_of_a_name_are_returned() {
        let guard = guard(&["*"], &["9.9.9.9"], &["10.1.0.0/16"]);
        let addresses =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let permit = |reach, texts: &[&str]| guard.permitted("r.example", reach, &addresses(texts));
        let mixed = ["127.0.0.1", "8.8.8.8", "10.1.2.3", "10.2.0.1", "9.9.9.9", "fe80::1"];
        assert_eq!(permit(AllowedAddresses::Public, &mixed).unwrap(), addresses(&["8.8.8.8", "10.1.2.3"]));
        let refused = permit(AllowedAddresses::Public, &["127.0.0.1", "::1"]).unwrap_err();
        assert!(refused.to_string().contains("loopback"), "{refused}");
        assert_eq!(
            permit(AllowedAddresses::Anywhere, &["127.0.0.1", "9.9.9.9"]).unwrap(),
            addresses(&["127.0.0.1"])
        );
        let denied = permit(AllowedAddresses::Anywhere, &["9.9.9.9", "::ffff:9.9.9.9"]).unwrap_err();
        let scheme = Pattern::parse("https://ghcr.io/").unwrap_err().to_string();
        assert!(scheme.contains("it starts with `https://`; write `ghcr.io`"), "{scheme}");
        assert!(denied.of(&image("r.example")).to_string().contains("take it off `images.registries.deny`"));
    }

    #[test]
    fn the_options_have_defaults_and_refuse_unknown_fields() {
        let options: GuardOptions = serde_json::from_str(r#"{"allowedCidrs":["10.0.0.0/8"]}"#).unwrap();
        assert_eq!(options.allow, ["*"]);
        assert!(serde_json::from_str::<GuardOptions>(r#"{"alow":[]}"#).is_err());
    }
}
