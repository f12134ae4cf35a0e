//! runwasi's wasmtime shim (`runwasi:crates/containerd-shim-wasmtime/src/{instance,http_proxy}.rs`).

use std::net::SocketAddr;

use super::Host;
use crate::capability::{Capability, Entry, HostPattern};

/// A core module or a command component: all variables and arguments, `/` with every mount, and to components the
/// whole network. wasmtime's preview-1 `sock_*` answer "not a socket", so core modules have no network at all.
pub(super) fn command(host: &Host<'_>, network: bool) -> Vec<Entry> {
    let runtime = host.runtime();
    let mut entries = basics(host);
    let access = host.pod.root_access();
    let files = format!("{runtime} preopens /");
    let root = match host.pod.beyond_root() {
        Some(reason) => Entry::new(Capability::Fs, format!("{files}; {reason}")),
        None => Entry::new(Capability::Fs, &*files).mark_own(true),
    };
    entries.push(root.at_path("/", access));
    let log = format!("{files}; terminationMessagePath, mounted by the kubelet");
    let log_access = crate::capability::Access::ReadWrite;
    entries
        .push(Entry::new(Capability::Fs, log).at_path(host.pod.termination_log(), log_access).mark_own(true));
    entries.extend(host.pod.mounts().into_iter().map(|mount| mount.seen_in(&*files)));
    entries.extend(host.variables());
    entries.extend(host.pod.secret_arguments());
    if network {
        entries.extend(whole_network(host));
    }
    entries
}

/// What every command gets on every runtime.
pub(super) fn basics(host: &Host<'_>) -> Vec<Entry> {
    let runtime = host.runtime();
    [
        (Capability::Stdio, "inherits stdio"),
        (Capability::Clock, "hands over the clocks"),
        (Capability::Random, "hands over random bytes"),
        (Capability::Args, "hands over all arguments"),
    ]
    .map(|(capability, what)| Entry::new(capability, format!("{runtime} {what}")))
    .into()
}

/// `inherit_network`, `allow_ip_name_lookup`: everything that the pod's network reaches.
fn whole_network(host: &Host<'_>) -> Vec<Entry> {
    let mut evidence = format!("{} inherits the whole network", host.runtime());
    if host.pod.is_on_host_network() {
        evidence.push_str(" of the node (hostNetwork)");
    }
    let any = HostPattern::ANY.to_string();
    let mut entries: Vec<Entry> = [Capability::NetTcpConnect, Capability::NetUdp, Capability::NetDns]
        .map(|capability| Entry::new(capability, &*evidence).to_host(&*any))
        .into();
    entries.push(Entry::new(Capability::NetListen, evidence));
    entries
}

/// A component that answers HTTP: variables, outgoing HTTP to anywhere, a port; no arguments, stdio, files or sockets.
pub(super) fn http(host: &Host<'_>) -> Vec<Entry> {
    let runtime = host.runtime();
    let kept = |e: &Entry| !matches!(e.name.as_deref(), Some(ADDRESS | "WASMTIME_HTTP_BACKLOG"));
    let mut entries: Vec<Entry> = host.variables().into_iter().filter(kept).collect();
    let id = format!("env REQUEST_ID, set by {runtime} for each request");
    entries.push(Entry::new(Capability::Env, id).named("REQUEST_ID").mark_own(true));
    entries.push(Entry::new(Capability::Clock, format!("{runtime} hands over the clocks")));
    entries.push(Entry::new(Capability::Random, format!("{runtime} hands over random bytes")));
    let outbound = format!("{runtime} sends outgoing requests anywhere");
    entries.push(Entry::new(Capability::HttpOutbound, outbound).to_host(HostPattern::ANY.to_string()));
    entries.push(inbound(host));
    entries
}

/// Variable that moves the HTTP server from `0.0.0.0:8080`.
const ADDRESS: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";

fn inbound(host: &Host<'_>) -> Entry {
    let (port, evidence) = listening(host, ADDRESS, 8080);
    Entry { port, ..Entry::new(Capability::HttpInbound, format!("{} {evidence}", host.runtime())) }
}

/// The port of a listening address that a variable may set, and the evidence for it. A port that cannot be told is none:
/// any. That includes an `envFrom` that may bring the variable.
pub(super) fn listening(host: &Host<'_>, variable: &str, default: u16) -> (Option<u16>, String) {
    let set = host.pod.may_set(variable).is_some() || host.facts.env.iter().any(|name| name == variable);
    if !set {
        return (Some(default), format!("listens on port {default}"));
    }
    let written = host.pod.literal(variable).and_then(|value| value.parse::<SocketAddr>().ok());
    match written.map(|address| address.port()) {
        Some(port) => (Some(port), format!("listens on port {port} (env {variable})")),
        None => (None, format!("listens where env {variable} says, which cannot be told here")),
    }
}
