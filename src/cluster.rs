//! What is known of the cluster besides the object under review: its RuntimeClasses, LimitRanges and namespace
//! labels. Read from a directory of ordinary manifests, so that the offline commands and a gate outside a cluster
//! see the same.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LimitRangeItem;

/// What placement needs to know of a RuntimeClass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeClass {
    /// Handler that the node's container runtime is configured with.
    pub handler: String,
    /// `scheduling.nodeSelector`, merged into the pod by the API server's own plug-in.
    pub node_selector: BTreeMap<String, String>,
}

/// A consistent picture of the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// Name → RuntimeClass; `None` when nobody told which ones exist, and the profiles are taken at their word.
    pub runtime_classes: Option<BTreeMap<String, RuntimeClass>>,
    /// Namespace → the items of all its LimitRanges.
    pub limit_ranges: BTreeMap<String, Vec<LimitRangeItem>>,
    /// Namespace → its labels.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}
