//! Text of a bounded length. Nothing is cut within a character, and shortening again changes nothing.

use std::borrow::Cow;

const ELLIPSIS: &str = "…";

/// At most `most` characters, the last of them an ellipsis where something is left out.
pub fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    // A text has no more characters than bytes.
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let starts = |count: usize| text.char_indices().nth(count).map(|(at, _)| at);
    match (starts(most), most.checked_sub(1).and_then(starts)) {
        (None, _) => Cow::Borrowed(text),
        (Some(_), Some(end)) => cut_at(text, end, ELLIPSIS),
        (Some(_), None) => Cow::Borrowed(""),
    }
}

/// At most `most` bytes, the last three of them an ellipsis where something is left out and they fit.
pub fn shorten_bytes(text: &str, most: usize) -> Cow<'_, str> {
    match most.checked_sub(ELLIPSIS.len()) {
        _ if text.len() <= most => Cow::Borrowed(text),
        Some(end) => cut_at(text, text.floor_char_boundary(end), ELLIPSIS),
        None => cut_at(text, text.floor_char_boundary(most), ""),
    }
}

fn cut_at<'a>(text: &'a str, end: usize, ending: &str) -> Cow<'a, str> {
    Cow::Owned(text.get(..end).unwrap_or_default().to_owned() + ending)
}
