//! What every record says of the process that writes it.

use std::collections::BTreeMap;

use serde::Serialize;

/// The labels that the configuration cannot set.
pub const OWN_LABELS: [&str; 3] = ["app", "id", "version"];

/// Labels of the process that writes records; equal for all of its records, so they are shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// `id` is the name of the pod or host. `more` comes from the configuration (such as the name of the cluster) and
    /// cannot replace `app`, `version` or `id`.
    pub fn new(id: &str, more: &BTreeMap<String, String>) -> Self {
        let mut labels = more.clone();
        labels.insert("app".into(), "wasmgate".into());
        labels.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        labels.insert("id".into(), id.into());
        Self(labels)
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
