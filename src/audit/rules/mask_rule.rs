//! One change that a rule makes to a record, by OPA's paths (`opa:v1/plugins/logs/mask.go`).

use serde_json::{Map, Value};

use crate::text::pointer::{append, unescaped};

/// One item of the set: a path whose value is removed or replaced.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MaskRule {
    /// The path.
    pub parts: Vec<Part>,
    /// The value in its place; `None` where it is removed.
    pub replacement: Option<Value>,
}

/// One part of a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// As OPA looks it up and lists it: with `%` escapes.
    pub escaped: String,
    /// As it is written, and as a token of a JSON pointer. OPA masks nothing under such a key; here it is masked, since the rule
    /// means it, and keys of annotations have a `/`.
    written: [String; 2],
}

impl Part {
    /// `None` where a `%` is not followed by two digits.
    pub fn of(part: &str) -> Option<Self> {
        Some(Self { escaped: escaped(part)?, written: [part.to_owned(), unescaped(part)] })
    }

    /// The key that an object has for it.
    pub fn key_in<'a>(&'a self, members: &Map<String, Value>) -> Option<&'a str> {
        let [written, token] = &self.written;
        [&self.escaped, written, token].into_iter().find(|key| members.contains_key(*key)).map(String::as_str)
    }
}

impl MaskRule {
    /// One item of the set. The error is for people to read.
    pub fn read(rule: Value) -> Result<Self, String> {
        match rule {
            Value::String(path) => Self::at(&path, None),
            Value::Object(mut members) => {
                let path = members.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
                match members.get("op").and_then(Value::as_str) {
                    Some("remove") => Self::at(&path, None),
                    Some("upsert") => Self::at(&path, Some(members.remove("value").unwrap_or_default())),
                    _ => Err(format!("the mask of `{path}` needs an `op`: `remove` or `upsert`")),
                }
            }
            other => Err(format!("a mask is a path, or `{{op, path, value}}`, and not `{other}`")),
        }
    }

    fn at(path: &str, replacement: Option<Value>) -> Result<Self, String> {
        let wrong = || format!("the mask of `{path}` needs a path that begins with `/input` or `/result`");
        let parts: Vec<&str> = path.strip_prefix('/').ok_or_else(wrong)?.split('/').collect();
        match parts.first() {
            // There are none in a record.
            Some(&("input" | "result" | "nd_builtin_cache")) => {}
            _ => return Err(wrong()),
        }
        let parts = parts.iter().map(|part| Part::of(part)).collect::<Option<Vec<_>>>();
        let parts = parts.ok_or_else(|| format!("the mask of `{path}` has an incomplete `%` escape"))?;
        Ok(Self { parts, replacement })
    }

    /// The path as the record lists it.
    pub fn path(&self) -> String {
        let parts: Vec<&str> = self.parts.iter().map(|part| part.escaped.as_str()).collect();
        format!("/{}", parts.join("/"))
    }

    /// Whether it puts something in the place of a value.
    pub const fn replaces(&self) -> bool {
        self.replacement.is_some()
    }

    /// The path as a JSON pointer (RFC 6901).
    pub fn pointer(&self) -> String {
        let mut pointer = String::new();
        for Part { written: [_, token], .. } in &self.parts {
            append(&mut pointer, token);
        }
        pointer
    }

    /// Changes a record only where there is a value. Returns whether there was one.
    pub fn apply_to_existing(&self, event: &mut Value) -> bool {
        let Some((last, way)) = self.parts.split_last() else { return false };
        let Some(parent) = existing(event, way) else { return false };
        if parent.as_object().is_some_and(|members| last.key_in(members).is_none()) {
            return false;
        }
        match &self.replacement {
            None => removed(parent, last).is_some(),
            Some(value) => replaced(parent, last, value.clone()).is_some(),
        }
    }

    /// Changes a record. Returns the value that is not in it any more, and `None` where nothing was changed.
    pub fn apply(&self, event: &mut Value) -> Option<Value> {
        let (last, way) = self.parts.split_last()?;
        match &self.replacement {
            None => removed(existing(event, way)?, last),
            // A whole document is replaced where there is one.
            Some(value) if way.is_empty() => {
                last.key_in(event.as_object()?)?;
                replaced(event, last, value.clone())
            }
            Some(value) => replaced(made(event, way)?, last, value.clone()),
        }
    }
}

/// The value at the end of a way.
fn existing<'a>(mut node: &'a mut Value, way: &[Part]) -> Option<&'a mut Value> {
    for part in way {
        node = match node {
            Value::Object(members) => members.get_mut(part.key_in(members)?)?,
            Value::Array(items) => items.get_mut(index(&part.escaped)?)?,
            _ => return None,
        };
    }
    Some(node)
}

/// The value at the end of a way, where objects are made of what is missing on it, but for the document in which it begins.
fn made<'a>(node: &'a mut Value, way: &[Part]) -> Option<&'a mut Value> {
    let (document, below) = way.split_at_checked(1)?;
    let mut node = existing(node, document)?;
    for part in below {
        node = match node {
            Value::Object(members) => {
                let key = part.key_in(members).unwrap_or(&part.escaped).to_owned();
                members.entry(key).or_insert_with(|| Value::Object(Map::new()))
            }
            Value::Array(items) => items.get_mut(index(&part.escaped)?)?,
            _ => return None,
        };
    }
    Some(node)
}

fn removed(parent: &mut Value, last: &Part) -> Option<Value> {
    match parent {
        Value::Object(members) => members.remove(last.key_in(members)?),
        Value::Array(items) => {
            let index = index(&last.escaped).filter(|index| *index < items.len())?;
            Some(items.remove(index))
        }
        _ => None,
    }
}

fn replaced(parent: &mut Value, last: &Part, value: Value) -> Option<Value> {
    match parent {
        Value::Object(members) => {
            let key = last.key_in(members).unwrap_or(&last.escaped).to_owned();
            Some(members.insert(key, value).unwrap_or_default())
        }
        Value::Array(items) => {
            let item = items.get_mut(index(&last.escaped)?)?;
            Some(std::mem::replace(item, value))
        }
        _ => None,
    }
}

/// A number as Go's `strconv.Atoi` reads it, if it can be an index.
fn index(part: &str) -> Option<usize> {
    let digits = part.strip_prefix('+').unwrap_or(part);
    let digits = if digits == "-0" { "0" } else { digits };
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// A part of a path as Go's `url.PathEscape` writes it (`go:src/net/url/url.go`, `shouldEscape` with `encodePathSegment`). `None` where a
/// `%` is not followed by two digits.
fn escaped(part: &str) -> Option<String> {
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' && !(0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())) {
            return None;
        }
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+:=@".contains(&byte);
    let mut escaped = String::with_capacity(part.len());
    for byte in part.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(rules: Value, event: Value) -> (Value, Vec<String>) {
        let mut event = event;
        let Value::Array(rules) = rules else { panic!("{rules}") };
        let rules = rules.into_iter().map(|rule| MaskRule::read(rule).unwrap());
        let changed = rules.filter_map(|rule| rule.apply(&mut event).map(|_| rule.path())).collect();
        (event, changed)
    }

    #[test]
    fn values_are_removed_from_objects_and_lists_and_what_is_not_there_is_passed_over() {
        let event = json!({"input": {"a": {"b": 1, "c": 2}, "l": [1, [2, 3]]}, "result": {"x": 1}});
        let rules =
            json!(["/input/a/b", "/input/l/1/0", "/input/l/7", "/input/none/x", "/input/a/c/d", "/result"]);
        let (event, changed) = apply(rules, event);
        assert_eq!(event, json!({"input": {"a": {"c": 2}, "l": [1, [3]]}}));
        assert_eq!(changed, ["/input/a/b", "/input/l/1/0", "/result"]);
    }

    #[test]
    fn values_are_replaced_and_objects_made_on_the_way_but_no_items() {
        let event = json!({"input": {"a": {"b": 1}, "l": [1, 2]}});
        let set = |path: &str| json!({"op": "upsert", "path": path, "value": "-"});
        let rules = json!([
            set("/input/a/b"),
            set("/input/n/m"),
            set("/input/l/1"),
            set("/input/l/2"),
            set("/input/a/b/c"),
            set("/result/x")
        ]);
        let (event, changed) = apply(rules, event);
        assert_eq!(event, json!({"input": {"a": {"b": "-"}, "l": [1, "-"], "n": {"m": "-"}}}));
        assert_eq!(changed, ["/input/a/b", "/input/n/m", "/input/l/1"]);
    }

    #[test]
    fn keys_that_a_path_of_opa_does_not_reach_are_masked_too() {
        let event = json!({"input": {"annotations": {"team.example/token": 1, "a b": 2, "keep": 3}}});
        let rules = json!(["/input/annotations/team.example~1token", "/input/annotations/a b"]);
        let (event, changed) = apply(rules, event);
        assert_eq!(event, json!({"input": {"annotations": {"keep": 3}}}));
        assert_eq!(changed, ["/input/annotations/team.example~1token", "/input/annotations/a%20b"]);
    }

    #[test]
    fn a_rule_without_a_sense_is_an_error_that_says_what_to_write() {
        for (rule, said) in [
            (json!("input/a"), "begins with `/input` or `/result`"),
            (json!("/labels/id"), "begins with `/input` or `/result`"),
            (json!("/input/%z"), "incomplete `%` escape"),
            (json!({"op": "hide", "path": "/input/a"}), "`remove` or `upsert`"),
            (json!({"path": "/input/a"}), "`remove` or `upsert`"),
            (json!(7), "a mask is a path"),
        ] {
            let error = MaskRule::read(rule).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
