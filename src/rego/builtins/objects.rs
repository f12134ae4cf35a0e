//! Functions on objects and sets: what is part of what, unions, paths through graphs.

use std::collections::BTreeSet;

use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::value::{Object, Value};

pub(super) fn subset(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (whole, part) = (operands.at(0)?, operands.at(1)?);
    match (whole, part) {
        (Value::Array(whole), Value::Set(part)) => Ok(Value::Bool(holds_all(whole, part))),
        (Value::Object(_), Value::Object(_))
        | (Value::Set(_), Value::Set(_))
        | (Value::Array(_), Value::Array(_)) => Ok(Value::Bool(is_part(call, whole, part)?)),
        _ => Failure::error("both arguments object.subset must be of the same type or array and set"),
    }
}

/// Whether every item of a set is in an array. As in OPA, an array without items holds not even the empty set.
fn holds_all(whole: &[Value], part: &BTreeSet<Value>) -> bool {
    let mut missing = part.len();
    whole.iter().any(|item| {
        missing = missing.saturating_sub(usize::from(part.contains(item)));
        missing == 0
    })
}

fn is_part(call: &mut Call, whole: &Value, part: &Value) -> Result<bool, Failure> {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, item) in part {
                let Some(found) = whole.get(key) else { return Ok(false) };
                if found != item && !is_part(call, found, item)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Set(whole), Value::Set(part)) => Ok(part.is_subset(whole)),
        (Value::Array(whole), Value::Array(part)) => is_part_of_array(call, whole, part),
        _ => Ok(false),
    }
}

/// OPA looks for the items in a row, and goes on one further where they break off.
fn is_part_of_array(call: &mut Call, whole: &[Value], part: &[Value]) -> Result<bool, Failure> {
    let (mut start, mut matched) = (0_usize, 0_usize);
    if part.len() > whole.len() {
        return Ok(false);
    }
    while let Some(wanted) = part.get(matched) {
        call.take(1)?;
        match whole.get(start.saturating_add(matched)) {
            None => return Ok(false),
            Some(found) if found == wanted => matched = matched.saturating_add(1),
            Some(_) => (start, matched) = (start.saturating_add(1), 0),
        }
    }
    Ok(true)
}

pub(super) fn union_n(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let mut united = Object::new();
    for item in operands.array(0)? {
        let Value::Object(members) = item else {
            return Failure::error(format!(
                "operand 1 must be array of objects but got {}",
                item.type_name()
            ));
        };
        overlay(&mut united, members);
    }
    Ok(Value::Object(united))
}

/// The later value wins; two objects are united.
fn overlay(below: &mut Object, above: &Object) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => overlay(below, above),
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

// === Graphs (`open-policy-agent/opa:v1/topdown/reachable.go`) ===

/// The neighbours that an object names under a node; `None` where it does not know the node.
fn edges<'a>(graph: &'a Object, node: &Value) -> Option<Vec<&'a Value>> {
    Some(match graph.get(node)? {
        Value::Array(items) => items.iter().collect(),
        Value::Set(items) => items.iter().collect(),
        _ => Vec::new(),
    })
}

/// What is still to be followed: a node, the path that led to it, and the nodes that would close a circle.
struct Step<'a> {
    node: &'a Value,
    path: Vec<&'a Value>,
    passed: BTreeSet<&'a Value>,
}

pub(super) fn reachable_paths(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (graph, roots) = (operands.object(0)?, operands.items(1)?);
    let mut paths: BTreeSet<Vec<&Value>> = BTreeSet::new();
    let mut open: Vec<Step<'_>> = Vec::new();
    for root in roots {
        match edges(graph, root) {
            None => {}
            Some(next) if next.is_empty() => {
                paths.insert(vec![root]);
            }
            Some(next) => open.extend(next.into_iter().map(|node| Step {
                node,
                path: vec![root],
                passed: BTreeSet::from([root]),
            })),
        }
    }
    let mut written = 0_usize;
    while let Some(step) = open.pop() {
        // Paths can be as many as the ways through a graph are.
        written = written.saturating_add(step.path.len().saturating_mul(VALUE_BYTES));
        call.fits(written)?;
        follow(call, graph, step, &mut open, &mut paths)?;
    }
    let paths = paths.into_iter().map(|path| Value::Array(path.into_iter().cloned().collect()));
    Ok(Value::Set(paths.collect()))
}

fn follow<'a>(
    call: &mut Call,
    graph: &'a Object,
    step: Step<'a>,
    open: &mut Vec<Step<'a>>,
    paths: &mut BTreeSet<Vec<&'a Value>>,
) -> Result<(), Failure> {
    let Step { node, mut path, mut passed } = step;
    let Some(next) = edges(graph, node) else {
        paths.insert(path);
        return Ok(());
    };
    path.push(node);
    if next.is_empty() {
        paths.insert(path);
        return Ok(());
    }
    // Each neighbour gets the path and what closes a circle.
    call.take(next.len().saturating_mul(path.len().saturating_mul(2).saturating_add(1)))?;
    passed.insert(node);
    for neighbour in next {
        if passed.contains(neighbour) {
            paths.insert(path.clone());
        } else {
            open.push(Step { node: neighbour, path: path.clone(), passed: passed.clone() });
        }
    }
    Ok(())
}

// === Casts, which old rules still use ===

pub(super) fn cast_array(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Array(operands.items(0)?.into_iter().cloned().collect()))
}

pub(super) fn cast_set(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Set(operands.items(0)?.into_iter().cloned().collect()))
}

fn same(operands: Operands<'_>, wanted: &str) -> Outcome {
    let value = operands.at(0)?;
    if value.type_name() == wanted {
        return Ok(value.clone());
    }
    Failure::error(format!("operand 1 must be {wanted} but got {}", value.type_name()))
}

pub(super) fn cast_string(_: &mut Call, operands: Operands<'_>) -> Outcome {
    same(operands, "string")
}

pub(super) fn cast_boolean(_: &mut Call, operands: Operands<'_>) -> Outcome {
    same(operands, "boolean")
}

pub(super) fn cast_null(_: &mut Call, operands: Operands<'_>) -> Outcome {
    same(operands, "null")
}

pub(super) fn cast_object(_: &mut Call, operands: Operands<'_>) -> Outcome {
    same(operands, "object")
}

pub(super) fn slice(_: &mut Call, operands: Operands<'_>) -> Outcome {
    let (items, from, to) = (operands.array(0)?, operands.integer(1)?, operands.integer(2)?);
    let place = |place: i64| usize::try_from(place.max(0)).unwrap_or(usize::MAX);
    let to = place(to).min(items.len());
    Ok(Value::Array(items.get(place(from).min(to)..to).unwrap_or_default().to_vec()))
}
