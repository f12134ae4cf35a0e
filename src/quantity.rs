//! Kubernetes quantities as exact integers; a float would change limits that a person wrote. Quantities of the
//! configuration are parsed when it is loaded, never in a review.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::text;

/// Billionths per unit, the finest step that the API server keeps
/// (`kubernetes/apimachinery:pkg/api/resource/quantity.go`).
const NANO: i128 = 1_000_000_000;

/// Largest magnitude that the API server keeps.
const CAP: i128 = i64::MAX as i128 * NANO;

/// Longest text that is read as a quantity, in bytes. Real ones have up to about thirty characters; foreign text of
/// megabytes must not cost time.
const LONGEST: usize = 256;

/// One mebibyte, in bytes.
pub const MIB: i128 = 1 << 20;

/// An amount of memory (bytes) or CPU (cores), stored in billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity(i128);

/// The text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{value}` is not a quantity; write one such as `32Mi` or `200m`")]
pub struct NotAQuantity {
    /// What was written, as a message shows it.
    pub value: String,
}

impl NotAQuantity {
    fn new(text: &str) -> Self {
        Self { value: text::quoted(text, 64) }
    }
}

/// A quantity of the configuration: the text as written, parsed once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WrittenQuantity {
    text: String,
    quantity: Quantity,
}

impl WrittenQuantity {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The amount.
    pub const fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// An amount of memory, in the gate's own spelling.
    pub fn memory(quantity: Quantity) -> Self {
        Self { text: quantity.memory(), quantity }
    }

    /// An amount of CPU, in the gate's own spelling.
    pub fn cpu(quantity: Quantity) -> Self {
        Self { text: quantity.cpu(), quantity }
    }
}

impl TryFrom<String> for WrittenQuantity {
    type Error = NotAQuantity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let quantity = Quantity::parse(&text)?;
        Ok(Self { text, quantity })
    }
}

impl From<WrittenQuantity> for String {
    fn from(written: WrittenQuantity) -> Self {
        written.text
    }
}

/// The value is not a decimal number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{value}` is not a decimal number; write one such as `3.5`")]
pub struct NotANumber {
    /// What was written, as a message shows it.
    pub value: String,
}

/// A decimal number of the configuration, in quotes or without: the text as written, parsed once. It is not negative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub struct WrittenNumber {
    text: String,
    number: Quantity,
}

impl WrittenNumber {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number in thousandths, rounded up.
    pub fn thousandths(&self) -> u64 {
        self.number.millis()
    }
}

impl TryFrom<Value> for WrittenNumber {
    type Error = NotANumber;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match Quantity::parse(&text) {
            Ok(number) if is_decimal => Ok(Self { text, number }),
            Ok(_) | Err(_) => Err(NotANumber { value: text::quoted(&text, 64) }),
        }
    }
}

impl From<WrittenNumber> for String {
    fn from(written: WrittenNumber) -> Self {
        written.text
    }
}

impl Quantity {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// One byte: the step in which memory is written.
    pub const BYTE: Self = Self(NANO);
    /// A thousandth of a core: the step in which CPU is written.
    pub const MILLI: Self = Self(NANO / 1000);

    /// That many mebibytes.
    pub const fn mebibytes(mebibytes: u32) -> Self {
        Self(mebibytes as i128 * MIB * NANO)
    }

    /// That many bytes, cut to what the API server can hold.
    pub fn from_bytes(bytes: i128) -> Self {
        Self(bytes.saturating_mul(NANO).clamp(-CAP, CAP))
    }

    /// That many thousandths of a core, cut to what the API server can hold.
    pub fn from_millis(millis: i128) -> Self {
        Self(millis.saturating_mul(NANO / 1000).clamp(-CAP, CAP))
    }

    /// Whole bytes, rounded up; negative amounts are zero.
    pub fn bytes(self) -> u64 {
        let bytes = self.0.div_euclid(NANO) + i128::from(self.0.rem_euclid(NANO) != 0);
        u64::try_from(bytes.max(0)).unwrap_or(u64::MAX)
    }

    /// Whole thousandths, rounded up; negative amounts are zero.
    pub fn millis(self) -> u64 {
        let step = NANO / 1000;
        let millis = self.0.div_euclid(step) + i128::from(self.0.rem_euclid(step) != 0);
        u64::try_from(millis.max(0)).unwrap_or(u64::MAX)
    }

    /// Whole millionths, rounded up; negative amounts are zero.
    pub fn micros(self) -> u64 {
        let step = NANO / 1_000_000;
        let micros = self.0.div_euclid(step) + i128::from(self.0.rem_euclid(step) != 0);
        u64::try_from(micros.max(0)).unwrap_or(u64::MAX)
    }

    /// Reads a quantity: `<signed number><suffix>` with the suffixes `Ki…Ei`, `n u m k M G T P E` or a decimal
    /// exponent. Fractions finer than a billionth are rounded away from zero, and magnitudes are cut at 2⁶³-1, as in
    /// the API server.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        Self::read(text.trim()).ok_or_else(|| NotAQuantity::new(text))
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, rest) = digits(rest);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let nanos = Scale::read(suffix)?.nanos(whole, fraction);
        Some(Self(if negative { -nanos } else { nanos }))
    }

    /// Reads a quantity from JSON, where the API server also takes a bare number.
    pub fn from_json(value: &Value) -> Result<Self, NotAQuantity> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            other => Err(NotAQuantity::new(&other.to_string())),
        }
    }

    /// The smaller of two bounds, each of which may be missing.
    pub fn lesser(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// The smallest multiple of `step` that is not smaller.
    #[must_use]
    pub fn up_to(self, step: Self) -> Self {
        let floor = self.down_to(step);
        if floor == self { floor } else { Self(floor.0.saturating_add(step.0)) }
    }

    /// The largest multiple of `step` that is not larger.
    #[must_use]
    pub const fn down_to(self, step: Self) -> Self {
        if step.0 <= 0 {
            return self;
        }
        Self(self.0.saturating_sub(self.0.rem_euclid(step.0)))
    }

    /// The smallest request that this limit allows under a maximum limit-to-request ratio.
    #[must_use]
    pub fn over(self, ratio: Self) -> Self {
        if ratio.0 <= 0 {
            return self;
        }
        let scaled = self.0.saturating_mul(NANO);
        let whole = scaled.div_euclid(ratio.0);
        Self(whole.saturating_add(i128::from(scaled.rem_euclid(ratio.0) != 0)))
    }

    /// The largest limit that this request allows under a maximum limit-to-request ratio.
    #[must_use]
    pub const fn times(self, ratio: Self) -> Self {
        Self(self.0.saturating_mul(ratio.0).div_euclid(NANO))
    }

    /// The difference to another amount, at least zero.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// Spelled as memory: in Mi when whole, else in Ki or bytes.
    pub fn memory(self) -> String {
        let bytes = self.up_to(Self::BYTE).0 / NANO;
        if bytes == 0 {
            "0".to_owned()
        } else if bytes % MIB == 0 {
            format!("{}Mi", bytes / MIB)
        } else if bytes % 1024 == 0 {
            format!("{}Ki", bytes / 1024)
        } else {
            bytes.to_string()
        }
    }

    /// Spelled as CPU: in thousandths of a core.
    pub fn cpu(self) -> String {
        let millis = self.up_to(Self::MILLI).0 / Self::MILLI.0;
        if millis == 0 { "0".to_owned() } else { format!("{millis}m") }
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// For debugging, and for quantities of neither memory nor CPU: whole units, or billionths.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % NANO == 0 { write!(f, "{}", self.0 / NANO) } else { write!(f, "{}n", self.0) }
    }
}

/// Splits after the leading decimal digits.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The factor of a suffix.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// A power of ten.
    Ten(i64),
    /// A power of 1024.
    Kibi(u32),
}

impl Scale {
    fn read(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "n" => Self::Ten(-9),
            "u" => Self::Ten(-6),
            "m" => Self::Ten(-3),
            "" => Self::Ten(0),
            "k" => Self::Ten(3),
            "M" => Self::Ten(6),
            "G" => Self::Ten(9),
            "T" => Self::Ten(12),
            "P" => Self::Ten(15),
            "E" => Self::Ten(18),
            "Ki" => Self::Kibi(1),
            "Mi" => Self::Kibi(2),
            "Gi" => Self::Kibi(3),
            "Ti" => Self::Kibi(4),
            "Pi" => Self::Kibi(5),
            "Ei" => Self::Kibi(6),
            _ => Self::Ten(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
        })
    }

    /// `whole.fraction` times this, in billionths, rounded up. Computed on decimal digits, so that nothing is lost
    /// before the rounding, however many there are.
    fn nanos(self, whole: &str, fraction: &str) -> i128 {
        let mut number: Vec<u32> =
            whole.chars().chain(fraction.chars()).filter_map(|c| c.to_digit(10)).collect();
        let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let power = match self {
            Self::Ten(power) => power,
            Self::Kibi(times) => {
                (0..times).for_each(|_| multiply(&mut number, 1024));
                0
            }
        };
        shifted(&number, power.saturating_add(9).saturating_sub(places))
    }
}

/// Multiplies a number that is written in decimal digits.
fn multiply(number: &mut Vec<u32>, factor: u32) {
    let mut carry = 0;
    for digit in number.iter_mut().rev() {
        let product = *digit * factor + carry;
        *digit = product % 10;
        carry = product / 10;
    }
    while carry > 0 {
        number.insert(0, carry % 10);
        carry /= 10;
    }
}

/// Decimal digits times a power of ten, rounded up and cut at [`CAP`].
fn shifted(number: &[u32], power: i64) -> i128 {
    if number.iter().all(|digit| *digit == 0) {
        return 0;
    }
    let dropped = usize::try_from(power.saturating_neg()).unwrap_or(0).min(number.len());
    let (kept, rest) = number.split_at_checked(number.len() - dropped).unwrap_or((number, &[]));
    let append =
        |value: i128, digit: u32| value.saturating_mul(10).saturating_add(i128::from(digit)).min(CAP);
    let mut value = kept.iter().fold(0, |value, digit| append(value, *digit));
    // With more than forty zeros, every number but zero exceeds the cap.
    for _ in 0..power.clamp(0, 40) {
        value = append(value, 0);
    }
    let round = rest.iter().any(|digit| *digit != 0);
    value.saturating_add(i128::from(round)).min(CAP)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn nanos(text: &str) -> i128 {
        Quantity::parse(text).unwrap().0
    }

    #[test]
    fn a_decimal_number_is_read_with_quotes_and_without_and_nothing_else_is_one() {
        let read = serde_json::from_str::<WrittenNumber>;
        for (json, text, thousandths) in
            [("3.5", "3.5", 3500), ("50", "50", 50_000), ("\"3.2501\"", "3.2501", 3251), ("0", "0", 0)]
        {
            let number = read(json).unwrap();
            assert_eq!((number.as_str(), number.thousandths()), (text, thousandths));
            assert_eq!(String::from(number), text);
        }
        for json in ["-1", "\"3Mi\"", "\"50m\"", "\"1e3\"", "\"\"", "\".\"", "true", "null", "[1]"] {
            assert!(read(json).unwrap_err().to_string().contains("is not a decimal number"), "{json}");
        }
    }

    #[test]
    fn every_suffix_of_the_grammar_has_its_value() {
        let table = [
            ("0", 0),
            ("1n", 1),
            ("1u", 1_000),
            ("1m", 1_000_000),
            ("1", NANO),
            ("1k", 1_000 * NANO),
            ("1M", 1_000_000 * NANO),
            ("1G", NANO * NANO),
            ("1T", 1_000 * NANO * NANO),
            ("1P", 1_000_000 * NANO * NANO),
            ("1E", NANO * NANO * NANO),
            ("1Ki", 1024 * NANO),
            ("1Mi", (1 << 20) * NANO),
            ("1Gi", (1 << 30) * NANO),
            ("1Ti", (1 << 40) * NANO),
            ("1Pi", (1 << 50) * NANO),
            ("1Ei", (1 << 60) * NANO),
            ("1e3", 1_000 * NANO),
            ("1E3", 1_000 * NANO),
            ("1e+3", 1_000 * NANO),
            ("12e-3", 12_000_000),
            ("+1.5Gi", 3 * (1 << 29) * NANO),
            ("-2", -2 * NANO),
            ("1.", NANO),
            (".5", NANO / 2),
            ("007", 7 * NANO),
            ("0.5Mi", (1 << 19) * NANO),
            (" 5 ", 5 * NANO),
        ];
        for (text, expected) in table {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn fractions_finer_than_a_billionth_are_rounded_away_from_zero() {
        assert_eq!(nanos("0.1n"), 1);
        assert_eq!(nanos("-0.1n"), -1);
        assert_eq!(nanos("1.0000000001"), NANO + 1);
        assert_eq!(nanos("1e-999999"), 1);
        assert_eq!(nanos(&format!("0.{}1", "0".repeat(200))), 1);
        assert_eq!(nanos("0e-5"), 0);
    }

    #[test]
    fn magnitudes_are_cut_as_in_the_api_server() {
        for text in ["9223372036854775808", "100E", "9Ei", "1e99", "1e9223372036854775807", "16Ei"] {
            assert_eq!(nanos(text), CAP, "{text}");
            assert_eq!(nanos(&format!("-{text}")), -CAP, "-{text}");
        }
        assert_eq!(nanos("9223372036854775807"), CAP);
        assert_eq!(nanos(&"9".repeat(LONGEST)), CAP);
        assert_eq!(Quantity::from_bytes(i128::MAX), Quantity(CAP));
    }

    #[test]
    fn an_invalid_quantity_is_refused() {
        let long = "1".repeat(LONGEST + 1);
        let table = [
            "",
            "-",
            "+",
            ".",
            "Mi",
            "aoeu",
            "1mi",
            "1i",
            "1.1.M",
            "1+1.0M",
            "0.1am",
            "-3.01e-",
            "1e",
            "1Zi",
            "1KiB",
            "--1",
            "1 Mi",
            "1e1.5",
            "1e99999999999999999999",
            "٣",
            "1µ",
            "0x10",
            &long,
        ];
        for text in table {
            assert_eq!(Quantity::parse(text), Err(NotAQuantity::new(text)), "{text}");
        }
    }

    #[test]
    fn json_numbers_count_and_other_json_is_shown_in_the_error() {
        assert_eq!(Quantity::from_json(&json!(0.5)), Ok(Quantity(NANO / 2)));
        assert_eq!(Quantity::from_json(&json!(2)), Ok(Quantity(2 * NANO)));
        assert_eq!(Quantity::from_json(&json!(1e-7)), Ok(Quantity(100)));
        for wrong in [json!(true), json!(["1"]), json!({}), json!("1 Mi")] {
            let error = Quantity::from_json(&wrong).unwrap_err().to_string();
            assert!(error.contains("is not a quantity; write one such as"), "{error}");
        }
        assert_eq!(Quantity::parse(&"x".repeat(500)).unwrap_err().value, "x".repeat(63) + "…");
    }

    #[test]
    fn rounding_and_ratios_are_exact_on_both_sides() {
        let step = Quantity::MILLI;
        assert_eq!(Quantity::parse("1500u").unwrap().up_to(step).cpu(), "2m");
        assert_eq!(Quantity::parse("1500u").unwrap().down_to(step).cpu(), "1m");
        assert_eq!(Quantity::parse("2m").unwrap().up_to(step).cpu(), "2m");
        let (ten, three) = (Quantity::parse("10").unwrap(), Quantity::parse("3").unwrap());
        assert_eq!(ten.over(three).0, 3_333_333_334);
        assert_eq!(ten.over(three).times(three), Quantity(10 * NANO + 2));
        assert_eq!(ten.over(Quantity::ZERO), ten);
        assert_eq!(Quantity(CAP).times(Quantity(CAP)).0, i128::MAX.div_euclid(NANO));
    }

    /// Little-endian limbs: a model that shares no step with the decimal digits above.
    fn limbs(digits: &str, factors: &[u32]) -> Vec<u32> {
        let mut number = vec![0_u32];
        for digit in digits.chars().map(|c| c.to_digit(10).unwrap()) {
            step(&mut number, 10, digit);
        }
        for factor in factors {
            step(&mut number, *factor, 0);
        }
        while number.last() == Some(&0) {
            number.pop();
        }
        number
    }

    fn step(number: &mut Vec<u32>, factor: u32, add: u32) {
        let mut carry = u64::from(add);
        for limb in number.iter_mut() {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = u32::try_from(product & u64::from(u32::MAX)).unwrap();
            carry = product >> 32;
        }
        number.push(u32::try_from(carry).unwrap());
    }

    fn compare(a: &[u32], b: &[u32]) -> Ordering {
        a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
    }

    /// The value times 10^18 (the most fraction digits plus the `n` suffix), as limbs.
    fn model(whole: &str, fraction: &str, suffix: &str) -> Vec<u32> {
        let (base, times, tens) = match suffix {
            "n" => (1, 0, 9),
            "u" => (1, 0, 12),
            "m" => (1, 0, 15),
            "k" => (1, 0, 21),
            "M" => (1, 0, 24),
            "G" => (1, 0, 27),
            "Ki" => (1024, 1, 18),
            "Mi" => (1024, 2, 18),
            "Gi" => (1024, 3, 18),
            _ => (1, 0, 18),
        };
        let mut factors = vec![base; times];
        factors.extend(vec![10; tens - fraction.len()]);
        limbs(&format!("{whole}{fraction}"), &factors)
    }

    proptest! {
        #[test]
        fn order_agrees_with_big_integers(
            a in ("[0-9]{1,8}", "[0-9]{0,9}", "n|u|m||k|M|G|Ki|Mi|Gi"),
            b in ("[0-9]{1,8}", "[0-9]{0,9}", "n|u|m||k|M|G|Ki|Mi|Gi"),
        ) {
            let read = |(whole, fraction, suffix): &(String, String, String)| {
                Quantity::parse(&format!("{whole}.{fraction}{suffix}")).unwrap()
            };
            let order = compare(&model(&a.0, &a.1, &a.2), &model(&b.0, &b.1, &b.2));
            // Rounding up to a billionth may make two values equal; it never reverses their order.
            let seen = read(&a).cmp(&read(&b));
            prop_assert!(seen == order || seen == Ordering::Equal);
            let fine = |suffix: &str, fraction: &str| matches!(suffix, "n" | "u" | "m") && !fraction.is_empty();
            if !fine(&a.2, &a.1) && !fine(&b.2, &b.1) {
                prop_assert_eq!(seen, order);
            }
        }

        #[test]
        fn what_is_written_reads_back_as_the_same(bytes in 0..i64::MAX, millis in 0..i64::MAX / 1000) {
            let memory = Quantity::from_bytes(bytes.into());
            prop_assert_eq!(Quantity::parse(&memory.memory()), Ok(memory));
            let cpu = Quantity::from_millis(millis.into());
            prop_assert_eq!(Quantity::parse(&cpu.cpu()), Ok(cpu));
            prop_assert_eq!(Quantity::parse(&memory.to_string()), Ok(memory));
        }

        #[test]
        fn no_text_panics_and_rounding_brackets(text in "\\PC{0,40}|[-+]?[0-9.]{0,30}[eEinumkKMGTP0-9+-]{0,6}") {
            if let Ok(value) = Quantity::parse(&text) {
                prop_assert!(value.down_to(Quantity::BYTE) <= value && value <= value.up_to(Quantity::BYTE));
            }
        }
    }
}
