//! The memory of look-ups: what names resolved to, facts by digest, and failures for a few seconds.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;
use moka::ops::compute::Op;

use super::Error;
use crate::image::{Depth, Digest, ImageFacts};
use crate::registry::Clock;

/// Estimated overhead of an entry in bytes: its nodes in the table and in the eviction queues. Generous, so that memory
/// stays below the bound.
const OVERHEAD: usize = 256;

/// Facts in memory take about this many times the bytes of their JSON: every string has a header and spare capacity,
/// and sets have spare space in their nodes. Measured by `benches/lookup.rs`: facts with 1.4 KB of JSON and their name
/// cost 4.7 KB.
const MEMORY_PER_JSON_BYTE: usize = 4;

/// What an error takes beside its texts, with those that it is around: that secrets were tried, and that it is about Wasm.
const ERROR_BYTES: usize = 3 * size_of::<Error>();

/// Bound on remembered failures, in bytes.
pub const FAILURES_BYTES: u64 = 4 << 20;

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheLimits {
    /// Facts, approximately, in bytes.
    pub(super) facts_bytes: u64,
    /// Names, approximately, in bytes.
    pub(super) names_bytes: u64,
    /// How long the digest of a tag is reused before the registry is asked again.
    pub(super) tag_ttl: Duration,
    /// How long what a tag resolved to may be used while its registry cannot be asked.
    pub(super) stale_ttl: Duration,
    /// How long a failure is repeated without asking again.
    pub(super) failure_ttl: Duration,
}

/// What memory knows about an image name.
#[derive(Debug, Clone)]
pub(super) enum Recall {
    /// Known, and recent enough.
    Fresh(Arc<ImageFacts>),
    /// Known, but the tag may have moved since.
    Stale(Arc<ImageFacts>),
    /// Nothing, or not in the requested depth.
    Nothing,
}

impl Recall {
    /// The facts, if they may be out of date.
    pub(super) fn stale(self) -> Option<Arc<ImageFacts>> {
        if let Self::Stale(facts) = self { Some(facts) } else { None }
    }
}

/// What an image name resolved to.
#[derive(Debug, Clone)]
struct Named {
    digest: Digest,
    /// When the registry named the digest; `None` for a digest that every client may read, which does not age.
    read_at: Option<Instant>,
}

/// The facts about a digest. A request gets the facts of its own depth, even if a deeper look-up was made before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    /// Facts from the manifest and config.
    pub(super) config: Arc<ImageFacts>,
    /// Facts from the layers too; shared with `config` when the layers add nothing.
    pub(super) layers: Option<Arc<ImageFacts>>,
    /// The length of the JSON of both.
    pub(super) json_bytes: usize,
}

impl Known {
    /// Measures the facts. There may be hundreds of thousands of files among them, so this is nothing for a thread that answers.
    pub(super) fn new(config: Arc<ImageFacts>, layers: Option<Arc<ImageFacts>>) -> Self {
        let known = Self { config, layers, json_bytes: 0 };
        let deeper = known.deeper().map_or(0, |layers| json_bytes(layers));
        Self { json_bytes: json_bytes(&known.config).saturating_add(deeper), ..known }
    }

    /// The facts of this depth, if they are known.
    pub(super) fn at(&self, depth: Depth) -> Option<Arc<ImageFacts>> {
        match depth {
            Depth::Config => Some(self.config.clone()),
            Depth::Layers => self.layers.clone(),
        }
    }

    /// The facts from the layers, if they are known and add something.
    pub(super) fn deeper(&self) -> Option<&Arc<ImageFacts>> {
        self.layers.as_ref().filter(|layers| !Arc::ptr_eq(layers, &self.config))
    }
}

/// Image, depth, and the namespace that asked.
type FailureKey = (Arc<str>, Depth, Arc<str>);

/// The memory of an inspector.
#[derive(Debug)]
pub(super) struct Memory {
    /// Keyed by the name as written, so that a hit parses nothing.
    names: Cache<Arc<str>, Named>,
    facts: Cache<Digest, Known>,
    /// With the time of each.
    failures: Cache<FailureKey, (Instant, Arc<Error>)>,
    tag_ttl: Duration,
    stale_ttl: Duration,
    failure_ttl: Duration,
    clock: Clock,
}

impl Memory {
    pub(super) fn new(bounds: &CacheLimits) -> Self {
        Self {
            names: Cache::builder()
                .max_capacity(bounds.names_bytes)
                .weigher(|image: &Arc<str>, named: &Named| weight(image.len() + named.digest.as_str().len()))
                .time_to_live(bounds.stale_ttl.max(bounds.tag_ttl))
                .build(),
            facts: Cache::builder()
                .max_capacity(bounds.facts_bytes)
                .weigher(|digest: &Digest, known: &Known| {
                    let facts = known.json_bytes.saturating_mul(MEMORY_PER_JSON_BYTE);
                    weight(digest.as_str().len().saturating_add(facts))
                })
                .build(),
            failures: Cache::builder()
                .max_capacity(FAILURES_BYTES)
                // What an error holds is what it says, with the name and foreign text.
                .weigher(|(image, _, namespace): &FailureKey, (_, error): &(Instant, Arc<Error>)| {
                    weight(image.len() + namespace.len() + error.to_string().len() + ERROR_BYTES)
                })
                .time_to_live(bounds.failure_ttl)
                .build(),
            tag_ttl: bounds.tag_ttl,
            stale_ttl: bounds.stale_ttl.max(bounds.tag_ttl),
            failure_ttl: bounds.failure_ttl,
            clock: Clock::default(),
        }
    }

    /// What memory knows about a name. Allocates nothing.
    pub(super) async fn recall(&self, image: &str, depth: Depth) -> Recall {
        let Some(named) = self.names.get(image).await else { return Recall::Nothing };
        // A name that was read from disk was old already when memory got it.
        if named.read_at.is_some_and(|read_at| self.age(read_at) > self.stale_ttl) {
            return Recall::Nothing;
        }
        let known = self.facts.get(&named.digest).await;
        let Some(facts) = known.and_then(|known| known.at(depth)) else { return Recall::Nothing };
        if self.is_fresh(&named) { Recall::Fresh(facts) } else { Recall::Stale(facts) }
    }

    /// Whether a name resolves to these facts; `None` where it is not known what it resolves to, or that is not recent.
    pub(super) async fn holds(&self, image: &str, facts: &Arc<ImageFacts>) -> Option<bool> {
        let named = self.names.get(image).await.filter(|named| self.is_fresh(named))?;
        let Some(known) = self.facts.get(&named.digest).await else { return Some(false) };
        let mut own = [Some(&known.config), known.layers.as_ref()].into_iter().flatten();
        Some(own.any(|own| Arc::ptr_eq(own, facts)))
    }

    /// The digest that a name resolved to, if that is recent.
    pub(super) async fn fresh_digest(&self, image: &str) -> Option<Digest> {
        let named = self.names.get(image).await?;
        self.is_fresh(&named).then_some(named.digest)
    }

    fn is_fresh(&self, named: &Named) -> bool {
        named.read_at.is_none_or(|read_at| self.age(read_at) < self.tag_ttl)
    }

    fn age(&self, since: Instant) -> Duration {
        self.clock.now().saturating_duration_since(since)
    }

    /// What is known about a digest.
    pub(super) async fn known(&self, digest: &Digest) -> Option<Known> {
        self.facts.get(digest).await
    }

    /// A failure that is still remembered.
    pub(super) async fn failure(
        &self,
        image: &Arc<str>,
        depth: Depth,
        namespace: &Arc<str>,
    ) -> Option<Arc<Error>> {
        let (at, error) = self.failures.get(&(image.clone(), depth, namespace.clone())).await?;
        (self.age(at) < self.failure_ttl).then_some(error)
    }

    /// Remembers what a name resolved to. `ages` says whether the answer may be another one later.
    pub(super) async fn name(&self, image: &Arc<str>, digest: &Digest, ages: bool) {
        let read_at = ages.then(|| self.clock.now());
        self.names.insert(image.clone(), Named { digest: digest.clone(), read_at }).await;
    }

    /// Remembers for a name what is known about another one, with its age.
    pub(super) async fn name_like(&self, image: &Arc<str>, other: &Arc<str>) {
        if let Some(named) = self.names.get(other).await {
            self.names.insert(image.clone(), named).await;
        }
    }

    /// Remembers a digest to which a name resolved `age` ago.
    pub(super) async fn name_of_age(&self, image: &Arc<str>, digest: &Digest, age: Duration) {
        let Some(read_at) = self.clock.now().checked_sub(age).filter(|_| age <= self.stale_ttl) else {
            return;
        };
        self.names.insert(image.clone(), Named { digest: digest.clone(), read_at: Some(read_at) }).await;
    }

    /// Remembers facts, unless deeper ones are known.
    pub(super) async fn keep(&self, known: Known) {
        let write = |old: Option<moka::Entry<Digest, Known>>| {
            let deeper = known.layers.is_none() && old.is_some_and(|old| old.into_value().layers.is_some());
            std::future::ready(if deeper { Op::Nop } else { Op::Put(known.clone()) })
        };
        self.facts.entry(known.config.digest.clone()).and_compute_with(write).await;
    }

    /// Remembers a failure.
    pub(super) async fn fail(&self, image: &Arc<str>, depth: Depth, namespace: &Arc<str>, error: Arc<Error>) {
        self.failures.insert((image.clone(), depth, namespace.clone()), (self.clock.now(), error)).await;
    }

    /// Forgets what a name resolved to: its registry says that there is no such image.
    pub(super) async fn forget(&self, image: &str) {
        self.names.invalidate(image).await;
    }

    /// Names and digests that are remembered now, approximately.
    pub(super) fn sizes(&self) -> (u64, u64) {
        (self.names.entry_count(), self.facts.entry_count())
    }

    /// Lets everything that is remembered grow older.
    #[cfg(test)]
    pub(super) fn age_by(&self, time: Duration) {
        self.clock.put_forward(time);
    }

    /// Estimated memory of the names and facts in bytes, which the bounds apply to.
    #[cfg(test)]
    fn weighed(&self) -> u64 {
        self.names.weighted_size() + self.facts.weighted_size()
    }

    /// Runs pending evictions, so that a test can count.
    #[cfg(test)]
    async fn settle(&self) {
        self.names.run_pending_tasks().await;
        self.facts.run_pending_tasks().await;
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(OVERHEAD)).unwrap_or(u32::MAX)
}

/// Length of the JSON form: it includes every field, also those that are added later.
fn json_bytes(facts: &ImageFacts) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, facts).map_or(usize::MAX / 4, |()| count.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::image::{ImageKind, ModuleFacts, Shape, WasmFormat};

    const BOUNDS: CacheLimits = CacheLimits {
        facts_bytes: 1 << 20,
        names_bytes: 1 << 20,
        tag_ttl: Duration::from_mins(40),
        stale_ttl: Duration::from_mins(400),
        failure_ttl: Duration::from_mins(40),
    };

    /// A text that is a digest, or the digest of any other text.
    pub(in crate::lookup) fn named(text: &str) -> Digest {
        text.parse().unwrap_or_else(|_| Digest::of(text.as_bytes()))
    }

    pub(in crate::lookup) fn facts(digest: &str) -> ImageFacts {
        ImageFacts {
            kind: ImageKind::Linux,
            shape: Shape::LinuxRootfs,
            platform: "linux/amd64".into(),
            ..ImageFacts::blank(&named(digest), &named(digest))
        }
    }

    /// What a look-up of this depth remembers; `scanned` marks the deep one.
    pub(crate) fn known(facts: ImageFacts, depth: Depth) -> Known {
        let layers =
            (depth == Depth::Layers).then(|| Arc::new(ImageFacts { scanned: true, ..facts.clone() }));
        Known::new(Arc::new(facts), layers)
    }

    async fn remember(memory: &Memory, image: &str, digest: &str, depth: Depth) {
        memory.name(&image.into(), &named(digest), true).await;
        memory.keep(known(facts(digest), depth)).await;
    }

    #[tokio::test]
    async fn a_tag_is_fresh_then_stale_then_gone() {
        let memory = Memory::new(&BOUNDS);
        remember(&memory, "a:1", "sha256:1", Depth::Config).await;
        assert!(matches!(memory.recall("a:1", Depth::Config).await, Recall::Fresh(_)));
        memory.age_by(Duration::from_hours(1));
        assert!(matches!(memory.recall("a:1", Depth::Config).await, Recall::Stale(_)));
        memory.age_by(Duration::from_mins(400));
        assert!(matches!(memory.recall("a:1", Depth::Config).await, Recall::Nothing));
        assert!(memory.known(&named("sha256:1")).await.is_some(), "facts do not age");
    }

    #[tokio::test]
    async fn a_name_with_its_digest_does_not_go_stale() {
        let memory = Memory::new(&BOUNDS);
        memory.name(&"a@sha256:1".into(), &named("sha256:1"), false).await;
        memory.keep(known(facts("sha256:1"), Depth::Config)).await;
        memory.age_by(Duration::from_hours(1));
        assert!(matches!(memory.recall("a@sha256:1", Depth::Config).await, Recall::Fresh(_)));
    }

    #[tokio::test]
    async fn a_tag_from_disk_keeps_its_age() {
        let memory = Memory::new(&BOUNDS);
        memory.keep(known(facts("sha256:1"), Depth::Config)).await;
        for (name, age) in [("new:1", 0), ("old:1", 100), ("ancient:1", 500)] {
            memory.name_of_age(&name.into(), &named("sha256:1"), Duration::from_mins(age)).await;
        }
        assert!(matches!(memory.recall("new:1", Depth::Config).await, Recall::Fresh(_)));
        assert!(matches!(memory.recall("old:1", Depth::Config).await, Recall::Stale(_)));
        assert!(matches!(memory.recall("ancient:1", Depth::Config).await, Recall::Nothing));
        memory.age_by(Duration::from_mins(350));
        assert!(matches!(memory.recall("old:1", Depth::Config).await, Recall::Nothing));
    }

    #[tokio::test]
    async fn a_shallow_question_gets_the_shallow_facts_even_if_deeper_ones_are_known() {
        let memory = Memory::new(&BOUNDS);
        remember(&memory, "a:1", "sha256:1", Depth::Config).await;
        assert!(matches!(memory.recall("a:1", Depth::Layers).await, Recall::Nothing));
        remember(&memory, "a:1", "sha256:1", Depth::Layers).await;
        remember(&memory, "a:1", "sha256:1", Depth::Config).await;
        assert!(matches!(memory.recall("a:1", Depth::Layers).await, Recall::Fresh(facts) if facts.scanned));
        assert!(matches!(memory.recall("a:1", Depth::Config).await, Recall::Fresh(facts) if !facts.scanned));
    }

    #[tokio::test]
    async fn the_bytes_of_the_facts_are_bounded() {
        let memory = Memory::new(&CacheLimits { facts_bytes: 64 << 10, ..BOUNDS });
        for number in 0..1000 {
            let mut large = facts(&format!("sha256:{number}"));
            large.warnings = vec!["x".repeat(1000)];
            memory.keep(known(large, Depth::Config)).await;
        }
        memory.settle().await;
        let (_, kept) = memory.sizes();
        assert!((5..=30).contains(&kept), "{kept} facts of more than 2 000 bytes in 64 KiB");
    }

    #[tokio::test]
    async fn facts_are_weighed_by_what_was_measured_when_they_became_known() {
        let memory = Memory::new(&BOUNDS);
        let measured = known(facts("sha256:1"), Depth::Layers);
        assert!((200..20_000).contains(&measured.json_bytes), "{}", measured.json_bytes);
        memory.keep(Known { json_bytes: 10_000, ..measured }).await;
        memory.settle().await;
        assert!((40_000..41_000).contains(&memory.weighed()), "{}", memory.weighed());
    }

    /// Set for a process that only fills this memory, so that its growth is the growth of this memory.
    const ALONE: &str = "WASMGATE_TEST_ALONE";

    /// Number of entries that the process remembers.
    const REMEMBERED: usize = 20_000;

    /// Bytes of this process in memory (`proc_pid_status(5)`, `VmRSS`).
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Facts of a typical command, or of a root file system with many files.
    fn usual(number: usize, files: bool) -> ImageFacts {
        let import = |name: usize| format!("function_number_{name}");
        let module = ModuleFacts {
            imports: vec![crate::image::Import {
                interface: "wasi_snapshot_preview1".into(),
                functions: (0..12).map(import).collect(),
            }],
            exports: ["_start", "memory"].map(String::from).into(),
            code_bytes: 70_000,
            data_bytes: 3000,
            memory_bytes: 1 << 20,
            size_bytes: 80_000,
            ..ModuleFacts::blank(format!("layer sha256:{number:064x}"), WasmFormat::Module)
        };
        let seen =
            |what: &str| crate::image::Evidence { seen: what.into(), value: "application/wasm".into() };
        let mut facts = facts(&format!("sha256:{number:064x}"));
        if files {
            let path = |file: usize| (format!("/usr/lib/app/file{file}.py"), crate::image::FileClass::Other);
            facts.files = (0..30).map(path).collect();
        } else {
            facts.modules = vec![module];
            facts.evidence = vec![seen("manifest.config.mediaType"), seen("layer sha256:0 bytes 0..8")];
        }
        facts
    }

    async fn grow(files: bool) -> (u64, u64) {
        let memory = Memory::new(&CacheLimits {
            facts_bytes: 1 << 32,
            names_bytes: 1 << 32,
            tag_ttl: Duration::from_hours(1),
            stale_ttl: Duration::from_hours(1),
            ..BOUNDS
        });
        let before = resident();
        for number in 0..REMEMBERED {
            let facts = usual(number, files);
            memory.name(&format!("registry.test/team/app{number}:v1").into(), &facts.digest, true).await;
            let facts = Arc::new(facts.clone());
            memory.keep(Known::new(facts.clone(), Some(facts))).await;
        }
        memory.settle().await;
        (memory.weighed(), resident() - before)
    }

    #[tokio::test]
    async fn remembered_entries_are_weighed_by_the_memory_that_they_take() {
        let name = "lookup::cache::tests::remembered_entries_are_weighed_by_the_memory_that_they_take";
        let Ok(files) = std::env::var(ALONE) else {
            for files in ["modules", "files"] {
                let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
                let output = alone.args(["--exact", name, "--nocapture"]).env(ALONE, files).output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && said.contains("1 passed"), "{said}");
                print!("{said}");
            }
            return;
        };
        let (weighed, taken) = grow(files == "files").await;
        let each = |bytes: u64| bytes / REMEMBERED as u64;
        println!("{files}: weighed as {} bytes each, takes {}", each(weighed), each(taken));
        assert!(weighed * 2 >= taken, "the bound would be passed by more than twice");
        assert!(weighed <= taken * 3, "a third of what was allowed would be used");
    }

    #[tokio::test]
    async fn failures_are_weighed_by_what_they_say() {
        let memory = Memory::new(&BOUNDS);
        let shop: Arc<str> = "shop".into();
        let message = "x".repeat(4000);
        for number in 0..2000 {
            let image: Arc<str> = format!("a:{number}").into();
            let (name, what) = (image.to_string(), "the manifest".to_string());
            let error = crate::image::Error::Read { image: name, what, message: message.clone() };
            memory.fail(&image, Depth::Config, &shop, Arc::new(error.into())).await;
        }
        memory.failures.run_pending_tasks().await;
        let kept = memory.failures.entry_count();
        assert!((100..=1000).contains(&kept), "{kept} failures of more than 4 000 bytes in 4 MiB");
    }

    #[tokio::test]
    async fn failures_are_remembered_for_a_moment_only() {
        let memory = Memory::new(&BOUNDS);
        let image: Arc<str> = "a:1".into();
        let error = Arc::new(Error::TimedOut { image: "a:1".into(), budget_ms: 1 });
        let [shop, other] = ["shop", "other"].map(Arc::from);
        memory.fail(&image, Depth::Config, &shop, error.clone()).await;
        assert_eq!(memory.failure(&image, Depth::Config, &shop).await, Some(error));
        assert_eq!(memory.failure(&image, Depth::Layers, &shop).await, None);
        assert_eq!(
            memory.failure(&image, Depth::Config, &other).await,
            None,
            "another namespace asks itself"
        );
        memory.age_by(Duration::from_hours(1));
        assert_eq!(memory.failure(&image, Depth::Config, &shop).await, None);
    }
}
