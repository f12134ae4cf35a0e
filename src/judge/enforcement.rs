//! Enforcement actions per namespace and per rule.
//!
//! The action of a violation is the lowest of three: what the rule asks for; the most that the configuration lets the rule
//! ask for (`rules`); and the namespace's enforcement action. The last is that of the configuration (`namespaces`), else
//! of the namespace's label, else the default, and never below the floor.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::policy::EnforcementAction;

/// Namespace label that sets the enforcement action.
pub const ENFORCE_LABEL: &str = "wasmgate.dev/enforce";

/// Namespace label that sets which version of the baseline is enforced: `latest`, which is also the default, or a version
/// such as `v1alpha1`. A rule that was added to the baseline after that version is only recorded, so an update of the gate
/// does not refuse what ran before. Modelled on Pod Security Admission (`pod-security.kubernetes.io/enforce-version`).
pub const ENFORCE_VERSION_LABEL: &str = "wasmgate.dev/enforce-version";

/// A version of the baseline; later versions are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// The first one.
    V1Alpha1,
    /// The version of this gate.
    #[default]
    Latest,
}

impl Version {
    /// All of them, the strictest first: a later one has more rules.
    pub const ALL: [Self; 2] = [Self::Latest, Self::V1Alpha1];

    /// Name of the version in the label of a namespace.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1Alpha1 => "v1alpha1",
            Self::Latest => "latest",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == name)
    }
}

/// Rules that were added to the baseline after its first version, and the version that added them.
pub const JOINED: &[(&str, Version)] = &[("network-policy-assumed", Version::Latest)];

/// Enforcement actions from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EnforcementSettings {
    /// The action where neither the namespace nor this configuration says otherwise.
    pub default: EnforcementAction,
    /// Namespace → enforcement action; wins over the namespace's own label.
    pub namespaces: BTreeMap<String, EnforcementAction>,
    /// Rule → the most that it may ask for. The floor is about namespaces and does not raise it.
    pub rules: BTreeMap<String, EnforcementAction>,
    /// The lowest action of any namespace: neither a label nor `namespaces` can go below it.
    pub floor: EnforcementAction,
    /// Rules that no `WasiException` covers, in addition to those that can never be exempted.
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

/// Enforcement in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// The strictest action of a violation.
    pub action: EnforcementAction,
    /// The enforced version of the baseline.
    pub version: Version,
    /// Notes about labels with unknown values.
    pub notes: Vec<String>,
}

impl Enforcement {
    /// Enforcement with this action and the latest baseline.
    pub const fn at(action: EnforcementAction) -> Self {
        Self { action, version: Version::Latest, notes: Vec::new() }
    }
}

/// What the labels of a namespace say about enforcement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnforcementLabels {
    action: Option<EnforcementAction>,
    version: Option<Version>,
    notes: Vec<String>,
}

impl EnforcementLabels {
    /// Reads the labels. One with an unknown value counts as absent, and is noted.
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        let mut notes = Vec::new();
        let version =
            label(labels, ENFORCE_VERSION_LABEL, &mut notes, "v1alpha1 or latest", Version::of_name);
        let action =
            label(labels, ENFORCE_LABEL, &mut notes, "deny, warn or audit", EnforcementAction::of_name);
        Self { action, version, notes }
    }
}

impl EnforcementSettings {
    /// Enforcement in a namespace with these labels.
    pub fn of_namespace(&self, namespace: &str, labels: &EnforcementLabels) -> Enforcement {
        let action = self.namespaces.get(namespace).copied().or(labels.action).unwrap_or(self.default);
        Enforcement {
            action: action.max(self.floor),
            version: labels.version.unwrap_or_default(),
            notes: labels.notes.clone(),
        }
    }

    /// The action of a violation: the lowest of what the rule asks for, what the configuration allows the rule, and the
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

    /// Whether the configuration allows a `WasiException` for this rule.
    pub fn may_exempt(&self, rule: &str) -> bool {
        !self.never_exempt.contains(rule)
    }
}

/// The strictest action of a rule in a namespace that is pinned to a version of the baseline.
fn of_version(joined: &[(&str, Version)], pinned: Version, rule: &str) -> EnforcementAction {
    let since = joined.iter().find(|(name, _)| *name == rule).map_or(Version::V1Alpha1, |(_, since)| *since);
    if since <= pinned { EnforcementAction::Deny } else { EnforcementAction::Audit }
}

/// The parsed value of a label; `None` if absent. An unknown value is noted and counts as absent.
fn label<T>(
    labels: &BTreeMap<String, String>,
    name: &str,
    notes: &mut Vec<String>,
    known: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let value = labels.get(name)?;
    let parsed = parse(value);
    if parsed.is_none() {
        notes.push(format!("the namespace's label `{name}: {value}` is not {known} and counts as absent"));
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> EnforcementLabels {
        labelled(ENFORCE_LABEL, value)
    }

    fn labelled(name: &str, value: &str) -> EnforcementLabels {
        EnforcementLabels::of(&BTreeMap::from([(name.to_string(), value.to_string())]))
    }

    fn unlabelled() -> EnforcementLabels {
        EnforcementLabels::of(&BTreeMap::new())
    }

    #[test]
    fn a_namespace_without_a_label_denies() {
        assert_eq!(
            EnforcementSettings::default().of_namespace("shop", &unlabelled()),
            Enforcement::at(EnforcementAction::Deny)
        );
    }

    #[test]
    fn a_label_lowers_the_action_and_an_unknown_value_does_not() {
        let settings = EnforcementSettings::default();
        assert_eq!(settings.of_namespace("shop", &labels("warn")), Enforcement::at(EnforcementAction::Warn));
        let unknown = settings.of_namespace("shop", &labels("off"));
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
        assert_eq!(settings.of_namespace("shop", &labels("audit")).action, EnforcementAction::Warn);
    }

    #[test]
    fn the_configuration_cannot_go_below_the_floor_either() {
        let settings = EnforcementSettings {
            floor: EnforcementAction::Warn,
            default: EnforcementAction::Audit,
            namespaces: BTreeMap::from([("shop".into(), EnforcementAction::Audit)]),
            ..EnforcementSettings::default()
        };
        assert_eq!(settings.of_namespace("shop", &unlabelled()).action, EnforcementAction::Warn);
        assert_eq!(settings.of_namespace("other", &unlabelled()).action, EnforcementAction::Warn);
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
            let labels = labelled(ENFORCE_VERSION_LABEL, value);
            EnforcementSettings::default().of_namespace("shop", &labels)
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
        assert_eq!(settings.of_namespace("shop", &labels("audit")).action, EnforcementAction::Deny);
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
