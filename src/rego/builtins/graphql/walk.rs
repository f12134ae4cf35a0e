//! Whether a query is valid by a schema: a walk through it, and the rules that look at one thing of it at a time
//! (`vektah/gqlparser:validator/core/walk.go` and `validator/rules`).

use std::collections::HashSet;

use super::context::Context;
use super::fragments::{can_be_both, check_circles, check_introspection, check_subscription};
use super::overlap::Overlap;
use super::schema::{Schema, crash, named, needed, part};
use super::tree::{
    Argument, Definition, Directive, Field, Fragment, Inline, MUTATION, Operation, Part, QUERY, Query,
    SUBSCRIPTION, Selection, Spread, Type,
};
use super::values::{self, Expected};
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// An error says what is wrong with a query.
pub(super) fn check(call: &mut Call, schema: &Schema, query: &Query) -> Result<(), Failure> {
    let of = Type { name: "String".into(), element: None, non_null: false };
    let type_name = Part { name: "__typename".into(), of: Some(of), ..Part::default() };
    let mut walk = Walk::new(Context::new(call, schema, query, &type_name));
    let mut names = HashSet::new();
    for operation in &query.operations {
        walk.operation(operation)?;
        if !names.insert(&operation.name) {
            walk.context.wrong(|| format!("there can be only one operation named `{}`", operation.name));
        }
    }
    let mut names = HashSet::new();
    for fragment in &query.fragments {
        walk.fragment(fragment)?;
        if !names.insert(&fragment.name) {
            walk.context.wrong(|| format!("there can be only one fragment named `{}`", fragment.name));
        }
    }
    check_circles(&mut walk.context)?;
    walk.context.problem()
}

struct Walk<'a, 'c> {
    context: Context<'a, 'c>,
    overlap: Overlap<'a>,
    /// The fragments that were walked through since the operation or the fragment began.
    seen: HashSet<&'a str>,
    /// The fragments that operations use.
    used: HashSet<&'a str>,
    is_in_fragments: bool,
}

impl<'a, 'c> Walk<'a, 'c> {
    fn new(context: Context<'a, 'c>) -> Self {
        let (overlap, seen, used) = (Overlap::default(), HashSet::new(), HashSet::new());
        Self { context, overlap, seen, used, is_in_fragments: false }
    }

    fn operation(&mut self, operation: &'a Operation) -> Result<(), Failure> {
        // A set that is emptied keeps its capacity, and to empty that takes time.
        (self.seen, self.context.used) = (HashSet::new(), HashSet::new());
        self.context.operation = Some(operation);
        let location = match operation.kind.as_str() {
            QUERY | "" => "QUERY",
            MUTATION => "MUTATION",
            SUBSCRIPTION => "SUBSCRIPTION",
            _ => return crash("an operation of an unknown kind"),
        };
        self.variables(operation)?;
        let root = self.context.schema.root(&operation.kind);
        self.directives(&operation.directives, location)?;
        self.selections(&operation.selections, root)?;
        if root.is_none() {
            self.context.wrong(|| format!("the schema has no type for a {}", operation.kind));
        }
        if operation.name.is_empty() && self.context.query.operations.len() > 1 {
            self.context.wrong(|| "an anonymous operation must be the only one".into());
        }
        let is_unused = |context: &Context<'_, '_>| {
            operation.variables.iter().any(|it| !it.is_used && !context.used.contains(it.name.as_str()))
        };
        if is_unused(&self.context) {
            self.context.wrong(|| "a variable is never used".into());
        }
        if location == "SUBSCRIPTION" && root.is_some() {
            check_subscription(&mut self.context, operation)?;
        }
        self.overlap.check(&mut self.context, &operation.selections, root)?;
        self.context.operation = None;
        Ok(())
    }

    fn variables(&mut self, operation: &'a Operation) -> Result<(), Failure> {
        let mut names = HashSet::new();
        for variable in &operation.variables {
            let expected = Expected::of_variable(&self.context, variable)?;
            match expected.definition() {
                None => self.context.wrong(|| format!("variable `${}` is of an unknown type", variable.name)),
                Some(of) if !of.is_input() => {
                    self.context.wrong(|| format!("variable `${}` is of no input type", variable.name));
                }
                Some(_) => {}
            }
            if !names.insert(&variable.name) {
                self.context.wrong(|| format!("there can be only one variable named `${}`", variable.name));
            }
        }
        for variable in &operation.variables {
            let expected = Expected::of_variable(&self.context, variable)?;
            if let Some(default) = &variable.default {
                values::walk(&mut self.context, default, expected)?;
            }
            self.directives(&variable.directives, "VARIABLE_DEFINITION")?;
        }
        Ok(())
    }

    fn fragment(&mut self, fragment: &'a Fragment) -> Result<(), Failure> {
        self.seen = HashSet::new();
        let definition = self.context.schema.definition(&fragment.condition);
        self.directives(&fragment.directives, "FRAGMENT_DEFINITION")?;
        self.selections(&fragment.selections, definition)?;
        self.is_in_fragments = true;
        if !self.used.contains(fragment.name.as_str()) {
            self.context.wrong(|| format!("fragment `{}` is never used", fragment.name));
        }
        match definition {
            None => self.context.wrong(|| format!("unknown type `{}`", fragment.condition)),
            Some(of) if !fragment.condition.is_empty() && !of.is_composite() => {
                self.context.wrong(|| format!("fragment `{}` is on no composite type", fragment.name));
            }
            Some(_) => {}
        }
        self.overlap.check(&mut self.context, &fragment.selections, definition)
    }

    fn directives(&mut self, directives: &'a [Directive], location: &str) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        for directive in directives {
            let (context, name) = (&mut self.context, directive.name.as_str());
            let definition = context.schema.directive(name);
            arguments(context, &directive.arguments, definition.map(|known| known.arguments.as_slice()))?;
            if !seen.insert(name) && !definition.is_some_and(|known| known.is_repeatable) {
                context.wrong(|| format!("directive `@{name}` can only be used once at a location"));
            }
            let Some(definition) = definition else {
                context.wrong(|| format!("unknown directive `@{name}`"));
                continue;
            };
            if named(context.call, &definition.locations, |known| known, location)?.is_none() {
                if !directive.is_placed {
                    return crash("a directive where it may not be used, and no position");
                }
                context.wrong(|| format!("directive `@{name}` may not be used on {location}"));
            }
        }
        Ok(())
    }

    fn selections(
        &mut self,
        selections: &'a [Selection],
        parent: Option<&'a Definition>,
    ) -> Result<(), Failure> {
        for selection in selections {
            self.context.step()?;
            match selection {
                Selection::Field(field) => self.field(field, parent)?,
                Selection::Spread(spread) => self.spread(spread, parent)?,
                Selection::Inline(inline) => self.inline(inline, parent)?,
            }
        }
        Ok(())
    }

    /// What is selected within something.
    fn inner(&mut self, selections: &'a [Selection], parent: Option<&'a Definition>) -> Result<(), Failure> {
        self.context.enter()?;
        self.selections(selections, parent)?;
        self.context.leave();
        Ok(())
    }

    fn field(&mut self, field: &'a Field, parent: Option<&'a Definition>) -> Result<(), Failure> {
        let definition = self.context.field(field, parent)?;
        let of = definition.map(|known| self.context.definition_of(known)).transpose()?.flatten();
        // An unknown parent is no reason to look for the arguments of the field that each type has.
        let known = definition.map(|known| known.arguments.as_slice());
        arguments(&mut self.context, &field.arguments, known.filter(|_| parent.is_some()))?;
        self.directives(&field.directives, "FIELD")?;
        self.inner(&field.selections, of)?;
        if let (Some(parent), None) = (parent, definition) {
            self.context.wrong(|| format!("cannot query field `{}` on type `{}`", field.name, parent.name));
        }
        if of.is_some_and(|of| of.is_leaf() != field.selections.is_empty()) {
            self.context.wrong(|| format!("field `{}` must have a selection, or must not", field.name));
        }
        check_introspection(&mut self.context, field)?;
        if self.context.operation.is_none() {
            return Ok(());
        }
        self.overlap.check(&mut self.context, &field.selections, of)
    }

    fn inline(&mut self, inline: &'a Inline, parent: Option<&'a Definition>) -> Result<(), Failure> {
        let condition = inline.condition.as_str();
        let definition = self.context.schema.definition(condition);
        let inner = if condition.is_empty() { parent } else { definition };
        self.directives(&inline.directives, "INLINE_FRAGMENT")?;
        self.inner(&inline.selections, inner)?;
        if definition.is_none() && !condition.is_empty() {
            self.context.wrong(|| format!("unknown type `{condition}`"));
        }
        if definition.is_some_and(|of| !of.is_composite()) {
            self.context.wrong(|| format!("a fragment cannot be on the non composite type `{condition}`"));
        }
        if !can_be_both(&mut self.context, parent, condition)? {
            self.context.wrong(|| format!("objects here can never be of type `{condition}`"));
        }
        self.overlap.check(&mut self.context, &inline.selections, inner)
    }

    fn spread(&mut self, spread: &'a Spread, parent: Option<&'a Definition>) -> Result<(), Failure> {
        let fragment = self.context.fragment(&spread.name);
        self.directives(&spread.directives, "FRAGMENT_SPREAD")?;
        if let Some(fragment) = fragment.filter(|_| !self.seen.contains(spread.name.as_str())) {
            self.seen.insert(&spread.name);
            self.directives(&fragment.directives, "FRAGMENT_DEFINITION")?;
            self.inner(&fragment.selections, self.context.schema.definition(&fragment.condition))?;
        }
        if !self.is_in_fragments {
            self.used.insert(&spread.name);
        }
        let Some(fragment) = fragment else {
            self.context.wrong(|| format!("unknown fragment `{}`", spread.name));
            return Ok(());
        };
        if !can_be_both(&mut self.context, parent, &fragment.condition)? {
            self.context.wrong(|| format!("fragment `{}` cannot be spread here", spread.name));
        }
        Ok(())
    }
}

/// The arguments of a field or a directive beside those that are known, if it is.
fn arguments<'a>(
    context: &mut Context<'a, '_>,
    given: &'a [Argument],
    known: Option<&'a [Part]>,
) -> Result<(), Failure> {
    let mut names = HashSet::new();
    for argument in given {
        let definition = match known {
            Some(known) => part(context.call, known, &argument.name)?,
            None => None,
        };
        let expected = definition.map(|known| Expected::of(context, known)).transpose()?;
        values::walk(context, needed(argument.value.as_ref(), "value")?, expected.unwrap_or_default())?;
        if known.is_some() && definition.is_none() {
            context.wrong(|| format!("unknown argument `{}`", argument.name));
        }
        if !names.insert(argument.name.as_str()) {
            context.wrong(|| format!("there can be only one argument named `{}`", argument.name));
        }
    }
    for known in known.unwrap_or_default() {
        context.step()?;
        if needed(known.of.as_ref(), "type")?.non_null
            && known.default.is_none()
            && !names.contains(known.name.as_str())
        {
            context.wrong(|| format!("argument `{}` is required, but it was not provided", known.name));
        }
    }
    Ok(())
}
