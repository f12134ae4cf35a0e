//! What earlier evaluations found. An evaluation follows from its bundle, the limits on its work and the input as it was written; one
//! that asked neither for the time nor for a random value comes out the same whenever it is repeated, and is kept by a
//! digest of exactly these, without the [`Identity`] of the input that no rule of the bundle reads. An error is never kept: the clock has a
//! part in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use moka::future::Cache;
use sha2::{Digest, Sha256};

use super::identity::Identity;
use super::{Limits, Violation};

/// Bytes that an entry takes beside the texts of its violations: its key twice, its place in the order, and the list.
const ENTRY_BYTES: usize = 256;

/// Which bundle it is: two that were loaded one after the other never share it, also where their files are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BundleId(u64);

/// Everything that an evaluation follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// How often what was kept was enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerdictCounts {
    /// Evaluations that were not repeated.
    pub hits: u64,
    /// Evaluations of inputs that may repeat, and were not kept or not any more.
    pub misses: u64,
    /// Bytes that are in use.
    pub bytes: u64,
}

/// The violations of earlier evaluations, within a number of bytes. Those that are used seldom go first; those of a bundle that is not
/// in force any more are never asked for again, and go with them.
#[derive(Debug)]
pub(super) struct Verdicts {
    kept: Option<Cache<Key, Arc<[Violation]>>>,
    decision_bytes: u64,
    bundles: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Verdicts {
    /// Keeps nothing with zero bytes. Half of them are for whole decisions, which the gate keeps.
    pub fn within(bytes: u64) -> Self {
        let decision_bytes = bytes / 2;
        let own = bytes.saturating_sub(decision_bytes);
        let kept = (own > 0).then(|| {
            Cache::builder().max_capacity(own).weigher(|_, found: &Arc<[Violation]>| weight(found)).build()
        });
        let [bundles, hits, misses] = [(); 3].map(|()| AtomicU64::new(0));
        Self { kept, decision_bytes, bundles, hits, misses }
    }

    /// Most bytes of whole decisions.
    pub const fn decision_bytes(&self) -> u64 {
        self.decision_bytes
    }

    /// Counts evaluations that were not looked for, since the decision that they were for was known.
    pub fn count_hits(&self, evaluations: usize) {
        self.hits.fetch_add(u64::try_from(evaluations).unwrap_or(u64::MAX), Relaxed);
    }

    /// The identity of a bundle that is being loaded.
    pub fn next_bundle(&self) -> BundleId {
        BundleId(self.bundles.fetch_add(1, Relaxed))
    }

    /// The key of an evaluation by rules that do not read this identity; `None` where nothing is kept.
    pub fn key(
        &self,
        BundleId(bundle): BundleId,
        limits: Limits,
        (input, unread): (&str, &Identity),
    ) -> Option<Key> {
        self.kept.as_ref()?;
        // Time limits an evaluation too, but one that ended within it does not depend on it.
        let Limits { fuel, time: _, memory_bytes, strict_builtins } = limits;
        let mut digest = Sha256::new();
        digest.update(bundle.to_le_bytes());
        digest.update(fuel.to_le_bytes());
        digest.update(u64::try_from(memory_bytes).unwrap_or(u64::MAX).to_le_bytes());
        digest.update([u8::from(strict_builtins)]);
        let mut start = 0;
        for place in unread.places(input) {
            add(&mut digest, input.get(start..place.start)?);
            digest.update(bytes(place.len()));
            start = place.end;
        }
        add(&mut digest, input.get(start..)?);
        Some(Key(digest.finalize().into()))
    }

    /// What an evaluation found earlier.
    pub async fn find(&self, key: &Key) -> Option<Arc<[Violation]>> {
        let found = self.kept.as_ref()?.get(key).await;
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Relaxed);
        found
    }

    /// Keeps what an evaluation found.
    pub async fn keep(&self, key: Key, found: &[Violation]) {
        if let Some(kept) = &self.kept {
            kept.insert(key, found.into()).await;
        }
    }

    pub fn counts(&self) -> VerdictCounts {
        let bytes = self.kept.as_ref().map_or(0, Cache::weighted_size);
        VerdictCounts { hits: self.hits.load(Relaxed), misses: self.misses.load(Relaxed), bytes }
    }
}

/// Adds a text so that it cannot be taken for a part of what comes next.
fn add(digest: &mut Sha256, text: &str) {
    digest.update(bytes(text.len()));
    digest.update(text);
}

/// A length as it is hashed.
fn bytes(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes()
}

/// Bytes of an entry. A violation has a few short texts and one message.
fn weight(found: &[Violation]) -> u32 {
    let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = found.iter().map(|violation| {
        // The gate adds the name of the bundle and its METADATA afterwards.
        let Violation { rule, message, container, capability, remedy, .. } = violation;
        let texts = rule.len().saturating_add(message.len());
        let texts =
            texts.saturating_add(of(container)).saturating_add(of(capability)).saturating_add(of(remedy));
        texts.saturating_add(size_of::<Violation>())
    });
    u32::try_from(texts.fold(ENTRY_BYTES, usize::saturating_add)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn violation(message: &str) -> Violation {
        Violation { rule: "a-rule".into(), message: message.into(), ..Violation::default() }
    }

    #[tokio::test]
    async fn what_was_found_is_found_again_by_the_same_bundle_limits_and_input_alone() {
        let verdicts = Verdicts::within(1 << 20);
        let (one, other) = (verdicts.next_bundle(), verdicts.next_bundle());
        let limits = Limits::default();
        let all = Identity::default();
        let key = |bundle, limits, input| verdicts.key(bundle, limits, (input, &all)).unwrap();
        verdicts.keep(key(one, limits, "{}"), &[violation("no")]).await;
        assert_eq!(
            verdicts.find(&key(one, limits, "{}")).await.as_deref(),
            Some([violation("no")].as_slice())
        );
        let further = [
            (other, limits, "{}"),
            (one, limits, "{ }"),
            (one, Limits { fuel: 1, ..limits }, "{}"),
            (one, Limits { memory_bytes: 1, ..limits }, "{}"),
            (one, Limits { strict_builtins: true, ..limits }, "{}"),
        ];
        for (bundle, limits, input) in further {
            assert_eq!(
                verdicts.find(&key(bundle, limits, input)).await,
                None,
                "{bundle:?} {limits:?} {input}"
            );
        }
        let VerdictCounts { hits, misses, .. } = verdicts.counts();
        assert_eq!((hits, misses), (1, 5));
    }

    #[test]
    fn what_no_rule_reads_counts_by_its_length_alone_and_everything_else_as_it_is() {
        let verdicts = Verdicts::within(1 << 20);
        let bundle = verdicts.next_bundle();
        let unread = ["request.uid", "request.name"].map(String::from).into_iter().collect();
        let identity = Identity::of(&unread, &BTreeSet::new());
        let key = |input: &str, unread: &Identity| {
            verdicts.key(bundle, Limits::default(), (input, unread)).unwrap()
        };
        let one = r#"{"request":{"uid":"u-1","name":"web-1"},"workload":{"name":"web-1"}}"#;
        let same = one.replace("u-1", "u-2").replace(r#""name":"web-1"},"w"#, r#""name":"web-2"},"w"#);
        assert_ne!(one, same);
        assert_eq!(key(one, &identity), key(&same, &identity));
        assert_ne!(key(one, &Identity::default()), key(&same, &Identity::default()));
        for other in [
            one.replace("u-1", "u-10"),
            one.replace("u-1", "u-"),
            one.replace(r#""workload":{"name":"web-1"}"#, r#""workload":{"name":"web-2"}"#),
            one.replace("u-1", r"u1"),
            one.replace(r#""u-1""#, "null"),
            // What is moved from one text into the next one.
            one.replace("u-1", "u-1w").replacen("web-1", "eb-1", 1),
            one.replace(r#""uid":"u-1","name":"web-1""#, r#""name":"web-1","uid":"u-1""#),
            format!("{one} "),
        ] {
            assert_ne!(key(one, &identity), key(&other, &identity), "{other}");
        }
    }

    #[tokio::test]
    async fn no_more_bytes_are_kept_than_allowed() {
        let verdicts = Verdicts::within(64 << 10);
        let (bundle, message) = (verdicts.next_bundle(), "x".repeat(4 << 10));
        for number in 0..200 {
            let input = number.to_string();
            let key = verdicts.key(bundle, Limits::default(), (&input, &Identity::default())).unwrap();
            verdicts.keep(key, &[violation(&message)]).await;
        }
        let kept = verdicts.kept.as_ref().unwrap();
        kept.run_pending_tasks().await;
        assert!(verdicts.counts().bytes <= 64 << 10, "{:?}", verdicts.counts());
        assert!(kept.entry_count() > 0);
    }

    #[tokio::test]
    async fn nothing_is_kept_without_bytes() {
        let verdicts = Verdicts::within(0);
        let input = ("{}", &Identity::default());
        assert_eq!(verdicts.key(verdicts.next_bundle(), Limits::default(), input), None);
    }
}
