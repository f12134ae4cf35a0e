//! Keeps one bundle up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;

use super::fetch::Fetcher;
use super::fetched::Fetched;
use super::kept::Record;
use super::options::BundleSource;
use super::{BundleStatus, Error, Kept, Statuses, blocking};
use crate::policy::{self, Bundle, Contents, Engine, Limits, Loaded, Trust};
use crate::registry::Registry;
use crate::text;

/// Longest time between two tries of a source that fails.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// When a bundle that could not be used is tried again although nothing has changed: the reason may have been the machine.
const TRY_AGAIN: Duration = Duration::from_mins(5);
/// Bound on one fetch, beyond what the source was allowed to hold back its answer.
const FETCH: Duration = Duration::from_mins(2);
/// The same at the start where a bundle was kept: probes of the start do not wait for long.
const FETCH_BESIDE_KEPT: Duration = Duration::from_secs(20);
/// Most characters of an error in the status and the log: much of it may be foreign text.
const MOST_ERROR: usize = 2000;

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
    /// What it begins with, until that is in force.
    first: Option<First>,
}

/// A bundle that is ready, and what is to be kept of it.
#[derive(Debug)]
struct Ready {
    loaded: Loaded,
    record: Record,
    contents: Contents,
}

/// A first bundle that is not in force yet.
#[derive(Debug)]
struct First {
    ready: Ready,
    /// Why it is not the source's.
    error: Option<Error>,
    /// What was kept, where that is another bundle.
    kept: Option<(Record, Contents)>,
}

impl Follower {
    /// A follower of this source.
    pub fn new(source: BundleSource, terms: Terms, registry: Option<&Registry>) -> Result<Self, Error> {
        let (name, fetcher) = (source.name(), Fetcher::new(&source, registry)?);
        let version = String::new();
        Ok(Self { source, name, terms, fetcher, version, failed: None, newest: None, first: None })
    }

    /// The bundle as the source has it now; without the help of what was kept.
    pub async fn once(mut self) -> Result<Bundle, Error> {
        match asked(&mut self.fetcher, &self.source, "", FETCH).await? {
            Fetched::New { contents, .. } => Ok(self.verified(contents).await?.0),
            Fetched::Unchanged | Fetched::Waiting => Err(self.nothing()),
        }
    }

    /// The first bundle: what the source has, or else what was kept. The error is the source's. It is neither in force nor kept
    /// before [`Follower::begin`].
    pub async fn start(&mut self) -> Result<Loaded, Error> {
        self.newest = self.recalled_newest().await?;
        let kept = self.kept().await;
        let version = kept.as_ref().map(|(record, _)| record.version.clone()).unwrap_or_default();
        let known = self.fetcher.known(&version).to_owned();
        let bound = if kept.is_some() { FETCH_BESIDE_KEPT } else { FETCH };
        let error = match asked(&mut self.fetcher, &self.source, &known, bound).await {
            Ok(Fetched::New { contents, version }) => match self.open(contents, version).await {
                Ok(ready) => return Ok(self.starts_with(First { ready, error: None, kept })),
                Err(error) => Some(error),
            },
            Ok(Fetched::Unchanged) if kept.is_some() => None,
            Ok(Fetched::Unchanged | Fetched::Waiting) => Some(self.nothing()),
            Err(error) => Some(error),
        };
        match self.reopened(kept).await {
            Some(ready) => Ok(self.starts_with(First { ready, error, kept: None })),
            None => Err(error.unwrap_or_else(|| self.nothing())),
        }
    }

    /// What was kept, where the first bundle is another one: the one to begin with if the first does not fit. Nothing changes
    /// before [`Follower::fall_back`].
    pub async fn alternative(&mut self) -> Option<Loaded> {
        let kept = self.first.as_mut()?.kept.take();
        let ready = self.reopened(kept).await?;
        let loaded = ready.loaded.clone();
        self.first.as_mut()?.kept = Some((ready.record, ready.contents));
        Some(loaded)
    }

    /// Begins with this [`Follower::alternative`], for this reason.
    pub fn fall_back(&mut self, loaded: Loaded, message: String) {
        let error = Error::SwapBundle { bundle: self.name.clone(), message };
        if let Some((record, contents)) = self.first.as_mut().and_then(|first| first.kept.take()) {
            let ready = Ready { loaded, record, contents };
            self.first = Some(First { ready, error: Some(error), kept: None });
        }
    }

    /// Says that the first bundle is in force, and keeps it.
    pub async fn begin(&mut self, statuses: &Statuses) {
        let Some(First { ready, error, .. }) = self.first.take() else { return };
        let mut status = self.status(&ready.loaded);
        status.is_kept = error.is_some();
        status.error = error.as_ref().map(said);
        status.failures = u64::from(error.is_some());
        if let Some(error) = &status.error {
            tracing::warn!(bundle = self.name, error, "using the policy bundle that was kept on disk");
        } else {
            status.checked = Some(Timestamp::now());
        }
        statuses.set(status);
        self.in_force(ready).await;
    }

    fn starts_with(&mut self, first: First) -> Loaded {
        let loaded = first.ready.loaded.clone();
        self.first = Some(first);
        loaded
    }

    /// What was kept, if it can be used.
    async fn reopened(&self, kept: Option<(Record, Contents)>) -> Option<Ready> {
        let (record, contents) = kept?;
        match self.open(contents, record.version).await {
            Ok(ready) => Some(ready),
            Err(error) => {
                let error = said(&error);
                tracing::warn!(
                    bundle = self.name,
                    error,
                    "the policy bundle that was kept on disk is not used"
                );
                None
            }
        }
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
                    self.report(&said(&error), &statuses);
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
        let bound = FETCH.saturating_add(self.source.long_poll);
        match asked(&mut self.fetcher, &self.source, &self.version, bound).await? {
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
        let (bundle, contents) = self.verified(contents).await?;
        self.no_roll_back(&bundle)?;
        let loaded = Loaded::open(&self.terms.engine, bundle, self.terms.limits).await?;
        let record =
            Record { name: self.name.clone(), from: self.source.shown(), version, ..Record::default() };
        Ok(Ready { loaded, record, contents })
    }

    /// The bundle of these files, if its signature is right.
    async fn verified(&self, contents: Contents) -> Result<(Bundle, Contents), Error> {
        let (name, trust, signers) =
            (self.name.clone(), Arc::clone(&self.terms.trust), self.source.signers());
        blocking(&self.name, move || {
            trust.verify(&name, &signers, &contents)?;
            Ok((Bundle::of(&name, &contents)?, contents))
        })
        .await
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
                error = said(&error),
                "a restart would not find the policy bundle"
            );
        }
    }

    /// The highest sequence that was in force before this process. That it cannot be read does not mean that there was none.
    async fn recalled_newest(&self) -> Result<Option<u64>, Error> {
        let Some(kept) = self.terms.kept.clone() else { return Ok(None) };
        let name = self.name.clone();
        let found = spawn_blocking(move || kept.newest(&name)).await;
        let failed = |error: tokio::task::JoinError| policy::Error::StartModule {
            bundle: self.name.clone(),
            reason: error.to_string(),
        };
        match found.map_err(failed)? {
            Err(_) if self.source.allow_rollback => Ok(None),
            found => found,
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

/// What the source says, unless it takes too long.
async fn asked(
    fetcher: &mut Fetcher,
    source: &BundleSource,
    version: &str,
    bound: Duration,
) -> Result<Fetched, Error> {
    let late = |_| {
        let message = format!("the bundle was not there after {} seconds", bound.as_secs());
        Error::FetchBundle { bundle: source.name(), from: source.shown(), message }
    };
    tokio::time::timeout(bound, fetcher.fetch(version)).await.map_err(late)?
}

/// An error for people, of a bounded length.
fn said(error: &Error) -> String {
    text::excerpt(&text::chain(error), MOST_ERROR)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn follower(source: BundleSource, kept: Option<Kept>) -> Follower {
        let (engine, limits) = (Engine::new().unwrap(), Limits::default());
        Follower::new(source, Terms { engine, limits, trust: Arc::default(), kept }, None).unwrap()
    }

    #[tokio::test]
    async fn a_source_that_does_not_answer_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let from = format!("http://{}/rules.tar.gz", silent.local_addr().unwrap());
        let source = BundleSource { plain_http: true, ..BundleSource::of(from) };
        let mut fetcher = Fetcher::new(&source, None).unwrap();
        let found = asked(&mut fetcher, &source, "", Duration::from_millis(50)).await;
        assert!(found.unwrap_err().to_string().contains("the bundle was not there after"));
    }

    #[tokio::test]
    async fn a_start_does_not_forget_the_newest_sequence_where_its_record_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path());
        let source = BundleSource::of("rules.tar.gz");
        let contents = [("policy.wasm", b"\0asm".as_slice())].into_iter().collect();
        let record = Record { name: "rules".into(), newest: Some(7), ..Record::default() };
        kept.keep(record, &contents).unwrap();
        assert_eq!(follower(source.clone(), Some(kept.clone())).recalled_newest().await.unwrap(), Some(7));
        for file in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::write(file.unwrap().path(), "{").unwrap();
        }
        let damaged = follower(source.clone(), Some(kept.clone())).recalled_newest().await.unwrap_err();
        assert!(damaged.to_string().contains("allowRollback"), "{damaged}");
        let allowed = BundleSource { allow_rollback: true, ..source };
        assert_eq!(follower(allowed, Some(kept)).recalled_newest().await.unwrap(), None);
    }
}
