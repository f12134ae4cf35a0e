//! Which objects and findings a scan is about. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::ExplainOutcome;
use super::model::{JudgedSpec, is_plain};
use crate::capability::Capability;
use crate::grant::matches_image;
use crate::judge::JudgedViolation;
use crate::policy::EnforcementAction;

/// What is asked for. An empty filter lets everything pass; all must let an object pass.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Namespaces.
    pub namespaces: BTreeSet<String>,
    /// Names of rules.
    pub rules: BTreeSet<String>,
    /// Capabilities.
    pub capabilities: BTreeSet<Capability>,
    /// Names of images, with patterns as in grants.
    pub images: Vec<String>,
    /// Whether what the gate leaves alone is left out.
    pub without_plain: bool,
    /// Whether nothing but its outcome is kept of what the gate leaves alone, where it is only counted.
    pub counts_plain: bool,
}

impl Filter {
    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.rules.is_empty()
            && self.capabilities.is_empty()
            && self.images.is_empty()
    }

    /// Whether objects of this namespace are scanned.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    /// Whether the object names an image that is asked for. Before it is judged, so that no other image is looked up.
    pub fn has_image(&self, object: &Value) -> bool {
        self.images.is_empty() || names_image(object, &|image| self.is_wanted(image))
    }

    fn is_wanted(&self, image: &str) -> bool {
        self.images.iter().any(|pattern| matches_image(pattern, image))
    }

    /// The verdict with only the findings that are asked for, and `None` if nothing of it is. What was not judged stays,
    /// since it may be what is looked for.
    pub fn narrowed(&self, mut spec: JudgedSpec) -> Option<JudgedSpec> {
        if is_plain(spec.outcome) {
            if self.without_plain {
                return None;
            }
            if self.counts_plain {
                (spec.reason, spec.containers, spec.warnings) = (None, Vec::new(), Vec::new());
            }
        }
        if self.rules.is_empty() && self.capabilities.is_empty() {
            return Some(spec);
        }
        if super::model::is_open(spec.outcome) {
            return Some(spec);
        }
        let entries = spec.containers.iter().flat_map(|program| &program.effective);
        let can = self.capabilities.is_empty()
            || entries.into_iter().any(|entry| self.capabilities.contains(&entry.capability));
        spec.violations.retain(|violation| self.is_about(violation));
        let broken = !spec.violations.is_empty();
        if !(broken || (can && self.rules.is_empty())) {
            return None;
        }
        spec.outcome = match spec.violations.iter().map(|violation| violation.action).max() {
            Some(EnforcementAction::Deny) => ExplainOutcome::Denied,
            Some(EnforcementAction::Warn) => ExplainOutcome::Warned,
            Some(EnforcementAction::Audit) | None => ExplainOutcome::Admitted,
        };
        Some(spec)
    }

    fn is_about(&self, violation: &JudgedViolation) -> bool {
        let rule = self.rules.is_empty() || self.rules.contains(&violation.violation.rule);
        let named = violation.violation.capability.as_deref();
        let about = |capability: &Capability| named == Some(capability.as_str());
        rule && (self.capabilities.is_empty() || self.capabilities.iter().any(about))
    }
}

/// Whether a field that names an image, at any depth, has one that is wanted. JSON from a parser has a bounded depth.
fn names_image(value: &Value, wanted: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| match (key.as_str(), value) {
            ("image" | "reference", Value::String(image)) => wanted(image),
            (_, value) => names_image(value, wanted),
        }),
        Value::Array(items) => items.iter().any(|item| names_image(item, wanted)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::Violation;

    fn violation(rule: &str, capability: Option<&str>, action: EnforcementAction) -> JudgedViolation {
        JudgedViolation {
            action,
            exempted: None,
            shadow: None,
            violation: Violation {
                rule: rule.into(),
                message: "m".into(),
                capability: capability.map(String::from),
                ..Violation::default()
            },
        }
    }

    fn spec(outcome: ExplainOutcome, violations: Vec<JudgedViolation>) -> JudgedSpec {
        JudgedSpec {
            outcome,
            reason: None,
            containers: Vec::new(),
            violations,
            suggested_grant: None,
            warnings: Vec::new(),
            left: 0,
        }
    }

    #[test]
    fn with_a_rule_only_its_findings_count() {
        let filter = Filter { rules: ["tag-not-pinned".to_owned()].into(), ..Filter::default() };
        let both = vec![
            violation("needs-grant", Some("fs"), EnforcementAction::Deny),
            violation("tag-not-pinned", None, EnforcementAction::Warn),
        ];
        let narrowed = filter.narrowed(spec(ExplainOutcome::Denied, both.clone())).unwrap();
        assert_eq!((narrowed.outcome, narrowed.violations), (ExplainOutcome::Warned, both[1..].to_vec()));
        let other = spec(ExplainOutcome::Denied, both[..1].to_vec());
        assert!(filter.narrowed(other).is_none());
        assert!(filter.narrowed(spec(ExplainOutcome::Unread, Vec::new())).is_some(), "it may break the rule");
    }

    #[test]
    fn of_what_is_only_counted_the_outcome_is_kept() {
        let filter = Filter { counts_plain: true, ..Filter::default() };
        let plain = |outcome| JudgedSpec { warnings: vec!["w".into()], ..spec(outcome, Vec::new()) };
        let kept = filter.narrowed(plain(ExplainOutcome::NotWasm)).unwrap();
        assert_eq!((kept.outcome, kept.warnings.len()), (ExplainOutcome::NotWasm, 0));
        assert_eq!(filter.narrowed(plain(ExplainOutcome::Unread)).unwrap().warnings.len(), 1);
        assert!(filter.is_empty(), "the grants of a scan are counted");
    }

    #[test]
    fn with_a_capability_only_what_may_use_it_is_listed() {
        let filter = Filter { capabilities: [Capability::Fs].into(), ..Filter::default() };
        assert!(filter.narrowed(spec(ExplainOutcome::Admitted, Vec::new())).is_none());
        let broken = vec![violation("needs-grant", Some("fs"), EnforcementAction::Deny)];
        assert!(filter.narrowed(spec(ExplainOutcome::Denied, broken)).is_some());
    }

    #[test]
    fn an_image_is_found_at_any_depth_by_repository_or_pattern() {
        let object = json!({"spec": {"template": {"spec": {"containers": [{"image": "ghcr.io/a/b:1"}]}}}});
        for (pattern, found) in [("ghcr.io/a/*", true), ("ghcr.io/a/b", true), ("ghcr.io/c/*", false)] {
            let filter = Filter { images: vec![pattern.into()], ..Filter::default() };
            assert_eq!(filter.has_image(&object), found, "{pattern}");
        }
    }
}
