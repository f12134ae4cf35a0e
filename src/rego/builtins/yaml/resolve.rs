//! What a text of YAML is: a number, a word or a text (`go.yaml.in/yaml/v3:resolve.go`).

use std::cmp::Ordering;

use super::cursor::unread;
use super::marks::Tag;
use crate::rego::builtins::{encoding, float};
use crate::rego::failure::Failure;
use crate::rego::number::Number;

/// A value that is no collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    /// Of 64 bits with a sign, or without one.
    Int(i128),
    Float(f64),
    Text(String),
}

/// The type of a text in no quotes.
pub(super) fn tag(text: &str) -> Tag {
    match plain(text) {
        None if text == "<<" => Tag::Merge,
        None | Some(Scalar::Text(_)) => Tag::Text,
        Some(Scalar::Null) => Tag::Null,
        Some(Scalar::Bool(_)) => Tag::Bool,
        Some(Scalar::Int(_)) => Tag::Int,
        Some(Scalar::Float(_)) => Tag::Float,
    }
}

/// The value of a text of a type.
pub(super) fn scalar(text: &str, tag: Tag) -> Result<Scalar, Failure> {
    if tag == Tag::Binary {
        // In JSON each byte that is in no text becomes a letter, and in Rust several become one.
        return match String::from_utf8(encoding::base64(text)?) {
            Ok(text) => Ok(Scalar::Text(text)),
            Err(_) => unread("bytes that are no text"),
        };
    }
    value(text, tag).map_or_else(|| Failure::error("yaml: a text is not of the type that its tag says"), Ok)
}

/// The same of any type but that of bytes; `None` where it is not of the type.
fn value(text: &str, tag: Tag) -> Option<Scalar> {
    match (tag, plain(text)) {
        (Tag::Text | Tag::Merge | Tag::Other | Tag::Binary, _) => Some(Scalar::Text(text.into())),
        (Tag::Null, found @ Some(Scalar::Null))
        | (Tag::Bool, found @ Some(Scalar::Bool(_)))
        | (Tag::Int, found @ Some(Scalar::Int(_)))
        | (Tag::Float, found @ Some(Scalar::Float(_))) => found,
        #[allow(clippy::cast_precision_loss, reason = "the nearest float is what is asked for")]
        (Tag::Float, Some(Scalar::Int(integer))) => {
            i64::try_from(integer).ok().map(|integer| Scalar::Float(integer as f64))
        }
        _ => None,
    }
}

/// What a text is that is no text.
fn plain(text: &str) -> Option<Scalar> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ if text.starts_with('.') && !separates(text) => return None,
        _ if text.starts_with('.') => Scalar::Float(decimal(&text.replace('_', ""))?),
        _ if text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-')) => {
            let joined = text.replace('_', "");
            match integer(&joined) {
                Some(integer) => Scalar::Int(integer),
                None => Scalar::Float(decimal(&joined)?),
            }
        }
        _ => return None,
    })
}

/// Whether each `_` is between digits. Where a number begins with a point, no others are passed over.
fn separates(text: &str) -> bool {
    let is_digit = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_digit());
    let parts: Vec<&str> = text.split('_').collect();
    parts.windows(2).all(|pair| match pair {
        [before, after] => is_digit(before.chars().last()) && is_digit(after.chars().next()),
        _ => true,
    })
}

/// Digits of a base in 64 bits, which have a sign where one is allowed.
fn digits(text: &str, base: u32) -> Option<i128> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !unsigned.starts_with(|first: char| first.is_digit(base)) {
        return None;
    }
    let size = i128::from(u64::from_str_radix(unsigned, base).ok()?);
    let value = if is_negative { size.checked_neg()? } else { size };
    // Above those of 63 bits there is no sign.
    let is_signed = i64::try_from(value).is_ok();
    (is_signed || unsigned.len() == text.len()).then_some(value)
}

/// A zero before the digits, or `0o`, means octal ones.
fn integer(text: &str) -> Option<i128> {
    let (sign, unsigned) = text.split_at_checked(usize::from(text.starts_with(['+', '-'])))?;
    let prefix = unsigned.get(..2).unwrap_or_default();
    let (base, rest) = match prefix {
        "0x" | "0X" => (16, unsigned.get(2..)?),
        "0b" | "0B" => (2, unsigned.get(2..)?),
        "0o" | "0O" => (8, unsigned.get(2..)?),
        _ if unsigned.len() > 1 && unsigned.starts_with('0') => (8, unsigned.get(1..)?),
        _ => (10, unsigned),
    };
    // A sign may stand behind `0b` and `0o`, where none is before them.
    let is_signed_inside = rest.starts_with(['+', '-']);
    if is_signed_inside && !(sign.is_empty() && matches!(prefix, "0b" | "0o")) {
        return None;
    }
    digits(&format!("{sign}{rest}"), base)
}

/// Digits with a point and an exponent, which are no float where that is too large.
fn decimal(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_decimal = !(whole.is_empty() && fraction.is_empty())
        && is_digits(whole)
        && is_digits(fraction)
        && !exponent.is_empty()
        && is_digits(exponent);
    if !is_decimal {
        return None;
    }
    text.parse().ok().filter(|float: &f64| float.is_finite())
}

/// The name that a key has in JSON; `None` for `null`.
pub(super) fn key(key: &Scalar) -> Option<String> {
    match key {
        Scalar::Null => None,
        Scalar::Bool(is_true) => Some(is_true.to_string()),
        Scalar::Int(integer) => Some(integer.to_string()),
        Scalar::Float(float) => Some(short(*float)),
        Scalar::Text(text) => Some(text.clone()),
    }
}

/// A float as 32 bits hold it.
fn short(float: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "go-yaml writes floats so")]
    let near = float as f32;
    if near.is_nan() {
        return ".nan".into();
    }
    if near.is_infinite() {
        return if near.is_sign_negative() { "-.inf".into() } else { ".inf".into() };
    }
    float::general_of_32_bits(near)
}

/// A float as Go writes it in JSON; `None` for those that JSON has not.
pub(super) fn json_number(float: f64) -> Option<Number> {
    if !float.is_finite() {
        return None;
    }
    let size = float.abs();
    let has_exponent = size.total_cmp(&0.0) == Ordering::Greater && !(1e-6..1e21).contains(&size);
    if !has_exponent {
        return Some(Number::from_text(&float::shortest(float)));
    }
    let text = float::exponent(float, None, false);
    // An exponent below zero has no zero before it.
    Some(Number::from_text(&text.replace("e-0", "e-")))
}
