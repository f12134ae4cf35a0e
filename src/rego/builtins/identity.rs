//! `uuid.*` and `uri.*`.

use uuid::{Uuid, Variant};

use super::encoding::percent_decoded;
use crate::rego::call::{self, Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::{Object, Value};

/// Hundreds of nanoseconds from the start of the Gregorian calendar to 1970.
const GREGORIAN: i64 = 122_192_928_000_000_000;

/// The same one for the same operand in one evaluation.
pub(super) fn random(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let key = format!("uuid {}", operands.at(0)?.to_rego());
    Ok(call.random(key, || Value::String(Uuid::new_v4().to_string())))
}

pub(super) fn parse(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let Some(id) = read(operands.text(0)?) else { return Err(Failure::Undefined) };
    let version = i64::try_from(id.get_version_num()).unwrap_or_default();
    let variant = match id.get_variant() {
        Variant::RFC4122 => "RFC4122",
        Variant::Microsoft => "Microsoft",
        Variant::Future => "Future",
        _ => "Reserved",
    };
    let mut members = vec![("version", Value::int(version)), ("variant", Value::text(variant))];
    if matches!(version, 1 | 2) {
        members.extend(time_and_node(&id, version));
    }
    Ok(call::object(members))
}

/// What a version that is made of a time and a machine's address holds.
fn time_and_node(id: &Uuid, version: i64) -> Vec<(&'static str, Value)> {
    let (low, middle, high, [clock_high, clock_low, node @ ..]) = id.as_fields();
    let time = i64::from(high & 0x0fff) << 48 | i64::from(middle) << 32 | i64::from(low);
    let node_id: Vec<_> = node.iter().map(|byte| format!("{byte:02x}")).collect();
    let kind = match node.first().map(|first| first & 3) {
        Some(3) => "local:multicast",
        Some(1) => "global:multicast",
        Some(2) => "local:unicast",
        _ => "global:unicast",
    };
    let sequence = i64::from(u16::from_be_bytes([clock_high & 0x3f, *clock_low]));
    let mut members = vec![
        ("time", Value::int(time.saturating_sub(GREGORIAN).saturating_mul(100))),
        ("nodeid", Value::String(node_id.join("-"))),
        ("macvariables", Value::text(kind)),
        ("clocksequence", Value::int(sequence)),
    ];
    if version == 2 {
        let domain = match clock_low {
            0 => "Person".to_string(),
            1 => "Group".to_string(),
            2 => "Org".to_string(),
            other => format!("Domain{other}"),
        };
        members.extend([("id", Value::int(i64::from(low))), ("domain", Value::String(domain))]);
    }
    members
}

/// The four ways that `google/uuid` reads.
fn read(text: &str) -> Option<Uuid> {
    let bare = match text.len() {
        45 if text.get(..9)?.eq_ignore_ascii_case("urn:uuid:") => text.get(9..)?,
        38 => text.get(1..37)?,
        32 | 36 => text,
        _ => return None,
    };
    Uuid::try_parse(bare).ok()
}

// === Go's `net/url` ===

pub(super) fn uri_is_valid(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Bool(operands.text(0).is_ok_and(|text| !text.is_empty() && Uri::parse(text).is_some())))
}

/// The scheme and the path of an address that Go reads.
pub(super) fn uri_parts(text: &str) -> Option<(String, String)> {
    Uri::parse(text).map(|uri| (uri.scheme, uri.path))
}

pub(super) fn uri_parse(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let text = operands.text(0)?;
    let uri = Uri::parse(text).ok_or_else(|| Failure::Error(format!("parse {text:?}: invalid URI")))?;
    let mut members = Object::new();
    let mut add = |key: &str, value: String| {
        if !value.is_empty() {
            members.insert(Value::text(key), Value::String(value));
        }
    };
    add("scheme", uri.scheme);
    add("hostname", uri.hostname);
    add("port", uri.port);
    add("raw_path", uri.raw_path);
    add("path", uri.path);
    add("raw_query", uri.raw_query);
    add("fragment", uri.fragment);
    Ok(Value::Object(members))
}

#[derive(Default)]
struct Uri {
    scheme: String,
    hostname: String,
    port: String,
    path: String,
    raw_path: String,
    raw_query: String,
    fragment: String,
}

impl Uri {
    fn parse(text: &str) -> Option<Self> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        if text.chars().any(|letter| letter < ' ' || letter == '\u{7f}') {
            return None;
        }
        let mut uri = Self { fragment: percent_decoded(fragment)?, ..Self::default() };
        let (scheme, rest) = scheme(text)?;
        uri.scheme = scheme.to_lowercase();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        uri.raw_query = query.into();
        if !rest.starts_with('/') && !uri.scheme.is_empty() {
            // An opaque one, such as `mailto:a@b`.
            return Some(uri);
        }
        if uri.scheme.is_empty() && !rest.starts_with('/') && rest.split('/').next()?.contains(':') {
            return None;
        }
        let has_host = !uri.scheme.is_empty() || !rest.starts_with("///");
        let path = match rest.strip_prefix("//").filter(|_| has_host) {
            Some(after) => {
                let at = after.find('/').unwrap_or(after.len());
                let (host, path) = after.split_at_checked(at)?;
                uri.host(host)?;
                path
            }
            None => rest,
        };
        uri.path = percent_decoded(path)?;
        uri.raw_path = path.into();
        if escape_path(&uri.path) == uri.raw_path {
            uri.raw_path.clone_from(&uri.path);
        }
        Some(uri)
    }

    fn host(&mut self, text: &str) -> Option<()> {
        let host = match text.rsplit_once('@') {
            Some((user, host)) => {
                let allowed =
                    |letter: char| letter.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(letter);
                if !user.chars().all(allowed) {
                    return None;
                }
                percent_decoded(user)?;
                host
            }
            None => text,
        };
        let (name, port) = match host.rfind('[') {
            Some(0) => {
                let (name, port) = host.rsplit_once(']')?;
                (name.strip_prefix('[').filter(|name| is_ipv6(name))?, port)
            }
            Some(_) => return None,
            None => {
                // Go takes the last colon for the one before the port, where the web does not forbid others.
                let is_web = matches!(self.scheme.as_str(), "http" | "https");
                let at = if is_web { host.find(':') } else { host.rfind(':') };
                host.split_at_checked(at.unwrap_or(host.len()))?
            }
        };
        let digits = match port.strip_prefix(':') {
            Some(digits) => digits,
            None if port.is_empty() => "",
            None => return None,
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let strange = |letter: char| {
            letter.is_ascii()
                && !letter.is_ascii_alphanumeric()
                && !"-._~!$&'()*+,;=:[]<>\"%".contains(letter)
        };
        if name.chars().any(strange) {
            return None;
        }
        // Of a host, only what is not ASCII may be escaped, and the mark of a zone.
        let ascii = |escape: &str| {
            escape.starts_with(|digit: char| ('0'..'8').contains(&digit)) && !escape.starts_with("25")
        };
        if name.split('%').skip(1).any(ascii) {
            return None;
        }
        self.hostname = percent_decoded(name)?;
        self.port = digits.into();
        Some(())
    }
}

/// What may stand in brackets: an address, and a zone after an escaped percent sign.
fn is_ipv6(name: &str) -> bool {
    let (address, zone) = match name.split_once("%25") {
        Some((address, zone)) => (address, Some(zone)),
        None => (name, None),
    };
    address.parse::<std::net::Ipv6Addr>().is_ok() && zone != Some("")
}

/// The scheme, empty where there is none, and what follows; `None` for a colon at the start.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (at, letter) in text.char_indices() {
        match letter {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at > 0 => return Some((text.get(..at)?, text.get(at.checked_add(1)?..)?)),
            ':' => return None,
            _ => return Some(("", text)),
        }
    }
    Some(("", text))
}

/// How Go would write a path.
fn escape_path(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
