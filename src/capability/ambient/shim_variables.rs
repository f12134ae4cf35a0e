//! Variables of the container that the Spin shim obeys itself, and that lead what the program sends to hosts which its manifest
//! does not name.

use super::RuntimeHost;
use crate::capability::{Capability, Entry, HostPattern};
use crate::runtime::spin::handed;

/// Where the shim sends telemetry.
pub(super) fn telemetry(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let what = format!("{} sends there what the program prints, and traces of its requests", host.runtime());
    let mut entries: Vec<Entry> =
        handed::TELEMETRY.iter().filter_map(|name| sent_to(host, name, &what)).collect();
    if !entries.is_empty() {
        entries.extend(proxies(host));
    }
    entries
}

/// The proxies through which the shim sends requests.
pub(super) fn proxies(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let what = format!("{} sends requests through this proxy", host.runtime());
    handed::PROXIES.iter().filter_map(|name| sent_to(host, name, &what)).collect()
}

/// The host in a variable: any, where its value is not written in the pod spec.
fn sent_to(host: &RuntimeHost<'_>, name: &str, what: &str) -> Option<Entry> {
    let evidence = match host.pod.may_set(name) {
        Some(variable) => variable.evidence,
        None if host.is_set_by_image(name) => vec![format!("env {name} of the image")],
        None => return None,
    };
    let pattern = match host.pod.literal(name) {
        Some("") => return None,
        Some(address) => pattern(address),
        None => HostPattern::ANY,
    };
    let entry = Entry { evidence, ..Entry::new(Capability::HttpOutbound, "") };
    Some(entry.to_host(pattern).seen_in(what))
}

/// The host of an address, whose user, password and path are left out. One that does not parse is any.
fn pattern(address: &str) -> HostPattern {
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let pattern = format!("{}://{place}", scheme.to_ascii_lowercase()).parse::<HostPattern>();
    pattern.ok().filter(|pattern| !pattern.is_internal()).unwrap_or(HostPattern::ANY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::WrittenHost;

    #[test]
    fn an_address_becomes_its_host_without_user_and_path() {
        for (address, host) in [
            ("http://collector.example:4318/v1/logs", "http://collector.example:4318"),
            ("https://me:secret@collector.example", "https://collector.example"),
            ("HTTPS://collector.example?x=@y", "https://collector.example"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("http://a.spin.internal", "*://*:*"),
            ("not a host", "*://*:*"),
            ("http://", "*://*:*"),
        ] {
            assert_eq!(WrittenHost::from(pattern(address)).as_str(), host, "{address}");
        }
    }
}
