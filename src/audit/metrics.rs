//! The gate's metrics, in the OpenMetrics text format, one file per source. Every label has a closed set of values, so
//! that users cannot create series: kinds and outcomes come from enums, names of bundles from the configuration, and names
//! of rules from loaded bundles, at most [`MAX_RULES`] of them. `docs/metrics.md` lists them all.

mod backlog;
mod bundles;
mod config;
mod drops;
mod labels;
mod lookups;
mod process;
mod reports;
mod reviews;
mod serving;
mod spans;
mod usage;
mod verdicts;
mod watches;
mod writes;

pub use backlog::{Backlog, Waiting};
pub use bundles::BundleReport;
pub use config::ConfigReport;
pub use drops::{DropReason, Drops};
pub use lookups::ImageLookups;
pub use reports::ReportRound;
pub use reviews::{Admission, BUCKETS, MAX_RULES};
pub use usage::UsageRound;
pub use watches::WatchReport;

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::Timings;
use crate::policy::{EnforcementAction, VerdictCounts};

/// Content type of [`Metrics::encode`] (OpenMetrics 1.0, "Protocol Negotiation").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reviews: reviews::Reviews,
    lookups: lookups::Lookups,
    verdicts: verdicts::Verdicts,
    drops: Drops,
    backlog: Backlog,
    serving: serving::Serving,
    spans: spans::Spans,
    bundles: bundles::Bundles,
    config: config::Config,
    watches: watches::Watches,
    writes: writes::Writes,
    reports: reports::Reports,
    usage: usage::Usage,
    process: process::Process,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero. The start time of the process is set to now.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            reviews: reviews::Reviews::default(),
            lookups: lookups::Lookups::default(),
            verdicts: verdicts::Verdicts::default(),
            drops: Drops::default(),
            backlog: Backlog::default(),
            serving: serving::Serving::default(),
            spans: spans::Spans::default(),
            bundles: bundles::Bundles::default(),
            config: config::Config::default(),
            watches: watches::Watches::default(),
            writes: writes::Writes::default(),
            reports: reports::Reports::default(),
            usage: usage::Usage::default(),
            process: process::Process::default(),
        };
        metrics.set_image_lookups(ImageLookups::default());
        metrics.set_verdicts(VerdictCounts::default());
        let to = &mut metrics.registry;
        metrics.reviews.register(to);
        metrics.lookups.register(to);
        metrics.verdicts.register(to);
        metrics.drops.register(to);
        metrics.backlog.register(to);
        metrics.serving.register(to);
        metrics.spans.register(to);
        metrics.bundles.register(to);
        metrics.config.register(to);
        metrics.watches.register(to);
        metrics.writes.register(to);
        metrics.reports.register(to);
        metrics.usage.register(to);
        metrics.process.register(to);
        metrics
    }

    /// Counts an answered review, and the time of its stages.
    pub fn observe(&self, review: Admission, timings: &Timings) {
        self.reviews.observe(review, timings);
    }

    /// Counts a violation by rule, enforcement action and bundle.
    pub fn violation(&self, rule: &str, action: EnforcementAction, bundle: &str) {
        self.reviews.violation(rule, action, bundle);
    }

    /// Counts a violation of a bundle in the shadow, by the action that it would have.
    pub fn shadow_violation(&self, rule: &str, action: EnforcementAction, bundle: &str) {
        self.reviews.shadow_violation(rule, action, bundle);
    }

    /// Counts a bundle that could not be evaluated.
    pub fn policy_failure(&self, bundle: &str) {
        self.reviews.policy_failure(bundle);
    }

    /// Counts an event of the server; `event` comes from a closed list.
    pub fn server_event(&self, event: &'static str) {
        self.serving.event(event);
    }

    /// Sets the counters of look-ups to these totals. Counters only rise: older totals that arrive late change nothing.
    pub fn set_image_lookups(&self, totals: ImageLookups) {
        self.lookups.set(totals);
    }

    /// Sets the counters of evaluations that need not be repeated, and the memory that this takes.
    pub fn set_verdicts(&self, totals: VerdictCounts) {
        self.verdicts.set(totals);
    }

    /// Sets the counters of reviews whose spans were sent and lost to these totals.
    pub fn set_spans(&self, sent: u64, lost: u64) {
        self.spans.set(sent, lost);
    }

    /// The counter for records that the decision log's [`super::Sink`] loses.
    pub fn drops(&self) -> Drops {
        self.drops.clone()
    }

    /// What shows how many records wait for the collector of the decision log.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Sets whether the gate takes reviews.
    pub fn set_ready(&self, ready: bool) {
        self.serving.set_ready(ready);
    }

    /// Sets the bundles in use: name → revision.
    pub fn set_bundles(&self, revisions: &BTreeMap<String, String>) {
        self.serving.set_bundles(revisions);
        self.reviews.know_bundles(revisions.keys());
    }

    /// Sets how the sources of the bundles are.
    pub fn set_bundle_sources(&self, reports: &[BundleReport]) {
        self.bundles.set(reports);
    }

    /// Sets how the configuration is.
    pub fn set_config(&self, report: ConfigReport) {
        self.config.set(report);
    }

    /// Sets the state of the cluster's watches, and the number of snapshots built from them. Without a cluster these
    /// metrics are absent.
    pub fn set_watches(&self, reports: &[WatchReport], rebuilds: u64) {
        self.watches.set(reports, rebuilds);
    }

    /// Sets when the serving certificate expires.
    pub fn set_certificate_expiry(&self, expiry: Timestamp) {
        self.serving.set_certificate_expiry(expiry);
    }

    /// Sets whether this replica writes certificates and caBundles.
    pub fn set_leader(&self, leader: bool) {
        self.writes.set_leader(leader);
    }

    /// Sets when the CA that signs serving certificates expires; absent if that is not known.
    pub fn set_ca_expiry(&self, expiry: Option<Timestamp>) {
        self.writes.set_ca_expiry(expiry);
    }

    /// Counts a step of certificate rotation; `step` comes from a closed list.
    pub fn certificate_step(&self, step: &'static str) {
        self.writes.certificate_step(step);
    }

    /// Counts a write of the caBundle; `result` comes from a closed list.
    pub fn ca_bundle_write(&self, result: &'static str) {
        self.writes.ca_bundle_write(result);
    }

    /// Counts what became of an Event; `result` comes from a closed list.
    pub fn event(&self, result: &'static str) {
        self.writes.event(result);
    }

    /// Counts a round of the reports, and what it did.
    pub fn report_round(&self, round: &ReportRound) {
        self.reports.round(round);
    }

    /// Counts a round of looking at what images use, and what it did.
    pub fn usage_round(&self, round: &UsageRound) {
        self.usage.round(round);
    }

    /// All metrics as OpenMetrics text; see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        self.process.measure();
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::{Outcome, Stage};
    use super::*;
    use crate::review::{Operation, Webhook};

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
            metrics.violation(&format!("rule-{n}"), EnforcementAction::Deny, "b");
        }
        metrics.violation("rule-0", EnforcementAction::Deny, "b");
        let page = metrics.encode();
        assert_eq!(page.matches("wasmgate_violations_total{").count(), MAX_RULES + 1);
        assert_line(&page, r#"wasmgate_violations_total{rule="rule-0",action="deny",bundle="b"} 2"#);
        assert_line(&page, r#"wasmgate_violations_total{rule="other",action="deny",bundle="b"} 50"#);
    }

    #[test]
    fn a_rule_name_cannot_break_the_page() {
        let page = page(|m| m.violation("a\"} 1\nforged{b=\"\\", EnforcementAction::Warn, "b"));
        assert_line(
            &page,
            r#"wasmgate_violations_total{rule="a\"} 1\\nforged{b=\"\\",action="warn",bundle="b"} 1"#,
        );
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

    /// `sum(wasmgate_leader) < 1` is an alert.
    #[test]
    fn a_gate_that_writes_no_certificates_has_no_series_of_a_leader() {
        let metrics = Metrics::new();
        assert!(!metrics.encode().lines().any(|line| line.starts_with("wasmgate_leader")));
        metrics.set_leader(false);
        assert_line(&metrics.encode(), "wasmgate_leader{} 0");
    }

    /// A counter that appears with the first failure does not rise by it.
    #[test]
    fn failures_that_have_an_alert_stand_at_zero_before_the_first() {
        let metrics = Metrics::new();
        metrics.set_bundles(&BTreeMap::from([("baseline".to_string(), "1".to_string())]));
        let page = metrics.encode();
        for webhook in ["mutate", "validate"] {
            let labels = format!(r#"webhook="{webhook}",outcome="error""#);
            assert_line(&page, &format!("wasmgate_admission_duration_seconds_count{{{labels}}} 0"));
        }
        assert_line(&page, r#"wasmgate_policy_evaluation_failures_total{bundle="baseline"} 0"#);
    }

    #[test]
    fn losses_of_the_decision_log_stand_at_zero_before_the_first() {
        let metrics = Metrics::new();
        assert_line(&metrics.encode(), r#"wasmgate_decision_logs_dropped_total{reason="write_failed"} 0"#);
        metrics.drops().count(DropReason::BufferFull);
        assert_line(&metrics.encode(), r#"wasmgate_decision_logs_dropped_total{reason="buffer_full"} 1"#);
        assert_eq!(metrics.drops().total(), 1);
    }

    /// `wasmgate_decision_logs_oldest_seconds > 900` is an alert.
    #[test]
    fn what_waits_for_a_collector_has_series_where_there_is_one() {
        let metrics = Metrics::new();
        let has = |name: &str| metrics.encode().lines().any(|line| line.starts_with(name));
        assert!(!has("wasmgate_decision_logs_waiting") && !has("wasmgate_decision_logs_oldest"));
        metrics.backlog().set(Waiting { bytes: 7, most_bytes: 70, oldest: Duration::from_millis(1500) });
        let page = metrics.encode();
        assert_line(&page, "wasmgate_decision_logs_waiting_bytes{} 7");
        assert_line(&page, "wasmgate_decision_logs_spool_bytes{} 70");
        assert_line(&page, "wasmgate_decision_logs_oldest_seconds{} 1.5");
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

    #[test]
    fn foreign_text_in_the_name_and_revision_of_a_bundle_is_made_harmless() {
        let bundles = BTreeMap::from([("our\u{1b}[2J".to_string(), "1\u{202e}2".to_string())]);
        let page = page(|m| m.set_bundles(&bundles));
        assert!(!page.contains(['\u{1b}', '\u{202e}']), "{page:?}");
        let line = page.lines().find(|line| line.starts_with("wasmgate_policy_bundle_info{")).unwrap();
        assert!(line.contains("u{202e}2") && line.contains("u{1b}[2J"), "{line}");
    }

    /// Every metric with at least one series, since the encoder omits a family without series.
    fn full() -> String {
        page(|m| {
            m.observe(
                denied(),
                &Timings { stages: vec![(Stage::Read, Duration::ZERO)], total: Duration::ZERO },
            );
            m.violation("r", EnforcementAction::Deny, "baseline");
            m.shadow_violation("r", EnforcementAction::Deny, "next");
            m.policy_failure("baseline");
            m.server_event("busy");
            m.backlog().set(Waiting::default());
            m.set_bundles(&BTreeMap::from([("baseline".to_string(), "1".to_string())]));
            m.set_certificate_expiry(Timestamp::UNIX_EPOCH);
            m.set_bundle_sources(&[BundleReport {
                name: "baseline".into(),
                checked: Timestamp::UNIX_EPOCH,
                next: Some(Timestamp::UNIX_EPOCH),
                since: Some(Timestamp::UNIX_EPOCH),
                is_failing: false,
                is_unkept: false,
                swaps: 0,
                failures: 0,
            }]);
            m.set_watches(&[watch_report()], 3);
            m.set_leader(true);
            m.set_ca_expiry(Some(Timestamp::UNIX_EPOCH));
            m.certificate_step("issue-leaf");
            m.ca_bundle_write("written");
            m.event("written");
            m.report_round(&ReportRound {
                judged: 1,
                succeeded: Some(Timestamp::UNIX_EPOCH),
                ..ReportRound::default()
            });
            m.usage_round(&UsageRound { sampled: 1, written: 1, ..UsageRound::default() });
        })
    }

    #[test]
    fn rounds_of_samples_add_up_and_images_are_those_of_the_last() {
        let page = page(|m| {
            let round = UsageRound { sampled: 2, written: 1, images: 5, said: 3, ..UsageRound::default() };
            m.usage_round(&round);
            m.usage_round(&UsageRound { is_incomplete: true, images: 4, ..round });
        });
        assert_line(&page, "wasmgate_usage_samples_total{} 4");
        assert_line(&page, r#"wasmgate_usage_writes_total{result="written"} 2"#);
        assert_line(&page, r#"wasmgate_usage_rounds_total{result="incomplete"} 1"#);
        assert_line(&page, "wasmgate_usage_images{} 4");
        assert_line(&page, "wasmgate_usage_learned_images{} 3");
    }

    #[test]
    fn a_round_of_the_reports_adds_up_and_only_a_whole_one_that_succeeded_sets_the_time() {
        let page = page(|m| {
            let round =
                ReportRound { judged: 2, known: 3, written: 1, unchanged: 4, ..ReportRound::default() };
            m.report_round(&round);
            m.report_round(&ReportRound { is_incomplete: true, failed: 1, ..round });
        });
        assert_line(&page, r#"wasmgate_report_objects_total{result="known"} 6"#);
        assert_line(&page, r#"wasmgate_report_writes_total{result="unchanged"} 8"#);
        assert_line(&page, r#"wasmgate_report_writes_total{result="failed"} 1"#);
        assert_line(&page, r#"wasmgate_report_rounds_total{result="complete"} 1"#);
        assert_line(&page, r#"wasmgate_report_rounds_total{result="incomplete"} 1"#);
        assert!(!page.contains("wasmgate_report_success_timestamp_seconds "), "{page}");
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

    /// `| `name{labels}` | type |` for each family of the encoded page.
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
