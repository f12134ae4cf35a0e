//! Which requests were learned, for the plan.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::image::Digest;
use crate::quantity::Quantity;

/// Hex digits of the name of an object.
const NAME_DIGITS: usize = 40;

/// An image under a runtime: what uses memory is the program together with what runs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageKey {
    /// The digest to which pods of the image are pinned.
    pub digest: Digest,
    /// The name of the runtime profile.
    pub runtime: String,
}

impl UsageKey {
    /// The name of the object about it. An image has one under each runtime.
    pub fn object_name(&self) -> String {
        let digest = format!("{:x}", Sha256::digest(format!("{}\n{}", self.digest, self.runtime)));
        let digits: String = digest.chars().take(NAME_DIGITS).collect();
        format!("usage-{digits}")
    }
}

/// The requests that were learned for an image under a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnedSize {
    /// Of memory, in whole mebibytes.
    pub memory: Quantity,
    /// Of processors, in whole thousandths.
    pub cpu: Quantity,
}

impl LearnedSize {
    /// Whether it differs by more than a tenth from what was said before. Smaller differences are not worth the decisions that every
    /// replica has to take anew.
    pub fn is_news_after(self, former: Self) -> bool {
        let differs = |now: u64, before: u64| now.abs_diff(before).saturating_mul(10) > before;
        differs(self.memory.bytes(), former.memory.bytes()) || differs(self.cpu.millis(), former.cpu.millis())
    }
}

/// The learned requests of all images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned(BTreeMap<Digest, BTreeMap<String, LearnedSize>>);

impl Learned {
    /// What was learned of an image under a runtime profile.
    pub fn of(&self, digest: &Digest, runtime: &str) -> Option<LearnedSize> {
        self.0.get(digest)?.get(runtime).copied()
    }

    /// What was learned of an image, under each runtime profile.
    pub fn under_each(&self, digest: &Digest) -> impl Iterator<Item = (&str, LearnedSize)> {
        let sizes = self.0.get(digest).into_iter().flatten();
        sizes.map(|(runtime, size)| (runtime.as_str(), *size))
    }

    /// Adds what was learned.
    pub fn insert(&mut self, key: UsageKey, size: LearnedSize) {
        self.0.entry(key.digest).or_default().insert(key.runtime, size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(memory: u32, cpu: i128) -> LearnedSize {
        LearnedSize { memory: Quantity::mebibytes(memory), cpu: Quantity::from_millis(cpu) }
    }

    #[test]
    fn a_tenth_more_or_less_is_no_news() {
        for (now, before, is_news) in [
            (size(20, 20), size(20, 20), false),
            (size(22, 18), size(20, 20), false),
            (size(23, 20), size(20, 20), true),
            (size(17, 20), size(20, 20), true),
            (size(20, 23), size(20, 20), true),
            (size(20, 17), size(20, 20), true),
            (size(1, 1), size(0, 0), true),
        ] {
            assert_eq!(now.is_news_after(before), is_news, "{now:?} {before:?}");
        }
    }

    #[test]
    fn each_runtime_has_its_own_size_and_object() {
        let key =
            |image: &[u8], runtime: &str| UsageKey { digest: Digest::of(image), runtime: runtime.into() };
        let mut learned = Learned::default();
        learned.insert(key(b"a", "spin"), size(1, 1));
        learned.insert(key(b"a", "wasmtime"), size(2, 2));
        assert_eq!(learned.of(&Digest::of(b"a"), "spin"), Some(size(1, 1)));
        assert_eq!(learned.of(&Digest::of(b"a"), "wasmtime"), Some(size(2, 2)));
        assert_eq!(learned.of(&Digest::of(b"b"), "spin"), None);
        let names: std::collections::BTreeSet<String> =
            [key(b"a", "spin"), key(b"a", "wasmtime"), key(b"b", "spin")]
                .iter()
                .map(UsageKey::object_name)
                .collect();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| name.len() == 46), "{names:?}");
    }
}
