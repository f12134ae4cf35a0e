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
fn query(call: &mut Call, value: &Value) -> Result<Query, Failure> {
    match value {
        Value::String(text) => operations::parse(text, call),
        Value::Object(_) => decode::query(call, value),
        _ => Failure::error("wrong type, expected string or object"),
    }
}

/// A schema, which is a text or a tree.
fn document(call: &mut Call, value: &Value) -> Result<Document, Failure> {
    match value {
        Value::String(text) => definitions::parse(text, call),
        Value::Object(_) => decode::document(call, value),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rego::json;

    const SCHEMA: &str = "type Query {a: Query b(x: [Int]): Int o(x: I): Int} input I {i: I x: Int}";

    type Run = fn(&mut Call, Operands<'_>) -> Outcome;

    fn said(run: Run, operands: &[Value]) -> Outcome {
        run(&mut Call::within(1 << 24), Operands(operands))
    }

    fn of_texts(run: Run, operands: &[&str]) -> Outcome {
        said(run, &operands.iter().map(|text| Value::text(*text)).collect::<Vec<_>>())
    }

    fn tree(text: &str) -> Value {
        json::parse(text).unwrap()
    }

    #[test]
    fn a_tree_has_what_is_false_and_not_what_is_empty() {
        let found = of_texts(parse_query, &["# c\nquery ($v: [T!]) {x: a(y: $v) ...F}"]).unwrap();
        let variable = r#"{"Type":{"Elem":{"NamedType":"T","NonNull":true},"NamedType":"","NonNull":false},"Used":false,"Variable":"v"}"#;
        let argument = r#"{"Name":"y","Value":{"ExpectedTypeHasDefault":false,"Kind":0,"Raw":"v"}}"#;
        let operation = format!(
            r##"{{"Comment":{{"List":[{{"Value":"# c"}}]}},"Name":"","Operation":"query","SelectionSet":[{{"Alias":"x","Arguments":[{argument}],"Name":"a"}},{{"Name":"F"}}],"VariableDefinitions":[{variable}]}}"##
        );
        assert_eq!(found, tree(&format!(r#"{{"Operations":[{operation}]}}"#)));
        assert_eq!(of_texts(parse_query, &[""]), Ok(tree("{}")));
    }

    #[test]
    fn an_error_says_where_it_is() {
        let found = of_texts(parse_schema, &["type A {\r\n  é: Int}"]);
        assert_eq!(
            found,
            Err(Failure::Error("unexpected character in GraphQL string at location 2:3".into()))
        );
        let found = of_texts(parse_query, &["{a"]);
        assert_eq!(found, Err(Failure::Error("unexpected the end in GraphQL string at location 1:3".into())));
    }

    #[test]
    fn what_is_no_document_is_not_valid() {
        let unverified = Value::Array(vec![Value::Bool(false), tree("{}"), tree("{}")]);
        for operands in [
            [Value::int(5), Value::text(SCHEMA)],
            [Value::text("{b}"), Value::Null],
            [tree(r#"{"Operations": 5}"#), Value::text(SCHEMA)],
            [Value::text("{nothing}"), Value::text(SCHEMA)],
        ] {
            assert_eq!(said(is_valid, &operands), Ok(Value::Bool(false)));
            assert_eq!(said(parse_and_verify, &operands), Ok(unverified.clone()));
            assert!(matches!(said(parse, &operands), Err(Failure::Error(_))));
        }
        assert_eq!(said(schema_is_valid, &[Value::Null]), Ok(Value::Bool(false)));
    }

    /// The library does not look at what kind of token such a word is.
    #[test]
    fn a_string_may_stand_for_a_word() {
        assert_eq!(of_texts(parse_query, &["{...\"on\" T {a}}"]), of_texts(parse_query, &["{...on T {a}}"]));
        let schema = of_texts(parse_schema, &["type A \"implements\" B"]);
        assert_eq!(schema, of_texts(parse_schema, &["type A implements B"]));
    }

    #[test]
    fn a_tree_is_read_as_go_reads_it() {
        let exact = r#"{"Operations": [{"Operation": "query", "SelectionSet": [{"Name": "b"}]}]}"#;
        let folded = exact.replace("Operations", "operationſ");
        for query in [exact, &folded] {
            assert_eq!(said(is_valid, &[tree(query), Value::text(SCHEMA)]), Ok(Value::Bool(true)), "{query}");
        }
        let lost = exact.replace("\"Name\"", "\"name\"");
        assert_eq!(said(is_valid, &[tree(&lost), Value::text(SCHEMA)]), Ok(Value::Bool(false)));
    }

    #[test]
    fn documents_by_which_opas_process_ends_end_the_evaluation() {
        for schema in [
            r#"{"Definitions": [{"Name": "A", "Kind": "OBJECT", "Fields": [{"Name": "f"}]}]}"#,
            r#"{"Definitions": [null]}"#,
        ] {
            assert!(matches!(said(schema_is_valid, &[tree(schema)]), Err(Failure::Halt(_))), "{schema}");
        }
        let union = "interface B {f: U} type A implements B {f: X} union U = Missing | X type X {a: Int}";
        assert!(matches!(of_texts(schema_is_valid, &[union]), Err(Failure::Halt(_))));
        let one_of = "directive @oneOf on ENUM enum E @oneOf {A} type Query {a(x: E): Int}";
        assert!(matches!(of_texts(is_valid, &["{a(x: {b: null})}", one_of]), Err(Failure::Halt(_))));
        let directive = tree(
            r#"{"Operations": [{"SelectionSet": [{"Name": "b", "Directives": [{"Name": "deprecated"}]}]}]}"#,
        );
        assert!(matches!(said(is_valid, &[directive, Value::text(SCHEMA)]), Err(Failure::Halt(_))));
    }

    /// What of a tree is not read as Go reads it.
    #[test]
    fn trees_that_are_not_read_here_end_the_evaluation() {
        for query in [
            r#"{"Operations": [], "operations": []}"#,
            r#"{"Operations": [{"SelectionSet": [{"Name": "b", "Definition": {}}]}]}"#,
            r#"{"Operations": [{"SelectionSet": [{"Name": "b", "Arguments": 5}]}]}"#,
            r#"{"Operations": [{"Position": {}}]}"#,
            r#"{"Operations": [{"VariableDefinitions": [{"Type": {"NonNull": true}}]}]}"#,
        ] {
            let found = said(is_valid, &[tree(query), Value::text(SCHEMA)]);
            assert!(matches!(found, Err(Failure::Halt(_))), "{query}");
        }
    }

    #[test]
    fn documents_of_any_depth_end_no_process() {
        let nested = |open: &str, inner: &str, close: &str, depth: usize| {
            open.repeat(depth) + inner + &close.repeat(depth)
        };
        let chain = |length: usize| {
            let inner = |place: usize| format!(" fragment F{place} on Query {{b ...F{}}}", place + 1);
            let inner: String = (0..length).map(inner).collect();
            format!("{{...F0}}{inner} fragment F{length} on Query {{b}}")
        };
        for depth in [10, 60, 70] {
            for query in [
                nested("{a", "{b}", "}", depth),
                format!("{{o(x: {})}}", nested("{i: ", "{x: 1}", "}", depth)),
                chain(depth),
            ] {
                assert_eq!(of_texts(is_valid, &[&query, SCHEMA]), Ok(Value::Bool(true)), "{query}");
            }
        }
        for depth in [110, 130, 5_000] {
            for query in [
                nested("{a", "{b}", "}", depth),
                nested("{x: a {b} x: a", "{b}", "}", depth),
                format!("{{b(x: {})}}", nested("[", "", "]", depth)),
                chain(depth),
            ] {
                let mut call = Call::within(1 << 24);
                call.allow(300_000);
                let found = is_valid(&mut call, Operands(&[Value::text(query), Value::text(SCHEMA)]));
                assert!(matches!(found, Ok(Value::Bool(true)) | Err(Failure::Halt(_))), "{depth}");
            }
        }
        let input = |place: usize| format!("input I{place} {{i: I{}!}} ", place + 1);
        let inputs: String = (0..3_000).map(input).collect();
        let fine = format!("{inputs}input I3000 {{x: Int}}");
        assert_eq!(of_texts(schema_is_valid, &[&fine]), Ok(Value::Bool(true)));
        let circle = format!("{inputs}input I3000 {{x: I7!}}");
        assert_eq!(of_texts(schema_is_valid, &[&circle]), Ok(Value::Bool(false)));
    }

    #[test]
    fn work_that_grows_faster_than_a_document_is_paid_for() {
        let doubled = |place: usize| format!(" fragment F{place} on __Schema {{...F{0} ...F{0}}}", place + 1);
        let doubled: String = (0..40).map(doubled).collect();
        let member = |place: usize| format!("f{place}: Int ");
        let members: String = (0..400).map(member).collect();
        let wide = format!("type Query {{{members}}}");
        for (query, schema) in [
            (format!("{{{}}}", "b ".repeat(1_000)), SCHEMA),
            (format!("{{__schema {{...F0}}}}{doubled} fragment F40 on __Schema {{description}}"), SCHEMA),
            (format!("{{{members}}}", members = members.replace(": Int", "")).repeat(10), wide.as_str()),
        ] {
            let mut call = Call::within(1 << 24);
            call.allow(50_000);
            let found = is_valid(&mut call, Operands(&[Value::text(query), Value::text(schema)]));
            assert!(matches!(found, Err(Failure::Halt(_))) && call.is_exhausted(), "{}", call.taken());
        }
    }

    #[test]
    fn a_long_text_or_number_is_paid_for_where_it_is_used_again() {
        let schema = "type Query {s(x: String, f: Float): Int}";
        let long = "1".repeat(10_000);
        let uses = |name: &str, used: &str| {
            let field = |place: usize| format!("{name}{place}: s({used}) ");
            (0..200).map(field).collect::<String>()
        };
        for query in [
            format!("query ($v: Float = 1.{long}) {{{}}}", uses("x", "f: $v")),
            format!("{{{}}}", format!("s(x: \"{long}\") ").repeat(20)),
        ] {
            let mut call = Call::within(1 << 24);
            call.allow(50_000);
            let found = is_valid(&mut call, Operands(&[Value::text(query), Value::text(schema)]));
            assert!(matches!(found, Err(Failure::Halt(_))) && call.is_exhausted(), "{}", call.taken());
        }
    }

    /// Rules look names up again and again.
    #[test]
    fn a_name_of_any_length_ends_the_evaluation() {
        let named = |length: usize| {
            let name = "n".repeat(length);
            let schema = format!(r#"{{"Definitions": [{{"Kind": "SCALAR", "Name": "{name}"}}]}}"#);
            [Value::text(format!("scalar {name}")), tree(&schema)]
        };
        for schema in named(1024) {
            assert_eq!(said(schema_is_valid, &[schema]), Ok(Value::Bool(true)));
        }
        for schema in named(1025) {
            assert!(matches!(said(schema_is_valid, &[schema]), Err(Failure::Halt(_))));
        }
    }

    /// Fields that are compared, and pairs of fragments that were.
    #[test]
    fn what_the_rules_keep_of_a_query_is_no_more_than_a_module_may_have() {
        let spreads = (0..600).map(|place| format!("...F{place}")).collect::<Vec<_>>().join(" ");
        let fields = (0..2_000).map(|place| format!("x{place}: b")).collect::<Vec<_>>().join(" ");
        let next = |place: usize| format!("fragment F{place} on Query {{b ...F{}}} ", place + 1);
        let chain: String = (0..100).map(next).collect();
        for query in [
            format!("{{{spreads}}}"),
            format!("{{...A ...F0}} fragment A on Query {{{fields}}} {chain} fragment F100 on Query {{b}}"),
        ] {
            let found = |max_bytes: usize| {
                is_valid(&mut Call::within(max_bytes), Operands(&[Value::text(&query), Value::text(SCHEMA)]))
            };
            assert!(matches!(found(1 << 28), Ok(Value::Bool(_))));
            assert!(matches!(found(1 << 24), Err(Failure::Halt(_))));
        }
    }

    #[test]
    fn a_tree_that_is_handed_in_takes_memory_though_its_nodes_are_empty() {
        let nodes = vec!["{}"; 1_000].join(",");
        let schema =
            tree(&format!(r#"{{"Definitions": [{{"Kind": "SCALAR", "Name": "S", "Fields": [{nodes}]}}]}}"#));
        let found = schema_is_valid(&mut Call::within(1 << 17), Operands(&[schema]));
        assert!(matches!(&found, Err(Failure::Halt(reason)) if reason.contains("memory")), "{found:?}");
    }

    #[test]
    fn a_tree_that_is_larger_than_a_module_ends_the_evaluation() {
        let query = format!("{{{}}}", "b ".repeat(1_000));
        let found = parse_query(&mut Call::within(1 << 17), Operands(&[Value::text(query)]));
        assert!(matches!(found, Err(Failure::Halt(_))));
    }
}
