//! Answers reviews: from memory or disk, or with a look-up that all reviews of the same image wait for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;

use super::cache::{CacheLimits, Memory, Recall};
use super::detect::{detect, detect_for};
use super::look::{Counters, Detect, Inner, Question, SMALL_MANIFEST, count, is_refused, open_store};
use super::memory::LayerMemory;
use super::options::warm_list;
use super::running::{Outcome, Progress, Running};
use super::sources::Images;
use super::store::Store;
use super::{Error, LookupBudget, LookupOptions, Stats};
use crate::image::platform::Nodes;
use crate::image::reference::Reference;
use crate::image::{Depth, ImageFacts};
use crate::registry::credentials::covering;
use crate::registry::layout::Layouts;
use crate::registry::{Login, NoPullSecrets, PullIdentity, PullSecrets, Pulled, Puller};
use crate::shares::Shares;

/// How many look-ups may wait for a manifest, or with it for a place, for each that may hold layers.
const ASKING_PER_PLACE: u32 = 16;
/// How many look-ups that may hold layers there are for each that may hold the names of all files of a root file system, which
/// take up to a hundred megabytes (`docs/operations.md`, "Size").
const PLACES_PER_TREE: u32 = 3;
/// One for any namespace, and one for the others.
const LEAST_TREES: u32 = 2;

/// How many of so many look-ups may hold the names of all files of a root file system at a time.
pub fn places_for_names(places: u32) -> u32 {
    places.div_ceil(PLACES_PER_TREE).max(LEAST_TREES)
}

/// Most bytes of the manifests of look-ups that hold no place yet, where there are so many places.
pub fn manifests_bytes(places: u32) -> u64 {
    u64::from(places.saturating_mul(ASKING_PER_PLACE)).saturating_mul(SMALL_MANIFEST)
}

/// Inspectors that were made so far.
static GENERATIONS: AtomicU64 = AtomicU64::new(0);

/// Looks images up, and remembers the facts. Cheap to clone.
#[derive(Clone)]
pub struct Inspector {
    pub(super) shared: Arc<Inner>,
    pull_secrets: Arc<dyn PullSecrets>,
    generation: u64,
    /// Whether it says what memory knows, and asks no source.
    recalls: bool,
}

/// What all inspectors of a process share.
struct Bounds {
    store: Option<Arc<Store>>,
    asking: Arc<Shares>,
    slots: Arc<Shares>,
    layers: Arc<LayerMemory>,
    names: Arc<Shares>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Inspector {
    /// An inspector. Reads the CAs and the docker config; sends no request yet.
    pub fn new(options: LookupOptions) -> Result<Self, Error> {
        let detect = detecting(&options);
        Self::with_detect(options, detect)
    }

    pub(super) fn with_detect(options: LookupOptions, detect: Detect) -> Result<Self, Error> {
        let places = u32::try_from(options.concurrent_lookups).unwrap_or(u32::MAX).max(1);
        let bounds = Bounds {
            store: open_store(&options)?,
            asking: Arc::new(Shares::new(places.saturating_mul(ASKING_PER_PLACE))),
            slots: Arc::new(Shares::new(places)),
            layers: LayerMemory::new(options.memory_bytes),
            names: Arc::new(Shares::new(places_for_names(places))),
            counters: Arc::default(),
        };
        let warm = warm_list(&options)?;
        Self::within(options, detect, warm, bounds)
    }

    /// An inspector with other options, which remembers nothing in memory, since a registry may be another now. The store,
    /// and all bounds on what look-ups hold together, stay those of this one; look-ups that run end as they began.
    pub fn reconfigured(&self, options: LookupOptions) -> Result<Self, Error> {
        let Inner { store, asking, slots, layers, names, counters, .. } = &*self.shared;
        let bounds = Bounds {
            store: store.clone(),
            asking: Arc::clone(asking),
            slots: Arc::clone(slots),
            layers: Arc::clone(layers),
            names: Arc::clone(names),
            counters: Arc::clone(counters),
        };
        let detect = detecting(&options);
        Ok(Self::within(options, detect, Vec::new(), bounds)?
            .with_pull_secrets(Arc::clone(&self.pull_secrets)))
    }

    fn within(
        options: LookupOptions,
        detect: Detect,
        warm: Vec<String>,
        bounds: Bounds,
    ) -> Result<Self, Error> {
        let registry = super::registry(&options)?;
        let memory = Memory::new(&CacheLimits {
            facts_bytes: options.facts_bytes,
            names_bytes: options.names_bytes,
            tag_ttl: options.tag_ttl,
            stale_ttl: options.stale_ttl,
            failure_ttl: options.failure_ttl,
        });
        let Bounds { store, asking, slots, layers, names, counters } = bounds;
        let LookupOptions { layouts, limits, lookup_timeout, .. } = options;
        let shared = Inner {
            images: Arc::new(Images { registry, layouts: Arc::new(Layouts::new(&layouts)) }),
            memory,
            store,
            detect,
            limits,
            lookup_timeout,
            warm,
            warm_timeout: options.warm_timeout,
            asking,
            slots,
            layers,
            names,
            patience: options.breaker.patience,
            running: Running::default(),
            counters,
        };
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        let (shared, pull_secrets) = (Arc::new(shared), Arc::new(NoPullSecrets));
        Ok(Self { shared, pull_secrets, generation, recalls: false })
    }

    /// The same inspector, with a source of pods' pull secrets.
    #[must_use]
    pub fn with_pull_secrets(self, pull_secrets: Arc<dyn PullSecrets>) -> Self {
        Self { pull_secrets, ..self }
    }

    /// The same inspector, which begins no look-up: an image that memory does not know is an error, and a tag is what it was before, as
    /// while its registry cannot be asked.
    #[must_use]
    pub fn recalling(&self) -> Self {
        Self { recalls: true, ..self.clone() }
    }

    /// Facts about one image, from the cache or from its source, within `budget`.
    ///
    /// The first request for an image starts a look-up. All later ones wait for the same look-up, which goes on when
    /// their budgets run out. While a registry cannot be asked, a tag resolves for some time to what it resolved to
    /// before.
    pub async fn inspect(&self, image: &str, depth: Depth, budget: impl Into<LookupBudget>) -> Outcome {
        self.answer(Question::new(image, depth, PullIdentity::default()), budget.into()).await
    }

    /// Facts about one image of a pod. The pod's pull secrets are tried before the platform's own credentials, as in
    /// the kubelet. Results that needed them are remembered only for pods that hold the same secrets, also where the image
    /// is named by its digest: otherwise the answer would depend on who asked before. Facts are shared, so a second
    /// look-up costs one request for the manifest. The secrets are not read when the image is public.
    pub async fn inspect_for(
        &self,
        image: &str,
        depth: Depth,
        budget: impl Into<LookupBudget>,
        puller: &Puller,
    ) -> Outcome {
        if let Some(facts) = self.remembered(image, depth).await {
            count(&self.shared.counters.hits);
            return Ok(facts);
        }
        // On the heap, so that an image that is known does not move the space for it.
        Box::pin(self.look_up(image, depth, budget.into(), puller)).await
    }

    /// The same of an image that memory does not know.
    async fn look_up(&self, image: &str, depth: Depth, budget: LookupBudget, puller: &Puller) -> Outcome {
        let started = Instant::now();
        let pulled = tokio::time::timeout(budget.whole, self.pull_secrets.logins(puller)).await;
        let Pulled { logins, notes } = pulled.unwrap_or_else(|_| Pulled {
            logins: Vec::new(),
            notes: vec!["the pull secrets could not be read in time".into()],
        });
        let question = question(image, depth, puller, logins)?;
        let looked = self.answer(question, budget.less(started.elapsed())).await;
        looked.map_err(|error| noted(error, &notes))
    }

    /// Whether an image of a pod is still what these facts say, as far as memory knows: [`Self::inspect_for`] would return them. As
    /// there, what anyone may read comes first, and then what the pull secrets open that the pod has now.
    pub async fn still_finds(&self, image: &str, facts: &Arc<ImageFacts>, puller: &Puller) -> bool {
        match self.shared.memory.holds(image, facts).await {
            Some(holds) => holds,
            None => Box::pin(self.still_opens(image, facts, puller)).await,
        }
    }

    /// The same of an image that is remembered for the holders of pull secrets alone. Secrets that would have to be waited for are not
    /// known to open it: a look-up waits for them, within its own bounds.
    async fn still_opens(&self, image: &str, facts: &Arc<ImageFacts>, puller: &Puller) -> bool {
        let Some(Pulled { logins, .. }) = self.pull_secrets.logins(puller).now_or_never() else {
            return false;
        };
        let Ok(question) = question(image, Depth::Config, puller, logins) else { return false };
        question.is_private() && self.shared.memory.holds(&question.key, facts).await == Some(true)
    }

    /// Facts about an image that anyone may read, if memory knows them and they are recent: a look-up would return them.
    pub async fn remembered(&self, image: &str, depth: Depth) -> Option<Arc<ImageFacts>> {
        match self.shared.memory.recall(image, depth).await {
            Recall::Fresh(facts) => Some(facts),
            Recall::Stale(_) | Recall::Nothing => None,
        }
    }

    /// Counts images for which [`Self::still_finds`] or [`Self::remembered`] has stood for the look-ups.
    pub fn count_found(&self, images: usize) {
        let images = u64::try_from(images).unwrap_or(u64::MAX);
        self.shared.counters.hits.fetch_add(images, Ordering::Relaxed);
    }

    async fn answer(&self, question: Question, budget: LookupBudget) -> Outcome {
        match self.shared.memory.recall(&question.key, question.depth).await {
            Recall::Fresh(facts) => {
                count(&self.shared.counters.hits);
                Ok(facts)
            }
            recall if self.recalls => {
                let unknown = || Arc::new(Progress::default().timed_out(&question.image, Duration::ZERO));
                recall.stale().ok_or_else(unknown)
            }
            recall => Box::pin(self.shared.ask(question, budget, recall.stale())).await,
        }
    }

    /// Facts about an image in a layout that a person named as `oci:PATH[:TAG]`. Remembers nothing. Never call it with
    /// a name from a pod: the path may be any.
    pub async fn inspect_layout(&self, target: &str, depth: Depth) -> Result<ImageFacts, Error> {
        let (layouts, reference) = Layouts::direct(target)?;
        let reading = detect(&layouts, &reference, depth, &self.shared.limits);
        let bound = self.shared.lookup_timeout;
        let read = tokio::time::timeout(bound, reading)
            .await
            .map_err(|_| Progress::default().timed_out(target, bound))?;
        Ok(read?)
    }

    /// Stands for the options of this inspector: the same for its clones, and another one for each that was made anew or
    /// reconfigured in this process.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The counters so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (names, digests) = self.shared.memory.sizes();
        let (layer_bytes, layer_bytes_peak) = self.shared.layers.held_and_peak();
        Stats {
            hits: read(&counters.hits),
            misses: read(&counters.misses),
            stale: read(&counters.stale),
            disk_hits: read(&counters.disk_hits),
            failure_hits: read(&counters.failure_hits),
            lookups: read(&counters.lookups),
            failures: read(&counters.failures),
            names,
            digests,
            layer_bytes,
            layer_bytes_peak,
        }
    }
}

/// The question about an image of a pod whose pull secrets have these logins.
fn question(image: &str, depth: Depth, puller: &Puller, logins: Vec<Login>) -> Result<Question, Error> {
    let logins = if logins.is_empty() { logins } else { covering(logins, &Reference::parse(image)?) };
    Ok(Question::new(image, depth, PullIdentity::new(&puller.namespace, logins)))
}

/// What looks at the images of the nodes of these options.
fn detecting(options: &LookupOptions) -> Detect {
    let nodes = Nodes::of(&options.node_architectures);
    Arc::new(move |slot, source, reference, depth, limits| {
        let nodes = nodes.clone();
        async move { detect_for(&nodes, slot, &*source, &reference, depth, &limits).await }.boxed()
    })
}

/// Adds the notes about unreadable pull secrets to an error that those secrets might have prevented.
fn noted(error: Arc<Error>, notes: &[String]) -> Arc<Error> {
    if notes.is_empty() || is_refused(&error) {
        return error;
    }
    Arc::new(Error::ReadPullSecrets { source: Box::new((*error).clone()), notes: notes.join("; ") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt;
    use tokio::sync::Semaphore;

    use super::super::cache::tests::facts;
    use super::*;
    use crate::image::Digest;
    use crate::lookup::SizeLimits;
    use crate::registry;
    use crate::registry::layout::tests::write;
    use crate::registry::source::Source;

    const AMPLE: Duration = Duration::from_secs(20);
    const IMAGE: &str = "samples.test/app:v1";

    /// A folder that stands in for a registry and holds one image, and a count of how often it was read.
    struct Fixture {
        root: tempfile::TempDir,
        digest: Digest,
        detected: Arc<AtomicUsize>,
    }

    impl Fixture {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let digest = write(&root.path().join("app"), &[("", "", "one")]).remove(0);
            Self { root, digest, detected: Arc::default() }
        }

        fn options(&self) -> LookupOptions {
            LookupOptions {
                layouts: BTreeMap::from([("samples.test".into(), self.root.path().into())]),
                tag_ttl: Duration::from_mins(50),
                stale_ttl: Duration::from_hours(10),
                failure_ttl: Duration::from_mins(100),
                ..LookupOptions::default()
            }
        }

        fn app(&self) -> std::path::PathBuf {
            self.root.path().join("app")
        }

        /// An inspector whose detection takes some time and then returns the manifest's digest.
        fn inspector(&self, options: LookupOptions, takes: Duration) -> Inspector {
            let detected = Arc::clone(&self.detected);
            let detect: Detect = Arc::new(move |_, source, reference, depth, limits| {
                let detected = Arc::clone(&detected);
                async move {
                    detected.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(takes).await;
                    let manifest = source.manifest(&reference, limits.manifest).await?;
                    let mut facts = facts(manifest.digest.as_str());
                    facts.scanned = depth == Depth::Layers;
                    Ok(facts)
                }
                .boxed()
            });
            Inspector::with_detect(options, detect).unwrap()
        }
    }

    /// A detection that ends only when the test says so.
    fn held(options: LookupOptions) -> (Inspector, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let detect: Detect = Arc::new(move |_, source, reference, depth, limits| {
            let held = Arc::clone(&held);
            async move {
                held.acquire().await.unwrap().forget();
                let manifest = source.manifest(&reference, limits.manifest).await?;
                Ok(ImageFacts { scanned: depth == Depth::Layers, ..facts(manifest.digest.as_str()) })
            }
            .boxed()
        });
        (Inspector::with_detect(options, detect).unwrap(), gate)
    }

    async fn digest(inspector: &Inspector, image: &str) -> Result<Digest, Error> {
        let facts = inspector.inspect(image, Depth::Config, AMPLE).await;
        facts.map(|facts| facts.digest.clone()).map_err(|error| (*error).clone())
    }

    fn remove(path: &Path) {
        fs::remove_dir_all(path).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_thousand_questions_about_a_new_image_share_one_look_up() {
        let fixture = Fixture::new();
        let inspector =
            Arc::new(fixture.inspector(LookupOptions::default_with(&fixture), Duration::from_millis(30)));
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

    #[tokio::test]
    async fn other_options_hold_from_the_next_look_up_and_what_was_remembered_does_not() {
        let fixture = Fixture::new();
        let first = fixture.inspector(fixture.options(), Duration::ZERO);
        let shares = Arc::clone(&first.shared.slots);
        assert_eq!(digest(&first, IMAGE).await.unwrap(), fixture.digest);
        let none = LookupOptions {
            registries: registry::guard::GuardOptions {
                allow: vec!["other.test".into()],
                ..Default::default()
            },
            ..LookupOptions::default()
        };
        let second = first.reconfigured(none).unwrap();
        let refused = digest(&second, IMAGE).await.unwrap_err().to_string();
        assert!(refused.contains("samples.test"), "{refused}");
        assert!(Arc::ptr_eq(&second.shared.slots, &shares), "one bound for both");
        assert!(second.stats().misses >= first.stats().misses && digest(&first, IMAGE).await.is_ok());
    }

    impl LookupOptions {
        /// Options for the fixture's folder, with times that no test waits for.
        fn default_with(fixture: &Fixture) -> Self {
            Self { layouts: fixture.options().layouts, ..Self::default() }
        }
    }

    #[tokio::test]
    async fn a_look_up_continues_when_its_first_caller_has_timed_out() {
        let fixture = Fixture::new();
        let (inspector, gate) = held(LookupOptions::default_with(&fixture));
        let error = inspector.inspect(IMAGE, Depth::Config, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(*error, Error::TimedOut { image: IMAGE.into(), budget_ms: 20 });
        gate.add_permits(1);
        inspector.inspect(IMAGE, Depth::Config, AMPLE).await.unwrap();
        inspector.inspect(IMAGE, Depth::Config, Duration::ZERO).await.unwrap();
        assert_eq!((inspector.stats().lookups, inspector.stats().hits), (1, 1));
    }

    #[tokio::test]
    async fn a_look_up_has_its_own_time_bound() {
        let fixture = Fixture::new();
        let options = LookupOptions {
            lookup_timeout: Duration::from_millis(50),
            ..LookupOptions::default_with(&fixture)
        };
        let inspector = fixture.inspector(options, AMPLE);
        let error = inspector.inspect(IMAGE, Depth::Config, AMPLE).await.unwrap_err();
        assert_eq!(*error, Error::TimedOut { image: IMAGE.into(), budget_ms: 50 });
        assert_eq!(inspector.stats().failures, 1);
    }

    /// Each of them holds its manifest.
    #[tokio::test]
    async fn no_more_look_ups_wait_for_a_slot_than_may_ask_for_a_manifest() {
        let fixture = Fixture::new();
        let options = LookupOptions { concurrent_lookups: 1, ..LookupOptions::default_with(&fixture) };
        let (inspector, gate) = held(options);
        let look = |number: usize| {
            let name = format!("app{number}");
            write(&fixture.root.path().join(&name), &[("", "", name.as_str())]);
            let inspector = inspector.clone();
            tokio::spawn(async move { digest(&inspector, &format!("samples.test/{name}:v1")).await })
        };
        let looks: Vec<_> = (0..40).map(look).collect();
        // One that has the slot, and half of those that may ask.
        while inspector.stats().lookups < 9 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        let Inner { asking, slots, .. } = &*inspector.shared;
        assert_eq!((inspector.stats().lookups, asking.left(), slots.left()), (9, 8, 0));
        gate.add_permits(looks.len());
        for look in looks {
            look.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn abandoned_look_ups_keep_their_slots_until_their_work_ends() {
        const PLACES: usize = 2;
        let fixture = Fixture::new();
        let [now, most, ended] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
        let counts = (now, Arc::clone(&most), Arc::clone(&ended));
        // Work that does not notice for a while that its caller is gone.
        let detect: Detect = Arc::new(move |slot, _, _, _, _| {
            let (now, most, ended) = counts.clone();
            let work = move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(400));
                now.fetch_sub(1, Ordering::SeqCst);
                ended.fetch_add(1, Ordering::SeqCst);
                drop(slot);
            };
            async move {
                tokio::task::spawn_blocking(work).await.unwrap();
                Ok(facts("sha256:1"))
            }
            .boxed()
        });
        let options = LookupOptions {
            concurrent_lookups: PLACES,
            lookup_timeout: Duration::from_millis(20),
            failure_ttl: Duration::from_millis(1),
            ..LookupOptions::default_with(&fixture)
        };
        let inspector = Inspector::with_detect(options, detect).unwrap();
        let images: Vec<String> = (0..12).map(|number| format!("app{number}")).collect();
        for image in &images {
            write(&fixture.root.path().join(image), &[("", "", image)]);
        }
        let start = Instant::now();
        while ended.load(Ordering::SeqCst) < 6 * PLACES && start.elapsed() < AMPLE {
            let asked = images.iter().map(|image| {
                let (inspector, image) = (inspector.clone(), format!("samples.test/{image}:v1"));
                async move { inspector.inspect(&image, Depth::Config, AMPLE).await }
            });
            let answers = futures::future::join_all(asked).await;
            assert!(answers.iter().all(Result::is_err), "every one is given up");
        }
        let (most, ended) = (most.load(Ordering::SeqCst), ended.load(Ordering::SeqCst));
        assert!(ended >= 6 * PLACES && most <= PLACES, "{most} at a time, {ended} in all");
    }

    #[tokio::test]
    async fn a_moved_tag_is_seen_when_its_time_is_over() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), fixture.digest);
        remove(&fixture.app());
        let moved = write(&fixture.app(), &[("", "", "two")]).remove(0);
        inspector.shared.memory.age_by(Duration::from_mins(70));
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), moved);
    }

    #[tokio::test]
    async fn a_tag_that_did_not_move_costs_no_second_detection() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        for _ in 0..3 {
            digest(&inspector, IMAGE).await.unwrap();
            inspector.shared.memory.age_by(Duration::from_mins(70));
        }
        assert_eq!(fixture.detected.load(Ordering::SeqCst), 1);
        assert_eq!(inspector.stats().lookups, 3);
    }

    #[test]
    fn what_a_look_up_found_is_measured_where_it_may_block() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let (wait, begun) = (Mutex::new(Some(wait)), Arc::new(tokio::sync::Notify::new()));
            let begins = Arc::clone(&begun);
            let detect: Detect = Arc::new(move |_, source, _, _, _| {
                // From here on, the one thread that may block is taken.
                let wait = wait.lock().unwrap().take().unwrap();
                let _taken = tokio::task::spawn_blocking(move || wait.recv());
                begins.notify_one();
                let found = facts(source.digest.as_str());
                async move { Ok(found) }.boxed()
            });
            let inspector = Inspector::with_detect(LookupOptions::default_with(&fixture), detect).unwrap();
            let mut look = Box::pin(inspector.inspect(IMAGE, Depth::Config, AMPLE));
            tokio::select! {
                _ = &mut look => panic!("the thread is taken"),
                () = begun.notified() => {}
            }
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(look.as_mut().now_or_never().is_none(), "the facts are remembered without that thread");
            go.send(()).unwrap();
            assert_eq!(look.await.unwrap().digest, fixture.digest);
        });
    }

    #[tokio::test]
    async fn a_cold_look_up_fetches_the_manifest_once() {
        let fixture = Fixture::new();
        let app = fixture.app();
        let detect: Detect = Arc::new(move |_, source, reference, _, limits| {
            // From here on, nothing can be fetched from the folder.
            let _ = fs::remove_dir_all(&app);
            async move { Ok(facts(source.manifest(&reference, limits.manifest).await?.digest.as_str())) }
                .boxed()
        });
        let inspector = Inspector::with_detect(LookupOptions::default_with(&fixture), detect).unwrap();
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), fixture.digest);
    }

    #[tokio::test]
    async fn a_stale_tag_is_served_while_its_registry_cannot_be_asked_and_no_longer() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        digest(&inspector, IMAGE).await.unwrap();
        remove(&fixture.app());
        inspector.shared.memory.age_by(Duration::from_mins(70));
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), fixture.digest);
        assert_eq!(
            digest(&inspector, IMAGE).await.unwrap(),
            fixture.digest,
            "while the failure is remembered"
        );
        assert_eq!(inspector.stats().stale, 2);
        assert_eq!(inspector.stats().failures, 1);
        inspector.shared.memory.age_by(Duration::from_mins(700));
        assert!(matches!(
            digest(&inspector, IMAGE).await,
            Err(Error::Fetch(registry::Error::ReadLayout { .. }))
        ));
    }

    #[tokio::test]
    async fn what_only_recalls_asks_for_nothing_and_has_a_tag_as_it_was_before() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        let recalling = inspector.recalling();
        let recalled = || recalling.inspect(IMAGE, Depth::Config, AMPLE).now_or_never().expect("at once");
        assert!(recalled().is_err());
        digest(&inspector, IMAGE).await.unwrap();
        for minutes in [0, 70] {
            inspector.shared.memory.age_by(Duration::from_mins(minutes));
            assert_eq!(recalled().unwrap().digest, fixture.digest, "{minutes}");
        }
        inspector.shared.memory.age_by(Duration::from_mins(700));
        assert!(recalled().is_err());
        let layers = recalling.inspect(IMAGE, Depth::Layers, AMPLE).await;
        assert!(layers.is_err() && inspector.stats().lookups == 1, "{:?}", inspector.stats());
    }

    #[tokio::test]
    async fn a_stale_tag_is_served_when_asking_takes_longer_than_the_budget() {
        let fixture = Fixture::new();
        let (inspector, gate) = held(fixture.options());
        gate.add_permits(1);
        digest(&inspector, IMAGE).await.unwrap();
        remove(&fixture.app());
        write(&fixture.app(), &[("", "", "two")]);
        inspector.shared.memory.age_by(Duration::from_mins(70));
        let facts = inspector.inspect(IMAGE, Depth::Config, Duration::from_millis(20)).await.unwrap();
        assert_eq!(facts.digest, fixture.digest);
        assert_eq!(inspector.stats().stale, 1);
    }

    #[tokio::test]
    async fn a_deleted_image_is_not_served_stale() {
        let fixture = Fixture::new();
        let gone = registry::Error::FindImage { image: IMAGE.into(), message: "gone".into() };
        let gone = Error::from(gone);
        let answers = Arc::new(Mutex::new(vec![Err(gone.clone()), Ok(facts("sha256:1"))]));
        let detect: Detect = Arc::new(move |_, _, _, _, _| {
            let answer = answers.lock().unwrap().pop().unwrap();
            async move { answer }.boxed()
        });
        let inspector = Inspector::with_detect(fixture.options(), detect).unwrap();
        digest(&inspector, IMAGE).await.unwrap();
        remove(&fixture.app());
        write(&fixture.app(), &[("", "", "two")]);
        inspector.shared.memory.age_by(Duration::from_mins(70));
        assert_eq!(digest(&inspector, IMAGE).await, Err(gone));
    }

    #[tokio::test]
    async fn known_images_survive_a_restart_while_the_registry_is_down() {
        let fixture = Fixture::new();
        let store = fixture.root.path().join("store");
        let options =
            LookupOptions { store: Some(store.clone()), tag_ttl: Duration::ZERO, ..fixture.options() };
        let inspector = fixture.inspector(options.clone(), Duration::ZERO);
        inspector.inspect(IMAGE, Depth::Layers, AMPLE).await.unwrap();
        drop(inspector);
        remove(&fixture.app());
        let inspector = fixture.inspector(options.clone(), Duration::ZERO);
        let pinned = format!("{IMAGE}@{}", fixture.digest);
        assert!(inspector.inspect(&pinned, Depth::Layers, AMPLE).await.unwrap().scanned);
        assert_eq!(
            digest(&inspector, IMAGE).await.unwrap(),
            fixture.digest,
            "stale, since no registry can be asked"
        );
        let stats = inspector.stats();
        assert_eq!((stats.disk_hits, stats.stale, stats.lookups), (2, 1, 1), "{stats:?}");
        assert!(digest(&inspector, "samples.test/other:v1").await.is_err());
        drop(inspector);
        let limits = SizeLimits { layer: 1, ..options.limits };
        let other = fixture.inspector(LookupOptions { limits, ..options.clone() }, Duration::ZERO);
        assert!(digest(&other, &pinned).await.is_err(), "facts under other limits are other facts");
    }

    #[tokio::test]
    async fn an_old_tag_is_not_used_after_a_restart() {
        let fixture = Fixture::new();
        let store = Some(fixture.root.path().join("store"));
        let short = Duration::from_millis(1);
        let options = LookupOptions { store, tag_ttl: short, stale_ttl: short, ..fixture.options() };
        drop(digest(&fixture.inspector(options.clone(), Duration::ZERO), IMAGE).await.unwrap());
        tokio::time::sleep(Duration::from_millis(1100)).await;
        remove(&fixture.app());
        let inspector = fixture.inspector(options, Duration::ZERO);
        assert!(matches!(
            digest(&inspector, IMAGE).await,
            Err(Error::Fetch(registry::Error::ReadLayout { .. }))
        ));
    }

    #[tokio::test]
    async fn warmed_images_are_known_before_the_first_review() {
        let fixture = Fixture::new();
        let file = fixture.root.path().join("warm.txt");
        fs::write(&file, format!("# ours\n{IMAGE} # the app\n\nsamples.test/absent:1\n")).unwrap();
        let options = LookupOptions {
            warm: vec!["not a name".into()],
            warm_file: Some(file),
            warm_timeout: Duration::from_millis(150),
            ..LookupOptions::default_with(&fixture)
        };
        let inspector = fixture.inspector(options.clone(), Duration::from_millis(10));
        inspector.warm().await;
        assert!(inspector.inspect(IMAGE, Depth::Layers, Duration::ZERO).await.unwrap().scanned);
        assert_eq!(inspector.stats().hits, 1);
        let (slow, gate) = held(options);
        slow.warm().await;
        assert_eq!(slow.stats().hits, 0, "the start goes on before anything was seen");
        // A deep look begins with a shallow one.
        gate.add_permits(2);
        slow.inspect(IMAGE, Depth::Layers, AMPLE).await.unwrap();
        slow.inspect(IMAGE, Depth::Layers, Duration::ZERO).await.unwrap();
        assert_eq!(slow.stats().lookups, 2, "the warming went on: its look-up was joined");
        let absent = LookupOptions { warm_file: Some("/nonexistent".into()), ..LookupOptions::default() };
        assert!(Inspector::new(absent).unwrap_err().to_string().contains("`/nonexistent`"));
    }

    #[tokio::test]
    async fn a_name_with_a_digest_never_resolves_its_tag() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.app().join("index.json")).unwrap();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        let pinned = format!("{IMAGE}@{}", fixture.digest);
        assert_eq!(digest(&inspector, &pinned).await.unwrap(), fixture.digest);
        remove(&fixture.app());
        inspector.shared.memory.age_by(Duration::from_mins(70));
        assert_eq!(digest(&inspector, &pinned).await.unwrap(), fixture.digest);
        let other_tag = format!("samples.test/app:other@{}", fixture.digest);
        assert_eq!(digest(&inspector, &other_tag).await.unwrap(), fixture.digest);
        assert_eq!(inspector.stats().lookups, 1);
    }

    #[tokio::test]
    async fn a_question_gets_the_facts_of_its_depth_whatever_was_asked_before() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(LookupOptions::default_with(&fixture), Duration::ZERO);
        let ask = |depth| inspector.inspect(IMAGE, depth, AMPLE);
        assert!(!ask(Depth::Config).await.unwrap().scanned);
        assert!(ask(Depth::Layers).await.unwrap().scanned);
        assert!(!ask(Depth::Config).await.unwrap().scanned, "a shallow look would not see that");
        assert_eq!((inspector.stats().lookups, fixture.detected.load(Ordering::SeqCst)), (2, 2));
        let deep_first = fixture.inspector(LookupOptions::default_with(&fixture), Duration::ZERO);
        assert!(deep_first.inspect(IMAGE, Depth::Layers, AMPLE).await.unwrap().scanned);
        assert!(!deep_first.inspect(IMAGE, Depth::Config, AMPLE).await.unwrap().scanned);
        assert_eq!(deep_first.stats().lookups, 1, "nothing more was fetched");
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_moment_and_then_retried() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        let absent = "samples.test/absent:1";
        for _ in 0..5 {
            assert!(matches!(
                digest(&inspector, absent).await,
                Err(Error::Fetch(registry::Error::ReadLayout { .. }))
            ));
        }
        assert_eq!(inspector.stats().lookups, 1);
        assert_eq!(inspector.stats().failure_hits, 4);
        write(&fixture.root.path().join("absent"), &[("", "", "late")]);
        inspector.shared.memory.age_by(Duration::from_mins(150));
        digest(&inspector, absent).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_in_a_look_up_is_an_error_and_blocks_no_caller() {
        let fixture = Fixture::new();
        let first = Arc::new(AtomicUsize::new(0));
        let detect: Detect = Arc::new(move |_, _, _, _, _| {
            let first = Arc::clone(&first);
            async move {
                assert!(first.fetch_add(1, Ordering::SeqCst) > 0, "the first look-up panics");
                Ok(facts("sha256:1"))
            }
            .boxed()
        });
        let inspector = Inspector::with_detect(LookupOptions::default_with(&fixture), detect).unwrap();
        assert!(digest(&inspector, IMAGE).await.unwrap_err().to_string().contains("this is a bug"));
        assert_eq!(digest(&inspector, IMAGE).await.unwrap(), fixture.digest);
    }

    #[tokio::test]
    async fn a_refused_registry_is_refused_although_the_digest_is_known() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(LookupOptions::default_with(&fixture), Duration::ZERO);
        digest(&inspector, IMAGE).await.unwrap();
        let elsewhere = format!("127.0.0.1:5000/app@{}", fixture.digest);
        assert!(matches!(
            digest(&inspector, &elsewhere).await,
            Err(Error::Fetch(registry::Error::RefuseRegistry { .. }))
        ));
    }

    #[tokio::test]
    async fn a_digest_that_was_read_in_one_repository_is_asked_for_in_another() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(LookupOptions::default_with(&fixture), Duration::ZERO);
        digest(&inspector, IMAGE).await.unwrap();
        let elsewhere = format!("samples.test/other@{}", fixture.digest);
        assert!(digest(&inspector, &elsewhere).await.is_err(), "that repository lacks it");
    }

    #[tokio::test]
    async fn a_layout_that_a_person_names_is_read_as_it_is_now() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(fixture.options(), Duration::ZERO);
        let target = format!("oci:{}", fixture.app().display());
        let error = inspector.inspect(&target, Depth::Config, AMPLE).await.unwrap_err();
        assert!(
            error.to_string().contains("could not parse the image name"),
            "no pod may name a folder: {error}"
        );
        remove(&fixture.app());
        let error = inspector.inspect_layout(&target, Depth::Config).await.unwrap_err();
        assert!(error.to_string().contains(&fixture.app().display().to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_warm_hit_reads_nothing_and_needs_no_time() {
        let fixture = Fixture::new();
        let inspector = fixture.inspector(LookupOptions::default_with(&fixture), Duration::ZERO);
        digest(&inspector, IMAGE).await.unwrap();
        remove(&fixture.app());
        let rounds = 1_000;
        for _ in 0..rounds {
            inspector.inspect(IMAGE, Depth::Config, Duration::ZERO).await.unwrap();
        }
        assert_eq!(inspector.stats().hits, rounds);
        assert_eq!(fixture.detected.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_options_accept_the_usual_spellings() {
        let options: LookupOptions = serde_json::from_str(
            r#"{"layouts":{"samples.test":"/srv"},"registries":{"allow":["ghcr.io"]},"tagTtl":"2m","limits":{"layer":1}}"#,
        )
        .unwrap();
        assert_eq!(options.tag_ttl, Duration::from_mins(2));
        assert_eq!(options.limits.layer, 1);
        assert_eq!(options.lookup_timeout, Duration::from_secs(10));
        let text = serde_json::to_string(&options).unwrap();
        assert!(text.contains(r#""tagTtl":"2m""#), "{text}");
        assert_eq!(serde_json::from_str::<LookupOptions>(&text).unwrap(), options);
    }
}
