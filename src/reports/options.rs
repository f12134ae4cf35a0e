//! Settings of the reports.

use jiff::SignedDuration;
use jiff::fmt::serde::duration::friendly::compact::required as compact;
use kube::core::ApiResource;
use serde::{Deserialize, Serialize};

/// Most results of one report that may be configured: with the largest texts these are about 1 MiB, and etcd takes 1.5 MiB
/// (`etcd-io/etcd:server/embed/config.go`, `DefaultMaxRequestBytes`).
pub const MOST_RESULTS: usize = 1000;

/// Reports about what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReportOptions {
    /// Whether they are written. Default: no.
    pub enabled: bool,
    /// The kind of objects that is written.
    pub format: ReportFormat,
    /// Time between the end of a round through the cluster and the next one.
    #[serde(serialize_with = "compact")]
    pub pause: SignedDuration,
    /// How long a verdict counts before its workload is judged again although nothing has changed: a tag may lead to another image.
    #[serde(serialize_with = "compact")]
    pub refresh: SignedDuration,
    /// Most requests to the API server in a second.
    pub requests_per_second: u32,
    /// Most pods and templates that are judged in a second, which bounds the look-ups of images.
    pub judged_per_second: u32,
    /// Most results in one report.
    pub max_results: usize,
}

impl Default for ReportOptions {
    /// A round of 10 000 pods and templates that are all different takes nine minutes.
    fn default() -> Self {
        Self {
            enabled: false,
            format: ReportFormat::default(),
            pause: SignedDuration::from_mins(10),
            refresh: SignedDuration::from_hours(6),
            requests_per_second: 10,
            judged_per_second: 20,
            max_results: 200,
        }
    }
}

impl ReportOptions {
    /// The field whose value cannot be used, with the value, and what to write instead.
    pub fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let second = SignedDuration::from_secs(1);
        if self.pause < second {
            return Some(("pause", format!("{:#}", self.pause), "one second is the least"));
        }
        if self.refresh < second {
            return Some(("refresh", format!("{:#}", self.refresh), "one second is the least"));
        }
        let once = "at least one; `reports.enabled: false` writes no reports";
        for (field, value) in
            [("requestsPerSecond", self.requests_per_second), ("judgedPerSecond", self.judged_per_second)]
        {
            if !(1..=1000).contains(&value) {
                let cure = if value == 0 { once } else { "1000 is the most" };
                return Some((field, value.to_string(), cure));
            }
        }
        if !(1..=MOST_RESULTS).contains(&self.max_results) {
            return Some(("maxResults", self.max_results.to_string(), "write a number from 1 to 1000"));
        }
        None
    }
}

/// The kind of objects that is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportFormat {
    /// `Report` and `ClusterReport` of `openreports.io/v1alpha1`.
    #[default]
    OpenReports,
    /// `PolicyReport` and `ClusterPolicyReport` of `wgpolicyk8s.io/v1alpha2`
    /// (`kubernetes-sigs/wg-policy-prototypes:policy-report/crd/v1alpha2`).
    WgPolicy,
}

impl ReportFormat {
    /// The kind of a report in a namespace.
    pub(super) fn report(self) -> ApiResource {
        match self {
            Self::OpenReports => resource("openreports.io", "v1alpha1", "Report", "reports"),
            Self::WgPolicy => resource("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports"),
        }
    }

    /// The kind of the report on the cluster.
    pub(super) fn cluster_report(self) -> ApiResource {
        match self {
            Self::OpenReports => resource("openreports.io", "v1alpha1", "ClusterReport", "clusterreports"),
            Self::WgPolicy => {
                resource("wgpolicyk8s.io", "v1alpha2", "ClusterPolicyReport", "clusterpolicyreports")
            }
        }
    }

    /// Whether a report names its source as a whole; else each result does alone.
    pub(super) const fn has_source(self) -> bool {
        matches!(self, Self::OpenReports)
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: format!("{group}/{version}"),
        kind: kind.into(),
        plural: plural.into(),
    }
}
