//! Writes to a cluster: the gate's certificates into a Secret, the CA's certificate into both webhook
//! configurations, and Events about refused workloads. A Lease ensures that one replica at a time writes certificates,
//! configurations and what else one alone has to write; every replica follows the Secret and serves the certificate in it.

pub mod bundle;
pub mod events;
pub mod files;
pub mod leader;
pub mod lease;
pub mod options;
mod registration;
pub mod secret;
pub mod task;
pub mod writer;

pub use events::Sender;
pub use leader::{Election, Leadership};
pub use options::{CertificatePlan, Certificates, EventLimits, LeaseOptions, Webhooks};
pub use registration::Registration;

use std::collections::BTreeMap;

use crate::certs;
use crate::text;

/// Field manager of the gate in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "wasmgate-certificates";

/// Characters of an error that are shown: an API server may answer with a page.
const SHOWN_CHARS: usize = 400;

/// Why the gate cannot register itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No certificate came in time.
    #[error(
        "could not get a certificate from Secret `{namespace}/{secret}` within {seconds} s: {problem}; one replica makes it, \
         so look at its log too, or raise `kubernetes.certificates.startTimeout`"
    )]
    AwaitCertificate {
        /// Namespace of the Secret.
        namespace: String,
        /// The Secret.
        secret: String,
        /// How long the gate waited.
        seconds: u64,
        /// The last problem.
        problem: String,
    },
    /// Certificates cannot be made, or not be written to the server's directory.
    #[error(transparent)]
    MakeCertificates(#[from] certs::Error),
}

/// A right that the API server may refuse.
#[derive(Debug, Clone, Copy)]
pub struct Right<'a> {
    /// The verbs, in words.
    pub verbs: &'static str,
    /// The resource in the plural.
    pub resource: &'static str,
    /// Name of the object.
    pub name: &'a str,
    /// Whether a `ClusterRole` grants it.
    pub cluster: bool,
}

/// Status codes of failed requests.
pub(crate) trait Refused {
    /// 403.
    fn is_forbidden(&self) -> bool;
    /// 409: another client changed or created the object in between.
    fn is_conflict(&self) -> bool;
}

impl Refused for kube::Error {
    fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(status) if status.code == 403)
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(status) if status.code == 409)
    }
}

impl Right<'_> {
    /// What went wrong and, if a right is missing, which Role grants it.
    pub fn explain(&self, error: &kube::Error) -> String {
        if !error.is_forbidden() {
            return match error {
                kube::Error::Api(status) => {
                    format!("{} (HTTP {})", text::excerpt(&status.message, SHOWN_CHARS), status.code)
                }
                other => chain(other),
            };
        }
        let Self { verbs, resource, name, cluster } = self;
        let role = if *cluster { "ClusterRole `wasmgate-webhooks`" } else { "Role `wasmgate-certificates`" };
        format!(
            "forbidden; bind {role} of the manifests to this service account: it allows {verbs} on {resource} `{name}`"
        )
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    text::excerpt(&text::chain(error), SHOWN_CHARS)
}

/// Labels of the objects that the gate creates.
fn labels() -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "wasmgate"), ("app.kubernetes.io/managed-by", "wasmgate")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
