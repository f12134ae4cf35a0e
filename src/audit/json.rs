//! The parts of a JSON text as they are written in it. What is only looked at or copied is not unescaped, and no tree is built.
//!
//! It reads texts of which a parser has said already that they are JSON ([`serde_json::value::RawValue`]), so it looks for the ends
//! of parts and not for mistakes. Of another text it says so, or finds other parts, and ends all the same.
//!
//! What is copied is handed out in long pieces ([`Reader::until`]), and not part by part: most of an object stays as it is.

use std::borrow::Cow;
use std::ops::Range;

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

impl Kind {
    /// Whether other values are in it.
    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::Object | Self::Array)
    }
}

/// A string as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'j> {
    json: &'j str,
    /// Where it begins.
    pub(super) at: usize,
    /// Where it ends.
    end: usize,
    /// Whether nothing in it is escaped.
    is_plain: bool,
}

impl<'j> Text<'j> {
    /// With its quotation marks.
    pub(super) fn raw(self) -> Result<&'j str, Unreadable> {
        self.json.get(self.at..self.end).ok_or(Unreadable)
    }

    /// What it says.
    pub(super) fn said(self) -> Result<Cow<'j, str>, Unreadable> {
        if !self.is_plain {
            return serde_json::from_str(self.raw()?).map(Cow::Owned).map_err(|_| Unreadable);
        }
        let inner = self.json.get(self.at + 1..self.end.saturating_sub(1));
        inner.map(Cow::Borrowed).ok_or(Unreadable)
    }

    /// Whether readers take it.
    pub(super) fn check(self) -> Result<(), Unreadable> {
        if !self.is_plain && memmem::find(self.raw()?.as_bytes(), b"\\u").is_some() {
            self.said()?;
        }
        Ok(())
    }
}

/// Words of a string that are looked at one by one. Most strings end within them; to call what looks at vectors would take longer.
const MOST_WORDS: usize = 4;

/// A word of eight equal bytes.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// A word whose lowest set bit is in the first byte of `word` that is zero. Bits above it say nothing.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(each(1)) & !word & each(0x80)
}

/// Where the string ends that begins here, and whether nothing in it is escaped.
fn end_of_string(bytes: &[u8], start: usize) -> Option<(usize, bool)> {
    let mut rest = bytes.get(start + 1..)?;
    let (mut is_plain, mut words) = (true, 0);
    loop {
        let marks = match rest.split_first_chunk::<8>() {
            Some((eight, after)) if words < MOST_WORDS => {
                let word = u64::from_le_bytes(*eight);
                let marks = zeros(word ^ each(b'"')) | zeros(word ^ each(b'\\'));
                if marks == 0 {
                    rest = after;
                    words += 1;
                    continue;
                }
                usize::try_from(marks.trailing_zeros() / 8).ok()?
            }
            _ => memchr2(b'"', b'\\', rest)?,
        };
        let (mark, after) = rest.get(marks..)?.split_first()?;
        if *mark == b'"' {
            return Some((bytes.len() - after.len(), is_plain));
        }
        (is_plain, words) = (false, 0);
        rest = after.get(1..)?;
    }
}

/// The text without white space between its parts.
pub(super) fn without_blanks(json: &str) -> String {
    let (bytes, mut dense) = (json.as_bytes(), String::with_capacity(json.len()));
    let (mut from, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at).map_or(bytes.len(), |(end, _)| end),
            b' ' | b'\n' | b'\r' | b'\t' => {
                dense.push_str(json.get(from..at).unwrap_or_default());
                at += 1;
                from = at;
            }
            _ => at += 1,
        }
    }
    dense.push_str(json.get(from..).unwrap_or_default());
    dense
}

/// Reads a text from its beginning to its end.
#[derive(Debug)]
pub(super) struct Reader<'j> {
    json: &'j str,
    at: usize,
    /// Where the text begins that is not handed out yet.
    from: usize,
    /// Whether there was white space between parts.
    has_blanks: bool,
    /// Where a value begins and ends of which that is known.
    known: Option<Range<usize>>,
}

impl<'j> Reader<'j> {
    pub(super) const fn new(json: &'j str) -> Self {
        Self { json, at: 0, from: 0, has_blanks: false, known: None }
    }

    /// A reader of a text in which a value stands from one of these places to the other, as a parser has found: it is passed in one step.
    pub(super) fn knowing(json: &'j str, known: Option<Range<usize>>) -> Self {
        Self { known, ..Self::new(json) }
    }

    /// Where it is.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// Where the text begins that [`Reader::until`] hands out next.
    pub(super) const fn start(&self) -> usize {
        self.from
    }

    /// Whether there was white space between the parts that were read.
    pub(super) const fn has_blanks(&self) -> bool {
        self.has_blanks
    }

    /// The text up to a place that was read, from where the former one ended.
    pub(super) fn until(&mut self, end: usize) -> Result<&'j str, Unreadable> {
        let text = self.json.get(self.from..end).ok_or(Unreadable)?;
        self.from = end;
        Ok(text)
    }

    /// The next text that is handed out begins at this place.
    pub(super) const fn go_on_from(&mut self, start: usize) {
        self.from = start;
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    /// The next character that is no white space.
    fn ahead(&mut self) -> Option<u8> {
        loop {
            match self.peek()? {
                b' ' | b'\n' | b'\r' | b'\t' => {
                    self.has_blanks = true;
                    self.at += 1;
                }
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
        // As a rule there is no white space, and one look is enough.
        if self.peek() == Some(b',') {
            self.at += 1;
        }
        if self.peek() != Some(b'"') && !self.goes_on(b'}')? {
            return Ok(None);
        }
        let key = self.text()?;
        if self.peek() != Some(b':') && self.ahead() != Some(b':') {
            return Err(Unreadable);
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Passes members of the object in which no other values are, up to one that is a list: its key, and what it is. `None` at the end of the object,
    /// which is passed.
    pub(super) fn key_of_list(&mut self) -> Result<Option<(Text<'j>, Kind)>, Unreadable> {
        while let Some(key) = self.key()? {
            let kind = self.kind()?;
            if kind.is_list() {
                return Ok(Some((key, kind)));
            }
            key.check()?;
            self.scalar(kind)?;
        }
        Ok(None)
    }

    /// Passes a value in which no other is, as [`Reader::kind`] has said, if readers take it.
    pub(super) fn scalar(&mut self, kind: Kind) -> Result<(), Unreadable> {
        if kind == Kind::Text {
            return self.text()?.check();
        }
        self.other()?;
        Ok(())
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
        if self.peek() != Some(b'"') && self.ahead() != Some(b'"') {
            return Err(Unreadable);
        }
        let at = self.at;
        let (end, is_plain) = end_of_string(self.json.as_bytes(), at).ok_or(Unreadable)?;
        self.at = end;
        Ok(Text { json: self.json, at, end, is_plain })
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
        if let Some(known) = self.known.take_if(|known| known.start == self.at) {
            self.at = known.end;
            return self.json.get(known).ok_or(Unreadable);
        }
        let (start, bytes) = (self.at, self.json.as_bytes());
        let mut open = 0_usize;
        loop {
            match self.peek().ok_or(Unreadable)? {
                b'"' => self.at = end_of_string(bytes, self.at).ok_or(Unreadable)?.0,
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1).ok_or(Unreadable)?;
                    self.at += 1;
                }
                // What stands between the parts of a list, and values that are no strings: none of it opens or ends anything.
                _ if open > 0 => self.at += 1,
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
    fn a_value_whose_place_is_known_is_passed_in_one_step_and_no_other_one() {
        let json = r#"{"a": [1], "b": {"c": 2}, "d": 3}"#;
        let passed = |known| {
            let mut reader = Reader::knowing(json, known);
            reader.enter();
            let mut values = Vec::new();
            while reader.key().unwrap().is_some() {
                values.push(reader.skip().unwrap());
            }
            values
        };
        let all = [r"[1]", r#"{"c": 2}"#, "3"];
        for (start, end) in [(16, 24), (6, 9), (17, 20), (0, 1)] {
            assert_eq!(passed(Some(start..end)), all, "{start}");
        }
        assert_eq!(passed(None), all);
        let mut reader = Reader::knowing(json, Some(0..json.len() + 1));
        assert_eq!(reader.skip(), Err(Unreadable));
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
            assert_eq!(Reader::new(json).text().unwrap().check().is_ok(), is_taken, "{json}");
            assert_eq!(serde_json::from_str::<String>(json).is_ok(), is_taken, "{json}");
        }
    }

    /// Whatever stands before the mark, and wherever it is: in the first words, at their borders, behind them.
    #[test]
    fn the_end_of_a_string_is_found_at_every_length() {
        for filler in ["a", "!", "#", "[", "]", "\u{e9}", "\u{7f}"] {
            for length in 0..80 {
                let plain = filler.repeat(length);
                for (inner, is_plain) in [
                    (plain.clone(), true),
                    (format!("{plain}\\\"{plain}"), false),
                    (format!("{plain}\\\\"), false),
                ] {
                    let json = format!("\"{inner}\",\"");
                    let mut reader = Reader::new(&json);
                    let text = reader.text().unwrap();
                    assert_eq!(
                        (text.raw().unwrap().len(), text.is_plain),
                        (inner.len() + 2, is_plain),
                        "{json}"
                    );
                    assert_eq!((text.at, reader.ahead()), (0, Some(b',')), "{json}");
                }
            }
        }
    }

    #[test]
    fn blanks_between_parts_are_taken_out_and_those_in_strings_stay() {
        let json = " {\n \"a b\" :\t[ 1 , \" \\\" \" ] ,\r\n\"\u{e9} \" : { } } ";
        let dense = without_blanks(json);
        assert_eq!(dense, "{\"a b\":[1,\" \\\" \"],\"\u{e9} \":{}}");
        assert_eq!(without_blanks(&dense), dense);
        assert_eq!(without_blanks(""), "");
    }

    #[test]
    fn the_text_is_handed_out_in_the_pieces_that_are_asked_for() {
        let mut reader = Reader::new(r#"{"a":1,"b":[2]}"#);
        reader.enter();
        assert_eq!(reader.key().unwrap().map(|key| (key.raw(), key.at)), Some((Ok(r#""a""#), 1)));
        assert_eq!((reader.other(), reader.until(reader.at())), (Ok("1"), Ok(r#"{"a":1"#)));
        assert_eq!(reader.key().unwrap().map(|key| key.at), Some(7));
        reader.skip().unwrap();
        reader.go_on_from(reader.at());
        assert_eq!(reader.key().unwrap().map(|key| key.at), None);
        assert_eq!((reader.until(reader.at()), reader.until(reader.at())), (Ok("}"), Ok("")));
        assert!(!reader.has_blanks() && reader.until(99).is_err());
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
