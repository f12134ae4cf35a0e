//! What the configuration says about the Kubernetes cluster that the gate belongs to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The cluster that the gate belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Whether `serve` watches the cluster: RuntimeClasses, LimitRanges, namespaces, service accounts, grants and
    /// exceptions, and reads pull secrets. Default: no, the directories are all that is known.
    pub watch: bool,
    /// Kubeconfig whose current context is the cluster. Default: the service account of the pod that the gate runs in.
    pub kubeconfig: Option<PathBuf>,
}
