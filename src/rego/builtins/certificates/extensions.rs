//! The extensions of a certificate, as Go reads them (`crypto/x509:parser.go`, `processExtensions`, Go 1.26).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::extensions::X509Extension;

use super::der::{Elements, encoded, identifier, malformed, numbers, unread};
use crate::rego::call;
use crate::rego::failure::Failure;
use crate::rego::value::Value;

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const BITS: u8 = 0x03;
const IDENTIFIER: u8 = 0x06;
const URI: u8 = 0x86;
/// Purposes by their place in Go's list (`ExtKeyUsage`).
const PURPOSES: [&[i64]; 14] = [
    &[2, 5, 29, 37, 0],
    &[1, 3, 6, 1, 5, 5, 7, 3, 1],
    &[1, 3, 6, 1, 5, 5, 7, 3, 2],
    &[1, 3, 6, 1, 5, 5, 7, 3, 3],
    &[1, 3, 6, 1, 5, 5, 7, 3, 4],
    &[1, 3, 6, 1, 5, 5, 7, 3, 5],
    &[1, 3, 6, 1, 5, 5, 7, 3, 6],
    &[1, 3, 6, 1, 5, 5, 7, 3, 7],
    &[1, 3, 6, 1, 5, 5, 7, 3, 8],
    &[1, 3, 6, 1, 5, 5, 7, 3, 9],
    &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3],
    &[2, 16, 840, 1, 113_730, 4, 1],
    &[1, 3, 6, 1, 4, 1, 311, 2, 1, 22],
    &[1, 3, 6, 1, 4, 1, 311, 61, 1, 1],
];

/// What the extensions say, by Go's names.
#[derive(Default)]
pub(super) struct Found {
    pub members: BTreeMap<&'static str, Value>,
}

impl Found {
    fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.members.insert(name, value.into());
    }

    pub fn push(&mut self, name: &'static str, value: Value) {
        match self.members.get_mut(name) {
            Some(Value::Array(items)) => items.push(value),
            _ => self.set(name, Value::Array(vec![value])),
        }
    }
}

/// Reads them in their order.
pub(super) fn read(extensions: &[X509Extension<'_>]) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut seen = Vec::new();
    for extension in extensions {
        let id = identifier(extension.oid.as_bytes())?;
        if seen.contains(&id) {
            return Failure::error("x509: certificate contains duplicate extension");
        }
        let is_known = known(&id, extension, &mut found)?;
        if !is_known && extension.critical {
            found.push("UnhandledCriticalExtensions", numbers(&id));
        }
        let members = [
            ("Critical", Value::Bool(extension.critical)),
            ("Id", numbers(&id)),
            ("Value", encoded(extension.value)),
        ];
        found.push("Extensions", call::object(members));
        seen.push(id);
        if seen.len() > 64 {
            return unread("more than 64 extensions");
        }
    }
    Ok(found)
}

/// Whether Go knows it.
fn known(id: &[i64], extension: &X509Extension<'_>, found: &mut Found) -> Result<bool, Failure> {
    let value = extension.value;
    match id {
        [2, 5, 29, 14 | 35] | [1, 3, 6, 1, 5, 5, 7, 1, 1] if extension.critical => return Err(malformed()),
        [2, 5, 29, 14] => found.set("SubjectKeyId", encoded(Elements::of(value).read(OCTETS)?)),
        [2, 5, 29, 15] => found.set("KeyUsage", Value::int(key_usage(value)?)),
        [2, 5, 29, 17] => return names(value, found),
        [2, 5, 29, 19] => constraints(value, found)?,
        [2, 5, 29, 31] => distribution_points(value, found)?,
        [2, 5, 29, 32] => policies(value, found)?,
        [2, 5, 29, 35] => {
            let mut elements = Elements::within(value, SEQUENCE)?;
            if elements.has(0x80) {
                found.set("AuthorityKeyId", encoded(elements.read(0x80)?));
            }
        }
        [2, 5, 29, 37] => purposes(value, found)?,
        [2, 5, 29, 30 | 33 | 36 | 54] => return unread("constraints of names or policies"),
        [1, 3, 6, 1, 5, 5, 7, 1, 1] => access(value, found)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The bits in Go's order, the first of them is the lowest.
fn key_usage(value: &[u8]) -> Result<i64, Failure> {
    let bits = Elements::of(value).read(BITS)?;
    let (&unused, bytes) = bits.split_first().ok_or_else(malformed)?;
    let last_unused = bytes.last().map_or(0, |last| last.trailing_zeros());
    if unused > 7 || u32::from(unused) > last_unused {
        return Err(malformed());
    }
    let is_set = |place: usize| bytes.get(place / 8).is_some_and(|byte| byte & (0x80 >> (place % 8)) != 0);
    Ok((0..9).filter(|place| is_set(*place)).map(|place| 1 << place).sum())
}

fn constraints(value: &[u8], found: &mut Found) -> Result<(), Failure> {
    let mut elements = Elements::within(value, SEQUENCE)?;
    let mut is_ca = false;
    if elements.has(0x01) {
        is_ca = match elements.read(0x01)? {
            [0xff] => true,
            [0] => false,
            _ => return Err(malformed()),
        };
    }
    let mut length = -1;
    if elements.has(0x02) {
        length = match elements.read(0x02)? {
            [one @ 0..=0x7f] => i64::from(*one),
            _ => return unread("a long path"),
        };
    }
    found.set("BasicConstraintsValid", Value::Bool(true));
    found.set("IsCA", Value::Bool(is_ca));
    found.set("MaxPathLen", Value::int(length));
    found.set("MaxPathLenZero", Value::Bool(length == 0));
    Ok(())
}

fn distribution_points(value: &[u8], found: &mut Found) -> Result<(), Failure> {
    let mut points = Elements::within(value, SEQUENCE)?;
    while !points.is_empty() {
        let mut point = Elements::of(points.read(SEQUENCE)?);
        if !point.has(0xa0) {
            continue;
        }
        let mut names = Elements::within(point.read(0xa0)?, 0xa0)?;
        while names.has(URI) {
            let address = address(names.read(URI)?)?;
            found.push("CRLDistributionPoints", address);
        }
    }
    Ok(())
}

fn policies(value: &[u8], found: &mut Found) -> Result<(), Failure> {
    let mut policies = Elements::within(value, SEQUENCE)?;
    let mut seen = Vec::new();
    found.set("Policies", Value::Array(Vec::new()));
    found.set("PolicyIdentifiers", Value::Array(Vec::new()));
    while !policies.is_empty() {
        let id = identifier(Elements::of(policies.read(SEQUENCE)?).read(IDENTIFIER)?)?;
        if seen.contains(&id) {
            return Err(malformed());
        }
        let written: Vec<String> = id.iter().map(i64::to_string).collect();
        found.push("Policies", Value::String(written.join(".")));
        found.push("PolicyIdentifiers", numbers(&id));
        seen.push(id);
        if seen.len() > 64 {
            return unread("more than 64 policies");
        }
    }
    if seen.is_empty() {
        return unread("no policies");
    }
    Ok(())
}

fn purposes(value: &[u8], found: &mut Found) -> Result<(), Failure> {
    let mut purposes = Elements::within(value, SEQUENCE)?;
    while !purposes.is_empty() {
        let id = identifier(purposes.read(IDENTIFIER)?)?;
        match PURPOSES.iter().position(|known| *known == id).and_then(|place| i64::try_from(place).ok()) {
            Some(place) => found.push("ExtKeyUsage", Value::int(place)),
            None => found.push("UnknownExtKeyUsage", numbers(&id)),
        }
    }
    Ok(())
}

fn access(value: &[u8], found: &mut Found) -> Result<(), Failure> {
    let mut all = Elements::within(value, SEQUENCE)?;
    while !all.is_empty() {
        let mut one = Elements::of(all.read(SEQUENCE)?);
        let method = identifier(one.read(IDENTIFIER)?)?;
        if !one.has(URI) {
            continue;
        }
        let address = address(one.read(URI)?)?;
        match method.as_slice() {
            [1, 3, 6, 1, 5, 5, 7, 48, 1] => found.push("OCSPServer", address),
            [1, 3, 6, 1, 5, 5, 7, 48, 2] => found.push("IssuingCertificateURL", address),
            _ => {}
        }
    }
    Ok(())
}

/// ASCII, as names in certificates have to be.
fn plain(bytes: &[u8]) -> Result<Value, Failure> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii());
    text.map(Value::text).ok_or_else(malformed)
}

/// The same of an address for programs, which Go takes as it is.
fn address(bytes: &[u8]) -> Result<Value, Failure> {
    plain(bytes).or_else(|_| unread("an address that is not ASCII"))
}

/// Alternative names. Whether there is one of the four kinds that Go reads.
pub(super) fn names(value: &[u8], found: &mut Found) -> Result<bool, Failure> {
    let mut names = Elements::within(value, SEQUENCE)?;
    let mut is_known = false;
    while !names.is_empty() {
        let (tag, bytes) = names.any()?;
        match tag {
            0x81 => found.push("EmailAddresses", plain(bytes)?),
            0x82 => found.push("DNSNames", plain(bytes)?),
            URI => {
                let Value::String(address) = plain(bytes)? else { continue };
                found.push("URIs", address_of(&address)?);
                found.push("URIStrings", Value::String(address));
            }
            0x87 => {
                let address = if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
                    Ipv4Addr::from(bytes).to_string()
                } else {
                    let long = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).map_err(|_| malformed())?);
                    long.to_ipv4_mapped().map_or_else(|| long.to_string(), |short| short.to_string())
                };
                found.push("IPAddresses", Value::String(address));
            }
            _ => continue,
        }
        is_known = true;
    }
    Ok(is_known)
}

/// An address as Go takes it apart (`net/url.URL`): a scheme, a host and a path of plain letters, such as a SPIFFE id.
fn address_of(text: &str) -> Result<Value, Failure> {
    let other = || {
        Failure::Halt(
            "a certificate whose address is not `scheme://host/path` of plain letters is not read here"
                .into(),
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(other)?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(at).ok_or_else(other)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
    };
    let is_path = path.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._~-".contains(letter));
    if !is_scheme || !host.split('.').all(is_label) || !is_path {
        return Err(other());
    }
    let empty = || Value::text("");
    Ok(call::object([
        ("ForceQuery", Value::Bool(false)),
        ("Fragment", empty()),
        ("Host", Value::text(host)),
        ("OmitHost", Value::Bool(false)),
        ("Opaque", empty()),
        ("Path", Value::text(path)),
        ("RawFragment", empty()),
        ("RawPath", empty()),
        ("RawQuery", empty()),
        ("Scheme", Value::text(scheme)),
        ("User", Value::Null),
    ]))
}
