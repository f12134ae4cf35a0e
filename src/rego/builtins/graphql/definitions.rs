//! Documents of the type system: schemas, types, directives, and their extensions (`vektah/gqlparser:parser/schema.go`).

use super::lexer::Kind;
use super::parser::Parser;
use super::tree::{
    Comments, Definition, DirectiveDefinition, Document, ENUM, Entry, INPUT_OBJECT, INTERFACE, MUTATION,
    OBJECT, Part, QUERY, Root, SCALAR, SUBSCRIPTION, UNION,
};
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// Where a directive may stand.
const LOCATIONS: [&str; 19] = [
    "QUERY",
    "MUTATION",
    "SUBSCRIPTION",
    "FIELD",
    "FRAGMENT_DEFINITION",
    "FRAGMENT_SPREAD",
    "INLINE_FRAGMENT",
    "VARIABLE_DEFINITION",
    "SCHEMA",
    "SCALAR",
    "OBJECT",
    "FIELD_DEFINITION",
    "ARGUMENT_DEFINITION",
    "INTERFACE",
    "UNION",
    "ENUM",
    "ENUM_VALUE",
    "INPUT_OBJECT",
    "INPUT_FIELD_DEFINITION",
];

/// The kinds of types by their words.
const KINDS: [(&str, &str); 6] = [
    ("scalar", SCALAR),
    ("type", OBJECT),
    ("interface", INTERFACE),
    ("union", UNION),
    ("enum", ENUM),
    ("input", INPUT_OBJECT),
];

/// A description, and the comments before it.
#[derive(Default)]
struct Described {
    text: String,
    comments: Comments,
}

/// Reads a document of the type system, which may be empty.
pub(super) fn parse(text: &str, call: &mut Call) -> Result<Document, Failure> {
    let (mut parser, mut document) = (Parser::new(text, call), Document::default());
    while !parser.is(Kind::End)? {
        parser.node(0)?;
        let described = description(&mut parser)?;
        let token = parser.peek()?;
        if token.kind != Kind::Name {
            return parser.unexpected();
        }
        match token.text.as_ref() {
            "schema" => {
                let comments = parser.keyword("schema")?;
                let mut schema = entry(&mut parser)?;
                let [_, _, end] = schema.comments;
                schema.comments = [described.comments, comments, end];
                schema.description = described.text;
                document.schemas.push(schema);
            }
            "directive" => document.directives.push(directive(&mut parser, described)?),
            "extend" if described.text.is_empty() => extension(&mut parser, &mut document)?,
            word => {
                let Some(kind) = kind_of(word) else { return parser.unexpected() };
                document.definitions.push(definition(&mut parser, kind, described)?);
            }
        }
    }
    document.comments = parser.comments()?;
    Ok(document)
}

/// The word of a kind, and the kind.
fn kind_of(word: &str) -> Option<(&'static str, &'static str)> {
    KINDS.into_iter().find(|(name, _)| *name == word)
}

fn description(parser: &mut Parser<'_, '_>) -> Result<Described, Failure> {
    if !matches!(parser.peek()?.kind, Kind::Block | Kind::String) {
        return Ok(Described::default());
    }
    let comments = parser.comments()?;
    Ok(Described { text: parser.next()?.text.into_owned(), comments })
}

/// What follows the word: a schema may have nothing in it.
fn entry(parser: &mut Parser<'_, '_>) -> Result<Entry, Failure> {
    let directives = parser.directives(true)?;
    let (roots, end) = parser.some(["{", "}"], root)?;
    Ok(Entry { directives, roots, comments: [Vec::new(), Vec::new(), end], ..Entry::default() })
}

fn root(parser: &mut Parser<'_, '_>) -> Result<Root, Failure> {
    let comments = parser.comments()?;
    // The library does not look at what kind of token this is.
    let token = parser.peek()?;
    if ![QUERY, MUTATION, SUBSCRIPTION].contains(&token.text.as_ref()) {
        return parser.unexpected();
    }
    let operation = parser.next()?.text.into_owned();
    parser.expect_sign(":")?;
    Ok(Root { operation, of: parser.name()?, comments })
}

fn definition(
    parser: &mut Parser<'_, '_>,
    (word, kind): (&str, &str),
    described: Described,
) -> Result<Definition, Failure> {
    let comments = parser.keyword(word)?;
    let mut definition = body(parser, kind, true)?;
    let [_, _, end] = definition.comments;
    definition.comments = [described.comments, comments, end];
    definition.description = described.text;
    Ok(definition)
}

/// What follows the word of a type.
fn body(parser: &mut Parser<'_, '_>, kind: &str, is_new: bool) -> Result<Definition, Failure> {
    let mut found = Definition { kind: kind.into(), name: parser.name()?, ..Definition::default() };
    // An extension of an interface implements none.
    if kind == OBJECT || (kind == INTERFACE && is_new) {
        found.interfaces = interfaces(parser)?;
    }
    // Where an extension of an input object has variables in its directives, they are taken.
    found.directives = parser.directives(is_new || kind != INPUT_OBJECT)?;
    match kind {
        OBJECT | INTERFACE => (found.fields, found.comments[2]) = parser.some(["{", "}"], field)?,
        INPUT_OBJECT => (found.fields, found.comments[2]) = parser.some(["{", "}"], argument)?,
        ENUM => (found.values, found.comments[2]) = parser.some(["{", "}"], enum_value)?,
        UNION if parser.skip_sign("=")? => found.types = separated(parser, "|", Parser::name)?,
        _ => {}
    }
    Ok(found)
}

/// Items with a sign between them, which may stand before the first one too.
fn separated<'a, 'c, T>(
    parser: &mut Parser<'a, 'c>,
    sign: &'static str,
    item: impl Fn(&mut Parser<'a, 'c>) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    parser.skip_sign(sign)?;
    let mut items = vec![item(parser)?];
    while parser.skip_sign(sign)? {
        parser.node(0)?;
        items.push(item(parser)?);
    }
    Ok(items)
}

fn interfaces(parser: &mut Parser<'_, '_>) -> Result<Vec<String>, Failure> {
    // A string may stand for the word.
    if !parser.is_text("implements")? {
        return Ok(Vec::new());
    }
    parser.next()?;
    separated(parser, "&", Parser::name)
}

/// A part as far as its name. The comments of an empty description are lost.
fn part(parser: &mut Parser<'_, '_>) -> Result<Part, Failure> {
    let mut described = description(parser)?;
    if described.text.is_empty() {
        described = Described::default();
    }
    let comments = [described.comments, parser.comments()?];
    Ok(Part { description: described.text, name: parser.name()?, comments, ..Part::default() })
}

fn field(parser: &mut Parser<'_, '_>) -> Result<Part, Failure> {
    let mut found = part(parser)?;
    found.arguments = parser.some(["(", ")"], argument)?.0;
    parser.expect_sign(":")?;
    found.of = Some(parser.type_reference()?);
    found.directives = parser.directives(true)?;
    Ok(found)
}

fn argument(parser: &mut Parser<'_, '_>) -> Result<Part, Failure> {
    let mut found = part(parser)?;
    parser.expect_sign(":")?;
    found.of = Some(parser.type_reference()?);
    if parser.skip_sign("=")? {
        found.default = Some(parser.literal(true)?);
    }
    found.directives = parser.directives(true)?;
    Ok(found)
}

fn enum_value(parser: &mut Parser<'_, '_>) -> Result<Part, Failure> {
    let found = part(parser)?;
    Ok(Part { directives: parser.directives(true)?, ..found })
}

fn extension(parser: &mut Parser<'_, '_>, document: &mut Document) -> Result<(), Failure> {
    let comments = parser.keyword("extend")?;
    if !parser.is(Kind::Name)? {
        return parser.unexpected();
    }
    if parser.is_text("schema")? {
        parser.next()?;
        let mut found = entry(parser)?;
        if found.directives.is_empty() && found.roots.is_empty() {
            return parser.unexpected();
        }
        let [_, _, end] = found.comments;
        found.comments = [Vec::new(), comments, end];
        document.schema_extensions.push(found);
        return Ok(());
    }
    let Some((_, kind)) = kind_of(&parser.peek()?.text) else { return parser.unexpected() };
    parser.next()?;
    let mut found = body(parser, kind, false)?;
    let adds = [found.interfaces.len(), found.directives.len(), found.fields.len(), found.types.len()];
    if adds == [0; 4] && found.values.is_empty() {
        return parser.unexpected();
    }
    let [_, _, end] = found.comments;
    found.comments = [Vec::new(), comments, end];
    document.extensions.push(found);
    Ok(())
}

fn directive(parser: &mut Parser<'_, '_>, described: Described) -> Result<DirectiveDefinition, Failure> {
    let comments = parser.keyword("directive")?;
    parser.expect_sign("@")?;
    let name = parser.name()?;
    let arguments = parser.some(["(", ")"], argument)?.0;
    let is_repeatable = parser.is(Kind::Name)? && parser.is_text("repeatable")?;
    if is_repeatable {
        parser.next()?;
    }
    parser.keyword("on")?;
    Ok(DirectiveDefinition {
        description: described.text,
        name,
        arguments,
        locations: separated(parser, "|", location)?,
        is_repeatable,
        comments: [described.comments, comments],
    })
}

fn location(parser: &mut Parser<'_, '_>) -> Result<String, Failure> {
    if LOCATIONS.contains(&parser.peek()?.text.as_ref()) { parser.name() } else { parser.unexpected() }
}
