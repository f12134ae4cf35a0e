//! Metrics of serving: readiness, bundles, the certificate, and events of the server.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::NoLabels;
use super::reviews::shown;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabels {
    name: String,
    revision: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

/// The metrics of serving.
#[derive(Debug, Default)]
pub(super) struct Serving {
    ready: Gauge,
    bundles: Family<RevisionLabels, Gauge>,
    certificate_expiry: Family<NoLabels, Gauge>,
    server_events: Family<EventLabels, Counter>,
}

impl Serving {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("wasmgate_ready", "Whether the gate takes reviews", self.ready.clone());
        let help = "Policy bundles in use; always 1";
        to.register("wasmgate_policy_bundle_info", help, self.bundles.clone());
        let help = "When the serving certificate expires, in seconds since 1970";
        let name = "wasmgate_certificate_expiry_timestamp";
        to.register_with_unit(name, help, Unit::Seconds, self.certificate_expiry.clone());
        let help =
            "Server events other than decisions: refused connections and requests, replaced certificates";
        to.register("wasmgate_server_events", help, self.server_events.clone());
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    pub(super) fn set_bundles(&self, revisions: &BTreeMap<String, String>) {
        self.bundles.clear();
        for (name, revision) in revisions {
            let labels = RevisionLabels { name: shown(name), revision: shown(revision) };
            self.bundles.get_or_create(&labels).set(1);
        }
    }

    pub(super) fn set_certificate_expiry(&self, expiry: Timestamp) {
        self.certificate_expiry.get_or_create(&[]).set(expiry.as_second());
    }

    pub(super) fn event(&self, event: &'static str) {
        self.server_events.get_or_create(&EventLabels { event }).inc();
    }
}
