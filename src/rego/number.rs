//! Numbers as OPA has them: a decimal string of any size, compared by value; and its arithmetic on
//! floats of 64 bits of mantissa (`math/big.Float` at its default precision).

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};

/// A decimal exponent beyond this is not written out: the digits would fill the memory. It is twice that of OPA's largest number.
const MAX_EXPONENT: i64 = 62_000;
/// Decimal digits that tell any two floats of 64 bits of mantissa apart.
const MAX_DIGITS: i64 = 24;
/// Digits of an integer of 64 bits.
const INT_DIGITS: usize = 19;
/// Bits of mantissa of `big.Float` by default.
const MANTISSA_BITS: u64 = 64;

/// A number, which keeps its text where that is not a plain integer of 64 bits.
#[derive(Debug, Clone)]
pub enum Number {
    /// An integer of 64 bits.
    Int(i64),
    /// Anything else, in JSON's grammar.
    Text(Box<str>),
}

impl Number {
    /// From text in JSON's grammar, which may also begin with `+`-less digits as Go writes them.
    pub fn from_text(text: &str) -> Self {
        match text.parse::<i64>() {
            Ok(integer) if integer.to_string() == text => Self::Int(integer),
            _ => Self::Text(text.into()),
        }
    }

    /// From an integer of any size.
    pub fn from_big(integer: &BigInt) -> Self {
        Self::from_text(&integer.to_string())
    }

    /// The text that OPA writes.
    pub fn text(&self) -> String {
        match self {
            Self::Int(integer) => integer.to_string(),
            Self::Text(text) => text.to_string(),
        }
    }

    /// The nearest float of 64 bits.
    pub fn to_f64(&self) -> f64 {
        match self {
            #[allow(clippy::cast_precision_loss, reason = "the nearest float is what is asked for")]
            Self::Int(integer) => *integer as f64,
            Self::Text(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// Numerator and denominator; `None` where the exponent is beyond reason.
    pub fn to_ratio(&self) -> Option<Ratio> {
        match self {
            Self::Int(integer) => Some(Ratio::integer(BigInt::from(*integer))),
            Self::Text(text) => Ratio::parse(text),
        }
    }

    /// How many digits it has where it is made a fraction, those of its power of ten included; `None` where it is not ([`Self::to_ratio`]).
    /// A text of a few letters may have tens of thousands.
    pub fn digits(&self) -> Option<usize> {
        match self {
            Self::Int(_) => Some(INT_DIGITS),
            Self::Text(text) => digits_of(text),
        }
    }

    /// As an integer of any size, where it is one by value.
    pub fn to_big(&self) -> Option<BigInt> {
        match self {
            Self::Int(integer) => Some(BigInt::from(*integer)),
            Self::Text(_) => self.to_ratio()?.to_integer(),
        }
    }

    /// As an integer of 64 bits, where it is one by value.
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            Self::Int(integer) => Some(*integer),
            Self::Text(_) => i64::try_from(self.to_big()?).ok(),
        }
    }

    /// As OPA reads a place or a count (`open-policy-agent/opa:v1/util/performance.go`, `Atoi64`): digits, and zeros behind a point, but no
    /// exponent.
    pub fn to_count(&self) -> Option<i64> {
        match self {
            Self::Int(integer) => Some(*integer),
            Self::Text(text) => count(text),
        }
    }
}

/// A place or a count in a text, which may have a sign. As in OPA, a point alone is zero.
pub fn count(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, zeros) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_digit = |digit: u8| digit.is_ascii_digit();
    if !(1..=19).contains(&unsigned.len())
        || !whole.bytes().all(is_digit)
        || zeros.bytes().any(|zero| zero != b'0')
    {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    format!("{sign}0{whole}").parse().ok()
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            return a.cmp(b);
        }
        match (self.to_ratio(), other.to_ratio()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => self.to_f64().total_cmp(&other.to_f64()),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

/// What a decimal text says: digits, and the power of ten that they are multiplied by.
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    power: i64,
}

impl<'a> Decimal<'a> {
    /// `None` for what is no decimal, and where the power is beyond reason.
    fn read(text: &'a str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (signed, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let whole = signed.strip_prefix(['-', '+']).unwrap_or(signed);
        let mut digits = whole.bytes().chain(fraction.bytes());
        if whole.len().saturating_add(fraction.len()) == 0 || !digits.clone().all(|one| one.is_ascii_digit())
        {
            return None;
        }
        if digits.all(|digit| digit == b'0') {
            return Some(Self { is_negative: false, whole: "0", fraction: "", power: 0 });
        }
        let power = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let is_negative = signed.starts_with('-');
        let is_in_reason = power.unsigned_abs() <= MAX_EXPONENT.unsigned_abs();
        is_in_reason.then_some(Self { is_negative, whole, fraction, power })
    }
}

/// How many digits a decimal text has where it is made a fraction, as [`Number::digits`].
pub fn digits_of(text: &str) -> Option<usize> {
    let Decimal { whole, fraction, power, .. } = Decimal::read(text)?;
    let power = usize::try_from(power.unsigned_abs()).ok()?;
    Some(whole.len().saturating_add(fraction.len()).saturating_add(power))
}

/// Steps of a call to read, to write or to compute with so many digits: the time grows with their square.
pub const fn steps_of(digits: usize) -> usize {
    digits.saturating_mul(digits) >> 16
}

/// An exact fraction; the denominator is above zero.
#[derive(Debug, Clone)]
pub struct Ratio {
    numerator: BigInt,
    denominator: BigUint,
}

impl Ratio {
    /// A whole number.
    pub fn integer(numerator: BigInt) -> Self {
        Self { numerator, denominator: BigUint::from(1_u8) }
    }

    /// From decimal text with a fraction and an exponent.
    pub fn parse(text: &str) -> Option<Self> {
        let Decimal { is_negative, whole, fraction, power } = Decimal::read(text)?;
        let magnitude: BigUint = format!("{whole}{fraction}").parse().ok()?;
        let numerator = BigInt::from_biguint(if is_negative { Sign::Minus } else { Sign::Plus }, magnitude);
        let ten = BigUint::from(10_u8).pow(u32::try_from(power.unsigned_abs()).ok()?);
        Some(if power < 0 {
            Self { numerator, denominator: ten }
        } else {
            Self::integer(numerator * BigInt::from(ten))
        })
    }

    /// The sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let scaled = |part: &BigInt, by: &BigUint| part * BigInt::from(by.clone());
        Self {
            numerator: scaled(&self.numerator, &other.denominator)
                + scaled(&other.numerator, &self.denominator),
            denominator: &self.denominator * &other.denominator,
        }
    }

    /// The product.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.numerator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    /// The quotient; `None` when the divisor is zero.
    pub fn over(&self, other: &Self) -> Option<Self> {
        if other.numerator.sign() == Sign::NoSign {
            return None;
        }
        let numerator =
            &self.numerator * BigInt::from_biguint(other.numerator.sign(), other.denominator.clone());
        Some(Self { numerator, denominator: other.numerator.magnitude() * &self.denominator })
    }

    /// Bits that both parts have.
    pub fn bits(&self) -> u64 {
        self.numerator.bits().saturating_add(self.denominator.bits())
    }

    /// The value, where it is whole.
    pub fn to_integer(&self) -> Option<BigInt> {
        let denominator = BigInt::from(self.denominator.clone());
        let rest = &self.numerator % &denominator;
        (rest.sign() == Sign::NoSign).then(|| &self.numerator / denominator)
    }

    /// The value without its fraction.
    pub fn truncated(&self) -> BigInt {
        &self.numerator / BigInt::from(self.denominator.clone())
    }

    /// With so many digits behind the point, halves away from zero (`big.Rat.FloatString`).
    pub fn to_fixed(&self, digits: u32) -> String {
        let power = BigUint::from(10_u8).pow(digits);
        let doubled = self.numerator.magnitude() * &power * 2_u8 + &self.denominator;
        let scaled = (doubled / (&self.denominator * 2_u8)).to_string();
        let digits = usize::try_from(digits).unwrap_or_default();
        let padded = format!("{scaled:0>width$}", width = digits.saturating_add(1));
        let (whole, fraction) =
            padded.split_at_checked(padded.len().saturating_sub(digits)).unwrap_or(("0", ""));
        let sign = if self.numerator.sign() == Sign::Minus { "-" } else { "" };
        if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    /// The nearest value that `big.Float` of 64 bits of mantissa holds, halves to even.
    #[must_use]
    pub fn rounded(&self) -> Self {
        self.rounded_to(MANTISSA_BITS)
    }

    /// The nearest value of so many bits of mantissa, halves to even.
    #[must_use]
    pub fn rounded_to(&self, bits: u64) -> Self {
        let magnitude = self.numerator.magnitude();
        if self.numerator.sign() == Sign::NoSign {
            return self.clone();
        }
        // The quotient gets so many bits, or one more.
        let have = i128::from(magnitude.bits()) - i128::from(self.denominator.bits());
        let shift = i128::from(bits) - have;
        let mut shift = i64::try_from(shift).unwrap_or_default();
        let quotient = |shift: i64| {
            let up = u64::try_from(shift).unwrap_or_default();
            let down = u64::try_from(shift.saturating_neg()).unwrap_or_default();
            let (numerator, denominator) = (magnitude << up, &self.denominator << down);
            (&numerator / &denominator, &numerator % &denominator, denominator)
        };
        let mut parts = quotient(shift);
        if parts.0.bits() > bits {
            shift = shift.saturating_sub(1);
            parts = quotient(shift);
        }
        let (mut mantissa, rest, denominator) = parts;
        let half = (&rest * 2_u8).cmp(&denominator);
        if half == Ordering::Greater || (half == Ordering::Equal && mantissa.bit(0)) {
            mantissa += 1_u8;
        }
        let numerator = BigInt::from_biguint(self.numerator.sign(), mantissa);
        let up = u64::try_from(shift.saturating_neg()).unwrap_or_default();
        let down = u64::try_from(shift).unwrap_or_default();
        Self { numerator: numerator << up, denominator: BigUint::from(1_u8) << down }
    }

    /// As OPA writes a `big.Float`: in the fewest digits that are read back as the same, which zeros follow in an integer, and with
    /// an exponent in anything else where Go's `%g` has one.
    pub fn to_number(&self) -> Number {
        self.to_number_of(MANTISSA_BITS)
    }

    /// The same of a `big.Float` of so many bits of mantissa.
    pub fn to_number_of(&self, bits: u64) -> Number {
        match self.to_integer() {
            Some(integer) if integer.bits() <= bits => Number::from_big(&integer),
            Some(_) => {
                let (mantissa, exponent) = self.fewest(bits);
                let zeros = usize::try_from(exponent).unwrap_or_default();
                Number::from_text(&format!("{mantissa}{}", "0".repeat(zeros)))
            }
            None => {
                let (mantissa, exponent) = self.fewest(bits);
                Number::Text(general(&mantissa, exponent).into())
            }
        }
    }

    /// As Go prints a `big.Float` that is made of this fraction, with an exponent where `%g` has one. `None` where its parts need more
    /// than 64 bits, since such a float has more.
    pub fn to_go(&self) -> Option<String> {
        if self.numerator.bits().max(self.denominator.bits()) > MANTISSA_BITS {
            return None;
        }
        if self.numerator.sign() == Sign::NoSign {
            return Some("0".into());
        }
        let rounded = self.rounded();
        let (mantissa, exponent) = rounded.fewest(MANTISSA_BITS);
        Some(general(&mantissa, exponent))
    }

    /// The decimal of the fewest digits that is read back as the same, as an integer and a power of ten.
    fn fewest(&self, bits: u64) -> (String, i64) {
        let read_back = |(mantissa, exponent): &(String, i64)| {
            Self::parse(&format!("{mantissa}e{exponent}"))
                .is_some_and(|read| read.rounded_to(bits).cmp(self) == Ordering::Equal)
        };
        (1..MAX_DIGITS)
            .map(|digits| self.decimal(digits))
            .find(read_back)
            .unwrap_or_else(|| self.decimal(MAX_DIGITS))
    }

    /// The nearest decimal of so many digits, as an integer and a power of ten.
    fn decimal(&self, digits: i64) -> (String, i64) {
        let ten = |power: i64| BigUint::from(10_u8).pow(u32::try_from(power).unwrap_or_default());
        let magnitude = self.numerator.magnitude();
        let scaled = |exponent: i64| {
            let (numerator, denominator) =
                (magnitude * ten(exponent.saturating_neg().max(0)), &self.denominator * ten(exponent.max(0)));
            let (above, doubled) = (&numerator * 2_u8 + &denominator, denominator * 2_u8);
            let nearest = &above / &doubled;
            // In the middle between two, the even one is taken.
            let is_odd_tie = nearest.bit(0) && &nearest * &doubled == above;
            if is_odd_tie { nearest - 1_u8 } else { nearest }
        };
        let length = |number: &BigUint| i64::try_from(number.to_string().len()).unwrap_or_default();
        let estimate = length(magnitude) - length(&self.denominator) - digits;
        let mut exponent = estimate.saturating_sub(1);
        while length(&scaled(exponent)) > digits {
            exponent = exponent.saturating_add(1);
        }
        let sign = if self.numerator.sign() == Sign::Minus { "-" } else { "" };
        (format!("{sign}{}", scaled(exponent)), exponent)
    }
}

/// A decimal as Go's `%g` with the shortest precision writes it.
fn general(mantissa: &str, exponent: i64) -> String {
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let trimmed = digits.trim_end_matches('0');
    let length = i64::try_from(digits.len()).unwrap_or_default();
    // Place of the point, counted from the first digit.
    let point = length.saturating_add(exponent);
    // Go turns to an exponent below 1e-4 and from 1e6 on.
    if (-3..=6).contains(&point) {
        let at = usize::try_from(point).unwrap_or_default();
        return match trimmed.split_at_checked(at) {
            Some(("", fraction)) => {
                let zeros = usize::try_from(point.saturating_neg()).unwrap_or_default();
                format!("{sign}0.{}{fraction}", "0".repeat(zeros))
            }
            Some((whole, "")) => format!("{sign}{whole}"),
            Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
            None => format!("{sign}{trimmed}{}", "0".repeat(at.saturating_sub(trimmed.len()))),
        };
    }
    let (first, rest) = trimmed.split_at_checked(1).unwrap_or((trimmed, ""));
    let dot = if rest.is_empty() { "" } else { "." };
    let power = point.saturating_sub(1);
    let sign_of = if power < 0 { '-' } else { '+' };
    format!("{sign}{first}{dot}{rest}e{sign_of}{:02}", power.unsigned_abs())
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = &self.numerator * BigInt::from(other.denominator.clone());
        left.cmp(&(&other.numerator * BigInt::from(self.denominator.clone())))
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ratio {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(text: &str) -> Ratio {
        Ratio::parse(text).unwrap()
    }

    #[test]
    fn numbers_are_equal_by_value_and_keep_their_text() {
        assert_eq!(Number::from_text("1.0"), Number::Int(1));
        assert_eq!(Number::from_text("1.0").text(), "1.0");
        assert!(Number::from_text("1e400") > Number::from_text("1e399"));
        assert!(Number::from_text("-0.1") < Number::from_text("-0.01"));
        assert_eq!(Number::from_text("1e3").to_i64(), Some(1000));
        assert_eq!(Number::from_text("1.5").to_i64(), None);
        assert_eq!(
            Number::from_text("18446744073709551616").to_big().unwrap().to_string(),
            "18446744073709551616"
        );
    }

    #[test]
    fn a_number_has_digits_where_it_is_made_a_fraction() {
        let most = format!("1e{MAX_EXPONENT}");
        for text in
            ["1.5", "-0.25e-3", "0e99999", "1e30000", "-1e-62000", "12345678901234567890", &most, "1e62001"]
        {
            let number = Number::from_text(text);
            assert_eq!(number.digits().is_some(), number.to_ratio().is_some(), "{text}");
        }
        let digits = |text: &str| Number::from_text(text).digits();
        assert_eq!(
            (digits("0e99999"), digits("-1.50e-7"), digits("1e30000")),
            (Some(1), Some(12), Some(30_001))
        );
        for none in ["1e62001", "1e-9223372036854775808", "1e99999999999999999999", "", ".", "x", "1.2.3"] {
            assert_eq!((digits(none), Number::from_text(none).to_ratio().is_some()), (None, false), "{none}");
        }
    }

    /// What `opa eval` 1.22.2 says of the same.
    #[test]
    fn a_quotient_is_rounded_and_written_as_go_does() {
        let divided = |a: &str, b: &str| ratio(a).over(&ratio(b)).unwrap().rounded().to_number().text();
        assert_eq!(divided("2", "3"), "0.6666666666666666667");
        assert_eq!(divided("1", "3"), "0.33333333333333333334");
        assert_eq!(divided("10", "4"), "2.5");
        assert_eq!(divided("-1", "8"), "-0.125");
        assert_eq!(divided("1", "100000"), "1e-05");
        assert_eq!(divided("123456789012345678901234567890", "10"), "12345678901234567890000000000");
        assert_eq!(divided("1e30", "7"), "142857142857142857140000000000");
        let back = ratio("2").over(&ratio("3")).unwrap().rounded().times(&ratio("3")).rounded();
        assert_eq!(back.to_number().text(), "2");
    }

    #[test]
    fn fixed_digits_round_halves_away_from_zero() {
        assert_eq!(ratio("0.00005").to_fixed(4), "0.0001");
        assert_eq!(ratio("-1.25").to_fixed(1), "-1.3");
        assert_eq!(ratio("7").to_fixed(0), "7");
    }
}
