//! A schema as it is compared with documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::bytes::Regex;

use crate::rego::number::Ratio;

/// Schemas and values within one another: each takes a part of the stack.
pub(super) const MAX_DEPTH: usize = 64;

/// A schema of schemas, which name each other by their places.
pub(super) struct Schema {
    pub parts: Vec<Part>,
}

/// What may follow the properties or items that are named.
#[derive(Default)]
pub(super) enum More {
    #[default]
    Allowed,
    Refused,
    Of(usize),
}

/// What the presence of a property asks for.
pub(super) enum Dependency {
    Names(Vec<String>),
    Of(usize),
}

/// The schemas of items.
#[derive(Default)]
pub(super) enum Items {
    #[default]
    Any,
    All(usize),
    Each(Vec<usize>),
}

/// The bounds of a number.
#[derive(Default)]
pub(super) struct Bounds {
    pub multiple_of: Option<Ratio>,
    pub minimum: Option<Ratio>,
    pub above: Option<Ratio>,
    pub maximum: Option<Ratio>,
    pub below: Option<Ratio>,
}

/// Least and most of something.
#[derive(Default)]
pub(super) struct Count {
    pub least: Option<u64>,
    pub most: Option<u64>,
}

/// One schema.
#[derive(Default)]
pub(super) struct Part {
    /// It says yes or no to everything.
    pub pass: Option<bool>,
    /// It is another one, and nothing else counts.
    pub reference: Option<usize>,
    pub types: Vec<String>,
    pub properties: BTreeMap<String, usize>,
    pub more_properties: More,
    pub patterns: Vec<(Arc<Regex>, usize)>,
    pub names: Option<usize>,
    pub dependencies: BTreeMap<String, Dependency>,
    pub property_count: Count,
    pub required: Vec<String>,
    pub items: Items,
    pub more_items: More,
    pub item_count: Count,
    pub are_unique: bool,
    pub contains: Option<usize>,
    pub bounds: Bounds,
    pub length: Count,
    pub pattern: Option<(String, Arc<Regex>)>,
    pub format: Option<String>,
    pub constant: Option<String>,
    pub choices: Option<Vec<String>>,
    pub one_of: Vec<usize>,
    pub any_of: Vec<usize>,
    pub all_of: Vec<usize>,
    pub not: Option<usize>,
    pub condition: Option<usize>,
    pub then: Option<usize>,
    pub otherwise: Option<usize>,
}
