//! What the policies' findings come to.

use serde::Serialize;

use super::Levels;
use crate::policy::{Action, Evaluation, Violation};

/// Rule name of the violation that stands for a bundle that could not be evaluated.
pub const POLICY_ERROR: &str = "policy-error";

/// A violation and what it comes to here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct JudgedViolation {
    /// What it comes to after levels and overrides.
    #[serde(rename = "enforced")]
    pub action: Action,
    /// The rule's own words.
    #[serde(flatten)]
    pub violation: Violation,
}

/// Everything the policies found, the gravest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Judged violations, denials first, then by rule and container.
    pub violations: Vec<JudgedViolation>,
}

impl Verdict {
    /// Whether anything denies.
    pub fn denied(&self) -> bool {
        self.at(Action::Deny).next().is_some()
    }

    /// The violations that came to exactly `action`.
    pub fn at(&self, action: Action) -> impl Iterator<Item = &JudgedViolation> {
        self.violations.iter().filter(move |v| v.action == action)
    }

    /// The gravest action; `None` when nothing was found.
    pub fn gravest(&self) -> Option<Action> {
        self.violations.iter().map(|v| v.action).max()
    }
}

/// Applies levels to what the policies said. A bundle that could not be evaluated denies at any level: nobody knows
/// what it would have said.
pub fn decide(evaluation: Evaluation, levels: &Levels, namespace_level: Action) -> Verdict {
    let failures = evaluation.failures.into_iter().map(|failure| JudgedViolation {
        action: Action::Deny,
        violation: Violation {
            rule: POLICY_ERROR.to_string(),
            message: failure.message,
            container: None,
            capability: None,
            action: None,
        },
    });
    let judged = evaluation.violations.into_iter().map(|violation| JudgedViolation {
        action: levels.action(namespace_level, &violation.rule, violation.action),
        violation,
    });
    let mut violations: Vec<_> = failures.chain(judged).collect();
    violations.sort_by(|a, b| b.action.cmp(&a.action).then_with(|| a.violation.cmp(&b.violation)));
    Verdict { violations }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Failure;

    fn violation(rule: &str, action: Option<Action>) -> Violation {
        Violation { rule: rule.into(), message: "m".into(), container: None, capability: None, action }
    }

    #[test]
    fn nothing_found_admits() {
        let verdict = decide(Evaluation::default(), &Levels::default(), Action::Deny);
        assert!(!verdict.denied());
        assert_eq!(verdict.gravest(), None);
    }

    #[test]
    fn denials_come_first() {
        let evaluation = Evaluation {
            violations: vec![violation("a", Some(Action::Warn)), violation("b", None)],
            failures: Vec::new(),
        };
        let verdict = decide(evaluation, &Levels::default(), Action::Deny);
        let rules: Vec<_> = verdict.violations.iter().map(|v| v.violation.rule.as_str()).collect();
        assert_eq!(rules, ["b", "a"]);
        assert!(verdict.denied());
    }

    #[test]
    fn a_bundle_that_fails_denies_even_where_the_namespace_only_warns() {
        let evaluation = Evaluation {
            violations: Vec::new(),
            failures: vec![Failure {
                bundle: "extra".into(),
                message: "policy bundle `extra` could not be evaluated: it ran out of time".into(),
            }],
        };
        let verdict = decide(evaluation, &Levels::default(), Action::Audit);
        assert!(verdict.denied());
        assert!(verdict.violations[0].violation.message.contains("`extra`"));
    }
}
