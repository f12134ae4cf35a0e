//! Keeps one bundle up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;

use super::fetch::Fetcher;
use super::fetched::Fetched;
use super::kept::Record;
use super::options::BundleSource;
use super::{BundleStatus, Error, Kept, Statuses};
use crate::policy::{Bundle, Contents, Engine, Limits, Loaded, Trust};
use crate::registry::Registry;
use crate::text;

/// Longest time between two tries of a source that fails.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// When a bundle that could not be used is tried again although nothing has changed: the reason may have been the machine.
const TRY_AGAIN: Duration = Duration::from_mins(5);

/// What a bundle is loaded with.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The engine of the set that it becomes part of.
    pub engine: Engine,
    /// The limits of that set.
    pub limits: Limits,
    /// Whose bundles are taken.
    pub trust: Arc<Trust>,
    /// Where the last good bundles are kept.
    pub kept: Option<Kept>,
}

/// Keeps one bundle up to date.
#[derive(Debug)]
pub struct Follower {
    source: BundleSource,
    name: String,
    terms: Terms,
    fetcher: Fetcher,
    /// What the source knows the bundle by that was tried last, with or without success.
    version: String,
    /// When that failed.
    failed: Option<Instant>,
    /// The highest sequence that was in force.
    newest: Option<u64>,
}

/// A bundle that is ready, and what is to be kept of it.
struct Ready {
    loaded: Loaded,
    record: Record,
    contents: Contents,
}

impl Follower {
    /// A follower of this source.
    pub fn new(source: BundleSource, terms: Terms, registry: Option<&Registry>) -> Result<Self, Error> {
        let (name, fetcher) = (source.name(), Fetcher::new(&source, registry)?);
        let newest = terms.kept.as_ref().and_then(|kept| kept.newest(&name));
        Ok(Self { source, name, terms, fetcher, version: String::new(), failed: None, newest })
    }

    /// The bundle as the source has it now; without the help of what was kept.
    pub async fn once(mut self) -> Result<Bundle, Error> {
        match self.fetcher.fetch("").await? {
            Fetched::New { contents, .. } => {
                self.terms.trust.verify(&self.name, &contents)?;
                Ok(Bundle::of(&self.name, &contents)?)
            }
            Fetched::Unchanged | Fetched::Waiting => Err(self.nothing()),
        }
    }

    /// The first bundle: what the source has, or else what was kept. The error is the source's.
    pub async fn start(&mut self, statuses: &Statuses) -> Result<Loaded, Error> {
        let kept = self.kept().await;
        let version = kept.as_ref().map(|(record, _)| record.version.clone()).unwrap_or_default();
        let known = self.fetcher.known(&version).to_owned();
        let error = match self.fetcher.fetch(&known).await {
            Ok(Fetched::New { contents, version }) => match self.open(contents, version).await {
                Ok(ready) => return Ok(self.started(ready, statuses, None).await),
                Err(error) => Some(error),
            },
            Ok(Fetched::Unchanged) if kept.is_some() => None,
            Ok(Fetched::Unchanged | Fetched::Waiting) => Some(self.nothing()),
            Err(error) => Some(error),
        };
        let ready = match kept {
            Some((record, contents)) => self.open(contents, record.version).await.ok(),
            None => None,
        };
        match ready {
            Some(ready) => Ok(self.started(ready, statuses, error).await),
            None => Err(error.unwrap_or_else(|| self.nothing())),
        }
    }

    async fn started(&mut self, ready: Ready, statuses: &Statuses, error: Option<Error>) -> Loaded {
        let loaded = ready.loaded.clone();
        let mut status = self.status(&loaded);
        status.is_kept = error.is_some();
        status.error = error.as_ref().map(|error| text::chain(error));
        status.failures = u64::from(error.is_some());
        if let Some(error) = &status.error {
            tracing::warn!(bundle = self.name, error, "using the policy bundle that was kept on disk");
        } else {
            status.checked = Some(Timestamp::now());
        }
        statuses.set(status);
        self.in_force(ready).await;
        loaded
    }

    /// Follows the source for ever. `swap` puts a bundle in the place of the one before it, or says why that is not possible.
    pub async fn follow(mut self, statuses: Arc<Statuses>, swap: impl Fn(&Loaded) -> Result<(), String>) {
        let mut failures = 0_u32;
        loop {
            let pause = self.pause(failures);
            let next = SignedDuration::try_from(pause)
                .ok()
                .and_then(|pause| Timestamp::now().checked_add(pause).ok());
            statuses.change(&self.name, |status| status.next = next);
            tokio::time::sleep(pause).await;
            match self.renew(&statuses, &swap).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.report(&text::chain(&error), &statuses);
                }
            }
        }
    }

    /// Asks the source once, and puts what it has in force.
    async fn renew(
        &mut self,
        statuses: &Statuses,
        swap: &impl Fn(&Loaded) -> Result<(), String>,
    ) -> Result<(), Error> {
        if self.failed.is_some_and(|at| at.elapsed() >= TRY_AGAIN) {
            (self.version, self.failed) = (String::new(), None);
        }
        match self.fetcher.fetch(&self.version).await? {
            Fetched::Unchanged => self.unchanged(statuses),
            Fetched::Waiting => {}
            Fetched::New { contents, version } => {
                self.version.clone_from(&version);
                self.failed = Some(Instant::now());
                let ready = self.open(contents, version).await?;
                let refused = |message| Error::SwapBundle { bundle: self.name.clone(), message };
                swap(&ready.loaded).map_err(refused)?;
                self.failed = None;
                self.swapped(&ready.loaded, statuses);
                self.in_force(ready).await;
            }
        }
        Ok(())
    }

    fn unchanged(&self, statuses: &Statuses) {
        let is_bad = self.failed.is_some();
        statuses.change(&self.name, |status| {
            status.checked = Some(Timestamp::now());
            if !is_bad {
                status.error = None;
            }
        });
    }

    fn swapped(&self, loaded: &Loaded, statuses: &Statuses) {
        tracing::info!(bundle = self.name, revision = loaded.revision(), "a new policy bundle is in force");
        let fresh = self.status(loaded);
        statuses.change(&self.name, |status| {
            let (swaps, failures) = (status.swaps.saturating_add(1), status.failures);
            *status = BundleStatus { swaps, failures, checked: Some(fresh.since), ..fresh };
        });
    }

    fn report(&self, error: &str, statuses: &Statuses) {
        statuses.change(&self.name, |status| {
            // Said once: a server may be away for days.
            if status.error.as_deref() != Some(error) {
                let (bundle, revision) = (&self.name, &status.revision);
                tracing::warn!(bundle, revision, error, "the policy bundle in force stays");
            }
            status.error = Some(error.into());
            status.failures = status.failures.saturating_add(1);
        });
    }

    fn status(&self, loaded: &Loaded) -> BundleStatus {
        BundleStatus::new(&self.name, &self.source.shown(), loaded.revision(), Timestamp::now())
    }

    /// Compiles, checks and tries a bundle.
    async fn open(&self, contents: Contents, version: String) -> Result<Ready, Error> {
        self.terms.trust.verify(&self.name, &contents)?;
        let bundle = Bundle::of(&self.name, &contents)?;
        self.no_roll_back(&bundle)?;
        let loaded = Loaded::open(&self.terms.engine, bundle, self.terms.limits).await?;
        let record =
            Record { name: self.name.clone(), from: self.source.shown(), version, ..Record::default() };
        Ok(Ready { loaded, record, contents })
    }

    fn no_roll_back(&self, bundle: &Bundle) -> Result<(), Error> {
        match (self.newest, bundle.sequence) {
            (Some(newest), found)
                if found.is_none_or(|found| found < newest) && !self.source.allow_rollback =>
            {
                let found = found.map_or_else(|| "(there is none)".into(), |found| found.to_string());
                Err(Error::RollBack { bundle: self.name.clone(), found, newest })
            }
            _ => Ok(()),
        }
    }

    /// Remembers a bundle that has come into force.
    async fn in_force(&mut self, ready: Ready) {
        let Ready { loaded, mut record, contents } = ready;
        self.newest =
            if self.source.allow_rollback { loaded.sequence() } else { self.newest.max(loaded.sequence()) };
        self.version.clone_from(&record.version);
        record.newest = self.newest;
        let Some(kept) = self.terms.kept.clone() else { return };
        let written = spawn_blocking(move || kept.keep(record, &contents)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(
                bundle = self.name,
                error = text::chain(&error),
                "a restart would not find the policy bundle"
            );
        }
    }

    async fn kept(&self) -> Option<(Record, Contents)> {
        let (kept, name, from) = (self.terms.kept.clone()?, self.name.clone(), self.source.shown());
        spawn_blocking(move || kept.recall(&name, &from)).await.ok().flatten()
    }

    /// The time until the next try: longer after each failure of a server.
    fn pause(&self, failures: u32) -> Duration {
        let pause = self.fetcher.pause(&self.source);
        match &self.fetcher {
            Fetcher::Disk(_) => pause,
            Fetcher::Http(_) | Fetcher::Oci(_) => {
                let longer = pause.saturating_mul(1 << failures.min(8));
                if failures == 0 { pause } else { longer.min(LONGEST_PAUSE).max(pause) }
            }
        }
    }

    fn nothing(&self) -> Error {
        let message = "the answer is empty".into();
        Error::FetchBundle { bundle: self.name.clone(), from: self.source.shown(), message }
    }
}
