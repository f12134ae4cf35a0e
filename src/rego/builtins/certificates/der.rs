//! The little of DER (X.690) that extensions and names are written in.

use base64::Engine as _;

use super::super::signed::STANDARD;
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// Elements that stand in a row.
pub(super) struct Elements<'a> {
    bytes: &'a [u8],
}

impl<'a> Elements<'a> {
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The elements within the one that the bytes begin with.
    pub fn within(bytes: &'a [u8], tag: u8) -> Result<Self, Failure> {
        Self::of(bytes).read(tag).map(Self::of)
    }

    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the next element has this tag.
    pub fn has(&self, tag: u8) -> bool {
        self.bytes.first() == Some(&tag)
    }

    /// The next element, whatever it is.
    pub fn any(&mut self) -> Result<(u8, &'a [u8]), Failure> {
        let (tag, content, rest) = element(self.bytes).ok_or_else(malformed)?;
        self.bytes = rest;
        Ok((tag, content))
    }

    /// The content of the next element, which has this tag.
    pub fn read(&mut self, tag: u8) -> Result<&'a [u8], Failure> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(malformed()),
        }
    }
}

/// Bytes as JSON has them in Go.
pub(super) fn encoded(bytes: &[u8]) -> Value {
    Value::String(STANDARD.encode(bytes))
}

/// What Go reads, or may read, and is not read here.
pub(super) fn unread<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Halt(format!("a certificate with {what} is not read here")))
}

pub(super) fn malformed() -> Failure {
    Failure::Error("x509: malformed certificate".into())
}

/// Tag, content and what follows. Lengths are in their shortest form.
pub(super) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0, |length: usize, digit| length << 8 | usize::from(*digit));
            (length, Some(rest).filter(|_| digits.first() != Some(&0) && length >= 0x80)?)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The numbers of an object identifier.
pub(super) fn identifier(bytes: &[u8]) -> Result<Vec<i64>, Failure> {
    let (mut numbers, mut number, mut is_inside) = (Vec::new(), 0_i64, false);
    for byte in bytes {
        if !is_inside && *byte == 0x80 {
            return Err(malformed());
        }
        number = number << 7 | i64::from(byte & 0x7f);
        is_inside = byte & 0x80 != 0;
        if number > i64::from(i32::MAX) {
            return Err(malformed());
        }
        if is_inside {
            continue;
        }
        if numbers.is_empty() {
            let first = (number / 40).min(2);
            numbers.push(first);
            number -= first * 40;
        }
        numbers.push(number);
        number = 0;
    }
    if is_inside || numbers.is_empty() { Err(malformed()) } else { Ok(numbers) }
}

/// Numbers as an array.
pub(super) fn numbers(numbers: &[i64]) -> Value {
    Value::Array(numbers.iter().copied().map(Value::int).collect())
}

/// A text of one of the kinds that names are made of (`crypto/x509:parser.go`, `parseASN1String`).
pub(super) fn text(tag: u8, bytes: &[u8]) -> Result<String, Failure> {
    let is_printable = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+,-./ :=?*&".contains(&byte);
    let is_right = match tag {
        0x0c => true,
        0x12 => bytes.iter().all(|byte| byte.is_ascii_digit() || *byte == b' '),
        0x13 => bytes.iter().copied().all(is_printable),
        0x14 => return Ok(bytes.iter().copied().map(char::from).collect()),
        0x16 => bytes.is_ascii(),
        _ => {
            return Err(Failure::Halt(
                "a name in the certificate has a text of a kind that is not read here".into(),
            ));
        }
    };
    let text = std::str::from_utf8(bytes).ok().filter(|_| is_right);
    text.map(Into::into).ok_or_else(malformed)
}
