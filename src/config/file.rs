//! The configuration file, field by field. Every field has a default, so an empty document is the embedded default.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use jiff::fmt::serde::duration::friendly::compact::required as compact;
use serde::{Deserialize, Serialize};

use super::{Kubernetes, PageSettings};
use crate::audit;
use crate::image::ImageKind;
use crate::judge::{EnforcementSettings, PolicyOptions};
use crate::learn::LearnOptions;
use crate::lookup;
use crate::otlp::TracingOptions;
use crate::reports::ReportOptions;
use crate::runtime::{Profile, Runtimes};
use crate::sources::{BundleSource, KeyOptions};
use crate::workload::Description;

/// `apiVersion` of the file.
pub const API_VERSION: &str = "wasmgate.dev/v1alpha1";
/// `kind` of the file.
pub const KIND: &str = "GateConfiguration";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// [`API_VERSION`].
    pub api_version: String,
    /// [`KIND`].
    pub kind: String,
    /// Listeners, certificates, time limits.
    #[serde(default)]
    pub server: ServerSettings,
    /// Registries, image layouts, caches and limits.
    #[serde(default)]
    pub images: lookup::LookupOptions,
    /// Runtimes and placement; the built-in table when absent.
    #[serde(default)]
    pub runtimes: RuntimeTable,
    /// Bundles and their limits.
    #[serde(default)]
    pub policies: Policies,
    /// Directory of WasiGrant and ClusterWasiGrant manifests.
    #[serde(default)]
    pub grants: Option<PathBuf>,
    /// Directory of RuntimeClass, LimitRange and Namespace manifests that stand in for the cluster.
    #[serde(default)]
    pub cluster: Option<PathBuf>,
    /// Kinds of custom resources that create pods, in addition to the built-in ones.
    #[serde(default)]
    pub workloads: Vec<Description>,
    /// The Kubernetes cluster that the gate belongs to.
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// Enforcement actions of rules and namespaces.
    #[serde(default)]
    pub enforcement: EnforcementSettings,
    /// Further namespaces that the gate never touches; `kube-system` and its own are always among them.
    #[serde(default)]
    pub exempt_namespaces: BTreeSet<String>,
    /// Output and labels of decision records.
    #[serde(default)]
    pub decision_log: audit::DecisionLogOptions,
    /// Where spans of reviews are sent.
    #[serde(default)]
    pub tracing: Option<TracingOptions>,
    /// Reports about what runs.
    #[serde(default)]
    pub reports: ReportOptions,
    /// Sizes beyond those of the profiles.
    #[serde(default)]
    pub sizing: SizingSettings,
}

impl Default for File {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_string(),
            kind: KIND.to_string(),
            server: ServerSettings::default(),
            images: lookup::LookupOptions::default(),
            runtimes: RuntimeTable::default(),
            policies: Policies::default(),
            grants: None,
            cluster: None,
            workloads: Vec::new(),
            kubernetes: Kubernetes::default(),
            enforcement: EnforcementSettings::default(),
            exempt_namespaces: BTreeSet::new(),
            decision_log: audit::DecisionLogOptions::default(),
            tracing: None,
            reports: ReportOptions::default(),
            sizing: SizingSettings::default(),
        }
    }
}

/// Sizes beyond those of the profiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SizingSettings {
    /// Requests that follow from what images have used.
    pub learn: LearnOptions,
}

/// Listeners, certificates, time limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Address of the webhooks.
    pub listen: SocketAddr,
    /// Address of the probes and metrics.
    pub probes: SocketAddr,
    /// The page for people.
    pub page: PageSettings,
    /// Certificate chain; with [`ServerSettings::key_file`].
    pub cert_file: Option<PathBuf>,
    /// Private key.
    pub key_file: Option<PathBuf>,
    /// Directory of the development certificate, which is created when no files are given.
    pub cert_dir: PathBuf,
    /// Further names on the development certificate.
    pub cert_names: Vec<String>,
    /// CAs (PEM) of the client certificates that callers of the webhooks must show; without it any client may call.
    pub client_ca_file: Option<PathBuf>,
    /// Longest time for one review; the API server's own timeout wins when it is shorter.
    #[serde(serialize_with = "compact")]
    pub review_timeout: SignedDuration,
    /// Most reviews at a time.
    pub max_concurrent_reviews: usize,
    /// Time between "not ready" and the end of listening.
    #[serde(serialize_with = "compact")]
    pub shutdown_pause: SignedDuration,
    /// Longest time to finish running reviews at shutdown.
    #[serde(serialize_with = "compact")]
    pub drain_deadline: SignedDuration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            probes: SocketAddr::from(([0, 0, 0, 0], 8080)),
            page: PageSettings::default(),
            cert_file: None,
            key_file: None,
            cert_dir: PathBuf::from("certs"),
            cert_names: Vec::new(),
            client_ca_file: None,
            review_timeout: SignedDuration::from_millis(2_500),
            max_concurrent_reviews: 512,
            shutdown_pause: SignedDuration::from_secs(2),
            drain_deadline: SignedDuration::from_secs(20),
        }
    }
}

/// Runtimes and placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuntimeTable {
    /// The profiles; replaces the built-in ones.
    pub profiles: Vec<Profile>,
    /// Image kind → profile; replaces the built-in table.
    pub placement: BTreeMap<ImageKind, String>,
}

impl Default for RuntimeTable {
    fn default() -> Self {
        let Runtimes { profiles, placement } = Runtimes::default();
        Self { profiles, placement }
    }
}

/// Stands for no folder of compiled policies.
pub const OFF: &str = "off";

/// Bundles and their limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policies {
    /// Whether the embedded baseline is loaded.
    pub baseline: bool,
    /// Further bundles, and where they come from.
    pub bundles: Vec<BundleSource>,
    /// Keys that verify the signatures of bundles, by their ids.
    pub keys: BTreeMap<String, KeyOptions>,
    /// Whether bundles must be signed. Default: they must once there is a key. `false` takes unsigned bundles beside signed ones, and signed
    /// ones as they are where there is no key.
    pub require_signed: Option<bool>,
    /// Folder in which the last good bundles are kept, so that a start does not depend on servers and registries. Anyone who can write
    /// to it decides which rules there are. Default: none.
    pub store: Option<PathBuf>,
    /// Folder in which compiled policies are kept, so that a start does not compile them again; [`OFF`] or absent for none. Only
    /// for `serve`. Anyone who can write to it runs code in the gate, so it must belong to the gate's user alone.
    pub compiled_dir: Option<PathBuf>,
    /// Passed to the rules of all bundles as `input.options`. The baseline reads `strictAmbient`: `true` also refuses what a
    /// runtime hands over without a grant and the program cannot use; and `strictPlatform`: `true` also refuses images of which
    /// a shim takes Wasm layers, because a node may take another image with the same config for one.
    pub options: PolicyOptions,
    /// Most work for one evaluation of one bundle, in wasmtime's fuel; an instruction costs about one unit. It does
    /// not depend on how busy the machine is.
    pub fuel_limit: u64,
    /// Longest time for the evaluation of one bundle, from when it has its place among the others: the last limit, which only an
    /// overloaded machine reaches. For its place it waits as long as the review may.
    #[serde(serialize_with = "compact")]
    pub time_limit: SignedDuration,
    /// Most memory for one evaluation of one bundle, in bytes.
    pub memory_limit_bytes: usize,
    /// Most memory for what evaluations found, in bytes, so that the same input is not evaluated again; zero for none.
    pub verdict_cache_bytes: u64,
    /// Whether an error of a built-in function denies. Otherwise the call is undefined, as in OPA.
    pub strict_builtins: bool,
}

impl Policies {
    /// The folder in which compiled policies are kept, if they are.
    pub fn compiled_folder(&self) -> Option<&Path> {
        self.compiled_dir.as_deref().filter(|folder| *folder != Path::new(OFF))
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            baseline: true,
            bundles: Vec::new(),
            keys: BTreeMap::new(),
            require_signed: None,
            store: None,
            compiled_dir: None,
            options: PolicyOptions::new(),
            fuel_limit: 500_000_000,
            time_limit: SignedDuration::from_secs(2),
            memory_limit_bytes: 64 << 20,
            verdict_cache_bytes: 8 << 20,
            strict_builtins: false,
        }
    }
}
