//! What numbers, letters and texts in a template are worth (`NumberNode` in Go's `text/template/parse/node.go`, `strconv.Unquote`).

use crate::rego::failure::Failure;

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Constant {
    Int(i64),
    Float(f64),
    /// It is larger than an integer: that is an error where it is used.
    TooLarge,
}

fn malformed<T>() -> Result<T, Failure> {
    Failure::error("the template has a malformed constant")
}

/// The number that a text says.
pub(super) fn number(text: &str) -> Result<Constant, Failure> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_hexadecimal = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    let has_power = is_hexadecimal && unsigned.contains(['p', 'P']);
    if text.ends_with('i') || has_power {
        return Err(Failure::Halt("complex and hexadecimal floats are not computed in templates".into()));
    }
    let is_float = unsigned.contains(['.', 'e', 'E']);
    match integer(text, unsigned) {
        // Go looks for the `e` of an exponent, and knows a hexadecimal integer by its beginning, where a sign may stand.
        #[allow(clippy::cast_precision_loss, reason = "it is the nearest float in Go too")]
        Some(Constant::Int(integer)) if is_float && !(is_hexadecimal && text == unsigned) => {
            Ok(Constant::Float(integer as f64))
        }
        Some(constant) => Ok(constant),
        None if is_float && !is_hexadecimal => float(text),
        None => malformed(),
    }
}

fn float(text: &str) -> Result<Constant, Failure> {
    if !are_underscores_right(text) {
        return malformed();
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(Constant::Float(float)),
        _ => malformed(),
    }
}

/// An integer of 64 bits with or without a sign (`strconv.ParseInt` and `ParseUint` of base 0).
fn integer(text: &str, unsigned: &str) -> Option<Constant> {
    let (digits, radix) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (unsigned.get(2..)?, 16),
        [b'0', b'o' | b'O', _, ..] => (unsigned.get(2..)?, 8),
        [b'0', b'b' | b'B', _, ..] => (unsigned.get(2..)?, 2),
        [b'0', _, ..] => (unsigned.get(1..)?, 8),
        _ => (unsigned, 10),
    };
    if digits.contains('_') && !are_underscores_right(text) {
        return None;
    }
    let digits = digits.replace('_', "");
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(&digits, radix).ok()?;
    let value = i128::from(magnitude);
    let value = if text.starts_with('-') { value.wrapping_neg() } else { value };
    match i64::try_from(value) {
        Ok(integer) => Some(Constant::Int(integer)),
        // No integer without a sign has one.
        Err(_) if text == unsigned => Some(Constant::TooLarge),
        Err(_) => None,
    }
}

/// Whether underscores stand between digits, or between the sign of a base and a digit.
fn are_underscores_right(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let prefix =
        unsigned.strip_prefix('0').and_then(|rest| rest.strip_prefix(['b', 'B', 'o', 'O', 'x', 'X']));
    let is_hexadecimal = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    let mut before = if prefix.is_some() { '0' } else { '^' };
    for letter in prefix.unwrap_or(unsigned).chars() {
        let is_digit = letter.is_ascii_digit() || (is_hexadecimal && letter.is_ascii_hexdigit());
        let class = match letter {
            _ if is_digit => '0',
            '_' => '_',
            _ => '!',
        };
        if (class == '_' && before != '0') || (class == '!' && before == '_') {
            return false;
        }
        before = class;
    }
    before != '_'
}

/// The code of a letter in single quotes.
pub(super) fn letter(quoted: &str) -> Result<Constant, Failure> {
    let mut letters = quoted.chars();
    let code = match letters.next() {
        Some('\\') => match escape(&mut letters, '\'')? {
            Escaped::Letter(letter) => u32::from(letter),
            Escaped::Byte(byte) => u32::from(byte),
        },
        Some('\'') | None => return malformed(),
        Some(letter) => u32::from(letter),
    };
    if letters.next().is_some() { malformed() } else { Ok(Constant::Int(i64::from(code))) }
}

/// What a text in double quotes says.
pub(super) fn text(quoted: &str) -> Result<String, Failure> {
    let mut bytes = Vec::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match escape(&mut letters, '"')? {
                Escaped::Letter(letter) => {
                    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Escaped::Byte(byte) => bytes.push(byte),
            },
            '"' | '\n' => return malformed(),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::Halt("texts that are no UTF-8 are not computed in templates".into()))
}

/// What a text in backquotes says.
pub(super) fn raw(quoted: &str) -> String {
    quoted.replace('\r', "")
}

enum Escaped {
    Letter(char),
    Byte(u8),
}

/// What stands behind a backslash (`strconv.UnquoteChar`).
fn escape(letters: &mut std::str::Chars<'_>, mark: char) -> Result<Escaped, Failure> {
    let letter = match letters.next() {
        Some('a') => '\u{7}',
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('v') => '\u{b}',
        Some('\\') => '\\',
        Some(letter) if letter == mark => mark,
        Some('x') => return digits(letters, 0, 2, 16).and_then(byte),
        Some(first @ '0'..='7') => {
            let first = first.to_digit(8).unwrap_or_default();
            return digits(letters, first, 2, 8).and_then(byte);
        }
        Some('u') => digits(letters, 0, 4, 16).and_then(rune)?,
        Some('U') => digits(letters, 0, 8, 16).and_then(rune)?,
        _ => return malformed(),
    };
    Ok(Escaped::Letter(letter))
}

fn digits(letters: &mut std::str::Chars<'_>, first: u32, count: usize, radix: u32) -> Result<u32, Failure> {
    let mut value = first;
    for _ in 0..count {
        let Some(digit) = letters.next().and_then(|letter| letter.to_digit(radix)) else {
            return malformed();
        };
        value = value.wrapping_mul(radix).wrapping_add(digit);
    }
    Ok(value)
}

fn byte(value: u32) -> Result<Escaped, Failure> {
    u8::try_from(value).map_or_else(|_| malformed(), |byte| Ok(Escaped::Byte(byte)))
}

fn rune(value: u32) -> Result<char, Failure> {
    char::from_u32(value).map_or_else(malformed, Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_go() {
        for (text, expected) in [
            ("0", Constant::Int(0)),
            ("-0", Constant::Int(0)),
            ("+5", Constant::Int(5)),
            ("017", Constant::Int(15)),
            ("0b1_0", Constant::Int(2)),
            ("0x1e5", Constant::Int(0x1e5)),
            ("-0x1e5", Constant::Float(-485.0)),
            ("1_000", Constant::Int(1000)),
            ("1_0.5", Constant::Float(10.5)),
            ("1e3", Constant::Float(1000.0)),
            (".5", Constant::Float(0.5)),
            ("08.5", Constant::Float(8.5)),
            ("9223372036854775808", Constant::TooLarge),
            ("-9223372036854775808", Constant::Int(i64::MIN)),
        ] {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in
            ["", "-", "089", "0x", "0x1.8", "1__0", "_1", "1_", "18446744073709551616", "1e400", "1e", "+"]
        {
            assert!(matches!(number(text), Err(Failure::Error(_))), "{text}");
        }
        for text in ["1i", "0x1p4"] {
            assert!(matches!(number(text), Err(Failure::Halt(_))), "{text}");
        }
    }

    #[test]
    fn texts_and_letters_are_those_of_go() {
        assert_eq!(text(r#"a\t\"\x41\101\u00e9\U0001f600"#), Ok("a\t\"AAé😀".into()));
        assert_eq!(text(r"\xc3\xa9"), Ok("é".into()));
        assert!(matches!(text(r"\xff"), Err(Failure::Halt(_))));
        for wrong in [r"\'", r"\q", r"\x4", r"\400", r"\ud800", "\\"] {
            assert!(matches!(text(wrong), Err(Failure::Error(_))), "{wrong}");
        }
        assert_eq!(letter("a"), Ok(Constant::Int(97)));
        assert_eq!(letter(r"\'"), Ok(Constant::Int(39)));
        assert_eq!(letter(r"\xff"), Ok(Constant::Int(255)));
        for wrong in ["", "ab", r#"\""#] {
            assert!(matches!(letter(wrong), Err(Failure::Error(_))), "{wrong}");
        }
    }
}
