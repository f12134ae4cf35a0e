//! Features that a binary needs beyond plain WASI, recognised by the names of its imports and exports.

use std::collections::BTreeSet;

use super::super::Feature;

/// What an import needs beyond plain WASI.
pub(super) fn of_import(interface: &str, functions: &BTreeSet<String>) -> Vec<Feature> {
    let wasmedge = functions.iter().any(|name| is_wasmedge_socket(name));
    let found = [
        (interface == "wasi_unstable", Feature::WasiUnstable),
        (matches!(interface, "wasix_32v1" | "wasix_64v1"), Feature::Wasix),
        (interface == "wasi" && functions.contains("thread-spawn"), Feature::WasiThreads),
        (interface == "wasi_ephemeral_nn", Feature::WasiNn),
        (interface == "wasi_snapshot_preview1" && wasmedge, Feature::WasmedgeSockets),
    ];
    let core = found.into_iter().filter_map(|(seen, feature)| seen.then_some(feature));
    core.chain(wasi_0_3(interface)).collect()
}

/// Functions that WasmEdge adds to preview 1, some with a second version `…_v2`
/// (`WasmEdge:lib/host/wasi/wasimodule.cpp`).
fn is_wasmedge_socket(function: &str) -> bool {
    let second = function.strip_prefix("sock_").is_some_and(|name| name.ends_with("_v2"));
    second
        || matches!(
            function,
            "sock_open"
                | "sock_bind"
                | "sock_connect"
                | "sock_listen"
                | "sock_send_to"
                | "sock_recv_from"
                | "sock_getsockopt"
                | "sock_setsockopt"
                | "sock_getlocaladdr"
                | "sock_getpeeraddr"
                | "sock_getaddrinfo"
        )
}

/// The export of a component that answers HTTP in WASI 0.3 (`wasi-http:wit-0.3.0-draft`).
const HTTP_HANDLER_0_3: &str = "wasi:http/handler";

/// Whether an export answers HTTP in WASI 0.3. Of another version the interface does not exist.
pub(in crate::image) fn is_http_0_3(export: &str) -> bool {
    export.split('@').next() == Some(HTTP_HANDLER_0_3) && wasi_0_3(export).is_some()
}

/// WASI 0.3, by major and minor version; the patch version does not matter.
pub(super) fn wasi_0_3(interface: &str) -> Option<Feature> {
    let Some((name, version)) = interface.split_once('@') else {
        // Only WASI 0.3 has an interface of this name.
        return (interface == HTTP_HANDLER_0_3).then_some(Feature::Wasi03);
    };
    let version = version.strip_prefix("0.3")?;
    (name.starts_with("wasi:") && (version.is_empty() || version.starts_with(['.', '-'])))
        .then_some(Feature::Wasi03)
}
