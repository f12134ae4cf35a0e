//! The smallest grant that covers an entry, for messages and for `suggest`.

use serde_json::json;

use super::GrantedCapability;
use crate::capability::{Entry, HostPattern, Parameter, path};

/// The smallest item of a grant that covers `entry`.
pub fn smallest(entry: &Entry) -> GrantedCapability {
    let takes = |parameter| entry.capability.parameters().contains(&parameter);
    let only = |parameter, value: Option<String>| value.filter(|_| takes(parameter)).map(|value| vec![value]);
    GrantedCapability {
        name: entry.capability,
        hosts: only(Parameter::Hosts, entry.host.as_deref().map(grantable_host)),
        paths: only(Parameter::Paths, entry.path.as_deref().map(grantable_path)),
        access: entry.access.filter(|_| takes(Parameter::Access)),
        names: only(Parameter::Names, entry.name.as_ref().filter(|name| !name.is_empty()).cloned()),
        ports: entry.port.filter(|port| *port != 0 && takes(Parameter::Ports)).map(|port| vec![port]),
        secrets: (entry.secret && takes(Parameter::Secrets)).then_some(true),
    }
}

/// The smallest list of items that covers every entry: entries that differ in one list share an item.
pub fn smallest_for<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<GrantedCapability> {
    let mut items: Vec<GrantedCapability> = Vec::new();
    for entry in entries {
        let wanted = smallest(entry);
        match items.iter_mut().find(|item| can_share(item, &wanted)) {
            Some(item) => add(item, wanted),
            None => items.push(wanted),
        }
    }
    items
}

/// Two items may become one where that grants nothing more: everything but the lists is the same, and a list is there
/// in both or in neither. No capability takes two lists.
fn can_share(a: &GrantedCapability, b: &GrantedCapability) -> bool {
    a.name == b.name
        && a.access == b.access
        && a.secrets == b.secrets
        && a.hosts.is_some() == b.hosts.is_some()
        && a.paths.is_some() == b.paths.is_some()
        && a.names.is_some() == b.names.is_some()
        && a.ports.is_some() == b.ports.is_some()
}

fn add(item: &mut GrantedCapability, more: GrantedCapability) {
    fn unite<T: PartialEq>(list: &mut Option<Vec<T>>, more: Option<Vec<T>>) {
        for (list, value) in list.iter_mut().zip(more).flat_map(|(list, more)| Some((list, more))) {
            for value in value {
                if !list.contains(&value) {
                    list.push(value);
                }
            }
        }
    }
    unite(&mut item.hosts, more.hosts);
    unite(&mut item.paths, more.paths);
    unite(&mut item.names, more.names);
    unite(&mut item.ports, more.ports);
}

/// The line of YAML under `spec.capabilities` that would let an entry in, without the dash:
/// `{ name: fs, paths: ["/data"], access: read-only }`.
pub fn needed_grant(entry: &Entry) -> String {
    to_yaml(&smallest(entry))
}

/// One item in flow style, on one line.
pub fn to_yaml(granted: &GrantedCapability) -> String {
    let mut fields = vec![format!("name: {}", granted.name)];
    // A JSON list is a YAML flow sequence, whatever the strings hold.
    let texts = [("hosts", &granted.hosts), ("paths", &granted.paths), ("names", &granted.names)];
    let to_list =
        |(key, list): &(&str, &Option<Vec<String>>)| list.as_ref().map(|l| format!("{key}: {}", json!(l)));
    fields.extend(texts.iter().filter_map(to_list));
    fields.extend(granted.ports.as_ref().map(|ports| format!("ports: {}", json!(ports))));
    if let Some(access) = granted.access {
        let text = if access == crate::capability::Access::ReadOnly { "read-only" } else { "read-write" };
        fields.push(format!("access: {text}"));
    }
    fields.extend(granted.secrets.map(|secrets| format!("secrets: {secrets}")));
    format!("{{ {} }}", fields.join(", "))
}

/// A host as a grant may write it; one that cannot be read is taken for any, as coverage takes it.
fn grantable_host(host: &str) -> String {
    host.parse().unwrap_or(HostPattern::ANY).to_string()
}

/// A path as a grant may write it: without `..`, and its nearest ancestor without a `*`, which a grant refuses.
fn grantable_path(reached: &str) -> String {
    let clean = path::clean(reached);
    let segments = clean.split('/').take_while(|segment| !segment.contains('*'));
    path::clean(&segments.collect::<Vec<_>>().join("/"))
}
