//! `net.cidr_*`, as Go's `net` reads addresses: an IPv4-mapped IPv6 address is an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::rego::call::{self, Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// A network: its first address as a number of so many bits, and how many of them are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    first: u128,
    prefix: u32,
    bits: u32,
}

/// An address as Go compares it.
fn normal(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => (u128::from(u32::from(mapped)), 32),
            None => (u128::from(address), 128),
        },
    }
}

const fn mask(prefix: u32, bits: u32) -> u128 {
    let all = if bits == 32 { u32::MAX as u128 } else { u128::MAX };
    if prefix == 0 {
        return 0;
    }
    all & !((all >> (prefix - 1)) >> 1)
}

impl Network {
    fn parse(text: &str) -> Result<Self, Failure> {
        Self::read(text).ok_or_else(|| Failure::Error(format!("invalid CIDR address: {text}")))
    }

    fn read(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let digits =
            !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u32 = if digits { prefix.parse().ok()? } else { return None };
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return None;
        }
        let (value, bits) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let first = value & mask(prefix, bits);
        // An IPv4-mapped IPv6 address stays one where its mask covers the prefix of the mapping.
        let mapped = (bits == 128 && prefix >= 96).then(|| Ipv6Addr::from(first).to_ipv4_mapped()).flatten();
        Some(match mapped {
            Some(mapped) => {
                Self { first: u128::from(u32::from(mapped)), prefix: prefix.saturating_sub(96), bits: 32 }
            }
            None => Self { first, prefix, bits },
        })
    }

    fn contains(&self, (address, bits): (u128, u32)) -> bool {
        self.bits == bits && address & mask(self.prefix, bits) == self.first
    }

    const fn last(&self) -> u128 {
        let all = if self.bits == 32 { u32::MAX as u128 } else { u128::MAX };
        self.first | (all & !mask(self.prefix, self.bits))
    }

    const fn ends(&self) -> [(u128, u32); 2] {
        [(self.first, self.bits), (self.last(), self.bits)]
    }

    fn write(&self) -> String {
        format!("{}/{}", address_text(self.first, self.bits), self.prefix)
    }
}

fn address_text(address: u128, bits: u32) -> String {
    if bits == 32 {
        return Ipv4Addr::from(u32::try_from(address).unwrap_or_default()).to_string();
    }
    Ipv6Addr::from(address).to_string()
}

fn contains_text(network: &str, other: &str) -> Result<bool, Failure> {
    let network = Network::parse(network)?;
    Ok(ends(other)?.into_iter().all(|end| network.contains(end)))
}

/// The first and the last address of a network, or twice the same address.
fn ends(text: &str) -> Result<[(u128, u32); 2], Failure> {
    if let Ok(address) = text.parse() {
        return Ok([normal(address); 2]);
    }
    let wrong = || format!("not a valid textual representation of an IP address or CIDR: {text}");
    Ok(Network::read(text).ok_or_else(|| Failure::Error(wrong()))?.ends())
}

pub(super) fn contains(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Bool(contains_text(operands.text(0)?, operands.text(1)?)?))
}

pub(super) fn intersects(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (a, b) = (Network::parse(operands.text(0)?)?, Network::parse(operands.text(1)?)?);
    Ok(Value::Bool(a.contains((b.first, b.bits)) || b.contains((a.first, a.bits))))
}

pub(super) fn is_valid(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Bool(operands.text(0).is_ok_and(|text| Network::read(text).is_some())))
}

/// The network that an item is, or that it begins with.
fn listed_network(item: &Value) -> Result<&str, Failure> {
    match item {
        Value::String(text) => Ok(text),
        Value::Array(items) => match items.first() {
            Some(Value::String(text)) => Ok(text),
            _ => Failure::error("element must be string or non-empty array"),
        },
        _ => Failure::error("element must be string or non-empty array"),
    }
}

/// What an operand of `net.cidr_contains_matches` lists: each network, and by what it is known.
fn listed(operand: &Value) -> Result<Vec<(&str, Value)>, Failure> {
    match operand {
        Value::String(text) => Ok(vec![(text, operand.clone())]),
        Value::Array(items) => {
            (0_i64..).zip(items).map(|(index, item)| Ok((listed_network(item)?, Value::int(index)))).collect()
        }
        Value::Set(items) => items.iter().map(|item| Ok((listed_network(item)?, item.clone()))).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, item)| Ok((listed_network(item)?, key.clone()))).collect()
        }
        _ => Ok(Vec::new()),
    }
}

pub(super) fn contains_matches(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (networks, others) = (listed(operands.at(0)?)?, listed(operands.at(1)?)?);
    let mut found = Vec::new();
    if networks.is_empty() || others.is_empty() {
        return Ok(call::set(found));
    }
    let read = others.into_iter().map(|(other, name)| Ok((ends(other)?, name)));
    let others = read.collect::<Result<Vec<_>, Failure>>()?;
    for (network, name) in &networks {
        let network = Network::parse(network)?;
        // Comparing two takes far less than copying a value.
        call.take(others.len() / 8 + 1)?;
        for (ends, other_name) in &others {
            if ends.iter().all(|end| network.contains(*end)) {
                found.push(Value::Array(vec![name.clone(), other_name.clone()]));
                call.fits(found.len().saturating_mul(3 * VALUE_BYTES))?;
            }
        }
    }
    Ok(call::set(found))
}

pub(super) fn expand(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let network = Network::parse(operands.text(0)?)?;
    let count = network.last().saturating_sub(network.first).saturating_add(1);
    call.fits(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(2 * VALUE_BYTES))?;
    let all = network.first..=network.last();
    Ok(call::set(all.map(|address| Value::String(address_text(address, network.bits)))))
}

/// A network, or an address of IPv4 with the mask of its class, and how that is written where it stays alone.
fn mergeable(item: &Value) -> Result<(Network, Option<String>), Failure> {
    let Value::String(text) = item else { return Failure::error("element must be string") };
    let Ok(address) = text.parse::<IpAddr>() else { return Ok((Network::parse(text)?, None)) };
    let (first, bits) = normal(address);
    if bits != 32 {
        return Failure::error("IPv6 invalid: needs prefix length");
    }
    let prefix = match first >> 24 {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    };
    let written = Network { first, prefix, bits }.write();
    Ok((Network { first: first & mask(prefix, bits), prefix, bits }, Some(written)))
}

/// Whether an item is an IPv4 network that is written as an IPv6 one. OPA keeps these apart from those that are written as IPv4.
fn is_mapped(item: &Value, network: &Network) -> bool {
    network.bits == 32 && matches!(item, Value::String(text) if text.contains(':') && text.contains('/'))
}

/// The first and the last IPv6 address that stand for IPv4 ones.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// Leaves out the IPv4 networks that are in an IPv6 one, as OPA does. It may end where that one has no address behind them, and where the IPv6
/// network behind the last IPv4 address is there too, which it takes for its neighbour.
fn unite_families(networks: &mut Vec<(Network, bool, Option<String>)>) -> Result<(), Failure> {
    let any = |is: &dyn Fn(&Network) -> bool| networks.iter().any(|(network, ..)| is(network));
    let is_v6 = |network: &Network| network.bits == 128;
    let holds_v4 =
        |network: &Network| is_v6(network) && network.first <= MAPPED.0 && MAPPED.1 <= network.last();
    let ends = if any(&holds_v4) {
        any(&|network: &Network| !is_v6(network))
            && any(&|network: &Network| holds_v4(network) && network.last() == MAPPED.1)
    } else {
        any(&|network: &Network| !is_v6(network) && network.last() == u128::from(u32::MAX))
            && any(&|network: &Network| is_v6(network) && network.first == MAPPED.1 + 1)
    };
    if ends {
        return Err(Failure::Halt("opa may end where it merges such IPv4 and IPv6 networks".into()));
    }
    if any(&holds_v4) {
        networks.retain(|(network, ..)| is_v6(network));
    }
    Ok(())
}

pub(super) fn merge(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let mut networks = Vec::new();
    for item in operands.items(0)? {
        let (network, written) = mergeable(item)?;
        networks.push((network, is_mapped(item, &network), written));
    }
    unite_families(&mut networks)?;
    let mut merged = Vec::new();
    for kind in [(32, false), (32, true), (128, false)] {
        let of_kind = networks.iter().filter(|(network, is_mapped, _)| (network.bits, *is_mapped) == kind);
        let mut ranges: Vec<_> =
            of_kind.map(|(network, _, written)| (network.first, network.last(), written.clone())).collect();
        ranges.sort_unstable();
        let mut united: Vec<(u128, u128, Option<String>)> = Vec::new();
        for (first, last, written) in ranges {
            match united.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    *before = (before.0, before.1.max(last), None);
                }
                _ => united.push((first, last, written)),
            }
        }
        for (first, last, written) in united {
            if let Some(written) = written {
                merged.push(written);
                continue;
            }
            let networks = networks_of(first, last, kind.0);
            // Each is looked for by its length.
            call.take(networks.len().saturating_mul(20))?;
            merged.extend(networks.iter().map(Network::write));
        }
    }
    Ok(call::set(merged.into_iter().map(Value::String)))
}

/// The fewest networks that make up a range; two for each bit at most.
fn networks_of(first: u128, last: u128, bits: u32) -> Vec<Network> {
    let (mut networks, mut from) = (Vec::new(), first);
    for _ in 0..=2 * bits {
        let fits = |prefix: &u32| {
            let network = Network { first: from, prefix: *prefix, bits };
            from & mask(*prefix, bits) == from && network.last() <= last
        };
        let Some(prefix) = (0..=bits).find(fits) else { return networks };
        let network = Network { first: from, prefix, bits };
        networks.push(network);
        match network.last().checked_add(1) {
            Some(next) if next <= last => from = next,
            _ => return networks,
        }
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(function: fn(&mut Call, Operands<'_>) -> Outcome, operands: &[Value]) -> String {
        let mut call = Call::within(1 << 20);
        match function(&mut call, Operands(operands)) {
            Ok(value) => value.to_rego(),
            Err(failure) => format!("{failure:?}"),
        }
    }

    #[test]
    fn an_ipv4_address_is_found_in_its_ipv6_form() {
        let contains = |a: &str, b: &str| run(contains, &[Value::text(a), Value::text(b)]);
        assert_eq!(contains("169.254.0.0/16", "::ffff:169.254.169.254"), "true");
        assert_eq!(contains("::ffff:169.254.0.0/112", "169.254.169.254"), "true");
        assert_eq!(contains("10.0.0.0/8", "10.1.0.0/16"), "true");
        assert_eq!(contains("10.0.0.0/8", "fe80::1"), "false");
        assert!(contains("10.0.0.0/8", "10.0.0.256").contains("Error"));
        assert!(contains("010.0.0.0/8", "10.0.0.1").contains("Error"));
    }

    #[test]
    fn networks_are_merged_and_expanded_within_bounds() {
        let merged = run(merge, &[Value::texts(["10.0.0.0/25", "10.0.0.128/25", "10.0.2.0/24"])]);
        assert_eq!(merged, r#"{"10.0.0.0/24", "10.0.2.0/24"}"#);
        let merged = run(merge, &[Value::texts(["10.0.0.0/8", "::/64", "11.0.0.1", "2001:db8::/32"])]);
        assert_eq!(merged, r#"{"2001:db8::/32", "::/64"}"#);
        for both in [["255.0.0.0/8", "::1:0:0:0/80"], ["10.0.0.0/8", "::/80"]] {
            assert!(run(merge, &[Value::texts(both)]).contains("Halt"), "{both:?}");
        }
        assert_eq!(run(expand, &[Value::text("10.0.0.0/31")]), r#"{"10.0.0.0", "10.0.0.1"}"#);
        assert!(run(expand, &[Value::text("fe80::/8")]).contains("Halt"));
    }
}
