//! The gate's metrics, in the OpenMetrics text format. Every label has a closed set of values, so that no user can
//! make a series: kinds and outcomes come from enums, names of bundles from the configuration, and names of rules
//! from loaded bundles and never more than [`MAX_RULES`] of them. `docs/metrics.md` lists them all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Outcome, Stage, Timings};
use crate::policy::EnforcementAction;
use crate::review::Operation;
use crate::review::Webhook;

/// Content type of [`Metrics::encode`] (OpenMetrics 1.0, "Protocol Negotiation").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the duration buckets, in seconds: from 50 µs, where a Linux pod should be, to 10 s, the webhook
/// time-out that Kubernetes assumes when none is set.
pub const BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Distinct rule names that get a series of their own; violations of all further ones are counted under `other`.
pub const MAX_RULES: usize = 200;

/// Rule label once [`MAX_RULES`] is reached.
const OTHER: &str = "other";

/// The end of one review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Admission {
    /// Which webhook was called.
    pub webhook: Webhook,
    /// Kind of the object, from a closed list: the kinds that carry a pod spec, and one word for all others.
    pub kind: &'static str,
    /// The verb; `None` when the review could not be read.
    pub operation: Option<Operation>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Totals since the start of the process, as the image module counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageLookups {
    /// Answered from memory.
    pub hit: u64,
    /// Answered by the disk, which knew what memory did not.
    pub disk: u64,
    /// Asked the registry.
    pub miss: u64,
    /// Answered with a tag that could not be refreshed.
    pub stale: u64,
    /// Not answered.
    pub failure: u64,
}

/// Why a record did not reach the decision log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The buffer had no space: the output is too slow.
    BufferFull,
    /// The decision came after the log was closed.
    Closed,
    /// The record could not be encoded.
    EncodingFailed,
    /// The output failed.
    WriteFailed,
}

impl DropReason {
    const ALL: [Self; 4] = [Self::BufferFull, Self::Closed, Self::EncodingFailed, Self::WriteFailed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer_full",
            Self::Closed => "closed",
            Self::EncodingFailed => "encoding_failed",
            Self::WriteFailed => "write_failed",
        }
    }
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
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BundleLabels {
    bundle: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabels {
    name: String,
    revision: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    watch: &'static str,
}

/// How one watch of the cluster fares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchReport {
    /// What is watched, from a closed list, such as `wasigrants.wasmgate.dev`.
    pub watch: &'static str,
    /// Whether all objects were listed once.
    pub synced: bool,
    /// Objects that are known.
    pub objects: usize,
    /// Objects that are left out because they are wrong.
    pub rejected: usize,
    /// Time since the API server last sent anything; `None` before it ever did.
    pub silence: Option<Duration>,
    /// Errors so far.
    pub errors: u64,
    /// How often everything was listed anew.
    pub restarts: u64,
}

/// The metrics of the watches.
#[derive(Debug, Default)]
struct Watches {
    synced: Family<WatchLabels, Gauge>,
    objects: Family<WatchLabels, Gauge>,
    rejected: Family<WatchLabels, Gauge>,
    silence: Family<WatchLabels, Gauge<f64, AtomicU64>>,
    errors: Family<WatchLabels, Counter>,
    restarts: Family<WatchLabels, Counter>,
    rebuilds: Counter,
}

impl Watches {
    fn register(&self, to: &mut Registry) {
        let help = "1 when all objects of a kind were listed once";
        to.register("wasmgate_watch_synced", help, self.synced.clone());
        to.register("wasmgate_watch_objects", "Objects that a watch knows", self.objects.clone());
        let help = "Objects that are ignored because they are invalid; the log names each";
        to.register("wasmgate_watch_rejected_objects", help, self.rejected.clone());
        let help = "Time since the API server last sent anything to a watch";
        to.register_with_unit("wasmgate_watch_silence", help, Unit::Seconds, self.silence.clone());
        to.register("wasmgate_watch_errors", "Errors of a watch", self.errors.clone());
        let help = "Full relists of a watch";
        to.register("wasmgate_watch_restarts", help, self.restarts.clone());
        let help = "Snapshots of the cluster that were built";
        to.register("wasmgate_cluster_rebuilds", help, self.rebuilds.clone());
    }

    fn set(&self, reports: &[WatchReport], rebuilds: u64) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for report in reports {
            let labels = WatchLabels { watch: report.watch };
            self.synced.get_or_create(&labels).set(report.synced.into());
            self.objects.get_or_create(&labels).set(count(report.objects));
            self.rejected.get_or_create(&labels).set(count(report.rejected));
            if let Some(silence) = report.silence {
                self.silence.get_or_create(&labels).set(silence.as_secs_f64());
            }
            let errors = self.errors.get_or_create(&labels);
            errors.inner().fetch_max(report.errors, Ordering::Relaxed);
            let restarts = self.restarts.get_or_create(&labels);
            restarts.inner().fetch_max(report.restarts, Ordering::Relaxed);
        }
        self.rebuilds.inner().fetch_max(rebuilds, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabels {
    reason: DropReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// The verb of a review that may not have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Verb(Option<Operation>);

impl Verb {
    fn as_str(self) -> &'static str {
        self.0.map_or("UNKNOWN", Operation::as_str)
    }
}

/// A label's value is the name that records use too.
macro_rules! label_value {
    ($($type:ty => $name:expr),* $(,)?) => {$(
        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                encoder.write_str($name(*self))
            }
        }
    )*};
}
label_value! {
    Webhook => Webhook::as_str, Outcome => Outcome::as_str, Stage => Stage::as_str, DropReason => DropReason::as_str,
    Verb => Verb::as_str, EnforcementAction => EnforcementAction::as_str,
}

/// The label set of a metric that has none and is absent until it is known.
type NoLabels = [(&'static str, &'static str); 0];

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

fn durations<L: Clone + std::hash::Hash + Eq>() -> Durations<L> {
    Family::new_with_constructor(|| Histogram::new(BUCKETS))
}

/// Counts records that were lost. Clones count together.
#[derive(Debug, Clone)]
pub struct Drops(Family<DropLabels, Counter>);

impl Default for Drops {
    /// All reasons stand at zero from the start, so that the first loss is a rise and not a new series.
    fn default() -> Self {
        let family = Family::default();
        for reason in DropReason::ALL {
            drop(family.get_or_create(&DropLabels { reason }));
        }
        Self(family)
    }
}

impl Drops {
    /// Counts one.
    pub fn count(&self, reason: DropReason) {
        self.0.get_or_create(&DropLabels { reason }).inc();
    }

    /// Records that were lost for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get_or_create(&DropLabels { reason }).get()
    }

    /// All records that were lost.
    pub fn total(&self) -> u64 {
        DropReason::ALL.into_iter().map(|reason| self.get(reason)).sum()
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    admission: Durations<DurationLabels>,
    stages: Durations<StageLabels>,
    violations: Family<RuleLabels, Counter>,
    rules: RwLock<BTreeSet<String>>,
    policy_failures: Family<BundleLabels, Counter>,
    lookups: Family<LookupLabels, Counter>,
    server_events: Family<EventLabels, Counter>,
    drops: Drops,
    ready: Gauge,
    bundles: Family<RevisionLabels, Gauge>,
    certificate_expiry: Family<NoLabels, Gauge>,
    watches: Watches,
    ca_expiry: Family<NoLabels, Gauge>,
    leader: Gauge,
    certificate_steps: Family<StepLabels, Counter>,
    ca_bundle_writes: Family<LookupLabels, Counter>,
    events: Family<LookupLabels, Counter>,
    resident: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero. The start of the process is taken to be now.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            admission: durations(),
            stages: durations(),
            violations: Family::default(),
            rules: RwLock::default(),
            policy_failures: Family::default(),
            lookups: Family::default(),
            server_events: Family::default(),
            drops: Drops::default(),
            ready: Gauge::default(),
            bundles: Family::default(),
            certificate_expiry: Family::default(),
            watches: Watches::default(),
            ca_expiry: Family::default(),
            leader: Gauge::default(),
            certificate_steps: Family::default(),
            ca_bundle_writes: Family::default(),
            events: Family::default(),
            resident: Gauge::default(),
        };
        metrics.set_image_lookups(ImageLookups::default());
        metrics.register_reviews();
        metrics.register_state();
        metrics.register_cluster();
        metrics.register_process();
        metrics
    }

    /// The encoder adds `_total` to counters and the unit to what has one.
    fn register_reviews(&mut self) {
        let to = &mut self.registry;
        to.register("wasmgate_admission_requests", "Reviews that were answered", self.requests.clone());
        let help = "Time from the first byte of a review to the last byte of its answer";
        to.register_with_unit("wasmgate_admission_duration", help, Unit::Seconds, self.admission.clone());
        let help = "Time that one stage of a review took";
        to.register_with_unit("wasmgate_stage_duration", help, Unit::Seconds, self.stages.clone());
        let help = "Violations by rule and enforcement action";
        to.register("wasmgate_violations", help, self.violations.clone());
        let help = "Failed evaluations of a policy bundle; each counts as a deny";
        to.register("wasmgate_policy_evaluation_failures", help, self.policy_failures.clone());
        to.register("wasmgate_image_lookups", "Image look-ups by result", self.lookups.clone());
        let help =
            "Server events other than decisions: refused connections and requests, replaced certificates";
        to.register("wasmgate_server_events", help, self.server_events.clone());
        let help = "Decisions that were not written to the decision log";
        to.register("wasmgate_decision_logs_dropped", help, self.drops.0.clone());
    }

    fn register_state(&mut self) {
        let to = &mut self.registry;
        to.register("wasmgate_ready", "Whether the gate takes reviews", self.ready.clone());
        let help = "Policy bundles in use; always 1";
        to.register("wasmgate_policy_bundle_info", help, self.bundles.clone());
        let help = "When the serving certificate expires, in seconds since 1970";
        let name = "wasmgate_certificate_expiry_timestamp";
        to.register_with_unit(name, help, Unit::Seconds, self.certificate_expiry.clone());
        self.watches.register(to);
    }

    fn register_cluster(&mut self) {
        let to = &mut self.registry;
        let help = "1 on the replica that writes certificates and caBundles";
        to.register("wasmgate_leader", help, self.leader.clone());
        let help = "When the CA that signs serving certificates expires, in seconds since 1970";
        let name = "wasmgate_ca_expiry_timestamp";
        to.register_with_unit(name, help, Unit::Seconds, self.ca_expiry.clone());
        let help = "Certificate rotation steps of this replica";
        to.register("wasmgate_certificate_steps", help, self.certificate_steps.clone());
        let help = "Writes of the caBundle into a webhook configuration";
        to.register("wasmgate_ca_bundle_writes", help, self.ca_bundle_writes.clone());
        let help = "Refused workloads by the fate of their Event";
        to.register("wasmgate_events", help, self.events.clone());
    }

    /// The names that every Prometheus client library uses for a process.
    fn register_process(&mut self) {
        let to = &mut self.registry;
        let version = env!("CARGO_PKG_VERSION");
        to.register("wasmgate_build", "The version that runs", Info::new(BuildLabels { version }));
        let start: Gauge<f64, AtomicU64> = Gauge::default();
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        let help = "When the process started, in seconds since 1970";
        to.register_with_unit("process_start_time", help, Unit::Seconds, start);
        let help = "Resident memory of the process in bytes";
        to.register_with_unit("process_resident_memory", help, Unit::Bytes, self.resident.clone());
    }

    /// Counts a review that was answered, and where its time went.
    pub fn observe(&self, review: Admission, timings: &Timings) {
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

    /// Counts a violation and what was done about it.
    pub fn violation(&self, rule: &str, action: EnforcementAction) {
        let rule = if self.admit_rule(rule) { rule } else { OTHER };
        self.violations.get_or_create(&RuleLabels { rule: rule.to_string(), action }).inc();
    }

    /// Whether the rule has a series of its own, or may have one.
    fn admit_rule(&self, rule: &str) -> bool {
        if self.rules.read().unwrap_or_else(PoisonError::into_inner).contains(rule) {
            return true;
        }
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.contains(rule) || (rules.len() < MAX_RULES && rules.insert(rule.to_string()))
    }

    /// Counts a bundle that could not be evaluated.
    pub fn policy_failure(&self, bundle: &str) {
        self.policy_failures.get_or_create(&BundleLabels { bundle: bundle.to_string() }).inc();
    }

    /// Counts something that the server did by itself; `event` comes from a closed list.
    pub fn server_event(&self, event: &'static str) {
        self.server_events.get_or_create(&EventLabels { event }).inc();
    }

    /// Takes over the image module's totals. They only rise: older totals that arrive late change nothing.
    pub fn set_image_lookups(&self, totals: ImageLookups) {
        let ImageLookups { hit, disk, miss, stale, failure } = totals;
        let totals = [("hit", hit), ("disk", disk), ("miss", miss), ("stale", stale), ("failure", failure)];
        for (result, total) in totals {
            self.lookups.get_or_create(&LookupLabels { result }).inner().fetch_max(total, Ordering::Relaxed);
        }
    }

    /// The counter that the decision log's [`super::Sink`] counts its losses in.
    pub fn drops(&self) -> Drops {
        self.drops.clone()
    }

    /// Whether the gate takes reviews.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// The bundles that judge from now on: name → revision.
    pub fn set_bundles(&self, revisions: &BTreeMap<String, String>) {
        self.bundles.clear();
        for (name, revision) in revisions {
            let labels = RevisionLabels { name: name.clone(), revision: revision.clone() };
            self.bundles.get_or_create(&labels).set(1);
        }
    }

    /// How the watches of the cluster fare, and how many snapshots were made of what they brought. Nothing is shown
    /// without a cluster.
    pub fn set_watches(&self, reports: &[WatchReport], rebuilds: u64) {
        self.watches.set(reports, rebuilds);
    }

    /// When the certificate that is served expires.
    pub fn set_certificate_expiry(&self, expiry: Timestamp) {
        self.certificate_expiry.get_or_create(&[]).set(expiry.as_second());
    }

    /// Whether this replica is the one that writes certificates and caBundles.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(leader.into());
    }

    /// When the CA that signs serving certificates expires; absent when that is not known.
    pub fn set_ca_expiry(&self, expiry: Option<Timestamp>) {
        match expiry {
            Some(expiry) => drop(self.ca_expiry.get_or_create(&[]).set(expiry.as_second())),
            None => self.ca_expiry.clear(),
        }
    }

    /// Counts a step of certificate rotation; `step` comes from a closed list.
    pub fn certificate_step(&self, step: &'static str) {
        self.certificate_steps.get_or_create(&StepLabels { step }).inc();
    }

    /// Counts a write of the caBundle; `result` comes from a closed list.
    pub fn ca_bundle_write(&self, result: &'static str) {
        self.ca_bundle_writes.get_or_create(&LookupLabels { result }).inc();
    }

    /// Counts what became of an Event; `result` comes from a closed list.
    pub fn event(&self, result: &'static str) {
        self.events.get_or_create(&LookupLabels { result }).inc();
    }

    /// Everything as OpenMetrics text; see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

/// `VmRSS` of `/proc/self/status`, which is in kB of 1024 bytes (`proc_pid_status(5)`); `None` where there is none.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(fill: impl FnOnce(&Metrics)) -> String {
        let metrics = Metrics::new();
        fill(&metrics);
        metrics.encode()
    }

    #[track_caller]
    fn assert_line(page: &str, wanted: &str) {
        assert!(page.lines().any(|line| line == wanted), "no line `{wanted}` in\n{page}");
    }

    fn denied() -> Admission {
        let operation = Some(Operation::Create);
        Admission { webhook: Webhook::Validate, kind: "Pod", operation, outcome: Outcome::Deny }
    }

    #[test]
    fn a_review_is_counted_and_its_time_falls_into_the_right_bucket() {
        let mut timings = Timings { total: Duration::from_micros(70), ..Timings::default() };
        timings.note(Stage::Judge, Duration::from_micros(40));
        let page = page(|m| m.observe(denied(), &timings));
        let labels = r#"webhook="validate",kind="Pod",operation="CREATE",outcome="deny""#;
        assert_line(&page, &format!("wasmgate_admission_requests_total{{{labels}}} 1"));
        let bucket = |le, n| {
            format!(
                r#"wasmgate_admission_duration_seconds_bucket{{le="{le}",webhook="validate",outcome="deny"}} {n}"#
            )
        };
        assert_line(&page, &bucket("0.00005", 0));
        assert_line(&page, &bucket("0.0001", 1));
        assert_line(&page, &bucket("+Inf", 1));
        assert_line(&page, r#"wasmgate_stage_duration_seconds_bucket{le="0.00005",stage="judge"} 1"#);
        assert!(!page.contains(r#"stage="plan""#), "a stage that was never reached has no series");
    }

    #[test]
    fn a_request_that_could_not_be_read_is_counted() {
        let review = Admission { operation: None, kind: "none", outcome: Outcome::Error, ..denied() };
        let page = page(|m| m.observe(review, &Timings::default()));
        let labels = r#"webhook="validate",kind="none",operation="UNKNOWN",outcome="error""#;
        assert_line(&page, &format!("wasmgate_admission_requests_total{{{labels}}} 1"));
    }

    #[test]
    fn buckets_reach_from_fifty_microseconds_to_ten_seconds_and_rise() {
        assert_eq!((BUCKETS.first(), BUCKETS.last()), (Some(&0.000_05), Some(&10.0)));
        assert!(BUCKETS.is_sorted());
    }

    #[test]
    fn no_more_than_the_allowed_number_of_rules_get_a_series() {
        let metrics = Metrics::new();
        for n in 0..MAX_RULES + 50 {
            metrics.violation(&format!("rule-{n}"), EnforcementAction::Deny);
        }
        metrics.violation("rule-0", EnforcementAction::Deny);
        let page = metrics.encode();
        assert_eq!(page.matches("wasmgate_violations_total{").count(), MAX_RULES + 1);
        assert_line(&page, r#"wasmgate_violations_total{rule="rule-0",action="deny"} 2"#);
        assert_line(&page, r#"wasmgate_violations_total{rule="other",action="deny"} 50"#);
    }

    #[test]
    fn a_rule_name_cannot_break_the_page() {
        let page = page(|m| m.violation("a\"} 1\nforged{b=\"\\", EnforcementAction::Warn));
        assert_line(&page, r#"wasmgate_violations_total{rule="a\"} 1\nforged{b=\"\\",action="warn"} 1"#);
    }

    #[test]
    fn image_look_ups_never_fall() {
        let metrics = Metrics::new();
        metrics.set_image_lookups(ImageLookups { hit: 7, disk: 4, miss: 2, stale: 0, failure: 1 });
        metrics.set_image_lookups(ImageLookups { hit: 5, disk: 4, miss: 3, stale: 0, failure: 1 });
        let page = metrics.encode();
        for (result, total) in [("hit", 7), ("disk", 4), ("miss", 3), ("stale", 0), ("failure", 1)] {
            assert_line(&page, &format!(r#"wasmgate_image_lookups_total{{result="{result}"}} {total}"#));
        }
    }

    #[test]
    fn bundles_that_were_replaced_are_gone_from_the_page() {
        let revisions = |revision: &str| BTreeMap::from([("baseline".to_string(), revision.to_string())]);
        let metrics = Metrics::new();
        metrics.set_bundles(&revisions("1"));
        metrics.set_bundles(&revisions("2"));
        metrics.policy_failure("baseline");
        let page = metrics.encode();
        assert_line(&page, r#"wasmgate_policy_bundle_info{name="baseline",revision="2"} 1"#);
        assert!(!page.contains(r#"revision="1""#), "{page}");
        assert_line(&page, r#"wasmgate_policy_evaluation_failures_total{bundle="baseline"} 1"#);
    }

    #[test]
    fn a_certificate_has_no_expiry_until_there_is_one() {
        let metrics = Metrics::new();
        assert!(
            !metrics.encode().lines().any(|l| l.starts_with("wasmgate_certificate_expiry_timestamp_seconds"))
        );
        metrics.set_certificate_expiry("2027-03-31T00:00:00Z".parse().unwrap());
        assert_line(&metrics.encode(), "wasmgate_certificate_expiry_timestamp_seconds{} 1806451200");
    }

    #[test]
    fn losses_of_the_decision_log_stand_at_zero_before_the_first() {
        let metrics = Metrics::new();
        assert_line(&metrics.encode(), r#"wasmgate_decision_logs_dropped_total{reason="write_failed"} 0"#);
        metrics.drops().count(DropReason::BufferFull);
        assert_line(&metrics.encode(), r#"wasmgate_decision_logs_dropped_total{reason="buffer_full"} 1"#);
        assert_eq!(metrics.drops().total(), 1);
    }

    #[test]
    fn the_process_describes_itself() {
        let page = page(|m| m.set_ready(true));
        assert_line(&page, "wasmgate_ready 1");
        assert_line(&page, &format!(r#"wasmgate_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")));
        assert!(page.ends_with("# EOF\n"), "{page}");
        let value = |name: &str| {
            page.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_start_time_seconds") > 1.7e9);
    }

    /// Every metric, with at least one series, so that the encoder names it.
    fn full() -> String {
        page(|m| {
            m.observe(
                denied(),
                &Timings { stages: vec![(Stage::Read, Duration::ZERO)], total: Duration::ZERO },
            );
            m.violation("r", EnforcementAction::Deny);
            m.policy_failure("baseline");
            m.server_event("busy");
            m.set_bundles(&BTreeMap::from([("baseline".to_string(), "1".to_string())]));
            m.set_certificate_expiry(Timestamp::UNIX_EPOCH);
            m.set_watches(&[watch_report()], 3);
            m.set_ca_expiry(Some(Timestamp::UNIX_EPOCH));
            m.certificate_step("issue-leaf");
            m.ca_bundle_write("written");
            m.event("written");
        })
    }

    fn watch_report() -> WatchReport {
        let silence = Some(Duration::from_millis(1500));
        let (objects, rejected, errors, restarts) = (5, 1, 2, 1);
        WatchReport { watch: "namespaces", synced: true, objects, rejected, silence, errors, restarts }
    }

    #[test]
    fn watches_are_shown_as_they_fare() {
        let page = full();
        for line in [
            r#"wasmgate_watch_synced{watch="namespaces"} 1"#,
            r#"wasmgate_watch_objects{watch="namespaces"} 5"#,
            r#"wasmgate_watch_rejected_objects{watch="namespaces"} 1"#,
            r#"wasmgate_watch_silence_seconds{watch="namespaces"} 1.5"#,
            r#"wasmgate_watch_errors_total{watch="namespaces"} 2"#,
            r#"wasmgate_watch_restarts_total{watch="namespaces"} 1"#,
            "wasmgate_cluster_rebuilds_total 3",
        ] {
            assert_line(&page, line);
        }
    }

    /// `| `name{labels}` | type |` from what the page says of each family.
    fn families(page: &str) -> BTreeSet<String> {
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.map(|(name, kind)| format!("| `{name}{}` | {kind} |", sample(page, name, kind))).collect()
    }

    /// The suffix of the family's samples, and the names of their labels.
    fn sample(page: &str, name: &str, kind: &str) -> String {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{suffix}"))).unwrap();
        let labels =
            line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        let names: Vec<_> =
            labels.split(',').filter_map(|l| Some(l.split_once('=')?.0)).filter(|l| *l != "le").collect();
        if names.is_empty() { suffix.to_string() } else { format!("{suffix}{{{}}}", names.join(",")) }
    }

    #[test]
    fn the_documented_metrics_are_the_metrics() {
        let documented = include_str!("../../docs/metrics.md");
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.splitn(3, " | ");
            Some(format!("| `{} | {} |", cells.next()?, cells.next()?))
        };
        assert_eq!(documented.lines().filter_map(row).collect::<BTreeSet<_>>(), families(&full()));
    }
}
