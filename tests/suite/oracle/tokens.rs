//! JSON documents whose tokens are changed without regard for what they mean.

use proptest::sample::Index;

use super::document::Spelling;
use super::mutate::Edit;

/// One of the documents of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    Index,
    Manifest,
    Config,
}

/// One change of a document. Tokens, members and texts are counted, so that a change means something in every document.
#[derive(Debug, Clone)]
pub enum Change {
    /// A member once more, in front of an own member or behind all tokens up to it, under a key that is written otherwise.
    Member {
        of: Index,
        before: bool,
        spelling: Spelling,
        value: Option<Value>,
    },
    /// A key that is written otherwise.
    Key {
        of: Index,
        spelling: Spelling,
    },
    /// Another value.
    Value {
        of: Index,
        value: Value,
    },
    /// A member is left out.
    Without(Index),
    /// Two tokens in each other's place.
    Swap(Index, Index),
    Remove(Index),
    /// A token once more.
    Repeat(Index),
    /// Bytes inside of a text, before the quote that ends it.
    Inside(Index, &'static str),
    /// A character of a text as an escape.
    Escape(Index, Index),
    /// Any bytes.
    Bytes(Edit),
}

/// What stands under a key.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    Text(&'static str),
    /// What another document of the same kind has there.
    Others,
    /// Its own value, after so many opening brackets.
    Deep(usize),
    /// Its own value, so written that some readers take it for the same.
    Float,
    Quoted,
}

/// A part of a text, from one byte up to another.
type Span = (usize, usize);

/// The tokens of a valid document.
fn tokens(text: &[u8]) -> Vec<Span> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let start = at;
        at += match text[at] {
            b'"' => text_length(&text[at..]),
            byte if byte.is_ascii_whitespace() => 1,
            byte if b"{}[],:".contains(&byte) => 1,
            _ => text[at..].iter().position(|byte| b"{}[],: \n\"".contains(byte)).unwrap_or(text.len() - at),
        };
        if !text[start].is_ascii_whitespace() {
            found.push((start, at));
        }
    }
    found
}

/// With both quotes.
fn text_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let ends = !escaped && *byte == b'"';
        escaped = !escaped && *byte == b'\\';
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Key and value of each member of each object.
fn members(text: &[u8]) -> Vec<(Span, Span)> {
    let tokens = tokens(text);
    let colons = (1..tokens.len()).filter(|at| text[tokens[*at].0] == b':' && at + 1 < tokens.len());
    colons
        .map(|colon| (tokens[colon - 1], (tokens[colon + 1].0, end_of_value(text, &tokens[colon + 1..]))))
        .collect()
}

fn end_of_value(text: &[u8], tokens: &[Span]) -> usize {
    let mut depth = 0_usize;
    for (start, end) in tokens {
        match text[*start] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return *end;
        }
    }
    text.len()
}

fn nth<T: Copy>(index: Index, all: &[T]) -> Option<T> {
    (!all.is_empty()).then(|| all[index.index(all.len())])
}

impl Change {
    /// Changes a document; the other one is of the same kind.
    pub fn apply(&self, text: &mut Vec<u8>, other: &[u8]) {
        if let Self::Bytes(edit) = self {
            return edit.apply(text);
        }
        for (span, new) in self.replaced(text, other) {
            text.splice(span.0..span.1, new);
        }
    }

    /// What is replaced, the last one first.
    fn replaced(&self, text: &[u8], other: &[u8]) -> Vec<(Span, Vec<u8>)> {
        let member = |index: &Index| nth(*index, &members(text));
        let token = |index: &Index| nth(*index, &tokens(text));
        let part = |span: Span| text[span.0..span.1].to_vec();
        let one = |change: Option<(Span, Vec<u8>)>| change.into_iter().collect();
        match self {
            Self::Member { of, before, spelling, value } => one(member(of).map(|(key, old)| {
                let value = value.map_or_else(|| part(old), |value| value.write(text, (key, old), other));
                let twin = [&spelled(&part(key), *spelling)[..], b":", &value].concat();
                let (at, twin) = if *before {
                    (key.0, [&twin, &b","[..]].concat())
                } else {
                    (old.1, [b",", &twin[..]].concat())
                };
                ((at, at), twin)
            })),
            Self::Key { of, spelling } => {
                one(member(of).map(|(key, _)| (key, spelled(&part(key), *spelling))))
            }
            Self::Value { of, value } => {
                one(member(of).map(|(key, old)| (old, value.write(text, (key, old), other))))
            }
            Self::Without(of) => one(member(of).map(|(key, old)| {
                let comma = text[old.1..].first() == Some(&b',');
                ((key.0, old.1 + usize::from(comma)), Vec::new())
            })),
            Self::Swap(one, other) => match (token(one), token(other)) {
                (Some(one), Some(other)) if one != other => {
                    let (low, high) = (one.min(other), one.max(other));
                    vec![(high, part(low)), (low, part(high))]
                }
                _ => Vec::new(),
            },
            Self::Remove(of) => one(token(of).map(|token| (token, Vec::new()))),
            Self::Repeat(of) => one(token(of).map(|token| ((token.1, token.1), part(token)))),
            Self::Inside(of, new) => {
                one(quoted(*of, text).map(|text| ((text.1 - 1, text.1 - 1), new.as_bytes().to_vec())))
            }
            Self::Escape(of, at) => one(quoted(*of, text).filter(|text| text.1 - text.0 > 2).map(|span| {
                let at = span.0 + 1 + at.index(span.1 - span.0 - 2);
                ((at, at + 1), format!("\\u{:04X}", text[at]).into_bytes())
            })),
            Self::Bytes(_) => Vec::new(),
        }
    }
}

/// A text with its quotes.
fn quoted(index: Index, text: &[u8]) -> Option<Span> {
    let mut texts = tokens(text);
    texts.retain(|(start, end)| text[*start] == b'"' && end - start > 1);
    nth(index, &texts)
}

fn spelled(key: &[u8], spelling: Spelling) -> Vec<u8> {
    let name = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix('"')?.strip_suffix('"'));
    let name = name.filter(|name| name.starts_with(|first: char| first.is_ascii()));
    name.map_or_else(|| key.to_vec(), |name| format!("\"{}\"", spelling.apply(name)).into_bytes())
}

impl Value {
    fn write(self, text: &[u8], (key, old): (Span, Span), other: &[u8]) -> Vec<u8> {
        let own = &text[old.0..old.1];
        match self {
            Self::Text(value) => value.as_bytes().to_vec(),
            Self::Deep(depth) => [&b"[".repeat(depth)[..], own, &b"]".repeat(depth)].concat(),
            Self::Float => [own, b".0"].concat(),
            Self::Quoted => [b"\"", own, b"\""].concat(),
            Self::Others => {
                let own_key = &text[key.0..key.1];
                let there = members(other).into_iter().find(|(key, _)| other[key.0..key.1] == *own_key);
                there.map_or_else(|| own.to_vec(), |(_, value)| other[value.0..value.1].to_vec())
            }
        }
    }
}
