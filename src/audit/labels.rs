//! What every record says of the process that writes it.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// The labels that the configuration cannot set.
pub const OWN_LABELS: [&str; 3] = ["app", "id", "version"];

/// Labels of the process that writes records; equal for all of its records, so they are shared, and written once.
#[derive(Debug, Clone)]
pub struct Labels {
    all: BTreeMap<String, String>,
    json: Box<RawValue>,
}

impl Labels {
    /// `id` is the name of the pod or host. `more` comes from the configuration (such as the name of the cluster) and
    /// cannot replace `app`, `version` or `id`.
    pub fn new(id: &str, more: &BTreeMap<String, String>) -> Self {
        let mut all = more.clone();
        all.insert("app".into(), "wasmgate".into());
        all.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        all.insert("id".into(), id.into());
        // A map of texts always has a text.
        let json = to_raw_value(&all).unwrap_or_default();
        Self { all, json }
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}
