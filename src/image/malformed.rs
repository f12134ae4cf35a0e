//! Foreign bytes that are not what they claim to be, before it is known to which image they belong.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

use crate::text;

/// Most characters of what is wrong. It may quote any text of an image, and is kept for each file that cannot be read and for
/// each look-up that failed.
const LONGEST: usize = 1000;

/// What is wrong with some bytes, in at most a thousand characters. [`super::Error::Read`] adds the image and what was read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub String, Shortened);

/// Only [`Malformed::new`] has one, so that no message is built without being shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shortened;

impl Malformed {
    /// From anything that can be shown.
    pub fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        // Twice: a character that is made visible becomes up to ten.
        let cut = text::shorten(&message, LONGEST);
        let visible = text::visible(&cut);
        Self(text::shorten(&visible, LONGEST).into_owned(), Shortened)
    }
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Keys of an object that no field consumed, for `#[serde(flatten)]`.
#[derive(Debug, Default)]
pub(super) struct Rest(BTreeSet<String>);

impl<'de> Deserialize<'de> for Rest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Rest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rest, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.insert(key);
                }
                Ok(Rest(keys))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Refuses a key that differs from a known one only in letter case.
///
/// containerd and the registries read these documents with Go's `encoding/json`, which matches keys in any letter case;
/// serde does not. An image with `Layers` would be one thing to the gate and another to the node.
pub(super) fn no_lookalikes(rest: &Rest, known: &[&str]) -> Result<(), Malformed> {
    for key in &rest.0 {
        let folded = fold(key);
        if let Some(name) = known.iter().find(|name| fold(name) == folded) {
            return Err(Malformed::new(format!(
                "the key `{key}` differs from `{name}` only in letter case; write `{name}`"
            )));
        }
    }
    Ok(())
}

/// Foreign text cut to what fits a message.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 160;
    text::shorten(text, LONGEST).into_owned()
}

/// Folds letter case like Go's `encoding/json`: also the long s, and the Kelvin sign (which lower-cases to `k`).
pub(super) fn fold(key: &str) -> String {
    key.to_lowercase().replace('ſ', "s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_foreign_text_is_cut_between_characters() {
        assert_eq!(short("ä"), "ä");
        assert_eq!(short(&"ä".repeat(500)).chars().count(), 160);
    }

    #[test]
    fn foreign_text_cannot_forge_a_line() {
        assert_eq!(Malformed::new("a\nb").0, r"a\nb");
        let json = serde_json::from_str::<u8>("\"a\nb\"").unwrap_err();
        assert!(!Malformed::from(json).0.contains('\n'));
    }

    #[test]
    fn what_is_wrong_is_bounded_whatever_it_quotes() {
        for part in ["x", "ä", "\u{202e}"] {
            let wrong = Malformed::new(part.repeat(1 << 20));
            assert_eq!(wrong.0.chars().count(), LONGEST, "{part:?}");
            assert!(wrong.0.ends_with('…'), "{part:?}");
        }
        let json = serde_json::from_str::<u64>(&format!("\"{}\"", "x".repeat(1 << 20))).unwrap_err();
        assert_eq!(Malformed::from(json).0.chars().count(), LONGEST);
    }

    #[test]
    fn keys_that_go_would_match_are_refused() {
        for key in ["Layers", "layerS", "LAYERS", "layerſ"] {
            let rest = Rest(BTreeSet::from([key.to_string()]));
            let error = no_lookalikes(&rest, &["layers"]).unwrap_err();
            assert!(error.0.contains("write `layers`"), "{error}");
        }
        let rest = Rest(BTreeSet::from(["layerz".to_string()]));
        assert_eq!(no_lookalikes(&rest, &["layers"]), Ok(()));
    }
}
