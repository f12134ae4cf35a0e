//! What a set of bundles says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PolicySet;
use super::set::LoadedBundle;
use crate::text;

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

    /// The options among these that no rule reads, each with a question after the nearest one that is read, if there is one. Empty where
    /// rules use the options in ways that name none: they may read any.
    pub fn unread_options<'a>(&self, written: impl Iterator<Item = &'a str>) -> Vec<(&'a str, String)> {
        let (judging, log): (Vec<_>, Vec<_>) =
            self.loaded.iter().partition(|loaded| loaded.entrypoint.is_some());
        let mut read = BTreeSet::new();
        for loaded in judging {
            let Some(options) = &loaded.program.options else { return Vec::new() };
            read.extend(options.iter().map(String::as_str));
        }
        // Rules for the log find the options in a record, by whatever way: a name that is in their module may be read.
        let in_log = |name: &str| {
            let mut modules = log.iter().map(|loaded| &loaded.program.bundle.module);
            modules.any(|module| module.windows(name.len().max(1)).any(|at| at == name.as_bytes()))
        };
        let unread = written.filter(|name| !read.contains(name) && !in_log(name));
        unread.map(|name| (name, text::did_you_mean(name, read.iter().copied()))).collect()
    }

    /// Whether rules of any bundle that judges, also in the shadow, may read this top-level key of the input, and what is at the key below it, if
    /// one is given. Found in the compiled rules, also where a manifest omits nothing; a module that is not as OPA writes it may read all.
    pub fn any_reads(&self, key: &str, below: Option<&str>) -> bool {
        self.judging().any(|loaded| loaded.may_read(key, below))
    }

    /// Whether rules of any bundle that judges may read a place at any depth, by its keys and `0` for any item of a list: the value there, a part of it, or what it is a part of.
    pub fn any_reads_at(&self, place: &[String]) -> bool {
        let [key, below, ..] = place else { return true };
        self.judging()
            .any(|loaded| loaded.may_read(key, Some(below.as_str())) && loaded.program.may_read(place))
    }

    /// Whether a bundle that decides may read the value at a place of the input, by its keys, or a part of it, or what it is a part of.
    pub fn may_read(&self, place: &[String]) -> bool {
        let [key, below @ ..] = place else { return true };
        let below = below.first().map(String::as_str);
        self.bundles(false).any(|loaded| loaded.gets(key, below) && loaded.program.may_read(place))
    }

    /// The names of all rules of all bundles; `None` if those of one bundle are not known.
    pub fn rules(&self) -> Option<&BTreeSet<String>> {
        self.rules.as_deref()
    }

    /// The names of all rules of the bundles that decide; `None` if those of one are not known.
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

impl LoadedBundle {
    /// Whether its rules may read what is at this key of the input, and at the one below it, if one is given.
    fn may_read(&self, key: &str, below: Option<&str>) -> bool {
        let unread = &self.program.unread;
        let is_unread_below = below.is_some_and(|below| unread.contains(&format!("{key}.{below}")));
        self.gets(key, below) && !unread.contains(key) && !is_unread_below
    }
}
