//! The digest of a file as it is signed (`open-policy-agent/opa:v1/bundle/hash.go`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha384, Sha512};

use crate::text;

/// Nesting depth of a signed document.
const MAX_DEPTH: usize = 128;
/// Most bytes of a document that are scanned for its digest. Each is scanned once for every value that it lies in.
const MOST_SCANNED: usize = 1 << 30;
/// Most characters of a foreign name in a message.
const SHOWN: usize = 200;

/// The digest of a file, in hexadecimal: of documents without regard to blanks and the order of keys.
pub(super) fn digest(algorithm: &str, name: &str, bytes: &[u8]) -> Result<String, String> {
    let mut digest: Box<dyn DynDigest> = match algorithm {
        "SHA-256" => Box::new(Sha256::default()),
        "SHA-384" => Box::new(Sha384::default()),
        "SHA-512" => Box::new(Sha512::default()),
        other => {
            return Err(format!(
                "`{}` was signed by the digest `{}`; sign with SHA-256, SHA-384 or SHA-512",
                shown(name),
                shown(other)
            ));
        }
    };
    let is_document =
        Path::new(name).file_name().is_some_and(|name| name == "data.json" || name == ".manifest");
    if is_document {
        let text: &RawValue =
            serde_json::from_slice(bytes).map_err(|error| format!("`{}`: {error}", shown(name)))?;
        let mut walk = Walk { to: &mut *digest, left: MOST_SCANNED };
        walk.value(text, 0).map_err(|reason| format!("`{}`: {reason}", shown(name)))?;
    } else {
        digest.update(bytes);
    }
    Ok(digest.finalize().iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]).collect())
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0')
}

/// Feeds a document to a digest as OPA does: keys in order, no blanks, numbers as they are written.
struct Walk<'a> {
    to: &'a mut dyn DynDigest,
    /// Bytes that may still be scanned.
    left: usize,
}

impl Walk<'_> {
    fn value(&mut self, value: &RawValue, depth: usize) -> Result<(), String> {
        let text = value.get();
        let deep = || "it is nested too deeply".to_string();
        self.left = self.left.checked_sub(text.len()).filter(|_| depth <= MAX_DEPTH).ok_or_else(deep)?;
        let failed = |error: serde_json::Error| text::excerpt(&error.to_string(), SHOWN);
        match text.as_bytes().first() {
            Some(b'{') => {
                let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(failed)?;
                self.to.update(b"{");
                for (index, (key, value)) in fields.iter().enumerate() {
                    self.to.update(if index > 0 { b"," } else { b"" });
                    self.to.update(string(key)?.as_bytes());
                    self.to.update(b":");
                    self.value(value, depth.saturating_add(1))?;
                }
                self.to.update(b"}");
            }
            Some(b'[') => {
                let items = Items { walk: self, depth: depth.saturating_add(1) };
                serde_json::Deserializer::from_str(text).deserialize_seq(items).map_err(failed)?;
            }
            Some(b'"') => {
                let written = string(&serde_json::from_str::<String>(text).map_err(failed)?)?;
                self.to.update(written.as_bytes());
            }
            _ => self.to.update(text.as_bytes()),
        }
        Ok(())
    }
}

/// Feeds the items of an array one by one, since a list of them may be much larger than the array.
struct Items<'a, 'b> {
    walk: &'a mut Walk<'b>,
    depth: usize,
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.walk.to.update(b"[");
        let mut is_first = true;
        while let Some(item) = items.next_element::<&RawValue>()? {
            self.walk.to.update(if is_first { b"" } else { b"," });
            is_first = false;
            self.walk.value(item, self.depth).map_err(de::Error::custom)?;
        }
        self.walk.to.update(b"]");
        Ok(())
    }
}

/// A string as Go writes it, which escapes two characters more.
fn string(text: &str) -> Result<String, String> {
    let written = serde_json::to_string(text).map_err(|error| error.to_string())?;
    Ok(written.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}

/// A foreign name in a message.
pub(super) fn shown(name: &str) -> String {
    text::quoted(name, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_one_digest_however_it_is_written_and_is_not_scanned_without_end() {
        let of = |text: &str| digest("SHA-256", "data.json", text.as_bytes());
        assert_eq!(of("{\"b\": [1, [ ], {}], \"a\": null}"), of("{\"a\":null,\"b\":[1,[],{}]}"));
        assert_ne!(of("[1, 2]"), of("[12]"));
        assert!(of(&("[".repeat(200) + &"]".repeat(200))).unwrap_err().contains("nested too deeply"));
        let text = format!("[{}]", "1,".repeat(50) + "1");
        let (raw, mut digest) = (serde_json::from_str::<&RawValue>(&text).unwrap(), Sha256::default());
        assert!(Walk { to: &mut digest, left: 150 }.value(raw, 0).is_err());
        assert!(Walk { to: &mut digest, left: 160 }.value(raw, 0).is_ok());
    }
}
