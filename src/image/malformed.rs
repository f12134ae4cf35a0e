//! Foreign bytes that are not what they claim to be, before it is known to which image they belong.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

/// What is wrong with some bytes. [`super::Error::Read`] adds the image and what was read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Malformed {
    /// From anything that can be shown.
    pub fn new(message: impl Into<String>) -> Self {
        Self(harmless(&message.into()))
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
    match text.char_indices().nth(LONGEST).and_then(|(end, _)| text.get(..end)) {
        Some(head) => format!("{head}…"),
        None => text.to_string(),
    }
}

/// Foreign text made fit for a message: on one line, short, without characters that act on a terminal or reorder text.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    let mut shown: String = text.trim().chars().take(chars).map(|c| if acts(c) { ' ' } else { c }).collect();
    if text.trim().chars().nth(chars).is_some() {
        shown.push('…');
    }
    shown
}

/// What a terminal or a log obeys, and what hides or reorders text: control characters, line breaks among them, and of
/// Unicode the characters without width, the separators of lines and paragraphs, and the marks of UAX #9.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{61c}' | '\u{feff}')
}

/// Foreign text as it may stand in a line of a log, in an annotation or in a warning: it cannot end the line and begin one
/// of its own. Harmless text is left as it is, so that it does not matter how often this is done.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Folds letter case like Go's `encoding/json`: also the long s, and the Kelvin sign (which lower-cases to `k`).
fn fold(key: &str) -> String {
    key.to_lowercase().replace('ſ', "s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_foreign_text_is_cut_between_characters() {
        assert_eq!(short("ä"), "ä");
        assert_eq!(short(&"ä".repeat(500)).chars().count(), 161);
    }

    #[test]
    fn foreign_text_cannot_forge_a_line() {
        let text = "a\nb\r\u{1b}[2J\u{2028}\u{202e}\u{feff}\u{85}c";
        let shown = harmless(text);
        assert_eq!(shown, r"a\nb\r\u{1b}[2J\u{2028}\u{202e}\u{feff}\u{85}c");
        assert_eq!(harmless(&shown), shown);
        assert_eq!(harmless("`/ä b`: 日本"), "`/ä b`: 日本");
        assert_eq!(Malformed::new("a\nb").0, r"a\nb");
        let json = serde_json::from_str::<u8>("\"a\nb\"").unwrap_err();
        assert!(!Malformed::from(json).0.contains('\n'));
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
