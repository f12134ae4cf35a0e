//! `min` and `max`: of equal values, OPA takes the last, and `1.0` and `1` are two texts of one number.

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// The item that is left when each is compared with the one before it.
fn extreme(operands: Operands<'_>, is_further: fn(&Value, &Value) -> bool) -> Outcome {
    let items = operands.items(0)?.into_iter();
    let found = items.reduce(|found, item| if is_further(found, item) { found } else { item });
    found.cloned().ok_or(Failure::Undefined)
}

pub(super) fn least(_: &mut Call, operands: Operands<'_>) -> Outcome {
    extreme(operands, |found, item| found < item)
}

pub(super) fn greatest(_: &mut Call, operands: Operands<'_>) -> Outcome {
    extreme(operands, |found, item| found > item)
}
