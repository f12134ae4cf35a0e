//! `json.patch` (RFC 6902) as OPA applies it: sets are patched too, and a path may be an array of keys.

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

fn fail<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Failure::error(reason)
}

pub(super) fn patch(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let operations = operands.array(1)?;
    let mut patched = operands.at(0)?.clone();
    for operation in operations {
        apply(call, &mut patched, operation)?;
    }
    Ok(patched)
}

fn path(value: &Value) -> Result<Vec<Value>, Failure> {
    match value {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => {
            let parts = text.trim_start_matches('/').split('/');
            Ok(parts.map(|part| Value::String(part.replace("~1", "/").replace("~0", "~"))).collect())
        }
        Value::Array(keys) => Ok(keys.clone()),
        other => fail(format!(
            "must be one of {{set, array}} containing string paths or array of path segments but got {}",
            other.type_name()
        )),
    }
}

fn apply(call: &Call, document: &mut Value, operation: &Value) -> Result<(), Failure> {
    if !matches!(operation, Value::Object(_)) {
        return fail("must be an array of JSON-Patch objects, but at least one element is not an object");
    }
    let member = |key: &str| {
        operation.get(key).ok_or_else(|| Failure::Error(format!("missing required attribute '{key}'")))
    };
    let target = path(member("path")?)?;
    let Value::String(name) = member("op")? else { return fail("attribute 'op' must be a string") };
    match name.as_str() {
        "add" => insert(document, &target, member("value")?.clone()),
        "remove" => delete(document, &target),
        "replace" => {
            delete(document, &target)?;
            insert(document, &target, member("value")?.clone())
        }
        "move" => {
            let from = path(member("from")?)?;
            let moved = at(document, &from)?.clone();
            delete(document, &from)?;
            insert(document, &target, moved)
        }
        "copy" => {
            let copied = at(document, &path(member("from")?)?)?.clone();
            insert(document, &target, copied)?;
            // Copies of copies double with each operation.
            call.fits(document.to_module_text().len())
        }
        "test" => {
            let (found, wanted) = (at(document, &target)?, member("value")?);
            if found == wanted { Ok(()) } else { fail("value from EditTree != patch value") }
        }
        other => fail(format!("unrecognized op: '{other}'")),
    }
}

/// The place in an array that a key names.
fn index(key: &Value) -> Result<usize, Failure> {
    let wrong = || Failure::Error(format!("invalid index {}", key.to_rego()));
    match key {
        Value::Number(number) => number.to_i64().and_then(|at| usize::try_from(at).ok()).ok_or_else(wrong),
        Value::String(text) => {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !plain || (text.len() > 1 && text.starts_with('0')) {
                return Err(wrong());
            }
            text.parse().map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
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

fn insert(document: &mut Value, path: &[Value], value: Value) -> Result<(), Failure> {
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

fn delete(document: &mut Value, path: &[Value]) -> Result<(), Failure> {
    if path.is_empty() {
        *document = Value::Null;
        return Ok(());
    }
    change(document, path, &mut |parent, key| {
        let removed = match parent {
            Value::Object(members) => members.remove(key).is_some(),
            Value::Array(items) => {
                let at = index(key)?;
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
