//! Documents of which numbers keep their text. Rules get a number as it is written, as from OPA
//! (`open-policy-agent/opa:v1/util/json.go`, `NewJSONDecoder`), and a tree of `serde_json` holds integers of 64 bits and floats alone.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// Digits of an integer that fits into 64 bits, whatever they are.
const FITTING_DIGITS: usize = 18;
/// Lists and objects within one another that are looked into: those that serde_json makes a tree of, which ends at as many.
const MAX_DEPTH: usize = 128;

/// A document as rules read it.
#[derive(Debug, Clone, Default)]
pub struct ExactDocument {
    /// What it says, with numbers as a float has them where they are not integers of 64 bits.
    pub value: Value,
    /// The numbers of which that is not all.
    pub numbers: ExactNumbers,
}

/// The text of numbers that a tree does not write as they were read, by pointers (RFC 6901).
#[derive(Debug, Clone, Default)]
pub struct ExactNumbers(BTreeMap<String, Box<RawValue>>);

/// A value that is written with such texts.
pub struct Exact<'a, V> {
    value: &'a V,
    numbers: &'a ExactNumbers,
    place: String,
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
        let mut found = Self::default();
        if may_round(text)
            && let Ok(whole) = serde_json::from_str(text)
        {
            found.add(whole, String::new(), 0);
        }
        found
    }

    /// Adds those of a part that is in so many others. The text of one is read again at each level, and a text of which no tree was made may have
    /// any number of them.
    fn add(&mut self, raw: &RawValue, place: String, depth: usize) {
        let text = raw.get();
        let inner = depth.saturating_add(1);
        match text.bytes().next() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => {}
            Some(b'{') if may_round(text) => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
                for (key, value) in members {
                    self.add(value, below(&place, &key), inner);
                }
            }
            Some(b'[') if may_round(text) => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                for (index, item) in items.into_iter().enumerate() {
                    self.add(item, below(&place, &index.to_string()), inner);
                }
            }
            Some(b'-' | b'0'..=b'9') if read(text).is_some_and(|number| number.to_string() != text) => {
                self.0.insert(place, raw.to_owned());
            }
            _ => {}
        }
    }

    /// Those of the value at a pointer, for a document that is this value. They come next to each other, and the others are not looked at: this
    /// is asked for each item of a list.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Self {
        let start = format!("{pointer}/");
        let inside = self.0.range(start.clone()..).take_while(|(place, _)| place.starts_with(&start));
        let all = self.0.get_key_value(pointer).into_iter().chain(inside);
        let from_here = |(place, text): (&String, &Box<RawValue>)| {
            Some((place.strip_prefix(pointer)?.to_string(), text.clone()))
        };
        Self(all.filter_map(from_here).collect())
    }

    /// The value, written with these numbers. One that is another in the value is written as it is there.
    pub const fn in_value<'a>(&'a self, value: &'a Value) -> Exact<'a, Value> {
        Exact { value, numbers: self, place: String::new() }
    }

    /// The same of an object.
    pub const fn in_object<'a>(&'a self, value: &'a Map<String, Value>) -> Exact<'a, Map<String, Value>> {
        Exact { value, numbers: self, place: String::new() }
    }
}

impl<V> Exact<'_, V> {
    fn members<S: Serializer>(&self, members: &Map<String, Value>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(members.iter().map(|(key, value)| (key, self.inside(key, value))))
    }

    fn inside<'b>(&'b self, key: &str, value: &'b Value) -> Exact<'b, Value> {
        Exact { value, numbers: self.numbers, place: below(&self.place, key) }
    }
}

impl Serialize for Exact<'_, Map<String, Value>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.numbers.0.is_empty() {
            return self.value.serialize(serializer);
        }
        self.members(self.value, serializer)
    }
}

impl Serialize for Exact<'_, Value> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.numbers.0.is_empty() {
            return self.value.serialize(serializer);
        }
        match self.value {
            Value::Object(members) => self.members(members, serializer),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                serializer.collect_seq(items.map(|(index, item)| self.inside(&index.to_string(), item)))
            }
            Value::Number(number) => match self.numbers.0.get(&self.place) {
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

fn below(place: &str, key: &str) -> String {
    format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Whether a text in JSON has a number that a tree may write otherwise: long digits, or any but digits and a sign.
fn may_round(text: &str) -> bool {
    let (mut is_in_string, mut is_escaped, mut digits) = (false, false, 0_usize);
    for byte in text.bytes() {
        if is_in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => (is_in_string, digits) = (true, 0),
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
        assert_eq!(document.numbers.0.len(), 4, "{:?}", document.numbers);
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
        let part = numbers.at("/a~1b");
        let value = serde_json::from_str("[1, 123456789012345678901234567890]").unwrap();
        let written = serde_json::to_string(&part.in_value(&value)).unwrap();
        assert_eq!(written, "[1,123456789012345678901234567890]");
        assert!(numbers.at("/a").0.is_empty(), "the beginning of a key is no key");
        let list = ExactNumbers::of("[0, 1e1, {\"a\": 1e2}, 3, 4, 5, 6, 7, 8, 9, 1e10, [1e11], 1e12]");
        for (pointer, places) in
            [("/1", &[""][..]), ("/2", &["/a"]), ("/3", &[]), ("/10", &[""]), ("/11", &["/0"])]
        {
            assert_eq!(list.at(pointer).0.into_keys().collect::<Vec<_>>(), places, "{pointer}");
        }
        assert_eq!(list.at("").0.len(), 5);
    }

    /// `explain` and the cases of rules look before a tree is made, which ends the command in words.
    #[test]
    fn a_text_of_any_depth_is_looked_into_as_deep_as_a_tree_goes() {
        let nested = |depth: usize| format!("{}1e3{}", "[".repeat(depth), "]".repeat(depth));
        for depth in [1, 100, MAX_DEPTH - 1] {
            assert!(serde_json::from_str::<Value>(&nested(depth)).is_ok());
            assert_eq!(ExactNumbers::of(&nested(depth)).0.len(), 1, "{depth}");
        }
        for depth in [MAX_DEPTH + 1, 3_000] {
            assert!(serde_json::from_str::<Value>(&nested(depth)).is_err());
            assert!(ExactNumbers::of(&nested(depth)).0.is_empty(), "{depth}");
        }
        let objects = format!("{}1e3{}", "{\"a\":".repeat(3_000), "}".repeat(3_000));
        assert!(ExactNumbers::of(&objects).0.is_empty());
    }

    #[test]
    fn what_is_no_json_has_none() {
        for text in ["a: 123456789012345678901234567890", "{\"a\": 1e3", "", "NaN"] {
            assert!(ExactNumbers::of(text).0.is_empty(), "{text}");
        }
    }
}
