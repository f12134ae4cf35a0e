//! What a Spin application reaches by way of the shim's own process: by SQL, by Unix sockets, and where a runtime configuration leads
//! its stores.

use super::{clients, reconfigured};
use crate::capability::ambient::RuntimeHost;
use crate::capability::{Capability, Entry, HostPattern};
use crate::image::names::RUNTIME_CONFIG;

/// What comes with what the components can really do.
pub(in crate::capability::ambient) fn beyond(host: &RuntimeHost<'_>, effective: &[Entry]) -> Vec<Entry> {
    let mut entries = Vec::new();
    if uses(effective, Capability::Sqlite) {
        entries.extend(sql(host));
    }
    if let Some(place) = reconfigured(host) {
        entries.extend(remote(effective, &format!("{RUNTIME_CONFIG} {place} and may lead it to any host")));
    }
    if effective.iter().chain(&entries).any(may_be_socket) {
        let why = "the shim's clients of Redis and MySQL connect to Unix sockets, those of mounts too";
        entries.extend(host.pod.foreign_mounts().map(|mount| mount.clone().seen_in(why)));
    }
    entries
}

/// Whether a client may connect to the path of a Unix socket: that of Redis by its scheme, and that of MySQL by `?socket=` in any
/// address (`mysql_async:src/opts/mod.rs`, `from_url`; `spin:crates/factor-outbound-mysql/src/client.rs`, `build_opts`).
fn may_be_socket(entry: &Entry) -> bool {
    match entry.capability {
        Capability::DbRedis => {
            clients::may_be_socket(entry.host.as_ref().and_then(|host| host.pattern().scheme()))
        }
        Capability::DbMysql => true,
        _ => false,
    }
}

fn uses(effective: &[Entry], capability: Capability) -> bool {
    effective.iter().any(|entry| entry.capability == capability)
}

/// SQL of a component runs in the shim's process, without an authorizer in the Spin of the shim
/// (`spin:crates/sqlite-inproc/src/lib.rs`, `execute_query`, tag v3.6.3). `ATTACH DATABASE` and `VACUUM INTO` open any file of the
/// container. `fts3_tokenizer` takes the address of functions from a bound parameter, even where it is switched off
/// (`sqlite:ext/fts3/fts3_tokenizer.c`, `fts3TokenizerFunc`; `rusqlite:libsqlite3-sys/build.rs` compiles it in), and a virtual table
/// calls them: that is native code. It counts as what is reached through the process, so that one grant covers it.
fn sql(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let runtime = host.runtime();
    let native = format!(
        "SQLite runs in the process of {runtime}: `fts3_tokenizer` calls the address in a parameter, which is native code"
    );
    let files = format!("SQLite runs in the process of {runtime}: `ATTACH DATABASE` opens any file");
    let opened = host.pod.foreign_mounts().map(|mount| mount.clone().seen_in(&*files).by_opening());
    let native = Entry::new(Capability::NativeExec, native).by_opening();
    std::iter::once(native).chain(opened).collect()
}

/// Where a runtime configuration may lead what the components use (`spin:crates/key-value-redis`, `key-value-azure`,
/// `key-value-aws`, `sqlite-libsql`, `llm-remote-http`, `variables-vault`, `variables-azure`).
fn remote(effective: &[Entry], why: &str) -> Vec<Entry> {
    let any = |capability| Entry::new(capability, why).to_host(HostPattern::ANY);
    let by_http = [Capability::Keyvalue, Capability::Sqlite, Capability::Ai, Capability::Config];
    let mut entries = Vec::new();
    if by_http.into_iter().any(|capability| uses(effective, capability)) {
        entries.push(any(Capability::HttpOutbound));
    }
    if uses(effective, Capability::Keyvalue) {
        entries.push(any(Capability::DbRedis));
    }
    entries
}
