//! Scans of the cluster for the page: one at a time, begun when the page is read and the last one has become old, and kept as the page that is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::admission::Gate;
use crate::cli::scan::cluster::{self, Pace};
use crate::cli::scan::html::{self, PageParts};
use crate::cli::suggest;
use crate::scan::bounds::Budget;
use crate::scan::{Collector, Filter, Judge, Progress};

/// A few objects are judged at a time, so that the reviews find a processor; and the gate has to have memory for its reviews too, however
/// large the objects are.
const PACE: Pace = Pace {
    together: 4,
    bytes: 512 << 10,
    largest: 512 << 10,
    cure: "`wasmgate scan --namespace` judges it",
    rests: true,
    most: 50_000,
};
/// What the page is made of, without what the gate leaves alone: some twenty thousand workloads that all differ.
const BUDGET: Budget = Budget {
    bytes: Budget::OF_SERVER,
    cure: "what was found before takes as much memory as this page may, or half of that in one namespace; `wasmgate scan` reads all of \
           them, and with `--namespace` those of one namespace",
};
/// Longest time for a scan.
const SCAN_WITHIN: Duration = Duration::from_mins(30);
/// Longest time to look at the images of one object.
const JUDGE_WITHIN: Duration = Duration::from_secs(10);
/// How long a reader waits for the first scan.
const FIRST_WITHIN: Duration = Duration::from_secs(20);
/// Shortest time between two scans, whatever became of them.
const PAUSE: Duration = Duration::from_secs(30);
/// Largest page that is kept, in bytes.
pub const LARGEST_PAGE: usize = 64 << 20;

/// Why there can be no scan yet, if there is a reason.
pub type Ready = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// A scan as a page in parts.
#[derive(Debug, Clone)]
pub struct ScannedPage {
    /// Up to the last line of the head.
    pub opening: Bytes,
    /// What was found.
    pub found: Bytes,
    /// The end.
    pub closing: Bytes,
    /// When the scan was begun.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// How the scans are.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The last that was finished, and when it was begun.
    pub(super) page: Option<(Arc<ScannedPage>, Instant)>,
    /// Why the one after that failed.
    pub failed: Option<String>,
    /// Whether one is under way.
    pub runs: bool,
    /// When the last one was begun.
    pub(super) begun: Option<Instant>,
}

/// Makes scans of a gate's cluster, by what the gate judges by.
pub struct Scans {
    gate: Arc<Gate>,
    client: Client,
    refresh_after: Duration,
    ready: Ready,
    shown: watch::Sender<Shown>,
}

impl std::fmt::Debug for Scans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scans").field("refresh_after", &self.refresh_after).finish_non_exhaustive()
    }
}

impl Scans {
    /// No scan yet.
    pub fn new(gate: Arc<Gate>, client: Client, refresh_after: Duration, ready: Ready) -> Arc<Self> {
        Arc::new(Self { gate, client, refresh_after, ready, shown: watch::Sender::default() })
    }

    /// The last scan, with how the scans are. Begins another one if that is old. Waits only for the first one, and not for ever.
    pub async fn latest(self: &Arc<Self>) -> Result<(Arc<ScannedPage>, Shown), String> {
        (self.ready)()?;
        self.begin_if_due();
        let mut shown = self.shown.subscribe();
        let there = shown.wait_for(|shown| shown.page.is_some() || !shown.runs);
        let Ok(Ok(shown)) = timeout(FIRST_WITHIN, there).await else {
            return Err("the first scan of the cluster is under way; come again".to_owned());
        };
        match (&shown.page, &shown.failed) {
            (Some((page, _)), _) => Ok((Arc::clone(page), shown.clone())),
            (None, Some(why)) => Err(format!("the scan of the cluster failed: {why}")),
            (None, None) => Err("the cluster was not scanned yet; come again".to_owned()),
        }
    }

    fn begin_if_due(self: &Arc<Self>) {
        let begins = self.shown.send_if_modified(|shown| {
            let age = shown.page.as_ref().map(|(_, begun)| begun.elapsed());
            let rested = shown.begun.is_none_or(|begun| begun.elapsed() >= PAUSE);
            let is_due = !shown.runs && rested && age.is_none_or(|age| age >= self.refresh_after);
            if is_due {
                (shown.runs, shown.begun) = (true, Some(Instant::now()));
            }
            is_due
        });
        if begins {
            tokio::spawn(Arc::clone(self).run());
        }
    }

    /// Scans, and notes how it ended. The scan is a task of its own, so that its end is noted however it ends.
    async fn run(self: Arc<Self>) {
        let begun = Instant::now();
        let mut work = tokio::spawn(Arc::clone(&self).scanned());
        let ended = match timeout(SCAN_WITHIN, &mut work).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => Err("the gate failed at it; see its log, and report it as a defect".to_owned()),
            Err(_) => {
                work.abort();
                Err(format!("it took longer than {} min", SCAN_WITHIN.as_secs() / 60))
            }
        };
        if let Err(problem) = &ended {
            tracing::warn!(%problem, "the scan for the page failed");
        }
        self.shown.send_modify(|shown| {
            shown.runs = false;
            match ended {
                Ok(page) => (shown.page, shown.failed) = (Some((Arc::new(page), begun)), None),
                Err(problem) => shown.failed = Some(problem),
            }
        });
    }

    async fn scanned(self: Arc<Self>) -> Result<ScannedPage, String> {
        let (at, begun) = (Timestamp::now(), Instant::now());
        let basis = self.gate.basis();
        let judge = Judge {
            state: Arc::clone(&basis.state),
            inspector: Arc::clone(&basis.inspector),
            budget: JUDGE_WITHIN,
            cure: "a later scan may find its images in memory",
            suggest: suggest::grants,
        };
        let filter = Filter { counts_plain: true, ..Filter::default() };
        let mut collector = Collector::new(judge, filter, None, false, Arc::new(Untold)).within(BUDGET);
        let read = cluster::read(&self.client, &[], &mut collector, &basis.state.kinds, PACE).await;
        read.map_err(|error| error.message())?;
        let page = tokio::task::spawn_blocking(move || html::in_parts(&collector.finish(), false, at));
        let PageParts { opening, found, closing } = page.await.map_err(|error| error.to_string())?;
        let (size, most) = (opening.len() + found.len() + closing.len(), LARGEST_PAGE >> 20);
        if size > LARGEST_PAGE {
            return Err(format!("it found more than a page of {most} MiB; ask `wasmgate scan --namespace`"));
        }
        let took = begun.elapsed();
        tracing::info!(bytes = size, seconds = took.as_secs(), "scanned the cluster for the page");
        Ok(ScannedPage { opening: opening.into(), found: found.into(), closing: closing.into(), at, took })
    }
}

/// A scan that is not watched.
#[derive(Debug)]
struct Untold;

impl Progress for Untold {
    fn seen(&self) {}
    fn judged(&self) {}
}
