//! Keeps one bundle up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::fetch::{Fetcher, asked};
use super::fetched::Fetched;
use super::in_force::Last;
use super::kept::{Order, Record, no_roll_back};
use super::oci::Registries;
use super::options::BundleSource;
use super::ready::{First, Opened, Ready, Unkept, Verified};
use super::terms::{Swap, Terms};
use super::{BundleStatus, Error, Poll, Statuses, blocking, warnings};
use crate::policy::{self, Bundle, Contents, Loaded};
use crate::text;

/// Longest time between two tries of a source that fails.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// When a bundle that could not be used is tried again although nothing has changed: the reason may have been the machine.
const TRY_AGAIN: Duration = Duration::from_mins(5);
/// Bound on one fetch; the time for which a server may hold back its answer (`longPoll`) comes on top.
const FETCH: Duration = Duration::from_mins(2);
/// Bound on a fetch at the start where a bundle was kept: probes of the start do not wait for long.
const FETCH_BESIDE_KEPT: Duration = Duration::from_secs(20);
/// When a bundle that could not be kept is written again at the earliest: it is packed anew each time.
const KEEP_AGAIN: Duration = Duration::from_secs(5);
/// Most characters of an error in the status and the log: much of it may be foreign text.
const MOST_ERROR: usize = 2000;

/// Keeps one bundle up to date.
#[derive(Debug)]
pub struct Follower {
    source: BundleSource,
    name: String,
    terms: Terms,
    fetcher: Fetcher,
    /// Version (`ETag`, digest or fingerprint) of the bundle that was tried last, with or without success.
    version: String,
    /// When that failed.
    failed: Option<Instant>,
    /// The highest sequence that was in force.
    newest: Option<u64>,
    /// What it begins with, until that is in force.
    first: Option<First>,
    /// Why there is no first bundle, where none is needed.
    missing: Option<String>,
    /// What is in force and could not be kept, and when that failed.
    unkept: Option<(Arc<Unkept>, Instant)>,
}

impl Follower {
    /// A follower of this source.
    pub fn new(source: BundleSource, terms: Terms, registries: Option<&Registries>) -> Result<Self, Error> {
        let (name, fetcher) = (source.name(), Fetcher::new(&source, registries)?);
        let version = String::new();
        Ok(Self {
            source,
            name,
            terms,
            fetcher,
            version,
            failed: None,
            newest: None,
            first: None,
            missing: None,
            unkept: None,
        })
    }

    /// The bundle as the source has it now; without the help of what was kept.
    pub async fn once(mut self) -> Result<Bundle, Error> {
        match asked(&mut self.fetcher, &self.source, "", FETCH).await? {
            Fetched::New { contents, .. } => Ok(self.verified(contents?).await?.bundle),
            Fetched::Unchanged | Fetched::Waiting => Err(self.nothing()),
        }
    }

    /// The first bundle: what the source has, or else what was kept. The error is the source's. It is neither in force nor kept
    /// before [`Follower::begin`]. What was kept is taken also where a bundle with a higher number was in force later, which could not be
    /// kept, unless the source itself has a lower number than that.
    pub async fn start(&mut self) -> Result<Loaded, Error> {
        self.newest = self.newest_known().await?;
        let kept = self.kept().await;
        let version = kept.as_ref().map(|(record, _)| record.version.clone()).unwrap_or_default();
        let known = self.fetcher.known(&version).to_owned();
        let bound = if kept.is_some() { FETCH_BESIDE_KEPT } else { FETCH };
        let error = match self.offered(&known, bound).await {
            Ok(Some(ready)) => return Ok(self.starts_with(First::of(ready, None, kept))),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        // What the source offers is held to the highest number, also where it says that this is what was kept.
        let may_be_behind = error.as_ref().is_some_and(|error| !matches!(error, Error::RollBack { .. }));
        let reopened = self.reopened(kept).await.filter(|ready| may_be_behind || ready.behind.is_none());
        match (reopened, error) {
            (Some(ready), error) => Ok(self.starts_with(First::of(ready, error, None))),
            (None, Some(error)) => Err(error),
            // The source has what was kept, and that cannot be used from the disk: other keys may verify it now.
            (None, None) => {
                let ready = self.offered("", FETCH).await?.ok_or_else(|| self.nothing())?;
                Ok(self.starts_with(First::of(ready, None, None)))
            }
        }
    }

    /// What the source has, opened; `None` if that is still of this version, which is not empty.
    async fn offered(&mut self, version: &str, bound: Duration) -> Result<Option<Ready>, Error> {
        match asked(&mut self.fetcher, &self.source, version, bound).await? {
            Fetched::New { contents, version } => {
                self.open(contents?, version, Opened::FromSource).await.map(Some)
            }
            Fetched::Unchanged if !version.is_empty() => Ok(None),
            Fetched::Unchanged | Fetched::Waiting => Err(self.nothing()),
        }
    }

    /// The same, for a bundle in the shadow without the error: the gate starts without it, and takes it as soon as that is possible.
    pub async fn start_if_needed(&mut self) -> Result<Option<Loaded>, Error> {
        match self.start().await {
            Err(error) if self.source.is_shadow() => {
                self.missing = Some(said(&error));
                Ok(None)
            }
            started => started.map(Some),
        }
    }

    /// What was kept, where the first bundle is another one: the one to begin with if the first does not fit. Nothing changes
    /// before [`Follower::fall_back`].
    pub async fn alternative(&mut self) -> Option<Loaded> {
        let kept = self.first.as_mut()?.kept.take();
        let ready = self.reopened(kept).await.filter(|ready| ready.behind.is_none())?;
        let loaded = ready.loaded.clone();
        self.first.as_mut()?.alternative = Some(ready);
        Some(loaded)
    }

    /// Begins with the [`Follower::alternative`], for this reason.
    pub fn fall_back(&mut self, message: String) {
        let error = Error::SwapBundle { bundle: self.name.clone(), message };
        if let Some(ready) = self.first.as_mut().and_then(|first| first.alternative.take()) {
            self.first = Some(First::of(ready, Some(error), None));
        }
    }

    /// Writes the number of the first bundle down, before it is in force.
    pub async fn reserve(&self) -> Result<(), Error> {
        match &self.first {
            // A higher one is there.
            Some(first) if first.ready.behind.is_none() => self.reserve_for(&first.ready.loaded).await,
            _ => Ok(()),
        }
    }

    /// Says that the first bundle is in force. [`Follower::follow`] keeps it.
    pub fn begin(&mut self, statuses: &Statuses) {
        let Some(First { ready, error, .. }) = self.first.take() else {
            return self.begin_without(statuses);
        };
        let mut status = self.status(&ready);
        status.is_kept = error.is_some();
        status.error = error.as_ref().map(said);
        status.failures = u64::from(error.is_some());
        if let Some(error) = &status.error {
            tracing::warn!(bundle = self.name, error, "using the policy bundle that was kept");
        } else {
            status.checked = Some(Timestamp::now());
        }
        statuses.set(status);
        self.terms.memory.in_force.keep(Arc::clone(&ready.last));
        self.in_force(ready);
    }

    fn begin_without(&self, statuses: &Statuses) {
        let status = BundleStatus::new(&self.name, &self.source.shown(), "", Timestamp::now());
        let error = self.missing.clone();
        tracing::warn!(bundle = self.name, error, "the gate starts without the policy bundle in the shadow");
        statuses.set(BundleStatus { is_shadow: true, is_missing: true, error, failures: 1, ..status });
    }

    fn starts_with(&mut self, first: First) -> Loaded {
        let loaded = first.ready.loaded.clone();
        self.first = Some(first);
        loaded
    }

    /// What was kept, if it can be used.
    async fn reopened(&self, kept: Option<(Record, Contents)>) -> Option<Ready> {
        let (record, contents) = kept?;
        match self.open(contents, record.version, Opened::FromStore).await {
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

    /// Follows the source for ever, and keeps what is in force. The source is asked at once whenever `prompts` changes.
    pub async fn follow(
        mut self,
        statuses: Arc<Statuses>,
        mut prompts: watch::Receiver<()>,
        swap: impl Swap,
    ) {
        let mut failures = 0_u32;
        self.keep(&statuses).await;
        loop {
            let pause = self.pause(failures);
            let next = SignedDuration::try_from(pause)
                .ok()
                .and_then(|pause| Timestamp::now().checked_add(pause).ok());
            statuses.change(&self.name, |status| status.poll = next.map(Poll::Due));
            if tokio::time::timeout(pause, prompted(&mut prompts)).await.is_ok() && self.failed.is_some() {
                // What it lacked may be there now, such as a rule that the configuration no longer names.
                (self.version, self.failed) = (String::new(), None);
            }
            let now = Timestamp::now();
            statuses.change(&self.name, |status| status.poll = Some(Poll::Open(now)));
            match self.renew(&statuses, &swap, &mut prompts).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.report(&said(&error), self.pause(failures), &statuses);
                }
            }
        }
    }

    /// Asks the source once, and puts what it has in force. Where the source holds back its answer, a prompt ends that; it is not
    /// taken for seen.
    async fn renew(
        &mut self,
        statuses: &Statuses,
        swap: &impl Swap,
        prompts: &mut watch::Receiver<()>,
    ) -> Result<(), Error> {
        if self.unkept.as_ref().is_some_and(|(_, failed)| failed.elapsed() >= KEEP_AGAIN) {
            self.keep(statuses).await;
        }
        if self.failed.is_some_and(|at| at.elapsed() >= TRY_AGAIN) {
            (self.version, self.failed) = (String::new(), None);
        }
        let Some(said) = self.asked_until(prompts).await? else { return Ok(()) };
        match said {
            Fetched::Unchanged => self.unchanged(statuses),
            Fetched::Waiting => {}
            Fetched::New { contents, version } => {
                self.version.clone_from(&version);
                self.failed = Some(Instant::now());
                // Another process that shares the folder may have had a higher one.
                self.newest = self.newest.max(self.newest_known().await?);
                let ready = self.open(contents?, version, Opened::FromSource).await?;
                let refused = |message| Error::SwapBundle { bundle: self.name.clone(), message };
                // What fits now is not refused any more when its number is on disk.
                let claim = self.terms.memory.in_force.claim().await;
                swap.fits(&ready.loaded).map_err(refused)?;
                self.reserve_for(&ready.loaded).await?;
                let remember = || self.terms.memory.in_force.keep(Arc::clone(&ready.last));
                swap.swap(&ready.loaded, remember).map_err(refused)?;
                drop(claim);
                self.failed = None;
                self.swapped(&ready, statuses);
                self.in_force(ready);
                self.keep(statuses).await;
            }
        }
        Ok(())
    }

    /// What the source says; `None` where it holds back its answer until there is a prompt.
    async fn asked_until(&mut self, prompts: &mut watch::Receiver<()>) -> Result<Option<Fetched>, Error> {
        let may_hold = self.fetcher.may_hold();
        let bound = FETCH.saturating_add(self.source.long_poll);
        let answer = asked(&mut self.fetcher, &self.source, &self.version, bound);
        if !may_hold {
            return answer.await.map(Some);
        }
        tokio::select! {
            said = answer => said.map(Some),
            () = prompted(prompts) => {
                prompts.mark_changed();
                Ok(None)
            }
        }
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

    fn swapped(&self, ready: &Ready, statuses: &Statuses) {
        let (revision, shadow) = (ready.loaded.revision(), self.source.is_shadow());
        tracing::info!(bundle = self.name, revision, shadow, "a new policy bundle is in force");
        let fresh = self.status(ready);
        statuses.change(&self.name, |status| {
            let (swaps, failures) = (status.swaps.saturating_add(1), status.failures);
            *status = BundleStatus { swaps, failures, checked: Some(fresh.since), ..fresh };
        });
    }

    fn report(&self, error: &str, pause: Duration, statuses: &Statuses) {
        statuses.change(&self.name, |status| {
            // Said once: a server may be away for days.
            if status.error.as_deref() != Some(error) {
                let (bundle, revision, next_try_seconds) = (&self.name, &status.revision, pause.as_secs());
                tracing::warn!(bundle, revision, error, next_try_seconds, "the policy bundle in force stays");
            }
            status.error = Some(error.into());
            status.failures = status.failures.saturating_add(1);
        });
    }

    fn status(&self, ready: &Ready) -> BundleStatus {
        let mut warnings = ready.loaded.warnings().to_vec();
        warnings.extend(ready.behind.map(|newest| warnings::behind(ready.loaded.sequence(), newest)));
        for warning in &warnings {
            tracing::warn!(bundle = self.name, "about the policy bundle: {warning}");
        }
        let status =
            BundleStatus::new(&self.name, &self.source.shown(), ready.loaded.revision(), Timestamp::now());
        BundleStatus { warnings, is_shadow: self.source.is_shadow(), ..status }
    }

    /// Compiles, checks and tries a bundle.
    async fn open(&self, contents: Contents, version: String, from: Opened) -> Result<Ready, Error> {
        let Verified { bundle, contents } = self.verified(contents).await?;
        let behind = self.newest.filter(|newest| bundle.sequence.is_none_or(|own| own < *newest));
        let behind = behind.filter(|_| !self.source.allow_rollback);
        if from == Opened::FromSource && behind.is_some() {
            no_roll_back(&self.name, behind, bundle.sequence)?;
        }
        let loaded = Loaded::open(&self.terms.engine, bundle, self.terms.limits).await?;
        let sequence = loaded.sequence();
        let newest = if self.source.allow_rollback { sequence } else { self.newest.max(sequence) };
        let (name, from) = (self.name.clone(), self.source.shown());
        let record = Record { name, from, version, newest, ..Record::default() };
        Ok(Ready { loaded, last: Arc::new(Last { record, contents }), behind })
    }

    /// The bundle of these files, if its signature is right.
    async fn verified(&self, contents: Contents) -> Result<Verified, Error> {
        let (name, trust, signers) =
            (self.name.clone(), Arc::clone(&self.terms.trust), self.source.signers());
        let memory = self.terms.limits.memory_bytes;
        let (is_shadow, judges) = (self.source.is_shadow(), self.source.judges);
        blocking(&self.name, move || {
            contents.check_data(&name, memory)?;
            let origin = trust.verify(&name, &signers, &contents)?;
            let mut bundle = Bundle::of(&name, &contents)?;
            (bundle.is_shadow, bundle.judges) = (is_shadow, judges);
            bundle.warnings = warnings::of(origin, &bundle);
            Ok(Verified { bundle, contents: contents.settled() })
        })
        .await
    }

    /// The bundle to begin with, if there is one.
    pub fn first(&self) -> Option<&Loaded> {
        self.first.as_ref().map(|first| &first.ready.loaded)
    }

    /// Whether a bundle with a lower sequence is taken.
    pub const fn allows_rollback(&self) -> bool {
        self.source.allow_rollback
    }

    /// Writes the number of a bundle down before it is in force, so that no crash makes the gate forget it.
    async fn reserve_for(&self, loaded: &Loaded) -> Result<(), Error> {
        let (Some(kept), Some(sequence)) = (self.terms.memory.kept.clone(), loaded.sequence()) else {
            return Ok(());
        };
        if self.source.allow_rollback {
            return Ok(());
        }
        kept.reserve(self.name.clone(), sequence).await
    }

    /// Goes on from a bundle that has come into force and is remembered in memory, until it is on disk.
    fn in_force(&mut self, ready: Ready) {
        let Ready { loaded, last, behind } = ready;
        let sequence = loaded.sequence();
        self.newest = last.record.newest;
        self.version.clone_from(&last.record.version);
        // What is behind was kept already, and another process may have kept a newer one since.
        if self.terms.memory.kept.is_some() && behind.is_none() {
            let order = if self.source.allow_rollback { Order::Any } else { Order::Forward(sequence) };
            self.unkept = Some((Arc::new(Unkept { last, order }), Instant::now()));
        }
    }

    /// Keeps what is in force. Where that is not possible, the status says why until it is.
    async fn keep(&mut self, statuses: &Statuses) {
        let Some((unkept, _)) = self.unkept.take() else { return };
        let Some(kept) = self.terms.memory.kept.clone() else { return };
        let (of, in_force) = (Arc::clone(&unkept), self.terms.memory.in_force.clone());
        let write = move || {
            let keep = || kept.keep(of.last.record.clone(), &of.last.contents, of.order);
            in_force.write_last(&of.last, kept.folder(), keep)
        };
        let written = spawn_blocking(write).await;
        let failed = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(said(&error)),
            Err(broken) => Some(broken.to_string()),
        };
        statuses.change(&self.name, |status| {
            if let Some(error) = failed.as_ref().filter(|error| status.unkept.as_ref() != Some(*error)) {
                tracing::warn!(bundle = self.name, error, "a restart would not find the policy bundle");
            }
            status.unkept.clone_from(&failed);
        });
        if failed.is_some() {
            self.unkept = Some((unkept, Instant::now()));
        }
    }

    /// The highest sequence that was in force, in this process or before it.
    async fn newest_known(&self) -> Result<Option<u64>, Error> {
        Ok(self.recalled_newest().await?.max(self.terms.memory.in_force.newest(&self.name)))
    }

    /// The highest sequence that was in force before this process. That it cannot be read does not mean that there was none.
    async fn recalled_newest(&self) -> Result<Option<u64>, Error> {
        let Some(kept) = self.terms.memory.kept.clone() else { return Ok(None) };
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
        let (name, from) = (self.name.clone(), self.source.shown());
        // What could not be written is newer than what was.
        if let Some(last) = self.terms.memory.in_force.recall(&name, &from) {
            return Some(last);
        }
        let kept = self.terms.memory.kept.clone()?;
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

/// Waits for the next prompt.
async fn prompted(prompts: &mut watch::Receiver<()>) {
    if prompts.changed().await.is_err() {
        // The gate is about to end.
        std::future::pending::<()>().await;
    }
}

/// An error for people, of a bounded length.
fn said(error: &Error) -> String {
    text::excerpt(&text::chain(error), MOST_ERROR)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::net::TcpListener;

    use super::super::{BundleStore, InForce, Memory};
    use super::*;
    use crate::policy::{Engine, Limits};

    fn follower(source: BundleSource, kept: Option<BundleStore>) -> Follower {
        let (engine, limits) = (Engine::new().unwrap(), Limits::default());
        Follower::new(
            source,
            Terms { engine, limits, trust: Arc::default(), memory: Memory { kept, ..Memory::default() } },
            None,
        )
        .unwrap()
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

    const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/baseline");

    /// Looks at what is remembered in the moment of a swap.
    struct Watched(InForce);

    impl Watched {
        /// Whether nothing else may bring a bundle into force.
        fn is_claimed(&self) -> bool {
            self.0.claim().now_or_never().is_none()
        }
    }

    impl Swap for Watched {
        fn fits(&self, _: &Loaded) -> Result<(), String> {
            assert!(self.is_claimed());
            Ok(())
        }

        fn swap(&self, loaded: &Loaded, done: impl FnOnce()) -> Result<(), String> {
            assert!(self.is_claimed(), "what fits could be refused now, with its number on disk");
            assert!(self.0.recall(loaded.name(), BASELINE).is_none());
            done();
            assert!(self.0.recall(loaded.name(), BASELINE).is_some());
            Ok(())
        }
    }

    /// Otherwise a reload could find an older one in that moment, and what a follower remembers late could replace what came after it.
    #[tokio::test]
    async fn a_bundle_is_remembered_while_it_is_put_in_force() {
        let mut follower = follower(BundleSource::of(BASELINE), None);
        let watched = Watched(follower.terms.memory.in_force.clone());
        let (_sender, mut prompts) = watch::channel(());
        follower.renew(&Statuses::default(), &watched, &mut prompts).await.unwrap();
        assert!(!watched.is_claimed(), "the next one may");
    }

    /// A configuration that is loaded again replaces followers, also while their threads write.
    #[tokio::test]
    async fn a_follower_that_was_replaced_keeps_nothing_in_the_place_of_what_came_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let kept = BundleStore::open(folder.path()).unwrap();
        let named = |from: String| BundleSource { name: Some("rules".into()), ..BundleSource::of(from) };
        let (former, later) = (BASELINE.to_string(), format!("{BASELINE}/"));
        let mut replaced = follower(named(former.clone()), Some(kept.clone()));
        let mut follower = follower(named(later.clone()), Some(kept.clone()));
        follower.terms.memory.in_force = replaced.terms.memory.in_force.clone();
        let statuses = Statuses::default();
        for begins in [&mut replaced, &mut follower] {
            begins.start().await.unwrap();
            begins.begin(&statuses);
        }
        follower.keep(&statuses).await;
        replaced.keep(&statuses).await;
        assert!(kept.recall("rules", &later).is_some());
        assert!(kept.recall("rules", &former).is_none());
    }

    #[tokio::test]
    async fn a_start_does_not_forget_the_newest_sequence_where_its_record_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let kept = BundleStore::open(folder.path()).unwrap();
        let source = BundleSource::of("rules.tar.gz");
        let contents = [("policy.wasm", b"\0asm".as_slice())].into_iter().collect();
        let record = Record { name: "rules".into(), newest: Some(7), ..Record::default() };
        kept.keep(record, &contents, Order::Forward(Some(7))).unwrap();
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
