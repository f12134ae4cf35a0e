//! What the functions make that a template calls (Go's `text/template/funcs.go`).

use std::cmp::Ordering;

use super::budget::Budget;
use super::escape;
use super::function::Function;
use super::value::{GoValue, NO_VALUE, Text, printed};
use crate::rego::builtins::sprintf;
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// What is found while a template runs.
pub(super) type Found<'a> = Result<GoValue<'a>, Failure>;

/// Ends the run: the reason says what the template does that it must not.
pub(super) fn fail<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Failure::error(format!("the template {}", reason.into()))
}

/// What a function makes of arguments that it `takes`.
pub(super) fn apply<'a>(function: Function, budget: &mut Budget<'_>, arguments: &[GoValue<'a>]) -> Found<'a> {
    let [first, rest @ ..] = arguments else { return write(function, budget, arguments) };
    let second = rest.first().unwrap_or(&GoValue::None);
    let bool = |value: Result<bool, Failure>| value.map(GoValue::Bool);
    match function {
        Function::Not => bool(Ok(!first.is_true())),
        Function::Len => length(first),
        Function::Index => rest.iter().try_fold(whole(first)?, |item, place| index(budget, &item, place)),
        Function::Slice => slice(budget, first, rest),
        Function::Call => fail("calls what is no function"),
        Function::Eq => bool(equal(budget, first, rest)),
        Function::Ne => bool(equal(budget, first, rest).map(|equal| !equal)),
        Function::Lt => bool(is_less(budget, first, second)),
        Function::Le => bool(is_less_or_equal(budget, first, second)),
        Function::Gt => bool(is_less_or_equal(budget, first, second).map(|is| !is)),
        Function::Ge => bool(is_less(budget, first, second).map(|is| !is)),
        // These two look at their arguments one after the other.
        Function::And | Function::Or => fail("has no value"),
        _ => write(function, budget, arguments),
    }
}

fn write<'a>(function: Function, budget: &mut Budget<'_>, arguments: &[GoValue<'a>]) -> Found<'a> {
    let text = match (function, arguments) {
        (Function::Printf, [GoValue::Text(format), rest @ ..]) => {
            sprintf::formatted(budget.call, format.as_str(), rest)?
        }
        (Function::Printf, _) => return fail("prints by a format that is no text"),
        (Function::Print, _) => printed(budget.call, arguments, false)?,
        (Function::Println, _) => printed(budget.call, arguments, true)?,
        (Function::Html, _) => {
            let text = shown(budget, arguments)?;
            escape::html(budget.call, &text)?
        }
        (Function::Js, _) => {
            let text = shown(budget, arguments)?;
            escape::js(budget.call, &text)?
        }
        _ => {
            let text = shown(budget, arguments)?;
            escape::query(budget.call, &text)?
        }
    };
    budget.grow(text.len())?;
    Ok(GoValue::made(&text))
}

/// Arguments as they are printed outside of functions.
fn shown<'a>(budget: &mut Budget<'_>, arguments: &[GoValue<'a>]) -> Result<String, Failure> {
    let shown = |value: &GoValue<'a>| match value {
        GoValue::None | GoValue::Nil => GoValue::Text(Text::Operand(NO_VALUE)),
        other => other.clone(),
    };
    let text = printed(budget.call, &arguments.iter().map(shown).collect::<Vec<_>>(), false)?;
    budget.grow(text.len())?;
    Ok(text)
}

/// An argument that must not be nothing.
fn whole<'a>(value: &GoValue<'a>) -> Found<'a> {
    match value {
        GoValue::None | GoValue::Nil => fail("looks into nothing"),
        other => Ok(other.clone()),
    }
}

fn length<'a>(value: &GoValue<'a>) -> Found<'a> {
    let length = match value {
        GoValue::Text(text) | GoValue::Number(text) => text.as_str().len(),
        GoValue::List(items) => items.len(),
        GoValue::Map(members) => members.len(),
        _ => return fail("asks for the length of what has none"),
    };
    Ok(GoValue::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

/// A place from zero to a length.
fn place(value: &GoValue<'_>) -> Result<usize, Failure> {
    let Some(place) = value.integer() else { return fail("looks for what is no place") };
    usize::try_from(place).or_else(|_| fail("looks for a place that is not there"))
}

fn index<'a>(budget: &mut Budget<'_>, item: &GoValue<'a>, key: &GoValue<'a>) -> Found<'a> {
    let found = match item {
        GoValue::Text(text) | GoValue::Number(text) => {
            text.as_str().as_bytes().get(place(key)?).copied().map(GoValue::Byte)
        }
        GoValue::List(items) => items.get(place(key)?).map(GoValue::of),
        GoValue::Map(members) => match key {
            GoValue::Text(key) => {
                budget.compare(key.as_str().len())?;
                Some(members.get(&Value::text(key.as_str())).map_or(GoValue::Nil, GoValue::of))
            }
            _ => return fail("looks for a key that is no text"),
        },
        _ => return fail("looks into what has no parts"),
    };
    found.map_or_else(|| fail("looks for a place that is not there"), Ok)
}

fn slice<'a>(budget: &mut Budget<'_>, item: &GoValue<'a>, places: &[GoValue<'a>]) -> Found<'a> {
    let item = whole(item)?;
    if places.len() > 3 {
        return fail("slices by too many places");
    }
    let length = match &item {
        GoValue::Text(_) | GoValue::Number(_) if places.len() == 3 => {
            return fail("slices a text by three places");
        }
        GoValue::Text(text) | GoValue::Number(text) => text.as_str().len(),
        GoValue::List(items) => items.len(),
        _ => return fail("slices what has no order"),
    };
    let mut bounds = [0, length, usize::MAX];
    for (bound, value) in bounds.iter_mut().zip(places) {
        *bound = place(value)?;
        if *bound <= length {
            continue;
        }
        if matches!(item, GoValue::List(_)) {
            // Go goes by how much memory the list was given.
            return Err(Failure::Halt("a template slices a list beyond its end".into()));
        }
        return fail("slices beyond the end");
    }
    let [from, to, most] = bounds;
    if from > to || to > most {
        return fail("slices backwards");
    }
    Ok(match item {
        GoValue::Text(text) => GoValue::Text(part(budget, &text, from, to)?),
        GoValue::Number(text) => GoValue::Number(part(budget, &text, from, to)?),
        GoValue::List(items) => GoValue::List(items.get(from..to).unwrap_or_default()),
        other => other,
    })
}

fn part<'a>(budget: &mut Budget<'_>, text: &Text<'a>, from: usize, to: usize) -> Result<Text<'a>, Failure> {
    let half = || Failure::Halt("a template slices a text within a letter".into());
    match text {
        Text::Operand(text) => text.get(from..to).map(Text::Operand).ok_or_else(half),
        Text::Made(text) => {
            let part = text.get(from..to).ok_or_else(half)?;
            budget.grow(part.len())?;
            Ok(Text::Made(part.into()))
        }
    }
}

/// The order of two values of one kind; `None` where they are of two, or have none.
fn order(budget: &mut Budget<'_>, a: &GoValue<'_>, b: &GoValue<'_>) -> Result<Option<Ordering>, Failure> {
    if let (Some(a), Some(b)) = (a.text(), b.text()) {
        budget.compare(a.len().min(b.len()))?;
        return Ok(Some(a.cmp(b)));
    }
    if let (Some(a), Some(b)) = (a.integer(), b.integer()) {
        return Ok(Some(a.cmp(&b)));
    }
    Ok(match (a, b) {
        (GoValue::Float(a), GoValue::Float(b)) => a.partial_cmp(b),
        _ => None,
    })
}

/// Whether it is equal to one of the others.
fn equal<'a>(budget: &mut Budget<'_>, value: &GoValue<'a>, others: &[GoValue<'a>]) -> Result<bool, Failure> {
    if others.is_empty() {
        return fail("compares with nothing");
    }
    let is_nothing = |value: &GoValue<'_>| matches!(value, GoValue::None | GoValue::Nil);
    for other in others {
        let is_equal = match (value, other) {
            (a, b) if is_nothing(a) || is_nothing(b) => is_nothing(a) && is_nothing(b),
            (GoValue::Bool(a), GoValue::Bool(b)) => a == b,
            (a, b) => match order(budget, a, b)? {
                Some(order) => order == Ordering::Equal,
                None => return fail("compares what cannot be compared"),
            },
        };
        if is_equal {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_less<'a>(budget: &mut Budget<'_>, a: &GoValue<'a>, b: &GoValue<'a>) -> Result<bool, Failure> {
    match order(budget, a, b)? {
        Some(order) => Ok(order == Ordering::Less),
        None => fail("compares what has no order"),
    }
}

fn is_less_or_equal<'a>(budget: &mut Budget<'_>, a: &GoValue<'a>, b: &GoValue<'a>) -> Result<bool, Failure> {
    match order(budget, a, b)? {
        Some(order) => Ok(order != Ordering::Greater),
        None => fail("compares what has no order"),
    }
}
