//! What a Spin application reaches by way of the shim's own process: by SQL, by Unix sockets, by archives that the shim unpacks, and where a
//! runtime configuration leads its stores.

use super::{clients, configuration};
use crate::capability::ambient::RuntimeHost;
use crate::capability::{Access, Capability, Entry};

/// What comes with what the components can really do.
pub(in crate::capability::ambient) fn beyond(host: &RuntimeHost<'_>, effective: &[Entry]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let is_local = |entry: &&Entry| !configuration::is_remote_database(host, entry.name.as_deref());
    let sqlite = effective.iter().filter(|entry| entry.capability == Capability::Sqlite);
    if sqlite.filter(is_local).count() > 0 && !configuration::confines_sql(host) {
        entries.extend(sql(host));
    }
    if effective.iter().any(|entry| may_be_socket(host, entry)) {
        let why = "the shim's clients of Redis and MySQL connect to Unix sockets, those of mounts too";
        entries.extend(host.pod.foreign_mounts().map(|mount| mount.clone().seen_in(why)));
    }
    entries.extend(configuration::reached(host, effective));
    entries
}

/// What the shim changes of mounts while it unpacks archives of the image, whatever the program is. Its library sets the mode of a folder
/// by the path of the entry, and where an entry before it made a link of that name, that of the folder to which the link leads, be it in a
/// mount (`tar-rs:src/entry.rs` at 0.4.44, `unpack_dir`; CVE-2026-33056, mended in 0.4.45).
pub(in crate::capability::ambient) fn unpacked(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let why = "the Spin shim unpacks archives of the image, which may change the mode of any folder there (CVE-2026-33056)";
    let writable = host.pod.foreign_mounts().filter(|mount| mount.access != Some(Access::ReadOnly));
    writable.map(|mount| mount.clone().seen_in(why)).collect()
}

/// Whether a client may connect to the path of a Unix socket: that of Redis by its scheme, and that of MySQL by `?socket=` in any
/// address (`mysql_async:src/opts/mod.rs`, `from_url`; `spin:crates/factor-outbound-mysql/src/client.rs`, `build_opts`). One that
/// is held to the list of hosts takes a socket where the list names it, which that of MySQL cannot.
fn may_be_socket(host: &RuntimeHost<'_>, entry: &Entry) -> bool {
    match entry.capability {
        Capability::DbRedis => {
            clients::may_be_socket(entry.host.as_ref().and_then(|host| host.pattern().scheme()))
        }
        Capability::DbMysql => !clients::are_held_to_list(host),
        _ => false,
    }
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
