//! A JSON document as a module has it in its memory, written by the host: a module needs most of an evaluation's time to read the text
//! itself. The layout is that of OPA's values (`open-policy-agent/opa:wasm/src/value.h`); whether a module has it is found out when it
//! is started ([`super::instance`]).

/// Nesting depth of documents.
const MAX_DEPTH: usize = 200;
/// Buckets of an object without members, and the most members for so many buckets (`open-policy-agent/opa:wasm/src/value.c`).
const MIN_BUCKETS: usize = 8;
const LOAD_TENTHS: usize = 7;

/// A document, ready to be copied into the memory of a module.
#[derive(Debug)]
pub(super) struct Document {
    /// What belongs at the address that it was written for.
    pub bytes: Vec<u8>,
    /// The address of the value.
    pub value: u32,
}

impl Document {
    /// Writes a JSON text for this address, which eight divides. `None` where it is no JSON, nested too deeply, or does not fit in an
    /// address space: the module will say what is wrong with it.
    pub fn write(json: &str, address: u32) -> Option<Self> {
        let mut writer = Writer {
            rest: json,
            base: address,
            bytes: Vec::with_capacity(json.len().saturating_mul(4)),
            places: Vec::new(),
        };
        let value = writer.value(0)?;
        writer.blanks();
        writer.rest.is_empty().then_some(Self { bytes: writer.bytes, value })
    }
}

struct Writer<'a> {
    rest: &'a str,
    base: u32,
    bytes: Vec<u8>,
    /// The numbers that are the places in arrays, which all arrays share.
    places: Vec<u32>,
}

/// A member of an object: the key, its address, and that of the value.
struct Member<'a> {
    key: std::borrow::Cow<'a, str>,
    address: u32,
    value: u32,
}

impl<'a> Writer<'a> {
    // === Memory ===

    /// The address of bytes that are put at the end.
    fn put(&mut self, bytes: &[u8]) -> Option<u32> {
        let at = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes);
        self.base.checked_add(u32::try_from(at).ok()?)
    }

    /// The same of a value with a type and three words.
    fn put_value(&mut self, kind: [u8; 4], words: [u32; 3]) -> Option<u32> {
        let mut value = [0; 16];
        let (head, tail) = value.split_at_mut(4);
        head.copy_from_slice(&kind);
        for (place, word) in tail.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.put(&value)
    }

    fn put_words(&mut self, words: &[u32]) -> Option<u32> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    fn put_text(&mut self, text: &str) -> Option<u32> {
        let at = self.put(text.as_bytes())?;
        self.put_value([4, 0, 0, 0], [u32::try_from(text.len()).ok()?, at, 0])
    }

    fn put_integer(&mut self, integer: i64) -> Option<u32> {
        let mut number = [3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (place, byte) in number.iter_mut().skip(8).zip(integer.to_le_bytes()) {
            *place = byte;
        }
        self.put(&number)
    }

    fn put_number(&mut self, text: &str) -> Option<u32> {
        // What is written otherwise keeps its text.
        if let Some(integer) = text.parse::<i64>().ok().filter(|integer| integer.to_string() == text) {
            return self.put_integer(integer);
        }
        let at = self.put(text.as_bytes())?;
        let number = self.put_value([3, 2, 0, 0], [0, at, u32::try_from(text.len()).ok()?])?;
        // Whether the text is to be freed.
        self.put_words(&[0, 0])?;
        Some(number)
    }

    fn put_array(&mut self, items: &[u32]) -> Option<u32> {
        let mut slots = Vec::with_capacity(items.len().saturating_mul(2));
        for (index, item) in items.iter().enumerate() {
            if self.places.len() <= index {
                let place = self.put_integer(i64::try_from(index).ok()?)?;
                self.places.push(place);
            }
            slots.extend([*self.places.get(index)?, *item]);
        }
        let at = if slots.is_empty() { 0 } else { self.put_words(&slots)? };
        let length = u32::try_from(items.len()).ok()?;
        self.put_value([5, 0, 0, 0], [at, length, length])
    }

    /// Of equal keys the last counts. Keys in one bucket are in order.
    fn put_object(&mut self, mut members: Vec<Member<'a>>) -> Option<u32> {
        members.reverse();
        members.sort_by(|one, other| one.key.cmp(&other.key));
        members.dedup_by(|later, first| later.key == first.key);
        let mut count = MIN_BUCKETS;
        while members.len().saturating_mul(10) > count.saturating_mul(LOAD_TENTHS) {
            count = count.saturating_mul(2);
        }
        let mut buckets = vec![0; count];
        // From the last, so that each knows the one after it.
        for Member { key, address, value } in members.iter().rev() {
            let place = usize::try_from(hash(key.as_bytes())).ok()?.checked_rem(count)?;
            let bucket = buckets.get(place).copied()?;
            let element = self.put_words(&[*address, *value, bucket])?;
            *buckets.get_mut(place)? = element;
        }
        let (at, length) = (self.put_words(&buckets)?, u32::try_from(members.len()).ok()?);
        self.put_value([6, 0, 0, 0], [at, u32::try_from(count).ok()?, length])
    }

    // === Text ===

    fn blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Steps over a text when it comes next.
    fn eat(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<u32> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blanks();
        match self.rest.as_bytes().first()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => {
                let text = self.text()?;
                self.put_text(&text)
            }
            b't' => self.eat("true").and_then(|()| self.put(&[2, 1])),
            b'f' => self.eat("false").and_then(|()| self.put(&[2, 0])),
            b'n' => self.eat("null").and_then(|()| self.put(&[1, 0])),
            _ => {
                let length = self
                    .rest
                    .bytes()
                    .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
                let (number, rest) = self.rest.split_at_checked(length.count())?;
                self.rest = rest;
                if number.is_empty() { None } else { self.put_number(number) }
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<u32> {
        let mut items = Vec::new();
        self.eat("[")?;
        self.blanks();
        if self.eat("]").is_none() {
            loop {
                items.push(self.value(depth.saturating_add(1))?);
                self.blanks();
                if self.eat("]").is_some() {
                    break;
                }
                self.eat(",")?;
            }
        }
        self.put_array(&items)
    }

    fn object(&mut self, depth: usize) -> Option<u32> {
        let mut members = Vec::new();
        self.eat("{")?;
        self.blanks();
        if self.eat("}").is_none() {
            loop {
                self.blanks();
                let key = self.text()?;
                let address = self.put_text(&key)?;
                self.blanks();
                self.eat(":")?;
                let value = self.value(depth.saturating_add(1))?;
                members.push(Member { key, address, value });
                self.blanks();
                if self.eat("}").is_some() {
                    break;
                }
                self.eat(",")?;
            }
        }
        self.put_object(members)
    }

    /// A text; one with escapes is read by serde.
    fn text(&mut self) -> Option<std::borrow::Cow<'a, str>> {
        let inner = self.rest.strip_prefix('"')?;
        let end = inner.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
        if let Some(rest) = inner.get(end..)?.strip_prefix('"') {
            self.rest = rest;
            return inner.get(..end).map(Into::into);
        }
        let mut reader = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let text = reader.next()?.ok()?;
        self.rest = self.rest.get(reader.byte_offset()..)?;
        Some(text.into())
    }
}

/// The hash of a text (`open-policy-agent/opa:wasm/src/value.c`, `fnv1a32`, which is FNV-1).
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::guest::Guest;
    use super::*;
    use crate::rego::Value;

    /// What a module would read.
    fn read(json: &str) -> Option<Value> {
        let Document { bytes, value } = Document::write(json, 64)?;
        let memory = [vec![0; 64], bytes].concat();
        Some(Guest::new(&memory).value(value).unwrap())
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for json in [
            "null",
            "[]",
            "{}",
            r#"{"a":[1,-2,1.50,1e3,12345678901234567890,-0,true,false,null],"b":{"":"\u{e9}"}}"#,
            r#"[[[{"a":{"b":["x","x"]}}]],0,1,2,3,4,5,6,7,8,9]"#,
        ] {
            assert_eq!(read(json).unwrap().to_module_text(), json, "{json}");
        }
        let many: Vec<_> = (0..100).map(|number| format!("\"k{number:02}\":{number}")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(read(&many).unwrap().to_module_text(), many);
    }

    #[test]
    fn blanks_escapes_and_equal_keys_are_read_as_modules_do() {
        let json = " { \"a\" : [ 1 , \"\\ud83d\\ude00\\n\\\"\" ] , \"b\" : 1 , \"b\" : { } , \"\\u0061b\" : \"é\" } ";
        let wanted = "{\"a\":[1,\"😀\\n\\\"\"],\"ab\":\"é\",\"b\":{}}";
        assert_eq!(read(json).unwrap().to_module_text(), wanted);
    }

    #[test]
    fn what_is_no_json_is_left_to_the_module() {
        for json in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "tru",
            "1 2",
            "{a:1}",
            "\u{a0}1",
        ] {
            assert!(Document::write(json, 64).is_none(), "{json}");
        }
        assert!(Document::write(&"[".repeat(100_000), 64).is_none());
        assert!(Document::write("[1]", u32::MAX - 8).is_none());
    }
}
