//! What OPA calls an error of the functions that a module computes itself. The module only says that there is no value; in strict mode
//! the host looks at the operands first. What a check returns is not the value of the function.

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// That a check finds nothing wrong.
const RIGHT: Outcome = Ok(Value::Null);

fn wrong_type(place: usize, found: &Value, wanted: &str) -> Outcome {
    let place = place.saturating_add(1);
    Failure::error(format!("operand {place} must be {wanted} but got {}", found.type_name()))
}

/// One text.
pub(super) fn text(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.text(0).and(RIGHT)
}

/// Two texts.
pub(super) fn two_texts(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.text(0).and(operands.text(1)).and(RIGHT)
}

/// One array.
pub(super) fn array(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.array(0).and(RIGHT)
}

/// Two arrays.
pub(super) fn two_arrays(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.array(0).and(operands.array(1)).and(RIGHT)
}

/// One object.
pub(super) fn object(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.object(0).and(RIGHT)
}

/// Two objects.
pub(super) fn two_objects(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.object(0).and(operands.object(1)).and(RIGHT)
}

/// An object, and keys.
pub(super) fn object_and_keys(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.object(0)?;
    match operands.at(1)? {
        Value::Array(_) | Value::Set(_) | Value::Object(_) => RIGHT,
        other => wrong_type(1, other, "object, set or array"),
    }
}

/// An object, and the nodes to begin with.
pub(super) fn graph(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.object(0).and(operands.items(1).map(drop)).and(RIGHT)
}

/// Two sets.
pub(super) fn two_sets(_: &mut Call, operands: Operands<'_>) -> Outcome {
    for place in [0, 1] {
        match operands.at(place)? {
            Value::Set(_) => {}
            other => return wrong_type(place, other, "set"),
        }
    }
    RIGHT
}

/// A set of sets.
pub(super) fn set_of_sets(_: &mut Call, operands: Operands<'_>) -> Outcome {
    match operands.at(0)? {
        Value::Set(items) => match items.iter().find(|item| !matches!(item, Value::Set(_))) {
            Some(other) => {
                Failure::error(format!("operand 1 must be set of sets but has {}", other.type_name()))
            }
            None => RIGHT,
        },
        other => wrong_type(0, other, "set"),
    }
}

/// An array or a set.
pub(super) fn items(_: &mut Call, operands: Operands<'_>) -> Outcome {
    operands.items(0).and(RIGHT)
}

/// What has a length.
pub(super) fn countable(_: &mut Call, operands: Operands<'_>) -> Outcome {
    match operands.at(0)? {
        Value::String(_) | Value::Array(_) | Value::Object(_) | Value::Set(_) => RIGHT,
        other => wrong_type(0, other, "array, object, set or string"),
    }
}
