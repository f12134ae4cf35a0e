//! Documents of which numbers keep their text. Rules get a number as it is written, as from OPA
//! (`open-policy-agent/opa:v1/util/json.go`, `NewJSONDecoder`), and a tree of `serde_json` holds integers of 64 bits and floats alone.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::text;

/// How many lists and objects may be within one another: `serde_json` makes no tree of what has more.
const DEEPEST: usize = 128;
/// Digits of an integer that fits into 64 bits, whatever they are.
const FITTING_DIGITS: usize = 18;

/// A document as rules read it.
#[derive(Debug, Clone, Default)]
pub struct ExactDocument {
    /// What it says, with numbers as a float has them where they are not integers of 64 bits.
    pub value: Value,
    /// The numbers of which that is not all.
    pub numbers: ExactNumbers,
}

/// The text of numbers that a tree does not write as they were read. They form a tree themselves: with a pointer for each of them a long key
/// would be there as often as there are numbers below it.
#[derive(Debug, Clone, Default)]
pub struct ExactNumbers {
    /// That of the value itself.
    own: Option<Box<RawValue>>,
    /// Those of its members, by their keys, or of its items, by their places.
    inside: BTreeMap<String, Self>,
}

/// A value that is written with such texts.
pub struct Exact<'a, V> {
    value: &'a V,
    numbers: &'a ExactNumbers,
}

impl From<Value> for ExactDocument {
    fn from(value: Value) -> Self {
        Self { value, numbers: ExactNumbers::default() }
    }
}

impl<'de> Deserialize<'de> for ExactDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let value = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(Self { value, numbers: ExactNumbers::of(text.get()) })
    }
}

impl Serialize for ExactDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.numbers.in_value(&self.value).serialize(serializer)
    }
}

impl ExactNumbers {
    /// Those of a text; none where it is not JSON.
    pub fn of(text: &str) -> Self {
        if !may_round(text) {
            return Self::default();
        }
        serde_json::from_str(text).map(|whole| Self::in_raw(whole, DEEPEST)).unwrap_or_default()
    }

    /// Each level is read again by the one above it, and a text alone has no bound on levels.
    fn in_raw(raw: &RawValue, levels: usize) -> Self {
        let text = raw.get();
        let Some(left) = levels.checked_sub(1) else { return Self::default() };
        match text.bytes().next() {
            Some(b'{') if may_round(text) => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
                Self::with(members.into_iter().map(|(key, value)| (key, Self::in_raw(value, left))))
            }
            Some(b'[') if may_round(text) => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                let items = items.into_iter().enumerate();
                Self::with(items.map(|(index, item)| (index.to_string(), Self::in_raw(item, left))))
            }
            Some(b'-' | b'0'..=b'9') if read(text).is_some_and(|number| number.to_string() != text) => {
                Self { own: Some(raw.to_owned()), ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    fn with(parts: impl Iterator<Item = (String, Self)>) -> Self {
        Self { own: None, inside: parts.filter(|(_, numbers)| !numbers.is_empty()).collect() }
    }

    fn is_empty(&self) -> bool {
        self.own.is_none() && self.inside.is_empty()
    }

    /// Those of the value at a place, by the keys and indexes that lead there.
    pub fn at(&self, place: &[&str]) -> &Self {
        static NONE: ExactNumbers = ExactNumbers { own: None, inside: BTreeMap::new() };
        place.iter().try_fold(self, |numbers, key| numbers.inside.get(*key)).unwrap_or(&NONE)
    }

    /// The value, written with these numbers. One that is another in the value is written as it is there.
    pub const fn in_value<'a>(&'a self, value: &'a Value) -> Exact<'a, Value> {
        Exact { value, numbers: self }
    }

    /// The object, written with these numbers.
    pub const fn in_object<'a>(&'a self, value: &'a Map<String, Value>) -> Exact<'a, Map<String, Value>> {
        Exact { value, numbers: self }
    }
}

/// A part of a value, with its numbers where it has some.
#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Plain(&'a Value),
    Exact(Exact<'a, Value>),
}

impl<'a> Part<'a> {
    fn of(value: &'a Value, numbers: Option<&'a ExactNumbers>) -> Self {
        numbers.map_or(Self::Plain(value), |numbers| Self::Exact(numbers.in_value(value)))
    }
}

impl Serialize for Exact<'_, Map<String, Value>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inside = &self.numbers.inside;
        if inside.is_empty() {
            return self.value.serialize(serializer);
        }
        serializer.collect_map(self.value.iter().map(|(key, value)| (key, Part::of(value, inside.get(key)))))
    }
}

impl Serialize for Exact<'_, Value> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inside = &self.numbers.inside;
        match self.value {
            Value::Object(members) => self.numbers.in_object(members).serialize(serializer),
            Value::Array(items) if !inside.is_empty() => {
                let items = items.iter().enumerate();
                serializer
                    .collect_seq(items.map(|(index, item)| Part::of(item, inside.get(&index.to_string()))))
            }
            Value::Number(number) => match &self.numbers.own {
                Some(text) if is_like(text.get(), number) => text.serialize(serializer),
                _ => number.serialize(serializer),
            },
            other => other.serialize(serializer),
        }
    }
}

fn read(text: &str) -> Option<Number> {
    serde_json::from_str(text).ok()
}

/// Whether a number may be what was read of this text. Readers differ in the last digit.
fn is_like(text: &str, number: &Number) -> bool {
    let (Ok(text), Some(number)) = (text.parse::<f64>(), number.as_f64()) else { return false };
    (text - number).abs() <= text.abs() * 1e-14
}

/// Whether a text in JSON has a number that a tree may write otherwise: long digits, or any but digits and a sign.
fn may_round(text: &str) -> bool {
    let mut digits = 0_usize;
    for byte in text::outside_strings(text.as_bytes()) {
        match byte {
            b'0'..=b'9' => digits = digits.saturating_add(1),
            b'.' | b'e' | b'E' if digits > 0 => return true,
            _ => digits = 0,
        }
        if digits > FITTING_DIGITS {
            return true;
        }
    }
    // The one number of few digits that is a float.
    text.contains("-0")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NUMBERS: &str = "{\"a/b\": [1, 123456789012345678901234567890, {\"c~\": 0.12345678901234567891}], \"d\": 1e3, \"e\": -0, \
                           \"f\": 18446744073709551615, \"g\": \"1e3\", \"h\": 9007199254740993}";

    #[test]
    fn numbers_are_written_as_they_were_read() {
        let document: ExactDocument = serde_json::from_str(NUMBERS).unwrap();
        let written = serde_json::to_string(&document).unwrap();
        for kept in ["123456789012345678901234567890", "0.12345678901234567891", "\"d\":1e3", "\"e\":-0,"] {
            assert!(written.contains(kept), "{kept}: {written}");
        }
        for kept in ["18446744073709551615", "\"g\":\"1e3\"", "9007199254740993"] {
            assert!(written.contains(kept), "{kept}: {written}");
        }
        assert_eq!(count(&document.numbers), 4, "{:?}", document.numbers);
        let plain = serde_json::to_string(&document.value).unwrap();
        assert!(!plain.contains("123456789012345678901234567890"), "what serde_json makes of it: {plain}");
    }

    #[test]
    fn a_number_that_was_changed_is_written_as_it_is_now() {
        let mut document: ExactDocument = serde_json::from_str(NUMBERS).unwrap();
        document.value["a/b"][1] = json!(7);
        document.value["d"] = json!("x");
        let written = serde_json::to_string(&document).unwrap();
        assert!(written.contains("[1,7,{") && written.contains("\"d\":\"x\""), "{written}");
        assert!(written.contains("0.12345678901234567891"), "{written}");
    }

    #[test]
    fn the_numbers_of_a_part_are_found_by_their_place_in_it() {
        let numbers = ExactNumbers::of(NUMBERS);
        let part = numbers.at(&["a/b"]);
        let value = serde_json::from_str("[1, 123456789012345678901234567890]").unwrap();
        let written = serde_json::to_string(&part.in_value(&value)).unwrap();
        assert_eq!(written, "[1,123456789012345678901234567890]");
        assert!(numbers.at(&["a"]).is_empty(), "the beginning of a key is no key");
        assert!(numbers.at(&["d"]).own.is_some() && numbers.at(&["d", "e"]).is_empty());
        assert_eq!(count(numbers.at(&[])), count(&numbers));
        let list = ExactNumbers::of("[0, 1e1, {\"a\": 1e2}, 3, 4, 5, 6, 7, 8, 9, 1e10, [1e11], 1e12]");
        for (index, own, below) in [
            ("1", true, &[][..]),
            ("2", false, &["a"]),
            ("3", false, &[]),
            ("10", true, &[]),
            ("11", false, &["0"]),
        ] {
            let found = list.at(&[index]);
            let keys: Vec<&str> = found.inside.keys().map(String::as_str).collect();
            assert_eq!((found.own.is_some(), keys.as_slice()), (own, below), "{index}");
        }
        assert_eq!(count(list.at(&[])), 5);
    }

    /// `explain` and the cases of rules look before a tree is made, which ends the command in words.
    #[test]
    fn a_text_of_any_depth_is_looked_into_as_deep_as_a_tree_goes() {
        let nested = |depth: usize| format!("{}1e3{}", "[".repeat(depth), "]".repeat(depth));
        for depth in [1, 100, DEEPEST - 1] {
            assert!(serde_json::from_str::<Value>(&nested(depth)).is_ok());
            assert_eq!(count(&ExactNumbers::of(&nested(depth))), 1, "{depth}");
        }
        for depth in [DEEPEST, 3_000] {
            assert!(serde_json::from_str::<Value>(&nested(depth)).is_err());
            assert!(ExactNumbers::of(&nested(depth)).is_empty(), "{depth}");
        }
        let objects = format!("{}1e3{}", "{\"a\":".repeat(3_000), "}".repeat(3_000));
        assert!(ExactNumbers::of(&objects).is_empty());
    }

    /// A pointer for each of them would take 25 gigabytes.
    #[test]
    fn a_long_key_is_kept_once_for_all_numbers_below_it() {
        let text = format!("{{\"{}\":[{}]}}", "k".repeat(500_000), vec!["1e0"; 50_000].join(","));
        let document: ExactDocument = serde_json::from_str(&text).unwrap();
        assert_eq!(count(&document.numbers), 50_000);
        assert!(serde_json::to_string(&document).unwrap() == text, "as it was read");
    }

    fn count(numbers: &ExactNumbers) -> usize {
        numbers.inside.values().map(count).sum::<usize>() + usize::from(numbers.own.is_some())
    }

    #[test]
    fn what_is_no_json_has_none() {
        for text in ["a: 123456789012345678901234567890", "{\"a\": 1e3", "", "NaN"] {
            assert!(ExactNumbers::of(text).is_empty(), "{text}");
        }
    }
}
