//! Executable documents: operations and fragments (`vektah/gqlparser:parser/query.go`).

use super::lexer::Kind;
use super::parser::Parser;
use super::tree::{Field, Fragment, Inline, Operation, QUERY, Query, Selection, Spread, Variable};
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// Values within one another from a selection to one within it.
const SELECTION: usize = 2;

/// Reads an executable document, which may be empty.
pub(super) fn parse(text: &str, call: &mut Call) -> Result<Query, Failure> {
    let (mut parser, mut query) = (Parser::new(text, call), Query::default());
    while !parser.is(Kind::End)? {
        parser.node(0)?;
        let token = parser.peek()?;
        match (token.kind, token.text.as_ref()) {
            (Kind::Name, "query" | "mutation" | "subscription") => {
                query.operations.push(operation(&mut parser)?);
            }
            (Kind::Name, "fragment") => query.fragments.push(fragment(&mut parser)?),
            (Kind::Sign("{"), _) => query.operations.push(shorthand(&mut parser)?),
            _ => return parser.unexpected(),
        }
    }
    Ok(query)
}

/// The library loses the comments of an operation that has neither a kind nor a name.
fn shorthand(parser: &mut Parser<'_, '_>) -> Result<Operation, Failure> {
    Ok(Operation {
        kind: QUERY.into(),
        name: String::new(),
        variables: Vec::new(),
        directives: Vec::new(),
        selections: selections(parser)?,
        comments: Vec::new(),
    })
}

fn operation(parser: &mut Parser<'_, '_>) -> Result<Operation, Failure> {
    let comments = parser.comments()?;
    let kind = parser.name()?;
    let name = if parser.is(Kind::Name)? { parser.name()? } else { String::new() };
    Ok(Operation {
        kind,
        name,
        variables: variables(parser)?,
        directives: parser.directives(false)?,
        selections: selections(parser)?,
        comments,
    })
}

fn variables(parser: &mut Parser<'_, '_>) -> Result<Vec<Variable>, Failure> {
    Ok(parser.some(["(", ")"], variable)?.0)
}

fn variable(parser: &mut Parser<'_, '_>) -> Result<Variable, Failure> {
    let comments = parser.comments()?;
    let name = parser.variable()?;
    parser.expect_sign(":")?;
    let of = Some(parser.type_reference()?);
    let default = if parser.skip_sign("=")? { Some(parser.literal(true)?) } else { None };
    Ok(Variable { name, of, default, directives: parser.directives(false)?, comments, is_used: false })
}

fn selections(parser: &mut Parser<'_, '_>) -> Result<Vec<Selection>, Failure> {
    if !parser.is_sign("{")? {
        return parser.unexpected();
    }
    Ok(parser.within(SELECTION, |parser| parser.some(["{", "}"], selection))?.0)
}

fn selection(parser: &mut Parser<'_, '_>) -> Result<Selection, Failure> {
    if parser.is_sign("...")? { spread(parser) } else { field(parser) }
}

fn field(parser: &mut Parser<'_, '_>) -> Result<Selection, Failure> {
    let comments = parser.comments()?;
    let alias = parser.name()?;
    let name = if parser.skip_sign(":")? { parser.name()? } else { alias.clone() };
    Ok(Selection::Field(Field {
        alias,
        name,
        arguments: parser.arguments(false)?,
        directives: parser.directives(false)?,
        selections: if parser.is_sign("{")? { selections(parser)? } else { Vec::new() },
        comments,
    }))
}

fn spread(parser: &mut Parser<'_, '_>) -> Result<Selection, Failure> {
    let comments = parser.comments()?;
    parser.expect_sign("...")?;
    // A string may stand for the word.
    if parser.is(Kind::Name)? && !parser.is_text("on")? {
        let name = parser.name()?;
        return Ok(Selection::Spread(Spread { name, directives: parser.directives(false)?, comments }));
    }
    let mut condition = String::new();
    if parser.is_text("on")? {
        parser.next()?;
        condition = parser.name()?;
    }
    Ok(Selection::Inline(Inline {
        condition,
        directives: parser.directives(false)?,
        selections: selections(parser)?,
        comments,
    }))
}

fn fragment(parser: &mut Parser<'_, '_>) -> Result<Fragment, Failure> {
    let comments = parser.keyword("fragment")?;
    if parser.is_text("on")? {
        return parser.unexpected();
    }
    let (name, variables) = (parser.name()?, variables(parser)?);
    parser.keyword("on")?;
    Ok(Fragment {
        name,
        variables,
        condition: parser.name()?,
        directives: parser.directives(false)?,
        selections: selections(parser)?,
        comments,
    })
}
