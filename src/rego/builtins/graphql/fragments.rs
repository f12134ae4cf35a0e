//! The rules that follow fragments through a query (`vektah/gqlparser:validator/rules`).

use std::collections::{HashMap, HashSet};

use super::context::Context;
use super::tree::{Definition, Field, INTERFACE, OBJECT, Operation, Selection, Spread, UNION};
use crate::rego::failure::Failure;

/// Lists of the introspection that may be within one another.
const MAX_LISTS: usize = 3;

/// Whether an object can be of two types at once: where neither is known, nothing is said.
pub(super) fn can_be_both(
    context: &mut Context<'_, '_>,
    parent: Option<&Definition>,
    condition: &str,
) -> Result<bool, Failure> {
    let schema = context.schema;
    let Some(parent) = parent else { return Ok(true) };
    let own = [schema.place(&parent.name)];
    let parents = match parent.kind.as_str() {
        OBJECT => own.as_slice(),
        INTERFACE | UNION => schema.possible(&parent.name),
        _ => return Ok(true),
    };
    if !schema.definition(condition).is_some_and(Definition::is_composite) {
        return Ok(true);
    }
    let types = schema.possible(condition);
    context.call.take(parents.len().saturating_add(types.len()))?;
    let parents: HashSet<_> = parents.iter().collect();
    Ok(types.iter().any(|place| parents.contains(place)))
}

/// Fragments must not lead back to themselves.
pub(super) fn check_circles(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut inner: HashMap<&str, Vec<&str>> = HashMap::new();
    for fragment in &context.query.fragments {
        let mut found = Vec::new();
        let mut left = vec![&fragment.selections];
        while let Some(selections) = left.pop() {
            for selection in selections {
                context.step()?;
                match selection {
                    Selection::Spread(spread) => found.push(spread.name.as_str()),
                    Selection::Field(field) => left.push(&field.selections),
                    Selection::Inline(inline) => left.push(&inline.selections),
                }
            }
        }
        inner.entry(&fragment.name).or_insert(found);
    }
    let (mut visited, mut above) = (HashSet::new(), HashSet::new());
    for start in &context.query.fragments {
        let mut path = vec![(start.name.as_str(), 0)];
        while let Some((name, place)) = path.pop() {
            if place == 0 && !visited.insert(name) {
                continue;
            }
            above.insert(name);
            let Some(next) = inner.get(name).and_then(|names| names.get(place)) else {
                above.remove(name);
                continue;
            };
            path.push((name, place.saturating_add(1)));
            if above.contains(next) {
                context.wrong(|| format!("fragment `{next}` is spread within itself"));
            } else {
                path.push((next, 0));
            }
        }
    }
    Ok(())
}

/// A subscription selects one field, and none of the introspection.
pub(super) fn check_subscription<'a>(
    context: &mut Context<'a, '_>,
    operation: &'a Operation,
) -> Result<(), Failure> {
    let (mut names, mut seen) = (HashSet::new(), HashSet::new());
    top_fields(context, &operation.selections, &mut names, &mut seen)?;
    if names.len() > 1 {
        context.wrong(|| "a subscription must select only one top level field".into());
    }
    if names.iter().any(|name| name.starts_with("__")) {
        context.wrong(|| "a subscription must not select an introspection top level field".into());
    }
    Ok(())
}

fn top_fields<'a>(
    context: &mut Context<'a, '_>,
    selections: &'a [Selection],
    names: &mut HashSet<&'a str>,
    seen: &mut HashSet<&'a str>,
) -> Result<(), Failure> {
    for selection in selections {
        context.step()?;
        match selection {
            Selection::Field(field) => {
                names.insert(&field.name);
            }
            Selection::Inline(inline) => {
                context.within(|context| top_fields(context, &inline.selections, names, seen))?;
            }
            Selection::Spread(spread) => {
                // That it is unknown is said elsewhere.
                let Some(fragment) = context.fragment(&spread.name) else { return Ok(()) };
                if seen.insert(&spread.name) {
                    context.within(|context| top_fields(context, &fragment.selections, names, seen))?;
                }
            }
        }
    }
    Ok(())
}

/// A field that asks for the schema must not ask for lists of lists without end.
pub(super) fn check_introspection<'a>(
    context: &mut Context<'a, '_>,
    field: &'a Field,
) -> Result<(), Failure> {
    let mut above = HashSet::new();
    if field.name.starts_with("__")
        && matches!(field.name.as_str(), "__schema" | "__type")
        && is_deep_field(context, field, &mut above, 0)?
    {
        context.wrong(|| "maximum introspection depth exceeded".into());
    }
    Ok(())
}

fn is_deep_field<'a>(
    context: &mut Context<'a, '_>,
    field: &'a Field,
    above: &mut HashSet<&'a str>,
    lists: usize,
) -> Result<bool, Failure> {
    let is_list = matches!(field.name.as_str(), "fields" | "interfaces" | "possibleTypes" | "inputFields");
    let lists = lists.saturating_add(usize::from(is_list));
    if is_list && lists >= MAX_LISTS {
        return Ok(true);
    }
    context.within(|context| is_deep(context, &field.selections, above, lists))
}

fn is_deep<'a>(
    context: &mut Context<'a, '_>,
    selections: &'a [Selection],
    above: &mut HashSet<&'a str>,
    lists: usize,
) -> Result<bool, Failure> {
    for selection in selections {
        context.step()?;
        let is_deep = match selection {
            Selection::Field(field) => is_deep_field(context, field, above, lists)?,
            Selection::Spread(spread) => is_deep_spread(context, spread, above, lists)?,
            Selection::Inline(inline) => {
                context.within(|context| is_deep(context, &inline.selections, above, lists))?
            }
        };
        if is_deep {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_deep_spread<'a>(
    context: &mut Context<'a, '_>,
    spread: &'a Spread,
    above: &mut HashSet<&'a str>,
    lists: usize,
) -> Result<bool, Failure> {
    let Some(fragment) = context.fragment(&spread.name) else { return Ok(false) };
    if !above.insert(&spread.name) {
        return Ok(false);
    }
    let found = context.within(|context| is_deep(context, &fragment.selections, above, lists))?;
    above.remove(spread.name.as_str());
    Ok(found)
}
