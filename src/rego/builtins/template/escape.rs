//! Texts as other languages write them (`HTMLEscape` and `JSEscape` in Go's `text/template/funcs.go`, `url.QueryEscape`).

use std::fmt::Write as _;

use super::letters;
use crate::rego::builtins::encoding;
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// In HTML.
pub(super) fn html(call: &Call, text: &str) -> Result<String, Failure> {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        call.fits(escaped.len())?;
        match letter {
            '\0' => escaped.push('\u{fffd}'),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    Ok(escaped)
}

/// In a text of JavaScript.
pub(super) fn js(call: &mut Call, text: &str) -> Result<String, Failure> {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        call.fits(escaped.len())?;
        match letter {
            '\\' | '\'' | '"' => escaped.extend(['\\', letter]),
            '<' | '>' | '&' | '=' | '\0'..='\u{1f}' => escape(&mut escaped, letter),
            ' '..='\u{7f}' => escaped.push(letter),
            other if letters::prints(call, other)? => escaped.push(other),
            other => escape(&mut escaped, other),
        }
    }
    Ok(escaped)
}

fn escape(escaped: &mut String, letter: char) {
    // Writing to a string does not fail.
    let _ = write!(escaped, "\\u{:04X}", u32::from(letter));
}

/// In the query of an address, where a byte takes three at most.
pub(super) fn query(call: &Call, text: &str) -> Result<String, Failure> {
    call.fits(text.len().saturating_mul(3))?;
    Ok(encoding::escape(text))
}
