//! Values as they stand in the memory of a module (`open-policy-agent/opa:wasm/src/value.h`). A module is foreign, so no
//! address of it is read outside its memory, and every walk through its values has an end.

use std::collections::HashMap;

use super::references::place_of;
use crate::rego::{Number, Value};

/// Nesting depth of values.
const MAX_DEPTH: usize = 256;

/// Most bytes of texts that are joined where they stand.
const MOST_JOINED: usize = 64 << 10;

/// What is not a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// The memory of a module, and how many values may still be read from it.
pub(super) struct Guest<'a> {
    memory: &'a [u8],
    allowed: usize,
    left: usize,
    is_spent: bool,
}

impl<'a> Guest<'a> {
    /// Reads from a memory, which has no more values than bytes.
    pub const fn new(memory: &'a [u8]) -> Self {
        Self::within(memory, memory.len())
    }

    /// Reads no more values than this. A value that stands in several places of another one is read once for each of them, so there can
    /// be any number.
    pub const fn within(memory: &'a [u8], values: usize) -> Self {
        Self { memory, allowed: values, left: values, is_spent: false }
    }

    /// Whether there was more to read than allowed.
    pub const fn is_spent(&self) -> bool {
        self.is_spent
    }

    fn take(&mut self, values: usize) -> Result<(), Broken> {
        match self.left.checked_sub(values) {
            Some(left) => self.left = left,
            None => self.is_spent = true,
        }
        if self.is_spent { Err(Broken) } else { Ok(()) }
    }

    /// How much has been read, in values.
    pub const fn read_so_far(&self) -> usize {
        self.allowed.saturating_sub(self.left)
    }

    fn bytes(&self, address: u32, length: u32) -> Result<&'a [u8], Broken> {
        let start = usize::try_from(address).map_err(|_| Broken)?;
        let length = usize::try_from(length).map_err(|_| Broken)?;
        self.memory.get(start..start.checked_add(length).ok_or(Broken)?).ok_or(Broken)
    }

    fn byte(&self, address: u32, offset: u32) -> Result<u8, Broken> {
        self.bytes(address.checked_add(offset).ok_or(Broken)?, 1)?.first().copied().ok_or(Broken)
    }

    fn word(&self, address: u32, offset: u32) -> Result<u32, Broken> {
        let bytes = self.bytes(address.checked_add(offset).ok_or(Broken)?, 4)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| Broken)?))
    }

    /// The text that ends with a zero byte.
    pub fn text(&self, address: u32) -> Result<&'a [u8], Broken> {
        let start = usize::try_from(address).map_err(|_| Broken)?;
        let rest = self.memory.get(start..).ok_or(Broken)?;
        rest.iter().position(|byte| *byte == 0).and_then(|end| rest.get(..end)).ok_or(Broken)
    }

    /// The value at an address.
    pub fn value(&mut self, address: u32) -> Result<Value, Broken> {
        self.value_within(address, 0)
    }

    fn value_within(&mut self, address: u32, depth: usize) -> Result<Value, Broken> {
        self.take(1)?;
        if depth > MAX_DEPTH {
            return Err(Broken);
        }
        let inner = depth.saturating_add(1);
        match self.byte(address, 0)? {
            1 => Ok(Value::Null),
            2 | 9 => Ok(Value::Bool(self.byte(address, 1)? != 0)),
            3 => self.number(address),
            4 | 8 => {
                let bytes = self.bytes(self.word(address, 8)?, self.word(address, 4)?)?;
                self.take(bytes.len() / 64)?;
                let lossy = |_| String::from_utf8_lossy(bytes).into_owned();
                Ok(Value::String(std::str::from_utf8(bytes).map_or_else(lossy, str::to_owned)))
            }
            5 => {
                let (items, length) = (self.word(address, 4)?, self.word(address, 8)?);
                (0..length)
                    .map(|item| self.value_within(self.word(slot(items, item, 8)?, 4)?, inner))
                    .collect::<Result<_, _>>()
                    .map(Value::Array)
            }
            6 => {
                let nodes = self.nodes(address)?;
                let pair = |node| {
                    Ok((
                        self.value_within(self.word(node, 0)?, inner)?,
                        self.value_within(self.word(node, 4)?, inner)?,
                    ))
                };
                nodes.into_iter().map(pair).collect::<Result<_, _>>().map(Value::Object)
            }
            7 => {
                let nodes = self.nodes(address)?;
                nodes
                    .into_iter()
                    .map(|node| self.value_within(self.word(node, 0)?, inner))
                    .collect::<Result<_, _>>()
                    .map(Value::Set)
            }
            _ => Err(Broken),
        }
    }

    /// The value at an address as JSON, as the module itself writes it (`open-policy-agent/opa:wasm/src/json.c`), but with members and items of sets as
    /// they lie. Keys have to be texts.
    pub fn json(&mut self, address: u32) -> Result<Vec<u8>, Broken> {
        let mut json = Vec::new();
        self.write_json(address, 0, &mut json)?;
        Ok(json)
    }

    fn write_json(&mut self, address: u32, depth: usize, json: &mut Vec<u8>) -> Result<(), Broken> {
        self.take(1)?;
        if depth > MAX_DEPTH {
            return Err(Broken);
        }
        let inner = depth.saturating_add(1);
        match self.byte(address, 0)? {
            1 => json.extend(b"null"),
            2 | 9 => json.extend(if self.byte(address, 1)? == 0 { "false" } else { "true" }.bytes()),
            3 => json.extend(self.number_at(address)?.text().bytes()),
            4 | 8 => self.write_text(address, json)?,
            5 => {
                let (items, length) = (self.word(address, 4)?, self.word(address, 8)?);
                json.push(b'[');
                for place in 0..length {
                    json.extend((place > 0).then_some(b','));
                    self.write_json(self.word(slot(items, place, 8)?, 4)?, inner, json)?;
                }
                json.push(b']');
            }
            6 => {
                json.push(b'{');
                for (place, node) in self.nodes(address)?.into_iter().enumerate() {
                    json.extend((place > 0).then_some(b','));
                    self.write_text(self.word(node, 0)?, json)?;
                    json.push(b':');
                    self.write_json(self.word(node, 4)?, inner, json)?;
                }
                json.push(b'}');
            }
            7 => {
                json.push(b'[');
                for (place, item) in self.keys(address)?.into_iter().enumerate() {
                    json.extend((place > 0).then_some(b','));
                    self.write_json(item, inner, json)?;
                }
                json.push(b']');
            }
            _ => return Err(Broken),
        }
        Ok(())
    }

    fn write_text(&mut self, address: u32, json: &mut Vec<u8>) -> Result<(), Broken> {
        let text = self.utf8(address)?.ok_or(Broken)?;
        serde_json::to_writer(json, text).map_err(|_| Broken)
    }

    /// The texts of an array, with another one between each two; `None` where there is anything else than texts, or more than is joined here.
    pub fn joined(&mut self, separator: u32, array: u32) -> Result<Option<String>, Broken> {
        if self.byte(array, 0)? != 5 {
            return Ok(None);
        }
        let Some(separator) = self.utf8(separator)? else { return Ok(None) };
        self.take(1)?;
        let (items, length) = (self.word(array, 4)?, self.word(array, 8)?);
        let mut joined = String::new();
        for place in 0..length {
            let Some(part) = self.utf8(self.word(slot(items, place, 8)?, 4)?)? else { return Ok(None) };
            let more = part.len().saturating_add(separator.len());
            if joined.len().saturating_add(more) > MOST_JOINED {
                return Ok(None);
            }
            if place > 0 {
                joined.push_str(separator);
            }
            joined.push_str(part);
        }
        Ok(Some(joined))
    }

    /// A text that is UTF-8; `None` for any other value.
    fn utf8(&mut self, address: u32) -> Result<Option<&'a str>, Broken> {
        Ok(self.string(address)?.and_then(|bytes| std::str::from_utf8(bytes).ok()))
    }

    /// The bytes of a text; `None` for any other value.
    fn string(&mut self, address: u32) -> Result<Option<&'a [u8]>, Broken> {
        if !matches!(self.byte(address, 0)?, 4 | 8) {
            return Ok(None);
        }
        let bytes = self.bytes(self.word(address, 8)?, self.word(address, 4)?)?;
        let read = 1_usize.saturating_add(bytes.len() / 64);
        self.take(read)?;
        Ok(Some(bytes))
    }

    /// The members of an object, by their keys, where all of it is text; `None` for any other value.
    fn texts(&mut self, address: u32) -> Result<Option<Vec<(&'a str, &'a str)>>, Broken> {
        if self.byte(address, 0)? != 6 {
            return Ok(None);
        }
        let mut members = Vec::new();
        for node in self.nodes(address)? {
            let Some(key) = self.utf8(self.word(node, 0)?)? else { return Ok(None) };
            let Some(value) = self.utf8(self.word(node, 4)?)? else { return Ok(None) };
            members.push((key, value));
        }
        members.sort_unstable();
        Ok(Some(members))
    }

    /// The address of the item of an object that stands at the text of a number, or of an array at the place that a text names; zero for
    /// none, and for other values.
    pub fn item_by_text(&mut self, address: u32, key: u32) -> Result<u32, Broken> {
        match (self.byte(address, 0)?, self.byte(key, 0)?) {
            (6, 3) => {
                let text = self.number_at(key)?.text();
                for node in self.nodes(address)? {
                    if self.string(self.word(node, 0)?)? == Some(text.as_bytes()) {
                        return self.word(node, 4);
                    }
                }
                Ok(0)
            }
            (5, 4 | 8) => {
                let (items, length) = (self.word(address, 4)?, self.word(address, 8)?);
                let place = self.string(key)?.and_then(place_of).filter(|place| *place < length);
                place.map_or(Ok(0), |place| self.word(slot(items, place, 8)?, 4))
            }
            _ => Ok(0),
        }
    }

    fn number(&mut self, address: u32) -> Result<Value, Broken> {
        Ok(Value::Number(self.number_at(address)?))
    }

    fn number_at(&mut self, address: u32) -> Result<Number, Broken> {
        let number = match self.byte(address, 1)? {
            1 => {
                let bytes = self.bytes(address.checked_add(8).ok_or(Broken)?, 8)?;
                Number::Int(i64::from_le_bytes(bytes.try_into().map_err(|_| Broken)?))
            }
            2 => {
                let bytes = self.bytes(self.word(address, 8)?, self.word(address, 12)?)?;
                let number = Number::from_text(std::str::from_utf8(bytes).map_err(|_| Broken)?);
                // What is computed with its digits, and those of its power of ten, takes the time of their square.
                let digits = number.digits().unwrap_or_default().max(bytes.len());
                self.take(digits.saturating_mul(digits) >> 14)?;
                number
            }
            _ => return Err(Broken),
        };
        Ok(number)
    }

    /// The nodes of an object's or a set's table: in each, the key stands first.
    fn nodes(&mut self, address: u32) -> Result<Vec<u32>, Broken> {
        let (buckets, count, length) =
            (self.word(address, 4)?, self.word(address, 8)?, self.word(address, 12)?);
        let next_offset = if self.byte(address, 0)? == 6 { 8 } else { 4 };
        let mut nodes = Vec::new();
        // Those without a node are looked at too.
        self.take(usize::try_from(count).unwrap_or(usize::MAX) / 64)?;
        for bucket in 0..count {
            let mut node = self.word(slot(buckets, bucket, 4)?, 0)?;
            while node != 0 {
                self.take(1)?;
                nodes.push(node);
                node = self.word(node, next_offset)?;
            }
        }
        if u32::try_from(nodes.len()) == Ok(length) { Ok(nodes) } else { Err(Broken) }
    }

    /// The addresses of the keys of an object or the items of a set, as they lie.
    fn keys(&mut self, address: u32) -> Result<Vec<u32>, Broken> {
        let nodes = self.nodes(address)?;
        nodes.into_iter().map(|node| self.word(node, 0)).collect()
    }
}

fn slot(start: u32, index: u32, size: u32) -> Result<u32, Broken> {
    index.checked_mul(size).and_then(|offset| start.checked_add(offset)).ok_or(Broken)
}

/// The order of the objects and sets that one evaluation has gone through.
#[derive(Debug, Default)]
pub(super) struct Orders(HashMap<u32, Order>);

#[derive(Debug)]
struct Order {
    /// The keys as they lie.
    found: Vec<u32>,
    sorted: Vec<u32>,
    /// Where the last one was that was asked for.
    last: usize,
}

impl Orders {
    /// Begins an evaluation, which fills the memory anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The key after another in OPA's order, and zero after the last; `previous` is zero for the first.
    pub fn next(&mut self, guest: &mut Guest<'_>, collection: u32, previous: u32) -> Result<u32, Broken> {
        if previous == 0 {
            let found = guest.keys(collection)?;
            let known = self.0.get(&collection).is_some_and(|order| order.found == found);
            if !known {
                let sorted = sort(guest, &found)?;
                self.0.insert(collection, Order { found, sorted, last: 0 });
            }
        }
        let order = self.0.get_mut(&collection).ok_or(Broken)?;
        let place = if previous == 0 {
            0
        } else {
            let at_last = order.sorted.get(order.last) == Some(&previous);
            let place = if at_last {
                Some(order.last)
            } else {
                let place = order.sorted.iter().position(|key| *key == previous);
                guest.take(place.unwrap_or(order.sorted.len()) / 64)?;
                place
            };
            place.and_then(|place| place.checked_add(1)).ok_or(Broken)?
        };
        order.last = place;
        Ok(order.sorted.get(place).copied().unwrap_or(0))
    }
}

/// Most keys are texts, which are compared where they stand. One alone has no order: it may be a large object, such as what the only violation of a
/// rule says.
fn sort(guest: &mut Guest<'_>, keys: &[u32]) -> Result<Vec<u32>, Broken> {
    if keys.len() < 2 {
        return Ok(keys.to_vec());
    }
    let mut texts = Vec::with_capacity(keys.len());
    for key in keys {
        match guest.string(*key)? {
            Some(text) => texts.push((text, *key)),
            None => return sort_objects(guest, keys),
        }
    }
    texts.sort_unstable();
    Ok(texts.into_iter().map(|(_, key)| key).collect())
}

/// So are objects of texts alone, such as violations.
fn sort_objects(guest: &mut Guest<'_>, keys: &[u32]) -> Result<Vec<u32>, Broken> {
    let mut objects = Vec::with_capacity(keys.len());
    for key in keys {
        match guest.texts(*key)? {
            Some(members) => objects.push((members, *key)),
            None => return sort_values(guest, keys),
        }
    }
    objects.sort_unstable();
    Ok(objects.into_iter().map(|(_, key)| key).collect())
}

fn sort_values(guest: &mut Guest<'_>, keys: &[u32]) -> Result<Vec<u32>, Broken> {
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        values.push((guest.value(*key)?, *key));
    }
    values.sort_unstable();
    Ok(values.into_iter().map(|(_, key)| key).collect())
}

#[cfg(test)]
mod tests {
    use super::super::values;
    use super::*;

    #[test]
    fn what_leads_out_of_the_memory_or_in_circles_is_no_value() {
        // An array of one item, which is the array itself.
        let mut circle = vec![5, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
        circle.extend([0; 8]);
        for memory in [
            &circle[..],
            &[5, 0, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0],
            &[4, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0],
            &[42],
            &[],
        ] {
            assert_eq!(Guest::new(memory).value(0), Err(Broken));
            assert_eq!(Guest::new(memory).json(0), Err(Broken));
        }
    }

    /// Words in the memory of a module.
    fn memory_of(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_set_is_written_as_a_list_and_a_key_has_to_be_a_text() {
        // A set of `true` alone, and an object whose only key is the number 7.
        let set = [7, 16, 1, 1, 20, 28, 0, 0x0102];
        assert_eq!(Guest::new(&memory_of(&set)).json(0), Ok(b"[true]".to_vec()));
        let object = [6, 16, 1, 1, 20, 32, 32, 0, 0x0103, 0, 7, 0];
        let memory = memory_of(&object);
        let mut guest = Guest::new(&memory);
        assert!(guest.value(0).is_ok());
        assert_eq!((guest.json(0), guest.json(32)), (Err(Broken), Ok(b"7".to_vec())));
    }

    /// A module may have an object with millions of buckets and no member, in many places of a value.
    #[test]
    fn empty_buckets_cost_what_it_takes_to_look_at_them() {
        let (places, buckets) = (100_u32, 64_000_u32);
        let object = 16 + places * 8;
        let mut words = vec![5, 16, places, 0];
        words.extend((0..places).flat_map(|_| [0, object]));
        words.extend([6, object + 16, buckets, 0]);
        let mut memory = memory_of(&words);
        memory.resize(memory.len() + 4 * buckets as usize, 0);
        let mut guest = Guest::within(&memory, 50_000);
        assert_eq!((guest.value(0), guest.is_spent()), (Err(Broken), true));
        let mut guest = Guest::within(&memory, 50_000);
        assert_eq!((guest.json(0), guest.is_spent()), (Err(Broken), true));
        let mut guest = Guest::within(&memory, 50_000);
        assert_eq!((guest.json(object), guest.read_so_far()), (Ok(b"{}".to_vec()), 1_001));
    }

    /// A module may ask for the next item from any place on, again and again.
    #[test]
    fn to_go_on_from_another_item_than_the_last_one_costs_what_it_takes_to_find_it() {
        let count = 6_400_u32;
        let mut words = vec![7, 16, 1, count, 20];
        let place = |item: u32| 20 + 12 * item;
        for item in 0..count {
            let next = if item + 1 < count { place(item + 1) } else { 0 };
            words.extend([place(item) + 8, next, 0x0102]);
        }
        let memory = memory_of(&words);
        let (mut guest, mut orders) = (Guest::within(&memory, 1 << 20), Orders::default());
        let mut cost = |previous: u32| {
            let before = guest.read_so_far();
            let found = orders.next(&mut guest, 0, previous).unwrap();
            (found, guest.read_so_far() - before)
        };
        let key = |item: u32| place(item) + 8;
        assert_eq!(cost(0).0, key(0));
        assert_eq!(cost(key(0)), (key(1), 0));
        assert_eq!(cost(key(count - 2)), (key(count - 1), 99));
        assert_eq!(cost(key(count - 1)), (0, 0));
    }

    #[test]
    fn a_number_costs_the_square_of_its_digits() {
        let number = |digits: usize| {
            let mut memory = memory_of(&[0x0203, 0, 16, u32::try_from(digits).unwrap()]);
            memory.resize(memory.len() + digits, b'7');
            let mut guest = Guest::within(&memory, 1_000);
            let is_read = guest.value(0).is_ok();
            (is_read, guest.read_so_far())
        };
        assert_eq!(number(100), (true, 1));
        assert_eq!(number(1_000), (true, 62));
        assert!(!number(10_000).0);
        for (text, read) in [("1e100", 1), ("1e-1000", 62), ("0e30000", 1), ("1e99999999", 1)] {
            let mut memory = memory_of(&[0x0203, 0, 16, u32::try_from(text.len()).unwrap()]);
            memory.extend(text.bytes());
            let mut guest = Guest::within(&memory, 1_000);
            assert!(guest.value(0).is_ok(), "{text}");
            assert_eq!(guest.read_so_far(), read, "{text}");
        }
        let mut memory = memory_of(&[0x0203, 0, 16, 7]);
        memory.extend(*b"1e30000");
        assert!(Guest::within(&memory, 1_000).value(0).is_err());
    }

    #[test]
    fn an_object_is_found_by_the_text_of_a_number_and_an_array_by_the_place_that_a_text_names() {
        let object: [u32; 8] = [6, 16, 1, 1, 20, 32, 99, 0];
        let key_and_number = [4, 1, 44, u32::from(b'7'), 0x0103, 0, 7, 0, 0x0103, 0, 8, 0];
        let memory = memory_of(&[object.as_slice(), key_and_number.as_slice()].concat());
        let mut guest = Guest::new(&memory);
        assert_eq!((guest.item_by_text(0, 48), guest.item_by_text(0, 64)), (Ok(99), Ok(0)));
        assert_eq!(guest.item_by_text(0, 32), Ok(0), "a text");
        // An array of one item, and the texts `0` and `1`.
        let array = [5, 16, 1, 1, 0, 99, 4, 1, 36, u32::from(b'0'), 4, 1, 52, u32::from(b'1')];
        let memory = memory_of(&array);
        let mut guest = Guest::new(&memory);
        assert_eq!((guest.item_by_text(0, 24), guest.item_by_text(0, 40)), (Ok(99), Ok(0)));
        assert_eq!(guest.item_by_text(0, 1_000), Err(Broken));
    }

    /// Texts are read as values are, and paid for alike.
    #[test]
    fn texts_of_an_array_are_joined_where_they_stand_and_anything_else_is_not() {
        let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
        // An array of three items, with their places, the texts `ab` and `é`, a number, and half a letter.
        let words = |[one, two, three]: [u32; 3]| {
            let array = [5, 16, 3, 3, 0, one, 0, two, 0, three];
            let texts = [4, 2, 52, word(b"ab\0\0"), 8, 2, 68, word(b"\xc3\xa9\0\0")];
            let others = [0x0103, 0, 7, 0, 4, 1, 100, word(b"\xc3\0\0\0")];
            memory_of(&[array.as_slice(), &texts, &others].concat())
        };
        let memory = words([40, 56, 40]);
        let mut guest = Guest::new(&memory);
        assert_eq!(guest.joined(56, 0), Ok(Some("ab\u{e9}\u{e9}\u{e9}ab".into())));
        let paid = guest.read_so_far();
        let mut guest = Guest::new(&memory);
        assert!(guest.value(56).is_ok() && guest.value(0).is_ok());
        assert_eq!(guest.read_so_far(), paid);
        for items in [[40, 72, 40], [40, 88, 40]] {
            assert_eq!(Guest::new(&words(items)).joined(40, 0), Ok(None), "{items:?}");
        }
        assert_eq!(Guest::new(&memory).joined(72, 0), Ok(None), "a number between them");
        assert_eq!(Guest::new(&memory).joined(40, 40), Ok(None), "no array");
        assert_eq!(Guest::new(&words([40, 1_000, 40])).joined(40, 0), Err(Broken));
        assert_eq!(
            Guest::within(&memory, 3).joined(56, 0),
            Err(Broken),
            "there are four texts and the array"
        );
        let mut long = memory_of(&[5, 16, 1, 1, 0, 24, 4, u32::try_from(MOST_JOINED).unwrap(), 36]);
        long.resize(36 + MOST_JOINED, b'a');
        assert_eq!(Guest::new(&long).joined(24, 0), Ok(None), "too long with what would be between two");
    }

    #[test]
    fn the_only_item_of_a_set_is_found_without_reading_it_and_several_are_gone_through_in_order() {
        // A set of one value that is none, and a set of `true` and `false`.
        let words = [7, 16, 1, 1, 20, 28, 0, 42, 7, 48, 1, 2, 52, 72, 60, 76, 0, 0, 0x0102, 0x0002];
        let memory = memory_of(&words);
        let mut guest = Guest::new(&memory);
        let mut orders = Orders::default();
        let mut next = |collection, previous| orders.next(&mut guest, collection, previous);
        assert_eq!((next(0, 0), next(0, 28)), (Ok(28), Ok(0)));
        assert_eq!((next(32, 0), next(32, 76), next(32, 72)), (Ok(76), Ok(72), Ok(0)));
        assert_eq!(next(32, 28), Err(Broken), "no item of it");
    }

    /// Objects of texts, and neighbours of them that are read as values.
    #[test]
    fn objects_are_gone_through_in_the_order_of_their_values() {
        let written = |json: &str| values::written(json, 0, 1 << 16).unwrap();
        for (items, in_order) in [
            (r#"[{"b": "x"}, {"a": "z", "c": "y"}, {"a": "z", "b": "é"}, {"a": "z"}, {}]"#, [4, 3, 2, 1, 0]),
            (r#"[{"b": "x"}, {"a": "z", "c": "y"}, {"a": "z", "b": 1}, {"a": "z"}, {}]"#, [4, 3, 2, 1, 0]),
            (r#"[{"a": "b"}, {"a": true}, ["a"], "a", {"a": "a"}]"#, [3, 2, 1, 4, 0]),
        ] {
            let list = written(items);
            let mut guest = Guest::new(&list.bytes);
            let (places, count) = (guest.word(list.root, 4).unwrap(), guest.word(list.root, 8).unwrap());
            let keys: Vec<u32> = (0..count).map(|item| guest.word(places + item * 8, 4).unwrap()).collect();
            let found = sort(&mut guest, &keys).unwrap();
            assert_eq!(found, in_order.map(|place: usize| keys[place]), "{items}");
            assert_eq!(found, sort_values(&mut guest, &keys).unwrap(), "{items}");
        }
    }

    #[test]
    fn a_value_that_stands_in_many_places_is_read_within_a_bound() {
        // Arrays of two items, which are both the next array; the last one is `null`.
        let array = |at: u32| {
            let next = at + 32;
            let words = [5, at + 16, 2, 0, 0, next, 0, next];
            words.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>()
        };
        let mut memory: Vec<u8> = (0..30).flat_map(|place| array(place * 32)).collect();
        memory.extend([1; 16]);
        let mut guest = Guest::within(&memory, 10_000);
        assert_eq!(guest.value(0), Err(Broken));
        assert!(guest.is_spent() && guest.read_so_far() <= 10_000);
        let mut guest = Guest::within(&memory, 10_000);
        assert_eq!(guest.json(0), Err(Broken));
        assert!(guest.is_spent());
        let mut guest = Guest::within(&memory, 10_000);
        assert!(guest.value(25 * 32).is_ok() && !guest.is_spent(), "{}", guest.read_so_far());
    }
}
