//! From an image name to facts: remembered ones, or looked up once for everybody who waits for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::cache::{Bounds, Memory, Recall};
use super::detect::{SizeLimits, detect};
use super::guard::{Guard, GuardOptions};
use super::layout::Layouts;
use super::reference::Reference;
use super::registry::{BreakerOptions, ProxyOptions, Registry, RegistryOptions};
use super::source::{Descriptor, FetchedManifest, Source};
use super::{Error, ImageFacts};

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// Manifest and config; layers only where these say that the image is Wasm.
    Config,
    /// Also the files of the root file system: the pod will run under a Wasm runtime, or its `command` names a `.wasm` file.
    Layers,
}

/// Where images come from, how long a look-up may take, and what is remembered of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Options {
    /// Folders with OCI layouts, by the registry host or `host/prefix` that they stand in for. Default: none.
    pub layouts: BTreeMap<String, PathBuf>,
    /// Which registries may be asked, and which of them by plain HTTP. Default: every one at a public address.
    pub registries: GuardOptions,
    /// PEM files with authorities that are trusted beside the system's. Default: none.
    pub ca_files: Vec<PathBuf>,
    /// A docker `config.json` with credentials, read once. Default: none, everything is asked anonymously.
    pub docker_config: Option<PathBuf>,
    /// Folder of the programs that the docker config's `credHelpers` and `credsStore` name. Default: `PATH`.
    pub credential_helpers: Option<PathBuf>,
    /// Mirrors by registry, `host[:port][/path]`, tried in order before the registry itself. A mirror may have
    /// any address, and no pod may name it unless it is on `allow` too. Default: none.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts of token services, by registry, that are given the registry's credentials although they are elsewhere.
    /// Default: none; those of Docker Hub and gitlab.com are known.
    pub token_realms: BTreeMap<String, Vec<String>>,
    /// When a registry that does not answer is left alone.
    pub breaker: BreakerOptions,
    /// The proxy that registries are asked through. Default: none, and none of the environment's.
    pub proxy: Option<ProxyOptions>,
    /// Bound on resolving a registry's name, and on opening a connection, each. Default: 3 s.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Bound on every wait for more bytes. Default: 5 s.
    #[serde(with = "duration")]
    pub read_timeout: Duration,
    /// Bound on a whole look-up. Reviews wait for their own budget only; the look-up goes on for the next one.
    /// Default: 10 s.
    #[serde(with = "duration")]
    pub lookup_timeout: Duration,
    /// Look-ups at a time, the others wait; each may hold a layer in memory. Default: 32.
    pub concurrent_lookups: usize,
    /// Memory for facts, approximately, in bytes. Default: 64 MiB.
    pub facts_bytes: u64,
    /// Memory for image names, approximately, in bytes. Default: 16 MiB.
    pub names_bytes: u64,
    /// How long a tag is taken to mean what it meant. Default: 60 s.
    #[serde(with = "duration")]
    pub tag_ttl: Duration,
    /// How long a tag may be taken to mean what it meant while its registry cannot be asked. Default: 1 h.
    #[serde(with = "duration")]
    pub stale_ttl: Duration,
    /// How long a failure is repeated without asking again. Default: 5 s.
    #[serde(with = "duration")]
    pub failure_ttl: Duration,
    /// Sizes that are refused.
    pub limits: SizeLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layouts: BTreeMap::new(),
            registries: GuardOptions::default(),
            ca_files: Vec::new(),
            docker_config: None,
            credential_helpers: None,
            mirrors: BTreeMap::new(),
            token_realms: BTreeMap::new(),
            breaker: BreakerOptions::default(),
            proxy: None,
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(5),
            lookup_timeout: Duration::from_secs(10),
            concurrent_lookups: 32,
            facts_bytes: 64 << 20,
            names_bytes: 16 << 20,
            tag_ttl: Duration::from_mins(1),
            stale_ttl: Duration::from_hours(1),
            failure_ttl: Duration::from_secs(5),
            limits: SizeLimits::default(),
        }
    }
}

/// What happened so far, for metrics. All but the last two only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Questions answered from memory.
    pub hits: u64,
    /// Questions that had to wait for a look-up, their own or one that was under way.
    pub misses: u64,
    /// Questions answered with what a tag meant before, because its registry could not be asked.
    pub stale: u64,
    /// Questions answered with a failure that was remembered.
    pub failure_hits: u64,
    /// Look-ups that asked a registry or a folder.
    pub lookups: u64,
    /// Look-ups that failed.
    pub failures: u64,
    /// Image names that are remembered now, approximately.
    pub names: u64,
    /// Digests that are remembered now, approximately.
    pub digests: u64,
}

/// Looks images up, and remembers what it saw.
pub struct Inspector {
    shared: Arc<Inner>,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Inspector {
    /// An inspector. Reads the authorities and the docker config; asks nobody yet.
    pub fn new(options: Options) -> Result<Self, Error> {
        let detect: Detect = Arc::new(|source, reference, depth, limits| {
            async move { detect(&source, &reference, depth, &limits).await }.boxed()
        });
        Self::with_detect(options, detect)
    }

    fn with_detect(options: Options, detect: Detect) -> Result<Self, Error> {
        let registry = RegistryOptions {
            ca_files: options.ca_files,
            docker_config: options.docker_config,
            credential_helpers: options.credential_helpers,
            connect_timeout: options.connect_timeout,
            read_timeout: options.read_timeout,
            breaker: options.breaker,
            mirrors: options.mirrors,
            token_realms: options.token_realms,
            proxy: options.proxy,
        };
        let registry = Registry::new(Guard::new(&options.registries)?, &registry)?;
        let memory = Memory::new(&Bounds {
            facts_bytes: options.facts_bytes,
            names_bytes: options.names_bytes,
            tag_ttl: options.tag_ttl,
            stale_ttl: options.stale_ttl,
            failure_ttl: options.failure_ttl,
        });
        let shared = Inner {
            images: Arc::new(Images { registry, layouts: Layouts::new(&options.layouts) }),
            memory,
            detect,
            limits: options.limits,
            lookup_timeout: options.lookup_timeout,
            slots: Semaphore::new(options.concurrent_lookups.clamp(1, Semaphore::MAX_PERMITS)),
            running: Mutex::default(),
            counters: Counters::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Facts about one image, from the cache or from its source, within `budget`.
    ///
    /// The first question about an image starts one look-up, which everybody else who asks waits for, and which goes
    /// on when their budgets run out. Where a registry cannot be asked, a tag means what it meant before for a while.
    pub async fn inspect(
        &self,
        image: &str,
        depth: Depth,
        budget: Duration,
    ) -> Result<Arc<ImageFacts>, Arc<Error>> {
        match self.shared.memory.recall(image, depth).await {
            Recall::Fresh(facts) => {
                count(&self.shared.counters.hits);
                Ok(facts)
            }
            Recall::Stale(facts) => Box::pin(self.shared.ask(image, depth, budget, Some(facts))).await,
            Recall::Nothing => Box::pin(self.shared.ask(image, depth, budget, None)).await,
        }
    }

    /// Facts about an image in a layout that a person named as `oci:PATH[:TAG]`. Nothing is remembered. Not for names
    /// that a pod holds: the path may be any.
    pub async fn inspect_layout(&self, target: &str, depth: Depth) -> Result<ImageFacts, Error> {
        let (layouts, reference) = Layouts::direct(target)?;
        let reading = detect(&layouts, &reference, depth, &self.shared.limits);
        let bound = self.shared.lookup_timeout;
        tokio::time::timeout(bound, reading).await.unwrap_or_else(|_| Err(timed_out(target, bound)))
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (names, digests) = self.shared.memory.sizes();
        Stats {
            hits: read(&counters.hits),
            misses: read(&counters.misses),
            stale: read(&counters.stale),
            failure_hits: read(&counters.failure_hits),
            lookups: read(&counters.lookups),
            failures: read(&counters.failures),
            names,
            digests,
        }
    }
}

type Outcome = Result<Arc<ImageFacts>, Arc<Error>>;
type Running = Shared<BoxFuture<'static, Outcome>>;
type Detect = Arc<
    dyn Fn(Primed, Reference, Depth, SizeLimits) -> BoxFuture<'static, Result<ImageFacts, Error>>
        + Send
        + Sync,
>;

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    failure_hits: AtomicU64,
    lookups: AtomicU64,
    failures: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A question that somebody waits for the answer to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    /// As it is written.
    image: Arc<str>,
    depth: Depth,
}

/// What look-ups share. They outlive the reviews that started them.
struct Inner {
    images: Arc<Images>,
    memory: Memory,
    detect: Detect,
    limits: SizeLimits,
    lookup_timeout: Duration,
    slots: Semaphore,
    running: Mutex<HashMap<Question, Running>>,
    counters: Counters,
}

impl Inner {
    /// Answers what memory alone could not. `stale` is what the name meant before.
    async fn ask(
        self: &Arc<Self>,
        image: &str,
        depth: Depth,
        budget: Duration,
        stale: Option<Arc<ImageFacts>>,
    ) -> Outcome {
        let reference = Reference::parse(image)?;
        self.images.admit(&reference)?;
        let question = Question { image: image.into(), depth };
        if let Some(facts) = self.known_digest(&question, &reference).await {
            count(&self.counters.hits);
            return Ok(facts);
        }
        if let Some(error) = self.memory.failure(&question.image, depth).await {
            count(if stale.is_some() { &self.counters.stale } else { &self.counters.failure_hits });
            return stale.ok_or(error);
        }
        count(&self.counters.misses);
        let running = self.join_or_start(question, reference);
        let outcome = tokio::time::timeout(budget, running).await;
        match outcome.unwrap_or_else(|_| Err(Arc::new(timed_out(image, budget)))) {
            Err(error) if stale.is_some() && !is_final(&error) => {
                count(&self.counters.stale);
                stale.ok_or(error)
            }
            outcome => outcome,
        }
    }

    /// Facts about the digest that the name itself holds, when another name brought them here.
    async fn known_digest(&self, question: &Question, reference: &Reference) -> Option<Arc<ImageFacts>> {
        let digest = reference.digest.as_deref()?;
        let facts = self.memory.facts(digest, question.depth).await?;
        self.memory.name(&question.image, digest, false).await;
        Some(facts)
    }

    /// The look-up that answers a question: the one under way, or a new one in a task of its own.
    fn join_or_start(self: &Arc<Self>, question: Question, reference: Reference) -> Running {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.get(&question) {
            return running.clone();
        }
        let image = question.image.clone();
        let task = tokio::spawn(Arc::clone(self).look_up(question.clone(), reference));
        let started: Running = async move {
            task.await.unwrap_or_else(|_| {
                let message = "the look-up stopped before its end; this is a bug".into();
                Err(Arc::new(Error::Read { image: image.to_string(), what: "the image".into(), message }))
            })
        }
        .boxed()
        .shared();
        running.insert(question, started.clone());
        started
    }

    async fn look_up(self: Arc<Self>, question: Question, reference: Reference) -> Outcome {
        // Dropped after everything is remembered, so that whoever no longer finds the look-up finds its result.
        let _end = EndOfLookUp { inner: &self, question: &question };
        // The asker saw an empty memory before the look-up of somebody else ended.
        if let Recall::Fresh(facts) = self.memory.recall(&question.image, question.depth).await {
            return Ok(facts);
        }
        if let Some(error) = self.memory.failure(&question.image, question.depth).await {
            return Err(error);
        }
        let bound = self.lookup_timeout;
        let read = tokio::time::timeout(bound, self.read(&question, &reference)).await;
        let outcome = read.unwrap_or_else(|_| Err(timed_out(&question.image, bound)));
        match outcome {
            Ok(facts) => Ok(facts),
            Err(error) => Err(self.remember_failure(&question, error).await),
        }
    }

    async fn remember_failure(&self, question: &Question, error: Error) -> Arc<Error> {
        count(&self.counters.failures);
        let error = Arc::new(error);
        if is_final(&error) {
            self.memory.forget(&question.image).await;
        }
        self.memory.fail(&question.image, question.depth, error.clone()).await;
        error
    }

    /// Asks the source: for the manifest, and for more only when its digest is not known.
    async fn read(&self, question: &Question, reference: &Reference) -> Result<Arc<ImageFacts>, Error> {
        let _slot = self.slots.acquire().await;
        count(&self.counters.lookups);
        // A tag that was read a moment ago is not read again for a deeper look at the same image.
        let read_before = self.memory.fresh_digest(&question.image).await;
        let asked = match &read_before {
            Some(digest) => reference.with_digest(digest),
            None => reference.clone(),
        };
        let manifest = self.images.manifest(&asked, self.limits.manifest).await?;
        let digest = manifest.digest.clone();
        let facts = match self.memory.facts(&digest, question.depth).await {
            Some(facts) => facts,
            None => self.detect(manifest, asked, question.depth).await?,
        };
        // The tag's age begins anew only where the registry was asked what the tag means.
        if read_before.is_none() {
            self.memory.name(&question.image, &digest, reference.digest.is_none()).await;
        }
        Ok(facts)
    }

    async fn detect(
        &self,
        manifest: FetchedManifest,
        reference: Reference,
        depth: Depth,
    ) -> Result<Arc<ImageFacts>, Error> {
        let digest = manifest.digest.clone();
        let primed = Primed { images: Arc::clone(&self.images), reference: reference.clone(), manifest };
        let mut facts = (self.detect)(primed, reference, depth, self.limits).await?;
        // The key of the memory and what a pod is pinned to must be what was asked for.
        facts.digest = digest;
        let facts = Arc::new(facts);
        self.memory.keep(Arc::clone(&facts), depth).await;
        Ok(facts)
    }
}

/// Takes a look-up off the list when it ends, also by a panic.
struct EndOfLookUp<'a> {
    inner: &'a Inner,
    question: &'a Question,
}

impl Drop for EndOfLookUp<'_> {
    fn drop(&mut self) {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(self.question);
    }
}

/// Whether what was known before no longer holds: the image is gone, or may not be asked for.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::FindImage { .. } | Error::RefuseRegistry { .. } | Error::ParseReference { .. })
}

fn timed_out(image: &str, bound: Duration) -> Error {
    let budget_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Error::TimedOut { image: image.to_string(), budget_ms }
}

/// Everything that images come from.
#[derive(Debug)]
struct Images {
    registry: Registry,
    layouts: Layouts,
}

impl Images {
    /// Whether an image may be looked at, as far as its name alone says. Asked also where facts are remembered, so
    /// that the answer does not depend on what others asked before.
    fn admit(&self, reference: &Reference) -> Result<(), Error> {
        if self.layouts.covers(reference) { Ok(()) } else { self.registry.guard().check_name(reference) }
    }
}

impl Source for Images {
    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        if self.layouts.covers(reference) {
            return self.layouts.manifest(reference, limit).await;
        }
        self.registry.manifest(reference, limit).await
    }

    async fn blob(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if self.layouts.covers(reference) {
            return self.layouts.blob(reference, descriptor, limit).await;
        }
        self.registry.blob(reference, descriptor, limit).await
    }
}

/// The images' source with one manifest at hand that was fetched already, so that it is not fetched twice.
struct Primed {
    images: Arc<Images>,
    reference: Reference,
    manifest: FetchedManifest,
}

impl Source for Primed {
    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        let same = (&reference.registry, &reference.repository)
            == (&self.reference.registry, &self.reference.repository);
        let by_digest = reference.digest.as_ref() == Some(&self.manifest.digest);
        if same && (*reference == self.reference || by_digest) {
            return Ok(self.manifest.clone());
        }
        self.images.manifest(reference, limit).await
    }

    async fn blob(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        self.images.blob(reference, descriptor, limit).await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use super::super::cache::tests::facts;
    use super::super::layout::tests::write;
    use super::*;

    const AMPLE: Duration = Duration::from_secs(20);
    const IMAGE: &str = "samples.test/app:v1";

    /// A folder that stands in for a registry, holding one image, and how often it was looked into.
    struct Fixture {
        root: tempfile::TempDir,
        digest: String,
        detected: Arc<AtomicUsize>,
    }

    impl Fixture {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let digest = write(&root.path().join("app"), &[("", "", "one")]).remove(0);
            Self { root, digest, detected: Arc::default() }
        }

        fn options(&self) -> Options {
            Options {
                layouts: BTreeMap::from([("samples.test".into(), self.root.path().into())]),
                tag_ttl: Duration::from_millis(50),
                failure_ttl: Duration::from_millis(100),
                ..Options::default()
            }
        }

        fn app(&self) -> std::path::PathBuf {
            self.root.path().join("app")
        }

        /// An inspector whose detection takes a while and then says what the manifest's digest is.
        fn inspector(&self, options: Options, takes: Duration) -> Inspector {
            let detected = Arc::clone(&self.detected);
            let detect: Detect = Arc::new(move |source, reference, depth, limits| {
                let detected = Arc::clone(&detected);
                async move {
                    detected.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(takes).await;
                    let manifest = source.manifest(&reference, limits.manifest).await?;
                    let mut facts = facts(&manifest.digest);
                    facts.scanned = depth == Depth::Layers;
                    Ok(facts)
                }
                .boxed()
            });
            Inspector::with_detect(options, detect).unwrap()
        }
    }

    async fn digest(inspector: &Inspector, image: &str) -> Result<String, Error> {
        let facts = inspector.inspect(image, Depth::Config, AMPLE).await;
        facts.map(|facts| facts.digest.clone()).map_err(|error| (*error).clone())
    }

    fn remove(path: &Path) {
        fs::remove_dir_all(path).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_thousand_questions_about_a_new_image_are_one_look_up() {
        let fixture = Fixture::new();
        let inspector =
            Arc::new(fixture.inspector(Options::default_with(&fixture), Duration::from_millis(30)));
        let ask = |_| {
            let inspector = Arc::clone(&inspector);
            tokio::spawn(async move { digest(&inspector, IMAGE).await.unwrap() })
        };
        let asked: Vec<_> = (0..1000).map(ask).collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), fixture.digest);
        }
        assert_eq!(fixture.detected.load(Ordering::SeqCst), 1);
        let stats = inspector.stats();
        assert_eq!((stats.lookups, stats.hits + stats.misses), (1, 1000));
    }

    impl Options {
        /// The fixture's folder with times that no test waits for.
        fn default_with(fixture: &Fixture) -> Self {
            Self { layouts: fixture.options().layouts, ..Self::default() }
        }
    }

    #[tokio::test]
    async fn a_look_up_goes_on_when_the_first_asker_has_no_more_time() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(Options::default_with(&fixture), Duration::from_millis(150));
        let start = Instant::now();
        let error = inspector.inspect(IMAGE, Depth::Config, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(*error, Error::TimedOut { image: IMAGE.into(), budget_ms: 20 });
        assert!(start.elapsed() < Duration::from_millis(120), "{:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
        inspector.inspect(IMAGE, Depth::Config, Duration::ZERO).await.unwrap();
        let stats = inspector.stats();
        assert_eq!((stats.lookups, stats.hits, stats.misses), (1, 1, 1));
    }

    #[tokio::test]
    async fn a_look_up_has_a_bound_of_its_own() {
        let fixture = Fixture::new();
        let options =
            Options { lookup_timeout: Duration::from_millis(50), ..Options::default_with(&fixture) };
        let inspector = fixture.inspector(options, AMPLE);
        let error = inspector.inspect(IMAGE, Depth::Config, AMPLE).await.unwrap_err();
        assert_eq!(*error, Error::TimedOut { image: IMAGE.into(), budget_ms: 50 });
        assert_eq!(inspector.stats().failures, 1);
    }

    #[tokio::test]
    async fn a_moved_tag_is_seen_when_its_time_is_over() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), fixture.digest);
        remove(&fixture.app());
        let moved = write(&fixture.app(), &[("", "", "two")]).remove(0);
        tokio::time::sleep(Duration::from_millis(70)).await;
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), moved);
    }

    #[tokio::test]
    async fn a_tag_that_did_not_move_costs_no_second_detection() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        for _ in 0..3 {
            digest(&inspector, IMAGE).await.unwrap();
            tokio::time::sleep(Duration::from_millis(70)).await;
        }
        assert_eq!(fixture.detected.load(Ordering::SeqCst), 1);
        assert_eq!(inspector.stats().lookups, 3);
    }

    #[tokio::test]
    async fn a_cold_look_up_fetches_the_manifest_once() {
        let fixture = Fixture::new();
        let app = fixture.app();
        let detect: Detect = Arc::new(move |source, reference, _, limits| {
            // Whatever is fetched from now on cannot come from the folder.
            let _ = fs::remove_dir_all(&app);
            async move { Ok(facts(&source.manifest(&reference, limits.manifest).await?.digest)) }.boxed()
        });
        let inspector = Inspector::with_detect(Options::default_with(&fixture), detect).unwrap();
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), fixture.digest);
    }

    #[tokio::test]
    async fn what_a_tag_meant_is_served_while_nobody_can_be_asked_and_no_longer() {
        let fixture = Fixture::new();
        let options = Options { stale_ttl: Duration::from_millis(600), ..fixture.options() };
        let inspector = fixture.inspector(options, Duration::ZERO);
        digest(&inspector, IMAGE).await.unwrap();
        remove(&fixture.app());
        tokio::time::sleep(Duration::from_millis(70)).await;
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), fixture.digest);
        assert_eq!(
            digest(&inspector, IMAGE).await.unwrap(),
            fixture.digest,
            "while the failure is remembered"
        );
        assert_eq!(inspector.stats().stale, 2);
        assert_eq!(inspector.stats().failures, 1);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(matches!(digest(&inspector, IMAGE).await, Err(Error::ReadLayout { .. })));
    }

    #[tokio::test]
    async fn what_a_tag_meant_is_served_when_asking_takes_longer_than_the_budget() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::from_millis(200));
        digest(&inspector, IMAGE).await.unwrap();
        remove(&fixture.app());
        write(&fixture.app(), &[("", "", "two")]);
        tokio::time::sleep(Duration::from_millis(70)).await;
        let facts = inspector.inspect(IMAGE, Depth::Config, Duration::from_millis(20)).await.unwrap();
        assert_eq!(facts.digest, fixture.digest);
        assert_eq!(inspector.stats().stale, 1);
    }

    #[tokio::test]
    async fn an_image_that_is_gone_is_not_served_stale() {
        let fixture = Fixture::new();
        let gone = Error::FindImage { image: IMAGE.into(), message: "gone".into() };
        let answers = Arc::new(Mutex::new(vec![Err(gone.clone()), Ok(facts("sha256:1"))]));
        let detect: Detect = Arc::new(move |_, _, _, _| {
            let answer = answers.lock().unwrap().pop().unwrap();
            async move { answer }.boxed()
        });
        let inspector = Inspector::with_detect(fixture.options(), detect).unwrap();
        digest(&inspector, IMAGE).await.unwrap();
        remove(&fixture.app());
        write(&fixture.app(), &[("", "", "two")]);
        tokio::time::sleep(Duration::from_millis(70)).await;
        assert_eq!(digest(&inspector, IMAGE).await, Err(gone));
    }

    #[tokio::test]
    async fn a_name_with_a_digest_never_asks_what_its_tag_means() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.app().join("index.json")).unwrap();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        let pinned = format!("{IMAGE}@{}", fixture.digest);
        assert_eq!(digest(&inspector, &pinned).await.unwrap(), fixture.digest);
        remove(&fixture.app());
        tokio::time::sleep(Duration::from_millis(70)).await;
        assert_eq!(digest(&inspector, &pinned).await.unwrap(), fixture.digest);
        let other_tag = format!("samples.test/app:other@{}", fixture.digest);
        assert_eq!(digest(&inspector, &other_tag).await.unwrap(), fixture.digest);
        assert_eq!(inspector.stats().lookups, 1);
    }

    #[tokio::test]
    async fn a_deeper_look_serves_shallow_questions_and_not_the_other_way_round() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(Options::default_with(&fixture), Duration::ZERO);
        let ask = |depth| inspector.inspect(IMAGE, depth, AMPLE);
        assert!(!ask(Depth::Config).await.unwrap().scanned);
        assert!(ask(Depth::Layers).await.unwrap().scanned);
        assert!(ask(Depth::Config).await.unwrap().scanned);
        assert_eq!(inspector.stats().lookups, 2);
    }

    #[tokio::test]
    async fn a_failure_is_repeated_for_a_moment_and_then_tried_again() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        let absent = "samples.test/absent:1";
        for _ in 0..5 {
            assert!(matches!(digest(&inspector, absent).await, Err(Error::ReadLayout { .. })));
        }
        assert_eq!(inspector.stats().lookups, 1);
        assert_eq!(inspector.stats().failure_hits, 4);
        write(&fixture.root.path().join("absent"), &[("", "", "late")]);
        tokio::time::sleep(Duration::from_millis(150)).await;
        digest(&inspector, absent).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_in_a_look_up_is_an_error_and_blocks_nobody() {
        let fixture = Fixture::new();
        let first = Arc::new(AtomicUsize::new(0));
        let detect: Detect = Arc::new(move |_, _, _, _| {
            let first = Arc::clone(&first);
            async move {
                assert!(first.fetch_add(1, Ordering::SeqCst) > 0, "the first look-up panics");
                Ok(facts("sha256:1"))
            }
            .boxed()
        });
        let inspector = Inspector::with_detect(Options::default_with(&fixture), detect).unwrap();
        assert!(digest(&inspector, IMAGE).await.unwrap_err().to_string().contains("this is a bug"));
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), fixture.digest);
    }

    #[tokio::test]
    async fn a_refused_registry_is_refused_though_its_digest_is_known() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(Options::default_with(&fixture), Duration::ZERO);
        digest(&inspector, IMAGE).await.unwrap();
        let elsewhere = format!("127.0.0.1:5000/app@{}", fixture.digest);
        assert!(matches!(digest(&inspector, &elsewhere).await, Err(Error::RefuseRegistry { .. })));
        let public = format!("ghcr.io/app@{}", fixture.digest);
        assert_eq!(digest(&inspector, &public).await.unwrap(), fixture.digest);
    }

    #[tokio::test]
    async fn a_layout_that_a_person_names_is_read_as_it_is_now() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        let target = format!("oci:{}", fixture.app().display());
        let error = inspector.inspect(&target, Depth::Config, AMPLE).await.unwrap_err();
        assert!(matches!(*error, Error::ParseReference { .. }), "no pod may name a folder: {error}");
        remove(&fixture.app());
        let error = inspector.inspect_layout(&target, Depth::Config).await.unwrap_err();
        assert!(error.to_string().contains(&fixture.app().display().to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_warm_hit_takes_microseconds_at_most_and_parses_nothing() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(Options::default_with(&fixture), Duration::ZERO);
        digest(&inspector, IMAGE).await.unwrap();
        let rounds = 20_000;
        let start = Instant::now();
        for _ in 0..rounds {
            inspector.inspect(IMAGE, Depth::Config, AMPLE).await.unwrap();
        }
        let each = start.elapsed() / rounds;
        println!("warm hit, not optimised: {each:?}");
        assert!(each < Duration::from_micros(100), "{each:?}");
        assert_eq!(inspector.stats().hits, u64::from(rounds));
    }

    #[test]
    fn the_options_are_written_as_people_write_them() {
        let options: Options = serde_json::from_str(
            r#"{"layouts":{"samples.test":"/srv"},"registries":{"allow":["ghcr.io"]},"tagTtl":"2m","limits":{"layer":1}}"#,
        )
        .unwrap();
        assert_eq!(options.tag_ttl, Duration::from_mins(2));
        assert_eq!(options.limits.layer, 1);
        assert_eq!(options.lookup_timeout, Duration::from_secs(10));
        let text = serde_json::to_string(&options).unwrap();
        assert!(text.contains(r#""tagTtl":"2m""#), "{text}");
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options);
    }
}
