//! Parses the result of the entry point: a set of violations of exactly the expected shape, or the reason why it is not.
//! Nothing else may count as "no violations".

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ENTRYPOINT, Violation};
use crate::text;

/// Most characters of an unexpected value that a message shows.
const SHOWN: usize = 120;

/// What the result set of an entry point is read as.
pub(super) trait ResultSet: Sized {
    /// Reads its JSON.
    fn read(json: &[u8]) -> serde_json::Result<Self>;
}

impl ResultSet for Value {
    fn read(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

impl ResultSet for Box<RawValue> {
    fn read(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

/// The violations in a result set, or the reason why it holds none.
pub(super) struct FoundViolations(pub Result<Vec<Violation>, String>);

impl ResultSet for FoundViolations {
    /// Without a tree of values, where all is as it has to be.
    fn read(json: &[u8]) -> serde_json::Result<Self> {
        match serde_json::from_slice::<[Members<Row>; 1]>(json) {
            Ok([Members(row)]) if row.is_worded() => {
                Ok(Self(Ok(row.result.into_iter().map(|Members(found)| found).collect())))
            }
            _ => Ok(Self(violations(&serde_json::from_slice(json)?))),
        }
    }
}

/// What is found for one binding of variables, of which an entry point has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    result: Vec<Members<Violation>>,
}

impl Row {
    /// Whether every violation says which rule is broken, and why.
    fn is_worded(&self) -> bool {
        let is_blank = |text: &str| text.trim().is_empty();
        !self.result.iter().any(|Members(found)| is_blank(&found.rule) || is_blank(&found.message))
    }
}

/// A struct that is written as an object: serde would accept an array as the fields in order.
struct Members<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfObject(PhantomData))
    }
}

struct OfObject<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfObject<T> {
    type Value = Members<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Members<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Members)
    }
}

/// Parses OPA's result set, `[{"result": [violation, …]}]`.
fn violations(result_set: &Value) -> Result<Vec<Violation>, String> {
    let results = result_set.as_array().ok_or_else(|| unexpected("the result set", result_set))?;
    let [result] = results.as_slice() else {
        return Err(match results.len() {
            0 => format!(
                "`{ENTRYPOINT}` is undefined on this input, make it a set that is empty when nothing is wrong"
            ),
            _ => unexpected("the result set", result_set),
        });
    };
    let found = match result.as_object() {
        Some(fields) if fields.len() == 1 => fields.get("result"),
        _ => None,
    };
    let found = found.ok_or_else(|| unexpected("the result set", result_set))?;
    let items = found.as_array().ok_or_else(|| {
        format!("{}, expected a set of violations", unexpected(&format!("`{ENTRYPOINT}`"), found))
    })?;
    items.iter().map(violation).collect()
}

fn violation(item: &Value) -> Result<Violation, String> {
    let rule = item.get("rule").and_then(Value::as_str);
    let what = rule
        .map_or("a violation".into(), |rule| format!("a violation of rule `{}`", text::quoted(rule, SHOWN)));
    let wrong = |reason: &str| Err(format!("{}: {reason}", unexpected(&what, item)));
    // serde would accept an array as the fields in order.
    if !item.is_object() {
        return wrong("expected an object with `rule` and `message`");
    }
    match Violation::deserialize(item) {
        // No override and no user could name it.
        Ok(found) if found.rule.trim().is_empty() => wrong("its `rule` is empty, give the rule a name"),
        Ok(found) if found.message.trim().is_empty() => {
            wrong("its `message` is empty, say what is wrong and what would mend it")
        }
        Ok(found) => Ok(found),
        Err(error) => wrong(&error.to_string()),
    }
}

fn unexpected(what: &str, value: &Value) -> String {
    let shown = text::quoted(&value.to_string(), SHOWN);
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("{what} is {kind}, `{shown}`")
}

/// Names of rules, for people.
pub(super) fn listed(rules: &std::collections::BTreeSet<String>) -> String {
    if rules.is_empty() {
        return "no rule".into();
    }
    rules.iter().map(|rule| format!("`{rule}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::{EnforcementAction, MendedBy};

    /// What is read of a result set, which is the same by way of a tree of values.
    fn read(result_set: &Value) -> Result<Vec<Violation>, String> {
        let FoundViolations(found) = FoundViolations::read(result_set.to_string().as_bytes()).unwrap();
        assert_eq!(found, violations(result_set));
        found
    }

    #[test]
    fn a_set_of_violations_is_read_whole() {
        let found = read(&json!([{"result": [
            {"rule": "a", "message": "b"},
            {"rule": "c", "message": "d", "container": "e", "capability": "fs", "action": "warn",
             "mendedBy": "ambient-grant", "remedy": "f"},
        ]}]))
        .unwrap();
        let bare = Violation { rule: "a".into(), message: "b".into(), ..Violation::default() };
        let full = Violation {
            rule: "c".into(),
            message: "d".into(),
            container: Some("e".into()),
            capability: Some("fs".into()),
            action: Some(EnforcementAction::Warn),
            mended_by: Some(MendedBy::AmbientGrant),
            remedy: Some("f".into()),
            ..Violation::default()
        };
        assert_eq!(found, [bare, full]);
        assert_eq!(read(&json!([{"result": []}])), Ok(Vec::new()));
    }

    #[test]
    fn every_other_shape_is_refused_with_what_came_back() {
        let cases = [
            (json!([]), "is undefined on this input"),
            (json!({}), "the result set is an object, `{}`"),
            (json!([{}]), "the result set is a list, `[{}]`"),
            (json!([{"result": [], "more": 1}]), "the result set is a list"),
            (json!([{"result": []}, {"result": []}]), "the result set is a list"),
            (json!([[[]]]), "the result set is a list"),
            (json!([[[{"rule": "a", "message": "b"}]]]), "the result set is a list"),
            (
                json!([{"result": true}]),
                "`wasmgate/violations` is a boolean, `true`, expected a set of violations",
            ),
            (json!([{"result": {}}]), "`wasmgate/violations` is an object, `{}`, expected a set"),
            (json!([{"result": null}]), "`wasmgate/violations` is null, `null`, expected a set"),
            (json!([{"result": ["no"]}]), "a violation is a string, `\"no\"`: expected an object"),
            (json!([{"result": [["r", "m"]]}]), "a violation is a list, `[\"r\",\"m\"]`: expected an object"),
            (
                json!([{"result": [{"rule": "a"}]}]),
                "a violation of rule `a` is an object, `{\"rule\":\"a\"}`: missing",
            ),
            (json!([{"result": [{"rule": 1, "message": "b"}]}]), "expected a string"),
            (json!([{"result": [{"rule": "a", "message": "b", "allow": 1}]}]), "unknown field `allow`"),
            (json!([{"result": [{"rule": "a", "message": "b", "action": "nod"}]}]), "unknown variant `nod`"),
            (
                json!([{"result": [{"rule": "a", "message": "b", "bundle": "other"}]}]),
                "unknown field `bundle`",
            ),
            (
                json!([{"result": [{"rule": "a", "message": "b", "annotations": {}}]}]),
                "unknown field `annotations`",
            ),
            (json!([{"result": [{"rule": "a", "message": "b", "remedy": 1}]}]), "expected a string"),
            (
                json!([{"result": [{"rule": "a", "message": "b", "mendedBy": "luck"}]}]),
                "unknown variant `luck`",
            ),
            (
                json!([{"result": [{"rule": " ", "message": "b"}]}]),
                "its `rule` is empty, give the rule a name",
            ),
            (
                json!([{"result": [{"rule": "a", "message": ""}]}]),
                "its `message` is empty, say what is wrong",
            ),
        ];
        for (result, expected) in cases {
            let message = read(&result).unwrap_err();
            assert!(message.contains(expected), "{result}: {message}");
        }
    }

    #[test]
    fn a_long_value_is_cut_short_in_the_message() {
        let message = read(&json!([{"result": "é".repeat(1000)}])).unwrap_err();
        assert!(message.contains('…') && message.chars().count() < 250, "{message}");
        let message = read(&json!([{"result": [{"rule": "é".repeat(1000)}]}])).unwrap_err();
        assert!(message.contains('…') && message.chars().count() < 500, "{message}");
    }
}
