//! A schema that is valid as the library in OPA has it, joined with what each schema has (`vektah/gqlparser:validator/schema.go`).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::definitions;
use super::prelude::{NODES, PRELUDE};
use super::tree::{
    Definition, Directive, DirectiveDefinition, Document, ENUM, INPUT_OBJECT, INTERFACE, Kind, MUTATION,
    OBJECT, Part, QUERY, Root, SCALAR, SUBSCRIPTION, Type, UNION,
};
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// Names that a list is compared with in about the time in which a value is copied.
const NAMES_PER_STEP: usize = 8;

/// The directives of which a schema may have another definition.
const REDEFINED: [&str; 6] = ["include", "skip", "deprecated", "specifiedBy", "defer", "oneOf"];

/// Where OPA's own process ends.
pub(super) fn crash<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Halt(format!("OPA itself ends by a GraphQL document with {what}")))
}

/// What a tree that was handed in may lack.
pub(super) fn needed<'a, T>(found: Option<&'a T>, what: &str) -> Result<&'a T, Failure> {
    found.map_or_else(|| crash(&format!("no {what}")), Ok)
}

/// What the list of a name is looked through for.
pub(super) fn named<'a, T>(
    call: &mut Call,
    list: &'a [T],
    name_of: impl Fn(&T) -> &str,
    name: &str,
) -> Result<Option<&'a T>, Failure> {
    call.take(list.len().div_ceil(NAMES_PER_STEP))?;
    Ok(list.iter().find(|item| name_of(item) == name))
}

/// The part of a name.
pub(super) fn part<'a>(call: &mut Call, parts: &'a [Part], name: &str) -> Result<Option<&'a Part>, Failure> {
    named(call, parts, |part| &part.name, name)
}

/// The name at the end of a type.
pub(super) fn name_of(of: Option<&Type>) -> Result<&str, Failure> {
    let mut of = needed(of, "type")?;
    while of.name.is_empty() {
        of = needed(of.element.as_deref(), "type")?;
    }
    Ok(&of.name)
}

/// Whether a value of one type may stand for another one, which is non-null as told.
pub(super) fn is_compatible(of: &Type, other: &Type, other_non_null: bool) -> bool {
    if of.name != other.name || (other_non_null && !of.non_null) {
        return false;
    }
    match (&of.element, &other.element) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(of), Some(other)) => is_compatible(of, other, other.non_null),
    }
}

/// A schema that is valid.
#[derive(Debug, Default)]
pub(super) struct Schema {
    types: Vec<Definition>,
    places: BTreeMap<String, usize>,
    directives: BTreeMap<String, DirectiveDefinition>,
    /// What an abstract type, or a type itself, can be; `None` for a type that is not defined.
    possible: HashMap<String, Vec<Option<usize>>>,
    query: Option<usize>,
    mutation: Option<usize>,
    subscription: Option<usize>,
}

impl Schema {
    /// The definition of a type.
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.types.get(*self.places.get(name)?)
    }

    pub fn directive(&self, name: &str) -> Option<&DirectiveDefinition> {
        self.directives.get(name)
    }

    /// The type at the root of a kind of operation.
    pub fn root(&self, operation: &str) -> Option<&Definition> {
        let place = match operation {
            QUERY | "" => self.query,
            MUTATION => self.mutation,
            SUBSCRIPTION => self.subscription,
            _ => None,
        };
        self.types.get(place?)
    }

    /// The places of the types that this one can be.
    pub fn possible(&self, name: &str) -> &[Option<usize>] {
        self.possible.get(name).map_or(&[], Vec::as_slice)
    }

    /// The place of a type.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The schema that a document means; an error says what is wrong with it.
    pub fn of(call: &mut Call, document: Document) -> Result<Self, Failure> {
        call.take(NODES)?;
        let mut prelude = definitions::parse(PRELUDE, call)?;
        prelude.definitions.iter_mut().for_each(|definition| definition.is_built_in = true);
        let mut schema = Self::default();
        schema.define(prelude.definitions.into_iter().chain(document.definitions))?;
        schema.extend(document.extensions)?;
        schema.find_possible();
        for directive in prelude.directives.into_iter().chain(document.directives) {
            let name = directive.name.clone();
            if schema.directives.insert(name.clone(), directive).is_some()
                && !REDEFINED.contains(&name.as_str())
            {
                return Failure::error(format!("cannot redeclare directive `{name}`"));
            }
        }
        if document.schemas.len() > 1 {
            return Failure::error("cannot have multiple schema entry points");
        }
        for entry in document.schemas.iter().chain(&document.schema_extensions) {
            entry.roots.iter().try_for_each(|root| schema.set_root(root))?;
            schema.check_directives(call, &entry.directives, "SCHEMA", None, true)?;
        }
        for name in schema.places.keys() {
            let definition = needed(schema.definition(name), "type")?;
            schema.check_definition(call, definition)?;
        }
        schema.check_circles()?;
        for directive in schema.directives.values() {
            check_name(&directive.name)?;
            schema.check_arguments(call, &directive.arguments, Some(&directive.name))?;
        }
        if document.schemas.is_empty() {
            schema.query = schema.query.or_else(|| schema.place("Query"));
            schema.mutation = schema.mutation.or_else(|| schema.place("Mutation"));
            schema.subscription = schema.subscription.or_else(|| schema.place("Subscription"));
        }
        schema.add_introspection();
        Ok(schema)
    }

    fn define(&mut self, definitions: impl Iterator<Item = Definition>) -> Result<(), Failure> {
        for definition in definitions {
            let place = self.types.len();
            if self.places.insert(definition.name.clone(), place).is_some() {
                return Failure::error(format!("cannot redeclare type `{}`", definition.name));
            }
            self.types.push(definition);
        }
        Ok(())
    }

    /// An extension of what is not there is a definition.
    fn extend(&mut self, extensions: Vec<Definition>) -> Result<(), Failure> {
        for extension in extensions {
            let place = self.place(&extension.name).unwrap_or(self.types.len());
            if place == self.types.len() {
                self.places.insert(extension.name.clone(), place);
                let (kind, name) = (extension.kind.clone(), extension.name.clone());
                self.types.push(Definition { kind, name, ..Definition::default() });
            }
            let Some(definition) = self.types.get_mut(place) else { continue };
            if definition.kind != extension.kind {
                return Failure::error(format!(
                    "cannot extend type `{}` because the base type is a {}, not {}",
                    definition.name, definition.kind, extension.kind
                ));
            }
            definition.directives.extend(extension.directives);
            definition.interfaces.extend(extension.interfaces);
            definition.fields.extend(extension.fields);
            definition.types.extend(extension.types);
            definition.values.extend(extension.values);
        }
        Ok(())
    }

    fn find_possible(&mut self) {
        for (place, definition) in self.types.iter().enumerate() {
            let mut add = |name: &str, place| match self.possible.get_mut(name) {
                Some(places) => places.push(place),
                None => drop(self.possible.insert(name.into(), vec![place])),
            };
            match definition.kind.as_str() {
                UNION => definition
                    .types
                    .iter()
                    .for_each(|name| add(&definition.name, self.places.get(name).copied())),
                OBJECT | INPUT_OBJECT | INTERFACE => {
                    definition.interfaces.iter().for_each(|name| add(name, Some(place)));
                    if !definition.is(INTERFACE) {
                        add(&definition.name, Some(place));
                    }
                }
                _ => {}
            }
        }
    }

    fn set_root(&mut self, root: &Root) -> Result<(), Failure> {
        let place = self.place(&root.of);
        if place.is_none() {
            return Failure::error(format!(
                "schema root {} refers to a type `{}` that does not exist",
                root.operation, root.of
            ));
        }
        match root.operation.as_str() {
            QUERY => self.query = place,
            MUTATION => self.mutation = place,
            SUBSCRIPTION => self.subscription = place,
            _ => {}
        }
        Ok(())
    }

    /// The fields by which a query asks for the schema itself.
    fn add_introspection(&mut self) {
        let of = |name: &str, non_null| Some(Type { name: name.into(), element: None, non_null });
        let Some(query) = self.query.and_then(|place| self.types.get_mut(place)) else { return };
        let named = |name: &str, of| Part { name: name.into(), of, ..Part::default() };
        query.fields.push(named("__schema", of("__Schema", true)));
        let arguments = vec![named("name", of("String", true))];
        query.fields.push(Part { arguments, ..named("__type", of("__Type", false)) });
    }

    fn check_definition(&self, call: &mut Call, definition: &Definition) -> Result<(), Failure> {
        let location =
            if definition.is(INPUT_OBJECT) { "INPUT_FIELD_DEFINITION" } else { "FIELD_DEFINITION" };
        for field in &definition.fields {
            check_name(&field.name)?;
            self.referred(field.of.as_ref())?;
            self.check_arguments(call, &field.arguments, None)?;
            self.check_directives(call, &field.directives, location, None, true)?;
        }
        for name in &definition.types {
            if !self.definition(name).is_some_and(|member| member.is(OBJECT)) {
                return Failure::error(format!("member `{name}` of `{}` is no object", definition.name));
            }
        }
        for name in &definition.interfaces {
            self.check_implements(call, definition, name)?;
        }
        self.check_content(call, definition)?;
        let names = |parts: &[Part]| has_twice(parts.iter().map(|part| part.name.as_str()));
        if names(&definition.fields)
            || names(&definition.values)
            || has_twice(definition.types.iter().map(String::as_str))
        {
            return Failure::error(format!("`{}` has a part twice", definition.name));
        }
        if !definition.is_built_in {
            check_name(&definition.name)?;
        }
        self.check_directives(call, &definition.directives, &definition.kind, None, false)
    }

    fn check_content(&self, call: &mut Call, definition: &Definition) -> Result<(), Failure> {
        let (parts, kinds): (_, &[&str]) = match definition.kind.as_str() {
            OBJECT | INTERFACE => (&definition.fields, &[SCALAR, OBJECT, INTERFACE, UNION, ENUM]),
            INPUT_OBJECT => (&definition.fields, &[SCALAR, ENUM, INPUT_OBJECT]),
            ENUM => (&definition.values, &[]),
            _ => return Ok(()),
        };
        if parts.is_empty() {
            return Failure::error(format!("`{}` must define one or more parts", definition.name));
        }
        for part in parts {
            let wrong =
                |what: &str| Failure::error(format!("`{}` of `{}` {what}", part.name, definition.name));
            if !definition.is(ENUM) {
                if !kinds.contains(&self.referred(part.of.as_ref())?.kind.as_str()) {
                    return wrong("is of a kind that it cannot be");
                }
                continue;
            }
            if matches!(part.name.as_str(), "true" | "false" | "null") {
                return wrong("is no value of an enum");
            }
            self.check_directives(call, &part.directives, "ENUM_VALUE", None, true)?;
        }
        Ok(())
    }

    /// The definition that a type names.
    fn referred(&self, of: Option<&Type>) -> Result<&Definition, Failure> {
        let name = name_of(of)?;
        self.definition(name).ok_or_else(|| Failure::Error(format!("undefined type `{name}`")))
    }

    fn check_arguments(
        &self,
        call: &mut Call,
        arguments: &[Part],
        directive: Option<&str>,
    ) -> Result<(), Failure> {
        for argument in arguments {
            check_name(&argument.name)?;
            if !self.referred(argument.of.as_ref())?.is_input() {
                return Failure::error(format!("argument `{}` is of no input type", argument.name));
            }
            self.check_directives(call, &argument.directives, "ARGUMENT_DEFINITION", directive, true)?;
        }
        Ok(())
    }

    /// Directives of several places are together in a type, so that none is said to be there twice.
    fn check_directives(
        &self,
        call: &mut Call,
        directives: &[Directive],
        location: &str,
        inside: Option<&str>,
        is_one_place: bool,
    ) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        for directive in directives {
            let name = directive.name.as_str();
            check_name(name)?;
            let wrong = |what: &str| Failure::error(format!("directive `{name}` {what}"));
            if inside == Some(name) {
                return wrong("cannot refer to itself");
            }
            let Some(definition) = self.directive(name) else { return wrong("is not defined") };
            if is_one_place && !seen.insert(name) && !definition.is_repeatable {
                return wrong("can only be used once at this location");
            }
            if named(call, &definition.locations, |known| known, location)?.is_none() {
                return wrong(&format!("is not applicable on {location}"));
            }
            for argument in &directive.arguments {
                if part(call, &definition.arguments, &argument.name)?.is_none() {
                    return wrong(&format!("has no argument `{}`", argument.name));
                }
            }
            call.take(definition.arguments.len().div_ceil(NAMES_PER_STEP))?;
            for defined in &definition.arguments {
                if !needed(defined.of.as_ref(), "type")?.non_null || defined.default.is_some() {
                    continue;
                }
                let given = named(call, &directive.arguments, |given| &given.name, &defined.name)?;
                let is_null = match given {
                    None => true,
                    Some(given) => needed(given.value.as_ref(), "value")?.kind == Kind::Null,
                };
                if is_null {
                    return wrong(&format!("needs an argument `{}`", defined.name));
                }
            }
        }
        Ok(())
    }

    fn check_implements(&self, call: &mut Call, definition: &Definition, name: &str) -> Result<(), Failure> {
        let wrong =
            |what: &str| Failure::error(format!("`{}` cannot implement `{name}`: {what}", definition.name));
        let Some(interface) = self.definition(name).filter(|interface| interface.is(INTERFACE)) else {
            return wrong("it is no interface");
        };
        for required in &interface.fields {
            let Some(found) = part(call, &definition.fields, &required.name)? else {
                return wrong(&format!("field `{}` is missing", required.name));
            };
            let (of, own) = (needed(required.of.as_ref(), "type")?, needed(found.of.as_ref(), "type")?);
            if !self.is_covariant(call, of, own)? {
                return wrong(&format!("field `{}` has another type", required.name));
            }
            for argument in &required.arguments {
                let Some(own) = part(call, &found.arguments, &argument.name)? else {
                    return wrong(&format!("argument `{}` is missing", argument.name));
                };
                let (of, own) = (needed(argument.of.as_ref(), "type")?, needed(own.of.as_ref(), "type")?);
                if !is_compatible(of, own, own.non_null) {
                    return wrong(&format!("argument `{}` has another type", argument.name));
                }
            }
            for own in &found.arguments {
                if part(call, &required.arguments, &own.name)?.is_none()
                    && needed(own.of.as_ref(), "type")?.non_null
                    && own.default.is_none()
                {
                    return wrong(&format!("argument `{}` is required", own.name));
                }
            }
        }
        for inherited in &interface.interfaces {
            if named(call, &definition.interfaces, |own| own, inherited)?.is_none() {
                return wrong(&format!("`{inherited}` must be implemented too"));
            }
        }
        Ok(())
    }

    fn is_covariant(&self, call: &mut Call, required: &Type, actual: &Type) -> Result<bool, Failure> {
        let (mut required, mut actual) = (required, actual);
        loop {
            if required.non_null && !actual.non_null {
                return Ok(false);
            }
            if !required.name.is_empty() {
                break;
            }
            if required.element.is_some() && actual.element.is_none() {
                return Ok(false);
            }
            required = needed(required.element.as_deref(), "type")?;
            actual = needed(actual.element.as_deref(), "type")?;
        }
        if required.name == actual.name {
            return Ok(true);
        }
        let possible = self.possible(&required.name);
        call.take(possible.len().div_ceil(NAMES_PER_STEP))?;
        for place in possible {
            let possible = place.and_then(|place| self.types.get(place));
            if needed(possible, "definition of a member of a union")?.name == actual.name {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Input objects that need one another cannot be written down.
    fn check_circles(&self) -> Result<(), Failure> {
        let (mut visited, mut above) = (HashSet::new(), HashSet::new());
        for start in self.places.values() {
            let mut path = vec![(*start, 0)];
            while let Some((place, field)) = path.pop() {
                let Some(definition) = self.types.get(place).filter(|found| found.is(INPUT_OBJECT)) else {
                    continue;
                };
                if field == 0 && !visited.insert(place) {
                    continue;
                }
                above.insert(place);
                let Some(part) = definition.fields.get(field) else {
                    above.remove(&place);
                    continue;
                };
                path.push((place, field.saturating_add(1)));
                let of = part.of.as_ref().filter(|of| of.non_null && !of.name.is_empty());
                let Some(next) = of.and_then(|of| self.place(&of.name)) else { continue };
                if above.contains(&next) {
                    return Failure::error(format!("input object `{}` needs itself", definition.name));
                }
                path.push((next, 0));
            }
        }
        Ok(())
    }
}

/// Names with two underscores at the beginning are GraphQL's own.
fn check_name(name: &str) -> Result<(), Failure> {
    if name.starts_with("__") {
        return Failure::error(format!("name `{name}` must not begin with `__`"));
    }
    Ok(())
}

/// Whether a name is there more than once.
fn has_twice<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = HashSet::new();
    !names.all(|name| seen.insert(name))
}
