//! Numbers of schemas and documents as the validator writes and compares them.

use crate::rego::call::Call;
use crate::rego::failure::Failure;
use crate::rego::number::{Number, Ratio};
use crate::rego::value::Value;

/// Digits of a number that is compared. What is computed with them takes the time of their square, as often as a part of a schema looks at it.
const MAX_DIGITS: usize = 4096;

/// A number as an exact fraction.
pub(super) fn ratio(number: &Number) -> Result<Ratio, Failure> {
    let is_short = number.digits().is_some_and(|digits| digits <= MAX_DIGITS);
    let ratio = if is_short { number.to_ratio() } else { None };
    ratio.ok_or_else(|| Failure::Halt("a number is beyond what is compared here".into()))
}

/// As `big.Float` is printed after it has been made of a fraction: with as many bits as its parts need.
pub(super) fn written(ratio: &Ratio) -> Result<String, Failure> {
    ratio.to_go().ok_or_else(|| Failure::Halt("a bound has more digits than are written here".into()))
}

/// The same value with each number as a float of 64 bits, as `encoding/json` writes one.
fn with_floats(value: &Value) -> Result<Value, Failure> {
    Ok(match value {
        Value::Number(number) => Value::Number(Number::Text(float(number.to_f64())?.into())),
        Value::Array(items) => Value::Array(items.iter().map(with_floats).collect::<Result<_, _>>()?),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, value)| Ok((key.clone(), with_floats(value)?)))
                .collect::<Result<_, Failure>>()?,
        ),
        other => other.clone(),
    })
}

/// As `encoding/json` writes it after numbers have become floats of 64 bits: what is compared with `const` and `enum`.
pub(super) fn canonical(call: &mut Call, value: &Value) -> Result<String, Failure> {
    let text = with_floats(value)?.to_json_text();
    call.take(text.len() / 64)?;
    Ok(text)
}

/// An exponent is written below 1e-6 and from 1e21 on.
fn float(float: f64) -> Result<String, Failure> {
    if !float.is_finite() {
        // OPA's process ends by that.
        return Err(Failure::Halt("a number is beyond a float of 64 bits".into()));
    }
    let magnitude = float.abs();
    if magnitude != 0.0 && magnitude < 1e-6 {
        return Ok(format!("{float:e}"));
    }
    Ok(if magnitude >= 1e21 { format!("{float:e}").replace('e', "e+") } else { format!("{float}") })
}
