//! Floats as Go's `strconv.FormatFloat` writes them.

use std::fmt::LowerExp;
use std::str::FromStr;

/// No float has more digits behind the point than this, and Rust writes no more than 65535.
const MAX_DIGITS: usize = 1_100;

/// Digits of a float, the first before the point, and the power of ten.
fn digits(float: f64, count: Option<usize>) -> (String, i32) {
    let text = match count {
        Some(count) => format!("{:.*e}", count.saturating_sub(1).min(MAX_DIGITS), float.abs()),
        None => fewest(float.abs()),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = with_zeros(&mantissa.replace('.', ""), count.unwrap_or_default());
    (digits, exponent.parse().unwrap_or_default())
}

/// A text with zeros at its end, up to so many letters.
fn with_zeros(text: &str, count: usize) -> String {
    format!("{text}{}", "0".repeat(count.saturating_sub(text.len())))
}

/// The fewest digits that are read back as the same float.
fn fewest<T: Copy + LowerExp + FromStr + PartialEq>(float: T) -> String {
    let fewest = format!("{float:e}");
    let length = fewest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    // Of two that are as near, Go takes the even one, and Rust the larger one.
    let even = format!("{float:.*e}", length.saturating_sub(1));
    if even.parse::<T>().is_ok_and(|read| read == float) { even } else { fewest }
}

const fn sign(float: f64) -> &'static str {
    if float.is_sign_negative() { "-" } else { "" }
}

/// `%f`.
pub(super) fn fixed(float: f64, precision: usize) -> String {
    let shown = precision.min(MAX_DIGITS);
    format!("{float:.shown$}{}", "0".repeat(precision.saturating_sub(shown)))
}

/// `%e`, of the fewest digits where no precision is given.
pub(super) fn exponent(float: f64, precision: Option<usize>, upper: bool) -> String {
    let (digits, power) = digits(float, precision.map(|digits| digits.saturating_add(1)));
    scientific(sign(float), &digits, power, upper)
}

/// `%f` of the fewest digits.
pub(super) fn shortest(float: f64) -> String {
    let (digits, power) = digits(float, None);
    format!("{}{}", sign(float), positional(&digits, power))
}

/// `%g` of the fewest digits that tell a float from others of 32 bits.
pub(super) fn general_of_32_bits(float: f32) -> String {
    // Its digits are those of the nearest float of 64 bits.
    general(fewest(float).parse().unwrap_or_default(), None, false)
}

fn scientific(sign: &str, digits: &str, power: i32, upper: bool) -> String {
    let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
    let dot = if rest.is_empty() { "" } else { "." };
    let letter = if upper { 'E' } else { 'e' };
    let power_sign = if power < 0 { '-' } else { '+' };
    format!("{sign}{first}{dot}{rest}{letter}{power_sign}{:02}", power.unsigned_abs())
}

/// `%g`: an exponent below 1e-4 and from the precision on, or from six digits on where none is given.
pub(super) fn general(float: f64, precision: Option<usize>, upper: bool) -> String {
    // Zeros at the end are left out, so no more digits are written than a float has.
    let (all, power) = digits(float, precision.map(|digits| digits.clamp(1, MAX_DIGITS)));
    let trimmed = all.trim_end_matches('0');
    let trimmed = if trimmed.is_empty() { "0" } else { trimmed };
    let limit = match precision {
        None => 6,
        Some(digits) => {
            let digits = i32::try_from(digits.max(1)).unwrap_or(i32::MAX);
            // Go counts the digits that are there where they are all before the point.
            let there = i32::try_from(trimmed.len()).unwrap_or(i32::MAX);
            if digits > there && there >= power.saturating_add(1) { there } else { digits }
        }
    };
    if power < -4 || power >= limit {
        return scientific(sign(float), trimmed, power, upper);
    }
    format!("{}{}", sign(float), positional(trimmed, power))
}

fn positional(digits: &str, power: i32) -> String {
    let Ok(power) = usize::try_from(power) else {
        let zeros = usize::try_from(power.unsigned_abs()).unwrap_or_default().saturating_sub(1);
        return format!("0.{}{digits}", "0".repeat(zeros));
    };
    let whole = power.saturating_add(1);
    match digits.split_at_checked(whole) {
        Some((whole, "")) => whole.into(),
        Some((whole, fraction)) => format!("{whole}.{fraction}"),
        None => format!("{digits}{}", "0".repeat(whole.saturating_sub(digits.len()))),
    }
}

/// Mantissa and power of two, both as they are stored.
fn parts(float: f64) -> (u64, i64) {
    let bits = float.to_bits();
    let exponent = i64::try_from((bits >> 52) & 0x7ff).unwrap_or_default();
    let fraction = bits & ((1 << 52) - 1);
    if exponent == 0 { (fraction, -1074) } else { (fraction | (1 << 52), exponent.saturating_sub(1075)) }
}

/// `%b`: a decimal mantissa and a power of two.
pub(super) fn binary(float: f64) -> String {
    let (mantissa, power) = parts(float);
    format!("{}{mantissa}p{power:+}", sign(float))
}

/// `%x`: a hexadecimal mantissa and a power of two.
pub(super) fn hexadecimal(float: f64, precision: Option<usize>, upper: bool) -> String {
    let (mut mantissa, mut power) = parts(float);
    if mantissa == 0 {
        power = 0;
    } else {
        // One bit before the point, and thirteen digits after it.
        let shift = i64::from(mantissa.leading_zeros()).saturating_sub(11);
        mantissa <<= shift;
        power = power.saturating_add(52).saturating_sub(shift);
    }
    if let Some(digits) = precision.filter(|digits| *digits < 13) {
        let cut = u32::try_from(13_usize.saturating_sub(digits).saturating_mul(4)).unwrap_or(52);
        let (half, rest) = (1_u64 << (cut - 1), mantissa & ((1 << cut) - 1));
        mantissa >>= cut;
        if rest > half || (rest == half && mantissa & 1 == 1) {
            mantissa = mantissa.saturating_add(1);
        }
        mantissa <<= cut;
        if mantissa >> 53 != 0 {
            mantissa >>= 1;
            power = power.saturating_add(1);
        }
    }
    let fraction = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let fraction = match precision {
        None => fraction.trim_end_matches('0').to_string(),
        Some(digits) => with_zeros(&fraction, digits).chars().take(digits).collect(),
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    let text = format!(
        "0x{}{dot}{fraction}p{}{:02}",
        mantissa >> 52,
        if power < 0 { '-' } else { '+' },
        power.unsigned_abs()
    );
    format!("{}{}", sign(float), if upper { text.to_uppercase() } else { text })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// What Go 1.26 writes.
    #[test]
    fn floats_are_written_as_go_writes_them() {
        assert_eq!(general(1_000_000.0, None, false), "1e+06");
        assert_eq!(general(0.00001, None, false), "1e-05");
        assert_eq!(general(100.0, None, false), "100");
        assert_eq!(general(123_456.789, Some(3), false), "1.23e+05");
        assert_eq!(exponent(0.0, Some(6), false), "0.000000e+00");
        assert_eq!(binary(1.5), "6755399441055744p-52");
        assert_eq!(hexadecimal(1.5, None, false), "0x1.8p+00");
        assert_eq!(hexadecimal(-10.0, Some(1), true), "-0X1.4P+03");
        assert_eq!(fixed(2.5, 0), "2");
        // It ends with 625, so it is as near to one decimal as to another one.
        assert_eq!(shortest(185_795_297_438_996.62), "185795297438996.62");
        assert_eq!(general(185_795_297_438_996.62, None, false), "1.8579529743899662e+14");
        assert_eq!(shortest(-1e20), "-100000000000000000000");
        assert_eq!(general_of_32_bits(2_582_105.2), "2.5821052e+06");
    }

    /// A short text does not take the work of all the zeros that a precision asks for.
    #[test]
    fn zeros_that_are_left_out_are_not_made() {
        let began = Instant::now();
        for _ in 0..50_000 {
            assert_eq!(general(0.5, Some(10_000_000), false), "0.5");
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    }

    #[test]
    fn more_digits_than_a_float_has_are_zeros() {
        for precision in [1_000, 1_200, 70_000] {
            assert_eq!(fixed(0.5, precision), with_zeros("0.5", precision + 2));
            assert_eq!(
                exponent(0.5, Some(precision), false),
                format!("{}e-01", with_zeros("5.0", precision + 2))
            );
            assert_eq!(
                hexadecimal(1.5, Some(precision), false),
                format!("{}p+00", with_zeros("0x1.8", precision + 4))
            );
            assert_eq!(general(0.5, Some(precision), false), "0.5");
        }
        assert_eq!(fixed(f64::from_bits(1), 70_000).trim_end_matches('0').len(), 1_076);
    }
}
