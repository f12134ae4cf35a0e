//! The parts of a JSON text as they are written in it. What is only looked at or copied is not unescaped, and no tree is built.
//!
//! It reads texts of which a parser has said already that they are JSON ([`serde_json::value::RawValue`]), so it looks for the ends
//! of parts and not for mistakes. Of another text it says so, or finds other parts, and ends all the same.

use std::borrow::Cow;

use memchr::{memchr2, memmem};

/// The text is JSON by the grammar, but readers do not take it: half of a surrogate pair, a number that no float holds, more levels
/// than are read. Or it is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What a value is, by its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    Text,
    /// A number, `true`, `false` or `null`.
    Other,
}

/// A string as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'j> {
    /// With its quotation marks.
    pub(super) raw: &'j str,
    /// Whether nothing in it is escaped.
    is_plain: bool,
}

impl<'j> Text<'j> {
    /// What it says.
    pub(super) fn said(self) -> Result<Cow<'j, str>, Unreadable> {
        if !self.is_plain {
            return serde_json::from_str(self.raw).map(Cow::Owned).map_err(|_| Unreadable);
        }
        let inner = self.raw.get(1..self.raw.len().saturating_sub(1));
        inner.map(Cow::Borrowed).ok_or(Unreadable)
    }

    /// As it is written, if readers take it.
    pub(super) fn checked(self) -> Result<&'j str, Unreadable> {
        if !self.is_plain && memmem::find(self.raw.as_bytes(), b"\\u").is_some() {
            self.said()?;
        }
        Ok(self.raw)
    }
}

/// Reads a text from its beginning to its end.
#[derive(Debug)]
pub(super) struct Reader<'j> {
    json: &'j str,
    at: usize,
}

impl<'j> Reader<'j> {
    pub(super) const fn new(json: &'j str) -> Self {
        Self { json, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    /// The next character that is no white space.
    fn ahead(&mut self) -> Option<u8> {
        loop {
            match self.peek()? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                other => return Some(other),
            }
        }
    }

    /// What the value is that comes next.
    pub(super) fn kind(&mut self) -> Result<Kind, Unreadable> {
        Ok(match self.ahead().ok_or(Unreadable)? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::Text,
            _ => Kind::Other,
        })
    }

    /// Goes into the object or array that comes next, as [`Reader::kind`] has said.
    pub(super) const fn enter(&mut self) {
        self.at += 1;
    }

    /// The next key of the object; `None` at its end, which is passed.
    pub(super) fn key(&mut self) -> Result<Option<Text<'j>>, Unreadable> {
        if !self.goes_on(b'}')? {
            return Ok(None);
        }
        let key = self.text()?;
        if self.ahead() != Some(b':') {
            return Err(Unreadable);
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether the array has another item; its end is passed.
    pub(super) fn item(&mut self) -> Result<bool, Unreadable> {
        self.goes_on(b']')
    }

    fn goes_on(&mut self, end: u8) -> Result<bool, Unreadable> {
        if self.ahead() == Some(b',') {
            self.at += 1;
        }
        let is_end = self.ahead().ok_or(Unreadable)? == end;
        self.at += usize::from(is_end);
        Ok(!is_end)
    }

    /// The string that comes next.
    pub(super) fn text(&mut self) -> Result<Text<'j>, Unreadable> {
        if self.ahead() != Some(b'"') {
            return Err(Unreadable);
        }
        let (start, mut is_plain) = (self.at, true);
        self.at += 1;
        loop {
            let rest = self.json.as_bytes().get(self.at..).unwrap_or_default();
            self.at += memchr2(b'"', b'\\', rest).ok_or(Unreadable)?;
            if self.peek() == Some(b'"') {
                break;
            }
            is_plain = false;
            self.at += 2;
        }
        self.at += 1;
        let raw = self.json.get(start..self.at).ok_or(Unreadable)?;
        Ok(Text { raw, is_plain })
    }

    /// The number, `true`, `false` or `null` that comes next, if readers take it.
    pub(super) fn other(&mut self) -> Result<&'j str, Unreadable> {
        let raw = self.bare()?;
        if is_too_large(raw) { Err(Unreadable) } else { Ok(raw) }
    }

    fn bare(&mut self) -> Result<&'j str, Unreadable> {
        self.ahead();
        let start = self.at;
        let is_part = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'+' | b'-' | b'.' | b'E');
        while self.peek().is_some_and(is_part) {
            self.at += 1;
        }
        self.json.get(start..self.at).filter(|raw| !raw.is_empty()).ok_or(Unreadable)
    }

    /// Passes the value that comes next, as it is written, whatever is in it. Without recursion.
    pub(super) fn skip(&mut self) -> Result<&'j str, Unreadable> {
        self.ahead();
        let (start, mut open) = (self.at, 0_usize);
        loop {
            match self.ahead().ok_or(Unreadable)? {
                b'"' => {
                    self.text()?;
                }
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1).ok_or(Unreadable)?;
                    self.at += 1;
                }
                b',' | b':' => self.at += 1,
                _ => {
                    self.bare()?;
                }
            }
            if open == 0 {
                return self.json.get(start..self.at).ok_or(Unreadable);
            }
        }
    }
}

/// Whether this is a number that no float holds. One of three hundred digits is below the largest.
fn is_too_large(raw: &str) -> bool {
    let is_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let may_be = raw.len() > 300 || raw.bytes().any(|byte| matches!(byte, b'e' | b'E'));
    // As the reader says that takes the record later: it rounds otherwise than the standard library.
    is_number && may_be && serde_json::from_str::<f64>(raw).is_err()
}

/// Calls `each` with every string of a text that is no key.
pub(super) fn strings(json: &str, mut each: impl FnMut(&str)) {
    let mut reader = Reader::new(json);
    while let Some(next) = reader.ahead() {
        if next != b'"' {
            reader.at += 1;
            continue;
        }
        let Ok(text) = reader.text() else { return };
        if reader.ahead() == Some(b':') {
            continue;
        }
        if let Ok(said) = text.said() {
            each(&said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found_without_the_keys_and_as_what_they_say() {
        let mut found = Vec::new();
        let json = r#" {"a" : "b\"c", "d":["\u0065", 1, true, null, {"f":"g"}], "h": "" } "#;
        strings(json, |text| found.push(text.to_owned()));
        assert_eq!(found, ["b\"c", "e", "g", ""]);
    }

    #[test]
    fn a_value_is_passed_to_its_end_whatever_is_in_it() {
        for value in
            [r#""a\\""#, r#""\"}""#, "-1.5e3", "null", "[]", r#"{"a": [1, {"b": "]}"}], "c": 1e999}"#]
        {
            let json = format!(" {value} , 7");
            let mut reader = Reader::new(&json);
            assert_eq!(reader.skip(), Ok(value));
            assert_eq!(reader.ahead(), Some(b','), "{value}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Reader::new(&deep).skip(), Ok(deep.as_str()));
    }

    #[test]
    fn what_other_readers_do_not_take_is_said() {
        for (json, is_taken) in
            [("1e308", true), ("1e309", false), ("-2E400", false), ("0e999", true), ("true", true)]
        {
            assert_eq!(Reader::new(json).other().is_ok(), is_taken, "{json}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(json).is_ok(), is_taken, "{json}");
        }
        let (many, more) = ("9".repeat(300), "9".repeat(310));
        assert_eq!((Reader::new(&many).other().is_ok(), Reader::new(&more).other().is_ok()), (true, false));
        for (json, is_taken) in [(r#""\ud83d\ude00""#, true), (r#""\ud83d""#, false), (r#""\u003c""#, true)] {
            assert_eq!(Reader::new(json).text().unwrap().checked().is_ok(), is_taken, "{json}");
            assert_eq!(serde_json::from_str::<String>(json).is_ok(), is_taken, "{json}");
        }
    }

    #[test]
    fn a_text_that_is_no_json_ends() {
        for text in ["", "\"", "\"\\", "{", "[", "}", "{\"a\"", "{\"a\" 1}", "\u{e9}", "[,,", "\"\\\u{e9}"] {
            let mut reader = Reader::new(text);
            assert!(reader.skip().is_err() || reader.at <= text.len(), "{text}");
            strings(text, |_| ());
        }
        assert_eq!(Reader::new("{\"a\" 1}").key().err(), Some(Unreadable));
    }
}
