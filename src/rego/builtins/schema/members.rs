//! The members of a schema one by one, and what is wrong with them.

use super::numeric;
use super::part::{Bounds, Count, Part};
use crate::rego::failure::Failure;
use crate::rego::number::{Number, Ratio};
use crate::rego::value::{Object, Value};
use crate::text::pointer::unescaped;

const TYPES: [&str; 7] = ["array", "boolean", "integer", "number", "null", "object", "string"];

/// Which draft a schema says it is of; one that says none, or a newer one, has the words of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Draft {
    Four,
    Six,
    Seven,
    Any,
}

pub(super) fn invalid_type<T>(expected: &str, given: &str) -> Result<T, Failure> {
    Failure::error(format!("Invalid type. Expected: {expected}, given: {given}"))
}

pub(super) fn member<'a>(members: &'a Object, name: &str) -> Option<&'a Value> {
    members.get(&Value::text(name))
}

pub(super) fn text<'a>(members: &'a Object, name: &str) -> Result<Option<&'a str>, Failure> {
    match member(members, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => invalid_type("string", name),
    }
}

pub(super) fn list<'a>(members: &'a Object, name: &str) -> Result<&'a [Value], Failure> {
    match member(members, name) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Failure::error(format!("{name} must be of an array")),
    }
}

pub(super) fn key(key: &Value) -> String {
    key.to_key()
}

pub(super) fn count(members: &Object, name: &str) -> Result<Option<u64>, Failure> {
    let Some(value) = member(members, name) else { return Ok(None) };
    let number = match value {
        Value::Number(Number::Int(integer)) => Some(*integer),
        Value::Number(number) => number.text().parse::<i64>().ok(),
        _ => None,
    };
    match number.map(u64::try_from) {
        Some(Ok(count)) => Ok(Some(count)),
        Some(Err(_)) => Failure::error(format!("{name} must be greater than or equal to 0")),
        None => Failure::error(format!("{name} must be of an integer")),
    }
}

pub(super) fn counts(members: &Object, least: &str, most: &str) -> Result<Count, Failure> {
    Ok(Count { least: count(members, least)?, most: count(members, most)? })
}

pub(super) fn in_order(count: Count, least: &str, most: &str) -> Result<Count, Failure> {
    if count.least.zip(count.most).is_some_and(|(least, most)| least > most) {
        return Failure::error(format!("{least} cannot be greater than {most}"));
    }
    Ok(count)
}

pub(super) fn draft(members: &Object) -> Result<Draft, Failure> {
    let address = match member(members, "$schema") {
        None => return Ok(Draft::Any),
        Some(Value::String(address)) => address,
        Some(_) => return Failure::error("$schema must be of type string"),
    };
    is_address(address)?;
    Ok(match address.strip_suffix('#').unwrap_or(address) {
        "http://json-schema.org/draft-04/schema" => Draft::Four,
        "http://json-schema.org/draft-06/schema" => Draft::Six,
        "http://json-schema.org/draft-07/schema" => Draft::Seven,
        _ => Draft::Any,
    })
}

/// An address that Go reads as it is written.
pub(super) fn is_address(text: &str) -> Result<(), Failure> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._~-".contains(letter);
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
    if rest.strip_suffix('#').unwrap_or(rest).chars().all(is_plain) {
        return Ok(());
    }
    Err(Failure::Halt(format!("the address `{text}` in a schema is not read here")))
}

/// Refuses a schema whose parts have names, by which others may refer to them; that of the whole document changes nothing.
pub(super) fn has_no_names(value: &Value, is_whole: bool) -> Result<(), Failure> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| has_no_names(item, false)),
        Value::Object(members) => {
            let name = if member(members, "id").is_some() { "id" } else { "$id" };
            match member(members, name) {
                Some(Value::String(id)) if is_whole && !id.trim_end_matches('#').is_empty() => {
                    is_address(id)?;
                }
                Some(Value::String(_)) => {
                    return Err(Failure::Halt("a schema in which a part has a name is not read here".into()));
                }
                _ => {}
            }
            members.iter().try_for_each(|(name, value)| match key(name).as_str() {
                "const" | "enum" => Ok(()),
                "properties" | "dependencies" | "patternProperties" => match value {
                    Value::Object(members) => {
                        members.values().try_for_each(|value| has_no_names(value, false))
                    }
                    _ => Ok(()),
                },
                _ => has_no_names(value, false),
            })
        }
        _ => Ok(()),
    }
}

/// The value below another, as `xeipuuv/gojsonpointer` finds it.
pub(super) fn step<'a>(value: &'a Value, token: &str) -> Result<&'a Value, Failure> {
    match value {
        Value::Object(members) => {
            let name = unescaped(token);
            let missing = || Failure::Error(format!("Object has no key '{name}'"));
            member(members, &name).ok_or_else(missing)
        }
        Value::Array(items) => {
            let Ok(place) = token.parse::<i64>() else {
                return Failure::error(format!("Invalid array index '{token}'"));
            };
            let found = usize::try_from(place).ok().and_then(|place| items.get(place));
            let out = || Failure::Error(format!("Out of bound array[0,{}] index '{place}'", items.len()));
            found.ok_or_else(out)
        }
        _ => Failure::error(format!("Invalid token reference '{token}'")),
    }
}

pub(super) fn types(members: &Object, part: &mut Part) -> Result<(), Failure> {
    let wrong = || invalid_type("type", "string/Array Of Strings");
    let given: Vec<&Value> = match member(members, "type") {
        None => Vec::new(),
        Some(name @ Value::String(_)) => vec![name],
        Some(Value::Array(names)) => names.iter().collect(),
        Some(_) => return wrong(),
    };
    for name in given {
        match name {
            Value::String(name) if !TYPES.contains(&name.as_str()) => {
                return Failure::error(format!(
                    "has a primitive type that is NOT VALID -- given: /{name}/ Expected valid values are:[{}]",
                    TYPES.join(" ")
                ));
            }
            Value::String(name) if part.types.contains(name) => {
                return Failure::error(format!("{name} type is duplicated"));
            }
            Value::String(name) => part.types.push(name.clone()),
            _ => return wrong(),
        }
    }
    Ok(())
}

pub(super) fn bounds(members: &Object, draft: Draft) -> Result<Bounds, Failure> {
    let multiple_of = match member(members, "multipleOf") {
        None => None,
        Some(Value::Number(number)) if *number <= Number::Int(0) => {
            return Failure::error("multipleOf must be strictly greater than 0");
        }
        Some(Value::Number(number)) => Some(numeric::ratio(number)?),
        Some(_) => return invalid_type("Number", "multipleOf"),
    };
    let (minimum, above) = bound(members, draft, "minimum", "exclusiveMinimum")?;
    let (maximum, below) = bound(members, draft, "maximum", "exclusiveMaximum")?;
    Ok(Bounds { multiple_of, minimum, above, maximum, below })
}

/// The bound that is included, and the one that is not.
pub(super) fn bound(
    members: &Object,
    draft: Draft,
    name: &str,
    exclusive: &str,
) -> Result<(Option<Ratio>, Option<Ratio>), Failure> {
    let included = match member(members, name) {
        None => None,
        Some(Value::Number(number)) => Some(numeric::ratio(number)?),
        Some(_) => return Failure::error(format!("{name} must be of a Number")),
    };
    let expected = match draft {
        Draft::Four => "boolean",
        Draft::Any => "boolean/number",
        _ => "number",
    };
    match member(members, exclusive) {
        None => Ok((included, None)),
        Some(Value::Bool(_)) if matches!(draft, Draft::Four | Draft::Any) && included.is_none() => {
            Failure::error(format!("{exclusive} cannot be used without {name}"))
        }
        Some(Value::Bool(true)) if matches!(draft, Draft::Four | Draft::Any) => Ok((None, included)),
        Some(Value::Bool(false)) if matches!(draft, Draft::Four | Draft::Any) => Ok((included, None)),
        Some(Value::Number(number)) if draft != Draft::Four => Ok((included, Some(numeric::ratio(number)?))),
        Some(_) => invalid_type(expected, exclusive),
    }
}
