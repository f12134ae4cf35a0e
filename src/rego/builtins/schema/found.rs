//! What of a value does not match, and what numbers say.

use super::numeric;
use super::part::{Bounds, Count};
use crate::rego::call;
use crate::rego::failure::Failure;
use crate::rego::number::Number;
use crate::rego::value::Value;

/// A failed part of a document.
pub(super) struct Mismatch {
    /// Its kind, such as `invalid_type`.
    pub kind: &'static str,
    /// Where it is.
    pub field: String,
    pub description: String,
}

impl From<Mismatch> for Value {
    fn from(mismatch: Mismatch) -> Self {
        let Mismatch { kind, field, description } = mismatch;
        call::object([
            ("error", Self::String(format!("{field}: {description}"))),
            ("type", Self::text(kind)),
            ("desc", Self::String(description)),
            ("field", Self::String(field)),
        ])
    }
}

/// What was found, and how near it is to a match: of several schemas of which one must match, the nearest one's mismatches are told.
#[derive(Default)]
pub(super) struct Found {
    pub mismatches: Vec<Mismatch>,
    pub score: i64,
}

impl Found {
    pub fn is_match(&self) -> bool {
        self.mismatches.is_empty()
    }

    pub fn add(&mut self, context: &str, kind: &'static str, description: impl Into<String>) {
        let field = field(context).into();
        self.mismatches.push(Mismatch { kind, field, description: description.into() });
        self.score = self.score.saturating_sub(2);
    }

    pub fn merge(&mut self, other: Self) {
        self.mismatches.extend(other.mismatches);
        self.score = self.score.saturating_add(other.score);
    }

    pub const fn step(&mut self) {
        self.score = self.score.saturating_add(1);
    }
}

/// The nearest of those that do not match: the first of the highest score.
pub(super) fn nearer(best: Option<Found>, found: Found) -> Option<Found> {
    match best {
        Some(best) if best.score >= found.score => Some(best),
        _ => Some(found),
    }
}

/// A place without the name of the root before it.
pub(super) fn field(context: &str) -> &str {
    context.strip_prefix("(Root).").unwrap_or(context)
}

/// The name of a value's type; of a number, whether it is whole.
pub(super) fn type_of(value: &Value) -> Result<&'static str, Failure> {
    Ok(match value {
        Value::Number(number) => match numeric::ratio(number)?.to_integer() {
            Some(_) => "integer",
            None => "number",
        },
        other => other.type_name(),
    })
}

pub(super) fn in_bounds(
    bounds: &Bounds,
    number: &Number,
    found: &mut Found,
    context: &str,
) -> Result<(), Failure> {
    let value = numeric::ratio(number)?;
    if let Some(factor) = &bounds.multiple_of
        && value.over(factor).is_some_and(|quotient| quotient.to_integer().is_none())
    {
        let description = format!("Must be a multiple of {}", numeric::written(factor)?);
        found.add(context, "multiple_of", description);
    }
    if let Some(maximum) = bounds.maximum.as_ref().filter(|maximum| value > **maximum) {
        let description = format!("Must be less than or equal to {}", numeric::written(maximum)?);
        found.add(context, "number_lte", description);
    }
    if let Some(below) = bounds.below.as_ref().filter(|below| value >= **below) {
        found.add(context, "number_lt", format!("Must be less than {}", numeric::written(below)?));
    }
    if let Some(minimum) = bounds.minimum.as_ref().filter(|minimum| value < **minimum) {
        let description = format!("Must be greater than or equal to {}", numeric::written(minimum)?);
        found.add(context, "number_gte", description);
    }
    if let Some(above) = bounds.above.as_ref().filter(|above| value <= **above) {
        found.add(context, "number_gt", format!("Must be greater than {}", numeric::written(above)?));
    }
    found.step();
    Ok(())
}

/// What is counted, and how it is said that there are too few or too many.
pub(super) struct Counted {
    kinds: [&'static str; 2],
    sentence: &'static str,
    plural: &'static str,
}

/// The items of an array.
pub(super) const ITEMS: Counted =
    Counted { kinds: ["array_min_items", "array_max_items"], sentence: "Array must have", plural: "items" };
/// The members of an object.
pub(super) const MEMBERS: Counted = Counted {
    kinds: ["array_min_properties", "array_max_properties"],
    sentence: "Must have",
    plural: "properties",
};

/// Whether there are so many as a schema asks for.
pub(super) fn in_count(what: &Counted, length: usize, count: &Count, found: &mut Found, context: &str) {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    let Counted { kinds: [too_few, too_many], sentence, plural } = what;
    if let Some(least) = count.least.filter(|least| length < *least) {
        found.add(context, too_few, format!("{sentence} at least {least} {plural}"));
    }
    if let Some(most) = count.most.filter(|most| length > *most) {
        found.add(context, too_many, format!("{sentence} at most {most} {plural}"));
    }
}
