//! What `/runtime-config.toml` leads where: read, where it is the image's own, and taken for anything where it is not.

use crate::capability::ambient::host::Configuration;
use crate::capability::ambient::{RuntimeHost, address, programs, shim_variables};
use crate::capability::{Access, Capability, Entry, HostPattern};
use crate::image::entry::{self, Leads};
use crate::image::names::RUNTIME_CONFIG;
use crate::image::{Backend, FileClass, Provider, RuntimeConfig, SpinComponent, path};
use crate::text;

/// The store and the database that the shim has without a configuration.
const DEFAULT: &str = "default";

/// The configuration of this container.
pub(super) fn of<'h, 'a>(host: &'h RuntimeHost<'a>) -> &'h Configuration<'a> {
    host.configuration.get_or_init(|| find(host))
}

fn find<'a>(host: &RuntimeHost<'a>) -> Configuration<'a> {
    if host.pod.touching(RUNTIME_CONFIG).is_empty()
        && let Some((_, FileClass::Unreadable { message })) = entry::find(host.facts, RUNTIME_CONFIG)
    {
        let message = text::quoted(message, 300);
        return Configuration::Unknown(format!(
            "{RUNTIME_CONFIG} is in the image, and was not read: {message}"
        ));
    }
    let leads = host.leads(RUNTIME_CONFIG);
    if let Some(volume) = volume(host, &leads) {
        return Configuration::Unknown(format!(
            "{RUNTIME_CONFIG} comes from a volume, which is not read here: {volume}"
        ));
    }
    let known = host.facts.spin.as_ref().and_then(|app| app.runtime_config.as_ref());
    let known = known.filter(|config| leads == Leads::To(config.path.clone()));
    match known.map(|config| (config, &config.unread)) {
        Some((config, None)) => Configuration::Known(config),
        Some((_, Some(why))) => Configuration::Unknown(format!(
            "{RUNTIME_CONFIG} is in the image, and not all of it is known: {}",
            text::quoted(why, 200)
        )),
        None if host.facts.has_file(RUNTIME_CONFIG) => {
            Configuration::Unknown(format!("{RUNTIME_CONFIG} is in the image, and was not read"))
        }
        None => Configuration::Absent,
    }
}

/// The volume in which the file is, or may be.
fn volume(host: &RuntimeHost<'_>, leads: &Leads) -> Option<String> {
    let Leads::To(place) = leads else { return Some("a link may lead there".to_string()) };
    let mut mounts = [RUNTIME_CONFIG, place.as_str()].into_iter().flat_map(|at| above(host, at));
    let mount = mounts.next()?;
    Some(mount.evidence.into_iter().next().unwrap_or_default())
}

/// The mounts that hold a place.
fn above(host: &RuntimeHost<'_>, place: &str) -> Vec<Entry> {
    let is_above = |mount: &&&Entry| {
        mount.path.as_deref().is_some_and(|tree| crate::capability::path::covers(tree, place))
    };
    host.pod.touching(place).iter().filter(is_above).map(|mount| (*mount).clone()).collect()
}

/// What the evidence says of a store, a database or a model of this name; `None` where the shim's own answers.
pub(super) fn noted(host: &RuntimeHost<'_>, capability: Capability, name: &str) -> Option<String> {
    match of(host) {
        Configuration::Absent => None,
        Configuration::Unknown(why) => Some(format!("{why}: \"{name}\" may be a remote service")),
        Configuration::Known(config) => {
            let (key, backend) = backend(config, capability, name)?;
            Some(described(&key, &backend))
        }
    }
}

/// What stands behind a store, a database or a model, and its key in the file.
fn backend(config: &RuntimeConfig, capability: Capability, name: &str) -> Option<(String, Backend)> {
    let (table, list, file) = match capability {
        Capability::Keyvalue => ("key_value_store", &config.stores, "sqlite_key_value.db"),
        Capability::Sqlite => ("sqlite_database", &config.databases, "sqlite_db.db"),
        Capability::Ai => return config.models.clone().map(|models| ("llm_compute".to_string(), models)),
        _ => return None,
    };
    if let Some(found) = list.get(name) {
        return Some((format!("{table}.{name}"), found.clone()));
    }
    let folder = config.state_folder.as_ref().filter(|_| name == DEFAULT)?;
    Some(("state_dir".to_string(), Backend::File { path: Some(format!("{folder}/{file}")) }))
}

fn described(key: &str, backend: &Backend) -> String {
    let what = match backend {
        Backend::File { path: None } => "is in memory".to_string(),
        Backend::File { path: Some(path) } => format!("is the file {}", text::quoted(path, 200)),
        Backend::Inside => "is in the shim".to_string(),
        Backend::Servers { kind, addresses } => {
            let shown: Vec<&str> = addresses
                .iter()
                .map(|at| if at.is_empty() { "an address that is not plain" } else { at.as_str() })
                .collect();
            format!("is {kind} at {}", text::quoted(&shown.join(" and "), 300))
        }
        Backend::Ambient { kind } => format!("is {kind} with credentials of the environment"),
    };
    format!("{RUNTIME_CONFIG} of the image: {} {what}", text::quoted(key, 100))
}

/// Whether SQL for a database of this name is run by a server, and not in the process of the shim.
pub(super) fn is_remote_database(host: &RuntimeHost<'_>, name: Option<&str>) -> bool {
    let (Configuration::Known(config), Some(name)) = (of(host), name) else { return false };
    matches!(backend(config, Capability::Sqlite, name), Some((_, Backend::Servers { .. })))
}

/// What comes with what the components can really do, where the configuration leads it.
pub(super) fn reached(host: &RuntimeHost<'_>, effective: &[Entry]) -> Vec<Entry> {
    match of(host) {
        Configuration::Absent => Vec::new(),
        Configuration::Unknown(why) => anything(host, effective, why),
        Configuration::Known(config) => known(host, config, effective),
    }
}

/// Anything that a configuration can open (`spin:crates/key-value-redis`, `key-value-azure`, `key-value-aws`, `key-value-spin`,
/// `sqlite-libsql`, `llm-remote-http`, `variables-vault`, `variables-azure`).
fn anything(host: &RuntimeHost<'_>, effective: &[Entry], why: &str) -> Vec<Entry> {
    let by_http = [Capability::Keyvalue, Capability::Sqlite, Capability::Ai, Capability::Config];
    let uses = |capability| self::uses(effective, capability);
    let mut entries = Vec::new();
    if by_http.into_iter().any(uses) || reads_templates(host) {
        let http = format!("{why}, and it may lead what is used of it to any host");
        entries.push(Entry::new(Capability::HttpOutbound, http).to_host(HostPattern::ANY));
        entries.extend(credentials(host, why));
    }
    if uses(Capability::Keyvalue) {
        let redis = format!("{why}, and a key-value store may be a Redis at any host");
        entries.push(Entry::new(Capability::DbRedis, redis).to_host(HostPattern::ANY));
        let file = format!("{why}, and a key-value store may be a file or a Unix socket in a mount");
        entries.extend(host.pod.foreign_mounts().map(|mount| mount.clone().seen_in(&*file)));
    } else if uses(Capability::Sqlite) && confines_sql(host) {
        let file = format!("{why}, and a database may be a file in a mount");
        entries.extend(host.pod.foreign_mounts().map(|mount| mount.clone().seen_in(&*file)));
    }
    entries
}

/// What a configuration of the image opens.
fn known(host: &RuntimeHost<'_>, config: &RuntimeConfig, effective: &[Entry]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for used in effective {
        let Some(name) = &used.name else { continue };
        if let Some((key, backend)) = backend(config, used.capability, name) {
            entries.extend(of_backend(host, &described(&key, &backend), &backend));
        }
    }
    if uses(effective, Capability::Config) || reads_templates(host) {
        for (number, provider) in config.providers.iter().enumerate() {
            if let Provider::Remote(backend) = provider {
                let why = described(&format!("variables_provider[{number}]"), backend);
                entries.extend(of_backend(host, &why, backend));
            }
        }
    }
    let why = format!("the Spin shim reads it for `client_tls` of {RUNTIME_CONFIG}");
    for file in &config.tls_files {
        entries.extend(in_mounts(host, file, Some(Access::ReadOnly), &why));
    }
    entries
}

/// Whether Spin fills in hosts, for which it asks the providers of variables too, whatever the components import.
fn reads_templates(host: &RuntimeHost<'_>) -> bool {
    let has = |component: &SpinComponent| {
        host.keeps(component)
            && component.allowed_outbound_hosts.iter().any(crate::image::outbound::OutboundHost::has_template)
    };
    host.facts.spin.iter().flat_map(|app| &app.components).any(has)
}

fn of_backend(host: &RuntimeHost<'_>, why: &str, backend: &Backend) -> Vec<Entry> {
    match backend {
        Backend::Inside | Backend::File { path: None } => Vec::new(),
        Backend::File { path: Some(path) } => in_mounts(host, path, None, why),
        Backend::Servers { kind, addresses } => {
            addresses.iter().flat_map(|written| server(host, kind, written, why)).collect()
        }
        Backend::Ambient { .. } => {
            let any = Entry::new(Capability::HttpOutbound, why).to_host(HostPattern::ANY);
            let found = std::iter::once(any).chain(credentials(host, why));
            found.chain(shim_variables::proxies(host)).collect()
        }
    }
}

/// What the clients reach at an address, which they read as a URL.
fn server(host: &RuntimeHost<'_>, kind: &str, written: &str, why: &str) -> Vec<Entry> {
    let scheme = written.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let is_redis = kind == "redis";
    let default = is_redis.then_some(6379);
    let pattern = address::host(written, default);
    let any = HostPattern::ANY;
    let capability = if is_redis { Capability::DbRedis } else { Capability::HttpOutbound };
    let entry = Entry::new(capability, why).to_host(pattern.unwrap_or(any));
    let mut entries = vec![entry];
    if !is_redis {
        entries.extend(shim_variables::proxies(host));
    } else if !matches!(scheme.as_deref(), Some("redis" | "rediss" | "valkey" | "valkeys")) {
        // redis-rs:redis/src/connection.rs, `url_to_unix_connection_info`
        let socket = format!("{why}, which may be a Unix socket");
        entries.extend(host.pod.foreign_mounts().map(|mount| mount.clone().seen_in(&*socket)));
    }
    entries
}

/// The mounts that hold a file which the shim opens. A path without a slash in front is taken from the working directory or from the
/// root, as the table has it.
fn in_mounts(host: &RuntimeHost<'_>, file: &str, access: Option<Access>, why: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for folder in [host.working_directory(), "/"] {
        let at = path::join_short(folder, file);
        let found = match at.map_or(Leads::Anywhere, |at| host.leads(&at)) {
            Leads::To(place) if entry::kernel_tree(&place).is_none() => above(host, &place),
            _ => host.pod.mounts().to_vec(),
        };
        entries.extend(found.into_iter().map(|mount| {
            let access = access.or(mount.access);
            Entry { access, ..mount.seen_in(why) }
        }));
    }
    entries
}

/// Programs by which the SDKs of clouds look for credentials: the shell for `credential_process` of AWS, and the command of
/// Azure (`aws-sdk-rust:sdk/aws-config/src/credential_process.rs`; `azure-sdk-for-rust:sdk/identity`, `AzureCliCredential`).
const PROGRAMS: [&str; 2] = ["sh", "az"];

/// Native code by way of credentials, where the container may have one of these programs: the shim's process starts it.
fn credentials(host: &RuntimeHost<'_>, why: &str) -> Option<Entry> {
    programs::may_find(host, &PROGRAMS).then(|| {
        let how = "an SDK of a cloud may start a program of the container for credentials (`credential_process`, `az`)";
        Entry::new(Capability::NativeExec, why).seen_in(how).by_opening()
    })
}

/// Whether the profile says that SQL stays in its database.
pub(super) fn confines_sql(host: &RuntimeHost<'_>) -> bool {
    host.profile.is_some_and(|profile| profile.confines_sqlite)
}

/// Whether the program can really use it.
pub(super) fn uses(effective: &[Entry], capability: Capability) -> bool {
    effective.iter().any(|entry| entry.capability == capability)
}
