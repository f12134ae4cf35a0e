//! `semver.*` (`open-policy-agent/opa:internal/semver/semver.go`).

use std::cmp::Ordering;

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

struct Version<'a> {
    numbers: [i64; 3],
    pre_release: &'a str,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, metadata) = text.split_once('+').map_or((text, None), |(text, rest)| (text, Some(rest)));
        let (text, pre_release) =
            text.split_once('-').map_or((text, None), |(text, rest)| (text, Some(rest)));
        let no_zeros =
            |pre: &str| pre.split('.').all(|id| id.len() < 2 || !id.starts_with('0') || !is_number(id));
        if metadata.is_some_and(|text| !are_identifiers(text))
            || pre_release.is_some_and(|text| !are_identifiers(text) || !no_zeros(text))
        {
            return None;
        }
        let mut parts = text.split('.');
        let numbers = [number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?];
        parts.next().is_none().then_some(Self { numbers, pre_release: pre_release.unwrap_or_default() })
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre_release, other.pre_release) {
            (a, b) if a == b => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (a, b) => compare_identifiers(a, b),
        })
    }
}

fn are_identifiers(text: &str) -> bool {
    let identifier =
        |id: &str| !id.is_empty() && id.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric());
    text.split('.').all(identifier)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> Option<i64> {
    let valid = is_number(text) && (text.len() == 1 || !text.starts_with('0'));
    valid.then(|| text.parse().ok()).flatten()
}

/// Numbers come before words, and fewer identifiers before more.
fn compare_identifiers(a: &str, b: &str) -> Ordering {
    let mut others = b.split('.');
    for one in a.split('.') {
        let Some(other) = others.next() else { return Ordering::Greater };
        // What is too large is the largest, as in Go.
        let value = |text: &str| text.parse::<i64>().unwrap_or(i64::MAX);
        let order = match (is_number(one), is_number(other)) {
            (true, true) => value(one).cmp(&value(other)),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => one.cmp(other),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    if others.next().is_some() { Ordering::Less } else { Ordering::Equal }
}

pub(super) fn compare(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let parsed = |place: usize| {
        let text = operands.text(place)?;
        let wrong = || format!("operand {}: string {text} is not a valid SemVer", place.saturating_add(1));
        Version::parse(text).ok_or_else(|| Failure::Error(wrong()))
    };
    Ok(Value::int(parsed(0)?.compare(&parsed(1)?) as i64))
}

pub(super) fn is_valid(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Bool(operands.text(0).is_ok_and(|text| Version::parse(text).is_some())))
}
