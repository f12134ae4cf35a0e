//! One look-up, and what all of them share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::SizeLimits;
use super::cache::{Known, Memory, Recall};
use super::memory::LayerMemory;
use super::running::{EndOfLookUp, Id, Outcome, Progress, Running, Started};
use super::sources::{Documents, Images, LookupSource};
use super::store::Store;
use super::{Error, LookupBudget, LookupOptions};
use crate::image::reference::Reference;
use crate::image::{self, Depth, Digest, ImageFacts};
use crate::registry::source::{FetchedManifest, Slot, Source};
use crate::registry::{self, PullIdentity};
use crate::shares::{Share, Shares};

/// How often a waiting review checks whether the registry became suspect.
const SUSPECT_POLL: Duration = Duration::from_millis(50);

/// Largest manifest that is kept while its look-up waits for a slot, in bytes. A manifest with a few layers has one or
/// two thousand; a larger one is fetched again when there is a slot.
pub(super) const SMALL_MANIFEST: u64 = 64 << 10;

/// Detects what an image is from its bytes.
pub(super) type Detect = Arc<
    dyn Fn(
            Slot,
            Arc<LookupSource>,
            Reference,
            Depth,
            SizeLimits,
        ) -> BoxFuture<'static, Result<ImageFacts, Error>>
        + Send
        + Sync,
>;

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) disk_hits: AtomicU64,
    pub(super) failure_hits: AtomicU64,
    pub(super) lookups: AtomicU64,
    pub(super) failures: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn open_store(options: &LookupOptions) -> Result<Option<Arc<Store>>, Error> {
    let Some(path) = &options.store else { return Ok(None) };
    // Facts depend on these settings: other limits may admit a larger file, and other architectures other platforms.
    let limits = serde_json::to_vec(&(&options.limits, &options.node_architectures)).unwrap_or_default();
    Store::open(path, options.store_bytes, Digest::of(&limits).as_str()).map(|store| Some(Arc::new(store)))
}

/// What a review wants to know.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The image as written.
    pub(super) image: Arc<str>,
    /// The key under which the answer is remembered: the image, and which pull secrets are tried for it.
    pub(super) key: Arc<str>,
    pub(super) depth: Depth,
    asker: PullIdentity,
}

impl Question {
    pub(super) fn new(image: &str, depth: Depth, asker: PullIdentity) -> Self {
        let image: Arc<str> = image.into();
        let key = Self::keyed(image.clone(), asker.credentials());
        Self { image, key, depth, asker }
    }

    fn id(&self) -> Id {
        (self.key.clone(), self.depth)
    }

    /// The key under which it is remembered that these pull secrets open a digest in a repository, whatever tag stands
    /// beside it.
    fn key_at(&self, reference: &Reference, digest: &Digest) -> Arc<str> {
        let name = format!("{}/{}@{digest}", reference.registry, reference.repository);
        Self::keyed(name.into(), self.asker.credentials())
    }

    /// Whether an answer ages. What a tag names may change, and a pull secret may be revoked: then the registry is asked
    /// again, for no more than the manifest.
    fn ages(&self, reference: &Reference) -> bool {
        reference.digest.is_none() || self.is_private()
    }

    /// Whether pull secrets are tried for the image.
    pub(super) fn is_private(&self) -> bool {
        !self.asker.credentials().is_empty()
    }

    fn keyed(name: Arc<str>, credentials: &str) -> Arc<str> {
        // No image name contains a space.
        if credentials.is_empty() { name } else { format!("{name} {credentials}").into() }
    }
}

/// State that look-ups share. They outlive the reviews that started them.
pub(super) struct Inner {
    pub(super) images: Arc<Images>,
    pub(super) memory: Memory,
    pub(super) store: Option<Arc<Store>>,
    pub(super) detect: Detect,
    pub(super) limits: SizeLimits,
    pub(super) lookup_timeout: Duration,
    pub(super) warm: Vec<String>,
    pub(super) warm_timeout: Duration,
    /// Slots of look-ups that wait for a manifest, or with a small one for a slot.
    pub(super) asking: Arc<Shares>,
    /// Slots of look-ups that hold an image's config and layers.
    pub(super) slots: Arc<Shares>,
    /// Memory for those layers.
    pub(super) layers: Arc<LayerMemory>,
    /// Slots of look-ups that hold the names of all files of a root file system. Who has one waits for memory, and who has
    /// memory waits for none, so that there is no circle.
    pub(super) names: Arc<Shares>,
    pub(super) patience: Duration,
    pub(super) running: Running,
    pub(super) counters: Arc<Counters>,
}

impl Inner {
    /// Answers what memory alone could not. `stale` is what the name resolved to before.
    pub(super) async fn ask(
        self: &Arc<Self>,
        question: Question,
        budget: LookupBudget,
        stale: Option<Arc<ImageFacts>>,
    ) -> Outcome {
        let reference = Reference::parse(&question.image).map_err(Error::from)?;
        self.images.admit(&reference)?;
        if let Some(facts) = self.known_digest(&question, &reference).await {
            count(&self.counters.hits);
            return Ok(facts);
        }
        let stale = match stale {
            Some(facts) => Some(facts),
            None => match self.recall_from_disk(&question, &reference).await {
                Recall::Fresh(facts) => return Ok(facts),
                recall => recall.stale(),
            },
        };
        if let Some(error) = self.failure(&question).await {
            count(if stale.is_some() { &self.counters.stale } else { &self.counters.failure_hits });
            return stale.ok_or(error);
        }
        count(&self.counters.misses);
        let running = self.join_or_start(&question, &reference);
        match self.wait(running, budget, &question, &reference).await {
            Err(error) if stale.is_some() && !is_final(&error, &question) => {
                count(&self.counters.stale);
                stale.ok_or(error)
            }
            outcome => outcome,
        }
    }

    /// Waits for a look-up until the budget is used up; for a doubtful pod, also only until the registry was suspect
    /// too long.
    async fn wait(
        &self,
        mut running: Started,
        budget: LookupBudget,
        question: &Question,
        reference: &Reference,
    ) -> Outcome {
        let start = Instant::now();
        loop {
            let waited = start.elapsed();
            let left = budget.whole.saturating_sub(waited);
            let step = if budget.doubtful {
                left.min(self.patience.saturating_sub(waited).max(SUSPECT_POLL))
            } else {
                left
            };
            if let Ok(outcome) = tokio::time::timeout(step, &mut running.outcome).await {
                return outcome;
            }
            let waited = start.elapsed();
            if waited >= budget.whole {
                let error = running.progress.timed_out(&question.image, budget.whole);
                return Err(Arc::new(running.progress.with_what_was_read(error)));
            }
            if budget.doubtful
                && waited >= self.patience
                && self.images.is_suspect(reference, &question.asker)
            {
                let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                let (image, registry) = (question.image.to_string(), reference.registry.clone());
                let error = Error::LeftWaiting { image, registry, waited_ms };
                return Err(Arc::new(running.progress.with_what_was_read(error)));
            }
        }
    }

    /// Loads what the disk knows into memory, unless the registry is being asked already.
    async fn recall_from_disk(&self, question: &Question, reference: &Reference) -> Recall {
        let running = self.running.contains(&question.id());
        let Some(store) = self.store.clone().filter(|_| !running) else { return Recall::Nothing };
        let pinned = reference.digest.as_ref();
        let key = pinned.map_or_else(|| question.key.clone(), |digest| question.key_at(reference, digest));
        let ages = question.ages(reference);
        let read = tokio::task::spawn_blocking(move || {
            let name = store.name(&key)?;
            store.facts(&name.digest).map(|known| (known, name.digest, ages.then_some(name.age)))
        });
        let Ok(Some((known, digest, age))) = read.await else { return Recall::Nothing };
        match age {
            Some(age) => self.memory.name_of_age(&question.key, &digest, age).await,
            None => self.memory.name(&question.key, &digest, false).await,
        }
        self.memory.keep(known).await;
        let recall = self.memory.recall(&question.key, question.depth).await;
        if !matches!(recall, Recall::Nothing) {
            count(&self.counters.disk_hits);
        }
        recall
    }

    /// What is known about a digest, in memory or on disk.
    async fn known(&self, digest: &Digest) -> Option<Known> {
        if let Some(known) = self.memory.known(digest).await {
            return Some(known);
        }
        let (store, wanted) = (self.store.clone()?, digest.clone());
        let known = tokio::task::spawn_blocking(move || store.facts(&wanted)).await.ok()??;
        self.memory.keep(known.clone()).await;
        Some(known)
    }

    /// Facts about the digest in the name itself, if the same pull secrets have opened it in the same repository, such as
    /// by its tag. What others could read there does not count: the answer would depend on who asked before.
    async fn known_digest(&self, question: &Question, reference: &Reference) -> Option<Arc<ImageFacts>> {
        let digest = reference.digest.as_ref()?;
        let opened = question.key_at(reference, digest);
        self.memory.fresh_digest(&opened).await?;
        let facts = self.memory.known(digest).await?.at(question.depth)?;
        self.memory.name_like(&question.key, &opened).await;
        Some(facts)
    }

    async fn failure(&self, question: &Question) -> Option<Arc<Error>> {
        self.memory.failure(&question.key, question.depth, question.asker.namespace()).await
    }

    /// The look-up that answers a question: the one under way, or a new one in a task of its own.
    fn join_or_start(self: &Arc<Self>, question: &Question, reference: &Reference) -> Started {
        let image = question.image.clone();
        let (inner, reference, asked) = (Arc::clone(self), reference.clone(), question.clone());
        self.running.join_or_start(question.id(), question.asker.namespace(), |progress| {
            let task = tokio::spawn(inner.look_up(asked, reference, progress));
            let ended = async move {
                task.await.unwrap_or_else(|_| Err(Arc::new(Error::Finish { image: image.to_string() })))
            };
            ended.boxed().shared()
        })
    }

    async fn look_up(
        self: Arc<Self>,
        question: Question,
        reference: Reference,
        progress: Arc<Progress>,
    ) -> Outcome {
        // Dropped only after the result is remembered: a caller that no longer finds the look-up finds its result.
        let _end = EndOfLookUp { running: &self.running, id: question.id(), progress: Arc::clone(&progress) };
        // Another look-up may have ended since the caller found nothing in memory.
        if let Recall::Fresh(facts) = self.memory.recall(&question.key, question.depth).await {
            return Ok(facts);
        }
        if let Some(error) = self.failure(&question).await {
            return Err(error);
        }
        let bound = self.lookup_timeout;
        let read = tokio::time::timeout(bound, self.read(&question, &reference, &progress)).await;
        let outcome = read.unwrap_or_else(|_| Err(progress.timed_out(&question.image, bound)));
        match outcome.map_err(|error| progress.with_what_was_read(error)) {
            Ok(facts) => Ok(facts),
            Err(error) => Err(self.remember_failure(&question, &reference, error, &progress).await),
        }
    }

    /// Remembers a failure for the namespace that asked: the registry may have refused its credentials, or not answered
    /// because of its other requests. A timed-out wait says nothing about the image, so it is not remembered.
    async fn remember_failure(
        &self,
        question: &Question,
        reference: &Reference,
        error: Error,
        progress: &Progress,
    ) -> Arc<Error> {
        count(&self.counters.failures);
        let error = Arc::new(error);
        if is_final(&error, question) {
            let opened = reference.digest.as_ref().map(|digest| question.key_at(reference, digest));
            for key in [Some(question.key.clone()), opened].into_iter().flatten() {
                self.memory.forget(&key).await;
                if let Some(store) = &self.store {
                    store.forget(&key);
                }
            }
        }
        if !progress.is_queued() && !matches!(error.itself(), Error::WaitForMemory { .. }) {
            let namespace = question.asker.namespace();
            self.memory.fail(&question.key, question.depth, namespace, error.clone()).await;
        }
        error
    }

    /// Asks the source for the manifest, and for more only if its digest is unknown.
    async fn read(
        &self,
        question: &Question,
        reference: &Reference,
        progress: &Arc<Progress>,
    ) -> Result<Arc<ImageFacts>, Error> {
        // A look-up that waits for a registry holds next to nothing, and must not block look-ups of registries that
        // answer.
        let asking = self.asking.take(question.asker.namespace(), 1).await;
        progress.begin();
        count(&self.counters.lookups);
        // A tag that was read a moment ago is not read again for a deeper look-up of the same image.
        let read_before = self.memory.fresh_digest(&question.key).await;
        let asked = match &read_before {
            Some(digest) => reference.with_digest(digest),
            None => reference.clone(),
        };
        let images = self.images.asked_by(&question.asker);
        let small = images.manifest(&asked, self.limits.manifest.min(SMALL_MANIFEST)).await;
        let (manifest, slot) = match small {
            Err(error) if is_too_large(&error) => {
                let slot = self.slots.take(question.asker.namespace(), 1).await;
                (images.manifest(&asked, self.limits.manifest).await?, Some(slot))
            }
            small => (small?, None),
        };
        let digest = manifest.digest.clone();
        let known = self.known(&digest).await;
        let remembered = known.as_ref().and_then(|known| known.at(question.depth));
        let facts = if let Some(facts) = remembered {
            facts
        } else {
            let slot = match slot {
                Some(slot) => slot,
                None => self.slots.take(question.asker.namespace(), 1).await,
            };
            // Only now: a look-up in line for a slot holds its manifest, and there may be any number of images.
            drop(asking);
            let source = self.source(images, manifest, &asked, question, progress);
            let known = self.detect(slot, source, asked, question.depth, known).await?;
            known.at(question.depth).ok_or_else(|| Error::Finish { image: question.image.to_string() })?
        };
        // The tag's age restarts only when the registry was asked what the tag resolves to.
        if read_before.is_none() {
            self.remember_name(question, reference, &digest).await;
        }
        Ok(facts)
    }

    /// Remembers what a name resolved to, and that the digest may be asked for in the same repository.
    async fn remember_name(&self, question: &Question, reference: &Reference, digest: &Digest) {
        let readable = question.key_at(reference, digest);
        self.memory.name(&question.key, digest, question.ages(reference)).await;
        self.memory.name(&readable, digest, question.is_private()).await;
        if let Some(store) = &self.store {
            store.keep_name(&readable, digest);
            if reference.digest.is_none() {
                store.keep_name(&question.key, digest);
            }
        }
    }

    fn source(
        &self,
        images: Arc<Images>,
        manifest: FetchedManifest,
        reference: &Reference,
        question: &Question,
        progress: &Arc<Progress>,
    ) -> Arc<LookupSource> {
        Arc::new(LookupSource {
            images,
            memory: Arc::clone(&self.layers),
            names: Arc::clone(&self.names),
            limits: self.limits,
            namespace: Arc::clone(question.asker.namespace()),
            progress: Arc::clone(progress),
            reference: reference.clone(),
            digest: manifest.digest.clone(),
            documents: Documents::new(manifest),
        })
    }

    /// Looks as deep as requested. A deep look-up begins with the shallow one and remembers its facts too: a shallow
    /// question gets the facts of a shallow look-up, whether or not a deeper one was made before.
    async fn detect(
        &self,
        slot: Option<Share>,
        source: Arc<LookupSource>,
        reference: Reference,
        depth: Depth,
        known: Option<Known>,
    ) -> Result<Known, Error> {
        let slot = Slot::holding(slot);
        let digest = source.digest.clone();
        let look = async |depth| {
            let looking = (self.detect)(slot.clone(), source.clone(), reference.clone(), depth, self.limits);
            let mut facts = looking.await?;
            // Memory is keyed by this digest and pods are pinned to it, so it must be the requested one.
            facts.digest = digest.clone();
            Ok::<_, Error>(Arc::new(facts))
        };
        let config = match known {
            Some(known) => known.config,
            None => look(Depth::Config).await?,
        };
        let layers = match depth {
            _ if config.is_whole() => Some(Arc::clone(&config)),
            Depth::Layers => Some(look(Depth::Layers).await?),
            Depth::Config => None,
        };
        let store = self.store.clone();
        let measure = move || {
            let known = Known::new(config, layers);
            if let Some(store) = store {
                store.keep(&known);
            }
            known
        };
        // There may be hundreds of thousands of files among the facts.
        let known = slot.on_blocking_thread(measure).await;
        let known = known.map_err(|_| Error::Finish { image: reference.to_string() })?;
        self.memory.keep(known.clone()).await;
        Ok(known)
    }
}

/// Whether what was known before no longer holds: the image is gone, the registry refuses it to the pod's pull secrets, or
/// the registry may not be asked for it. A refusal to the platform itself may come from a limit on requests.
fn is_final(error: &Error, question: &Question) -> bool {
    let is_denied = matches!(error.itself(), Error::Fetch(registry::Error::AuthorizeFetch { .. }));
    let is_gone = matches!(error.itself(), Error::Fetch(registry::Error::FindImage { .. }));
    is_gone || (is_denied && question.is_private()) || is_refused(error)
}

/// Whether no credentials can help.
pub(super) fn is_refused(error: &Error) -> bool {
    let Error::Fetch(error) = error.itself() else { return false };
    matches!(
        error,
        registry::Error::RefuseRegistry { .. }
            | registry::Error::ReadImage(image::Error::ParseReference { .. })
    )
}

fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::Fetch(registry::Error::ReadImage(image::Error::TooLarge { .. })))
}
