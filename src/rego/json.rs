//! JSON as Go's `encoding/json` reads it: strictly, with the text of numbers kept, the last of equal keys taken.

use super::number::Number;
use super::value::{Object, Value};

/// Nesting depth of arrays and objects; Go stops at 10 000.
const MAX_DEPTH: usize = 256;

/// Reads one value and nothing after it. The error says what is wrong.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.blanks();
    if reader.at < text.len() { Err(reader.wrong("more than one value")) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn wrong(&self, what: &str) -> String {
        format!("{what} at byte {}", self.at)
    }

    fn blanks(&mut self) {
        let trimmed = self.rest().trim_start_matches([' ', '\t', '\n', '\r']);
        self.at = self.text.len().saturating_sub(trimmed.len());
    }

    /// Steps over a text when it comes next.
    fn eat(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at = self.at.saturating_add(expected.len());
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("values are nested too deeply"));
        }
        self.blanks();
        match self.peek() {
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('"') => Ok(Value::String(self.string()?)),
            Some('-' | '0'..='9') => self.number(),
            _ if self.eat("true") => Ok(Value::Bool(true)),
            _ if self.eat("false") => Ok(Value::Bool(false)),
            _ if self.eat("null") => Ok(Value::Null),
            _ => Err(self.wrong("no value")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        self.eat("[");
        self.blanks();
        if self.eat("]") {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth.saturating_add(1))?);
            self.blanks();
            if self.eat("]") {
                return Ok(Value::Array(items));
            }
            if !self.eat(",") {
                return Err(self.wrong("no comma in an array"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        let mut members = Object::new();
        self.eat("{");
        self.blanks();
        if self.eat("}") {
            return Ok(Value::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some('"') {
                return Err(self.wrong("no key"));
            }
            let key = Value::String(self.string()?);
            self.blanks();
            if !self.eat(":") {
                return Err(self.wrong("no colon"));
            }
            members.insert(key, self.value(depth.saturating_add(1))?);
            self.blanks();
            if self.eat("}") {
                return Ok(Value::Object(members));
            }
            if !self.eat(",") {
                return Err(self.wrong("no comma in an object"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let length = number_length(self.rest()).ok_or_else(|| self.wrong("no number"))?;
        let text = self.rest().get(..length).unwrap_or_default();
        let number = Number::from_text(text);
        // An exponent beyond what OPA computes with.
        if number.to_ratio().is_none() {
            return Err(self.wrong("a number beyond all bounds"));
        }
        self.at = self.at.saturating_add(length);
        Ok(Value::Number(number))
    }

    fn string(&mut self) -> Result<String, String> {
        self.eat("\"");
        let mut found = String::new();
        loop {
            let letter = self.peek().ok_or_else(|| self.wrong("a text that does not end"))?;
            self.at = self.at.saturating_add(letter.len_utf8());
            match letter {
                '"' => return Ok(found),
                '\\' => found.push(self.escape()?),
                '\0'..='\u{1f}' => return Err(self.wrong("a control character in a text")),
                other => found.push(other),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let letter = self.peek().ok_or_else(|| self.wrong("a text that does not end"))?;
        self.at = self.at.saturating_add(letter.len_utf8());
        Ok(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode()?,
            _ => return Err(self.wrong("an unknown escape")),
        })
    }

    /// Half a pair becomes the replacement character, as in Go.
    fn unicode(&mut self) -> Result<char, String> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        if self.eat("\\u") {
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        self.at = before;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Result<u32, String> {
        let digits =
            self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at = self.at.saturating_add(4);
        code.ok_or_else(|| self.wrong("an escape without four digits"))
    }
}

/// The bytes of the number that a text begins with, in JSON's grammar.
pub(super) fn number_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let run = bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        (run > 0).then(|| from.saturating_add(run))
    };
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut at = if bytes.get(start) == Some(&b'0') { start.saturating_add(1) } else { digits(start)? };
    if bytes.get(at) == Some(&b'.') {
        at = digits(at.saturating_add(1))?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at.saturating_add(1)), Some(b'+' | b'-')));
        at = digits(at.saturating_add(1).saturating_add(sign))?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_refuses_is_refused() {
        let wrong = [
            "",
            "{} x",
            "[1,]",
            "01",
            "1.",
            "+1",
            "{\"a\" 1}",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\u12\"",
            "nul",
            "{a: 1}",
            "[",
            "\"",
        ];
        for text in wrong {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
    }

    #[test]
    fn what_go_reads_is_read_with_the_text_of_numbers() {
        let read = |text: &str| parse(text).unwrap().to_module_text();
        assert_eq!(read(" {\"a\": [1.50, -0, 1e3], \"a\": {}} "), "{\"a\":{}}");
        assert_eq!(read("[1.50,-0,1e3,12345678901234567890]"), "[1.50,-0,1e3,12345678901234567890]");
        assert_eq!(read(r#""\ud83d\ude00\ud800\/""#), "\"😀\u{fffd}/\"");
    }
}
