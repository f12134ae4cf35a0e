//! The rule that fields of one name in the response are the same field (`vektah/gqlparser:validator/rules/overlapping_fields_can_be_merged.go`).
//! Which pairs are compared, and which not again, is as there.

use std::collections::{HashMap, HashSet};
use std::ptr;

use super::context::Context;
use super::schema::needed;
use super::tree::{Argument, Definition, Field, Kind, Literal, OBJECT, Selection, Spread, Type};
use crate::rego::call::VALUE_BYTES;
use crate::rego::failure::Failure;

/// Bytes that a field takes where it is collected: in its list, in a group of its own, and in the map of groups, each of which may
/// have twice the capacity that it needs.
const BYTES_OF_FIELD: usize = 8 * VALUE_BYTES;
/// Bytes that a spread takes there.
const BYTES_OF_SPREAD: usize = VALUE_BYTES;
/// Bytes that a pair of fragments takes that were compared, where the map of pairs grows.
const BYTES_OF_PAIR: usize = 4 * VALUE_BYTES;

/// A field, and the type that it is selected from.
#[derive(Clone, Copy)]
struct Found<'a> {
    field: &'a Field,
    parent: Option<&'a Definition>,
}

/// The fields of a selection by their names in the response, in the order in which these come first, and the fragments by name.
#[derive(Default)]
struct Collected<'a> {
    all: Vec<Found<'a>>,
    groups: Vec<Vec<Found<'a>>>,
    places: HashMap<&'a str, usize>,
    spreads: Vec<&'a Spread>,
    /// What it takes of the memory.
    bytes: usize,
}

impl<'a> Collected<'a> {
    fn of(
        context: &mut Context<'a, '_>,
        selections: &'a [Selection],
        parent: Option<&'a Definition>,
    ) -> Result<Self, Failure> {
        let mut collected = Self::default();
        collected.add(context, selections, parent)?;
        Ok(collected)
    }

    fn add(
        &mut self,
        context: &mut Context<'a, '_>,
        selections: &'a [Selection],
        parent: Option<&'a Definition>,
    ) -> Result<(), Failure> {
        for selection in selections {
            context.step()?;
            let bytes = match selection {
                Selection::Field(_) => BYTES_OF_FIELD,
                Selection::Spread(_) => BYTES_OF_SPREAD,
                Selection::Inline(_) => 0,
            };
            context.hold(bytes)?;
            self.bytes = self.bytes.saturating_add(bytes);
            match selection {
                Selection::Field(field) => self.push(Found { field, parent }),
                Selection::Spread(spread) => self.spreads.push(spread),
                Selection::Inline(inline) => {
                    let inner = if inline.condition.is_empty() {
                        parent
                    } else {
                        context.schema.definition(&inline.condition)
                    };
                    context.within(|context| self.add(context, &inline.selections, inner))?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, found: Found<'a>) {
        self.all.push(found);
        let place = *self.places.entry(found.field.response_name()).or_insert(self.groups.len());
        match self.groups.get_mut(place) {
            Some(group) => group.push(found),
            None => self.groups.push(vec![found]),
        }
    }

    fn group(&self, response_name: &str) -> &[Found<'a>] {
        let group = self.places.get(response_name).and_then(|place| self.groups.get(*place));
        group.map_or(&[], Vec::as_slice)
    }

    /// Whether they are the same fields of the document.
    fn is(&self, other: &Self) -> bool {
        self.all.len() == other.all.len()
            && self.all.iter().zip(&other.all).all(|(a, b)| ptr::eq(a.field, b.field))
    }
}

/// What was compared.
#[derive(Default)]
pub(super) struct Overlap<'a> {
    /// Pairs of fragments, and whether their fields were known to be of different objects.
    pairs: HashMap<(&'a str, &'a str), bool>,
    /// Fragments that were compared with the fields at hand.
    fragments: HashSet<&'a str>,
}

impl<'a> Overlap<'a> {
    /// Compares what is selected at one place.
    pub fn check(
        &mut self,
        context: &mut Context<'a, '_>,
        selections: &'a [Selection],
        parent: Option<&'a Definition>,
    ) -> Result<(), Failure> {
        let collected = Collected::of(context, selections, parent)?;
        let mut is_wrong = false;
        for group in &collected.groups {
            for (place, first) in group.iter().enumerate() {
                for second in group.iter().skip(place.saturating_add(1)) {
                    is_wrong |= self.conflict(context, false, *first, *second)?;
                }
            }
        }
        self.fragments = HashSet::new();
        for (place, first) in collected.spreads.iter().enumerate() {
            is_wrong |= self.with_fragment(context, false, &collected, first)?;
            for second in collected.spreads.iter().skip(place.saturating_add(1)) {
                is_wrong |= self.fragments(context, false, first, second)?;
            }
        }
        context.release(collected.bytes);
        if is_wrong {
            context.wrong(|| "fields of one name in the response conflict".into());
        }
        Ok(())
    }

    /// Fields with those of a fragment, and of the fragments in it.
    fn with_fragment(
        &mut self,
        context: &mut Context<'a, '_>,
        is_exclusive: bool,
        fields: &Collected<'a>,
        spread: &'a Spread,
    ) -> Result<bool, Failure> {
        context.step()?;
        if !self.fragments.insert(&spread.name) {
            return Ok(false);
        }
        let Some(other) = Self::fragment(context, spread)? else { return Ok(false) };
        context.call.take(fields.all.len())?;
        if fields.is(&other) {
            context.release(other.bytes);
            return Ok(false);
        }
        let mut is_wrong = self.between(context, is_exclusive, fields, &other)?;
        for inner in other.spreads {
            if inner.name != spread.name {
                is_wrong |=
                    context.within(|context| self.with_fragment(context, is_exclusive, fields, inner))?;
            }
        }
        context.release(other.bytes);
        Ok(is_wrong)
    }

    fn fragment(context: &mut Context<'a, '_>, spread: &'a Spread) -> Result<Option<Collected<'a>>, Failure> {
        let Some(fragment) = context.fragment(&spread.name) else { return Ok(None) };
        let parent = context.schema.definition(&fragment.condition);
        Collected::of(context, &fragment.selections, parent).map(Some)
    }

    /// Two fragments, and those in either of them with the other one.
    fn fragments(
        &mut self,
        context: &mut Context<'a, '_>,
        is_exclusive: bool,
        first: &'a Spread,
        second: &'a Spread,
    ) -> Result<bool, Failure> {
        context.step()?;
        let (a, b) = (first.name.as_str(), second.name.as_str());
        if a == b {
            return Ok(false);
        }
        let key = if a < b { (a, b) } else { (b, a) };
        if self.pairs.get(&key).is_some_and(|known| is_exclusive || !known) {
            return Ok(false);
        }
        if self.pairs.insert(key, is_exclusive).is_none() {
            context.hold(BYTES_OF_PAIR)?;
        }
        if context.fragment(a).is_none() || context.fragment(b).is_none() {
            return Ok(false);
        }
        let (Some(own), Some(other)) = (Self::fragment(context, first)?, Self::fragment(context, second)?)
        else {
            return Ok(false);
        };
        let mut is_wrong = self.between(context, is_exclusive, &own, &other)?;
        for inner in other.spreads {
            is_wrong |= context.within(|context| self.fragments(context, is_exclusive, first, inner))?;
        }
        for inner in own.spreads {
            is_wrong |= context.within(|context| self.fragments(context, is_exclusive, inner, second))?;
        }
        context.release(own.bytes.saturating_add(other.bytes));
        Ok(is_wrong)
    }

    fn between(
        &mut self,
        context: &mut Context<'a, '_>,
        is_exclusive: bool,
        own: &Collected<'a>,
        other: &Collected<'a>,
    ) -> Result<bool, Failure> {
        let mut is_wrong = false;
        for group in &own.groups {
            context.step()?;
            let Some(name) = group.first().map(|found| found.field.response_name()) else { continue };
            for first in group {
                for second in other.group(name) {
                    is_wrong |= self.conflict(context, is_exclusive, *first, *second)?;
                }
            }
        }
        Ok(is_wrong)
    }

    /// Whether two fields conflict: in what they are, their arguments, their types, or what is selected of them.
    fn conflict(
        &mut self,
        context: &mut Context<'a, '_>,
        is_exclusive: bool,
        first: Found<'a>,
        second: Found<'a>,
    ) -> Result<bool, Failure> {
        context.step()?;
        let (Some(own), Some(other)) = (first.parent, second.parent) else { return Ok(false) };
        let definitions =
            (context.field(first.field, first.parent)?, context.field(second.field, second.parent)?);
        let is_exclusive = is_exclusive
            || own.name != other.name
                && own.is(OBJECT)
                && other.is(OBJECT)
                && definitions.0.is_some()
                && definitions.1.is_some();
        if !is_exclusive
            && (first.field.name != second.field.name
                || !same_arguments(context, &first.field.arguments, &second.field.arguments)?)
        {
            return Ok(true);
        }
        let mut parents = (None, None);
        if let (Some(own), Some(other)) = definitions {
            let (of, other_of) = (needed(own.of.as_ref(), "type")?, needed(other.of.as_ref(), "type")?);
            if types_conflict(context, of, other_of)? {
                return Ok(true);
            }
        }
        if let Some(own) = definitions.0 {
            parents.0 = context.definition_of(own)?;
        }
        if let Some(other) = definitions.1 {
            parents.1 = context.definition_of(other)?;
        }
        context.within(|context| {
            let own = Collected::of(context, &first.field.selections, parents.0)?;
            let other = Collected::of(context, &second.field.selections, parents.1)?;
            let is_wrong = self.selections(context, is_exclusive, &own, &other)?;
            context.release(own.bytes.saturating_add(other.bytes));
            Ok(is_wrong)
        })
    }

    /// What is selected of two fields.
    fn selections(
        &mut self,
        context: &mut Context<'a, '_>,
        is_exclusive: bool,
        own: &Collected<'a>,
        other: &Collected<'a>,
    ) -> Result<bool, Failure> {
        let mut is_wrong = self.between(context, is_exclusive, own, other)?;
        for (fields, spreads) in [(own, &other.spreads), (other, &own.spreads)] {
            for spread in spreads {
                // A set that is emptied keeps its capacity, and to empty that takes time.
                self.fragments = HashSet::new();
                is_wrong |= self.with_fragment(context, is_exclusive, fields, spread)?;
            }
        }
        for first in &own.spreads {
            for second in &other.spreads {
                is_wrong |= self.fragments(context, is_exclusive, first, second)?;
            }
        }
        Ok(is_wrong)
    }
}

fn same_arguments(
    context: &mut Context<'_, '_>,
    own: &[Argument],
    other: &[Argument],
) -> Result<bool, Failure> {
    if own.len() != other.len() {
        return Ok(false);
    }
    for first in own {
        let mut is_matched = false;
        for second in other {
            context.step()?;
            is_matched = is_matched
                || first.name == second.name
                    && same_value(
                        context,
                        needed(first.value.as_ref(), "value")?,
                        needed(second.value.as_ref(), "value")?,
                    )?;
        }
        if !is_matched {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The fields of an object may be in any order.
fn same_value(context: &mut Context<'_, '_>, own: &Literal, other: &Literal) -> Result<bool, Failure> {
    let bytes = own.raw.len().min(other.raw.len());
    context.call.take(own.children.len().saturating_add(bytes / VALUE_BYTES).saturating_add(1))?;
    if own.kind != other.kind || own.raw != other.raw || own.children.len() != other.children.len() {
        return Ok(false);
    }
    let (mut own_children, mut other_children): (Vec<_>, Vec<_>) =
        (own.children.iter().collect(), other.children.iter().collect());
    if own.kind == Kind::Object {
        own_children.sort_by(|a, b| a.name.cmp(&b.name));
        other_children.sort_by(|a, b| a.name.cmp(&b.name));
    }
    for (first, second) in own_children.into_iter().zip(other_children) {
        let values = (needed(first.value.as_ref(), "value")?, needed(second.value.as_ref(), "value")?);
        if first.name != second.name || !same_value(context, values.0, values.1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two types can be told apart: by their lists, by null, or by what stands at their end.
fn types_conflict(context: &Context<'_, '_>, own: &Type, other: &Type) -> Result<bool, Failure> {
    let (mut own, mut other) = (own, other);
    loop {
        match (&own.element, &other.element) {
            (Some(inner), Some(other_inner)) => (own, other) = (inner, other_inner),
            (None, None) => break,
            _ => return Ok(true),
        }
    }
    let definition = |of: &Type| needed(context.schema.definition(&of.name), "definition of a type");
    if own.non_null != other.non_null {
        return Ok(true);
    }
    let (own, other) = (definition(own)?, definition(other)?);
    Ok(own.is_leaf() && other.is_leaf() && own.name != other.name)
}
