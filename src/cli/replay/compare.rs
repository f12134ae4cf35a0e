//! What is otherwise in a decision that was judged again.

use jiff::Timestamp;
use serde::Serialize;

use crate::admission::replay::{RecordedDecision, RecordedFinding, Replayed};
use crate::policy::EnforcementAction;

/// A decision beside what it would be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    /// Id of the record.
    pub decision_id: String,
    /// When it was made.
    pub timestamp: Timestamp,
    /// Kind of the object.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name; empty where the API server had not chosen one.
    pub name: String,
    /// `allow`, `warn` or `deny`, by the violations in the record.
    pub was: &'static str,
    /// The same by those of now.
    pub would_be: &'static str,
    /// Violations that the record does not have.
    pub added: Vec<ComparedViolation>,
    /// Violations that are not found any more.
    pub gone: Vec<ComparedViolation>,
    /// Violations that only say something else.
    pub reworded: Vec<ComparedViolation>,
    /// Whether the record does not decide the verdict.
    pub undecidable: bool,
    /// Sentences about exceptions of which the record does not say whether they cover a violation.
    pub open_exceptions: Vec<String>,
    /// Sentences about what rules ask for and the record does not hold: a random value, the time to the second.
    pub not_recorded: Vec<String>,
    /// Pointers into the rules' input to masked values that a bundle may read, or that decide what becomes of a violation.
    pub masked: Vec<String>,
}

/// A violation of one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComparedViolation {
    /// Name of the rule.
    pub rule: String,
    /// The bundle that has it; a record of an older gate may not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Container that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Capability that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// What is done about it.
    pub action: EnforcementAction,
    /// What it says.
    pub message: String,
}

impl ComparedViolation {
    /// The bundle, the rule, what is done about it, and the first line of what it says.
    pub fn told(&self) -> String {
        let bundle = self.bundle.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
        let container = self.container.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let message = self.message.lines().next().unwrap_or_default();
        format!("{bundle}[{}: {}]{container} {message}", self.rule, self.action.as_str())
    }
}

impl Compared {
    /// The difference between the record and what was found again.
    pub fn of(recorded: &RecordedDecision, replayed: Replayed) -> Self {
        let Replayed { found, hidden, open, not_recorded, is_undecidable } = replayed;
        let before = recorded.found();
        let (was, would_be) = (word(&before), word(&found));
        // What is left has its own bundle's name, where two bundles say the same.
        let (gone, added) = apart(before, found, |one, other| one == other);
        let (gone, added) = apart(gone, added, RecordedFinding::is_alike);
        let (gone, added, reworded) = paired(gone, added);
        let request = recorded.input.as_ref().map(|input| &input.request);
        let of = |text: Option<&String>| text.cloned().unwrap_or_default();
        Self {
            decision_id: recorded.decision_id.clone(),
            timestamp: recorded.timestamp,
            kind: of(request.map(|request| &request.kind.kind)),
            namespace: of(request.map(|request| &request.namespace)),
            name: of(request.map(|request| &request.name)),
            was,
            would_be,
            added: added.into_iter().map(finding).collect(),
            gone: gone.into_iter().map(finding).collect(),
            reworded: reworded.into_iter().map(finding).collect(),
            undecidable: is_undecidable,
            open_exceptions: open,
            not_recorded,
            masked: hidden,
        }
    }

    /// Whether anything but words is otherwise.
    pub fn is_changed(&self) -> bool {
        !(self.undecidable || (self.added.is_empty() && self.gone.is_empty()))
    }
}

/// What one side has and the other does not.
fn apart(
    left: Vec<RecordedFinding>,
    mut right: Vec<RecordedFinding>,
    is_same: impl Fn(&RecordedFinding, &RecordedFinding) -> bool,
) -> (Vec<RecordedFinding>, Vec<RecordedFinding>) {
    let mut rest = Vec::new();
    for one in left {
        match right.iter().position(|other| is_same(&one, other)) {
            Some(index) => drop(right.swap_remove(index)),
            None => rest.push(one),
        }
    }
    (rest, right)
}

/// Takes out those that only say something else, in the words of now: first those of the same bundle, so that none of them stands for one
/// of another bundle.
fn paired(
    mut gone: Vec<RecordedFinding>,
    mut added: Vec<RecordedFinding>,
) -> (Vec<RecordedFinding>, Vec<RecordedFinding>, Vec<RecordedFinding>) {
    let mut reworded = Vec::new();
    for is_of_same_bundle in [true, false] {
        gone.retain(|one| {
            let one = wordless(one);
            let fits = |other: &RecordedFinding| {
                let other = wordless(other);
                if is_of_same_bundle { other == one } else { other.is_alike(&one) }
            };
            let found = added.iter().position(fits);
            reworded.extend(found.map(|index| added.swap_remove(index)));
            found.is_none()
        });
    }
    added.sort();
    (gone, added, reworded)
}

fn wordless(found: &RecordedFinding) -> RecordedFinding {
    RecordedFinding { message: String::new(), ..found.clone() }
}

fn word(found: &[RecordedFinding]) -> &'static str {
    match found.iter().map(|one| one.action).max() {
        Some(EnforcementAction::Deny) => "deny",
        Some(EnforcementAction::Warn) => "warn",
        Some(EnforcementAction::Audit) | None => "allow",
    }
}

/// A violation as reports have it.
pub fn finding(found: RecordedFinding) -> ComparedViolation {
    let RecordedFinding { rule, container, capability, action, message, bundle, .. } = found;
    ComparedViolation { rule, bundle, container, capability, action, message }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finding(rule: &str, action: &str, message: &str) -> RecordedFinding {
        serde_json::from_value(json!({"rule": rule, "action": action, "message": message})).unwrap()
    }

    fn compared(before: Vec<RecordedFinding>, found: Vec<RecordedFinding>) -> Compared {
        let recorded = json!({"decision_id": "1", "timestamp": "2026-11-28T00:00:00Z", "path": "wasmgate/validate",
            "result": {}});
        let mut recorded: RecordedDecision = serde_json::from_value(recorded).unwrap();
        recorded.result.violations = before;
        let replayed = Replayed {
            found,
            hidden: Vec::new(),
            open: Vec::new(),
            not_recorded: Vec::new(),
            is_undecidable: false,
        };
        Compared::of(&recorded, replayed)
    }

    #[test]
    fn what_is_added_gone_and_reworded_is_told_apart() {
        let before =
            vec![finding("a", "deny", "one"), finding("b", "warn", "two"), finding("c", "deny", "three")];
        let after =
            vec![finding("a", "deny", "one"), finding("b", "warn", "other"), finding("c", "warn", "three")];
        let found = compared(before, after);
        let rules = |list: &[ComparedViolation]| {
            list.iter().map(|one| (one.rule.clone(), one.action)).collect::<Vec<_>>()
        };
        assert_eq!((found.was, found.would_be, found.is_changed()), ("deny", "deny", true));
        assert_eq!(rules(&found.gone), [("c".to_string(), EnforcementAction::Deny)]);
        assert_eq!(rules(&found.added), [("c".to_string(), EnforcementAction::Warn)]);
        assert_eq!(rules(&found.reworded), [("b".to_string(), EnforcementAction::Warn)]);
    }

    #[test]
    fn what_differs_is_of_its_own_bundle_and_the_same_of_another_bundle_is_no_change() {
        let of = |bundle: &str, message: &str| RecordedFinding {
            bundle: Some(bundle.into()),
            ..finding("a", "deny", message)
        };
        let both = || vec![of("one", "same"), of("two", "same")];
        let bundles = |list: &[ComparedViolation]| {
            list.iter().map(|one| one.bundle.clone().unwrap()).collect::<Vec<_>>()
        };
        for (left, missing) in [("one", "two"), ("two", "one")] {
            let found = compared(both(), vec![of(left, "same")]);
            assert_eq!((bundles(&found.gone), found.added.len()), (vec![missing.to_string()], 0));
            let found = compared(vec![of(left, "same")], both());
            assert_eq!((bundles(&found.added), found.gone.len()), (vec![missing.to_string()], 0));
        }
        assert!(!compared(vec![of("one", "same")], vec![of("two", "same")]).is_changed());
        assert!(!compared(vec![finding("a", "deny", "same")], vec![of("two", "same")]).is_changed());
        let found = compared(both(), vec![of("two", "other"), of("one", "same")]);
        assert_eq!((bundles(&found.reworded), found.is_changed()), (vec!["two".to_string()], false));
        assert_eq!(found.reworded[0].told(), "two [a: deny] other");
        // The one of the other bundle is what is missing, and not the one that has other words now.
        let found = compared(both(), vec![of("two", "other")]);
        assert_eq!(
            (bundles(&found.gone), bundles(&found.reworded)),
            (vec!["one".to_string()], vec!["two".to_string()])
        );
    }

    #[test]
    fn other_words_alone_are_no_change_and_two_equal_violations_are_two() {
        let found = compared(vec![finding("a", "audit", "one")], vec![finding("a", "audit", "two")]);
        assert_eq!((found.was, found.is_changed(), found.reworded.len()), ("allow", false, 1));
        let twice = || vec![finding("a", "deny", "one"), finding("a", "deny", "one")];
        assert!(!compared(twice(), twice()).is_changed());
        assert_eq!(compared(twice(), twice().split_off(1)).gone.len(), 1);
    }
}
