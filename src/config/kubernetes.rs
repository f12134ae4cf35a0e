//! The part of the configuration about the Kubernetes cluster that the gate belongs to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::Error;
use super::value::{duration, wrong};
use crate::certs::Rotation;
use crate::register::lease::Timing;
use crate::register::{CertificatePlan, Certificates, EventLimits, LeaseOptions, Webhooks};

/// The cluster that the gate belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Whether `serve` watches the cluster: RuntimeClasses, LimitRanges, namespaces, service accounts, grants and
    /// exceptions, and reads pull secrets. Default: no; the gate knows only the directories.
    pub watch: bool,
    /// Kubeconfig whose current context is the cluster. Default: the service account of the pod that the gate runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Certificates that the gate makes, keeps in a Secret and rotates.
    pub certificates: Certificates,
    /// The webhook configurations into which the CA's certificate is written.
    pub webhooks: Webhooks,
    /// The Lease of the one replica that writes certificates.
    pub lease: LeaseOptions,
    /// Whether a refused workload gets an Event. Default: no.
    pub events: bool,
    /// How many Events may be written.
    pub event_limits: EventLimits,
}

impl Kubernetes {
    /// Checks the values. Names that depend on the gate's namespace are checked by [`Kubernetes::plan`].
    pub fn check(&self) -> Result<(), Error> {
        self.plan("default", Path::new("certs"))?;
        let limits = &self.event_limits;
        duration("kubernetes.eventLimits.perObject", limits.per_object)?;
        if limits.per_minute == 0 {
            let message = "at least one; `kubernetes.events: false` writes none";
            return Err(wrong("kubernetes.eventLimits.perMinute", &"0", message));
        }
        Ok(())
    }

    /// The checked settings for certificates, for a gate in this namespace that writes its files to this folder.
    pub fn plan(&self, namespace: &str, folder: &Path) -> Result<CertificatePlan, Error> {
        let written = &self.certificates;
        let at_least = |field: &str, value, least: Duration, message: &str| {
            let field = format!("kubernetes.{field}");
            let value = duration(&field, value)?;
            if value < least { Err(wrong(&field, &format!("{value:?}"), message)) } else { Ok(value) }
        };
        let second = Duration::from_secs(1);
        let overlap =
            at_least("certificates.overlap", written.overlap, second * 2, "two seconds are the least")?;
        let message = "at least three times `kubernetes.certificates.overlap`, or it expires within it";
        let leaf = at_least("certificates.leafLifetime", written.leaf_lifetime, overlap * 3, message)?;
        let message = "at least twice `kubernetes.certificates.leafLifetime`";
        let ca = at_least("certificates.caLifetime", written.ca_lifetime, leaf * 2, message)?;
        let term = at_least("lease.duration", self.lease.duration, second, "one second is the least")?;
        let start_timeout =
            at_least("certificates.startTimeout", written.start_timeout, second, "one second is the least")?;
        Ok(CertificatePlan {
            namespace: namespace.to_owned(),
            secret: written.secret_name.clone(),
            rotation: Rotation { names: self.names(namespace)?, leaf, ca, overlap },
            webhooks: self.webhooks.clone(),
            lease_name: self.lease.name.clone(),
            timing: Timing { term },
            start_timeout,
            folder: folder.to_owned(),
        })
    }

    /// Names on the serving certificate. The API server connects to `<service>.<namespace>.svc`
    /// (`kubernetes:staging/src/k8s.io/apiserver/pkg/util/webhook/client.go`).
    fn names(&self, namespace: &str) -> Result<Vec<String>, Error> {
        let written = &self.certificates;
        let service = &written.service_name;
        let mut names =
            vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")];
        for name in &written.extra_names {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let bad = names.iter().find(|name| ServerName::try_from(name.as_str()).is_err());
        bad.map_or(Ok(()), |name| {
            let field = "kubernetes.certificates";
            Err(wrong(field, name, "a certificate is for DNS names and IP addresses"))
        })?;
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{File, Overrides, parse, resolve};

    fn read(body: &str) -> Result<Kubernetes, Error> {
        let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
        resolve(parse("gate.yaml", &format!("{head}kubernetes: {body}\n"))?, Overrides::default())
            .map(|settings| settings.file.kubernetes)
    }

    #[test]
    fn nothing_is_written_to_a_cluster_unless_it_is_asked_for() {
        let kubernetes = File::default().kubernetes;
        assert!(!kubernetes.certificates.manage && !kubernetes.events);
    }

    #[test]
    fn the_certificate_is_for_the_service_and_whatever_else_was_named() {
        let kubernetes =
            read("{certificates: {manage: true, serviceName: gate, extraNames: [127.0.0.1, gate.example]}}")
                .unwrap();
        let plan = kubernetes.plan("gates", Path::new("certs")).unwrap();
        let expected = ["gate.gates.svc", "gate.gates.svc.cluster.local", "127.0.0.1", "gate.example"];
        assert_eq!(plan.rotation.names, expected);
        assert_eq!(plan.rotation.leaf, Duration::from_hours(90 * 24));
        assert_eq!(plan.webhooks.mutating.as_deref(), Some("wasmgate"));
        assert_eq!(read("{webhooks: {mutating: null}}").unwrap().webhooks.mutating, None);
    }

    #[test]
    fn lifetimes_that_cannot_be_kept_are_refused_with_their_place() {
        for (body, field) in [
            ("{certificates: {overlap: 1s}}", "certificates.overlap"),
            ("{certificates: {leafLifetime: 71h}}", "certificates.leafLifetime"),
            ("{certificates: {caLifetime: 2160h}}", "certificates.caLifetime"),
            ("{certificates: {startTimeout: 0s}}", "certificates.startTimeout"),
            ("{certificates: {extraNames: ['not a name']}}", "kubernetes.certificates"),
            ("{lease: {duration: -5s}}", "lease.duration"),
            ("{eventLimits: {perMinute: 0}}", "eventLimits.perMinute"),
        ] {
            let error = read(body).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_certificate_from_files_is_not_managed() {
        let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
        let body = "server: {certFile: a, keyFile: b}\nkubernetes: {certificates: {manage: true}}\n";
        let error = resolve(parse("gate.yaml", &format!("{head}{body}")).unwrap(), Overrides::default());
        assert!(error.unwrap_err().to_string().contains("kubernetes.certificates.manage"));
    }
}
