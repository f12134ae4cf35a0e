//! How hard a violation bites: the enforcement action, per namespace and per rule.
//!
//! In this order: what the rule asks; what the configuration lets the rule ask (`rules`); the namespace's enforcement action, which is
//! that of the configuration (`namespaces`), else of the namespace's label, else the default, and never below the floor.
//! The lowest of the three counts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::policy::EnforcementAction;

/// Namespace label that sets the enforcement action.
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

/// Enforcement actions from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EnforcementSettings {
    /// Where neither the namespace nor this configuration says otherwise.
    pub default: EnforcementAction,
    /// Namespace → enforcement action; wins over the namespace's own label.
    pub namespaces: BTreeMap<String, EnforcementAction>,
    /// Rule → the most that it may ask for. The floor is about namespaces and does not raise it.
    pub rules: BTreeMap<String, EnforcementAction>,
    /// The least that every namespace gets: neither a label nor `namespaces` goes below it.
    pub floor: EnforcementAction,
    /// Rules that no `WasiException` covers, beside those that none ever does.
    pub never_exempt: BTreeSet<String>,
}

impl Default for EnforcementSettings {
    fn default() -> Self {
        Self {
            default: EnforcementAction::Deny,
            namespaces: BTreeMap::new(),
            rules: BTreeMap::new(),
            floor: EnforcementAction::Audit,
            never_exempt: BTreeSet::new(),
        }
    }
}

/// How hard violations bite in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// The most that a violation comes to.
    pub action: EnforcementAction,
    /// Which version of the baseline bites.
    pub version: Version,
    /// What the labels say that could not be taken as written.
    pub notes: Vec<String>,
}

impl Enforcement {
    /// This enforcement action, and the latest baseline.
    pub const fn at(action: EnforcementAction) -> Self {
        Self { action, version: Version::Latest, notes: Vec::new() }
    }
}

impl EnforcementSettings {
    /// How hard violations bite in a namespace whose labels are `labels`. A label with an unknown value counts as the default,
    /// and is noted.
    pub fn of_namespace(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Enforcement {
        let mut notes = Vec::new();
        let version = label(labels, ENFORCE_VERSION_LABEL, &mut notes, "v1alpha1 or latest", parse_version);
        let label = label(labels, ENFORCE_LABEL, &mut notes, "deny, warn or audit", parse);
        let action = self.namespaces.get(namespace).copied().or(label).unwrap_or(self.default);
        Enforcement { action: action.max(self.floor), version: version.unwrap_or_default(), notes }
    }

    /// What a violation comes to: the lowest of what the rule asks, what the configuration allows the rule, and the
    /// namespace's enforcement action.
    pub fn action(
        &self,
        enforcement: &Enforcement,
        rule: &str,
        asked: Option<EnforcementAction>,
    ) -> EnforcementAction {
        let asked = asked.unwrap_or(EnforcementAction::Deny);
        let allowed = self.rules.get(rule).copied().unwrap_or(EnforcementAction::Deny);
        asked.min(allowed).min(enforcement.action).min(of_version(JOINED, enforcement.version, rule))
    }

    /// Whether the platform lets a `WasiException` exempt from this rule.
    pub fn may_exempt(&self, rule: &str) -> bool {
        !self.never_exempt.contains(rule)
    }
}

/// The most that a rule comes to in a namespace that is pinned to a version of the baseline.
fn of_version(joined: &[(&str, Version)], pinned: Version, rule: &str) -> EnforcementAction {
    let since = joined.iter().find(|(name, _)| *name == rule).map_or(Version::V1Alpha1, |(_, since)| *since);
    if since <= pinned { EnforcementAction::Deny } else { EnforcementAction::Audit }
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

fn parse(value: &str) -> Option<EnforcementAction> {
    match value {
        "deny" => Some(EnforcementAction::Deny),
        "warn" => Some(EnforcementAction::Warn),
        "audit" => Some(EnforcementAction::Audit),
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
        assert_eq!(
            EnforcementSettings::default().of_namespace("shop", None),
            Enforcement::at(EnforcementAction::Deny)
        );
    }

    #[test]
    fn a_label_lowers_the_action_and_an_unknown_value_does_not() {
        let settings = EnforcementSettings::default();
        assert_eq!(
            settings.of_namespace("shop", Some(&labels("warn"))),
            Enforcement::at(EnforcementAction::Warn)
        );
        let unknown = settings.of_namespace("shop", Some(&labels("off")));
        assert_eq!(unknown.action, EnforcementAction::Deny);
        assert_eq!(
            unknown.notes,
            [
                "the namespace's label `wasmgate.dev/enforce: off` is not deny, warn or audit and counts as absent"
            ]
        );
    }

    #[test]
    fn a_label_cannot_go_below_the_floor() {
        let settings =
            EnforcementSettings { floor: EnforcementAction::Warn, ..EnforcementSettings::default() };
        assert_eq!(settings.of_namespace("shop", Some(&labels("audit"))).action, EnforcementAction::Warn);
    }

    #[test]
    fn the_configuration_cannot_go_below_the_floor_either() {
        let settings = EnforcementSettings {
            floor: EnforcementAction::Warn,
            default: EnforcementAction::Audit,
            namespaces: BTreeMap::from([("shop".into(), EnforcementAction::Audit)]),
            ..EnforcementSettings::default()
        };
        assert_eq!(settings.of_namespace("shop", None).action, EnforcementAction::Warn);
        assert_eq!(settings.of_namespace("other", None).action, EnforcementAction::Warn);
    }

    #[test]
    fn a_namespace_that_is_pinned_to_a_version_only_records_rules_that_joined_later() {
        let joined = [("new", Version::Latest)];
        for (pinned, rule, expected) in [
            (Version::Latest, "new", EnforcementAction::Deny),
            (Version::V1Alpha1, "new", EnforcementAction::Audit),
            (Version::V1Alpha1, "old", EnforcementAction::Deny),
        ] {
            assert_eq!(of_version(&joined, pinned, rule), expected, "{pinned:?} {rule}");
        }
    }

    #[test]
    fn an_unknown_version_is_the_latest_and_is_noted() {
        let of = |value: &str| {
            let labels = BTreeMap::from([(ENFORCE_VERSION_LABEL.to_string(), value.to_string())]);
            EnforcementSettings::default().of_namespace("shop", Some(&labels))
        };
        assert_eq!(of("v1alpha1").version, Version::V1Alpha1);
        assert_eq!(of("latest"), Enforcement::at(EnforcementAction::Deny));
        let unknown = of("v9");
        assert_eq!((unknown.version, unknown.notes.len()), (Version::Latest, 1));
        assert!(unknown.notes[0].contains("`wasmgate.dev/enforce-version: v9`"));
    }

    #[test]
    fn the_configuration_wins_over_the_label() {
        let settings = EnforcementSettings {
            namespaces: BTreeMap::from([("shop".into(), EnforcementAction::Deny)]),
            ..EnforcementSettings::default()
        };
        assert_eq!(settings.of_namespace("shop", Some(&labels("audit"))).action, EnforcementAction::Deny);
    }

    #[test]
    fn a_rule_never_asks_for_more_than_the_namespace_allows() {
        let settings = EnforcementSettings {
            rules: BTreeMap::from([("under-floor".into(), EnforcementAction::Warn)]),
            ..EnforcementSettings::default()
        };
        let (deny, warn) =
            (Enforcement::at(EnforcementAction::Deny), Enforcement::at(EnforcementAction::Warn));
        assert_eq!(settings.action(&deny, "needs-grant", None), EnforcementAction::Deny);
        assert_eq!(
            settings.action(&warn, "needs-grant", Some(EnforcementAction::Deny)),
            EnforcementAction::Warn
        );
        assert_eq!(settings.action(&deny, "under-floor", None), EnforcementAction::Warn);
        assert_eq!(settings.action(&deny, "other", Some(EnforcementAction::Audit)), EnforcementAction::Audit);
    }
}
