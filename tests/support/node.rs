//! A real node: containerd, runc, runwasi's wasmtime shim and a kubelet in namespaces of their own, started by
//! `tools/cluster/node` as `make cluster NODE=1` starts them. It is gone with the value, or with the test's process.

use serde_json::Value;

use super::control_plane::ControlPlane;
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
