//! What all bundles found on one input.

use std::time::Duration;

use super::lanes::Leave;
use super::{Violation, store};
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

/// Why a bundle found nothing.
#[derive(Debug)]
pub(super) struct Failed {
    reason: String,
    /// Whether other evaluations are it, and neither the rules nor the input.
    is_by_load: bool,
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self { reason, is_by_load: false }
    }
}

impl Failed {
    /// It had no place in time.
    pub fn without_place() -> Self {
        Self { reason: store::TOO_MANY.into(), is_by_load: true }
    }

    /// It failed at this place, with so much `time` of the `most` that it may take.
    pub fn at(leave: &Leave, reason: String, time: Duration, most: Duration) -> Self {
        if leave.is_late(time, most) { Self::with_late_place(reason) } else { reason.into() }
    }

    /// It had its place so late that its time ended, if that is the reason.
    fn with_late_place(reason: String) -> Self {
        let is_by_load = names_load(&reason);
        Self { reason, is_by_load }
    }
}

/// Whether a reason for a failure may be the time that other evaluations or functions took.
fn names_load(reason: &str) -> bool {
    store::blames_load(reason) || store::names_calls(reason)
}

/// The combined outcome of all bundles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Violations of all bundles, sorted. What two bundles find is there twice, with the name of each.
    pub violations: Vec<Violation>,
    /// Bundles that could not be evaluated.
    pub failures: Vec<BundleFailure>,
    /// How many of these had no place in time, or too late: other evaluations are the reason, and neither their rules nor the input.
    pub overloaded: usize,
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

    /// How many bundles failed because other reviews take the time. Where the review came late to the work before its rules, and its time `has_ended`
    /// for that, this includes those that were not done in time.
    pub fn failed_by_load(&self, has_ended: bool) -> usize {
        if !has_ended {
            return self.overloaded;
        }
        self.failures.iter().filter(|failure| names_load(&failure.message)).count()
    }

    /// What the bundles of these names found, or why they could not be evaluated.
    pub(super) fn of(outcomes: Vec<(&String, Result<Found, Failed>)>) -> Self {
        let was_found = |outcome: &Result<Found, Failed>| outcome.as_ref().is_ok_and(|found| found.is_cached);
        let is_cached = !outcomes.is_empty() && outcomes.iter().all(|(_, outcome)| was_found(outcome));
        let mut evaluation = Self { is_cached, ..Self::default() };
        for (name, outcome) in outcomes {
            match outcome {
                Ok(found) => {
                    evaluation.asked = evaluation.asked.or(found.asked);
                    let named = |one| Violation { bundle: Some(name.clone()), ..one };
                    evaluation.violations.extend(found.violations.into_iter().map(named));
                }
                Err(Failed { reason, is_by_load }) => {
                    evaluation.overloaded += usize::from(is_by_load);
                    evaluation.failures.push(BundleFailure::new(name, &reason));
                }
            }
        }
        evaluation.violations.sort();
        evaluation.violations.dedup();
        evaluation
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    #[test]
    fn the_load_is_the_reason_where_there_is_no_place_and_where_a_late_one_leaves_too_little_time() {
        let names = ["a", "b", "c", "d", "e"].map(String::from);
        let limits = Limits::default();
        let failed = [
            Failed::without_place(),
            Failed::with_late_place(store::timed_out(limits)),
            Failed::with_late_place(store::taken_by("f", Duration::from_secs(1), "")),
            Failed::with_late_place("it needs more than 1 of fuel".to_owned()),
            Failed::from(store::timed_out(limits)),
        ];
        let evaluation = Evaluation::of(names.iter().zip(failed.map(Err)).collect());
        assert_eq!((evaluation.failures.len(), evaluation.overloaded), (5, 3));
        assert_eq!((evaluation.failed_by_load(false), evaluation.failed_by_load(true)), (3, 4));
    }
}
