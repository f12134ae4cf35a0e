//! How hard a violation bites: Pod Security Admission's three levels, per namespace and per rule.
//!
//! In this order: what the rule asks; what the configuration lets the rule ask (`rules`); the namespace's level, which is
//! that of the configuration (`namespaces`), else of the namespace's label, else the default, and never below the floor.
//! The lowest of the three counts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::policy::Action;

/// Namespace label that sets the level.
pub const ENFORCE_LABEL: &str = "wasmgate.dev/enforce";

/// Namespace label that sets which version of the baseline bites: `latest`, which is also the default, or a version such as
/// `v1alpha1`. A rule that joined the baseline after that version is only recorded there, so an update of the gate does not
/// refuse what ran before. Its idea and spelling are Pod Security Admission's (`pod-security.kubernetes.io/enforce-version`).
pub const ENFORCE_VERSION_LABEL: &str = "wasmgate.dev/enforce-version";

/// A version of the baseline, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// The first one.
    V1Alpha1,
    /// Whatever this gate brings.
    #[default]
    Latest,
}

/// Rules that joined the baseline after its first version, and with which. None so far.
const JOINED: &[(&str, Version)] = &[];

/// Levels from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Levels {
    /// Where neither the namespace nor this configuration says otherwise.
    pub default: Action,
    /// Namespace → level; wins over the namespace's own label.
    pub namespaces: BTreeMap<String, Action>,
    /// Rule → the most that it may ask for. The floor is about namespaces and does not raise it.
    pub rules: BTreeMap<String, Action>,
    /// The least that every namespace gets: neither a label nor `namespaces` goes below it.
    pub floor: Action,
    /// Rules that no `WasiException` spares, beside those that none ever does.
    pub never_exempt: BTreeSet<String>,
}

impl Default for Levels {
    fn default() -> Self {
        Self {
            default: Action::Deny,
            namespaces: BTreeMap::new(),
            rules: BTreeMap::new(),
            floor: Action::Audit,
            never_exempt: BTreeSet::new(),
        }
    }
}

/// How hard violations bite in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// The most that a violation comes to.
    pub level: Action,
    /// Which version of the baseline bites.
    pub version: Version,
    /// What the labels say that could not be taken as written.
    pub notes: Vec<String>,
}

impl Enforcement {
    /// This level, and the latest baseline.
    pub const fn at(level: Action) -> Self {
        Self { level, version: Version::Latest, notes: Vec::new() }
    }
}

impl Levels {
    /// How hard violations bite in a namespace whose labels are `labels`. A label with an unknown value counts as the default,
    /// and is noted.
    pub fn of_namespace(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Enforcement {
        let mut notes = Vec::new();
        let version = label(labels, ENFORCE_VERSION_LABEL, &mut notes, "v1alpha1 or latest", parse_version);
        let label = label(labels, ENFORCE_LABEL, &mut notes, "deny, warn or audit", parse);
        let level = self.namespaces.get(namespace).copied().or(label).unwrap_or(self.default);
        Enforcement { level: level.max(self.floor), version: version.unwrap_or_default(), notes }
    }

    /// What a violation comes to: the lowest of what the rule asks, what the configuration allows the rule, and the
    /// namespace's level.
    pub fn action(&self, enforcement: &Enforcement, rule: &str, asked: Option<Action>) -> Action {
        let asked = asked.unwrap_or(Action::Deny);
        let allowed = self.rules.get(rule).copied().unwrap_or(Action::Deny);
        asked.min(allowed).min(enforcement.level).min(of_version(JOINED, enforcement.version, rule))
    }

    /// Whether the platform lets a `WasiException` spare this rule.
    pub fn may_exempt(&self, rule: &str) -> bool {
        !self.never_exempt.contains(rule)
    }
}

/// The most that a rule comes to in a namespace that is pinned to a version of the baseline.
fn of_version(joined: &[(&str, Version)], pinned: Version, rule: &str) -> Action {
    let since = joined.iter().find(|(name, _)| *name == rule).map_or(Version::V1Alpha1, |(_, since)| *since);
    if since <= pinned { Action::Deny } else { Action::Audit }
}

/// The value of a label, when it is there and means something.
fn label<T>(
    labels: Option<&BTreeMap<String, String>>,
    name: &str,
    notes: &mut Vec<String>,
    known: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let value = labels?.get(name)?;
    let parsed = parse(value);
    if parsed.is_none() {
        notes.push(format!("the namespace's label `{name}: {value}` is not {known} and counts as absent"));
    }
    parsed
}

fn parse(value: &str) -> Option<Action> {
    match value {
        "deny" => Some(Action::Deny),
        "warn" => Some(Action::Warn),
        "audit" => Some(Action::Audit),
        _ => None,
    }
}

fn parse_version(value: &str) -> Option<Version> {
    match value {
        "v1alpha1" => Some(Version::V1Alpha1),
        "latest" => Some(Version::Latest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(ENFORCE_LABEL.to_string(), value.to_string())])
    }

    #[test]
    fn a_namespace_without_a_label_denies() {
        assert_eq!(Levels::default().of_namespace("shop", None), Enforcement::at(Action::Deny));
    }

    #[test]
    fn a_label_lowers_the_level_and_an_unknown_value_does_not() {
        let levels = Levels::default();
        assert_eq!(levels.of_namespace("shop", Some(&labels("warn"))), Enforcement::at(Action::Warn));
        let unknown = levels.of_namespace("shop", Some(&labels("off")));
        assert_eq!(unknown.level, Action::Deny);
        assert_eq!(
            unknown.notes,
            [
                "the namespace's label `wasmgate.dev/enforce: off` is not deny, warn or audit and counts as absent"
            ]
        );
    }

    #[test]
    fn a_label_cannot_go_below_the_floor() {
        let levels = Levels { floor: Action::Warn, ..Levels::default() };
        assert_eq!(levels.of_namespace("shop", Some(&labels("audit"))).level, Action::Warn);
    }

    #[test]
    fn the_configuration_cannot_go_below_the_floor_either() {
        let levels = Levels {
            floor: Action::Warn,
            default: Action::Audit,
            namespaces: BTreeMap::from([("shop".into(), Action::Audit)]),
            ..Levels::default()
        };
        assert_eq!(levels.of_namespace("shop", None).level, Action::Warn);
        assert_eq!(levels.of_namespace("other", None).level, Action::Warn);
    }

    #[test]
    fn a_namespace_that_is_pinned_to_a_version_only_records_rules_that_joined_later() {
        let joined = [("new", Version::Latest)];
        for (pinned, rule, expected) in [
            (Version::Latest, "new", Action::Deny),
            (Version::V1Alpha1, "new", Action::Audit),
            (Version::V1Alpha1, "old", Action::Deny),
        ] {
            assert_eq!(of_version(&joined, pinned, rule), expected, "{pinned:?} {rule}");
        }
    }

    #[test]
    fn an_unknown_version_is_the_latest_and_is_noted() {
        let of = |value: &str| {
            let labels = BTreeMap::from([(ENFORCE_VERSION_LABEL.to_string(), value.to_string())]);
            Levels::default().of_namespace("shop", Some(&labels))
        };
        assert_eq!(of("v1alpha1").version, Version::V1Alpha1);
        assert_eq!(of("latest"), Enforcement::at(Action::Deny));
        let unknown = of("v9");
        assert_eq!((unknown.version, unknown.notes.len()), (Version::Latest, 1));
        assert!(unknown.notes[0].contains("`wasmgate.dev/enforce-version: v9`"));
    }

    #[test]
    fn the_configuration_wins_over_the_label() {
        let levels =
            Levels { namespaces: BTreeMap::from([("shop".into(), Action::Deny)]), ..Levels::default() };
        assert_eq!(levels.of_namespace("shop", Some(&labels("audit"))).level, Action::Deny);
    }

    #[test]
    fn a_rule_never_asks_for_more_than_the_namespace_allows() {
        let levels =
            Levels { rules: BTreeMap::from([("under-floor".into(), Action::Warn)]), ..Levels::default() };
        let (deny, warn) = (Enforcement::at(Action::Deny), Enforcement::at(Action::Warn));
        assert_eq!(levels.action(&deny, "needs-grant", None), Action::Deny);
        assert_eq!(levels.action(&warn, "needs-grant", Some(Action::Deny)), Action::Warn);
        assert_eq!(levels.action(&deny, "under-floor", None), Action::Warn);
        assert_eq!(levels.action(&deny, "other", Some(Action::Audit)), Action::Audit);
    }
}
