//! What of a document does not match a schema.

use std::collections::BTreeMap;

use super::formats;
use super::found::{Found, ITEMS, MEMBERS, Mismatch, field, in_bounds, in_count, nearer, type_of};
use super::numeric::canonical;
use super::part::{Count, Dependency, Items, MAX_DEPTH, More, Part, Schema};
use crate::rego::call::Call;
use crate::rego::failure::Failure;
use crate::rego::value::{Object, Value};

const ROOT: &str = "(Root)";

/// The mismatches of a document, in the order in which they are found.
pub(super) fn mismatches(
    call: &mut Call,
    schema: &Schema,
    document: &Value,
) -> Result<Vec<Mismatch>, Failure> {
    let mut checker = Checker { call, schema, depth: 0, bytes: 0 };
    Ok(checker.alone(0, document, ROOT)?.mismatches)
}

struct Checker<'a, 'c> {
    call: &'c mut Call,
    schema: &'a Schema,
    depth: usize,
    /// What the mismatches take, those that were dropped included.
    bytes: usize,
}

impl<'a> Checker<'a, '_> {
    fn alone(&mut self, place: usize, value: &Value, context: &str) -> Result<Found, Failure> {
        let mut found = Found::default();
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(Failure::Halt(format!(
                "more than {MAX_DEPTH} schemas were followed into one another"
            )));
        }
        self.call.take(context.len() / 32 + 4)?;
        self.check(place, value, &mut found, context)?;
        self.depth = self.depth.saturating_sub(1);
        let sizes = found.mismatches.iter().map(|one| one.field.len() * 2 + one.description.len() * 2 + 256);
        self.bytes = self.bytes.saturating_add(sizes.sum());
        self.call.take(found.mismatches.len())?;
        self.call.fits(self.bytes)?;
        Ok(found)
    }

    fn check(
        &mut self,
        place: usize,
        value: &Value,
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        let Some(part) = self.schema.parts.get(place) else { return Ok(()) };
        if let Some(pass) = part.pass {
            if !pass {
                found.add(context, "false", "False always fails validation");
            }
            return Ok(());
        }
        if let Some(reference) = part.reference {
            // Counted as one more within another: it may lead back here.
            let other = self.alone(reference, value, context)?;
            found.merge(other);
            return Ok(());
        }
        let given = type_of(value)?;
        let is_number = matches!(given, "integer" | "number");
        let is_of = |name: &str| part.types.iter().any(|known| known == name);
        if !(part.types.is_empty() || is_of(given) || is_number && is_of("number")) {
            let expected = match part.types.as_slice() {
                [one] => one.clone(),
                several => format!("[{}]", several.join(",")),
            };
            found.add(context, "invalid_type", format!("Invalid type. Expected: {expected}, given: {given}"));
            return Ok(());
        }
        self.combined(part, value, found, context)?;
        match value {
            Value::Number(number) => {
                in_bounds(&part.bounds, number, found, context)?;
                self.common(part, value, found, context)?;
            }
            Value::Array(items) => {
                self.items(part, items, found, context)?;
                self.common(part, value, found, context)?;
            }
            Value::Object(members) => {
                self.members(part, members, found, context)?;
                self.common(part, value, found, context)?;
                for (name, place) in &part.properties {
                    if let Some(value) = members.get(&Value::text(name.as_str())) {
                        let inner = self.alone(*place, value, &format!("{context}.{name}"))?;
                        found.merge(inner);
                    }
                }
            }
            Value::String(text) => {
                self.common(part, value, found, context)?;
                self.text(part, text, found, context)?;
            }
            _ => self.common(part, value, found, context)?,
        }
        found.step();
        Ok(())
    }

    fn combined(
        &mut self,
        part: &'a Part,
        value: &Value,
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        self.any_of(part, value, found, context)?;
        self.one_of(part, value, found, context)?;
        let mut all_match = true;
        for place in &part.all_of {
            let one = self.alone(*place, value, context)?;
            all_match &= one.is_match();
            found.merge(one);
        }
        if !all_match {
            found.add(context, "number_all_of", "Must validate all the schemas (allOf)");
        }
        if let Some(not) = part.not
            && self.alone(not, value, context)?.is_match()
        {
            found.add(context, "number_not", "Must not validate the schema (not)");
        }
        if let Value::Object(members) = value {
            self.dependencies(part, members, value, found, context)?;
        }
        if let Some(condition) = part.condition {
            let holds = self.alone(condition, value, context)?.is_match();
            let (branch, kind, description) = if holds {
                (part.then, "condition_then", "Must validate \"then\" as \"if\" was valid")
            } else {
                (part.otherwise, "condition_else", "Must validate \"else\" as \"if\" was not valid")
            };
            if let Some(place) = branch {
                let one = self.alone(place, value, context)?;
                if !one.is_match() {
                    found.add(context, kind, description);
                    found.merge(one);
                }
            }
        }
        found.step();
        Ok(())
    }

    fn any_of(
        &mut self,
        part: &Part,
        value: &Value,
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        let mut best = None;
        for place in &part.any_of {
            let one = self.alone(*place, value, context)?;
            if one.is_match() {
                return Ok(());
            }
            best = nearer(best, one);
        }
        if let Some(best) = best {
            found.add(context, "number_any_of", "Must validate at least one schema (anyOf)");
            found.merge(best);
        }
        Ok(())
    }

    fn one_of(
        &mut self,
        part: &Part,
        value: &Value,
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        let (mut matching, mut best) = (0_usize, None);
        for place in &part.one_of {
            let one = self.alone(*place, value, context)?;
            if one.is_match() {
                matching = matching.saturating_add(1);
            } else if matching == 0 {
                best = nearer(best, one);
            }
        }
        if !part.one_of.is_empty() && matching != 1 {
            found.add(context, "number_one_of", "Must validate one and only one schema (oneOf)");
            if let Some(best) = best.filter(|_| matching == 0) {
                found.merge(best);
            }
        }
        Ok(())
    }

    fn dependencies(
        &mut self,
        part: &'a Part,
        members: &Object,
        value: &Value,
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        for (name, dependency) in &part.dependencies {
            self.call.take(1)?;
            if !members.contains_key(&Value::text(name.as_str())) {
                continue;
            }
            match dependency {
                Dependency::Names(names) => {
                    for name in names.iter().filter(|name| !members.contains_key(&Value::text(name.as_str())))
                    {
                        found.add(context, "missing_dependency", format!("Has a dependency on {name}"));
                    }
                }
                Dependency::Of(place) => {
                    let one = self.alone(*place, value, context)?;
                    found.merge(one);
                }
            }
        }
        Ok(())
    }

    fn common(
        &mut self,
        part: &Part,
        value: &Value,
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        if let Some(constant) = &part.constant
            && canonical(self.call, value)? != *constant
        {
            found.add(context, "const", format!("{} does not match: {constant}", field(context)));
        }
        if let Some(choices) = &part.choices {
            let text = canonical(self.call, value)?;
            self.call.take(choices.len() / 16)?;
            if !choices.contains(&text) {
                let allowed = choices.join(", ");
                self.call.take(allowed.len() / 64)?;
                let description = format!("{} must be one of the following: {allowed}", field(context));
                found.add(context, "enum", description);
            }
        }
        if let (Some(format), Value::String(text)) = (&part.format, value)
            && !formats::holds(self.call, format, text)?
        {
            found.add(context, "format", format!("Does not match format '{format}'"));
        }
        found.step();
        Ok(())
    }

    fn text(&mut self, part: &Part, text: &str, found: &mut Found, context: &str) -> Result<(), Failure> {
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        let Count { least, most } = part.length;
        if let Some(least) = least.filter(|least| length < *least) {
            let description = format!("String length must be greater than or equal to {least}");
            found.add(context, "string_gte", description);
        }
        if let Some(most) = most.filter(|most| length > *most) {
            found.add(context, "string_lte", format!("String length must be less than or equal to {most}"));
        }
        if let Some((pattern, expression)) = &part.pattern {
            self.call.take(text.len() / 16)?;
            if !expression.is_match(text.as_bytes()) {
                found.add(context, "pattern", format!("Does not match pattern '{pattern}'"));
            }
        }
        found.step();
        Ok(())
    }

    fn items(
        &mut self,
        part: &'a Part,
        items: &[Value],
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        let mut each = Vec::new();
        match &part.items {
            Items::Any => {}
            Items::All(place) => each.extend((0..items.len()).map(|_| *place)),
            Items::Each(places) if places.is_empty() => {}
            Items::Each(places) => {
                each.extend(places);
                if let More::Of(place) = part.more_items {
                    each.extend((places.len()..items.len()).map(|_| place));
                }
            }
        }
        for (index, (item, place)) in items.iter().zip(each).enumerate() {
            let one = self.alone(place, item, &format!("{context}.{index}"))?;
            found.merge(one);
        }
        if let Items::Each(places) = &part.items
            && matches!(part.more_items, More::Refused)
            && !places.is_empty()
            && places.len() < items.len()
        {
            found.add(context, "array_no_additional_items", "No additional items allowed on array");
        }
        in_count(&ITEMS, items.len(), &part.item_count, found, context);
        if part.are_unique {
            self.unique(items, found, context)?;
        }
        if let Some(place) = part.contains {
            self.contains(place, items, found, context)?;
        }
        found.step();
        Ok(())
    }

    fn unique(&mut self, items: &[Value], found: &mut Found, context: &str) -> Result<(), Failure> {
        let mut places = BTreeMap::new();
        for (place, item) in items.iter().enumerate() {
            if let Some(before) = places.insert(canonical(self.call, item)?, place) {
                let description = format!("array items[{before},{place}] must be unique");
                found.add(context, "unique", description);
            }
            self.call.take(1)?;
        }
        Ok(())
    }

    fn contains(
        &mut self,
        place: usize,
        items: &[Value],
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        let mut best = None;
        for (index, item) in items.iter().enumerate() {
            let one = self.alone(place, item, &format!("{context}.{index}"))?;
            if one.is_match() {
                return Ok(());
            }
            best = nearer(best, one);
        }
        found.add(context, "contains", "At least one of the items must match");
        if let Some(best) = best {
            found.merge(best);
        }
        Ok(())
    }

    fn members(
        &mut self,
        part: &'a Part,
        members: &Object,
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        in_count(&MEMBERS, members.len(), &part.property_count, found, context);
        for name in &part.required {
            self.call.take(1)?;
            if members.contains_key(&Value::text(name.as_str())) {
                found.step();
            } else {
                found.add(context, "required", format!("{name} is required"));
            }
        }
        for (name, value) in members {
            self.member(part, (name.to_key().as_str(), value), found, context)?;
        }
        if let Some(place) = part.names {
            for name in members.keys() {
                let one = self.alone(place, name, context)?;
                if !one.is_match() {
                    let description = format!("Property name of \"{}\" does not match", name.to_key());
                    found.add(context, "invalid_property_name", description);
                    found.merge(one);
                }
            }
        }
        found.step();
        Ok(())
    }

    /// A member by the patterns for names, and by what is said of those that nothing else describes.
    fn member(
        &mut self,
        part: &'a Part,
        (name, value): (&str, &Value),
        found: &mut Found,
        context: &str,
    ) -> Result<(), Failure> {
        let inner = format!("{context}.{name}");
        let mut is_described = false;
        for (pattern, place) in &part.patterns {
            self.call.take(name.len() / 16 + 1)?;
            if pattern.is_match(name.as_bytes()) {
                is_described = true;
                let one = self.alone(*place, value, &inner)?;
                found.merge(one);
            }
        }
        if is_described {
            found.step();
        }
        if is_described || part.properties.contains_key(name) {
            return Ok(());
        }
        match part.more_properties {
            More::Allowed => {}
            More::Refused => {
                let description = format!("Additional property {name} is not allowed");
                found.add(context, "additional_property_not_allowed", description);
            }
            More::Of(place) => {
                let one = self.alone(place, value, &inner)?;
                found.merge(one);
            }
        }
        Ok(())
    }
}
