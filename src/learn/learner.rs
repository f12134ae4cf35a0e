//! The task that decides when there is a round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, sleep};

use super::ledger::Ledger;
use super::options::LearnOptions;
use super::round::{Rounds, Scope, Tally};
use super::store::Store;
use crate::admission::Gate;
use crate::audit::UsageRound;
use crate::register::{Leadership, task};

/// How often it is looked whether there is anything to do.
const TICK: Duration = Duration::from_secs(1);

/// Pause after a panic.
const AFTER_PANIC: Duration = Duration::from_mins(1);

/// Learns for as long as it runs, while this replica is the writer.
pub struct Learner {
    client: Client,
    gate: Arc<Gate>,
    /// Whether the cluster's RuntimeClasses are known.
    is_synced: Arc<AtomicBool>,
    rounds: Rounds,
    /// What is known; `None` before the objects of the cluster were read.
    ledger: Option<Ledger>,
    /// When the next round is.
    due: Instant,
    told: Vec<String>,
}

impl std::fmt::Debug for Learner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learner")
            .field("rounds", &self.rounds)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

impl Learner {
    /// For the cluster of this client. `is_synced` becomes true once the gate knows the cluster. No write takes longer than `request`, so
    /// that it ends within the term of the Lease.
    pub fn new(
        client: Client,
        gate: Arc<Gate>,
        leadership: Leadership,
        is_synced: Arc<AtomicBool>,
        (options, request): (LearnOptions, Duration),
    ) -> Self {
        let store = Store::new(client.clone(), leadership.clone(), request);
        let rounds = Rounds { options, store, leadership };
        Self { client, gate, is_synced, rounds, ledger: None, due: Instant::now(), told: Vec::new() }
    }

    /// Never returns.
    pub async fn run(mut self) {
        loop {
            sleep(TICK).await;
            if !self.rounds.leadership.holds() || !self.is_synced.load(Ordering::Relaxed) {
                // Another replica goes on with what is in the objects.
                self.ledger = None;
                continue;
            }
            if Instant::now() >= self.due {
                self.look_safely().await;
            }
        }
    }

    /// Does what is due.
    async fn look_safely(&mut self) {
        self.due = Instant::now() + self.rounds.options.pause();
        let looked = task::survived(self.look()).await;
        if looked.is_none() {
            self.recover();
        }
    }

    /// After a panic: notes it, forgets what may be in disorder, and goes on after a pause.
    fn recover(&mut self) {
        self.ledger = None;
        self.due = Instant::now() + AFTER_PANIC.max(self.rounds.options.pause());
        self.gate.metrics().usage_round(&UsageRound { is_incomplete: true, ..UsageRound::default() });
        self.tell(vec![task::DEFECT.to_owned()]);
    }

    async fn look(&mut self) {
        let mut tally = Tally::default();
        let known = match self.ledger.take() {
            Some(known) => Ok(known),
            None => self.rounds.load(&self.client, &mut tally).await,
        };
        let (mut images, mut said) = (0, 0);
        match known {
            Ok(mut ledger) => {
                let state = self.gate.state();
                let runtime_of = |class: &str| state.profile_of(class).map(|profile| profile.name.clone());
                let is_exempt = |namespace: &str| state.exempt_namespaces.contains(namespace);
                let scope = Scope { runtime_of: &runtime_of, is_exempt: &is_exempt };
                self.rounds.round(&self.client, scope, &mut ledger, &mut tally).await;
                (images, said) = (ledger.images(), ledger.said());
                self.ledger = Some(ledger);
            }
            Err(problem) => tally.problems.push(problem),
        }
        let Tally { sampled, written, deleted, failed, problems } = tally;
        let is_incomplete = !problems.is_empty();
        self.gate.metrics().usage_round(&UsageRound {
            sampled,
            written,
            deleted,
            failed,
            images,
            said,
            is_incomplete,
        });
        tracing::debug!(sampled, written, deleted, failed, images, said, "looked at what images use");
        self.tell(problems);
    }

    /// Logs problems that were not there in the round before.
    fn tell(&mut self, problems: Vec<String>) {
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            tracing::warn!(%problem, "cannot learn all that images use");
        }
        self.told = problems;
    }
}
