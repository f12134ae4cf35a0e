//! What all bundles found on one input.

use super::Violation;
use crate::rego::Asked;

/// A bundle that could not be evaluated, which counts as a denial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFailure {
    /// Name of the bundle.
    pub bundle: String,
    /// What went wrong, in words.
    pub message: String,
}

impl BundleFailure {
    /// A failure. The reason is reduced to one line, since parser errors may have several.
    pub(super) fn new(bundle: &str, reason: &str) -> Self {
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            bundle: bundle.into(),
            message: format!("policy bundle `{bundle}` could not be evaluated: {reason}"),
        }
    }
}

/// The combined outcome of all bundles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Violations of all bundles, sorted. What two bundles find is there twice, with the name of each.
    pub violations: Vec<Violation>,
    /// Bundles that could not be evaluated.
    pub failures: Vec<BundleFailure>,
    /// Whether every bundle had found this on the same input before, and none was run.
    pub is_cached: bool,
    /// What the rules asked for that is not in the input: at another time they may find something else.
    pub asked: Asked,
}

/// What one bundle found.
pub(super) struct Found {
    pub violations: Vec<Violation>,
    /// Whether it had found that before.
    pub is_cached: bool,
    pub asked: Asked,
}

impl Evaluation {
    /// What is said of bundles in the shadow that no answer waits for any longer.
    pub(super) fn too_late<'a>(bundles: impl Iterator<Item = &'a str>) -> Self {
        let reason = "it takes longer than the bundles that decide, and no answer waits for it";
        let failures = bundles.map(|name| BundleFailure::new(name, reason));
        Self { failures: failures.collect(), ..Self::default() }
    }

    /// What the bundles of these names found, or why they could not be evaluated.
    pub(super) fn of(outcomes: Vec<(&String, Result<Found, String>)>) -> Self {
        let was_found = |outcome: &Result<Found, String>| outcome.as_ref().is_ok_and(|found| found.is_cached);
        let is_cached = !outcomes.is_empty() && outcomes.iter().all(|(_, outcome)| was_found(outcome));
        let mut evaluation = Self { is_cached, ..Self::default() };
        for (name, outcome) in outcomes {
            match outcome {
                Ok(found) => {
                    evaluation.asked = evaluation.asked.or(found.asked);
                    let named = |one| Violation { bundle: Some(name.clone()), ..one };
                    evaluation.violations.extend(found.violations.into_iter().map(named));
                }
                Err(reason) => evaluation.failures.push(BundleFailure::new(name, &reason)),
            }
        }
        evaluation.violations.sort();
        evaluation.violations.dedup();
        evaluation
    }
}
