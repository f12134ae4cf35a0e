//! Where the gate runs.

use kube::Client;

/// The namespace that the gate runs in.
pub fn own_namespace(client: &Client) -> String {
    let namespace = std::env::var("POD_NAMESPACE").ok().filter(|name| !name.is_empty());
    namespace.unwrap_or_else(|| client.default_namespace().to_owned())
}

/// Name of this replica: `POD_NAME`, or the host name, which in a pod is the pod's name.
pub fn instance() -> String {
    let from_file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = std::env::var("POD_NAME").ok().or_else(from_file).unwrap_or_default();
    name.trim().to_string()
}
