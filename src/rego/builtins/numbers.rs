//! Functions on numbers: ranges, random ones, amounts with units, and arithmetic on numbers that are not 64-bit integers.

use num_bigint::{BigInt, Sign};

use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::number::{Number, Ratio, digits_of, steps_of};
use crate::rego::value::Value;

/// Bits of mantissa of a `float64`, and of a `big.Float` made from one.
const DOUBLE_BITS: u64 = 53;
/// Bits of a number that is computed.
const MAX_BITS: u64 = 1 << 17;
/// Digits of an exponent in an amount.
const MAX_EXPONENT_DIGITS: usize = 6;

pub(super) fn range(call: &mut Call, operands: Operands<'_>) -> Outcome {
    span(call, &operands.big(0)?, &operands.big(1)?, &BigInt::from(1))
}

pub(super) fn range_step(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let step = operands.big(2)?;
    if step.sign() != Sign::Plus {
        return Failure::error("numbers.range_step: step must be a positive integer");
    }
    span(call, &operands.big(0)?, &operands.big(1)?, &step)
}

fn span(call: &Call, from: &BigInt, to: &BigInt, step: &BigInt) -> Outcome {
    let distance = if from <= to { to - from } else { from - to };
    let count = usize::try_from(distance / step).unwrap_or(usize::MAX).saturating_add(1);
    call.fits(count.saturating_mul(VALUE_BYTES))?;
    let mut at = from.clone();
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        numbers.push(Value::Number(Number::from_big(&at)));
        if from <= to {
            at += step;
        } else {
            at -= step;
        }
    }
    Ok(Value::Array(numbers))
}

/// The same number for the same operands in one evaluation.
pub(super) fn random(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (name, bound) = (operands.text(0)?, operands.integer(1)?);
    let bound = bound.unsigned_abs();
    if bound == 0 {
        return Ok(Value::int(0));
    }
    let key = format!("rand {name}-{bound}");
    let drawn = call.random(key, || {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        // Six bits of a UUID are fixed: those of one half are made up for by the other.
        let random = (high ^ low.rotate_left(17)) % bound;
        Value::int(i64::try_from(random).unwrap_or_default())
    });
    Ok(drawn)
}

// === Arithmetic (`open-policy-agent/opa:v1/topdown/arithmetic.go`) ===

/// The place in an array that a number means.
pub(super) fn place(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.integer(0).map(Value::int).map_err(|_| Failure::Undefined)
}

pub(super) fn remainder(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (dividend, divisor) = (operands.big(0)?, operands.big(1)?);
    if divisor.sign() == Sign::NoSign {
        return Failure::error("modulo by zero");
    }
    Ok(Value::Number(Number::from_big(&(dividend % divisor))))
}

fn ratios(operands: Operands<'_>) -> Result<(Ratio, Ratio), Failure> {
    Ok((ratio(operands, 0)?, ratio(operands, 1)?))
}

fn ratio(operands: Operands<'_>, place: usize) -> Result<Ratio, Failure> {
    let number = operands.number(place)?.to_ratio();
    Ok(number.ok_or_else(|| Failure::Error("illegal value".into()))?.rounded())
}

fn computed(ratio: &Ratio) -> Outcome {
    Ok(Value::Number(ratio.rounded().to_number()))
}

/// Both operands where they are integers by value, which OPA computes exactly.
fn integers(operands: Operands<'_>) -> Option<(BigInt, BigInt)> {
    Some((operands.big(0).ok()?, operands.big(1).ok()?))
}

pub(super) fn plus(_: &mut Call, operands: Operands<'_>) -> Outcome {
    if let Some((a, b)) = integers(operands) {
        return Ok(Value::Number(Number::from_big(&(a + b))));
    }
    let (a, b) = ratios(operands)?;
    computed(&a.plus(&b))
}

pub(super) fn minus(_: &mut Call, operands: Operands<'_>) -> Outcome {
    if let (Value::Set(a), Value::Set(b)) = (operands.at(0)?, operands.at(1)?) {
        return Ok(Value::Set(a.difference(b).cloned().collect()));
    }
    if let Some((a, b)) = integers(operands) {
        return Ok(Value::Number(Number::from_big(&(a - b))));
    }
    let (a, b) = ratios(operands)?;
    computed(&a.plus(&b.times(&Ratio::integer(BigInt::from(-1)))))
}

pub(super) fn times(_: &mut Call, operands: Operands<'_>) -> Outcome {
    if let Some((a, b)) = integers(operands) {
        return Ok(Value::Number(Number::from_big(&(a * b))));
    }
    let (a, b) = ratios(operands)?;
    computed(&a.times(&b))
}

pub(super) fn divide(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (a, b) = ratios(operands)?;
    let quotient = a.over(&b).ok_or_else(|| Failure::Error("divide by zero".into()))?;
    computed(&quotient)
}

/// `big.Float` of an operand without its fraction, and whether it had one.
fn whole(operands: Operands<'_>, half: i64) -> Result<(BigInt, bool), Failure> {
    let number = ratio(operands, 0)?;
    let halves = BigInt::from(if number < Ratio::integer(BigInt::ZERO) { -half } else { half });
    let added = Ratio::integer(halves).over(&Ratio::integer(BigInt::from(2)));
    let number = added.map_or(number.clone(), |half| number.plus(&half).rounded());
    let whole = number.truncated();
    let exact = Ratio::integer(whole.clone()) == number;
    Ok((whole, exact))
}

pub(super) fn round(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Number(Number::from_big(&whole(operands, 1)?.0)))
}

/// OPA takes zero for no negative number here: `floor(-0.5)` is 0.
pub(super) fn floor(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (whole, exact) = whole(operands, 0)?;
    let less = i32::from(!exact && whole.sign() == Sign::Minus);
    Ok(Value::Number(Number::from_big(&(whole - less))))
}

/// And for a positive one here: `ceil(-0.5)` is 1.
pub(super) fn ceil(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (whole, exact) = whole(operands, 0)?;
    let more = i32::from(!exact && whole.sign() != Sign::Minus);
    Ok(Value::Number(Number::from_big(&(whole + more))))
}

pub(super) fn abs(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let number = ratio(operands, 0)?;
    let negated = number.times(&Ratio::integer(BigInt::from(-1)));
    computed(&number.max(negated))
}

/// Ends the evaluation where a number has more bits: its digits cost time in the square of their number.
fn in_reason(bits: u64) -> Result<(), Failure> {
    if bits <= MAX_BITS {
        return Ok(());
    }
    Err(Failure::Halt(format!("a number of more than {MAX_BITS} bits is too large here")))
}

/// The numbers of an array or a set.
fn numbers(operands: Operands<'_>) -> Result<Vec<Number>, Failure> {
    let items = operands.items(0)?;
    items.into_iter().map(|item| Operands(std::slice::from_ref(item)).number(0).cloned()).collect()
}

/// Integers exactly, anything else in floats (`aggregates.go`).
pub(super) fn sum(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let numbers = numbers(operands)?;
    let integers: Option<Vec<BigInt>> = numbers.iter().map(Number::to_big).collect();
    if let Some(integers) = integers {
        return Ok(Value::Number(Number::from_big(&integers.iter().sum())));
    }
    let mut sum = Ratio::integer(BigInt::ZERO);
    for number in numbers {
        let number = number.to_ratio().ok_or_else(|| Failure::Error("illegal value".into()))?;
        sum = sum.plus(&number.rounded()).rounded();
    }
    computed(&sum)
}

/// `casts.go`. Go reads more than JSON has: what has another form here and the same value gets it, and what has none ends the evaluation.
pub(super) fn to_number(_: &mut Call, operands: Operands<'_>) -> Outcome {
    match operands.at(0)? {
        Value::Null => Ok(Value::int(0)),
        Value::Bool(is_true) => Ok(Value::int(i64::from(*is_true))),
        Value::Number(number) => Ok(Value::Number(number.clone())),
        Value::String(text) => read_number(text),
        other => Failure::error(format!(
            "operand 1 must be one of {{null, boolean, number, string}} but got {}",
            other.type_name()
        )),
    }
}

fn read_number(text: &str) -> Outcome {
    if let Some(decimal) = decimal(text) {
        return Ok(Value::Number(Number::from_text(&decimal)));
    }
    if is_hexadecimal(text) || has_good_underscores(text) {
        return Err(Failure::Halt(format!(
            "`to_number` does not read numbers that are not decimal, or have underscores, here: {text:?}"
        )));
    }
    Failure::error("operand 1 must be valid number string but got string")
}

/// A decimal that Go's `strconv.ParseFloat` reads, as JSON writes it.
fn decimal(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let has_digits = |part: &str| part.bytes().any(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let is_plain = mantissa.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_finite = || text.parse::<f64>().is_ok_and(f64::is_finite);
    if !is_plain || !has_digits(mantissa) || !has_digits(exponent) || !is_finite() {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = Some(whole.trim_start_matches('0')).filter(|whole| !whole.is_empty()).unwrap_or("0");
    let sign = if text.starts_with('-') { "-" } else { "" };
    let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
    let power = if unsigned.len() == mantissa.len() { String::new() } else { format!("e{exponent}") };
    Some(format!("{sign}{whole}{fraction}{power}"))
}

/// Whether a text is a decimal with underscores between its digits.
fn has_good_underscores(text: &str) -> bool {
    let is_between = |window: &[u8]| matches!(window, [before, b'_', after] if before.is_ascii_digit() && after.is_ascii_digit());
    let good = text.as_bytes().windows(3).filter(|window| is_between(window)).count();
    good > 0 && good == text.matches('_').count() && decimal(&text.replace('_', "")).is_some()
}

/// Whether a text may be one of Go's hexadecimal numbers.
fn is_hexadecimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")).unwrap_or_default();
    let known = |byte: u8| byte.is_ascii_hexdigit() || b"._pP+-".contains(&byte);
    digits.contains(['p', 'P']) && digits.bytes().all(known)
}

/// Integers exactly, anything else in floats that have 53 bits of mantissa here.
pub(super) fn product(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let numbers = numbers(operands)?;
    let integers: Option<Vec<BigInt>> = numbers.iter().map(Number::to_big).collect();
    if let Some(integers) = integers {
        let mut product = BigInt::from(1);
        for integer in integers {
            product *= integer;
            in_reason(product.bits())?;
        }
        return Ok(Value::Number(Number::from_big(&product)));
    }
    let mut product = Ratio::integer(BigInt::from(1));
    for number in numbers {
        let number = number.to_ratio().ok_or_else(|| Failure::Error("illegal value".into()))?;
        product = product.times(&number.rounded()).rounded_to(DOUBLE_BITS);
        in_reason(product.bits())?;
    }
    Ok(Value::Number(product.to_number_of(DOUBLE_BITS)))
}

// === Bits (`bits.go`) ===

pub(super) fn bits_and(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Number(Number::from_big(&(operands.big(0)? & operands.big(1)?))))
}

pub(super) fn bits_or(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Number(Number::from_big(&(operands.big(0)? | operands.big(1)?))))
}

pub(super) fn bits_xor(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Number(Number::from_big(&(operands.big(0)? ^ operands.big(1)?))))
}

pub(super) fn bits_negate(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Number(Number::from_big(&!operands.big(0)?)))
}

fn shift(operands: Operands<'_>) -> Result<usize, Failure> {
    let by = operands.big(1)?;
    if by.sign() == Sign::Minus {
        return Failure::error("operand 2 must be an unsigned integer number but got a negative integer");
    }
    Ok(usize::try_from(by).unwrap_or(usize::MAX))
}

pub(super) fn shift_left(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (number, by) = (operands.big(0)?, shift(operands)?);
    in_reason(number.bits().saturating_add(u64::try_from(by).unwrap_or(u64::MAX)))?;
    Ok(Value::Number(Number::from_big(&(number << by))))
}

pub(super) fn shift_right(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Number(Number::from_big(&(operands.big(0)? >> shift(operands)?))))
}

// === Amounts with units (`parse_bytes.go`, `parse_units.go`) ===

/// The number and the unit of an amount; the error is an exponent of too many digits.
fn split_amount(text: &str) -> Result<(&str, &str), ()> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let sign = |at: usize| matches!(bytes.get(at), Some(b'+' | b'-'));
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let next = at.saturating_add(1);
        match byte {
            b'0'..=b'9' | b'.' | b'+' | b'-' => {}
            b'e' | b'E' if digit(next) || sign(next) => {
                at = at.saturating_add(usize::from(sign(next)));
                let digits = bytes.iter().skip(at.saturating_add(1)).take_while(|byte| byte.is_ascii_digit());
                if digits.count() > MAX_EXPONENT_DIGITS {
                    return Err(());
                }
            }
            _ => break,
        }
        at = at.saturating_add(1);
    }
    Ok(text.split_at_checked(at).unwrap_or((text, "")))
}

/// A power of a base; `unit` is its first letter in lower case.
fn power(unit: &str, base: u64) -> Option<Ratio> {
    let exponent = ["", "k", "m", "g", "t", "p", "e"].iter().position(|known| *known == unit)?;
    Some(Ratio::integer(BigInt::from(base).pow(u32::try_from(exponent).ok()?)))
}

pub(super) fn parse_bytes(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let text = operands.text(0)?.to_lowercase().replace('"', "");
    let fail = |reason: &str| Failure::Error(format!("units.parse_bytes: {reason}"));
    if text.contains(' ') {
        return Err(fail("spaces not allowed in resource strings"));
    }
    let (number, unit) = split_amount(&text).map_err(|()| fail("exponent too large"))?;
    if number.is_empty() {
        return Err(fail("no byte amount provided"));
    }
    let factor = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('i')) {
        Some(unit) if !unit.is_empty() => power(unit, 1024),
        Some(_) => None,
        None if unit == "b" => None,
        None => power(unit.strip_suffix('b').unwrap_or(unit), 1000),
    };
    let factor = factor.ok_or_else(|| fail(&format!("byte unit {unit} not recognized")))?;
    call.take(steps_of(digits_of(number).unwrap_or_default()))?;
    let number = Ratio::parse(number).ok_or_else(|| fail("could not parse byte amount to a number"))?;
    // As `big.Float` multiplies.
    let bytes = number.rounded().times(&factor).rounded().truncated();
    Ok(Value::Number(Number::from_big(&bytes)))
}

pub(super) fn parse_units(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let text = operands.text(0)?.replace('"', "");
    let fail = |reason: &str| Failure::Error(format!("units.parse: {reason}"));
    if text.contains(' ') {
        return Err(fail("spaces not allowed in resource strings"));
    }
    let (number, unit) = split_amount(&text).map_err(|()| fail("exponent too large"))?;
    if number.is_empty() {
        return Err(fail("no amount provided"));
    }
    let factor = si_factor(unit).ok_or_else(|| fail(&format!("unit {unit} not recognized")))?;
    call.take(steps_of(digits_of(number).unwrap_or_default()))?;
    let number = Ratio::parse(number).ok_or_else(|| fail("could not parse amount to a number"))?;
    let amount = number.times(&factor);
    Ok(Value::Number(match amount.to_integer() {
        Some(whole) => Number::from_big(&whole),
        None => Number::from_text(&amount.to_fixed(10)),
    }))
}

/// The first letter keeps its case: `m` is a thousandth and `M` a million.
fn si_factor(unit: &str) -> Option<Ratio> {
    let mut letters = unit.chars();
    let first = letters.next().map(String::from).unwrap_or_default();
    let rest = letters.as_str().to_lowercase();
    match (first.as_str(), rest.as_str()) {
        // The float nearest to a thousandth, as OPA takes it.
        ("m", "") => thousandth(),
        ("k" | "K" | "M" | "g" | "G" | "t" | "T" | "p" | "P" | "e" | "E", "") => {
            power(&first.to_lowercase(), 1000)
        }
        ("", "") => power("", 1000),
        (_, "i") => power(&first.to_lowercase(), 1024),
        _ => None,
    }
}

/// `big.Rat.SetFloat64(0.001)`: exactly what the float holds.
fn thousandth() -> Option<Ratio> {
    let mantissa = Ratio::integer(BigInt::from(0x0010_624d_d2f1_a9fc_u64));
    mantissa.over(&Ratio::integer(BigInt::from(1) << 62_u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(function: fn(&mut Call, Operands<'_>) -> Outcome, operands: &[Value]) -> String {
        let mut call = Call::within(1 << 20);
        match function(&mut call, Operands(operands)) {
            Ok(value) => value.to_rego(),
            Err(failure) => format!("{failure:?}"),
        }
    }

    #[test]
    fn the_digits_of_an_amount_are_paid_for_by_their_square() {
        for function in [parse_bytes as fn(&mut Call, Operands<'_>) -> Outcome, parse_units] {
            let taken = |text: &str| {
                let mut call = Call::within(1 << 20);
                call.allow(20_000);
                let is_read = function(&mut call, Operands(&[Value::text(text)])).is_ok();
                (is_read, call.taken())
            };
            assert_eq!(taken("12Mi"), (true, 0));
            assert!(taken("1e10000").0 && taken("1e10000").1 > 1_000);
            assert!(!taken(&"1".repeat(1_000_000)).0 && !taken("1e50000").0);
        }
    }

    #[test]
    fn amounts_are_read_as_opa_reads_them() {
        let bytes = |text: &str| run(parse_bytes, &[Value::text(text)]);
        let cases = [
            ("1.1Mi", "1153433"),
            ("10MB", "10000000"),
            ("1e3k", "1000000"),
            ("\"1\"Gi", "1073741824"),
            ("12", "12"),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
        for wrong in ["", "1 Gi", "1B", "GB", "1foo", "1i", "1ib", "1e1234567", "1.2.3"] {
            assert!(bytes(wrong).contains("Error"), "{wrong}");
        }
        let units = |text: &str| run(parse_units, &[Value::text(text)]);
        assert_eq!(units("100m"), "0.1000000000");
        assert_eq!(units("1.5"), "1.5000000000");
        assert_eq!(units("2Ki"), "2048");
        assert_eq!(units("1M"), "1000000");
    }

    #[test]
    fn a_range_that_would_fill_the_memory_ends_the_evaluation() {
        assert_eq!(run(range, &[Value::int(3), Value::int(1)]), "[3, 2, 1]");
        assert_eq!(run(range_step, &[Value::int(0), Value::int(7), Value::int(3)]), "[0, 3, 6]");
        assert!(run(range, &[Value::int(0), Value::int(i64::MAX)]).contains("Halt"));
    }

    /// What `opa eval` 1.22.2 says of the same.
    #[test]
    fn whole_numbers_products_and_bits_are_opas() {
        let number = |text: &str| Value::Number(Number::from_text(text));
        for (function, text, expected) in [
            (floor as fn(&mut Call, Operands<'_>) -> Outcome, "-0.5", "0"),
            (floor, "-1.5", "-2"),
            (floor, "1e20", "100000000000000000000"),
            (ceil, "-0.5", "1"),
            (ceil, "1.1", "2"),
            (ceil, "123456789012345678901234567890", "123456789012345678899921813504"),
            (round, "-2.5", "-3"),
            (round, "2.4", "2"),
            (abs, "-1.5", "1.5"),
            (bits_negate, "1e2", "-101"),
        ] {
            assert_eq!(run(function, &[number(text)]), expected, "{text}");
        }
        let products = Value::Array(vec![number("0.1"), number("3")]);
        assert_eq!(run(product, &[products]), "0.30000000000000004");
        assert_eq!(run(product, &[Value::Array(vec![number("1.0"), number("1e2")])]), "100");
        assert_eq!(run(product, &[Value::Array(Vec::new())]), "1");
        let sum = |texts: &[&str]| run(sum, &[Value::Array(texts.iter().map(|text| number(text)).collect())]);
        assert_eq!(sum(&["1.1", "2.2", "3.3"]), "6.6000000000000000003");
        assert_eq!(sum(&["18446744073709551616", "0.5"]), "18446744073709551616");
        assert_eq!(sum(&["9223372036854775807", "1.0"]), "9223372036854775808");
        assert_eq!(sum(&[]), "0");
        assert_eq!(run(bits_xor, &[number("1.0"), number("2")]), "3");
        assert_eq!(run(shift_left, &[number("1.0"), number("100")]), "1267650600228229401496703205376");
        assert!(run(shift_left, &[number("1"), number("1e9")]).contains("Halt"));
        assert!(run(shift_right, &[number("1"), number("-1")]).contains("Error"));
    }

    /// What `opa eval` 1.22.2 says of the same, but for zeros and signs that JSON does not have.
    #[test]
    fn a_number_is_read_from_a_text_as_go_reads_it() {
        let read = |text: &str| run(to_number, &[Value::text(text)]);
        for (text, expected) in [
            ("12", "12"),
            ("-1.50", "-1.50"),
            ("1e3", "1e3"),
            (".5", "0.5"),
            ("01", "1"),
            ("1.", "1"),
            ("+7", "7"),
            ("-.5E-1", "-0.5e-1"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        for text in [
            "", "-", ".", "-.", "e5", "E", "1e", "1e+", "1e999", "--1", "inf", "NaN", " 1", "1 ", "a_b",
            "0xzz", "1_", "٣",
        ] {
            assert!(read(text).contains("Error"), "{text}: {}", read(text));
        }
        for text in ["0x1p4", "-0X1.8p-1", "1_000"] {
            assert!(read(text).contains("Halt"), "{text}: {}", read(text));
        }
    }

    #[test]
    fn arithmetic_is_that_of_opas_floats() {
        let number = |text: &str| Value::Number(Number::from_text(text));
        let third = run(divide, &[number("2"), number("3")]);
        assert_eq!(run(times, &[number(&third), number("3")]), "2");
        assert_eq!(run(plus, &[number("0.1"), number("0.2")]), "0.3");
        assert_eq!(run(minus, &[number("9223372036854775807"), number("-1")]), "9223372036854775808");
        assert!(run(divide, &[number("1"), number("0")]).contains("divide by zero"));
    }
}
