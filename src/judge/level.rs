//! How hard a violation bites: Pod Security Admission's three levels, per namespace and per rule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::Action;

/// Namespace label that sets the level.
pub const ENFORCE_LABEL: &str = "wasmgate.dev/enforce";

/// Levels from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Levels {
    /// Where neither the namespace nor this configuration says otherwise.
    pub default: Action,
    /// Namespace → level; wins over the namespace's own label.
    pub namespaces: BTreeMap<String, Action>,
    /// Rule → the most that it may ask for.
    pub rules: BTreeMap<String, Action>,
    /// The least that every namespace gets: a label cannot go below it.
    pub floor: Action,
}

impl Default for Levels {
    fn default() -> Self {
        Self {
            default: Action::Deny,
            namespaces: BTreeMap::new(),
            rules: BTreeMap::new(),
            floor: Action::Audit,
        }
    }
}

impl Levels {
    /// The level of a namespace whose labels are `labels`. A label with an unknown value counts as the default.
    pub fn of_namespace(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Action {
        if let Some(level) = self.namespaces.get(namespace) {
            return *level;
        }
        let label = labels.and_then(|l| l.get(ENFORCE_LABEL)).and_then(|value| parse(value));
        label.map_or(self.default, |level| level.max(self.floor))
    }

    /// What a violation comes to: the lowest of what the rule asks, what the configuration allows the rule, and the
    /// namespace's level.
    pub fn action(&self, namespace_level: Action, rule: &str, asked: Option<Action>) -> Action {
        let asked = asked.unwrap_or(Action::Deny);
        let allowed = self.rules.get(rule).copied().unwrap_or(Action::Deny);
        asked.min(allowed).min(namespace_level)
    }
}

fn parse(value: &str) -> Option<Action> {
    match value {
        "deny" => Some(Action::Deny),
        "warn" => Some(Action::Warn),
        "audit" => Some(Action::Audit),
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
        assert_eq!(Levels::default().of_namespace("shop", None), Action::Deny);
    }

    #[test]
    fn a_label_lowers_the_level_and_an_unknown_value_does_not() {
        let levels = Levels::default();
        assert_eq!(levels.of_namespace("shop", Some(&labels("warn"))), Action::Warn);
        assert_eq!(levels.of_namespace("shop", Some(&labels("off"))), Action::Deny);
    }

    #[test]
    fn a_label_cannot_go_below_the_floor() {
        let levels = Levels { floor: Action::Warn, ..Levels::default() };
        assert_eq!(levels.of_namespace("shop", Some(&labels("audit"))), Action::Warn);
    }

    #[test]
    fn the_configuration_wins_over_the_label() {
        let levels =
            Levels { namespaces: BTreeMap::from([("shop".into(), Action::Deny)]), ..Levels::default() };
        assert_eq!(levels.of_namespace("shop", Some(&labels("audit"))), Action::Deny);
    }

    #[test]
    fn a_rule_never_asks_for_more_than_the_namespace_allows() {
        let levels =
            Levels { rules: BTreeMap::from([("under-floor".into(), Action::Warn)]), ..Levels::default() };
        assert_eq!(levels.action(Action::Deny, "needs-grant", None), Action::Deny);
        assert_eq!(levels.action(Action::Warn, "needs-grant", Some(Action::Deny)), Action::Warn);
        assert_eq!(levels.action(Action::Deny, "under-floor", None), Action::Warn);
        assert_eq!(levels.action(Action::Deny, "other", Some(Action::Audit)), Action::Audit);
    }
}
