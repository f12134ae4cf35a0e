//! The value of a document of YAML, as go-yaml decodes it and OPA makes JSON of it (`go.yaml.in/yaml/v3:decode.go`,
//! `open-policy-agent/opa:internal/yaml/yaml.go`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::cursor::unread;
use super::marks::Tag;
use super::nodes::{Document, MAX_DEPTH, Node};
use super::resolve::{self, Scalar};
use crate::rego::call::{Call, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::number::Number;
use crate::rego::value::{Object, Value};

/// What aliases may bring of all steps: up to so many steps, nearly all of them.
const FEW_STEPS: u32 = 400_000;
/// From so many steps on, a tenth.
const MANY_STEPS: u32 = 4_000_000;

/// A value, or why it is none: JSON lacks it, which is an error only where it is not replaced.
type Decoded = Result<Value, &'static str>;

/// A key as Go's maps tell them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Null,
    Bool(bool),
    Int(i128),
    /// The bits of a float that is equal to no other one.
    Float(u64),
    Text(String),
}

/// A mapping while its members are read.
#[derive(Debug)]
struct Members {
    /// Whether all keys of its own are texts; then merged ones are texts too, as they are written.
    has_texts: bool,
    members: BTreeMap<Key, Decoded>,
}

pub(super) fn decode(call: &mut Call, document: &Document) -> Result<Value, Failure> {
    let Some(root) = document.root else { return Ok(Value::Null) };
    let mut decoder = Decoder {
        document,
        call,
        // The document itself is the first one.
        steps: 1,
        steps_in_aliases: 0,
        bytes: 0,
        aliases: HashSet::new(),
        merged: None,
    };
    let decoded = decoder.value(root, 0)?;
    decoded.or_else(|reason| Failure::error(format!("yaml: {reason}")))
}

struct Decoder<'a, 'c> {
    document: &'a Document,
    call: &'c mut Call,
    steps: u32,
    steps_in_aliases: u32,
    /// Bytes of what was decoded.
    bytes: usize,
    /// The aliases that are being decoded.
    aliases: HashSet<usize>,
    /// While members are merged, the keys that are there.
    merged: Option<BTreeSet<Key>>,
}

fn wrong<T>(what: &str) -> Result<T, Failure> {
    Failure::error(format!("yaml: {what}"))
}

/// What of so many steps aliases may bring.
fn allowed(steps: u32) -> f64 {
    if steps <= FEW_STEPS {
        return 0.99;
    }
    if steps >= MANY_STEPS {
        return 0.10;
    }
    0.99 - 0.89
        * (f64::from(steps.saturating_sub(FEW_STEPS)) / f64::from(MANY_STEPS.saturating_sub(FEW_STEPS)))
}

impl<'a> Decoder<'a, '_> {
    fn step(&mut self, bytes: usize) -> Result<(), Failure> {
        self.steps = self.steps.saturating_add(1);
        if !self.aliases.is_empty() {
            self.steps_in_aliases = self.steps_in_aliases.saturating_add(1);
        }
        let is_many = self.steps_in_aliases > 100 && self.steps > 1000;
        if is_many && f64::from(self.steps_in_aliases) / f64::from(self.steps) > allowed(self.steps) {
            return wrong("aliases bring too many values");
        }
        // An alias brings a long text again.
        self.call.take((bytes / VALUE_BYTES).saturating_add(1))?;
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(VALUE_BYTES);
        self.call.fits(self.bytes)
    }

    /// Does something inside of an alias.
    fn inside<T>(
        &mut self,
        alias: usize,
        what: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.step(0)?;
        if !self.aliases.insert(alias) {
            return wrong("an anchor contains itself");
        }
        let found = what(self);
        self.aliases.remove(&alias);
        found
    }

    fn value(&mut self, node: usize, depth: usize) -> Result<Decoded, Failure> {
        if depth > MAX_DEPTH {
            return unread("more than 128 values within one another");
        }
        let depth = depth.saturating_add(1);
        match self.document.node(node)? {
            Node::Alias(_, target) => self.inside(node, |decoder| decoder.value(*target, depth)),
            Node::Scalar(text, tag) => {
                self.step(text.len())?;
                Ok(match resolve::scalar(text, *tag)? {
                    Scalar::Null => Ok(Value::Null),
                    Scalar::Bool(is_true) => Ok(Value::Bool(is_true)),
                    Scalar::Int(integer) => Ok(Value::Number(Number::from_text(&integer.to_string()))),
                    Scalar::Float(float) => {
                        resolve::json_number(float).map(Value::Number).ok_or("JSON has no such number")
                    }
                    Scalar::Text(text) => Ok(Value::String(text)),
                })
            }
            Node::Sequence(items) => {
                self.step(0)?;
                let mut found = Ok(Vec::new());
                for item in items {
                    let item = self.value(*item, depth)?;
                    found = found.and_then(|mut items: Vec<Value>| {
                        items.push(item?);
                        Ok(items)
                    });
                }
                Ok(found.map(Value::Array))
            }
            Node::Mapping(pairs) => {
                self.step(0)?;
                let mut members = Members { has_texts: self.has_texts(pairs)?, members: BTreeMap::new() };
                self.fill(pairs, &mut members, depth)?;
                object(members)
            }
        }
    }

    fn has_texts(&self, pairs: &[(usize, usize)]) -> Result<bool, Failure> {
        for (key, _) in pairs {
            if !matches!(self.document.target(*key)?, Node::Scalar(_, Tag::Text | Tag::Merge)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A key, in a mapping that may have texts alone; `None` for a `null` there, which is left out.
    fn key(&mut self, node: usize, are_texts: bool) -> Result<Option<Key>, Failure> {
        match self.document.node(node)? {
            Node::Alias(_, target) => {
                // An alias of an alias there is not.
                self.inside(node, |decoder| match decoder.document.node(*target)? {
                    Node::Scalar(text, tag) => decoder.scalar_key(text, *tag, are_texts),
                    _ => wrong("a key that is a list or a mapping"),
                })
            }
            Node::Scalar(text, tag) => self.scalar_key(text, *tag, are_texts),
            _ => wrong("a key that is a list or a mapping"),
        }
    }

    fn scalar_key(&mut self, text: &str, tag: Tag, are_texts: bool) -> Result<Option<Key>, Failure> {
        self.step(text.len())?;
        Ok(Some(match resolve::scalar(text, tag)? {
            Scalar::Text(text) => Key::Text(text),
            Scalar::Null if are_texts => return Ok(None),
            _ if are_texts => Key::Text(text.into()),
            Scalar::Null => Key::Null,
            Scalar::Bool(is_true) => Key::Bool(is_true),
            Scalar::Int(integer) => Key::Int(integer),
            Scalar::Float(float) if float.is_nan() || float.to_bits() == (-0.0_f64).to_bits() => {
                return unread("such a number for a key");
            }
            Scalar::Float(float) => Key::Float(float.to_bits()),
        }))
    }

    /// Decodes members into a mapping: its own, or merged ones.
    fn fill(&mut self, pairs: &'a [(usize, usize)], into: &mut Members, depth: usize) -> Result<(), Failure> {
        self.are_distinct(pairs)?;
        let mut keys = self.merged.take();
        let mut merge = None;
        for (key, value) in pairs {
            if self.document.node(*key)?.is_merge() {
                merge = Some(*value);
                continue;
            }
            let Some(key) = self.key(*key, into.has_texts)? else { continue };
            if keys.as_mut().is_some_and(|keys| !keys.insert(key.clone())) {
                continue;
            }
            let value = self.value(*value, depth)?;
            into.members.insert(key, value);
        }
        self.merged = keys;
        merge.map_or(Ok(()), |merge| self.merge(pairs, merge, into, depth))
    }

    /// Keys of one text are an error where they were not made one before.
    fn are_distinct(&self, pairs: &'a [(usize, usize)]) -> Result<(), Failure> {
        let mut found = HashSet::new();
        for (key, _) in pairs {
            let is_new = found.insert(match self.document.node(*key)? {
                Node::Scalar(text, _) => (0, text.as_str()),
                Node::Alias(name, _) => (1, name.as_str()),
                Node::Sequence(_) => (2, ""),
                Node::Mapping(_) => (3, ""),
            });
            if !is_new {
                return wrong("a key twice");
            }
        }
        Ok(())
    }

    /// Takes over the members of one mapping, or of several, of which the first counts.
    fn merge(
        &mut self,
        pairs: &'a [(usize, usize)],
        merge: usize,
        into: &mut Members,
        depth: usize,
    ) -> Result<(), Failure> {
        let is_outermost = self.merged.is_none();
        if is_outermost {
            let mut keys = BTreeSet::new();
            for (key, _) in pairs {
                keys.extend(self.key(*key, false)?);
            }
            self.merged = Some(keys);
        }
        match self.document.node(merge)? {
            Node::Sequence(items) => {
                for item in items {
                    self.merge_one(*item, into, depth)?;
                }
            }
            _ => self.merge_one(merge, into, depth)?,
        }
        if is_outermost {
            self.merged = None;
        }
        Ok(())
    }

    fn merge_one(&mut self, node: usize, into: &mut Members, depth: usize) -> Result<(), Failure> {
        if depth > MAX_DEPTH {
            return unread("more than 128 values within one another");
        }
        let depth = depth.saturating_add(1);
        let Node::Mapping(pairs) = self.document.target(node)? else {
            return wrong("what is merged is no mapping");
        };
        let mut fill = |decoder: &mut Self| {
            decoder.step(0)?;
            decoder.fill(pairs, into, depth)
        };
        match self.document.node(node)? {
            Node::Alias(..) => self.inside(node, fill),
            _ => fill(self),
        }
    }
}

/// The object that a mapping is in JSON.
fn object(members: Members) -> Result<Decoded, Failure> {
    let mut found = Object::new();
    let mut error = None;
    for (key, value) in members.members {
        let name = match key {
            Key::Null => None,
            Key::Bool(is_true) => Some(is_true.to_string()),
            Key::Int(integer) => Some(integer.to_string()),
            Key::Float(bits) => resolve::key(&Scalar::Float(f64::from_bits(bits))),
            Key::Text(text) => Some(text),
        };
        let Some(name) = name else {
            error = Some("a key that is null");
            continue;
        };
        match (found.entry(Value::String(name)), value) {
            // Which of them counts is random in OPA.
            (Entry::Occupied(_), _) => return unread("two keys of one name"),
            (Entry::Vacant(place), Ok(value)) => {
                place.insert(value);
            }
            (Entry::Vacant(place), Err(reason)) => {
                place.insert(Value::Null);
                error = Some(reason);
            }
        }
    }
    Ok(error.map_or(Ok(Value::Object(found)), Err))
}
