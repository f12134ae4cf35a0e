//! Metrics of the gate's writes to the cluster: certificates, caBundles and Events.

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{NoLabels, ResultLabels};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
}

/// The metrics of the writes.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Without a series where nothing is to be written, so that an alert on it does not fire there.
    leader: Family<NoLabels, Gauge>,
    ca_expiry: Family<NoLabels, Gauge>,
    certificate_steps: Family<StepLabels, Counter>,
    ca_bundles: Family<ResultLabels, Counter>,
    events: Family<ResultLabels, Counter>,
}

impl Writes {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "1 on the replica that writes certificates, caBundles and reports";
        to.register("wasmgate_leader", help, self.leader.clone());
        let help = "When the CA that signs serving certificates expires, in seconds since 1970";
        let name = "wasmgate_ca_expiry_timestamp";
        to.register_with_unit(name, help, Unit::Seconds, self.ca_expiry.clone());
        let help = "Certificate rotation steps of this replica";
        to.register("wasmgate_certificate_steps", help, self.certificate_steps.clone());
        let help = "Writes of the caBundle into a webhook configuration";
        to.register("wasmgate_ca_bundle_writes", help, self.ca_bundles.clone());
        let help = "Refused workloads, by what became of their Event";
        to.register("wasmgate_events", help, self.events.clone());
    }

    pub(super) fn set_leader(&self, leader: bool) {
        self.leader.get_or_create(&[]).set(leader.into());
    }

    pub(super) fn set_ca_expiry(&self, expiry: Option<Timestamp>) {
        match expiry {
            Some(expiry) => drop(self.ca_expiry.get_or_create(&[]).set(expiry.as_second())),
            None => self.ca_expiry.clear(),
        }
    }

    pub(super) fn certificate_step(&self, step: &'static str) {
        self.certificate_steps.get_or_create(&StepLabels { step }).inc();
    }

    pub(super) fn ca_bundle_write(&self, result: &'static str) {
        self.ca_bundles.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn event(&self, result: &'static str) {
        self.events.get_or_create(&ResultLabels { result }).inc();
    }
}
