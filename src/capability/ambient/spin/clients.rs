//! What the clients of the Spin shim reach by a host that a component may reach. The shim checks the address of a program against the
//! list, and hands the text to a client that reads it again.

use std::collections::HashMap;

use crate::capability::ambient::RuntimeHost;
use crate::capability::{Capability, Entry, HostPattern, WrittenHost};
use crate::image::{ImageFacts, SpinComponent};

/// Clients that read the address otherwise than the check does: `redis://a?@b` is `b` to the check, which takes all before `@` for the
/// user, and `a` to the client (`spin:crates/outbound-networking-config/src/allowed_hosts.rs`, `OutboundUrl::parse`;
/// `redis-rs:redis/src/connection.rs`, `rumqttc:src/lib.rs`, `mysql_async:src/opts/mod.rs`, which take a URL of the WHATWG). So one
/// host in the list is any host and any port of its scheme.
const READ_OTHERWISE: [Capability; 3] = [Capability::DbRedis, Capability::DbMysql, Capability::Mqtt];
/// The imports of the HTTP client of which the same is true, and which follows redirects without a check
/// (`spin:crates/factor-outbound-http/src/spin.rs`). That of `wasi:http` checks what it sends.
const OLD_HTTP: [&str; 2] = ["fermyon:spin/http", "wasi-outbound-http"];
/// The imports of the client of Postgres, which connects to `hostaddr` and is not checked but for its `host`
/// (`spin:crates/factor-outbound-pg/src/host.rs`, `ensure_address_allowed`; `rust-postgres:tokio-postgres/src/connect.rs`).
const POSTGRES: [&str; 3] = ["fermyon:spin/postgres", "spin:postgres/postgres", "outbound-pg"];

/// Every capability by which some client connects.
const ALL: [Capability; 7] = [
    Capability::HttpOutbound,
    Capability::DbRedis,
    Capability::DbMysql,
    Capability::DbPostgres,
    Capability::Mqtt,
    Capability::NetTcpConnect,
    Capability::NetUdp,
];

/// The capabilities that a scheme needs. The check compares the scheme that the program writes, so that each client that takes it
/// counts; `*`, and a scheme of which nothing is known, need all of them.
fn by_scheme(scheme: Option<&str>) -> &'static [Capability] {
    match scheme {
        Some("http" | "https") => &[Capability::HttpOutbound],
        // redis-rs:redis/src/connection.rs, `parse_redis_url`
        Some("redis" | "rediss" | "valkey" | "valkeys" | "unix") => &[Capability::DbRedis],
        Some("mysql") => &[Capability::DbMysql],
        Some("postgres" | "postgresql") => &[Capability::DbPostgres],
        // rumqttc:src/lib.rs, `TryFrom<Url> for MqttOptions`
        Some("mqtt" | "mqtts" | "ssl" | "ws" | "wss") => &[Capability::Mqtt],
        Some("tcp") => &[Capability::NetTcpConnect, Capability::Mqtt],
        Some("udp") => &[Capability::NetUdp],
        None | Some(_) => &ALL,
    }
}

/// Whether the client of Redis takes this scheme for the path of a Unix socket, or may.
pub(super) fn may_be_socket(scheme: Option<&str>) -> bool {
    match scheme {
        Some("unix") | None => true,
        Some(scheme) => by_scheme(Some(scheme)).len() == ALL.len(),
    }
}

/// Whether the profile says that these clients are held to the list, sockets and redirects included.
pub(super) fn are_held_to_list(host: &RuntimeHost<'_>) -> bool {
    host.profile.is_some_and(|profile| profile.checks_hosts)
}

/// What one host pattern of the list hands over.
pub(super) fn of<'a>(
    host: &RuntimeHost<'_>,
    written: &'a WrittenHost,
    evidence: &'a str,
) -> impl Iterator<Item = Entry> + 'a {
    let is_held = are_held_to_list(host);
    by_scheme(written.pattern().scheme()).iter().map(move |capability| {
        let entry = Entry::new(*capability, evidence);
        let any = any_of(written.pattern().scheme());
        if is_held || !READ_OTHERWISE.contains(capability) || *written.pattern() == any {
            return entry.to_written_host(written.clone());
        }
        let why =
            format!("the shim's client may read another host in an address than its check: taken for {any}");
        entry.to_host(any).seen_in(why)
    })
}

/// Any host and port of a scheme.
fn any_of(scheme: Option<&str>) -> HostPattern {
    scheme.map_or(HostPattern::ANY, |scheme| HostPattern::ANY.with_scheme(scheme))
}

/// What the list lets a component reach, with what a client of the component reaches that the list does not hold.
pub(super) fn beside_list(
    host: &RuntimeHost<'_>,
    component: &SpinComponent,
    mut reached: Vec<Entry>,
    at: &str,
) -> Vec<Entry> {
    if are_held_to_list(host) {
        return reached;
    }
    if imports(host, component, &POSTGRES).is_some() {
        let why = format!(
            "{at} the client of Postgres connects to any `hostaddr`, whatever allowed_outbound_hosts says"
        );
        reached.push(Entry::new(Capability::DbPostgres, why).to_host(any_of(Some("postgres"))));
    }
    let is_http =
        |entry: &Entry| matches!(entry.capability, Capability::HttpOutbound | Capability::ServiceChaining);
    let old = imports(host, component, &OLD_HTTP).filter(|_| reached.iter().any(is_http));
    if let Some(import) = old {
        let why = format!(
            "{at} the client of {import} may read another host in an address than its check, and follows redirects: taken for any host"
        );
        let any = ["http", "https"]
            .map(|scheme| Entry::new(Capability::HttpOutbound, &*why).to_host(any_of(Some(scheme))));
        reached.extend(any);
    }
    reached
}

/// The first of these imports that a module of the component has, or one of no component. A component whose module was not read may
/// have any.
fn imports<'a>(
    host: &RuntimeHost<'a>,
    component: &SpinComponent,
    wanted: &[&'static str],
) -> Option<&'a str> {
    let by_owner = host.clients.get_or_init(|| by_owner(host.facts));
    let owners = [Some(component.id.as_str()), None];
    if owners.iter().all(|owner| !by_owner.contains_key(owner)) {
        return wanted.first().copied();
    }
    let mut names = owners.iter().filter_map(|owner| by_owner.get(owner)).flatten().copied();
    names.find(|name| wanted.contains(name))
}

/// Those imports of all modules, once for all components: the image chooses how many there are of each.
fn by_owner(facts: &ImageFacts) -> HashMap<Option<&str>, Vec<&str>> {
    let mut found: HashMap<Option<&str>, Vec<&str>> = HashMap::new();
    for module in &facts.modules {
        let names = module.imports.iter().map(|import| without_version(&import.interface));
        let known = names.filter(|name| OLD_HTTP.contains(name) || POSTGRES.contains(name));
        found.entry(module.component.as_deref()).or_default().extend(known);
    }
    found
}

fn without_version(interface: &str) -> &str {
    interface.split('@').next().unwrap_or_default()
}
