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
    findings.extend(tally.left.iter().map(|said| Finding::new(Outcome::Error, SOURCE, "not-judged", said)));
    let further = tally.passed_over.saturating_sub(tally.left.len());
    if further > 0 {
        let said = format!("the same {further} times more; `wasmgate scan` lists all");
        findings.push(Finding::new(Outcome::Error, SOURCE, "not-judged", &said));
    }
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
    let mut object = body(NAME, &findings, options.format.has_source(), options.max_results);
    set(&mut object, "metadata", json!({"name": NAME, "labels": {MANAGED_BY.0: MANAGED_BY.1}}));
    set_kind(&mut object, &options.format.cluster_report());
    Document { name: NAME.into(), object }
}

#[cfg(test)]
mod tests {
    use super::super::basis::tests::{NOW, at, state};
    use super::*;
    use crate::cluster::Cluster;

    #[tokio::test]
    async fn what_was_passed_over_is_said_and_no_more_of_it_than_fits() {
        let state = state(Cluster::default(), Vec::new()).await;
        let results = |tally: &Tally| {
            let object = report(tally, &state, at(NOW), &ReportOptions::default()).object;
            object["results"].as_array().unwrap().clone()
        };
        let mut tally = Tally::default();
        assert_eq!(results(&tally)[0]["result"], "pass");
        for number in 0..30 {
            tally.leave(format!("Pod shop/{number}: it is too large"));
        }
        let said = results(&tally);
        assert!(said.iter().all(|result| result["result"] == "error" && result["rule"] == "not-judged"));
        assert_eq!((said.len(), &said[0]["message"]), (21, &json!("Pod shop/0: it is too large")));
        assert_eq!(said[20]["message"], "the same 10 times more; `wasmgate scan` lists all");
    }
}
