//! Imports of components, by interface. Files and sockets are judged by function, because the adapter that turns a
//! preview-1 module into a component always imports `wasi:filesystem` and sometimes `wasi:sockets`. The instance type
//! of an import names every function that can be called, so it is a sound upper bound. A function that its interface
//! does not have in the versions that are known is an unknown import.

use super::{Need, wasi};
use crate::capability::{Access, Capability};
use crate::image::{Import, ModuleFacts};

/// What the imports of a component need.
pub(super) fn needs(module: &ModuleFacts) -> Vec<Need<'_>> {
    module.imports.iter().flat_map(of_import).collect()
}

fn of_import(import: &Import) -> Vec<Need<'_>> {
    let mut needs = of_interface(import);
    needs.extend(unknown_functions(import));
    needs
}

/// The name of the interface and its version, which may be empty.
fn name_and_version(import: &Import) -> (&str, &str) {
    import.interface.split_once('@').unwrap_or((&import.interface, ""))
}

fn of_interface(import: &Import) -> Vec<Need<'_>> {
    let (name, version) = name_and_version(import);
    let Some((package, interface)) = name.split_once('/') else { return vec![unknown(import)] };
    match package {
        "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:io" | "wasi:filesystem" | "wasi:sockets"
        | "wasi:http"
            if !is_known_line(version) =>
        {
            vec![unknown(import)]
        }
        "wasi:filesystem" => filesystem(import, interface),
        "wasi:sockets" => sockets(import, interface),
        "wasi:cli" if interface == "environment" => environment(import),
        "wasi:http" if interface == "handler" && is_client_of_candidate(version) => {
            vec![Need::new(Capability::HttpOutbound, &import.interface, Vec::new())]
        }
        _ => match by_interface(package, interface) {
            Meaning::Needs(capability) => vec![Need::new(capability, &import.interface, Vec::new())],
            Meaning::Plumbing => Vec::new(),
            Meaning::Unknown => vec![unknown(import)],
        },
    }
}

/// WASI 0.2 and 0.3, the release candidates that Spin still links, and imports without a version. The functions of
/// later versions are not known here, so the rules by function do not apply to them.
fn is_known_line(version: &str) -> bool {
    version.is_empty() || version.starts_with("0.2.") || version.starts_with("0.3.")
}

/// In the release candidates of WASI 0.3 the import of `handler` is the outgoing client, which Spin still links. Since
/// the final 0.3.0 that is `client`, and an imported `handler` is the next component of a middleware chain.
fn is_client_of_candidate(version: &str) -> bool {
    version.starts_with("0.3.0-rc-")
}

/// The functions of a listed interface that no known version of it has: a later version may have them. Release
/// candidates have other functions, which are not listed, and get no more of them.
fn unknown_functions(import: &Import) -> Vec<Need<'_>> {
    let Some(known) = known_functions(import) else { return Vec::new() };
    let functions = import.functions.iter().filter(|function| !is_known(known, function));
    functions.map(|function| unknown_function(import, function)).collect()
}

/// The functions that its interface has, and whether that has the files; `None` where they are not listed.
pub(super) fn known_functions(import: &Import) -> Option<(&'static [&'static str], bool)> {
    let (name, version) = name_and_version(import);
    let (package, interface) = name.split_once('/')?;
    if !is_known_line(version) || is_candidate(version) {
        return None;
    }
    let is_of_files = (package, interface) == ("wasi:filesystem", "types");
    wasi::functions(package, interface).map(|known| (known, is_of_files))
}

/// Whether it is one of [`known_functions`]. What takes a path is judged by `filesystem`, which takes it for one that opens files.
pub(super) fn is_known((known, is_of_files): (&[&str], bool), function: &str) -> bool {
    let function = bare(function);
    known.contains(&function) || (is_of_files && function.ends_with("-at"))
}

fn is_candidate(version: &str) -> bool {
    version.starts_with("0.2.0-rc-") || version.starts_with("0.3.0-rc-")
}

fn unknown_function<'a>(import: &'a Import, function: &'a str) -> Need<'a> {
    let need = Need::new(Capability::UnknownImport, &import.interface, vec![function]);
    let name = format!("{}.{function}", import.interface);
    Need { name: Some(name), ..need }.may_do_anything()
}

fn unknown(import: &Import) -> Need<'_> {
    let need = Need::new(Capability::UnknownImport, &import.interface, Vec::new());
    let need = Need { name: Some(import.interface.clone()), ..need };
    if is_linked(&import.interface) { need.may_do_anything() } else { need }
}

/// Whether a runtime is known to link other interfaces or versions of this package, so that this one may be there as well.
/// Any other package exists only where the operator of a node links it, and who grants an import of it says to know what it does.
fn is_linked(interface: &str) -> bool {
    let package = interface.split('/').next().unwrap_or_default();
    let own_of_wasi = ["cli", "clocks", "random", "io", "filesystem", "sockets", "http"];
    match package.split_once(':') {
        Some(("wasi", name)) => own_of_wasi.contains(&name),
        Some((namespace, name)) => namespace == "spin" || (namespace, name) == ("fermyon", "spin"),
        None => false,
    }
}

/// What an interface alone says about the import.
enum Meaning {
    /// Nothing: types, streams, polling.
    Plumbing,
    Needs(Capability),
    Unknown,
}

fn by_interface(package: &str, interface: &str) -> Meaning {
    use Capability as C;
    Meaning::Needs(match (package, interface) {
        ("wasi:io", "error" | "poll" | "streams")
        | ("wasi:http", "types" | "handler")
        | (
            "wasi:cli",
            "exit" | "types" | "run" | "terminal-input" | "terminal-output" | "terminal-stdin"
            | "terminal-stdout" | "terminal-stderr",
        )
        | ("wasi:clocks", "types") => return Meaning::Plumbing,
        ("wasi:cli", "stdin" | "stdout" | "stderr") => C::Stdio,
        ("wasi:clocks", "wall-clock" | "monotonic-clock" | "system-clock" | "timezone") => C::Clock,
        ("wasi:random", "random" | "insecure" | "insecure-seed") => C::Random,
        ("wasi:http", "outgoing-handler" | "client") => C::HttpOutbound,
        ("wasi:keyvalue" | "spin:key-value", _) => C::Keyvalue,
        ("wasi:config" | "spin:variables", _) => C::Config,
        ("wasi:blobstore", _) => C::Blobstore,
        ("wasi:messaging" | "wasmcloud:messaging", _) => C::Messaging,
        ("wasi:nn", _) => C::Nn,
        ("wasi:logging" | "wasi:otel" | "wasi:observe", _) => C::Telemetry,
        ("wasi:tls", _) => C::Tls,
        ("wasi:threads", _) => C::Threads,
        ("fermyon:spin", interface) => return fermyon_spin(interface),
        ("spin:mqtt", _) => C::Mqtt,
        ("spin:mysql", _) => C::DbMysql,
        ("spin:postgres", _) => C::DbPostgres,
        ("spin:redis", _) => C::DbRedis,
        ("spin:sqlite", _) => C::Sqlite,
        ("spin:llm", _) => C::Ai,
        _ => return Meaning::Unknown,
    })
}

/// The only package of Spin 1 and 2 (`spin:crates/capabilities/src/lib.rs`).
fn fermyon_spin(interface: &str) -> Meaning {
    use Capability as C;
    Meaning::Needs(match interface {
        "http" => C::HttpOutbound,
        "mysql" => C::DbMysql,
        "postgres" => C::DbPostgres,
        "redis" => C::DbRedis,
        "mqtt" => C::Mqtt,
        "llm" => C::Ai,
        "key-value" => C::Keyvalue,
        "sqlite" => C::Sqlite,
        "config" | "variables" => C::Config,
        types if types.ends_with("-types") => return Meaning::Plumbing,
        _ => return Meaning::Unknown,
    })
}

fn environment(import: &Import) -> Vec<Need<'_>> {
    let all = [("get-environment", Capability::Env), ("get-arguments", Capability::Args)];
    let can_call = |function: &str| import.functions.is_empty() || import.functions.contains(function);
    let to_need = |(function, capability)| Need::new(capability, &import.interface, vec![function]);
    all.into_iter().filter(|(function, _)| can_call(function)).map(to_need).collect()
}

/// `descriptor.open-at` of `[method]descriptor.open-at`, and of the `[async method]` of WASI 0.3.
fn bare(function: &str) -> &str {
    function.rsplit_once(']').map_or(function, |(_, name)| name)
}

fn calling(import: &Import, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    import.functions.iter().map(String::as_str).filter(|f| wanted(bare(f))).collect()
}

fn at(capability: Capability, import: &Import, wanted: impl Fn(&str) -> bool) -> Option<Need<'_>> {
    let functions = calling(import, wanted);
    (!functions.is_empty()).then(|| Need::new(capability, &import.interface, functions))
}

/// A component uses files if and only if it can reach something by a path or list a directory: the other functions are
/// the adapter's way to standard output.
fn filesystem<'a>(import: &'a Import, interface: &str) -> Vec<Need<'a>> {
    let changes = |f: &str| {
        matches!(
            f,
            "descriptor.create-directory-at"
                | "descriptor.remove-directory-at"
                | "descriptor.unlink-file-at"
                | "descriptor.rename-at"
                | "descriptor.symlink-at"
                | "descriptor.link-at"
                | "descriptor.set-times-at"
        )
    };
    let reads = |f: &str| {
        matches!(
            f,
            "descriptor.readlink-at"
                | "descriptor.stat-at"
                | "descriptor.metadata-hash-at"
                | "descriptor.read-directory"
        )
    };
    let by_path = |f: &str| f.ends_with("-at");
    // `open-at` creates and truncates depending on its flags, which are known only when it is called. What else takes a path and is
    // not known here counts as it.
    let opens = |f: &str| by_path(f) && !changes(f) && !reads(f);
    match interface {
        "types" => {
            let writes = |f: &str| changes(f) || opens(f);
            let access =
                if calling(import, writes).is_empty() { Access::ReadOnly } else { Access::ReadWrite };
            let need = at(Capability::Fs, import, |f| reads(f) || writes(f));
            let opens = !calling(import, opens).is_empty();
            let by_path = !calling(import, by_path).is_empty();
            need.map(|need| Need { access: Some(access), opens, by_path, ..need }).into_iter().collect()
        }
        "preopens" => Vec::new(),
        _ => vec![unknown(import)],
    }
}

/// Creating a socket does nothing yet; binding, listening, connecting and sending do. WASI 0.3 has one interface,
/// `types`.
fn sockets<'a>(import: &'a Import, interface: &str) -> Vec<Need<'a>> {
    let connects = |f: &str| matches!(f, "tcp-socket.start-connect" | "tcp-socket.connect");
    let listens = |f: &str| {
        matches!(
            f,
            "tcp-socket.start-bind"
                | "tcp-socket.bind"
                | "tcp-socket.start-listen"
                | "tcp-socket.listen"
                | "tcp-socket.accept"
        )
    };
    let datagrams = |f: &str| {
        matches!(
            f,
            "udp-socket.start-bind"
                | "udp-socket.bind"
                | "udp-socket.stream"
                | "udp-socket.connect"
                | "udp-socket.send"
                | "udp-socket.receive"
                | "incoming-datagram-stream.receive"
                | "outgoing-datagram-stream.send"
        )
    };
    match interface {
        "tcp" | "udp" | "types" => [
            at(Capability::NetTcpConnect, import, connects),
            at(Capability::NetListen, import, listens),
            at(Capability::NetUdp, import, datagrams),
        ]
        .into_iter()
        .flatten()
        .collect(),
        "ip-name-lookup" => vec![Need::new(Capability::NetDns, &import.interface, Vec::new())],
        "network" | "instance-network" | "tcp-create-socket" | "udp-create-socket" => Vec::new(),
        _ => vec![unknown(import)],
    }
}
