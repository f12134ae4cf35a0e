//! `json.patch` (RFC 6902) as OPA applies it: sets are patched too, and a path may be an array of keys.

use super::pointer;
use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::number;
use crate::rego::value::Value;

fn fail<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Failure::error(reason)
}

pub(super) fn patch(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let operations = operands.array(1)?;
    let document = operands.at(0)?.clone();
    let mut patched = Patched { bytes: weight(&document), document };
    for operation in operations {
        apply(call, &mut patched, operation)?;
    }
    Ok(patched.document)
}

/// A document that is changed, and no fewer bytes than it takes.
struct Patched {
    document: Value,
    bytes: usize,
}

impl Patched {
    /// Takes so many bytes more.
    fn grow(&mut self, call: &mut Call, bytes: usize) -> Result<(), Failure> {
        call.take(bytes / VALUE_BYTES)?;
        self.bytes = self.bytes.saturating_add(bytes);
        if call.fits(self.bytes).is_err() {
            // What was removed meanwhile is not counted.
            self.bytes = weight(&self.document).saturating_add(bytes);
            call.take(self.bytes / VALUE_BYTES)?;
        }
        call.fits(self.bytes)
    }
}

/// The bytes that a value takes in a module at least.
fn weight(value: &Value) -> usize {
    value.weight(VALUE_BYTES)
}

fn path(value: &Value) -> Result<Vec<Value>, Failure> {
    match value {
        Value::String(text) => Ok(pointer::keys(text)),
        Value::Array(keys) => Ok(keys.clone()),
        other => fail(format!(
            "must be one of {{set, array}} containing string paths or array of path segments but got {}",
            other.type_name()
        )),
    }
}

fn apply(call: &mut Call, patched: &mut Patched, operation: &Value) -> Result<(), Failure> {
    if !matches!(operation, Value::Object(_)) {
        return fail("must be an array of JSON-Patch objects, but at least one element is not an object");
    }
    let member = |key: &str| {
        operation.get(key).ok_or_else(|| Failure::Error(format!("missing required attribute '{key}'")))
    };
    let target = path(member("path")?)?;
    let Value::String(name) = member("op")? else { return fail("attribute 'op' must be a string") };
    match name.as_str() {
        "add" => add(call, patched, &target, member("value")?),
        "remove" => delete(call, &mut patched.document, &target),
        "replace" => {
            delete(call, &mut patched.document, &target)?;
            add(call, patched, &target, member("value")?)
        }
        "move" => {
            let from = path(member("from")?)?;
            let moved = at(&patched.document, &from)?;
            call.take(weight(moved) / VALUE_BYTES)?;
            let moved = moved.clone();
            delete(call, &mut patched.document, &from)?;
            insert(call, &mut patched.document, &target, moved)
        }
        "copy" => {
            let from = path(member("from")?)?;
            // Copies of copies double with each operation.
            let bytes = weight(at(&patched.document, &from)?);
            patched.grow(call, bytes)?;
            let copied = at(&patched.document, &from)?.clone();
            insert(call, &mut patched.document, &target, copied)
        }
        "test" => {
            let (found, wanted) = (at(&patched.document, &target)?, member("value")?);
            if found == wanted { Ok(()) } else { fail("value from EditTree != patch value") }
        }
        other => fail(format!("unrecognized op: '{other}'")),
    }
}

fn add(call: &mut Call, patched: &mut Patched, target: &[Value], value: &Value) -> Result<(), Failure> {
    patched.grow(call, weight(value))?;
    insert(call, &mut patched.document, target, value.clone())
}

/// The place in an array that a key names.
fn index(key: &Value) -> Result<usize, Failure> {
    let wrong = || Failure::Error(format!("invalid index {}", key.to_rego()));
    let at = match key {
        Value::Number(number) => number.to_count(),
        Value::String(text) if text == "0" || !text.starts_with('0') => number::count(text),
        _ => None,
    };
    at.and_then(|at| usize::try_from(at).ok()).ok_or_else(wrong)
}

fn missing<T>(key: &Value) -> Result<T, Failure> {
    fail(format!("path {} does not exist", key.to_rego()))
}

fn at<'a>(document: &'a Value, path: &[Value]) -> Result<&'a Value, Failure> {
    let mut found = document;
    for key in path {
        let next = match found {
            Value::Object(members) => members.get(key),
            Value::Array(items) => items.get(index(key)?),
            Value::Set(items) => items.get(key),
            _ => None,
        };
        match next {
            Some(next) => found = next,
            None => return missing(key),
        }
    }
    Ok(found)
}

/// Changes what stands at a path but its last key. An item of a set is taken out and put back, since its place depends on
/// what it is.
fn change(
    document: &mut Value,
    path: &[Value],
    act: &mut dyn FnMut(&mut Value, &Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match path {
        [] => fail("the path is empty"),
        [last] => act(document, last),
        [key, rest @ ..] => match document {
            Value::Object(members) => match members.get_mut(key) {
                Some(next) => change(next, rest, act),
                None => missing(key),
            },
            Value::Array(items) => match items.get_mut(index(key)?) {
                Some(next) => change(next, rest, act),
                None => missing(key),
            },
            Value::Set(items) => {
                let Some(mut item) = items.take(key) else { return missing(key) };
                change(&mut item, rest, act)?;
                items.insert(item);
                Ok(())
            }
            _ => missing(key),
        },
    }
}

/// Everything behind a place in an array moves.
fn shift(call: &mut Call, items: &[Value]) -> Result<(), Failure> {
    call.take(items.len() / 16)
}

fn insert(call: &mut Call, document: &mut Value, path: &[Value], value: Value) -> Result<(), Failure> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let mut value = Some(value);
    change(document, path, &mut |parent, key| {
        let Some(value) = value.take() else { return Ok(()) };
        match parent {
            Value::Object(members) => {
                members.insert(key.clone(), value);
            }
            Value::Array(items) if *key == Value::text("-") => items.push(value),
            Value::Array(items) => {
                let at = index(key)?;
                if at > items.len() {
                    return missing(key);
                }
                shift(call, items)?;
                items.insert(at, value);
            }
            // The key of an item of a set is the item.
            Value::Set(items) if *key == value => {
                items.insert(value);
            }
            Value::Set(_) => return fail("set key does not equal value to be inserted"),
            _ => return missing(key),
        }
        Ok(())
    })
}

fn delete(call: &mut Call, document: &mut Value, path: &[Value]) -> Result<(), Failure> {
    if path.is_empty() {
        *document = Value::Null;
        return Ok(());
    }
    change(document, path, &mut |parent, key| {
        let removed = match parent {
            Value::Object(members) => members.remove(key).is_some(),
            Value::Array(items) => {
                let at = index(key)?;
                shift(call, items)?;
                at < items.len() && {
                    items.remove(at);
                    true
                }
            }
            Value::Set(items) => items.remove(key),
            _ => false,
        };
        if removed { Ok(()) } else { missing(key) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rego::json;

    fn patched(call: &mut Call, document: &str, operations: &str) -> Outcome {
        patch(call, Operands(&[json::parse(document).unwrap(), json::parse(operations).unwrap()]))
    }

    #[test]
    fn copies_of_copies_end_before_they_fill_the_memory() {
        let mut call = Call::within(1 << 20);
        let copy = |to: usize| format!(r#"{{"op": "copy", "from": "", "path": "/{to}"}}"#);
        let many = |count: usize| format!("[{}]", (0..count).map(copy).collect::<Vec<_>>().join(","));
        assert!(patched(&mut call, "{}", &many(8)).is_ok());
        assert!(matches!(patched(&mut call, "{}", &many(40)), Err(Failure::Halt(_))));
        // The same in fuel.
        call = Call::within(usize::MAX);
        call.allow(10_000);
        assert!(matches!(patched(&mut call, "{}", &many(40)), Err(Failure::Halt(_))));
        assert!(call.is_exhausted());
    }

    #[test]
    fn what_was_removed_is_not_counted() {
        let mut call = Call::within(4 << 10);
        let text = "x".repeat(1000);
        let both =
            format!(r#"{{"op": "add", "path": "/a", "value": "{text}"}}, {{"op": "remove", "path": "/a"}}"#);
        let many = format!("[{}]", vec![both.as_str(); 20].join(","));
        assert_eq!(patched(&mut call, "{}", &many).unwrap().to_json_text(), "{}");
    }
}
