//! Reads a schema, and says what is wrong with it (`open-policy-agent/opa:internal/gojsonschema/schema.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::bytes::Regex;

use super::members::{
    Draft, bounds, counts, draft, has_no_names, in_order, invalid_type, key, list, member, step, text, types,
};
use super::numeric::canonical;
use super::part::{Dependency, Items, MAX_DEPTH, More, Part, Schema};
use crate::rego::call::Call;
use crate::rego::failure::Failure;
use crate::rego::value::{Object, Value};

impl Schema {
    /// Reads a document that is a schema.
    pub fn compile(call: &mut Call, document: &Value) -> Result<Self, Failure> {
        let draft = match document {
            Value::Bool(_) => Draft::Any,
            Value::Object(members) => draft(members)?,
            _ => return Failure::error("schema is invalid"),
        };
        has_no_names(document, true)?;
        let mut compiler = Compiler { call, document, draft, parts: Vec::new(), references: BTreeMap::new() };
        compiler.part(document, 0)?;
        Ok(Self { parts: compiler.parts })
    }
}

struct Compiler<'a, 'c> {
    call: &'c mut Call,
    document: &'a Value,
    draft: Draft,
    parts: Vec<Part>,
    /// The schemas that references name, by the reference.
    references: BTreeMap<String, usize>,
}

impl<'a> Compiler<'a, '_> {
    /// A place for a schema that is being read.
    fn reserve(&mut self) -> usize {
        self.parts.push(Part::default());
        self.parts.len().saturating_sub(1)
    }

    fn part(&mut self, value: &'a Value, depth: usize) -> Result<usize, Failure> {
        let place = self.reserve();
        self.read(value, place, depth)?;
        Ok(place)
    }

    fn read(&mut self, value: &'a Value, place: usize, depth: usize) -> Result<(), Failure> {
        self.call.take(4)?;
        if depth > MAX_DEPTH {
            return Err(Failure::Halt(format!("more than {MAX_DEPTH} schemas are within one another")));
        }
        let part = match value {
            Value::Bool(pass) if self.draft >= Draft::Six => Part { pass: Some(*pass), ..Part::default() },
            Value::Object(members) => self.members(members, depth.saturating_add(1))?,
            _ => return Failure::error("Expected: Valid Schema, given: Invalid JSON"),
        };
        if let Some(reserved) = self.parts.get_mut(place) {
            *reserved = part;
        }
        Ok(())
    }

    /// In the order in which the validator reads them: the first that is wrong is the one that is told.
    fn members(&mut self, members: &'a Object, depth: usize) -> Result<Part, Failure> {
        let mut part = Part::default();
        let name = match self.draft {
            Draft::Four => "id",
            Draft::Any if member(members, "id").is_some() => "id",
            _ => "$id",
        };
        text(members, name)?;
        self.definitions(members, depth)?;
        text(members, "title")?;
        text(members, "description")?;
        if let Some(reference) = text(members, "$ref")? {
            let known = self.references.get(reference).copied();
            part.reference = Some(match known {
                Some(known) => known,
                None => self.reference(reference, depth)?,
            });
            // As there, the rest is looked at when the reference has been met before.
            if known.is_none() {
                return Ok(part);
            }
        }
        types(members, &mut part)?;
        self.properties(members, &mut part, depth)?;
        self.items(members, &mut part, depth)?;
        part.bounds = bounds(members, self.draft)?;
        self.scalars(members, &mut part, depth)?;
        self.combinations(members, &mut part, depth)?;
        Ok(part)
    }

    fn definitions(&mut self, members: &'a Object, depth: usize) -> Result<(), Failure> {
        match member(members, "definitions") {
            None => Ok(()),
            Some(Value::Object(definitions)) => definitions.values().try_for_each(|value| match value {
                Value::Bool(_) | Value::Object(_) => self.part(value, depth).map(drop),
                _ => invalid_type("Array Of Schemas", "definitions"),
            }),
            Some(_) => invalid_type("Array Of Schemas", "definitions"),
        }
    }

    /// The schema that a reference names, in this document alone.
    fn reference(&mut self, reference: &str, depth: usize) -> Result<usize, Failure> {
        let elsewhere = || {
            Failure::Halt(format!(
                "the gate follows no `$ref` to another document or name, such as `{reference}`"
            ))
        };
        let pointer = reference.strip_prefix('#').ok_or_else(elsewhere)?;
        let is_plain = !pointer.contains(['%', '\u{7f}']) && !pointer.chars().any(|letter| letter < ' ');
        if !is_plain || !(pointer.is_empty() || pointer.starts_with('/')) {
            return Err(elsewhere());
        }
        let place = self.reserve();
        self.references.insert(reference.into(), place);
        let mut found = self.document;
        for token in pointer.split('/').skip(1) {
            found = step(found, token)?;
        }
        if !matches!(found, Value::Bool(_) | Value::Object(_)) {
            return Failure::error("Valid Schema must be of type object");
        }
        self.read(found, place, depth)?;
        Ok(place)
    }

    /// A schema that may be `true` or `false` too, and what is said of anything else.
    fn optional(&mut self, members: &'a Object, name: &str, depth: usize) -> Result<Option<usize>, Failure> {
        match member(members, name) {
            None => Ok(None),
            Some(value @ (Value::Bool(_) | Value::Object(_))) => self.part(value, depth).map(Some),
            Some(_) => Failure::error(format!("{name} must be of an object")),
        }
    }

    fn more(&mut self, members: &'a Object, name: &str, depth: usize) -> Result<More, Failure> {
        Ok(match member(members, name) {
            None | Some(Value::Bool(true)) => More::Allowed,
            Some(Value::Bool(false)) => More::Refused,
            Some(value @ Value::Object(_)) => More::Of(self.part(value, depth)?),
            Some(_) => return invalid_type("boolean/Valid Schema", name),
        })
    }

    fn properties(&mut self, members: &'a Object, part: &mut Part, depth: usize) -> Result<(), Failure> {
        match member(members, "properties") {
            None => {}
            Some(Value::Object(properties)) => {
                for (name, value) in properties {
                    part.properties.insert(key(name), self.part(value, depth)?);
                }
            }
            Some(_) => return Failure::error("Properties must be of type object"),
        }
        part.more_properties = self.more(members, "additionalProperties", depth)?;
        match member(members, "patternProperties") {
            None => {}
            Some(Value::Object(patterns)) => {
                for (pattern, value) in patterns {
                    let pattern = key(pattern);
                    let invalid = || format!("Invalid regex pattern '{pattern}'");
                    let expression = self.expression(&pattern, invalid)?;
                    part.patterns.push((expression, self.part(value, depth)?));
                }
            }
            Some(_) => return invalid_type("Valid Schema", "patternProperties"),
        }
        if self.draft >= Draft::Six {
            part.names = match member(members, "propertyNames") {
                None => None,
                Some(value @ (Value::Bool(_) | Value::Object(_))) => Some(self.part(value, depth)?),
                Some(_) => return invalid_type("Valid Schema", "patternProperties"),
            };
        }
        self.dependencies(members, part, depth)
    }

    fn dependencies(&mut self, members: &'a Object, part: &mut Part, depth: usize) -> Result<(), Failure> {
        const WRONG: &str = "Dependency must be of type Schema Or Array Of Strings";
        let dependencies = match member(members, "dependencies") {
            None => return Ok(()),
            Some(Value::Object(dependencies)) => dependencies,
            Some(_) => return Failure::error("dependencies must be of type object"),
        };
        for (name, value) in dependencies {
            let dependency = match value {
                Value::Array(names) => {
                    let texts = names.iter().map(|name| match name {
                        Value::String(name) => Ok(name.clone()),
                        _ => Failure::error(WRONG),
                    });
                    Dependency::Names(texts.collect::<Result<_, _>>()?)
                }
                Value::Bool(_) | Value::Object(_) => Dependency::Of(self.part(value, depth)?),
                _ => return Failure::error(WRONG),
            };
            part.dependencies.insert(key(name), dependency);
        }
        Ok(())
    }

    fn items(&mut self, members: &'a Object, part: &mut Part, depth: usize) -> Result<(), Failure> {
        const EXPECTED: &str = "Valid Schema/Array Of Schemas";
        part.items = match member(members, "items") {
            None => Items::Any,
            Some(value @ (Value::Bool(_) | Value::Object(_))) => Items::All(self.part(value, depth)?),
            Some(Value::Array(values)) => {
                let each = values.iter().map(|value| match value {
                    Value::Bool(_) | Value::Object(_) => self.part(value, depth),
                    _ => invalid_type(EXPECTED, "items"),
                });
                Items::Each(each.collect::<Result<_, _>>()?)
            }
            Some(_) => return invalid_type(EXPECTED, "items"),
        };
        part.more_items = self.more(members, "additionalItems", depth)?;
        Ok(())
    }

    fn expression(&mut self, pattern: &str, invalid: impl Fn() -> String) -> Result<Arc<Regex>, Failure> {
        self.call.take(pattern.len())?;
        self.call.expression(pattern).map_err(|failure| match failure {
            Failure::Error(_) => Failure::Error(invalid()),
            other => other,
        })
    }

    fn scalars(&mut self, members: &'a Object, part: &mut Part, depth: usize) -> Result<(), Failure> {
        part.length = in_order(counts(members, "minLength", "maxLength")?, "minLength", "maxLength")?;
        if let Some(pattern) = text(members, "pattern")? {
            let expression = self.expression(pattern, || "pattern must be a valid regex".into())?;
            part.pattern = Some((pattern.into(), expression));
        }
        part.format = text(members, "format")?.map(Into::into);
        part.property_count =
            in_order(counts(members, "minProperties", "maxProperties")?, "minProperties", "maxProperties")?;
        for name in list(members, "required")? {
            match name {
                Value::String(name) if part.required.contains(name) => {
                    return Failure::error("required items must be unique");
                }
                Value::String(name) => part.required.push(name.clone()),
                _ => return invalid_type("string", "required"),
            }
            self.call.take(part.required.len() / 16)?;
        }
        part.item_count = counts(members, "minItems", "maxItems")?;
        part.are_unique = match member(members, "uniqueItems") {
            None => false,
            Some(Value::Bool(are_unique)) => *are_unique,
            Some(_) => return Failure::error("uniqueItems must be of a boolean"),
        };
        if self.draft >= Draft::Six {
            if let Some(value) = member(members, "contains") {
                part.contains = Some(self.part(value, depth)?);
            }
            if let Some(value) = member(members, "const") {
                part.constant = Some(canonical(self.call, value)?);
            }
        }
        Ok(())
    }

    fn combinations(&mut self, members: &'a Object, part: &mut Part, depth: usize) -> Result<(), Failure> {
        let choices = list(members, "enum")?;
        if member(members, "enum").is_some() {
            let mut texts: Vec<String> = Vec::with_capacity(choices.len());
            for choice in choices {
                let text = canonical(self.call, choice)?;
                self.call.take(texts.len() / 16)?;
                if texts.contains(&text) {
                    return Failure::error("enum items must be unique");
                }
                texts.push(text);
            }
            part.choices = Some(texts);
        }
        let mut several = |name: &str| {
            list(members, name)?.iter().map(|value| self.part(value, depth)).collect::<Result<Vec<_>, _>>()
        };
        part.one_of = several("oneOf")?;
        part.any_of = several("anyOf")?;
        part.all_of = several("allOf")?;
        part.not = self.optional(members, "not", depth)?;
        if self.draft >= Draft::Seven {
            part.condition = self.optional(members, "if", depth)?;
            part.then = self.optional(members, "then", depth)?;
            part.otherwise = self.optional(members, "else", depth)?;
        }
        Ok(())
    }
}
