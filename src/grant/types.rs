//! The `wasmgate.dev/v1alpha1` WasiGrant and ClusterWasiGrant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capability::{Access, Capability};

/// A grant: the capabilities that its subjects may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WasiGrant {
    /// `wasmgate.dev/v1alpha1`.
    pub api_version: String,
    /// `WasiGrant` or `ClusterWasiGrant`.
    pub kind: String,
    /// Name and namespace; other metadata is carried and not read.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The grant itself.
    pub spec: GrantSpec,
}

/// What is granted to whom until when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantSpec {
    /// Who; omitted means every pod of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Subjects>,
    /// ClusterWasiGrant only: which namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// What.
    pub capabilities: Vec<GrantedCapability>,
    /// RFC 3339 time after which the grant covers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<jiff::Timestamp>,
}

/// Which pods and images a grant is for; every part that is present must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Subjects {
    /// Names of ServiceAccounts; empty means any.
    pub service_accounts: Vec<String>,
    /// Patterns of image names, `*` for any run of characters; empty means any.
    pub images: Vec<String>,
    /// Labels of the pod.
    pub pod_selector: Option<LabelSelector>,
}

/// A label selector as Kubernetes writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    /// Labels that must be there with these values.
    pub match_labels: BTreeMap<String, String>,
    /// Requirements with `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelRequirement {
    /// Label key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values for `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// One capability with the widest parameters that are granted; an absent list means any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantedCapability {
    /// Which.
    pub name: Capability,
    /// Network capabilities: host patterns in Spin's grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// `fs`: absolute paths; each covers the tree below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// `fs`: `read-write` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Name patterns, `*` for any run of characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Listening capabilities: ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    /// `env` and `fs`: whether secrets are included; `false` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<bool>,
}
