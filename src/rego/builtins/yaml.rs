//! `yaml.unmarshal` and `yaml.is_valid`: YAML as OPA reads it through go-yaml (`open-policy-agent/opa:internal/yaml`, 1.22.2, over
//! `go.yaml.in/yaml/v3`, 3.0.5), which follows libyaml in what is a token, and YAML 1.2 in what is a boolean. The library for the gate's own
//! files follows YAML 1.2 in both: it takes other texts, and one that is no YAML for OPA has to be none here. What is rare and not certain
//! ends the evaluation.

mod cursor;
mod decode;
mod distinct;
mod marks;
mod nodes;
mod resolve;
mod scalars;
mod scanner;

use nodes::Document;

use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// Bytes that a letter takes at most while a text is read: a list of letters has a node for every second one.
const BYTES_OF_LETTER: usize = 2 * VALUE_BYTES;

/// The value of the first document; the others have to be YAML too.
fn document(call: &mut Call, text: &str) -> Outcome {
    call.fits(text.len().saturating_mul(BYTES_OF_LETTER))?;
    let mut document = Document::read(call, text)?;
    distinct::distinct(&mut document)?;
    decode::decode(call, &document)
}

pub(super) fn unmarshal(call: &mut Call, operands: Operands<'_>) -> Outcome {
    document(call, operands.text(0)?)
}

pub(super) fn is_valid(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let Value::String(text) = operands.at(0)? else { return Ok(Value::Bool(false)) };
    match document(call, text) {
        Ok(_) => Ok(Value::Bool(true)),
        Err(Failure::Error(_)) => Ok(Value::Bool(false)),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Outcome {
        unmarshal(&mut Call::within(64 << 20), Operands(&[Value::text(text)]))
    }

    fn json(text: &str) -> String {
        read(text).unwrap_or_else(|failure| panic!("{text:?}: {failure:?}")).to_json_text()
    }

    /// What both functions say of each text, as `opa eval` 1.22.2 does.
    fn assert_wrong(texts: &[&str]) {
        for text in texts {
            assert!(matches!(read(text), Err(Failure::Error(_))), "{text:?}: {:?}", read(text));
            let valid = is_valid(&mut Call::within(64 << 20), Operands(&[Value::text(*text)]));
            assert_eq!(valid, Ok(Value::Bool(false)), "{text:?}");
        }
    }

    #[test]
    fn a_word_in_no_quotes_is_what_it_is_in_opa() {
        for (word, value) in [
            ("on", "\"on\""),
            ("yes", "\"yes\""),
            ("TRUE", "true"),
            ("tRUE", "\"tRUE\""),
            ("~", "null"),
            ("", "null"),
            ("0777", "511"),
            ("08", "8"),
            ("0o17", "15"),
            ("-0x1F", "-31"),
            ("0b-1", "-1"),
            ("-0b-1", "\"-0b-1\""),
            ("1_0__0", "100"),
            ("_1", "\"_1\""),
            (".1_0", "0.1"),
            (".1__0", "\".1__0\""),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
            ("1e400", "\"1e400\""),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "18446744073709552000"),
            ("-9223372036854775809", "-9223372036854776000"),
            ("2024-01-01", "\"2024-01-01\""),
            ("190:20:30", "\"190:20:30\""),
            ("!!float 1", "1"),
            ("!!str 1", "\"1\""),
            ("! 1", "1"),
            ("!mine 1", "\"1\""),
            ("!!binary YQ==", "\"a\""),
            ("<<", "\"\\u003c\\u003c\""),
        ] {
            assert_eq!(json(&format!("- {word}")), format!("[{value}]"), "{word}");
        }
        assert_eq!(
            json("1: a\n1.5: b\ntrue: c\n1e6: d\n.inf: e"),
            r#"{".inf":"e","1":"a","1.5":"b","1e+06":"d","true":"c"}"#
        );
    }

    #[test]
    fn texts_are_folded_and_unescaped_as_in_opa() {
        for (text, value) in [
            ("a: |\n b\n  c\n\n d\n", r#"{"a":"b\n c\n\nd\n"}"#),
            ("a: >-\n b\n c\n\n d\n  e\n f\n\n", r#"{"a":"b c\nd\n e\nf"}"#),
            ("a: |2+\n   b\n\n", r#"{"a":" b\n\n"}"#),
            ("|\na\n", ""),
            ("'it''s\n  a\n\n  b'", r#""it's a\nb""#),
            ("\"a\\\n  \\ b\\x41\\u00e9\\t\"", "\"a bA\u{e9}\\t\""),
            ("a\n  b\n\n  c # d", r#""a b\nc""#),
            ("a#b", r#""a#b""#),
            ("'a'#b", r#""a""#),
        ] {
            if value.is_empty() {
                assert_wrong(&[text]);
            } else {
                assert_eq!(json(text), value, "{text:?}");
            }
        }
    }

    #[test]
    fn collections_are_those_of_libyaml() {
        for (text, value) in [
            ("", "null"),
            ("a:\n- b\n- - c\n  - d\n-\n", r#"{"a":["b",["c","d"],null]}"#),
            ("{a:b, \"c\":d, e: , f}", r#"{"a:b":null,"c":"d","e":null,"f":null}"#),
            ("[a: b, ? c : d, e, ]", r#"[{"a":"b"},{"c":"d"},"e"]"#),
            ("? a\n? b\n: c", r#"{"a":null,"b":"c"}"#),
            ("# a\n\t# b\n- c", r#"["c"]"#),
            ("a\u{85}b: c", ""),
            ("%YAML 1.1\n---\na: 1\n...\n---\n- b", r#"{"a":1}"#),
            ("--- a\n--- *x", ""),
            ("--- &x a\n--- *x", r#""a""#),
            ("\u{feff}a: 1\r\nb: 2\r\n", r#"{"a":1,"b":2}"#),
        ] {
            if value.is_empty() {
                assert_wrong(&[text]);
            } else {
                assert_eq!(json(text), value, "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_no_yaml_for_opa_is_an_error_and_not_valid() {
        assert_wrong(&[
            "[1,2,3",
            "foo:\n   - baz: {",
            "  test:\ntest1: hello\n",
            "a: 1\n---\n\tb: 2\n",
            "a: b: c",
            "a\nb: c",
            "-\ta",
            "[a,, b]",
            "a: ]",
            "a: @b",
            "a: \u{7}",
            "'a",
            "\"\\/\"",
            "\"\\ud83d\"",
            "%YAML 1.2\n---\na",
            "%FOO\n---\na",
            "!a!b c",
            "!!int a",
            "!!binary YQ",
            "- .inf",
            "null: a",
            "? [a]\n: b",
            "*a",
            "&a [*a]",
            "<<: 1",
            "'<<': {a: 1}\n<<: {b: 1}",
        ]);
        let key = "k".repeat(1025);
        assert_wrong(&[&format!("{key}: 1"), &format!("{{{key}: 1}}")]);
        assert!(read(&format!("? {key}\n: 1")).is_ok());
        let number = [Value::int(1)];
        assert_eq!(is_valid(&mut Call::default(), Operands(&number)), Ok(Value::Bool(false)));
        assert!(matches!(unmarshal(&mut Call::default(), Operands(&number)), Err(Failure::Error(_))));
    }

    #[test]
    fn the_last_of_equal_keys_counts_and_the_first_of_merged_ones() {
        for (text, value) in [
            ("a: .inf\nb: 9\na: 2", r#"{"a":2,"b":9}"#),
            ("1: a\n'1': b\n0x1: c", r#"{"1":"c"}"#),
            ("x: &k a\na: .inf\n*k : 2", r#"{"a":2,"x":"a"}"#),
            ("<<: {a: 1, b: 2}\nb: 3", r#"{"a":1,"b":3}"#),
            ("<<: [{a: 1}, {a: 2, c: 3}]", r#"{"a":1,"c":3}"#),
            ("<<: {a: 1}\n<<: {a: 2, b: 3}", r#"{"a":1,"b":3}"#),
            ("<<: {<<: {a: 1, b: 2}, b: 3}", r#"{"a":1,"b":3}"#),
            // Merged into keys that are texts, a number stays as it is written, and `null` is left out.
            ("a: 0\n<<: {0x10: b, null: c}", r#"{"0x10":"b","a":0}"#),
        ] {
            assert_eq!(json(text), value, "{text:?}");
        }
    }

    /// Another answer than OPA's, and no more would be undefined or false.
    #[test]
    fn what_is_not_certain_ends_the_evaluation() {
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        for text in [
            "%TAG ! tag:a,2000:\n---\n!b c",
            "!!timestamp 2024-01-01",
            "!!merge <<: {a: 1}",
            "!a%21 b",
            "!!binary //8=",
            "1: a\n<<: {'1': b}",
            ".nan: 1",
            "-0.0: 1",
            "2024-01-01: a\n2024-01-01: b",
            "a: \u{feff}b",
            &deep,
        ] {
            assert!(matches!(read(text), Err(Failure::Halt(_))), "{text:?}: {:?}", read(text));
            let valid = is_valid(&mut Call::within(64 << 20), Operands(&[Value::text(text)]));
            assert!(matches!(valid, Err(Failure::Halt(_))), "{text:?}");
        }
    }

    #[test]
    fn aliases_bring_as_many_values_as_in_opa_and_take_fuel_and_memory() {
        let lists = |items: usize, aliases: usize| {
            format!("a: &a [{}]\nb: [{}]", vec!["x"; items].join(","), vec!["*a"; aliases].join(","))
        };
        assert!(read(&lists(100, 50)).is_ok());
        assert!(matches!(read(&lists(1000, 200)), Err(Failure::Error(_))));
        let text = [Value::text(lists(100, 50))];
        let mut call = Call::within(64 << 20);
        call.allow(3_000);
        assert!(
            matches!(unmarshal(&mut call, Operands(&text)), Err(Failure::Halt(_))) && call.is_exhausted()
        );
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(10_000), vec!["*a"; 20].join(","));
        let mut call = Call::within(1 << 20);
        assert!(unmarshal(&mut call, Operands(&[Value::text(long.as_str())])).is_ok());
        call.max_bytes = 100_000;
        let found = unmarshal(&mut call, Operands(&[Value::text(long)]));
        assert!(matches!(found, Err(Failure::Halt(_))), "{found:?}");
    }

    #[test]
    fn a_long_text_takes_fuel_each_time_that_an_alias_brings_it() {
        let text = format!("a: &a 1.{}\nb: [{}]", "1".repeat(10_000), vec!["*a"; 90].join(","));
        let mut call = Call::within(64 << 20);
        call.allow(20_000);
        let found = unmarshal(&mut call, Operands(&[Value::text(text)]));
        assert!(matches!(found, Err(Failure::Halt(_))) && call.is_exhausted(), "{found:?}");
    }

    #[test]
    fn a_key_of_many_tokens_takes_fuel() {
        let nested = format!("{}a{}", "[".repeat(200), "]: b".repeat(200));
        let mut call = Call::within(64 << 20);
        call.allow(20_000);
        let found = unmarshal(&mut call, Operands(&[Value::text(nested)]));
        assert!(matches!(found, Err(Failure::Halt(_))) && call.is_exhausted(), "{found:?}");
    }
}
