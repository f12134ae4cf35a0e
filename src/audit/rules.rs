//! Rules in Rego that say what records leave out: `system.log.mask` and `system.log.drop`, with OPA's meaning
//! (`opa:v1/plugins/logs/mask.go`). They see a record as it would be written, after what is always masked is gone, and run on the
//! writer's thread, so that no review waits for them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::secrets::{Hider, Secrets};
use crate::policy::{LOG_DROP, LOG_MASK, PolicySet};
use crate::text;

/// Most characters of the reason why rules could not be evaluated.
const REASON: usize = 600;

/// The policies in force when a decision was made, where one has rules for the log.
#[derive(Debug, Clone)]
pub struct LogRules(Arc<PolicySet>);

/// What rules say of a record.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Whether it is not written.
    pub drops: bool,
    /// What is changed in it.
    pub masks: Vec<MaskRule>,
}

impl LogRules {
    /// The rules for the log of these policies, if they have any.
    pub fn of(policies: &Arc<PolicySet>) -> Option<Self> {
        policies.has_log_rules().then(|| Self(Arc::clone(policies)))
    }

    /// The record as rules leave it; `None` where it is not written. Where a rule cannot be evaluated, everything is taken out that it
    /// might have removed, and the record says so.
    pub(super) fn applied(&self, event: Value) -> Option<Value> {
        match self.ask(&event) {
            Ok(Said { drops: true, .. }) => None,
            Ok(Said { masks, .. }) => Some(masked(event, &masks)),
            Err(reason) => {
                tracing::error!(%reason, "cannot mask a decision record: it is written without its input and result");
                Some(bare(event, &reason))
            }
        }
    }

    /// Asks all bundles about a record. The error is for people to read.
    pub(super) fn ask(&self, event: &Value) -> Result<Said, String> {
        let input = event.to_string();
        let drops = self.0.ask_all(LOG_DROP, &input)?.contains(&Value::Bool(true));
        if drops {
            return Ok(Said { drops, masks: Vec::new() });
        }
        let mut masks = Vec::new();
        for said in self.0.ask_all(LOG_MASK, &input)? {
            let Value::Array(rules) = said else {
                return Err(format!("`{LOG_MASK}` is `{said}`, and has to be a set"));
            };
            for rule in rules {
                masks.push(MaskRule::read(rule)?);
            }
        }
        Ok(Said { drops, masks })
    }
}

/// The record after these changes. What they take out of the object is taken out of texts that quote it too.
fn masked(mut event: Value, masks: &[MaskRule]) -> Value {
    let mut secrets = Secrets::default();
    for mask in masks {
        let Some(former) = mask.apply(&mut event) else { continue };
        secrets.take(&former);
        if let Some(further) = mask.in_policy_input() {
            further.apply(&mut event);
        }
        list(&mut event, if mask.replaces() { "masked" } else { "erased" }, &mask.path());
    }
    if !secrets.is_empty() {
        let hider = secrets.hider(&event.get("input").into_iter().collect::<Vec<_>>());
        for said in ["/result", "/error", "/custom/policy_input"] {
            event.pointer_mut(said).into_iter().for_each(|said| hide(said, &hider));
        }
    }
    event
}

/// Takes values out of every text of a part. The recursion is bounded, since the gate wrote the part.
fn hide(part: &mut Value, hider: &Hider) {
    match part {
        Value::String(text) => hider.hide_in(text),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, hider)),
        Value::Object(members) => members.values_mut().for_each(|member| hide(member, hider)),
        _ => {}
    }
}

/// Adds a path to one of the lists of what was changed.
fn list(event: &mut Value, key: &str, path: &str) {
    let Some(members) = event.as_object_mut() else { return };
    let list = members.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    list.as_array_mut().into_iter().for_each(|list| list.push(path.into()));
}

/// The record without what a rule might have removed: what was asked, what the rules of admission read, and what they said.
fn bare(mut event: Value, reason: &str) -> Value {
    let Some(members) = event.as_object_mut() else { return event };
    members.remove("input");
    if let Some(custom) = members.get_mut("custom").and_then(Value::as_object_mut) {
        custom.remove("policy_input");
    }
    if let Some(result) = members.get_mut("result").and_then(Value::as_object_mut) {
        result.retain(|key, _| ["allowed", "action", "images", "patchOperations"].contains(&key.as_str()));
    }
    let message = format!("the rules for the log could not be evaluated: {}", text::shorten(reason, REASON));
    members.insert("error".into(), json!({"code": "mask-record", "message": message}));
    for path in ["/input", "/result"] {
        list(&mut event, "erased", path);
    }
    event
}

/// One item of the set: a path whose value is removed or replaced.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MaskRule {
    parts: Vec<Part>,
    /// The value in its place; `None` where it is removed.
    replacement: Option<Value>,
}

/// One part of a path.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    /// As OPA looks it up and lists it: with `%` escapes.
    escaped: String,
    /// As it is written, and as a token of a JSON pointer. OPA masks nothing under such a key; here it is masked, since the rule
    /// means it, and keys of annotations have a `/`.
    written: [String; 2],
}

impl Part {
    /// `None` where a `%` is not followed by two digits.
    fn of(part: &str) -> Option<Self> {
        let token = part.replace("~1", "/").replace("~0", "~");
        Some(Self { escaped: escaped(part)?, written: [part.to_owned(), token] })
    }

    /// The key that an object has for it.
    fn key_in<'a>(&'a self, members: &Map<String, Value>) -> Option<&'a str> {
        let [written, token] = &self.written;
        [&self.escaped, written, token].into_iter().find(|key| members.contains_key(*key)).map(String::as_str)
    }
}

impl MaskRule {
    fn read(rule: Value) -> Result<Self, String> {
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
    pub(super) fn path(&self) -> String {
        let parts: Vec<&str> = self.parts.iter().map(|part| part.escaped.as_str()).collect();
        format!("/{}", parts.join("/"))
    }

    /// Whether it puts something in the place of a value.
    pub(super) const fn replaces(&self) -> bool {
        self.replacement.is_some()
    }

    /// The same for what the rules of admission read, where the object of the review is too.
    pub(super) fn in_policy_input(&self) -> Option<Self> {
        let (review, below) = self.parts.split_at_checked(3)?;
        let is_object = review.iter().map(|part| part.escaped.as_str()).eq(["input", "request", "object"]);
        let object = ["custom", "policy_input", "object"].into_iter().filter_map(Part::of);
        let parts = object.chain(below.iter().cloned()).collect();
        is_object.then(|| Self { parts, replacement: self.replacement.clone() })
    }

    /// Changes a record. Returns the value that is not in it any more, and `None` where nothing was changed.
    pub(super) fn apply(&self, event: &mut Value) -> Option<Value> {
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

/// The same, where objects are made of what is missing on the way, but for the document in which it begins.
fn made<'a>(node: &'a mut Value, way: &[Part]) -> Option<&'a mut Value> {
    let document = if way.first().is_some_and(|part| part.escaped == "custom") { 3 } else { 1 };
    let (document, below) = way.split_at_checked(document)?;
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

    #[test]
    fn what_is_masked_in_the_object_is_masked_in_what_the_rules_read() {
        let rule = MaskRule::read(json!("/input/request/object/spec/x")).unwrap();
        let mut event = json!({"custom": {"policy_input": {"object": {"spec": {"x": 1}}}}});
        assert_eq!(rule.in_policy_input().unwrap().apply(&mut event), Some(json!(1)));
        assert_eq!(event, json!({"custom": {"policy_input": {"object": {"spec": {}}}}}));
        assert_eq!(MaskRule::read(json!("/input/request/uid")).unwrap().in_policy_input(), None);
    }
}
