//! `strings.render_template`: Go's `text/template` with its own functions (`open-policy-agent/opa:v1/topdown/template.go`, Go 1.26). What
//! depends on the memory of Go's process, complex numbers and texts that are no UTF-8 end the evaluation.

mod budget;
mod constant;
mod escape;
mod function;
mod functions;
mod letters;
mod parse;
mod run;
mod token;
mod tree;
mod value;

use value::{GoValue, NO_VALUE};

use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// Bytes that a letter takes at most while a template is read: measured on `{{(1)}}`, whose six have tokens, a part, two commands and their
/// lists.
const BYTES_OF_LETTER: usize = 4 * VALUE_BYTES;

pub(super) fn render(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let template = operands.text(0)?;
    operands.object(1)?;
    let data = operands.at(1)?;
    if !value::is_json(call, data)? {
        return Failure::error("operand 2 holds what JSON cannot write");
    }
    call.fits(template.len().saturating_mul(BYTES_OF_LETTER))?;
    let templates = parse::templates(call, template)?;
    let text = run::run(call, &templates, &GoValue::of(data))?;
    Ok(Value::String(text.replace(NO_VALUE, "<undefined>")))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::rego::json;
    use crate::rego::number::Number;

    const DATA: &str = r#"{"a": {"b": [1, "x", null], "c": null}, "n": 1.50, "s": "héllo", "t": true, "l": ["y", {"k": 2}], "e": {}}"#;

    fn said(template: &str) -> Outcome {
        render(&mut Call::within(1 << 20), Operands(&[Value::text(template), json::parse(DATA).unwrap()]))
    }

    /// Each line is what `opa eval` 1.22.2 says.
    #[test]
    fn values_are_printed_and_looked_up_as_in_go() {
        for (template, expected) in [
            (
                "{{.s}} {{.n}} {{.a}} {{.a.c}} {{.no}}",
                "héllo 1.50 map[b:[1 x <nil>] c:<nil>] <undefined> <undefined>",
            ),
            ("{{.no.deep}}|{{(.a.c).x}}|{{print .a.c}}", "<undefined>|<undefined>|<nil>"),
            ("{{range $i, $x := .a.b}}{{$i}}={{$x}};{{end}}", "0=1;1=x;2=<undefined>;"),
            ("{{range 3}}{{.}}{{end}}{{range .e}}{{else}}none{{end}}", "012none"),
            ("{{range .l}}{{range $.a.b}}{{.}}{{break}}{{end}}{{continue}}x{{end}}", "11"),
            ("{{range .l}}[{{range $.e}}{{else}}{{break}}{{end}}]{{end}}", "[][]"),
            ("{{range .l}}[{{range $.e}}{{else}}{{continue}}{{end}}]{{end}}", "[["),
            ("{{if .e}}T{{else if .a.c}}C{{else if .n}}N{{else}}F{{end}}", "N"),
            ("{{$x := 1}}{{if .t}}{{$x = 2}}{{$x := 3}}{{end}}{{$x}}", "2"),
            (
                r#"{{define "t"}}<{{.}}{{.k}}>{{end}}{{template "t" .e}}{{template "t"}}"#,
                "<map[]<undefined>><<undefined><undefined>>",
            ),
            ("a  {{- 1 -}}  b {{- /* c */ -}} d {{/* e */}} f", "a1bd  f"),
            (
                r#"{{index .a "b" 1}} {{index .s 1}} {{len .s}} {{slice .s 3}} {{slice .n 1 3}}"#,
                "x 195 6 llo .5",
            ),
            (
                r#"{{eq .n "1.50"}} {{eq .s "a" .s}} {{eq .a.c .no}} {{lt .n "2"}} {{ge 2 2}}"#,
                "true true true true true",
            ),
            (r#"{{printf "%d|%q|%T|%5v" .n .n .n .n}}"#, r#"%!d(json.Number=1.50)|"1.50"|json.Number| 1.50"#),
            (
                r#"{{printf "%#v %d" .l .l}}"#,
                r#"[]interface {}{"y", map[string]interface {}{"k":"2"}} [%!d(string=y) map[%!d(string=k):%!d(json.Number=2)]]"#,
            ),
            (r#"{{print 1 2 "a" 3}}{{println 1 "a"}}"#, "1 2a31 a\n"),
            (
                r#"{{html "<'&" .no}} {{js "<\\é"}} {{urlquery "a &"}}"#,
                r"&lt;&#39;&amp;&lt;no value&gt; \u003C\\é a+%26",
            ),
            ("{{and .t .s}}|{{or .e .n}}|{{not .e}}", "héllo|1.50|true"),
            (r#"<no value>{{print "<no " "value>"}}"#, "<undefined><undefined>"),
        ] {
            assert_eq!(said(template), Ok(Value::text(expected)), "{template}");
        }
    }

    #[test]
    fn what_go_refuses_is_an_error() {
        for template in [
            "{{",
            "{{}}",
            "{{1 2}}",
            "{{nil}}",
            "{{.s.x}}",
            "{{.a.c.x}}",
            "{{.s 1}}",
            "{{foo}}",
            "{{$x}}",
            "{{$x = 1}}",
            "{{break}}",
            "{{end}}",
            "{{if .t}}",
            "{{range .s}}{{end}}",
            "{{range $i, $x := 3}}{{end}}",
            "{{eq .n 1.50}}",
            "{{eq .l .l}}",
            "{{lt true false}}",
            "{{len 1}}",
            "{{index .a.b 3}}",
            "{{slice .s 9}}",
            "{{call .s}}",
            r#"{{template "no"}}"#,
            r#"{{define "t"}}a{{end}}{{define "t"}}b{{end}}"#,
            "{{089}}",
            "{{9223372036854775808}}",
            r#"{{"\q"}}"#,
            "{{/* a */ }}",
            "{{printf 1}}",
            "{{1 | 2}}",
        ] {
            assert!(matches!(said(template), Err(Failure::Error(_))), "{template}: {:?}", said(template));
        }
    }

    /// OPA hands the operand over as Rego writes it, and reads that as JSON.
    #[test]
    fn an_operand_that_rego_does_not_write_as_json_is_an_error() {
        for value in [
            Value::Set([Value::int(1)].into()),
            Value::Object([(Value::int(1), Value::Null)].into()),
            Value::text("\u{7}"),
            Value::text("\u{e0001}"),
        ] {
            let data = Value::Object([(Value::text("a"), Value::Array(vec![value]))].into());
            let said = render(&mut Call::within(1 << 20), Operands(&[Value::text("x"), data]));
            assert!(matches!(said, Err(Failure::Error(_))), "{said:?}");
        }
    }

    /// Another value than OPA's would be wrong, and so would undefined be.
    #[test]
    fn what_depends_on_the_memory_of_go_or_is_no_text_ends_the_evaluation() {
        for template in [
            r#"{{printf "%p" .l}}"#,
            "{{slice .l 0 3}}",
            "{{slice .s 0 2}}",
            r#"{{"\xff"}}"#,
            "{{1i}}",
            "{{1+2i}}",
            "{{0x1p4}}",
        ] {
            assert!(matches!(said(template), Err(Failure::Halt(_))), "{template}: {:?}", said(template));
        }
    }

    #[test]
    fn templates_without_end_end_the_evaluation() {
        let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100), close.repeat(100));
        for template in [
            r#"{{define "t"}}{{template "t"}}{{end}}{{template "t"}}"#.into(),
            r#"{{template "template"}}"#.into(),
            deep("{{if true}}", "{{end}}"),
            format!("{{{{{}}}}}", deep("(", ")")),
            r#"{{$x := "0123456789abcdef"}}{{range 40}}{{$x = print $x $x}}{{end}}"#.into(),
            r#"{{printf "%999999v%999999v%999999v" 1 1 1}}"#.into(),
            "{{range 1000000}}0123456789abcdef{{end}}".into(),
            "{{1}}".repeat(10_000),
        ] {
            assert!(matches!(said(&template), Err(Failure::Halt(_))), "{template}");
        }
    }

    #[test]
    fn a_template_may_be_as_large_and_as_deep_as_the_documentation_says() {
        let large = |bytes: usize| "x".repeat(bytes);
        let deep = |parts: usize| format!("{}x{}", "{{if true}}".repeat(parts), "{{end}}".repeat(parts));
        for (most, more) in [(large(8 << 10), large((8 << 10) + 1)), (deep(64), deep(65))] {
            assert!(said(&most).is_ok(), "{most:.40}");
            assert!(matches!(said(&more), Err(Failure::Halt(_))), "{more:.40}");
        }
    }

    #[test]
    fn the_work_of_a_template_is_paid_for() {
        let data = Value::Object([(Value::text("s"), Value::text("x".repeat(10_000)))].into());
        let long = "x".repeat(10_000);
        let rounds = |before: &str, value: &str| {
            format!("{before}{{{{range 1000}}}}{{{{if {value}}}}}{{{{end}}}}{{{{end}}}}")
        };
        for template in [
            "{{range 1000000000}}{{end}}".into(),
            rounds("", "eq $.s $.s"),
            rounds("", "index $ $.s"),
            rounds("", &format!("$.{long}")),
            rounds("", &format!("${}", ".x".repeat(1000))),
            rounds(&format!("{{{{$y{long} := 1}}}}"), &format!("$y{long}")),
            r#"{{define "t"}}{{range 1000}}{{range 1000}}{{end}}{{end}}{{end}}{{template "t"}}"#.into(),
        ] {
            let mut call = Call::within(usize::MAX);
            // A round takes less than ten steps beside the texts and names.
            call.allow(50_000);
            let ended = render(&mut call, Operands(&[Value::text(template.as_str()), data.clone()]));
            assert!(
                matches!(ended, Err(Failure::Halt(_))) && call.is_exhausted(),
                "{template:.80}: {ended:?}"
            );
        }
    }

    /// An item of which one letter is written takes as much time as a longer one, and so does a letter that is looked up in a table.
    #[test]
    fn items_and_letters_are_paid_for_though_little_is_written() {
        let items = Value::Array(vec![Value::text(""); 10_000]);
        let data = Value::Object(
            [(Value::text("l"), items), (Value::text("s"), Value::text("😀".repeat(10_000)))].into(),
        );
        for template in ["{{$x := print .l}}", r#"{{$x := printf "%.0s" .l}}"#, "{{$x := js .s}}"] {
            let mut call = Call::within(1 << 24);
            call.allow(u64::MAX);
            let said = render(&mut call, Operands(&[Value::text(template), data.clone()]));
            assert_eq!(said, Ok(Value::text("")), "{template}");
            // The operand is looked through before, letter by letter.
            let most = if template.contains("js") { 30_000 } else { 25_000 };
            assert!((20_000..most).contains(&call.taken()), "{template}: {}", call.taken());
        }
    }

    #[test]
    fn a_small_part_of_a_large_value_takes_little_work() {
        let number = Value::Number(Number::from_text(&"1".repeat(10_000_000)));
        let members = [(Value::text("s"), Value::text("x".repeat(10_000_000))), (Value::text("n"), number)];
        let operands = [
            Value::text(r#"{{range 20000}}{{$x := printf "%.1s%.1x" $.s $.n}}{{if $.n}}{{end}}{{end}}"#),
            Value::Object(members.into()),
        ];
        let began = Instant::now();
        assert_eq!(render(&mut Call::within(64 << 20), Operands(&operands)), Ok(Value::text("")));
        assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    }
}
