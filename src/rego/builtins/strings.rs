//! Functions on texts that OPA's compiler leaves to the host, and those of its library that go wrong.

use num_bigint::BigInt;

use super::token;
use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// Texts or one text, as `strings.any_prefix_match` takes them.
fn one_or_more(operands: Operands<'_>, place: usize) -> Result<Vec<&str>, Failure> {
    match operands.at(place)? {
        Value::String(text) => Ok(vec![text]),
        _ => operands.texts(place),
    }
}

fn any_match(call: &mut Call, operands: Operands<'_>, matches: impl Fn(&str, &str) -> bool) -> Outcome {
    let (texts, affixes) = (one_or_more(operands, 0)?, one_or_more(operands, 1)?);
    // Comparing with one takes far less than copying a value, but for its length.
    let work =
        affixes.iter().fold(1, |sum: usize, affix| sum.saturating_add(1 + affix.len() / 64)).div_ceil(8);
    for text in texts {
        call.take(work)?;
        if affixes.iter().any(|affix| matches(text, affix)) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

pub(super) fn any_prefix_match(call: &mut Call, operands: Operands<'_>) -> Outcome {
    any_match(call, operands, |text, prefix| text.starts_with(prefix))
}

pub(super) fn any_suffix_match(call: &mut Call, operands: Operands<'_>) -> Outcome {
    any_match(call, operands, |text, suffix| text.ends_with(suffix))
}

pub(super) fn count(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (text, part) = (operands.text(0)?, operands.text(1)?);
    // An empty part is found before each letter and at the end.
    let found =
        if part.is_empty() { text.chars().count().saturating_add(1) } else { text.matches(part).count() };
    Ok(Value::int(i64::try_from(found).unwrap_or(i64::MAX)))
}

/// The first places where a text begins in another, counted in letters, overlapping ones included.
fn positions(call: &mut Call, operands: Operands<'_>, most: usize) -> Result<Vec<i64>, Failure> {
    let (mut text, part) = (operands.text(0)?, operands.text(1)?);
    if part.is_empty() {
        return Failure::error("empty search character");
    }
    let (mut found, mut letter) = (Vec::new(), 0_i64);
    while found.len() < most
        && let Some(at) = text.find(part)
    {
        // A part that repeats itself is found again after each letter.
        call.take(part.len() / 64 + 1)?;
        let (before, rest) = text.split_at(at);
        letter = letter.saturating_add(i64::try_from(before.chars().count()).unwrap_or(i64::MAX));
        found.push(letter);
        let mut letters = rest.chars();
        letters.next();
        (text, letter) = (letters.as_str(), letter.saturating_add(1));
    }
    Ok(found)
}

pub(super) fn indexof(call: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::int(positions(call, operands, 1)?.first().copied().unwrap_or(-1)))
}

pub(super) fn indexof_n(call: &mut Call, operands: Operands<'_>) -> Outcome {
    call.fits(operands.text(0)?.len().saturating_mul(VALUE_BYTES))?;
    Ok(Value::Array(positions(call, operands, usize::MAX)?.into_iter().map(Value::int).collect()))
}

/// The first parts, or with a number below zero the last ones.
pub(super) fn split_n(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (text, separator, wanted) = (operands.text(0)?, operands.text(1)?, operands.integer(2)?);
    call.fits(text.len().saturating_mul(VALUE_BYTES))?;
    let mut parts: Vec<String> = if separator.is_empty() {
        text.chars().map(String::from).collect()
    } else {
        text.split(separator).map(String::from).collect()
    };
    let count = usize::try_from(wanted.unsigned_abs()).unwrap_or(usize::MAX);
    if wanted < 0 {
        parts.drain(..parts.len().saturating_sub(count));
    } else {
        parts.truncate(count);
    }
    Ok(Value::texts(parts))
}

pub(super) fn concat(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (separator, parts) = (operands.text(0)?, operands.texts(1)?);
    let length: usize = parts.iter().map(|part| part.len()).sum();
    call.fits(length.saturating_add(separator.len().saturating_mul(parts.len())))?;
    Ok(Value::String(parts.join(separator)))
}

/// Counted in letters; a length below zero means the rest.
pub(super) fn substring(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (text, offset, length) = (operands.text(0)?, operands.integer(1)?, operands.integer(2)?);
    let Ok(offset) = usize::try_from(offset) else { return Failure::error("negative offset") };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(Value::String(text.chars().skip(offset).take(length).collect()))
}

/// An empty text is found before each letter and at the end, as Go finds it.
fn replaced(call: &Call, text: &str, old: &str, new: &str) -> Result<String, Failure> {
    let times = if old.is_empty() { text.len().saturating_add(1) } else { text.matches(old).count() };
    call.fits(text.len().saturating_mul(3).saturating_add(times.saturating_mul(new.len())))?;
    if !old.is_empty() || new.is_empty() {
        return Ok(text.replace(old, new));
    }
    let mut found = String::from(new);
    for byte in text.bytes() {
        found.push(alone(byte));
        found.push_str(new);
    }
    Ok(found)
}

/// A byte as text. OPA puts the new text between the bytes of a letter, which are no text then.
fn alone(byte: u8) -> char {
    if byte.is_ascii() { char::from(byte) } else { char::REPLACEMENT_CHARACTER }
}

pub(super) fn replace(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (text, old, new) = (operands.text(0)?, operands.text(1)?, operands.text(2)?);
    Ok(Value::String(replaced(call, text, old, new)?))
}

/// All pairs at once, at each place the first that fits in the order of the keys (`strings.NewReplacer`).
pub(super) fn replace_n(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (pairs, text) = (operands.object(0)?, operands.text(1)?);
    let pairs = pairs.iter().map(|(old, new)| match (old, new) {
        (Value::String(old), Value::String(new)) => Ok((old.as_str(), new.as_str())),
        _ => Failure::error("operand 1 must be object of strings"),
    });
    let pairs: Vec<(&str, &str)> = pairs.collect::<Result<_, _>>()?;
    let (mut out, mut rest, mut after_empty) = (Vec::new(), text.as_bytes(), false);
    loop {
        call.take(pairs.len())?;
        // An empty text is found once at each place, and another one may follow it there.
        let found = pairs
            .iter()
            .find(|(old, _)| rest.starts_with(old.as_bytes()) && !(after_empty && old.is_empty()));
        after_empty = found.is_some_and(|(old, _)| old.is_empty());
        if let Some((old, new)) = found {
            out.extend(new.bytes());
            call.fits(out.len().saturating_mul(3))?;
            rest = rest.get(old.len()..).unwrap_or_default();
            continue;
        }
        let Some((byte, behind)) = rest.split_first() else { break };
        out.push(*byte);
        rest = behind;
    }
    Ok(Value::String(token::text_of(&out)))
}

pub(super) fn format_int(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (number, base) = (operands.number(0)?, operands.number(1)?);
    let radix = match base.text().as_str() {
        "2" => 2,
        "8" => 8,
        "10" => 10,
        "16" => 16,
        _ => return Failure::error("operand 2 must be one of {2, 8, 10, 16}"),
    };
    let whole: Option<BigInt> = number.text().parse().ok();
    let whole = whole.or_else(|| Some(number.to_ratio()?.rounded().truncated()));
    let whole = whole.ok_or_else(|| Failure::Error("illegal value".into()))?;
    Ok(Value::String(whole.to_str_radix(radix)))
}

/// `trace` is for the traces of `opa eval`; here it only is true.
pub(super) fn trace(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.text(0)?;
    Ok(Value::Bool(true))
}

/// `internal.print`: whether anything is undefined makes no difference.
pub(super) fn print(_: &mut Call, _: Operands<'_>) -> Outcome {
    Ok(Value::Bool(true))
}
