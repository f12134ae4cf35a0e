//! `graphql.*`: documents of GraphQL as the library in OPA reads them and takes them for valid (`vektah/gqlparser`, version 2), and their trees
//! as OPA hands them out (`open-policy-agent/opa:v1/topdown/graphql.go`). Where OPA's process ends by a document, the evaluation ends.

mod context;
mod decode;
mod definitions;
mod encode;
mod fragments;
mod lexer;
mod operations;
mod overlap;
mod parser;
mod prelude;
mod schema;
mod tree;
mod values;
mod walk;

use schema::Schema;
use tree::{Document, Query};

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// A query, which is a text or a tree.
fn query(call: &Call, value: &Value) -> Result<Query, Failure> {
    match value {
        Value::String(text) => operations::parse(text, call),
        Value::Object(_) => decode::query(value),
        _ => Failure::error("wrong type, expected string or object"),
    }
}

/// A schema, which is a text or a tree.
fn document(call: &Call, value: &Value) -> Result<Document, Failure> {
    match value {
        Value::String(text) => definitions::parse(text, call),
        Value::Object(_) => decode::document(value),
        _ => Failure::error("wrong type, expected string or object"),
    }
}

/// Whether something is without an error.
fn is_fine<T>(found: Result<T, Failure>) -> Outcome {
    match found {
        Ok(_) => Ok(Value::Bool(true)),
        Err(Failure::Error(_)) => Ok(Value::Bool(false)),
        Err(other) => Err(other),
    }
}

pub(super) fn parse_query(call: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(encode::query(&operations::parse(operands.text(0)?, call)?))
}

pub(super) fn parse_schema(call: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(encode::document(&definitions::parse(operands.text(0)?, call)?))
}

pub(super) fn schema_is_valid(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let document = document(call, operands.at(0)?);
    is_fine(document.and_then(|document| Schema::of(call, document)))
}

pub(super) fn is_valid(call: &mut Call, operands: Operands<'_>) -> Outcome {
    is_fine(valid(call, operands))
}

/// A query and a schema of which the one is valid by the other one.
fn valid(call: &mut Call, operands: Operands<'_>) -> Result<(), Failure> {
    let query = query(call, operands.at(0)?)?;
    let document = document(call, operands.at(1)?)?;
    let schema = Schema::of(call, document)?;
    walk::check(call, &schema, &query)
}

/// Their trees.
fn trees(call: &mut Call, operands: Operands<'_>) -> Result<[Value; 2], Failure> {
    let query = query(call, operands.at(0)?)?;
    let document = document(call, operands.at(1)?)?;
    let tree = encode::document(&document);
    let schema = Schema::of(call, document)?;
    walk::check(call, &schema, &query)?;
    Ok([encode::query(&query), tree])
}

pub(super) fn parse(call: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::Array(trees(call, operands)?.into()))
}

pub(super) fn parse_and_verify(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (is_valid, [query, schema]) = match trees(call, operands) {
        Ok(trees) => (true, trees),
        Err(Failure::Error(_)) => (false, [Value::Object([].into()), Value::Object([].into())]),
        Err(other) => return Err(other),
    };
    Ok(Value::Array(vec![Value::Bool(is_valid), query, schema]))
}
