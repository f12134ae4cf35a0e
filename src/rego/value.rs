//! The values of Rego: JSON, and sets, and keys of any type. They are ordered as OPA orders them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value as Json;

use super::number::Number;

/// Members of an object.
pub type Object = BTreeMap<Value, Value>;

/// A value of Rego. The order of the variants is OPA's order of types (`open-policy-agent/opa:v1/ast/compare.go`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object, whose keys may be of any type.
    Object(Object),
    /// A set.
    Set(BTreeSet<Value>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// An integer.
    pub fn int(integer: i64) -> Self {
        Self::Number(Number::Int(integer))
    }

    /// An array of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Array(texts.into_iter().map(Self::text).collect())
    }

    /// The member of an object under a text.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(&Self::text(key)),
            _ => None,
        }
    }

    /// The bytes that the value takes at least, where each value in it takes so many besides its text.
    pub fn weight(&self, each: usize) -> usize {
        let sum = usize::saturating_add;
        match self {
            Self::String(text) => each.saturating_add(text.len()),
            Self::Array(items) => items.iter().map(|item| item.weight(each)).fold(each, sum),
            Self::Set(items) => items.iter().map(|item| item.weight(each)).fold(each, sum),
            Self::Object(members) => {
                let parts = members.iter().flat_map(|(key, value)| [key.weight(each), value.weight(each)]);
                parts.fold(each, sum)
            }
            Self::Null | Self::Bool(_) | Self::Number(_) => each,
        }
    }

    /// The name of the type as OPA's messages have it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
            Self::Set(_) => "set",
        }
    }

    /// As JSON: a set is an array in its order, and a key that is no text is written as Rego has it
    /// (`open-policy-agent/opa:v1/ast/term.go`, `ast.JSON`). The text of each number stays.
    pub fn to_json_text(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text);
        text
    }

    fn write_json(&self, text: &mut String) {
        match self {
            Self::Array(items) => write_all(text, '[', ']', items, Self::write_json),
            Self::Set(items) => write_all(text, '[', ']', items, Self::write_json),
            Self::Object(members) => {
                // Other keys than texts become texts in JSON, and Go sorts by these.
                let key_of = |key: &Self| match key {
                    Self::String(text) => text.clone(),
                    other => other.to_json_text(),
                };
                let members: BTreeMap<String, &Self> =
                    members.iter().map(|(key, value)| (key_of(key), value)).collect();
                write_all(text, '{', '}', &members, |(key, value), text| {
                    write_string(text, key);
                    text.push(':');
                    value.write_json(text);
                });
            }
            other => other.write_scalar(text),
        }
    }

    fn write_scalar(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(&number.text()),
            Self::String(value) => write_string(text, value),
            _ => {}
        }
    }

    /// What it becomes as the key of a JSON object.
    pub fn to_key(&self) -> String {
        match self {
            Self::String(text) => text.clone(),
            other => other.to_rego(),
        }
    }

    /// As OPA prints it (`ast.Value.String`): with blanks, sets in braces, texts quoted as Go does.
    pub fn to_rego(&self) -> String {
        let mut text = String::new();
        self.write_rego(&mut text);
        text
    }

    fn write_rego(&self, text: &mut String) {
        match self {
            Self::String(value) => text.push_str(&super::quote::go(value)),
            Self::Array(items) => write_spaced(text, '[', ']', items, Self::write_rego),
            Self::Set(items) if items.is_empty() => text.push_str("set()"),
            Self::Set(items) => write_spaced(text, '{', '}', items, Self::write_rego),
            Self::Object(members) => write_spaced(text, '{', '}', members, |(key, value), text| {
                key.write_rego(text);
                text.push_str(": ");
                value.write_rego(text);
            }),
            other => other.write_scalar(text),
        }
    }

    /// As OPA's compiled modules read it (`opa_value_parse`): JSON, with sets and keys of any type.
    pub fn to_module_text(&self) -> String {
        let mut text = String::new();
        self.write_module(&mut text);
        text
    }

    fn write_module(&self, text: &mut String) {
        match self {
            Self::Array(items) => write_all(text, '[', ']', items, Self::write_module),
            Self::Set(items) if items.is_empty() => text.push_str("set()"),
            Self::Set(items) => write_all(text, '{', '}', items, Self::write_module),
            Self::Object(members) => write_all(text, '{', '}', members, |(key, value), text| {
                key.write_module(text);
                text.push(':');
                value.write_module(text);
            }),
            other => other.write_scalar(text),
        }
    }
}

fn write_all<T>(
    text: &mut String,
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut String),
) {
    write_separated(text, [open, close], ",", items, write);
}

fn write_spaced<T>(
    text: &mut String,
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut String),
) {
    write_separated(text, [open, close], ", ", items, write);
}

fn write_separated<T>(
    text: &mut String,
    [open, close]: [char; 2],
    separator: &str,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut String),
) {
    text.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push_str(separator);
        }
        write(item, text);
    }
    text.push(close);
}

/// A JSON string as Go writes it: what a browser could take for markup is escaped too.
pub(super) fn write_string(text: &mut String, value: &str) {
    text.reserve(value.len().saturating_add(2));
    text.push('"');
    let mut rest = value;
    // What stands as it is is copied in one piece.
    while let Some(at) = rest.bytes().position(may_be_escaped) {
        let (plain, behind) = rest.split_at_checked(at).unwrap_or((rest, ""));
        text.push_str(plain);
        let mut letters = behind.chars();
        if let Some(letter) = letters.next() {
            write_letter(text, letter);
        }
        rest = letters.as_str();
    }
    text.push_str(rest);
    text.push('"');
}

/// Whether a letter that begins with this byte may have to be escaped; the last one begins U+2028 and U+2029, among others.
const fn may_be_escaped(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2)
}

fn write_letter(text: &mut String, letter: char) {
    match letter {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
            // Writing to a string does not fail.
            let _ = write!(text, "\\u{:04x}", u32::from(letter));
        }
        other => text.push(other),
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(Number::from_text(&number.to_string())),
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Json::Object(members) => {
                Self::Object(members.iter().map(|(key, value)| (Self::text(key), value.into())).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Go's `encoding/json` does, letter by letter.
    #[test]
    fn a_string_is_escaped_wherever_it_has_to_be() {
        let written = |value: &str| {
            let mut text = String::new();
            write_string(&mut text, value);
            text
        };
        let letters =
            ('\0'..='\u{7f}').chain(['ä', '\u{2028}', '\u{2029}', '\u{2027}', '\u{202a}', '€', '語', '𝄞']);
        for letter in letters {
            let escaped = match letter {
                '"' => "\\\"".to_string(),
                '\\' => "\\\\".to_string(),
                '\n' => "\\n".to_string(),
                '\r' => "\\r".to_string(),
                '\t' => "\\t".to_string(),
                '\u{8}' => "\\b".to_string(),
                '\u{c}' => "\\f".to_string(),
                odd if u32::from(odd) < 0x20 || "<>&\u{2028}\u{2029}".contains(odd) => {
                    format!("\\u{:04x}", u32::from(odd))
                }
                other => other.to_string(),
            };
            assert_eq!(written(&letter.to_string()), format!("\"{escaped}\""));
            assert_eq!(written(&format!("a{letter}{letter}b")), format!("\"a{escaped}{escaped}b\""));
        }
        assert_eq!(written(""), "\"\"");
    }

    #[test]
    fn values_are_ordered_by_type_and_then_by_value() {
        let one = Value::int(1);
        let ordered = [
            Value::Null,
            Value::Bool(false),
            Value::Bool(true),
            one.clone(),
            Value::Number(Number::from_text("1.5")),
            Value::text("a"),
            Value::texts(["a"]),
            Value::texts(["a", "b"]),
            Value::Object([(one.clone(), Value::Null)].into()),
            Value::Set([one].into()),
        ];
        assert!(ordered.is_sorted());
    }

    #[test]
    fn each_way_to_write_a_value_is_opas() {
        let set = Value::Set([Value::int(2), Value::int(1)].into());
        let object = Value::Object(
            [(set.clone(), Value::text("<\u{7f}")), (Value::int(3), Value::Set(BTreeSet::new()))].into(),
        );
        assert_eq!(object.to_rego(), r#"{3: set(), {1, 2}: "<\x7f"}"#);
        assert_eq!(object.to_module_text(), "{3:set(),{1,2}:\"\\u003c\u{7f}\"}");
        assert_eq!(object.to_json_text(), "{\"3\":[],\"[1,2]\":\"\\u003c\u{7f}\"}");
        assert_eq!(set.to_json_text(), "[1,2]");
    }
}
