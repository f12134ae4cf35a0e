//! `json.remove` and `json.filter`: objects without the paths of a list, or with these alone
//! (`open-policy-agent/opa:v1/topdown/json.go`).

use super::pointer;
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::{Object, Value};

/// Parts of a path.
const MAX_PARTS: usize = 1000;

/// The parts of a path: a list of keys, or a text with slashes.
fn parts(path: &Value) -> Result<Vec<Value>, Failure> {
    let parts = match path {
        Value::String(path) => pointer::keys(path),
        Value::Array(parts) => parts.clone(),
        other => {
            return Failure::error(format!(
                "operand 2 must be one of {{set, array}} containing string paths or array of path segments but got {}",
                other.type_name()
            ));
        }
    };
    if parts.len() > MAX_PARTS {
        return Err(Failure::Halt(format!("a path has {MAX_PARTS} parts at most here")));
    }
    Ok(parts)
}

/// All paths as one object, with `null` at their ends. What lies below such an end adds nothing, and a path without parts is none.
fn tree(operands: Operands<'_>) -> Result<Object, Failure> {
    let mut root = Object::new();
    for path in operands.items(1)? {
        let mut parts = parts(path)?;
        let Some(last) = parts.pop() else { continue };
        let mut node = Some(&mut root);
        for part in parts {
            let below = node.map(|node| node.entry(part).or_insert_with(|| Value::Object(Object::new())));
            node = match below {
                Some(Value::Object(below)) => Some(below),
                _ => None,
            };
        }
        if let Some(node) = node {
            node.insert(last, Value::Null);
        }
    }
    Ok(root)
}

/// The index of an item as paths have it.
fn index(index: usize) -> Value {
    Value::text(index.to_string())
}

pub(super) fn remove(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.object(0)?;
    let paths = Value::Object(tree(operands)?);
    Ok(without(operands.at(0)?, Some(&paths)).unwrap_or(Value::Null))
}

/// A value without what the paths end at; nothing where that is the value itself.
fn without(value: &Value, paths: Option<&Value>) -> Option<Value> {
    match paths {
        Some(Value::Null) => None,
        Some(Value::Object(paths)) => Some(kept(value, paths, without)),
        _ => Some(value.clone()),
    }
}

pub(super) fn filter(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.object(0)?;
    let paths = Value::Object(tree(operands)?);
    Ok(only(operands.at(0)?, Some(&paths)).unwrap_or(Value::Null))
}

/// A value with what the paths lead to alone; nothing where none leads to it.
fn only(value: &Value, paths: Option<&Value>) -> Option<Value> {
    match paths? {
        Value::Object(paths) => Some(kept(value, paths, only)),
        _ => Some(value.clone()),
    }
}

/// A value with what `of` leaves of its parts; it is given each with what the paths say of it.
fn kept(value: &Value, paths: &Object, of: fn(&Value, Option<&Value>) -> Option<Value>) -> Value {
    match value {
        Value::Object(members) => {
            let kept =
                members.iter().filter_map(|(key, value)| Some((key.clone(), of(value, paths.get(key))?)));
            Value::Object(kept.collect())
        }
        Value::Set(items) => Value::Set(items.iter().filter_map(|item| of(item, paths.get(item))).collect()),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Value::Array(items.filter_map(|(place, item)| of(item, paths.get(&index(place)))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rego::json;

    /// What `opa eval` 1.22.2 says of the same.
    #[test]
    fn a_path_without_parts_is_none_and_one_above_another_covers_it() {
        let value = |text: &str| json::parse(text).unwrap();
        let run = |function: fn(&mut Call, Operands<'_>) -> Outcome, object: &str, paths: &str| {
            let operands = [value(object), value(paths)];
            function(&mut Call::within(1 << 20), Operands(&operands)).map(|value| value.to_json_text())
        };
        for (object, paths, removed, filtered) in [
            (r#"{"a":1}"#, "[[]]", r#"{"a":1}"#, "{}"),
            (r#"{"a":1}"#, r#"[""]"#, r#"{"a":1}"#, "{}"),
            (r#"{"a":{"b":1,"c":2}}"#, r#"["a/b","a"]"#, "{}", r#"{"a":{"b":1,"c":2}}"#),
            (r#"{"a":{"b":1,"c":2}}"#, r#"["a","a/b"]"#, "{}", r#"{"a":{"b":1,"c":2}}"#),
            (r#"{"a":[1,2,3]}"#, r#"["/a/1"]"#, r#"{"a":[1,3]}"#, r#"{"a":[2]}"#),
            (r#"{"a":[1,2,3]}"#, r#"[["a",1]]"#, r#"{"a":[1,2,3]}"#, r#"{"a":[]}"#),
            (r#"{"~":1,"/":2}"#, r#"["~0"]"#, r#"{"/":2}"#, r#"{"~":1}"#),
            (r#"{"a":1}"#, r#"["a/b"]"#, r#"{"a":1}"#, r#"{"a":1}"#),
        ] {
            assert_eq!(run(remove, object, paths).unwrap(), removed, "{object} {paths}");
            assert_eq!(run(filter, object, paths).unwrap(), filtered, "{object} {paths}");
        }
        assert!(run(remove, "[]", "[]").is_err());
        let long = Value::Array(vec![Value::text("a/".repeat(MAX_PARTS))]);
        let refused = remove(&mut Call::within(1 << 20), Operands(&[value("{}"), long]));
        assert!(matches!(refused, Err(Failure::Halt(_))));
    }
}
