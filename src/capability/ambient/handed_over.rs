//! Turns what a runtime hands over into entries with their evidence.

use std::net::SocketAddr;

use super::RuntimeHost;
use crate::capability::{Access, Capability, Entry, HostPattern, path};
use crate::image::entry::Leads;
use crate::runtime::{Extra, Files, HandedOver, HttpServer, Variables};

/// What a program is handed.
pub(super) fn of(host: &RuntimeHost<'_>, handed: &HandedOver) -> Vec<Entry> {
    let mut entries = basics(host, handed.command_line);
    match handed.files {
        Files::Root => entries.extend(root(host, &format!("{} preopens /", host.runtime()))),
        Files::WorkingDirectory => entries.extend(working_directory(host)),
        Files::None => {}
    }
    match (handed.variables, handed.http) {
        (Variables::All, _) => entries.extend(host.variables()),
        (Variables::OfRequest, http) => entries.extend(of_request(host, http)),
        (Variables::None, _) => {}
    }
    if handed.command_line {
        entries.extend(host.pod.secret_arguments());
    }
    if handed.network {
        entries.extend(whole_network(host));
    }
    entries.extend(handed.http.map(|server| http(host, server)).into_iter().flatten());
    entries.extend(handed.extras.iter().map(|extra| of_extra(host, extra)));
    entries
}

fn of_extra(host: &RuntimeHost<'_>, extra: &Extra) -> Entry {
    let runtime = host.runtime();
    match extra {
        Extra::Threads => Entry::new(Capability::Threads, format!("{runtime} may start threads")),
        // Which plug-ins are installed is not known here.
        Extra::PlugInFunctions { engine } => {
            let why = format!("{runtime}: a plug-in of {engine} on the node may provide it");
            Entry::new(Capability::Nn, why)
        }
    }
}

/// What every program gets on every runtime, and what every command gets.
fn basics(host: &RuntimeHost<'_>, command_line: bool) -> Vec<Entry> {
    let runtime = host.runtime();
    let command: &[(Capability, &str)] = if command_line {
        &[(Capability::Stdio, "inherits stdio"), (Capability::Args, "hands over all arguments")]
    } else {
        &[]
    };
    let always =
        [(Capability::Clock, "hands over the clocks"), (Capability::Random, "hands over random bytes")];
    command
        .iter()
        .chain(&always)
        .map(|(capability, what)| Entry::new(*capability, format!("{runtime} {what}")))
        .collect()
}

/// `/`, what the kubelet always mounts into it, and every mount.
fn root(host: &RuntimeHost<'_>, files: &str) -> Vec<Entry> {
    let access = host.pod.root_access();
    let root = match host.pod.beyond_root() {
        Some(reason) => Entry::new(Capability::Fs, format!("{files}; {reason}")),
        None => Entry::new(Capability::Fs, files).mark_own(true),
    };
    let log = format!("{files}; terminationMessagePath, mounted by the kubelet");
    let log =
        Entry::new(Capability::Fs, log).at_path(host.pod.termination_log(), Access::ReadWrite).mark_own(true);
    let mounts = host.pod.mounts().iter().map(|mount| mount.clone().seen_in(files));
    // A volume at `/` is in the place of all that the image brought.
    let replaced = host.pod.mounts().iter().any(|mount| mount.path.as_deref() == Some("/"));
    let root = Some(root.at_path("/", access)).filter(|root| !(replaced && root.own));
    root.into_iter().chain([log]).chain(mounts).chain(kernel(host, "/", files, true)).collect()
}

/// What the container runtime mounts from the kernel. It is not the image's own, and a read-only root file system does
/// not make it read-only.
const KERNEL: [(&str, Access); 3] =
    [("/proc", Access::ReadWrite), ("/sys", Access::ReadOnly), ("/dev", Access::ReadWrite)];

/// What a program reaches of the kernel through a tree that it is handed. With a path alone it follows the links of `/proc`,
/// and makes and renames files in `/dev/shm`, which all containers of a pod share. If it opens files, `/proc/self` is the process
/// that runs the program, whatever user it has. `mem` is its memory, so writing there runs native code (proc(5)); a
/// program that can only read cannot do that. `environ` holds the variables of that process, which are not the
/// container's.
pub(super) fn kernel(host: &RuntimeHost<'_>, opened: &str, how: &str, writes: bool) -> Vec<Entry> {
    if host.profile.is_some_and(|profile| profile.hides_host_process) {
        return Vec::new();
    }
    let mut entries = Vec::new();
    for (tree, access) in KERNEL {
        let reached = if path::covers(opened, tree) {
            tree
        } else if path::covers(tree, opened) {
            opened
        } else {
            continue;
        };
        let why = format!("{how}; {tree} is the kernel's, and not of the image");
        let access = if writes { access } else { Access::ReadOnly };
        entries.push(Entry::new(Capability::Fs, why).at_path(reached, access).by_opening().by_path());
        if tree == "/proc" {
            let [memory, variables] = host_process(how);
            entries.extend(Some(memory).filter(|_| writes));
            entries.push(variables);
        }
    }
    entries
}

fn host_process(how: &str) -> [Entry; 2] {
    let memory = format!("{how}; /proc/self/mem is the memory of the process that runs the program");
    let variables = format!("{how}; /proc/self/environ holds the variables of that process");
    [(Capability::NativeExec, memory), (Capability::Env, variables)]
        .map(|(capability, why)| Entry::new(capability, why).by_opening())
}

/// The tree below the container's working directory, and the mounts in it. If a mount is at it or contains it, it is part of
/// that mount.
fn working_directory(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let written = host.working_directory();
    let Leads::To(directory) = host.leads(written) else {
        let why = format!(
            "{} opens the working directory {written}, which a link in a volume or in /proc may lead anywhere",
            host.runtime()
        );
        return root(host, &why);
    };
    let opened = format!("{} opens the working directory {directory}", host.runtime());
    let is_below = |mount: &&Entry| {
        mount.path.as_deref().is_some_and(|at| at != directory && path::covers(&directory, at))
    };
    let mut below: Vec<Entry> = host.pod.mounts().iter().filter(is_below).cloned().collect();
    let seen = host.pod.seen_at(&directory);
    let seen: Vec<Entry> =
        seen.map(|mount| Entry { path: Some(directory.clone()), ..mount.clone() }).collect();
    if seen.is_empty() {
        let access = host.pod.root_access();
        let of_kernel = KERNEL.iter().any(|(tree, _)| path::covers(tree, &directory));
        let own = Entry::new(Capability::Fs, &*opened).at_path(&*directory, access).mark_own(true);
        below.extend(Some(own).filter(|_| !of_kernel));
    }
    below.extend(seen);
    // Mounted by the container runtime after a volume at or above the directory.
    below.extend(kernel(host, &directory, &opened, true));
    let log = host.pod.termination_log();
    if path::covers(&directory, &log) && log != directory {
        let why = format!("{opened}; terminationMessagePath, mounted by the kubelet");
        below.push(Entry::new(Capability::Fs, why).at_path(log, Access::ReadWrite).mark_own(true));
    }
    for mount in below.iter_mut().filter(|entry| !entry.own && !entry.opens) {
        mount.evidence.push(opened.clone());
    }
    below
}

/// `inherit_network`, `allow_ip_name_lookup`: everything that the pod's network reaches.
fn whole_network(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let mut evidence = format!("{} inherits the whole network", host.runtime());
    if host.pod.is_on_host_network() {
        evidence.push_str(" of the node (hostNetwork)");
    }
    let mut entries: Vec<Entry> = [Capability::NetTcpConnect, Capability::NetUdp, Capability::NetDns]
        .map(|capability| Entry::new(capability, &*evidence).to_host(HostPattern::ANY))
        .into();
    entries.push(Entry::new(Capability::NetListen, evidence));
    entries
}

/// The variables of a component that answers HTTP: without those of the server, plus an id for each request.
fn of_request(host: &RuntimeHost<'_>, server: Option<HttpServer>) -> Vec<Entry> {
    let of_server = |name: &str| server.is_some_and(|s| s.address == name || s.own.contains(&name));
    let kept = |e: &Entry| !e.name.as_deref().is_some_and(of_server);
    let id = format!("env REQUEST_ID, set by {} for each request", host.runtime());
    let id = Entry::new(Capability::Env, id).named("REQUEST_ID").mark_own(true);
    host.variables().into_iter().filter(kept).chain([id]).collect()
}

/// Outgoing requests to anywhere, and the port of the server.
fn http(host: &RuntimeHost<'_>, server: HttpServer) -> [Entry; 2] {
    let runtime = host.runtime();
    let outbound = format!("{runtime} sends outgoing requests anywhere");
    let (port, evidence) = listening(host, server.address, server.port);
    [
        Entry::new(Capability::HttpOutbound, outbound).to_host(HostPattern::ANY),
        Entry { port, ..Entry::new(Capability::HttpInbound, format!("{runtime} {evidence}")) },
    ]
}

/// The port of a listening address that a variable may set, and the evidence for it. A port that cannot be determined
/// is `None`, any; also when an `envFrom` may set the variable.
pub(super) fn listening(host: &RuntimeHost<'_>, variable: &str, default: u16) -> (Option<u16>, String) {
    let set = host.pod.may_set(variable).is_some() || host.is_set_by_image(variable);
    if !set {
        return (Some(default), format!("listens on port {default}"));
    }
    let written = host.pod.literal(variable).and_then(|value| value.parse::<SocketAddr>().ok());
    match written.map(|address| address.port()) {
        Some(port) => (Some(port), format!("listens on port {port} (env {variable})")),
        None => (None, format!("listens where env {variable} says, which cannot be told here")),
    }
}
