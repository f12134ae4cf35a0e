//! Documents of GraphQL as the library in OPA has them (`vektah/gqlparser:ast`), without positions.

use crate::rego::failure::Failure;

/// Comments, each with its `#`. None are as good as no group of comments.
pub(super) type Comments = Vec<String>;

/// Letters of a name that is read. Rules look names up again and again, each in the time that its letters take.
const MAX_NAME: usize = 1024;

/// Ends the evaluation at a name of more letters.
pub(super) fn check_name(letters: usize) -> Result<(), Failure> {
    if letters <= MAX_NAME {
        return Ok(());
    }
    Err(Failure::Halt(format!("a name of more than {MAX_NAME} letters is not read here")))
}

/// Kinds of definitions.
pub(super) const SCALAR: &str = "SCALAR";
pub(super) const OBJECT: &str = "OBJECT";
pub(super) const INTERFACE: &str = "INTERFACE";
pub(super) const UNION: &str = "UNION";
pub(super) const ENUM: &str = "ENUM";
pub(super) const INPUT_OBJECT: &str = "INPUT_OBJECT";

/// Kinds of operations.
pub(super) const QUERY: &str = "query";
pub(super) const MUTATION: &str = "mutation";
pub(super) const SUBSCRIPTION: &str = "subscription";

/// The kind of a literal; the numbers are those of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Variable,
    Int,
    Float,
    String,
    Block,
    Boolean,
    Null,
    Enum,
    List,
    Object,
}

/// All kinds, in the order of their numbers.
pub(super) const KINDS: [Kind; 10] = [
    Kind::Variable,
    Kind::Int,
    Kind::Float,
    Kind::String,
    Kind::Block,
    Kind::Boolean,
    Kind::Null,
    Kind::Enum,
    Kind::List,
    Kind::Object,
];

/// A literal, or the name of a variable.
#[derive(Debug, Clone)]
pub(super) struct Literal {
    pub raw: String,
    pub children: Vec<Argument>,
    pub kind: Kind,
    pub comments: Comments,
}

/// An argument, a field of an object, or (without a name) an item of a list. A tree that was handed in may lack the value.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    pub name: String,
    pub value: Option<Literal>,
    pub comments: Comments,
}

/// A directive where it is used.
#[derive(Debug, Clone)]
pub(super) struct Directive {
    pub name: String,
    pub arguments: Vec<Argument>,
    pub location: String,
    /// Whether the library knows where it stands.
    pub is_placed: bool,
}

/// A type by its name, or a list.
#[derive(Debug, Clone)]
pub(super) struct Type {
    pub name: String,
    pub element: Option<Box<Type>>,
    pub non_null: bool,
}

/// The definition of a variable.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub name: String,
    pub of: Option<Type>,
    pub default: Option<Literal>,
    pub directives: Vec<Directive>,
    pub comments: Comments,
    pub is_used: bool,
}

/// What is selected.
#[derive(Debug, Clone)]
pub(super) enum Selection {
    Field(Field),
    Spread(Spread),
    Inline(Inline),
}

/// A field.
#[derive(Debug, Clone, Default)]
pub(super) struct Field {
    pub alias: String,
    pub name: String,
    pub arguments: Vec<Argument>,
    pub directives: Vec<Directive>,
    pub selections: Vec<Selection>,
    pub comments: Comments,
}

impl Field {
    /// Its name in the response.
    pub fn response_name(&self) -> &str {
        if self.alias.is_empty() { &self.name } else { &self.alias }
    }
}

/// A fragment by its name.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    pub name: String,
    pub directives: Vec<Directive>,
    pub comments: Comments,
}

/// A fragment where it is used.
#[derive(Debug, Clone)]
pub(super) struct Inline {
    pub condition: String,
    pub directives: Vec<Directive>,
    pub selections: Vec<Selection>,
    pub comments: Comments,
}

/// An operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub kind: String,
    pub name: String,
    pub variables: Vec<Variable>,
    pub directives: Vec<Directive>,
    pub selections: Vec<Selection>,
    pub comments: Comments,
}

/// The definition of a fragment.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    pub name: String,
    pub variables: Vec<Variable>,
    pub condition: String,
    pub directives: Vec<Directive>,
    pub selections: Vec<Selection>,
    pub comments: Comments,
}

/// An executable document.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    pub operations: Vec<Operation>,
    pub fragments: Vec<Fragment>,
    pub comments: Comments,
}

/// A field of a type, an argument of a field, or a value of an enum: each has fewer members than the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pub description: String,
    pub name: String,
    pub arguments: Vec<Part>,
    pub default: Option<Literal>,
    pub of: Option<Type>,
    pub directives: Vec<Directive>,
    /// Before the description, and after it.
    pub comments: [Comments; 2],
}

/// The definition of a type.
#[derive(Debug, Clone, Default)]
pub(super) struct Definition {
    pub kind: String,
    pub description: String,
    pub name: String,
    pub directives: Vec<Directive>,
    pub interfaces: Vec<String>,
    pub fields: Vec<Part>,
    pub types: Vec<String>,
    pub values: Vec<Part>,
    pub is_built_in: bool,
    /// Before the description, after it, and before the end.
    pub comments: [Comments; 3],
}

impl Definition {
    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// Whether it has no fields to select.
    pub fn is_leaf(&self) -> bool {
        self.is(ENUM) || self.is(SCALAR)
    }

    /// Whether it has fields to select.
    pub fn is_composite(&self) -> bool {
        self.is(OBJECT) || self.is(INTERFACE) || self.is(UNION)
    }

    /// Whether arguments and variables may be of it.
    pub fn is_input(&self) -> bool {
        self.is(SCALAR) || self.is(ENUM) || self.is(INPUT_OBJECT)
    }

    /// Whether it is one of these.
    pub fn is_one_of(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }
}

/// The definition of a directive.
#[derive(Debug, Clone)]
pub(super) struct DirectiveDefinition {
    pub description: String,
    pub name: String,
    pub arguments: Vec<Part>,
    pub locations: Vec<String>,
    pub is_repeatable: bool,
    /// Before the description, and after it.
    pub comments: [Comments; 2],
}

/// The type at the root of a kind of operation.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub operation: String,
    pub of: String,
    pub comments: Comments,
}

/// The definition of a schema, or an extension of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub description: String,
    pub directives: Vec<Directive>,
    pub roots: Vec<Root>,
    /// Before the description, after it, and before the end.
    pub comments: [Comments; 3],
}

/// A document of the type system.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    pub schemas: Vec<Entry>,
    pub schema_extensions: Vec<Entry>,
    pub directives: Vec<DirectiveDefinition>,
    pub definitions: Vec<Definition>,
    pub extensions: Vec<Definition>,
    pub comments: Comments,
}
