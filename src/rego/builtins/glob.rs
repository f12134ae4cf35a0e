//! `glob.match` (`open-policy-agent/opa:v1/topdown/glob.go`, `github.com/gobwas/glob` 1.0): the pattern is written anew as a regular expression.

use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::Regex;

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::expression::{build, push_literal};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// Nesting depth of alternatives.
const MAX_NESTED: usize = 100;
/// What separates the parts of a text where an empty list of delimiters is given.
const USUAL: char = '.';

pub(super) fn matches(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (pattern, delimiters, subject) = (operands.text(0)?, delimiters(operands)?, operands.text(2)?);
    // No pattern of a regular expression begins with an asterisk.
    let name = format!("*{delimiters} {pattern}");
    let expression = call.compiled(&name, || compile(pattern, &delimiters))?;
    Ok(Value::Bool(expression.is_match(subject.as_bytes())))
}

/// What `*` and `?` do not match, one letter each.
fn delimiters(operands: Operands<'_>) -> Result<String, Failure> {
    if *operands.at(1)? == Value::Null {
        return Ok(String::new());
    }
    let mut found = String::new();
    for item in operands.array(1)? {
        let one = match item {
            Value::String(text) => text.chars().next().filter(|one| one.len_utf8() == text.len()),
            _ => None,
        };
        let wrong = || Failure::Error("operand 2 must be array of texts of one letter".into());
        found.push(one.ok_or_else(wrong)?);
    }
    if found.is_empty() {
        found.push(USUAL);
    }
    Ok(found)
}

fn compile(pattern: &str, delimiters: &str) -> Result<Regex, Failure> {
    let mut translator = Translator {
        letters: pattern.chars().peekable(),
        any: any_but(delimiters),
        out: String::new(),
        open: 0,
    };
    translator.run().map_err(|reason| match reason {
        Wrong::Pattern(reason) => Failure::Error(format!("{reason} in the glob {pattern:?}")),
        Wrong::TooDeep => too_large(pattern),
    })?;
    let expression = format!("(?s)\\A(?:{})\\z", translator.out);
    let compiled = build(&expression);
    compiled.map_err(|_| too_large(pattern))
}

/// Undefined would be another answer than OPA's, and an undefined rule admits.
fn too_large(pattern: &str) -> Failure {
    Failure::Halt(format!("the glob {pattern:?} is too large here"))
}

/// One letter that is none of these.
fn any_but(delimiters: &str) -> String {
    if delimiters.is_empty() {
        return ".".into();
    }
    let mut class = String::from("[^");
    delimiters.chars().for_each(|letter| push_literal(&mut class, letter));
    class.push(']');
    class
}

/// Why a pattern is not written anew.
enum Wrong {
    /// OPA does not read it either.
    Pattern(&'static str),
    TooDeep,
}

struct Translator<'a> {
    letters: Peekable<Chars<'a>>,
    /// What matches one letter that is no delimiter.
    any: String,
    out: String,
    /// Alternatives that are open.
    open: usize,
}

impl Translator<'_> {
    /// Goes through the pattern as `gobwas/glob:syntax/lexer.go` does.
    fn run(&mut self) -> Result<(), Wrong> {
        while let Some(letter) = self.letters.next() {
            match letter {
                '{' => {
                    self.open = self.open.saturating_add(1);
                    if self.open > MAX_NESTED {
                        return Err(Wrong::TooDeep);
                    }
                    self.out.push_str("(?:");
                }
                ',' if self.open > 0 => self.out.push('|'),
                '}' if self.open > 0 => {
                    self.open = self.open.saturating_sub(1);
                    self.out.push(')');
                }
                '[' => self.class()?,
                '?' => self.out.push_str(&self.any),
                '*' if self.letters.next_if_eq(&'*').is_some() => self.out.push_str(".*"),
                '*' => {
                    self.out.push_str(&self.any);
                    self.out.push('*');
                }
                '\\' => {
                    let letter =
                        self.letters.next().ok_or(Wrong::Pattern("nothing is escaped at the end"))?;
                    push_literal(&mut self.out, letter);
                }
                other => push_literal(&mut self.out, other),
            }
        }
        if self.open > 0 { Err(Wrong::Pattern("unclosed {")) } else { Ok(()) }
    }

    /// A class, after its opening bracket: one range, or letters.
    fn class(&mut self) -> Result<(), Wrong> {
        const ENDS: Wrong = Wrong::Pattern("unexpected end of a character class");
        self.out.push('[');
        if self.letters.next_if_eq(&'!').is_some() {
            self.out.push('^');
        }
        let first = self.letters.next().ok_or(ENDS)?;
        if self.letters.next_if_eq(&'-').is_some() {
            let last = self.letters.next().ok_or(ENDS)?;
            if last < first || self.letters.next() != Some(']') {
                return Err(ENDS);
            }
            push_literal(&mut self.out, first);
            self.out.push('-');
            push_literal(&mut self.out, last);
            self.out.push(']');
            return Ok(());
        }
        let (mut letter, mut count) = (first, 0_usize);
        while letter != ']' {
            let listed = if letter == '\\' { self.letters.next().ok_or(ENDS)? } else { letter };
            push_literal(&mut self.out, listed);
            count = count.saturating_add(1);
            letter = self.letters.next().ok_or(ENDS)?;
        }
        self.out.push(']');
        if count > 0 { Ok(()) } else { Err(ENDS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &str, delimiters: Value, subject: &str) -> Outcome {
        let operands = [Value::text(pattern), delimiters, Value::text(subject)];
        matches(&mut Call::within(1 << 20), Operands(&operands))
    }

    /// What `opa eval` 1.22.2 says of the same.
    #[test]
    fn a_glob_matches_what_it_matches_in_opa() {
        let of = |letters: &str| Value::texts(letters.chars().map(String::from));
        for (pattern, delimiters, subject, expected) in [
            ("*.com", of(""), "api.com", true),
            ("*.com", of(""), "a.b.com", false),
            ("*.com", Value::Null, "a.b.com", true),
            ("**.com", of(""), "a.b.com", true),
            ("**", of("."), "a\nb", true),
            ("*", of("+-:"), "a,b", true),
            ("dev-*", of("/-:"), "dev-7", true),
            ("dev-*", of("/-:"), "dev-7-8", false),
            ("a$", of("."), "a", false),
            ("a$b", of("."), "a$b", true),
            ("(a|b)", of("."), "(a|b)", true),
            ("^a$", of("."), "^a$", true),
            ("()", of("."), "", false),
            ("[a\\-c]", of("."), "-", true),
            ("[!a]", of("."), ".", true),
            ("{(a),b}", of("."), "(a)", true),
            ("{a,{b,c}}d", of("."), "cd", true),
            ("?at", of("."), "日at", true),
            ("?at", of("."), ".at", false),
        ] {
            assert_eq!(
                matched(pattern, delimiters, subject),
                Ok(Value::Bool(expected)),
                "{pattern} {subject:?}"
            );
        }
        assert!(matches!(matched("*", Value::texts([""]), "ab"), Err(Failure::Error(_))));
    }

    #[test]
    fn a_glob_that_opa_does_not_read_is_an_error_and_one_that_is_not_read_here_ends_the_evaluation() {
        let read = |pattern: &str| compile(pattern, ".").is_ok();
        for pattern in
            ["", "{}", "a}", "a]", "{a,{b,c}}", "[!a]", "[ab-c]", "[{]", "{[}],a}", "a\\{b", "[\\]]", "[]-a]"]
        {
            assert!(read(pattern), "{pattern}");
        }
        for pattern in ["a{", "{a,b", "{{a}", "a\\", "[a", "[]", "[!]", "[a-]", "[z-a]", "[a-bc]"] {
            assert!(matches!(compile(pattern, "."), Err(Failure::Error(_))), "{pattern}");
        }
        for pattern in ["{".repeat(200_000), "[!a]".repeat(200_000)] {
            assert!(matches!(compile(&pattern, "."), Err(Failure::Halt(_))));
        }
    }
}
