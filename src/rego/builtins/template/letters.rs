//! Letters as Go 1.26 sorts them, which has Unicode 15 (`unicode.Version`).

use std::sync::Arc;

use regex::bytes::Regex;

use crate::rego::call::Call;
use crate::rego::failure::Failure;
use crate::rego::quote;

fn compiled(call: &mut Call, pattern: &'static str) -> Result<Arc<Regex>, Failure> {
    call.compiled(pattern, || Regex::new(pattern).map_err(|_| Failure::Halt("it cannot sort letters".into())))
}

fn is_in(call: &mut Call, pattern: &'static str, letter: char) -> Result<bool, Failure> {
    Ok(compiled(call, pattern)?.is_match(letter.encode_utf8(&mut [0; 4]).as_bytes()))
}

/// Whether a name may have it.
pub(super) fn is_in_name(call: &mut Call, letter: char) -> Result<bool, Failure> {
    if letter.is_ascii() {
        return Ok(letter == '_' || letter.is_ascii_alphanumeric());
    }
    is_in(call, r"^[[\p{L}\p{Nd}]&&\p{Age=15.0}]$", letter)
}

/// Whether it is written as it is where a text is quoted.
pub(super) fn prints(call: &mut Call, letter: char) -> Result<bool, Failure> {
    if letter.is_ascii() {
        return Ok(!letter.is_ascii_control());
    }
    Ok(quote::prints(letter) && is_in(call, r"^\p{Age=15.0}$", letter)?)
}
