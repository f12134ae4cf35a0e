//! Encodings: base64, hex, URL queries, JSON and YAML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{
    GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE, URL_SAFE_NO_PAD,
};

use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::json;
use crate::rego::number::Number;
use crate::rego::value::{Object, Value};

/// Nesting depth of YAML.
const MAX_DEPTH: usize = 256;

/// Bytes as a text. A module's texts may hold any bytes, Rust's may not: what is no UTF-8 becomes U+FFFD.
pub(super) fn text(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

// === base64 ===

/// Go passes over line ends, wants the padding, and does not look at the bits that are left over.
fn decoder(url: bool) -> GeneralPurpose {
    let alphabet = if url { base64::alphabet::URL_SAFE } else { base64::alphabet::STANDARD };
    GeneralPurpose::new(&alphabet, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true))
}

fn decode(encoded: &str, url: bool) -> Result<Vec<u8>, Failure> {
    let joined = encoded.replace(['\r', '\n'], "");
    decoder(url).decode(joined).map_err(|error| Failure::Error(format!("illegal base64 data: {error}")))
}

/// Bytes of base64 with its padding.
pub(in crate::rego::builtins) fn base64(encoded: &str) -> Result<Vec<u8>, Failure> {
    decode(encoded, false)
}

pub(super) fn base64_decode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(text(&decode(operands.text(0)?, false)?))
}

pub(super) fn base64_is_valid(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Bool(operands.text(0).is_ok_and(|encoded| decode(encoded, false).is_ok())))
}

pub(super) fn base64_encode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(STANDARD.encode(operands.text(0)?)))
}

pub(super) fn base64url_encode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(URL_SAFE.encode(operands.text(0)?)))
}

pub(super) fn base64url_encode_no_pad(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(URL_SAFE_NO_PAD.encode(operands.text(0)?)))
}

/// The padding may be left out.
pub(in crate::rego::builtins) fn base64url(encoded: &str) -> Result<Vec<u8>, Failure> {
    let padding = match (encoded.ends_with('='), encoded.len() % 4) {
        (true, _) | (false, 0) => "",
        (false, 2) => "==",
        (false, 3) => "=",
        _ => return Failure::error(format!("illegal base64url string: {encoded}")),
    };
    decode(&format!("{encoded}{padding}"), true)
}

pub(super) fn base64url_decode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(text(&base64url(operands.text(0)?)?))
}

// === hex ===

/// Bytes as pairs of digits.
pub(in crate::rego::builtins) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

pub(super) fn hex_encode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(hex(operands.text(0)?.as_bytes())))
}

pub(super) fn hex_decode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let digits = operands.text(0)?.as_bytes();
    let pair = |pair: &[u8]| {
        let pair =
            std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.contains(['+', '-']))?;
        u8::from_str_radix(pair, 16).ok()
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    Ok(text(&bytes.ok_or_else(|| Failure::Error("encoding/hex: invalid digits".into()))?))
}

// === URL queries (Go's `net/url`) ===

pub(super) fn escape(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            other => {
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}

fn unescape(part: &str) -> Result<String, Failure> {
    percent_decoded(&part.replace('+', " "))
        .ok_or_else(|| Failure::Error(format!("invalid URL escape in {part:?}")))
}

/// A part of a URL without its escapes; `None` where one is not whole.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = rest.get(2..).unwrap_or_default();
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn query_encode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(escape(operands.text(0)?)))
}

pub(super) fn query_decode(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(unescape(operands.text(0)?)?))
}

pub(super) fn query_encode_object(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let wrong = || Failure::Error("operand 1 values must be string, array[string], or set[string]".into());
    let mut pairs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (key, value) in operands.object(0)? {
        let value = std::slice::from_ref(value);
        let values = match value {
            [Value::String(_)] => Operands(value).text(0).map(|text| vec![text]),
            _ => Operands(value).texts(0),
        };
        pairs.insert(key.to_key(), values.map_err(|_| wrong())?);
    }
    let encoded = pairs.iter().flat_map(|(key, values)| {
        values.iter().map(move |value| format!("{}={}", escape(key), escape(value)))
    });
    Ok(Value::String(encoded.collect::<Vec<_>>().join("&")))
}

pub(super) fn query_decode_object(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let query = operands.text(0)?;
    call.fits(query.len().saturating_mul(VALUE_BYTES))?;
    let mut found = Object::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            return Failure::error("invalid semicolon separator in query");
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (Value::String(unescape(key)?), Value::String(unescape(value)?));
        if let Value::Array(values) = found.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
            values.push(value);
        }
    }
    Ok(Value::Object(found))
}

// === JSON ===

pub(super) fn json_marshal(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let written = operands.at(0)?.to_json_text();
    call.fits(written.len())?;
    Ok(Value::String(written))
}

pub(super) fn json_unmarshal(_: &mut Call, operands: Operands<'_>) -> Outcome {
    json::parse(operands.text(0)?)
}

pub(super) fn json_is_valid(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let Ok(text) = operands.text(0) else { return Ok(Value::Bool(false)) };
    json::is_valid(text).map(Value::Bool)
}

pub(super) fn json_marshal_with_options(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (mut prefix, mut indent, mut pretty, mut implied) = ("", "\t", None, false);
    for (key, value) in operands.object(1)? {
        let key = key.to_key();
        match (key.as_str(), value) {
            ("prefix", Value::String(text)) => (prefix, implied) = (text.as_str(), true),
            ("indent", Value::String(text)) => (indent, implied) = (text.as_str(), true),
            ("pretty", Value::Bool(wanted)) => pretty = Some(*wanted),
            ("prefix" | "indent" | "pretty", _) => {
                return Failure::error(format!("operand 2 key {key} has the wrong type"));
            }
            _ => return Failure::error(format!("operand 2 object contained unknown key {key}")),
        }
    }
    // Read back as JSON, so that sets are arrays and keys are texts.
    let compact = operands.at(0)?.to_json_text();
    if !pretty.unwrap_or(implied) {
        return Ok(Value::String(compact));
    }
    let value = json::parse(&compact)?;
    let mut written = String::from(prefix);
    indented(&value, &Layout { prefix, indent, call }, 0, &mut written)?;
    Ok(Value::String(written))
}

struct Layout<'a> {
    prefix: &'a str,
    indent: &'a str,
    call: &'a Call,
}

fn indented(value: &Value, layout: &Layout<'_>, depth: usize, out: &mut String) -> Result<(), Failure> {
    let line = |out: &mut String, depth: usize| {
        layout.call.fits(out.len().saturating_add(layout.indent.len().saturating_mul(depth)))?;
        let _ = write!(out, "\n{}{}", layout.prefix, layout.indent.repeat(depth));
        Ok(())
    };
    let inner = depth.saturating_add(1);
    match value {
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                out.push(if index == 0 { '[' } else { ',' });
                line(out, inner)?;
                indented(item, layout, inner, out)?;
            }
            line(out, depth)?;
            out.push(']');
        }
        Value::Object(members) if !members.is_empty() => {
            for (index, (key, item)) in members.iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                line(out, inner)?;
                let _ = write!(out, "{}: ", key.to_json_text());
                indented(item, layout, inner, out)?;
            }
            line(out, depth)?;
            out.push('}');
        }
        other => out.push_str(&other.to_json_text()),
    }
    Ok(())
}

// === YAML ===

/// Read by a library for YAML 1.2, which is bounded against aliases that multiply. It says what a scalar would be taken for when a text is
/// written; rules read YAML by `yaml.unmarshal`, as OPA's reader takes it.
fn yaml(text: &str) -> Result<Value, Failure> {
    let read: Result<serde_json::Value, _> = serde_saphyr::from_str(text);
    let read = read.map_err(|error| Failure::Error(format!("yaml: {error}")))?;
    Ok(Value::from(&read))
}

pub(super) fn yaml_marshal(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let value = json::parse(&operands.at(0)?.to_json_text())?;
    let mut written = String::new();
    block(&value, 0, &mut written)?;
    call.fits(written.len())?;
    Ok(Value::String(written))
}

/// A value in block style, on lines of its own, as `sigs.k8s.io/yaml` writes it.
fn block(value: &Value, depth: usize, out: &mut String) -> Result<(), Failure> {
    if depth > MAX_DEPTH {
        return Err(Failure::Halt("values are nested more deeply than is written here".into()));
    }
    let indent = "  ".repeat(depth);
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                block(item, depth.saturating_add(1), &mut inner)?;
                // The first line of what is inside stands behind the dash.
                let _ = write!(out, "{indent}- {}", inner.trim_start_matches(' '));
            }
        }
        Value::Object(members) if !members.is_empty() => {
            for (key, item) in members {
                let _ = write!(out, "{indent}{}:", scalar(key));
                match item {
                    // A list stands as deep as its key.
                    Value::Array(items) if !items.is_empty() => {
                        out.push('\n');
                        block(item, depth, out)?;
                    }
                    Value::Object(members) if !members.is_empty() => {
                        out.push('\n');
                        block(item, depth.saturating_add(1), out)?;
                    }
                    plain => {
                        let _ = writeln!(out, " {}", scalar(plain));
                    }
                }
            }
        }
        plain => {
            let _ = writeln!(out, "{indent}{}", scalar(plain));
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain_or_quoted(text),
        other => other.to_json_text(),
    }
}

/// A text without quotes where it would be read back as the same text.
fn plain_or_quoted(text: &str) -> String {
    if text.contains(|letter: char| letter.is_control()) {
        return Value::text(text).to_json_text();
    }
    let special = |letter: char| "-?:,[]{}#&*!|>'\"%@`=".contains(letter);
    let begins_plainly = text.starts_with(|letter: char| !letter.is_whitespace() && !special(letter));
    let stays = begins_plainly && !text.contains(": ") && !text.contains(" #") && !text.ends_with([' ', ':']);
    let is_word = |words: &[&str]| words.contains(&text.to_lowercase().as_str());
    let reserved =
        is_word(&["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ".nan", ".inf"]);
    // A date, a time, or a number of base 60, to those who read YAML 1.1.
    let is_time = text.starts_with(|letter: char| letter.is_ascii_digit())
        && text.contains(['-', ':'])
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.TtZz +".contains(&byte));
    if stays
        && !reserved
        && !is_time
        && Number::from_text(text).to_f64().is_nan()
        && yaml(text).is_ok_and(|read| read == Value::text(text))
    {
        return text.into();
    }
    // Numbers and words are put in double quotes, other texts in single ones.
    if stays && (reserved || is_time || !Number::from_text(text).to_f64().is_nan()) || text.is_empty() {
        return format!("\"{text}\"");
    }
    format!("'{}'", text.replace('\'', "''"))
}
