//! A tree that rules hand in as a value, read as Go's `encoding/json` reads it into the library's structures. Most names are taken in any
//! case; selections and what has them take exact ones (`vektah/gqlparser:ast/decode.go`). A value that is not read so here ends the evaluation.

use super::tree::{
    Argument, Comments, Definition, Directive, DirectiveDefinition, Document, Entry, Field, Fragment, KINDS,
    Kind, Literal, Operation, Part, Query, Root, Selection, Type, Variable, check_name,
};
use crate::rego::call::{Call, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::json;
use crate::rego::number::Number;
use crate::rego::value::{Object, Value};

type Read<T> = Result<T, Failure>;

/// Bytes of a node of the tree, which may be made of an empty object.
const BYTES_OF_NODE: usize = 9 * VALUE_BYTES;

/// An executable document.
pub(super) fn query(call: &mut Call, value: &Value) -> Read<Query> {
    let value = plain(call, value)?;
    let found = Members::folded(&value)?;
    Ok(Query {
        operations: found.list("Operations", operation)?,
        fragments: found.list("Fragments", fragment)?,
        comments: found.comments("Comment")?,
    })
}

/// A document of the type system.
pub(super) fn document(call: &mut Call, value: &Value) -> Read<Document> {
    let value = plain(call, value)?;
    let found = Members::folded(&value)?;
    Ok(Document {
        schemas: found.list("Schema", entry)?,
        schema_extensions: found.list("SchemaExtension", entry)?,
        directives: found.list("Directives", directive_definition)?,
        definitions: found.list("Definitions", definition)?,
        extensions: found.list("Extensions", definition)?,
        comments: found.comments("Comment")?,
    })
}

/// As JSON: sets become arrays, and keys texts.
fn plain(call: &mut Call, value: &Value) -> Read<Value> {
    // What the tree takes at most that is made of it.
    let bytes = value.weight(BYTES_OF_NODE);
    call.fits(bytes)?;
    call.take(bytes / BYTES_OF_NODE)?;
    json::parse(&value.to_json_text()).map_err(|failure| match failure {
        Failure::Error(reason) | Failure::Halt(reason) => Failure::Halt(reason),
        Failure::Undefined => Failure::Undefined,
    })
}

fn wrong<T>(name: &str) -> Read<T> {
    Failure::error(format!("`{name}` of a GraphQL document is of another type"))
}

fn unread<T>(name: &str) -> Read<T> {
    Err(Failure::Halt(format!("a GraphQL document with such a `{name}` is not read here")))
}

/// The members of an object.
struct Members<'a> {
    members: Option<&'a Object>,
    is_folded: bool,
}

impl<'a> Members<'a> {
    fn of(value: &'a Value, is_folded: bool) -> Read<Self> {
        match value {
            Value::Null => Ok(Self { members: None, is_folded }),
            Value::Object(members) => Ok(Self { members: Some(members), is_folded }),
            _ => Failure::error("a part of a GraphQL document is no object"),
        }
    }

    /// With names in any case.
    fn folded(value: &'a Value) -> Read<Self> {
        Self::of(value, true)
    }

    fn exact(value: &'a Value) -> Read<Self> {
        Self::of(value, false)
    }

    /// The member of a name, unless it is null. Of two that fold to it Go takes parts of both.
    fn get(&self, name: &str) -> Read<Option<&'a Value>> {
        let Some(members) = self.members else { return Ok(None) };
        let found = if self.is_folded {
            let folds = |key: &Value| matches!(key, Value::String(key) if folded(key, name));
            let mut all = members.iter().filter(|(key, _)| folds(key)).map(|(_, value)| value);
            let found = all.next();
            if all.next().is_some() {
                return unread(name);
            }
            found
        } else {
            members.get(&Value::text(name))
        };
        Ok(found.filter(|value| **value != Value::Null))
    }

    fn text(&self, name: &str) -> Read<String> {
        match self.get(name)? {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => wrong(name),
        }
    }

    /// A name, which is no longer than in a text.
    fn name(&self, name: &str) -> Read<String> {
        self.text(name).and_then(short)
    }

    fn flag(&self, name: &str) -> Read<bool> {
        match self.get(name)? {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => wrong(name),
        }
    }

    fn maybe<T>(&self, name: &str, read: impl Fn(&Value) -> Read<T>) -> Read<Option<T>> {
        self.get(name)?.map(read).transpose()
    }

    /// The library ends OPA's process when it comes to a null.
    fn list<T>(&self, name: &str, read: impl Fn(&Value) -> Read<T>) -> Read<Vec<T>> {
        match self.get(name)? {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) if items.contains(&Value::Null) => unread(name),
            Some(Value::Array(items)) => items.iter().map(read).collect(),
            Some(_) => wrong(name),
        }
    }

    fn texts(&self, name: &'static str) -> Read<Vec<String>> {
        self.list(name, |item| match item {
            Value::String(text) => short(text.clone()),
            _ => wrong(name),
        })
    }

    fn comments(&self, name: &str) -> Read<Comments> {
        let read = |value: &Value| {
            Members::folded(value)?.list("List", |comment| {
                let comment = Members::folded(comment)?;
                comment.without(&["Position"])?;
                comment.text("Value")
            })
        };
        Ok(self.maybe(name, read)?.unwrap_or_default())
    }

    /// What only the library itself sets.
    fn without(&self, names: &[&str]) -> Read<()> {
        names.iter().try_for_each(|name| match self.get(name)? {
            None => Ok(()),
            Some(Value::Object(_)) => unread(name),
            Some(_) => wrong(name),
        })
    }
}

fn short(name: String) -> Read<String> {
    check_name(name.len())?;
    Ok(name)
}

/// Whether a key is a name but for its case, as Go folds it: the sign of kelvin is a k, and the long s an s.
fn folded(key: &str, name: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

fn operation(value: &Value) -> Read<Operation> {
    let found = Members::exact(value)?;
    found.without(&["Position"])?;
    Ok(Operation {
        kind: found.name("Operation")?,
        name: found.name("Name")?,
        variables: found.list("VariableDefinitions", variable)?,
        directives: found.list("Directives", directive)?,
        selections: selections(&found)?,
        comments: Vec::new(),
    })
}

fn fragment(value: &Value) -> Read<Fragment> {
    let found = Members::exact(value)?;
    found.without(&["Position", "Definition"])?;
    Ok(Fragment {
        name: found.name("Name")?,
        variables: found.list("VariableDefinition", variable)?,
        condition: found.name("TypeCondition")?,
        directives: found.list("Directives", directive)?,
        selections: selections(&found)?,
        comments: Vec::new(),
    })
}

/// The library takes each for a field if it can be one. What can not is another kind of selection, or lost.
fn selections(found: &Members<'_>) -> Read<Vec<Selection>> {
    match found.get("SelectionSet")? {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| match field(item) {
                Ok(field) => Ok(Selection::Field(field)),
                Err(Failure::Error(_)) => unread("SelectionSet"),
                Err(other) => Err(other),
            })
            .collect(),
        Some(_) => wrong("SelectionSet"),
    }
}

fn field(value: &Value) -> Read<Field> {
    let found = Members::exact(value)?;
    found.without(&["Position", "Definition", "ObjectDefinition"])?;
    Ok(Field {
        alias: found.name("Alias")?,
        name: found.name("Name")?,
        arguments: found.list("Arguments", argument)?,
        directives: found.list("Directives", directive)?,
        selections: selections(&found)?,
        comments: Vec::new(),
    })
}

fn variable(value: &Value) -> Read<Variable> {
    let found = Members::folded(value)?;
    found.without(&["Definition"])?;
    Ok(Variable {
        name: found.name("Variable")?,
        of: found.maybe("Type", type_reference)?,
        default: found.maybe("DefaultValue", literal)?,
        directives: found.list("Directives", directive)?,
        comments: found.comments("Comment")?,
        is_used: found.flag("Used")?,
    })
}

fn argument(value: &Value) -> Read<Argument> {
    let found = Members::folded(value)?;
    Ok(Argument {
        name: found.name("Name")?,
        value: found.maybe("Value", literal)?,
        comments: found.comments("Comment")?,
    })
}

fn literal(value: &Value) -> Read<Literal> {
    let found = Members::folded(value)?;
    found.without(&["Definition", "VariableDefinition", "ExpectedType"])?;
    if found.flag("ExpectedTypeHasDefault")? {
        return unread("ExpectedTypeHasDefault");
    }
    let number = match found.get("Kind")? {
        None => 0,
        Some(Value::Number(Number::Int(number))) => *number,
        Some(Value::Number(_)) => return unread("Kind"),
        Some(_) => return wrong("Kind"),
    };
    let kind = usize::try_from(number).ok().and_then(|number| KINDS.get(number));
    let Some(kind) = kind else { return unread("Kind") };
    let raw = found.text("Raw")?;
    Ok(Literal {
        raw: if matches!(kind, Kind::Variable | Kind::Enum) { short(raw)? } else { raw },
        children: found.list("Children", argument)?,
        kind: *kind,
        comments: found.comments("Comment")?,
    })
}

fn directive(value: &Value) -> Read<Directive> {
    let found = Members::folded(value)?;
    found.without(&["ParentDefinition", "Definition"])?;
    Ok(Directive {
        name: found.name("Name")?,
        arguments: found.list("Arguments", argument)?,
        location: found.name("Location")?,
        is_placed: false,
    })
}

/// A name or a list: by another one OPA's process may end, at the latest in the text of an error.
fn type_reference(value: &Value) -> Read<Type> {
    let found = Members::folded(value)?;
    let (name, element) = (found.name("NamedType")?, found.maybe("Elem", type_reference)?.map(Box::new));
    if name.is_empty() != element.is_some() {
        return unread("Type");
    }
    Ok(Type { name, element, non_null: found.flag("NonNull")? })
}

fn entry(value: &Value) -> Read<Entry> {
    let found = Members::folded(value)?;
    Ok(Entry {
        description: found.text("Description")?,
        directives: found.list("Directives", directive)?,
        roots: found.list("OperationTypes", root)?,
        comments: comments_of_definition(&found)?,
    })
}

fn root(value: &Value) -> Read<Root> {
    let found = Members::folded(value)?;
    Ok(Root {
        operation: found.name("Operation")?,
        of: found.name("Type")?,
        comments: found.comments("Comment")?,
    })
}

fn comments_of_definition(found: &Members<'_>) -> Read<[Comments; 3]> {
    let [before, after] = comments_of_part(found)?;
    Ok([before, after, found.comments("EndOfDefinitionComment")?])
}

fn comments_of_part(found: &Members<'_>) -> Read<[Comments; 2]> {
    Ok([found.comments("BeforeDescriptionComment")?, found.comments("AfterDescriptionComment")?])
}

fn definition(value: &Value) -> Read<Definition> {
    let found = Members::folded(value)?;
    Ok(Definition {
        kind: found.name("Kind")?,
        description: found.text("Description")?,
        name: found.name("Name")?,
        directives: found.list("Directives", directive)?,
        interfaces: found.texts("Interfaces")?,
        fields: found.list("Fields", field_definition)?,
        types: found.texts("Types")?,
        values: found.list("EnumValues", enum_value)?,
        is_built_in: found.flag("BuiltIn")?,
        comments: comments_of_definition(&found)?,
    })
}

fn field_definition(value: &Value) -> Read<Part> {
    let arguments = Members::folded(value)?.list("Arguments", argument_definition)?;
    Ok(Part { arguments, ..argument_definition(value)? })
}

fn argument_definition(value: &Value) -> Read<Part> {
    let found = Members::folded(value)?;
    Ok(Part {
        default: found.maybe("DefaultValue", literal)?,
        of: found.maybe("Type", type_reference)?,
        ..enum_value(value)?
    })
}

fn enum_value(value: &Value) -> Read<Part> {
    let found = Members::folded(value)?;
    Ok(Part {
        description: found.text("Description")?,
        name: found.name("Name")?,
        directives: found.list("Directives", directive)?,
        comments: comments_of_part(&found)?,
        ..Part::default()
    })
}

fn directive_definition(value: &Value) -> Read<DirectiveDefinition> {
    let found = Members::folded(value)?;
    Ok(DirectiveDefinition {
        description: found.text("Description")?,
        name: found.name("Name")?,
        arguments: found.list("Arguments", argument_definition)?,
        locations: found.texts("Locations")?,
        is_repeatable: found.flag("IsRepeatable")?,
        comments: comments_of_part(&found)?,
    })
}
