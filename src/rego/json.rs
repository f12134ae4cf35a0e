//! JSON as Go's `encoding/json` reads it: strictly, with the text of numbers kept, the last of equal keys taken.

use super::failure::Failure;
use super::number::Number;
use super::value::{Object, Value};

/// Nesting depth of arrays and objects; Go stops at 10 000.
pub(super) const MAX_DEPTH: usize = 256;
/// Larger and smaller powers of ten are no numbers in OPA (`open-policy-agent/opa:v1/ast/term.go`, `maxNumberExp`, a power of two).
const OPAS_MAX_POWER: i64 = 30_104;
/// Letters of a number: what is computed with its digits takes the time of their square.
const MAX_NUMBER: usize = 1 << 16;
/// Up to this one it is certain that they are.
const MAX_POWER: i64 = 30_102;

/// Reads one value and nothing after it. What is no JSON is an error of the call; what Go reads and is not read here ends the evaluation,
/// since undefined would be another answer than Go's, and the author of a text that a rule reads might ask for it.
pub(super) fn parse(text: &str) -> Result<Value, Failure> {
    Reader { text, at: 0, take: Take::Last }.whole()
}

/// Reads one value whose objects have no name twice; one that is there twice ends the evaluation.
pub(super) fn parse_distinct(text: &str) -> Result<Value, Failure> {
    Reader { text, at: 0, take: Take::Distinct }.whole()
}

/// Whether it is JSON, whatever its numbers are: Go's `json.Valid` does not look at how large they are.
pub(super) fn is_valid(text: &str) -> Result<bool, Failure> {
    match (Reader { text, at: 0, take: Take::AnyNumber }).whole() {
        Ok(_) => Ok(true),
        Err(Failure::Halt(reason)) => Err(Failure::Halt(reason)),
        Err(_) => Ok(false),
    }
}

/// What a reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    /// The last of equal names.
    Last,
    /// No equal names.
    Distinct,
    /// Numbers of any size.
    AnyNumber,
}

/// The power of ten that is just above a number with an exponent: what is written without one is not bounded.
fn power_of_ten(text: &str) -> Option<i64> {
    let (mantissa, exponent) = text.split_once(['e', 'E'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('-');
    let first = whole.bytes().chain(fraction.bytes()).position(|digit| digit != b'0')?;
    let exponent =
        exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    let digits = i64::try_from(whole.len()).ok()?.saturating_sub(i64::try_from(first).ok()?);
    Some(exponent.saturating_add(digits))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    take: Take,
}

impl<'a> Reader<'a> {
    fn whole(mut self) -> Result<Value, Failure> {
        let value = self.value(0)?;
        self.blanks();
        if self.at < self.text.len() { Err(self.wrong("more than one value")) } else { Ok(value) }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::Error(format!("invalid JSON: {what} at byte {}", self.at))
    }

    fn not_here(&self, what: &str) -> Failure {
        Failure::Halt(format!("JSON with {what} at byte {} is not read here", self.at))
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

    fn value(&mut self, depth: usize) -> Result<Value, Failure> {
        if depth > MAX_DEPTH {
            return Err(self.not_here(&format!("more than {MAX_DEPTH} values within one another")));
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

    fn array(&mut self, depth: usize) -> Result<Value, Failure> {
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

    fn object(&mut self, depth: usize) -> Result<Value, Failure> {
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
            let is_second = members.insert(key, self.value(depth.saturating_add(1))?).is_some();
            if is_second && self.take == Take::Distinct {
                return Err(self.not_here("a name twice"));
            }
            self.blanks();
            if self.eat("}") {
                return Ok(Value::Object(members));
            }
            if !self.eat(",") {
                return Err(self.wrong("no comma in an object"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, Failure> {
        let length = number_length(self.rest()).ok_or_else(|| self.wrong("no number"))?;
        let text = self.rest().get(..length).unwrap_or_default();
        let number = Number::from_text(text);
        if self.take == Take::AnyNumber {
            self.at = self.at.saturating_add(length);
            return Ok(Value::Number(number));
        }
        if length > MAX_NUMBER {
            return Err(self.not_here(&format!("a number of more than {MAX_NUMBER} letters")));
        }
        let power = power_of_ten(text).map(i64::saturating_abs);
        if power.is_some_and(|power| power > OPAS_MAX_POWER) {
            return Err(self.wrong("a number beyond all bounds"));
        }
        if power.is_some_and(|power| power > MAX_POWER) || number.digits().is_none() {
            return Err(self.not_here("a number near OPA's bounds"));
        }
        self.at = self.at.saturating_add(length);
        Ok(Value::Number(number))
    }

    fn string(&mut self) -> Result<String, Failure> {
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

    fn escape(&mut self) -> Result<char, Failure> {
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
    fn unicode(&mut self) -> Result<char, Failure> {
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

    fn hex(&mut self) -> Result<u32, Failure> {
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

    /// The author of a text that a rule reads could make the rule undefined otherwise.
    #[test]
    fn what_go_reads_and_is_not_read_here_ends_the_evaluation() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        for text in [nested(300), format!(r#"{{"a": {}, "b": 1}}"#, nested(300)), "1e30102".into()] {
            assert!(matches!(parse(&text), Err(Failure::Halt(_))));
        }
        for text in ["[1,", "1e30105", "-1.5e99999999999999999999", "1e-40000"] {
            assert!(matches!(parse(text), Err(Failure::Error(_))), "{text}");
        }
        for text in ["1e30000", "0e99999", "0.001e-30000", "1e-30000"] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

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
    fn a_number_has_so_many_letters_at_most() {
        assert!(parse(&"1".repeat(MAX_NUMBER)).is_ok());
        assert!(matches!(parse(&"1".repeat(MAX_NUMBER + 1)), Err(Failure::Halt(_))));
        assert_eq!(is_valid(&"1".repeat(MAX_NUMBER + 1)), Ok(true));
    }

    /// Of seven letters each, and thirty thousand digits.
    #[test]
    fn numbers_are_read_without_writing_their_powers_out() {
        // Written out they would take minutes, and three gigabytes.
        assert!(parse(&format!("[{}1]", "1e30000,".repeat(100_000))).is_ok());
    }

    #[test]
    fn what_go_reads_is_read_with_the_text_of_numbers() {
        let read = |text: &str| parse(text).unwrap().to_module_text();
        assert_eq!(read(" {\"a\": [1.50, -0, 1e3], \"a\": {}} "), "{\"a\":{}}");
        assert_eq!(read("[1.50,-0,1e3,12345678901234567890]"), "[1.50,-0,1e3,12345678901234567890]");
        assert_eq!(read(r#""\ud83d\ude00\ud800\/""#), "\"😀\u{fffd}/\"");
    }
}
