//! Writes a document as a module keeps values, so that the module need not parse it: of the instructions of an evaluation that admits, most did that.
//! The source of the format is `open-policy-agent/opa:wasm/src/value.h` and `value.c`.

use std::borrow::Cow;

use super::shortcuts::text_hash;

/// First words of values: the type, and in the second byte what is said of it there.
const NULL: u32 = 1;
const FALSE: u32 = 2;
const TRUE: u32 = 0x0102;
/// An integer of 64 bits.
pub(super) const INTEGER: u32 = 0x0103;
/// A number that is kept as its text, which is how a module reads every number.
pub(super) const REFERENCE: u32 = 0x0203;
pub(super) const ARRAY: u32 = 5;
/// Objects; sets follow on them.
pub(super) const OBJECT: u32 = 6;
/// A text that no code of a module frees.
pub(super) const KEPT_TEXT: u32 = 8;

/// Fewest buckets of an object (`OPA_OBJECT_MIN_BUCKETS`).
const LEAST_BUCKETS: usize = 8;
/// How many lists and objects may be within one another.
const DEEPEST: usize = 128;
/// Where each part begins.
const ALIGNMENT: usize = 8;

/// A document for one place in the memory of a module.
#[derive(Debug)]
pub(super) struct Values {
    /// What goes there.
    pub bytes: Vec<u8>,
    /// The address of its value.
    pub root: u32,
}

/// Writes JSON for the memory from this address on, which is a multiple of eight, in so many bytes at most. `None` for what only the module can say:
/// how it reads an object with one key twice, or half of a surrogate pair, and that it needs too much memory, since it needs more for the same values.
/// The text has to be JSON, as what `serde_json` writes: control characters in texts, and the digits of a number, are not looked at.
pub(super) fn written(json: &str, base: u32, most: usize) -> Option<Values> {
    let bytes = Vec::with_capacity(json.len().saturating_mul(4).min(most));
    let (items, members) = (Vec::new(), Vec::new());
    let mut writer = Writer { json: json.as_bytes(), at: 0, bytes, base, most, items, members };
    let root = writer.value(DEEPEST)?;
    writer.skip_blanks();
    (writer.at == json.len()).then_some(Values { bytes: writer.bytes, root })
}

struct Writer<'j> {
    json: &'j [u8],
    at: usize,
    bytes: Vec<u8>,
    base: u32,
    most: usize,
    /// The addresses of the items so far of each list that is being read, those of the innermost one last.
    items: Vec<u32>,
    /// The members so far of each object that is being read, in the same way.
    members: Vec<Member<'j>>,
}

/// A member of an object.
struct Member<'j> {
    /// The hash of its key, and then its bucket.
    bucket: usize,
    key: Cow<'j, [u8]>,
    key_at: u32,
    value_at: u32,
}

impl<'j> Writer<'j> {
    fn skip_blanks(&mut self) {
        while matches!(self.json.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at = self.at.saturating_add(1);
        }
    }

    /// The next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.json.get(self.at).copied()
    }

    /// Goes over this byte, if it is the next one.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.next() == Some(byte);
        if is_next {
            self.at = self.at.saturating_add(1);
        }
        is_next
    }

    /// Goes over this word.
    fn take_word(&mut self, word: &str) -> Option<()> {
        let rest = self.json.get(self.at..)?;
        self.at = self.at.checked_add(word.len())?;
        rest.starts_with(word.as_bytes()).then_some(())
    }

    /// Adds a part that begins with these words, and returns its address. So many bytes of it follow on them.
    fn add<const N: usize>(&mut self, words: [u32; N], follow: usize) -> Option<u32> {
        let place = self.end()?;
        let begin = self.bytes.len().checked_next_multiple_of(ALIGNMENT)?;
        let end = begin.checked_add(size_of_val(&words))?.checked_add(follow)?;
        if end > self.most {
            return None;
        }
        self.bytes.resize(begin, 0);
        self.bytes.extend_from_slice(words.map(u32::to_le_bytes).as_flattened());
        Some(place)
    }

    /// Where the next part goes.
    fn end(&self) -> Option<u32> {
        let offset = self.bytes.len().checked_next_multiple_of(ALIGNMENT)?;
        self.base.checked_add(u32::try_from(offset).ok()?)
    }

    /// Adds the value that is next.
    fn value(&mut self, levels: usize) -> Option<u32> {
        let inner = levels.checked_sub(1)?;
        match self.next()? {
            b'{' => self.object(inner),
            b'[' => self.array(inner),
            b'"' => self.text().and_then(|text| self.add_text(&text)),
            b't' => self.take_word("true").and_then(|()| self.add([TRUE], 0)),
            b'f' => self.take_word("false").and_then(|()| self.add([FALSE], 0)),
            b'n' => self.take_word("null").and_then(|()| self.add([NULL], 0)),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    /// The text that is next, without its quotes and escapes.
    fn text(&mut self) -> Option<Cow<'j, [u8]>> {
        let rest = self.json.get(self.at..)?.strip_prefix(b"\"")?;
        let mut end = memchr::memchr2(b'"', b'\\', rest)?;
        let is_plain = rest.get(end) == Some(&b'"');
        while *rest.get(end)? != b'"' {
            // An escape has two bytes at least, and the second one is no end.
            let after = end.checked_add(2)?;
            end = memchr::memchr2(b'"', b'\\', rest.get(after..)?)?.checked_add(after)?;
        }
        let begin = self.at;
        self.at = begin.checked_add(end)?.checked_add(2)?;
        if is_plain {
            return Some(Cow::Borrowed(rest.get(..end)?));
        }
        let text: String = serde_json::from_slice(self.json.get(begin..self.at)?).ok()?;
        Some(Cow::Owned(text.into_bytes()))
    }

    fn add_text(&mut self, text: &[u8]) -> Option<u32> {
        let own = self.end()?.checked_add(12)?;
        let place = self.add([KEPT_TEXT, u32::try_from(text.len()).ok()?, own], text.len())?;
        self.bytes.extend_from_slice(text);
        Some(place)
    }

    fn number(&mut self) -> Option<u32> {
        let rest = self.json.get(self.at..)?;
        let is_of_it = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !is_of_it(byte)).unwrap_or(rest.len());
        let text = rest.get(..length)?;
        self.at = self.at.checked_add(length)?;
        let own = self.end()?.checked_add(24)?;
        let place = self.add([REFERENCE, 0, own, u32::try_from(length).ok()?, 0, 0], length)?;
        self.bytes.extend_from_slice(text);
        Some(place)
    }

    /// Reads what stands between a bracket and the one that ends it, one part after the other.
    fn parts(&mut self, end: u8, mut part: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at = self.at.checked_add(1)?;
        let mut is_first = true;
        while !self.takes(end) {
            if !is_first && !self.takes(b',') {
                return None;
            }
            is_first = false;
            part(self)?;
        }
        Some(())
    }

    /// The items follow on the array, and the numbers of their places on them.
    fn array(&mut self, levels: usize) -> Option<u32> {
        let begin = self.items.len();
        self.parts(b']', |writer| {
            let item = writer.value(levels)?;
            writer.items.push(item);
            Some(())
        })?;
        let count = self.items.len().checked_sub(begin)?;
        let length = u32::try_from(count).ok()?;
        let list = self.end()?.checked_add(16)?;
        let places = list.checked_add(length.checked_mul(8)?)?;
        let follow = count.checked_mul(24)?;
        let place = self.add([ARRAY, if count == 0 { 0 } else { list }, length, length], follow)?;
        for (index, item) in (0..length).zip(self.items.drain(begin..)) {
            let number = places.checked_add(index.checked_mul(16)?)?;
            self.bytes.extend_from_slice([number, item].map(u32::to_le_bytes).as_flattened());
        }
        for index in 0..length {
            self.bytes.extend_from_slice([INTEGER, 0, index, 0].map(u32::to_le_bytes).as_flattened());
        }
        Some(place)
    }

    /// The buckets follow on the object, and its members on them.
    fn object(&mut self, levels: usize) -> Option<u32> {
        let begin = self.members.len();
        self.parts(b'}', |writer| {
            let member = writer.member(levels)?;
            writer.members.push(member);
            Some(())
        })?;
        // Out of the writer for a while, so that it can write them.
        let mut all = std::mem::take(&mut self.members);
        let members = all.get_mut(begin..)?;
        let count = buckets(members.len());
        for member in &mut *members {
            member.bucket = member.bucket.checked_rem(count)?;
        }
        // Within a bucket by their keys, as the module has them.
        members.sort_unstable_by(|one, other| (one.bucket, &one.key).cmp(&(other.bucket, &other.key)));
        if members.windows(2).any(|pair| matches!(pair, [one, other] if one.key == other.key)) {
            return None;
        }
        let place = self.add_object(members, count)?;
        all.truncate(begin);
        self.members = all;
        Some(place)
    }

    fn member(&mut self, levels: usize) -> Option<Member<'j>> {
        self.skip_blanks();
        let key = self.text()?;
        let (key_at, bucket) = (self.add_text(&key)?, usize::try_from(text_hash(&key)).ok()?);
        if !self.takes(b':') {
            return None;
        }
        Some(Member { bucket, key, key_at, value_at: self.value(levels)? })
    }

    fn add_object(&mut self, members: &[Member<'_>], count: usize) -> Option<u32> {
        let (length, buckets) = (u32::try_from(members.len()).ok()?, u32::try_from(count).ok()?);
        let table = self.end()?.checked_add(16)?;
        let first = table.checked_add(buckets.checked_mul(4)?)?;
        let follow = count.checked_mul(4)?.checked_add(members.len().checked_mul(12)?)?;
        let place = self.add([OBJECT, table, buckets, length], follow)?;
        let address = |index: usize| first.checked_add(u32::try_from(index).ok()?.checked_mul(12)?);
        let mut index = 0_usize;
        for bucket in 0..count {
            let is_filled = members.get(index).is_some_and(|member| member.bucket == bucket);
            let begin = if is_filled { address(index)? } else { 0 };
            self.bytes.extend_from_slice(&begin.to_le_bytes());
            while members.get(index).is_some_and(|member| member.bucket == bucket) {
                index = index.checked_add(1)?;
            }
        }
        for (index, member) in members.iter().enumerate() {
            let after = index.checked_add(1)?;
            let is_followed = members.get(after).is_some_and(|next| next.bucket == member.bucket);
            let next = if is_followed { address(after)? } else { 0 };
            self.bytes.extend_from_slice(
                [member.key_at, member.value_at, next].map(u32::to_le_bytes).as_flattened(),
            );
        }
        Some(place)
    }
}

/// How many buckets a module has for so many members: they are seven tenths full at most (`OPA_OBJECT_LOAD_FACTOR`).
fn buckets(members: usize) -> usize {
    let mut count = LEAST_BUCKETS;
    while members.saturating_mul(10) > count.saturating_mul(7) {
        count = count.saturating_mul(2);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::guest::Guest;
    use super::*;
    use crate::rego::{self, Value};

    const BASE: u32 = 16;
    const MOST: usize = 1 << 20;

    /// What a module would read, which is also what the host reads as JSON.
    fn read(json: &str) -> Option<Value> {
        let values = written(json, BASE, MOST)?;
        let mut memory = vec![0; 16];
        memory.extend(values.bytes);
        let value = Guest::new(&memory).value(values.root).unwrap();
        let again = String::from_utf8(Guest::new(&memory).json(values.root).unwrap()).unwrap();
        assert_eq!(rego::read_json(&again).as_ref(), Ok(&value));
        Some(value)
    }

    #[test]
    fn a_document_is_written_as_it_is() {
        let many: Vec<String> = (0..100).map(|n| format!("\"key{n}\":{n}")).collect();
        let many = format!("{{{}}}", many.join(","));
        for json in [
            "null",
            " [ true , false,null, [], {} ] ",
            r#"{"a":1e3,"b":-0,"c":123456789012345678901234567890,"d":{"e":[{"f":""}]}}"#,
            r#"{"é":"\"\\\/\b\u0001\ud83d\ude00","":"<&>\u2028"}"#,
            many.as_str(),
            r#"[[1,[2,{"a":[3,{"b":4,"c":[5]}],"d":6}],7],{"e":{},"f":[{"g":8},{"g":9}],"h":[]},10]"#,
            include_str!("../../tests/fixtures/policies/refused.v1alpha1.json"),
        ] {
            assert_eq!(read(json), Some(rego::read_json(json).unwrap()), "{json}");
        }
    }

    #[test]
    fn what_is_no_json_and_a_key_that_is_there_twice_are_left_to_the_module() {
        let deep = "[".repeat(DEEPEST) + &"]".repeat(DEEPEST);
        for json in [
            "",
            "{",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "nul",
            "[1] 2",
            "\"a",
            "\"a\\\"",
            "{\"a\":1,\"a\":2}",
        ] {
            assert!(written(json, BASE, MOST).is_none(), "{json}");
        }
        assert!(written(&deep, BASE, MOST).is_some() && written(&format!("[{deep}]"), BASE, MOST).is_none());
        assert!(written("[[]]", u32::MAX - 15, MOST).is_none(), "outside of any memory");
    }

    #[test]
    fn no_more_is_written_than_there_is_memory_for() {
        let many = |text: &str| format!("[{}]", vec![text; 1_000].join(","));
        let long = format!("\"{}\"", "a".repeat(10_000));
        for json in [many("1"), many("\"\""), many("{}"), many("[]"), many("{\"a\":null}"), long] {
            let values = written(&json, BASE, MOST).unwrap();
            let needed = values.bytes.len();
            assert_eq!(
                written(&json, BASE, needed).map(|values| values.bytes),
                Some(values.bytes),
                "{needed}"
            );
            for most in [0, needed / 2, needed - 1] {
                assert!(written(&json, BASE, most).is_none(), "{most} of {needed}");
            }
        }
    }

    #[test]
    fn members_are_where_a_module_looks_for_them() {
        assert_eq!([0, 5, 6, 11, 12, 22, 23].map(buckets), [8, 8, 16, 16, 32, 32, 64]);
    }
}
