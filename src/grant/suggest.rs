//! The smallest grant that covers an entry, for messages and for `suggest`.

use serde_json::json;

use super::cover::covers;
use super::types::{GrantedCapability, GrantedPath};
use crate::capability::{Capability, Entry, Parameter};
use crate::text;

/// The smallest item of a grant that covers `entry`.
pub fn smallest(entry: &Entry) -> GrantedCapability {
    // One line for everything that the kernel's files give: with less, the program would still fail.
    let entry = if entry.opens { &Entry::new(Capability::NativeExec, "") } else { entry };
    let takes = |parameter| entry.capability.parameters().contains(&parameter);
    let only = |parameter, value: Option<String>| value.filter(|_| takes(parameter)).map(|value| vec![value]);
    GrantedCapability {
        name: entry.capability,
        hosts: entry.host.clone().filter(|_| takes(Parameter::Hosts)).map(|host| vec![host]),
        paths: only(Parameter::Paths, entry.path.as_deref().map(grantable_path))
            .map(|paths| paths.into_iter().map(GrantedPath::from).collect()),
        access: entry.access.filter(|_| takes(Parameter::Access)),
        names: only(Parameter::Names, entry.name.as_ref().filter(|name| !name.is_empty()).cloned()),
        ports: entry.port.filter(|port| *port != 0 && takes(Parameter::Ports)).map(|port| vec![port]),
        secrets: (entry.secret && takes(Parameter::Secrets)).then_some(true),
    }
}

/// The smallest list of items that covers every entry. An entry that another one's item covers gets no item of its own,
/// and entries that differ in one list share an item.
pub fn smallest_for<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<GrantedCapability> {
    let mut items: Vec<GrantedCapability> = Vec::new();
    for wanted in widest(entries.into_iter().collect()) {
        match items.iter_mut().find(|item| can_share(item, &wanted)) {
            Some(item) => add(item, wanted),
            None => items.push(wanted),
        }
    }
    items
}

/// The smallest item of each entry that no other entry's item covers, in the order of the entries.
fn widest(entries: Vec<&Entry>) -> Vec<GrantedCapability> {
    let mut kept: Vec<(&Entry, GrantedCapability)> = Vec::new();
    for entry in entries {
        if kept.iter().any(|(_, item)| covers(item, entry)) {
            continue;
        }
        let item = smallest(entry);
        kept.retain(|(earlier, _)| !covers(&item, earlier));
        kept.push((entry, item));
    }
    kept.into_iter().map(|(_, item)| item).collect()
}

/// Two items may be joined if that grants nothing more: everything but the lists is equal, and each list is present in
/// both or in neither. No capability takes two lists.
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
        let Some(list) = list else { return };
        for value in more.into_iter().flatten() {
            if !list.contains(&value) {
                list.push(value);
            }
        }
    }
    unite(&mut item.hosts, more.hosts);
    unite(&mut item.paths, more.paths);
    unite(&mut item.names, more.names);
    unite(&mut item.ports, more.ports);
}

/// The line of YAML under `spec.capabilities` that would cover an entry, without the dash:
/// `{ name: fs, paths: ["/data"], access: read-only }`.
pub fn needed_grant(entry: &Entry) -> String {
    to_yaml(&smallest(entry))
}

/// One item in flow style, on one line.
pub fn to_yaml(granted: &GrantedCapability) -> String {
    let mut fields = vec![format!("name: {}", granted.name)];
    // A JSON list is a YAML flow sequence, whatever its strings contain.
    let lists = [
        ("hosts", granted.hosts.as_ref().map(|list| json!(list))),
        ("paths", granted.paths.as_ref().map(|list| json!(list))),
        ("names", granted.names.as_ref().map(|list| json!(list))),
    ];
    fields.extend(lists.into_iter().filter_map(|(key, list)| Some(format!("{key}: {}", list?))));
    fields.extend(granted.ports.as_ref().map(|ports| format!("ports: {}", json!(ports))));
    if let Some(access) = granted.access {
        let text = if access == crate::capability::Access::ReadOnly { "read-only" } else { "read-write" };
        fields.push(format!("access: {text}"));
    }
    fields.extend(granted.secrets.map(|secrets| format!("secrets: {secrets}")));
    text::flow_yaml(&format!("{{ {} }}", fields.join(", "))).into_owned()
}

/// A path as a grant may write it: without `..`, and cut to its nearest ancestor without a `*`, which a grant refuses.
fn grantable_path(reached: &str) -> String {
    let clean = text::clean_path(reached);
    let segments = clean.split('/').take_while(|segment| !segment.contains('*'));
    text::clean_path(&segments.collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Parameter::{Access as A, Hosts, Names, Paths, Ports, Secrets};
    use crate::capability::{Access, Capability, HostPattern, WrittenHost};
    use crate::grant::check;
    use crate::grant::cover::cover;
    use crate::grant::load::parse_documents;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn entry(capability: Capability) -> Entry {
        Entry::new(capability, "test")
    }

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    fn item(yaml: &str) -> GrantedCapability {
        serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"))
    }

    #[test]
    fn the_suggestion_is_one_line_that_names_only_the_entry() {
        for (entry, expected) in [
            (
                entry(Capability::Fs).at_path("/data", Access::ReadOnly),
                r#"{ name: fs, paths: ["/data"], access: read-only }"#,
            ),
            (
                entry(Capability::Env).named("DB_PASSWORD").mark_secret(true),
                r#"{ name: env, names: ["DB_PASSWORD"], secrets: true }"#,
            ),
            (
                entry(Capability::HttpOutbound).to_host(pattern("https://a.example.com:443")),
                r#"{ name: http.outbound, hosts: ["https://a.example.com"] }"#,
            ),
            (
                Entry { port: Some(80), ..entry(Capability::HttpInbound) },
                "{ name: http.inbound, ports: [80] }",
            ),
            (entry(Capability::NativeExec), "{ name: native.exec }"),
            (
                entry(Capability::Fs).at_path("/logs/*/x", Access::ReadWrite),
                r#"{ name: fs, paths: ["/logs"], access: read-write }"#,
            ),
            (
                entry(Capability::UnknownImport).named("acme:thing/api@1.0.0"),
                r#"{ name: unknown-import, names: ["acme:thing/api@1.0.0"] }"#,
            ),
        ] {
            assert_eq!(needed_grant(&entry), expected);
        }
    }

    #[test]
    fn a_grant_covers_its_entry_and_not_the_nearest_neighbour() {
        let fs = |path: &str, access| entry(Capability::Fs).at_path(path, access);
        let host = |capability, host: &str| entry(capability).to_host(pattern(host));
        let port = |port| Entry { port, ..entry(Capability::HttpInbound) };
        let cases = [
            ("{ name: env, names: ['A_*'] }", entry(Capability::Env).named("A_B"), true),
            ("{ name: env, names: ['A_*'] }", entry(Capability::Env).named("AB"), false),
            ("{ name: env, names: ['A_*'] }", entry(Capability::Env).named("A*"), false),
            ("{ name: env, names: ['A_*'] }", entry(Capability::Env), false),
            ("{ name: env, names: ['*'] }", entry(Capability::Env), true),
            ("{ name: env }", entry(Capability::Env).named("X").mark_secret(true), false),
            ("{ name: env, secrets: true }", entry(Capability::Env).named("X").mark_secret(true), true),
            ("{ name: env, secrets: true }", entry(Capability::Env).named("X"), true),
            ("{ name: env }", entry(Capability::Config).named("X"), false),
            ("{ name: fs, paths: [/data], access: read-only }", fs("/data/in", Access::ReadOnly), true),
            ("{ name: fs, paths: [/data], access: read-only }", fs("/data", Access::ReadWrite), false),
            ("{ name: fs, paths: [/data], access: read-only }", fs("/database", Access::ReadOnly), false),
            ("{ name: fs, paths: [/data] }", fs("/data", Access::ReadWrite), true),
            ("{ name: fs, paths: [/data] }", fs("/data/../etc", Access::ReadOnly), false),
            ("{ name: fs, paths: [/data] }", entry(Capability::Fs), false),
            ("{ name: fs, paths: [/] }", entry(Capability::Fs), true),
            ("{ name: fs, access: read-only }", entry(Capability::Fs), false),
            (
                "{ name: http.outbound, hosts: ['https://*.a.com'] }",
                host(Capability::HttpOutbound, "https://x.a.com"),
                true,
            ),
            (
                "{ name: http.outbound, hosts: ['https://*.a.com'] }",
                host(Capability::HttpOutbound, "*://*:*"),
                false,
            ),
            ("{ name: http.outbound, hosts: ['https://*.a.com'] }", entry(Capability::HttpOutbound), false),
            ("{ name: http.outbound, hosts: ['*://*:*'] }", entry(Capability::HttpOutbound), true),
            ("{ name: http.outbound }", host(Capability::HttpOutbound, "https://x"), true),
            (
                "{ name: net.tcp.connect, hosts: ['tcp://*:*'] }",
                host(Capability::NetTcpConnect, "*://*:*"),
                true,
            ),
            (
                "{ name: net.tcp.connect, hosts: ['postgres://db'] }",
                host(Capability::NetTcpConnect, "tcp://db:5432"),
                true,
            ),
            ("{ name: http.inbound, ports: [80] }", port(Some(80)), true),
            ("{ name: http.inbound, ports: [80] }", port(Some(8080)), false),
            ("{ name: http.inbound, ports: [80] }", port(None), false),
            ("{ name: http.inbound }", port(None), true),
        ];
        for (granted, entry, expected) in cases {
            assert_eq!(covers(&item(granted), &entry), expected, "{granted} {entry:?}");
        }
    }

    #[test]
    fn coverage_is_noted_by_label_and_default_comes_first() {
        let text = "\
apiVersion: wasmgate.dev/v1alpha1
kind: WasiGrant
metadata: { name: default, namespace: shop }
spec: { capabilities: [{ name: env, names: [A] }, { name: args, secrets: true }] }
---
apiVersion: wasmgate.dev/v1alpha1
kind: ClusterWasiGrant
metadata: { name: base }
spec: { namespaceSelector: {}, capabilities: [{ name: env }, { name: stdio }] }
";
        let grants: Vec<_> = parse_documents(text, "test").unwrap().into_iter().map(Arc::new).collect();
        let mut entries = vec![
            entry(Capability::Stdio),
            entry(Capability::Args),
            entry(Capability::Args).mark_secret(true),
            entry(Capability::Env).named("A"),
            entry(Capability::Env).named("B"),
            entry(Capability::Env).named("C").mark_own(true),
            entry(Capability::Fs).at_path("/", Access::ReadWrite).mark_own(true),
            entry(Capability::Fs).at_path("/data", Access::ReadOnly),
            entry(Capability::HttpInbound),
        ];
        entries[7].covered_by.push("left over".into());
        cover(&mut entries, &grants);
        let noted: Vec<&[String]> = entries.iter().map(|e| e.covered_by.as_slice()).collect();
        let expected: [&[&str]; 9] = [
            &["default", "ClusterWasiGrant/base"],
            &["default", "WasiGrant/default"],
            &["WasiGrant/default"],
            &["ClusterWasiGrant/base", "WasiGrant/default"],
            &["ClusterWasiGrant/base"],
            &["default", "ClusterWasiGrant/base"],
            &["default"],
            &[],
            &[],
        ];
        assert_eq!(noted, expected);
    }

    #[test]
    fn two_grants_for_half_of_an_entry_each_do_not_add_up() {
        let halves = ["{ name: fs, paths: [/data], access: read-only }", "{ name: fs, paths: [/data/in] }"];
        let whole = entry(Capability::Fs).at_path("/data", Access::ReadWrite);
        assert!(halves.iter().all(|half| !covers(&item(half), &whole)));
    }

    #[test]
    fn entries_that_differ_in_one_list_share_an_item() {
        let entries = [
            entry(Capability::Env).named("A"),
            entry(Capability::Env).named("B"),
            entry(Capability::Env).named("A"),
            entry(Capability::Env).named("S").mark_secret(true),
            entry(Capability::Fs).at_path("/a", Access::ReadOnly),
            entry(Capability::Fs).at_path("/b", Access::ReadWrite),
            entry(Capability::Fs).at_path("/c", Access::ReadOnly),
        ];
        let items: Vec<String> = smallest_for(&entries).iter().map(to_yaml).collect();
        assert_eq!(
            items,
            [
                r#"{ name: env, names: ["A","B"] }"#,
                r#"{ name: env, names: ["S"], secrets: true }"#,
                r#"{ name: fs, paths: ["/a","/c"], access: read-only }"#,
                r#"{ name: fs, paths: ["/b"], access: read-write }"#,
            ]
        );
    }

    #[test]
    fn an_entry_that_another_one_s_item_covers_gets_no_item() {
        let entries = [
            entry(Capability::Env).named("A"),
            entry(Capability::Env).named("*"),
            entry(Capability::Fs).at_path("/data", Access::ReadWrite),
            entry(Capability::Fs).at_path("/data/in", Access::ReadOnly),
        ];
        let items: Vec<String> = smallest_for(&entries).iter().map(to_yaml).collect();
        assert_eq!(
            items,
            [r#"{ name: env, names: ["*"] }"#, r#"{ name: fs, paths: ["/data"], access: read-write }"#]
        );
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let text = || {
            prop_oneof![
                any::<String>(),
                "[A-Z_*]{1,5}",
                "/[a-z/.*]{0,8}",
                "(https?|redis|\\*)://[a-z.*]{1,6}(:[0-9]{1,5}|:\\*)?",
            ]
        };
        let parameter = move || prop::option::of(text());
        let access = prop::option::of(prop::sample::select(vec![Access::ReadOnly, Access::ReadWrite]));
        let capability = prop::sample::select(Capability::ALL.to_vec());
        (capability, parameter(), parameter(), parameter(), access, any::<Option<u16>>(), any::<bool>())
            .prop_map(|(capability, path, host, name, access, port, secret)| {
                let takes = |p| capability.parameters().contains(&p);
                Entry {
                    path: path.filter(|_| takes(Paths)),
                    host: host.filter(|_| takes(Hosts)).and_then(|host| WrittenHost::try_from(host).ok()),
                    name: name.filter(|_| takes(Names)),
                    access: access.filter(|_| takes(A)),
                    port: port.filter(|p| takes(Ports) && *p != 0),
                    secret: secret && takes(Secrets),
                    ..entry(capability)
                }
            })
    }

    /// The widest entry that a grant with this single item covers.
    fn as_entry(granted: &GrantedCapability) -> Entry {
        let first = |list: &Option<Vec<String>>| list.as_ref().and_then(|l| l.first().cloned());
        Entry {
            host: granted.hosts.as_ref().and_then(|hosts| hosts.first().cloned()),
            path: granted.paths.as_ref().and_then(|paths| Some(paths.first()?.as_str().to_string())),
            name: first(&granted.names),
            access: granted.access,
            port: granted.ports.as_ref().and_then(|p| p.first().copied()),
            secret: granted.secrets == Some(true),
            ..entry(granted.name)
        }
    }

    /// An entry of this capability with few distinct values for each parameter, so that entries cover each other often
    /// enough.
    fn narrow_entry_of(capability: Capability) -> impl Strategy<Value = Entry> {
        let takes = move |p| capability.parameters().contains(&p);
        let hosts = vec![
            "*://*:*",
            "https://*",
            "https://*.a.com",
            "https://x.a.com",
            "http://10.0.0.0/8",
            "http://10.1.1.1",
            "tcp://10.1.1.1:80..90",
        ];
        let some = |values: Vec<&'static str>| prop::option::of(prop::sample::select(values));
        (
            some(hosts),
            some(vec!["/", "/a", "/a/b", "/ab"]),
            prop::option::of("[AB*]{1,3}"),
            prop::option::of(prop::sample::select(vec![80_u16, 81])),
            prop::option::of(prop::sample::select(vec![Access::ReadOnly, Access::ReadWrite])),
            any::<bool>(),
        )
            .prop_map(move |(host, path, name, port, access, secret)| Entry {
                host: host.filter(|_| takes(Hosts)).map(|host| pattern(host).into()),
                path: path.filter(|_| takes(Paths)).map(str::to_string),
                name: name.filter(|_| takes(Names)),
                port: port.filter(|_| takes(Ports)),
                access: access.filter(|_| takes(A)),
                secret: secret && takes(Secrets),
                ..entry(capability)
            })
    }

    fn narrow_entry() -> impl Strategy<Value = Entry> {
        prop::sample::select(Capability::ALL.to_vec()).prop_flat_map(narrow_entry_of)
    }

    /// Three entries of one capability, which may be any.
    fn related() -> impl Strategy<Value = (Entry, Entry, Entry)> {
        prop::sample::select(Capability::ALL.to_vec())
            .prop_flat_map(|c| (narrow_entry_of(c), narrow_entry_of(c), narrow_entry_of(c)))
    }

    /// Every item that is wider by one parameter: without it, with one value more, or with the widest value.
    fn wider(narrow: &GrantedCapability) -> Vec<GrantedCapability> {
        let more = |list: &Option<Vec<String>>, value: &str| {
            list.clone().map(|list| [list, vec![value.to_string()]].concat())
        };
        let n = || narrow.clone();
        vec![
            GrantedCapability { hosts: None, ..n() },
            GrantedCapability {
                hosts: narrow.hosts.clone().map(|hosts| [hosts, vec![pattern("redis://z").into()]].concat()),
                ..n()
            },
            GrantedCapability { paths: None, ..n() },
            GrantedCapability {
                paths: narrow.paths.clone().map(|paths| [paths, vec!["/z".to_string().into()]].concat()),
                ..n()
            },
            GrantedCapability { names: None, ..n() },
            GrantedCapability { names: more(&narrow.names, "Z"), ..n() },
            GrantedCapability { ports: None, ..n() },
            GrantedCapability { ports: narrow.ports.clone().map(|ports| [ports, vec![1]].concat()), ..n() },
            GrantedCapability { access: None, ..n() },
            GrantedCapability { access: Some(Access::ReadWrite), ..n() },
            GrantedCapability { secrets: Some(true), ..n() },
        ]
    }

    proptest! {
        #[test]
        fn applying_the_suggestion_covers_the_entry_and_is_a_valid_grant(entry in any_entry()) {
            let wanted = smallest(&entry);
            prop_assert!(covers(&wanted, &entry), "{wanted:?} {entry:?}");
            let grant = format!(
                "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: {{ name: g, namespace: n }}\nspec:\n  capabilities:\n    - {}\n",
                needed_grant(&entry)
            );
            let read = parse_documents(&grant, "suggested").map_err(|e| TestCaseError::fail(format!("{grant}: {e}")))?;
            prop_assert_eq!(&read[0].spec.capabilities[0], &wanted);
            prop_assert_eq!(check::check_grant(&read[0]), vec![]);
        }

        #[test]
        fn one_list_of_suggestions_covers_every_entry(entries in prop::collection::vec(any_entry(), 0..8)) {
            let items = smallest_for(&entries);
            for entry in &entries {
                prop_assert!(items.iter().any(|item| covers(item, entry)), "{entry:?}");
            }
        }

        #[test]
        fn no_item_of_the_smallest_list_can_be_left_out(entries in prop::collection::vec(prop_oneof![narrow_entry(), any_entry()], 1..8)) {
            let items = smallest_for(&entries);
            for left_out in 0..items.len() {
                let rest = || items.iter().enumerate().filter(|(index, _)| *index != left_out).map(|(_, item)| item);
                let open = entries.iter().any(|entry| !rest().any(|item| covers(item, entry)));
                prop_assert!(open, "{:?} is too much in {items:?}", items[left_out]);
            }
        }

        #[test]
        fn coverage_is_reflexive((a, _, _) in related()) {
            let item = smallest(&a);
            prop_assert!(covers(&item, &a) && covers(&item, &as_entry(&item)), "{item:?}");
        }

        #[test]
        fn coverage_is_transitive((a, b, c) in related()) {
            let (a, b) = (smallest(&a), smallest(&b));
            prop_assert!(!(covers(&a, &as_entry(&b)) && covers(&b, &c)) || covers(&a, &c), "{a:?} {b:?} {c:?}");
        }

        #[test]
        fn a_wider_grant_covers_whatever_the_narrower_one_covers((a, b, _) in related()) {
            let narrow = smallest(&a);
            for wide in wider(&narrow) {
                prop_assert!(!covers(&narrow, &b) || covers(&wide, &b), "{wide:?} {b:?}");
            }
        }

        #[test]
        fn no_capability_covers_another(a in narrow_entry(), b in narrow_entry()) {
            prop_assert!(a.capability == b.capability || !covers(&smallest(&a), &b));
        }

        #[test]
        fn covering_any_texts_does_not_panic(entry in any_entry(), hosts in prop::collection::vec(narrow_entry(), 0..4), paths in any::<Vec<String>>(), names in any::<Vec<String>>()) {
            let granted = GrantedCapability {
                hosts: Some(hosts.into_iter().filter_map(|entry| entry.host).collect()), paths: Some(paths.into_iter().map(GrantedPath::from).collect()), names: Some(names), ports: None, access: None, secrets: None, name: entry.capability,
            };
            let _ = covers(&granted, &entry);
        }
    }
}
