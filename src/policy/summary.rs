//! What a set of bundles says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PolicySet;
use super::set::LoadedBundle;

impl PolicySet {
    /// Name → revision of each bundle.
    pub const fn revisions(&self) -> &Arc<BTreeMap<String, String>> {
        &self.revisions
    }

    /// Whether a bundle has rules for the log, and is not in the shadow.
    pub const fn has_log_rules(&self) -> bool {
        self.has_log_rules
    }

    /// Name → SHA-256 of the files of each bundle.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let of = |loaded: &Arc<LoadedBundle>| {
            let bundle = &loaded.program.bundle;
            (bundle.name.clone(), bundle.digest.to_string())
        };
        self.loaded.iter().map(of).collect()
    }

    /// The name of each bundle that is not as its author may think, and a sentence about it.
    pub fn warnings(&self) -> impl Iterator<Item = (&str, &str)> {
        let bundles = self.loaded.iter().map(|loaded| &loaded.program.bundle);
        bundles.flat_map(|bundle| bundle.warnings.iter().map(|said| (bundle.name.as_str(), said.as_str())))
    }

    /// The names of all rules of all bundles; `None` if those of one bundle are not known.
    pub fn rules(&self) -> Option<&BTreeSet<String>> {
        self.rules.as_deref()
    }

    /// The same of the bundles that decide.
    pub fn rules_in_force(&self) -> Option<&BTreeSet<String>> {
        self.rules_in_force.as_deref()
    }

    /// Whether there is a bundle of this name.
    pub fn has_bundle(&self, name: &str) -> bool {
        self.loaded.iter().any(|loaded| loaded.program.bundle.name == name)
    }

    /// Why bundles cannot judge ordinary pods.
    pub fn unfit(&self) -> impl Iterator<Item = &str> {
        self.loaded.iter().flat_map(|loaded| &loaded.unfit).map(String::as_str)
    }
}
