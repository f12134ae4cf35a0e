//! `time.*` (`open-policy-agent/opa:v1/topdown/time.go`).

use jiff::Zoned;

use super::clock;
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// The layouts that Go has names for.
const NAMED: [(&str, &str); 10] = [
    ("ANSIC", "Mon Jan _2 15:04:05 2006"),
    ("UnixDate", "Mon Jan _2 15:04:05 MST 2006"),
    ("RubyDate", "Mon Jan 02 15:04:05 -0700 2006"),
    ("RFC822", "02 Jan 06 15:04 MST"),
    ("RFC822Z", "02 Jan 06 15:04 -0700"),
    ("RFC850", "Monday, 02-Jan-06 15:04:05 MST"),
    ("RFC1123", "Mon, 02 Jan 2006 15:04:05 MST"),
    ("RFC1123Z", "Mon, 02 Jan 2006 15:04:05 -0700"),
    ("RFC3339", RFC3339),
    ("RFC3339Nano", "2006-01-02T15:04:05.999999999Z07:00"),
];
const RFC3339: &str = "2006-01-02T15:04:05Z07:00";

fn layout(name: &str) -> &str {
    NAMED.iter().find(|(known, _)| *known == name).map_or(name, |(_, layout)| layout)
}

fn nanoseconds(time: Option<i128>, what: &str) -> Outcome {
    let time = time.ok_or_else(|| Failure::Error(format!("cannot parse {what} as a time")))?;
    let time = i64::try_from(time).map_err(|_| Failure::Error("time outside of valid range".into()))?;
    Ok(Value::int(time))
}

pub(super) fn now(call: &mut Call, _: Operands<'_>) -> Outcome {
    Ok(Value::int(call.now()))
}

pub(super) fn parse(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (format, text) = (operands.text(0)?, operands.text(1)?);
    nanoseconds(clock::read(layout(format), text), text)
}

pub(super) fn parse_rfc3339(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let text = operands.text(0)?;
    nanoseconds(clock::read(RFC3339, text), text)
}

/// A time and the layout that is asked for with it.
fn time(operands: Operands<'_>, place: usize) -> Result<(Zoned, &str), Failure> {
    let one = std::slice::from_ref(operands.at(place)?);
    let parts = match one {
        [Value::Array(parts)] if !parts.is_empty() => Operands(parts),
        _ => Operands(one),
    };
    let number = parts.number(0)?;
    let nanoseconds = number.to_i64().ok_or_else(|| Failure::Error("timestamp too big".into()))?;
    let zone = if parts.0.len() > 1 { parts.text(1)? } else { "" };
    let layout = if parts.0.len() > 2 { parts.text(2)? } else { "" };
    let time = clock::in_zone(nanoseconds, zone);
    Ok((time.ok_or_else(|| Failure::Error(format!("unknown time zone {zone}")))?, layout))
}

pub(super) fn format(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (time, format) = time(operands, 0)?;
    let format = if format.is_empty() { "RFC3339Nano" } else { format };
    Ok(Value::String(clock::write(&time, layout(format))))
}

fn integers<const N: usize>(numbers: [i64; N]) -> Value {
    Value::Array(numbers.into_iter().map(Value::int).collect())
}

pub(super) fn date(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (time, _) = time(operands, 0)?;
    Ok(integers([time.year().into(), time.month().into(), time.day().into()]))
}

pub(super) fn clock(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (time, _) = time(operands, 0)?;
    Ok(integers([time.hour().into(), time.minute().into(), time.second().into()]))
}

pub(super) fn weekday(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::text(clock::weekday(&time(operands, 0)?.0)))
}

pub(super) fn add_date(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (time, _) = time(operands, 0)?;
    let (years, months, days) = (operands.integer(1)?, operands.integer(2)?, operands.integer(3)?);
    let moved = clock::add_date(&time, years, months, days);
    let moved = moved.ok_or_else(|| Failure::Error("time outside of valid range".into()))?;
    nanoseconds(Some(moved), "a date")
}

/// Years, months, days, hours, minutes and seconds from the earlier to the later.
pub(super) fn difference(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (first, second) = (time(operands, 0)?.0, time(operands, 1)?.0);
    let second = second.with_time_zone(first.time_zone().clone());
    let (from, to) = if first <= second { (first, second) } else { (second, first) };
    let parts = |time: &Zoned| -> [i64; 6] {
        let hour: [i64; 3] = [time.hour().into(), time.minute().into(), time.second().into()];
        let [hour, minute, second] = hour;
        [time.year().into(), time.month().into(), time.day().into(), hour, minute, second]
    };
    let (a, b) = (parts(&from), parts(&to));
    let mut distance: Vec<i64> = a.iter().zip(b).map(|(a, b)| b.saturating_sub(*a)).collect();
    // From the seconds upwards, each place borrows from the next.
    let sizes = [i64::MAX, 12, i64::from(from.days_in_month()), 24, 60, 60];
    let mut borrowed = 0;
    for (place, size) in distance.iter_mut().zip(sizes).rev() {
        *place = place.saturating_sub(borrowed);
        borrowed = i64::from(*place < 0);
        if *place < 0 && size != i64::MAX {
            *place = place.saturating_add(size);
        }
    }
    Ok(Value::Array(distance.into_iter().map(Value::int).collect()))
}

pub(super) fn parse_duration(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let text = operands.text(0)?;
    let parsed = duration(text).ok_or_else(|| Failure::Error(format!("time: invalid duration {text:?}")))?;
    Ok(Value::int(parsed))
}

/// Go's `time.ParseDuration`, and the days, weeks and years that OPA adds.
fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
        let (digits, after) = rest.split_at_checked(end)?;
        let end = after.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        total = total.checked_add(segment(digits, unit)?)?;
        rest = after;
    }
    i64::try_from(if negative { total.checked_neg()? } else { total }).ok()
}

fn segment(digits: &str, unit: &str) -> Option<i128> {
    if let Some(hours) = match unit {
        "d" => Some(24.0),
        "w" => Some(7.0 * 24.0),
        "y" => Some(365.0 * 24.0),
        _ => None,
    } {
        let hours: f64 = digits.parse::<f64>().ok()? * hours;
        return segment(&hours.to_string(), "h");
    }
    let size: i64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    // Digits beyond the eighteenth say nothing.
    let fraction: String = fraction.chars().take(18).collect();
    let power = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = number(&fraction)?.checked_mul(size.into())?.checked_div(power)?;
    number(whole)?.checked_mul(size.into())?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos_and_opas() {
        let cases = [
            ("1.5h", Some(5_400_000_000_000)),
            ("-1h", Some(-3_600_000_000_000)),
            ("1d12h", Some(129_600_000_000_000)),
            ("1w", Some(604_800_000_000_000)),
            ("0", Some(0)),
            (".5s", Some(500_000_000)),
            ("90", None),
            ("1month", None),
            ("1M", None),
            ("", None),
            ("1.2.3s", None),
            ("300y", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
