//! Keys that stand in a mapping twice, which go-yaml refuses: OPA makes one of them before a document is decoded
//! (`open-policy-agent/opa:internal/yaml/yaml.go`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::cursor::unread;
use super::nodes::{Document, Node};
use super::resolve;
use crate::rego::failure::Failure;

/// Members of a mapping: keys and values.
type Pairs = Vec<(usize, usize)>;

/// Makes one of the keys of each mapping that are the same in JSON, and of its keys of merged mappings.
pub(super) fn distinct(document: &mut Document) -> Result<(), Failure> {
    // Lists that are put together are no mappings, so they need not be looked at.
    for place in 0..document.nodes.len() {
        let Some(Node::Mapping(pairs)) = document.nodes.get_mut(place) else { continue };
        let pairs = std::mem::take(pairs);
        let pairs = one_merge(document, pairs)?;
        let pairs = last_values(document, pairs)?;
        if let Some(node) = document.nodes.get_mut(place) {
            *node = Node::Mapping(pairs);
        }
    }
    Ok(())
}

/// Of several mappings that are merged, each under its own key, makes a list under the first one.
fn one_merge(document: &mut Document, pairs: Pairs) -> Result<Pairs, Failure> {
    let mut merged = Vec::new();
    for (key, value) in &pairs {
        if document.node(*key)?.is_merge() {
            match document.node(*value)? {
                Node::Sequence(items) => merged.extend(items),
                _ => merged.push(*value),
            }
        }
    }
    if merged.len() < 2 {
        return Ok(pairs);
    }
    document.nodes.push(Node::Sequence(merged));
    let mut list = Some(document.nodes.len().saturating_sub(1));
    let mut kept = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        if !document.node(key)?.is_merge() {
            kept.push((key, value));
        } else if let Some(list) = list.take() {
            kept.push((key, list));
        }
    }
    Ok(kept)
}

/// The last value of each key, where the key stands first.
fn last_values(document: &Document, pairs: Pairs) -> Result<Pairs, Failure> {
    let mut places = HashMap::new();
    let mut kept: Pairs = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let node = document.node(key)?;
        let Some(name) = name(node)? else {
            kept.push((key, value));
            continue;
        };
        let is_date = is_like_date(node);
        match places.entry(name) {
            Entry::Vacant(place) => {
                place.insert((kept.len(), is_date));
                kept.push((key, value));
            }
            // OPA looks at dates before it takes them for texts.
            Entry::Occupied(place) if is_date || place.get().1 => return unread("a date for a key twice"),
            Entry::Occupied(place) => {
                if let Some(pair) = kept.get_mut(place.get().0) {
                    pair.1 = value;
                }
            }
        }
    }
    Ok(kept)
}

/// The name that a key has in JSON.
fn name(key: &Node) -> Result<Option<String>, Failure> {
    match key {
        Node::Scalar(text, tag) if !key.is_merge() => match resolve::scalar(text, *tag) {
            Ok(scalar) => Ok(resolve::key(&scalar)),
            Err(Failure::Halt(reason)) => Err(Failure::Halt(reason)),
            Err(_) => Ok(None),
        },
        _ => Ok(None),
    }
}

fn is_like_date(key: &Node) -> bool {
    let Node::Scalar(text, _) = key else { return false };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits == 4 && text.as_bytes().get(4) == Some(&b'-')
}
