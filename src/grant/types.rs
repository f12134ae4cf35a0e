//! The `wasmgate.dev/v1alpha1` `WasiGrant`, `ClusterWasiGrant` and `WasiException`. The values that reviews compare are
//! parsed when an object is loaded. Serialised again, an object is as its author wrote it.
//!
//! These need no grant: `stdio`, `clock`, `random`, `args` (unless they carry a secret), and what the image brings
//! itself or the platform gives every container ([`crate::capability::Entry::own`]). Serving HTTP and being started by
//! events count as network and need one: `- name: http.inbound`, `- name: trigger`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capability::{Access, Capability, WrittenHost};

/// The only API version so far.
pub const API_VERSION: &str = "wasmgate.dev/v1alpha1";

/// The two kinds of grants.
pub const KINDS: [&str; 2] = ["WasiGrant", "ClusterWasiGrant"];

/// A grant: the capabilities that its subjects may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WasiGrant {
    /// `wasmgate.dev/v1alpha1`.
    pub api_version: String,
    /// `WasiGrant` or `ClusterWasiGrant`.
    pub kind: String,
    /// Name and namespace; other metadata is kept but not read.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The grant itself.
    pub spec: GrantSpec,
}

impl WasiGrant {
    /// `metadata.name`; empty when it is missing, which [`super::Grants::new`] refuses.
    pub fn name(&self) -> &str {
        self.metadata.get("name").and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// `metadata.namespace`; a `ClusterWasiGrant` has none.
    pub fn namespace(&self) -> Option<&str> {
        self.metadata.get("namespace").and_then(serde_json::Value::as_str)
    }

    /// Whether it selects namespaces by label.
    pub fn is_cluster(&self) -> bool {
        self.kind == "ClusterWasiGrant"
    }

    /// Kind and name, such as `WasiGrant/orders-api`, as in `coveredBy`. The namespace is the pod's own. No label
    /// equals `default`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.kind, self.name())
    }

    /// Kind, namespace and name, such as `WasiGrant shop/orders-api`. No two objects have the same.
    pub fn identity(&self) -> String {
        match self.namespace() {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.name()),
            None => format!("{} {}", self.kind, self.name()),
        }
    }

    /// Whether it has expired and covers nothing. The time in `expiresAt` itself is too late.
    pub fn is_expired(&self, now: jiff::Timestamp) -> bool {
        self.spec.expires_at.is_some_and(|end| end <= now)
    }
}

/// What is granted, to which pods, and until when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantSpec {
    /// The pods; omitted means every pod of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Subjects>,
    /// The namespaces; `{}` for all. Required in a `ClusterWasiGrant`, refused in a `WasiGrant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// What is granted.
    pub capabilities: Vec<GrantedCapability>,
    /// RFC 3339 time after which the grant covers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<jiff::Timestamp>,
}

/// Which pods and images a grant is for; every part that is present must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Subjects {
    /// Names of `ServiceAccount`s; empty means any.
    pub service_accounts: Vec<String>,
    /// Patterns of image names, in which `*` matches any run of characters, `/` included; empty means any. A pattern is
    /// compared with the image as written, without its digest, without its tag, and without both. So
    /// `ghcr.io/myorg/orders` matches every tag and digest of that repository. The spellings of a Docker Hub image,
    /// such as `nginx` and `docker.io/library/nginx`, are equal. A tag in front of a digest is only the user's claim:
    /// where that matters, grant by digest or by repository.
    pub images: Vec<String>,
    /// Labels of the pod.
    pub pod_selector: Option<LabelSelector>,
}

/// A label selector as Kubernetes writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    /// Labels that must be present with these values.
    pub match_labels: BTreeMap<String, String>,
    /// Requirements with `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub match_expressions: Vec<LabelRequirement>,
}

/// The operator of a requirement, spelled as in Kubernetes
/// (`kubernetes:staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go` `LabelSelectorOperator`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The label is present with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Operator {
    /// All operators, as written.
    pub const NAMES: &'static [&'static str] = &["In", "NotIn", "Exists", "DoesNotExist"];

    /// The operator as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }
}

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelRequirement {
    /// Label key.
    pub key: String,
    /// What must be true of the label.
    pub operator: Operator,
    /// Values for `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// A path as the author of a grant wrote it, and whether it grants anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct GrantedPath {
    written: String,
    is_plain: bool,
}

impl GrantedPath {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it is absolute and has no `.` or `..` in it; any other grants nothing.
    pub const fn is_plain(&self) -> bool {
        self.is_plain
    }
}

impl From<String> for GrantedPath {
    fn from(written: String) -> Self {
        let is_plain =
            written.starts_with('/') && !written.split('/').any(|segment| matches!(segment, "." | ".."));
        Self { written, is_plain }
    }
}

impl From<GrantedPath> for String {
    fn from(path: GrantedPath) -> Self {
        path.written
    }
}

/// One capability with the widest parameters that are granted. An absent list means any, and an empty one is refused.
/// [`Capability::parameters`] says which parameters a capability takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantedCapability {
    /// The capability.
    pub name: Capability,
    /// Network capabilities: host patterns in Spin's grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<WrittenHost>>,
    /// `fs`: absolute paths; each covers the tree below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<GrantedPath>>,
    /// `fs`: `read-write` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Name patterns, in which `*` matches any run of characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Listening capabilities: ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    /// `env`, `fs`, `args` and `config`: whether secrets are included; `false` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<bool>,
}

/// The kind of exceptions.
pub const EXCEPTION_KIND: &str = "WasiException";

/// Rules that allow no exception, because they say that the pod was not judged: a bundle that could not be evaluated,
/// and rules that read another version of the input.
pub const NEVER_EXEMPT: &[&str] = &["policy-error", "unknown-input"];

/// An exception from rules. Namespaced: for the whole cluster, use the enforcement actions per rule of the
/// configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WasiException {
    /// `wasmgate.dev/v1alpha1`.
    pub api_version: String,
    /// [`EXCEPTION_KIND`].
    pub kind: String,
    /// Name and namespace; other metadata is kept but not read.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The exception itself.
    pub spec: ExceptionSpec,
}

/// Which rules may be broken, by which pods, and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExceptionSpec {
    /// Names of rules as messages show them. No patterns, and none of [`NEVER_EXEMPT`].
    pub rules: Vec<String>,
    /// The pods; omitted means every pod of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Subjects>,
    /// Names of containers; empty means any. If there are names, findings about the pod as a whole are not excepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// Capabilities of the findings; empty means any, and findings about none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// Why. It is written into the record of every decision that used the exception.
    pub reason: String,
    /// RFC 3339 time from which nothing is excepted any more.
    pub expires_at: jiff::Timestamp,
}

impl WasiException {
    /// `metadata.name`; empty when it is missing, which [`super::Exceptions::new`] refuses.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// `metadata.namespace`; as [`Self::name`].
    pub fn namespace(&self) -> &str {
        self.text("namespace")
    }

    fn text(&self, key: &str) -> &str {
        self.metadata.get(key).and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// Kind, namespace and name; as [`WasiGrant::identity`].
    pub fn identity(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace(), self.name())
    }

    /// Whether it has expired and excepts nothing. The time in `expiresAt` itself is too late.
    pub fn is_expired(&self, now: jiff::Timestamp) -> bool {
        self.spec.expires_at <= now
    }
}
