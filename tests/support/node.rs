//! A real node: containerd, runc, runwasi's wasmtime shim and a kubelet in namespaces of their own, started by
//! `tools/cluster/node` as `make cluster NODE=1` starts them. It is gone with the value, or with the test's process.

use serde_json::Value;

use super::control_plane::{ControlPlane, Said};
use super::process::{Process, own};
use super::registry::Registry;

/// Where pods of a node reach what is on it, and by its port the registry (`tools/cluster/node`).
pub const ADDRESS: &str = "10.255.77.2";

/// A node that runs pods.
pub struct Node {
    process: Process,
    /// Its name in the cluster.
    pub name: String,
}

impl Node {
    /// Joins a control plane that was started with [`super::control_plane::Options::node`] of this name, and waits until
    /// the kubelet says that it is ready. Images come from the registry, under its own name.
    pub fn join(plane: &ControlPlane, registry: &Registry, name: &str) -> Self {
        Self::join_as(plane, registry, name, 1)
    }

    /// The same for a further node beside one that runs, with a number from 2 to 9. The control plane has to know it as one of
    /// its [`users`](super::control_plane::Options::users), `system:node:NAME`.
    pub fn join_as(plane: &ControlPlane, registry: &Registry, name: &str, number: u8) -> Self {
        let home = plane.home().path();
        let mut command = own(
            "tools/cluster/node",
            &["run".as_ref(), home.as_ref(), name.as_ref(), registry.host.as_ref()],
        );
        command.env("WASMGATE_NODE_NUMBER", number.to_string());
        let mut process = plane.home().start(&format!("node-{number}"), &command);
        plane.wait_for("the node to be ready", || {
            assert!(!process.has_ended(), "the node ended\n{}", process.tail());
            let node = plane.kubectl(&["get", "node", name, "--output=json"]);
            let conditions = (node.code == 0).then(|| node.json()["status"]["conditions"].clone())?;
            let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            conditions.as_array()?.iter().any(ready).then_some(())
        });
        Self { process, name: name.to_string() }
    }

    /// The end of the kubelet's log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

/// Why nodes get no kube-proxy here, and so Services no addresses on them.
pub fn lacks_proxy() -> Option<String> {
    let checked = own("tools/cluster/node", &["check".as_ref(), "proxy".as_ref()]).output().unwrap();
    (!checked.status.success()).then(|| String::from_utf8_lossy(&checked.stdout).trim().to_string())
}

/// Asks an address by HTTP, as a program in the network of a control plane's first node does.
pub fn curl(plane: &ControlPlane, url: &str) -> Said {
    let mut command = own("tools/cluster/node", &["enter".as_ref(), plane.home().path().as_ref()]);
    command.args(["curl", "--silent", "--show-error", "--fail", "--max-time", "5", "--noproxy", "*", url]);
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The end of what kube-proxy of the first node says.
pub fn tail_of_proxy(plane: &ControlPlane) -> String {
    let log =
        std::fs::read_to_string(plane.home().path().join("node/log/kube-proxy.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(30)).copied().collect::<Vec<_>>().join("\n")
}
