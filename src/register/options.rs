//! Settings for what the gate writes to a cluster.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::serde::duration::friendly::compact::required as compact;
use serde::{Deserialize, Serialize};

use super::lease::Timing;
use crate::certs::Rotation;

/// Certificates that the gate makes, keeps in a Secret and rotates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Certificates {
    /// Whether the gate manages certificates. Default: no; the certificate comes from files.
    pub manage: bool,
    /// The Secret, in the namespace of the gate.
    pub secret_name: String,
    /// The Service that the API server calls; the certificate carries its names.
    pub service_name: String,
    /// Further names and addresses on the certificate.
    pub extra_names: Vec<String>,
    /// Lifetime of a serving certificate; renewed after two thirds.
    #[serde(serialize_with = "compact")]
    pub leaf_lifetime: SignedDuration,
    /// Lifetime of a CA; a new one is begun after two thirds.
    #[serde(serialize_with = "compact")]
    pub ca_lifetime: SignedDuration,
    /// How long a new CA is published before it is used, and an old CA after its last use.
    #[serde(serialize_with = "compact")]
    pub overlap: SignedDuration,
    /// How long the gate waits for a certificate when it starts.
    #[serde(serialize_with = "compact")]
    pub start_timeout: SignedDuration,
}

impl Default for Certificates {
    /// 90 days, two years, and a day of overlap.
    fn default() -> Self {
        Self {
            manage: false,
            secret_name: "wasmgate-certs".into(),
            service_name: "wasmgate".into(),
            extra_names: Vec::new(),
            leaf_lifetime: SignedDuration::from_hours(90 * 24),
            ca_lifetime: SignedDuration::from_hours(730 * 24),
            overlap: SignedDuration::from_hours(24),
            start_timeout: SignedDuration::from_secs(50),
        }
    }
}

/// The webhook configurations whose `caBundle` the gate writes; `null` for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Webhooks {
    /// Name of the `MutatingWebhookConfiguration`.
    pub mutating: Option<String>,
    /// Name of the `ValidatingWebhookConfiguration`.
    pub validating: Option<String>,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { mutating: Some("wasmgate".into()), validating: Some("wasmgate".into()) }
    }
}

/// The Lease of the replica that writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LeaseOptions {
    /// Its name, in the namespace of the gate.
    pub name: String,
    /// How long the Lease lasts without renewal before another replica may take it.
    #[serde(serialize_with = "compact")]
    pub duration: SignedDuration,
}

impl Default for LeaseOptions {
    /// 15 s, the default of client-go and of Kubernetes' controllers
    /// (`kubernetes:staging/src/k8s.io/component-base/config/v1alpha1/defaults.go`).
    fn default() -> Self {
        Self { name: "wasmgate".into(), duration: SignedDuration::from_secs(15) }
    }
}

/// How many Events may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EventLimits {
    /// Whether a warning is an Event too.
    pub warnings: bool,
    /// Least time between two writes about one object; what happens in between is counted.
    #[serde(serialize_with = "compact")]
    pub per_object: SignedDuration,
    /// Most writes in a minute, about all objects.
    pub per_minute: u32,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { warnings: false, per_object: SignedDuration::from_secs(30), per_minute: 60 }
    }
}

/// The checked settings for certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePlan {
    /// Namespace of the gate.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// Names and lifetimes.
    pub rotation: Rotation,
    /// Where the webhook configurations are, if any.
    pub webhooks: Webhooks,
    /// The Lease.
    pub lease_name: String,
    /// Durations of leader election.
    pub timing: Timing,
    /// How long a starting replica waits for a certificate.
    pub start_timeout: Duration,
    /// Directory below which the served files are written.
    pub folder: PathBuf,
}

impl CertificatePlan {
    /// Interval for checking everything, in addition to watches: an eighth of the overlap, and at most half a minute.
    pub fn look_every(&self) -> Duration {
        (self.rotation.overlap / 8).min(Duration::from_secs(30))
    }
}
