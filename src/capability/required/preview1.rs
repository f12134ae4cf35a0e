//! Imports of core modules: WASI preview 1, the sockets of WasmEdge and WAMR, WASIX, and Spin's host modules from before
//! components.

use std::collections::BTreeSet;

use super::Need;
use crate::capability::{Access, Capability};
use crate::image::{Import, ModuleFacts};

/// What one function of `wasi_snapshot_preview1`, `wasi_unstable` or WASIX is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// No capability: exit, yield, poll, and the scan for pre-opened directories that every libc makes.
    None,
    /// A capability, whatever else is imported.
    Needs(Capability),
    /// Files; `true` if it can change something.
    Files(bool),
    /// Takes the address of a socket. The caller chooses its kind when it opens the socket: for streams, for datagrams, or the
    /// path of a Unix socket, which is looked up in all files of the container and not among the opened folders alone
    /// (`WasmEdge:lib/host/wasi/inode-linux.cpp`, `sockOpen`, `sockConnect`).
    Address(Capability),
    /// Works on an open socket.
    OpenSocket,
    /// Makes a socket that does nothing yet.
    NewSocket,
    /// Not in the table.
    Unknown,
}

impl Purpose {
    /// The capabilities that it needs, files aside.
    fn capabilities(self) -> Vec<Capability> {
        match self {
            Self::Needs(capability) => vec![capability],
            Self::Address(Capability::NetUdp) => vec![Capability::NetUdp],
            Self::Address(capability) => vec![capability, Capability::NetUdp],
            _ => Vec::new(),
        }
    }

    /// Whether it reaches files, and can change something.
    const fn files(self) -> Option<bool> {
        match self {
            Self::Files(writes) => Some(writes),
            Self::Address(_) => Some(true),
            _ => None,
        }
    }
}

/// What the imports of a core module need.
pub(super) fn needs(module: &ModuleFacts) -> Vec<Need<'_>> {
    let threads =
        module.imports.iter().any(|i| i.interface == "wasi" && i.functions.contains("thread-spawn"));
    module.imports.iter().flat_map(|import| of_import(import, threads)).collect()
}

fn of_import(import: &Import, threads: bool) -> Vec<Need<'_>> {
    let interface = import.interface.as_str();
    match interface {
        "wasi_snapshot_preview1" | "wasi_unstable" => preview1(import),
        _ if is_wasix(interface) => preview1(import),
        "wasi_ephemeral_nn" => vec![whole(Capability::Nn, import)],
        "wasi" => {
            let (spawn, other): (Vec<&str>, Vec<&str>) =
                functions(import).partition(|f| *f == "thread-spawn");
            let threads = (!spawn.is_empty()).then(|| Need::new(Capability::Threads, interface, spawn));
            threads.into_iter().chain(unknown(interface, other)).collect()
        }
        // A threaded module imports its shared memory. The host creates it, and it cannot be called.
        "env" if threads => unknown(interface, functions(import).filter(|f| *f != "memory").collect()),
        _ => match spin_legacy(interface) {
            Some(capability) => vec![whole(capability, import)],
            None if import.functions.is_empty() => vec![named_unknown(interface, None)],
            None => unknown(interface, functions(import).collect()),
        },
    }
}

/// Whether a function of an import is named by itself ([`named_unknown`]).
pub(super) fn is_named(interface: &str, function: &str) -> bool {
    match interface {
        "wasi_snapshot_preview1" | "wasi_unstable" => purpose(function) == Purpose::Unknown,
        "wasi_ephemeral_nn" => false,
        _ if is_wasix(interface) => wasix(function) == Purpose::Unknown,
        _ => spin_legacy(interface).is_none(),
    }
}

fn functions(import: &Import) -> impl Iterator<Item = &str> {
    import.functions.iter().map(String::as_str)
}

fn whole(capability: Capability, import: &Import) -> Need<'_> {
    Need::new(capability, &import.interface, functions(import).collect())
}

/// One need per function, named `module.function`, so that a grant can name exactly that function.
fn unknown<'a>(interface: &'a str, functions: Vec<&'a str>) -> Vec<Need<'a>> {
    functions.into_iter().map(|f| named_unknown(interface, Some(f))).collect()
}

fn named_unknown<'a>(interface: &'a str, function: Option<&'a str>) -> Need<'a> {
    let name = function.map_or_else(|| interface.to_string(), |f| format!("{interface}.{f}"));
    let need = Need::new(Capability::UnknownImport, interface, function.into_iter().collect());
    let need = Need { name: Some(name), ..need };
    if is_linked(interface) { need.may_do_anything() } else { need }
}

/// Whether a runtime is known to link this module, so that a function of it which is not known here may be there as well.
/// WasmEdge's plug-ins have modules of their own (`WasmEdge:plugins`): that for eBPF loads programs into the kernel, and that for a log has
/// the name of an interface of components. Any other module exists only where the operator of a node links it, and who grants an import
/// of it says to know what it does.
fn is_linked(interface: &str) -> bool {
    matches!(interface, "wasi" | "wasi:logging/logging" | "wasm_bpf")
        || interface.starts_with("wasi_")
        || interface.starts_with("wasmedge_")
        || is_wasix(interface)
}

/// WASIX, which adds processes, threads and sockets to preview 1 (`wasmer:lib/wasix/src/lib.rs`, `wasix_exports_32`).
fn is_wasix(interface: &str) -> bool {
    interface.starts_with("wasix_")
}

fn preview1(import: &Import) -> Vec<Need<'_>> {
    let interface = import.interface.as_str();
    let of = if is_wasix(interface) { wasix } else { purpose };
    let purposes: Vec<(&str, Purpose)> = functions(import).map(|f| (f, of(f))).collect();
    let with = |wanted: &dyn Fn(Purpose) -> bool| -> Vec<&str> {
        purposes.iter().filter(|(_, p)| wanted(*p)).map(|(f, _)| *f).collect()
    };
    let capabilities: BTreeSet<Capability> =
        purposes.iter().flat_map(|(_, purpose)| purpose.capabilities()).collect();
    let mut needs: Vec<Need<'_>> = capabilities
        .iter()
        .map(|c| Need::new(*c, interface, with(&|purpose| purpose.capabilities().contains(c))))
        .collect();
    let files = with(&|purpose| purpose.files().is_some());
    if !files.is_empty() {
        let writes = purposes.iter().any(|(_, purpose)| purpose.files() == Some(true));
        let access = if writes { Access::ReadWrite } else { Access::ReadOnly };
        // WASIX has a second version, `path_open2`.
        let opens = files.iter().any(|function| function.starts_with("path_open"));
        let by_path = files.iter().any(|function| function.starts_with("path_"));
        let need = Need::new(Capability::Fs, interface, files);
        needs.push(Need { access: Some(access), opens, by_path, ..need });
    }
    needs.extend(idle_sockets(
        interface,
        &capabilities,
        with(&|p| p == Purpose::OpenSocket),
        Capability::NetListen,
    ));
    needs.extend(idle_sockets(
        interface,
        &capabilities,
        with(&|p| p == Purpose::NewSocket),
        Capability::NetTcpConnect,
    ));
    needs.extend(unknown(interface, with(&|p| p == Purpose::Unknown)));
    needs
}

/// Functions on sockets mean nothing by themselves if another import shows how the socket comes to be. Alone they mean
/// a pre-opened socket (or, for `sock_open`, a program that lacks one call to a connection).
fn idle_sockets<'a>(
    interface: &'a str,
    capabilities: &BTreeSet<Capability>,
    functions: Vec<&'a str>,
    taken_for: Capability,
) -> Option<Need<'a>> {
    let network = [Capability::NetTcpConnect, Capability::NetUdp, Capability::NetListen];
    let explained = network.iter().any(|c| capabilities.contains(c));
    (!explained && !functions.is_empty()).then(|| Need::new(taken_for, interface, functions))
}

/// The name of a function without the version that WasmEdge adds to some.
fn first_version(function: &str) -> &str {
    function.strip_suffix("_v2").unwrap_or(function)
}

/// The functions of WASIX: its own, and those of preview 1, some of both with a later version such as `path_open2`. What
/// starts another program (`proc_exec`, `proc_spawn`) or loads code (`dlopen`) is left out, like all that changes the network of the
/// process: that program was not judged, and it may do whatever this one may.
fn wasix(function: &str) -> Purpose {
    if matches!(
        function,
        "sock_join_multicast_v4"
            | "sock_join_multicast_v6"
            | "sock_leave_multicast_v4"
            | "sock_leave_multicast_v6"
    ) {
        return Purpose::Needs(Capability::NetUdp);
    }
    let function = first_version(function);
    let function = function.strip_suffix(|last: char| last.is_ascii_digit()).unwrap_or(function);
    match function {
        "callback_signal" | "epoll_create" | "epoll_ctl" | "epoll_wait" | "futex_wait" | "futex_wake"
        | "futex_wake_all" | "getcwd" | "proc_id" | "proc_parent" | "stack_checkpoint" | "stack_restore"
        | "thread_exit" | "thread_id" | "thread_join" | "thread_parallelism" | "thread_sleep" => {
            Purpose::None
        }
        "fd_dup" | "fd_event" | "fd_fdflags_get" | "fd_fdflags_set" | "fd_pipe" | "tty_get" => {
            Purpose::Needs(Capability::Stdio)
        }
        "thread_spawn" => Purpose::Needs(Capability::Threads),
        "resolve" => Purpose::Needs(Capability::NetDns),
        "sock_addr_peer" | "sock_get_opt_flag" | "sock_get_opt_size" | "sock_get_opt_time"
        | "sock_set_opt_flag" | "sock_set_opt_size" | "sock_set_opt_time" | "sock_status" => {
            Purpose::OpenSocket
        }
        _ => purpose(function),
    }
}

/// The functions of preview 1 (`WASI:legacy/preview1/docs.md`), WasmEdge's sockets, which are in the same module, some with
/// a second version `…_v2` (`WasmEdge:lib/host/wasi/wasimodule.cpp`), and of WAMR's sockets those that WasmEdge has not
/// (`wasm-micro-runtime:core/iwasm/libraries/libc-wasi/libc_wasi_wrapper.c`).
fn purpose(function: &str) -> Purpose {
    use Capability::{Args, Clock, Env, NetDns, NetListen, NetTcpConnect, NetUdp, Random, Stdio};
    match first_version(function) {
        "args_get" | "args_sizes_get" => Purpose::Needs(Args),
        "environ_get" | "environ_sizes_get" => Purpose::Needs(Env),
        "clock_res_get" | "clock_time_get" => Purpose::Needs(Clock),
        "random_get" => Purpose::Needs(Random),
        "proc_exit"
        | "proc_raise"
        | "sched_yield"
        | "poll_oneoff"
        | "fd_prestat_get"
        | "fd_prestat_dir_name" => Purpose::None,
        "fd_advise"
        | "fd_close"
        | "fd_datasync"
        | "fd_fdstat_get"
        | "fd_fdstat_set_flags"
        | "fd_fdstat_set_rights"
        | "fd_filestat_get"
        | "fd_pread"
        | "fd_pwrite"
        | "fd_read"
        | "fd_renumber"
        | "fd_seek"
        | "fd_sync"
        | "fd_tell"
        | "fd_write" => Purpose::Needs(Stdio),
        "fd_readdir" | "path_filestat_get" | "path_readlink" => Purpose::Files(false),
        // `path_open` creates and truncates depending on its flags, which are known only when it is called.
        "path_open"
        | "path_create_directory"
        | "path_filestat_set_times"
        | "path_link"
        | "path_remove_directory"
        | "path_rename"
        | "path_symlink"
        | "path_unlink_file"
        | "fd_allocate"
        | "fd_filestat_set_size"
        | "fd_filestat_set_times" => Purpose::Files(true),
        "sock_accept" | "sock_listen" => Purpose::Needs(NetListen),
        "sock_bind" => Purpose::Address(NetListen),
        "sock_connect" => Purpose::Address(NetTcpConnect),
        "sock_send_to" => Purpose::Address(NetUdp),
        "sock_recv_from" => Purpose::Needs(NetUdp),
        "sock_getaddrinfo" | "sock_addr_resolve" => Purpose::Needs(NetDns),
        "sock_recv" | "sock_send" | "sock_shutdown" | "sock_getsockopt" | "sock_setsockopt"
        | "sock_getlocaladdr" | "sock_getpeeraddr" | "sock_addr_local" | "sock_addr_remote" => {
            Purpose::OpenSocket
        }
        "sock_open" => Purpose::NewSocket,
        _ => Purpose::Unknown,
    }
}

/// Host modules of Spin's first SDKs, which Spin converts to components at start
/// (`spin:crates/componentize/src/lib.rs`).
fn spin_legacy(module: &str) -> Option<Capability> {
    Some(match module {
        "wasi-outbound-http" => Capability::HttpOutbound,
        "outbound-redis" => Capability::DbRedis,
        "outbound-pg" => Capability::DbPostgres,
        "outbound-mysql" => Capability::DbMysql,
        "key-value" => Capability::Keyvalue,
        "sqlite" => Capability::Sqlite,
        "spin-config" => Capability::Config,
        "llm" => Capability::Ai,
        _ => return None,
    })
}
