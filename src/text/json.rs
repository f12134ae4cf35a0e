//! JSON and flow-style YAML that people look at. A dangerous character of a valid document stands within a string, where an
//! escape says the same (RFC 8259, section 7; YAML 1.2.2, section 5.7), so programs read the same document.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::characters::is_dangerous;

/// What an object with one member takes in a tree of values, in bytes beside its text: a leaf of the tree in which `serde_json::Map` keeps it has space for eleven
/// (`rust-lang/rust:library/alloc/src/collections/btree/node.rs`, `CAPACITY`), of 24 bytes for a name and 32 for a value.
pub const OBJECT_BYTES: usize = 704;
/// What a list with one item takes, beside its text: the first allocation of a vector has space for four values.
pub const LIST_BYTES: usize = 160;
/// What a value after the first one of an object or list takes, beside its text: half of a leaf's space is empty after it was split, and a vector that grows is there twice.
pub const VALUE_BYTES: usize = 192;

/// JSON whose strings hold no dangerous character any more. White space between values stays as it is.
pub fn json(document: &str) -> Cow<'_, str> {
    escaped(document, |c, to| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail, here and below.
            let _ = write!(to, "\\u{unit:04x}");
        }
    })
}

/// JSON without dangerous characters in its strings that stands in a YAML document, whose escapes name a whole code point and know no surrogates.
pub fn flow_yaml(document: &str) -> Cow<'_, str> {
    escaped(document, |c, to| {
        let _ = match u32::from(c) {
            short @ ..=0xffff => write!(to, "\\u{short:04x}"),
            long => write!(to, "\\U{long:08x}"),
        };
    })
}

/// The bytes of a document that are outside of its strings, whether or not it is valid JSON: what begins, parts and ends its values. The marks
/// of the strings are not among them.
pub fn outside_strings(document: &[u8]) -> impl Iterator<Item = u8> {
    let (mut in_string, mut is_escaped) = (false, false);
    document.iter().copied().filter(move |byte| {
        let was_inside = in_string;
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        !was_inside && !in_string
    })
}

/// Bytes that are looked at together: a loop without a way out is one of vectors.
const PLAIN_CHUNK: usize = 64;

/// Whether these bytes are printable ASCII and white space.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, &byte| plain & matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t'))
}

fn escaped(document: &str, escape: fn(char, &mut String)) -> Cow<'_, str> {
    // Strings hold none of the three unescaped; between values they mean nothing.
    let dangerous = |c: char| is_dangerous(c) && !matches!(c, '\n' | '\r' | '\t');
    if document.as_bytes().chunks(PLAIN_CHUNK).all(is_plain) || !document.contains(dangerous) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if dangerous(c) { escape(c, &mut shown) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}
