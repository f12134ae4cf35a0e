//! `json.match_schema` and `json.verify_schema`: JSON Schema as the validator in OPA reads it, from draft 4 to 7, with its messages
//! (`open-policy-agent/opa:internal/gojsonschema`). The order of messages is random there where they come from the members of an object;
//! here it is that of the names. A schema that names another document, or gives parts of itself a name of their own, ends the evaluation.

mod check;
mod compile;
mod formats;
mod found;
mod members;
mod numeric;
mod part;

use part::Schema;

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::json;
use crate::rego::value::Value;

/// A document or a schema, which a text holds as JSON.
fn document(value: &Value) -> Result<Value, Failure> {
    match value {
        Value::String(text) if !json::is_valid(text)? => Failure::error("invalid JSON string"),
        Value::String(text) => json::parse(text).map_err(|failure| match failure {
            Failure::Error(reason) | Failure::Halt(reason) => Failure::Halt(reason),
            Failure::Undefined => Failure::Undefined,
        }),
        // Sets become arrays, and keys texts.
        Value::Object(_) | Value::Array(_) => json::parse(&value.to_json_text()),
        _ => Failure::error("wrong type, expected string or object"),
    }
}

pub(super) fn matches(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let found = document(operands.at(0)?)?;
    let schema = Schema::compile(call, &document(operands.at(1)?)?)?;
    let mismatches: Vec<Value> =
        check::mismatches(call, &schema, &found)?.into_iter().map(Value::from).collect();
    Ok(Value::Array(vec![Value::Bool(mismatches.is_empty()), Value::Array(mismatches)]))
}

pub(super) fn verify(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let compiled = document(operands.at(0)?).and_then(|document| Schema::compile(call, &document).map(drop));
    match compiled {
        Ok(()) => Ok(Value::Array(vec![Value::Bool(true), Value::Null])),
        Err(Failure::Error(reason)) => {
            Ok(Value::Array(vec![Value::Bool(false), Value::String(format!("jsonschema: {reason}"))]))
        }
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(schema: &str, document: &str) -> Outcome {
        matches(&mut Call::within(1 << 20), Operands(&[Value::text(document), Value::text(schema)]))
    }

    /// Another document would be fetched, and what it says would not follow from the input.
    #[test]
    fn a_reference_to_another_document_ends_the_evaluation() {
        for reference in ["http://127.0.0.1/schema", "file:///etc/passwd", "other.json#/a", "a", ""] {
            let schema = format!(r#"{{"properties": {{"a": {{"$ref": "{reference}"}}}}}}"#);
            assert!(matches!(said(&schema, "{}"), Err(Failure::Halt(_))), "{reference}");
        }
        let named = r#"{"definitions": {"a": {"$id": "b"}}}"#;
        assert!(matches!(said(named, "{}"), Err(Failure::Halt(_))));
    }

    /// OPA's own process ends by that.
    #[test]
    fn schemas_and_documents_without_end_end_the_evaluation() {
        assert!(matches!(said(r##"{"$ref": "#"}"##, "1"), Err(Failure::Halt(_))));
        let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(240), close.repeat(240));
        let list = r##"{"items": {"$ref": "#"}}"##;
        assert!(matches!(said(list, &deep("[", "]")), Err(Failure::Halt(_))));
        let not = format!("{}{{}}{}", r#"{"not": "#.repeat(240), "}".repeat(240));
        assert!(matches!(said(&not, "1"), Err(Failure::Halt(_))));
    }

    #[test]
    fn a_number_of_many_digits_ends_the_evaluation() {
        let schema = r#"{"type": "integer"}"#;
        assert!(said(schema, "1e4000").is_ok());
        for number in ["1e30000".to_string(), "1".repeat(5_000)] {
            assert!(matches!(said(schema, &number), Err(Failure::Halt(_))), "{number}");
        }
    }

    #[test]
    fn the_work_of_a_schema_is_paid_for() {
        let many = format!(r#"{{"allOf": [{}{{}}]}}"#, r#"{"enum": [1, 2]}, "#.repeat(200));
        let items = format!(r#"{{"items": {many}}}"#);
        let document = format!("[{}1]", "1, ".repeat(500));
        let mut call = Call::within(1 << 20);
        call.allow(10_000);
        let ended = matches(&mut call, Operands(&[Value::String(document), Value::String(items)]));
        assert!(matches!(ended, Err(Failure::Halt(_))) && call.is_exhausted());
    }
}
