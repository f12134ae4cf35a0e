//! The task that decides when there is a round, and through what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::time::{Instant, sleep};

use super::basis::{Basis, Change};
use super::cluster_report;
use super::kept::Kept;
use super::options::ReportOptions;
use super::pace::Pace;
use super::place::Place;
use super::round::{Ended, Rounds, Scope};
use super::store::Store;
use crate::admission::{Basis as GateBasis, Gate};
use crate::audit::ReportRound;
use crate::register::{Leadership, task};
use crate::shares::beside;

/// How often it is looked whether there is anything to do. Changes that come one after the other are taken together so.
const TICK: Duration = Duration::from_secs(1);

/// Longest time from one look at the state to the next: what expires makes no event.
const STALE: Duration = Duration::from_secs(30);

/// Longest pause after such a round, so that what failed is tried again.
const SOON: Duration = Duration::from_mins(1);

/// Least time after a round that could not read or write everything.
const AFTER_PROBLEMS: Duration = Duration::from_secs(10);

/// Writes reports for as long as it runs, while this replica is the writer.
pub struct Reporter {
    client: Client,
    gate: Arc<Gate>,
    /// Whether the cluster's grants and RuntimeClasses are known.
    is_synced: Arc<AtomicBool>,
    rounds: Rounds,
    /// What the last round went by.
    last: Option<Basis>,
    /// When the next whole round is due.
    due: Instant,
    /// Where it begins.
    from: Place,
    /// Not before this.
    rest: Instant,
    told: Vec<String>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter")
            .field("rounds", &self.rounds)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

impl Reporter {
    /// A reporter for the cluster of this client. `is_synced` becomes true once the gate knows the cluster. No write takes longer than
    /// `request`, so that it ends within the term of the Lease.
    pub fn new(
        client: Client,
        gate: Arc<Gate>,
        leadership: Leadership,
        is_synced: Arc<AtomicBool>,
        (options, request): (ReportOptions, Duration),
    ) -> Self {
        let rounds = Rounds {
            options,
            store: Store::new(client.clone(), options.format, leadership.clone(), request),
            leadership,
            kept: Kept::default(),
            requests: Pace::of(options.requests_per_second),
            judging: Pace::of(options.judged_per_second),
        };
        let now = Instant::now();
        let (last, from, told) = (None, Place::default(), Vec::new());
        Self { client, gate, is_synced, rounds, last, due: now, from, rest: now, told }
    }

    /// Never returns.
    pub async fn run(mut self) {
        let (mut leads, mut seen) = (false, None);
        loop {
            sleep(TICK).await;
            if !self.rounds.leadership.holds() || !self.is_synced.load(Ordering::Relaxed) {
                leads = false;
                continue;
            }
            if !leads {
                leads = self.begin().await;
                seen = None;
                continue;
            }
            let gate = self.gate.basis();
            // A state is made of parts that are shared, so it is a new one exactly where something has changed.
            let is_same = seen.as_ref().is_some_and(|(of, at): &(Arc<GateBasis>, Instant)| {
                Arc::ptr_eq(of, &gate) && at.elapsed() < STALE
            });
            if (is_same && Instant::now() < self.due) || Instant::now() < self.rest {
                continue;
            }
            seen = Some((Arc::clone(&gate), Instant::now()));
            self.look_safely(&gate).await;
        }
    }

    /// Does what is due.
    async fn look_safely(&mut self, gate: &GateBasis) {
        let looked = task::survived(self.look(gate)).await;
        if looked.is_none() {
            self.recover();
        }
    }

    /// After a panic: notes it, forgets what may be in disorder, and has another whole round after a pause.
    fn recover(&mut self) {
        self.rounds.kept = Kept::default();
        let now = Instant::now();
        (self.last, self.from, self.due, self.rest) = (None, Place::default(), now + SOON, now + SOON);
        self.gate.metrics().report_round(&ReportRound { is_incomplete: true, ..ReportRound::default() });
        self.tell(&[task::DEFECT.to_owned()]);
    }

    /// Becomes the writer: goes on where another one stopped.
    async fn begin(&mut self) -> bool {
        if Instant::now() < self.rest {
            return false;
        }
        let at = match self.rounds.store.check_definitions().await {
            Ok(()) => self.rounds.store.resume_at().await,
            Err(problem) => Err(problem),
        };
        match at {
            Ok(at) => {
                let resumes = at.is_some();
                self.from = Place(at.unwrap_or_default());
                (self.last, self.due) = (None, Instant::now());
                tracing::info!(resumes, from = %self.from.0, "this replica writes the reports now");
                true
            }
            Err(problem) => {
                self.rest = Instant::now() + AFTER_PROBLEMS;
                self.gate
                    .metrics()
                    .report_round(&ReportRound { is_incomplete: true, ..ReportRound::default() });
                self.tell(&[problem]);
                false
            }
        }
    }

    /// Does what is due.
    async fn look(&mut self, gate: &GateBasis) {
        // In proportion to all namespaces and grants.
        let basis = beside(|| Basis::of(&gate.state, gate.inspector.generation(), Timestamp::now()));
        let change = self.last.as_ref().map_or(Change::Everything, |last| basis.change_since(last));
        let scope = match change {
            _ if Instant::now() >= self.due => Scope::From(std::mem::take(&mut self.from)),
            Change::Everything => Scope::From(Place::default()),
            Change::Namespaces(some) => Scope::Namespaces(some),
            Change::Nothing => return,
        };
        let start = Instant::now();
        let mut ended = self.rounds.round(&self.client, gate, &basis, scope.clone()).await;
        let is_whole = scope == Scope::From(Place::default()) && ended.came_through;
        if is_whole {
            self.close(&mut ended, gate).await;
        }
        self.plan(&scope, &ended, basis);
        self.tell(&ended.tally.problems);
        self.say(&ended, is_whole, start.elapsed());
    }

    /// The end of a round through everything.
    async fn close(&mut self, ended: &mut Ended, gate: &GateBasis) {
        let Ended { tally, namespaces, .. } = ended;
        self.rounds.kept.retain(namespaces);
        self.rounds.store.retain(namespaces);
        let (now, options) = (Timestamp::now(), &self.rounds.options);
        let document = cluster_report::report(tally, &gate.state, now, options);
        let Rounds { store, requests, .. } = &mut self.rounds;
        store.settle_cluster(&document, requests, tally).await;
    }

    /// When the next round is, and through what.
    fn plan(&mut self, scope: &Scope, ended: &Ended, basis: Basis) {
        let pause = Duration::try_from(self.rounds.options.pause).unwrap_or_default();
        let now = Instant::now();
        let has_problems = !ended.tally.is_whole() || !ended.came_through;
        self.rest = if has_problems { now + AFTER_PROBLEMS } else { now };
        let pause = if has_problems { pause.min(SOON) } else { pause };
        match scope {
            Scope::From(first) => {
                // What came before the first namespace of a resumed round is still to be done.
                let is_whole = *first == Place::default();
                self.due = if is_whole { now + pause } else { now };
                self.last = Some(basis).filter(|_| is_whole && ended.came_through);
            }
            Scope::Namespaces(_) if has_problems => self.last = None,
            Scope::Namespaces(_) => self.last = Some(basis),
        }
    }

    /// Logs problems that were not there in the round before.
    fn tell(&mut self, problems: &[String]) {
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            tracing::warn!(%problem, "cannot keep the reports up to date");
        }
        self.told = problems.to_vec();
    }

    fn say(&self, ended: &Ended, is_whole: bool, took: Duration) {
        let tally = &ended.tally;
        let succeeded = is_whole && tally.is_whole();
        self.gate.metrics().report_round(&ReportRound {
            judged: tally.judged,
            known: tally.seen.saturating_sub(tally.judged),
            written: tally.written,
            unchanged: tally.unchanged,
            deleted: tally.deleted,
            failed: tally.failed,
            is_incomplete: !ended.came_through || !tally.is_whole(),
            succeeded: succeeded.then(Timestamp::now),
        });
        let (seconds, namespaces) = (took.as_secs(), ended.namespaces.len());
        let (seen, judged, written, unchanged) = (tally.seen, tally.judged, tally.written, tally.unchanged);
        let (deleted, failed) = (tally.deleted, tally.failed);
        if tally.is_eventful() || !ended.came_through {
            tracing::info!(
                seconds,
                namespaces,
                seen,
                judged,
                written,
                unchanged,
                deleted,
                failed,
                whole = is_whole,
                "reports"
            );
        } else {
            tracing::debug!(seconds, namespaces, seen, judged, unchanged, whole = is_whole, "reports");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::super::basis::tests::state;
    use super::super::round::tests::{Fake, client, deployment};
    use super::*;
    use crate::audit::{DecisionLogOptions, DecisionLogOutput, Labels, Metrics, Sink};
    use crate::cluster::Cluster;
    use crate::lookup::{Inspector, LookupOptions};

    async fn reporter(client: Client) -> Reporter {
        let metrics = Arc::new(Metrics::new());
        let off = DecisionLogOptions { output: DecisionLogOutput::Off, ..DecisionLogOptions::default() };
        let sink = Sink::open(&off, metrics.drops()).unwrap();
        let state = state(Cluster::default(), Vec::new()).await;
        let inspector = Inspector::new(LookupOptions::default()).unwrap();
        let labels = Labels::new("test", &[].into());
        let gate = Arc::new(Gate::new(state, inspector, sink, metrics, labels));
        let options = ReportOptions { requests_per_second: 1_000, ..ReportOptions::default() };
        let terms = (options, Duration::from_secs(5));
        Reporter::new(client, gate, Leadership::held(), Arc::new(AtomicBool::new(true)), terms)
    }

    /// What a round that is due now writes.
    async fn round(reporter: &mut Reporter, fake: &Arc<Mutex<Fake>>) -> Vec<String> {
        reporter.due = Instant::now();
        let gate = reporter.gate.basis();
        Box::pin(reporter.look(&gate)).await;
        std::mem::take(&mut fake.lock().unwrap().writes)
    }

    #[tokio::test]
    async fn a_round_that_cannot_list_pods_says_so_on_the_cluster_deletes_nothing_and_comes_again_soon() {
        let fake = Arc::new(Mutex::new(Fake::default()));
        fake.lock().unwrap().deployments = vec![deployment("shop", "orders", 1)];
        let mut reporter = reporter(client(&fake)).await;
        assert_eq!(
            round(&mut reporter, &fake).await,
            ["POST", "POST"],
            "the report, and that on the cluster"
        );
        let said = || fake.lock().unwrap().reports["wasmgate"]["results"][0].clone();
        assert_eq!(said()["result"], "pass");
        assert!(reporter.due > Instant::now() + SOON && reporter.rest <= Instant::now());
        {
            let mut fake = fake.lock().unwrap();
            (fake.deployments, fake.hides_pods) = (Vec::new(), true);
        }
        assert_eq!(round(&mut reporter, &fake).await, ["PUT"], "that on the cluster alone");
        let problem = said();
        assert_eq!((&problem["result"], &problem["rule"]), (&json!("error"), &json!("scan")));
        assert!(problem["message"].as_str().unwrap().contains("lacks list on pods"), "{problem}");
        assert_eq!(fake.lock().unwrap().reports.len(), 2, "the workload may still have pods");
        assert!(reporter.due <= Instant::now() + SOON && reporter.rest > Instant::now());
        assert!(round(&mut reporter, &fake).await.is_empty(), "it says the same");
        fake.lock().unwrap().hides_pods = false;
        assert_eq!(round(&mut reporter, &fake).await, ["DELETE", "PUT"]);
        assert_eq!(said()["result"], "pass");
    }
}
