//! `regex.*` and `glob.quote_meta`.

use std::fmt::Write as _;

use regex::bytes::{Captures, Match, Regex};

use super::encoding::text;
use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::expression::{self, group_name};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

pub(super) fn is_valid(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let Ok(pattern) = operands.text(0) else { return Ok(Value::Bool(false)) };
    match expression::compile(pattern) {
        Err(Failure::Halt(reason)) => Err(Failure::Halt(reason)),
        compiled => Ok(Value::Bool(compiled.is_ok())),
    }
}

pub(super) fn matches(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (pattern, subject) = (operands.text(0)?, operands.text(1)?);
    Ok(Value::Bool(call.expression(pattern)?.is_match(subject.as_bytes())))
}

/// Whether a match begins and ends between letters: an empty one is found between the bytes of a letter too, and not in Go.
fn is_between(subject: &str, found: &Match<'_>) -> bool {
    subject.is_char_boundary(found.start()) && subject.is_char_boundary(found.end())
}

/// How many matches are wanted; a number below zero means all.
fn limit(count: i64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

pub(super) fn find_n(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (pattern, subject, count) = (operands.text(0)?, operands.text(1)?, operands.integer(2)?);
    call.fits(subject.len().saturating_mul(VALUE_BYTES))?;
    let found = call.expression(pattern)?;
    let found =
        found.find_iter(subject.as_bytes()).filter(|found| is_between(subject, found)).take(limit(count));
    Ok(Value::Array(found.map(|found| text(found.as_bytes())).collect()))
}

pub(super) fn find_all_submatches(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (pattern, subject, count) = (operands.text(0)?, operands.text(1)?, operands.integer(2)?);
    let expression = call.expression(pattern)?;
    let each = VALUE_BYTES.saturating_mul(expression.captures_len());
    call.fits(subject.len().saturating_mul(each))?;
    let found = expression.captures_iter(subject.as_bytes());
    let is_between = |found: &Captures<'_>| found.get(0).is_some_and(|whole| is_between(subject, &whole));
    let found = found.filter(is_between).take(limit(count));
    // A group that took no part is an empty text in Go.
    let groups = found.map(|captures| {
        Value::Array(captures.iter().map(|group| text(group.map_or(b"", |group| group.as_bytes()))).collect())
    });
    Ok(Value::Array(groups.collect()))
}

pub(super) fn replace(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (subject, pattern, template) = (operands.text(0)?, operands.text(1)?, operands.text(2)?);
    let expression = call.expression(pattern)?;
    let (mut replaced, mut end) = (Vec::new(), 0);
    for captures in expression.captures_iter(subject.as_bytes()) {
        let Some(whole) = captures.get(0).filter(|whole| is_between(subject, whole)) else { continue };
        replaced.extend_from_slice(subject.as_bytes().get(end..whole.start()).unwrap_or_default());
        expand(template, &expression, &captures, &mut replaced);
        end = whole.end();
        call.fits(replaced.len())?;
    }
    replaced.extend_from_slice(subject.as_bytes().get(end..).unwrap_or_default());
    Ok(text(&replaced))
}

/// `regexp.Expand`: the groups of a match in the place of their names and numbers.
fn expand(template: &str, expression: &Regex, captures: &Captures<'_>, out: &mut Vec<u8>) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.extend_from_slice(before.as_bytes());
        if let Some(after) = after.strip_prefix('$') {
            out.push(b'$');
            rest = after;
            continue;
        }
        let Some((name, after)) = reference(after) else {
            out.push(b'$');
            rest = after;
            continue;
        };
        out.extend_from_slice(group(name, expression, captures));
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
}

/// The name after a dollar sign, and what follows.
fn reference(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('{').unwrap_or(text);
    let end = inside.find(|letter: char| letter != '_' && !letter.is_alphanumeric()).unwrap_or(inside.len());
    let (name, after) = inside.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
    if inside.len() == text.len() { Some((name, after)) } else { Some((name, after.strip_prefix('}')?)) }
}

/// What a group matched. Of several with one name it is the first that took part.
fn group<'a>(name: &str, expression: &Regex, captures: &Captures<'a>) -> &'a [u8] {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    let found = match name.parse::<usize>() {
        Ok(number) if is_number => captures.get(number),
        _ => {
            let mut named = expression.capture_names().zip(captures.iter());
            named.find_map(|(known, found)| {
                found.filter(|_| known.is_some_and(|known| group_name(known) == name))
            })
        }
    };
    found.map_or(b"", |found| found.as_bytes())
}

pub(super) fn split(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (pattern, subject) = (operands.text(0)?, operands.text(1)?);
    call.fits(subject.len().saturating_mul(VALUE_BYTES))?;
    let expression = call.expression(pattern)?;
    if !pattern.is_empty() && subject.is_empty() {
        return Ok(Value::texts([""]));
    }
    let part = |from: usize, to: usize| text(subject.as_bytes().get(from..to).unwrap_or_default());
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for found in expression.find_iter(subject.as_bytes()).filter(|found| is_between(subject, found)) {
        end = found.start();
        // An empty match at the very start splits nothing off.
        if found.end() != 0 {
            parts.push(part(begin, end));
        }
        begin = found.end();
    }
    if end != subject.len() {
        parts.push(part(begin, subject.len()));
    }
    Ok(Value::Array(parts))
}

/// A text with expressions between delimiters (`open-policy-agent/opa:v1/topdown/regex_template.go`).
pub(super) fn template_match(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (template, subject) = (operands.text(0)?, operands.text(1)?);
    let delimiter = |place: usize| match operands.text(place)?.as_bytes() {
        [one] => Ok(*one),
        other => {
            Failure::error(format!("a delimiter has to be one character long but is {} long", other.len()))
        }
    };
    let (open, close) = (delimiter(2)?, delimiter(3)?);
    let unbalanced = || Failure::Error(format!("unbalanced braces in {template:?}"));
    let (mut pattern, mut depth, mut from) = (String::from("^"), 0_usize, 0);
    for (at, byte) in template.bytes().enumerate() {
        // Where both delimiters are the same byte, it opens, as in OPA.
        if byte == open {
            depth = depth.saturating_add(1);
            if depth == 1 {
                pattern.push_str(&quote(template.get(from..at).ok_or_else(unbalanced)?));
                from = at.saturating_add(1);
            }
        } else if byte == close {
            depth = depth.checked_sub(1).ok_or_else(unbalanced)?;
            if depth == 0 {
                let inside = template.get(from..at).ok_or_else(unbalanced)?;
                expression::compile(&format!("^{inside}$"))?;
                let _ = write!(pattern, "({inside})");
                from = at.saturating_add(1);
            }
        }
    }
    if depth != 0 {
        return Err(unbalanced());
    }
    pattern.push_str(&quote(template.get(from..).unwrap_or_default()));
    pattern.push('$');
    Ok(Value::Bool(call.expression(&pattern)?.is_match(subject.as_bytes())))
}

/// `regexp.QuoteMeta`.
fn quote(text: &str) -> String {
    escape(text, "\\.+*?()|[]{}^$")
}

pub(super) fn glob_quote_meta(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(escape(operands.text(0)?, "*?\\[]{}")))
}

fn escape(text: &str, special: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        if special.contains(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}
