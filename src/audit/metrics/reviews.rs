//! Metrics of reviews: outcomes and durations.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::super::{Outcome, Stage, Timings};
use super::labels::Verb;
use crate::policy::EnforcementAction;
use crate::review::{Operation, Webhook};
use crate::text;

/// Upper bounds of the duration buckets, in seconds: from 50 µs, the target for a Linux pod, to 10 s, the default
/// webhook timeout of Kubernetes.
pub const BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Most rule names with a series of their own; violations of further rules are counted under `other`.
pub const MAX_RULES: usize = 200;

/// Rule label for further rules once [`MAX_RULES`] is reached.
const OTHER: &str = "other";

/// Labels of one answered review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Admission {
    /// The webhook that was called.
    pub webhook: Webhook,
    /// Kind of the object, from a closed list: the kinds that carry a pod spec, and one value for all others.
    pub kind: &'static str,
    /// The verb; `None` when the review could not be read.
    pub operation: Option<Operation>,
    /// How the review ended.
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    webhook: Webhook,
    kind: &'static str,
    operation: Verb,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    webhook: Webhook,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
    action: EnforcementAction,
    bundle: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BundleLabels {
    bundle: String,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

fn durations<L: Clone + std::hash::Hash + Eq>() -> Durations<L> {
    Family::new_with_constructor(|| Histogram::new(BUCKETS))
}

/// The metrics of the reviews.
#[derive(Debug)]
pub(super) struct Reviews {
    requests: Family<RequestLabels, Counter>,
    admission: Durations<DurationLabels>,
    stages: Durations<StageLabels>,
    violations: Family<RuleLabels, Counter>,
    shadow: Family<RuleLabels, Counter>,
    rules: RwLock<BTreeSet<String>>,
    policy_failures: Family<BundleLabels, Counter>,
}

impl Default for Reviews {
    /// The durations of reviews in which the gate fails start at zero, so that the first failure is an increase and not a new series.
    fn default() -> Self {
        let admission = durations();
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            drop(admission.get_or_create(&DurationLabels { webhook, outcome: Outcome::Error }));
        }
        Self {
            requests: Family::default(),
            admission,
            stages: durations(),
            violations: Family::default(),
            shadow: Family::default(),
            rules: RwLock::default(),
            policy_failures: Family::default(),
        }
    }
}

impl Reviews {
    /// Registers the metrics; the encoder adds `_total` to counters, and the unit to metrics that have one.
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("wasmgate_admission_requests", "Reviews that were answered", self.requests.clone());
        let help = "Time from the first byte of a review to the last byte of its answer";
        to.register_with_unit("wasmgate_admission_duration", help, Unit::Seconds, self.admission.clone());
        let help = "Time that one stage of a review took";
        to.register_with_unit("wasmgate_stage_duration", help, Unit::Seconds, self.stages.clone());
        let help = "Violations by rule, enforcement action and bundle";
        to.register("wasmgate_violations", help, self.violations.clone());
        let help = "Violations of bundles in the shadow, by the enforcement action that they would have";
        to.register("wasmgate_shadow_violations", help, self.shadow.clone());
        let help = "Failed evaluations of a policy bundle; each counts as a deny, unless the bundle runs in the shadow or had no place in time";
        to.register("wasmgate_policy_evaluation_failures", help, self.policy_failures.clone());
    }

    /// Counts an answered review, and the time of its stages.
    pub(super) fn observe(&self, review: Admission, timings: &Timings) {
        let Admission { webhook, kind, operation, outcome } = review;
        let labels = RequestLabels { webhook, kind, operation: Verb(operation), outcome };
        self.requests.get_or_create(&labels).inc();
        let labels = DurationLabels { webhook, outcome };
        self.admission.get_or_create(&labels).observe(timings.total.as_secs_f64());
        for (stage, took) in &timings.stages {
            self.observe_stage(*stage, *took);
        }
    }

    fn observe_stage(&self, stage: Stage, took: Duration) {
        self.stages.get_or_create(&StageLabels { stage }).observe(took.as_secs_f64());
    }

    /// Counts a violation by rule, enforcement action and bundle.
    pub(super) fn violation(&self, rule: &str, action: EnforcementAction, bundle: &str) {
        self.violations.get_or_create(&self.labels(rule, action, bundle)).inc();
    }

    /// Counts a violation of a bundle in the shadow.
    pub(super) fn shadow_violation(&self, rule: &str, action: EnforcementAction, bundle: &str) {
        self.shadow.get_or_create(&self.labels(rule, action, bundle)).inc();
    }

    fn labels(&self, rule: &str, action: EnforcementAction, bundle: &str) -> RuleLabels {
        let rule = shown(rule);
        let rule = if self.admit_rule(&rule) { rule } else { OTHER.to_string() };
        RuleLabels { rule, action, bundle: shown(bundle) }
    }

    /// Whether the rule has a series of its own, or may get one.
    fn admit_rule(&self, rule: &str) -> bool {
        if self.rules.read().unwrap_or_else(PoisonError::into_inner).contains(rule) {
            return true;
        }
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.contains(rule) || (rules.len() < MAX_RULES && rules.insert(rule.to_string()))
    }

    /// Starts the counter of each bundle in use at zero, so that its first failure is an increase.
    pub(super) fn know_bundles<'a>(&self, names: impl Iterator<Item = &'a String>) {
        for name in names {
            drop(self.policy_failures.get_or_create(&BundleLabels { bundle: shown(name) }));
        }
    }

    /// Counts a bundle that could not be evaluated.
    pub(super) fn policy_failure(&self, bundle: &str) {
        self.policy_failures.get_or_create(&BundleLabels { bundle: shown(bundle) }).inc();
    }
}

/// A name that a bundle or a rule gives itself, as the value of a label.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 128;
    text::shorten(&text::visible(name), LONGEST).into_owned()
}
