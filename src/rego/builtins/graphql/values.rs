//! The rules about values and variables (`vektah/gqlparser:validator/rules`).

use std::collections::HashSet;

use super::context::Context;
use super::schema::{crash, is_compatible, name_of, named, needed, part};
use super::tree::{Definition, ENUM, Kind, Literal, Part, SCALAR, Type, Variable};
use crate::rego::call::VALUE_BYTES;
use crate::rego::failure::Failure;
use crate::rego::json;

/// What is expected where a value stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected<'a> {
    of: Option<&'a Type>,
    has_default: bool,
    definition: Option<&'a Definition>,
}

impl<'a> Expected<'a> {
    /// An argument or a field.
    pub fn of(context: &Context<'a, '_>, part: &'a Part) -> Result<Self, Failure> {
        let has_default = part.default.as_ref().is_some_and(|default| default.kind != Kind::Null);
        Ok(Self { of: part.of.as_ref(), has_default, definition: context.definition_of(part)? })
    }

    /// The default of a variable.
    pub fn of_variable(context: &Context<'a, '_>, variable: &'a Variable) -> Result<Self, Failure> {
        let definition = context.schema.definition(name_of(variable.of.as_ref())?);
        Ok(Self { of: variable.of.as_ref(), has_default: false, definition })
    }

    /// The definition of its type.
    pub const fn definition(&self) -> Option<&'a Definition> {
        self.definition
    }
}

/// Looks at a value and at those within it.
pub(super) fn walk<'a>(
    context: &mut Context<'a, '_>,
    value: &'a Literal,
    expected: Expected<'a>,
) -> Result<(), Failure> {
    context.step()?;
    let variable = match value.kind {
        Kind::Variable => context.variable(&value.raw)?,
        _ => None,
    };
    if variable.is_some() {
        context.used.insert(&value.raw);
    }
    context.within(|context| match value.kind {
        Kind::Object => walk_object(context, value, expected),
        Kind::List => walk_list(context, value, expected),
        _ => Ok(()),
    })?;
    if value.kind == Kind::Variable && variable.is_none() && context.operation.is_some() {
        context.wrong(|| format!("variable `${}` is not defined", value.raw));
    }
    if value.kind == Kind::Object {
        let mut seen = HashSet::new();
        if !value.children.iter().all(|child| seen.insert(&child.name)) {
            context.wrong(|| "an input field is there twice".into());
        }
    }
    if let (Some(of), Some(definition)) = (expected.of, expected.definition) {
        check(context, value, of, definition)?;
    }
    if let (Some(variable), Some(of)) = (variable, expected.of) {
        check_position(context, variable, of, expected.has_default)?;
    }
    check_one_of(context, value, expected)
}

fn walk_object<'a>(
    context: &mut Context<'a, '_>,
    value: &'a Literal,
    expected: Expected<'a>,
) -> Result<(), Failure> {
    for child in &value.children {
        let fields = expected.definition.map_or(&[][..], |definition| &definition.fields);
        let field = part(context.call, fields, &child.name)?;
        let inner = field.map(|field| Expected::of(context, field)).transpose()?;
        walk(context, needed(child.value.as_ref(), "value")?, inner.unwrap_or_default())?;
    }
    Ok(())
}

fn walk_list<'a>(
    context: &mut Context<'a, '_>,
    value: &'a Literal,
    expected: Expected<'a>,
) -> Result<(), Failure> {
    let element = expected.of.and_then(|of| of.element.as_deref());
    let definition = element.and(expected.definition);
    for child in &value.children {
        let inner = Expected { of: element, has_default: false, definition };
        walk(context, needed(child.value.as_ref(), "value")?, inner)?;
    }
    Ok(())
}

/// Whether a value is of its type. Scalars of one's own take any.
fn check<'a>(
    context: &mut Context<'a, '_>,
    value: &'a Literal,
    of: &Type,
    definition: &'a Definition,
) -> Result<(), Failure> {
    if value.kind == Kind::Null && of.non_null {
        context.wrong(|| format!("expected a value of type `{}`, found null", definition.name));
    }
    if definition.is(SCALAR) && !definition.is_one_of(&["Int", "Float", "String", "Boolean", "ID"]) {
        return Ok(());
    }
    let is_readable = has_value(context, value)?;
    let is_such = match value.kind {
        Kind::Null | Kind::Variable => true,
        Kind::List => of.element.is_some(),
        Kind::Int => definition.is_one_of(&["Int", "Float", "ID"]),
        Kind::Float => definition.is_one_of(&["Float"]),
        Kind::String | Kind::Block => !definition.is(ENUM) && definition.is_one_of(&["String", "ID"]),
        Kind::Boolean => definition.is_one_of(&["Boolean"]),
        Kind::Enum => definition.is(ENUM) && part(context.call, &definition.values, &value.raw)?.is_some(),
        Kind::Object => {
            check_object(context, value, definition)?;
            true
        }
    };
    if !is_readable || !is_such {
        context.wrong(|| format!("a value is not of type `{}`", definition.name));
    }
    Ok(())
}

fn check_object(
    context: &mut Context<'_, '_>,
    value: &Literal,
    definition: &Definition,
) -> Result<(), Failure> {
    for field in &definition.fields {
        context.step()?;
        if !needed(field.of.as_ref(), "type")?.non_null || field.default.is_some() {
            continue;
        }
        if named(context.call, &value.children, |child| &child.name, &field.name)?.is_none() {
            let (of, name) = (&definition.name, &field.name);
            context.wrong(|| format!("field `{of}.{name}` was not provided"));
        }
    }
    for directive in &definition.directives {
        context.step()?;
        if directive.name != "oneOf" {
            continue;
        }
        let is_null = match value.children.as_slice() {
            [child] => needed(child.value.as_ref(), "value")?.kind == Kind::Null,
            _ => true,
        };
        if is_null && value.children.len() == 1 && definition.fields.is_empty() {
            return crash("`@oneOf` where there are no fields");
        }
        if is_null {
            context.wrong(|| format!("`{}` must have exactly one key that is not null", definition.name));
        }
    }
    for child in &value.children {
        if part(context.call, &definition.fields, &child.name)?.is_none() {
            context.wrong(|| format!("field `{}` is not defined by type `{}`", child.name, definition.name));
        }
    }
    Ok(())
}

/// Whether the library can make a value of a literal: numbers have bounds, also within other values.
fn has_value(context: &mut Context<'_, '_>, value: &Literal) -> Result<bool, Failure> {
    context.call.take((value.raw.len() / VALUE_BYTES).saturating_add(1))?;
    match value.kind {
        Kind::Variable => {
            match context.variable(&value.raw)?.and_then(|variable| variable.default.as_ref()) {
                Some(default) => context.within(|context| has_value(context, default)),
                None => Ok(true),
            }
        }
        Kind::Int => Ok(value.raw.parse::<i64>().is_ok()),
        Kind::Float if json::number_length(&value.raw) == Some(value.raw.len()) => {
            Ok(value.raw.parse::<f64>().is_ok_and(f64::is_finite))
        }
        Kind::Float => Err(Failure::Halt("a number in another notation is not read here".into())),
        Kind::Boolean => {
            const BOOLEANS: [&str; 12] =
                ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
            Ok(BOOLEANS.contains(&value.raw.as_str()))
        }
        Kind::String | Kind::Block | Kind::Null | Kind::Enum => Ok(true),
        Kind::List | Kind::Object => context.within(|context| {
            let mut is_readable = true;
            for child in &value.children {
                is_readable &= has_value(context, needed(child.value.as_ref(), "value")?)?;
            }
            Ok(is_readable)
        }),
    }
}

/// Whether a variable may stand where a type is expected: a default makes up for null.
fn check_position(
    context: &mut Context<'_, '_>,
    variable: &Variable,
    of: &Type,
    has_default: bool,
) -> Result<(), Failure> {
    let own_default = variable.default.as_ref().is_some_and(|default| default.kind != Kind::Null);
    let own = needed(variable.of.as_ref(), "type")?;
    if !is_compatible(own, of, of.non_null && !own_default && !has_default) {
        context.wrong(|| format!("variable `${}` is of another type than expected", variable.name));
    }
    Ok(())
}

/// Of an object that needs exactly one key, a variable must not be null.
fn check_one_of(
    context: &mut Context<'_, '_>,
    value: &Literal,
    expected: Expected<'_>,
) -> Result<(), Failure> {
    let Some(definition) = expected.definition.filter(|_| value.kind == Kind::Object) else { return Ok(()) };
    if named(context.call, &definition.directives, |directive| &directive.name, "oneOf")?.is_none() {
        return Ok(());
    }
    for child in &value.children {
        let Some(inner) = child.value.as_ref().filter(|inner| inner.kind == Kind::Variable) else { continue };
        let Some(variable) = context.variable(&inner.raw)? else { continue };
        if !needed(variable.of.as_ref(), "type")?.non_null {
            context.wrong(|| format!("variable `${}` must be non-nullable", inner.raw));
        }
    }
    Ok(())
}
