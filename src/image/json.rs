//! Foreign JSON: what it may become in memory is counted before it is parsed.

use serde::Deserialize;

use super::malformed::Malformed;
use crate::text::{self, LIST_BYTES as LIST, OBJECT_BYTES as OBJECT, VALUE_BYTES as VALUE};

/// Most bytes that the values of a document may take beside their text. Manifests of 512 layers and applications of 128
/// components take half a megabyte.
pub(crate) const MAX_VALUES: usize = 4 << 20;

/// Parses a document if what it may become is bounded.
pub(super) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Malformed> {
    if values(bytes) > MAX_VALUES {
        return Err(Malformed::new(format!(
            "its objects, lists and values take more than {} MiB of memory; leave out what no tool reads",
            MAX_VALUES >> 20
        )));
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// An upper bound of what the values of a document take beside their text, whether or not the document is valid.
fn values(bytes: &[u8]) -> usize {
    let each = text::outside_strings(bytes).map(|byte| match byte {
        b'{' => OBJECT,
        b'[' => LIST,
        b',' => VALUE,
        _ => 0,
    });
    each.fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_text_is_no_value() {
        assert_eq!(values(br#"{"a":"[{,\",[{","b":[1,{}]}"#), 2 * OBJECT + LIST + 2 * VALUE);
        assert_eq!(values(br#""\\",["#), VALUE + LIST);
        assert_eq!(values(b""), 0);
    }

    #[test]
    fn a_document_of_many_values_is_refused_before_it_is_parsed() {
        let list = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        let read = |text: &str| read::<serde_json::Value>(text.as_bytes());
        assert!(read(&list(MAX_VALUES / VALUE)).is_ok());
        let refused = read(&list(MAX_VALUES / VALUE + 2)).unwrap_err();
        assert!(refused.0.contains("more than 4 MiB of memory"), "{refused}");
        assert!(
            read(&"[".repeat(200)).unwrap_err().0.contains("recursion limit"),
            "not a question of memory"
        );
    }
}
