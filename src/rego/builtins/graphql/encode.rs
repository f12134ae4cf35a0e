//! A tree as a value of Rego: what is null or empty is left out, positions are left out, and what is `false`, zero or an empty text stays
//! (`open-policy-agent/opa:v1/topdown/graphql.go`, `pruneIrrelevantGraphQLASTNodes`).

use super::tree::{
    Argument, Comments, Definition, Directive, DirectiveDefinition, Document, Entry, Fragment, KINDS,
    Literal, Operation, Part, Query, Root, Selection, Type, Variable,
};
use crate::rego::call::object;
use crate::rego::value::Value;

fn node<const N: usize>(members: [(&str, Value); N]) -> Value {
    object(members.into_iter().filter(|(_, value)| !is_pruned(value)))
}

fn is_pruned(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn list<T>(items: &[T], encode: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(encode).filter(|item| !is_pruned(item)).collect())
}

fn maybe<T>(item: Option<&T>, encode: impl Fn(&T) -> Value) -> Value {
    item.map_or(Value::Null, encode)
}

fn comments(found: &Comments) -> Value {
    node([("List", list(found, |text| node([("Value", Value::text(text))])))])
}

/// An executable document.
pub(super) fn query(found: &Query) -> Value {
    node([
        ("Operations", list(&found.operations, operation)),
        ("Fragments", list(&found.fragments, fragment)),
        ("Comment", comments(&found.comments)),
    ])
}

fn operation(found: &Operation) -> Value {
    node([
        ("Operation", Value::text(&found.kind)),
        ("Name", Value::text(&found.name)),
        ("VariableDefinitions", list(&found.variables, variable)),
        ("Directives", list(&found.directives, directive)),
        ("SelectionSet", list(&found.selections, selection)),
        ("Comment", comments(&found.comments)),
    ])
}

fn fragment(found: &Fragment) -> Value {
    node([
        ("Name", Value::text(&found.name)),
        ("VariableDefinition", list(&found.variables, variable)),
        ("TypeCondition", Value::text(&found.condition)),
        ("Directives", list(&found.directives, directive)),
        ("SelectionSet", list(&found.selections, selection)),
        ("Comment", comments(&found.comments)),
    ])
}

fn variable(found: &Variable) -> Value {
    node([
        ("Variable", Value::text(&found.name)),
        ("Type", maybe(found.of.as_ref(), type_reference)),
        ("DefaultValue", maybe(found.default.as_ref(), literal)),
        ("Directives", list(&found.directives, directive)),
        ("Comment", comments(&found.comments)),
        ("Used", Value::Bool(found.is_used)),
    ])
}

fn selection(found: &Selection) -> Value {
    match found {
        Selection::Field(found) => node([
            ("Alias", Value::text(&found.alias)),
            ("Name", Value::text(&found.name)),
            ("Arguments", list(&found.arguments, argument)),
            ("Directives", list(&found.directives, directive)),
            ("SelectionSet", list(&found.selections, selection)),
            ("Comment", comments(&found.comments)),
        ]),
        Selection::Spread(found) => node([
            ("Name", Value::text(&found.name)),
            ("Directives", list(&found.directives, directive)),
            ("Comment", comments(&found.comments)),
        ]),
        Selection::Inline(found) => node([
            ("TypeCondition", Value::text(&found.condition)),
            ("Directives", list(&found.directives, directive)),
            ("SelectionSet", list(&found.selections, selection)),
            ("Comment", comments(&found.comments)),
        ]),
    }
}

fn argument(found: &Argument) -> Value {
    node([
        ("Name", Value::text(&found.name)),
        ("Value", maybe(found.value.as_ref(), literal)),
        ("Comment", comments(&found.comments)),
    ])
}

fn literal(found: &Literal) -> Value {
    let number = KINDS.iter().position(|kind| *kind == found.kind);
    node([
        ("Raw", Value::text(&found.raw)),
        ("Children", list(&found.children, argument)),
        ("Kind", Value::int(number.and_then(|number| i64::try_from(number).ok()).unwrap_or_default())),
        ("Comment", comments(&found.comments)),
        ("ExpectedTypeHasDefault", Value::Bool(false)),
    ])
}

fn directive(found: &Directive) -> Value {
    node([
        ("Name", Value::text(&found.name)),
        ("Arguments", list(&found.arguments, argument)),
        ("Location", Value::text(&found.location)),
    ])
}

fn type_reference(found: &Type) -> Value {
    node([
        ("NamedType", Value::text(&found.name)),
        ("Elem", maybe(found.element.as_deref(), type_reference)),
        ("NonNull", Value::Bool(found.non_null)),
    ])
}

/// A document of the type system.
pub(super) fn document(found: &Document) -> Value {
    node([
        ("Schema", list(&found.schemas, entry)),
        ("SchemaExtension", list(&found.schema_extensions, entry)),
        ("Directives", list(&found.directives, directive_definition)),
        ("Definitions", list(&found.definitions, definition)),
        ("Extensions", list(&found.extensions, definition)),
        ("Comment", comments(&found.comments)),
    ])
}

fn entry(found: &Entry) -> Value {
    let [before, after, end] = &found.comments;
    node([
        ("Description", Value::text(&found.description)),
        ("Directives", list(&found.directives, directive)),
        ("OperationTypes", list(&found.roots, root)),
        ("BeforeDescriptionComment", comments(before)),
        ("AfterDescriptionComment", comments(after)),
        ("EndOfDefinitionComment", comments(end)),
    ])
}

fn root(found: &Root) -> Value {
    node([
        ("Operation", Value::text(&found.operation)),
        ("Type", Value::text(&found.of)),
        ("Comment", comments(&found.comments)),
    ])
}

fn definition(found: &Definition) -> Value {
    let [before, after, end] = &found.comments;
    node([
        ("Kind", Value::text(&found.kind)),
        ("Description", Value::text(&found.description)),
        ("Name", Value::text(&found.name)),
        ("Directives", list(&found.directives, directive)),
        ("Interfaces", Value::texts(&found.interfaces)),
        ("Fields", list(&found.fields, part)),
        ("Types", Value::texts(&found.types)),
        ("EnumValues", list(&found.values, part)),
        ("BuiltIn", Value::Bool(found.is_built_in)),
        ("BeforeDescriptionComment", comments(before)),
        ("AfterDescriptionComment", comments(after)),
        ("EndOfDefinitionComment", comments(end)),
    ])
}

fn part(found: &Part) -> Value {
    let [before, after] = &found.comments;
    node([
        ("Description", Value::text(&found.description)),
        ("Name", Value::text(&found.name)),
        ("Arguments", list(&found.arguments, part)),
        ("DefaultValue", maybe(found.default.as_ref(), literal)),
        ("Type", maybe(found.of.as_ref(), type_reference)),
        ("Directives", list(&found.directives, directive)),
        ("BeforeDescriptionComment", comments(before)),
        ("AfterDescriptionComment", comments(after)),
    ])
}

fn directive_definition(found: &DirectiveDefinition) -> Value {
    let [before, after] = &found.comments;
    node([
        ("Description", Value::text(&found.description)),
        ("Name", Value::text(&found.name)),
        ("Arguments", list(&found.arguments, part)),
        ("Locations", Value::texts(&found.locations)),
        ("IsRepeatable", Value::Bool(found.is_repeatable)),
        ("BeforeDescriptionComment", comments(before)),
        ("AfterDescriptionComment", comments(after)),
    ])
}
