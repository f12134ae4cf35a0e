//! Documents of an image whose tokens are changed.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::archive::Bytes;
use super::super::document::Spelling;
use super::super::mutate::Edit;
use super::super::tokens::{Change, Document, Value};

/// Which document is changed, and how.
#[derive(Debug, Clone)]
pub struct TokenCase {
    pub changes: Vec<(Document, Change)>,
    /// The node ran the other image before.
    pub before: bool,
}

fn spelling() -> impl Strategy<Value = Spelling> {
    prop_oneof![
        2 => Just(Spelling::Same),
        3 => select(vec![Spelling::Lower, Spelling::Upper, Spelling::Swapped, Spelling::Folded, Spelling::Escaped, Spelling::Blank]),
    ]
}

const TEXTS: [&str; 16] = [
    "null",
    "true",
    "0",
    "-0",
    "2e0",
    "1E400",
    "18446744073709551616",
    "01",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[null]",
    "[\"/b/app.wasm\"]",
    "{\"os\":\"windows\"}",
    "{\"\":null}",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(Value::Others),
        4 => select(&TEXTS[..]).prop_map(Value::Text),
        1 => select(vec![1_usize, 120, 130]).prop_map(Value::Deep),
        1 => Just(Value::Float),
        1 => Just(Value::Quoted),
    ]
}

/// What stands in a text: escapes, halves of surrogates, characters that have to be escaped, and such as are not.
const INSIDE: [&str; 12] = [
    "\\u0000",
    "\\ud800",
    "\\ud83d\\ude00",
    "\\udc00\\ud800",
    "\\/",
    "\\x",
    "\\",
    "\u{0}",
    "\n",
    "\u{7f}",
    "\u{feff}",
    "\u{e9}",
];

const AROUND: [&[u8]; 10] =
    [b"\xef\xbb\xbf", b" \t\r\n", b"\x0c", b"\xc2\xa0", b"\0", b"{}", b"null", b"//", b",", b"\xff"];

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let around = || select(&AROUND[..]).prop_map(|bytes| Bytes(bytes.to_vec()));
    let bytes = prop_oneof![
        1 => around().prop_map(Edit::Prepend),
        1 => around().prop_map(Edit::Append),
        1 => (at(), around()).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        1 => Just(Edit::Double),
    ];
    prop_oneof![
        8 => (at(), any::<bool>(), spelling(), weighted(0.4, value()))
            .prop_map(|(of, before, spelling, value)| Change::Member { of, before, spelling, value }),
        4 => (at(), spelling()).prop_map(|(of, spelling)| Change::Key { of, spelling }),
        4 => (at(), value()).prop_map(|(of, value)| Change::Value { of, value }),
        3 => at().prop_map(Change::Without),
        1 => (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        1 => at().prop_map(Change::Remove),
        1 => at().prop_map(Change::Repeat),
        2 => (at(), select(&INSIDE[..])).prop_map(|(of, inside)| Change::Inside(of, inside)),
        6 => (at(), at()).prop_map(|(of, at)| Change::Escape(of, at)),
        2 => bytes.prop_map(Change::Bytes),
    ]
}

pub fn case() -> impl Strategy<Value = TokenCase> {
    let document = select(vec![Document::Index, Document::Manifest, Document::Config]);
    let count = prop_oneof![3 => Just(1_usize), 1 => Just(2)];
    let changes = count.prop_flat_map(move |count| vec((document.clone(), change()), count));
    (changes, any::<bool>()).prop_map(|(changes, before)| TokenCase { changes, before })
}
