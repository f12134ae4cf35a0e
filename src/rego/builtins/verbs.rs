//! How Go's `fmt` writes one value by a verb and its flags.

use num_bigint::{BigInt, Sign};

use super::float;
use crate::rego::quote;

/// How a verb writes.
#[derive(Debug, Clone, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are the flags of the format, each a letter of its own"
)]
pub(super) struct Spec {
    pub plus: bool,
    pub minus: bool,
    pub sharp: bool,
    pub space: bool,
    pub zero: bool,
    pub width: Option<usize>,
    pub precision: Option<usize>,
}

/// Fills up to the width, counted in letters.
pub(super) fn pad(text: &str, spec: &Spec, zeros: bool) -> String {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    let filler = if zeros { "0" } else { " " };
    format!("{}{text}", filler.repeat(missing))
}

/// An integer; `small` is the same, where 64 bits hold it. `None` where the verb is none for integers.
pub(super) fn integer_verb(integer: &BigInt, small: Option<i64>, verb: char, spec: &Spec) -> Option<String> {
    match verb {
        'v' | 'd' => Some(integer_text(integer, 10, verb, spec)),
        'b' => Some(integer_text(integer, 2, verb, spec)),
        'o' | 'O' => Some(integer_text(integer, 8, verb, spec)),
        'x' | 'X' => Some(integer_text(integer, 16, verb, spec)),
        'c' => Some(pad(&letter_of(small?).to_string(), spec, spec.zero)),
        'q' => Some(pad(&quote::go_letter(letter_of(small?), spec.plus), spec, spec.zero)),
        'U' => Some(pad(&unicode_text(small?, spec), spec, false)),
        's' if small.is_none() => Some(integer_text(integer, 10, verb, spec)),
        _ => None,
    }
}

fn letter_of(code: i64) -> char {
    u32::try_from(code).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn unicode_text(code: i64, spec: &Spec) -> String {
    let code_text = format!("{code:X}");
    let zeros = spec.precision.unwrap_or(4).max(4).saturating_sub(code_text.len());
    let text = format!("U+{}{code_text}", "0".repeat(zeros));
    let letter = u32::try_from(code).ok().and_then(char::from_u32);
    match letter.filter(|letter| spec.sharp && (*letter == ' ' || quote::prints(*letter))) {
        Some(letter) => format!("{text} '{letter}'"),
        None => text,
    }
}

fn integer_text(integer: &BigInt, radix: u32, verb: char, spec: &Spec) -> String {
    let negative = integer.sign() == Sign::Minus;
    let sign = match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    let mut digits = integer.magnitude().to_str_radix(radix);
    if verb == 'X' {
        digits = digits.to_uppercase();
    }
    // A precision of zero writes nothing for zero.
    if spec.precision == Some(0) && integer.sign() == Sign::NoSign {
        return " ".repeat(spec.width.unwrap_or(0));
    }
    let wanted = match (spec.precision, spec.width) {
        (Some(precision), _) => precision,
        // Zeros count the sign and not the prefix, as in Go.
        (None, Some(width)) if spec.zero && !spec.minus => width.saturating_sub(sign.len()),
        _ => 0,
    };
    let zeros = "0".repeat(wanted.saturating_sub(digits.len()));
    // A big integer, which formats itself, has the zero of its base in any case.
    let is_small = i64::try_from(integer).is_ok();
    let has_zero = is_small && (!zeros.is_empty() || digits.starts_with('0'));
    let prefix = match (verb, spec.sharp) {
        ('O', true) if is_small && !has_zero => "0o0",
        ('O', _) => "0o",
        ('b', true) => "0b",
        ('o', true) if !has_zero => "0",
        ('x', true) => "0x",
        ('X', true) => "0X",
        _ => "",
    };
    pad(&format!("{sign}{prefix}{zeros}{digits}"), spec, false)
}

/// A float. `None` where the verb is none for floats.
pub(super) fn float_verb(float: f64, verb: char, spec: &Spec) -> Option<String> {
    let text = match verb {
        'v' | 'g' => {
            with_sharp(float::general(float, spec.precision, false), spec, spec.precision.unwrap_or(6))
        }
        'G' => with_sharp(float::general(float, spec.precision, true), spec, spec.precision.unwrap_or(6)),
        'e' => with_sharp(float::exponent(float, Some(spec.precision.unwrap_or(6)), false), spec, 0),
        'E' => with_sharp(float::exponent(float, Some(spec.precision.unwrap_or(6)), true), spec, 0),
        'f' | 'F' => with_sharp(float::fixed(float, spec.precision.unwrap_or(6)), spec, 0),
        'b' => float::binary(float),
        'x' => with_sharp_power(
            float::hexadecimal(float, spec.precision, false),
            spec,
            spec.precision.unwrap_or(6),
        ),
        'X' => with_sharp_power(float::hexadecimal(float, spec.precision, true), spec, 0),
        _ => return None,
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None if spec.plus => ("+", text.as_str()),
        None if spec.space => (" ", text.as_str()),
        None => ("", text.as_str()),
    };
    let missing = spec.width.unwrap_or(0).saturating_sub(sign.len()).saturating_sub(digits.len());
    if spec.zero && !spec.minus {
        return Some(format!("{sign}{}{digits}", "0".repeat(missing)));
    }
    Some(pad(&format!("{sign}{digits}"), spec, false))
}

/// `#` keeps the point beside a power of two, and the zeros at the end. Go counts the letter of the base among the digits.
fn with_sharp_power(text: String, spec: &Spec, wanted: usize) -> String {
    let power = text.find(['p', 'P']).and_then(|at| text.split_at_checked(at));
    let Some((mantissa, power)) = power.filter(|_| spec.sharp) else { return text };
    let digits = mantissa.trim_start_matches(['-', '0']).chars().filter(|digit| *digit != '.').count();
    let dot = if mantissa.contains('.') { "" } else { "." };
    format!("{mantissa}{dot}{}{power}", "0".repeat(wanted.saturating_sub(digits)))
}

/// `#` keeps the point, and the zeros at the end up to so many digits.
fn with_sharp(text: String, spec: &Spec, wanted: usize) -> String {
    if !spec.sharp {
        return text;
    }
    let (mantissa, exponent) = match text.find(['e', 'E']).and_then(|at| text.split_at_checked(at)) {
        Some((mantissa, exponent)) => (mantissa.to_string(), exponent.to_string()),
        None => (text, String::new()),
    };
    let digits = mantissa.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
    let dot = if mantissa.contains('.') { "" } else { "." };
    let zeros = "0".repeat(wanted.saturating_sub(digits.max(1)));
    format!("{mantissa}{dot}{zeros}{exponent}")
}

/// A text. `None` where the verb is none for texts.
pub(super) fn text_verb(text: &str, verb: char, spec: &Spec) -> Option<String> {
    let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
    match verb {
        'v' | 's' => Some(pad(&cut, spec, spec.zero)),
        'q' => Some(pad(&quoted(&cut, spec), spec, spec.zero)),
        'x' | 'X' => Some(pad(&hexadecimal(text, verb == 'X', spec), spec, spec.zero)),
        _ => None,
    }
}

fn quoted(text: &str, spec: &Spec) -> String {
    // `strconv.CanBackquote`
    let ends = |letter| matches!(letter, '`' | '\0'..='\u{8}' | '\n'..='\u{1f}' | '\u{7f}' | '\u{feff}');
    let backquotable = !text.contains(ends);
    if spec.sharp && backquotable {
        return format!("`{text}`");
    }
    if spec.plus { quote::go_ascii(text) } else { quote::go(text) }
}

fn hexadecimal(text: &str, upper: bool, spec: &Spec) -> String {
    let bytes = text.bytes().take(spec.precision.unwrap_or(usize::MAX));
    let digits = bytes.map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
    let prefix = if upper { "0X" } else { "0x" };
    match (spec.space, spec.sharp) {
        (true, true) => digits.map(|byte| format!("{prefix}{byte}")).collect::<Vec<_>>().join(" "),
        (true, false) => digits.collect::<Vec<_>>().join(" "),
        (false, sharp) => {
            let digits: String = digits.collect();
            if sharp && !digits.is_empty() { format!("{prefix}{digits}") } else { digits }
        }
    }
}
