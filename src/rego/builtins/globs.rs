//! `regex.globs_match`: whether a library finds a text that two patterns of letters, `.`, sets in brackets, `+` and `*` both match
//! (`github.com/yashtewari/glob-intersection`).

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
    let meet = trimmed(&one, &other).is_some_and(|(one, other)| intersect(one, other));
    Ok(Value::Bool(meet))
}

/// Without the beginnings and ends where both have one letter after another; nothing where these differ. One place stays on
/// each side.
fn trimmed<'a>(one: &'a [Token], other: &'a [Token]) -> Option<(&'a [Token], &'a [Token])> {
    let plain = |(a, b): &(&Token, &Token)| !a.repeats && !b.repeats;
    let same = |pairs: &[(&Token, &Token)]| pairs.iter().all(|(a, b)| a.meets(b));
    let begins: Vec<_> = one.iter().zip(other).take_while(plain).collect();
    let from = begins.len().saturating_sub(1);
    let (one, other) = (one.get(from..)?, other.get(from..)?);
    let ends: Vec<_> = one.iter().rev().zip(other.iter().rev()).take_while(plain).collect();
    let kept = |pattern: &'a [Token]| {
        pattern.get(..pattern.len().saturating_sub(ends.len().saturating_sub(1))).unwrap_or_default()
    };
    (same(&begins) && same(&ends)).then(|| (kept(one), kept(other)))
}

/// What is known of the rests of both patterns from a pair of places on.
#[derive(Clone, Copy, Default)]
struct Rests {
    /// Whether they meet, by whether the first or the second pattern is asked first what it repeats.
    meet: [bool; 2],
    /// Whether the place of the first or of the second pattern swallows what it can of the other, and the rest meets.
    swallows: [bool; 2],
}

/// Whether the patterns meet as the library finds it, which is not always as it is: it overlooks texts that a repetition would
/// have to leave out, and the empty one. Filled from the ends of both.
fn intersect(one: &[Token], other: &[Token]) -> bool {
    let mut below = Vec::new();
    for left in (0..=one.len()).rev() {
        let mut row = vec![Rests::default(); other.len().saturating_add(1)];
        for right in (0..=other.len()).rev() {
            let at = |row: &[Rests], place: usize| row.get(place).copied().unwrap_or_default();
            let past = right.saturating_add(1);
            let (down, across, both) = (at(&below, right), at(&row, past), at(&below, past));
            let rests = rests([one.get(left..), other.get(right..)], down, across, both);
            if let Some(place) = row.get_mut(right) {
                *place = rests;
            }
        }
        below = row;
    }
    below.first().is_some_and(|rests| rests.meet[0])
}

/// One pair of places, after the pairs where the first pattern is a place further, the second is, and both are.
fn rests(patterns: [Option<&[Token]>; 2], down: Rests, across: Rests, both: Rests) -> Rests {
    let [one, other] = patterns.map(Option::unwrap_or_default);
    let swallows = [
        swallows(one, other.first(), down.meet[0], across.swallows[0]),
        swallows(other, one.first(), across.meet[1], down.swallows[1]),
    ];
    let (Some(a), Some(b)) = (one.first(), other.first()) else {
        return Rests { meet: [one.is_empty() && other.is_empty(); 2], swallows };
    };
    let plus = |token: &Token, swallowed: bool, passed: bool, whole: bool| {
        if token.optional { whole } else { a.meets(b) && (swallowed || passed) }
    };
    let first = plus(a, across.swallows[0], b.repeats && down.meet[0], swallows[0]);
    let second = plus(b, down.swallows[1], a.repeats && across.meet[1], swallows[1]);
    let meet = match (a.repeats, b.repeats) {
        (false, false) => both.meet.map(|meet| meet && a.meets(b)),
        (true, false) => [first; 2],
        (false, true) => [second; 2],
        (true, true) => [first, second],
    };
    Rests { meet, swallows }
}

/// Whether the first place of a pattern swallows places of the other until its own rest meets what is left.
fn swallows(pattern: &[Token], other: Option<&Token>, rest_meets: bool, goes_on: bool) -> bool {
    let [token, rest @ ..] = pattern else { return false };
    let Some(other) = other else { return rest.is_empty() };
    let ends_here = rest_meets && rest.first().is_some_and(|next| next.meets(other));
    ends_here || (token.meets(other) && goes_on)
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
            ("x*[a-z]+", "[a-z]*x"),
            ("a+", "aaa"),
            ("", ""),
            ("a*", "a*"),
            ("\\.", "."),
            ("abcd", "[c-z]*a*bcd"),
        ] {
            assert_eq!(meet(a, b), Ok(true), "{a} {b}");
        }
        assert_eq!(meet("a+", "b+"), Ok(false));
        for (a, b) in [
            ("a+", ""),
            ("a*", "b*"),
            ("", "a*"),
            ("a*b*", "b*c*"),
            ("a+b*", "c*a+"),
            ("ab", "ac"),
            ("a.b", "a.c"),
        ] {
            assert_eq!(meet(a, b), Ok(false), "{a} {b}");
        }
        for wrong in ["*", "[a", "]", "[z-a]", "a\\", "[-a]", "a**"] {
            assert!(meet(wrong, "a").is_err(), "{wrong}");
        }
    }
}
