//! Variables of the container that the Spin shim obeys itself, and that lead what the program sends to hosts which its manifest
//! does not name.

use std::borrow::Cow;

use super::{RuntimeHost, address, programs};
use crate::capability::{Capability, Entry, HostPattern};
use crate::image::{Packaging, Program};
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

/// Where the shim asks for the messages of its `sqs` trigger, and for the credentials to do so.
pub(super) fn queues(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let what = format!("{} asks it for the messages of the sqs trigger, or for credentials", host.runtime());
    let named = handed::QUEUE_HOSTS.iter().filter(|name| !host.pod.literal(name).is_some_and(is_agent));
    let mut entries: Vec<Entry> = named.filter_map(|name| sent_to(host, name, &what)).collect();
    if let Some(profiles) = profiles(host) {
        entries
            .push(Entry::new(Capability::HttpOutbound, &*profiles).to_host(HostPattern::ANY).seen_in(what));
        if programs::may_find(host, &["sh"]) {
            let how = "a profile may name a program, which the shim starts by a shell (`credential_process`)";
            entries.push(Entry::new(Capability::NativeExec, profiles).seen_in(how));
        }
    }
    entries.extend(proxies(host));
    entries
}

/// Why the shim may find AWS profiles that the author of the pod or of the image wrote.
fn profiles(host: &RuntimeHost<'_>) -> Option<String> {
    let is_set = |name: &&&str| host.pod.may_set(name).is_some() || host.is_set_by_image(name);
    if let Some(name) = handed::PROFILE_VARIABLES.iter().find(is_set) {
        return Some(format!("env {name} may lead to a file of AWS profiles"));
    }
    let mut mounts = handed::PROFILE_FOLDERS.iter().flat_map(|folder| host.pod.touching(folder));
    if let Some(mount) = mounts.next() {
        let mount = mount.evidence.first().map(String::as_str).unwrap_or_default();
        return Some(format!("{mount} may hold a file of AWS profiles"));
    }
    let of_files = matches!(host.program, Program::Wasm { packaging: Packaging::RootFilesystem, .. });
    of_files.then(|| "the image may hold a file of AWS profiles, such as /root/.aws/config".into())
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

/// Whether an address is that of an agent of the node which hands out credentials.
fn is_agent(address: &str) -> bool {
    let place = address.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    place.is_some_and(|place| handed::CREDENTIAL_AGENTS.contains(&place))
}

/// The host of an address, to which a client adds `http` if it has no scheme. One that clients may read otherwise is any.
fn pattern(address: &str) -> HostPattern {
    let whole = if address.contains("://") { Cow::from(address) } else { format!("http://{address}").into() };
    address::host(&whole, None).unwrap_or(HostPattern::ANY)
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
            ("HTTPS://collector.example?x=y", "https://collector.example"),
            ("https://evil.example?x=@collector.example", "*://*:*"),
            ("http://evil.example:3128\\@proxy.example:3128", "*://*:*"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("http://a.spin.internal", "*://*:*"),
            ("not a host", "*://*:*"),
            ("http://", "*://*:*"),
        ] {
            assert_eq!(WrittenHost::from(pattern(address)).as_str(), host, "{address}");
        }
    }
}
