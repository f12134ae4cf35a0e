//! What a record says of the exceptions of then.

use jiff::Timestamp;

use super::recorded::{RecordedDecision, RecordedFinding};
use crate::admission::State;
use crate::grant::types::NEVER_EXEMPT;
use crate::judge::Exemption;
use crate::policy::Violation;

/// Whose exceptions count, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayTerms {
    /// Those that count.
    pub exceptions: Exceptions,
    /// The moment at which they count; `None` for that of the record.
    pub now: Option<Timestamp>,
    /// Whether rules read the options of the state, and not those of the record.
    pub takes_options: bool,
}

/// Whose exceptions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceptions {
    /// Those of the state alone, which were given.
    Given,
    /// None were given: those that the record names, for what they exempted then.
    Recorded,
}

/// Whether a violation is exempt by what a record says.
pub(super) enum Exempted {
    Yes(Exemption),
    No,
    /// The record does not decide it, for this reason.
    Open(String),
}

/// An exception exempts by rule, container and capability, so another violation with the same ones may be exempt too. The record names
/// the exception and not what is in it, nor whether it is there still: it counts for what it exempted then, and nothing else.
pub(super) fn exempted(
    violation: &Violation,
    recorded: &RecordedDecision,
    state: &State,
    ReplayTerms { exceptions, now, .. }: ReplayTerms,
) -> Exempted {
    let rule = violation.rule.as_str();
    let may_be = !NEVER_EXEMPT.contains(&rule) && state.enforcement.may_exempt(rule);
    if exceptions == Exceptions::Given || !may_be {
        return Exempted::No;
    }
    let alike = |then: &&RecordedFinding| {
        then.shadow.is_none()
            && (&then.rule, &then.container, &then.capability)
                == (&violation.rule, &violation.container, &violation.capability)
    };
    let mut candidates = recorded.result.violations.iter().filter(alike).filter_map(|then| {
        let is_same =
            then.bundle.is_some() && (&then.bundle, &then.message) == (&violation.bundle, &violation.message);
        Some((is_same, then.exempted.as_ref()?))
    });
    let Some((mut is_same, mut exemption)) = candidates.next() else { return Exempted::No };
    if let Some(other) = candidates.find(|(other, _)| *other && !is_same) {
        (is_same, exemption) = other;
    }
    let Exemption { exception, expires_at, .. } = exemption;
    if !is_same {
        return Exempted::Open(format!(
            "exception {exception} exempted another violation of rule {rule} then; the record does not say whether it covers this \
             one: give the exceptions with --grants"
        ));
    }
    if *expires_at <= now.unwrap_or(recorded.timestamp) {
        return Exempted::Open(format!(
            "exception {exception} exempted rule {rule} then, and has expired on {expires_at:.0}; the record does not say whether \
             there is another one: give the exceptions with --grants"
        ));
    }
    Exempted::Yes(exemption.clone())
}
