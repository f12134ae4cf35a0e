//! Quoted text as Go's `strconv.Quote` writes it.

use std::fmt::Write as _;

/// In double quotes; what does not print is escaped.
pub(super) fn go(text: &str) -> String {
    quoted(text, '"', false)
}

/// The same with every letter outside of ASCII escaped (`strconv.QuoteToASCII`).
pub(super) fn go_ascii(text: &str) -> String {
    quoted(text, '"', true)
}

/// One letter in single quotes (`strconv.QuoteRune`).
pub(super) fn go_letter(letter: char, ascii: bool) -> String {
    quoted(&letter.to_string(), '\'', ascii)
}

fn quoted(text: &str, mark: char, ascii: bool) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push(mark);
    for letter in text.chars() {
        escape(&mut quoted, letter, mark, ascii);
    }
    quoted.push(mark);
    quoted
}

fn escape(quoted: &mut String, letter: char, mark: char, ascii: bool) {
    let code = u32::from(letter);
    let plain = match letter {
        ' '..='~' => true,
        other => !ascii && prints(other),
    };
    // Writing to a string does not fail.
    let _ = match letter {
        '\\' => write!(quoted, "\\\\"),
        letter if letter == mark => write!(quoted, "\\{mark}"),
        '\u{7}' => write!(quoted, "\\a"),
        '\u{8}' => write!(quoted, "\\b"),
        '\u{c}' => write!(quoted, "\\f"),
        '\n' => write!(quoted, "\\n"),
        '\r' => write!(quoted, "\\r"),
        '\t' => write!(quoted, "\\t"),
        '\u{b}' => write!(quoted, "\\v"),
        letter if plain => write!(quoted, "{letter}"),
        _ if code < 0x80 => write!(quoted, "\\x{code:02x}"),
        _ if code < 0x1_0000 => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
}

/// Whether Go prints a letter as it is: letters, marks, numbers, punctuation and symbols, and of blanks the ASCII one.
pub(super) fn prints(letter: char) -> bool {
    // Rust's Debug escapes what is not printable by the same tables, apart from what it escapes as syntax.
    !letter.is_control() && !letter.is_whitespace() && !letter.escape_debug().to_string().starts_with("\\u")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_gos() {
        assert_eq!(go("a\"b\\\n\u{1}é\u{a0}\u{200b}😀"), r#""a\"b\\\n\x01é\u00a0\u200b😀""#);
        assert_eq!(go_ascii("é😀"), r#""\u00e9\U0001f600""#);
        assert_eq!(go_letter('\'', false), r"'\''");
    }
}
