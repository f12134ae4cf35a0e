//! Whether a certificate is for a host (Go's `crypto/x509:verify.go`, `VerifyHostname`).

use std::net::IpAddr;

use super::Certificate;
use crate::rego::value::Value;

/// By its addresses where the host is one, and otherwise by its names; the common name does not count.
pub(super) fn is_for(certificate: &Certificate<'_>, host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|ip| !ip.is_empty());
    if let Ok(address) = inside.unwrap_or(host).parse::<IpAddr>() {
        let address = address.to_canonical().to_string();
        return texts(certificate, "IPAddresses").any(|own| own == address);
    }
    let host = host.to_ascii_lowercase();
    let is_name = is_host_name(host.strip_suffix('.').unwrap_or(&host), false);
    texts(certificate, "DNSNames").any(|pattern| {
        if is_name && is_host_name(pattern, true) { matches(pattern, &host) } else { equals(pattern, &host) }
    })
}

fn texts<'a>(certificate: &'a Certificate<'_>, list: &str) -> impl Iterator<Item = &'a str> {
    let items: &[Value] = match certificate.members.get(list) {
        Some(Value::Array(items)) => items,
        _ => &[],
    };
    items.iter().filter_map(|item| match item {
        Value::String(text) => Some(text.as_str()),
        _ => None,
    })
}

/// A name that may be one of a host; the first label of a pattern may be a star.
fn is_host_name(name: &str, is_pattern: bool) -> bool {
    name != "*"
        && name.split('.').enumerate().all(|(place, label)| {
            let is_letter = |(at, byte): (usize, u8)| {
                byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b'-' && at > 0)
            };
            let is_star = is_pattern && place == 0 && label == "*";
            !label.is_empty() && (is_star || label.bytes().enumerate().all(is_letter))
        })
}

fn equals(pattern: &str, host: &str) -> bool {
    ![pattern, host].iter().any(|name| ["", "."].contains(name)) && pattern.eq_ignore_ascii_case(host)
}

fn matches(pattern: &str, host: &str) -> bool {
    let host: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let pattern = pattern.to_ascii_lowercase();
    let labels: Vec<&str> = pattern.split('.').collect();
    let is_same =
        |(place, (label, own)): (usize, (&&str, &&str))| (place == 0 && *label == "*") || label == own;
    labels.len() == host.len() && labels.iter().zip(&host).enumerate().all(is_same)
}
