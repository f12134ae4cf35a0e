//! The report on the cluster: whether all of it was read, how it came out, and which grants for all namespaces have ended. Pure.

use jiff::Timestamp;
use serde_json::json;

use super::document::{Document, Finding, MANAGED_BY, Outcome, SOURCE, body, set, set_kind};
use super::options::ReportOptions;
use super::tally::Tally;
use crate::admission::State;

/// Its name.
pub const NAME: &str = "wasmgate";

/// The namespace at which a round goes on that another replica began.
pub const RESUME_AT: &str = "wasmgate.dev/resume-at";

/// The report after a round through the whole cluster.
pub fn report(tally: &Tally, state: &State, now: Timestamp, options: &ReportOptions) -> Document {
    let mut findings: Vec<Finding> =
        tally.problems.iter().map(|problem| Finding::new(Outcome::Error, SOURCE, "scan", problem)).collect();
    if findings.is_empty() {
        let said = "every pod and pod template was read";
        findings.push(Finding::new(Outcome::Pass, SOURCE, "scan", said));
    }
    if let Some(first) = findings.first_mut() {
        let counts: Vec<_> =
            tally.outcomes.iter().map(|(outcome, count)| (*outcome, count.to_string())).collect();
        let properties: Vec<_> =
            counts.iter().map(|(outcome, count)| (*outcome, Some(count.as_str()))).collect();
        *first = first.clone().with(&properties);
    }
    for grant in state.grants.expired(now).filter(|grant| grant.namespace().is_none()) {
        let said = format!("{} has expired and covers nothing; renew it or delete it", grant.label());
        let label = grant.label();
        findings.push(
            Finding::new(Outcome::Warn, SOURCE, "expired-grant", &said)
                .with(&[("grant", Some(label.as_str()))]),
        );
    }
    let mut object = body(&findings, options.format.has_source(), options.max_results);
    set(&mut object, "metadata", json!({"name": NAME, "labels": {MANAGED_BY.0: MANAGED_BY.1}}));
    set_kind(&mut object, &options.format.cluster_report());
    Document { name: NAME.into(), object }
}
