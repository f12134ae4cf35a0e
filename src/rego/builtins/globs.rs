//! `regex.globs_match`: whether a text exists that two patterns of letters, `.`, sets in brackets, `+` and `*` both match
//! (`github.com/yashtewari/glob-intersection`).

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::str::Chars;

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// What one place of a pattern matches, and how often.
struct Token {
    /// Ranges of letters; `None` is any letter.
    letters: Option<Vec<RangeInclusive<char>>>,
    optional: bool,
    repeats: bool,
}

impl Token {
    fn meets(&self, other: &Self) -> bool {
        let (Some(these), Some(those)) = (&self.letters, &other.letters) else { return true };
        these.iter().any(|a| those.iter().any(|b| a.start() <= b.end() && b.start() <= a.end()))
    }
}

type Letters<'a> = Peekable<Chars<'a>>;

fn escaped(letters: &mut Letters<'_>) -> Result<char, Failure> {
    letters.next().ok_or_else(|| Failure::Error("input ends with a \\ (escape) character".into()))
}

fn tokens(pattern: &str) -> Result<Vec<Token>, Failure> {
    let (mut tokens, mut letters) = (Vec::new(), pattern.chars().peekable());
    while let Some(letter) = letters.next() {
        let one = |letter: char| Some(vec![letter..=letter]);
        let matched = match letter {
            '.' => None,
            '[' => Some(set(&mut letters)?),
            ']' | '+' | '*' => return Failure::error(format!("unexpected `{letter}` in {pattern:?}")),
            '\\' => one(escaped(&mut letters)?),
            other => one(other),
        };
        let flag = letters.next_if(|letter| matches!(letter, '+' | '*'));
        tokens.push(Token { letters: matched, optional: flag == Some('*'), repeats: flag.is_some() });
    }
    Ok(tokens)
}

/// The letters of a set, after its opening bracket.
fn set(letters: &mut Letters<'_>) -> Result<Vec<RangeInclusive<char>>, Failure> {
    let (mut found, mut before): (Vec<RangeInclusive<char>>, _) = (Vec::new(), None);
    while let Some(letter) = letters.next() {
        match letter {
            ']' => return Ok(found),
            '-' => {
                let low: char =
                    before.take().ok_or_else(|| Failure::Error("a range begins with nothing".into()))?;
                let high = match letters.next() {
                    Some('\\') => escaped(letters)?,
                    Some(high) if high != ']' && high != '-' => high,
                    _ => return Failure::error("a range ends with nothing"),
                };
                if high < low {
                    return Failure::error("range is out of order");
                }
                found.push(low..=high);
            }
            other => {
                let letter = if other == '\\' { escaped(letters)? } else { other };
                found.push(letter..=letter);
                before = Some(letter);
            }
        }
    }
    Failure::error("found [ without matching ]")
}

pub(super) fn matches(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (one, other) = (tokens(operands.text(0)?)?, tokens(operands.text(1)?)?);
    // Each pair of places is looked at once.
    call.fits(one.len().saturating_add(1).saturating_mul(other.len().saturating_add(1)).saturating_mul(16))?;
    let (mut seen, mut open) = (BTreeSet::from([(0, 0)]), vec![(0, 0)]);
    while let Some((left, right)) = open.pop() {
        let (a, b) = (one.get(left), other.get(right));
        if a.is_none() && b.is_none() {
            return Ok(Value::Bool(true));
        }
        for next in steps(a, b, left, right) {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    Ok(Value::Bool(false))
}

/// The pairs of places that can come next: what may be left out is passed by, and one letter is matched by both.
fn steps(a: Option<&Token>, b: Option<&Token>, left: usize, right: usize) -> Vec<(usize, usize)> {
    let (past_left, past_right) = (left.saturating_add(1), right.saturating_add(1));
    let mut next = Vec::new();
    if a.is_some_and(|token| token.optional) {
        next.push((past_left, right));
    }
    if b.is_some_and(|token| token.optional) {
        next.push((left, past_right));
    }
    if let (Some(a), Some(b)) = (a, b)
        && a.meets(b)
    {
        next.push((past_left, past_right));
        if a.repeats {
            next.push((left, past_right));
        }
        if b.repeats {
            next.push((past_left, right));
        }
        if a.repeats && b.repeats {
            next.push((left, right));
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_meet_where_a_text_matches_both() {
        let meet = |a: &str, b: &str| {
            let mut call = Call::within(1 << 20);
            matches(&mut call, Operands(&[Value::text(a), Value::text(b)]))
                .map(|value| value == Value::Bool(true))
        };
        for (a, b) in [
            ("a.a.", ".b.b"),
            ("[a-z]+", "[0-9]*x"),
            ("a+", "aaa"),
            ("", "a*"),
            ("\\.", "."),
            ("abcd", "[c-z]*a*bcd"),
        ] {
            assert_eq!(meet(a, b), Ok(true), "{a} {b}");
        }
        assert_eq!(meet("a+", "b+"), Ok(false));
        assert_eq!(meet("a+", ""), Ok(false));
        for wrong in ["*", "[a", "]", "[z-a]", "a\\", "[-a]", "a**"] {
            assert!(meet(wrong, "a").is_err(), "{wrong}");
        }
    }
}
